//! Arguments that are left out. AssemblyScript's functions with default ones want to be told how many there are.

use crate::support::{Driver, call, call_on, instantiate, limits, load, number, shared, start};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::error::CallError;
use cybernetic_wasm_core::value::Value;

/// As its compiler makes it: `f(a, b = 10, c = 100)` gives their sum.
const GUEST: &str = r#"(module
  (import "env" "ask" (func $ask (result i32)))
  (global $length (mut i32) (i32.const 0))
  (func (export "__setArgumentsLength") (param i32) (global.set $length (local.get 0)))
  (func (export "f") (param $a i32) (param $b i32) (param $c f64) (result i32)
    (block $three (block $two (block $one (block $other
      (br_table $one $two $three $other (i32.sub (global.get $length) (i32.const 1))))
      unreachable)
      (local.set $b (i32.const 10)))
      (local.set $c (f64.const 100)))
    (i32.add (i32.add (local.get $a) (local.get $b)) (i32.trunc_f64_s (local.get $c))))
  (func (export "length") (result i32) (global.get $length))
  (func (export "outer") (param i32) (result i32) (i32.add (local.get 0) (call $ask))))"#;

fn args(given: usize) -> Vec<Value> {
    let all = [Value::I32(1), Value::I32(2), Value::F64(3_f64.to_bits())];
    all[..given].to_vec()
}

#[test]
fn a_module_that_counts_arguments_is_told_of_each_call() {
    let module = load(shared(), GUEST);
    let instance = instantiate(&module, limits()).unwrap();
    for (given, sum) in [(1, 111), (2, 103), (3, 6), (1, 111)] {
        assert_eq!(number(call(&module, "f", &args(given))), sum, "in a fresh instance");
        assert_eq!(number(call_on(&instance, "f", &args(given))), sum, "in a live one");
    }
    assert_eq!(number(call_on(&instance, "length", &[])), 1, "what takes none is called as it is");
    assert!(
        matches!(call(&module, "f", &[]), Err(Error::Trap(trap)) if trap.code == "unreachable"),
        "the first is not optional"
    );
}

#[test]
fn a_host_function_leaves_out_arguments_as_well() {
    let module = load(shared(), GUEST);
    for (given, sum) in [(1, 112), (2, 104), (3, 7)] {
        let mut execution = start(&module, "outer", &[Value::I32(1)], limits());
        let found = Driver::with_host(&|host| host.call("f", &args(given)).ok()).values(&mut execution);
        assert_eq!(number(found), sum);
    }
}

#[test]
fn more_arguments_are_a_mistake_and_so_are_fewer_elsewhere() {
    let module = load(shared(), GUEST);
    let many = [args(3), args(1)].concat();
    assert!(matches!(call(&module, "f", &many), Err(Error::Call(CallError::Arity { expected: 3, given: 4, .. }))));
    for counter in [
        "",
        r#"(func (export "__setArgumentsLength"))"#,
        r#"(func (export "__setArgumentsLength") (param i64))"#,
        r#"(func (export "__setArgumentsLength") (param i32) (result i32) (i32.const 0))"#,
        r#"(global (export "__setArgumentsLength") i32 (i32.const 0))"#,
    ] {
        let module = load(shared(), format!("(module {counter} (func (export \"f\") (param i32 i32)))"));
        let called = call(&module, "f", &args(1));
        assert!(matches!(called, Err(Error::Call(CallError::Arity { expected: 2, given: 1, .. }))), "{counter}");
    }
}

#[test]
fn what_counts_them_is_code_of_the_guests() {
    let source = |body: &str| {
        format!(
            r#"(module (func (export "__setArgumentsLength") (param i32) {body})
                 (func (export "f") (param i32) (result i32) (local.get 0)))"#
        )
    };
    let called = call(&load(shared(), source("unreachable")), "f", &args(1));
    assert!(matches!(called, Err(Error::Trap(trap)) if trap.code == "unreachable"));
    let called = call(&load(shared(), source("(loop (br 0))")), "f", &args(1));
    assert!(matches!(called, Err(Error::Limit(_))));
}
