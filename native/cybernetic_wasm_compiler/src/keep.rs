//! The keeper: starts, kills and waits for workers.

use crate::fences;
use cybernetic_wasm_core::compiler::wire::{Frame, receive, send};
use cybernetic_wasm_core::compiler::{BUILD, Order, Report, Start};
use rustix::event::{PollFd, PollFlags, poll};
use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

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
                let Some(Frame { header, descriptor, .. }) = receive::<Order>(vm, 0)? else { return Ok(()) };
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
                // One that has just ended cannot be killed, and need not be.
                let _ = self.0.get_mut(&id).map(Child::kill);
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
fn spawn(Start { space, .. }: Start, socket: OwnedFd) -> io::Result<Child> {
    let own = std::path::Path::new("/proc/self/exe");
    let program = if own.exists() { own.to_owned() } else { std::env::current_exe()? };
    let mut command = Command::new(program);
    command.args(["work".to_owned(), std::process::id().to_string(), space.to_string()]);
    command
        .arg0("cybernetic_wasm_compiler")
        .env_clear()
        .current_dir("/")
        .stdin(socket)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}
