//! A component's instance, and calls of its functions.
//!
//! A call goes by Wasmtime's dynamic values, but for types that are mostly bytes or text, and for the plainest: each byte of a list is
//! a value of its own there, and takes a hundred nanoseconds. Those are called by their types.
//!
//! A failure of any kind leaves the store closed, or with what a result was that nobody could read: no other call is made there.

use super::bulk::or_bounds;
use super::failure::classify_component;
use super::resources::{Loans, Returns, claim, put, take};
use crate::code::{Export, Function};
use crate::error::{CallError, Error};
use crate::store::{GuestStore, StoreData};
use crate::value::{Storing, Value};
use crate::wit::{Func, Passed, Type, Typed};
use std::pin::Pin;
use std::sync::Arc;
use wasmtime::component::{ComponentNamedList, Instance, Lift, Lower, TypedFunc, Val};
use wasmtime::{AsContextMut, StoreContextMut};

/// A component's instance.
pub(crate) struct Component {
    instance: Instance,
    /// The function that was called last.
    last: Option<(Arc<Function>, Callee)>,
}

/// A function of one store.
enum Callee {
    Dynamic(wasmtime::component::Func),
    Typed(Box<dyn ByType>),
}

impl Component {
    pub(crate) fn new(instance: Instance) -> Self {
        Self { instance, last: None }
    }

    pub(super) fn instance(&self) -> Instance {
        self.instance
    }

    /// Calls a function.
    pub(super) async fn call(
        &mut self,
        store: &mut GuestStore,
        function: &Arc<Function>,
        mut args: Vec<Value>,
    ) -> Result<Vec<Value>, Error> {
        let func = check(function, &args)?;
        let _claims = claim(&mut args, func, store.data().id())?;
        drop_left(store).await?;
        if !self.last.as_ref().is_some_and(|(last, _)| last.is(function)) {
            self.last = Some((Arc::clone(function), self.find(store, function, func)?));
        }
        let Some((_, callee)) = &self.last else { return Err(Error::Internal("a function is not kept".into())) };
        match callee {
            Callee::Dynamic(callee) => dynamic(callee, store.as_context_mut(), func, args).await,
            Callee::Typed(callee) => {
                let called = callee.call(store, func, args).await;
                called.map_err(|error| explained(error, store))
            }
        }
    }

    fn find(&self, store: &mut GuestStore, function: &Function, func: &Func) -> Result<Callee, Error> {
        let found = find(self.instance, store.as_context_mut(), function)?;
        Ok(by_type(&found, func, store).map_or(Callee::Dynamic(found), Callee::Typed))
    }
}

/// Calls a function of a component that waits for a host function.
pub(crate) async fn call_again(
    mut store: StoreContextMut<'_, StoreData>,
    function: &Function,
    mut args: Vec<Value>,
) -> Result<Vec<Value>, Error> {
    let func = check(function, &args)?;
    let instance = store.data().component.ok_or(CallError::Component("it calls the host while it starts"))?;
    let _claims = claim(&mut args, func, store.data().id())?;
    let found = find(instance, store.as_context_mut(), function)?;
    Box::pin(dynamic(&found, store, func, args)).await
}

fn find(
    instance: Instance,
    store: StoreContextMut<'_, StoreData>,
    function: &Function,
) -> Result<wasmtime::component::Func, Error> {
    let Export::Component(export, _) = &function.export else {
        return Err(Error::Internal("a module's function is called in a component".into()));
    };
    // One that answers requests is called with what the guest's own table has, and no other way.
    if function.wit().is_some_and(|func| func.has_system()) {
        return Err(
            CallError::Component("the function takes or gives a resource of WASI's, which nobody else has").into()
        );
    }
    instance.get_func(store, export).ok_or_else(|| Error::Internal("a function export is gone".into()))
}

/// The function's type, if the arguments are of it: Wasmtime must not be given others.
fn check<'f>(function: &'f Function, args: &[Value]) -> Result<&'f Func, Error> {
    function.check_arity(args.len())?;
    let func = function.wit().ok_or_else(|| Error::Internal("a module's function is called in a component".into()))?;
    for (index, (value, (_, ty))) in args.iter().zip(&func.params).enumerate() {
        if !matches!(value, Value::Wit(typed) if typed.ty == *ty) {
            return Err(CallError::Type { index, expected: ty.to_string(), given: format!("{value:?}") }.into());
        }
    }
    Ok(func)
}

/// Drops the guest's resources that the embedder has let go of since the last call. What the guest does then is part of this one.
async fn drop_left(store: &mut GuestStore) -> Result<(), Error> {
    while let Some(resource) = store.data().resources.next_left() {
        let invocation = Arc::clone(&store.data().invocation);
        invocation.breathe().await;
        let dropped = Box::pin(resource.resource_drop_async(&mut *store)).await;
        dropped.map_err(|error| explained(error, &mut *store))?;
    }
    Ok(())
}

/// Calls by dynamic values.
async fn dynamic(
    callee: &wasmtime::component::Func,
    mut store: StoreContextMut<'_, StoreData>,
    func: &Func,
    args: Vec<Value>,
) -> Result<Vec<Value>, Error> {
    let mut loans = Loans::default();
    let args = args.into_iter().filter_map(Value::into_wit);
    let params: Vec<Val> =
        args.map(|typed| put(*typed, &mut loans, store.as_context_mut())).collect::<Result<_, _>>()?;
    let mut results = vec![Val::Bool(false); func.results()];
    let called = callee.call_async(store.as_context_mut(), &params, &mut results).await;
    called.map_err(|error| explained(error, store.as_context_mut()))?;
    loans.end(store.as_context_mut())?;
    let results = results.into_iter().zip(&func.result);
    results.map(|(value, ty)| Ok(received(value, ty, func, store.as_context_mut())?.into())).collect()
}

fn received(value: Val, ty: &Type, func: &Func, mut store: StoreContextMut<'_, StoreData>) -> Result<Typed, Error> {
    if !func.gives_resources {
        return Ok(Typed::taken(value, ty));
    }
    let mut returns = Returns::default();
    let value = take(value, ty, &mut returns, store.as_context_mut())?;
    returns.make(&mut store);
    Ok(value)
}

/// What a failed call means to the caller.
pub(crate) fn explained(error: wasmtime::Error, mut store: impl AsContextMut<Data = StoreData>) -> Error {
    let error = or_bounds(error, &mut store);
    let data = store.as_context();
    classify_component(error, &data.data().invocation, &data.data().code)
}

type Calling<'a> = Pin<Box<dyn Future<Output = wasmtime::Result<Vec<Value>>> + Send + 'a>>;

/// A function that is called by its type.
trait ByType: Send + Sync {
    fn call<'a>(&'a self, store: &'a mut GuestStore, func: &'a Func, args: Vec<Value>) -> Calling<'a>;
}

impl<P, R> ByType for TypedFunc<P, (R,)>
where
    P: Takes + ComponentNamedList + Lower + Send + Sync + 'static,
    R: Gives + Send + Sync + 'static,
    (R,): ComponentNamedList + Lift,
{
    fn call<'a>(&'a self, store: &'a mut GuestStore, func: &'a Func, args: Vec<Value>) -> Calling<'a> {
        Box::pin(async move {
            let params = P::take(args).ok_or_else(|| Error::Internal("an argument is of another type".into()))?;
            let (result,) = self.call_async(store, params).await?;
            let result = func.result.clone().map(|ty| Typed { ty, passed: result.give(), carried: Vec::new() }.into());
            Ok(result.into_iter().collect())
        })
    }
}

/// Parameters.
trait Takes: Sized {
    fn take(args: Vec<Value>) -> Option<Self>;
}

/// One parameter.
trait Take: Sized {
    fn is(ty: &Type) -> bool;
    fn take(value: Typed) -> Option<Self>;
}

/// A result.
trait Gives {
    fn is(ty: &Type) -> bool;
    fn give(self) -> Passed;
}

impl Take for Vec<u8> {
    fn is(ty: &Type) -> bool {
        ty.is_bytes()
    }

    fn take(value: Typed) -> Option<Self> {
        if let Passed::Bytes(bytes) = value.passed { Some(bytes) } else { None }
    }
}

impl Take for String {
    fn is(ty: &Type) -> bool {
        *ty == Type::String
    }

    fn take(value: Typed) -> Option<Self> {
        if let Passed::Val(Val::String(text)) = value.passed { Some(text) } else { None }
    }
}

impl Take for u32 {
    fn is(ty: &Type) -> bool {
        *ty == Type::U32
    }

    fn take(value: Typed) -> Option<Self> {
        if let Passed::Val(Val::U32(number)) = value.passed { Some(number) } else { None }
    }
}

impl Takes for () {
    fn take(_args: Vec<Value>) -> Option<Self> {
        Some(())
    }
}

impl<A: Take> Takes for (A,) {
    fn take(args: Vec<Value>) -> Option<Self> {
        let mut args = args.into_iter().filter_map(Value::into_wit);
        Some((A::take(*args.next()?)?,))
    }
}

impl<A: Take, B: Take> Takes for (A, B) {
    fn take(args: Vec<Value>) -> Option<Self> {
        let mut args = args.into_iter().filter_map(Value::into_wit);
        Some((A::take(*args.next()?)?, B::take(*args.next()?)?))
    }
}

impl Gives for Vec<u8> {
    fn is(ty: &Type) -> bool {
        ty.is_bytes()
    }

    fn give(self) -> Passed {
        Passed::Bytes(self)
    }
}

impl Gives for String {
    fn is(ty: &Type) -> bool {
        *ty == Type::String
    }

    fn give(self) -> Passed {
        Passed::Val(Val::String(self))
    }
}

impl Gives for u32 {
    fn is(ty: &Type) -> bool {
        *ty == Type::U32
    }

    fn give(self) -> Passed {
        Passed::Val(Val::U32(self))
    }
}

impl Gives for Option<Vec<u8>> {
    fn is(ty: &Type) -> bool {
        matches!(ty, Type::Option(inner) if inner.is_bytes())
    }

    fn give(self) -> Passed {
        Passed::Optional(self)
    }
}

impl Gives for Result<String, String> {
    fn is(ty: &Type) -> bool {
        let is_text = |ty: &Option<Type>| ty.as_ref() == Some(&Type::String);
        matches!(ty, Type::Result(types) if is_text(&types.0) && is_text(&types.1))
    }

    fn give(self) -> Passed {
        let boxed = |text| Some(Box::new(Val::String(text)));
        Passed::Val(Val::Result(self.map(boxed).map_err(boxed)))
    }
}

impl Gives for Result<Vec<u8>, String> {
    fn is(ty: &Type) -> bool {
        let is_text = |ty: &Type| *ty == Type::String;
        matches!(ty, Type::Result(types)
            if types.0.as_ref().is_some_and(Type::is_bytes) && types.1.as_ref().is_some_and(is_text))
    }

    fn give(self) -> Passed {
        Passed::Fallible(self)
    }
}

/// The function by its type, if it has this one.
macro_rules! shape {
    ($func:ident, $found:ident, $store:ident; ($($param:ty),*) -> $result:ty) => {
        let mut params = $func.params.iter();
        let takes = $(params.next().is_some_and(|(_, ty)| <$param as Take>::is(ty)) &&)* params.next().is_none();
        if takes && $func.result.as_ref().is_some_and(<$result as Gives>::is) {
            return Some(Box::new($found.typed::<($($param,)*), ($result,)>(&*$store).ok()?));
        }
    };
}

/// The function by its type, if it has one of these: parameters before the arrow, of each of the results after it.
macro_rules! shapes {
    ($func:ident, $found:ident, $store:ident; $($params:tt -> $($result:ty)|+;)*) => {
        $(shapes!(@each $func, $found, $store; $params; $($result)|+);)*
    };
    (@each $func:ident, $found:ident, $store:ident; $params:tt; $($result:ty)|+) => {
        $(shape!($func, $found, $store; $params -> $result);)+
    };
}

type Bytes = Vec<u8>;
type Text = String;
type Fallible = Result<Bytes, Text>;

fn by_type(found: &wasmtime::component::Func, func: &Func, store: &mut GuestStore) -> Option<Box<dyn ByType>> {
    shapes! { func, found, store;
        () -> Bytes | Text | Option<Bytes> | Fallible;
        (u32) -> Bytes | Text | Option<Bytes> | Fallible;
        (u32, u32) -> u32;
        (Text) -> Bytes | Text | Result<Text, Text> | Option<Bytes> | Fallible;
        (Bytes) -> Bytes | Text | u32 | Option<Bytes> | Fallible;
        (Text, Bytes) -> Bytes | Text | u32 | Option<Bytes> | Fallible;
        (Bytes, Bytes) -> Bytes | Text | u32 | Option<Bytes> | Fallible;
    }
    None
}
