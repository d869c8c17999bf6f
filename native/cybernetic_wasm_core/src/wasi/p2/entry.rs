//! What stands around every call of a function of WASI 0.2: how it is counted, what of the guest's it is about, and how it is
//! refused.

use crate::error::{Error, Trap};
use crate::invocation::Denial;
use crate::store::StoreData;
use crate::system::System;
use wasmtime::component::{Resource, ResourceTable};

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// Nothing that takes long.
    Short,
    /// It may be about a file: that does not belong on a normal scheduler.
    Files,
}

/// What a call is about that is refused: the function, as `interface#name`, the capability that does not grant it, and what it
/// was called with, if that says more.
pub(super) type Asked = (&'static str, &'static str, Option<String>);

/// What comes before every call: it is counted, file work leaves a normal scheduler, and a slice that is spent ends.
pub(super) async fn enter(data: &mut StoreData, work: Work) -> wasmtime::Result<()> {
    count(data)?;
    if work == Work::Files && data.system.as_ref().is_some_and(|system| system.has_files()) {
        data.invocation.leave_inline().await;
    }
    data.invocation.breathe().await;
    Ok(())
}

/// Counts the call of a function that takes no time.
pub(super) fn count(data: &StoreData) -> wasmtime::Result<()> {
    Ok(data.invocation.count_host_call().map_err(Error::from)?)
}

/// The guest's share of the system.
pub(super) fn system(data: &mut StoreData) -> wasmtime::Result<&mut System> {
    let none = || trap("WASI is called in a guest that was made without it");
    Ok(data.system.as_deref_mut().ok_or_else(none)?)
}

/// What the guest has handles to.
pub(super) fn table(data: &mut StoreData) -> wasmtime::Result<&mut ResourceTable> {
    Ok(system(data)?.table()?)
}

/// Gives the guest a handle to something.
pub(super) fn push<T: Send + 'static>(data: &mut StoreData, entry: T) -> wasmtime::Result<Resource<T>> {
    Ok(table(data)?.push(entry)?)
}

/// Notes that a call was refused, and what the guest is told: a case of its interface's errors.
pub(super) fn refuse(data: &StoreData, (operation, capability, detail): Asked, told: &'static str) {
    data.invocation.deny(Denial { capability, operation, detail, errno: told, count: 1 });
}

/// The refusal of a function that has no error to give: it traps.
pub(super) fn refusal(data: &StoreData, (operation, capability): (&'static str, &'static str)) -> wasmtime::Error {
    refuse(data, (operation, capability, None), "trap");
    let message = format!("it called {operation}, which has no error to give, and is granted no {capability}");
    trap(&message).into()
}

pub(super) fn trap(message: &str) -> Error {
    Trap { code: "wasi", message: message.to_owned(), ..Trap::default() }.into()
}
