//! Linking a component: each function that it imports is a trampoline that asks the driver. What else it may import are types of
//! the interfaces' own, which need nothing, and resources and whole modules, which nothing is there for.

use super::{Linked, Ready};
use crate::code::{Code, ComponentBody};
use crate::engine::Engine;
use crate::error::{Error, ImportProblem};
use crate::host::ask_of_component;
use crate::store::StoreData;
use crate::wit::{Item, Kind};
use wasmtime::component::{Linker, LinkerInstance};

/// Binds every imported function of a component, once and for all.
pub(super) fn prepare(engine: &Engine, code: &Code, component: &ComponentBody) -> Result<Linked, Error> {
    let problems: Vec<_> = component.imports.iter().filter_map(problem).collect();
    if !problems.is_empty() {
        return Ok(Err(problems));
    }
    let mut linker = Linker::new(&engine.wasmtime);
    let functions = component.imports.iter().filter(|item| matches!(item.kind, Kind::Func(_)));
    let functions: Vec<_> = (0..code.imports().len() as u32).zip(functions).collect();
    // Those of one interface follow each other.
    for interface in functions.chunk_by(|(_, one), (_, other)| one.interface == other.interface) {
        define(&mut linker, interface).map_err(Error::internal)?;
    }
    Ok(Ok(Ready::Component(linker.instantiate_pre(&component.wasmtime).map_err(Error::internal)?)))
}

fn define(linker: &mut Linker<StoreData>, functions: &[(u32, &Item)]) -> wasmtime::Result<()> {
    let interface = functions.first().and_then(|(_, item)| item.interface.as_deref());
    let mut instance: LinkerInstance<'_, StoreData> = match interface {
        Some(name) => linker.instance(name)?,
        None => linker.root(),
    };
    functions.iter().try_for_each(|(import, item)| {
        let import = *import;
        instance.func_new_async(&item.name, move |store, _ty, params, results| {
            ask_of_component(import, store, params, results)
        })
    })
}

fn problem(item: &Item) -> Option<ImportProblem> {
    let (wanted, reason) = match &item.kind {
        Kind::Func(_) | Kind::Type(_) => return None,
        Kind::Resource(_) => ("resource", "resources of the host are not served"),
        Kind::Other(kind) => (*kind, "nothing to link it to: only functions can be given"),
    };
    let module = item.interface.as_deref().unwrap_or(crate::code::WORLD).to_owned();
    Some(ImportProblem { module, name: item.name.to_string(), wanted: wanted.to_owned(), reason: reason.into() })
}
