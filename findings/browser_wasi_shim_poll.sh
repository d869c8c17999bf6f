#!/usr/bin/env bash
# npm package @bjorn3/browser_wasi_shim 0.4.2: `poll_oneoff` waits for a clock, writes the event, and says that all went well, but does
# not write how many events there are, its fourth parameter: that memory stays as it was. A guest that looks at the count, and finds
# the 0 that it had put there, has waited for nothing. Node.js writes 1.
. "$(dirname "$0")/workbench"

node_packages @bjorn3/browser_wasi_shim@0.4.2 wabt@1.0.39

cat > poll.mjs <<'JS'
import { WASI as Node } from "node:wasi";
import { WASI } from "@bjorn3/browser_wasi_shim";
import wabtOf from "wabt";

const wabt = await wabtOf();
// A subscription for a clock: 77 is the caller's own number, 1 the monotonic clock, a million nanoseconds from now.
const text = `(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start"))
  (func (export "poll") (result i32)
    (i64.store (i32.const 512) (i64.const 77))
    (i32.store (i32.const 528) (i32.const 1))
    (i64.store (i32.const 536) (i64.const 1000000))
    (call $poll (i32.const 512) (i32.const 600) (i32.const 1) (i32.const 700)))
  (func (export "event") (result i64) (i64.load (i32.const 600)))
  (func (export "count") (result i32) (i32.load (i32.const 700))))`;
const module = new WebAssembly.Module(new Uint8Array(wabt.parseWat("poll.wat", text, {}).toBinary({}).buffer));

for (const [name, wasi] of [["Node.js", new Node({ version: "preview1" })], ["the shim", new WASI([], [], [])]]) {
  const instance = new WebAssembly.Instance(module, { wasi_snapshot_preview1: wasi.wasiImport });
  wasi.start(instance);
  const { poll, event, count } = instance.exports;
  console.log(`${name}: error ${poll()}, the event of ${event()}, ${count()} events`);
}
JS

seen "$(node --no-warnings poll.mjs)" <<'OUT'
Node.js: error 0, the event of 77, 1 events
the shim: error 0, the event of 77, 0 events
OUT
