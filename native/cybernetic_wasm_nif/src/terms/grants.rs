//! What a guest is given of the system, as `Sandbox` flattens it.

use crate::atoms;
use cybernetic_wasm_core::network::Policy;
use cybernetic_wasm_core::system::{Clocks, Directory, FileTimes, Grants, Random};
use rustler::{Atom, Error, NifMap, NifResult, Term};

#[derive(NifMap)]
#[rustler(decode)]
pub(crate) struct GrantsMap<'a> {
    args: Vec<String>,
    env: Vec<(String, String)>,
    /// `{host, guest, writable}`.
    dirs: Vec<(String, String, bool)>,
    scratch: Option<String>,
    null: Option<String>,
    /// Whether the times of files are the real ones.
    times: bool,
    quota: u64,
    max_open: u64,
    /// Lists of rules, all of which a peer has to pass, and whether any name may be looked up.
    network: Option<(Vec<Vec<String>>, bool)>,
    clocks: Term<'a>,
    random: Term<'a>,
    /// Whether there is standard input, output, error.
    stdio: (bool, bool, bool),
    terminals: (bool, bool, bool),
    /// Imports by index that the host answers.
    answered: Vec<u32>,
}

impl TryFrom<GrantsMap<'_>> for Grants {
    type Error = Error;

    fn try_from(map: GrantsMap<'_>) -> NifResult<Self> {
        let dirs = map.dirs.into_iter();
        let network = map.network.map(|(lists, dns)| Policy::parse(&lists, dns)).transpose();
        Ok(Grants {
            args: map.args,
            env: map.env,
            dirs: dirs.map(|(host, guest, writable)| Directory { host: host.into(), guest, writable }).collect(),
            scratch: map.scratch,
            null: map.null,
            times: if map.times { FileTimes::Real } else { FileTimes::Fixed },
            quota: map.quota,
            max_open: map.max_open,
            network: network.map_err(|_| Error::BadArg)?,
            clocks: clocks(map.clocks)?,
            random: random(map.random)?,
            stdio: [map.stdio.0, map.stdio.1, map.stdio.2],
            terminals: [map.terminals.0, map.terminals.1, map.terminals.2],
            answered: map.answered,
        })
    }
}

fn clocks(term: Term<'_>) -> NifResult<Clocks> {
    if let Ok(name) = term.decode::<Atom>() {
        return match name {
            name if name == atoms::real() => Ok(Clocks::Real),
            name if name == atoms::none() => Ok(Clocks::None),
            _ => Err(Error::BadArg),
        };
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
        return match name {
            name if name == atoms::system() => Ok(Random::System),
            name if name == atoms::none() => Ok(Random::None),
            _ => Err(Error::BadArg),
        };
    }
    let (name, seed): (Atom, u64) = term.decode()?;
    if name == atoms::seeded() { Ok(Random::Seeded(seed)) } else { Err(Error::BadArg) }
}
