//! The CPU-bound kernels. Nothing here knows about WebAssembly: the benchmark compiles this very
//! file natively too, so that both sides of a comparison run the same code.

use hmac_sha256::Hash;
use std::sync::{Mutex, PoisonError};

const MAX_ITERATIONS: u32 = 2_000;

static INPUT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// The n-th Fibonacci number, with two real calls at every level.
///
/// The addition saturates because LLVM turns the last call of a plain sum into a loop, and then
/// half of the calls that this kernel is meant to measure are gone.
#[inline(never)]
pub fn fib(n: u32) -> u64 {
    if n < 2 {
        return u64::from(n);
    }
    fib(n - 1).saturating_add(fib(n - 2))
}

/// The first eight bytes, big-endian, of the SHA-256 of that many MiB of generated input.
///
/// The input is made once and kept, so every call after the first one only hashes.
pub fn sha256(megabytes: u32) -> u64 {
    let length = (megabytes as usize).saturating_mul(1024 * 1024);
    let mut input = INPUT.lock().unwrap_or_else(PoisonError::into_inner);
    extend_to(&mut input, length);

    let digest = Hash::hash(&input[..length]);
    digest[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn extend_to(input: &mut Vec<u8>, length: usize) {
    if input.len() < length {
        input.reserve_exact(length - input.len());
        input.extend((input.len()..length).map(byte_at));
    }
}

/// Knuth's multiplicative hash: bytes that look random, from nothing but their index.
fn byte_at(index: usize) -> u8 {
    ((index as u32).wrapping_mul(2_654_435_761) >> 24) as u8
}

/// Iterations spent on a picture of the Mandelbrot set of size x size points.
pub fn mandelbrot(size: u32) -> u64 {
    let step = 2.5 / f64::from(size);
    let mut total = 0;
    for row in 0..size {
        for column in 0..size {
            let real = f64::from(column) * step - 2.0;
            let imaginary = f64::from(row) * step - 1.25;
            total += u64::from(escape_time(real, imaginary));
        }
    }
    total
}

fn escape_time(real: f64, imaginary: f64) -> u32 {
    let (mut x, mut y) = (0.0, 0.0);
    let mut iterations = 0;
    while iterations < MAX_ITERATIONS && x * x + y * y <= 4.0 {
        (x, y) = (x * x - y * y + real, 2.0 * x * y + imaginary);
        iterations += 1;
    }
    iterations
}
