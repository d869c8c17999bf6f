//! Ending executions from outside.

use super::Invocation;
use futures_task::ArcWake;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Weak};

/// Ends executions from outside: given to one before its first step, it makes the next step fail. Whoever holds it may
/// do that, from any thread, also while a step runs; a waiting execution is woken for it.
#[derive(Debug, Default)]
pub struct Cancel {
    cancelled: AtomicBool,
    invocation: Mutex<Weak<Invocation>>,
}

impl Cancel {
    /// Ends the execution that this was given to, and every one that it will be given to.
    pub fn cancel(&self) {
        self.cancelled.store(true, SeqCst);
        if let Some(invocation) = self.invocation.lock().upgrade() {
            Invocation::wake_by_ref(&invocation);
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    pub(crate) fn attach(&self, invocation: &Arc<Invocation>) {
        *self.invocation.lock() = Arc::downgrade(invocation);
    }
}
