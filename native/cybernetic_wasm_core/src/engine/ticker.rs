//! The one thread that advances epochs. It sleeps when no guest of an epoch engine runs, so an idle node has no ticks.

use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use wasmtime::EngineWeak;

/// Time between ticks: a guest's epoch slice, well under the millisecond that a normal scheduler allows.
const TICK: Duration = Duration::from_micros(500);

/// Ticks without a running guest before the thread goes to sleep: short calls in a row do not each wake it.
const LINGER: u32 = 40;

/// The epoch ticker of a runtime.
#[derive(Default)]
pub(crate) struct Ticker {
    running: AtomicUsize,
    ticks: AtomicU64,
    engines: Mutex<Vec<EngineWeak>>,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    started: bool,
    asleep: bool,
}

/// Keeps the ticker going while it lives: one guest's time on a scheduler.
pub(crate) struct Running<'a>(&'a Ticker);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Ticker {
    pub(crate) fn add(&self, engine: EngineWeak) {
        let mut engines = self.engines.lock();
        engines.retain(|engine| engine.upgrade().is_some());
        engines.push(engine);
    }

    /// Ticks so far.
    pub(crate) fn ticks(&self) -> u64 {
        self.ticks.load(SeqCst)
    }

    pub(crate) fn run(self: &Arc<Self>) -> Running<'_> {
        if self.running.fetch_add(1, SeqCst) == 0 {
            self.rouse();
        }
        Running(self)
    }

    fn rouse(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if !state.started {
            state.started = true;
            let ticker = Arc::clone(self);
            let thread = std::thread::Builder::new().name("wasm-epoch".into());
            // Without the thread a guest of this engine still ends by fuel or not at all: say so by trying again next time.
            state.started = thread.spawn(move || ticker.tick()).is_ok();
        } else if state.asleep {
            self.wake.notify_one();
        }
    }

    fn tick(&self) {
        let mut idle = 0;
        loop {
            std::thread::sleep(TICK);
            idle = if self.running.load(SeqCst) == 0 { idle + 1 } else { 0 };
            if idle > LINGER {
                self.sleep();
                idle = 0;
            }
            self.ticks.fetch_add(1, SeqCst);
            for engine in self.engines.lock().iter().filter_map(EngineWeak::upgrade) {
                engine.increment_epoch();
            }
        }
    }

    fn sleep(&self) {
        let mut state = self.state.lock();
        state.asleep = true;
        while self.running.load(SeqCst) == 0 {
            self.wake.wait(&mut state);
        }
        state.asleep = false;
    }
}
