//! What is known of components alone.

use super::folder::as_path;
use crate::atoms;
use crate::resources::ModuleResource;
use crate::terms::facts;
use crate::terms::handle::Handle;
use crate::terms::wit::encode_declared;
use cybernetic_wasm_core::wit::{Declared, Kind};
use rustler::{Binary, Encoder, Env, Term};

/// A component's WIT as text; `nil` where there is none that can be told.
#[rustler::nif(schedule = "DirtyCpu")]
fn component_wit<'a>(env: Env<'a>, component: Handle<'a, ModuleResource>) -> Term<'a> {
    component.0.code().declared().and_then(|declared| declared.text.as_deref()).encode(env)
}

/// What a component says of itself.
#[rustler::nif]
fn component_metadata<'a>(env: Env<'a>, component: Handle<'a, ModuleResource>) -> Term<'a> {
    component.0.code().metadata().map(|metadata| facts::encode_metadata(env, metadata)).encode(env)
}

/// The types of the embedder's resources that a component imports, in order, as `{interface, name, type}`. Its world may be large, and few of it
/// are such.
#[rustler::nif(schedule = "DirtyCpu")]
fn component_resources<'a>(env: Env<'a>, component: Handle<'a, ModuleResource>) -> Term<'a> {
    let imports = component.0.code().world().map_or(&[][..], |(imports, _)| imports);
    let resources = imports.iter().filter_map(|item| match &item.kind {
        Kind::Resource(resource) if resource.host => Some((item.interface.as_deref(), &*item.name, &*resource.name)),
        _ => None,
    });
    resources.collect::<Vec<_>>().encode(env)
}

/// What a file or a folder of WIT says of one of its worlds: `{:ok, declared}` or `{:error, why}`. It is the embedder's own.
#[rustler::nif(schedule = "DirtyIo")]
fn wit_parse<'a>(env: Env<'a>, files: Binary<'a>, world: Option<&'a str>) -> Term<'a> {
    match Declared::parse(as_path(&files), world) {
        Ok(declared) => (atoms::ok(), encode_declared(env, &declared)).encode(env),
        Err(why) => (atoms::error(), why).encode(env),
    }
}
