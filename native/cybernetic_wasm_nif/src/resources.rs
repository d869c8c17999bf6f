//! What Elixir holds references to. Destructors run on whichever scheduler collects garbage, so they only hand what they
//! hold to the core's reaper.

use crate::terms::handle::{Held, away};
use crate::terms::kept::KeptTerm;
use cybernetic_wasm_core::Cancel;
use cybernetic_wasm_core::abi::Abi;
use cybernetic_wasm_core::execution::Execution;
use cybernetic_wasm_core::folder::Lock;
use cybernetic_wasm_core::instance::Instance;
use cybernetic_wasm_core::kernel::Settings;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::live::LiveGuest;
use cybernetic_wasm_core::member::MemberId;
use cybernetic_wasm_core::module::Module;
use cybernetic_wasm_core::reaper::reap;
use cybernetic_wasm_core::value::{FuncRef, HostRef};
use cybernetic_wasm_core::wit;
use parking_lot::Mutex;
use rustler::{Decoder, Env, LocalPid, Monitor, NifResult, Resource, ResourceArc, Term};
use std::sync::{Arc, Weak};

pub(crate) struct ModuleResource(pub(crate) Arc<Module>);

#[rustler::resource_impl]
impl Resource for ModuleResource {}

impl Held for ModuleResource {
    const ELSEWHERE: &'static str = "a module is only good in the VM that loaded it";
    const ADVICE: &'static str = "load it here as well, with Cybernetic.WASM.Runtime.load_module/2";
}

impl Drop for ModuleResource {
    fn drop(&mut self) {
        reap(Arc::clone(&self.0));
    }
}

/// A live guest. Which of its members is meant is told beside it.
pub(crate) struct GuestResource(pub(crate) Arc<LiveGuest>);

#[rustler::resource_impl]
impl Resource for GuestResource {
    /// The process has ended that the guest was there for.
    fn down<'a>(&'a self, _env: Env<'a>, _pid: LocalPid, _monitor: Monitor) {
        self.0.finish();
    }
}

impl GuestResource {
    pub(crate) fn instance(&self, member: u32) -> Instance<'_> {
        Instance { guest: &self.0, member: MemberId(member) }
    }
}

impl Held for GuestResource {
    const ELSEWHERE: &'static str = "an instance is only good in the VM that made it";
    const ADVICE: &'static str = "call it there, with :erpc.call/4 for example, or load a snapshot of it here (Cybernetic.WASM.Instance.snapshot/2)";
}

impl Drop for GuestResource {
    /// To wake the reaper takes longer than most instances do.
    fn drop(&mut self) {
        if !self.0.is_bare() {
            reap(Arc::clone(&self.0));
        }
    }
}

/// The lock is for two processes that step one execution by mistake; nobody ever waits for it.
/// The flag says whether to tell what a call used when it ends well. Last is the live guest that it runs on, if on any.
pub(crate) struct ExecutionResource(pub(crate) Mutex<Execution>, pub(crate) bool, Option<Weak<LiveGuest>>);

impl ExecutionResource {
    pub(crate) fn new(execution: Execution, report: bool) -> Self {
        let live = execution.live().map(Arc::downgrade);
        Self(Mutex::new(execution), report, live)
    }
}

/// Whether what Elixir has a reference to is kept alive by whoever has `reference`: a live guest, or an execution of one. Were
/// it given to the guest, that would keep itself alive.
pub(crate) fn holds<'a>(reference: Term<'a>, owner: Term<'a>) -> bool {
    reference == owner || guest_of(reference).zip(guest_of(owner)).is_some_and(|(one, other)| one.ptr_eq(&other))
}

fn guest_of(term: Term<'_>) -> Option<Weak<LiveGuest>> {
    match term.decode::<ResourceArc<GuestResource>>() {
        Ok(guest) => Some(Arc::downgrade(&guest.0)),
        Err(_) => term.decode::<ResourceArc<ExecutionResource>>().ok()?.2.clone(),
    }
}

#[rustler::resource_impl]
impl Resource for ExecutionResource {}

impl Held for ExecutionResource {
    const ELSEWHERE: &'static str = "a context is only good in the VM where its host function runs";
    const ADVICE: &'static str = "have that process use it";
}

/// Bytes that are a binary where they are.
pub(crate) struct BytesResource(pub(crate) Vec<u8>);

#[rustler::resource_impl]
impl Resource for BytesResource {}

impl Drop for BytesResource {
    /// So much is unmapped, which takes longer than to send it.
    fn drop(&mut self) {
        const MUCH: usize = 4 << 20;
        if self.0.len() >= MUCH {
            reap(std::mem::take(&mut self.0));
        }
    }
}

/// An execution that Elixir has a reference to, and that reference: it goes back as it came, and borrowing costs less than
/// counting one more holder.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) execution: &'a ExecutionResource,
    pub(crate) term: Term<'a>,
}

impl<'a> Decoder<'a> for Known<'a> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        match term.decode() {
            Ok(execution) => Ok(Self { execution, term }),
            Err(_) => Err(away::<ExecutionResource>(term)),
        }
    }
}

/// Ends the executions that were begun with it, for the reason that it then keeps.
#[derive(Default)]
pub(crate) struct CancelResource(pub(crate) Arc<Cancel>, pub(crate) Mutex<Option<KeptTerm>>);

#[rustler::resource_impl]
impl Resource for CancelResource {}

/// What answers a member's host calls, for as long as somebody holds this.
pub(crate) struct HostResource(#[expect(dead_code, reason = "held, not read")] pub(crate) HostRef);

#[rustler::resource_impl]
impl Resource for HostResource {}

/// The limits of calls without options of their own.
pub(crate) struct OptionsResource(pub(crate) Limits);

#[rustler::resource_impl]
impl Resource for OptionsResource {}

/// What a plugin made for Extism is given.
pub(crate) struct KernelResource(pub(crate) Arc<Settings>);

#[rustler::resource_impl]
impl Resource for KernelResource {}

/// How bytes are passed.
pub(crate) struct AbiResource(pub(crate) Arc<Abi>);

#[rustler::resource_impl]
impl Resource for AbiResource {}

impl Held for AbiResource {
    const ELSEWHERE: &'static str = "an ABI is only good in the VM that made it";
    const ADVICE: &'static str = "make it there, with Cybernetic.WASM.ABI.new/1";
}

pub(crate) struct FuncRefResource(pub(crate) FuncRef);

#[rustler::resource_impl]
impl Resource for FuncRefResource {}

/// A resource of a guest's. To let go of it takes no time: the guest drops it when it is next called.
pub(crate) struct OwnedResource(pub(crate) Arc<wit::Handle>);

#[rustler::resource_impl]
impl Resource for OwnedResource {}

impl Held for OwnedResource {
    const ELSEWHERE: &'static str = "a resource is only good in the VM where its instance lives";
    const ADVICE: &'static str = "use it there";
}

/// The lock on a folder, until somebody lets go of it. Letting go takes two short calls of the system.
pub(crate) struct LockResource(pub(crate) Mutex<Option<Lock>>);

#[rustler::resource_impl]
impl Resource for LockResource {}
