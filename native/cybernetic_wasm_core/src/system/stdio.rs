//! A guest's standard input, output and error. Both ends are the invocation's: the streams that `wasmtime-wasi` holds ask
//! the one that is under way.

use crate::error::Error;
use crate::invocation::{Denial, Invocation, Stream};
use crate::limits::Ceilings;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, InputStream, OutputStream, Pollable, StreamError};

/// More than `wasmtime-wasi` ever writes at once.
const PERMIT: usize = 1 << 20;

/// Which invocation the guest's standard streams belong to, and the node whose memory their bytes take.
pub(super) struct Console {
    invocation: Mutex<Arc<Invocation>>,
    ceilings: Arc<Ceilings>,
}

impl Console {
    pub(super) fn new(invocation: &Arc<Invocation>, ceilings: &Arc<Ceilings>) -> Arc<Self> {
        Arc::new(Self { invocation: Mutex::new(Arc::clone(invocation)), ceilings: Arc::clone(ceilings) })
    }

    pub(super) fn attach(&self, invocation: &Arc<Invocation>) {
        *self.invocation.lock() = Arc::clone(invocation);
    }

    pub(super) fn invocation(&self) -> Arc<Invocation> {
        Arc::clone(&self.invocation.lock())
    }

    pub(super) fn input(self: &Arc<Self>, terminal: bool) -> Shared {
        Shared(Arc::clone(self), terminal)
    }

    pub(super) fn out(self: &Arc<Self>, terminal: bool) -> Output {
        Output(Arc::clone(self), Stream::Stdout, terminal)
    }

    pub(super) fn err(self: &Arc<Self>, terminal: bool) -> Output {
        Output(Arc::clone(self), Stream::Stderr, terminal)
    }

    /// Standard input as a component has it, which is over at once where it is not granted.
    pub(super) fn read(self: &Arc<Self>, granted: bool) -> DynInputStream {
        if granted { Box::new(Input(Arc::clone(self))) } else { Box::new(Withheld(Arc::clone(self), "stdin")) }
    }

    /// Standard output or error, the same.
    pub(super) fn write(self: &Arc<Self>, stream: Stream, granted: bool) -> DynOutputStream {
        let name = if stream == Stream::Stderr { "stderr" } else { "stdout" };
        match granted {
            true => Box::new(Output(Arc::clone(self), stream, false)),
            false => Box::new(Withheld(Arc::clone(self), name)),
        }
    }
}

/// A standard stream that a component was not granted: it is closed.
struct Withheld(Arc<Console>, &'static str);

impl Withheld {
    fn refuse(&self, operation: &'static str) -> StreamError {
        let detail = Some(self.1.to_owned());
        self.0.invocation().deny(Denial { capability: "stdio", operation, detail, errno: "closed", count: 1 });
        StreamError::Closed
    }
}

#[async_trait::async_trait]
impl Pollable for Withheld {
    async fn ready(&mut self) {}
}

impl InputStream for Withheld {
    fn read(&mut self, _size: usize) -> Result<Bytes, StreamError> {
        Err(self.refuse("wasi:io/streams#read"))
    }
}

impl OutputStream for Withheld {
    fn write(&mut self, _bytes: Bytes) -> Result<(), StreamError> {
        Err(self.refuse("wasi:io/streams#write"))
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Err(StreamError::Closed)
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Err(self.refuse("wasi:io/streams#write"))
    }
}

/// Standard input.
struct Input(Arc<Console>);

#[async_trait::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        let invocation = self.0.invocation();
        invocation.input_ready().await;
    }
}

impl InputStream for Input {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        self.0.invocation().read_input(size).map(Bytes::from).ok_or(StreamError::Closed)
    }
}

/// Standard output or error.
#[derive(Clone)]
pub(super) struct Output(Arc<Console>, Stream, bool);

/// Nothing is ever kept back here: that a guest does not run ahead of whoever reads is seen to after each of its writes.
#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        let written = self.0.invocation().write(self.1, &bytes, &self.0.ceilings);
        written.map_err(|error| StreamError::Trap(Error::from(error).into()))
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(PERMIT)
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        self.2
    }
}

/// Preview 1 asks for the streams of preview 2 only.
impl StdinStream for Shared {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(Input(Arc::clone(&self.0)))
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

/// Where standard input is read from.
pub(super) struct Shared(Arc<Console>, bool);

impl IsTerminal for Shared {
    fn is_terminal(&self) -> bool {
        self.1
    }
}
