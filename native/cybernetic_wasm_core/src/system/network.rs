//! What a guest has of the network: the peers that its policy allows, and the names that it has looked up, since some rules are
//! for names, and a socket is told addresses only.

use super::reactor::reactor;
use crate::error::Error;
use crate::network::{Policy, Protocol};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi::sockets::SocketAddrUse;

/// Addresses of names that are remembered. What is forgotten has to be looked up again.
const MOST_NAMES: usize = 1_000;

/// Look-ups of one guest that go on at once: each may keep a thread for as long as name servers are waited for.
const MOST_LOOKUPS: usize = 4;

/// A guest's network.
pub(crate) struct Network {
    policy: Policy,
    /// The latest last.
    names: Mutex<VecDeque<(IpAddr, Arc<str>)>>,
    lookups: Arc<Semaphore>,
    reactor: Handle,
}

impl Network {
    pub(super) fn new(policy: &Policy) -> Result<Arc<Self>, Error> {
        let lookups = Arc::new(Semaphore::new(MOST_LOOKUPS));
        Ok(Arc::new(Self { policy: policy.clone(), names: Mutex::default(), lookups, reactor: reactor()? }))
    }

    pub(super) fn reactor(&self) -> Handle {
        self.reactor.clone()
    }

    /// Has `wasmtime-wasi` ask the policy as well, of every address that a socket is used with.
    pub(super) fn give_to(self: &Arc<Self>, builder: &mut WasiCtxBuilder) {
        let network = Arc::clone(self);
        builder.allow_tcp(true).allow_udp(true).socket_addr_check(move |address, used| {
            let allowed = network.allows_use(address, used);
            Box::pin(std::future::ready(allowed))
        });
    }

    fn allows_use(&self, address: SocketAddr, used: SocketAddrUse) -> bool {
        match used {
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind => is_any(address),
            SocketAddrUse::TcpConnect => self.allows(address, Protocol::Tcp),
            SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => self.allows(address, Protocol::Udp),
            SocketAddrUse::TcpListen | SocketAddrUse::TcpAccept => false,
        }
    }

    /// Whether a peer may be reached, by its address or by a name that was looked up and had it.
    pub(crate) fn allows(&self, peer: SocketAddr, protocol: Protocol) -> bool {
        self.policy.allows_address(peer, protocol).is_allowed() || {
            let names = self.names.lock();
            let mut names = names.iter().filter(|(address, _)| *address == peer.ip());
            names.any(|(_, name)| self.policy.allows_resolved(name, peer, protocol).is_allowed())
        }
    }

    /// Whether a name may be looked up.
    pub(crate) fn allows_lookup(&self, name: &str) -> bool {
        self.policy.allows_lookup(name)
    }

    /// Begins to look a name up; `None` where too many are being looked up.
    pub(crate) fn look_up(self: &Arc<Self>, name: String) -> Option<Lookup> {
        let place = Arc::clone(&self.lookups).try_acquire_owned().ok()?;
        let network = Arc::clone(self);
        let resolving = self.reactor.spawn_blocking(move || {
            let _place = place;
            let found: Option<Vec<_>> = (&*name, 0).to_socket_addrs().ok().map(|found| found.map(plain).collect());
            network.learn(name.into(), found.as_deref().unwrap_or_default());
            found
        });
        Some(Lookup::Pending(resolving.into()))
    }

    fn learn(&self, name: Arc<str>, addresses: &[IpAddr]) {
        let mut names = self.names.lock();
        for address in addresses {
            names.retain(|known| *known != (*address, Arc::clone(&name)));
            names.push_back((*address, Arc::clone(&name)));
        }
        while names.len() > MOST_NAMES {
            names.pop_front();
        }
    }
}

/// Whether it is any address and port of this machine: all that a client says of its own side.
pub(crate) fn is_any(address: SocketAddr) -> bool {
    address.ip().is_unspecified() && address.port() == 0
}

fn plain(found: SocketAddr) -> IpAddr {
    found.ip().to_canonical()
}

/// A name that is looked up, or that was.
pub(crate) enum Lookup {
    Pending(AbortOnDropJoinHandle<Option<Vec<IpAddr>>>),
    /// The addresses that have not been told yet; `None` where there are none.
    Done(Option<std::vec::IntoIter<IpAddr>>),
}

impl Lookup {
    /// Of what is an address already.
    pub(crate) fn of(address: IpAddr) -> Self {
        Lookup::Done(Some(vec![address].into_iter()))
    }

    /// What has been found.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<&mut std::vec::IntoIter<IpAddr>>> {
        if let Lookup::Pending(resolving) = self {
            let Poll::Ready(found) = std::pin::Pin::new(resolving).poll(context) else { return Poll::Pending };
            *self = Lookup::Done(found.map(Vec::into_iter));
        }
        match self {
            Lookup::Done(found) => Poll::Ready(found.as_mut()),
            Lookup::Pending(_) => Poll::Pending,
        }
    }
}
