//! WASI 0.2: the interfaces by which a component reaches its [`System`](crate::system), within what it was granted.
//!
//! Every function that is linked is one of this module's: it counts the call, asks the grants, and only then has the work done,
//! much of it by what `wasmtime-wasi` has under the same name. A component is linked with all interfaces whatever it was
//! granted, since many import what they never use: what is refused is refused when it is called.
//!
//! `entry.rs` is what stands around each call. What a function works on, descriptors, streams and what can be waited for, is in
//! the table that the guest's system has, and known to the guest by handles. Waiting is a future like any other, which needs no
//! thread: `poll.rs`.

mod cli;
mod clocks;
mod entry;
mod filesystem;
mod http;
mod poll;
mod random;
mod sockets;
mod streams;

pub(crate) use http::receive;

use crate::store::StoreData;
use crate::wit::SERVED;
use wasmtime::component::Linker;

/// The functions of these interfaces are those that `StoreData` implements.
macro_rules! add {
    ($linker:ident: $($interface:ident),*) => {
        $($interface::add_to_linker::<StoreData, wasmtime::component::HasSelf<StoreData>>($linker, |data| data)?;)*
    };
}
use add;

/// The names of its interfaces, without a version.
pub fn interfaces() -> impl Iterator<Item = &'static str> {
    SERVED.iter().copied()
}

/// A linker that has WASI 0.2 and nothing else.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<StoreData>> {
    let mut linker = Linker::new(engine);
    linker.allow_shadowing(true);
    cli::add_to_linker(&mut linker)?;
    clocks::add_to_linker(&mut linker)?;
    filesystem::add_to_linker(&mut linker)?;
    http::add_to_linker(&mut linker)?;
    poll::add_to_linker(&mut linker)?;
    random::add_to_linker(&mut linker)?;
    sockets::add_to_linker(&mut linker)?;
    streams::add_to_linker(&mut linker)?;
    Ok(linker)
}
