//! JSON (RFC 8259) to terms and back. What is read is a stranger's, and what is written is data: neither is bent to fit.
//!
//! | JSON | term |
//! |---|---|
//! | object | a map with texts for keys |
//! | array | a list |
//! | string | a binary, which is UTF-8 |
//! | number without fraction and exponent | an integer of up to 128 bytes |
//! | other number | a float |
//! | `true` `false` `null` | the atoms, and `nil` |
//!
//! Other atoms are written as strings, and may be keys.

mod read;
mod write;

pub(crate) use read::read;
pub(crate) use write::{Unwritten, write};

/// As deep as lists and maps may ever lie in each other: each level takes a little of a scheduler's stack, which is small.
const DEEPEST: u32 = 100;
