//! Folders that hold what is believed later: whether they are ours, and who writes to them now.
//!
//! Whoever can write to a folder, or put another in its place, decides what is read there. So every folder on the way is one
//! that nobody but root and the user can change, from the root on, and none is a link.

use rustix::fs::{Mode, OFlags, open};
use std::fmt;
use std::fs::{DirBuilder, File, Metadata, TryLockError, symlink_metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

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

/// Holds if the folder belongs to the user, nobody else may write to it, and nobody but root and the user can put another in
/// its place. With `make`, folders that are missing are made, for the user alone, and last.
pub fn ours(path: &Path, make: bool) -> Result<(), NotOurs> {
    let because = |path: &Path, why| NotOurs { path: path.to_owned(), why };
    let plain = path.components().all(|part| !matches!(part, Component::ParentDir));
    if !(plain && path.is_absolute()) {
        return Err(because(path, Why::NotPlain));
    }
    let user = rustix::process::geteuid().as_raw();
    let mut way: Vec<_> = path.ancestors().collect();
    while let Some(at) = way.pop() {
        let last = way.is_empty();
        found(at, make).and_then(|folder| judge(&folder, user, last)).map_err(|why| because(at, why))?;
    }
    Ok(())
}

fn found(path: &Path, make: bool) -> Result<Metadata, Why> {
    match symlink_metadata(path) {
        Err(error) if make && error.kind() == io::ErrorKind::NotFound => {
            add(path).map_err(Why::System)?;
            symlink_metadata(path).map_err(Why::System)
        }
        found => found.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Why::Missing,
            io::ErrorKind::NotADirectory => Why::NotAFolder,
            _ => Why::System(error),
        }),
    }
}

/// Two may do so at once.
fn add(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all()),
    }
}

/// In a sticky folder, such as /tmp, nobody can rename or remove what is another's. Where a group has its user's number, it has
/// no other member: many systems give each user such a group, and let it write.
fn judge(folder: &Metadata, user: u32, last: bool) -> Result<(), Why> {
    const STICKY: u32 = 0o1000;
    let mode = folder.mode();
    let by_group = mode & 0o020 != 0 && (last || folder.gid() != folder.uid());
    let open = (by_group || mode & 0o002 != 0) && (last || mode & STICKY == 0);
    match folder {
        _ if folder.is_symlink() => Err(Why::Link),
        _ if !folder.is_dir() => Err(Why::NotAFolder),
        _ if folder.uid() != user && (last || folder.uid() != 0) => Err(Why::Foreign),
        _ if open => Err(Why::Writable),
        _ => Ok(()),
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
            let lock = Self(File::from(open(path, flags, Mode::RUSR | Mode::WUSR)?));
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
