//! What WASI is made of, for whoever grants it.

use crate::terms::atom;
use cybernetic_wasm_core::wasi::{functions, interfaces};
use rustler::{Encoder, Env, Term};

/// The functions of preview 1, each with the capabilities of which one is enough: `{name, [capability]}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn wasi_functions(env: Env<'_>) -> Term<'_> {
    let function = |(name, capabilities): (&'static str, &'static [&'static str])| {
        let capabilities: Vec<_> = capabilities.iter().map(|name| atom(env, name)).collect();
        (name, capabilities).encode(env)
    };
    functions().map(function).collect::<Vec<_>>().encode(env)
}

/// The interfaces of WASI 0.2, by their names without a version.
#[rustler::nif]
fn wasi_interfaces() -> Vec<&'static str> {
    interfaces().collect()
}
