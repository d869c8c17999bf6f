//! The functions of WASI preview 1, and what stands around each: see [`super`].

use super::files::{Descriptor, LONGEST_PATH, NEW_FILE};
use super::apart::{self, PathOpen};
use super::{Wasi, poll};
use crate::engine::Engine;
use crate::error::{Error, Trap};
use crate::invocation::{Denial, Invocation};
use crate::store::StoreData;
use std::sync::Arc;
use wasmtime::{Caller, Extern, FuncType, Linker, Memory, ValType};
use wasmtime_wasi::p1::types::{Errno, Fd};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1};
use wiggle::{GuestError, GuestMemory};

/// The module name of preview 1.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";

/// What a function is granted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
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
    fn capability(self) -> &'static str {
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
        enum Function { $($name,)* }

        impl Function {
            fn name(self) -> &'static str {
                match self { $(Function::$name => stringify!($name),)* }
            }

            fn kind(self) -> Kind {
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
                    let mut call = Call { function: Function::$name, args: &args, charged: 0, wanted: 0, opens: false };
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

/// Pieces that one read or write may have, as POSIX systems have it: looking for the first that is not empty takes time.
const MOST_PIECES: u32 = 1_024;

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
    if call.function.may_block() && data.wasi.as_mut().is_some_and(|wasi| wasi.has_files()) {
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

/// One call of a WASI function.
pub(super) struct Call<'a> {
    function: Function,
    args: &'a [i64],
    /// What the quota was charged for it.
    charged: u64,
    /// How much it is to write, as it was before the guest's memory could change.
    wanted: u32,
    /// There is room for what it opens.
    opens: bool,
}

impl Call<'_> {
    pub(super) fn arg(&self, index: usize) -> u32 {
        self.args.get(index).copied().unwrap_or(0) as u32
    }

    pub(super) fn wide_arg(&self, index: usize) -> i64 {
        self.args.get(index).copied().unwrap_or(0)
    }

    pub(super) fn path_open_args(&self) -> PathOpen {
        PathOpen {
            fd: self.arg(0) as i32,
            dirflags: self.arg(1) as i32,
            length: self.arg(3) as i32,
            oflags: self.arg(4) as i32,
            base: self.wide_arg(5),
            inheriting: self.wide_arg(6),
            fdflags: self.arg(7) as i32,
        }
    }

    /// Takes back what the quota was charged.
    pub(super) fn refund(&mut self, wasi: &mut Wasi) {
        wasi.descriptors.refund(std::mem::take(&mut self.charged));
    }

    /// Asks the grants and the bounds, and gives the errno of what they refuse.
    pub(super) async fn before(
        &mut self,
        wasi: &mut Wasi,
        memory: &mut [u8],
        invocation: &Invocation,
    ) -> wasmtime::Result<Option<Errno>> {
        let errno = match self.function.kind() {
            Kind::Clocks if wasi.clocks.is_none() => Some(Errno::Notcapable),
            Kind::Network => Some(Errno::Notcapable),
            Kind::Io => self.before_io(wasi, memory).await,
            Kind::Files => self.before_files(wasi, memory).await,
            _ => None,
        };
        if let Some(errno) = errno {
            self.undo(wasi);
            self.deny(wasi, memory, invocation, errno);
        }
        Ok(errno)
    }

    /// Takes back what was counted for a call that did not do it.
    fn undo(&self, wasi: &mut Wasi) {
        wasi.descriptors.refund(self.charged);
        if self.opens {
            wasi.descriptors.release();
        }
    }

    async fn before_io(&mut self, wasi: &mut Wasi, memory: &mut [u8]) -> Option<Errno> {
        if self.arg(2) > MOST_PIECES {
            return Some(Errno::Inval);
        }
        let [stdin, stdout, stderr] = wasi.stdio;
        match wasi.descriptors.get(self.arg(0))? {
            Descriptor::Stdin if !stdin => Some(Errno::Badf),
            Descriptor::Stdout if !stdout => Some(Errno::Badf),
            Descriptor::Stderr if !stderr => Some(Errno::Badf),
            Descriptor::Opened => self.before_write(wasi, memory).await,
            _ => None,
        }
    }

    /// What a write adds to a file beyond its end counts, also what it skips: a byte in each block of a hole fills them all.
    async fn before_write(&mut self, wasi: &mut Wasi, memory: &mut [u8]) -> Option<Errno> {
        self.wanted = first_length(memory, self.arg(1), self.arg(2));
        let file = Fd::from(self.arg(0));
        let mut memory = GuestMemory::Unshared(memory);
        let start = match self.function {
            Function::fd_write => wasi.ctx().ok()?.fd_tell(&mut memory, file).ok()?,
            Function::fd_pwrite => self.wide_arg(3) as u64,
            _ => return None,
        };
        let size = wasi.ctx().ok()?.fd_filestat_get(&mut memory, file).await.ok()?.size;
        self.charge(wasi, u64::from(self.wanted).saturating_add(start.saturating_sub(size)))
    }

    async fn before_files(&mut self, wasi: &mut Wasi, memory: &mut [u8]) -> Option<Errno> {
        if self.paths().into_iter().flatten().any(|(_, length)| length > LONGEST_PATH) {
            return Some(Errno::Nametoolong);
        }
        match self.function {
            Function::path_open => self.before_open(wasi),
            Function::path_create_directory | Function::path_symlink | Function::path_link => {
                self.charge(wasi, NEW_FILE)
            }
            Function::fd_filestat_set_size => self.before_set_size(wasi, memory).await,
            _ => None,
        }
    }

    fn before_open(&mut self, wasi: &mut Wasi) -> Option<Errno> {
        let room = wasi.descriptors.reserve();
        self.opens = room.is_ok();
        room.err()
    }

    /// A file that grows is written to, whatever with.
    async fn before_set_size(&mut self, wasi: &mut Wasi, memory: &mut [u8]) -> Option<Errno> {
        let mut memory = GuestMemory::Unshared(memory);
        let stat = wasi.ctx().ok()?.fd_filestat_get(&mut memory, Fd::from(self.arg(0))).await.ok()?;
        let wanted = self.wide_arg(1) as u64;
        self.charge(wasi, wanted.saturating_sub(stat.size))
    }

    pub(super) fn charge(&mut self, wasi: &mut Wasi, bytes: u64) -> Option<Errno> {
        if !wasi.descriptors.charge(bytes) {
            return Some(Errno::Dquot);
        }
        self.charged = bytes;
        None
    }

    /// Notes what a call that was carried out has changed, and what the grants of a directory refused.
    pub(super) fn after(&self, wasi: &mut Wasi, memory: &mut [u8], invocation: &Invocation, errno: i32) {
        let done = errno == Errno::Success as i32;
        match self.function {
            _ if !done => self.undo(wasi),
            Function::fd_filestat_get => wasi.clocks.hide_times(memory, self.arg(1)),
            Function::path_filestat_get => wasi.clocks.hide_times(memory, self.arg(4)),
            Function::path_open => wasi.descriptors.open(read_u32(memory, self.arg(8))),
            Function::fd_close => wasi.descriptors.close(self.arg(0)),
            Function::fd_renumber => wasi.descriptors.renumber(self.arg(0), self.arg(1)),
            Function::fd_write | Function::fd_pwrite if self.charged > 0 => {
                let out = self.arg(if self.function == Function::fd_write { 3 } else { 4 });
                wasi.descriptors.refund(self.wanted.saturating_sub(read_u32(memory, out)).into());
            }
            _ => {}
        }
        if self.function.kind() == Kind::Files && errno == Errno::Perm as i32 {
            self.deny(wasi, memory, invocation, Errno::Perm);
        }
    }

    fn writes_output(&self, wasi: &Wasi) -> bool {
        let to = || wasi.descriptors.get(self.arg(0));
        self.function == Function::fd_write && matches!(to(), Some(Descriptor::Stdout | Descriptor::Stderr))
    }

    pub(super) fn deny(&self, wasi: &Wasi, memory: &[u8], invocation: &Invocation, errno: Errno) {
        let stream = match wasi.descriptors.get(self.arg(0)) {
            Some(Descriptor::Stdin) => Some("stdin"),
            Some(Descriptor::Stdout) => Some("stdout"),
            Some(Descriptor::Stderr) => Some("stderr"),
            _ => None,
        };
        let (capability, detail) = match (self.function.kind(), stream) {
            (Kind::Io, Some(stream)) => ("stdio", Some(stream.to_owned())),
            (kind, _) => (kind.capability(), self.shown_path(memory)),
        };
        invocation.deny(Denial {
            capability,
            operation: self.function.name(),
            detail,
            errno: name_of(errno),
            count: 1,
        });
    }

    /// Where the function's paths are in memory.
    fn paths(&self) -> [Option<(u32, u32)>; 2] {
        let path = |index| Some((self.arg(index), self.arg(index + 1)));
        match self.function {
            Function::path_create_directory
            | Function::path_readlink
            | Function::path_remove_directory
            | Function::path_unlink_file => [path(1), None],
            Function::path_filestat_get | Function::path_filestat_set_times | Function::path_open => [path(2), None],
            Function::path_link => [path(2), path(5)],
            Function::path_rename => [path(1), path(4)],
            // What a link points to is only a text.
            Function::path_symlink => [path(3), path(0)],
            _ => [None, None],
        }
    }

    fn shown_path(&self, memory: &[u8]) -> Option<String> {
        const SHOWN: usize = 200;
        let (offset, length) = self.paths()[0]?;
        let bytes = memory.get(offset as usize..)?.get(..length as usize)?;
        Some(String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned())
    }
}

pub(super) fn read_u32(memory: &[u8], offset: u32) -> u32 {
    let bytes = memory.get(offset as usize..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// How long the first piece of a gathered write is that is not empty: no more is written in one call.
fn first_length(memory: &[u8], pieces: u32, count: u32) -> u32 {
    const PIECE: u32 = 8;
    let lengths = (0..count).map_while(|index| {
        let piece = pieces.checked_add(index.checked_mul(PIECE)?)?;
        memory.get(piece as usize + 4..piece as usize + 8).map(|_| read_u32(memory, piece + 4))
    });
    lengths.into_iter().find(|length| *length > 0).unwrap_or(0)
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

/// An errno's name in the interface, of those that are refusals.
pub(super) fn name_of(errno: Errno) -> &'static str {
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
