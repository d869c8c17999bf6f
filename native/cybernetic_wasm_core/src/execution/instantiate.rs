//! Making a live guest.

use super::place::{Wanted, allocate_for};
use super::{Execution, Paced, Product, Setup};
use crate::invocation::{Account, Invocation};
use crate::limits::Limits;
use crate::linker::{Given, Source};
use crate::live::LiveGuest;
use crate::module::{Form, Module};
use crate::store;
use std::sync::Arc;

impl Execution {
    /// A guest that lives on, with an instance of `module`; its start function runs under the limits of `setup`. One that is
    /// `snapshottable` runs a module that exports all of its state.
    pub fn instantiate(module: &Arc<Module>, snapshottable: bool, setup: Setup) -> Self {
        Self::instantiate_within(module, (snapshottable, None), setup, None)
    }

    /// The same of a module whose imports, in order, are bound to these sources.
    pub fn instantiate_with(module: &Arc<Module>, sources: Vec<Source>, setup: Setup) -> Self {
        Self::instantiate_within(module, (false, Some(sources)), setup, None)
    }

    /// The same of a guest that may use no more than `budget` in its whole life, which begins here: that much fuel, time, output,
    /// and so many host calls.
    pub fn instantiate_within(
        module: &Arc<Module>,
        (snapshottable, sources): (bool, Option<Vec<Source>>),
        setup: Setup,
        budget: Option<Limits>,
    ) -> Self {
        let form = if snapshottable { Form::Instrumented } else { Form::Loaded };
        let sources = sources.map(Arc::from);
        let Setup { runtime, limits, engine, grants, owner } = setup;
        let account = Arc::new(Account::new(budget));
        let invocation = Invocation::on_account(limits, runtime.ceilings(), Some(Arc::clone(&account)));
        let config = allocate_for(engine, &invocation.limits);
        let mut execution = Self::fresh(&runtime, config.metering, &invocation);
        execution.module = Some(Arc::clone(module));
        execution.paced = Some(Paced::Making(Arc::clone(module.code())));
        let given = Given { grants, sources, owner, kernel: None };
        let wanted = Wanted { module: Arc::clone(module), form, config, given };
        execution.work = Some(Box::pin(async move {
            let (guest, module) = wanted.make(&runtime, &invocation).await?;
            store::end(&guest.store, &invocation);
            let source = (form == Form::Instrumented).then(|| Arc::clone(wanted.module.source()));
            Ok(Product::Guest(LiveGuest::new(guest, module, source, wanted.given, account)))
        }));
        execution
    }
}
