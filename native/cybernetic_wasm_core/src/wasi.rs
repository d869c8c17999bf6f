//! WASI preview 1: what a guest of a system interface sees, within what its sandbox grants.
//!
//! `wasmtime-wasi` does the work. This module stands around each of its functions (`functions.rs`): it counts the call,
//! moves file work off the normal schedulers, ends a slice that is spent, and asks the grants first; what they refuse gets
//! its errno and is recorded (`call.rs`). Descriptors, the quota and the bound on open files are in `files.rs`, the guest's
//! private directory in `scratch.rs`, standard input and output in `stdio.rs` (both ends are the invocation's, so that they
//! follow each call on a live instance), waiting and clocks in `poll.rs` and `clocks.rs`.
//!
//! File work is done where the step runs. What may keep a thread for long, opening a file and listing a directory, is done
//! apart from the guest, on a thread of its own (`apart.rs`), so that the deadline holds.
//!
//! No thread ever waits for a guest here. Timers are `tokio`'s, on one thread for the node; a guest that sleeps is a
//! pending execution like any other.

mod apart;
mod call;
mod clocks;
mod directories;
mod files;
mod functions;
mod poll;
mod random;
mod scratch;
mod stdio;
mod timer;

pub use clocks::Clocks;
pub(crate) use functions::{MODULE, linker, signature_of};
pub use random::Random;
pub use scratch::remove_all as remove_scratch_directories;

use crate::error::{CallError, Error};
use crate::invocation::Invocation;
use crate::limits::Ceilings;
use apart::Lane;
use files::Descriptors;
use random::Source;
use scratch::Scratch;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use stdio::Console;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// A directory of the host's that a guest may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Where it is.
    pub host: PathBuf,
    /// What the guest calls it.
    pub guest: String,
    /// Whether the guest may change what is in it.
    pub writable: bool,
}

/// Which of this process's own standard streams are a terminal's.
pub fn terminals() -> [bool; 3] {
    [std::io::stdin().is_terminal(), std::io::stdout().is_terminal(), std::io::stderr().is_terminal()]
}

/// What a guest is given of the system: everything else is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// The command line, the program's name first.
    pub args: Vec<String>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// Directories.
    pub dirs: Vec<Directory>,
    /// Where the guest finds a directory of its own, which is gone afterwards.
    pub scratch: Option<String>,
    /// Bytes that it may write to files. A new file, directory or link counts as 4,096.
    pub quota: u64,
    /// Files and directories that it may have open at once, beside those that it is given.
    pub max_open: u64,
    /// What its clocks show.
    pub clocks: Clocks,
    /// Where its random bytes come from.
    pub random: Random,
    /// Whether it has standard input, standard output and standard error.
    pub stdio: [bool; 3],
    /// Which of these are a terminal's: programs then hand out each line, and prompts at once.
    pub terminals: [bool; 3],
    /// Imports of the module, by their index, that the embedder answers itself.
    pub answered: Vec<u32>,
}

impl Grants {
    /// Whether two modules can share one guest's system: their command lines and what is answered for them are their own.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let system = |grants: &Self| Self { args: Vec::new(), answered: Vec::new(), ..grants.clone() };
        system(self) == system(other)
    }

    pub(crate) fn touch_files(&self) -> bool {
        !self.dirs.is_empty() || self.scratch.is_some()
    }
}

/// One guest's share of the system.
pub(crate) struct Wasi {
    /// `None` while it is elsewhere: see `apart.rs`.
    ctx: Option<WasiP1Ctx>,
    clocks: clocks::Clock,
    random: Source,
    stdio: [bool; 3],
    descriptors: Descriptors,
    lane: Lane,
    console: Arc<Console>,
    /// Whether there is any directory.
    files: bool,
    _scratch: Option<Scratch>,
}

impl Wasi {
    /// Opens what is granted: not on a normal scheduler, where there are directories.
    pub(crate) async fn new(
        grants: &Grants,
        invocation: &Arc<Invocation>,
        ceilings: &Arc<Ceilings>,
    ) -> Result<Box<Self>, Error> {
        if grants.touch_files() {
            invocation.leave_inline().await;
        }
        let given = grants.dirs.len() + usize::from(grants.scratch.is_some());
        let descriptors = Descriptors::new(given as u32, grants, ceilings)?;
        let console = Console::new(invocation, ceilings);
        let clocks = clocks::Clock::new(&grants.clocks);
        let mut builder = WasiCtxBuilder::new();
        // File work is done where the step runs, which is never a normal scheduler. With this, `wasmtime-wasi` would also
        // sleep there: `poll.rs` keeps every sleep from it.
        builder.allow_blocking_current_thread(true);
        builder.args(&grants.args).envs(&grants.env);
        let [stdin, stdout, stderr] = grants.terminals;
        builder.stdin(console.input(stdin)).stdout(console.out(stdout)).stderr(console.err(stderr));
        clocks.give_to(&mut builder);
        for Directory { host, guest, writable } in &grants.dirs {
            let perms = if *writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            let opened = directories::open(host).map_err(wasmtime::Error::from);
            let given = opened.and_then(|opened| directories::give(&mut builder, &opened, (guest, perms)));
            given.map_err(|error| no_directory(&host.display().to_string(), guest, &error))?;
        }
        let scratch = grants.scratch.as_deref().map(|guest| scratch(&mut builder, guest)).transpose()?;
        Ok(Box::new(Self {
            ctx: Some(builder.build_p1()),
            clocks,
            random: Source::new(&grants.random),
            stdio: grants.stdio,
            lane: Lane::of(grants),
            descriptors,
            console,
            files: given > 0,
            _scratch: scratch,
        }))
    }

    fn ctx(&mut self) -> Result<&mut WasiP1Ctx, Error> {
        self.ctx.as_mut().ok_or_else(|| Error::Internal("the guest's system is elsewhere".into()))
    }

    fn has_files(&self) -> bool {
        self.files
    }

    /// From now on the guest's input and output are those of `invocation`.
    pub(crate) fn begin(&self, invocation: &Arc<Invocation>) {
        self.console.attach(invocation);
    }
}

fn scratch(builder: &mut WasiCtxBuilder, guest: &str) -> Result<Scratch, Error> {
    let failed = |error: wasmtime::Error| no_directory("a temporary directory", guest, &error);
    let scratch = Scratch::new().map_err(|error| failed(error.into()))?;
    directories::give(builder, scratch.directory(), (guest, FsPerms::ReadWrite)).map_err(failed)?;
    Ok(scratch)
}

fn no_directory(host: &str, guest: &str, error: &wasmtime::Error) -> Error {
    let detail = error.root_cause().to_string();
    CallError::NoDirectory { host: host.to_owned(), guest: guest.to_owned(), detail }.into()
}
