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
    Ok(Subject::each(name, move || finish(Execution::call_instance(&instance, &add, args(), LIMITS)?).map(|_| ())))
}

pub(crate) fn fresh<'a>(name: &str, runtime: &Arc<Runtime>, wasm: &[u8]) -> Result<Subject<'a>> {
    let module = load(runtime, wasm)?;
    let add = module.function("add")?;
    let config = runtime.default_config();
    Ok(Subject::each(name, move || finish(Execution::call(&module, &add, args(), (LIMITS, config))?).map(|_| ())))
}

pub(crate) fn runtime() -> Arc<Runtime> {
    Runtime::new(Settings::default())
}

fn args() -> Vec<Value> {
    black_box(vec![Value::I32(2), Value::I32(3)])
}

fn load(runtime: &Arc<Runtime>, wasm: &[u8]) -> Result<Arc<Module>> {
    match finish(Execution::load(runtime, wasm.into(), runtime.default_config()))? {
        Product::Module(module) => Ok(module),
        other => Err(format_err!("not a module: {other:?}")),
    }
}

fn instantiate(module: &Arc<Module>) -> Result<Arc<Instance>> {
    match finish(Execution::instantiate(module, (LIMITS, *module.requested()))?)? {
        Product::Instance(instance) => Ok(instance),
        other => Err(format_err!("not an instance: {other:?}")),
    }
}

fn finish(mut execution: Execution) -> Result<Product> {
    loop {
        match execution.step(Lane::Inline) {
            Step::Finished(product) => {
                black_box(execution.usage());
                return Ok(product);
            }
            Step::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
}
