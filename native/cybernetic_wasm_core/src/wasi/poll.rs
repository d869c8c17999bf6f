//! `poll_oneoff`: waiting for clocks and descriptors, without a thread.
//!
//! All of it is done here: `wasmtime-wasi` would put the thread to sleep for a single clock, and knows no clocks but real
//! ones. A file, standard output and standard error are always ready; standard input is when there is some, or its end.

use super::call::Call;
use super::entry::{bad_pointer, memory, no_wasi, refuse};
use super::preview::Preview;
use crate::error::Error;
use crate::invocation::Invocation;
use crate::store::StoreData;
use crate::system::{self, Clock, Descriptor, Sleep, System};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use wasmtime::Caller;
use wasmtime_wasi::p1::types::{
    Clockid, Errno, Event, EventFdReadwrite, Eventrwflags, Eventtype, Fd, Subclockflags, Subscription,
    SubscriptionClock, SubscriptionFdReadwrite, SubscriptionU,
};
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wiggle::{GuestError, GuestMemory, GuestPtr};

/// Each subscription is looked at in one go. Real programs have a handful.
const MOST: u32 = 4_096;

/// What one subscription waits for.
enum Awaited {
    /// So many nanoseconds from now on.
    Time(u64),
    Stdin,
    Ready,
}

pub(super) async fn poll_oneoff(caller: &mut Caller<'_, StoreData>, call: &mut Call<'_>) -> wasmtime::Result<i32> {
    let (subscriptions, events, count, out) = (call.arg(0), call.arg(1), call.arg(2), call.arg(3));
    let invocation = Arc::clone(&caller.data().invocation);
    invocation.count_host_call().map_err(Error::from)?;
    invocation.breathe().await;
    let guest_memory = memory(caller)?;
    let (bytes, data) = guest_memory.data_and_store_mut(&mut *caller);
    let system = data.system.as_deref_mut().ok_or_else(no_wasi)?;
    let mut memory = GuestMemory::Unshared(bytes);
    let given = match read(&memory, call.preview(), subscriptions, count)? {
        Ok(given) => given,
        Err(errno) => return Ok(errno as i32),
    };
    let awaited = match given.iter().map(|one| awaited(system, one)).collect::<Result<Vec<_>, _>>() {
        Ok(awaited) => awaited,
        // Not refused in `before`: waiting for standard input needs no clock.
        Err(errno @ Errno::Notcapable) => {
            return Ok(refuse(&invocation, call.function(), ("clocks", None), errno) as i32);
        }
        Err(errno) => return Ok(errno as i32),
    };
    let clock = system.clocks.clone();
    let waited = wait(&clock, &awaited, &invocation);
    // Who has files may find work on them next, or when it ends.
    let ready = if system.has_files() { waited.await } else { invocation.doze(waited).await }?;
    let happened = given.iter().zip(&ready).filter(|(_, ready)| **ready).map(|(one, _)| event(one));
    let mut written = 0;
    for event in happened {
        let place = GuestPtr::<Event>::new(events).add(written);
        place.and_then(|place| memory.write(place, event)).map_err(|fault| bad_pointer(&fault))?;
        written += 1;
    }
    memory.write(GuestPtr::<u32>::new(out), written).map_err(|fault| bad_pointer(&fault))?;
    Ok(Errno::Success as i32)
}

fn read(
    memory: &GuestMemory<'_>,
    preview: Preview,
    offset: u32,
    count: u32,
) -> Result<Result<Vec<Subscription>, Errno>, Error> {
    // Waiting for nothing would be waiting for ever.
    if count == 0 || count > MOST {
        return Ok(Err(Errno::Inval));
    }
    let read: Result<Vec<_>, GuestError> = match preview {
        Preview::Zero => (0..count).map(|index| read_old(memory, offset, index)).collect(),
        Preview::One => {
            let subscriptions = GuestPtr::<[Subscription]>::new((offset, count));
            subscriptions.iter().map(|one| memory.read(one?)).collect()
        }
    };
    match read {
        Ok(read) => Ok(Ok(read)),
        Err(GuestError::InvalidFlagValue(_) | GuestError::InvalidEnumValue(_)) => Ok(Err(Errno::Inval)),
        Err(fault) => Err(bad_pointer(&fault)),
    }
}

/// A subscription as preview 0 has it: a clock's begins with a number of the guest's own.
fn read_old(memory: &GuestMemory<'_>, offset: u32, index: u32) -> Result<Subscription, GuestError> {
    const WORDS: u32 = 7;
    let words = GuestPtr::<u64>::new(offset).add(index.saturating_mul(WORDS))?.as_array(WORDS);
    let words = memory.to_vec(words)?;
    let of = SubscriptionFdReadwrite { file_descriptor: Fd::from(words[2] as u32) };
    let u = match Eventtype::try_from(words[1] as u8)? {
        Eventtype::Clock => SubscriptionU::Clock(SubscriptionClock {
            id: Clockid::try_from(words[3] as u32)?,
            timeout: words[4],
            precision: words[5],
            flags: Subclockflags::try_from(words[6] as u16)?,
        }),
        Eventtype::FdRead => SubscriptionU::FdRead(of),
        Eventtype::FdWrite => SubscriptionU::FdWrite(of),
    };
    Ok(Subscription { userdata: words[0], u })
}

fn awaited(system: &mut System, subscription: &Subscription) -> Result<Awaited, Errno> {
    match &subscription.u {
        SubscriptionU::Clock(_) if system.clocks.is_none() => Err(Errno::Notcapable),
        SubscriptionU::Clock(clock) => Ok(Awaited::Time(time_until(system, clock)?)),
        SubscriptionU::FdRead(of) => match system.descriptors.get(u32::from(of.file_descriptor)) {
            Some(Descriptor::Stdin) if system.stdio[0] => Ok(Awaited::Stdin),
            Some(of) if of.is_opened() => Ok(Awaited::Ready),
            _ => Err(Errno::Badf),
        },
        SubscriptionU::FdWrite(of) => match system.descriptors.get(u32::from(of.file_descriptor)) {
            Some(Descriptor::Stdout) if system.stdio[1] => Ok(Awaited::Ready),
            Some(Descriptor::Stderr) if system.stdio[2] => Ok(Awaited::Ready),
            Some(of) if of.is_opened() => Ok(Awaited::Ready),
            _ => Err(Errno::Badf),
        },
    }
}

/// Nanoseconds until a clock shows what is awaited.
fn time_until(system: &mut System, clock: &SubscriptionClock) -> Result<u64, Errno> {
    let absolute = clock.flags.contains(Subclockflags::SUBSCRIPTION_CLOCK_ABSTIME);
    match clock.id {
        Clockid::Realtime | Clockid::Monotonic if !absolute => Ok(clock.timeout),
        Clockid::Realtime => Ok(clock.timeout.saturating_sub(system.clocks.wall())),
        Clockid::Monotonic => Ok(clock.timeout.saturating_sub(monotonic(system))),
        Clockid::ProcessCputimeId | Clockid::ThreadCputimeId => Err(Errno::Inval),
    }
}

/// As the guest sees it. Looking at a virtual clock would move it on.
fn monotonic(system: &mut System) -> u64 {
    let seen = system.clocks.monotonic();
    let mut none = GuestMemory::Unshared(&mut []);
    let look = || Some(system.ctx().ok()?.clock_time_get(&mut none, Clockid::Monotonic, 0).unwrap_or(0));
    seen.or_else(look).unwrap_or(0)
}

/// Waits until something is ready, and says what is.
async fn wait(clock: &Clock, awaited: &[Awaited], invocation: &Invocation) -> Result<Vec<bool>, Error> {
    let is_ready = |one: &Awaited| match one {
        Awaited::Time(left) => *left == 0,
        Awaited::Stdin => invocation.has_input(),
        Awaited::Ready => true,
    };
    let ready: Vec<bool> = awaited.iter().map(is_ready).collect();
    if ready.contains(&true) {
        if awaited.iter().all(|one| matches!(one, Awaited::Time(_))) {
            // Nothing but time is waited for, and it has come.
            clock.skip(0);
        }
        return Ok(ready);
    }
    let first = awaited.iter().filter_map(|one| if let Awaited::Time(left) = one { Some(*left) } else { None }).min();
    let stdin = awaited.iter().any(|one| matches!(one, Awaited::Stdin));
    let timed_out = match first {
        Some(left) if clock.is_virtual() => pass(left, clock, stdin, invocation).await,
        Some(left) => wait_for(Some(system::sleep(Duration::from_nanos(left))?), stdin, invocation).await,
        None => wait_for(None, stdin, invocation).await,
    };
    Ok(awaited
        .iter()
        .map(|one| match one {
            Awaited::Time(left) => timed_out && Some(*left) == first,
            Awaited::Stdin => invocation.has_input(),
            Awaited::Ready => true,
        })
        .collect())
}

/// Waits on a clock that nothing else moves on; whether the time is up then. Whoever gives input is asked first: what they say is
/// what happens, and if it is that there is nothing yet, the time passes.
async fn pass(left: u64, clock: &Clock, stdin: bool, invocation: &Invocation) -> bool {
    if stdin {
        invocation.input_answered().await;
        if invocation.has_input() {
            return false;
        }
    }
    clock.skip(left)
}

/// Whether the time was up.
async fn wait_for(sleep: Option<Sleep>, stdin: bool, invocation: &Invocation) -> bool {
    match (sleep, stdin) {
        (None, false) => true,
        (None, true) => {
            invocation.input_ready().await;
            false
        }
        (Some(sleep), false) => {
            sleep.await;
            true
        }
        (Some(sleep), true) => {
            let (mut sleep, mut input) = (pin!(sleep), pin!(invocation.input_ready()));
            std::future::poll_fn(|context| match (input.as_mut().poll(context), sleep.as_mut().poll(context)) {
                (Poll::Pending, Poll::Pending) => Poll::Pending,
                (_, slept) => Poll::Ready(slept.is_ready()),
            })
            .await
        }
    }
}

fn event(subscription: &Subscription) -> Event {
    let (type_, nbytes) = match &subscription.u {
        SubscriptionU::Clock(_) => (Eventtype::Clock, 0),
        SubscriptionU::FdRead(_) => (Eventtype::FdRead, 1),
        SubscriptionU::FdWrite(_) => (Eventtype::FdWrite, 1),
    };
    let fd_readwrite = EventFdReadwrite { nbytes, flags: Eventrwflags::empty() };
    Event { userdata: subscription.userdata, error: Errno::Success, type_, fd_readwrite }
}
