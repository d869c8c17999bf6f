//! Executions: a guest's call, an instantiation or a load as a coroutine of whoever steps it.
//!
//! An [`Execution`] is a boxed future that owns its store, so a suspended call owns all that it needs. A step is polls of
//! that future until the lane's time is spent, and ends in one [`Step`].

mod begin;
mod guest;
mod pace;

pub use begin::Setup;
pub(crate) use guest::initialize;
pub use pace::Pace;

use crate::engine::{Metering, Ticker, YIELD_FUEL};
use crate::error::{CallError, Error};
use crate::host::{Answer, Command};
use crate::instance::{Instance, MemberId};
use crate::invocation::{Cancel, Denial, INLINE_MEMORY, Invocation, Listener, Notice, Output, Stdin, Stream};
use crate::module::{Function, Import, Module};
use crate::reaper::reap;
use crate::value::{HostRef, Value};
use begin::{FRESH, WARM};
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
        /// Which of the guest's members imports it: see [`Execution::importer`] and [`Execution::host`].
        member: MemberId,
        /// The function's index in [`Module::imports`].
        import: u32,
        /// Its arguments.
        args: Vec<Value>,
        /// Names this host call.
        serial: u64,
    },
    /// The guest reads from its standard input, and there is nothing: see [`Execution::give_input`].
    WantsInput,
    /// The guest has written: see [`Execution::take_output`].
    Output,
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
    /// It has been given standard input.
    fed: bool,
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

impl Execution {
    /// The module whose code this runs; `None` for a load.
    pub fn module(&self) -> Option<&Arc<Module>> {
        self.module.as_ref()
    }

    /// The module whose import the open host call `serial` is.
    pub fn importer(&self, serial: u64) -> Option<Arc<Module>> {
        self.invocation.importer(serial).or_else(|| self.module.clone())
    }

    /// What answers the host calls of a member of the live guest that this runs on: see [`Instance::set_host`].
    pub fn host(&self, member: MemberId) -> Option<HostRef> {
        self.instance.as_ref()?.host(member)
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
        invocation.enter(lane == Lane::Inline, until);
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
        // A live guest keeps its last invocation until the next one.
        if self.fed {
            self.invocation.set_stdin(Stdin::Bytes(Vec::new()));
        }
        self.invocation.turn.give_back();
        if self.failure.is_none() {
            self.failure = result.as_ref().err().cloned().map(Box::new);
        }
        result.map_or_else(Step::Failed, Step::Finished)
    }

    /// Gives what is left of the work to the reaper: a suspended guest takes time to drop.
    fn bury(&mut self) {
        if let Some(work) = self.work.take() {
            match (&self.instance, self.invocation.lease()) {
                (Some(instance), Some(lease)) => instance.poison(lease),
                // It has not touched the guest yet and holds nothing that takes time to drop, but its place in the queue.
                (Some(_), None) => return drop(work),
                (None, _) => {}
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

    /// Takes what a host function puts out, up to the limit.
    pub fn emit(&self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.invocation.emit(Stream::Emitted, bytes)?)
    }

    /// What the guest finds on its standard input: nothing, unless this is called before the first step.
    pub fn set_stdin(&mut self, stdin: Stdin) {
        self.fed = true;
        self.invocation.set_stdin(stdin);
    }

    /// Answers [`Step::WantsInput`] with the next piece, or with the input's end.
    pub fn give_input(&self, piece: Option<Vec<u8>>) {
        self.invocation.give_input(piece);
    }

    /// Lets the guest wait after each write to its standard output and error: see [`Step::Output`].
    pub fn hand_over_output(&self) {
        self.invocation.hand_over_output();
    }

    /// What the guest asked for and was refused so far, taken.
    pub fn take_denials(&self) -> Vec<Denial> {
        self.invocation.take_denials()
    }

    /// The output so far, taken.
    pub fn take_output(&self) -> Output {
        self.invocation.take_output()
    }

    /// Whether a normal scheduler may hand over what waits of these streams.
    pub fn output_fits_inline(&self, streams: &[Stream]) -> bool {
        self.invocation.output_waiting(streams) as u64 <= INLINE_OUTPUT
    }

    /// The same of some of the streams.
    pub fn take_output_of(&self, streams: &[Stream]) -> Output {
        self.invocation.take_output_of(streams)
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
            Notice::WantsInput => Step::WantsInput,
            Notice::Output => Step::Output,
        }
    }
}

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
