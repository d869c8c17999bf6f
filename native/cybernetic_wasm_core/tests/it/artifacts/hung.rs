//! A disk that does not answer. `strace` has it not answer: for one file, and for longer than any test.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

const FOLDER: &str = "CYBERNETIC_WASM_TEST_FOLDER";

/// What the test here starts in a process of its own.
#[test]
#[ignore = "is started by another"]
fn loads_three_modules() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime = node(Path::new(&folder));
    let answers = [1, 2, 3].map(|number| answer(&load(&runtime, numbered(number))));
    println!("loaded {answers:?} {:?} {:?}", counts(&runtime), runtime.take_notices());
}

#[test]
fn no_load_waits_for_a_disk_that_does_not_answer() {
    let folder = folder();
    fill(folder.path(), &[numbered(1)]);
    let file = only_file(folder.path());
    fill(folder.path(), &[numbered(2)]);
    let strace = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=openat",
            "-e",
            "inject=openat:delay_enter=1000000000",
            "-P",
        ])
        .arg(file.file_name().unwrap())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "artifacts::hung::loads_three_modules", "--ignored", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut strace) = strace else { return eprintln!("skipped: `strace` is missing") };
    let mut told = BufReader::new(strace.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = told.find(|line| line.contains("loaded")).unwrap();
    // It would keep the thread that waits until its time is over.
    strace.kill().unwrap();
    strace.wait().unwrap();
    // The first was not there in time, and from then on nothing was asked for.
    assert!(line.contains("loaded [1, 2, 3] [0, 1, 0, 3]"), "{line}");
    assert_eq!(line.matches("could not be read within").count(), 1, "{line}");
}
