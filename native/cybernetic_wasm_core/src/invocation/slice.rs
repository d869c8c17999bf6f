//! An invocation's time on a scheduler, as the guest's side knows it: when a step must end before the guest yields by itself.

use super::Invocation;
use crate::lane::{INLINE_MEMORY, Lane};
use quanta::Instant;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::Poll;

/// The step under way.
#[derive(Default)]
pub(super) struct Slice {
    /// Set while a step runs on a normal scheduler.
    inline: AtomicBool,
    /// The step is to end here: its time is spent, or what follows does not belong on a normal scheduler.
    hop: AtomicBool,
    /// When the step's time is spent, in nanoseconds from the invocation's start.
    end: AtomicU64,
}

impl Invocation {
    /// A step begins, whose time is spent at `until`.
    pub(crate) fn enter(&self, lane: Lane, until: Instant) {
        self.slice.inline.store(lane == Lane::Inline, Relaxed);
        let end = until.saturating_duration_since(self.started);
        self.slice.end.store(end.as_nanos() as u64, Relaxed);
    }

    /// Before a guest gets `bytes` of memory: leaves the normal scheduler if that is more than it may have there.
    pub(crate) async fn leave_inline_for(&self, bytes: u64) {
        if bytes > INLINE_MEMORY {
            self.leave_inline().await;
        }
    }

    /// Before work that may take long: leaves the normal scheduler.
    pub(crate) async fn leave_inline(&self) {
        if self.slice.inline.load(Relaxed) {
            self.pause().await;
        }
    }

    /// In the middle of work that has many parts: ends the step if its time is spent.
    pub(crate) async fn breathe(&self) {
        if self.started.elapsed().as_nanos() as u64 >= self.slice.end.load(Relaxed) {
            self.pause().await;
        }
    }

    /// Ends the step, as a spent slice does.
    pub(crate) async fn pause(&self) {
        self.slice.hop.store(true, Relaxed);
        once_pending().await;
    }

    pub(crate) fn take_hop(&self) -> bool {
        self.slice.hop.load(Relaxed) && self.slice.hop.swap(false, Relaxed)
    }
}

/// Gives way to whoever polls, once.
pub(super) async fn once_pending() {
    let mut told = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut told, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}
