//! Opening the directories that guests are given.
//!
//! No link is followed on the way there: a guest that may write to one directory could put a link in the place of another that
//! is given to the next guest. A sandbox names real paths, so there is none where nobody has put one since.

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// Opens the directory that is at this absolute path.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let mut directory = step(CWD, Path::new("/"))?;
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => directory = step(&directory, Path::new(name))?,
            _ => return Err(io::Error::other("the path is not a plain one")),
        }
    }
    Ok(directory)
}

fn step(from: impl AsFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(from, name, flags, Mode::empty()).map_err(|error| match error {
        Errno::LOOP | Errno::NOTDIR => io::Error::other("there is no directory, or a link on the way to it"),
        error => error.into(),
    })
}

/// Gives a guest this directory, by a path that names it whatever its own path stands for by now.
pub(super) fn give(
    builder: &mut WasiCtxBuilder,
    directory: &impl AsRawFd,
    (guest, perms): (&str, FsPerms),
) -> wasmtime::Result<()> {
    let folder = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    builder.preopened_dir(format!("{folder}/{}", directory.as_raw_fd()), guest, perms).map(|_| ())
}
