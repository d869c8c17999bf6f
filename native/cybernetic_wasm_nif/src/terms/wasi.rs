//! What a guest is given of the system, as `Sandbox` flattens it, and what it was refused.

use super::{atom, binary, map};
use crate::atoms;
use cybernetic_wasm_core::system::{Clocks, Directory, Grants, Random};
use cybernetic_wasm_core::{Denial, Stdin};
use rustler::{Atom, Binary, Encoder, Env, Error, NifMap, NifResult, Term};

#[derive(NifMap)]
struct GrantsMap<'a> {
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// `{host, guest, writable}`.
    dirs: Vec<(String, String, bool)>,
    scratch: Option<String>,
    quota: u64,
    max_open: u64,
    clocks: Term<'a>,
    random: Term<'a>,
    /// Whether there is standard input, output, error.
    stdio: (bool, bool, bool),
    terminals: (bool, bool, bool),
    /// Imports by index that the host answers.
    answered: Vec<u32>,
}

pub(crate) fn decode(term: Term<'_>) -> NifResult<Grants> {
    let map: GrantsMap<'_> = term.decode()?;
    let dirs = map.dirs.into_iter();
    Ok(Grants {
        args: map.args,
        env: map.env,
        dirs: dirs.map(|(host, guest, writable)| Directory { host: host.into(), guest, writable }).collect(),
        scratch: map.scratch,
        quota: map.quota,
        max_open: map.max_open,
        clocks: clocks(map.clocks)?,
        random: random(map.random)?,
        stdio: [map.stdio.0, map.stdio.1, map.stdio.2],
        terminals: [map.terminals.0, map.terminals.1, map.terminals.2],
        answered: map.answered,
    })
}

fn clocks(term: Term<'_>) -> NifResult<Clocks> {
    if let Ok(name) = term.decode::<Atom>() {
        return if name == atoms::real() { Ok(Clocks::Real) } else { Ok(Clocks::None) };
    }
    if let Ok((name, time)) = term.decode::<(Atom, u64)>()
        && name == atoms::fixed()
    {
        return Ok(Clocks::Fixed(time));
    }
    let (name, start, step): (Atom, u64, u64) = term.decode()?;
    if name == atoms::stepped() { Ok(Clocks::Stepped(start, step)) } else { Err(Error::BadArg) }
}

fn random(term: Term<'_>) -> NifResult<Random> {
    if let Ok(name) = term.decode::<Atom>() {
        return if name == atoms::system() { Ok(Random::System) } else { Ok(Random::None) };
    }
    let (name, seed): (Atom, u64) = term.decode()?;
    if name == atoms::seeded() { Ok(Random::Seeded(seed)) } else { Err(Error::BadArg) }
}

/// A binary, `:pull` for input that is asked for, or `nil`.
pub(crate) fn decode_stdin(term: Term<'_>) -> NifResult<Option<Stdin>> {
    if let Ok(bytes) = term.decode::<Binary<'_>>() {
        return Ok(Some(Stdin::Bytes(bytes.to_vec())));
    }
    let name: Atom = term.decode()?;
    Ok((name == atoms::pull()).then_some(Stdin::Asked))
}

/// Denials as maps.
pub(crate) fn encode_denials<'a>(env: Env<'a>, denials: &[Denial]) -> Term<'a> {
    let denial = |denial: &Denial| {
        map(
            env,
            &[
                ("capability", atom(env, denial.capability)),
                ("operation", binary(env, denial.operation.as_bytes())),
                ("detail", denial.detail.encode(env)),
                ("errno", atom(env, denial.errno)),
                ("count", denial.count.encode(env)),
            ],
        )
    };
    denials.iter().map(denial).collect::<Vec<_>>().encode(env)
}
