//! Making a live guest.

use super::place::{Wanted, allocate_for};
use super::{Execution, Paced, Product, Setup};
use crate::invocation::Invocation;
use crate::live::LiveGuest;
use crate::module::{Form, Module};
use crate::store;
use std::sync::Arc;

impl Execution {
    /// A guest that lives on, with an instance of `module`; its start function runs under the limits of `setup`. One that is
    /// `snapshottable` runs a module that exports all of its state.
    pub fn instantiate(module: &Arc<Module>, snapshottable: bool, setup: Setup) -> Self {
        let Setup { runtime, limits, engine, grants } = setup;
        let invocation = Invocation::new(limits, runtime.ceilings());
        let config = allocate_for(engine, &invocation.limits);
        let mut execution = Self::fresh(&runtime, config.metering, &invocation);
        execution.module = Some(Arc::clone(module));
        execution.paced = Some(Paced::Making(Arc::clone(module.code())));
        let form = if snapshottable { Form::Instrumented } else { Form::Loaded };
        let wanted = Wanted { module: Arc::clone(module), form, config, grants };
        execution.work = Some(Box::pin(async move {
            let (guest, module) = wanted.make(&runtime, &invocation).await?;
            store::end(&guest.store, &invocation);
            let source = snapshottable.then(|| Arc::clone(wanted.module.code().wasm()));
            Ok(Product::Guest(LiveGuest::new(guest, module, source, wanted.grants)))
        }));
        execution
    }
}
