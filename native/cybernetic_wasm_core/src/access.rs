//! What an embedder may do with a guest that is not running just now, be it idle or suspended in a host call: look at its
//! memories, globals and tables, and change the first two. The guest's exports are all that has a name here.
//!
//! A live instance (`instance.rs`) and an open host call (`host.rs`) take the same ones; `guest/access.rs` carries them out.

use crate::code::Code;
use crate::value::Value;

/// A number of bytes or pages as the embedder may have it from a guest, whose integers come signed: a negative one stands for an
/// unsigned one of the memory's width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word(i128);

impl Word {
    /// The unsigned number of 64 bits.
    pub fn wide(self) -> u64 {
        self.unsigned(|| true)
    }

    /// The unsigned number, in a memory that has 64-bit addresses if it is `wide`. What no 32-bit integer holds is taken for one
    /// of 64 bits, and so is beyond all that a 32-bit memory has.
    pub(crate) fn unsigned(self, wide: impl FnOnce() -> bool) -> u64 {
        let narrow = || self.0 >= i128::from(i32::MIN) && !wide();
        let bits = if self.0 < 0 && narrow() { 32 } else { 64 };
        self.0.rem_euclid(1 << bits) as u64
    }
}

impl From<i32> for Word {
    fn from(value: i32) -> Self {
        Self(value.into())
    }
}

impl From<i64> for Word {
    fn from(value: i64) -> Self {
        Self(value.into())
    }
}

impl From<u64> for Word {
    fn from(value: u64) -> Self {
        Self(value.into())
    }
}

/// One look at a guest, or one change to it. A memory without a name is the module's first exported one.
#[derive(Debug)]
pub enum Access {
    /// Copy bytes out of a memory.
    Read {
        /// The memory's export name.
        memory: Option<String>,
        /// First byte.
        offset: Word,
        /// How many.
        length: Word,
    },
    /// Copy bytes into a memory.
    Write {
        /// The memory's export name.
        memory: Option<String>,
        /// First byte.
        offset: Word,
        /// What to write.
        bytes: Vec<u8>,
    },
    /// Where bytes of a memory are to be found, in unsigned numbers, and the memory's size.
    Locate {
        /// The memory's export name.
        memory: Option<String>,
        /// First byte.
        offset: Word,
        /// How many.
        length: Word,
    },
    /// A memory's size in bytes.
    Size {
        /// The memory's export name.
        memory: Option<String>,
    },
    /// Grow a memory, within the guest's limits.
    Grow {
        /// The memory's export name.
        memory: Option<String>,
        /// By how many pages.
        pages: Word,
    },
    /// A global's value.
    GetGlobal {
        /// Its export name.
        name: String,
    },
    /// Give a mutable global another value.
    SetGlobal {
        /// Its export name.
        name: String,
        /// The value.
        value: Value,
    },
    /// How many elements a table has.
    TableSize {
        /// Its export name.
        name: String,
    },
    /// A block of a plugin's.
    Block {
        /// Where it begins.
        offset: u64,
    },
    /// Make a block in a plugin, with these bytes.
    Put {
        /// What is in it.
        bytes: Vec<u8>,
    },
    /// What a plugin's request was answered with, beside its body.
    Answered {
        /// The status.
        status: i32,
        /// The headers, as JSON.
        headers: Vec<u8>,
    },
    /// An element of a table.
    TableGet {
        /// Its export name.
        name: String,
        /// Its index.
        index: u64,
    },
}

impl Access {
    /// The export that this is about, as `code` names it.
    pub(crate) fn export<'a>(&'a self, code: &'a Code) -> &'a str {
        match self {
            Access::Read { memory, .. }
            | Access::Write { memory, .. }
            | Access::Locate { memory, .. }
            | Access::Size { memory }
            | Access::Grow { memory, .. } => memory_name(memory.as_deref(), code),
            Access::GetGlobal { name }
            | Access::SetGlobal { name, .. }
            | Access::TableSize { name }
            | Access::TableGet { name, .. } => name,
            Access::Block { .. } | Access::Put { .. } | Access::Answered { .. } => "",
        }
    }
}

/// `None` is the first memory that the module exports.
pub(crate) fn memory_name<'a>(name: Option<&'a str>, code: &'a Code) -> &'a str {
    name.or(code.default_memory()).unwrap_or("memory")
}
