#!/usr/bin/env bash
# AssemblyScript 0.28.20: an exported function with a default for a parameter cannot be called by its type. With all of its arguments
# it traps, until the host has said by `__setArgumentsLength` how many they are. That holds for the calls that follow as well: after a
# call with one, the second argument is passed and not looked at.
. "$(dirname "$0")/workbench"

node_packages assemblyscript@0.28.20

cat > area.ts <<'TS'
export function area(width: i32, height: i32 = 5): i32 {
  return width * height;
}
TS
node_modules/.bin/asc area.ts --outFile area.wasm > log 2>&1 || { cat log >&2; exit 2; }

cat > defaults.js <<'JS'
const compiled = new WebAssembly.Module(require("node:fs").readFileSync("area.wasm"));
const { area, __setArgumentsLength } = new WebAssembly.Instance(compiled, {}).exports;
const call = () => { try { return area(3, 7); } catch (error) { return error.message; } };
console.log("area(3, 7):", call());
__setArgumentsLength(2);
console.log("after __setArgumentsLength(2):", call());
__setArgumentsLength(1);
console.log("after __setArgumentsLength(1):", call());
JS

seen "$(node defaults.js)" <<'OUT'
area(3, 7): unreachable
after __setArgumentsLength(2): 21
after __setArgumentsLength(1): 15
OUT
