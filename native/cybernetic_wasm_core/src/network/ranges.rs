//! Which addresses are not public, and which IPv6 addresses are an IPv4 address in another dress.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From IANA's registries of special-purpose addresses; the first range that fits is the one that a rule must lie in.
const SPECIAL_V4: [(&str, Ipv4Net); 17] = [
    ("unspecified", v4([0, 0, 0, 0], 8)),
    ("private", v4([10, 0, 0, 0], 8)),
    ("shared by a carrier's customers", v4([100, 64, 0, 0], 10)),
    ("loopback", v4([127, 0, 0, 0], 8)),
    // Cloud metadata services are here, at 169.254.169.254.
    ("link-local", v4([169, 254, 0, 0], 16)),
    // Public by the registry; in Azure every machine reaches the platform's own service at it.
    ("a cloud platform's own", v4([168, 63, 129, 16], 32)),
    ("private", v4([172, 16, 0, 0], 12)),
    ("reserved for protocols", v4([192, 0, 0, 0], 24)),
    ("for documentation", v4([192, 0, 2, 0], 24)),
    ("a 6to4 relay", v4([192, 88, 99, 0], 24)),
    ("private", v4([192, 168, 0, 0], 16)),
    ("for benchmarks", v4([198, 18, 0, 0], 15)),
    ("for documentation", v4([198, 51, 100, 0], 24)),
    ("for documentation", v4([203, 0, 113, 0], 24)),
    ("multicast", v4([224, 0, 0, 0], 4)),
    ("broadcast", v4([255, 255, 255, 255], 32)),
    ("reserved", v4([240, 0, 0, 0], 4)),
];

/// Of IPv6 only 2000::/3 is public at all.
const SPECIAL_V6: [(&str, Ipv6Net); 14] = [
    ("unspecified", v6([0, 0, 0, 0, 0, 0, 0, 0], 128)),
    ("loopback", v6([0, 0, 0, 0, 0, 0, 0, 1], 128)),
    ("a local translation to IPv4", v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48)),
    ("discarded", v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64)),
    ("reserved for protocols", v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23)),
    ("for documentation", v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32)),
    ("for documentation", v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20)),
    ("private", v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7)),
    ("link-local", v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10)),
    ("private", v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10)),
    ("multicast", v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8)),
    ("reserved", v6([0, 0, 0, 0, 0, 0, 0, 0], 3)),
    ("reserved", v6([0x4000, 0, 0, 0, 0, 0, 0, 0], 2)),
    ("reserved", v6([0x8000, 0, 0, 0, 0, 0, 0, 0], 1)),
];

/// Prefixes under which an IPv6 address carries an IPv4 one: compatible (RFC 4291), mapped, translated (RFC 2765),
/// NAT64 (RFC 6052), 6to4 (RFC 3056) and Teredo (RFC 4380).
const COMPATIBLE: Ipv6Net = v6([0, 0, 0, 0, 0, 0, 0, 0], 96);
const MAPPED: Ipv6Net = v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96);
const TRANSLATED: Ipv6Net = v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96);
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// The special range that an address is in, if it is in any; it has been taken out of its IPv6 dress before.
pub(super) fn special(address: IpAddr) -> Option<(&'static str, IpNet)> {
    match address {
        IpAddr::V4(ip) => {
            let found = SPECIAL_V4.iter().find(|(_, net)| net.contains(&ip));
            found.map(|(kind, net)| (*kind, IpNet::V4(*net)))
        }
        IpAddr::V6(ip) => {
            let found = SPECIAL_V6.iter().find(|(_, net)| net.contains(&ip));
            found.map(|(kind, net)| (*kind, IpNet::V6(*net)))
        }
    }
}

/// The addresses that have to be allowed for this one to be: itself, or what it carries. A Teredo address carries that
/// of its client, inverted, and that of the server which packets may go through.
pub(super) fn inside(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(ip) = address else { return vec![address] };
    let bytes = ip.octets();
    let [.., w, x, y, z] = bytes;
    let at = |index: usize| Ipv4Addr::new(bytes[index], bytes[index + 1], bytes[index + 2], bytes[index + 3]);
    match ip {
        Ipv6Addr::UNSPECIFIED | Ipv6Addr::LOCALHOST => vec![address],
        _ if TEREDO.contains(&ip) => vec![Ipv4Addr::new(!w, !x, !y, !z).into(), at(4).into()],
        _ if SIX_TO_FOUR.contains(&ip) => vec![at(2).into()],
        _ if [COMPATIBLE, MAPPED, TRANSLATED, NAT64].iter().any(|net| net.contains(&ip)) => vec![at(12).into()],
        _ => vec![address],
    }
}

/// Whether all of a range carries IPv4 addresses, so that no address is ever judged by it.
pub(super) fn carries_v4(net: Ipv6Net) -> bool {
    let own = [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST].map(Ipv6Net::from);
    let carrying = [COMPATIBLE, MAPPED, TRANSLATED, NAT64, SIX_TO_FOUR, TEREDO];
    !own.contains(&net) && carrying.iter().any(|range| range.contains(&net))
}
