//! Which network peers a guest may reach: an allow-list of names, addresses and ranges.
//!
//! A rule is `host:port`, after an optional `tcp://` or `udp://`. The host is a name, `*.` before one for every name below
//! it, an IPv4 address, an IPv6 address in brackets, or either with a prefix length; the port is a number or `*`.
//!
//! Two things keep a rule for the outside world from opening the inside one. An address that is not public is allowed only
//! by a rule that lies within the same special range, so that `0.0.0.0/0:80` still refuses `127.0.0.1` and a cloud's
//! metadata service. And a name's rule covers what the name resolves to only where that is public, or a rule names
//! the address too: whoever owns a name may point it at 10.0.0.1 (DNS rebinding).

mod ranges;
mod rule;

use ipnet::IpNet;
use ranges::{inside, special};
use rule::{Peer, Rule};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use thiserror::Error;

/// How a guest talks to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Protocol::Tcp { "tcp" } else { "udp" })
    }
}

/// A rule that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the network rule {rule:?} cannot be taken: {reason}")]
pub struct RuleError {
    /// The rule as it was given.
    pub rule: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What a policy says of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may be reached, by this rule.
    Allowed(String),
    /// It is a name that may be looked up, but no more: whether it may be reached depends on its address.
    LookUp,
    /// It may not be reached.
    Refused(Refusal),
}

impl Verdict {
    /// Whether the peer may be reached.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Verdict::Allowed(_))
    }
}

/// Why a peer may not be reached.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No rule fits.
    #[error("no rule allows {protocol}://{peer}")]
    NoRule {
        /// `host:port`.
        peer: String,
        /// How it was to be reached.
        protocol: Protocol,
    },
    /// The address is in a range that only a rule within that range opens.
    #[error("{address} is {kind} ({range}), and no rule names it or a range within")]
    Special {
        /// The address; where IPv6 carries an IPv4 address, that one.
        address: IpAddr,
        /// What the range is for.
        kind: &'static str,
        /// The range.
        range: IpNet,
    },
    /// Neither a name nor an address.
    #[error("not a host name: {0}")]
    NotAName(&'static str),
}

/// Rule lists that a peer must all pass: narrowing a policy adds a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    lists: Vec<Vec<Rule>>,
    dns: bool,
}

impl Policy {
    /// A policy of these lists. No list, or an empty one, allows nothing. With `dns`, names that no rule has may be looked
    /// up as well, and rules for addresses decide.
    pub fn parse(lists: &[Vec<String>], dns: bool) -> Result<Self, RuleError> {
        let lists = lists.iter().map(|list| list.iter().map(|text| Rule::parse(text)).collect());
        Ok(Self { lists: lists.collect::<Result<_, _>>()?, dns })
    }

    /// Whether this address may be reached, by whoever knows it without a name.
    pub fn allows_address(&self, peer: SocketAddr, protocol: Protocol) -> Verdict {
        self.all(&(peer, protocol), |list| by_address(list, peer, protocol))
    }

    /// Whether this name may be reached, before its addresses are known. An address that is written as a name is judged
    /// as an address.
    pub fn allows_name(&self, name: &str, port: u16, protocol: Protocol) -> Verdict {
        let name = match Peer::parse(name) {
            Ok(Peer::Address(ip)) => return self.allows_address(SocketAddr::new(ip, port), protocol),
            Ok(Peer::Name(name)) => name,
            Err(reason) => return Verdict::Refused(Refusal::NotAName(reason)),
        };
        let peer = (format_args!("{name}:{port}"), protocol);
        self.all(&peer, |list| match list.iter().find(|rule| rule.names(&name, port, protocol)) {
            Some(rule) => Verdict::Allowed(rule.text.clone()),
            None if self.looks_up(list, &name) => Verdict::LookUp,
            None => no_rule(&peer),
        })
    }

    /// Whether this address may be reached, which `name` resolved to.
    pub fn allows_resolved(&self, name: &str, peer: SocketAddr, protocol: Protocol) -> Verdict {
        let name = match Peer::parse(name) {
            Ok(Peer::Address(ip)) if ip == peer.ip() => return self.allows_address(peer, protocol),
            Ok(Peer::Address(_)) => return Verdict::Refused(Refusal::NotAName("another address")),
            Ok(Peer::Name(name)) => name,
            Err(reason) => return Verdict::Refused(Refusal::NotAName(reason)),
        };
        let target = (format_args!("{name}:{} at {}", peer.port(), peer.ip()), protocol);
        self.all(&target, |list| match by_address(list, peer, protocol) {
            _ if !self.looks_up(list, &name) => no_rule(&target),
            Verdict::Refused(Refusal::NoRule { .. }) => {
                let rule = list.iter().find(|rule| rule.names(&name, peer.port(), protocol));
                rule.map_or_else(|| no_rule(&target), |rule| Verdict::Allowed(rule.text.clone()))
            }
            verdict => verdict,
        })
    }

    /// Whether this name may be looked up. A lookup by itself tells its server something: it is a grant.
    pub fn allows_lookup(&self, name: &str) -> bool {
        let Ok(Peer::Name(name)) = Peer::parse(name) else { return false };
        !self.lists.is_empty() && self.lists.iter().all(|list| self.looks_up(list, &name))
    }

    fn looks_up(&self, list: &[Rule], name: &str) -> bool {
        let named = || list.iter().any(|rule| rule.covers(name));
        !list.is_empty() && (self.dns || named())
    }

    /// The first refusal of any list, or else the weakest verdict.
    fn all(&self, peer: &impl Described, judge: impl Fn(&[Rule]) -> Verdict) -> Verdict {
        let mut verdict = None;
        for list in &self.lists {
            match judge(list) {
                Verdict::Refused(refusal) => return Verdict::Refused(refusal),
                Verdict::LookUp => verdict = Some(Verdict::LookUp),
                allowed => verdict = verdict.or(Some(allowed)),
            }
        }
        verdict.unwrap_or_else(|| no_rule(peer))
    }
}

/// A peer for the words of a refusal.
trait Described {
    fn described(&self) -> (String, Protocol);
}

impl<T: fmt::Display> Described for (T, Protocol) {
    fn described(&self) -> (String, Protocol) {
        (self.0.to_string(), self.1)
    }
}

fn no_rule(peer: &impl Described) -> Verdict {
    let (peer, protocol) = peer.described();
    Verdict::Refused(Refusal::NoRule { peer, protocol })
}

/// One list's verdict on an address. `NoRule` means a public address that no rule has.
fn by_address(list: &[Rule], peer: SocketAddr, protocol: Protocol) -> Verdict {
    let mut allowed = None;
    for address in inside(peer.ip()) {
        let range = special(address);
        let fits = |rule: &&Rule| rule.reaches(address, range, peer.port(), protocol);
        match (list.iter().find(fits), range) {
            (Some(rule), _) => allowed = Some(Verdict::Allowed(rule.text.clone())),
            (None, Some((kind, range))) => return Verdict::Refused(Refusal::Special { address, kind, range }),
            (None, None) => return no_rule(&(peer, protocol)),
        }
    }
    allowed.unwrap_or_else(|| no_rule(&(peer, protocol)))
}
