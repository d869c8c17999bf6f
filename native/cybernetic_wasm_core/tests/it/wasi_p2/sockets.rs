//! Sockets: whom a component may reach.

use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};

fn network(rules: &[&str], dns: bool) -> Grants {
    let rules = vec![rules.iter().map(ToString::to_string).collect()];
    Grants { network: Some(Policy::parse(&rules, dns).unwrap()), ..stdio() }
}

/// A server that answers one client with what it sent, and its address.
fn echo_once() -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut request = [0; 5];
        client.read_exact(&mut request).unwrap();
        client.write_all(b"you said ").unwrap();
        client.write_all(&request).unwrap();
    });
    (address, serving)
}

#[test]
fn a_peer_that_is_allowed_is_reached_while_the_guest_waits_without_a_thread() {
    let (address, serving) = echo_once();
    let mut execution = begin(&["connect", &address, "hello"], network(&[&address], false));
    let mut waits = 0;
    let said = loop {
        match next(&mut execution) {
            Step::Waiting => {
                waits += 1;
                wait(&execution);
            }
            Step::Finished(_) => break told(Ok(true), &mut execution).said(),
            other => panic!("{other:?}"),
        }
    };
    serving.join().unwrap();
    assert_eq!(said, "you said hello");
    assert!(waits > 0);
}

#[test]
fn who_waits_for_a_peer_ends_with_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut execution = begin(&["connect", &address, "hello"], network(&[&address], false));
    let cancel = Arc::new(Cancel::default());
    execution.cancel_by(&cancel);
    let (mut client, _) = loop {
        match next(&mut execution) {
            Step::Waiting => {
                listener.set_nonblocking(true).unwrap();
                if let Ok(client) = listener.accept() {
                    break client;
                }
            }
            other => panic!("{other:?}"),
        }
    };
    cancel.cancel();
    assert!(matches!(ended(execution).result, Err(Error::Cancelled)));
    client.set_nonblocking(false).unwrap();
    let mut rest = Vec::new();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // The guest's side is closed when it is unwound.
    let _ = client.read_to_end(&mut rest);
}

#[test]
fn a_peer_that_is_not_allowed_is_refused() {
    let refused = |rules: &[&str], peer: &str| {
        let ran = run(&["connect", peer, "hello"], network(rules, false));
        assert_eq!(ran.stdout, "access-denied\n", "{peer}");
        let detail = format!("tcp://{peer}");
        assert_eq!(ran.denials, [denial("network", "wasi:sockets/tcp#start-connect", Some(&detail), "access-denied")]);
    };
    refused(&["127.0.0.1:81"], "127.0.0.1:80");
    refused(&["udp://127.0.0.1:80"], "127.0.0.1:80");
    refused(&["0.0.0.0/0:80"], "127.0.0.1:80");
    refused(&["0.0.0.0/0:80"], "169.254.169.254:80");
    refused(&["localhost:80"], "127.0.0.1:80");
}

#[test]
fn without_the_grant_there_are_no_sockets() {
    for (args, operation) in [
        (["connect", "127.0.0.1:80"], "wasi:sockets/tcp-create-socket#create-tcp-socket"),
        (["lookup", "localhost"], "wasi:sockets/ip-name-lookup#resolve-addresses"),
    ] {
        let ran = run(&args, stdio());
        assert_eq!(ran.stdout, "access-denied\n");
        let detail = (args[0] == "lookup").then_some("localhost");
        assert_eq!(ran.denials, [denial("network", operation, detail, "access-denied")]);
    }
    let ran = run(&["send", "127.0.0.1:53", "x"], stdio());
    assert_eq!(ran.stdout, "access-denied\n");
    assert_eq!(ran.denials.len(), 1);
}

#[test]
fn nobody_listens_or_chooses_its_own_address() {
    let granted = || network(&["127.0.0.1:*", "udp://127.0.0.1:*"], true);
    let ran = run(&["listen", "127.0.0.1:0"], granted());
    assert_eq!(ran.stdout, "access-denied\n");
    assert_eq!(ran.denials, [denial("network", "wasi:sockets/tcp#start-bind", Some("127.0.0.1:0"), "access-denied")]);
    let ran = run(&["listen", "0.0.0.0:0"], granted());
    assert_eq!(ran.stdout, "access-denied\n");
    assert_eq!(ran.denials, [denial("network", "wasi:sockets/tcp#start-listen", None, "access-denied")]);
}

#[test]
fn datagrams_go_to_peers_that_are_allowed_and_come_from_them() {
    let [server, stranger] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let address = server.local_addr().unwrap();
    let serving = std::thread::spawn(move || {
        let mut datagram = [0; 100];
        let (length, guest) = server.recv_from(&mut datagram).unwrap();
        stranger.send_to(b"psst", guest).unwrap();
        server.send_to(&datagram[..length], guest).unwrap();
    });
    let rule = format!("udp://{address}");
    assert_eq!(run(&["send", &address.to_string(), "hello"], network(&[&rule], false)).said(), "hello");
    serving.join().unwrap();

    let ran = run(&["send", "127.0.0.1:9", "hello"], network(&[&rule], false));
    assert_eq!(ran.stdout, "access-denied\n");
    let detail = Some("udp://127.0.0.1:9");
    assert_eq!(ran.denials, [denial("network", "wasi:sockets/udp#send", detail, "access-denied")]);
}

#[test]
fn names_that_a_rule_has_are_looked_up_and_addresses_are_their_own() {
    let found = run(&["lookup", "localhost"], network(&["localhost:80"], false)).said();
    assert!(found.contains("127.0.0.1") || found.contains("::1"), "{found}");
    assert_eq!(run(&["lookup", "192.0.2.7"], network(&["localhost:80"], false)).said(), "[192.0.2.7]");
    let ran = run(&["lookup", "example.com"], network(&["localhost:80"], false));
    assert_eq!(ran.stdout, "access-denied\n");
    assert_eq!(ran.denials[0].detail.as_deref(), Some("example.com"));
}

#[test]
fn a_name_that_was_looked_up_opens_no_address_that_is_not_public() {
    let (address, serving) = echo_once();
    let port = address.rsplit_once(':').unwrap().1;
    let by_name = format!("localhost:{port}");
    let ran = run(&["reach", "localhost", port], network(&[&by_name], false));
    assert_eq!(ran.stdout, "access-denied\n");
    assert_eq!(ran.denials[0].operation, "wasi:sockets/tcp#start-connect");
    let by_both = [by_name.as_str(), address.as_str()];
    assert_eq!(run(&["reach", "localhost", port], network(&by_both, false)).said(), "you said hello");
    serving.join().unwrap();
}

#[test]
fn open_sockets_are_bounded_and_given_back() {
    let runtime = own(|_| {});
    let granted = Grants { max_open: 5, ..network(&["127.0.0.1:80"], false) };
    let ran = ended(start_on(&guest_on(&runtime), &["sockets", "9"], granted, limits()));
    assert_eq!(ran.stdout, "5\n");
    assert_eq!(ran.denials.len(), 1);
    assert_eq!(ran.denials[0].errno, "new-socket-limit");
    crate::support::eventually("no open files", || runtime.ceilings().files() == 0);
}
