//! Messages: wake-ups, and what is said of resources. The BEAM lets a thread send without a process's environment only if it is
//! none of its schedulers, and they may come from either: from a scheduler they go through the courier's thread.

use crate::atoms;
use crossbeam::channel::Sender;
use cybernetic_wasm_core::Listener;
use once_cell::sync::OnceCell;
use rustler::env::SavedTerm;
use rustler::{Encoder, Env, LocalPid, OwnedEnv, Reference, Term};

struct Message {
    to: LocalPid,
    env: OwnedEnv,
    term: SavedTerm,
}

static COURIER: OnceCell<Sender<Message>> = OnceCell::new();

/// Sends `{reference, :wake}` to the process of `env` when it is called.
pub(crate) fn listener(env: Env<'_>, reference: Reference<'_>) -> Listener {
    let message = Message::new(env.pid(), |own| (reference.in_env(own), atoms::wake()).encode(own));
    Box::new(move || message.send())
}

/// Sends what `make` makes.
pub(crate) fn send(to: LocalPid, make: impl FnOnce(Env<'_>) -> Term<'_>) {
    Message::new(to, make).send();
}

impl Message {
    fn new(to: LocalPid, make: impl FnOnce(Env<'_>) -> Term<'_>) -> Self {
        let env = OwnedEnv::new();
        let term = env.run(|own| env.save(make(own)));
        Self { to, env, term }
    }

    fn send(self) {
        match rustler::thread::is_scheduler_thread() {
            true => hand_over(self),
            false => self.deliver(),
        }
    }

    fn deliver(self) {
        let Message { to, mut env, term } = self;
        // The process may be gone: then nobody waits.
        let _ = env.send_and_clear(&to, |env| term.load(env));
    }
}

fn hand_over(message: Message) {
    // Without a thread the message is lost, and the process goes on when its deadline comes.
    if let Ok(courier) = COURIER.get_or_try_init(start) {
        let _ = courier.send(message);
    }
}

fn start() -> std::io::Result<Sender<Message>> {
    let (sender, messages) = crossbeam::channel::unbounded::<Message>();
    let thread = std::thread::Builder::new().name("wasm-courier".into());
    thread.spawn(move || messages.iter().for_each(Message::deliver))?;
    Ok(sender)
}
