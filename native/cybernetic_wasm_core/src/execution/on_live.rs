//! What runs on a live guest beside calls of its functions, which are in `call.rs`, and how it is leased for all of them.

use super::{Execution, Product, Work};
use crate::access::Access;
use crate::error::{CallError, Error};
use crate::guest::Guest;
use crate::instance::{Instance, look};
use crate::invocation::Invocation;
use crate::limits::Limits;
use crate::live::{Lease, LiveGuest};
use crate::store;
use crate::value::{FuncRef, Value};
use std::sync::Arc;

impl Execution {
    /// A call of what a function reference refers to, in the name of an instance that lives in its store.
    pub fn call_ref_on(
        instance: Instance<'_>,
        reference: FuncRef,
        args: Vec<Value>,
        limits: Limits,
    ) -> Result<Self, Error> {
        let mut execution = Self::on(instance.guest, limits);
        let member = instance.member;
        execution.leased(instance.guest, async move |mut lease: Lease, invocation| {
            let (_, guest) = begin(&mut lease, &invocation).await?;
            let result = guest.call_ref(member, &reference, args).await;
            store::end(&guest.store, &invocation);
            lease.settle(&invocation, &result);
            result.map(Product::Values)
        })?;
        Ok(execution)
    }

    /// An access to an idle guest that may take time: growing a memory, making a reference.
    pub fn access(instance: Instance<'_>, access: Access, limits: Limits) -> Result<Self, Error> {
        let mut execution = Self::on(instance.guest, limits);
        let (member, code) = (instance.member, instance.code()?);
        execution.leased(instance.guest, async move |mut lease: Lease, invocation| {
            let (_, guest) = begin(&mut lease, &invocation).await?;
            let answer = look(guest, member, (&code, access)).await;
            store::end(&guest.store, &invocation);
            lease.give_back(true);
            answer.map(Product::Answer)
        })?;
        Ok(execution)
    }

    /// An execution on a live guest, with no work yet.
    pub(super) fn on(live: &Arc<LiveGuest>, limits: Limits) -> Self {
        let code = live.module().code();
        let engine = code.engine();
        let invocation = Invocation::on_account(limits, code.ceilings(), Some(Arc::clone(live.account())));
        let mut execution = Self::new(code.ceilings(), engine.config().metering, &invocation);
        execution.ticker = engine.ticker().cloned();
        execution.live = Some(Arc::clone(live));
        execution
    }

    /// Gives the execution work on a live guest that it has leased, for whose turn it waits if its limits say so.
    pub(super) fn leased<W: Future<Output = Result<Product, Error>> + Send + 'static>(
        &mut self,
        live: &Arc<LiveGuest>,
        work: impl FnOnce(Lease, Arc<Invocation>) -> W + Send + 'static,
    ) -> Result<(), Error> {
        let invocation = Arc::clone(&self.invocation);
        let waiting: Work = match now_or_later(live.lease(), &invocation)? {
            Some(lease) => Box::pin(work(lease, invocation)),
            None => {
                self.be_patient_for_guest();
                let live = Arc::clone(live);
                Box::pin(async move {
                    let lease = invocation.queue(live.queue()).await?;
                    work(lease, invocation).await
                })
            }
        };
        self.work = Some(waiting);
        Ok(())
    }
}

/// Begins an invocation on a leased guest.
pub(super) async fn begin<'l>(
    lease: &'l mut Lease,
    invocation: &Arc<Invocation>,
) -> Result<(&'l LiveGuest, &'l mut Guest), Error> {
    invocation.check_budget()?;
    invocation.turn.take().await;
    invocation.set_lease(lease.number());
    let (live, guest) = lease.use_guest()?;
    store::begin(&mut guest.store, invocation)?;
    Ok((live, guest))
}

/// A lease that is to be had now; `None` where it has to be waited for and the limits allow that.
pub(super) fn now_or_later(
    lease: Result<Lease, CallError>,
    invocation: &Invocation,
) -> Result<Option<Lease>, CallError> {
    match lease {
        Err(CallError::Busy) if !invocation.limits.wait.is_zero() => Ok(None),
        lease => lease.map(Some),
    }
}

/// A lease that was not to be had at once is waited for.
pub(super) async fn lease_or_queue(
    lease: Option<Lease>,
    live: &Arc<LiveGuest>,
    invocation: &Invocation,
) -> Result<Lease, CallError> {
    match lease {
        Some(lease) => Ok(lease),
        None => invocation.queue(live.queue()).await,
    }
}
