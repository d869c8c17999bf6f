//! ABIs: how bytes go into a function and come out of it.
//!
//! WebAssembly's functions take and give numbers. Bytes are in the guest's memory: whoever calls has the guest make room,
//! writes them there, calls with where they are, reads what is given, and has the guest let go of it. Languages differ in what
//! these functions are called, what they take, and how a result says where it is. An [`Abi`] is all of that. A call by it is
//! an [`Exchange`], which a guest carries out in one execution: see `guest/exchange.rs`.

use crate::code::{Code, Function};
use crate::error::{CallError, shown};
use crate::kernel::Settings;
use crate::value::{Storing, Value, type_name};
use std::sync::Arc;
use wasmtime::{AsContext, ValType};

/// How bytes go into a function and come out of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abi {
    /// Makes room.
    pub alloc: Option<Helper>,
    /// Lets go of what was allocated for arguments; nothing does where the function that is called takes it over.
    pub free_arguments: Option<Helper>,
    /// Lets go of a result, and of room for one.
    pub free_result: Option<Helper>,
    /// How a result says where it is.
    pub result: Shape,
    /// The memory's export name; without one the module's first.
    pub memory: Option<String>,
    /// What a plugin made for Extism is given, if it is for one.
    pub kernel: Option<Arc<Settings>>,
}

/// A function that is called beside the one that an exchange is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// Its export name.
    pub name: String,
    /// What it takes.
    pub operands: Vec<Operand>,
}

/// What a [`Helper`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// Where the bytes are.
    Pointer,
    /// How many they are, with what belongs to them.
    Size,
    /// Where the function that was called said the result is, which may be an address of where the bytes are.
    Result,
    /// A number that is always the same: an alignment, or a type's.
    Number(i64),
}

impl Operand {
    /// Whether a parameter of this type takes it.
    fn fits(self, ty: &ValType) -> bool {
        match self {
            Operand::Number(number) => integer(number.into(), ty).is_some(),
            _ => is_integer(ty),
        }
    }
}

/// How a result says where its bytes are, and how many. Numbers in memory are as wide as its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// It is no bytes: the results are numbers.
    Values,
    /// An `i64`: the pointer in its upper half, the length in the lower.
    Packed,
    /// The other way round.
    PackedLengthFirst,
    /// Two results: pointer and length.
    Pair,
    /// The address of a pointer and a length.
    PairAt,
    /// The address of bytes that a zero byte ends.
    Cstring,
    /// The address of a length, after which the bytes stand.
    LengthPrefixed,
    /// The address of bytes before which their length stands.
    LengthBefore,
    /// The address of so many bytes.
    Fixed(u64),
    /// A length: the bytes are where the first argument was that is bytes, or room for them.
    InPlace,
    /// The address of an object of AssemblyScript's: a string, which is given as UTF-8, an `ArrayBuffer`, a typed array or an
    /// array of bytes. What it is says the header before it.
    Managed,
    /// What a plugin has set as its output.
    Output,
}

impl Shape {
    /// Whether it is bytes.
    pub(crate) fn is_bytes(self) -> bool {
        !matches!(self, Shape::Values | Shape::Output)
    }

    /// Whether the bytes are found by one address, which may be that of room that was made for them.
    pub(crate) fn is_address(self) -> bool {
        !matches!(
            self,
            Shape::Values | Shape::Packed | Shape::PackedLengthFirst | Shape::Pair | Shape::InPlace | Shape::Output
        )
    }

    /// What a function's results must be.
    fn expected(self) -> &'static str {
        match self {
            Shape::Values | Shape::Output => "any results",
            Shape::Packed | Shape::PackedLengthFirst => "one i64 as its result",
            Shape::Pair => "two integers as its results",
            Shape::InPlace => "one integer as its result, and an argument that is bytes",
            _ => "one integer as its result, or room for it among its arguments",
        }
    }

    fn fits(self, mut results: impl ExactSizeIterator<Item = ValType>) -> bool {
        match self {
            Shape::Values | Shape::Output => true,
            Shape::Packed | Shape::PackedLengthFirst => results.len() == 1 && results.all(|ty| ty.is_i64()),
            Shape::Pair => results.len() == 2 && results.all(|ty| is_integer(&ty)),
            _ => results.len() == 1 && results.all(|ty| is_integer(&ty)),
        }
    }
}

/// An argument of a call by an ABI.
#[derive(Debug, Clone)]
pub enum Argument {
    /// A value, as any call takes it.
    Value(Value),
    /// Bytes: the function takes where they are, and how many.
    Bytes(Vec<u8>),
    /// Bytes of which the function takes only where they are.
    Pointer(Vec<u8>),
    /// Bytes with more room, for a result that is written over them: the function takes where they are, and how many.
    Buffer {
        /// The bytes.
        bytes: Vec<u8>,
        /// How many bytes there is room for, if that is more than these are.
        room: u64,
    },
    /// Room for the result: the function takes where that is.
    Room(u64),
    /// A plugin's input, which the function asks for.
    Input(Vec<u8>),
}

impl Argument {
    /// How many bytes the guest has to make room for; `None` of a value.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Argument::Value(_) | Argument::Input(_) => None,
            Argument::Bytes(bytes) | Argument::Pointer(bytes) => Some(bytes.len() as u64),
            Argument::Buffer { bytes, room } => Some((*room).max(bytes.len() as u64)),
            Argument::Room(size) => Some(*size),
        }
    }

    /// The bytes that go to where there is room for it.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Argument::Bytes(bytes) | Argument::Pointer(bytes) | Argument::Buffer { bytes, .. } => bytes,
            Argument::Value(_) | Argument::Room(_) | Argument::Input(_) => &[],
        }
    }

    /// Whether the function is told how many bytes it is.
    pub(crate) fn has_length(&self) -> bool {
        matches!(self, Argument::Bytes(_) | Argument::Buffer { .. })
    }

    /// The value that it is.
    pub(crate) fn value(self) -> Option<Value> {
        if let Argument::Value(value) = self { Some(value) } else { None }
    }

    /// How many of the function's parameters it is for.
    fn width(&self) -> usize {
        match self {
            Argument::Input(_) => 0,
            _ if self.has_length() => 2,
            _ => 1,
        }
    }
}

/// A call by an ABI.
#[derive(Debug)]
pub struct Exchange {
    pub(crate) function: Arc<Function>,
    pub(crate) abi: Arc<Abi>,
    pub(crate) arguments: Vec<Argument>,
    /// Whether the guest lives on, and so is to let go of what it has allocated.
    pub(crate) lets_go: bool,
}

impl Exchange {
    /// A call of `function`, if that can be called with these and gives what the ABI says.
    pub fn new(function: Arc<Function>, abi: Arc<Abi>, arguments: Vec<Argument>) -> Result<Self, CallError> {
        if function.wit().is_some() {
            return Err(CallError::Component(
                "its functions take strings and lists as they are: leave the option :abi out",
            ));
        }
        function.check_arity(arguments.iter().map(Argument::width).sum())?;
        let mut params = function.params().iter();
        for (index, argument) in arguments.iter().enumerate() {
            let mut own = params.by_ref().take(argument.width());
            let unfit = own.find(|ty| !matches!(argument, Argument::Value(_)) && !is_integer(ty));
            if let Some(ty) = unfit {
                return Err(CallError::Type { index, expected: type_name(ty), given: "bytes".into() });
            }
        }
        let room = abi.result.is_address() && arguments.iter().any(|argument| matches!(argument, Argument::Room(_)));
        let in_place = abi.result != Shape::InPlace || arguments.iter().any(|argument| argument.size().is_some());
        match room || (in_place && abi.result.fits(function.results().iter().cloned())) {
            true => Ok(Self { function, abi, arguments, lets_go: true }),
            false => Err(not_by_abi(&function, abi.result.expected())),
        }
    }

    /// Refuses code that has not what the ABI names.
    pub(crate) fn check(&self, code: &Code) -> Result<(), CallError> {
        let Abi { alloc, free_arguments, free_result, .. } = &*self.abi;
        if self.allocates() && alloc.is_none() {
            return Err(CallError::NoAllocator);
        }
        for (helper, gives) in [(alloc, true), (free_arguments, false), (free_result, false)] {
            if let Some(helper) = helper {
                helper.find(code, gives)?;
            }
        }
        Ok(())
    }

    /// Refuses values that the guest of that store cannot be given: what was allocated before that is known would be lost.
    pub(crate) fn check_values(&self, store: impl AsContext<Data: Storing>) -> Result<(), CallError> {
        let mut params = self.function.params().iter();
        for (index, argument) in self.arguments.iter().enumerate() {
            let last = argument.width().checked_sub(1).and_then(|last| params.nth(last));
            if let (Argument::Value(value), Some(ty)) = (argument, last) {
                value.check(ty, index, &store)?;
            }
        }
        Ok(())
    }

    /// Whether it makes room in the guest.
    pub(crate) fn allocates(&self) -> bool {
        self.arguments.iter().any(|argument| argument.size().is_some())
    }

    /// The same with a guest that is there for this call alone; its code may be a variant of what the function is of.
    pub(crate) fn with_fresh(self, function: Arc<Function>) -> Self {
        Self { function, lets_go: false, ..self }
    }
}

impl Helper {
    /// The function in `code`, if it takes what it is given; `gives` is whether it gives a pointer.
    pub(crate) fn find(&self, code: &Code, gives: bool) -> Result<Arc<Function>, CallError> {
        let function = code.function(&self.name)?;
        let params = function.params();
        let takes = params.len() == self.operands.len()
            && params.iter().zip(&self.operands).all(|(ty, operand)| operand.fits(ty));
        let gives_one = function.results().len() == 1 && function.results().iter().all(is_integer);
        if takes && (!gives || gives_one) {
            return Ok(function);
        }
        let result = if gives { " and one as its result" } else { "" };
        Err(not_by_abi(&function, &format!("{} integer(s) as its parameters{result}", self.operands.len())))
    }
}

fn not_by_abi(function: &Function, expected: &str) -> CallError {
    CallError::NotByAbi { name: shown::name(&function.name), found: function.signature(), expected: expected.into() }
}

fn is_integer(ty: &ValType) -> bool {
    matches!(ty, ValType::I32 | ValType::I64)
}

/// A number as a value of this type, which is an integer's, if that holds it.
pub(crate) fn integer(number: i128, ty: &ValType) -> Option<Value> {
    match ty {
        ValType::I32 if (i32::MIN.into()..=u32::MAX.into()).contains(&number) => Some(Value::I32(number as i32)),
        ValType::I64 if (i64::MIN.into()..=u64::MAX.into()).contains(&number) => Some(Value::I64(number as i64)),
        _ => None,
    }
}

/// The number that a pointer or a length of the guest's is.
pub(crate) fn unsigned(value: &Value) -> Option<u64> {
    match value {
        Value::I32(value) => Some(u64::from(*value as u32)),
        Value::I64(value) => Some(*value as u64),
        _ => None,
    }
}
