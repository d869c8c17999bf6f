//! Loading a module: an execution like any other to whoever steps it, though no guest runs.

use super::{Execution, Product};
use crate::compiler::{Asker, Budget};
use crate::engine::EngineConfig;
use crate::invocation::Invocation;
use crate::limits::Limits;
use crate::runtime::Runtime;
use std::sync::Arc;
use std::time::Duration;

/// A load has no guest that could use anything. It takes as long as compiling takes: the time is only there so that
/// everything has a bound.
const LOADING: Limits = Limits {
    fuel: 0,
    max_memory: 0,
    max_table_elements: 0,
    max_instances: 0,
    time: Duration::from_secs(600),
    max_output: 0,
    max_host_calls: 0,
    max_transfer: 0,
    max_resources: 0,
    wait: Duration::ZERO,
};

impl Execution {
    /// A load: see [`Runtime::load`].
    pub fn load(runtime: &Arc<Runtime>, source: &[u8], config: EngineConfig) -> Self {
        Self::load_within(runtime, source, config, (None, Asker::next()))
    }

    /// The same for somebody, whose turn comes among others', within less than the runtime allows for compiling.
    pub fn load_within(
        runtime: &Arc<Runtime>,
        source: &[u8],
        config: EngineConfig,
        (budget, asker): (Option<Budget>, Asker),
    ) -> Self {
        let invocation = Invocation::new(LOADING, runtime.ceilings());
        let mut execution = Self::new(runtime.ceilings(), config.metering, &invocation);
        let loading = runtime.begin_load(source, config, budget, asker);
        let runtime = Arc::clone(runtime);
        execution.work = Some(Box::pin(async move {
            let module = loading.end(&runtime, config, Some(&invocation));
            invocation.compile(module).await.map(Product::Module)
        }));
        execution
    }
}
