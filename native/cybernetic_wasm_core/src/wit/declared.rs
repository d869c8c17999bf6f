//! A component's world as its WIT has it: the names of types, and what is said of them.
//!
//! What types are is known without it (`read.rs`), and no call goes by it: where a component has none that can be told, or too
//! much of it, it is left out.

use super::path;
use super::read::{MOST, USUAL_NAME};
use crate::error::shown;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use wit_component::{DecodedWasm, Output, OutputToString, WitPrinter};
use wit_parser::{
    Function, Handle, InterfaceId, PackageId, Resolve, TypeDef, TypeDefKind, TypeId, TypeOwner, WorldId, WorldItem,
    WorldKey,
};

/// Bytes of the text. All of WASI 0.2 has a quarter of it, docs included.
const MOST_TEXT: usize = 1 << 20;

/// What WIT says of a world.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// All of it, as text; `None` where that would be too long.
    pub text: Option<String>,
    /// What is imported.
    pub imports: Vec<Declaration>,
    /// What is exported.
    pub exports: Vec<Declaration>,
}

/// What WIT says of something that is imported or exported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declaration {
    /// The interface that it is in, if it is in one.
    pub interface: Option<String>,
    /// Its name there.
    pub name: String,
    /// What is said of it.
    pub docs: Option<String>,
    /// What it is.
    pub shape: Shape,
}

/// What a declaration is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// A function, with its parameters and its result.
    Func(Vec<(String, Spelt)>, Option<Spelt>),
    /// A type.
    Type(Spelt),
    /// A type of resources.
    Resource,
}

/// A type, as it is spelt: types that have names stand by them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spelt {
    /// One without parts.
    Plain(Plain),
    /// One that is declared under this name, with its interface.
    Named(String),
    /// `list<t>`.
    List(Box<Spelt>),
    /// `option<t>`.
    Option(Box<Spelt>),
    /// `tuple<…>`.
    Tuple(Vec<Spelt>),
    /// `record { … }`.
    Record(Vec<(String, Spelt)>),
    /// `variant { … }`.
    Variant(Vec<(String, Option<Spelt>)>),
    /// `enum { … }`.
    Enum(Vec<String>),
    /// `flags { … }`.
    Flags(Vec<String>),
    /// `result<t, e>`.
    Result(Option<Box<Spelt>>, Option<Box<Spelt>>),
    /// A handle that is given away.
    Own(String),
    /// A handle that is lent.
    Borrow(String),
}

/// A type without parts, by WIT's word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the words are WIT's")]
pub enum Plain {
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    Char,
    String,
}

impl Declared {
    /// What a component's bytes say. They are a stranger's, and have been found valid.
    pub(crate) fn read(component: &[u8]) -> Option<Self> {
        unharmed(|| match wit_component::decode(component).ok()? {
            DecodedWasm::Component(resolve, world) => Self::of(&resolve, world),
            DecodedWasm::WitPackage(resolve, package) => {
                Some(Self { text: text(&resolve, package), ..Self::default() })
            }
        })
    }

    /// What a file or a folder of WIT says of one of its worlds: of the only one, where none is named.
    pub fn parse(files: &Path, world: Option<&str>) -> Result<Self, String> {
        let mut resolve = Resolve::default();
        let found = resolve.push_path(files).and_then(|(package, _)| resolve.select_world(&[package], world));
        let world = found.map_err(|error| shown::text(&format!("{error:#}")))?;
        Self::of(&resolve, world).ok_or_else(|| "the world has a type that is not supported, or is too large".into())
    }

    fn of(resolve: &Resolve, world: WorldId) -> Option<Self> {
        let world = &resolve.worlds[world];
        let mut reading = Reading { resolve, interfaces: HashMap::new(), left: MOST };
        for (key, item) in world.imports.iter().chain(&world.exports) {
            if let WorldItem::Interface { id, .. } = item {
                reading.interfaces.insert(*id, resolve.name_world_key(key));
            }
        }
        let (imports, exports) = (reading.items(&world.imports)?, reading.items(&world.exports)?);
        let text = world.package.and_then(|package| unharmed(|| text(resolve, package)));
        Some(Self { text, imports, exports })
    }
}

/// What well-formed bytes make it do the reader says with a panic where it did not think of them.
fn unharmed<T>(work: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok().flatten()
}

/// All packages as text: types without names can share parts, and written out be of any size.
fn text(resolve: &Resolve, package: PackageId) -> Option<String> {
    let others: Vec<_> = resolve.packages.iter().map(|(id, _)| id).filter(|id| *id != package).collect();
    let mut printer = WitPrinter::new(Bounded { text: OutputToString::default(), left: MOST_TEXT });
    printer.print(resolve, package, &others).ok()?;
    Some(printer.output.text.into())
}

/// A text that ends the printer when it is too long: there is no other way to tell it.
struct Bounded {
    text: OutputToString,
    left: usize,
}

impl Bounded {
    fn count(&mut self, bytes: usize) {
        let Some(left) = self.left.checked_sub(bytes) else { resume_unwind(Box::new("the text is too long")) };
        self.left = left;
    }
}

impl Output for Bounded {
    fn push_str(&mut self, text: &str) {
        self.count(text.len());
        self.text.push_str(text);
    }

    fn indent_if_needed(&mut self) -> bool {
        self.text.indent_if_needed()
    }

    fn indent_start(&mut self) {
        self.count(1);
        self.text.indent_start();
    }

    fn indent_end(&mut self) {
        self.count(1);
        self.text.indent_end();
    }

    fn newline(&mut self) {
        self.count(1);
        self.text.newline();
    }
}

struct Reading<'r> {
    resolve: &'r Resolve,
    /// What the world calls its interfaces.
    interfaces: HashMap<InterfaceId, String>,
    /// Parts that may still be read.
    left: usize,
}

impl<'r> Reading<'r> {
    fn items(&mut self, items: impl IntoIterator<Item = (&'r WorldKey, &'r WorldItem)>) -> Option<Vec<Declaration>> {
        let mut found = Vec::new();
        for (key, item) in items {
            match (key, item) {
                (_, WorldItem::Interface { id, .. }) => self.interface(*id, &mut found)?,
                (WorldKey::Name(name), WorldItem::Function(func)) => found.push(self.func(None, name, func)?),
                (WorldKey::Name(name), WorldItem::Type { id, .. }) => found.push(self.definition(None, name, *id)?),
                (WorldKey::Interface(_), _) => return None,
            }
        }
        Some(found)
    }

    fn interface(&mut self, id: InterfaceId, found: &mut Vec<Declaration>) -> Option<()> {
        let interface = self.interfaces.get(&id)?.clone();
        let items = &self.resolve.interfaces[id];
        for (name, ty) in &items.types {
            found.push(self.definition(Some(&interface), name, *ty)?);
        }
        for (name, func) in &items.functions {
            found.push(self.func(Some(&interface), name, func)?);
        }
        Some(())
    }

    fn func(&mut self, interface: Option<&String>, name: &str, func: &Function) -> Option<Declaration> {
        let mut params = Vec::new();
        for param in &func.params {
            params.push((self.text(&param.name)?, self.ty(&param.ty)?));
        }
        let result = self.optional(func.result.as_ref())?;
        self.declaration((interface, name), func.docs.contents.as_deref(), Shape::Func(params, result))
    }

    fn definition(&mut self, interface: Option<&String>, name: &str, id: TypeId) -> Option<Declaration> {
        let TypeDef { kind, docs, .. } = &self.resolve.types[id];
        let shape = match kind {
            TypeDefKind::Resource => Shape::Resource,
            kind => Shape::Type(self.kind(kind)?),
        };
        self.declaration((interface, name), docs.contents.as_deref(), shape)
    }

    fn declaration(
        &mut self,
        (interface, name): (Option<&String>, &str),
        docs: Option<&str>,
        shape: Shape,
    ) -> Option<Declaration> {
        let interface = self.maybe(interface.map(String::as_str))?;
        let docs = self.maybe(docs.filter(|docs| !docs.is_empty()))?;
        Some(Declaration { interface, name: self.text(name)?, docs, shape })
    }

    fn maybe(&mut self, text: Option<&str>) -> Option<Option<String>> {
        text.map_or(Some(None), |text| self.text(text).map(Some))
    }

    /// A long text counts for several parts.
    fn text(&mut self, text: &str) -> Option<String> {
        self.count(1 + text.len() / USUAL_NAME)?;
        Some(text.to_owned())
    }

    fn count(&mut self, parts: usize) -> Option<()> {
        self.left = self.left.checked_sub(parts)?;
        Some(())
    }

    fn texts<'t>(&mut self, texts: impl Iterator<Item = &'t String>) -> Option<Vec<String>> {
        texts.map(|text| self.text(text)).collect()
    }

    fn optional(&mut self, ty: Option<&wit_parser::Type>) -> Option<Option<Spelt>> {
        ty.map_or(Some(None), |ty| self.ty(ty).map(Some))
    }

    fn ty(&mut self, ty: &wit_parser::Type) -> Option<Spelt> {
        self.count(1)?;
        let wit_parser::Type::Id(id) = ty else { return plain(ty).map(Spelt::Plain) };
        match self.path(*id) {
            Some(path) => Some(Spelt::Named(self.text(&path)?)),
            None => self.kind(&self.resolve.types[*id].kind),
        }
    }

    /// What a type that has a name is called by.
    fn path(&self, id: TypeId) -> Option<String> {
        let ty = &self.resolve.types[id];
        let interface = match ty.owner {
            TypeOwner::Interface(id) => self.interfaces.get(&id).cloned().or_else(|| self.resolve.id_of(id)),
            TypeOwner::World(_) | TypeOwner::None => None,
        };
        ty.name.as_ref().map(|name| path(interface.as_deref(), name))
    }

    fn kind(&mut self, kind: &TypeDefKind) -> Option<Spelt> {
        Some(match kind {
            TypeDefKind::Record(record) => {
                let mut fields = Vec::new();
                for field in &record.fields {
                    fields.push((self.text(&field.name)?, self.ty(&field.ty)?));
                }
                Spelt::Record(fields)
            }
            TypeDefKind::Variant(variant) => {
                let mut cases = Vec::new();
                for case in &variant.cases {
                    cases.push((self.text(&case.name)?, self.optional(case.ty.as_ref())?));
                }
                Spelt::Variant(cases)
            }
            TypeDefKind::Tuple(tuple) => Spelt::Tuple(tuple.types.iter().map(|ty| self.ty(ty)).collect::<Option<_>>()?),
            TypeDefKind::Enum(cases) => Spelt::Enum(self.texts(cases.cases.iter().map(|case| &case.name))?),
            TypeDefKind::Flags(flags) => Spelt::Flags(self.texts(flags.flags.iter().map(|flag| &flag.name))?),
            TypeDefKind::List(ty) => Spelt::List(self.ty(ty)?.into()),
            TypeDefKind::Option(ty) => Spelt::Option(self.ty(ty)?.into()),
            TypeDefKind::Result(types) => {
                let (ok, error) = (self.optional(types.ok.as_ref())?, self.optional(types.err.as_ref())?);
                Spelt::Result(ok.map(Box::new), error.map(Box::new))
            }
            TypeDefKind::Handle(Handle::Own(id)) => Spelt::Own(self.path(*id)?),
            TypeDefKind::Handle(Handle::Borrow(id)) => Spelt::Borrow(self.path(*id)?),
            TypeDefKind::Type(ty) => self.ty(ty)?,
            // Components with such are refused, and a bare type of resources is no value.
            TypeDefKind::Map(..)
            | TypeDefKind::FixedLengthList(..)
            | TypeDefKind::Future(_)
            | TypeDefKind::Stream(_)
            | TypeDefKind::Resource
            | TypeDefKind::Unknown => return None,
        })
    }
}

fn plain(ty: &wit_parser::Type) -> Option<Plain> {
    Some(match ty {
        wit_parser::Type::Bool => Plain::Bool,
        wit_parser::Type::S8 => Plain::S8,
        wit_parser::Type::U8 => Plain::U8,
        wit_parser::Type::S16 => Plain::S16,
        wit_parser::Type::U16 => Plain::U16,
        wit_parser::Type::S32 => Plain::S32,
        wit_parser::Type::U32 => Plain::U32,
        wit_parser::Type::S64 => Plain::S64,
        wit_parser::Type::U64 => Plain::U64,
        wit_parser::Type::F32 => Plain::F32,
        wit_parser::Type::F64 => Plain::F64,
        wit_parser::Type::Char => Plain::Char,
        wit_parser::Type::String => Plain::String,
        wit_parser::Type::ErrorContext | wit_parser::Type::Id(_) => return None,
    })
}
