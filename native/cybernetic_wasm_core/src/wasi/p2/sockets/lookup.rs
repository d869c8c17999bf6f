//! `wasi:sockets/ip-name-lookup`: which addresses a name has. What is found is remembered: a rule for a name covers the addresses
//! that the guest itself was told.

use super::denied;
use crate::error::shown;
use crate::store::StoreData;
use crate::system::Lookup;
use crate::wasi::p2::entry::{count, push, system, table};
use crate::wit::interface;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddress, Network};
use wasmtime_wasi::p2::{Pollable, SocketError, SocketResult, subscribe};

type Store<'a> = StoreContextMut<'a, StoreData>;
type Stream = Resource<Lookup>;

/// The longest name that there may be, and some.
const LONGEST_NAME: usize = 300;

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(&interface("wasi:sockets/ip-name-lookup"))?;
    instance.resource("resolve-address-stream", ResourceType::host::<Lookup>(), |mut store, number| {
        count(store.data())?;
        table(store.data_mut())?.delete(Stream::new_own(number))?;
        Ok(())
    })?;
    instance.func_wrap("resolve-addresses", |mut store: Store<'_>, asked: (Resource<Network>, String)| {
        Ok((told(resolve(store.data_mut(), asked))?,))
    })?;
    instance.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        |mut store: Store<'_>, (stream,): (Stream,)| Ok((told(next(store.data_mut(), &stream))?,)),
    )?;
    instance.func_wrap("[method]resolve-address-stream.subscribe", |mut store: Store<'_>, (stream,): (Stream,)| {
        count(store.data())?;
        Ok((subscribe(table(store.data_mut())?, stream)?,))
    })
}

/// What the guest is told.
fn told<T>(done: SocketResult<T>) -> wasmtime::Result<Result<T, ErrorCode>> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(error) => Ok(Err(error.downcast()?)),
    }
}

fn resolve(data: &mut StoreData, (network, name): (Resource<Network>, String)) -> SocketResult<Stream> {
    count(data).map_err(SocketError::trap)?;
    table(data).map_err(SocketError::trap)?.get(&network)?;
    let lookup = match name.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => Lookup::of(address),
        Err(_) if name.len() > LONGEST_NAME => return Err(ErrorCode::InvalidArgument.into()),
        Err(_) => look_up(data, name)?,
    };
    push(data, lookup).map_err(SocketError::trap)
}

fn look_up(data: &mut StoreData, name: String) -> SocketResult<Lookup> {
    let network = system(data).map_err(SocketError::trap)?.network.as_ref().map(Arc::clone);
    match network.filter(|network| network.allows_lookup(&name)) {
        Some(network) => network.look_up(name).ok_or_else(|| ErrorCode::TemporaryResolverFailure.into()),
        None => {
            Err(denied(data, ("wasi:sockets/ip-name-lookup#resolve-addresses", "network", Some(shown::name(&name)))))
        }
    }
}

fn next(data: &mut StoreData, stream: &Stream) -> SocketResult<Option<IpAddress>> {
    count(data).map_err(SocketError::trap)?;
    let lookup = table(data).map_err(SocketError::trap)?.get_mut(stream)?;
    match lookup.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => Err(ErrorCode::WouldBlock.into()),
        Poll::Ready(None) => Err(ErrorCode::NameUnresolvable.into()),
        Poll::Ready(Some(addresses)) => Ok(addresses.next().map(IpAddress::from)),
    }
}

#[async_trait::async_trait]
impl Pollable for Lookup {
    async fn ready(&mut self) {
        poll_fn(|context| self.poll(context).map(|_| ())).await;
    }
}
