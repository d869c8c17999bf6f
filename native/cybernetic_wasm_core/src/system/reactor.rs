//! The node's reactor: one thread, which tells whoever waits for a socket that it can be read or written; and others on which names
//! are looked up.

use crate::error::Error;
use once_cell::sync::OnceCell;
use std::future::poll_fn;
use std::pin::pin;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads that wait for name servers. They end when there is nothing to look up.
const MOST_LOOKUPS: usize = 64;

/// Starts it, if it has not been.
pub(super) fn reactor() -> Result<Handle, Error> {
    static REACTOR: OnceCell<Runtime> = OnceCell::new();
    let start = || {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).max_blocking_threads(MOST_LOOKUPS).thread_name("wasm-sockets").enable_io().build()
    };
    let reactor = REACTOR.get_or_try_init(start);
    let reactor = reactor.map_err(|error| Error::Internal(format!("no sockets: {error}")))?;
    Ok(reactor.handle().clone())
}

/// Does work that may wait for sockets, which have to be registered where the work is done.
pub(crate) async fn within<T>(reactor: Option<Handle>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        let _entered = reactor.as_ref().map(Handle::enter);
        work.as_mut().poll(context)
    })
    .await
}
