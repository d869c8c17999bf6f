//! The node's runtime.

use crate::resources::OptionsResource;
use crate::terms::engine::SettingsMap;
use crate::terms::{binary, call, map};
use crate::{atoms, terms};
use cybernetic_wasm_core::compiler::{BUILD, Notice};
use cybernetic_wasm_core::runtime::{Runtime, Settings};
use cybernetic_wasm_core::system::{remove_scratch_directories, terminals};
use once_cell::sync::OnceCell;
use rustler::{Atom, Encoder, Env, NifResult, ResourceArc, Term};
use std::sync::Arc;

static RUNTIME: OnceCell<Arc<Runtime>> = OnceCell::new();

/// The one runtime of this node. Elixir has started it, by the configuration, before anything is loaded.
pub(super) fn runtime() -> &'static Arc<Runtime> {
    RUNTIME.get_or_init(|| Runtime::new(Settings::default()))
}

/// Makes the runtime with these settings. One that is there, on which guests may be running, takes them for what is to come. It may
/// wait for the disk.
#[rustler::nif(schedule = "DirtyIo")]
fn runtime_start<'a>(env: Env<'a>, settings: SettingsMap) -> Term<'a> {
    let settings: Settings = settings.into();
    let runtime = RUNTIME.get_or_init(|| Runtime::new(settings.clone()));
    runtime.adjust(settings);
    match (runtime.warm_up(), runtime.no_pool()) {
        (Err(error), _) => (atoms::error(), terms::error::encode(env, &error)).encode(env),
        (Ok(()), Some(reason)) => (atoms::on_demand(), binary(env, reason.as_bytes())).encode(env),
        (Ok(()), None) => atoms::ok().encode(env),
    }
}

/// The ceilings that are worked out where the configuration names none.
#[rustler::nif]
fn runtime_ceilings<'a>(env: Env<'a>) -> Term<'a> {
    let limits = runtime().ceilings().limits();
    map(
        env,
        &[
            ("max_live_instances", limits.max_live_instances.encode(env)),
            ("max_open_files", limits.max_open_files.encode(env)),
        ],
    )
}

/// Which of the VM's own standard streams are a terminal's.
#[rustler::nif]
fn runtime_terminals() -> (bool, bool, bool) {
    terminals().into()
}

/// The application stops: what must not stay behind is removed.
#[rustler::nif(schedule = "DirtyIo")]
fn runtime_stop() -> Atom {
    if let Some(runtime) = RUNTIME.get() {
        runtime.rest();
    }
    remove_scratch_directories();
    atoms::ok()
}

#[rustler::nif]
fn runtime_stats<'a>(env: Env<'a>) -> Term<'a> {
    let stats = runtime().stats();
    let (cache, artifacts, compiler) = (stats.cache, stats.artifacts, stats.compiler);
    map(
        env,
        &[
            ("cache_hits", cache.hits.encode(env)),
            ("cache_misses", cache.misses.encode(env)),
            ("cache_joined", cache.joined.encode(env)),
            ("cache_evictions", cache.evictions.encode(env)),
            ("cache_expired", cache.expired.encode(env)),
            ("cache_too_large", cache.too_large.encode(env)),
            ("cache_entries", cache.entries.encode(env)),
            ("cache_bytes", cache.bytes.encode(env)),
            ("artifact_hits", artifacts.hits.encode(env)),
            ("artifact_misses", artifacts.misses.encode(env)),
            ("artifact_refused", artifacts.refused.encode(env)),
            ("artifact_writes", artifacts.writes.encode(env)),
            ("artifact_unwritten", artifacts.unwritten.encode(env)),
            ("artifact_evictions", artifacts.evictions.encode(env)),
            ("artifact_entries", artifacts.entries.encode(env)),
            ("artifact_bytes", artifacts.bytes.encode(env)),
            ("live_instances", stats.live_instances.encode(env)),
            ("total_memory", stats.total_memory.encode(env)),
            ("code_memory", stats.code_memory.encode(env)),
            ("open_files", stats.open_files.encode(env)),
            ("crowd", stats.crowd.encode(env)),
            ("engines", stats.engines.encode(env)),
            ("epoch_ticks", stats.ticks.encode(env)),
            ("compile_workers", compiler.workers.encode(env)),
            ("compile_worker_memory", compiler.worker_memory.encode(env)),
            ("compile_jobs", compiler.jobs.encode(env)),
            ("compile_kills", compiler.kills.encode(env)),
            ("compile_queued", compiler.queued.encode(env)),
            ("compile_queued_bytes", compiler.queued_bytes.encode(env)),
        ],
    )
}

/// Why modules are compiled in this process; `nil` where they are compiled apart. It may wait for a process that is just being
/// started.
#[rustler::nif(schedule = "DirtyIo")]
fn runtime_compiles_in_process() -> Option<String> {
    runtime().compiles_in_process()
}

/// Why no compiled code is kept on disk although it is to be; `nil` where it is, or is not to be. It may wait for the disk.
#[rustler::nif(schedule = "DirtyIo")]
fn runtime_no_artifacts() -> Option<String> {
    runtime().artifacts().and_then(|place| place.off)
}

/// What an operator should read, once: `{:in_process, why}`, `{:compiler_failed, digest, detail}`,
/// `{:too_large, digest, size, allowed}`, `{:no_artifacts, why}`, `{:artifact_refused, digest, detail}`,
/// `{:artifacts_stale, count}` or `{:artifact_unwritten, why}`.
#[rustler::nif]
fn runtime_take_notices<'a>(env: Env<'a>) -> Vec<Term<'a>> {
    let encode = |notice| match notice {
        Notice::InProcess(why) => (atoms::in_process(), why).encode(env),
        Notice::TooLarge { digest, size, allowed } => {
            (atoms::too_large(), binary(env, &digest), size, allowed).encode(env)
        }
        Notice::NoArtifacts(why) => (atoms::no_artifacts(), why).encode(env),
        Notice::ArtifactRefused { digest, detail } => {
            (atoms::artifact_refused(), binary(env, &digest), detail).encode(env)
        }
        Notice::ArtifactsStale(count) => (atoms::artifacts_stale(), count).encode(env),
        Notice::ArtifactUnwritten(why) => (atoms::artifact_unwritten(), why).encode(env),
        Notice::Failed { digest, detail } => (atoms::compiler_failed(), binary(env, &digest), detail).encode(env),
    };
    runtime().take_notices().into_iter().map(encode).collect()
}

/// Tells the build of the library, as the compiling processes tell theirs.
#[rustler::nif]
fn runtime_build() -> &'static str {
    BUILD
}

#[rustler::nif(schedule = "DirtyCpu")]
fn runtime_clear_cache() -> rustler::Atom {
    runtime().clear_cache();
    atoms::ok()
}

/// Limits that many calls are made with, decoded once.
#[rustler::nif]
fn runtime_keep_limits(limits: Term<'_>) -> NifResult<ResourceArc<OptionsResource>> {
    call::keep(limits)
}

lanes! {
    /// Does nothing: what a call into this library costs at the least, for the bench.
    fn runtime_ping, runtime_ping_dirty<'a>(_env, _lane;) -> rustler::Atom {
        atoms::ok()
    }
}
