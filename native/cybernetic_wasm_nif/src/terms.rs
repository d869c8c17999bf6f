//! Terms in and out.

pub(crate) mod abi;
pub(crate) mod access;
pub(crate) mod call;
pub(crate) mod engine;
pub(crate) mod error;
pub(crate) mod facts;
pub(crate) mod grants;
pub(crate) mod handle;
pub(crate) mod host_call;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod kept;
pub(crate) mod owner;
pub(crate) mod step;
pub(crate) mod tally;
pub(crate) mod value;
pub(crate) mod wit;

use crate::atoms;
use crate::resources::BytesResource;
use cybernetic_wasm_core::code::{Code, Function};
use cybernetic_wasm_core::error::CallError;
use cybernetic_wasm_core::instance::Instance;
use cybernetic_wasm_core::member::MemberId;
use rustler::{Atom, Decoder, Encoder, Env, NifResult, ResourceArc, Term};
use std::sync::Arc;

/// A map with atom keys. The keys are the fields of an Elixir struct, written in this crate: never a guest's words.
pub(crate) fn map<'a>(env: Env<'a>, fields: &[(&'static str, Term<'a>)]) -> Term<'a> {
    let pairs: Vec<(Term<'a>, Term<'a>)> = fields.iter().map(|(key, value)| (atom(env, key), *value)).collect();
    Term::map_from_pairs(env, &pairs).unwrap_or_else(|_| Term::map_new(env))
}

/// An atom of a fixed set.
pub(crate) fn atom<'a>(env: Env<'a>, name: &'static str) -> Term<'a> {
    Atom::from_str(env, name).map_or_else(|_| atoms::nil().encode(env), |atom| atom.to_term(env))
}

/// Bytes as a binary.
pub(crate) fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    rustler::NewBinary::from_slice(env, bytes).into()
}

/// The same of bytes that nobody else has. Many are not copied once more: the binary is where they are.
pub(crate) fn given_away<'a>(env: Env<'a>, bytes: Vec<u8>) -> Term<'a> {
    const MANY: usize = 128 << 10;
    match bytes.len() < MANY {
        true => binary(env, &bytes),
        false => ResourceArc::new(BytesResource(bytes)).make_binary(env, |bytes| &bytes.0).to_term(env),
    }
}

/// Something, or `nil`. It is looked at before it is decoded: a decoder that fails makes a message first.
pub(crate) struct Optional<T>(pub(crate) Option<T>);

impl<'a, T: Decoder<'a>> Decoder<'a> for Optional<T> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let none = term.is_atom() && term.decode::<Atom>()? == atoms::nil();
        Ok(Self(if none { None } else { Some(term.decode()?) }))
    }
}

/// The exported function that bytes from Elixir name.
pub(crate) fn exported_function(code: &Code, name: &[u8]) -> Result<Arc<Function>, CallError> {
    look_up(code, name, |name| code.function(name))
}

/// The same of an instance. A live guest finds those of its first member sooner.
pub(crate) fn function_of(instance: Instance<'_>, name: &[u8]) -> Result<Arc<Function>, CallError> {
    let guest = instance.guest;
    match instance.member {
        MemberId::FIRST => look_up(guest.module().code(), name, |name| guest.function(name)),
        _ => exported_function(&*instance.code()?, name),
    }
}

fn look_up(
    code: &Code,
    name: &[u8],
    find: impl FnOnce(&str) -> Result<Arc<Function>, CallError>,
) -> Result<Arc<Function>, CallError> {
    possible_name(name).map_or_else(|shown| Err(code.no_such_export(&shown, "function")), find)
}

/// `name`, if a module could have one like it, or what to show of it. What is not UTF-8 names nothing, whatever it may look
/// like in print. A name that is longer than WebAssembly's are is not even looked at: that takes time, on any scheduler.
pub(crate) fn possible_name(name: &[u8]) -> Result<&str, String> {
    const LONGEST: usize = 100_000;
    const SHOWN: usize = 800;
    let shown = || String::from_utf8_lossy(name.get(..SHOWN).unwrap_or(name)).into_owned();
    match name.len() <= LONGEST {
        true => std::str::from_utf8(name).map_err(|_| shown()),
        false => Err(shown()),
    }
}
