//! Host functions, from the guest's side: a call suspends the guest, tells the driver, and then serves the driver's
//! commands with the `Caller` that it holds, one a poll, until the driver returns values or raises.

use crate::access::Access;
use crate::callee::Callee;
use crate::error::{Error, LimitError, classify};
use crate::invocation::Invocation;
use crate::linker::Trampoline;
use crate::module::Function;
use crate::store::StoreData;
use crate::value::Value;
use std::sync::Arc;
use wasmtime::{AsContextMut, Caller, Extern, Func, ModuleExport, Val};

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
    let call = (trampoline.member, trampoline.import, args);
    invocation.open_host_call(trampoline.module.clone(), call).map_err(Error::from)?;
    invocation.turn.give_back();
    let values = serve(&mut caller, trampoline, &invocation).await?;
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

/// Serves commands until one ends the call: with values, or with a raise. A guest that has exited in a re-entrant call does not
/// go on, whatever the host function makes of that.
async fn serve(
    caller: &mut Caller<'_, StoreData>,
    trampoline: &Trampoline,
    invocation: &Invocation,
) -> Result<Vec<Value>, Error> {
    let mut exited = None;
    loop {
        let answer = match invocation.next_command().await {
            Command::Return(values) => return exited.map_or(Ok(values), Err),
            Command::Raise => return Err(exited.unwrap_or(Error::Host)),
            Command::Call { function, args } => {
                invocation.turn.take().await;
                let answer = reenter(caller, trampoline, (&function, args)).await.map(Answer::Values);
                invocation.turn.give_back();
                if let Err(exit @ Error::Exit(_)) = &answer {
                    exited = Some(exit.clone());
                }
                answer
            }
            Command::Access(wanted) => access(caller, trampoline, wanted).await,
            Command::Fuel => Ok(Answer::Number(caller.get_fuel().ok())),
        };
        invocation.answer(answer);
    }
}

async fn reenter(
    caller: &mut Caller<'_, StoreData>,
    trampoline: &Trampoline,
    (function, args): (&Arc<Function>, Vec<Value>),
) -> Result<Vec<Value>, Error> {
    let (func, function) = find_function(caller, trampoline, function)?;
    let _stack = caller.data().module.engine().stack().map_err(LimitError::from)?;
    let called = caller.data().member(trampoline.member).filter(|_| function.exported_again);
    let outer = std::mem::replace(&mut caller.data_mut().called, called);
    let result = invoke(&mut *caller, &Callee::Dynamic(func), &function, args).await;
    caller.data_mut().called = outer;
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
    if let Some(Extern::Func(func)) = module_export(caller, trampoline, &function.export) {
        return Ok((func, Arc::clone(function)));
    }
    let function = trampoline.importer(caller).counterpart(function)?;
    let export = module_export(caller, trampoline, &function.export).and_then(Extern::into_func);
    let func = export.ok_or_else(|| Error::Internal("a function export is gone".into()))?;
    Ok((func, function))
}

/// An export of the instance whose host call this is. Until that has started only the caller knows it; later it may not: an
/// imported function that is exported again is called by the embedder, and Wasmtime panics where such a call asks its
/// caller.
fn module_export(caller: &mut Caller<'_, StoreData>, trampoline: &Trampoline, export: &ModuleExport) -> Option<Extern> {
    match caller.data().member(trampoline.member) {
        Some(instance) => instance.get_module_export(caller, export),
        None => caller.get_module_export(export),
    }
}

/// Calls `callee`, whose signature `function` describes, in a store that an execution drives.
pub(crate) async fn invoke(
    mut store: impl AsContextMut<Data = StoreData>,
    callee: &Callee,
    function: &Function,
    args: Vec<Value>,
) -> Result<Vec<Value>, Error> {
    function.check_arity(args.len())?;
    let result = callee.call(&mut store, function, args).await;
    result.map_err(|error| classify(error, &store.as_context().data().invocation, &store.as_context().data().module))
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
    let name = access.export(&module);
    let found = match caller.data().member(trampoline.member) {
        Some(instance) => instance.get_export(&mut *caller, name),
        None => caller.get_export(name),
    };
    access.carry_out(&module, found, caller).await
}
