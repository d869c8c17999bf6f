//! A component on plain Wasmtime: by dynamic values, as what is known only when it runs, and by the types of its functions.

use crate::guest::{Host, drive};
use crate::measure::Subject;
use crate::suspend;
use std::hint::black_box;
use std::time::Instant;
use wasmtime::component::{Component, ComponentNamedList, Func, Instance, InstancePre, Lift, Linker, Lower, Val};
use wasmtime::{Result, Store, error::Context as _};

const GUEST: &[u8] = include_bytes!("../guests/component.wasm");

const TEXT: usize = 1 << 20;
const BYTES: usize = 64 << 10;

pub(crate) fn subjects(host: &Host) -> Result<Vec<Subject<'_>>> {
    let (text, bytes) = ("a".repeat(TEXT), vec![7_u8; BYTES]);
    Ok(vec![
        dynamic(host, ("warm call", "add"), numbers)?,
        typed::<(u32, u32), (u32,)>(host, ("warm call, typed", "add"), || (2, 3))?,
        fresh(host)?,
        dynamic(host, ("record of five fields", "a-line"), line)?,
        dynamic(host, ("record with a list in it", "a-tagged"), tagged)?,
        echo::<[u8], Vec<u8>>(host, ("64 KiB of bytes in and out", "bytes"), bytes)?,
        echo::<str, String>(host, ("1 MiB of text in and out", "text"), text)?,
        copies("two copies of 1 MiB"),
        host_call(host)?,
    ])
}

fn prepare(host: &Host) -> Result<InstancePre<()>> {
    let mut linker = Linker::new(&host.engine);
    linker.root().func_new_async("next", |_store, _ty, params, results| {
        Box::new(async move {
            suspend().await;
            if let ([Val::U32(value)], [result]) = (params, results) {
                *result = Val::U32(value.wrapping_add(1));
            }
            Ok(())
        })
    })?;
    linker.instantiate_pre(&Component::from_binary(&host.engine, GUEST)?)
}

/// A live instance.
struct Guest {
    store: Store<()>,
    instance: Instance,
}

impl Guest {
    fn new(host: &Host) -> Result<Self> {
        let mut store = host.store()?;
        let instance = drive(prepare(host)?.instantiate_async(&mut store))?;
        Ok(Self { store, instance })
    }

    fn func(&mut self, name: &str) -> Result<Func> {
        self.instance.get_func(&mut self.store, name).with_context(|| format!("no function {name}"))
    }

    fn call(&mut self, func: &Func, args: &[Val]) -> Result<Val> {
        let mut results = [Val::Bool(false)];
        drive(func.call_async(&mut self.store, args, &mut results))?;
        let [result] = results;
        Ok(result)
    }
}

/// A call by dynamic values, which are made for it.
fn dynamic<'a>(host: &Host, (row, name): (&str, &str), args: fn() -> Vec<Val>) -> Result<Subject<'a>> {
    let mut guest = Guest::new(host)?;
    let func = guest.func(name)?;
    Ok(Subject::each(row, move || {
        black_box(guest.call(&func, &args())?);
        Ok(())
    }))
}

fn typed<'a, P, R>(host: &Host, (row, name): (&str, &str), args: fn() -> P) -> Result<Subject<'a>>
where
    P: ComponentNamedList + Lower + Send + Sync + 'static,
    R: ComponentNamedList + Lift + Send + Sync + 'static,
{
    let mut guest = Guest::new(host)?;
    let func = guest.func(name)?.typed::<P, R>(&guest.store)?;
    Ok(Subject::each(row, move || {
        black_box(drive(func.call_async(&mut guest.store, args()))?);
        Ok(())
    }))
}

/// What is given, borrowed, and given back.
fn echo<'a, P, R>(host: &Host, (row, name): (&str, &str), given: R) -> Result<Subject<'a>>
where
    P: ?Sized + 'static,
    for<'b> &'b P: Lower,
    R: std::borrow::Borrow<P> + Lift + Send + Sync + 'static,
    for<'b> (&'b P,): ComponentNamedList + Lower + Send + Sync,
    (R,): ComponentNamedList + Lift,
{
    let mut guest = Guest::new(host)?;
    let func = guest.func(name)?;
    Ok(Subject::each(row, move || {
        let typed = func.typed::<(&P,), (R,)>(&guest.store)?;
        black_box(drive(typed.call_async(&mut guest.store, (given.borrow(),)))?);
        Ok(())
    }))
}

/// A store, an instance and a call, each time anew.
fn fresh(host: &Host) -> Result<Subject<'_>> {
    let prepared = prepare(host)?;
    let add = prepared.component().get_export_index(None, "add").context("no function add")?;
    Ok(Subject::each("fresh call", move || {
        let mut store = host.store()?;
        let instance = drive(prepared.instantiate_async(&mut store))?;
        let func = instance.get_func(&mut store, add).context("no function add")?;
        Guest { store, instance }.call(&func, &numbers()).map(|_| ())
    }))
}

/// A call from the guest to the host and back, which leaves the guest's stack in between, as the library must.
fn host_call<'a>(host: &Host) -> Result<Subject<'a>> {
    let mut guest = Guest::new(host)?;
    let calls = guest.func("calls")?;
    Ok(Subject::new("host call", move |times| {
        let began = Instant::now();
        guest.call(&calls, &[Val::U32(times)])?;
        Ok(began.elapsed())
    }))
}

/// What the text's way in and out cannot do without.
fn copies<'a>(row: &str) -> Subject<'a> {
    let bytes = vec![b'a'; TEXT];
    Subject::each(row, move || {
        let copy = black_box(bytes.clone());
        black_box(copy.clone());
        Ok(())
    })
}

fn numbers() -> Vec<Val> {
    black_box(vec![Val::U32(2), Val::U32(3)])
}

fn line() -> Vec<Val> {
    record(("code", Val::Char('x')))
}

fn tagged() -> Vec<Val> {
    record(("tags", Val::List(vec![Val::String("hot".into()), Val::String("new".into())])))
}

fn record((name, last): (&str, Val)) -> Vec<Val> {
    vec![Val::Record(vec![
        ("item".into(), Val::String("a pot of tea".into())),
        ("count".into(), Val::U32(2)),
        ("price".into(), Val::Float64(2.5)),
        ("sold".into(), Val::Bool(true)),
        (name.into(), last),
    ])]
}
