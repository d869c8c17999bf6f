//! Code that comes in pieces.

use crate::{Artifact, LITTLE};
use std::io::{self, Write};

/// An artifact that is being put together. Nobody can load it before it is complete, nor change it then.
#[derive(Debug)]
pub struct Filling {
    place: Place,
    written: u64,
}

#[derive(Debug)]
enum Place {
    #[cfg(target_os = "linux")]
    File(std::fs::File),
    Bytes(Vec<u8>),
}

impl Filling {
    /// For so many bytes: in a memory file, or, where they are little or there can be no such file, in memory.
    pub fn new(size: u64) -> Self {
        #[cfg(target_os = "linux")]
        if size > LITTLE
            && let Ok(file) = crate::memory_file()
        {
            return Self { place: Place::File(file), written: 0 };
        }
        Self { place: Place::Bytes(Vec::with_capacity(size.min(LITTLE) as usize)), written: 0 }
    }

    /// The artifact. Who calls this has seen to it that the bytes are what a compiler of this build has given: they are code
    /// from now on.
    pub fn complete(self) -> io::Result<Artifact> {
        match self.place {
            #[cfg(target_os = "linux")]
            Place::File(file) => Artifact::sealed(crate::sealed(file)?, self.written),
            Place::Bytes(bytes) => Ok(Artifact::inline(bytes)),
        }
    }
}

impl Write for Filling {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.place {
            #[cfg(target_os = "linux")]
            Place::File(file) => file.write(bytes)?,
            Place::Bytes(kept) => kept.write(bytes)?,
        };
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
