//! Compiling strangers' modules: in processes of their own, or on threads of ours where there can be none.
//!
//! A job goes through the queue (`queue.rs`) to a runner (`runner.rs`): a thread that gives it to a compiling process and waits
//! for the answer, so that it can end a job that nobody waits for any more. What the processes run is `work.rs`, by way of the
//! crate `cybernetic_wasm_compiler`; how they are started is `keeper.rs`, and what goes to and fro `job.rs` and `wire.rs`. What
//! an operator should read of all this is kept in `notices.rs`.

mod job;
mod notices;
mod pool;
mod queue;
mod runner;
mod work;

#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
pub mod wire;

pub use job::{Answer, Budget, Done, Refusal, Request, Word};
#[cfg(target_os = "linux")]
pub use keeper::{Order, Report, Start};
pub use notices::Notice;
pub(crate) use notices::Notices;
pub use pool::{NICE, compiling_pool, cores};
pub use queue::Asker;
pub(crate) use queue::{Client, Job};
#[cfg(target_os = "linux")]
pub use work::hand_over;
pub use work::{Product, Workshop};

use crate::error::Error;
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use queue::Queue;
use runner::Runner;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use tokio::sync::oneshot;

/// Tells this build from every other: code is only taken from a process of the same.
pub const BUILD: &str = env!("CYBERNETIC_WASM_BUILD");

/// How modules are compiled.
#[derive(Debug, Clone)]
pub struct CompilerSettings {
    /// The program that compiles in processes of its own; `None` compiles on threads of this one.
    pub executable: Option<PathBuf>,
    /// What one compilation may take at the most.
    pub budget: Budget,
    /// Bytes of sources that may wait.
    pub queue_bytes: u64,
}

impl Default for CompilerSettings {
    fn default() -> Self {
        Self { executable: None, budget: Budget::default(), queue_bytes: 256 << 20 }
    }
}

/// What the compiler does, and has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompilerStats {
    /// Compiling processes.
    pub workers: u64,
    /// Bytes that they had resident when they last spoke.
    pub worker_memory: u64,
    /// Jobs that were begun.
    pub jobs: u64,
    /// Jobs that were ended because nobody waited any more, or to let others go first.
    pub kills: u64,
    /// Jobs that wait.
    pub queued: u64,
    /// Bytes of their sources.
    pub queued_bytes: u64,
}

/// Compiles for one runtime.
pub(crate) struct Compiler {
    shared: Arc<Shared>,
    started: OnceCell<()>,
    /// Threads for other long work.
    beside: OnceCell<rayon::ThreadPool>,
}

/// What the runners share.
struct Shared {
    budget: Mutex<Budget>,
    queue: Queue<runner::Running>,
    jobs: AtomicU64,
    kills: AtomicU64,
    /// Runners of the slow line that have something to do.
    slow: AtomicUsize,
    notices: Arc<Notices>,
    pool: OnceCell<rayon::ThreadPool>,
    apart: runner::Apart,
}

impl Shared {
    fn notice(&self, notice: Notice) {
        self.notices.add(notice);
    }

    /// The threads that compile in this process.
    fn pool(&self) -> std::io::Result<&rayon::ThreadPool> {
        self.pool.get_or_try_init(|| compiling_pool(pool::spared_cores(), pool::step_back))
    }
}

impl Compiler {
    pub(crate) fn new(settings: CompilerSettings) -> Self {
        let shared = Shared {
            queue: Queue::new(settings.queue_bytes),
            apart: runner::Apart::new(&settings),
            budget: Mutex::new(settings.budget),
            jobs: AtomicU64::new(0),
            kills: AtomicU64::new(0),
            slow: AtomicUsize::new(0),
            notices: Arc::default(),
            pool: OnceCell::new(),
        };
        Self { shared: Arc::new(shared), started: OnceCell::new(), beside: OnceCell::new() }
    }

    /// Other settings, for what is compiled from now on.
    pub(crate) fn adjust(&self, settings: &CompilerSettings) {
        *self.shared.budget.lock() = settings.budget;
        self.shared.queue.adjust(settings.queue_bytes);
        self.shared.apart.adjust(settings);
    }

    /// Starts what is started once, so that the first module need not wait for it.
    pub(crate) fn warm_up(&self) -> Result<(), Error> {
        self.shared.apart.wake(&self.shared);
        self.start()
    }

    fn start(&self) -> Result<(), Error> {
        let started = self.started.get_or_try_init(|| Runner::start_all(&self.shared));
        started.copied().map_err(|error| Error::Internal(format!("no compiling thread: {error}")))
    }

    /// What a compilation may take that was asked to take no more than `wanted`.
    pub(crate) fn budget(&self, wanted: Option<Budget>) -> Budget {
        let most = *self.shared.budget.lock();
        let wanted = wanted.unwrap_or(most);
        Budget { memory: wanted.memory.min(most.memory), time: wanted.time.min(most.time) }
    }

    /// Takes a job in. Where that fails its client is told at once.
    pub(crate) fn submit(&self, job: Job) {
        if let Err(error) = self.start() {
            return job.client.take(Err(error));
        }
        if let Err(refused) = self.shared.queue.push(job) {
            let (job, full) = *refused;
            job.client.take(Err(full.into()));
        }
    }

    /// What `work` gives, done on a thread beside the compiling ones. It runs to its end even when nobody waits for it any more.
    /// A panic in it is an error.
    pub(crate) fn compute<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
        &self,
        work: W,
    ) -> impl Future<Output = Result<T, Error>> + use<T, W> {
        let (sender, result) = oneshot::channel();
        let pool = self.beside.get_or_try_init(|| compiling_pool(pool::cores(), || {}));
        let started = pool.map(|pool| {
            pool.spawn(move || {
                let made = catch_unwind(AssertUnwindSafe(work));
                let _ = sender.send(made.map_err(|panic| Error::panic(&*panic)));
            });
        });
        let started = started.map_err(|error| Error::Internal(format!("no thread: {error}")));
        async move {
            started?;
            result.await.unwrap_or_else(|_| Err(Error::Internal("the thread is gone".into())))
        }
    }

    pub(crate) fn stats(&self) -> CompilerStats {
        let (queued, queued_bytes) = self.shared.queue.waiting();
        let (workers, worker_memory) = self.shared.apart.workers();
        let (jobs, kills) = (self.shared.jobs.load(Relaxed), self.shared.kills.load(Relaxed));
        CompilerStats { workers, worker_memory, jobs, kills, queued, queued_bytes }
    }

    /// Why modules are compiled in this process; `None` where they are compiled apart.
    pub(crate) fn in_process(&self) -> Option<String> {
        self.shared.apart.in_process()
    }

    /// What an operator should read.
    pub(crate) fn notices(&self) -> &Arc<Notices> {
        &self.shared.notices
    }

    /// Ends all compiling processes. They are started again when there is something to compile.
    pub(crate) fn rest(&self) {
        self.shared.apart.rest();
    }
}

/// The runners end once they have nothing more to do.
impl Drop for Compiler {
    fn drop(&mut self) {
        self.shared.queue.close();
        self.shared.apart.rest();
    }
}
