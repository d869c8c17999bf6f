//! What is in a directory, as a guest lists it: taken at once, and handed out in pieces.
//!
//! A listing belongs to the descriptor that it was asked of, until that is closed or asked from the beginning again. Whoever
//! removes files while they list them meets every one of them once, and a directory costs one look at each name, however small
//! the pieces are.

use crate::error::LimitError;
use crate::limits::Ceilings;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::AsFd;
use std::sync::Arc;
use wasmtime_wasi::p1::types::Filetype;

/// Bytes of all listings that one guest may have at once: some hundred thousand names.
pub(crate) const MOST_LISTED: usize = 16 << 20;

/// What an entry takes before its name.
const HEAD: usize = 24;

/// Why there is no listing.
#[derive(Debug)]
pub(crate) enum Unlisted {
    /// It would be larger than the guest may have it.
    TooLarge,
    /// The operating system's word.
    Refused(Errno),
    /// There is no memory for it among that of the node's guests.
    Full(LimitError),
}

impl From<Errno> for Unlisted {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno)
    }
}

/// Entries, one after the other, as guests read them. Their room counts as memory of the node's guests.
pub(crate) struct Listing {
    entries: Vec<u8>,
    /// Where each begins.
    starts: Vec<u32>,
    /// The most bytes that it may take.
    most: usize,
    counted: u64,
    ceilings: Arc<Ceilings>,
}

impl Listing {
    /// One without any entry.
    pub(super) fn new(most: usize, ceilings: Arc<Ceilings>) -> Self {
        Self { entries: Vec::new(), starts: Vec::new(), most, counted: 0, ceilings }
    }

    /// Lists what is in a directory. Names that are no text are left out: a guest could not call them by these.
    pub(crate) fn take(&mut self, directory: impl AsFd) -> Result<(), Unlisted> {
        let own = inode(&fstat(&directory)?);
        for name in [".", ".."] {
            self.push(name, own, Filetype::Directory)?;
        }
        // As it is held it may not be for reading.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for entry in Dir::new(openat(&directory, ".", flags, Mode::empty())?)? {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().ok().filter(|name| ![".", ".."].contains(name)) else {
                continue;
            };
            match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => self.push(name, inode(&stat), filetype(FileType::from_raw_mode(stat.st_mode)))?,
                // It has gone meanwhile.
                Err(Errno::NOENT) => {}
                // It may be listed and not looked at.
                Err(_) => self.push(name, entry.ino(), filetype(entry.file_type()))?,
            }
        }
        self.fit();
        Ok(())
    }

    /// What there is from an entry on.
    pub(crate) fn from(&self, cookie: u64) -> &[u8] {
        let start = usize::try_from(cookie).ok().and_then(|cookie| self.starts.get(cookie));
        start.and_then(|start| self.entries.get(*start as usize..)).unwrap_or_default()
    }

    /// One entry: that after it, what it is, and its name; `None` at the end.
    pub(crate) fn entry(&self, cookie: u64) -> Option<(u64, u8, &str)> {
        let entry = self.from(cookie);
        let (next, rest) = entry.split_first_chunk::<8>()?;
        let (length, rest) = rest.get(8..)?.split_first_chunk::<4>()?;
        let name = rest.get(4..)?.get(..u32::from_le_bytes(*length) as usize)?;
        Some((u64::from_le_bytes(*next), rest[0], std::str::from_utf8(name).ok()?))
    }

    /// Bytes that it takes.
    pub(super) fn size(&self) -> usize {
        self.entries.len() + size_of_val(self.starts.as_slice())
    }

    fn push(&mut self, name: &str, inode: u64, filetype: Filetype) -> Result<(), Unlisted> {
        let size = HEAD + name.len();
        if self.size() + size + size_of::<u32>() > self.most {
            return Err(Unlisted::TooLarge);
        }
        self.make_room(size)?;
        self.starts.push(self.entries.len() as u32);
        let next = self.starts.len() as u64;
        self.entries.extend_from_slice(&next.to_le_bytes());
        self.entries.extend_from_slice(&inode.to_le_bytes());
        self.entries.extend_from_slice(&(name.len() as u32).to_le_bytes());
        self.entries.extend_from_slice(&[filetype as u8, 0, 0, 0]);
        self.entries.extend_from_slice(name.as_bytes());
        Ok(())
    }

    /// Counts what is to be allocated before it is.
    fn make_room(&mut self, size: usize) -> Result<(), Unlisted> {
        const FIRST: usize = 4 << 10;
        if self.entries.capacity() - self.entries.len() < size {
            let more = self.entries.capacity().max(FIRST).max(size);
            self.count(more)?;
            self.entries.reserve_exact(more + self.entries.capacity() - self.entries.len());
        }
        if self.starts.len() == self.starts.capacity() {
            let more = self.starts.capacity().max(FIRST / HEAD);
            self.count(more * size_of::<u32>())?;
            self.starts.reserve_exact(more);
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Unlisted> {
        self.ceilings.memory_counter().reserve(bytes as u64).map_err(Unlisted::Full)?;
        self.counted += bytes as u64;
        Ok(())
    }

    /// Gives back what was allocated beyond the last entry.
    fn fit(&mut self) {
        self.entries.shrink_to_fit();
        self.starts.shrink_to_fit();
        let unused = self.counted.saturating_sub(self.size() as u64);
        self.ceilings.memory_counter().release(unused);
        self.counted -= unused;
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.ceilings.memory_counter().release(self.counted);
    }
}

/// The number of a file as `wasmtime-wasi` has it in a filestat: an inode's number is one only on its device.
#[allow(clippy::unnecessary_cast, reason = "elsewhere they are narrower")]
pub(crate) fn inode(stat: &Stat) -> u64 {
    let mut hasher = DefaultHasher::new();
    (stat.st_dev as u64, stat.st_ino as u64).hash(&mut hasher);
    hasher.finish()
}

fn filetype(kind: FileType) -> Filetype {
    match kind {
        FileType::RegularFile => Filetype::RegularFile,
        FileType::Directory => Filetype::Directory,
        FileType::Symlink => Filetype::SymbolicLink,
        FileType::CharacterDevice => Filetype::CharacterDevice,
        FileType::BlockDevice => Filetype::BlockDevice,
        _ => Filetype::Unknown,
    }
}
