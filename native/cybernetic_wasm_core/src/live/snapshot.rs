//! Snapshots: the state of a live guest as a module. The guest's module exports all of its own (`code/instrument.rs`), so that
//! its globals and memories can be read. Reading them is short, and then the guest is free again; `wasmtime-wizer` writes the
//! module around what was read, but for the memories' contents (`snapshot/fill.rs`), which may be large.
//!
//! All that a snapshot holds counts as memory of the node's guests, and it ends soon once nobody waits for it.

mod fill;
mod memories;

use super::Lease;
use crate::code::instrument::{begin_with, refused, wizer};
use crate::error::Error;
use crate::guest::Guest;
use crate::limits::{Ceilings, Reserved};
use crate::member::MemberId;
use crate::module::Original;
use memories::Memories;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use wasmtime::{Extern, Val};
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType};

/// A module in the binary format whose initial state is what a guest's was.
#[derive(Debug)]
pub struct Snapshot {
    wasm: Vec<u8>,
    /// How often the guest had been used by then.
    pub uses: u64,
    held: Reserved,
}

impl Snapshot {
    /// The digest of the module's bytes, and these to be kept.
    pub(crate) fn keep(self) -> Result<([u8; 32], Original), Error> {
        let held = self.held.beside(self.wasm.len() as u64)?;
        let digest = *blake3::hash(&self.wasm).as_bytes();
        Ok((digest, Original { wasm: self.wasm.into(), _held: held }))
    }
}

impl AsRef<[u8]> for Snapshot {
    fn as_ref(&self) -> &[u8] {
        &self.wasm
    }
}

/// What a snapshot is made with, apart from its guest.
pub(crate) struct Making {
    /// The guest's module as it was loaded.
    pub(crate) source: Arc<[u8]>,
    /// What the module's instances begin with, of what it exports.
    pub(crate) hook: Option<String>,
    pub(crate) ceilings: Arc<Ceilings>,
    /// Gone when nobody waits any more.
    pub(crate) wanted: Weak<()>,
}

impl Making {
    /// The module with the state of the guest in `lease` as its initial state. The guest stays as it is.
    pub(crate) fn take(&self, mut lease: Lease) -> Result<Snapshot, Error> {
        // On the way, and of the result.
        let [mut passing, mut held] = [(); 2].map(|()| Reserved::nothing(&self.ceilings));
        let uses = lease.uses();
        let state = self.capture(lease.look()?, &mut passing);
        lease.give_back(true);
        let mut state = state?;
        // Wizer has the source with all of its state exported, and once more without its data.
        passing.add(2 * self.source.len() as u64)?;
        let wasm = self.write_around(&mut state)?;
        self.check()?;
        let wasm = fill::fill(&wasm, &state.memories, &mut held, &|| self.check())?;
        Ok(Snapshot { wasm, uses, held })
    }

    /// In the middle of the work: whether to go on with it.
    fn check(&self) -> Result<(), Error> {
        if self.wanted.strong_count() == 0 { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn capture(&self, guest: &mut Guest, held: &mut Reserved) -> Result<State, Error> {
        let instance = guest.instance_of(MemberId::FIRST)?;
        let store = &mut guest.store;
        let names = |what: &'static str| (0..).map(move |index| format!("__wizer_{what}_{index}"));
        let mut memories = Memories::default();
        for name in names("memory") {
            let Some(memory) = instance.get_memory(&mut *store, &name) else { break };
            let wide = memory.ty(&*store).is_64();
            memories.read(memory.data(&*store), (memory.size(&*store), wide), held, &|| self.check())?;
        }
        // Those that are exported are those that can change: their indices have gaps.
        let globals = instance.exports(&mut *store).filter(|export| export.name().starts_with("__wizer_global_"));
        let globals: Vec<_> = globals.map(|export| (export.name().to_owned(), export.into_extern())).collect();
        let value = |(name, global): (String, Extern)| Some((name, global.into_global()?.get(&mut *store)));
        Ok(State { globals: globals.into_iter().filter_map(value).collect(), memories })
    }

    /// The module with the globals that were read, and with memories of no size.
    fn write_around(&self, state: &mut State) -> Result<Vec<u8>, Error> {
        let (context, _) = wizer().instrument(&self.source).map_err(refused)?;
        self.check()?;
        // Nothing in there ever waits: it is asynchronous for those who must ask another process for an instance's state.
        let polled = pin!(wizer().snapshot(&context, state)).poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(snapshot) = polled else { return Err(Error::Internal("a snapshot has to wait".into())) };
        let wasm = snapshot.map_err(refused)?;
        match &self.hook {
            Some(hook) => begin_with(&wasm, hook),
            None => Ok(wasm),
        }
    }
}

/// What was read of a guest.
struct State {
    globals: HashMap<String, Val>,
    memories: Memories,
}

/// Wizer asks for what it made the module export, so a panic here is one of ours: the thread's edge catches it.
impl InstanceState for State {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        match self.globals.get(name) {
            Some(Val::I32(value)) => SnapshotVal::I32(*value),
            Some(Val::I64(value)) => SnapshotVal::I64(*value),
            Some(Val::F32(bits)) => SnapshotVal::F32(*bits),
            Some(Val::F64(bits)) => SnapshotVal::F64(*bits),
            Some(Val::V128(value)) => SnapshotVal::V128(value.as_u128()),
            other => panic!("the global {name} holds {other:?}"),
        }
    }

    /// Wizer looks at each byte, and keeps each piece between zeros: what it is not shown it does not copy.
    async fn memory_contents(&mut self, _name: &str, contents: impl FnOnce(&[u8]) + Send) {
        contents(&[]);
    }
}
