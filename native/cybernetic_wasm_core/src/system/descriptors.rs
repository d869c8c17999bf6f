//! What a guest has open and has written: the bounds that `wasmtime-wasi` knows nothing of.

use super::grants::Grants;
use crate::error::LimitError;
use crate::limits::Ceilings;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a new file, directory or link counts as, however little is in it: each takes a block and an inode.
pub(crate) const NEW_FILE: u64 = 4_096;

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Descriptor {
    Stdin,
    Stdout,
    Stderr,
    /// A directory that the guest was given.
    Given,
    /// The directory in which it finds its null device.
    NullFolder,
    /// A file or directory that it opened.
    Opened,
    /// A null device that it opened.
    Null,
}

impl Descriptor {
    /// Whether the guest opened it.
    pub(crate) fn is_opened(self) -> bool {
        matches!(self, Descriptor::Opened | Descriptor::Null)
    }
}

/// Where there is no room for one more descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Guest,
    Node,
}

/// A guest's descriptors by number, as far as the bounds need to know them, and what is left of its quota.
pub(crate) struct Descriptors {
    known: HashMap<u32, Descriptor>,
    opened: u64,
    max_open: u64,
    written: u64,
    quota: u64,
    held: Arc<Held>,
}

/// What a guest has open among the node's files. It goes with the files, which may still be in use apart from the guest when
/// that is gone.
pub(crate) struct Held {
    ceilings: Arc<Ceilings>,
    files: AtomicU64,
}

impl Held {
    fn reserve(&self, files: u64) -> Result<(), LimitError> {
        self.ceilings.files_counter().reserve(files)?;
        self.files.fetch_add(files, Relaxed);
        Ok(())
    }

    fn release(&self) {
        self.files.fetch_sub(1, Relaxed);
        self.ceilings.files_counter().release(1);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ceilings.files_counter().release(self.files.load(Relaxed));
    }
}

impl Descriptors {
    /// Those that a guest begins with: three standard streams, then the directories, and last that of the null device.
    pub(super) fn new(grants: &Grants, ceilings: &Arc<Ceilings>) -> Result<Self, LimitError> {
        let streams = [Descriptor::Stdin, Descriptor::Stdout, Descriptor::Stderr];
        let given = grants.directories();
        let null = grants.null.as_ref().map(|_| Descriptor::NullFolder);
        let directories = std::iter::repeat_n(Descriptor::Given, given - usize::from(null.is_some())).chain(null);
        let known = streams.into_iter().chain(directories);
        let held = Arc::new(Held { ceilings: Arc::clone(ceilings), files: AtomicU64::new(0) });
        // A private directory is also held open to be removed.
        held.reserve(given as u64 + u64::from(grants.scratch.is_some()))?;
        Ok(Self {
            known: (0..).zip(known).collect(),
            opened: 0,
            max_open: grants.max_open,
            written: 0,
            quota: grants.quota,
            held,
        })
    }

    pub(crate) fn get(&self, number: u32) -> Option<Descriptor> {
        self.known.get(&number).copied()
    }

    /// Makes room for one more, among the guest's own and among the node's.
    pub(crate) fn reserve(&mut self) -> Result<(), Full> {
        if self.opened >= self.max_open {
            return Err(Full::Guest);
        }
        self.held.reserve(1).map_err(|_| Full::Node)?;
        self.opened += 1;
        Ok(())
    }

    /// Gives the room back for what was not opened, or is closed.
    pub(crate) fn release(&mut self) {
        self.opened -= 1;
        self.held.release();
    }

    pub(crate) fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held)
    }

    /// The node whose files and memory the guest uses.
    pub(crate) fn ceilings(&self) -> Arc<Ceilings> {
        Arc::clone(&self.held.ceilings)
    }

    /// What there was room for is open.
    pub(crate) fn open(&mut self, number: u32, descriptor: Descriptor) {
        self.known.insert(number, descriptor);
    }

    pub(crate) fn close(&mut self, number: u32) {
        if self.known.remove(&number).is_some_and(Descriptor::is_opened) {
            self.release();
        }
    }

    /// `from` becomes `to`, which is closed for it.
    pub(crate) fn renumber(&mut self, from: u32, to: u32) {
        if from != to {
            self.close(to);
            if let Some(descriptor) = self.known.remove(&from) {
                self.known.insert(to, descriptor);
            }
        }
    }

    /// Counts `bytes` as written, if the quota allows that.
    pub(crate) fn charge(&mut self, bytes: u64) -> bool {
        let sum = self.written.saturating_add(bytes);
        let within = sum <= self.quota;
        if within {
            self.written = sum;
        }
        within
    }

    /// Takes back what was charged and not written.
    pub(crate) fn refund(&mut self, bytes: u64) {
        self.written = self.written.saturating_sub(bytes);
    }
}
