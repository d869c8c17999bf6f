//! What one call owns beside its store, however often the guest re-enters: its limits and their counters, its time on
//! schedulers, its mail and its wake-up.
//!
//! The execution (`execution.rs`) and the guest's own side (`store.rs`, `host.rs`, `wasi.rs`) share it; neither needs the
//! other. Each of its parts has a file here.

mod account;
mod cancel;
mod denials;
mod http;
mod input;
mod meter;
mod output;
mod slice;
mod turn;
mod wake;

pub(crate) use account::Account;
pub use cancel::Cancel;
pub use denials::Denial;
pub(crate) use http::Awaited;
pub use http::{Asked, Came, Errand, Fields, NotSent, Request};
pub use input::Stdin;
pub use meter::Usage;
pub use output::{Output, Stream};
pub use wake::Listener;

use self::http::Http;
use crate::error::{Limit, LimitError, Waiting};
use crate::limits::{Ceilings, Limits};
use crate::mail::Mail;
use denials::Denials;
use input::Input;
use meter::Meter;
use once_cell::sync::OnceCell;
use output::Emitted;
use parking_lot::Mutex;
use quanta::Instant;
use slice::Slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use turn::Turn;
use wake::WakeUp;

/// One call of the embedder's.
pub(crate) struct Invocation {
    pub(crate) limits: Limits,
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    pub(crate) turn: Turn,
    pub(crate) mail: Mail,
    slice: Slice,
    meter: Meter,
    /// What the live guest has used that it is for.
    account: Option<Arc<Account>>,
    wake_up: WakeUp,
    output: Emitted,
    stdin: Mutex<Input>,
    denials: Mutex<Denials>,
    /// What it has to do with HTTP, if anything.
    http: OnceCell<Arc<Http>>,
    /// Set while the call waits for something that others have: a place among the live guests, or a guest.
    queueing: AtomicBool,
    /// Set while the call waits for a module to be compiled.
    compiling: AtomicBool,
    /// Set while the guest waits in [`Invocation::doze`].
    dozing: AtomicBool,
    /// The number of the lease that the call has on a live guest; zero before, and for a guest of its own.
    lease: AtomicU64,
    /// Set when a re-entrant call was cut off: what it left behind is not to be trusted.
    tainted: AtomicBool,
    /// Set when a call failed before any of the guest's code ran for it.
    unbegun: AtomicBool,
}

impl std::fmt::Debug for Invocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Invocation").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// `time` after `start`, or about a century where the clock does not go that far.
pub(crate) fn later(start: Instant, time: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);
    start + time.min(CENTURY)
}

impl Invocation {
    pub(crate) fn new(limits: Limits, ceilings: &Ceilings) -> Arc<Self> {
        Self::on_account(limits, ceilings, None)
    }

    /// One for a live guest, which has an account.
    pub(crate) fn on_account(limits: Limits, ceilings: &Ceilings, account: Option<Arc<Account>>) -> Arc<Self> {
        let started = Instant::now();
        Arc::new(Self {
            deadline: Self::within_budget(later(started, limits.time), account.as_deref()),
            account,
            started,
            limits,
            turn: Turn::new(ceilings),
            mail: Mail::default(),
            slice: Slice::default(),
            meter: Meter::default(),
            wake_up: WakeUp::default(),
            output: Emitted::default(),
            stdin: Mutex::default(),
            denials: Mutex::default(),
            http: OnceCell::new(),
            queueing: AtomicBool::new(false),
            compiling: AtomicBool::new(false),
            dozing: AtomicBool::new(false),
            lease: AtomicU64::new(0),
            tainted: AtomicBool::new(false),
            unbegun: AtomicBool::new(false),
        })
    }

    pub(crate) fn time_error(&self) -> LimitError {
        let millis = |duration: Duration| duration.as_millis() as u64;
        let own = || LimitError::new(Limit::Time, millis(self.limits.time), millis(self.started.elapsed()));
        let error = self.budget_time_error().unwrap_or_else(own);
        LimitError { during: self.waits_for(), ..error }
    }

    fn waits_for(&self) -> Option<Waiting> {
        match self.compiling.load(Relaxed) {
            true => Some(Waiting::Compile),
            false => (self.queueing() || self.turn.is_awaited()).then_some(Waiting::Turn),
        }
    }

    /// Waits for something that others have, for as long as the limits say.
    pub(crate) async fn queue<T>(&self, turn: impl Future<Output = T>) -> T {
        self.queueing.store(true, Relaxed);
        let turn = turn.await;
        self.queueing.store(false, Relaxed);
        turn
    }

    /// Waits for a module that is being compiled.
    pub(crate) async fn compile<T>(&self, module: impl Future<Output = T>) -> T {
        self.compiling.store(true, Relaxed);
        let module = module.await;
        self.compiling.store(false, Relaxed);
        module
    }

    /// Waits where the guest goes on in its own code, with nothing to be made or read for it first.
    pub(crate) async fn doze<T>(&self, wait: impl Future<Output = T>) -> T {
        self.dozing.store(true, Relaxed);
        let waited = wait.await;
        self.dozing.store(false, Relaxed);
        waited
    }

    pub(crate) fn dozing(&self) -> bool {
        self.dozing.load(Relaxed)
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

    /// A call of the guest's code has failed before it began.
    pub(crate) fn not_begun(&self) {
        self.unbegun.store(true, Relaxed);
    }

    /// Whether that was so of the last one.
    pub(crate) fn take_unbegun(&self) -> bool {
        self.unbegun.swap(false, Relaxed)
    }

    pub(crate) fn tainted(&self) -> bool {
        self.tainted.load(Relaxed)
    }
}
