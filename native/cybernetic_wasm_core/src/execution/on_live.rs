//! What runs on a live instance: calls of its functions, and accesses that may take time.

use super::{Execution, Paced, Product, Work};
use crate::access::Access;
use crate::code::Function;
use crate::error::{CallError, Error};
use crate::instance::{Instance, Lease, look};
use crate::invocation::Invocation;
use crate::limits::Limits;
use crate::member::MemberId;
use crate::store;
use crate::value::Value;
use std::sync::Arc;

impl Execution {
    /// A call on a live instance, which is busy until it ends.
    pub fn call_instance(
        instance: &Arc<Instance>,
        function: &Arc<Function>,
        args: Vec<Value>,
        limits: Limits,
    ) -> Result<Self, Error> {
        Self::call_member(instance, (MemberId::FIRST, function), args, limits)
    }

    /// A call of a function that one of a live guest's members exports: `function` is of what [`Instance::member`] gives.
    pub fn call_member(
        instance: &Arc<Instance>,
        (member, function): (MemberId, &Arc<Function>),
        args: Vec<Value>,
        limits: Limits,
    ) -> Result<Self, Error> {
        let mut execution = Self::on(instance, limits);
        let function = Arc::clone(function);
        execution.paced = Some(Paced::Warm(Arc::clone(&function)));
        execution.leased(instance, async move |mut lease: Lease, invocation| {
            let (_, guest) = begin(&mut lease, &invocation).await?;
            let result = guest.call(member, &function, args).await;
            store::end(&guest.store, &invocation);
            lease.settle(&invocation, &result);
            result.map(Product::Values)
        })?;
        Ok(execution)
    }

    /// An access to an idle guest that may take time: growing a memory, making a reference.
    pub fn access(instance: &Arc<Instance>, member: MemberId, access: Access, limits: Limits) -> Result<Self, Error> {
        let mut execution = Self::on(instance, limits);
        let code = instance.member(member)?;
        execution.leased(instance, async move |mut lease: Lease, invocation| {
            let (_, guest) = begin(&mut lease, &invocation).await?;
            let answer = look(guest, member, (&code, access)).await;
            store::end(&guest.store, &invocation);
            lease.give_back(true);
            answer.map(Product::Answer)
        })?;
        Ok(execution)
    }

    /// An execution on a live guest, with no work yet.
    pub(super) fn on(instance: &Arc<Instance>, limits: Limits) -> Self {
        let code = instance.module().code();
        let engine = code.engine();
        let invocation = Invocation::new(limits, code.ceilings());
        let mut execution = Self::new(code.ceilings(), engine.config().metering, &invocation);
        execution.ticker = engine.ticker().cloned();
        execution.module = Some(Arc::clone(instance.module()));
        execution.instance = Some(Arc::clone(instance));
        execution
    }

    /// Gives the execution work on a live guest that it has leased, for whose turn it waits if its limits say so.
    fn leased<W: Future<Output = Result<Product, Error>> + Send + 'static>(
        &mut self,
        instance: &Arc<Instance>,
        work: impl FnOnce(Lease, Arc<Invocation>) -> W + Send + 'static,
    ) -> Result<(), Error> {
        let invocation = Arc::clone(&self.invocation);
        let waiting: Work = match now_or_later(instance.lease(), &invocation)? {
            Some(lease) => Box::pin(work(lease, invocation)),
            None => {
                self.wait_for_instance();
                let instance = Arc::clone(instance);
                Box::pin(async move {
                    let lease = invocation.queue(instance.queue()).await?;
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
) -> Result<(&'l Instance, &'l mut crate::guest::Guest), Error> {
    invocation.turn.take().await;
    invocation.set_lease(lease.number());
    let (instance, guest) = lease.use_guest()?;
    store::begin(&mut guest.store, invocation)?;
    Ok((instance, guest))
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
pub(super) async fn wait_for(
    lease: Option<Lease>,
    instance: &Arc<Instance>,
    invocation: &Invocation,
) -> Result<Lease, CallError> {
    match lease {
        Some(lease) => Ok(lease),
        None => invocation.queue(instance.queue()).await,
    }
}
