//! When a call is tried again, and after how long.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use super::budget::RetryBudget;

/// How failures are retried. Throttling (429 and throttled logins) is bounded by the call's deadline alone.
///
/// ```
/// use genesys_scripts::RetryPolicy;
/// use std::time::Duration;
///
/// let mut policy = RetryPolicy::default();
/// policy.attempts = 3;
/// policy.max_backoff = Duration::from_secs(5);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The most attempts of one call that may end in a failure, the first included. Default 5; 1 switches retries off.
    pub attempts: u32,
    /// The bound on the first backoff. Default 100 ms. The delay drawn is uniform in [0, bound] (full jitter).
    pub initial_backoff: Duration,
    /// By what each bound exceeds the one before. Default 2; below 1 is read as 1.
    pub factor: f32,
    /// The most a bound grows to. Default 20 s.
    pub max_backoff: Duration,
    /// The longest `Retry-After` that is obeyed; beyond it the answer is returned at once. Default 180 s.
    pub retry_after_cap: Duration,
    /// What all calls of the client may spend on retries together. `None` switches it off.
    pub budget: Option<RetryBudget>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 5,
            initial_backoff: Duration::from_millis(100),
            factor: 2.0,
            max_backoff: Duration::from_secs(20),
            retry_after_cap: Duration::from_secs(180),
            budget: Some(RetryBudget::default()),
        }
    }
}

impl RetryPolicy {
    /// The bounds of the backoffs, one after another, without end. Jitter is drawn apart, below each:
    /// backon's own is added on top of its cap.
    pub(crate) fn backoffs(&self) -> Backoffs {
        let exponential = ExponentialBuilder::new()
            .with_min_delay(self.initial_backoff.min(self.max_backoff))
            .with_factor(if self.factor >= 1.0 && self.factor.is_finite() { self.factor } else { 1.0 })
            .with_max_delay(self.max_backoff)
            .without_max_times();
        Backoffs { iterator: exponential.build(), cap: self.max_backoff }
    }
}

/// See [`RetryPolicy::backoffs`].
#[derive(Debug)]
pub(crate) struct Backoffs {
    iterator: backon::ExponentialBackoff,
    cap: Duration,
}

impl Iterator for Backoffs {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.iterator.next().unwrap_or(self.cap).min(self.cap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(initial: f64, cap: f64, count: usize) -> Vec<f64> {
        let policy = RetryPolicy {
            initial_backoff: Duration::from_secs_f64(initial),
            max_backoff: Duration::from_secs_f64(cap),
            ..RetryPolicy::default()
        };
        policy.backoffs().take(count).map(|bound| (bound.as_secs_f64() * 1000.0).round() / 1000.0).collect()
    }

    #[test]
    fn published_vectors() {
        assert_eq!(bounds(1.0, 20.0, 4), [1.0, 2.0, 4.0, 8.0], "AWS A6");
        assert_eq!(bounds(1.0, 3.0, 4), [1.0, 2.0, 3.0, 3.0], "AWS A7");
        assert_eq!(bounds(1.0, 20.0, 33).last(), Some(&20.0), "AWS A9");
        assert_eq!(bounds(10.0, 20.0, 100_000).last(), Some(&20.0), "AWS A9");
        assert_eq!(bounds(1.0, 20.0, 3), [1.0, 2.0, 4.0], "AWS A10");
        assert_eq!(bounds(3.0, 20.0, 3), [3.0, 6.0, 12.0], "AWS A10");
        assert_eq!(bounds(0.03, 20.0, 3), [0.03, 0.06, 0.12], "AWS A10");
        assert_eq!(bounds(1.0, 4.0, 4), [1.0, 2.0, 4.0, 4.0], "gax");
    }

    #[test]
    fn a_first_backoff_above_the_cap_is_the_cap() {
        assert_eq!(bounds(30.0, 4.0, 3), [4.0, 4.0, 4.0]);
    }

    #[test]
    fn a_factor_that_is_no_growth_is_constant() {
        for factor in [0.0, -3.0, f32::NAN, f32::INFINITY] {
            let policy = RetryPolicy { factor, ..RetryPolicy::default() };
            assert!(policy.backoffs().take(5).all(|bound| bound.as_millis() == 100), "{factor}");
        }
    }
}
