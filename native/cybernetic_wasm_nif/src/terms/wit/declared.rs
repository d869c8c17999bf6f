//! What WIT says of a world, as terms.

use crate::terms::{atom, map};
use cybernetic_wasm_core::wit::{Declaration, Declared, Plain, Shape, Spelt};
use rustler::{Encoder, Env, Term};

/// A world that is known by its WIT alone.
pub(crate) fn encode_declared<'a>(env: Env<'a>, declared: &Declared) -> Term<'a> {
    let items = |items: &[Declaration]| items.iter().map(|item| encode_item(env, item)).collect::<Vec<_>>().encode(env);
    let text = declared.text.encode(env);
    map(env, &[("text", text), ("imports", items(&declared.imports)), ("exports", items(&declared.exports))])
}

fn encode_item<'a>(env: Env<'a>, item: &Declaration) -> Term<'a> {
    map(
        env,
        &[
            ("interface", item.interface.encode(env)),
            ("name", item.name.encode(env)),
            ("declared", encode_shape(env, &item.shape)),
            ("docs", item.docs.encode(env)),
        ],
    )
}

/// What a declaration is of.
pub(super) fn encode_shape<'a>(env: Env<'a>, shape: &Shape) -> Term<'a> {
    match shape {
        Shape::Func(params, result) => {
            let result = result.as_ref().map(|ty| encode_spelt(env, ty));
            (atom(env, "func"), named(env, params), result).encode(env)
        }
        Shape::Type(ty) => (atom(env, "type"), encode_spelt(env, ty)).encode(env),
        Shape::Resource => atom(env, "resource"),
    }
}

fn named<'a>(env: Env<'a>, types: &[(String, Spelt)]) -> Vec<Term<'a>> {
    types.iter().map(|(name, ty)| (name, encode_spelt(env, ty)).encode(env)).collect()
}

fn encode_spelt<'a>(env: Env<'a>, ty: &Spelt) -> Term<'a> {
    let of = |name, what: Term<'a>| (atom(env, name), what).encode(env);
    match ty {
        Spelt::Plain(plain) => atom(env, word(*plain)),
        Spelt::Named(path) => of("named", path.encode(env)),
        Spelt::List(ty) => of("list", encode_spelt(env, ty)),
        Spelt::Option(ty) => of("option", encode_spelt(env, ty)),
        Spelt::Tuple(types) => {
            of("tuple", types.iter().map(|ty| encode_spelt(env, ty)).collect::<Vec<_>>().encode(env))
        }
        Spelt::Record(fields) => of("record", named(env, fields).encode(env)),
        Spelt::Variant(cases) => {
            let cases = cases.iter().map(|(name, ty)| (name, ty.as_ref().map(|ty| encode_spelt(env, ty))).encode(env));
            of("variant", cases.collect::<Vec<_>>().encode(env))
        }
        Spelt::Enum(cases) => of("enum", cases.encode(env)),
        Spelt::Flags(flags) => of("flags", flags.encode(env)),
        Spelt::Result(ok, error) => {
            let optional = |ty: &Option<Box<Spelt>>| ty.as_ref().map(|ty| encode_spelt(env, ty));
            (atom(env, "result"), optional(ok), optional(error)).encode(env)
        }
        Spelt::Own(path) => of("own", path.encode(env)),
        Spelt::Borrow(path) => of("borrow", path.encode(env)),
    }
}

fn word(plain: Plain) -> &'static str {
    match plain {
        Plain::Bool => "bool",
        Plain::S8 => "s8",
        Plain::U8 => "u8",
        Plain::S16 => "s16",
        Plain::U16 => "u16",
        Plain::S32 => "s32",
        Plain::U32 => "u32",
        Plain::S64 => "s64",
        Plain::U64 => "u64",
        Plain::F32 => "f32",
        Plain::F64 => "f64",
        Plain::Char => "char",
        Plain::String => "string",
    }
}
