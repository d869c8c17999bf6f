//! A folder of the user's own: nobody else can write to it, nor put another in its place, so what is in it was put there by
//! the user's own processes.

use crate::folder;
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW, flock, fstat, fsync,
    futimens, linkat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// Nobody is to wait for the other end of a pipe.
const FILE: OFlags = OFlags::NONBLOCK.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The folder, by its descriptor: a path could lead elsewhere by now.
pub(super) struct Folder(OwnedFd);

/// A file of the folder.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) bytes: u64,
    /// When it was last used, in nanoseconds.
    pub(super) used: i128,
}

impl Folder {
    /// Opens the folder, or makes it, and what leads to it; or says why it cannot be used.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        folder::open(path, true).map(Self).map_err(|not| not.to_string())
    }

    /// A file of the user's own, for reading; `None` where there is none of this name.
    pub(super) fn file(&self, name: &str) -> io::Result<Option<File>> {
        let file = match openat(&self.0, name, FILE, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(io::Error::other("it is a symbolic link")),
            Err(errno) => return Err(errno.into()),
        };
        let stat = fstat(&file)?;
        match own(&stat) {
            _ if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                Err(io::Error::other("it is not a file"))
            }
            Err(why) => Err(io::Error::other(format!("it {why}"))),
            Ok(()) => Ok(Some(file.into())),
        }
    }

    /// A new file that has no name to be found by yet.
    pub(super) fn draft(&self) -> io::Result<Draft<'_>> {
        loop {
            let name = format!("{DRAFT}{:032x}", rand::random::<u128>());
            let file = openat(&self.0, &name, NEW_FILE, Mode::RUSR | Mode::WUSR)?;
            let draft = Draft { folder: self, name, file: file.into() };
            // The lock shows that somebody is at it.
            match flock(&draft.file, FlockOperation::NonBlockingLockExclusive) {
                // Somebody who makes room has found it before that, and removes it.
                Err(Errno::WOULDBLOCK) => {}
                // Or has done so already. Where there are no such locks nobody does.
                _ if fstat(&draft.file)?.st_nlink == 0 => {}
                _ => return Ok(draft),
            }
        }
    }

    /// All that are files, but drafts.
    pub(super) fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for name in self.names()? {
            match statat(&self.0, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                    let used = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
                    let bytes = stat.st_size.max(0) as u64;
                    entries.push(Entry { name, bytes, used });
                }
                // Somebody else has removed it meanwhile.
                Err(Errno::NOENT) | Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(entries)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let names = Dir::read_from(&self.0)?.map(|entry| Ok(entry?.file_name().to_str().ok().map(str::to_owned)));
        names.filter_map(Result::transpose).collect()
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes what a process that has ended was writing.
    pub(super) fn remove_drafts(&self) -> io::Result<()> {
        for name in self.names()?.into_iter().filter(|name| is_draft(name)) {
            let Ok(file) = openat(&self.0, &name, FILE, Mode::empty()) else { continue };
            // Held until it is removed: who makes a draft looks whether it is still there once it is locked.
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                self.remove(&name)?;
            }
        }
        Ok(())
    }
}

/// A hidden file, which is nothing to anybody.
const DRAFT: char = '.';

fn is_draft(name: &str) -> bool {
    name.strip_prefix(DRAFT).is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A file that is being written. It is gone with this, unless it was placed.
pub(super) struct Draft<'a> {
    folder: &'a Folder,
    name: String,
    pub(super) file: File,
}

impl Draft<'_> {
    /// Makes it the file of this name, in the place of one that is there.
    pub(super) fn place(self, name: &str) -> io::Result<()> {
        self.file.sync_all()?;
        renameat(&self.folder.0, &self.name, &self.folder.0, name)?;
        Ok(fsync(&self.folder.0)?)
    }

    /// The same where there is no file of this name; one that is there stays.
    pub(super) fn place_first(self, name: &str) -> io::Result<()> {
        self.file.sync_all()?;
        match linkat(&self.folder.0, &self.name, &self.folder.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::EXIST) => Ok(fsync(&self.folder.0)?),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        let _ = self.folder.remove(&self.name);
    }
}

/// Uses within so long count as one: each is written to the disk.
const SAME_USE: Duration = Duration::from_secs(60);

/// Notes that a file was used.
pub(super) fn touch(file: &File) {
    let used = file.metadata().and_then(|facts| facts.modified());
    if used.is_ok_and(|used| used.elapsed().is_ok_and(|ago| ago < SAME_USE)) {
        return;
    }
    let now = || Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    // On a disk that is only read nothing needs to be removed either.
    let _ = futimens(file, &Timestamps { last_access: now(), last_modification: now() });
}

/// Whether it is the user's own; or what it is else.
fn own(stat: &Stat) -> Result<(), String> {
    match stat.st_uid == geteuid().as_raw() {
        false => Err(format!("belongs to another user ({})", stat.st_uid)),
        true if others_write(stat) => Err("can be written to by others".to_owned()),
        true => Ok(()),
    }
}

fn others_write(stat: &Stat) -> bool {
    Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH)
}
