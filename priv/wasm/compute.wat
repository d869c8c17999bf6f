;; Small, import-free functions, one for each thing that a call can do: return, return several
;; values, loop for ever, recurse, grow memory, trap. What each is good for stands beside it.
(module $compute
  (memory (export "memory") 1)

  (func $process (export "process") (param $value i32) (result i32)
    (i32.mul (local.get $value) (i32.const 2)))

  (func $add (export "add") (param $left i32) (param $right i32) (result i32)
    (i32.add (local.get $left) (local.get $right)))

  ;; Two results. Traps on a zero divisor, and on -2147483648 / -1, whose quotient has no i32.
  (func $div_mod (export "div_mod")
    (param $dividend i32) (param $divisor i32) (result i32 i32)
    (i32.div_s (local.get $dividend) (local.get $divisor))
    (i32.rem_s (local.get $dividend) (local.get $divisor)))

  ;; Never returns: only fuel, a deadline or the caller's death ends it.
  (func $spin (export "spin")
    (loop $again (br $again)))

  ;; Recursive on purpose: almost all of its time goes into calls.
  (func $fib (export "fib") (param $n i32) (result i64)
    (if (result i64) (i32.lt_s (local.get $n) (i32.const 2))
      (then (i64.extend_i32_s (local.get $n)))
      (else
        (i64.add
          (call $fib (i32.sub (local.get $n) (i32.const 1)))
          (call $fib (i32.sub (local.get $n) (i32.const 2)))))))

  ;; The size before in pages of 64 KiB, or -1 when the host refuses. No maximum is declared, so
  ;; the host's memory limit is the only one.
  (func $grow (export "grow") (param $pages i32) (result i32)
    (memory.grow (local.get $pages)))

  ;; Exhausts the stack. The call is not in tail position, so no engine can turn it into a loop.
  (func $recurse (export "recurse")
    (call $recurse)
    (nop))

  (func $fail (export "fail")
    (unreachable)))
