//! What a call is made with: its limits, its engine, what it gives its guest.

use super::Optional;
use super::engine::EngineTuple;
use super::grants::GrantsMap;
use crate::atoms;
use crate::resources::{CancelResource, OptionsResource};
use cybernetic_wasm_core::engine::EngineConfig;
use cybernetic_wasm_core::execution::{Execution, Setup};
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::module::Module;
use cybernetic_wasm_core::runtime::Runtime;
use cybernetic_wasm_core::system::Grants;
use cybernetic_wasm_core::{Cancel, Stdin};
use rustler::{Atom, Binary, Decoder, NifRecord, NifResult, ResourceArc, Term};
use std::sync::Arc;
use std::time::Duration;

/// The limits of `Cybernetic.WASM.Limits`, and how long the call may wait.
#[derive(NifRecord)]
#[tag = "limits"]
#[rustler(decode)]
struct LimitsRecord {
    fuel: u64,
    max_memory: u64,
    max_table_elements: u64,
    max_instances: u64,
    timeout: u64,
    max_output: u64,
    max_host_calls: u64,
    wait: u64,
}

impl From<LimitsRecord> for Limits {
    fn from(record: LimitsRecord) -> Self {
        Limits {
            fuel: record.fuel,
            max_memory: record.max_memory,
            max_table_elements: record.max_table_elements,
            max_instances: record.max_instances,
            time: Duration::from_millis(record.timeout),
            max_output: record.max_output,
            max_host_calls: record.max_host_calls,
            wait: Duration::from_millis(record.wait),
        }
    }
}

/// The limits of a guest's whole life, where it has such.
pub(crate) struct Budget(pub(crate) Option<Limits>);

impl<'a> Decoder<'a> for Budget {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let record: Optional<LimitsRecord> = term.decode()?;
        Ok(Self(record.0.map(Limits::from)))
    }
}

/// A call's options as `Execution.Plan` gives them.
struct CallRecord<'a> {
    /// A reference to limits that were decoded before, or the limits themselves.
    limits: Term<'a>,
    /// Where the call wants another engine than the module's.
    engine: Optional<EngineTuple<'a>>,
    /// Whether to tell what the call used when it ends well; a failure always tells.
    report: bool,
    cancel: Optional<ResourceArc<CancelResource>>,
    /// What a fresh guest is given of the system.
    grants: Optional<GrantsMap<'a>>,
    console: Optional<ConsoleRecord<'a>>,
}

// By hand, since what is derived allocates, and every call with options has one.
impl<'a> Decoder<'a> for CallRecord<'a> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let (tag, limits, engine, report, cancel, grants, console): (Atom, _, _, _, _, _, _) = term.decode()?;
        match tag == atoms::call() {
            true => Ok(Self { limits, engine, report, cancel, grants, console }),
            false => Err(rustler::Error::BadArg),
        }
    }
}

/// A call's standard input, and whether its output is handed over while it runs.
#[derive(NifRecord)]
#[tag = "console"]
#[rustler(decode)]
struct ConsoleRecord<'a> {
    /// A binary, `:pull` for input that is asked for, or `nil`.
    stdin: Term<'a>,
    hand_over: bool,
}

/// What a call is made with.
pub(crate) struct CallOptions {
    pub(crate) limits: Limits,
    pub(crate) report: bool,
    engine: Option<EngineConfig>,
    cancel: Option<Arc<Cancel>>,
    grants: Option<Arc<Grants>>,
    stdin: Option<Stdin>,
    hand_over: bool,
}

impl CallOptions {
    /// Gives a new execution what of these options is not its limits.
    pub(crate) fn prepare(&self, execution: &mut Execution) {
        if let Some(cancel) = &self.cancel {
            execution.cancel_by(cancel);
        }
        if let Some(stdin) = &self.stdin {
            execution.set_stdin(stdin.clone());
        }
        if self.hand_over {
            execution.hand_over_output();
        }
    }

    /// What a guest of `module` is made with.
    pub(crate) fn setup(&self, runtime: &Arc<Runtime>, module: &Module) -> Setup {
        let engine = self.engine.unwrap_or(*module.code().requested());
        Setup { runtime: Arc::clone(runtime), limits: self.limits.clone(), engine, grants: self.grants.clone() }
    }

    fn of(limits: Limits) -> Self {
        let (engine, cancel, grants, stdin) = (None, None, None, None);
        Self { limits, report: false, engine, cancel, grants, stdin, hand_over: false }
    }
}

/// A [`CallRecord`]; or a reference to kept limits, which by themselves neither report nor can be cancelled, and grant nothing.
impl<'a> Decoder<'a> for CallOptions {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if let Some(limits) = kept(term) {
            return Ok(Self::of(limits));
        }
        let record: CallRecord<'a> = term.decode()?;
        let limits = match kept(record.limits) {
            Some(limits) => limits,
            None => record.limits.decode::<LimitsRecord>()?.into(),
        };
        let console = record.console.0.as_ref();
        Ok(Self {
            limits,
            report: record.report,
            engine: record.engine.0.map(TryInto::try_into).transpose()?,
            cancel: record.cancel.0.map(|cancel| Arc::clone(&cancel.0)),
            grants: record.grants.0.map(TryInto::try_into).transpose()?.map(Arc::new),
            stdin: console.map(|console| stdin(console.stdin)).transpose()?.flatten(),
            hand_over: console.is_some_and(|console| console.hand_over),
        })
    }
}

fn kept(term: Term<'_>) -> Option<Limits> {
    Some(term.decode::<&OptionsResource>().ok()?.0.clone())
}

fn stdin(term: Term<'_>) -> NifResult<Option<Stdin>> {
    if let Ok(bytes) = term.decode::<Binary<'_>>() {
        return Ok(Some(Stdin::Bytes(bytes.to_vec())));
    }
    let name: Atom = term.decode()?;
    Ok((name == atoms::pull()).then_some(Stdin::Asked))
}

/// Limits that many calls are made with, decoded once.
pub(crate) fn keep(term: Term<'_>) -> NifResult<ResourceArc<OptionsResource>> {
    let limits: LimitsRecord = term.decode()?;
    Ok(ResourceArc::new(OptionsResource(limits.into())))
}
