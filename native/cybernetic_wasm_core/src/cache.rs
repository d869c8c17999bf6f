//! The compiled-module cache: in memory, keyed by the BLAKE3 digest of the bytes and the kind of code, bounded by bytes, least
//! recently used out first. One that nobody has loaded for long goes as well (`cache/aging.rs`). Who asks for a module that is
//! being compiled waits for that compilation.
//!
//! A module dropped here lives on as long as somebody uses it: the cache holds one reference among others. As long as it
//! lives it is found again, also one that is larger than the cache.

mod aging;

use crate::code::CodeKey;
use crate::compiler::Budget;
use crate::error::Error;
use crate::module::Module;
use lru::LruCache;
use parking_lot::{Condvar, Mutex};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

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
    /// Modules that were not there.
    pub misses: u64,
    /// Loads that waited for another's compilation.
    pub joined: u64,
    /// Modules dropped for want of room.
    pub evictions: u64,
    /// Modules dropped because nobody had loaded them for long.
    pub expired: u64,
    /// Modules that were not there and are larger than all the cache.
    pub too_large: u64,
    /// Modules now.
    pub entries: u64,
    /// Bytes of code and source now.
    pub bytes: u64,
}

pub(crate) struct Cache {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Told when modules are to go at another time than was thought.
    changed: Condvar,
}

struct State {
    most_bytes: u64,
    /// A module that nobody has loaded for so long goes.
    most_time: Option<Duration>,
    /// A thread sees to that.
    is_aging: bool,
    closed: bool,
    modules: LruCache<CodeKey, Kept>,
    /// All that came in since the cache was cleared and may still be alive.
    known: HashMap<CodeKey, Weak<Module>>,
    /// The dead among them are looked for when they are so many.
    sweep_at: usize,
    /// The modules that are too large, as far as an operator was told.
    told: HashSet<[u8; 32]>,
    flights: HashMap<FlightKey, Arc<Flight>>,
    stats: CacheStats,
}

struct Kept {
    module: Arc<Module>,
    /// When it was loaded last.
    loaded: Instant,
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

    /// A module that is alive, and modules that had to go for it.
    fn find(&mut self, key: &CodeKey) -> Option<(Arc<Module>, Vec<Arc<Module>>)> {
        if let Some(kept) = self.modules.get_mut(key) {
            kept.loaded = Instant::now();
            return Some((Arc::clone(&kept.module), Vec::new()));
        }
        let module = self.known.get(key)?.upgrade()?;
        let out = self.insert(*key, &module);
        Some((module, out))
    }

    fn know(&mut self, key: CodeKey, module: &Arc<Module>) {
        if self.known.len() >= self.sweep_at {
            self.known.retain(|_, module| module.strong_count() > 0);
            self.sweep_at = 2 * self.known.len() + FEW;
        }
        self.known.insert(key, Arc::downgrade(module));
    }

    /// Gives the modules that had to go, to be dropped outside the lock: unmapping code takes time.
    fn insert(&mut self, key: CodeKey, module: &Arc<Module>) -> Vec<Arc<Module>> {
        let size = module.code().size();
        if size > self.most_bytes {
            return Vec::new();
        }
        self.stats.bytes += size;
        let kept = Kept { module: Arc::clone(module), loaded: Instant::now() };
        let mut out: Vec<_> = self.modules.push(key, kept).into_iter().map(|(_, old)| old.module).collect();
        self.stats.bytes -= out.iter().map(|old| old.code().size()).sum::<u64>();
        out.extend(self.shrink());
        out
    }

    /// Takes out the one that was loaded longest ago.
    fn pop(&mut self) -> Option<Arc<Module>> {
        let (_, Kept { module, .. }) = self.modules.pop_lru()?;
        self.stats.bytes -= module.code().size();
        Some(module)
    }

    /// Takes out what is too much.
    fn shrink(&mut self) -> Vec<Arc<Module>> {
        let mut out = Vec::new();
        while self.stats.bytes > self.most_bytes {
            let Some(oldest) = self.pop() else { break };
            self.stats.evictions += 1;
            out.push(oldest);
        }
        out
    }
}

/// So many dead modules do no harm.
const FEW: usize = 64;

/// An operator is told of so many modules that are too large.
const MOST_TOLD: usize = 1_000;

impl Cache {
    pub(crate) fn new(most_bytes: u64, most_time: Option<Duration>) -> Self {
        let state = State {
            most_bytes,
            most_time,
            is_aging: false,
            closed: false,
            modules: LruCache::unbounded(),
            known: HashMap::new(),
            sweep_at: FEW,
            told: HashSet::new(),
            flights: HashMap::new(),
            stats: CacheStats::default(),
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() }) }
    }

    /// Whether anything is cached at all.
    pub(crate) fn is_on(&self) -> bool {
        self.shared.state.lock().most_bytes > 0
    }

    /// Another size and time. What no longer fits goes.
    pub(crate) fn adjust(&self, most_bytes: u64, most_time: Option<Duration>) {
        let out = {
            let mut state = self.shared.state.lock();
            (state.most_bytes, state.most_time) = (most_bytes, most_time);
            self.age(&mut state);
            state.shrink()
        };
        self.shared.changed.notify_all();
        drop(out);
    }

    pub(crate) fn look_up(&self, key: FlightKey) -> Lookup {
        // Dropped after the lock is given back.
        let _out;
        let mut state = self.shared.state.lock();
        if let Some((module, out)) = state.find(&key.code) {
            state.stats.hits += 1;
            self.age(&mut state);
            _out = out;
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
            let mut state = self.shared.state.lock();
            state.forget(key, &flight);
            let evicted = match &result {
                // It may be of another kind than was known when the flight began.
                Ok(module) => {
                    let key = module.code().compiled().key;
                    state.know(key, module);
                    state.insert(key, module)
                }
                Err(_) => Vec::new(),
            };
            self.age(&mut state);
            evicted
        };
        drop(evicted);
        flight.land(result);
    }

    /// Whether somebody waits for a flight. If not, nobody will any more: who asks now starts another.
    pub(crate) fn is_awaited(&self, key: FlightKey, flight: &Arc<Flight>) -> bool {
        let mut state = self.shared.state.lock();
        let awaited = flight.is_awaited();
        if !awaited {
            state.forget(key, flight);
        }
        awaited
    }

    /// Counts a module that is larger than the cache. Where an operator has not been told of it, that cache's size.
    pub(crate) fn note_too_large(&self, module: &Module) -> Option<u64> {
        let mut state = self.shared.state.lock();
        if module.code().size() <= state.most_bytes {
            return None;
        }
        state.stats.too_large += 1;
        let news = state.told.len() < MOST_TOLD && state.told.insert(*module.code().digest());
        news.then_some(state.most_bytes)
    }

    /// Drops the least recently used module that nobody else holds. False where there is none.
    pub(crate) fn evict_unused(&self) -> bool {
        let mut state = self.shared.state.lock();
        let unused = state.modules.iter().rev().find(|(_, kept)| Module::is_unused(&kept.module)).map(|(key, _)| *key);
        let Some(kept) = unused.and_then(|key| state.modules.pop(&key)) else { return false };
        state.stats.bytes -= kept.module.code().size();
        state.stats.evictions += 1;
        drop(state);
        drop(kept);
        true
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let state = self.shared.state.lock();
        CacheStats { entries: state.modules.len() as u64, ..state.stats }
    }

    pub(crate) fn clear(&self) {
        let modules: Vec<_> = {
            let mut state = self.shared.state.lock();
            state.stats.bytes = 0;
            state.known.clear();
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
