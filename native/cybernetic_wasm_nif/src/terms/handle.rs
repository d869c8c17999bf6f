//! Handles as arguments. Elixir may take one to where it is good for nothing: to another node, into a file, beyond the life of
//! the library. Whatever function it is given to then, the caller is told where it is from.

use crate::terms::{atom, binary, map};
use rustler::{Decoder, Encoder, Env, Error, NifResult, Resource, Term};
use std::ops::Deref;

/// A resource that users hold, and what they are told where it is not of this VM.
pub(crate) trait Held: Resource {
    /// What it is, and where it is good.
    const ELSEWHERE: &'static str;
    /// What to do on this node.
    const ADVICE: &'static str;
}

/// A handle of this VM.
pub(crate) struct Handle<'a, T> {
    resource: &'a T,
}

impl<T> Deref for Handle<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.resource
    }
}

impl<'a, T: Held + 'a> Decoder<'a> for Handle<'a, T> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        match term.decode() {
            Ok(resource) => Ok(Self { resource }),
            Err(_) => Err(away::<T>(term)),
        }
    }
}

/// The error for a handle that is none of this VM.
pub(crate) fn away<T: Held>(term: Term<'_>) -> Error {
    let (what, advice) = (T::ELSEWHERE, T::ADVICE);
    let own = node(term.get_env().pid().encode(term.get_env()));
    // Only a reference is small enough to be looked into.
    let message = match Some(term).filter(|term| term.is_ref()).and_then(node) {
        Some(node) if Some(&node) != own.as_ref() => format!("{what} (this one is of the node {node}): {advice}"),
        _ => format!("{what}, and this one is of another run of it, or was stored: {advice}"),
    };
    Error::RaiseTerm(Box::new(Misplaced(message)))
}

/// An Elixir `ArgumentError`.
struct Misplaced(String);

impl Encoder for Misplaced {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        map(
            env,
            &[
                ("__struct__", atom(env, "Elixir.ArgumentError")),
                ("__exception__", true.encode(env)),
                ("message", binary(env, self.0.as_bytes())),
            ],
        )
    }
}

/// The name of a pid's or reference's node, which only the external term format tells: see
/// [its specification](https://www.erlang.org/doc/apps/erts/erl_ext_dist.html).
fn node(term: Term<'_>) -> Option<String> {
    const NEW_PID: u8 = 88;
    const NEWER_REFERENCE: u8 = 90;
    const SMALL_ATOM_UTF8: u8 = 119;
    const ATOM_UTF8: u8 = 118;
    const ATOM_LATIN1: u8 = 100;
    let bytes = term.to_binary();
    let name = match bytes.as_slice() {
        [_version, NEW_PID, rest @ ..] | [_version, NEWER_REFERENCE, _, _, rest @ ..] => rest,
        _ => return None,
    };
    match name {
        [SMALL_ATOM_UTF8, length, rest @ ..] => {
            Some(String::from_utf8_lossy(rest.get(..usize::from(*length))?).into_owned())
        }
        [ATOM_LATIN1 | ATOM_UTF8, high, low, rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            Some(String::from_utf8_lossy(rest.get(..length)?).into_owned())
        }
        _ => None,
    }
}
