//! What a guest puts out: through host functions, and through its standard output and error.

use super::Invocation;
use super::slice::once_pending;
use crate::error::{Limit, LimitError};
use crate::limits::Ceilings;
use crate::mail::Notice;
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

/// What a guest has put out, and the pieces that it came in.
#[derive(Debug, Default)]
pub struct Output {
    /// By stream.
    bytes: [Vec<u8>; 3],
    /// One after the other, as they were put out: the stream, and how long the piece is.
    order: Vec<(Stream, usize)>,
    /// Where what the guest wrote by itself counts as memory of the node's guests.
    ceilings: Option<Arc<Ceilings>>,
}

impl Output {
    fn put(&mut self, stream: Stream, piece: &[u8]) {
        self.bytes[stream as usize].extend_from_slice(piece);
        self.note(stream, piece.len());
    }

    fn note(&mut self, stream: Stream, length: usize) {
        match self.order.last_mut() {
            // A write to a file has no beginning and no end.
            Some(last) if last.0 == stream && stream != Stream::Emitted => last.1 += length,
            _ => self.order.push((stream, length)),
        }
    }

    /// Takes what went to these streams. What stays is not moved: it may be much, and this be asked after each write.
    fn split(&mut self, streams: &[Stream]) -> Self {
        let mut taken = Output::default();
        taken.ceilings.clone_from(&self.ceilings);
        for stream in streams {
            taken.bytes[*stream as usize] = std::mem::take(&mut self.bytes[*stream as usize]);
        }
        for (stream, length) in std::mem::take(&mut self.order) {
            if streams.contains(&stream) { &mut taken } else { &mut *self }.note(stream, length);
        }
        taken
    }

    /// What went to one of the streams, in one piece.
    pub fn of(&self, stream: Stream) -> &[u8] {
        &self.bytes[stream as usize]
    }

    /// How many bytes these are.
    pub fn size(&self) -> usize {
        self.bytes.iter().map(Vec::len).sum()
    }

    /// One after the other, as they were put out.
    pub fn pieces(&self) -> impl Iterator<Item = (Stream, &[u8])> {
        let mut starts = [0; 3];
        self.order.iter().map(move |(stream, length)| {
            let start = starts[*stream as usize];
            starts[*stream as usize] += length;
            (*stream, &self.bytes[*stream as usize][start..start + length])
        })
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(ceilings) = &self.ceilings {
            let written = self.of(Stream::Stdout).len() + self.of(Stream::Stderr).len();
            ceilings.memory_counter().release(written as u64);
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
        self.count_output(bytes.len() as u64)?;
        output.put(stream, bytes);
        Ok(())
    }

    /// Counts bytes that the call gives, up to the limit.
    pub(crate) fn count_output(&self, bytes: u64) -> Result<(), LimitError> {
        let sum = self.output_bytes().saturating_add(bytes);
        if sum > self.limits.max_output {
            return Err(LimitError::new(Limit::Output, self.limits.max_output, sum));
        }
        self.account_output(bytes)?;
        self.output.bytes.store(sum, Relaxed);
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

    /// How many bytes of these streams nobody has taken yet.
    pub(crate) fn output_waiting(&self, streams: &[Stream]) -> usize {
        let output = self.output.output.lock();
        streams.iter().map(|stream| output.of(*stream).len()).sum()
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
            self.mail.tell(Notice::Output);
            once_pending().await;
        }
    }
}
