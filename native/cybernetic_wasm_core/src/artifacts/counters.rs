//! What is counted of compiled code on disk.

use super::room::Room;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What was done with files of compiled code, and what there is of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArtifactStats {
    /// Modules loaded from the disk.
    pub hits: u64,
    /// Modules of which there was no file, or none that was read in time.
    pub misses: u64,
    /// Files that were not taken.
    pub refused: u64,
    /// Files written.
    pub writes: u64,
    /// Files that could not be written.
    pub unwritten: u64,
    /// Files removed for want of room.
    pub evictions: u64,
    /// Files, when they were last counted.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) writes: AtomicU64,
    pub(super) unwritten: AtomicU64,
    pub(super) evictions: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl Counters {
    /// Notes what the folder holds now.
    pub(super) fn note(&self, room: &Room) {
        self.evictions.fetch_add(room.evicted, Relaxed);
        self.entries.store(room.entries, Relaxed);
        self.bytes.store(room.bytes, Relaxed);
    }

    pub(super) fn stats(&self) -> ArtifactStats {
        let read = |count: &AtomicU64| count.load(Relaxed);
        ArtifactStats {
            hits: read(&self.hits),
            misses: read(&self.misses),
            refused: read(&self.refused),
            writes: read(&self.writes),
            unwritten: read(&self.unwritten),
            evictions: read(&self.evictions),
            entries: read(&self.entries),
            bytes: read(&self.bytes),
        }
    }
}
