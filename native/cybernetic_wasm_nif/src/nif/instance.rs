//! Live instances: making them, calling them, looking at them while they are idle.

use super::execution::{belongs_on_dirty, find, started, values};
use super::runtime::runtime;
use crate::atoms;
use crate::resources::{GuestResource, HostResource, ModuleResource};
use crate::terms::kept::KeptTerm;
use crate::terms::options::CallOptions;
use crate::terms::step::encode_answer;
use crate::terms::value::Terms;
use crate::terms::{access, atom, error};
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::code::Function;
use cybernetic_wasm_core::execution::Execution;
use cybernetic_wasm_core::instance::Instance;
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::linker::Source;
use cybernetic_wasm_core::member::MemberId;
use cybernetic_wasm_core::module::Module;
use cybernetic_wasm_core::value::HostRef;
use rustler::{Atom, Binary, Encoder, Env, NewBinary, NifResult, ResourceArc, Term};
use std::sync::Arc;

fn of(guest: &GuestResource, member: u32) -> Instance<'_> {
    Instance { guest: &guest.0, member: MemberId(member) }
}

// Making and ending

fn new(module: &Arc<Module>, snapshottable: bool, options: &CallOptions) -> Result<Execution, Error> {
    Ok(Execution::instantiate(module, snapshottable, options.setup(runtime(), module)))
}

#[rustler::nif]
fn instance_new<'a>(
    env: Env<'a>,
    module: &'a ModuleResource,
    snapshottable: bool,
    options: CallOptions,
    scheduling: Atom,
) -> Term<'a> {
    let proven = scheduling == atoms::adaptive() && module.0.may_instantiate_inline();
    match proven || scheduling == atoms::inline() {
        true => started(env, new(&module.0, snapshottable, &options), &options, Lane::Inline),
        false => atoms::dirty().encode(env),
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn instance_new_dirty<'a>(
    env: Env<'a>,
    module: &'a ModuleResource,
    snapshottable: bool,
    options: CallOptions,
) -> Term<'a> {
    started(env, new(&module.0, snapshottable, &options), &options, Lane::Dirty)
}

/// `:dirty` where the guest's memory takes time to unmap.
#[rustler::nif]
fn instance_reset<'a>(env: Env<'a>, instance: &'a GuestResource, options: CallOptions) -> Term<'a> {
    match instance.0.is_small() {
        true => started(env, Execution::reset(&instance.0, options.limits.clone()), &options, Lane::Inline),
        false => atoms::dirty().encode(env),
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn instance_reset_dirty<'a>(env: Env<'a>, instance: &'a GuestResource, options: CallOptions) -> Term<'a> {
    started(env, Execution::reset(&instance.0, options.limits.clone()), &options, Lane::Dirty)
}

#[rustler::nif]
fn instance_close<'a>(env: Env<'a>, instance: &'a GuestResource) -> Term<'a> {
    match instance.0.close() {
        Ok(()) => atoms::ok().encode(env),
        Err(failure) => error::refused(env, failure),
    }
}

/// `:idle`, `:busy`, `:poisoned` or `:closed`.
#[rustler::nif]
fn instance_state<'a>(env: Env<'a>, instance: &'a GuestResource) -> Term<'a> {
    atom(env, instance.0.state())
}

#[rustler::nif]
fn instance_survive_traps(instance: &GuestResource) -> Atom {
    instance.0.survive_traps();
    atoms::ok()
}

// Members

/// Keeps a place for a module that will be linked.
#[rustler::nif]
fn instance_reserve(instance: &GuestResource) -> u32 {
    instance.0.reserve().0
}

/// Tells what answers a member's host calls: the term, for as long as somebody holds the reference that this gives.
#[rustler::nif]
fn instance_set_host<'a>(env: Env<'a>, instance: &'a GuestResource, member: u32, term: Term<'a>) -> Term<'a> {
    let host: HostRef = Arc::new(KeptTerm::new(term));
    match of(instance, member).set_host(&host) {
        Ok(()) => ResourceArc::new(HostResource(host)).encode(env),
        Err(failure) => error::refused(env, failure),
    }
}

/// Links a module into the guest. For each of its imports, in order: `:host`, `:wasi`, `{:export, member, name}`
/// or `{:nothing, reason}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn instance_link<'a>(
    env: Env<'a>,
    instance: &'a GuestResource,
    member: u32,
    module: &'a ModuleResource,
    sources: Vec<Term<'a>>,
    options: CallOptions,
) -> NifResult<Term<'a>> {
    let sources = sources.into_iter().map(source).collect::<NifResult<Vec<_>>>()?;
    let setup = options.setup(runtime(), &module.0);
    let linking = Execution::link(&instance.0, MemberId(member), (&module.0, sources), setup);
    Ok(started(env, linking, &options, Lane::Dirty))
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
    let (tag, reason): (Atom, String) = term.decode()?;
    if tag == atoms::nothing() { Ok(Source::Nothing(reason)) } else { Err(rustler::Error::BadArg) }
}

// Calls

fn call(
    instance: Instance<'_>,
    function: &Arc<Function>,
    args: Terms<'_>,
    options: &CallOptions,
) -> Result<Execution, Error> {
    Execution::call_on(instance, function, values(function, args)?, options.limits.clone())
}

fn find_on(instance: Instance<'_>, name: &[u8], given: usize) -> Result<Arc<Function>, Error> {
    match instance.member {
        MemberId::FIRST => find(instance.guest.module().code(), name, given),
        _ => find(&*instance.code()?, name, given),
    }
}

#[rustler::nif]
fn instance_call<'a>(
    env: Env<'a>,
    instance: &'a GuestResource,
    member: u32,
    name: Binary<'a>,
    arguments: Terms<'a>,
    options: CallOptions,
    scheduling: Atom,
) -> Term<'a> {
    match find_on(of(instance, member), &name, arguments.len()) {
        Ok(function) if belongs_on_dirty(scheduling, &function, Some(of(instance, member))) => {
            atoms::dirty().encode(env)
        }
        Ok(function) => {
            let execution = call(of(instance, member), &function, arguments, &options);
            started(env, execution, &options, Lane::Inline)
        }
        Err(failure) => error::refused(env, failure),
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn instance_call_dirty<'a>(
    env: Env<'a>,
    instance: &'a GuestResource,
    member: u32,
    name: Binary<'a>,
    arguments: Terms<'a>,
    options: CallOptions,
) -> Term<'a> {
    let function = find_on(of(instance, member), &name, arguments.len());
    let execution = function.and_then(|function| call(of(instance, member), &function, arguments, &options));
    started(env, execution, &options, Lane::Dirty)
}

// Looking at an idle guest

fn read<'a>(env: Env<'a>, instance: Instance<'_>, memory: Option<Binary<'a>>, range: (u64, u64)) -> Term<'a> {
    let bytes = access::memory_name(memory).and_then(|memory| {
        instance.read(memory.as_deref(), range, |bytes| Term::from(NewBinary::from_slice(env, bytes)))
    });
    bytes.unwrap_or_else(|failure| error::refused(env, failure))
}

#[rustler::nif]
fn instance_read<'a>(
    env: Env<'a>,
    instance: &'a GuestResource,
    member: u32,
    memory: Option<Binary<'a>>,
    offset: u64,
    length: u64,
) -> Term<'a> {
    read(env, of(instance, member), memory, (offset, length))
}

#[rustler::nif(schedule = "DirtyCpu")]
fn instance_read_dirty<'a>(
    env: Env<'a>,
    instance: &'a GuestResource,
    member: u32,
    memory: Option<Binary<'a>>,
    offset: u64,
    length: u64,
) -> Term<'a> {
    read(env, of(instance, member), memory, (offset, length))
}

fn write<'a>(
    env: Env<'a>,
    instance: Instance<'_>,
    memory: Option<Binary<'a>>,
    (offset, bytes): (u64, Binary<'a>),
) -> Term<'a> {
    let written = access::memory_name(memory).and_then(|memory| instance.write(memory.as_deref(), offset, &bytes));
    written.map_or_else(|failure| error::refused(env, failure), |()| atoms::ok().encode(env))
}

#[rustler::nif]
fn instance_write<'a>(
    env: Env<'a>,
    instance: &'a GuestResource,
    member: u32,
    memory: Option<Binary<'a>>,
    offset: u64,
    bytes: Binary<'a>,
) -> Term<'a> {
    write(env, of(instance, member), memory, (offset, bytes))
}

#[rustler::nif(schedule = "DirtyCpu")]
fn instance_write_dirty<'a>(
    env: Env<'a>,
    instance: &'a GuestResource,
    member: u32,
    memory: Option<Binary<'a>>,
    offset: u64,
    bytes: Binary<'a>,
) -> Term<'a> {
    write(env, of(instance, member), memory, (offset, bytes))
}

/// Any other access: its answer, or the first step of an execution where it may take time.
#[rustler::nif]
fn instance_access<'a>(
    env: Env<'a>,
    instance: &'a GuestResource,
    member: u32,
    term: Term<'a>,
    options: CallOptions,
) -> NifResult<Term<'a>> {
    let module = match of(instance, member).code() {
        Ok(module) => module,
        Err(failure) => return Ok(error::refused(env, failure)),
    };
    let tag = rustler::types::tuple::get_tuple(term)?.first().ok_or(rustler::Error::BadArg)?.decode()?;
    let access = match access::decode(&module, tag, term)?.ok_or(rustler::Error::BadArg)? {
        Ok(access) => access,
        Err(failure) => return Ok(error::refused(env, failure)),
    };
    Ok(match of(instance, member).access(access) {
        Ok(Ok(answer)) => (atoms::answer(), encode_answer(env, &answer)).encode(env),
        Ok(Err(failure)) => error::refused(env, failure),
        Err(access) => {
            let execution = Execution::access(of(instance, member), access, options.limits.clone());
            started(env, execution, &options, Lane::Inline)
        }
    })
}

// Snapshots

/// The instance's state as a module in the binary format, and a number that [`instance_keep_fork`] takes.
#[rustler::nif]
fn instance_snapshot<'a>(env: Env<'a>, instance: &'a GuestResource, options: CallOptions) -> Term<'a> {
    started(env, Execution::snapshot(runtime(), &instance.0, options.limits.clone()), &options, Lane::Inline)
}

/// The module of the last snapshot, if it is still what the instance's state is; else `nil`.
#[rustler::nif]
fn instance_fork<'a>(env: Env<'a>, instance: &'a GuestResource) -> Term<'a> {
    let module = instance.0.fork().map(|module| ResourceArc::new(ModuleResource(module)));
    module.encode(env)
}

#[rustler::nif]
fn instance_keep_fork(instance: &GuestResource, uses: u64, module: &ModuleResource) -> Atom {
    instance.0.keep_fork(uses, &module.0);
    atoms::ok()
}
