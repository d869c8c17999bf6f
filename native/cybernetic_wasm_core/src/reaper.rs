//! A thread that drops what takes time to drop: a suspended guest is unwound and its memory unmapped, code is unmapped.
//! Resource destructors and time-outs run on the BEAM's schedulers, so they only send here.

use crossbeam::channel::Sender;
use once_cell::sync::OnceCell;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

static REAPER: OnceCell<Sender<Box<dyn Any + Send>>> = OnceCell::new();

/// Drops `remains` on the reaper's thread.
pub fn reap(remains: impl Any + Send) {
    // Without a thread the channel's other end is gone, and the remains are dropped here: slower, but nothing leaks.
    if let Ok(reaper) = REAPER.get_or_try_init(start) {
        let _ = reaper.send(Box::new(remains));
    }
}

fn start() -> std::io::Result<Sender<Box<dyn Any + Send>>> {
    let (sender, remains) = crossbeam::channel::unbounded::<Box<dyn Any + Send>>();
    let thread = std::thread::Builder::new().name("wasm-reaper".into());
    thread.spawn(move || {
        for remain in remains.iter() {
            // A panic in a destructor must not end the thread.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(remain)));
        }
    })?;
    Ok(sender)
}
