//! What a plugin of Extism's has beside its own memory: blocks of bytes that it and its host pass to each other by their offsets,
//! its input and output, its configuration and its variables. `extism.rs` has the functions by which a guest reaches it.
//!
//! Blocks live in an arena, which counts as the guest's memory and is gone with it. What is freed is used again, as it is: an
//! arena holds nothing of another guest's.

use crate::error::{Error, Limit, LimitError, Trap};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Where the first block begins: offset 0 is none.
const FIRST: u64 = 16;

/// Blocks begin at multiples of this, so that whole words of them can be loaded.
const ALIGNMENT: u64 = 8;

/// The arena grows by multiples of this.
const STEP: u64 = 65_536;

/// What a variable takes beside its name and its value.
const BESIDE: u64 = 64;

/// What a plugin is made with: its configuration, and the variables that its calls share.
#[derive(Debug, Default)]
pub struct Settings {
    config: HashMap<Vec<u8>, Vec<u8>>,
    log_level: i32,
    variables: Mutex<Variables>,
}

#[derive(Debug, Default)]
struct Variables {
    values: HashMap<Vec<u8>, Arc<[u8]>>,
    bytes: u64,
    most: u64,
}

impl Settings {
    /// With this configuration. What is logged below a level is not handed over, and variables take so many bytes at the most.
    pub fn new(config: HashMap<Vec<u8>, Vec<u8>>, log_level: i32, most: u64) -> Self {
        Self { config, log_level, variables: Mutex::new(Variables { most, ..Variables::default() }) }
    }

    pub(crate) fn config(&self, key: &[u8]) -> Option<&[u8]> {
        self.config.get(key).map(Vec::as_slice)
    }

    pub(crate) fn log_level(&self) -> i32 {
        self.log_level
    }

    pub(crate) fn variable(&self, name: &[u8]) -> Option<Arc<[u8]>> {
        self.variables.lock().values.get(name).cloned()
    }

    /// Gives a variable a value, or takes it away.
    pub(crate) fn set_variable(&self, name: &[u8], value: Option<&[u8]>) -> Result<(), LimitError> {
        let variables = &mut *self.variables.lock();
        let size = |value: &[u8]| name.len() as u64 + value.len() as u64 + BESIDE;
        let before = variables.values.get(name).map_or(0, |value| size(value));
        let after = value.map_or(0, size);
        let sum = variables.bytes - before + after;
        if after > before && sum > variables.most {
            return Err(LimitError::new(Limit::Variables, variables.most, sum));
        }
        variables.bytes = sum;
        match value {
            Some(value) => variables.values.insert(name.to_vec(), value.into()),
            None => variables.values.remove(name),
        };
        Ok(())
    }
}

/// Two are the same where they are one.
impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Settings {}

/// The kernel of one guest.
pub(crate) struct Kernel {
    pub(crate) settings: Arc<Settings>,
    /// As many as have been counted as the guest's. Plugins write a little beyond their blocks, and may.
    bytes: Vec<u8>,
    /// Where the next block begins that is none of those that were freed.
    next: u64,
    /// Those in use, by their offsets: how long each is, and what it takes.
    used: HashMap<u64, (u64, u64)>,
    /// Those that were freed, by what they take.
    freed: BTreeMap<u64, Vec<u64>>,
    pub(crate) input: Part,
    pub(crate) output: Part,
    /// The block with the error that the guest has reported, or 0.
    pub(crate) error: u64,
    /// What the last request was answered with.
    pub(crate) http: Http,
}

/// A part of the arena.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// The answer to a request, beside its body.
#[derive(Debug, Default)]
pub(crate) struct Http {
    pub(crate) status: i32,
    pub(crate) headers: Option<Vec<u8>>,
}

impl Kernel {
    pub(crate) fn new(settings: &Arc<Settings>) -> Self {
        Self {
            settings: Arc::clone(settings),
            bytes: Vec::new(),
            next: FIRST,
            used: HashMap::new(),
            freed: BTreeMap::new(),
            input: Part::default(),
            output: Part::default(),
            error: 0,
            http: Http::default(),
        }
    }

    /// How many bytes more the arena needs for a block of that length.
    pub(crate) fn lacks(&self, length: u64) -> u64 {
        let size = size(length);
        if self.freed.range(size..).next().is_some() {
            return 0;
        }
        self.next.saturating_add(size).saturating_sub(self.bytes.len() as u64)
    }

    /// By how much it had better grow where it needs so many: by little at a time, most time would go into copying it.
    pub(crate) fn step(&self, lacks: u64) -> u64 {
        lacks.checked_next_multiple_of(STEP).unwrap_or(lacks).max(self.bytes.len() as u64)
    }

    /// So many bytes more have been counted. The system may not have them all the same.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), LimitError> {
        let (before, more) = (self.bytes.len(), usize::try_from(bytes).unwrap_or(usize::MAX));
        let had = LimitError::new(Limit::Memory, before as u64, bytes.saturating_add(before as u64));
        self.bytes.try_reserve_exact(more).map_err(|_| had)?;
        self.bytes.resize(before + more, 0);
        Ok(())
    }

    /// A block of that length, for which there is room; 0 of none.
    pub(crate) fn alloc(&mut self, length: u64) -> u64 {
        if length == 0 {
            return 0;
        }
        let (offset, size) = self.take_freed(size(length)).unwrap_or_else(|| self.append(size(length)));
        self.used.insert(offset, (length, size));
        offset
    }

    fn take_freed(&mut self, least: u64) -> Option<(u64, u64)> {
        let (size, offsets) = self.freed.range_mut(least..).next()?;
        let (size, offset) = (*size, offsets.pop()?);
        if offsets.is_empty() {
            self.freed.remove(&size);
        }
        Some((offset, size))
    }

    fn append(&mut self, size: u64) -> (u64, u64) {
        let offset = self.next;
        self.next += size;
        (offset, size)
    }

    /// Lets go of a block; nothing happens where there is none.
    pub(crate) fn free(&mut self, offset: u64) {
        if let Some((_, size)) = self.used.remove(&offset) {
            self.freed.entry(size).or_default().push(offset);
        }
    }

    /// How long the block is that begins there, or 0.
    pub(crate) fn length(&self, offset: u64) -> u64 {
        self.used.get(&offset).map_or(0, |(length, _)| *length)
    }

    /// The block that begins there, or nothing.
    pub(crate) fn block(&self, offset: u64) -> &[u8] {
        self.part(Part { offset, length: self.length(offset) }).unwrap_or_default()
    }

    /// A part of the arena, wherever blocks begin and end in it.
    pub(crate) fn part(&self, part: Part) -> Result<&[u8], Error> {
        Ok(&self.bytes[self.range(part)?])
    }

    /// The same, to be changed.
    pub(crate) fn part_mut(&mut self, part: Part) -> Result<&mut [u8], Error> {
        let range = self.range(part)?;
        Ok(&mut self.bytes[range])
    }

    fn range(&self, Part { offset, length }: Part) -> Result<Range<usize>, Error> {
        let end = offset.checked_add(length).filter(|end| *end <= self.bytes.len() as u64);
        end.map(|end| offset as usize..end as usize).ok_or_else(|| outside(offset, length))
    }
}

/// What a block of that length takes.
fn size(length: u64) -> u64 {
    length.checked_next_multiple_of(ALIGNMENT).unwrap_or(u64::MAX)
}

fn outside(offset: u64, length: u64) -> Error {
    let message = format!("it asked for {length} bytes at {offset} of the plugin's blocks, which end before that");
    Trap { code: "memory_out_of_bounds", message, ..Trap::default() }.into()
}
