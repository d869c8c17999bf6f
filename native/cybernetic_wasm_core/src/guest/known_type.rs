//! Calls of a component's functions whose type an interface says.

use super::component::explained;
use super::{First, Guest};
use crate::code::{Export, Function};
use crate::error::{CallError, Error};
use wasmtime::component::{ComponentNamedList, Lift, Lower};

impl Guest {
    /// Calls a function with what its store has.
    pub(crate) async fn call_by_type<P, R>(&mut self, function: &Function, params: P) -> Result<R, Error>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let (First::Component(component), Export::Component(export, _)) = (&self.first, &function.export) else {
            return Err(CallError::Component("a module has no functions of WIT's types").into());
        };
        let found = component.instance().get_func(&mut self.store, export);
        let found = found.ok_or_else(|| Error::Internal("a function export is gone".into()))?;
        let other = |_| CallError::Component("the function is not of the type that its interface says");
        let found = found.typed::<P, R>(&self.store).map_err(other)?;
        let called = Box::pin(found.call_async(&mut self.store, params)).await;
        called.map_err(|error| explained(error, &mut self.store))
    }
}
