//! Taking a snapshot of a live guest.

use super::on_live::{lease_or_queue, now_or_later};
use super::{Execution, Product};
use crate::error::Error;
use crate::limits::Limits;
use crate::live::{LiveGuest, take_snapshot};
use crate::runtime::Runtime;
use std::sync::Arc;

impl Execution {
    /// A module whose initial state is what this instance's is now, made on a thread of `runtime`'s. Its instances begin with
    /// what it exports as `hook`, if anything.
    pub fn snapshot(
        runtime: &Arc<Runtime>,
        live: &Arc<LiveGuest>,
        hook: Option<String>,
        limits: Limits,
    ) -> Result<Self, Error> {
        let mut execution = Self::on(live, limits);
        let source = Arc::clone(live.check_snapshot()?);
        let lease = now_or_later(live.lease(), &execution.invocation)?;
        execution.be_patient_for_guest();
        let (runtime, live) = (Arc::clone(runtime), Arc::clone(live));
        let invocation = Arc::clone(&execution.invocation);
        execution.work = Some(Box::pin(async move {
            let lease = lease_or_queue(lease, &live, &invocation).await?;
            let uses = live.uses();
            let snapshot = runtime.compiler().compute(move || take_snapshot(&source, lease, hook.as_deref())).await?;
            snapshot.map(|wasm| Product::Snapshot(wasm, uses))
        }));
        Ok(execution)
    }
}
