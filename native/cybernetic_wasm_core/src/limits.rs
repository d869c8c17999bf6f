//! Ceilings: what one call may use ([`Limits`]) and what all guests of a node may use together ([`Ceilings`]).
//!
//! A guest's own use is counted by the store's limiter (`store.rs`); fuel, time, host calls and output belong to the
//! invocation (`invocation.rs`). This file owns the numbers and the node-wide counters.

use crate::error::{Limit, LimitError, most_mappings};
use crate::lane::{Crowd, Presence};
use parking_lot::Mutex;
use quanta::Instant;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one call may use. There is no unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Fuel; ignored by an engine that meters by epochs.
    pub fuel: u64,
    /// Bytes of all memories, tables and GC heaps together.
    pub max_memory: u64,
    /// Elements of all tables together.
    pub max_table_elements: u64,
    /// Instances in one store.
    pub max_instances: u64,
    /// Wall-clock time of the call, host functions and waiting included.
    pub time: Duration,
    /// Bytes of output.
    pub max_output: u64,
    /// Calls of host functions.
    pub max_host_calls: u64,
    /// Bytes of values that a component passes to the host at once, as the host holds them.
    pub max_transfer: u64,
    /// Handles on resources that a component, and the embedder on the component's, may have at once.
    pub max_resources: u64,
    /// How long a call may queue for a place among the live guests; zero refuses at once.
    pub wait: Duration,
}

/// What all guests of a node may use together.
#[derive(Debug)]
pub struct Ceilings {
    places: Arc<Places>,
    memory: Counter,
    code: Counter,
    files: Counter,
    turn: Arc<Semaphore>,
    parallel: AtomicBool,
    /// Stacks that are mapped for re-entrant calls.
    stacks: Arc<Semaphore>,
    crowd: Arc<Crowd>,
}

/// The numbers behind [`Ceilings`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLimits {
    /// Live guests.
    pub max_live_instances: u64,
    /// Bytes of memory of all guests.
    pub max_total_memory: u64,
    /// Bytes of compiled code.
    pub max_code_memory: u64,
    /// Files and directories that guests have open.
    pub max_open_files: u64,
    /// False: one guest at a time.
    pub parallel_execution: bool,
    /// Dirty schedulers, which guests share.
    pub dirty_schedulers: u64,
}

/// The largest default for live guests, reached where the kernel's limit on mappings allows it.
const MOST_LIVE: u64 = 10_000;

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            max_live_instances: default_live(),
            max_total_memory: 8 << 30,
            max_code_memory: 1 << 30,
            max_open_files: default_files(),
            parallel_execution: true,
            dirty_schedulers: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
        }
    }
}

/// A live guest takes up to five memory mappings, and past the kernel's limit `mmap` fails for the whole VM: it and the
/// pools keep these for themselves.
const OTHER_MAPPINGS: u64 = 15_000;

/// Stacks that may be mapped for re-entrant calls of guests outside of the pools, two mappings each.
const REENTRANCE_STACKS: usize = 2_500;

fn default_live() -> u64 {
    (most_mappings().saturating_sub(OTHER_MAPPINGS) / 5).clamp(16, MOST_LIVE)
}

/// Half of what the process may open: past its limit the VM could accept no connection and open no file of its own.
fn default_files() -> u64 {
    const MOST_FILES: u64 = 100_000;
    let read = std::fs::read_to_string("/proc/self/limits").ok();
    let line = read.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("Max open files")));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(1_024_u64);
    (soft / 2).clamp(16, MOST_FILES)
}

impl Ceilings {
    /// Ceilings with nothing used.
    pub fn new(limits: &NodeLimits) -> Self {
        Self {
            places: Arc::new(Places::new(limits.max_live_instances)),
            memory: Counter::new(Limit::TotalMemory, limits.max_total_memory),
            code: Counter::new(Limit::CodeMemory, limits.max_code_memory),
            files: Counter::new(Limit::OpenFiles, limits.max_open_files),
            turn: Arc::new(Semaphore::new(1)),
            parallel: AtomicBool::new(limits.parallel_execution),
            stacks: Arc::new(Semaphore::new(REENTRANCE_STACKS)),
            crowd: Arc::new(Crowd::new(limits.dirty_schedulers)),
        }
    }

    /// Other numbers, for what comes from now on: what is used stays, and is counted on.
    pub fn adjust(&self, limits: &NodeLimits) {
        self.places.adjust(limits.max_live_instances);
        self.memory.allowed.store(limits.max_total_memory, Relaxed);
        self.code.allowed.store(limits.max_code_memory, Relaxed);
        self.files.allowed.store(limits.max_open_files, Relaxed);
        self.parallel.store(limits.parallel_execution, Relaxed);
        self.crowd.adjust(limits.dirty_schedulers);
    }

    /// The numbers in force.
    pub fn limits(&self) -> NodeLimits {
        NodeLimits {
            max_live_instances: self.places.allowed(),
            max_total_memory: self.memory.allowed(),
            max_code_memory: self.code.allowed(),
            max_open_files: self.files.allowed(),
            parallel_execution: self.parallel.load(Relaxed),
            dirty_schedulers: self.crowd.schedulers(),
        }
    }

    /// Live guests now.
    pub fn live(&self) -> u64 {
        self.places.taken()
    }

    /// Bytes of memory of all guests now.
    pub fn memory(&self) -> u64 {
        self.memory.used()
    }

    /// Bytes of compiled code now.
    pub fn code(&self) -> u64 {
        self.code.used()
    }

    /// Executions that run on dirty schedulers or have spent a slice and want the next, and calls that are on their way.
    pub fn crowd(&self) -> u64 {
        self.crowd.count(Instant::now())
    }

    /// A call is sent to a dirty scheduler: where all are taken, those who have them make way sooner.
    pub fn expect(&self) {
        self.crowd.expect();
    }

    /// It is there.
    pub fn arrive(&self) {
        self.crowd.arrive();
    }

    /// Counts one more who wants a dirty scheduler.
    pub(crate) fn join(&self) -> Presence {
        self.crowd.join()
    }

    /// A place that counts as `weight` guests, if there is room now.
    pub(crate) fn try_place(&self, weight: u32) -> Result<Place, LimitError> {
        self.places.try_take(weight).ok_or_else(|| self.full())
    }

    /// Room for the stack of a re-entrant call that is no pool's.
    pub(crate) fn try_stack(&self) -> Result<OwnedSemaphorePermit, LimitError> {
        let full = |_| LimitError::new(Limit::Mappings, most_mappings(), most_mappings());
        Arc::clone(&self.stacks).try_acquire_owned().map_err(full)
    }

    pub(crate) async fn place(&self, weight: u32) -> Result<Place, LimitError> {
        self.places.take(weight).await.ok_or_else(|| self.full())
    }

    pub(crate) fn could_hold(&self, weight: u32) -> bool {
        u64::from(weight) <= self.places.allowed()
    }

    pub(crate) fn full(&self) -> LimitError {
        let allowed = self.places.allowed();
        LimitError::new(Limit::LiveInstances, allowed, allowed.saturating_add(1))
    }

    pub(crate) fn memory_counter(&self) -> &Counter {
        &self.memory
    }

    pub(crate) fn code_counter(&self) -> &Counter {
        &self.code
    }

    pub(crate) fn files_counter(&self) -> &Counter {
        &self.files
    }

    /// Files and directories that guests have open now.
    pub fn files(&self) -> u64 {
        self.files.used()
    }

    /// Where guests queue for their turn, if only one may run at a time.
    pub(crate) fn turn(&self) -> Option<&Arc<Semaphore>> {
        (!self.parallel.load(Relaxed)).then_some(&self.turn)
    }
}

/// The places of live guests.
#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    /// How many there are, taken or free. While more are taken than are allowed any more, those that come back are done away
    /// with.
    issued: AtomicU64,
    allowed: AtomicU64,
    adjusting: Mutex<()>,
}

impl Places {
    fn new(allowed: u64) -> Self {
        let allowed = Self::within(allowed);
        Self {
            free: Arc::new(Semaphore::new(allowed as usize)),
            issued: AtomicU64::new(allowed),
            allowed: AtomicU64::new(allowed),
            adjusting: Mutex::new(()),
        }
    }

    fn within(allowed: u64) -> u64 {
        allowed.min(Semaphore::MAX_PERMITS as u64)
    }

    fn allowed(&self) -> u64 {
        self.allowed.load(SeqCst)
    }

    fn taken(&self) -> u64 {
        self.issued.load(SeqCst).saturating_sub(self.free.available_permits() as u64)
    }

    fn surplus(&self) -> u64 {
        self.issued.load(SeqCst).saturating_sub(self.allowed())
    }

    fn adjust(&self, allowed: u64) {
        let _adjusting = self.adjusting.lock();
        self.allowed.store(Self::within(allowed), SeqCst);
        let more = self.allowed().saturating_sub(self.issued.load(SeqCst));
        self.issued.fetch_add(more, SeqCst);
        self.free.add_permits(more as usize);
        self.trim();
    }

    /// Does away with free places that are too many.
    fn trim(&self) {
        let gone = self.free.forget_permits(self.surplus() as usize);
        self.issued.fetch_sub(gone as u64, SeqCst);
    }

    fn try_take(self: &Arc<Self>, weight: u32) -> Option<Place> {
        Arc::clone(&self.free).try_acquire_many_owned(weight).ok().map(|permit| self.place(permit))
    }

    /// The semaphore is never closed.
    async fn take(self: &Arc<Self>, weight: u32) -> Option<Place> {
        Arc::clone(&self.free).acquire_many_owned(weight).await.ok().map(|permit| self.place(permit))
    }

    fn place(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        Place { permit: Some(permit), places: Arc::clone(self) }
    }

    fn take_back(&self, mut permit: OwnedSemaphorePermit) {
        if self.surplus() > 0 {
            let _adjusting = self.adjusting.lock();
            let gone = self.surplus().min(permit.num_permits() as u64);
            if let Some(part) = permit.split(gone as usize) {
                part.forget();
                self.issued.fetch_sub(gone, SeqCst);
            }
        }
        drop(permit);
        // Fewer may have been allowed just now, by one who could not see this one.
        if self.surplus() > 0 {
            let _adjusting = self.adjusting.lock();
            self.trim();
        }
    }
}

/// Room for a guest among the live ones, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.places.take_back(permit);
        }
    }
}

/// Memory that something takes beside the guests' own, counted among theirs until this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    ceilings: Arc<Ceilings>,
    bytes: u64,
}

impl Reserved {
    /// Nothing yet.
    pub(crate) fn nothing(ceilings: &Arc<Ceilings>) -> Self {
        Self { ceilings: Arc::clone(ceilings), bytes: 0 }
    }

    /// So many bytes for something else.
    pub(crate) fn beside(&self, bytes: u64) -> Result<Self, LimitError> {
        let mut other = Self::nothing(&self.ceilings);
        other.add(bytes)?;
        Ok(other)
    }

    /// So many more, if the node has room for them.
    pub(crate) fn add(&mut self, bytes: u64) -> Result<(), LimitError> {
        self.ceilings.memory.reserve(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.ceilings.memory.release(self.bytes);
    }
}

/// A node-wide sum with a ceiling.
#[derive(Debug)]
pub(crate) struct Counter {
    limit: Limit,
    allowed: AtomicU64,
    used: AtomicU64,
}

impl Counter {
    fn new(limit: Limit, allowed: u64) -> Self {
        Self { limit, allowed: AtomicU64::new(allowed), used: AtomicU64::new(0) }
    }

    fn allowed(&self) -> u64 {
        self.allowed.load(Relaxed)
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub(crate) fn reserve(&self, amount: u64) -> Result<(), LimitError> {
        let allowed = self.allowed();
        let within = |used: u64| used.checked_add(amount).filter(|sum| *sum <= allowed);
        match self.used.fetch_update(Relaxed, Relaxed, within) {
            Ok(_) => Ok(()),
            Err(used) => Err(LimitError::new(self.limit, allowed, used.saturating_add(amount))),
        }
    }

    pub(crate) fn release(&self, amount: u64) {
        self.used.fetch_sub(amount, Relaxed);
    }
}
