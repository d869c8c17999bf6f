//! A file of compiled code: what the compiler's process gave, under a seal.
//!
//! A head of fixed size tells how long the parts are that follow: the outline, the module in the binary format where its source
//! is in another or was made fit for snapshots, and the code. One seal is over the parts and stands in the head; another is over
//! the head, so that nothing is believed, and no room made, before it is known to be of the user's own.

use super::keys::Subject;
use crate::code::{CodeKey, Compiled};
use blake3::{Hash, Hasher};
use crossbeam::channel::{Receiver, Sender, bounded};
use cybernetic_wasm_artifact::Filling;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::thread;

const MAGIC: [u8; 16] = *b"cybernetic.wasm\x01";

/// Bytes of a head, and of it with its seal.
const HEAD: usize = 16 + 3 * 8 + 32;
const SEALED_HEAD: usize = HEAD + 32;

/// In the place of a length: the source is the binary format itself.
const SAME: u64 = u64::MAX;

/// What the two seals are of.
const OF_HEAD: u8 = 0;
const OF_PARTS: u8 = 1;

/// So much is read, sealed and written while a processor has it at hand.
const PIECE: usize = 64 << 10;

/// Of so much the seal is worked out by a thread of its own, while the next piece is read and written: that takes as long again.
const MUCH: u64 = 1 << 20;

/// Pieces between the two.
const PIECES: usize = 8;

pub(super) struct Head {
    outline: u64,
    binary: Option<u64>,
    code: u64,
    parts: Hash,
}

impl Head {
    /// Bytes of the whole file.
    fn length(&self) -> u64 {
        SEALED_HEAD as u64 + self.outline + self.binary.unwrap_or(0) + self.code
    }

    fn encode(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..16].copy_from_slice(&MAGIC);
        bytes[16..24].copy_from_slice(&self.outline.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.binary.unwrap_or(SAME).to_le_bytes());
        bytes[32..40].copy_from_slice(&self.code.to_le_bytes());
        bytes[40..].copy_from_slice(self.parts.as_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEAD]) -> Self {
        let [outline, binary, code] = [16, 24, 32].map(|at| {
            let mut length = [0; 8];
            length.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(length)
        });
        let mut parts = [0; 32];
        parts.copy_from_slice(&bytes[40..]);
        Self { outline, binary: (binary != SAME).then_some(binary), code, parts: parts.into() }
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// The head, once its seal was found to be good, of a file that is as long as that says.
pub(super) fn head(file: &mut File, subject: &Subject<'_>) -> io::Result<Head> {
    let mut bytes = [0; SEALED_HEAD];
    file.read_exact(&mut bytes).map_err(|_| damaged("it ends too early"))?;
    let (mut head, mut seal) = ([0; HEAD], [0; 32]);
    head.copy_from_slice(&bytes[..HEAD]);
    seal.copy_from_slice(&bytes[HEAD..]);
    if !head.starts_with(&MAGIC) {
        return Err(damaged("it is no artifact"));
    }
    // The comparison takes as long whatever differs.
    if subject.seal(OF_HEAD).update(&head).finalize() != Hash::from(seal) {
        return Err(damaged("its seal is broken, or another's"));
    }
    let head = Head::decode(&head);
    match file.metadata()?.len() == head.length() {
        true => Ok(head),
        false => Err(damaged("it is not as long as it was")),
    }
}

/// Reads code that was written for `key`. The seal is checked over the very bytes that are given, and before they are.
pub(super) fn read(
    file: &mut File,
    subject: &Subject<'_>,
    key: CodeKey,
    source: impl FnOnce() -> Arc<[u8]>,
) -> io::Result<Compiled> {
    let head = head(file, subject)?;
    let mut seal = subject.seal(OF_PARTS);
    let mut outline = Vec::with_capacity(head.outline as usize);
    copy(file, head.outline, &mut seal, &mut outline)?;
    let mut binary = Vec::with_capacity(head.binary.unwrap_or(0) as usize);
    copy(file, head.binary.unwrap_or(0), &mut seal, &mut binary)?;
    let mut code = Filling::new(head.code);
    copy(file, head.code, &mut seal, &mut code)?;
    if seal.finalize() != head.parts {
        return Err(damaged("its seal is broken"));
    }
    let outline = postcard::from_bytes(&outline).map_err(io::Error::other)?;
    let wasm = if head.binary.is_some() { binary.into() } else { source() };
    Ok(Compiled::new(key, wasm, outline, code.complete()?))
}

fn copy(file: &mut File, length: u64, seal: &mut Hasher, into: &mut impl Write) -> io::Result<()> {
    let beside = if length < MUCH { None } else { copy_beside(file, length, seal, into) };
    beside.unwrap_or_else(|| {
        let mut piece = Vec::new();
        pieces(length).try_for_each(|size| {
            fill(&mut piece, size, file)?;
            seal.update(&piece);
            into.write_all(&piece)
        })
    })
}

/// The same with another thread that seals the very pieces that are written; `None` where there is none to be had.
fn copy_beside(file: &mut File, length: u64, seal: &mut Hasher, into: &mut impl Write) -> Option<io::Result<()>> {
    let (written, to_seal) = bounded::<Vec<u8>>(PIECES);
    let (sealed, spare) = bounded(PIECES);
    (0..PIECES).try_for_each(|_| sealed.try_send(Vec::new())).ok()?;
    thread::scope(|scope| {
        let seal_all = move || {
            for piece in to_seal {
                seal.update(&piece);
                let _ = sealed.send(piece);
            }
        };
        let begun = thread::Builder::new().name("wasm-artifacts".to_owned()).spawn_scoped(scope, seal_all);
        begun.ok()?;
        Some(write_pieces(file, length, into, (&spare, written)))
    })
}

fn write_pieces(
    file: &mut File,
    length: u64,
    into: &mut impl Write,
    (spare, written): (&Receiver<Vec<u8>>, Sender<Vec<u8>>),
) -> io::Result<()> {
    let gone = || io::Error::other("the sealing thread is gone");
    pieces(length).try_for_each(|size| {
        let mut piece = spare.recv().map_err(|_| gone())?;
        fill(&mut piece, size, file)?;
        into.write_all(&piece)?;
        written.send(piece).map_err(|_| gone())
    })
}

/// The sizes of the pieces of so many bytes.
fn pieces(length: u64) -> impl Iterator<Item = usize> {
    (0..length).step_by(PIECE).map(move |at| (length - at).min(PIECE as u64) as usize)
}

fn fill(piece: &mut Vec<u8>, size: usize, file: &mut File) -> io::Result<()> {
    piece.resize(size, 0);
    file.read_exact(piece).map_err(|_| damaged("it ends too early"))
}

/// Writes code to a new file.
pub(super) fn write(file: &mut File, subject: &Subject<'_>, compiled: &Compiled) -> io::Result<()> {
    let outline = postcard::to_stdvec(&compiled.outline).map_err(io::Error::other)?;
    let is_source = blake3::hash(&compiled.wasm) == compiled.key.digest;
    let binary: Option<&[u8]> = (!is_source).then_some(&compiled.wasm);
    file.seek(SeekFrom::Start(SEALED_HEAD as u64))?;
    let mut parts = Sealing { file, seal: subject.seal(OF_PARTS) };
    parts.write_all(&outline)?;
    parts.write_all(binary.unwrap_or_default())?;
    let code = parts.copy_code(compiled)?;
    let head = Head {
        outline: outline.len() as u64,
        binary: binary.map(|binary| binary.len() as u64),
        code,
        parts: parts.seal.finalize(),
    };
    let head = head.encode();
    // It comes last: a file without it is none.
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&head)?;
    file.write_all(subject.seal(OF_HEAD).update(&head).finalize().as_bytes())
}

/// Seals what it writes.
struct Sealing<'a> {
    file: &'a mut File,
    seal: Hasher,
}

impl Sealing<'_> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.seal.update(bytes);
        self.file.write_all(bytes)
    }

    fn copy_code(&mut self, compiled: &Compiled) -> io::Result<u64> {
        let mut buffer = vec![0; PIECE];
        let mut written = 0;
        loop {
            let read = compiled.artifact.read_at(&mut buffer, written)?;
            if read == 0 {
                return Ok(written);
            }
            self.write_all(&buffer[..read])?;
            written += read as u64;
        }
    }
}
