//! Carrying out an exchange: the guest makes room for the arguments that are bytes, they are written there, the function is
//! called, its result is read, and the guest lets go of what was allocated. It is one call of the embedder's, in one budget.
//!
//! Whatever the guest gives is checked where it is used: a pointer, a length, a string's end. A guest that gives a wrong one has
//! returned, and is at rest as after any call: what it allocated is let go of then as well.

use super::callee::{Callee, count_arguments, invoke};
use super::{Guest, access, managed};
use crate::abi::{Abi, Argument, Exchange, Helper, Operand, Shape, integer, unsigned};
use crate::access::memory_name;
use crate::code::{Code, Function};
use crate::error::{AbiError, CallError, Error, Limit, LimitError, shown};
use crate::invocation::Invocation;
use crate::lane::INLINE_OUTPUT;
use crate::member::MemberId;
use crate::value::Value;
use smallvec::SmallVec;
use std::ffi::CStr;
use std::ops::Range;
use std::sync::Arc;
use wasmtime::{Extern, Memory};

/// More bytes of an error than anybody reads.
const MOST_SAID: usize = 64 << 10;

/// What an exchange gave.
#[derive(Debug)]
pub(crate) enum Exchanged {
    Values(Vec<Value>),
    Bytes(Vec<u8>),
    /// A null pointer.
    Null,
    /// More bytes than the call may give. Nothing of the guest was cut off for that.
    TooLong(LimitError),
}

/// What an exchange needs, found in a guest, which keeps that of its last one.
pub(super) struct Ready {
    member: MemberId,
    instance: wasmtime::Instance,
    abi: Arc<Abi>,
    called: Found,
    alloc: Option<Found>,
    free_arguments: Option<Found>,
    free_result: Option<Found>,
    memory: Option<Linear>,
    /// What a plugin's language wants called first.
    startup: Option<Found>,
}

/// A function, ready to be called, and what it takes of a block: one that the ABI names takes nothing else.
struct Found {
    function: Arc<Function>,
    callee: Callee,
    operands: SmallVec<[Operand; 4]>,
}

/// A memory, and whether its addresses have 64 bits.
#[derive(Clone, Copy)]
struct Linear {
    memory: Memory,
    wide: bool,
}

/// Something that the guest has allocated.
#[derive(Clone, Copy)]
struct Block {
    pointer: u64,
    size: u64,
    /// Where the function said that the result is, of what belongs to that.
    result: Option<u64>,
}

impl Block {
    /// One of that size that is not there yet.
    fn new(size: u64) -> Self {
        Self { pointer: 0, size, result: None }
    }
}

/// Where a result's bytes are, and the block that they are in.
struct Place {
    pointer: u64,
    length: u64,
    block: Block,
    /// Whether they are UTF-16, and are given as UTF-8.
    utf16: bool,
}

/// An exchange under way.
struct Exchanging<'a> {
    guest: &'a mut Guest,
    ready: &'a Ready,
    /// What is to be let go of.
    blocks: SmallVec<[Block; 4]>,
    /// What the next function takes, and what the last one gave: a vector is made once for all.
    passed: Vec<Value>,
}

impl Guest {
    /// Carries out an exchange with one of its members, which is an instance of `code`.
    pub(crate) async fn exchange(
        &mut self,
        (member, code): (MemberId, &Code),
        exchange: Exchange,
    ) -> Result<Exchanged, Error> {
        exchange.check_values(&self.store)?;
        let ready = match self.ready.take().filter(|ready| ready.is_for(member, &exchange)) {
            Some(ready) => ready,
            None => Box::new(self.make_ready((member, code), &exchange)?),
        };
        let exchanging = Exchanging { guest: self, ready: &ready, blocks: SmallVec::new(), passed: Vec::new() };
        let exchanged = exchanging.run(exchange.arguments).await;
        self.ready = Some(ready);
        exchanged.map_err(|error| self.explain(error))
    }

    fn make_ready(&mut self, (member, code): (MemberId, &Code), exchange: &Exchange) -> Result<Ready, Error> {
        let instance = self.instance_of(member)?;
        let (abi, allocates) = (&exchange.abi, exchange.allocates());
        if allocates && abi.alloc.is_none() {
            return Err(CallError::NoAllocator.into());
        }
        let memory = match allocates || abi.result.is_bytes() {
            true => Some(self.linear((instance, code), abi)?),
            false => None,
        };
        let mut helper = |helper: &Option<Helper>, gives| match helper {
            Some(helper) => self.found(instance, &helper.find(code, gives)?, &helper.operands).map(Some),
            None => Ok(None),
        };
        let alloc = helper(&abi.alloc, true)?;
        let (free_arguments, free_result) = match exchange.lets_go {
            true => (helper(&abi.free_arguments, false)?, helper(&abi.free_result, false)?),
            false => (None, None),
        };
        let called = self.found(instance, &exchange.function, &[])?;
        let startup = match abi.kernel.as_ref().and_then(|_| startup(code)) {
            Some((function, operands)) => Some(self.found(instance, &function, operands)?),
            None => None,
        };
        let abi = Arc::clone(abi);
        Ok(Ready { member, instance, abi, called, alloc, free_arguments, free_result, memory, startup })
    }

    fn found(
        &mut self,
        instance: wasmtime::Instance,
        function: &Arc<Function>,
        operands: &[Operand],
    ) -> Result<Found, Error> {
        let (callee, function) = (self.find(instance, function)?, Arc::clone(function));
        Ok(Found { callee, function, operands: operands.into() })
    }

    fn linear(&mut self, (instance, code): (wasmtime::Instance, &Code), abi: &Abi) -> Result<Linear, CallError> {
        let name = memory_name(abi.memory.as_deref(), code);
        let found: Option<Extern> = if code.hides(name) { None } else { instance.get_export(&mut self.store, name) };
        let memory = access::memory(found, name)?;
        Ok(Linear { memory, wide: memory.ty(&self.store).is_64() })
    }
}

/// What has to be called once before a plugin's functions are: as Extism's runtime has it, the Haskell runtime's start, or else
/// the constructors, where the module is no reactor, which has called them itself.
fn startup(code: &Code) -> Option<(Arc<Function>, &'static [Operand])> {
    let with = |name: &str, operands: &'static [Operand]| {
        let function = code.function(name).ok()?;
        (function.params().len() == operands.len()).then_some((function, operands))
    };
    let haskell = with("hs_init", &[Operand::Number(0), Operand::Number(0)]);
    haskell.or_else(|| if code.initializer().is_none() { with("__wasm_call_ctors", &[]) } else { None })
}

impl Ready {
    fn is_for(&self, member: MemberId, exchange: &Exchange) -> bool {
        self.called.function.is(&exchange.function)
            && Arc::ptr_eq(&self.abi, &exchange.abi)
            && self.member == member
            && (self.alloc.is_some() && self.memory.is_some() || !exchange.allocates())
    }

    /// What lets go of a block.
    fn free(&self, block: &Block) -> Option<&Found> {
        if block.result.is_some() { self.free_result.as_ref() } else { self.free_arguments.as_ref() }
    }
}

impl<'a> Exchanging<'a> {
    // All waiting is here: what is given through several futures is moved as often.
    async fn run(mut self, arguments: Vec<Argument>) -> Result<Exchanged, Error> {
        let Ready { called, alloc, .. } = self.ready;
        let mut values = Vec::with_capacity(called.function.params().len());
        let mut refused = None;
        for argument in arguments {
            if let Argument::Input(bytes) = &argument {
                self.guest.store.data_mut().receive(bytes).await?;
                continue;
            }
            let Some(size) = argument.size() else {
                values.extend(argument.value());
                continue;
            };
            if size > INLINE_OUTPUT {
                self.invocation().leave_inline().await;
            }
            self.passed.clear();
            if let Some(alloc) = alloc.as_ref().filter(|alloc| self.prepare(alloc, &Block::new(size))) {
                self.invoke(alloc).await?;
            }
            if let Err(error) = self.put(&argument, size, &mut values) {
                refused = Some(error);
                break;
            }
        }
        let taken = match refused {
            Some(error) => Err(error),
            None => {
                if let Some(startup) = &self.ready.startup {
                    self.prepare(startup, &Block::new(0));
                    self.invoke(startup).await?;
                }
                self.count_arguments(&mut values).await?;
                self.guest.store.data_mut().entered |= called.function.is_entry();
                self.passed = values;
                match self.invoke(called).await {
                    Ok(()) => {
                        let results = std::mem::take(&mut self.passed);
                        if self.ready.abi.result == Shape::Output {
                            return self.put_out(&results).await;
                        }
                        if self.ready.abi.result == Shape::Cstring {
                            self.invocation().leave_inline_for(self.memory_size()).await;
                        }
                        let place = self.locate(&results);
                        let length = place.as_ref().map_or(0, |place| place.as_ref().map_or(0, |place| place.length));
                        if length > INLINE_OUTPUT {
                            self.invocation().leave_inline().await;
                        }
                        place.and_then(|place| self.take(results, place))
                    }
                    // It could not be given its arguments: a term, and its memory is full.
                    Err(error) if self.invocation().take_unbegun() => Err(error),
                    Err(error) => return Err(error),
                }
            }
        };
        while let Some(free) = self.next_to_free() {
            self.invoke(free).await?;
        }
        match taken {
            Err(Error::Limit(limit)) => Ok(Exchanged::TooLong(limit)),
            taken => taken,
        }
    }

    /// What a plugin has put out. Success is no result, or an `i32` that is 0, and no error that was set.
    async fn put_out(&mut self, results: &[Value]) -> Result<Exchanged, Error> {
        let export = shown::name(self.name());
        let invocation = Arc::clone(&self.guest.store.data().invocation);
        let kernel = self.guest.store.data_mut().kernel()?;
        if kernel.error != 0 || !matches!(results, [] | [Value::I32(0)]) {
            let text = kernel.block(kernel.error);
            let text = text.get(..MOST_SAID).unwrap_or(text).to_vec();
            return Err(AbiError::Reported { export, code: results.first().and_then(number), text }.into());
        }
        if kernel.output.length > INLINE_OUTPUT {
            invocation.leave_inline().await;
        }
        let output = kernel.part(kernel.output)?;
        match invocation.count_output(output.len() as u64) {
            Ok(()) => Ok(Exchanged::Bytes(output.to_vec())),
            Err(limit) => Ok(Exchanged::TooLong(limit)),
        }
    }

    // Calls

    /// Puts into `passed` what a function takes of a block. False: it takes no such number.
    fn prepare(&mut self, found: &Found, block: &Block) -> bool {
        self.passed.clear();
        for (operand, ty) in found.operands.iter().zip(found.function.params()) {
            let number = match operand {
                Operand::Pointer => block.pointer.into(),
                Operand::Size => block.size.into(),
                Operand::Result => block.result.unwrap_or(block.pointer).into(),
                Operand::Number(number) => i128::from(*number),
            };
            let Some(value) = integer(number, ty) else {
                self.passed.clear();
                return false;
            };
            self.passed.push(value);
        }
        true
    }

    /// Calls a function with what is in `passed`, and leaves there what it gives.
    async fn invoke(&mut self, found: &Found) -> Result<(), Error> {
        let (passed, store) = (std::mem::take(&mut self.passed), &mut self.guest.store);
        store.data_mut().called = found.function.exported_again.then_some(self.ready.instance);
        self.passed = invoke(store, &found.callee, &found.function, passed).await?;
        Ok(())
    }

    async fn count_arguments(&mut self, values: &mut Vec<Value>) -> Result<(), Error> {
        let Ready { instance, called, .. } = self.ready;
        let Some(counter) = &called.function.argument_counter else { return Ok(()) };
        let store = &mut self.guest.store;
        let counter = instance.get_module_export(&mut *store, counter);
        Box::pin(count_arguments(store, counter, &called.function, values)).await
    }

    /// The next block that is to be let go of: prepares the function that does.
    fn next_to_free(&mut self) -> Option<&'a Found> {
        let ready = self.ready;
        while let Some(block) = self.blocks.pop() {
            // What the function cannot be given is no pointer of its own.
            let free = ready.free(&block).filter(|free| block.pointer != 0 && self.prepare(free, &block));
            if free.is_some() {
                return free;
            }
        }
        None
    }

    // Arguments

    /// Puts an argument where the guest has made room for it, and passes where that is.
    fn put(&mut self, argument: &Argument, size: u64, values: &mut Vec<Value>) -> Result<(), Error> {
        let pointer = self.passed.first().and_then(unsigned).unwrap_or_default();
        if pointer == 0 && size > 0 {
            return Err(AbiError::NoRoom { export: shown::name(self.allocator()), length: size }.into());
        }
        let range = self.range(pointer, size, self.allocator())?;
        let result = matches!(argument, Argument::Room(_)).then_some(pointer);
        self.blocks.push(Block { pointer, size, result });
        let bytes = argument.bytes();
        if !bytes.is_empty() {
            let room = &mut self.memory()?.memory.data_mut(&mut self.guest.store)[range];
            room[..bytes.len()].copy_from_slice(bytes);
        }
        self.pass(pointer, values)?;
        if argument.has_length() { self.pass(bytes.len() as u64, values) } else { Ok(()) }
    }

    /// Adds a pointer or a length to the arguments, as the parameter takes it whose turn it is.
    fn pass(&self, number: u64, values: &mut Vec<Value>) -> Result<(), Error> {
        let ty = self.ready.called.function.params().get(values.len());
        let value = ty.and_then(|ty| integer(number.into(), ty));
        values.push(value.ok_or_else(|| self.outside((number, 0), self.allocator()))?);
        Ok(())
    }

    // The result. No code of the guest's runs until something is let go of.

    /// The result that is at `place`, in a block to be let go of. What is not there is no block either.
    fn take(&mut self, results: Vec<Value>, place: Option<Place>) -> Result<Exchanged, Error> {
        let Some(Place { pointer, length, block, utf16 }) = place else {
            return Ok(if self.ready.abi.result.is_bytes() { Exchanged::Null } else { Exchanged::Values(results) });
        };
        let range = self.range(pointer, length, self.name())?;
        let is_argument = |other: &Block| other.pointer == block.pointer && self.ready.free(other).is_some();
        if !self.blocks.iter().any(is_argument) {
            self.blocks.push(block);
        }
        self.invocation().count_output(length)?;
        let bytes = &self.memory()?.memory.data(&self.guest.store)[range];
        if !utf16 {
            return Ok(Exchanged::Bytes(bytes.to_vec()));
        }
        let text = managed::utf8(bytes);
        self.invocation().count_output((text.len() as u64).saturating_sub(length))?;
        Ok(Exchanged::Bytes(text))
    }

    /// Where the result is; `None` of numbers, and of a null pointer, behind which its length would be.
    fn locate(&self, results: &[Value]) -> Result<Option<Place>, Error> {
        let shape = self.ready.abi.result;
        if !shape.is_bytes() {
            return Ok(None);
        }
        let number = |index: usize| results.get(index).and_then(unsigned).unwrap_or_default();
        let room = || self.blocks.iter().find_map(|block| block.result);
        let start = if shape.is_address() { room().unwrap_or_else(|| number(0)) } else { number(0) };
        if start == 0 && shape.is_address() {
            return Ok(None);
        }
        let (width, low) = (if self.memory()?.wide { 8 } else { 4 }, start & u64::from(u32::MAX));
        let (pointer, length) = match shape {
            Shape::Values | Shape::Output => return Ok(None),
            Shape::Packed => (start >> 32, low),
            Shape::PackedLengthFirst => (low, start >> 32),
            Shape::Pair => (start, number(1)),
            Shape::PairAt => (self.word(start, width)?, self.word(start.saturating_add(width), width)?),
            Shape::Cstring => (start, self.length_of_cstring(start)?),
            Shape::LengthPrefixed => (start.saturating_add(width), self.word(start, width)?),
            Shape::LengthBefore => (start, self.word(start.wrapping_sub(width), width)?),
            Shape::Fixed(length) => (start, length),
            Shape::InPlace => (self.blocks.first().map_or(0, |block| block.pointer), start),
            Shape::Managed => return self.managed(start).map(Some),
        };
        let (first, size) = match shape {
            Shape::Cstring => (pointer, length.saturating_add(1)),
            Shape::LengthPrefixed => (start, length.saturating_add(width)),
            _ => (pointer, length),
        };
        let result = if shape.is_address() { start } else { pointer };
        let block = Block { pointer: first, size, result: Some(result) };
        Ok(Some(Place { pointer, length, block, utf16: false }))
    }

    /// Where the bytes of an object of AssemblyScript's are.
    fn managed(&self, start: u64) -> Result<Place, Error> {
        let header = start.wrapping_sub(managed::HEADER);
        let (id, size) = (self.word(header, 4)?, self.word(header.saturating_add(4), 4)?);
        let field = |offset: u64| self.word(start.saturating_add(offset), 4);
        let (pointer, length) = match managed::Object::of(id, size) {
            Some(managed::Object::Own) => (start, size),
            Some(managed::Object::View) => (field(managed::DATA)?, field(managed::BYTES)?),
            Some(managed::Object::Array) => (field(managed::DATA)?, field(managed::LENGTH)?),
            None => {
                let export = shown::name(self.name());
                return Err(AbiError::NotManaged { export, offset: start, id, length: size }.into());
            }
        };
        let block = Block { pointer: start, size, result: Some(start) };
        Ok(Place { pointer, length, block, utf16: id == managed::STRING })
    }

    /// How many bytes there are before the zero byte, of as many as the call may give.
    fn length_of_cstring(&self, start: u64) -> Result<u64, Error> {
        let size = self.memory_size();
        let range = self.range(start, size.saturating_sub(start), self.name())?;
        let all = &self.memory()?.memory.data(&self.guest.store)[range];
        let (allowed, before) = (self.invocation().limits.max_output, self.invocation().output_bytes());
        let most = usize::try_from(allowed.saturating_sub(before)).unwrap_or(usize::MAX);
        let looked_at = all.get(..most.saturating_add(1)).unwrap_or(all);
        match CStr::from_bytes_until_nul(looked_at) {
            Ok(text) => Ok(text.count_bytes() as u64),
            Err(_) if looked_at.len() < all.len() => {
                let used = before.saturating_add(looked_at.len() as u64);
                Err(LimitError::new(Limit::Output, allowed, used).into())
            }
            Err(_) => Err(AbiError::Unterminated { export: shown::name(self.name()), offset: start, size }.into()),
        }
    }

    /// A number in memory.
    fn word(&self, at: u64, width: u64) -> Result<u64, Error> {
        let range = self.range(at, width, self.name())?;
        let bytes = &self.memory()?.memory.data(&self.guest.store)[range];
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    // What the guest gives, checked

    fn range(&self, pointer: u64, length: u64, giver: &str) -> Result<Range<usize>, Error> {
        let size = self.memory_size();
        let end = pointer.checked_add(length).filter(|end| *end <= size);
        end.map(|end| pointer as usize..end as usize).ok_or_else(|| self.outside((pointer, length), giver))
    }

    fn outside(&self, (offset, length): (u64, u64), giver: &str) -> Error {
        AbiError::OutOfBounds { export: shown::name(giver), offset, length, size: self.memory_size() }.into()
    }

    fn memory_size(&self) -> u64 {
        self.ready.memory.map_or(0, |linear| linear.memory.data_size(&self.guest.store) as u64)
    }

    fn memory(&self) -> Result<Linear, Error> {
        self.ready.memory.ok_or_else(|| Error::Internal("an exchange without a memory".into()))
    }

    /// The name of the function that the exchange is about.
    fn name(&self) -> &str {
        &self.ready.called.function.name
    }

    /// The name of the function that makes room.
    fn allocator(&self) -> &str {
        self.ready.alloc.as_ref().map_or("", |alloc| &alloc.function.name)
    }

    fn invocation(&self) -> &Invocation {
        &self.guest.store.data().invocation
    }
}

/// A number as an embedder is told it.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::I32(number) => Some((*number).into()),
        Value::I64(number) => Some(*number),
        _ => None,
    }
}
