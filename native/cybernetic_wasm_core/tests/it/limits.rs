//! Every bound is attacked: what goes beyond it ends with the limit's name, what it allowed and what was asked, and what
//! was taken is given back.

use crate::support::{
    Driver, Loaded, OpenCall, PATIENCE, call, call_on, call_within, eventually, eventually_unused, instantiate, limits,
    load, number, own, own_node, run_within, shared, start, start_on, to_host_call, try_load, yields,
};
use cybernetic_wasm_core::engine::{EngineConfig, Metering, STACK_RANGE};
use cybernetic_wasm_core::error::{Limit, LimitError};
use cybernetic_wasm_core::execution::{Execution, Step};
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::mail::{Answer, Command};
use cybernetic_wasm_core::runtime::Runtime;
use cybernetic_wasm_core::value::Value;
use cybernetic_wasm_core::{Error, Stream};
use std::sync::Arc;
use std::time::Duration;

const PAGE: u64 = 65_536;

fn struck<T: std::fmt::Debug>(result: Result<T, Error>) -> LimitError {
    match result.unwrap_err() {
        Error::Limit(error) => error,
        other => panic!("not a limit: {other:?}"),
    }
}

fn epoch(runtime: &Arc<Runtime>) -> EngineConfig {
    EngineConfig { metering: Metering::Epoch, ..runtime.default_config() }
}

const SPIN: &str = r#"(module
  (func (export "spin") (loop br 0))
  (func (export "count") (param $n i32) (result i32) (local $i i32)
    (loop $again
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    local.get $i))"#;

// Fuel

#[test]
fn an_endless_loop_ends_with_exactly_its_fuel() {
    let module = load(shared(), SPIN);
    for fuel in [0, 1, 100, 49_999, 50_000, 50_001, 1_000_000] {
        let (result, usage) = run_within(&module, "spin", Limits { fuel, ..limits() });
        assert_eq!(struck(result), LimitError::new(Limit::Fuel, fuel, fuel));
        assert_eq!(usage.fuel, Some(fuel));
    }
}

#[test]
fn the_same_call_uses_the_same_fuel_and_that_much_is_enough() {
    let module = load(shared(), SPIN);
    let used = |fuel| {
        let mut execution = start(&module, "count", &[Value::I32(100_000)], Limits { fuel, ..limits() });
        let result = Driver::default().values(&mut execution);
        (result, execution.usage().fuel.unwrap())
    };
    let (result, fuel) = used(1_000_000_000);
    assert_eq!(number(result), 100_000);
    assert!(fuel > 100_000, "{fuel}");
    let (result, again) = used(fuel);
    assert_eq!((number(result), again), (100_000, fuel));
    // Fuel is looked at where loops and functions begin: the last few instructions run on.
    assert_eq!(struck(used(fuel - 50).0), LimitError::new(Limit::Fuel, fuel - 50, fuel - 50));
}

#[test]
fn the_largest_fuel_is_no_overflow() {
    let (result, usage) =
        run_within(&load(shared(), r#"(module (func (export "f")))"#), "f", Limits { fuel: u64::MAX, ..limits() });
    assert!(result.is_ok(), "{result:?}");
    assert!(usage.fuel.unwrap() < 100, "{usage:?}");
}

#[test]
fn a_start_function_runs_on_the_calls_fuel() {
    // No limit held before the first call, and a looping start function hung instantiation for ever.
    let module = load(shared(), r#"(module (func $spin (loop br 0)) (start $spin) (func (export "f")))"#);
    let few = Limits { fuel: 300_000, ..limits() };
    let (result, usage) = run_within(&module, "f", few.clone());
    assert_eq!(struck(result), LimitError::new(Limit::Fuel, 300_000, 300_000));
    assert_eq!(usage.fuel, Some(300_000));
    assert_eq!(struck(instantiate(&module, few)), LimitError::new(Limit::Fuel, 300_000, 300_000));
}

#[test]
fn start_function_and_call_share_one_tank() {
    let loops = "(local $i i32) (loop (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10000))))";
    let module = load(shared(), format!(r#"(module (func $work (export "work") {loops}) (start $work))"#));
    let once = run_within(&load(shared(), format!(r#"(module (func (export "work") {loops}))"#)), "work", limits())
        .1
        .fuel
        .unwrap();
    let twice = run_within(&module, "work", limits()).1.fuel.unwrap();
    assert!((2 * once - 10..=2 * once + 10).contains(&twice), "once {once}, twice {twice}");
    let (result, _) = run_within(&module, "work", Limits { fuel: once + once / 2, ..limits() });
    assert_eq!(struck(result).limit, Limit::Fuel);
}

const REENTER: &str = r#"(module
  (import "host" "again" (func $again))
  (func (export "outer") call $again)
  (func (export "twice") call $again call $again)
  (func (export "spin") (loop br 0))
  (func (export "work") (local $i i32)
    (loop (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10000))))))"#;

#[test]
fn re_entrance_refills_nothing() {
    // A guest that gets its host to call it again must not get fresh fuel with it.
    let module = load(shared(), REENTER);
    let again = |call: &mut OpenCall<'_>| {
        for _ in 0..10 {
            call.call("work", &[]).ok()?;
        }
        Some(vec![])
    };
    let mut execution = start(&module, "outer", &[], limits());
    Driver::with_host(&again).values(&mut execution).unwrap();
    let ten = execution.usage().fuel.unwrap();
    let mut execution = start(&module, "outer", &[], Limits { fuel: ten / 2, ..limits() });
    let inner = Driver::with_host(&again).values(&mut execution);
    assert!(matches!(inner, Err(Error::Host | Error::Limit(_))), "{inner:?}");
    assert_eq!(execution.usage().fuel, Some(ten / 2));
}

#[test]
fn a_re_entrant_call_that_runs_dry_tells_the_host_and_nothing_is_left_for_another() {
    let module = load(shared(), REENTER);
    let mut execution = start(&module, "twice", &[], Limits { fuel: 100_000, ..limits() });
    let again = |call: &mut OpenCall<'_>| {
        for _ in 0..3 {
            assert_eq!(struck(call.call("spin", &[])), LimitError::new(Limit::Fuel, 100_000, 100_000));
            assert!(matches!(call.ask(Command::Fuel), Ok(Answer::Number(Some(0)))));
        }
        Some(vec![])
    };
    let _ = Driver::with_host(&again).values(&mut execution);
    assert_eq!(execution.usage().fuel, Some(100_000));
}

#[test]
fn filling_memory_with_one_instruction_costs_fuel_by_its_size() {
    let module = load(
        shared(),
        r#"(module (memory 200) (func (export "fill") (param i32) (memory.fill (i32.const 0) (i32.const 1) (local.get 0))))"#,
    );
    let fuel_of = |bytes| {
        let mut execution = start(&module, "fill", &[Value::I32(bytes)], limits());
        Driver::default().values(&mut execution).unwrap();
        execution.usage().fuel.unwrap()
    };
    let (small, large) = (fuel_of(100), fuel_of(10_000_000));
    assert!(large > small + 100_000, "{small} and {large}");
}

#[test]
fn growing_is_not_charged_by_size() {
    let module = load(
        shared(),
        r#"(module (memory 1 101) (table $t 1 101 funcref)
          (func (export "f") (param i32)
            (drop (memory.grow (local.get 0))) (drop (table.grow $t (ref.null func) (local.get 0)))))"#,
    );
    let fuel_of = |size| {
        let mut execution = start(&module, "f", &[Value::I32(size)], limits());
        Driver::default().values(&mut execution).unwrap();
        execution.usage().fuel
    };
    assert_eq!(fuel_of(1), fuel_of(100));
}

/// Instructions on a length that nothing here has, which stands for LENGTH, and the trap that each is.
const TOO_LONG: [(&str, &str, &str); 15] = [
    ("(memory 1)", "(memory.fill (i32.const 0) (i32.const 1) LENGTH)", "memory_out_of_bounds"),
    ("(memory 1)", "(memory.copy (i32.const 0) (i32.const 1) LENGTH)", "memory_out_of_bounds"),
    ("(memory 1) (data $d \"abc\")", "(memory.init $d (i32.const 0) (i32.const 0) LENGTH)", "memory_out_of_bounds"),
    ("(memory i64 1)", "(memory.fill (i64.const 0) (i32.const 1) LENGTH_64)", "memory_out_of_bounds"),
    ("(memory i64 1)", "(memory.copy (i64.const 0) (i64.const 1) LENGTH_64)", "memory_out_of_bounds"),
    ("(table $t 9 funcref)", "(table.fill $t (i32.const 0) (ref.null func) LENGTH)", "table_out_of_bounds"),
    ("(table $t 9 funcref)", "(table.copy $t $t (i32.const 0) (i32.const 0) LENGTH)", "table_out_of_bounds"),
    (
        "(table $t 9 funcref) (elem $e func $f)",
        "(table.init $t $e (i32.const 0) (i32.const 0) LENGTH)",
        "table_out_of_bounds",
    ),
    ("(table $t i64 9 funcref)", "(table.fill $t (i64.const 0) (ref.null func) LENGTH_64)", "table_out_of_bounds"),
    ("(type $a (array (mut i8)))", "(drop (array.new $a (i32.const 1) LENGTH))", "allocation_too_large"),
    ("(type $a (array (mut i8)))", "(drop (array.new_default $a LENGTH))", "allocation_too_large"),
    (
        "(type $a (array (mut i8))) (data $d \"abc\")",
        "(drop (array.new_data $a $d (i32.const 0) LENGTH))",
        "memory_out_of_bounds",
    ),
    (
        "(type $a (array (mut funcref))) (elem $e func $f)",
        "(drop (array.new_elem $a $e (i32.const 0) LENGTH))",
        "table_out_of_bounds",
    ),
    (
        "(type $a (array (mut i8)))",
        "(array.fill $a (array.new_default $a (i32.const 9)) (i32.const 0) (i32.const 1) LENGTH)",
        "array_out_of_bounds",
    ),
    (
        "(type $a (array (mut i8)))",
        "(array.copy $a $a (array.new_default $a (i32.const 9)) (i32.const 0)
           (array.new_default $a (i32.const 9)) (i32.const 0) LENGTH)",
        "array_out_of_bounds",
    ),
];

#[test]
fn a_bulk_instruction_on_a_length_that_nothing_has_is_the_trap_that_it_is() {
    for (has, instruction, code) in TOO_LONG {
        // Known to the compiler, or not.
        for lengths in [
            ["(i32.const -1)", "(i64.const -1)"],
            ["(call $same (i32.const -1))", "(i64.extend_i32_s (call $same (i32.const -1)))"],
        ] {
            let instruction = instruction.replace("LENGTH_64", lengths[1]).replace("LENGTH", lengths[0]);
            let module = load(
                shared(),
                format!(
                    r#"(module {has} (func $f)
                      (func $same (param i32) (result i32) (local.get 0))
                      (func (export "f") {instruction}))"#
                ),
            );
            let mut execution = start(&module, "f", &[], limits());
            let error = Driver::default().values(&mut execution).unwrap_err();
            let Error::Trap(trap) = error else { panic!("{instruction}: {error:?}") };
            assert_eq!(trap.code, code, "{instruction}");
            assert_eq!(trap.frames.len(), 1, "{instruction}");
            assert!(execution.usage().fuel.is_some_and(|fuel| fuel < 50_000), "{instruction}: {:?}", execution.usage());
        }
    }
}

const FILL: &str = r#"(module (memory 2)
  (func $spin (param i32) (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "fill") (param $rounds i32) (param $length i32)
    (call $spin (local.get $rounds)) (memory.fill (i32.const 0) (i32.const 1) (local.get $length)))
  (func (export "first") (result i32) (i32.load8_u (i32.const 0))))"#;

#[test]
fn such_a_trap_leaves_a_guest_that_survives_traps_as_it_was() {
    let instance = instantiate(&load(shared(), FILL), limits()).unwrap();
    instance.survive_traps();
    for _ in 0..3 {
        let error = call_on(&instance, "fill", &[Value::I32(100_000), Value::I32(-1)]).unwrap_err();
        assert!(matches!(&error, Error::Trap(trap) if trap.code == "memory_out_of_bounds"), "{error:?}");
    }
    assert_eq!(number(call_on(&instance, "first", &[])), 0);
    call_on(&instance, "fill", &[Value::I32(1), Value::I32(70_000)]).unwrap();
    assert_eq!(number(call_on(&instance, "first", &[])), 1);
}

#[test]
fn within_bounds_a_bulk_instruction_ends_with_its_fuel() {
    let module = load(shared(), FILL);
    for (rounds, length, fuel) in [(1, 100_000, 50_000), (1, 100_000, 99_999), (100_000, 131_072, 500_000)] {
        let few = Limits { fuel, ..limits() };
        let result = call_within(&module, "fill", &[Value::I32(rounds), Value::I32(length)], few);
        assert_eq!(struck(result), LimitError::new(Limit::Fuel, fuel, fuel), "{rounds} rounds, {length} bytes");
    }
}

#[test]
fn after_such_a_trap_in_a_re_entrant_call_the_rest_of_the_fuel_is_there_and_no_more() {
    let module = load(
        shared(),
        r#"(module (import "host" "again" (func $again)) (memory 1)
          (func (export "outer") call $again (loop br 0))
          (func (export "inner") (memory.fill (i32.const 0) (i32.const 0) (i32.const -1))))"#,
    );
    let again = |call: &mut OpenCall<'_>| {
        let error = call.call("inner", &[]).unwrap_err();
        assert!(matches!(&error, Error::Trap(trap) if trap.code == "memory_out_of_bounds"), "{error:?}");
        Some(vec![])
    };
    let few = Limits { fuel: 1_000_000, ..limits() };
    let mut execution = start(&module, "outer", &[], few);
    assert_eq!(struck(Driver::with_host(&again).values(&mut execution)).limit, Limit::Fuel);
    assert_eq!(execution.usage().fuel, Some(1_000_000));
}

#[test]
fn a_guest_that_traps_like_this_again_and_again_in_re_entrant_calls_comes_to_the_end_of_its_fuel() {
    // What was used before the trap is not known to a yield, and was given back each time.
    let module = load(
        shared(),
        r#"(module (import "host" "again" (func $again)) (memory 1)
          (func (export "outer") (loop call $again (br 0)))
          (func (export "inner") (local $n i32)
            (loop $l (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000))))
            (memory.fill (i32.const 0) (i32.const 0) (i32.const -1))))"#,
    );
    let calls = std::cell::Cell::new(0);
    let again = |call: &mut OpenCall<'_>| {
        calls.set(calls.get() + 1);
        assert!(calls.get() < 3_000, "3,000 times 7,000 is more than there was");
        let _ = call.call("inner", &[]);
        Some(vec![])
    };
    let mut execution = start(&module, "outer", &[], Limits { fuel: 20_000_000, ..limits() });
    assert_eq!(struck(Driver::with_host(&again).values(&mut execution)).limit, Limit::Fuel);
    assert!(calls.get() > 10, "{calls:?}");
    assert_eq!(execution.usage().fuel, Some(20_000_000));
}

// Time

#[test]
fn an_endless_loop_ends_by_its_deadline_under_either_metering() {
    for config in [shared().default_config(), epoch(shared())] {
        let module = try_load(shared(), SPIN, config).unwrap();
        let result =
            call_within(&module, "spin", &[], Limits { fuel: u64::MAX, time: Duration::from_millis(50), ..limits() });
        let error = struck(result);
        assert_eq!((error.limit, error.allowed), (Limit::Time, 50));
        assert!(error.used >= 50, "{error:?}");
    }
}

#[test]
fn a_looping_start_function_ends_by_its_deadline() {
    for config in [shared().default_config(), epoch(shared())] {
        let module =
            try_load(shared(), r#"(module (func $spin (loop br 0)) (start $spin) (func (export "f")))"#, config)
                .unwrap();
        let short = Limits { fuel: u64::MAX, time: Duration::from_millis(30), ..limits() };
        assert_eq!(struck(call_within(&module, "f", &[], short.clone())).limit, Limit::Time);
        assert_eq!(struck(instantiate(&module, short)).limit, Limit::Time);
    }
}

#[test]
fn no_time_at_all_is_an_error_before_the_guest_runs() {
    let module =
        load(shared(), r#"(module (import "host" "never" (func)) (func $f call 0) (start $f) (func (export "f")))"#);
    let (result, usage) = run_within(&module, "f", Limits { time: Duration::ZERO, ..limits() });
    assert_eq!(struck(result), LimitError::new(Limit::Time, 0, 0));
    assert_eq!(usage.host_calls, 0);
}

#[test]
fn the_deadline_passes_while_the_host_works_too() {
    let module = load(shared(), REENTER);
    // Long enough for the guest to get to its host call on any machine.
    let time = Duration::from_secs(2);
    let mut execution = start(&module, "outer", &[], Limits { time, ..limits() });
    let call = to_host_call(&mut execution);
    std::thread::sleep(time + Duration::from_millis(5));
    assert_eq!(execution.time_left(), Duration::ZERO);
    execution.command(call, Command::Return(vec![])).unwrap();
    let Step::Failed(Error::Limit(error)) = execution.step(Lane::Inline) else { panic!("ran on") };
    assert_eq!((error.limit, error.allowed), (Limit::Time, 2_000));
    assert!(error.used >= 2_005, "{error:?}");
}

#[test]
fn a_host_that_never_answers_waits_no_longer_than_the_deadline() {
    let module = load(shared(), REENTER);
    let time = Duration::from_secs(2);
    let mut execution = start(&module, "outer", &[], Limits { time, ..limits() });
    to_host_call(&mut execution);
    assert!(matches!(execution.step(Lane::Inline), Step::Waiting));
    let left = execution.listen(Box::new(|| {})).unwrap();
    assert!(left <= time, "{left:?}");
    assert_eq!(struck(Driver::default().values(&mut execution)).limit, Limit::Time);
}

#[test]
fn time_without_end_is_no_overflow() {
    let forever = Limits { time: Duration::MAX, wait: Duration::MAX, ..limits() };
    assert!(call_within(&load(shared(), SPIN), "count", &[Value::I32(1)], forever).is_ok());
}

// Memory

#[test]
fn memory_is_counted_over_all_memories_of_a_guest() {
    // A limit per memory lets a guest with a hundred memories have a hundred times as much.
    let module = load(
        shared(),
        r#"(module
          (memory $a 1) (memory $b 1) (memory $c 1)
          (func (export "grow") (result i32 i32 i32 i32)
            (memory.grow $a (i32.const 2)) (memory.grow $b (i32.const 2)) (memory.grow $c (i32.const 2))
            (memory.grow $c (i32.const 1))))"#,
    );
    let mut execution = start(&module, "grow", &[], Limits { max_memory: 8 * PAGE, ..limits() });
    let sizes = Driver::default().values(&mut execution).unwrap();
    assert!(matches!(sizes.as_slice(), [Value::I32(1), Value::I32(1), Value::I32(-1), Value::I32(1)]), "{sizes:?}");
    assert_eq!(execution.usage().peak_memory, 8 * PAGE);
}

const GROW: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "must") (param i32) (if (i32.eq (memory.grow (local.get 0)) (i32.const -1)) (then unreachable)))
  (func (export "crash") unreachable)
  (func (export "size") (result i32) memory.size))"#;

#[test]
fn growth_beyond_the_ceiling_gives_minus_one_and_the_guest_goes_on() {
    let instance = instantiate(&load(shared(), GROW), limits()).unwrap();
    let grow = |pages, limits| {
        number(Driver::default().values(&mut start_on(&instance, "grow", &[Value::I32(pages)], limits).unwrap()))
    };
    let ten = Limits { max_memory: 10 * PAGE, ..limits() };
    assert_eq!(grow(9, ten.clone()), 1);
    assert_eq!(grow(1, ten.clone()), -1);
    assert_eq!(grow(100_000, ten), -1, "nor beyond what 32 bits can address");
    assert_eq!(number(call_on(&instance, "size", &[])), 10);
    assert_eq!(grow(1, limits()), 10, "the next call's ceiling counts, and a refusal took nothing");
}

#[test]
fn growth_that_fails_unasked_gives_nothing_back() {
    // Wasmtime reports the growth of a table beyond what 64 bits count as failed, without having asked for it. We took the
    // last growth back for it, which the guest had got and kept: turn by turn it took gigabytes under any limit.
    let module = load(
        shared(),
        r#"(module (table $t i64 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref)
          (func (export "f") (result i64)
            (local $rounds i32)
            (loop $l
              (drop (table.grow $t (ref.null func) (i64.const 1000)))
              (drop (table.grow $t (ref.null func) (i64.const -1)))
              (local.set $rounds (i32.add (local.get $rounds) (i32.const 1)))
              (br_if $l (i32.lt_u (local.get $rounds) (i32.const 1000))))
            (table.size $t)))"#,
    );
    let few = Limits { max_table_elements: 5_005, ..limits() };
    assert_eq!(number(call_within(&module, "f", &[], few)), 5_001);
    let small = Limits { max_memory: 5_005 * 8, ..limits() };
    assert_eq!(number(call_within(&module, "f", &[], small)), 5_001);
}

#[test]
fn a_trap_that_follows_a_refused_growth_is_the_limits_doing() {
    let module = load(shared(), GROW);
    let ten = Limits { max_memory: 10 * PAGE, ..limits() };
    let error = struck(call_within(&module, "must", &[Value::I32(100)], ten.clone()));
    assert_eq!(error, LimitError::new(Limit::Memory, 10 * PAGE, 101 * PAGE));
    let trap = call_within(&module, "crash", &[], ten).unwrap_err();
    assert!(matches!(&trap, Error::Trap(trap) if trap.code == "unreachable"), "{trap:?}");
}

#[test]
fn a_refusal_in_one_call_is_not_held_against_the_next() {
    let instance = instantiate(&load(shared(), GROW), limits()).unwrap();
    let ten = Limits { max_memory: 10 * PAGE, ..limits() };
    let mut execution = start_on(&instance, "grow", &[Value::I32(100)], ten).unwrap();
    assert_eq!(number(Driver::default().values(&mut execution)), -1);
    let trap = call_on(&instance, "crash", &[]).unwrap_err();
    assert!(matches!(trap, Error::Trap(_)), "{trap:?}");
}

#[test]
fn growth_beyond_the_modules_own_maximum_is_no_limits_doing() {
    let module =
        load(shared(), r#"(module (memory 1 2) (func (export "f") (drop (memory.grow (i32.const 2))) unreachable))"#);
    let trap = call(&module, "f", &[]).unwrap_err();
    assert!(matches!(trap, Error::Trap(_)), "{trap:?}");
}

#[test]
fn a_memory_that_asks_for_4_gb_is_refused_at_instantiation() {
    let limit = LimitError::new(Limit::Memory, 100_000_000, 4 << 30);
    for memory in ["(memory 65536)", "(memory i64 65536)"] {
        let module = load(shared(), format!(r#"(module {memory} (func (export "f")))"#));
        assert_eq!(struck(call(&module, "f", &[])), limit);
        assert_eq!(struck(instantiate(&module, limits())), limit);
    }
}

const GROW_64: &str =
    r#"(module (memory i64 1) (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0))))"#;

#[test]
fn a_64_bit_memory_of_any_size_is_refused_without_overflow() {
    for pages in [1_u64 << 33, 1 << 47, 1 << 48] {
        let text = format!(r#"(module (memory i64 {pages}) (func (export "f")))"#);
        match try_load(shared(), text, shared().default_config()) {
            Ok(module) => assert_eq!(struck(call(&module, "f", &[])).limit, Limit::Memory),
            Err(error) => assert!(matches!(error, Error::Load(_)), "{error:?}"),
        }
    }
    let module = load(shared(), GROW_64);
    for pages in [i64::MAX, i64::MIN, -1, 1 << 47, 1 << 48] {
        assert_eq!(number(call(&module, "grow", &[Value::I64(pages)])), -1);
    }
}

#[test]
fn refused_growths_leave_the_nodes_count_as_it_was() {
    let runtime = own(|_| {});
    let module = load(
        &runtime,
        r#"(module (memory 1 4) (table $t 1 8 funcref)
          (func (export "try")
            (drop (memory.grow (i32.const 10))) (drop (memory.grow (i32.const 100000)))
            (drop (table.grow $t (ref.null func) (i32.const 100))) (drop (table.grow $t (ref.null func) (i32.const 1000000)))))"#,
    );
    let instance = instantiate(&module, limits()).unwrap();
    let before = runtime.ceilings().memory();
    assert_eq!(before, PAGE + 8);
    for _ in 0..100 {
        call_on(&instance, "try", &[]).unwrap();
    }
    assert_eq!(runtime.ceilings().memory(), before);
    drop((instance, module));
    eventually_unused(&runtime);
}

// Tables and instances

#[test]
fn a_table_of_10_million_is_refused_at_instantiation() {
    let module = load(shared(), r#"(module (table 10000000 funcref) (func (export "f")))"#);
    assert_eq!(struck(call(&module, "f", &[])), LimitError::new(Limit::TableElements, 100_000, 10_000_000));
    let vast = Limits { max_table_elements: 20_000_000, ..limits() };
    assert!(call_within(&module, "f", &[], vast.clone()).is_ok(), "who allows it may have it");
    let cramped = Limits { max_memory: 1_000_000, ..vast };
    assert_eq!(struck(call_within(&module, "f", &[], cramped)), LimitError::new(Limit::Memory, 1_000_000, 80_000_000));
}

#[test]
fn table_elements_are_counted_over_all_tables_of_a_guest() {
    let module = load(
        shared(),
        r#"(module (table $a 10 funcref) (table $b 10 externref)
          (func (export "grow") (result i32 i32 i32)
            (table.grow $a (ref.null func) (i32.const 20)) (table.grow $b (ref.null extern) (i32.const 20))
            (table.grow $b (ref.null extern) (i32.const 10)))
          (func (export "must")
            (if (i32.eq (table.grow $a (ref.null func) (i32.const 31)) (i32.const -1)) (then unreachable))))"#,
    );
    let fifty = Limits { max_table_elements: 50, ..limits() };
    let sizes = call_within(&module, "grow", &[], fifty.clone()).unwrap();
    assert!(matches!(sizes.as_slice(), [Value::I32(10), Value::I32(-1), Value::I32(10)]), "{sizes:?}");
    assert_eq!(struck(call_within(&module, "must", &[], fifty)), LimitError::new(Limit::TableElements, 50, 51));
}

#[test]
fn no_instance_allowed_is_an_error_and_no_panic() {
    let module = load(shared(), GROW);
    let none = Limits { max_instances: 0, ..limits() };
    assert_eq!(struck(call_within(&module, "size", &[], none.clone())), LimitError::new(Limit::Instances, 0, 1));
    assert_eq!(struck(instantiate(&module, none)), LimitError::new(Limit::Instances, 0, 1));
    assert!(call_within(&module, "size", &[], Limits { max_instances: 1, ..limits() }).is_ok());
}

#[test]
fn a_garbage_collected_heap_counts_as_memory() {
    // Neither memory.grow nor table.grow, and yet it could take all that the node has.
    let runtime = own(|_| {});
    let module = load(
        &runtime,
        r#"(module
          (type $node (struct (field (ref null $node)) (field i64 i64 i64)))
          (type $row (array (mut i64)))
          (type $rows (array (mut (ref null $row))))
          (func (export "list") (local $head (ref null $node))
            (loop $again
              (local.set $head (struct.new $node (local.get $head) (i64.const 1) (i64.const 2) (i64.const 3)))
              (br $again)))
          (func (export "rows") (local $rows (ref $rows)) (local $i i32)
            (local.set $rows (array.new_default $rows (i32.const 1000000)))
            (loop $again
              (array.set $rows (local.get $rows) (local.get $i) (array.new_default $row (i32.const 10000)))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br $again)))
          (func (export "huge") (drop (array.new_default $row (i32.const 0x0fffffff))))
          (func (export "overflow") (drop (array.new_default $row (i32.const -1)))))"#,
    );
    for function in ["list", "rows", "huge", "overflow"] {
        let tight = Limits { max_memory: 20_000_000, fuel: 20_000_000_000, ..limits() };
        let (result, usage) = run_within(&module, function, tight);
        assert!(usage.peak_memory <= 20_000_000, "{function}: {usage:?}");
        match result.unwrap_err() {
            Error::Limit(LimitError { limit: Limit::Memory, allowed: 20_000_000, .. }) => {}
            Error::Trap(trap) => assert_eq!((function, trap.code), ("overflow", "allocation_too_large")),
            other => panic!("{function}: {other:?}"),
        }
    }
    eventually_unused(&runtime);
}

#[test]
fn garbage_is_collected_before_the_limit_strikes() {
    let module = load(
        shared(),
        r#"(module
          (type $row (array (mut i64)))
          (func (export "churn") (param $n i32)
            (loop $again
              (drop (array.new_default $row (i32.const 1000)))
              (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"#,
    );
    // 160 MB of garbage in a guest of 20 MB.
    let result = call_within(&module, "churn", &[Value::I32(20_000)], Limits { max_memory: 20_000_000, ..limits() });
    assert!(result.is_ok(), "{result:?}");
}

// Stack

const RECURSE: &str = r#"(module
  (func $down (export "down") (param i64) (result i64)
    (if (result i64) (i64.eqz (local.get 0))
      (then (i64.const 0))
      (else (i64.add (i64.const 1) (call $down (i64.sub (local.get 0) (i64.const 1))))))))"#;

fn down(module: &Loaded, depth: i64, max_stack: u64) -> Result<Vec<Value>, Error> {
    let function = module.function("down").unwrap();
    let config = EngineConfig { max_stack, ..*module.requested() };
    let mut execution =
        Execution::call(&module.module, &function, vec![Value::I64(depth)], module.setup_for(config, limits()));
    Driver::default().values(&mut execution)
}

#[test]
fn endless_recursion_is_the_stacks_limit() {
    let module = load(shared(), RECURSE);
    let stack = module.requested().max_stack;
    assert_eq!(struck(call(&module, "down", &[Value::I64(-1)])), LimitError::new(Limit::Stack, stack, stack));
}

#[test]
fn a_call_may_ask_for_a_stack_of_another_size() {
    let module = load(shared(), RECURSE);
    let small = *STACK_RANGE.start();
    assert_eq!(number(down(&module, 100, small)), 100);
    assert_eq!(struck(down(&module, 5_000, small)), LimitError::new(Limit::Stack, small, small));
    assert_eq!(number(down(&module, 5_000, module.requested().max_stack)), 5_000);
    assert_eq!(struck(down(&module, 200_000, module.requested().max_stack)).limit, Limit::Stack);
    assert_eq!(number(down(&module, 200_000, *STACK_RANGE.end())), 200_000);
}

#[test]
fn a_stack_of_an_impossible_size_is_an_error_and_no_panic() {
    let module = load(shared(), RECURSE);
    for size in [0, u64::MAX] {
        let result = down(&module, 1, size);
        assert!(matches!(&result, Err(Error::Internal(text)) if !text.contains("panicked")), "{size}: {result:?}");
    }
}

// Host calls and output

#[test]
fn host_calls_are_counted_over_a_whole_call() {
    let module = load(
        shared(),
        r#"(module (import "host" "tick" (func $tick)) (func (export "f") (loop (call $tick) (br 0))) (func (export "one") call $tick))"#,
    );
    let tick = |_: &mut OpenCall<'_>| Some(vec![]);
    let mut execution = start(&module, "f", &[], Limits { max_host_calls: 100, ..limits() });
    assert_eq!(struck(Driver::with_host(&tick).values(&mut execution)), LimitError::new(Limit::HostCalls, 100, 101));
    assert_eq!(execution.usage().host_calls, 100);
    let mut execution = start(&module, "one", &[], Limits { max_host_calls: 0, ..limits() });
    assert_eq!(struck(Driver::with_host(&tick).values(&mut execution)), LimitError::new(Limit::HostCalls, 0, 1));
}

#[test]
fn output_beyond_the_limit_is_refused_whole() {
    let execution = start(&load(shared(), GROW), "size", &[], Limits { max_output: 10, ..limits() });
    execution.emit(b"12345").unwrap();
    assert_eq!(execution.tally().output.of(Stream::Emitted).to_vec(), b"12345");
    execution.emit(b"67890").unwrap();
    assert_eq!(struck(execution.emit(b"!")), LimitError::new(Limit::Output, 10, 11));
    assert_eq!(
        execution.tally().output.of(Stream::Emitted).to_vec(),
        b"67890",
        "what was taken still counts, what was refused was not put out"
    );
    assert_eq!(execution.usage().output, 10);
}

// The node's ceilings

const HOLD: &str =
    r#"(module (import "host" "hold" (func $hold)) (memory 1) (func (export "hold") call $hold) (func (export "f")))"#;

#[test]
fn one_guest_too_many_is_refused_at_once() {
    let runtime = own_node(|node| node.max_live_instances = 2);
    let module = load(&runtime, HOLD);
    let mut held = [start(&module, "hold", &[], limits()), start(&module, "hold", &[], limits())];
    let calls: Vec<_> = held.iter_mut().map(to_host_call).collect();
    assert_eq!(runtime.ceilings().live(), 2);
    assert_eq!(struck(call(&module, "f", &[])), LimitError::new(Limit::LiveInstances, 2, 3));
    held[0].command(calls[0], Command::Return(vec![])).unwrap();
    Driver::default().values(&mut held[0]).unwrap();
    eventually("the place is free", || runtime.ceilings().live() == 1);
    call(&module, "f", &[]).unwrap();
    drop(held);
    eventually_unused(&runtime);
}

#[test]
fn a_live_instance_keeps_its_place_between_calls() {
    let runtime = own_node(|node| node.max_live_instances = 1);
    let module = load(&runtime, HOLD);
    let instance = instantiate(&module, limits()).unwrap();
    assert_eq!(struck(call(&module, "f", &[])).limit, Limit::LiveInstances);
    call_on(&instance, "f", &[]).unwrap();
    drop(instance);
    eventually_unused(&runtime);
    call(&module, "f", &[]).unwrap();
}

#[test]
fn no_live_guest_allowed_is_an_error_and_no_panic() {
    let runtime = own_node(|node| node.max_live_instances = 0);
    let module = load(&runtime, HOLD);
    assert_eq!(struck(call(&module, "f", &[])), LimitError::new(Limit::LiveInstances, 0, 1));
}

#[test]
fn who_waits_for_a_place_is_woken_when_one_is_free() {
    let runtime = own_node(|node| node.max_live_instances = 1);
    let module = load(&runtime, HOLD);
    let mut held = start(&module, "hold", &[], limits());
    to_host_call(&mut held);
    let mut queued = start(&module, "f", &[], Limits { wait: PATIENCE, ..limits() });
    assert!(matches!(queued.step(Lane::Inline), Step::Waiting));
    queued.listen(Box::new(|| {})).unwrap();
    // Nothing has woken it while the place is taken.
    assert!(queued.unlisten(), "the listener is still armed");
    assert!(matches!(queued.step(Lane::Inline), Step::Waiting));
    let (woken, wake_up) = std::sync::mpsc::channel();
    queued.listen(Box::new(move || woken.send(()).unwrap())).unwrap();
    drop(held);
    wake_up.recv_timeout(PATIENCE).unwrap();
    Driver::default().values(&mut queued).unwrap();
}

#[test]
fn places_go_round_a_crowd_that_waits() {
    let runtime = own_node(|node| node.max_live_instances = 3);
    let module = load(&runtime, SPIN);
    std::thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                let patient = Limits { wait: PATIENCE, ..limits() };
                assert_eq!(number(call_within(&module, "count", &[Value::I32(50_000)], patient)), 50_000);
            });
        }
    });
    eventually_unused(&runtime);
}

#[test]
fn patience_runs_out() {
    let runtime = own_node(|node| node.max_live_instances = 1);
    let module = load(&runtime, HOLD);
    let mut held = start(&module, "hold", &[], limits());
    to_host_call(&mut held);
    let patience = Duration::from_secs(2);
    let mut queued = start(&module, "f", &[], Limits { wait: patience, ..limits() });
    assert!(matches!(queued.step(Lane::Inline), Step::Waiting));
    let left = queued.listen(Box::new(|| {})).unwrap();
    assert!(left <= patience, "the listener is to come back when the patience ends, not after {left:?}");
    assert_eq!(struck(Driver::default().values(&mut queued)), LimitError::new(Limit::LiveInstances, 1, 2));
    let mut queued = start(&module, "f", &[], Limits { wait: PATIENCE, time: Duration::from_millis(20), ..limits() });
    assert_eq!(struck(Driver::default().values(&mut queued)).limit, Limit::Time, "the deadline ends a longer wait");
}

#[test]
fn who_gives_up_waiting_takes_no_place_with_him() {
    let runtime = own_node(|node| node.max_live_instances = 1);
    let module = load(&runtime, HOLD);
    let mut held = start(&module, "hold", &[], limits());
    to_host_call(&mut held);
    for _ in 0..10 {
        let mut queued = start(&module, "f", &[], Limits { wait: PATIENCE, ..limits() });
        assert!(matches!(queued.step(Lane::Inline), Step::Waiting));
    }
    drop(held);
    eventually_unused(&runtime);
    call(&module, "f", &[]).unwrap();
}

#[test]
fn all_guests_together_have_no_more_memory_than_the_node_allows() {
    let runtime = own_node(|node| node.max_total_memory = 10 * PAGE);
    let module = load(&runtime, GROW);
    let one = instantiate(&module, limits()).unwrap();
    let other = instantiate(&module, limits()).unwrap();
    assert_eq!(number(call_on(&one, "grow", &[Value::I32(5)])), 1);
    assert_eq!(number(call_on(&other, "grow", &[Value::I32(4)])), -1);
    assert_eq!(number(call_on(&other, "grow", &[Value::I32(3)])), 1);
    assert_eq!(runtime.ceilings().memory(), 10 * PAGE);
    assert_eq!(struck(instantiate(&module, limits())), LimitError::new(Limit::TotalMemory, 10 * PAGE, 11 * PAGE));
    let refused = call_on(&other, "must", &[Value::I32(1)]);
    assert_eq!(struck(refused), LimitError::new(Limit::TotalMemory, 10 * PAGE, 11 * PAGE));
    drop(one);
    eventually("memory is given back", || runtime.ceilings().memory() <= 4 * PAGE);
    drop(other);
    eventually_unused(&runtime);
}

/// Modules that differ in one constant, with a few kilobytes of code.
fn numbered(number: usize) -> String {
    let body = "(i32.add (i32.mul (local.get 0) (i32.const 3)) (i32.const 1)) (local.set 0) ".repeat(200);
    format!(r#"(module (func (export "f") (param i32) (result i32) {body} (i32.const {number})))"#)
}

#[test]
fn code_beyond_the_nodes_ceiling_is_refused_after_unused_modules_made_room() {
    let size = load(&own(|_| {}), numbered(0)).code_size();
    let allowed = 3 * size + size / 2;
    let runtime = own_node(|node| node.max_code_memory = allowed);
    for number in 0..10 {
        load(&runtime, numbered(number));
    }
    assert!(runtime.ceilings().code() <= allowed);
    assert!(runtime.stats().cache.evictions >= 6, "{:?}", runtime.stats());
    let used: Vec<_> = (10..13).map(|number| load(&runtime, numbered(number))).collect();
    let refused = struck(try_load(&runtime, numbered(13), runtime.default_config()));
    assert_eq!((refused.limit, refused.allowed), (Limit::CodeMemory, allowed));
    assert!(refused.used > allowed, "{refused:?}");
    assert_eq!(number(call(&used[0], "f", &[Value::I32(1)])), 10, "modules in use are not dropped under their users");
    drop(used);
    load(&runtime, numbered(13));
    runtime.clear_cache();
    eventually("no code", || runtime.ceilings().code() == 0);
}

#[test]
fn all_counters_return_to_zero_after_whatever_happened() {
    let runtime = own(|_| {});
    let module = load(&runtime, GROW);
    let instances: Vec<_> = (0..20).map(|_| instantiate(&module, limits()).unwrap()).collect();
    for instance in &instances {
        call_on(instance, "grow", &[Value::I32(10)]).unwrap();
        call_on(instance, "crash", &[]).unwrap_err();
    }
    for _ in 0..20 {
        call_within(&module, "must", &[Value::I32(10_000)], limits()).unwrap_err();
        call_within(&module, "crash", &[], limits()).unwrap_err();
    }
    let spin = load(&runtime, SPIN);
    let mut suspended: Vec<_> = (0..20).map(|_| start(&spin, "spin", &[], limits())).collect();
    assert!(suspended.iter_mut().all(|execution| yields(execution, Lane::Inline)));
    eventually("the poisoned instances gave their places back", || runtime.ceilings().live() == 20);
    drop((instances, suspended, module, spin));
    eventually_unused(&runtime);
    runtime.clear_cache();
    eventually("no code", || runtime.ceilings().code() == 0);
}

#[test]
fn more_guests_than_the_pool_has_slots_go_on_demand() {
    let runtime = own(|settings| settings.pooling = true);
    let module = load(&runtime, HOLD);
    let mut held: Vec<_> = (0..1_200).map(|_| start(&module, "hold", &[], limits())).collect();
    let calls: Vec<_> = held.iter_mut().map(to_host_call).collect();
    for (execution, call) in held.iter_mut().zip(calls) {
        execution.command(call, Command::Return(vec![])).unwrap();
        Driver::default().values(execution).unwrap();
    }
}

#[test]
fn an_instances_globals_and_functions_count_as_memory() {
    // A module of 5 MB with a million globals took 15 MB for each guest, and no ceiling counted them.
    let runtime = own(|_| {});
    for (what, bytes) in [("(global (mut i32) (i32.const 1))", 16), ("(func)", 32)] {
        let many = 5_000;
        let module = load(&runtime, format!(r#"(module {} (func (export "run")))"#, what.repeat(many)));
        let least = bytes * many as u64;
        let within = Limits { max_memory: least - 1, ..limits() };
        let refused = struck(call_within(&module, "run", &[], within));
        assert_eq!((refused.limit, refused.allowed), (Limit::Memory, least - 1));
        assert!(refused.used >= least);

        let instance = instantiate(&module, limits()).unwrap();
        assert!(runtime.ceilings().memory() >= least);
        drop(instance);
        eventually_unused(&runtime);
    }
}

#[test]
fn a_guest_that_counts_as_more_than_there_may_be_is_refused_and_keeps_nobody_waiting() {
    // It used to queue at the head for a number of places that could never be free, and swallowed each one that was.
    let runtime = own_node(|node| node.max_live_instances = 2);
    let three = load(&runtime, r#"(module (memory 1) (memory 1) (memory 1) (func (export "run")))"#);
    let waiting = Limits { wait: PATIENCE, ..limits() };
    assert_eq!(struck(call_within(&three, "run", &[], waiting)).limit, Limit::LiveInstances);
}
