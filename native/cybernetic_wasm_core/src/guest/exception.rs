//! Exceptions that leave the guest, since nobody caught them.

use crate::error::{Exception, shown};
use crate::member::MemberId;
use crate::store::StoreData;
use crate::value::Value;
use std::sync::Arc;
use wasmtime::{AsContextMut, ExnRef, RootScope, Rooted, Tag, ThrownException};

/// Values of an exception that an error tells. Most languages have one: where in memory the exception is.
const MOST_VALUES: usize = 8;

/// The error of a call, with what is known of the exception that left the guest, if that is the error. It stays pending in the
/// store, and would be thrown again by the next failure there: it is taken.
pub(crate) fn uncaught(mut store: impl AsContextMut<Data = StoreData>, error: wasmtime::Error) -> wasmtime::Error {
    if !error.is::<ThrownException>() {
        return error;
    }
    let mut scope = RootScope::new(&mut store);
    let thrown = scope.as_context_mut().take_pending_exception();
    match thrown.map(|thrown| facts(&thrown, &mut scope)) {
        Some(Ok(exception)) => error.context(exception),
        _ => error,
    }
}

fn facts(thrown: &Rooted<ExnRef>, mut store: impl AsContextMut<Data = StoreData>) -> wasmtime::Result<Exception> {
    let fields: Vec<_> = thrown.fields(store.as_context_mut())?.take(MOST_VALUES + 1).collect();
    let mut payload = Vec::new();
    for value in fields.iter().take(MOST_VALUES) {
        payload.push(format!("{:?}", Value::take(value, &mut store)?));
    }
    if fields.len() > MOST_VALUES {
        payload.push("…".to_owned());
    }
    let tag = thrown.tag(&mut store)?;
    Ok(Exception { tag: name(&tag, store), payload })
}

/// What the guest's first instance exports a tag as.
fn name(tag: &Tag, mut store: impl AsContextMut<Data = StoreData>) -> Option<String> {
    let data = store.as_context().data();
    let (first, code) = (data.instance(MemberId::FIRST)?, Arc::clone(&data.code));
    let is_thrown = |name: &&String| {
        let found = first.get_export(&mut store, name).and_then(wasmtime::Extern::into_tag);
        found.is_some_and(|found| Tag::eq(tag, &found, &store))
    };
    code.exported_tags().iter().find(is_thrown).map(|name| shown::name(name))
}
