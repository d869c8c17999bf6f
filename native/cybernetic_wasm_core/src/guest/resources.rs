//! Resources in the values that go into a component and come out of it.

use crate::error::{CallError, Error};
use crate::invocation::Invocation;
use crate::store::StoreData;
use crate::value::{Storing, Value};
use crate::wit::{Carried, Func, Handle, Resource, Type, Typed, visit};
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::{ResourceAny, ResourceDynamic, Val};

type Context<'a> = StoreContextMut<'a, StoreData>;

/// What a call has claimed of the guest's own resources, as long as it may still be refused.
#[derive(Default)]
pub(crate) struct Claims {
    given: Vec<(Arc<Handle>, ResourceAny)>,
    /// Nobody else's letting go ends these while the call has them.
    lent: Vec<Arc<Handle>>,
}

/// Claims the guest's own resources for a call: none of another guest, none that is gone, none that is given away twice or lent
/// when it is given away. Wasmtime would find that out when it has begun, and leave behind what it has begun with.
pub(crate) fn claim(args: &mut [Value], func: &Func, store: u64) -> Result<Claims, CallError> {
    let mut claims = Claims::default();
    // Those that are given away first: then whatever comes twice is found missing.
    for lent in [false, true] {
        for (index, (value, (name, ty))) in args.iter_mut().zip(&func.params).enumerate() {
            let Value::Wit(typed) = value else { continue };
            if let Err(given) = typed.carried.iter_mut().try_for_each(|carried| claims.add(carried, lent, store)) {
                claims.undo();
                let path = format!("argument {} ({:?})", index + 1, &**name);
                let expected = crate::error::shown::text(&ty.to_string());
                return Err(CallError::Part { index, path, expected, given: given.to_owned() });
            }
        }
    }
    Ok(claims)
}

impl Claims {
    fn add(&mut self, carried: &mut Carried, lent: bool, store: u64) -> Result<(), &'static str> {
        let (handle, claimed) = match carried {
            Carried::Own(handle) if !lent => (handle, Handle::take as fn(&Handle) -> Option<ResourceAny>),
            Carried::Borrow(handle) if lent => (handle, Handle::lend as _),
            _ => return Ok(()),
        };
        if handle.store() != store {
            return Err("a resource of another instance, or of one that was reset");
        }
        if !lent && handle.is_lent() {
            return Err("a resource that is lent to a call which goes on");
        }
        let resource = claimed(handle).ok_or("a resource that has been dropped or given away")?;
        match lent {
            true => self.lent.push(Arc::clone(handle)),
            false => self.given.push((Arc::clone(handle), resource)),
        }
        *carried = Carried::Claimed(resource);
        Ok(())
    }

    /// After this nothing of it was given away.
    fn undo(&mut self) {
        self.given.drain(..).for_each(|(handle, resource)| handle.put_back(resource));
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        self.lent.iter().for_each(|handle| handle.end_loan());
    }
}

/// Resources of the embedder's that are lent for one call.
#[derive(Default)]
pub(crate) struct Loans(Vec<ResourceAny>);

impl Loans {
    /// Takes them back after the call.
    pub(crate) fn end(self, mut store: Context<'_>) -> Result<(), Error> {
        self.0.into_iter().try_for_each(|resource| {
            let number = number_of(resource, &mut store)?;
            store.data_mut().resources.take(number);
            Ok(())
        })
    }
}

/// The value as Wasmtime takes it.
pub(crate) fn put(typed: Typed, loans: &mut Loans, mut store: Context<'_>) -> Result<Val, Error> {
    let Typed { ty, passed, carried } = typed;
    let mut value = passed.into_val();
    if !carried.is_empty() {
        visit(&mut value, &ty, &mut |place, resource, lent| {
            let found = if let Val::U32(index) = place { carried.get(*index as usize) } else { None };
            let resource = match found.ok_or_else(not_there)? {
                Carried::Claimed(resource) => *resource,
                Carried::Term(term) => give(resource, (Arc::clone(term), lent), loans, &mut store)?,
                Carried::Own(_) | Carried::Borrow(_) => return Err(not_there()),
            };
            *place = Val::Resource(resource);
            Ok(())
        })?;
    }
    Ok(value)
}

/// Gives the guest a resource of the embedder's. One that is lent is owned here as long: Wasmtime lends what is owned.
fn give(
    resource: &Resource,
    (term, lent): (crate::wit::Term, bool),
    loans: &mut Loans,
    store: &mut Context<'_>,
) -> Result<ResourceAny, Error> {
    let number = store.data_mut().resources.add(resource, term, !lent)?;
    let given = ResourceDynamic::new_own(number, resource.index).try_into_resource_any(&mut *store);
    let given = given.map_err(|error| super::component::explained(error, &mut *store))?;
    if lent {
        loans.0.push(given);
    }
    Ok(given)
}

/// Resources of the embedder's that the guest gives back. They are its own until the embedder has them.
#[derive(Default)]
pub(crate) struct Returns(Vec<u32>);

impl Returns {
    /// Hands them to a host call that was just opened. Where the guest is gone before that goes on, the embedder says whether it
    /// has them: whoever was to take them may be gone, too.
    pub(crate) fn hand_over(&self, invocation: &Invocation, store: &mut Context<'_>) {
        if !self.0.is_empty() {
            let taken_over = invocation.mail.hand_over();
            store.data_mut().resources.hand_over(&self.0, &taken_over);
        }
    }

    pub(crate) fn make(self, store: &mut Context<'_>) {
        for number in self.0 {
            store.data_mut().resources.take(number);
        }
    }
}

/// The value as the driver gets it, with the resources in it.
pub(crate) fn take(mut value: Val, ty: &Type, returns: &mut Returns, mut store: Context<'_>) -> Result<Typed, Error> {
    let mut carried = Vec::new();
    visit(&mut value, ty, &mut |place, resource, lent| {
        let Val::Resource(found) = place else { return Err(not_there()) };
        carried.push(taken(*found, (resource, lent), returns, &mut store)?);
        *place = Val::U32(carried.len() as u32 - 1);
        Ok(())
    })?;
    Ok(Typed { carried, ..Typed::taken(value, ty) })
}

fn taken(
    found: ResourceAny,
    (resource, lent): (&Resource, bool),
    returns: &mut Returns,
    store: &mut Context<'_>,
) -> Result<Carried, Error> {
    if resource.system {
        return Err(CallError::Component("a resource of WASI's is passed, which nobody else has").into());
    }
    if !resource.host {
        let data = store.data();
        return Ok(Carried::Own(Handle::new(resource, data.id(), found, data.resources.left())));
    }
    let number = number_of(found, store)?;
    if !lent {
        returns.0.push(number);
    }
    store.data().resources.get(number).map(Carried::Term).ok_or_else(not_there)
}

fn number_of(resource: ResourceAny, store: &mut Context<'_>) -> Result<u32, Error> {
    let found = ResourceDynamic::try_from_resource_any(resource, store);
    found.map(|found| found.rep()).map_err(Error::internal)
}

fn not_there() -> Error {
    Error::Internal("a resource is not where its type says".into())
}
