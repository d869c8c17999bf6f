//! Calls in a fresh instance, and the steps of any execution.

use super::runtime::runtime;
use crate::resources::{CancelResource, ExecutionResource, Known, ModuleResource};
use crate::terms::kept::KeptTerm;
use crate::terms::options::CallOptions;
use crate::terms::step::{Handle, decode_command, decode_return, step, usage};
use crate::terms::value::Terms;
use crate::terms::{binary, error, exported_function, value};
use crate::{atoms, courier};
use cybernetic_wasm_core::code::{Code, Function};
use cybernetic_wasm_core::error::CallError;
use cybernetic_wasm_core::execution::Execution;
use cybernetic_wasm_core::instance::Instance;
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::mail::{Command, HostCall};
use cybernetic_wasm_core::member::MemberId;
use cybernetic_wasm_core::module::Module;
use cybernetic_wasm_core::{Error, Stream};
use rustler::{Atom, Binary, Encoder, Env, NifResult, Reference, ResourceArc, Term};
use std::sync::Arc;

/// The exported function `name`, if it takes that many arguments.
pub(super) fn find(code: &Code, name: &[u8], given: usize) -> Result<Arc<Function>, Error> {
    let function = exported_function(code, name)?;
    function.check_arity(given)?;
    Ok(function)
}

pub(super) fn values(function: &Function, arguments: Terms<'_>) -> Result<Vec<value::Value>, Error> {
    Ok(value::decode_all(arguments, function.params().iter())?)
}

/// Whether a call may not start on the normal scheduler that asks. Arguments are decoded after this question, where the
/// guest then runs: a reference may be a term of any size.
pub(super) fn belongs_on_dirty(scheduling: Atom, function: &Function, instance: Option<Instance<'_>>) -> bool {
    let proven = || match instance {
        None => function.may_run_inline(),
        Some(instance) => instance.may_run_inline(function),
    };
    scheduling == atoms::dirty() || (scheduling == atoms::adaptive() && !proven())
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
    args: Terms<'_>,
    options: &CallOptions,
) -> Result<Execution, Error> {
    Ok(Execution::call(module, function, values(function, args)?, options.setup(runtime(), module)))
}

#[rustler::nif]
fn execution_call<'a>(
    env: Env<'a>,
    module: &'a ModuleResource,
    name: Binary<'a>,
    arguments: Terms<'a>,
    options: CallOptions,
    scheduling: Atom,
) -> Term<'a> {
    match find(module.0.code(), &name, arguments.len()) {
        Ok(function) if belongs_on_dirty(scheduling, &function, None) => atoms::dirty().encode(env),
        Ok(function) => started(env, call(&module.0, &function, arguments, &options), &options, Lane::Inline),
        Err(failure) => error::refused(env, failure),
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn execution_call_dirty<'a>(
    env: Env<'a>,
    module: &'a ModuleResource,
    name: Binary<'a>,
    arguments: Terms<'a>,
    options: CallOptions,
) -> Term<'a> {
    let function = find(module.0.code(), &name, arguments.len());
    let execution = function.and_then(|function| call(&module.0, &function, arguments, &options));
    started(env, execution, &options, Lane::Dirty)
}

#[rustler::nif]
fn execution_step<'a>(env: Env<'a>, execution: Known<'a>) -> Term<'a> {
    step(env, Handle::Known(execution), Lane::Inline)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn execution_step_dirty<'a>(env: Env<'a>, execution: Known<'a>) -> Term<'a> {
    step(env, Handle::Known(execution), Lane::Dirty)
}

/// Arms a wake-up message `{reference, :wake}`: the milliseconds until the deadline, or `:ready`.
#[rustler::nif]
fn execution_listen<'a>(env: Env<'a>, execution: &'a ExecutionResource, reference: Reference<'a>) -> Term<'a> {
    let Some(execution) = execution.0.try_lock() else { return error::refused(env, CallError::Busy) };
    match execution.listen(courier::listener(env, reference)) {
        // Rounded up: a process that wakes too early would only wait again.
        Some(left) => (left.as_millis() as u64 + 1).encode(env),
        None => atoms::ready().encode(env),
    }
}

/// Disarms the wake-up message. False: it is on its way already.
#[rustler::nif]
fn execution_unlisten(execution: &ExecutionResource) -> bool {
    execution.0.try_lock().is_some_and(|execution| execution.unlisten())
}

/// Gives the open host call `serial` of the function `import` of that member what `make` decodes for it, and steps.
fn serve<'a>(
    env: Env<'a>,
    known: Known<'a>,
    (import, serial, member): (u32, u64, u32),
    lane: Lane,
    make: impl FnOnce(&Code) -> NifResult<Result<Command, Error>>,
) -> NifResult<Term<'a>> {
    let Some(execution) = known.execution.0.try_lock() else { return Ok(error::refused(env, CallError::Busy)) };
    let call = HostCall { member: MemberId(member), import, serial };
    let Some(importer) = execution.importer(call) else {
        return Ok(error::refused(env, CallError::StaleContext));
    };
    if lane == Lane::Inline && !execution.fits_inline(&importer, call) {
        return Ok(atoms::dirty().encode(env));
    }
    let given = make(&importer)?.and_then(|command| execution.command(call, command));
    drop(execution);
    Ok(match given {
        Ok(()) => step(env, Handle::Known(known), lane),
        Err(failure) => error::refused(env, failure),
    })
}

/// Gives an open host call a command and steps.
#[rustler::nif]
fn execution_command<'a>(
    env: Env<'a>,
    execution: Known<'a>,
    import: u32,
    serial: u64,
    member: u32,
    term: Term<'a>,
) -> NifResult<Term<'a>> {
    serve(env, execution, (import, serial, member), Lane::Inline, |importer| decode_command(importer, term))
}

#[rustler::nif(schedule = "DirtyCpu")]
fn execution_command_dirty<'a>(
    env: Env<'a>,
    execution: Known<'a>,
    import: u32,
    serial: u64,
    member: u32,
    term: Term<'a>,
) -> NifResult<Term<'a>> {
    serve(env, execution, (import, serial, member), Lane::Dirty, |importer| decode_command(importer, term))
}

/// Returns from an open host call with these values, and steps.
#[rustler::nif]
fn execution_return<'a>(
    env: Env<'a>,
    execution: Known<'a>,
    import: u32,
    serial: u64,
    member: u32,
    values: Terms<'a>,
) -> NifResult<Term<'a>> {
    let call = (import, serial, member);
    serve(env, execution, call, Lane::Inline, |importer| Ok(decode_return(importer, import, values)))
}

#[rustler::nif(schedule = "DirtyCpu")]
fn execution_return_dirty<'a>(
    env: Env<'a>,
    execution: Known<'a>,
    import: u32,
    serial: u64,
    member: u32,
    values: Terms<'a>,
) -> NifResult<Term<'a>> {
    let call = (import, serial, member);
    serve(env, execution, call, Lane::Dirty, |importer| Ok(decode_return(importer, import, values)))
}

fn emit<'a>(env: Env<'a>, execution: &ExecutionResource, serial: u64, bytes: &[u8]) -> Term<'a> {
    let Some(execution) = execution.0.try_lock() else { return error::refused(env, CallError::Busy) };
    let call = HostCall { member: MemberId::FIRST, import: 0, serial };
    if !execution.is_open(call) {
        return error::refused(env, CallError::StaleContext);
    }
    match execution.emit(bytes) {
        Ok(()) => atoms::ok().encode(env),
        Err(failure) => error::refused(env, failure),
    }
}

/// Takes output of the guest from the host call `serial`, up to its limit.
#[rustler::nif]
fn execution_emit<'a>(env: Env<'a>, execution: &'a ExecutionResource, serial: u64, bytes: Binary<'a>) -> Term<'a> {
    emit(env, execution, serial, &bytes)
}

/// The same for large output.
#[rustler::nif(schedule = "DirtyCpu")]
fn execution_emit_dirty<'a>(
    env: Env<'a>,
    execution: &'a ExecutionResource,
    serial: u64,
    bytes: Binary<'a>,
) -> Term<'a> {
    emit(env, execution, serial, &bytes)
}

fn take_output<'a>(env: Env<'a>, execution: &ExecutionResource, streams: Vec<Atom>, lane: Lane) -> Term<'a> {
    let Some(execution) = execution.0.try_lock() else { return error::refused(env, CallError::Busy) };
    let streams: Vec<Stream> = streams.into_iter().map(stream).collect();
    if lane == Lane::Inline && !execution.output_fits_inline(&streams) {
        return atoms::dirty().encode(env);
    }
    let output = execution.take_output_of(&streams);
    output.pieces().map(|piece| tagged(env, piece)).collect::<Vec<_>>().encode(env)
}

/// What has been put out to these streams since the last time, piece by piece; `:dirty` where that is much.
#[rustler::nif]
fn execution_take_output<'a>(env: Env<'a>, execution: &'a ExecutionResource, streams: Vec<Atom>) -> Term<'a> {
    take_output(env, execution, streams, Lane::Inline)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn execution_take_output_dirty<'a>(env: Env<'a>, execution: &'a ExecutionResource, streams: Vec<Atom>) -> Term<'a> {
    take_output(env, execution, streams, Lane::Dirty)
}

fn stream(name: Atom) -> Stream {
    match name {
        name if name == atoms::stdout() => Stream::Stdout,
        name if name == atoms::stderr() => Stream::Stderr,
        _ => Stream::Emitted,
    }
}

/// A host function's output is a binary, what the guest writes itself is `{:stdout | :stderr, binary}`.
fn tagged<'a>(env: Env<'a>, (stream, piece): (Stream, &[u8])) -> Term<'a> {
    let piece = binary(env, piece);
    match stream {
        Stream::Emitted => piece,
        Stream::Stdout => (atoms::stdout(), piece).encode(env),
        Stream::Stderr => (atoms::stderr(), piece).encode(env),
    }
}

fn give_input<'a>(env: Env<'a>, execution: &ExecutionResource, piece: Option<Binary<'a>>) -> Term<'a> {
    let Some(execution) = execution.0.try_lock() else { return error::refused(env, CallError::Busy) };
    execution.give_input(piece.map(|piece| piece.to_vec()));
    atoms::ok().encode(env)
}

/// The next piece of what the guest reads from its standard input; `nil` is the end.
#[rustler::nif]
fn execution_give_input<'a>(env: Env<'a>, execution: &'a ExecutionResource, piece: Option<Binary<'a>>) -> Term<'a> {
    give_input(env, execution, piece)
}

/// The same for a large piece.
#[rustler::nif(schedule = "DirtyCpu")]
fn execution_give_input_dirty<'a>(
    env: Env<'a>,
    execution: &'a ExecutionResource,
    piece: Option<Binary<'a>>,
) -> Term<'a> {
    give_input(env, execution, piece)
}

/// Gives an execution up. Whoever steps it just now ends it all the same: by its cancellation, or by going away.
#[rustler::nif]
fn execution_abandon(execution: &ExecutionResource) -> Atom {
    if let Some(mut execution) = execution.0.try_lock() {
        execution.abandon();
    }
    atoms::ok()
}

/// What an execution that was given up had used, and what it had put out.
#[rustler::nif(schedule = "DirtyCpu")]
fn execution_usage<'a>(env: Env<'a>, execution: &'a ExecutionResource) -> Term<'a> {
    match execution.0.try_lock() {
        Some(execution) => usage(env, &execution),
        None => error::refused(env, CallError::Busy),
    }
}

/// What answers the host calls of a member of the live guest that this runs on: see `instance_set_host`. `nil` where that is
/// gone.
#[rustler::nif]
fn execution_host<'a>(env: Env<'a>, execution: &'a ExecutionResource, member: u32) -> Term<'a> {
    let Some(execution) = execution.0.try_lock() else { return error::refused(env, CallError::Busy) };
    let host = execution.host(MemberId(member));
    let host = host.as_ref().and_then(|host| host.downcast_ref::<KeptTerm>());
    host.map_or_else(|| atoms::nil().encode(env), |host| host.load(env))
}

/// Something to end executions with from outside.
#[rustler::nif]
fn cancel_new(env: Env<'_>) -> Term<'_> {
    ResourceArc::new(CancelResource::default()).encode(env)
}

/// Ends the executions that were begun with it. The first reason stays.
#[rustler::nif]
fn cancel_now(cancel: &CancelResource, reason: Term<'_>) -> Atom {
    cancel.1.lock().get_or_insert_with(|| KeptTerm::new(reason));
    cancel.0.cancel();
    atoms::ok()
}

/// Why; `nil` before.
#[rustler::nif]
fn cancel_reason<'a>(env: Env<'a>, cancel: &'a CancelResource) -> Term<'a> {
    cancel.1.lock().as_ref().map_or_else(|| atoms::nil().encode(env), |reason| reason.load(env))
}

/// Milliseconds until the deadline.
#[rustler::nif]
fn execution_time_left<'a>(env: Env<'a>, execution: &'a ExecutionResource) -> Term<'a> {
    match execution.0.try_lock() {
        Some(execution) => (execution.time_left().as_millis() as u64).encode(env),
        None => error::refused(env, CallError::Busy),
    }
}
