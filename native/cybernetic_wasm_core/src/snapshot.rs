//! Snapshots: the state of a live instance as a module. `wasmtime-wizer` does the work on the binary: it first makes a
//! module export all its globals and memories (`instrument`), and then writes a module whose initial state is what it finds
//! in an instance of the first (`take`).
//!
//! Its two halves do not share anything that could be kept, so the second reads the module again.

use crate::error::{CallError, Error};
use crate::instance::{Lease, Live};
use crate::module::Module;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use wasmtime::Val;
use wasmtime_wizer::{InstanceState, SnapshotVal, ValType, Wizer};

/// How the exports begin that wizer adds.
pub(crate) const PREFIX: &str = "__wizer_";

/// The module with all its state exported, or why its state cannot be captured: wizer knows no way to read tables,
/// references and which segments have been dropped, so it refuses modules that could change them.
pub(crate) fn instrument(module: &Module) -> Result<Vec<u8>, Error> {
    let (_, wasm) = wizer().instrument(module.wasm()).map_err(refused)?;
    Ok(wasm)
}

/// The module `source` with the state of the guest in `lease` as its initial state. The guest stays as it is.
pub(crate) fn take(source: &Module, mut lease: Lease) -> Result<Vec<u8>, Error> {
    let (context, _) = wizer().instrument(source.wasm()).map_err(refused)?;
    let mut guest = Guest(lease.look()?);
    // Nothing in there ever waits: it is asynchronous for those who must ask another process for an instance's state.
    let polled = pin!(wizer().snapshot(&context, &mut guest)).poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(snapshot) = polled else { return Err(Error::Internal("a snapshot has to wait".into())) };
    lease.give_back(true);
    snapshot.map_err(refused)
}

/// Every export stays, but for a reactor's `_initialize`, which has been called.
fn wizer() -> Wizer {
    let mut wizer = Wizer::new();
    wizer.keep_init_func(true);
    wizer
}

fn refused(error: wasmtime::Error) -> Error {
    CallError::NoSnapshot(format!("{error:#}")).into()
}

struct Guest<'a>(&'a mut Live);

/// Wizer asks for what it made the module export, so a panic here is one of ours: the thread's edge catches it.
impl InstanceState for Guest<'_> {
    async fn global_get(&mut self, name: &str, _: ValType) -> SnapshotVal {
        let Live { store, instance, .. } = &mut *self.0;
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
        let Live { store, instance, .. } = &mut *self.0;
        match instance.get_memory(&mut *store, name) {
            Some(memory) => contents(memory.data(store)),
            None => panic!("there is no memory {name}"),
        }
    }
}
