//! Engines, one for each configuration, and the ticker of epochs that serves them.

mod config;
mod features;
mod pool;
mod ticker;

pub(crate) use config::machine;
pub use config::{Allocation, CodeConfig, EngineConfig, Metering, STACK_RANGE};
pub use features::Features;
pub(crate) use pool::{POOL_INSTANCE, POOL_INSTANCES, POOL_MEMORY, PoolFull, Stack};
pub use pool::{POOL_PER_MODULE, POOL_SLOTS, POOL_TABLE_ELEMENTS, pool};
pub(crate) use ticker::Ticker;

use crate::error::Error;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Fuel between two yields: fine enough that no poll lasts a millisecond, coarse enough to cost under two per cent.
pub(crate) const YIELD_FUEL: u64 = 50_000;

/// A Wasmtime engine with what we know about it.
pub struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    config: EngineConfig,
    /// What keeps an engine of epochs going.
    ticker: Option<Arc<Ticker>>,
    stacks: Option<Arc<Semaphore>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Engine").field(&self.config).finish()
    }
}

impl Engine {
    /// Makes an engine. Fails where the pool's address space cannot be reserved: the caller falls back to on demand.
    pub(crate) fn new(config: EngineConfig, ticker: &Arc<Ticker>) -> Result<Self, Error> {
        let wasmtime = wasmtime::Engine::new(&config.to_wasmtime()).map_err(Error::internal)?;
        let ticker = (config.metering == Metering::Epoch).then(|| Arc::clone(ticker));
        if let Some(ticker) = &ticker {
            ticker.add(wasmtime.weak());
        }
        let pooled = config.allocation == Allocation::Pooling;
        let stacks = pooled.then(|| Arc::new(Semaphore::new(POOL_SLOTS as usize)));
        Ok(Self { wasmtime, config, ticker, stacks })
    }

    /// What the engine was made for.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    pub(crate) fn ticker(&self) -> Option<&Arc<Ticker>> {
        self.ticker.as_ref()
    }
}
