//! Host calls of components.
//!
//! Wasmtime lets a host function call the component again that has called it; the component model does not, and guests are not
//! written for it. So a re-entrant call is refused here.

use super::{Answering, Reentry, Suspended, serve, unknown_import};
use crate::access::Access;
use crate::code::Import;
use crate::error::{CallError, Error, shown};
use crate::mail::Answer;
use crate::member::MemberId;
use crate::store::StoreData;
use crate::value::Value;
use crate::wit::{Type, Typed};
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::Val;

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
    store: StoreContextMut<'_, StoreData>,
    import: u32,
    params: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let (invocation, code) = (Arc::clone(&store.data().invocation), Arc::clone(&store.data().code));
    let gone = || Error::Internal("an import is gone".into());
    let imported = code.imports().get(import as usize).ok_or_else(gone)?;
    let func = imported.wit().ok_or_else(gone)?;
    let args = params.iter().zip(&func.params).map(|(value, (_, ty))| Typed::taken(value.clone(), ty).into()).collect();
    invocation.count_host_call().map_err(Error::from)?;
    invocation.mail.open(None, (MemberId::FIRST, import), args).map_err(Error::from)?;
    invocation.turn.give_back();
    let values = serve(&mut Inside { store, imported }, &invocation).await?;
    // Elixir's replies have been checked before, with friendlier words; this guards the guest, which is cut off in the middle.
    let taint = |_: &CallError| invocation.taint();
    imported.check_results(values.len()).inspect_err(taint).map_err(Error::from)?;
    invocation.turn.take().await;
    for ((value, ty), result) in values.into_iter().zip(&func.result).zip(results) {
        *result = checked(value, ty).inspect_err(taint).map_err(Error::from)?;
    }
    Ok(())
}

fn checked(value: Value, ty: &Type) -> Result<Val, CallError> {
    match value {
        Value::Wit(typed) if typed.ty == *ty => Ok(typed.into_val()),
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

    async fn reenter(&mut self, call: Reentry<'_>, _args: Vec<Value>) -> Result<Vec<Value>, Error> {
        let Reentry::Export(function) = call else {
            return Err(CallError::Component("it has no references to functions").into());
        };
        let open = crate::wit::path(Some(&self.imported.module), &self.imported.name);
        Err(CallError::Reentrant { called: shown::name(&function.name), open: shown::name(&open) }.into())
    }

    async fn access(&mut self, _access: Access) -> Result<Answer, Error> {
        Err(CallError::Component("it has no memory to read or write: what it passes are values").into())
    }

    fn fuel(&self) -> Option<u64> {
        self.store.get_fuel().ok()
    }
}
