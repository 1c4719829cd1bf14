//! The retry budget all agents of a client share: what keeps retries from becoming the outage.

use std::sync::atomic::{AtomicU64, Ordering};

/// How many retries all calls of a client may make together.
///
/// A retry after overload, a 5xx, a timeout or a reset takes one; waits for a quota or login limit, and the
/// attempt after a replaced token, take none. When it is empty, failures are returned at once.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryBudget {
    /// The most retries it holds. Default 100.
    pub capacity: f64,
    /// The retries it starts with. Default 30.
    pub start: f64,
    /// What each call begun adds. Default 0.1: one retry for ten calls.
    pub per_call: f64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { capacity: 100.0, start: 30.0, per_call: 0.1 }
    }
}

/// The budget as it stands, counted in thousandths of a retry, so that the arithmetic is exact.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicU64,
    capacity: u64,
    per_call: u64,
}

const ONE: u64 = 1000;

impl Budget {
    pub(crate) fn new(policy: &RetryBudget) -> Self {
        let capacity = thousandths(policy.capacity);
        let start = thousandths(policy.start).min(capacity);
        Self { left: AtomicU64::new(start), capacity, per_call: thousandths(policy.per_call) }
    }

    pub(crate) fn call_begun(&self) {
        if self.left.load(Ordering::Relaxed) < self.capacity {
            self.change(|left| Some(left.saturating_add(self.per_call).min(self.capacity)));
        }
    }

    /// Takes one retry; false where none is left.
    pub(crate) fn take(&self) -> bool {
        self.change(|left| left.checked_sub(ONE))
    }

    /// Whole retries left.
    pub(crate) fn left(&self) -> u32 {
        u32::try_from(self.left.load(Ordering::Relaxed) / ONE).unwrap_or(u32::MAX)
    }

    fn change(&self, next: impl FnMut(u64) -> Option<u64>) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

/// What is no number, or below zero, is none; the cast saturates.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn thousandths(retries: f64) -> u64 {
    (retries * 1000.0).round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_at_first_then_one_for_ten_calls_and_never_above_a_hundred() {
        let budget = Budget::new(&RetryBudget::default());
        assert_eq!((0..1000).filter(|_| budget.take()).count(), 30);
        for _ in 0..25 {
            budget.call_begun();
        }
        assert_eq!((0..1000).filter(|_| budget.take()).count(), 2);
        for _ in 0..100_000 {
            budget.call_begun();
        }
        assert_eq!(budget.left(), 100);
    }

    #[test]
    fn odd_figures_are_no_budget_and_no_panic() {
        for odd in [f64::NAN, f64::NEG_INFINITY, -1.0, f64::INFINITY, 1e300] {
            let budget = Budget::new(&RetryBudget { capacity: odd, start: odd, per_call: odd });
            budget.call_begun();
            budget.take();
        }
        assert!(!Budget::new(&RetryBudget { capacity: f64::NAN, start: 5.0, per_call: 1.0 }).take());
    }
}
