//! A guest's private directory: made when the guest is, removed when it is gone.

use super::timer;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Those that are there now, also while they are being removed: the VM may be stopped in the middle.
static THERE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A directory that is removed with whatever is in it, in the background: that takes as long as there is in it.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one that nobody but this user may look into.
    pub(super) fn new() -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("cybernetic-wasm-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let path = builder.tempdir()?.keep();
        THERE.lock().insert(path.clone());
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        timer::in_background(move || remove(path));
    }
}

/// Removes what is there, now: nobody will once the process has ended.
pub fn remove_all() {
    let there: Vec<PathBuf> = THERE.lock().iter().cloned().collect();
    there.into_iter().for_each(remove);
}

/// One at a time: whoever is told that all are gone must not have left one to somebody else.
fn remove(root: PathBuf) {
    static REMOVING: Mutex<()> = Mutex::new(());
    let _alone = REMOVING.lock();
    Removal { root: root.clone(), hoisted: 0 }.run();
    THERE.lock().remove(&root);
}

/// A guest can put directories into each other tens of thousands deep. Going down there by recursion overflows the thread's
/// stack, which ends the VM, and takes as many descriptors; so what is in a directory is lifted to the root before the
/// directory goes.
struct Removal {
    root: PathBuf,
    hoisted: u64,
}

impl Removal {
    fn run(mut self) {
        // A pass that removes nothing never will.
        while self.pass().is_ok_and(|removed| removed > 0) {}
        let _ = std::fs::remove_dir(&self.root);
    }

    fn pass(&mut self) -> io::Result<usize> {
        let mut removed = 0;
        for name in names(&self.root)? {
            let path = self.root.join(name);
            removed += usize::from(self.remove(&path).is_ok());
        }
        Ok(removed)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        if !is_directory(path)? {
            return std::fs::remove_file(path);
        }
        for name in names(path)? {
            let inside = path.join(name);
            match is_directory(&inside)? {
                true => self.hoist(&inside)?,
                false => std::fs::remove_file(&inside)?,
            }
        }
        std::fs::remove_dir(path)
    }

    /// The guest may have taken any name: what is in the way is passed over. An empty directory is replaced, and was to go
    /// anyway.
    fn hoist(&mut self, path: &Path) -> io::Result<()> {
        use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory};
        const IN_THE_WAY: [io::ErrorKind; 3] = [DirectoryNotEmpty, AlreadyExists, NotADirectory];
        loop {
            let target = self.root.join(self.hoisted.to_string());
            self.hoisted += 1;
            match std::fs::rename(path, target) {
                Err(error) if IN_THE_WAY.contains(&error.kind()) => {}
                renamed => return renamed,
            }
        }
    }
}

/// Not what a link points to.
fn is_directory(path: &Path) -> io::Result<bool> {
    Ok(std::fs::symlink_metadata(path)?.is_dir())
}

fn names(path: &Path) -> io::Result<Vec<OsString>> {
    std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
}
