//! Beginning executions, and the steps of any.

use super::runtime::runtime;
use crate::resources::{AbiResource, CancelResource, ExecutionResource, KernelResource, Known};
use crate::terms::abi;
use crate::terms::call::CallOptions;
use crate::terms::handle::Handle;
use crate::terms::host_call::HostCallTuple;
use crate::terms::kept::KeptTerm;
use crate::terms::step::{self, decode_command, decode_return};
use crate::terms::value::Terms;
use crate::terms::wit::{Room, Undecoded, encode_enumerate};
use crate::terms::{binary, error, tally};
use crate::{atoms, courier};
use cybernetic_wasm_core::code::Code;
use cybernetic_wasm_core::error::CallError;
use cybernetic_wasm_core::execution::Execution;
use cybernetic_wasm_core::kernel::Settings;
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::mail::{Command, HostCall};
use cybernetic_wasm_core::member::MemberId;
use cybernetic_wasm_core::{Error, Stream};
use rustler::{Atom, Binary, Encoder, Env, NifResult, Reference, ResourceArc, Term};
use std::any::Any;
use std::sync::Arc;

/// Whether work may not start in this lane. Arguments are decoded after this question, where the guest then runs: a reference
/// may be a term of any size.
pub(super) fn belongs_on_dirty(lane: Lane, scheduling: Atom, proven: impl FnOnce() -> bool) -> bool {
    let ceilings = || runtime().ceilings();
    if lane == Lane::Dirty {
        ceilings().arrive();
        return false;
    }
    let belongs = scheduling == atoms::dirty() || (scheduling == atoms::adaptive() && !proven());
    if belongs {
        ceilings().expect();
    }
    belongs
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
            step::first(env, execution, options.report(), lane)
        }
        Err(failure) => error::refused(env, failure),
    }
}

/// Does something with an execution, unless another process has it in its hands.
fn with<'a>(
    env: Env<'a>,
    execution: Handle<'_, ExecutionResource>,
    work: impl FnOnce(&Execution) -> Term<'a>,
) -> Term<'a> {
    match execution.0.try_lock() {
        Some(execution) => work(&execution),
        None => error::refused(env, CallError::Busy),
    }
}

/// What a plugin made for Extism is given: its configuration, the least level that is logged, and how many bytes its variables take.
#[rustler::nif]
fn kernel_new<'a>(env: Env<'a>, config: Vec<(Binary<'a>, Binary<'a>)>, log_level: i32, most: u64) -> Term<'a> {
    let config = config.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    ResourceArc::new(KernelResource(Arc::new(Settings::new(config, log_level, most)))).encode(env)
}

/// An ABI, to be called by.
#[rustler::nif]
fn abi_new<'a>(env: Env<'a>, abi: Term<'a>) -> NifResult<Term<'a>> {
    Ok(ResourceArc::new(AbiResource(Arc::new(abi::decode(abi)?))).encode(env))
}

lanes! {
    fn execution_step, execution_step_dirty<'a>(env, lane; execution: Known<'a>) -> Term<'a> {
        step::next(env, execution, lane)
    }
}

/// Steps on after a wait, on a normal scheduler; `:dirty` for a guest that does not belong there.
#[rustler::nif]
fn execution_wake<'a>(env: Env<'a>, execution: Known<'a>) -> Term<'a> {
    match execution.execution.0.try_lock() {
        Some(held) if held.may_wake_inline() => step::held(env, execution, held, Lane::Inline),
        Some(mut held) => {
            held.want_dirty();
            atoms::dirty().encode(env)
        }
        None => atoms::dirty().encode(env),
    }
}

/// Arms a wake-up message `{reference, :wake}`: the milliseconds until the deadline, or `:ready`.
#[rustler::nif]
fn execution_listen<'a>(env: Env<'a>, execution: Handle<'a, ExecutionResource>, reference: Reference<'a>) -> Term<'a> {
    with(env, execution, |execution| match execution.listen(courier::listener(env, reference)) {
        // Rounded up: a process that wakes too early would only wait again.
        Some(left) => (left.as_millis() as u64 + 1).encode(env),
        None => atoms::ready().encode(env),
    })
}

/// Disarms the wake-up message. False: it is on its way already.
#[rustler::nif]
fn execution_unlisten(execution: Handle<'_, ExecutionResource>) -> bool {
    execution.0.try_lock().is_some_and(|execution| execution.unlisten())
}

/// The process has the resources that were handed over with an open host call. Nobody else can have the execution yet.
#[rustler::nif]
fn execution_take_over(execution: Handle<'_, ExecutionResource>, call: HostCallTuple) -> Atom {
    if let Some(execution) = execution.0.try_lock() {
        execution.take_over(call.into());
    }
    atoms::ok()
}

/// Gives an open host call what `make` decodes for it, and steps.
fn serve<'a>(
    env: Env<'a>,
    known: Known<'a>,
    (call, lane): (HostCall, Lane),
    make: impl FnOnce(&Code, Room) -> NifResult<Result<Command, Undecoded>>,
) -> NifResult<Term<'a>> {
    let Some(mut execution) = known.execution.0.try_lock() else { return Ok(error::refused(env, CallError::Busy)) };
    let Some(importer) = execution.importer(call) else {
        return Ok(error::refused(env, CallError::StaleContext));
    };
    if lane == Lane::Inline && !execution.fits_inline(&importer, call) {
        drop(importer);
        execution.want_dirty();
        return Ok(atoms::dirty().encode(env));
    }
    let made = make(&importer, Room::new(execution.max_transfer(), lane))?;
    drop(importer);
    let given = made.and_then(|command| match lane == Lane::Inline && !execution.may_carry_out_inline(&command) {
        true => Err(Undecoded::Dirty),
        false => Ok(execution.command(call, command)?),
    });
    Ok(match given {
        Ok(()) => step::held(env, known, execution, lane),
        Err(Undecoded::Error(failure)) => error::refused(env, failure),
        Err(Undecoded::Enumerate(types)) => encode_enumerate(env, &types),
        Err(Undecoded::Dirty) => {
            execution.want_dirty();
            atoms::dirty().encode(env)
        }
    })
}

lanes! {
    /// Gives an open host call a command and steps.
    fn execution_command, execution_command_dirty<'a>(
        env, lane;
        execution: Known<'a>,
        call: HostCallTuple,
        term: Term<'a>,
    ) -> NifResult<Term<'a>> {
        serve(env, execution, (call.into(), lane), |importer, room| decode_command(importer, term, room))
    }
}

lanes! {
    /// Returns from an open host call with these values, and steps.
    fn execution_return, execution_return_dirty<'a>(
        env, lane;
        execution: Known<'a>,
        call: HostCallTuple,
        values: Terms<'a>,
    ) -> NifResult<Term<'a>> {
        let call = call.into();
        serve(env, execution, (call, lane), |importer, room| Ok(decode_return(importer, call, (values, room))))
    }
}

lanes! {
    /// Takes output of the guest from an open host call, up to its limit. Large output belongs on a dirty scheduler, which
    /// the caller sees to.
    fn execution_emit, execution_emit_dirty<'a>(
        env, _lane;
        execution: Handle<'a, ExecutionResource>,
        call: HostCallTuple,
        bytes: Binary<'a>,
    ) -> Term<'a> {
        with(env, execution, |execution| match execution.is_open(call.into()) {
            true => error::done(env, execution.emit(&bytes)),
            false => error::refused(env, CallError::StaleContext),
        })
    }
}

lanes! {
    /// What has been put out to these streams since the last time, piece by piece; `:dirty` where that is much.
    fn execution_take_output, execution_take_output_dirty<'a>(
        env, lane;
        execution: Handle<'a, ExecutionResource>,
        streams: Vec<Atom>,
    ) -> Term<'a> {
        with(env, execution, |execution| {
            let streams: Vec<Stream> = streams.into_iter().map(stream).collect();
            if lane == Lane::Inline && !execution.output_fits_inline(&streams) {
                return atoms::dirty().encode(env);
            }
            let output = execution.take_output_of(&streams);
            output.pieces().map(|piece| tagged(env, piece)).collect::<Vec<_>>().encode(env)
        })
    }
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

lanes! {
    /// The next piece of what the guest reads from its standard input; `nil` is the end. A large piece belongs on a dirty
    /// scheduler, which the caller sees to.
    fn execution_give_input, execution_give_input_dirty<'a>(
        env, _lane;
        execution: Handle<'a, ExecutionResource>,
        piece: Option<Binary<'a>>,
    ) -> Term<'a> {
        with(env, execution, |execution| {
            execution.give_input(piece.map(|piece| piece.to_vec()));
            atoms::ok().encode(env)
        })
    }
}

/// Gives an execution up. Whoever steps it just now ends it all the same: by its cancellation, or by going away.
#[rustler::nif]
fn execution_abandon(execution: Handle<'_, ExecutionResource>) -> Atom {
    if let Some(mut execution) = execution.0.try_lock() {
        execution.abandon();
    }
    atoms::ok()
}

/// What an execution that was given up had used, and what it had put out.
#[rustler::nif(schedule = "DirtyCpu")]
fn execution_tally<'a>(env: Env<'a>, execution: Handle<'a, ExecutionResource>) -> Term<'a> {
    with(env, execution, |execution| tally::encode(env, &execution.tally()))
}

/// What answers the host calls of a member of the live guest that this runs on: see `instance_set_host`. `nil` where that is
/// gone.
#[rustler::nif]
fn execution_host<'a>(env: Env<'a>, execution: Handle<'a, ExecutionResource>, member: u32) -> Term<'a> {
    with(env, execution, |execution| {
        let host = execution.host(MemberId(member));
        let host = host.as_ref().and_then(|host| (&**host as &dyn Any).downcast_ref::<KeptTerm>());
        host.map_or_else(|| atoms::nil().encode(env), |host| host.load(env))
    })
}

/// Milliseconds until the deadline.
#[rustler::nif]
fn execution_time_left<'a>(env: Env<'a>, execution: Handle<'a, ExecutionResource>) -> Term<'a> {
    with(env, execution, |execution| (execution.time_left().as_millis() as u64).encode(env))
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
