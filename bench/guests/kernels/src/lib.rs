//! The benchmark's guest: the kernels, and exports that do as little as a call can.

mod kernels;

/// See [`kernels::fib`].
#[unsafe(no_mangle)]
pub extern "C" fn fib(n: u32) -> u64 {
    kernels::fib(n)
}

/// See [`kernels::sha256`].
#[unsafe(no_mangle)]
pub extern "C" fn sha256(megabytes: u32) -> u64 {
    kernels::sha256(megabytes)
}

/// See [`kernels::mandelbrot`].
#[unsafe(no_mangle)]
pub extern "C" fn mandelbrot(size: u32) -> u64 {
    kernels::mandelbrot(size)
}

/// The cheapest call with arguments and a result.
#[unsafe(no_mangle)]
pub extern "C" fn add(left: i32, right: i32) -> i32 {
    left.wrapping_add(right)
}

/// The cheapest call there is.
#[unsafe(no_mangle)]
pub extern "C" fn nothing() {}

/// Never returns. Rust, unlike C, promises that an empty endless loop stays one.
#[unsafe(no_mangle)]
#[expect(clippy::empty_loop, reason = "wasting the processor is its job")]
pub extern "C" fn spin() {
    loop {}
}
