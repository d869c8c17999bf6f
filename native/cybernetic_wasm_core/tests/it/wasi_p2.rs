//! WASI 0.2 without a VM around it: what a component is given and refused, how its input and output pass through the steps, and
//! that waiting costs nothing.

mod cli;
mod clocks;
mod files;
mod http;
mod linking;
mod polls;
mod random;
mod sockets;
mod stdio;

use crate::support::{Driver, Loaded, PATIENCE, eventually_unused, limits, load, own, shared, try_load, wait};
use cybernetic_wasm_core::error::{Limit, LimitError, Trap};
use cybernetic_wasm_core::execution::{Execution, Setup, Step};
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::network::Policy;
use cybernetic_wasm_core::system::{Clocks, FileTimes, Grants, Random};
use cybernetic_wasm_core::value::Value;
use cybernetic_wasm_core::wit::{Passed, Val};
use cybernetic_wasm_core::{Cancel, Denial, Error, Stdin, Stream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A command whose first argument says which function it calls.
fn guest() -> Loaded {
    guest_on(shared())
}

fn guest_on(runtime: &Arc<cybernetic_wasm_core::runtime::Runtime>) -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test/fixtures/components/wasi_calls.wasm");
    load(runtime, std::fs::read(path).unwrap())
}

fn nothing() -> Grants {
    Grants { times: FileTimes::Real, quota: 1_000_000, max_open: 64, ..Grants::none() }
}

fn stdio() -> Grants {
    Grants { stdio: [true; 3], ..nothing() }
}

fn clocks(clocks: Clocks) -> Grants {
    Grants { clocks, ..stdio() }
}

/// A run of the command with these arguments, not yet stepped.
fn start_on(guest: &Loaded, args: &[&str], grants: Grants, limits: Limits) -> Execution {
    let args = std::iter::once("calls").chain(args.iter().copied()).map(ToOwned::to_owned).collect();
    let setup = Setup { grants: Some(Arc::new(Grants { args, ..grants })), ..guest.setup(limits) };
    let function = guest.function("wasi:cli/run#run").unwrap();
    Execution::call(&guest.module, &function, Vec::new(), setup)
}

fn begin(args: &[&str], grants: Grants) -> Execution {
    begin_of(&guest(), args, grants)
}

fn begin_of(guest: &Loaded, args: &[&str], grants: Grants) -> Execution {
    start_on(guest, args, grants, limits())
}

/// What came of a run.
#[derive(Debug)]
struct Ran {
    /// Whether it ended well.
    result: Result<bool, Error>,
    stdout: String,
    stderr: String,
    denials: Vec<Denial>,
}

impl Ran {
    /// What it wrote, of one that ended well and was refused nothing.
    fn said(self) -> String {
        assert!(matches!(self.result, Ok(true)), "{self:?}");
        assert_eq!(self.denials, [], "{:?}", self.stdout);
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// Why it trapped.
    fn trap(self) -> Trap {
        match self.result {
            Err(Error::Trap(trap)) => trap,
            other => panic!("no trap: {other:?}"),
        }
    }

    fn limit(self) -> LimitError {
        match self.result {
            Err(Error::Limit(limit)) => limit,
            other => panic!("no limit: {other:?}"),
        }
    }
}

fn ended(mut execution: Execution) -> Ran {
    let result = Driver::default().values(&mut execution).map(|values| went_well(&values));
    told(result, &mut execution)
}

fn told(result: Result<bool, Error>, execution: &mut Execution) -> Ran {
    let tally = execution.tally();
    let text = |stream| String::from_utf8(tally.output.of(stream).to_vec()).unwrap();
    Ran { result, stdout: text(Stream::Stdout), stderr: text(Stream::Stderr), denials: tally.denials }
}

fn went_well(values: &[Value]) -> bool {
    match values {
        [Value::Wit(typed)] => matches!(&typed.passed, Passed::Val(Val::Result(Ok(None)))),
        other => panic!("not what a command gives: {other:?}"),
    }
}

fn run(args: &[&str], grants: Grants) -> Ran {
    ended(begin(args, grants))
}

/// The next step that is more than a spent slice.
fn next(execution: &mut Execution) -> Step {
    loop {
        match execution.step(Lane::Dirty) {
            Step::Yielded => {}
            step => return step,
        }
    }
}

fn denial(capability: &'static str, operation: &'static str, detail: Option<&str>, errno: &'static str) -> Denial {
    Denial { capability, operation, detail: detail.map(ToOwned::to_owned), errno, count: 1 }
}
