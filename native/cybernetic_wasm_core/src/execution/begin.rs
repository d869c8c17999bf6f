//! How each kind of execution begins: what its future will do, and with what limits.

use super::guest::{Kind, allocate_for, instantiate, queue, queueing, try_instantiate};
use super::{Execution, Paced, Product};
use crate::access::Access;
use crate::engine::{EngineConfig, Metering};
use crate::error::{CallError, Error, classify};
use crate::instance::{Instance, Lease, Live, MemberId};
use crate::invocation::{Invocation, later};
use crate::limits::{Ceilings, Limits, Place};
use crate::linker::{Joining, Source};
use crate::module::{Function, Module};
use crate::runtime::Runtime;
use crate::snapshot;
use crate::store;
use crate::value::Value;
use crate::wasi::{Grants, Wasi};
use quanta::Instant;
use std::sync::Arc;
use std::time::Duration;

/// What a guest is made with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What it may use.
    pub limits: Limits,
    /// The engine that it runs on.
    pub engine: EngineConfig,
    /// What it is given of the system: without this its module may not import WASI.
    pub wasi: Option<Arc<Grants>>,
}

impl From<(Limits, EngineConfig)> for Setup {
    fn from((limits, engine): (Limits, EngineConfig)) -> Self {
        Self { limits, engine, wasi: None }
    }
}

/// Places in [`Function::pace`].
pub(super) const FRESH: usize = 0;
pub(super) const WARM: usize = 1;

impl Execution {
    /// A call in a fresh instance of `module`, on an engine of `config`.
    pub fn call(
        module: &Arc<Module>,
        function: &Arc<Function>,
        args: Vec<Value>,
        setup: impl Into<Setup>,
    ) -> Result<Self, Error> {
        let Setup { limits, engine, wasi } = setup.into();
        let runtime = runtime_of(module)?;
        let invocation = Invocation::new(limits, runtime.ceilings());
        let config = allocate_for(engine, &invocation.limits);
        let (module, function) = (Arc::clone(module), Arc::clone(function));
        let mut execution = Self::metered(&runtime, config.metering, &invocation);
        execution.module = Some(Arc::clone(&module));
        execution.paced = Some(Paced::Function(Arc::clone(&function), FRESH));
        execution.work = Some(Box::pin(async move {
            let mut live =
                instantiate((&module, Kind::Loaded), (config, wasi.as_deref()), &runtime, &invocation).await?;
            let function = live.function(&module, &function)?;
            let result = live.call(None, &function, args).await;
            store::end(&live.store, &invocation);
            result.map(Product::Values)
        }));
        Ok(execution)
    }

    /// An instance of `module` that lives on; its start function runs under `limits`. One that is `snapshottable` runs
    /// a module that exports all of its state.
    pub fn instantiate(module: &Arc<Module>, snapshottable: bool, setup: impl Into<Setup>) -> Result<Self, Error> {
        let Setup { limits, engine, wasi } = setup.into();
        let runtime = runtime_of(module)?;
        let invocation = Invocation::new(limits, runtime.ceilings());
        let config = allocate_for(engine, &invocation.limits);
        let module = Arc::clone(module);
        let mut execution = Self::metered(&runtime, config.metering, &invocation);
        execution.module = Some(Arc::clone(&module));
        execution.paced = Some(Paced::Making(Arc::clone(&module)));
        execution.work = Some(Box::pin(async move {
            let source = snapshottable.then(|| Arc::clone(&module));
            let kind = if snapshottable { Kind::Instrumented } else { Kind::Loaded };
            let live = instantiate((&module, kind), (config, wasi.as_deref()), &runtime, &invocation).await?;
            store::end(&live.store, &invocation);
            Ok(Product::Instance(Instance::new(live, source, wasi)))
        }));
        Ok(execution)
    }

    /// A call on a live instance, which is busy until it ends.
    pub fn call_instance(
        instance: &Arc<Instance>,
        function: &Arc<Function>,
        args: Vec<Value>,
        limits: Limits,
    ) -> Result<Self, Error> {
        Self::call_member(instance, (MemberId::FIRST, function), args, limits)
    }

    /// A call of a function that one of a live guest's members exports: `function` is from [`Instance::member`]'s module.
    pub fn call_member(
        instance: &Arc<Instance>,
        (member, function): (MemberId, &Arc<Function>),
        args: Vec<Value>,
        limits: Limits,
    ) -> Result<Self, Error> {
        let mut execution = Self::on(instance, limits)?;
        execution.paced = Some(Paced::Function(Arc::clone(function), WARM));
        execution.leased(instance, OnLive::Call { member, function: Arc::clone(function), args })?;
        Ok(execution)
    }

    /// An access to an idle guest that may take time: growing a memory, making a reference.
    pub fn access(instance: &Arc<Instance>, member: MemberId, access: Access, limits: Limits) -> Result<Self, Error> {
        let mut execution = Self::on(instance, limits)?;
        execution.leased(instance, OnLive::Access { member, access })?;
        Ok(execution)
    }

    /// One more instance in a live guest, at the place that [`Instance::reserve`] gave. Each of the module's imports is
    /// bound to its source. Its start function runs under `limits`.
    pub fn link(
        instance: &Arc<Instance>,
        member: MemberId,
        (module, sources): (&Arc<Module>, Vec<Source>),
        setup: impl Into<Setup>,
    ) -> Result<Self, Error> {
        let Setup { limits, engine, wasi } = setup.into();
        let mut execution = Self::on(instance, limits)?;
        let (runtime, config) = (runtime_of(module)?, instance.engine_for(engine)?);
        execution.wait_for_instance();
        let invocation = Arc::clone(&execution.invocation);
        let (module, instance) = (Arc::clone(module), Arc::clone(instance));
        execution.work = Some(Box::pin(async move {
            let place = queue(runtime.ceilings(), module.weight(), &invocation).await?;
            let module = Runtime::variant(&module, config).await?;
            let joining = Joining { module, member, sources: sources.into() };
            let lease = match now_or_later(instance.lease(), &invocation)? {
                Some(lease) => lease,
                None => queueing(&invocation, instance.queue()).await?,
            };
            run_leased(lease, OnLive::Join { joining, place, wasi }, invocation).await
        }));
        Ok(execution)
    }

    /// Makes a live instance anew, in its module's initial state, and with it the members that had joined. The guest that
    /// was there gives its place up first.
    pub fn reset(instance: &Arc<Instance>, limits: Limits) -> Result<Self, Error> {
        let mut execution = Self::on(instance, limits)?;
        let runtime = runtime_of(instance.module())?;
        let invocation = Arc::clone(&execution.invocation);
        let lease = now_or_later(instance.lease_to_reset(), &invocation)?;
        match lease {
            Some(_) => execution.wait_for_reaper(instance.module().ceilings()),
            None => execution.wait_for_instance(),
        }
        let instance = Arc::clone(instance);
        execution.work = Some(Box::pin(async move {
            let mut lease = match lease {
                Some(lease) => lease,
                None => queueing(&invocation, instance.queue_to_reset()).await?,
            };
            invocation.set_lease(lease.number());
            // One that was cut off gives its place up when the reaper has unwound it.
            let cut_off = lease.is_empty();
            lease.clear();
            let module = instance.module();
            let place = match cut_off {
                true => queueing(&invocation, runtime.ceilings().place(module.weight())).await?,
                false => queue(runtime.ceilings(), module.weight(), &invocation).await?,
            };
            invocation.turn.take().await;
            let live = try_instantiate((module, instance.own_grants()), &runtime, &invocation, place).await;
            lease.renew(live.map_err(|error| classify(error, &invocation, module))?);
            // Those that a member brought, where the first had none.
            if let (None, Some(grants)) = (instance.own_grants(), instance.grants()) {
                let wasi = Wasi::new(&grants, &invocation, runtime.ceilings()).await?;
                lease.look()?.store.data_mut().wasi = Some(wasi);
            }
            for joining in instance.joinings() {
                let place = queue(runtime.ceilings(), joining.module.weight(), &invocation).await?;
                instance.join(lease.live()?.1, joining, place).await?;
            }
            store::end(&lease.look()?.store, &invocation);
            lease.give_back(true);
            Ok(Product::Reset)
        }));
        Ok(execution)
    }

    /// A module whose initial state is what this instance's is now, made on a thread of ours.
    pub fn snapshot(instance: &Arc<Instance>, limits: Limits) -> Result<Self, Error> {
        let mut execution = Self::on(instance, limits)?;
        let runtime = runtime_of(instance.module())?;
        let source = Arc::clone(instance.check_snapshot()?);
        let lease = now_or_later(instance.lease(), &execution.invocation)?;
        execution.wait_for_instance();
        let (instance, invocation) = (Arc::clone(instance), Arc::clone(&execution.invocation));
        execution.work = Some(Box::pin(async move {
            let lease = match lease {
                Some(lease) => lease,
                None => queueing(&invocation, instance.queue()).await?,
            };
            let uses = instance.uses();
            let snapshot = runtime.compute(move || snapshot::take(&source, lease)).await?;
            snapshot.map(|wasm| Product::Snapshot(wasm, uses))
        }));
        Ok(execution)
    }

    /// Work on a live guest that this execution has leased, for whose turn it waits if its limits say so.
    fn leased(&mut self, instance: &Arc<Instance>, work: OnLive) -> Result<(), Error> {
        let invocation = Arc::clone(&self.invocation);
        self.work = Some(match now_or_later(instance.lease(), &invocation)? {
            Some(lease) => Box::pin(run_leased(lease, work, invocation)),
            None => {
                self.wait_for_instance();
                let instance = Arc::clone(instance);
                Box::pin(async move {
                    let lease = queueing(&invocation, instance.queue()).await?;
                    run_leased(lease, work, invocation).await
                })
            }
        });
        Ok(())
    }

    /// What this queues for is the place of a guest that is being unwound, which takes milliseconds.
    fn wait_for_reaper(&mut self, ceilings: &Ceilings) {
        let until = later(self.invocation.started, UNWINDING.max(self.invocation.limits.wait));
        self.patience = Some(Box::new((until, ceilings.full().into())));
    }

    /// What this queues for is an instance that others use.
    fn wait_for_instance(&mut self) {
        if let Some(patience) = &mut self.patience {
            patience.1 = CallError::Busy.into();
        }
    }

    /// An execution on a live guest, with no work yet.
    fn on(instance: &Arc<Instance>, limits: Limits) -> Result<Self, Error> {
        let module = instance.module();
        let metering = module.engine().config().metering;
        let invocation = Invocation::new(limits, module.ceilings());
        let mut execution = match metering {
            Metering::Fuel => Self::new(module.ceilings(), metering, &invocation),
            Metering::Epoch => Self::metered(&*runtime_of(module)?, metering, &invocation),
        };
        execution.module = Some(Arc::clone(module));
        execution.instance = Some(Arc::clone(instance));
        Ok(execution)
    }

    /// A load: see [`Runtime::load`].
    pub fn load(runtime: &Arc<Runtime>, source: &[u8], config: EngineConfig) -> Self {
        let invocation = Invocation::new(LOADING, runtime.ceilings());
        let mut execution = Self::new(runtime.ceilings(), config.metering, &invocation);
        let loading = runtime.begin_load(source, config);
        execution.work = Some(Box::pin(async move { loading.end().await.map(Product::Module) }));
        execution
    }

    /// An execution that runs a guest: one of epochs keeps the ticker going.
    fn metered(runtime: &Runtime, metering: Metering, invocation: &Arc<Invocation>) -> Self {
        let mut execution = Self::new(runtime.ceilings(), metering, invocation);
        execution.ticker = (metering == Metering::Epoch).then(|| Arc::clone(runtime.ticker()));
        execution
    }

    fn new(ceilings: &Ceilings, metering: Metering, invocation: &Arc<Invocation>) -> Self {
        Self {
            work: None,
            invocation: Arc::clone(invocation),
            module: None,
            instance: None,
            cancel: None,
            ticker: None,
            metering,
            paced: None,
            patience: patience(ceilings, invocation),
            failure: None,
            fed: false,
            slice: Duration::ZERO,
            slices: 1,
            last_slice: Duration::ZERO,
            seen: invocation.started,
        }
    }
}

/// How long a reset waits for the guest that was cut off before it. Beyond that the node is full.
const UNWINDING: Duration = Duration::from_secs(2);

/// A load takes as long as compiling takes, and this bound is only there so that everything has one.
const LOADING: Limits = Limits {
    fuel: 0,
    max_memory: 0,
    max_table_elements: 0,
    max_instances: 0,
    time: Duration::from_secs(600),
    max_output: 0,
    max_host_calls: 0,
    wait: Duration::ZERO,
};

fn runtime_of(module: &Arc<Module>) -> Result<Arc<Runtime>, Error> {
    module.runtime.upgrade().ok_or_else(|| Error::Internal("the runtime is gone".into()))
}

fn patience(ceilings: &Ceilings, invocation: &Invocation) -> Option<Box<(Instant, Error)>> {
    let wait = invocation.limits.wait;
    (!wait.is_zero()).then(|| Box::new((later(invocation.started, wait), ceilings.full().into())))
}

/// A lease that is to be had now; `None` where it has to be waited for and the limits allow that.
fn now_or_later(lease: Result<Lease, CallError>, invocation: &Invocation) -> Result<Option<Lease>, CallError> {
    match lease {
        Err(CallError::Busy) if !invocation.limits.wait.is_zero() => Ok(None),
        lease => lease.map(Some),
    }
}

async fn run_leased(mut lease: Lease, work: OnLive, invocation: Arc<Invocation>) -> Result<Product, Error> {
    invocation.turn.take().await;
    invocation.set_lease(lease.number());
    let (instance, live) = lease.live()?;
    store::begin(&mut live.store, &invocation)?;
    let runs_guest = !matches!(work, OnLive::Access { .. });
    let result = work.carry_out(instance, live).await;
    store::end(&live.store, &invocation);
    match runs_guest {
        true => lease.settle(&invocation, &result),
        false => lease.give_back(true),
    }
    result
}

/// What an execution does with a live guest that it has leased.
enum OnLive {
    Call { member: MemberId, function: Arc<Function>, args: Vec<Value> },
    Access { member: MemberId, access: Access },
    Join { joining: Joining, place: Place, wasi: Option<Arc<Grants>> },
}

impl OnLive {
    async fn carry_out(self, instance: &Instance, live: &mut Live) -> Result<Product, Error> {
        match self {
            OnLive::Call { member, function, args } => {
                live.call(instance.handle(member)?, &function, args).await.map(Product::Values)
            }
            // Boxed: a call's future would have to hold room for these.
            OnLive::Access { member, access } => Box::pin(look(instance, member, live, access)).await,
            OnLive::Join { joining, place, wasi } => Box::pin(join(instance, live, (joining, place, wasi))).await,
        }
    }
}

async fn join(
    instance: &Instance,
    live: &mut Live,
    (joining, place, wasi): (Joining, Place, Option<Arc<Grants>>),
) -> Result<Product, Error> {
    if let Some(grants) = wasi.map(|wasi| instance.grant(wasi)).transpose()?.flatten() {
        let invocation = Arc::clone(&live.store.data().invocation);
        let wasi = Wasi::new(&grants, &invocation, instance.module().ceilings()).await?;
        live.store.data_mut().wasi = Some(wasi);
    }
    instance.join(live, joining, place).await.map(Product::Member)
}

async fn look(instance: &Instance, member: MemberId, live: &mut Live, access: Access) -> Result<Product, Error> {
    let module = instance.member(member)?;
    let found = instance.export(live, member, access.export(&module))?;
    access.carry_out(&module, found, &mut live.store).await.map(Product::Answer)
}
