//! Carrying out what an embedder does with a guest that is not running just now, on an export that was found.

use crate::access::{Access, Word};
use crate::code::Code;
use crate::error::{CallError, Error, shown};
use crate::kernel::Http;
use crate::mail::Answer;
use crate::store::StoreData;
use crate::value::Value;
use std::ops::Range;
use wasmtime::{AsContext, AsContextMut, Extern, Global, Memory, Mutability, RootScope, Table};

/// Carries an access out on the export of `code` that was `found`.
pub(crate) async fn carry_out(
    access: Access,
    code: &Code,
    found: Option<Extern>,
    mut store: impl AsContextMut<Data = StoreData>,
) -> Result<Answer, Error> {
    let name = access.export(code).to_owned();
    let found = found.filter(|_| !code.hides(&name));
    match access {
        Access::Read { offset, length, .. } => {
            let memory = memory(found, &name)?;
            let range = range(memory, (offset, length), &store)?;
            Ok(Answer::Bytes(memory.data(store.as_context())[range].to_vec()))
        }
        Access::Write { offset, bytes, .. } => {
            let memory = memory(found, &name)?;
            let range = range(memory, (offset, Word::from(bytes.len() as u64)), &store)?;
            memory.data_mut(store.as_context_mut())[range].copy_from_slice(&bytes);
            Ok(Answer::Done)
        }
        Access::Locate { offset, length, .. } => {
            let memory = memory(found, &name)?;
            let (offset, length) = (unsigned(memory, offset, &store), unsigned(memory, length, &store));
            Ok(Answer::Range { offset, length, size: memory.data_size(&store) as u64 })
        }
        Access::Size { .. } => Ok(Answer::Number(Some(memory(found, &name)?.data_size(store.as_context()) as u64))),
        Access::Grow { pages, .. } => {
            let memory = memory(found, &name)?;
            let pages = unsigned(memory, pages, &store);
            grow(memory, pages, store).await
        }
        Access::Block { offset } => {
            Ok(Answer::Bytes(store.as_context_mut().data_mut().kernel()?.block(offset).to_vec()))
        }
        Access::Put { bytes } => Ok(Answer::Number(Some(store.as_context_mut().data_mut().put(&bytes).await?))),
        Access::Answered { status, headers } => {
            store.as_context_mut().data_mut().kernel()?.http = Http { status, headers: Some(headers) };
            Ok(Answer::Done)
        }
        Access::GetGlobal { .. } => {
            let global = global(found, code, &name)?;
            let mut scope = RootScope::new(&mut store);
            let value = global.get(&mut scope);
            Ok(Answer::Values(vec![Value::take(&value, &mut scope).map_err(Error::internal)?]))
        }
        Access::SetGlobal { value, .. } => set(global(found, code, &name)?, &name, value, store).await,
        Access::TableSize { .. } => Ok(Answer::Number(Some(table(found, code, &name)?.size(store.as_context())))),
        Access::TableGet { index, .. } => {
            let table = table(found, code, &name)?;
            let mut scope = RootScope::new(&mut store);
            let size = table.size(&scope);
            let element = table.get(&mut scope, index).ok_or_else(|| CallError::NoSuchElement {
                name: shown::name(&name),
                index,
                size,
            })?;
            Ok(Answer::Values(vec![Value::take(&element.into(), &mut scope).map_err(Error::internal)?]))
        }
    }
}

pub(crate) fn memory(found: Option<Extern>, name: &str) -> Result<Memory, CallError> {
    found.and_then(Extern::into_memory).ok_or_else(|| CallError::NoMemory(shown::name(name)))
}

fn global(found: Option<Extern>, code: &Code, name: &str) -> Result<Global, CallError> {
    let global = found.and_then(Extern::into_global);
    global.ok_or_else(|| code.wrong_export(name, "global"))
}

fn table(found: Option<Extern>, code: &Code, name: &str) -> Result<Table, CallError> {
    let table = found.and_then(Extern::into_table);
    table.ok_or_else(|| code.wrong_export(name, "table"))
}

/// What an embedder's number is to this memory: a negative one is unsigned, of the width of its addresses.
fn unsigned(memory: Memory, number: Word, store: impl AsContext) -> u64 {
    number.unsigned(|| memory.ty(store).is_64())
}

/// The byte range, if it lies within the memory.
pub(crate) fn range(
    memory: Memory,
    (offset, length): (Word, Word),
    store: impl AsContext,
) -> Result<Range<usize>, CallError> {
    let (offset, length) = (unsigned(memory, offset, &store), unsigned(memory, length, &store));
    let size = memory.data_size(&store) as u64;
    let end = offset.checked_add(length).filter(|end| *end <= size);
    let end = end.ok_or(CallError::OutOfBounds { offset, length, size })?;
    Ok(offset as usize..end as usize)
}

/// Gives the size before, in pages. A growth that the embedder was refused must not excuse a trap of the guest's later.
async fn grow(memory: Memory, pages: u64, mut store: impl AsContextMut<Data = StoreData>) -> Result<Answer, Error> {
    let invocation = store.as_context().data().invocation.clone();
    let before = invocation.take_refused();
    // Boxed, because every host call's future would have to hold room for this rare one.
    let grown = Box::pin(memory.grow_async(&mut store, pages)).await;
    let refused = invocation.take_refused();
    if let Some(before) = before {
        invocation.refuse(before);
    }
    match (grown, refused) {
        (Ok(size), _) => Ok(Answer::Number(Some(size))),
        (Err(_), Some(refused)) => Err(refused.into()),
        (Err(_), None) => Err(CallError::CannotGrow { pages, maximum: memory.ty(&store).maximum() }.into()),
    }
}

async fn set(
    global: Global,
    name: &str,
    value: Value,
    mut store: impl AsContextMut<Data = StoreData>,
) -> Result<Answer, Error> {
    let ty = global.ty(&store);
    if ty.mutability() == Mutability::Const {
        let (expected, found) = ("mutable global", "constant global");
        return Err(CallError::WrongExportKind { name: shown::name(name), expected, found }.into());
    }
    let mut scope = RootScope::new(&mut store);
    let value = value.put(ty.content(), 0, &mut scope).await;
    let value = value.map_err(|error| error.downcast::<Error>().unwrap_or_else(Error::internal))?;
    global.set(&mut scope, value).map_err(Error::internal)?;
    Ok(Answer::Done)
}
