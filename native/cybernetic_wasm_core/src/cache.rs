//! The compiled-module cache: in memory, keyed by the BLAKE3 digest of the bytes and the kind of code, bounded by bytes, least
//! recently used out first. Who asks for a module that is being compiled waits for that compilation.
//!
//! A module dropped here lives on as long as somebody uses it: the cache holds one reference among others.

use crate::code::CodeKey;
use crate::compiler::Budget;
use crate::error::Error;
use crate::module::Module;
use lru::LruCache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// What a compilation under way is found by: who allows less is not to wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FlightKey {
    pub(crate) code: CodeKey,
    pub(crate) budget: Budget,
}

/// What the cache has done so far, and holds now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Modules found.
    pub hits: u64,
    /// Modules compiled.
    pub misses: u64,
    /// Loads that waited for another's compilation.
    pub joined: u64,
    /// Modules dropped for want of room.
    pub evictions: u64,
    /// Modules now.
    pub entries: u64,
    /// Bytes of code and source now.
    pub bytes: u64,
}

pub(crate) struct Cache {
    most_bytes: u64,
    state: Mutex<State>,
}

struct State {
    modules: LruCache<CodeKey, Arc<Module>>,
    flights: HashMap<FlightKey, Arc<Flight>>,
    stats: CacheStats,
}

pub(crate) enum Lookup {
    Hit(Arc<Module>),
    /// Somebody compiles it already.
    Join(Awaited),
    /// The asker must compile it, and land the flight.
    Start(Awaited),
}

impl State {
    fn forget(&mut self, key: FlightKey, flight: &Arc<Flight>) {
        if self.flights.get(&key).is_some_and(|known| Arc::ptr_eq(known, flight)) {
            self.flights.remove(&key);
        }
    }
}

impl Cache {
    pub(crate) fn new(most_bytes: u64) -> Self {
        let state = State { modules: LruCache::unbounded(), flights: HashMap::new(), stats: CacheStats::default() };
        Self { most_bytes, state: Mutex::new(state) }
    }

    pub(crate) fn look_up(&self, key: FlightKey) -> Lookup {
        let mut state = self.state.lock();
        if let Some(module) = state.modules.get(&key.code).cloned() {
            state.stats.hits += 1;
            return Lookup::Hit(module);
        }
        match state.flights.entry(key) {
            Entry::Occupied(flight) => {
                let flight = Awaited::new(flight.get());
                state.stats.joined += 1;
                Lookup::Join(flight)
            }
            Entry::Vacant(place) => {
                let flight = Awaited::new(place.insert(Arc::default()));
                state.stats.misses += 1;
                Lookup::Start(flight)
            }
        }
    }

    /// Ends a compilation: the result goes to all who wait, a module into the cache.
    pub(crate) fn land(&self, key: FlightKey, flight: Arc<Flight>, result: Result<Arc<Module>, Error>) {
        let evicted = {
            let mut state = self.state.lock();
            state.forget(key, &flight);
            match &result {
                // It may be of another kind than was known when the flight began.
                Ok(module) => self.insert(&mut state, module.code().compiled().key, module),
                Err(_) => Vec::new(),
            }
        };
        drop(evicted);
        flight.land(result);
    }

    /// Whether somebody waits for a flight. If not, nobody will any more: who asks now starts another.
    pub(crate) fn is_awaited(&self, key: FlightKey, flight: &Arc<Flight>) -> bool {
        let mut state = self.state.lock();
        let awaited = flight.is_awaited();
        if !awaited {
            state.forget(key, flight);
        }
        awaited
    }

    /// Gives the modules that had to go, to be dropped outside the lock: unmapping code takes time.
    fn insert(&self, state: &mut State, key: CodeKey, module: &Arc<Module>) -> Vec<Arc<Module>> {
        if module.code().size() > self.most_bytes {
            return Vec::new();
        }
        state.stats.bytes += module.code().size();
        let mut out: Vec<_> = state.modules.push(key, Arc::clone(module)).into_iter().map(|(_, old)| old).collect();
        state.stats.bytes -= out.iter().map(|old| old.code().size()).sum::<u64>();
        while state.stats.bytes > self.most_bytes {
            let Some((_, oldest)) = state.modules.pop_lru() else { break };
            state.stats.bytes -= oldest.code().size();
            state.stats.evictions += 1;
            out.push(oldest);
        }
        out
    }

    /// Drops the least recently used module that nobody else holds. False where there is none.
    pub(crate) fn evict_unused(&self) -> bool {
        let mut state = self.state.lock();
        let unused = state.modules.iter().rev().find(|(_, module)| Module::is_unused(module)).map(|(key, _)| *key);
        let Some(module) = unused.and_then(|key| state.modules.pop(&key)) else { return false };
        state.stats.bytes -= module.code().size();
        state.stats.evictions += 1;
        drop(state);
        drop(module);
        true
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let state = self.state.lock();
        CacheStats { entries: state.modules.len() as u64, ..state.stats }
    }

    pub(crate) fn clear(&self) {
        let modules: Vec<_> = {
            let mut state = self.state.lock();
            state.stats.bytes = 0;
            std::iter::from_fn(|| state.modules.pop_lru()).collect()
        };
        drop(modules);
    }
}

/// A compilation under way.
#[derive(Default)]
pub(crate) struct Flight(Mutex<FlightState>);

#[derive(Default)]
struct FlightState {
    result: Option<Result<Arc<Module>, Error>>,
    waiting: Vec<Waker>,
    /// How many wait for it, or are about to.
    awaited: usize,
}

/// A flight that somebody waits for.
pub(crate) struct Awaited(pub(crate) Arc<Flight>);

impl Awaited {
    pub(crate) fn new(flight: &Arc<Flight>) -> Self {
        flight.0.lock().awaited += 1;
        Self(Arc::clone(flight))
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.0.lock().awaited -= 1;
    }
}

impl Flight {
    /// Who is woken finds that the flight holds the module for nobody else: one that is dropped at once is unused.
    pub(crate) fn land(self: Arc<Self>, result: Result<Arc<Module>, Error>) {
        let waiting = {
            let mut state = self.0.lock();
            state.result = Some(result);
            std::mem::take(&mut state.waiting)
        };
        drop(self);
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_awaited(&self) -> bool {
        self.0.lock().awaited > 0
    }

    pub(crate) async fn landed(&self) -> Result<Arc<Module>, Error> {
        std::future::poll_fn(|context| {
            let mut state = self.0.lock();
            if let Some(result) = &state.result {
                return Poll::Ready(result.clone());
            }
            if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                state.waiting.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}
