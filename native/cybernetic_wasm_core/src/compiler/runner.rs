//! Runners: threads that take jobs from the queue and see to it that each ends.
//!
//! One serves the quick line. A job that takes it too long goes on in its process, in the hands of a runner of the slow line,
//! so that a small module is begun soon whatever is being compiled. Where there are no processes nothing can be interrupted:
//! then every runner takes what comes.

#[cfg(target_os = "linux")]
mod apart;
#[cfg(not(target_os = "linux"))]
mod nowhere;

use super::job::Request;
use super::pool::{cores, spared_cores};
use super::queue::{Job, Line, Task};
#[cfg(target_os = "linux")]
use super::work::sealed;
use super::work::{Product, Workshop};
use super::{CompilerSettings, Notice, Shared};
use crate::code::Compiled;
use crate::error::{Error, LoadError};
use cybernetic_wasm_artifact::Artifact;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

#[cfg(target_os = "linux")]
pub(super) use apart::{Apart, Running};
#[cfg(not(target_os = "linux"))]
pub(super) use nowhere::{Apart, Running};

/// What a runner of the slow line keeps its process for when there is nothing to do.
const IDLE: Duration = Duration::from_secs(10);

pub(super) struct Runner {
    shared: Arc<Shared>,
    line: Line,
    workshop: Workshop,
    #[cfg(target_os = "linux")]
    worker: Option<super::keeper::Worker>,
}

impl Runner {
    /// Starts all runners: one for the quick line, and for the slow one as many as leave a core to the schedulers.
    pub(super) fn start_all(shared: &Arc<Shared>) -> std::io::Result<()> {
        let threads = (0..=spared_cores()).map(|index| {
            let runner = Runner::new(Arc::clone(shared), if index == 0 { Line::Quick } else { Line::Slow });
            std::thread::Builder::new().name(format!("wasm-compile-{index}")).spawn(move || runner.run())
        });
        let started: Vec<_> = threads.filter_map(Result::ok).collect();
        // Fewer are enough, but for a line that nobody serves.
        match started.len() > 1 {
            true => Ok(()),
            false => Err(std::io::Error::other("the system gives no threads")),
        }
    }

    fn new(shared: Arc<Shared>, line: Line) -> Self {
        Self {
            shared,
            line,
            workshop: Workshop::default(),
            #[cfg(target_os = "linux")]
            worker: None,
        }
    }

    fn run(mut self) {
        while self.turn() {}
    }

    /// Does the next thing. False: there will be nothing more.
    fn turn(&mut self) -> bool {
        let in_process = self.shared.apart.in_process().is_some();
        let line = if in_process { Line::Both } else { self.line };
        if !in_process && line == Line::Quick {
            self.prepare();
        }
        match self.shared.queue.next(line, IDLE) {
            Task::Compile(job) => self.busy(|runner| runner.begin(job)),
            Task::GoOn(running) => self.busy(|runner| runner.go_on(running)),
            Task::Nothing if self.line == Line::Slow => self.dismiss(),
            Task::Nothing => {}
            Task::End => return false,
        }
        self.rest();
        true
    }

    /// A job that is lost in a panic tells its client so when it is dropped.
    fn busy(&mut self, work: impl FnOnce(&mut Self)) {
        let slow = usize::from(self.line == Line::Slow);
        self.shared.slow.fetch_add(slow, Relaxed);
        // A panic in it must not leave this runner among the busy.
        let done = catch_unwind(AssertUnwindSafe(|| work(self)));
        self.shared.slow.fetch_sub(slow, Relaxed);
        self.shared.queue.done();
        if done.is_err() {
            self.dismiss();
        }
    }

    /// All cores where nothing else is compiled, which nobody knows for long; one otherwise.
    fn threads(&self) -> usize {
        let others = self.shared.slow.load(Relaxed) - usize::from(self.line == Line::Slow);
        if others == 0 && self.shared.queue.slow_is_idle() { cores() } else { 1 }
    }

    fn begin(&mut self, mut job: Job) {
        if !job.client.wants() {
            return;
        }
        match job.client.config() {
            Ok(config) => (job.key.config, job.request.config) = (config, config),
            Err(error) => return job.client.take(Err(error)),
        }
        job.request.threads = self.threads();
        self.shared.jobs.fetch_add(1, Relaxed);
        // It may be another than when this runner began to wait.
        let in_process = self.shared.apart.in_process().is_some();
        if in_process { self.compile_here(job) } else { self.compile_apart(job) }
    }

    /// Compiles in this process, where nothing ends it before it is done.
    fn compile_here(&mut self, job: Job) {
        let request = Request { refuse_deep: true, ..job.request };
        let (shared, workshop) = (&self.shared, &mut self.workshop);
        let work = || {
            let product = workshop.compile(&request, &job.source)?;
            Ok(keep(&job, product))
        };
        let made = match shared.pool() {
            Ok(pool) => catch_unwind(AssertUnwindSafe(|| pool.install(work))),
            Err(error) => Ok(Err(Error::Internal(format!("no compiling thread: {error}")))),
        };
        let made = made.unwrap_or_else(|panic| Err(failed(shared, &job, Error::panic(&*panic).to_string())));
        job.client.take(made);
    }
}

/// What a compiler of this process gave.
fn keep(job: &Job, product: Product<'_>) -> Compiled {
    let Product { outline, wasm, code } = product;
    let wasm = match wasm {
        std::borrow::Cow::Borrowed(_) => Arc::clone(&job.source),
        std::borrow::Cow::Owned(wasm) => wasm.into(),
    };
    Compiled::new(job.key, wasm, outline, artifact(code))
}

fn artifact(code: Vec<u8>) -> Artifact {
    #[cfg(target_os = "linux")]
    if let Some(Ok(artifact)) = sealed(&code).map(|file| Artifact::sealed(file, code.len() as u64)) {
        return artifact;
    }
    Artifact::inline(code)
}

/// The error of a compiler that failed, which an operator is told of.
fn failed(shared: &Shared, job: &Job, detail: String) -> Error {
    // It may be a text that a process has made up.
    const LONGEST: usize = 1_000;
    let detail: String = detail.chars().take(LONGEST).collect();
    shared.notice(Notice::Failed { digest: job.key.digest, detail: detail.clone() });
    LoadError::CompilerFailed(detail).into()
}
