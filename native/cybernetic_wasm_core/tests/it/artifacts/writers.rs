//! Several processes that write to one folder.

use super::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

const FOLDER: &str = "CYBERNETIC_WASM_TEST_FOLDER";
const FIRST: &str = "CYBERNETIC_WASM_TEST_FIRST";

/// What the other tests here start in a process of its own: it keeps one module after another, and says which.
#[test]
#[ignore = "runs until it is ended"]
fn keeps_modules_until_it_is_ended() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let first: usize = std::env::var(FIRST).unwrap().parse().unwrap();
    let runtime = node(Path::new(&folder));
    let mut output = std::io::stdout();
    for number in first.. {
        let module = load(&runtime, numbered(number));
        if runtime.keep(&module.module).is_ok() {
            writeln!(output, "kept {number}").unwrap();
        }
    }
}

struct Writer {
    process: Child,
    output: BufReader<ChildStdout>,
}

impl Writer {
    fn start(folder: &Path, first: usize) -> Self {
        let started = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "artifacts::writers::keeps_modules_until_it_is_ended", "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut process = started.unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, output }
    }

    /// Waits until it has kept so many, and gives their numbers.
    fn kept(&mut self, count: usize) -> Vec<usize> {
        let lines = self.output.by_ref().lines();
        lines.map(Result::unwrap).filter_map(|line| number_of(&line)).take(count).collect()
    }

    /// Ends it, and gives the numbers of those that it says to have kept.
    fn kill(mut self) -> Vec<usize> {
        self.process.kill().unwrap();
        let kept = self.kept(usize::MAX);
        self.process.wait().unwrap();
        kept
    }
}

fn number_of(line: &str) -> Option<usize> {
    // The first one stands behind what the test harness prints.
    line.split_once("kept ").and_then(|(_, number)| number.parse().ok())
}

/// All that were said to be kept are there, and nothing that is there is refused.
fn check(folder: &Path, kept: &[usize]) {
    let runtime = node(folder);
    for number in kept {
        assert_eq!(answer(&load(&runtime, numbered(*number))), *number as i64);
    }
    assert_eq!(counts(&runtime), [kept.len() as u64, 0, 0, 0]);
    // What it was at when it was ended is whole, or not there.
    let next = kept.iter().max().map_or(0, |last| last + 1);
    let module = load(&runtime, numbered(next));
    // Nothing is written any more behind the test's back.
    runtime.keep(&module.module).unwrap();
    assert_eq!(answer(&module), next as i64);
    assert_eq!(stats(&runtime).refused, 0, "{:?}", runtime.take_notices());
}

#[test]
fn what_somebody_is_writing_is_nobody_elses_to_remove() {
    let folder = folder();
    fill(folder.path(), &[numbered(1)]);
    let [live, dead] = [1, 2].map(|number| folder.path().join(format!(".{number:032x}")));
    let file = File::create(&live).unwrap();
    file.lock().unwrap();
    fs::write(&dead, "half").unwrap();
    fill(folder.path(), &[numbered(2)]);
    assert!(live.exists() && !dead.exists());
    drop(file);
    fill(folder.path(), &[numbered(3)]);
    assert!(!live.exists());
    // What has another name is nothing to us.
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    fill(folder.path(), &[numbered(4)]);
    assert!(folder.path().join("notes.txt").exists());
}

#[test]
fn two_processes_that_keep_the_same_modules_do_not_disturb_each_other() {
    let folder = folder();
    let mut writers: Vec<_> = (0..4).map(|_| Writer::start(folder.path(), 0)).collect();
    for writer in &mut writers {
        assert_eq!(writer.kept(20).len(), 20);
    }
    let kept = writers.into_iter().map(Writer::kill).map(|kept| kept.into_iter().max().unwrap_or(20)).max();
    check(folder.path(), &(0..kept.unwrap()).collect::<Vec<_>>());
}
