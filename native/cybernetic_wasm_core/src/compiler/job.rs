//! What the compiler is asked, and what it answers: between two threads, or two processes.

use crate::code::Outline;
use crate::engine::CodeConfig;
use crate::error::{CallError, Error, LimitError, LoadError};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What one compilation may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Budget {
    /// Bytes resident while it runs.
    pub memory: u64,
    /// Time on processors.
    pub time: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self { memory: 1_000_000_000, time: Duration::from_secs(60) }
    }
}

/// A module to be compiled. Its source goes beside this.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Request {
    /// What code is wanted.
    pub config: CodeConfig,
    /// Whether the module is to be made fit for snapshots first.
    pub instrument: bool,
    /// What it may take.
    pub budget: Budget,
    /// Threads that may compile it.
    pub threads: usize,
    /// Whether functions that nest deeply are refused: where nothing ends a compilation they are.
    pub refuse_deep: bool,
}

/// A compiled module, as a process hands it over. Two pieces of bytes go beside this.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {
    pub(crate) outline: Outline,
    /// Bytes of the binary format, which come first, where that is not the source itself.
    pub(crate) binary: Option<u64>,
    /// Bytes of code. They come next, or in a memory file that is handed over.
    pub(crate) code: u64,
}

/// What a compiling process tells.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Its first word: which build it is.
    Hello {
        /// The build: see [`crate::compiler::BUILD`].
        build: String,
    },
    /// It is still at its job.
    Working,
    /// The job is done.
    Done(Box<Done>),
    /// The module cannot be compiled.
    Refused(Refusal),
    /// The compiler panicked, with this text.
    Panicked(String),
}

/// One word of a compiling process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Word {
    /// What it says.
    pub answer: Answer,
    /// Bytes that the process has resident.
    pub resident: u64,
    /// It has less of the processors than others, for good: a job took it long.
    pub stepped_back: bool,
}

/// Why a module was not compiled.
#[derive(Debug, Serialize, Deserialize)]
pub enum Refusal {
    /// It is at fault itself.
    Load(LoadError),
    /// It takes too much.
    Limit(LimitError),
    /// Its state cannot be captured.
    NoSnapshot(String),
    /// Something else.
    Internal(String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Load(error) => Refusal::Load(error),
            Error::Limit(error) => Refusal::Limit(error),
            Error::Call(CallError::NoSnapshot(text)) => Refusal::NoSnapshot(text),
            other => Refusal::Internal(other.to_string()),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Load(error) => error.into(),
            Refusal::Limit(error) => error.into(),
            Refusal::NoSnapshot(text) => CallError::NoSnapshot(text).into(),
            Refusal::Internal(text) => Error::Internal(text),
        }
    }
}
