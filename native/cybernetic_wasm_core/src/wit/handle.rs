//! Resources, on their way between the driver and a guest.
//!
//! Those that a component imports are the embedder's: any terms, which the guest has by numbers. Those that it makes itself are the
//! guest's, and the embedder has handles on them.

use super::Resource;
use parking_lot::Mutex;
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use wasmtime::component::ResourceAny;

/// A resource of the embedder's.
pub type Term = Arc<dyn Any + Send + Sync>;

/// Is told when resources of the embedder's come to their end.
pub trait Owner: fmt::Debug + Send + Sync {
    /// The guest of `store` owned this resource of the type `name`, and has let go of it or is gone. Told once of each.
    fn ended(&self, store: u64, name: &str, term: &Term);
}

/// A resource in a value, which has its place there as a number: the index among those that come with it.
#[derive(Clone)]
pub enum Carried {
    /// One of the embedder's.
    Term(Term),
    /// One of the guest's, which is given away.
    Own(Arc<Handle>),
    /// One of the guest's, which is lent.
    Borrow(Arc<Handle>),
    /// One of the guest's, for a call that is about to begin.
    Claimed(ResourceAny),
}

/// A resource of a guest's that the embedder owns. One that is let go of is dropped in the guest when that is next called.
pub struct Handle {
    resource: Resource,
    store: u64,
    kept: Mutex<Option<ResourceAny>>,
    /// How many calls it is lent to.
    lent: AtomicU32,
    left: Arc<Left>,
}

/// What was let go of, in that order, until the guest drops it.
#[derive(Default)]
pub(crate) struct Left(Mutex<VecDeque<ResourceAny>>);

impl Left {
    pub(crate) fn next(&self) -> Option<ResourceAny> {
        self.0.lock().pop_front()
    }
}

impl Handle {
    pub(crate) fn new(resource: &Resource, store: u64, kept: ResourceAny, left: &Arc<Left>) -> Arc<Self> {
        let left = Arc::clone(left);
        Arc::new(Self {
            resource: resource.clone(),
            store,
            kept: Mutex::new(Some(kept)),
            lent: AtomicU32::new(0),
            left,
        })
    }

    /// Its type.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Whether it has neither been let go of nor given away.
    pub fn is_kept(&self) -> bool {
        self.kept.lock().is_some()
    }

    /// Lets go of it, also if others still know it.
    pub fn let_go(&self) {
        if let Some(kept) = self.take() {
            self.left.0.lock().push_back(kept);
        }
    }

    /// Which store it lives in.
    pub(crate) fn store(&self) -> u64 {
        self.store
    }

    pub(crate) fn take(&self) -> Option<ResourceAny> {
        self.kept.lock().take()
    }

    /// Undoes that it was taken.
    pub(crate) fn put_back(&self, kept: ResourceAny) {
        *self.kept.lock() = Some(kept);
    }

    /// Lends it to a call, until [`Handle::end_loan`].
    pub(crate) fn lend(&self) -> Option<ResourceAny> {
        let kept = *self.kept.lock();
        self.lent.fetch_add(u32::from(kept.is_some()), Relaxed);
        kept
    }

    pub(crate) fn end_loan(&self) {
        self.lent.fetch_sub(1, Relaxed);
    }

    pub(crate) fn is_lent(&self) -> bool {
        self.lent.load(Relaxed) > 0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.let_go();
    }
}
