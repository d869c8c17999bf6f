//! Live instances: a guest that stays between calls, on one call at a time. Other modules can join its store as further
//! members, bound to each other by the names that they are registered under.

use crate::engine::{EngineConfig, PoolFull};
use crate::error::{CallError, Error, Limit, LimitError, classify};
use crate::host;
use crate::invocation::{INLINE_MEMORY, Invocation};
use crate::linker::{self, Joining};
use crate::module::{ExternType, Function, Module, kind};
use crate::reaper::reap;
use crate::store::GuestStore;
use crate::value::Value;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use wasmtime::{PoolConcurrencyLimitError, RootScope};

/// A store with its first instance.
pub(crate) struct Live {
    pub(crate) store: GuestStore,
    pub(crate) instance: wasmtime::Instance,
    /// The function that was called last.
    pub(crate) last: Option<(Arc<Function>, wasmtime::Func)>,
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

/// The instances that joined a guest after its first, and the names that imports find members by.
#[derive(Default)]
pub(crate) struct Members {
    joined: Vec<(Arc<Module>, wasmtime::Instance)>,
    names: HashMap<String, MemberId>,
}

impl Members {
    pub(crate) fn named(&self, name: &str) -> Option<MemberId> {
        self.names.get(name).copied()
    }

    /// What joined as `member`; `None` for the first.
    fn get(&self, member: MemberId) -> Option<&(Arc<Module>, wasmtime::Instance)> {
        self.joined.get((member.0 as usize).checked_sub(1)?)
    }

    /// As Wasmtime knows the member; `None` for the first.
    pub(crate) fn handle(&self, member: MemberId) -> Option<wasmtime::Instance> {
        self.get(member).map(|(_, instance)| *instance)
    }

    fn check(&self, member: MemberId) -> Result<(), CallError> {
        let known = member.0 as usize <= self.joined.len();
        if known { Ok(()) } else { Err(CallError::NoSuchMember(member.0)) }
    }

    fn push(&mut self, module: Arc<Module>, instance: wasmtime::Instance) -> MemberId {
        self.joined.push((module, instance));
        MemberId(self.joined.len() as u32)
    }
}

/// A guest between calls, or on one.
pub struct Instance {
    module: Arc<Module>,
    memory: AtomicU64,
    slot: Mutex<Slot>,
    members: RwLock<Members>,
    survives_traps: AtomicBool,
}

enum Slot {
    Idle(Box<Live>),
    Busy,
    Poisoned,
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance").field("module", &self.module).finish_non_exhaustive()
    }
}

impl Instance {
    pub(crate) fn new(live: Live) -> Arc<Self> {
        Arc::new(Self {
            module: Arc::clone(live.module()),
            memory: AtomicU64::new(live.store.data().memory()),
            slot: Mutex::new(Slot::Idle(Box::new(live))),
            members: RwLock::default(),
            survives_traps: AtomicBool::new(false),
        })
    }

    /// The module that it is an instance of: the first member's.
    pub fn module(&self) -> &Arc<Module> {
        &self.module
    }

    /// Whether its memory is small enough for a normal scheduler.
    pub(crate) fn is_small(&self) -> bool {
        self.memory.load(Relaxed) <= INLINE_MEMORY
    }

    /// From now on a call that ends in a trap, an uncaught exception or an exhausted stack leaves the guest usable, with
    /// what the call had done so far, as the specification has it. Without this it leaves the guest poisoned.
    pub fn survive_traps(&self) {
        self.survives_traps.store(true, Relaxed);
    }

    /// The module that `member` is an instance of.
    pub fn member(&self, member: MemberId) -> Result<Arc<Module>, CallError> {
        let members = self.members.read();
        members.check(member)?;
        Ok(Arc::clone(members.get(member).map_or(&self.module, |(module, _)| module)))
    }

    /// Lets later modules import from `member` under `name`. A name that is taken moves: who is bound already stays so.
    pub fn register(&self, name: &str, member: MemberId) -> Result<(), CallError> {
        let mut members = self.members.write();
        members.check(member)?;
        members.names.insert(name.to_owned(), member);
        Ok(())
    }

    /// The member that is registered as `name`.
    pub fn named(&self, name: &str) -> Option<MemberId> {
        self.members.read().named(name)
    }

    /// As Wasmtime knows the member; `None` for the first, which the guest itself knows.
    pub(crate) fn handle(&self, member: MemberId) -> Result<Option<wasmtime::Instance>, CallError> {
        if member == MemberId::FIRST {
            return Ok(None);
        }
        let members = self.members.read();
        members.check(member)?;
        Ok(members.handle(member))
    }

    /// The value of a global that `member` exports.
    pub fn global(self: &Arc<Self>, member: MemberId, name: &str) -> Result<Value, Error> {
        self.check_global(member, name)?;
        let instance = self.handle(member)?;
        let mut lease = self.lease()?;
        let live = lease.live()?;
        let global = instance.unwrap_or(live.instance).get_global(&mut live.store, name);
        let mut scope = RootScope::new(&mut live.store);
        let value = global.map(|global| global.get(&mut scope)).map(|value| Value::take(&value, &mut scope));
        drop(scope);
        lease.give_back(true);
        let value = value.ok_or_else(|| Error::Internal("a global export is gone".into()))?;
        value.map_err(Error::internal)
    }

    fn check_global(&self, member: MemberId, name: &str) -> Result<(), CallError> {
        let module = self.member(member)?;
        match module.wasmtime.get_export(name) {
            Some(ExternType::Global(_)) => Ok(()),
            Some(other) => {
                Err(CallError::WrongExportKind { name: name.to_owned(), expected: "global", found: kind(&other) })
            }
            None => Err(module.no_such_export(name, "global")),
        }
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

    /// Instantiates a module in the store of this guest, which the caller has leased as `live`.
    pub(crate) async fn join(&self, live: &mut Live, joining: Joining) -> Result<MemberId, Error> {
        let (ours, theirs) = (live.module().engine(), joining.module.engine());
        if !Arc::ptr_eq(ours, theirs) {
            return Err(other_engine(ours.config(), theirs.config()).into());
        }
        let imports = linker::resolve(&mut live.store, &self.members.read(), live.instance, &joining)?;
        let module = joining.module;
        live.store.data_mut().add_member(&module, joining.place).await?;
        let result = wasmtime::Instance::new_async(&mut live.store, &module.wasmtime, &imports).await;
        match result {
            Ok(instance) => Ok(self.members.write().push(module, instance)),
            Err(error) if error.is::<PoolConcurrencyLimitError>() => Err(LimitError::from(PoolFull).into()),
            Err(error) => {
                host::forget_exception(&mut live.store, &error);
                Err(classify(error, &live.store.data().invocation, &module))
            }
        }
    }

    /// Takes the guest for one call.
    pub(crate) fn lease(self: &Arc<Self>) -> Result<Lease, CallError> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut *slot, Slot::Busy) {
            Slot::Idle(live) => Ok(Lease { instance: Arc::clone(self), live: Some(live), used: false }),
            Slot::Busy => Err(CallError::Busy),
            Slot::Poisoned => {
                *slot = Slot::Poisoned;
                Err(CallError::Poisoned)
            }
        }
    }
}

fn other_engine(ours: &EngineConfig, theirs: &EngineConfig) -> CallError {
    CallError::OtherEngine { ours: format!("{ours:?}"), theirs: format!("{theirs:?}") }
}

/// The guest while a call has it. Dropped in mid-call, it leaves the instance poisoned.
pub(crate) struct Lease {
    instance: Arc<Instance>,
    live: Option<Box<Live>>,
    used: bool,
}

impl Lease {
    pub(crate) fn live(&mut self) -> Result<&mut Live, Error> {
        self.used = true;
        self.live.as_deref_mut().ok_or_else(|| Error::Internal("the lease is over".into()))
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
        *self.instance.slot.lock() = Slot::Idle(live);
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
        if let Some(live) = self.live.take() {
            *self.instance.slot.lock() = Slot::Poisoned;
            reap(live);
        }
    }
}
