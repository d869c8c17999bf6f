//! The WebAssembly features that can be switched.

use serde::{Deserialize, Serialize};
use wasmparser::WasmFeatures;

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

/// Proposals that nothing switches on, by their names.
const UNSUPPORTED: &[(&str, WasmFeatures)] = &[
    ("threads", WasmFeatures::THREADS),
    ("legacy_exceptions", WasmFeatures::LEGACY_EXCEPTIONS),
    ("wide_arithmetic", WasmFeatures::WIDE_ARITHMETIC),
    ("custom_page_sizes", WasmFeatures::CUSTOM_PAGE_SIZES),
    ("stack_switching", WasmFeatures::STACK_SWITCHING),
    ("custom_descriptors", WasmFeatures::CUSTOM_DESCRIPTORS),
    ("shared_everything_threads", WasmFeatures::SHARED_EVERYTHING_THREADS),
    ("memory_control", WasmFeatures::MEMORY_CONTROL),
    ("compact_imports", WasmFeatures::COMPACT_IMPORTS),
    ("component_model_async", WasmFeatures::CM_ASYNC),
    ("component_model_async_stackful", WasmFeatures::CM_ASYNC_STACKFUL),
    ("component_model_more_async_builtins", WasmFeatures::CM_MORE_ASYNC_BUILTINS),
    ("component_model_threading", WasmFeatures::CM_THREADING),
    ("component_model_error_context", WasmFeatures::CM_ERROR_CONTEXT),
    ("component_model_memory64", WasmFeatures::CM64),
    ("component_model_fixed_length_lists", WasmFeatures::CM_FIXED_LENGTH_LISTS),
    ("component_model_map", WasmFeatures::CM_MAP),
    ("component_model_values", WasmFeatures::CM_VALUES),
    ("component_model_nested_names", WasmFeatures::CM_NESTED_NAMES),
    ("component_model_gc", WasmFeatures::CM_GC),
    ("component_model_implements", WasmFeatures::CM_IMPLEMENTS),
];

/// What a feature's own definition needs: switching the left one off takes the right ones away.
const NEEDS: &[(&str, &[&str])] = &[
    ("simd", &["relaxed_simd"]),
    ("reference_types", &["function_references", "gc", "exceptions"]),
    ("function_references", &["gc"]),
    ("bulk_memory", &[]),
];

/// A set of WebAssembly features. Threads are always off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
        features.set(WasmFeatures::COMPONENT_MODEL, true);
        features
    }

    /// The name of the one feature that `accepts` needs beyond these, if one is enough.
    pub(crate) fn lacking(self, accepts: impl Fn(WasmFeatures) -> bool) -> Option<String> {
        let own = self.to_wasm();
        if !accepts(WasmFeatures::all()) {
            return None;
        }
        let all = SWITCHES.iter().chain(UNSUPPORTED);
        let mut one = all.clone().filter(|(_, flag)| !own.contains(*flag) && accepts(own | *flag));
        // Some need another proposal as well: then it is the one without which none of the others is enough.
        let mut needed = all.filter(|(_, flag)| !own.contains(*flag) && !accepts(WasmFeatures::all() - *flag));
        Some(one.next().or_else(|| needed.next()).map_or("several proposals", |(name, _)| *name).to_owned())
    }
}
