//! Engine configurations, and the node's settings.

use crate::atoms;
use cybernetic_wasm_core::artifacts::{ArtifactSettings, Platform};
use cybernetic_wasm_core::compiler::{Budget, CompilerSettings};
use cybernetic_wasm_core::engine::{Allocation, EngineConfig, Features, Metering};
use cybernetic_wasm_core::limits::NodeLimits;
use cybernetic_wasm_core::runtime::Settings;
use rustler::{Atom, Error, NifMap, NifResult, NifTuple, Term};
use std::time::Duration;

/// `{metering, deterministic, features that are off, max_stack, allocation}`.
#[derive(NifTuple)]
#[rustler(decode)]
pub(crate) struct EngineTuple<'a> {
    metering: Atom,
    deterministic: bool,
    features_off: Vec<Term<'a>>,
    max_stack: u64,
    allocation: Atom,
}

impl TryFrom<EngineTuple<'_>> for EngineConfig {
    type Error = Error;

    fn try_from(tuple: EngineTuple<'_>) -> NifResult<Self> {
        let off = |features: Features, name: Term<'_>| {
            let name = name.atom_to_string()?;
            features.without(&name).ok_or(Error::BadArg)
        };
        Ok(EngineConfig {
            metering: if tuple.metering == atoms::epoch() { Metering::Epoch } else { Metering::Fuel },
            deterministic: tuple.deterministic,
            features: tuple.features_off.into_iter().try_fold(Features::default(), off)?,
            max_stack: tuple.max_stack,
            allocation: if tuple.allocation == atoms::on_demand() { Allocation::OnDemand } else { Allocation::Pooling },
        })
    }
}

/// `{bytes, milliseconds}` that compiling may take.
#[derive(NifTuple)]
#[rustler(decode)]
pub(crate) struct BudgetTuple {
    memory: u64,
    time: u64,
}

impl From<BudgetTuple> for Budget {
    fn from(BudgetTuple { memory, time }: BudgetTuple) -> Self {
        Budget { memory, time: Duration::from_millis(time) }
    }
}

/// The node's settings; an absent ceiling keeps the core's default.
#[derive(NifMap)]
#[rustler(decode)]
pub(crate) struct SettingsMap {
    max_live_instances: Option<u64>,
    max_total_memory: u64,
    max_code_memory: u64,
    max_open_files: Option<u64>,
    parallel_execution: bool,
    dirty_schedulers: u64,
    cache_bytes: u64,
    /// Milliseconds; `nil`: for ever.
    cache_time: Option<u64>,
    /// The folder of compiled code, and the bytes that it may have; `nil` keeps none.
    artifacts: Option<(String, u64)>,
    max_stack: u64,
    pooling: bool,
    /// The program that compiles; `nil` compiles in this process.
    compiler: Option<String>,
    compile_budget: BudgetTuple,
    max_compile_queue: u64,
}

impl From<SettingsMap> for Settings {
    fn from(map: SettingsMap) -> Self {
        let default = NodeLimits::default();
        Settings {
            node: NodeLimits {
                max_live_instances: map.max_live_instances.unwrap_or(default.max_live_instances),
                max_total_memory: map.max_total_memory,
                max_code_memory: map.max_code_memory,
                max_open_files: map.max_open_files.unwrap_or(default.max_open_files),
                parallel_execution: map.parallel_execution,
                dirty_schedulers: map.dirty_schedulers,
            },
            cache_bytes: map.cache_bytes,
            cache_time: map.cache_time.map(Duration::from_millis),
            artifacts: map.artifacts.map(|(folder, most_bytes)| ArtifactSettings {
                folder: folder.into(),
                most_bytes,
                platform: Platform::default(),
            }),
            default_stack: map.max_stack,
            pooling: map.pooling,
            compiler: CompilerSettings {
                executable: map.compiler.map(Into::into),
                budget: map.compile_budget.into(),
                queue_bytes: map.max_compile_queue,
            },
        }
    }
}
