//! ABIs, and the arguments of calls by them.

use super::Optional;
use super::handle::Handle;
use super::value::{self, Value};
use crate::atoms;
use crate::resources::{AbiResource, KernelResource};
use cybernetic_wasm_core::abi::{Abi, Argument, Exchange, Helper, Operand, Shape};
use cybernetic_wasm_core::code::Function;
use cybernetic_wasm_core::error::CallError;
use rustler::{Atom, Binary, Decoder, ListIterator, NifRecord, NifResult, ResourceArc, Term};
use std::sync::Arc;

/// As `Cybernetic.WASM.ABI` gives it.
#[derive(NifRecord)]
#[tag = "abi"]
#[rustler(decode)]
struct AbiRecord<'a> {
    alloc: Term<'a>,
    free_arguments: Term<'a>,
    free_result: Term<'a>,
    result: Term<'a>,
    memory: Optional<String>,
    kernel: Optional<ResourceArc<KernelResource>>,
}

pub(crate) fn decode(term: Term<'_>) -> NifResult<Abi> {
    let record: AbiRecord<'_> = term.decode()?;
    Ok(Abi {
        alloc: helper(record.alloc)?,
        free_arguments: helper(record.free_arguments)?,
        free_result: helper(record.free_result)?,
        result: shape(record.result)?,
        memory: record.memory.0,
        kernel: record.kernel.0.map(|kernel| Arc::clone(&kernel.0)),
    })
}

/// `{name, operands}`, or `nil`.
fn helper(term: Term<'_>) -> NifResult<Option<Helper>> {
    let given: Optional<(String, Vec<Term<'_>>)> = term.decode()?;
    let Some((name, operands)) = given.0 else { return Ok(None) };
    Ok(Some(Helper { name, operands: operands.into_iter().map(operand).collect::<NifResult<_>>()? }))
}

fn operand(term: Term<'_>) -> NifResult<Operand> {
    match term.decode::<Atom>() {
        Ok(name) if name == atoms::pointer() => Ok(Operand::Pointer),
        Ok(name) if name == atoms::size() => Ok(Operand::Size),
        Ok(name) if name == atoms::result() => Ok(Operand::Result),
        _ => Ok(Operand::Number(term.decode()?)),
    }
}

fn shape(term: Term<'_>) -> NifResult<Shape> {
    if let Ok((tag, length)) = term.decode::<(Atom, u64)>() {
        return if tag == atoms::fixed() { Ok(Shape::Fixed(length)) } else { Err(rustler::Error::BadArg) };
    }
    let shapes = [
        (atoms::values(), Shape::Values),
        (atoms::packed(), Shape::Packed),
        (atoms::packed_length_first(), Shape::PackedLengthFirst),
        (atoms::pair(), Shape::Pair),
        (atoms::pair_at(), Shape::PairAt),
        (atoms::cstring(), Shape::Cstring),
        (atoms::length_prefixed(), Shape::LengthPrefixed),
        (atoms::length_before(), Shape::LengthBefore),
        (atoms::in_place(), Shape::InPlace),
        (atoms::managed(), Shape::Managed),
        (atoms::output(), Shape::Output),
    ];
    let name: Atom = term.decode()?;
    let found = shapes.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, shape)| shape).ok_or(rustler::Error::BadArg)
}

/// What a call passes by an ABI: `{arguments, abi}`. Of the arguments, binaries are bytes, and so are `{:pointer, binary}` and
/// `{:buffer, binary, room}`; `{:room, size}` is room for the result, and `{:input, binary}` a plugin's input. Others are values.
pub(crate) struct Passed<'a> {
    arguments: Vec<Given<'a>>,
    abi: Handle<'a, AbiResource>,
}

enum Given<'a> {
    Bytes(Binary<'a>),
    Pointer(Binary<'a>),
    Buffer(Binary<'a>, u64),
    Room(u64),
    Input(Binary<'a>),
    Value(Term<'a>),
}

impl<'a> Decoder<'a> for Passed<'a> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let (list, abi): (Term<'a>, _) = term.decode()?;
        let mut arguments = Vec::with_capacity(list.list_length()?);
        arguments.extend(list.decode::<ListIterator<'a>>()?.map(given));
        Ok(Self { arguments, abi })
    }
}

fn given(term: Term<'_>) -> Given<'_> {
    if term.is_binary() {
        return term.decode().map_or(Given::Value(term), Given::Bytes);
    }
    if !term.is_tuple() {
        return Given::Value(term);
    }
    match term.decode::<(Atom, Term<'_>)>() {
        Ok((tag, bytes)) if tag == atoms::pointer() => bytes.decode().map_or(Given::Value(term), Given::Pointer),
        Ok((tag, bytes)) if tag == atoms::input() => bytes.decode().map_or(Given::Value(term), Given::Input),
        Ok((tag, size)) if tag == atoms::room() => size.decode().map_or(Given::Value(term), Given::Room),
        Ok(_) => Given::Value(term),
        Err(_) => buffer(term),
    }
}

fn buffer(term: Term<'_>) -> Given<'_> {
    match term.decode::<(Atom, Binary<'_>, u64)>() {
        Ok((tag, bytes, room)) if tag == atoms::buffer() => Given::Buffer(bytes, room),
        _ => Given::Value(term),
    }
}

impl Passed<'_> {
    /// How many bytes are copied.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = self.arguments.iter().map(|given| match given {
            Given::Bytes(bytes) | Given::Pointer(bytes) | Given::Buffer(bytes, _) | Given::Input(bytes) => {
                bytes.len() as u64
            }
            Given::Room(_) | Given::Value(_) => 0,
        });
        bytes.sum()
    }

    /// The exchange with `function`.
    pub(crate) fn exchange(&self, function: Arc<Function>) -> Result<Exchange, CallError> {
        let arguments = self.values(&function)?;
        Exchange::new(function, Arc::clone(&self.abi.0), arguments)
    }

    /// One after the other as the parameters of `function` take them. How many these are the core checks.
    fn values(&self, function: &Function) -> Result<Vec<Argument>, CallError> {
        let mut params = function.params().iter();
        let mut arguments = Vec::with_capacity(self.arguments.len());
        for (index, given) in self.arguments.iter().enumerate() {
            let ty = if matches!(given, Given::Input(_)) { None } else { params.next() };
            arguments.push(match given {
                Given::Bytes(bytes) => {
                    params.next();
                    Argument::Bytes(bytes.to_vec())
                }
                Given::Pointer(bytes) => Argument::Pointer(bytes.to_vec()),
                Given::Buffer(bytes, room) => {
                    params.next();
                    Argument::Buffer { bytes: bytes.to_vec(), room: *room }
                }
                Given::Room(size) => Argument::Room(*size),
                Given::Input(bytes) => Argument::Input(bytes.to_vec()),
                // One too many: its type does not matter any more.
                Given::Value(term) => {
                    Argument::Value(ty.map_or(Ok(Value::Null), |ty| value::decode(*term, ty, index))?)
                }
            });
        }
        Ok(arguments)
    }
}
