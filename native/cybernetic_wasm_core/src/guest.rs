//! Guests: a store and what lives in it. Here one is made, started and called; a live one is kept by `live.rs`.

mod access;
mod bulk;
mod callee;
mod component;
mod exception;
mod exchange;
mod failure;
mod known_type;
mod managed;
mod resources;

pub(crate) use access::{carry_out, memory, range};
pub(crate) use bulk::or_bounds;
pub(crate) use callee::{Callee, count_arguments, invoke, invoke_ref};
pub(crate) use component::{Component, call_again};
pub(crate) use exception::uncaught;
pub(crate) use exchange::Exchanged;
pub(crate) use failure::{classify, classify_component};
pub(crate) use resources::{Loans, Returns, put, take};

use crate::code::{Code, Function};
use crate::error::{CallError, Error, Trap};
use crate::invocation::Invocation;
use crate::kernel::{Kernel, Settings};
use crate::limits::Place;
use crate::member::MemberId;
use crate::store::{self, GuestStore};
use crate::system::{Grants, System};
use crate::value::{FuncRef, Value};
use crate::wit::Owner;
use std::sync::Arc;

/// A store with its first instance.
pub(crate) struct Guest {
    pub(crate) store: GuestStore,
    first: First,
    /// The function of a module's instance that was called last.
    last: Option<(Arc<Function>, Callee)>,
    /// What its last exchange needed.
    ready: Option<Box<exchange::Ready>>,
}

/// The instance that a guest begins with.
pub(crate) enum First {
    Module(wasmtime::Instance),
    /// It is alone in its store: a failure of one closes all that are there.
    Component(Box<Component>),
}

/// What a guest is an instance of: its imports are bound, or will be in the store.
pub(crate) trait Instantiate {
    /// Makes the first instance of a store, and runs its start function.
    fn instantiate(&self, store: &mut GuestStore) -> impl Future<Output = wasmtime::Result<First>> + Send;
}

/// What a guest is made of.
pub(crate) struct Ingredients<'a, L> {
    pub(crate) code: &'a Arc<Code>,
    pub(crate) linked: L,
    /// Its share of the system.
    pub(crate) grants: Option<&'a Grants>,
    /// Who is told of the embedder's resources that it has no more.
    pub(crate) owner: Option<Arc<dyn Owner>>,
    pub(crate) place: Place,
    /// What it is given as a plugin.
    pub(crate) kernel: Option<&'a Arc<Settings>>,
}

impl Guest {
    /// Makes a guest and runs what it starts with, for `invocation`.
    pub(crate) async fn new(
        of: Ingredients<'_, impl Instantiate + Sync>,
        invocation: &Arc<Invocation>,
    ) -> wasmtime::Result<Self> {
        let Ingredients { code, linked, grants, owner, place, kernel } = of;
        let mut store = store::new(code, invocation, place)?;
        store.data_mut().resources.set_owner(owner);
        store::begin(&mut store, invocation)?;
        if let Some(grants) = grants {
            let mut system = System::new(grants, invocation, code.ceilings()).await?;
            if code.is_component() {
                system.descriptors.begin_empty();
            }
            store.data_mut().system = Some(system);
        }
        if let Some(settings) = kernel {
            store.data_mut().give_kernel(Kernel::new(settings));
        }
        store.data_mut().add_instance(code).await.map_err(Error::from)?;
        match start(&linked, &mut store, code).await {
            Ok(first) => Ok(Self { first, store, last: None, ready: None }),
            Err(error) => {
                let error = or_bounds(error, &mut store);
                store::end(&store, invocation);
                Err(error)
            }
        }
    }

    /// What its first instance runs.
    pub(crate) fn code(&self) -> &Arc<Code> {
        &self.store.data().code
    }

    /// `function` of `asked` in the code that this guest really runs, which may be a variant.
    pub(crate) fn function(&self, asked: &Arc<Code>, function: &Arc<Function>) -> Result<Arc<Function>, CallError> {
        match Arc::ptr_eq(asked, self.code()) {
            true => Ok(Arc::clone(function)),
            false => self.code().function(&function.name),
        }
    }

    /// The instance that `member` is.
    pub(crate) fn instance_of(&self, member: MemberId) -> Result<wasmtime::Instance, CallError> {
        if member == MemberId::FIRST {
            return self.first_instance();
        }
        self.store.data().started_instance(member).ok_or(CallError::NoSuchMember(member.0))
    }

    fn first_instance(&self) -> Result<wasmtime::Instance, CallError> {
        match &self.first {
            First::Module(instance) => Ok(*instance),
            // It is one of a component, which says what it has not.
            First::Component(_) => self.code().module().and(Err(CallError::NoSuchMember(MemberId::FIRST.0))),
        }
    }

    /// Calls a function of one of its members.
    pub(crate) async fn call(
        &mut self,
        member: MemberId,
        function: &Arc<Function>,
        mut args: Vec<Value>,
    ) -> Result<Vec<Value>, Error> {
        if let First::Component(component) = &mut self.first {
            return Box::pin(component.call(&mut self.store, function, args)).await;
        }
        let instance = self.instance_of(member)?;
        if let Some(counter) = &function.argument_counter {
            let counter = instance.get_module_export(&mut self.store, counter);
            Box::pin(count_arguments(&mut self.store, counter, function, &mut args)).await?;
        }
        self.store.data_mut().called = function.exported_again.then_some(instance);
        if member == MemberId::FIRST {
            self.keep(function)?;
            self.store.data_mut().entered |= function.is_entry();
            let Some((_, callee)) = &self.last else { return Err(Error::Internal("a function is not kept".into())) };
            let result = invoke(&mut self.store, callee, function, args).await;
            return result.map_err(|error| self.explain(error));
        }
        let callee = self.find(instance, function)?;
        invoke(&mut self.store, &callee, function, args).await
    }

    /// Calls what a function reference refers to, in the name of one of its members.
    pub(crate) async fn call_ref(
        &mut self,
        member: MemberId,
        reference: &FuncRef,
        args: Vec<Value>,
    ) -> Result<Vec<Value>, Error> {
        let instance = self.instance_of(member)?;
        // It may be one that a module imports: nobody calls it then but the embedder.
        self.store.data_mut().called = Some(instance);
        invoke_ref(&mut self.store, reference, args).await
    }

    /// A program's functions may need what its entry sets up.
    fn explain(&self, error: Error) -> Error {
        match error {
            Error::Trap(trap) if self.code().is_command() && !self.store.data().entered => {
                Trap { unstarted: true, ..trap }.into()
            }
            error => error,
        }
    }

    /// Finding a function takes time, so that of the first instance's last is kept.
    fn keep(&mut self, function: &Arc<Function>) -> Result<(), Error> {
        if !self.last.as_ref().is_some_and(|(last, _)| last.is(function)) {
            let instance = self.first_instance()?;
            self.last = Some((Arc::clone(function), self.find(instance, function)?));
        }
        Ok(())
    }

    fn find(&mut self, instance: wasmtime::Instance, function: &Function) -> Result<Callee, Error> {
        let export = function.core().and_then(|(export, _)| instance.get_module_export(&mut self.store, export));
        let func = export.and_then(wasmtime::Extern::into_func);
        let func = func.ok_or_else(|| Error::Internal("a function export is gone".into()))?;
        Ok(Callee::new(&mut self.store, func, function))
    }
}

async fn start(linked: &(impl Instantiate + Sync), store: &mut GuestStore, code: &Code) -> wasmtime::Result<First> {
    let first = linked.instantiate(&mut *store).await.map_err(|error| uncaught(&mut *store, error))?;
    if let First::Module(instance) = first {
        store.data_mut().instantiated(MemberId::FIRST, instance);
        initialize(store, instance, code).await?;
        store.data_mut().started(MemberId::FIRST);
    }
    Ok(first)
}

/// Calls what a reactor wants called first.
pub(crate) async fn initialize(
    store: &mut GuestStore,
    instance: wasmtime::Instance,
    code: &Code,
) -> wasmtime::Result<()> {
    let Some(initializer) = code.initializer() else { return Ok(()) };
    let function = instance.get_module_export(&mut *store, initializer).and_then(wasmtime::Extern::into_func);
    let function = function.ok_or_else(|| Error::Internal("a function export is gone".into()))?;
    let initialized = Box::pin(function.typed::<(), ()>(&store)?.call_async(&mut *store, ())).await;
    initialized.map_err(|error| uncaught(&mut *store, error))
}
