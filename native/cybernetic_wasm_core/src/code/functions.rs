//! What a module exports: its functions, and the words for exports that are not there.

use super::imports::Import;
use super::{Code, ENTRY, instrument};
use crate::error::{CallError, shown};
use crate::lane::Pace;
use crate::value::{check_arity, is_reference};
use std::ops::Deref;
use std::sync::Arc;
use wasmtime::{ExternType, FuncType, GlobalType, ModuleExport, ValType};

/// An exported function, as one module or one guest holds it. What is known of it all of them share; the owners are counted
/// apart, since those who call at once on several cores would wait for each other to count.
pub struct Function(Arc<Exported>);

/// What is known of an exported function, and its pace.
pub struct Exported {
    pub(crate) name: String,
    /// Of the module's source.
    digest: [u8; 32],
    pub(crate) export: ModuleExport,
    pub(crate) ty: FuncType,
    params: Vec<ValType>,
    passes_references: bool,
    /// It is one that the module imports: nobody calls it but the embedder.
    pub(crate) exported_again: bool,
    /// To be called before it with the number of arguments, the last of which may be left out.
    pub(crate) argument_counter: Option<ModuleExport>,
    /// Of calls in a fresh instance.
    pub(crate) fresh: Pace,
    /// Of calls on a live one.
    pub(crate) warm: Pace,
}

impl Deref for Function {
    type Target = Exported;

    fn deref(&self) -> &Exported {
        &self.0
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Function({:?}: {})", self.name, self.ty)
    }
}

impl Function {
    /// The same function for another holder.
    pub(crate) fn apart(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Whether both are one function of one compilation.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The types of the parameters.
    pub fn params(&self) -> &[ValType] {
        &self.params
    }

    /// Whether it takes references, or the module's imports do: an argument may then be a term of any size.
    pub fn passes_references(&self) -> bool {
        self.passes_references
    }

    /// Whether a call in a fresh instance may start on a normal scheduler.
    pub fn may_run_inline(&self) -> bool {
        self.fresh.is_short() && !self.passes_references
    }

    /// Whether it is a program's entry.
    pub(crate) fn is_entry(&self) -> bool {
        self.name == ENTRY && self.params.is_empty() && self.ty.results().len() == 0
    }

    /// Refuses a call with another number of arguments.
    pub fn check_arity(&self, given: usize) -> Result<(), CallError> {
        match self.argument_counter.is_some() && given < self.params.len() {
            true => Ok(()),
            false => check_arity(&self.ty, self.params.len(), given),
        }
    }
}

impl Code {
    /// The exported function `name`.
    pub fn function(&self, name: &str) -> Result<Arc<Function>, CallError> {
        if let Some(function) = self.functions.read().get(name) {
            return Ok(Arc::clone(function));
        }
        let function = Arc::new(self.find_function(name)?);
        self.functions.write().insert(name.to_owned(), Arc::clone(&function));
        Ok(function)
    }

    fn find_function(&self, name: &str) -> Result<Function, CallError> {
        let found = self.export(name).zip(self.wasmtime.get_export_index(name));
        match found {
            Some((ExternType::Func(ty), export)) => Ok(Function(Arc::new(Exported {
                name: name.to_owned(),
                argument_counter: self.argument_counter.filter(|_| ty.params().len() > 0),
                digest: *self.digest(),
                exported_again: self.exported_again.contains(name),
                export,
                params: ty.params().collect(),
                passes_references: ty.params().any(|ty| is_reference(&ty))
                    || self.imports.iter().any(Import::takes_references),
                ty,
                fresh: Pace::default(),
                warm: Pace::default(),
            }))),
            _ => Err(self.wrong_export(name, "function")),
        }
    }

    /// What `function`, of another compilation of the same source, is here.
    pub(crate) fn counterpart(&self, function: &Function) -> Result<Arc<Function>, CallError> {
        match function.digest == *self.digest() {
            true => self.function(&function.name),
            false => Err(self.no_such_export(&function.name, "function")),
        }
    }

    /// The type of the exported global `name`.
    pub fn global(&self, name: &str) -> Result<GlobalType, CallError> {
        match self.export(name) {
            Some(ExternType::Global(ty)) => Ok(ty),
            _ => Err(self.wrong_export(name, "global")),
        }
    }

    /// The type of an export, but of none that is there for snapshots only.
    fn export(&self, name: &str) -> Option<ExternType> {
        if self.hides(name) { None } else { self.wasmtime.get_export(name) }
    }

    /// Whether an export of that name is there for snapshots only.
    pub(crate) fn hides(&self, name: &str) -> bool {
        self.compiled().key.instrumented && instrument::adds(name)
    }

    /// Why `name` is not of the kind that was `expected`.
    pub(crate) fn wrong_export(&self, name: &str, expected: &'static str) -> CallError {
        match self.export(name) {
            Some(ty) => CallError::WrongExportKind { name: shown::name(name), expected, found: kind(&ty) },
            None => self.no_such_export(name, expected),
        }
    }

    /// The error that names the exports of the wanted kind.
    pub fn no_such_export(&self, name: &str, wanted: &'static str) -> CallError {
        let known = self.compiled().outline.known.get(wanted).cloned().unwrap_or_default();
        CallError::NoSuchExport { name: shown::name(name), expected: wanted, known }
    }
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
