//! What a component's functions take and give: the types of WIT, and values of them.
//!
//! Wasmtime tells a component's types one by one, as handles that know the component. Here they are data of our own, which
//! outlives it and can be told to anybody.

mod declared;
mod handle;
mod read;
mod value;
mod wasi;
mod words;

pub use declared::{Declaration, Declared, Plain, Shape, Spelt};
pub(crate) use handle::Left;
pub use handle::{Carried, Handle, Owner, Term};
pub use read::Reader;
pub(crate) use value::visit;
pub use value::{Passed, Typed};
pub(crate) use wasi::{SERVED, interface, served};
pub use wasmtime::component::Val;

use crate::error::{CallError, shown};
use std::sync::Arc;

/// A name as WIT has it.
pub type Name = Arc<str>;

/// A type. Copies share what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// `bool`.
    Bool,
    /// `s8`.
    S8,
    /// `u8`.
    U8,
    /// `s16`.
    S16,
    /// `u16`.
    U16,
    /// `s32`.
    S32,
    /// `u32`.
    U32,
    /// `s64`.
    S64,
    /// `u64`.
    U64,
    /// `f32`.
    F32,
    /// `f64`.
    F64,
    /// `char`.
    Char,
    /// `string`.
    String,
    /// `list<t>`.
    List(Arc<Type>),
    /// `record { … }`.
    Record(Arc<[(Name, Type)]>),
    /// `tuple<…>`.
    Tuple(Arc<[Type]>),
    /// `variant { … }`.
    Variant(Arc<[(Name, Option<Type>)]>),
    /// `enum { … }`.
    Enum(Arc<[Name]>),
    /// `option<t>`.
    Option(Arc<Type>),
    /// `result<t, e>`.
    Result(Arc<(Option<Type>, Option<Type>)>),
    /// `flags { … }`.
    Flags(Arc<[Name]>),
    /// A handle that is given away.
    Own(Resource),
    /// A handle that is lent.
    Borrow(Resource),
}

/// A type of resources: which of the component's it is, and its name with that of its interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Tells it from the component's others.
    pub index: u32,
    /// `ns:pkg/interface#resource`, or the bare name of one that is in none.
    pub name: Name,
    /// Whether it is the embedder's, which the component imports, and not the component's own.
    pub host: bool,
    /// Whether it is the system's, which WASI gives and nobody else has.
    pub system: bool,
}

impl Type {
    /// Whether it is `list<u8>`, which is passed as bytes.
    pub fn is_bytes(&self) -> bool {
        matches!(self, Type::List(element) if **element == Type::U8)
    }

    /// Whether a value of it is a list, or has one in it: its size is then nobody's to know before.
    pub(crate) fn has_lists(&self) -> bool {
        self.any(&|ty| matches!(ty, Type::List(_)))
    }

    /// Whether a value of it is a resource, or has one in it.
    pub fn has_resources(&self) -> bool {
        self.any(&|ty| matches!(ty, Type::Own(_) | Type::Borrow(_)))
    }

    /// Whether a value of it is a resource of the embedder's, or has one in it: a term of any size.
    pub(crate) fn has_terms(&self) -> bool {
        self.any(&|ty| matches!(ty, Type::Own(resource) | Type::Borrow(resource) if resource.host))
    }

    /// Whether a value of it hands over a resource of the embedder's, or may.
    pub fn hands_terms(&self) -> bool {
        self.any(&|ty| matches!(ty, Type::Own(resource) if resource.host))
    }

    fn any(&self, is: &dyn Fn(&Type) -> bool) -> bool {
        let within = |ty: &Option<Type>| ty.as_ref().is_some_and(|ty| ty.any(is));
        is(self)
            || match self {
                Type::List(ty) | Type::Option(ty) => ty.any(is),
                Type::Record(fields) => fields.iter().any(|(_, ty)| ty.any(is)),
                Type::Tuple(types) => types.iter().any(|ty| ty.any(is)),
                Type::Variant(cases) => cases.iter().any(|(_, ty)| within(ty)),
                Type::Result(types) => within(&types.0) || within(&types.1),
                _ => false,
            }
    }
}

/// The type of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Func {
    /// Its parameters, with their names.
    pub params: Vec<(Name, Type)>,
    /// Its result, if it has one.
    pub result: Option<Type>,
    /// Whether its result has resources in it.
    pub gives_resources: bool,
}

impl Func {
    pub(crate) fn new(params: Vec<(Name, Type)>, result: Option<Type>) -> Self {
        let gives_resources = result.as_ref().is_some_and(Type::has_resources);
        Self { params, result, gives_resources }
    }

    /// Whether it takes or gives resources of the system's.
    pub(crate) fn has_system(&self) -> bool {
        let is_system =
            |ty: &Type| ty.any(&|ty| matches!(ty, Type::Own(resource) | Type::Borrow(resource) if resource.system));
        self.params.iter().any(|(_, ty)| is_system(ty)) || self.result.as_ref().is_some_and(is_system)
    }

    /// How many results it has.
    pub fn results(&self) -> usize {
        usize::from(self.result.is_some())
    }

    /// Refuses another number of values than is `expected`.
    pub fn check_arity(&self, expected: usize, given: usize) -> Result<(), CallError> {
        match expected == given {
            true => Ok(()),
            false => Err(CallError::Arity { expected, given, signature: shown::text(&self.to_string()) }),
        }
    }
}

/// Something that a component imports or exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The interface that it is in, with its version; `None` of what is the world's own.
    pub interface: Option<Name>,
    /// Its name there.
    pub name: Name,
    /// What it is.
    pub kind: Kind,
}

impl Item {
    /// What it is called by: `ns:pkg/interface@1.0.0#name`, or its bare name.
    pub fn path(&self) -> String {
        path(self.interface.as_deref(), &self.name)
    }
}

pub(crate) fn path(interface: Option<&str>, name: &str) -> String {
    interface.map_or_else(|| name.to_owned(), |interface| format!("{interface}#{name}"))
}

/// What an import or export is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A function.
    Func(Arc<Func>),
    /// A type that has a name.
    Type(Type),
    /// A type of resources.
    Resource(Resource),
    /// A module, a component, or something else that is no part of WIT.
    Other(&'static str),
}

/// The path without the version of its interface.
pub(crate) fn unversioned(path: &str) -> String {
    match path.split_once('@') {
        Some((before, after)) => match after.split_once('#') {
            Some((_, name)) => format!("{before}#{name}"),
            None => before.to_owned(),
        },
        None => path.to_owned(),
    }
}
