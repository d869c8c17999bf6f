//! Budgets: what a live guest may use in its whole life, however its calls are cut.

use crate::support::{Driver, call_on, first, limits, load, own, property, shared, start_on, to_host_call};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::access::Access;
use cybernetic_wasm_core::error::{CallError, Limit, LimitError};
use cybernetic_wasm_core::execution::{Execution, Product, Step};
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::live::LiveGuest;
use cybernetic_wasm_core::mail::Command;
use cybernetic_wasm_core::runtime::Runtime;
use cybernetic_wasm_core::value::Value;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// Works as long as it is told, asks the host, spins.
const GUEST: &str = r#"(module
    (import "host" "stop" (func $stop))
    (memory (export "memory") 1 3)
    (func (export "work") (param $n i32)
        (loop $again (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
    (func (export "work_and_overrun") (param $n i32)
        (loop $again (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (memory.fill (i32.const 0) (i32.const 0) (i32.const -1)))
    (func (export "stop") (call $stop))
    (func (export "spin") (loop (br 0)))
    (func (export "fail") unreachable))"#;

fn guest(runtime: &Arc<Runtime>, budget: Option<Limits>) -> Arc<LiveGuest> {
    let module = load(runtime, GUEST);
    let mut making = Execution::instantiate_within(&module.module, (false, None), module.setup(limits()), budget);
    match Driver::default().drive(&mut making).unwrap() {
        Product::Guest(guest) => guest,
        other => panic!("an instantiation made {other:?}"),
    }
}

fn work(guest: &Arc<LiveGuest>, rounds: i32) -> Result<Vec<Value>, Error> {
    call_on(guest, "work", &[Value::I32(rounds)])
}

fn reset(guest: &Arc<LiveGuest>) -> Result<Product, Error> {
    Driver::default().drive(&mut Execution::reset(guest, limits())?)
}

fn fuel(guest: &LiveGuest) -> u64 {
    guest.usage().fuel.unwrap()
}

fn is_limit(error: &Error, limit: Limit, allowed: u64) -> bool {
    matches!(error, Error::Limit(LimitError { limit: met, allowed: most, .. }) if (*met, *most) == (limit, allowed))
}

#[test]
fn what_a_guest_uses_is_what_its_calls_use_together() {
    let guest = guest(shared(), None);
    let made = guest.usage();
    let mut sum = fuel(&guest);
    for rounds in [1, 10, 100_000] {
        let mut execution = start_on(&guest, "work", &[Value::I32(rounds)], limits()).unwrap();
        Driver::default().values(&mut execution).unwrap();
        sum += execution.usage().fuel.unwrap();
        assert_eq!(fuel(&guest), sum);
    }
    assert!(guest.usage().slices >= made.slices + 3);
    assert_eq!(guest.usage().peak_memory, 65_536);
}

#[test]
fn no_cut_of_the_work_gives_more_fuel_than_the_budget() {
    let runtime = own(|_| {});
    property(40, prop::collection::vec((1..60_000_i32, any::<bool>()), 1..40), |calls| {
        let budget = 400_000;
        let guest = guest(&runtime, Some(Limits { fuel: budget, ..limits() }));
        for (rounds, renew) in calls {
            match work(&guest, rounds) {
                Ok(_) => {}
                Err(Error::Call(CallError::Poisoned { .. })) => prop_assert_eq!(fuel(&guest), budget),
                Err(error) => {
                    prop_assert!(is_limit(&error, Limit::Fuel, budget), "{error:?}");
                    prop_assert_eq!(fuel(&guest), budget);
                }
            }
            if renew && fuel(&guest) < budget {
                prop_assert!(reset(&guest).is_ok());
            }
            prop_assert!(fuel(&guest) <= budget);
        }
        Ok(())
    });
}

#[test]
fn a_guest_without_fuel_refuses_and_is_not_poisoned_again() {
    let guest = guest(shared(), Some(Limits { fuel: 10_000, ..limits() }));
    assert!(is_limit(&call_on(&guest, "spin", &[]).unwrap_err(), Limit::Fuel, 10_000));
    assert_eq!(fuel(&guest), 10_000);
    // Nothing runs for nothing, not even to make the guest anew.
    assert!(is_limit(&reset(&guest).unwrap_err(), Limit::Fuel, 10_000));
    assert_eq!(guest.state(), "poisoned");
}

#[test]
fn a_call_that_is_dropped_in_the_middle_is_charged_with_what_it_may_have_used() {
    let guest = guest(shared(), Some(Limits { fuel: 100_000_000, ..limits() }));
    let mut execution = start_on(&guest, "spin", &[], limits()).unwrap();
    while !matches!(execution.step(Lane::Dirty), Step::Yielded) {}
    let known = execution.usage().fuel.unwrap();
    drop(execution);
    assert!(fuel(&guest) > known, "{} after {known}", fuel(&guest));
    // Over and over it comes to an end.
    let mut calls = 0;
    while reset(&guest).is_ok() {
        let Ok(mut execution) = start_on(&guest, "spin", &[], limits()) else { break };
        execution.step(Lane::Dirty);
        drop(execution);
        calls += 1;
        assert!(calls < 3_000, "the budget never ends");
    }
    assert!(fuel(&guest) >= 100_000_000);
}

#[test]
fn an_instruction_that_is_out_of_bounds_gives_nothing_back_of_the_budget() {
    // What was used before it is not known to a yield, and was told as less.
    let guest = guest(shared(), Some(Limits { fuel: 20_000_000, ..limits() }));
    guest.survive_traps();
    let mut calls = 0;
    let error = loop {
        match call_on(&guest, "work_and_overrun", &[Value::I32(10_000)]) {
            Err(Error::Trap(trap)) => assert_eq!(trap.code, "memory_out_of_bounds"),
            Err(error) => break error,
            Ok(values) => panic!("{values:?}"),
        }
        calls += 1;
        assert!(calls < 500, "500 times 40,000 is more than there was");
    };
    assert!(is_limit(&error, Limit::Fuel, 20_000_000), "{error:?}");
}

#[test]
fn a_call_narrows_what_it_takes_of_the_budget() {
    let guest = guest(shared(), Some(Limits { fuel: 100_000, ..limits() }));
    let narrow = Limits { fuel: 1_000, ..limits() };
    let mut execution = start_on(&guest, "spin", &[], narrow).unwrap();
    let error = Driver::default().values(&mut execution).unwrap_err();
    assert!(is_limit(&error, Limit::Fuel, 1_000), "{error:?}");
    assert_eq!(fuel(&guest), 1_000);
}

#[test]
fn host_calls_and_output_are_counted_over_all_calls() {
    let guest = guest(shared(), Some(Limits { max_host_calls: 3, max_output: 10, ..limits() }));
    let asked = |bytes: &[u8]| {
        let mut execution = start_on(&guest, "stop", &[], limits())?;
        let call = match execution.step(Lane::Dirty) {
            Step::HostCall { call, .. } => call,
            Step::Failed(error) => return Err(error),
            other => panic!("no host call but {other:?}"),
        };
        execution.emit(bytes)?;
        execution.command(call, Command::Return(vec![]))?;
        Driver::default().values(&mut execution).map(|_| ())
    };
    assert_eq!(asked(b"12345"), Ok(()));
    assert_eq!(asked(b"67890"), Ok(()));
    assert!(is_limit(&asked(b"x").unwrap_err(), Limit::Output, 10));
    reset(&guest).unwrap();
    assert!(is_limit(&asked(b"").unwrap_err(), Limit::HostCalls, 3));
    assert_eq!((guest.usage().host_calls, guest.usage().output), (3, 10));
}

#[test]
fn after_its_time_a_guest_takes_neither_calls_nor_accesses() {
    let guest = guest(shared(), Some(Limits { time: Duration::from_millis(1), ..limits() }));
    std::thread::sleep(Duration::from_millis(2));
    let over = |error: Error| assert!(is_limit(&error, Limit::Time, 1), "{error:?}");
    over(work(&guest, 1).unwrap_err());
    over(first(&guest).read(None, (0, 1), <[u8]>::to_vec).unwrap_err());
    over(first(&guest).write(None, 0, b"x").unwrap_err());
    over(first(&guest).access(Access::Size { memory: None }).unwrap().unwrap_err());
    over(reset(&guest).unwrap_err());
}

#[test]
fn a_guest_that_is_finished_while_it_is_on_a_call_is_closed_when_that_ends() {
    let guest = guest(shared(), None);
    let mut execution = start_on(&guest, "stop", &[], limits()).unwrap();
    let call = to_host_call(&mut execution);
    guest.finish();
    assert_eq!(work(&guest, 1).unwrap_err(), CallError::Closed.into());
    execution.command(call, Command::Return(vec![])).unwrap();
    assert!(matches!(execution.step(Lane::Dirty), Step::Failed(Error::Call(CallError::Closed))));
    assert_eq!(guest.state(), "closed");
    assert_eq!(reset(&guest).unwrap_err(), CallError::Closed.into());
}

#[test]
fn those_who_wait_for_a_guest_are_told_that_it_is_closed() {
    let guest = guest(shared(), None);
    let mut holder = start_on(&guest, "stop", &[], limits()).unwrap();
    to_host_call(&mut holder);
    let wait = Limits { wait: Duration::from_secs(600), ..limits() };
    let mut waiter = start_on(&guest, "work", &[Value::I32(1)], wait).unwrap();
    assert!(matches!(waiter.step(Lane::Dirty), Step::Waiting));
    guest.finish();
    assert_eq!(Driver::default().values(&mut waiter).unwrap_err(), CallError::Closed.into());
    drop(holder);
    assert_eq!(guest.state(), "closed");
}
