//! Folders that hold what is believed later, and the lock on one.

use crate::atoms;
use crate::resources::LockResource;
use crate::terms::binary;
use cybernetic_wasm_core::folder::{self, Lock, Why};
use parking_lot::Mutex;
use rustler::{Atom, Binary, Encoder, Env, ResourceArc, Term};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `:ok`, or `{reason, path, words}`. With `make`, folders that are missing are made.
#[rustler::nif(schedule = "DirtyIo")]
fn folder_ours<'a>(env: Env<'a>, path: Binary<'a>, make: bool) -> Term<'a> {
    match folder::ours(as_path(&path), make) {
        Ok(()) => atoms::ok().encode(env),
        Err(not) => {
            let reason = match not.why {
                Why::Missing => atoms::missing(),
                Why::System(_) => atoms::failed(),
                _ => atoms::not_ours(),
            };
            let words = not.why.to_string();
            (reason, binary(env, not.path.as_os_str().as_bytes()), binary(env, words.as_bytes())).encode(env)
        }
    }
}

/// `{:ok, lock}`, `:busy` where somebody has it, or `{:error, words}`. Nobody waits.
#[rustler::nif(schedule = "DirtyIo")]
fn folder_lock<'a>(env: Env<'a>, path: Binary<'a>) -> Term<'a> {
    match Lock::take(as_path(&path)) {
        Ok(Some(lock)) => (atoms::ok(), ResourceArc::new(LockResource(Mutex::new(Some(lock))))).encode(env),
        Ok(None) => atoms::busy().encode(env),
        Err(error) => (atoms::error(), binary(env, error.to_string().as_bytes())).encode(env),
    }
}

/// Lets go of the lock, which otherwise ends with its last reference.
#[rustler::nif]
fn folder_unlock(lock: ResourceArc<LockResource>) -> Atom {
    drop(lock.0.lock().take());
    atoms::ok()
}

pub(super) fn as_path<'a>(bytes: &'a Binary<'_>) -> &'a Path {
    Path::new(OsStr::from_bytes(bytes))
}
