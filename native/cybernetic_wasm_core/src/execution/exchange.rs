//! Exchanges: calls that pass bytes, in a fresh instance or on a live one.

use super::on_live::begin;
use super::place::{Wanted, allocate_for};
use super::{Execution, Paced, Product, Setup};
use crate::abi::Exchange;
use crate::error::Error;
use crate::guest::Exchanged;
use crate::instance::Instance;
use crate::invocation::Invocation;
use crate::limits::Limits;
use crate::linker::Given;
use crate::live::Lease;
use crate::mail::Answer;
use crate::member::MemberId;
use crate::module::{Form, Module};
use crate::store;
use crate::value::Value;
use std::sync::Arc;

impl Execution {
    /// An exchange with a fresh instance of `module`.
    pub fn exchange(module: &Arc<Module>, exchange: Exchange, setup: Setup) -> Self {
        let Setup { runtime, limits, engine, grants } = setup;
        let invocation = Invocation::new(limits, runtime.ceilings());
        let config = allocate_for(engine, &invocation.limits);
        let mut execution = Self::fresh(&runtime, config.metering, &invocation);
        execution.module = Some(Arc::clone(module));
        execution.paced = Some(Paced::Fresh(Arc::clone(&exchange.function)));
        let given = Given { grants, sources: None };
        let wanted = Wanted { module: Arc::clone(module), form: Form::Loaded, config, given };
        execution.work = Some(Box::pin(async move {
            // What the module lacks is said before there is a guest.
            exchange.check(wanted.module.code())?;
            let (mut guest, _module) = wanted.make(&runtime, &invocation).await?;
            let function = guest.function(wanted.module.code(), &exchange.function)?;
            let code = Arc::clone(guest.code());
            let result = guest.exchange((MemberId::FIRST, &code), exchange.with_fresh(function)).await;
            store::end(&guest.store, &invocation);
            product(result?)
        }));
        execution
    }

    /// An exchange with a live instance, whose guest is busy until it ends.
    pub fn exchange_on(instance: Instance<'_>, exchange: Exchange, limits: Limits) -> Result<Self, Error> {
        let mut execution = Self::on(instance.guest, limits);
        let (member, code) = (instance.member, instance.code()?);
        execution.paced = Some(Paced::Warm(Arc::clone(&exchange.function)));
        execution.leased(instance.guest, async move |mut lease: Lease, invocation| {
            let (_, guest) = begin(&mut lease, &invocation).await?;
            let result = guest.exchange((member, &code), exchange).await;
            store::end(&guest.store, &invocation);
            lease.settle(&invocation, &result);
            product(result?)
        })?;
        Ok(execution)
    }
}

/// What came of it, as an execution gives it.
fn product(exchanged: Exchanged) -> Result<Product, Error> {
    match exchanged {
        Exchanged::Values(values) => Ok(Product::Values(values)),
        Exchanged::Bytes(bytes) => Ok(Product::Answer(Answer::Bytes(bytes))),
        Exchanged::Null => Ok(Product::Values(vec![Value::Null])),
        Exchanged::TooLong(limit) => Err(limit.into()),
    }
}
