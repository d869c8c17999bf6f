;; A heap with holes: `init` writes so many pieces of 256 bytes, 768 apart, and `matches` visits some of them and writes to two.
(module
  (memory (export "memory") 64)
  (func (export "init") (param $pieces i32) (result i32) (local $piece i32)
    (loop $next
      (memory.fill (call $at (local.get $piece)) (i32.const 1) (i32.const 256))
      (br_if $next (i32.lt_u (local.tee $piece (i32.add (local.get $piece) (i32.const 1))) (local.get $pieces))))
    (local.get $pieces))
  (func $at (param $piece i32) (result i32) (i32.add (i32.const 65536) (i32.mul (local.get $piece) (i32.const 768))))
  (func (export "matches") (param $pieces i32) (result i32) (local $piece i32) (local $sum i32)
    (loop $next
      (local.set $sum (i32.add (local.get $sum) (i32.load8_u (call $at (i32.mul (local.get $piece) (i32.const 100))))))
      (br_if $next (i32.lt_u (local.tee $piece (i32.add (local.get $piece) (i32.const 1))) (local.get $pieces))))
    (i32.store (i32.const 1024) (local.get $sum))
    (i32.store (call $at (i32.const 1000)) (local.get $sum))
    (local.get $sum)))
