//! Bulk instructions whose length no memory could hold.
//!
//! Wasmtime charges a bulk instruction by its length before it checks its bounds, so that one with a length of -1 runs out of
//! fuel instead of trapping. Where what was left of the fuel covers everything that the guest has, the length was out of bounds:
//! that is the trap that it is, and the fuel is given back.

use super::failure::trapped;
use crate::error::Error;
use crate::store::StoreData;
use wasmparser::{BinaryReader, Operator, OperatorsReader};
use wasmtime::{AsContext, AsContextMut, Trap, WasmBacktrace};

/// `error`, unless it is fuel that an instruction asked for which was out of bounds: then it is that trap.
pub(crate) fn or_bounds(error: wasmtime::Error, mut store: impl AsContextMut<Data = StoreData>) -> wasmtime::Error {
    if error.downcast_ref::<Trap>() != Some(&Trap::OutOfFuel) {
        return error;
    }
    let invocation = store.as_context().data().invocation.clone();
    let found = bulk_instruction(&error, &store).filter(|(_, most)| certainly_left(&store) > *most);
    let Some((trap, _)) = found else { return error };
    let certain = certainly_left(&store);
    invocation.charge_at_least(invocation.allotted_fuel() - certain);
    if invocation.mail.is_any_open() {
        // The guest may go on, and do the same again: it has back only what it has for certain.
        invocation.set_fuel_used(invocation.allotted_fuel() - certain);
    }
    let left = invocation.allotted_fuel().saturating_sub(invocation.fuel_used());
    match store.as_context_mut().set_fuel(left) {
        Ok(()) => Error::from(trapped(trap, &error)).into(),
        Err(_) => error,
    }
}

/// Fuel that was left at the least before the last instruction. Between two yields the guest uses a yield's fuel, and what comes
/// before it can yield again: a function's instructions without a loop, or a bulk instruction on no more than the guest has.
fn certainly_left(store: impl AsContext<Data = StoreData>) -> u64 {
    let data = store.as_context();
    let (invocation, codes) = (&data.data().invocation, data.data().codes());
    let longest = codes.map(|code| code.wasm().len() as u64).max().unwrap_or(0);
    let every = invocation.yield_fuel().max(1);
    let most = every.saturating_add(longest).saturating_add(invocation.peak_memory());
    // What was used by the last such trap of the same invocation is counted in full.
    let before = invocation.fuel_used_at_least();
    let yields = invocation.fuel_used().saturating_sub(before) / every;
    invocation.allotted_fuel().saturating_sub(before).saturating_sub((yields + 1).saturating_mul(most))
}

/// The trap of the bulk instruction that failed, if it was one; and what its length could have been at the most. An element takes
/// a byte or more.
fn bulk_instruction(error: &wasmtime::Error, store: impl AsContext<Data = StoreData>) -> Option<(Trap, u64)> {
    let frame = error.downcast_ref::<WasmBacktrace>()?.frames().first()?;
    let data = store.as_context();
    let data = data.data();
    let code = data.codes().find(|code| code.image_range() == frame.module().image_range())?;
    let wasm = code.wasm().get(frame.module_offset()?..)?;
    let operator = OperatorsReader::new(BinaryReader::new(wasm, 0)).read().ok()?;
    let (has, may_have) = (data.invocation.peak_memory(), data.invocation.limits.max_memory);
    Some(match operator {
        Operator::MemoryFill { .. } | Operator::MemoryCopy { .. } | Operator::MemoryInit { .. } => {
            (Trap::MemoryOutOfBounds, has)
        }
        Operator::TableFill { .. } | Operator::TableCopy { .. } | Operator::TableInit { .. } => {
            (Trap::TableOutOfBounds, has)
        }
        Operator::ArrayFill { .. }
        | Operator::ArrayCopy { .. }
        | Operator::ArrayInitData { .. }
        | Operator::ArrayInitElem { .. } => (Trap::ArrayOutOfBounds, has),
        // The heap may have grown for these.
        Operator::ArrayNewData { .. } => (Trap::MemoryOutOfBounds, may_have),
        Operator::ArrayNewElem { .. } => (Trap::TableOutOfBounds, may_have),
        Operator::ArrayNew { .. } | Operator::ArrayNewDefault { .. } => (Trap::AllocationTooLarge, may_have),
        _ => return None,
    })
}
