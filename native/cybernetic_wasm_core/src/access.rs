//! What an embedder may do with a guest that is not running just now, be it idle or suspended in a host call: look at its
//! memories, globals and tables, and change the first two. The guest's exports are all that has a name here.
//!
//! A live instance (`instance.rs`) and an open host call (`host.rs`) both come here with the export that they found.

use crate::error::{CallError, Error};
use crate::host::Answer;
use crate::module::Module;
use crate::store::StoreData;
use crate::value::Value;
use std::ops::Range;
use wasmtime::{AsContextMut, Extern, Global, Memory, Mutability, RootScope, Table};

/// One look at a guest, or one change to it. A memory without a name is the module's first exported one.
#[derive(Debug)]
pub enum Access {
    /// Copy bytes out of a memory.
    Read {
        /// The memory's export name.
        memory: Option<String>,
        /// First byte.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Copy bytes into a memory.
    Write {
        /// The memory's export name.
        memory: Option<String>,
        /// First byte.
        offset: u64,
        /// What to write.
        bytes: Vec<u8>,
    },
    /// A memory's size in bytes.
    Size {
        /// The memory's export name.
        memory: Option<String>,
    },
    /// Grow a memory, within the guest's limits.
    Grow {
        /// The memory's export name.
        memory: Option<String>,
        /// By how many pages.
        pages: u64,
    },
    /// A global's value.
    GetGlobal {
        /// Its export name.
        name: String,
    },
    /// Give a mutable global another value.
    SetGlobal {
        /// Its export name.
        name: String,
        /// The value.
        value: Value,
    },
    /// How many elements a table has.
    TableSize {
        /// Its export name.
        name: String,
    },
    /// An element of a table.
    TableGet {
        /// Its export name.
        name: String,
        /// Its index.
        index: u64,
    },
}

impl Access {
    /// The export that this is about, as `module` names it.
    pub(crate) fn export<'a>(&'a self, module: &'a Module) -> &'a str {
        match self {
            Access::Read { memory, .. }
            | Access::Write { memory, .. }
            | Access::Size { memory }
            | Access::Grow { memory, .. } => memory_name(memory.as_deref(), module),
            Access::GetGlobal { name }
            | Access::SetGlobal { name, .. }
            | Access::TableSize { name }
            | Access::TableGet { name, .. } => name,
        }
    }

    /// Carries it out on the export that was `found`.
    pub(crate) async fn carry_out(
        self,
        module: &Module,
        found: Option<Extern>,
        mut store: impl AsContextMut<Data = StoreData>,
    ) -> Result<Answer, Error> {
        let name = self.export(module).to_owned();
        let found = found.filter(|_| !module.hides(&name));
        match self {
            Access::Read { offset, length, .. } => {
                let data = memory(found, &name)?.data(store.as_context());
                let range = range(offset, length, data.len())?;
                Ok(Answer::Bytes(data[range].to_vec()))
            }
            Access::Write { offset, bytes, .. } => {
                let data = memory(found, &name)?.data_mut(store.as_context_mut());
                let range = range(offset, bytes.len() as u64, data.len())?;
                data[range].copy_from_slice(&bytes);
                Ok(Answer::Done)
            }
            Access::Size { .. } => Ok(Answer::Number(Some(memory(found, &name)?.data_size(store.as_context()) as u64))),
            Access::Grow { pages, .. } => grow(memory(found, &name)?, pages, store).await,
            Access::GetGlobal { .. } => {
                let global = global(found, module, &name)?;
                let mut scope = RootScope::new(&mut store);
                let value = global.get(&mut scope);
                Ok(Answer::Values(vec![Value::take(&value, &mut scope).map_err(Error::internal)?]))
            }
            Access::SetGlobal { value, .. } => set(global(found, module, &name)?, &name, value, store).await,
            Access::TableSize { .. } => Ok(Answer::Number(Some(table(found, module, &name)?.size(store.as_context())))),
            Access::TableGet { index, .. } => {
                let table = table(found, module, &name)?;
                let mut scope = RootScope::new(&mut store);
                let size = table.size(&scope);
                let element = table.get(&mut scope, index).ok_or(CallError::NoSuchElement { name, index, size })?;
                Ok(Answer::Values(vec![Value::take(&element.into(), &mut scope).map_err(Error::internal)?]))
            }
        }
    }
}

/// `None` is the first memory that the module exports.
pub(crate) fn memory_name<'a>(name: Option<&'a str>, module: &'a Module) -> &'a str {
    name.or(module.default_memory()).unwrap_or("memory")
}

pub(crate) fn memory(found: Option<Extern>, name: &str) -> Result<Memory, CallError> {
    found.and_then(Extern::into_memory).ok_or_else(|| CallError::NoMemory(name.to_owned()))
}

fn global(found: Option<Extern>, module: &Module, name: &str) -> Result<Global, CallError> {
    let global = found.and_then(Extern::into_global);
    global.ok_or_else(|| module.wrong_export(name, "global"))
}

fn table(found: Option<Extern>, module: &Module, name: &str) -> Result<Table, CallError> {
    let table = found.and_then(Extern::into_table);
    table.ok_or_else(|| module.wrong_export(name, "table"))
}

/// The byte range, if it lies within `size`.
pub(crate) fn range(offset: u64, length: u64, size: usize) -> Result<Range<usize>, CallError> {
    let end = offset.checked_add(length).filter(|end| *end <= size as u64);
    let end = end.ok_or(CallError::OutOfBounds { offset, length, size: size as u64 })?;
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
        return Err(CallError::WrongExportKind { name: name.to_owned(), expected, found }.into());
    }
    let mut scope = RootScope::new(&mut store);
    let value = value.put(ty.content(), 0, &mut scope).await;
    let value = value.map_err(|error| error.downcast::<Error>().unwrap_or_else(Error::internal))?;
    global.set(&mut scope, value).map_err(Error::internal)?;
    Ok(Answer::Done)
}
