//! The memories of a guest, copied but for what of them is zero.

use crate::error::Error;
use crate::limits::Reserved;

/// What is copied or left out: small enough that a snapshot is little more than what is not zero.
const GRAIN: usize = 256;

/// How much is copied between two questions whether anybody still waits: some tenths of a millisecond.
pub(super) const PIECE: usize = 1 << 20;

/// What a run takes beside its bytes, here and as a piece of a segment.
const RUN: u64 = (size_of::<Run>() + size_of::<(u64, &[u8])>()) as u64;

/// Data segments of a snapshot: engines take some more in one module.
const MOST_RUNS: usize = 10_000;

/// Memories by their index, and what they hold.
#[derive(Default)]
pub(super) struct Memories {
    pub(super) all: Vec<Memory>,
    /// Of all of them, one run after the other.
    bytes: Vec<u8>,
    runs: Vec<Run>,
}

/// How large a memory is.
pub(super) struct Memory {
    pub(super) pages: u64,
    /// Addressed by 64 bits.
    pub(super) wide: bool,
}

/// Bytes of a memory, not all of them zero.
struct Run {
    memory: usize,
    offset: u64,
    length: usize,
}

impl Run {
    fn end(&self) -> u64 {
        self.offset + self.length as u64
    }
}

/// Runs that are written as one, with zeros between them.
pub(super) struct Segment<'a> {
    pub(super) memory: usize,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Each piece, and how many zeros come before it.
    pub(super) pieces: Vec<(u64, &'a [u8])>,
}

impl Memories {
    /// Reads one more memory of so many pages. What is copied counts in `held`.
    pub(super) fn read(
        &mut self,
        data: &[u8],
        (pages, wide): (u64, bool),
        held: &mut Reserved,
        check: &dyn Fn() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let memory = self.all.len();
        self.all.push(Memory { pages, wide });
        for (index, piece) in data.chunks(PIECE).enumerate() {
            check()?;
            let grains = piece.chunks(GRAIN).enumerate().filter(|(_, grain)| !is_zero(grain));
            let wanted: usize = grains.clone().map(|(_, grain)| grain.len()).sum();
            held.add(wanted as u64)?;
            self.bytes.try_reserve(wanted).map_err(Error::internal)?;
            let runs = self.runs.len();
            for (grain, bytes) in grains {
                self.bytes.extend_from_slice(bytes);
                self.note(memory, (index * PIECE + grain * GRAIN) as u64, bytes.len());
            }
            held.add(RUN * (self.runs.len() - runs) as u64)?;
        }
        Ok(())
    }

    fn note(&mut self, memory: usize, offset: u64, length: usize) {
        match self.runs.last_mut() {
            Some(last) if last.memory == memory && last.end() == offset => last.length += length,
            _ => self.runs.push(Run { memory, offset, length }),
        }
    }

    /// What was read, as no more segments than a module may have.
    pub(super) fn segments(&self, check: &dyn Fn() -> Result<(), Error>) -> Result<Vec<Segment<'_>>, Error> {
        let gap = self.gap(check)?;
        let mut segments: Vec<Segment<'_>> = Vec::new();
        let mut bytes = &self.bytes[..];
        for run in &self.runs {
            let (piece, rest) = bytes.split_at(run.length);
            bytes = rest;
            match segments.last_mut() {
                Some(last) if last.memory == run.memory && run.offset - (last.offset + last.length) <= gap => {
                    last.pieces.push((run.offset - (last.offset + last.length), piece));
                    last.length = run.end() - last.offset;
                }
                _ => segments.push(Segment {
                    memory: run.memory,
                    offset: run.offset,
                    length: run.length as u64,
                    pieces: vec![(0, piece)],
                }),
            }
        }
        Ok(segments)
    }

    /// The least power of two that leaves few enough runs where zeros up to so many are written as well.
    fn gap(&self, check: &dyn Fn() -> Result<(), Error>) -> Result<u64, Error> {
        let apart = |gap: u64| {
            let far = |pair: &[Run]| pair[0].memory != pair[1].memory || pair[1].offset - pair[0].end() > gap;
            self.runs.windows(2).filter(|pair| far(pair)).count() + 1
        };
        let mut gap = 0;
        while apart(gap) > MOST_RUNS {
            check()?;
            gap = (gap * 2).max(GRAIN as u64);
        }
        Ok(gap)
    }
}

/// Without a way out before the end, so that many bytes are looked at together.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |any, byte| any | byte) == 0
}
