//! Taking a snapshot of a live guest, and the module that a fork of it is made of.

use super::on_live::{lease_or_queue, now_or_later};
use super::{Execution, Product};
use crate::engine::EngineConfig;
use crate::error::Error;
use crate::limits::Limits;
use crate::live::{LiveGuest, Making, Snapshot};
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
        let snapshot = execution.capture(runtime, live, hook)?;
        execution.work = Some(Box::pin(async move { snapshot.await.map(Product::Snapshot) }));
        Ok(execution)
    }

    /// The same module, compiled for `config` and fit for further snapshots. The guest keeps it: see [`LiveGuest::fork`].
    pub fn fork(
        runtime: &Arc<Runtime>,
        live: &Arc<LiveGuest>,
        (hook, config): (Option<String>, EngineConfig),
        limits: Limits,
    ) -> Result<Self, Error> {
        let mut execution = Self::on(live, limits);
        let snapshot = execution.capture(runtime, live, hook)?;
        let (runtime, live, invocation) = (Arc::clone(runtime), Arc::clone(live), Arc::clone(&execution.invocation));
        execution.work = Some(Box::pin(async move {
            let snapshot = snapshot.await?;
            let uses = snapshot.uses;
            let module = runtime.load_snapshot(snapshot, config, &invocation).await?;
            live.keep_fork(uses, &module);
            Ok(Product::Module(module))
        }));
        Ok(execution)
    }

    fn capture(
        &mut self,
        runtime: &Arc<Runtime>,
        live: &Arc<LiveGuest>,
        hook: Option<String>,
    ) -> Result<impl Future<Output = Result<Snapshot, Error>> + Send + use<>, Error> {
        let source = Arc::clone(live.check_snapshot()?);
        let lease = now_or_later(live.lease(), &self.invocation)?;
        self.be_patient_for_guest();
        let (runtime, live, invocation) = (Arc::clone(runtime), Arc::clone(live), Arc::clone(&self.invocation));
        Ok(async move {
            let lease = lease_or_queue(lease, &live, &invocation).await?;
            // Gone with this future: then nobody waits any more.
            let wanted = Arc::new(());
            let making =
                Making { source, hook, ceilings: Arc::clone(runtime.ceilings()), wanted: Arc::downgrade(&wanted) };
            runtime.compiler().compute(move || making.take(lease)).await?
        })
    }
}
