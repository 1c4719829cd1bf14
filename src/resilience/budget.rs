//! The retry budget all agents of a client share: what keeps retries from becoming the outage.

use std::sync::atomic::{AtomicU32, Ordering};

/// Counted in tenths of a retry, so that the arithmetic is exact.
const CAPACITY: u32 = 1000;
const START: u32 = 300;
const EARNED_BY_A_CALL: u32 = 1;
const COST_OF_A_RETRY: u32 = 10;

/// A bucket of 100 retries that starts at 30; a call begun adds 0.1, a retry after overload, a 5xx, a
/// timeout or a reset takes 1. Retries of 429s, of throttled logins and after a 401 are not charged.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    tenths: AtomicU32,
}

impl RetryBudget {
    pub(crate) fn new() -> Self {
        Self { tenths: AtomicU32::new(START) }
    }

    pub(crate) fn call_begun(&self) {
        if self.tenths.load(Ordering::Relaxed) < CAPACITY {
            self.change(|tenths| Some((tenths + EARNED_BY_A_CALL).min(CAPACITY)));
        }
    }

    /// Takes one retry; false where none is left.
    pub(crate) fn take(&self) -> bool {
        self.change(|tenths| tenths.checked_sub(COST_OF_A_RETRY))
    }

    /// Whole retries left.
    pub(crate) fn left(&self) -> u32 {
        self.tenths.load(Ordering::Relaxed) / COST_OF_A_RETRY
    }

    fn change(&self, next: impl FnMut(u32) -> Option<u32>) -> bool {
        self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_at_first_then_one_for_ten_calls_and_never_above_a_hundred() {
        let budget = RetryBudget::new();
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
}
