//! Threads for work that waits for disks: no scheduler waits for one.

use crossbeam::channel::{Sender, unbounded};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

type Work = Box<dyn FnOnce() + Send>;

/// Takes work, and does it in order. The threads end with this.
pub(super) struct Line(Sender<Work>);

impl Line {
    pub(super) fn start(name: &str, threads: usize) -> io::Result<Self> {
        let (sender, works) = unbounded::<Work>();
        let started = (0..threads).map(|_| {
            let works = works.clone();
            std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                for work in works.iter() {
                    // Whoever waits for what is lost in a panic is told when it is dropped.
                    let _ = catch_unwind(AssertUnwindSafe(work));
                }
            })
        });
        let started: Vec<_> = started.collect();
        // Fewer are enough.
        match started.iter().any(Result::is_ok) {
            true => Ok(Self(sender)),
            false => Err(io::Error::other("the system gives no threads")),
        }
    }

    pub(super) fn push(&self, work: impl FnOnce() + Send + 'static) {
        // It is only lost where all threads are: see above.
        let _ = self.0.send(Box::new(work));
    }

    /// The same where fewer than `most` wait.
    pub(super) fn try_push(&self, most: usize, work: impl FnOnce() + Send + 'static) -> bool {
        let has_room = self.0.len() < most;
        if has_room {
            self.push(work);
        }
        has_room
    }
}
