//! `wasi:sockets`: streams and datagrams to the peers that the network grant allows, and looking up names.
//!
//! `wasmtime-wasi` has the sockets. Every address is judged here before, and a guest only reaches out: it cannot listen, nor
//! choose an address of its own.

mod lookup;
mod tcp;
mod udp;

use super::add;
use super::entry::{Asked, count, refuse, system};
use crate::network::Protocol;
use crate::store::StoreData;
use crate::system::{Full, is_any, within};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::runtime::Handle;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasmtime_wasi::p2::bindings::sockets::{
    instance_network, network, tcp as streams, tcp_create_socket, udp as datagrams, udp_create_socket,
};
use wasmtime_wasi::p2::{Network, SocketError, SocketResult, TcpSocket, UdpSocket};
use wasmtime_wasi::sockets::{WasiSocketsCtxView, WasiSocketsView};

/// Has `wasmtime-wasi` carry out functions of a trait as they are. What an error of ours becomes is said for all of them.
macro_rules! delegate {
    ($trait:ident, $fails:expr; $($name:ident($($arg:ident: $ty:ty),*) -> $gives:ty;)*) => {$(
        fn $name(&mut self, $($arg: $ty),*) -> $gives {
            delegated(self, |sockets| $trait::$name(sockets, $($arg),*)).map_err($fails)?
        }
    )*};
}
use delegate;

/// Has `wasmtime-wasi` do something, where its sockets are registered.
fn delegated<T>(data: &mut StoreData, work: impl FnOnce(&mut WasiSocketsCtxView<'_>) -> T) -> wasmtime::Result<T> {
    count(data)?;
    let (reactor, mut sockets) = sockets(data)?;
    let _entered = reactor.as_ref().map(Handle::enter);
    Ok(work(&mut sockets))
}

/// What `wasmtime-wasi` knows of the guest's sockets, and where they are registered.
fn sockets(data: &mut StoreData) -> wasmtime::Result<(Option<Handle>, WasiSocketsCtxView<'_>)> {
    let system = system(data)?;
    Ok((system.reactor(), system.ctx()?.sockets()))
}

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    add!(linker: instance_network, streams, tcp_create_socket, datagrams, udp_create_socket);
    let options = network::LinkOptions::default();
    network::add_to_linker::<StoreData, HasSelf<StoreData>>(linker, &options, |data| data)?;
    lookup::add_to_linker(linker)
}

impl network::Host for StoreData {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn network_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        delegated(self, |sockets| network::Host::network_error_code(sockets, error))?
    }
}

impl network::HostNetwork for StoreData {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        delegated(self, |sockets| network::HostNetwork::drop(sockets, network))?
    }
}

/// It is a handle that gives nothing by itself: what it is used for is judged.
impl instance_network::Host for StoreData {
    fn instance_network(&mut self) -> wasmtime::Result<Resource<Network>> {
        delegated(self, |sockets| instance_network::Host::instance_network(sockets))?
    }
}

impl tcp_create_socket::Host for StoreData {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        open(self, "wasi:sockets/tcp-create-socket#create-tcp-socket")?;
        let opened = delegated(self, |sockets| tcp_create_socket::Host::create_tcp_socket(sockets, family));
        opened.map_err(SocketError::trap)?.inspect_err(|_| close(self))
    }
}

impl udp_create_socket::Host for StoreData {
    async fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        open(self, "wasi:sockets/udp-create-socket#create-udp-socket")?;
        let (reactor, mut sockets) = sockets(self).map_err(SocketError::trap)?;
        let opened = within(reactor, sockets.create_udp_socket(family)).await;
        opened.inspect_err(|_| close(self))
    }
}

/// Counts a socket among what the guest has open, if it may have any.
fn open(data: &mut StoreData, operation: &'static str) -> SocketResult<()> {
    count(data).map_err(SocketError::trap)?;
    let system = system(data).map_err(SocketError::trap)?;
    if system.network.is_none() {
        return Err(denied(data, (operation, "network", None)));
    }
    let full = system.descriptors.reserve().err();
    full.map_or(Ok(()), |full| {
        let most = if full == Full::Guest { "of the guest" } else { "of the node" };
        refuse(data, (operation, "network", Some(format!("open files {most}"))), "new-socket-limit");
        Err(ErrorCode::NewSocketLimit.into())
    })
}

/// A socket is closed.
fn close(data: &mut StoreData) {
    if let Some(system) = &mut data.system {
        system.descriptors.release();
    }
}

/// Refuses what no rule allows.
fn denied(data: &StoreData, asked: Asked) -> SocketError {
    refuse(data, asked, "access-denied");
    ErrorCode::AccessDenied.into()
}

/// Asks the grant for a peer.
fn check_peer(
    data: &mut StoreData,
    (operation, protocol): (&'static str, Protocol),
    peer: IpSocketAddress,
) -> SocketResult<()> {
    let peer = SocketAddr::from(peer);
    let network = system(data).map_err(SocketError::trap)?.network.as_ref().map(Arc::clone);
    match network.is_some_and(|network| network.allows(peer, protocol)) {
        true => Ok(()),
        false => Err(denied(data, (operation, "network", Some(format!("{protocol}://{peer}"))))),
    }
}

/// A guest's own side is any address: it does not choose.
fn check_own(data: &StoreData, operation: &'static str, own: IpSocketAddress) -> SocketResult<()> {
    let own = SocketAddr::from(own);
    if is_any(own) { Ok(()) } else { Err(denied(data, (operation, "network", Some(own.to_string())))) }
}
