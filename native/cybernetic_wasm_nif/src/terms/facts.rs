//! What a module or a component imports and exports, as maps.

use super::map;
use super::wit::encode_world;
use crate::atoms;
use cybernetic_wasm_core::code::{
    Code, ExternType, FuncType, GlobalType, MemoryType, Metadata, Mutability, Producer, TableType,
};
use cybernetic_wasm_core::value::{ValType, reference_name, type_name};
use rustler::{Encoder, Env, Term};

pub(crate) fn encode<'a>(env: Env<'a>, code: &Code) -> Term<'a> {
    let world = match code.world() {
        Some(world) => encode_world(env, world, code.declared()),
        None => of_module(env, code),
    };
    let sections = code
        .custom_sections()
        .iter()
        .map(|section| map(env, &[("name", section.name.encode(env)), ("size", section.size.encode(env))]));
    map(
        env,
        &[
            ("imports", world[0]),
            ("exports", world[1]),
            ("custom_sections", sections.collect::<Vec<_>>().encode(env)),
            ("own_memories", code.own_memories().encode(env)),
            ("code_size", code.code_size().encode(env)),
        ],
    )
}

/// What a component says of itself.
pub(crate) fn encode_metadata<'a>(env: Env<'a>, metadata: &Metadata) -> Term<'a> {
    let producer = |producer: &Producer| {
        let Producer { role, name, version } = producer;
        map(env, &[("role", role.encode(env)), ("name", name.encode(env)), ("version", version.encode(env))])
    };
    map(
        env,
        &[
            ("name", metadata.name.encode(env)),
            ("version", metadata.version.encode(env)),
            ("description", metadata.description.encode(env)),
            ("authors", metadata.authors.encode(env)),
            ("licences", metadata.licences.encode(env)),
            ("homepage", metadata.homepage.encode(env)),
            ("source", metadata.source.encode(env)),
            ("revision", metadata.revision.encode(env)),
            ("producers", metadata.producers.iter().map(producer).collect::<Vec<_>>().encode(env)),
        ],
    )
}

fn of_module<'a>(env: Env<'a>, code: &Code) -> [Term<'a>; 2] {
    let imports = code.import_types().map(|(from, name, ty)| {
        map(env, &[("module", from.encode(env)), ("name", name.encode(env)), ("type", extern_type(env, &ty))])
    });
    let exports =
        code.export_types().map(|(name, ty)| map(env, &[("name", name.encode(env)), ("type", extern_type(env, &ty))]));
    [imports.collect::<Vec<_>>().encode(env), exports.collect::<Vec<_>>().encode(env)]
}

fn extern_type<'a>(env: Env<'a>, ty: &ExternType) -> Term<'a> {
    match ty {
        ExternType::Func(ty) => function(env, ty),
        ExternType::Memory(ty) => memory(env, ty),
        ExternType::Table(ty) => table(env, ty),
        ExternType::Global(ty) => global(env, ty),
        ExternType::Tag(ty) => (atoms::tag(), names(ty.ty().params())).encode(env),
    }
}

fn names(types: impl Iterator<Item = ValType>) -> Vec<String> {
    types.map(|ty| type_name(&ty)).collect()
}

fn function<'a>(env: Env<'a>, ty: &FuncType) -> Term<'a> {
    (atoms::function(), names(ty.params()), names(ty.results())).encode(env)
}

fn memory<'a>(env: Env<'a>, ty: &MemoryType) -> Term<'a> {
    let index = if ty.is_64() { "i64" } else { "i32" };
    let facts = map(
        env,
        &[
            ("minimum", ty.minimum().encode(env)),
            ("maximum", ty.maximum().encode(env)),
            ("page_size", ty.page_size().encode(env)),
            ("index", index.encode(env)),
        ],
    );
    (atoms::memory(), facts).encode(env)
}

fn table<'a>(env: Env<'a>, ty: &TableType) -> Term<'a> {
    let facts = map(
        env,
        &[
            ("element", reference_name(ty.element()).encode(env)),
            ("minimum", ty.minimum().encode(env)),
            ("maximum", ty.maximum().encode(env)),
        ],
    );
    (atoms::table(), facts).encode(env)
}

fn global<'a>(env: Env<'a>, ty: &GlobalType) -> Term<'a> {
    let mutable = ty.mutability() == Mutability::Var;
    (atoms::global(), map(env, &[("type", type_name(ty.content()).encode(env)), ("mutable", mutable.encode(env))]))
        .encode(env)
}
