//! `wasi:clocks`: what the guest's clocks show, and waiting for them. Their functions have no errors to give: without the grant
//! they trap.

use super::add;
use super::entry::{count, push, refusal, system, table};
use crate::error::Error;
use crate::store::StoreData;
use crate::system::{self, Clock, Sleep, System};
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::clocks::WasiClocksView;
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    add!(linker: wall_clock, monotonic_clock);
    Ok(())
}

/// The guest's system, if it may look at a clock.
fn granted<'a>(data: &'a mut StoreData, operation: &'static str) -> wasmtime::Result<&'a mut System> {
    count(data)?;
    if system(data)?.clocks.is_none() {
        return Err(refusal(data, (operation, "clocks")));
    }
    system(data)
}

impl wall_clock::Host for StoreData {
    fn now(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        wall_clock::Host::now(&mut granted(self, "wasi:clocks/wall-clock#now")?.ctx()?.clocks())
    }

    fn resolution(&mut self) -> wasmtime::Result<wall_clock::Datetime> {
        wall_clock::Host::resolution(&mut granted(self, "wasi:clocks/wall-clock#resolution")?.ctx()?.clocks())
    }
}

impl monotonic_clock::Host for StoreData {
    fn now(&mut self) -> wasmtime::Result<u64> {
        monotonic_clock::Host::now(&mut granted(self, "wasi:clocks/monotonic-clock#now")?.ctx()?.clocks())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        monotonic_clock::Host::resolution(&mut granted(self, "wasi:clocks/monotonic-clock#resolution")?.ctx()?.clocks())
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let system = granted(self, "wasi:clocks/monotonic-clock#subscribe-instant")?;
        let left = when.saturating_sub(shown(system)?);
        let timer = Timer::new(&system.clocks, left)?;
        wait_for(self, timer)
    }

    fn subscribe_duration(&mut self, nanoseconds: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let system = granted(self, "wasi:clocks/monotonic-clock#subscribe-duration")?;
        let timer = Timer::new(&system.clocks, nanoseconds)?;
        wait_for(self, timer)
    }
}

/// What the monotonic clock shows. Looking at a virtual one would move it on.
fn shown(system: &mut System) -> wasmtime::Result<u64> {
    match system.clocks.monotonic() {
        Some(shown) => Ok(shown),
        None => monotonic_clock::Host::now(&mut system.ctx()?.clocks()),
    }
}

fn wait_for(data: &mut StoreData, timer: Timer) -> wasmtime::Result<Resource<DynPollable>> {
    let timer = push(data, timer)?;
    subscribe(table(data)?, timer)
}

/// A time that can be waited for.
enum Timer {
    Real(Sleep),
    /// What the virtual clock is to show.
    Virtual(Clock, u64),
}

impl Timer {
    fn new(clock: &Clock, nanoseconds: u64) -> Result<Self, Error> {
        match clock.monotonic() {
            Some(now) => Ok(Timer::Virtual(clock.clone(), now.saturating_add(nanoseconds))),
            None => Ok(Timer::Real(system::sleep(Duration::from_nanos(nanoseconds))?)),
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {
        match self {
            Timer::Real(sleep) => sleep.await,
            // `poll.rs` moves the clock on, and polls again.
            Timer::Virtual(clock, due) => {
                poll_fn(|_| if clock.has_come(*due) { Poll::Ready(()) } else { Poll::Pending }).await;
            }
        }
    }
}
