//! Work on a guest's files that may keep a thread for longer than a slice, done apart from the guest: on a thread of its own,
//! with a copy of what it reads of the guest's memory. The guest waits for it like for any other event, and its deadline holds.

use super::{Grants, System};
use crate::error::{Error, LimitError};
use crate::limits::Ceilings;
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi::p1::WasiP1Ctx;

/// Threads for work apart from guests. They end when there is nothing to do.
const MOST_THREADS: usize = 64;

/// Bytes of a result that is a number.
pub(crate) const NUMBER: usize = size_of::<u32>();

/// Room for what is read of the guest's memory, or is to be written there, and behind it, aligned, for a number. It counts as
/// memory of the node's guests.
pub(crate) struct Buffer {
    pub(crate) bytes: Vec<u8>,
    /// Where the number is.
    pub(crate) number: u32,
    ceilings: Arc<Ceilings>,
}

impl Buffer {
    pub(crate) fn new(length: usize, ceilings: Arc<Ceilings>) -> Result<Self, LimitError> {
        let number = length.next_multiple_of(NUMBER);
        let size = number + NUMBER;
        ceilings.memory_counter().reserve(size as u64)?;
        // Untouched pages of it take no memory.
        Ok(Self { bytes: vec![0; size], number: number as u32, ceilings })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.ceilings.memory_counter().release(self.bytes.len() as u64);
    }
}

/// How much guests may have done apart from them at once: those with the same directories, and all of the node. What hangs
/// for ever, on a pipe in one of their directories, keeps those of other directories from nothing.
pub(super) struct Share(Arc<Semaphore>);

type Shares = BTreeMap<Vec<PathBuf>, Weak<Semaphore>>;

impl Share {
    pub(super) fn of(grants: &Grants) -> Self {
        const MOST_APART: usize = 8;
        static SHARES: Mutex<Shares> = Mutex::new(BTreeMap::new());
        let mut directories: Vec<PathBuf> = grants.dirs.iter().map(|directory| directory.host.clone()).collect();
        directories.sort();
        let mut shares = SHARES.lock();
        if let Some(share) = shares.get(&directories).and_then(Weak::upgrade) {
            return Self(share);
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(MOST_APART));
        shares.insert(directories, Arc::downgrade(&share));
        Self(share)
    }

    async fn enter(&self) -> Result<[OwnedSemaphorePermit; 2], Error> {
        static NODE: OnceCell<Arc<Semaphore>> = OnceCell::new();
        let node = NODE.get_or_init(|| Arc::new(Semaphore::new(MOST_THREADS)));
        let closed = |_| Error::Internal("no thread is to be had".into());
        let own = Arc::clone(&self.0).acquire_owned().await.map_err(closed)?;
        Ok([own, Arc::clone(node).acquire_owned().await.map_err(closed)?])
    }
}

/// Does `work` on a thread of its own, to its end even when nobody waits for it any more.
async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    static THREADS: OnceCell<Runtime> = OnceCell::new();
    // Of this runtime nothing is used but the threads for what blocks.
    let start = || Builder::new_current_thread().max_blocking_threads(MOST_THREADS).thread_name("wasm-apart").build();
    let threads = THREADS.get_or_try_init(start).map_err(|error| Error::Internal(format!("no thread: {error}")))?;
    threads.spawn_blocking(work).await.map_err(|error| Error::Internal(format!("a thread failed: {error}")))
}

impl System {
    /// Lends what `wasmtime-wasi` knows of the guest to `work` on another thread, with what that fills. A guest that is given up
    /// meanwhile leaves both there.
    pub(crate) async fn apart<B: Send + 'static, T: Send + 'static>(
        &mut self,
        mut buffer: B,
        work: impl FnOnce(&mut WasiP1Ctx, &mut B) -> T + Send + 'static,
    ) -> Result<(B, T), Error> {
        let Some(mut ctx) = self.ctx.take() else { return Err(Error::Internal("there is no system".into())) };
        let (ctx, buffer, done) = self
            .elsewhere(move || {
                let done = work(&mut ctx, &mut buffer);
                (ctx, buffer, done)
            })
            .await?;
        self.ctx = Some(ctx);
        Ok((buffer, done))
    }

    /// Does `work` on another thread, among all that is done there for guests.
    pub(crate) async fn elsewhere<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let (permits, held) = (self.share.enter().await?, self.descriptors.held());
        elsewhere(move || {
            let done = work();
            drop((permits, held));
            done
        })
        .await
    }
}
