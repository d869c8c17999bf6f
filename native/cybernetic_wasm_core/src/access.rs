//! What an embedder may do with a guest that is not running just now, be it idle or suspended in a host call: look at its
//! memories, globals and tables, and change the first two. The guest's exports are all that has a name here.
//!
//! A live instance (`instance.rs`) and an open host call (`host.rs`) take the same ones; `guest/access.rs` carries them out.

use crate::code::Code;
use crate::value::Value;

/// One look at a guest, or one change to it. A memory without a name is the module's first exported one.
#[derive(Debug)]
pub enum Access {
    /// Copy bytes out of a memory.
    Read {
        /// The memory's export name.
        memory: Option<String>,
        /// First byte.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Copy bytes into a memory.
    Write {
        /// The memory's export name.
        memory: Option<String>,
        /// First byte.
        offset: u64,
        /// What to write.
        bytes: Vec<u8>,
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
        pages: u64,
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
            | Access::Size { memory }
            | Access::Grow { memory, .. } => memory_name(memory.as_deref(), code),
            Access::GetGlobal { name }
            | Access::SetGlobal { name, .. }
            | Access::TableSize { name }
            | Access::TableGet { name, .. } => name,
        }
    }
}

/// `None` is the first memory that the module exports.
pub(crate) fn memory_name<'a>(name: Option<&'a str>, code: &'a Code) -> &'a str {
    name.or(code.default_memory()).unwrap_or("memory")
}
