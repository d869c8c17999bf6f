//! Guests: making a fresh one, and calling its functions.

use crate::callee::Callee;
use crate::engine::{Allocation, EngineConfig, POOL_TABLE_ELEMENTS, PoolFull};
use crate::error::{CallError, Error, classify};
use crate::host;
use crate::instance::{Live, MemberId};
use crate::invocation::Invocation;
use crate::limits::{Ceilings, Limits, Place};
use crate::module::{Function, Module};
use crate::runtime::Runtime;
use crate::store::{self, GuestStore, StoreData};
use crate::value::Value;
use crate::wasi::{Grants, Wasi};
use std::sync::Arc;
use wasmtime::InstancePre;

/// Which form of a module a guest runs.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// As it was loaded.
    Loaded,
    /// Made fit for snapshots.
    Instrumented,
}

async fn compiled((module, kind): (&Arc<Module>, Kind), config: EngineConfig) -> Result<Arc<Module>, Error> {
    match kind {
        Kind::Loaded => Runtime::variant(module, config).await,
        Kind::Instrumented => Runtime::instrumented(module, config).await,
    }
}

/// Limits beyond what a pool's slots hold need an engine without a pool.
pub(super) fn allocate_for(mut config: EngineConfig, limits: &Limits) -> EngineConfig {
    const SLOT: u64 = 4 << 30;
    if limits.max_table_elements > POOL_TABLE_ELEMENTS || limits.max_memory > SLOT {
        config.allocation = Allocation::OnDemand;
    }
    config
}

pub(super) async fn queue(ceilings: &Ceilings, weight: u32, invocation: &Invocation) -> Result<Place, Error> {
    match ceilings.try_place(weight) {
        // One that counts as more guests than there may be would only keep the others waiting behind it.
        Err(_) if !invocation.limits.wait.is_zero() && ceilings.could_hold(weight) => {
            Ok(queueing(invocation, ceilings.place(weight)).await?)
        }
        place => Ok(place?),
    }
}

/// A fresh guest of `module` on an engine of `config`, or on its on-demand sibling while the pool is full.
pub(super) async fn instantiate(
    (module, kind): (&Arc<Module>, Kind),
    (config, wasi): (EngineConfig, Option<&Grants>),
    runtime: &Arc<Runtime>,
    invocation: &Arc<Invocation>,
) -> Result<Live, Error> {
    let place = queue(runtime.ceilings(), module.weight(), invocation).await?;
    invocation.turn.take().await;
    let variant = compiled((module, kind), config).await?;
    match try_instantiate((&variant, wasi), runtime, invocation, place).await {
        Err(error) if error.is::<PoolFull>() || error.is::<wasmtime::PoolConcurrencyLimitError>() => {
            let place = queue(runtime.ceilings(), module.weight(), invocation).await?;
            let sibling = EngineConfig { allocation: Allocation::OnDemand, ..config };
            let variant = compiled((module, kind), sibling).await?;
            let live = try_instantiate((&variant, wasi), runtime, invocation, place).await;
            live.map_err(|error| classify(error, invocation, &variant))
        }
        live => live.map_err(|error| classify(error, invocation, &variant)),
    }
}

/// The module is linked with WASI if it has grants of its own; the guest's system is made of these.
pub(super) async fn try_instantiate(
    (module, wasi): (&Arc<Module>, Option<&Grants>),
    runtime: &Runtime,
    invocation: &Arc<Invocation>,
    place: Place,
) -> wasmtime::Result<Live> {
    let linked = module.linked(wasi)?;
    let mut store = store::new(module, invocation, runtime.ceilings(), place)?;
    store::begin(&mut store, invocation)?;
    if let Some(grants) = wasi {
        store.data_mut().wasi = Some(Wasi::new(grants, invocation, runtime.ceilings()).await?);
    }
    store.data_mut().add_instance(module).await.map_err(Error::from)?;
    let instance = start(&linked, &mut store, module).await;
    if instance.is_err() {
        store::end(&store, invocation);
    }
    Ok(Live { instance: instance?, store, last: None })
}

async fn start(
    linked: &InstancePre<StoreData>,
    store: &mut GuestStore,
    module: &Module,
) -> wasmtime::Result<wasmtime::Instance> {
    let instance = linked.instantiate_async(&mut *store).await?;
    store.data_mut().started(MemberId::FIRST, instance);
    initialize(store, instance, module).await?;
    Ok(instance)
}

/// Calls what a reactor wants called first.
pub(crate) async fn initialize(
    store: &mut GuestStore,
    instance: wasmtime::Instance,
    module: &Module,
) -> wasmtime::Result<()> {
    let Some(initializer) = module.initializer() else { return Ok(()) };
    let function = instance.get_module_export(&mut *store, initializer).and_then(wasmtime::Extern::into_func);
    let function = function.ok_or_else(|| Error::Internal("a function export is gone".into()))?;
    let initialized = Box::pin(function.typed::<(), ()>(&store)?.call_async(&mut *store, ())).await;
    initialized.inspect_err(|error| host::forget_exception(&mut *store, error))
}

/// Waits for a turn, for as long as the limits say.
pub(super) async fn queueing<T>(invocation: &Invocation, turn: impl Future<Output = T>) -> T {
    invocation.set_queueing(true);
    let turn = turn.await;
    invocation.set_queueing(false);
    turn
}

impl Live {
    /// `function` of `asked` in the module that this guest really runs, which may be a variant.
    pub(super) fn function(&self, asked: &Arc<Module>, function: &Arc<Function>) -> Result<Arc<Function>, CallError> {
        match Arc::ptr_eq(asked, self.module()) {
            true => Ok(Arc::clone(function)),
            false => self.module().function(&function.name),
        }
    }

    /// Calls the guest's first instance, or another `member`.
    pub(super) async fn call(
        &mut self,
        member: Option<wasmtime::Instance>,
        function: &Arc<Function>,
        args: Vec<Value>,
    ) -> Result<Vec<Value>, Error> {
        self.store.data_mut().called = function.exported_again.then(|| member.unwrap_or(self.instance));
        let Some(member) = member else {
            self.keep(function)?;
            let Some((_, callee)) = &self.last else { return Err(Error::Internal("a function is not kept".into())) };
            return host::invoke(&mut self.store, callee, function, args).await;
        };
        let callee = self.find(member, function)?;
        host::invoke(&mut self.store, &callee, function, args).await
    }

    /// Finding a function takes time, so that of the first instance's last is kept.
    fn keep(&mut self, function: &Arc<Function>) -> Result<(), Error> {
        if !self.last.as_ref().is_some_and(|(last, _)| Arc::ptr_eq(last, function)) {
            self.last = Some((Arc::clone(function), self.find(self.instance, function)?));
        }
        Ok(())
    }

    fn find(&mut self, instance: wasmtime::Instance, function: &Function) -> Result<Callee, Error> {
        let export = instance.get_module_export(&mut self.store, &function.export);
        let func = export.and_then(wasmtime::Extern::into_func);
        let func = func.ok_or_else(|| Error::Internal("a function export is gone".into()))?;
        Ok(Callee::new(&mut self.store, func, function))
    }
}
