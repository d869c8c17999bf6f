//! How long a function has lately taken: what decides whether its next call may start on a normal scheduler.

use crate::invocation::INLINE_MEMORY;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

/// A call this short is far from the millisecond that a normal scheduler allows.
const SHORT: Duration = Duration::from_micros(100);

/// Short calls in a row that prove a function short.
const PROOF: u8 = 3;

/// The recent pace of one function.
#[derive(Debug, Default)]
pub struct Pace {
    short_calls: AtomicU8,
}

impl Pace {
    /// Whether the function has proven short.
    pub fn is_short(&self) -> bool {
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
