//! Making a live guest.

use super::place::{Wanted, allocate_for};
use super::{Execution, Paced, Product, Setup};
use crate::invocation::Invocation;
use crate::linker::{Given, Source};
use crate::live::LiveGuest;
use crate::module::{Form, Module};
use crate::store;
use std::sync::Arc;

impl Execution {
    /// A guest that lives on, with an instance of `module`; its start function runs under the limits of `setup`. One that is
    /// `snapshottable` runs a module that exports all of its state.
    pub fn instantiate(module: &Arc<Module>, snapshottable: bool, setup: Setup) -> Self {
        let form = if snapshottable { Form::Instrumented } else { Form::Loaded };
        Self::make_live((module, form), None, setup)
    }

    /// The same of a module whose imports, in order, are bound to these sources.
    pub fn instantiate_with(module: &Arc<Module>, sources: Vec<Source>, setup: Setup) -> Self {
        Self::make_live((module, Form::Loaded), Some(sources.into()), setup)
    }

    fn make_live((module, form): (&Arc<Module>, Form), sources: Option<Arc<[Source]>>, setup: Setup) -> Self {
        let Setup { runtime, limits, engine, grants } = setup;
        let invocation = Invocation::new(limits, runtime.ceilings());
        let config = allocate_for(engine, &invocation.limits);
        let mut execution = Self::fresh(&runtime, config.metering, &invocation);
        execution.module = Some(Arc::clone(module));
        execution.paced = Some(Paced::Making(Arc::clone(module.code())));
        let wanted = Wanted { module: Arc::clone(module), form, config, given: Given { grants, sources } };
        execution.work = Some(Box::pin(async move {
            let (guest, module) = wanted.make(&runtime, &invocation).await?;
            store::end(&guest.store, &invocation);
            let source = (form == Form::Instrumented).then(|| Arc::clone(wanted.module.code().wasm()));
            Ok(Product::Guest(LiveGuest::new(guest, module, source, wanted.given)))
        }));
        execution
    }
}
