//! Where jitter comes from.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The thread's generator, or one with a seed for runs that must repeat.
#[derive(Debug)]
pub(crate) enum Random {
    Thread,
    Seeded(Mutex<fastrand::Rng>),
}

impl Random {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        seed.map_or(Self::Thread, |seed| Self::Seeded(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// Uniform in [0, 1).
    pub(crate) fn fraction(&self) -> f64 {
        match self {
            Self::Thread => fastrand::f64(),
            Self::Seeded(rng) => rng.lock().unwrap_or_else(PoisonError::into_inner).f64(),
        }
    }

    /// Uniform in [0, bound).
    pub(crate) fn below(&self, bound: Duration) -> Duration {
        bound.mul_f64(self.fraction())
    }
}
