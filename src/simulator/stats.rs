//! What was asked and how it was answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::fault::ResetInstead;
use super::operation::Operation;
use super::sync::lock;

/// Counts since the simulator started: what `GET /_simulator/stats` answers as JSON.
///
/// The keys of the maps by outcome are statuses (`"200"`), or `"reset"` where the connection was reset instead of an
/// answer, or `"dropped"` where the client left before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Requests of `GET /api/v2/scripts/{scriptId}` that came to their end, by outcome.
    pub script_requests: BTreeMap<String, u64>,
    /// The most script requests that were in flight at once. Those refused by the knee or the quota were not.
    pub peak_script_requests: u64,
    /// Script requests the knee refused.
    pub over_knee: u64,
    /// Requests of `POST /oauth/token`, by outcome.
    pub logins: BTreeMap<String, u64>,
    /// Access tokens given out.
    pub tokens_issued: u64,
    /// Access tokens revoked by their owners.
    pub tokens_revoked: u64,
    /// Answers with status 429.
    pub throttled: u64,
    /// Requests that came to their end, by operation, under the names of the official SDKs.
    pub operations: BTreeMap<String, u64>,
}

#[derive(Default)]
pub(super) struct Counters {
    stats: Mutex<Stats>,
    script_requests_in_flight: Mutex<usize>,
}

impl Counters {
    pub(super) fn snapshot(&self) -> Stats {
        lock(&self.stats).clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut lock(&self.stats));
    }

    pub(super) fn scripts_in_flight(&self) -> usize {
        *lock(&self.script_requests_in_flight)
    }

    /// Lets a script request in, unless `refuses`, told how many are in flight already, does not.
    pub(super) fn enter_script(self: &Arc<Self>, refuses: impl FnOnce(usize) -> bool) -> Option<ScriptInFlight> {
        let mut in_flight = lock(&self.script_requests_in_flight);
        if refuses(*in_flight) {
            self.update(|stats| stats.over_knee += 1);
            return None;
        }
        *in_flight += 1;
        let now = u64::try_from(*in_flight).unwrap_or(u64::MAX);
        self.update(|stats| stats.peak_script_requests = stats.peak_script_requests.max(now));
        Some(ScriptInFlight(Arc::clone(self)))
    }
}

/// In flight until dropped, be it because the answer is there or because the client left.
pub(super) struct ScriptInFlight(Arc<Counters>);

impl Drop for ScriptInFlight {
    fn drop(&mut self) {
        *lock(&self.0.script_requests_in_flight) -= 1;
    }
}

/// Counts one request when it ends, whichever way.
pub(super) struct Arrival {
    counters: Arc<Counters>,
    /// None: a login.
    operation: Option<&'static Operation>,
    outcome: String,
}

impl Arrival {
    pub(super) fn new(counters: &Arc<Counters>, operation: Option<&'static Operation>) -> Self {
        Self { counters: Arc::clone(counters), operation, outcome: "dropped".to_owned() }
    }

    pub(super) fn answered(mut self, response: &Response) {
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            self.counters.update(|stats| stats.throttled += 1);
        }
        let reset = response.extensions().get::<ResetInstead>().is_some();
        self.outcome = if reset { "reset".to_owned() } else { response.status().as_str().to_owned() };
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let outcome = std::mem::take(&mut self.outcome);
        self.counters.update(|stats| match self.operation {
            None => *stats.logins.entry(outcome).or_default() += 1,
            Some(operation) => {
                *stats.operations.entry(operation.name.to_owned()).or_default() += 1;
                if operation.is_script_read() {
                    *stats.script_requests.entry(outcome).or_default() += 1;
                }
            }
        });
    }
}
