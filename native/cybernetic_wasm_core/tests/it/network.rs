//! What a policy says of names and addresses: a rule for the outside world never opens the inside one.

use cybernetic_wasm_core::network::Protocol::{Tcp, Udp};
use cybernetic_wasm_core::network::{Policy, Refusal, Verdict};
use std::net::SocketAddr;

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
    for name in
        ["wild.example", ".wild.example", "notwild.example", "example.com.evil.org", "xexample.com", "a..wild.example"]
    {
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
    assert_eq!(Policy::parse(&[vec![long]], false).unwrap_err().rule.len(), 300);
}
