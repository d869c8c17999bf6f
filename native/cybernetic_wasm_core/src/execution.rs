//! Executions: a guest's call, an instantiation or a load as a coroutine of whoever steps it.
//!
//! An [`Execution`] is a boxed future that owns its store, so a suspended call owns all that it needs. A step is polls of
//! that future until the lane's time is spent, and ends in one [`Step`].

mod call;
mod handle;
mod instantiate;
mod link;
mod load;
mod on_live;
mod place;
mod reset;
mod snapshot;
mod step;

pub use crate::invocation::{Asked, Came, Errand, Fields, NotSent, Request, Usage};
pub use step::{Product, Step, Tally};

use crate::code::{Code, Function, Import};
use crate::engine::{EngineConfig, Metering, Ticker};
use crate::error::{CallError, Error};
use crate::invocation::{Cancel, Invocation, Listener, Output, Stdin, Stream, later};
use crate::lane::{INLINE_MEMORY, INLINE_OUTPUT, Lane, OFFER, Pace, Presence};
use crate::limits::{Ceilings, Limits};
use crate::live::LiveGuest;
use crate::mail::{Command, HostCall};
use crate::member::MemberId;
use crate::module::Module;
use crate::reaper::reap;
use crate::runtime::Runtime;
use crate::system::Grants;
use crate::value::HostRef;
use crate::wit::Owner;
use futures_task::waker_ref;
// The clock is read at every yield and twice a call: this one reads the processor's counter where that is reliable.
use quanta::Instant;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// What a guest is made with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The node that it lives on: the one that its module was loaded on.
    pub runtime: Arc<Runtime>,
    /// What it may use.
    pub limits: Limits,
    /// The engine that it runs on.
    pub engine: EngineConfig,
    /// What it is given of the system: without this its module may not import WASI.
    pub grants: Option<Arc<Grants>>,
    /// Who is told of the embedder's resources that a component has no more.
    pub owner: Option<Arc<dyn Owner>>,
}

type Work = Pin<Box<dyn Future<Output = Result<Product, Error>> + Send>>;

/// A suspended call, instantiation or load.
pub struct Execution {
    work: Option<Work>,
    invocation: Arc<Invocation>,
    /// What it makes a guest of, if it does: see [`Execution::module`].
    module: Option<Arc<Module>>,
    live: Option<Arc<LiveGuest>>,
    cancel: Option<Arc<Cancel>>,
    ticker: Option<Arc<Ticker>>,
    metering: Metering,
    paced: Option<Paced>,
    // Boxed, because every execution is moved about, and few have these.
    patience: Option<Box<(Instant, Error)>>,
    failure: Option<Box<Error>>,
    /// It has been given standard input.
    fed: bool,
    /// The last step ended for an errand.
    errand: bool,
    /// Among those who want a dirty scheduler: while it runs there, and after a spent slice.
    presence: Option<Presence>,
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
    Fresh(Arc<Function>),
    Warm(Arc<Function>),
    /// Making live instances.
    Making(Arc<Code>),
}

impl Paced {
    fn pace(&self) -> &Pace {
        match self {
            Paced::Fresh(function) => &function.fresh,
            Paced::Warm(function) => &function.warm,
            Paced::Making(code) => &code.making,
        }
    }

    /// Whether what the guest passes from here on is made soon enough for a normal scheduler.
    fn may_go_on_inline(&self, limits: &Limits) -> bool {
        match self {
            Paced::Fresh(function) | Paced::Warm(function) => function.may_go_on_inline(limits),
            Paced::Making(code) => code.may_go_on_inline(limits),
        }
    }
}

impl Execution {
    /// An execution that makes a guest: one of epochs keeps the ticker going.
    fn fresh(runtime: &Runtime, metering: Metering, invocation: &Arc<Invocation>) -> Self {
        let mut execution = Self::new(runtime.ceilings(), metering, invocation);
        execution.ticker = (metering == Metering::Epoch).then(|| Arc::clone(runtime.ticker()));
        execution
    }

    fn new(ceilings: &Ceilings, metering: Metering, invocation: &Arc<Invocation>) -> Self {
        Self {
            work: None,
            invocation: Arc::clone(invocation),
            module: None,
            live: None,
            cancel: None,
            ticker: None,
            metering,
            paced: None,
            patience: patience(ceilings, invocation),
            failure: None,
            fed: false,
            errand: false,
            presence: None,
            slice: Duration::ZERO,
            slices: 1,
            last_slice: Duration::ZERO,
            seen: invocation.started,
        }
    }

    /// What this queues for is a guest that others use.
    fn be_patient_for_guest(&mut self) {
        if let Some(patience) = &mut self.patience {
            patience.1 = CallError::Busy.into();
        }
    }

    /// The code whose import an open host call is.
    pub fn importer(&self, call: HostCall) -> Option<Cow<'_, Arc<Code>>> {
        let linked = if call.member == MemberId::FIRST { None } else { self.invocation.mail.importer(call) };
        linked.map(Cow::Owned).or_else(|| Some(Cow::Borrowed(self.module()?.code())))
    }

    /// What its guest was made of.
    fn module(&self) -> Option<&Arc<Module>> {
        self.live.as_ref().map(|live| live.module()).or(self.module.as_ref())
    }

    /// What answers the host calls of a member of the live guest that this runs on: see [`crate::instance::Instance::set_host`].
    pub fn host(&self, member: MemberId) -> Option<HostRef> {
        self.live.as_ref()?.host(member)
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
        if lane == Lane::Dirty {
            self.want_dirty();
        }
        let step = self.poll_until(began, lane);
        self.seen = Instant::now();
        self.last_slice = self.seen.saturating_duration_since(began);
        self.invocation
            .account_slice(self.last_slice, u64::from(self.slice.is_zero() || matches!(step, Step::Yielded)));
        self.slice += self.last_slice;
        if let Some(paced) = &self.paced {
            let pace = paced.pace();
            match &step {
                Step::Finished(_) => pace.observe(self.slice, self.invocation.peak_memory()),
                Step::Yielded => pace.demote(),
                _ => {}
            }
        }
        self.errand = matches!(step, Step::Http(_));
        match step {
            Step::Yielded => {
                self.slices += 1;
                self.want_dirty();
            }
            _ => self.presence = None,
        }
        step
    }

    fn poll_until(&mut self, began: Instant, lane: Lane) -> Step {
        let invocation = &self.invocation;
        let ticker = self.ticker.clone();
        let _running = ticker.as_ref().map(Ticker::run);
        // Borrowed: most steps need none, and to count one more owner takes as long as much else that a short call does.
        let waker = waker_ref(invocation);
        let (mut now, mut offered) = (began, began);
        let mut until = began + lane.slice(self.presence.as_ref(), now);
        invocation.enter(lane, until);
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
                Err(panic) => return self.end(Err(Error::panic(&*panic))),
                Ok(Poll::Pending) => {}
            }
            if let Some(notice) = invocation.mail.take_notice() {
                return notice.into();
            }
            if invocation.take_hop() {
                return Step::Yielded;
            }
            match invocation.errand(&mut Context::from_waker(&waker)) {
                Some(Ok(errand)) => return Step::Http(errand),
                Some(Err(limit)) => return self.end(Err(limit.into())),
                None => {}
            }
            if !invocation.woken() {
                return Step::Waiting;
            }
            if self.metering == Metering::Fuel {
                invocation.note_yield();
            }
            now = Instant::now();
            if lane == Lane::Dirty && now >= offered + OFFER {
                std::thread::yield_now();
                now = Instant::now();
                offered = now;
            }
            // Others may have come meanwhile.
            until = began + lane.slice(self.presence.as_ref(), now);
            invocation.enter(lane, until);
            if now >= until && self.expired(now).is_none() {
                return Step::Yielded;
            }
        }
    }

    /// Counts it among those who want a dirty scheduler, until it has had its next step.
    pub fn want_dirty(&mut self) {
        if self.presence.is_none() {
            self.presence = self.module().map(|module| module.code().ceilings().join());
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
        if self.live.as_ref().is_some_and(|live| live.is_closing()) {
            return Some(CallError::Closed.into());
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
        self.bury(result.as_ref().err());
        // A live guest keeps its last invocation until the next one.
        if self.fed {
            self.invocation.set_stdin(Stdin::Bytes(Vec::new()));
        }
        self.invocation.close_http();
        self.invocation.turn.give_back();
        if self.failure.is_none() {
            self.failure = result.as_ref().err().cloned().map(Box::new);
        }
        result.map_or_else(Step::Failed, Step::Finished)
    }

    /// Gives what is left of the work to the reaper: a suspended guest takes time to drop.
    fn bury(&mut self, failure: Option<&Error>) {
        if let Some(work) = self.work.take() {
            match (&self.live, self.invocation.lease()) {
                (Some(live), Some(lease)) => {
                    let invocation = &self.invocation;
                    invocation.charge_at_least(invocation.fuel_used() + invocation.yield_fuel());
                    live.poison(lease, Some(failure.map_or_else(given_up, Error::line)));
                }
                // It has not touched the guest yet and holds nothing that takes time to drop, but its place in the queue.
                (Some(_), None) => return drop(work),
                (None, _) => {}
            }
            reap((work, self.module().cloned()));
        }
    }

    /// Gives an open host call, which must be the innermost, a command; the next step carries it out.
    pub fn command(&self, call: HostCall, command: Command) -> Result<(), Error> {
        match self.invocation.mail.command(call, command) {
            // The next step says how it ended.
            Err(CallError::Busy) if self.work.is_none() => Ok(()),
            given => Ok(given?),
        }
    }

    /// The embedder has the resources that were handed over with an open host call: from here on they are its own, whatever becomes
    /// of the guest or of whoever drives it.
    pub fn take_over(&self, call: HostCall) {
        self.invocation.mail.take_over(call);
    }

    /// Gives the execution up: what is left of the guest's call is unwound on the reaper's thread.
    pub fn abandon(&mut self) {
        let _ = self.end(Err(Error::Cancelled));
        self.presence = None;
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

    /// Whether a command for an open host call of one of `importer`'s functions may be carried out on a normal scheduler: the
    /// guest is small, and so are the values that the function gives and the output that is handed over when the guest ends.
    pub fn fits_inline(&self, importer: &Code, call: HostCall) -> bool {
        self.is_small() && !importer.imports().get(call.import as usize).is_some_and(Import::gives_references)
    }

    /// Whether a normal scheduler may carry this command out, as far as that lies with what is called by it.
    pub fn may_carry_out_inline(&self, command: &Command) -> bool {
        match command {
            Command::CallAgain { function, .. } => function.may_go_on_inline(&self.invocation.limits),
            _ => true,
        }
    }

    /// Whether a normal scheduler may take the next step of a guest that has waited, or for which an errand was run: it goes on in
    /// its own code, and it is small.
    pub fn may_wake_inline(&self) -> bool {
        (self.errand || self.invocation.dozing()) && self.is_small()
    }

    fn is_small(&self) -> bool {
        let limits = &self.invocation.limits;
        self.invocation.peak_memory() <= INLINE_MEMORY
            && self.invocation.output_bytes() <= INLINE_OUTPUT
            && self.paced.as_ref().is_none_or(|paced| paced.may_go_on_inline(limits))
    }

    /// Bytes of values that may be passed at once: see [`crate::limits::Limits::max_transfer`].
    pub fn max_transfer(&self) -> u64 {
        self.invocation.limits.max_transfer
    }

    /// Whether `call` is the innermost open host call, the only one that may ask for anything.
    pub fn is_open(&self, call: HostCall) -> bool {
        self.invocation.mail.is_open(call)
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

    /// What came of an errand for the exchange with this number; zero is that of the request that the call is for.
    pub fn errand_done(&self, number: u32, came: Came) {
        self.invocation.errand_done(number, came);
    }

    /// Lets the guest wait after each write to its standard output and error: see [`Step::Output`].
    pub fn hand_over_output(&self) {
        self.invocation.hand_over_output();
    }

    /// Whether a normal scheduler may hand over what waits of these streams.
    pub fn output_fits_inline(&self, streams: &[Stream]) -> bool {
        self.invocation.output_waiting(streams) as u64 <= INLINE_OUTPUT
    }

    /// What went to these streams and nobody has taken yet.
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

    /// What had been used when the last step ended, with what was put out and refused, taken.
    pub fn tally(&self) -> Tally {
        Tally { usage: self.usage(), output: self.take_output(), denials: self.invocation.take_denials() }
    }

    /// Lets go of what was put out: nobody wants to know, and a live guest keeps its last invocation.
    pub fn forget(&self) {
        drop(self.take_output());
    }

    fn take_output(&self) -> Output {
        if self.invocation.output_bytes() == 0 { Output::default() } else { self.invocation.take_output() }
    }

    /// The live guest that this runs on; `None` where it makes one, or has one for itself.
    pub fn live(&self) -> Option<&Arc<LiveGuest>> {
        self.live.as_ref()
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
        self.bury(None);
    }
}

/// What is said of a call that nobody drives any more.
fn given_up() -> Arc<str> {
    "the process that made the call ended before it did".into()
}

fn patience(ceilings: &Ceilings, invocation: &Invocation) -> Option<Box<(Instant, Error)>> {
    let wait = invocation.limits.wait;
    (!wait.is_zero()).then(|| Box::new((later(invocation.started, wait), ceilings.full().into())))
}
