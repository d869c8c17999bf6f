//! Values go into a guest and come out as they were, every bit and every reference; what does not fit is refused with
//! the caller's mistake named, before the guest runs.

use crate::support::{
    Driver, Loaded, Token, all_same, call, call_on, instantiate, limits, load, number, own, property, same, shared,
    start, start_on, to_host_call,
};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::access::Access;
use cybernetic_wasm_core::error::CallError;
use cybernetic_wasm_core::execution::{Execution, Step};
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::live::LiveGuest;
use cybernetic_wasm_core::mail::Command;
use cybernetic_wasm_core::value::{HostRef, Value};
use proptest::prelude::*;
use std::sync::Arc;

const IDENTITIES: &str = r#"(module
  (func (export "i32") (param i32) (result i32) local.get 0)
  (func (export "i64") (param i64) (result i64) local.get 0)
  (func (export "f32") (param f32) (result f32) local.get 0)
  (func (export "f64") (param f64) (result f64) local.get 0)
  (func (export "v128") (param v128) (result v128) local.get 0)
  (func (export "externref") (param externref) (result externref) local.get 0)
  (func (export "funcref") (param funcref) (result funcref) local.get 0)
  (func (export "nothing"))
  (func (export "turned") (param i32 i64 f32 f64 v128) (result v128 f64 f32 i64 i32)
    local.get 4 local.get 3 local.get 2 local.get 1 local.get 0)
  (memory (export "memory") 1)
  (table (export "table") 1 funcref)
  (global (export "global") i32 (i32.const 0)))"#;

/// Hands all its arguments to the host and gives back what the host returns.
const RELAY: &str = r#"(module
  (import "host" "echo" (func $echo (param i32 i64 f32 f64 v128 externref) (result externref v128 f64 f32 i64 i32)))
  (func (export "relay") (param i32 i64 f32 f64 v128 externref) (result externref v128 f64 f32 i64 i32)
    (call $echo (local.get 0) (local.get 1) (local.get 2) (local.get 3) (local.get 4) (local.get 5))))"#;

const FUNCTIONS: &str = r#"(module
  (type $number (func (result i32)))
  (type $other (func (param i64)))
  (func $one (type $number) i32.const 41)
  (func $other (type $other))
  (elem declare func $one $other)
  (func (export "one") (result funcref) ref.func $one)
  (func (export "other") (result funcref) ref.func $other)
  (func (export "same") (param funcref) (result funcref) local.get 0)
  (func (export "call") (param (ref null $number)) (result i32) local.get 0 call_ref $number))"#;

fn live(source: &str) -> Arc<LiveGuest> {
    instantiate(&load(shared(), source), limits()).unwrap()
}

fn host_ref(text: &str) -> HostRef {
    Arc::new(Token(text.to_owned()))
}

/// Where a wrong mask, a sign extension or a float conversion would show.
fn edges() -> Vec<(&'static str, Value)> {
    let mut edges = Vec::new();
    edges.extend([0, 1, -1, i32::MIN, i32::MAX].map(|v| ("i32", Value::I32(v))));
    edges.extend([0, 1, -1, i64::MIN, i64::MAX, 1 << 32].map(|v| ("i64", Value::I64(v))));
    // Zeros, infinities, the smallest subnormal, a canonical NaN, a quiet one with payload, signalling ones.
    let bits32 = [0, 0x8000_0000, 0x7f80_0000, 0xff80_0000, 1, 0x7fc0_0000, 0x7fc1_2345, 0x7f80_0001, 0xffbf_ffff];
    edges.extend(bits32.map(|v| ("f32", Value::F32(v))));
    let bits64 =
        [0, 1 << 63, 0x7ff << 52, 0xfff << 52, 1, 0x7ff8 << 48, 0x7ff8_0000_dead_beef, (0x7ff << 52) | 1, u64::MAX];
    edges.extend(bits64.map(|v| ("f64", Value::F64(v))));
    edges.extend([0, 1, u128::MAX, 1 << 64, 0x0123_4567_89ab_cdef << 32].map(|v| ("v128", Value::V128(v))));
    edges.extend([
        ("externref", Value::Null),
        ("funcref", Value::Null),
        ("externref", Value::Extern(host_ref("host"))),
    ]);
    edges
}

#[test]
fn a_value_of_every_type_comes_back_as_it_was_bit_by_bit() {
    let module = load(shared(), IDENTITIES);
    for (function, value) in edges() {
        let back = call(&module, function, std::slice::from_ref(&value)).unwrap();
        assert!(all_same(&back, std::slice::from_ref(&value)), "{value:?} came back as {back:?}");
    }
}

#[test]
fn no_result_is_none_and_five_results_come_in_their_order() {
    let module = load(shared(), IDENTITIES);
    assert!(call(&module, "nothing", &[]).unwrap().is_empty());
    let args = [Value::I32(1), Value::I64(2), Value::F32(3), Value::F64(4), Value::V128(5)];
    let mut turned = args.to_vec();
    turned.reverse();
    let back = call(&module, "turned", &args).unwrap();
    assert!(all_same(&back, &turned), "{back:?}");
}

fn numbers() -> impl Strategy<Value = (i32, i64, u32, u64, u128)> {
    (any::<i32>(), any::<i64>(), any::<u32>(), any::<u64>(), any::<u128>())
}

#[test]
fn any_numbers_pass_through_a_live_instance_unchanged() {
    let instance = live(IDENTITIES);
    property(5_000, numbers(), |(a, b, c, d, e)| {
        let args = [Value::I32(a), Value::I64(b), Value::F32(c), Value::F64(d), Value::V128(e)];
        let mut turned = args.to_vec();
        turned.reverse();
        let back = call_on(&instance, "turned", &args).unwrap();
        prop_assert!(all_same(&back, &turned), "{:?} came back as {:?}", args, back);
        Ok(())
    });
}

#[test]
fn any_numbers_pass_through_a_host_function_unchanged_both_ways() {
    let instance = live(RELAY);
    property(3_000, numbers(), |(a, b, c, d, e)| {
        let reference = Value::Extern(host_ref("passed along"));
        let args = [Value::I32(a), Value::I64(b), Value::F32(c), Value::F64(d), Value::V128(e), reference];
        let mut turned = args.to_vec();
        turned.reverse();
        let echo = |call: &mut crate::support::OpenCall<'_>| {
            assert!(all_same(&call.args, &args), "the host saw {:?}", call.args);
            Some(turned.clone())
        };
        let mut execution = start_on(&instance, "relay", &args, limits()).unwrap();
        let back = Driver::with_host(&echo).values(&mut execution).unwrap();
        prop_assert!(all_same(&back, &turned), "{:?} came back as {:?}", args, back);
        Ok(())
    });
}

#[test]
fn what_an_externref_holds_is_let_go_when_its_guest_is_gone() {
    let runtime = own(|_| {});
    let held = host_ref("held");
    let instance = instantiate(&load(&runtime, IDENTITIES), limits()).unwrap();
    for _ in 0..100 {
        let back = call_on(&instance, "externref", &[Value::Extern(Arc::clone(&held))]).unwrap();
        assert!(same(&back[0], &Value::Extern(Arc::clone(&held))));
    }
    drop(instance);
    crate::support::eventually("nobody holds it but the test", || Arc::strong_count(&held) == 1);
}

#[test]
fn references_passed_over_and_over_do_not_fill_a_live_guest() {
    // A live instance that kept a root for every reference it ever saw would grow without end.
    let runtime = own(|_| {});
    let instance = instantiate(&load(&runtime, IDENTITIES), limits()).unwrap();
    let held = host_ref("held");
    for _ in 0..30_000 {
        call_on(&instance, "externref", &[Value::Extern(Arc::clone(&held))]).unwrap();
    }
    let memory = runtime.ceilings().memory();
    assert!(memory < 2_000_000, "{memory} bytes are in use after 30,000 references");
}

#[test]
fn references_that_a_host_function_returns_do_not_fill_a_running_guest() {
    let runtime = own(|_| {});
    let module = load(
        &runtime,
        r#"(module
          (import "host" "make" (func $make (result externref)))
          (func (export "many") (param $n i32)
            (loop $again
              (drop (call $make))
              (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"#,
    );
    let held = host_ref("held");
    let make = |_: &mut crate::support::OpenCall<'_>| Some(vec![Value::Extern(Arc::clone(&held))]);
    let mut execution = start(&module, "many", &[Value::I32(50_000)], limits());
    Driver::with_host(&make).values(&mut execution).unwrap();
    let peak = execution.usage().peak_memory;
    assert!(peak < 4_000_000, "50,000 dropped references took {peak} bytes");
    drop(execution);
    crate::support::eventually("nobody holds it but the test", || Arc::strong_count(&held) == 1);
}

#[test]
fn a_function_reference_is_good_in_the_instance_it_came_from() {
    let instance = live(FUNCTIONS);
    let one = call_on(&instance, "one", &[]).unwrap();
    assert_eq!(number(call_on(&instance, "call", &one)), 41);
    let passed = call_on(&instance, "same", &one).unwrap();
    assert_eq!(number(call_on(&instance, "call", &passed)), 41);
}

#[test]
fn a_function_reference_of_another_instance_is_refused() {
    let (home, abroad) = (live(FUNCTIONS), live(FUNCTIONS));
    let one = call_on(&home, "one", &[]).unwrap();
    for function in ["call", "same"] {
        let refused = call_on(&abroad, function, &one).unwrap_err();
        let Error::Call(CallError::Type { index: 0, expected, given }) = refused else { panic!("{refused:?}") };
        assert!(expected.contains("same instance"), "{expected}");
        assert_eq!(given, "funcref");
    }
    assert_eq!(
        number(call_on(&abroad, "call", &call_on(&abroad, "one", &[]).unwrap())),
        41,
        "a refusal poisons nothing"
    );
}

#[test]
fn a_function_reference_of_a_guest_that_is_gone_is_refused() {
    let module = load(shared(), FUNCTIONS);
    let one = call(&module, "one", &[]).unwrap();
    assert!(matches!(call(&module, "same", &one), Err(Error::Call(CallError::Type { .. }))));
}

#[test]
fn a_function_reference_of_another_type_is_refused() {
    let instance = live(FUNCTIONS);
    let other = call_on(&instance, "other", &[]).unwrap();
    let refused = call_on(&instance, "call", &other).unwrap_err();
    assert!(matches!(refused, Error::Call(CallError::Type { index: 0, .. })), "{refused:?}");
}

#[test]
fn a_null_reference_that_is_called_traps() {
    let refused = call(&load(shared(), FUNCTIONS), "call", &[Value::Null]).unwrap_err();
    let Error::Trap(trap) = refused else { panic!("{refused:?}") };
    assert_eq!(trap.code, "null_reference");
}

#[test]
fn null_is_accepted_by_every_nullable_reference_and_comes_back_as_null() {
    let heap_types =
        ["extern", "func", "any", "eq", "i31", "struct", "array", "none", "nofunc", "noextern", "exn", "noexn"];
    for heap_type in heap_types {
        let text = format!(
            r#"(module (func (export "f") (param (ref null {heap_type})) (result (ref null {heap_type})) local.get 0))"#
        );
        let back = call(&load(shared(), text), "f", &[Value::Null]).unwrap();
        assert!(all_same(&back, &[Value::Null]), "{heap_type}: {back:?}");
    }
}

#[test]
fn null_is_refused_where_the_type_has_no_null() {
    let module = load(shared(), r#"(module (func (export "f") (param (ref extern))))"#);
    let refused = call(&module, "f", &[Value::Null]).unwrap_err();
    let Error::Call(CallError::Type { index: 0, expected, given }) = refused else { panic!("{refused:?}") };
    assert_eq!((expected.as_str(), given.as_str()), ("(ref extern)", "null"));
    assert!(call(&module, "f", &[Value::Extern(host_ref("here"))]).unwrap().is_empty());
}

#[test]
fn references_with_no_form_outside_come_out_opaque_and_go_nowhere() {
    let module = load(
        shared(),
        r#"(module
          (type $point (struct (field i32)))
          (type $row (array i8))
          (tag $oops)
          (func (export "struct") (result anyref) (struct.new $point (i32.const 1)))
          (func (export "array") (result (ref array)) (array.new $row (i32.const 1) (i32.const 3)))
          (func (export "i31") (result i31ref) (ref.i31 (i32.const 7)))
          (func (export "inside_out") (result externref) (extern.convert_any (ref.i31 (i32.const 7))))
          (func (export "exception") (result exnref)
            (block $caught (result exnref) (try_table (catch_all_ref $caught) (throw $oops)) unreachable))
          (func (export "take_any") (param anyref))
          (func (export "take_extern") (param externref))
          (func (export "take_exn") (param exnref)))"#,
    );
    let into = [
        ("struct", "take_any"),
        ("array", "take_any"),
        ("i31", "take_any"),
        ("inside_out", "take_extern"),
        ("exception", "take_exn"),
    ];
    for (from, to) in into {
        let out = call(&module, from, &[]).unwrap();
        assert!(matches!(out.as_slice(), [Value::Opaque(_)]), "{from}: {out:?}");
        assert!(
            matches!(call(&module, to, &out), Err(Error::Call(CallError::Type { .. }))),
            "{to} took what {from} gave"
        );
    }
}

/// One value of each kind, for the matrix of mistakes.
fn one_of_each() -> Vec<(&'static str, Value)> {
    vec![
        ("i32", Value::I32(1)),
        ("i64", Value::I64(1)),
        ("f32", Value::F32(1)),
        ("f64", Value::F64(1)),
        ("v128", Value::V128(1)),
        ("externref", Value::Extern(host_ref("host"))),
    ]
}

#[test]
fn a_value_of_any_other_type_is_refused_by_name() {
    let instance = live(IDENTITIES);
    for (wanted, _) in one_of_each().iter().chain(&[("funcref", Value::Null)]) {
        for (kind, value) in one_of_each().iter().filter(|(kind, _)| kind != wanted) {
            let refused = call_on(&instance, wanted, std::slice::from_ref(value)).unwrap_err();
            let Error::Call(CallError::Type { index: 0, expected, given }) = &refused else {
                panic!("{kind} as {wanted}: {refused:?}")
            };
            assert!(
                expected.contains(wanted) || *expected == format!("(ref null {})", wanted.trim_end_matches("ref")),
                "{expected}"
            );
            assert!(given.starts_with(kind), "{given}");
        }
    }
    for number in ["i32", "i64", "f32", "f64", "v128"] {
        let refused = call_on(&instance, number, &[Value::Null]).unwrap_err();
        assert!(matches!(refused, Error::Call(CallError::Type { index: 0, .. })), "{refused:?}");
    }
    assert_eq!(
        number(call_on(&instance, "i32", &[Value::I32(7)])),
        7,
        "the caller's mistake does not poison the instance"
    );
}

#[test]
fn the_place_of_a_wrong_argument_is_named() {
    let args = [Value::I32(1), Value::I64(2), Value::F32(3), Value::I32(4), Value::V128(5)];
    let refused = call(&load(shared(), IDENTITIES), "turned", &args).unwrap_err();
    assert!(matches!(refused, Error::Call(CallError::Type { index: 3, .. })), "{refused:?}");
}

#[test]
fn the_wrong_number_of_arguments_is_refused_with_the_signature() {
    let module = load(shared(), IDENTITIES);
    let function = module.function("turned").unwrap();
    for given in [0, 1, 4, 6, 100] {
        let Err(CallError::Arity { expected: 5, given: told, signature }) = function.check_arity(given) else {
            panic!("{given}")
        };
        assert_eq!(told, given);
        assert!(signature.contains("v128"), "{signature}");
    }
    assert_eq!(function.check_arity(5), Ok(()));
}

#[test]
fn an_execution_does_not_run_with_arguments_missing_or_left_over() {
    // Surplus arguments were dropped in silence, and missing ones were an internal error.
    let module = load(shared(), IDENTITIES);
    for given in [0, 2, 3] {
        let args = vec![Value::I32(1); given];
        let refused = call(&module, "i32", &args).unwrap_err();
        let Error::Call(CallError::Arity { expected: 1, given: told, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(told, given);
    }
}

#[test]
fn an_unknown_export_is_refused_with_the_known_functions_listed() {
    let refused = load(shared(), IDENTITIES).function("process").unwrap_err();
    let CallError::NoSuchExport { name, known, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(name, "process");
    assert_eq!(known, ["i32", "i64", "f32", "f64", "v128", "externref", "funcref", "nothing", "turned"]);
}

#[test]
fn an_export_that_is_not_a_function_is_refused_by_its_kind() {
    let module = load(shared(), IDENTITIES);
    for kind in ["memory", "table", "global"] {
        let refused = module.function(kind).unwrap_err();
        assert_eq!(refused, CallError::WrongExportKind { name: kind.into(), expected: "function", found: kind });
    }
}

fn ask_for_a_number() -> Loaded {
    load(
        shared(),
        r#"(module
          (import "host" "number" (func $number (result i32)))
          (memory (export "memory") 1)
          (func (export "ask") (result i32) call $number)
          (func (export "seven") (param i32) (result i32) i32.const 7))"#,
    )
}

fn answer_with(values: &[Value]) -> Result<Vec<Value>, Error> {
    let module = ask_for_a_number();
    let answer = |_: &mut crate::support::OpenCall<'_>| Some(values.to_vec());
    Driver::with_host(&answer).values(&mut start(&module, "ask", &[], limits()))
}

#[test]
fn a_host_function_that_returns_another_type_is_told_so() {
    let refused = answer_with(&[Value::I64(1)]).unwrap_err();
    let Error::Call(CallError::Type { index: 0, expected, given }) = refused else { panic!("{refused:?}") };
    assert_eq!((expected.as_str(), given.as_str()), ("i32", "i64 1"));
}

#[test]
fn a_host_function_that_returns_too_few_or_too_many_values_is_told_so() {
    for values in [vec![], vec![Value::I32(1), Value::I32(2)]] {
        let refused = answer_with(&values).unwrap_err();
        assert!(matches!(refused, Error::Call(CallError::Arity { expected: 1, .. })), "{refused:?}");
    }
    assert_eq!(number(answer_with(&[Value::I32(1)])), 1);
}

#[test]
fn a_guest_cut_off_by_its_hosts_wrong_result_is_poisoned() {
    // The refusal looks like a caller's mistake, but it unwound the guest in the middle of its work.
    let instance = instantiate(&ask_for_a_number(), limits()).unwrap();
    let answer = |_: &mut crate::support::OpenCall<'_>| Some(vec![Value::F64(0)]);
    let mut execution = start_on(&instance, "ask", &[], limits()).unwrap();
    Driver::with_host(&answer).values(&mut execution).unwrap_err();
    drop(execution);
    crate::support::eventually("the instance is poisoned", || {
        matches!(start_on(&instance, "seven", &[Value::I32(0)], limits()), Err(Error::Call(CallError::Poisoned { .. })))
    });
}

#[test]
fn the_wrong_arguments_in_a_re_entrant_call_leave_the_host_call_open() {
    let module = ask_for_a_number();
    let mut execution = start(&module, "ask", &[], limits());
    let call = to_host_call(&mut execution);
    for args in [vec![], vec![Value::I64(1)], vec![Value::I32(1), Value::I32(2)]] {
        let function = module.function("seven").unwrap();
        execution.command(call, Command::Call { function, args }).unwrap();
        let step = execution.step(Lane::Dirty);
        assert!(matches!(step, Step::Answered(Err(Error::Call(_)))), "{step:?}");
    }
    execution.command(call, Command::Return(vec![Value::I32(5)])).unwrap();
    assert_eq!(number(Driver::default().values(&mut execution)), 5);
}

#[test]
fn memory_is_read_and_written_within_its_bounds_and_nowhere_else() {
    let module = ask_for_a_number();
    let mut execution = start(&module, "ask", &[], limits());
    let call = to_host_call(&mut execution);
    let mut ask = |command: Command| -> Result<String, Error> {
        execution.command(call, command)?;
        match execution.step(Lane::Inline) {
            Step::Answered(answer) => answer.map(|answer| format!("{answer:?}")),
            other => panic!("{other:?}"),
        }
    };
    let write = |offset: u64, bytes: &[u8]| {
        Command::Access(Access::Write { memory: None, offset: offset.into(), bytes: bytes.to_vec() })
    };
    let read = |offset: u64, length: u64| {
        Command::Access(Access::Read { memory: None, offset: offset.into(), length: length.into() })
    };
    assert_eq!(ask(Command::Access(Access::Size { memory: None })).unwrap(), "Number(Some(65536))");
    assert_eq!(ask(write(65_533, b"abc")).unwrap(), "Done");
    assert_eq!(ask(read(65_533, 3)).unwrap(), "Bytes([97, 98, 99])");
    assert_eq!(ask(read(65_536, 0)).unwrap(), "Bytes([])");
    for (offset, length) in [(65_534, 3), (65_537, 0), (u64::MAX, 1), (1, u64::MAX), (0, 65_537)] {
        let refused = ask(read(offset, length)).unwrap_err();
        assert_eq!(refused, CallError::OutOfBounds { offset, length, size: 65_536 }.into());
    }
    assert!(matches!(ask(write(65_534, b"abc")), Err(Error::Call(CallError::OutOfBounds { .. }))));
    let nowhere = ask(Command::Access(Access::Size { memory: Some("heap".into()) })).unwrap_err();
    assert_eq!(nowhere, CallError::NoMemory("heap".into()).into());
}

#[test]
fn a_function_of_another_module_is_refused_and_not_confused_with_one_of_this() {
    let (module, other) = (ask_for_a_number(), load(shared(), IDENTITIES));
    let foreign = other.function("i32").unwrap();
    let mut execution = Execution::call(&module.module, &foreign, vec![Value::I32(1)], module.setup(limits()));
    assert!(Driver::default().values(&mut execution).is_err());
}

#[test]
fn an_error_names_the_first_exports_of_the_wanted_kind_wherever_they_stand() {
    let globals: String = (0..2_000).map(|n| format!(r#"(export "g{n}" (global 0))"#)).collect();
    let functions: String = (0..30).map(|n| format!(r#"(export "f{n}" (func 0))"#)).collect();
    let source = format!("(module (global i32 (i32.const 0)) (func) {globals} {functions})");
    let module = load(shared(), &source);
    let known = |error: CallError| match error {
        CallError::NoSuchExport { known, .. } => known,
        other => panic!("{other:?}"),
    };
    let first = |letter: char| (0..21).map(|n| format!("{letter}{n}")).collect::<Vec<_>>();
    assert_eq!(known(module.module.code().function("nope").unwrap_err()), first('f'));
    assert_eq!(known(module.module.code().global("nope").unwrap_err()), first('g'));
}
