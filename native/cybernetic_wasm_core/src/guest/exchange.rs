//! Carrying out an exchange: the guest makes room for the arguments that are bytes, they are written there, the function is
//! called, its result is read, and the guest lets go of what was allocated. It is one call of the embedder's, in one budget.
//!
//! Whatever the guest gives is checked where it is used: a pointer, a length, a string's end. A guest that gives a wrong one has
//! returned, and is at rest as after any call: what it allocated is let go of then as well.

use super::callee::{Callee, count_arguments, invoke};
use super::{Guest, access};
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
}

/// A function, ready to be called.
struct Found {
    function: Arc<Function>,
    callee: Callee,
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

/// Where a result's bytes are, and the block that they are in.
struct Place {
    pointer: u64,
    length: u64,
    block: Block,
}

/// An exchange under way.
struct Exchanging<'a> {
    guest: &'a mut Guest,
    ready: &'a Ready,
    blocks: SmallVec<[Block; 4]>,
    /// The arguments and results of the functions beside the one that the exchange is about: a vector is made once for all.
    passed: Vec<Value>,
}

impl Guest {
    /// Carries out an exchange with one of its members, which is an instance of `code`.
    pub(crate) async fn exchange(
        &mut self,
        (member, code): (MemberId, &Code),
        exchange: Exchange,
    ) -> Result<Exchanged, Error> {
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
            Some(helper) => self.found(instance, &helper.find(code, gives)?).map(Some),
            None => Ok(None),
        };
        let (alloc, free_arguments) = (helper(&abi.alloc, true)?, helper(&abi.free_arguments, false)?);
        let free_result = helper(&abi.free_result, false)?;
        let called = self.found(instance, &exchange.function)?;
        Ok(Ready { member, instance, abi: Arc::clone(abi), called, alloc, free_arguments, free_result, memory })
    }

    fn found(&mut self, instance: wasmtime::Instance, function: &Arc<Function>) -> Result<Found, Error> {
        Ok(Found { callee: self.find(instance, function)?, function: Arc::clone(function) })
    }

    fn linear(&mut self, (instance, code): (wasmtime::Instance, &Code), abi: &Abi) -> Result<Linear, CallError> {
        let name = memory_name(abi.memory.as_deref(), code);
        let found: Option<Extern> = if code.hides(name) { None } else { instance.get_export(&mut self.store, name) };
        let memory = access::memory(found, name)?;
        Ok(Linear { memory, wide: memory.ty(&self.store).is_64() })
    }
}

impl Ready {
    fn is_for(&self, member: MemberId, exchange: &Exchange) -> bool {
        Arc::ptr_eq(&self.called.function, &exchange.function)
            && Arc::ptr_eq(&self.abi, &exchange.abi)
            && self.member == member
            && (self.memory.is_some() || !exchange.allocates())
    }

    /// What lets go of a block.
    fn free(&self, block: &Block) -> Option<(&Found, &Helper)> {
        let (found, helper) = match block.result {
            Some(_) => (&self.free_result, &self.abi.free_result),
            None => (&self.free_arguments, &self.abi.free_arguments),
        };
        found.as_ref().zip(helper.as_ref())
    }
}

impl Exchanging<'_> {
    async fn run(mut self, arguments: Vec<Argument>) -> Result<Exchanged, Error> {
        let values = match self.put(arguments).await {
            Err(error @ Error::Abi(_)) => {
                self.let_go(None).await?;
                return Err(error);
            }
            values => values?,
        };
        let results = self.call(values).await?;
        let (block, taken) = self.take(results).await;
        self.let_go(block).await?;
        match taken {
            Err(Error::Limit(limit)) => Ok(Exchanged::TooLong(limit)),
            taken => taken,
        }
    }

    // Before the call

    /// The arguments as the function takes them, with those that are bytes in the guest's memory.
    async fn put(&mut self, arguments: Vec<Argument>) -> Result<Vec<Value>, Error> {
        let mut values = Vec::with_capacity(self.ready.called.function.params().len());
        for argument in arguments {
            match argument {
                Argument::Value(value) => values.push(value),
                Argument::Bytes(bytes) => {
                    self.put_bytes(&bytes, &mut values).await?;
                    self.pass(bytes.len() as u64, &mut values)?;
                }
                Argument::Pointer(bytes) => self.put_bytes(&bytes, &mut values).await?,
                Argument::Room(size) => {
                    let block = self.allocate(size).await?;
                    self.range(block.pointer, size, self.allocator())?;
                    self.blocks.push(Block { result: Some(block.pointer), ..block });
                    self.pass(block.pointer, &mut values)?;
                }
            }
        }
        Ok(values)
    }

    /// Has the guest make room for bytes, writes them, and passes where they are.
    async fn put_bytes(&mut self, bytes: &[u8], values: &mut Vec<Value>) -> Result<(), Error> {
        let block = self.allocate(bytes.len() as u64).await?;
        if block.size > INLINE_OUTPUT {
            self.invocation().leave_inline().await;
        }
        let range = self.range(block.pointer, block.size, self.allocator())?;
        self.blocks.push(block);
        let Linear { memory, .. } = self.memory()?;
        memory.data_mut(&mut self.guest.store)[range].copy_from_slice(bytes);
        self.pass(block.pointer, values)
    }

    async fn allocate(&mut self, size: u64) -> Result<Block, Error> {
        let ready = self.ready;
        let (Some(alloc), Some(helper)) = (&ready.alloc, &ready.abi.alloc) else {
            return Err(CallError::NoAllocator.into());
        };
        let mut block = Block { pointer: 0, size, result: None };
        if self.invoke((alloc, helper), &block).await? {
            block.pointer = self.passed.first().and_then(unsigned).unwrap_or_default();
        }
        match block.pointer == 0 && size > 0 {
            true => Err(AbiError::NoRoom { export: shown::name(self.allocator()), length: size }.into()),
            false => Ok(block),
        }
    }

    /// Adds a pointer or a length to the arguments, as the parameter takes it whose turn it is.
    fn pass(&self, number: u64, values: &mut Vec<Value>) -> Result<(), Error> {
        let function = &self.ready.called.function;
        let value = function.params().get(values.len()).and_then(|ty| integer(number.into(), ty));
        values.push(value.ok_or_else(|| self.outside((number, 0), self.allocator()))?);
        Ok(())
    }

    // The calls

    async fn call(&mut self, mut values: Vec<Value>) -> Result<Vec<Value>, Error> {
        let Ready { instance, called, .. } = self.ready;
        let store = &mut self.guest.store;
        if let Some(counter) = &called.function.argument_counter {
            let counter = instance.get_module_export(&mut *store, counter);
            Box::pin(count_arguments(&mut *store, counter, &called.function, &mut values)).await?;
        }
        store.data_mut().entered |= called.function.is_entry();
        store.data_mut().called = called.function.exported_again.then_some(*instance);
        invoke(store, &called.callee, &called.function, values).await
    }

    /// Calls a function for a block, and leaves its results in `passed`. False: it takes no such number as it would be given.
    async fn invoke(&mut self, (found, helper): (&Found, &Helper), block: &Block) -> Result<bool, Error> {
        self.passed.clear();
        for (operand, ty) in helper.operands.iter().zip(found.function.params()) {
            let number = match operand {
                Operand::Pointer => block.pointer.into(),
                Operand::Size => block.size.into(),
                Operand::Result => block.result.unwrap_or(block.pointer).into(),
                Operand::Number(number) => i128::from(*number),
            };
            let Some(value) = integer(number, ty) else { return Ok(false) };
            self.passed.push(value);
        }
        let passed = std::mem::take(&mut self.passed);
        let store = &mut self.guest.store;
        store.data_mut().called = found.function.exported_again.then_some(self.ready.instance);
        self.passed = invoke(store, &found.callee, &found.function, passed).await?;
        Ok(true)
    }

    // After the call. Until something is let go of, no code of the guest's runs.

    /// The result, and the block that it is in, where that is one to be let go of.
    async fn take(&mut self, results: Vec<Value>) -> (Option<Block>, Result<Exchanged, Error>) {
        let shape = self.ready.abi.result;
        if !shape.is_bytes() {
            return (None, Ok(Exchanged::Values(results)));
        }
        let place = match self.locate(shape, &results).await {
            Ok(Some(place)) => place,
            Ok(None) => return (None, Ok(Exchanged::Null)),
            Err(error) => return (None, Err(error)),
        };
        match self.read(&place).await {
            // What is not there is no block either.
            Err(error @ Error::Abi(_)) => (None, Err(error)),
            read => (Some(place.block), read.map(Exchanged::Bytes)),
        }
    }

    /// Where the result is; `None` of a null pointer, behind which its length would be.
    async fn locate(&mut self, shape: Shape, results: &[Value]) -> Result<Option<Place>, Error> {
        let number = |index: usize| results.get(index).and_then(unsigned).unwrap_or_default();
        let width = if self.memory()?.wide { 8 } else { 4 };
        let room = self.blocks.iter().find_map(|block| block.result);
        let start = if shape.is_address() { room.unwrap_or_else(|| number(0)) } else { number(0) };
        if start == 0 && shape.is_address() {
            return Ok(None);
        }
        let (pointer, length) = match shape {
            Shape::Values => return Ok(None),
            Shape::Packed => (start >> 32, start & u64::from(u32::MAX)),
            Shape::PackedLengthFirst => (start & u64::from(u32::MAX), start >> 32),
            Shape::Pair => (start, number(1)),
            Shape::PairAt => (self.word(start, width)?, self.word(start.saturating_add(width), width)?),
            Shape::Cstring => (start, self.length_of_cstring(start).await?),
            Shape::LengthPrefixed => (start.saturating_add(width), self.word(start, width)?),
            Shape::LengthBefore => (start, self.word(start.wrapping_sub(width), width)?),
            Shape::Fixed(length) => (start, length),
        };
        let (first, size) = match shape {
            Shape::Cstring => (pointer, length.saturating_add(1)),
            Shape::LengthPrefixed => (start, length.saturating_add(width)),
            _ => (pointer, length),
        };
        let result = if shape.is_address() { start } else { pointer };
        Ok(Some(Place { pointer, length, block: Block { pointer: first, size, result: Some(result) } }))
    }

    /// How many bytes there are before the zero byte, of as many as the call may give.
    async fn length_of_cstring(&mut self, start: u64) -> Result<u64, Error> {
        let Linear { memory, .. } = self.memory()?;
        let size = memory.data_size(&self.guest.store);
        self.invocation().leave_inline_for(size as u64).await;
        let range = self.range(start, (size as u64).saturating_sub(start), self.name())?;
        let all = &memory.data(&self.guest.store)[range];
        let (allowed, before) = (self.invocation().limits.max_output, self.invocation().output_bytes());
        let most = usize::try_from(allowed.saturating_sub(before)).unwrap_or(usize::MAX);
        let looked_at = all.get(..most.saturating_add(1)).unwrap_or(all);
        match CStr::from_bytes_until_nul(looked_at) {
            Ok(text) => Ok(text.count_bytes() as u64),
            Err(_) if looked_at.len() < all.len() => {
                let used = before.saturating_add(looked_at.len() as u64);
                Err(LimitError::new(Limit::Output, allowed, used).into())
            }
            Err(_) => {
                Err(AbiError::Unterminated { export: shown::name(self.name()), offset: start, size: size as u64 }
                    .into())
            }
        }
    }

    /// A number in memory.
    fn word(&self, at: u64, width: u64) -> Result<u64, Error> {
        let range = self.range(at, width, self.name())?;
        let bytes = &self.memory()?.memory.data(&self.guest.store)[range];
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    async fn read(&mut self, place: &Place) -> Result<Vec<u8>, Error> {
        let range = self.range(place.pointer, place.length, self.name())?;
        self.invocation().count_output(place.length)?;
        if place.length > INLINE_OUTPUT {
            self.invocation().leave_inline().await;
        }
        Ok(self.memory()?.memory.data(&self.guest.store)[range].to_vec())
    }

    /// Has the guest let go of all that was allocated, and of the result. What is both, it lets go of once.
    async fn let_go(&mut self, result: Option<Block>) -> Result<(), Error> {
        let (ready, blocks) = (self.ready, std::mem::take(&mut self.blocks));
        let freed = |block: &Block| ready.free(block).is_some();
        let twice = |result: &Block| blocks.iter().any(|block| block.pointer == result.pointer && freed(block));
        let result = result.filter(|result| !twice(result));
        for block in blocks.iter().chain(&result).filter(|block| block.pointer != 0) {
            if let Some(free) = ready.free(block) {
                // What it cannot be given is no pointer of its own.
                self.invoke(free, block).await?;
            }
        }
        Ok(())
    }

    // What the guest gives, checked

    fn range(&self, pointer: u64, length: u64, giver: &str) -> Result<Range<usize>, Error> {
        let size = self.memory()?.memory.data_size(&self.guest.store) as u64;
        let end = pointer.checked_add(length).filter(|end| *end <= size);
        end.map(|end| pointer as usize..end as usize).ok_or_else(|| self.outside((pointer, length), giver))
    }

    fn outside(&self, (offset, length): (u64, u64), giver: &str) -> Error {
        let memory = self.ready.memory.map(|linear| linear.memory.data_size(&self.guest.store) as u64);
        AbiError::OutOfBounds { export: shown::name(giver), offset, length, size: memory.unwrap_or_default() }.into()
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
