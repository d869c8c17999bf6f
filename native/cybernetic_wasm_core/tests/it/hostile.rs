//! Whatever bytes a stranger sends, and whatever a valid module then does, the outcome is a value or an error that says
//! what is wrong. Nothing panics, nothing hangs, nothing is left behind.

mod components;

use crate::support::{
    Driver, Loaded, OpenCall, PATIENCE, call, eventually_unused, instantiate, limits, load, number, own, property,
    shared, start, try_load,
};
use arbitrary::{Arbitrary, Unstructured};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::engine::{EngineConfig, Features, Metering};
use cybernetic_wasm_core::error::{CallError, Limit, LoadError};
use cybernetic_wasm_core::execution::Execution;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::runtime::Runtime;
use cybernetic_wasm_core::value::Value;
use proptest::prelude::*;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use wasmtime::{ExternType, ValType};

const HEADER: &[u8] = b"\0asm\x01\0\0\0";

/// Little of everything: enough to reach every instruction, too little to keep a test busy. Only where there is no fuel
/// does time have to end the endless ones.
fn tight(metering: Metering) -> Limits {
    Limits {
        fuel: 100_000,
        max_memory: 8 << 20,
        max_table_elements: 10_000,
        max_host_calls: 100,
        time: if metering == Metering::Fuel { PATIENCE } else { Duration::from_millis(50) },
        ..limits()
    }
}

/// A runtime that keeps none of the thousands of modules that pass through it.
fn passing() -> &'static Arc<Runtime> {
    static PASSING: OnceLock<Arc<Runtime>> = OnceLock::new();
    PASSING.get_or_init(|| own(|settings| settings.cache_bytes = 0))
}

fn zero(ty: &ValType) -> Value {
    match ty {
        ValType::I32 => Value::I32(0),
        ValType::I64 => Value::I64(0),
        ValType::F32 => Value::F32(0),
        ValType::F64 => Value::F64(0),
        ValType::V128 => Value::V128(0),
        ValType::Ref(_) => Value::Null,
    }
}

/// Every failure of a guest is somebody's, and never the library's own.
fn check(error: &Error) {
    assert!(!matches!(error, Error::Internal(_)), "{error:?}");
}

/// Runs everything a module exports, its imports answering zeros. Says whether anything ran.
fn exercise(module: &Loaded) -> bool {
    let zeros = |call: &mut OpenCall<'_>| {
        let code = call.execution.importer(call.host_call).unwrap();
        let import = &code.imports()[call.import() as usize];
        Some(import.results().iter().map(zero).collect())
    };
    let tight = tight(module.requested().metering);
    let mut ran = false;
    let functions: Vec<_> =
        module.export_types().filter(|(_, ty)| matches!(ty, ExternType::Func(_))).take(10).collect();
    for (name, _) in functions {
        let function = module.function(&name).unwrap();
        let args = function.params().iter().map(zero).collect();
        let mut execution = Execution::call(&module.module, &function, args, module.setup(tight.clone()));
        match Driver::with_host(&zeros).values(&mut execution) {
            Ok(_) => ran = true,
            Err(error) => {
                check(&error);
                ran |= !matches!(error, Error::Link(_));
            }
        }
    }
    let instance = Driver::with_host(&zeros).instance(module, tight);
    instance.map_or_else(|error| check(&error), drop);
    ran
}

fn load_and_exercise(source: &[u8]) {
    match try_load(passing(), source, passing().default_config()) {
        Ok(module) => drop(exercise(&module)),
        Err(error) => assert!(matches!(error, Error::Load(_)), "{error:?}"),
    }
}

// Bytes

#[test]
fn random_bytes_are_refused() {
    property(4_000, prop::collection::vec(any::<u8>(), 0..300), |bytes| {
        load_and_exercise(&bytes);
        Ok(())
    });
}

#[test]
fn random_bytes_behind_a_good_header_are_refused() {
    property(4_000, prop::collection::vec(any::<u8>(), 0..300), |bytes| {
        load_and_exercise(&[HEADER, &bytes].concat());
        Ok(())
    });
}

#[test]
fn sections_of_the_right_length_with_random_contents_are_refused() {
    let section = (0_u8..15, prop::collection::vec(prop_oneof![0_u8..8, any::<u8>()], 0..40));
    property(4_000, prop::collection::vec(section, 1..6), |sections| {
        let mut bytes = HEADER.to_vec();
        for (id, contents) in sections {
            bytes.extend([id, contents.len() as u8]);
            bytes.extend(contents);
        }
        load_and_exercise(&bytes);
        Ok(())
    });
}

#[test]
fn random_text_is_refused() {
    let word = prop::sample::select(vec![
        "(",
        ")",
        "(module",
        "func",
        "(func",
        "$f",
        "i32.const",
        "0x7fffffff",
        "\"\\00\"",
        "(memory",
        "(data",
        "block",
        "end",
        ";;",
        "(;",
        "(export",
        "\u{202e}",
        "\u{0}",
        "(type",
        "(rec",
        "(ref",
        "null",
        "(@custom",
        "1e999",
        "nan:0x",
        "\n",
    ]);
    property(4_000, prop::collection::vec(word, 0..40), |words| {
        load_and_exercise(format!("({}", words.join(" ")).as_bytes());
        Ok(())
    });
}

/// A module with every section and instructions of every proposal that is on.
const RICH: &str = r#"(module $rich
  (type $pair (struct (field (mut i32)) (field (ref null $pair))))
  (type $row (array (mut i16)))
  (type $unary (func (param i32) (result i32)))
  (import "host" "log" (func $log (param i32 externref) (result i32)))
  (tag $oops (param i32))
  (memory $m (export "memory") 1 4)
  (memory $n i64 1)
  (table $t (export "table") 4 8 funcref)
  (table $r 2 externref)
  (global $g (mut i32) (i32.add (i32.const 1) (i32.const 2)))
  (global $p (ref $pair) (struct.new $pair (i32.const 1) (ref.null $pair)))
  (elem (table $t) (i32.const 0) func $double $factorial)
  (elem declare func $start)
  (data $d (memory $m) (i32.const 16) "some data")
  (data $passive "more data")
  (start $start)
  (func $start (global.set $g (call $log (i32.const 1) (ref.null extern))))
  (func $double (type $unary) (i32.mul (local.get 0) (i32.const 2)))
  (func $factorial (type $unary)
    (if (result i32) (i32.lt_s (local.get 0) (i32.const 2))
      (then (i32.const 1))
      (else (i32.mul (local.get 0) (call $factorial (i32.sub (local.get 0) (i32.const 1)))))))
  (func (export "indirect") (param i32) (result i32)
    (call_indirect $t (type $unary) (i32.const 5) (local.get 0)))
  (func (export "tail") (param i32) (result i32)
    (return_call_indirect $t (type $unary) (i32.const 5) (i32.and (local.get 0) (i32.const 1))))
  (func (export "bulk")
    (memory.copy $m $m (i32.const 0) (i32.const 16) (i32.const 9))
    (memory.fill $m (i32.const 100) (i32.const 7) (i32.const 1000))
    (memory.init $m $passive (i32.const 50) (i32.const 0) (i32.const 9))
    (data.drop $passive)
    (table.copy $t $t (i32.const 2) (i32.const 0) (i32.const 2)))
  (func (export "simd") (param v128) (result v128 f32)
    (i32x4.add (local.get 0) (v128.load $m (i32.const 16)))
    (f32.sqrt (f32x4.extract_lane 1 (local.get 0))))
  (func (export "catch") (result i32)
    (block $caught (result i32) (try_table (catch $oops $caught) (throw $oops (i32.const 9))) (i32.const 0)))
  (func (export "gc") (param i32) (result i32) (local $row (ref $row))
    (local.set $row (array.new_default $row (i32.const 10)))
    (array.set $row (local.get $row) (local.get 0) (i32.const 3))
    (i32.add (array.get_u $row (local.get $row) (i32.const 1)) (struct.get $pair 0 (global.get $p))))
  (func (export "wide") (param i64) (result i64)
    (i64.store $n (local.get 0) (i64.const 5))
    (i64.div_s (i64.load $n (i64.const 0)) (local.get 0)))
  (func (export "select") (param externref i32) (result externref)
    (table.set $r (i32.const 1) (local.get 0))
    (select (result externref) (local.get 0) (table.get $r (local.get 1)) (local.get 1)))
  (func (export "table_switch") (param i32) (result i32)
    (block $a (block $b (block $c (br_table $a $b $c (local.get 0)))) (return (i32.const 1)))
    (i32.const 2)))"#;

fn rich() -> Vec<u8> {
    wat::parse_str(RICH).unwrap()
}

#[test]
fn the_module_that_is_about_to_be_damaged_is_sound() {
    assert!(exercise(&load(passing(), rich())));
}

#[test]
fn a_module_cut_off_anywhere_is_refused_or_still_a_module() {
    let module = rich();
    for length in 0..module.len() {
        load_and_exercise(&module[..length]);
    }
}

#[test]
fn a_module_with_flipped_bits_is_refused_or_runs_within_its_limits() {
    let module = rich();
    let flips = prop::collection::vec((0..module.len(), 0_u8..8), 1..4);
    property(3_000, flips, |flips| {
        let mut damaged = module.clone();
        flips.iter().for_each(|(at, bit)| damaged[*at] ^= 1 << bit);
        load_and_exercise(&damaged);
        Ok(())
    });
}

#[test]
fn a_module_with_bytes_cut_out_repeated_or_overwritten_is_refused_or_runs_within_its_limits() {
    let module = rich();
    let length = module.len();
    property(2_000, (0..length, 0_usize..40, any::<[u8; 5]>(), 0_u8..3), |(at, span, bytes, way)| {
        let end = (at + span).min(length);
        let middle = match way {
            0 => Vec::new(),
            1 => module[at..end].repeat(2),
            _ => bytes.to_vec(),
        };
        load_and_exercise(&[&module[..at], &middle, &module[end..]].concat());
        Ok(())
    });
}

// Valid, but strange

/// Reproducible random bytes (SplitMix64), so that a failure can be looked at again by its seed.
fn bytes_from(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (0..length.div_ceil(8)).flat_map(|_| next().to_le_bytes()).take(length).collect()
}

/// What this library's engines accept, no more.
fn own_features(u: &mut Unstructured<'_>) -> wasm_smith::Config {
    wasm_smith::Config {
        max_imports: if u.ratio(1, 2).unwrap_or(false) { 0 } else { 3 },
        export_everything: true,
        min_funcs: 1,
        max_funcs: 12,
        max_memories: 3,
        max_tables: 3,
        max_instructions: 120,
        max_memory32_bytes: 16 << 20,
        max_memory64_bytes: 16 << 20,
        max_table_elements: 20_000,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        compact_imports_enabled: false,
        ..wasm_smith::Config::default()
    }
}

fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Generates, loads and runs modules. `CYBERNETIC_WASM_SMITH` sets how many, `CYBERNETIC_WASM_SEED` from which seed.
fn smith(
    default_modules: u64,
    config: fn(&mut Unstructured<'_>) -> wasm_smith::Config,
    refusal: fn(u64, Error),
) -> u64 {
    let modules = number_from_environment("CYBERNETIC_WASM_SMITH", default_modules);
    let first = number_from_environment("CYBERNETIC_WASM_SEED", 0);
    let runtime = passing();
    let (mut made, mut ran) = (0, 0);
    for seed in first.. {
        if made == modules {
            break;
        }
        let bytes = bytes_from(seed, 6_000);
        let mut u = Unstructured::new(&bytes);
        let config = config(&mut u);
        let Ok(module) = wasm_smith::Module::new(config, &mut u) else { continue };
        made += 1;
        let metering = if seed % 4 == 0 { Metering::Epoch } else { Metering::Fuel };
        let engine = EngineConfig { metering, deterministic: seed % 8 == 1, ..runtime.default_config() };
        match try_load(runtime, module.to_bytes(), engine) {
            Ok(module) => {
                let outcome = catch_unwind(AssertUnwindSafe(|| exercise(&module)));
                ran += u64::from(outcome.unwrap_or_else(|_| panic!("seed {seed}")));
            }
            Err(error) => refusal(seed, error),
        }
    }
    ran
}

#[test]
fn a_thousand_valid_but_strange_modules_run_within_their_limits() {
    let ran = smith(1_000, own_features, |seed, error| panic!("seed {seed}: a valid module is refused: {error:?}"));
    assert!(ran >= 300, "only {ran} of them ran");
}

#[test]
fn strange_modules_of_whatever_proposals_are_refused_or_run_within_their_limits() {
    let anything = |u: &mut Unstructured<'_>| {
        let mut config = wasm_smith::Config::arbitrary(u).unwrap_or_default();
        config.max_instructions = config.max_instructions.min(200);
        config.max_funcs = config.max_funcs.min(30);
        config
    };
    smith(400, anything, |seed, error| assert!(matches!(error, Error::Load(_)), "seed {seed}: {error:?}"));
}

// Sizes

fn nested(levels: usize, open: &str) {
    let body = open.repeat(levels) + &"end ".repeat(levels);
    load_and_exercise(format!(r#"(module (func (export "f") {body}))"#).as_bytes());
}

#[test]
fn a_hundred_thousand_nested_blocks_are_valid_or_refused() {
    nested(100_000, "block ");
}

#[test]
fn constructs_nested_so_deep_that_compiling_takes_minutes_are_refused_at_once() {
    // The compiler's time grows with the square of the nesting, and it cannot be interrupted: one small function of a
    // hundred thousand loops kept a compiling thread busy for minutes.
    let function = |open: &str, levels: usize| {
        let body = open.repeat(levels) + &"end ".repeat(levels);
        try_load(shared(), format!(r#"(module (func (export "f") {body}))"#).as_bytes(), shared().default_config())
    };
    for (open, most) in [("loop ", 1_000), ("i32.const 1 if ", 1_000), ("block i32.const 0 br_if 0 ", 4_999)] {
        assert!(function(open, most).is_ok(), "{open}");
        for levels in [most + 2, 100_000] {
            let refused = function(open, levels);
            assert!(matches!(refused, Err(Error::Load(LoadError::Unsupported(_)))), "{open}: {refused:?}");
        }
    }
    let beside_each_other = "loop end block end i32.const 1 if end ".repeat(20_000);
    assert!(function(&beside_each_other, 1).is_err(), "one end too many");
    assert!(function(&(beside_each_other + "block "), 1).is_ok(), "a long function is no deep one");
}

#[test]
fn an_operand_stack_a_hundred_thousand_deep_is_valid_or_refused() {
    for operator in ["i32.add ", "i32.div_u ", "i32.xor "] {
        let body = "local.get 0 ".repeat(100_001) + &operator.repeat(100_000);
        load_and_exercise(format!(r#"(module (func (export "f") (param i32) (result i32) {body}))"#).as_bytes());
    }
}

#[test]
fn a_constant_expression_of_a_hundred_thousand_terms_is_valid_or_refused() {
    let expression = "i32.const 1 ".repeat(100_001) + &"i32.add ".repeat(100_000);
    load_and_exercise(format!(r#"(module (global (export "g") i32 {expression}) (func (export "f")))"#).as_bytes());
}

#[test]
fn a_hundred_thousand_parentheses_are_refused() {
    for open in ["(", "(module ", "(module (func (block ", "(;", "(module (func (i32.add "] {
        let error = try_load(passing(), open.repeat(100_000), passing().default_config()).unwrap_err();
        assert!(matches!(error, Error::Load(LoadError::InvalidText { .. })), "{open}: {error:?}");
    }
}

#[test]
fn a_hundred_thousand_functions_are_compiled() {
    let module = load(
        passing(),
        format!(r#"(module {} (func (export "last") (result i32) i32.const 7))"#, "(func)".repeat(100_000)),
    );
    assert_eq!(number(call(&module, "last", &[])), 7);
}

#[test]
fn a_hundred_thousand_exports_are_listed_and_found() {
    let exports: String = (0..100_000).map(|n| format!(r#"(export "e{n}" (func $f))"#)).collect();
    let module = load(passing(), format!("(module (func $f (result i32) i32.const 7) {exports})"));
    assert_eq!(module.export_types().count(), 100_000);
    assert_eq!(number(call(&module, "e99999", &[])), 7);
    let Err(CallError::NoSuchExport { known, .. }) = module.function("e100000") else { panic!("found") };
    assert!(known.len() <= 100, "an error does not list {} names", known.len());
}

#[test]
fn ten_megabytes_of_data_are_loaded() {
    let data = "x".repeat(10 << 20);
    let text = format!(
        r#"(module (memory 161) (data (i32.const 1) "{data}") (func (export "f") (result i32) (i32.load8_u (i32.const 10485760))))"#
    );
    let module = load(passing(), text);
    assert!(module.size() > 10 << 20);
    assert_eq!(number(call(&module, "f", &[])), i64::from(b'x'));
}

#[test]
fn a_memory_with_little_data_far_apart_takes_little_to_compile() {
    // A memory's initial image is made while the module is compiled.
    let memory = r#"(memory 20) (data (i32.const 0) "x") (data (i32.const 1000000) "x")"#;
    let module = load(shared(), format!("(module {memory})"));
    assert!(module.code_size() < 1 << 20, "{} bytes", module.code_size());
}

/// 256 bytes of data after each other, so far from one to the next, and a function that reads from one of them.
fn scattered(pieces: usize, step: usize) -> String {
    let data: String = (0..pieces)
        .map(|piece| {
            format!(
                "(data (i32.const {}) \"{}\")",
                piece * step,
                ((b'a' + (piece % 26) as u8) as char).to_string().repeat(256)
            )
        })
        .collect();
    let pages = (pieces * step).div_ceil(65_536) + 1;
    format!(
        r#"(module (memory {pages}) {data} (func (export "f") (param i32) (result i32) (i32.load8_u (local.get 0))))"#
    )
}

#[test]
fn scattered_data_is_an_image_only_in_proportion_to_it() {
    // An image of a heap with holes is mapped, where 340 µs went into copying its pieces. Without a bound by the data that is
    // really there a small module would have made one of sixteen megabytes.
    let image_of = |pieces, step| {
        let module = load(shared(), scattered(pieces, step));
        for piece in [0, pieces / 2, pieces - 1] {
            let expected = i64::from(b'a') + (piece % 26) as i64;
            let at = |offset: usize| number(call(&module, "f", &[Value::I32((piece * step + offset) as i32)]));
            assert_eq!((at(0), at(255), at(256)), (expected, expected, 0));
        }
        module.code_size() > (pieces * step) as u64
    };
    assert!(image_of(1_000, 1_500));
    assert!(image_of(1_000, 2_000));
    assert!(!image_of(1_000, 2_100));
    assert!(!image_of(1_000, 10_000));
    assert!(image_of(8_000, 2_000));
    assert!(!image_of(8_500, 2_000), "larger than sixteen megabytes");
}

#[test]
fn ten_megabytes_of_code_are_compiled() {
    let body = "local.get 0 i32.const 77777777 i32.mul local.get 0 i32.rotl local.set 0 ".repeat(100);
    let function = format!("(func (param i32) (result i32) {body} local.get 0)");
    let text =
        format!(r#"(module {} (func (export "f") (result i32) (call 0 (i32.const 3))))"#, function.repeat(8_500));
    let binary = wat::parse_str(text).unwrap();
    assert!(binary.len() > 10 << 20, "{}", binary.len());
    assert!(call(&load(passing(), binary), "f", &[]).is_ok());
}

#[test]
fn two_thousand_imports_are_all_named() {
    let imports: String = (0..2_000).map(|n| format!(r#"(import "host" "f{n}" (func (param i32)))"#)).collect();
    let module = load(passing(), format!(r#"(module {imports} (func (export "f")))"#));
    let names: Vec<_> = module.imports().iter().map(|import| import.name.clone()).collect();
    let expected: Vec<_> = (0..2_000).map(|n| format!("f{n}")).collect();
    assert_eq!(names, expected);
    assert!(module.imports().iter().all(|import| import.module == "host" && import.arity() == 1));
    assert!(call(&module, "f", &[]).is_ok());
}

#[test]
fn twenty_thousand_imports_are_refused() {
    let imports: String = (0..20_000).map(|n| format!(r#"(import "host" "f{n}" (func))"#)).collect();
    let error = try_load(passing(), format!("(module {imports})"), passing().default_config()).unwrap_err();
    assert!(matches!(&error, Error::Load(LoadError::Unsupported(why)) if why.contains("20000 imports")), "{error:?}");
}

#[test]
fn one_import_of_each_kind_that_is_not_given_is_named() {
    let module = load(
        passing(),
        r#"(module
          (import "env" "memory" (memory 1)) (import "env" "table" (table 1 funcref))
          (import "env" "global" (global i32)) (import "env" "tag" (tag)) (import "env" "function" (func))
          (func (export "f")))"#,
    );
    let Error::Link(problems) = call(&module, "f", &[]).unwrap_err() else { panic!("linked") };
    let named: HashMap<_, _> =
        problems.iter().map(|problem| (problem.name.as_str(), problem.wanted.as_str())).collect();
    for kind in ["memory", "table", "global", "tag"] {
        assert!(named.get(kind).is_some_and(|wanted| wanted.contains(kind)), "{kind}: {problems:?}");
    }
    assert!(matches!(instantiate(&module, limits()), Err(Error::Link(_))));
}

#[test]
fn large_counts_of_everything_are_valid_or_refused() {
    let modules = [
        format!("(module {})", "(type (func (param i32)))".repeat(200_000)),
        format!("(module (rec {}))", "(type (struct (field i32)))".repeat(100_000)),
        format!("(module {})", "(global i32 (i32.const 1))".repeat(200_000)),
        format!("(module {})", "(table 1 funcref)".repeat(101)),
        format!("(module {} (func (export \"f\")))", "(memory 0)".repeat(101)),
        format!("(module {} (func (export \"f\")))", "(memory 0)".repeat(100)),
        format!("(module {} (func (export \"f\")))", "(table 1 funcref)".repeat(100)),
        format!("(module (memory 1) {} (func (export \"f\")))", r#"(data (i32.const 0) "x")"#.repeat(90_000)),
        format!(
            "(module (table 1 funcref) (func $f (export \"f\")) {})",
            "(elem (i32.const 0) func $f)".repeat(90_000)
        ),
        format!("(module (table 1 funcref) (func $f (export \"f\")) (elem func {}))", "$f ".repeat(200_000)),
        format!("(module (func (export \"f\") (local {})))", "i64 ".repeat(50_000)),
        format!("(module (func (export \"f\") (local {})))", "i64 ".repeat(50_001)),
        format!("(module (func (export \"f\") (param {})))", "i64 ".repeat(1_000)),
        format!("(module (func (export \"f\") (param {})))", "i64 ".repeat(1_001)),
        format!("(module (func (export \"f\") (result {}) {}))", "i64 ".repeat(1_000), "i64.const 1 ".repeat(1_000)),
        format!("(module (func (export \"f\") (param i32) block local.get 0 br_table {} end))", "0 ".repeat(100_000)),
        format!("(module {} (func (export \"f\")))", "(tag (param i32 i64))".repeat(100_000)),
        format!(
            "(module (type $t0 (sub (struct))) {})",
            (1..200).map(|n| format!("(type $t{n} (sub $t{} (struct)))", n - 1)).collect::<String>()
        ),
        format!(
            "(module (type $a (array i32)) (func (export \"f\") (drop (array.new_fixed $a 10000 {}))))",
            "i32.const 1 ".repeat(10_000)
        ),
    ];
    // A load has a deadline of its own, and so has each call: what never ended would fail here.
    for text in &modules {
        load_and_exercise(text.as_bytes());
    }
}

// Facts that lie

#[test]
fn lengths_and_counts_that_lie_are_refused_without_reserving_for_them() {
    let vast = [0xff, 0xff, 0xff, 0xff, 0x0f];
    for section in 0..14 {
        load_and_exercise(&[HEADER, &[section], &vast].concat());
        load_and_exercise(&[HEADER, &[section, 5], &vast].concat());
        load_and_exercise(&[HEADER, &[section, 6], &vast, &[0]].concat());
    }
}

#[test]
fn names_of_any_letters_and_any_length_find_their_function() {
    let long = "n".repeat(90_000);
    let names = [
        "",
        " ",
        "\u{0}",
        "\u{202e}evil",
        "🦀🦀🦀",
        "a\nb",
        "\"quoted\"",
        "../../etc/passwd",
        "%s%n",
        "ｍａｉｎ",
        "e\u{301}",
        long.as_str(),
    ];
    let mut exports = String::new();
    for (index, name) in names.iter().enumerate() {
        let escaped: String = name.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        exports += &format!(r#"(func (export "{escaped}") (result i32) i32.const {index})"#);
    }
    let module = load(passing(), format!("(module {exports})"));
    for (index, name) in names.iter().enumerate() {
        assert_eq!(number(call(&module, name, &[])), index as i64, "{:.20}", name);
    }
    let listed: Vec<String> = module.export_types().map(|(name, _)| name).collect();
    assert_eq!(listed, names);
    assert!(
        matches!(module.function("\u{e9}"), Err(CallError::NoSuchExport { .. })),
        "names are compared byte by byte"
    );
}

#[test]
fn a_name_that_was_asked_for_is_shortened_in_the_error() {
    let Err(CallError::NoSuchExport { name, known, .. }) = load(passing(), "(module)").function(&"🦀".repeat(100_000))
    else {
        panic!("found")
    };
    assert!(name.len() < 2_000, "{}", name.len());
    assert!(known.is_empty());
}

#[test]
fn names_that_are_not_utf8_are_refused() {
    let export =
        [HEADER, b"\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x06\x01\x02\xff\xfe\0\0\x0a\x04\x01\x02\0\x0b"].concat();
    let error = try_load(passing(), export, passing().default_config()).unwrap_err();
    assert!(
        matches!(&error, Error::Load(LoadError::Invalid { message, .. }) if message.contains("UTF-8")),
        "{error:?}"
    );
}

#[test]
fn an_export_that_is_really_an_import_calls_the_host() {
    let module =
        load(passing(), r#"(module (import "host" "f" (func $f (param i32) (result i32))) (export "mine" (func $f)))"#);
    let double = |call: &mut OpenCall<'_>| match call.args[..] {
        [Value::I32(number)] => Some(vec![Value::I32(2 * number)]),
        _ => None,
    };
    let mut execution = start(&module, "mine", &[Value::I32(21)], limits());
    assert_eq!(number(Driver::with_host(&double).values(&mut execution)), 42);
}

#[test]
fn one_name_is_imported_with_two_types_and_each_is_called_by_its_index() {
    let module = load(
        passing(),
        r#"(module
          (import "a" "b" (func $none (result i32))) (import "a" "b" (func $one (param i32) (result i32)))
          (func (export "f") (result i32) (i32.add (call $none) (call $one (i32.const 5)))))"#,
    );
    let host = |call: &mut OpenCall<'_>| match (call.import(), &call.args[..]) {
        (0, []) => Some(vec![Value::I32(100)]),
        (1, [Value::I32(number)]) => Some(vec![Value::I32(*number)]),
        _ => None,
    };
    let mut execution = start(&module, "f", &[], limits());
    assert_eq!(number(Driver::with_host(&host).values(&mut execution)), 105);
}

#[test]
fn custom_sections_are_listed_whatever_they_hold() {
    let module = load(
        passing(),
        r#"(module (@custom "name" "\ff\ff\ff\ff") (@custom ".debug_info" "\00\ff\ff") (@custom "producers" "\ff") (@custom "" "")
          (func (export "f") unreachable))"#,
    );
    let sections: Vec<_> =
        module.custom_sections().iter().map(|section| (section.name.as_str(), section.size)).collect();
    assert_eq!(sections, [("name", 4), (".debug_info", 3), ("producers", 1), ("", 0)]);
    assert!(matches!(call(&module, "f", &[]), Err(Error::Trap(_))));
}

#[test]
fn start_functions_that_trap_loop_or_recurse_are_errors() {
    for (body, kind) in [
        ("unreachable", "trap"),
        ("(loop br 0)", "limit"),
        ("call 0", "limit"),
        ("(drop (memory.grow (i32.const 9999)))", "none"),
    ] {
        let module = load(passing(), format!(r#"(module (memory 1) (func $s {body}) (start $s) (func (export "f")))"#));
        for outcome in [call(&module, "f", &[]).map(drop), instantiate(&module, limits()).map(drop)] {
            assert_eq!(outcome.map_or_else(|error| error.kind(), |()| "none"), kind, "{body}");
        }
    }
}

// What a refusal says

fn refusal(source: impl AsRef<[u8]>, config: EngineConfig) -> LoadError {
    match try_load(shared(), source, config) {
        Err(Error::Load(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn plain_refusal(source: impl AsRef<[u8]>) -> LoadError {
    refusal(source, shared().default_config())
}

#[test]
fn what_is_not_webassembly_is_refused_as_that() {
    let not_wasm = |source: &[u8]| match plain_refusal(source) {
        LoadError::NotWasm { found } => found,
        other => panic!("{other:?}"),
    };
    assert_eq!(not_wasm(b""), "the source is empty");
    assert_eq!(not_wasm(b"\x7fELF\x02\x01\x01\0\0\0"), "it starts with the bytes 7f 45 4c 46 02 01 01 00");
    for source in [&b"\0as"[..], b"hello", b"{\"json\": 1}", b"\xff\xfe(module)", b"   ", b"\0"] {
        not_wasm(source);
    }
}

#[test]
fn another_version_of_the_format_is_invalid() {
    for header in [&b"\0asm"[..], b"\0asm\x01", b"\0asm\x02\0\0\0", b"\0asm\x01\0\0\x01"] {
        assert!(matches!(plain_refusal(header), LoadError::Invalid { .. }), "{header:?}");
    }
}

#[test]
fn a_mistake_in_the_text_is_found_by_line_and_column() {
    let place = |text: &str| match plain_refusal(text) {
        LoadError::InvalidText { line, column, message } => (line, column, message),
        other => panic!("{other:?}"),
    };
    let (line, column, message) = place("(module\n  (func (export \"f\")\n    i32.bogus))");
    assert_eq!((line, column), (3, 5), "{message}");
    assert!(message.contains("unknown operator"), "{message}");
    let (line, column, message) = place("(module\n  (func\n    call $nowhere))");
    assert_eq!((line, column), (3, 10), "{message}");
    assert!(message.contains("nowhere"), "{message}");
    assert_eq!(place("(module").0, 1);
    assert_eq!(place(";; é\n(module é)").0, 2);
}

#[test]
fn a_mistake_in_the_binary_is_found_by_its_offset() {
    let binary = wat::parse_str(r#"(module (func (result i32) i64.const 0))"#).unwrap();
    let LoadError::Invalid { offset, message } = plain_refusal(&binary) else { panic!("valid") };
    assert!((20..binary.len() as u64 + 1).contains(&offset), "{offset}");
    assert!(message.contains("type mismatch"), "{message}");
}

/// A module that needs one feature, and that feature's name.
const NEEDING: [(&str, &str); 12] = [
    ("simd", "(module (func (drop (v128.const i32x4 0 0 0 0))))"),
    ("relaxed_simd", "(module (func (param v128) (drop (i8x16.relaxed_swizzle (local.get 0) (local.get 0)))))"),
    ("bulk_memory", "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))))"),
    ("multi_value", "(module (func (result i32 i32) i32.const 1 i32.const 2))"),
    ("reference_types", "(module (func (param externref)))"),
    ("function_references", "(module (type $t (func)) (func (param (ref null $t)) (call_ref $t (local.get 0))))"),
    ("gc", "(module (type $t (struct (field i32))))"),
    ("tail_call", "(module (func return_call 0))"),
    ("multi_memory", "(module (memory 1) (memory 1))"),
    ("memory64", "(module (memory i64 1))"),
    ("extended_const", "(module (global i32 (i32.add (i32.const 1) (i32.const 1))))"),
    ("exceptions", "(module (tag) (func (throw 0)))"),
];

#[test]
fn every_feature_can_be_switched_off_and_is_named_when_it_is_missing() {
    let names: Vec<_> = Features::names().collect();
    assert_eq!(names, NEEDING.map(|(name, _)| name));
    for (name, text) in NEEDING {
        assert!(try_load(shared(), text, shared().default_config()).is_ok(), "{name} is on");
        let config = EngineConfig { features: Features::default().without(name).unwrap(), ..shared().default_config() };
        match refusal(text, config) {
            LoadError::UnsupportedFeature { feature, .. } => assert_eq!(feature, name),
            other => panic!("{name}: {other:?}"),
        }
        assert!(try_load(shared(), "(module)", config).is_ok(), "an engine without {name} still works");
    }
    assert_eq!(Features::default().without("telepathy"), None);
}

#[test]
fn features_go_away_in_any_order_and_the_engine_still_works() {
    let runtime = own(|_| {});
    let names: Vec<_> = Features::names().collect();
    property(60, prop::sample::subsequence(names, 0..=12).prop_shuffle(), |off| {
        let features = off.iter().fold(Features::default(), |features, name| features.without(name).unwrap());
        let config = EngineConfig { features, ..runtime.default_config() };
        let module = try_load(&runtime, r#"(module (memory 1) (func (export "f") (result i32) i32.const 7))"#, config);
        prop_assert!(module.is_ok(), "{:?}", module);
        prop_assert_eq!(number(call(&module.unwrap(), "f", &[])), 7);
        Ok(())
    });
}

#[test]
fn proposals_that_are_not_supported_are_refused_by_name() {
    let named = [
        ("threads", "(module (memory 1 1 shared))"),
        ("threads", "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))"),
        ("custom_page_sizes", "(module (memory 1 1 (pagesize 1)))"),
        (
            "wide_arithmetic",
            "(module (func (param i64) (result i64 i64) (i64.mul_wide_s (local.get 0) (local.get 0))))",
        ),
        ("stack_switching", "(module (type $f (func)) (type $c (cont $f)) (func (param (ref $c))))"),
        ("legacy_exceptions", "(module (func try catch_all end))"),
    ];
    for (name, text) in named {
        let refused = plain_refusal(text);
        let LoadError::UnsupportedFeature { feature, .. } = refused else { panic!("{text}: {refused:?}") };
        assert_eq!(feature, name, "{text}");
    }
}

#[test]
fn nothing_is_left_of_thousands_of_strangers() {
    let runtime = own(|settings| settings.cache_bytes = 0);
    for seed in 0..100 {
        let bytes = bytes_from(seed, 2_000);
        let mut u = Unstructured::new(&bytes);
        let Ok(module) = wasm_smith::Module::new(own_features(&mut u), &mut u) else { continue };
        if let Ok(module) = try_load(&runtime, module.to_bytes(), runtime.default_config()) {
            exercise(&module);
        }
    }
    eventually_unused(&runtime);
    crate::support::eventually("no code", || runtime.ceilings().code() == 0);
}

#[test]
fn a_stranger_meets_the_limit_that_he_tries() {
    // One module, each export another attack.
    let module = load(
        passing(),
        r#"(module
          (import "host" "call" (func $call))
          (memory 1) (table $t 1 funcref)
          (func (export "fuel") (loop br 0))
          (func (export "stack") (call 2))
          (func (export "memory") (loop (br_if 0 (i32.ne (memory.grow (i32.const 10)) (i32.const -1)))) unreachable)
          (func (export "table_elements")
            (loop (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable)
          (func (export "host_calls") (loop (call $call) (br 0))))"#,
    );
    let answer = |_: &mut OpenCall<'_>| Some(vec![]);
    for limit in [Limit::Fuel, Limit::Stack, Limit::Memory, Limit::TableElements, Limit::HostCalls] {
        let tight = Limits { fuel: 50_000_000, ..tight(Metering::Fuel) };
        let mut execution = start(&module, limit.name(), &[], tight);
        match Driver::with_host(&answer).values(&mut execution) {
            Err(Error::Limit(error)) => assert_eq!(error.limit, limit),
            other => panic!("{limit:?}: {other:?}"),
        }
    }
}
