//! What ends resources of the host's that a guest has no more.

use super::kept::KeptTerm;
use crate::{atoms, courier};
use cybernetic_wasm_core::wit::{Owner, Term};
use rustler::{Decoder, Encoder, LocalPid, NifResult};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The process that ends resources, and what ends those of a type, by its name.
pub(crate) struct OwnerTuple {
    to: LocalPid,
    functions: HashMap<String, KeptTerm>,
}

impl OwnerTuple {
    pub(crate) fn into_owner(self) -> Arc<dyn Owner> {
        Arc::new(self)
    }
}

impl<'a> Decoder<'a> for OwnerTuple {
    fn decode(term: rustler::Term<'a>) -> NifResult<Self> {
        let (to, functions): (LocalPid, Vec<(String, rustler::Term<'a>)>) = term.decode()?;
        let functions = functions.into_iter().map(|(name, function)| (name, KeptTerm::new(function))).collect();
        Ok(Self { to, functions })
    }
}

impl fmt::Debug for OwnerTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerTuple").finish_non_exhaustive()
    }
}

impl Owner for OwnerTuple {
    fn ended(&self, store: u64, name: &str, term: &Term) {
        let (Some(function), Some(term)) = (self.functions.get(name), term.downcast_ref::<KeptTerm>()) else { return };
        courier::send(self.to, |env| (atoms::ended(), store, function.load(env), term.load(env)).encode(env));
    }
}
