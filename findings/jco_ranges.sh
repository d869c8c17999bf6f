#!/usr/bin/env bash
# npm package @bytecodealliance/jco-transpile 0.15.0: a number that a u8 does not hold is cut to its lowest bits where it is an argument,
# in a tuple or in an option, and refused in an array that is given for a list.
. "$(dirname "$0")/workbench"

node_packages @bytecodealliance/jco-transpile@0.15.0

cat > component.wat <<'WAT'
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "first") (param i32 i32) (result i32) (local.get 0))
    (func (export "second") (param i32 i32) (result i32) (local.get 1))
    (func (export "one") (param i32) (result i32) (local.get 0))
    (func (export "loaded") (param i32 i32) (result i32) (i32.load8_u (local.get 0))))
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (alias core export $i "realloc" (core func $realloc))
  (func (export "plain") (param "a" u8) (result u32) (canon lift (core func $i "one")))
  (func (export "pair") (param "a" (tuple u8 u8)) (result u32) (canon lift (core func $i "first")))
  (func (export "optional") (param "a" (option u8)) (result u32) (canon lift (core func $i "second")))
  (func (export "listed") (param "a" (list u8)) (result u32)
    (canon lift (core func $i "loaded") (memory $memory) (realloc $realloc))))
WAT

cat > ranges.mjs <<'JS'
import { readFileSync } from "node:fs";
import { transpileBytes, writeFiles } from "@bytecodealliance/jco-transpile";
import { parse } from "@bytecodealliance/jco-transpile/wasm-tools";

const { files } = await transpileBytes(await parse(readFileSync("component.wat", "utf8")), { name: "component", outDir: "made" });
await writeFiles({ ...files, "made/package.json": new TextEncoder().encode('{"type": "module"}') });
const component = await import("./made/component.js");

for (const [name, given] of [["plain", 300], ["plain", -1], ["pair", [300, 0]], ["optional", 300], ["listed", [300]]]) {
  let got;
  try { got = component[name](given); } catch (error) { got = `${error.name}: ${error.message}`; }
  console.log(`${name}(${JSON.stringify(given)}): ${got}`);
}
JS

seen "$(node ranges.mjs)" <<'OUT'
plain(300): 44
plain(-1): 255
pair([300,0]): 44
optional(300): 44
listed([300]): TypeError: invalid u8 value [300]
OUT
