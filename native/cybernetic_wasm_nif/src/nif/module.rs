//! Modules.

use super::runtime::runtime;
use crate::resources::ModuleResource;
use crate::terms::options::EngineTuple;
use crate::terms::step::{Handle, step};
use crate::terms::{binary, error, facts};
use cybernetic_wasm_core::engine::EngineConfig;
use cybernetic_wasm_core::execution::{Execution, Lane};
use rustler::{Binary, Encoder, Env, NifResult, ResourceArc, Term};

fn load<'a>(env: Env<'a>, source: Binary<'a>, engine: EngineTuple<'a>, lane: Lane) -> NifResult<Term<'a>> {
    let config: EngineConfig = engine.try_into()?;
    Ok(step(env, Handle::New(Execution::load(runtime(), source.as_slice().into(), config)), lane))
}

/// For small sources: the digest of a large one takes more than a normal scheduler gives.
#[rustler::nif]
fn module_load<'a>(env: Env<'a>, source: Binary<'a>, engine: EngineTuple<'a>) -> NifResult<Term<'a>> {
    load(env, source, engine, Lane::Inline)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn module_load_dirty<'a>(env: Env<'a>, source: Binary<'a>, engine: EngineTuple<'a>) -> NifResult<Term<'a>> {
    load(env, source, engine, Lane::Dirty)
}

#[rustler::nif]
fn module_digest<'a>(env: Env<'a>, module: ResourceArc<ModuleResource>) -> Term<'a> {
    binary(env, module.0.digest())
}

/// Imports, exports and custom sections; a stranger's module may have hundreds of thousands.
#[rustler::nif(schedule = "DirtyCpu")]
fn module_facts<'a>(env: Env<'a>, module: ResourceArc<ModuleResource>) -> Term<'a> {
    facts::encode(env, &module.0)
}

/// The imported functions in the order of their indices, as `{module, name, arity, results, signature}`, and the imports that no
/// host function can satisfy.
#[rustler::nif(schedule = "DirtyCpu")]
fn module_imports<'a>(env: Env<'a>, module: ResourceArc<ModuleResource>) -> Term<'a> {
    let imports = module.0.imports().iter();
    let functions = imports.map(|import| (&import.module, &import.name, import.arity(), import.results().len(), import.signature()));
    (functions.collect::<Vec<_>>(), error::encode_problems(env, module.0.unlinkable())).encode(env)
}
