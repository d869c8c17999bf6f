//! Snapshots: the state of a live guest as a module. `wasmtime-wizer` writes a module whose initial state is what it finds
//! in an instance that exports all of its own (`code/instrument.rs`).

use super::Lease;
use crate::code::instrument::{begin_with, refused, wizer};
use crate::error::Error;
use crate::guest::Guest;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use wasmtime::Val;
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType};

/// The module `source` with the state of the guest in `lease` as its initial state. Its instances begin with what it exports as
/// `hook`, if anything. The guest stays as it is.
pub(crate) fn take(source: &[u8], mut lease: Lease, hook: Option<&str>) -> Result<Vec<u8>, Error> {
    let (context, _) = wizer().instrument(source).map_err(refused)?;
    let mut state = State(lease.look()?);
    // Nothing in there ever waits: it is asynchronous for those who must ask another process for an instance's state.
    let polled = pin!(wizer().snapshot(&context, &mut state)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(snapshot) = polled else { return Err(Error::Internal("a snapshot has to wait".into())) };
    lease.give_back(true);
    let wasm = snapshot.map_err(refused)?;
    match hook {
        Some(name) => begin_with(&wasm, name),
        None => Ok(wasm),
    }
}

struct State<'a>(&'a mut Guest);

/// Wizer asks for what it made the module export, so a panic here is one of ours: the thread's edge catches it.
impl InstanceState for State<'_> {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let Guest { store, instance, .. } = &mut *self.0;
        match instance.get_global(&mut *store, name).map(|global| global.get(store)) {
            Some(Val::I32(value)) => SnapshotVal::I32(value),
            Some(Val::I64(value)) => SnapshotVal::I64(value),
            Some(Val::F32(bits)) => SnapshotVal::F32(bits),
            Some(Val::F64(bits)) => SnapshotVal::F64(bits),
            Some(Val::V128(value)) => SnapshotVal::V128(value.as_u128()),
            other => panic!("the global {name} holds {other:?}"),
        }
    }

    async fn memory_contents(&mut self, name: &str, contents: impl FnOnce(&[u8]) + Send) {
        let Guest { store, instance, .. } = &mut *self.0;
        match instance.get_memory(&mut *store, name) {
            Some(memory) => contents(memory.data(store)),
            None => panic!("there is no memory {name}"),
        }
    }
}
