//! The name of an open host call. To Elixir it is one term, which it gives back as it got it.

use cybernetic_wasm_core::mail::HostCall;
use cybernetic_wasm_core::member::MemberId;
use rustler::{Decoder, Encoder, Env, NifResult, Term};

/// `{member, import, serial}`.
#[derive(Clone, Copy)]
pub(crate) struct HostCallTuple {
    member: u32,
    import: u32,
    serial: u64,
}

// By hand, since what is derived allocates, and there are two of these in every host call.

impl Encoder for HostCallTuple {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        (self.member, self.import, self.serial).encode(env)
    }
}

impl<'a> Decoder<'a> for HostCallTuple {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let (member, import, serial) = term.decode()?;
        Ok(Self { member, import, serial })
    }
}

impl From<HostCall> for HostCallTuple {
    fn from(HostCall { member, import, serial }: HostCall) -> Self {
        Self { member: member.0, import, serial }
    }
}

impl From<HostCallTuple> for HostCall {
    fn from(HostCallTuple { member, import, serial }: HostCallTuple) -> Self {
        Self { member: MemberId(member), import, serial }
    }
}
