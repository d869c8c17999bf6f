#!/usr/bin/env bash
# npm package uwasi 1.1.0: `clock_res_get` writes half of the 64-bit number that it gives. The other half is what was in the guest's memory
# before: on a stack, anything. A clock of 1,000 nanoseconds ticks once in centuries then. Node.js writes all of it.
. "$(dirname "$0")/workbench"

node_packages uwasi@1.1.0 wabt@1.0.39

cat > clock.js <<'JS'
const { WASI, useAll } = require("uwasi");
const { WASI: Node } = require("node:wasi");

require("wabt")().then((wabt) => {
  const text = `(module
    (import "wasi_snapshot_preview1" "clock_res_get" (func $resolution (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start"))
    (func (export "resolution") (result i64)
      (i64.store (i32.const 8) (i64.const -1))
      (drop (call $resolution (i32.const 0) (i32.const 8)))
      (i64.load (i32.const 8))))`;
  const module = new WebAssembly.Module(new Uint8Array(wabt.parseWat("clock.wat", text, {}).toBinary({}).buffer));

  const resolution = (wasi) => {
    const instance = new WebAssembly.Instance(module, { wasi_snapshot_preview1: wasi.wasiImport });
    wasi.start(instance);
    return instance.exports.resolution();
  };
  const shown = (wasi) => BigInt.asUintN(64, resolution(wasi)).toString(16);
  console.log("Node.js: nanoseconds, in hexadecimal digits,", shown(new Node({ version: "preview1" })));
  console.log("uwasi: nanoseconds, in hexadecimal digits,", shown(new WASI({ args: [], features: [useAll({})] })));
});
JS

seen "$(node --no-warnings clock.js)" <<'OUT'
Node.js: nanoseconds, in hexadecimal digits, 1
uwasi: nanoseconds, in hexadecimal digits, ffffffff000003e8
OUT
