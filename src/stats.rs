//! What a client has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// A snapshot of a client's counters since it was built; see [`Client::stats`](crate::Client::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls begun, logins apart.
    pub calls: u64,
    /// Requests sent for calls, or tried to be.
    pub attempts: u64,
    /// Attempts of a call after its first.
    pub retries: u64,
    /// Answers 429.
    pub throttled: u64,
    /// Requests sent to the token endpoint, or tried to be.
    pub login_attempts: u64,
    /// Logins that were answered with a login limit.
    pub login_throttled: u64,
}

/// A counter that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) calls: Counter,
    pub(crate) attempts: Counter,
    pub(crate) retries: Counter,
    pub(crate) throttled: Counter,
    pub(crate) login_attempts: Counter,
    pub(crate) login_throttled: Counter,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            calls: self.calls.get(),
            attempts: self.attempts.get(),
            retries: self.retries.get(),
            throttled: self.throttled.get(),
            login_attempts: self.login_attempts.get(),
            login_throttled: self.login_throttled.get(),
        }
    }
}
