//! Resources of both kinds: lent, given away, dropped, leaked, and used where they are no good.

use crate::components::{u32, val, wit};
use crate::support::{
    Driver, Loaded, OpenCall, eventually, first, instantiate, limits, load, poisoned_by, shared, to_host_call,
};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::error::{CallError, Limit};
use cybernetic_wasm_core::execution::{Execution, Product, Setup};
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::live::LiveGuest;
use cybernetic_wasm_core::mail::{Answer, Command};
use cybernetic_wasm_core::value::Value;
use cybernetic_wasm_core::wit::{Carried, Handle, Owner, Passed, Term, Type, Typed, Val};
use std::sync::{Arc, Mutex};

const GUEST: &str = include_str!("../../../../test/fixtures/components/resources.wat");
const CONSTRUCTOR: &str = "[constructor]cart";
const GET: &str = "[method]cart.get";

/// The host's resources, which are numbers, in the order of their ends.
#[derive(Debug, Default)]
struct Ends(Mutex<Vec<u32>>);

impl Owner for Ends {
    fn ended(&self, _store: u64, name: &str, term: &Term) {
        assert_eq!(name, "acme:host/db@1.0.0#conn");
        self.0.lock().unwrap().push(number(term));
    }
}

impl Ends {
    fn all(&self) -> Vec<u32> {
        self.0.lock().unwrap().clone()
    }
}

fn number(term: &Term) -> u32 {
    *term.downcast_ref().unwrap()
}

fn guest() -> Loaded {
    load(shared(), GUEST)
}

fn setup(guest: &Loaded, limits: Limits) -> (Arc<Ends>, Setup) {
    let ends = Arc::new(Ends::default());
    let owner: Arc<dyn Owner> = ends.clone();
    (ends, Setup { owner: Some(owner), ..guest.setup(limits) })
}

fn live(limits: Limits) -> (Arc<Ends>, Arc<LiveGuest>) {
    let guest = guest();
    let (ends, setup) = setup(&guest, limits);
    match Driver::default().drive(&mut Execution::instantiate(&guest.module, false, setup)) {
        Ok(Product::Guest(live)) => (ends, live),
        other => panic!("{other:?}"),
    }
}

/// A connection is the number that it is opened with; to get it and to close it give that.
fn host(open: &mut OpenCall<'_>) -> Option<Vec<Value>> {
    let code = open.execution.importer(open.host_call).unwrap();
    let ty = code.imports()[open.import() as usize].wit().unwrap().result.clone().unwrap();
    let [Value::Wit(arg)] = &open.args[..] else { panic!("{:?}", open.args) };
    let given = match (&arg.passed, &arg.carried[..]) {
        (Passed::Val(Val::U32(number)), []) => *number,
        (Passed::Val(Val::U32(0)), [Carried::Term(term)]) => number(term),
        _ => panic!("{arg:?}"),
    };
    Some(vec![match ty {
        Type::Own(_) => conn(ty, given),
        ty => wit(ty, Val::U32(given)),
    }])
}

fn conn(ty: Type, number: u32) -> Value {
    Typed { ty, passed: Passed::Val(Val::U32(0)), carried: vec![Carried::Term(Arc::new(number))] }.into()
}

fn call_within(live: &Arc<LiveGuest>, name: &str, args: Vec<Value>, limits: Limits) -> Result<Vec<Value>, Error> {
    let function = live.function(name)?;
    let mut execution = Execution::call_on(first(live), &function, args, limits)?;
    Driver::with_host(&host).values(&mut execution)
}

fn call(live: &Arc<LiveGuest>, name: &str, args: Vec<Value>) -> Result<Vec<Value>, Error> {
    call_within(live, name, args, limits())
}

fn call_for(live: &Arc<LiveGuest>, name: &str, args: Vec<Value>) -> u32 {
    match val(call(live, name, args).unwrap()) {
        Val::U32(number) => number,
        other => panic!("{other:?}"),
    }
}

fn handle(values: Vec<Value>) -> Arc<Handle> {
    match values.into_iter().next() {
        Some(Value::Wit(typed)) => match &typed.carried[..] {
            [Carried::Own(handle)] => Arc::clone(handle),
            _ => panic!("{typed:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn cart(live: &Arc<LiveGuest>, number: u32) -> Arc<Handle> {
    handle(call(live, CONSTRUCTOR, vec![u32(number)]).unwrap())
}

fn carried(ty: Type, carried: Carried) -> Value {
    Typed { ty, passed: Passed::Val(Val::U32(0)), carried: vec![carried] }.into()
}

fn own(handle: &Arc<Handle>) -> Value {
    carried(Type::Own(handle.resource().clone()), Carried::Own(Arc::clone(handle)))
}

fn borrow(handle: &Arc<Handle>) -> Value {
    carried(Type::Borrow(handle.resource().clone()), Carried::Borrow(Arc::clone(handle)))
}

/// The type of the only parameter of what takes a connection.
fn param(live: &Arc<LiveGuest>, name: &str) -> Type {
    live.function(name).unwrap().wit().unwrap().params[0].1.clone()
}

fn refused(result: Result<Vec<Value>, Error>) -> String {
    match result {
        Err(Error::Call(CallError::Part { path, given, .. })) => format!("{path}: {given}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_of_its_own_is_lent_and_given_away() {
    let (_, live) = live(limits());
    let (one, other) = (cart(&live, 3), cart(&live, 4));
    assert_eq!((&*one.resource().name, one.resource().host), ("cart", false));
    assert_eq!(call_for(&live, GET, vec![borrow(&one)]), 3);
    assert_eq!(call_for(&live, "both", vec![borrow(&one), own(&other)]), 34);
    assert!(one.is_kept() && !other.is_kept());
    assert_eq!(call_for(&live, "take", vec![own(&one)]), 3);
    assert_eq!(call_for(&live, "ended", vec![]), 3);
}

#[test]
fn what_is_let_go_of_is_dropped_in_that_order_by_the_next_call() {
    let (_, live) = live(limits());
    let carts: Vec<_> = (1..=4).map(|number| cart(&live, number)).collect();
    carts[2].let_go();
    carts[2].let_go();
    carts[0].let_go();
    assert_eq!(call_for(&live, "ended", vec![]), 31);
    drop(carts);
    assert_eq!(call_for(&live, "ended", vec![]), 3124);
}

#[test]
fn what_is_gone_or_comes_twice_is_refused_before_the_guest_runs() {
    let (_, live) = live(limits());
    let (one, other) = (cart(&live, 1), cart(&live, 2));
    let gone = cart(&live, 3);
    gone.let_go();
    for result in [
        call(&live, GET, vec![borrow(&gone)]),
        call(&live, "both", vec![borrow(&one), own(&gone)]),
        call(&live, "both", vec![borrow(&gone), own(&other)]),
        call(&live, "both", vec![borrow(&one), own(&one)]),
    ] {
        assert!(refused(result).ends_with("dropped or given away"));
    }
    // Nothing of what was refused has been given away.
    assert_eq!(call_for(&live, "both", vec![borrow(&one), own(&other)]), 12);
    assert!(refused(call(&live, "take", vec![own(&other)])).starts_with("argument 1 (\"cart\")"));
    assert_eq!(call_for(&live, GET, vec![borrow(&one)]), 1);
}

#[test]
fn one_of_another_instance_is_refused() {
    let ((_, live), (_, other)) = (live(limits()), live(limits()));
    let cart = cart(&other, 1);
    assert!(refused(call(&live, GET, vec![borrow(&cart)])).contains("another instance"));
    assert!(refused(call(&live, "take", vec![own(&cart)])).contains("another instance"));
    assert_eq!(call_for(&other, "take", vec![own(&cart)]), 1);
    let kept = self::cart(&live, 2);
    Driver::default().drive(&mut Execution::reset(&live, limits()).unwrap()).unwrap();
    assert!(refused(call(&live, GET, vec![borrow(&kept)])).contains("was reset"));
    drop(kept);
    assert_eq!(call_for(&live, "ended", vec![]), 0);
}

#[test]
fn a_destructor_of_the_guests_is_part_of_the_next_call() {
    let (_, live) = live(limits());
    cart(&live, 1_000_666).let_go();
    assert!(matches!(call(&live, "ended", vec![]), Err(Error::Trap(trap)) if trap.code == "unreachable"));
    poisoned_by(call(&live, "ended", vec![]).unwrap_err());
    let (_, live) = self::live(limits());
    cart(&live, 1_000_999).let_go();
    match call_within(&live, "ended", vec![], Limits { fuel: 1_000_000, ..limits() }) {
        Err(Error::Limit(error)) => assert_eq!(error.limit, Limit::Fuel),
        other => panic!("{other:?}"),
    }
}

#[test]
fn handles_in_a_list_come_in_order_and_leave_nothing_behind() {
    let wide = Limits { max_resources: 200_000, ..limits() };
    let (_, live) = live(wide.clone());
    for _ in 0..3 {
        let many = call_within(&live, "many", vec![u32(100_000)], wide.clone()).unwrap().pop();
        let Some(Value::Wit(many)) = many else { panic!() };
        let Carried::Own(last) = many.carried.last().unwrap().clone() else { panic!() };
        drop(many);
        let number = val(call_within(&live, GET, vec![borrow(&last)], wide.clone()).unwrap());
        assert!(matches!(number, Val::U32(99_999)));
    }
}

#[test]
fn more_handles_than_are_allowed_end_the_call() {
    let few = Limits { max_resources: 100, ..limits() };
    let (ends, live) = live(few.clone());
    for (name, count) in [("many", 101), ("leak", 101)] {
        let live = match name {
            "many" => &instantiate(&guest(), few.clone()).unwrap(),
            _ => &live,
        };
        match call_within(live, name, vec![u32(count)], few.clone()) {
            Err(Error::Limit(error)) => assert_eq!((error.limit, error.allowed), (Limit::Resources, 100), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        poisoned_by(call(live, "ended", vec![]).unwrap_err());
    }
    // That which found no room has its end as well.
    eventually("all ends", || ends.all().len() == 101);
}

#[test]
fn one_of_the_hosts_ends_when_the_guest_drops_it() {
    let (ends, live) = live(limits());
    assert_eq!(call_for(&live, "open", vec![u32(7)]), 7);
    assert_eq!(ends.all(), [7]);
    drop(live);
    assert_eq!(ends.all(), [7]);
}

#[test]
fn those_that_come_back_or_were_lent_do_not_end() {
    let (ends, live) = live(limits());
    let out = call(&live, "hand-out", vec![u32(5)]).unwrap();
    assert!(
        matches!(&out[..], [Value::Wit(typed)] if matches!(&typed.carried[..], [Carried::Term(term)] if number(term) == 5))
    );
    assert_eq!(call_for(&live, "borrow", vec![conn(param(&live, "borrow"), 6)]), 6);
    assert_eq!(call_for(&live, "close", vec![conn(param(&live, "close"), 8)]), 8);
    live.close().unwrap();
    assert!(ends.all().is_empty());
}

#[test]
fn those_that_are_left_end_once_however_the_guest_does() {
    let (ends, guest) = live(limits());
    call(&guest, "keep", vec![conn(param(&guest, "keep"), 1)]).unwrap();
    call(&guest, "leak", vec![u32(1)]).unwrap();
    guest.close().unwrap();
    assert_eq!(ends.all(), [1, 1]);

    let (ends, guest) = live(limits());
    call(&guest, "keep", vec![conn(param(&guest, "keep"), 2)]).unwrap();
    assert!(call(&guest, "trap", vec![u32(3)]).is_err());
    eventually("both end", || ends.all().len() == 2);
    drop(guest);
    assert_eq!(ends.all().len(), 2);

    let (ends, guest) = live(limits());
    call(&guest, "keep", vec![conn(param(&guest, "keep"), 4)]).unwrap();
    let function = guest.function("open").unwrap();
    let mut cut_off = Execution::call_on(first(&guest), &function, vec![u32(5)], limits()).unwrap();
    to_host_call(&mut cut_off);
    drop(cut_off);
    eventually("the one that was there ends", || ends.all() == [4]);
}

/// Whoever drives the guest may be gone as well, before it has what it was handed.
#[test]
fn one_that_is_handed_to_a_host_call_ends_unless_the_embedder_says_that_it_has_it() {
    for (has_it, ended) in [(false, vec![9]), (true, vec![])] {
        let (ends, guest) = live(limits());
        let function = guest.function("close").unwrap();
        let args = vec![conn(param(&guest, "close"), 9)];
        let mut cut_off = Execution::call_on(first(&guest), &function, args, limits()).unwrap();
        let call = to_host_call(&mut cut_off);
        if has_it {
            cut_off.take_over(call);
        }
        drop((cut_off, guest));
        eventually("the guest is gone", || Arc::strong_count(&ends) == 1);
        assert_eq!(ends.all(), ended);
    }
}

#[test]
fn those_of_a_fresh_instance_end_with_its_call() {
    let guest = guest();
    let (ends, setup) = setup(&guest, limits());
    let function = guest.function("leak").unwrap();
    let mut execution = Execution::call(&guest.module, &function, vec![u32(3)], setup);
    Driver::with_host(&host).values(&mut execution).unwrap();
    drop(execution);
    eventually("all end", || ends.all().len() == 3);
}

#[test]
fn hundreds_of_thousands_come_and_go() {
    let (ends, live) = live(Limits { max_resources: 200_000, max_host_calls: 1_000_000, ..limits() });
    let limits = Limits { max_resources: 200_000, max_host_calls: 1_000_000, ..limits() };
    call_within(&live, "leak", vec![u32(100_000)], limits).unwrap();
    assert!(ends.all().is_empty());
    drop(live);
    eventually("all end", || ends.all().len() == 100_000);
}

#[test]
fn what_is_lent_is_not_given_away_by_a_call_inside() {
    let (_, live) = live(limits());
    let cart = cart(&live, 6);
    let function = live.function("visit").unwrap();
    let again = |open: &mut OpenCall<'_>, name, args| {
        let function = open.execution.importer(open.host_call).unwrap().function(name).unwrap();
        match open.ask(Command::CallAgain { function, args })? {
            Answer::Values(values) => Ok(values),
            other => panic!("{other:?}"),
        }
    };
    let visited = |open: &mut OpenCall<'_>| {
        if open.import() == 1 {
            assert!(refused(again(open, "take", vec![own(&cart)])).contains("lent"));
            assert!(matches!(val(again(open, GET, vec![borrow(&cart)]).unwrap()), Val::U32(6)));
        }
        host(open)
    };
    let mut execution = Execution::call_on(first(&live), &function, vec![borrow(&cart)], limits()).unwrap();
    assert!(Driver::with_host(&visited).values(&mut execution).is_ok());
    drop(execution);
    assert_eq!(call_for(&live, "take", vec![own(&cart)]), 6);
}

#[test]
fn a_guest_that_uses_one_that_it_has_dropped_traps() {
    let (ends, live) = live(limits());
    assert!(matches!(call(&live, "use-after", vec![u32(1)]), Err(Error::Trap(_))));
    poisoned_by(call(&live, "ended", vec![]).unwrap_err());
    assert_eq!(ends.all(), [1]);
}
