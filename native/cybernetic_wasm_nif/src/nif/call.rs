//! Calls of exported functions: in fresh instances and on live ones, of values and by ABIs, which pass bytes.

use super::execution::{belongs_on_dirty, started};
use super::runtime::runtime;
use crate::atoms;
use crate::resources::{GuestResource, ModuleResource};
use crate::terms::abi::Passed;
use crate::terms::call::CallOptions;
use crate::terms::handle::Handle;
use crate::terms::value::{self, Terms};
use crate::terms::wit::{Room, Undecoded, encode_enumerate};
use crate::terms::{error, exported_function, function_of, wit};
use cybernetic_wasm_core::code::Function;
use cybernetic_wasm_core::error::CallError;
use cybernetic_wasm_core::execution::{Execution, Setup};
use cybernetic_wasm_core::instance::Instance;
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::limits::Limits;
use cybernetic_wasm_core::module::Module;
use rustler::{Atom, Binary, Encoder, Env, Term};
use std::sync::Arc;

lanes! {
    fn execution_call, execution_call_dirty<'a>(
        env, lane;
        module: Handle<'a, ModuleResource>,
        name: Binary<'a>,
        arguments: Terms<'a>,
        options: CallOptions,
        scheduling: Atom,
    ) -> Term<'a> {
        Wanted { given: arguments, options, scheduling }.in_fresh((env, lane), &module.0, &name)
    }
}

lanes! {
    fn execution_exchange, execution_exchange_dirty<'a>(
        env, lane;
        module: Handle<'a, ModuleResource>,
        name: Binary<'a>,
        passed: Passed<'a>,
        options: CallOptions,
        scheduling: Atom,
    ) -> Term<'a> {
        Wanted { given: passed, options, scheduling }.in_fresh((env, lane), &module.0, &name)
    }
}

lanes! {
    fn instance_call, instance_call_dirty<'a>(
        env, lane;
        guest: Handle<'a, GuestResource>,
        member: u32,
        name: Binary<'a>,
        arguments: Terms<'a>,
        options: CallOptions,
        scheduling: Atom,
    ) -> Term<'a> {
        Wanted { given: arguments, options, scheduling }.on_live((env, lane), guest.instance(member), &name)
    }
}

lanes! {
    fn instance_exchange, instance_exchange_dirty<'a>(
        env, lane;
        guest: Handle<'a, GuestResource>,
        member: u32,
        name: Binary<'a>,
        passed: Passed<'a>,
        options: CallOptions,
        scheduling: Atom,
    ) -> Term<'a> {
        Wanted { given: passed, options, scheduling }.on_live((env, lane), guest.instance(member), &name)
    }
}

/// A call as Elixir asks for it.
pub(super) struct Wanted<G> {
    pub(super) given: G,
    pub(super) options: CallOptions,
    pub(super) scheduling: Atom,
}

/// What a call passes.
pub(super) trait Given {
    /// Refuses what can be seen to be wrong before it is decoded.
    fn check(&self, _: &Function) -> Result<(), CallError> {
        Ok(())
    }

    /// How many bytes of it are copied before the call starts. Many belong on a dirty scheduler, whatever the caller wants.
    fn bytes(&self) -> u64 {
        0
    }

    fn in_fresh(
        self,
        function: Arc<Function>,
        module: &Arc<Module>,
        with: (Setup, Lane),
    ) -> Result<Execution, Undecoded>;

    fn on_live(
        self,
        function: Arc<Function>,
        instance: Instance<'_>,
        with: (Limits, Lane),
    ) -> Result<Execution, Undecoded>;
}

impl<G: Given> Wanted<G> {
    pub(super) fn in_fresh<'a>(self, at: (Env<'a>, Lane), module: &Arc<Module>, name: &[u8]) -> Term<'a> {
        let function = exported_function(module.code(), name);
        self.begin(at, function, Function::may_run_inline, |given, function, options| {
            given.in_fresh(function, module, (options.setup(runtime(), module), at.1))
        })
    }

    pub(super) fn on_live<'a>(self, at: (Env<'a>, Lane), instance: Instance<'_>, name: &[u8]) -> Term<'a> {
        let proven = |function: &Function, limits: &Limits| instance.may_run_inline(function, limits);
        self.begin(at, function_of(instance, name), proven, |given, function, options| {
            given.on_live(function, instance, (options.limits.clone(), at.1))
        })
    }

    fn begin<'a>(
        self,
        (env, lane): (Env<'a>, Lane),
        function: Result<Arc<Function>, CallError>,
        proven: impl FnOnce(&Function, &Limits) -> bool,
        begin: impl FnOnce(G, Arc<Function>, &CallOptions) -> Result<Execution, Undecoded>,
    ) -> Term<'a> {
        let Self { given, options, scheduling } = self;
        let function = match function.and_then(|function| given.check(&function).map(|()| function)) {
            Ok(function) => function,
            Err(failure) => return error::refused(env, failure),
        };
        let scheduling = if Lane::Inline.may_copy(given.bytes()) { scheduling } else { atoms::dirty() };
        if belongs_on_dirty(lane, scheduling, || proven(&function, &options.limits)) {
            return atoms::dirty().encode(env);
        }
        match begin(given, function, &options) {
            Ok(execution) => started(env, Ok(execution), &options, lane),
            Err(Undecoded::Error(failure)) => error::refused(env, failure),
            Err(Undecoded::Enumerate(types)) => encode_enumerate(env, &types),
            Err(Undecoded::Dirty) => {
                runtime().ceilings().expect();
                atoms::dirty().encode(env)
            }
        }
    }
}

/// Arguments by the types of a module's function, or of a component's.
fn arguments(terms: Terms<'_>, function: &Function, room: Room) -> Result<Vec<value::Value>, Undecoded> {
    match function.wit() {
        Some(func) => wit::decode_arguments(func, terms, room),
        None => Ok(value::decode_all(terms, function.params().iter())?),
    }
}

/// Values.
impl Given for Terms<'_> {
    fn check(&self, function: &Function) -> Result<(), CallError> {
        function.check_arity(self.len())
    }

    fn in_fresh(
        self,
        function: Arc<Function>,
        module: &Arc<Module>,
        (setup, lane): (Setup, Lane),
    ) -> Result<Execution, Undecoded> {
        let args = arguments(self, &function, Room::new(setup.limits.max_transfer, lane))?;
        Ok(Execution::call(module, &function, args, setup))
    }

    fn on_live(
        self,
        function: Arc<Function>,
        instance: Instance<'_>,
        (limits, lane): (Limits, Lane),
    ) -> Result<Execution, Undecoded> {
        let args = arguments(self, &function, Room::new(limits.max_transfer, lane))?;
        Ok(Execution::call_on(instance, &function, args, limits)?)
    }
}

/// Bytes. How many parameters they are for is seen when they are decoded.
impl Given for Passed<'_> {
    fn bytes(&self) -> u64 {
        self.bytes()
    }

    fn in_fresh(
        self,
        function: Arc<Function>,
        module: &Arc<Module>,
        (setup, _): (Setup, Lane),
    ) -> Result<Execution, Undecoded> {
        Ok(Execution::exchange(module, self.exchange(function)?, setup))
    }

    fn on_live(
        self,
        function: Arc<Function>,
        instance: Instance<'_>,
        (limits, _): (Limits, Lane),
    ) -> Result<Execution, Undecoded> {
        Ok(Execution::exchange_on(instance, self.exchange(function)?, limits)?)
    }
}
