//! A guest is a coroutine of whoever steps it: it comes up for air, gives the same results however its slices fall, waits
//! without being polled, and leaves nothing behind when nobody steps it any more.

use crate::support::{
    Driver, Host, Loaded, OpenCall, call, call_on, eventually, eventually_unused, instantiate, limits, load, number,
    own, own_node, property, shared, start, start_on, to_host_call, try_load, wait, yields,
};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::engine::{Allocation, EngineConfig, Metering};
use cybernetic_wasm_core::error::{Blame, CallError, Limit, LimitError};
use cybernetic_wasm_core::execution::{Execution, Product, Step, Usage};
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::mail::{Answer, Command, HostCall};
use cybernetic_wasm_core::member::MemberId;
use cybernetic_wasm_core::runtime::Runtime;
use cybernetic_wasm_core::value::Value;
use proptest::prelude::*;
use quanta::{Clock, Mock};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const LANES: [Lane; 2] = [Lane::Inline, Lane::Dirty];

fn with_metering(runtime: &Arc<Runtime>, metering: Metering) -> EngineConfig {
    EngineConfig { metering, ..runtime.default_config() }
}

const SPIN: &str = r#"(module
  (func (export "spin") (loop br 0))
  (func (export "one") (result i32) i32.const 1)
  (func (export "count") (param $n i32) (result i32) (local $i i32)
    (loop $again
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (local.get $n))))
    local.get $i))"#;

#[test]
fn an_endless_guest_yields_under_either_metering_in_either_lane() {
    for metering in [Metering::Fuel, Metering::Epoch] {
        let module = try_load(shared(), SPIN, with_metering(shared(), metering)).unwrap();
        for lane in LANES {
            let mut execution = start(&module, "spin", &[], Limits { fuel: u64::MAX, ..limits() });
            for slice in 0..20 {
                assert!(yields(&mut execution, lane), "slice {slice} of {metering:?} in {lane:?}");
            }
            let usage = execution.usage();
            assert_eq!(usage.slices, 21, "twenty are spent, and the next has begun");
            assert_eq!(usage.fuel.is_some(), metering == Metering::Fuel);
            // Slices are of 250 microseconds and of 10 milliseconds: no machine burns more than this in one.
            assert!(
                usage.fuel.is_none_or(|fuel| (20 * 50_000..21 * 2_000_000_000).contains(&fuel)),
                "a guest that is cut off has used fuel, and as much as a slice takes: {usage:?}"
            );
            assert!(usage.slice <= usage.wall, "{usage:?}");
        }
    }
}

#[test]
fn a_looping_start_function_yields_too() {
    let module = load(shared(), r#"(module (func $spin (loop br 0)) (start $spin))"#);
    for lane in LANES {
        let mut execution = Execution::instantiate(&module.module, false, module.setup(limits()));
        assert!((0..5).all(|_| yields(&mut execution, lane)));
    }
}

/// Works for many slices, grows its memory, calls the host, which calls it again: everything that can end a step.
const MIXER: &str = r#"(module
  (import "host" "mix" (func $mix (param i64) (result i64)))
  (memory (export "memory") 1)
  (func $stir (export "stir") (param $seed i64) (param $rounds i32) (result i64) (local $at i32)
    (loop $again
      (local.set $seed (i64.add (i64.mul (local.get $seed) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
      (local.set $at (i32.and (i32.wrap_i64 (i64.shr_u (local.get $seed) (i64.const 40))) (i32.const 0xfff8)))
      (i64.store (local.get $at) (i64.xor (i64.load (local.get $at)) (local.get $seed)))
      (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (i64.add (local.get $seed) (i64.load (local.get $at))))
  (func (export "run") (param $rounds i32) (result i64) (local $sum i64) (local $i i32)
    (loop $again
      (local.set $sum (i64.xor (local.get $sum) (call $stir (local.get $sum) (local.get $rounds))))
      (local.set $sum (i64.add (local.get $sum) (call $mix (local.get $sum))))
      (local.set $sum (i64.add (local.get $sum) (i64.extend_i32_s (memory.grow (i32.const 12)))))
      (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 5))))
    local.get $sum))"#;

fn mix(call: &mut OpenCall<'_>) -> Option<Vec<Value>> {
    let [Value::I64(seed)] = call.args[..] else { return None };
    let stirred = number(call.call("stir", &[Value::I64(seed), Value::I32(20_000)]));
    Some(vec![Value::I64(stirred ^ seed)])
}

fn run_mixer(module: &Loaded, lanes: &[Lane]) -> (i64, Usage) {
    let mut execution = start(module, "run", &[Value::I32(20_000)], limits());
    let result = number(Driver::with_host(&mix).on(lanes).values(&mut execution));
    (result, execution.usage())
}

#[test]
fn results_fuel_and_memory_are_the_same_however_the_slices_fall() {
    let module = load(shared(), MIXER);
    let (expected, usage) = run_mixer(&module, &[Lane::Dirty]);
    let lanes = prop::collection::vec(prop::sample::select(&LANES[..]), 1..40);
    property(100, lanes, |lanes| {
        let (result, sliced) = run_mixer(&module, &lanes);
        prop_assert_eq!(result, expected);
        prop_assert_eq!(sliced.fuel, usage.fuel, "fuel is deterministic");
        prop_assert_eq!(sliced.peak_memory, usage.peak_memory);
        prop_assert_eq!(sliced.host_calls, 5);
        Ok(())
    });
}

#[test]
fn epochs_cut_slices_elsewhere_and_change_no_result() {
    let (expected, _) = run_mixer(&load(shared(), MIXER), &[Lane::Dirty]);
    let module = try_load(shared(), MIXER, with_metering(shared(), Metering::Epoch)).unwrap();
    for lanes in [&[Lane::Inline][..], &[Lane::Dirty], &LANES] {
        assert_eq!(run_mixer(&module, lanes).0, expected);
    }
}

#[test]
fn each_step_may_come_from_another_thread() {
    // The caller's process moves between schedulers from one slice to the next.
    let module = load(shared(), MIXER);
    let (expected, _) = run_mixer(&module, &[Lane::Dirty]);
    let mut execution = start(&module, "run", &[Value::I32(20_000)], limits());
    let result = loop {
        let (back, step) = std::thread::spawn(move || {
            let step = execution.step(Lane::Inline);
            (execution, step)
        })
        .join()
        .unwrap();
        execution = back;
        match step {
            Step::Finished(Product::Values(values)) => break values,
            Step::HostCall { call, args } => {
                let [Value::I64(seed)] = args[..] else { panic!("{args:?}") };
                let function = module.function("stir").unwrap();
                execution
                    .command(call, Command::Call { function, args: vec![Value::I64(seed), Value::I32(20_000)] })
                    .unwrap();
                let stirred = loop {
                    match execution.step(Lane::Inline) {
                        Step::Answered(Ok(Answer::Values(values))) => break number::<()>(Ok(values)),
                        Step::Yielded => {}
                        other => panic!("{other:?}"),
                    }
                };
                execution.command(call, Command::Return(vec![Value::I64(stirred ^ seed)])).unwrap();
            }
            Step::Yielded => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(number::<()>(Ok(result)), expected);
}

#[test]
fn traps_of_every_kind_on_many_threads_at_once_are_errors() {
    // A trap is a signal: it must be caught on whatever thread and fiber the guest was.
    let module = load(
        shared(),
        r#"(module
          (memory 1)
          (func (export "memory") (drop (i32.load (i32.const -1))))
          (func (export "division") (param i32) (drop (i32.div_u (i32.const 1) (local.get 0))))
          (func $stack (export "stack") call $stack)
          (func (export "unreachable") unreachable))"#,
    );
    let expected = [
        ("memory", "memory_out_of_bounds"),
        ("division", "integer_divide_by_zero"),
        ("stack", "limit"),
        ("unreachable", "unreachable"),
    ];
    std::thread::scope(|scope| {
        for thread in 0..20 {
            let module = &module;
            scope.spawn(move || {
                for round in 0..40 {
                    let (function, code) = expected[(thread + round) % expected.len()];
                    let args = if function == "division" { vec![Value::I32(0)] } else { vec![] };
                    match call(module, function, &args).unwrap_err() {
                        Error::Trap(trap) => assert_eq!(trap.code, code),
                        other => assert_eq!((other.kind(), "limit"), ("limit", code)),
                    }
                }
            });
        }
    });
}

#[test]
fn a_trap_names_the_frames_that_led_to_it() {
    let module = load(
        shared(),
        r#"(module (func $inner unreachable) (func $middle call $inner) (func $outer (export "f") call $middle))"#,
    );
    let Error::Trap(trap) = call(&module, "f", &[]).unwrap_err() else { panic!("no trap") };
    let names: Vec<_> = trap.frames.iter().map(|frame| frame.name.as_deref().unwrap_or("?")).collect();
    assert_eq!(names, ["inner", "middle", "outer"]);
    assert!(trap.frames.iter().all(|frame| frame.offset.is_some()));
}

// Leaving the normal scheduler

const GROW: &str = r#"(module
  (memory 1)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;

#[test]
fn a_guest_whose_memory_grows_large_leaves_the_normal_scheduler_first() {
    // Filling a large memory is one instruction, which no slice can interrupt.
    let module = load(shared(), GROW);
    let mut execution = start(&module, "grow", &[Value::I32(32)], limits());
    assert!(yields(&mut execution, Lane::Inline), "33 pages are more than 2 MiB");
    assert_eq!(number(Driver::default().on(&[Lane::Dirty]).values(&mut execution)), 1);
    let mut execution = start(&module, "grow", &[Value::I32(31)], limits());
    assert!(matches!(execution.step(Lane::Inline), Step::Finished(_)), "32 pages are not");
    let mut execution = start(&module, "grow", &[Value::I32(500)], limits());
    assert!(matches!(execution.step(Lane::Dirty), Step::Finished(_)), "on a dirty scheduler there is no reason to");
}

#[test]
fn a_guest_whose_memory_starts_large_leaves_the_normal_scheduler_first() {
    let module = load(shared(), r#"(module (memory 64) (func (export "f")))"#);
    let mut execution = start(&module, "f", &[], limits());
    assert!(yields(&mut execution, Lane::Inline));
    assert!(matches!(execution.step(Lane::Dirty), Step::Finished(_)));
}

#[test]
fn a_guest_that_grows_during_a_garbage_collection_can_be_dropped_there() {
    // The heap's memory is taken out of the store while it grows, and the growth asks to leave the normal scheduler.
    let runtime = own(|_| {});
    let module = load(
        &runtime,
        r#"(module (type $row (array (mut i64)))
          (func (export "f") (drop (array.new_default $row (i32.const 1000000)))))"#,
    );
    for _ in 0..20 {
        let mut execution = start(&module, "f", &[], limits());
        assert!(yields(&mut execution, Lane::Inline));
        drop(execution);
    }
    assert!(call(&module, "f", &[]).is_ok());
    eventually_unused(&runtime);
}

#[test]
fn a_driver_that_stays_inline_against_advice_still_gets_to_the_end() {
    let module = load(shared(), GROW);
    let mut execution = start(&module, "grow", &[Value::I32(500)], limits());
    assert_eq!(number(Driver::default().on(&[Lane::Inline]).values(&mut execution)), 1);
}

/// Calls until the function has proven short, however slow the machine happens to be.
fn prove(step: impl Fn() -> bool) -> usize {
    let mut calls = 0;
    eventually("a function that does nothing proves short", || {
        calls += 1;
        step()
    });
    calls - 1
}

#[test]
fn a_function_proves_short_after_three_calls_and_an_overrun_demotes_it() {
    let module = load(shared(), SPIN);
    let function = module.function("count").unwrap();
    let short = || function.may_run_inline(&limits());
    assert!(!short(), "a function starts on a dirty scheduler");
    let calls = prove(|| {
        call(&module, "count", &[Value::I32(10)]).unwrap();
        short()
    });
    assert!(calls + 1 >= 3, "proven after {} calls", calls + 1);
    let mut execution = start(&module, "count", &[Value::I32(-1)], limits());
    assert!(yields(&mut execution, Lane::Inline));
    assert!(!short(), "one slice that it did not finish is enough");
    drop(execution);
    let calls = prove(|| {
        call(&module, "count", &[Value::I32(10)]).unwrap();
        short()
    });
    assert!(calls + 1 >= 3, "proven again after {} calls", calls + 1);
}

#[test]
fn calls_on_a_live_instance_prove_themselves_apart_from_fresh_ones() {
    let module = load(shared(), SPIN);
    let function = module.function("one").unwrap();
    let instance = instantiate(&module, limits()).unwrap();
    prove(|| {
        call_on(&instance, "one", &[]).unwrap();
        crate::support::first(&instance).may_run_inline(&function, &limits())
    });
    assert!(!function.may_run_inline(&limits()), "no fresh instance was ever made for it");
}

#[test]
fn a_live_instance_with_a_large_memory_never_runs_inline() {
    let module = load(shared(), r#"(module (memory (export "memory") 64) (func (export "f")))"#);
    let function = module.function("f").unwrap();
    let instance = instantiate(&module, limits()).unwrap();
    for _ in 0..50 {
        call_on(&instance, "f", &[]).unwrap();
        assert!(!crate::support::first(&instance).may_run_inline(&function, &limits()));
    }
}

// Dirty schedulers that are shared

/// A node of so many dirty schedulers, and a guest of a few yield intervals' work on it, both in a time that stands still.
fn sharing(schedulers: u64, test: impl FnOnce(&Arc<Runtime>, &Loaded, &Mock)) {
    let (clock, time) = Clock::mock();
    quanta::with_clock(&clock, || {
        let runtime = own_node(|node| node.dirty_schedulers = schedulers);
        test(&runtime, &load(&runtime, SPIN), &time);
    });
}

fn count(module: &Loaded) -> Execution {
    start(module, "count", &[Value::I32(100_000)], limits())
}

/// Whether a slice is over for a guest that has run for this long when it yields for the first time.
fn is_over_after(time: Duration, module: &Loaded, clock: &Mock) -> bool {
    let mut execution = count(module);
    clock.increment(time);
    match execution.step(Lane::Dirty) {
        Step::Yielded => true,
        Step::Finished(_) => false,
        other => panic!("{other:?}"),
    }
}

const MOST: Duration = Duration::from_micros(9_999);

#[test]
fn a_guest_that_keeps_nobody_waiting_has_ten_milliseconds_on_a_dirty_scheduler() {
    sharing(2, |runtime, module, time| {
        assert!(!is_over_after(MOST, module, time));
        assert!(is_over_after(Duration::from_millis(10), module, time));
        // Another has the other scheduler.
        let mut other = count(module);
        time.increment(Duration::from_millis(10));
        assert!(yields(&mut other, Lane::Dirty));
        assert_eq!(runtime.ceilings().crowd(), 1);
        assert!(!is_over_after(MOST, module, time));
    });
}

#[test]
fn a_slice_is_short_while_guests_wait_for_a_dirty_scheduler() {
    sharing(2, |_, module, time| {
        let mut others = [count(module), count(module)];
        time.increment(Duration::from_millis(10));
        assert!(others.iter_mut().all(|other| yields(other, Lane::Dirty)));
        assert!(!is_over_after(Duration::from_micros(999), module, time));
        assert!(is_over_after(Duration::from_millis(1), module, time));
    });
}

#[test]
fn a_call_that_is_on_its_way_to_a_dirty_scheduler_makes_slices_short_until_it_is_there() {
    sharing(1, |runtime, module, time| {
        runtime.ceilings().expect();
        assert_eq!(runtime.ceilings().crowd(), 1);
        assert!(is_over_after(Duration::from_millis(1), module, time));
        runtime.ceilings().arrive();
        assert_eq!(runtime.ceilings().crowd(), 0);
        assert!(!is_over_after(MOST, module, time));
        // Some calls go there unannounced.
        runtime.ceilings().arrive();
        assert_eq!(runtime.ceilings().crowd(), 0);
    });
}

#[test]
fn a_call_that_never_comes_is_not_waited_for_long() {
    // Its process was killed between two schedulers.
    sharing(1, |runtime, module, time| {
        runtime.ceilings().expect();
        runtime.ceilings().expect();
        time.increment(Duration::from_millis(101));
        assert_eq!(runtime.ceilings().crowd(), 0);
        assert!(!is_over_after(MOST, module, time));
        runtime.ceilings().expect();
        assert_eq!(runtime.ceilings().crowd(), 1, "the others are forgotten");
    });
}

#[test]
fn whoever_wants_a_dirty_scheduler_is_counted_until_it_is_served() {
    let runtime = own(|_| {});
    let module = load(&runtime, SPIN);
    let wanting = || runtime.ceilings().crowd();
    let mut endless: Vec<_> = (0..3).map(|_| start(&module, "spin", &[], limits())).collect();
    assert_eq!(wanting(), 0, "nothing has run yet");
    assert!(endless.iter_mut().all(|guest| yields(guest, Lane::Dirty)));
    assert!(endless.iter_mut().all(|guest| yields(guest, Lane::Dirty)));
    assert_eq!(wanting(), 3);
    endless.pop();
    assert_eq!(wanting(), 2, "the process of one was killed");
    endless[0].abandon();
    assert_eq!(wanting(), 1);
    let mut hopping = start(&module, "spin", &[], limits());
    assert!(yields(&mut hopping, Lane::Inline));
    assert_eq!(wanting(), 2, "one has overrun its time on a normal scheduler");
    let instance = instantiate(&module, limits()).unwrap();
    let mut live = start_on(&instance, "spin", &[], limits()).unwrap();
    assert!(yields(&mut live, Lane::Dirty));
    assert_eq!(wanting(), 3);
    drop((endless, hopping, live));
    call(&module, "one", &[]).unwrap();
    assert_eq!(wanting(), 0);
}

#[test]
fn a_guest_that_waits_for_its_host_wants_no_dirty_scheduler_until_it_is_to_go_on() {
    let runtime = own(|_| {});
    let module = load(&runtime, MIXER);
    let mut execution = start(&module, "run", &[Value::I32(1)], limits());
    let call = to_host_call(&mut execution);
    assert_eq!(runtime.ceilings().crowd(), 0);
    execution.want_dirty();
    execution.want_dirty();
    assert_eq!(runtime.ceilings().crowd(), 1);
    execution.command(call, Command::Return(vec![Value::I64(1)])).unwrap();
    to_host_call(&mut execution);
    assert_eq!(runtime.ceilings().crowd(), 0);
}

// The epoch ticker

/// Long enough for the ticker to lie down, and for ticks to show if it does not.
const LONG: Duration = Duration::from_millis(100);

fn ticker_lies_down(runtime: &Arc<Runtime>) {
    eventually("the ticker lies down", || {
        let before = runtime.stats().ticks;
        std::thread::sleep(LONG);
        runtime.stats().ticks == before
    });
}

#[test]
fn the_ticker_sleeps_when_nothing_runs_and_wakes_again() {
    // A peer's tickers took five per cent of a core when idle.
    let runtime = own(|_| {});
    let module = try_load(&runtime, SPIN, with_metering(&runtime, Metering::Epoch)).unwrap();
    assert_eq!(runtime.stats().ticks, 0, "loading needs no ticks");
    for _ in 0..3 {
        let before = runtime.stats().ticks;
        let mut execution = start(&module, "spin", &[], limits());
        assert!((0..3).all(|_| yields(&mut execution, Lane::Dirty)));
        assert!(runtime.stats().ticks > before);
        // Suspended guests need no ticks either.
        ticker_lies_down(&runtime);
    }
}

#[test]
fn a_guest_that_waits_for_its_host_keeps_no_ticker_awake() {
    let runtime = own(|_| {});
    let module = try_load(&runtime, MIXER, with_metering(&runtime, Metering::Epoch)).unwrap();
    let mut execution = start(&module, "run", &[Value::I32(100_000)], limits());
    to_host_call(&mut execution);
    ticker_lies_down(&runtime);
}

#[test]
fn fuel_needs_no_ticker() {
    let runtime = own(|_| {});
    let module = load(&runtime, SPIN);
    let mut execution = start(&module, "spin", &[], limits());
    assert!((0..5).all(|_| yields(&mut execution, Lane::Dirty)));
    assert_eq!(runtime.stats().ticks, 0);
}

#[test]
fn more_busy_guests_than_cores_and_every_deadline_still_fires() {
    // A peer's ticker shared its threads with the guests: as many endless guests as cores, and no deadline ever fired again.
    let runtime = own(|_| {});
    for metering in [Metering::Fuel, Metering::Epoch] {
        let module = try_load(&runtime, SPIN, with_metering(&runtime, metering)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let short = Limits { fuel: u64::MAX, time: Duration::from_millis(100), ..limits() };
                    let result = crate::support::call_within(&module, "spin", &[], short);
                    assert!(matches!(&result, Err(Error::Limit(LimitError { limit: Limit::Time, .. }))), "{result:?}");
                });
            }
        });
    }
}

// Host calls and re-entrance

/// `down(n)` asks the host for `n - 1`, and the host asks the guest again.
const DOWN: &str = r#"(module
  (import "host" "again" (func $again (param i32) (result i32)))
  (func (export "down") (param $n i32) (result i32)
    (if (result i32) (i32.eqz (local.get $n))
      (then (i32.const 0))
      (else (i32.add (i32.const 1) (call $again (i32.sub (local.get $n) (i32.const 1))))))))"#;

fn again(call: &mut OpenCall<'_>) -> Option<Vec<Value>> {
    let args = call.args.clone();
    call.call("down", &args).ok()
}

fn go_down(module: &Loaded, depth: i32) -> Result<Vec<Value>, Error> {
    Driver::with_host(&again).values(&mut start(module, "down", &[Value::I32(depth)], limits()))
}

#[test]
fn host_and_guest_call_each_other_to_a_depth_of_150() {
    let module = load(shared(), DOWN);
    for depth in [0, 1, 10, 150] {
        assert_eq!(number(go_down(&module, depth)), i64::from(depth));
    }
}

#[test]
fn beyond_the_cap_a_nested_call_is_refused_and_everything_unwinds() {
    let runtime = own(|_| {});
    let module = load(&runtime, DOWN);
    let seen = std::cell::RefCell::new(None);
    let host: &Host<'_> = &|call| {
        let args = call.args.clone();
        let result = call.call("down", &args);
        // The innermost refusal is what the host sees first.
        if let Err(error) = &result {
            seen.borrow_mut().get_or_insert_with(|| error.clone());
        }
        result.ok()
    };
    let result = Driver::with_host(host).values(&mut start(&module, "down", &[Value::I32(100_000)], limits()));
    assert_eq!(result.unwrap_err(), Error::Host);
    assert_eq!(seen.take(), Some(LimitError::new(Limit::Reentrance, 200, 201).into()));
    eventually_unused(&runtime);
}

/// Lets a guest and its host call each other until something refuses.
fn sink(module: &Loaded) -> (Execution, Error) {
    let mut execution = start(module, "down", &[Value::I32(1_000)], limits());
    loop {
        match execution.step(Lane::Dirty) {
            Step::HostCall { call, args } => {
                let deeper = vec![Value::I32(1_000)];
                let command = match &args[..] {
                    [Value::Func(reference)] => Command::CallRef { reference: reference.clone(), args: deeper },
                    _ => Command::Call { function: module.function("down").unwrap(), args: deeper },
                };
                execution.command(call, command).unwrap();
            }
            Step::Answered(Err(error)) | Step::Failed(error) => return (execution, error),
            Step::Yielded => {}
            Step::Waiting => wait(&execution),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn guests_in_deep_re_entrance_that_take_a_pools_stacks_meet_a_limit_and_newcomers_are_served_beside_it() {
    // Each level takes a stack, and a pool has only so many. Newcomers used to get an instance of the pool, and then no
    // stack to run it on.
    let runtime = own(|settings| settings.pooling = true);
    let module = load(&runtime, DOWN);
    let deep: Vec<_> = (0..10).map(|_| sink(&module)).collect();
    for (_, error) in &deep {
        let Error::Limit(error) = error else { panic!("{error:?}") };
        assert!(matches!(error.limit, Limit::Reentrance | Limit::LiveInstances), "{error:?}");
    }
    assert_eq!(number(go_down(&module, 150)), 150, "a newcomer goes on demand");
    drop(deep);
    eventually_unused(&runtime);
    assert_eq!(number(go_down(&module, 150)), 150, "the stacks are back");
}

#[test]
fn outside_of_the_pools_deep_re_entrance_of_many_guests_meets_the_nodes_limit() {
    // Each level maps a stack, and the kernel allows a process only so many mappings.
    let runtime = own(|_| {});
    let module = load(&runtime, DOWN);
    for guest in [DOWN, DOWN_BY_REFERENCE] {
        let full = fill_up(&load(&runtime, guest));
        assert_eq!((full.limit, full.allowed), (Limit::Mappings, full.used));
        assert_eq!(Error::from(full).blame(), Blame::Node);
        eventually_unused(&runtime);
        assert_eq!(number(go_down(&module, 150)), 150, "there is room again");
    }
}

/// Calls itself through its host by a reference.
const DOWN_BY_REFERENCE: &str = r#"(module
    (import "host" "down" (func $host (param funcref)))
    (elem declare func $down)
    (func $down (export "down") (param i32) (call $host (ref.func $down))))"#;

/// Has guests go down, each as deep as it may, until the node refuses one.
fn fill_up(module: &Loaded) -> LimitError {
    let mut deep = Vec::new();
    loop {
        let (execution, error) = sink(module);
        deep.push(execution);
        let Error::Limit(error) = error else { panic!("{error:?}") };
        if error.limit != Limit::Reentrance {
            return error;
        }
        assert!(deep.len() < 100, "100 guests took 20,000 stacks");
    }
}

#[test]
fn a_call_that_is_given_up_before_its_first_step_leaves_the_instance_as_it_was() {
    // The guest was taken when the call was made, and dropping the call poisoned what had never run.
    let instance = instantiate(&load(shared(), SPIN), limits()).unwrap();
    let function = instance.module().code().function("one").unwrap();
    drop(Execution::call_on(crate::support::first(&instance), &function, vec![], limits()).unwrap());
    // The reaper drops it, at some moment: until then the instance is busy.
    let mut result = call_on(&instance, "one", &[]);
    while matches!(result, Err(Error::Call(CallError::Busy))) {
        std::thread::sleep(Duration::from_millis(1));
        result = call_on(&instance, "one", &[]);
    }
    assert_eq!(number(result), 1);
}

#[test]
fn re_entrance_works_in_a_guest_that_runs_a_variant_of_its_module() {
    // The driver names the functions of the module that it loaded; the guest runs another compilation of it.
    let module = load(shared(), DOWN);
    let function = module.function("down").unwrap();
    let stack = EngineConfig { max_stack: 64 << 10, ..*module.requested() };
    let on_demand = EngineConfig { allocation: Allocation::OnDemand, ..*module.requested() };
    for config in [with_metering(shared(), Metering::Epoch), stack, on_demand] {
        let mut execution =
            Execution::call(&module.module, &function, vec![Value::I32(5)], module.setup_for(config, limits()));
        assert_eq!(number(Driver::with_host(&again).values(&mut execution)), 5);
    }
}

#[test]
fn a_raise_unwinds_the_guest_as_the_hosts_error() {
    let module = load(shared(), DOWN);
    let result = Driver::with_host(&|_| None).values(&mut start(&module, "down", &[Value::I32(1)], limits()));
    assert_eq!(result.unwrap_err(), Error::Host);
}

#[test]
fn a_raise_within_re_entrance_unwinds_to_the_host_that_may_go_on() {
    let module = load(shared(), DOWN);
    let instance = instantiate(&module, limits()).unwrap();
    let host: &Host<'_> = &|call| match call.args[..] {
        [Value::I32(0)] => None,
        _ => {
            let inner = call.call("down", &[Value::I32(1)]);
            assert_eq!(inner.unwrap_err(), Error::Host);
            Some(vec![Value::I32(41)])
        }
    };
    let mut execution = start_on(&instance, "down", &[Value::I32(5)], limits()).unwrap();
    assert_eq!(number(Driver::with_host(host).values(&mut execution)), 42);
    drop(execution);
    // The inner call was cut off: what it left behind is not to be trusted, though the outer one ended well.
    eventually("the instance is poisoned", || is_poisoned(&instance));
}

fn is_poisoned(instance: &Arc<cybernetic_wasm_core::live::LiveGuest>) -> bool {
    matches!(call_on(instance, "down", &[Value::I32(0)]), Err(Error::Call(CallError::Poisoned { .. })))
}

#[test]
fn a_step_without_a_command_waits_and_breaks_nothing() {
    let module = load(shared(), DOWN);
    let mut execution = start(&module, "down", &[Value::I32(1)], limits());
    let call = to_host_call(&mut execution);
    for lane in LANES {
        assert!(matches!(execution.step(lane), Step::Waiting));
    }
    execution.command(call, Command::Return(vec![Value::I32(6)])).unwrap();
    assert_eq!(number(Driver::default().values(&mut execution)), 7);
}

#[test]
fn a_context_outlives_its_host_call_only_to_be_refused() {
    let module = load(shared(), DOWN);
    let mut execution = start(&module, "down", &[Value::I32(3)], limits());
    let stale = |execution: &Execution, call| {
        assert_eq!(execution.command(call, Command::Fuel).unwrap_err(), CallError::StaleContext.into());
    };
    for serial in [0, 1] {
        stale(&execution, HostCall { member: MemberId::FIRST, import: 0, serial });
    }
    let outer = to_host_call(&mut execution);
    stale(&execution, HostCall { serial: outer.serial + 1, ..outer });
    let function = module.function("down").unwrap();
    execution.command(outer, Command::Call { function, args: vec![Value::I32(1)] }).unwrap();
    let inner = to_host_call(&mut execution);
    assert_ne!(outer, inner);
    stale(&execution, outer);
    execution.command(inner, Command::Return(vec![Value::I32(0)])).unwrap();
    assert!(matches!(execution.step(Lane::Dirty), Step::Answered(Ok(_))));
    stale(&execution, inner);
    execution.command(outer, Command::Return(vec![Value::I32(0)])).unwrap();
    Driver::default().values(&mut execution).unwrap();
    stale(&execution, outer);
}

#[test]
fn a_step_after_the_end_is_an_error_and_no_panic() {
    let module = load(shared(), SPIN);
    for (function, fuel) in [("one", 1_000), ("spin", 1_000)] {
        let mut execution = start(&module, function, &[], Limits { fuel, ..limits() });
        let _ = Driver::default().values(&mut execution);
        for lane in LANES {
            assert!(matches!(execution.step(lane), Step::Failed(_)));
        }
        let call = HostCall { member: MemberId::FIRST, import: 0, serial: 1 };
        assert!(execution.command(call, Command::Raise).is_err());
    }
}

#[test]
fn a_call_that_a_deadline_ended_stays_ended() {
    let module = load(shared(), SPIN);
    let mut execution =
        start(&module, "spin", &[], Limits { fuel: u64::MAX, time: Duration::from_millis(5), ..limits() });
    assert!(Driver::default().values(&mut execution).is_err());
    for lane in LANES {
        assert!(matches!(execution.step(lane), Step::Failed(_)));
    }
}

// One at a time

fn one_at_a_time() -> Arc<Runtime> {
    own_node(|node| node.parallel_execution = false)
}

/// Arms a listener and gives what tells whether it was called.
fn listen(execution: &Execution) -> Arc<AtomicUsize> {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    execution.listen(Box::new(move || _ = counter.fetch_add(1, SeqCst))).unwrap();
    calls
}

#[test]
fn without_parallel_execution_the_second_guest_waits_and_is_woken() {
    let runtime = one_at_a_time();
    let module = load(&runtime, SPIN);
    let mut first = start(&module, "count", &[Value::I32(20_000_000)], limits());
    assert!(yields(&mut first, Lane::Inline));
    let mut second = start(&module, "one", &[], limits());
    assert!(matches!(second.step(Lane::Inline), Step::Waiting));
    let woken = listen(&second);
    assert!(yields(&mut first, Lane::Inline));
    assert_eq!(woken.load(SeqCst), 0, "the first is not done yet");
    Driver::default().values(&mut first).unwrap();
    assert_eq!(woken.load(SeqCst), 1);
    assert_eq!(number(Driver::default().values(&mut second)), 1);
}

#[test]
fn without_parallel_execution_a_host_function_may_call_another_guest() {
    // With the turn kept during a host call, the other guest would wait for ever for the one that waits for it.
    let runtime = one_at_a_time();
    let (outer, other) = (load(&runtime, DOWN), load(&runtime, SPIN));
    let host: &Host<'_> = &|call| {
        assert_eq!(number(crate::support::call(&other, "count", &[Value::I32(100_000)])), 100_000);
        let deeper = again(call)?;
        assert_eq!(number(crate::support::call(&other, "one", &[])), 1);
        Some(deeper)
    };
    let mut execution = start(&outer, "down", &[Value::I32(5)], limits());
    assert_eq!(number(Driver::with_host(host).values(&mut execution)), 5);
}

#[test]
fn a_guest_whose_host_returns_queues_for_its_turn_again() {
    let runtime = one_at_a_time();
    let (asking, busy) = (load(&runtime, DOWN), load(&runtime, SPIN));
    let mut first = start(&asking, "down", &[Value::I32(1)], limits());
    let call = to_host_call(&mut first);
    let mut second = start(&busy, "count", &[Value::I32(20_000_000)], limits());
    assert!(yields(&mut second, Lane::Inline));
    first.command(call, Command::Return(vec![Value::I32(0)])).unwrap();
    assert!(matches!(first.step(Lane::Inline), Step::Waiting));
    let woken = listen(&first);
    Driver::default().values(&mut second).unwrap();
    assert_eq!(woken.load(SeqCst), 1);
    assert_eq!(number(Driver::default().values(&mut first)), 1);
}

#[test]
fn a_turn_is_given_back_by_whoever_ends_badly() {
    let runtime = one_at_a_time();
    let (module, asking) = (load(&runtime, SPIN), load(&runtime, DOWN));
    // Killed while it runs, while it queues, while its host works; out of fuel; raised.
    let mut killed = start(&module, "spin", &[], limits());
    assert!(yields(&mut killed, Lane::Inline));
    let mut queued = start(&module, "one", &[], limits());
    assert!(matches!(queued.step(Lane::Inline), Step::Waiting));
    let mut waiting = start(&module, "one", &[], limits());
    assert!(matches!(waiting.step(Lane::Inline), Step::Waiting));
    drop(queued);
    drop(killed);
    assert_eq!(number(Driver::default().values(&mut waiting)), 1);
    let mut hosted = start(&asking, "down", &[Value::I32(1)], limits());
    to_host_call(&mut hosted);
    drop(hosted);
    assert!(crate::support::call_within(&module, "spin", &[], Limits { fuel: 1_000, ..limits() }).is_err());
    assert!(Driver::default().values(&mut start(&asking, "down", &[Value::I32(1)], limits())).is_err());
    assert_eq!(number(call(&module, "one", &[])), 1);
    eventually_unused(&runtime);
}

#[test]
fn a_crowd_takes_turns_and_all_are_served() {
    let runtime = one_at_a_time();
    let (module, asking) = (load(&runtime, SPIN), load(&runtime, DOWN));
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| assert_eq!(number(call(&module, "count", &[Value::I32(200_000)])), 200_000));
            scope.spawn(|| assert_eq!(number(go_down(&asking, 5)), 5));
        }
    });
    eventually_unused(&runtime);
}

// Executions that nobody steps any more

#[test]
fn a_suspended_execution_that_is_dropped_gives_its_place_back() {
    let runtime = own(|_| {});
    let (spin, asking) = (load(&runtime, SPIN), load(&runtime, DOWN));
    let mut running = start(&spin, "spin", &[], limits());
    assert!(yields(&mut running, Lane::Inline));
    let mut hosted = start(&asking, "down", &[Value::I32(9)], limits());
    let mut call = to_host_call(&mut hosted);
    for _ in 0..5 {
        let function = asking.function("down").unwrap();
        hosted.command(call, Command::Call { function, args: vec![Value::I32(9)] }).unwrap();
        call = to_host_call(&mut hosted);
    }
    let untouched = start(&spin, "spin", &[], limits());
    assert_eq!(runtime.ceilings().live(), 2);
    drop((running, hosted, untouched));
    eventually_unused(&runtime);
}

#[test]
fn an_instance_whose_call_is_dropped_in_the_middle_is_poisoned() {
    let instance = instantiate(&load(shared(), SPIN), limits()).unwrap();
    let mut execution = start_on(&instance, "spin", &[], limits()).unwrap();
    assert!(yields(&mut execution, Lane::Inline));
    assert!(matches!(start_on(&instance, "one", &[], limits()), Err(Error::Call(CallError::Busy))));
    drop(execution);
    eventually("the instance is poisoned", || {
        matches!(start_on(&instance, "one", &[], limits()), Err(Error::Call(CallError::Poisoned { .. })))
    });
}

#[test]
fn an_instance_that_trapped_or_ran_out_is_poisoned_at_once() {
    // The call has ended when its last step returns: whoever calls next must not meet a busy instance.
    let module = load(shared(), SPIN);
    for limits in
        [Limits { fuel: 1_000, ..limits() }, Limits { fuel: u64::MAX, time: Duration::from_millis(5), ..limits() }]
    {
        let instance = instantiate(&module, crate::support::limits()).unwrap();
        let mut execution = start_on(&instance, "spin", &[], limits).unwrap();
        Driver::default().values(&mut execution).unwrap_err();
        eventually("the instance is poisoned", || {
            matches!(
                start_on(&instance, "one", &[], crate::support::limits()),
                Err(Error::Call(CallError::Poisoned { .. }))
            )
        });
    }
}

#[test]
fn a_call_that_ended_well_leaves_the_instance_to_the_next_at_once() {
    let instance = instantiate(&load(shared(), SPIN), limits()).unwrap();
    for _ in 0..1_000 {
        assert_eq!(number(call_on(&instance, "one", &[])), 1);
    }
}

#[test]
fn a_wake_up_between_step_and_listen_is_not_missed() {
    let runtime = one_at_a_time();
    let module = load(&runtime, SPIN);
    for _ in 0..200 {
        let mut first = start(&module, "spin", &[], limits());
        assert!(yields(&mut first, Lane::Inline));
        let mut second = start(&module, "one", &[], limits());
        assert!(matches!(second.step(Lane::Inline), Step::Waiting));
        drop(first);
        // The reaper gives the turn back at some moment around this one.
        wait(&second);
        assert_eq!(number(Driver::default().values(&mut second)), 1);
    }
}
