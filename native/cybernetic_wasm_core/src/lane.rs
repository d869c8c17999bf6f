//! Where a step runs, and what may run on a normal scheduler: all the bounds of that stand here.

mod crowd;

pub(crate) use crowd::{Crowd, Presence};

use quanta::Instant;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

/// Where a step runs, which says how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// On a normal scheduler.
    Inline,
    /// On a dirty one.
    Dirty,
}

impl Lane {
    /// Time after which a step polls no more, as things are now. One poll can go beyond it by a yield interval's running time.
    pub(crate) fn slice(self, presence: Option<&Presence>, now: Instant) -> Duration {
        match (self, presence) {
            (Lane::Inline, _) => SHORT,
            (Lane::Dirty, Some(presence)) => presence.slice(now),
            (Lane::Dirty, None) => LONG,
        }
    }

    /// Whether so many bytes may be copied here.
    pub fn may_copy(self, bytes: u64) -> bool {
        self == Lane::Dirty || bytes <= INLINE_OUTPUT
    }
}

/// A slice on a dirty scheduler that keeps nobody waiting. Going back to Elixir and coming again may wake a core twice, which a
/// guest should not feel.
const LONG: Duration = Duration::from_millis(10);

/// A slice there while somebody waits. To give way costs little then: the scheduler takes the next one without having slept.
const SHARED: Duration = Duration::from_millis(1);

/// How long a step on a dirty scheduler keeps its processor before it offers it to another thread. The kernel would let it go on
/// for several milliseconds, also where a normal scheduler wants the processor for a few microseconds.
pub(crate) const OFFER: Duration = Duration::from_millis(1);

/// Memory that a guest may have on a normal scheduler: filling this much with one bulk instruction, which no slice can
/// interrupt, takes well under a millisecond.
pub(crate) const INLINE_MEMORY: u64 = 2 << 20;

/// Output that a normal scheduler may copy at a call's end: some 0.1 ms.
pub(crate) const INLINE_OUTPUT: u64 = 256 << 10;

/// Bytes of a component's values, as the host holds them, that a normal scheduler makes of terms, or reads in a guest's memory. Nothing
/// interrupts either: this takes well under a millisecond.
pub const INLINE_VALUES: u64 = 256 << 10;

/// A slice on a normal scheduler, far from the millisecond that one allows. A call that takes no longer is short. Less would not
/// do: after a rest, with cold caches, a call takes several times as long as among others, and a hop as much again.
const SHORT: Duration = Duration::from_micros(250);

/// Short calls in a row that prove a function short.
const PROOF: u8 = 3;

/// How long a function has lately taken: what decides whether its next call may start on a normal scheduler.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    short_calls: AtomicU8,
}

impl Pace {
    /// Whether the function has proven short.
    pub(crate) fn is_short(&self) -> bool {
        self.short_calls.load(Relaxed) >= PROOF
    }

    /// Notes a finished call: its time on schedulers and the most memory the guest had.
    pub(crate) fn observe(&self, slice: Duration, memory: u64) {
        if slice > SHORT || memory > INLINE_MEMORY {
            return self.demote();
        }
        let calls = self.short_calls.load(Relaxed);
        if calls < PROOF {
            self.short_calls.store(calls + 1, Relaxed);
        }
    }

    /// Notes an overrun: the function must prove itself again.
    pub(crate) fn demote(&self) {
        if self.short_calls.load(Relaxed) != 0 {
            self.short_calls.store(0, Relaxed);
        }
    }
}
