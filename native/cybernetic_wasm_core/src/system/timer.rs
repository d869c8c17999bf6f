//! The node's timers: one thread for all sleeping guests, and more that come and go with work apart from the guests.

use crate::error::Error;
use once_cell::sync::OnceCell;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Sleep;

/// Threads for work apart from guests. They end when there is nothing to do.
pub(super) const MOST_THREADS: usize = 64;

static RUNTIME: OnceCell<Runtime> = OnceCell::new();

fn runtime() -> std::io::Result<&'static Runtime> {
    RUNTIME.get_or_try_init(|| {
        Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(MOST_THREADS)
            .thread_name("wasm-timer")
            .enable_time()
            .build()
    })
}

/// A sleep that can be polled on any thread.
pub(crate) fn sleep(time: Duration) -> Result<Sleep, Error> {
    let runtime = runtime().map_err(|error| Error::Internal(format!("no timer: {error}")))?;
    let _entered = runtime.enter();
    Ok(tokio::time::sleep(time))
}

/// Does `work` on a thread of its own, to its end even when nobody waits for it any more.
pub(super) async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let runtime = runtime().map_err(|error| Error::Internal(format!("no thread: {error}")))?;
    runtime.spawn_blocking(work).await.map_err(|error| Error::Internal(format!("a thread failed: {error}")))
}
