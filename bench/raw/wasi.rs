//! The system interface on plain Wasmtime: a command from its compiled module to its captured output, and reading a file.

use crate::guest::{Host, drive};
use crate::measure::Subject;
use std::path::Path;
use wasmtime::component::Component;
use wasmtime::{InstancePre, Linker, Module, Result, Store, error::Context as _};
use wasmtime_wasi::p1::{WasiP1Ctx, add_to_linker_async};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

pub(crate) const HELLO: &[u8] = include_bytes!("../../test/fixtures/wasi/hello.wasm");
const CALLS: &[u8] = include_bytes!("../../test/fixtures/components/wasi_calls.wasm");
pub(crate) const CHECKSUM: &[u8] = include_bytes!("../../test/fixtures/wasi/checksum.wasm");
const MOST_OUTPUT: usize = 10_000_000;

/// Bytes of the file that is read. The Elixir side has one like it.
pub(crate) const FILE: usize = 64 << 20;

pub(crate) fn hello<'a>(host: &'a Host) -> Result<Subject<'a>> {
    let prepared = prepare(host, HELLO)?;
    Ok(Subject::each("hello world", move || {
        let output = run(host, &prepared, WasiCtxBuilder::new().arg("hello.wasm"))?;
        wasmtime::ensure!(&output[..] == b"hello, world\n", "said {output:?}");
        Ok(())
    }))
}

/// The same of a component, by WASI 0.2.
pub(crate) fn hello_of_component<'a>(host: &'a Host) -> Result<Subject<'a>> {
    let mut linker = wasmtime::component::Linker::new(&host.engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    let component = Component::from_binary(&host.engine, CALLS)?;
    let prepared = CommandPre::new(linker.instantiate_pre(&component)?)?;
    Ok(Subject::each("hello world of WASI 0.2", move || {
        let output = MemoryOutputPipe::new(MOST_OUTPUT);
        let wasi = WasiCtxBuilder::new().args(&["calls", "arguments", "hello"]).stdout(output.clone()).build_p1();
        let mut store: Store<WasiP1Ctx> = host.store_of(wasi)?;
        let command = drive(prepared.instantiate_async(&mut store))?;
        let ended = drive(command.wasi_cli_run().call_run(&mut store))?;
        let output = output.contents();
        wasmtime::ensure!(ended.is_ok() && &output[..] == b"[\"hello\"]\n", "said {output:?}");
        Ok(())
    }))
}

/// The file in `directory` as the guest reads it. File work is done on the thread that polls, which is the fastest way there is.
pub(crate) fn read<'a>(host: &'a Host, directory: &'a Path, chunk: &'static str) -> Result<Subject<'a>> {
    let prepared = prepare(host, CHECKSUM)?;
    Ok(Subject::each(format!("read 64 MiB, {chunk} bytes at a time"), move || {
        let mut builder = WasiCtxBuilder::new();
        builder.allow_blocking_current_thread(true).args(&["checksum.wasm", "/d/file", chunk]);
        builder.preopened_dir(directory, "/d", FsPerms::ReadOnly)?;
        run(host, &prepared, &mut builder).map(|_| ())
    }))
}

fn prepare(host: &Host, wasm: &[u8]) -> Result<InstancePre<WasiP1Ctx>> {
    let mut linker = Linker::new(&host.engine);
    add_to_linker_async(&mut linker, |wasi| wasi)?;
    linker.instantiate_pre(&Module::from_binary(&host.engine, wasm)?)
}

fn run(host: &Host, prepared: &InstancePre<WasiP1Ctx>, builder: &mut WasiCtxBuilder) -> Result<Vec<u8>> {
    let output = MemoryOutputPipe::new(MOST_OUTPUT);
    let wasi = builder.stdout(output.clone()).build_p1();
    let mut store: Store<WasiP1Ctx> = host.store_of(wasi)?;
    let instance = drive(prepared.instantiate_async(&mut store))?;
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    match drive(start.call_async(&mut store, ())) {
        Err(error) if error.downcast_ref::<wasmtime_wasi::I32Exit>().is_none_or(|exit| exit.0 != 0) => Err(error),
        _ => {
            drop(store);
            Ok(output.try_into_inner().context("the output is still in use")?.to_vec())
        }
    }
}
