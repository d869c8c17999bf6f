//! Whose turn it is on a live guest: leases, and the queue of those who wait for one.

use super::LiveGuest;
use crate::error::{CallError, Error, Limit};
use crate::guest::Guest;
use crate::invocation::Invocation;
use crate::reaper::reap;
use crate::store;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::oneshot;

/// Where the guest is, and who waits for it.
pub(super) struct Slot {
    state: State,
    /// The number of the last lease. One that comes back late, from the reaper, has no say in what became of the guest.
    lease: u64,
    queue: VecDeque<oneshot::Sender<Lease>>,
}

enum State {
    Idle(Box<Guest>),
    Leased,
    /// By a call that ended like this, where that is known.
    Poisoned(Option<Arc<str>>),
    Closed,
}

impl LiveGuest {
    /// Takes the guest for one call.
    pub(crate) fn lease(self: &Arc<Self>) -> Result<Lease, CallError> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut slot.state, State::Leased) {
            State::Idle(guest) => Ok(self.lend(&mut slot, Some(guest))),
            state => Err(self.stay(&mut slot, state)),
        }
    }

    /// Puts the state back that was looked at, and says why the guest cannot be had.
    fn stay(&self, slot: &mut Slot, state: State) -> CallError {
        let refusal = if self.is_closing() { CallError::Closed } else { state.refusal() };
        slot.state = state;
        refusal
    }

    fn lend(self: &Arc<Self>, slot: &mut Slot, guest: Option<Box<Guest>>) -> Lease {
        slot.lease += 1;
        Lease { owner: Arc::clone(self), number: slot.lease, guest, used: false, ended: None }
    }

    /// The same, after all who have asked before.
    pub(crate) async fn queue(self: &Arc<Self>) -> Result<Lease, CallError> {
        let next = {
            let mut slot = self.slot.lock();
            match std::mem::replace(&mut slot.state, State::Leased) {
                State::Idle(guest) => return Ok(self.lend(&mut slot, Some(guest))),
                State::Leased if !self.is_closing() => {}
                state => return Err(self.stay(&mut slot, state)),
            }
            let (sender, next) = oneshot::channel();
            slot.queue.push_back(sender);
            next
        };
        // Nobody is turned away but by a guest that was poisoned, though it may have been made anew since.
        next.await.map_err(|_| match &self.slot.lock().state {
            State::Closed => CallError::Closed,
            _ if self.is_closing() => CallError::Closed,
            State::Poisoned(by) => CallError::Poisoned { by: by.clone() },
            State::Idle(_) | State::Leased => CallError::Poisoned { by: None },
        })
    }

    /// Takes the guest to make it anew, also a poisoned one.
    pub(crate) fn lease_to_reset(self: &Arc<Self>) -> Result<Lease, CallError> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut slot.state, State::Leased) {
            State::Idle(guest) => Ok(self.lend(&mut slot, Some(guest))),
            State::Poisoned(_) => Ok(self.lend(&mut slot, None)),
            state => Err(self.stay(&mut slot, state)),
        }
    }

    /// The same, after all who have asked before.
    pub(crate) async fn queue_to_reset(self: &Arc<Self>) -> Result<Lease, CallError> {
        loop {
            match self.lease_to_reset() {
                Err(CallError::Busy) => {}
                lease => return lease,
            }
            match self.queue().await {
                Err(CallError::Poisoned { .. }) => {}
                lease => return lease,
            }
        }
    }

    /// Gives up the guest for good. A large one is dropped on the reaper's thread.
    pub fn close(&self) -> Result<(), CallError> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut slot.state, State::Closed) {
            State::Idle(guest) if self.is_small() => drop(guest),
            State::Idle(guest) => reap(guest),
            State::Poisoned(_) | State::Closed => {}
            State::Leased => {
                slot.state = State::Leased;
                return Err(CallError::Busy);
            }
        }
        self.account().end();
        Ok(())
    }

    /// The same also while somebody has the guest, whose call ends at its next step. Nobody else gets it any more.
    pub fn finish(&self) {
        self.closing.store(true, Relaxed);
        if self.close().is_err() {
            let waiting = std::mem::take(&mut self.slot.lock().queue);
            // Those who wait are woken without the lock.
            drop(waiting);
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Gives the guest to the next in the queue, or lets it rest.
    fn hand_on(self: &Arc<Self>, number: u64, mut guest: Box<Guest>) {
        let mut slot = self.slot.lock();
        let over = slot.lease != number;
        if over || self.is_closing() {
            if !over {
                slot.state = State::Closed;
                self.account().end();
            }
            drop(slot);
            return reap(guest);
        }
        while let Some(next) = slot.queue.pop_front() {
            // One that has stopped waiting leaves the lease here.
            match next.send(self.lend(&mut slot, Some(guest))).map_err(Lease::undo) {
                Ok(()) | Err(None) => return,
                Err(Some(back)) => guest = back,
            }
        }
        slot.state = State::Idle(guest);
    }

    /// Ends the lease of this number without its guest, which need not have been dropped yet; `by` is what to say of that.
    pub(crate) fn poison(&self, number: u64, by: Option<Arc<str>>) {
        let mut slot = self.slot.lock();
        if slot.lease == number && matches!(slot.state, State::Leased) {
            slot.state = if self.is_closing() { State::Closed } else { State::Poisoned(by) };
            if matches!(slot.state, State::Closed) {
                self.account().end();
            }
            let waiting = std::mem::take(&mut slot.queue);
            // Those who wait are woken without the lock.
            drop(slot);
            drop(waiting);
        }
    }
}

impl Slot {
    pub(super) fn new(guest: Guest) -> Self {
        Self { state: State::Idle(Box::new(guest)), lease: 0, queue: VecDeque::new() }
    }

    /// Whether the guest has been given up for good.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// The state in one word.
    pub(super) fn name(&self) -> &'static str {
        match self.state {
            State::Idle(_) => "idle",
            State::Leased => "busy",
            State::Poisoned(_) => "poisoned",
            State::Closed => "closed",
        }
    }
}

impl State {
    fn refusal(&self) -> CallError {
        match self {
            State::Idle(_) | State::Leased => CallError::Busy,
            State::Poisoned(by) => CallError::Poisoned { by: by.clone() },
            State::Closed => CallError::Closed,
        }
    }
}

fn lease_over() -> Error {
    Error::Internal("the lease is over".into())
}

/// The guest while a call has it. A lease that is dropped in mid-call leaves the guest poisoned.
pub(crate) struct Lease {
    owner: Arc<LiveGuest>,
    number: u64,
    guest: Option<Box<Guest>>,
    used: bool,
    /// How the call ended that leaves the guest poisoned.
    ended: Option<Arc<str>>,
}

impl Lease {
    /// Whether the guest is gone that it would be for.
    pub(crate) fn is_empty(&self) -> bool {
        self.guest.is_none()
    }

    /// Tells it from the guest's other leases.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// To run the guest, which may change anything in it.
    pub(crate) fn use_guest(&mut self) -> Result<(&LiveGuest, &mut Guest), Error> {
        self.used = true;
        self.owner.uses.fetch_add(1, Relaxed);
        let guest = self.guest.as_deref_mut().ok_or_else(lease_over)?;
        Ok((&self.owner, guest))
    }

    /// To look at the guest, which stays as it is.
    pub(crate) fn look(&mut self) -> Result<&mut Guest, Error> {
        self.guest.as_deref_mut().ok_or_else(lease_over)
    }

    /// How often the guest has been used.
    pub(crate) fn uses(&self) -> u64 {
        self.owner.uses()
    }

    /// As if it had never been: the guest, if it is there.
    fn undo(mut self) -> Option<Box<Guest>> {
        // No lease has this number, so dropping it does nothing.
        self.number = 0;
        self.guest.take()
    }

    /// Ends a call that had this result.
    pub(crate) fn settle<T>(&mut self, invocation: &Invocation, result: &Result<T, Error>) {
        let error = result.as_ref().err();
        let harmless = error.is_none_or(|error| is_harmless(error) || invocation.take_unbegun());
        let sound = harmless && !invocation.tainted();
        // A component's store is closed by one.
        let may_survive = self.owner.survives_traps.load(Relaxed) && !self.owner.module.code().is_component();
        let survived = may_survive && error.is_none_or(is_trap);
        self.ended = error.map(Error::line);
        self.give_back(sound || survived);
    }

    /// Ends the call: the next may have the guest if it is still `sound`.
    pub(crate) fn give_back(&mut self, sound: bool) {
        let Some(guest) = self.guest.take_if(|_| sound) else { return };
        self.owner.memory.store(guest.store.data().memory(), Relaxed);
        self.owner.hand_on(self.number, guest);
        self.number = 0;
    }

    /// Drops the guest here and now, so that its place is free for the one that replaces it.
    pub(crate) fn clear(&mut self) {
        self.used = true;
        self.owner.uses.fetch_add(1, Relaxed);
        self.guest = None;
    }

    /// Puts a guest made anew in the place of the one that was cleared.
    pub(crate) fn renew(&mut self, guest: Guest) {
        self.guest = Some(Box::new(guest));
    }
}

/// Errors that come before anything runs, or when it has come to its end.
fn is_harmless(error: &Error) -> bool {
    let is_count = |limit| matches!(limit, Limit::Instances | Limit::LiveInstances);
    matches!(error, Error::Call(_) | Error::Link(_) | Error::Abi(_) | Error::Answer(_))
        || matches!(error, Error::Limit(error) if is_count(error.limit))
}

/// A trap that a refused growth explains has that limit's name.
fn is_trap(error: &Error) -> bool {
    use Limit::{Memory, Reentrance, Stack, TableElements, TotalMemory};
    match error {
        Error::Trap(_) => true,
        Error::Limit(error) => matches!(error.limit, Stack | Reentrance | Memory | TableElements | TotalMemory),
        _ => false,
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A call that was given up before it began has left nothing behind.
        self.give_back(!self.used);
        if self.number != 0 {
            if let Some(guest) = &self.guest {
                store::end_cut_off(&guest.store);
            }
            reap(self.guest.take());
            self.owner.poison(self.number, self.ended.take());
        }
    }
}
