//! A module is compiled once however many want it, kept as long as there is room, and never dropped under its users.

use crate::support::{
    Driver, Loaded, call, eventually, instantiate, limits, load, number, own, own_node, property, try_load,
};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::engine::{Allocation, EngineConfig, Features, Metering};
use cybernetic_wasm_core::error::LoadError;
use cybernetic_wasm_core::execution::{Execution, Product, Step};
use cybernetic_wasm_core::instance::Instance;
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::runtime::{Runtime, Settings};
use cybernetic_wasm_core::value::Value;
use proptest::prelude::*;
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// Modules that differ in one constant.
fn numbered(number: usize) -> String {
    let body = "(i32.add (i32.mul (local.get 0) (i32.const 3)) (i32.const 1)) (local.set 0) ".repeat(200);
    format!(r#"(module (func (export "f") (param i32) (result i32) {body} (i32.const {number})))"#)
}

fn answer(module: &Loaded) -> i64 {
    number(call(module, "f", &[Value::I32(0)]))
}

/// Loads on many threads at the same moment.
fn load_at_once(runtime: &Arc<Runtime>, threads: usize, source: &str) -> Vec<Result<Loaded, Error>> {
    let start = Barrier::new(threads);
    std::thread::scope(|scope| {
        let load = || {
            start.wait();
            try_load(runtime, source, runtime.default_config())
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(load)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_hundred_threads_that_load_a_new_module_compile_it_once() {
    let runtime = own(|_| {});
    // Large enough that the others come while the first compiles.
    let source = format!(
        "(module {})",
        (0..200)
            .map(|n| format!(
                r#"(func (export "f{n}") (param i32) (result i32) {})"#,
                "(i32.mul (local.get 0) (i32.const 3)) (local.set 0) ".repeat(50) + "(local.get 0)"
            ))
            .collect::<String>()
    );
    let modules: Vec<_> = load_at_once(&runtime, 100, &source).into_iter().map(Result::unwrap).collect();
    assert!(modules.iter().all(|module| module.is(&modules[0])));
    let stats = runtime.stats().cache;
    assert_eq!((stats.misses, stats.joined + stats.hits, stats.entries), (1, 99, 1), "{stats:?}");
    assert!(stats.joined > 0, "nobody came in time: {stats:?}");
    assert_eq!(stats.bytes, modules[0].size());
}

#[test]
fn a_module_loaded_again_is_the_same_module() {
    let runtime = own(|_| {});
    let (one, again) = (load(&runtime, numbered(1)), load(&runtime, numbered(1)));
    assert!(one.is(&again));
    let stats = runtime.stats().cache;
    assert_eq!((stats.misses, stats.hits), (1, 1));
    assert!(!one.is(&load(&runtime, numbered(2))), "another module is another");
}

/// A runtime whose cache holds this many of the numbered modules, and a half.
fn room_for(modules: u64) -> Arc<Runtime> {
    let size = load(&own(|_| {}), numbered(0)).size();
    own(|settings| settings.cache_bytes = modules * size + size / 2)
}

#[test]
fn what_was_used_last_stays_and_what_was_not_goes() {
    let runtime = room_for(2);
    for number in [1, 2, 1, 3] {
        load(&runtime, numbered(number));
    }
    let stats = runtime.stats().cache;
    assert_eq!((stats.misses, stats.hits, stats.evictions, stats.entries), (3, 1, 1, 2), "{stats:?}");
    load(&runtime, numbered(1));
    assert_eq!(runtime.stats().cache.hits, 2, "1 was used after 2, so 2 had to go");
    load(&runtime, numbered(2));
    assert_eq!(runtime.stats().cache.misses, 4);
}

#[test]
fn the_cache_never_holds_more_bytes_than_it_may_and_counts_them_right() {
    let size = load(&own(|_| {}), numbered(0)).size();
    let most = 3 * size + size / 2;
    let runtime = own(|settings| settings.cache_bytes = most);
    property(40, prop::collection::vec(0_usize..8, 1..20), |numbers| {
        for number in numbers {
            load(&runtime, numbered(number));
            let stats = runtime.stats().cache;
            prop_assert!(stats.bytes <= most && stats.entries <= 3, "{:?}", stats);
        }
        Ok(())
    });
    runtime.clear_cache();
    let stats = runtime.stats().cache;
    assert_eq!((stats.entries, stats.bytes), (0, 0));
}

#[test]
fn a_module_evicted_or_cleared_lives_on_with_its_user() {
    let runtime = room_for(1);
    let used = load(&runtime, numbered(1));
    load(&runtime, numbered(2));
    assert_eq!(runtime.stats().cache.evictions, 1);
    assert_eq!(answer(&used), 1);
    let second = load(&runtime, numbered(2));
    runtime.clear_cache();
    assert_eq!((answer(&used), answer(&second)), (1, 2));
    assert_eq!(runtime.ceilings().code(), used.code_size() + second.code_size(), "what is in use still counts");
    drop((used, second));
    eventually("the code is unmapped with its last user", || runtime.ceilings().code() == 0);
}

#[test]
fn code_that_only_a_guest_holds_is_not_thrown_out_to_make_room() {
    // It would free nothing: a member of a live guest goes on with it.
    let size = load(&own(|_| {}), numbered(0)).code_size();
    let runtime = own_node(|node| node.max_code_memory = 3 * size + size / 2);
    let guest = instantiate(&load(&runtime, numbered(0)), limits()).unwrap();
    let member = {
        let module = load(&runtime, numbered(1));
        let mut link =
            Execution::link(&guest, guest.reserve(), (&module.module, Vec::new()), module.setup(limits())).unwrap();
        let Product::Member(member) = Driver::default().drive(&mut link).unwrap() else { panic!("no member") };
        member
    };
    for number in 2..6 {
        load(&runtime, numbered(number));
    }
    let stats = runtime.stats().cache;
    assert_eq!((stats.entries, stats.evictions), (3, 3), "two that are used, and the last: {stats:?}");
    let instance = Instance { guest: &guest, member };
    let function = instance.code().unwrap().function("f").unwrap();
    let mut call = Execution::call_on(instance, &function, vec![Value::I32(0)], limits()).unwrap();
    assert_eq!(number(Driver::default().values(&mut call)), 1);
    assert_eq!(runtime.stats().cache.misses, 6);
    load(&runtime, numbered(1));
    assert_eq!(runtime.stats().cache.misses, 6, "it is still there");
}

#[test]
fn a_guest_keeps_the_code_that_it_runs() {
    let runtime = own(|_| {});
    let module = load(
        &runtime,
        r#"(module (import "host" "hold" (func $hold)) (func (export "f") (result i32) call $hold i32.const 7))"#,
    );
    let mut execution = crate::support::start(&module, "f", &[], limits());
    let call = crate::support::to_host_call(&mut execution);
    drop(module);
    runtime.clear_cache();
    execution.command(call, cybernetic_wasm_core::mail::Command::Return(vec![])).unwrap();
    assert_eq!(number(Driver::default().values(&mut execution)), 7);
}

#[test]
fn without_room_nothing_is_kept() {
    let runtime = own(|settings| settings.cache_bytes = 0);
    let (one, again) = (load(&runtime, numbered(1)), load(&runtime, numbered(1)));
    assert!(!one.is(&again));
    let stats = runtime.stats().cache;
    assert_eq!((stats.hits, stats.joined, stats.entries, stats.bytes), (0, 0, 0, 0), "{stats:?}");
    assert_eq!((answer(&one), answer(&again)), (1, 1));
    drop((one, again));
    eventually("no code", || runtime.ceilings().code() == 0);
}

#[test]
fn a_module_larger_than_the_whole_cache_is_loaded_and_throws_nothing_out() {
    let runtime = room_for(2);
    load(&runtime, numbered(1));
    let large = load(
        &runtime,
        format!(
            r#"(module (func (export "f") (param i32) (result i32) i32.const 9) (memory 20) (data (i32.const 0) "{}"))"#,
            "x".repeat(1_000_000)
        ),
    );
    assert_eq!(answer(&large), 9);
    let stats = runtime.stats().cache;
    assert_eq!((stats.entries, stats.evictions), (1, 0), "{stats:?}");
}

#[test]
fn a_module_that_nobody_has_loaded_for_long_leaves_the_cache() {
    let runtime = own(|settings| settings.cache_time = Some(Duration::from_millis(20)));
    let held = load(&runtime, numbered(1));
    load(&runtime, numbered(2));
    eventually("both have left", || runtime.stats().cache.expired == 2);
    let stats = runtime.stats().cache;
    assert_eq!((stats.entries, stats.bytes, stats.evictions), (0, 0, 0), "{stats:?}");
    eventually("only what is held is there", || runtime.ceilings().code() == held.code_size());
    assert!(load(&runtime, numbered(1)).is(&held), "it is found as long as somebody holds it");
    eventually("it has left again", || runtime.stats().cache.expired == 3);
    assert_eq!((answer(&held), runtime.stats().cache.misses), (1, 2));
}

#[test]
fn without_a_time_no_module_leaves_the_cache_until_there_is_one() {
    let settings = |cache_time| Settings { pooling: false, cache_time, ..Settings::default() };
    let runtime = Runtime::new(settings(None));
    load(&runtime, numbered(1));
    assert_eq!(runtime.stats().cache.entries, 1);
    runtime.adjust(settings(Some(Duration::from_secs(1_000_000_000))));
    load(&runtime, numbered(2));
    assert_eq!((runtime.stats().cache.entries, runtime.stats().cache.expired), (2, 0));
    runtime.adjust(settings(Some(Duration::from_millis(1))));
    eventually("both have left", || runtime.stats().cache.expired == 2);
    runtime.adjust(settings(Some(Duration::MAX)));
    load(&runtime, numbered(3));
    assert_eq!(runtime.stats().cache.entries, 1);
}

#[test]
fn each_kind_of_code_has_its_own_compilation() {
    let runtime = own(|_| {});
    let usual = runtime.default_config();
    let configs = [
        usual,
        EngineConfig { metering: Metering::Epoch, ..usual },
        EngineConfig { deterministic: true, ..usual },
        EngineConfig { features: Features::default().without("simd").unwrap(), ..usual },
    ];
    let modules: Vec<_> = configs.iter().map(|config| try_load(&runtime, numbered(1), *config).unwrap()).collect();
    let stats = runtime.stats().cache;
    assert_eq!((stats.misses, stats.hits, stats.entries), (4, 0, 4));
    for (module, config) in modules.iter().zip(configs) {
        assert_eq!(module.requested(), &config);
        assert_eq!(module.digest(), modules[0].digest());
        assert!(module.is(&try_load(&runtime, numbered(1), config).unwrap()));
        assert_eq!(answer(module), 1);
    }
}

#[test]
fn engines_that_differ_in_their_stacks_and_allocation_load_the_same_code() {
    let runtime = own(|_| {});
    let usual = runtime.default_config();
    let module = load(&runtime, numbered(1));
    let code = runtime.ceilings().code();
    for config in
        [EngineConfig { max_stack: 100_000, ..usual }, EngineConfig { allocation: Allocation::OnDemand, ..usual }]
    {
        let other = try_load(&runtime, numbered(1), config).unwrap();
        assert_eq!((other.digest(), other.engine().config().max_stack), (module.digest(), config.max_stack));
        assert!(other.is(&try_load(&runtime, numbered(1), config).unwrap()), "it is mapped once");
        assert_eq!(answer(&other), 1);
    }
    let stats = runtime.stats().cache;
    assert_eq!((stats.misses, stats.entries, runtime.ceilings().code()), (1, 1, code));
    // It outlives what it was mapped from.
    let other = try_load(&runtime, numbered(1), EngineConfig { max_stack: 100_000, ..usual }).unwrap();
    drop(module);
    runtime.clear_cache();
    assert_eq!((answer(&other), runtime.ceilings().code()), (1, code));
    drop(other);
    eventually("no code", || runtime.ceilings().code() == 0);
}

#[test]
fn a_failed_compilation_fails_all_who_wait_and_is_not_kept() {
    let runtime = own(|_| {});
    // Wrong at its very end, so that the others come while it is looked at.
    let good = r#"(func (param i32) (result i32) (local.get 0))"#.repeat(20_000);
    let source = format!("(module {good} (func (result i32)))");
    for round in 1..=2 {
        for result in load_at_once(&runtime, 20, &source) {
            let Err(Error::Load(LoadError::Invalid { offset, message })) = result else { panic!("{result:?}") };
            assert!(offset > 0 && message.contains("type mismatch"), "{message}");
        }
        let stats = runtime.stats().cache;
        assert!(stats.misses >= round, "the failure of an earlier load was kept: {stats:?}");
        assert_eq!((stats.entries, stats.hits), (0, 0));
    }
    assert_eq!(runtime.ceilings().code(), 0);
}

#[test]
fn a_load_that_was_given_up_is_nothing_to_the_next() {
    let runtime = own(|_| {});
    let mut abandoned = Execution::load(&runtime, numbered(1).as_bytes(), runtime.default_config());
    assert!(matches!(abandoned.step(Lane::Inline), Step::Waiting | Step::Finished(_)));
    drop(abandoned);
    assert_eq!(answer(&load(&runtime, numbered(1))), 1);
    // It was compiled for the first or for the second, as it came.
    assert!(runtime.stats().cache.misses <= 2);
    assert_eq!(runtime.stats().cache.entries, 1);
}

fn call_as(module: &Loaded, config: EngineConfig) {
    let function = module.function("f").unwrap();
    let mut execution =
        Execution::call(&module.module, &function, vec![Value::I32(0)], module.setup_for(config, limits()));
    Driver::default().values(&mut execution).unwrap();
}

#[test]
fn a_call_for_another_configuration_compiles_once_and_is_kept() {
    let runtime = own(|_| {});
    let module = load(&runtime, numbered(1));
    let usual = runtime.default_config();
    let other = EngineConfig { metering: Metering::Epoch, ..usual };
    for _ in 0..5 {
        call_as(&module, other);
        call_as(&module, EngineConfig { max_stack: 100_000, ..usual });
    }
    assert_eq!(runtime.stats().cache.misses, 2, "{:?}", runtime.stats());
}

#[test]
fn two_modules_that_are_variants_of_each_other_do_not_keep_each_other_for_ever() {
    // Each remembered the other as its variant: a cycle of references, and code that nobody could ever unmap.
    let runtime = own(|_| {});
    let usual = runtime.default_config();
    let other = EngineConfig { metering: Metering::Epoch, ..usual };
    let one = try_load(&runtime, numbered(1), usual).unwrap();
    let two = try_load(&runtime, numbered(1), other).unwrap();
    call_as(&one, other);
    call_as(&two, usual);
    drop((one, two));
    runtime.clear_cache();
    eventually("no code", || runtime.ceilings().code() == 0);
}

#[test]
fn a_module_keeps_no_runtime_alive() {
    // It would be a circle: a runtime keeps modules in its cache.
    let runtime = own(|_| {});
    let Loaded { module, runtime: other } = load(&runtime, numbered(1));
    let weak = Arc::downgrade(&runtime);
    drop((runtime, other));
    eventually("the compiling thread lets the runtime go", || weak.upgrade().is_none());
    assert!(module.code().function("f").is_ok());
}

#[test]
fn the_text_format_and_the_binary_it_stands_for_run_the_same() {
    let runtime = own(|_| {});
    let text = load(&runtime, numbered(5));
    let binary = load(&runtime, text.wasm());
    assert_ne!(text.digest(), binary.digest());
    assert_eq!((answer(&text), answer(&binary)), (5, 5));
    let step = Execution::load(&runtime, numbered(5).as_bytes(), runtime.default_config()).step(Lane::Dirty);
    assert!(matches!(step, Step::Finished(_)), "a cached module is there at the first step: {step:?}");
}
