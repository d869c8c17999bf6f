//! What is known of a component: its world, and its functions by what they are called.

use super::Import;
use crate::error::{CallError, LoadError, shown};
use crate::wit::{Func, Item, Kind, Reader, Type, unversioned};
use std::collections::HashMap;
use std::sync::Arc;
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex};

/// The function of a component that answers requests, in whichever version of its interface.
pub const HANDLER: &str = "wasi:http/incoming-handler#handle";

/// A component, loaded into an engine.
pub(crate) struct ComponentBody {
    pub(crate) wasmtime: Component,
    pub(crate) imports: Vec<Item>,
    pub(crate) exports: Vec<Item>,
    /// Exported functions by what they are called: their own names, and those without a version. Of several that are called
    /// alike, all.
    names: HashMap<String, Vec<usize>>,
    /// Memories that an instance has.
    memories: u32,
}

impl ComponentBody {
    pub(super) fn new(engine: &Engine, wasmtime: Component) -> Result<Self, LoadError> {
        let (imports, exports) = Reader::read(engine, &wasmtime)?;
        let unknown = || LoadError::Unsupported("it imports modules or components: only what is a whole is run".into());
        let required = wasmtime.resources_required().ok_or_else(unknown)?;
        Ok(Self { names: names(&exports), memories: required.num_memories, wasmtime, imports, exports })
    }

    /// Memories that an instance has.
    pub(super) fn memories(&self) -> u32 {
        self.memories
    }

    /// Whether it is a program: it exports `wasi:cli/run`, whatever its version.
    pub(super) fn is_command(&self) -> bool {
        const RUN: &str = "wasi:cli/run#run";
        let found = self.names.get(RUN).and_then(|found| self.exports.get(*found.first()?));
        let func = found.and_then(|item| if let Kind::Func(func) = &item.kind { Some(func) } else { None });
        func.is_some_and(|func| {
            let empty = matches!(&func.result, Some(Type::Result(types)) if **types == (None, None));
            func.params.is_empty() && empty
        })
    }

    /// The functions that it imports, in order.
    pub(super) fn imported(&self) -> Vec<Import> {
        self.imports.iter().filter_map(Import::of_component).collect()
    }

    /// The function that is called so.
    pub(super) fn find(&self, name: &str) -> Result<(&Item, &Arc<Func>, ComponentExportIndex), CallError> {
        let found = self.names.get(name).map_or(&[][..], Vec::as_slice);
        let item = match found {
            [only] => &self.exports[*only],
            [] => return Err(self.missing(name)),
            several => {
                let known = several.iter().map(|index| shown::name(&self.exports[*index].path())).collect();
                return Err(CallError::AmbiguousExport { name: shown::name(name), known });
            }
        };
        let interface = item.interface.as_deref();
        let parent = interface.and_then(|name| self.wasmtime.get_export_index(None, name));
        let export = self.wasmtime.get_export_index(parent.as_ref(), &*item.name);
        match (&item.kind, export) {
            // But for those of a request, which the guest's own table has.
            (Kind::Func(func), _) if func.has_system() && unversioned(&item.path()) != HANDLER => {
                Err(CallError::Component("the function takes or gives a resource of WASI's, which nobody else has"))
            }
            (Kind::Func(func), Some(export)) if interface.is_none() || parent.is_some() => Ok((item, func, export)),
            _ => Err(self.missing(name)),
        }
    }

    fn missing(&self, name: &str) -> CallError {
        let functions = self.exports.iter().filter(|item| matches!(item.kind, Kind::Func(_)));
        let known = functions.take(super::outline::KNOWN_NAMES).map(|item| shown::name(&item.path())).collect();
        CallError::NoSuchExport { name: shown::name(name), expected: "function", known }
    }
}

fn names(exports: &[Item]) -> HashMap<String, Vec<usize>> {
    let functions = exports.iter().enumerate().filter(|(_, item)| matches!(item.kind, Kind::Func(_)));
    let paths: Vec<_> = functions.map(|(index, item)| (index, item.path())).collect();
    let mut names: HashMap<String, Vec<usize>> =
        paths.iter().map(|(index, path)| (path.clone(), vec![*index])).collect();
    let mut short: HashMap<String, Vec<usize>> = HashMap::new();
    for (index, path) in &paths {
        short.entry(unversioned(path)).or_default().push(*index);
    }
    for (name, indices) in short {
        names.entry(name).or_insert(indices);
    }
    names
}
