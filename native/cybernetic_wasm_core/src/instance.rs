//! Live instances: a guest that stays between calls, on one call at a time. Other modules can join its store as further
//! members, bound to each other as the embedder says.
//!
//! Whoever uses the guest holds its [`Lease`]. The next in the queue gets the guest handed on, so that nobody who comes
//! later overtakes; one that was dropped in mid-call leaves the instance poisoned until it is reset.

use crate::access::{Access, memory, range};
use crate::callee::Callee;
use crate::engine::{EngineConfig, PoolFull};
use crate::error::{CallError, Error, Limit, LimitError, classify};
use crate::host::{self, Answer};
use crate::invocation::{INLINE_MEMORY, Invocation};
use crate::limits::Place;
use crate::linker::{self, Joining};
use crate::module::{Function, Module};
use crate::reaper::reap;
use crate::store::GuestStore;
use crate::value::HostRef;
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use tokio::sync::oneshot;
use wasmtime::{Memory, PoolConcurrencyLimitError};

/// A store with its first instance.
pub(crate) struct Live {
    pub(crate) store: GuestStore,
    pub(crate) instance: wasmtime::Instance,
    /// The function that was called last.
    pub(crate) last: Option<(Arc<Function>, Callee)>,
}

impl Live {
    pub(crate) fn module(&self) -> &Arc<Module> {
        &self.store.data().module
    }
}

/// Names one of a live guest's instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemberId(pub u32);

impl MemberId {
    /// The instance that the guest began with.
    pub const FIRST: MemberId = MemberId(0);
}

/// One that joined a guest, or that a place is kept for. One that failed to start keeps its place for ever: functions of its
/// own that it wrote into a table may still call the host in its name.
#[derive(Default)]
struct Joined {
    joining: Option<Joining>,
    instance: Option<wasmtime::Instance>,
    kept: Option<HostRef>,
}

/// The instances that joined a guest after its first.
#[derive(Default)]
pub(crate) struct Members {
    joined: Vec<Joined>,
    /// What the embedder keeps for the first.
    kept: Option<HostRef>,
}

impl Members {
    /// `None` for the first, and for what is not there.
    fn get(&self, member: MemberId) -> Option<&Joined> {
        self.joined.get((member.0 as usize).checked_sub(1)?)
    }

    fn get_mut(&mut self, member: MemberId) -> Option<&mut Joined> {
        self.joined.get_mut((member.0 as usize).checked_sub(1)?)
    }

    /// As Wasmtime knows the member.
    pub(crate) fn handle(&self, member: MemberId, first: wasmtime::Instance) -> Option<wasmtime::Instance> {
        if member == MemberId::FIRST { Some(first) } else { self.get(member)?.instance }
    }

    /// Those that have joined, in that order.
    fn joinings(&self) -> Vec<Joining> {
        self.joined
            .iter()
            .filter(|joined| joined.instance.is_some())
            .filter_map(|joined| joined.joining.clone())
            .collect()
    }
}

/// A guest between calls, or on one.
pub struct Instance {
    module: Arc<Module>,
    /// The module as it was loaded, where `module` is that one made fit for snapshots.
    source: Option<Arc<Module>>,
    memory: AtomicU64,
    slot: Mutex<Slot>,
    members: RwLock<Members>,
    survives_traps: AtomicBool,
    /// Counts the times that the guest's state may have changed.
    uses: AtomicU64,
    fork: Mutex<Option<(u64, Arc<Module>)>>,
}

struct Slot {
    state: State,
    /// The number of the last lease. One that comes back late, from the reaper, has no say in what became of the guest.
    lease: u64,
    queue: VecDeque<oneshot::Sender<Lease>>,
}

enum State {
    Idle(Box<Live>),
    Leased,
    Poisoned,
    Closed,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("module", &self.module).finish_non_exhaustive()
    }
}

impl Instance {
    /// `source` is the module that was asked for, where the guest runs one that was made fit for snapshots.
    pub(crate) fn new(live: Live, source: Option<Arc<Module>>) -> Arc<Self> {
        Arc::new(Self {
            module: Arc::clone(live.module()),
            source,
            memory: AtomicU64::new(live.store.data().memory()),
            slot: Mutex::new(Slot { state: State::Idle(Box::new(live)), lease: 0, queue: VecDeque::new() }),
            members: RwLock::default(),
            survives_traps: AtomicBool::new(false),
            uses: AtomicU64::new(0),
            fork: Mutex::new(None),
        })
    }

    /// The module that it is an instance of: the first member's.
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// Whether its memory is small enough for a normal scheduler.
    pub fn is_small(&self) -> bool {
        self.memory.load(Relaxed) <= INLINE_MEMORY
    }

    /// `idle`, `busy`, `poisoned` by an earlier call that left it in a state that is not to be trusted, or `closed`.
    pub fn state(&self) -> &'static str {
        match self.slot.lock().state {
            State::Idle(_) => "idle",
            State::Leased => "busy",
            State::Poisoned => "poisoned",
            State::Closed => "closed",
        }
    }

    /// From now on a call that ends in a trap, an uncaught exception or an exhausted stack leaves the guest usable, with
    /// what the call had done so far, as the specification has it. Without this it leaves the guest poisoned.
    pub fn survive_traps(&self) {
        self.survives_traps.store(true, Relaxed);
    }

    // Members

    /// The module that `member` is an instance of.
    pub fn member(&self, member: MemberId) -> Result<Arc<Module>, CallError> {
        if member == MemberId::FIRST {
            return Ok(Arc::clone(&self.module));
        }
        let members = self.members.read();
        let joined = members.get(member).filter(|joined| joined.instance.is_some());
        let joining = joined.and_then(|joined| joined.joining.as_ref());
        joining.map(|joining| Arc::clone(&joining.module)).ok_or(CallError::NoSuchMember(member.0))
    }

    /// Keeps a place for a member that will join.
    pub fn reserve(&self) -> MemberId {
        let mut members = self.members.write();
        members.joined.push(Joined::default());
        MemberId(members.joined.len() as u32)
    }

    /// Keeps something of the embedder's for a member: the functions that answer its host calls, say.
    pub fn keep(&self, member: MemberId, what: HostRef) -> Result<(), CallError> {
        let mut members = self.members.write();
        if member == MemberId::FIRST {
            members.kept = Some(what);
            return Ok(());
        }
        members.get_mut(member).ok_or(CallError::NoSuchMember(member.0))?.kept = Some(what);
        Ok(())
    }

    /// What is kept for a member.
    pub fn kept(&self, member: MemberId) -> Option<HostRef> {
        let members = self.members.read();
        let kept = if member == MemberId::FIRST { members.kept.as_ref() } else { members.get(member)?.kept.as_ref() };
        kept.cloned()
    }

    /// As Wasmtime knows the member; `None` for the first, which the guest itself knows.
    pub(crate) fn handle(&self, member: MemberId) -> Result<Option<wasmtime::Instance>, CallError> {
        if member == MemberId::FIRST {
            return Ok(None);
        }
        let instance = self.members.read().get(member).and_then(|joined| joined.instance);
        instance.map(Some).ok_or(CallError::NoSuchMember(member.0))
    }

    /// The engine that `module` must be compiled for to join. Where guests live and how deep they may recurse is the
    /// guest's affair; what its code may do and how it is metered was fixed when each module was loaded.
    pub(crate) fn engine_for(&self, module: &Module) -> Result<EngineConfig, CallError> {
        let (ours, theirs) = (*self.module.engine().config(), *module.engine().config());
        let adapted = EngineConfig { max_stack: ours.max_stack, allocation: ours.allocation, ..theirs };
        match adapted == ours {
            true => Ok(ours),
            false => Err(other_engine(&ours, &theirs)),
        }
    }

    /// Instantiates a module in the store of this guest, which the caller has leased as `live`. The member maps as much
    /// memory as a guest of its own, and takes a `place` like one.
    pub(crate) async fn join(&self, live: &mut Live, joining: Joining, place: Place) -> Result<MemberId, Error> {
        let (ours, theirs) = (live.module().engine(), joining.module.engine());
        if !Arc::ptr_eq(ours, theirs) {
            return Err(other_engine(ours.config(), theirs.config()).into());
        }
        let imports = linker::resolve(&mut live.store, &self.members.read(), live.instance, &joining)?;
        live.store.data_mut().add_member(&joining.module, place).await?;
        let result = wasmtime::Instance::new_async(&mut live.store, &joining.module.wasmtime, &imports).await;
        match result {
            Ok(instance) => self.joined(joining, instance),
            Err(error) if error.is::<PoolConcurrencyLimitError>() => Err(LimitError::from(PoolFull).into()),
            Err(error) => {
                host::forget_exception(&mut live.store, &error);
                Err(classify(error, &live.store.data().invocation, &joining.module))
            }
        }
    }

    fn joined(&self, joining: Joining, instance: wasmtime::Instance) -> Result<MemberId, Error> {
        let member = joining.member;
        let mut members = self.members.write();
        let joined = members.get_mut(member).ok_or(CallError::NoSuchMember(member.0))?;
        joined.joining = Some(joining);
        joined.instance = Some(instance);
        Ok(member)
    }

    /// Those that have joined, to join again after the guest was made anew.
    pub(crate) fn joinings(&self) -> Vec<Joining> {
        self.members.read().joinings()
    }

    // Looking at an idle guest

    /// Copies out of a memory of an idle guest: `with` gets the bytes in place.
    pub fn read<T>(
        self: &Arc<Self>,
        (member, name): (MemberId, Option<&str>),
        (offset, length): (u64, u64),
        with: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Error> {
        self.with_memory((member, name), |memory, live| {
            let data = memory.data(&live.store);
            Ok(with(&data[range(offset, length, data.len())?]))
        })
    }

    /// Copies into a memory of an idle guest.
    pub fn write(
        self: &Arc<Self>,
        (member, name): (MemberId, Option<&str>),
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Error> {
        self.uses.fetch_add(1, Relaxed);
        self.with_memory((member, name), |memory, live| {
            let data = memory.data_mut(&mut live.store);
            let range = range(offset, bytes.len() as u64, data.len())?;
            data[range].copy_from_slice(bytes);
            Ok(())
        })
    }

    fn with_memory<T>(
        self: &Arc<Self>,
        (member, name): (MemberId, Option<&str>),
        work: impl FnOnce(Memory, &mut Live) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let module = self.member(member)?;
        let name = crate::access::memory_name(name, &module);
        self.idle(|live| {
            let instance = self.handle(member)?.unwrap_or(live.instance);
            let memory = memory(instance.get_export(&mut live.store, name), name)?;
            work(memory, live)
        })
    }

    /// An access to an idle guest that needs no time of the guest's own; `None` where it might: see
    /// [`crate::execution::Execution::access`].
    pub fn access(self: &Arc<Self>, member: MemberId, access: Access) -> Result<Result<Answer, Error>, Access> {
        match access {
            Access::Grow { .. } => return Err(access),
            // Making a reference may have to collect garbage.
            Access::SetGlobal { ref value, .. } if value.is_reference() => return Err(access),
            Access::SetGlobal { .. } | Access::Write { .. } => {
                self.uses.fetch_add(1, Relaxed);
            }
            _ => {}
        }
        let answer = self.member(member).map_err(Error::from).and_then(|module| {
            self.idle(|live| {
                let instance = self.handle(member)?.unwrap_or(live.instance);
                let found = instance.get_export(&mut live.store, access.export(&module));
                let work = pin!(access.carry_out(&module, found, &mut live.store));
                match work.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(answer) => answer,
                    Poll::Pending => Err(Error::Internal("a look at an idle guest has to wait".into())),
                }
            })
        });
        Ok(answer)
    }

    /// Does something with the guest while nobody else has it, which leaves it as sound as it was.
    fn idle<T>(self: &Arc<Self>, work: impl FnOnce(&mut Live) -> Result<T, Error>) -> Result<T, Error> {
        let mut lease = self.lease()?;
        let result = lease.live.as_deref_mut().map_or_else(|| Err(lease_over()), work);
        lease.give_back(true);
        result
    }

    // Snapshots

    /// How often its state may have changed: between two equal answers it has not.
    pub fn uses(&self) -> u64 {
        self.uses.load(Relaxed)
    }

    /// The module of the last fork, if the state has not changed since.
    pub fn fork(&self) -> Option<Arc<Module>> {
        let fork = self.fork.lock();
        fork.as_ref().filter(|(uses, _)| *uses == self.uses()).map(|(_, module)| Arc::clone(module))
    }

    /// Keeps the module of a snapshot that was made after so many uses.
    pub fn keep_fork(&self, uses: u64, module: &Arc<Module>) {
        *self.fork.lock() = Some((uses, Arc::clone(module)));
    }

    /// Why no snapshot of it can be made, other than what its module says.
    pub(crate) fn check_snapshot(&self) -> Result<&Arc<Module>, CallError> {
        let refused = |why: &str| CallError::NoSnapshot(why.to_owned());
        let source = self.source.as_ref().ok_or_else(|| refused("the instance was not made with `snapshottable`"))?;
        match self.members.read().joined.is_empty() {
            true => Ok(source),
            false => Err(refused("other modules have been linked to the instance")),
        }
    }

    // Leases

    /// Takes the guest for one call.
    pub(crate) fn lease(self: &Arc<Self>) -> Result<Lease, CallError> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut slot.state, State::Leased) {
            State::Idle(live) => Ok(self.lend(&mut slot, Some(live))),
            state => Err(slot.stay(state)),
        }
    }

    fn lend(self: &Arc<Self>, slot: &mut Slot, live: Option<Box<Live>>) -> Lease {
        slot.lease += 1;
        Lease { instance: Arc::clone(self), number: slot.lease, live, used: false }
    }

    /// The same, after all who have asked before.
    pub(crate) async fn queue(self: &Arc<Self>) -> Result<Lease, CallError> {
        let next = {
            let mut slot = self.slot.lock();
            if !matches!(slot.state, State::Leased) {
                drop(slot);
                return self.lease();
            }
            let (sender, next) = oneshot::channel();
            slot.queue.push_back(sender);
            next
        };
        next.await.map_err(|_| why_not(&self.slot.lock().state))
    }

    /// Takes the guest to make it anew, also a poisoned one.
    pub(crate) fn lease_to_reset(self: &Arc<Self>) -> Result<Lease, CallError> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut slot.state, State::Leased) {
            State::Idle(live) => Ok(self.lend(&mut slot, Some(live))),
            State::Poisoned => Ok(self.lend(&mut slot, None)),
            state => Err(slot.stay(state)),
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
                Err(CallError::Poisoned | CallError::Busy) => {}
                lease => return lease,
            }
        }
    }

    /// Gives up the guest for good. A large one is dropped on the reaper's thread.
    pub fn close(&self) -> Result<(), CallError> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut slot.state, State::Closed) {
            State::Idle(live) if self.is_small() => drop(live),
            State::Idle(live) => reap(live),
            State::Poisoned | State::Closed => {}
            State::Leased => {
                slot.state = State::Leased;
                return Err(CallError::Busy);
            }
        }
        Ok(())
    }

    /// Gives the guest to the next in the queue, or lets it rest.
    fn hand_on(self: &Arc<Self>, number: u64, mut live: Box<Live>) {
        let mut slot = self.slot.lock();
        if slot.lease != number {
            drop(slot);
            return reap(live);
        }
        while let Some(next) = slot.queue.pop_front() {
            // One that has stopped waiting leaves the lease here.
            match next.send(self.lend(&mut slot, Some(live))).map_err(Lease::undo) {
                Ok(()) | Err(None) => return,
                Err(Some(back)) => live = back,
            }
        }
        slot.state = State::Idle(live);
    }

    /// Ends the lease of this number without its guest, which need not have been dropped yet.
    pub(crate) fn poison(&self, number: u64) {
        let mut slot = self.slot.lock();
        if slot.lease == number && matches!(slot.state, State::Leased) {
            slot.state = State::Poisoned;
            slot.queue.clear();
        }
    }
}

impl Slot {
    /// Puts the state back that was looked at, and says why the guest cannot be had.
    fn stay(&mut self, state: State) -> CallError {
        let error = why_not(&state);
        self.state = state;
        error
    }
}

fn why_not(state: &State) -> CallError {
    match state {
        State::Idle(_) | State::Leased => CallError::Busy,
        State::Poisoned => CallError::Poisoned,
        State::Closed => CallError::Closed,
    }
}

fn lease_over() -> Error {
    Error::Internal("the lease is over".into())
}

fn other_engine(ours: &EngineConfig, theirs: &EngineConfig) -> CallError {
    CallError::OtherEngine { ours: format!("{ours:?}"), theirs: format!("{theirs:?}") }
}

/// The guest while a call has it. Dropped in mid-call, it leaves the instance poisoned.
pub(crate) struct Lease {
    instance: Arc<Instance>,
    number: u64,
    live: Option<Box<Live>>,
    used: bool,
}

impl Lease {
    /// Tells it from the instance's other leases.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// To run the guest, which may change anything in it.
    pub(crate) fn live(&mut self) -> Result<(&Instance, &mut Live), Error> {
        self.used = true;
        self.instance.uses.fetch_add(1, Relaxed);
        let live = self.live.as_deref_mut().ok_or_else(lease_over)?;
        Ok((&self.instance, live))
    }

    /// To look at the guest, which stays as it is.
    pub(crate) fn look(&mut self) -> Result<&mut Live, Error> {
        self.live.as_deref_mut().ok_or_else(lease_over)
    }

    /// As if it had never been: the guest, if it is there.
    fn undo(mut self) -> Option<Box<Live>> {
        // No lease has this number, so dropping it does nothing.
        self.number = 0;
        self.live.take()
    }

    /// Ends a call that had this result.
    pub(crate) fn settle<T>(&mut self, invocation: &Invocation, result: &Result<T, Error>) {
        let error = result.as_ref().err();
        let sound = error.is_none_or(is_harmless) && !invocation.tainted();
        let survived = self.instance.survives_traps.load(Relaxed) && error.is_none_or(is_trap);
        self.give_back(sound || survived);
    }

    /// Ends the call: the next may have the guest if it is still `sound`.
    pub(crate) fn give_back(&mut self, sound: bool) {
        let Some(live) = self.live.take_if(|_| sound) else { return };
        self.instance.memory.store(live.store.data().memory(), Relaxed);
        self.instance.hand_on(self.number, live);
        self.number = 0;
    }

    /// Drops the guest here and now, so that its place is free for the one that replaces it.
    pub(crate) fn clear(&mut self) {
        self.used = true;
        self.instance.uses.fetch_add(1, Relaxed);
        self.live = None;
    }

    /// Puts a guest made anew in the place of the one that was cleared.
    pub(crate) fn renew(&mut self, live: Live) {
        self.live = Some(Box::new(live));
    }
}

/// Errors that come before anything runs.
fn is_harmless(error: &Error) -> bool {
    let is_count = |limit| matches!(limit, Limit::Instances | Limit::LiveInstances);
    matches!(error, Error::Call(_) | Error::Link(_)) || matches!(error, Error::Limit(error) if is_count(error.limit))
}

fn is_trap(error: &Error) -> bool {
    matches!(error, Error::Trap(_) | Error::Limit(LimitError { limit: Limit::Stack | Limit::Reentrance, .. }))
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A call that was given up before it began has left nothing behind.
        self.give_back(!self.used);
        if self.number != 0 {
            reap(self.live.take());
            self.instance.poison(self.number);
        }
    }
}
