//! Engines, one for each configuration: everything that decides what code is compiled and how guests are allocated.

mod compiler;
mod ticker;

pub(crate) use compiler::Compiler;
pub(crate) use ticker::Ticker;

use crate::error::{Error, Limit, LimitError};
use crate::store::StoreData;
use crate::wasi;
use once_cell::sync::OnceCell;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmparser::WasmFeatures;
use wasmtime::{Config, InstanceAllocationStrategy, Linker, OperatorCost, PoolingAllocationConfig};

/// How a guest's running time is cut into slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metering {
    /// By fuel: deterministic, bounded by the call's fuel as well as by its deadline.
    Fuel,
    /// By epochs: often cheaper, bounded by the deadline alone.
    Epoch,
}

/// Where instances, memories, tables and stacks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Allocation {
    /// Slots reserved when the engine is made: a fresh instance costs microseconds.
    Pooling,
    /// Mapped for each guest: slower, no bound but the node's.
    OnDemand,
    /// The same where address space is limited: no more is reserved than a guest has, so that every access is checked in
    /// code and growing may move a memory.
    Scarce,
}

/// What an engine is made for. Two modules of the same configuration share an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EngineConfig {
    /// How running time is cut.
    pub metering: Metering,
    /// NaN canonicalisation and deterministic relaxed SIMD.
    pub deterministic: bool,
    /// The WebAssembly features that are on.
    pub features: Features,
    /// Bytes of WebAssembly stack.
    pub max_stack: u64,
    /// Where guests live.
    pub allocation: Allocation,
}

/// Fuel between two yields: fine enough that no poll lasts a millisecond, coarse enough to cost under two per cent.
pub(crate) const YIELD_FUEL: u64 = 50_000;

/// Room on a fiber beyond the WebAssembly stack, for our host functions and Wasmtime's library calls.
const HOST_STACK: u64 = 512 << 10;

/// Bytes of a memory's initial image that may be mostly empty. The image is made when the module is compiled: two bytes of
/// data far apart in each of a hundred memories would take gigabytes, and no limit of a call is in force there. Beyond this
/// the data must be half of it, as Wasmtime has it, or is copied into each instance.
const SPARSE_IMAGE: u64 = 256 << 10;

/// The smallest stack that a guest can do anything with, and the largest that a fiber may have.
pub const STACK_RANGE: std::ops::RangeInclusive<u64> = (16 << 10)..=(64 << 20);

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

/// Bytes of a memory that a pool's slot holds.
pub(crate) const POOL_MEMORY: usize = 4 << 30;

/// The features that can be switched, by the names of the option.
const SWITCHES: &[(&str, WasmFeatures)] = &[
    ("simd", WasmFeatures::SIMD),
    ("relaxed_simd", WasmFeatures::RELAXED_SIMD),
    ("bulk_memory", WasmFeatures::BULK_MEMORY),
    ("multi_value", WasmFeatures::MULTI_VALUE),
    ("reference_types", WasmFeatures::REFERENCE_TYPES),
    ("function_references", WasmFeatures::FUNCTION_REFERENCES),
    ("gc", WasmFeatures::GC),
    ("tail_call", WasmFeatures::TAIL_CALL),
    ("multi_memory", WasmFeatures::MULTI_MEMORY),
    ("memory64", WasmFeatures::MEMORY64),
    ("extended_const", WasmFeatures::EXTENDED_CONST),
    ("exceptions", WasmFeatures::EXCEPTIONS),
];

/// What a feature's own definition needs: switching the left one off takes the right ones away.
const NEEDS: &[(&str, &[&str])] = &[
    ("simd", &["relaxed_simd"]),
    ("reference_types", &["function_references", "gc", "exceptions"]),
    ("function_references", &["gc"]),
    ("bulk_memory", &[]),
];

/// A set of WebAssembly features. Threads are always off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Features(u32);

impl Default for Features {
    fn default() -> Self {
        Self((1 << SWITCHES.len()) - 1)
    }
}

impl Features {
    /// The names that can be switched, in the order of the documentation.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SWITCHES.iter().map(|(name, _)| *name)
    }

    /// Without `name` and what needs it; `None` where there is no such feature.
    pub fn without(self, name: &str) -> Option<Self> {
        let bit = SWITCHES.iter().position(|(known, _)| *known == name)?;
        let dependants = NEEDS.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, names)| names);
        let off = Self(self.0 & !(1 << bit));
        dependants.iter().try_fold(off, |features, name| features.without(name))
    }

    /// The names of those that are off.
    pub(crate) fn off(self) -> impl Iterator<Item = &'static str> {
        Self::names().enumerate().filter(move |(bit, _)| !self.has(*bit)).map(|(_, name)| name)
    }

    fn has(self, bit: usize) -> bool {
        self.0 & (1 << bit) != 0
    }

    /// The features as the validator knows them.
    pub(crate) fn to_wasm(self) -> WasmFeatures {
        let mut features = WasmFeatures::WASM3;
        features.remove(WasmFeatures::THREADS);
        for (bit, (_, flag)) in SWITCHES.iter().enumerate() {
            features.set(*flag, self.has(bit));
        }
        features.set(WasmFeatures::GC_TYPES, true);
        features
    }

    /// The name of the one feature that `accepts` needs beyond these, if one is enough.
    pub(crate) fn lacking(self, accepts: impl Fn(WasmFeatures) -> bool) -> Option<String> {
        let own = self.to_wasm();
        if !accepts(WasmFeatures::all()) {
            return None;
        }
        let switched = SWITCHES.iter().map(|(name, flag)| (*name, *flag));
        let unknown = [("threads", WasmFeatures::THREADS)];
        let one = switched.chain(unknown).find(|(_, flag)| !own.contains(*flag) && accepts(own | *flag));
        Some(one.map_or("of a proposal that is not supported", |(name, _)| name).to_owned())
    }
}

/// A Wasmtime engine with what we know about it.
pub struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    config: EngineConfig,
    stacks: Option<Arc<Semaphore>>,
    /// WASI's functions, made when the first module wants them.
    wasi: OnceCell<Linker<StoreData>>,
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

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Engine").field(&self.config).finish()
    }
}

impl Engine {
    /// Makes an engine. Fails where the pool's address space cannot be reserved: the caller falls back to on demand.
    pub(crate) fn new(config: EngineConfig, ticker: &Ticker) -> Result<Self, Error> {
        let wasmtime = wasmtime::Engine::new(&wasmtime_config(&config)).map_err(Error::internal)?;
        if config.metering == Metering::Epoch {
            ticker.add(wasmtime.weak());
        }
        let pooled = config.allocation == Allocation::Pooling;
        let stacks = pooled.then(|| Arc::new(Semaphore::new(POOL_SLOTS as usize)));
        Ok(Self { wasmtime, config, stacks, wasi: OnceCell::new() })
    }

    /// A linker with WASI's functions and no others.
    pub(crate) fn wasi(&self) -> Result<&Linker<StoreData>, Error> {
        self.wasi.get_or_try_init(|| wasi::linker(&self.wasmtime)).map_err(Error::internal)
    }

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

    /// What the engine was made for.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }
}

fn wasmtime_config(config: &EngineConfig) -> Config {
    let mut wasmtime = Config::new();
    wasmtime
        .consume_fuel(config.metering == Metering::Fuel)
        .operator_cost(operator_cost())
        .epoch_interruption(config.metering == Metering::Epoch)
        .cranelift_nan_canonicalization(config.deterministic)
        .relaxed_simd_deterministic(config.deterministic)
        .max_wasm_stack(config.max_stack as usize)
        .async_stack_size((config.max_stack + HOST_STACK) as usize)
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(config.features.to_wasm(), true)
        .memory_guaranteed_dense_image_size(SPARSE_IMAGE)
        // Names come from the name section; a stranger's DWARF is not parsed.
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    match config.allocation {
        Allocation::Pooling => wasmtime.allocation_strategy(InstanceAllocationStrategy::Pooling(pool())),
        Allocation::OnDemand => wasmtime.allocation_strategy(InstanceAllocationStrategy::OnDemand),
        Allocation::Scarce => wasmtime
            .allocation_strategy(InstanceAllocationStrategy::OnDemand)
            .memory_reservation(0)
            .memory_guard_size(64 << 10)
            // Growing page by page must not copy the whole memory each time.
            .memory_reservation_for_growth(16 << 20),
    };
    wasmtime
}

/// Growing is not charged by size. What a guest can grow is bounded by its limits, and the charge has a hole: it is made
/// before the growth is refused, is as large as the guest likes where indices have 64 bits, and so can make Wasmtime's
/// fuel counter overflow. A guest whose counter has done that never runs dry and never yields: nothing could end it. The
/// other instructions that are charged by size trap when theirs is absurd.
fn operator_cost() -> OperatorCost {
    let mut cost = OperatorCost::new();
    cost.variable.memory_grow_per_page = 0;
    cost.variable.table_grow_per_element = 0;
    cost
}

/// The pool's shape: slots for [`POOL_SLOTS`] guests; what a guest may really use is its limits' affair.
pub fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(POOL_SLOTS)
        .total_memories(POOL_SLOTS)
        .total_tables(POOL_SLOTS)
        .total_stacks(POOL_SLOTS)
        .total_gc_heaps(POOL_SLOTS)
        .max_memories_per_module(POOL_PER_MODULE)
        .max_tables_per_module(POOL_PER_MODULE)
        .max_core_instance_size(2 * POOL_INSTANCE as usize)
        .table_elements(POOL_TABLE_ELEMENTS as usize)
        .max_memory_size(POOL_MEMORY)
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(8 << 10);
    pool
}
