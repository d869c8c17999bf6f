//! What a live guest uses in its whole life, and what it may where it was given a budget: every invocation draws on it, however
//! many processes call, and a guest that is made anew goes on with what is left.

use super::{Invocation, Usage, later};
use crate::error::{Limit, LimitError};
use crate::limits::Limits;
use once_cell::sync::OnceCell;
use quanta::Instant;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The account of one live guest. One invocation at a time draws on it, so that its sums need not be changed in one step.
pub(crate) struct Account {
    started: Instant,
    ended: OnceCell<Instant>,
    /// The limits of its whole life: fuel, time, output and host calls of these.
    budget: Option<Budget>,
    fuel: AtomicU64,
    host_calls: AtomicU64,
    output: AtomicU64,
    peak_memory: AtomicU64,
    /// Nanoseconds.
    slice: AtomicU64,
    slices: AtomicU64,
}

struct Budget {
    limits: Limits,
    deadline: Instant,
}

impl Account {
    /// That of a guest that is being made.
    pub(crate) fn new(budget: Option<Limits>) -> Self {
        let started = Instant::now();
        let budget = budget.map(|limits| Budget { deadline: later(started, limits.time), limits });
        let zero = || AtomicU64::new(0);
        Self {
            started,
            ended: OnceCell::new(),
            budget,
            fuel: zero(),
            host_calls: zero(),
            output: zero(),
            peak_memory: zero(),
            slice: zero(),
            slices: zero(),
        }
    }

    /// The guest is gone for good: its time is over.
    pub(crate) fn end(&self) {
        let _ = self.ended.set(Instant::now());
    }

    /// All of it; fuel where it is `metered`.
    pub(crate) fn usage(&self, metered: bool) -> Usage {
        let until = self.ended.get().copied().unwrap_or_else(Instant::now);
        Usage {
            fuel: metered.then(|| self.fuel.load(Relaxed)),
            peak_memory: self.peak_memory.load(Relaxed),
            wall: until.saturating_duration_since(self.started),
            slice: Duration::from_nanos(self.slice.load(Relaxed)),
            slices: self.slices.load(Relaxed),
            host_calls: self.host_calls.load(Relaxed),
            output: self.output.load(Relaxed),
        }
    }

    /// Refuses whatever is to be done with the guest when its time is over.
    pub(crate) fn check_time(&self) -> Result<(), LimitError> {
        match &self.budget {
            Some(budget) if Instant::now() >= budget.deadline => Err(self.time_error(budget)),
            _ => Ok(()),
        }
    }

    fn time_error(&self, budget: &Budget) -> LimitError {
        let millis = |duration: Duration| duration.as_millis() as u64;
        LimitError::new(Limit::Time, millis(budget.limits.time), millis(self.started.elapsed()))
    }

    /// Adds `more` to a sum that may be `allowed`.
    fn add(&self, sum: &AtomicU64, more: u64, of: (Limit, impl Fn(&Limits) -> u64)) -> Result<(), LimitError> {
        let (limit, allowed) = of;
        let after = sum.load(Relaxed).saturating_add(more);
        if let Some(allowed) = self.budget.as_ref().map(|budget| allowed(&budget.limits)).filter(|most| after > *most) {
            return Err(LimitError::new(limit, allowed, after));
        }
        sum.store(after, Relaxed);
        Ok(())
    }
}

/// An invocation's part of its guest's account. One that makes a guest for itself alone has none.
impl Invocation {
    /// The deadline of an invocation that would have this one by itself.
    pub(super) fn within_budget(deadline: Instant, account: Option<&Account>) -> Instant {
        let budget = account.and_then(|account| account.budget.as_ref());
        budget.map_or(deadline, |budget| budget.deadline.min(deadline))
    }

    /// The error of a deadline that is the guest's, and not the invocation's own.
    pub(super) fn budget_time_error(&self) -> Option<LimitError> {
        let account = self.account.as_deref()?;
        let budget = account.budget.as_ref().filter(|budget| budget.deadline <= self.deadline)?;
        Some(account.time_error(budget))
    }

    /// Refuses to begin on a guest that has no fuel left.
    pub(crate) fn check_budget(&self) -> Result<(), LimitError> {
        match self.budget_fuel() {
            Some((0, allowed)) => Err(LimitError::new(Limit::Fuel, allowed, allowed)),
            _ => Ok(()),
        }
    }

    /// The fuel that the guest's budget has left, and what it had.
    fn budget_fuel(&self) -> Option<(u64, u64)> {
        let account = self.account.as_deref()?;
        let allowed = account.budget.as_ref()?.limits.fuel;
        Some((allowed.saturating_sub(account.fuel.load(Relaxed)), allowed))
    }

    /// Fuel for this invocation: what it may use, as far as it is there.
    pub(crate) fn allot_fuel(&self) -> u64 {
        let left = self.budget_fuel().map_or(u64::MAX, |(left, _)| left);
        let fuel = self.limits.fuel.min(left);
        self.meter.allotted.store(fuel, Relaxed);
        fuel
    }

    pub(crate) fn allotted_fuel(&self) -> u64 {
        self.meter.allotted.load(Relaxed)
    }

    /// All of the fuel was used: the invocation's own, or the last of its guest's.
    pub(crate) fn fuel_error(&self) -> LimitError {
        let own = self.limits.fuel;
        let whole = self.account.as_deref().and_then(|account| account.budget.as_ref());
        let allowed = whole.filter(|_| self.allotted_fuel() < own).map_or(own, |budget| budget.limits.fuel);
        LimitError::new(Limit::Fuel, allowed, allowed)
    }

    pub(crate) fn fuel_used_at_least(&self) -> u64 {
        self.meter.least.load(Relaxed)
    }

    /// The guest has used at least this much, whatever is found later: it is cut off in the middle, or an instruction has spoilt
    /// the count.
    pub(crate) fn charge_at_least(&self, fuel: u64) {
        self.meter.least.fetch_max(fuel.min(self.allotted_fuel()), Relaxed);
        self.charge(self.fuel_used());
    }

    /// Puts what the invocation has used on its guest's account.
    pub(super) fn charge(&self, fuel: u64) {
        let Some(account) = &self.account else { return };
        let now = fuel.max(self.meter.least.load(Relaxed));
        let before = self.meter.charged.swap(now, Relaxed);
        // Wraps where less was used than was thought. A guest that was cut off is charged for from another thread.
        account.fuel.fetch_add(now.wrapping_sub(before), Relaxed);
    }

    pub(super) fn account_memory(&self, bytes: u64) {
        if let Some(account) = &self.account {
            account.peak_memory.store(account.peak_memory.load(Relaxed).max(bytes), Relaxed);
        }
    }

    pub(super) fn account_host_call(&self) -> Result<(), LimitError> {
        let Some(account) = &self.account else { return Ok(()) };
        account.add(&account.host_calls, 1, (Limit::HostCalls, |limits| limits.max_host_calls))
    }

    pub(super) fn account_output(&self, bytes: u64) -> Result<(), LimitError> {
        let Some(account) = &self.account else { return Ok(()) };
        account.add(&account.output, bytes, (Limit::Output, |limits| limits.max_output))
    }

    /// A step took this long. Each invocation has one slice, and one more for each that it spends.
    pub(crate) fn account_slice(&self, took: Duration, slices: u64) {
        // Who waits for the guest must not count in between.
        if let Some(account) = self.account.as_ref().filter(|_| !self.queueing()) {
            account.slice.store(account.slice.load(Relaxed) + took.as_nanos() as u64, Relaxed);
            account.slices.store(account.slices.load(Relaxed) + slices, Relaxed);
        }
    }
}
