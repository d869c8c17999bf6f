#!/usr/bin/env bash
# PyPI package pywasm 2.2.3: the sign of zero is lost in `min` and `max` (where it depends on the order) and in rounding to an integer,
# and 64-bit integers become f32 by way of f64, which rounds twice. Wasmtime gives what the specification says.
. "$(dirname "$0")/workbench"

python_packages pywasm==2.2.3 wasmtime==50.0.1

cat > floats.py <<'PY'
import pywasm, wasmtime

def text(instruction, result):
    return f'(module (func (export "f") (result {result}) {instruction}))'

def by_pywasm(wat):
    open("one.wasm", "wb").write(wasmtime.wat2wasm(wat))
    runtime = pywasm.core.Runtime()
    return runtime.invocate(runtime.instance_from_file("one.wasm"), "f", [])[0]

def by_wasmtime(wat):
    store = wasmtime.Store()
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, wat), [])
    return instance.exports(store)["f"](store)

for instruction in [
    "(f32.min (f32.const 0) (f32.const -0))",
    "(f32.max (f32.const -0) (f32.const 0))",
    "(f32.nearest (f32.const -0.5))",
    "(f32.ceil (f32.const -0.5))",
    "(f32.convert_i64_s (i64.const 0x20000020000001))",
]:
    wat = text(instruction, "f32")
    print(f"{instruction}: {by_pywasm(wat)!r}, and by Wasmtime {by_wasmtime(wat)!r}")
PY

seen "$(python/bin/python floats.py)" <<'OUT'
(f32.min (f32.const 0) (f32.const -0)): 0.0, and by Wasmtime -0.0
(f32.max (f32.const -0) (f32.const 0)): -0.0, and by Wasmtime 0.0
(f32.nearest (f32.const -0.5)): 0.0, and by Wasmtime -0.0
(f32.ceil (f32.const -0.5)): 0.0, and by Wasmtime -0.0
(f32.convert_i64_s (i64.const 0x20000020000001)): 9007199254740992.0, and by Wasmtime 9007200328482816.0
OUT
