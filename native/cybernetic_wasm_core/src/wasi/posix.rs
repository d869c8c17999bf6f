//! Functions that answer otherwise in `wasmtime-wasi` than programs know it from POSIX systems: reads of nothing, and names that
//! end in a slash.
//!
//! A slash at the end says that a directory is meant. `wasmtime-wasi` then opens what is before it, and works on `.` there. That
//! is right but where a name is made or removed.

use super::call::{Call, MOST_PIECES, first_length};
use super::entry::{explain, write_number};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::types::{Errno, Fd, Filestat, Filetype, Lookupflags};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1};
use wiggle::{GuestMemory, GuestPtr};

type Answer = wasmtime::Result<i32>;

/// A path in the guest's memory, beneath a descriptor: where it begins, and how long it is.
pub(super) type Place = (u32, (u32, u32));

/// Reading nothing waits for nothing, and asks nobody for input.
pub(super) async fn fd_read(ctx: &mut WasiP1Ctx, memory: &mut GuestMemory<'_>, call: &Call<'_>) -> Answer {
    let out = call.arg(3);
    if wants_nothing(memory, call) && is_input(ctx, memory, call.arg(0)).await? {
        return write_number(memory, out, 0);
    }
    preview1::fd_read(ctx, memory, call.number(0), call.number(1), call.number(2), out as i32).await
}

/// Standard input is what can be read, but at no offset.
async fn is_input(ctx: &mut WasiP1Ctx, memory: &mut GuestMemory<'_>, fd: u32) -> wasmtime::Result<bool> {
    match ctx.fd_pread(memory, Fd::from(fd), GuestPtr::new((0, 0)), 0).await {
        Ok(_) => Ok(false),
        Err(error) => Ok(error.downcast()? == Errno::Spipe),
    }
}

pub(super) async fn fd_pread(ctx: &mut WasiP1Ctx, memory: &mut GuestMemory<'_>, call: &Call<'_>) -> Answer {
    let (pieces, count, out) = (call.number(1), call.number(2), call.arg(4));
    let errno = preview1::fd_pread(ctx, memory, call.number(0), pieces, count, call.wide_arg(3), out as i32).await?;
    match errno == Errno::Intr as i32 && wants_nothing(memory, call) {
        true => write_number(memory, out, 0),
        false => Ok(errno),
    }
}

fn wants_nothing(memory: &GuestMemory<'_>, call: &Call<'_>) -> bool {
    let GuestMemory::Unshared(bytes) = memory else { return false };
    call.arg(2) <= MOST_PIECES && first_length(bytes, call.arg(1), call.arg(2)) == 0
}

pub(super) async fn path_filestat_get(ctx: &mut WasiP1Ctx, memory: &mut GuestMemory<'_>, call: &Call<'_>) -> Answer {
    let (path, length, out) = (call.number(2), call.number(3), call.number(4));
    let flags = call.arg(1) | follow(memory, (call.arg(2), call.arg(3)));
    preview1::path_filestat_get(ctx, memory, call.number(0), flags as i32, path, length, out).await
}

/// The same as a value.
pub(super) async fn filestat(
    ctx: &mut WasiP1Ctx,
    memory: &mut GuestMemory<'_>,
    (fd, path): Place,
    flags: u32,
) -> wasmtime::Result<Result<Filestat, Errno>> {
    let Ok(flags) = Lookupflags::try_from(flags | follow(memory, path)) else { return Ok(Err(Errno::Inval)) };
    match ctx.path_filestat_get(memory, Fd::from(fd), flags, GuestPtr::new(path)).await {
        Ok(stat) => Ok(Ok(stat)),
        Err(error) => Ok(Err(error.downcast()?)),
    }
}

/// The flag by which a link at the end of a path is followed, where the path itself says so.
fn follow(memory: &GuestMemory<'_>, path: (u32, u32)) -> u32 {
    if text(memory, path).is_some_and(is_inside) { Lookupflags::SYMLINK_FOLLOW.bits() } else { 0 }
}

/// Whether a path says that a directory is meant.
pub(super) fn is_inside(path: &[u8]) -> bool {
    path.ends_with(b"/") || path.ends_with(b"/.")
}

/// A directory is removed by its name.
pub(super) async fn path_remove_directory(
    ctx: &mut WasiP1Ctx,
    memory: &mut GuestMemory<'_>,
    call: &Call<'_>,
) -> Answer {
    let length = named(memory, (call.arg(1), call.arg(2))).unwrap_or(call.arg(2));
    preview1::path_remove_directory(ctx, memory, call.number(0), call.number(1), length as i32).await
}

/// A link is no directory, whatever it leads to.
pub(super) async fn path_unlink_file(ctx: &mut WasiP1Ctx, memory: &mut GuestMemory<'_>, call: &Call<'_>) -> Answer {
    let unlinked = preview1::path_unlink_file(ctx, memory, call.number(0), call.number(1), call.number(2)).await;
    let errno = unlinked.or_else(explain)?;
    let there = match named(memory, (call.arg(1), call.arg(2))) {
        Some(length) if is_one_of(errno, &[Errno::Isdir, Errno::Noent]) => {
            filestat(ctx, memory, (call.arg(0), (call.arg(1), length)), 0).await?.ok()
        }
        _ => None,
    };
    let is_link = there.is_some_and(|stat| stat.filetype == Filetype::SymbolicLink);
    Ok(if is_link { Errno::Notdir as i32 } else { errno })
}

pub(super) async fn path_symlink(ctx: &mut WasiP1Ctx, memory: &mut GuestMemory<'_>, call: &Call<'_>) -> Answer {
    let (fd, path, length) = (call.number(2), call.number(3), call.number(4));
    let made = preview1::path_symlink(ctx, memory, call.number(0), call.number(1), fd, path, length).await;
    let errno = made.or_else(explain)?;
    match is_there(ctx, memory, (call.arg(2), (call.arg(3), call.arg(4))), errno).await? {
        true => Ok(Errno::Exist as i32),
        false => Ok(errno),
    }
}

pub(super) async fn path_link(ctx: &mut WasiP1Ctx, memory: &mut GuestMemory<'_>, call: &Call<'_>) -> Answer {
    let (fd, path, length) = (call.number(4), call.number(5), call.number(6));
    let (old_path, old_length) = (call.number(2), call.number(3));
    let made =
        preview1::path_link(ctx, memory, call.number(0), call.number(1), old_path, old_length, fd, path, length).await;
    let errno = made.or_else(explain)?;
    // What is to be linked is looked for first.
    if is_one_of(errno, &[Errno::Notdir, Errno::Noent])
        && let Err(missing) = filestat(ctx, memory, (call.arg(0), (call.arg(2), call.arg(3))), 0).await?
    {
        return Ok(missing as i32);
    }
    match is_there(ctx, memory, (call.arg(4), (call.arg(5), call.arg(6))), errno).await? {
        true => Ok(Errno::Exist as i32),
        false => Ok(errno),
    }
}

/// Whether the name before a slash is that of something, where a name was to be made: that it is there comes before what the
/// slash says of it.
async fn is_there(
    ctx: &mut WasiP1Ctx,
    memory: &mut GuestMemory<'_>,
    (fd, (path, length)): Place,
    errno: i32,
) -> wasmtime::Result<bool> {
    match named(memory, (path, length)) {
        Some(length) if is_one_of(errno, &[Errno::Notdir, Errno::Noent]) => {
            Ok(filestat(ctx, memory, (fd, (path, length)), 0).await?.is_ok())
        }
        _ => Ok(false),
    }
}

fn is_one_of(errno: i32, ones: &[Errno]) -> bool {
    ones.iter().any(|one| *one as i32 == errno)
}

/// How long a path is without the slashes behind its last name; `None` where there are none.
fn named(memory: &GuestMemory<'_>, path: (u32, u32)) -> Option<u32> {
    name(text(memory, path)?).map(|length| length as u32)
}

/// The same of a path.
pub(super) fn name(path: &[u8]) -> Option<usize> {
    let length = path.iter().rposition(|byte| *byte != b'/')? + 1;
    (length < path.len()).then_some(length)
}

fn text<'a>(memory: &'a GuestMemory<'_>, path: (u32, u32)) -> Option<&'a [u8]> {
    memory.as_slice(GuestPtr::new(path)).ok().flatten()
}
