//! Jobs in the hands of processes.

use super::*;
use crate::compiler::job::{Answer, Done, Word};
use crate::compiler::keeper::{Keeper, Worker};
use crate::compiler::wire::{Frame, send};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// How often a runner looks at what it waits for.
const LOOK: Duration = Duration::from_millis(5);

/// A job of the quick line makes way after this, where others wait.
const QUICK: Duration = Duration::from_millis(10);

/// A job of the quick line that takes longer belongs to the slow one.
const SLOW: Duration = Duration::from_millis(50);

/// A process at work says so each second. One that has said nothing for so long is stuck.
const SILENCE: Duration = Duration::from_secs(60);

/// A process that keeps more than this from its last job is replaced.
const RESIDENT: u64 = 128 << 20;

/// Where compiling processes come from.
pub(in crate::compiler) struct Apart {
    origin: Mutex<Origin>,
    state: Mutex<State>,
    /// The last keeper, for whoever only looks.
    last: Mutex<Option<Arc<Keeper>>>,
    /// The processes are to end once nothing is compiled any more.
    resting: AtomicBool,
}

/// What is started.
#[derive(Clone, PartialEq, Eq)]
struct Origin {
    /// Bytes of address space that a process may have: much is only reserved.
    space: u64,
    executable: Option<PathBuf>,
}

impl Origin {
    fn new(settings: &CompilerSettings) -> Self {
        let space = settings.budget.memory.saturating_mul(2).saturating_add(2 << 30);
        Self { space, executable: settings.executable.clone() }
    }

    fn first_state(&self) -> State {
        match &self.executable {
            Some(_) => State::Idle,
            None => State::InProcess("compiler: :in_process".to_owned()),
        }
    }
}

enum State {
    /// Nothing has been started yet.
    Idle,
    /// There is a keeper, or was.
    Kept { keeper: Arc<Keeper>, spare: Option<Worker> },
    /// Modules are compiled in this process; why.
    InProcess(String),
}

/// A job in the hands of a process.
pub(in crate::compiler) struct Running {
    worker: Worker,
    job: Job,
    since: Instant,
    /// When the process last said something.
    heard: Instant,
}

impl Apart {
    pub(in crate::compiler) fn new(settings: &CompilerSettings) -> Self {
        let origin = Origin::new(settings);
        let (last, resting) = (Mutex::default(), AtomicBool::new(false));
        Self { state: Mutex::new(origin.first_state()), origin: Mutex::new(origin), last, resting }
    }

    /// Ends the processes that were started by other settings. What they compile begins anew in others.
    pub(in crate::compiler) fn adjust(&self, settings: &CompilerSettings) {
        let origin = Origin::new(settings);
        let mut state = self.state.lock();
        if *self.origin.lock() == origin {
            return;
        }
        if let State::Kept { keeper, .. } = &*state {
            keeper.stop();
        }
        *state = origin.first_state();
        *self.origin.lock() = origin;
    }

    pub(in crate::compiler) fn in_process(&self) -> Option<String> {
        match &*self.state.lock() {
            State::InProcess(why) => Some(why.clone()),
            _ => None,
        }
    }

    pub(in crate::compiler) fn workers(&self) -> (u64, u64) {
        self.last.lock().as_ref().map_or((0, 0), |keeper| keeper.workers())
    }

    /// Starts the first process, or finds that there can be none. What could not be run before is tried again.
    pub(in crate::compiler) fn wake(&self, shared: &Shared) {
        self.resting.store(false, Relaxed);
        let mut state = self.state.lock();
        if matches!(*state, State::InProcess(_)) {
            *state = self.origin.lock().first_state();
        }
        self.start(&mut state, shared);
    }

    /// Sees to it that there is a keeper, if there can be one.
    fn start(&self, state: &mut State, shared: &Shared) {
        let Origin { space, executable: Some(executable) } = self.origin.lock().clone() else { return };
        match state {
            State::InProcess(_) => return,
            State::Kept { keeper, .. } if !keeper.is_over() => return,
            State::Idle | State::Kept { .. } => {}
        }
        let started = Keeper::start(&executable, space).map(Arc::new);
        let started = started.and_then(|keeper| Ok((keeper.worker()?, keeper)));
        *state = match started {
            Ok((worker, keeper)) => {
                *self.last.lock() = Some(Arc::clone(&keeper));
                State::Kept { keeper, spare: Some(worker) }
            }
            Err(error) => {
                let why = format!("{} cannot be run: {error}", executable.display());
                shared.notice(Notice::InProcess(why.clone()));
                State::InProcess(why)
            }
        };
    }

    /// A new process.
    fn worker(&self, shared: &Shared) -> io::Result<Worker> {
        let (keeper, spare) = self.keeper(shared)?;
        match spare.map_or_else(|| keeper.worker(), Ok) {
            // Another keeper may do better.
            Err(_) if keeper.is_over() => {
                let (keeper, spare) = self.keeper(shared)?;
                spare.map_or_else(|| keeper.worker(), Ok)
            }
            worker => worker,
        }
    }

    /// The keeper, or another in its place, and a process that is ready.
    fn keeper(&self, shared: &Shared) -> io::Result<(Arc<Keeper>, Option<Worker>)> {
        let mut state = self.state.lock();
        self.start(&mut state, shared);
        match &mut *state {
            State::Kept { keeper, spare } => Ok((Arc::clone(keeper), spare.take())),
            _ => Err(io::Error::other("there are no compiling processes")),
        }
    }

    /// Whether processes are wanted now.
    fn is_awake(&self) -> bool {
        !self.resting.load(Relaxed) && matches!(*self.state.lock(), State::Kept { .. })
    }

    pub(in crate::compiler) fn rest(&self) {
        self.resting.store(true, Relaxed);
        self.end();
    }

    fn end(&self) {
        let mut state = self.state.lock();
        if let State::Kept { keeper, .. } = &*state {
            keeper.stop();
            *state = State::Idle;
        }
    }
}

impl Runner {
    /// Has a process ready before there is something to do.
    pub(super) fn prepare(&mut self) {
        self.dismiss_if(|worker| worker.keeper.is_over());
        if self.worker.is_none() && self.shared.apart.is_awake() {
            self.worker = self.shared.apart.worker(&self.shared).ok();
        }
    }

    pub(super) fn dismiss(&mut self) {
        self.worker = None;
    }

    /// Ends what was started for a last job while the application had stopped.
    pub(super) fn rest(&mut self) {
        if self.shared.apart.resting.load(Relaxed) && self.shared.queue.is_idle() {
            self.dismiss();
            self.shared.apart.end();
        }
    }

    fn dismiss_if(&mut self, unfit: impl FnOnce(&Worker) -> bool) {
        if self.worker.as_ref().is_some_and(unfit) {
            self.worker = None;
        }
    }

    pub(super) fn compile_apart(&mut self, job: Job) {
        // One that says something unasked has ended meanwhile.
        self.dismiss_if(|worker| worker.keeper.is_over() || readable(worker, Duration::ZERO));
        let worker = match self.worker.take() {
            Some(worker) => Ok(worker),
            None => self.shared.apart.worker(&self.shared),
        };
        let sent = worker.and_then(|worker| {
            match send(&worker.socket, &job.request, &[&job.source], None) {
                // It has died: what it leaves to be read says so.
                Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Err(error),
                _ => Ok(worker),
            }
        });
        match sent {
            Ok(worker) => {
                let now = Instant::now();
                self.go_on(Running { worker, job, since: now, heard: now });
            }
            Err(_) if self.shared.apart.in_process().is_some() => self.compile_here(job),
            Err(error) => {
                let error = failed(&self.shared, &job, format!("no compiling process: {error}"));
                job.client.take(Err(error));
            }
        }
    }

    /// Waits for the answer, or until the job is to end or to be left to others.
    pub(super) fn go_on(&mut self, mut running: Running) {
        let quick = self.line == Line::Quick;
        loop {
            if readable(&running.worker, LOOK) {
                match running.worker.hear(most_bytes(&running.job)) {
                    Ok(Some(word)) if matches!(word.header.answer, Answer::Working) => running.heard = Instant::now(),
                    word => return self.answered(running, word),
                }
            }
            if !running.job.client.wants() {
                self.shared.kills.fetch_add(1, Relaxed);
                return;
            }
            if running.heard.elapsed() > SILENCE {
                let error = failed(&self.shared, &running.job, "the compiling process is stuck".to_owned());
                return running.job.client.take(Err(error));
            }
            let spent = running.since.elapsed();
            let others = quick && spent >= QUICK && self.shared.queue.quick_waits();
            if others || (quick && spent >= SLOW) {
                match self.shared.queue.hand_over(running, others) {
                    Ok(()) => return,
                    Err(same) if !others => running = same,
                    Err(Running { job, .. }) => {
                        self.shared.kills.fetch_add(1, Relaxed);
                        return self.shared.queue.put_back(job, true);
                    }
                }
            }
        }
    }

    fn answered(&mut self, running: Running, word: io::Result<Option<Frame<Word>>>) {
        let Running { worker, mut job, .. } = running;
        let made = match word {
            Ok(Some(word)) => read(&self.shared, word, &job),
            Ok(None) => match worker.end() {
                Some(how) => Err(failed(&self.shared, &job, format!("the compiling process ended: {how}"))),
                // That had nothing to do with the job.
                None if !std::mem::replace(&mut job.again, true) => return self.shared.queue.put_back(job, false),
                None => Err(failed(&self.shared, &job, "the compiling processes ended time and again".to_owned())),
            },
            Err(error) => {
                Err(failed(&self.shared, &job, format!("the compiling process cannot be understood: {error}")))
            }
        };
        // One that met a limit ends by itself.
        let sound = !matches!(made, Err(Error::Limit(_) | Error::Load(LoadError::CompilerFailed(_))));
        // One that has stepped back is good enough for what takes long anyway: a new one would have all its memory to come by.
        let in_place = self.line == Line::Slow || !worker.stepped_back;
        if sound && in_place && worker.resident <= RESIDENT {
            self.worker = Some(worker);
        }
        job.client.take(made);
    }
}

fn readable(worker: &Worker, patience: Duration) -> bool {
    let patience = Timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
    poll(&mut [PollFd::new(&worker.socket, PollFlags::IN)], Some(&patience)).is_ok_and(|ready| ready > 0)
}

/// Code and module are not so many times the source, where they come inline at all.
fn most_bytes(job: &Job) -> u64 {
    (job.source.len() as u64).saturating_mul(64).saturating_add(64 << 20)
}

fn read(shared: &Shared, frame: Frame<Word>, job: &Job) -> Result<Compiled, Error> {
    match frame.header.answer {
        Answer::Done(done) => {
            let Done { outline, binary, code } = *done;
            let made = pieces(frame.bytes, binary, job).and_then(|(wasm, inline)| {
                let artifact = match frame.descriptor {
                    Some(file) => Artifact::sealed(file, code)?,
                    None if inline.len() as u64 == code => Artifact::inline(inline),
                    None => return Err(io::Error::other("the code is not as long as announced")),
                };
                Ok(Compiled::new(job.key, wasm, outline, artifact))
            });
            made.map_err(|error| failed(shared, job, error.to_string()))
        }
        Answer::Refused(refusal) => Err(refusal.into()),
        Answer::Panicked(text) => Err(failed(shared, job, format!("the compiler panicked: {text}"))),
        Answer::Hello { .. } | Answer::Working => {
            Err(failed(shared, job, "the compiling process said something else".to_owned()))
        }
    }
}

/// The module in the binary format, and the code that came inline.
fn pieces(mut bytes: Vec<u8>, binary: Option<u64>, job: &Job) -> io::Result<(Arc<[u8]>, Vec<u8>)> {
    let Some(length) = binary else { return Ok((Arc::clone(&job.source), bytes)) };
    match usize::try_from(length) {
        Ok(length) if length <= bytes.len() => {
            let code = bytes.split_off(length);
            Ok((bytes.into(), code))
        }
        _ => Err(io::Error::other("the module is not as long as announced")),
    }
}
