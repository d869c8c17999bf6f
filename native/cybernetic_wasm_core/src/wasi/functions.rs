//! The functions of WASI preview 1, and what stands around each: see [`super`].

use super::call::{Call, name_of};
use super::{apart, poll};
use crate::engine::Engine;
use crate::error::{Error, Trap};
use crate::invocation::Denial;
use crate::store::StoreData;
use std::sync::Arc;
use wasmtime::{Caller, Extern, FuncType, Linker, Memory, ValType};
use wasmtime_wasi::p1::types::Errno;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1};
use wiggle::{GuestError, GuestMemory};

/// The module name of preview 1.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// What a function is granted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Part of the interface itself.
    Base,
    Env,
    Clocks,
    /// Reads or writes a descriptor: a file or a standard stream.
    Io,
    Files,
    Network,
}

impl Kind {
    pub(super) fn capability(self) -> &'static str {
        match self {
            Kind::Base => "wasi",
            Kind::Env => "env",
            Kind::Clocks => "clocks",
            Kind::Io | Kind::Files => "filesystem",
            Kind::Network => "network",
        }
    }
}

/// Defines the functions: for each its kind, its parameters, and how it is done: at once, asynchronously as `wasmtime-wasi` has
/// it, or apart from the guest (`apart.rs`).
macro_rules! functions {
    ($($how:ident $kind:ident $name:ident($($arg:ident: $ty:ident),*);)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(non_camel_case_types, reason = "the interface's own names")]
        pub(super) enum Function { $($name,)* }

        impl Function {
            pub(super) fn name(self) -> &'static str {
                match self { $(Function::$name => stringify!($name),)* }
            }

            pub(super) fn kind(self) -> Kind {
                match self { $(Function::$name => Kind::$kind,)* }
            }
        }

        /// The parameters of the function `name`. All of them return an errno.
        fn params_of(name: &str) -> Option<Vec<ValType>> {
            match name {
                $(stringify!($name) => Some(vec![$(functions!(@type $ty)),*]),)*
                _ => None,
            }
        }

        fn define(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
            $(linker.func_wrap_async(MODULE, stringify!($name), |mut caller: Caller<'_, StoreData>, ($($arg,)*): ($($ty,)*)| {
                Box::new(async move {
                    let args = [$(i64::from($arg)),*];
                    let mut call = Call::new(Function::$name, &args);
                    let errno = functions!(@$how caller, call, $name($($arg),*));
                    Ok::<i32, wasmtime::Error>(errno)
                })
            })?;)*
            Ok(())
        }
    };
    (@type i32) => { ValType::I32 };
    (@type i64) => { ValType::I64 };
    (@sync $caller:ident, $call:ident, $name:ident($($arg:ident),*)) => {
        functions!(@here $caller, $call, |ctx, memory| preview1::$name(ctx, memory, $($arg),*))
    };
    (@wait $caller:ident, $call:ident, $name:ident($($arg:ident),*)) => {
        functions!(@here $caller, $call, |ctx, memory| preview1::$name(ctx, memory, $($arg),*).await)
    };
    (@apart $caller:ident, $call:ident, $name:ident($($arg:ident),*)) => {
        apart::$name(&mut $caller, &mut $call).await?
    };
    (@here $caller:ident, $call:ident, |$ctx:ident, $memory:ident| $work:expr) => {{
        enter(&mut $caller, &$call).await?;
        let memory = memory(&mut $caller)?;
        let (bytes, data) = memory.data_and_store_mut(&mut $caller);
        let invocation = Arc::clone(&data.invocation);
        let wasi = data.wasi.as_deref_mut().ok_or_else(no_wasi)?;
        if let Some(errno) = $call.before(wasi, bytes, &invocation).await? {
            return Ok(errno as i32);
        }
        let done = {
            let ($ctx, $memory) = (wasi.ctx()?, &mut GuestMemory::Unshared(bytes));
            $ctx.set_hostcall_fuel(HOSTCALL_FUEL);
            $work
        };
        let errno = done.or_else(explain)?;
        $call.after(wasi, bytes, &invocation, errno);
        if $call.writes_output(wasi) {
            invocation.hand_over().await;
        }
        errno
    }};
}

functions! {
    sync Base args_get(argv: i32, buf: i32);
    sync Base args_sizes_get(count: i32, size: i32);
    sync Env environ_get(environ: i32, buf: i32);
    sync Env environ_sizes_get(count: i32, size: i32);
    sync Clocks clock_res_get(id: i32, out: i32);
    sync Clocks clock_time_get(id: i32, precision: i64, out: i32);
    wait Files fd_advise(fd: i32, offset: i64, len: i64, advice: i32);
    sync Files fd_allocate(fd: i32, offset: i64, len: i64);
    wait Base fd_close(fd: i32);
    wait Files fd_datasync(fd: i32);
    wait Base fd_fdstat_get(fd: i32, out: i32);
    sync Base fd_fdstat_set_flags(fd: i32, flags: i32);
    sync Base fd_fdstat_set_rights(fd: i32, base: i64, inheriting: i64);
    wait Base fd_filestat_get(fd: i32, out: i32);
    wait Files fd_filestat_set_size(fd: i32, size: i64);
    wait Files fd_filestat_set_times(fd: i32, atim: i64, mtim: i64, flags: i32);
    wait Files fd_pread(fd: i32, iovs: i32, count: i32, offset: i64, out: i32);
    sync Base fd_prestat_get(fd: i32, out: i32);
    sync Base fd_prestat_dir_name(fd: i32, path: i32, len: i32);
    wait Io fd_pwrite(fd: i32, iovs: i32, count: i32, offset: i64, out: i32);
    wait Io fd_read(fd: i32, iovs: i32, count: i32, out: i32);
    apart Files fd_readdir(fd: i32, buf: i32, len: i32, cookie: i64, out: i32);
    wait Base fd_renumber(from: i32, to: i32);
    wait Base fd_seek(fd: i32, offset: i64, whence: i32, out: i32);
    wait Files fd_sync(fd: i32);
    sync Base fd_tell(fd: i32, out: i32);
    wait Io fd_write(fd: i32, iovs: i32, count: i32, out: i32);
    wait Files path_create_directory(fd: i32, path: i32, len: i32);
    wait Files path_filestat_get(fd: i32, flags: i32, path: i32, len: i32, out: i32);
    wait Files path_filestat_set_times(fd: i32, flags: i32, path: i32, len: i32, atim: i64, mtim: i64, how: i32);
    wait Files path_link(fd: i32, flags: i32, path: i32, len: i32, new_fd: i32, new_path: i32, new_len: i32);
    apart Files path_open(fd: i32, dirflags: i32, path: i32, len: i32, oflags: i32, base: i64, inheriting: i64, fdflags: i32, out: i32);
    wait Files path_readlink(fd: i32, path: i32, len: i32, buf: i32, buf_len: i32, out: i32);
    wait Files path_remove_directory(fd: i32, path: i32, len: i32);
    wait Files path_rename(fd: i32, path: i32, len: i32, new_fd: i32, new_path: i32, new_len: i32);
    wait Files path_symlink(path: i32, len: i32, fd: i32, new_path: i32, new_len: i32);
    wait Files path_unlink_file(fd: i32, path: i32, len: i32);
    sync Base proc_raise(signal: i32);
    sync Network sock_accept(fd: i32, flags: i32, out: i32);
    sync Network sock_recv(fd: i32, iovs: i32, count: i32, flags: i32, out: i32, out_flags: i32);
    sync Network sock_send(fd: i32, iovs: i32, count: i32, flags: i32, out: i32);
    sync Network sock_shutdown(fd: i32, how: i32);
}

impl Function {
    /// Whether it may have to ask the operating system about a file.
    fn may_block(self) -> bool {
        use Function::{fd_close, fd_fdstat_get, fd_filestat_get, fd_renumber, fd_seek};
        let looks = matches!(self, fd_close | fd_fdstat_get | fd_filestat_get | fd_renumber | fd_seek);
        looks || matches!(self.kind(), Kind::Io | Kind::Files)
    }
}

/// Functions that have nothing of `wasmtime-wasi`'s in them.
const OWN: [(&str, &[ValType], bool); 4] = [
    ("poll_oneoff", &[ValType::I32, ValType::I32, ValType::I32, ValType::I32], true),
    ("random_get", &[ValType::I32, ValType::I32], true),
    ("sched_yield", &[], true),
    ("proc_exit", &[ValType::I32], false),
];

/// Bytes of the guest's that `wasmtime-wasi` may copy in one call.
pub(super) const HOSTCALL_FUEL: usize = 128 << 20;

/// A linker that has WASI and nothing else.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<StoreData>> {
    let mut linker = Linker::new(engine);
    linker.allow_shadowing(true);
    define(&mut linker)?;
    linker.func_wrap_async(
        MODULE,
        "poll_oneoff",
        |mut caller: Caller<'_, StoreData>, args: (i32, i32, i32, i32)| {
            Box::new(async move { poll::poll_oneoff(&mut caller, args).await })
        },
    )?;
    linker.func_wrap_async(MODULE, "random_get", |mut caller: Caller<'_, StoreData>, (buf, len): (i32, i32)| {
        Box::new(async move { random_get(&mut caller, buf as u32, len as u32).await })
    })?;
    linker.func_wrap_async(MODULE, "sched_yield", |caller: Caller<'_, StoreData>, (): ()| {
        Box::new(async move {
            let invocation = Arc::clone(&caller.data().invocation);
            invocation.count_host_call().map_err(Error::from)?;
            invocation.pause().await;
            Ok(Errno::Success as i32)
        })
    })?;
    linker.func_wrap_async(MODULE, "proc_exit", |_: Caller<'_, StoreData>, (code,): (i32,)| {
        Box::new(async move { Err::<(), _>(Error::Exit(code as u32).into()) })
    })?;
    Ok(linker)
}

/// The type of WASI's function `name`.
pub(crate) fn signature_of(engine: &Engine, name: &str) -> Option<FuncType> {
    let own = || OWN.into_iter().find(|(own, ..)| *own == name).map(|(_, params, errno)| (params.to_vec(), errno));
    let (params, errno) = params_of(name).map(|params| (params, true)).or_else(own)?;
    Some(FuncType::new(&engine.wasmtime, params, errno.then_some(ValType::I32)))
}

/// What comes before every call: it is counted, file work leaves a normal scheduler, and a slice that is spent ends.
pub(super) async fn enter(caller: &mut Caller<'_, StoreData>, call: &Call<'_>) -> wasmtime::Result<()> {
    let data = caller.data_mut();
    let invocation = &data.invocation;
    invocation.count_host_call().map_err(Error::from)?;
    if call.function().may_block() && data.wasi.as_mut().is_some_and(|wasi| wasi.has_files()) {
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

pub(super) fn no_wasi() -> Error {
    trap("WASI is called in a guest that was made without it")
}

pub(super) fn trap(message: &str) -> Error {
    Trap { code: "wasi", message: message.to_owned(), frames: Vec::new() }.into()
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

fn innermost(mut fault: &GuestError) -> &GuestError {
    while let GuestError::InFunc { err, .. } = fault {
        fault = err;
    }
    fault
}

pub(super) fn bad_pointer(fault: &GuestError) -> Error {
    trap(&format!("a WASI function was given a bad pointer: {}", innermost(fault)))
}

/// Fills the guest's buffer a part at a time, so that a large one does not make a slice long.
async fn random_get(caller: &mut Caller<'_, StoreData>, offset: u32, length: u32) -> wasmtime::Result<i32> {
    const PART: usize = 64 << 10;
    let invocation = Arc::clone(&caller.data().invocation);
    invocation.count_host_call().map_err(Error::from)?;
    let memory = memory(caller)?;
    let (bytes, data) = memory.data_and_store_mut(&mut *caller);
    let wasi = data.wasi.as_deref_mut().ok_or_else(no_wasi)?;
    if wasi.random.is_none() {
        let errno = Errno::Notcapable;
        let operation = "random_get";
        invocation.deny(Denial { capability: "random", operation, detail: None, errno: name_of(errno), count: 1 });
        return Ok(errno as i32);
    }
    let buffer = bytes.get_mut(offset as usize..).and_then(|rest| rest.get_mut(..length as usize));
    let buffer = buffer.ok_or_else(|| trap("a WASI function was given a bad pointer: the buffer is out of bounds"))?;
    for part in buffer.chunks_mut(PART) {
        invocation.breathe().await;
        wasi.random.fill(part);
    }
    Ok(Errno::Success as i32)
}
