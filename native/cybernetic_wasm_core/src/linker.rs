//! Linking: what each import of a module is bound to.
//!
//! A module whose imports are all functions is bound once, when it is compiled, to trampolines that ask the driver
//! (`Linkers::prepare`): one prepared instance then serves all calls, whatever functions they bring. A module that joins a
//! live guest is bound at that time (`linker/joining.rs`), each import to what the embedder names as its [`Source`]: another
//! member's export, or a trampoline of its own.

mod fit;
mod joining;

pub use joining::Source;
pub(crate) use joining::{Joining, resolve};

use crate::code::{Code, Import};
use crate::engine::Engine;
use crate::error::{Error, ImportProblem};
use crate::host::{Trampoline, ask};
use crate::member::MemberId;
use crate::store::StoreData;
use crate::wasi;
use fit::{describe, function_fits};
use once_cell::sync::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;
use wasmtime::{ExternType, FuncType, InstancePre, Linker};

/// A module ready to instantiate by itself, or which of its imports nothing can satisfy.
pub(crate) type Linked = Result<InstancePre<StoreData>, Vec<ImportProblem>>;

/// An engine, and the linkers that all modules of it share.
pub(crate) struct Linkers {
    engine: Arc<Engine>,
    /// WASI's functions and no others, made when the first module wants them.
    wasi: OnceCell<Linker<StoreData>>,
}

impl Linkers {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine: Arc::new(engine), wasi: OnceCell::new() }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn wasi(&self) -> Result<&Linker<StoreData>, Error> {
        self.wasi.get_or_try_init(|| wasi::linker(&self.engine.wasmtime)).map_err(Error::internal)
    }

    /// Binds every imported function of a module to a trampoline, once and for all. With WASI, its functions are bound to
    /// that, but for the imports whose indices are among those `answered` by the driver all the same.
    pub(crate) fn prepare(&self, code: &Code, answered: Option<&[u32]>) -> Result<Linked, Error> {
        let mut linker = match answered {
            Some(_) => self.wasi()?.clone(),
            None => Linker::new(&self.engine.wasmtime),
        };
        let is_wasi = |index: u32| answered.is_some_and(|answered| !answered.contains(&index));
        let mut problems = unsatisfiable(code);
        let mut seen: HashMap<(&str, &str), &FuncType> = HashMap::new();
        for (index, import) in (0..).zip(code.imports()) {
            match seen.insert((&import.module, &import.name), &import.ty) {
                Some(first) if !function_fits(&import.ty, first) => {
                    problems.push(problem(import, "imported twice, with two types"));
                }
                Some(_) => {}
                None if import.module == wasi::MODULE && is_wasi(index) => {
                    problems.extend(wasi_problem(&self.engine, import));
                }
                None => define(&mut linker, index, import)?,
            }
        }
        if !problems.is_empty() {
            return Ok(Err(problems));
        }
        Ok(Ok(linker.instantiate_pre(&code.wasmtime).map_err(Error::internal)?))
    }
}

fn wasi_problem(engine: &Engine, import: &Import) -> Option<ImportProblem> {
    match wasi::signature_of(&engine.wasmtime, &import.name) {
        None => Some(problem(import, "WASI preview 1 has no such function")),
        Some(ty) if !function_fits(&import.ty, &ty) => Some(problem(import, "WASI's has another type")),
        Some(_) => None,
    }
}

fn unsatisfiable(code: &Code) -> Vec<ImportProblem> {
    let others = code.wasmtime.imports().filter(|import| !matches!(import.ty(), ExternType::Func(_)));
    let problem = |import: wasmtime::ImportType<'_>| ImportProblem {
        module: import.module().to_owned(),
        name: import.name().to_owned(),
        wanted: describe(&import.ty()),
        reason: "nothing to link it to: give an instance or a module that exports one".into(),
    };
    others.map(problem).collect()
}

fn problem(import: &Import, reason: &'static str) -> ImportProblem {
    let reason = reason.into();
    ImportProblem { module: import.module.clone(), name: import.name.clone(), wanted: import.signature(), reason }
}

fn define(linker: &mut Linker<StoreData>, index: u32, import: &Import) -> Result<(), Error> {
    let trampoline = Trampoline::new((None, MemberId::FIRST), index, &import.ty);
    linker
        .func_new_async(&import.module, &import.name, import.ty.clone(), move |caller, params, results| {
            ask(&trampoline, caller, params, results)
        })
        .map(|_| ())
        .map_err(Error::internal)
}
