#!/usr/bin/env bash
# PyPI package ppci 0.5.8: a module that is instantiated with `target="python"` computes f32 in Python's floats, which are f64, and
# rounds nothing: a sum is a number that no f32 is. To divide by zero is an exception in the place of an infinity.
. "$(dirname "$0")/workbench"

python_packages ppci==0.5.8 wasmtime==50.0.1

cat > floats.py <<'PY'
import wasmtime
from ppci.wasm import Module, instantiate

def by_ppci(wat):
    instance = instantiate(Module(bytes(wasmtime.wat2wasm(wat))), {}, target="python")
    try:
        return repr(instance.exports.f())
    except ArithmeticError as error:
        return type(error).__name__

def by_wasmtime(wat):
    store = wasmtime.Store()
    return repr(wasmtime.Instance(store, wasmtime.Module(store.engine, wat), []).exports(store)["f"](store))

for instruction in [
    "(f32.add (f32.const 16777216) (f32.const 1))",
    "(f32.div (f32.const 1) (f32.const 3))",
    "(f32.div (f32.const 1) (f32.const 0))",
]:
    wat = f'(module (func (export "f") (result f32) {instruction}))'
    print(f"{instruction}: {by_ppci(wat)}, and by Wasmtime {by_wasmtime(wat)}")
PY

seen "$(python/bin/python floats.py)" <<'OUT'
(f32.add (f32.const 16777216) (f32.const 1)): 16777217.0, and by Wasmtime 16777216.0
(f32.div (f32.const 1) (f32.const 3)): 0.3333333333333333, and by Wasmtime 0.3333333432674408
(f32.div (f32.const 1) (f32.const 0)): ZeroDivisionError, and by Wasmtime inf
OUT
