//! WebAssembly values as owned Rust data, and their way in and out of a store.
//!
//! Floats are kept as bits, so that a NaN's payload survives. References hold an `Arc` or a handle that knows the store it
//! comes from: nothing here borrows from a store.

use crate::error::{CallError, Error, LimitError};
use crate::wit::Typed;
pub use wasmtime::{HeapType, RefType, ValType};

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};
use wasmtime::{AnyRef, AsContext, AsContextMut, ExternRef, Func, FuncType, Ref, Rooted, Val};

/// Something of the embedder's that an `externref` may hold.
pub trait HostValue: Any + Send + Sync {
    /// Bytes that it takes.
    fn size(&self) -> u64;

    /// The same number for those that are the same.
    fn digest(&self) -> u64;

    /// Whether it is the same as another, so that a guest that has one needs no other.
    fn same(&self, other: &dyn HostValue) -> bool;
}

/// Anything of the embedder's that an `externref` may hold.
pub type HostRef = Arc<dyn HostValue>;

/// The same, without keeping it alive.
pub(crate) type WeakHostRef = Weak<dyn HostValue>;

/// A value of the embedder's that a guest has, and that counts as its memory.
pub(crate) trait Held: Send + Sync {
    /// The value.
    fn host(&self) -> &HostRef;
}

/// One value.
#[derive(Clone)]
pub enum Value {
    /// `i32`.
    I32(i32),
    /// `i64`.
    I64(i64),
    /// `f32`, as bits.
    F32(u32),
    /// `f64`, as bits.
    F64(u64),
    /// `v128`, little-endian lanes.
    V128(u128),
    /// A null reference of any type.
    Null,
    /// A non-null `externref`.
    Extern(HostRef),
    /// A non-null `funcref`.
    Func(FuncRef),
    /// A non-null reference that has no form outside its store, by its type's name.
    Opaque(&'static str),
    /// A value of a component's, of any of WIT's types.
    Wit(Box<Typed>),
}

impl From<Typed> for Value {
    fn from(typed: Typed) -> Self {
        Value::Wit(Box::new(typed))
    }
}

/// A function reference, which is good in the store it came from and no other.
///
/// In one word, since a value has room for the largest that it may be, and most are numbers.
#[derive(Clone)]
pub struct FuncRef(Arc<Referred>);

struct Referred {
    func: Func,
    store: u64,
    ty: FuncType,
}

impl FuncRef {
    fn new(func: Func, store: impl AsContext<Data: Storing>) -> Self {
        Self(Arc::new(Referred { func, store: store.as_context().data().id(), ty: func.ty(store) }))
    }

    /// The types of its parameters.
    pub fn params(&self) -> Vec<ValType> {
        self.0.ty.params().collect()
    }

    /// How many results it has.
    pub(crate) fn results(&self) -> usize {
        self.0.ty.results().len()
    }

    /// Refuses a call with another number of arguments.
    pub fn check_arity(&self, given: usize) -> Result<(), CallError> {
        check_arity(&self.0.ty, self.0.ty.params().len(), given)
    }

    /// The function, in the store that it came from.
    pub(crate) fn func(&self, store: impl AsContext<Data: Storing>) -> Result<Func, CallError> {
        match self.0.store == store.as_context().data().id() {
            true => Ok(self.0.func),
            false => Err(CallError::OtherInstance),
        }
    }

    /// Whether it is of that type, and of that store.
    fn fits(&self, ty: &ValType, store: impl AsContext<Data: Storing>) -> bool {
        self.func(&store).is_ok_and(|func| Val::FuncRef(Some(func)).matches_ty(&store, ty).unwrap_or(false))
    }
}

impl fmt::Debug for FuncRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FuncRef({})", self.0.ty)
    }
}

/// What a store's data must know for values to go in and out.
pub(crate) trait Storing: Send + 'static {
    /// Tells the store from all others of this process: a function's reference is known by it.
    fn id(&self) -> u64;

    /// Takes a value of the embedder's in, as far as the guest may have more memory.
    fn hold(&mut self, host: &HostRef) -> Result<Arc<dyn Held>, LimitError>;
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::I32(v) => write!(f, "i32 {v}"),
            Value::I64(v) => write!(f, "i64 {v}"),
            Value::F32(v) => write!(f, "f32 {} ({v:#010x})", f32::from_bits(*v)),
            Value::F64(v) => write!(f, "f64 {} ({v:#018x})", f64::from_bits(*v)),
            Value::V128(v) => write!(f, "v128 {v:#034x}"),
            Value::Null => write!(f, "null"),
            Value::Extern(_) => write!(f, "externref"),
            Value::Func(_) => write!(f, "funcref"),
            Value::Opaque(kind) => write!(f, "{kind}"),
            Value::Wit(typed) => typed.fmt(f),
        }
    }
}

impl Value {
    /// What a local variable of this type begins with.
    pub(crate) fn zero(ty: &ValType) -> Value {
        match ty {
            ValType::I32 => Value::I32(0),
            ValType::I64 => Value::I64(0),
            ValType::F32 => Value::F32(0),
            ValType::F64 => Value::F64(0),
            ValType::V128 => Value::V128(0),
            ValType::Ref(_) => Value::Null,
        }
    }

    /// The value of a component's, if it is one.
    pub(crate) fn into_wit(self) -> Option<Box<Typed>> {
        if let Value::Wit(typed) = self { Some(typed) } else { None }
    }

    /// Whether it is a reference that is not null.
    pub(crate) fn is_reference(&self) -> bool {
        matches!(self, Value::Extern(_) | Value::Func(_) | Value::Opaque(_))
    }

    /// Takes a value out of its store.
    pub(crate) fn take(value: &Val, mut store: impl AsContextMut<Data: Storing>) -> wasmtime::Result<Value> {
        Ok(match value {
            Val::I32(v) => Value::I32(*v),
            Val::I64(v) => Value::I64(*v),
            Val::F32(v) => Value::F32(*v),
            Val::F64(v) => Value::F64(*v),
            Val::V128(v) => Value::V128(v.as_u128()),
            Val::FuncRef(Some(func)) => Value::Func(FuncRef::new(*func, &store)),
            Val::ExternRef(Some(reference)) => host_ref(reference, &store)?.unwrap_or(Value::Opaque("externref")),
            Val::AnyRef(Some(reference)) => take_any(reference, &mut store)?,
            Val::ExnRef(Some(_)) => Value::Opaque("exnref"),
            Val::ContRef(Some(_)) => Value::Opaque("contref"),
            _ => Value::Null,
        })
    }

    /// Puts the value into a store as a parameter or result of type `ty`; `index` says where it stands, for the error.
    /// A future has room for the largest that it may wait for, so the rare ones are boxed: every call would pay for them.
    pub(crate) async fn put(
        self,
        ty: &ValType,
        index: usize,
        mut store: impl AsContextMut<Data: Storing>,
    ) -> wasmtime::Result<Val> {
        let value = match (&self, ty) {
            (Value::I32(v), ValType::I32) => Val::I32(*v),
            (Value::I64(v), ValType::I64) => Val::I64(*v),
            (Value::F32(v), ValType::F32) => Val::F32(*v),
            (Value::F64(v), ValType::F64) => Val::F64(*v),
            (Value::V128(v), ValType::V128) => Val::V128((*v).into()),
            (Value::Null, ValType::Ref(ty)) if ty.is_nullable() => Ref::null(ty.heap_type()).into(),
            (Value::Extern(host), ValType::Ref(ty)) if matches!(ty.heap_type(), HeapType::Extern) => {
                Val::ExternRef(Some(Box::pin(external(host, &mut store)).await?))
            }
            (Value::Extern(host), ValType::Ref(ty)) if matches!(ty.heap_type(), HeapType::Any) => {
                let reference = Box::pin(external(host, &mut store)).await?;
                Val::AnyRef(Some(AnyRef::convert_extern(&mut store, reference)?))
            }
            (Value::Func(function), ValType::Ref(_)) if function.fits(ty, &store) => {
                Val::FuncRef(Some(function.0.func))
            }
            _ => return Err(Error::from(mismatch(&self, ty, index)).into()),
        };
        Ok(value)
    }

    /// Refuses what [`Value::put`] would not put into the store as a parameter of type `ty`.
    pub(crate) fn check(
        &self,
        ty: &ValType,
        index: usize,
        store: impl AsContext<Data: Storing>,
    ) -> Result<(), CallError> {
        let fits = match (self, ty) {
            (Value::I32(_), ValType::I32)
            | (Value::I64(_), ValType::I64)
            | (Value::F32(_), ValType::F32)
            | (Value::F64(_), ValType::F64)
            | (Value::V128(_), ValType::V128) => true,
            (Value::Null, ValType::Ref(ty)) => ty.is_nullable(),
            (Value::Extern(_), ValType::Ref(ty)) => matches!(ty.heap_type(), HeapType::Extern | HeapType::Any),
            (Value::Func(function), ValType::Ref(_)) => function.fits(ty, store),
            _ => false,
        };
        if fits { Ok(()) } else { Err(mismatch(self, ty, index)) }
    }
}

/// A reference to what `host` is. What the guest has let go of counts until it is collected, which happens seldom, since to the
/// guest's own heap it is small: here it is, before the guest is refused anything.
async fn external(host: &HostRef, mut store: impl AsContextMut<Data: Storing>) -> wasmtime::Result<Rooted<ExternRef>> {
    let mut store = store.as_context_mut();
    let held = match store.data_mut().hold(host) {
        Ok(held) => held,
        Err(_) => {
            store.gc_async(None).await?;
            store.data_mut().hold(host).map_err(Error::from)?
        }
    };
    ExternRef::new_async(store, held).await
}

/// What of the embedder's `reference` holds, if it does.
fn host_ref(reference: &Rooted<ExternRef>, store: impl AsContext) -> wasmtime::Result<Option<Value>> {
    let data = reference.data(store.as_context())?;
    Ok(data.and_then(|data| data.downcast_ref::<Arc<dyn Held>>()).map(|held| Value::Extern(Arc::clone(held.host()))))
}

/// An `externref` that the guest made an `anyref` of is still the embedder's.
fn take_any(reference: &Rooted<AnyRef>, mut store: impl AsContextMut) -> wasmtime::Result<Value> {
    Ok(if reference.is_i31(&store)? {
        Value::Opaque("i31ref")
    } else if reference.is_struct(&store)? {
        Value::Opaque("structref")
    } else if reference.is_array(&store)? {
        Value::Opaque("arrayref")
    } else {
        let external = ExternRef::convert_any(&mut store, *reference)?;
        host_ref(&external, &store)?.unwrap_or(Value::Opaque("anyref"))
    })
}

fn mismatch(value: &Value, ty: &ValType, index: usize) -> CallError {
    let expected = match (value, ty) {
        (Value::Func(_), ValType::Ref(_)) => format!("{} of the same instance", type_name(ty)),
        _ => type_name(ty),
    };
    CallError::Type { index, expected, given: format!("{value:?}") }
}

/// Refuses another number of values than a type wants.
pub(crate) fn check_arity(ty: &FuncType, expected: usize, given: usize) -> Result<(), CallError> {
    match expected == given {
        true => Ok(()),
        false => Err(CallError::Arity { expected, given, signature: signature(ty) }),
    }
}

/// Whether values of this type are references.
pub(crate) fn is_reference(ty: &ValType) -> bool {
    matches!(ty, ValType::Ref(_))
}

/// A value type in the text format's words, where the usual references have names of their own.
pub fn type_name(ty: &ValType) -> String {
    match ty {
        ValType::Ref(ty) => reference_name(ty),
        _ => ty.to_string(),
    }
}

/// A reference type: `funcref` for `(ref null func)`, and `(ref (func …))` for one to functions of some type. What type that is
/// may take any amount of text: it has others in it.
pub fn reference_name(ty: &RefType) -> String {
    let heap = ty.heap_type();
    let null = if ty.is_nullable() { "null " } else { "" };
    match heap {
        HeapType::ConcreteFunc(_) => format!("(ref {null}(func …))"),
        HeapType::ConcreteArray(_) => format!("(ref {null}(array …))"),
        HeapType::ConcreteStruct(_) => format!("(ref {null}(struct …))"),
        HeapType::ConcreteCont(_) => format!("(ref {null}(cont …))"),
        HeapType::ConcreteExn(_) => format!("(ref {null}(exn …))"),
        HeapType::None | HeapType::NoFunc | HeapType::NoExtern | HeapType::NoExn | HeapType::NoCont => ty.to_string(),
        _ if ty.is_nullable() => format!("{heap}ref"),
        _ => ty.to_string(),
    }
}

/// Parameters, or results, that a signature spells out. A thousand of each in hundreds of imports, which a module of a few
/// kilobytes can have, would be a hundred megabytes of text.
const SPELT_OUT: usize = 32;

/// A function's type in the text format's words: `(func (param i32) (result i32))`.
pub fn signature(ty: &FuncType) -> String {
    format!("(func{}{})", group("param", ty.params()), group("result", ty.results()))
}

fn group(word: &str, types: impl ExactSizeIterator<Item = ValType>) -> String {
    let others = types.len().saturating_sub(SPELT_OUT);
    let names: Vec<String> = types.take(SPELT_OUT).map(|ty| type_name(&ty)).collect();
    match (names.is_empty(), others) {
        (true, _) => String::new(),
        (false, 0) => format!(" ({word} {})", names.join(" ")),
        (false, others) => format!(" ({word} {} and {others} more)", names.join(" ")),
    }
}
