//! Host functions, from the guest's side: a call suspends the guest, tells the driver, and then serves the driver's
//! commands with the `Caller` that it holds, one a poll, until the driver returns values or raises. What of that is different for
//! a component is in `host/component.rs`.

mod component;

pub(crate) use component::ask as ask_of_component;

use crate::access::Access;
use crate::code::{Code, Function, Import};
use crate::engine::Stack;
use crate::error::{Error, LimitError, Trap, shown};
use crate::guest::{Callee, carry_out, count_arguments, invoke, invoke_ref};
use crate::invocation::Invocation;
use crate::mail::{Answer, Command};
use crate::member::MemberId;
use crate::store::StoreData;
use crate::value::{FuncRef, Value};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::{Caller, Extern, Func, FuncType, ModuleExport, Val, ValType};

/// The way from an imported function to the driver.
pub(crate) struct Trampoline {
    /// The importing code, where it joined a live guest. A guest's first is its store's: a compiled module that owned itself
    /// would never be freed.
    code: Option<Arc<Code>>,
    /// Which of the guest's members that is.
    member: MemberId,
    /// The function's index in [`Code::imports`].
    import: u32,
    /// The types of its results.
    results: Box<[ValType]>,
}

impl Trampoline {
    pub(crate) fn new((code, member): (Option<Arc<Code>>, MemberId), import: u32, ty: &FuncType) -> Arc<Self> {
        Arc::new(Self { code, member, import, results: ty.results().collect() })
    }

    /// The importing code.
    fn importer(&self, caller: &Caller<'_, StoreData>) -> Arc<Code> {
        Arc::clone(self.code.as_ref().unwrap_or(&caller.data().code))
    }
}

type Answering<'a> = Box<dyn Future<Output = wasmtime::Result<()>> + Send + 'a>;

/// What Wasmtime calls for an imported function that the driver answers.
pub(crate) fn ask<'a>(
    trampoline: &Arc<Trampoline>,
    caller: Caller<'a, StoreData>,
    params: &'a [Val],
    results: &'a mut [Val],
) -> Answering<'a> {
    let trampoline = Arc::clone(trampoline);
    Box::new(async move { call(caller, &trampoline, params, results).await })
}

/// Runs one host call, which came through `trampoline`.
async fn call(
    mut caller: Caller<'_, StoreData>,
    trampoline: &Trampoline,
    params: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let invocation = Arc::clone(&caller.data().invocation);
    let args = params.iter().map(|value| Value::take(value, &mut caller)).collect::<wasmtime::Result<_>>()?;
    invocation.count_host_call().map_err(Error::from)?;
    let function = (trampoline.member, trampoline.import);
    invocation.mail.open(trampoline.code.clone(), function, args).map_err(Error::from)?;
    invocation.turn.give_back();
    let values = serve(&mut Inside { caller: &mut caller, trampoline }, &invocation).await?;
    // Elixir's replies have been checked before, with friendlier words; this guards the guest.
    if values.len() != results.len() {
        invocation.taint();
        let importer = trampoline.importer(&caller);
        importer.imports()[trampoline.import as usize].check_results(values.len()).map_err(Error::from)?;
    }
    invocation.turn.take().await;
    for (index, (value, ty)) in values.into_iter().zip(&trampoline.results).enumerate() {
        let value = value.put(ty, index, &mut caller).await;
        // The caller's mistake, but one that cuts the guest off in the middle.
        results[index] = value.inspect_err(|_| invocation.taint())?;
    }
    Ok(())
}

/// A guest that is suspended in a host call, as the commands find it.
pub(crate) trait Suspended: Send {
    /// What calling an import does that nothing was given for.
    fn unknown(&self) -> Error;

    /// Calls the guest again.
    fn reenter(
        &mut self,
        call: Reentry<'_>,
        args: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<Value>, Error>> + Send;

    /// Looks at it, or changes something in it.
    fn access(&mut self, access: Access) -> impl Future<Output = Result<Answer, Error>> + Send;

    /// Fuel that is left.
    fn fuel(&self) -> Option<u64>;
}

/// Serves commands until one ends the call: with values, or with a raise. A guest that has exited in a re-entrant call does not
/// go on, whatever the host function makes of that. Most host functions only return: what they rarely ask for is boxed, since
/// every host call allocates room for what is not.
pub(crate) async fn serve(guest: &mut impl Suspended, invocation: &Invocation) -> Result<Vec<Value>, Error> {
    let mut exited = None;
    loop {
        let answer = match invocation.mail.next_command().await {
            Command::Return(values) => return exited.map_or(Ok(values), Err),
            Command::Raise => return Err(exited.unwrap_or(Error::Host)),
            Command::Unknown => return Err(exited.unwrap_or_else(|| guest.unknown())),
            Command::Call { function, args } => {
                Box::pin(reenter(guest, invocation, (Reentry::Export(&function), args), &mut exited)).await
            }
            Command::CallAgain { function, args } => {
                Box::pin(reenter(guest, invocation, (Reentry::Again(&function), args), &mut exited)).await
            }
            Command::CallRef { reference, args } => {
                Box::pin(reenter(guest, invocation, (Reentry::Reference(&reference), args), &mut exited)).await
            }
            Command::Access(wanted) => Box::pin(guest.access(wanted)).await,
            Command::Fuel => Ok(Answer::Number(guest.fuel())),
        };
        invocation.mail.answer(answer);
    }
}

/// Calls the guest again. That it has exited is noted.
async fn reenter(
    guest: &mut impl Suspended,
    invocation: &Invocation,
    (call, args): (Reentry<'_>, Vec<Value>),
    exited: &mut Option<Error>,
) -> Result<Answer, Error> {
    invocation.turn.take().await;
    let values = guest.reenter(call, args).await;
    invocation.turn.give_back();
    if let Err(exit @ Error::Exit(_)) = &values {
        *exited = Some(exit.clone());
    }
    values.map(Answer::Values)
}

/// What calling an import does that nothing was given for.
pub(crate) fn unknown_import(import: &Import) -> Error {
    let [module, name] = [&import.module, &import.name].map(|name| shown::name(name));
    let message = format!("it called the import {module:?} {name:?}, which nothing was given for");
    Trap { code: "unknown_import", message, import: Some(Box::new((module, name))), ..Trap::default() }.into()
}

/// What a host function calls of its guest.
pub(crate) enum Reentry<'a> {
    Export(&'a Arc<Function>),
    /// An export of a component that may be called again.
    Again(&'a Arc<Function>),
    Reference(&'a FuncRef),
}

/// A module that is suspended in the host call that came through `trampoline`.
struct Inside<'c, 'a> {
    caller: &'c mut Caller<'a, StoreData>,
    trampoline: &'c Trampoline,
}

impl Suspended for Inside<'_, '_> {
    fn unknown(&self) -> Error {
        unknown_import(&self.trampoline.importer(self.caller).imports()[self.trampoline.import as usize])
    }

    async fn reenter(&mut self, call: Reentry<'_>, args: Vec<Value>) -> Result<Vec<Value>, Error> {
        match call {
            Reentry::Export(function) | Reentry::Again(function) => {
                call_export(self.caller, self.trampoline, (function, args)).await
            }
            Reentry::Reference(reference) => call_reference(self.caller, self.trampoline, (reference, args)).await,
        }
    }

    async fn access(&mut self, wanted: Access) -> Result<Answer, Error> {
        access(self.caller, self.trampoline, wanted).await
    }

    fn fuel(&self) -> Option<u64> {
        self.caller.get_fuel().ok()
    }
}

/// Room for the stack of a re-entrant call: one of the pool's, or one of those that are mapped for guests outside of it.
fn stack_for(data: &StoreData) -> Result<(Stack, Option<OwnedSemaphorePermit>), LimitError> {
    let code = &data.code;
    let pooled = code.engine().stack().map_err(LimitError::from)?;
    let mapped = if pooled.is_none() { Some(code.ceilings().try_stack()?) } else { None };
    Ok((pooled, mapped))
}

async fn call_export(
    caller: &mut Caller<'_, StoreData>,
    trampoline: &Trampoline,
    (function, mut args): (&Arc<Function>, Vec<Value>),
) -> Result<Vec<Value>, Error> {
    let (func, function) = find_function(caller, trampoline, function)?;
    let _stack = stack_for(caller.data())?;
    let called = caller.data().instance(trampoline.member).filter(|_| function.exported_again);
    let outer = std::mem::replace(&mut caller.data_mut().called, called);
    let counted = match &function.argument_counter {
        Some(counter) => {
            let counter = module_export(caller, trampoline, counter);
            count_arguments(&mut *caller, counter, &function, &mut args).await
        }
        None => Ok(()),
    };
    let result = match counted {
        Ok(()) => invoke(&mut *caller, &Callee::Dynamic(func), &function, args).await,
        Err(error) => Err(error),
    };
    returned(caller, outer, result)
}

/// Back in the host function: a guest that was cut off in the middle is not to be trusted.
fn returned(
    caller: &mut Caller<'_, StoreData>,
    outer: Option<wasmtime::Instance>,
    result: Result<Vec<Value>, Error>,
) -> Result<Vec<Value>, Error> {
    caller.data_mut().called = outer;
    judge(&caller.data().invocation, &result);
    result
}

fn judge(invocation: &Invocation, result: &Result<Vec<Value>, Error>) {
    if !invocation.take_unbegun() && !matches!(result, Ok(_) | Err(Error::Call(_))) {
        invocation.taint();
    }
}

/// It may be a function that the module imports, which nobody calls then but the embedder.
async fn call_reference(
    caller: &mut Caller<'_, StoreData>,
    trampoline: &Trampoline,
    (reference, args): (&FuncRef, Vec<Value>),
) -> Result<Vec<Value>, Error> {
    let _stack = stack_for(caller.data())?;
    let called = caller.data().instance(trampoline.member);
    let outer = std::mem::replace(&mut caller.data_mut().called, called);
    let result = invoke_ref(&mut *caller, reference, args).await;
    returned(caller, outer, result)
}

/// `function` as the guest exports it. The driver knows the module that it loaded; the guest may run a variant of it.
fn find_function(
    caller: &mut Caller<'_, StoreData>,
    trampoline: &Trampoline,
    function: &Arc<Function>,
) -> Result<(Func, Arc<Function>), Error> {
    if let Some(func) = exported(caller, trampoline, function) {
        return Ok((func, Arc::clone(function)));
    }
    let function = trampoline.importer(caller).counterpart(function)?;
    let export = exported(caller, trampoline, &function);
    let func = export.ok_or_else(|| Error::Internal("a function export is gone".into()))?;
    Ok((func, function))
}

fn exported(caller: &mut Caller<'_, StoreData>, trampoline: &Trampoline, function: &Function) -> Option<Func> {
    let (export, _) = function.core()?;
    module_export(caller, trampoline, export).and_then(Extern::into_func)
}

/// An export of the instance whose host call this is. Until that has started only the caller knows it; later it may not: an
/// imported function that is exported again is called by the embedder, and has no caller to ask.
fn module_export(caller: &mut Caller<'_, StoreData>, trampoline: &Trampoline, export: &ModuleExport) -> Option<Extern> {
    match caller.data().instance(trampoline.member) {
        Some(instance) => instance.get_module_export(caller, export),
        None => caller.get_module_export(export),
    }
}

/// Carries out an access on an export of the module that made the host call.
async fn access(caller: &mut Caller<'_, StoreData>, trampoline: &Trampoline, access: Access) -> Result<Answer, Error> {
    let code = trampoline.importer(caller);
    let name = access.export(&code);
    let found = match caller.data().instance(trampoline.member) {
        Some(instance) => instance.get_export(&mut *caller, name),
        None => caller.get_export(name),
    };
    carry_out(access, &code, found, caller).await
}
