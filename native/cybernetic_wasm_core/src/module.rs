//! Compiled modules: the code, what it imports and exports, and how long each of its functions has lately taken.

use crate::engine::{Engine, EngineConfig, POOL_INSTANCE, POOL_MEMORY, POOL_PER_MODULE, POOL_TABLE_ELEMENTS};
use crate::error::{CallError, Error, ImportProblem, LoadError};
use crate::execution::Pace;
use crate::limits::Ceilings;
use crate::linker::{self, Linked};
use crate::runtime::Runtime;
use crate::snapshot;
use crate::store::StoreData;
use crate::value::signature;
use crate::wasi::Grants;
pub use wasmtime::{ExternType, FuncType, GlobalType, MemoryType, Mutability, TableType};

use once_cell::sync::OnceCell;
use parking_lot::{Mutex, RwLock};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use wasmparser::{ExternalKind, FunctionBody, Operator, Parser, Payload, Validator};
use wasmtime::{ExportType, InstancePre, ModuleExport, ValType};

/// Each import costs a trampoline; nobody needs this many, and a module of 10 MB could have a million.
const MOST_IMPORTS: usize = 10_000;

/// Custom sections that are told of: a module of 10 MB could have millions.
const MOST_SECTIONS: usize = 1_000;

/// Instances up to this size are not counted as memory: every guest has as much.
const SMALL_INSTANCE: u64 = 64 << 10;

/// Constructs inside each other in one function. The compiler's time grows with the square of the nesting: a thousand
/// loops take some fifteen milliseconds, a hundred thousand minutes, and it cannot be interrupted. Plain blocks are cheap,
/// and compilers nest one for each case of a large switch.
const MOST_NESTED: usize = 1_000;

/// The same of plain blocks.
const MOST_NESTED_BLOCKS: usize = 5_000;

/// Export names that an error brings: twenty to be listed, and one more that says that there are more.
const KNOWN_NAMES: usize = 21;

/// Every call looks its function up. Only names that the module exports get in, so a caller cannot make them collide.
type FastHasher = foldhash::fast::RandomState;

/// A compiled module.
pub struct Module {
    pub(crate) wasmtime: wasmtime::Module,
    engine: Arc<Engine>,
    requested: EngineConfig,
    digest: [u8; 32],
    wasm: Arc<[u8]>,
    sections: Vec<CustomSection>,
    memories: u32,
    instance_bytes: u64,
    imports: Vec<Import>,
    linked: Linked,
    /// The same with WASI's functions.
    linked_with_wasi: OnceCell<Linked>,
    /// Exported functions that are imports.
    exported_again: HashSet<String>,
    /// What a reactor wants called before anything else.
    initializer: Option<ModuleExport>,
    is_command: bool,
    functions: RwLock<HashMap<String, Arc<Function>, FastHasher>>,
    /// Made fit for snapshots: it exports more than it was loaded with.
    exports_all: bool,
    default_memory: Option<String>,
    variants: Compilations,
    /// The same modules made fit for snapshots.
    instrumented: Compilations,
    /// Of making live instances.
    pub(crate) pace: Pace,
    /// Counts the modules of this process.
    serial: u64,
    code: CodeBytes,
    pub(crate) runtime: Weak<Runtime>,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Module").field("digest", &self.digest).field("engine", &self.engine).finish_non_exhaustive()
    }
}

/// An exported function, and its pace.
pub struct Function {
    pub(crate) name: String,
    /// Of the module's source.
    digest: [u8; 32],
    pub(crate) export: ModuleExport,
    pub(crate) ty: FuncType,
    params: Vec<ValType>,
    passes_references: bool,
    /// It is one that the module imports: nobody calls it but the embedder.
    pub(crate) exported_again: bool,
    /// Of calls in a fresh instance, and on a live one.
    pub(crate) pace: [Pace; 2],
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Function({:?}: {})", self.name, self.ty)
    }
}

impl Function {
    /// The types of the parameters.
    pub fn params(&self) -> &[ValType] {
        &self.params
    }

    /// Whether it takes references, or the module's imports do: an argument may then be a term of any size.
    pub fn passes_references(&self) -> bool {
        self.passes_references
    }

    /// Refuses a call with another number of arguments.
    pub fn check_arity(&self, given: usize) -> Result<(), CallError> {
        check_arity(&self.ty, true, given)
    }
}

/// A function that the module imports. Its place in [`Module::imports`] is its index in a host call.
#[derive(Debug)]
pub struct Import {
    /// The import's module name.
    pub module: String,
    /// The import's field name.
    pub name: String,
    /// Its signature.
    pub ty: FuncType,
}

impl Import {
    /// The types of the results.
    pub fn results(&self) -> impl ExactSizeIterator<Item = ValType> + '_ {
        self.ty.results()
    }

    /// Whether it gives references: a result may then be a term of any size.
    pub fn gives_references(&self) -> bool {
        self.ty.results().any(|ty| is_reference(&ty))
    }

    fn takes_references(&self) -> bool {
        self.ty.params().any(|ty| is_reference(&ty))
    }

    /// How many parameters it has.
    pub fn arity(&self) -> usize {
        self.ty.params().len()
    }

    /// Its signature, in the text format's words.
    pub fn signature(&self) -> String {
        signature(&self.ty)
    }

    /// Refuses another number of results.
    pub fn check_results(&self, given: usize) -> Result<(), CallError> {
        check_arity(&self.ty, false, given)
    }
}

fn is_reference(ty: &ValType) -> bool {
    matches!(ty, ValType::Ref(_))
}

fn check_arity(ty: &FuncType, params: bool, given: usize) -> Result<(), CallError> {
    let expected = if params { ty.params().len() } else { ty.results().len() };
    match expected == given {
        true => Ok(()),
        false => Err(CallError::Arity { expected, given, signature: signature(ty) }),
    }
}

/// A custom section: its name and size in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomSection {
    /// The section's name.
    pub name: String,
    /// Bytes of its contents.
    pub size: u64,
}

/// Bytes of compiled code, given back to the node when the module goes.
struct CodeBytes {
    bytes: u64,
    ceilings: Arc<Ceilings>,
}

impl Drop for CodeBytes {
    fn drop(&mut self) {
        self.ceilings.code_counter().release(self.bytes);
    }
}

/// What a look at the sections tells before compiling.
#[derive(Default)]
pub(crate) struct Outline {
    sections: Vec<CustomSection>,
    imports: usize,
    memories: u32,
    tables: u32,
    most_elements: u64,
    most_bytes: u64,
    functions: u64,
    globals: u64,
    /// Exported functions that may be imports, with their indices.
    exported: Vec<(String, u32)>,
}

impl Outline {
    /// Reads the sections. Defects are left to the compiler, which has the better words for them.
    pub(crate) fn read(wasm: &[u8]) -> Result<Self, LoadError> {
        let mut outline = Outline::default();
        for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
            match payload {
                Payload::Version { encoding: wasmparser::Encoding::Component, .. } => return Err(LoadError::Component),
                Payload::ImportSection(section) => outline.imports = section.count() as usize,
                Payload::MemorySection(section) => {
                    outline.memories = section.count();
                    let memories = section.into_iter().map_while(Result::ok);
                    outline.most_bytes = memories.map(|memory| least_bytes(&memory)).max().unwrap_or(0);
                }
                Payload::TableSection(section) => {
                    outline.tables = section.count();
                    let tables = section.into_iter().map_while(Result::ok);
                    outline.most_elements = tables.map(|table| table.ty.initial).max().unwrap_or(0);
                }
                Payload::FunctionSection(section) => outline.functions = section.count().into(),
                Payload::GlobalSection(section) => outline.globals = section.count().into(),
                Payload::ExportSection(section) if outline.imports > 0 => {
                    let exports = section.into_iter().map_while(Result::ok);
                    let functions = exports.filter(|export| export.kind == ExternalKind::Func);
                    let early = functions.filter(|export| (export.index as usize) < outline.imports);
                    outline.exported = early.map(|export| (export.name.to_owned(), export.index)).collect();
                }
                Payload::CodeSectionEntry(body) => check_nesting(&body)?,
                Payload::CustomSection(section) if outline.sections.len() < MOST_SECTIONS => outline
                    .sections
                    .push(CustomSection { name: section.name().to_owned(), size: section.data().len() as u64 }),
                _ => {}
            }
        }
        match outline.imports > MOST_IMPORTS {
            true => Err(LoadError::Unsupported(format!("{} imports, at most {MOST_IMPORTS}", outline.imports))),
            false => Ok(outline),
        }
    }

    /// Bytes that an instance takes beside its memories and tables, at the most: a global is sixteen, a function that is
    /// exported, imported or in a table thirty-two.
    fn instance_bytes(&self) -> u64 {
        16 * self.globals + 32 * (self.functions + self.imports as u64)
    }

    /// Whether a pool's slots can hold the module.
    pub(crate) fn fits_pool(&self) -> bool {
        self.memories <= POOL_PER_MODULE
            && self.tables <= POOL_PER_MODULE
            && self.most_elements <= POOL_TABLE_ELEMENTS
            && self.most_bytes <= POOL_MEMORY as u64
            && self.instance_bytes() <= POOL_INSTANCE
    }
}

/// What a memory has from the start; with 64-bit addresses that may be more than there is.
fn least_bytes(memory: &wasmparser::MemoryType) -> u64 {
    memory.initial.saturating_mul(1 << memory.page_size_log2.unwrap_or(16))
}

/// Refuses a function that is nested too deeply. A body that does not parse is left to the compiler.
fn check_nesting(body: &FunctionBody<'_>) -> Result<(), LoadError> {
    let Ok(operators) = body.get_operators_reader() else { return Ok(()) };
    let mut open = Vec::new();
    let mut costly = 0;
    for operator in operators.into_iter().map_while(Result::ok) {
        match operator {
            Operator::Block { .. } => open.push(false),
            Operator::Loop { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                open.push(true);
                costly += 1;
            }
            Operator::End if open.pop() == Some(true) => costly -= 1,
            _ => continue,
        }
        if costly > MOST_NESTED || open.len() > MOST_NESTED_BLOCKS {
            let offset = body.range().start;
            let text =
                format!("the function at offset {offset} nests {} constructs, {costly} of them no blocks", open.len());
            return Err(LoadError::Unsupported(format!("{text}; at most {MOST_NESTED_BLOCKS} and {MOST_NESTED}")));
        }
    }
    Ok(())
}

/// What is being compiled, and for whom.
pub(crate) struct Order {
    pub(crate) digest: [u8; 32],
    pub(crate) wasm: Arc<[u8]>,
    pub(crate) outline: Outline,
    pub(crate) requested: EngineConfig,
    pub(crate) engine: Arc<Engine>,
    pub(crate) ceilings: Arc<Ceilings>,
    pub(crate) runtime: Weak<Runtime>,
    /// The binary is one that was made fit for snapshots.
    pub(crate) instrumented: bool,
}

impl Module {
    /// Compiles. The code is not yet counted against the node's ceiling: see [`Module::count_code`].
    pub(crate) fn compile(order: Order) -> Result<Self, Error> {
        static NEXT_SERIAL: AtomicU64 = AtomicU64::new(0);
        let Order { digest, wasm, outline, requested, engine, ceilings, runtime, instrumented } = order;
        let module =
            wasmtime::Module::from_binary(&engine.wasmtime, &wasm).map_err(|error| explain(&wasm, requested, error))?;
        let imports = imported_functions(&module);
        let linked = linker::prepare(&engine, &module, &imports, None)?;
        let (functions, instance_bytes) = (imports.len(), outline.instance_bytes());
        let again = outline.exported.into_iter().filter(|(_, index)| (*index as usize) < functions);
        let hidden = |name: &str| instrumented && name.starts_with(snapshot::PREFIX);
        let is_memory = |export: &ExportType<'_>| matches!(export.ty(), ExternType::Memory(_));
        let memory = module.exports().find(|export| is_memory(export) && !hidden(export.name()));
        let memory = memory.map(|export| export.name().to_owned());
        Ok(Self {
            default_memory: memory,
            engine,
            requested,
            digest,
            wasm,
            instance_bytes,
            sections: outline.sections,
            memories: outline.memories,
            imports,
            linked,
            linked_with_wasi: OnceCell::new(),
            exported_again: again.map(|(name, _)| name).collect(),
            initializer: entry(&module, "_initialize"),
            is_command: entry(&module, "_start").is_some(),
            functions: RwLock::default(),
            exports_all: instrumented,
            variants: Mutex::default(),
            instrumented: Mutex::default(),
            pace: Pace::default(),
            serial: NEXT_SERIAL.fetch_add(1, Relaxed),
            code: CodeBytes { bytes: 0, ceilings },
            runtime,
            wasmtime: module,
        })
    }

    /// How many memories the module defines itself, exported or not.
    pub fn own_memories(&self) -> u32 {
        self.memories
    }

    /// Bytes of machine code and metadata that the module keeps mapped.
    pub fn code_size(&self) -> u64 {
        let range = self.wasmtime.image_range();
        range.end as u64 - range.start as u64
    }

    pub(crate) fn count_code(&mut self) -> Result<(), crate::error::LimitError> {
        let bytes = self.code_size();
        self.code.ceilings.code_counter().reserve(bytes)?;
        self.code.bytes = bytes;
        Ok(())
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

    pub(crate) fn ceilings(&self) -> &Arc<Ceilings> {
        &self.code.ceilings
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

    /// The module ready to instantiate, with WASI or without, or which imports nothing can satisfy.
    pub(crate) fn linked(&self, wasi: Option<&Grants>) -> Result<Cow<'_, InstancePre<StoreData>>, Error> {
        let with_wasi = |answered| linker::prepare(&self.engine, &self.wasmtime, &self.imports, Some(answered));
        let linked = match wasi.map(|grants| &grants.answered[..]) {
            None => &self.linked,
            Some([]) => self.linked_with_wasi.get_or_try_init(|| with_wasi(&[]))?,
            // Rare enough to be made anew each time.
            Some(answered) => return with_wasi(answered)?.map(Cow::Owned).map_err(Error::Link),
        };
        linked.as_ref().map(Cow::Borrowed).map_err(|problems| Error::Link(problems.clone()))
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

    /// Imports that nothing can satisfy, whatever functions the host offers.
    pub fn unlinkable(&self) -> &[ImportProblem] {
        self.linked.as_ref().err().map_or(&[], Vec::as_slice)
    }

    /// The exported function `name`.
    pub fn function(&self, name: &str) -> Result<Arc<Function>, CallError> {
        if let Some(function) = self.functions.read().get(name) {
            return Ok(Arc::clone(function));
        }
        let function = Arc::new(self.find_function(name)?);
        self.functions.write().insert(name.to_owned(), Arc::clone(&function));
        Ok(function)
    }

    /// The type of an export, but of none that is there for snapshots only.
    fn export(&self, name: &str) -> Option<ExternType> {
        if self.hides(name) { None } else { self.wasmtime.get_export(name) }
    }

    /// Whether an export of that name is there for snapshots only.
    pub(crate) fn hides(&self, name: &str) -> bool {
        self.exports_all && name.starts_with(snapshot::PREFIX)
    }

    fn find_function(&self, name: &str) -> Result<Function, CallError> {
        let found = self.export(name).zip(self.wasmtime.get_export_index(name));
        match found {
            Some((ExternType::Func(ty), export)) => Ok(Function {
                name: name.to_owned(),
                digest: self.digest,
                exported_again: self.exported_again.contains(name),
                export,
                params: ty.params().collect(),
                passes_references: ty.params().any(|ty| is_reference(&ty))
                    || self.imports.iter().any(Import::takes_references),
                ty,
                pace: Default::default(),
            }),
            _ => Err(self.wrong_export(name, "function")),
        }
    }

    /// The type of the exported global `name`.
    pub fn global(&self, name: &str) -> Result<GlobalType, CallError> {
        match self.export(name) {
            Some(ExternType::Global(ty)) => Ok(ty),
            _ => Err(self.wrong_export(name, "global")),
        }
    }

    /// Why `name` is not of the kind that was `expected`.
    pub(crate) fn wrong_export(&self, name: &str, expected: &'static str) -> CallError {
        match self.export(name) {
            Some(ty) => CallError::WrongExportKind { name: name.to_owned(), expected, found: kind(&ty) },
            None => self.no_such_export(name, expected),
        }
    }

    /// What `function`, of another compilation of the same source, is here.
    pub(crate) fn counterpart(&self, function: &Function) -> Result<Arc<Function>, CallError> {
        match function.digest == self.digest {
            true => self.function(&function.name),
            false => Err(self.no_such_export(&function.name, "function")),
        }
    }

    /// The error that names the exports of the wanted kind.
    pub fn no_such_export(&self, name: &str, wanted: &'static str) -> CallError {
        let others = self.wasmtime.exports().filter(|export| kind(&export.ty()) == wanted);
        let others = others.filter(|export| !export.name().starts_with(snapshot::PREFIX));
        let known = others.take(KNOWN_NAMES).map(|export| export.name().to_owned()).collect();
        CallError::NoSuchExport { name: shorten(name), expected: wanted, known }
    }

    /// This module compiled for another configuration, if that has been done already.
    pub(crate) fn variant(&self, config: &EngineConfig) -> Option<Arc<Module>> {
        kept(&self.variants, config)
    }

    pub(crate) fn keep_variant(&self, config: EngineConfig, module: &Arc<Module>) {
        // Two modules can be variants of each other. If each kept the other, neither would ever be freed: only the older
        // keeps the younger, and the younger asks the cache, from where the older cannot go without becoming young.
        if module.serial > self.serial {
            keep(&self.variants, config, module);
        }
    }

    /// This module made fit for snapshots and compiled for a configuration, if that has been done already.
    pub(crate) fn instrumented(&self, config: &EngineConfig) -> Option<Arc<Module>> {
        kept(&self.instrumented, config)
    }

    pub(crate) fn keep_instrumented(&self, config: EngineConfig, module: &Arc<Module>) {
        keep(&self.instrumented, config, module);
    }
}

type Compilations = Mutex<Vec<(EngineConfig, Arc<Module>)>>;

fn kept(compilations: &Compilations, config: &EngineConfig) -> Option<Arc<Module>> {
    let compilations = compilations.lock();
    compilations.iter().find(|(known, _)| known == config).map(|(_, module)| Arc::clone(module))
}

/// A host that goes through ever new stacks gets the latest few; what falls out is only recompiled.
fn keep(compilations: &Compilations, config: EngineConfig, module: &Arc<Module>) {
    const MOST: usize = 8;
    let mut compilations = compilations.lock();
    if compilations.len() == MOST {
        compilations.remove(0);
    }
    compilations.push((config, Arc::clone(module)));
}

/// The text format's word for a kind of import or export.
pub fn kind(ty: &ExternType) -> &'static str {
    match ty {
        ExternType::Func(_) => "function",
        ExternType::Memory(_) => "memory",
        ExternType::Table(_) => "table",
        ExternType::Global(_) => "global",
        ExternType::Tag(_) => "tag",
    }
}

fn shorten(name: &str) -> String {
    name.chars().take(200).collect()
}

/// A function that takes and gives nothing.
fn entry(module: &wasmtime::Module, name: &str) -> Option<ModuleExport> {
    let ty = module.get_export(name)?;
    let plain = ty.func().is_some_and(|ty| ty.params().len() == 0 && ty.results().len() == 0);
    if plain { module.get_export_index(name) } else { None }
}

fn imported_functions(module: &wasmtime::Module) -> Vec<Import> {
    let functions = module.imports().filter_map(|import| match import.ty() {
        ExternType::Func(ty) => Some(Import { module: import.module().into(), name: import.name().into(), ty }),
        _ => None,
    });
    functions.collect()
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
