//! Threads for Cranelift.

use std::num::NonZeroUsize;

/// Stack of a compiling thread: Cranelift recurses on hostile nesting. Address space only: the pages are touched when they
/// are needed.
const STACK: usize = 64 << 20;

/// Threads that compile one module.
const MOST_THREADS: usize = 8;

/// How far back those step that compile, behind the schedulers.
pub const NICE: i32 = 10;

/// The processors that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// A core is left to the schedulers.
pub(super) fn spared_cores() -> usize {
    cores().saturating_sub(1).max(1)
}

/// Threads that compile one module together; `begin` is the first that each does.
pub fn compiling_pool(threads: usize, begin: fn()) -> std::io::Result<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.clamp(1, MOST_THREADS))
        .stack_size(STACK)
        .thread_name(|index| format!("wasm-cranelift-{index}"))
        .start_handler(move |_| begin())
        .build();
    pool.map_err(std::io::Error::other)
}

/// Lets the calling thread have less of the processors.
pub(super) fn step_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICE);
}
