//! Linking a component: the interfaces of WASI are those of the guest's system; each other function that it imports is a trampoline
//! that asks the driver, and each other type of resources is the embedder's, known by its index. What else it may import are types
//! of the interfaces' own, which need nothing, and whole modules, which nothing is there for.

use super::{Linked, Linkers, Ready};
use crate::code::{Code, ComponentBody};
use crate::error::{Error, ImportProblem, shown};
use crate::host::ask_of_component;
use crate::store::StoreData;
use crate::wit::{Item, Kind, Resource, interface, served};
use std::borrow::Cow;
use wasmtime::component::{Linker, LinkerInstance, ResourceType};

/// Binds every imported function and type of resources of a component, once and for all. Of WASI's, those functions whose indices are among the `answered` are
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
    let mut imports = 0..code.imports().len() as u32;
    let items = component.imports.iter().filter_map(|item| match item.kind {
        Kind::Func(_) => {
            imports.next().filter(|import| !is_of_wasi(item) || answered.contains(import)).map(|import| (import, item))
        }
        Kind::Resource(_) => (!is_of_wasi(item)).then_some((u32::MAX, item)),
        Kind::Type(_) | Kind::Other(_) => None,
    });
    let items: Vec<_> = items.collect();
    // What is of one interface follows each other.
    for interface in items.chunk_by(|(_, one), (_, other)| one.interface == other.interface) {
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

/// Defines what is of one interface: functions, with the numbers of their imports, and types of resources.
fn define(linker: &mut Linker<StoreData>, items: &[(u32, &Item)]) -> wasmtime::Result<()> {
    let name = items.first().and_then(|(_, item)| item.interface.as_deref());
    let mut instance: LinkerInstance<'_, StoreData> = match name {
        // What is defined of WASI's is, in the version that the linker has: one with a part of it in another would hide the rest.
        Some(name) => linker.instance(&served(name).map_or(Cow::Borrowed(name), |name| interface(name).into()))?,
        None => linker.root(),
    };
    items.iter().try_for_each(|(import, item)| match &item.kind {
        Kind::Resource(resource) => define_resource(&mut instance, &item.name, resource),
        _ => define_function(&mut instance, &item.name, *import),
    })
}

fn define_function(instance: &mut LinkerInstance<'_, StoreData>, name: &str, import: u32) -> wasmtime::Result<()> {
    instance.func_new_async(name, move |store, _ty, params, results| ask_of_component(import, store, params, results))
}

/// A type that several names are of is the same under each.
fn define_resource(
    instance: &mut LinkerInstance<'_, StoreData>,
    name: &str,
    resource: &Resource,
) -> wasmtime::Result<()> {
    instance.resource(name, ResourceType::host_dynamic(resource.index), |mut store, number| {
        store.data_mut().resources.end(number);
        Ok(())
    })
}

fn problem(item: &Item) -> Option<ImportProblem> {
    let (wanted, reason) = match &item.kind {
        _ if is_of_wasi(item) => return None,
        Kind::Resource(resource) if resource.system => ("resource", "one of WASI's, which is given by WASI alone"),
        Kind::Func(_) | Kind::Type(_) | Kind::Resource(_) => return None,
        Kind::Other(kind) => (*kind, "nothing to link it to: only functions and resources can be given"),
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
