//! Jobs in the hands of processes.

use super::*;
use crate::compiler::job::{Answer, Done, Word};
use crate::compiler::keeper::{Keeper, STUCK, Worker};
use crate::compiler::wire::{Frame, send};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::path::PathBuf;
use std::time::Instant;

/// A job of the quick line has so long before it lets others go first.
const QUICK: Duration = Duration::from_millis(50);

/// A job that takes longer has less of the processors.
const LONG: Duration = Duration::from_millis(100);

/// A process that keeps more than this from its last job is replaced.
const RESIDENT: u64 = 128 << 20;

/// Where compiling processes come from.
pub(in crate::compiler) struct Apart {
    /// Bytes of address space that a process may have: much is only reserved.
    space: u64,
    state: Mutex<State>,
}

enum State {
    /// Nothing has been started yet.
    Idle(PathBuf),
    /// There is a keeper, or was.
    Kept { executable: PathBuf, keeper: Arc<Keeper>, spare: Option<Worker> },
    /// Modules are compiled in this process; why.
    InProcess(String),
}

/// A job in the hands of a process.
pub(in crate::compiler) struct Running {
    worker: Worker,
    job: Job,
    since: Instant,
}

impl Apart {
    pub(in crate::compiler) fn new(settings: &CompilerSettings) -> Self {
        let state = match &settings.executable {
            Some(executable) => State::Idle(executable.clone()),
            None => State::InProcess("that is what was asked for".to_owned()),
        };
        let space = settings.budget.memory.saturating_mul(2).saturating_add(1 << 30);
        Self { space, state: Mutex::new(state) }
    }

    pub(in crate::compiler) fn in_process(&self) -> Option<String> {
        match &*self.state.lock() {
            State::InProcess(why) => Some(why.clone()),
            _ => None,
        }
    }

    pub(in crate::compiler) fn workers(&self) -> (u64, u64) {
        // Whoever asks must not wait for a process that is just being started.
        match self.state.try_lock().as_deref() {
            Some(State::Kept { keeper, .. }) => keeper.workers(),
            _ => (0, 0),
        }
    }

    /// Starts the first process, or finds that there can be none.
    pub(in crate::compiler) fn ready(&self, shared: &Shared) {
        let mut state = self.state.lock();
        let State::Idle(executable) = &*state else { return };
        let started = Keeper::start(executable, self.space).map(Arc::new);
        let started = started.and_then(|keeper| Ok((keeper.worker(false)?, keeper)));
        *state = match started {
            Ok((worker, keeper)) => State::Kept { executable: executable.clone(), keeper, spare: Some(worker) },
            Err(error) => {
                let why = format!("{} cannot be run: {error}", executable.display());
                shared.notice(Notice::InProcess(why.clone()));
                State::InProcess(why)
            }
        };
    }

    /// A new process.
    fn worker(&self, shared: &Shared, slow: bool) -> std::io::Result<Worker> {
        self.ready(shared);
        let (keeper, spare) = self.keeper(slow)?;
        let worker = spare.map_or_else(|| keeper.worker(slow), Ok);
        match worker {
            // That of another may do better.
            Err(_) if keeper.is_over() => self.keeper(slow)?.0.worker(slow),
            worker => worker,
        }
    }

    /// The keeper, or another in its place, and a process that is ready.
    fn keeper(&self, slow: bool) -> std::io::Result<(Arc<Keeper>, Option<Worker>)> {
        let mut state = self.state.lock();
        let State::Kept { executable, keeper, spare } = &mut *state else {
            return Err(std::io::Error::other("there are no compiling processes"));
        };
        if keeper.is_over() {
            *spare = None;
            *keeper = Arc::new(Keeper::start(executable, self.space)?);
        }
        Ok((Arc::clone(keeper), spare.take_if(|_| !slow)))
    }

    pub(in crate::compiler) fn rest(&self) {
        let mut state = self.state.lock();
        if let State::Kept { executable, keeper, .. } = &*state {
            keeper.stop();
            *state = State::Idle(executable.clone());
        }
    }
}

impl Runner {
    /// Has a process ready before there is something to do.
    pub(super) fn prepare(&mut self) {
        self.dismiss_if(|worker| worker.keeper.is_over());
        if self.worker.is_none() && self.shared.apart.is_awake() {
            self.worker = self.shared.apart.worker(&self.shared, false).ok();
        }
    }

    pub(super) fn dismiss(&mut self) {
        self.worker = None;
    }

    fn dismiss_if(&mut self, unfit: impl FnOnce(&Worker) -> bool) {
        if self.worker.as_ref().is_some_and(unfit) {
            self.worker = None;
        }
    }

    pub(super) fn compile_apart(&mut self, job: Job) {
        // One that says something unasked has ended meanwhile.
        self.dismiss_if(|worker| worker.keeper.is_over() || readable(worker, Duration::ZERO));
        let slow = self.line == Line::Slow;
        let worker = match self.worker.take() {
            Some(worker) => Ok(worker),
            None => self.shared.apart.worker(&self.shared, slow),
        };
        match worker {
            Ok(worker) => {
                // Where it has died meanwhile, the answer tells.
                let _ = send(&worker.socket, &job.request, &[&job.source], None);
                self.go_on(Running { worker, job, since: Instant::now() });
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
        let tick = if quick { Duration::from_millis(10) } else { QUICK };
        // A process counts its own time. Beyond this, by far, it is stuck.
        let most = running.job.request.budget.time.saturating_mul(20).saturating_add(STUCK);
        loop {
            if readable(&running.worker, tick) {
                return self.answered(running);
            }
            let spent = running.since.elapsed();
            if !running.job.client.wants() {
                self.shared.kills.fetch_add(1, Relaxed);
                return;
            }
            if spent > most {
                let Running { job, .. } = running;
                let error = failed(&self.shared, &job, "the compiling process gave no answer".to_owned());
                return job.client.take(Err(error));
            }
            if quick && spent >= QUICK && self.shared.queue.quick_waits() {
                return self.leave(running);
            }
            if quick && spent >= LONG && !running.worker.slow {
                running.worker.renice();
            }
        }
    }

    /// Lets others go first.
    fn leave(&mut self, mut running: Running) {
        if !running.worker.slow {
            running.worker.renice();
        }
        if let Err(running) = self.shared.queue.hand_over(running) {
            self.shared.kills.fetch_add(1, Relaxed);
            self.shared.queue.put_back(running.job);
        }
    }

    fn answered(&mut self, running: Running) {
        let Running { mut worker, mut job, .. } = running;
        let made = match worker.hear() {
            Ok(Some(word)) => read(&self.shared, word, &job),
            Ok(None) => match worker.end() {
                Some(how) => Err(failed(&self.shared, &job, format!("the compiling process ended: {how}"))),
                // That had nothing to do with the job.
                None if !std::mem::replace(&mut job.again, true) => return self.shared.queue.put_back(job),
                None => Err(failed(&self.shared, &job, "the compiling processes ended time and again".to_owned())),
            },
            Err(error) => {
                Err(failed(&self.shared, &job, format!("the compiling process cannot be understood: {error}")))
            }
        };
        let fit = made.as_ref().err().is_none_or(|error| !matches!(error, Error::Load(LoadError::CompilerFailed(_))));
        if fit && worker.resident <= RESIDENT && worker.slow == (self.line == Line::Slow) {
            self.worker = Some(worker);
        }
        job.client.take(made);
    }
}

impl Apart {
    /// Whether processes are wanted now.
    fn is_awake(&self) -> bool {
        matches!(*self.state.lock(), State::Kept { .. })
    }
}

fn readable(worker: &Worker, tick: Duration) -> bool {
    let tick = Timespec { tv_sec: 0, tv_nsec: tick.subsec_nanos().into() };
    poll(&mut [PollFd::new(&worker.socket, PollFlags::IN)], Some(&tick)).is_ok_and(|ready| ready > 0)
}

fn read(shared: &Shared, frame: Frame<Word>, job: &Job) -> Result<Compiled, Error> {
    match frame.header.answer {
        Answer::Done(done) => {
            let Done { outline, binary, code } = *done;
            let pieces = pieces(frame.bytes, binary, job).zip(Some((frame.descriptor, code)));
            let made = pieces.map(|((wasm, inline), (file, size))| {
                let artifact = match file {
                    Some(file) => Artifact::sealed(file, size)?,
                    None if inline.len() as u64 == size => Artifact::inline(inline),
                    None => return Err(std::io::Error::other("the code is not as long as announced")),
                };
                Ok(Compiled::new(job.key, wasm, outline, artifact))
            });
            let made = made.unwrap_or_else(|| Err(std::io::Error::other("the module is not as long as announced")));
            made.map_err(|error| failed(shared, job, error.to_string()))
        }
        Answer::Refused(refusal) => Err(refusal.into()),
        Answer::Panicked(text) => Err(failed(shared, job, format!("the compiler panicked: {text}"))),
        Answer::Hello { .. } => Err(failed(shared, job, "the compiling process began anew".to_owned())),
    }
}

/// The module in the binary format, and the code that came inline.
fn pieces(mut bytes: Vec<u8>, binary: Option<u64>, job: &Job) -> Option<(Arc<[u8]>, Vec<u8>)> {
    let Some(length) = binary else { return Some((Arc::clone(&job.source), bytes)) };
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
    let code = bytes.split_off(length);
    Some((bytes.into(), code))
}
