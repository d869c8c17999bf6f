//! Linking: what each import of a module is bound to.
//!
//! A module whose imports are all functions is bound once, when it is compiled, to trampolines that ask the driver
//! (`Linkers::prepare`): one prepared instance then serves all calls, whatever functions they bring. Every other is bound in
//! the store that it is to live in (`linker/joining.rs`), each import by its index to what the embedder names as its
//! [`Source`]: another member's export, a value, or a trampoline of its own. So is a module that imports one name twice with
//! different types, which Wasmtime's linker, going by names, cannot tell apart.

mod component;
mod fit;
mod joining;

pub use joining::{GivenGlobal, Source};
pub(crate) use joining::{Joining, resolve};

use crate::code::{Code, Import};
use crate::engine::Engine;
use crate::error::{Error, ImportProblem};
use crate::extism;
use crate::guest::{Component, First, Instantiate};
use crate::host::{Trampoline, ask};
use crate::kernel::Settings;
use crate::member::MemberId;
use crate::store::{GuestStore, StoreData};
use crate::system::Grants;
use crate::wasi;
use crate::wit::Owner;
use fit::{describe, function_fits};
use once_cell::sync::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;
use wasmtime::{ExternType, FuncType, InstancePre, Linker};

/// A module ready to instantiate by itself, or which of its imports nothing can satisfy.
pub(crate) type Linked = Result<Ready, Vec<ImportProblem>>;

/// A module that is ready to be a guest's first instance.
#[derive(Clone)]
pub(crate) enum Ready {
    /// Its imports are bound, for any store.
    Prepared(InstancePre<StoreData>),
    /// Its imports are bound in each store anew, to these.
    Sources(Arc<[Source]>),
    /// A component, whose imports are bound for any store.
    Component {
        prepared: wasmtime::component::InstancePre<StoreData>,
        /// It imports something of WASI, and so needs a system, whatever that grants it.
        wasi: bool,
    },
}

impl Ready {
    /// Whether a guest of it has a system though it was granted nothing.
    pub(crate) fn needs_system(&self) -> bool {
        matches!(self, Ready::Component { wasi: true, .. })
    }
}

/// What a guest is given beside its limits: its share of the system, what its imports are bound to where that is not all the
/// host's and WASI's, and who is told of the embedder's resources that it has no more.
#[derive(Clone, Default)]
pub(crate) struct Given {
    pub(crate) grants: Option<Arc<Grants>>,
    pub(crate) sources: Option<Arc<[Source]>>,
    pub(crate) owner: Option<Arc<dyn Owner>>,
    /// What it has as a plugin.
    pub(crate) kernel: Option<Arc<Settings>>,
}

/// The same with what it takes to make it an instance.
pub(crate) struct Starting<'a> {
    pub(crate) ready: &'a Ready,
    pub(crate) code: &'a Arc<Code>,
    pub(crate) linkers: &'a Arc<Linkers>,
}

impl Instantiate for Starting<'_> {
    async fn instantiate(&self, store: &mut GuestStore) -> wasmtime::Result<First> {
        match self.ready {
            Ready::Prepared(prepared) => prepared.instantiate_async(store).await.map(First::Module),
            Ready::Sources(sources) => {
                let (code, linkers) = (Arc::clone(self.code), Arc::clone(self.linkers));
                let joining = Joining { code, linkers, member: MemberId::FIRST, sources: Arc::clone(sources) };
                Box::pin(bind(store, joining)).await.map(First::Module)
            }
            Ready::Component { prepared, .. } => {
                let instance = Box::pin(prepared.instantiate_async(&mut *store)).await?;
                store.data_mut().component = Some(instance);
                Ok(First::Component(Box::new(Component::new(instance))))
            }
        }
    }
}

async fn bind(store: &mut GuestStore, joining: Joining) -> wasmtime::Result<wasmtime::Instance> {
    let module = joining.code.module().map_err(Error::from)?;
    let imports = resolve(store, &joining).await?;
    wasmtime::Instance::new_async(store, &module.wasmtime, &imports).await
}

/// An engine, and the linkers that all modules of it share.
pub(crate) struct Linkers {
    engine: Arc<Engine>,
    /// WASI's functions and no others, made when the first module wants them.
    wasi: OnceCell<Linker<StoreData>>,
    /// The same for components.
    wasi_p2: OnceCell<wasmtime::component::Linker<StoreData>>,
}

impl Linkers {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine: Arc::new(engine), wasi: OnceCell::new(), wasi_p2: OnceCell::new() }
    }

    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    fn wasi(&self) -> Result<&Linker<StoreData>, Error> {
        self.wasi.get_or_try_init(|| wasi::linker(&self.engine.wasmtime)).map_err(Error::internal)
    }

    fn wasi_p2(&self) -> Result<&wasmtime::component::Linker<StoreData>, Error> {
        self.wasi_p2.get_or_try_init(|| wasi::p2::linker(&self.engine.wasmtime)).map_err(Error::internal)
    }

    /// Binds every imported function of a module to a trampoline, once and for all. With WASI, its functions are bound to
    /// that, but for the imports whose indices are among those `answered` by the driver all the same. A component always has
    /// WASI, and a plugin a `kernel`.
    pub(crate) fn prepare(&self, code: &Code, answered: Option<&[u32]>, kernel: bool) -> Result<Linked, Error> {
        match code.component() {
            Some(component) => component::prepare(self, code, (component, answered.unwrap_or_default())),
            None => self.prepare_module(code, answered, kernel),
        }
    }

    fn prepare_module(&self, code: &Code, answered: Option<&[u32]>, kernel: bool) -> Result<Linked, Error> {
        let module = code.module()?;
        let mut linker = match answered {
            Some(_) => self.wasi()?.clone(),
            None => Linker::new(&self.engine.wasmtime),
        };
        if kernel {
            extism::define(&mut linker).map_err(Error::internal)?;
        }
        let is_wasi = |index: u32| answered.is_some_and(|answered| !answered.contains(&index));
        let mut problems = unsatisfiable(&module.wasmtime);
        let mut sources = Vec::with_capacity(code.imports().len());
        let mut seen: HashMap<(&str, &str), (&FuncType, bool)> = HashMap::new();
        let mut by_name = true;
        for (index, import) in (0..).zip(code.imports()) {
            let Some(ty) = import.core() else { continue };
            let wasi = wasi::Preview::named(&import.module).is_some() && is_wasi(index);
            sources.push(if wasi { Source::Wasi } else { Source::Host });
            let first = seen.insert((&import.module, &import.name), (ty, wasi));
            by_name &= first.is_none_or(|(same, was_wasi)| was_wasi == wasi && FuncType::eq(same, ty));
            if wasi {
                problems.extend(wasi_problem(&self.engine, import));
            } else if let Some(own) = kernel.then(|| kernel_type(&self.engine, import)).flatten() {
                if !function_fits(ty, &own) {
                    problems.push(problem(import, "Extism's has another type"));
                }
            } else if first.is_none() {
                define(&mut linker, index, (import, ty))?;
            }
        }
        if !problems.is_empty() {
            return Ok(Err(problems));
        }
        Ok(Ok(match by_name {
            true => Ready::Prepared(linker.instantiate_pre(&module.wasmtime).map_err(Error::internal)?),
            false => Ready::Sources(sources.into()),
        }))
    }
}

fn wasi_problem(engine: &Engine, import: &Import) -> Option<ImportProblem> {
    let preview = wasi::Preview::named(&import.module).unwrap_or(wasi::Preview::One);
    match wasi::signature_of(&engine.wasmtime, preview, &import.name) {
        None => Some(problem(import, preview.no_such_function())),
        Some(ty) if !import.core().is_some_and(|wanted| function_fits(wanted, &ty)) => {
            Some(problem(import, "WASI's has another type"))
        }
        Some(_) => None,
    }
}

/// The type of a plugin's function that is served here.
fn kernel_type(engine: &Engine, import: &Import) -> Option<FuncType> {
    (import.module == extism::MODULE).then(|| extism::signature_of(&engine.wasmtime, &import.name)).flatten()
}

fn unsatisfiable(module: &wasmtime::Module) -> Vec<ImportProblem> {
    let others = module.imports().filter(|import| !matches!(import.ty(), ExternType::Func(_)));
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

fn define(linker: &mut Linker<StoreData>, index: u32, (import, ty): (&Import, &FuncType)) -> Result<(), Error> {
    let trampoline = Trampoline::new((None, MemberId::FIRST), index, ty);
    linker
        .func_new_async(&import.module, &import.name, ty.clone(), move |caller, params, results| {
            ask(&trampoline, caller, params, results)
        })
        .map(|_| ())
        .map_err(Error::internal)
}
