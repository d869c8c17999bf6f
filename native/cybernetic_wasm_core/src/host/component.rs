//! Host calls of components.
//!
//! Wasmtime lets a host function call the component again that has called it; the component model does not, and guests are not
//! written for it. So a re-entrant call is refused here, unless the embedder says that this one is.

use super::{Answering, Reentry, Suspended, judge, serve, stack_for, unknown_import};
use crate::access::Access;
use crate::code::{Function, Import};
use crate::error::{CallError, Error, shown};
use crate::guest::{Loans, Returns, call_again, put, take};
use crate::mail::Answer;
use crate::member::MemberId;
use crate::store::StoreData;
use crate::value::Value;
use crate::wit::{Type, Typed};
use std::sync::Arc;
use wasmtime::component::Val;
use wasmtime::{AsContextMut, StoreContextMut};

/// What Wasmtime calls for the function with the index `import` of a component's.
pub(crate) fn ask<'a>(
    import: u32,
    store: StoreContextMut<'a, StoreData>,
    params: &'a [Val],
    results: &'a mut [Val],
) -> Answering<'a> {
    Box::new(async move { call(store, import, params, results).await })
}

/// Runs one host call.
async fn call(
    mut store: StoreContextMut<'_, StoreData>,
    import: u32,
    params: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let (invocation, code) = (Arc::clone(&store.data().invocation), Arc::clone(&store.data().code));
    let gone = || Error::Internal("an import is gone".into());
    let imported = code.imports().get(import as usize).ok_or_else(gone)?;
    let func = imported.wit().ok_or_else(gone)?;
    let mut returns = Returns::default();
    let args = params.iter().zip(&func.params);
    let args = args.map(|(value, (_, ty))| Ok(take(value.clone(), ty, &mut returns, store.as_context_mut())?.into()));
    let args = args.collect::<Result<_, Error>>()?;
    invocation.count_host_call().map_err(Error::from)?;
    invocation.mail.open(None, (MemberId::FIRST, import), args).map_err(Error::from)?;
    returns.hand_over(&invocation, &mut store);
    invocation.turn.give_back();
    let served = serve(&mut Inside { store: store.as_context_mut(), imported }, &invocation).await;
    returns.make(&mut store);
    let values = served?;
    // Elixir's replies have been checked before, with friendlier words; this guards the guest, which is cut off in the middle.
    let taint = |_: &CallError| invocation.taint();
    imported.check_results(values.len()).inspect_err(taint).map_err(Error::from)?;
    // From here on the resources in it are the guest's, whatever becomes of that while it waits.
    for ((value, ty), result) in values.into_iter().zip(&func.result).zip(results) {
        let value = checked(value, ty).inspect_err(taint).map_err(Error::from)?;
        *result = put(value, &mut Loans::default(), store.as_context_mut())?;
    }
    invocation.turn.take().await;
    Ok(())
}

fn checked(value: Value, ty: &Type) -> Result<Typed, CallError> {
    match value {
        Value::Wit(typed) if typed.ty == *ty => Ok(*typed),
        other => Err(CallError::Type { index: 0, expected: ty.to_string(), given: format!("{other:?}") }),
    }
}

/// A component that is suspended in a host call.
struct Inside<'a> {
    store: StoreContextMut<'a, StoreData>,
    imported: &'a Import,
}

impl Suspended for Inside<'_> {
    fn unknown(&self) -> Error {
        unknown_import(self.imported)
    }

    async fn reenter(&mut self, call: Reentry<'_>, args: Vec<Value>) -> Result<Vec<Value>, Error> {
        match call {
            Reentry::Again(function) => self.call_again(function, args).await,
            Reentry::Export(function) => {
                let open = crate::wit::path(Some(&self.imported.module), &self.imported.name);
                Err(CallError::Reentrant { called: shown::name(&function.name), open: shown::name(&open) }.into())
            }
            Reentry::Reference(_) => Err(CallError::Component("it has no references to functions").into()),
        }
    }

    async fn access(&mut self, _access: Access) -> Result<Answer, Error> {
        Err(CallError::Component("it has no memory to read or write: what it passes are values").into())
    }

    fn fuel(&self) -> Option<u64> {
        self.store.get_fuel().ok()
    }
}

impl Inside<'_> {
    /// The driver knows the component that it loaded; the guest may run a variant of it.
    async fn call_again(&mut self, function: &Arc<Function>, args: Vec<Value>) -> Result<Vec<Value>, Error> {
        let _stack = stack_for(self.store.data())?;
        let function = self.store.data().code.counterpart(function)?;
        let result = call_again(self.store.as_context_mut(), &function, args).await;
        judge(&self.store.data().invocation, &result);
        result
    }
}
