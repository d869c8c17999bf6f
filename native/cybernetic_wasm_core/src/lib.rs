//! Runs untrusted WebAssembly as coroutines under fuel, memory and time limits. Knows Wasmtime; does not know the BEAM.
//!
//! The journey of a call:
//!
//! 1. [`runtime`] takes the bytes of a module, digests them, and asks the `cache`; at a miss a thread of the `engine`'s
//!    compiler makes a [`module::Module`], whose imported functions the `linker` binds to trampolines once and for all.
//! 2. [`execution::Execution::call`] boxes a future that owns everything the call needs. Nothing has run yet.
//! 3. [`execution::Execution::step`] polls it: the future takes a place among the live guests ([`limits`]), makes a `store`
//!    with its limiter, instantiates, calls. A step ends when the guest does, when its time on the scheduler is spent,
//!    when it calls the host, or when it waits.
//! 4. In a host call the future serves the driver's [`host::Command`]s with the `Caller` it holds, one a step.
//!    Whatever looks at the guest or changes it there is an [`access::Access`], which an idle instance takes as well.
//! 5. The last step gives the results or an [`Error`], and [`execution::Execution::usage`] what it took.
//! 6. An execution dropped in the middle goes to the [`reaper`], which unwinds the guest on a thread of its own.
//!
//! What a guest calls of the system interface is answered in [`wasi`], within what its sandbox grants; only when it reads what
//! nobody has given yet, or writes what somebody wants to see at once, does a step end for it.
//!
//! A call on a live [`instance::Instance`] differs in step 3: it leases the store that is there already, and gives it back.

#![forbid(unsafe_code)]

pub mod access;
mod cache;
mod callee;
pub mod engine;
pub mod error;
pub mod execution;
pub mod host;
pub mod instance;
mod invocation;
pub mod limits;
pub mod linker;
pub mod manifest;
pub mod module;
pub mod network;
pub mod reaper;
pub mod runtime;
mod snapshot;
mod store;
pub mod value;
pub mod wasi;

pub use cache::CacheStats;
pub use error::Error;
pub use invocation::{Cancel, Denial, Listener, Output, Stdin, Stream};

/// The text of a caught panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_else(|| "no message".to_owned()))
}
