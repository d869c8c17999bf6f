//! Linking a component: the interfaces of WASI are those of the guest's system; each other function that it imports is a trampoline
//! that asks the driver. What else it may import are types of the interfaces' own, which need nothing, and resources and whole
//! modules, which nothing is there for.

use super::{Linked, Linkers, Ready};
use crate::code::{Code, ComponentBody};
use crate::error::{Error, ImportProblem, shown};
use crate::host::ask_of_component;
use crate::store::StoreData;
use crate::wit::{Item, Kind, interface, served};
use std::borrow::Cow;
use wasmtime::component::{Linker, LinkerInstance};

/// Binds every imported function of a component, once and for all. Of WASI's, those whose indices are among the `answered` are
/// the driver's all the same.
pub(super) fn prepare(
    linkers: &Linkers,
    code: &Code,
    (component, answered): (&ComponentBody, &[u32]),
) -> Result<Linked, Error> {
    let problems: Vec<_> = component.imports.iter().filter_map(problem).collect();
    if !problems.is_empty() {
        return Ok(Err(problems));
    }
    let wasi = component.imports.iter().any(is_of_wasi);
    let mut linker = if wasi { linkers.wasi_p2()?.clone() } else { Linker::new(&linkers.engine().wasmtime) };
    let functions = component.imports.iter().filter(|item| matches!(item.kind, Kind::Func(_)));
    let functions: Vec<_> = (0..code.imports().len() as u32)
        .zip(functions)
        .filter(|(import, item)| !is_of_wasi(item) || answered.contains(import))
        .collect();
    // Those of one interface follow each other.
    for interface in functions.chunk_by(|(_, one), (_, other)| one.interface == other.interface) {
        define(&mut linker, interface).map_err(Error::internal)?;
    }
    match linker.instantiate_pre(&component.wasmtime) {
        Ok(prepared) => Ok(Ok(Ready::Component { prepared, wasi })),
        Err(error) if wasi => Ok(Err(vec![unlike(&error)])),
        Err(error) => Err(Error::internal(error)),
    }
}

fn is_of_wasi(item: &Item) -> bool {
    item.interface.as_deref().is_some_and(|interface| served(interface).is_some())
}

fn define(linker: &mut Linker<StoreData>, functions: &[(u32, &Item)]) -> wasmtime::Result<()> {
    let name = functions.first().and_then(|(_, item)| item.interface.as_deref());
    let mut instance: LinkerInstance<'_, StoreData> = match name {
        // What is defined of WASI's is, in the version that the linker has: one with a part of it in another would hide the rest.
        Some(name) => linker.instance(&served(name).map_or(Cow::Borrowed(name), |name| interface(name).into()))?,
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
        _ if is_of_wasi(item) => return None,
        Kind::Func(_) | Kind::Type(_) => return None,
        Kind::Resource(_) => ("resource", "resources of the host are not served"),
        Kind::Other(kind) => (*kind, "nothing to link it to: only functions can be given"),
    };
    let module = item.interface.as_deref().unwrap_or(crate::code::WORLD).to_owned();
    Some(ImportProblem { module, name: item.name.to_string(), wanted: wanted.to_owned(), reason: reason.into() })
}

/// What a component imports of WASI as it is not. Wasmtime names it in its words: the interface first, and then what is in that.
fn unlike(error: &wasmtime::Error) -> ImportProblem {
    let texts: Vec<String> = error.chain().map(ToString::to_string).collect();
    let mut names = texts.iter().filter_map(|text| text.split('`').nth(1)).map(shown::name);
    let (module, name) = (names.next().unwrap_or_default(), names.next().unwrap_or_default());
    let reason = format!("WASI has no such import: {}", shown::text(&error.root_cause().to_string()));
    ImportProblem { module, name, wanted: "WASI 0.2".into(), reason: reason.into() }
}
