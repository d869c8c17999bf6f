//! What a guest has open and has written: the bounds that `wasmtime-wasi` knows nothing of.

use super::Grants;
use std::collections::HashMap;

/// What a new file, directory or link counts as, however little is in it: each takes a block and an inode.
pub(super) const NEW_FILE: u64 = 4_096;

/// The longest path that Linux takes.
pub(super) const LONGEST_PATH: u32 = 4_096;

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Descriptor {
    Stdin,
    Stdout,
    Stderr,
    /// A directory that the guest was given.
    Given,
    /// A file or directory that it opened.
    Opened,
}

/// A guest's descriptors by number, as far as the bounds need to know them, and what is left of its quota.
pub(super) struct Descriptors {
    known: HashMap<u32, Descriptor>,
    opened: u64,
    max_open: u64,
    written: u64,
    quota: u64,
}

impl Descriptors {
    /// Those that a guest begins with: three standard streams, then the directories.
    pub(super) fn new(given: u32, grants: &Grants) -> Self {
        let streams = [Descriptor::Stdin, Descriptor::Stdout, Descriptor::Stderr];
        let known = streams.into_iter().chain(std::iter::repeat_n(Descriptor::Given, given as usize));
        Self {
            known: (0..).zip(known).collect(),
            opened: 0,
            max_open: grants.max_open,
            written: 0,
            quota: grants.quota,
        }
    }

    pub(super) fn get(&self, number: u32) -> Option<Descriptor> {
        self.known.get(&number).copied()
    }

    pub(super) fn may_open(&self) -> bool {
        self.opened < self.max_open
    }

    pub(super) fn open(&mut self, number: u32) {
        self.opened += 1;
        self.known.insert(number, Descriptor::Opened);
    }

    pub(super) fn close(&mut self, number: u32) {
        if self.known.remove(&number) == Some(Descriptor::Opened) {
            self.opened -= 1;
        }
    }

    /// `from` becomes `to`, which is closed for it.
    pub(super) fn renumber(&mut self, from: u32, to: u32) {
        if from != to {
            self.close(to);
            if let Some(descriptor) = self.known.remove(&from) {
                self.known.insert(to, descriptor);
            }
        }
    }

    /// Counts `bytes` as written, if the quota allows that.
    pub(super) fn charge(&mut self, bytes: u64) -> bool {
        let sum = self.written.saturating_add(bytes);
        let within = sum <= self.quota;
        if within {
            self.written = sum;
        }
        within
    }

    /// Takes back what was charged and not written.
    pub(super) fn refund(&mut self, bytes: u64) {
        self.written = self.written.saturating_sub(bytes);
    }
}
