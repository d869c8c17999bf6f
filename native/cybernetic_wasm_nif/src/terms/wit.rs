//! The values of components: which Elixir term is which value of WIT's types, and back. The table is in `Cybernetic.WASM.Value`.
//!
//! A term is looked into by the type that it is to be of, so that nothing of it gets to Wasmtime that is not of that type. No atom
//! is ever made: names are compared with those that are there.

mod declared;
mod decode;
mod encode;
mod types;

pub(crate) use declared::encode_declared;
pub(crate) use decode::{Room, Undecoded, decode_arguments, decode_result};
pub(crate) use encode::encode;
pub(crate) use types::{encode_enumerate, encode_world};
