//! Runners: threads that take jobs from the queue and see to it that each ends.
//!
//! One serves the quick line. A job that takes it too long goes on in the hands of a runner of the slow line, or waits there
//! for its turn, so that whatever is being compiled, a small module is begun within [`QUICK`]. Where there are no processes
//! nothing can be interrupted: then every runner takes what comes.

#[cfg(target_os = "linux")]
mod apart;
#[cfg(not(target_os = "linux"))]
mod nowhere;

use super::job::Request;
use super::pool::{STACK, cores};
use super::queue::{Job, Line, Task};
use super::work::{INLINE_CODE, Product, Workshop};
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
    /// Starts all runners. One module is compiled on several threads, so few are compiled at once.
    pub(super) fn start_all(shared: &Arc<Shared>) -> std::io::Result<()> {
        let slow = (cores() / 8).max(1);
        for index in 0..=slow {
            let line = if index == 0 { Line::Quick } else { Line::Slow };
            let shared = Arc::clone(shared);
            let thread = std::thread::Builder::new().name(format!("wasm-compile-{index}")).stack_size(STACK);
            thread.spawn(move || Runner::new(shared, line).run())?;
        }
        Ok(())
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
        loop {
            let in_process = self.shared.apart.in_process().is_some();
            let line = if in_process { Line::Both } else { self.line };
            if !in_process && line == Line::Quick {
                self.prepare();
            }
            match self.shared.queue.next(line, IDLE) {
                Task::Compile(job) => self.begin(job, in_process),
                Task::GoOn(running) => self.go_on(running),
                Task::Here(work) => match self.shared.pool() {
                    Ok(pool) => pool.install(work),
                    Err(_) => work(),
                },
                Task::Nothing if self.line == Line::Slow => self.dismiss(),
                Task::Nothing => {}
                Task::End => return,
            }
        }
    }

    fn begin(&mut self, mut job: Job, in_process: bool) {
        if !job.client.wants() {
            return;
        }
        match job.client.config() {
            Ok(config) => (job.key.config, job.request.config) = (config, config),
            Err(error) => return job.client.take(Err(error)),
        }
        self.shared.jobs.fetch_add(1, Relaxed);
        if in_process { self.compile_here(job) } else { self.compile_apart(job) }
    }

    /// Compiles in this process, where nothing ends it before it is done.
    fn compile_here(&mut self, job: Job) {
        let request = Request { bounded: true, ..job.request };
        let (shared, workshop) = (&self.shared, &mut self.workshop);
        let work = || {
            let product = workshop.compile(&request, &job.source)?;
            keep(&job, product)
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
fn keep(job: &Job, product: Product<'_>) -> Result<Compiled, Error> {
    let Product { outline, wasm, code } = product;
    let wasm = match wasm {
        std::borrow::Cow::Borrowed(_) => Arc::clone(&job.source),
        std::borrow::Cow::Owned(wasm) => wasm.into(),
    };
    Ok(Compiled::new(job.key, wasm, outline, artifact(code)))
}

/// Sealed pages where there can be such: all that load them share them.
fn artifact(code: Vec<u8>) -> Artifact {
    #[cfg(target_os = "linux")]
    if code.len() > INLINE_CODE {
        let sealed = cybernetic_wasm_artifact::seal(&code);
        if let Ok(artifact) = sealed.and_then(|file| Artifact::sealed(file, code.len() as u64)) {
            return artifact;
        }
    }
    Artifact::inline(code)
}

/// The error of a compiler that failed, which an operator is told of.
fn failed(shared: &Shared, job: &Job, detail: String) -> Error {
    shared.notice(Notice::Failed { digest: job.key.digest, detail: detail.clone() });
    LoadError::CompilerFailed(detail).into()
}
