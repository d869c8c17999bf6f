//! What every test needs: a runtime, a module from text, and a driver that steps an execution to its end as an embedder
//! would, on lanes in turn, answering host calls.

use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::access::Access;
use cybernetic_wasm_core::code::Code;
use cybernetic_wasm_core::code::Import;
use cybernetic_wasm_core::engine::EngineConfig;
use cybernetic_wasm_core::error::CallError;
use cybernetic_wasm_core::execution::{Execution, Product, Setup, Step, Usage};
use cybernetic_wasm_core::instance::Instance;
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::{Limits, NodeLimits};
use cybernetic_wasm_core::linker::Source;
use cybernetic_wasm_core::live::LiveGuest;
use cybernetic_wasm_core::mail::{Answer, Command, HostCall};
use cybernetic_wasm_core::member::MemberId;
use cybernetic_wasm_core::module::Module;
use cybernetic_wasm_core::runtime::{Runtime, Settings};
use cybernetic_wasm_core::value::{HostRef, HostValue, Value};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::Deref;
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

/// Far beyond what anything takes on a slow and busy machine: reaching it means that something hangs. No test is decided by
/// the time it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// One runtime as a node has it, with its pools, for the tests that count nothing.
pub(crate) fn shared() -> &'static Arc<Runtime> {
    static SHARED: OnceLock<Arc<Runtime>> = OnceLock::new();
    SHARED.get_or_init(|| Runtime::new(Settings::default()))
}

/// A runtime of the test's own, without pools: its counters are nobody else's, and making it costs nothing.
pub(crate) fn own(change: impl FnOnce(&mut Settings)) -> Arc<Runtime> {
    let mut settings = Settings { pooling: false, ..Settings::default() };
    change(&mut settings);
    Runtime::new(settings)
}

/// A runtime of the test's own with other ceilings.
pub(crate) fn own_node(change: impl FnOnce(&mut NodeLimits)) -> Arc<Runtime> {
    own(|settings| change(&mut settings.node))
}

/// Limits that no well-behaved guest meets.
pub(crate) fn limits() -> Limits {
    Limits {
        fuel: 1_000_000_000,
        max_memory: 100_000_000,
        max_table_elements: 100_000,
        max_instances: 10,
        time: PATIENCE,
        max_output: 1_000_000,
        max_host_calls: 1_000_000,
        max_transfer: 16 << 20,
        max_resources: 10_000,
        wait: Duration::ZERO,
    }
}

/// A module, and the runtime that it was loaded on.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) module: Arc<Module>,
    pub(crate) runtime: Arc<Runtime>,
}

impl Deref for Loaded {
    type Target = Code;

    fn deref(&self) -> &Code {
        self.module.code()
    }
}

impl Loaded {
    /// Whether both are one compilation.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.module, &other.module)
    }

    /// What a guest of it is made with, on the engine that it was loaded for.
    pub(crate) fn setup(&self, limits: Limits) -> Setup {
        self.setup_for(*self.requested(), limits)
    }

    pub(crate) fn setup_for(&self, engine: EngineConfig, limits: Limits) -> Setup {
        Setup { runtime: Arc::clone(&self.runtime), limits, engine, grants: None, owner: None }
    }
}

pub(crate) fn try_load(
    runtime: &Arc<Runtime>,
    source: impl AsRef<[u8]>,
    config: EngineConfig,
) -> Result<Loaded, Error> {
    let mut execution = Execution::load(runtime, source.as_ref(), config);
    match Driver::default().drive(&mut execution)? {
        Product::Module(module) => Ok(Loaded { module, runtime: Arc::clone(runtime) }),
        other => panic!("a load made {other:?}"),
    }
}

pub(crate) fn load(runtime: &Arc<Runtime>, source: impl AsRef<[u8]>) -> Loaded {
    try_load(runtime, source, runtime.default_config()).unwrap()
}

/// A call in a fresh instance, not yet stepped.
pub(crate) fn start(module: &Loaded, name: &str, args: &[Value], limits: Limits) -> Execution {
    let function = module.function(name).unwrap();
    Execution::call(&module.module, &function, args.to_vec(), module.setup(limits))
}

pub(crate) fn call_within(module: &Loaded, name: &str, args: &[Value], limits: Limits) -> Result<Vec<Value>, Error> {
    Driver::default().values(&mut start(module, name, args, limits))
}

pub(crate) fn call(module: &Loaded, name: &str, args: &[Value]) -> Result<Vec<Value>, Error> {
    call_within(module, name, args, limits())
}

pub(crate) fn run_within(module: &Loaded, name: &str, limits: Limits) -> (Result<Vec<Value>, Error>, Usage) {
    let mut execution = start(module, name, &[], limits);
    let result = Driver::default().values(&mut execution);
    (result, execution.usage())
}

pub(crate) fn instantiate(module: &Loaded, limits: Limits) -> Result<Arc<LiveGuest>, Error> {
    Driver::default().instance(module, limits)
}

/// What a call on an instance is told of the one that poisoned it.
pub(crate) fn poisoned_by(error: Error) -> String {
    match error {
        Error::Call(CallError::Poisoned { by: Some(by) }) => by.to_string(),
        other => panic!("not poisoned by a call that is known: {other:?}"),
    }
}

/// The instance that a live guest began with.
pub(crate) fn first(guest: &Arc<LiveGuest>) -> Instance<'_> {
    Instance::first(guest)
}

pub(crate) fn start_on(
    instance: &Arc<LiveGuest>,
    name: &str,
    args: &[Value],
    limits: Limits,
) -> Result<Execution, Error> {
    let function = instance.module().code().function(name)?;
    Execution::call_on(first(instance), &function, args.to_vec(), limits)
}

pub(crate) fn call_on(instance: &Arc<LiveGuest>, name: &str, args: &[Value]) -> Result<Vec<Value>, Error> {
    Driver::default().values(&mut start_on(instance, name, args, limits())?)
}

/// A live guest whose members find each other by the names that they are registered under, as the official scripts have it.
pub(crate) struct Guest {
    live: Arc<LiveGuest>,
    names: RefCell<HashMap<String, MemberId>>,
}

impl Deref for Guest {
    type Target = Arc<LiveGuest>;

    fn deref(&self) -> &Arc<LiveGuest> {
        &self.live
    }
}

impl From<Arc<LiveGuest>> for Guest {
    fn from(live: Arc<LiveGuest>) -> Self {
        Self { live, names: RefCell::default() }
    }
}

impl Guest {
    pub(crate) fn register(&self, name: &str, member: MemberId) {
        self.names.borrow_mut().insert(name.to_owned(), member);
    }

    /// A link that binds imports from registered names to those members, and the functions that are offered to the host.
    pub(crate) fn link(
        &self,
        module: &Loaded,
        offers: impl Fn(&Import) -> bool,
        limits: Limits,
    ) -> Result<Execution, Error> {
        let names = self.names.borrow();
        let mut functions = module.imports().iter();
        let sources = module.import_types().map(|(from, name, ty)| {
            let function = ty.func().and_then(|_| functions.next());
            match names.get(&from) {
                Some(member) => Source::Export(*member, name),
                None if function.is_some_and(&offers) => Source::Host,
                None => Source::Nothing("missing".to_owned()),
            }
        });
        Execution::link(&self.live, self.live.reserve(), (&module.module, sources.collect()), module.setup(limits))
    }

    pub(crate) fn instance(&self, member: MemberId) -> Instance<'_> {
        Instance { guest: &self.live, member }
    }

    pub(crate) fn global(&self, member: MemberId, name: &str) -> Result<Value, Error> {
        match self.instance(member).access(Access::GetGlobal { name: name.to_owned() }) {
            Ok(Ok(Answer::Values(values))) => Ok(values[0].clone()),
            Ok(Err(error)) => Err(error),
            other => panic!("a global is {other:?}"),
        }
    }
}

/// Answers a host call with its results, or with `None` to raise.
pub(crate) type Host<'a> = dyn Fn(&mut OpenCall<'_>) -> Option<Vec<Value>> + 'a;

/// Steps executions to their end.
pub(crate) struct Driver<'a> {
    lanes: &'a [Lane],
    host: &'a Host<'a>,
    steps: Cell<usize>,
    yields: Cell<usize>,
}

impl Default for Driver<'_> {
    fn default() -> Self {
        Self { lanes: &[Lane::Inline, Lane::Dirty], host: &|_| None, steps: Cell::new(0), yields: Cell::new(0) }
    }
}

/// An open host call, through which the host may look at the guest or call it again.
pub(crate) struct OpenCall<'a> {
    pub(crate) execution: &'a mut Execution,
    pub(crate) host_call: HostCall,
    pub(crate) args: Vec<Value>,
    driver: &'a Driver<'a>,
    failed: Option<Error>,
}

impl OpenCall<'_> {
    /// Which of the importing module's functions is called.
    pub(crate) fn import(&self) -> u32 {
        self.host_call.import
    }

    /// Gives a command and drives the guest until it is answered.
    pub(crate) fn ask(&mut self, command: Command) -> Result<Answer, Error> {
        self.execution.command(self.host_call, command)?;
        match self.driver.go_on(self.execution) {
            Stop::Answer(answer) => answer,
            Stop::Failed(error) => {
                self.failed = Some(error.clone());
                Err(error)
            }
            Stop::Product(product) => panic!("the guest ended during a host call, with {product:?}"),
        }
    }

    /// Calls an export of the suspended guest.
    pub(crate) fn call(&mut self, name: &str, args: &[Value]) -> Result<Vec<Value>, Error> {
        let function = self.execution.importer(self.host_call).unwrap().function(name)?;
        match self.ask(Command::Call { function, args: args.to_vec() })? {
            Answer::Values(values) => Ok(values),
            other => panic!("a call was answered with {other:?}"),
        }
    }
}

enum Stop {
    Product(Product),
    Answer(Result<Answer, Error>),
    Failed(Error),
}

impl<'a> Driver<'a> {
    pub(crate) fn with_host(host: &'a Host<'a>) -> Self {
        Self { host, ..Self::default() }
    }

    pub(crate) fn on(mut self, lanes: &'a [Lane]) -> Self {
        self.lanes = lanes;
        self
    }

    /// How often the guests have yielded so far.
    pub(crate) fn yields(&self) -> usize {
        self.yields.get()
    }

    pub(crate) fn drive(&self, execution: &mut Execution) -> Result<Product, Error> {
        match self.go_on(execution) {
            Stop::Product(product) => Ok(product),
            Stop::Failed(error) => Err(error),
            Stop::Answer(answer) => panic!("an answer that nobody asked for: {answer:?}"),
        }
    }

    pub(crate) fn values(&self, execution: &mut Execution) -> Result<Vec<Value>, Error> {
        match self.drive(execution)? {
            Product::Values(values) => Ok(values),
            other => panic!("a call made {other:?}"),
        }
    }

    pub(crate) fn instance(&self, module: &Loaded, limits: Limits) -> Result<Arc<LiveGuest>, Error> {
        match self.drive(&mut Execution::instantiate(&module.module, false, module.setup(limits)))? {
            Product::Guest(instance) => Ok(instance),
            other => panic!("an instantiation made {other:?}"),
        }
    }

    fn go_on(&self, execution: &mut Execution) -> Stop {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            match execution.step(self.next_lane()) {
                Step::Finished(product) => return Stop::Product(product),
                Step::Failed(error) => return Stop::Failed(error),
                Step::Answered(answer) => return Stop::Answer(answer),
                Step::Yielded => self.yields.set(self.yields.get() + 1),
                Step::Waiting => wait(execution),
                Step::WantsInput => execution.give_input(None),
                Step::Output => {}
                Step::Http(errand) => panic!("nobody runs errands here: {errand:?}"),
                Step::HostCall { call, args } => {
                    let mut open = OpenCall { execution, host_call: call, args, driver: self, failed: None };
                    let results = (self.host)(&mut open);
                    if let Some(error) = open.failed {
                        return Stop::Failed(error);
                    }
                    execution.command(call, results.map_or(Command::Raise, Command::Return)).unwrap();
                }
            }
        }
        panic!("an execution does not come to its end");
    }

    fn next_lane(&self) -> Lane {
        let step = self.steps.get();
        self.steps.set(step + 1);
        self.lanes[step % self.lanes.len()]
    }
}

/// Sleeps until the execution is woken or its own time is up, as a process in `receive` does.
pub(crate) fn wait(execution: &Execution) {
    let (woken, wake_up) = mpsc::channel();
    let listener = Box::new(move || _ = woken.send(()));
    if let Some(left) = execution.listen(listener) {
        // The step after this says that the time is up, if it is.
        let _ = wake_up.recv_timeout(left);
    }
}

/// Something of the embedder's, which is nothing but itself and takes no room.
pub(crate) struct Token<T>(pub(crate) T);

impl<T: Send + Sync + 'static> HostValue for Token<T> {
    fn size(&self) -> u64 {
        0
    }

    fn digest(&self) -> u64 {
        0
    }

    fn same(&self, _: &dyn HostValue) -> bool {
        false
    }
}

/// A name of so many bytes.
struct Named(u32, u64);

impl HostValue for Named {
    fn size(&self) -> u64 {
        self.1
    }

    /// Two of a kind have the same, so that it alone decides nothing.
    fn digest(&self) -> u64 {
        u64::from(self.0 % 2)
    }

    fn same(&self, other: &dyn HostValue) -> bool {
        (other as &dyn Any).downcast_ref::<Named>().is_some_and(|other| other.0 == self.0)
    }
}

pub(crate) fn named(name: u32, size: u64) -> HostRef {
    Arc::new(Named(name, size))
}

/// Steps an execution that has work for more than one slice, once, and says whether it yielded.
pub(crate) fn yields(execution: &mut Execution, lane: Lane) -> bool {
    matches!(execution.step(lane), Step::Yielded)
}

/// Steps to the next host call.
pub(crate) fn to_host_call(execution: &mut Execution) -> HostCall {
    loop {
        match execution.step(Lane::Dirty) {
            Step::HostCall { call, .. } => return call,
            Step::Yielded => {}
            Step::Waiting => wait(execution),
            other => panic!("no host call but {other:?}"),
        }
    }
}

/// Waits for what another thread, the reaper say, will soon have done.
pub(crate) fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Nothing of the node's is in use any more.
pub(crate) fn eventually_unused(runtime: &Arc<Runtime>) {
    let ceilings = runtime.ceilings();
    eventually("no live guest", || ceilings.live() == 0);
    eventually("no guest's memory", || ceilings.memory() == 0);
}

/// Holds a property against many random values.
pub(crate) fn property<S: Strategy>(cases: u32, strategy: S, holds: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    if let Err(failure) = TestRunner::new(config).run(&strategy, holds) {
        panic!("{failure}");
    }
}

/// One number out of a call's results.
pub(crate) fn number<E: Debug>(result: Result<Vec<Value>, E>) -> i64 {
    match result.unwrap().as_slice() {
        [Value::I32(number)] => i64::from(*number),
        [Value::I64(number)] => *number,
        other => panic!("not one integer: {other:?}"),
    }
}

/// Whether two values are the same, floats bit by bit and host references by identity.
pub(crate) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::I32(one), Value::I32(other)) => one == other,
        (Value::I64(one), Value::I64(other)) => one == other,
        (Value::F32(one), Value::F32(other)) => one == other,
        (Value::F64(one), Value::F64(other)) => one == other,
        (Value::V128(one), Value::V128(other)) => one == other,
        (Value::Null, Value::Null) => true,
        (Value::Extern(one), Value::Extern(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

pub(crate) fn all_same(ones: &[Value], others: &[Value]) -> bool {
    ones.len() == others.len() && ones.iter().zip(others).all(|(one, other)| same(one, other))
}
