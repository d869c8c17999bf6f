//! The right to run a guest where only one may run at a time.

use crate::limits::Ceilings;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The right to run a guest where only one may run at a time. It is given back during a host call, so that a host function
/// may call another guest.
pub(crate) struct Turn {
    queue: Option<Arc<Semaphore>>,
    held: Mutex<Option<OwnedSemaphorePermit>>,
    awaited: AtomicBool,
}

impl Turn {
    pub(super) fn new(ceilings: &Ceilings) -> Self {
        Self { queue: ceilings.turn().cloned(), held: Mutex::new(None), awaited: AtomicBool::new(false) }
    }

    pub(crate) async fn take(&self) {
        if let Some(queue) = &self.queue {
            self.awaited.store(true, Relaxed);
            // The semaphore is never closed.
            let permit = Arc::clone(queue).acquire_owned().await.ok();
            self.awaited.store(false, Relaxed);
            *self.held.lock() = permit;
        }
    }

    /// Whether others have it just now, and the call waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Relaxed)
    }

    pub(crate) fn give_back(&self) {
        if self.queue.is_some() {
            self.held.lock().take();
        }
    }
}
