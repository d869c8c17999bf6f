//! How a step of an execution ends, and what an execution makes.

use crate::error::Error;
use crate::invocation::{Denial, Errand, Output, Usage};
use crate::live::{LiveGuest, Snapshot};
use crate::mail::{Answer, HostCall, Notice};
use crate::member::MemberId;
use crate::module::Module;
use crate::value::Value;
use std::sync::Arc;

/// How a step ended.
#[derive(Debug)]
pub enum Step {
    /// The work is done.
    Finished(Product),
    /// The slice is spent: step again, on a dirty scheduler.
    Yielded,
    /// The guest calls an imported function, and waits for commands of this host call: see
    /// [`super::Execution::importer`] and [`super::Execution::host`].
    HostCall {
        /// Which it is.
        call: HostCall,
        /// Its arguments.
        args: Vec<Value>,
    },
    /// The guest reads from its standard input, and there is nothing: see [`super::Execution::give_input`].
    WantsInput,
    /// The guest has written: see [`super::Execution::take_output_of`].
    Output,
    /// There is something to do for the guest's HTTP: see [`super::Execution::errand_done`]. What it tells of the guest's own answer
    /// needs no word.
    Http(Errand),
    /// The answer to a command; the host call is still open.
    Answered(Result<Answer, Error>),
    /// Nothing to do until a wake-up: see [`super::Execution::listen`].
    Waiting,
    /// The work failed.
    Failed(Error),
}

impl From<Notice> for Step {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::HostCall { call, args } => Step::HostCall { call, args },
            Notice::Answer(answer) => Step::Answered(answer),
            Notice::WantsInput => Step::WantsInput,
            Notice::Output => Step::Output,
        }
    }
}

/// What an execution makes.
#[derive(Debug)]
pub enum Product {
    /// A call's results.
    Values(Vec<Value>),
    /// A live guest, with its first instance.
    Guest(Arc<LiveGuest>),
    /// One more instance in a live guest.
    Member(MemberId),
    /// The answer to an access.
    Answer(Answer),
    /// A guest's state as a module.
    Snapshot(Snapshot),
    /// The guest is in its module's initial state again.
    Reset,
    /// A compiled module.
    Module(Arc<Module>),
}

/// What a call used, what it put out that nobody has taken yet, and what it was refused.
#[derive(Debug)]
pub struct Tally {
    /// What it used.
    pub usage: Usage,
    /// What it put out.
    pub output: Output,
    /// What it was refused.
    pub denials: Vec<Denial>,
}
