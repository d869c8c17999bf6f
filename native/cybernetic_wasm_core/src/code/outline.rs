//! What a look at a module's sections tells before it is compiled. What a component's modules come to is in `outline/parts.rs`.

mod parts;

use super::Metadata;
use super::instrument;
use crate::engine::{POOL_INSTANCE, POOL_INSTANCES, POOL_MEMORY, POOL_PER_MODULE, POOL_TABLE_ELEMENTS, YIELD_FUEL};
use crate::error::{LoadError, shown};
use crate::wit::Declared;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use wasmparser::{
    AbstractHeapType, CompositeInnerType, ExternalKind, FunctionBody, HeapType, KnownCustom, Operator, Parser, Payload,
    RecGroup, RefType, TypeRef, TypeSectionReader, ValType,
};

/// Each import costs a trampoline; nobody needs this many, and a module of 10 MB could have a million.
const MOST_IMPORTS: usize = 10_000;

/// Export names that an error brings: twenty to be listed, and one more that says that there are more.
pub(super) const KNOWN_NAMES: usize = 21;

/// Custom sections that are told of: a module of 10 MB could have millions.
const MOST_SECTIONS: usize = 1_000;

/// Exported tags that an uncaught exception is named by: compilers export one.
const MOST_TAGS: usize = 100;

/// Constructs inside each other in one function. The compiler's time grows faster than the nesting, and it cannot be
/// interrupted. Plain blocks are cheap, and compilers nest one for each case of a large switch.
const MOST_NESTED: usize = 1_000;

/// The same of plain blocks.
const MOST_NESTED_BLOCKS: usize = 5_000;

/// Values that calls and branches may move between two yields, and fields of structures that may be made: about a millisecond of
/// either.
const VALUES_BETWEEN_YIELDS: u64 = 2_000_000;
const FIELDS_BETWEEN_YIELDS: u64 = 20_000_000;

/// Fuel between two yields of a module that can throw: each time the whole stack may be looked through.
const THROWING_YIELD_FUEL: u64 = 10_000;

/// Clauses of `try_table` that may be around one place of a function. An exception looks through those of every frame on the
/// stack, which nothing interrupts.
const MOST_CATCHES: usize = 128;

/// A custom section: its name and size in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomSection {
    /// The section's name.
    pub name: String,
    /// Bytes of its contents.
    pub size: u64,
}

/// What a look at the sections tells before compiling.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outline {
    pub(super) sections: Vec<CustomSection>,
    pub(super) memories: u32,
    /// Exported functions that may be imports, with their indices.
    pub(super) exported: Vec<(String, u32)>,
    /// The first exports of each kind.
    pub(super) known: HashMap<String, Vec<String>>,
    /// Exported tags.
    pub(super) tags: Vec<String>,
    imports: usize,
    tables: u32,
    most_elements: u64,
    most_bytes: u64,
    functions: u64,
    globals: u64,
    /// Values that one instruction moves at the most: a function's parameters and results.
    widest: u64,
    /// Fields of the largest structure.
    most_fields: u64,
    throws: bool,
    collects: bool,
    /// Of a component, which has several modules.
    component: Option<Component>,
}

/// What is known of a component beside its modules: their numbers are added up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Component {
    /// Instances that one of it may be made of.
    instances: u64,
    /// Bytes of the largest.
    instance_bytes: u64,
    /// One of its modules does not fit a pool's slot.
    too_large: bool,
    metadata: Metadata,
    declared: Option<Declared>,
}

impl Outline {
    /// Reads the sections. Functions that nest deeply are refused where nothing else bounds compiling. Defects are left to the
    /// compiler, which has the better words for them.
    pub(crate) fn read(wasm: &[u8], refuse_deep: bool) -> Result<Self, LoadError> {
        match Parser::is_component(wasm) {
            true => parts::read(wasm, refuse_deep),
            false => Self::read_module(wasm, refuse_deep),
        }
    }

    fn read_module(wasm: &[u8], refuse_deep: bool) -> Result<Self, LoadError> {
        let mut outline = Outline::default();
        for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
            outline.read_payload(payload, wasm, refuse_deep)?;
        }
        outline.check_imports()?;
        Ok(outline)
    }

    fn check_imports(&self) -> Result<(), LoadError> {
        match self.imports > MOST_IMPORTS {
            true => Err(LoadError::Unsupported(format!("{} imports, at most {MOST_IMPORTS}", self.imports))),
            false => Ok(()),
        }
    }

    fn read_payload(&mut self, payload: Payload<'_>, wasm: &[u8], refuse_deep: bool) -> Result<(), LoadError> {
        match payload {
            Payload::TypeSection(section) => self.read_types(section),
            Payload::ImportSection(section) => {
                self.imports = section.count() as usize;
                let imports = section.into_imports().map_while(Result::ok);
                imports.for_each(|import| self.read_import(&import.ty));
            }
            Payload::TagSection(_) => self.throws = true,
            Payload::MemorySection(section) => {
                self.memories = section.count();
                let memories = section.into_iter().map_while(Result::ok);
                self.most_bytes = memories.map(|memory| least_bytes(&memory)).max().unwrap_or(0);
            }
            Payload::TableSection(section) => {
                self.tables = section.count();
                for table in section.into_iter().map_while(Result::ok) {
                    self.most_elements = self.most_elements.max(table.ty.initial);
                    self.collects |= is_collected(&table.ty.element_type);
                }
            }
            Payload::FunctionSection(section) => self.functions = section.count().into(),
            Payload::GlobalSection(section) => {
                self.globals = section.count().into();
                let globals = section.into_iter().map_while(Result::ok);
                globals.for_each(|global| self.read_value(&global.ty.content_type));
            }
            Payload::ExportSection(section) => {
                section.into_iter().map_while(Result::ok).for_each(|export| self.note(&export));
            }
            Payload::CodeSectionEntry(body) => {
                if refuse_deep {
                    check_nesting(&body).map_err(|nested| nested.refused(wasm, &body))?;
                }
                check_catches(wasm, &body)?;
            }
            Payload::CustomSection(section) => self.note_section(section.name(), section.data().len()),
            _ => {}
        }
        Ok(())
    }

    fn note_section(&mut self, name: &str, size: usize) {
        if self.sections.len() < MOST_SECTIONS {
            self.sections.push(CustomSection { name: name.to_owned(), size: size as u64 });
        }
    }

    fn read_types(&mut self, section: TypeSectionReader<'_>) {
        for ty in section.into_iter().map_while(Result::ok).flat_map(RecGroup::into_types) {
            match ty.composite_type.inner {
                CompositeInnerType::Func(ty) => {
                    self.widest = self.widest.max((ty.params().len() + ty.results().len()) as u64);
                    ty.params().iter().chain(ty.results()).for_each(|ty| self.read_value(ty));
                }
                CompositeInnerType::Struct(ty) => {
                    self.most_fields = self.most_fields.max(ty.fields.len() as u64);
                    self.collects = true;
                }
                CompositeInnerType::Array(_) => self.collects = true,
                CompositeInnerType::Cont(_) => {}
            }
        }
    }

    fn read_import(&mut self, ty: &TypeRef) {
        match ty {
            TypeRef::Table(ty) => self.collects |= is_collected(&ty.element_type),
            TypeRef::Global(ty) => self.read_value(&ty.content_type),
            TypeRef::Tag(_) => self.throws = true,
            _ => {}
        }
    }

    fn read_value(&mut self, ty: &ValType) {
        self.collects |= matches!(ty, ValType::Ref(ty) if is_collected(ty));
    }

    /// Whether an instance has a heap that is collected: exceptions live there, too.
    pub(super) fn collects(&self) -> bool {
        self.collects || self.throws
    }

    /// Fuel between two yields. A unit of it is an instruction, which may move many values, make a large structure, or look for
    /// who catches an exception: what modules have of these decides how many of them a slice may have.
    pub(super) fn yield_fuel(&self) -> u64 {
        let moves = VALUES_BETWEEN_YIELDS / self.widest.max(1);
        let structures = FIELDS_BETWEEN_YIELDS / self.most_fields.max(1);
        let throws = if self.throws { THROWING_YIELD_FUEL } else { YIELD_FUEL };
        YIELD_FUEL.min(moves).min(structures).min(throws)
    }

    /// Notes what is to be known of an export. To look for names takes long in a module that has a million.
    fn note(&mut self, export: &wasmparser::Export<'_>) {
        if export.kind == ExternalKind::Func && (export.index as usize) < self.imports {
            self.exported.push((export.name.to_owned(), export.index));
        }
        if export.kind == ExternalKind::Tag && self.tags.len() < MOST_TAGS {
            self.tags.push(export.name.to_owned());
        }
        let kind = match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => "function",
            ExternalKind::Memory => "memory",
            ExternalKind::Table => "table",
            ExternalKind::Global => "global",
            ExternalKind::Tag => "tag",
        };
        let known = match self.known.get_mut(kind) {
            Some(known) => known,
            None => self.known.entry(kind.to_owned()).or_default(),
        };
        if known.len() < KNOWN_NAMES && !instrument::adds(export.name) {
            known.push(shown::name(export.name));
        }
    }

    /// Bytes that an instance takes beside its memories and tables, at the most: a global is sixteen, a function that is
    /// exported, imported or in a table thirty-two.
    pub(super) fn instance_bytes(&self) -> u64 {
        match &self.component {
            Some(component) => component.instances.saturating_mul(component.instance_bytes),
            None => 16 * self.globals + 32 * (self.functions + self.imports as u64),
        }
    }

    /// Whether it is of a component.
    pub(crate) fn is_component(&self) -> bool {
        self.component.is_some()
    }

    /// Notes what a component's WIT says, once that has been found valid.
    pub(crate) fn declare(&mut self, wasm: &[u8]) {
        if let Some(component) = &mut self.component {
            component.declared = Declared::read(wasm);
        }
    }

    /// What a component's WIT says.
    pub(super) fn declared(&self) -> Option<&Declared> {
        self.component.as_ref()?.declared.as_ref()
    }

    /// What a component says of itself.
    pub(super) fn metadata(&self) -> Option<&Metadata> {
        self.component.as_ref().map(|component| &component.metadata)
    }

    /// Instances of modules that one of it may be made of.
    pub(super) fn core_instances(&self) -> u64 {
        self.component.as_ref().map_or(1, |component| component.instances)
    }

    /// Whether a pool's slots can hold the module, or a component's.
    pub(crate) fn fits_pool(&self) -> bool {
        if let Some(component) = &self.component {
            return !component.too_large && component.instances <= POOL_INSTANCES.into();
        }
        self.memories <= POOL_PER_MODULE
            && self.tables <= POOL_PER_MODULE
            && self.most_elements <= POOL_TABLE_ELEMENTS
            && self.most_bytes <= POOL_MEMORY
            && self.instance_bytes() <= POOL_INSTANCE
    }
}

/// Whether what these refer to is on the heap that is collected.
fn is_collected(ty: &RefType) -> bool {
    !matches!(
        ty.heap_type(),
        HeapType::Abstract { ty: AbstractHeapType::Func | AbstractHeapType::NoFunc, .. }
            | HeapType::Concrete(_)
            | HeapType::Exact(_)
    )
}

/// Refuses a function with too many clauses of `try_table` around one of its places. A body that does not parse is left to the
/// compiler.
fn check_catches(wasm: &[u8], body: &FunctionBody<'_>) -> Result<(), LoadError> {
    const TRY_TABLE: u8 = 0x1f;
    let code = wasm.get(body.range()).unwrap_or_default();
    let Ok(operators) = body.get_operators_reader() else { return Ok(()) };
    if !code.contains(&TRY_TABLE) {
        return Ok(());
    }
    let (mut open, mut catches) = (Vec::new(), 0);
    for operator in operators.into_iter().map_while(Result::ok) {
        match operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => open.push(0),
            Operator::TryTable { try_table } => {
                open.push(try_table.catches.len());
                catches += try_table.catches.len();
            }
            Operator::End => catches -= open.pop().unwrap_or(0),
            _ => {}
        }
        if catches > MOST_CATCHES {
            let (index, name) = which(wasm, body);
            let name = name.map(|name| format!(" ({name:?})")).unwrap_or_default();
            return Err(LoadError::Unsupported(format!(
                "function {index}{name} has a place with {catches} catch clauses around it, at most {MOST_CATCHES} are compiled"
            )));
        }
    }
    Ok(())
}

/// What a memory has from the start; with 64-bit addresses that may be more than there is.
fn least_bytes(memory: &wasmparser::MemoryType) -> u64 {
    memory.initial.saturating_mul(1 << memory.page_size_log2.unwrap_or(16))
}

/// How deeply a function nests: all constructs, and those that are no plain blocks.
struct Nested {
    constructs: usize,
    costly: usize,
}

/// Finds a function that is nested too deeply. A body that does not parse is left to the compiler.
fn check_nesting(body: &FunctionBody<'_>) -> Result<(), Nested> {
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
            return Err(Nested { constructs: open.len(), costly });
        }
    }
    Ok(())
}

impl Nested {
    fn refused(self, wasm: &[u8], body: &FunctionBody<'_>) -> LoadError {
        let Self { constructs, costly } = self;
        let (index, name) = which(wasm, body);
        let name = name.map(|name| format!(" ({name:?})")).unwrap_or_default();
        LoadError::Unsupported(format!(
            "function {index}{name} nests {constructs} constructs, {costly} of them loops or conditions. Inside this process, \
             where nothing ends a compilation, at most {MOST_NESTED_BLOCKS} and {MOST_NESTED} are compiled: let modules be \
             compiled apart (compiler: :apart), or split the function"
        ))
    }
}

/// A function's index, and its name as the module's name section has it.
fn which(wasm: &[u8], body: &FunctionBody<'_>) -> (u32, Option<String>) {
    let (mut index, mut found) = (0, None);
    for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        match payload {
            // A component has several modules.
            Payload::Version { .. } if found.is_none() => index = 0,
            Payload::ImportSection(section) if found.is_none() => {
                let imports = section.into_imports().map_while(Result::ok);
                index += imports.filter(|import| matches!(import.ty, TypeRef::Func(_))).count() as u32;
            }
            Payload::CodeSectionEntry(entry) if found.is_none() => match entry.range() == body.range() {
                true => found = Some(index),
                false => index += 1,
            },
            Payload::CustomSection(section) => {
                let (Some(index), KnownCustom::Name(names)) = (found, section.as_known()) else { continue };
                let functions = names.into_iter().map_while(Result::ok).find_map(|names| match names {
                    wasmparser::Name::Function(names) => Some(names),
                    _ => None,
                });
                let named = functions.into_iter().flatten().map_while(Result::ok).find(|naming| naming.index == index);
                if let Some(naming) = named {
                    return (index, Some(shown::function(naming.name)));
                }
            }
            _ => {}
        }
    }
    (found.unwrap_or(index), None)
}
