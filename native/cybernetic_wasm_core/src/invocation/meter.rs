//! What an invocation has used so far.

use super::Invocation;
use crate::error::{Limit, LimitError};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The counters of an invocation.
#[derive(Default)]
pub(super) struct Meter {
    peak_memory: AtomicU64,
    host_calls: AtomicU64,
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
        self.meter.host_calls.store(calls, Relaxed);
        Ok(())
    }

    pub(crate) fn fuel_used(&self) -> u64 {
        self.meter.fuel_used.load(Relaxed)
    }

    pub(crate) fn set_fuel_used(&self, fuel: u64) {
        self.meter.fuel_used.store(fuel, Relaxed);
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
