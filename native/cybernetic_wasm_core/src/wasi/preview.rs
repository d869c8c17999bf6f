//! The previews of WASI that are served, and what they have otherwise.
//!
//! Preview 0 is what compilers made for before preview 1. It has the same functions of the same types, but for `sock_accept`.
//! `fd_seek` numbers the places to seek from otherwise, a filestat has a shorter count of links, and a subscription to a clock
//! a field more (`poll.rs`).

use super::call::Call;
use super::function::Function;
use super::posix::{self, filestat};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::types::{Errno, Fd, Filestat, Whence};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1};
use wiggle::{GuestError, GuestMemory, GuestPtr};

/// A version of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preview {
    Zero,
    One,
}

impl Preview {
    pub(super) const ALL: [Self; 2] = [Self::Zero, Self::One];

    /// The module that guests import it from.
    pub(crate) fn module(self) -> &'static str {
        match self {
            Self::Zero => "wasi_unstable",
            Self::One => "wasi_snapshot_preview1",
        }
    }

    /// The one that has this module's name.
    pub(crate) fn named(module: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preview| preview.module() == module)
    }

    /// Why a function that it does not have is not linked.
    pub(crate) fn no_such_function(self) -> &'static str {
        match self {
            Self::Zero => "WASI preview 0 has no such function",
            Self::One => "WASI preview 1 has no such function",
        }
    }

    pub(super) fn has(self, function: Function) -> bool {
        self == Self::One || function != Function::sock_accept
    }

    /// Where the times are in a filestat.
    pub(super) fn times_at(self) -> u32 {
        match self {
            Self::Zero => 32,
            Self::One => 40,
        }
    }

    fn whence(self, given: u32) -> u32 {
        match (self, given) {
            (Self::Zero, 0) => Whence::Cur as u32,
            (Self::Zero, 1) => Whence::End as u32,
            (Self::Zero, 2) => Whence::Set as u32,
            (_, given) => given,
        }
    }
}

pub(super) async fn fd_seek(
    ctx: &mut WasiP1Ctx,
    memory: &mut GuestMemory<'_>,
    call: &Call<'_>,
) -> wasmtime::Result<i32> {
    let whence = call.preview().whence(call.arg(2));
    preview1::fd_seek(ctx, memory, call.number(0), call.wide_arg(1), whence as i32, call.number(3)).await
}

pub(super) async fn fd_filestat_get(
    ctx: &mut WasiP1Ctx,
    memory: &mut GuestMemory<'_>,
    call: &Call<'_>,
) -> wasmtime::Result<i32> {
    if call.preview() == Preview::One {
        return preview1::fd_filestat_get(ctx, memory, call.number(0), call.number(1)).await;
    }
    match ctx.fd_filestat_get(memory, Fd::from(call.arg(0))).await {
        Ok(stat) => Ok(write_old(memory, call.arg(1), &stat)?),
        Err(error) => Ok(error.downcast()? as i32),
    }
}

pub(super) async fn path_filestat_get(
    ctx: &mut WasiP1Ctx,
    memory: &mut GuestMemory<'_>,
    call: &Call<'_>,
) -> wasmtime::Result<i32> {
    if call.preview() == Preview::One {
        return posix::path_filestat_get(ctx, memory, call).await;
    }
    match filestat(ctx, memory, (call.arg(0), (call.arg(2), call.arg(3))), call.arg(1)).await? {
        Ok(stat) => Ok(write_old(memory, call.arg(4), &stat)?),
        Err(errno) => Ok(errno as i32),
    }
}

/// Writes a filestat as preview 0 has it.
fn write_old(memory: &mut GuestMemory<'_>, out: u32, stat: &Filestat) -> Result<i32, GuestError> {
    let place = GuestPtr::<u64>::new(out);
    for (at, field) in (0..).zip([stat.dev, stat.ino, 0, stat.size, stat.atim, stat.mtim, stat.ctim]) {
        memory.write(place.add(at)?, field)?;
    }
    let kind = place.add(2)?;
    memory.write(kind.cast::<u8>(), stat.filetype as u8)?;
    memory.write(kind.cast::<u32>().add(1)?, u32::try_from(stat.nlink).unwrap_or(u32::MAX))?;
    Ok(Errno::Success as i32)
}
