//! The right to run a guest where only one may run at a time.

use crate::limits::Ceilings;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The right to run a guest where only one may run at a time. It is given back during a host call, so that a host function
/// may call another guest.
pub(crate) struct Turn {
    queue: Option<Arc<Semaphore>>,
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Turn {
    pub(super) fn new(ceilings: &Ceilings) -> Self {
        Self { queue: ceilings.turn().cloned(), held: Mutex::new(None) }
    }

    pub(crate) async fn take(&self) {
        if let Some(queue) = &self.queue {
            // The semaphore is never closed.
            let permit = Arc::clone(queue).acquire_owned().await.ok();
            *self.held.lock() = permit;
        }
    }

    pub(crate) fn give_back(&self) {
        if self.queue.is_some() {
            self.held.lock().take();
        }
    }
}
