//! A folder with compiled code, and what is done in it.

use super::folder::{self, Folder};
use super::keys::{self, Keys};
use super::room::{self, Room};
use super::{ArtifactSettings, file};
use crate::code::{CodeKey, Compiled};
use once_cell::sync::OnceCell;
use std::io;
use std::sync::Arc;

/// A folder that is opened when it is first needed.
pub(super) struct Shelf {
    pub(super) settings: ArtifactSettings,
    pub(super) open: OnceCell<Result<Open, String>>,
}

pub(super) struct Open {
    folder: Folder,
    keys: Keys,
}

impl Shelf {
    pub(super) fn new(settings: ArtifactSettings) -> Arc<Self> {
        Arc::new(Self { settings, open: OnceCell::new() })
    }

    /// Whether it is open, or nobody has tried yet.
    pub(super) fn may_be_good(&self) -> bool {
        !matches!(self.open.get(), Some(Err(_)))
    }

    fn ready(&self) -> io::Result<&Open> {
        match self.open.get() {
            Some(Ok(open)) => Ok(open),
            _ => Err(io::Error::other("the folder is not open")),
        }
    }

    /// The code that is kept for `key`, if there is any; `source` is what the key's digest is of.
    pub(super) fn read(&self, key: CodeKey, source: impl FnOnce() -> Arc<[u8]>) -> io::Result<Option<Compiled>> {
        let Open { folder, keys } = self.ready()?;
        let subject = keys.subject(&key);
        let Some(mut file) = folder.file(&subject.name())? else { return Ok(None) };
        let compiled = file::read(&mut file, &subject, key, source)?;
        folder::touch(&file);
        Ok(Some(compiled))
    }

    /// Whether there is a file of this key that looks well.
    pub(super) fn has(&self, key: &CodeKey) -> bool {
        let has = || {
            let Open { folder, keys } = self.ready().ok()?;
            let subject = keys.subject(key);
            let mut file = folder.file(&subject.name()).ok()??;
            file::head(&mut file, &subject).ok()
        };
        has().is_some()
    }

    /// Keeps code, and makes room for it.
    pub(super) fn write(&self, compiled: &Compiled) -> io::Result<Room> {
        let (open, most) = (self.ready()?, self.settings.most_bytes);
        if compiled.artifact.size() > most {
            return Err(io::Error::other(format!("the code has more bytes than all artifacts may have ({most})")));
        }
        let subject = open.keys.subject(&compiled.key);
        let mut draft = open.folder.draft()?;
        file::write(&mut draft.file, &subject, compiled)?;
        draft.place(&subject.name())?;
        open.make_room(&self.settings)
    }
}

impl Open {
    pub(super) fn new(settings: &ArtifactSettings) -> Result<Self, String> {
        let folder = Folder::open(&settings.folder)?;
        let keys = Keys::of(&folder, &settings.platform);
        let keys = keys.map_err(|error| format!("{}: {error}", settings.folder.join(keys::FILE).display()))?;
        Ok(Self { folder, keys })
    }

    pub(super) fn make_room(&self, settings: &ArtifactSettings) -> io::Result<Room> {
        room::make(&self.folder, settings.most_bytes, self.keys.tag())
    }
}
