//! Functions that have nothing of `wasmtime-wasi`'s in them, but for `poll_oneoff`, which has a file of its own.

use super::call::Call;
use super::entry::{enter, memory, no_wasi, trap};
use crate::error::Error;
use crate::store::StoreData;
use std::sync::Arc;
use wasmtime::Caller;
use wasmtime_wasi::p1::types::Errno;

/// Fills the guest's buffer a part at a time, so that a large one does not make a slice long.
pub(super) async fn random_get(caller: &mut Caller<'_, StoreData>, call: &mut Call<'_>) -> wasmtime::Result<i32> {
    const PART: usize = 64 << 10;
    enter(caller, call).await?;
    let memory = memory(caller)?;
    let (bytes, data) = memory.data_and_store_mut(&mut *caller);
    let invocation = Arc::clone(&data.invocation);
    let system = data.system.as_deref_mut().ok_or_else(no_wasi)?;
    if let Some(errno) = call.before(system, bytes, &invocation).await? {
        return Ok(errno as i32);
    }
    let (offset, length) = (call.arg(0) as usize, call.arg(1) as usize);
    let buffer = bytes.get_mut(offset..).and_then(|rest| rest.get_mut(..length));
    let buffer = buffer.ok_or_else(|| trap("a WASI function was given a bad pointer: the buffer is out of bounds"))?;
    for part in buffer.chunks_mut(PART) {
        invocation.breathe().await;
        system.random.fill(part);
    }
    Ok(Errno::Success as i32)
}

pub(super) async fn sched_yield(caller: &mut Caller<'_, StoreData>, _: &mut Call<'_>) -> wasmtime::Result<i32> {
    let invocation = Arc::clone(&caller.data().invocation);
    invocation.count_host_call().map_err(Error::from)?;
    invocation.pause().await;
    Ok(Errno::Success as i32)
}
