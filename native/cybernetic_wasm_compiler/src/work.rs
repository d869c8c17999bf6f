//! A worker: compiles one module after another, and watches itself meanwhile.

use crate::fences;
use cybernetic_wasm_core::compiler::wire::{receive, send};
use cybernetic_wasm_core::compiler::{Answer, BUILD, Budget, Request, Word, Workshop, compiling_pool, hand_over};
use cybernetic_wasm_core::error::{Limit, LimitError};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, nice};
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a worker looks at what it uses. So much later than its budget it ends at the most.
const LOOK: Duration = Duration::from_millis(10);

/// Runs until the socket is closed, or a module takes more than it may.
pub(crate) fn work(keeper: &str, space: &str, niceness: &str) -> io::Result<()> {
    fences::close_others();
    fences::leave_session();
    fences::die_with(keeper.parse().ok().and_then(Pid::from_raw))?;
    let _ = niceness.parse().map(nice);
    // What cannot be opened any more behind the fences.
    let memory = File::open("/proc/self/statm").ok();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    fences::enclose(space.parse().map_err(io::Error::other)?);
    // What a panic says goes into the answer.
    std::panic::set_hook(Box::new(|_| {}));
    let vm = Arc::new(fences::socket()?);
    let meter = Arc::new(Meter { memory, job: Mutex::default(), changed: Condvar::new() });
    let pool = compiling_pool(cores, || {})?;
    watch(&meter, &vm)?;
    say(&vm, &meter, Answer::Hello { build: BUILD.to_owned() })?;
    let mut workshop = Workshop::default();
    while let Some(frame) = receive::<Request>(&vm)? {
        let (request, source) = (frame.header, frame.bytes);
        meter.begin(request.budget);
        let made = catch_unwind(AssertUnwindSafe(|| pool.install(|| workshop.compile(&request, &source))));
        // From here on the watch says nothing.
        meter.end();
        match made {
            Ok(Ok(product)) => hand_over(&vm, &product, meter.resident())?,
            Ok(Err(error)) => say(&vm, &meter, Answer::Refused(error.into()))?,
            Err(panic) => {
                // Nobody knows what it left behind.
                return say(&vm, &meter, Answer::Panicked(text(&*panic)));
            }
        }
    }
    Ok(())
}

fn say(vm: &UnixStream, meter: &Meter, answer: Answer) -> io::Result<()> {
    send(vm, &Word { answer, resident: meter.resident() }, &[], None)
}

fn text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// What the worker uses, and may use.
struct Meter {
    memory: Option<File>,
    /// The job under way: what it may take, and the processor time when it began.
    job: Mutex<Option<(Budget, Duration)>>,
    changed: Condvar,
}

impl Meter {
    fn job(&self) -> MutexGuard<'_, Option<(Budget, Duration)>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, budget: Budget) {
        *self.job() = Some((budget, processor_time()));
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

    /// What the job has taken too much of.
    fn excess(&self, (budget, began): (Budget, Duration)) -> Option<LimitError> {
        let (time, memory) = (processor_time().saturating_sub(began), self.resident());
        let millis = |time: Duration| time.as_micros().div_ceil(1_000) as u64;
        match (time > budget.time, memory > budget.memory) {
            (true, _) => Some(LimitError::new(Limit::CompileTime, millis(budget.time), millis(time))),
            (_, true) => Some(LimitError::new(Limit::CompileMemory, budget.memory, memory)),
            _ => None,
        }
    }
}

/// Ends the process when its job takes too much, or when the VM is gone.
fn watch(meter: &Arc<Meter>, vm: &Arc<UnixStream>) -> io::Result<()> {
    let (meter, vm) = (Arc::clone(meter), Arc::clone(vm));
    let watching = move || {
        loop {
            let mut job = meter.job();
            while job.is_none() {
                job = meter.changed.wait(job).unwrap_or_else(PoisonError::into_inner);
            }
            // The job cannot end while this is held, so that only one of the two answers.
            if let Some(excess) = job.and_then(|job| meter.excess(job)) {
                let _ = say(&vm, &meter, Answer::Refused(cybernetic_wasm_core::Error::from(excess).into()));
                std::process::exit(0);
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
