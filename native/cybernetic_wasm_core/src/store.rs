//! A guest's store: what it is made with, and the limiter that counts all its memories and tables together.

mod holdings;
mod resources;

use crate::code::Code;
use crate::engine::{Metering, Stack};
use crate::error::{Error, Limit, LimitError};
use crate::invocation::Invocation;
use crate::kernel::{Kernel, Part};
use crate::limits::Place;
use crate::member::MemberId;
use crate::system::System;
use crate::value::{Held, HostRef, Storing};
use holdings::Holdings;
use resources::Resources;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use wasmtime::{ResourceLimiterAsync, Store};

/// A funcref or externref element is one pointer wide in Wasmtime's tables.
const TABLE_ELEMENT_BYTES: u64 = size_of::<usize>() as u64;

/// What a store carries.
pub(crate) struct StoreData {
    id: u64,
    pub(crate) invocation: Arc<Invocation>,
    /// What the guest's first instance runs.
    pub(crate) code: Arc<Code>,
    /// The guest's share of the system, where it has one.
    pub(crate) system: Option<Box<System>>,
    /// What it has as a plugin.
    kernel: Option<Box<Kernel>>,
    memory: u64,
    holdings: Holdings,
    table_elements: u64,
    instances: u64,
    /// Fuel between two yields.
    yield_fuel: u64,
    _place: Place,
    _stack: Stack,
    /// What the members after the first run, and their places.
    joined: Vec<(Arc<Code>, Place)>,
    /// Those that have been instantiated, and whether they have done all that they start with.
    members: Vec<(MemberId, wasmtime::Instance, bool)>,
    /// A program's entry has been called.
    pub(crate) entered: bool,
    /// The instance whose export the embedder calls just now, where that is a function that it imports itself.
    pub(crate) called: Option<wasmtime::Instance>,
    /// The component that it is, once that has started.
    pub(crate) component: Option<wasmtime::component::Instance>,
    /// A component's resources.
    pub(crate) resources: Resources,
}

pub(crate) type GuestStore = Store<StoreData>;

/// A store for one guest of `code`, metered for `invocation`.
pub(crate) fn new(code: &Arc<Code>, invocation: &Arc<Invocation>, place: Place) -> wasmtime::Result<GuestStore> {
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    let engine = code.engine();
    let stack = engine.guest_stack().map_err(wasmtime::Error::new)?;
    code.enter();
    let id = NEXT_ID.fetch_add(1, Relaxed);
    let data = StoreData {
        id,
        invocation: Arc::clone(invocation),
        code: Arc::clone(code),
        system: None,
        kernel: None,
        memory: 0,
        holdings: Holdings::default(),
        table_elements: 0,
        instances: 0,
        yield_fuel: code.yield_fuel(),
        _place: place,
        _stack: stack,
        joined: Vec::new(),
        members: Vec::new(),
        entered: false,
        called: None,
        component: None,
        resources: Resources::new(id),
    };
    let mut store = Store::try_new(&engine.wasmtime, data)?;
    store.limiter_async(|data| data);
    match engine.config().metering {
        Metering::Fuel => store.fuel_async_yield_interval(Some(code.yield_fuel()))?,
        Metering::Epoch => store.epoch_deadline_async_yield_and_update(1),
    }
    Ok(store)
}

/// Begins an invocation on a store: its fuel, its first slice.
pub(crate) fn begin(store: &mut GuestStore, invocation: &Arc<Invocation>) -> Result<(), Error> {
    match store.data().metering() {
        Metering::Fuel => store.set_fuel(invocation.allot_fuel()).map_err(Error::internal)?,
        Metering::Epoch => store.set_epoch_deadline(1),
    }
    // It bounds each pass of values by itself: nothing is used up.
    store.set_hostcall_fuel(usize::try_from(invocation.limits.max_transfer).unwrap_or(usize::MAX));
    if store.data().code.is_component() {
        store.set_max_component_handles(usize::try_from(invocation.limits.max_resources).unwrap_or(usize::MAX));
    }
    let data = store.data_mut();
    invocation.saw_memory(data.memory());
    invocation.yields_every(data.yield_fuel);
    data.invocation = Arc::clone(invocation);
    if let Some(system) = &data.system {
        system.begin(invocation);
    }
    Ok(())
}

/// Before code joins that of the guest, which may have to yield more often.
pub(crate) fn make_room(store: &mut GuestStore, code: &Code) -> Result<(), Error> {
    let every = code.yield_fuel();
    if every < store.data().yield_fuel {
        store.data_mut().yield_fuel = every;
        store.data().invocation.yields_every(every);
        if store.data().metering() == Metering::Fuel {
            store.fuel_async_yield_interval(Some(every)).map_err(Error::internal)?;
        }
    }
    Ok(())
}

/// Ends an invocation: notes the fuel that it used.
pub(crate) fn end(store: &GuestStore, invocation: &Invocation) {
    // Asked of a store without fuel, Wasmtime makes an error with a backtrace, which is dearer than a call.
    if store.data().metering() == Metering::Epoch {
        return;
    }
    if let Ok(left) = store.get_fuel() {
        invocation.set_fuel_used(invocation.allotted_fuel().saturating_sub(left));
    }
}

/// The same of one that was cut off: what it told by then is less.
pub(crate) fn end_cut_off(store: &GuestStore) {
    let invocation = &store.data().invocation;
    if store.data().metering() == Metering::Fuel
        && let Ok(left) = store.get_fuel()
    {
        invocation.charge_at_least(invocation.allotted_fuel().saturating_sub(left));
    }
}

impl Storing for StoreData {
    fn id(&self) -> u64 {
        self.id
    }

    fn hold(&mut self, host: &HostRef) -> Result<Arc<dyn Held>, LimitError> {
        let digest = host.digest();
        if let Some(held) = self.holdings.find(digest, host) {
            return Ok(held);
        }
        let sum = self.sum_with(host.size())?;
        let held = self.holdings.add(digest, Arc::clone(host), self.code.ceilings())?;
        self.invocation.saw_memory(sum);
        Ok(held)
    }
}

impl StoreData {
    fn metering(&self) -> Metering {
        self.code.engine().config().metering
    }

    /// Notes an instance, which may still have something to start with.
    pub(crate) fn instantiated(&mut self, member: MemberId, instance: wasmtime::Instance) {
        self.members.push((member, instance, false));
    }

    /// Notes that a member has started.
    pub(crate) fn started(&mut self, member: MemberId) {
        if let Some(known) = self.members.iter_mut().find(|known| known.0 == member) {
            known.2 = true;
        }
    }

    /// The instance that `member` is, also while it starts, or when that has failed: its functions may be in a table.
    pub(crate) fn instance(&self, member: MemberId) -> Option<wasmtime::Instance> {
        self.members.iter().find(|known| known.0 == member).map(|known| known.1)
    }

    /// The instance that `member` is, once it has started.
    pub(crate) fn started_instance(&self, member: MemberId) -> Option<wasmtime::Instance> {
        self.members.iter().find(|known| known.0 == member && known.2).map(|known| known.1)
    }

    /// Bytes of the guest's memories and tables, and of what it holds of the embedder's.
    pub(crate) fn memory(&self) -> u64 {
        self.memory.saturating_add(self.holdings.bytes())
    }

    /// What these would be with `bytes` more, if the guest may have them.
    fn sum_with(&self, bytes: u64) -> Result<u64, LimitError> {
        let (sum, allowed) = (self.memory().saturating_add(bytes), self.invocation.limits.max_memory);
        if sum > allowed { Err(LimitError::new(Limit::Memory, allowed, sum)) } else { Ok(sum) }
    }

    /// Counts one more instance. One that fails to start stays in the store: what it wrote into tables may live on.
    pub(crate) async fn add_instance(&mut self, code: &Code) -> Result<(), LimitError> {
        let (sum, allowed) = (self.instances + 1, self.invocation.limits.max_instances);
        if sum > allowed {
            return Err(LimitError::new(Limit::Instances, allowed, sum));
        }
        self.instances = sum;
        match code.instance_bytes() {
            0 => Ok(()),
            bytes => self.grow(bytes).await,
        }
    }

    /// Counts an instance that joins the first, in a place of its own.
    pub(crate) async fn add_member(&mut self, code: &Arc<Code>, place: Place) -> Result<(), LimitError> {
        self.add_instance(code).await?;
        code.enter();
        self.joined.push((Arc::clone(code), place));
        Ok(())
    }

    /// What the instances run that have been made here.
    pub(crate) fn codes(&self) -> impl Iterator<Item = &Arc<Code>> {
        std::iter::once(&self.code).chain(self.joined.iter().map(|(code, _)| code))
    }

    /// Counts `bytes` more, or says which ceiling refuses them.
    async fn grow(&mut self, bytes: u64) -> Result<(), LimitError> {
        let sum = self.sum_with(bytes)?;
        self.code.ceilings().memory_counter().reserve(bytes)?;
        self.memory += bytes;
        self.invocation.saw_memory(sum);
        self.invocation.leave_inline_for(sum).await;
        Ok(())
    }

    /// Makes the guest a plugin's.
    pub(crate) fn give_kernel(&mut self, kernel: Kernel) {
        self.kernel = Some(Box::new(kernel));
    }

    /// What it has as a plugin.
    pub(crate) fn kernel(&mut self) -> Result<&mut Kernel, Error> {
        self.kernel.as_deref_mut().ok_or_else(|| Error::Internal("a plugin's function in a guest that is none".into()))
    }

    /// A block of a plugin's, which counts as its memory.
    pub(crate) async fn alloc(&mut self, length: u64) -> Result<u64, Error> {
        let kernel = self.kernel()?;
        let lacks = kernel.lacks(length);
        if lacks > 0 {
            let step = kernel.step(lacks);
            let grown = match self.grow(step).await {
                Ok(()) => step,
                Err(_) if step > lacks => self.grow(lacks).await.map(|()| lacks)?,
                Err(error) => return Err(error.into()),
            };
            self.kernel()?.grow(grown)?;
        }
        Ok(self.kernel()?.alloc(length))
    }

    /// A plugin's input.
    pub(crate) async fn receive(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let offset = self.put(bytes).await?;
        self.kernel()?.input = Part { offset, length: bytes.len() as u64 };
        Ok(())
    }

    /// The same with these bytes in it.
    pub(crate) async fn put(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        let offset = self.alloc(bytes.len() as u64).await?;
        if !bytes.is_empty() {
            self.kernel()?.part_mut(Part { offset, length: bytes.len() as u64 })?.copy_from_slice(bytes);
        }
        Ok(offset)
    }

    fn answer(&self, result: Result<(), LimitError>) -> bool {
        result.map_err(|error| self.invocation.refuse(error)).is_ok()
    }
}

impl Drop for StoreData {
    fn drop(&mut self) {
        self.code.ceilings().memory_counter().release(self.memory);
        self.codes().for_each(|code| code.leave());
    }
}

/// A refused growth gives the guest -1, as the specification has it; the refusal is remembered, so that a guest which
/// traps because of it fails with the limit and not with its own `unreachable`.
///
/// A growth that was granted stays counted, even where the operating system then refuses it. Wasmtime tells of failed
/// growths, but also of some that it had not asked for before, such as of a table beyond what 64 bits count: a guest that
/// had those taken back for others that it got had as much memory as it liked.
#[async_trait::async_trait]
impl ResourceLimiterAsync for StoreData {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Beyond the module's own maximum Wasmtime refuses by itself, but only after this answer: count nothing for it.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(true);
        }
        let result = self.grow(desired.saturating_sub(current) as u64).await;
        Ok(self.answer(result))
    }

    async fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(true);
        }
        let more = desired.saturating_sub(current) as u64;
        let sum = self.table_elements.saturating_add(more);
        let allowed = self.invocation.limits.max_table_elements;
        let result = match sum <= allowed {
            true => self.grow(more * TABLE_ELEMENT_BYTES).await,
            false => Err(LimitError::new(Limit::TableElements, allowed, sum)),
        };
        if result.is_ok() {
            self.table_elements = sum;
        }
        Ok(self.answer(result))
    }

    fn instances(&self) -> usize {
        // A component is one instance to whoever counts them, and made of several of modules.
        let of_modules = self.code.core_instances().max(1);
        usize::try_from(self.invocation.limits.max_instances.saturating_mul(of_modules)).unwrap_or(usize::MAX)
    }
}
