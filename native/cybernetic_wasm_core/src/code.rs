//! Code: one compilation of a module or a component, and the facts that are known of it. What it imports is in `code/imports.rs`,
//! what it exports in `code/functions.rs`, what only a component has in `code/component.rs`, what it says of
//! itself in `code/metadata.rs`; before it is compiled a source goes
//! through `code/text.rs` and `code/outline.rs`.

mod artifact;
mod component;
mod functions;
pub(crate) mod image;
mod imports;
pub(crate) mod instrument;
mod metadata;
mod outline;
mod text;

pub(crate) use artifact::{CodeKey, Compiled};
pub(crate) use component::ComponentBody;
pub use component::HANDLER;
pub(crate) use functions::Export;
pub use functions::{Function, kind};
pub(crate) use imports::WORLD;
pub use imports::{Import, Signature};
pub use metadata::{Metadata, Producer};
pub use outline::{CustomSection, Outline};
pub(crate) use text::to_binary;
pub use wasmtime::{ExternType, FuncType, GlobalType, MemoryType, Mutability, TableType};

use crate::engine::{Engine, EngineConfig, Features};
use crate::error::{CallError, Error, LoadError, shown};
use crate::lane::Pace;
use crate::limits::Ceilings;
use crate::wit::{Declared, Item};
use parking_lot::RwLock;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use wasmparser::Validator;
use wasmtime::{ExportType, ModuleExport};

/// Instances up to this size are not counted as memory: every guest has as much.
const SMALL_INSTANCE: u64 = 64 << 10;

/// What a program exports to be run.
const ENTRY: &str = "_start";

/// Every call looks its function up. Only names that the module exports get in, so a caller cannot make them collide.
type FastHasher = foldhash::fast::RandomState;

/// BLAKE3 of the bytes of a module, by which it is known.
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// One compilation of a module or a component, in an engine.
pub struct Code {
    body: Body,
    compiled: Arc<Compiled>,
    engine: Arc<Engine>,
    requested: EngineConfig,
    ceilings: Arc<Ceilings>,
    imports: Vec<Import>,
    functions: RwLock<HashMap<String, Arc<Function>, FastHasher>>,
    /// Of making live instances.
    pub(crate) making: Pace,
    /// Guests that live now and run it.
    guests: AtomicU64,
}

/// What was compiled.
enum Body {
    Module(Box<ModuleBody>),
    Component(Box<ComponentBody>),
}

/// A module, loaded into an engine.
pub(crate) struct ModuleBody {
    pub(crate) wasmtime: wasmtime::Module,
    /// Exported functions that are imports.
    exported_again: HashSet<String>,
    /// What a reactor wants called before anything else.
    initializer: Option<ModuleExport>,
    /// What wants to be told how many arguments a call has.
    argument_counter: Option<ModuleExport>,
    is_command: bool,
    default_memory: Option<String>,
}

impl ModuleBody {
    fn new(compiled: &Compiled, wasmtime: wasmtime::Module, imports: usize) -> Self {
        let again = compiled.outline.exported.iter().filter(|(_, index)| (*index as usize) < imports);
        let hidden = |name: &str| compiled.key.instrumented && instrument::adds(name);
        let is_memory = |export: &ExportType<'_>| matches!(export.ty(), ExternType::Memory(_));
        let memory = wasmtime.exports().find(|export| is_memory(export) && !hidden(export.name()));
        Self {
            default_memory: memory.map(|export| export.name().to_owned()),
            exported_again: again.map(|(name, _)| name.clone()).collect(),
            initializer: entry(&wasmtime, "_initialize"),
            argument_counter: argument_counter(&wasmtime),
            is_command: entry(&wasmtime, ENTRY).is_some(),
            wasmtime,
        }
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Code").field("digest", self.digest()).field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Code {
    /// Loads what was compiled into an engine, which was made for code of that kind.
    pub(crate) fn load(
        compiled: &Arc<Compiled>,
        engine: &Arc<Engine>,
        requested: EngineConfig,
        ceilings: &Arc<Ceilings>,
    ) -> Result<Self, Error> {
        let (body, imports) = match compiled.outline.is_component() {
            true => {
                let component = compiled.artifact.load_component(&engine.wasmtime).map_err(Error::internal)?;
                let body = ComponentBody::new(&engine.wasmtime, component)?;
                let imports = body.imported();
                (Body::Component(Box::new(body)), imports)
            }
            false => {
                let module = compiled.artifact.load(&engine.wasmtime).map_err(Error::internal)?;
                let imports = Import::all(&module);
                (Body::Module(Box::new(ModuleBody::new(compiled, module, imports.len()))), imports)
            }
        };
        Ok(Self {
            body,
            compiled: Arc::clone(compiled),
            engine: Arc::clone(engine),
            requested,
            ceilings: Arc::clone(ceilings),
            imports,
            functions: RwLock::default(),
            making: Pace::default(),
            guests: AtomicU64::new(0),
        })
    }

    /// A guest begins to run it.
    pub(crate) fn enter(&self) {
        self.guests.fetch_add(1, Relaxed);
    }

    /// It is gone.
    pub(crate) fn leave(&self) {
        self.guests.fetch_sub(1, Relaxed);
    }

    /// Guests that live now and run it.
    pub(crate) fn guests(&self) -> u64 {
        self.guests.load(Relaxed)
    }

    /// The module that it is. What only modules have is asked for by this.
    pub(crate) fn module(&self) -> Result<&ModuleBody, CallError> {
        match &self.body {
            Body::Module(module) => Ok(module),
            Body::Component(_) => {
                Err(CallError::Component("it has no memories, globals, tables or references to look at"))
            }
        }
    }

    /// The component, if it is one.
    pub(crate) fn component(&self) -> Option<&ComponentBody> {
        if let Body::Component(component) = &self.body { Some(component) } else { None }
    }

    /// Whether it is a component.
    pub fn is_component(&self) -> bool {
        self.component().is_some()
    }

    /// What a component imports and exports, in order.
    pub fn world(&self) -> Option<(&[Item], &[Item])> {
        self.component().map(|component| (&component.imports[..], &component.exports[..]))
    }

    /// What a component's WIT says, where it has any that can be told.
    pub fn declared(&self) -> Option<&Declared> {
        self.compiled.outline.declared()
    }

    /// What a component says of itself.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.compiled.outline.metadata()
    }

    /// What was compiled: engines of the same kind of code can load it as well.
    pub(crate) fn compiled(&self) -> &Arc<Compiled> {
        &self.compiled
    }

    /// Bytes of machine code and metadata.
    pub fn code_size(&self) -> u64 {
        self.compiled.artifact.size()
    }

    /// Bytes that the cache counts for it: code and source.
    pub fn size(&self) -> u64 {
        self.code_size() + self.wasm().len() as u64
    }

    /// BLAKE3 of the bytes that were loaded.
    pub fn digest(&self) -> &[u8; 32] {
        &self.compiled.key.digest
    }

    /// The module in the binary format.
    pub fn wasm(&self) -> &Arc<[u8]> {
        &self.compiled.wasm
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
        &self.ceilings
    }

    /// The functions it imports, in order.
    pub fn imports(&self) -> &[Import] {
        &self.imports
    }

    /// All imports of a module with their types.
    pub fn import_types(&self) -> impl Iterator<Item = (String, String, ExternType)> + '_ {
        let imports = self.module().into_iter().flat_map(|module| module.wasmtime.imports());
        imports.map(|import| (import.module().to_owned(), import.name().to_owned(), import.ty()))
    }

    /// All exports of a module with their types.
    pub fn export_types(&self) -> impl Iterator<Item = (String, ExternType)> + '_ {
        let exports = self.module().into_iter().flat_map(|module| module.wasmtime.exports());
        exports.filter(|export| !self.hides(export.name())).map(|export| (export.name().to_owned(), export.ty()))
    }

    /// Its custom sections, in order.
    pub fn custom_sections(&self) -> &[CustomSection] {
        &self.compiled.outline.sections
    }

    /// How many memories the module defines itself, exported or not.
    pub fn own_memories(&self) -> u32 {
        self.compiled.outline.memories
    }

    /// The names of tags that it exports, the first of many.
    pub(crate) fn exported_tags(&self) -> &[String] {
        &self.compiled.outline.tags
    }

    pub(crate) fn default_memory(&self) -> Option<&str> {
        self.module().ok()?.default_memory.as_deref()
    }

    /// The machine code of it in memory.
    pub(crate) fn image_range(&self) -> std::ops::Range<*const u8> {
        match &self.body {
            Body::Module(module) => module.wasmtime.image_range(),
            Body::Component(component) => component.wasmtime.image_range(),
        }
    }

    /// Instances of modules that an instance of it may be made of: a component's are one to whoever counts instances.
    pub(crate) fn core_instances(&self) -> u64 {
        self.compiled.outline.core_instances()
    }

    /// Bytes that an instance counts for beside its memories and tables.
    pub(crate) fn instance_bytes(&self) -> u64 {
        let bytes = self.compiled.outline.instance_bytes();
        if bytes > SMALL_INSTANCE { bytes } else { 0 }
    }

    /// How many live guests an instance counts as: what the node runs short of is mappings, and each memory takes some, as does a
    /// heap that is collected.
    pub(crate) fn weight(&self) -> u32 {
        let memories = self.component().map_or(self.compiled.outline.memories, ComponentBody::memories);
        memories.max(1) + u32::from(self.compiled.outline.collects())
    }

    /// Fuel between two yields.
    pub(crate) fn yield_fuel(&self) -> u64 {
        self.compiled.outline.yield_fuel()
    }

    /// Whether a pool's slots can hold an instance of it.
    pub fn fits_pool(&self) -> bool {
        self.compiled.outline.fits_pool()
    }

    /// Whether it is a program: a module that exports `_start`, a component that exports `wasi:cli/run`.
    pub fn is_command(&self) -> bool {
        match &self.body {
            Body::Module(module) => module.is_command,
            Body::Component(component) => component.is_command(),
        }
    }

    /// The function that a reactor exports to be called before any other: see
    /// [the application ABI](https://github.com/WebAssembly/WASI/blob/main/legacy/application-abi.md).
    pub(crate) fn initializer(&self) -> Option<&ModuleExport> {
        self.module().ok()?.initializer.as_ref()
    }
}

/// What AssemblyScript exports to be told how many arguments the next call has, where a function has default ones.
fn argument_counter(module: &wasmtime::Module) -> Option<ModuleExport> {
    const NAME: &str = "__setArgumentsLength";
    let ty = module.get_export(NAME)?;
    let ty = ty.func().filter(|ty| ty.results().len() == 0)?;
    let takes_one = ty.params().len() == 1 && ty.params().all(|ty| ty.is_i32());
    if takes_one { module.get_export_index(NAME) } else { None }
}

/// A function that takes and gives nothing.
fn entry(module: &wasmtime::Module, name: &str) -> Option<ModuleExport> {
    let ty = module.get_export(name)?;
    let plain = ty.func().is_some_and(|ty| ty.params().len() == 0 && ty.results().len() == 0);
    if plain { module.get_export_index(name) } else { None }
}

/// Why the compiler refused: in the validator's words, with an offset, where the module is at fault.
pub(crate) fn explain(wasm: &[u8], features: Features, error: wasmtime::Error) -> Error {
    let validate = |features| Validator::new_with_features(features).validate_all(wasm);
    match validate(features.to_wasm()) {
        Ok(_) => LoadError::Unsupported(shown::text(&format!("{error:#}"))).into(),
        Err(invalid) => {
            let (offset, message) = (invalid.offset() as u64, shown::text(invalid.message()));
            match features.lacking(|features| validate(features).is_ok()) {
                Some(feature) => LoadError::UnsupportedFeature { feature, offset, message }.into(),
                None => LoadError::Invalid { offset, message }.into(),
            }
        }
    }
}
