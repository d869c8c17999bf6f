//! What a process that compiles cannot do: whatever a module makes of the compiler, it can open no file, make no TCP
//! connection, start no program, and take no more than its share.
//!
//! Fences that a kernel does not know are left out: the compiler would do without them inside the VM, too. What Landlock does
//! not know of is UDP, and sockets that have a path.

use cybernetic_wasm_core::compiler::NICE;
use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus, Scope};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setpriority_pgrp, setrlimit,
};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

/// Descriptors that a worker may have open: its socket, and the memory files that it hands over.
const DESCRIPTORS: u64 = 64;

/// The socket that is standard input.
pub(crate) fn socket() -> io::Result<UnixStream> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

/// Closes all that was inherited but the standard streams. The descriptors of the VM are open to its children: a socket that
/// it closes would go on listening here.
pub(crate) fn close_others() {
    let listed = std::fs::read_dir("/proc/self/fd").map(|entries| {
        let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        names.collect::<Vec<i32>>()
    });
    let all = || (3..getrlimit(Resource::Nofile).current.unwrap_or(1 << 16).min(1 << 20) as i32).collect();
    for descriptor in listed.unwrap_or_else(|_| all()).into_iter().filter(|descriptor| *descriptor > 2) {
        let _ = nix::unistd::close(descriptor);
    }
}

/// A session is a group to the kernel's scheduler: what is done in one takes nothing of another's share. It is also out of
/// reach of a terminal's Ctrl-C.
pub(crate) fn leave_session() {
    let _ = rustix::process::setsid();
}

/// The way to leave others more of the processors.
pub(crate) struct Back(Option<File>);

impl Back {
    /// Before the fences, behind which it cannot be found.
    pub(crate) fn new() -> Self {
        Self(File::options().write(true).open("/proc/self/autogroup").ok())
    }

    /// Steps back, for good: a process of its own group among the group's, and, where the kernel shares processors out between
    /// sessions, its session among the others.
    pub(crate) fn step(&self) {
        let _ = setpriority_pgrp(None, NICE);
        let _ = self.0.as_ref().map(|mut group| group.write_all(NICE.to_string().as_bytes()));
    }
}

/// Ends with the keeper, whose number `keeper` is.
pub(crate) fn die_with(keeper: Option<Pid>) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match getppid() == keeper {
        true => Ok(()),
        false => Err(io::Error::other("the keeper has ended already")),
    }
}

/// Comes last, and before threads are started: they inherit it. False: the kernel knows no Landlock.
pub(crate) fn enclose(space: u64) -> bool {
    // The first to go where memory is short.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    for (resource, most) in [(Resource::As, space), (Resource::Core, 0), (Resource::Nofile, DESCRIPTORS)] {
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    }
    forbid().is_ok_and(|status| status != RulesetStatus::NotEnforced)
}

/// All that Landlock knows: files, network, and signals to others.
fn forbid() -> Result<RulesetStatus, landlock::RulesetError> {
    let abi = ABI::V6;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset)
}
