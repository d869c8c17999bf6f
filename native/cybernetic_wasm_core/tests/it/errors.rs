//! Errors: whose fault they are, and that they stay small whatever names a guest has.

use crate::support::{
    call, call_on, call_within, first, instantiate, limits, load, own_node, poisoned_by, property, shared, start,
    to_host_call, try_load,
};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::access::Access;
use cybernetic_wasm_core::error::{Blame, CallError, Exception, Limit, LoadError, Trap, Waiting};
use cybernetic_wasm_core::execution::Step;
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::value::Value;
use proptest::prelude::prop;
use proptest::{prop_assert, prop_assert_eq};
use std::time::Duration;

// Blame

const HOLD: &str = r#"(module (import "host" "hold" (func $hold)) (memory 1)
    (func (export "hold") call $hold) (func (export "spin") (loop br 0)) (func (export "f")))"#;

fn struck(error: &Error) -> (Limit, Option<Waiting>, Blame) {
    let Error::Limit(limit) = error else { panic!("not a limit: {error:?}") };
    (limit.limit, limit.during, error.blame())
}

#[test]
fn a_limit_of_the_call_is_the_guests_fault() {
    let module = load(shared(), HOLD);
    let few = Limits { fuel: 10_000, ..limits() };
    let error = call_within(&module, "spin", &[], few).unwrap_err();
    assert_eq!(struck(&error), (Limit::Fuel, None, Blame::Guest));
    let short = Limits { time: Duration::from_millis(20), fuel: u64::MAX / 2, ..limits() };
    let error = call_within(&module, "spin", &[], short).unwrap_err();
    assert_eq!(struck(&error), (Limit::Time, None, Blame::Guest));
    let error = call_within(&module, "f", &[], Limits { max_memory: 10, ..limits() }).unwrap_err();
    assert_eq!(struck(&error), (Limit::Memory, None, Blame::Guest));
}

#[test]
fn a_full_node_is_no_guests_fault() {
    let full = own_node(|node| node.max_live_instances = 0);
    let error = call(&load(&full, HOLD), "f", &[]).unwrap_err();
    assert_eq!(struck(&error), (Limit::LiveInstances, None, Blame::Node));
    let full = own_node(|node| node.max_total_memory = 10);
    let error = call(&load(&full, HOLD), "f", &[]).unwrap_err();
    assert_eq!(struck(&error), (Limit::TotalMemory, None, Blame::Node));
    let full = own_node(|node| node.max_code_memory = 10);
    let error = try_load(&full, HOLD, full.default_config()).unwrap_err();
    assert_eq!(struck(&error), (Limit::CodeMemory, None, Blame::Node));
}

#[test]
fn time_that_is_spent_waiting_for_others_is_no_guests_fault() {
    let brief = Limits { wait: Duration::from_secs(3_600), time: Duration::from_millis(20), ..limits() };
    let full = own_node(|node| node.max_live_instances = 1);
    let module = load(&full, HOLD);
    let mut held = start(&module, "hold", &[], limits());
    to_host_call(&mut held);
    let error = call_within(&module, "f", &[], brief.clone()).unwrap_err();
    assert_eq!(struck(&error), (Limit::Time, Some(Waiting::Turn), Blame::Node));

    let one_at_a_time = own_node(|node| node.parallel_execution = false);
    let module = load(&one_at_a_time, HOLD);
    let mut running = start(&module, "spin", &[], Limits { fuel: u64::MAX / 2, ..limits() });
    assert!(matches!(running.step(Lane::Inline), Step::Yielded));
    let error = call_within(&module, "f", &[], brief).unwrap_err();
    assert_eq!(struck(&error), (Limit::Time, Some(Waiting::Turn), Blame::Node));
}

#[test]
fn instances_that_are_too_many_were_linked_by_the_caller() {
    let module = load(shared(), HOLD);
    let error = call_within(&module, "f", &[], Limits { max_instances: 0, ..limits() }).unwrap_err();
    assert_eq!(struck(&error), (Limit::Instances, None, Blame::Caller));
}

// Exceptions

fn trap(result: Result<Vec<Value>, Error>) -> Trap {
    match result.unwrap_err() {
        Error::Trap(trap) => trap,
        other => panic!("not a trap: {other:?}"),
    }
}

#[test]
fn an_uncaught_exception_tells_its_tag_and_what_it_carries() {
    let many = "i64 ".repeat(12);
    let values = "(i64.const 7) ".repeat(12);
    let source = format!(
        r#"(module
            (tag $own (param i32 f64)) (tag $plain (export "plain")) (tag $many (export "many") (param {many}))
            (tag $reference (export "reference") (param externref))
            (func (export "own") (throw $own (i32.const -5) (f64.const 1.5)))
            (func (export "plain_one") (throw $plain))
            (func (export "many_values") (throw $many {values}))
            (func (export "a_reference") (throw $reference (ref.null extern))))"#
    );
    let module = load(shared(), source);
    let thrown = |name| {
        let trap = trap(call(&module, name, &[]));
        assert_eq!((trap.code, trap.message.as_str()), ("uncaught_exception", "uncaught exception"));
        *trap.exception.unwrap()
    };
    let Exception { tag, payload } = thrown("own");
    assert_eq!((tag, payload.len()), (None, 2));
    assert!(payload[0] == "i32 -5" && payload[1].starts_with("f64 1.5"), "{payload:?}");
    assert_eq!(thrown("plain_one"), Exception { tag: Some("plain".into()), payload: vec![] });
    let many = thrown("many_values");
    assert_eq!((many.payload.len(), many.payload[0].as_str(), many.payload[8].as_str()), (9, "i64 7", "…"));
    let reference = Exception { tag: Some("reference".into()), payload: vec!["null".into()] };
    assert_eq!(thrown("a_reference"), reference);

    let starting = load(shared(), "(module (tag $t (param i32)) (func (throw $t (i32.const 9))) (start 0))");
    let Err(Error::Trap(trap)) = instantiate(&starting, limits()) else { panic!("it starts") };
    assert_eq!(trap.exception, Some(Box::new(Exception { tag: None, payload: vec!["i32 9".into()] })));
}

#[test]
fn who_finds_an_instance_poisoned_by_an_exception_is_told_of_it() {
    let source = r#"(module (tag (export "oops") (param i32)) (func (export "throw") (throw 0 (i32.const 3))))"#;
    let guest = instantiate(&load(shared(), source), limits()).unwrap();
    assert!(call_on(&guest, "throw", &[]).is_err());
    let told = poisoned_by(call_on(&guest, "throw", &[]).unwrap_err());
    assert_eq!(told, "the guest trapped: uncaught exception: tag \"oops\" with i32 3");
}

// Names

/// A module whose names all begin with these letters, and have as many more as that.
fn with_names(letters: &str, more: usize) -> String {
    let long = |what: &str| format!("{letters}_{what}_{}", letters.repeat(more));
    let (function, global, table, memory, tag) =
        (long("function"), long("global"), long("table"), long("memory"), long("tag"));
    format!(
        r#"(module
            (tag $t (export "{tag}"))
            (memory (export "{memory}") 1) (table (export "{table}") 1 funcref)
            (global (export "{global}") i32 (i32.const 0))
            (func $"{function}" (export "{function}") (param i32)
                (if (local.get 0) (then (call $"{function}" (i32.sub (local.get 0) (i32.const 1)))) (else unreachable)))
            (func (export "throw") (throw $t)))"#
    )
}

#[test]
fn functions_are_named_as_in_their_source() {
    let many = format!("_Z1f{}", "3abc".repeat(90));
    let (deep, long) = (format!("_Z1f{}i", "P".repeat(90)), format!("_Z1f{}", "3abc".repeat(400)));
    let cases = [
        // Rust's older scheme and its newer one.
        ("_ZN4core9panicking5panic17h0123456789abcdefE", "core::panicking::panic".into()),
        ("_RNvNtC4demo5inner3run", "demo::inner::run".into()),
        ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<int, std::allocator<int> >::push_back(int const&)".into()),
        ("_ZN3foo3barEv", "foo::bar()".into()),
        // What is none of these, or not whole, stays.
        ("_start", "_start".into()),
        ("memcpy", "memcpy".into()),
        ("RC1a", "RC1a".into()),
        ("_ZN3foo3bar", "_ZN3foo3bar".into()),
        ("_Z", "_Z".into()),
        // Some are longer than an error shows, and some are not looked into.
        (&many, format!("f({}…", "abc, ".repeat(45))[..200].to_owned() + "…"),
        (&deep, deep.clone()),
        (&long, long[..200].to_owned() + "…"),
    ];
    for (mangled, shown) in cases {
        let wat = format!(r#"(module (func $"{mangled}" (export "f") unreachable))"#);
        let error = call(&load(shared(), wat), "f", &[]).unwrap_err();
        let Error::Trap(trap) = &error else { panic!("{error:?}") };
        assert_eq!(trap.frames[0].name.as_deref(), Some(shown.as_str()));
    }
}

/// The longest that an error takes in print: 20 frames of 200 bytes, or 21 names of exports.
const LARGEST: usize = 12_000;

#[test]
fn no_name_of_a_guests_makes_an_error_large() {
    property(8, ("[a-zA-Zïß€]{1,4}", prop::sample::select(vec![0, 10, 60, 8_000])), |(letters, more)| {
        let module = load(shared(), with_names(&letters, more));
        let long = |what: &str| format!("{letters}_{what}_{}", letters.repeat(more));
        let guest = instantiate(&module, limits()).unwrap();
        guest.survive_traps();
        let look = |access| first(&guest).access(access).unwrap().unwrap_err();
        let function = long("function");
        let trapped = call(&module, &function, &[Value::I32(40)]).unwrap_err();
        let Error::Trap(trap) = &trapped else { panic!("{trapped:?}") };
        for name in trap.frames.iter().map(|frame| frame.name.as_deref().unwrap()) {
            match function.len() <= 200 {
                true => prop_assert_eq!(name, &function),
                false => prop_assert!(name.ends_with('…') && function.starts_with(name.trim_end_matches('…'))),
            }
        }
        let unknown = long("nothing");
        for error in [
            trapped.clone(),
            call(&module, "throw", &[]).unwrap_err(),
            module.function(&long("global")).unwrap_err().into(),
            module.function(&unknown).unwrap_err().into(),
            look(Access::GetGlobal { name: unknown.clone() }),
            look(Access::SetGlobal { name: long("global"), value: Value::I32(1) }),
            look(Access::TableGet { name: long("table"), index: 1 }),
            look(Access::Size { memory: Some(unknown) }),
        ] {
            let printed = format!("{error:?}");
            prop_assert!(printed.len() < LARGEST, "{} bytes", printed.len());
            prop_assert!(more < 8_000 || printed.contains('…'), "{printed}");
        }
        Ok(())
    });
}

#[test]
fn what_a_compiler_says_is_cut_as_well() {
    let long = "n".repeat(90_000);
    for source in [
        format!(r#"(module (func (export "{long}")) (func (export "{long}")))"#),
        format!(r#"(module (func (call $"{long}")))"#),
    ] {
        let error = try_load(shared(), source, shared().default_config()).unwrap_err();
        assert!(matches!(error, Error::Load(LoadError::Invalid { .. } | LoadError::InvalidText { .. })), "{error:?}");
        assert!(format!("{error:?}").len() < LARGEST);
    }
    let unlinked = load(shared(), format!(r#"(module (import "{long}" "{long}" (memory 1)) (func (export "f")))"#));
    let Error::Link(problems) = call(&unlinked, "f", &[]).unwrap_err() else { panic!("it links") };
    assert!(problems.iter().all(|problem| problem.module.len() == 203 && problem.name.len() == 203));
}

#[test]
fn an_error_of_the_caller_names_what_was_asked_for() {
    let error = load(shared(), HOLD).function("hodl").unwrap_err();
    let CallError::NoSuchExport { name, known, .. } = &error else { panic!("{error:?}") };
    assert_eq!((name.as_str(), known.join(" ").as_str()), ("hodl", "hold spin f"));
    assert_eq!(Error::from(error).blame(), Blame::Caller);
}
