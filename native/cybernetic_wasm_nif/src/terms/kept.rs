//! Elixir terms that Rust keeps for later, in an environment of their own.

use parking_lot::Mutex;
use rustler::env::SavedTerm;
use rustler::{Env, OwnedEnv, Term};

/// One term. The lock makes it shareable; nobody holds it for longer than a copy takes.
pub(crate) struct KeptTerm(Mutex<(OwnedEnv, SavedTerm)>);

impl KeptTerm {
    /// A copy of `term`.
    pub(crate) fn new(term: Term<'_>) -> Self {
        let env = OwnedEnv::new();
        let term = env.save(term);
        Self(Mutex::new((env, term)))
    }

    /// A copy for `env`.
    pub(crate) fn load<'a>(&self, env: Env<'a>) -> Term<'a> {
        let (own, term) = &*self.0.lock();
        own.run(|own| term.load(own).in_env(env))
    }
}
