//! Compilation on threads of our own with large stacks: Cranelift recurses on hostile nesting, and a scheduler's stack is
//! small. As many modules compile at once as there are cores, each spread over one shared pool.

use crate::error::Error;
use crossbeam::channel::Sender;
use once_cell::sync::OnceCell;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::oneshot;

/// Stack of a compiling thread. Address space only: the pages are touched when they are needed.
const STACK: usize = 64 << 20;

type Job = Box<dyn FnOnce() + Send>;

/// The compiling threads of a runtime, started at the first module.
#[derive(Default)]
pub(crate) struct Compiler {
    threads: OnceCell<Sender<Job>>,
}

impl Compiler {
    /// Runs `job` on a compiling thread. Jobs wait for each other in the order they came in, so the pool's work never
    /// nests deeper than the number of these threads.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let threads = self.threads.get_or_try_init(start)?;
        threads.send(Box::new(job)).map_err(|_| std::io::Error::other("the compiling threads are gone"))
    }

    /// What `job` gives, which runs to its end even when nobody waits for it any more. A panic in it is an error.
    pub(crate) fn compute<T: Send + 'static, J: FnOnce() -> T + Send + 'static>(
        &self,
        job: J,
    ) -> impl Future<Output = Result<T, Error>> + use<T, J> {
        let (sender, result) = oneshot::channel();
        let started = self.run(move || {
            let made = catch_unwind(AssertUnwindSafe(job));
            let _ = sender.send(made.map_err(|panic| Error::panic(&*panic)));
        });
        async move {
            started.map_err(|error| Error::Internal(format!("no compiling thread: {error}")))?;
            result.await.unwrap_or_else(|_| Err(Error::Internal("the compiling thread is gone".into())))
        }
    }
}

fn start() -> std::io::Result<Sender<Job>> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(cores)
        .stack_size(STACK)
        .thread_name(|index| format!("wasm-cranelift-{index}"))
        .build()
        .map_err(std::io::Error::other)?;
    let pool = std::sync::Arc::new(pool);
    let (sender, jobs) = crossbeam::channel::unbounded::<Job>();
    for index in 0..cores {
        let (jobs, pool) = (jobs.clone(), std::sync::Arc::clone(&pool));
        let thread = std::thread::Builder::new().name(format!("wasm-compile-{index}")).stack_size(STACK);
        thread.spawn(move || jobs.iter().for_each(|job| pool.install(job)))?;
    }
    Ok(sender)
}
