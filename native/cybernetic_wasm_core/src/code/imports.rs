//! The functions that a module or a component imports.

use crate::error::{CallError, shown};
use crate::value::{check_arity, is_reference, signature};
use crate::wit::{Func, Item, Kind, served};
use std::sync::Arc;
use wasmtime::{ExternType, FuncType, ValType};

/// A function that is imported. Its place in [`super::Code::imports`] is its index in a host call.
#[derive(Debug)]
pub struct Import {
    /// The import's module name, or the interface that it is in.
    pub module: String,
    /// The import's field name.
    pub name: String,
    /// Its type.
    pub ty: Signature,
}

/// The type of a function.
#[derive(Debug)]
pub enum Signature {
    /// A module's.
    Core(CoreSignature),
    /// A component's.
    Wit(Arc<Func>),
}

/// The type of a function that a module imports.
#[derive(Debug)]
pub struct CoreSignature {
    pub(crate) ty: FuncType,
    // Every host call looks at these, and the type makes them anew.
    results: Box<[ValType]>,
    gives_references: bool,
}

/// What a function of the world's own stands under, which is in no interface.
pub(crate) const WORLD: &str = "$root";

impl Import {
    /// The functions among the imports of `module`, in order.
    pub(super) fn all(module: &wasmtime::Module) -> Vec<Self> {
        let functions = module.imports().filter_map(|import| match import.ty() {
            ExternType::Func(ty) => {
                let results: Box<[ValType]> = ty.results().collect();
                let gives_references = results.iter().any(is_reference);
                let ty = Signature::Core(CoreSignature { ty, results, gives_references });
                Some(Self { module: import.module().into(), name: import.name().into(), ty })
            }
            _ => None,
        });
        functions.collect()
    }

    /// What a component imports, if it is a function.
    pub(super) fn of_component(item: &Item) -> Option<Self> {
        let Kind::Func(func) = &item.kind else { return None };
        let module = item.interface.as_deref().unwrap_or(WORLD).to_owned();
        Some(Self { module, name: item.name.to_string(), ty: Signature::Wit(Arc::clone(func)) })
    }

    /// A module's: its type.
    pub(crate) fn core(&self) -> Option<&FuncType> {
        if let Signature::Core(core) = &self.ty { Some(&core.ty) } else { None }
    }

    /// A component's: its type.
    pub fn wit(&self) -> Option<&Arc<Func>> {
        if let Signature::Wit(func) = &self.ty { Some(func) } else { None }
    }

    /// The types of a module's results.
    pub fn results(&self) -> &[ValType] {
        if let Signature::Core(core) = &self.ty { &core.results } else { &[] }
    }

    /// How many results it has.
    pub fn gives(&self) -> usize {
        match &self.ty {
            Signature::Core(core) => core.results.len(),
            Signature::Wit(func) => func.results(),
        }
    }

    /// Whether it gives references, or resources: a result may then be a term of any size.
    pub fn gives_references(&self) -> bool {
        match &self.ty {
            Signature::Core(core) => core.gives_references,
            Signature::Wit(func) => func.gives_resources,
        }
    }

    /// Whether an argument may be of any size, and takes time to be made. What WASI is called with is nothing that anybody else sees.
    pub(super) fn takes_much(&self) -> bool {
        match &self.ty {
            Signature::Wit(_) if served(&self.module).is_some() => false,
            Signature::Core(core) => core.ty.params().any(|ty| is_reference(&ty)),
            Signature::Wit(func) => func.params.iter().any(|(_, ty)| ty.has_terms()),
        }
    }

    /// Whether there are lists in a component's arguments.
    pub(super) fn takes_lists(&self) -> bool {
        matches!(&self.ty, Signature::Wit(func) if func.params.iter().any(|(_, ty)| ty.has_lists()))
    }

    /// How many parameters it has.
    pub fn arity(&self) -> usize {
        match &self.ty {
            Signature::Core(core) => core.ty.params().len(),
            Signature::Wit(func) => func.params.len(),
        }
    }

    /// Its signature, in the words of the text format or of WIT.
    pub fn signature(&self) -> String {
        match &self.ty {
            Signature::Core(core) => signature(&core.ty),
            Signature::Wit(func) => shown::text(&func.to_string()),
        }
    }

    /// Refuses another number of results.
    pub fn check_results(&self, given: usize) -> Result<(), CallError> {
        match &self.ty {
            Signature::Core(core) => check_arity(&core.ty, core.results.len(), given),
            Signature::Wit(func) => func.check_arity(func.results(), given),
        }
    }
}
