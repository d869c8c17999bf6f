//! Having guests answer requests, and what there is to do for their HTTP.

use super::call::{Given, Wanted};
use crate::atoms;
use crate::resources::{ExecutionResource, GuestResource, ModuleResource};
use crate::terms::call::CallOptions;
use crate::terms::error;
use crate::terms::handle::Handle;
use crate::terms::http::{AskedRecord, decode};
use crate::terms::wit::Undecoded;
use cybernetic_wasm_core::code::{Function, HANDLER};
use cybernetic_wasm_core::error::CallError;
use cybernetic_wasm_core::execution::{Execution, Setup};
use cybernetic_wasm_core::instance::Instance;
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::module::Module;
use rustler::{Atom, Encoder, NifResult, Term};
use std::sync::Arc;

lanes! {
    /// Has a fresh instance answer a request.
    fn execution_handle, execution_handle_dirty<'a>(
        env, lane;
        module: Handle<'a, ModuleResource>,
        asked: AskedRecord<'a>,
        options: CallOptions,
        scheduling: Atom,
    ) -> Term<'a> {
        Wanted { given: asked, options, scheduling }.in_fresh((env, lane), &module.0, HANDLER.as_bytes())
    }
}

lanes! {
    /// Has a live instance answer one.
    fn instance_handle, instance_handle_dirty<'a>(
        env, lane;
        guest: Handle<'a, GuestResource>,
        member: u32,
        asked: AskedRecord<'a>,
        options: CallOptions,
        scheduling: Atom,
    ) -> Term<'a> {
        Wanted { given: asked, options, scheduling }.on_live((env, lane), guest.instance(member), HANDLER.as_bytes())
    }
}

lanes! {
    /// What came of what there was to do for an exchange. A large piece belongs on a dirty scheduler, which the caller sees to.
    fn execution_errand_done, execution_errand_done_dirty<'a>(
        env, _lane;
        execution: Handle<'a, ExecutionResource>,
        number: u32,
        came: Term<'a>,
    ) -> NifResult<Term<'a>> {
        let came = decode(came)?;
        Ok(match execution.0.try_lock() {
            Some(execution) => {
                execution.errand_done(number, came);
                atoms::ok().encode(env)
            }
            None => error::refused(env, CallError::Busy),
        })
    }
}

/// A request.
impl Given for AskedRecord<'_> {
    fn bytes(&self) -> u64 {
        self.bytes()
    }

    fn in_fresh(
        self,
        function: Arc<Function>,
        module: &Arc<Module>,
        (setup, _): (Setup, Lane),
    ) -> Result<Execution, Undecoded> {
        Ok(Execution::handle(module, &function, self.into(), setup))
    }

    fn on_live(
        self,
        function: Arc<Function>,
        instance: Instance<'_>,
        (limits, _): (Limits, Lane),
    ) -> Result<Execution, Undecoded> {
        Ok(Execution::handle_on(instance, &function, self.into(), limits)?)
    }
}
