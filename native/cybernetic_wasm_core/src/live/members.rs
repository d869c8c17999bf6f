//! The instances that join a guest's store after its first, and what answers their host calls.

use super::LiveGuest;
use crate::code::Code;
use crate::engine::{EngineConfig, Metering, PoolFull};
use crate::error::{CallError, Error, LimitError};
use crate::guest::{Guest, classify, initialize, or_bounds, uncaught};
use crate::limits::Place;
use crate::linker::{self, Joining};
use crate::member::MemberId;
use crate::store;
use crate::value::{HostRef, WeakHostRef};
use std::sync::Arc;
use wasmtime::PoolConcurrencyLimitError;

/// One that joined a guest, or that a place is kept for. One that failed to start keeps its place for ever: functions of its
/// own that it wrote into a table may still call the host in its name.
#[derive(Default)]
struct Joined {
    /// What has joined, once it has started.
    joining: Option<Joining>,
    host: Option<WeakHostRef>,
    /// It has been tried to start it: what it wrote into the guest may be there even if that failed.
    tried: bool,
}

/// The instances that joined a guest after its first.
#[derive(Default)]
pub(super) struct Members {
    joined: Vec<Joined>,
    /// In the order in which they joined: one may import from another whose place was kept later.
    order: Vec<MemberId>,
    /// What answers the first's host calls.
    host: Option<WeakHostRef>,
}

impl Members {
    /// `None` for the first, and for what is not there.
    fn get(&self, member: MemberId) -> Option<&Joined> {
        self.joined.get((member.0 as usize).checked_sub(1)?)
    }

    fn get_mut(&mut self, member: MemberId) -> Option<&mut Joined> {
        self.joined.get_mut((member.0 as usize).checked_sub(1)?)
    }

    /// Whether there are any, or have been some that failed to start.
    pub(super) fn any(&self) -> bool {
        self.joined.iter().any(|joined| joined.tried)
    }

    /// Those that have joined, in that order.
    fn joinings(&self) -> Vec<Joining> {
        self.order.iter().filter_map(|member| self.get(*member)?.joining.clone()).collect()
    }
}

impl LiveGuest {
    /// The code that `member` is an instance of.
    pub(crate) fn code_of(&self, member: MemberId) -> Result<Arc<Code>, CallError> {
        if member == MemberId::FIRST {
            return Ok(Arc::clone(self.module.code()));
        }
        let members = self.members.read();
        let joining = members.get(member).and_then(|joined| joined.joining.as_ref());
        joining.map(|joining| Arc::clone(&joining.code)).ok_or(CallError::NoSuchMember(member.0))
    }

    /// Keeps a place for a member that will join.
    pub fn reserve(&self) -> MemberId {
        let mut members = self.members.write();
        members.joined.push(Joined::default());
        MemberId(members.joined.len() as u32)
    }

    /// Tells what of the embedder's answers a member's host calls: see [`crate::instance::Instance::set_host`].
    pub(crate) fn set_host(&self, member: MemberId, host: &HostRef) -> Result<(), CallError> {
        let mut members = self.members.write();
        let host = Some(Arc::downgrade(host));
        if member == MemberId::FIRST {
            members.host = host;
            return Ok(());
        }
        members.get_mut(member).ok_or(CallError::NoSuchMember(member.0))?.host = host;
        Ok(())
    }

    /// What answers a member's host calls, if it is still there.
    pub fn host(&self, member: MemberId) -> Option<HostRef> {
        let members = self.members.read();
        let host = if member == MemberId::FIRST { &members.host } else { &members.get(member)?.host };
        host.as_ref()?.upgrade()
    }

    /// The engine that a module must be compiled for to join, which was asked for with another. Where guests live and how
    /// deep they may recurse is the guest's affair; what its code may do and how it is metered was fixed when each module
    /// was loaded.
    pub(crate) fn engine_for(&self, theirs: EngineConfig) -> Result<EngineConfig, CallError> {
        let ours = *self.module.code().engine().config();
        let adapted = EngineConfig { max_stack: ours.max_stack, allocation: ours.allocation, ..theirs };
        match adapted == ours {
            true => Ok(ours),
            false => Err(other_engine(&ours, &theirs)),
        }
    }

    /// Instantiates a module in the store of `guest`, which is this one's. The member maps as much memory as a guest of
    /// its own, and takes a `place` like one.
    pub(crate) async fn join(&self, guest: &mut Guest, joining: Joining, place: Place) -> Result<MemberId, Error> {
        let (ours, theirs) = (guest.code().engine(), joining.code.engine());
        if !Arc::ptr_eq(ours, theirs) {
            // They were asked for alike, so what is different is where their guests live.
            return Err(CallError::NotForPool.into());
        }
        let module = joining.code.module()?;
        let imports = linker::resolve(&mut guest.store, &joining).await?;
        guest.store.data_mut().add_member(&joining.code, place).await?;
        store::make_room(&mut guest.store, &joining.code)?;
        if let Some(joined) = self.members.write().get_mut(joining.member) {
            joined.tried = true;
        }
        guest.store.data_mut().called = None;
        let result = wasmtime::Instance::new_async(&mut guest.store, &module.wasmtime, &imports).await;
        match result {
            Ok(instance) => {
                guest.store.data_mut().instantiated(joining.member, instance);
                if let Err(error) = initialize(&mut guest.store, instance, &joining.code).await {
                    return Err(failed(error, guest, &joining.code));
                }
                guest.store.data_mut().started(joining.member);
                self.joined(joining)
            }
            Err(error) if error.is::<PoolConcurrencyLimitError>() => Err(LimitError::from(PoolFull).into()),
            Err(error) => {
                let error = uncaught(&mut guest.store, error);
                Err(failed(error, guest, &joining.code))
            }
        }
    }

    fn joined(&self, joining: Joining) -> Result<MemberId, Error> {
        let member = joining.member;
        let mut members = self.members.write();
        let joined = members.get_mut(member).ok_or(CallError::NoSuchMember(member.0))?;
        // It joins again after a reset.
        if joined.joining.replace(joining).is_none() {
            members.order.push(member);
        }
        Ok(member)
    }

    /// Those that have joined, to join again after the guest was made anew.
    pub(crate) fn joinings(&self) -> Vec<Joining> {
        self.members.read().joinings()
    }
}

/// Why a member of this code did not start.
fn failed(error: wasmtime::Error, guest: &mut Guest, code: &Code) -> Error {
    let error = or_bounds(error, &mut guest.store);
    classify(error, &guest.store.data().invocation, code)
}

/// What was asked for with a load, in the words of its options.
fn in_words(config: &EngineConfig) -> String {
    let EngineConfig { metering, deterministic, features, .. } = config;
    let metering = if *metering == Metering::Fuel { ":fuel" } else { ":epoch" };
    let off: Vec<_> = features.off().map(|name| format!("{name}: false")).collect();
    format!("metering: {metering}, deterministic: {deterministic}, features: [{}]", off.join(", "))
}

fn other_engine(ours: &EngineConfig, theirs: &EngineConfig) -> CallError {
    CallError::OtherEngine { ours: in_words(ours), theirs: in_words(theirs) }
}
