//! The value rules: which Elixir term is which WebAssembly value, and back.
//!
//! Integers are taken signed or unsigned and given signed. Elixir floats hold neither NaN nor infinity, so those are atoms,
//! and `{:f32_bits, n}` and `{:f64_bits, n}` keep any bit pattern. A `v128` is 16 bytes, little-endian. `nil` is null. A term
//! that may be large comes as `{:"$kept", size, term}`: `Execution.Terms` has looked into it.

use super::kept::KeptTerm;
use super::{atom, wit};
use crate::atoms;
use crate::resources::FuncRefResource;
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::error::CallError;
pub(crate) use cybernetic_wasm_core::value::Value;
use cybernetic_wasm_core::value::{FuncRef, HostRef};
use cybernetic_wasm_core::value::{HeapType, RefType, ValType, reference_name};
use rustler::{Atom, Binary, Decoder, Encoder, Env, ListIterator, NifResult, ResourceArc, Term, TermType};
use std::any::Any;
use std::borrow::Borrow;
use std::sync::Arc;

/// A list of arguments or results as Elixir gives it, and its length.
pub(crate) struct Terms<'a> {
    list: ListIterator<'a>,
    length: usize,
}

impl Terms<'_> {
    pub(crate) fn len(&self) -> usize {
        self.length
    }
}

impl<'a> IntoIterator for Terms<'a> {
    type Item = Term<'a>;
    type IntoIter = ListIterator<'a>;

    fn into_iter(self) -> ListIterator<'a> {
        self.list
    }
}

impl<'a> Decoder<'a> for Terms<'a> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        Ok(Self { length: term.list_length()?, list: term.decode()? })
    }
}

/// Decodes `terms`, one for each of `types`: their number has been checked.
pub(crate) fn decode_all(
    terms: Terms<'_>,
    types: impl Iterator<Item = impl Borrow<ValType>>,
) -> Result<Vec<Value>, CallError> {
    let mut values = Vec::with_capacity(terms.len());
    for (index, (term, ty)) in terms.list.zip(types).enumerate() {
        values.push(decode(term, ty.borrow(), index)?);
    }
    Ok(values)
}

/// The type that an atom names.
pub(crate) fn type_named(name: Atom) -> NifResult<ValType> {
    let types = [
        (atoms::i32(), ValType::I32),
        (atoms::i64(), ValType::I64),
        (atoms::f32(), ValType::F32),
        (atoms::f64(), ValType::F64),
        (atoms::v128(), ValType::V128),
        (atoms::funcref(), ValType::FUNCREF),
        (atoms::externref(), ValType::EXTERNREF),
        (atoms::anyref(), ValType::Ref(RefType::ANYREF)),
    ];
    let found = types.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, ty)| ty).ok_or(rustler::Error::BadArg)
}

/// A function reference to be called.
pub(crate) fn func_ref(term: Term<'_>) -> Result<FuncRef, CallError> {
    let found = term.decode::<ResourceArc<FuncRefResource>>();
    let wrong = |_| CallError::Type { index: 0, expected: "a reference to a function".into(), given: given(term) };
    found.map(|reference| reference.0.clone()).map_err(wrong)
}

/// The arguments of what a function reference refers to: their number and types are checked as an export's are.
pub(crate) fn decode_for(reference: &FuncRef, terms: Terms<'_>) -> Result<Vec<Value>, Error> {
    reference.check_arity(terms.len())?;
    Ok(decode_all(terms, reference.params().iter())?)
}

/// Decodes one value of type `ty`; `index` says where it stands, for the error.
pub(crate) fn decode(term: Term<'_>, ty: &ValType, index: usize) -> Result<Value, CallError> {
    // What most values are, before all that a term may be.
    if let (ValType::I32, Ok(value)) = (ty, term.decode::<i32>()) {
        return Ok(Value::I32(value));
    }
    let (term, size) = weighed(term);
    let value = match ty {
        ValType::I32 => integer(term, i32::MIN.into(), u32::MAX.into()).map(|value| Value::I32(value as i32)),
        ValType::I64 => integer(term, i64::MIN.into(), u64::MAX.into()).map(|value| Value::I64(value as i64)),
        ValType::F32 => f32_bits(term).map(Value::F32),
        ValType::F64 => f64_bits(term).map(Value::F64),
        ValType::V128 => v128(term).map(Value::V128),
        ValType::Ref(ty) => reference((term, size), ty.heap_type(), ty.is_nullable()),
    };
    value.ok_or_else(|| CallError::Type { index, expected: expected(ty), given: given(term) })
}

/// A term, and how many bytes it takes where Elixir has told that.
fn weighed(term: Term<'_>) -> (Term<'_>, u64) {
    if !term.is_tuple() {
        return (term, 0);
    }
    match term.decode::<(Atom, u64, Term<'_>)>() {
        Ok((tag, size, term)) if tag == atoms::kept() => (term, size),
        _ => (term, 0),
    }
}

pub(super) fn integer(term: Term<'_>, least: i128, most: i128) -> Option<i128> {
    let value = term.decode::<i64>().map(i128::from).or_else(|_| term.decode::<u64>().map(i128::from)).ok()?;
    (least..=most).contains(&value).then_some(value)
}

pub(super) fn f64_bits(term: Term<'_>) -> Option<u64> {
    if let Some(bits) = tagged_bits(term, atoms::f64_bits()) {
        return Some(bits);
    }
    number(term).map(f64::to_bits)
}

/// A float is rounded to the nearest `f32`; one beyond its range is refused rather than made infinite.
pub(super) fn f32_bits(term: Term<'_>) -> Option<u32> {
    if let Some(bits) = tagged_bits(term, atoms::f32_bits()) {
        return u32::try_from(bits).ok();
    }
    let wide = number(term)?;
    let narrow = wide as f32;
    (narrow.is_finite() || !wide.is_finite()).then(|| narrow.to_bits())
}

fn tagged_bits(term: Term<'_>, tag: Atom) -> Option<u64> {
    let (found, bits) = term.decode::<(Atom, u64)>().ok()?;
    (found == tag).then_some(bits)
}

/// A float, an integer that a float holds exactly, or one of the three atoms.
fn number(term: Term<'_>) -> Option<f64> {
    match term.get_type() {
        TermType::Float => term.decode().ok(),
        TermType::Integer => {
            term.decode::<i64>().ok().filter(|value| value.unsigned_abs() <= 1 << 53).map(|value| value as f64)
        }
        TermType::Atom => match term.decode::<Atom>().ok()? {
            atom if atom == atoms::nan() => Some(f64::NAN),
            atom if atom == atoms::infinity() => Some(f64::INFINITY),
            atom if atom == atoms::neg_infinity() => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

fn v128(term: Term<'_>) -> Option<u128> {
    let bytes = term.decode::<Binary<'_>>().ok()?;
    bytes.as_slice().try_into().ok().map(u128::from_le_bytes)
}

fn reference((term, size): (Term<'_>, u64), heap: &HeapType, nullable: bool) -> Option<Value> {
    if nullable && term.decode::<Atom>().is_ok_and(|atom| atom == atoms::nil()) {
        return Some(Value::Null);
    }
    if matches!(heap, HeapType::Extern | HeapType::Any) {
        let host: HostRef = Arc::new(KeptTerm::sized(term, size));
        return Some(Value::Extern(host));
    }
    term.decode::<ResourceArc<FuncRefResource>>().ok().map(|func| Value::Func(func.0.clone()))
}

fn expected(ty: &ValType) -> String {
    match ty {
        ValType::I32 => "an i32 (integer from -2147483648 to 4294967295)".into(),
        ValType::I64 => "an i64 (integer from -9223372036854775808 to 18446744073709551615)".into(),
        ValType::F32 => {
            "an f32 (float or integer within range, :nan, :infinity, :neg_infinity or {:f32_bits, n})".into()
        }
        ValType::F64 => "an f64 (float, integer up to 2^53, :nan, :infinity, :neg_infinity or {:f64_bits, n})".into(),
        ValType::V128 => "a v128 (binary of 16 bytes)".into(),
        ValType::Ref(ty) => format!("{} (nil is null)", reference_name(ty)),
    }
}

/// What was given, in words. Numbers and atoms are shown; what is in a term of another kind is nobody's business, and may be a
/// secret. A term takes as long to print as it is large, an integer of a million digits minutes, and nothing
/// can interrupt it: only what is small is printed.
pub(super) fn given(term: Term<'_>) -> String {
    match term.get_type() {
        TermType::Float => term.decode::<f64>().map_or_else(|_| "a float".into(), |float| format!("{float:?}")),
        TermType::Integer => match integer(term, i64::MIN.into(), u64::MAX.into()) {
            Some(value) => value.to_string(),
            None => "an integer of more than 64 bits".into(),
        },
        TermType::Atom => given_atom(&term.atom_to_string().unwrap_or_default()),
        TermType::Binary => given_binary(term),
        TermType::Tuple => "a tuple".into(),
        TermType::List => "a list".into(),
        TermType::Map => "a map".into(),
        TermType::Fun => "a function".into(),
        TermType::Pid => "a pid".into(),
        TermType::Port => "a port".into(),
        TermType::Ref => "a reference".into(),
        _ => "another term".into(),
    }
}

fn given_atom(name: &str) -> String {
    match name {
        "nil" | "true" | "false" => name.to_owned(),
        name if name.chars().all(|letter| letter.is_alphanumeric() || letter == '_') => format!(":{name}"),
        name => format!(":{name:?}"),
    }
}

fn given_binary(term: Term<'_>) -> String {
    term.decode::<Binary<'_>>()
        .map_or_else(|_| "a bitstring".into(), |bytes| format!("a binary of {} bytes", bytes.len()))
}

/// One result is the bare value, none is `nil`, several are a list.
pub(crate) fn encode_results<'a>(env: Env<'a>, mut values: Vec<Value>) -> Term<'a> {
    match (values.len(), values.pop()) {
        (_, None) => atoms::nil().encode(env),
        (1, Some(value)) => encode(env, value),
        (_, Some(last)) => {
            values.push(last);
            encode_all(env, values)
        }
    }
}

/// A list of values.
pub(crate) fn encode_all<'a>(env: Env<'a>, values: Vec<Value>) -> Term<'a> {
    values.into_iter().rev().fold(Term::list_new_empty(env), |list, value| list.list_prepend(encode(env, value)))
}

fn encode<'a>(env: Env<'a>, value: Value) -> Term<'a> {
    match value {
        Value::I32(value) => value.encode(env),
        Value::I64(value) => value.encode(env),
        Value::F32(bits) => encode_f32(env, bits),
        Value::F64(bits) => encode_f64(env, bits),
        Value::V128(value) => super::binary(env, &value.to_le_bytes()),
        Value::Null => atoms::nil().encode(env),
        Value::Extern(host) => match (&*host as &dyn Any).downcast_ref::<KeptTerm>() {
            Some(term) => term.load(env),
            None => atom(env, "externref"),
        },
        Value::Func(func) => ResourceArc::new(FuncRefResource(func)).encode(env),
        Value::Opaque(kind) => atom(env, kind),
        Value::Wit(typed) => wit::encode(env, *typed),
    }
}

/// The canonical NaN, of either sign, is `:nan` (§4.3.3 of the specification leaves the sign of a computed one open); any
/// other keeps its bits.
pub(super) fn encode_f64<'a>(env: Env<'a>, bits: u64) -> Term<'a> {
    const CANONICAL: u64 = 0x7ff8_0000_0000_0000;
    match f64::from_bits(bits) {
        value if value.is_finite() => value.encode(env),
        value if value == f64::INFINITY => atoms::infinity().encode(env),
        value if value == f64::NEG_INFINITY => atoms::neg_infinity().encode(env),
        _ if bits & (u64::MAX >> 1) == CANONICAL => atoms::nan().encode(env),
        _ => (atoms::f64_bits(), bits).encode(env),
    }
}

pub(super) fn encode_f32<'a>(env: Env<'a>, bits: u32) -> Term<'a> {
    const CANONICAL: u32 = 0x7fc0_0000;
    match f32::from_bits(bits) {
        value if value.is_nan() && bits & (u32::MAX >> 1) != CANONICAL => (atoms::f32_bits(), bits).encode(env),
        value if value.is_nan() => atoms::nan().encode(env),
        value => encode_f64(env, f64::from(value).to_bits()),
    }
}
