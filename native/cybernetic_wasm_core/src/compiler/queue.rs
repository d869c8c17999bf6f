//! The queue of what is to be compiled: bounded by the bytes of its sources, in turns by who asks.
//!
//! There are two lines. Small modules stand in the *quick* one, which one runner serves and keeps free; all others, and small
//! ones that turned out slow, in the *slow* one.

use super::job::Request;
use crate::code::{CodeKey, Compiled};
use crate::engine::CodeConfig;
use crate::error::{Error, Limit, LimitError};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Who asks for a module: turns go round by these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

impl Job {
    fn bytes(&self) -> u64 {
        self.source.len() as u64
    }

    fn line(&self) -> Line {
        if self.source.len() <= SMALL { Line::Quick } else { Line::Slow }
    }
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

/// The quick line has this part of all the room, so that large sources cannot fill it.
const QUICK_PART: u64 = 8;

/// Jobs that go on in their processes while no runner of the slow line has time for them.
const MOST_PARKED: usize = 4;

pub(super) struct Queue<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
}

struct State<R> {
    quick: Turns,
    slow: Turns,
    parked: Vec<R>,
    /// Runners of the slow line that wait.
    idle: usize,
    /// Tasks in the hands of runners.
    begun: usize,
    /// Tasks taken by runners that take what comes.
    taken: usize,
    closed: bool,
}

/// The room of the quick line, and of the slow one.
fn shares(most_bytes: u64) -> (u64, u64) {
    let quick = most_bytes / QUICK_PART;
    (quick, most_bytes - quick)
}

impl<R> Queue<R> {
    pub(super) fn new(most_bytes: u64) -> Self {
        let (quick, slow) = shares(most_bytes);
        let state = State {
            quick: Turns::new(quick),
            slow: Turns::new(slow),
            parked: Vec::new(),
            idle: 0,
            begun: 0,
            taken: 0,
            closed: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Other room, for what comes from now on.
    pub(super) fn adjust(&self, most_bytes: u64) {
        let mut state = self.state.lock();
        (state.quick.most_bytes, state.slow.most_bytes) = shares(most_bytes);
    }

    /// Jobs that wait, and the bytes of their sources.
    pub(super) fn waiting(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.quick.count + state.slow.count, state.quick.bytes + state.slow.bytes)
    }

    /// Takes a job in, or gives it back where there is no room.
    pub(super) fn push(&self, job: Job) -> Result<(), Box<(Job, LimitError)>> {
        let mut state = self.state.lock();
        let turns = state.turns(job.line());
        if !turns.has_room(&job) {
            // What nobody waits for any more is only noticed when its turn comes, or here.
            turns.sweep();
        }
        match turns.has_room(&job) {
            true => turns.push(job),
            false => {
                let full = LimitError::new(Limit::CompileQueue, turns.most_bytes, turns.bytes + job.bytes());
                return Err(Box::new((job, full)));
            }
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Puts a job that was interrupted back, among its kind or among the slow ones. It had been let in.
    pub(super) fn put_back(&self, job: Job, slow: bool) {
        let line = if slow { Line::Slow } else { job.line() };
        self.state.lock().turns(line).push(job);
        self.changed.notify_all();
    }

    /// Hands what runs to a runner of the slow line: one that is idle or, where it is to make way, the next that will be. Gives
    /// it back where that is none.
    pub(super) fn hand_over(&self, running: R, make_way: bool) -> Result<(), R> {
        let mut state = self.state.lock();
        if state.parked.len() >= state.idle + if make_way { MOST_PARKED } else { 0 } {
            return Err(running);
        }
        state.parked.push(running);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Whether a job waits in the quick line.
    pub(super) fn quick_waits(&self) -> bool {
        self.state.lock().quick.count > 0
    }

    /// Whether nothing of the slow line waits.
    pub(super) fn slow_is_idle(&self) -> bool {
        let state = self.state.lock();
        state.slow.count == 0 && state.parked.is_empty()
    }

    /// The runner that took a task is through with it.
    pub(super) fn done(&self) {
        self.state.lock().begun -= 1;
    }

    /// Whether nothing waits, nobody is at work, and nothing is on its way from one runner to another.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.begun == 0 && state.parked.is_empty() && state.quick.count + state.slow.count == 0
    }

    /// Lets the runners end once they have nothing more to do.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// The next thing to do for a runner of `line`, which waits for it so long, and says when it is `done`.
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
            let slow = usize::from(line != Line::Quick);
            state.idle += slow;
            let waited = self.changed.wait_until(&mut state, until);
            state.idle -= slow;
            if waited.timed_out() {
                return state.take(line).unwrap_or(Task::Nothing);
            }
        }
    }
}

impl<R> State<R> {
    fn turns(&mut self, line: Line) -> &mut Turns {
        if line == Line::Quick { &mut self.quick } else { &mut self.slow }
    }

    fn take(&mut self, line: Line) -> Option<Task<R>> {
        let task = self.pop(line);
        self.begun += usize::from(task.is_some());
        task
    }

    fn pop(&mut self, line: Line) -> Option<Task<R>> {
        if line != Line::Quick
            && let Some(running) = self.parked.pop()
        {
            return Some(Task::GoOn(running));
        }
        self.taken = self.taken.wrapping_add(1);
        let job = match line {
            Line::Quick => self.quick.pop(),
            Line::Slow => self.slow.pop(),
            // Neither line is to wait for the other's end.
            Line::Both if self.taken.is_multiple_of(2) => self.slow.pop().or_else(|| self.quick.pop()),
            Line::Both => self.quick.pop().or_else(|| self.slow.pop()),
        };
        job.map(Task::Compile)
    }
}

/// Jobs by their askers, whose turn goes round.
struct Turns {
    jobs: HashMap<Asker, VecDeque<Job>>,
    /// Askers of whom nothing has been taken since they came.
    new: VecDeque<Asker>,
    /// The others.
    served: VecDeque<Asker>,
    /// Jobs taken so far.
    taken: usize,
    count: u64,
    bytes: u64,
    most_bytes: u64,
}

impl Turns {
    fn new(most_bytes: u64) -> Self {
        let (new, served) = (VecDeque::new(), VecDeque::new());
        Self { jobs: HashMap::new(), new, served, taken: 0, count: 0, bytes: 0, most_bytes }
    }

    /// One that is larger than all the room is let in alone.
    fn has_room(&self, job: &Job) -> bool {
        self.bytes == 0 || self.bytes + job.bytes() <= self.most_bytes
    }

    fn push(&mut self, job: Job) {
        self.count += 1;
        self.bytes += job.bytes();
        let asker = job.asker;
        let jobs = self.jobs.entry(asker).or_insert_with(|| {
            self.new.push_back(asker);
            VecDeque::new()
        });
        jobs.push_back(job);
    }

    /// The turns are the last comer's, the first's, and that of one who has been served, one after the other: however many
    /// come at once, who comes now is not behind all of them, and nobody waits for ever.
    fn pop(&mut self) -> Option<Job> {
        self.taken = self.taken.wrapping_add(1);
        let (new, served) = (&mut self.new, &mut self.served);
        let asker = match self.taken % 3 {
            0 => served.pop_front().or_else(|| new.pop_front()),
            1 => new.pop_back().or_else(|| served.pop_front()),
            _ => new.pop_front().or_else(|| served.pop_front()),
        }?;
        let jobs = self.jobs.get_mut(&asker)?;
        let job = jobs.pop_front();
        match jobs.is_empty() {
            true => drop(self.jobs.remove(&asker)),
            false => self.served.push_back(asker),
        }
        if let Some(job) = &job {
            self.count -= 1;
            self.bytes -= job.bytes();
        }
        job
    }

    /// Drops the jobs that nobody waits for.
    fn sweep(&mut self) {
        for jobs in self.jobs.values_mut() {
            jobs.retain(|job| job.client.wants());
        }
        self.jobs.retain(|_, jobs| !jobs.is_empty());
        let (jobs, known) = (&self.jobs, |asker: &Asker| self.jobs.contains_key(asker));
        self.new.retain(known);
        self.served.retain(known);
        self.count = jobs.values().map(|jobs| jobs.len() as u64).sum();
        self.bytes = jobs.values().flatten().map(Job::bytes).sum();
    }
}
