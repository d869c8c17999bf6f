//! Who wants a dirty scheduler of a node. The BEAM serves them in the order in which they came, so that everybody waits for
//! the slices of all who are before them: where there are more than dirty schedulers, slices are short.

use super::{LONG, SHARED};
use quanta::Instant;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// One who was expected and has not come by now does not come any more: its process was killed on the way.
const LATEST: Duration = Duration::from_millis(100);

/// Counts who wants a dirty scheduler.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// Dirty schedulers that there are.
    schedulers: AtomicU64,
    /// Executions that run there, and those that have spent a slice and want the next.
    present: AtomicU64,
    /// Calls that are on their way: the process was sent there and has not begun.
    expected: AtomicU64,
    /// When the last of them set out, in nanoseconds from the beginning.
    announced: AtomicU64,
    beginning: Instant,
}

impl Crowd {
    pub(crate) fn new(schedulers: u64) -> Self {
        Self {
            schedulers: AtomicU64::new(schedulers),
            present: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            announced: AtomicU64::new(0),
            beginning: Instant::now(),
        }
    }

    pub(crate) fn schedulers(&self) -> u64 {
        self.schedulers.load(Relaxed)
    }

    pub(crate) fn adjust(&self, schedulers: u64) {
        self.schedulers.store(schedulers, Relaxed);
    }

    /// Counts one in until what this gives is dropped.
    pub(crate) fn join(self: &Arc<Self>) -> Presence {
        self.present.fetch_add(1, Relaxed);
        Presence(Arc::clone(self))
    }

    /// Somebody is on the way.
    pub(crate) fn expect(&self) {
        let now = self.nanoseconds(Instant::now());
        match self.has_waited_long(now) {
            true => self.expected.store(1, Relaxed),
            false => _ = self.expected.fetch_add(1, Relaxed),
        }
        self.announced.store(now, Relaxed);
    }

    /// One who was expected has come.
    pub(crate) fn arrive(&self) {
        let _ = self.expected.fetch_update(Relaxed, Relaxed, |expected| expected.checked_sub(1));
    }

    /// Executions that run on dirty schedulers or have spent a slice, and calls that are on their way.
    pub(crate) fn count(&self, now: Instant) -> u64 {
        let expected = match self.expected.load(Relaxed) {
            0 => 0,
            _ if self.has_waited_long(self.nanoseconds(now)) => 0,
            expected => expected,
        };
        self.present.load(Relaxed) + expected
    }

    fn has_waited_long(&self, now: u64) -> bool {
        now.saturating_sub(self.announced.load(Relaxed)) > LATEST.as_nanos() as u64
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.beginning).as_nanos() as u64
    }
}

/// One of the crowd.
#[derive(Debug)]
pub(crate) struct Presence(Arc<Crowd>);

impl Presence {
    /// How long a slice lasts as things are now.
    pub(crate) fn slice(&self, now: Instant) -> Duration {
        if self.0.count(now) > self.0.schedulers() { SHARED } else { LONG }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.present.fetch_sub(1, Relaxed);
    }
}
