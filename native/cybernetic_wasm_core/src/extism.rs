//! `extism:host/env`: the functions by which a plugin made for Extism reaches its [`Kernel`], as far as they need no host. What
//! is logged, and requests over the network, are the embedder's to answer, as any other import is.
//!
//! See <https://github.com/extism/extism/blob/main/kernel/src/lib.rs>, and what its runtime answers.

use crate::error::{Error, Trap};
use crate::kernel::{Kernel, Part};
use crate::store::StoreData;
use std::sync::Arc;
use wasmtime::{Caller, FuncType, Linker, ValType};

/// Where a plugin imports them from.
pub(crate) const MODULE: &str = "extism:host/env";

const I32: ValType = ValType::I32;
const I64: ValType = ValType::I64;

/// The functions, with the types of their parameters and results.
const TABLE: [(&str, &[ValType], &[ValType]); 22] = [
    ("alloc", &[I64], &[I64]),
    ("config_get", &[I64], &[I64]),
    ("error_set", &[I64], &[]),
    ("free", &[I64], &[]),
    ("get_log_level", &[], &[I32]),
    ("http_headers", &[], &[I64]),
    ("http_status_code", &[], &[I32]),
    ("input_length", &[], &[I64]),
    ("input_load_u64", &[I64], &[I64]),
    ("input_load_u8", &[I64], &[I32]),
    ("input_offset", &[], &[I64]),
    ("length", &[I64], &[I64]),
    ("length_unsafe", &[I64], &[I64]),
    ("load_u64", &[I64], &[I64]),
    ("load_u8", &[I64], &[I32]),
    ("output_length", &[], &[I64]),
    ("output_offset", &[], &[I64]),
    ("output_set", &[I64, I64], &[]),
    ("store_u64", &[I64, I64], &[]),
    ("store_u8", &[I64, I32], &[]),
    ("var_get", &[I64], &[I64]),
    ("var_set", &[I64, I64], &[]),
];

/// The type of a function that is served here.
pub(crate) fn signature_of(engine: &wasmtime::Engine, name: &str) -> Option<FuncType> {
    let (_, params, results) = TABLE.iter().find(|(known, _, _)| *known == name)?;
    Some(FuncType::new(engine, params.iter().cloned(), results.iter().cloned()))
}

type Plugin<'a> = Caller<'a, StoreData>;

/// Defines the functions in a linker.
pub(crate) fn define(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    looks(linker)?;
    sets(linker)?;
    copies(linker)
}

/// Those that look. They are as cheap as loads, and are charged as little.
fn looks(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "length", |mut plugin: Plugin<'_>, at: i64| {
        Ok(kernel(&mut plugin)?.length(at as u64) as i64)
    })?;
    linker.func_wrap(MODULE, "length_unsafe", |mut plugin: Plugin<'_>, at: i64| {
        Ok(kernel(&mut plugin)?.length(at as u64) as i64)
    })?;
    linker.func_wrap(MODULE, "load_u8", |mut plugin: Plugin<'_>, at: i64| byte(kernel(&mut plugin)?, at as u64))?;
    linker.func_wrap(MODULE, "load_u64", |mut plugin: Plugin<'_>, at: i64| word(kernel(&mut plugin)?, at as u64))?;
    linker.func_wrap(MODULE, "input_load_u8", |mut plugin: Plugin<'_>, at: i64| {
        let kernel = kernel(&mut plugin)?;
        byte(kernel, of_input(kernel, at, 1)?)
    })?;
    linker.func_wrap(MODULE, "input_load_u64", |mut plugin: Plugin<'_>, at: i64| {
        let kernel = kernel(&mut plugin)?;
        word(kernel, of_input(kernel, at, 8)?)
    })?;
    linker.func_wrap(MODULE, "input_length", |mut plugin: Plugin<'_>| Ok(kernel(&mut plugin)?.input.length as i64))?;
    linker.func_wrap(MODULE, "input_offset", |mut plugin: Plugin<'_>| Ok(kernel(&mut plugin)?.input.offset as i64))?;
    linker.func_wrap(
        MODULE,
        "output_length",
        |mut plugin: Plugin<'_>| Ok(kernel(&mut plugin)?.output.length as i64),
    )?;
    linker.func_wrap(
        MODULE,
        "output_offset",
        |mut plugin: Plugin<'_>| Ok(kernel(&mut plugin)?.output.offset as i64),
    )?;
    linker.func_wrap(MODULE, "http_status_code", |mut plugin: Plugin<'_>| Ok(kernel(&mut plugin)?.http.status))?;
    linker
        .func_wrap(MODULE, "get_log_level", |mut plugin: Plugin<'_>| Ok(kernel(&mut plugin)?.settings.log_level()))?;
    Ok(())
}

/// Those that change what is there.
fn sets(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "free", |mut plugin: Plugin<'_>, at: i64| {
        kernel(&mut plugin)?.free(at as u64);
        Ok(())
    })?;
    linker.func_wrap(MODULE, "store_u8", |mut plugin: Plugin<'_>, at: i64, value: i32| {
        let place = Part { offset: at as u64, length: 1 };
        kernel(&mut plugin)?.part_mut(place)?.copy_from_slice(&[value as u8]);
        Ok(())
    })?;
    linker.func_wrap(MODULE, "store_u64", |mut plugin: Plugin<'_>, at: i64, value: i64| {
        let place = Part { offset: at as u64, length: 8 };
        kernel(&mut plugin)?.part_mut(place)?.copy_from_slice(&value.to_le_bytes());
        Ok(())
    })?;
    linker.func_wrap(MODULE, "output_set", |mut plugin: Plugin<'_>, at: i64, length: i64| {
        let output = Part { offset: at as u64, length: length as u64 };
        let kernel = kernel(&mut plugin)?;
        kernel.part(output)?;
        kernel.output = output;
        Ok(())
    })?;
    linker.func_wrap(MODULE, "error_set", |mut plugin: Plugin<'_>, at: i64| {
        kernel(&mut plugin)?.error = at as u64;
        Ok(())
    })?;
    Ok(())
}

/// Those that copy blocks, or make room for what they give. They are counted as any host call is, and a slice may end before one.
fn copies(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MODULE, "alloc", |mut plugin: Plugin<'_>, (length,): (i64,)| {
        Box::new(async move {
            enter(&mut plugin).await?;
            Ok(plugin.data_mut().alloc(length as u64).await? as i64)
        })
    })?;
    linker.func_wrap_async(MODULE, "config_get", |mut plugin: Plugin<'_>, (key,): (i64,)| {
        Box::new(async move {
            let kernel = kernel(&mut plugin)?;
            let (settings, key) = (Arc::clone(&kernel.settings), kernel.block(key as u64).to_vec());
            give(&mut plugin, settings.config(&key)).await
        })
    })?;
    linker.func_wrap_async(MODULE, "var_get", |mut plugin: Plugin<'_>, (name,): (i64,)| {
        Box::new(async move {
            let kernel = kernel(&mut plugin)?;
            let value = kernel.settings.variable(kernel.block(name as u64));
            give(&mut plugin, value.as_deref()).await
        })
    })?;
    linker.func_wrap_async(MODULE, "var_set", |mut plugin: Plugin<'_>, (name, value): (i64, i64)| {
        Box::new(async move {
            enter(&mut plugin).await?;
            let kernel = kernel(&mut plugin)?;
            let value = (value != 0).then(|| kernel.block(value as u64));
            Ok(kernel.settings.set_variable(kernel.block(name as u64), value).map_err(Error::from)?)
        })
    })?;
    linker.func_wrap_async(MODULE, "http_headers", |mut plugin: Plugin<'_>, (): ()| {
        Box::new(async move {
            let headers = kernel(&mut plugin)?.http.headers.take();
            let given = give(&mut plugin, headers.as_deref()).await;
            kernel(&mut plugin)?.http.headers = headers;
            given
        })
    })?;
    Ok(())
}

fn kernel<'p>(plugin: &'p mut Plugin<'_>) -> Result<&'p mut Kernel, Error> {
    plugin.data_mut().kernel()
}

async fn enter(plugin: &mut Plugin<'_>) -> Result<(), Error> {
    let invocation = Arc::clone(&plugin.data().invocation);
    invocation.count_host_call()?;
    invocation.breathe().await;
    Ok(())
}

/// A block with these bytes, or none.
async fn give(plugin: &mut Plugin<'_>, bytes: Option<&[u8]>) -> wasmtime::Result<i64> {
    enter(plugin).await?;
    match bytes {
        Some(bytes) => Ok(plugin.data_mut().put(bytes).await? as i64),
        None => Ok(0),
    }
}

/// Where bytes of the input are in the arena.
fn of_input(kernel: &Kernel, at: i64, length: u64) -> Result<u64, Error> {
    let input = kernel.input;
    let inside = (at as u64).checked_add(length).is_some_and(|end| end <= input.length);
    inside.then(|| input.offset + at as u64).ok_or_else(|| {
        let message = format!("it asked for {length} bytes at {at} of an input of {} bytes", input.length);
        Trap { code: "memory_out_of_bounds", message, ..Trap::default() }.into()
    })
}

fn byte(kernel: &Kernel, offset: u64) -> wasmtime::Result<i32> {
    Ok(kernel.part(Part { offset, length: 1 })?.first().copied().unwrap_or_default().into())
}

fn word(kernel: &Kernel, offset: u64) -> wasmtime::Result<i64> {
    let bytes = kernel.part(Part { offset, length: 8 })?;
    Ok(bytes.iter().rev().fold(0, |word, byte| word << 8 | i64::from(*byte)))
}
