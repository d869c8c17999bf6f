//! A guest's private directory: made when the guest is, removed when it is gone.

use super::directories;
use cap_std::fs::Dir;
use crossbeam::channel::Sender;
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Directories that may be there at once. Guests make them, and fill them, faster than one thread removes them.
const MOST: usize = 10_000;

/// Those that are there now, also while they are being removed: the VM may be stopped in the middle.
static THERE: Mutex<BTreeMap<PathBuf, Arc<Dir>>> = Mutex::new(BTreeMap::new());

/// A directory that is removed with whatever is in it, in the background: that takes as long as there is in it.
pub(super) struct Scratch {
    path: PathBuf,
    root: Arc<Dir>,
}

impl Scratch {
    /// Makes one that nobody but this user may look into.
    pub(super) fn new() -> io::Result<Self> {
        let mut there = THERE.lock();
        if there.len() >= MOST {
            return Err(io::Error::other(format!("{MOST} private directories are there, or wait for their removal")));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix("cybernetic-wasm-").permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
        let parent = std::env::temp_dir().canonicalize()?;
        let path = builder.tempdir_in(parent)?.keep();
        let opened = directories::open(&path).inspect_err(|_| {
            // For want of descriptors, and this takes none.
            let _empty = std::fs::remove_dir(&path);
        });
        let root = Arc::new(Dir::from_std_file(opened?.into()));
        there.insert(path.clone(), Arc::clone(&root));
        Ok(Self { path, root })
    }

    pub(super) fn directory(&self) -> &Dir {
        &self.root
    }

    pub(super) fn shared(&self) -> Arc<Dir> {
        Arc::clone(&self.root)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        static REMOVER: OnceCell<Sender<PathBuf>> = OnceCell::new();
        let path = std::mem::take(&mut self.path);
        match REMOVER.get_or_try_init(start) {
            Ok(remover) => drop(remover.send(path)),
            Err(_) => remove(&path),
        }
    }
}

/// A thread of its own, so that what one guest leaves behind keeps nobody else waiting.
fn start() -> io::Result<Sender<PathBuf>> {
    let (sender, paths) = crossbeam::channel::unbounded::<PathBuf>();
    let thread = std::thread::Builder::new().name("wasm-scratch".into());
    thread.spawn(move || paths.iter().for_each(|path| remove(&path)))?;
    Ok(sender)
}

/// Removes what is there, now: nobody will once the process has ended.
pub fn remove_all() {
    let there: Vec<PathBuf> = THERE.lock().keys().cloned().collect();
    there.iter().for_each(|path| remove(path));
}

/// One at a time: whoever is told that all are gone must not have left one to somebody else.
fn remove(path: &Path) {
    static REMOVING: Mutex<()> = Mutex::new(());
    let _alone = REMOVING.lock();
    let Some(root) = THERE.lock().get(path).map(Arc::clone) else { return };
    Removal { root: &root, hoisted: 0 }.run();
    // By then it is empty, or somebody has put something else in its place: no more than a directory that is empty goes.
    let _ = std::fs::remove_dir(path);
    THERE.lock().remove(path);
}

/// A guest can put directories into each other tens of thousands deep. Going down there by recursion overflows the thread's
/// stack, which ends the VM, and takes as many descriptors; so what is in a directory is lifted to the root before the
/// directory goes.
///
/// All of it happens beneath the directory that was made: a guest that can write to where that lies may put a link in its place.
struct Removal<'a> {
    root: &'a Dir,
    hoisted: u64,
}

impl Removal<'_> {
    fn run(mut self) {
        // A pass that removes nothing never will.
        while self.pass().is_ok_and(|removed| removed > 0) {}
    }

    fn pass(&mut self) -> io::Result<usize> {
        let mut removed = 0;
        for name in self.names(Path::new("."))? {
            removed += usize::from(self.remove(&name).is_ok());
        }
        Ok(removed)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        if !self.is_directory(path)? {
            return self.root.remove_file(path);
        }
        for name in self.names(path)? {
            let inside = path.join(name);
            match self.is_directory(&inside)? {
                true => self.hoist(&inside)?,
                false => self.root.remove_file(&inside)?,
            }
        }
        self.root.remove_dir(path)
    }

    /// The guest may have taken any name: what is in the way is passed over. An empty directory is replaced, and was to go
    /// anyway.
    fn hoist(&mut self, path: &Path) -> io::Result<()> {
        use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory};
        const IN_THE_WAY: [io::ErrorKind; 3] = [DirectoryNotEmpty, AlreadyExists, NotADirectory];
        loop {
            let target = self.hoisted.to_string();
            self.hoisted += 1;
            match self.root.rename(path, self.root, target) {
                Err(error) if IN_THE_WAY.contains(&error.kind()) => {}
                renamed => return renamed,
            }
        }
    }

    /// Not what a link points to.
    fn is_directory(&self, path: &Path) -> io::Result<bool> {
        Ok(self.root.symlink_metadata(path)?.is_dir())
    }

    fn names(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.root.read_dir(path)?.map(|entry| Ok(entry?.file_name().into())).collect()
    }
}
