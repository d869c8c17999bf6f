//! Paths that end in a slash, a dot or both, against what the operating system itself answers.
#![cfg(target_os = "linux")]

use super::raw::{OUT, ROOM, Raw};
use super::*;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What there is beneath a directory, and one name of nothing.
const NAMES: [&str; 7] = ["missing", "file", "dir", "full", "dirlink", "filelink", "dangling"];
const FORMS: [&str; 8] = ["{}", "{}/", "{}//", "./{}", "./{}/", "{}/.", "{}/./", ".//{}//"];
const OTHERS: [&str; 5] = ["new", "ofile", "odir", "olink", "target"];

fn furnish(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()) {
        match entry.file_type().unwrap().is_dir() {
            true => fs::remove_dir_all(entry.path()).unwrap(),
            false => fs::remove_file(entry.path()).unwrap(),
        }
    }
    let at = |name: &str| directory.join(name);
    for file in ["file", "ofile"] {
        fs::write(at(file), file).unwrap();
    }
    for name in ["dir", "full/in", "odir"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    for (target, link) in [("dir", "dirlink"), ("file", "filelink"), ("nowhere", "dangling"), ("odir", "olink")] {
        std::os::unix::fs::symlink(target, at(link)).unwrap();
    }
}

/// What is there, and what each is.
fn tree(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let shown = |entry: fs::DirEntry| {
        let kind = match entry.file_type().unwrap() {
            kind if kind.is_symlink() => format!("to {}", fs::read_link(entry.path()).unwrap().display()),
            kind if kind.is_dir() => format!("directory of {}", fs::read_dir(entry.path()).unwrap().count()),
            _ => fs::read_to_string(entry.path()).unwrap(),
        };
        (entry.file_name().into_string().unwrap(), kind)
    };
    entries.map(shown).collect()
}

/// As WASI numbers it.
fn errno_of(answer: rustix::io::Result<()>) -> i64 {
    use rustix::io::Errno;
    match answer {
        Ok(()) => 0,
        Err(Errno::BUSY) => 10,
        Err(Errno::EXIST) => 20,
        Err(Errno::INVAL) => 28,
        Err(Errno::ISDIR) => 31,
        Err(Errno::LOOP) => 32,
        Err(Errno::NOENT) => 44,
        Err(Errno::NOTDIR) => 54,
        Err(Errno::NOTEMPTY) => 55,
        Err(Errno::PERM) => 63,
        Err(other) => panic!("{other}"),
    }
}

type Native = fn(BorrowedFd<'_>, &str) -> rustix::io::Result<()>;
type Guest = fn(&Raw, &str) -> i64;

const SECOND: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
const TIMES: Timestamps = Timestamps { last_access: SECOND, last_modification: SECOND };
const NOFOLLOW: AtFlags = AtFlags::SYMLINK_NOFOLLOW;

fn open(directory: BorrowedFd<'_>, path: &str, flags: OFlags) -> rustix::io::Result<()> {
    rustix::fs::openat(directory, path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o644)).map(|_: OwnedFd| ())
}

/// Of one path, between directory 3 and what comes behind it.
fn of_path(guest: &Raw, name: &str, (before, path, after): (&[i32], &str, &[Value])) -> i64 {
    guest.call(name, &[&i32s(&[3])[..], &i32s(before), &guest.text(path), after].concat())
}

/// Of two paths, both beneath directory 3.
fn of_paths(guest: &Raw, name: &str, before: &[i32], (from, to): (&str, &str)) -> i64 {
    let to = [&i32s(&[3])[..], &guest.text(to)].concat();
    of_path(guest, name, (before, from, &to))
}

fn set_times(guest: &Raw, follow: i32, path: &str) -> i64 {
    let second = Value::I64(1_000_000_000);
    of_path(guest, "path_filestat_set_times", (&[follow], path, &[second.clone(), second, Value::I32(1 | 4)]))
}

fn opened(guest: &Raw, path: &str, how: (i32, i32), rights: i64) -> i64 {
    match guest.open(path, how, rights) {
        Ok(fd) => guest.call("fd_close", &i32s(&[fd])),
        Err(errno) => errno,
    }
}

const WRITE: i64 = 64;

/// What is done with a path, by the operating system and by a guest.
const OPERATIONS: &[(&str, Native, Guest)] = &[
    (
        "mkdir",
        |dir, path| rustix::fs::mkdirat(dir, path, Mode::RWXU),
        |guest, path| of_path(guest, "path_create_directory", (&[], path, &[])),
    ),
    (
        "rmdir",
        |dir, path| rustix::fs::unlinkat(dir, path, AtFlags::REMOVEDIR),
        |guest, path| of_path(guest, "path_remove_directory", (&[], path, &[])),
    ),
    (
        "unlink",
        |dir, path| rustix::fs::unlinkat(dir, path, AtFlags::empty()),
        |guest, path| of_path(guest, "path_unlink_file", (&[], path, &[])),
    ),
    (
        "symlink",
        |dir, path| rustix::fs::symlinkat("target", dir, path),
        |guest, path| guest.call("path_symlink", &[&guest.text("target")[..], &i32s(&[3]), &guest.text(path)].concat()),
    ),
    (
        "readlink",
        |dir, path| rustix::fs::readlinkat(dir, path, Vec::new()).map(|_| ()),
        |guest, path| of_path(guest, "path_readlink", (&[], path, &i32s(&[ROOM, 100, OUT]))),
    ),
    (
        "link from",
        |dir, path| rustix::fs::linkat(dir, path, dir, "new", AtFlags::empty()),
        |guest, path| of_paths(guest, "path_link", &[0], (path, "new")),
    ),
    (
        "link to",
        |dir, path| rustix::fs::linkat(dir, "ofile", dir, path, AtFlags::empty()),
        |guest, path| of_paths(guest, "path_link", &[0], ("ofile", path)),
    ),
    (
        "link a directory to",
        |dir, path| rustix::fs::linkat(dir, "odir", dir, path, AtFlags::empty()),
        |guest, path| of_paths(guest, "path_link", &[0], ("odir", path)),
    ),
    (
        "link nothing to",
        |dir, path| rustix::fs::linkat(dir, "new", dir, path, AtFlags::empty()),
        |guest, path| of_paths(guest, "path_link", &[0], ("new", path)),
    ),
    (
        "rename from",
        |dir, path| rustix::fs::renameat(dir, path, dir, "new"),
        |guest, path| of_paths(guest, "path_rename", &[], (path, "new")),
    ),
    (
        "rename a file to",
        |dir, path| rustix::fs::renameat(dir, "ofile", dir, path),
        |guest, path| of_paths(guest, "path_rename", &[], ("ofile", path)),
    ),
    (
        "rename a directory to",
        |dir, path| rustix::fs::renameat(dir, "odir", dir, path),
        |guest, path| of_paths(guest, "path_rename", &[], ("odir", path)),
    ),
    (
        "rename a link to",
        |dir, path| rustix::fs::renameat(dir, "olink", dir, path),
        |guest, path| of_paths(guest, "path_rename", &[], ("olink", path)),
    ),
    (
        "lstat",
        |dir, path| rustix::fs::statat(dir, path, NOFOLLOW).map(|_| ()),
        |guest, path| of_path(guest, "path_filestat_get", (&[0], path, &i32s(&[ROOM]))),
    ),
    (
        "stat",
        |dir, path| rustix::fs::statat(dir, path, AtFlags::empty()).map(|_| ()),
        |guest, path| of_path(guest, "path_filestat_get", (&[1], path, &i32s(&[ROOM]))),
    ),
    (
        "lutimes",
        |dir, path| rustix::fs::utimensat(dir, path, &TIMES, NOFOLLOW),
        |guest, path| set_times(guest, 0, path),
    ),
    (
        "utimes",
        |dir, path| rustix::fs::utimensat(dir, path, &TIMES, AtFlags::empty()),
        |guest, path| set_times(guest, 1, path),
    ),
    ("open", |dir, path| open(dir, path, OFlags::RDONLY), |guest, path| opened(guest, path, (1, 0), 0)),
    (
        "open no link",
        |dir, path| open(dir, path, OFlags::RDONLY | OFlags::NOFOLLOW),
        |guest, path| opened(guest, path, (0, 0), 0),
    ),
    (
        "open a directory",
        |dir, path| open(dir, path, OFlags::RDONLY | OFlags::DIRECTORY),
        |guest, path| opened(guest, path, (1, 2), 0),
    ),
    (
        "create",
        |dir, path| open(dir, path, OFlags::RDWR | OFlags::CREATE),
        |guest, path| opened(guest, path, (1, 1), WRITE),
    ),
    (
        "create anew",
        |dir, path| open(dir, path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL),
        |guest, path| opened(guest, path, (1, 1 | 4), WRITE),
    ),
];

#[test]
fn a_path_means_to_a_guest_what_it_means_to_a_native_program() {
    let (native, granted) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let paths: Vec<String> = NAMES.iter().flat_map(|name| FORMS.map(|form| form.replace("{}", name))).collect();
    let texts: Vec<String> = paths.iter().cloned().chain(OTHERS.map(String::from)).collect();
    let guest = Raw::new(Grants { quota: u64::MAX, ..directory(granted.path(), true) }, &texts);
    let handle = fs::File::open(native.path()).unwrap();
    let mut differ = Vec::new();
    for (operation, by_system, by_guest) in OPERATIONS {
        for path in &paths {
            furnish(native.path());
            furnish(granted.path());
            let (expected, found) = (errno_of(by_system(handle.as_fd(), path)), by_guest(&guest, path));
            if (expected, tree(native.path())) != (found, tree(granted.path())) {
                differ.push(format!("{operation} {path}: {expected} natively, {found} for a guest"));
            }
        }
    }
    assert!(differ.is_empty(), "{differ:#?}");
}

#[test]
fn what_a_name_with_a_slash_says_is_of_what_is_there() {
    let granted = tempfile::tempdir().unwrap();
    furnish(granted.path());
    let texts = ["dirlink", "dirlink/", "dirlink/."].map(String::from);
    let guest = Raw::new(directory(granted.path(), false), &texts);
    let filetype = |path: &str| {
        assert_eq!(of_path(&guest, "path_filestat_get", (&[0], path, &i32s(&[ROOM]))), 0);
        guest.peek(ROOM + 16) as u8
    };
    assert_eq!(texts.each_ref().map(|path| filetype(path)), [7, 3, 3], "a link, and the directory that it leads to");
}
