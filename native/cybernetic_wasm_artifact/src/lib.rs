//! Compiled code, and its way into a process: the one unsafe call of this library stands here, with what is checked before it.
//!
//! Wasmtime trusts what it deserializes completely, and runs it. So an [`Artifact`] is made of what a compiler of this very
//! build has given, and of nothing else: see [`Artifact::sealed`], [`Artifact::inline`] and [`Filling`].

mod filling;

pub use filling::Filling;

use std::io;
use wasmtime::component::Component;

/// A compiled module or component that engines of its configuration can load, as often as they like.
#[derive(Debug)]
pub struct Artifact(Form);

/// Code of so many bytes at the most is kept as bytes: a file takes a descriptor for as long as the module lives.
pub const LITTLE: u64 = 64 << 10;

#[derive(Debug)]
enum Form {
    /// Pages that nobody can change any more, which all loads share.
    #[cfg(target_os = "linux")]
    Sealed(std::fs::File, u64),
    Inline(Box<[u8]>),
}

/// What must be sealed: a file that shrinks while it is mapped kills the process, one that is written to runs other code.
#[cfg(target_os = "linux")]
const SEALS: rustix::fs::SealFlags = rustix::fs::SealFlags::WRITE
    .union(rustix::fs::SealFlags::SHRINK)
    .union(rustix::fs::SealFlags::GROW)
    .union(rustix::fs::SealFlags::SEAL);

impl Artifact {
    /// An artifact of `size` bytes in a memory file that a compiler of this build has filled and sealed. Another size, or a
    /// file that can still be changed, is an error.
    #[cfg(target_os = "linux")]
    pub fn sealed(file: std::os::fd::OwnedFd, size: u64) -> io::Result<Self> {
        let seals = rustix::fs::fcntl_get_seals(&file)?;
        let file = std::fs::File::from(file);
        let found = file.metadata()?.len();
        if !seals.contains(SEALS) {
            return Err(io::Error::other("the compiler's file is not sealed"));
        }
        if found != size {
            return Err(io::Error::other(format!("the compiler's file has {found} bytes, not the {size} announced")));
        }
        Ok(Self(Form::Sealed(file, size)))
    }

    /// An artifact of these bytes, which a compiler of this build has given.
    pub fn inline(bytes: Vec<u8>) -> Self {
        Self(Form::Inline(bytes.into()))
    }

    /// Bytes of it.
    pub fn size(&self) -> u64 {
        match &self.0 {
            #[cfg(target_os = "linux")]
            Form::Sealed(_, size) => *size,
            Form::Inline(bytes) => bytes.len() as u64,
        }
    }

    /// Reads of its bytes from `offset` on, as many as there are and as `buffer` holds.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.0 {
            #[cfg(target_os = "linux")]
            Form::Sealed(file, _) => std::os::unix::fs::FileExt::read_at(file, buffer, offset),
            Form::Inline(bytes) => {
                let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
                let read = rest.len().min(buffer.len());
                buffer[..read].copy_from_slice(&rest[..read]);
                Ok(read)
            }
        }
    }

    /// Loads it. An engine of another configuration refuses, but for settings that Wasmtime does not compare, such as the
    /// canonical form of NaNs: the caller must know what the artifact was compiled for.
    #[expect(unsafe_code, reason = "deserialize trusts its input: the type's constructors say what that is")]
    pub fn load(&self, engine: &wasmtime::Engine) -> wasmtime::Result<wasmtime::Module> {
        // SAFETY: the bytes are what `Engine::precompile_module` of this build gave, in a process that runs our own executable
        // (its build is compared before the first job) or in this one; or a copy of such bytes from a disk, whose seal under the
        // node's own key was checked over the very bytes of the copy. A file is sealed against every change, which was checked,
        // so it stays what it is for as long as it is mapped.
        unsafe {
            match &self.0 {
                #[cfg(target_os = "linux")]
                Form::Sealed(file, _) => wasmtime::Module::deserialize_open_file(engine, file.try_clone()?),
                Form::Inline(bytes) => wasmtime::Module::deserialize(engine, bytes),
            }
        }
    }

    /// The same of a component. Wasmtime knows one from the other, and refuses the wrong one.
    #[expect(unsafe_code, reason = "deserialize trusts its input: the type's constructors say what that is")]
    pub fn load_component(&self, engine: &wasmtime::Engine) -> wasmtime::Result<Component> {
        // SAFETY: as above, of `Engine::precompile_component`. The path names the file that is open here, and no other.
        unsafe {
            match &self.0 {
                #[cfg(target_os = "linux")]
                Form::Sealed(file, size) => match open_path(file) {
                    Some(path) => Component::deserialize_file(engine, path),
                    None => Component::deserialize(engine, read(file, *size)?),
                },
                Form::Inline(bytes) => Component::deserialize(engine, bytes),
            }
        }
    }
}

/// The path of an open file, for what only takes paths; `None` where the system has no `/proc`.
#[cfg(target_os = "linux")]
fn open_path(file: &std::fs::File) -> Option<std::path::PathBuf> {
    use std::os::fd::AsRawFd;

    let path = std::path::PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    path.exists().then_some(path)
}

/// All of a file. Those that share it read it at once, so nobody moves its cursor.
#[cfg(target_os = "linux")]
fn read(file: &std::fs::File, size: u64) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;

    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// A memory file with these bytes, sealed as [`Artifact::sealed`] wants it.
#[cfg(target_os = "linux")]
pub fn seal(bytes: &[u8]) -> io::Result<std::os::fd::OwnedFd> {
    let mut file = memory_file()?;
    io::Write::write_all(&mut file, bytes)?;
    sealed(file)
}

#[cfg(target_os = "linux")]
fn memory_file() -> io::Result<std::fs::File> {
    use rustix::fs::MemfdFlags;

    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    Ok(rustix::fs::memfd_create("wasm", flags)?.into())
}

#[cfg(target_os = "linux")]
fn sealed(file: std::fs::File) -> io::Result<std::os::fd::OwnedFd> {
    rustix::fs::fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
}
