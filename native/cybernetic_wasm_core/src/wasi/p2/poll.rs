//! `wasi:io/poll`: waiting for clocks, streams and whatever else can be waited for, without a thread.
//!
//! What is waited for wakes the execution, as everything does that one waits for. Only a virtual clock does not: it stands still
//! until the guest waits for it and nothing else can happen, and is moved on here.

use super::add;
use super::entry::{Work, count, enter, system, table, trap};
use crate::invocation::Invocation;
use crate::store::StoreData;
use crate::system::{Clock, within};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use tokio::runtime::Handle;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi_io::bindings::wasi::io::{error, poll};

/// All of them are looked at in one go. Real programs have a handful.
const MOST: usize = 10_000;

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    add!(linker: error, poll);
    Ok(())
}

impl error::Host for StoreData {}

impl error::HostError for StoreData {
    fn drop(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<()> {
        count(self)?;
        error::HostError::drop(table(self)?, error)
    }

    /// It says no more than what went wrong: a chain of causes, or a backtrace, would be of the host.
    fn to_debug_string(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<String> {
        count(self)?;
        Ok(table(self)?.get(&error)?.to_string())
    }
}

impl poll::Host for StoreData {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        enter(self, Work::Short).await?;
        match pollables.len() {
            0 => return Err(trap("it waits for nothing").into()),
            1..=MOST => {}
            _ => return Err(trap(&format!("it waits for more than {MOST} things at once")).into()),
        }
        let waiting = Waiting::of(self)?;
        waiting.wait(poll::Host::poll(table(self)?, pollables)).await
    }
}

impl poll::HostPollable for StoreData {
    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        enter(self, Work::Short).await?;
        let waiting = Waiting::of(self)?;
        let ready = within(waiting.reactor, poll::HostPollable::ready(table(self)?, pollable)).await?;
        if !ready {
            waiting.clock.looked_at();
        }
        Ok(ready)
    }

    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        enter(self, Work::Short).await?;
        let waiting = Waiting::of(self)?;
        waiting.wait(poll::HostPollable::block(table(self)?, pollable)).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        count(self)?;
        poll::HostPollable::drop(table(self)?, pollable)
    }
}

/// A guest that waits.
struct Waiting {
    invocation: Arc<Invocation>,
    clock: Clock,
    has_files: bool,
    reactor: Option<Handle>,
}

impl Waiting {
    fn of(data: &mut StoreData) -> wasmtime::Result<Self> {
        let invocation = Arc::clone(&data.invocation);
        let system = system(data)?;
        let (has_files, reactor) = (system.has_files(), system.reactor());
        Ok(Self { invocation, clock: system.clocks.clone(), has_files, reactor })
    }

    async fn wait<T>(&self, waited: impl Future<Output = T>) -> T {
        let waited = within(self.reactor.clone(), self.pass(waited));
        // Who has files may find work on them next, or when it ends.
        if self.has_files { waited.await } else { self.invocation.doze(waited).await }
    }

    /// Waits, and moves a virtual clock on where nothing else can happen. Whoever gives input is asked before: what they say is
    /// what happens, and if it is that there is nothing yet, the time passes.
    async fn pass<T>(&self, waited: impl Future<Output = T>) -> T {
        let Self { clock, invocation, .. } = self;
        let (mut waited, mut asked) = (pin!(waited), false);
        clock.forget_waits();
        poll_fn(|context| {
            let answered = std::mem::take(&mut asked) && !invocation.awaits_input();
            if answered && !invocation.has_input() {
                clock.pass();
            }
            // Once answered, they are not asked again for what is over now.
            let mut polled = invocation.without_asking(answered, || waited.as_mut().poll(context));
            while polled.is_pending() && !invocation.awaits_input() && clock.pass() {
                polled = waited.as_mut().poll(context);
            }
            asked = polled.is_pending() && clock.is_awaited();
            if polled.is_ready() {
                clock.waited();
            }
            polled
        })
        .await
    }
}
