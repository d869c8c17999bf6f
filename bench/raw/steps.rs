//! The longest step of guests that make steps long: those whose instructions take as long as a thousand others.

use crate::core;
use crate::measure::{Effort, print};
use cybernetic_wasm_core::execution::{Execution, Setup, Step};
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::module::Module;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::time::Duration;
use wasmtime::{Result, bail};

/// A name, and a module whose `f` is called.
fn guests(effort: Effort) -> Vec<(&'static str, String)> {
    vec![
        ("plain loop", plain()),
        ("first touch of 80 MB", touch()),
        ("fill 80 MB in one instruction", fill()),
        ("grow by nothing", grow()),
        ("throw from 10,000 frames", throw(10_000, 1)),
        ("throw through 100 clauses in each of 1,000 frames", throw(1_000, 100)),
        ("collect with a million objects alive", collect(1_000_000)),
        ("collect a chain of a million dead objects", chain(1_000_000)),
        ("collect with an array of a million references", array(1_000_000)),
        ("make structures of 2,000 fields", structures(2_000)),
        // Compiling it takes a minute.
        ("call with 900 values", wide(effort.work(450, 1))),
        ("cast among 60 types", casts(60)),
        ("copy a table of 100,000 elements", table()),
    ]
}

/// Each guest, on both kinds of scheduler. The time is that of the longest step of a call.
pub(crate) fn longest(effort: Effort) -> Result<()> {
    let runtime = core::runtime();
    for (name, text) in guests(effort) {
        let module = core::load(&runtime, &wat::parse_str(&text)?)?;
        for (lane, words) in [(Lane::Inline, "inline"), (Lane::Dirty, "dirty")] {
            let setup = core::setup(&runtime, &module);
            let runs = (0..effort.rounds).map(|_| run(&module, setup.clone(), (lane, effort.tiny)));
            let longest = runs.collect::<Result<Vec<_>>>()?;
            print(&format!("longest step, {words}: {name}"), longest);
        }
    }
    Ok(())
}

/// To the guest's end, or one step.
fn run(module: &Arc<Module>, mut setup: Setup, (lane, one): (Lane, bool)) -> Result<f64> {
    setup.limits.time = Duration::from_secs(600);
    let function = module.code().function("f")?;
    let mut execution = Execution::call(module, &function, Vec::new(), setup);
    let mut longest = Duration::ZERO;
    loop {
        let began = on_processor();
        let step = execution.step(lane);
        longest = longest.max(on_processor() - began);
        match step {
            Step::Yielded if !one => {}
            Step::Yielded | Step::Finished(_) => return Ok(longest.as_nanos() as f64),
            other => bail!("{other:?}"),
        }
    }
}

/// Time that this thread has had of a processor: what else runs on the machine is no part of a step.
fn on_processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// `body` so many times, with `$i` counting down.
fn repeat(times: u32, body: &str) -> String {
    format!(
        "(local.set $i (i32.const {times})) (loop $l {body} (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))"
    )
}

fn plain() -> String {
    format!(r#"(module (func (export "f") (local $i i32) {}))"#, repeat(10_000_000, "nop"))
}

fn touch() -> String {
    let body = "(i32.store8 (i32.mul (local.get $i) (i32.const 4096)) (i32.const 1))";
    format!(r#"(module (memory 1250) (func (export "f") (local $i i32) {}))"#, repeat(19_999, body))
}

fn fill() -> String {
    r#"(module (memory 1250) (func (export "f") (memory.fill (i32.const 0) (i32.const 1) (i32.const 80000000))))"#
        .into()
}

fn grow() -> String {
    let body = "(drop (memory.grow (i32.const 0)))";
    format!(r#"(module (memory 1) (func (export "f") (local $i i32) {}))"#, repeat(100_000, body))
}

/// So many frames, each with so many clauses for another tag around its call.
fn throw(frames: u32, clauses: usize) -> String {
    let catches = "(catch $other $none) ".repeat(clauses);
    format!(
        r#"(module (tag $thrown) (tag $other)
          (func $down (param i32)
            (if (i32.eqz (local.get 0)) (then (throw $thrown)))
            (block $none (try_table {catches} (call $down (i32.sub (local.get 0) (i32.const 1))))))
          (func (export "f") (local $i i32)
            {}))"#,
        repeat(20, &format!("(block $caught (try_table (catch $thrown $caught) (call $down (i32.const {frames}))))"))
    )
}

const NODE: &str = "(type $node (struct (field (mut (ref null $node)))))";

fn collect(alive: u32) -> String {
    format!(
        r#"(module {NODE} (global $list (mut (ref null $node)) (ref.null $node))
          (func (export "f") (local $i i32) {} {}))"#,
        repeat(alive, "(global.set $list (struct.new $node (global.get $list)))"),
        repeat(5_000_000, "(drop (struct.new $node (ref.null $node)))"),
    )
}

fn chain(dead: u32) -> String {
    format!(
        r#"(module {NODE} (global $list (mut (ref null $node)) (ref.null $node))
          (func $fill (local $i i32) {})
          (func (export "f") (local $i i32)
            {}))"#,
        repeat(dead, "(global.set $list (struct.new $node (global.get $list)))"),
        repeat(4, "(call $fill) (global.set $list (ref.null $node))"),
    )
}

fn array(length: u32) -> String {
    format!(
        r#"(module {NODE} (type $row (array (mut (ref null $node))))
          (global $row (mut (ref null $row)) (ref.null $row))
          (func (export "f") (local $i i32)
            (global.set $row (array.new $row (struct.new $node (ref.null $node)) (i32.const {length}))) {}))"#,
        repeat(5_000_000, "(drop (struct.new $node (ref.null $node)))"),
    )
}

fn structures(fields: usize) -> String {
    format!(
        r#"(module (type $wide (struct {}))
          (func (export "f") (local $i i32) {}))"#,
        "(field i64) ".repeat(fields),
        repeat(50_000, "(drop (struct.new_default $wide))"),
    )
}

fn wide(values: usize) -> String {
    let types = "i64 ".repeat(values);
    format!(
        r#"(module (type $same (func (param {types}) (result {types})))
          (func $same (type $same) {})
          (func (export "f") (local $i i32) {} {} {}))"#,
        (0..values).map(|index| format!("(local.get {index}) ")).collect::<String>(),
        "(i64.const 1) ".repeat(values),
        "(call $same) ".repeat(2_000),
        "drop ".repeat(values),
    )
}

fn casts(types: usize) -> String {
    let declared: String = (0..types)
        .map(|index| format!("(type $t{index} (sub $base (struct (field i32) {})))", "(field i64)".repeat(index + 1)))
        .collect();
    let make: String =
        (0..types).map(|index| format!("(table.set (i32.const {index}) (struct.new_default $t{index}))")).collect();
    let tests: String = (0..types)
        .map(|index| {
            format!("(drop (ref.test (ref $t{index}) (table.get (i32.rem_u (local.get $i) (i32.const {types})))))")
        })
        .collect();
    format!(
        r#"(module (type $base (sub (struct (field i32)))) {declared} (table {types} (ref null $base))
          (func (export "f") (local $i i32) {make} {}))"#,
        repeat(20_000, &tests),
    )
}

fn table() -> String {
    let body = "(table.copy (i32.const 0) (i32.const 0) (i32.const 100000))";
    format!(r#"(module (table 100000 funcref) (func (export "f") (local $i i32) {}))"#, repeat(100, body))
}
