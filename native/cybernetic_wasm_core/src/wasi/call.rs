//! One call of a WASI function on descriptors or paths: what the grants and the bounds say of it before it is done, and what it
//! has changed when it was.

use super::entry::refuse;
use super::function::{Function, Kind};
use super::posix::Place;
use super::preview::Preview;
use crate::error::shown;
use crate::invocation::Invocation;
use crate::system::{Descriptor, Full, LONGEST_PATH, NEW_FILE, System, growth};
use wasmtime_wasi::p1::types::{Errno, Fd, Fdflags};
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wiggle::GuestMemory;

/// Pieces that one read or write may have, as POSIX systems have it: looking for the first that is not empty takes time.
pub(super) const MOST_PIECES: u32 = 1_024;

/// The descriptor that a path begins at, and where it is in memory.
type Path = (Option<u32>, (u32, u32));

/// The numbers that `path_open` takes, without its path and its result.
pub(super) struct PathOpen {
    pub(super) fd: i32,
    pub(super) dirflags: i32,
    pub(super) length: i32,
    pub(super) oflags: i32,
    pub(super) base: i64,
    pub(super) inheriting: i64,
    pub(super) fdflags: i32,
}

/// One call of a WASI function.
pub(super) struct Call<'a> {
    function: Function,
    preview: Preview,
    args: &'a [i64],
    /// What the quota was charged for it.
    charged: u64,
    /// How much it is to write, as it was before the guest's memory could change.
    wanted: u32,
    /// There is room for what it opens.
    opens: bool,
}

impl<'a> Call<'a> {
    pub(super) fn new(function: Function, preview: Preview, args: &'a [i64]) -> Self {
        Self { function, preview, args, charged: 0, wanted: 0, opens: false }
    }

    pub(super) fn function(&self) -> Function {
        self.function
    }

    pub(super) fn preview(&self) -> Preview {
        self.preview
    }

    pub(super) fn arg(&self, index: usize) -> u32 {
        self.args.get(index).copied().unwrap_or(0) as u32
    }

    /// As `wasmtime-wasi` takes it.
    pub(super) fn number(&self, index: usize) -> i32 {
        self.arg(index) as i32
    }

    pub(super) fn wide_arg(&self, index: usize) -> i64 {
        self.args.get(index).copied().unwrap_or(0)
    }

    pub(super) fn path_open_args(&self) -> PathOpen {
        PathOpen {
            fd: self.number(0),
            dirflags: self.number(1),
            length: self.number(3),
            oflags: self.number(4),
            base: self.wide_arg(5),
            inheriting: self.wide_arg(6),
            fdflags: self.number(7),
        }
    }

    pub(super) fn has_too_many_pieces(&self) -> bool {
        self.function.is_vectored() && self.arg(2) > MOST_PIECES
    }

    /// Where a read or write says how much it was.
    pub(super) fn result_at(&self) -> u32 {
        self.arg(if matches!(self.function, Function::fd_pread | Function::fd_pwrite) { 4 } else { 3 })
    }

    /// Takes back what the quota was charged.
    pub(super) fn refund(&mut self, system: &mut System) {
        system.descriptors.refund(std::mem::take(&mut self.charged));
    }

    /// Asks the grants and the bounds, and gives the errno of what they refuse.
    pub(super) async fn before(
        &mut self,
        system: &mut System,
        memory: &mut [u8],
        invocation: &Invocation,
    ) -> wasmtime::Result<Option<Errno>> {
        let errno = match self.function.kind() {
            _ if self.has_too_many_pieces() => Some(Errno::Inval),
            Kind::Clocks if system.clocks.is_none() => Some(Errno::Notcapable),
            Kind::Random if system.random.is_none() => Some(Errno::Notcapable),
            Kind::Io => self.before_io(system, memory).await,
            Kind::Files if self.function == Function::fd_pwrite => self.before_io(system, memory).await,
            Kind::Files => self.before_files(system, memory).await,
            _ => None,
        };
        if let Some(errno) = errno {
            self.undo(system);
            self.deny(system, memory, invocation, errno);
        }
        Ok(errno)
    }

    /// Takes back what was counted for a call that did not do it.
    fn undo(&self, system: &mut System) {
        system.descriptors.refund(self.charged);
        if self.opens {
            system.descriptors.release();
        }
    }

    async fn before_io(&mut self, system: &mut System, memory: &mut [u8]) -> Option<Errno> {
        let [stdin, stdout, stderr] = system.stdio;
        match system.descriptors.get(self.arg(0))? {
            Descriptor::Stdin if !stdin => Some(Errno::Badf),
            Descriptor::Stdout if !stdout => Some(Errno::Badf),
            Descriptor::Stderr if !stderr => Some(Errno::Badf),
            Descriptor::Opened => self.before_write(system, memory).await,
            _ => None,
        }
    }

    /// What a write adds to a file beyond its end counts.
    async fn before_write(&mut self, system: &mut System, memory: &mut [u8]) -> Option<Errno> {
        if self.function == Function::fd_read {
            return None;
        }
        self.wanted = first_length(memory, self.arg(1), self.arg(2));
        let file = Fd::from(self.arg(0));
        let mut memory = GuestMemory::Unshared(memory);
        let start = match self.function {
            Function::fd_pwrite => self.wide_arg(3) as u64,
            _ => system.ctx().ok()?.fd_tell(&mut memory, file).ok()?,
        };
        let size = system.ctx().ok()?.fd_filestat_get(&mut memory, file).await.ok()?.size;
        let appends = start > size && {
            let flags = system.ctx().ok()?.fd_fdstat_get(&mut memory, file).await.ok()?.fs_flags;
            flags.contains(Fdflags::APPEND)
        };
        let start = if appends { size } else { start };
        self.charge(system, growth(size, start, self.wanted.into()))
    }

    async fn before_files(&mut self, system: &mut System, memory: &mut [u8]) -> Option<Errno> {
        if self.paths().into_iter().flatten().any(|(_, (_, length))| length as usize > LONGEST_PATH) {
            return Some(Errno::Nametoolong);
        }
        match self.function {
            Function::path_open => self.before_open(system),
            Function::path_create_directory | Function::path_symlink | Function::path_link => {
                self.charge(system, NEW_FILE)
            }
            Function::fd_filestat_set_size => self.before_set_size(system, memory).await,
            _ => None,
        }
    }

    fn before_open(&mut self, system: &mut System) -> Option<Errno> {
        let room = system.descriptors.reserve();
        self.opens = room.is_ok();
        room.err().map(|full| match full {
            Full::Guest => Errno::Mfile,
            Full::Node => Errno::Nfile,
        })
    }

    /// A file that grows is written to, whatever with.
    async fn before_set_size(&mut self, system: &mut System, memory: &mut [u8]) -> Option<Errno> {
        let mut memory = GuestMemory::Unshared(memory);
        let stat = system.ctx().ok()?.fd_filestat_get(&mut memory, Fd::from(self.arg(0))).await.ok()?;
        let wanted = self.wide_arg(1) as u64;
        self.charge(system, wanted.saturating_sub(stat.size))
    }

    pub(super) fn charge(&mut self, system: &mut System, bytes: u64) -> Option<Errno> {
        if !system.descriptors.charge(bytes) {
            return Some(Errno::Dquot);
        }
        self.charged = bytes;
        None
    }

    /// Notes what a call that was carried out has changed, and what the grants of a directory refused.
    pub(super) async fn after(&self, system: &mut System, memory: &mut [u8], invocation: &Invocation, errno: i32) {
        if errno == Errno::Success as i32 {
            self.done(system, memory);
            return;
        }
        self.undo(system);
        if errno == Errno::Perm as i32 && self.is_denied(system, memory).await {
            self.deny(system, memory, invocation, Errno::Perm);
        }
    }

    fn done(&self, system: &mut System, memory: &mut [u8]) {
        let times = self.preview.times_at();
        match self.function {
            Function::fd_filestat_get => system.times.hide(memory, self.arg(1).saturating_add(times)),
            Function::path_filestat_get => system.times.hide(memory, self.arg(4).saturating_add(times)),
            Function::path_open => {
                let null = self.names_null(system, memory);
                let opened = if null { Descriptor::Null } else { Descriptor::Opened };
                system.descriptors.open(read_u32(memory, self.arg(8)), opened, self.arg(0));
            }
            Function::fd_close => system.descriptors.close(self.arg(0)),
            Function::fd_renumber => system.descriptors.renumber(self.arg(0), self.arg(1)),
            Function::fd_write | Function::fd_pwrite if self.charged > 0 => {
                system.descriptors.refund(self.wanted.saturating_sub(read_u32(memory, self.result_at())).into());
            }
            _ => {}
        }
        self.disguise_null(system, memory);
    }

    /// What is refused here, not by `wasmtime-wasi`, to a call that was let through.
    pub(super) fn refused(&self, system: &mut System, memory: &[u8], invocation: &Invocation, errno: Errno) {
        self.undo(system);
        self.deny(system, memory, invocation, errno);
    }

    pub(super) fn writes_output(&self, system: &System) -> bool {
        let to = || system.descriptors.get(self.arg(0));
        self.function == Function::fd_write && matches!(to(), Some(Descriptor::Stdout | Descriptor::Stderr))
    }

    /// Refuses the call, and says what it was about.
    pub(super) fn deny(&self, system: &System, memory: &[u8], invocation: &Invocation, errno: Errno) {
        let stream = match system.descriptors.get(self.arg(0)) {
            Some(Descriptor::Stdin) => Some("stdin"),
            Some(Descriptor::Stdout) => Some("stdout"),
            Some(Descriptor::Stderr) => Some("stderr"),
            _ => None,
        };
        let about = match (self.function.kind(), stream) {
            (Kind::Io | Kind::Files, Some(stream)) if self.function.is_vectored() => ("stdio", Some(stream.to_owned())),
            (kind, _) => (kind.capability(), self.shown_path(memory)),
        };
        refuse(invocation, self.function, about, errno);
    }

    /// The function's paths in memory, the one that it is about first, each with the descriptor that it begins at. What a link
    /// points to is only a text, without one.
    fn paths(&self) -> [Option<Path>; 2] {
        let text = |index| (self.arg(index), self.arg(index + 1));
        let path = |fd, index| Some((Some(self.arg(fd)), text(index)));
        match self.function {
            Function::path_create_directory
            | Function::path_readlink
            | Function::path_remove_directory
            | Function::path_unlink_file => [path(0, 1), None],
            Function::path_filestat_get | Function::path_filestat_set_times | Function::path_open => [path(0, 2), None],
            Function::path_link => [path(0, 2), path(4, 5)],
            Function::path_rename => [path(0, 1), path(3, 4)],
            Function::path_symlink => [path(2, 3), Some((None, text(0)))],
            _ => [None, None],
        }
    }

    /// Its paths that lead to something.
    pub(super) fn places(&self) -> [Option<Place>; 2] {
        self.paths().map(|path| path.and_then(|(fd, text)| Some((fd?, text))))
    }

    fn shown_path(&self, memory: &[u8]) -> Option<String> {
        let (_, (offset, length)) = self.paths()[0]?;
        let bytes = memory.get(offset as usize..)?.get(..length as usize)?;
        Some(shown::bytes(bytes))
    }
}

pub(super) fn read_u32(memory: &[u8], offset: u32) -> u32 {
    let bytes = memory.get(offset as usize..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// How long the first piece of a gathered write is that is not empty: no more is written in one call.
pub(super) fn first_length(memory: &[u8], pieces: u32, count: u32) -> u32 {
    const PIECE: u32 = 8;
    let lengths = (0..count).map_while(|index| {
        let piece = pieces.checked_add(index.checked_mul(PIECE)?)?;
        memory.get(piece as usize + 4..piece as usize + 8).map(|_| read_u32(memory, piece + 4))
    });
    lengths.into_iter().find(|length| *length > 0).unwrap_or(0)
}
