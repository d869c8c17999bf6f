//! What one call owns beside its store, however often the guest re-enters: its limits and their counters, the mail between
//! a suspended host call and the driver, and the wake-up.
//!
//! The execution (`execution.rs`) and the guest's own side (`store.rs`, `host.rs`, `wasi.rs`) share it; neither needs the
//! other. What the guest puts out is in `invocation/output.rs`, what it is given to read in `invocation/input.rs`, and what
//! it was refused in `invocation/denials.rs`.

mod denials;
mod input;
mod output;

pub use denials::Denial;
pub use input::Stdin;
pub use output::{Output, Stream};

use crate::error::{CallError, Error, Limit, LimitError};
use crate::host::{Answer, Command};
use crate::instance::MemberId;
use crate::limits::{Ceilings, Limits};
use crate::module::Module;
use crate::value::Value;
use output::Emitted;
use parking_lot::Mutex;
use quanta::Instant;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::{Poll, Wake};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory that a guest may have on a normal scheduler: filling this much with one bulk instruction, which no slice can
/// interrupt, takes well under a millisecond.
pub(crate) const INLINE_MEMORY: u64 = 2 << 20;

/// Host calls that may be open at once, one inside the other. Each holds a fiber and a frame of the driver's stack.
const MAX_REENTRANCE: usize = 200;

/// One call of the embedder's.
pub(crate) struct Invocation {
    pub(crate) limits: Limits,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    pub(crate) turn: Turn,
    /// Set while a step runs on a normal scheduler.
    inline: AtomicBool,
    /// The step is to end here: its time is spent, or what follows does not belong on a normal scheduler.
    hop: AtomicBool,
    /// When the step's time is spent, in nanoseconds from the start.
    slice_end: AtomicU64,
    /// Set while the call queues for a place among the live guests.
    queueing: AtomicBool,
    /// The number of the lease that the call has on its instance; zero before, and for a guest of its own.
    lease: AtomicU64,
    /// Set when a re-entrant call was cut off: what it left behind is not to be trusted.
    tainted: AtomicBool,
    peak_memory: AtomicU64,
    host_calls: AtomicU64,
    fuel_used: AtomicU64,
    refused: Mutex<Option<LimitError>>,
    output: Emitted,
    stdin: Mutex<input::Input>,
    denials: Mutex<denials::Denials>,
    mail: Mutex<Mail>,
    woken: AtomicBool,
    listener: Mutex<Option<Listener>>,
}

/// Called once when a waiting execution can go on.
pub type Listener = Box<dyn FnOnce() + Send>;

/// What the guest's side tells the driver.
pub(crate) enum Notice {
    HostCall {
        member: MemberId,
        import: u32,
        args: Vec<Value>,
        serial: u64,
    },
    Answer(Result<Answer, Error>),
    /// The guest reads, and there is nothing: see [`Invocation::give_input`].
    WantsInput,
    /// There is output to be taken before the guest goes on.
    Output,
}

#[derive(Default)]
struct Mail {
    notice: Option<Notice>,
    command: Option<Command>,
    /// The innermost host call waits for a command. Otherwise it carries one out, or the guest runs.
    asking: bool,
    open: Vec<OpenCall>,
    serial: u64,
}

impl Mail {
    /// Tells the driver something, after which it may give a command.
    fn tell(&mut self, notice: Notice) {
        self.notice = Some(notice);
        self.asking = true;
    }

    /// Whether `serial` names the innermost open host call.
    fn is_open(&self, serial: u64) -> bool {
        self.open.last().is_some_and(|call| call.serial == serial)
    }
}

/// A host call that has not returned yet.
struct OpenCall {
    serial: u64,
    /// The module that imports the function, where it is not the guest's first.
    importer: Option<Arc<Module>>,
}

/// `time` after `start`, or about a century where the clock does not go that far.
pub(crate) fn later(start: Instant, time: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
    start + time.min(CENTURY)
}

impl Invocation {
    pub(crate) fn new(limits: Limits, ceilings: &Ceilings) -> Arc<Self> {
        let started = Instant::now();
        Arc::new(Self {
            deadline: later(started, limits.time),
            started,
            turn: Turn { queue: ceilings.turn().cloned(), held: Mutex::new(None) },
            limits,
            inline: AtomicBool::new(false),
            hop: AtomicBool::new(false),
            slice_end: AtomicU64::new(0),
            queueing: AtomicBool::new(false),
            lease: AtomicU64::new(0),
            tainted: AtomicBool::new(false),
            peak_memory: AtomicU64::new(0),
            host_calls: AtomicU64::new(0),
            fuel_used: AtomicU64::new(0),
            refused: Mutex::new(None),
            output: Emitted::default(),
            stdin: Mutex::default(),
            denials: Mutex::default(),
            mail: Mutex::default(),
            woken: AtomicBool::new(false),
            listener: Mutex::new(None),
        })
    }

    // Counters

    pub(crate) fn peak_memory(&self) -> u64 {
        self.peak_memory.load(Relaxed)
    }

    /// Only the guest's side calls this, so that it needs no atomic maximum.
    pub(crate) fn saw_memory(&self, bytes: u64) {
        if bytes > self.peak_memory() {
            self.peak_memory.store(bytes, Relaxed);
        }
    }

    pub(crate) fn host_calls(&self) -> u64 {
        self.host_calls.load(Relaxed)
    }

    pub(crate) fn fuel_used(&self) -> u64 {
        self.fuel_used.load(Relaxed)
    }

    pub(crate) fn set_fuel_used(&self, fuel: u64) {
        self.fuel_used.store(fuel, Relaxed);
    }

    /// Only the stepping thread calls this, at every yield.
    pub(crate) fn add_fuel_used(&self, fuel: u64) {
        self.set_fuel_used(self.fuel_used() + fuel);
    }

    /// A growth that was refused: a trap that follows it is this limit's doing.
    pub(crate) fn refuse(&self, error: LimitError) {
        *self.refused.lock() = Some(error);
    }

    pub(crate) fn refused(&self) -> Option<LimitError> {
        self.refused.lock().clone()
    }

    pub(crate) fn take_refused(&self) -> Option<LimitError> {
        self.refused.lock().take()
    }

    pub(crate) fn time_error(&self) -> LimitError {
        let millis = |duration: Duration| duration.as_millis() as u64;
        LimitError::new(Limit::Time, millis(self.limits.time), millis(self.started.elapsed()))
    }

    // Host calls

    /// Counts a call of an imported function in, whoever answers it.
    pub(crate) fn count_host_call(&self) -> Result<(), LimitError> {
        let calls = self.host_calls() + 1;
        if calls > self.limits.max_host_calls {
            return Err(LimitError::new(Limit::HostCalls, self.limits.max_host_calls, calls));
        }
        self.host_calls.store(calls, Relaxed);
        Ok(())
    }

    /// Counts a host call in and tells the driver of it.
    pub(crate) fn open_host_call(
        &self,
        importer: Option<Arc<Module>>,
        (member, import, args): (MemberId, u32, Vec<Value>),
    ) -> Result<(), LimitError> {
        self.count_host_call()?;
        let mut mail = self.mail.lock();
        if mail.open.len() >= MAX_REENTRANCE {
            return Err(LimitError::new(Limit::Reentrance, MAX_REENTRANCE as u64, mail.open.len() as u64 + 1));
        }
        mail.serial += 1;
        let serial = mail.serial;
        mail.open.push(OpenCall { serial, importer });
        mail.tell(Notice::HostCall { member, import, args, serial });
        Ok(())
    }

    pub(crate) fn is_open(&self, serial: u64) -> bool {
        self.mail.lock().is_open(serial)
    }

    /// The module whose import the open host call `serial` is, where that is not the guest's first.
    pub(crate) fn importer(&self, serial: u64) -> Option<Arc<Module>> {
        self.mail.lock().open.iter().find(|call| call.serial == serial)?.importer.clone()
    }

    /// Hands a command to the innermost open host call, which must be the one that `serial` names. It takes one at a time:
    /// a second, from another process while a re-entrant call goes on, would be answered in the place of the first.
    pub(crate) fn command(&self, serial: u64, command: Command) -> Result<(), CallError> {
        let mut mail = self.mail.lock();
        if !mail.is_open(serial) {
            return Err(CallError::StaleContext);
        }
        if !std::mem::take(&mut mail.asking) {
            return Err(CallError::Busy);
        }
        mail.command = Some(command);
        Ok(())
    }

    pub(crate) fn take_notice(&self) -> Option<Notice> {
        self.mail.lock().notice.take()
    }

    /// Tells the driver how its command went.
    pub(crate) fn answer(&self, answer: Result<Answer, Error>) {
        self.mail.lock().tell(Notice::Answer(answer));
    }

    /// Waits for the driver's next command, which never comes before it has been told something. One that ends the host
    /// call closes it.
    pub(crate) async fn next_command(&self) -> Command {
        let mut told = false;
        std::future::poll_fn(|_| {
            if !std::mem::replace(&mut told, true) {
                return Poll::Pending;
            }
            let mut mail = self.mail.lock();
            let Some(command) = mail.command.take() else { return Poll::Pending };
            if matches!(command, Command::Return(_) | Command::Raise) {
                mail.open.pop();
            }
            Poll::Ready(command)
        })
        .await
    }

    // Scheduling

    /// A step begins, on a normal scheduler or not, whose time is spent at `until`.
    pub(crate) fn enter(&self, inline: bool, until: Instant) {
        self.inline.store(inline, Relaxed);
        let end = until.saturating_duration_since(self.started);
        self.slice_end.store(end.as_nanos() as u64, Relaxed);
    }

    /// Before a guest gets `bytes` of memory: leaves the normal scheduler if that is more than it may have there.
    pub(crate) async fn leave_inline_for(&self, bytes: u64) {
        if bytes > INLINE_MEMORY {
            self.leave_inline().await;
        }
    }

    /// Before work that may take long: leaves the normal scheduler.
    pub(crate) async fn leave_inline(&self) {
        if self.inline.load(Relaxed) {
            self.pause().await;
        }
    }

    /// In the middle of work that has many parts: ends the step if its time is spent.
    pub(crate) async fn breathe(&self) {
        if self.started.elapsed().as_nanos() as u64 >= self.slice_end.load(Relaxed) {
            self.pause().await;
        }
    }

    /// Ends the step, as a spent slice does.
    pub(crate) async fn pause(&self) {
        self.hop.store(true, Relaxed);
        once_pending().await;
    }

    pub(crate) fn take_hop(&self) -> bool {
        self.hop.load(Relaxed) && self.hop.swap(false, Relaxed)
    }

    pub(crate) fn set_queueing(&self, queueing: bool) {
        self.queueing.store(queueing, Relaxed);
    }

    pub(crate) fn queueing(&self) -> bool {
        self.queueing.load(Relaxed)
    }

    pub(crate) fn set_lease(&self, number: u64) {
        self.lease.store(number, Relaxed);
    }

    pub(crate) fn lease(&self) -> Option<u64> {
        Some(self.lease.load(Relaxed)).filter(|number| *number != 0)
    }

    pub(crate) fn taint(&self) {
        self.tainted.store(true, Relaxed);
    }

    pub(crate) fn tainted(&self) -> bool {
        self.tainted.load(Relaxed)
    }

    // Wake-ups

    pub(crate) fn before_poll(&self) {
        self.woken.store(false, SeqCst);
    }

    pub(crate) fn woken(&self) -> bool {
        self.woken.load(SeqCst)
    }

    /// Arms `listener` for the next wake-up, or says that it has already come. A wake-up sets the flag before it looks
    /// for a listener, and this looks at the flag while it holds the listener's lock: none is missed.
    pub(crate) fn listen(&self, listener: Listener) -> bool {
        let mut slot = self.listener.lock();
        if self.woken() {
            return false;
        }
        *slot = Some(listener);
        true
    }

    /// Takes the listener back. False: a wake-up has taken it already.
    pub(crate) fn unlisten(&self) -> bool {
        self.listener.lock().take().is_some()
    }
}

/// Gives way to whoever polls, once.
async fn once_pending() {
    let mut told = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut told, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Ends executions from outside: given to one before its first step, it makes the next step fail. Whoever holds it may
/// do that, from any thread, also while a step runs; a waiting execution is woken for it.
#[derive(Debug, Default)]
pub struct Cancel {
    cancelled: AtomicBool,
    invocation: Mutex<Weak<Invocation>>,
}

impl Cancel {
    /// Ends the execution that this was given to, and every one that it will be given to.
    pub fn cancel(&self) {
        self.cancelled.store(true, SeqCst);
        if let Some(invocation) = self.invocation.lock().upgrade() {
            invocation.wake_by_ref();
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    pub(crate) fn attach(&self, invocation: &Arc<Invocation>) {
        *self.invocation.lock() = Arc::downgrade(invocation);
    }
}

impl std::fmt::Debug for Invocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invocation").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Wake for Invocation {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        if let Some(listener) = self.listener.lock().take() {
            listener();
        }
    }
}

/// The right to run a guest where only one may run at a time. It is given back during a host call, so that a host function
/// may call another guest.
pub(crate) struct Turn {
    queue: Option<Arc<Semaphore>>,
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Turn {
    pub(crate) async fn take(&self) {
        if let Some(queue) = &self.queue {
            // The semaphore is never closed.
            let permit = Arc::clone(queue).acquire_owned().await.ok();
            *self.held.lock() = permit;
        }
    }

    pub(crate) fn give_back(&self) {
        if self.queue.is_some() {
            self.held.lock().take();
        }
    }
}
