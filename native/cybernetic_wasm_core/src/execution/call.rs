//! A call in a fresh instance.

use super::place::{Wanted, allocate_for};
use super::{Execution, Paced, Product, Setup};
use crate::code::Function;
use crate::invocation::Invocation;
use crate::linker::Given;
use crate::member::MemberId;
use crate::module::{Form, Module};
use crate::store;
use crate::value::Value;
use std::sync::Arc;

impl Execution {
    /// A call in a fresh instance of `module`.
    pub fn call(module: &Arc<Module>, function: &Arc<Function>, args: Vec<Value>, setup: Setup) -> Self {
        let Setup { runtime, limits, engine, grants } = setup;
        let invocation = Invocation::new(limits, runtime.ceilings());
        let config = allocate_for(engine, &invocation.limits);
        let mut execution = Self::fresh(&runtime, config.metering, &invocation);
        execution.module = Some(Arc::clone(module));
        execution.paced = Some(Paced::Fresh(Arc::clone(function)));
        let function = Arc::clone(function);
        let wanted =
            Wanted { module: Arc::clone(module), form: Form::Loaded, config, given: Given { grants, sources: None } };
        execution.work = Some(Box::pin(async move {
            // The module keeps its engine among the node's for as long as its guest runs.
            let (mut guest, _module) = wanted.make(&runtime, &invocation).await?;
            let function = guest.function(wanted.module.code(), &function)?;
            let result = guest.call(MemberId::FIRST, &function, args).await;
            store::end(&guest.store, &invocation);
            result.map(Product::Values)
        }));
        execution
    }
}
