//! Calls, in a fresh instance and on a live one: those that pass values, and exchanges, which pass bytes.

use super::on_live::begin;
use super::place::{Wanted, allocate_for};
use super::{Execution, Paced, Product, Setup};
use crate::abi::Exchange;
use crate::code::{Code, Function};
use crate::error::{CallError, Error};
use crate::guest::{Exchanged, Guest};
use crate::instance::Instance;
use crate::invocation::Invocation;
use crate::kernel::Settings;
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
    /// A call in a fresh instance of `module`.
    pub fn call(module: &Arc<Module>, function: &Arc<Function>, args: Vec<Value>, setup: Setup) -> Self {
        Self::of_fresh(module, Plain { function: Arc::clone(function), args }, setup)
    }

    /// An exchange with a fresh instance of `module`.
    pub fn exchange(module: &Arc<Module>, exchange: Exchange, setup: Setup) -> Self {
        Self::of_fresh(module, Passing { exchange, code: None }, setup)
    }

    /// A call on a live instance, whose guest is busy until it ends: `function` is of what [`Instance::code`] gives.
    pub fn call_on(
        instance: Instance<'_>,
        function: &Arc<Function>,
        args: Vec<Value>,
        limits: Limits,
    ) -> Result<Self, Error> {
        Self::of_live(instance, Plain { function: Arc::clone(function), args }, limits)
    }

    /// An exchange with a live instance, whose guest is busy until it ends.
    pub fn exchange_on(instance: Instance<'_>, exchange: Exchange, limits: Limits) -> Result<Self, Error> {
        let code = Some(instance.code()?);
        Self::of_live(instance, Passing { exchange, code }, limits)
    }

    pub(super) fn of_fresh<C: Called>(module: &Arc<Module>, called: C, setup: Setup) -> Self {
        let Setup { runtime, limits, engine, grants, owner } = setup;
        let invocation = Invocation::new(limits, runtime.ceilings());
        let config = allocate_for(engine, &invocation.limits);
        let mut execution = Self::fresh(&runtime, config.metering, &invocation);
        execution.module = Some(Arc::clone(module));
        execution.paced = Some(Paced::Fresh(Arc::clone(called.function())));
        let given = Given { grants, sources: None, owner, kernel: called.kernel() };
        let wanted = Wanted { module: Arc::clone(module), form: Form::Loaded, config, given };
        execution.work = Some(Box::pin(async move {
            // What the module lacks is said before there is a guest.
            called.check(wanted.module.code())?;
            // The module keeps its engine among the node's for as long as its guest runs.
            let (mut guest, _module) = wanted.make(&runtime, &invocation).await?;
            let function = guest.function(wanted.module.code(), called.function())?;
            let result = called.with_fresh(function).carry_out(&mut guest, MemberId::FIRST).await;
            store::end(&guest.store, &invocation);
            C::product(result?)
        }));
        execution
    }

    pub(super) fn of_live<C: Called>(instance: Instance<'_>, called: C, limits: Limits) -> Result<Self, Error> {
        let mut execution = Self::on(instance.guest, limits);
        let member = instance.member;
        execution.paced = Some(Paced::Warm(Arc::clone(called.function())));
        execution.leased(instance.guest, async move |mut lease: Lease, invocation| {
            let (_, guest) = begin(&mut lease, &invocation).await?;
            let is_entry = called.function().is_entry();
            let result = called.carry_out(guest, member).await;
            store::end(&guest.store, &invocation);
            match &result {
                // A program that exits well has come to its end: nothing of it was cut off.
                Err(Error::Exit(0)) if is_entry => lease.settle(&invocation, &Ok(())),
                result => lease.settle(&invocation, result),
            }
            C::product(result?)
        })?;
        Ok(execution)
    }
}

/// What a guest is called for.
pub(super) trait Called: Send + 'static {
    /// What it gives.
    type Gives: Send;

    fn function(&self) -> &Arc<Function>;

    /// What its guest is given as a plugin.
    fn kernel(&self) -> Option<Arc<Settings>> {
        None
    }

    /// Refuses code that has not what it needs.
    fn check(&self, _: &Code) -> Result<(), CallError> {
        Ok(())
    }

    /// The same with a guest that is there for this call alone; its code may be a variant of what the function is of.
    fn with_fresh(self, function: Arc<Function>) -> Self;

    /// Calls one of the guest's members.
    fn carry_out(self, guest: &mut Guest, member: MemberId) -> impl Future<Output = Result<Self::Gives, Error>> + Send;

    /// What came of it, as an execution gives it.
    fn product(gives: Self::Gives) -> Result<Product, Error>;
}

/// A call that passes values.
struct Plain {
    function: Arc<Function>,
    args: Vec<Value>,
}

impl Called for Plain {
    type Gives = Vec<Value>;

    fn function(&self) -> &Arc<Function> {
        &self.function
    }

    fn with_fresh(self, function: Arc<Function>) -> Self {
        Self { function, ..self }
    }

    async fn carry_out(self, guest: &mut Guest, member: MemberId) -> Result<Vec<Value>, Error> {
        guest.call(member, &self.function, self.args).await
    }

    fn product(values: Vec<Value>) -> Result<Product, Error> {
        Ok(Product::Values(values))
    }
}

/// A call that passes bytes, to an instance of `code`; `None` is the guest's own.
struct Passing {
    exchange: Exchange,
    code: Option<Arc<Code>>,
}

impl Called for Passing {
    type Gives = Exchanged;

    fn function(&self) -> &Arc<Function> {
        &self.exchange.function
    }

    fn kernel(&self) -> Option<Arc<Settings>> {
        self.exchange.abi.kernel.clone()
    }

    fn check(&self, code: &Code) -> Result<(), CallError> {
        self.exchange.check(code)
    }

    fn with_fresh(self, function: Arc<Function>) -> Self {
        Self { exchange: self.exchange.with_fresh(function), ..self }
    }

    async fn carry_out(self, guest: &mut Guest, member: MemberId) -> Result<Exchanged, Error> {
        let code = self.code.unwrap_or_else(|| Arc::clone(guest.code()));
        guest.exchange((member, &code), self.exchange).await
    }

    fn product(exchanged: Exchanged) -> Result<Product, Error> {
        match exchanged {
            Exchanged::Values(values) => Ok(Product::Values(values)),
            Exchanged::Bytes(bytes) => Ok(Product::Answer(Answer::Bytes(bytes))),
            Exchanged::Null => Ok(Product::Values(vec![Value::Null])),
            Exchanged::TooLong(limit) => Err(limit.into()),
        }
    }
}
