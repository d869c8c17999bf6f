//! Folders that hold what is believed later: whether they are ours, and who writes to them now.
//!
//! Whoever can write to a folder, or put another in its place, decides what is read there. So every folder on the way is one
//! that nobody but root and the user can change, from the root on, and none is a link.

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, fsync, mkdirat, openat, statat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, TryLockError, symlink_metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// On the way to it a folder need only be entered, not read.
#[cfg(target_os = "linux")]
const WAY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const WAY: OFlags = LISTED;

const LISTED: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder that cannot be relied on.
#[derive(Debug)]
pub struct NotOurs {
    /// Which one it is of those on the way.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: Why,
}

/// What is wrong with a folder.
#[derive(Debug)]
pub enum Why {
    /// The path is not absolute, or goes up again.
    NotPlain,
    /// There is none.
    Missing,
    /// It is a symbolic link.
    Link,
    /// It is something else.
    NotAFolder,
    /// It belongs to another user.
    Foreign,
    /// Others may write to it.
    Writable,
    /// The operating system's word.
    System(io::Error),
}

impl fmt::Display for Why {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotPlain => "the path is not absolute, or has .. in it",
            Self::Missing => "there is no such folder",
            Self::Link => "it is a symbolic link; give the path that it leads to",
            Self::NotAFolder => "it is no folder",
            Self::Foreign => "it belongs to another user",
            Self::Writable => "others may write to it",
            Self::System(error) => return error.fmt(formatter),
        })
    }
}

impl fmt::Display for NotOurs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.why)
    }
}

/// Holds if the folder belongs to the user, nobody else may write to it, and nobody but root and the user can put another in
/// its place. With `make`, folders that are missing are made, for the user alone, and last.
pub fn ours(path: &Path, make: bool) -> Result<(), NotOurs> {
    open(path, make).map(drop)
}

/// The same folder, open: whatever the path leads to by now, it is the one that was judged.
pub fn open(path: &Path, make: bool) -> Result<OwnedFd, NotOurs> {
    let mut parts = path.components();
    let is_plain =
        parts.next() == Some(Component::RootDir) && parts.clone().all(|part| matches!(part, Component::Normal(_)));
    if !is_plain {
        return Err(NotOurs { path: path.to_owned(), why: Why::NotPlain });
    }
    let mut way = Way::begin(make)?;
    for part in parts {
        way.enter(part.as_os_str())?;
    }
    way.end()
}

/// The way to a folder, one step at a time, each judged before the next.
struct Way {
    make: bool,
    reached: PathBuf,
    folder: OwnedFd,
}

impl Way {
    fn begin(make: bool) -> Result<Self, NotOurs> {
        let reached = PathBuf::from("/");
        match openat(CWD, "/", WAY, Mode::empty()) {
            Ok(folder) => Ok(Self { make, reached, folder }),
            Err(errno) => Err(NotOurs { path: reached, why: system(errno) }),
        }
    }

    fn enter(&mut self, name: &OsStr) -> Result<(), NotOurs> {
        self.judge(false)?;
        self.reached.push(name);
        self.folder = self.next(name).map_err(|why| self.because(why))?;
        Ok(())
    }

    fn end(self) -> Result<OwnedFd, NotOurs> {
        self.judge(true)?;
        self.listed().map_err(|errno| self.because(system(errno)))
    }

    fn judge(&self, last: bool) -> Result<(), NotOurs> {
        let stat = fstat(&self.folder).map_err(|errno| self.because(system(errno)))?;
        judge(&stat, last).map_err(|why| self.because(why))
    }

    fn because(&self, why: Why) -> NotOurs {
        NotOurs { path: self.reached.clone(), why }
    }

    fn next(&self, name: &OsStr) -> Result<OwnedFd, Why> {
        let enter = || openat(&self.folder, name, WAY, Mode::empty());
        let entered = match enter() {
            Err(Errno::NOENT) if self.make => self.add(name).and_then(|()| enter()),
            entered => entered,
        };
        entered.map_err(|errno| self.why_not(name, errno))
    }

    /// Two may do so at once.
    fn add(&self, name: &OsStr) -> Result<(), Errno> {
        match mkdirat(&self.folder, name, Mode::RWXU) {
            Err(errno) if errno != Errno::EXIST => Err(errno),
            _ => fsync(self.listed()?),
        }
    }

    fn listed(&self) -> Result<OwnedFd, Errno> {
        openat(&self.folder, ".", LISTED, Mode::empty())
    }

    fn why_not(&self, name: &OsStr, errno: Errno) -> Why {
        match statat(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(FileType::Symlink) => Why::Link,
            Ok(FileType::Directory) => system(errno),
            Ok(_) => Why::NotAFolder,
            Err(Errno::NOENT) => Why::Missing,
            Err(_) => system(errno),
        }
    }
}

fn system(errno: Errno) -> Why {
    Why::System(errno.into())
}

/// In a sticky folder, such as /tmp, nobody can rename or remove what is another's. Where a group has its user's number, it has
/// no other member: many systems give each user such a group, and let it write.
fn judge(folder: &Stat, last: bool) -> Result<(), Why> {
    let mode = Mode::from_raw_mode(folder.st_mode);
    let by_group = mode.contains(Mode::WGRP) && (last || folder.st_gid != folder.st_uid);
    let is_open = (by_group || mode.contains(Mode::WOTH)) && (last || !mode.contains(Mode::SVTX));
    let is_ours = folder.st_uid == rustix::process::geteuid().as_raw();
    match is_ours || (folder.st_uid == 0 && !last) {
        false => Err(Why::Foreign),
        true if is_open => Err(Why::Writable),
        true => Ok(()),
    }
}

/// That nobody else writes to a folder, in this process or another: a lock on a file in it. It ends with this value, or with
/// the process, however that does.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock at this path, unless somebody has it.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let lock = Self(File::from(openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?));
            match lock.0.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
                Ok(()) if lock.is_at(path)? => return Ok(Some(lock)),
                Ok(()) => {}
            }
        }
    }

    /// Somebody may have removed the file meanwhile, and a third one made and locked another.
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let ours = self.0.metadata()?;
        match symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            there => there.map(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        }
    }
}

impl Drop for Lock {
    /// A process that is just being started may still have the file, too.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}
