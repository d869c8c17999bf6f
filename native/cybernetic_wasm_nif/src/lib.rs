//! The door between the BEAM and `cybernetic_wasm_core`: each function here decodes its terms, makes one call of the core
//! crate and encodes what comes back. Its other side is `lib/cybernetic/wasm/native.ex`.
//!
//! A function that may run a guest comes in two: one for a normal scheduler, which answers `:dirty` where the work does not
//! belong there, and one for a dirty one.

#![deny(unsafe_code)]

mod atoms;
mod courier;
mod nif;
mod resources;
mod terms;

rustler::init!("Elixir.Cybernetic.WASM.Native");
