//! The null device, and the times of files.

use super::*;

/// Opens, reads and writes what is called `null` in the directory 3, and looks at it.
const NULL_GUEST: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pwrite" (func $pwrite (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fdstat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $resize (param i32 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $dir_name (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get" (func $path_stat (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 512) "nullother")
  (func $or_errno (param $errno i32) (param $value i32) (result i32)
    (select (i32.sub (i32.const 0) (local.get $errno)) (local.get $value) (local.get $errno)))
  ;; Two pieces, one of them empty.
  (func $pieces (param $len i32)
    (i64.store (i32.const 0) (i64.const 0))
    (i32.store (i32.const 8) (i32.const 4096)) (i32.store (i32.const 12) (local.get $len)))
  (func (export "open") (param $how i32) (param $rights i64) (result i32)
    (call $or_errno
      (call $path_open (i32.const 3) (i32.const 1) (i32.const 512) (i32.const 4) (local.get $how)
        (local.get $rights) (i64.const 0) (i32.const 1) (i32.const 16))
      (i32.load (i32.const 16))))
  (func (export "open_other") (result i32)
    (call $or_errno
      (call $path_open (i32.const 3) (i32.const 0) (i32.const 516) (i32.const 5) (i32.const 1)
        (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 16))
      (i32.load (i32.const 16))))
  (func (export "read") (param $fd i32) (param $len i32) (result i32)
    (call $pieces (local.get $len))
    (call $or_errno (call $read (local.get $fd) (i32.const 0) (i32.const 2) (i32.const 16)) (i32.load (i32.const 16))))
  (func (export "write") (param $fd i32) (param $len i32) (result i32)
    (call $pieces (local.get $len))
    (call $or_errno (call $write (local.get $fd) (i32.const 0) (i32.const 2) (i32.const 16)) (i32.load (i32.const 16))))
  (func (export "read_at") (param $fd i32) (param $len i32) (result i32)
    (call $pieces (local.get $len))
    (call $or_errno
      (call $pread (local.get $fd) (i32.const 0) (i32.const 2) (i64.const 5) (i32.const 16)) (i32.load (i32.const 16))))
  (func (export "write_at") (param $fd i32) (param $len i32) (result i32)
    (call $pieces (local.get $len))
    (call $or_errno
      (call $pwrite (local.get $fd) (i32.const 0) (i32.const 2) (i64.const 5) (i32.const 16)) (i32.load (i32.const 16))))
  (func (export "write_wild") (param $fd i32) (param $at i32) (param $out i32) (result i32)
    (call $write (local.get $fd) (local.get $at) (i32.const 1) (local.get $out)))
  (func (export "write_many") (param $fd i32) (param $count i32) (result i32)
    (call $write (local.get $fd) (i32.const 8192) (local.get $count) (i32.const 16)))
  (func (export "close") (param $fd i32) (result i32) (call $close (local.get $fd)))
  (func (export "resize") (param $fd i32) (result i32) (call $resize (local.get $fd) (i64.const 10)))
  (func (export "unlink") (result i32) (call $unlink (i32.const 3) (i32.const 512) (i32.const 4)))
  ;; Its type; then a file's size and last time.
  (func (export "type") (param $fd i32) (result i32)
    (call $or_errno (call $stat (local.get $fd) (i32.const 64)) (i32.load8_u (i32.const 80))))
  (func (export "path_type") (result i32)
    (call $or_errno (call $path_stat (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 4) (i32.const 64))
      (i32.load8_u (i32.const 80))))
  (func (export "size") (result i64) (i64.load (i32.const 96)))
  (func (export "changed") (param $fd i32) (result i64)
    (drop (call $stat (local.get $fd) (i32.const 64))) (i64.load (i32.const 112)))
  ;; Its type, and whether it may be written to.
  (func (export "described") (param $fd i32) (result i32)
    (drop (call $fdstat (local.get $fd) (i32.const 64)))
    (i32.add (i32.load8_u (i32.const 64)) (i32.and (i32.load (i32.const 72)) (i32.const 64))))
  ;; The fourth letter of the directory's name.
  (func (export "folder") (param $len i32) (result i32)
    (call $or_errno (call $dir_name (i32.const 3) (i32.const 64) (local.get $len)) (i32.load8_u (i32.const 67)))))"#;

const READ: i64 = 2;
const WRITE: i64 = 64;
const CREATE_AND_EMPTY: i32 = 9;
const CHARACTER_DEVICE: i64 = 2;
const FILE: i64 = 4;

fn with_null(grants: Grants) -> Arc<LiveGuest> {
    let grants = Grants { null: Some("/dev/null".into()), ..grants };
    let module = load(shared(), NULL_GUEST);
    let mut making = Execution::instantiate(&module.module, false, setup(&module, grants, limits()));
    match Driver::default().drive(&mut making).unwrap() {
        Product::Guest(instance) => instance,
        other => panic!("an instantiation made {other:?}"),
    }
}

#[test]
fn a_null_device_takes_everything_and_gives_nothing() {
    // Without any quota.
    let guest = with_null(Grants { quota: 0, ..stdio() });
    assert_eq!(on(&guest, "folder", &i32s(&[4])), i64::from(b'v'), "it is in /dev");
    for (how, rights) in [(0, READ), (0, WRITE), (CREATE_AND_EMPTY, READ | WRITE), (CREATE_AND_EMPTY, WRITE)] {
        let fd = on(&guest, "open", &[Value::I32(how), Value::I64(rights)]) as i32;
        assert!(fd > 3, "{how} {rights}: {fd}");
        let both = |name: &str, len| on(&guest, name, &i32s(&[fd, len]));
        for len in [0, 1, 60_000] {
            let done = ["write", "write_at", "read", "read_at"].map(|name| both(name, len));
            assert_eq!(done, [len.into(), len.into(), 0, 0]);
        }
        assert_eq!(on(&guest, "type", &i32s(&[fd])), CHARACTER_DEVICE);
        assert_eq!(on(&guest, "size", &[]), 0);
        assert_eq!(on(&guest, "described", &i32s(&[fd])), CHARACTER_DEVICE + WRITE);
        assert_eq!(on(&guest, "close", &i32s(&[fd])), 0);
        assert_eq!(both("write", 1), -BADF);
    }
    assert_eq!(on(&guest, "path_type", &[]), CHARACTER_DEVICE);
}

#[test]
fn a_null_device_is_all_that_there_is_and_nobody_changes_it() {
    let guest = with_null(stdio());
    assert_eq!(on(&guest, "open_other", &[]), -PERM, "nothing is made beside it");
    assert_eq!(on(&guest, "unlink", &[]), PERM);
    let fd = on(&guest, "open", &[Value::I32(0), Value::I64(READ | WRITE)]) as i32;
    assert!(on(&guest, "resize", &i32s(&[fd])) > 0);
    // The next guest's is as it was.
    assert_eq!(on(&with_null(stdio()), "path_type", &[]), CHARACTER_DEVICE);
}

#[test]
fn a_null_device_checks_pointers_and_pieces_and_counts_as_an_open_file() {
    let guest = || with_null(Grants { max_open: 1, ..stdio() });
    let open = |guest: &Arc<LiveGuest>| on(guest, "open", &[Value::I32(0), Value::I64(WRITE)]) as i32;
    let one = guest();
    let fd = open(&one);
    assert_eq!(i64::from(open(&one)), -MFILE);
    assert_eq!([1_024, 1_025].map(|count| on(&one, "write_many", &i32s(&[fd, count]))), [0, INVAL]);
    for (pieces, out) in [(-8, 16), (1 << 17, 16), (0, -4), (0, 1 << 17)] {
        let guest = guest();
        let args = i32s(&[open(&guest), pieces, out]);
        assert!(matches!(crate::support::call_on(&guest, "write_wild", &args), Err(Error::Trap(_))), "{pieces} {out}");
    }
}

#[test]
fn a_file_called_null_elsewhere_is_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let guest = with_null(directory(dir.path(), true));
    assert_eq!(on(&guest, "folder", &i32s(&[5])), i64::from(b't'), "the first directory is /data");
    let fd = on(&guest, "open", &[Value::I32(CREATE), Value::I64(WRITE)]) as i32;
    assert_eq!(on(&guest, "write", &i32s(&[fd, 5])), 5);
    assert_eq!(on(&guest, "type", &i32s(&[fd])), FILE);
    assert_eq!(std::fs::metadata(dir.path().join("null")).unwrap().len(), 5);
}

#[test]
fn the_times_of_files_are_real_or_no_clock() {
    const YEAR_2001: u64 = 1_000_000_000_000_000_000;
    const YEAR_1980: i64 = 315_619_200_000_000_000;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("null"), "").unwrap();
    let changed = |clocks, times| {
        let guest = with_null(Grants { clocks, times, ..directory(dir.path(), true) });
        let fd = on(&guest, "open", &[Value::I32(0), Value::I64(READ)]) as i32;
        on(&guest, "changed", &i32s(&[fd]))
    };
    let modified = std::fs::metadata(dir.path().join("null")).unwrap().modified().unwrap();
    let real = modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
    for clocks in [Clocks::None, Clocks::Real, Clocks::Fixed(YEAR_2001), Clocks::Stepped(0, 1)] {
        assert_eq!(changed(clocks, FileTimes::Real), real, "{clocks:?}");
    }
    for (clocks, shown) in [
        (Clocks::None, YEAR_1980),
        (Clocks::Real, YEAR_1980),
        (Clocks::Fixed(YEAR_2001), YEAR_2001 as i64),
        (Clocks::Stepped(YEAR_2001, 5), YEAR_2001 as i64),
        // What an archive could not hold.
        (Clocks::Fixed(0), YEAR_1980),
    ] {
        assert_eq!(changed(clocks, FileTimes::Fixed), shown, "{clocks:?}");
    }
}
