//! The null device of guests that were granted it: a file that is empty, in a directory which they may only read. What they
//! read from it and write to it is answered without it (`wasi/null.rs`).
//!
//! A device of the host's would have to be reached through the host's `/dev`, where others lie.

use super::scratch::Scratch;
use cap_std::fs::Dir;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;

/// What it is called in its directory.
pub(crate) const NAME: &str = "null";

/// The directory, one for all guests of the node. What tidies up temporary directories may have taken the file away.
pub(super) fn directory() -> io::Result<Arc<Dir>> {
    static NODE: Mutex<Option<Scratch>> = Mutex::new(None);
    let mut node = NODE.lock();
    if let Some(kept) = &*node
        && kept.directory().symlink_metadata(NAME).is_ok_and(|there| there.is_file())
    {
        return Ok(kept.shared());
    }
    let new = Scratch::new()?;
    new.directory().create(NAME)?;
    let shared = new.shared();
    *node = Some(new);
    Ok(shared)
}

/// The directory in which a guest finds its null device at `path`.
pub(super) fn folder(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((folder, _)) if !folder.is_empty() => folder,
        _ => "/",
    }
}
