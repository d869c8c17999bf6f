//! The key of a folder, which is private to it, and what is made with it: names of files, and the seals that tell the user's
//! own files from all others.

use super::Platform;
use super::folder::Folder;
use crate::code::CodeKey;
use blake3::{Hasher, derive_key, keyed_hash};
use rand::Rng;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;

/// The file with the key.
pub(super) const FILE: &str = "key";

const BYTES: usize = 32;

/// Bytes of a name that tell the platform; so many of the others tell the rest.
const TAG: usize = 8;
const REST: usize = 16;

/// What is made with the key of a folder, for one platform.
pub(super) struct Keys {
    names: [u8; BYTES],
    seals: [u8; BYTES],
    platform: Platform,
    tag: String,
}

/// The code that a file is of.
pub(super) struct Subject<'a> {
    keys: &'a Keys,
    identity: Vec<u8>,
}

impl Keys {
    /// By the folder's key, which is made where there is none.
    pub(super) fn of(folder: &Folder, platform: &Platform) -> io::Result<Self> {
        let key = match read(folder)? {
            Some(key) => key,
            None => {
                let mut draft = folder.draft()?;
                let mut key = [0; BYTES];
                rand::rng().fill_bytes(&mut key);
                draft.file.write_all(&key)?;
                draft.place_first(FILE)?;
                // Of two processes that make one at once, one was the first.
                read(folder)?.ok_or_else(|| io::Error::other("it is gone"))?
            }
        };
        let names = derive_key("cybernetic_wasm artifacts: names", &key);
        let seals = derive_key("cybernetic_wasm artifacts: seals", &key);
        let tag = keyed_hash(&names, &encoded(&(&platform.build, &platform.machine)));
        Ok(Self { names, seals, platform: platform.clone(), tag: hex(&tag, TAG) })
    }

    /// What the names of this platform's files begin with.
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    pub(super) fn subject(&self, key: &CodeKey) -> Subject<'_> {
        let identity = encoded(&(key, &self.platform.build, &self.platform.machine));
        Subject { keys: self, identity }
    }
}

impl Subject<'_> {
    /// The name of the file.
    pub(super) fn name(&self) -> String {
        format!("{}-{}", self.keys.tag, hex(&keyed_hash(&self.keys.names, &self.identity), REST))
    }

    /// The beginning of a seal over a part of the file. What it is of is sealed as well: a file under another's name is none.
    pub(super) fn seal(&self, part: u8) -> Hasher {
        let mut seal = Hasher::new_keyed(&self.keys.seals);
        seal.update(&[part]).update(&(self.identity.len() as u64).to_le_bytes()).update(&self.identity);
        seal
    }
}

/// Whether a file has such a name.
pub(super) fn is_name(name: &str) -> bool {
    let is_hex = |text: &str, bytes| text.len() == 2 * bytes && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.split_once('-').is_some_and(|(tag, rest)| is_hex(tag, TAG) && is_hex(rest, REST))
}

fn hex(hash: &blake3::Hash, bytes: usize) -> String {
    hash.to_hex()[..2 * bytes].to_owned()
}

/// Lengths are told before texts, so that no two are encoded alike.
fn encoded(facts: &impl serde::Serialize) -> Vec<u8> {
    // Nothing that is encoded here can fail.
    postcard::to_stdvec(facts).unwrap_or_default()
}

fn read(folder: &Folder) -> io::Result<Option<[u8; BYTES]>> {
    let Some(mut file) = folder.file(FILE)? else { return Ok(None) };
    let facts = file.metadata()?;
    if facts.mode() & 0o077 != 0 {
        return Err(io::Error::other(
            "others can read it (remove it: another is made, and what was kept is compiled again)",
        ));
    }
    let mut key = [0; BYTES];
    if facts.len() != BYTES as u64 {
        return Err(io::Error::other("it is not a key (remove it: another is made)"));
    }
    file.read_exact(&mut key)?;
    Ok(Some(key))
}
