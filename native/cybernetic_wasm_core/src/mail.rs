//! What a suspended guest and the driver tell each other: the guest's side leaves a notice, of a host call above all, and the
//! driver answers with a [`Command`].

use crate::access::Access;
use crate::code::{Code, Function};
use crate::error::{CallError, Error, Limit, LimitError};
use crate::member::MemberId;
use crate::value::{FuncRef, Value};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;

/// Host calls that may be open at once, one inside the other. Each holds a fiber and a frame of the driver's stack.
const MAX_REENTRANCE: usize = 200;

/// One open host call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostCall {
    /// Which of the guest's members imports the function.
    pub member: MemberId,
    /// The function's index in that member's [`Code::imports`].
    pub import: u32,
    /// Tells it from the other host calls of its execution.
    pub serial: u64,
}

/// What the driver may ask of a suspended host call.
#[derive(Debug)]
pub enum Command {
    /// Go on in the guest with these results.
    Return(Vec<Value>),
    /// Unwind the guest.
    Raise,
    /// Trap: nothing was given for this import.
    Unknown,
    /// Look at the guest, or change something in it.
    Access(Access),
    /// Call an export of the guest that is suspended.
    Call {
        /// The export.
        function: Arc<Function>,
        /// Its arguments.
        args: Vec<Value>,
    },
    /// The same of a component, which the embedder says is written for that.
    CallAgain {
        /// The export.
        function: Arc<Function>,
        /// Its arguments.
        args: Vec<Value>,
    },
    /// Call what a function reference of the suspended guest's refers to.
    CallRef {
        /// The reference.
        reference: FuncRef,
        /// Its arguments.
        args: Vec<Value>,
    },
    /// Fuel that is left, `None` where fuel is not metered.
    Fuel,
}

/// The answer to a command that does not end the host call.
#[derive(Debug)]
pub enum Answer {
    /// A change was made.
    Done,
    /// A piece of memory.
    Bytes(Vec<u8>),
    /// A call's results, or the value of a global or table element.
    Values(Vec<Value>),
    /// A size, or fuel.
    Number(Option<u64>),
    /// Where bytes of a memory are.
    Range {
        /// First byte.
        offset: u64,
        /// How many.
        length: u64,
        /// The memory's size in bytes.
        size: u64,
    },
}

/// What the guest's side tells the driver.
pub(crate) enum Notice {
    HostCall {
        call: HostCall,
        args: Vec<Value>,
    },
    Answer(Result<Answer, Error>),
    /// The guest reads, and there is nothing.
    WantsInput,
    /// There is output to be taken before the guest goes on.
    Output,
}

/// The mail of one invocation.
#[derive(Default)]
pub(crate) struct Mail(Mutex<State>);

#[derive(Default)]
struct State {
    notice: Option<Notice>,
    command: Option<Command>,
    /// The innermost host call waits for a command. Otherwise it carries one out, or the guest runs.
    asking: bool,
    open: Vec<OpenCall>,
    /// That of the last host call.
    serial: u64,
}

/// A host call that has not returned yet.
struct OpenCall {
    call: HostCall,
    /// The code that imports the function, where it is not the guest's first.
    importer: Option<Arc<Code>>,
    /// Where resources of the embedder's are handed over: whether it has them.
    taken_over: Option<Arc<AtomicBool>>,
}

impl State {
    /// Tells the driver something, after which it may give a command.
    fn ask(&mut self, notice: Notice) {
        self.notice = Some(notice);
        self.asking = true;
    }

    fn is_open(&self, call: HostCall) -> bool {
        self.open.last().is_some_and(|open| open.call == call)
    }
}

impl Mail {
    /// Tells the driver of a host call, which is the innermost from now on.
    pub(crate) fn open(
        &self,
        importer: Option<Arc<Code>>,
        (member, import): (MemberId, u32),
        args: Vec<Value>,
    ) -> Result<(), LimitError> {
        let mut state = self.0.lock();
        if state.open.len() >= MAX_REENTRANCE {
            return Err(LimitError::new(Limit::Reentrance, MAX_REENTRANCE as u64, state.open.len() as u64 + 1));
        }
        state.serial += 1;
        let call = HostCall { member, import, serial: state.serial };
        state.open.push(OpenCall { call, importer, taken_over: None });
        state.ask(Notice::HostCall { call, args });
        Ok(())
    }

    /// Resources are handed over with the host call that was opened last: what becomes true when the embedder has them.
    pub(crate) fn hand_over(&self) -> Arc<AtomicBool> {
        let taken_over = Arc::new(AtomicBool::new(false));
        if let Some(open) = self.0.lock().open.last_mut() {
            open.taken_over = Some(Arc::clone(&taken_over));
        }
        taken_over
    }

    /// The embedder has what was handed over with `call`.
    pub(crate) fn take_over(&self, call: HostCall) {
        let state = self.0.lock();
        let taken_over = state.open.iter().find(|open| open.call == call).and_then(|open| open.taken_over.as_ref());
        taken_over.into_iter().for_each(|taken_over| taken_over.store(true, Relaxed));
    }

    /// Whether the guest is in a host call.
    pub(crate) fn is_any_open(&self) -> bool {
        !self.0.lock().open.is_empty()
    }

    /// Whether `call` is the innermost open one.
    pub(crate) fn is_open(&self, call: HostCall) -> bool {
        self.0.lock().is_open(call)
    }

    /// The code whose import the open `call` is, where that is not the guest's first.
    pub(crate) fn importer(&self, call: HostCall) -> Option<Arc<Code>> {
        self.0.lock().open.iter().find(|open| open.call == call)?.importer.clone()
    }

    /// Hands a command to the innermost open host call, which must be `call`. It takes one at a time: a second, from another
    /// process while a re-entrant call goes on, would be answered in the place of the first.
    pub(crate) fn command(&self, call: HostCall, command: Command) -> Result<(), CallError> {
        let mut state = self.0.lock();
        if !state.is_open(call) {
            return Err(CallError::StaleContext);
        }
        if !std::mem::take(&mut state.asking) {
            return Err(CallError::Busy);
        }
        state.command = Some(command);
        Ok(())
    }

    /// Tells the driver something that it answers by no command.
    pub(crate) fn tell(&self, notice: Notice) {
        self.0.lock().notice = Some(notice);
    }

    pub(crate) fn take_notice(&self) -> Option<Notice> {
        self.0.lock().notice.take()
    }

    /// Tells the driver how its command went.
    pub(crate) fn answer(&self, answer: Result<Answer, Error>) {
        self.0.lock().ask(Notice::Answer(answer));
    }

    /// Waits for the driver's next command, which never comes before it has been told something. One that ends the host
    /// call closes it.
    pub(crate) async fn next_command(&self) -> Command {
        let mut told = false;
        std::future::poll_fn(|_| {
            if !std::mem::replace(&mut told, true) {
                return Poll::Pending;
            }
            let mut state = self.0.lock();
            let Some(command) = state.command.take() else { return Poll::Pending };
            if matches!(command, Command::Return(_) | Command::Raise | Command::Unknown) {
                state.open.pop();
            }
            Poll::Ready(command)
        })
        .await
    }
}
