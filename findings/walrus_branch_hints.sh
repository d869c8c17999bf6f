#!/usr/bin/env bash
# walrus 0.28.0, by the npm package @napi-rs/wasm-tools 1.1.2: a module that is parsed and emitted without a change has its functions
# in another order, the largest first, while the section of branch hints, which names functions by their numbers, is copied as it
# is. Its hint, for an `if` of the function `big`, is then for `small`, which has none.
. "$(dirname "$0")/workbench"

node_packages @napi-rs/wasm-tools@1.1.2 wabt@1.0.39

cat > hints.mjs <<'JS'
import { ModuleConfig } from "@napi-rs/wasm-tools";
import wabtOf from "wabt";

const wabt = await wabtOf();
const text = `(module
  (func $small (export "small") (result i32) (i32.const 1))
  (func $big (export "big") (param i32) (result i32)
    (local.get 0)
    (if (result i32) (then (i32.const 3)) (else (i32.add (i32.const 7) (i32.mul (i32.const 3) (local.get 0)))))))`;
const plain = new Uint8Array(wabt.parseWat("two.wat", text, {}).toBinary({}).buffer);

// One function, the second; one hint in it, for the instruction at byte 3: taken.
const name = new TextEncoder().encode("metadata.code.branch_hint");
const section = [name.length, ...name, 1, 1, 1, 3, 1, 1];

// It stands before the code, which is section 10.
let code = 8;
while (plain[code] !== 10) code += 2 + plain[code + 1];
const before = Uint8Array.from([...plain.slice(0, code), 0, section.length, ...section, ...plain.slice(code)]);
const after = new ModuleConfig().parse(before).emitWasm(true);

const show = (what, bytes) => {
  const module = new WebAssembly.Module(bytes);
  const hinted = WebAssembly.Module.customSections(module, "metadata.code.branch_hint").map((s) => new Uint8Array(s)[1]);
  const exported = new WebAssembly.Instance(module).exports;
  // The name of an exported function is its number.
  console.log(`${what}: small is function ${exported.small.name}, big is function ${exported.big.name}, hints are for function ${hinted}`);
};
show("before", before);
show("after", after);
JS

seen "$(node hints.mjs)" <<'OUT'
before: small is function 0, big is function 1, hints are for function 1
after: small is function 1, big is function 0, hints are for function 1
OUT
