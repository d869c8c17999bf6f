//! What a component imports and exports, as terms.

use crate::atoms;
use crate::terms::{atom, map};
use cybernetic_wasm_core::wit::{Func, Item, Kind, Name, Type};
use rustler::{Encoder, Env, Term};

/// Imports or exports.
pub(crate) fn encode_world<'a>(env: Env<'a>, items: &[Item]) -> Term<'a> {
    let item = |item: &Item| {
        let names = [("interface", item.interface.as_deref().encode(env)), ("name", (*item.name).encode(env))];
        map(env, &[names[0], names[1], ("type", kind(env, &item.kind))])
    };
    items.iter().map(item).collect::<Vec<_>>().encode(env)
}

fn kind<'a>(env: Env<'a>, kind: &Kind) -> Term<'a> {
    match kind {
        Kind::Func(func) => encode_func(env, func),
        Kind::Type(ty) => (atom(env, "type"), encode_type(env, ty)).encode(env),
        Kind::Resource(resource) => (atom(env, "resource"), &*resource.name).encode(env),
        Kind::Other(kind) => atom(env, kind),
    }
}

fn encode_func<'a>(env: Env<'a>, func: &Func) -> Term<'a> {
    let result = func.result.as_ref().map(|ty| encode_type(env, ty));
    (atom(env, "func"), named(env, &func.params), result).encode(env)
}

fn named<'a>(env: Env<'a>, types: &[(Name, Type)]) -> Vec<Term<'a>> {
    types.iter().map(|(name, ty)| (&**name, encode_type(env, ty)).encode(env)).collect()
}

fn names<'a>(env: Env<'a>, names: &[Name]) -> Vec<Term<'a>> {
    names.iter().map(|name| (**name).encode(env)).collect()
}

fn encode_type<'a>(env: Env<'a>, ty: &Type) -> Term<'a> {
    let optional = |ty: &Option<Type>| ty.as_ref().map(|ty| encode_type(env, ty));
    let of = |name, what: Term<'a>| (atom(env, name), what).encode(env);
    match ty {
        Type::Bool => atom(env, "bool"),
        Type::S8 => atom(env, "s8"),
        Type::U8 => atom(env, "u8"),
        Type::S16 => atom(env, "s16"),
        Type::U16 => atom(env, "u16"),
        Type::S32 => atom(env, "s32"),
        Type::U32 => atom(env, "u32"),
        Type::S64 => atom(env, "s64"),
        Type::U64 => atom(env, "u64"),
        Type::F32 => atoms::f32().encode(env),
        Type::F64 => atoms::f64().encode(env),
        Type::Char => atom(env, "char"),
        Type::String => atoms::string().encode(env),
        Type::List(ty) => of("list", encode_type(env, ty)),
        Type::Option(ty) => of("option", encode_type(env, ty)),
        Type::Record(fields) => of("record", named(env, fields).encode(env)),
        Type::Tuple(types) => of("tuple", types.iter().map(|ty| encode_type(env, ty)).collect::<Vec<_>>().encode(env)),
        Type::Variant(cases) => {
            let cases = cases.iter().map(|(name, ty)| (&**name, optional(ty)).encode(env));
            of("variant", cases.collect::<Vec<_>>().encode(env))
        }
        Type::Enum(cases) => of("enum", names(env, cases).encode(env)),
        Type::Flags(flags) => of("flags", names(env, flags).encode(env)),
        Type::Result(types) => (atom(env, "result"), optional(&types.0), optional(&types.1)).encode(env),
        Type::Own(resource) => of("own", (*resource.name).encode(env)),
        Type::Borrow(resource) => of("borrow", (*resource.name).encode(env)),
    }
}
