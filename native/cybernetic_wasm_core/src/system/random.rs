//! Where a guest's random bytes come from.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// Where a guest's random bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Random {
    /// Nowhere: asking is refused.
    None,
    /// The system's generator.
    System,
    /// ChaCha20 from this seed: the same bytes in each guest, on every machine.
    Seeded(u64),
}

/// A guest's source.
pub(crate) enum Source {
    None,
    System,
    Seeded(Box<ChaCha20Rng>),
}

impl Source {
    pub(super) fn new(random: &Random) -> Self {
        match *random {
            Random::None => Source::None,
            Random::System => Source::System,
            Random::Seeded(seed) => Source::Seeded(Box::new(ChaCha20Rng::seed_from_u64(seed))),
        }
    }

    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Source::None)
    }

    /// Fills `bytes`; nothing where there is no source.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        match self {
            Source::None => {}
            Source::System => rand::rng().fill_bytes(bytes),
            Source::Seeded(generator) => generator.fill_bytes(bytes),
        }
    }
}
