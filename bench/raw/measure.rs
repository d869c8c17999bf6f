//! Timing: several subjects, measured in turns so that a disturbance of the machine meets them all.

use serde_json::json;
use std::time::{Duration, Instant};
use wasmtime::Result;

/// Something to measure: does its work that many times and says how long it took.
pub(crate) struct Subject<'a> {
    name: String,
    run: Box<dyn FnMut(u32) -> Result<Duration> + 'a>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(name: impl Into<String>, run: impl FnMut(u32) -> Result<Duration> + 'a) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }

    /// A subject that does one piece of work at a time.
    pub(crate) fn each(name: impl Into<String>, mut work: impl FnMut() -> Result<()> + 'a) -> Self {
        Self::new(name, move |times| {
            let began = Instant::now();
            (0..times).try_for_each(|_| work())?;
            Ok(began.elapsed())
        })
    }
}

/// How long and how often to measure.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) round: Duration,
    pub(crate) rounds: usize,
    /// Everything once, as small as can be: the figures mean nothing.
    pub(crate) tiny: bool,
}

impl Effort {
    pub(crate) fn new(milliseconds: u64, rounds: usize, tiny: bool) -> Self {
        Self { round: Duration::from_millis(milliseconds), rounds, tiny }
    }

    /// This much work, or `tiny` where no more is wanted.
    pub(crate) fn work<T>(self, full: T, tiny: T) -> T {
        if self.tiny { tiny } else { full }
    }
}

/// Measures the subjects in turns and prints a line of JSON for each.
pub(crate) fn compare(mut subjects: Vec<Subject<'_>>, effort: Effort) -> Result<()> {
    let times: Vec<u32> = subjects.iter_mut().map(|subject| calibrate(subject, effort)).collect::<Result<_>>()?;
    let mut samples = vec![Vec::with_capacity(effort.rounds); subjects.len()];
    for _ in 0..effort.rounds {
        for (index, subject) in subjects.iter_mut().enumerate() {
            let elapsed = (subject.run)(times[index])?;
            samples[index].push(elapsed.as_nanos() as f64 / f64::from(times[index]));
        }
    }
    subjects.iter().zip(samples).for_each(|(subject, samples)| print(&subject.name, samples));
    Ok(())
}

/// Times so many pieces of each subject's work one by one, in turns, for what a mean hides.
pub(crate) fn singly(mut subjects: Vec<Subject<'_>>, samples: usize) -> Result<()> {
    const PIECES: usize = 100;
    let mut times = vec![Vec::with_capacity(samples); subjects.len()];
    while times.iter().any(|times| times.len() < samples) {
        for (subject, times) in subjects.iter_mut().zip(&mut times) {
            for _ in 0..PIECES.min(samples) {
                times.push((subject.run)(1)?.as_nanos() as f64);
            }
        }
    }
    for (Subject { name, .. }, mut times) in subjects.into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() as f64 * share) as usize).min(times.len() - 1)];
        let name = format!("{name}, one by one");
        println!(
            "{}",
            json!({ "name": name, "p50_ns": at(0.5), "p90_ns": at(0.9), "p99_ns": at(0.99), "max_ns": at(1.) })
        );
    }
    Ok(())
}

/// How often the work fits into a round. What this takes is the warm-up. The first time is not like any other.
fn calibrate(subject: &mut Subject<'_>, effort: Effort) -> Result<u32> {
    (subject.run)(1)?;
    let mut times = 1;
    loop {
        let elapsed = (subject.run)(times)?;
        if elapsed * 2 >= effort.round || times >= 1 << 28 {
            return Ok(scale(times, elapsed, effort.round));
        }
        times = scale(times, elapsed, effort.round).clamp(times * 2, times * 64);
    }
}

fn scale(times: u32, elapsed: Duration, round: Duration) -> u32 {
    let wanted = round.as_secs_f64() / elapsed.as_secs_f64().max(1e-9) * f64::from(times);
    (wanted as u32).max(1)
}

/// Prints a line of JSON: samples in nanoseconds.
pub(crate) fn print(name: &str, mut samples: Vec<f64>) {
    samples.sort_by(f64::total_cmp);
    let (median, min) = (samples[samples.len() / 2], samples[0]);
    println!("{}", json!({ "name": name, "median_ns": median, "min_ns": min, "rounds": samples.len() }));
}
