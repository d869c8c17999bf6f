//! Instances, as the embedder names them: one member of a live guest. A call of one of its functions is an execution; what
//! takes no time of the guest's own is done here, while the guest is idle.

use crate::access::{Access, Word, memory_name};
use crate::code::{Code, Function};
use crate::error::{CallError, Error};
use crate::guest::{Guest, carry_out, memory, range};
use crate::limits::Limits;
use crate::live::LiveGuest;
use crate::mail::Answer;
use crate::member::MemberId;
use crate::value::HostRef;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use wasmtime::{Extern, Memory};

/// One member of a live guest.
#[derive(Debug, Clone, Copy)]
pub struct Instance<'g> {
    /// The guest whose store it is in.
    pub guest: &'g Arc<LiveGuest>,
    /// Which of the guest's members it is.
    pub member: MemberId,
}

impl<'g> Instance<'g> {
    /// The instance that a guest began with.
    pub fn first(guest: &'g Arc<LiveGuest>) -> Self {
        Self { guest, member: MemberId::FIRST }
    }

    /// What it is an instance of.
    pub fn code(&self) -> Result<Arc<Code>, CallError> {
        self.guest.code_of(self.member)
    }

    /// Whether a call of `function` may start on a normal scheduler.
    pub fn may_run_inline(&self, function: &Function, limits: &Limits) -> bool {
        function.warm.is_short() && self.guest.is_small() && function.fits_inline(limits)
    }

    /// Tells what of the embedder's answers its host calls. The embedder owns it: were it the guest's, one that holds on to the
    /// guest would keep it alive for ever.
    pub fn set_host(&self, host: &HostRef) -> Result<(), CallError> {
        self.guest.set_host(self.member, host)
    }

    /// Copies out of a memory: `with` gets the bytes in place.
    pub fn read<T>(
        &self,
        memory: Option<&str>,
        (offset, length): (impl Into<Word>, impl Into<Word>),
        with: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, Error> {
        self.with_memory(memory, |memory, guest| {
            let range = range(memory, (offset.into(), length.into()), &guest.store)?;
            Ok(with(&memory.data(&guest.store)[range]))
        })
    }

    /// Copies into a memory.
    pub fn write(&self, memory: Option<&str>, offset: impl Into<Word>, bytes: &[u8]) -> Result<(), Error> {
        self.guest.used();
        self.with_memory(memory, |memory, guest| {
            let range = range(memory, (offset.into(), Word::from(bytes.len() as u64)), &guest.store)?;
            memory.data_mut(&mut guest.store)[range].copy_from_slice(bytes);
            Ok(())
        })
    }

    fn with_memory<T>(
        &self,
        name: Option<&str>,
        work: impl FnOnce(Memory, &mut Guest) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let code = self.code()?;
        let name = memory_name(name, &code);
        self.guest.idle(|guest| {
            let found = export(guest, self.member, name)?.filter(|_| !code.hides(name));
            work(memory(found, name)?, guest)
        })
    }

    /// An access that needs no time of the guest's own. One that might is given back: see [`crate::execution::Execution::access`].
    pub fn access(&self, access: Access) -> Result<Result<Answer, Error>, Access> {
        match access {
            Access::Grow { .. } => return Err(access),
            // Making a reference may have to collect garbage.
            Access::SetGlobal { ref value, .. } if value.is_reference() => return Err(access),
            Access::SetGlobal { .. } | Access::Write { .. } => self.guest.used(),
            _ => {}
        }
        let answer = self.code().map_err(Error::from).and_then(|code| {
            self.guest.idle(|guest| {
                let work = pin!(look(guest, self.member, (&code, access)));
                match work.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(answer) => answer,
                    Poll::Pending => Err(Error::Internal("a look at an idle guest has to wait".into())),
                }
            })
        });
        Ok(answer)
    }
}

/// What `member` of a guest exports as `name`.
fn export(guest: &mut Guest, member: MemberId, name: &str) -> Result<Option<Extern>, CallError> {
    let instance = guest.instance_of(member)?;
    Ok(instance.get_export(&mut guest.store, name))
}

/// Carries out an access to `member` of a guest, which is an instance of `code`.
pub(crate) async fn look(
    guest: &mut Guest,
    member: MemberId,
    (code, access): (&Code, Access),
) -> Result<Answer, Error> {
    let found = export(guest, member, access.export(code))?;
    carry_out(access, code, found, &mut guest.store).await
}
