//! A runtime takes other settings while guests run on it: they hold for what comes, and what is there stays and is counted on.

use crate::support::{
    Driver, Loaded, call, call_on, eventually, eventually_unused, instantiate, limits, load, number, own, own_node,
    property, start, to_host_call, try_load,
};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::compiler::Notice;
use cybernetic_wasm_core::engine::{Allocation, EngineConfig};
use cybernetic_wasm_core::error::{Limit, LimitError};
use cybernetic_wasm_core::execution::Step;
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::{Limits, NodeLimits};
use cybernetic_wasm_core::mail::Command;
use cybernetic_wasm_core::runtime::{Runtime, Settings};
use cybernetic_wasm_core::value::Value;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

const PAGE: u64 = 65_536;

const GUEST: &str = r#"(module (import "host" "hold" (func $hold)) (memory 1)
  (func (export "hold") call $hold)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "f")))"#;

fn adjust(runtime: &Runtime, change: impl FnOnce(&mut Settings)) {
    let mut settings = Settings { pooling: false, ..Settings::default() };
    change(&mut settings);
    runtime.adjust(settings);
}

fn adjust_node(runtime: &Runtime, change: impl FnOnce(&mut NodeLimits)) {
    adjust(runtime, |settings| change(&mut settings.node));
}

fn limit<T: std::fmt::Debug>(result: Result<T, Error>) -> LimitError {
    match result {
        Err(Error::Limit(error)) => error,
        other => panic!("not a limit: {other:?}"),
    }
}

/// Modules that differ in one constant.
fn numbered(number: usize) -> String {
    let body = "(i32.add (i32.mul (local.get 0) (i32.const 3)) (i32.const 1)) (local.set 0) ".repeat(200);
    format!(r#"(module (func (export "f") (param i32) (result i32) {body} (i32.const {number})))"#)
}

fn answer(module: &Loaded) -> i64 {
    number(call(module, "f", &[Value::I32(0)]))
}

#[derive(Debug, Clone)]
enum Deed {
    Make,
    Drop(usize),
    Allow(u64),
}

#[test]
fn there_are_never_more_new_guests_than_are_allowed_and_always_as_many() {
    let deed = prop_oneof![
        3 => Just(Deed::Make),
        2 => (0_usize..8).prop_map(Deed::Drop),
        2 => (1_u64..6).prop_map(Deed::Allow),
    ];
    property(40, prop::collection::vec(deed, 1..40), |deeds| {
        let runtime = own_node(|node| node.max_live_instances = 3);
        let module = load(&runtime, GUEST);
        let (mut allowed, mut guests) = (3, Vec::new());
        for deed in deeds {
            match deed {
                Deed::Make => match instantiate(&module, limits()) {
                    Ok(guest) => guests.push(guest),
                    refused => {
                        prop_assert!(guests.len() as u64 >= allowed);
                        prop_assert_eq!(limit(refused), LimitError::new(Limit::LiveInstances, allowed, allowed + 1));
                    }
                },
                Deed::Drop(_) if guests.is_empty() => {}
                Deed::Drop(index) => drop(guests.swap_remove(index % guests.len())),
                Deed::Allow(number) => {
                    allowed = number;
                    adjust_node(&runtime, |node| node.max_live_instances = number);
                }
            }
            eventually("the dropped are gone", || runtime.ceilings().live() == guests.len() as u64);
            prop_assert_eq!(runtime.ceilings().limits().max_live_instances, allowed);
        }
        Ok(())
    });
}

#[test]
fn who_waits_for_a_place_has_it_once_more_are_allowed() {
    let runtime = own_node(|node| node.max_live_instances = 1);
    let module = load(&runtime, GUEST);
    let mut held = start(&module, "hold", &[], limits());
    to_host_call(&mut held);
    let patient = Limits { wait: Duration::from_secs(600), ..limits() };
    let mut waiting = start(&module, "f", &[], patient);
    assert!(matches!(waiting.step(Lane::Inline), Step::Waiting));
    adjust_node(&runtime, |node| node.max_live_instances = 2);
    Driver::default().values(&mut waiting).unwrap();
    drop((held, waiting));
    eventually_unused(&runtime);
}

#[test]
fn memory_that_is_there_stays_under_a_lower_ceiling_and_grows_no_more() {
    let runtime = own(|_| {});
    let module = load(&runtime, GUEST);
    let guest = instantiate(&module, limits()).unwrap();
    assert_eq!(number(call_on(&guest, "grow", &[Value::I32(3)])), 1);
    adjust_node(&runtime, |node| node.max_total_memory = 2 * PAGE);
    assert_eq!(number(call_on(&guest, "grow", &[Value::I32(0)])), 4);
    assert_eq!(number(call_on(&guest, "grow", &[Value::I32(1)])), -1);
    assert_eq!(limit(instantiate(&module, limits())), LimitError::new(Limit::TotalMemory, 2 * PAGE, 5 * PAGE));
    adjust_node(&runtime, |node| node.max_total_memory = 6 * PAGE);
    assert_eq!(number(call_on(&guest, "grow", &[Value::I32(1)])), 4);
    instantiate(&module, limits()).unwrap();
}

#[test]
fn code_that_is_there_stays_under_a_lower_ceiling() {
    let runtime = own(|_| {});
    let module = load(&runtime, numbered(1));
    adjust_node(&runtime, |node| node.max_code_memory = 1);
    assert_eq!(limit(try_load(&runtime, numbered(2), runtime.default_config())).limit, Limit::CodeMemory);
    assert_eq!(answer(&module), 1);
    adjust_node(&runtime, |_| {});
    assert_eq!(answer(&load(&runtime, numbered(2))), 2);
}

#[test]
fn guests_take_turns_from_when_that_is_asked_for() {
    let runtime = own(|_| {});
    let spin = load(&runtime, r#"(module (func (export "spin") (loop br 0)) (func (export "f")))"#);
    adjust_node(&runtime, |node| node.parallel_execution = false);
    let mut running = start(&spin, "spin", &[], limits());
    assert!(matches!(running.step(Lane::Inline), Step::Yielded));
    let mut waiting = start(&spin, "f", &[], limits());
    assert!(matches!(waiting.step(Lane::Inline), Step::Waiting));
    adjust_node(&runtime, |_| {});
    call(&spin, "f", &[]).unwrap();
    drop(running);
    Driver::default().values(&mut waiting).unwrap();
}

#[test]
fn a_smaller_cache_lets_go_and_one_of_no_size_keeps_nothing() {
    let runtime = own(|_| {});
    let held = load(&runtime, numbered(0));
    for number in 1..4 {
        load(&runtime, numbered(number));
    }
    let size = held.size();
    adjust(&runtime, |settings| settings.cache_bytes = 2 * size + size / 2);
    let stats = runtime.stats().cache;
    assert_eq!((stats.entries, stats.evictions), (2, 2), "{stats:?}");
    adjust(&runtime, |settings| settings.cache_bytes = 0);
    assert_eq!((runtime.stats().cache.entries, runtime.stats().cache.bytes), (0, 0));
    let (one, again) = (load(&runtime, numbered(9)), load(&runtime, numbered(9)));
    assert!(!one.is(&again));
    adjust(&runtime, |_| {});
    assert!(load(&runtime, numbered(0)).is(&held), "who holds a module finds it");
}

#[test]
fn another_default_stack_makes_another_usual_engine() {
    let runtime = own(|settings| settings.pooling = true);
    let before = load(&runtime, numbered(1));
    assert_eq!(before.engine().config().allocation, Allocation::Pooling);
    adjust(&runtime, |settings| (settings.pooling, settings.default_stack) = (true, 300_000));
    let after = load(&runtime, numbered(1));
    let EngineConfig { max_stack, allocation, .. } = *after.engine().config();
    assert_eq!((max_stack, allocation), (300_000, Allocation::Pooling));
    assert_eq!((answer(&before), answer(&after)), (1, 1));
    adjust(&runtime, |settings| settings.default_stack = 300_000);
    assert_eq!(load(&runtime, numbered(2)).engine().config().allocation, Allocation::OnDemand);
}

#[test]
fn a_module_that_left_the_cache_is_found_as_long_as_somebody_holds_it() {
    let size = load(&own(|_| {}), numbered(0)).size();
    let runtime = own(|settings| settings.cache_bytes = size + size / 2);
    let held = load(&runtime, numbered(1));
    load(&runtime, numbered(2));
    assert_eq!(runtime.stats().cache.evictions, 1);
    assert!(load(&runtime, numbered(1)).is(&held));
    let stats = runtime.stats().cache;
    assert_eq!((stats.misses, stats.hits, stats.entries), (2, 1, 1), "{stats:?}");
    assert!(stats.bytes <= size + size / 2);
    drop(held);
    load(&runtime, numbered(3));
    load(&runtime, numbered(1));
    assert_eq!(runtime.stats().cache.misses, 4, "nobody held it any more");
}

#[test]
fn a_module_larger_than_the_cache_is_shared_while_it_is_held_and_told_of_once() {
    let runtime = own(|settings| settings.cache_bytes = 100);
    for round in 1..=2 {
        let module = load(&runtime, numbered(1));
        assert!(load(&runtime, numbered(1)).is(&module));
        drop(module);
        // The thread that had it compiled may hold it for a moment longer.
        eventually("no code", || runtime.ceilings().code() == 0);
        let stats = runtime.stats().cache;
        assert_eq!((stats.misses, stats.hits, stats.too_large, stats.entries), (round, round, round, 0), "{stats:?}");
    }
    let module = load(&runtime, numbered(1));
    let told = Notice::TooLarge { digest: *module.digest(), size: module.size(), allowed: 100 };
    assert_eq!(runtime.take_notices(), [told]);
    load(&runtime, numbered(2));
    assert_eq!(runtime.take_notices().len(), 1);
}

#[test]
fn dead_modules_are_not_remembered_for_ever() {
    let runtime = own(|settings| settings.cache_bytes = 1);
    for number in 0..300 {
        assert_eq!(
            answer(&load(
                &runtime,
                format!(r#"(module (func (export "f") (param i32) (result i32) i32.const {number}))"#)
            )),
            number
        );
    }
    eventually("no code", || runtime.ceilings().code() == 0);
}

#[test]
fn an_open_host_call_goes_on_through_all_of_it() {
    let runtime = own(|_| {});
    let module = load(&runtime, GUEST);
    let mut held = start(&module, "hold", &[], limits());
    let call = to_host_call(&mut held);
    adjust(&runtime, |settings| {
        settings.cache_bytes = 0;
        settings.default_stack = 200_000;
        settings.node = NodeLimits {
            max_live_instances: 1,
            max_total_memory: 1,
            max_code_memory: 1,
            max_open_files: 1,
            parallel_execution: false,
            dirty_schedulers: 7,
        };
    });
    held.command(call, Command::Return(vec![])).unwrap();
    Driver::default().values(&mut held).unwrap();
    drop((held, module));
    eventually_unused(&runtime);
    let weak = Arc::downgrade(&runtime);
    drop(runtime);
    eventually("the runtime is gone", || weak.upgrade().is_none());
}
