#!/usr/bin/env bash
# npm package wabt 1.0.39: `readWasm` is given a view of a larger buffer, as `subarray` gives one. It allocates as many bytes as the
# whole buffer has, copies the view to their beginning, and reads on behind it: a module that the engine compiles from the same
# view is malformed. So it is with small Buffers of Node.js, which are views of a pool.
. "$(dirname "$0")/workbench"

node_packages wabt@1.0.39

cat > views.js <<'JS'
require("wabt")().then((wabt) => {
  const bytes = wabt.parseWat("one.wat", '(module (func (export "f")))', {}).toBinary({}).buffer;
  const larger = new Uint8Array(bytes.length + 100);
  larger.set(bytes);
  const view = larger.subarray(0, bytes.length);
  const read = (given) => {
    try { wabt.readWasm(given, {}); return "read"; } catch (error) { return error.message.trim().split(":")[0]; }
  };
  console.log("compiled by the engine:", WebAssembly.validate(view));
  console.log("the bytes alone:", read(new Uint8Array(bytes)));
  console.log("the same bytes as a view:", read(view));
});
JS

seen "$(node views.js)" <<'OUT'
compiled by the engine: true
the bytes alone: read
the same bytes as a view: readWasm failed
OUT
