//! The keeper: starts, renices, kills and waits for workers.

use crate::fences;
use cybernetic_wasm_core::compiler::wire::{Frame, receive, send};
use cybernetic_wasm_core::compiler::{BUILD, Order, Report, Start};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, setpriority_pgrp};
use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

/// How far back a worker steps that takes long.
const NICE: i32 = 10;

/// Runs until the VM closes the socket.
pub(crate) fn keep() -> io::Result<()> {
    fences::close_others();
    fences::leave_session();
    let vm = fences::socket()?;
    // The VM ignores this signal, and that is inherited: without a handler the kernel would throw away how workers end.
    let (mut ended, signals) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, signals)?;
    ended.set_nonblocking(true)?;
    send(&vm, &Report::Hello { build: BUILD.to_owned() }, &[], None)?;
    let mut workers = Workers::default();
    let kept = workers.serve(&vm, &mut ended);
    workers.end();
    kept
}

#[derive(Default)]
struct Workers(HashMap<u64, Child>);

impl Workers {
    fn serve(&mut self, vm: &UnixStream, ended: &mut UnixStream) -> io::Result<()> {
        loop {
            let mut ready = [PollFd::new(vm, PollFlags::IN), PollFd::new(&*ended, PollFlags::IN)];
            match poll(&mut ready, None) {
                Err(rustix::io::Errno::INTR) => continue,
                polled => polled?,
            };
            let [orders, ends] = ready.map(|ready| !ready.revents().is_empty());
            if ends {
                while matches!(ended.read(&mut [0; 64]), Ok(1..)) {}
                self.bury(vm)?;
            }
            if orders {
                let Some(Frame { header, descriptor, .. }) = receive::<Order>(vm)? else { return Ok(()) };
                self.carry_out(header, descriptor, vm)?;
            }
        }
    }

    fn carry_out(&mut self, order: Order, socket: Option<OwnedFd>, vm: &UnixStream) -> io::Result<()> {
        match order {
            Order::Start(start) => {
                let socket = socket.ok_or_else(|| io::Error::other("a worker needs a socket"))?;
                match spawn(start, socket) {
                    Ok(child) => drop(self.0.insert(start.id, child)),
                    Err(error) => {
                        send(vm, &Report::Ended(start.id, format!("it cannot be started: {error}")), &[], None)?
                    }
                }
            }
            Order::Kill(id) => {
                if let Some(child) = self.0.get_mut(&id) {
                    child.kill()?;
                }
            }
            Order::Renice(id) => {
                // It leads a group of its own, and only the group's priority is that of all its threads.
                let pid = self.0.get(&id).and_then(|child| Pid::from_raw(child.id().cast_signed()));
                let _ = pid.map(|pid| setpriority_pgrp(Some(pid), NICE));
            }
        }
        Ok(())
    }

    /// Tells of the workers that have ended.
    fn bury(&mut self, vm: &UnixStream) -> io::Result<()> {
        let mut ends = Vec::new();
        self.0.retain(|id, child| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                ends.push((*id, describe(status)));
                false
            }
            Err(error) => {
                ends.push((*id, error.to_string()));
                false
            }
        });
        ends.into_iter().try_for_each(|(id, how)| send(vm, &Report::Ended(id, how), &[], None))
    }

    fn end(self) {
        for mut child in self.0.into_values() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("by signal {signal}"),
        None => format!("with status {}", status.code().unwrap_or(-1)),
    }
}

/// Of this very program, even where another file has its name by now.
fn spawn(Start { space, slow, .. }: Start, socket: OwnedFd) -> io::Result<Child> {
    let own = std::path::Path::new("/proc/self/exe");
    let program = if own.exists() { own.to_owned() } else { std::env::current_exe()? };
    let nice = if slow { NICE } else { 0 };
    let mut command = Command::new(program);
    command.args(["work".to_owned(), std::process::id().to_string(), space.to_string(), nice.to_string()]);
    command.env_clear().current_dir("/").stdin(socket).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}
