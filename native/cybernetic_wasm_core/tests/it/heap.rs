//! Guests whose structures and exceptions live on a heap that is collected, and what they take of a slice.

use crate::support::{
    Driver, call_on, call_within, instantiate, limits, load, number, own, run_within, shared, start, start_on, try_load,
};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::error::{Blame, Limit, LoadError};
use cybernetic_wasm_core::execution::Step;
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::value::Value;

const PAIRS: &str = r#"(module
  (type $node (struct (field $other (mut (ref null $node))) (field i64)))
  (global $kept (mut (ref null $node)) (ref.null $node))
  (func (export "pairs") (param $count i32) (result i32) (local $one (ref null $node))
    (loop $l
      (local.set $one (struct.new $node (ref.null $node) (i64.const 1)))
      (struct.set $node $other (local.get $one) (struct.new $node (local.get $one) (i64.const 2)))
      (br_if $l (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (i32.const 1))
  (func (export "keep") (param $count i32) (result i32)
    (loop $l
      (global.set $kept (struct.new $node (global.get $kept) (i64.extend_i32_u (local.get $count))))
      (br_if $l (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))
    (i32.const 1))
  (func (export "sum") (result i64) (local $node (ref null $node)) (local $sum i64)
    (local.set $node (global.get $kept))
    (block $end (loop $l
      (br_if $end (ref.is_null (local.get $node)))
      (local.set $sum (i64.add (local.get $sum) (struct.get $node 1 (local.get $node))))
      (local.set $node (struct.get $node $other (local.get $node)))
      (br $l)))
    (local.get $sum)))"#;

#[test]
fn dead_structures_that_refer_to_each_other_are_collected() {
    let module = load(shared(), PAIRS);
    let small = Limits { max_memory: 2_000_000, ..limits() };
    assert_eq!(number(call_within(&module, "pairs", &[Value::I32(1_000_000)], small)), 1);
}

#[test]
fn what_is_alive_stays_through_collections_and_over_calls() {
    let module = load(shared(), PAIRS);
    let instance = instantiate(&module, limits()).unwrap();
    let call = |name, args: &[Value]| call_on(&instance, name, args);
    assert_eq!(number(call("keep", &[Value::I32(100_000)])), 1);
    assert_eq!(number(call("pairs", &[Value::I32(1_000_000)])), 1);
    assert_eq!(number(call("sum", &[])), 100_000 * 100_001 / 2);
}

#[test]
fn structures_that_are_alive_meet_the_memory_limit() {
    let module = load(shared(), PAIRS);
    let small = Limits { max_memory: 2_000_000, ..limits() };
    let error = call_within(&module, "keep", &[Value::I32(1_000_000)], small).unwrap_err();
    assert!(matches!(&error, Error::Limit(error) if error.limit == Limit::Memory), "{error:?}");
}

#[test]
fn a_collection_gives_way_in_the_middle() {
    // On a normal scheduler a step ends a little after its time, however much is alive.
    let module = load(shared(), PAIRS);
    let instance = instantiate(&module, limits()).unwrap();
    call_on(&instance, "keep", &[Value::I32(1_000_000)]).unwrap();
    let driver = Driver::default().on(&[Lane::Inline]);
    let mut execution = start_on(&instance, "pairs", &[Value::I32(2_000_000)], limits()).unwrap();
    assert_eq!(number(driver.values(&mut execution)), 1);
    assert!(driver.yields() > 0);
}

#[test]
fn a_guest_with_such_a_heap_counts_as_two() {
    let runtime = own(|_| {});
    let plain = load(&runtime, "(module (memory 1))");
    let structures = load(&runtime, "(module (memory 1) (type (struct)))");
    let exceptions = load(&runtime, "(module (tag))");
    let references = load(&runtime, "(module (table 1 externref))");
    let functions = load(&runtime, "(module (table 1 funcref) (type (func)))");
    for (module, weight) in [(plain, 1), (structures, 2), (exceptions, 2), (references, 2), (functions, 1)] {
        let before = runtime.stats().live_instances;
        let instance = instantiate(&module, limits()).unwrap();
        assert_eq!(runtime.stats().live_instances - before, weight);
        instance.close().unwrap();
    }
}

/// Fuel between two yields of a module with `more` beside an endless loop.
fn yield_fuel(more: &str) -> u64 {
    let module = load(shared(), format!(r#"(module {more} (func (export "f") (loop br 0)))"#));
    let mut execution = start(&module, "f", &[], limits());
    assert!(matches!(execution.step(Lane::Inline), Step::Yielded));
    let first = execution.usage().fuel.unwrap();
    assert!(matches!(execution.step(Lane::Inline), Step::Yielded));
    greatest_divisor(first, execution.usage().fuel.unwrap())
}

fn greatest_divisor(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { greatest_divisor(other, one % other) }
}

#[test]
fn a_module_whose_instructions_may_take_long_yields_more_often() {
    let wide = "i64 ".repeat(900);
    let fields = "(field i64) ".repeat(8_000);
    assert_eq!(yield_fuel("") % 50_000, 0);
    assert_eq!(yield_fuel("(type (func (param i32 i64) (result f64)))") % 50_000, 0);
    assert_eq!(yield_fuel("(tag)") % 10_000, 0);
    assert_eq!(yield_fuel(&format!("(type (func (param {wide})))")) % 2_222, 0);
    assert_eq!(yield_fuel(&format!("(type (struct {fields}))")) % 2_500, 0);
}

#[test]
fn a_place_with_very_many_clauses_around_it_is_refused_and_its_function_named() {
    let nested = |clauses: usize, depth: usize| {
        let catches = "(catch $t 0) ".repeat(clauses);
        let (open, close) = (format!("(try_table {catches} ").repeat(depth), ")".repeat(depth));
        let text = format!(r#"(module (tag $t) (func $plain) (func $many {open} (call $plain) {close}))"#);
        try_load(shared(), text, shared().default_config())
    };
    assert!(nested(8, 16).is_ok());
    assert!(nested(128, 1).is_ok());
    for (clauses, depth) in [(129, 1), (13, 10)] {
        let error = nested(clauses, depth).unwrap_err();
        let Error::Load(LoadError::Unsupported(text)) = error else { panic!("{error:?}") };
        assert!(text.contains("function 1 (\"many\")") && text.contains("catch clauses"), "{text}");
    }
}

#[test]
fn what_the_system_refuses_is_the_nodes_limit() {
    let refused = std::io::Error::from_raw_os_error(rustix::io::Errno::NOMEM.raw_os_error());
    let error = Error::internal(refused);
    let Error::Limit(limit) = &error else { panic!("{error:?}") };
    assert!(matches!(limit.limit, Limit::AddressSpace | Limit::Mappings), "{limit:?}");
    assert_eq!((limit.allowed, error.blame()), (limit.used, Blame::Node));
    let other = Error::internal(std::io::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error()));
    assert!(matches!(other, Error::Internal(_)), "{other:?}");
}

#[test]
fn exceptions_of_a_deep_stack_are_caught_within_the_calls_fuel() {
    let module = load(
        shared(),
        r#"(module (tag $t)
          (func $down (param i32)
            (if (i32.eqz (local.get 0)) (then (throw $t)))
            (call $down (i32.sub (local.get 0) (i32.const 1))))
          (func (export "f") (local $i i32)
            (local.set $i (i32.const 100))
            (loop $l
              (block $caught (try_table (catch $t $caught) (call $down (i32.const 500))))
              (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))))"#,
    );
    let (result, usage) = run_within(&module, "f", limits());
    assert!(result.is_ok_and(|values| values.is_empty()), "{usage:?}");
}
