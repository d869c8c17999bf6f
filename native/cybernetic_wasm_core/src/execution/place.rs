//! A place among the node's live guests, and the guest that takes it: which variant of a module it runs, and on which engine.

use crate::code::Code;
use crate::engine::{Allocation, EngineConfig, POOL_MEMORY, POOL_TABLE_ELEMENTS, PoolFull};
use crate::error::Error;
use crate::guest::{Guest, Ingredients, classify, classify_component};
use crate::invocation::Invocation;
use crate::limits::{Ceilings, Limits, Place};
use crate::linker::{Given, Starting};
use crate::module::{Form, Module};
use crate::runtime::Runtime;
use crate::system::Grants;
use std::sync::Arc;

/// A guest that is wanted.
pub(super) struct Wanted {
    pub(super) module: Arc<Module>,
    pub(super) form: Form,
    pub(super) config: EngineConfig,
    pub(super) given: Given,
}

/// Limits beyond what a pool's slots hold need an engine without a pool.
pub(super) fn allocate_for(mut config: EngineConfig, limits: &Limits) -> EngineConfig {
    if limits.max_table_elements > POOL_TABLE_ELEMENTS || limits.max_memory > POOL_MEMORY {
        config.allocation = Allocation::OnDemand;
    }
    config
}

/// A place that is to be had now, or that is waited for where the limits allow that.
pub(super) async fn place(ceilings: &Ceilings, weight: u32, invocation: &Invocation) -> Result<Place, Error> {
    match ceilings.try_place(weight) {
        // One that counts as more guests than there may be would only keep the others waiting behind it.
        Err(_) if !invocation.limits.wait.is_zero() && ceilings.could_hold(weight) => {
            Ok(invocation.queue(ceilings.place(weight)).await?)
        }
        place => Ok(place?),
    }
}

impl Wanted {
    /// A fresh guest on an engine of the configuration, or on its on-demand sibling while the pool is full; and the module
    /// that it runs.
    pub(super) async fn make(
        &self,
        runtime: &Arc<Runtime>,
        invocation: &Arc<Invocation>,
    ) -> Result<(Guest, Arc<Module>), Error> {
        let weight = self.module.code().weight();
        let free = place(runtime.ceilings(), weight, invocation).await?;
        invocation.turn.take().await;
        let variant = runtime.variant(&self.module, (self.form, self.config), invocation).await?;
        let (guest, variant) = match make((&variant, &self.given), invocation, free).await {
            Err(error) if error.is::<PoolFull>() || error.is::<wasmtime::PoolConcurrencyLimitError>() => {
                let free = place(runtime.ceilings(), weight, invocation).await?;
                let sibling = EngineConfig { allocation: Allocation::OnDemand, ..self.config };
                let variant = runtime.variant(&self.module, (self.form, sibling), invocation).await?;
                (make((&variant, &self.given), invocation, free).await, variant)
            }
            guest => (guest, variant),
        };
        Ok((guest.map_err(|error| not_made(error, invocation, variant.code()))?, variant))
    }
}

/// Why there is no guest of this code.
pub(super) fn not_made(error: wasmtime::Error, invocation: &Invocation, code: &Code) -> Error {
    match code.is_component() {
        true => classify_component(error, invocation, code),
        false => classify(error, invocation, code),
    }
}

/// A guest of `module`, which is linked with WASI if it has grants of its own; a component always, which then may be granted
/// nothing.
pub(super) async fn make(
    (module, given): (&Module, &Given),
    invocation: &Arc<Invocation>,
    place: Place,
) -> wasmtime::Result<Guest> {
    let kernel = given.kernel.as_ref();
    let ready = module.linked(given.grants.as_deref(), given.sources.as_ref(), kernel.is_some())?;
    let nothing = (ready.needs_system() && given.grants.is_none()).then(Grants::none);
    let grants = given.grants.as_deref().or(nothing.as_ref());
    let linked = Starting { ready: &ready, code: module.code(), linkers: module.linkers() };
    let owner = given.owner.clone();
    Guest::new(Ingredients { code: module.code(), linked, grants, owner, place, kernel }, invocation).await
}
