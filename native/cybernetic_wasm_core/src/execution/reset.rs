//! Making a live guest anew.

use super::on_live::now_or_later;
use super::place::{make, not_made, place};
use super::{Execution, Product};
use crate::error::Error;
use crate::invocation::{Invocation, later};
use crate::limits::{Ceilings, Limits};
use crate::live::{Lease, LiveGuest};
use crate::store;
use crate::system::System;
use std::sync::Arc;
use std::time::Duration;

/// How long a reset waits for the guest that was cut off before it. Beyond that the node is full.
const UNWINDING: Duration = Duration::from_secs(2);

impl Execution {
    /// Makes a live guest anew, in its module's initial state, and with it the members that had joined. The guest that
    /// was there gives its place up first.
    pub fn reset(live: &Arc<LiveGuest>, limits: Limits) -> Result<Self, Error> {
        let mut execution = Self::on(live, limits);
        let invocation = Arc::clone(&execution.invocation);
        let lease = now_or_later(live.lease_to_reset(), &invocation)?;
        match lease {
            Some(_) => execution.be_patient_for_reaper(live.module().code().ceilings()),
            None => execution.be_patient_for_guest(),
        }
        let live = Arc::clone(live);
        execution.work = Some(Box::pin(async move {
            let mut lease = match lease {
                Some(lease) => lease,
                None => invocation.queue(live.queue_to_reset()).await?,
            };
            invocation.check_budget()?;
            renew(&live, &mut lease, &invocation).await?;
            let rejoined = rejoin(&live, &mut lease, &invocation).await;
            store::end(&lease.look()?.store, &invocation);
            rejoined?;
            lease.give_back(true);
            Ok(Product::Reset)
        }));
        Ok(execution)
    }

    /// What this queues for is the place of a guest that is being unwound, which takes milliseconds.
    fn be_patient_for_reaper(&mut self, ceilings: &Ceilings) {
        let until = later(self.invocation.started, UNWINDING.max(self.invocation.limits.wait));
        self.patience = Some(Box::new((until, ceilings.full().into())));
    }
}

/// Puts a fresh guest in the place of the one that is there.
async fn renew(live: &LiveGuest, lease: &mut Lease, invocation: &Arc<Invocation>) -> Result<(), Error> {
    invocation.set_lease(lease.number());
    // One that was cut off gives its place up when the reaper has unwound it.
    let cut_off = lease.is_empty();
    lease.clear();
    let module = live.module();
    let (ceilings, weight) = (module.code().ceilings(), module.code().weight());
    let free = match cut_off {
        true => invocation.queue(ceilings.place(weight)).await?,
        false => place(ceilings, weight, invocation).await?,
    };
    invocation.turn.take().await;
    let guest = make((module, live.given()), invocation, free).await;
    lease.renew(guest.map_err(|error| not_made(error, invocation, module.code()))?);
    Ok(())
}

/// Gives the fresh guest what its members had brought, and the members.
async fn rejoin(live: &LiveGuest, lease: &mut Lease, invocation: &Arc<Invocation>) -> Result<(), Error> {
    let ceilings = live.module().code().ceilings();
    if let (None, Some(grants)) = (&live.given().grants, live.grants()) {
        let system = System::new(&grants, invocation, ceilings).await?;
        lease.look()?.store.data_mut().system = Some(system);
    }
    for joining in live.joinings() {
        let free = place(ceilings, joining.code.weight(), invocation).await?;
        live.join(lease.use_guest()?.1, joining, free).await?;
    }
    Ok(())
}
