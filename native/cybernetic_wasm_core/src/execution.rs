//! Executions: a guest's call, an instantiation or a load as a coroutine of whoever steps it.
//!
//! An [`Execution`] is a boxed future that owns its store, so a suspended call owns all that it needs. A step is polls of
//! that future until the lane's time is spent, and ends in one [`Step`].

mod pace;

pub use pace::Pace;

use crate::access::Access;
use crate::callee::Callee;
use crate::engine::{Allocation, EngineConfig, Metering, POOL_TABLE_ELEMENTS, PoolFull, Ticker, YIELD_FUEL};
use crate::error::{CallError, Error, classify};
use crate::host::{self, Answer, Command};
use crate::instance::{Instance, Lease, Live, MemberId};
use crate::invocation::{Cancel, INLINE_MEMORY, Invocation, Listener, Notice, Output, later};
use crate::limits::{Ceilings, Limits, Place};
use crate::linker::{Joining, Source};
use crate::module::{Function, Import, Module};
use crate::reaper::reap;
use crate::runtime::Runtime;
use crate::snapshot;
use crate::store;
use crate::value::{HostRef, Value};
// The clock is read at every yield and twice a call: this one reads the processor's counter where that is reliable.
use quanta::Instant;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Where a step runs, which says how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// On a normal scheduler.
    Inline,
    /// On a dirty one.
    Dirty,
}

impl Lane {
    /// Time after which a step polls no more. One poll can go beyond it by a yield interval's running time.
    fn budget(self) -> Duration {
        match self {
            Lane::Inline => Duration::from_micros(250),
            Lane::Dirty => Duration::from_millis(10),
        }
    }
}

/// What an execution makes.
#[derive(Debug)]
pub enum Product {
    /// A call's results.
    Values(Vec<Value>),
    /// A live instance.
    Instance(Arc<Instance>),
    /// One more instance in a live guest.
    Member(MemberId),
    /// The answer to an access.
    Answer(Answer),
    /// A module in the binary format whose initial state is what an instance's was, after so many of its uses.
    Snapshot(Vec<u8>, u64),
    /// The instance is in its module's initial state again.
    Reset,
    /// A compiled module.
    Module(Arc<Module>),
}

/// What a call used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Fuel, where it is metered; after a call that was cut off, rounded down to the last yield.
    pub fuel: Option<u64>,
    /// The most bytes of memory and tables that the guest had.
    pub peak_memory: u64,
    /// From the start to the end, waiting and host functions included.
    pub wall: Duration,
    /// On a scheduler.
    pub slice: Duration,
    /// Slices of time that it took: one, and one more for each that it spent. A host call or a wake-up begins none.
    pub slices: u64,
    /// Calls of host functions.
    pub host_calls: u64,
    /// Bytes put out.
    pub output: u64,
}

/// How a step ended.
#[derive(Debug)]
pub enum Step {
    /// The work is done.
    Finished(Product),
    /// The slice is spent: step again, on a dirty scheduler.
    Yielded,
    /// The guest calls an imported function and waits for commands that carry this serial number.
    HostCall {
        /// Which of the guest's members imports it: see [`Execution::importer`] and [`Execution::kept`].
        member: MemberId,
        /// The function's index in [`Module::imports`].
        import: u32,
        /// Its arguments.
        args: Vec<Value>,
        /// Names this host call.
        serial: u64,
    },
    /// The answer to a command; the host call is still open.
    Answered(Result<Answer, Error>),
    /// Nothing to do until a wake-up: see [`Execution::listen`].
    Waiting,
    /// The work failed.
    Failed(Error),
}

type Work = Pin<Box<dyn Future<Output = Result<Product, Error>> + Send>>;

/// A suspended call, instantiation or load.
pub struct Execution {
    work: Option<Work>,
    invocation: Arc<Invocation>,
    module: Option<Arc<Module>>,
    instance: Option<Arc<Instance>>,
    cancel: Option<Arc<Cancel>>,
    ticker: Option<Arc<Ticker>>,
    metering: Metering,
    paced: Option<Paced>,
    // Boxed, because every execution is moved about, and few have these.
    patience: Option<Box<(Instant, Error)>>,
    failure: Option<Box<Error>>,
    slice: Duration,
    slices: u64,
    last_slice: Duration,
    seen: Instant,
}

impl std::fmt::Debug for Execution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Execution").field("ended", &self.work.is_none()).field("slices", &self.slices).finish()
    }
}

/// Whose pace an execution tells something about.
enum Paced {
    Function(Arc<Function>, usize),
    /// Making live instances of the module.
    Making(Arc<Module>),
}

impl Paced {
    fn pace(&self) -> &Pace {
        match self {
            Paced::Function(function, which) => &function.pace[*which],
            Paced::Making(module) => &module.pace,
        }
    }
}

/// Output that a normal scheduler may copy at a call's end: some 0.1 ms.
const INLINE_OUTPUT: u64 = 256 << 10;

/// Places in [`Function::pace`].
const FRESH: usize = 0;
const WARM: usize = 1;

impl Execution {
    /// A call in a fresh instance of `module`, on an engine of `config`.
    pub fn call(
        module: &Arc<Module>,
        function: &Arc<Function>,
        args: Vec<Value>,
        (limits, config): (Limits, EngineConfig),
    ) -> Result<Self, Error> {
        let runtime = runtime_of(module)?;
        let invocation = Invocation::new(limits, runtime.ceilings());
        let config = allocate_for(config, &invocation.limits);
        let (module, function) = (Arc::clone(module), Arc::clone(function));
        let mut execution = Self::metered(&runtime, config.metering, &invocation);
        execution.module = Some(Arc::clone(&module));
        execution.paced = Some(Paced::Function(Arc::clone(&function), FRESH));
        execution.work = Some(Box::pin(async move {
            let mut live = instantiate((&module, Kind::Loaded), config, &runtime, &invocation).await?;
            let function = live.function(&module, &function)?;
            let result = live.call(None, &function, args).await;
            store::end(&live.store, &invocation);
            result.map(Product::Values)
        }));
        Ok(execution)
    }

    /// An instance of `module` that lives on; its start function runs under `limits`. One that is `snapshottable` runs
    /// a module that exports all of its state.
    pub fn instantiate(
        module: &Arc<Module>,
        snapshottable: bool,
        (limits, config): (Limits, EngineConfig),
    ) -> Result<Self, Error> {
        let runtime = runtime_of(module)?;
        let invocation = Invocation::new(limits, runtime.ceilings());
        let config = allocate_for(config, &invocation.limits);
        let module = Arc::clone(module);
        let mut execution = Self::metered(&runtime, config.metering, &invocation);
        execution.module = Some(Arc::clone(&module));
        execution.paced = Some(Paced::Making(Arc::clone(&module)));
        execution.work = Some(Box::pin(async move {
            let source = snapshottable.then(|| Arc::clone(&module));
            let kind = if snapshottable { Kind::Instrumented } else { Kind::Loaded };
            let live = instantiate((&module, kind), config, &runtime, &invocation).await?;
            store::end(&live.store, &invocation);
            Ok(Product::Instance(Instance::new(live, source)))
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
        limits: Limits,
    ) -> Result<Self, Error> {
        let mut execution = Self::on(instance, limits)?;
        let (runtime, config) = (runtime_of(module)?, instance.engine_for(module)?);
        let invocation = Arc::clone(&execution.invocation);
        let (module, instance) = (Arc::clone(module), Arc::clone(instance));
        execution.work = Some(Box::pin(async move {
            let place = queue(runtime.ceilings(), module.weight(), &invocation).await?;
            let module = Runtime::variant(&module, config).await?;
            let joining = Joining { module, member, sources: sources.into() };
            let mut lease = instance.lease()?;
            invocation.turn.take().await;
            invocation.set_lease(lease.number());
            let (_, live) = lease.live()?;
            store::begin(&mut live.store, &invocation)?;
            let result = instance.join(live, joining, place).await;
            store::end(&live.store, &invocation);
            lease.settle(&invocation, &result);
            result.map(Product::Member)
        }));
        Ok(execution)
    }

    /// Makes a live instance anew, in its module's initial state, and with it the members that had joined. The guest that
    /// was there gives its place up first.
    pub fn reset(instance: &Arc<Instance>, limits: Limits) -> Result<Self, Error> {
        let mut execution = Self::on(instance, limits)?;
        let runtime = runtime_of(instance.module())?;
        let invocation = Arc::clone(&execution.invocation);
        let lease = match instance.lease_to_reset() {
            Err(CallError::Busy) if !invocation.limits.wait.is_zero() => None,
            lease => Some(lease?),
        };
        execution.wait_for_instance();
        let instance = Arc::clone(instance);
        execution.work = Some(Box::pin(async move {
            let mut lease = match lease {
                Some(lease) => lease,
                None => queueing(&invocation, instance.queue_to_reset()).await?,
            };
            invocation.set_lease(lease.number());
            lease.clear();
            let module = instance.module();
            let place = queue(runtime.ceilings(), module.weight(), &invocation).await?;
            invocation.turn.take().await;
            let live = try_instantiate(module, &runtime, &invocation, place).await;
            lease.renew(live.map_err(|error| classify(error, &invocation, module))?);
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
        let lease = instance.lease()?;
        let uses = instance.uses();
        execution.work = Some(Box::pin(async move {
            let snapshot = runtime.compute(move || snapshot::take(&source, lease)).await?;
            snapshot.map(|wasm| Product::Snapshot(wasm, uses))
        }));
        Ok(execution)
    }

    /// Work on a live guest that this execution has leased, for whose turn it waits if its limits say so.
    fn leased(&mut self, instance: &Arc<Instance>, work: OnLive) -> Result<(), Error> {
        let invocation = Arc::clone(&self.invocation);
        self.work = Some(match instance.lease() {
            Ok(lease) => Box::pin(run_leased(lease, work, invocation)),
            Err(CallError::Busy) if !invocation.limits.wait.is_zero() => {
                self.wait_for_instance();
                let instance = Arc::clone(instance);
                Box::pin(async move {
                    let lease = queueing(&invocation, instance.queue()).await?;
                    run_leased(lease, work, invocation).await
                })
            }
            Err(error) => return Err(error.into()),
        });
        Ok(())
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
            slice: Duration::ZERO,
            slices: 1,
            last_slice: Duration::ZERO,
            seen: invocation.started,
        }
    }

    /// The module whose code this runs; `None` for a load.
    pub fn module(&self) -> Option<&Arc<Module>> {
        self.module.as_ref()
    }

    /// The module whose import the open host call `serial` is.
    pub fn importer(&self, serial: u64) -> Option<Arc<Module>> {
        self.invocation.importer(serial).or_else(|| self.module.clone())
    }

    /// What the embedder keeps for a member of the live guest that this runs on.
    pub fn kept(&self, member: MemberId) -> Option<HostRef> {
        self.instance.as_ref()?.kept(member)
    }

    /// Lets `cancel` end this execution. To be called before the first step.
    pub fn cancel_by(&mut self, cancel: &Arc<Cancel>) {
        cancel.attach(&self.invocation);
        self.cancel = Some(Arc::clone(cancel));
    }

    /// Runs the guest until it ends, calls the host, waits, or has spent the lane's time.
    pub fn step(&mut self, lane: Lane) -> Step {
        // Each look at the clock is a twentieth of a short call, and a new execution is stepped at once.
        let began = if self.slice.is_zero() { self.invocation.started } else { Instant::now() };
        let step = self.poll_until(began, lane);
        self.seen = Instant::now();
        self.last_slice = self.seen.saturating_duration_since(began);
        self.slice += self.last_slice;
        if let Some(paced) = &self.paced {
            let pace = paced.pace();
            match &step {
                Step::Finished(_) => pace.observe(self.slice, self.invocation.peak_memory()),
                Step::Yielded => pace.demote(),
                _ => {}
            }
        }
        if matches!(step, Step::Yielded) {
            self.slices += 1;
        }
        step
    }

    fn poll_until(&mut self, began: Instant, lane: Lane) -> Step {
        let invocation = &self.invocation;
        let ticker = self.ticker.clone();
        let _running = ticker.as_ref().map(Ticker::run);
        let waker = Waker::from(Arc::clone(invocation));
        let until = began + lane.budget();
        let mut now = began;
        invocation.enter(lane == Lane::Inline);
        loop {
            if let Some(error) = self.expired(now) {
                return self.end(Err(error));
            }
            let Some(work) = &mut self.work else { return Step::Failed(self.ending()) };
            invocation.before_poll();
            let poll = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut Context::from_waker(&waker))));
            match poll {
                Ok(Poll::Ready(result)) => {
                    // What has run to its end holds nothing that takes time to drop.
                    self.work = None;
                    return self.end(result);
                }
                Err(panic) => return self.end(Err(Error::Internal(crate::panic_message(&*panic)))),
                Ok(Poll::Pending) => {}
            }
            if let Some(notice) = invocation.take_notice() {
                return notice.into();
            }
            if invocation.take_hop() {
                return Step::Yielded;
            }
            if !invocation.woken() {
                return Step::Waiting;
            }
            if self.metering == Metering::Fuel {
                invocation.add_fuel_used(YIELD_FUEL);
            }
            now = Instant::now();
            if now >= until && self.expired(now).is_none() {
                return Step::Yielded;
            }
        }
    }

    /// Why there is no time left.
    fn expired(&self, now: Instant) -> Option<Error> {
        if now >= self.invocation.deadline {
            return Some(self.invocation.time_error().into());
        }
        if self.cancel.as_ref().is_some_and(|cancel| cancel.is_cancelled()) {
            return Some(Error::Cancelled);
        }
        let (until, error) = &**self.patience.as_ref()?;
        (now >= *until && self.invocation.queueing()).then(|| error.clone())
    }

    /// What stepping gives after the end: the same failure again, so that a driver deep in a host function's own calls
    /// may find out late.
    fn ending(&self) -> Error {
        self.failure.as_deref().cloned().unwrap_or_else(|| Error::Internal("the execution has ended".into()))
    }

    fn end(&mut self, result: Result<Product, Error>) -> Step {
        self.bury();
        self.invocation.turn.give_back();
        if self.failure.is_none() {
            self.failure = result.as_ref().err().cloned().map(Box::new);
        }
        result.map_or_else(Step::Failed, Step::Finished)
    }

    /// Gives what is left of the work to the reaper: a suspended guest takes time to drop.
    fn bury(&mut self) {
        if let Some(work) = self.work.take() {
            if let Some((instance, lease)) = self.instance.as_ref().zip(self.invocation.lease()) {
                instance.poison(lease);
            }
            reap((work, self.module.clone()));
        }
    }

    /// Gives the innermost open host call a command; the next step carries it out.
    pub fn command(&self, serial: u64, command: Command) -> Result<(), Error> {
        match self.invocation.command(serial, command) {
            // The next step says how it ended.
            Err(CallError::Busy) if self.work.is_none() => Ok(()),
            given => Ok(given?),
        }
    }

    /// Gives the execution up: what is left of the guest's call is unwound on the reaper's thread.
    pub fn abandon(&mut self) {
        let _ = self.end(Err(Error::Cancelled));
    }

    /// Arms `listener` for the wake-up of a waiting execution and gives the time until its deadline, or `None` where
    /// the wake-up has come already and the execution can be stepped.
    pub fn listen(&self, listener: Listener) -> Option<Duration> {
        let queue = self.patience.as_ref().filter(|_| self.invocation.queueing()).map(|patience| patience.0);
        let until = queue.map_or(self.invocation.deadline, |until| until.min(self.invocation.deadline));
        self.invocation.listen(listener).then(|| until.saturating_duration_since(Instant::now()))
    }

    /// Disarms the listener. False: it has been called already.
    pub fn unlisten(&self) -> bool {
        self.invocation.unlisten()
    }

    /// Whether a command for an open host call of `importer`'s may be carried out on a normal scheduler: the guest is small,
    /// and so are the values that the function gives and the output that is handed over when the guest ends.
    pub fn fits_inline(&self, importer: &Module, import: u32) -> bool {
        self.invocation.peak_memory() <= INLINE_MEMORY
            && self.invocation.output_bytes() <= INLINE_OUTPUT
            && !importer.imports().get(import as usize).is_some_and(Import::gives_references)
    }

    /// Whether `serial` names the innermost open host call, the only one that may ask for anything.
    pub fn is_open(&self, serial: u64) -> bool {
        self.invocation.is_open(serial)
    }

    /// Takes what the guest puts out, up to the limit.
    pub fn emit(&self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.invocation.emit(bytes)?)
    }

    /// The output so far, taken.
    pub fn take_output(&self) -> Output {
        self.invocation.take_output()
    }

    /// Time until the deadline; zero when it has passed.
    pub fn time_left(&self) -> Duration {
        self.invocation.deadline.saturating_duration_since(Instant::now())
    }

    /// How long the last step took.
    pub fn last_slice(&self) -> Duration {
        self.last_slice
    }

    /// What had been used when the last step ended.
    pub fn usage(&self) -> Usage {
        let invocation = &self.invocation;
        Usage {
            fuel: (self.metering == Metering::Fuel).then(|| invocation.fuel_used()),
            peak_memory: invocation.peak_memory(),
            wall: self.seen.saturating_duration_since(invocation.started),
            slice: self.slice,
            slices: self.slices,
            host_calls: invocation.host_calls(),
            output: invocation.output_bytes(),
        }
    }
}

/// A suspended guest that nobody drives any more must not be dropped where garbage is collected.
impl Drop for Execution {
    fn drop(&mut self) {
        self.bury();
    }
}

impl From<Notice> for Step {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::HostCall { member, import, args, serial } => Step::HostCall { member, import, args, serial },
            Notice::Answer(answer) => Step::Answered(answer),
        }
    }
}

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

/// Whether a call of `function` may start on a normal scheduler. `instance` is the live instance it runs on, if any.
pub fn may_run_inline(function: &Function, instance: Option<&Instance>) -> bool {
    let proven = match instance {
        None => function.pace[FRESH].is_short(),
        Some(instance) => function.pace[WARM].is_short() && instance.is_small(),
    };
    proven && !function.passes_references()
}

/// Whether a live instance of `module` may be made on a normal scheduler.
pub fn may_instantiate_inline(module: &Module) -> bool {
    module.pace.is_short()
}

fn runtime_of(module: &Arc<Module>) -> Result<Arc<Runtime>, Error> {
    module.runtime.upgrade().ok_or_else(|| Error::Internal("the runtime is gone".into()))
}

fn patience(ceilings: &Ceilings, invocation: &Invocation) -> Option<Box<(Instant, Error)>> {
    let wait = invocation.limits.wait;
    (!wait.is_zero()).then(|| Box::new((later(invocation.started, wait), ceilings.full().into())))
}

/// Waits for a turn, for as long as the limits say.
async fn queueing<T>(invocation: &Invocation, turn: impl Future<Output = T>) -> T {
    invocation.set_queueing(true);
    let turn = turn.await;
    invocation.set_queueing(false);
    turn
}

async fn run_leased(mut lease: Lease, work: OnLive, invocation: Arc<Invocation>) -> Result<Product, Error> {
    invocation.turn.take().await;
    invocation.set_lease(lease.number());
    let (instance, live) = lease.live()?;
    store::begin(&mut live.store, &invocation)?;
    let runs_guest = matches!(work, OnLive::Call { .. });
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
}

impl OnLive {
    async fn carry_out(self, instance: &Instance, live: &mut Live) -> Result<Product, Error> {
        match self {
            OnLive::Call { member, function, args } => {
                live.call(instance.handle(member)?, &function, args).await.map(Product::Values)
            }
            // Boxed: a call's future would have to hold room for it.
            OnLive::Access { member, access } => Box::pin(look(instance, member, live, access)).await,
        }
    }
}

async fn look(instance: &Instance, member: MemberId, live: &mut Live, access: Access) -> Result<Product, Error> {
    let module = instance.member(member)?;
    let handle = instance.handle(member)?.unwrap_or(live.instance);
    let found = handle.get_export(&mut live.store, access.export(&module));
    access.carry_out(&module, found, &mut live.store).await.map(Product::Answer)
}

/// Which form of a module a guest runs.
#[derive(Clone, Copy)]
enum Kind {
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
fn allocate_for(mut config: EngineConfig, limits: &Limits) -> EngineConfig {
    const SLOT: u64 = 4 << 30;
    if limits.max_table_elements > POOL_TABLE_ELEMENTS || limits.max_memory > SLOT {
        config.allocation = Allocation::OnDemand;
    }
    config
}

async fn queue(ceilings: &Ceilings, weight: u32, invocation: &Invocation) -> Result<Place, Error> {
    match ceilings.try_place(weight) {
        // One that counts as more guests than there may be would only keep the others waiting behind it.
        Err(_) if !invocation.limits.wait.is_zero() && ceilings.could_hold(weight) => {
            Ok(queueing(invocation, ceilings.place(weight)).await?)
        }
        place => Ok(place?),
    }
}

/// A fresh guest of `module` on an engine of `config`, or on its on-demand sibling while the pool is full.
async fn instantiate(
    (module, kind): (&Arc<Module>, Kind),
    config: EngineConfig,
    runtime: &Arc<Runtime>,
    invocation: &Arc<Invocation>,
) -> Result<Live, Error> {
    let place = queue(runtime.ceilings(), module.weight(), invocation).await?;
    invocation.turn.take().await;
    let variant = compiled((module, kind), config).await?;
    match try_instantiate(&variant, runtime, invocation, place).await {
        Err(error) if error.is::<PoolFull>() || error.is::<wasmtime::PoolConcurrencyLimitError>() => {
            let place = queue(runtime.ceilings(), module.weight(), invocation).await?;
            let sibling = EngineConfig { allocation: Allocation::OnDemand, ..config };
            let variant = compiled((module, kind), sibling).await?;
            let live = try_instantiate(&variant, runtime, invocation, place).await;
            live.map_err(|error| classify(error, invocation, &variant))
        }
        live => live.map_err(|error| classify(error, invocation, &variant)),
    }
}

async fn try_instantiate(
    module: &Arc<Module>,
    runtime: &Runtime,
    invocation: &Arc<Invocation>,
    place: Place,
) -> wasmtime::Result<Live> {
    let linked = module.linked()?;
    let mut store = store::new(module, invocation, runtime.ceilings(), place)?;
    store::begin(&mut store, invocation)?;
    store.data_mut().add_instance(module).await.map_err(Error::from)?;
    let instance = linked.instantiate_async(&mut store).await;
    if instance.is_err() {
        store::end(&store, invocation);
    }
    Ok(Live { store, instance: instance?, last: None })
}

impl Live {
    /// `function` of `asked` in the module that this guest really runs, which may be a variant.
    fn function(&self, asked: &Arc<Module>, function: &Arc<Function>) -> Result<Arc<Function>, CallError> {
        match Arc::ptr_eq(asked, self.module()) {
            true => Ok(Arc::clone(function)),
            false => self.module().function(&function.name),
        }
    }

    /// Calls the guest's first instance, or another `member`.
    async fn call(
        &mut self,
        member: Option<wasmtime::Instance>,
        function: &Arc<Function>,
        args: Vec<Value>,
    ) -> Result<Vec<Value>, Error> {
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
