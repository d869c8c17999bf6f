//! What a guest puts out: through host functions, and through its standard output and error.

use super::{Invocation, Notice, once_pending};
use crate::error::{Limit, LimitError};
use crate::limits::Ceilings;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Where a guest puts something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// A host function emits it.
    Emitted,
    /// The guest writes it to standard output.
    Stdout,
    /// The guest writes it to standard error.
    Stderr,
}

/// What a guest has put out, and where each piece of it ends.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    ends: Vec<(Stream, usize)>,
    /// Where what the guest wrote by itself counts as memory of the node's guests.
    ceilings: Option<Arc<Ceilings>>,
}

impl Output {
    fn put(&mut self, stream: Stream, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        let end = self.bytes.len();
        match self.ends.last_mut() {
            // A write to a file has no beginning and no end.
            Some(last) if last.0 == stream && stream != Stream::Emitted => last.1 = end,
            _ => self.ends.push((stream, end)),
        }
    }

    /// What went to one of the streams, in one piece.
    pub fn of(&self, stream: Stream) -> Vec<u8> {
        let pieces = self.pieces().filter(|(of, _)| *of == stream).map(|(_, piece)| piece);
        pieces.collect::<Vec<_>>().concat()
    }

    /// Takes what went to these streams.
    fn split(&mut self, streams: &[Stream]) -> Self {
        if self.ends.iter().all(|(stream, _)| streams.contains(stream)) {
            return std::mem::take(self);
        }
        let (mut taken, mut left) = (Output::default(), Output::default());
        for (stream, piece) in self.pieces() {
            if streams.contains(&stream) { &mut taken } else { &mut left }.put(stream, piece);
        }
        taken.ceilings = self.ceilings.take();
        left.ceilings = taken.ceilings.clone();
        *self = left;
        taken
    }

    /// One after the other, as they were put out.
    pub fn pieces(&self) -> impl Iterator<Item = (Stream, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        self.ends.iter().zip(starts).map(|((stream, end), start)| (*stream, &self.bytes[start..*end]))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(ceilings) = &self.ceilings {
            let written = self.pieces().filter(|(stream, _)| *stream != Stream::Emitted);
            ceilings.memory_counter().release(written.map(|(_, piece)| piece.len() as u64).sum());
        }
    }
}

/// The output of an invocation.
#[derive(Default)]
pub(super) struct Emitted {
    output: Mutex<Output>,
    /// Of all output, also what has been taken.
    bytes: AtomicU64,
    /// The guest may not go on after a write before that was taken.
    handed_over: AtomicBool,
}

impl Invocation {
    /// Takes what the guest puts out, up to the limit.
    pub(crate) fn emit(&self, stream: Stream, bytes: &[u8]) -> Result<(), LimitError> {
        let mut output = self.output.output.lock();
        let sum = self.output_bytes().saturating_add(bytes.len() as u64);
        if sum > self.limits.max_output {
            return Err(LimitError::new(Limit::Output, self.limits.max_output, sum));
        }
        self.output.bytes.store(sum, Relaxed);
        output.put(stream, bytes);
        Ok(())
    }

    /// The same of what the guest writes by itself: until somebody takes it, it is memory that the guest has.
    pub(crate) fn write(&self, stream: Stream, bytes: &[u8], ceilings: &Arc<Ceilings>) -> Result<(), LimitError> {
        let size = bytes.len() as u64;
        ceilings.memory_counter().reserve(size)?;
        if let Err(error) = self.emit(stream, bytes) {
            ceilings.memory_counter().release(size);
            return Err(error);
        }
        let mut output = self.output.output.lock();
        output.ceilings.get_or_insert_with(|| Arc::clone(ceilings));
        Ok(())
    }

    pub(crate) fn output_bytes(&self) -> u64 {
        self.output.bytes.load(Relaxed)
    }

    pub(crate) fn take_output(&self) -> Output {
        std::mem::take(&mut self.output.output.lock())
    }

    /// Takes what went to these streams only.
    pub(crate) fn take_output_of(&self, streams: &[Stream]) -> Output {
        self.output.output.lock().split(streams)
    }

    /// From now on the guest waits after each write until that was taken.
    pub(crate) fn hand_over_output(&self) {
        self.output.handed_over.store(true, Relaxed);
    }

    /// After a write: lets the driver take it, where it wants to.
    pub(crate) async fn hand_over(&self) {
        if self.output.handed_over.load(Relaxed) {
            self.mail.lock().notice = Some(Notice::Output);
            once_pending().await;
        }
    }
}
