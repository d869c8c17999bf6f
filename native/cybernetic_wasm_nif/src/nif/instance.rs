//! Live instances.

use super::execution::{belongs_on_dirty, find, started, values};
use crate::atoms;
use crate::resources::{InstanceResource, ModuleResource};
use crate::terms::error;
use crate::terms::options::CallOptions;
use crate::terms::value::Terms;
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::execution::{Execution, Lane};
use cybernetic_wasm_core::instance::Instance;
use cybernetic_wasm_core::module::Function;
use rustler::{Atom, Binary, Encoder, Env, ResourceArc, Term};
use std::sync::Arc;

#[rustler::nif(schedule = "DirtyCpu")]
fn instance_new<'a>(env: Env<'a>, module: ResourceArc<ModuleResource>, options: CallOptions) -> Term<'a> {
    let config = options.engine.unwrap_or(*module.0.requested());
    started(env, Execution::instantiate(&module.0, (options.limits, config)), options.report, Lane::Dirty)
}

#[rustler::nif]
fn instance_call<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceResource>,
    name: Binary<'a>,
    arguments: Terms<'a>,
    options: CallOptions,
    scheduling: Atom,
) -> Term<'a> {
    match find(instance.0.module(), &name, arguments.len()) {
        Ok(function) if belongs_on_dirty(scheduling, &function, Some(&instance.0)) => atoms::dirty().encode(env),
        Ok(function) => {
            let report = options.report;
            started(env, call(&instance.0, &function, &arguments, options), report, Lane::Inline)
        }
        Err(failure) => error::refused(env, failure),
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn instance_call_dirty<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceResource>,
    name: Binary<'a>,
    arguments: Terms<'a>,
    options: CallOptions,
) -> Term<'a> {
    let function = find(instance.0.module(), &name, arguments.len());
    let report = options.report;
    let execution = function.and_then(|function| call(&instance.0, &function, &arguments, options));
    started(env, execution, report, Lane::Dirty)
}

fn call(
    instance: &Arc<Instance>,
    function: &Arc<Function>,
    args: &Terms<'_>,
    options: CallOptions,
) -> Result<Execution, Error> {
    Execution::call_instance(instance, function, values(function, args)?, options.limits)
}
