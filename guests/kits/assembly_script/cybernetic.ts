// Plugins for Cybernetic.WASM, by its contract `:bytes`: functions that take bytes and give bytes, or an error.
//
//     import { input, output, fail } from "./cybernetic";
//     export { cw_alloc } from "./cybernetic";
//
//     export function shout(at: usize, length: i32): u64 {
//       return output(String.UTF8.encode(String.UTF8.decode(input(at, length)).toUpperCase()));
//     }
//
// `asc plugin.ts --outFile plugin.wasm` makes a plugin of it. There is nothing else here than what the contract asks for: the
// file may be copied. A plugin that only takes and gives strings needs no kit: see the contract `:assemblyscript`.

@external("cybernetic", "error")
declare function error(at: usize, length: i32): void;

// Makes room for an input of so many bytes. The host calls it, and then a function.
export function cw_alloc(length: i32): usize {
  return heap.alloc(length);
}

// The input that is there.
export function input(at: usize, length: i32): ArrayBuffer {
  const bytes = new ArrayBuffer(length);
  memory.copy(changetype<usize>(bytes), at, length);
  return bytes;
}

// What a function gives: where the host finds these bytes.
export function output(bytes: ArrayBuffer): u64 {
  return (changetype<usize>(bytes) as u64) << 32 | (bytes.byteLength as u64);
}

// Ends the call with an error: nothing comes back.
export function fail(text: string): void {
  const bytes = String.UTF8.encode(text);
  error(changetype<usize>(bytes), bytes.byteLength);
  unreachable();
}
