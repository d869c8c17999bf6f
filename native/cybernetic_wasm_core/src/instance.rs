//! Live instances: a guest that stays between calls, on one call at a time. Other modules can join its store as further
//! members, bound to each other as the embedder says.
//!
//! Whoever uses the guest holds its [`Lease`]. The next in the queue gets the guest handed on, so that nobody who comes
//! later overtakes; one that was dropped in mid-call leaves the instance poisoned until it is reset.

mod lease;
mod members;
mod snapshot;

pub(crate) use lease::Lease;
pub(crate) use snapshot::take as take_snapshot;

use crate::access::{Access, memory_name};
use crate::code::{Code, Function};
use crate::error::{CallError, Error};
use crate::guest::{Guest, carry_out, memory, range};
use crate::lane::INLINE_MEMORY;
use crate::mail::Answer;
use crate::member::MemberId;
use crate::module::Module;
use crate::system::Grants;
use lease::Slot;
use members::Members;
use parking_lot::{Mutex, RwLock};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use wasmtime::{Extern, Memory};

/// A guest between calls, or on one.
pub struct Instance {
    module: Arc<Module>,
    /// What was loaded, where `module` is that made fit for snapshots.
    source: Option<Arc<Code>>,
    memory: AtomicU64,
    slot: Mutex<Slot>,
    members: RwLock<Members>,
    survives_traps: AtomicBool,
    /// What its first module was linked with.
    own_grants: Option<Arc<Grants>>,
    /// What the guest is given of the system, also when it is made anew: that, or what a member brought.
    grants: Mutex<Option<Arc<Grants>>>,
    /// Counts the times that the guest's state may have changed.
    uses: AtomicU64,
    fork: Mutex<Option<(u64, Arc<Module>)>>,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("module", &self.module).finish_non_exhaustive()
    }
}

impl Instance {
    /// `source` is what was asked for, where the guest runs that made fit for snapshots.
    pub(crate) fn new(
        guest: Guest,
        module: Arc<Module>,
        source: Option<Arc<Code>>,
        grants: Option<Arc<Grants>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            module,
            source,
            memory: AtomicU64::new(guest.store.data().memory()),
            slot: Mutex::new(Slot::new(guest)),
            members: RwLock::default(),
            survives_traps: AtomicBool::new(false),
            own_grants: grants.clone(),
            grants: Mutex::new(grants),
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

    /// Whether a call of `function` may start on a normal scheduler.
    pub fn may_run_inline(&self, function: &Function) -> bool {
        function.warm.is_short() && self.is_small() && !function.passes_references()
    }

    /// `idle`, `busy`, `poisoned` by an earlier call that left it in a state that is not to be trusted, or `closed`.
    pub fn state(&self) -> &'static str {
        self.slot.lock().name()
    }

    /// From now on a call that ends in a trap, an uncaught exception or an exhausted stack leaves the guest usable, with
    /// what the call had done so far, as the specification has it. Without this it leaves the guest poisoned.
    pub fn survive_traps(&self) {
        self.survives_traps.store(true, Relaxed);
    }

    pub(crate) fn own_grants(&self) -> Option<&Grants> {
        self.own_grants.as_deref()
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

    // Looking at an idle guest

    /// Copies out of a memory of an idle guest: `with` gets the bytes in place.
    pub fn read<T>(
        self: &Arc<Self>,
        (member, name): (MemberId, Option<&str>),
        (offset, length): (u64, u64),
        with: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Error> {
        self.with_memory((member, name), |memory, guest| {
            let data = memory.data(&guest.store);
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
        self.with_memory((member, name), |memory, guest| {
            let data = memory.data_mut(&mut guest.store);
            let range = range(offset, bytes.len() as u64, data.len())?;
            data[range].copy_from_slice(bytes);
            Ok(())
        })
    }

    fn with_memory<T>(
        self: &Arc<Self>,
        (member, name): (MemberId, Option<&str>),
        work: impl FnOnce(Memory, &mut Guest) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let code = self.member(member)?;
        let name = memory_name(name, &code);
        self.idle(|guest| {
            let found = export(guest, member, name)?.filter(|_| !code.hides(name));
            work(memory(found, name)?, guest)
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
        let answer = self.member(member).map_err(Error::from).and_then(|code| {
            self.idle(|guest| {
                let work = pin!(look(guest, member, (&code, access)));
                match work.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(answer) => answer,
                    Poll::Pending => Err(Error::Internal("a look at an idle guest has to wait".into())),
                }
            })
        });
        Ok(answer)
    }

    /// Does something with the guest while nobody else has it, which leaves it as sound as it was.
    fn idle<T>(self: &Arc<Self>, work: impl FnOnce(&mut Guest) -> Result<T, Error>) -> Result<T, Error> {
        let mut lease = self.lease()?;
        let result = lease.look().and_then(work);
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
    pub(crate) fn check_snapshot(&self) -> Result<&Arc<Code>, CallError> {
        let refused = |why: &str| CallError::NoSnapshot(why.to_owned());
        let source = self.source.as_ref().ok_or_else(|| refused("the instance was not made with `snapshottable`"))?;
        match self.members.read().any() {
            false => Ok(source),
            true => Err(refused("other modules have been linked to the instance")),
        }
    }
}

/// What `member` of a guest exports as `name`.
fn export(guest: &mut Guest, member: MemberId, name: &str) -> Result<Option<Extern>, CallError> {
    let instance = guest.member(member)?;
    Ok(instance.get_export(&mut guest.store, name))
}

/// Carries out an access to `member` of a guest, which is an instance of `code`.
pub(crate) async fn look(
    guest: &mut Guest,
    member: MemberId,
    (code, access): (&Code, Access),
) -> Result<Answer, Error> {
    let found = export(guest, member, access.export(code))?;
    carry_out(access, code, found, &mut guest.store).await
}
