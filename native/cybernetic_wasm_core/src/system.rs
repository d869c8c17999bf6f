//! What one guest has of the system: what it was granted, its descriptors and its quota, clocks, random bytes, standard
//! streams. It knows no interface by which a guest reaches it: `wasi.rs` is one.
//!
//! `wasmtime-wasi` holds the files. Descriptors, the quota and the bound on open files are in `descriptors.rs`, what the guest
//! lists of a directory in `listing.rs`, its private directory in `scratch.rs`, standard input and output in `stdio.rs`: both
//! ends are the invocation's, so that they follow each call on a live instance.
//!
//! No thread ever waits for a guest here. Timers are one thread's for the node (`timer.rs`); a guest that sleeps is a
//! pending execution like any other. What may keep a thread for long is done apart from the guest (`apart.rs`).

mod apart;
mod clocks;
mod descriptors;
mod directories;
mod file_streams;
mod grants;
mod listing;
mod network;
mod null;
mod random;
mod reactor;
mod scratch;
mod stdio;
mod timer;
mod times;
mod web;

pub(crate) use apart::{Buffer, NUMBER};
pub(crate) use clocks::Clock;
pub use clocks::Clocks;
pub(crate) use descriptors::{Descriptor, Descriptors, Full, LONGEST_PATH, NEW_FILE, growth};
pub(crate) use file_streams::Position;
pub use grants::{Directory, Grants};
pub(crate) use listing::{Listing, Unlisted, inode};
pub(crate) use network::{Lookup, Network, is_any};
pub(crate) use null::NAME as NULL;
pub use random::Random;
pub(crate) use reactor::within;
pub use scratch::remove_all as remove_scratch_directories;
pub(crate) use timer::{Sleep, sleep};
pub use times::FileTimes;

use crate::error::{CallError, Error};
use crate::invocation::{Invocation, Stream};
use crate::limits::Ceilings;
use apart::Share;
use random::Source;
use scratch::Scratch;
use std::io::IsTerminal;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use stdio::Console;
use times::Times;
use tokio::runtime::Handle;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, WasiView};
use web::Web;

/// Which of this process's own standard streams are a terminal's.
pub fn terminals() -> [bool; 3] {
    [std::io::stdin().is_terminal(), std::io::stdout().is_terminal(), std::io::stderr().is_terminal()]
}

/// What never waits, since it may block the thread.
pub(crate) fn now<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Ok(done),
        Poll::Pending => Err(Error::Internal("file work has to wait".into())),
    }
}

/// One guest's share of the system.
pub(crate) struct System {
    pub(crate) clocks: Clock,
    pub(crate) times: Times,
    pub(crate) random: Source,
    /// What a component has in the place of random bytes where nobody promises it any.
    any: Option<Source>,
    /// Whether it has standard input, output and error.
    pub(crate) stdio: [bool; 3],
    pub(crate) descriptors: Descriptors,
    /// What `wasmtime-wasi` knows of it, of both previews; `None` while it is lent: see `apart.rs`.
    ctx: Option<WasiP1Ctx>,
    share: Share,
    /// What a component has of the network.
    pub(crate) network: Option<Arc<Network>>,
    web: Web,
    console: Arc<Console>,
    /// Whether there is any directory.
    files: bool,
    _scratch: Option<Scratch>,
}

impl System {
    /// Opens what is granted: not on a normal scheduler, where there are directories.
    pub(crate) async fn new(
        grants: &Grants,
        invocation: &Arc<Invocation>,
        ceilings: &Arc<Ceilings>,
    ) -> Result<Box<Self>, Error> {
        let files = grants.directories() > 0;
        if files {
            invocation.leave_inline().await;
        }
        let descriptors = Descriptors::new(grants, ceilings)?;
        let console = Console::new(invocation, ceilings);
        let clocks = Clock::new(&grants.clocks);
        let mut builder = WasiCtxBuilder::new();
        // File work is done where the step runs, which is never a normal scheduler. With this, `wasmtime-wasi` would also
        // sleep there: `wasi/poll.rs` keeps every sleep from it.
        builder.allow_blocking_current_thread(true);
        builder.args(&grants.args).envs(&grants.env);
        let [stdin, stdout, stderr] = grants.terminals;
        builder.stdin(console.input(stdin)).stdout(console.out(stdout)).stderr(console.err(stderr));
        clocks.give_to(&mut builder);
        let network = grants.network.as_ref().map(Network::new).transpose()?;
        if let Some(network) = &network {
            network.give_to(&mut builder);
        }
        let scratch = give_directories(&mut builder, grants)?;
        Ok(Box::new(Self {
            ctx: Some(builder.build_p1()),
            times: Times::new(grants, &clocks),
            clocks,
            random: Source::new(&grants.random),
            any: None,
            stdio: grants.stdio,
            share: Share::of(grants),
            network,
            web: Web::default(),
            descriptors,
            console,
            files,
            _scratch: scratch,
        }))
    }

    pub(crate) fn ctx(&mut self) -> Result<&mut WasiP1Ctx, Error> {
        self.ctx.as_mut().ok_or_else(|| Error::Internal("the guest's system is elsewhere".into()))
    }

    /// What a component has handles to.
    pub(crate) fn table(&mut self) -> Result<&mut ResourceTable, Error> {
        Ok(self.ctx()?.ctx().table)
    }

    pub(crate) fn has_files(&self) -> bool {
        self.files
    }

    /// What has to be there where the guest waits, if it has sockets.
    pub(crate) fn reactor(&self) -> Option<Handle> {
        self.network.as_ref().map(|network| network.reactor())
    }

    /// Standard input as a component has it.
    pub(crate) fn input(&self) -> DynInputStream {
        self.console.read(self.stdio[0])
    }

    /// Standard output or error.
    pub(crate) fn output(&self, stream: Stream) -> DynOutputStream {
        self.console.write(stream, self.stdio[stream as usize])
    }

    /// Fills `bytes` with random ones; the same in every run where none are granted.
    pub(crate) fn fill_random(&mut self, bytes: &mut [u8]) {
        match self.random.is_none() {
            true => self.any.get_or_insert_with(|| Source::new(&Random::Seeded(0))).fill(bytes),
            false => self.random.fill(bytes),
        }
    }

    /// From now on the guest's input and output are those of `invocation`.
    pub(crate) fn begin(&self, invocation: &Arc<Invocation>) {
        self.console.attach(invocation);
    }
}

/// Opens the directories, and gives the guest's own, to be kept as long as the guest.
fn give_directories(builder: &mut WasiCtxBuilder, grants: &Grants) -> Result<Option<Scratch>, Error> {
    for Directory { host, guest, writable } in &grants.dirs {
        let perms = if *writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
        let opened = directories::open(host).map_err(wasmtime::Error::from);
        let given = opened.and_then(|opened| directories::give(builder, &opened, (guest, perms)));
        given.map_err(|error| no_directory(&host.display().to_string(), guest, &error))?;
    }
    let scratch = grants.scratch.as_deref().map(|guest| scratch(builder, guest)).transpose()?;
    if let Some(path) = &grants.null {
        let opened = null::directory().map_err(wasmtime::Error::from);
        let given =
            opened.and_then(|opened| directories::give(builder, &*opened, (null::folder(path), FsPerms::ReadOnly)));
        given.map_err(|error| no_directory("a temporary directory", path, &error))?;
    }
    Ok(scratch)
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
