//! What a call used, put out and was refused, as `Execution.Tally` takes it.

use super::{binary, map};
use crate::atoms;
use crate::terms::atom;
use cybernetic_wasm_core::execution::Tally;
use cybernetic_wasm_core::{Denial, Stream};
use rustler::{Atom, Encoder, Env, NifRecord, Term};
use std::time::Duration;

/// Times are in microseconds.
#[derive(NifRecord)]
#[tag = "tally"]
#[rustler(encode)]
struct TallyRecord<'a> {
    fuel: Option<u64>,
    peak_memory: u64,
    wall_time: f64,
    slice_time: f64,
    slices: u64,
    host_calls: u64,
    output: Term<'a>,
    stdout: Term<'a>,
    stderr: Term<'a>,
    denials: Term<'a>,
}

pub(crate) fn encode<'a>(env: Env<'a>, Tally { usage, output, denials }: &Tally) -> Term<'a> {
    let micros = |time: Duration| time.as_nanos() as f64 / 1e3;
    // Most calls put nothing out: that is one binary for all.
    let nothing = binary(env, b"");
    let bytes = |stream| match output.of(stream) {
        [] => nothing,
        bytes => binary(env, bytes),
    };
    let record = TallyRecord {
        fuel: usage.fuel,
        peak_memory: usage.peak_memory,
        wall_time: micros(usage.wall),
        slice_time: micros(usage.slice),
        slices: usage.slices,
        host_calls: usage.host_calls,
        output: bytes(Stream::Emitted),
        stdout: bytes(Stream::Stdout),
        stderr: bytes(Stream::Stderr),
        denials: denials.iter().map(|denial| encode_denial(env, denial)).collect::<Vec<_>>().encode(env),
    };
    record.encode(env)
}

fn encode_denial<'a>(env: Env<'a>, denial: &Denial) -> Term<'a> {
    map(
        env,
        &[
            ("capability", atom(env, denial.capability)),
            ("operation", binary(env, denial.operation.as_bytes())),
            ("detail", denial.detail.encode(env)),
            ("errno", errno(env, denial.errno)),
            ("count", denial.count.encode(env)),
        ],
    )
}

/// An atom as one writes it in Elixir: the names in WIT have dashes.
fn errno<'a>(env: Env<'a>, name: &str) -> Term<'a> {
    let name = name.replace('-', "_");
    Atom::from_str(env, &name).map_or_else(|_| atoms::nil().encode(env), |atom| atom.to_term(env))
}
