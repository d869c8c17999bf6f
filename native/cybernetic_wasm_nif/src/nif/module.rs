//! Modules.

use super::runtime::runtime;
use crate::atoms;
use crate::resources::ModuleResource;
use crate::terms::engine::{BudgetTuple, EngineTuple};
use crate::terms::handle::Handle;
use crate::terms::step;
use crate::terms::{binary, error, facts};
use cybernetic_wasm_core::code;
use cybernetic_wasm_core::compiler::Asker;
use cybernetic_wasm_core::engine::EngineConfig;
use cybernetic_wasm_core::execution::Execution;
use cybernetic_wasm_core::lane::Lane;
use cybernetic_wasm_core::module::Module;
use rustler::{Atom, Binary, Encoder, Env, NifResult, Term};

lanes! {
    /// A normal scheduler is for small sources, which the caller sees to: the digest of a large one takes more than it gives.
    fn module_load, module_load_dirty<'a>(
        env, lane;
        source: Binary<'a>,
        engine: EngineTuple<'a>,
        budget: BudgetTuple,
    ) -> NifResult<Term<'a>> {
        let config: EngineConfig = engine.try_into()?;
        let execution = Execution::load_within(runtime(), source.as_slice(), config, (Some(budget.into()), asker(env)));
        Ok(step::first(env, execution, false, lane))
    }
}

/// The calling process, to whoever shares the compiler out.
fn asker(env: Env<'_>) -> Asker {
    Asker(env.pid().encode(env).hash_internal(0) >> 1)
}

/// Imports that a normal scheduler encodes.
const FEW_IMPORTS: usize = 64;

lanes! {
    /// What every handle keeps: the digest, the imported functions in the order of their indices as `{module, name, arity,
    /// results, signature}`, the imports that no host function can satisfy, whether it is a command, whether a pool's slots
    /// can hold it, and `:module` or `:component`. `:dirty` where there are many imports.
    fn module_handle, module_handle_dirty<'a>(env, lane; module: Handle<'a, ModuleResource>) -> Term<'a> {
        let imports = module.0.code().imports().len() + module.0.unlinkable().len();
        match lane == Lane::Inline && imports > FEW_IMPORTS {
            true => atoms::dirty().encode(env),
            false => handle(env, &module.0),
        }
    }
}

fn handle<'a>(env: Env<'a>, module: &Module) -> Term<'a> {
    let code = module.code();
    let imports = code.imports().iter();
    let functions: Vec<_> = imports
        .map(|import| (&import.module, &import.name, import.arity(), import.gives(), import.signature()))
        .collect();
    let unlinkable = error::encode_problems(env, module.unlinkable());
    let kind = if code.is_component() { atoms::component() } else { atoms::module() };
    (binary(env, code.digest()), functions, unlinkable, code.is_command(), code.fits_pool(), kind).encode(env)
}

lanes! {
    /// BLAKE3 of bytes. A normal scheduler is for few of them, which the caller sees to.
    fn digest, digest_dirty<'a>(env, _lane; bytes: Binary<'a>) -> Term<'a> {
        binary(env, &code::digest(bytes.as_slice()))
    }
}

/// The module in the binary format; what was loaded as text is not that text.
#[rustler::nif(schedule = "DirtyCpu")]
fn module_source<'a>(env: Env<'a>, module: Handle<'a, ModuleResource>) -> Term<'a> {
    binary(env, module.0.source())
}

/// Nothing, where the module is one of this VM.
#[rustler::nif]
fn module_check(_module: Handle<'_, ModuleResource>) -> Atom {
    atoms::ok()
}

/// Guests that live now and run it.
#[rustler::nif]
fn module_guests(module: Handle<'_, ModuleResource>) -> u64 {
    module.0.guests()
}

/// Sees to it that the module's code is on disk: `:ok` or `{:error, why}`.
#[rustler::nif(schedule = "DirtyIo")]
fn module_keep<'a>(env: Env<'a>, module: Handle<'a, ModuleResource>) -> Term<'a> {
    match runtime().keep(&module.0) {
        Ok(()) => atoms::ok().encode(env),
        Err(why) => (atoms::error(), why).encode(env),
    }
}

/// Imports, exports and custom sections; a stranger's module may have hundreds of thousands.
#[rustler::nif(schedule = "DirtyCpu")]
fn module_facts<'a>(env: Env<'a>, module: Handle<'a, ModuleResource>) -> Term<'a> {
    facts::encode(env, module.0.code())
}
