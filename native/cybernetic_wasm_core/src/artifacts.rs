//! Compiled code on disk: a module is compiled once, and not again at each start of a node.
//!
//! A file of compiled code is code. It is kept in a folder that nobody else can write to (`artifacts/folder.rs`), under a seal
//! that takes a key of that folder (`artifacts/keys.rs`). It is never mapped itself: the seal is checked over the bytes of a
//! copy, which nobody else has (`artifacts/file.rs`), and that is loaded as what a compiling process hands over. So a file
//! that is changed, cut or replaced is at the worst not taken, and its module compiled anew.
//!
//! The folder (`artifacts/shelf.rs`) may be used by several processes at once: a file is written beside and then renamed. It is
//! read and written on threads of its own (`artifacts/line.rs`), for which no load waits long (`artifacts/readers.rs`), and holds no more bytes than it may (`artifacts/room.rs`).

mod counters;
mod file;
mod folder;
mod keys;
mod line;
mod readers;
mod room;
mod shelf;

pub use counters::ArtifactStats;
pub(crate) use readers::Search;

use crate::code::{CodeKey, Compiled};
use crate::compiler::{BUILD, Notice, Notices};
use crate::engine::machine;
use crate::error::Error;
use counters::Counters;
use line::Line;
use once_cell::sync::OnceCell;
use parking_lot::{Mutex, RwLock};
use readers::{PATIENCE, Readers};
use room::Room;
use shelf::{Open, Shelf};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};

/// Where compiled code is kept, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactSettings {
    /// The folder. It is made where it is not there.
    pub folder: PathBuf,
    /// Bytes that all files may have.
    pub most_bytes: u64,
    /// What the code is compiled by and for.
    pub platform: Platform,
}

/// What code depends on beside its module and its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The build of this library.
    pub build: String,
    /// Wasmtime's version and settings, the system, and what the processor can do.
    pub machine: String,
}

impl Default for Platform {
    fn default() -> Self {
        // A machine that cannot be described is like no other.
        let machine = machine().unwrap_or_else(|_| rand::random::<u128>().to_string());
        Self { build: BUILD.to_owned(), machine }
    }
}

/// Where compiled code is kept on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactPlace {
    /// The folder.
    pub folder: PathBuf,
    /// Why nothing is kept there, if nothing is.
    pub off: Option<String>,
}

pub(crate) struct Artifacts {
    shelf: RwLock<Option<Arc<Shelf>>>,
    readers: OnceCell<Readers>,
    /// The disk has not answered in time, and not since.
    hangs: AtomicBool,
    writer: OnceCell<Line>,
    counters: Counters,
    notices: Arc<Notices>,
    /// The modules whose files were refused, as far as an operator was told.
    told: Mutex<HashSet<[u8; 32]>>,
    /// That nothing can be written was told, and nothing was written since.
    told_unwritten: AtomicBool,
}

/// Files that wait to be written. What comes beyond that is compiled again some time.
const MOST_WAITING: usize = 256;

/// An operator is told of so many refused files.
const MOST_TOLD: usize = 1_000;

impl Artifacts {
    pub(crate) fn new(settings: Option<ArtifactSettings>, notices: &Arc<Notices>) -> Arc<Self> {
        Arc::new(Self {
            shelf: RwLock::new(settings.map(Shelf::new)),
            readers: OnceCell::new(),
            hangs: AtomicBool::new(false),
            writer: OnceCell::new(),
            counters: Counters::default(),
            notices: Arc::clone(notices),
            told: Mutex::default(),
            told_unwritten: AtomicBool::new(false),
        })
    }

    /// Other settings, for what comes from now on. A folder that could not be used before is tried again.
    pub(crate) fn adjust(&self, settings: Option<ArtifactSettings>) {
        let mut shelf = self.shelf.write();
        let kept = shelf.as_ref().filter(|shelf| shelf.may_be_good()).map(|shelf| &shelf.settings);
        if kept != settings.as_ref() {
            *shelf = settings.map(Shelf::new);
        }
    }

    /// Opens the folder now rather than at the first module, so that it is known whether it can be used.
    pub(crate) fn warm_up(&self) {
        if self.open().is_some() {
            let _threads = (self.readers(), self.writer());
        }
    }

    /// Where code is kept, if anywhere.
    pub(crate) fn place(&self) -> Option<ArtifactPlace> {
        let shelf = self.shelf.read().clone()?;
        let off = self.opened(&shelf).as_ref().err().cloned();
        Some(ArtifactPlace { folder: shelf.settings.folder.clone(), off })
    }

    /// The threads that read, where there is something to be read.
    fn readers(&self) -> Option<&Readers> {
        if !self.may_be_on() || self.hangs.load(Relaxed) {
            return None;
        }
        self.readers.get_or_try_init(Readers::start).ok()
    }

    /// Whether code is kept, as far as is known.
    fn may_be_on(&self) -> bool {
        self.shelf.read().as_ref().is_some_and(|shelf| shelf.may_be_good())
    }

    fn open(&self) -> Option<Arc<Shelf>> {
        let shelf = self.shelf.read().clone()?;
        self.opened(&shelf).is_ok().then_some(shelf)
    }

    fn opened<'a>(&self, shelf: &'a Shelf) -> &'a Result<Open, String> {
        shelf.open.get_or_init(|| {
            let opened = Open::new(&shelf.settings).and_then(|open| {
                self.count(open.make_room(&shelf.settings).map_err(|error| error.to_string())?);
                Ok(open)
            });
            if let Err(why) = &opened {
                self.notices.add(Notice::NoArtifacts(why.clone()));
            }
            opened
        })
    }

    fn count(&self, room: Room) {
        self.counters.note(&room);
        // Once something of this build was written, the others are only what makes room first.
        if room.own == 0 && room.entries > 0 {
            self.notices.add(Notice::ArtifactsStale(room.entries));
        }
    }

    /// The code that is kept for `key`, where there is some that is under its seal. `source` is what the key's digest is of.
    pub(crate) fn find(&self, key: CodeKey, source: impl FnOnce() -> Arc<[u8]>) -> Option<Compiled> {
        let found = self.open()?.read(key, source);
        // The disk answers, or does so again.
        self.hangs.store(false, Relaxed);
        match found {
            Ok(Some(compiled)) => return Some(compiled),
            Ok(None) => _ = self.counters.misses.fetch_add(1, Relaxed),
            Err(error) => self.refuse(key.digest, error.to_string()),
        }
        None
    }

    /// What code from the disk came to as it was loaded; `None` where it is no good, and is to be compiled.
    pub(crate) fn judge<T>(&self, digest: [u8; 32], loaded: Result<T, Error>) -> Option<Result<T, Error>> {
        match loaded {
            Err(Error::Internal(detail)) => {
                self.refuse(digest, detail);
                None
            }
            loaded => {
                self.counters.hits.fetch_add(1, Relaxed);
                Some(loaded)
            }
        }
    }

    /// Has code looked for; false where nobody can.
    pub(crate) fn search(&self, search: &Arc<impl Search>) -> bool {
        let readers = self.readers();
        readers.inspect(|readers| readers.push(search)).is_some()
    }

    /// Notes that a search was given up. Until the disk answers nothing more is looked for.
    pub(crate) fn give_up(&self) {
        self.counters.misses.fetch_add(1, Relaxed);
        if !self.hangs.swap(true, Relaxed)
            && let Some(shelf) = &*self.shelf.read()
        {
            let folder = shelf.settings.folder.display();
            let seconds = PATIENCE.as_secs();
            let why =
                format!("{folder}: a file could not be read within {seconds} seconds; until it is, none is asked for");
            self.notices.add(Notice::NoArtifacts(why));
        }
    }

    fn refuse(&self, digest: [u8; 32], detail: String) {
        self.counters.refused.fetch_add(1, Relaxed);
        let mut told = self.told.lock();
        if told.len() < MOST_TOLD && told.insert(digest) {
            self.notices.add(Notice::ArtifactRefused { digest, detail });
        }
    }

    /// Keeps code that was just compiled, in a while. What nobody has any more by then is not kept: those who wait to be written
    /// are not to fill the node.
    pub(crate) fn keep_later(self: &Arc<Self>, compiled: &Arc<Compiled>) {
        let (Some(writer), compiled) = (self.writer(), Arc::downgrade(compiled)) else { return };
        let artifacts = Arc::clone(self);
        let begun = writer.try_push(MOST_WAITING, move || {
            if let Some(compiled) = compiled.upgrade() {
                let _ = artifacts.write(&compiled);
            }
        });
        if !begun {
            self.counters.unwritten.fetch_add(1, Relaxed);
        }
    }

    /// Keeps code now, unless it is kept already, or says why it cannot be.
    pub(crate) fn keep(self: &Arc<Self>, compiled: &Arc<Compiled>) -> Result<(), String> {
        let place = self.place().ok_or("artifacts: false")?;
        if let Some(why) = place.off {
            return Err(why);
        }
        let writer = self.writer().ok_or("the system gives no threads")?;
        let (artifacts, compiled) = (Arc::clone(self), Arc::clone(compiled));
        let (sender, written) = mpsc::channel();
        // Behind what waits: the same code may be among that.
        writer.push(move || {
            let _ = sender.send(if artifacts.has(&compiled.key) { Ok(()) } else { artifacts.write(&compiled) });
        });
        written.recv().unwrap_or_else(|_| Err("the writing thread is gone".to_owned()))
    }

    fn writer(&self) -> Option<&Line> {
        if !self.may_be_on() {
            return None;
        }
        self.writer.get_or_try_init(|| Line::start("wasm-artifacts-out", 1)).ok()
    }

    fn has(&self, key: &CodeKey) -> bool {
        self.open().is_some_and(|shelf| shelf.has(key))
    }

    fn write(&self, compiled: &Compiled) -> Result<(), String> {
        let Some(shelf) = self.open() else { return Err("no folder".to_owned()) };
        match shelf.write(compiled) {
            Ok(room) => {
                self.counters.writes.fetch_add(1, Relaxed);
                self.told_unwritten.store(false, Relaxed);
                self.count(room);
                Ok(())
            }
            Err(error) => {
                let why = format!("{}: {error}", shelf.settings.folder.display());
                self.counters.unwritten.fetch_add(1, Relaxed);
                if !self.told_unwritten.swap(true, Relaxed) {
                    self.notices.add(Notice::ArtifactUnwritten(why.clone()));
                }
                Err(why)
            }
        }
    }

    pub(crate) fn stats(&self) -> ArtifactStats {
        self.counters.stats()
    }
}
