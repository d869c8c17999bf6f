//! A worker: compiles one module after another, and watches itself meanwhile.

use crate::fences;
use cybernetic_wasm_core::compiler::wire::{receive, send};
use cybernetic_wasm_core::compiler::{
    Answer, BUILD, Budget, Request, Word, Workshop, compiling_pool, cores, hand_over,
};
use cybernetic_wasm_core::error::{Limit, LimitError, panic_text};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a worker looks at what it uses. So much later than its budget it ends at the most.
const LOOK: Duration = Duration::from_millis(10);

/// A worker says this often that it is still at work.
const SIGN: Duration = Duration::from_secs(1);

/// A job that takes more processor time than this leaves others more of the processors.
const LONG: Duration = Duration::from_millis(100);

/// Bytes of a source at the most: the VM has bounds of its own, and they are smaller.
const MOST_SOURCE: u64 = 4 << 30;

/// Runs until the socket is closed, or a module takes more than it may.
pub(crate) fn work(keeper: &str, space: &str) -> io::Result<()> {
    fences::close_others();
    fences::leave_session();
    fences::die_with(keeper.parse().ok().and_then(Pid::from_raw))?;
    // What cannot be opened or read any more behind the fences.
    let cores = cores();
    let meter = Arc::new(Meter::new());
    let _known = fences::enclose(space.parse().map_err(io::Error::other)?);
    let _ = rustix::thread::set_name(c"wasm-compiler");
    // What a panic says goes into the answer.
    std::panic::set_hook(Box::new(|_| {}));
    let vm = Arc::new(fences::socket()?);
    let (alone, together) = (compiling_pool(1, || {})?, compiling_pool(cores, || {})?);
    watch(&meter, &vm)?;
    send(&vm, &meter.word(Answer::Hello { build: BUILD.to_owned() }), &[], None)?;
    let mut workshop = Workshop::default();
    while let Some(frame) = receive::<Request>(&vm, MOST_SOURCE)? {
        let (request, source) = (frame.header, frame.bytes);
        let pool = if request.threads > 1 { &together } else { &alone };
        meter.begin(request.budget);
        let made = catch_unwind(AssertUnwindSafe(|| pool.install(|| workshop.compile(&request, &source))));
        // From here on the watch says nothing.
        meter.end();
        match made {
            Ok(Ok(product)) => hand_over(&vm, &product, |answer| meter.word(answer))?,
            Ok(Err(error)) => send(&vm, &meter.word(Answer::Refused(error.into())), &[], None)?,
            // Nobody knows what it left behind.
            Err(panic) => return send(&vm, &meter.word(Answer::Panicked(panic_text(&*panic))), &[], None),
        }
    }
    Ok(())
}

/// What the worker uses, and may use.
struct Meter {
    memory: Option<File>,
    back: fences::Back,
    stepped_back: AtomicBool,
    job: Mutex<Option<Began>>,
    changed: Condvar,
}

/// The job under way: what it may take, and what had been taken when it began.
#[derive(Clone, Copy)]
struct Began {
    budget: Budget,
    time: Duration,
    memory: u64,
}

impl Meter {
    fn new() -> Self {
        Self {
            memory: File::open("/proc/self/statm").ok(),
            back: fences::Back::new(),
            stepped_back: AtomicBool::new(false),
            job: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn word(&self, answer: Answer) -> Word {
        Word { answer, resident: self.resident(), stepped_back: self.stepped_back.load(Relaxed) }
    }

    fn job(&self) -> MutexGuard<'_, Option<Began>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, budget: Budget) {
        *self.job() = Some(Began { budget, time: processor_time(), memory: self.resident() });
        self.changed.notify_all();
    }

    fn end(&self) {
        *self.job() = None;
    }

    /// Bytes resident; 0 where they cannot be known.
    fn resident(&self) -> u64 {
        let mut text = [0; 128];
        let read = self.memory.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        let text = std::str::from_utf8(&text[..read]).unwrap_or_default();
        let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
        pages * rustix::param::page_size() as u64
    }

    /// What the job has taken too much of. What an earlier one has left behind is not its own.
    fn look(&self, Began { budget, time, memory }: Began) -> Option<LimitError> {
        let (time, memory) = (processor_time().saturating_sub(time), self.resident().saturating_sub(memory));
        if time > LONG && !self.stepped_back.swap(true, Relaxed) {
            self.back.step();
        }
        let millis = |time: Duration| time.as_micros().div_ceil(1_000) as u64;
        match (time > budget.time, memory > budget.memory) {
            (true, _) => Some(LimitError::new(Limit::CompileTime, millis(budget.time), millis(time))),
            (_, true) => Some(LimitError::new(Limit::CompileMemory, budget.memory, memory)),
            _ => None,
        }
    }
}

/// Ends the process when its job takes too much, or when the VM is gone; until then it says now and then that it works.
fn watch(meter: &Arc<Meter>, vm: &Arc<UnixStream>) -> io::Result<()> {
    let (meter, vm) = (Arc::clone(meter), Arc::clone(vm));
    let mut said = Instant::now();
    let watching = move || {
        loop {
            let mut job = meter.job();
            while job.is_none() {
                job = meter.changed.wait(job).unwrap_or_else(PoisonError::into_inner);
            }
            // The job cannot end while this is held, so that only one of the two speaks.
            if let Some(excess) = job.and_then(|job| meter.look(job)) {
                let refused = Answer::Refused(cybernetic_wasm_core::Error::from(excess).into());
                let _ = send(&vm, &meter.word(refused), &[], None);
                std::process::exit(0);
            }
            if said.elapsed() > SIGN {
                said = Instant::now();
                let _ = send(&vm, &meter.word(Answer::Working), &[], None);
            }
            drop(job);
            if is_closed(&vm) {
                std::process::exit(0);
            }
        }
    };
    std::thread::Builder::new().name("watch".into()).spawn(watching).map(drop)
}

/// Whether the other side has closed within the time of a look.
fn is_closed(vm: &UnixStream) -> bool {
    let mut ready = [PollFd::new(vm, PollFlags::RDHUP)];
    let look = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().into() };
    poll(&mut ready, Some(&look)).is_ok_and(|ready| ready > 0)
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec as u32)
}
