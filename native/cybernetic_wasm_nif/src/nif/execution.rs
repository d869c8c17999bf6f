//! Calls in a fresh instance, and the steps of any execution.

use crate::resources::{CancelResource, ExecutionResource, ModuleResource};
use crate::terms::kept::KeptTerm;
use crate::terms::options::CallOptions;
use crate::terms::step::{Handle, decode_command, step};
use crate::terms::value::Terms;
use crate::terms::{binary, error, exported_function, value};
use crate::{atoms, courier};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::error::CallError;
use cybernetic_wasm_core::execution::{Execution, Lane, may_run_inline};
use cybernetic_wasm_core::instance::{Instance, MemberId};
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

/// Takes the first step of an execution, or says why there is none.
pub(super) fn started<'a>(
    env: Env<'a>,
    execution: Result<Execution, Error>,
    options: &CallOptions,
    lane: Lane,
) -> Term<'a> {
    match execution {
        Ok(mut execution) => {
            options.prepare(&mut execution);
            step(env, Handle::New(execution, options.report), lane)
        }
        Err(failure) => error::refused(env, failure),
    }
}

fn call(
    module: &Arc<Module>,
    function: &Arc<Function>,
    args: &Terms<'_>,
    options: &CallOptions,
) -> Result<Execution, Error> {
    let config = options.engine.unwrap_or(*module.requested());
    Execution::call(module, function, values(function, args)?, (options.limits.clone(), config))
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
        Ok(function) => started(env, call(&module.0, &function, &arguments, &options), &options, Lane::Inline),
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
    let execution = function.and_then(|function| call(&module.0, &function, &arguments, &options));
    started(env, execution, &options, Lane::Dirty)
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
    if lane == Lane::Inline && !execution.fits_inline((import, serial)) {
        return Ok(atoms::dirty().encode(env));
    }
    let Some(importer) = execution.importer(serial) else { return Ok(error::refused(env, CallError::StaleContext)) };
    let given = decode_command(&importer, import, command)?.and_then(|command| execution.command(serial, command));
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

/// What has been put out since the last time, piece by piece.
#[rustler::nif]
fn execution_take_output<'a>(env: Env<'a>, execution: ResourceArc<ExecutionResource>) -> Term<'a> {
    let Some(execution) = execution.0.try_lock() else { return error::refused(env, CallError::Busy) };
    let output = execution.take_output();
    output.pieces().map(|piece| binary(env, piece)).collect::<Vec<_>>().encode(env)
}

/// Gives an execution up. Whoever steps it just now ends it all the same: by its cancellation, or by going away.
#[rustler::nif]
fn execution_abandon(execution: ResourceArc<ExecutionResource>) -> Atom {
    if let Some(mut execution) = execution.0.try_lock() {
        execution.abandon();
    }
    atoms::ok()
}

/// What is kept for a member of the live guest that this runs on: see `instance_keep`.
#[rustler::nif]
fn execution_kept<'a>(env: Env<'a>, execution: ResourceArc<ExecutionResource>, member: u32) -> Term<'a> {
    let Some(execution) = execution.0.try_lock() else { return error::refused(env, CallError::Busy) };
    let kept = execution.kept(MemberId(member));
    let kept = kept.as_ref().and_then(|kept| kept.downcast_ref::<KeptTerm>());
    kept.map_or_else(|| atoms::nil().encode(env), |kept| kept.load(env))
}

/// Something to end executions with from outside.
#[rustler::nif]
fn cancel_new(env: Env<'_>) -> Term<'_> {
    ResourceArc::new(CancelResource::default()).encode(env)
}

/// Ends the executions that were begun with it. The first reason stays.
#[rustler::nif]
fn cancel_now(cancel: ResourceArc<CancelResource>, reason: Term<'_>) -> Atom {
    cancel.1.lock().get_or_insert_with(|| KeptTerm::new(reason));
    cancel.0.cancel();
    atoms::ok()
}

/// Why; `nil` before.
#[rustler::nif]
fn cancel_reason<'a>(env: Env<'a>, cancel: ResourceArc<CancelResource>) -> Term<'a> {
    cancel.1.lock().as_ref().map_or_else(|| atoms::nil().encode(env), |reason| reason.load(env))
}

/// Milliseconds until the deadline.
#[rustler::nif]
fn execution_time_left<'a>(env: Env<'a>, execution: ResourceArc<ExecutionResource>) -> Term<'a> {
    match execution.0.try_lock() {
        Some(execution) => (execution.time_left().as_millis() as u64).encode(env),
        None => error::refused(env, CallError::Busy),
    }
}
