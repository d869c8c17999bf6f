//! What a guest's clocks show.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wasmtime_wasi::clocks::MonotonicClock;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

/// What a monotonic clock shows first, in nanoseconds. Programs take 0 for a clock that does not run, whatever unit they count
/// in, so it has run for a second by then.
const ALREADY_RUN: u64 = 1_000_000_000;

/// What waiting for a time that has come takes on a virtual clock, in nanoseconds: whoever waits in a loop for a part of what
/// is left, rounded down to nothing, gets there.
const MOMENT: u64 = 1_000;

/// What a guest's clocks show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clocks {
    /// Nothing: looking is refused, and so is sleeping.
    None,
    /// The time.
    Real,
    /// These nanoseconds since 1970. Only sleeping moves them on, and takes no time.
    Fixed(u64),
    /// First these nanoseconds since 1970, and so many more after each look. Sleeping moves them on and takes no time.
    Stepped(u64, u64),
}

/// A guest's clock.
#[derive(Clone)]
pub(crate) enum Clock {
    None,
    Real,
    Virtual(Arc<Virtual>),
}

/// A clock that only looks and sleeps move on.
pub(crate) struct Virtual {
    start: u64,
    now: AtomicU64,
    /// By how much a look moves it on.
    step: u64,
    waits: Mutex<Waits>,
}

/// Who waits for a virtual clock, while a component waits for several things.
#[derive(Default)]
struct Waits {
    /// The first time that somebody waits for.
    first: Option<u64>,
    /// A time that somebody waits for has come.
    came: bool,
    /// The clock was moved on for it.
    passed: bool,
}

impl Virtual {
    fn clock(start: u64, step: u64) -> Clock {
        Clock::Virtual(Arc::new(Self { start, now: AtomicU64::new(start), step, waits: Mutex::default() }))
    }

    fn look(&self) -> u64 {
        self.move_on(self.step)
    }

    /// The time before it is moved on.
    fn move_on(&self, by: u64) -> u64 {
        let now = self.now.load(Relaxed);
        // One guest looks at it, from one thread at a time.
        self.now.store(now.saturating_add(by), Relaxed);
        now
    }

    /// What a monotonic clock shows when the other shows `now`.
    fn monotonic(&self, now: u64) -> u64 {
        ALREADY_RUN.saturating_add(now - self.start)
    }

    fn has_come(&self, time: u64) -> bool {
        let mut waits = self.waits.lock();
        let come = self.monotonic(self.now.load(Relaxed)) >= time;
        if come {
            waits.came = true;
        } else {
            waits.first = Some(waits.first.map_or(time, |first| first.min(time)));
        }
        come
    }

    fn pass(&self) -> bool {
        let mut waits = self.waits.lock();
        let Some(time) = waits.first.take() else { return false };
        waits.passed = true;
        self.move_on(time.saturating_sub(self.monotonic(self.now.load(Relaxed))));
        true
    }
}

impl Clock {
    pub(super) fn new(clocks: &Clocks) -> Self {
        match *clocks {
            Clocks::None => Clock::None,
            Clocks::Real => Clock::Real,
            Clocks::Fixed(time) => Virtual::clock(time, 0),
            Clocks::Stepped(start, step) => Virtual::clock(start, step),
        }
    }

    pub(super) fn give_to(&self, builder: &mut WasiCtxBuilder) {
        match self {
            Clock::Virtual(clock) => {
                builder.wall_clock(Shown(Arc::clone(clock))).monotonic_clock(Shown(Arc::clone(clock)))
            }
            Clock::Real | Clock::None => builder.monotonic_clock(Running(MonotonicClock::new())),
        };
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Clock::None)
    }

    pub(crate) fn is_virtual(&self) -> bool {
        matches!(self, Clock::Virtual(_))
    }

    /// Nanoseconds since 1970, for a sleep until then.
    pub(crate) fn wall(&self) -> u64 {
        match self {
            Clock::Virtual(clock) => clock.now.load(Relaxed),
            _ => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64),
        }
    }

    /// Where the clock began, if nothing but the guest moves it on.
    pub(super) fn start(&self) -> Option<u64> {
        let Clock::Virtual(clock) = self else { return None };
        Some(clock.start)
    }

    /// Lets a sleep pass where it takes no time; `false` where it does.
    pub(crate) fn skip(&self, nanoseconds: u64) -> bool {
        let Clock::Virtual(clock) = self else { return false };
        clock.move_on(if nanoseconds == 0 { MOMENT } else { nanoseconds });
        true
    }

    /// What a virtual monotonic clock shows, without moving it on.
    pub(crate) fn monotonic(&self) -> Option<u64> {
        let clock = self.virtual_one()?;
        Some(clock.monotonic(clock.now.load(Relaxed)))
    }

    fn virtual_one(&self) -> Option<&Virtual> {
        if let Clock::Virtual(clock) = self { Some(clock) } else { None }
    }

    /// Whether a virtual monotonic clock has come to `time`, without moving it on. Where it has not, that somebody waits for that
    /// is kept.
    pub(crate) fn has_come(&self, time: u64) -> bool {
        self.virtual_one().is_none_or(|clock| clock.has_come(time))
    }

    /// Whether somebody waits for a virtual clock.
    pub(crate) fn is_awaited(&self) -> bool {
        self.virtual_one().is_some_and(|clock| clock.waits.lock().first.is_some())
    }

    /// Forgets who has waited.
    pub(crate) fn forget_waits(&self) {
        if let Some(clock) = self.virtual_one() {
            *clock.waits.lock() = Waits::default();
        }
    }

    /// Moves a virtual clock on to the first time that somebody waits for; `false` where nobody does.
    pub(crate) fn pass(&self) -> bool {
        self.virtual_one().is_some_and(Virtual::pass)
    }

    /// Nobody waits any more. If it was for a time that had come already, that took a moment.
    pub(crate) fn waited(&self) {
        let Some(clock) = self.virtual_one() else { return };
        let waits = std::mem::take(&mut *clock.waits.lock());
        if waits.came && !waits.passed {
            clock.move_on(MOMENT);
        }
    }

    /// Somebody has looked whether a time had come, and it had not.
    pub(crate) fn looked_at(&self) {
        if self.is_awaited() {
            self.forget_waits();
            self.virtual_one().map(Virtual::look);
        }
    }
}

/// As `wasmtime-wasi` looks at it.
struct Shown(Arc<Virtual>);

impl HostWallClock for Shown {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.0.look())
    }
}

impl HostMonotonicClock for Shown {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.0.monotonic(self.0.look())
    }
}

/// The machine's monotonic clock, which `wasmtime-wasi` begins at 0.
struct Running(MonotonicClock);

impl HostMonotonicClock for Running {
    fn resolution(&self) -> u64 {
        self.0.resolution()
    }

    fn now(&self) -> u64 {
        ALREADY_RUN.saturating_add(self.0.now())
    }
}
