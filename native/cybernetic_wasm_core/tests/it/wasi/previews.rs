//! Preview 0, which is older: the same functions within the same grants, with layouts and numbers of its own.

use super::raw::{OUT, ROOM, Raw};
use super::*;

const OLD: &str = "wasi_unstable";
const NEW: &str = "wasi_snapshot_preview1";

fn old(grants: Grants) -> Raw {
    Raw::of(OLD, grants, &["file".into(), ".".into(), "../file".into()])
}

fn with_file() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "0123456789").unwrap();
    std::fs::hard_link(dir.path().join("file"), dir.path().join("other")).unwrap();
    dir
}

#[test]
fn a_filestat_is_shorter_and_says_the_same() {
    const MARK: u64 = 0x0123_4567_89ab_cdef;
    let dir = with_file();
    let grants = Grants { times: FileTimes::Real, ..directory(dir.path(), false) };
    let (old, new) = (old(grants.clone()), Raw::new(grants, &["file".into()]));
    let stats = |guest: &Raw| {
        let fd = guest.open("file", (0, 0), 0).unwrap();
        let path = [&i32s(&[3, 0])[..], &guest.text("file"), &i32s(&[ROOM])].concat();
        [("path_filestat_get", path), ("fd_filestat_get", i32s(&[fd, ROOM]))].map(|(name, args)| {
            (0..9).for_each(|word| guest.poke(ROOM + 8 * word, MARK));
            assert_eq!(guest.call(name, &args), 0);
            [0; 9].into_iter().zip(0..).map(|(_, word): (i32, _)| guest.peek(ROOM + 8 * word)).collect::<Vec<_>>()
        })
    };
    for (old, new) in stats(&old).into_iter().zip(stats(&new)) {
        // Device, inode, type, links, size, three times.
        let (kind, links) = (old[2] as u8, old[2] >> 32);
        assert_eq!((kind, links, old[3]), (4, 2, 10));
        assert_eq!([&[old[0], old[1], u64::from(kind), links][..], &old[3..7]].concat(), {
            [&new[..2], &[u64::from(new[2] as u8)], &new[3..8]].concat()
        });
        assert_eq!((&old[7..], new[8]), (&[MARK, MARK][..], MARK), "no more is written");
    }
}

#[test]
fn a_files_times_are_hidden_where_they_are_not_granted() {
    const SHOWN: u64 = 1_000_000_000_000_000_000;
    let dir = with_file();
    for (clocks, shown) in [(Clocks::None, 315_619_200_000_000_000), (Clocks::Fixed(SHOWN), SHOWN)] {
        let guest = old(Grants { clocks, times: FileTimes::Fixed, ..directory(dir.path(), false) });
        let path = [&i32s(&[3, 0])[..], &guest.text("file"), &i32s(&[ROOM])].concat();
        assert_eq!(guest.call("path_filestat_get", &path), 0);
        assert_eq!([24, 32, 40, 48].map(|at| guest.peek(ROOM + at)), [10, shown, shown, shown]);
    }
}

#[test]
fn seeking_numbers_its_beginnings_otherwise() {
    let dir = with_file();
    let guest = old(directory(dir.path(), false));
    let fd = guest.open("file", (0, 0), 0).unwrap();
    let seek = |offset: i64, whence: i32| {
        let args = [Value::I32(fd), Value::I64(offset), Value::I32(whence), Value::I32(OUT)];
        (guest.call("fd_seek", &args), guest.peek(OUT))
    };
    // From the beginning, from where it is, from the end.
    assert_eq!([seek(4, 2), seek(1, 0), seek(-2, 1)], [(0, 4), (0, 5), (0, 8)]);
    assert_eq!([seek(-1, 2).0, seek(0, 3).0, seek(0, -1).0], [INVAL; 3]);
}

/// Writes a clock's subscription with preview 0's layout.
fn await_clock(guest: &Raw, (at, mark): (i32, u64), (clock, time, absolute): (u64, u64, u64)) {
    for (word, value) in (0..).zip([mark, 0, u64::MAX, clock, time, 0, absolute]) {
        guest.poke(at + 8 * word, value);
    }
}

#[test]
fn a_subscription_to_a_clock_is_longer() {
    let guest = old(clocks(Clocks::Stepped(1_000, 0)));
    await_clock(&guest, (ROOM, 7), (1, 5_000, 0));
    await_clock(&guest, (ROOM + 56, 8), (0, 400, 0));
    await_clock(&guest, (ROOM + 112, 9), (0, 900, 1));
    let poll = |count: i32| guest.call("poll_oneoff", &i32s(&[ROOM, ROOM + 4_096, count, OUT]));
    let event = |index: i32| (guest.peek(ROOM + 4_096 + 32 * index), guest.peek(ROOM + 4_096 + 32 * index + 8));
    assert_eq!((poll(2), guest.peek(OUT) as u32, event(0)), (0, 1, (8, 0)), "the sooner");
    assert_eq!((poll(3), guest.peek(OUT) as u32, event(0)), (0, 1, (9, 0)), "what is past");
    // Standard output, which is ready; then what there is not.
    for (kind, fd, errno) in [(2, 1, 0), (1, 9, BADF), (3, 0, INVAL)] {
        (0..7).for_each(|word| guest.poke(ROOM + 8 * word, 0));
        guest.poke(ROOM + 8, kind);
        guest.poke(ROOM + 16, fd);
        assert_eq!(poll(1), errno);
    }
    await_clock(&guest, (ROOM, 7), (9, 0, 0));
    assert_eq!([poll(1), poll(0), poll(4_097)], [INVAL; 3]);
}

#[test]
fn what_is_refused_is_refused_and_told_as_in_preview_1() {
    let dir = with_file();
    let told = |module: &str| {
        let texts = [".", "file", "../file"].map(String::from);
        let guest = Raw::of(module, directory(dir.path(), false), &texts);
        let of = |path: &str| [&i32s(&[3])[..], &guest.text(path)].concat();
        // Of a clock in both.
        (0..7).for_each(|word| guest.poke(ROOM + 8 * word, 0));
        [
            ("random_get", i32s(&[ROOM + 4_096, 8])),
            ("poll_oneoff", i32s(&[ROOM, ROOM + 4_096, 1, OUT])),
            ("path_unlink_file", of("file")),
            ("path_unlink_file", of("../file")),
            ("path_create_directory", of("file")),
            ("sock_shutdown", i32s(&[1, 3])),
        ]
        .map(|(name, args)| (name, guest.told(name, &args)))
    };
    let expected = told(NEW);
    assert_eq!(told(OLD), expected);
    assert_eq!(expected[1].1, (NOTCAPABLE, vec!["poll_oneoff"]));
    assert_eq!(expected[2].1, (PERM, vec!["path_unlink_file"]));
    // A quota, too, is the same.
    let guest = Raw::of(OLD, Grants { quota: 4_095, ..directory(dir.path(), true) }, &["new".into()]);
    assert_eq!(guest.told("path_create_directory", &[&i32s(&[3])[..], &guest.text("new")].concat()).0, DQUOT);
}

#[test]
fn it_has_all_functions_but_one() {
    let linking = |module: &str, name: &str, ty: &str| {
        let source = format!(r#"(module (import "{module}" "{name}" (func {ty})) (func (export "f")))"#);
        let module = load(shared(), source);
        Driver::default().values(&mut start(&module, ("f", &[]), nothing(), limits()))
    };
    assert!(linking(NEW, "sock_accept", "(param i32 i32 i32) (result i32)").is_ok());
    for (name, ty, reason) in [
        ("sock_accept", "(param i32 i32 i32) (result i32)", "WASI preview 0 has no such function"),
        ("fd_wriet", "", "WASI preview 0 has no such function"),
        ("proc_exit", "(param i64)", "WASI's has another type"),
    ] {
        let Err(Error::Link(problems)) = linking(OLD, name, ty) else { panic!("it links") };
        assert_eq!(problems[0].reason, reason);
    }
    for (name, _) in cybernetic_wasm_core::wasi::functions().filter(|(name, _)| *name != "sock_accept") {
        let Err(Error::Link(problems)) = linking(OLD, name, "(param f32) (result f64)") else { panic!("it links") };
        assert_eq!(problems[0].reason, "WASI's has another type", "{name}");
    }
}

#[test]
fn a_program_of_it_runs_and_joins_others() {
    let program = load(
        shared(),
        r#"(module
          (import "wasi_unstable" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_unstable" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\08\00\00\00\03\00\00\00old")
          (func (export "_start")
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
            (call $exit (i32.const 3))))"#,
    );
    let mut execution = start(&program, ("_start", &[]), stdio(), limits());
    assert_eq!(Driver::default().values(&mut execution).unwrap_err(), Error::Exit(3));
    assert_eq!(text(&execution.tally().output, Stream::Stdout), "old");

    let instance = live(stdio());
    let sources = vec![Source::Wasi, Source::Wasi];
    let setup = setup(&program, stdio(), limits());
    let mut link = Execution::link(&instance, instance.reserve(), (&program.module, sources), setup).unwrap();
    assert!(matches!(Driver::default().drive(&mut link), Ok(Product::Member(_))));
}
