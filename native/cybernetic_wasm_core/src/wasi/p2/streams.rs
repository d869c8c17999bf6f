//! `wasi:io/streams`: reading and writing, whatever it is that is read and written.
//!
//! The bindings of `wasmtime-wasi` have functions that cannot wait for those that do not block. Here each may leave a normal
//! scheduler first, since it may be of a file, and ends a slice that is spent, since it copies; and after a write to standard
//! output the guest waits until that is taken, where somebody wants it at once. So this interface is defined function by
//! function.

use super::entry::{Work, count, enter, system, table};
use crate::store::StoreData;
use crate::system::within;
use crate::wit::interface;
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, StreamResult};
use wasmtime_wasi_io::bindings::wasi::io::streams::{
    Host, HostInputStream as Input, HostOutputStream as Output, StreamError,
};

type Store<'a> = StoreContextMut<'a, StoreData>;
type In = Resource<DynInputStream>;
type Out = Resource<DynOutputStream>;

/// Defines methods by what `wasmtime-wasi-io` does with the table, at once or in a while.
macro_rules! methods {
    ($instance:ident; $($name:literal($($arg:ident: $ty:ty),*) = $trait:ident::$function:ident $($later:ident)?;)*) => {
        $($instance.func_wrap_async($name, |mut store: Store<'_>, ($($arg,)*): ($($ty,)*)| {
            Box::new(async move {
                let data = store.data_mut();
                let before = before(data).await?;
                let reactor = system(data)?.reactor();
                let table = table(data)?;
                let work = async { methods!(@do $trait::$function(table, $($arg),*) $(, $later)?) };
                let done = within(reactor, work).await;
                Ok((after(data, before, done).await?,))
            })
        })?;)*
    };
    (@do $call:expr) => { $call };
    (@do $call:expr, later) => { $call.await };
}

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(&interface("wasi:io/streams"))?;
    add_input(&mut instance)?;
    add_output(&mut instance)
}

fn add_input(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.resource_async("input-stream", ResourceType::host::<DynInputStream>(), |mut store, number| {
        Box::new(async move {
            count(store.data())?;
            Input::drop(table(store.data_mut())?, Resource::new_own(number)).await
        })
    })?;
    instance.func_wrap("[method]input-stream.subscribe", |mut store: Store<'_>, (stream,): (In,)| {
        count(store.data())?;
        Ok((Input::subscribe(table(store.data_mut())?, stream)?,))
    })?;
    methods! { instance;
        "[method]input-stream.read"(stream: In, most: u64) = Input::read;
        "[method]input-stream.blocking-read"(stream: In, most: u64) = Input::blocking_read later;
        "[method]input-stream.skip"(stream: In, most: u64) = Input::skip;
        "[method]input-stream.blocking-skip"(stream: In, most: u64) = Input::blocking_skip later;
    }
    Ok(())
}

fn add_output(instance: &mut LinkerInstance<'_, StoreData>) -> wasmtime::Result<()> {
    instance.resource_async("output-stream", ResourceType::host::<DynOutputStream>(), |mut store, number| {
        Box::new(async move {
            count(store.data())?;
            Output::drop(table(store.data_mut())?, Resource::new_own(number)).await
        })
    })?;
    instance.func_wrap("[method]output-stream.subscribe", |mut store: Store<'_>, (stream,): (Out,)| {
        count(store.data())?;
        Ok((Output::subscribe(table(store.data_mut())?, stream)?,))
    })?;
    methods! { instance;
        "[method]output-stream.check-write"(stream: Out) = Output::check_write;
        "[method]output-stream.write"(stream: Out, bytes: Vec<u8>) = Output::write;
        "[method]output-stream.blocking-write-and-flush"(stream: Out, bytes: Vec<u8>)
            = Output::blocking_write_and_flush later;
        "[method]output-stream.flush"(stream: Out) = Output::flush;
        "[method]output-stream.blocking-flush"(stream: Out) = Output::blocking_flush later;
        "[method]output-stream.write-zeroes"(stream: Out, length: u64) = Output::write_zeroes;
        "[method]output-stream.blocking-write-zeroes-and-flush"(stream: Out, length: u64)
            = Output::blocking_write_zeroes_and_flush later;
        "[method]output-stream.splice"(stream: Out, from: In, most: u64) = Output::splice;
        "[method]output-stream.blocking-splice"(stream: Out, from: In, most: u64) = Output::blocking_splice later;
    }
    Ok(())
}

/// How much the guest has put out before the call.
async fn before(data: &mut StoreData) -> wasmtime::Result<u64> {
    enter(data, Work::Files).await?;
    Ok(data.invocation.output_bytes())
}

/// Has what the call put out taken, and an error in the words of the interface.
async fn after<T>(
    data: &mut StoreData,
    before: u64,
    done: StreamResult<T>,
) -> wasmtime::Result<Result<T, StreamError>> {
    let invocation = Arc::clone(&data.invocation);
    if invocation.output_bytes() > before {
        invocation.hand_over().await;
    }
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(error) => Ok(Err(Host::convert_stream_error(table(data)?, error)?)),
    }
}
