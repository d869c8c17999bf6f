//! What a guest holds of the embedder's counts as its memory, once, and for as long as it holds it.

use crate::support::{
    Driver, OpenCall, call_on, eventually_unused, first, instantiate, limits, load, named, own, own_node, property,
    start,
};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::access::Access;
use cybernetic_wasm_core::error::{Limit, LimitError};
use cybernetic_wasm_core::execution::Execution;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::live::LiveGuest;
use cybernetic_wasm_core::runtime::Runtime;
use cybernetic_wasm_core::value::{HostRef, Value};
use proptest::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;

/// Keeps what it is given at an index, gives it back, and throws it away.
const KEEPER: &str = r#"(module
    (import "host" "make" (func $make (param i32) (result externref)))
    (table $t (export "t") 64 externref)
    (memory (export "memory") 1)
    (global (export "g") (mut externref) (ref.null extern))
    (func (export "keep") (param i32 externref) (table.set $t (local.get 0) (local.get 1)))
    (func (export "drop") (param i32) (table.set $t (local.get 0) (ref.null extern)))
    (func (export "get") (param i32) (result externref) (table.get $t (local.get 0)))
    (func (export "pass") (param externref) (result externref) (local.get 0))
    (func (export "many") (param $n i32)
        (loop $again
            (table.set $t (i32.const 0) (call $make (local.get $n)))
            (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))"#;

fn keeper(runtime: &Arc<Runtime>, limits: Limits) -> Arc<LiveGuest> {
    instantiate(&load(runtime, KEEPER), limits).unwrap()
}

fn keep(guest: &Arc<LiveGuest>, index: i32, host: HostRef) -> Result<Vec<Value>, Error> {
    call_on(guest, "keep", &[Value::I32(index), Value::Extern(host)])
}

fn is_memory_limit(error: &Error) -> bool {
    matches!(error, Error::Limit(LimitError { limit: Limit::Memory | Limit::TotalMemory, .. }))
}

#[test]
fn what_a_guest_holds_counts_in_its_node_until_the_guest_is_gone() {
    let runtime = own(|_| {});
    let guest = keeper(&runtime, limits());
    let before = runtime.ceilings().memory();
    keep(&guest, 0, named(1, 1_000_000)).unwrap();
    let kept = runtime.ceilings().memory() - before;
    assert!((1_000_000..1_200_000).contains(&kept), "{kept} bytes more");
    drop(guest);
    eventually_unused(&runtime);
}

#[test]
fn the_same_is_held_once() {
    let runtime = own(|_| {});
    let guest = keeper(&runtime, limits());
    for index in 0..64 {
        keep(&guest, index, named(1, 10_000_000)).unwrap();
    }
    let memory = runtime.ceilings().memory();
    assert!(memory < 20_000_000, "{memory} bytes for one value");
    // It is the first that is given back.
    let one = call_on(&guest, "get", &[Value::I32(0)]).unwrap();
    let other = call_on(&guest, "get", &[Value::I32(63)]).unwrap();
    let (Value::Extern(one), Value::Extern(other)) = (&one[0], &other[0]) else { panic!("{one:?} {other:?}") };
    assert!(Arc::ptr_eq(one, other));
}

#[test]
fn more_than_a_guest_may_have_is_refused_before_its_code_runs() {
    let runtime = own(|_| {});
    let guest = keeper(&runtime, Limits { max_memory: 1_000_000, ..limits() });
    let small = |name, size| {
        let args = [Value::I32(name as i32), Value::Extern(named(name, size))];
        let function = first(&guest).code().unwrap().function("keep").unwrap();
        let limits = Limits { max_memory: 1_000_000, ..limits() };
        Driver::default().values(&mut Execution::call_on(first(&guest), &function, args.to_vec(), limits).unwrap())
    };
    small(1, 500_000).unwrap();
    assert!(is_memory_limit(&small(2, 500_000).unwrap_err()));
    // Nothing ran that could have been left in the middle.
    assert_eq!(guest.state(), "idle");
    small(1, 500_000).unwrap();
    let value = Value::Extern(named(3, 900_000));
    let setting = Access::SetGlobal { name: "g".into(), value };
    let Err(setting) = first(&guest).access(setting) else { panic!("a reference was made at once") };
    let few = Limits { max_memory: 1_000_000, ..limits() };
    let mut setting = Execution::access(first(&guest), setting, few).unwrap();
    assert!(is_memory_limit(&Driver::default().drive(&mut setting).unwrap_err()));
    assert_eq!(guest.state(), "idle");
}

#[test]
fn what_a_guest_has_let_go_of_does_not_stand_in_its_way() {
    // Each pass but the last was garbage that nobody had collected.
    let runtime = own(|_| {});
    let few = Limits { max_memory: 5_000_000, ..limits() };
    let module = load(&runtime, KEEPER);
    let make = |call: &mut OpenCall<'_>| {
        let Value::I32(name) = call.args[0] else { panic!("{:?}", call.args) };
        Some(vec![Value::Extern(named(name as u32, 1_000_000))])
    };
    let mut execution = start(&module, "many", &[Value::I32(200)], few);
    Driver::with_host(&make).values(&mut execution).unwrap();
    let peak = execution.usage().peak_memory;
    assert!((1_000_000..=5_000_000).contains(&peak), "{peak}");
    drop(execution);
    eventually_unused(&runtime);
}

#[test]
fn a_full_node_refuses_it() {
    let runtime = own_node(|node| node.max_total_memory = 3_000_000);
    let guest = keeper(&runtime, limits());
    keep(&guest, 0, named(1, 2_000_000)).unwrap();
    let refused = keep(&guest, 1, named(2, 2_000_000)).unwrap_err();
    assert!(matches!(refused, Error::Limit(LimitError { limit: Limit::TotalMemory, .. })), "{refused:?}");
    keep(&guest, 0, named(3, 2_000_000)).unwrap_err();
    call_on(&guest, "drop", &[Value::I32(0)]).unwrap();
    keep(&guest, 0, named(3, 2_000_000)).unwrap();
}

#[derive(Debug, Clone)]
enum Move {
    Keep(i32, u32),
    Drop(i32),
    Pass(u32),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        (0..8_i32, 0..12_u32).prop_map(|(index, name)| Move::Keep(index, name)),
        (0..8_i32).prop_map(Move::Drop),
        (0..12_u32).prop_map(Move::Pass),
    ];
    prop::collection::vec(one, 1..120)
}

#[test]
fn however_it_is_used_a_guest_has_no_more_than_it_may_and_the_sum_is_right() {
    const EACH: u64 = 250_000;
    let allowed = 1_000_000;
    let runtime = own(|_| {});
    property(60, moves(), |moves| {
        let few = || Limits { max_memory: allowed, ..limits() };
        let guest = keeper(&runtime, few());
        let mut kept: HashMap<i32, u32> = HashMap::new();
        for one in moves {
            let (function, args) = match one {
                Move::Keep(index, name) => ("keep", vec![Value::I32(index), Value::Extern(named(name, EACH))]),
                Move::Drop(index) => ("drop", vec![Value::I32(index)]),
                Move::Pass(name) => ("pass", vec![Value::Extern(named(name, EACH))]),
            };
            let code = first(&guest).code().unwrap();
            let call = Execution::call_on(first(&guest), &code.function(function).unwrap(), args, few());
            let result = Driver::default().values(&mut call.unwrap());
            match (&one, &result) {
                (Move::Keep(index, name), Ok(_)) => drop(kept.insert(*index, *name)),
                (Move::Drop(index), Ok(_)) => drop(kept.remove(index)),
                (Move::Pass(_), Ok(_)) => {}
                (_, Err(error)) => prop_assert!(is_memory_limit(error), "{:?}", error),
            }
            let mut names: Vec<_> = kept.values().collect();
            names.sort_unstable();
            names.dedup();
            let least = names.len() as u64 * EACH;
            let memory = runtime.ceilings().memory();
            prop_assert!((least..=allowed).contains(&memory), "{} bytes for {:?}", memory, names);
            // Refused is only what there is no room for beside what is still held.
            prop_assert!(result.is_ok() || least + EACH + 100_000 > allowed, "{:?}", result);
        }
        drop(guest);
        eventually_unused(&runtime);
        Ok(())
    });
}
