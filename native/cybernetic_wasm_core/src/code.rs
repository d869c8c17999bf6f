//! Code: one compilation of a module, and the facts that are known of it. What it imports is in `code/imports.rs`, what it
//! exports in `code/functions.rs`; before it is compiled a source goes through `code/text.rs` and `code/outline.rs`.

mod functions;
mod imports;
pub(crate) mod instrument;
mod outline;
mod text;

pub use functions::{Function, kind};
pub use imports::Import;
pub use outline::CustomSection;
pub(crate) use outline::Outline;
pub(crate) use text::to_binary;
pub use wasmtime::{ExternType, FuncType, GlobalType, MemoryType, Mutability, TableType};

use crate::engine::{Engine, EngineConfig};
use crate::error::{CallError, Error, LimitError, LoadError};
use crate::lane::Pace;
use crate::limits::Ceilings;
use crate::value::signature;
use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use wasmparser::Validator;
use wasmtime::{ExportType, ModuleExport};

/// Instances up to this size are not counted as memory: every guest has as much.
const SMALL_INSTANCE: u64 = 64 << 10;

/// Every call looks its function up. Only names that the module exports get in, so a caller cannot make them collide.
type FastHasher = foldhash::fast::RandomState;

/// One compilation of a module.
pub struct Code {
    pub(crate) wasmtime: wasmtime::Module,
    engine: Arc<Engine>,
    requested: EngineConfig,
    digest: [u8; 32],
    wasm: Arc<[u8]>,
    sections: Vec<CustomSection>,
    memories: u32,
    instance_bytes: u64,
    imports: Vec<Import>,
    /// Exported functions that are imports.
    exported_again: HashSet<String>,
    /// What a reactor wants called before anything else.
    initializer: Option<ModuleExport>,
    is_command: bool,
    functions: RwLock<HashMap<String, Arc<Function>, FastHasher>>,
    /// Made fit for snapshots: it exports more than it was loaded with.
    instrumented: bool,
    default_memory: Option<String>,
    /// Of making live instances.
    pub(crate) making: Pace,
    counted: Counted,
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code").field("digest", &self.digest).field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// Bytes of compiled code, given back to the node when the code goes.
struct Counted {
    bytes: u64,
    ceilings: Arc<Ceilings>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.ceilings.code_counter().release(self.bytes);
    }
}

/// What is to be compiled, and for whom.
pub(crate) struct Order {
    pub(crate) digest: [u8; 32],
    pub(crate) wasm: Arc<[u8]>,
    pub(crate) outline: Outline,
    pub(crate) requested: EngineConfig,
    pub(crate) engine: Arc<Engine>,
    pub(crate) ceilings: Arc<Ceilings>,
    /// The binary is one that was made fit for snapshots.
    pub(crate) instrumented: bool,
}

impl Code {
    /// Compiles. The code is not yet counted against the node's ceiling: see [`Code::count`].
    pub(crate) fn compile(order: Order) -> Result<Self, Error> {
        let Order { digest, wasm, outline, requested, engine, ceilings, instrumented } = order;
        let module =
            wasmtime::Module::from_binary(&engine.wasmtime, &wasm).map_err(|error| explain(&wasm, requested, error))?;
        let imports = Import::all(&module);
        let (functions, instance_bytes) = (imports.len(), outline.instance_bytes());
        let again = outline.exported.into_iter().filter(|(_, index)| (*index as usize) < functions);
        let hidden = |name: &str| instrumented && instrument::adds(name);
        let is_memory = |export: &ExportType<'_>| matches!(export.ty(), ExternType::Memory(_));
        let memory = module.exports().find(|export| is_memory(export) && !hidden(export.name()));
        Ok(Self {
            default_memory: memory.map(|export| export.name().to_owned()),
            engine,
            requested,
            digest,
            wasm,
            instance_bytes,
            sections: outline.sections,
            memories: outline.memories,
            imports,
            exported_again: again.map(|(name, _)| name).collect(),
            initializer: entry(&module, "_initialize"),
            is_command: entry(&module, "_start").is_some(),
            functions: RwLock::default(),
            instrumented,
            making: Pace::default(),
            counted: Counted { bytes: 0, ceilings },
            wasmtime: module,
        })
    }

    /// Counts the code among the node's.
    pub(crate) fn count(&mut self) -> Result<(), LimitError> {
        let bytes = self.code_size();
        self.counted.ceilings.code_counter().reserve(bytes)?;
        self.counted.bytes = bytes;
        Ok(())
    }

    /// Bytes of machine code and metadata that are kept mapped.
    pub fn code_size(&self) -> u64 {
        let range = self.wasmtime.image_range();
        range.end as u64 - range.start as u64
    }

    /// Bytes that the cache counts for it: code and source.
    pub fn size(&self) -> u64 {
        self.code_size() + self.wasm.len() as u64
    }

    /// BLAKE3 of the bytes that were loaded.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The module in the binary format.
    pub fn wasm(&self) -> &Arc<[u8]> {
        &self.wasm
    }

    /// The engine that it was compiled for.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The configuration that it was asked for with; the engine's own may differ in its allocation.
    pub fn requested(&self) -> &EngineConfig {
        &self.requested
    }

    /// The ceilings of the node that it was compiled on.
    pub(crate) fn ceilings(&self) -> &Arc<Ceilings> {
        &self.counted.ceilings
    }

    /// The functions it imports, in order.
    pub fn imports(&self) -> &[Import] {
        &self.imports
    }

    /// All imports with their types.
    pub fn import_types(&self) -> impl Iterator<Item = (String, String, ExternType)> + '_ {
        self.wasmtime.imports().map(|import| (import.module().to_owned(), import.name().to_owned(), import.ty()))
    }

    /// All exports with their types.
    pub fn export_types(&self) -> impl Iterator<Item = (String, ExternType)> + '_ {
        self.wasmtime.exports().map(|export| (export.name().to_owned(), export.ty()))
    }

    /// Its custom sections, in order.
    pub fn custom_sections(&self) -> &[CustomSection] {
        &self.sections
    }

    /// How many memories the module defines itself, exported or not.
    pub fn own_memories(&self) -> u32 {
        self.memories
    }

    pub(crate) fn default_memory(&self) -> Option<&str> {
        self.default_memory.as_deref()
    }

    /// Bytes that an instance counts for beside its memories and tables.
    pub(crate) fn instance_bytes(&self) -> u64 {
        if self.instance_bytes > SMALL_INSTANCE { self.instance_bytes } else { 0 }
    }

    /// How many live guests an instance counts as: what the node runs short of is mappings, and each memory takes some.
    pub(crate) fn weight(&self) -> u32 {
        self.memories.max(1)
    }

    /// Whether it is a program, which exports `_start`.
    pub fn is_command(&self) -> bool {
        self.is_command
    }

    /// The function that a reactor exports to be called before any other: see
    /// [the application ABI](https://github.com/WebAssembly/WASI/blob/main/legacy/application-abi.md).
    pub(crate) fn initializer(&self) -> Option<&ModuleExport> {
        self.initializer.as_ref()
    }
}

fn check_arity(ty: &FuncType, expected: usize, given: usize) -> Result<(), CallError> {
    match expected == given {
        true => Ok(()),
        false => Err(CallError::Arity { expected, given, signature: signature(ty) }),
    }
}

/// A function that takes and gives nothing.
fn entry(module: &wasmtime::Module, name: &str) -> Option<ModuleExport> {
    let ty = module.get_export(name)?;
    let plain = ty.func().is_some_and(|ty| ty.params().len() == 0 && ty.results().len() == 0);
    if plain { module.get_export_index(name) } else { None }
}

/// Why the compiler refused: in the validator's words, with an offset, where the module is at fault.
fn explain(wasm: &[u8], config: EngineConfig, error: wasmtime::Error) -> Error {
    let validate = |features| Validator::new_with_features(features).validate_all(wasm);
    match validate(config.features.to_wasm()) {
        Ok(_) => LoadError::Unsupported(format!("{error:#}")).into(),
        Err(invalid) => {
            let (offset, message) = (invalid.offset() as u64, invalid.message().to_owned());
            match config.features.lacking(|features| validate(features).is_ok()) {
                Some(feature) => LoadError::UnsupportedFeature { feature, offset, message }.into(),
                None => LoadError::Invalid { offset, message }.into(),
            }
        }
    }
}
