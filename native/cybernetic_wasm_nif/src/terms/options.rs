//! Limits, engine configurations and node settings, as Elixir's structs flatten them for the way here.

use crate::atoms;
use crate::resources::{CancelResource, OptionsResource};
use crate::terms::wasi;
use cybernetic_wasm_core::engine::{Allocation, EngineConfig, Features, Metering};
use cybernetic_wasm_core::execution::{Execution, Setup};
use cybernetic_wasm_core::limits::{Limits, NodeLimits};
use cybernetic_wasm_core::module::Module;
use cybernetic_wasm_core::runtime::{Runtime, Settings};
use cybernetic_wasm_core::system::Grants;
use cybernetic_wasm_core::{Cancel, Stdin};
use rustler::{Atom, Decoder, Error, NifMap, NifResult, NifTuple, ResourceArc, Term};
use std::sync::Arc;
use std::time::Duration;

#[derive(NifTuple)]
struct LimitsTuple {
    fuel: u64,
    max_memory: u64,
    max_table_elements: u64,
    max_instances: u64,
    time_ms: u64,
    max_output: u64,
    max_host_calls: u64,
    wait_ms: u64,
}

/// What a call is made with: its limits, and an engine where it wants another than the module's.
pub(crate) struct CallOptions {
    pub(crate) limits: Limits,
    pub(crate) engine: Option<EngineConfig>,
    /// Whether to tell what the call used when it ends well; a failure always tells.
    pub(crate) report: bool,
    /// What can end the call from outside.
    cancel: Option<Arc<Cancel>>,
    /// What a fresh guest is given of the system.
    wasi: Option<Arc<Grants>>,
    console: Console,
}

/// A call's standard input, and whether its output is handed over while it runs.
#[derive(Default)]
struct Console {
    stdin: Option<Stdin>,
    hand_over: bool,
}

impl CallOptions {
    /// Gives a new execution what of these options is not its limits.
    pub(crate) fn prepare(&self, execution: &mut Execution) {
        if let Some(cancel) = &self.cancel {
            execution.cancel_by(cancel);
        }
        if let Some(stdin) = &self.console.stdin {
            execution.set_stdin(stdin.clone());
        }
        if self.console.hand_over {
            execution.hand_over_output();
        }
    }

    /// What a guest of `module` is made with.
    pub(crate) fn setup(&self, runtime: &Arc<Runtime>, module: &Module) -> Setup {
        let engine = self.engine.unwrap_or(*module.code().requested());
        Setup { runtime: Arc::clone(runtime), limits: self.limits.clone(), engine, grants: self.wasi.clone() }
    }

    fn of(limits: Limits) -> Self {
        Self { limits, engine: None, report: false, cancel: None, wasi: None, console: Console::default() }
    }
}

/// `{options, report, cancel, wasi, console}`, where the options are those that a module keeps, decoded once, or
/// `{limits, engine}`. Kept options by themselves neither report nor can be cancelled, and grant nothing.
impl<'a> Decoder<'a> for CallOptions {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if let Ok(kept) = term.decode::<ResourceArc<OptionsResource>>() {
            return Ok(Self::of(kept.0.clone()));
        }
        let (options, report, cancel, wasi, console): (Term<'a>, bool, Term<'a>, Term<'a>, Term<'a>) = term.decode()?;
        let mut decoded = match options.decode::<ResourceArc<OptionsResource>>() {
            Ok(kept) => Self::of(kept.0.clone()),
            Err(_) => {
                let (limits, engine): (LimitsTuple, Option<EngineTuple>) = options.decode()?;
                let engine = engine.map(TryInto::try_into).transpose()?;
                Self { engine, ..Self::of(limits.into()) }
            }
        };
        decoded.report = report;
        if !cancel.is_atom() {
            decoded.cancel = Some(Arc::clone(&cancel.decode::<ResourceArc<CancelResource>>()?.0));
        }
        if !wasi.is_atom() {
            decoded.wasi = Some(Arc::new(wasi::decode(wasi)?));
        }
        if !console.is_atom() {
            let (stdin, hand_over): (Term<'a>, bool) = console.decode()?;
            decoded.console = Console { stdin: wasi::decode_stdin(stdin)?, hand_over };
        }
        Ok(decoded)
    }
}

/// Limits that many calls are made with, decoded once.
pub(crate) fn keep(term: Term<'_>) -> NifResult<ResourceArc<OptionsResource>> {
    let limits: LimitsTuple = term.decode()?;
    Ok(ResourceArc::new(OptionsResource(limits.into())))
}

impl From<LimitsTuple> for Limits {
    fn from(tuple: LimitsTuple) -> Self {
        Limits {
            fuel: tuple.fuel,
            max_memory: tuple.max_memory,
            max_table_elements: tuple.max_table_elements,
            max_instances: tuple.max_instances,
            time: Duration::from_millis(tuple.time_ms),
            max_output: tuple.max_output,
            max_host_calls: tuple.max_host_calls,
            wait: Duration::from_millis(tuple.wait_ms),
        }
    }
}

/// `{metering, deterministic, features that are off, max_stack}`.
#[derive(NifTuple)]
pub(crate) struct EngineTuple<'a> {
    metering: Atom,
    deterministic: bool,
    features_off: Vec<Term<'a>>,
    max_stack: u64,
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
            allocation: Allocation::Pooling,
        })
    }
}

/// The node's settings; an absent ceiling keeps the core's default.
#[derive(NifMap)]
pub(crate) struct SettingsMap {
    max_live_instances: Option<u64>,
    max_total_memory: u64,
    max_code_memory: u64,
    max_open_files: Option<u64>,
    parallel_execution: bool,
    cache_bytes: u64,
    max_stack: u64,
    pooling: bool,
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
            },
            cache_bytes: map.cache_bytes,
            default_stack: map.max_stack,
            pooling: map.pooling,
        }
    }
}
