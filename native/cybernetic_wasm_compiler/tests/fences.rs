//! What a process behind the fences can do: it tries.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, dead_code)]

#[path = "../src/fences.rs"]
mod fences;

use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

/// The test runs itself once more, behind the fences, and reads what that tells.
#[test]
fn it_can_open_no_file_connect_nowhere_and_start_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut inside = Command::new(std::env::current_exe().unwrap());
    inside.args(["--exact", "inside", "--ignored", "--nocapture", "--test-threads=1"]).env("FENCES_PORT", port);
    let output = String::from_utf8(inside.output().unwrap().stdout).unwrap();
    if output.contains("no landlock") {
        return eprintln!("skipped: this kernel has no Landlock");
    }
    for tried in ["read a file", "write a file", "list a folder", "start a program", "connect", "open many files"] {
        assert!(output.contains(&format!("{tried}: refused")), "{tried}: {output}");
    }
    assert!(output.contains("memory: ok"), "{output}");
}

#[test]
#[ignore = "for the test above, which runs it in a process of its own"]
fn inside() {
    let port: u16 = std::env::var("FENCES_PORT").unwrap().parse().unwrap();
    let scratch = std::env::temp_dir();
    let own = std::env::current_exe().unwrap();
    if !fences::enclose(4 << 30) {
        return println!("no landlock");
    }
    let tried = |what: &str, result: std::io::Result<()>| match result {
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied) => println!("{what}: refused"),
        other => println!("{what}: {other:?}"),
    };
    tried("read a file", std::fs::read("/etc/passwd").map(drop));
    tried("write a file", std::fs::write(scratch.join("fences"), "x"));
    tried("list a folder", std::fs::read_dir("/").map(drop));
    tried("start a program", Command::new(own).arg("--list").spawn().map(drop));
    tried("connect", TcpStream::connect(("127.0.0.1", port)).map(drop));
    let many: Vec<_> = (0..100).map_while(|_| TcpListener::bind("127.0.0.1:0").ok()).collect();
    println!("open many files: {}", if many.len() < 100 { "refused" } else { "let" });
    // What a worker needs, it can do.
    let file = rustix::fs::memfd_create("code", rustix::fs::MemfdFlags::ALLOW_SEALING);
    let thread = std::thread::spawn(|| vec![1_u8; 10 << 20].len()).join();
    println!("memory: {}", if file.is_ok() && thread.is_ok() { "ok" } else { "none" });
}
