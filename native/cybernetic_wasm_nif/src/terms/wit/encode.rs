//! From values to terms.

use crate::atoms;
use crate::resources::OwnedResource;
use crate::terms::kept::KeptTerm;
use crate::terms::value::{encode_f32, encode_f64};
use crate::terms::{atom, binary, given_away, map};
use cybernetic_wasm_core::wit::{Carried, Handle, Passed, Type, Typed, Val};
use rustler::types::tuple::make_tuple;
use rustler::{Encoder, Env, ResourceArc, Term};
use std::sync::Arc;

/// The term of a value.
pub(crate) fn encode<'a>(env: Env<'a>, typed: Typed) -> Term<'a> {
    match typed.passed {
        Passed::Val(Val::String(text)) => given_away(env, text.into_bytes()),
        Passed::Val(value) => encode_val(env, &value, &typed.ty, &typed.carried),
        Passed::Bytes(bytes) => given_away(env, bytes),
        Passed::Optional(None) => atoms::none().encode(env),
        Passed::Optional(Some(bytes)) => (atoms::some(), given_away(env, bytes)).encode(env),
        Passed::Fallible(Ok(bytes)) => (atoms::ok(), given_away(env, bytes)).encode(env),
        Passed::Fallible(Err(text)) => (atoms::error(), given_away(env, text.into_bytes())).encode(env),
    }
}

fn encode_val<'a>(env: Env<'a>, value: &Val, ty: &Type, carried: &[Carried]) -> Term<'a> {
    match (value, ty) {
        (Val::U32(index), Type::Own(_) | Type::Borrow(_)) => resource(env, carried.get(*index as usize)),
        (Val::Bool(value), _) => value.encode(env),
        (Val::S8(value), _) => value.encode(env),
        (Val::U8(value), _) => value.encode(env),
        (Val::S16(value), _) => value.encode(env),
        (Val::U16(value), _) => value.encode(env),
        (Val::S32(value), _) => value.encode(env),
        (Val::U32(value), _) => value.encode(env),
        (Val::S64(value), _) => value.encode(env),
        (Val::U64(value), _) => value.encode(env),
        (Val::Float32(value), _) => encode_f32(env, value.to_bits()),
        (Val::Float64(value), _) => encode_f64(env, value.to_bits()),
        (Val::Char(value), _) => u32::from(*value).encode(env),
        (Val::String(text) | Val::Enum(text), _) => binary(env, text.as_bytes()),
        (Val::List(values), Type::List(element)) => list(env, values, element, carried),
        (Val::Record(fields), Type::Record(types)) => {
            let names: Vec<_> = fields.iter().map(|(name, _)| binary(env, name.as_bytes())).collect();
            let values: Vec<_> =
                fields.iter().zip(&**types).map(|((_, value), (_, ty))| encode_val(env, value, ty, carried)).collect();
            Term::map_from_term_arrays(env, &names, &values).unwrap_or_else(|_| Term::map_new(env))
        }
        (Val::Tuple(values), Type::Tuple(types)) => {
            let values: Vec<_> =
                values.iter().zip(&**types).map(|(value, ty)| encode_val(env, value, ty, carried)).collect();
            make_tuple(env, &values)
        }
        (Val::Variant(name, payload), Type::Variant(cases)) => {
            let ty = cases.iter().find(|(known, _)| **known == **name).and_then(|(_, ty)| ty.as_ref());
            let name = binary(env, name.as_bytes());
            match (payload, ty) {
                (Some(value), Some(ty)) => (name, encode_val(env, value, ty, carried)).encode(env),
                _ => name,
            }
        }
        (Val::Option(None), _) => atoms::none().encode(env),
        (Val::Option(Some(value)), Type::Option(ty)) => {
            (atoms::some(), encode_val(env, value, ty, carried)).encode(env)
        }
        (Val::Result(Ok(value)), Type::Result(types)) => outcome(env, atoms::ok(), (value, &types.0), carried),
        (Val::Result(Err(value)), Type::Result(types)) => outcome(env, atoms::error(), (value, &types.1), carried),
        (Val::Flags(names), _) => {
            let names = names.iter().rev();
            names.fold(Term::list_new_empty(env), |list, name| list.list_prepend(binary(env, name.as_bytes())))
        }
        // Those that no function of a loaded component takes or gives.
        _ => atoms::nil().encode(env),
    }
}

fn list<'a>(env: Env<'a>, values: &[Val], element: &Type, carried: &[Carried]) -> Term<'a> {
    if *element == Type::U8 {
        let bytes: Vec<u8> =
            values.iter().filter_map(|value| if let Val::U8(byte) = value { Some(*byte) } else { None }).collect();
        return binary(env, &bytes);
    }
    let empty = Term::list_new_empty(env);
    values.iter().rev().fold(empty, |list, value| list.list_prepend(encode_val(env, value, element, carried)))
}

fn outcome<'a>(
    env: Env<'a>,
    tag: rustler::Atom,
    (value, ty): (&Option<Box<Val>>, &Option<Type>),
    carried: &[Carried],
) -> Term<'a> {
    match (value, ty) {
        (Some(value), Some(ty)) => (tag, encode_val(env, value, ty, carried)).encode(env),
        _ => tag.encode(env),
    }
}

/// One of the embedder's is the term that it is; one of the guest's is a `%Cybernetic.WASM.Resource{}`.
fn resource<'a>(env: Env<'a>, carried: Option<&Carried>) -> Term<'a> {
    match carried {
        Some(Carried::Term(term)) => {
            term.downcast_ref::<KeptTerm>().map_or_else(|| atoms::nil().encode(env), |term| term.load(env))
        }
        Some(Carried::Own(handle) | Carried::Borrow(handle)) => owned(env, handle),
        Some(Carried::Claimed(_)) | None => atoms::nil().encode(env),
    }
}

fn owned<'a>(env: Env<'a>, handle: &Arc<Handle>) -> Term<'a> {
    let fields = [
        ("__struct__", atom(env, "Elixir.Cybernetic.WASM.Resource")),
        ("ref", ResourceArc::new(OwnedResource(Arc::clone(handle))).encode(env)),
        ("type", (*handle.resource().name).encode(env)),
    ];
    map(env, &fields)
}
