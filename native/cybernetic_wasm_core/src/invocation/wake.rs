//! How a waiting execution is woken.

use super::Invocation;
use futures_task::ArcWake;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Called once when a waiting execution can go on.
pub type Listener = Box<dyn FnOnce() + Send>;

/// Whether there has been a wake-up, and who is to be told of the next one.
#[derive(Default)]
pub(super) struct WakeUp {
    woken: AtomicBool,
    listener: Mutex<Option<Listener>>,
}

impl Invocation {
    pub(crate) fn before_poll(&self) {
        // To write it in order takes as long as the rest of a poll, and before the first there is nothing to take back.
        if self.woken() {
            self.wake_up.woken.store(false, SeqCst);
        }
    }

    pub(crate) fn woken(&self) -> bool {
        self.wake_up.woken.load(SeqCst)
    }

    /// Arms `listener` for the next wake-up, or says that it has already come. A wake-up sets the flag before it looks
    /// for a listener, and this looks at the flag while it holds the listener's lock: none is missed.
    pub(crate) fn listen(&self, listener: Listener) -> bool {
        let mut slot = self.wake_up.listener.lock();
        if self.woken() {
            return false;
        }
        *slot = Some(listener);
        true
    }

    /// Takes the listener back. False: a wake-up has taken it already.
    pub(crate) fn unlisten(&self) -> bool {
        self.wake_up.listener.lock().take().is_some()
    }
}

impl ArcWake for Invocation {
    fn wake_by_ref(this: &Arc<Self>) {
        this.wake_up.woken.store(true, SeqCst);
        if let Some(listener) = this.wake_up.listener.lock().take() {
            listener();
        }
    }
}
