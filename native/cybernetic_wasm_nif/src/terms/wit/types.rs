//! What a component imports and exports, as terms.

use super::declared::encode_shape;
use crate::atoms;
use crate::terms::{atom, map};
use cybernetic_wasm_core::wit::{Declaration, Declared, Func, Item, Kind, Name, Type};
use rustler::{Encoder, Env, Term};
use std::collections::HashMap;

/// Imports and exports, with what WIT says of them.
pub(crate) fn encode_world<'a>(
    env: Env<'a>,
    (imports, exports): (&[Item], &[Item]),
    declared: Option<&Declared>,
) -> [Term<'a>; 2] {
    let declared = declared.map_or([&[][..]; 2], |declared| [&declared.imports[..], &declared.exports[..]]);
    [encode_items(env, imports, declared[0]), encode_items(env, exports, declared[1])]
}

fn encode_items<'a>(env: Env<'a>, items: &[Item], declared: &[Declaration]) -> Term<'a> {
    let known: HashMap<_, _> =
        declared.iter().map(|found| ((found.interface.as_deref(), &*found.name), found)).collect();
    let item = |item: &Item| {
        let found = known.get(&(item.interface.as_deref(), &*item.name));
        map(
            env,
            &[
                ("interface", item.interface.as_deref().encode(env)),
                ("name", (*item.name).encode(env)),
                ("type", kind(env, &item.kind)),
                ("declared", found.map(|found| encode_shape(env, &found.shape)).encode(env)),
                ("docs", found.and_then(|found| found.docs.as_deref()).encode(env)),
            ],
        )
    };
    items.iter().map(item).collect::<Vec<_>>().encode(env)
}

/// Of terms of these types Elixir is to make lists where there are enumerables.
pub(crate) fn encode_enumerate<'a>(env: Env<'a>, types: &[Type]) -> Term<'a> {
    (atoms::enumerate(), types.iter().map(|ty| encode_type(env, ty)).collect::<Vec<_>>()).encode(env)
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
