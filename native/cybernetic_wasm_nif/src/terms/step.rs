//! Steps as tagged tuples, and commands from them.

use super::host_call::HostCallTuple;
use super::value::Terms;
use super::wit::{Room, Undecoded};
use super::{access, binary, error, http, tally, value, wit};
use crate::atoms;
use crate::resources::{ExecutionResource, GuestResource, Known, ModuleResource};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::code::Code;
use cybernetic_wasm_core::error::CallError;
use cybernetic_wasm_core::execution::{Execution, Product, Step};
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::mail::{Answer, Command, HostCall};
use cybernetic_wasm_core::value::Value;
use parking_lot::MutexGuard;
use rustler::{Atom, Binary, Encoder, Env, NifResult, ResourceArc, Term};
use std::time::Duration;

/// Takes the first step of an execution and encodes the outcome. It has no resource yet: a call that ends here never needs one.
pub(crate) fn first<'a>(env: Env<'a>, mut execution: Execution, report: bool, lane: Lane) -> Term<'a> {
    let step = run(env, &mut execution, lane);
    encode_ended(env, &execution, step, report).unwrap_or_else(|step| {
        let resource = ResourceArc::new(ExecutionResource::new(execution, report));
        encode_open(env, resource.encode(env), step)
    })
}

/// Steps on and encodes the outcome.
pub(crate) fn next<'a>(env: Env<'a>, known: Known<'a>, lane: Lane) -> Term<'a> {
    match known.execution.0.try_lock() {
        Some(execution) => held(env, known, execution, lane),
        None => again(env, known.term, lane),
    }
}

/// Steps on with an execution that is locked already.
pub(crate) fn held<'a>(
    env: Env<'a>,
    known: Known<'a>,
    mut execution: MutexGuard<'a, Execution>,
    lane: Lane,
) -> Term<'a> {
    let step = run(env, &mut execution, lane);
    let ended = encode_ended(env, &execution, step, known.execution.1);
    ended.unwrap_or_else(|step| encode_open(env, known.term, step))
}

/// Another process has the execution for a moment: one that was given the context of a host call. What this one has begun
/// goes on.
fn again<'a>(env: Env<'a>, resource: Term<'a>, lane: Lane) -> Term<'a> {
    if lane == Lane::Inline {
        rustler::schedule::consume_timeslice(env, 100);
    }
    (atoms::yielded(), resource).encode(env)
}

/// Steps, and reports to the scheduler what the step took of the process's time: to the BEAM a NIF call is one reduction,
/// however long it was.
fn run(env: Env<'_>, execution: &mut Execution, lane: Lane) -> Step {
    let step = execution.step(lane);
    if lane == Lane::Inline {
        let percent = match step {
            Step::Yielded => 100,
            _ => percent(execution.last_slice()),
        };
        if percent > 0 {
            rustler::schedule::consume_timeslice(env, percent);
        }
    }
    step
}

/// A process's timeslice is about a millisecond.
fn percent(time: Duration) -> i32 {
    (time.as_micros() / 10).min(100) as i32
}

/// The outcome, or the step if it was not the last.
fn encode_ended<'a>(env: Env<'a>, execution: &Execution, step: Step, report: bool) -> Result<Term<'a>, Step> {
    match step {
        Step::Finished(product) => {
            let tally = if report { tally::encode(env, &execution.tally()) } else { forget(env, execution) };
            Ok((atoms::finished(), encode_product(env, product), tally).encode(env))
        }
        Step::Failed(failure) => {
            Ok((atoms::failed(), error::encode(env, &failure), tally::encode(env, &execution.tally())).encode(env))
        }
        open => Err(open),
    }
}

fn encode_product<'a>(env: Env<'a>, product: Product) -> Term<'a> {
    match product {
        Product::Values(values) => value::encode_results(env, values),
        Product::Guest(guest) => ResourceArc::new(GuestResource(guest)).encode(env),
        Product::Module(module) => ResourceArc::new(ModuleResource(module)).encode(env),
        Product::Member(member) => member.0.encode(env),
        Product::Answer(answer) => encode_answer(env, answer),
        Product::Snapshot(snapshot) => binary(env, snapshot.as_ref()),
        Product::Reset => atoms::ok().encode(env),
    }
}

fn encode_open<'a>(env: Env<'a>, resource: Term<'a>, step: Step) -> Term<'a> {
    match step {
        Step::Yielded => (atoms::yielded(), resource).encode(env),
        Step::Waiting => (atoms::waiting(), resource).encode(env),
        Step::WantsInput => (atoms::wants_input(), resource).encode(env),
        Step::Output => (atoms::output(), resource).encode(env),
        Step::Http(errand) => (atoms::http(), resource, http::encode(env, &errand)).encode(env),
        Step::HostCall { call, args } => {
            let tag = if args.iter().any(hands_terms) { atoms::handing() } else { atoms::host_call() };
            (tag, resource, HostCallTuple::from(call), value::encode_all(env, args)).encode(env)
        }
        Step::Answered(Ok(answer)) => (atoms::answer(), encode_answer(env, answer)).encode(env),
        Step::Answered(Err(failure)) => error::refused(env, failure),
        Step::Finished(_) | Step::Failed(_) => atoms::nil().encode(env),
    }
}

/// Whether resources of the host's are given back with it.
fn hands_terms(value: &Value) -> bool {
    matches!(value, Value::Wit(typed) if !typed.carried.is_empty() && typed.ty.hands_terms())
}

/// An answer as Elixir has it.
pub(crate) fn encode_answer<'a>(env: Env<'a>, answer: Answer) -> Term<'a> {
    match answer {
        Answer::Done => atoms::ok().encode(env),
        Answer::Bytes(bytes) => binary(env, &bytes),
        Answer::Values(values) => value::encode_results(env, values),
        Answer::Number(number) => number.encode(env),
        Answer::Range { offset, length, size } => (offset, length, size).encode(env),
    }
}

/// Nobody wants to know: a live guest must not keep what it has put out.
fn forget<'a>(env: Env<'a>, execution: &Execution) -> Term<'a> {
    execution.forget();
    atoms::nil().encode(env)
}

/// A command for an open host call of one of `importer`'s imports.
pub(crate) fn decode_command(importer: &Code, term: Term<'_>, room: Room) -> NifResult<Result<Command, Undecoded>> {
    let tag: Atom = match term.decode::<Atom>() {
        Ok(atom) if atom == atoms::raise() => return Ok(Ok(Command::Raise)),
        Ok(atom) if atom == atoms::unknown_import() => return Ok(Ok(Command::Unknown)),
        Ok(atom) if atom == atoms::fuel() => return Ok(Ok(Command::Fuel)),
        Ok(_) => return Err(rustler::Error::BadArg),
        Err(_) => rustler::types::tuple::get_tuple(term)?.first().ok_or(rustler::Error::BadArg)?.decode()?,
    };
    if tag == atoms::call() {
        let (_, name, args): (Atom, Binary<'_>, Terms<'_>) = term.decode()?;
        return Ok(reentry(importer, &name, args).map_err(Undecoded::Error));
    }
    if tag == atoms::call_again() {
        let (_, name, args): (Atom, Binary<'_>, Terms<'_>) = term.decode()?;
        return Ok(call_again(importer, &name, (args, room)));
    }
    if tag == atoms::call_ref() {
        let (_, reference, args): (Atom, Term<'_>, Terms<'_>) = term.decode()?;
        return Ok(call_ref(reference, args).map_err(Undecoded::Error));
    }
    let access = access::decode(importer, tag, term)?.ok_or(rustler::Error::BadArg)?;
    Ok(access.map(Command::Access).map_err(Undecoded::Error))
}

/// The return from a host call of one of `importer`'s functions. Its number of results is checked here, for a friendly error,
/// and again by the core, which trusts nobody.
pub(crate) fn decode_return(
    importer: &Code,
    call: HostCall,
    (terms, room): (Terms<'_>, Room),
) -> Result<Command, Undecoded> {
    let import = importer.imports().get(call.import as usize).ok_or(CallError::StaleContext)?;
    import.check_results(terms.len())?;
    let values = match import.wit() {
        Some(func) => wit::decode_result(func, terms, room)?,
        None => value::decode_all(terms, import.results().iter())?,
    };
    Ok(Command::Return(values))
}

fn call_ref(reference: Term<'_>, args: Terms<'_>) -> Result<Command, Error> {
    let reference = value::func_ref(reference)?;
    let args = value::decode_for(&reference, args)?;
    Ok(Command::CallRef { reference, args })
}

/// A component that is written for it.
fn call_again(importer: &Code, name: &[u8], (args, room): (Terms<'_>, Room)) -> Result<Command, Undecoded> {
    let function = super::exported_function(importer, name)?;
    function.check_arity(args.len())?;
    let args = match function.wit() {
        Some(func) => wit::decode_arguments(func, args, room)?,
        None => value::decode_all(args, function.params().iter())?,
    };
    Ok(Command::CallAgain { function, args })
}

fn reentry(importer: &Code, name: &[u8], args: Terms<'_>) -> Result<Command, Error> {
    let function = super::exported_function(importer, name)?;
    function.check_arity(args.len())?;
    // A component is not called again without being asked for: what is called and in which host call the core says.
    if function.wit().is_some() {
        return Ok(Command::Call { function, args: Vec::new() });
    }
    let args = value::decode_all(args, function.params().iter())?;
    Ok(Command::Call { function, args })
}
