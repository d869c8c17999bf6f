//! Live guests: they stay between calls, on one call at a time. Other modules can join a guest's store as further members,
//! bound to each other as the embedder says. What the embedder calls an instance is one of these members: `instance.rs`.
//!
//! Whoever uses the guest holds its lease (`live/lease.rs`). The next in the queue gets the guest handed on, so that nobody
//! who comes later overtakes; one that was dropped in mid-call leaves it poisoned until it is reset.

mod lease;
mod members;
mod snapshot;

pub(crate) use lease::Lease;
pub(crate) use snapshot::Making;
pub use snapshot::Snapshot;

use crate::code::Function;
use crate::engine::Metering;
use crate::error::{CallError, Error};
use crate::guest::Guest;
use crate::invocation::{Account, Usage};
use crate::lane::INLINE_MEMORY;
use crate::linker::Given;
use crate::module::Module;
use crate::system::Grants;
use lease::Slot;
use members::Members;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// A guest that stays, between calls or on one.
pub struct LiveGuest {
    module: Arc<Module>,
    /// The module as it was loaded, where the guest runs one that was made fit for snapshots.
    source: Option<Arc<[u8]>>,
    memory: AtomicU64,
    slot: Mutex<Slot>,
    /// It is to be closed when whoever has it gives it back.
    closing: AtomicBool,
    /// What it uses, and may use, in its whole life.
    account: Arc<Account>,
    members: RwLock<Members>,
    survives_traps: AtomicBool,
    /// The functions of its first member that were called lately.
    functions: Mutex<Vec<Arc<Function>>>,
    /// What its first module was linked with.
    given: Given,
    /// What the guest is given of the system, also when it is made anew: that, or what a member brought.
    grants: Mutex<Option<Arc<Grants>>>,
    /// Counts the times that the guest's state may have changed.
    uses: AtomicU64,
    fork: Mutex<Option<(u64, Arc<Module>)>>,
}

impl std::fmt::Debug for LiveGuest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveGuest").field("module", &self.module).finish_non_exhaustive()
    }
}

impl LiveGuest {
    /// `source` is the module as it was loaded, where the guest runs one that was made fit for snapshots.
    pub(crate) fn new(
        guest: Guest,
        module: Arc<Module>,
        source: Option<Arc<[u8]>>,
        given: Given,
        account: Arc<Account>,
    ) -> Arc<Self> {
        Arc::new(Self {
            module,
            source,
            memory: AtomicU64::new(guest.store.data().memory()),
            slot: Mutex::new(Slot::new(guest)),
            closing: AtomicBool::new(false),
            account,
            members: RwLock::default(),
            survives_traps: AtomicBool::new(false),
            functions: Mutex::default(),
            grants: Mutex::new(given.grants.clone()),
            given,
            uses: AtomicU64::new(0),
            fork: Mutex::new(None),
        })
    }

    /// The module of its first member.
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// What its first member exports as `name`. The guest holds on to a few functions: it finds them sooner, and guests of one
    /// module that are called on several cores do not meet at the module.
    pub fn function(&self, name: &str) -> Result<Arc<Function>, CallError> {
        const MOST: usize = 8;
        let mut functions = self.functions.lock();
        if let Some(function) = functions.iter().find(|function| function.name == name) {
            return Ok(Arc::clone(function));
        }
        let function = Arc::new(self.module.code().function(name)?.apart());
        if functions.len() == MOST {
            functions.clear();
        }
        functions.push(Arc::clone(&function));
        Ok(function)
    }

    /// Whether its memory is small enough for a normal scheduler.
    pub fn is_small(&self) -> bool {
        self.memory.load(Relaxed) <= INLINE_MEMORY
    }

    /// `idle`, `busy`, `poisoned` by an earlier call that left it in a state that is not to be trusted, or `closed`.
    pub fn state(&self) -> &'static str {
        self.slot.lock().name()
    }

    /// Whether it takes no time to drop: the guest is gone, nothing was given or linked to it or made of it, and others hold its
    /// code. Who lets go of that just now may leave the code's end to whoever asks.
    pub fn is_bare(&self) -> bool {
        self.slot.lock().is_closed()
            && Arc::strong_count(&self.module) > 1
            && self.given.sources.is_none()
            && self.grants.lock().is_none()
            && self.fork.lock().is_none()
            && !self.members.read().any()
    }

    /// From now on a call that ends in a trap, an uncaught exception or an exhausted stack leaves the guest usable, with
    /// what the call had done so far, as the specification has it. Without this it leaves the guest poisoned.
    pub fn survive_traps(&self) {
        self.survives_traps.store(true, Relaxed);
    }

    /// What its first module was linked with, and is again when the guest is made anew.
    pub(crate) fn given(&self) -> &Given {
        &self.given
    }

    pub(crate) fn grants(&self) -> Option<Arc<Grants>> {
        self.grants.lock().clone()
    }

    /// Gives the guest its share of the system, if it has none: one for all of its members, so that another that wants
    /// other things is refused.
    pub(crate) fn grant(&self, grants: Arc<Grants>) -> Result<Option<Arc<Grants>>, CallError> {
        let mut own = self.grants.lock();
        match &*own {
            None => Ok(Some(Arc::clone(own.insert(grants)))),
            Some(given) if given.same(&grants) => Ok(None),
            Some(_) => Err(CallError::OtherGrants),
        }
    }

    /// Does something with the guest while nobody else has it, which leaves it as sound as it was.
    pub(crate) fn idle<T>(self: &Arc<Self>, work: impl FnOnce(&mut Guest) -> Result<T, Error>) -> Result<T, Error> {
        let mut lease = self.lease()?;
        self.account.check_time()?;
        let result = lease.look().and_then(work);
        lease.give_back(true);
        result
    }

    /// Counts a change of the guest's state.
    pub(crate) fn used(&self) {
        self.uses.fetch_add(1, Relaxed);
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// What it has used in its whole life, from the time that it began to be made.
    pub fn usage(&self) -> Usage {
        let metered = self.module.code().engine().config().metering == Metering::Fuel;
        self.account.usage(metered)
    }

    // Snapshots

    /// How often its state may have changed: between two equal answers it has not.
    pub fn uses(&self) -> u64 {
        self.uses.load(Relaxed)
    }

    /// The module of the last fork, if the state has not changed since: see [`crate::execution::Execution::fork`].
    pub fn fork(&self) -> Option<Arc<Module>> {
        let fork = self.fork.lock();
        fork.as_ref().filter(|(uses, _)| *uses == self.uses()).map(|(_, module)| Arc::clone(module))
    }

    /// Keeps the module of a snapshot that was made after so many uses.
    pub(crate) fn keep_fork(&self, uses: u64, module: &Arc<Module>) {
        *self.fork.lock() = Some((uses, Arc::clone(module)));
    }

    /// Why no snapshot of it can be made, other than what its module says.
    pub(crate) fn check_snapshot(&self) -> Result<&Arc<[u8]>, CallError> {
        let refused = |why: &str| CallError::NoSnapshot(why.to_owned());
        let source = self.source.as_ref().ok_or_else(|| refused("the instance was not made with `snapshottable`"))?;
        match self.members.read().any() {
            false => Ok(source),
            true => Err(refused("other modules have been linked to the instance")),
        }
    }
}
