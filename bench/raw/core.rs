//! The same calls through the library's core crate, which is what the library adds to Wasmtime before the BEAM comes in.

use crate::measure::Subject;
use cybernetic_wasm_core::execution::{Execution, Lane, Product, Step};
use cybernetic_wasm_core::instance::Instance;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::module::Module;
use cybernetic_wasm_core::runtime::{Runtime, Settings};
use cybernetic_wasm_core::value::Value;
use std::hint::black_box;
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
    wait: Duration::ZERO,
};

pub(crate) fn warm<'a>(name: &str, runtime: &Arc<Runtime>, wasm: &[u8]) -> Result<Subject<'a>> {
    let module = load(runtime, wasm)?;
    let instance = instantiate(&module)?;
    let add = module.function("add")?;
    Ok(Subject::each(name, move || {
        finish(Execution::call_instance(&instance, &add, args(), LIMITS)?, Lane::Inline).map(|_| ())
    }))
}

pub(crate) fn fresh<'a>(name: &str, runtime: &Arc<Runtime>, wasm: &[u8]) -> Result<Subject<'a>> {
    let module = load(runtime, wasm)?;
    let add = module.function("add")?;
    let config = runtime.default_config();
    Ok(Subject::each(name, move || {
        finish(Execution::call(&module, &add, args(), (LIMITS, config))?, Lane::Inline).map(|_| ())
    }))
}

pub(crate) fn kernel<'a>(
    name: String,
    runtime: &Arc<Runtime>,
    wasm: &[u8],
    (kernel, argument): (&str, u32),
) -> Result<Subject<'a>> {
    let module = load(runtime, wasm)?;
    let instance = instantiate(&module)?;
    let function = module.function(kernel)?;
    let limits = Limits { fuel: 1 << 50, time: Duration::from_secs(600), ..LIMITS };
    Ok(Subject::each(name, move || {
        let args = vec![Value::I32(argument as i32)];
        finish(Execution::call_instance(&instance, &function, args, limits.clone())?, Lane::Dirty).map(|_| ())
    }))
}

pub(crate) fn runtime() -> Arc<Runtime> {
    Runtime::new(Settings::default())
}

fn args() -> Vec<Value> {
    black_box(vec![Value::I32(2), Value::I32(3)])
}

fn load(runtime: &Arc<Runtime>, wasm: &[u8]) -> Result<Arc<Module>> {
    match finish(Execution::load(runtime, wasm, runtime.default_config()), Lane::Dirty)? {
        Product::Module(module) => Ok(module),
        other => Err(format_err!("not a module: {other:?}")),
    }
}

fn instantiate(module: &Arc<Module>) -> Result<Arc<Instance>> {
    match finish(Execution::instantiate(module, false, (LIMITS, *module.requested()))?, Lane::Dirty)? {
        Product::Instance(instance) => Ok(instance),
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
