//! Exchanges: any bytes come back as they went in, however a guest passes them; what a guest gives that cannot be is an error,
//! and leaves it at rest; and all of it is one call.

use crate::support::{
    Driver, Loaded, call_on, first, instantiate, limits, load, named, number, property, shared, to_host_call,
};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::abi::{Abi, Argument, Exchange, Helper, Operand, Shape};
use cybernetic_wasm_core::error::{AbiError, CallError, Limit, LimitError};
use cybernetic_wasm_core::execution::{Execution, Product, Step};
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::live::LiveGuest;
use cybernetic_wasm_core::mail::{Answer, Command};
use cybernetic_wasm_core::value::Value;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::{prop_assert_eq, prop_oneof, strategy::Just, strategy::Strategy};
use std::sync::Arc;

/// Allocates in one direction, counts what it lets go of, and gives what it got in every shape.
const GUEST: &str = r#"(module
    (import "host" "stop" (func $stop))
    (memory (export "memory") 2 20)
    (global $next (mut i32) (i32.const 4096))
    (global $freed (export "freed") (mut i32) (i32.const 0))
    (func $alloc (export "alloc") (param $size i32) (result i32) (local $at i32)
        (local.set $at (global.get $next))
        (global.set $next (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 8)))
        (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
            (then (if (i32.eq (memory.grow (i32.shr_u (i32.add (local.get $size) (i32.const 131071)) (i32.const 16)))
                              (i32.const -1))
                (then (return (i32.const 0))))))
        (local.get $at))
    (func (export "free") (param $at i32) (param $size i32)
        (global.set $freed (i32.add (global.get $freed) (local.get $size))))
    (func (export "freed_so_far") (result i32) (global.get $freed))
    (func (export "none") (param i32) (result i32) (i32.const 0))
    (func (export "far") (param i32) (result i32) (i32.const -8))
    (func (export "fails") (param i32) (result i32) unreachable)
    (func (export "spins") (param i32) (result i32) (loop (br 0)) (i32.const 0))
    (func (export "asks") (param i32) (result i32) (call $stop) (call $alloc (local.get 0)))
    (func (export "works") (param $size i32) (result i32) (local $n i32)
        (local.set $n (i32.const 1000000))
        (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (call $alloc (local.get $size)))
    (func (export "free_fails") (param i32 i32) unreachable)

    (func $packed (export "packed") (param i32 i32) (result i64)
        (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
    (func (export "length_first") (param i32 i32) (result i64) (call $packed (local.get 1) (local.get 0)))
    (func (export "pair") (param i32 i32) (result i32 i32) (local.get 0) (local.get 1))
    (func (export "pair_at") (param i32 i32) (result i32)
        (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1)) (i32.const 16))
    (func (export "into") (param i32 i32 i32)
        (i32.store (local.get 0) (local.get 1)) (i32.store offset=4 (local.get 0) (local.get 2)))
    (func (export "same") (param i32) (result i32) (local.get 0))
    (func (export "fill") (param i32 i32 i32) (result i32)
        (memory.copy (local.get 0) (local.get 1) (local.get 2)) (i32.const 7))
    (func (export "prefixed") (param i32 i32) (result i32) (local $at i32)
        (local.set $at (call $alloc (i32.add (local.get 1) (i32.const 4))))
        (i32.store (local.get $at) (local.get 1))
        (memory.copy (i32.add (local.get $at) (i32.const 4)) (local.get 0) (local.get 1))
        (local.get $at))
    (func (export "before") (param i32 i32) (result i32) (local $at i32)
        (local.set $at (call $alloc (i32.add (local.get 1) (i32.const 4))))
        (i32.store (local.get $at) (local.get 1))
        (memory.copy (i32.add (local.get $at) (i32.const 4)) (local.get 0) (local.get 1))
        (i32.add (local.get $at) (i32.const 4)))
    (func (export "second") (param i32 i32 f64 i32 i32) (result i64) (call $packed (local.get 3) (local.get 4)))
    (func (export "give") (param i64) (result i64) (local.get 0))
    (func (export "refer") (param i32 i32 externref funcref) (result i64) (call $packed (local.get 0) (local.get 1)))
    (func $itself (export "itself") (result funcref) (ref.func $itself))
    (func (export "next") (result i32) (global.get $next))
    (func (export "point") (param i32) (result i32) (local.get 0))
    (func (export "spin") (param i32 i32) (result i64) (loop (br 0)) (i64.const 0))
    (func (export "trap") (param i32 i32) (result i64) unreachable)
    (func (export "stop") (param i32 i32) (result i64) (call $stop) (call $packed (local.get 0) (local.get 1))))"#;

fn guest() -> Arc<LiveGuest> {
    instantiate(&load(shared(), GUEST), limits()).unwrap()
}

fn helper(name: &str, operands: &[Operand]) -> Option<Helper> {
    Some(Helper { name: name.into(), operands: operands.into() })
}

fn abi(result: Shape) -> Abi {
    let free = helper("free", &[Operand::Pointer, Operand::Size]);
    let (free_arguments, free_result) = (free.clone(), free);
    Abi { alloc: helper("alloc", &[Operand::Size]), free_arguments, free_result, result, memory: None, kernel: None }
}

fn allocating(by: &str) -> Abi {
    Abi { alloc: helper(by, &[Operand::Size]), ..abi(Shape::Packed) }
}

fn bytes(bytes: impl AsRef<[u8]>) -> Vec<Argument> {
    vec![Argument::Bytes(bytes.as_ref().to_vec())]
}

fn exchange(guest: &Arc<LiveGuest>, name: &str, abi: &Abi, arguments: Vec<Argument>) -> Result<Exchange, CallError> {
    Exchange::new(guest.module().code().function(name)?, Arc::new(abi.clone()), arguments)
}

fn begin(guest: &Arc<LiveGuest>, name: &str, abi: &Abi, arguments: Vec<Argument>, limits: Limits) -> Execution {
    Execution::exchange_on(first(guest), exchange(guest, name, abi, arguments).unwrap(), limits).unwrap()
}

fn drive(mut execution: Execution) -> Result<Vec<u8>, Error> {
    match Driver::default().drive(&mut execution)? {
        Product::Answer(Answer::Bytes(bytes)) => Ok(bytes),
        other => panic!("no bytes but {other:?}"),
    }
}

fn run(guest: &Arc<LiveGuest>, name: &str, abi: &Abi, arguments: Vec<Argument>) -> Result<Vec<u8>, Error> {
    drive(Execution::exchange_on(first(guest), exchange(guest, name, abi, arguments)?, limits())?)
}

fn freed(guest: &Arc<LiveGuest>) -> i64 {
    number(call_on(guest, "freed_so_far", &[]))
}

fn fresh(module: &Loaded, name: &str, abi: &Abi, arguments: Vec<Argument>) -> Result<Vec<u8>, Error> {
    let exchange = Exchange::new(module.function(name)?, Arc::new(abi.clone()), arguments)?;
    drive(Execution::exchange(&module.module, exchange, module.setup(limits())))
}

type Arguments = fn(&[u8]) -> Vec<Argument>;

/// How each shape is given: the function, and what it takes.
fn shapes() -> Vec<(&'static str, Shape, Arguments)> {
    vec![
        ("packed", Shape::Packed, |text| bytes(text)),
        ("length_first", Shape::PackedLengthFirst, |text| bytes(text)),
        ("pair", Shape::Pair, |text| bytes(text)),
        ("pair_at", Shape::PairAt, |text| bytes(text)),
        ("into", Shape::PairAt, |text| [vec![Argument::Room(8)], bytes(text)].concat()),
        ("prefixed", Shape::LengthPrefixed, |text| bytes(text)),
        ("before", Shape::LengthBefore, |text| bytes(text)),
        ("second", Shape::Packed, |text| [bytes("first"), vec![Argument::Value(Value::F64(0))], bytes(text)].concat()),
    ]
}

#[test]
fn any_bytes_come_back_in_every_shape_from_live_and_fresh_guests() {
    let module = load(shared(), GUEST);
    property(40, vec(any::<u8>(), 0..2_000), |text| {
        let guest = instantiate(&module, limits()).unwrap();
        for (name, shape, arguments) in shapes() {
            prop_assert_eq!(run(&guest, name, &abi(shape), arguments(&text)).unwrap(), text.clone(), "{}", name);
            prop_assert_eq!(fresh(&module, name, &abi(shape), arguments(&text)).unwrap(), text.clone(), "{}", name);
        }
        Ok(())
    });
}

#[test]
fn a_string_ends_at_its_zero_byte_and_a_room_is_read_as_a_whole() {
    let guest = guest();
    let text = |text: &[u8]| vec![Argument::Pointer(text.to_vec())];
    assert_eq!(run(&guest, "same", &abi(Shape::Cstring), text(b"abc\0def")).unwrap(), b"abc");
    assert_eq!(run(&guest, "same", &abi(Shape::Fixed(5)), text(b"abc\0def")).unwrap(), b"abc\0d");
    let room = [vec![Argument::Room(3)], bytes("abcd")].concat();
    assert_eq!(run(&guest, "fill", &abi(Shape::Fixed(3)), room).unwrap(), b"abc");
}

#[test]
fn numbers_are_given_as_they_are() {
    let guest = guest();
    let mut execution = begin(&guest, "packed", &abi(Shape::Values), bytes("abc"), limits());
    assert_eq!(number(Driver::default().values(&mut execution)) & 0xFFFF_FFFF, 3);
    assert_eq!(freed(&guest), 3, "the argument is let go of");
}

#[test]
fn what_was_allocated_is_let_go_of_once() {
    let guest = guest();
    run(&guest, "packed", &abi(Shape::Packed), bytes("abcde")).unwrap();
    assert_eq!(freed(&guest), 5, "the result is the argument's block");
    run(&guest, "prefixed", &abi(Shape::LengthPrefixed), bytes("abcde")).unwrap();
    assert_eq!(freed(&guest), 5 + 5 + 9);
    let taken_over = Abi { free_arguments: None, ..abi(Shape::LengthPrefixed) };
    run(&guest, "prefixed", &taken_over, bytes("abcde")).unwrap();
    assert_eq!(freed(&guest), 5 + 5 + 9 + 9);
    run(&guest, "into", &Abi { free_arguments: None, ..abi(Shape::PairAt) }, {
        [vec![Argument::Room(8)], bytes("ab")].concat()
    })
    .unwrap();
    assert_eq!(freed(&guest), 5 + 5 + 9 + 9 + 8 + 2, "the room and the result, which the function took over");
    let by_result =
        Abi { free_result: helper("free", &[Operand::Result, Operand::Number(1_000)]), ..abi(Shape::PairAt) };
    run(&guest, "pair_at", &Abi { free_arguments: None, ..by_result }, bytes("ab")).unwrap();
    assert_eq!(freed(&guest), 5 + 5 + 9 + 9 + 8 + 2 + 1_000);
}

#[test]
fn a_fresh_guest_is_not_asked_to_let_go_of_anything() {
    let free = helper("free_fails", &[Operand::Pointer, Operand::Size]);
    let (free_arguments, free_result) = (free.clone(), free);
    let abi = Abi { free_arguments, free_result, ..abi(Shape::Packed) };
    assert_eq!(fresh(&load(shared(), GUEST), "packed", &abi, bytes("abc")).unwrap(), b"abc");
}

#[test]
fn a_null_pointer_is_nothing_where_the_length_would_be_behind_it() {
    let guest = guest();
    for shape in [Shape::Cstring, Shape::LengthPrefixed, Shape::LengthBefore, Shape::PairAt, Shape::Fixed(4)] {
        let mut execution = begin(&guest, "point", &abi(shape), vec![Argument::Value(Value::I32(0))], limits());
        assert!(matches!(Driver::default().values(&mut execution).unwrap()[..], [Value::Null]), "{shape:?}");
    }
    assert_eq!(run(&guest, "give", &abi(Shape::Packed), vec![Argument::Value(Value::I64(0))]).unwrap(), b"");
}

// Guests that lie

#[test]
fn a_result_is_what_is_in_the_memory_or_an_error_and_the_guest_goes_on() {
    let guest = guest();
    let size = 131_072_u64;
    let edge = prop_oneof![0..16_u32, 131_050..131_090_u32, Just(u32::MAX), any::<u32>()];
    let pairs = (edge.clone(), prop_oneof![0..16_u32, edge]);
    property(300, pairs.prop_map(|pair| pair), |(pointer, length)| {
        let (offset, length) = (u64::from(pointer), u64::from(length));
        let given = vec![Argument::Value(Value::I64(((offset << 32) | length) as i64))];
        let keeping = Abi { free_result: None, ..abi(Shape::Packed) };
        let result = run(&guest, "give", &keeping, given);
        match offset + length <= size {
            true => prop_assert_eq!(result.unwrap().len() as u64, length),
            false => {
                let error = AbiError::OutOfBounds { export: "give".into(), offset, length, size };
                prop_assert_eq!(result.unwrap_err(), error.into());
            }
        }
        prop_assert_eq!(guest.state(), "idle");
        Ok(())
    });
}

#[test]
fn an_address_is_checked_and_so_is_what_stands_there() {
    let guest = guest();
    let outside = |result: Result<Vec<u8>, Error>| matches!(result, Err(Error::Abi(AbiError::OutOfBounds { .. })));
    for shape in [Shape::Cstring, Shape::LengthPrefixed, Shape::LengthBefore, Shape::PairAt, Shape::Fixed(4)] {
        for at in [-1, -4, 131_077] {
            let result = run(&guest, "point", &abi(shape), vec![Argument::Value(Value::I32(at))]);
            assert!(outside(result), "{shape:?} at {at}");
        }
    }
    assert!(outside(run(&guest, "point", &abi(Shape::LengthBefore), vec![Argument::Value(Value::I32(2))])));
    // A length of 4 GiB stands where the prefix is.
    let huge = vec![Argument::Pointer(vec![0xFF; 8])];
    for shape in [Shape::LengthPrefixed, Shape::PairAt] {
        assert!(outside(run(&guest, "same", &abi(shape), huge.clone())), "{shape:?}");
    }
    assert_eq!(guest.state(), "idle");
}

#[test]
fn a_string_without_an_end_is_an_error() {
    let source = r#"(module (memory (export "memory") 1) (data (i32.const 65533) "abc")
        (func (export "f") (result i32) (i32.const 65533)))"#;
    let result = fresh(&load(shared(), source), "f", &Abi { alloc: None, ..plain(Shape::Cstring) }, vec![]);
    let error = AbiError::Unterminated { export: "f".into(), offset: 65_533, size: 65_536 };
    assert_eq!(result.unwrap_err(), error.into());
}

fn plain(result: Shape) -> Abi {
    Abi { free_arguments: None, free_result: None, ..abi(result) }
}

#[test]
fn an_allocator_that_gives_nothing_or_what_is_not_there_is_an_error() {
    let guest = guest();
    let no_room = AbiError::NoRoom { export: "none".into(), length: 3 };
    assert_eq!(run(&guest, "packed", &allocating("none"), bytes("abc")).unwrap_err(), no_room.into());
    assert_eq!(run(&guest, "packed", &allocating("none"), bytes("")).unwrap(), b"", "nothing needs no room");
    let (offset, size) = (u64::from(u32::MAX) - 7, 131_072);
    let outside = AbiError::OutOfBounds { export: "far".into(), offset, length: 3, size };
    assert_eq!(run(&guest, "packed", &allocating("far"), bytes("abc")).unwrap_err(), outside.clone().into());
    let room = vec![Argument::Room(3), Argument::Value(Value::I32(0)), Argument::Value(Value::I32(0))];
    let by_room = Abi { result: Shape::Fixed(3), ..allocating("far") };
    assert_eq!(run(&guest, "fill", &by_room, room).unwrap_err(), outside.into());
    assert_eq!(guest.state(), "idle");
}

#[test]
fn what_was_allocated_before_there_was_no_more_room_is_let_go_of() {
    let guest = guest();
    let arguments = [bytes("abc"), vec![Argument::Value(Value::F64(0))], bytes(vec![0; 4 << 20])].concat();
    let error = run(&guest, "second", &abi(Shape::Packed), arguments).unwrap_err();
    assert_eq!(error, AbiError::NoRoom { export: "alloc".into(), length: 4 << 20 }.into());
    assert_eq!(freed(&guest), 3);
}

/// What the function `refer` is given: bytes, a term of so many bytes, and a function.
fn referring(size: u64, function: Value) -> Vec<Argument> {
    [bytes("abc"), vec![Argument::Value(Value::Extern(named(1, size))), Argument::Value(function)]].concat()
}

#[test]
fn nothing_is_allocated_for_a_call_with_a_reference_that_the_guest_cannot_be_given() {
    let (guest, other) = (guest(), guest());
    let itself = |guest| call_on(guest, "itself", &[]).unwrap().remove(0);
    let next = number(call_on(&guest, "next", &[]));

    let error = run(&guest, "refer", &abi(Shape::Packed), referring(1, itself(&other))).unwrap_err();
    let Error::Call(CallError::Type { index: 2, expected, .. }) = error else { panic!("{error:?}") };
    assert_eq!(expected, "funcref of the same instance");
    assert_eq!(number(call_on(&guest, "next", &[])), next);

    let null = [bytes("abc"), vec![Argument::Value(Value::I32(1)), Argument::Value(Value::Null)]].concat();
    let error = run(&guest, "refer", &abi(Shape::Packed), null).unwrap_err();
    assert!(matches!(error, Error::Call(CallError::Type { index: 1, .. })));
    assert_eq!(number(call_on(&guest, "next", &[])), next);

    assert_eq!(run(&guest, "refer", &abi(Shape::Packed), referring(1, itself(&guest))).unwrap(), b"abc");
}

#[test]
fn what_was_allocated_for_a_term_that_does_not_fit_any_more_is_let_go_of() {
    let guest = guest();
    let error = run(&guest, "refer", &abi(Shape::Packed), referring(1 << 40, Value::Null)).unwrap_err();
    assert!(matches!(error, Error::Limit(LimitError { limit: Limit::Memory, .. })), "{error:?}");
    assert_eq!(freed(&guest), 3);
    assert_eq!(run(&guest, "refer", &abi(Shape::Packed), referring(1, Value::Null)).unwrap(), b"abc");
}

#[test]
fn a_trap_in_any_of_the_functions_ends_the_call_and_poisons_the_guest() {
    let free_fails =
        Abi { free_arguments: helper("free_fails", &[Operand::Pointer, Operand::Size]), ..abi(Shape::Packed) };
    for (name, abi) in [("packed", allocating("fails")), ("trap", abi(Shape::Packed)), ("packed", free_fails)] {
        let guest = guest();
        let error = run(&guest, name, &abi, bytes("abc")).unwrap_err();
        assert!(matches!(error, Error::Trap(trap) if trap.code == "unreachable"));
        assert_eq!(guest.state(), "poisoned");
    }
}

#[test]
fn the_fuel_is_one_supply_for_all_of_it() {
    for (name, abi) in [("packed", allocating("spins")), ("spin", abi(Shape::Packed))] {
        let guest = guest();
        let execution = begin(&guest, name, &abi, bytes("abc"), Limits { fuel: 100_000, ..limits() });
        assert_eq!(drive(execution).unwrap_err(), LimitError::new(Limit::Fuel, 100_000, 100_000).into());
        assert_eq!(guest.state(), "poisoned");
    }
    // Each argument takes half of it.
    let guest = guest();
    let arguments = [bytes("a"), vec![Argument::Value(Value::F64(0))], bytes("b")].concat();
    let mut enough = begin(&guest, "second", &allocating("works"), arguments.clone(), limits());
    Driver::default().drive(&mut enough).unwrap();
    let used = enough.usage().fuel.unwrap();
    let short = begin(&guest, "second", &allocating("works"), arguments, Limits { fuel: used / 4 * 3, ..limits() });
    assert!(matches!(drive(short), Err(Error::Limit(LimitError { limit: Limit::Fuel, .. }))));
}

#[test]
fn slices_end_in_the_middle_of_an_allocation() {
    let guest = guest();
    let driver = Driver::default();
    let mut execution = begin(&guest, "packed", &allocating("works"), bytes("abc"), limits());
    let mut yields = 0;
    // Whatever lane it is on, the first step of a millisecond's work ends early on a normal scheduler.
    let product = loop {
        match execution.step(Lane::Inline) {
            Step::Yielded => yields += 1,
            Step::Finished(product) => break product,
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(product, Product::Answer(Answer::Bytes(bytes)) if bytes == b"abc"));
    assert!(yields > 0);
    assert_eq!(driver.yields(), 0);
}

#[test]
fn host_calls_are_answered_in_all_of_the_functions() {
    for (name, abi) in [("packed", allocating("asks")), ("stop", abi(Shape::Packed))] {
        let guest = guest();
        let mut execution = begin(&guest, name, &abi, bytes("abc"), limits());
        let call = to_host_call(&mut execution);
        assert_eq!(guest.state(), "busy");
        execution.command(call, Command::Return(vec![])).unwrap();
        assert_eq!(drive(execution).unwrap(), b"abc");
        // One that is given up in the middle leaves the guest cut off.
        let mut given_up = begin(&guest, name, &abi, bytes("abc"), limits());
        to_host_call(&mut given_up);
        drop(given_up);
        assert_eq!(guest.state(), "poisoned");
    }
}

#[test]
fn a_result_counts_as_output_and_one_that_is_too_long_leaves_the_guest_as_it_was() {
    let guest = guest();
    let within = Limits { max_output: 10, ..limits() };
    let drive_within =
        |name, shape, given: &[u8]| drive(begin(&guest, name, &abi(shape), bytes(given), within.clone()));
    assert_eq!(drive_within("packed", Shape::Packed, &[7; 10]).unwrap(), [7; 10]);
    let too_long = LimitError::new(Limit::Output, 10, 11);
    assert_eq!(drive_within("packed", Shape::Packed, &[7; 11]).unwrap_err(), too_long.into());
    assert_eq!(freed(&guest), 21, "it is let go of all the same");
    let string = |given: &[u8]| {
        drive(begin(&guest, "same", &abi(Shape::Cstring), vec![Argument::Pointer(given.to_vec())], within.clone()))
    };
    assert_eq!(string(b"0123456789\0").unwrap(), b"0123456789");
    assert_eq!(string(b"0123456789a\0").unwrap_err(), LimitError::new(Limit::Output, 10, 11).into());
    assert_eq!(guest.state(), "idle");
}

// What an ABI names

#[test]
fn what_the_module_lacks_is_told_before_anything_runs() {
    let guest = guest();
    let refused = |name: &str, abi: &Abi, arguments| match run(&guest, name, abi, arguments) {
        Err(Error::Call(error)) => error,
        other => panic!("not refused but {other:?}"),
    };
    let wrong = |error: CallError| matches!(error, CallError::NotByAbi { .. });
    assert!(matches!(refused("packed", &allocating("nothing"), bytes("")), CallError::NoSuchExport { .. }));
    assert_eq!(refused("packed", &Abi { alloc: None, ..abi(Shape::Packed) }, bytes("")), CallError::NoAllocator);
    let two = Abi { alloc: helper("alloc", &[Operand::Size, Operand::Number(1)]), ..abi(Shape::Packed) };
    assert!(wrong(refused("packed", &two, bytes(""))));
    let number = Abi { alloc: helper("alloc", &[Operand::Number(1 << 40)]), ..abi(Shape::Packed) };
    assert!(wrong(refused("packed", &number, bytes(""))), "no i32");
    let void = Abi { alloc: helper("free", &[Operand::Size, Operand::Size]), ..abi(Shape::Packed) };
    assert!(wrong(refused("packed", &void, bytes(""))), "it gives no pointer");
    for (name, shape) in [("packed", Shape::Pair), ("pair", Shape::Packed), ("pair", Shape::Cstring)] {
        assert!(wrong(refused(name, &abi(shape), bytes(""))), "{name} as {shape:?}");
    }
    let absent = Abi { memory: Some("nowhere".into()), ..abi(Shape::Packed) };
    assert_eq!(refused("packed", &absent, bytes("")), CallError::NoMemory("nowhere".into()));
    assert!(matches!(refused("packed", &abi(Shape::Packed), vec![]), CallError::Arity { given: 0, .. }));
    let many = [bytes("a"), bytes("b")].concat();
    assert!(matches!(refused("packed", &abi(Shape::Packed), many), CallError::Arity { expected: 2, given: 4, .. }));
    let float = [bytes("a"), bytes("b"), vec![Argument::Value(Value::I32(0))]].concat();
    assert!(matches!(refused("second", &abi(Shape::Packed), float), CallError::Type { index: 1, .. }));
    assert_eq!(guest.state(), "idle");
    assert_eq!(freed(&guest), 0);
}

#[test]
fn memories_of_64_bits_have_pointers_of_64() {
    let source = r#"(module (memory (export "memory") i64 2)
        (func (export "alloc") (param i64) (result i64) (i64.const 4096))
        (func (export "packed") (param i64 i64) (result i64)
            (i64.or (i64.shl (local.get 0) (i64.const 32)) (local.get 1)))
        (func (export "pair") (param i64 i64) (result i64 i64) (local.get 0) (local.get 1))
        (func (export "pair_at") (param i64 i64) (result i64)
            (i64.store (i64.const 16) (local.get 0)) (i64.store (i64.const 24) (local.get 1)) (i64.const 16))
        (func (export "prefixed") (param i64 i64) (result i64)
            (i64.store (i64.const 64) (local.get 1))
            (memory.copy (i64.const 72) (local.get 0) (local.get 1)) (i64.const 64))
        (func (export "far") (param i64 i64) (result i64 i64) (i64.const -4) (i64.const 8)))"#;
    let module = load(shared(), source);
    let shapes = [
        ("packed", Shape::Packed),
        ("pair", Shape::Pair),
        ("pair_at", Shape::PairAt),
        ("prefixed", Shape::LengthPrefixed),
    ];
    for (name, shape) in shapes {
        assert_eq!(fresh(&module, name, &plain(shape), bytes("hello")).unwrap(), b"hello", "{name}");
    }
    let error = AbiError::OutOfBounds { export: "far".into(), offset: u64::MAX - 3, length: 8, size: 131_072 };
    assert_eq!(fresh(&module, "far", &plain(Shape::Pair), bytes("")).unwrap_err(), error.into());
}

#[test]
fn a_module_that_counts_arguments_is_told_of_those_of_the_call() {
    let source = r#"(module (memory (export "memory") 1) (global $count (mut i32) (i32.const -1))
        (func (export "__setArgumentsLength") (param i32) (global.set $count (local.get 0)))
        (func (export "alloc") (param i32) (result i32) (i32.const 64))
        (func (export "f") (param i32 i32 i32) (result i32) (global.get $count)))"#;
    let module = load(shared(), source);
    let exchange = Exchange::new(module.function("f").unwrap(), Arc::new(plain(Shape::Values)), bytes("ab")).unwrap();
    let mut execution = Execution::exchange(&module.module, exchange, module.setup(limits()));
    assert_eq!(number(Driver::default().values(&mut execution)), 2);
}

#[test]
fn the_allocator_may_be_the_hosts() {
    let source = r#"(module (func (export "alloc") (import "host" "room") (param i32) (result i32))
        (memory (export "memory") 1)
        (func (export "packed") (param i32 i32) (result i64)
            (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1)))))"#;
    let module = load(shared(), source);
    let exchange =
        Exchange::new(module.function("packed").unwrap(), Arc::new(plain(Shape::Packed)), bytes("ab")).unwrap();
    let mut execution = Execution::exchange(&module.module, exchange, module.setup(limits()));
    let driver = Driver::with_host(&|_| Some(vec![Value::I32(512)]));
    let product = driver.drive(&mut execution).unwrap();
    assert!(matches!(product, Product::Answer(Answer::Bytes(bytes)) if bytes == b"ab"));
}

#[test]
fn large_results_leave_a_normal_scheduler_before_they_are_copied() {
    let guest = guest();
    let mut execution = begin(&guest, "packed", &abi(Shape::Packed), bytes(vec![1; 300_000]), limits());
    // Once for the argument, and once for the result.
    for _ in 0..2 {
        assert!(matches!(execution.step(Lane::Inline), Step::Yielded));
    }
    assert_eq!(drive(execution).unwrap().len(), 300_000);
}

/// Writes its result over its input, and gives objects as AssemblyScript's runtime lays them out.
const OBJECTS: &str = r#"(module
    (memory (export "memory") 2 2)
    (global $next (mut i32) (i32.const 4096))
    (func $alloc (export "alloc") (param $size i32) (result i32)
        (global.get $next) (global.set $next (i32.add (global.get $next) (local.get $size))))
    (func (export "allocated") (result i32) (i32.sub (global.get $next) (i32.const 4096)))
    (func (export "twice") (param $at i32) (param $length i32) (result i32)
        (memory.copy (i32.add (local.get $at) (local.get $length)) (local.get $at) (local.get $length))
        (i32.mul (local.get $length) (i32.const 2)))
    (func (export "minus") (param i32 i32) (result i32) (i32.const -1))
    (func (export "far") (param i32 i32) (result i32) (i32.const 130000))
    (func (export "nothing") (result i32) (i32.const 3))
    (func $object (param $class i32) (param $size i32) (result i32) (local $at i32)
        (local.set $at (i32.add (call $alloc (i32.add (local.get $size) (i32.const 8))) (i32.const 8)))
        (i32.store (i32.sub (local.get $at) (i32.const 8)) (local.get $class))
        (i32.store (i32.sub (local.get $at) (i32.const 4)) (local.get $size))
        (local.get $at))
    (func (export "own") (param $at i32) (param $size i32) (param $class i32) (result i32) (local $to i32)
        (local.set $to (call $object (local.get $class) (local.get $size)))
        (memory.copy (local.get $to) (local.get $at) (local.get $size)) (local.get $to))
    (func (export "view") (param $at i32) (param $size i32) (param $length i32) (result i32) (local $to i32)
        (local.set $to (call $object (i32.const 9) (local.get $length)))
        (i32.store (local.get $to) (local.get $at)) (i32.store offset=4 (local.get $to) (local.get $at))
        (i32.store offset=8 (local.get $to) (local.get $size))
        (if (i32.eq (local.get $length) (i32.const 16))
            (then (i32.store offset=8 (local.get $to) (i32.const 100000)) (i32.store offset=12 (local.get $to) (local.get $size))))
        (local.get $to))
    (func (export "lying") (param i32 i32 i32) (result i32) (local $to i32)
        (local.set $to (call $object (i32.const 1) (i32.const 8)))
        (i32.store (i32.sub (local.get $to) (i32.const 4)) (i32.const -1)) (local.get $to))
    (func (export "low") (param i32 i32 i32) (result i32) (i32.const 4))
    (func (export "null") (param i32 i32 i32) (result i32) (i32.const 0)))"#;

fn allocating_only(result: Shape) -> Abi {
    Abi { free_arguments: None, free_result: None, ..abi(result) }
}

fn buffer(text: &[u8], room: u64) -> Vec<Argument> {
    vec![Argument::Buffer { bytes: text.to_vec(), room }]
}

#[test]
fn a_result_may_be_written_over_the_argument_where_there_is_room_for_it() {
    let module = load(shared(), OBJECTS);
    let in_place = allocating_only(Shape::InPlace);
    let guest = instantiate(&module, limits()).unwrap();
    assert_eq!(run(&guest, "twice", &in_place, buffer(b"abc", 100)).unwrap(), b"abcabc");
    assert_eq!(number(call_on(&guest, "allocated", &[])), 100);
    // What there is room for is never less than the bytes.
    assert_eq!(run(&guest, "twice", &in_place, buffer(b"abcd", 2)).unwrap(), b"abcdabcd");
    assert_eq!(number(call_on(&guest, "allocated", &[])), 104);
    assert_eq!(fresh(&module, "twice", &in_place, buffer(b"", 0)).unwrap(), b"");

    for name in ["minus", "far"] {
        let outside = fresh(&module, name, &in_place, buffer(b"abc", 0));
        assert!(matches!(outside, Err(Error::Abi(AbiError::OutOfBounds { offset: 4096, .. }))), "{outside:?}");
    }
    let none = exchange(&guest, "nothing", &in_place, vec![]);
    assert!(matches!(none, Err(CallError::NotByAbi { .. })), "{none:?}");
    let much = fresh(&module, "twice", &in_place, buffer(b"abc", 200_000));
    assert!(matches!(much, Err(Error::Abi(AbiError::OutOfBounds { length: 200_000, .. }))), "{much:?}");
}

#[test]
fn objects_of_assemblyscript_are_read_by_what_their_header_says() {
    let module = load(shared(), OBJECTS);
    let managed = allocating_only(Shape::Managed);
    let give = |name: &str, text: &[u8], number: i32| {
        fresh(&module, name, &managed, [bytes(text), vec![Argument::Value(Value::I32(number))]].concat())
    };
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for text in ["", "plain", "é € 𝄞 \0"] {
        assert_eq!(give("own", &utf16(text), 2).unwrap(), text.as_bytes());
        assert_eq!(give("own", text.as_bytes(), 1).unwrap(), text.as_bytes());
        assert_eq!(give("view", text.as_bytes(), 12).unwrap(), text.as_bytes());
        assert_eq!(give("view", text.as_bytes(), 16).unwrap(), text.as_bytes());
    }
    // Half a pair of surrogates is no text, but bytes.
    assert_eq!(give("own", &[0x41, 0, 0x34, 0xD8, 0x42, 0], 2).unwrap(), b"A\xED\xA0\xB4B");

    for (name, number) in [("own", 7), ("view", 20)] {
        let other = give(name, b"abc", number);
        assert!(matches!(other, Err(Error::Abi(AbiError::NotManaged { .. }))), "{other:?}");
    }
    for name in ["lying", "low"] {
        let outside = give(name, b"abc", 0);
        assert!(matches!(outside, Err(Error::Abi(AbiError::OutOfBounds { .. }))), "{outside:?}");
    }
    let limits = Limits { max_output: 5, ..limits() };
    let exchange = |text: &[u8]| {
        let arguments = [bytes(text), vec![Argument::Value(Value::I32(2))]].concat();
        let exchange = Exchange::new(module.function("own").unwrap(), Arc::new(managed.clone()), arguments).unwrap();
        drive(Execution::exchange(&module.module, exchange, module.setup(limits.clone())))
    };
    assert_eq!(exchange(&utf16("€")).unwrap(), "€".as_bytes());
    // Two letters are four bytes there, and six here.
    assert!(matches!(exchange(&utf16("€€")), Err(Error::Limit(LimitError { limit: Limit::Output, .. }))));
}
