//! The functions on files that may keep a thread for longer than a slice: they are done apart from the guest.
//!
//! Opening is the one operation that can wait for ever: for the other end of a named pipe. That a name stands for a file when
//! it is looked at does not mean that it does when it is opened: two guests that share a directory can swap it in between.

use super::call::{Call, PathOpen, read_u32};
use super::entry::{HOSTCALL_FUEL, enter, explain, memory, no_wasi, range, trap};
use super::null;
use crate::error::Error;
use crate::store::StoreData;
use crate::system::{Buffer, NEW_FILE, NUMBER};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use wasmtime::Caller;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::types::{Errno, Fd, Filetype, Lookupflags};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1};
use wiggle::{GuestMemory, GuestPtr};

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
    let Opened { errno, made } = opened?;
    if !made {
        call.refund(system);
    }
    if errno == Errno::Success as i32 {
        bytes[out].copy_from_slice(&result(&path).to_le_bytes());
    }
    call.after(system, bytes, &invocation, errno);
    if errno == Errno::Dquot as i32 {
        call.deny(system, bytes, &invocation, Errno::Dquot);
    }
    Ok(errno)
}

/// What is to be opened.
struct Opening {
    args: PathOpen,
    may_create: bool,
}

struct Opened {
    errno: i32,
    /// It was not there before.
    made: bool,
}

impl Opening {
    /// Only regular files and directories are opened, whatever the name stands for by then.
    fn open(&self, ctx: &mut WasiP1Ctx, path: &mut Buffer) -> wasmtime::Result<Opened> {
        let PathOpen { fd, dirflags, length, oflags, base, inheriting, fdflags } = self.args;
        let refused = |errno: Errno| Ok(Opened { errno: errno as i32, made: false });
        let (there, number) = (self.look(ctx, path)?, path.number as i32);
        match there {
            Some(filetype) if !is_plain(filetype) => return refused(Errno::Perm),
            None if oflags as u32 & CREATE != 0 && !self.may_create => return refused(Errno::Dquot),
            _ => {}
        }
        let memory = &mut GuestMemory::Unshared(&mut path.bytes);
        let opened =
            preview1::path_open(ctx, memory, fd, dirflags, 0, length, oflags, base, inheriting, fdflags, number);
        let errno = now(opened)?.or_else(explain)?;
        if errno != Errno::Success as i32 {
            return Ok(Opened { errno, made: false });
        }
        let opened = Fd::from(result(path));
        let memory = &mut GuestMemory::Unshared(&mut path.bytes);
        let is_open = now(ctx.fd_filestat_get(memory, opened))?.is_ok_and(|stat| is_plain(stat.filetype));
        if !is_open {
            let _ = now(ctx.fd_close(memory, opened))?;
            return refused(Errno::Perm);
        }
        Ok(Opened { errno, made: there.is_none() })
    }

    /// What the path stands for, `None` for nothing: whatever is wrong with it, opening it will say so.
    fn look(&self, ctx: &mut WasiP1Ctx, path: &mut Buffer) -> Result<Option<Filetype>, Error> {
        ctx.set_hostcall_fuel(HOSTCALL_FUEL);
        let memory = &mut GuestMemory::Unshared(&mut path.bytes);
        let flags = Lookupflags::from_bits_truncate(self.args.dirflags as u32);
        let name = GuestPtr::<str>::new((0, self.args.length as u32));
        let stat = now(ctx.path_filestat_get(memory, Fd::from(self.args.fd as u32), flags, name))?;
        Ok(stat.ok().map(|stat| stat.filetype))
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
    let listing = Buffer::new(length as usize, system.descriptors.ceilings()).map_err(Error::from)?;
    let (fd, cookie) = (call.arg(0) as i32, call.wide_arg(3));
    let listed = system.apart(listing, move |ctx, listing| {
        let number = listing.number as i32;
        let memory = &mut GuestMemory::Unshared(&mut listing.bytes);
        now(preview1::fd_readdir(ctx, memory, fd, 0, length as i32, cookie, number))?.or_else(explain)
    });
    let (listing, errno) = listed.await?;
    let errno = errno?;
    if errno == Errno::Success as i32 {
        let used = result(&listing).min(length) as usize;
        bytes[buffer as usize..][..used].copy_from_slice(&listing.bytes[..used]);
        bytes[out].copy_from_slice(&result(&listing).to_le_bytes());
    }
    call.after(system, bytes, &invocation, errno);
    Ok(errno)
}

/// What never waits, since it may block the thread.
fn now<T>(work: impl Future<Output = T>) -> Result<T, Error> {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Ok(done),
        Poll::Pending => Err(Error::Internal("file work has to wait".into())),
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
