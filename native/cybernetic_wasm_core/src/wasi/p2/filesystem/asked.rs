//! One call of a function on files: what the grants and the bounds say of it before it is done, and whose a refusal is when it was
//! not. `wasi/call.rs` and `wasi/denied.rs` are the same for preview 1.

use super::super::entry::{Work, enter, refuse, system};
use crate::error::shown;
use crate::store::StoreData;
use crate::system::LONGEST_PATH;
use crate::wasi::posix::is_inside;
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{ErrorCode, HostDescriptor, PathFlags};
use wasmtime_wasi::p2::{FsError, FsResult};

/// A function's name, as denials have it.
macro_rules! operation {
    ($name:literal) => {
        concat!("wasi:filesystem/types#", $name)
    };
}

pub(super) use operation;

/// A path, the directory that it begins at, and whether a link at its end is followed.
struct Place {
    fd: u32,
    path: String,
    follow: bool,
}

/// One call.
pub(super) struct Asked {
    operation: &'static str,
    /// What it is on.
    fd: u32,
    places: Vec<Place>,
    /// What a link is to point to.
    target: Option<String>,
    /// Whether it is to change something.
    changes: bool,
    /// What the quota was charged for it.
    charged: u64,
    /// There is room for what it opens.
    opens: bool,
}

impl Asked {
    /// A call that only looks.
    pub(super) fn to_look(operation: &'static str, fd: &Resource<Descriptor>) -> Self {
        let (fd, places) = (fd.rep(), Vec::new());
        Self { operation, fd, places, target: None, changes: false, charged: 0, opens: false }
    }

    /// A call that changes something.
    pub(super) fn to_change(operation: &'static str, fd: &Resource<Descriptor>) -> Self {
        Self { changes: true, ..Self::to_look(operation, fd) }
    }

    /// The same of a path.
    pub(super) fn at(mut self, fd: &Resource<Descriptor>, path: &str, flags: PathFlags) -> Self {
        let follow = flags.contains(PathFlags::SYMLINK_FOLLOW) || is_inside(path.as_bytes());
        self.places.push(Place { fd: fd.rep(), path: path.to_owned(), follow });
        self
    }

    /// The same of a link to `target`.
    pub(super) fn to(mut self, target: &str) -> Self {
        self.target = Some(target.to_owned());
        self
    }

    /// What comes before it is done.
    pub(super) async fn begin(&self, data: &mut StoreData) -> FsResult<()> {
        enter(data, Work::Files).await.map_err(FsError::trap)?;
        let mut texts = self.places.iter().map(|place| &place.path).chain(&self.target);
        match texts.any(|text| text.len() > LONGEST_PATH) {
            true => Err(self.refused(data, ErrorCode::NameTooLong)),
            false => Ok(()),
        }
    }

    /// Charges the quota, or refuses the call.
    pub(super) fn charge(&mut self, data: &mut StoreData, bytes: u64) -> FsResult<()> {
        if self.may_charge(data, bytes)? { Ok(()) } else { Err(self.refused(data, ErrorCode::Quota)) }
    }

    /// Charges the quota for what it may not need, if that allows it.
    pub(super) fn may_charge(&mut self, data: &mut StoreData, bytes: u64) -> FsResult<bool> {
        let allowed = system(data).map_err(FsError::trap)?.descriptors.charge(bytes);
        self.charged += if allowed { bytes } else { 0 };
        Ok(allowed)
    }

    /// Makes room for what it opens, or refuses the call: there is one word for all that there may be no more of.
    pub(super) fn reserve(&mut self, data: &mut StoreData) -> FsResult<()> {
        self.opens = system(data).map_err(FsError::trap)?.descriptors.reserve().is_ok();
        if self.opens { Ok(()) } else { Err(self.refused(data, ErrorCode::Quota)) }
    }

    /// Takes back what the quota was charged beyond `bytes`.
    pub(super) fn keep(&mut self, data: &mut StoreData, bytes: u64) -> FsResult<()> {
        let more = self.charged.saturating_sub(bytes);
        system(data).map_err(FsError::trap)?.descriptors.refund(more);
        self.charged -= more;
        Ok(())
    }

    /// What came of it. Of what was not done all is taken back that was counted, and what the grants refused is noted.
    pub(super) async fn end<T>(&mut self, data: &mut StoreData, done: FsResult<T>) -> FsResult<T> {
        let Err(error) = done else { return done };
        self.undo(data)?;
        if matches!(error.downcast_ref(), Some(ErrorCode::NotPermitted)) && self.is_denied(data).await? {
            return Err(self.refused(data, ErrorCode::NotPermitted));
        }
        Err(error)
    }

    /// Takes back what was counted.
    pub(super) fn undo(&mut self, data: &mut StoreData) -> FsResult<()> {
        self.keep(data, 0)?;
        if std::mem::take(&mut self.opens) {
            system(data).map_err(FsError::trap)?.descriptors.release();
        }
        Ok(())
    }

    /// Refuses it, and notes what it was about.
    pub(super) fn refused(&self, data: &StoreData, code: ErrorCode) -> FsError {
        let detail = self.places.first().map(|place| shown::bytes(place.path.as_bytes()));
        refuse(data, (self.operation, "filesystem", detail), name_of(code));
        code.into()
    }

    /// Whether it is the grants that refuse it, and not the operating system.
    async fn is_denied(&self, data: &mut StoreData) -> FsResult<bool> {
        let descriptors = &system(data).map_err(FsError::trap)?.descriptors;
        let mut on = self.places.iter().map(|place| place.fd).chain([self.fd]);
        if self.changes && !on.all(|fd| descriptors.is_writable(fd)) {
            return Ok(true);
        }
        if self.target.as_deref().is_some_and(|target| target.starts_with('/')) {
            return Ok(true);
        }
        for place in &self.places {
            let flags = if place.follow { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() };
            let (fd, path) = (Resource::new_borrow(place.fd), place.path.clone());
            let mut files = system(data).map_err(FsError::trap)?.ctx().map_err(FsError::trap)?.filesystem();
            let found = files.stat_at(fd, flags, path).await;
            if found.is_err_and(|error| matches!(error.downcast_ref(), Some(ErrorCode::NotPermitted))) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A code's name in the interface, of those that are refusals.
fn name_of(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NameTooLong => "name-too-long",
        ErrorCode::Quota => "quota",
        _ => "not-permitted",
    }
}
