//! Functions of a guest, ready to be called.
//!
//! Wasmtime looks a function's type up at every dynamic call, which takes longer than a short function does. Most exports
//! take a few `i32` and give one number or none: those are called by the type that they were found with.

use super::bulk::or_bounds;
use super::exception::uncaught;
use super::failure::classify;
use crate::code::Function;
use crate::error::Error;
use crate::store::StoreData;
use crate::value::{FuncRef, Value};
use smallvec::SmallVec;
use wasmtime::{AsContext, AsContextMut, Extern, Func, RootScope, TypedFunc, Val, ValType};

/// What the arguments must be for a typed call; anything else is the dynamic call's affair, which has the words for it.
fn i32s<const COUNT: usize>(args: &[Value]) -> Option<[i32; COUNT]> {
    let mut numbers = [0; COUNT];
    for (number, value) in numbers.iter_mut().zip(args) {
        let Value::I32(value) = value else { return None };
        *number = *value;
    }
    (args.len() == COUNT).then_some(numbers)
}

macro_rules! callees {
    ($($shape:ident: [$($param:ident),*] -> $result:ty, $kind:pat, |$value:pat_param| $values:expr;)*) => {
        /// A function of one store.
        pub(crate) enum Callee {
            Dynamic(Func),
            $($shape(TypedFunc<($(callees!(@i32 $param),)*), $result>),)*
        }

        impl Callee {
            /// `func`, which is of the type of `function`.
            pub(crate) fn new(store: impl AsContextMut, func: Func, function: &Function) -> Self {
                let plain = function.params().iter().all(|ty| matches!(ty, ValType::I32));
                let typed = match (function.params().len(), function.results()) {
                    _ if !plain => None,
                    $((count, $kind) if count == callees!(@count $($param)*) => {
                        func.typed(&store).ok().map(Callee::$shape)
                    })*
                    _ => None,
                };
                typed.unwrap_or(Callee::Dynamic(func))
            }

            /// Calls it. The results take the arguments' room, so that a short call allocates once less.
            pub(crate) async fn call(
                &self,
                mut store: impl AsContextMut<Data = StoreData>,
                function: &Function,
                mut args: Vec<Value>,
            ) -> wasmtime::Result<Vec<Value>> {
                match self {
                    $(Callee::$shape(func) => {
                        if let Some([$($param),*]) = i32s(&args) {
                            let result = func.call_async(&mut store, ($($param,)*)).await;
                            let $value = result.map_err(|error| uncaught(&mut store, error))?;
                            args.clear();
                            args.extend($values);
                            return Ok(args);
                        }
                        Box::pin(dynamic(*func.func(), store, shape(function), args)).await
                    })*
                    Callee::Dynamic(func) => Box::pin(dynamic(*func, store, shape(function), args)).await,
                }
            }
        }
    };
    (@i32 $param:ident) => { i32 };
    (@count) => { 0 };
    (@count $first:ident $($other:ident)*) => { 1 + callees!(@count $($other)*) };
}

callees! {
    None0: [] -> (), [], |()| None;
    None1: [a] -> (), [], |()| None;
    None2: [a, b] -> (), [], |()| None;
    None3: [a, b, c] -> (), [], |()| None;
    None4: [a, b, c, d] -> (), [], |()| None;
    Int0: [] -> i32, [ValType::I32], |value| Some(Value::I32(value));
    Int1: [a] -> i32, [ValType::I32], |value| Some(Value::I32(value));
    Int2: [a, b] -> i32, [ValType::I32], |value| Some(Value::I32(value));
    Int3: [a, b, c] -> i32, [ValType::I32], |value| Some(Value::I32(value));
    Int4: [a, b, c, d] -> i32, [ValType::I32], |value| Some(Value::I32(value));
    Long0: [] -> i64, [ValType::I64], |value| Some(Value::I64(value));
    Long1: [a] -> i64, [ValType::I64], |value| Some(Value::I64(value));
    Long2: [a, b] -> i64, [ValType::I64], |value| Some(Value::I64(value));
    Long3: [a, b, c] -> i64, [ValType::I64], |value| Some(Value::I64(value));
    Long4: [a, b, c, d] -> i64, [ValType::I64], |value| Some(Value::I64(value));
}

/// The types of a function's parameters, and how many results it has.
type Shape<'a> = (&'a [ValType], usize);

fn shape(function: &Function) -> Shape<'_> {
    (function.params(), function.results().len())
}

/// A call whose types are known only now.
async fn dynamic(
    func: Func,
    mut store: impl AsContextMut<Data = StoreData>,
    (types, results): Shape<'_>,
    mut args: Vec<Value>,
) -> wasmtime::Result<Vec<Value>> {
    // References stay rooted as long as their scope; a live instance must not gather them call by call.
    let mut scope = RootScope::new(&mut store);
    let params = args.len();
    let mut values: SmallVec<[Val; 4]> = SmallVec::with_capacity(params + results);
    for (index, (value, ty)) in args.drain(..).zip(types).enumerate() {
        let value = value.put(ty, index, &mut scope).await;
        values.push(value.inspect_err(|_| scope.as_context().data().invocation.not_begun())?);
    }
    values.resize(params + results, Val::I32(0));
    let (params, results) = values.split_at_mut(params);
    let called = func.call_async(&mut scope, params, results).await;
    called.map_err(|error| uncaught(&mut scope, error))?;
    for value in results {
        args.push(Value::take(value, &mut scope)?);
    }
    Ok(args)
}

/// Calls `callee`, whose signature `function` describes, in a store that an execution drives.
pub(crate) async fn invoke(
    mut store: impl AsContextMut<Data = StoreData>,
    callee: &Callee,
    function: &Function,
    args: Vec<Value>,
) -> Result<Vec<Value>, Error> {
    function.check_arity(args.len())?;
    let result = callee.call(&mut store, function, args).await;
    result.map_err(|error| explained(error, store))
}

fn explained(error: wasmtime::Error, mut store: impl AsContextMut<Data = StoreData>) -> Error {
    let error = or_bounds(error, &mut store);
    let data = store.as_context();
    classify(error, &data.data().invocation, &data.data().code)
}

/// Calls what a function reference of the guest's refers to.
pub(crate) async fn invoke_ref(
    mut store: impl AsContextMut<Data = StoreData>,
    reference: &FuncRef,
    args: Vec<Value>,
) -> Result<Vec<Value>, Error> {
    let func = reference.func(&store)?;
    let params = reference.params();
    reference.check_arity(args.len())?;
    let result = dynamic(func, &mut store, (&params, reference.results()), args).await;
    result.map_err(|error| explained(error, store))
}

/// Tells a module that wants to know how many arguments a call of `function` has, and adds those that are left out: the module
/// has its own in their place.
pub(crate) async fn count_arguments(
    mut store: impl AsContextMut<Data = StoreData>,
    counter: Option<Extern>,
    function: &Function,
    args: &mut Vec<Value>,
) -> Result<(), Error> {
    function.check_arity(args.len())?;
    let counter = counter.and_then(Extern::into_func).and_then(|func| func.typed::<i32, ()>(&store).ok());
    let counter = counter.ok_or_else(|| Error::Internal("a function export is gone".into()))?;
    if let Err(error) = counter.call_async(&mut store, args.len() as i32).await {
        let error = uncaught(&mut store, error);
        return Err(explained(error, store));
    }
    args.extend(function.params().iter().skip(args.len()).map(Value::zero));
    Ok(())
}
