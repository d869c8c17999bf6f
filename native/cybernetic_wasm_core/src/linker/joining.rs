//! Binding a module in the store that it is to live in: one that joins a live guest, or a guest's first that is not bound by the
//! names of functions alone.

use super::fit::{describe, fits};
use super::{Linkers, wasi_problem};
use crate::code::Code;
use crate::error::{Error, ImportProblem};
use crate::host::{Trampoline, ask};
use crate::member::MemberId;
use crate::store::GuestStore;
use crate::value::{ValType, Value, type_name};
use std::borrow::Cow;
use std::sync::Arc;
use wasmtime::{Extern, ExternType, Func, Global, HeapType, Mutability, RootScope};

/// What one import of a joining module is bound to.
#[derive(Debug, Clone)]
pub enum Source {
    /// The driver, who offers a function.
    Host,
    /// WASI.
    Wasi,
    /// What another member of the guest exports under that name.
    Export(MemberId, String),
    /// A global of its own, which begins with this.
    Global(GivenGlobal),
    /// Nothing, for this reason: the link fails, and names it beside what else is wrong.
    Nothing(String),
}

/// A global that the embedder gives. Each instance has its own.
#[derive(Debug, Clone)]
pub struct GivenGlobal {
    /// The type of its value. Whether null is among them is the import's to say.
    pub ty: ValType,
    /// Whether the guest may change it.
    pub mutable: bool,
    /// What it begins with.
    pub value: Value,
}

/// What is to live in a guest's store.
#[derive(Clone)]
pub(crate) struct Joining {
    pub(crate) code: Arc<Code>,
    pub(crate) linkers: Arc<Linkers>,
    /// What it will be in the guest.
    pub(crate) member: MemberId,
    /// For each of its imports, in order.
    pub(crate) sources: Arc<[Source]>,
}

/// Binds the imports of a module in a store, or names every one that cannot be.
pub(crate) async fn resolve(store: &mut GuestStore, joining: &Joining) -> Result<Vec<Extern>, Error> {
    let mut functions = 0..;
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    let imports: Vec<_> = joining.code.module()?.wasmtime.imports().collect();
    for (index, import) in imports.iter().enumerate() {
        let wanted = import.ty();
        let function = wanted.func().and_then(|_| functions.next());
        let answer = match joining.sources.get(index) {
            Some(Source::Export(member, name)) => exported(store, *member, name, &wanted),
            Some(Source::Host) => hosted(store, joining, function),
            Some(Source::Wasi) => of_wasi(store, joining, function),
            Some(Source::Global(given)) => Box::pin(global(store, given, &wanted)).await?,
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
    if problems.is_empty() { Ok(found) } else { Err(Error::link(&problems)) }
}

type Reason = Cow<'static, str>;

fn exported(store: &mut GuestStore, member: MemberId, name: &str, wanted: &ExternType) -> Result<Extern, Reason> {
    let instance = store.data().started_instance(member).ok_or("the member that should give it is gone")?;
    let found = instance.get_export(&mut *store, name).ok_or("missing")?;
    if fits(wanted, &found, store) { Ok(found) } else { Err("wrong type".into()) }
}

fn of_wasi(store: &mut GuestStore, joining: &Joining, function: Option<usize>) -> Result<Extern, Reason> {
    let import = &joining.code.imports()[function.ok_or("WASI has only functions")?];
    if let Some(problem) = wasi_problem(joining.linkers.engine(), import) {
        return Err(problem.reason);
    }
    let found = joining.linkers.wasi().map(|linker| linker.get(&mut *store, &import.module, &import.name));
    found.ok().and_then(Result::ok).ok_or("WASI cannot be linked".into())
}

fn hosted(store: &mut GuestStore, joining: &Joining, function: Option<usize>) -> Result<Extern, Reason> {
    let index = function.ok_or("only functions can be given by the host")?;
    let ty = joining.code.imports()[index].core().ok_or("only functions can be given by the host")?.clone();
    let joins = joining.member != MemberId::FIRST;
    let importer = (joins.then(|| Arc::clone(&joining.code)), joining.member);
    let trampoline = Trampoline::new(importer, index as u32, &ty);
    let func = Func::new_async(store, ty, move |caller, params, results| ask(&trampoline, caller, params, results));
    Ok(func.into())
}

/// The global, of the type that the import wants: what is given has its kind, and the value must be one of that type.
async fn global(
    store: &mut GuestStore,
    given: &GivenGlobal,
    wanted: &ExternType,
) -> Result<Result<Extern, Reason>, Error> {
    let ExternType::Global(ty) = wanted else { return Ok(Err("a global was given".into())) };
    if !same_kind(ty.content(), &given.ty) || (ty.mutability() == Mutability::Var) != given.mutable {
        let word = if given.mutable { "mutable" } else { "constant" };
        return Ok(Err(format!("a {word} global of {} was given", type_name(&given.ty)).into()));
    }
    let mut scope = RootScope::new(store);
    let value = match given.value.clone().put(ty.content(), 0, &mut scope).await {
        Ok(value) => value,
        Err(error) => return refusal(error),
    };
    let global = Global::new(&mut scope, ty.clone(), value).map_err(Error::internal)?;
    Ok(Ok(global.into()))
}

/// References by what they refer to: an embedder does not say that null is not among them.
fn same_kind(wanted: &ValType, given: &ValType) -> bool {
    match (wanted, given) {
        (ValType::Ref(wanted), ValType::Ref(given)) => HeapType::eq(wanted.heap_type(), given.heap_type()),
        _ => ValType::eq(wanted, given),
    }
}

/// A value that is not of the type is one more problem of the link; anything else ends it.
fn refusal(error: wasmtime::Error) -> Result<Result<Extern, Reason>, Error> {
    match error.downcast::<Error>() {
        Ok(Error::Call(_)) => Ok(Err("the value given is not of its type".into())),
        Ok(error) => Err(error),
        Err(error) => Err(Error::internal(error)),
    }
}
