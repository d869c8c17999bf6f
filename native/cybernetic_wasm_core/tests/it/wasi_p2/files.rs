//! Files by WASI 0.2: what a Rust program does with them, within the bounds that preview 1 has as well.

use super::{Ran, begin_of, ended, nothing, stdio};
use crate::support::{Loaded, load, own_node, shared};
use cybernetic_wasm_core::system::{Directory, FileTimes, Grants};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn guest() -> Loaded {
    load(shared(), program())
}

fn program() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/fixtures/components/wasi/rust_files.wasm");
    fs::read(path).unwrap()
}

/// A directory, and the grant of it as `/data`.
fn granted(writable: bool) -> (TempDir, Grants) {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory { host: folder.path().canonicalize().unwrap(), guest: "/data".into(), writable };
    (folder, Grants { dirs: vec![directory], ..stdio() })
}

fn run(args: &[&str], grants: &Grants) -> Ran {
    run_on(&guest(), args, grants)
}

fn run_on(guest: &Loaded, args: &[&str], grants: &Grants) -> Ran {
    ended(begin_of(guest, args, grants.clone()))
}

fn refused(ran: &Ran) -> Vec<(&str, &str)> {
    ran.denials.iter().map(|denial| (denial.operation, denial.errno)).collect()
}

#[test]
fn files_are_written_read_and_listed() {
    let (folder, grants) = granted(true);
    assert_eq!(run(&["write", "/data/a", "some text"], &grants).said(), "write ok");
    assert_eq!(run(&["append", "/data/a", "!"], &grants).said(), "append ok");
    assert_eq!(run(&["patch", "/data/a", "5", "words"], &grants).said(), "patch some words");
    assert_eq!(run(&["mkdir", "/data/sub"], &grants).said(), "mkdir ok");
    assert_eq!(run(&["ls", "/data"], &grants).said(), "ls a sub/");
    assert_eq!(fs::read_to_string(folder.path().join("a")).unwrap(), "some words");
}

#[test]
fn a_directory_that_may_be_read_only_stays_as_it_is() {
    let (folder, grants) = granted(false);
    fs::write(folder.path().join("a"), "text").unwrap();
    assert_eq!(run(&["read", "/data/a"], &grants).said(), "read text");
    for args in [["write", "/data/a", "x"], ["append", "/data/a", "x"], ["truncate", "/data/a", "0"]] {
        let ran = run(&args, &grants);
        assert_eq!(refused(&ran), [("wasi:filesystem/types#open-at", "not-permitted")], "{args:?}");
    }
    let ran = run(&["rm", "/data/a"], &grants);
    assert_eq!(refused(&ran), [("wasi:filesystem/types#unlink-file-at", "not-permitted")]);
    assert_eq!(fs::read_to_string(folder.path().join("a")).unwrap(), "text");
}

#[test]
fn a_path_that_leads_out_is_refused_and_told() {
    let (folder, grants) = granted(true);
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
    let ran = run(&["read", "/data/link"], &grants);
    assert_eq!(refused(&ran), [("wasi:filesystem/types#open-at", "not-permitted")]);
    assert_eq!(ran.denials[0].detail.as_deref(), Some("link"));
}

#[test]
fn a_stream_writes_no_more_than_the_quota_allows() {
    let (folder, grants) = granted(true);
    let grants = Grants { quota: 100_000, ..grants };
    let ran = run(&["fill", "/data/a"], &grants);
    assert!(ran.denials.iter().any(|denial| denial.errno == "quota"), "{ran:?}");
    let size = fs::metadata(folder.path().join("a")).unwrap().len();
    assert!((90_000..=100_000).contains(&size), "{size}");
}

#[test]
fn a_hole_counts_as_what_is_written_behind_it() {
    let (folder, grants) = granted(true);
    let grants = Grants { quota: 100_000, ..grants };
    fs::write(folder.path().join("a"), "").unwrap();
    let ran = run(&["patch", "/data/a", "1000000", "x"], &grants);
    assert!(refused(&ran).iter().all(|(_, errno)| *errno == "quota") && !ran.denials.is_empty(), "{ran:?}");
    let ran = run(&["truncate", "/data/a", "1000000"], &grants);
    assert_eq!(refused(&ran), [("wasi:filesystem/types#set-size", "quota")]);
    assert_eq!(fs::metadata(folder.path().join("a")).unwrap().len(), 0);
}

#[test]
fn open_files_are_bounded_and_closing_makes_room() {
    let (folder, grants) = granted(true);
    fs::write(folder.path().join("a"), "").unwrap();
    let grants = Grants { max_open: 3, ..grants };
    let ran = run(&["hold", "/data/a", "100"], &grants);
    assert!(ran.stdout.starts_with("hold 3 "), "{ran:?}");
    assert_eq!(refused(&ran), [("wasi:filesystem/types#open-at", "quota")]);
    assert_eq!(run(&["many", "/data", "50"], &grants).said(), "many 50");
}

#[test]
fn files_that_a_guest_had_open_are_none_of_the_nodes_afterwards() {
    let (folder, grants) = granted(true);
    fs::write(folder.path().join("a"), "").unwrap();
    let node = own_node(|node| node.max_open_files = 50);
    let guest = load(&node, program());
    for _ in 0..20 {
        assert_eq!(run_on(&guest, &["hold", "/data/a", "30"], &grants).said(), "hold 30");
    }
}

#[test]
fn times_of_files_are_what_is_granted() {
    let (folder, grants) = granted(true);
    fs::write(folder.path().join("a"), "").unwrap();
    let grants = Grants { times: FileTimes::Fixed, ..grants };
    assert_eq!(run(&["stat", "/data/a"], &grants).said(), "stat file 0 315619200");
}

#[test]
fn what_is_written_to_the_null_device_is_gone() {
    let grants = Grants { null: Some("/dev/null".into()), ..stdio() };
    assert_eq!(run(&["null", "/dev/null"], &grants).said(), "null 0");
}

#[test]
fn without_a_grant_there_are_no_directories() {
    let ran = run(&["read", "/data/a"], &Grants { stdio: [true; 3], ..nothing() });
    assert!(matches!(ran.result, Ok(false)), "{ran:?}");
    assert_eq!(ran.denials, []);
}
