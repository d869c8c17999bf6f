//! The node's timers: one thread for all sleeping guests, and a few more that come and go with work in the background.

use crate::error::Error;
use once_cell::sync::OnceCell;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Sleep;

static RUNTIME: OnceCell<Runtime> = OnceCell::new();

fn runtime() -> std::io::Result<&'static Runtime> {
    RUNTIME.get_or_try_init(|| {
        Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(4)
            .thread_name("wasm-timer")
            .enable_time()
            .build()
    })
}

/// A sleep that can be polled on any thread.
pub(super) fn sleep(time: Duration) -> Result<Sleep, Error> {
    let runtime = runtime().map_err(|error| Error::Internal(format!("no timer: {error}")))?;
    let _entered = runtime.enter();
    Ok(tokio::time::sleep(time))
}

/// Does `work` on a thread of its own, or here if there is none.
pub(super) fn in_background(work: impl FnOnce() + Send + 'static) {
    match runtime() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}
