//! Live instances: making them, calling them, looking at them while they are idle.

use super::execution::{belongs_on_dirty, started};
use super::runtime::runtime;
use crate::atoms;
use crate::resources::{GuestResource, HostResource, ModuleResource, holds};
use crate::terms::access::Number;
use crate::terms::call::{Budget, CallOptions};
use crate::terms::engine::EngineTuple;
use crate::terms::handle::Handle;
use crate::terms::kept::KeptTerm;
use crate::terms::step::encode_answer;
use crate::terms::value::{self, Terms};
use crate::terms::{Optional, access, atom, error, tally};
use cybernetic_wasm_core::execution::{Execution, Tally};
use cybernetic_wasm_core::instance::Instance;
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::linker::{GivenGlobal, Source};
use cybernetic_wasm_core::member::MemberId;
use cybernetic_wasm_core::value::HostRef;
use cybernetic_wasm_core::{Error, Output};
use rustler::{Atom, Binary, Encoder, Env, NewBinary, NifResult, ResourceArc, Term};
use std::sync::Arc;

// Making and ending

lanes! {
    fn instance_new, instance_new_dirty<'a>(
        env, lane;
        module: Handle<'a, ModuleResource>,
        snapshottable: bool,
        sources: Optional<Vec<Term<'a>>>,
        budget: Budget,
        options: CallOptions,
        scheduling: Atom,
    ) -> NifResult<Term<'a>> {
        // A value that is given may be a term of any size.
        if sources.0.is_some() && lane == Lane::Inline {
            return Ok(atoms::dirty().encode(env));
        }
        if belongs_on_dirty(lane, scheduling, || module.0.may_instantiate_inline(&options.limits)) {
            return Ok(atoms::dirty().encode(env));
        }
        let setup = options.setup(runtime(), &module.0);
        let sources = sources.0.map(decode_sources).transpose()?;
        let making = Execution::instantiate_within(&module.0, (snapshottable, sources), setup, budget.0);
        Ok(started(env, Ok(making), &options, lane))
    }
}

lanes! {
    /// `:dirty` where the guest's memory takes time to unmap.
    fn instance_reset, instance_reset_dirty<'a>(
        env, lane;
        guest: Handle<'a, GuestResource>,
        options: CallOptions,
    ) -> Term<'a> {
        match lane == Lane::Inline && !guest.0.is_small() {
            true => atoms::dirty().encode(env),
            false => started(env, Execution::reset(&guest.0, options.limits.clone()), &options, lane),
        }
    }
}

#[rustler::nif]
fn instance_close<'a>(env: Env<'a>, guest: Handle<'a, GuestResource>) -> Term<'a> {
    error::done(env, guest.0.close())
}

/// Closes the guest when the call on it ends, or now.
#[rustler::nif]
fn instance_finish(guest: Handle<'_, GuestResource>) -> Atom {
    guest.0.finish();
    atoms::ok()
}

/// Does that when the calling process ends.
#[rustler::nif]
fn instance_finish_with_caller(env: Env<'_>, guest: ResourceArc<GuestResource>) -> Atom {
    env.monitor(&guest, &env.pid());
    atoms::ok()
}

/// What the guest has used in its whole life, as a tally.
#[rustler::nif]
fn instance_usage<'a>(env: Env<'a>, guest: Handle<'a, GuestResource>) -> Term<'a> {
    tally::encode(env, &Tally { usage: guest.0.usage(), output: Output::default(), denials: Vec::new() })
}

/// `:idle`, `:busy`, `:poisoned` or `:closed`.
#[rustler::nif]
fn instance_state<'a>(env: Env<'a>, guest: Handle<'a, GuestResource>) -> Term<'a> {
    atom(env, guest.0.state())
}

#[rustler::nif]
fn instance_survive_traps(guest: Handle<'_, GuestResource>) -> Atom {
    guest.0.survive_traps();
    atoms::ok()
}

// Members

/// Keeps a place for a module that will be linked.
#[rustler::nif]
fn instance_reserve(guest: Handle<'_, GuestResource>) -> u32 {
    guest.0.reserve().0
}

/// Tells what answers a member's host calls: the term, for as long as somebody holds the reference that this gives.
#[rustler::nif]
fn instance_set_host<'a>(env: Env<'a>, guest: Handle<'a, GuestResource>, member: u32, term: Term<'a>) -> Term<'a> {
    let host: HostRef = Arc::new(KeptTerm::new(term));
    let instance = guest.instance(member);
    match instance.set_host(&host) {
        Ok(()) => ResourceArc::new(HostResource(host)).encode(env),
        Err(failure) => error::refused(env, failure),
    }
}

/// Links a module into the guest. For each of its imports, in order: `:host`, `:wasi`, `{:export, member, name}`,
/// `{:global, type, mutable, value}` or `{:nothing, reason}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn instance_link<'a>(
    env: Env<'a>,
    guest: Handle<'a, GuestResource>,
    member: u32,
    module: Handle<'a, ModuleResource>,
    sources: Vec<Term<'a>>,
    options: CallOptions,
) -> NifResult<Term<'a>> {
    let sources = decode_sources(sources)?;
    let setup = options.setup(runtime(), &module.0);
    let linking = Execution::link(&guest.0, MemberId(member), (&module.0, sources), setup);
    Ok(started(env, linking, &options, Lane::Dirty))
}

fn decode_sources(sources: Vec<Term<'_>>) -> NifResult<Vec<Source>> {
    sources.into_iter().map(source).collect()
}

fn source(term: Term<'_>) -> NifResult<Source> {
    if let Ok(name) = term.decode::<Atom>() {
        return if name == atoms::wasi() { Ok(Source::Wasi) } else { Ok(Source::Host) };
    }
    if let Ok((tag, member, name)) = term.decode::<(Atom, u32, String)>()
        && tag == atoms::export()
    {
        return Ok(Source::Export(MemberId(member), name));
    }
    if let Ok((tag, ty, mutable, value)) = term.decode::<(Atom, Atom, bool, Term<'_>)>()
        && tag == atoms::global()
    {
        return given_global(ty, mutable, value);
    }
    let (tag, reason): (Atom, String) = term.decode()?;
    if tag == atoms::nothing() { Ok(Source::Nothing(reason)) } else { Err(rustler::Error::BadArg) }
}

/// The value is of the type that is said; whether that is the import's, the core sees.
fn given_global(ty: Atom, mutable: bool, term: Term<'_>) -> NifResult<Source> {
    let ty = value::type_named(ty)?;
    Ok(match value::decode(term, &ty, 0) {
        Ok(value) => Source::Global(GivenGlobal { ty, mutable, value }),
        Err(_) => Source::Nothing("the value given is not of its type".into()),
    })
}

/// Whether a reference that was found in a term for `owner`, a guest or an execution, would keep that alive.
#[rustler::nif]
fn instance_held_by<'a>(owner: Term<'a>, reference: Term<'a>) -> bool {
    holds(reference, owner)
}

lanes! {
    /// How long it takes nobody knows before: it runs on a dirty scheduler, unless the caller wants otherwise.
    fn instance_call_ref, instance_call_ref_dirty<'a>(
        env, lane;
        guest: Handle<'a, GuestResource>,
        member: u32,
        reference: Term<'a>,
        arguments: Terms<'a>,
        options: CallOptions,
        scheduling: Atom,
    ) -> Term<'a> {
        if belongs_on_dirty(lane, scheduling, || false) {
            return atoms::dirty().encode(env);
        }
        let execution = value::func_ref(reference).map_err(Error::from).and_then(|reference| {
            let args = value::decode_for(&reference, arguments)?;
            Execution::call_ref_on(guest.instance(member), reference, args, options.limits.clone())
        });
        started(env, execution, &options, lane)
    }
}

// Looking at an idle guest. Large pieces belong on a dirty scheduler, which the caller sees to.

lanes! {
    fn instance_read, instance_read_dirty<'a>(
        env, _lane;
        guest: Handle<'a, GuestResource>,
        member: u32,
        memory: Option<Binary<'a>>,
        offset: Number,
        length: Number,
    ) -> Term<'a> {
        let bytes = access::memory_name(memory).and_then(|memory| {
            let instance = guest.instance(member);
            let copy = |bytes: &[u8]| Term::from(NewBinary::from_slice(env, bytes));
            instance.read(memory.as_deref(), (offset.0, length.0), copy)
        });
        bytes.unwrap_or_else(|failure| error::refused(env, failure))
    }
}

lanes! {
    fn instance_write, instance_write_dirty<'a>(
        env, _lane;
        guest: Handle<'a, GuestResource>,
        member: u32,
        memory: Option<Binary<'a>>,
        offset: Number,
        bytes: Binary<'a>,
    ) -> Term<'a> {
        let instance = guest.instance(member);
        let written = access::memory_name(memory)
            .and_then(|memory| instance.write(memory.as_deref(), offset.0, &bytes));
        error::done(env, written)
    }
}

lanes! {
    /// Any other access: its answer, or the first step of an execution where it may take time. A large value belongs on a dirty
    /// scheduler, which the caller sees to.
    fn instance_access, instance_access_dirty<'a>(
        env, lane;
        guest: Handle<'a, GuestResource>,
        member: u32,
        term: Term<'a>,
        options: CallOptions,
    ) -> NifResult<Term<'a>> {
        let instance = guest.instance(member);
        access_to(env, (instance, lane), term, &options)
    }
}

fn access_to<'a>(
    env: Env<'a>,
    (instance, lane): (Instance<'_>, Lane),
    term: Term<'a>,
    options: &CallOptions,
) -> NifResult<Term<'a>> {
    let code = match instance.code() {
        Ok(code) => code,
        Err(failure) => return Ok(error::refused(env, failure)),
    };
    let tag = rustler::types::tuple::get_tuple(term)?.first().ok_or(rustler::Error::BadArg)?.decode()?;
    let access = match access::decode(&code, tag, term)?.ok_or(rustler::Error::BadArg)? {
        Ok(access) => access,
        Err(failure) => return Ok(error::refused(env, failure)),
    };
    Ok(match instance.access(access) {
        Ok(Ok(answer)) => (atoms::answer(), encode_answer(env, answer)).encode(env),
        Ok(Err(failure)) => error::refused(env, failure),
        Err(access) => {
            let execution = Execution::access(instance, access, options.limits.clone());
            started(env, execution, options, lane)
        }
    })
}

// Snapshots

/// The instance's state as a module in the binary format, whose instances begin with what it exports as `hook`.
#[rustler::nif]
fn instance_snapshot<'a>(
    env: Env<'a>,
    guest: Handle<'a, GuestResource>,
    hook: Option<String>,
    options: CallOptions,
) -> Term<'a> {
    started(env, Execution::snapshot(runtime(), &guest.0, hook, options.limits.clone()), &options, Lane::Inline)
}

/// The module of the last snapshot, if it is still what the instance's state is; else `nil`.
#[rustler::nif]
fn instance_fork<'a>(env: Env<'a>, guest: Handle<'a, GuestResource>) -> Term<'a> {
    let module = guest.0.fork().map(|module| ResourceArc::new(ModuleResource(module)));
    module.encode(env)
}

/// The same made anew: a module whose instances are in the instance's state, and snapshottable.
#[rustler::nif]
fn instance_fork_anew<'a>(
    env: Env<'a>,
    guest: Handle<'a, GuestResource>,
    hook: Option<String>,
    engine: EngineTuple<'a>,
    options: CallOptions,
) -> NifResult<Term<'a>> {
    let forking = Execution::fork(runtime(), &guest.0, (hook, engine.try_into()?), options.limits.clone());
    Ok(started(env, forking, &options, Lane::Inline))
}
