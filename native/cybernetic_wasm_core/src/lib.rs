//! Runs untrusted WebAssembly as coroutines under fuel, memory and time limits. Knows Wasmtime; does not know the BEAM.
//!
//! # The journey of a call
//!
//! 1. [`runtime`] takes the bytes of a module, digests them, and asks the `cache`; at a miss the [`artifacts`] on disk; and
//!    where there is none the [`compiler`] makes code of them in a process of its own, which becomes [`code`] in an engine, and a [`module::Module`] whose imported functions the [`linker`] binds to trampolines
//!    once and for all.
//! 2. [`execution::Execution::call`] boxes a future that owns everything the call needs. Nothing has run yet.
//! 3. [`execution::Execution::step`] polls it: the future takes a place among the live guests ([`limits`]), makes a `guest`
//!    (a `store` with its limiter, and an instance in it) and calls. A step ends when the guest does, when its time on the
//!    scheduler is spent ([`lane`]), when it calls the host, or when it waits.
//! 4. In a host call the future serves the driver's [`mail::Command`]s with the `Caller` it holds, one a step (`host`).
//!    Whatever looks at the guest or changes it there is an [`access::Access`], which an idle instance takes as well.
//! 5. The last step gives the results or an [`Error`], and [`execution::Execution::tally`] what it took.
//! 6. An execution dropped in the middle goes to the [`reaper`], which unwinds the guest on a thread of its own.
//!
//! What a guest calls of WASI, a module of its previews or a component of 0.2, is answered in [`wasi`], by what it has of the [`system`]; only when it reads what nobody has
//! given yet, or writes what somebody wants to see at once, does a step end for it.
//!
//! A component that answers a request, or sends some, has the driver run errands: a step ends for each
//! ([`execution::Step::Http`]).
//!
//! A call that passes bytes is an [`abi::Exchange`]: within step 3 the guest also allocates and lets go.
//!
//! A call on a live [`instance::Instance`] differs in step 3: it leases the guest that is there already ([`live`]), and gives
//! it back.
//!
//! # Words
//!
//! The same words mean the same things in Elixir.
//!
//! - *node*: what all guests of one VM share: engines, cache, ceilings ([`runtime::Runtime`]).
//! - *engine*: Wasmtime's, one for each configuration.
//! - *code*: one compilation of a module's bytes in an engine, and the facts about it. Engines of a kind load the same
//!   *compiled* bytes.
//! - *worker*: a process that compiles. The *keeper* is the one that starts and ends them; a *runner* the thread that waits for
//!   one.
//! - *artifact*: compiled code, in a memory file that nobody can change, or in a file on disk that is under a seal.
//! - *module*: what was loaded: code, what it is linked with, and its variants for other engines. A *component* is one whose code
//!   is made of several modules of WebAssembly, and whose functions take and give values of WIT's types.
//! - *guest*: a store and what lives in it. It has a *system* where it was granted one.
//! - *resource*: something that a component passes by a handle: one of its own, which lives in its store, or one of the
//!   embedder's.
//! - *member*: one of the instances in a guest's store. The first is what the guest began with; others join it.
//! - *fresh*, *live*: a guest made for one call; one that stays, and is used by one call at a time.
//! - *instance*: one member of a live guest, as the embedder holds it.
//! - *invocation*: one call of the embedder's, with its limits and counters, however often the guest re-enters.
//! - *execution*: a call, instantiation or load as a coroutine of whoever steps it.
//! - *ABI*: how bytes go into a function and come out of it. An *exchange* is a call that passes them.
//! - *kernel*: what a plugin made for Extism has beside its own memory: blocks that it and its host pass to each other.
//! - *step*: polls of an execution until there is something to tell, or its *slice* of time is spent.
//! - *crowd*: those who want a dirty scheduler. While they are more than there are of these, slices are short.
//! - *host call*: a guest's call of a function that the embedder answers; *command*: what is asked of the guest meanwhile.
//! - *errand*: what the driver does for a guest's HTTP: it takes a piece of its answer, or gives it one of a body.
//! - *tally*: what a call used, put out and was refused.
//! - *grant*, *denial*: what a guest was given of the system; what it asked for and was refused.
//!
//! # Levels
//!
//! From the bottom up. What is on one level uses only what is below it: `tests/it/levels.rs` holds that.
//!
//! 1. `error` `folder` `json` `lane` `member` `reaper` `toml`
//! 2. `engine` `kernel` `limits` `network` `wit`
//! 3. `value`
//! 4. `code`
//! 5. `abi` `access` `compiler`
//! 6. `artifacts` `mail`
//! 7. `invocation`
//! 8. `system`
//! 9. `store`
//! 10. `extism` `guest` `wasi`
//! 11. `host`
//! 12. `linker`
//! 13. `module`
//! 14. `cache` `live`
//! 15. `instance` `runtime`
//! 16. `execution`

#![forbid(unsafe_code)]

pub mod abi;
pub mod access;
pub mod artifacts;
mod cache;
pub mod code;
pub mod compiler;
pub mod engine;
pub mod error;
pub mod execution;
mod extism;
pub mod folder;
mod guest;
mod host;
pub mod instance;
mod invocation;
pub mod json;
pub mod kernel;
pub mod lane;
pub mod limits;
pub mod linker;
pub mod live;
pub mod mail;
pub mod member;
pub mod module;
pub mod network;
pub mod reaper;
pub mod runtime;
mod store;
pub mod system;
pub mod toml;
pub mod value;
pub mod wasi;
pub mod wit;

pub use cache::CacheStats;
pub use error::Error;
pub use invocation::{Cancel, Denial, Listener, Output, Stdin, Stream};
