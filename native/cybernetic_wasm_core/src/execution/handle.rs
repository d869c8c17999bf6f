//! Having a guest answer a request, by its `wasi:http/incoming-handler`.

use super::call::Called;
use super::{Execution, Product, Setup};
use crate::code::Function;
use crate::error::Error;
use crate::guest::Guest;
use crate::instance::Instance;
use crate::invocation::Asked;
use crate::limits::Limits;
use crate::member::MemberId;
use crate::module::Module;
use crate::wasi::receive;
use std::sync::Arc;

impl Execution {
    /// Has a fresh instance of `module` answer a request by its function [`crate::code::HANDLER`]. The answer comes in errands: see
    /// [`super::Step::Http`].
    pub fn handle(module: &Arc<Module>, function: &Arc<Function>, asked: Asked, setup: Setup) -> Self {
        Self::of_fresh(module, Handling { function: Arc::clone(function), asked }, setup)
    }

    /// The same of a live instance, whose guest is busy until it ends.
    pub fn handle_on(
        instance: Instance<'_>,
        function: &Arc<Function>,
        asked: Asked,
        limits: Limits,
    ) -> Result<Self, Error> {
        Self::of_live(instance, Handling { function: Arc::clone(function), asked }, limits)
    }
}

/// A call that answers a request.
struct Handling {
    function: Arc<Function>,
    asked: Asked,
}

impl Called for Handling {
    type Gives = ();

    fn function(&self) -> &Arc<Function> {
        &self.function
    }

    fn with_fresh(self, function: Arc<Function>) -> Self {
        Self { function, ..self }
    }

    async fn carry_out(self, guest: &mut Guest, _: MemberId) -> Result<(), Error> {
        let given = receive(guest.store.data_mut(), self.asked)?;
        guest.call_by_type::<_, ()>(&self.function, given).await?;
        let http = Arc::clone(guest.store.data().invocation.http());
        // The guest may have left more than has been taken by now.
        Ok(http.answered().await?)
    }

    fn product((): ()) -> Result<Product, Error> {
        Ok(Product::Values(Vec::new()))
    }
}
