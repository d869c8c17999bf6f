//! `wasi:random`: random bytes, good ones and others. Good ones that are not granted are a trap: there is no error to give, and
//! any bytes would be taken for good. Those of which the interface promises nothing are then the same in every run.

use super::entry::{Work, count, enter, refusal, system};
use crate::error::{Error, Limit, LimitError};
use crate::limits::Reserved;
use crate::store::StoreData;
use crate::wit::interface;
use std::sync::Arc;
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

/// Bytes that are made in one go, so that many do not make a slice long.
const PART: usize = 64 << 10;

/// Which function asks for random bytes, and whether they have to be good.
type Asked = (&'static str, bool);

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    type Store<'a> = StoreContextMut<'a, StoreData>;
    let mut random = linker.instance(&interface("wasi:random/random"))?;
    random.func_wrap_async("get-random-bytes", |store: Store<'_>, (length,): (u64,)| {
        Box::new(bytes(store, ("wasi:random/random#get-random-bytes", true), length))
    })?;
    random.func_wrap("get-random-u64", |mut store: Store<'_>, (): ()| {
        Ok((number(store.data_mut(), ("wasi:random/random#get-random-u64", true))?,))
    })?;
    let mut insecure = linker.instance(&interface("wasi:random/insecure"))?;
    insecure.func_wrap_async("get-insecure-random-bytes", |store: Store<'_>, (length,): (u64,)| {
        Box::new(bytes(store, ("wasi:random/insecure#get-insecure-random-bytes", false), length))
    })?;
    insecure.func_wrap("get-insecure-random-u64", |mut store: Store<'_>, (): ()| {
        Ok((number(store.data_mut(), ("wasi:random/insecure#get-insecure-random-u64", false))?,))
    })?;
    let mut seed = linker.instance(&interface("wasi:random/insecure-seed"))?;
    seed.func_wrap("insecure-seed", |mut store: Store<'_>, (): ()| {
        let asked = ("wasi:random/insecure-seed#insecure-seed", false);
        Ok(((number(store.data_mut(), asked)?, number(store.data_mut(), asked)?),))
    })
}

async fn bytes(mut store: StoreContextMut<'_, StoreData>, asked: Asked, length: u64) -> wasmtime::Result<(Vec<u8>,)> {
    let data = store.data_mut();
    enter(data, Work::Short).await?;
    check(data, asked)?;
    let invocation = Arc::clone(&data.invocation);
    let _room = room(data, length)?;
    let mut bytes = vec![0; length as usize];
    for part in bytes.chunks_mut(PART) {
        invocation.breathe().await;
        system(data)?.fill_random(part);
    }
    Ok((bytes,))
}

fn number(data: &mut StoreData, asked: Asked) -> wasmtime::Result<u64> {
    count(data)?;
    check(data, asked)?;
    let mut bytes = [0; size_of::<u64>()];
    system(data)?.fill_random(&mut bytes);
    Ok(u64::from_le_bytes(bytes))
}

fn check(data: &mut StoreData, (operation, good): Asked) -> wasmtime::Result<()> {
    if good && system(data)?.random.is_none() { Err(refusal(data, (operation, "random"))) } else { Ok(()) }
}

/// Room for what is to be passed to the guest: no more than it may pass itself.
fn room(data: &StoreData, bytes: u64) -> Result<Reserved, Error> {
    let allowed = data.invocation.limits.max_transfer;
    if bytes > allowed {
        return Err(LimitError::new(Limit::Transfer, allowed, bytes).into());
    }
    Ok(Reserved::nothing(data.code.ceilings()).beside(bytes)?)
}
