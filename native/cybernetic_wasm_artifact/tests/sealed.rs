//! What is taken for compiled code, and what is not.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use cybernetic_wasm_artifact::{Artifact, Filling, LITTLE, seal};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use wasmtime::{Config, Engine, Instance, Store};

fn compile(engine: &Engine) -> Vec<u8> {
    let wasm = wat::parse_str(r#"(module (func (export "f") (result i32) (i32.const 7)))"#).unwrap();
    engine.precompile_module(&wasm).unwrap()
}

fn call(artifact: &Artifact, engine: &Engine) -> i32 {
    let mut store = Store::new(engine, ());
    let instance = Instance::new(&mut store, &artifact.load(engine).unwrap(), &[]).unwrap();
    instance.get_typed_func::<(), i32>(&mut store, "f").unwrap().call(&mut store, ()).unwrap()
}

#[test]
fn code_runs_from_a_sealed_file_and_from_bytes_as_often_as_it_is_loaded() {
    let engine = Engine::default();
    let code = compile(&engine);
    let size = code.len() as u64;
    let artifacts = [Artifact::sealed(seal(&code).unwrap(), size).unwrap(), Artifact::inline(code)];
    let other = Engine::new(Config::new().max_wasm_stack(100_000)).unwrap();
    for artifact in &artifacts {
        assert_eq!(artifact.size(), size);
        for engine in [&engine, &engine, &other] {
            assert_eq!(call(artifact, engine), 7);
        }
    }
}

#[test]
fn a_file_that_can_still_be_changed_is_refused() {
    let engine = Engine::default();
    let code = compile(&engine);
    let all = [SealFlags::WRITE, SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL];
    for missing in all {
        let mut file = File::from(memfd_create("code", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap());
        file.write_all(&code).unwrap();
        let seals = all.into_iter().filter(|seal| *seal != missing).fold(SealFlags::empty(), SealFlags::union);
        fcntl_add_seals(&file, seals).unwrap();
        let refused = Artifact::sealed(file.into(), code.len() as u64).unwrap_err();
        assert!(refused.to_string().contains("not sealed"), "{refused}");
    }
    let plain: OwnedFd = tempfile::tempfile().unwrap().into();
    assert!(Artifact::sealed(plain, 0).is_err(), "a file of a disk has no seals");
}

#[test]
fn a_file_of_another_size_than_announced_is_refused() {
    let code = compile(&Engine::default());
    for size in [0, code.len() as u64 - 1, code.len() as u64 + 1, u64::MAX] {
        let refused = Artifact::sealed(seal(&code).unwrap(), size).unwrap_err();
        assert!(refused.to_string().contains("bytes"), "{refused}");
    }
}

#[test]
fn an_engine_of_another_kind_refuses() {
    let code = compile(&Engine::default());
    let artifact = Artifact::inline(code);
    let fuel = Engine::new(Config::new().consume_fuel(true)).unwrap();
    assert!(artifact.load(&fuel).is_err());
}

#[test]
fn what_comes_in_pieces_is_the_same_code_and_reads_back_as_it_came() {
    let engine = Engine::default();
    let code = compile(&engine);
    // By the announced size it is kept as bytes, or in a file.
    for announced in [code.len() as u64, LITTLE + 1] {
        let mut filling = Filling::new(announced);
        code.chunks(1_000).for_each(|piece| filling.write_all(piece).unwrap());
        let artifact = filling.complete().unwrap();
        assert_eq!((artifact.size(), call(&artifact, &engine)), (code.len() as u64, 7));
        let mut read = vec![0; code.len() - 10];
        assert_eq!(artifact.read_at(&mut read, 10).unwrap(), read.len());
        assert_eq!(read, code[10..]);
        for offset in [code.len() as u64, 1 << 40] {
            assert_eq!(artifact.read_at(&mut read, offset).unwrap(), 0);
        }
    }
}

/// Bytes of memory that this process has: what is mapped several times counts once.
fn memory() -> u64 {
    let facts = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = facts.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    1_024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

/// Few functions that are large: what Wasmtime keeps of each function for each load is its own affair.
fn large(engine: &Engine) -> Vec<u8> {
    let body =
        "(i32.mul (local.get 0) (i32.const 3)) (local.set 0) (i32.store (local.get 0) (local.get 0)) ".repeat(5_000);
    let functions: String =
        (0..32).map(|n| format!(r#"(func (export "f{n}") (param i32) (result i32) {body} (i32.const {n}))"#)).collect();
    let wasm = wat::parse_str(format!("(module (memory 1) {functions})")).unwrap();
    engine.precompile_module(&wasm).unwrap()
}

#[test]
fn a_thousand_loads_of_what_came_in_pieces_share_its_pages() {
    let engine = Engine::default();
    let code = large(&engine);
    let size = code.len() as u64;
    assert!(size > 1 << 20, "{size}");
    let mut filling = Filling::new(size);
    filling.write_all(&code).unwrap();
    let artifact = filling.complete().unwrap();
    let load = || {
        let module = artifact.load(&engine).unwrap();
        // Every page of the code is looked at.
        assert!(module.text().iter().step_by(4_096).map(|byte| u64::from(*byte)).sum::<u64>() > 0);
        module
    };
    let mut loaded = vec![load()];
    let one = memory();
    loaded.extend((1..1_000).map(|_| load()));
    let grown = memory().saturating_sub(one);
    // What Wasmtime keeps of a load beside its pages is some kilobytes.
    assert!(grown < 10 * size, "{} loads take {grown} bytes more than one of {size}", loaded.len());
}
