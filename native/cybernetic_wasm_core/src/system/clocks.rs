//! What a guest's clocks show.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};

/// What a guest's clocks show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clocks {
    /// Nothing: looking is refused, and so is sleeping.
    None,
    /// The time.
    Real,
    /// Always these nanoseconds since 1970. Sleeping takes no time.
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
    step: u64,
    stands: bool,
}

impl Virtual {
    fn clock(start: u64, step: u64, stands: bool) -> Clock {
        Clock::Virtual(Arc::new(Self { start, now: AtomicU64::new(start), step, stands }))
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
}

impl Clock {
    pub(super) fn new(clocks: &Clocks) -> Self {
        match *clocks {
            Clocks::None => Clock::None,
            Clocks::Real => Clock::Real,
            Clocks::Fixed(time) => Virtual::clock(time, 0, true),
            Clocks::Stepped(start, step) => Virtual::clock(start, step, false),
        }
    }

    pub(super) fn give_to(&self, builder: &mut WasiCtxBuilder) {
        if let Clock::Virtual(clock) = self {
            builder.wall_clock(Shown(Arc::clone(clock))).monotonic_clock(Shown(Arc::clone(clock)));
        }
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

    /// Lets a sleep pass where it takes no time; `false` where it does.
    pub(crate) fn skip(&self, nanoseconds: u64) -> bool {
        let Clock::Virtual(clock) = self else { return false };
        if !clock.stands {
            clock.move_on(nanoseconds);
        }
        true
    }

    /// A file's times are a clock, too: whoever has no real one sees in a filestat what the clock shows, or nothing.
    pub(crate) fn hide_times(&self, memory: &mut [u8], filestat: u32) {
        const TIMES: std::ops::Range<usize> = 40..64;
        let shown = match self {
            Clock::Real => return,
            Clock::None => 0,
            Clock::Virtual(_) => self.wall(),
        };
        let times = memory.get_mut(filestat as usize..).and_then(|filestat| filestat.get_mut(TIMES));
        for time in times.into_iter().flat_map(|times| times.chunks_exact_mut(size_of::<u64>())) {
            time.copy_from_slice(&shown.to_le_bytes());
        }
    }

    /// What a virtual monotonic clock shows, without moving it on.
    pub(crate) fn monotonic(&self) -> Option<u64> {
        let Clock::Virtual(clock) = self else { return None };
        Some(clock.now.load(Relaxed) - clock.start)
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
        self.0.look() - self.0.start
    }
}
