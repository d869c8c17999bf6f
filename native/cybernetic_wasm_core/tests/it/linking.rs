//! Modules that join a live guest: what they are bound to, what a failed link says, and that the guest's limits hold for
//! all of its members together.

use crate::support::{
    Driver, Guest, Loaded, OpenCall, eventually, eventually_unused, instantiate, limits, load, number, own,
};
use crate::support::{own_node, poisoned_by, shared, try_load};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::access::Access;
use cybernetic_wasm_core::code::Import;
use cybernetic_wasm_core::engine::EngineConfig;
use cybernetic_wasm_core::error::{CallError, Limit, LimitError};
use cybernetic_wasm_core::execution::{Execution, Product, Step};
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::linker::Source;
use cybernetic_wasm_core::mail::{Answer, Command};
use cybernetic_wasm_core::member::MemberId;
use cybernetic_wasm_core::value::Value;
use std::sync::Arc;
use std::time::Duration;

/// A guest that others can import everything from, as `base`.
const BASE: &str = r#"(module
    (global $count (export "count") (mut i32) (i32.const 0))
    (global (export "fixed") i32 (i32.const 7))
    (memory (export "memory") 1 2)
    (table (export "table") 4 funcref)
    (tag (export "tag") (param i32))
    (func (export "bump") (param i32) (result i32)
        (global.set $count (i32.add (global.get $count) (local.get 0)))
        (global.get $count)))"#;

fn base() -> Guest {
    let guest = Guest::from(instantiate(&load(shared(), BASE), limits()).unwrap());
    guest.register("base", MemberId::FIRST);
    guest
}

fn link_within(guest: &Guest, module: &Loaded, limits: Limits) -> Result<MemberId, Error> {
    link_with(&Driver::default(), guest, module, (&|_| false, limits))
}

type Offers<'a> = &'a dyn Fn(&Import) -> bool;

fn link_with(
    driver: &Driver<'_>,
    guest: &Guest,
    module: &Loaded,
    (offers, limits): (Offers<'_>, Limits),
) -> Result<MemberId, Error> {
    match driver.drive(&mut guest.link(module, offers, limits)?)? {
        Product::Member(member) => Ok(member),
        other => panic!("a link made {other:?}"),
    }
}

fn link(guest: &Guest, source: &str) -> Result<MemberId, Error> {
    link_within(guest, &load(shared(), source), limits())
}

fn call(guest: &Guest, member: MemberId, name: &str, args: &[Value]) -> Result<Vec<Value>, Error> {
    let function = guest.instance(member).code()?.function(name)?;
    Driver::default().values(&mut Execution::call_on(guest.instance(member), &function, args.to_vec(), limits())?)
}

#[test]
fn a_member_shares_what_it_imports_from_another() {
    let guest = base();
    let source = r#"(module
        (import "base" "bump" (func $bump (param i32) (result i32)))
        (import "base" "count" (global $count (mut i32)))
        (import "base" "memory" (memory 1))
        (import "base" "table" (table 2 funcref))
        (import "base" "tag" (tag (param i32)))
        (elem (i32.const 0) $bump)
        (data (i32.const 5) "\2a")
        (func (export "twice") (result i32)
            (drop (call $bump (i32.const 1)))
            (call_indirect (param i32) (result i32) (i32.const 2) (i32.const 0)))
        (func (export "peek") (result i32) (i32.add (global.get $count) (i32.load8_u (i32.const 5)))))"#;
    let member = link(&guest, source).unwrap();
    assert_eq!(number(call(&guest, member, "twice", &[])), 3);
    assert_eq!(number(call(&guest, member, "peek", &[])), 45);
    assert_eq!(number(call(&guest, MemberId::FIRST, "bump", &[Value::I32(1)])), 4);
    assert!(matches!(guest.global(MemberId::FIRST, "count"), Ok(Value::I32(4))));
}

#[test]
fn members_can_build_on_members() {
    let guest = base();
    let middle =
        link(&guest, r#"(module (import "base" "bump" (func (param i32) (result i32))) (export "go" (func 0)))"#);
    guest.register("middle", middle.unwrap());
    let top = r#"(module (import "middle" "go" (func $go (param i32) (result i32)))
        (func (export "run") (result i32) (call $go (i32.const 9))))"#;
    let top = link(&guest, top).unwrap();
    assert_eq!(number(call(&guest, top, "run", &[])), 9);
}

#[test]
fn a_failed_link_names_every_import_with_its_reason() {
    let guest = base();
    let source = r#"(module
        (import "base" "bump" (func (param i64) (result i32)))
        (import "base" "nothing" (func))
        (import "base" "count" (global i32))
        (import "base" "memory" (memory 2))
        (import "base" "memory" (memory 1 1))
        (import "base" "table" (table 4 externref))
        (import "base" "fixed" (global i32))
        (import "base" "tag" (tag))
        (import "base" "fixed" (memory 1))
        (import "elsewhere" "memory" (memory 1))
        (import "host" "log" (func (param i32))))"#;
    let Err(Error::Link(problems)) = link(&guest, source) else { panic!("it links") };
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "base.bump: (func (param i64) (result i32)) (wrong type)",
            "base.nothing: (func) (missing)",
            "base.count: global i32 (wrong type)",
            "base.memory: memory 2 (wrong type)",
            "base.memory: memory 1 1 (wrong type)",
            "base.table: table 4 externref (wrong type)",
            "base.tag: tag (func) (wrong type)",
            "base.fixed: memory 1 (wrong type)",
            "elsewhere.memory: memory 1 (missing)",
            "host.log: (func (param i32)) (missing)",
        ]
    );
    // Nothing has run, so the guest is as good as before.
    assert_eq!(number(call(&guest, MemberId::FIRST, "bump", &[Value::I32(1)])), 1);
}

#[test]
fn a_memory_that_has_grown_satisfies_a_larger_import() {
    let guest = base();
    let wants_two = r#"(module (import "base" "memory" (memory 2)))"#;
    assert!(matches!(link(&guest, wants_two), Err(Error::Link(_))));
    link(&guest, r#"(module (import "base" "memory" (memory 1)) (func (drop (memory.grow (i32.const 1)))) (start 0))"#)
        .unwrap();
    link(&guest, wants_two).unwrap();
}

#[test]
fn a_members_host_calls_name_it_and_see_its_memory() {
    let guest = base();
    let source = r#"(module
        (import "other" "unused" (func))
        (import "host" "shout" (func $shout (param i32) (result i32)))
        (memory (export "words") 1)
        (data (i32.const 3) "hey")
        (global $got (export "got") (mut i32) (i32.const 0))
        (func (global.set $got (call $shout (i32.const 3))))
        (start 2))"#;
    let host = |call: &mut OpenCall<'_>| match call.ask(Command::Access(Access::Read {
        memory: None,
        offset: 3.into(),
        length: 3.into(),
    })) {
        Ok(Answer::Bytes(bytes)) if bytes == b"hey" && call.import() == 1 => Some(vec![Value::I32(5)]),
        other => panic!("{other:?}"),
    };
    let driver = Driver::with_host(&host);
    let member = link_with(&driver, &guest, &load(shared(), source), (&|_| true, limits())).unwrap();
    assert!(matches!(guest.global(member, "got"), Ok(Value::I32(5))));
}

#[test]
fn a_host_call_tells_whose_import_it_is() {
    let first = load(shared(), r#"(module (import "host" "a" (func)) (export "a" (func 0)))"#);
    let guest = Guest::from(instantiate(&first, limits()).unwrap());
    let second = load(shared(), r#"(module (import "host" "b" (func)) (export "b" (func 0)))"#);
    let member = link_with(&Driver::default(), &guest, &second, (&|_| true, limits())).unwrap();
    for (id, name) in [(MemberId::FIRST, "a"), (member, "b")] {
        let function = guest.instance(id).code().unwrap().function(name).unwrap();
        let mut execution = Execution::call_on(guest.instance(id), &function, Vec::new(), limits()).unwrap();
        let Step::HostCall { call, .. } = execution.step(Lane::Dirty) else { panic!("no host call") };
        assert_eq!(call.member, id);
        let module = execution.importer(call).unwrap();
        assert_eq!(module.imports()[call.import as usize].name, name);
        execution.command(call, Command::Return(Vec::new())).unwrap();
        assert!(matches!(execution.step(Lane::Dirty), Step::Finished(_)));
    }
}

#[test]
fn limits_hold_for_all_members_together() {
    let few = Limits { max_instances: 2, max_memory: 4 << 16, ..limits() };
    let guest = base();
    let module = load(shared(), "(module (memory 2))");
    link_within(&guest, &module, few.clone()).unwrap();
    let third = link_within(&guest, &module, few.clone());
    assert_eq!(third, Err(LimitError::new(Limit::Instances, 2, 3).into()));
    // One page of the first, two of the second, a table of four pointers: two pages more are too many.
    let memory = link_within(&guest, &module, Limits { max_instances: 9, ..few });
    let Err(Error::Limit(error)) = memory else { panic!("{memory:?}") };
    assert_eq!((error.limit, error.allowed, error.used), (Limit::Memory, 4 << 16, (5 << 16) + 32));
}

#[test]
fn a_member_counts_among_the_nodes_live_instances() {
    let runtime = own_node(|node| node.max_live_instances = 2);
    let module = load(&runtime, "(module)");
    let guest = Guest::from(instantiate(&module, limits()).unwrap());
    link_within(&guest, &module, limits()).unwrap();
    assert_eq!(runtime.stats().live_instances, 2);
    for _ in 0..2 {
        let refused = link_within(&guest, &module, limits());
        assert_eq!(refused, Err(LimitError::new(Limit::LiveInstances, 2, 3).into()));
    }
    drop(guest);
    eventually_unused(&runtime);
}

#[test]
fn a_members_start_function_runs_under_the_links_limits() {
    let endless = load(shared(), "(module (func (loop (br 0))) (start 0))");
    let guest = base();
    let short = Limits { fuel: 1_000_000, ..limits() };
    let result = link_within(&guest, &endless, short);
    assert!(matches!(result, Err(Error::Limit(LimitError { limit: Limit::Fuel, .. }))), "{result:?}");
    let told = poisoned_by(call(&guest, MemberId::FIRST, "bump", &[Value::I32(1)]).unwrap_err());
    assert_eq!(told, "the fuel limit was reached: 1000000 allowed");

    let brief = Limits { time: Duration::from_millis(20), fuel: u64::MAX / 2, ..limits() };
    let result = link_within(&base(), &endless, brief);
    assert!(matches!(result, Err(Error::Limit(LimitError { limit: Limit::Time, .. }))), "{result:?}");
}

#[test]
fn a_trap_poisons_unless_the_guest_is_to_survive_it() {
    let trapping = r#"(module (import "base" "bump" (func $bump (param i32) (result i32)))
        (func (drop (call $bump (i32.const 5))) unreachable) (start 1))"#;
    let guest = base();
    assert!(matches!(link(&guest, trapping), Err(Error::Trap(_))));
    let told = poisoned_by(link(&guest, "(module)").unwrap_err());
    assert!(told.starts_with("the guest trapped: "), "{told}");

    let guest = base();
    guest.survive_traps();
    assert!(matches!(link(&guest, trapping), Err(Error::Trap(_))));
    // What it did before the trap stays done, and it is no member.
    assert_eq!(number(call(&guest, MemberId::FIRST, "bump", &[Value::I32(1)])), 6);
    assert_eq!(guest.instance(MemberId(1)).code().unwrap_err(), CallError::NoSuchMember(1));
}

#[test]
fn an_exception_that_leaves_the_guest_is_not_thrown_again() {
    let source = r#"(module (tag $t (param i32))
        (func (export "throw") (throw $t (i32.const 1)))
        (func (export "trap") unreachable))"#;
    let guest = Guest::from(instantiate(&load(shared(), source), limits()).unwrap());
    guest.survive_traps();
    let code = |name| match call(&guest, MemberId::FIRST, name, &[]) {
        Err(Error::Trap(trap)) => trap.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(["throw", "trap", "throw"].map(code), ["uncaught_exception", "unreachable", "uncaught_exception"]);
}

#[test]
fn only_modules_for_the_same_kind_of_engine_join() {
    let guest = base();
    let config = shared().default_config();
    let strict = EngineConfig { deterministic: true, ..config };
    let module = try_load(shared(), "(module)", strict).unwrap();
    let refused = guest.link(&module, |_| false, limits()).map(|_| ());
    assert!(matches!(refused, Err(Error::Call(CallError::OtherEngine { .. }))), "{refused:?}");
    // Another stack is no other kind: the module is compiled again, for the guest's.
    let deep = EngineConfig { max_stack: 2 * config.max_stack, ..config };
    let module = try_load(shared(), r#"(module (func (export "one") (result i32) (i32.const 1)))"#, deep).unwrap();
    let member = link_within(&guest, &module, limits()).unwrap();
    assert_eq!(number(call(&guest, member, "one", &[])), 1);
}

#[test]
fn unknown_members_globals_and_names_are_told_apart() {
    let guest = base();
    assert_eq!(guest.instance(MemberId(1)).code().unwrap_err(), CallError::NoSuchMember(1));
    assert_eq!(guest.global(MemberId(1), "fixed").unwrap_err(), CallError::NoSuchMember(1).into());
    assert!(matches!(guest.global(MemberId::FIRST, "fixed"), Ok(Value::I32(7))));
    let unknown = guest.global(MemberId::FIRST, "nothing").unwrap_err();
    assert_eq!(unknown.to_string(), r#"no export named "nothing""#);
    let wrong = guest.global(MemberId::FIRST, "bump").unwrap_err();
    assert_eq!(wrong.to_string(), r#"the export "bump" is a function, not a global"#);
}

#[test]
fn a_guest_with_members_is_freed_with_its_last_reference() {
    let runtime = own(|_| {});
    let first = load(&runtime, r#"(module (import "host" "f" (func)) (memory (export "m") 1) (export "f" (func 0)))"#);
    let guest = Guest::from(instantiate(&first, limits()).unwrap());
    guest.register("first", MemberId::FIRST);
    let source = r#"(module (import "first" "m" (memory 1)) (import "host" "g" (func)) (memory 1))"#;
    let second = load(&runtime, source);
    link_with(&Driver::default(), &guest, &second, (&|_| true, limits())).unwrap();
    let weak = [Arc::downgrade(&first.module), Arc::downgrade(&second.module)];
    drop((guest, first, second));
    runtime.clear_cache();
    eventually_unused(&runtime);
    eventually("no module", || weak.iter().all(|module| module.upgrade().is_none()));
    eventually("no code", || runtime.ceilings().code() == 0);
}

#[test]
fn a_member_that_failed_to_start_is_not_called_or_imported_from() {
    let guest = base();
    guest.survive_traps();
    let trapping = r#"(module
        (import "base" "table" (table 1 funcref))
        (elem (i32.const 0) $seven)
        (func $seven (export "seven") (result i32) (i32.const 7))
        (func (export "_initialize") unreachable))"#;
    assert!(matches!(link(&guest, trapping), Err(Error::Trap(_))));
    let member = MemberId(1);
    guest.register("broken", member);
    assert_eq!(guest.instance(member).code().unwrap_err(), CallError::NoSuchMember(member.0));
    let Err(Error::Link(problems)) = link(&guest, r#"(module (import "broken" "seven" (func (result i32))))"#) else {
        panic!("it links")
    };
    assert_eq!(problems[0].to_string(), "broken.seven: (func (result i32)) (the member that should give it is gone)");
    // What it wrote into the table before stays there, and may be called.
    let caller = r#"(module (import "base" "table" (table 1 funcref))
        (func (export "run") (result i32) (call_indirect (result i32) (i32.const 0))))"#;
    let caller = link(&guest, caller).unwrap();
    assert_eq!(number(call(&guest, caller, "run", &[])), 7);
}

#[test]
fn members_join_again_in_the_order_in_which_they_joined() {
    // A place may be kept long before its module joins.
    let guest = base();
    let (late, early) = (guest.reserve(), guest.reserve());
    let seven = load(shared(), r#"(module (func (export "seven") (result i32) (i32.const 7)))"#);
    let caller = load(
        shared(),
        r#"(module (import "early" "seven" (func $seven (result i32)))
            (func (export "run") (result i32) (call $seven)))"#,
    );
    let join = |member, (module, sources): (&Loaded, Vec<Source>)| {
        let mut link = Execution::link(&guest, member, (&module.module, sources), module.setup(limits())).unwrap();
        Driver::default().drive(&mut link).unwrap();
    };
    join(early, (&seven, Vec::new()));
    join(late, (&caller, vec![Source::Export(early, "seven".to_owned())]));
    assert_eq!(number(call(&guest, late, "run", &[])), 7);
    Driver::default().drive(&mut Execution::reset(&guest, limits()).unwrap()).unwrap();
    assert_eq!(number(call(&guest, late, "run", &[])), 7);
}

#[test]
fn a_module_of_another_runtime_is_refused() {
    // It would be counted there, and nobody might tick its clock.
    let module = load(&own(|_| {}), "(module)");
    let foreign = Loaded { module: module.module, runtime: Arc::clone(shared()) };
    let refused = instantiate(&foreign, limits()).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("another runtime"), "{refused}");
    let refused = link_within(&base(), &foreign, limits()).unwrap_err();
    assert!(refused.to_string().contains("another runtime"), "{refused}");
}
