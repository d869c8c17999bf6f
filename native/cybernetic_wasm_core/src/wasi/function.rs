//! The functions of WASI: the one table of them, and what each is granted with.

use super::preview::Preview;
use wasmtime::{FuncType, ValType};

/// The table, handed to the macro that is named. For each function there is how it is done, its kind, and its parameters.
/// All of them return an errno, but for `proc_exit`, which does not return. How:
///
/// - `sync`, `wait`: by `wasmtime-wasi`, at once or asynchronously
/// - `posix`: by `wasmtime-wasi`, with the answers of a POSIX system where it has others (`posix.rs`)
/// - `versioned`: in the way of the preview that the guest was made for (`preview.rs`)
/// - `apart`: on another thread (`apart.rs`)
/// - `own`: by a function of ours (`own.rs`, `poll.rs`)
macro_rules! table {
    ($macro:ident) => {
        $macro! {
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
            versioned Base fd_filestat_get(fd: i32, out: i32);
            wait Files fd_filestat_set_size(fd: i32, size: i64);
            wait Files fd_filestat_set_times(fd: i32, atim: i64, mtim: i64, flags: i32);
            posix Files fd_pread(fd: i32, iovs: i32, count: i32, offset: i64, out: i32);
            sync Files fd_prestat_get(fd: i32, out: i32);
            sync Files fd_prestat_dir_name(fd: i32, path: i32, len: i32);
            wait Files fd_pwrite(fd: i32, iovs: i32, count: i32, offset: i64, out: i32);
            posix Io fd_read(fd: i32, iovs: i32, count: i32, out: i32);
            apart Files fd_readdir(fd: i32, buf: i32, len: i32, cookie: i64, out: i32);
            wait Base fd_renumber(from: i32, to: i32);
            versioned Base fd_seek(fd: i32, offset: i64, whence: i32, out: i32);
            wait Files fd_sync(fd: i32);
            sync Base fd_tell(fd: i32, out: i32);
            wait Io fd_write(fd: i32, iovs: i32, count: i32, out: i32);
            wait Files path_create_directory(fd: i32, path: i32, len: i32);
            versioned Files path_filestat_get(fd: i32, flags: i32, path: i32, len: i32, out: i32);
            wait Files path_filestat_set_times(fd: i32, flags: i32, path: i32, len: i32, atim: i64, mtim: i64, how: i32);
            posix Files path_link(fd: i32, flags: i32, path: i32, len: i32, new_fd: i32, new_path: i32, new_len: i32);
            apart Files path_open(fd: i32, dirflags: i32, path: i32, len: i32, oflags: i32, base: i64, inheriting: i64, fdflags: i32, out: i32);
            wait Files path_readlink(fd: i32, path: i32, len: i32, buf: i32, buf_len: i32, out: i32);
            posix Files path_remove_directory(fd: i32, path: i32, len: i32);
            wait Files path_rename(fd: i32, path: i32, len: i32, new_fd: i32, new_path: i32, new_len: i32);
            posix Files path_symlink(path: i32, len: i32, fd: i32, new_path: i32, new_len: i32);
            posix Files path_unlink_file(fd: i32, path: i32, len: i32);
            own Clocks poll_oneoff(subscriptions: i32, events: i32, count: i32, out: i32);
            own Base proc_exit(code: i32);
            sync Base proc_raise(signal: i32);
            own Random random_get(buf: i32, len: i32);
            own Base sched_yield();
            sync Network sock_accept(fd: i32, flags: i32, out: i32);
            sync Network sock_recv(fd: i32, iovs: i32, count: i32, flags: i32, out: i32, out_flags: i32);
            sync Network sock_send(fd: i32, iovs: i32, count: i32, flags: i32, out: i32);
            sync Network sock_shutdown(fd: i32, how: i32);
        }
    };
}

pub(super) use table;

/// What a function is granted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Part of the interface itself.
    Base,
    Env,
    Clocks,
    Random,
    /// Reads or writes a descriptor: a file or a standard stream.
    Io,
    Files,
    /// Of sockets, of which there are none: every descriptor is something else.
    Network,
}

impl Kind {
    /// The capabilities of which one is enough.
    fn capabilities(self) -> &'static [&'static str] {
        match self {
            Kind::Base => &["wasi"],
            Kind::Env => &["env"],
            Kind::Clocks => &["clocks"],
            Kind::Random => &["random"],
            Kind::Io => &["stdio", "filesystem"],
            Kind::Files => &["filesystem"],
            Kind::Network => &["network"],
        }
    }

    /// What a refusal is put down to, where no stream is concerned.
    pub(super) fn capability(self) -> &'static str {
        match self {
            Kind::Base => "wasi",
            Kind::Env => "env",
            Kind::Clocks => "clocks",
            Kind::Random => "random",
            Kind::Io | Kind::Files => "filesystem",
            Kind::Network => "network",
        }
    }
}

macro_rules! define {
    ($($how:ident $kind:ident $name:ident($($arg:ident: $ty:ident),*);)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[expect(non_camel_case_types, reason = "the interface's own names")]
        pub(super) enum Function { $($name,)* }

        impl Function {
            const ALL: &[Function] = &[$(Function::$name,)*];

            pub(super) fn name(self) -> &'static str {
                match self { $(Function::$name => stringify!($name),)* }
            }

            pub(super) fn kind(self) -> Kind {
                match self { $(Function::$name => Kind::$kind,)* }
            }

            fn named(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Function::$name),)*
                    _ => None,
                }
            }

            fn params(self) -> Vec<ValType> {
                match self { $(Function::$name => vec![$(define!(@$ty)),*],)* }
            }
        }
    };
    (@i32) => { ValType::I32 };
    (@i64) => { ValType::I64 };
}

table!(define);

impl Function {
    /// Whether it may have to ask the operating system about a file.
    pub(super) fn may_block(self) -> bool {
        use Function::{
            fd_close, fd_fdstat_get, fd_filestat_get, fd_prestat_dir_name, fd_prestat_get, fd_renumber, fd_seek,
        };
        match self {
            fd_close | fd_fdstat_get | fd_filestat_get | fd_renumber | fd_seek => true,
            fd_prestat_get | fd_prestat_dir_name => false,
            _ => matches!(self.kind(), Kind::Io | Kind::Files),
        }
    }

    /// Whether it reads or writes in several pieces, whose number is its third argument.
    pub(super) fn is_vectored(self) -> bool {
        use Function::{fd_pread, fd_pwrite, fd_read, fd_write};
        matches!(self, fd_read | fd_write | fd_pread | fd_pwrite)
    }
}

/// Each function's name, and the capabilities of which one is enough to be granted it.
pub fn functions() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    Function::ALL.iter().map(|function| (function.name(), function.kind().capabilities()))
}

/// The type of a preview's function `name`.
pub(crate) fn signature_of(engine: &wasmtime::Engine, preview: Preview, name: &str) -> Option<FuncType> {
    let function = Function::named(name).filter(|function| preview.has(*function))?;
    let errno = (function != Function::proc_exit).then_some(ValType::I32);
    Some(FuncType::new(engine, function.params(), errno))
}
