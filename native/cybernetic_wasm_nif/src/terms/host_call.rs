//! The name of an open host call. To Elixir it is one term, which it gives back as it got it.

use cybernetic_wasm_core::mail::HostCall;
use cybernetic_wasm_core::member::MemberId;
use rustler::NifTuple;

/// `{member, import, serial}`.
#[derive(NifTuple, Clone, Copy)]
pub(crate) struct HostCallTuple {
    member: u32,
    import: u32,
    serial: u64,
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
