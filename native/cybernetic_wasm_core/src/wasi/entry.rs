//! What stands around every call of a WASI function: how it is counted, which memory it is about, how it is refused, and what
//! an error of `wasmtime-wasi` means to the guest.

use super::call::Call;
use super::function::Function;
use crate::error::{Error, Trap};
use crate::invocation::{Denial, Invocation};
use crate::store::StoreData;
use wasmtime::{Caller, Extern, Memory};
use wasmtime_wasi::p1::types::Errno;
use wiggle::{GuestError, GuestMemory, GuestPtr};

/// Bytes of the guest's that `wasmtime-wasi` may copy in one call.
pub(super) const HOSTCALL_FUEL: usize = 128 << 20;

/// What comes before every call: it is counted, file work leaves a normal scheduler, and a slice that is spent ends.
pub(super) async fn enter(caller: &mut Caller<'_, StoreData>, call: &Call<'_>) -> wasmtime::Result<()> {
    let data = caller.data_mut();
    let invocation = &data.invocation;
    invocation.count_host_call().map_err(Error::from)?;
    if call.function().may_block() && data.system.as_ref().is_some_and(|system| system.has_files()) {
        invocation.leave_inline().await;
    }
    invocation.breathe().await;
    Ok(())
}

/// The memory of the module that calls. Where an embedder calls a WASI function that a module exports again, nobody does: then it
/// is that of the module whose export was called.
pub(super) fn memory(caller: &mut Caller<'_, StoreData>) -> wasmtime::Result<Memory> {
    let export = match (caller.get_export("memory"), caller.data().called) {
        (None, Some(called)) => called.get_export(&mut *caller, "memory"),
        (export, _) => export,
    };
    match export {
        Some(Extern::Memory(memory)) => Ok(memory),
        _ => Err(trap("a module that uses WASI exports its memory as \"memory\"").into()),
    }
}

/// Refuses a call: what was refused is recorded, and the guest is given the errno.
pub(super) fn refuse(
    invocation: &Invocation,
    function: Function,
    (capability, detail): (&'static str, Option<String>),
    errno: Errno,
) -> Errno {
    invocation.deny(Denial { capability, operation: function.name(), detail, errno: name_of(errno), count: 1 });
    errno
}

/// An errno's name in the interface, of those that are refusals.
fn name_of(errno: Errno) -> &'static str {
    match errno {
        Errno::Badf => "badf",
        Errno::Dquot => "dquot",
        Errno::Inval => "inval",
        Errno::Mfile => "mfile",
        Errno::Nametoolong => "nametoolong",
        Errno::Nfile => "nfile",
        Errno::Notcapable => "notcapable",
        _ => "perm",
    }
}

pub(super) fn no_wasi() -> Error {
    trap("WASI is called in a guest that was made without it")
}

pub(super) fn trap(message: &str) -> Error {
    Trap { code: "wasi", message: message.to_owned(), ..Trap::default() }.into()
}

/// What leaves `wasmtime-wasi` as an error is a pointer out of bounds or misaligned, or a file of a kind that it does not
/// know: a socket in a directory must not end the guest that lists it.
pub(super) fn explain(error: wasmtime::Error) -> wasmtime::Result<i32> {
    if error.is::<Error>() {
        return Err(error);
    }
    use GuestError::{InvalidEnumValue, InvalidFlagValue, TryFromIntError};
    match error.downcast_ref::<GuestError>().map(innermost) {
        Some(InvalidEnumValue(_) | InvalidFlagValue(_) | TryFromIntError(_)) => Ok(Errno::Inval as i32),
        Some(fault) => Err(bad_pointer(fault).into()),
        None => Ok(Errno::Notsup as i32),
    }
}

/// A part of the guest's memory.
pub(super) fn range(memory: &[u8], offset: u32, length: u32) -> Result<&[u8], Error> {
    let found = memory.get(offset as usize..).and_then(|rest| rest.get(..length as usize));
    found.ok_or_else(|| trap("a WASI function was given a bad pointer: out of bounds"))
}

fn innermost(mut fault: &GuestError) -> &GuestError {
    while let GuestError::InFunc { err, .. } = fault {
        fault = err;
    }
    fault
}

/// Writes a result.
pub(super) fn write_number(memory: &mut GuestMemory<'_>, out: u32, number: u32) -> wasmtime::Result<i32> {
    memory.write(GuestPtr::<u32>::new(out), number).map_err(|fault| bad_pointer(&fault))?;
    Ok(Errno::Success as i32)
}

pub(super) fn bad_pointer(fault: &GuestError) -> Error {
    trap(&format!("a WASI function was given a bad pointer: {}", innermost(fault)))
}
