//! The network policy, for host functions that reach out in a guest's name.

use crate::atoms;
use crate::terms::binary;
use cybernetic_wasm_core::network::{Policy, Protocol, Verdict};
use rustler::{Atom, Encoder, Env, Error, NifResult, Term};
use std::net::{IpAddr, SocketAddr};

/// Whether these rules can be taken: `:ok`, or `{:invalid, rule, reason}` of the first that cannot.
#[rustler::nif]
fn network_rules<'a>(env: Env<'a>, rules: Vec<String>) -> Term<'a> {
    match Policy::parse(&[rules], false) {
        Ok(_) => atoms::ok().encode(env),
        Err(error) => {
            let words = [&error.rule, &error.reason].map(|text| binary(env, text.as_bytes()));
            (atoms::invalid(), words[0], words[1]).encode(env)
        }
    }
}

/// Whether a peer may be reached: by name, by address, or at the address that a name resolved to. Without port and address,
/// whether a name may be looked up. `:ok` or `{:refused, reason}`.
#[rustler::nif]
fn network_check<'a>(
    env: Env<'a>,
    rule_lists: Vec<Vec<String>>,
    dns: bool,
    protocol: Atom,
    name: Option<String>,
    ip: Option<String>,
    port: Option<u16>,
) -> NifResult<Term<'a>> {
    let protocol = match protocol {
        given if given == atoms::tcp() => Protocol::Tcp,
        given if given == atoms::udp() => Protocol::Udp,
        _ => return Err(Error::BadArg),
    };
    let policy = Policy::parse(&rule_lists, dns).map_err(|_| Error::BadArg)?;
    let ip = ip.map(|ip| ip.parse::<IpAddr>()).transpose().map_err(|_| Error::BadArg)?;
    let verdict = match (name, ip, port) {
        (Some(name), None, None) => return Ok(looked_up(env, policy.allows_lookup(&name))),
        (Some(name), None, Some(port)) => policy.allows_name(&name, port, protocol),
        (Some(name), Some(ip), Some(port)) => policy.allows_resolved(&name, SocketAddr::new(ip, port), protocol),
        (None, Some(ip), Some(port)) => policy.allows_address(SocketAddr::new(ip, port), protocol),
        _ => return Err(Error::BadArg),
    };
    Ok(match verdict {
        Verdict::Allowed(_) => atoms::ok().encode(env),
        Verdict::LookUp => refused(env, "no rule names it; it may be looked up, and its address decides"),
        Verdict::Refused(refusal) => refused(env, &refusal.to_string()),
    })
}

fn looked_up<'a>(env: Env<'a>, allowed: bool) -> Term<'a> {
    match allowed {
        true => atoms::ok().encode(env),
        false => refused(env, "no rule names it, and lookups of other names are not granted"),
    }
}

fn refused<'a>(env: Env<'a>, reason: &str) -> Term<'a> {
    (atoms::refused(), binary(env, reason.as_bytes())).encode(env)
}
