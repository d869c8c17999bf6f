#!/usr/bin/env bash
# npm packages @webassemblyjs/wasm-parser and @webassemblyjs/wast-printer 1.14.1: the text that is printed of a module in the binary
# format is another program. A NaN is printed as the number that its payload makes, minus zero as zero, and a quote in the name of
# an export ends the name.
. "$(dirname "$0")/workbench"

node_packages @webassemblyjs/wasm-parser@1.14.1 @webassemblyjs/wast-printer@1.14.1 wabt@1.0.39

cat > printed.js <<'JS'
const { decode } = require("@webassemblyjs/wasm-parser");
const { print } = require("@webassemblyjs/wast-printer");

require("wabt")().then((wabt) => {
  for (const field of [
    "(func (result f32) (f32.const nan:0x200000))",
    "(func (result f64) (f64.const -0))",
    '(func (export "a\\"b"))',
  ]) {
    const bytes = new Uint8Array(wabt.parseWat("one.wat", `(module ${field})`, {}).toBinary({}).buffer);
    const printed = print(decode(bytes)).match(/\(f(32|64)\.const [^)]*\)|\(export "[^(]*/)[0].trim();
    console.log(`${field}: ${printed}`);
  }
});
JS

seen "$(node printed.js)" <<'OUT'
(func (result f32) (f32.const nan:0x200000)): (f32.const 2097152)
(func (result f64) (f64.const -0)): (f64.const 0)
(func (export "a\"b")): (export "a"b"
OUT
