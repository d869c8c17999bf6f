//! The keeper, seen from here: a small process that starts, kills and waits for the compiling ones.
//!
//! The BEAM ignores SIGCHLD, so that this process can never learn how a child ended, nor kill one without the risk of
//! meeting another's number: the keeper can do both.

use super::BUILD;
use super::job::{Answer, Word};
use super::wire::{receive, send};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What the keeper is told.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Start a compiling process. Its socket comes beside this.
    Start(Start),
    /// End one.
    Kill(u64),
}

/// How a compiling process is started.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Start {
    /// The process's number between keeper and VM.
    pub id: u64,
    /// Bytes of address space that it may have.
    pub space: u64,
}

/// What the keeper tells.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// Its first word: which build it is.
    Hello {
        /// The build: see [`crate::compiler::BUILD`].
        build: String,
    },
    /// A process could not be started, or has ended: in words.
    Ended(u64, String),
}

/// A process that has not said its first word by then will not.
const FIRST_WORD: Duration = Duration::from_secs(20);

/// Bytes beside a report or a greeting: there are none.
const MOST_WORDS: u64 = 0;

/// Nobody takes this long to say a word on any machine, however busy: who does is stuck.
const STUCK: Duration = Duration::from_secs(20);

pub(super) struct Keeper {
    socket: Mutex<UnixStream>,
    ends: Arc<Ends>,
    space: u64,
    next_id: AtomicU64,
}

/// The processes that somebody may still ask about.
#[derive(Default)]
struct Ends {
    state: Mutex<EndsState>,
    changed: Condvar,
}

#[derive(Default)]
struct EndsState {
    known: HashMap<u64, Known>,
    /// The keeper is gone.
    over: bool,
}

#[derive(Default)]
struct Known {
    /// Bytes resident when it last spoke.
    resident: u64,
    /// How it has ended.
    end: Option<String>,
}

impl Keeper {
    /// Starts the keeper, and waits for its first word.
    pub(super) fn start(executable: &Path, space: u64) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let mut command = Command::new(executable);
        command.arg("keep").env_clear().current_dir("/");
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        // The command holds the other end: the keeper's death would not be seen.
        drop(command);
        if let Err(error) = greeted(&socket) {
            // Where the BEAM ignores its children, there is nothing to wait for.
            let _ = (child.kill(), child.wait());
            return Err(in_words(error));
        }
        let ends = Arc::new(Ends::default());
        let (reading, noted) = (socket.try_clone()?, Arc::clone(&ends));
        std::thread::Builder::new().name("wasm-keeper".into()).spawn(move || {
            while let Ok(Some(frame)) = receive::<Report>(&reading, MOST_WORDS) {
                if let Report::Ended(id, how) = frame.header {
                    noted.note(id, how);
                }
            }
            noted.end();
            let _ = child.wait();
        })?;
        Ok(Self { socket: Mutex::new(socket), ends, space, next_id: AtomicU64::new(0) })
    }

    /// Whether it has ended, and all its processes with it.
    pub(super) fn is_over(&self) -> bool {
        self.ends.state.lock().over
    }

    /// Ends it, and all its processes.
    pub(super) fn stop(&self) {
        let _ = self.socket.lock().shutdown(Shutdown::Both);
        self.ends.end();
    }

    /// Its processes, and the bytes that they have resident.
    pub(super) fn workers(&self) -> (u64, u64) {
        let state = self.ends.state.lock();
        let alive = state.known.values().filter(|known| known.end.is_none() && !state.over);
        alive.fold((0, 0_u64), |(count, bytes), known| (count + 1, bytes.saturating_add(known.resident)))
    }

    fn order(&self, order: &Order, descriptor: Option<&UnixStream>) -> io::Result<()> {
        send(&self.socket.lock(), order, &[], descriptor.map(AsFd::as_fd))
    }

    /// Starts a compiling process, and waits for its first word.
    pub(super) fn worker(self: &Arc<Self>) -> io::Result<Worker> {
        let id = self.next_id.fetch_add(1, Relaxed);
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_read_timeout(Some(FIRST_WORD))?;
        socket.set_write_timeout(Some(STUCK))?;
        self.ends.expect(id);
        // A keeper that cannot be told anything is none.
        self.order(&Order::Start(Start { id, space: self.space }), Some(&theirs)).inspect_err(|_| self.stop())?;
        drop(theirs);
        let mut worker = Worker { socket, id, keeper: Arc::clone(self), stepped_back: false, resident: 0 };
        // A keeper that starts nothing is stuck.
        let word = worker.hear(MOST_WORDS).inspect_err(|_| self.stop()).map_err(in_words)?;
        match word {
            Some(word) => match word.header.answer {
                Answer::Hello { build } => same_build(&build)?,
                _ => return Err(io::Error::other("its first word is another")),
            },
            None => return Err(io::Error::other(worker.end().unwrap_or_else(|| "its keeper has ended".to_owned()))),
        }
        worker.socket.set_read_timeout(Some(STUCK))?;
        Ok(worker)
    }
}

/// Waits for the keeper's first word.
fn greeted(socket: &UnixStream) -> io::Result<()> {
    socket.set_read_timeout(Some(FIRST_WORD))?;
    socket.set_write_timeout(Some(STUCK))?;
    match receive::<Report>(socket, MOST_WORDS)?.map(|frame| frame.header) {
        Some(Report::Hello { build }) => same_build(&build)?,
        _ => return Err(io::Error::other("it says nothing")),
    }
    socket.set_read_timeout(None)
}

/// In words: what a time-out is called by the system is no help.
fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::other(format!("it says nothing for {} s", FIRST_WORD.as_secs()))
        }
        _ => error,
    }
}

fn same_build(build: &str) -> io::Result<()> {
    match build == BUILD {
        true => Ok(()),
        false => Err(io::Error::other("it is of another build than the library")),
    }
}

impl Ends {
    fn expect(&self, id: u64) {
        self.state.lock().known.insert(id, Known::default());
    }

    fn resident(&self, id: u64, bytes: u64) {
        if let Some(known) = self.state.lock().known.get_mut(&id) {
            known.resident = bytes;
        }
    }

    fn forget(&self, id: u64) {
        self.state.lock().known.remove(&id);
    }

    fn note(&self, id: u64, how: String) {
        if let Some(known) = self.state.lock().known.get_mut(&id) {
            known.end = Some(how);
        }
        self.changed.notify_all();
    }

    fn end(&self) {
        self.state.lock().over = true;
        self.changed.notify_all();
    }

    /// How a process ended that has closed its socket.
    fn of(&self, id: u64) -> Option<String> {
        let until = Instant::now() + STUCK;
        let mut state = self.state.lock();
        loop {
            if let Some(how) = state.known.get(&id).and_then(|known| known.end.clone()) {
                return Some(how);
            }
            if state.over {
                return None;
            }
            // One that tells nothing is stuck.
            state.over = self.changed.wait_until(&mut state, until).timed_out();
        }
    }
}

/// A compiling process. It ends with this.
pub(super) struct Worker {
    pub(super) socket: UnixStream,
    id: u64,
    pub(super) keeper: Arc<Keeper>,
    /// It has less of the processors than others, for good.
    pub(super) stepped_back: bool,
    /// Bytes resident when it last spoke.
    pub(super) resident: u64,
}

impl Worker {
    /// Its next word, with so many bytes beside it at the most; `None` where it has ended.
    pub(super) fn hear(&mut self, most: u64) -> io::Result<Option<super::wire::Frame<Word>>> {
        let word = receive::<Word>(&self.socket, most)?;
        if let Some(word) = &word {
            (self.resident, self.stepped_back) = (word.header.resident, word.header.stepped_back);
            self.keeper.ends.resident(self.id, self.resident);
        }
        Ok(word)
    }

    /// How it ended; `None` where its keeper has, which took it along.
    pub(super) fn end(&self) -> Option<String> {
        self.keeper.ends.of(self.id)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.keeper.order(&Order::Kill(self.id), None);
        self.keeper.ends.forget(self.id);
    }
}
