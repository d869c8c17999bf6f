//! Taking a snapshot of a live instance.

use super::on_live::{now_or_later, wait_for};
use super::{Execution, Product};
use crate::error::Error;
use crate::instance::{Instance, take_snapshot};
use crate::limits::Limits;
use crate::runtime::Runtime;
use std::sync::Arc;

impl Execution {
    /// A module whose initial state is what this instance's is now, made on a thread of `runtime`'s.
    pub fn snapshot(runtime: &Arc<Runtime>, instance: &Arc<Instance>, limits: Limits) -> Result<Self, Error> {
        let mut execution = Self::on(instance, limits);
        let source = Arc::clone(instance.check_snapshot()?);
        let lease = now_or_later(instance.lease(), &execution.invocation)?;
        execution.wait_for_instance();
        let (runtime, instance) = (Arc::clone(runtime), Arc::clone(instance));
        let invocation = Arc::clone(&execution.invocation);
        execution.work = Some(Box::pin(async move {
            let lease = wait_for(lease, &instance, &invocation).await?;
            let uses = instance.uses();
            let snapshot = runtime.compiler().compute(move || take_snapshot(&source, lease)).await?;
            snapshot.map(|wasm| Product::Snapshot(wasm, uses))
        }));
        Ok(execution)
    }
}
