//! What a guest has open and has written: the bounds that `wasmtime-wasi` knows nothing of.

use super::grants::Grants;
use super::listing::{Listing, MOST_LISTED};
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

#[derive(Debug, Clone, Copy)]
struct Known {
    descriptor: Descriptor,
    /// It is of a directory that the guest may write to.
    writable: bool,
}

/// A guest's descriptors by number, as far as the bounds need to know them, and what is left of its quota.
pub(crate) struct Descriptors {
    known: HashMap<u32, Known>,
    listings: HashMap<u32, Listing>,
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
        let streams = streams.map(|descriptor| Known { descriptor, writable: false });
        let given = grants.directories();
        let null = grants.null.as_ref().map(|_| Known { descriptor: Descriptor::NullFolder, writable: false });
        // The private directory comes behind the others.
        let writable = grants.dirs.iter().map(|directory| directory.writable).chain([true]);
        let directories = writable.map(|writable| Known { descriptor: Descriptor::Given, writable });
        let directories = directories.take(given - usize::from(null.is_some())).chain(null);
        let known = streams.into_iter().chain(directories);
        let held = Arc::new(Held { ceilings: Arc::clone(ceilings), files: AtomicU64::new(0) });
        // A private directory is also held open to be removed.
        held.reserve(given as u64 + u64::from(grants.scratch.is_some()))?;
        Ok(Self {
            known: (0..).zip(known).collect(),
            listings: HashMap::new(),
            opened: 0,
            max_open: grants.max_open,
            written: 0,
            quota: grants.quota,
            held,
        })
    }

    pub(crate) fn get(&self, number: u32) -> Option<Descriptor> {
        self.known.get(&number).map(|known| known.descriptor)
    }

    /// Whether the guest may change what is in this directory, or this file.
    pub(crate) fn is_writable(&self, number: u32) -> bool {
        self.known.get(&number).is_some_and(|known| known.writable)
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

    /// What there was room for is open, in the directory `inside`.
    pub(crate) fn open(&mut self, number: u32, descriptor: Descriptor, inside: u32) {
        let writable = self.is_writable(inside);
        self.known.insert(number, Known { descriptor, writable });
    }

    pub(crate) fn close(&mut self, number: u32) {
        self.listings.remove(&number);
        if self.known.remove(&number).is_some_and(|known| known.descriptor.is_opened()) {
            self.release();
        }
    }

    /// `from` becomes `to`, which is closed for it.
    pub(crate) fn renumber(&mut self, from: u32, to: u32) {
        if from != to {
            self.close(to);
            if let Some(known) = self.known.remove(&from) {
                self.known.insert(to, known);
            }
            if let Some(listing) = self.listings.remove(&from) {
                self.listings.insert(to, listing);
            }
        }
    }

    /// What was listed of the directory `number`.
    pub(crate) fn listing(&self, number: u32) -> Option<&Listing> {
        self.listings.get(&number)
    }

    /// Forgets what was listed of it, and gives a listing to take anew.
    pub(crate) fn new_listing(&mut self, number: u32) -> Listing {
        self.listings.remove(&number);
        let others: usize = self.listings.values().map(Listing::size).sum();
        Listing::new(MOST_LISTED.saturating_sub(others), self.ceilings())
    }

    pub(crate) fn keep_listing(&mut self, number: u32, listing: Listing) {
        self.listings.insert(number, listing);
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
