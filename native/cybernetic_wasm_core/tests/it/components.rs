//! Components: loaded, called, limited and stopped as modules are.

use crate::support::{
    Driver, Loaded, call_within, eventually, first, instantiate, limits, load, own, poisoned_by, shared, start,
    to_host_call, try_load, yields,
};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::access::Access;
use cybernetic_wasm_core::engine::{EngineConfig, Metering, POOL_SLOTS};
use cybernetic_wasm_core::error::{CallError, Limit, LoadError};
use cybernetic_wasm_core::execution::{Execution, Product};
use cybernetic_wasm_core::lane::{INLINE_VALUES, Lane};
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::live::LiveGuest;
use cybernetic_wasm_core::value::Value;
use cybernetic_wasm_core::wit::{Kind, Passed, Type, Typed, Val};
use std::sync::Arc;

/// Echoes, a counter, a loop, a trap, and results that lie.
const GUEST: &str = r#"
(component
  (import "a:b/host@1.0.0" (instance $host (export "say" (func (param "text" string) (result u32)))))
  (core module $memory
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (loop $grow
        (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
          (then
            (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then (unreachable)))
            (br $grow))))
      (local.get $at)))
  (core instance $memory (instantiate $memory))
  (core func $say (canon lower (func $host "say") (memory (core memory $memory "memory"))
    (realloc (core func $memory "realloc"))))
  (core module $guest
    (import "memory" "memory" (memory 0))
    (import "host" "say" (func $say (param i32 i32) (result i32)))
    (global $count (mut i32) (i32.const 0))
    (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
    (func (export "echo") (param i32 i32) (result i32)
      (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1)) (i32.const 16))
    (func (export "count") (result i32)
      (global.set $count (i32.add (global.get $count) (i32.const 1))) (global.get $count))
    (func (export "spin") (loop (br 0)))
    (func (export "trap") unreachable)
    (func (export "say") (param i32 i32) (result i32) (call $say (local.get 0) (local.get 1)))
    (func (export "tell") (param i32 i32) (result i32)
      (drop (call $say (local.get 0) (local.get 1)))
      (i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (i32.const 3)) (i32.const 16))
    (func (export "beyond") (result i32)
      (i32.store (i32.const 16) (i32.const -16)) (i32.store (i32.const 20) (i32.const 64)) (i32.const 16))
    (func (export "no_text") (result i32)
      (i32.store8 (i32.const 32) (i32.const 255))
      (i32.store (i32.const 16) (i32.const 32)) (i32.store (i32.const 20) (i32.const 1)) (i32.const 16))
    (func (export "many") (param i32) (result i32)
      (i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (local.get 0)) (i32.const 16))
    (func (export "post") (param i32) unreachable))
  (core instance $i (instantiate $guest (with "memory" (instance $memory))
    (with "host" (instance (export "say" (func $say))))))
  (func (export "add") (param "a" u32) (param "b" u32) (result u32) (canon lift (core func $i "add")))
  (func (export "text") (param "v" string) (result string)
    (canon lift (core func $i "echo") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "bytes") (param "v" (list u8)) (result (list u8))
    (canon lift (core func $i "echo") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "numbers") (param "v" (list u32)) (result (list u32))
    (canon lift (core func $i "echo") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "count") (result u32) (canon lift (core func $i "count")))
  (func (export "spin") (canon lift (core func $i "spin")))
  (func (export "trap") (canon lift (core func $i "trap")))
  (func (export "say") (param "text" string) (result u32)
    (canon lift (core func $i "say") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "tell") (param "text" string) (result (list u32))
    (canon lift (core func $i "tell") (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (func (export "beyond") (result string)
    (canon lift (core func $i "beyond") (memory (core memory $memory "memory"))))
  (func (export "no-text") (result string)
    (canon lift (core func $i "no_text") (memory (core memory $memory "memory"))))
  (func (export "many") (param "n" u32) (result (list (tuple u8)))
    (canon lift (core func $i "many") (memory (core memory $memory "memory"))))
  (func (export "post") (param "v" u32) (result (tuple u8 u8 u8))
    (canon lift (core func $i "many") (memory (core memory $memory "memory")) (post-return (core func $i "post"))))
)"#;

fn guest() -> Loaded {
    load(shared(), GUEST)
}

pub(crate) fn wit(ty: Type, value: Val) -> Value {
    Typed { ty, passed: Passed::Val(value), carried: Vec::new() }.into()
}

pub(crate) fn u32(number: u32) -> Value {
    wit(Type::U32, Val::U32(number))
}

fn text(text: &str) -> Value {
    wit(Type::String, Val::String(text.to_owned()))
}

fn bytes(bytes: &[u8]) -> Value {
    Typed { ty: Type::List(Arc::new(Type::U8)), passed: Passed::Bytes(bytes.to_vec()), carried: Vec::new() }.into()
}

fn numbers(numbers: &[u32]) -> Value {
    let list = numbers.iter().copied().map(Val::U32).collect();
    wit(Type::List(Arc::new(Type::U32)), Val::List(list))
}

/// The one result: by its dynamic value, or as bytes.
fn one(values: Vec<Value>) -> (Type, Passed) {
    match values.into_iter().next() {
        Some(Value::Wit(typed)) => (typed.ty, typed.passed),
        other => panic!("no value of a component's: {other:?}"),
    }
}

pub(crate) fn val(values: Vec<Value>) -> Val {
    match one(values).1 {
        Passed::Val(value) => value,
        _ => panic!("bytes"),
    }
}

fn call(name: &str, args: &[Value]) -> Result<Vec<Value>, Error> {
    call_within(&guest(), name, args, limits())
}

fn call_on(live: &Arc<LiveGuest>, name: &str, args: Vec<Value>) -> Result<Vec<Value>, Error> {
    let function = live.function(name)?;
    Driver::with_host(&|open| Some(vec![u32(open.args.len() as u32)])).values(&mut Execution::call_on(
        first(live),
        &function,
        args,
        limits(),
    )?)
}

#[test]
fn a_component_is_loaded_with_what_its_world_has() {
    let component = guest();
    assert!(component.is_component());
    let (imports, exports) = component.world().unwrap();
    assert_eq!(imports.len(), 1);
    assert_eq!(imports[0].path(), "a:b/host@1.0.0#say");
    assert_eq!(component.imports()[0].signature(), "func(text: string) -> u32");
    let Kind::Func(func) = &exports[0].kind else { panic!("a function") };
    assert_eq!((exports[0].path(), func.to_string()), ("add".to_owned(), "func(a: u32, b: u32) -> u32".to_owned()));
    assert!(!load(shared(), "(module)").is_component());
}

#[test]
fn it_is_compiled_apart_and_in_this_process_for_every_kind_of_engine() {
    for config in [
        EngineConfig { metering: Metering::Epoch, ..shared().default_config() },
        EngineConfig { deterministic: true, ..shared().default_config() },
    ] {
        let component = try_load(shared(), GUEST, config).unwrap();
        assert!(matches!(val(call_within(&component, "add", &[u32(1), u32(2)], limits()).unwrap()), Val::U32(3)));
    }
    let runtime = own(|_| {});
    let component = load(&runtime, GUEST);
    assert!(matches!(val(call_within(&component, "add", &[u32(1), u32(2)], limits()).unwrap()), Val::U32(3)));
}

#[test]
fn values_go_through_by_type_and_dynamically() {
    assert!(matches!(val(call("add", &[u32(u32::MAX), u32(2)]).unwrap()), Val::U32(1)));
    assert!(matches!(val(call("text", &[text("é")]).unwrap()), Val::String(given) if given == "é"));
    for given in [&b""[..], b"\0\xff", &[7; 100_000]] {
        let (ty, passed) = one(call("bytes", &[bytes(given)]).unwrap());
        assert!(ty.is_bytes());
        assert!(matches!(passed, Passed::Bytes(found) if found == given));
    }
    let found = val(call("numbers", &[numbers(&[1, 2, 3])]).unwrap());
    assert!(matches!(found, Val::List(list) if list.len() == 3));
}

#[test]
fn what_is_of_another_type_never_gets_to_the_guest() {
    let live = instantiate(&guest(), limits()).unwrap();
    let wrong = [vec![], vec![u32(1)], vec![u32(1), text("")], vec![Value::I32(1), u32(1)]];
    for args in wrong {
        assert!(matches!(call_on(&live, "add", args), Err(Error::Call(_))));
    }
    assert!(matches!(call_on(&live, "no-such", vec![]), Err(Error::Call(CallError::NoSuchExport { .. }))));
    assert!(matches!(val(call_on(&live, "add", vec![u32(1), u32(2)]).unwrap()), Val::U32(3)));
}

#[test]
fn a_result_that_lies_is_the_guests_fault_and_closes_it() {
    for (name, args) in [("beyond", vec![]), ("no-text", vec![]), ("many", vec![u32(u32::MAX)])] {
        let live = instantiate(&guest(), limits()).unwrap();
        match call_on(&live, name, args) {
            Err(Error::Trap(trap)) => assert_eq!(trap.code, "invalid_value", "{name}"),
            other => panic!("{name}: {other:?}"),
        }
        poisoned_by(call_on(&live, "count", vec![]).unwrap_err());
    }
}

#[test]
fn a_trap_after_the_return_is_the_calls() {
    let live = instantiate(&guest(), limits()).unwrap();
    assert!(matches!(call_on(&live, "post", vec![u32(1)]), Err(Error::Trap(trap)) if trap.code == "unreachable"));
    poisoned_by(call_on(&live, "count", vec![]).unwrap_err());
}

#[test]
fn no_trap_is_survived() {
    let live = instantiate(&guest(), limits()).unwrap();
    live.survive_traps();
    assert!(matches!(call_on(&live, "trap", vec![]), Err(Error::Trap(_))));
    poisoned_by(call_on(&live, "count", vec![]).unwrap_err());
}

#[test]
fn what_is_passed_at_once_is_bounded() {
    let few = Limits { max_transfer: 4_000, ..limits() };
    for (name, args) in
        [("many", vec![u32(40)]), ("numbers", vec![numbers(&[0; 90])]), ("bytes", vec![bytes(&[0; 4_000])])]
    {
        assert!(call_within(&guest(), name, &args, few.clone()).is_ok(), "{name}");
    }
    for (name, args) in
        [("many", vec![u32(200)]), ("numbers", vec![numbers(&[0; 200])]), ("bytes", vec![bytes(&[0; 4_001])])]
    {
        match call_within(&guest(), name, &args, few.clone()) {
            Err(Error::Limit(error)) => assert_eq!((error.limit, error.allowed), (Limit::Transfer, 4_000), "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn an_argument_that_there_is_no_memory_for_is_the_limits_doing() {
    let small = Limits { max_memory: 200_000, ..limits() };
    match call_within(&guest(), "bytes", &[bytes(&[0; 300_000])], small) {
        Err(Error::Limit(error)) => assert_eq!(error.limit, Limit::Memory),
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_runs_in_slices_and_ends_with_its_fuel() {
    let mut execution = start(&guest(), "spin", &[], limits());
    assert!(yields(&mut execution, Lane::Inline) && yields(&mut execution, Lane::Inline));
    drop(execution);
    match call_within(&guest(), "spin", &[], Limits { fuel: 1_000_000, ..limits() }) {
        Err(Error::Limit(error)) => assert_eq!(error.limit, Limit::Fuel),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_normal_scheduler_reads_lists_only_where_they_are_bounded_to_few() {
    let component = guest();
    let few = Limits { max_transfer: INLINE_VALUES, ..limits() };
    let function = component.function("numbers").unwrap();
    eventually("a function that does nothing proves short", || {
        call("numbers", &[numbers(&[1, 2])]).unwrap();
        function.may_run_inline(&few)
    });
    assert!(!function.may_run_inline(&limits()));
    let plain = component.function("text").unwrap();
    eventually("so does one that has no lists", || {
        call("text", &[text("")]).unwrap();
        plain.may_run_inline(&limits())
    });
}

#[test]
fn a_call_that_gives_a_list_goes_on_after_a_host_call_where_that_may_be_read() {
    let few = Limits { max_transfer: INLINE_VALUES, ..limits() };
    for (name, limits, fits) in [("tell", limits(), false), ("tell", few, true), ("say", limits(), true)] {
        let component = guest();
        let mut execution = start(&component, name, &[text("")], limits);
        let call = to_host_call(&mut execution);
        assert_eq!(execution.fits_inline(&component, call), fits, "{name}");
    }
}

#[test]
fn a_host_function_is_asked_by_the_index_of_its_import() {
    let live = instantiate(&guest(), limits()).unwrap();
    let function = live.function("say").unwrap();
    let host = Driver::with_host(&|open| {
        assert_eq!(open.import(), 0);
        assert!(matches!(&open.args[..], [Value::Wit(typed)]
            if matches!(&typed.passed, Passed::Val(Val::String(text)) if text == "hello")));
        let again = open.call("count", &[]);
        assert!(matches!(again, Err(Error::Call(CallError::Reentrant { .. }))), "{again:?}");
        let look = open.ask(cybernetic_wasm_core::mail::Command::Access(Access::Size { memory: None }));
        assert!(matches!(look, Err(Error::Call(CallError::Component(_)))), "{look:?}");
        Some(vec![u32(5)])
    });
    let mut execution = Execution::call_on(first(&live), &function, vec![text("hello")], limits()).unwrap();
    assert!(matches!(val(host.values(&mut execution).unwrap()), Val::U32(5)));
    assert!(call_on(&live, "count", vec![]).is_ok());
}

#[test]
fn a_host_function_that_raises_or_returns_another_type_poisons() {
    for reply in [None, Some(vec![]), Some(vec![text("")]), Some(vec![u32(1), u32(2)])] {
        let live = instantiate(&guest(), limits()).unwrap();
        let function = live.function("say").unwrap();
        let mut execution = Execution::call_on(first(&live), &function, vec![text("")], limits()).unwrap();
        assert!(Driver::with_host(&|_| reply.clone()).values(&mut execution).is_err());
        poisoned_by(call_on(&live, "count", vec![]).unwrap_err());
    }
}

#[test]
fn what_only_modules_have_is_refused_and_harms_nothing() {
    let live = instantiate(&guest(), limits()).unwrap();
    let look = first(&live).access(Access::GetGlobal { name: "count".into() });
    assert!(matches!(look, Ok(Err(Error::Call(CallError::Component(_))))));
    assert!(first(&live).read(None, (0_u64, 1_u64), <[u8]>::to_vec).is_err());
    let link = Execution::link(&live, live.reserve(), (&guest().module, vec![]), guest().setup(limits()));
    assert!(matches!(Driver::default().drive(&mut link.unwrap()), Err(Error::Call(CallError::Component(_)))));
    let snapshot = Execution::instantiate(&guest().module, true, guest().setup(limits()));
    let mut snapshot = snapshot;
    assert!(matches!(Driver::default().drive(&mut snapshot), Err(Error::Call(CallError::NoSnapshot(_)))));
    assert!(call_on(&live, "count", vec![]).is_ok());
}

#[test]
fn more_of_them_than_a_pool_has_slots_live_beside_each_other() {
    let component = guest();
    let live: Vec<_> = (0..POOL_SLOTS + 50).map(|_| instantiate(&component, limits()).unwrap()).collect();
    for live in [&live[0], &live[live.len() - 1]] {
        assert!(matches!(val(call_on(live, "count", vec![]).unwrap()), Val::U32(1)));
    }
}

#[test]
fn a_reset_makes_it_anew() {
    let live = instantiate(&guest(), limits()).unwrap();
    assert!(call_on(&live, "trap", vec![]).is_err());
    let mut reset = Execution::reset(&live, limits()).unwrap();
    assert!(matches!(Driver::default().drive(&mut reset), Ok(Product::Reset)));
    assert!(matches!(val(call_on(&live, "count", vec![]).unwrap()), Val::U32(1)));
}

#[test]
fn components_that_multiply_and_types_that_do_are_refused() {
    let refused = |text: String| match try_load(shared(), text, shared().default_config()) {
        Err(Error::Load(LoadError::Unsupported(why))) => why,
        other => panic!("{other:?}"),
    };
    let core = "(component (core module) (core instance (instantiate 0)))".to_owned();
    let twice = |inner: String, _| format!("(component {inner} (instance (instantiate 0)) (instance (instantiate 0)))");
    assert!(refused((0..12).fold(core, twice)).contains("instances of modules"));
    let doubled: String = (1..17).map(|n| format!("(type $t{n} (tuple $t{0} $t{0}))", n - 1)).collect();
    let large = format!(r#"(component (type $t0 (tuple u8 u8)) {doubled} (import "f" (func (param "a" $t16))))"#);
    assert!(refused(large).contains("parts"));
}

/// Reproducible numbers (SplitMix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[test]
fn damaged_components_are_refused_or_run() {
    let whole = wat::parse_str(GUEST).unwrap();
    let runtime = own(|settings| settings.cache_bytes = 0);
    let (mut state, mut refused) = (7, 0);
    for round in 0..400 {
        let mut damaged = whole.clone();
        for _ in 0..=round % 3 {
            let at = (next(&mut state) as usize) % damaged.len();
            damaged[at] = next(&mut state) as u8;
        }
        if round % 5 == 0 {
            damaged.truncate((next(&mut state) as usize) % damaged.len());
        }
        match try_load(&runtime, &damaged, runtime.default_config()) {
            Ok(component) => {
                let short = Limits { fuel: 100_000, ..limits() };
                let _ = call_within(&component, "count", &[], short);
            }
            Err(Error::Load(LoadError::CompilerFailed(why))) => panic!("round {round}: {why}"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 100, "{refused}");
}
