//! The null device: reading finds its end at once, and what is written is gone.
//!
//! Its descriptor is one of `wasmtime-wasi`'s, of an empty file that is open to read. All that the guest may notice of that is
//! answered or corrected here.

use super::call::{Call, PathOpen, read_u32};
use super::entry::{range, trap};
use super::function::Function;
use crate::error::Error;
use crate::system::{Descriptor, NULL, System};
use wasmtime_wasi::p1::types::{Errno, Filetype, Oflags, Rights};

/// Where a filestat, and an fdstat, have the file's type and the descriptor's rights.
const FILESTAT_TYPE: usize = 16;
const FDSTAT_TYPE: usize = 0;
const FDSTAT_RIGHTS: usize = 8;

impl Call<'_> {
    /// Answers reading and writing a null device.
    pub(super) fn answer_null(&self, system: &System, memory: &mut [u8]) -> Result<Option<Errno>, Error> {
        let is_null = || system.descriptors.get(self.arg(0)) == Some(Descriptor::Null);
        if !self.function().is_vectored() || self.has_too_many_pieces() || !is_null() {
            return Ok(None);
        }
        use Function::{fd_pwrite, fd_write};
        let length = match self.function() {
            fd_write | fd_pwrite => total(memory, self.arg(1), self.arg(2))?,
            _ => 0,
        };
        let out = memory.get_mut(self.result_at() as usize..).and_then(|rest| rest.first_chunk_mut());
        *out.ok_or_else(|| trap("a WASI function was given a bad pointer: out of bounds"))? = length.to_le_bytes();
        Ok(Some(Errno::Success))
    }

    /// Whether it is about a null device, by its path.
    pub(super) fn names_null(&self, system: &System, memory: &[u8]) -> bool {
        system.descriptors.get(self.arg(0)) == Some(Descriptor::NullFolder)
            && range(memory, self.arg(2), self.arg(3)).is_ok_and(|path| path == NULL.as_bytes())
    }

    /// Has what the guest is told of a null device say that it is one, and that it can be written to.
    pub(super) fn disguise_null(&self, system: &System, memory: &mut [u8]) {
        let is_null = || system.descriptors.get(self.arg(0)) == Some(Descriptor::Null);
        let place = match self.function() {
            Function::fd_filestat_get if is_null() => self.arg(1) as usize + FILESTAT_TYPE,
            Function::path_filestat_get if self.names_null(system, memory) => self.arg(4) as usize + FILESTAT_TYPE,
            Function::fd_fdstat_get if is_null() => self.arg(1) as usize + FDSTAT_TYPE,
            _ => return,
        };
        if let Some(filetype) = memory.get_mut(place) {
            *filetype = Filetype::CharacterDevice as u8;
        }
        if self.function() == Function::fd_fdstat_get
            && let Some(rights) =
                memory.get_mut(self.arg(1) as usize + FDSTAT_RIGHTS..).and_then(|at| at.first_chunk_mut())
        {
            *rights = (u64::from_le_bytes(*rights) | Rights::FD_WRITE.bits()).to_le_bytes();
        }
    }
}

/// How a null device is opened, whatever for.
pub(super) fn to_read(args: PathOpen) -> PathOpen {
    let oflags = args.oflags & i32::from(Oflags::DIRECTORY.bits());
    PathOpen { oflags, base: Rights::FD_READ.bits() as i64, fdflags: 0, ..args }
}

/// How much a gathered write is to write.
fn total(memory: &[u8], pieces: u32, count: u32) -> Result<u32, Error> {
    const PIECE: usize = 8;
    let pieces = range(memory, pieces, count.saturating_mul(PIECE as u32))?;
    let lengths = pieces.chunks_exact(PIECE).map(|piece| read_u32(piece, PIECE as u32 / 2));
    Ok(lengths.fold(0, u32::saturating_add))
}
