//! Live instances: whose turn it is, what a call that is cut off leaves behind, and what can be seen of an idle guest.

use crate::support::{
    Driver, Guest, call_on, eventually, eventually_unused, first, instantiate, limits, load, number, own, shared,
};
use crate::support::{Token, poisoned_by, start_on, to_host_call};
use cybernetic_wasm_core::access::Access;
use cybernetic_wasm_core::error::{CallError, Limit, LimitError};
use cybernetic_wasm_core::execution::{Execution, Product, Step};
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::linker::Source;
use cybernetic_wasm_core::live::LiveGuest;
use cybernetic_wasm_core::mail::{Answer, Command};
use cybernetic_wasm_core::value::{HostRef, Value};
use cybernetic_wasm_core::{Cancel, Error, Stream};
use std::sync::Arc;
use std::time::Duration;

/// Counts its calls, stops in the host, runs for ever, traps.
const GUEST: &str = r#"(module
    (import "host" "stop" (func $stop))
    (memory (export "memory") 1 3)
    (data (i32.const 16) "from the module")
    (global $n (export "n") (mut i32) (i32.const 0))
    (global (export "fixed") i32 (i32.const 7))
    (global (export "ref") (mut externref) (ref.null extern))
    (table (export "table") 3 funcref)
    (elem (i32.const 1) $next)
    (func $next (export "next") (result i32)
        (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n))
    (func (export "stop") (call $stop))
    (func (export "spin") (loop (br 0)))
    (func (export "fail") unreachable))"#;

fn guest() -> Arc<LiveGuest> {
    instantiate(&load(shared(), GUEST), limits()).unwrap()
}

fn waiting(milliseconds: u64) -> Limits {
    Limits { wait: Duration::from_millis(milliseconds), ..limits() }
}

fn next(instance: &Arc<LiveGuest>) -> Result<i64, Error> {
    call_on(instance, "next", &[]).map(|values| number::<Error>(Ok(values)))
}

fn reset(instance: &Arc<LiveGuest>) -> Result<Product, Error> {
    Driver::default().drive(&mut Execution::reset(instance, limits())?)
}

fn access(instance: &Arc<LiveGuest>, access: Access) -> Result<Answer, Error> {
    match first(instance).access(access) {
        Ok(answer) => answer,
        Err(access) => {
            let mut execution = Execution::access(first(instance), access, limits())?;
            match Driver::default().drive(&mut execution)? {
                Product::Answer(answer) => Ok(answer),
                other => panic!("an access made {other:?}"),
            }
        }
    }
}

/// A call that has the guest and is suspended in the host.
fn holder(instance: &Arc<LiveGuest>) -> (Execution, cybernetic_wasm_core::mail::HostCall) {
    let mut execution = start_on(instance, "stop", &[], limits()).unwrap();
    let call = to_host_call(&mut execution);
    (execution, call)
}

// Turns

#[test]
fn a_second_call_is_refused_or_waits_for_its_turn() {
    let guest = guest();
    let (mut holder, call) = holder(&guest);
    assert_eq!(next(&guest).unwrap_err(), CallError::Busy.into());
    assert_eq!(guest.state(), "busy");

    let mut waiter = start_on(&guest, "next", &[], waiting(600_000)).unwrap();
    assert!(matches!(waiter.step(Lane::Dirty), Step::Waiting));
    holder.command(call, Command::Return(vec![])).unwrap();
    assert!(matches!(holder.step(Lane::Dirty), Step::Finished(_)));
    assert_eq!(number(Driver::default().values(&mut waiter)), 1);
    assert_eq!(guest.state(), "idle");
}

#[test]
fn those_who_wait_come_in_the_order_they_asked() {
    let guest = guest();
    let (mut holder, call) = holder(&guest);
    let mut waiters: Vec<_> = (0..5).map(|_| start_on(&guest, "next", &[], waiting(600_000)).unwrap()).collect();
    for waiter in &mut waiters {
        assert!(matches!(waiter.step(Lane::Dirty), Step::Waiting));
    }
    holder.command(call, Command::Return(vec![])).unwrap();
    assert!(matches!(holder.step(Lane::Dirty), Step::Finished(_)));
    // The guest is the first waiter's already: nobody who comes now overtakes.
    assert_eq!(next(&guest).unwrap_err(), CallError::Busy.into());
    for (index, waiter) in waiters.iter_mut().enumerate() {
        assert_eq!(number(Driver::default().values(waiter)), index as i64 + 1);
    }
}

#[test]
fn one_that_stops_waiting_leaves_the_turn_to_the_next() {
    let guest = guest();
    let (mut holder, call) = holder(&guest);
    let mut gone = start_on(&guest, "next", &[], waiting(600_000)).unwrap();
    let mut handed = start_on(&guest, "next", &[], waiting(600_000)).unwrap();
    let mut last = start_on(&guest, "next", &[], waiting(600_000)).unwrap();
    for waiter in [&mut gone, &mut handed, &mut last] {
        assert!(matches!(waiter.step(Lane::Dirty), Step::Waiting));
    }
    // One goes before its turn comes, one after: the guest was on its way to it.
    drop(gone);
    holder.command(call, Command::Return(vec![])).unwrap();
    assert!(matches!(holder.step(Lane::Dirty), Step::Finished(_)));
    drop(handed);
    assert_eq!(number(Driver::default().values(&mut last)), 1);
    assert_eq!(next(&guest), Ok(2));
}

#[test]
fn waiting_ends_with_busy_when_its_time_is_over() {
    let guest = guest();
    let (_holder, _) = holder(&guest);
    let mut waiter = start_on(&guest, "next", &[], waiting(20)).unwrap();
    assert_eq!(Driver::default().values(&mut waiter).unwrap_err(), CallError::Busy.into());
}

#[test]
fn those_who_wait_hear_that_the_guest_was_poisoned() {
    let guest = guest();
    let (holder, _) = holder(&guest);
    let mut waiter = start_on(&guest, "next", &[], waiting(600_000)).unwrap();
    assert!(matches!(waiter.step(Lane::Dirty), Step::Waiting));
    drop(holder);
    assert_eq!(poisoned_by(Driver::default().values(&mut waiter).unwrap_err()), GONE);
}

// Cut off

/// What is told of a call that nobody drives any more.
const GONE: &str = "the process that made the call ended before it did";

#[test]
fn a_call_that_is_cut_off_poisons_the_guest_at_once() {
    for (name, by) in [("fail", "unreachable"), ("spin", "the fuel limit was reached: 100000 allowed")] {
        let guest = guest();
        let few = Limits { fuel: 100_000, ..limits() };
        let mut execution = start_on(&guest, name, &[], few).unwrap();
        assert!(Driver::default().values(&mut execution).is_err());
        assert_eq!(guest.state(), "poisoned");
        let told = poisoned_by(next(&guest).unwrap_err());
        assert!(told.contains(by), "{told}");
    }
    let guest = guest();
    let mut execution = start_on(&guest, "spin", &[], limits()).unwrap();
    assert!(matches!(execution.step(Lane::Inline), Step::Yielded));
    drop(execution);
    assert_eq!(guest.state(), "poisoned");
    assert_eq!(poisoned_by(next(&guest).unwrap_err()), GONE);
}

#[test]
fn a_reset_brings_the_initial_state_back() {
    let guest = guest();
    next(&guest).unwrap();
    first(&guest).write(None, 16, b"over").unwrap();
    reset(&guest).unwrap();
    assert_eq!(first(&guest).read(None, (16, 8), <[u8]>::to_vec).unwrap(), b"from the");
    assert_eq!(next(&guest), Ok(1));

    assert!(call_on(&guest, "fail", &[]).is_err());
    reset(&guest).unwrap();
    assert_eq!(next(&guest), Ok(1));
}

#[test]
fn what_is_left_of_an_old_call_does_not_poison_the_guest_made_anew() {
    let runtime = own(|_| {});
    let guest = instantiate(&load(&runtime, GUEST), limits()).unwrap();
    for _ in 0..50 {
        let (holder, _) = holder(&guest);
        drop(holder);
        reset(&guest).unwrap();
    }
    // The old guests' places come back when they have been unwound. One with a heap that is collected takes two.
    eventually("one live guest", || runtime.ceilings().live() == 2);
    assert_eq!(next(&guest), Ok(1));
}

#[test]
fn a_reset_waits_for_the_call_that_has_the_guest() {
    let guest = guest();
    let (mut holder, call) = holder(&guest);
    assert_eq!(reset(&guest).unwrap_err(), CallError::Busy.into());
    let mut resetting = Execution::reset(&guest, waiting(600_000)).unwrap();
    assert!(matches!(resetting.step(Lane::Dirty), Step::Waiting));
    holder.command(call, Command::Return(vec![])).unwrap();
    assert!(matches!(holder.step(Lane::Dirty), Step::Finished(_)));
    assert!(matches!(Driver::default().drive(&mut resetting), Ok(Product::Reset)));

    let (holder, _) = self::holder(&guest);
    let mut resetting = Execution::reset(&guest, waiting(600_000)).unwrap();
    assert!(matches!(resetting.step(Lane::Dirty), Step::Waiting));
    drop(holder);
    assert!(matches!(Driver::default().drive(&mut resetting), Ok(Product::Reset)));
    assert_eq!(next(&guest), Ok(1));
}

#[test]
fn a_reset_takes_the_place_of_the_guest_that_was_there() {
    // It has references, so that it counts as two.
    let runtime = own(|settings| settings.node.max_live_instances = 2);
    let guest = instantiate(&load(&runtime, GUEST), limits()).unwrap();
    for _ in 0..3 {
        reset(&guest).unwrap();
    }
    assert_eq!(runtime.ceilings().live(), 2);
    drop(guest);
    eventually_unused(&runtime);
}

#[test]
fn a_closed_guest_is_gone_and_says_so() {
    let runtime = own(|_| {});
    let guest = instantiate(&load(&runtime, GUEST), limits()).unwrap();
    let (mut holder, call) = holder(&guest);
    assert_eq!(guest.close(), Err(CallError::Busy));
    holder.command(call, Command::Return(vec![])).unwrap();
    assert!(matches!(holder.step(Lane::Dirty), Step::Finished(_)));
    assert_eq!(guest.close(), Ok(()));
    assert_eq!(guest.close(), Ok(()));
    eventually_unused(&runtime);
    assert_eq!(next(&guest).unwrap_err(), CallError::Closed.into());
    assert_eq!(reset(&guest).unwrap_err(), CallError::Closed.into());
    assert_eq!(guest.state(), "closed");
}

#[test]
fn only_a_closed_guest_that_keeps_nothing_takes_no_time_to_drop() {
    let runtime = own(|_| {});
    let module = load(&runtime, GUEST);
    let guest = instantiate(&module, limits()).unwrap();
    assert!(!guest.is_bare(), "its memory is to be given back");
    let call = start_on(&guest, "spin", &[], limits()).unwrap();
    drop(call);
    assert!(!guest.is_bare(), "it is not closed");
    guest.close().unwrap();
    assert!(guest.is_bare());

    let mut making = Execution::instantiate_with(&module.module, vec![Source::Host], module.setup(limits()));
    let Ok(Product::Guest(given)) = Driver::default().drive(&mut making) else { panic!("no guest") };
    given.close().unwrap();
    assert!(!given.is_bare(), "it keeps what it was given");

    let linked = Guest::from(instantiate(&module, limits()).unwrap());
    let mut link = linked.link(&load(&runtime, "(module)"), |_| false, limits()).unwrap();
    Driver::default().drive(&mut link).unwrap();
    linked.close().unwrap();
    assert!(!linked.is_bare(), "it keeps what was linked to it");

    drop((module, making, given, linked, link));
    runtime.clear_cache();
    eventually("the guest alone holds its code", || !guest.is_bare());
}

// Cancelling

#[test]
fn an_execution_is_cancelled_from_another_thread_while_it_runs() {
    let cancel = Arc::new(Cancel::default());
    let mut execution = start_on(&guest(), "spin", &[], Limits { fuel: u64::MAX / 2, ..limits() }).unwrap();
    execution.cancel_by(&cancel);
    assert!(matches!(execution.step(Lane::Inline), Step::Yielded));
    let other = Arc::clone(&cancel);
    std::thread::spawn(move || other.cancel()).join().unwrap();
    assert_eq!(Driver::default().values(&mut execution).unwrap_err(), Error::Cancelled);
    assert_eq!(execution.usage().fuel.map(|fuel| fuel > 0), Some(true));
    // Whatever is asked of it later.
    assert!(matches!(execution.step(Lane::Dirty), Step::Failed(Error::Cancelled)));
}

#[test]
fn cancelling_wakes_one_that_waits() {
    let guest = guest();
    let (_holder, _) = holder(&guest);
    let cancel = Arc::new(Cancel::default());
    let mut waiter = start_on(&guest, "next", &[], waiting(600_000)).unwrap();
    waiter.cancel_by(&cancel);
    assert!(matches!(waiter.step(Lane::Dirty), Step::Waiting));
    let (woken, wake_up) = std::sync::mpsc::channel();
    assert!(waiter.listen(Box::new(move || _ = woken.send(()))).is_some());
    cancel.cancel();
    wake_up.recv_timeout(crate::support::PATIENCE).unwrap();
    assert!(matches!(waiter.step(Lane::Dirty), Step::Failed(Error::Cancelled)));
}

#[test]
fn a_cancelled_call_does_not_begin_and_leaves_the_guest_as_it_was() {
    let guest = guest();
    let cancel = Arc::new(Cancel::default());
    cancel.cancel();
    let mut execution = start_on(&guest, "next", &[], limits()).unwrap();
    execution.cancel_by(&cancel);
    assert!(matches!(execution.step(Lane::Inline), Step::Failed(Error::Cancelled)));
    eventually("the guest is given back", || guest.state() == "idle");
    assert_eq!(next(&guest), Ok(1));
}

#[test]
fn an_abandoned_call_is_unwound_now() {
    let runtime = own(|_| {});
    let module = load(&runtime, GUEST);
    let mut execution = crate::support::start(&module, "stop", &[], limits());
    let call = to_host_call(&mut execution);
    execution.abandon();
    eventually_unused(&runtime);
    // A driver deep in a host function may find out late.
    execution.command(call, Command::Raise).unwrap();
    assert!(matches!(execution.step(Lane::Dirty), Step::Failed(Error::Cancelled)));
}

// Looking at an idle guest

#[test]
fn memory_is_read_and_written_within_its_bounds() {
    let guest = guest();
    first(&guest).write(None, 65_530, b"123456").unwrap();
    assert_eq!(first(&guest).read(None, (65_530, 6), <[u8]>::to_vec).unwrap(), b"123456");
    for (offset, length) in [(65_531, 6), (65_536, 1), (u64::MAX, 1), (1, u64::MAX)] {
        let refused = CallError::OutOfBounds { offset, length, size: 65_536 };
        assert_eq!(first(&guest).read(None, (offset, length), |_| ()).unwrap_err(), refused.into());
    }
    let refused = CallError::OutOfBounds { offset: 65_531, length: 6, size: 65_536 };
    assert_eq!(first(&guest).write(None, 65_531, b"123456").unwrap_err(), refused.into());
    let nowhere = first(&guest).read(Some("heap"), (0, 1), |_| ()).unwrap_err();
    assert_eq!(nowhere, CallError::NoMemory("heap".into()).into());
}

#[test]
fn a_memory_grows_to_its_maximum_and_within_the_limits() {
    let guest = guest();
    let grow = |pages: u64| access(&guest, Access::Grow { memory: None, pages: pages.into() });
    assert!(matches!(grow(1), Ok(Answer::Number(Some(1)))));
    let refused = grow(2).unwrap_err();
    assert_eq!(refused, CallError::CannotGrow { pages: 2, maximum: Some(3) }.into());
    assert!(matches!(grow(u64::MAX), Err(Error::Call(CallError::CannotGrow { .. }))));

    let tight = Limits { max_memory: 150_000, ..limits() };
    let mut execution =
        Execution::access(first(&guest), Access::Grow { memory: None, pages: 1.into() }, tight).unwrap();
    let refused = Driver::default().drive(&mut execution).unwrap_err();
    assert!(matches!(refused, Error::Limit(LimitError { limit: Limit::Memory, allowed: 150_000, .. })), "{refused:?}");
    assert_eq!(next(&guest), Ok(1), "a refused growth does no harm");
}

#[test]
fn a_growth_that_the_host_was_refused_does_not_excuse_the_guests_trap() {
    let source = r#"(module (import "host" "f" (func $f)) (memory (export "memory") 1)
        (func (export "run") (call $f) unreachable))"#;
    let guest = instantiate(&load(shared(), source), limits()).unwrap();
    let host = |call: &mut crate::support::OpenCall<'_>| {
        let refused = call.ask(Command::Access(Access::Grow { memory: None, pages: 10.into() }));
        assert!(matches!(refused, Err(Error::Limit(_))), "{refused:?}");
        Some(vec![])
    };
    let tight = Limits { max_memory: 100_000, ..limits() };
    let mut execution = start_on(&guest, "run", &[], tight).unwrap();
    let result = Driver::with_host(&host).values(&mut execution);
    assert!(matches!(&result, Err(Error::Trap(trap)) if trap.code == "unreachable"), "{result:?}");
}

#[test]
fn globals_are_read_and_set_by_their_type() {
    let guest = guest();
    let get = |name: &str| access(&guest, Access::GetGlobal { name: name.into() });
    let set = |name: &str, value| access(&guest, Access::SetGlobal { name: name.into(), value });
    set("n", Value::I32(41)).unwrap();
    assert_eq!(next(&guest), Ok(42));
    let host: HostRef = Arc::new(Token(5_u8));
    set("ref", Value::Extern(Arc::clone(&host))).unwrap();
    match get("ref") {
        Ok(Answer::Values(values)) => match &values[..] {
            [Value::Extern(found)] => assert!(Arc::ptr_eq(found, &host)),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
    assert!(matches!(set("n", Value::I64(1)), Err(Error::Call(CallError::Type { .. }))));
    for (name, words) in [
        ("fixed", r#"the export "fixed" is a constant global, not a mutable global"#),
        ("next", r#"the export "next" is a function, not a global"#),
        ("nothing", r#"no export named "nothing""#),
    ] {
        assert_eq!(set(name, Value::I32(0)).unwrap_err().to_string(), words);
    }
}

#[test]
fn tables_show_their_size_and_elements() {
    let guest = guest();
    let table = |index| access(&guest, Access::TableGet { name: "table".into(), index });
    assert!(matches!(access(&guest, Access::TableSize { name: "table".into() }), Ok(Answer::Number(Some(3)))));
    assert!(matches!(table(0), Ok(Answer::Values(values)) if matches!(values[..], [Value::Null])));
    assert!(matches!(table(1), Ok(Answer::Values(values)) if matches!(values[..], [Value::Func(_)])));
    let beyond = table(3).unwrap_err();
    assert_eq!(beyond, CallError::NoSuchElement { name: "table".into(), index: 3, size: 3 }.into());
}

#[test]
fn a_busy_guest_cannot_be_looked_at() {
    let guest = guest();
    let (_holder, _) = holder(&guest);
    assert_eq!(first(&guest).read(None, (0, 1), |_| ()).unwrap_err(), CallError::Busy.into());
    let size = access(&guest, Access::Size { memory: None }).unwrap_err();
    assert_eq!(size, CallError::Busy.into());
}

#[test]
fn output_is_taken_piece_by_piece() {
    let guest = guest();
    let (execution, _) = holder(&guest);
    for piece in [&b"one"[..], b"", b"three"] {
        execution.emit(piece).unwrap();
    }
    let output = execution.tally().output;
    assert_eq!(output.pieces().map(|(_, piece)| piece).collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
    assert_eq!(output.of(Stream::Emitted).to_vec(), b"onethree");
    assert_eq!(execution.tally().output.pieces().count(), 0);
}

#[test]
fn guests_of_a_module_hold_its_functions_apart_and_share_what_is_known_of_them() {
    let module = load(shared(), r#"(module (func (export "a")) (memory (export "m") 1))"#);
    let guests = [instantiate(&module, limits()).unwrap(), instantiate(&module, limits()).unwrap()];
    let of = |guest: &Arc<LiveGuest>| guest.function("a").unwrap();
    assert!(Arc::ptr_eq(&of(&guests[0]), &of(&guests[0])), "found again without the module");
    assert!(!Arc::ptr_eq(&of(&guests[0]), &of(&guests[1])), "nobody counts another's owners");
    eventually("one guest's calls prove the function short for the other", || {
        let mut execution = Execution::call_on(first(&guests[0]), &of(&guests[0]), vec![], limits()).unwrap();
        Driver::default().values(&mut execution).unwrap();
        first(&guests[1]).may_run_inline(&of(&guests[1]), &limits())
    });
    let missing = guests[0].function("b").unwrap_err();
    assert_eq!(missing, module.function("b").unwrap_err());
    assert_eq!(guests[0].function("m").unwrap_err(), module.function("m").unwrap_err());
}

#[test]
fn a_guest_finds_each_of_many_functions_however_often_it_is_asked() {
    let exports: String = (0..50).map(|n| format!(r#"(func (export "f{n}") (result i32) i32.const {n})"#)).collect();
    let module = load(shared(), format!("(module {exports})"));
    let guest = instantiate(&module, limits()).unwrap();
    for n in (0..50).chain([0, 0, 49, 7]) {
        let function = guest.function(&format!("f{n}")).unwrap();
        let mut execution = Execution::call_on(first(&guest), &function, vec![], limits()).unwrap();
        assert_eq!(number(Driver::default().values(&mut execution)), n);
    }
}
