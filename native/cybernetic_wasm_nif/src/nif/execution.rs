//! Calls in a fresh instance, and the steps of any execution.

use crate::resources::{ExecutionResource, ModuleResource};
use crate::terms::options::CallOptions;
use crate::terms::step::{Handle, decode_command, step};
use crate::terms::{error, value};
use crate::{atoms, courier};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::error::CallError;
use cybernetic_wasm_core::execution::{Execution, Lane, may_run_inline};
use cybernetic_wasm_core::module::{Function, Module};
use rustler::{Atom, Binary, Encoder, Env, NifResult, Reference, ResourceArc, Term};
use std::sync::Arc;

/// The exported function `name` and the values of `args`.
pub(super) fn prepare(module: &Module, name: &[u8], args: Vec<Term<'_>>) -> Result<(Arc<Function>, Vec<value::Value>), Error> {
    let function = module.function(&String::from_utf8_lossy(name))?;
    function.check_arity(args.len())?;
    let args = value::decode_all(args.into_iter(), function.params().iter().cloned())?;
    Ok((function, args))
}

/// Starts in a normal scheduler's NIF, which gives `:dirty` where it must not run the guest.
pub(super) fn inline_or_dirty<'a>(
    env: Env<'a>,
    scheduling: Atom,
    proven: bool,
    make: impl FnOnce() -> Result<Execution, Error>,
) -> Term<'a> {
    if scheduling == atoms::dirty() || (scheduling == atoms::adaptive() && !proven) {
        return atoms::dirty().encode(env);
    }
    started(env, make(), Lane::Inline)
}

pub(super) fn started<'a>(env: Env<'a>, execution: Result<Execution, Error>, lane: Lane) -> Term<'a> {
    match execution {
        Ok(execution) => step(env, Handle::New(execution), lane),
        Err(failure) => error::refused(env, failure),
    }
}

fn call(module: &Arc<Module>, function: &Arc<Function>, args: Vec<value::Value>, options: CallOptions) -> Result<Execution, Error> {
    let config = options.engine.unwrap_or(*module.requested());
    Execution::call(module, function, args, (options.limits, config))
}

#[rustler::nif]
fn execution_call<'a>(
    env: Env<'a>,
    module: ResourceArc<ModuleResource>,
    name: Binary<'a>,
    arguments: Vec<Term<'a>>,
    options: CallOptions,
    scheduling: Atom,
) -> Term<'a> {
    match prepare(&module.0, &name, arguments) {
        Ok((function, args)) => {
            let proven = may_run_inline(&function, None);
            inline_or_dirty(env, scheduling, proven, || call(&module.0, &function, args, options))
        }
        Err(failure) => error::refused(env, failure),
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn execution_call_dirty<'a>(
    env: Env<'a>,
    module: ResourceArc<ModuleResource>,
    name: Binary<'a>,
    arguments: Vec<Term<'a>>,
    options: CallOptions,
) -> Term<'a> {
    let prepared = prepare(&module.0, &name, arguments);
    let execution = prepared.and_then(|(function, args)| call(&module.0, &function, args, options));
    started(env, execution, Lane::Dirty)
}

#[rustler::nif]
fn execution_step<'a>(env: Env<'a>, execution: ResourceArc<ExecutionResource>) -> Term<'a> {
    step(env, Handle::Known(&execution), Lane::Inline)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn execution_step_dirty<'a>(env: Env<'a>, execution: ResourceArc<ExecutionResource>) -> Term<'a> {
    step(env, Handle::Known(&execution), Lane::Dirty)
}

/// Arms a wake-up message `{reference, :wake}`: the milliseconds until the deadline, or `:ready`.
#[rustler::nif]
fn execution_listen<'a>(env: Env<'a>, execution: ResourceArc<ExecutionResource>, reference: Reference<'a>) -> Term<'a> {
    let Some(execution) = execution.0.try_lock() else { return error::refused(env, CallError::Busy) };
    match execution.listen(courier::listener(env, reference)) {
        // Rounded up: a process that wakes too early would only wait again.
        Some(left) => (left.as_millis() as u64 + 1).encode(env),
        None => atoms::ready().encode(env),
    }
}

/// Disarms the wake-up message. False: it is on its way already.
#[rustler::nif]
fn execution_unlisten(execution: ResourceArc<ExecutionResource>) -> bool {
    execution.0.try_lock().is_some_and(|execution| execution.unlisten())
}

fn command<'a>(
    env: Env<'a>,
    resource: &ResourceArc<ExecutionResource>,
    (import, serial): (u32, u64),
    command: Term<'a>,
    lane: Lane,
) -> NifResult<Term<'a>> {
    let Some(execution) = resource.0.try_lock() else { return Ok(error::refused(env, CallError::Busy)) };
    if lane == Lane::Inline && !execution.fits_inline() {
        return Ok(atoms::dirty().encode(env));
    }
    let given = decode_command(&execution, import, command)?.and_then(|command| execution.command(serial, command));
    drop(execution);
    Ok(match given {
        Ok(()) => step(env, Handle::Known(resource), lane),
        Err(failure) => error::refused(env, failure),
    })
}

/// Gives the host call `{import, serial}` a command and steps.
#[rustler::nif]
fn execution_command<'a>(
    env: Env<'a>,
    execution: ResourceArc<ExecutionResource>,
    call: (u32, u64),
    term: Term<'a>,
) -> NifResult<Term<'a>> {
    command(env, &execution, call, term, Lane::Inline)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn execution_command_dirty<'a>(
    env: Env<'a>,
    execution: ResourceArc<ExecutionResource>,
    call: (u32, u64),
    term: Term<'a>,
) -> NifResult<Term<'a>> {
    command(env, &execution, call, term, Lane::Dirty)
}

/// Takes output of the guest, up to its limit.
#[rustler::nif]
fn execution_emit<'a>(env: Env<'a>, execution: ResourceArc<ExecutionResource>, bytes: Binary<'a>) -> Term<'a> {
    let Some(execution) = execution.0.try_lock() else { return error::refused(env, CallError::Busy) };
    match execution.emit(&bytes) {
        Ok(()) => atoms::ok().encode(env),
        Err(failure) => error::refused(env, failure),
    }
}

/// Milliseconds until the deadline.
#[rustler::nif]
fn execution_time_left<'a>(env: Env<'a>, execution: ResourceArc<ExecutionResource>) -> Term<'a> {
    match execution.0.try_lock() {
        Some(execution) => (execution.time_left().as_millis() as u64).encode(env),
        None => error::refused(env, CallError::Busy),
    }
}
