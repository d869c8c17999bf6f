//! Linking one more module into a live guest.

use super::on_live::{begin, lease_or_queue, now_or_later};
use super::place::place;
use super::{Execution, Product, Setup};
use crate::error::Error;
use crate::guest::Guest;
use crate::limits::Place;
use crate::linker::{Joining, Source};
use crate::live::LiveGuest;
use crate::member::MemberId;
use crate::module::{Form, Module};
use crate::store;
use crate::system::{Grants, System};
use std::sync::Arc;

impl Execution {
    /// One more instance in a live guest, at the place that [`LiveGuest::reserve`] gave. Each of the module's imports is
    /// bound to its source. Its start function runs under the limits of `setup`.
    pub fn link(
        live: &Arc<LiveGuest>,
        member: MemberId,
        (module, sources): (&Arc<Module>, Vec<Source>),
        setup: Setup,
    ) -> Result<Self, Error> {
        let Setup { runtime, limits, engine, grants, owner: _ } = setup;
        let mut execution = Self::on(live, limits);
        let config = live.engine_for(engine)?;
        execution.be_patient_for_guest();
        let invocation = Arc::clone(&execution.invocation);
        let (module, live) = (Arc::clone(module), Arc::clone(live));
        execution.work = Some(Box::pin(async move {
            let free = place(runtime.ceilings(), module.code().weight(), &invocation).await?;
            let module = runtime.variant(&module, (Form::Loaded, config), &invocation).await?;
            let (code, linkers) = (Arc::clone(module.code()), Arc::clone(module.linkers()));
            let joining = Joining { code, linkers, member, sources: sources.into() };
            let lease = now_or_later(live.lease(), &invocation)?;
            let mut lease = lease_or_queue(lease, &live, &invocation).await?;
            let (live, guest) = begin(&mut lease, &invocation).await?;
            let result = join(live, guest, grants, (joining, free)).await;
            store::end(&guest.store, &invocation);
            lease.settle(&invocation, &result);
            result.map(Product::Member)
        }));
        Ok(execution)
    }
}

async fn join(
    live: &LiveGuest,
    guest: &mut Guest,
    grants: Option<Arc<Grants>>,
    (joining, place): (Joining, Place),
) -> Result<MemberId, Error> {
    if let Some(grants) = grants.map(|grants| live.grant(grants)).transpose()?.flatten() {
        let invocation = Arc::clone(&guest.store.data().invocation);
        let system = System::new(&grants, &invocation, guest.code().ceilings()).await?;
        guest.store.data_mut().system = Some(system);
    }
    live.join(guest, joining, place).await
}
