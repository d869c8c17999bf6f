//! Threads that look for code on a disk, and one that watches them: a disk may not answer, and no load waits for that.

use super::line::Line;
use crate::compiler::cores;
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// A search waits so long for the disk.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Threads that read.
const MOST: usize = 4;

/// What looks for code on a disk.
pub(crate) trait Search: Send + Sync + 'static {
    /// Looks, on a thread that may wait.
    fn find(&self);

    /// Does without, where that takes too long. It may still be under way.
    fn give_up(&self);
}

pub(super) struct Readers {
    readers: Line,
    watch: Line,
    /// When one of them came to an end.
    last: Arc<Mutex<Instant>>,
}

impl Readers {
    pub(super) fn start() -> io::Result<Self> {
        Ok(Self {
            readers: Line::start("wasm-artifacts", cores().min(MOST))?,
            watch: Line::start("wasm-artifacts-watch", 1)?,
            last: Arc::new(Mutex::new(Instant::now())),
        })
    }

    pub(super) fn push(&self, search: &Arc<impl Search>) {
        let (finds, begun, last) = (Arc::clone(search), Arc::new(OnceCell::new()), Arc::clone(&self.last));
        let waiting = Waiting { search: Arc::downgrade(search), pushed: Instant::now(), begun: Arc::clone(&begun) };
        self.readers.push(move || {
            let _ = begun.set(Instant::now());
            finds.find();
            *last.lock() = Instant::now();
        });
        // One that came later is waited for no less than those before it.
        let last = Arc::clone(&self.last);
        self.watch.push(move || waiting.watch(&last));
    }
}

/// A search that is not known to be over.
struct Waiting<S> {
    search: Weak<S>,
    pushed: Instant,
    begun: Arc<OnceCell<Instant>>,
}

impl<S: Search> Waiting<S> {
    fn watch(&self, last: &Mutex<Instant>) {
        while let Some(search) = self.search.upgrade() {
            // Behind others it waits for as long as these are read.
            let since = self.begun.get().copied().unwrap_or_else(|| self.pushed.max(*last.lock()));
            let left = (since + PATIENCE).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return search.give_up();
            }
            drop(search);
            thread::sleep(left);
        }
    }
}
