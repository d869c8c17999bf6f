//! WASI without a VM around it: what a guest is given and refused, how its input and output pass through the steps, that
//! waiting costs nothing, and that no call of the system interface makes a slice long.

use crate::support::{
    Driver, PATIENCE, call, eventually, eventually_unused, limits, load, number, own, own_node, property, shared, wait,
};
use cybernetic_wasm_core::engine::{EngineConfig, Metering};
use cybernetic_wasm_core::error::{CallError, Limit, LimitError};
use cybernetic_wasm_core::execution::{Execution, Lane, Product, Setup, Step};
use cybernetic_wasm_core::host::Command;
use cybernetic_wasm_core::instance::{Instance, MemberId};
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::linker::Source;
use cybernetic_wasm_core::module::Module;
use cybernetic_wasm_core::runtime::Runtime;
use cybernetic_wasm_core::value::Value;
use cybernetic_wasm_core::wasi::{Clocks, Directory, Grants, Random};
use cybernetic_wasm_core::{Cancel, Denial, Error, Output, Stdin, Stream};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

// As WASI numbers them.
const BADF: i64 = 8;
const DQUOT: i64 = 19;
const INVAL: i64 = 28;
const MFILE: i64 = 33;
const NAMETOOLONG: i64 = 37;
const NFILE: i64 = 41;
const PERM: i64 = 63;
const NOTCAPABLE: i64 = 76;

const CREATE: i32 = 1;

/// What gives an errno gives it below zero. A path is one of three digits.
const GUEST: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $set_size (param i32 i64) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $sched_yield (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 8)
  (data (i32.const 512) "../")

  (func $or_errno (param $errno i32) (param $at i32) (result i32)
    (if (local.get $errno) (then (return (i32.sub (i32.const 0) (local.get $errno)))))
    (i32.load (local.get $at)))
  (func $vector (param $len i32)
    (i32.store (i32.const 0) (i32.const 4096))
    (i32.store (i32.const 4) (local.get $len)))
  (func $read (export "read") (param $fd i32) (param $size i32) (result i32)
    (call $vector (local.get $size))
    (call $or_errno (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 8)))
  (func $write (export "write") (param $fd i32) (param $len i32) (result i32)
    (call $vector (local.get $len))
    (call $or_errno (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (i32.const 8)))
  (func $put (export "put") (param $fd i32) (param $byte i32) (result i32)
    (i32.store8 (i32.const 4096) (local.get $byte))
    (call $write (local.get $fd) (i32.const 1)))

  (func (export "echo") (param $size i32) (result i32) (local $len i32) (local $sum i32)
    (loop $again
      (local.set $len (call $read (i32.const 0) (local.get $size)))
      (if (i32.gt_s (local.get $len) (i32.const 0))
        (then
          (drop (call $write (i32.const 1) (local.get $len)))
          (local.set $sum (i32.add (local.get $sum) (local.get $len)))
          (br $again))))
    (local.get $sum))
  (func (export "take") (param $size i32) (param $times i32) (result i32) (local $sum i32)
    (loop $again
      (local.set $sum (i32.add (local.get $sum) (call $read (i32.const 0) (local.get $size))))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))
    (local.get $sum))
  (func (export "words")
    (drop (call $put (i32.const 1) (i32.const 97)))
    (drop (call $put (i32.const 1) (i32.const 98)))
    (drop (call $put (i32.const 2) (i32.const 99)))
    (drop (call $put (i32.const 1) (i32.const 100))))
  (func (export "words_then_trap") (drop (call $put (i32.const 1) (i32.const 97))) unreachable)
  (func (export "complain_then_flood")
    (drop (call $put (i32.const 2) (i32.const 99)))
    (loop (drop (call $write (i32.const 1) (i32.const 100000))) (br 0)))
  (func (export "flood") (loop (drop (call $write (i32.const 1) (i32.const 100000))) (br 0)))

  (func $path (param $n i32)
    (i32.store8 (i32.const 515) (i32.add (i32.const 48) (i32.div_u (local.get $n) (i32.const 100))))
    (i32.store8 (i32.const 516)
      (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $n) (i32.const 10)) (i32.const 10))))
    (i32.store8 (i32.const 517) (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10)))))
  (func $open_at (param $at i32) (param $len i32) (param $how i32) (result i32)
    (call $or_errno
      (call $path_open (i32.const 3) (i32.const 0) (local.get $at) (local.get $len) (local.get $how)
        (i64.const 0x400042) (i64.const 0) (i32.const 0) (i32.const 8))
      (i32.const 8)))
  (func $open (export "open") (param $n i32) (param $how i32) (result i32)
    (call $path (local.get $n))
    (call $open_at (i32.const 515) (i32.const 3) (local.get $how)))
  (func (export "open_to_read") (param $n i32) (result i32)
    (call $path (local.get $n))
    (call $or_errno
      (call $path_open (i32.const 3) (i32.const 0) (i32.const 515) (i32.const 3) (i32.const 0)
        (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8))
      (i32.const 8)))
  (func (export "open_long") (param $len i32) (result i32)
    (memory.fill (i32.const 4096) (i32.const 97) (local.get $len))
    (call $open_at (i32.const 4096) (local.get $len) (i32.const 0)))
  (func $escape (export "escape") (param $n i32) (result i32)
    (call $path (local.get $n))
    (call $open_at (i32.const 512) (i32.const 6) (i32.const 0)))
  (func (export "escapes") (param $first i32) (param $count i32) (result i32) (local $errno i32)
    (loop $again
      (local.set $errno (call $escape (i32.add (local.get $first) (local.get $count))))
      (br_if $again (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (local.get $errno))
  (func (export "close") (param $fd i32) (result i32) (i32.sub (i32.const 0) (call $fd_close (local.get $fd))))
  (func (export "size") (param $fd i32) (param $size i64) (result i32)
    (i32.sub (i32.const 0) (call $set_size (local.get $fd) (local.get $size))))
  (func (export "list") (param $len i32) (result i32)
    (call $or_errno
      (call $readdir (i32.const 3) (i32.const 4096) (local.get $len) (i64.const 0) (i32.const 8)) (i32.const 8)))
  (func (export "write_new") (param $n i32) (param $len i32) (result i32)
    (call $write (call $open (local.get $n) (i32.const 1)) (local.get $len)))

  (func (export "look") (param $clock i32) (result i64)
    (if (call $clock (local.get $clock) (i64.const 0) (i32.const 8)) (then (return (i64.const -1))))
    (i64.load (i32.const 8)))
  ;; The type of the one event, or an errno below zero. Subscriptions are at 1024, events at 2048.
  (func $polled (param $count i32) (result i32)
    (if (i32.ne (call $or_errno
          (call $poll (i32.const 1024) (i32.const 2048) (local.get $count) (i32.const 8)) (i32.const 8)) (i32.const 1))
      (then (return (i32.sub (i32.const 0) (call $poll (i32.const 1024) (i32.const 2048) (local.get $count) (i32.const 8))))))
    (i32.load8_u (i32.const 2058)))
  (func $await (param $at i32) (param $id i32) (param $time i64) (param $flags i32)
    (i32.store8 offset=8 (local.get $at) (i32.const 0))
    (i32.store offset=16 (local.get $at) (local.get $id))
    (i64.store offset=24 (local.get $at) (local.get $time))
    (i32.store16 offset=40 (local.get $at) (local.get $flags)))
  (func $sleep (export "sleep") (param $time i64) (result i32)
    (call $await (i32.const 1024) (i32.const 1) (local.get $time) (i32.const 0))
    (call $polled (i32.const 1)))
  (func (export "sleep_until") (param $clock i32) (param $time i64) (result i32)
    (call $await (i32.const 1024) (local.get $clock) (local.get $time) (i32.const 1))
    (call $polled (i32.const 1)))
  (func (export "stdin_or_sleep") (param $time i64) (result i32)
    (i32.store8 (i32.const 1032) (i32.const 1))
    (i32.store (i32.const 1040) (i32.const 0))
    (call $await (i32.const 1072) (i32.const 1) (local.get $time) (i32.const 0))
    (call $polled (i32.const 2)))
  (func (export "poll_many") (param $count i32) (result i32)
    (i32.sub (i32.const 0) (call $poll (i32.const 8192) (i32.const 262144) (local.get $count) (i32.const 8))))

  (func (export "random") (result i32)
    (call $or_errno (call $random_get (i32.const 8) (i32.const 4)) (i32.const 8)))
  (func (export "randoms") (param $len i32) (param $times i32)
    (loop $again
      (drop (call $random_get (i32.const 0) (local.get $len)))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1))))))
  (func (export "args") (result i32)
    (call $or_errno (call $args_sizes (i32.const 8) (i32.const 12)) (i32.const 8)))
  (func (export "spam") (param $times i32)
    (loop $again
      (drop (call $args_sizes (i32.const 8) (i32.const 12)))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1))))))
  (func (export "yields") (param $times i32)
    (loop $again
      (drop (call $sched_yield))
      (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1))))))
  (func (export "quit") (param i32) (drop (call $put (i32.const 1) (i32.const 113))) (call $exit (local.get 0)))
  (func (export "bad_pointer") (result i32) (call $fd_write (i32.const 1) (i32.const -16) (i32.const 1) (i32.const 8))))"#;

fn guest() -> Arc<Module> {
    load(shared(), GUEST)
}

/// Which of the guest's imports it is.
fn import(name: &str) -> u32 {
    guest().imports().iter().position(|import| import.name == name).unwrap() as u32
}

/// Nothing but what every guest of WASI has.
fn nothing() -> Grants {
    Grants {
        args: vec!["guest".into()],
        env: Vec::new(),
        dirs: Vec::new(),
        scratch: None,
        quota: 1_000_000,
        max_open: 64,
        clocks: Clocks::None,
        random: Random::None,
        stdio: [false; 3],
        terminals: [false; 3],
        answered: Vec::new(),
    }
}

fn stdio() -> Grants {
    Grants { stdio: [true; 3], ..nothing() }
}

fn clocks(clocks: Clocks) -> Grants {
    Grants { clocks, ..stdio() }
}

fn directory(host: &Path, writable: bool) -> Grants {
    Grants { dirs: vec![Directory { host: host.to_owned(), guest: "/data".into(), writable }], ..stdio() }
}

fn setup(module: &Module, grants: Grants, limits: Limits) -> Setup {
    Setup { limits, engine: *module.requested(), wasi: Some(Arc::new(grants)) }
}

/// A call in a fresh instance with these grants, not yet stepped.
fn start(module: &Arc<Module>, (name, args): (&str, &[Value]), grants: Grants, limits: Limits) -> Execution {
    let function = module.function(name).unwrap();
    Execution::call(module, &function, args.to_vec(), setup(module, grants, limits)).unwrap()
}

fn begin(name: &str, args: &[Value], grants: Grants) -> Execution {
    start(&guest(), (name, args), grants, limits())
}

fn run(name: &str, args: &[Value], grants: Grants) -> Result<Vec<Value>, Error> {
    Driver::default().values(&mut begin(name, args, grants))
}

fn live(grants: Grants) -> Arc<Instance> {
    live_on(shared(), grants)
}

fn live_on(runtime: &Arc<Runtime>, grants: Grants) -> Arc<Instance> {
    let module = load(runtime, GUEST);
    let mut making = Execution::instantiate(&module, false, setup(&module, grants, limits())).unwrap();
    match Driver::default().drive(&mut making).unwrap() {
        Product::Instance(instance) => instance,
        other => panic!("an instantiation made {other:?}"),
    }
}

fn on(instance: &Arc<Instance>, name: &str, args: &[Value]) -> i64 {
    number(crate::support::call_on(instance, name, args))
}

fn text(output: &Output, stream: Stream) -> String {
    String::from_utf8(output.of(stream).to_vec()).unwrap()
}

fn fixture(name: &str) -> Arc<Module> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/fixtures/wasi").join(name);
    load(shared(), std::fs::read(path).unwrap())
}

/// The next step that is more than a spent slice, which a busy machine may cut anywhere.
fn next(execution: &mut Execution) -> Step {
    loop {
        match execution.step(Lane::Dirty) {
            Step::Yielded => {}
            step => return step,
        }
    }
}

fn i32s(values: &[i32]) -> Vec<Value> {
    values.iter().map(|value| Value::I32(*value)).collect()
}

// Programs

/// Runs a program to its end and gives its exit code and output.
fn run_program(module: &Arc<Module>, args: &[&str], stdin: &[u8], grants: Grants) -> (u32, Output) {
    let grants = Grants { args: args.iter().map(ToString::to_string).collect(), ..grants };
    let mut execution = start(module, ("_start", &[]), grants, limits());
    execution.set_stdin(Stdin::Bytes(stdin.to_vec()));
    let code = match Driver::default().values(&mut execution) {
        Ok(_) => 0,
        Err(Error::Exit(code)) => code,
        Err(error) => panic!("{error}"),
    };
    (code, execution.take_output())
}

#[test]
fn programs_run_as_they_are() {
    let (code, output) = run_program(&fixture("hello.wasm"), &["hello"], b"", stdio());
    assert_eq!((code, text(&output, Stream::Stdout).as_str()), (0, "hello, world\n"));

    let tool = fixture("tool.wasm");
    let (code, output) = run_program(&tool, &["tool", "args", "one", "two"], b"", stdio());
    assert_eq!((code, text(&output, Stream::Stdout).as_str()), (0, "one\ntwo\n"));
    let (code, output) = run_program(&tool, &["tool", "upper"], b"some text\n", stdio());
    assert_eq!((code, text(&output, Stream::Stdout).as_str()), (0, "SOME TEXT\n"));
    let (code, output) = run_program(&tool, &["tool", "stderr", "oh"], b"", stdio());
    assert_eq!((code, text(&output, Stream::Stdout).as_str(), text(&output, Stream::Stderr).as_str()), (0, "", "oh\n"));
    assert_eq!(run_program(&tool, &["tool", "exit", "7"], b"", stdio()).0, 7);

    let report = fixture("rust_report.wasm");
    let grants = Grants { random: Random::Seeded(1), ..clocks(Clocks::Fixed(0)) };
    let lines = b"{\"level\":\"info\"}\n{\"level\":\"warn\"}\n{\"level\":\"info\"}\n";
    let (code, output) = run_program(&report, &["report", "--sleep", "1000000"], lines, grants);
    assert_eq!(
        (code, text(&output, Stream::Stdout).as_str()),
        (0, "info 2\nwarn 1\nlang none\nslept false\nyear 1970\n"),
        "on a clock that stands no sleep takes time"
    );
}

#[test]
fn an_exit_ends_the_guest_with_any_code() {
    for code in [0, 1, 125, 126, 255, 256, 1 << 31, u32::MAX] {
        let mut execution = begin("quit", &i32s(&[code as i32]), stdio());
        let error = Driver::default().values(&mut execution).unwrap_err();
        assert_eq!(error, Error::Exit(code));
        assert_eq!((error.kind(), execution.take_output().of(Stream::Stdout).to_vec()), ("exit", b"q".to_vec()));
    }
}

#[test]
fn a_bad_pointer_is_a_trap() {
    match run("bad_pointer", &[], stdio()).unwrap_err() {
        Error::Trap(trap) => {
            assert_eq!(trap.code, "wasi");
            assert!(trap.message.starts_with("a WASI function was given a bad pointer"), "{trap}");
        }
        other => panic!("{other}"),
    }
}

// Input

#[test]
fn input_that_is_there_is_read_and_then_its_end() {
    let mut execution = begin("echo", &i32s(&[3]), stdio());
    execution.set_stdin(Stdin::Bytes(b"seven b".to_vec()));
    assert_eq!(number(Driver::default().values(&mut execution)), 7);
    assert_eq!(text(&execution.take_output(), Stream::Stdout), "seven b");
    assert_eq!(number(run("echo", &i32s(&[3]), stdio())), 0, "without any it is at its end");
}

/// Steps to the next question for input.
fn asks(execution: &mut Execution) -> bool {
    matches!(next(execution), Step::WantsInput)
}

#[test]
fn input_is_asked_for_when_the_guest_has_read_all_and_reads_on() {
    let mut execution = begin("take", &i32s(&[2, 3]), stdio());
    execution.set_stdin(Stdin::Asked);
    assert!(asks(&mut execution), "nothing is there");
    execution.give_input(Some(b"abc".to_vec()));
    assert!(asks(&mut execution), "two reads are served by one piece, the second with what is left of it");
    execution.give_input(Some(b"defgh".to_vec()));
    let Step::Finished(Product::Values(values)) = next(&mut execution) else { panic!("it asks for more") };
    assert_eq!(number::<Error>(Ok(values)), 2 + 1 + 2);
}

#[test]
fn a_piece_of_nothing_is_no_end_and_the_end_is_one_for_good() {
    let mut execution = begin("take", &i32s(&[9, 4]), stdio());
    execution.set_stdin(Stdin::Asked);
    for _ in 0..5 {
        assert!(asks(&mut execution));
        execution.give_input(Some(Vec::new()));
    }
    assert!(asks(&mut execution));
    execution.give_input(Some(b"abc".to_vec()));
    assert!(asks(&mut execution));
    execution.give_input(None);
    assert_eq!(
        number(Driver::default().values(&mut execution)),
        3,
        "two more reads are told of the end, and ask nobody"
    );
}

#[test]
fn a_guest_that_waits_for_input_is_not_asked_for_twice() {
    let mut execution = begin("take", &i32s(&[9, 1]), stdio());
    execution.set_stdin(Stdin::Asked);
    assert!(asks(&mut execution));
    for _ in 0..3 {
        assert!(matches!(next(&mut execution), Step::Waiting), "a driver that has no answer yet may wait");
    }
    execution.give_input(Some(b"late".to_vec()));
    assert_eq!(number(Driver::default().values(&mut execution)), 4);
}

#[test]
fn what_is_read_is_the_same_however_it_comes() {
    let module = guest();
    let strategy = (
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
        1_i32..60,
        prop::collection::vec(prop::sample::select(&[Lane::Inline, Lane::Dirty][..]), 1..10),
        any::<bool>(),
    );
    property(60, strategy, |(pieces, size, lanes, streamed)| {
        let mut execution = start(&module, ("echo", &i32s(&[size])), stdio(), limits());
        execution.set_stdin(Stdin::Asked);
        if streamed {
            execution.hand_over_output();
        }
        let (mut left, mut lane) = (pieces.iter(), lanes.iter().cycle());
        let values = loop {
            match execution.step(*lane.next().unwrap()) {
                Step::Finished(Product::Values(values)) => break values,
                Step::WantsInput => execution.give_input(left.next().cloned()),
                Step::Yielded | Step::Output => {}
                other => panic!("{other:?}"),
            }
        };
        let whole = pieces.concat();
        prop_assert_eq!(number::<Error>(Ok(values)), whole.len() as i64);
        prop_assert_eq!(execution.take_output().of(Stream::Stdout).to_vec(), whole);
        Ok(())
    });
}

// Output

fn pieces(output: &Output) -> Vec<(Stream, &[u8])> {
    output.pieces().collect()
}

#[test]
fn output_keeps_its_order_between_streams_and_its_pieces_are_the_guests_only_there() {
    let mut execution = begin("words", &[], stdio());
    Driver::default().values(&mut execution).unwrap();
    let output = execution.take_output();
    assert_eq!(pieces(&output), [(Stream::Stdout, &b"ab"[..]), (Stream::Stderr, b"c"), (Stream::Stdout, b"d")]);
    assert_eq!(text(&output, Stream::Stdout), "abd");
    assert!(pieces(&execution.take_output()).is_empty(), "it is taken once");
    assert_eq!(execution.usage().output, 4);
}

#[test]
fn output_that_is_handed_over_ends_the_step_after_each_write() {
    let mut execution = begin("words", &[], stdio());
    execution.hand_over_output();
    let expected = [(Stream::Stdout, b"a"), (Stream::Stdout, b"b"), (Stream::Stderr, b"c"), (Stream::Stdout, b"d")];
    for piece in expected {
        assert!(matches!(next(&mut execution), Step::Output), "{piece:?}");
        assert_eq!(pieces(&execution.take_output()), [(piece.0, &piece.1[..])]);
    }
    assert!(matches!(next(&mut execution), Step::Finished(_)));
}

#[test]
fn streams_are_taken_one_by_one_and_the_others_stay() {
    let mut execution = begin("words", &[], stdio());
    execution.hand_over_output();
    let mut errors = Vec::new();
    while matches!(next(&mut execution), Step::Output) {
        errors.extend(execution.take_output_of(&[Stream::Stderr]).of(Stream::Stderr).to_vec());
    }
    assert_eq!(errors, b"c");
    assert_eq!(text(&execution.take_output(), Stream::Stdout), "abd");
}

#[test]
fn what_was_written_before_a_failure_is_there() {
    let mut execution = begin("words_then_trap", &[], stdio());
    assert!(matches!(Driver::default().values(&mut execution), Err(Error::Trap(_))));
    assert_eq!(text(&execution.take_output(), Stream::Stdout), "a");
}

#[test]
fn output_is_limited_together() {
    for (max_output, written) in [(4, "abcd"), (3, "abc"), (1, "a"), (0, "")] {
        let mut execution = start(&guest(), ("words", &[]), stdio(), Limits { max_output, ..limits() });
        match Driver::default().values(&mut execution) {
            Ok(_) => assert_eq!(max_output, 4),
            Err(error) => {
                assert_eq!(error, LimitError { limit: Limit::Output, allowed: max_output, used: max_output + 1 }.into())
            }
        }
        let output = execution.take_output();
        let whole: Vec<u8> = output.pieces().flat_map(|(_, piece)| piece.to_vec()).collect();
        assert_eq!(whole, written.as_bytes());
    }
}

#[test]
fn captured_output_counts_as_memory_of_the_node_until_it_is_taken() {
    let runtime = own_node(|node| node.max_total_memory = 2_000_000);
    let module = load(&runtime, GUEST);
    let unlimited = Limits { max_output: u64::MAX, ..limits() };
    let mut execution = start(&module, ("flood", &[]), stdio(), unlimited.clone());
    match Driver::default().values(&mut execution).unwrap_err() {
        Error::Limit(error) => assert_eq!(error.limit, Limit::TotalMemory),
        other => panic!("{other}"),
    }
    assert!(execution.take_output().of(Stream::Stdout).to_vec().len() < 2_000_000);
    drop(execution);
    eventually_unused(&runtime);

    // One that is read as it is written may write as much as it likes, also where nobody takes what it says beside that.
    for name in ["flood", "complain_then_flood"] {
        let mut execution = start(&module, (name, &[]), stdio(), unlimited.clone());
        execution.hand_over_output();
        let mut taken = 0;
        while taken < 20_000_000 {
            match next(&mut execution) {
                Step::Output => taken += execution.take_output_of(&[Stream::Stdout]).of(Stream::Stdout).to_vec().len(),
                other => panic!("{name}: {other:?}"),
            }
        }
        drop(execution);
        eventually_unused(&runtime);
    }
}

// Waiting

fn sleeping(time: Duration, limits: Limits) -> Execution {
    start(&guest(), ("sleep", &[Value::I64(time.as_nanos() as i64)]), clocks(Clocks::Real), limits)
}

/// Counts how often a listener is called.
fn counting(count: &Arc<AtomicUsize>) -> cybernetic_wasm_core::Listener {
    let count = Arc::clone(count);
    Box::new(move || _ = count.fetch_add(1, SeqCst))
}

#[test]
fn a_sleeping_guest_is_polled_when_it_starts_and_when_it_wakes() {
    let (time, began) = (Duration::from_millis(100), Instant::now());
    let mut execution = sleeping(time, limits());
    assert!(matches!(next(&mut execution), Step::Waiting));
    let calls = Arc::new(AtomicUsize::new(0));
    assert!(execution.listen(counting(&calls)).is_some());
    eventually("a wake-up", || calls.load(SeqCst) > 0);
    assert!(began.elapsed() >= time);
    let Step::Finished(Product::Values(values)) = next(&mut execution) else { panic!("it sleeps on") };
    assert_eq!(number::<Error>(Ok(values)), 0, "the event is the clock's");
    assert_eq!(calls.load(SeqCst), 1);
    let usage = execution.usage();
    assert!(usage.wall >= time && usage.slice < time, "sleeping is no time on a scheduler: {usage:?}");
}

#[test]
fn looking_at_a_sleeping_guest_does_not_wake_it() {
    let (time, began) = (Duration::from_millis(100), Instant::now());
    let mut execution = sleeping(time, limits());
    for _ in 0..10 {
        assert!(matches!(next(&mut execution), Step::Waiting));
    }
    assert!(Driver::default().values(&mut execution).is_ok());
    assert!(began.elapsed() >= time);
}

#[test]
fn many_sleep_at_once_on_one_thread_with_two_polls_each() {
    const GUESTS: usize = 300;
    let module = load(shared(), GUEST);
    let time = Duration::from_millis(200);
    let began = Instant::now();
    let mut guests: Vec<_> = (0..GUESTS)
        .map(|_| start(&module, ("sleep", &[Value::I64(time.as_nanos() as i64)]), clocks(Clocks::Real), limits()))
        .collect();
    let mut polls = 0;
    for guest in &mut guests {
        assert!(matches!(next(guest), Step::Waiting));
        polls += 1;
    }
    for guest in &mut guests {
        wait(guest);
        assert!(matches!(next(guest), Step::Finished(_)));
        polls += 1;
    }
    assert_eq!(polls, 2 * GUESTS);
    // One after the other it would take a minute.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_sleep_ends_with_the_deadline() {
    let mut execution = sleeping(Duration::from_secs(3_600), Limits { time: Duration::from_millis(50), ..limits() });
    match Driver::default().values(&mut execution).unwrap_err() {
        Error::Limit(LimitError { limit: Limit::Time, allowed: 50, used }) => assert!((50..10_000).contains(&used)),
        other => panic!("{other}"),
    }
}

#[test]
fn a_sleep_is_cancelled_and_its_listener_called() {
    let cancel = Arc::new(Cancel::default());
    let mut execution = sleeping(Duration::from_secs(3_600), Limits { time: PATIENCE, ..limits() });
    execution.cancel_by(&cancel);
    assert!(matches!(next(&mut execution), Step::Waiting));
    let calls = Arc::new(AtomicUsize::new(0));
    assert!(execution.listen(counting(&calls)).is_some());
    cancel.cancel();
    assert_eq!(calls.load(SeqCst), 1);
    assert!(matches!(next(&mut execution), Step::Failed(Error::Cancelled)));
}

#[test]
fn a_sleeping_guest_that_is_dropped_leaves_nothing_behind() {
    let runtime = own(|_| {});
    let module = load(&runtime, GUEST);
    for _ in 0..20 {
        let hour = Value::I64(3_600_000_000_000);
        let mut execution = start(&module, ("sleep", &[hour]), clocks(Clocks::Real), limits());
        assert!(matches!(next(&mut execution), Step::Waiting));
    }
    eventually_unused(&runtime);
}

#[test]
fn no_sleep_is_too_long_or_too_short_to_understand() {
    assert_eq!(number(run("sleep", &[Value::I64(0)], clocks(Clocks::Real))), 0);
    // As unsigned numbers these are centuries.
    for time in [i64::MAX, -1, i64::MIN] {
        let mut execution = begin("sleep", &[Value::I64(time)], clocks(Clocks::Real));
        assert!(matches!(next(&mut execution), Step::Waiting), "{time}");
    }
    // What is past is due.
    for clock in [0, 1] {
        assert_eq!(number(run("sleep_until", &[Value::I32(clock), Value::I64(0)], clocks(Clocks::Real))), 0);
    }
}

#[test]
fn input_ends_a_sleep_and_a_sleep_the_waiting_for_input() {
    let hour = Value::I64(3_600_000_000_000);
    for (pieces, event) in
        [(vec![Some(b"x".to_vec())], 1), (vec![None], 1), (vec![Some(vec![]), Some(b"x".to_vec())], 1)]
    {
        let mut execution = begin("stdin_or_sleep", std::slice::from_ref(&hour), clocks(Clocks::Real));
        execution.set_stdin(Stdin::Asked);
        for piece in pieces {
            assert!(asks(&mut execution));
            execution.give_input(piece);
        }
        let Step::Finished(Product::Values(values)) = next(&mut execution) else { panic!("it waits on") };
        assert_eq!(number::<Error>(Ok(values)), event, "the event is the input's");
    }
    // Whoever has nothing to give may let the time pass.
    let mut execution = begin("stdin_or_sleep", &[Value::I64(50_000_000)], clocks(Clocks::Real));
    execution.set_stdin(Stdin::Asked);
    assert!(asks(&mut execution));
    assert!(matches!(next(&mut execution), Step::Waiting));
    wait(&execution);
    let Step::Finished(Product::Values(values)) = next(&mut execution) else { panic!("it waits on") };
    assert_eq!(number::<Error>(Ok(values)), 0, "the event is the clock's");
}

#[test]
fn a_poll_takes_so_many_subscriptions_and_no_more() {
    // Without descriptor 0 a subscription of zeros is a clock's, which is due.
    for (count, errno) in [(0, INVAL), (1, 0), (4_096, 0), (4_097, INVAL), (-1, INVAL)] {
        assert_eq!(number(run("poll_many", &i32s(&[count]), clocks(Clocks::Real))), -errno, "{count}");
    }
}

// Clocks and random numbers

#[test]
fn a_clock_that_stands_stands_and_sleeping_takes_no_time() {
    let instance = live(clocks(Clocks::Fixed(1_000)));
    let look = |clock| on(&instance, "look", &i32s(&[clock]));
    assert_eq!([look(0), look(0), look(1), look(1)], [1_000, 1_000, 0, 0]);
    let mut execution = crate::support::start_on(&instance, "sleep", &[Value::I64(i64::MAX)], limits()).unwrap();
    assert!(matches!(next(&mut execution), Step::Finished(_)), "there is nothing to wait for");
    assert_eq!(on(&instance, "sleep_until", &[Value::I32(0), Value::I64(i64::MAX)]), 0);
    assert_eq!([look(0), look(1)], [1_000, 0]);
}

#[test]
fn a_clock_that_steps_moves_with_looks_and_sleeps() {
    let instance = live(clocks(Clocks::Stepped(1_000, 10)));
    let look = |clock| on(&instance, "look", &i32s(&[clock]));
    assert_eq!([look(0), look(0), look(1), look(0)], [1_000, 1_010, 20, 1_030]);
    assert_eq!(on(&instance, "sleep", &[Value::I64(500)]), 0);
    assert_eq!(look(0), 1_540, "a sleep is no look");
    assert_eq!(on(&instance, "sleep_until", &[Value::I32(0), Value::I64(2_000)]), 0);
    assert_eq!(look(0), 2_000);
    assert_eq!(on(&instance, "sleep_until", &[Value::I32(1), Value::I64(5_000)]), 0);
    assert_eq!([look(1), look(0)], [5_000, 6_010]);
}

#[test]
fn a_clock_does_not_pass_its_end() {
    let instance = live(clocks(Clocks::Stepped(u64::MAX - 5, 10)));
    let look = || on(&instance, "look", &i32s(&[0])) as u64;
    assert_eq!([look(), look(), look()], [u64::MAX - 5, u64::MAX, u64::MAX]);
    assert_eq!(on(&instance, "sleep", &[Value::I64(-1)]), 0);
    assert_eq!(look(), u64::MAX);
}

#[test]
fn the_real_clocks_are_real() {
    let instance = live(clocks(Clocks::Real));
    let look = |clock| on(&instance, "look", &i32s(&[clock]));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
    assert!((look(0) - now).abs() < 60_000_000_000);
    let (one, other) = (look(1), look(1));
    assert!(other >= one);
}

#[test]
fn a_seeds_random_numbers_are_the_same_each_time_and_go_on() {
    let drawn = |grants: Grants| {
        let instance = live(grants);
        [(); 3].map(|()| on(&instance, "random", &[]))
    };
    let seeded = |seed| Grants { random: Random::Seeded(seed), ..nothing() };
    let [one, two, three] = drawn(seeded(7));
    assert_eq!(drawn(seeded(7)), [one, two, three]);
    assert!(one != two && two != three && drawn(seeded(8))[0] != one);
    let system = || drawn(Grants { random: Random::System, ..nothing() });
    assert_ne!(system(), system());
}

// Grants

fn denials(execution: &Execution) -> Vec<(&'static str, &'static str, &'static str, u64)> {
    let told = |denial: &Denial| (denial.capability, denial.operation, denial.errno, denial.count);
    execution.take_denials().iter().map(told).collect()
}

#[test]
fn what_is_not_granted_is_refused_and_told() {
    for (name, args, errno, denial) in [
        ("random", vec![], NOTCAPABLE, Some(("random", "random_get", "notcapable", 1))),
        ("sleep", vec![Value::I64(1)], NOTCAPABLE, Some(("clocks", "poll_oneoff", "notcapable", 2))),
        ("read", i32s(&[0, 1]), BADF, Some(("stdio", "fd_read", "badf", 1))),
        ("put", i32s(&[1, 65]), BADF, Some(("stdio", "fd_write", "badf", 1))),
        ("put", i32s(&[2, 65]), BADF, Some(("stdio", "fd_write", "badf", 1))),
        // There is no such descriptor, granted or not.
        ("open", i32s(&[0, 0]), BADF, None),
        ("put", i32s(&[3, 65]), BADF, None),
    ] {
        let mut execution = begin(name, &args, nothing());
        assert_eq!(number(Driver::default().values(&mut execution)), -errno, "{name}");
        assert_eq!(denials(&execution), denial.into_iter().collect::<Vec<_>>(), "{name}");
        assert!(pieces(&execution.take_output()).is_empty());
    }
    assert_eq!(number(run("look", &i32s(&[0]), nothing())), -1);
    assert_eq!(number(run("args", &[], nothing())), 1);
}

#[test]
fn standard_streams_are_granted_each_for_itself() {
    for granted in 0..3 {
        let mut grants = nothing();
        grants.stdio[granted] = true;
        let instance = live(grants);
        let found = [
            on(&instance, "read", &i32s(&[0, 1])),
            on(&instance, "put", &i32s(&[1, 65])),
            on(&instance, "put", &i32s(&[2, 65])),
        ];
        let expected: Vec<i64> =
            (0..3).map(|stream| if stream != granted { -BADF } else { i64::from(stream != 0) }).collect();
        assert_eq!(found, expected[..]);
    }
}

#[test]
fn denials_are_counted_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut execution = begin("escapes", &i32s(&[0, 20]), directory(dir.path(), true));
    assert_eq!(number(Driver::default().values(&mut execution)), -PERM);
    let told = execution.take_denials();
    let paths: Vec<_> = told.iter().map(|denial| denial.detail.clone().unwrap()).collect();
    assert_eq!(paths, (1..=20).rev().map(|n| format!("../{n:03}")).collect::<Vec<_>>());
    assert!(told.iter().all(|denial| (denial.operation, denial.errno, denial.count) == ("path_open", "perm", 1)));
    assert!(execution.take_denials().is_empty(), "they are taken once");

    // The same a hundred times is one; different ones are kept up to a hundred, and then only counted.
    let instance = live(directory(dir.path(), true));
    let mut execution = crate::support::start_on(&instance, "escapes", &i32s(&[0, 999]), limits()).unwrap();
    Driver::default().values(&mut execution).unwrap();
    let told = execution.take_denials();
    assert_eq!(told.len(), 100);
    assert_eq!(told.iter().map(|denial| denial.count).sum::<u64>(), 999);
    let last = told.last().unwrap();
    assert_eq!((last.operation, &last.detail, last.count), ("others", &None, 900));
}

#[test]
fn a_directory_that_is_granted_to_read_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("001"), "content").unwrap();
    let instance = live(directory(dir.path(), false));
    let fd = on(&instance, "open_to_read", &i32s(&[1]));
    assert!(fd > 3);
    assert_eq!(on(&instance, "read", &i32s(&[fd as i32, 100])), 7);
    assert!(on(&instance, "open", &i32s(&[1, 0])) < 0, "not to write");
    assert!(on(&instance, "open", &i32s(&[2, CREATE])) < 0);
    assert!(on(&instance, "put", &i32s(&[fd as i32, 65])) < 0);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read(dir.path().join("001")).unwrap(), b"content");
}

#[test]
fn nothing_but_files_and_directories_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("001");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    // Opening one would keep the thread until somebody opens its other end.
    let mut execution = begin("open_to_read", &i32s(&[1]), directory(dir.path(), true));
    assert_eq!(number(Driver::default().values(&mut execution)), -PERM);
    assert_eq!(denials(&execution), [("filesystem", "path_open", "perm", 1)]);
}

#[test]
fn a_directory_that_is_not_there_is_the_callers_mistake() {
    let gone = PathBuf::from("/no/such/directory");
    let error = run("args", &[], directory(&gone, true)).unwrap_err();
    let Error::Call(CallError::NoDirectory { host, guest, detail }) = error else { panic!("{error}") };
    assert_eq!((host.as_str(), guest.as_str()), ("/no/such/directory", "/data"));
    assert!(detail.contains("No such file"), "{detail}");
}

#[test]
fn a_scratch_directory_is_the_guests_own_and_goes_with_it() {
    let name = format!("{:03}", std::process::id() % 1_000);
    let number = i32s(&[name.parse().unwrap(), CREATE]);
    let scratch = || Grants { scratch: Some("/tmp".into()), ..stdio() };
    let before = scratch_files(&name);
    let instance = live(scratch());
    let fd = on(&instance, "open", &number);
    assert_eq!(on(&instance, "put", &i32s(&[fd as i32, 65])), 1);
    let found: Vec<_> = scratch_files(&name).into_iter().filter(|path| !before.contains(path)).collect();
    assert!(found.iter().any(|path| std::fs::read(path).is_ok_and(|content| content == b"A")), "{found:?}");
    instance.close().unwrap();
    drop(instance);
    eventually("the directory is gone", || found.iter().all(|path| !path.exists()));

    // Also that of a guest which is cut off.
    let hour = Value::I64(3_600_000_000_000);
    let runtime = own(|_| {});
    let module = load(&runtime, GUEST);
    let grants = Grants { clocks: Clocks::Real, ..scratch() };
    let mut execution = start(&module, ("sleep", &[hour]), grants, limits());
    assert!(matches!(next(&mut execution), Step::Waiting));
    assert_eq!(runtime.ceilings().files(), 2, "the guest's, and one to remove it by");
    drop(execution);
    eventually_unused(&runtime);
    eventually("no open file", || runtime.ceilings().files() == 0);
}

fn scratch_files(name: &str) -> Vec<PathBuf> {
    let found = std::fs::read_dir(std::env::temp_dir()).unwrap().filter_map(Result::ok);
    let ours = found.filter(|entry| entry.file_name().to_string_lossy().starts_with("cybernetic-wasm-"));
    ours.map(|entry| entry.path().join(name)).filter(|path| path.exists()).collect()
}

// The quota

#[test]
fn what_is_written_counts_and_what_is_not_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let instance = live(Grants { quota: 4_096 + 1_000, ..directory(dir.path(), true) });
    let fd = on(&instance, "open", &i32s(&[1, CREATE])) as i32;
    let write = |bytes| on(&instance, "write", &i32s(&[fd, bytes]));
    assert_eq!(write(600), 600);
    assert_eq!(write(401), -DQUOT, "one too many");
    assert_eq!(write(400), 400, "what was refused has used nothing up");
    assert_eq!(write(1), -DQUOT);
    assert_eq!(std::fs::metadata(dir.path().join("001")).unwrap().len(), 1_000);
    assert_eq!(on(&instance, "open", &i32s(&[2, CREATE])), -DQUOT, "a file counts by itself");
    assert!(on(&instance, "open", &i32s(&[1, CREATE])) > 0, "one that is there does not");
}

#[test]
fn growing_a_file_counts_as_writing_and_shrinking_gives_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let instance = live(Grants { quota: 4_096 + 1_000, ..directory(dir.path(), true) });
    let fd = on(&instance, "open", &i32s(&[1, CREATE])) as i32;
    let size = |bytes| on(&instance, "size", &[Value::I32(fd), Value::I64(bytes)]);
    assert_eq!([size(600), size(1_001), size(i64::MAX), size(-1)], [0, -DQUOT, -DQUOT, -DQUOT]);
    assert_eq!([size(0), size(400), size(401)], [0, 0, -DQUOT]);
}

#[test]
fn what_cannot_be_opened_counts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let instance = live(Grants { quota: 4_096, max_open: 1, ..directory(dir.path(), true) });
    for n in 0..50 {
        assert!(on(&instance, "open", &i32s(&[n, 0])) < 0, "there is none");
        assert_eq!(on(&instance, "escape", &i32s(&[n])), -PERM);
        assert_eq!(on(&instance, "open_long", &i32s(&[4_097])), -NAMETOOLONG);
    }
    assert!(on(&instance, "open", &i32s(&[1, CREATE])) > 0);
    assert_eq!(on(&instance, "open", &i32s(&[1, 0])), -MFILE);
}

#[test]
fn a_guest_may_have_so_many_files_open_and_so_may_a_node() {
    let dir = tempfile::tempdir().unwrap();
    // A directory that is given is an open file, too.
    let runtime = own_node(|node| node.max_open_files = 5);
    let guests: Vec<_> =
        (0..2).map(|_| live_on(&runtime, Grants { max_open: 2, ..directory(dir.path(), true) })).collect();
    assert_eq!(runtime.ceilings().files(), 2);
    let open = |guest: usize| on(&guests[guest], "open", &i32s(&[1, CREATE]));
    let first = open(0);
    assert!(first > 0 && open(0) > 0);
    assert_eq!(open(0), -MFILE, "its own bound");
    assert!(open(1) > 0);
    assert_eq!(open(1), -NFILE, "the node's");
    assert_eq!(on(&guests[0], "close", &i32s(&[first as i32])), 0);
    assert!(open(1) > 0);

    let module = load(&runtime, GUEST);
    let mut execution = start(&module, ("args", &[]), directory(dir.path(), true), limits());
    match Driver::default().values(&mut execution).unwrap_err() {
        Error::Limit(error) => assert_eq!(error.limit, Limit::OpenFiles),
        other => panic!("{other}"),
    }
    drop((guests, execution));
    eventually("no open file", || runtime.ceilings().files() == 0);
}

#[test]
fn what_a_listing_is_read_into_counts_as_memory_of_the_node() {
    let dir = tempfile::tempdir().unwrap();
    // Room for the guest's own half a mebibyte, and for a short listing.
    let runtime = own_node(|node| node.max_total_memory = 800_000);
    let instance = live_on(&runtime, directory(dir.path(), false));
    for _ in 0..10 {
        assert!(on(&instance, "list", &i32s(&[100_000])) > 0, "what is done with counts no more");
    }
    match crate::support::call_on(&instance, "list", &i32s(&[400_000])).unwrap_err() {
        Error::Limit(error) => assert_eq!(error.limit, Limit::TotalMemory),
        other => panic!("{other}"),
    }
    drop(instance);
    eventually_unused(&runtime);
}

// Slices

/// Steps to the end on one lane, and gives how often it yielded.
fn yields_on(lane: Lane, execution: &mut Execution) -> usize {
    let lanes = [lane];
    let driver = Driver::default().on(&lanes);
    driver.values(execution).unwrap();
    driver.yields()
}

#[test]
fn a_call_that_takes_long_ends_its_slices_by_itself() {
    // Hardly any fuel is used, so that the guest alone would never come up for air.
    for lane in [Lane::Inline, Lane::Dirty] {
        let grants = Grants { random: Random::Seeded(1), ..nothing() };
        let mut execution = start(&guest(), ("randoms", &i32s(&[500_000, 200])), grants, limits());
        let yields = yields_on(lane, &mut execution);
        assert!(execution.usage().fuel.unwrap() < 50_000, "{:?}", execution.usage());
        // A hundred megabytes: two milliseconds on no machine.
        assert!(yields >= 2, "{yields} in {lane:?}");
        assert_eq!(execution.usage().slices as usize, yields + 1);
    }
}

#[test]
fn many_short_calls_end_their_slices_too() {
    // However the guest's own code is metered.
    let module = load(shared(), GUEST);
    for metering in [Metering::Fuel, Metering::Epoch] {
        let engine = EngineConfig { metering, ..*module.requested() };
        let function = module.function("spam").unwrap();
        let setup = Setup { limits: limits(), engine, wasi: Some(Arc::new(nothing())) };
        let mut execution = Execution::call(&module, &function, i32s(&[900_000]), setup).unwrap();
        let yields = yields_on(Lane::Inline, &mut execution);
        assert!(yields >= 10, "{yields} by {metering:?}");
        assert_eq!(execution.usage().host_calls, 900_000);
    }
}

#[test]
fn a_guest_that_yields_yields() {
    for lane in [Lane::Inline, Lane::Dirty] {
        let mut execution = begin("yields", &i32s(&[25]), nothing());
        assert!(yields_on(lane, &mut execution) >= 25, "{lane:?}");
    }
}

/// Whether what is left of a call can be done in one slice on a normal scheduler. A busy machine may cut it, but not always.
fn fits_inline(mut begin: impl FnMut() -> Execution) -> bool {
    (0..1_000).any(|_| matches!(begin().step(Lane::Inline), Step::Finished(_)))
}

#[test]
fn file_work_leaves_the_normal_scheduler_and_nothing_else_does() {
    assert!(fits_inline(|| begin("words", &[], stdio())), "there are no files");

    let dir = tempfile::tempdir().unwrap();
    let granted = || directory(dir.path(), true);
    let mut execution = begin("write_new", &i32s(&[1, 10]), granted());
    assert!(matches!(execution.step(Lane::Inline), Step::Yielded), "the directory is opened");
    // Opening, which is done on another thread besides, and writing: each is left to a dirty scheduler.
    let mut hops = 0;
    loop {
        match execution.step(Lane::Inline) {
            Step::Yielded => hops += 1,
            Step::Waiting => wait(&execution),
            _ => break,
        }
    }
    assert!(hops >= 2, "{hops}");
    assert_eq!(std::fs::metadata(dir.path().join("001")).unwrap().len(), 10);

    let made = || {
        let mut execution = begin("args", &[], granted());
        assert!(matches!(execution.step(Lane::Inline), Step::Yielded));
        execution
    };
    assert!(fits_inline(made), "arguments are no file");
}

#[test]
fn each_call_is_counted_and_so_limited() {
    let within = Limits { max_host_calls: 10, ..limits() };
    let mut execution = start(&guest(), ("spam", &i32s(&[10])), nothing(), within.clone());
    assert!(Driver::default().values(&mut execution).is_ok());
    assert_eq!(execution.usage().host_calls, 10);
    for (name, args) in [("spam", vec![Value::I32(11)]), ("yields", i32s(&[11])), ("randoms", i32s(&[1, 11]))] {
        let mut execution = start(&guest(), (name, &args), nothing(), within.clone());
        let error = Driver::default().values(&mut execution).unwrap_err();
        assert_eq!(error, LimitError { limit: Limit::HostCalls, allowed: 10, used: 11 }.into());
    }
}

// Who answers

#[test]
fn without_grants_the_driver_answers_every_import() {
    let (module, index) = (guest(), import("random_get"));
    let mut execution = crate::support::start(&module, "random", &[], limits());
    let answered = Driver::with_host(&|call| (call.import == index).then(|| i32s(&[0]))).values(&mut execution);
    assert_eq!(number(answered), 0);
    assert!(matches!(call(&module, "random", &[]), Err(Error::Host)), "nobody answers");
}

#[test]
fn the_driver_answers_those_imports_that_it_keeps() {
    let random = import("random_get");
    let grants = || Grants { answered: vec![random], ..stdio() };
    let mut execution = begin("random", &[], grants());
    let Step::HostCall { import, args, serial, .. } = next(&mut execution) else { panic!("WASI answers") };
    assert_eq!(import, random);
    assert!(crate::support::all_same(&args, &i32s(&[8, 4])));
    execution.command(serial, Command::Return(i32s(&[NOTCAPABLE as i32]))).unwrap();
    assert_eq!(number(Driver::default().values(&mut execution)), -NOTCAPABLE);
    assert!(execution.take_denials().is_empty());
    assert_eq!(number(run("put", &i32s(&[1, 65]), grants())), 1, "the others are WASI's");
}

#[test]
fn what_wasi_has_not_or_has_of_another_type_is_told() {
    let module = load(
        shared(),
        r#"(module
          (import "wasi_snapshot_preview1" "fd_wriet" (func (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func (param i64)))
          (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
          (func (export "f")))"#,
    );
    let mut execution = start(&module, ("f", &[]), nothing(), limits());
    let Err(Error::Link(problems)) = Driver::default().values(&mut execution) else { panic!("it links") };
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "wasi_snapshot_preview1.fd_wriet: (func (result i32)) (WASI preview 1 has no such function)",
            "wasi_snapshot_preview1.proc_exit: (func (param i64)) (WASI's has another type)"
        ]
    );
}

// Live guests

fn call_here(instance: &Arc<Instance>, name: &str, args: &[Value], stdin: &[u8]) -> (i64, String) {
    let mut execution = crate::support::start_on(instance, name, args, limits()).unwrap();
    execution.set_stdin(Stdin::Bytes(stdin.to_vec()));
    let result = number(Driver::default().values(&mut execution));
    (result, text(&execution.take_output(), Stream::Stdout))
}

#[test]
fn input_and_output_are_each_calls_own_on_a_live_guest() {
    let instance = live(stdio());
    assert_eq!(call_here(&instance, "echo", &i32s(&[3]), b"first"), (5, "first".into()));
    assert_eq!(call_here(&instance, "take", &i32s(&[1, 1]), b"left over"), (1, String::new()));
    assert_eq!(call_here(&instance, "echo", &i32s(&[3]), b"second"), (6, "second".into()));
    assert_eq!(on(&instance, "take", &i32s(&[9, 1])), 0, "none is none");
}

#[test]
fn an_exit_poisons_a_live_guest_and_a_reset_makes_its_system_anew() {
    let dir = tempfile::tempdir().unwrap();
    let grants = Grants { random: Random::Seeded(3), clocks: Clocks::Stepped(0, 1), ..directory(dir.path(), true) };
    let instance = live(grants);
    let random = on(&instance, "random", &[]);
    let fd = on(&instance, "open", &i32s(&[1, CREATE])) as i32;
    assert_eq!(on(&instance, "look", &i32s(&[0])), 0);
    assert!(matches!(crate::support::call_on(&instance, "quit", &i32s(&[0])), Err(Error::Exit(0))));
    assert_eq!(instance.state(), "poisoned");
    instance.survive_traps();
    let mut reset = Execution::reset(&instance, limits()).unwrap();
    assert!(matches!(Driver::default().drive(&mut reset), Ok(Product::Reset)));
    assert_eq!(on(&instance, "put", &i32s(&[fd, 65])), -BADF);
    assert_eq!((on(&instance, "random", &[]), on(&instance, "look", &i32s(&[0]))), (random, 0));
    // It is no trap.
    assert!(matches!(crate::support::call_on(&instance, "quit", &i32s(&[0])), Err(Error::Exit(0))));
    assert_eq!(instance.state(), "poisoned");
}

fn join(instance: &Arc<Instance>, module: &Arc<Module>, grants: Grants) -> Result<MemberId, Error> {
    let sources = module.imports().iter().map(|_| Source::Wasi).collect();
    let mut link = Execution::link(instance, instance.reserve(), (module, sources), setup(module, grants, limits()))?;
    match Driver::default().drive(&mut link)? {
        Product::Member(member) => Ok(member),
        other => panic!("a link made {other:?}"),
    }
}

fn on_member(instance: &Arc<Instance>, member: MemberId, name: &str) -> i64 {
    let function = instance.member(member).unwrap().function(name).unwrap();
    number(
        Driver::default().values(&mut Execution::call_member(instance, (member, &function), vec![], limits()).unwrap()),
    )
}

#[test]
fn members_share_one_system() {
    let seeded = |seed| Grants { random: Random::Seeded(seed), ..stdio() };
    let alone = live(seeded(5));
    let expected = [(); 3].map(|()| on(&alone, "random", &[]));

    let instance = live(seeded(5));
    let one = join(&instance, &guest(), Grants { args: vec!["another".into(), "x".into()], ..seeded(5) }).unwrap();
    let drawn = [on(&instance, "random", &[]), on_member(&instance, one, "random"), on(&instance, "random", &[])];
    assert_eq!(drawn, expected);
    assert_eq!(on_member(&instance, one, "args"), 1, "the command line is the first's");
    for other in
        [seeded(6), Grants { quota: 1, ..seeded(5) }, Grants { stdio: [true, true, false], ..seeded(5) }, nothing()]
    {
        assert!(matches!(join(&instance, &guest(), other), Err(Error::Call(CallError::OtherGrants))));
    }
}

#[test]
fn a_member_may_bring_the_system_and_a_reset_keeps_it() {
    let plain = load(shared(), r#"(module (func (export "f") (result i32) i32.const 1))"#);
    let instance = crate::support::instantiate(&plain, limits()).unwrap();
    let member = join(&instance, &guest(), Grants { random: Random::Seeded(4), ..stdio() }).unwrap();
    let random = on_member(&instance, member, "random");
    assert_ne!(on_member(&instance, member, "random"), random);
    assert!(matches!(Driver::default().drive(&mut Execution::reset(&instance, limits()).unwrap()), Ok(Product::Reset)));
    assert_eq!(on_member(&instance, member, "random"), random);
}

#[test]
fn what_a_reactor_wants_called_first_is_called_once() {
    let module = load(
        shared(),
        r#"(module
          (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "_initialize") (drop (call $random (i32.const 0) (i32.const 4))))
          (func (export "first") (result i32) (i32.load (i32.const 0))))"#,
    );
    let grants = || Grants { random: Random::Seeded(2), ..nothing() };
    let expected = on(&live(grants()), "random", &[]);
    let fresh = |name| Driver::default().values(&mut start(&module, (name, &[]), grants(), limits()));
    assert_eq!(number(fresh("first")), expected, "in a fresh instance");
    let mut making = Execution::instantiate(&module, false, setup(&module, grants(), limits())).unwrap();
    let Ok(Product::Instance(instance)) = Driver::default().drive(&mut making) else { panic!("no instance") };
    for _ in 0..3 {
        assert_eq!(on(&instance, "first", &[]), expected, "in a live one, and not again");
    }
}
