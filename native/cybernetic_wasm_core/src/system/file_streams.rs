//! Streams over a guest's files. The work is `wasmtime-wasi`'s, and is done at once, where the step runs, as preview 1 does it:
//! a stream never keeps the guest waiting. What is written counts against the quota.
//!
//! A stream keeps its file's room among those that are open, also when the descriptor has been closed.

use super::descriptors::{Held, Room, growth};
use super::stdio::Console;
use super::{Descriptor, System, now};
use crate::invocation::Denial;
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::sync::Arc;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError};

/// What is written at once.
const PERMIT: usize = 64 << 10;

/// Where a stream writes.
#[derive(Clone, Copy)]
pub(crate) enum Position {
    At(u64),
    End,
}

/// A file to write to.
struct Written {
    file: Arc<File>,
    position: Position,
    stream: DynOutputStream,
    failed: bool,
    held: Arc<Held>,
    console: Arc<Console>,
    _room: Option<Arc<Room>>,
}

/// A file to read from.
struct Read {
    stream: DynInputStream,
    _room: Option<Arc<Room>>,
}

/// What is read of the null device, and written to it.
struct Null;

impl System {
    /// What is read by `stream`, of the file that `number` is.
    pub(crate) fn read_by(&self, number: u32, stream: DynInputStream) -> DynInputStream {
        match self.descriptors.get(number) {
            Some(Descriptor::Null) => Box::new(Null),
            _ => Box::new(Read { stream, _room: self.descriptors.room(number) }),
        }
    }

    /// What is written by `stream`, to the `file` that `number` is.
    pub(crate) fn write_by(
        &self,
        number: u32,
        (file, position): (Arc<File>, Position),
        stream: DynOutputStream,
    ) -> DynOutputStream {
        let (held, console) = (self.descriptors.held(), Arc::clone(&self.console));
        let _room = self.descriptors.room(number);
        Box::new(Written { file, position, stream, failed: false, held, console, _room })
    }

    /// What is written to the null device.
    pub(crate) fn write_nowhere() -> DynOutputStream {
        Box::new(Null)
    }
}

impl Written {
    /// What is charged for these bytes, or why they cannot be written.
    fn charge(&mut self, length: u64) -> io::Result<(u64, u64)> {
        let size = self.file.metadata()?.len();
        let start = if let Position::At(position) = self.position { position } else { size };
        let more = growth(size, start, length);
        if self.held.charge(more) {
            return Ok((size, more));
        }
        let (capability, operation, errno) = ("filesystem", "wasi:io/streams#write", "quota");
        self.console.invocation().deny(Denial { capability, operation, detail: None, errno, count: 1 });
        Err(io::ErrorKind::StorageFull.into())
    }

    /// Takes back what was charged for what a failed write has not added.
    fn settle(&self, (size, charged): (u64, u64)) {
        let grown = self.file.metadata().map_or(charged, |now| now.len().saturating_sub(size));
        self.held.refund(charged.saturating_sub(grown));
    }

    fn failed(&mut self, error: impl Into<wasmtime::Error>) -> StreamError {
        self.failed = true;
        StreamError::LastOperationFailed(error.into())
    }
}

#[async_trait::async_trait]
impl Pollable for Written {
    async fn ready(&mut self) {}
}

impl OutputStream for Written {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        if bytes.len() > PERMIT {
            return Err(StreamError::trap("a write of more than was permitted"));
        }
        if self.failed {
            return Err(StreamError::Closed);
        }
        let length = bytes.len() as u64;
        let charged = self.charge(length).map_err(|error| self.failed(error))?;
        let written =
            now(self.stream.blocking_write_and_flush(bytes)).map_err(|error| StreamError::Trap(error.into()))?;
        if let Err(error) = written {
            self.settle(charged);
            self.failed = true;
            return Err(error);
        }
        if let Position::At(position) = &mut self.position {
            *position = position.saturating_add(length);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        if self.failed { Err(StreamError::Closed) } else { Ok(()) }
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        if self.failed { Err(StreamError::Closed) } else { Ok(PERMIT) }
    }
}

#[async_trait::async_trait]
impl Pollable for Read {
    async fn ready(&mut self) {}
}

impl InputStream for Read {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        now(self.stream.blocking_read(size)).map_err(|error| StreamError::Trap(error.into()))?
    }
}

#[async_trait::async_trait]
impl Pollable for Null {
    async fn ready(&mut self) {}
}

impl InputStream for Null {
    fn read(&mut self, _size: usize) -> Result<Bytes, StreamError> {
        Err(StreamError::Closed)
    }
}

impl OutputStream for Null {
    fn write(&mut self, _bytes: Bytes) -> Result<(), StreamError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(PERMIT)
    }
}
