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

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use ranges::{inside, special};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    text: String,
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
        let named = || list.iter().any(|rule| rule.host.names(name));
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

impl Rule {
    fn parse(text: &str) -> Result<Self, RuleError> {
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

    fn names(&self, name: &str, port: u16, protocol: Protocol) -> bool {
        self.serves(port, protocol) && self.host.names(name)
    }

    fn reaches(&self, ip: IpAddr, special: Option<(&str, IpNet)>, port: u16, protocol: Protocol) -> bool {
        let Host::Net(net) = &self.host else { return false };
        let opens = special.is_none_or(|(_kind, range)| range.contains(net));
        opens && net.contains(&ip) && self.serves(port, protocol)
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

enum Peer {
    Address(IpAddr),
    Name(String),
}

impl Peer {
    /// A name in small letters without its last dot, or an address. A name that ends in a number is neither: resolvers
    /// take `127.1`, `0x7f000001` and `2130706433` for addresses.
    fn parse(text: &str) -> Result<Self, &'static str> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::Protocol::{Tcp, Udp};
    use super::*;

    fn policy(lists: &[&[&str]], dns: bool) -> Policy {
        let lists: Vec<Vec<String>> =
            lists.iter().map(|list| list.iter().map(|rule| (*rule).to_owned()).collect()).collect();
        Policy::parse(&lists, dns).unwrap()
    }

    fn one(rules: &[&str]) -> Policy {
        policy(&[rules], false)
    }

    fn peer(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn tcp(policy: &Policy, text: &str) -> bool {
        policy.allows_address(peer(text), Tcp).is_allowed()
    }

    fn reason(rule: &str) -> String {
        Policy::parse(&[vec![rule.to_owned()]], false).unwrap_err().reason
    }

    fn refusal(verdict: Verdict) -> String {
        match verdict {
            Verdict::Refused(refusal) => refusal.to_string(),
            verdict => panic!("not refused: {verdict:?}"),
        }
    }

    #[test]
    fn nothing_is_allowed_by_no_list_and_by_an_empty_one() {
        for policy in [policy(&[], true), policy(&[&[]], true), policy(&[&["[::]/0:*", "0.0.0.0/0:*"], &[]], true)] {
            assert!(!tcp(&policy, "8.8.8.8:53"));
            assert!(matches!(policy.allows_name("example.com", 443, Tcp), Verdict::Refused(_)));
            assert!(!policy.allows_lookup("example.com"));
        }
    }

    #[test]
    fn a_verdict_tells_the_rule_or_the_reason() {
        let policy = one(&["example.com:443", "8.8.8.0/24:53"]);
        assert_eq!(policy.allows_name("example.com", 443, Tcp), Verdict::Allowed("example.com:443".to_owned()));
        assert_eq!(policy.allows_address(peer("8.8.8.8:53"), Tcp), Verdict::Allowed("8.8.8.0/24:53".to_owned()));
        let refused = refusal(policy.allows_name("example.org", 443, Tcp));
        assert_eq!(refused, "no rule allows tcp://example.org:443");
        let refused = refusal(policy.allows_address(peer("[::ffff:169.254.169.254]:80"), Tcp));
        let wanted = "169.254.169.254 is link-local (169.254.0.0/16), and no rule names it or a range within";
        assert_eq!(refused, wanted);
    }

    #[test]
    fn port_and_protocol_must_fit() {
        let policy = one(&["example.com:443", "udp://8.8.8.8:53", "tcp://9.9.9.9:*"]);
        assert!(!policy.allows_name("example.com", 80, Tcp).is_allowed());
        assert!(!policy.allows_name("example.com", 443, Udp).is_allowed());
        assert!(policy.allows_address(peer("8.8.8.8:53"), Udp).is_allowed());
        assert!(!tcp(&policy, "8.8.8.8:53"));
        assert!(tcp(&policy, "9.9.9.9:1") && tcp(&policy, "9.9.9.9:65535"));
    }

    #[test]
    fn names_are_compared_as_dns_does() {
        let policy = one(&["Example.COM.:443", "*.Wild.example:443"]);
        for name in ["example.com", "EXAMPLE.com", "example.com.", "a.wild.example", "a.b.wild.example."] {
            assert!(policy.allows_name(name, 443, Tcp).is_allowed(), "{name}");
        }
        for name in [
            "wild.example",
            ".wild.example",
            "notwild.example",
            "example.com.evil.org",
            "xexample.com",
            "a..wild.example",
        ] {
            assert!(!policy.allows_name(name, 443, Tcp).is_allowed(), "{name}");
        }
    }

    #[test]
    fn what_only_looks_like_an_address_is_no_name() {
        let policy = one(&["*.example.com:80", "[::]/0:80", "0.0.0.0/0:80"]);
        for name in [
            "127.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "1.2.3.4.5",
            "foo.0x",
            "",
            ".",
            "a b",
            "a/b",
            "ex%61mple.com",
            "müller.de",
            "a\0.example.com",
        ] {
            assert!(matches!(policy.allows_name(name, 80, Tcp), Verdict::Refused(Refusal::NotAName(_))), "{name}");
            assert!(!policy.allows_lookup(name));
        }
    }

    #[test]
    fn an_address_written_as_a_name_is_judged_as_one() {
        let policy = policy(&[&["0.0.0.0/0:80", "[::]/0:80"]], true);
        assert!(policy.allows_name("8.8.8.8", 80, Tcp).is_allowed());
        assert!(policy.allows_name("[2606:4700::1]", 80, Tcp).is_allowed());
        for name in ["127.0.0.1", "[::1]", "::1", "[::ffff:127.0.0.1]", "::ffff:7f00:1"] {
            assert!(matches!(policy.allows_name(name, 80, Tcp), Verdict::Refused(Refusal::Special { .. })), "{name}");
        }
    }

    #[test]
    fn a_range_for_the_world_does_not_open_the_inside() {
        let policy = one(&["0.0.0.0/0:*", "[::]/0:*", "10.0.0.0/7:*", "[8000::]/1:*", "[fe00::]/8:*"]);
        for ip in [
            "0.0.0.0",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
        ] {
            assert!(!tcp(&policy, &format!("{ip}:80")), "{ip}");
        }
        for ip in [
            "::",
            "::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "64:ff9b:1::a00:1",
            "2001:20::1",
            "5f00::1",
            "4000::1",
            "0:1::1",
        ] {
            assert!(!tcp(&policy, &format!("[{ip}]:80")), "{ip}");
        }
        for public in
            ["1.1.1.1:80", "11.0.0.1:80", "172.32.0.1:80", "100.128.0.1:80", "223.255.255.255:80", "[2606:4700::1]:80"]
        {
            assert!(tcp(&policy, public), "{public}");
        }
    }

    #[test]
    fn a_rule_within_a_special_range_opens_what_it_names() {
        let policy = one(&["10.1.0.0/16:5432", "127.0.0.1:80", "[::1]:80", "[fd00::]/8:80", "169.254.0.0/16:80"]);
        for open in ["10.1.2.3:5432", "127.0.0.1:80", "[::1]:80", "[fd12::1]:80", "169.254.169.254:80"] {
            assert!(tcp(&policy, open), "{open}");
        }
        for closed in ["10.2.0.1:5432", "10.1.2.3:80", "127.0.0.2:80", "[fc00::1]:80"] {
            assert!(!tcp(&policy, closed), "{closed}");
        }
    }

    #[test]
    fn ipv4_inside_ipv6_is_judged_as_ipv4() {
        let dresses = |[a, b, c, d]: [u8; 4]| {
            let [w, x, y, z] = [!a, !b, !c, !d];
            [
                format!("[::ffff:{a}.{b}.{c}.{d}]:80"),
                format!("[::{a}.{b}.{c}.{d}]:80"),
                format!("[::ffff:0:{a}.{b}.{c}.{d}]:80"),
                format!("[64:ff9b::{a}.{b}.{c}.{d}]:80"),
                format!("[2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1]:80"),
                format!("[2001:0:808:808:0:0:{w:02x}{x:02x}:{y:02x}{z:02x}]:80"),
            ]
        };
        let world = one(&["[::]/0:*", "0.0.0.0/0:*"]);
        let six = one(&["[::]/0:*"]);
        let inside = one(&["10.0.0.1:80", "8.8.8.8:80"]);
        for dressed in dresses([10, 0, 0, 1]) {
            assert!(!tcp(&world, &dressed) && !tcp(&six, &dressed), "{dressed}");
            assert!(tcp(&inside, &dressed), "{dressed}");
        }
        for dressed in dresses([8, 8, 8, 8]) {
            assert!(tcp(&world, &dressed) && tcp(&inside, &dressed), "{dressed}");
            assert!(!tcp(&six, &dressed), "{dressed}");
        }
        // The server of a Teredo address counts as well as its client.
        assert!(!tcp(&world, "[2001:0:7f00:1:0:0:f7f7:f7f7]:80"));
    }

    #[test]
    fn a_names_rule_covers_public_addresses_only() {
        let policy = one(&["example.com:443", "10.0.0.5:443"]);
        let resolved = |ip: &str| policy.allows_resolved("example.com", peer(ip), Tcp);
        assert_eq!(resolved("93.184.216.34:443"), Verdict::Allowed("example.com:443".to_owned()));
        assert_eq!(resolved("10.0.0.5:443"), Verdict::Allowed("10.0.0.5:443".to_owned()));
        for ip in ["10.0.0.6:443", "127.0.0.1:443", "[::1]:443", "[::ffff:169.254.169.254]:443", "[fd00::1]:443"] {
            assert!(matches!(resolved(ip), Verdict::Refused(Refusal::Special { .. })), "{ip}");
        }
        assert!(!resolved("93.184.216.34:80").is_allowed());
        // The rule is the name's, not its address's.
        assert!(!tcp(&policy, "93.184.216.34:443"));
        assert!(!policy.allows_resolved("example.org", peer("10.0.0.5:443"), Tcp).is_allowed());
        assert!(!policy.allows_resolved("8.8.8.8", peer("10.0.0.5:443"), Tcp).is_allowed());
    }

    #[test]
    fn lookups_are_a_grant_of_their_own() {
        let rules: &[&[&str]] = &[&["example.com:443", "10.1.0.0/16:5432"]];
        let (without, with) = (policy(rules, false), policy(rules, true));
        assert!(without.allows_lookup("example.com") && !without.allows_lookup("db.example"));
        assert!(with.allows_lookup("db.example"));
        assert!(!without.allows_name("db.example", 5432, Tcp).is_allowed());
        assert_eq!(with.allows_name("db.example", 5432, Tcp), Verdict::LookUp);
        assert!(with.allows_resolved("db.example", peer("10.1.0.1:5432"), Tcp).is_allowed());
        assert!(!with.allows_resolved("db.example", peer("10.2.0.1:5432"), Tcp).is_allowed());
        assert!(!without.allows_resolved("db.example", peer("10.1.0.1:5432"), Tcp).is_allowed());
    }

    #[test]
    fn every_list_must_allow() {
        let both = policy(&[&["*.example.com:*", "8.8.8.0/24:53"], &["api.example.com:443", "8.8.0.0/16:*"]], false);
        assert!(both.allows_name("api.example.com", 443, Tcp).is_allowed());
        assert!(!both.allows_name("api.example.com", 80, Tcp).is_allowed());
        assert!(!both.allows_name("www.example.com", 443, Tcp).is_allowed());
        assert!(tcp(&both, "8.8.8.8:53"));
        assert!(!tcp(&both, "8.8.8.8:54") && !tcp(&both, "8.8.9.8:53"));
        // A special address must be named in each.
        let both = policy(&[&["10.0.0.0/8:*"], &["0.0.0.0/0:*"]], false);
        assert!(!tcp(&both, "10.0.0.1:80") && !tcp(&both, "8.8.8.8:80"));
        // One list has the name, the other its address: allowed where lookups are.
        let both = policy(&[&["api.example.com:443"], &["93.184.0.0/16:443"]], true);
        assert_eq!(both.allows_name("api.example.com", 443, Tcp), Verdict::LookUp);
        assert!(both.allows_resolved("api.example.com", peer("93.184.216.34:443"), Tcp).is_allowed());
        assert!(!both.allows_resolved("api.example.com", peer("94.184.216.34:443"), Tcp).is_allowed());
    }

    #[test]
    fn a_rule_that_is_wrong_tells_why() {
        for rule in ["example.com", "[::1]", "10.0.0.0/8", "[2001:db8::", "", "tcp://", "[::1:80"] {
            assert!(reason(rule).starts_with("a port is missing"), "{rule}: {}", reason(rule));
        }
        for rule in ["a.b:0", "a.b:65536", "a.b:+80", "a.b:", "a.b:http", "a.b:-1", "a.b: 80", "[::1]:x"] {
            assert!(reason(rule).starts_with("the port must be"), "{rule}: {}", reason(rule));
        }
        assert!(reason("https://a.b:443").contains("tcp://"));
        assert!(reason("2001:db8::1:443").contains("in brackets"));
        assert_eq!(reason("10.1.2.3/16:80"), "the address has bits beyond its prefix: the range is 10.1.0.0/16");
        assert!(reason("[2001:db8::1]/32:80").ends_with("the range is 2001:db8::/32"));
        for rule in [
            "10.0.0.0/33:80",
            "10.0.0/8:80",
            "a/8:80",
            "[::1]/129:80",
            "[::1]x:80",
            "[a]:80",
            "[fe80::1%eth0]:80",
            "[10.0.0.1]:80",
        ] {
            assert!(reason(rule).starts_with("not a"), "{rule}: {}", reason(rule));
        }
        for rule in [
            "*:80",
            "*.*.com:80",
            "a.*:80",
            "a*.com:80",
            "ä.de:80",
            "a b:80",
            ".com:80",
            "*.:80",
            "*.10.0.0.1:80",
            "127.1:80",
            "user@a.b:80",
        ] {
            Policy::parse(&[vec![rule.to_owned()]], false).unwrap_err();
        }
        for rule in [
            "[::ffff:10.0.0.1]:80",
            "[::10.0.0.1]:80",
            "[64:ff9b::a00:1]:80",
            "[2002:a00:1::]/48:80",
            "[::ffff:a00:0]/104:80",
        ] {
            assert!(reason(rule).contains("name that one (10.0.0."), "{rule}: {}", reason(rule));
        }
        assert!(reason("[2001::f5ff:fffe]:80").contains("10.0.0.1"));
        let long = "a".repeat(100_000);
        assert_eq!(Policy::parse(&[vec![long]], false).unwrap_err().rule.len(), LONGEST_SHOWN);
    }
}
