//! Resources of guests.

use crate::atoms;
use crate::resources::OwnedResource;
use crate::terms::handle::Handle;
use rustler::Atom;

/// Lets go of a resource: its guest drops it when it is next called.
#[rustler::nif]
fn resource_drop(resource: Handle<'_, OwnedResource>) -> Atom {
    resource.0.let_go();
    atoms::ok()
}

/// Whether it has neither been let go of nor given away.
#[rustler::nif]
fn resource_is_kept(resource: Handle<'_, OwnedResource>) -> bool {
    resource.0.is_kept()
}
