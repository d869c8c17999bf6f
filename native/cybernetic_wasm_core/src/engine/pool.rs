//! The pool that an engine reserves: its shape, and its stacks, which are set aside one by one.

use super::Engine;
use crate::error::{Limit, LimitError};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::PoolingAllocationConfig;

/// Guests that one engine's pool holds at once; more of them move to the on-demand engine of the same configuration.
/// Each slot takes two mappings for ever, and a node may have several engines.
pub const POOL_SLOTS: u32 = 1_000;

/// Stacks of a pool that no new guest gets.
const REENTRANCE_STACKS: usize = POOL_SLOTS as usize / 5;

/// Table elements that a pool's slot holds.
pub const POOL_TABLE_ELEMENTS: u64 = 100_000;

/// Memories and tables of one module that a pool takes; a module with more goes on demand.
pub const POOL_PER_MODULE: u32 = 4;

/// Bytes of an instance, its globals and function references, that a pool's slot holds.
pub(crate) const POOL_INSTANCE: u64 = 1 << 20;

/// Instances of modules that a component in a pool may be made of: they are counted, and nothing is reserved for them.
pub(crate) const POOL_INSTANCES: u32 = 16;

/// Tables for each of a pool's slots: a component's instances have some of their own.
const TABLES: u32 = 3;

/// Bytes of a memory that a pool's slot holds.
pub(crate) const POOL_MEMORY: u64 = 4 << 30;

/// The pool's shape: slots for [`POOL_SLOTS`] guests; what a guest may really use is its limits' affair.
pub fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(POOL_INSTANCES * POOL_SLOTS)
        .total_component_instances(POOL_SLOTS)
        .total_memories(POOL_SLOTS)
        .total_tables(TABLES * POOL_SLOTS)
        .total_stacks(POOL_SLOTS)
        .total_gc_heaps(POOL_SLOTS)
        .max_memories_per_module(POOL_PER_MODULE)
        .max_tables_per_module(POOL_PER_MODULE)
        .max_core_instance_size(2 * POOL_INSTANCE as usize)
        .table_elements(POOL_TABLE_ELEMENTS as usize)
        .max_memory_size(POOL_MEMORY as usize)
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(8 << 10);
    pool
}

/// A stack of the engine's pool, set aside for a guest or a re-entrant call; `None` where stacks are mapped as they are
/// needed. Without it, guests that re-enter would take the stacks of those that were let in and have not run yet.
pub(crate) type Stack = Option<OwnedSemaphorePermit>;

/// Every slot of the pool is taken, or every stack set aside.
#[derive(Debug, thiserror::Error)]
#[error("the pool is full")]
pub(crate) struct PoolFull;

impl From<PoolFull> for LimitError {
    fn from(_: PoolFull) -> Self {
        LimitError::new(Limit::LiveInstances, POOL_SLOTS.into(), u64::from(POOL_SLOTS) + 1)
    }
}

impl Engine {
    /// A stack for a new guest, which may want more of them to re-enter: the pool's last are kept for those inside.
    pub(crate) fn guest_stack(&self) -> Result<Stack, PoolFull> {
        match &self.stacks {
            Some(stacks) if stacks.available_permits() <= REENTRANCE_STACKS => Err(PoolFull),
            _ => self.stack(),
        }
    }

    /// A stack for a re-entrant call.
    pub(crate) fn stack(&self) -> Result<Stack, PoolFull> {
        let stack = self.stacks.as_ref().map(|stacks| Arc::clone(stacks).try_acquire_owned());
        stack.transpose().map_err(|_| PoolFull)
    }
}
