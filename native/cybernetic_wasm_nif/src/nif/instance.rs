//! Live instances.

use super::execution::{inline_or_dirty, prepare, started};
use crate::resources::{InstanceResource, ModuleResource};
use crate::terms::error;
use crate::terms::options::CallOptions;
use cybernetic_wasm_core::execution::{Execution, Lane, may_run_inline};
use rustler::{Atom, Binary, Env, ResourceArc, Term};

#[rustler::nif(schedule = "DirtyCpu")]
fn instance_new<'a>(env: Env<'a>, module: ResourceArc<ModuleResource>, options: CallOptions) -> Term<'a> {
    let config = options.engine.unwrap_or(*module.0.requested());
    started(env, Execution::instantiate(&module.0, (options.limits, config)), Lane::Dirty)
}

#[rustler::nif]
fn instance_call<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceResource>,
    name: Binary<'a>,
    arguments: Vec<Term<'a>>,
    options: CallOptions,
    scheduling: Atom,
) -> Term<'a> {
    match prepare(instance.0.module(), &name, arguments) {
        Ok((function, args)) => {
            let proven = may_run_inline(&function, Some(&instance.0));
            let make = || Execution::call_instance(&instance.0, &function, args, options.limits);
            inline_or_dirty(env, scheduling, proven, make)
        }
        Err(failure) => error::refused(env, failure),
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn instance_call_dirty<'a>(
    env: Env<'a>,
    instance: ResourceArc<InstanceResource>,
    name: Binary<'a>,
    arguments: Vec<Term<'a>>,
    options: CallOptions,
) -> Term<'a> {
    let prepared = prepare(instance.0.module(), &name, arguments);
    let execution =
        prepared.and_then(|(function, args)| Execution::call_instance(&instance.0, &function, args, options.limits));
    started(env, execution, Lane::Dirty)
}
