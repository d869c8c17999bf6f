//! Whether what is given for an import is of the type that is wanted, and the words for that type.

use crate::code::kind;
use crate::store::GuestStore;
use crate::value::{reference_name, signature, type_name};
use wasmtime::{Extern, ExternType, FuncType, GlobalType, HeapType, MemoryType};
use wasmtime::{Mutability, RefType, TableType, ValType};

/// Import matching as the specification has it. Wasmtime checks it again, but stops at the first that does not match.
pub(super) fn fits(wanted: &ExternType, found: &Extern, store: &GuestStore) -> bool {
    match (wanted, found.ty(store), found) {
        (ExternType::Func(wanted), ExternType::Func(found), _) => function_fits(wanted, &found),
        (ExternType::Global(wanted), ExternType::Global(found), _) => global_fits(wanted, &found),
        (ExternType::Tag(wanted), ExternType::Tag(found), _) => FuncType::eq(wanted.ty(), found.ty()),
        (ExternType::Table(wanted), ExternType::Table(found), Extern::Table(table)) => {
            table_fits(wanted, &found, table.size(store))
        }
        (ExternType::Memory(wanted), ExternType::Memory(found), Extern::Memory(memory)) => {
            memory_fits(wanted, &found, memory.size(store))
        }
        _ => false,
    }
}

/// By declared subtyping; [`FuncType::matches`] compares parameters and results only.
pub(super) fn function_fits(wanted: &FuncType, found: &FuncType) -> bool {
    HeapType::ConcreteFunc(found.clone()).matches(&HeapType::ConcreteFunc(wanted.clone()))
}

/// Only what nobody can write may be of a narrower type than asked for.
fn global_fits(wanted: &GlobalType, found: &GlobalType) -> bool {
    wanted.mutability() == found.mutability()
        && match wanted.mutability() {
            Mutability::Const => found.content().matches(wanted.content()),
            Mutability::Var => ValType::eq(found.content(), wanted.content()),
        }
}

fn table_fits(wanted: &TableType, found: &TableType, size: u64) -> bool {
    wanted.is_64() == found.is_64()
        && RefType::eq(wanted.element(), found.element())
        && limits_fit((wanted.minimum(), wanted.maximum()), (size, found.maximum()))
}

fn memory_fits(wanted: &MemoryType, found: &MemoryType, size: u64) -> bool {
    wanted.is_64() == found.is_64()
        && wanted.is_shared() == found.is_shared()
        && wanted.page_size() == found.page_size()
        && limits_fit((wanted.minimum(), wanted.maximum()), (size, found.maximum()))
}

fn limits_fit(wanted: (u64, Option<u64>), (size, maximum): (u64, Option<u64>)) -> bool {
    size >= wanted.0 && wanted.1.is_none_or(|most| maximum.is_some_and(|maximum| maximum <= most))
}

/// An import's type in the text format's words.
pub(super) fn describe(ty: &ExternType) -> String {
    let limits = |wide: bool, least: u64, most: Option<u64>| {
        let most = most.map(|most| format!(" {most}")).unwrap_or_default();
        format!("{}{least}{most}", if wide { "i64 " } else { "" })
    };
    let facts = match ty {
        ExternType::Func(ty) => return signature(ty),
        ExternType::Tag(ty) => signature(ty.ty()),
        ExternType::Global(ty) if ty.mutability() == Mutability::Var => format!("(mut {})", type_name(ty.content())),
        ExternType::Global(ty) => type_name(ty.content()),
        ExternType::Memory(ty) => limits(ty.is_64(), ty.minimum(), ty.maximum()),
        ExternType::Table(ty) => {
            format!("{} {}", limits(ty.is_64(), ty.minimum(), ty.maximum()), reference_name(ty.element()))
        }
    };
    format!("{} {facts}", kind(ty))
}
