//! One rule, and the names and addresses that it is compared with.

use super::ranges::{self, inside};
use super::{Protocol, RuleError};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv6Addr};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) text: String,
    protocol: Protocol,
    host: Host,
    /// `None` is every port.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    /// Every name below this one, which begins with its dot.
    Below(String),
    Net(IpNet),
}

impl Rule {
    pub(super) fn parse(text: &str) -> Result<Self, RuleError> {
        let error = |reason| RuleError { rule: text.chars().take(LONGEST_SHOWN).collect(), reason };
        let (protocol, rest) = match text.split_once("://") {
            None => (Protocol::Tcp, text),
            Some(("tcp", rest)) => (Protocol::Tcp, rest),
            Some(("udp", rest)) => (Protocol::Udp, rest),
            Some(_) => return Err(error("a rule begins with tcp://, udp:// or the host".to_owned())),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| error(NO_PORT.to_owned()))?;
        // Of an IPv6 address without its port, the last colon is in the address.
        if port.ends_with(']') || (host.starts_with('[') && !host.contains(']')) {
            return Err(error(NO_PORT.to_owned()));
        }
        let host = Host::parse(host).map_err(error)?;
        let port = parse_port(port).map_err(|reason| error(reason.to_owned()))?;
        Ok(Self { text: text.to_owned(), protocol, host, port })
    }

    pub(super) fn names(&self, name: &str, port: u16, protocol: Protocol) -> bool {
        self.serves(port, protocol) && self.host.names(name)
    }

    pub(super) fn reaches(&self, ip: IpAddr, special: Option<(&str, IpNet)>, port: u16, protocol: Protocol) -> bool {
        let Host::Net(net) = &self.host else { return false };
        let opens = special.is_none_or(|(_kind, range)| range.contains(net));
        opens && net.contains(&ip) && self.serves(port, protocol)
    }

    /// Whether it is for this name, whatever the port.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.host.names(name)
    }

    fn serves(&self, port: u16, protocol: Protocol) -> bool {
        self.protocol == protocol && self.port.is_none_or(|own| own == port)
    }
}

const LONGEST_SHOWN: usize = 300;
const NO_PORT: &str = "a port is missing: host:443, or host:* for every port";

fn parse_port(port: &str) -> Result<Option<u16>, &'static str> {
    const WRONG: &str = "the port must be a number from 1 to 65535, or *";
    match port {
        "*" => Ok(None),
        _ if !port.bytes().all(|byte| byte.is_ascii_digit()) => Err(WRONG),
        _ => port.parse().ok().filter(|port| *port != 0).map(Some).ok_or(WRONG),
    }
}

impl Host {
    fn parse(host: &str) -> Result<Self, String> {
        if let Some(rest) = host.strip_prefix('[') {
            return parse_v6(rest);
        }
        if host.contains(':') {
            return Err("an IPv6 address is written in brackets: [2001:db8::1]:443".to_owned());
        }
        if host.contains('/') {
            let net = host.parse::<Ipv4Net>().map_err(|_| "not a range of IPv4 addresses".to_owned())?;
            return whole(IpNet::V4(net));
        }
        match host.strip_prefix("*.") {
            Some(name) => match Peer::parse(name)? {
                Peer::Name(name) => Ok(Host::Below(format!(".{name}"))),
                Peer::Address(_) => Err("*. goes before a name; a range is written as 10.1.0.0/16".to_owned()),
            },
            None => match Peer::parse(host)? {
                Peer::Name(name) => Ok(Host::Name(name)),
                Peer::Address(ip) => Ok(Host::Net(ip.into())),
            },
        }
    }

    fn names(&self, name: &str) -> bool {
        match self {
            Host::Name(own) => own == name,
            Host::Below(suffix) => name.len() > suffix.len() && name.ends_with(suffix.as_str()),
            Host::Net(_) => false,
        }
    }
}

/// What follows the opening bracket: `2001:db8::]` or `2001:db8::]/32`.
fn parse_v6(rest: &str) -> Result<Host, String> {
    let wrong = || "not an IPv6 address in brackets, or a range: [2001:db8::1], [2001:db8::]/32".to_owned();
    let (address, prefix) = rest.split_once(']').ok_or_else(wrong)?;
    let address: Ipv6Addr = address.parse().map_err(|_| wrong())?;
    let net = match prefix {
        "" => Ipv6Net::from(address),
        _ => format!("{address}{prefix}").parse().map_err(|_| wrong())?,
    };
    // Such an address is judged as the IPv4 address that it carries, and one rule is enough for both spellings.
    if ranges::carries_v4(net) {
        let carried: Vec<String> = inside(address.into()).iter().map(ToString::to_string).collect();
        return Err(format!("it carries an IPv4 address: name that one ({})", carried.join(", ")));
    }
    whole(IpNet::V6(net))
}

/// A range whose address has no bits beyond the prefix: somebody who wrote them may have meant one address.
fn whole(net: IpNet) -> Result<Host, String> {
    match net.addr() == net.network() {
        true => Ok(Host::Net(net)),
        false => Err(format!("the address has bits beyond its prefix: the range is {}", net.trunc())),
    }
}

/// A peer as somebody names it.
pub(super) enum Peer {
    Address(IpAddr),
    Name(String),
}

impl Peer {
    /// A name in small letters without its last dot, or an address. A name that ends in a number is neither: resolvers
    /// take `127.1`, `0x7f000001` and `2130706433` for addresses.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(ip) = bare.and_then(|bare| bare.parse::<Ipv6Addr>().ok()) {
            return Ok(Peer::Address(ip.into()));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Peer::Address(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() || name.len() > 253 {
            return Err("a name has 1 to 253 characters");
        }
        if !name.split('.').all(is_label) {
            return Err("a name is of letters, digits, - and _, 1 to 63 between dots; other scripts as xn--…");
        }
        match name.rsplit('.').next().is_some_and(is_number) {
            true => Err("it ends in a number, but is not an IPv4 address of four decimal numbers"),
            false => Ok(Peer::Name(name.to_ascii_lowercase())),
        }
    }
}

fn is_label(label: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(known)
}

fn is_number(label: &str) -> bool {
    let hex = label.strip_prefix("0x").or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}
