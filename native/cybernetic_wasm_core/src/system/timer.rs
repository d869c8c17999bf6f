//! The node's timers: one thread for all sleeping guests.
//!
//! It keeps time to a tenth of a millisecond: `tokio`'s timers count whole ones, so that a sleep of one takes up to two.

use crate::error::Error;
use once_cell::sync::OnceCell;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Sleeps end on multiples of this, so that the thread wakes at most so often, however many guests sleep however shortly.
const GRAIN: Duration = Duration::from_micros(100);

/// When a sleep ends, and its number: several may end at once.
type Key = (Instant, u64);

struct Timers {
    began: Instant,
    sleeping: Mutex<BTreeMap<Key, Waker>>,
    /// Told when a sleep is to end before all others.
    earlier: Condvar,
}

/// A sleep that can be polled on any thread.
pub(crate) struct Sleep {
    key: Key,
    timers: Arc<Timers>,
}

pub(crate) fn sleep(time: Duration) -> Result<Sleep, Error> {
    static TIMERS: OnceCell<Arc<Timers>> = OnceCell::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let timers = TIMERS.get_or_try_init(Timers::start);
    let timers = timers.map_err(|error| Error::Internal(format!("no timer: {error}")))?;
    Ok(Sleep { key: (timers.later(time), NEXT.fetch_add(1, Relaxed)), timers: Arc::clone(timers) })
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.key.0 {
            return Poll::Ready(());
        }
        self.timers.wake(self.key, context.waker());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let _waker = self.timers.sleeping.lock().remove(&self.key);
    }
}

impl Timers {
    fn start() -> std::io::Result<Arc<Self>> {
        let (sleeping, earlier) = (Mutex::default(), Condvar::new());
        let timers = Arc::new(Self { began: Instant::now(), sleeping, earlier });
        let kept = Arc::clone(&timers);
        std::thread::Builder::new().name("wasm-timer".into()).spawn(move || timers.run())?;
        Ok(kept)
    }

    /// The first multiple of the grain that is at least `time` away.
    fn later(&self, time: Duration) -> Instant {
        let grains = (self.began.elapsed() + time).as_nanos().div_ceil(GRAIN.as_nanos());
        let since = grains.saturating_mul(GRAIN.as_nanos());
        self.began + Duration::from_nanos(u64::try_from(since).unwrap_or(u64::MAX))
    }

    fn wake(&self, key: Key, waker: &Waker) {
        let mut sleeping = self.sleeping.lock();
        sleeping.insert(key, waker.clone());
        if sleeping.first_key_value().is_some_and(|(first, _)| *first == key) {
            self.earlier.notify_one();
        }
    }

    fn run(&self) {
        // Linux lets a thread sleep 50 µs longer than it wants to, unless told otherwise. Where that fails, it stays so.
        #[cfg(target_os = "linux")]
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
        let mut sleeping = self.sleeping.lock();
        loop {
            match sleeping.first_entry() {
                None => self.earlier.wait(&mut sleeping),
                Some(first) if first.key().0 <= Instant::now() => {
                    let waker = first.remove();
                    // Whoever is woken may have to wait for a lock, and others go to sleep meanwhile.
                    MutexGuard::unlocked(&mut sleeping, || waker.wake());
                }
                Some(first) => {
                    let until = first.key().0;
                    let _ = self.earlier.wait_until(&mut sleeping, until);
                }
            }
        }
    }
}
