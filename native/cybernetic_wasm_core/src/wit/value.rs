//! Values of WIT's types, on their way between the driver and Wasmtime.

use super::Type;
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
        Self { ty: ty.clone(), passed }
    }

    /// The value as Wasmtime takes any.
    pub(crate) fn into_val(self) -> Val {
        match self.passed {
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
