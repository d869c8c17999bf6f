//! The interfaces of WASI 0.2 that components are served.

/// The version that they are served in. A component that was made for another 0.2 finds them as well.
const VERSION: &str = "0.2.12";

/// Their names.
pub(crate) const SERVED: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// Which of them an interface is that a component imports, with its version; `None` where it is none.
pub(crate) fn served(interface: &str) -> Option<&'static str> {
    let (name, version) = interface.split_once('@')?;
    let patch = version.strip_prefix("0.2.")?;
    let is_release = !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit());
    SERVED.iter().copied().find(|known| is_release && *known == name)
}

/// One of them as linkers have it.
pub(crate) fn interface(name: &str) -> String {
    format!("{name}@{VERSION}")
}
