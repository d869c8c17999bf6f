//! Compiles strangers' WebAssembly outside the VM that runs it.
//!
//! The library starts this program as the *keeper* (`keep`): it starts, kills and waits for *workers* (`work`), which
//! compile. Each talks over the Unix socket that it has as standard input, in the frames of `cybernetic_wasm_core`'s
//! `compiler`. Neither outlives the VM: a closed socket ends them.

#[cfg(target_os = "linux")]
mod fences;
#[cfg(target_os = "linux")]
mod keep;
#[cfg(target_os = "linux")]
mod work;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["keep"] => keep::keep(),
        ["work", keeper, space] => work::work(keeper, space),
        _ => return usage(),
    };
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    usage()
}

fn usage() -> ExitCode {
    eprintln!("This program is a part of Cybernetic.WASM: the library starts it to compile modules outside the VM.");
    ExitCode::from(2)
}
