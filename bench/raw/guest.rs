//! Guests on plain Wasmtime, with the library's allocator and the library's yield interval.

use cybernetic_wasm_core::engine::pool;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;
use wasmtime::{Config, Engine, Func, Instance, InstancePre, Linker, Module, OperatorCost, Result, Store, Val};
use wasmtime::{InstanceAllocationStrategy, error::Context as _};

/// The library's own, which are not public: its yield interval, its default stack, and the fiber's room beyond it.
const YIELD_FUEL: u64 = 50_000;
const STACK: usize = 1_000_000;
const HOST_STACK: usize = 512 << 10;
const TICK: Duration = Duration::from_micros(500);

/// More than any kernel burns.
const FUEL: u64 = 1 << 50;

/// How a guest is metered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Metering {
    None,
    Epoch,
    Fuel,
    /// By fuel, but only calls and loops cost any.
    CallsAndLoops,
    /// By fuel, but only entering a function costs any, which no cost table can change.
    Entries,
}

impl Metering {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Metering::None => "none",
            Metering::Epoch => "epoch",
            Metering::Fuel => "fuel",
            Metering::CallsAndLoops => "fuel for calls and loops",
            Metering::Entries => "fuel for function entries",
        }
    }

    fn costs(self) -> Result<Option<OperatorCost>> {
        const CALLS_AND_LOOPS: [&str; 5] = ["Call", "CallIndirect", "ReturnCall", "ReturnCallIndirect", "Loop"];
        match self {
            Metering::CallsAndLoops => costs(&CALLS_AND_LOOPS).map(Some),
            Metering::Entries => costs(&[]).map(Some),
            _ => Ok(None),
        }
    }

    fn burns_fuel(self) -> bool {
        !matches!(self, Metering::None | Metering::Epoch)
    }
}

/// One unit for each of `operators`, nothing for all others. The table has a field for every operator there is, so it
/// is made by way of its names.
fn costs(operators: &[&str]) -> Result<OperatorCost> {
    let mut table = serde_json::to_value(OperatorCost::new())?;
    for (operator, cost) in table.as_object_mut().context("the cost table is no object")? {
        if cost.is_number() {
            *cost = u8::from(operators.contains(&operator.as_str())).into();
        }
    }
    Ok(serde_json::from_value(table)?)
}

/// An engine and what its guests are metered by.
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) metering: Metering,
    _ticker: Option<Ticker>,
}

impl Host {
    pub(crate) fn new(metering: Metering) -> Result<Self> {
        let mut config = Config::new();
        config
            .consume_fuel(metering.burns_fuel())
            .epoch_interruption(metering == Metering::Epoch)
            .max_wasm_stack(STACK)
            .async_stack_size(STACK + HOST_STACK)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        if let Some(costs) = metering.costs()? {
            config.operator_cost(costs);
        }
        let engine = Engine::new(&config)?;
        let ticker = (metering == Metering::Epoch).then(|| Ticker::start(&engine));
        Ok(Self { engine, metering, _ticker: ticker })
    }

    pub(crate) fn prepare(&self, wasm: &[u8]) -> Result<InstancePre<()>> {
        Linker::new(&self.engine).instantiate_pre(&Module::from_binary(&self.engine, wasm)?)
    }

    /// Loads compiled code from a file, as who trusts it does.
    #[expect(unsafe_code, reason = "that is what the library's way is measured against")]
    pub(crate) fn deserialize(&self, path: &std::path::Path) -> Result<()> {
        // SAFETY: this process has just written the file, with what this engine gave, in a folder of its own.
        unsafe { Module::deserialize_file(&self.engine, path).map(drop) }
    }

    pub(crate) fn store(&self) -> Result<Store<()>> {
        self.store_of(())
    }

    pub(crate) fn store_of<T: 'static>(&self, data: T) -> Result<Store<T>> {
        let mut store = Store::new(&self.engine, data);
        match self.metering {
            Metering::None => {}
            Metering::Epoch => {
                store.set_epoch_deadline(1);
                store.epoch_deadline_async_yield_and_update(1);
            }
            _ => {
                store.set_fuel(FUEL)?;
                store.fuel_async_yield_interval(Some(YIELD_FUEL))?;
            }
        }
        Ok(store)
    }

    pub(crate) fn guest(&self, wasm: &[u8]) -> Result<Guest> {
        let (prepared, mut store) = (self.prepare(wasm)?, self.store()?);
        let instance = drive(prepared.instantiate_async(&mut store))?;
        Ok(Guest { store, instance })
    }
}

/// A live instance.
pub(crate) struct Guest {
    pub(crate) store: Store<()>,
    pub(crate) instance: Instance,
}

impl Guest {
    pub(crate) fn func(&mut self, name: &str) -> Result<Func> {
        self.instance.get_func(&mut self.store, name).with_context(|| format!("no function {name}"))
    }

    /// Calls a function of one result, as the library does: its type is known only when it runs.
    pub(crate) fn call(&mut self, func: &Func, args: &[Val]) -> Result<Val> {
        let mut results = [Val::I32(0)];
        drive(func.call_async(&mut self.store, args, &mut results))?;
        Ok(results[0])
    }
}

/// Polls until it is done: a guest on a scheduler of its own.
pub(crate) fn drive<F: Future>(future: F) -> F::Output {
    let (mut future, mut context) = (pin!(future), Context::from_waker(Waker::noop()));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

/// Advances an engine's epoch as often as the library does while guests run.
struct Ticker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: &Engine) -> Self {
        let (stop, engine) = (Arc::<AtomicBool>::default(), engine.clone());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Relaxed) {
                std::thread::sleep(TICK);
                engine.increment_epoch();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
