//! The functions on files that may keep a thread for longer than a slice: they are done apart from the guest.
//!
//! Opening is the one operation that can wait for ever: for the other end of a named pipe. That a name stands for a file when
//! it is looked at does not mean that it does when it is opened: two guests that share a directory can swap it in between.

use super::call::{Call, PathOpen, read_u32};
use super::entry::{HOSTCALL_FUEL, enter, explain, memory, no_wasi, range, trap};
use super::null;
use super::posix::filestat;
use crate::error::Error;
use crate::store::StoreData;
use crate::system::{Buffer, Descriptor, Listing, NEW_FILE, NUMBER, System, Unlisted, inode, now};
use rustix::fs::fstat;
use std::fs::File;
use std::sync::Arc;
use wasmtime::Caller;
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::Descriptor as Held;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::types::{Errno, Fd, Filetype};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1};
use wiggle::GuestMemory;

/// Bytes that are copied in one go.
const PART: usize = 256 << 10;

/// `path_open`'s flag that a file is to be made.
const CREATE: u32 = 1;

/// The number that was written behind a buffer's bytes.
fn result(buffer: &Buffer) -> u32 {
    read_u32(&buffer.bytes, buffer.number)
}

pub(super) async fn path_open(caller: &mut Caller<'_, StoreData>, call: &mut Call<'_>) -> wasmtime::Result<i32> {
    enter(caller, call).await?;
    let memory = memory(caller)?;
    let (bytes, data) = memory.data_and_store_mut(caller);
    let invocation = Arc::clone(&data.invocation);
    let system = data.system.as_deref_mut().ok_or_else(no_wasi)?;
    range(bytes, call.arg(2), call.arg(3))?;
    let out = number_at(bytes, call.arg(8))?;
    if let Some(errno) = call.before(system, bytes, &invocation).await? {
        return Ok(errno as i32);
    }
    let name = range(bytes, call.arg(2), call.arg(3))?;
    let mut path = Buffer::new(name.len(), system.descriptors.ceilings()).map_err(Error::from)?;
    path.bytes[..name.len()].copy_from_slice(name);
    let may_create = call.arg(4) & CREATE != 0 && call.charge(system, NEW_FILE).is_none();
    let args = call.path_open_args();
    let args = if call.names_null(system, bytes) { null::to_read(args) } else { args };
    let opening = Opening { args, may_create };
    let (path, opened) = system.apart(path, move |ctx, path| opening.open(ctx, path)).await?;
    let (errno, made) = match opened? {
        Opened::Refused(errno) => {
            call.refused(system, bytes, &invocation, errno);
            return Ok(errno as i32);
        }
        Opened::Answered { errno, made } => (errno, made),
    };
    if !made {
        call.refund(system);
    }
    if errno == Errno::Success as i32 {
        bytes[out].copy_from_slice(&result(&path).to_le_bytes());
    }
    call.after(system, bytes, &invocation, errno).await;
    Ok(errno)
}

/// What is to be opened.
struct Opening {
    args: PathOpen,
    may_create: bool,
}

enum Opened {
    /// By the bounds.
    Refused(Errno),
    Answered {
        errno: i32,
        /// It was not there before.
        made: bool,
    },
}

impl Opening {
    /// Only regular files and directories are opened, whatever the name stands for by then.
    fn open(&self, ctx: &mut WasiP1Ctx, path: &mut Buffer) -> wasmtime::Result<Opened> {
        let PathOpen { fd, dirflags, length, oflags, base, inheriting, fdflags } = self.args;
        let (there, number) = (self.look(ctx, path)?, path.number as i32);
        match there {
            Some(filetype) if !is_plain(filetype) => return Ok(Opened::Refused(Errno::Perm)),
            None if oflags as u32 & CREATE != 0 && !self.may_create => return Ok(Opened::Refused(Errno::Dquot)),
            _ => {}
        }
        let memory = &mut GuestMemory::Unshared(&mut path.bytes);
        let opened =
            preview1::path_open(ctx, memory, fd, dirflags, 0, length, oflags, base, inheriting, fdflags, number);
        let errno = now(opened)?.or_else(explain)?;
        if errno != Errno::Success as i32 {
            return Ok(Opened::Answered { errno, made: false });
        }
        let opened = Fd::from(result(path));
        let memory = &mut GuestMemory::Unshared(&mut path.bytes);
        let is_open = now(ctx.fd_filestat_get(memory, opened))?.is_ok_and(|stat| is_plain(stat.filetype));
        if !is_open {
            let _ = now(ctx.fd_close(memory, opened))?;
            return Ok(Opened::Refused(Errno::Perm));
        }
        Ok(Opened::Answered { errno, made: there.is_none() })
    }

    /// What the path stands for, `None` for nothing: whatever is wrong with it, opening it will say so.
    fn look(&self, ctx: &mut WasiP1Ctx, path: &mut Buffer) -> wasmtime::Result<Option<Filetype>> {
        ctx.set_hostcall_fuel(HOSTCALL_FUEL);
        let memory = &mut GuestMemory::Unshared(&mut path.bytes);
        let place = (self.args.fd as u32, (0, self.args.length as u32));
        let stat = now(filestat(ctx, memory, place, self.args.dirflags as u32))?;
        Ok(stat.ok().and_then(Result::ok).map(|stat| stat.filetype))
    }
}

fn is_plain(filetype: Filetype) -> bool {
    matches!(filetype, Filetype::RegularFile | Filetype::Directory | Filetype::SymbolicLink)
}

pub(super) async fn fd_readdir(caller: &mut Caller<'_, StoreData>, call: &mut Call<'_>) -> wasmtime::Result<i32> {
    enter(caller, call).await?;
    let memory = memory(caller)?;
    let (bytes, data) = memory.data_and_store_mut(caller);
    let invocation = Arc::clone(&data.invocation);
    let system = data.system.as_deref_mut().ok_or_else(no_wasi)?;
    let (buffer, length) = (call.arg(1), call.arg(2));
    range(bytes, buffer, length)?;
    let out = number_at(bytes, call.arg(4))?;
    if let Some(errno) = call.before(system, bytes, &invocation).await? {
        return Ok(errno as i32);
    }
    let (fd, cookie) = (call.arg(0), call.wide_arg(3) as u64);
    let is_new = cookie == 0 || system.descriptors.listing(fd).is_none();
    if is_new && let Some(errno) = list(system, fd).await? {
        call.after(system, bytes, &invocation, errno as i32).await;
        return Ok(errno as i32);
    }
    let given = system.descriptors.listing(fd).map_or(&[][..], |listing| listing.from(cookie));
    let given = &given[..given.len().min(length as usize)];
    for (from, to) in given.chunks(PART).zip(bytes[buffer as usize..].chunks_mut(PART)) {
        invocation.breathe().await;
        to[..from.len()].copy_from_slice(from);
    }
    bytes[out].copy_from_slice(&(given.len() as u32).to_le_bytes());
    Ok(Errno::Success as i32)
}

/// Takes a directory's listing, or gives the errno for why there is none.
async fn list(system: &mut System, fd: u32) -> wasmtime::Result<Option<Errno>> {
    if !matches!(system.descriptors.get(fd), Some(Descriptor::Given | Descriptor::NullFolder | Descriptor::Opened)) {
        return Ok(Some(Errno::Badf));
    }
    system.descriptors.forget_listing(fd);
    let empty = system.descriptors.new_listing();
    let (listing, taken) = system.apart(empty, move |ctx, listing| take(ctx, listing, fd)).await?;
    match taken? {
        Ok(()) => {
            system.descriptors.keep_listing(fd, listing);
            Ok(None)
        }
        Err(Unlisted::TooLarge) => Ok(Some(Errno::Nomem)),
        Err(Unlisted::Refused(errno)) => Ok(Some(named(errno))),
        Err(Unlisted::Full(error)) => Err(Error::from(error).into()),
    }
}

fn take(ctx: &mut WasiP1Ctx, listing: &mut Listing, fd: u32) -> wasmtime::Result<Result<(), Unlisted>> {
    match directory(ctx, fd)? {
        Some(directory) => Ok(listing.take(&*directory)),
        None => Ok(Err(Unlisted::Refused(rustix::io::Errno::BADF))),
    }
}

/// The directory that a descriptor is of: the one, of those that `wasmtime-wasi` holds, that has its inode.
fn directory(ctx: &mut WasiP1Ctx, fd: u32) -> wasmtime::Result<Option<Arc<File>>> {
    let stat = match now(ctx.fd_filestat_get(&mut GuestMemory::Unshared(&mut []), Fd::from(fd)))? {
        Ok(stat) => stat,
        Err(error) => return error.downcast().map(|_| None),
    };
    let held = ctx.ctx().table.iter_mut().filter_map(|entry| entry.downcast_ref::<Held>());
    let mut directories = held.filter_map(|held| match held {
        Held::Dir(directory) => Some(&directory.dir),
        Held::File(_) => None,
    });
    Ok(directories.find(|directory| fstat(directory).is_ok_and(|found| inode(&found) == stat.ino)).cloned())
}

/// What opening and reading a directory may end with.
fn named(errno: rustix::io::Errno) -> Errno {
    use rustix::io::Errno as System;
    match errno {
        System::ACCESS | System::PERM => Errno::Acces,
        System::BADF => Errno::Badf,
        System::MFILE => Errno::Mfile,
        System::NFILE => Errno::Nfile,
        System::NOENT => Errno::Noent,
        System::NOMEM => Errno::Nomem,
        _ => Errno::Io,
    }
}

/// Where a result is to be written.
fn number_at(memory: &[u8], offset: u32) -> Result<std::ops::Range<usize>, Error> {
    if !(offset as usize).is_multiple_of(NUMBER) {
        return Err(trap("a WASI function was given a bad pointer: not aligned"));
    }
    range(memory, offset, NUMBER as u32)?;
    Ok(offset as usize..offset as usize + NUMBER)
}
