//! Accesses to a guest: what Elixir asks of a live instance and of an open host call alike.

use super::{possible_name, value};
use crate::atoms;
use cybernetic_wasm_core::Error;
use cybernetic_wasm_core::access::{Access, Word};
use cybernetic_wasm_core::code::Code;
use cybernetic_wasm_core::error::CallError;
use rustler::{Atom, Binary, Decoder, NifResult, Term};

/// An offset, a length or a number of pages: negative as well, where a guest gave it.
pub(crate) struct Number(pub(crate) Word);

impl<'a> Decoder<'a> for Number {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let number = term.decode::<i64>().map(Word::from);
        Ok(Self(number.or_else(|_| term.decode::<u64>().map(Word::from))?))
    }
}

/// The access that `term` asks of a guest of `code`; `None` where it is none.
pub(crate) fn decode(code: &Code, tag: Atom, term: Term<'_>) -> NifResult<Option<Result<Access, Error>>> {
    Ok(Some(if tag == atoms::read() {
        let (_, memory, offset, length): (Atom, Option<Binary<'_>>, Number, Number) = term.decode()?;
        memory_name(memory).map(|memory| Access::Read { memory, offset: offset.0, length: length.0 })
    } else if tag == atoms::write() {
        let (_, memory, offset, bytes): (Atom, Option<Binary<'_>>, Number, Binary<'_>) = term.decode()?;
        memory_name(memory).map(|memory| Access::Write { memory, offset: offset.0, bytes: bytes.to_vec() })
    } else if tag == atoms::locate() {
        let (_, memory, offset, length): (Atom, Option<Binary<'_>>, Number, Number) = term.decode()?;
        memory_name(memory).map(|memory| Access::Locate { memory, offset: offset.0, length: length.0 })
    } else if tag == atoms::size() {
        let (_, memory): (Atom, Option<Binary<'_>>) = term.decode()?;
        memory_name(memory).map(|memory| Access::Size { memory })
    } else if tag == atoms::grow() {
        let (_, memory, pages): (Atom, Option<Binary<'_>>, Number) = term.decode()?;
        memory_name(memory).map(|memory| Access::Grow { memory, pages: pages.0 })
    } else if tag == atoms::block() {
        let (_, offset): (Atom, Number) = term.decode()?;
        Ok(Access::Block { offset: offset.0.wide() })
    } else if tag == atoms::put() {
        let (_, bytes): (Atom, Binary<'_>) = term.decode()?;
        Ok(Access::Put { bytes: bytes.to_vec() })
    } else if tag == atoms::answered() {
        let (_, status, headers): (Atom, i32, Binary<'_>) = term.decode()?;
        Ok(Access::Answered { status, headers: headers.to_vec() })
    } else if tag == atoms::get_global() {
        let (_, name): (Atom, Binary<'_>) = term.decode()?;
        export_name(code, &name, "global").map(|name| Access::GetGlobal { name })
    } else if tag == atoms::set_global() {
        let (_, name, value): (Atom, Binary<'_>, Term<'_>) = term.decode()?;
        set_global(code, &name, value)
    } else if tag == atoms::table_size() {
        let (_, name): (Atom, Binary<'_>) = term.decode()?;
        export_name(code, &name, "table").map(|name| Access::TableSize { name })
    } else if tag == atoms::table_get() {
        let (_, name, index): (Atom, Binary<'_>, u64) = term.decode()?;
        export_name(code, &name, "table").map(|name| Access::TableGet { name, index })
    } else {
        return Ok(None);
    }))
}

/// The name of a memory, where one is given.
pub(crate) fn memory_name(name: Option<Binary<'_>>) -> Result<Option<String>, Error> {
    let name = name.as_deref().map(possible_name).transpose();
    Ok(name.map_err(CallError::NoMemory)?.map(str::to_owned))
}

fn export_name(code: &Code, name: &[u8], wanted: &'static str) -> Result<String, Error> {
    let name = possible_name(name).map_err(|shown| code.no_such_export(&shown, wanted));
    Ok(name?.to_owned())
}

fn set_global(code: &Code, name: &[u8], term: Term<'_>) -> Result<Access, Error> {
    let name = export_name(code, name, "global")?;
    let value = value::decode(term, code.global(&name)?.content(), 0)?;
    Ok(Access::SetGlobal { name, value })
}
