//! What calls on descriptors and paths answer, and which of their refusals are the grants'.

use super::raw::{OUT, ROOM, Raw};
use super::*;

const EXIST: i64 = 20;
const NOTSOCK: i64 = 57;
const SPIPE: i64 = 70;

#[test]
fn no_descriptor_is_a_socket_and_that_is_no_denial() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    for grants in [nothing(), directory(dir.path(), true)] {
        let files = !grants.dirs.is_empty();
        let guest = Raw::new(grants, &["file".into()]);
        let opened = if files { guest.open("file", (0, 0), 0).unwrap() } else { 99 };
        for (fd, there) in [(0, true), (1, true), (2, true), (3, files), (opened, files), (99, false), (-1, false)] {
            let expected = (if there { NOTSOCK } else { BADF }, vec![]);
            for (name, args) in [
                ("sock_recv", vec![fd, ROOM, 1, 0, OUT, OUT + 4]),
                ("sock_send", vec![fd, ROOM, 1, 0, OUT]),
                ("sock_shutdown", vec![fd, 3]),
            ] {
                assert_eq!(guest.told(name, &i32s(&args)), expected, "{name} of {fd}");
            }
        }
    }
}

#[test]
fn reading_nothing_gives_nothing_and_asks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "0123456789").unwrap();
    let guest = Raw::new(directory(dir.path(), true), &["file".into()]);
    let fd = guest.open("file", (0, 0), 0).unwrap();
    // Two pieces, both empty.
    let empty = |name: &str, fd: i32, count: i32| {
        guest.poke(OUT, u64::MAX);
        let offset = if name == "fd_pread" { vec![Value::I64(2)] } else { vec![] };
        let args = [&i32s(&[fd, ROOM, count])[..], &offset, &i32s(&[OUT])].concat();
        let mut execution = crate::support::start_on(&guest.instance, name, &args, limits()).unwrap();
        execution.set_stdin(Stdin::Asked);
        match next(&mut execution) {
            Step::Finished(Product::Values(values)) => (number::<Error>(Ok(values)), guest.peek(OUT) as u32),
            other => panic!("{name} of {fd}: {other:?}"),
        }
    };
    for count in [0, 1, 2] {
        assert_eq!(
            [empty("fd_read", 0, count), empty("fd_read", fd, count), empty("fd_pread", fd, count)],
            [(0, 0); 3]
        );
        for (name, fd, errno) in
            [("fd_read", 1, BADF), ("fd_read", 99, BADF), ("fd_pread", 99, BADF), ("fd_pread", 0, SPIPE)]
        {
            assert_eq!(empty(name, fd, count).0, errno, "{name} of {fd}");
        }
    }
    let refused = Raw::new(nothing(), &[]);
    assert_eq!(refused.told("fd_read", &i32s(&[0, ROOM, 1, OUT])), (BADF, vec!["fd_read"]));
    // Where there is something before and behind it, that is read.
    guest.poke(ROOM + 8, (4 << 32) | u64::from(ROOM as u32 + 100));
    assert_eq!((guest.call("fd_read", &i32s(&[fd, ROOM, 2, OUT])), guest.peek(OUT) as u32), (0, 4));
}

/// A guest with a directory, and the errno and denials of calls on paths beneath it.
fn of_paths(dir: &Path, writable: bool) -> impl Fn(&str, &str) -> (i64, Vec<&'static str>) {
    let texts = ["file", "sub", "new", "/file", "../file", "out/file", "/etc"].map(String::from);
    let guest = Raw::new(directory(dir, writable), &texts);
    move |name, path| {
        let at = |text: &str| [&i32s(&[3])[..], &guest.text(text)].concat();
        let zero = Value::I32(0);
        let args = match name {
            "path_link" => [&[Value::I32(3), zero][..], &guest.text(path), &at("new")].concat(),
            "path_rename" => [at(path), at("new")].concat(),
            "path_symlink" => [&guest.text(path)[..], &at("new")].concat(),
            "path_filestat_get" => [&[Value::I32(3), zero][..], &guest.text(path), &i32s(&[ROOM])].concat(),
            "path_filestat_set_times" => {
                let times = [Value::I64(1), Value::I64(1), Value::I32(5)];
                [&[Value::I32(3), zero][..], &guest.text(path), &times].concat()
            }
            _ => at(path),
        };
        guest.told(name, &args)
    }
}

#[test]
fn what_the_operating_system_refuses_is_no_denial() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let told = of_paths(dir.path(), true);
    assert_eq!(told("path_link", "sub"), (PERM, vec![]), "nobody links directories");
    assert_eq!(told("path_create_directory", "sub"), (EXIST, vec![]));
}

#[test]
fn what_the_grants_refuse_is_one_each() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::os::unix::fs::symlink("..", dir.path().join("out")).unwrap();
    let changes = [
        "path_create_directory",
        "path_filestat_set_times",
        "path_link",
        "path_remove_directory",
        "path_rename",
        "path_symlink",
        "path_unlink_file",
    ];
    let told = of_paths(dir.path(), false);
    for name in changes {
        assert_eq!(told(name, "sub"), (PERM, vec![name]), "{name} where it may only read");
    }
    assert_eq!(told("path_filestat_get", "file"), (0, vec![]));
    let told = of_paths(dir.path(), true);
    for name in changes.into_iter().filter(|name| *name != "path_symlink").chain(["path_filestat_get"]) {
        for path in ["/file", "../file", "out/file"] {
            assert_eq!(told(name, path), (PERM, vec![name]), "{name} {path} leads out");
        }
    }
    assert_eq!(told("path_symlink", "/etc"), (PERM, vec!["path_symlink"]));
    assert_eq!(told("path_symlink", "../file"), (0, vec![]), "where it leads is looked at when it is followed");
}

#[test]
fn a_file_of_a_directory_to_read_is_not_changed_by_its_descriptor_either() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let guest = Raw::new(directory(dir.path(), false), &["file".into(), "sub".into(), "new".into()]);
    let sub = guest.open("sub", (0, 2), 0).unwrap();
    let [at, length] = guest.text("new");
    assert_eq!(
        guest.told("path_create_directory", &[Value::I32(sub), at, length]),
        (PERM, vec!["path_create_directory"])
    );
}
