//! What a guest holds of the embedder's, behind its references: it counts as the guest's memory for as long as it is there. Equal
//! values are held once, however often they are given.

use crate::error::LimitError;
use crate::limits::{Ceilings, Reserved};
use crate::value::{Held, HostRef};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// So many may always come before any are forgotten.
const FEW: usize = 64;

/// What one guest holds.
#[derive(Default)]
pub(super) struct Holdings {
    bytes: Arc<AtomicU64>,
    /// By their digest.
    known: HashMap<u64, Vec<Weak<Holding>>, RandomState>,
    /// How many may come before those are forgotten that are gone.
    until: usize,
}

/// One value, until the guest's last reference to it is collected.
struct Holding {
    host: HostRef,
    size: u64,
    bytes: Arc<AtomicU64>,
    _reserved: Reserved,
}

impl Held for Holding {
    fn host(&self) -> &HostRef {
        &self.host
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.size, Relaxed);
    }
}

impl Holdings {
    /// Bytes of all that is held.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// What is the same as `host` and held already.
    pub(super) fn find(&self, digest: u64, host: &HostRef) -> Option<Arc<dyn Held>> {
        let mut known = self.known.get(&digest)?.iter().filter_map(Weak::upgrade);
        let same = |held: &Arc<Holding>| Arc::ptr_eq(&held.host, host) || held.host.same(&**host);
        known.find(same).map(|held| -> Arc<dyn Held> { held })
    }

    /// Holds `host` as well, if the node has room for it.
    pub(super) fn add(
        &mut self,
        digest: u64,
        host: HostRef,
        ceilings: &Arc<Ceilings>,
    ) -> Result<Arc<dyn Held>, LimitError> {
        let size = host.size();
        let mut reserved = Reserved::nothing(ceilings);
        reserved.add(size)?;
        self.bytes.fetch_add(size, Relaxed);
        let holding = Arc::new(Holding { host, size, bytes: Arc::clone(&self.bytes), _reserved: reserved });
        self.forget();
        self.known.entry(digest).or_default().push(Arc::downgrade(&holding));
        Ok(holding)
    }

    /// Forgets those that are gone, each time that as many have come as there were.
    fn forget(&mut self) {
        self.until = self.until.saturating_sub(1);
        if self.until > 0 {
            return;
        }
        self.known.retain(|_, alike| {
            alike.retain(|holding| holding.strong_count() > 0);
            !alike.is_empty()
        });
        self.until = self.known.values().map(Vec::len).sum::<usize>().max(FEW);
    }
}
