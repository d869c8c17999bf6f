//! Binding a module that joins a live guest.

use super::fit::{describe, fits};
use super::{Linkers, wasi_problem};
use crate::code::Code;
use crate::error::{Error, ImportProblem};
use crate::host::{Trampoline, ask};
use crate::member::MemberId;
use crate::store::GuestStore;
use crate::wasi;
use std::borrow::Cow;
use std::sync::Arc;
use wasmtime::{Extern, ExternType, Func};

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

/// What is to join a live guest.
#[derive(Clone)]
pub(crate) struct Joining {
    pub(crate) code: Arc<Code>,
    pub(crate) linkers: Arc<Linkers>,
    /// What it will be in the guest.
    pub(crate) member: MemberId,
    /// For each of its imports, in order.
    pub(crate) sources: Arc<[Source]>,
}

/// Binds the imports of a module that joins a live guest, or names every one that cannot be.
pub(crate) fn resolve(store: &mut GuestStore, joining: &Joining) -> Result<Vec<Extern>, Error> {
    let mut functions = 0..;
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for (index, import) in joining.code.wasmtime.imports().enumerate() {
        let wanted = import.ty();
        let function = wanted.func().and_then(|_| functions.next());
        let answer = match joining.sources.get(index) {
            Some(Source::Export(member, name)) => exported(store, *member, name, &wanted),
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
    let found = joining.linkers.wasi().map(|linker| linker.get(&mut *store, wasi::MODULE, &import.name));
    found.ok().and_then(Result::ok).ok_or("WASI cannot be linked".into())
}

fn hosted(store: &mut GuestStore, joining: &Joining, function: Option<usize>) -> Result<Extern, Reason> {
    let index = function.ok_or("only functions can be given by the host")?;
    let ty = joining.code.imports()[index].ty.clone();
    let importer = (Some(Arc::clone(&joining.code)), joining.member);
    let trampoline = Trampoline::new(importer, index as u32, &ty);
    let func = Func::new_async(store, ty, move |caller, params, results| ask(&trampoline, caller, params, results));
    Ok(func.into())
}
