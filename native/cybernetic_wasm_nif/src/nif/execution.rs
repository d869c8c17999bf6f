//! Calls in a fresh instance, and the steps of any execution.

use crate::resources::{ExecutionResource, ModuleResource};
use crate::terms::options::CallOptions;
use crate::terms::step::{Handle, decode_command, step};
use crate::terms::value::Terms;
use crate::terms::{error, exported_function, value};
use crate::{atoms, courier};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::error::CallError;
use cybernetic_wasm_core::execution::{Execution, Lane, may_run_inline};
use cybernetic_wasm_core::instance::Instance;
use cybernetic_wasm_core::module::{Function, Module};
use rustler::{Atom, Binary, Encoder, Env, NifResult, Reference, ResourceArc, Term};
use std::sync::Arc;

/// The exported function `name`, if it takes that many arguments.
pub(super) fn find(module: &Module, name: &[u8], given: usize) -> Result<Arc<Function>, Error> {
    let function = exported_function(module, name)?;
    function.check_arity(given)?;
    Ok(function)
}

pub(super) fn values(function: &Function, arguments: &Terms<'_>) -> Result<Vec<value::Value>, Error> {
    Ok(value::decode_all(arguments, function.params().iter())?)
}

/// Whether a call may not start on the normal scheduler that asks. Arguments are decoded after this question, where the
/// guest then runs: a reference may be a term of any size.
pub(super) fn belongs_on_dirty(scheduling: Atom, function: &Function, instance: Option<&Instance>) -> bool {
    scheduling == atoms::dirty() || (scheduling == atoms::adaptive() && !may_run_inline(function, instance))
}

/// `report` is the call's option.
pub(super) fn started<'a>(env: Env<'a>, execution: Result<Execution, Error>, report: bool, lane: Lane) -> Term<'a> {
    match execution {
        Ok(execution) => step(env, Handle::New(execution, report), lane),
        Err(failure) => error::refused(env, failure),
    }
}

fn call(
    module: &Arc<Module>,
    function: &Arc<Function>,
    args: &Terms<'_>,
    options: CallOptions,
) -> Result<Execution, Error> {
    let config = options.engine.unwrap_or(*module.requested());
    Execution::call(module, function, values(function, args)?, (options.limits, config))
}

#[rustler::nif]
fn execution_call<'a>(
    env: Env<'a>,
    module: ResourceArc<ModuleResource>,
    name: Binary<'a>,
    arguments: Terms<'a>,
    options: CallOptions,
    scheduling: Atom,
) -> Term<'a> {
    match find(&module.0, &name, arguments.len()) {
        Ok(function) if belongs_on_dirty(scheduling, &function, None) => atoms::dirty().encode(env),
        Ok(function) => {
            let report = options.report;
            started(env, call(&module.0, &function, &arguments, options), report, Lane::Inline)
        }
        Err(failure) => error::refused(env, failure),
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn execution_call_dirty<'a>(
    env: Env<'a>,
    module: ResourceArc<ModuleResource>,
    name: Binary<'a>,
    arguments: Terms<'a>,
    options: CallOptions,
) -> Term<'a> {
    let function = find(&module.0, &name, arguments.len());
    let report = options.report;
    let execution = function.and_then(|function| call(&module.0, &function, &arguments, options));
    started(env, execution, report, Lane::Dirty)
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
    if lane == Lane::Inline && !execution.fits_inline(import) {
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

fn emit<'a>(env: Env<'a>, execution: &ExecutionResource, serial: u64, bytes: &[u8]) -> Term<'a> {
    let Some(execution) = execution.0.try_lock() else { return error::refused(env, CallError::Busy) };
    if !execution.is_open(serial) {
        return error::refused(env, CallError::StaleContext);
    }
    match execution.emit(bytes) {
        Ok(()) => atoms::ok().encode(env),
        Err(failure) => error::refused(env, failure),
    }
}

/// Takes output of the guest from the host call `serial`, up to its limit.
#[rustler::nif]
fn execution_emit<'a>(
    env: Env<'a>,
    execution: ResourceArc<ExecutionResource>,
    serial: u64,
    bytes: Binary<'a>,
) -> Term<'a> {
    emit(env, &execution, serial, &bytes)
}

/// The same for large output.
#[rustler::nif(schedule = "DirtyCpu")]
fn execution_emit_dirty<'a>(
    env: Env<'a>,
    execution: ResourceArc<ExecutionResource>,
    serial: u64,
    bytes: Binary<'a>,
) -> Term<'a> {
    emit(env, &execution, serial, &bytes)
}

/// Milliseconds until the deadline.
#[rustler::nif]
fn execution_time_left<'a>(env: Env<'a>, execution: ResourceArc<ExecutionResource>) -> Term<'a> {
    match execution.0.try_lock() {
        Some(execution) => (execution.time_left().as_millis() as u64).encode(env),
        None => error::refused(env, CallError::Busy),
    }
}
