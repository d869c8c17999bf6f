//! The same calls through the library's core crate, which is what the library adds to Wasmtime before the BEAM comes in.

use crate::measure::Subject;
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::execution::{Execution, Product, Setup, Step};
use cybernetic_wasm_core::instance::Instance;
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::live::LiveGuest;
use cybernetic_wasm_core::module::Module;
use cybernetic_wasm_core::runtime::{Runtime, Settings};
use cybernetic_wasm_core::system::{Clocks, Directory, FileTimes, Grants, Random};
use cybernetic_wasm_core::value::Value;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::{Result, format_err};

/// The library's defaults.
const LIMITS: Limits = Limits {
    fuel: 1_000_000_000,
    max_memory: 100_000_000,
    max_table_elements: 100_000,
    max_instances: 64,
    time: Duration::from_secs(5),
    max_output: 10_000_000,
    max_host_calls: 1_000_000,
    max_transfer: 16 << 20,
    max_resources: 10_000,
    wait: Duration::ZERO,
};

pub(crate) fn warm<'a>(name: &str, runtime: &Arc<Runtime>, wasm: &[u8]) -> Result<Subject<'a>> {
    let module = load(runtime, wasm)?;
    let guest = instantiate(runtime, &module, false)?;
    let add = module.code().function("add")?;
    Ok(Subject::each(name, move || {
        finish(Execution::call_on(Instance::first(&guest), &add, args(), LIMITS)?, Lane::Inline).map(|_| ())
    }))
}

pub(crate) fn fresh<'a>(name: &str, runtime: &Arc<Runtime>, wasm: &[u8]) -> Result<Subject<'a>> {
    fresh_call(name, runtime, wasm, ("add", &args()))
}

pub(crate) fn fresh_call<'a>(
    name: &str,
    runtime: &Arc<Runtime>,
    wasm: &[u8],
    (function, args): (&str, &[Value]),
) -> Result<Subject<'a>> {
    let module = load(runtime, wasm)?;
    let function = module.code().function(function)?;
    let (setup, args) = (setup(runtime, &module), args.to_vec());
    Ok(Subject::each(name, move || {
        finish(Execution::call(&module, &function, black_box(args.clone()), setup.clone()), Lane::Inline).map(|_| ())
    }))
}

/// A module whose initial state is that of an instance after this call.
pub(crate) fn snapshot(runtime: &Arc<Runtime>, wasm: &[u8], (function, arg): (&str, i32)) -> Result<Vec<u8>> {
    let module = load(runtime, wasm)?;
    let guest = instantiate(runtime, &module, true)?;
    let function = guest.module().code().function(function)?;
    let args = vec![Value::I32(arg)];
    finish(Execution::call_on(Instance::first(&guest), &function, args, LIMITS)?, Lane::Dirty)?;
    match finish(Execution::snapshot(runtime, &guest, None, LIMITS)?, Lane::Dirty)? {
        Product::Snapshot(snapshot) => Ok(snapshot.as_ref().to_vec()),
        other => Err(format_err!("not a snapshot: {other:?}")),
    }
}

pub(crate) fn kernel<'a>(
    name: String,
    runtime: &Arc<Runtime>,
    wasm: &[u8],
    (kernel, argument): (&str, u32),
) -> Result<Subject<'a>> {
    let module = load(runtime, wasm)?;
    let guest = instantiate(runtime, &module, false)?;
    let function = module.code().function(kernel)?;
    let limits = Limits { fuel: 1 << 50, time: Duration::from_secs(600), ..LIMITS };
    Ok(Subject::each(name, move || {
        let args = vec![Value::I32(argument as i32)];
        finish(Execution::call_on(Instance::first(&guest), &function, args, limits.clone())?, Lane::Dirty).map(|_| ())
    }))
}

/// A command, with its standard output captured and this directory to read.
pub(crate) fn command<'a>(
    name: &str,
    runtime: &Arc<Runtime>,
    wasm: &[u8],
    (directory, args): (&Path, &[&str]),
) -> Result<Subject<'a>> {
    let module = load(runtime, wasm)?;
    let start = module.code().function("_start")?;
    let dirs = vec![Directory { host: directory.into(), guest: "/d".into(), writable: false }];
    let grants = Arc::new(Grants {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        dirs: if args.len() > 1 { dirs } else { Vec::new() },
        times: FileTimes::Real,
        max_open: 64,
        clocks: Clocks::Real,
        random: Random::System,
        stdio: [true; 3],
        ..Grants::none()
    });
    let setup = Setup { grants: Some(grants), ..setup(runtime, &module) };
    Ok(Subject::each(name, move || {
        match finish(Execution::call(&module, &start, Vec::new(), setup.clone()), Lane::Dirty) {
            Err(error) if !matches!(error.downcast_ref(), Some(Error::Exit(0))) => Err(error),
            _ => Ok(()),
        }
    }))
}

pub(crate) fn runtime() -> Arc<Runtime> {
    Runtime::new(Settings::default())
}

fn args() -> Vec<Value> {
    black_box(vec![Value::I32(2), Value::I32(3)])
}

pub(crate) fn load(runtime: &Arc<Runtime>, wasm: &[u8]) -> Result<Arc<Module>> {
    match finish(Execution::load(runtime, wasm, runtime.default_config()), Lane::Dirty)? {
        Product::Module(module) => Ok(module),
        other => Err(format_err!("not a module: {other:?}")),
    }
}

pub(crate) fn setup(runtime: &Arc<Runtime>, module: &Module) -> Setup {
    Setup {
        runtime: Arc::clone(runtime),
        limits: LIMITS,
        engine: *module.code().requested(),
        grants: None,
        owner: None,
    }
}

fn instantiate(runtime: &Arc<Runtime>, module: &Arc<Module>, snapshottable: bool) -> Result<Arc<LiveGuest>> {
    match finish(Execution::instantiate(module, snapshottable, setup(runtime, module)), Lane::Dirty)? {
        Product::Guest(guest) => Ok(guest),
        other => Err(format_err!("not an instance: {other:?}")),
    }
}

fn finish(mut execution: Execution, lane: Lane) -> Result<Product> {
    loop {
        match execution.step(lane) {
            Step::Finished(product) => {
                black_box(execution.usage());
                return Ok(product);
            }
            Step::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
}
