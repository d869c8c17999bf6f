//! What a guest has open and has written: the bounds that `wasmtime-wasi` knows nothing of.

use super::grants::Grants;
use super::listing::{Listing, MOST_LISTED};
use crate::error::LimitError;
use crate::limits::Ceilings;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The longest path that Linux takes.
pub(crate) const LONGEST_PATH: usize = 4_096;

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

#[derive(Clone)]
struct Known {
    descriptor: Descriptor,
    /// It is of a directory that the guest may write to.
    writable: bool,
    /// Its room among what is open, where the guest opened it.
    room: Option<Arc<Room>>,
}

/// A guest's descriptors by number, as far as the bounds need to know them. Preview 1 has numbers of its own; those of a
/// component are its resources'.
pub(crate) struct Descriptors {
    known: HashMap<u32, Known>,
    listings: HashMap<u32, Listing>,
    /// Whether the guest may change what is in the directories that it was given, in order, and which of them is that of the
    /// null device.
    given: Vec<Known>,
    held: Arc<Held>,
}

/// What a guest has open and has written. It goes with the files, which may still be in use when their descriptors are closed:
/// by streams, and apart from the guest when that is gone.
pub(crate) struct Held {
    ceilings: Arc<Ceilings>,
    /// Among the node's files.
    files: AtomicU64,
    /// What the guest has opened of these itself.
    opened: AtomicU64,
    max_open: u64,
    written: AtomicU64,
    quota: u64,
}

/// Room for one open file, until the last who uses it lets it go.
pub(crate) struct Room(Arc<Held>);

impl Drop for Room {
    fn drop(&mut self) {
        self.0.close();
    }
}

// One guest counts here, from one thread at a time: nothing is lost between a look and a change.
impl Held {
    fn new(grants: &Grants, ceilings: &Arc<Ceilings>) -> Arc<Self> {
        let zero = || AtomicU64::new(0);
        let (ceilings, max_open, quota) = (Arc::clone(ceilings), grants.max_open, grants.quota);
        Arc::new(Self { ceilings, files: zero(), opened: zero(), max_open, written: zero(), quota })
    }

    fn reserve(&self, files: u64) -> Result<(), LimitError> {
        self.ceilings.files_counter().reserve(files)?;
        self.files.fetch_add(files, Relaxed);
        Ok(())
    }

    fn open(&self) -> Result<(), Full> {
        if self.opened.load(Relaxed) >= self.max_open {
            return Err(Full::Guest);
        }
        self.reserve(1).map_err(|_| Full::Node)?;
        self.opened.fetch_add(1, Relaxed);
        Ok(())
    }

    fn close(&self) {
        self.opened.fetch_sub(1, Relaxed);
        self.files.fetch_sub(1, Relaxed);
        self.ceilings.files_counter().release(1);
    }

    /// Counts `bytes` as written, if the quota allows that.
    pub(crate) fn charge(&self, bytes: u64) -> bool {
        let sum = self.written.load(Relaxed).saturating_add(bytes);
        let within = sum <= self.quota;
        if within {
            self.written.store(sum, Relaxed);
        }
        within
    }

    /// Takes back what was charged and not written.
    pub(crate) fn refund(&self, bytes: u64) {
        self.written.store(self.written.load(Relaxed).saturating_sub(bytes), Relaxed);
    }
}

/// What a write of `length` bytes at `start` adds to a file of `size`: what it skips counts as well, since a byte in each block of a
/// hole fills them all.
pub(crate) fn growth(size: u64, start: u64, length: u64) -> u64 {
    length.saturating_add(start.saturating_sub(size))
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ceilings.files_counter().release(self.files.load(Relaxed));
    }
}

impl Descriptors {
    /// Those that a guest begins with: three standard streams, then the directories, and last that of the null device. They
    /// have the numbers of preview 1.
    pub(super) fn new(grants: &Grants, ceilings: &Arc<Ceilings>) -> Result<Self, LimitError> {
        let known = |descriptor, writable| Known { descriptor, writable, room: None };
        let streams = [Descriptor::Stdin, Descriptor::Stdout, Descriptor::Stderr];
        let streams = streams.map(|descriptor| known(descriptor, false));
        let count = grants.directories();
        let null = grants.null.as_ref().map(|_| known(Descriptor::NullFolder, false));
        // The private directory comes behind the others.
        let writable = grants.dirs.iter().map(|directory| directory.writable).chain([true]);
        let directories = writable.map(|writable| known(Descriptor::Given, writable));
        let given: Vec<Known> = directories.take(count - usize::from(null.is_some())).chain(null).collect();
        let held = Held::new(grants, ceilings);
        // A private directory is also held open to be removed.
        held.reserve(count as u64 + u64::from(grants.scratch.is_some()))?;
        let known = (0..).zip(streams.into_iter().chain(given.iter().cloned())).collect();
        Ok(Self { known, listings: HashMap::new(), given, held })
    }

    /// Forgets the numbers of preview 1, for a component: what that is given is known by [`Descriptors::give`].
    pub(crate) fn begin_empty(&mut self) {
        self.known.clear();
    }

    /// A component has the directory that it was given at `index`, among all, as its resource `number`.
    pub(crate) fn give(&mut self, number: u32, index: usize) {
        if let Some(given) = self.given.get(index) {
            self.known.insert(number, given.clone());
        }
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
        self.held.open()
    }

    /// Gives the room back for what was not opened, or is closed.
    pub(crate) fn release(&mut self) {
        self.held.close();
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
        let (writable, room) = (self.is_writable(inside), Some(Arc::new(Room(self.held()))));
        self.known.insert(number, Known { descriptor, writable, room });
    }

    /// The room that a descriptor takes, for whoever uses its file as well.
    pub(crate) fn room(&self, number: u32) -> Option<Arc<Room>> {
        self.known.get(&number)?.room.clone()
    }

    pub(crate) fn close(&mut self, number: u32) {
        self.listings.remove(&number);
        self.known.remove(&number);
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

    /// Forgets what was listed of it.
    pub(crate) fn forget_listing(&mut self, number: u32) {
        self.listings.remove(&number);
    }

    /// A listing to take, beside those that are there.
    pub(crate) fn new_listing(&self) -> Listing {
        let others: usize = self.listings.values().map(Listing::size).sum();
        Listing::new(MOST_LISTED.saturating_sub(others), self.ceilings())
    }

    pub(crate) fn keep_listing(&mut self, number: u32, listing: Listing) {
        self.listings.insert(number, listing);
    }

    /// Counts `bytes` as written, if the quota allows that.
    pub(crate) fn charge(&mut self, bytes: u64) -> bool {
        self.held.charge(bytes)
    }

    /// Takes back what was charged and not written.
    pub(crate) fn refund(&mut self, bytes: u64) {
        self.held.refund(bytes);
    }
}
