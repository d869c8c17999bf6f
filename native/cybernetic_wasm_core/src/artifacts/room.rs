//! The room that files of compiled code take: what was used longest ago goes first, whichever process wrote it.

use super::folder::Folder;
use super::keys::is_name;
use std::io;

/// What a look at the folder has found, and removed.
pub(super) struct Room {
    /// Files that are left.
    pub(super) entries: u64,
    /// Those of them that are of this platform.
    pub(super) own: u64,
    pub(super) bytes: u64,
    pub(super) evicted: u64,
}

/// Removes files until all together have no more than `most` bytes, and what ended processes have left half written.
pub(super) fn make(folder: &Folder, most: u64, tag: &str) -> io::Result<Room> {
    let _ = folder.remove_drafts();
    let mut files = folder.entries()?;
    files.retain(|file| is_name(&file.name));
    files.sort_by_key(|file| file.used);
    let mut room = Room { entries: 0, own: 0, bytes: files.iter().map(|file| file.bytes).sum(), evicted: 0 };
    for file in &files {
        // Where nothing can be removed, nothing is written either.
        if room.bytes > most && folder.remove(&file.name).is_ok() {
            room.bytes -= file.bytes;
            room.evicted += 1;
            continue;
        }
        room.entries += 1;
        room.own += u64::from(file.name.starts_with(tag));
    }
    Ok(room)
}
