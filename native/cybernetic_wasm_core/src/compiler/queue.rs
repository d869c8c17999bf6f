//! The queue of what is to be compiled: bounded by the bytes of its sources, in turns by who asks.
//!
//! There are two lines. Small modules stand in the *quick* one, which one runner serves and keeps free; all others, and small
//! ones that turned out slow, in the *slow* one.

use super::job::Request;
use crate::code::{CodeKey, Compiled};
use crate::engine::CodeConfig;
use crate::error::{Error, Limit, LimitError};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Who asks for a module: turns go round by these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker(pub u64);

impl Asker {
    /// One that nobody is yet. Others, which somebody is, have numbers below 2^63.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Relaxed) | 1 << 63)
    }
}

/// A module to be compiled, and what becomes of it.
pub(crate) struct Job {
    pub(crate) key: CodeKey,
    pub(crate) request: Request,
    pub(crate) source: Arc<[u8]>,
    pub(crate) asker: Asker,
    /// Its process was ended by something else than the job, once.
    pub(crate) again: bool,
    pub(crate) client: Box<dyn Client>,
}

/// Who waits for a job.
pub(crate) trait Client: Send + Sync {
    /// Asked before the job begins, and while it runs. Once it says no, nobody will wait for it again.
    fn wants(&self) -> bool;

    /// What code it wants, as is known when the job begins.
    fn config(&self) -> Result<CodeConfig, Error>;

    /// Takes what came of it.
    fn take(self: Box<Self>, compiled: Result<Compiled, Error>);
}

/// What a runner is to do.
pub(super) enum Task<R> {
    Compile(Job),
    /// What another runner has begun.
    GoOn(R),
    /// Other work, on this thread.
    Here(Box<dyn FnOnce() + Send>),
    /// There was nothing to do for so long.
    Nothing,
    /// There will be nothing more.
    End,
}

/// Which jobs a runner takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Quick,
    Slow,
    /// Where nothing can be interrupted, every runner takes what comes.
    Both,
}

/// Sources larger than this are not expected to be quick.
const SMALL: usize = 64 << 10;

pub(super) struct Queue<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
    most_bytes: u64,
}

struct State<R> {
    quick: Turns,
    slow: Turns,
    here: VecDeque<Box<dyn FnOnce() + Send>>,
    handed_over: Vec<R>,
    /// Runners of the slow line that wait.
    idle: usize,
    bytes: u64,
    jobs: u64,
    closed: bool,
}

impl<R> Queue<R> {
    pub(super) fn new(most_bytes: u64) -> Self {
        let state = State {
            quick: Turns::default(),
            slow: Turns::default(),
            here: VecDeque::new(),
            handed_over: Vec::new(),
            idle: 0,
            bytes: 0,
            jobs: 0,
            closed: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), most_bytes }
    }

    /// Jobs that wait, and the bytes of their sources.
    pub(super) fn waiting(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.jobs, state.bytes)
    }

    /// Whether there is room for a job. One that is larger than all the room is let in alone.
    pub(super) fn check_room(&self, job: &Job) -> Result<(), LimitError> {
        let (_, bytes) = self.waiting();
        match bytes + job.source.len() as u64 {
            sum if bytes > 0 && sum > self.most_bytes => {
                Err(LimitError::new(Limit::CompileQueue, self.most_bytes, sum))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn push(&self, job: Job) {
        let small = job.source.len() <= SMALL;
        self.state.lock().add(job, small);
        self.changed.notify_all();
    }

    /// Puts a job that turned out slow among its kind.
    pub(super) fn put_back(&self, job: Job) {
        self.state.lock().add(job, false);
        self.changed.notify_all();
    }

    pub(super) fn push_work(&self, work: Box<dyn FnOnce() + Send>) {
        self.state.lock().here.push_back(work);
        self.changed.notify_all();
    }

    /// Hands what runs to a runner of the slow line, or gives it back if none is idle.
    pub(super) fn hand_over(&self, running: R) -> Result<(), R> {
        let mut state = self.state.lock();
        if state.idle <= state.handed_over.len() {
            return Err(running);
        }
        state.handed_over.push(running);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Whether a job waits in the quick line.
    pub(super) fn quick_waits(&self) -> bool {
        !self.state.lock().quick.0.is_empty()
    }

    /// Lets the runners end once they have nothing more to do.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// The next thing to do for a runner of `line`, which waits for it so long.
    pub(super) fn next(&self, line: Line, patience: Duration) -> Task<R> {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        loop {
            if let Some(task) = state.take(line) {
                return task;
            }
            if state.closed {
                return Task::End;
            }
            let slow = line != Line::Quick;
            state.idle += usize::from(slow);
            let waited = self.changed.wait_until(&mut state, until);
            state.idle -= usize::from(slow);
            if waited.timed_out() {
                return state.take(line).unwrap_or(Task::Nothing);
            }
        }
    }
}

impl<R> State<R> {
    fn add(&mut self, job: Job, quick: bool) {
        self.bytes += job.source.len() as u64;
        self.jobs += 1;
        if quick { self.quick.push(job) } else { self.slow.push(job) }
    }

    fn take(&mut self, line: Line) -> Option<Task<R>> {
        if line != Line::Quick {
            if let Some(running) = self.handed_over.pop() {
                return Some(Task::GoOn(running));
            }
            if let Some(work) = self.here.pop_front() {
                return Some(Task::Here(work));
            }
        }
        let quick = if line == Line::Slow { None } else { self.quick.pop() };
        let job = quick.or_else(|| if line == Line::Quick { None } else { self.slow.pop() })?;
        self.bytes -= job.source.len() as u64;
        self.jobs -= 1;
        Some(Task::Compile(job))
    }
}

/// Jobs by their askers, whose turn goes round.
#[derive(Default)]
struct Turns(VecDeque<(Asker, VecDeque<Job>)>);

impl Turns {
    fn push(&mut self, job: Job) {
        match self.0.iter_mut().find(|(asker, _)| *asker == job.asker) {
            Some((_, jobs)) => jobs.push_back(job),
            None => self.0.push_back((job.asker, VecDeque::from([job]))),
        }
    }

    fn pop(&mut self) -> Option<Job> {
        let (asker, mut jobs) = self.0.pop_front()?;
        let job = jobs.pop_front();
        if !jobs.is_empty() {
            self.0.push_back((asker, jobs));
        }
        job
    }
}
