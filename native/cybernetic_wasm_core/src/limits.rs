//! Ceilings: what one call may use ([`Limits`]) and what all guests of a node may use together ([`Ceilings`]).
//!
//! A guest's own use is counted by the store's limiter (`store.rs`); fuel, time, host calls and output belong to the
//! invocation (`invocation.rs`). This file owns the numbers and the node-wide counters.

use crate::error::{Limit, LimitError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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
    /// How long a call may queue for a place among the live guests; zero refuses at once.
    pub wait: Duration,
}

/// Room for a guest among the live ones, given back when dropped.
pub(crate) type Place = OwnedSemaphorePermit;

/// What all guests of a node may use together.
#[derive(Debug)]
pub struct Ceilings {
    places: Arc<Semaphore>,
    max_live: u64,
    memory: Counter,
    code: Counter,
    files: Counter,
    turn: Option<Arc<Semaphore>>,
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
        }
    }
}

/// A live guest takes up to five memory mappings, and past the kernel's limit `mmap` fails for the whole VM: it and the
/// pools keep these for themselves.
const OTHER_MAPPINGS: u64 = 15_000;

fn default_live() -> u64 {
    let read = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    let mappings: u64 = read.and_then(|text| text.trim().parse().ok()).unwrap_or(65_530);
    (mappings.saturating_sub(OTHER_MAPPINGS) / 5).clamp(16, MOST_LIVE)
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
        let places = limits.max_live_instances.min(Semaphore::MAX_PERMITS as u64);
        Self {
            places: Arc::new(Semaphore::new(places as usize)),
            max_live: places,
            memory: Counter::new(Limit::TotalMemory, limits.max_total_memory),
            code: Counter::new(Limit::CodeMemory, limits.max_code_memory),
            files: Counter::new(Limit::OpenFiles, limits.max_open_files),
            turn: (!limits.parallel_execution).then(|| Arc::new(Semaphore::new(1))),
        }
    }

    /// Live guests now.
    pub fn live(&self) -> u64 {
        self.max_live.saturating_sub(self.places.available_permits() as u64)
    }

    /// Bytes of memory of all guests now.
    pub fn memory(&self) -> u64 {
        self.memory.used()
    }

    /// Bytes of compiled code now.
    pub fn code(&self) -> u64 {
        self.code.used()
    }

    /// A place that counts as `weight` guests, if there is room now.
    pub(crate) fn try_place(&self, weight: u32) -> Result<Place, LimitError> {
        Arc::clone(&self.places).try_acquire_many_owned(weight).map_err(|_| self.full())
    }

    pub(crate) async fn place(&self, weight: u32) -> Result<Place, LimitError> {
        Arc::clone(&self.places).acquire_many_owned(weight).await.map_err(|_| self.full())
    }

    pub(crate) fn could_hold(&self, weight: u32) -> bool {
        u64::from(weight) <= self.max_live
    }

    pub(crate) fn full(&self) -> LimitError {
        LimitError::new(Limit::LiveInstances, self.max_live, self.max_live.saturating_add(1))
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

    pub(crate) fn turn(&self) -> Option<&Arc<Semaphore>> {
        self.turn.as_ref()
    }
}

/// A node-wide sum with a ceiling.
#[derive(Debug)]
pub(crate) struct Counter {
    limit: Limit,
    allowed: u64,
    used: AtomicU64,
}

impl Counter {
    fn new(limit: Limit, allowed: u64) -> Self {
        Self { limit, allowed, used: AtomicU64::new(0) }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub(crate) fn reserve(&self, amount: u64) -> Result<(), LimitError> {
        let within = |used: u64| used.checked_add(amount).filter(|sum| *sum <= self.allowed);
        match self.used.fetch_update(Relaxed, Relaxed, within) {
            Ok(_) => Ok(()),
            Err(used) => Err(LimitError::new(self.limit, self.allowed, used.saturating_add(amount))),
        }
    }

    pub(crate) fn release(&self, amount: u64) {
        self.used.fetch_sub(amount, Relaxed);
    }
}
