//! Values of WIT's types, on their way between the driver and Wasmtime.

use super::{Carried, Resource, Type};
use crate::error::Error;
use std::fmt;
use wasmtime::component::Val;

/// A value with its type. Whoever makes one has looked that it is of that type: Wasmtime, which finds out later, leaves behind
/// what it has begun with.
#[derive(Clone)]
pub struct Typed {
    /// Its type.
    pub ty: Type,
    /// What is passed.
    pub passed: Passed,
    /// The resources that are in it.
    pub carried: Vec<Carried>,
}

/// A value as it is passed. A value of Wasmtime's has room for the largest in every byte of a list: what is mostly bytes goes
/// another way, where a function is of one of the types that have it.
#[derive(Clone)]
pub enum Passed {
    /// Any value.
    Val(Val),
    /// A `list<u8>`.
    Bytes(Vec<u8>),
    /// An `option<list<u8>>`.
    Optional(Option<Vec<u8>>),
    /// A `result<list<u8>, string>`.
    Fallible(Result<Vec<u8>, String>),
}

// What is in it may be long, and a secret.
impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ty)
    }
}

impl Typed {
    /// A value that Wasmtime has given.
    pub(crate) fn taken(value: Val, ty: &Type) -> Self {
        let passed = match value {
            Val::List(elements) if ty.is_bytes() => Passed::Bytes(elements.iter().filter_map(byte).collect()),
            other => Passed::Val(other),
        };
        Self { ty: ty.clone(), passed, carried: Vec::new() }
    }
}

impl Passed {
    /// The value as Wasmtime takes any, but for the resources in it.
    pub(crate) fn into_val(self) -> Val {
        match self {
            Passed::Val(value) => value,
            Passed::Bytes(bytes) => list(bytes),
            Passed::Optional(bytes) => Val::Option(bytes.map(|bytes| Box::new(list(bytes)))),
            Passed::Fallible(result) => Val::Result(match result {
                Ok(bytes) => Ok(Some(Box::new(list(bytes)))),
                Err(text) => Err(Some(Box::new(Val::String(text)))),
            }),
        }
    }
}

fn byte(value: &Val) -> Option<u8> {
    if let Val::U8(byte) = value { Some(*byte) } else { None }
}

fn list(bytes: Vec<u8>) -> Val {
    Val::List(bytes.into_iter().map(Val::U8).collect())
}

/// Looks at each place of a resource in a value of this type, in order. The type says of each whether it is lent.
pub(crate) fn visit<F>(value: &mut Val, ty: &Type, see: &mut F) -> Result<(), Error>
where
    F: FnMut(&mut Val, &Resource, bool) -> Result<(), Error>,
{
    match (value, ty) {
        (place, Type::Own(resource)) => see(place, resource, false),
        (place, Type::Borrow(resource)) => see(place, resource, true),
        // A long list of what has none is not gone through.
        (Val::List(values), Type::List(ty)) if ty.has_resources() => {
            values.iter_mut().try_for_each(|value| visit(value, ty, see))
        }
        (Val::Record(values), Type::Record(fields)) => {
            values.iter_mut().zip(&**fields).try_for_each(|((_, value), (_, ty))| visit(value, ty, see))
        }
        (Val::Tuple(values), Type::Tuple(types)) => {
            values.iter_mut().zip(&**types).try_for_each(|(value, ty)| visit(value, ty, see))
        }
        (Val::Variant(name, Some(value)), Type::Variant(cases)) => {
            let ty = cases.iter().find(|(known, _)| **known == **name).and_then(|(_, ty)| ty.as_ref());
            ty.map_or(Ok(()), |ty| visit(value, ty, see))
        }
        (Val::Option(Some(value)), Type::Option(ty)) => visit(value, ty, see),
        (Val::Result(Ok(Some(value))), Type::Result(types)) => inside(value, &types.0, see),
        (Val::Result(Err(Some(value))), Type::Result(types)) => inside(value, &types.1, see),
        _ => Ok(()),
    }
}

fn inside<F>(value: &mut Val, ty: &Option<Type>, see: &mut F) -> Result<(), Error>
where
    F: FnMut(&mut Val, &Resource, bool) -> Result<(), Error>,
{
    ty.as_ref().map_or(Ok(()), |ty| visit(value, ty, see))
}
