//! The functions that a module imports.

use crate::error::CallError;
use crate::value::{check_arity, is_reference, signature};
use wasmtime::{ExternType, FuncType, ValType};

/// A function that the module imports. Its place in [`super::Code::imports`] is its index in a host call.
#[derive(Debug)]
pub struct Import {
    /// The import's module name.
    pub module: String,
    /// The import's field name.
    pub name: String,
    /// Its signature.
    pub ty: FuncType,
    // Every host call looks at these, and the signature makes them anew.
    results: Box<[ValType]>,
    gives_references: bool,
}

impl Import {
    /// The functions among the imports of `module`, in order.
    pub(super) fn all(module: &wasmtime::Module) -> Vec<Self> {
        let functions = module.imports().filter_map(|import| match import.ty() {
            ExternType::Func(ty) => {
                let results: Box<[ValType]> = ty.results().collect();
                let gives_references = results.iter().any(is_reference);
                Some(Self { module: import.module().into(), name: import.name().into(), ty, results, gives_references })
            }
            _ => None,
        });
        functions.collect()
    }

    /// The types of the results.
    pub fn results(&self) -> &[ValType] {
        &self.results
    }

    /// Whether it gives references: a result may then be a term of any size.
    pub fn gives_references(&self) -> bool {
        self.gives_references
    }

    pub(super) fn takes_references(&self) -> bool {
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
        check_arity(&self.ty, self.results.len(), given)
    }
}
