//! What a call is made with: its limits, its engine, what it gives its guest.

use super::Optional;
use super::engine::EngineTuple;
use super::grants::GrantsMap;
use super::owner::OwnerTuple;
use crate::atoms;
use crate::resources::{CancelResource, OptionsResource};
use cybernetic_wasm_core::engine::EngineConfig;
use cybernetic_wasm_core::execution::{Execution, Setup};
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::module::Module;
use cybernetic_wasm_core::runtime::Runtime;
use cybernetic_wasm_core::system::Grants;
use cybernetic_wasm_core::wit::Owner;
use cybernetic_wasm_core::{Cancel, Stdin};
use rustler::{Atom, Binary, Decoder, NifRecord, NifResult, ResourceArc, Term};
use std::sync::Arc;
use std::time::Duration;

/// The limits of `Cybernetic.WASM.Limits`, and how long the call may wait.
struct LimitsTuple(Limits);

// By hand, since what is derived allocates, and every call with limits of its own has them.
impl<'a> Decoder<'a> for LimitsTuple {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        type Numbers = (u64, u64, u64, u64);
        let (tag, sizes, others, of_components): (Atom, Numbers, Numbers, (u64, u64)) = term.decode()?;
        if tag != atoms::limits() {
            return Err(rustler::Error::BadArg);
        }
        let (fuel, max_memory, max_table_elements, max_instances) = sizes;
        let (timeout, max_output, max_host_calls, wait) = others;
        let (max_transfer, max_resources) = of_components;
        Ok(Self(Limits {
            fuel,
            max_memory,
            max_table_elements,
            max_instances,
            time: Duration::from_millis(timeout),
            max_output,
            max_host_calls,
            max_transfer,
            max_resources,
            wait: Duration::from_millis(wait),
        }))
    }
}

/// The limits of a guest's whole life, where it has such.
pub(crate) struct Budget(pub(crate) Option<Limits>);

impl<'a> Decoder<'a> for Budget {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let limits: Optional<LimitsTuple> = term.decode()?;
        Ok(Self(limits.0.map(|limits| limits.0)))
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
    /// What ends resources of the host's.
    owner: Optional<OwnerTuple>,
}

// By hand, since what is derived allocates, and every call with options has one.
impl<'a> Decoder<'a> for CallRecord<'a> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let (tag, limits, engine, (report, cancel), (grants, console, owner)): (Atom, _, _, (_, _), (_, _, _)) =
            term.decode()?;
        match tag == atoms::call() {
            true => Ok(Self { limits, engine, report, cancel, grants, console, owner }),
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
    /// Apart: most calls have limits only, and this is moved about.
    beside: Option<Box<Beside>>,
}

/// What a call may have beside its limits.
struct Beside {
    report: bool,
    engine: Option<EngineConfig>,
    cancel: Option<Arc<Cancel>>,
    grants: Option<Arc<Grants>>,
    owner: Option<Arc<dyn Owner>>,
    stdin: Option<Stdin>,
    hand_over: bool,
}

impl CallOptions {
    /// Gives a new execution what of these options is not its limits.
    pub(crate) fn prepare(&self, execution: &mut Execution) {
        let Some(beside) = &self.beside else { return };
        if let Some(cancel) = &beside.cancel {
            execution.cancel_by(cancel);
        }
        if let Some(stdin) = &beside.stdin {
            execution.set_stdin(stdin.clone());
        }
        if beside.hand_over {
            execution.hand_over_output();
        }
    }

    /// Whether to tell what the call used when it ends well; a failure always tells.
    pub(crate) fn report(&self) -> bool {
        self.beside.as_ref().is_some_and(|beside| beside.report)
    }

    /// What a guest of `module` is made with.
    pub(crate) fn setup(&self, runtime: &Arc<Runtime>, module: &Module) -> Setup {
        let beside = self.beside.as_ref();
        let engine = beside.and_then(|beside| beside.engine).unwrap_or(*module.code().requested());
        let grants = beside.and_then(|beside| beside.grants.clone());
        let owner = beside.and_then(|beside| beside.owner.clone());
        Setup { runtime: Arc::clone(runtime), limits: self.limits.clone(), engine, grants, owner }
    }
}

/// A [`CallRecord`]; or limits, which by themselves neither report nor can be cancelled, and grant nothing.
impl<'a> Decoder<'a> for CallOptions {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if let Some(limits) = limits(term) {
            return Ok(Self { limits, beside: None });
        }
        let record: CallRecord<'a> = term.decode()?;
        let limits = limits(record.limits).ok_or(rustler::Error::BadArg)?;
        let console = record.console.0.as_ref();
        let beside = Beside {
            report: record.report,
            engine: record.engine.0.map(TryInto::try_into).transpose()?,
            cancel: record.cancel.0.map(|cancel| Arc::clone(&cancel.0)),
            grants: record.grants.0.map(TryInto::try_into).transpose()?.map(Arc::new),
            owner: record.owner.0.map(OwnerTuple::into_owner),
            stdin: console.map(|console| stdin(console.stdin)).transpose()?.flatten(),
            hand_over: console.is_some_and(|console| console.hand_over),
        };
        Ok(Self { limits, beside: Some(Box::new(beside)) })
    }
}

/// Those that a reference keeps, or that stand there.
fn limits(term: Term<'_>) -> Option<Limits> {
    if let Ok(kept) = term.decode::<&OptionsResource>() {
        return Some(kept.0.clone());
    }
    Some(term.decode::<LimitsTuple>().ok()?.0)
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
    let limits: LimitsTuple = term.decode()?;
    Ok(ResourceArc::new(OptionsResource(limits.0)))
}
