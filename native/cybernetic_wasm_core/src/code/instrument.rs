//! Making a module fit for snapshots: `wasmtime-wizer` has it export all its globals and memories, from which the state of
//! an instance is then read (`live/snapshot.rs`).
//!
//! The two halves of `wasmtime-wizer` share nothing that could be kept, so the second reads the module again.

use crate::error::{CallError, Error, shown};
use wasmparser::{ExternalKind, Parser, Payload};
use wasmtime_wizer::Wizer;

/// Whether wizer has added the export of this name.
pub(super) fn adds(name: &str) -> bool {
    name.starts_with("__wizer_")
}

/// The module with all its state exported, or why its state cannot be captured: wizer knows no way to read tables,
/// references and which segments have been dropped, so it refuses modules that could change them.
pub(crate) fn instrument(wasm: &[u8]) -> Result<Vec<u8>, Error> {
    if Parser::is_component(wasm) {
        return Err(CallError::NoSnapshot("the state of a component is not captured".into()).into());
    }
    let (_, wasm) = wizer().instrument(wasm).map_err(refused)?;
    Ok(wasm)
}

/// Every export stays, but for a reactor's `_initialize`, which has been called.
pub(crate) fn wizer() -> Wizer {
    let mut wizer = Wizer::new();
    wizer.keep_init_func(true);
    wizer
}

/// The module with the function that it exports as `name` as its start function. It has none of its own: that of a snapshot has
/// been called.
pub(crate) fn begin_with(wasm: &[u8], name: &str) -> Result<Vec<u8>, Error> {
    const START: u8 = 8;
    let missing = || Error::from(CallError::NoSnapshot(format!("no function is exported as {name:?}")));
    let exports = Parser::new(0).parse_all(wasm).map_while(Result::ok).find_map(|payload| match payload {
        Payload::ExportSection(exports) => Some(exports),
        _ => None,
    });
    let exports = exports.ok_or_else(missing)?;
    let end = exports.range().end;
    let mut functions = exports.into_iter().map_while(Result::ok).filter(|export| export.kind == ExternalKind::Func);
    let function = functions.find(|export| export.name == name).ok_or_else(missing)?;
    let index = leb128(function.index);
    let (before, after) = wasm.split_at(end);
    Ok([before, &[START, index.len() as u8], &index, after].concat())
}

/// A number as the binary format writes it.
fn leb128(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// Why there is no snapshot, in wizer's words.
pub(crate) fn refused(error: wasmtime::Error) -> Error {
    CallError::NoSnapshot(shown::text(&format!("{error:#}"))).into()
}
