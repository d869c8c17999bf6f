//! The resources that a guest has of the embedder's. Wasmtime knows them by numbers, and drops none when a store is: so what they
//! are is kept here, and comes to its end with this table at the latest.
//!
//! Every store has this, and few have any of it: it is made when it is needed.

use crate::error::Error;
use crate::reaper::reap;
use crate::wit::{Left, Name, Owner, Resource, Term};
use once_cell::sync::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use wasmtime::component::ResourceAny;

/// As many as whoever drops a store brings to their end. More take time.
const FEW: usize = 100;

pub(crate) struct Resources {
    store: u64,
    owner: Option<Arc<dyn Owner>>,
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    left: OnceCell<Arc<Left>>,
}

struct Entry {
    name: Name,
    term: Term,
    /// Whether the guest owns it: otherwise it is lent for one call.
    owned: bool,
    /// It is handed to a host call: whether the embedder has it already.
    taken_over: Option<Arc<AtomicBool>>,
}

impl Resources {
    pub(super) fn new(store: u64) -> Self {
        Self { store, owner: None, entries: Vec::new(), free: Vec::new(), left: OnceCell::new() }
    }

    /// Says who is told of those that come to their end.
    pub(crate) fn set_owner(&mut self, owner: Option<Arc<dyn Owner>>) {
        self.owner = owner;
    }

    /// Gives the guest a resource, by the number that this gives.
    pub(crate) fn add(&mut self, resource: &Resource, term: Term, owned: bool) -> Result<u32, Error> {
        let entry = Some(Entry { name: Arc::clone(&resource.name), term, owned, taken_over: None });
        if let Some(number) = self.free.pop() {
            self.entries[number as usize] = entry;
            return Ok(number);
        }
        let number = u32::try_from(self.entries.len());
        self.entries.push(entry);
        number.map_err(|_| Error::Internal("more resources than there are numbers".into()))
    }

    pub(crate) fn get(&self, number: u32) -> Option<Term> {
        self.entries.get(number as usize)?.as_ref().map(|entry| Arc::clone(&entry.term))
    }

    /// Takes a resource back from the guest: it is the embedder's again.
    pub(crate) fn take(&mut self, number: u32) -> Option<Term> {
        self.remove(number).map(|entry| entry.term)
    }

    /// They are handed to a host call, and the embedder's as soon as it has `taken_over`.
    pub(crate) fn hand_over(&mut self, numbers: &[u32], taken_over: &Arc<AtomicBool>) {
        for number in numbers {
            if let Some(Some(entry)) = self.entries.get_mut(*number as usize) {
                entry.taken_over = Some(Arc::clone(taken_over));
            }
        }
    }

    /// The guest has let go of one.
    pub(crate) fn end(&mut self, number: u32) {
        if let Some(entry) = self.remove(number) {
            entry.end(self.store, self.owner.as_deref());
        }
    }

    fn remove(&mut self, number: u32) -> Option<Entry> {
        let entry = self.entries.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(entry)
    }

    /// Where what the embedder lets go of is put, of the guest's own.
    pub(crate) fn left(&self) -> &Arc<Left> {
        self.left.get_or_init(Arc::default)
    }

    /// The next of these that the guest is to drop.
    pub(crate) fn next_left(&self) -> Option<ResourceAny> {
        self.left.get()?.next()
    }
}

impl Entry {
    fn end(self, store: u64, owner: Option<&dyn Owner>) {
        let embedders = self.taken_over.is_some_and(|taken_over| taken_over.load(Relaxed));
        if let (true, Some(owner)) = (self.owned && !embedders, owner) {
            owner.ended(store, &self.name, &self.term);
        }
    }
}

/// What a guest that is gone has left.
struct Remains(u64, Arc<dyn Owner>, Vec<Option<Entry>>);

impl Drop for Remains {
    fn drop(&mut self) {
        let Self(store, owner, entries) = self;
        entries.drain(..).flatten().for_each(|entry| entry.end(*store, Some(&**owner)));
    }
}

impl Drop for Resources {
    fn drop(&mut self) {
        let Some(owner) = self.owner.take() else { return };
        let remains = Remains(self.store, owner, std::mem::take(&mut self.entries));
        if remains.2.len() > FEW {
            reap(remains);
        }
    }
}
