//! What an invocation has used so far.

use super::Invocation;
use crate::error::{Limit, LimitError};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What a call used, or all calls of a live guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Fuel, where it is metered; after a call that was cut off, rounded down to the last yield.
    pub fuel: Option<u64>,
    /// The most bytes of memory and tables that the guest had.
    pub peak_memory: u64,
    /// From the start to the end, waiting and host functions included.
    pub wall: Duration,
    /// On a scheduler.
    pub slice: Duration,
    /// Slices of time that it took: one, and one more for each that it spent. A host call or a wake-up begins none.
    pub slices: u64,
    /// Calls of host functions.
    pub host_calls: u64,
    /// Bytes put out.
    pub output: u64,
}

/// The counters of an invocation.
#[derive(Default)]
pub(super) struct Meter {
    peak_memory: AtomicU64,
    host_calls: AtomicU64,
    /// What the invocation may use of its guest's budget.
    pub(super) allotted: AtomicU64,
    /// What of it is on the guest's account, and what is at the least.
    pub(super) charged: AtomicU64,
    pub(super) least: AtomicU64,
    fuel_used: AtomicU64,
    /// Fuel between two yields.
    yield_fuel: AtomicU64,
    refused: Mutex<Option<LimitError>>,
}

impl Invocation {
    pub(crate) fn peak_memory(&self) -> u64 {
        self.meter.peak_memory.load(Relaxed)
    }

    /// Only the guest's side calls this, so that it needs no atomic maximum.
    pub(crate) fn saw_memory(&self, bytes: u64) {
        if bytes > self.peak_memory() {
            self.meter.peak_memory.store(bytes, Relaxed);
            self.account_memory(bytes);
        }
    }

    pub(crate) fn host_calls(&self) -> u64 {
        self.meter.host_calls.load(Relaxed)
    }

    /// Counts a call of an imported function in, whoever answers it.
    pub(crate) fn count_host_call(&self) -> Result<(), LimitError> {
        let calls = self.host_calls() + 1;
        if calls > self.limits.max_host_calls {
            return Err(LimitError::new(Limit::HostCalls, self.limits.max_host_calls, calls));
        }
        self.account_host_call()?;
        self.meter.host_calls.store(calls, Relaxed);
        Ok(())
    }

    pub(crate) fn fuel_used(&self) -> u64 {
        self.meter.fuel_used.load(Relaxed)
    }

    pub(crate) fn set_fuel_used(&self, fuel: u64) {
        self.meter.fuel_used.store(fuel, Relaxed);
        self.charge(fuel);
    }

    pub(crate) fn yields_every(&self, fuel: u64) {
        self.meter.yield_fuel.store(fuel, Relaxed);
    }

    pub(crate) fn yield_fuel(&self) -> u64 {
        self.meter.yield_fuel.load(Relaxed)
    }

    /// Only the stepping thread calls this.
    pub(crate) fn note_yield(&self) {
        self.set_fuel_used(self.fuel_used() + self.yield_fuel());
    }

    /// A growth that was refused: a trap that follows it is this limit's doing.
    pub(crate) fn refuse(&self, error: LimitError) {
        *self.meter.refused.lock() = Some(error);
    }

    pub(crate) fn refused(&self) -> Option<LimitError> {
        self.meter.refused.lock().clone()
    }

    pub(crate) fn take_refused(&self) -> Option<LimitError> {
        self.meter.refused.lock().take()
    }
}
