//! Gives a module that was written without the contents of its memories these contents: their sizes, and a data segment for
//! each piece. The binary format is that of <https://webassembly.github.io/spec/core/binary/modules.html>.

use super::memories::{Memories, Memory, PIECE, Segment};
use crate::error::{CallError, Error};
use crate::limits::Reserved;
use wasmparser::{BinaryReader, MemorySectionReader, MemoryType};

/// The magic number and the version.
const HEADER: usize = 8;

const MEMORY: u8 = 5;
const DATA: u8 = 11;
const DATA_COUNT: u8 = 12;

/// `wasm` with these memories. The result counts in `held`.
pub(super) fn fill(
    wasm: &[u8],
    memories: &Memories,
    held: &mut Reserved,
    check: &dyn Fn() -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    let segments = memories.segments(check)?;
    let data: u64 = segments.iter().map(|segment| head(segment, memories).len() as u64 + segment.length).sum();
    if data > u64::from(u32::MAX) {
        return Err(CallError::NoSnapshot("it would be larger than a module may be, 4 GiB".into()).into());
    }
    // Each section's size may take some bytes more than before.
    let size = wasm.len() as u64 + data + 64;
    held.add(size)?;
    let mut filled = Vec::new();
    filled.try_reserve_exact(usize::try_from(size).map_err(Error::internal)?).map_err(Error::internal)?;
    let (header, sections) = wasm.split_at(HEADER);
    filled.extend_from_slice(header);
    let mut reader = BinaryReader::new(sections, 0);
    while !reader.eof() {
        let id = reader.read_u8().map_err(malformed)?;
        let length = reader.read_var_u32().map_err(malformed)? as usize;
        let content = reader.read_bytes(length).map_err(malformed)?;
        match id {
            MEMORY => section(&mut filled, id, &[&sizes(content, &memories.all)?]),
            DATA_COUNT => section(&mut filled, id, &[&more(content, segments.len())?.0]),
            DATA => {
                let (count, before) = more(content, segments.len())?;
                filled.push(DATA);
                unsigned(&mut filled, (count.len() + before.len()) as u64 + data);
                filled.extend([&count, before].concat());
                write(&mut filled, &segments, memories, check)?;
            }
            _ => section(&mut filled, id, &[content]),
        }
    }
    Ok(filled)
}

fn malformed(error: wasmparser::BinaryReaderError) -> Error {
    Error::Internal(format!("a snapshot's module is malformed: {error}"))
}

fn section(to: &mut Vec<u8>, id: u8, parts: &[&[u8]]) {
    to.push(id);
    unsigned(to, parts.iter().map(|part| part.len() as u64).sum());
    parts.iter().for_each(|part| to.extend_from_slice(part));
}

/// A section's count of entries with so many more, and its entries.
fn more(content: &[u8], segments: usize) -> Result<(Vec<u8>, &[u8]), Error> {
    let mut reader = BinaryReader::new(content, 0);
    let mut count = Vec::new();
    unsigned(&mut count, u64::from(reader.read_var_u32().map_err(malformed)?) + segments as u64);
    let entries = &content[reader.original_position()..];
    Ok((count, entries))
}

/// The section of memories, which are as large now as they were.
fn sizes(content: &[u8], memories: &[Memory]) -> Result<Vec<u8>, Error> {
    let types = MemorySectionReader::new(BinaryReader::new(content, 0)).map_err(malformed)?;
    let mut section = Vec::new();
    unsigned(&mut section, memories.len() as u64);
    for (ty, memory) in types.into_iter().zip(memories) {
        let MemoryType { memory64, shared, maximum, page_size_log2, .. } = ty.map_err(malformed)?;
        let flags = [maximum.is_some(), shared, memory64, page_size_log2.is_some()];
        section.push(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag)));
        unsigned(&mut section, memory.pages);
        maximum.into_iter().chain(page_size_log2.map(u64::from)).for_each(|number| unsigned(&mut section, number));
    }
    Ok(section)
}

fn write(
    to: &mut Vec<u8>,
    segments: &[Segment<'_>],
    memories: &Memories,
    check: &dyn Fn() -> Result<(), Error>,
) -> Result<(), Error> {
    for segment in segments {
        to.extend(head(segment, memories));
        for (zeros, bytes) in &segment.pieces {
            to.resize(to.len() + *zeros as usize, 0);
            for piece in bytes.chunks(PIECE) {
                check()?;
                to.extend_from_slice(piece);
            }
        }
    }
    Ok(())
}

/// What comes before a data segment's bytes: its memory, its offset, how many there are.
fn head(segment: &Segment<'_>, memories: &Memories) -> Vec<u8> {
    const I32_CONST: u8 = 0x41;
    const I64_CONST: u8 = 0x42;
    const END: u8 = 0x0b;
    let mut head = Vec::with_capacity(24);
    match segment.memory {
        0 => head.push(0),
        memory => {
            head.push(2);
            unsigned(&mut head, memory as u64);
        }
    }
    match memories.all[segment.memory].wide {
        true => {
            head.push(I64_CONST);
            signed(&mut head, segment.offset as i64);
        }
        // An offset is unsigned, the number that stands for it is not.
        false => {
            head.push(I32_CONST);
            signed(&mut head, i64::from(segment.offset as u32 as i32));
        }
    }
    head.push(END);
    unsigned(&mut head, segment.length);
    head
}

/// LEB128, as all numbers of the format.
fn unsigned(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

fn signed(to: &mut Vec<u8>, mut number: i64) {
    while !(-0x40..0x40).contains(&number) {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8 & 0x7f);
}
