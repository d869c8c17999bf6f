//! Making a module fit for snapshots: `wasmtime-wizer` has it export all its globals and memories, from which the state of
//! an instance is then read (`live/snapshot.rs`).
//!
//! The two halves of `wasmtime-wizer` share nothing that could be kept, so the second reads the module again.

use crate::error::{CallError, Error};
use wasmtime_wizer::Wizer;

/// Whether wizer has added the export of this name.
pub(super) fn adds(name: &str) -> bool {
    name.starts_with("__wizer_")
}

/// The module with all its state exported, or why its state cannot be captured: wizer knows no way to read tables,
/// references and which segments have been dropped, so it refuses modules that could change them.
pub(crate) fn instrument(wasm: &[u8]) -> Result<Vec<u8>, Error> {
    let (_, wasm) = wizer().instrument(wasm).map_err(refused)?;
    Ok(wasm)
}

/// Every export stays, but for a reactor's `_initialize`, which has been called.
pub(crate) fn wizer() -> Wizer {
    let mut wizer = Wizer::new();
    wizer.keep_init_func(true);
    wizer
}

/// Why there is no snapshot, in wizer's words.
pub(crate) fn refused(error: wasmtime::Error) -> Error {
    CallError::NoSnapshot(format!("{error:#}")).into()
}
