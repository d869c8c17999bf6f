//! Host functions, from the guest's side: a call suspends the guest, tells the driver, and then serves the driver's
//! commands with the `Caller` that it holds, one a poll, until the driver returns values or raises.

use crate::access::Access;
use crate::error::{Error, LimitError, classify};
use crate::invocation::{Invocation, Notice};
use crate::linker::Trampoline;
use crate::module::Function;
use crate::store::StoreData;
use crate::value::Value;
use std::sync::Arc;
use wasmtime::{AsContextMut, Caller, Extern, Func, Val};

/// What the driver may ask of a suspended host call.
#[derive(Debug)]
pub enum Command {
    /// Go on in the guest with these results.
    Return(Vec<Value>),
    /// Unwind the guest.
    Raise,
    /// Look at the guest, or change something in it.
    Access(Access),
    /// Call an export of the guest that is suspended.
    Call {
        /// The export.
        function: Arc<Function>,
        /// Its arguments.
        args: Vec<Value>,
    },
    /// Fuel that is left, `None` where fuel is not metered.
    Fuel,
}

/// The answer to a command that does not end the host call.
#[derive(Debug)]
pub enum Answer {
    /// A change was made.
    Done,
    /// A piece of memory.
    Bytes(Vec<u8>),
    /// A call's results, or the value of a global or table element.
    Values(Vec<Value>),
    /// A size, or fuel.
    Number(Option<u64>),
}

/// Runs one host call, which came through `trampoline`.
pub(crate) async fn call(
    mut caller: Caller<'_, StoreData>,
    trampoline: &Trampoline,
    params: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let invocation = Arc::clone(&caller.data().invocation);
    let args = params.iter().map(|value| Value::take(value, &mut caller)).collect::<wasmtime::Result<_>>()?;
    let serial = invocation.open_host_call(trampoline.module.clone()).map_err(Error::from)?;
    invocation.turn.give_back();
    let notice = Notice::HostCall { member: trampoline.member, import: trampoline.import, args, serial };
    let outcome = serve(&mut caller, trampoline, &invocation, notice).await;
    invocation.close_host_call();
    let values = outcome.ok_or(Error::Host)?;
    let importer = trampoline.importer(&caller);
    let arity = importer.imports()[trampoline.import as usize].check_results(values.len());
    arity.inspect_err(|_| invocation.taint()).map_err(Error::from)?;
    invocation.turn.take().await;
    for (index, (value, ty)) in values.into_iter().zip(&trampoline.results).enumerate() {
        let value = value.put(ty, index, &mut caller).await;
        // The caller's mistake, but one that cuts the guest off in the middle.
        results[index] = value.inspect_err(|_| invocation.taint())?;
    }
    Ok(())
}

/// Serves commands until one ends the call: with values, or with `None` for a raise.
async fn serve(
    caller: &mut Caller<'_, StoreData>,
    trampoline: &Trampoline,
    invocation: &Invocation,
    first: Notice,
) -> Option<Vec<Value>> {
    let mut notice = first;
    loop {
        let answer = match invocation.ask(notice).await {
            Command::Return(values) => return Some(values),
            Command::Raise => return None,
            Command::Call { function, args } => {
                invocation.turn.take().await;
                let answer = reenter(caller, trampoline, (&function, args)).await.map(Answer::Values);
                invocation.turn.give_back();
                answer
            }
            Command::Access(wanted) => access(caller, trampoline, wanted).await,
            Command::Fuel => Ok(Answer::Number(caller.get_fuel().ok())),
        };
        notice = Notice::Answer(answer);
    }
}

async fn reenter(
    caller: &mut Caller<'_, StoreData>,
    trampoline: &Trampoline,
    (function, args): (&Arc<Function>, Vec<Value>),
) -> Result<Vec<Value>, Error> {
    let (func, function) = find_function(caller, trampoline, function)?;
    let _stack = caller.data().module.engine().stack().map_err(LimitError::from)?;
    let result = invoke(&mut *caller, &func, &function, args).await;
    if !matches!(result, Ok(_) | Err(Error::Call(_))) {
        caller.data().invocation.taint();
    }
    result
}

/// `function` as the guest exports it. The driver knows the module that it loaded; the guest may run a variant of it.
fn find_function(
    caller: &mut Caller<'_, StoreData>,
    trampoline: &Trampoline,
    function: &Arc<Function>,
) -> Result<(Func, Arc<Function>), Error> {
    if let Some(Extern::Func(func)) = caller.get_module_export(&function.export) {
        return Ok((func, Arc::clone(function)));
    }
    let function = trampoline.importer(caller).counterpart(function)?;
    let export = caller.get_module_export(&function.export).and_then(Extern::into_func);
    let func = export.ok_or_else(|| Error::Internal("a function export is gone".into()))?;
    Ok((func, function))
}

/// Calls `func`, whose signature `function` describes, in a store that an execution drives.
pub(crate) async fn invoke(
    mut store: impl AsContextMut<Data = StoreData>,
    func: &Func,
    function: &Function,
    args: Vec<Value>,
) -> Result<Vec<Value>, Error> {
    let result = try_invoke(&mut store, func, function, args).await;
    result.map_err(|error| classify(error, &store.as_context().data().invocation, &store.as_context().data().module))
}

async fn try_invoke(
    mut store: impl AsContextMut<Data = StoreData>,
    func: &Func,
    function: &Function,
    mut args: Vec<Value>,
) -> wasmtime::Result<Vec<Value>> {
    function.check_arity(args.len()).map_err(Error::from)?;
    // References stay rooted as long as their scope; a live instance must not gather them call by call.
    let mut scope = wasmtime::RootScope::new(&mut store);
    let (params, results) = (args.len(), function.ty.results().len());
    let mut values = Vec::with_capacity(params + results);
    for (index, (value, ty)) in args.drain(..).zip(function.params()).enumerate() {
        values.push(value.put(ty, index, &mut scope).await?);
    }
    values.resize(params + results, Val::I32(0));
    let (params, results) = values.split_at_mut(params);
    let called = func.call_async(&mut scope, params, results).await;
    called.inspect_err(|error| forget_exception(&mut scope, error))?;
    // The arguments' room holds the results, so that a short call allocates once less.
    for value in results {
        args.push(Value::take(value, &mut scope)?);
    }
    Ok(args)
}

/// An exception that left the guest stays pending in the store, and would be thrown again by the next failure there.
pub(crate) fn forget_exception(mut store: impl AsContextMut<Data = StoreData>, error: &wasmtime::Error) {
    if error.is::<wasmtime::ThrownException>() {
        let _ = store.as_context_mut().take_pending_exception();
    }
}

/// Carries out an access on an export of the module that made the host call.
async fn access(caller: &mut Caller<'_, StoreData>, trampoline: &Trampoline, access: Access) -> Result<Answer, Error> {
    let module = trampoline.importer(caller);
    let found = caller.get_export(access.export(&module));
    access.carry_out(&module, found, caller).await
}
