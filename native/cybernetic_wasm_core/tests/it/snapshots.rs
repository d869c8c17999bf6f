//! Snapshots: a module whose initial state is what a live instance's was, and what cannot be captured.

use crate::support::{
    Driver, Guest, call, call_on, call_within, eventually, first, limits, load, number, own, own_node, property,
    shared, start_on,
};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::access::Access;
use cybernetic_wasm_core::error::{CallError, Limit, LimitError};
use cybernetic_wasm_core::execution::{Execution, Product, Step};
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::live::LiveGuest;
use cybernetic_wasm_core::mail::Answer;
use cybernetic_wasm_core::runtime::Runtime;
use cybernetic_wasm_core::value::Value;
use proptest::prelude::{any, prop};
use proptest::prop_assert_eq;
use std::sync::Arc;

fn capturable(source: impl AsRef<[u8]>) -> Result<Arc<LiveGuest>, Error> {
    let module = load(shared(), source);
    let mut execution = Execution::instantiate(&module.module, true, module.setup(limits()));
    match Driver::default().drive(&mut execution)? {
        Product::Guest(instance) => Ok(instance),
        other => panic!("an instantiation made {other:?}"),
    }
}

fn snapshot(instance: &Arc<LiveGuest>) -> Result<Vec<u8>, Error> {
    match Driver::default().drive(&mut Execution::snapshot(shared(), instance, None, limits())?)? {
        Product::Snapshot(snapshot) => Ok(snapshot.as_ref().to_vec()),
        other => panic!("a snapshot is {other:?}"),
    }
}

const STATE: &str = r#"(module
    (memory (export "memory") 1)
    (memory (export "other") 1)
    (data (i32.const 8) "start")
    (global $i (mut i32) (i32.const 1))
    (global $l (mut i64) (i64.const 2))
    (global $f (mut f32) (f32.const 0))
    (global $d (mut f64) (f64.const 0))
    (global $v (mut v128) (v128.const i64x2 0 0))
    (global $started (mut i32) (i32.const 0))
    (func $start (global.set $started (i32.add (global.get $started) (i32.const 1))))
    (start $start)
    (func (export "change") (param i32 i64 f32 f64 v128)
        (global.set $i (local.get 0)) (global.set $l (local.get 1)) (global.set $f (local.get 2))
        (global.set $d (local.get 3)) (global.set $v (local.get 4))
        (drop (memory.grow 1 (i32.const 2)))
        (i32.store8 1 (i32.const 196607) (i32.const 42))
        (memory.fill (i32.const 8) (i32.const 0) (i32.const 5)))
    (func (export "state") (result i32 i64 f32 f64 v128 i32 i32)
        (global.get $i) (global.get $l) (global.get $f) (global.get $d) (global.get $v)
        (global.get $started) (i32.load8_u 1 (i32.const 196607)))
    (func (export "zeroed") (result i64) (i64.load (i32.const 8))))"#;

#[test]
fn globals_and_memories_are_captured_bit_by_bit() {
    let guest = capturable(STATE).unwrap();
    let (nan, payload) = (0x7fa0_1234, 0xfff0_0000_dead_beef);
    let args = [Value::I32(-5), Value::I64(i64::MIN), Value::F32(nan), Value::F64(payload), Value::V128(u128::MAX - 7)];
    call_on(&guest, "change", &args).unwrap();
    let module = load(shared(), snapshot(&guest).unwrap());
    let state = call(&module, "state", &[]).unwrap();
    assert!(matches!(
        state[..],
        [Value::I32(-5), Value::I64(i64::MIN), Value::F32(f), Value::F64(d), Value::V128(v), Value::I32(1), Value::I32(42)]
            if f == nan && d == payload && v == u128::MAX - 7
    ));
    // Also that the module's own data had been cleared.
    assert_eq!(number(call(&module, "zeroed", &[])), 0);
    assert_eq!(number(call_on(&guest, "zeroed", &[])), 0, "the instance goes on as before");
}

#[test]
fn any_memory_comes_back_as_it_was() {
    let pieces = prop::collection::vec((0..131_072_u64, prop::collection::vec(any::<u8>(), 0..200)), 0..40);
    property(24, pieces, |pieces| {
        let guest = capturable(r#"(module (memory (export "memory") 3))"#).unwrap();
        for (offset, bytes) in &pieces {
            first(&guest).write(None, *offset, bytes).unwrap();
        }
        let copy = load(shared(), snapshot(&guest).unwrap());
        let copy = crate::support::instantiate(&copy, limits()).unwrap();
        let all = |guest: &Arc<LiveGuest>| first(guest).read(None, (0, 3 << 16), <[u8]>::to_vec).unwrap();
        prop_assert_eq!(all(&guest), all(&copy));
        Ok(())
    });
}

#[test]
fn a_snapshot_can_be_captured_again() {
    let counting = r#"(module (global $n (mut i32) (i32.const 0)) (func (export "next") (result i32)
        (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))"#;
    let mut wasm = counting.as_bytes().to_vec();
    for turn in 1..4 {
        let guest = capturable(&wasm).unwrap();
        assert_eq!(number(call_on(&guest, "next", &[])), turn);
        wasm = snapshot(&guest).unwrap();
    }
}

#[test]
fn what_cannot_be_captured_is_refused_by_name() {
    for (source, word) in [
        ("(module (table 1 funcref) (func (table.set (i32.const 0) (ref.null func))))", "table.set"),
        ("(module (table 1 funcref) (func (drop (table.grow (ref.null func) (i32.const 1)))))", "table.grow"),
        ("(module (memory 1) (data \"x\") (func (data.drop 0)))", "data.drop"),
        ("(module (table 1 funcref) (elem func) (func (elem.drop 0)))", "elem.drop"),
        ("(module (global (mut externref) (ref.null extern)))", "reference"),
        ("(module (memory (export \"__wizer_memory_0\") 1))", "__wizer_"),
    ] {
        match capturable(source) {
            Err(Error::Call(CallError::NoSnapshot(why))) => assert!(why.contains(word), "{why}"),
            other => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn an_instance_that_was_not_made_for_it_a_busy_one_and_a_linked_one_give_no_snapshot() {
    let plain = crate::support::instantiate(&load(shared(), STATE), limits()).unwrap();
    assert!(matches!(snapshot(&plain), Err(Error::Call(CallError::NoSnapshot(_)))));

    let guest = capturable(r#"(module (func (export "spin") (loop (br 0))))"#).unwrap();
    let mut running = start_on(&guest, "spin", &[], limits()).unwrap();
    assert!(matches!(running.step(Lane::Inline), Step::Yielded));
    assert_eq!(snapshot(&guest).unwrap_err(), CallError::Busy.into());
    drop(running);
    assert!(matches!(snapshot(&guest), Err(Error::Call(CallError::Poisoned { by: Some(_) }))));

    let linked = Guest::from(capturable("(module)").unwrap());
    let mut link = linked.link(&load(shared(), "(module)"), |_| false, limits()).unwrap();
    Driver::default().drive(&mut link).unwrap();
    assert!(matches!(snapshot(&linked), Err(Error::Call(CallError::NoSnapshot(_)))));
}

#[test]
fn the_instances_of_a_snapshot_begin_with_its_hook() {
    const HOOKED: &str = r#"(module
        (memory (export "memory") 1)
        (global $n (mut i32) (i32.const 1))
        (func $start (global.set $n (i32.const 5)))
        (start $start)
        (func (export "set") (param i32) (global.set $n (local.get 0)))
        (func (export "get") (result i32) (global.get $n))
        (func (export "hook") (global.set $n (i32.add (global.get $n) (i32.const 100))))
        (func (export "fail") unreachable)
        (@custom "last" "bytes"))"#;
    let hooked = |guest: &Arc<LiveGuest>, name: &str| {
        let taken = Execution::snapshot(shared(), guest, Some(name.to_owned()), limits()).unwrap();
        match Driver::default().drive(&mut { taken })? {
            Product::Snapshot(snapshot) => Ok(snapshot.as_ref().to_vec()),
            other => panic!("a snapshot is {other:?}"),
        }
    };
    let guest = capturable(HOOKED).unwrap();
    call_on(&guest, "set", &[Value::I32(7)]).unwrap();
    let wasm = hooked(&guest, "hook").unwrap();
    assert_eq!(number(call(&load(shared(), &wasm), "get", &[])), 107);
    assert_eq!(number(call_on(&guest, "get", &[])), 7, "the instance goes on as before");
    // A snapshot of such a one begins with its hook only where it is given one again.
    let again = capturable(&wasm).unwrap();
    assert_eq!(number(call(&load(shared(), snapshot(&again).unwrap()), "get", &[])), 107);
    assert_eq!(number(call(&load(shared(), hooked(&again, "hook").unwrap()), "get", &[])), 207);
    let failing = load(shared(), hooked(&guest, "fail").unwrap());
    assert!(matches!(call(&failing, "get", &[]), Err(Error::Trap(_))));
    assert!(matches!(hooked(&guest, "none"), Err(Error::Call(CallError::NoSnapshot(_)))));
}

#[test]
fn the_module_of_a_fork_is_kept_while_nothing_changes() {
    let guest = capturable(STATE).unwrap();
    let fork = |guest: &Arc<LiveGuest>| {
        let config = *guest.module().code().requested();
        let mut forking = Execution::fork(shared(), guest, (None, config), limits()).unwrap();
        assert!(matches!(Driver::default().drive(&mut forking), Ok(Product::Module(_))));
    };
    assert!(guest.fork().is_none());
    fork(&guest);
    assert!(guest.fork().is_some());
    first(&guest).read(None, (0, 1), |_| ()).unwrap();
    assert!(matches!(first(&guest).access(Access::Size { memory: None }), Ok(Ok(Answer::Number(_)))));
    assert!(guest.fork().is_some(), "looking changes nothing");
    for change in
        [&|| first(&guest).write(None, 0, b"x").unwrap(), &|| drop(call_on(&guest, "zeroed", &[]).unwrap()), &|| {
            drop(Driver::default().drive(&mut Execution::reset(&guest, limits()).unwrap()).unwrap())
        }] as [&dyn Fn(); 3]
    {
        fork(&guest);
        change();
        assert!(guest.fork().is_none());
    }
}

// What a snapshot takes

fn capturable_on(runtime: &Arc<Runtime>, source: &str, limits: Limits) -> Arc<LiveGuest> {
    let module = load(runtime, source);
    let mut execution = Execution::instantiate(&module.module, true, module.setup(limits));
    match Driver::default().drive(&mut execution).unwrap() {
        Product::Guest(instance) => instance,
        other => panic!("an instantiation made {other:?}"),
    }
}

/// Ten megabytes, none of them zero.
const FULL: &str = r#"(module (memory (export "memory") 160)
    (func (export "fill") (memory.fill (i32.const 0) (i32.const 7) (i32.const 10485760))))"#;

#[test]
fn a_snapshot_counts_as_memory_of_the_nodes_guests_while_it_is_there() {
    let runtime = own(|_| {});
    let guest = capturable_on(&runtime, FULL, limits());
    call_on(&guest, "fill", &[]).unwrap();
    let before = runtime.ceilings().memory();
    let mut making = Execution::snapshot(&runtime, &guest, None, limits()).unwrap();
    let Product::Snapshot(snapshot) = Driver::default().drive(&mut making).unwrap() else { panic!("no snapshot") };
    assert!(runtime.ceilings().memory() >= before + snapshot.as_ref().len() as u64);
    drop((snapshot, making));
    assert_eq!(runtime.ceilings().memory(), before);
}

#[test]
fn a_snapshot_that_the_node_has_no_room_for_is_refused_and_its_guest_goes_on() {
    for room in [12_000_000, 25_000_000] {
        let runtime = own_node(|node| node.max_total_memory = room);
        let guest = capturable_on(&runtime, FULL, limits());
        call_on(&guest, "fill", &[]).unwrap();
        let before = runtime.ceilings().memory();
        let refused = Driver::default().drive(&mut Execution::snapshot(&runtime, &guest, None, limits()).unwrap());
        let Err(Error::Limit(LimitError { limit: Limit::TotalMemory, allowed, .. })) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(allowed, room);
        assert_eq!(runtime.ceilings().memory(), before);
        call_on(&guest, "fill", &[]).unwrap();
    }
}

#[test]
fn a_snapshot_that_nobody_waits_for_any_more_frees_its_guest_and_its_memory() {
    let runtime = own(|_| {});
    let guest = capturable_on(&runtime, FULL, limits());
    call_on(&guest, "fill", &[]).unwrap();
    let before = runtime.ceilings().memory();
    for _ in 0..20 {
        let mut making = Execution::snapshot(&runtime, &guest, None, limits()).unwrap();
        while matches!(making.step(Lane::Dirty), Step::Yielded) {}
        drop(making);
        eventually("the guest is free", || guest.state() == "idle");
        eventually("nothing is left", || runtime.ceilings().memory() == before);
    }
    call_on(&guest, "fill", &[]).unwrap();
}

/// Thirteen megabytes, of which every so many bytes one is not zero.
const SCATTERED: &str = r#"(module (memory (export "memory") 200 400)
    (func (export "scatter") (param $step i32) (local $at i32)
        (loop $again
            (i32.store8 (local.get $at) (i32.const 9))
            (br_if $again (i32.lt_u (local.tee $at (i32.add (local.get $at) (local.get $step)))
                                    (i32.const 13107200)))))
    (func (export "sum") (result i64) (local $at i32) (local $sum i64)
        (loop $again
            (local.set $sum (i64.add (local.get $sum) (i64.load8_u (local.get $at))))
            (br_if $again (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1)))
                                    (i32.const 13107200))))
        (local.get $sum)))"#;

#[test]
fn a_memory_of_many_pieces_is_captured_in_as_many_as_a_module_may_have() {
    // A piece for each other byte was more than the memory itself, and more segments than an engine takes.
    for step in [2, 600, 1_300] {
        let guest = capturable(SCATTERED).unwrap();
        call_on(&guest, "scatter", &[Value::I32(step)]).unwrap();
        let module = load(shared(), snapshot(&guest).unwrap());
        let sum = number(call(&module, "sum", &[]));
        assert_eq!(sum, number(call_on(&guest, "sum", &[])));
        assert_eq!(sum, (13_107_200_i64 + i64::from(step) - 1) / i64::from(step) * 9);
    }
}

#[test]
fn what_each_piece_takes_beside_its_bytes_counts_too() {
    // 256 bytes of each piece are read, and written.
    let memory = 200 * 65_536;
    let pieces = memory / 1_500;
    for (more, fits) in [(200_000, false), (800_000, true)] {
        let runtime = own_node(|node| node.max_total_memory = memory + 2 * 256 * pieces + more);
        let guest = capturable_on(&runtime, SCATTERED, limits());
        call_on(&guest, "scatter", &[Value::I32(1_500)]).unwrap();
        let made = Driver::default().drive(&mut Execution::snapshot(&runtime, &guest, None, limits()).unwrap());
        assert_eq!(made.is_ok(), fits, "{made:?}");
    }
}

#[test]
fn offsets_beyond_two_gibibytes_and_memories_of_64_bits_are_captured() {
    let huge = Limits { max_memory: 3 << 30, ..limits() };
    let source = r#"(module (memory (export "memory") 32770) (memory $wide (export "wide") i64 1 3)
        (func (export "set") (i32.store8 (i32.const 0x80000001) (i32.const 5))
            (drop (memory.grow $wide (i64.const 1)))
            (i64.store8 $wide (i64.const 131071) (i64.const 6)))
        (func (export "get") (result i32)
            (i32.add (i32.load8_u (i32.const 0x80000001)) (i32.load8_u $wide (i64.const 131071)))))"#;
    let runtime = own(|_| {});
    let guest = capturable_on(&runtime, source, huge.clone());
    Driver::default().values(&mut start_on(&guest, "set", &[], huge.clone()).unwrap()).unwrap();
    let mut making = Execution::snapshot(&runtime, &guest, None, limits()).unwrap();
    let Product::Snapshot(snapshot) = Driver::default().drive(&mut making).unwrap() else { panic!("no snapshot") };
    assert!(snapshot.as_ref().len() < 10_000, "only what is not zero is in it");
    let again = load(&runtime, &snapshot);
    assert_eq!(number(call_within(&again, "get", &[], huge)), 11);
}
