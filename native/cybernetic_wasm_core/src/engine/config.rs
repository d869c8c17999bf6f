//! What an engine is made for: everything that decides what code is compiled and how guests are allocated.

use super::{Features, pool};
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::hash::{Hash, Hasher};
use wasmparser::WasmFeatures;
use wasmtime::{Collector, Config, InstanceAllocationStrategy, OperatorCost};

/// How a guest's running time is cut into slices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// What of a configuration decides what code is compiled: engines that differ in the rest load the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CodeConfig {
    /// How running time is cut.
    pub metering: Metering,
    /// NaN canonicalisation and deterministic relaxed SIMD.
    pub deterministic: bool,
    /// The WebAssembly features that are on.
    pub features: Features,
    /// For engines that reserve no more address space than a guest has.
    pub scarce: bool,
}

impl CodeConfig {
    /// An engine that only compiles. A memory's initial image that is mostly empty may have so many bytes; data for which it would
    /// have more is copied into each instance. Engines load code whatever was allowed here.
    pub(crate) fn engine(self, most_empty: u64) -> wasmtime::Result<wasmtime::Engine> {
        let Self { metering, deterministic, features, scarce } = self;
        let allocation = if scarce { Allocation::Scarce } else { Allocation::OnDemand };
        let max_stack = *STACK_RANGE.start();
        let mut config = EngineConfig { metering, deterministic, features, max_stack, allocation }.to_wasmtime();
        wasmtime::Engine::new(config.memory_guaranteed_dense_image_size(most_empty))
    }
}

/// What code depends on beside its module and its configuration: Wasmtime and how this crate sets it up, the system, and what
/// the processor can do.
pub(crate) fn machine() -> Result<String, Error> {
    struct Digest(blake3::Hasher);

    impl Hasher for Digest {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            0
        }
    }

    let (metering, features) = (Metering::Fuel, Features::default());
    let usual = CodeConfig { metering, deterministic: false, features, scarce: false };
    let engine = usual.engine(0).map_err(Error::internal)?;
    let mut digest = Digest(blake3::Hasher::new());
    engine.precompile_compatibility_hash().hash(&mut digest);
    Ok(digest.0.finalize().to_hex().to_string())
}

/// Room on a fiber beyond the WebAssembly stack, for our host functions and Wasmtime's library calls.
const HOST_STACK: u64 = 512 << 10;

/// The smallest stack that a guest can do anything with, and the largest that a fiber may have.
pub const STACK_RANGE: std::ops::RangeInclusive<u64> = (16 << 10)..=(64 << 20);

impl EngineConfig {
    /// What code its engines load.
    pub(crate) fn code(&self) -> CodeConfig {
        let Self { metering, deterministic, features, allocation, .. } = *self;
        CodeConfig { metering, deterministic, features, scarce: allocation == Allocation::Scarce }
    }

    pub(super) fn to_wasmtime(self) -> Config {
        let mut wasmtime = Config::new();
        wasmtime
            .consume_fuel(self.metering == Metering::Fuel)
            .operator_cost(operator_cost())
            .epoch_interruption(self.metering == Metering::Epoch)
            .cranelift_nan_canonicalization(self.deterministic)
            .relaxed_simd_deterministic(self.deterministic)
            .max_wasm_stack(self.max_stack as usize)
            .async_stack_size((self.max_stack + HOST_STACK) as usize)
            .collector(Collector::Copying)
            .wasm_features(WasmFeatures::all(), false)
            .wasm_features(self.features.to_wasm(), true)
            // Names come from the name section; a stranger's DWARF is not parsed.
            .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
        match self.allocation {
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
}

/// What a guest can grow is bounded by its limits, and not charged by size.
///
/// Some instructions take as long as many others, and are charged for that: those that leave the guest's code for Wasmtime's, above
/// all, and an exception, which looks through the stack.
fn operator_cost() -> OperatorCost {
    const LIBRARY: u8 = 10;
    const SYSTEM: u8 = 100;
    let mut cost = OperatorCost::new();
    (cost.Throw, cost.ThrowRef) = (u8::MAX, u8::MAX);
    (cost.MemoryGrow, cost.TableGrow) = (SYSTEM, SYSTEM);
    (cost.RefTestNonNull, cost.RefTestNullable) = (LIBRARY, LIBRARY);
    (cost.RefCastNonNull, cost.RefCastNullable) = (LIBRARY, LIBRARY);
    (cost.BrOnCast, cost.BrOnCastFail) = (LIBRARY, LIBRARY);
    (cost.StructNew, cost.StructNewDefault) = (LIBRARY, LIBRARY);
    (cost.TableInit, cost.TableCopy, cost.TableFill) = (LIBRARY, LIBRARY, LIBRARY);
    (cost.DataDrop, cost.ElemDrop) = (LIBRARY, LIBRARY);
    cost.variable.memory_grow_per_page = 0;
    cost.variable.table_grow_per_element = 0;
    cost
}
