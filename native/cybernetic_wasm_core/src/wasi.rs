//! WASI: the functions by which a guest reaches its [`System`](crate::system), within what it was granted. A module has those of
//! previews 0 and 1, which are here, a component those of 0.2, in `p2.rs`.
//!
//! `wasmtime-wasi` does the work. This module stands around each of its functions: the table of them is in `function.rs`;
//! `entry.rs` counts a call, moves file work off the normal schedulers, ends a slice that is spent, and refuses; `call.rs`
//! asks the grants and the bounds first, and notes what a call has changed; `denied.rs` tells a grant's refusal from the
//! operating system's. `posix.rs` has what a POSIX system answers otherwise, `preview.rs` what preview 0 has otherwise, and
//! `null.rs` plays the null device.
//!
//! File work is done where the step runs. What may keep a thread for long, opening a file and listing a directory, is done
//! apart from the guest (`apart.rs`), so that the deadline holds. Waiting is done in `poll.rs`, without a thread.

mod apart;
mod call;
mod denied;
mod entry;
mod function;
mod null;
mod own;
pub(crate) mod p2;
mod poll;
mod posix;
mod preview;

pub use function::functions;
pub(crate) use function::signature_of;
pub use p2::interfaces;
pub(crate) use p2::receive;
pub(crate) use preview::Preview;

use crate::error::Error;
use crate::store::StoreData;
use call::Call;
use entry::{HOSTCALL_FUEL, enter, explain, memory, no_wasi};
use function::Function;
use poll::poll_oneoff;
use std::sync::Arc;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1};
use wiggle::GuestMemory;

/// Defines the functions of the table in a linker.
macro_rules! define {
    ($($how:ident $kind:ident $name:ident($($arg:ident: $ty:ident),*);)*) => {
        fn define(linker: &mut Linker<StoreData>, preview: Preview) -> wasmtime::Result<()> {
            $(if preview.has(Function::$name) {
                define!(@$how linker, preview, $name($($arg: $ty),*));
            })*
            Ok(())
        }
    };
    // It does not return, and so has no errno.
    (@own $linker:ident, $preview:ident, proc_exit($code:ident: $ty:ident)) => {
        $linker.func_wrap_async($preview.module(), "proc_exit", |_: Caller<'_, StoreData>, ($code,): ($ty,)| {
            Box::new(async move { Err::<(), _>(Error::Exit($code as u32).into()) })
        })?
    };
    (@$how:ident $linker:ident, $preview:ident, $name:ident($($arg:ident: $ty:ident),*)) => {{
        let name = stringify!($name);
        $linker.func_wrap_async($preview.module(), name, move |mut caller: Caller<'_, StoreData>, ($($arg,)*): ($($ty,)*)| {
            Box::new(async move {
                let args: &[i64] = &[$(i64::from($arg)),*];
                let mut call = Call::new(Function::$name, $preview, args);
                let errno = define!(@body $how caller, call, $name($($arg),*));
                Ok::<i32, wasmtime::Error>(errno)
            })
        })?
    }};
    (@body sync $caller:ident, $call:ident, $name:ident($($arg:ident),*)) => {
        define!(@here $caller, $call, |ctx, memory| preview1::$name(ctx, memory, $($arg),*))
    };
    (@body wait $caller:ident, $call:ident, $name:ident($($arg:ident),*)) => {
        define!(@here $caller, $call, |ctx, memory| preview1::$name(ctx, memory, $($arg),*).await)
    };
    (@body posix $caller:ident, $call:ident, $name:ident($($arg:ident),*)) => {
        define!(@here $caller, $call, |ctx, memory| posix::$name(ctx, memory, &$call).await)
    };
    (@body versioned $caller:ident, $call:ident, $name:ident($($arg:ident),*)) => {
        define!(@here $caller, $call, |ctx, memory| preview::$name(ctx, memory, &$call).await)
    };
    (@body apart $caller:ident, $call:ident, $name:ident($($arg:ident),*)) => {
        apart::$name(&mut $caller, &mut $call).await?
    };
    (@body own $caller:ident, $call:ident, poll_oneoff($($arg:ident),*)) => {
        poll_oneoff(&mut $caller, &mut $call).await?
    };
    (@body own $caller:ident, $call:ident, $name:ident($($arg:ident),*)) => {
        own::$name(&mut $caller, &mut $call).await?
    };
    (@here $caller:ident, $call:ident, |$ctx:ident, $memory:ident| $work:expr) => {{
        enter(&mut $caller, &$call).await?;
        let memory = memory(&mut $caller)?;
        let (bytes, data) = memory.data_and_store_mut(&mut $caller);
        let invocation = Arc::clone(&data.invocation);
        let system = data.system.as_deref_mut().ok_or_else(no_wasi)?;
        if let Some(errno) = $call.answer_null(system, bytes)? {
            return Ok(errno as i32);
        }
        if let Some(errno) = $call.before(system, bytes, &invocation).await? {
            return Ok(errno as i32);
        }
        let done = {
            let ($ctx, $memory) = (system.ctx()?, &mut GuestMemory::Unshared(bytes));
            $ctx.set_hostcall_fuel(HOSTCALL_FUEL);
            $work
        };
        let errno = done.or_else(explain)?;
        $call.after(system, bytes, &invocation, errno).await;
        if $call.writes_output(system) {
            invocation.hand_over().await;
        }
        errno
    }};
}

function::table!(define);

/// A linker that has WASI and nothing else.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<StoreData>> {
    let mut linker = Linker::new(engine);
    linker.allow_shadowing(true);
    for preview in Preview::ALL {
        define(&mut linker, preview)?;
    }
    Ok(linker)
}
