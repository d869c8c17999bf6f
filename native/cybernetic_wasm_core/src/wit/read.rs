//! Reading a component's types.
//!
//! Types share parts, so that a short text can describe one of any size: what they come to, written out, is bounded.

use super::{Func, Item, Kind, Name, Resource, Type, served};
use crate::error::LoadError;
use std::sync::Arc;
use wasmtime::Engine;
use wasmtime::component::types::{self, ComponentFunc, ComponentItem, Type as Known};
use wasmtime::component::{Component, ResourceType};

/// Types, fields, cases and names of all that a component imports and exports, written out. All interfaces of WASI 0.2 together
/// have a few thousand.
pub(super) const MOST: usize = 100_000;

/// Bytes of a name that counts as one part.
pub(super) const USUAL_NAME: usize = 32;

/// Reads the types of one component.
#[derive(Debug)]
pub struct Reader<'e> {
    engine: &'e Engine,
    left: usize,
    resources: Vec<(ResourceType, Name)>,
    /// How many of these are imported: all that there are, as long as imports are read.
    imported: usize,
}

type Read<T> = Result<T, LoadError>;

impl<'e> Reader<'e> {
    /// What a component imports and exports, in order.
    pub fn read(engine: &'e Engine, component: &Component) -> Read<(Vec<Item>, Vec<Item>)> {
        let mut reader = Self { engine, left: MOST, resources: Vec::new(), imported: usize::MAX };
        let ty = component.component_type();
        let imports = reader.world(ty.imports(engine))?;
        reader.imported = reader.resources.len();
        Ok((imports, reader.world(ty.exports(engine))?))
    }

    fn world<'a>(&mut self, items: impl Iterator<Item = (&'a str, types::ComponentExtern<'a>)>) -> Read<Vec<Item>> {
        let mut found = Vec::new();
        for (name, item) in items {
            match item.ty {
                ComponentItem::ComponentInstance(instance) => {
                    let interface = self.name(name)?;
                    for (name, item) in instance.exports(self.engine) {
                        found.push(self.item(Some(&interface), name, item.ty)?);
                    }
                }
                other => found.push(self.item(None, name, other)?),
            }
        }
        Ok(found)
    }

    fn item(&mut self, interface: Option<&Name>, name: &str, item: ComponentItem) -> Read<Item> {
        let kind = match item {
            ComponentItem::ComponentFunc(func) => Kind::Func(Arc::new(self.func(&func)?)),
            ComponentItem::Type(ty) => Kind::Type(self.ty(&ty)?),
            ComponentItem::Resource(ty) => {
                let path = super::path(interface.map(|name| &**name), name);
                Kind::Resource(self.resource(ty, Some(path))?)
            }
            ComponentItem::Module(_) | ComponentItem::CoreFunc(_) => Kind::Other("module"),
            ComponentItem::Component(_) => Kind::Other("component"),
            ComponentItem::ComponentInstance(_) => Kind::Other("instance"),
        };
        Ok(Item { interface: interface.cloned(), name: self.name(name)?, kind })
    }

    fn func(&mut self, func: &ComponentFunc) -> Read<Func> {
        if func.async_() {
            return Err(LoadError::Unsupported("it has an async function: calls of components are synchronous".into()));
        }
        let mut params = Vec::new();
        for (name, ty) in func.params() {
            params.push((self.name(name)?, self.ty(&ty)?));
        }
        let result = func.results().next().map(|ty| self.ty(&ty)).transpose()?;
        Ok(Func::new(params, result))
    }

    /// A long name counts for several parts.
    fn name(&mut self, name: &str) -> Read<Name> {
        self.count(1 + name.len() / USUAL_NAME)?;
        Ok(name.into())
    }

    fn count(&mut self, parts: usize) -> Read<()> {
        let too_many = || LoadError::Unsupported(format!("its types come to more than {MOST} parts, written out"));
        self.left = self.left.checked_sub(parts).ok_or_else(too_many)?;
        Ok(())
    }

    /// The type of resources: known by the name that it was met by first.
    fn resource(&mut self, ty: ResourceType, path: Option<String>) -> Read<Resource> {
        self.count(1)?;
        if let Some(index) = self.resources.iter().position(|(known, _)| *known == ty) {
            return Ok(self.known(index));
        }
        let name: Name = path.unwrap_or_else(|| "resource".to_owned()).into();
        self.resources.push((ty, name));
        Ok(self.known(self.resources.len() - 1))
    }

    fn known(&self, index: usize) -> Resource {
        let name = Arc::clone(&self.resources[index].1);
        // It was met where it is declared: what uses it comes later.
        let interface = name.split_once('#').map_or(&*name, |(interface, _)| interface);
        let (imported, system) = (index < self.imported, served(interface).is_some());
        Resource { index: index as u32, host: imported && !system, system: imported && system, name }
    }

    fn optional(&mut self, ty: Option<Known>) -> Read<Option<Type>> {
        ty.map(|ty| self.ty(&ty)).transpose()
    }

    fn names<'a>(&mut self, names: impl Iterator<Item = &'a str>) -> Read<Arc<[Name]>> {
        names.map(|name| self.name(name)).collect()
    }

    fn ty(&mut self, ty: &Known) -> Read<Type> {
        self.count(1)?;
        Ok(match ty {
            Known::Bool => Type::Bool,
            Known::S8 => Type::S8,
            Known::U8 => Type::U8,
            Known::S16 => Type::S16,
            Known::U16 => Type::U16,
            Known::S32 => Type::S32,
            Known::U32 => Type::U32,
            Known::S64 => Type::S64,
            Known::U64 => Type::U64,
            Known::Float32 => Type::F32,
            Known::Float64 => Type::F64,
            Known::Char => Type::Char,
            Known::String => Type::String,
            Known::List(list) => Type::List(Arc::new(self.ty(&list.ty())?)),
            Known::Record(record) => {
                let mut fields = Vec::new();
                for field in record.fields() {
                    fields.push((self.name(field.name)?, self.ty(&field.ty)?));
                }
                Type::Record(fields.into())
            }
            Known::Tuple(tuple) => Type::Tuple(tuple.types().map(|ty| self.ty(&ty)).collect::<Read<_>>()?),
            Known::Variant(variant) => {
                let mut cases = Vec::new();
                for case in variant.cases() {
                    cases.push((self.name(case.name)?, self.optional(case.ty)?));
                }
                Type::Variant(cases.into())
            }
            Known::Enum(cases) => Type::Enum(self.names(cases.names())?),
            Known::Option(option) => Type::Option(Arc::new(self.ty(&option.ty())?)),
            Known::Result(result) => {
                Type::Result(Arc::new((self.optional(result.ok())?, self.optional(result.err())?)))
            }
            Known::Flags(flags) => Type::Flags(self.names(flags.names())?),
            Known::Own(ty) => Type::Own(self.resource(*ty, None)?),
            Known::Borrow(ty) => Type::Borrow(self.resource(*ty, None)?),
            Known::Map(_) => return Err(unsupported("a map")),
            Known::FixedLengthList(_) => return Err(unsupported("a list of a fixed length")),
            Known::Future(_) | Known::Stream(_) | Known::ErrorContext => {
                return Err(unsupported("a future or a stream"));
            }
        })
    }
}

fn unsupported(what: &str) -> LoadError {
    LoadError::Unsupported(format!("one of its functions takes or gives {what}, which is not supported"))
}
