//! Wake-up messages. The BEAM lets a thread send without a process's environment only if it is none of its schedulers, and
//! a wake-up may come from either: from a scheduler it goes through the courier's thread.

use crate::atoms;
use crossbeam::channel::Sender;
use cybernetic_wasm_core::Listener;
use once_cell::sync::OnceCell;
use rustler::env::SavedTerm;
use rustler::{Env, LocalPid, OwnedEnv, Reference};

struct Message {
    to: LocalPid,
    env: OwnedEnv,
    reference: SavedTerm,
}

static COURIER: OnceCell<Sender<Message>> = OnceCell::new();

/// Sends `{reference, :wake}` to the process of `env` when it is called.
pub(crate) fn listener(env: Env<'_>, reference: Reference<'_>) -> Listener {
    let owned = OwnedEnv::new();
    let message = Message { to: env.pid(), reference: owned.save(*reference), env: owned };
    Box::new(move || match rustler::thread::is_scheduler_thread() {
        true => hand_over(message),
        false => message.deliver(),
    })
}

impl Message {
    fn deliver(self) {
        let Message { to, mut env, reference } = self;
        // The process may be gone: then nobody waits.
        let _ = env.send_and_clear(&to, |env| (reference.load(env), atoms::wake()));
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
