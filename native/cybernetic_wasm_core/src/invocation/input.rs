//! What a guest reads from its standard input.

use super::Invocation;
use crate::mail::Notice;
use std::task::Poll;

/// What a guest finds on its standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stdin {
    /// These bytes, and then its end.
    Bytes(Vec<u8>),
    /// What the driver gives when it is asked: see [`crate::execution::Step::WantsInput`].
    Asked,
}

/// Standard input: nothing, unless it is set.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    read: usize,
    /// There may be more.
    open: bool,
    /// The driver has been told that the guest wants more.
    asked: bool,
    /// It is not to be told.
    quiet: bool,
}

impl Input {
    fn is_ready(&self) -> bool {
        self.read < self.bytes.len() || !self.open
    }
}

impl Invocation {
    pub(crate) fn set_stdin(&self, stdin: Stdin) {
        *self.stdin.lock() = match stdin {
            Stdin::Bytes(bytes) => Input { bytes, ..Input::default() },
            Stdin::Asked => Input { open: true, ..Input::default() },
        };
    }

    /// The next piece of what the guest reads, or its end. An empty piece is none: the guest is still waiting.
    pub(crate) fn give_input(&self, piece: Option<Vec<u8>>) {
        let mut input = self.stdin.lock();
        let open = piece.is_some() && input.open;
        let bytes = [&input.bytes[input.read..], &piece.unwrap_or_default()].concat();
        *input = Input { bytes, open, ..Input::default() };
    }

    /// Whether reading gives something, or says that there is no more.
    pub(crate) fn has_input(&self) -> bool {
        self.stdin.lock().is_ready()
    }

    /// Waits for input or its end, for which it asks the driver.
    pub(crate) async fn input_ready(&self) {
        std::future::poll_fn(|_| {
            let mut input = self.stdin.lock();
            if input.is_ready() {
                return Poll::Ready(());
            }
            if !input.quiet && !std::mem::replace(&mut input.asked, true) {
                self.mail.tell(Notice::WantsInput);
            }
            Poll::Pending
        })
        .await;
    }

    /// Whether the driver has been asked for input, and has not said anything yet.
    pub(crate) fn awaits_input(&self) -> bool {
        let input = self.stdin.lock();
        input.asked && !input.is_ready()
    }

    /// Does something, for which the driver is not asked for input if that is to be `quiet`.
    pub(crate) fn without_asking<T>(&self, quiet: bool, work: impl FnOnce() -> T) -> T {
        if !quiet {
            return work();
        }
        self.stdin.lock().quiet = true;
        let done = work();
        self.stdin.lock().quiet = false;
        done
    }

    /// Waits for input or its end, or for the word that there is nothing yet.
    pub(crate) async fn input_answered(&self) {
        let mut waiting = false;
        std::future::poll_fn(|_| {
            let mut input = self.stdin.lock();
            if input.is_ready() || (waiting && !input.asked) {
                return Poll::Ready(());
            }
            waiting = true;
            if !std::mem::replace(&mut input.asked, true) {
                self.mail.tell(Notice::WantsInput);
            }
            Poll::Pending
        })
        .await;
    }

    /// Up to `most` bytes; `None` at the end.
    pub(crate) fn read_input(&self, most: usize) -> Option<Vec<u8>> {
        let mut input = self.stdin.lock();
        let rest = &input.bytes[input.read..];
        if rest.is_empty() && !input.open {
            return None;
        }
        let piece = rest[..rest.len().min(most)].to_vec();
        input.read += piece.len();
        Some(piece)
    }
}
