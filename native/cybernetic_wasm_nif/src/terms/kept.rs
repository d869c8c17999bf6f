//! Elixir terms that Rust keeps for later, in an environment of their own.

use cybernetic_wasm_core::value::HostValue;
use parking_lot::Mutex;
use rustler::env::SavedTerm;
use rustler::{Env, OwnedEnv, Term};
use std::any::Any;

/// About what an environment takes beside its term.
const ENVIRONMENT: u64 = 1_024;

/// One term. The lock makes it shareable; nobody holds it for longer than a copy takes.
pub(crate) struct KeptTerm {
    kept: Mutex<(OwnedEnv, SavedTerm)>,
    size: u64,
}

impl KeptTerm {
    /// A copy of `term`.
    pub(crate) fn new(term: Term<'_>) -> Self {
        Self::sized(term, 0)
    }

    /// A copy of `term`, which takes so many bytes.
    pub(crate) fn sized(term: Term<'_>, bytes: u64) -> Self {
        let env = OwnedEnv::new();
        let term = env.save(term);
        Self { kept: Mutex::new((env, term)), size: bytes.saturating_add(ENVIRONMENT) }
    }

    /// A copy for `env`.
    pub(crate) fn load<'a>(&self, env: Env<'a>) -> Term<'a> {
        self.with(|term| term.in_env(env))
    }

    fn with<T>(&self, look: impl FnOnce(Term<'_>) -> T) -> T {
        let (own, term) = &*self.kept.lock();
        own.run(|own| look(term.load(own)))
    }
}

/// A guest keeps equal terms once.
impl HostValue for KeptTerm {
    fn size(&self) -> u64 {
        self.size
    }

    fn digest(&self) -> u64 {
        self.with(|term| term.hash_internal(0))
    }

    fn same(&self, other: &dyn HostValue) -> bool {
        let Some(other) = (other as &dyn Any).downcast_ref::<Self>() else { return false };
        if std::ptr::eq(self, other) {
            return true;
        }
        // Whichever way round two are compared, their locks are taken in one order.
        let in_order = std::ptr::from_ref(self) < std::ptr::from_ref(other);
        let (one, other) = if in_order { (self, other) } else { (other, self) };
        let (one, other) = (one.kept.lock(), other.kept.lock());
        let ((env, term), (other_env, other)) = (&*one, &*other);
        env.run(|env| other_env.run(|other_env| term.load(env) == other.load(other_env)))
    }
}
