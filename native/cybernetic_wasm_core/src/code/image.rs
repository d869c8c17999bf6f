//! How large the images are that a module's memories could begin with, against the data in them.
//!
//! An image is mapped into each instance and shared until it is written to; data without one is copied into each instance.
//! It is made when the module is compiled, where no limit of a call is in force, and a few bytes far apart would make one of
//! any size.

use std::collections::HashMap;
use wasmparser::{ConstExpr, Data, DataKind, Operator, Parser, Payload};

/// Bytes of an image that may be mostly empty, however few of them are data.
const LITTLE: u64 = 256 << 10;

/// Most guests' data is scattered: a heap has holes, and zeros are left out of a snapshot. A larger image may have so many times
/// the bytes of its data, up to this size. Beyond that the data must be half of it, as Wasmtime has it.
const SPREAD: u64 = 8;
const MOST_SPREAD: u64 = 16 << 20;

/// Bytes that an image of `wasm` may have though it is mostly empty.
pub(crate) fn most_empty(wasm: &[u8]) -> u64 {
    let mut images: HashMap<u32, Image> = HashMap::new();
    for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        // All of a module's memories begin with images, or none. A component has several modules.
        if matches!(payload, Payload::Version { .. }) && !images.drain().all(|(_, image)| image.is_in_proportion()) {
            return LITTLE;
        }
        let Payload::DataSection(section) = payload else { continue };
        for Data { kind, data, .. } in section.into_iter().map_while(Result::ok) {
            if let DataKind::Active { memory_index, offset_expr } = kind {
                // With an offset that is only known in an instance there are no images at all.
                let Some(start) = constant(&offset_expr) else { return LITTLE };
                images.entry(memory_index).or_default().add(start, data.len() as u64);
            }
        }
    }
    if images.values().all(Image::is_in_proportion) { MOST_SPREAD } else { LITTLE }
}

/// A memory's data: how much, and from where to where.
struct Image {
    data: u64,
    start: u64,
    end: u64,
}

impl Default for Image {
    fn default() -> Self {
        Self { data: 0, start: u64::MAX, end: 0 }
    }
}

impl Image {
    fn add(&mut self, start: u64, data: u64) {
        if data > 0 {
            self.data += data;
            self.start = self.start.min(start);
            self.end = self.end.max(start.saturating_add(data));
        }
    }

    fn is_in_proportion(&self) -> bool {
        let size = self.end.saturating_sub(self.start);
        size <= LITTLE || size <= SPREAD * self.data
    }
}

/// An offset that is known before there is an instance.
fn constant(offset: &ConstExpr<'_>) -> Option<u64> {
    let mut operators = offset.get_operators_reader();
    let start = match operators.read().ok()? {
        Operator::I32Const { value } => u64::from(value.cast_unsigned()),
        Operator::I64Const { value } => value.cast_unsigned(),
        _ => return None,
    };
    matches!(operators.read(), Ok(Operator::End)).then_some(start)
}
