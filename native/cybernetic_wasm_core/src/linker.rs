//! Linking: what each import of a module is bound to.
//!
//! A module whose imports are all functions is bound once, when it is compiled, to trampolines that ask the driver
//! (`prepare`): one prepared instance then serves all calls, whatever functions they bring. A module that joins a live
//! guest is bound at that time (`resolve`), each import to what the embedder names as its [`Source`]: another member's
//! export, or a trampoline of its own.

use crate::engine::Engine;
use crate::error::{Error, ImportProblem};
use crate::host;
use crate::instance::{MemberId, Members};
use crate::module::{Import, Module, kind};
use crate::store::{GuestStore, StoreData};
use crate::value::{reference_name, signature, type_name};
use crate::wasi;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use wasmtime::{Caller, Extern, ExternType, Func, FuncType, GlobalType, HeapType, InstancePre, Linker, MemoryType};
use wasmtime::{Mutability, RefType, TableType, Val, ValType};

/// A module ready to instantiate by itself, or which of its imports nothing can satisfy.
pub(crate) type Linked = Result<InstancePre<StoreData>, Vec<ImportProblem>>;

/// The way from an imported function to the driver.
pub(crate) struct Trampoline {
    /// The importing module, where it joined a live guest. A guest's first module is its store's: a compiled module
    /// that owned itself would never be freed.
    pub(crate) module: Option<Arc<Module>>,
    /// Which of the guest's members that is.
    pub(crate) member: MemberId,
    /// The function's index in [`Module::imports`].
    pub(crate) import: u32,
    /// The types of its results.
    pub(crate) results: Box<[ValType]>,
}

impl Trampoline {
    fn new((module, member): (Option<Arc<Module>>, MemberId), import: u32, ty: &FuncType) -> Arc<Self> {
        Arc::new(Self { module, member, import, results: ty.results().collect() })
    }

    /// The importing module.
    pub(crate) fn importer(&self, caller: &Caller<'_, StoreData>) -> Arc<Module> {
        Arc::clone(self.module.as_ref().unwrap_or(&caller.data().module))
    }
}

type Answering<'a> = Box<dyn Future<Output = wasmtime::Result<()>> + Send + 'a>;

fn ask<'a>(
    trampoline: &Arc<Trampoline>,
    caller: Caller<'a, StoreData>,
    params: &'a [Val],
    results: &'a mut [Val],
) -> Answering<'a> {
    let trampoline = Arc::clone(trampoline);
    Box::new(async move { host::call(caller, &trampoline, params, results).await })
}

/// Binds every imported function of a module to a trampoline, once and for all. With WASI, its functions are bound to that,
/// but for the imports whose indices are among those `answered` by the driver all the same.
pub(crate) fn prepare(
    engine: &Engine,
    module: &wasmtime::Module,
    imports: &[Import],
    answered: Option<&[u32]>,
) -> Result<Linked, Error> {
    let mut linker = match answered {
        Some(_) => engine.wasi()?.clone(),
        None => Linker::new(&engine.wasmtime),
    };
    let is_wasi = |index: u32| answered.is_some_and(|answered| !answered.contains(&index));
    let mut problems = unsatisfiable(module);
    let mut seen: HashMap<(&str, &str), &FuncType> = HashMap::new();
    for (index, import) in (0..).zip(imports) {
        match seen.insert((&import.module, &import.name), &import.ty) {
            Some(first) if !function_fits(&import.ty, first) => {
                problems.push(problem(import, "imported twice, with two types"));
            }
            Some(_) => {}
            None if import.module == wasi::MODULE && is_wasi(index) => problems.extend(wasi_problem(engine, import)),
            None => define(&mut linker, index, import)?,
        }
    }
    if !problems.is_empty() {
        return Ok(Err(problems));
    }
    Ok(Ok(linker.instantiate_pre(module).map_err(Error::internal)?))
}

fn wasi_problem(engine: &Engine, import: &Import) -> Option<ImportProblem> {
    match wasi::signature_of(engine, &import.name) {
        None => Some(problem(import, "WASI preview 1 has no such function")),
        Some(ty) if !function_fits(&import.ty, &ty) => Some(problem(import, "WASI's has another type")),
        Some(_) => None,
    }
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

fn define(linker: &mut Linker<StoreData>, index: u32, import: &Import) -> Result<(), Error> {
    let trampoline = Trampoline::new((None, MemberId::FIRST), index, &import.ty);
    linker
        .func_new_async(&import.module, &import.name, import.ty.clone(), move |caller, params, results| {
            ask(&trampoline, caller, params, results)
        })
        .map(|_| ())
        .map_err(Error::internal)
}

/// What one import of a joining module is bound to.
#[derive(Debug, Clone)]
pub enum Source {
    /// The driver, who offers a function.
    Host,
    /// WASI.
    Wasi,
    /// What another member of the guest exports under that name.
    Export(MemberId, String),
    /// Nothing, for this reason: the link fails, and names it beside what else is wrong.
    Nothing(String),
}

/// A module that is to join a live guest.
#[derive(Clone)]
pub(crate) struct Joining {
    pub(crate) module: Arc<Module>,
    /// What it will be in the guest.
    pub(crate) member: MemberId,
    /// For each of its imports, in order.
    pub(crate) sources: Arc<[Source]>,
}

/// Binds the imports of a module that joins a live guest, or names every one that cannot be.
pub(crate) fn resolve(
    store: &mut GuestStore,
    members: &Members,
    first: wasmtime::Instance,
    joining: &Joining,
) -> Result<Vec<Extern>, Error> {
    let mut functions = 0..;
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for (index, import) in joining.module.wasmtime.imports().enumerate() {
        let wanted = import.ty();
        let function = wanted.func().and_then(|_| functions.next());
        let answer = match joining.sources.get(index) {
            Some(Source::Export(member, name)) => exported(store, members.handle(*member, first), name, &wanted),
            Some(Source::Host) => hosted(store, joining, function),
            Some(Source::Wasi) => of_wasi(store, joining, function),
            Some(Source::Nothing(reason)) => Err(reason.clone().into()),
            None => Err("missing".into()),
        };
        match answer {
            Ok(item) => found.push(item),
            Err(reason) => problems.push(ImportProblem {
                module: import.module().to_owned(),
                name: import.name().to_owned(),
                wanted: describe(&wanted),
                reason,
            }),
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(Error::Link(problems)) }
}

type Reason = Cow<'static, str>;

fn exported(
    store: &mut GuestStore,
    instance: Option<wasmtime::Instance>,
    name: &str,
    wanted: &ExternType,
) -> Result<Extern, Reason> {
    let instance = instance.ok_or("the member that should give it is gone")?;
    let found = instance.get_export(&mut *store, name).ok_or("missing")?;
    if fits(wanted, &found, store) { Ok(found) } else { Err("wrong type".into()) }
}

fn of_wasi(store: &mut GuestStore, joining: &Joining, function: Option<usize>) -> Result<Extern, Reason> {
    let engine = joining.module.engine();
    let import = &joining.module.imports()[function.ok_or("WASI has only functions")?];
    if let Some(problem) = wasi_problem(engine, import) {
        return Err(problem.reason);
    }
    let found = engine.wasi().map(|linker| linker.get(&mut *store, wasi::MODULE, &import.name));
    found.ok().and_then(Result::ok).ok_or("WASI cannot be linked".into())
}

fn hosted(store: &mut GuestStore, joining: &Joining, function: Option<usize>) -> Result<Extern, Reason> {
    let index = function.ok_or("only functions can be given by the host")?;
    let ty = joining.module.imports()[index].ty.clone();
    let importer = (Some(Arc::clone(&joining.module)), joining.member);
    let trampoline = Trampoline::new(importer, index as u32, &ty);
    let func = Func::new_async(store, ty, move |caller, params, results| ask(&trampoline, caller, params, results));
    Ok(func.into())
}

/// Import matching as the specification has it. Wasmtime checks it again, but stops at the first that does not match.
fn fits(wanted: &ExternType, found: &Extern, store: &GuestStore) -> bool {
    match (wanted, found.ty(store), found) {
        (ExternType::Func(wanted), ExternType::Func(found), _) => function_fits(wanted, &found),
        (ExternType::Global(wanted), ExternType::Global(found), _) => global_fits(wanted, &found),
        (ExternType::Tag(wanted), ExternType::Tag(found), _) => FuncType::eq(wanted.ty(), found.ty()),
        (ExternType::Table(wanted), ExternType::Table(found), Extern::Table(table)) => {
            table_fits(wanted, &found, table.size(store))
        }
        (ExternType::Memory(wanted), ExternType::Memory(found), Extern::Memory(memory)) => {
            memory_fits(wanted, &found, memory.size(store))
        }
        _ => false,
    }
}

/// By declared subtyping; [`FuncType::matches`] compares parameters and results only.
fn function_fits(wanted: &FuncType, found: &FuncType) -> bool {
    HeapType::ConcreteFunc(found.clone()).matches(&HeapType::ConcreteFunc(wanted.clone()))
}

/// Only what nobody can write may be of a narrower type than asked for.
fn global_fits(wanted: &GlobalType, found: &GlobalType) -> bool {
    wanted.mutability() == found.mutability()
        && match wanted.mutability() {
            Mutability::Const => found.content().matches(wanted.content()),
            Mutability::Var => ValType::eq(found.content(), wanted.content()),
        }
}

fn table_fits(wanted: &TableType, found: &TableType, size: u64) -> bool {
    wanted.is_64() == found.is_64()
        && RefType::eq(wanted.element(), found.element())
        && limits_fit((wanted.minimum(), wanted.maximum()), (size, found.maximum()))
}

fn memory_fits(wanted: &MemoryType, found: &MemoryType, size: u64) -> bool {
    wanted.is_64() == found.is_64()
        && wanted.is_shared() == found.is_shared()
        && wanted.page_size() == found.page_size()
        && limits_fit((wanted.minimum(), wanted.maximum()), (size, found.maximum()))
}

fn limits_fit(wanted: (u64, Option<u64>), (size, maximum): (u64, Option<u64>)) -> bool {
    size >= wanted.0 && wanted.1.is_none_or(|most| maximum.is_some_and(|maximum| maximum <= most))
}

/// An import's type in the text format's words.
fn describe(ty: &ExternType) -> String {
    let limits = |wide: bool, least: u64, most: Option<u64>| {
        let most = most.map(|most| format!(" {most}")).unwrap_or_default();
        format!("{}{least}{most}", if wide { "i64 " } else { "" })
    };
    let facts = match ty {
        ExternType::Func(ty) => return signature(ty),
        ExternType::Tag(ty) => signature(ty.ty()),
        ExternType::Global(ty) if ty.mutability() == Mutability::Var => format!("(mut {})", type_name(ty.content())),
        ExternType::Global(ty) => type_name(ty.content()),
        ExternType::Memory(ty) => limits(ty.is_64(), ty.minimum(), ty.maximum()),
        ExternType::Table(ty) => {
            format!("{} {}", limits(ty.is_64(), ty.minimum(), ty.maximum()), reference_name(ty.element()))
        }
    };
    format!("{} {facts}", kind(ty))
}
