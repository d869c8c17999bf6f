//! What a Wasmtime error means to the caller.

use crate::code::Code;
use crate::engine::PoolFull;
use crate::error::{Error, Exception, Frame, Limit, LimitError, Trap, shown};
use crate::invocation::Invocation;
use wasmtime::{FrameInfo, GcHeapOutOfMemory, PoolConcurrencyLimitError, ThrownException, WasmBacktrace};

/// Bytes that a heap of collected structures can have at the most.
const LARGEST_HEAP: u64 = 4 << 30;

/// Fuel and stack are limits; so is a trap that a refused growth explains.
pub(crate) fn classify(error: wasmtime::Error, invocation: &Invocation, code: &Code) -> Error {
    if let Some(own) = error.downcast_ref::<Error>() {
        return with_frames(own.clone(), &error);
    }
    match (error.downcast_ref::<wasmtime::Trap>(), invocation.refused()) {
        (Some(wasmtime::Trap::OutOfFuel), _) => invocation.fuel_error().into(),
        (Some(wasmtime::Trap::StackOverflow), _) => {
            let stack = code.engine().config().max_stack;
            LimitError::new(Limit::Stack, stack, stack).into()
        }
        (Some(trap), Some(refused)) if is_failed_allocation(*trap) => refused.into(),
        (Some(trap), _) => trapped(*trap, &error).into(),
        (None, _) if error.is::<ThrownException>() => {
            let message = "uncaught exception".to_owned();
            let exception = error.downcast_ref::<Exception>().cloned().map(Box::new);
            let code = code_of(wasmtime::Trap::UncaughtException);
            Trap { code, message, frames: frames(&error), exception, ..Trap::default() }.into()
        }
        (None, Some(refused)) => refused.into(),
        // More than a heap can have, whatever the limits.
        (None, None) if error.is::<GcHeapOutOfMemory<()>>() => {
            LimitError::new(Limit::Memory, invocation.limits.max_memory, LARGEST_HEAP).into()
        }
        (None, None) if error.is::<PoolFull>() => LimitError::from(PoolFull).into(),
        // Re-entrant calls take stacks of their own, and the pool has as many as guests.
        (None, None) if error.is::<PoolConcurrencyLimitError>() => LimitError::from(PoolFull).into(),
        (None, None) => Error::internal(error),
    }
}

/// The same of a component. What a guest passes can be no value of its type, which is its own fault, but to Wasmtime no trap.
pub(crate) fn classify_component(error: wasmtime::Error, invocation: &Invocation, code: &Code) -> Error {
    const TOO_MUCH: &str = "too much data is being copied";
    const TOO_MANY: &str = "store handle limit exceeded";
    // What was to be passed has been looked at before.
    const OF_OURS: &str = "type mismatch";
    let known = error.is::<Error>() || error.is::<wasmtime::Trap>() || error.is::<PoolConcurrencyLimitError>();
    let text = error.root_cause().to_string();
    if known || text.starts_with(OF_OURS) {
        return classify(error, invocation, code);
    }
    if text.starts_with(TOO_MUCH) {
        let allowed = invocation.limits.max_transfer;
        return LimitError::new(Limit::Transfer, allowed, allowed.saturating_add(1)).into();
    }
    if text.ends_with(TOO_MANY) {
        let allowed = invocation.limits.max_resources;
        return LimitError::new(Limit::Resources, allowed, allowed.saturating_add(1)).into();
    }
    match (invocation.refused(), Error::internal(error)) {
        (Some(refused), _) => refused.into(),
        (None, Error::Internal(text)) => Trap { code: "invalid_value", message: text, ..Trap::default() }.into(),
        (None, of_system) => of_system,
    }
}

/// A trap of ours happened where the guest called.
fn with_frames(own: Error, error: &wasmtime::Error) -> Error {
    match own {
        Error::Trap(trap) if trap.frames.is_empty() => Trap { frames: frames(error), ..trap }.into(),
        own => own,
    }
}

/// The trap, with the backtrace that `error` has.
pub(super) fn trapped(trap: wasmtime::Trap, error: &wasmtime::Error) -> Trap {
    let text = trap.to_string();
    let message = text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned();
    Trap { code: code_of(trap), message, frames: frames(error), ..Trap::default() }
}

/// Whether a guest traps like this when it cannot have memory: languages abort by `unreachable`, or write to address zero
/// and beyond.
fn is_failed_allocation(trap: wasmtime::Trap) -> bool {
    use wasmtime::Trap::*;
    matches!(trap, UnreachableCodeReached | MemoryOutOfBounds | TableOutOfBounds | AllocationTooLarge)
}

fn frames(error: &wasmtime::Error) -> Vec<Frame> {
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    let frames = backtrace.map(WasmBacktrace::frames).unwrap_or_default();
    let frame = |frame: &FrameInfo| Frame {
        function: frame.func_index(),
        name: frame.func_name().map(shown::function),
        offset: frame.module_offset().map(|offset| offset as u64),
    };
    frames.iter().map(frame).collect()
}

/// The snake-case code of a Wasmtime trap.
fn code_of(trap: wasmtime::Trap) -> &'static str {
    use wasmtime::Trap::*;
    match trap {
        StackOverflow => "stack_overflow",
        MemoryOutOfBounds => "memory_out_of_bounds",
        HeapMisaligned => "unaligned_atomic",
        TableOutOfBounds => "table_out_of_bounds",
        IndirectCallToNull => "indirect_call_to_null",
        BadSignature => "indirect_call_type_mismatch",
        IntegerOverflow => "integer_overflow",
        IntegerDivisionByZero => "integer_divide_by_zero",
        BadConversionToInteger => "invalid_conversion_to_integer",
        UnreachableCodeReached => "unreachable",
        NullReference => "null_reference",
        ArrayOutOfBounds => "array_out_of_bounds",
        AllocationTooLarge => "allocation_too_large",
        CastFailure => "cast_failure",
        OutOfFuel => "out_of_fuel",
        Interrupt => "interrupt",
        UncaughtException => "uncaught_exception",
        CannotEnterComponent => "cannot_enter_component",
        _ => "other",
    }
}
