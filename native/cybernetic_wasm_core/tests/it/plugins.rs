//! Plugins made for Extism: what they pass goes by way of blocks, which are their guest's memory; what lasts are their variables.

use crate::support::{Driver, Loaded, limits, load, shared};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::abi::{Abi, Argument, Exchange, Shape};
use cybernetic_wasm_core::error::{AbiError, Limit, LimitError};
use cybernetic_wasm_core::execution::{Execution, Product};
use cybernetic_wasm_core::kernel::Settings;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::mail::Answer;
use std::collections::HashMap;
use std::sync::Arc;

const PLUGIN: &str = r#"(module
    (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
    (import "extism:host/env" "free" (func $free (param i64)))
    (import "extism:host/env" "length" (func $length (param i64) (result i64)))
    (import "extism:host/env" "store_u8" (func $store_u8 (param i64 i32)))
    (import "extism:host/env" "load_u8" (func $load_u8 (param i64) (result i32)))
    (import "extism:host/env" "input_length" (func $input_length (result i64)))
    (import "extism:host/env" "input_offset" (func $input_offset (result i64)))
    (import "extism:host/env" "output_set" (func $output_set (param i64 i64)))
    (import "extism:host/env" "error_set" (func $error_set (param i64)))
    (import "extism:host/env" "config_get" (func $config_get (param i64) (result i64)))
    (import "extism:host/env" "var_get" (func $var_get (param i64) (result i64)))
    (import "extism:host/env" "var_set" (func $var_set (param i64 i64)))
    (func (export "echo") (call $output_set (call $input_offset) (call $input_length)))
    (func (export "fail") (result i32) (call $error_set (call $input_offset)) (i32.const 5))
    (func $out (param i64) (call $output_set (local.get 0) (call $length (local.get 0))))
    (func (export "configured") (call $out (call $config_get (call $input_offset))))
    (func $key (result i64) (local $key i64)
        (local.set $key (call $alloc (i64.const 1))) (call $store_u8 (local.get $key) (i32.const 107)) (local.get $key))
    (func (export "keep") (call $var_set (call $key) (call $input_offset)))
    (func (export "kept") (call $out (call $var_get (call $key))))
    (func (export "forget") (call $var_set (call $key) (i64.const 0)))
    (func (export "used_again") (local $first i64)
        (local.set $first (call $alloc (i64.const 100)))
        (call $free (local.get $first))
        (if (i64.ne (call $length (local.get $first)) (i64.const 0)) (then unreachable))
        (if (i64.ne (call $alloc (i64.const 97)) (local.get $first)) (then unreachable))
        (call $free (local.get $first)) (call $free (local.get $first))
        (if (i64.eq (call $alloc (i64.const 97)) (call $alloc (i64.const 97))) (then unreachable)))
    (func (export "hoard") (loop (drop (call $alloc (i64.const 1000))) (br 0))))"#;

fn settings() -> Arc<Settings> {
    Arc::new(Settings::new(HashMap::from([(b"key".to_vec(), b"value".to_vec())]), 5, 1_000))
}

fn run(
    module: &Loaded,
    name: &str,
    (settings, limits): (&Arc<Settings>, Limits),
    input: &[u8],
) -> Result<Vec<u8>, Error> {
    let (alloc, free_arguments, free_result, memory) = (None, None, None, None);
    let kernel = Some(Arc::clone(settings));
    let abi = Abi { alloc, free_arguments, free_result, result: Shape::Output, memory, kernel };
    let exchange = Exchange::new(module.function(name)?, Arc::new(abi), vec![Argument::Input(input.to_vec())])?;
    match Driver::default().drive(&mut Execution::exchange(&module.module, exchange, module.setup(limits)))? {
        Product::Answer(Answer::Bytes(bytes)) => Ok(bytes),
        other => panic!("no bytes but {other:?}"),
    }
}

#[test]
fn input_and_output_are_blocks() {
    let (module, settings) = (load(shared(), PLUGIN), settings());
    for input in [&b""[..], b"a", &[7; 200_000]] {
        assert_eq!(run(&module, "echo", (&settings, limits()), input).unwrap(), input);
    }
    assert_eq!(run(&module, "configured", (&settings, limits()), b"key").unwrap(), b"value");
    assert_eq!(run(&module, "configured", (&settings, limits()), b"other").unwrap(), b"");
}

#[test]
fn an_error_that_is_set_is_the_calls() {
    let failed = run(&load(shared(), PLUGIN), "fail", (&settings(), limits()), b"why");
    let Err(Error::Abi(AbiError::Reported { export, code: Some(5), text })) = failed else { panic!("{failed:?}") };
    assert_eq!((export.as_str(), text.as_slice()), ("fail", &b"why"[..]));
}

#[test]
fn variables_last_and_are_bounded() {
    let (module, settings) = (load(shared(), PLUGIN), settings());
    run(&module, "keep", (&settings, limits()), b"this").unwrap();
    assert_eq!(run(&module, "kept", (&settings, limits()), b"").unwrap(), b"this");
    let much = run(&module, "keep", (&settings, limits()), &[1; 1_000]);
    assert!(matches!(much, Err(Error::Limit(LimitError { limit: Limit::Variables, allowed: 1_000, .. }))), "{much:?}");
    assert_eq!(run(&module, "kept", (&settings, limits()), b"").unwrap(), b"this");
    run(&module, "forget", (&settings, limits()), b"").unwrap();
    assert_eq!(run(&module, "kept", (&settings, limits()), b"").unwrap(), b"");
}

#[test]
fn blocks_are_used_again_and_are_the_guests_memory() {
    let (module, settings) = (load(shared(), PLUGIN), settings());
    run(&module, "used_again", (&settings, limits()), b"").unwrap();
    let small = Limits { max_memory: 1_000_000, ..limits() };
    let memory = |result| matches!(result, Err(Error::Limit(LimitError { limit: Limit::Memory, .. })));
    assert!(memory(run(&module, "hoard", (&settings, small.clone()), b"")));
    assert!(memory(run(&module, "echo", (&settings, small.clone()), &[1; 1_000_001])));
    assert_eq!(run(&module, "echo", (&settings, small), &[1; 900_000]).unwrap().len(), 900_000);
}
