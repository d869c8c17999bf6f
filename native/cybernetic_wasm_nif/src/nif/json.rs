//! JSON to terms and back.

use crate::atoms;
use crate::terms::{binary, json};
use cybernetic_wasm_core::lane::Lane;
use rustler::{Binary, Encoder, Env, Term};

/// Bytes of JSON that a normal scheduler reads or writes: some 0.1 ms.
const INLINE: usize = 16 << 10;

lanes! {
    /// `{:ok, term}`, or `{:invalid, words, byte}`.
    fn json_read, json_read_dirty<'a>(env, lane; text: Binary<'a>, deepest: u32) -> Term<'a> {
        if lane == Lane::Inline && text.len() > INLINE {
            return atoms::dirty().encode(env);
        }
        report(env, lane, text.len());
        match json::read(env, &text, deepest) {
            Ok(term) => (atoms::ok(), term).encode(env),
            Err((words, byte)) => (atoms::invalid(), binary(env, words.as_bytes()), byte).encode(env),
        }
    }
}

lanes! {
    /// `{:ok, binary}`, `:too_large`, or `{:invalid, words, path}` with the steps of the path from inside.
    fn json_write, json_write_dirty<'a>(env, lane; term: Term<'a>, most: usize, deepest: u32) -> Term<'a> {
        let room = if lane == Lane::Inline { most.min(INLINE) } else { most };
        match json::write(term, room, deepest) {
            Ok(text) => {
                report(env, lane, text.len());
                (atoms::ok(), binary(env, &text)).encode(env)
            }
            Err(json::Unwritten::TooLarge) if room < most => atoms::dirty().encode(env),
            Err(json::Unwritten::TooLarge) => atoms::too_large().encode(env),
            Err(json::Unwritten::Fault(path, words)) => {
                let path: Vec<_> = path.iter().map(|step| binary(env, step.as_bytes())).collect();
                (atoms::invalid(), binary(env, words.as_bytes()), path).encode(env)
            }
        }
    }
}

/// What so many bytes take of the process's time.
fn report(env: Env<'_>, lane: Lane, bytes: usize) {
    if lane == Lane::Inline {
        rustler::schedule::consume_timeslice(env, (bytes * 100 / INLINE).clamp(1, 100) as i32);
    }
}
