//! `wasi:sockets/udp`.

use super::{check_own, check_peer, close, delegate, delegated, sockets};
use crate::network::Protocol;
use crate::store::StoreData;
use crate::system::within;
use crate::wasi::p2::entry::{Work, count, enter};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::bindings::sockets::udp::{
    Host, HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, IncomingDatagram,
    IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream,
};
use wasmtime_wasi::p2::{DynPollable, SocketError, SocketResult, UdpSocket};

type Socket = Resource<UdpSocket>;
type Incoming = Resource<IncomingDatagramStream>;
type Outgoing = Resource<OutgoingDatagramStream>;

impl Host for StoreData {}

impl HostUdpSocket for StoreData {
    async fn start_bind(
        &mut self,
        socket: Socket,
        network: Resource<Network>,
        own: IpSocketAddress,
    ) -> SocketResult<()> {
        enter(self, Work::Short).await.map_err(SocketError::trap)?;
        check_own(self, "wasi:sockets/udp#start-bind", own)?;
        let (reactor, mut sockets) = sockets(self).map_err(SocketError::trap)?;
        within(reactor, sockets.start_bind(socket, network, own)).await
    }

    async fn stream(&mut self, socket: Socket, peer: Option<IpSocketAddress>) -> SocketResult<(Incoming, Outgoing)> {
        enter(self, Work::Short).await.map_err(SocketError::trap)?;
        if let Some(peer) = peer {
            check_peer(self, ("wasi:sockets/udp#stream", Protocol::Udp), peer)?;
        }
        let (reactor, mut sockets) = sockets(self).map_err(SocketError::trap)?;
        within(reactor, sockets.stream(socket, peer)).await
    }

    delegate! { HostUdpSocket, SocketError::trap;
        finish_bind(socket: Socket) -> SocketResult<()>;
        local_address(socket: Socket) -> SocketResult<IpSocketAddress>;
        remote_address(socket: Socket) -> SocketResult<IpSocketAddress>;
        unicast_hop_limit(socket: Socket) -> SocketResult<u8>;
        set_unicast_hop_limit(socket: Socket, most: u8) -> SocketResult<()>;
        receive_buffer_size(socket: Socket) -> SocketResult<u64>;
        set_receive_buffer_size(socket: Socket, size: u64) -> SocketResult<()>;
        send_buffer_size(socket: Socket) -> SocketResult<u64>;
        set_send_buffer_size(socket: Socket, size: u64) -> SocketResult<()>;
    }

    delegate! { HostUdpSocket, std::convert::identity;
        address_family(socket: Socket) -> wasmtime::Result<IpAddressFamily>;
        subscribe(socket: Socket) -> wasmtime::Result<Resource<DynPollable>>;
    }

    fn drop(&mut self, socket: Socket) -> wasmtime::Result<()> {
        delegated(self, |sockets| HostUdpSocket::drop(sockets, socket))??;
        close(self);
        Ok(())
    }
}

impl HostIncomingDatagramStream for StoreData {
    delegate! { HostIncomingDatagramStream, SocketError::trap;
        receive(stream: Incoming, most: u64) -> SocketResult<Vec<IncomingDatagram>>;
    }

    delegate! { HostIncomingDatagramStream, std::convert::identity;
        subscribe(stream: Incoming) -> wasmtime::Result<Resource<DynPollable>>;
        drop(stream: Incoming) -> wasmtime::Result<()>;
    }
}

impl HostOutgoingDatagramStream for StoreData {
    /// Those before the first that is refused are sent.
    fn send(&mut self, stream: Outgoing, mut datagrams: Vec<OutgoingDatagram>) -> SocketResult<u64> {
        let asked = ("wasi:sockets/udp#send", Protocol::Udp);
        let peers = datagrams.iter().map(|datagram| datagram.remote_address);
        let judged = peers.map(|peer| peer.map_or(Ok(()), |peer| check_peer(self, asked, peer)));
        if let Some((index, refused)) = judged.enumerate().find(|(_, judged)| judged.is_err()) {
            if index == 0 {
                return refused.map(|()| 0);
            }
            datagrams.truncate(index);
        }
        delegated(self, |sockets| sockets.send(stream, datagrams)).map_err(SocketError::trap)?
    }

    async fn drop(&mut self, stream: Outgoing) -> wasmtime::Result<()> {
        count(self)?;
        let (reactor, mut sockets) = sockets(self)?;
        within(reactor, HostOutgoingDatagramStream::drop(&mut sockets, stream)).await
    }

    delegate! { HostOutgoingDatagramStream, SocketError::trap;
        check_send(stream: Outgoing) -> SocketResult<u64>;
    }

    delegate! { HostOutgoingDatagramStream, std::convert::identity;
        subscribe(stream: Outgoing) -> wasmtime::Result<Resource<DynPollable>>;
    }
}
