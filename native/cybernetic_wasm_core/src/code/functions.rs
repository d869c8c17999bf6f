//! What a module or a component exports: its functions, and the words for exports that are not there.

use super::imports::Import;
use super::{Body, Code, ComponentBody, ENTRY, ModuleBody, instrument};
use crate::error::{CallError, shown};
use crate::lane::{INLINE_VALUES, Pace};
use crate::limits::Limits;
use crate::value::{check_arity, is_reference, signature};
use crate::wit::{Func, Type};
use std::ops::Deref;
use std::sync::Arc;
use wasmtime::component::ComponentExportIndex;
use wasmtime::{ExternType, FuncType, GlobalType, ModuleExport, ValType};

/// An exported function, as one module or one guest holds it. What is known of it all of them share; the owners are counted
/// apart, since those who call at once on several cores would wait for each other to count.
pub struct Function(Arc<Exported>);

/// What is known of an exported function, and its pace.
pub struct Exported {
    pub(crate) name: String,
    /// Of the module's source.
    digest: [u8; 32],
    pub(crate) export: Export,
    params: Vec<ValType>,
    results: Vec<ValType>,
    takes_much: bool,
    /// Lists in its result, or in what the component gives to the host, which are read without interruption.
    passes_lists: bool,
    /// It is one that the module imports: nobody calls it but the embedder.
    pub(crate) exported_again: bool,
    /// To be called before it with the number of arguments, the last of which may be left out.
    pub(crate) argument_counter: Option<ModuleExport>,
    /// Of calls in a fresh instance.
    pub(crate) fresh: Pace,
    /// Of calls on a live one.
    pub(crate) warm: Pace,
}

/// Where the function is found, and its type.
pub(crate) enum Export {
    Module(ModuleExport, FuncType),
    Component(ComponentExportIndex, Arc<Func>),
}

impl Deref for Function {
    type Target = Exported;

    fn deref(&self) -> &Exported {
        &self.0
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Function({:?}: {})", self.name, self.signature())
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

    /// The types of the parameters, of a module's function.
    pub fn params(&self) -> &[ValType] {
        &self.params
    }

    /// The type of a module's function.
    pub(crate) fn core(&self) -> Option<(&ModuleExport, &FuncType)> {
        if let Export::Module(export, ty) = &self.export { Some((export, ty)) } else { None }
    }

    /// The types of the results, of a module's function.
    pub(crate) fn results(&self) -> &[ValType] {
        &self.results
    }

    /// The type of a component's function.
    pub fn wit(&self) -> Option<&Arc<Func>> {
        if let Export::Component(_, func) = &self.export { Some(func) } else { None }
    }

    /// Its type, in the words of the text format or of WIT.
    pub fn signature(&self) -> String {
        match &self.export {
            Export::Module(_, ty) => signature(ty),
            Export::Component(_, func) => shown::text(&func.to_string()),
        }
    }

    /// Whether what it takes and gives, and what the imports of its module take, is made soon enough for a normal scheduler.
    pub(crate) fn fits_inline(&self, limits: &Limits) -> bool {
        !self.takes_much && (!self.passes_lists || limits.max_transfer <= INLINE_VALUES)
    }

    /// Whether a call of it that was suspended in a host call may go on on a normal scheduler.
    pub(crate) fn may_go_on_inline(&self, limits: &Limits) -> bool {
        self.core().is_some() || self.fits_inline(limits)
    }

    /// Whether a call in a fresh instance may start on a normal scheduler.
    pub fn may_run_inline(&self, limits: &Limits) -> bool {
        self.fresh.is_short() && self.fits_inline(limits)
    }

    /// Whether it is a program's entry.
    pub(crate) fn is_entry(&self) -> bool {
        self.name == ENTRY && self.params.is_empty() && self.results.is_empty() && self.core().is_some()
    }

    /// Refuses a call with another number of arguments.
    pub fn check_arity(&self, given: usize) -> Result<(), CallError> {
        match &self.export {
            Export::Module(..) if self.argument_counter.is_some() && given < self.params.len() => Ok(()),
            Export::Module(_, ty) => check_arity(ty, self.params.len(), given),
            Export::Component(_, func) => func.check_arity(func.params.len(), given),
        }
    }
}

impl Code {
    /// The exported function `name`.
    pub fn function(&self, name: &str) -> Result<Arc<Function>, CallError> {
        if let Some(function) = self.functions.read().get(name) {
            return Ok(Arc::clone(function));
        }
        let function = self.find_function(name)?;
        self.functions.write().insert(name.to_owned(), Arc::clone(&function));
        Ok(function)
    }

    fn find_function(&self, name: &str) -> Result<Arc<Function>, CallError> {
        match &self.body {
            Body::Module(module) => self.of_module(module, name).map(Arc::new),
            Body::Component(component) => self.of_component(component, name),
        }
    }

    fn of_module(&self, module: &ModuleBody, name: &str) -> Result<Function, CallError> {
        let found = self.export(name).zip(module.wasmtime.get_export_index(name));
        match found {
            Some((ExternType::Func(ty), export)) => Ok(Function(Arc::new(Exported {
                name: name.to_owned(),
                argument_counter: module.argument_counter.filter(|_| ty.params().len() > 0),
                digest: *self.digest(),
                exported_again: module.exported_again.contains(name),
                params: ty.params().collect(),
                results: ty.results().collect(),
                takes_much: ty.params().any(|ty| is_reference(&ty)) || self.imports.iter().any(Import::takes_much),
                passes_lists: false,
                export: Export::Module(export, ty),
                fresh: Pace::default(),
                warm: Pace::default(),
            }))),
            _ => Err(self.wrong_export(name, "function")),
        }
    }

    /// A function has one pace, whichever of its names it is called by.
    fn of_component(&self, component: &ComponentBody, name: &str) -> Result<Arc<Function>, CallError> {
        let (item, func, export) = component.find(name)?;
        let path = item.path();
        if path != name {
            return self.function(&path);
        }
        let gives = |is: fn(&Type) -> bool| func.result.as_ref().is_some_and(is);
        Ok(Arc::new(Function(Arc::new(Exported {
            name: path,
            argument_counter: None,
            digest: *self.digest(),
            exported_again: false,
            params: Vec::new(),
            results: Vec::new(),
            takes_much: gives(Type::has_terms) || self.imports.iter().any(Import::takes_much),
            passes_lists: gives(|ty| !ty.is_bytes() && ty.has_lists()) || self.imports.iter().any(Import::takes_lists),
            export: Export::Component(export, Arc::clone(func)),
            fresh: Pace::default(),
            warm: Pace::default(),
        }))))
    }

    /// Whether what a component gives to the host while it starts is made soon enough for a normal scheduler.
    pub(crate) fn may_go_on_inline(&self, limits: &Limits) -> bool {
        let any = |is: fn(&Import) -> bool| self.imports.iter().any(is);
        let fits = limits.max_transfer <= INLINE_VALUES || !any(Import::takes_lists);
        !self.is_component() || (fits && !any(Import::takes_much))
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
        if self.hides(name) { None } else { self.module().ok()?.wasmtime.get_export(name) }
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
