//! The other side of the comparison: the same guests on plain Wasmtime and the same kernels as native code, both driven
//! from Rust with nothing in between. `mix wasm.bench` runs it; by hand:
//!
//!     cargo bench --workspace --bench raw -- [--quick | --tiny] [calls] [instances] [loads] [kernels] [wasi] [components] [steps]
//!
//! Each line that it prints is a JSON object: a name, the median and the least time of one piece of work in nanoseconds.

#[path = "raw/component.rs"]
mod component;
#[path = "raw/core.rs"]
mod core;
#[path = "raw/guest.rs"]
mod guest;
#[path = "guests/kernels/src/kernels.rs"]
#[expect(unreachable_pub, reason = "the file is a guest's too, and exports there")]
mod kernels;
#[path = "raw/measure.rs"]
mod measure;
#[path = "raw/steps.rs"]
mod steps;
#[path = "raw/wasi.rs"]
mod wasi;

use cybernetic_wasm_core::value::Value;
use guest::{Guest, Host, Metering, drive};
use measure::{Effort, Subject, compare, singly};
use std::hint::black_box;
use std::task::Poll;
use std::time::Instant;
use wasmtime::{Caller, Linker, Module, Result, Val};

const KERNELS: &[u8] = include_bytes!("guests/kernels.wasm");
const COMPUTE: &[u8] = include_bytes!("../priv/wasm/compute.wasm");
const RULES: &[u8] = include_bytes!("guests/rules.wasm");
const SCATTERED: &str = include_str!("guests/scattered.wat");
const EXCHANGE: &str = include_str!("guests/exchange.wat");
const HOST_CALLS: &str = include_str!("guests/host_calls.wat");

type Native = fn(u32) -> u64;

/// The kernels, what they are called with, and the same as native code. The Elixir side has the same lists.
const WORK: [(&str, u32, Native); 3] =
    [("fib", 35, kernels::fib), ("sha256", 16, kernels::sha256), ("mandelbrot", 256, kernels::mandelbrot)];
const TINY: [(&str, u32, Native); 3] =
    [("fib", 10, kernels::fib), ("sha256", 1, kernels::sha256), ("mandelbrot", 8, kernels::mandelbrot)];

fn main() -> Result<()> {
    // Cargo adds its own `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let is_given = |option: &str| args.iter().any(|arg| arg == option);
    let (quick, tiny) = (is_given("--quick"), is_given("--tiny"));
    let effort = |milliseconds, rounds| match (tiny, quick) {
        (true, _) => Effort::new(0, 1, tiny),
        (_, true) => Effort::new(milliseconds / 4, rounds / 2, tiny),
        _ => Effort::new(milliseconds, rounds, tiny),
    };
    let wanted = |group: &str| args.iter().all(|arg| arg.starts_with("--")) || args.iter().any(|arg| arg == group);

    if wanted("calls") {
        calls(effort(50, 15))?;
    }
    if wanted("instances") {
        instances(effort(60, 15))?;
        snapshots(effort(60, 15))?;
    }
    if wanted("loads") {
        loads(effort(100, 9))?;
    }
    if wanted("kernels") {
        kernels(effort(1, 15))?;
    }
    if wanted("wasi") {
        system(effort(60, 15))?;
    }
    if wanted("components") {
        let host = Host::new(Metering::Fuel)?;
        compare(component::subjects(&host)?, effort(60, 15))?;
    }
    if wanted("steps") {
        steps::longest(effort(1, 9))?;
    }
    Ok(())
}

fn calls(effort: Effort) -> Result<()> {
    let hosts = [Metering::None, Metering::Epoch, Metering::Fuel].map(Host::new);
    let mut subjects = Vec::new();
    for host in &hosts {
        let host = host.as_ref().map_err(|error| wasmtime::format_err!("{error:#}"))?;
        let metering = host.metering.name();
        subjects.push(warm_typed(format!("warm call, typed, {metering}"), host)?);
        subjects.push(warm(format!("warm call, {metering}"), host)?);
        subjects.push(fresh(format!("fresh call, small guest, {metering}"), host, COMPUTE)?);
        subjects.push(fresh(format!("fresh call, Rust guest, {metering}"), host, KERNELS)?);
        subjects.push(host_call(format!("host call, answered at once, {metering}"), host, false)?);
        subjects.push(host_call(format!("host call, suspended, {metering}"), host, true)?);
    }
    let host = Host::new(Metering::Fuel)?;
    subjects.push(bytes("warm call, 100 bytes in", &host, Passing::In)?);
    subjects.push(bytes("warm call, 100 bytes in and out", &host, Passing::InAndOut)?);
    subjects.push(bytes("warm call, 100 bytes in and out, both freed", &host, Passing::AndFree)?);
    let runtime = core::runtime();
    subjects.push(core::warm("warm call, the library without the BEAM", &runtime, KERNELS)?);
    subjects.push(core::fresh("fresh call, small guest, the library without the BEAM", &runtime, COMPUTE)?);
    compare(subjects, effort)
}

fn warm_typed<'a>(name: String, host: &Host) -> Result<Subject<'a>> {
    let Guest { mut store, instance } = host.guest(KERNELS)?;
    let add = instance.get_typed_func::<(i32, i32), i32>(&mut store, "add")?;
    Ok(Subject::each(name, move || drive(add.call_async(&mut store, black_box((2, 3)))).map(|_| ())))
}

fn warm<'a>(name: String, host: &Host) -> Result<Subject<'a>> {
    let mut guest = host.guest(KERNELS)?;
    let add = guest.func("add")?;
    Ok(Subject::each(name, move || guest.call(&add, black_box(&[Val::I32(2), Val::I32(3)])).map(|_| ())))
}

/// How far a call that passes bytes goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passing {
    In,
    InAndOut,
    AndFree,
}

/// Room for the bytes, what is called with them, and what is given read and let go of: each a call into the guest.
fn bytes<'a>(name: &'static str, host: &Host, passing: Passing) -> Result<Subject<'a>> {
    let Guest { mut store, instance } = host.guest(&wat::parse_str(EXCHANGE)?)?;
    let memory = instance.get_memory(&mut store, "memory").ok_or_else(|| wasmtime::format_err!("no memory"))?;
    let alloc = instance.get_typed_func::<i32, i32>(&mut store, "alloc")?;
    let free = instance.get_typed_func::<(i32, i32), ()>(&mut store, "free")?;
    let take = instance.get_typed_func::<(i32, i32), i32>(&mut store, "take")?;
    let echo = instance.get_typed_func::<(i32, i32), i64>(&mut store, "echo")?;
    let text = vec![b'a'; 100];
    Ok(Subject::each(name, move || {
        let length = black_box(text.len() as i32);
        let at = drive(alloc.call_async(&mut store, length))?;
        memory.write(&mut store, at as usize, &text)?;
        if passing == Passing::In {
            return drive(take.call_async(&mut store, (at, length))).map(|_| ());
        }
        let packed = drive(echo.call_async(&mut store, (at, length)))? as u64;
        let (from, size) = ((packed >> 32) as usize, packed as u32 as usize);
        black_box(memory.data(&store)[from..from + size].to_vec());
        if passing == Passing::AndFree {
            drive(free.call_async(&mut store, (at, length)))?;
            drive(free.call_async(&mut store, (from as i32, length)))?;
        }
        Ok(())
    }))
}

/// A store, an instance and a call, each time anew.
fn fresh<'a>(name: String, host: &'a Host, wasm: &[u8]) -> Result<Subject<'a>> {
    let prepared = host.prepare(wasm)?;
    let add = prepared.module().get_export_index("add");
    let add = add.ok_or_else(|| wasmtime::format_err!("no function add"))?;
    Ok(Subject::each(name, move || {
        let mut store = host.store()?;
        let instance = drive(prepared.instantiate_async(&mut store))?;
        let func = instance.get_module_export(&mut store, &add).and_then(wasmtime::Extern::into_func);
        let func = func.ok_or_else(|| wasmtime::format_err!("no function add"))?;
        Guest { store, instance }.call(&func, black_box(&[Val::I32(2), Val::I32(3)])).map(|_| ())
    }))
}

/// A call from the guest to the host and back; `suspended` leaves the guest's stack in between, as the library must.
fn host_call<'a>(name: String, host: &Host, suspended: bool) -> Result<Subject<'a>> {
    let module = Module::from_binary(&host.engine, &wat::parse_str(HOST_CALLS)?)?;
    let mut linker: Linker<()> = Linker::new(&host.engine);
    linker.func_wrap_async("host", "next", move |_: Caller<'_, ()>, (value,): (i32,)| {
        Box::new(async move {
            if suspended {
                suspend().await;
            }
            value.wrapping_add(1)
        })
    })?;
    let mut store = host.store()?;
    let instance = drive(linker.instantiate_async(&mut store, &module))?;
    let mut guest = Guest { store, instance };
    let calls = guest.func("calls")?;
    Ok(Subject::new(name, move |times| {
        let began = Instant::now();
        guest.call(&calls, &[Val::I32(times as i32)])?;
        Ok(began.elapsed())
    }))
}

async fn suspend() {
    let mut suspended = false;
    std::future::poll_fn(|_| if std::mem::replace(&mut suspended, true) { Poll::Ready(()) } else { Poll::Pending })
        .await;
}

/// What a live instance costs, its memory, and a guest whose start-up takes time.
fn instances(effort: Effort) -> Result<()> {
    let host = Host::new(Metering::Fuel)?;
    let subjects = vec![new_instance(&host)?, write(&host)?, read(&host)?, start_up(&host)?];
    compare(subjects, effort)
}

fn new_instance<'a>(host: &'a Host) -> Result<Subject<'a>> {
    let prepared = host.prepare(COMPUTE)?;
    Ok(Subject::each("new instance", move || {
        let mut store = host.store()?;
        drive(prepared.instantiate_async(&mut store)).map(|_| ())
    }))
}

const MEBIBYTE: usize = 1 << 20;

fn with_memory(host: &Host) -> Result<(Guest, wasmtime::Memory)> {
    let mut guest = host.guest(&wat::parse_str(r#"(module (memory (export "memory") 32))"#)?)?;
    let memory = guest.instance.get_memory(&mut guest.store, "memory");
    Ok((guest, memory.ok_or_else(|| wasmtime::format_err!("no memory"))?))
}

fn write<'a>(host: &Host) -> Result<Subject<'a>> {
    let (mut guest, memory) = with_memory(host)?;
    let bytes = vec![42; MEBIBYTE];
    Ok(Subject::each("write 1 MiB", move || Ok(memory.write(&mut guest.store, 0, black_box(&bytes))?)))
}

/// Into a buffer of its own each time, as whoever asks for bytes gets them.
fn read<'a>(host: &Host) -> Result<Subject<'a>> {
    let (guest, memory) = with_memory(host)?;
    Ok(Subject::each("read 1 MiB", move || {
        black_box(memory.data(&guest.store)[..MEBIBYTE].to_vec());
        Ok(())
    }))
}

fn start_up<'a>(host: &'a Host) -> Result<Subject<'a>> {
    let prepared = host.prepare(RULES)?;
    Ok(Subject::each("fresh instance, its start-up, a call", move || {
        let mut store = host.store()?;
        let instance = drive(prepared.instantiate_async(&mut store))?;
        let mut guest = Guest { store, instance };
        let (init, matches) = (guest.func("init")?, guest.func("matches")?);
        guest.call(&init, &[Val::I32(200)])?;
        guest.call(&matches, &[Val::I32(2)]).map(|_| ())
    }))
}

/// Snapshots of a megabyte: what each is of, and what it was set up with.
fn megabytes() -> Result<[(&'static str, Vec<u8>, i32); 2]> {
    Ok([("rules", RULES.to_vec(), 150), ("a heap with holes", wat::parse_str(SCATTERED)?, 4_000)])
}

/// A call in a fresh instance of a snapshot: in the mean, and each by itself.
fn snapshots(effort: Effort) -> Result<()> {
    let (host, runtime) = (Host::new(Metering::Fuel)?, core::runtime());
    let mut snapshots = Vec::new();
    for (what, wasm, count) in megabytes()? {
        snapshots.push((what, core::snapshot(&runtime, &wasm, ("init", count))?));
    }
    let subjects = || -> Result<Vec<Subject<'_>>> {
        let mut subjects = Vec::new();
        for (what, snapshot) in &snapshots {
            let name = format!("fresh instance of a 1 MB snapshot, a call: {what}");
            subjects.push(of_snapshot(&name, &host, snapshot)?);
            let name = format!("{name}, the library without the BEAM");
            subjects.push(core::fresh_call(&name, &runtime, snapshot, ("matches", &[Value::I32(2)]))?);
        }
        Ok(subjects)
    };
    compare(subjects()?, effort)?;
    singly(subjects()?, effort.work(5_000, 1))
}

fn of_snapshot<'a>(name: &str, host: &'a Host, wasm: &[u8]) -> Result<Subject<'a>> {
    let prepared = host.prepare(wasm)?;
    Ok(Subject::each(name, move || {
        let mut store = host.store()?;
        let instance = drive(prepared.instantiate_async(&mut store))?;
        let mut guest = Guest { store, instance };
        let matches = guest.func("matches")?;
        guest.call(&matches, black_box(&[Val::I32(2)])).map(|_| ())
    }))
}

/// Compiling, without cache: the kernels, which are a small program of a real language.
fn loads(effort: Effort) -> Result<()> {
    let host = Host::new(Metering::Fuel)?;
    let cold = Subject::each("cold load", || Module::from_binary(&host.engine, black_box(KERNELS)).map(|_| ()));
    compare(vec![cold], effort)?;
    from_disk(&host, effort)
}

/// Functions of so many additions and multiplications: the Elixir side has the same modules.
const PLAIN: [(&str, usize, usize); 3] = [("17 KB", 350, 4), ("0.6 MB", 12_000, 4), ("4 MB", 20_000, 20)];
const PLAIN_TINY: [(&str, usize, usize); 3] = [("17 KB", 20, 4), ("0.6 MB", 20, 4), ("4 MB", 20, 4)];

fn plain(functions: usize, steps: usize) -> Result<Vec<u8>> {
    let step = "local.get 0 i32.const 3 i32.mul i32.const 1 i32.add local.set 0 ".repeat(steps);
    let functions: String =
        (1..=functions).map(|n| format!("(func (param i32) (result i32) {step} i32.const {n})")).collect();
    Ok(wat::parse_str(format!(r#"(module (func (export "f") (result i32) i32.const 1) {functions})"#))?)
}

/// Compiled code in a file: what loading it costs who trusts the file, and what it costs to read it and take its digest.
fn from_disk(host: &Host, effort: Effort) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut subjects = Vec::new();
    for (size, functions, steps) in effort.work(PLAIN, PLAIN_TINY) {
        let path = folder.path().join(size);
        std::fs::write(&path, host.engine.precompile_module(&plain(functions, steps)?)?)?;
        let read = path.clone();
        subjects.push(Subject::each(format!("deserialize a file, {size}"), move || host.deserialize(&path)));
        subjects.push(Subject::each(format!("read the file and digest it, {size}"), move || {
            black_box(blake3::hash(&std::fs::read(&read)?));
            Ok(())
        }));
    }
    compare(subjects, effort)
}

/// A command from its compiled module to its captured output, and reading a file.
fn system(effort: Effort) -> Result<()> {
    let host = Host::new(Metering::Fuel)?;
    let (runtime, directory) = (core::runtime(), tempfile::tempdir()?);
    let beamless = |what: &str| format!("{what}, the library without the BEAM");
    let (hello, read) = (["hello.wasm"], ["checksum.wasm", "/d/file", "65536"]);
    std::fs::write(directory.path().join("file"), vec![7; effort.work(wasi::FILE, 65_536)])?;
    let subjects = vec![
        wasi::hello(&host)?,
        wasi::hello_of_component(&host)?,
        wasi::read(&host, directory.path(), "65536")?,
        wasi::read(&host, directory.path(), "4096")?,
        core::command(&beamless("hello world"), &runtime, wasi::HELLO, (directory.path(), &hello))?,
        core::command(&beamless("read 64 MiB"), &runtime, wasi::CHECKSUM, (directory.path(), &read))?,
    ];
    compare(subjects, effort)
}

fn kernels(effort: Effort) -> Result<()> {
    use Metering::{CallsAndLoops, Entries, Epoch, Fuel, None};
    let hosts = [None, Epoch, Fuel, CallsAndLoops, Entries].map(Host::new).into_iter().collect::<Result<Vec<_>>>()?;
    let runtime = core::runtime();
    for (kernel, argument, native) in effort.work(WORK, TINY) {
        let mut subjects = vec![Subject::each(format!("{kernel}, native"), || {
            black_box(native(black_box(argument)));
            Ok(())
        })];
        for host in &hosts {
            subjects.push(kernel_in_wasm(host, kernel, argument)?);
        }
        let name = format!("{kernel}, fuel, the library without the BEAM");
        subjects.push(core::kernel(name, &runtime, KERNELS, (kernel, argument))?);
        compare(subjects, effort)?;
    }
    Ok(())
}

fn kernel_in_wasm<'a>(host: &Host, kernel: &str, argument: u32) -> Result<Subject<'a>> {
    let mut guest = host.guest(KERNELS)?;
    let func = guest.func(kernel)?;
    let name = format!("{kernel}, {}", host.metering.name());
    Ok(Subject::each(name, move || guest.call(&func, &[Val::I32(argument as i32)]).map(|_| ())))
}
