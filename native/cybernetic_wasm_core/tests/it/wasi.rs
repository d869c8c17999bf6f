//! WASI without a VM around it: what a guest is given and refused, how its input and output pass through the steps, that
//! waiting costs nothing, and that no call of the system interface makes a slice long.

mod answers;
mod clocks;
mod descriptors;
mod files;
mod grants;
mod listings;
mod members;
mod null;
mod paths;
mod polls;
mod previews;
mod programs;
mod raw;
mod slices;
mod stdio;

use crate::support::{
    Driver, Loaded, PATIENCE, call, eventually, eventually_unused, limits, load, number, own, own_node, property,
    shared, wait,
};
use cybernetic_wasm_core::engine::{EngineConfig, Metering};
use cybernetic_wasm_core::error::{CallError, Limit, LimitError};
use cybernetic_wasm_core::execution::{Execution, Product, Setup, Step, Tally};
use cybernetic_wasm_core::instance::Instance;
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::linker::Source;
use cybernetic_wasm_core::live::LiveGuest;
use cybernetic_wasm_core::mail::Command;
use cybernetic_wasm_core::member::MemberId;
use cybernetic_wasm_core::runtime::Runtime;
use cybernetic_wasm_core::system::{Clocks, Directory, FileTimes, Grants, Random};
use cybernetic_wasm_core::value::Value;
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
  (import "wasi_snapshot_preview1" "fd_pread" (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_pwrite" (func $fd_pwrite (param i32 i32 i32 i64 i32) (result i32)))
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

  ;; So many empty pieces.
  (func (export "read_pieces") (param $fd i32) (param $count i32) (result i32)
    (call $fd_read (local.get $fd) (i32.const 8192) (local.get $count) (i32.const 8)))
  (func (export "write_pieces") (param $fd i32) (param $count i32) (result i32)
    (call $fd_write (local.get $fd) (i32.const 8192) (local.get $count) (i32.const 8)))
  (func (export "read_pieces_at") (param $fd i32) (param $count i32) (result i32)
    (call $fd_pread (local.get $fd) (i32.const 8192) (local.get $count) (i64.const 0) (i32.const 8)))
  (func (export "write_pieces_at") (param $fd i32) (param $count i32) (result i32)
    (call $fd_pwrite (local.get $fd) (i32.const 8192) (local.get $count) (i64.const 0) (i32.const 8)))

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
  ;; Sleeps as long as the clock shows less, each time for what is left in multiples of so much, at most an hour. How often.
  (func (export "naps_until") (param $clock i32) (param $time i64) (param $unit i64) (result i32)
    (local $naps i32) (local $left i64)
    (block $there
      (loop $again
        (if (call $clock (local.get $clock) (i64.const 0) (i32.const 8)) (then (return (i32.const -1))))
        (local.set $left (i64.sub (local.get $time) (i64.load (i32.const 8))))
        (br_if $there (i64.le_s (local.get $left) (i64.const 0)))
        (if (i64.gt_s (local.get $left) (i64.const 3600000000000))
          (then (local.set $left (i64.const 3600000000000))))
        (if (call $sleep (i64.mul (i64.div_s (local.get $left) (local.get $unit)) (local.get $unit)))
          (then (return (i32.const -2))))
        (local.set $naps (i32.add (local.get $naps) (i32.const 1)))
        (br $again)))
    (local.get $naps))
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

fn guest() -> Loaded {
    load(shared(), GUEST)
}

/// Which of the guest's imports it is.
fn import(name: &str) -> u32 {
    guest().imports().iter().position(|import| import.name == name).unwrap() as u32
}

/// Nothing but what every guest of WASI has.
fn nothing() -> Grants {
    Grants { args: vec!["guest".into()], times: FileTimes::Real, quota: 1_000_000, max_open: 64, ..Grants::none() }
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

fn setup(module: &Loaded, grants: Grants, limits: Limits) -> Setup {
    Setup { grants: Some(Arc::new(grants)), ..module.setup(limits) }
}

/// A call in a fresh instance with these grants, not yet stepped.
fn start(module: &Loaded, (name, args): (&str, &[Value]), grants: Grants, limits: Limits) -> Execution {
    let function = module.function(name).unwrap();
    Execution::call(&module.module, &function, args.to_vec(), setup(module, grants, limits))
}

fn begin(name: &str, args: &[Value], grants: Grants) -> Execution {
    start(&guest(), (name, args), grants, limits())
}

fn run(name: &str, args: &[Value], grants: Grants) -> Result<Vec<Value>, Error> {
    Driver::default().values(&mut begin(name, args, grants))
}

fn live(grants: Grants) -> Arc<LiveGuest> {
    live_on(shared(), grants)
}

fn live_on(runtime: &Arc<Runtime>, grants: Grants) -> Arc<LiveGuest> {
    let module = load(runtime, GUEST);
    let mut making = Execution::instantiate(&module.module, false, setup(&module, grants, limits()));
    match Driver::default().drive(&mut making).unwrap() {
        Product::Guest(instance) => instance,
        other => panic!("an instantiation made {other:?}"),
    }
}

fn on(instance: &Arc<LiveGuest>, name: &str, args: &[Value]) -> i64 {
    number(crate::support::call_on(instance, name, args))
}

fn text(output: &Output, stream: Stream) -> String {
    String::from_utf8(output.of(stream).to_vec()).unwrap()
}

fn fixture(name: &str) -> Loaded {
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

/// Steps to the next question for input.
fn asks(execution: &mut Execution) -> bool {
    matches!(next(execution), Step::WantsInput)
}

fn pieces(output: &Output) -> Vec<(Stream, &[u8])> {
    output.pieces().collect()
}
