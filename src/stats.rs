//! What a client has done and how it stands, in numbers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::error::{Error, ErrorKind};

/// A snapshot of a client; see [`Client::stats`](crate::Client::stats). Counters run since it was built. It serialises, durations in
/// seconds.
///
/// How the quota of one agent's token stands is [`Agent::quota`](crate::Agent::quota)'s to say: the client
/// keeps no list of its agents.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Calls begun, logins apart.
    pub calls: u64,
    /// Calls that ended with their answer.
    pub succeeded: u64,
    /// Calls that ended in an error, by its kind.
    pub failed: BTreeMap<ErrorKind, u64>,
    /// Requests sent for calls, or tried to be.
    pub attempts: u64,
    /// Attempts of a call after its first.
    pub retries: u64,
    /// Answers 429.
    pub throttled: u64,
    /// Answers 400 met, and refusals of logins, by the name of their cause; those that a further attempt cured are among them.
    pub bad_requests: BTreeMap<&'static str, u64>,
    /// Requests sent to the token endpoint, or tried to be.
    pub login_attempts: u64,
    /// Logins that were answered with a login limit.
    pub login_throttled: u64,
    /// Times that an [`on_session`](crate::Agent::on_session) callback failed to store a session.
    pub session_store_failures: u64,
    /// Sessions that could not be stored yet and are tried again: should the process end now, their agents must log in anew.
    pub sessions_unstored: usize,
    /// The api host.
    pub api: HostStats,
    /// The login host.
    pub login: HostStats,
    /// The upload host.
    pub upload: HostStats,
}

/// How one host stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct HostStats {
    /// Attempts in flight; at most [`max_in_flight`](crate::ClientBuilder::max_in_flight).
    pub in_flight: usize,
    /// Calls that wait for a place in flight; at most [`max_waiting`](crate::ClientBuilder::max_waiting).
    pub waiting: usize,
    /// The operations that are down, all or a part of what was asked of them ([`RouteState`](crate::RouteState)), like `get script`, and in how long each is asked again; zero: by the next call.
    #[serde(rename = "down_asked_again_in_s", serialize_with = "seconds_of_each")]
    pub down: BTreeMap<&'static str, Duration>,
}

fn seconds_of_each<S: Serializer>(down: &BTreeMap<&'static str, Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(down.iter().map(|(operation, wait)| (operation, wait.as_secs_f64())))
}

pub(crate) fn seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
}

/// A counter that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.next();
    }

    /// The number before this one was counted.
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    calls: Counter,
    succeeded: Counter,
    attempts: Counter,
    retries: Counter,
    throttled: Counter,
    login_attempts: Counter,
    login_throttled: Counter,
    pub(crate) session_store_failures: Counter,
    failed: Mutex<BTreeMap<ErrorKind, u64>>,
    bad_requests: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    /// Logins are no calls.
    pub(crate) fn begun(&self, is_login: bool) {
        if !is_login {
            self.calls.add();
        }
    }

    /// A call has ended, with this error if it failed.
    pub(crate) fn ended(&self, is_login: bool, failed: Option<&Error>) {
        match failed {
            _ if is_login => {}
            None => self.succeeded.add(),
            Some(error) => count(&self.failed, error.kind()),
        }
    }

    /// A request is sent, of a call or a login.
    pub(crate) fn attempt(&self, is_login: bool, is_first: bool) {
        if is_login {
            return self.login_attempts.add();
        }
        self.attempts.add();
        if !is_first {
            self.retries.add();
        }
    }

    pub(crate) fn throttled(&self, is_login: bool) {
        if is_login { self.login_throttled.add() } else { self.throttled.add() }
    }

    /// An attempt has failed: with a 400, perhaps.
    pub(crate) fn bad_request(&self, error: &Error) {
        if let Some(bad_request) = error.bad_request() {
            count(&self.bad_requests, bad_request.cause.name());
        }
    }

    /// The counters alone.
    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            calls: self.calls.get(),
            succeeded: self.succeeded.get(),
            failed: self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            attempts: self.attempts.get(),
            retries: self.retries.get(),
            throttled: self.throttled.get(),
            bad_requests: self.bad_requests.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            login_attempts: self.login_attempts.get(),
            login_throttled: self.login_throttled.get(),
            session_store_failures: self.session_store_failures.get(),
            ..Stats::default()
        }
    }
}

fn count<K: Ord>(numbers: &Mutex<BTreeMap<K, u64>>, of: K) {
    *numbers.lock().unwrap_or_else(PoisonError::into_inner).entry(of).or_default() += 1;
}
