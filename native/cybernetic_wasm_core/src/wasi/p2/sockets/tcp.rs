//! `wasi:sockets/tcp`.

use super::{check_own, check_peer, close, delegate, delegated, denied, sockets};
use crate::network::Protocol;
use crate::store::StoreData;
use crate::system::within;
use crate::wasi::p2::entry::{Work, enter};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::bindings::sockets::tcp::{Host, HostTcpSocket, ShutdownType};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, SocketError, SocketResult, TcpSocket};

type Streams = (Resource<DynInputStream>, Resource<DynOutputStream>);
type Accepted = (Resource<TcpSocket>, Resource<DynInputStream>, Resource<DynOutputStream>);
type Socket = Resource<TcpSocket>;

impl Host for StoreData {}

impl HostTcpSocket for StoreData {
    async fn start_bind(
        &mut self,
        socket: Socket,
        network: Resource<Network>,
        own: IpSocketAddress,
    ) -> SocketResult<()> {
        enter(self, Work::Short).await.map_err(SocketError::trap)?;
        check_own(self, "wasi:sockets/tcp#start-bind", own)?;
        let (reactor, mut sockets) = sockets(self).map_err(SocketError::trap)?;
        within(reactor, sockets.start_bind(socket, network, own)).await
    }

    fn start_connect(&mut self, socket: Socket, network: Resource<Network>, peer: IpSocketAddress) -> SocketResult<()> {
        check_peer(self, ("wasi:sockets/tcp#start-connect", Protocol::Tcp), peer)?;
        delegated(self, |sockets| sockets.start_connect(socket, network, peer)).map_err(SocketError::trap)?
    }

    async fn start_listen(&mut self, _socket: Socket) -> SocketResult<()> {
        enter(self, Work::Short).await.map_err(SocketError::trap)?;
        Err(denied(self, ("wasi:sockets/tcp#start-listen", "network", None)))
    }

    delegate! { HostTcpSocket, SocketError::trap;
        finish_bind(socket: Socket) -> SocketResult<()>;
        finish_connect(socket: Socket) -> SocketResult<Streams>;
        finish_listen(socket: Socket) -> SocketResult<()>;
        accept(socket: Socket) -> SocketResult<Accepted>;
        local_address(socket: Socket) -> SocketResult<IpSocketAddress>;
        remote_address(socket: Socket) -> SocketResult<IpSocketAddress>;
        set_listen_backlog_size(socket: Socket, size: u64) -> SocketResult<()>;
        keep_alive_enabled(socket: Socket) -> SocketResult<bool>;
        set_keep_alive_enabled(socket: Socket, enabled: bool) -> SocketResult<()>;
        keep_alive_idle_time(socket: Socket) -> SocketResult<u64>;
        set_keep_alive_idle_time(socket: Socket, nanoseconds: u64) -> SocketResult<()>;
        keep_alive_interval(socket: Socket) -> SocketResult<u64>;
        set_keep_alive_interval(socket: Socket, nanoseconds: u64) -> SocketResult<()>;
        keep_alive_count(socket: Socket) -> SocketResult<u32>;
        set_keep_alive_count(socket: Socket, count: u32) -> SocketResult<()>;
        hop_limit(socket: Socket) -> SocketResult<u8>;
        set_hop_limit(socket: Socket, most: u8) -> SocketResult<()>;
        receive_buffer_size(socket: Socket) -> SocketResult<u64>;
        set_receive_buffer_size(socket: Socket, size: u64) -> SocketResult<()>;
        send_buffer_size(socket: Socket) -> SocketResult<u64>;
        set_send_buffer_size(socket: Socket, size: u64) -> SocketResult<()>;
        shutdown(socket: Socket, how: ShutdownType) -> SocketResult<()>;
    }

    delegate! { HostTcpSocket, std::convert::identity;
        is_listening(socket: Socket) -> wasmtime::Result<bool>;
        address_family(socket: Socket) -> wasmtime::Result<IpAddressFamily>;
        subscribe(socket: Socket) -> wasmtime::Result<Resource<DynPollable>>;
    }

    fn drop(&mut self, socket: Socket) -> wasmtime::Result<()> {
        delegated(self, |sockets| HostTcpSocket::drop(sockets, socket))??;
        close(self);
        Ok(())
    }
}
