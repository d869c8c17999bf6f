#!/usr/bin/env bash
# npm package componentize-qjs 0.4.5: the random numbers of a component that is made of JavaScript are those of its build. Its state is
# taken once the script has run, with the seed in it, and is not seeded again: each instance, in each process, gives the same
# `Math.random()`, though the component imports the host's seed, and its clock goes on.
. "$(dirname "$0")/workbench"

node_packages componentize-qjs@0.4.5
python_packages wasmtime==50.0.1

cat > dice.wit <<'WIT'
package acme:dice;
world dice {
  export roll: func() -> f64;
  export now: func() -> f64;
}
WIT
cat > dice.js <<'JS'
export function roll() { return Math.random(); }
export function now() { return Date.now(); }
JS
node_modules/.bin/componentize-qjs --wit dice.wit --js dice.js --world dice --sync --output dice.wasm > log 2>&1 || { cat log >&2; exit 2; }

cat > roll.py <<'PY'
import wasmtime
from wasmtime import component

def once():
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    store.set_wasi(wasmtime.WasiConfig())
    linker = component.Linker(engine)
    linker.add_wasip2()
    instance = linker.instantiate(store, component.Component.from_file(engine, "dice.wasm"))
    return [instance.get_func(store, name)(store) for name in ("roll", "roll", "now")]

(one, two, began), (again, too, later) = once(), once()
print("the two rolls of an instance are the same:", one == two)
print("those of the next instance are those of the first:", (one, two) == (again, too))
print("their clocks are the same:", began == later)
PY

seen "$(python/bin/python roll.py)" <<'OUT'
the two rolls of an instance are the same: False
those of the next instance are those of the first: True
their clocks are the same: False
OUT
