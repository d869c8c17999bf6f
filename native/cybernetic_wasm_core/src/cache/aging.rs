//! Modules that nobody has loaded for long leave the cache. A thread sees to that, which is there only while a module is, and
//! wakes when one is to go.

use super::{Cache, Shared, State};
use crate::module::Module;
use parking_lot::MutexGuard;
use std::sync::Arc;
use std::time::Instant;

impl State {
    /// When the next module is to go, unless somebody loads it; `None`: never.
    fn next_end(&self) -> Option<Instant> {
        let (_, oldest) = self.modules.peek_lru()?;
        self.most_time.and_then(|time| oldest.loaded.checked_add(time)).filter(|_| !self.closed)
    }

    /// Takes out the next module whose time is up.
    fn expire(&mut self) -> Option<Arc<Module>> {
        self.next_end().filter(|end| *end <= Instant::now())?;
        self.stats.expired += 1;
        self.pop()
    }
}

impl Shared {
    fn age(&self) {
        let mut state = self.state.lock();
        while let Some(end) = state.next_end() {
            match state.expire() {
                Some(module) => MutexGuard::unlocked(&mut state, || drop(module)),
                None => drop(self.changed.wait_until(&mut state, end)),
            }
        }
        state.is_aging = false;
    }
}

impl Cache {
    /// Has a thread see to what is in the cache.
    pub(super) fn age(&self, state: &mut State) {
        if !state.is_aging && state.next_end().is_some() {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("wasm-cache".into()).spawn(move || shared.age());
            // Without one it is tried again with the next module.
            state.is_aging = thread.is_ok();
        }
    }
}

/// The thread ends with the cache.
impl Drop for Cache {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_all();
    }
}
