//! What is counted and timed, and under which names: the feature `metrics`, for whichever recorder the process has. Without the
//! feature nothing here does anything.
//!
//! Each measurement asks for the recorder anew: one that is installed late is found, and a series it dropped for being idle comes
//! back. What every call measures has its key made once for its route, so that it allocates nothing.

#![cfg_attr(not(feature = "metrics"), allow(unused_imports, unused_variables))]
#![cfg_attr(not(all(feature = "metrics", feature = "cache")), allow(dead_code))]

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use reqwest::Url;

use crate::error::{Error, ErrorKind};
use crate::limits::window::QuotaHeaders;
use crate::request::{OnHost, Operation};
use crate::waits::Wait;

/// OpenTelemetry's names (HTTP client metrics), a request on the wire each, logins too.
const REQUESTS: &str = "http.client.request.duration";
const IN_FLIGHT: &str = "http.client.active_requests";
/// The crate's own.
const CALLS: &str = "genesys_scripts.call.duration";
const WAITS: &str = "genesys_scripts.wait.duration";
const WAITING: &str = "genesys_scripts.waiting";
const RETRIES: &str = "genesys_scripts.retries";
const THROTTLED: &str = "genesys_scripts.throttled";
const BAD_REQUESTS: &str = "genesys_scripts.bad_requests";
const OUTAGES: &str = "genesys_scripts.outages";
const DOWN: &str = "genesys_scripts.down";
const QUOTA: &str = "genesys_scripts.quota.remaining";
const LOGINS: &str = "genesys_scripts.login.duration";
const CACHE: &str = "genesys_scripts.cache.requests";
const STORE: &str = "genesys_scripts.session_store.duration";
const STORE_AWAY: &str = "genesys_scripts.session_store.away";

/// Labels, OpenTelemetry's first.
const METHOD: &str = "http.request.method";
const ADDRESS: &str = "server.address";
const PORT: &str = "server.port";
const TEMPLATE: &str = "url.template";
const STATUS: &str = "http.response.status_code";
const ERROR: &str = "error.type";
const OPERATION: &str = "genesys_scripts.operation";
const WAIT: &str = "genesys_scripts.wait";
const LIMIT: &str = "genesys_scripts.limit";
const CAUSE: &str = "genesys_scripts.cause";
const GRANT: &str = "genesys_scripts.grant";
const RESULT: &str = "genesys_scripts.cache.result";
const ASKED: &str = "genesys_scripts.session_store.operation";

/// So many names of limits are told apart, as the service may name what it likes; further ones are `other`.
const LIMITS: usize = 32;
/// A name longer than this is none.
const NAME_BYTES: usize = 100;

#[cfg(feature = "metrics")]
use metrics_facade::*;

#[cfg(feature = "metrics")]
mod metrics_facade {
    pub(super) use ::metrics::{Gauge, Key, Label, Level, Metadata, Unit, with_recorder};

    static METADATA: Metadata<'static> = Metadata::new("genesys_scripts", Level::INFO, Some("genesys_scripts"));

    pub(super) fn count(key: &Key) {
        with_recorder(|recorder| recorder.register_counter(key, &METADATA)).increment(1);
    }

    pub(super) fn observe(key: &Key, value: f64) {
        observe_both(key, value, None);
    }

    /// The recorder is asked for once.
    pub(super) fn observe_both(key: &Key, value: f64, other: Option<(&Key, f64)>) {
        with_recorder(|recorder| {
            recorder.register_histogram(key, &METADATA).record(value);
            if let Some((key, value)) = other {
                recorder.register_histogram(key, &METADATA).record(value);
            }
        });
    }

    pub(super) fn gauge(key: &Key) -> Gauge {
        with_recorder(|recorder| recorder.register_gauge(key, &METADATA))
    }
}

/// One operation of a host, measured.
pub(crate) struct Meter {
    #[cfg(feature = "metrics")]
    operation: &'static str,
    /// Labels of each request.
    #[cfg(feature = "metrics")]
    request: Vec<Label>,
    #[cfg(feature = "metrics")]
    in_flight: Key,
    /// Requests answered with 200.
    #[cfg(feature = "metrics")]
    served: Key,
    /// Calls that ended with their answer.
    #[cfg(feature = "metrics")]
    succeeded: Key,
    #[cfg(feature = "metrics")]
    quota: Key,
}

impl Meter {
    #[cfg(not(feature = "metrics"))]
    pub(crate) fn new(_: &Operation, _: &Url) -> Self {
        Self {}
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn new(operation: &'static Operation, base: &Url) -> Self {
        let (address, port) = match operation.host {
            OnHost::Download => ("downloads", None),
            _ => (base.host_str().unwrap_or_default(), base.port_or_known_default()),
        };
        let mut request = vec![
            Label::new(METHOD, operation.method.as_str().to_owned()),
            Label::new(ADDRESS, address.to_owned()),
            Label::new(TEMPLATE, operation.route),
        ];
        request.extend(port.map(|port| Label::new(PORT, port.to_string())));
        let own = || vec![Label::new(OPERATION, operation.name)];
        Self {
            operation: operation.name,
            in_flight: Key::from_parts(IN_FLIGHT, request.clone()),
            served: Key::from_parts(REQUESTS, with(&request, [Label::new(STATUS, "200")])),
            succeeded: Key::from_parts(CALLS, own()),
            quota: Key::from_parts(QUOTA, own()),
            request,
        }
    }

    #[cfg(feature = "metrics")]
    fn key<const N: usize>(&self, name: &'static str, labels: [(&'static str, String); N]) -> Key {
        let labels = labels.map(|(key, value)| Label::new(key, value));
        Key::from_parts(name, with(&[Label::new(OPERATION, self.operation)], labels))
    }

    /// A request is on the wire as long as this is kept.
    pub(crate) fn in_flight(&self) -> Raised {
        #[cfg(feature = "metrics")]
        return Raised::new(&self.in_flight);
        #[cfg(not(feature = "metrics"))]
        Raised {}
    }

    /// A call waits as long as this is kept.
    pub(crate) fn waiting(&self, why: Wait) -> Raised {
        #[cfg(feature = "metrics")]
        return Raised::new(&self.key(WAITING, [(WAIT, why.name().to_owned())]));
        #[cfg(not(feature = "metrics"))]
        Raised {}
    }

    /// An outage has begun, and lasts as long as this is kept.
    pub(crate) fn down(&self) -> Raised {
        #[cfg(feature = "metrics")]
        {
            count(&self.key(OUTAGES, []));
            Raised::new(&self.key(DOWN, []))
        }
        #[cfg(not(feature = "metrics"))]
        Raised {}
    }

    /// A request has ended, with this status or like this, and its answer told this of its token's quota.
    pub(crate) fn requested(&self, took: Duration, outcome: Result<StatusCode, ErrorKind>, told: Option<QuotaHeaders>) {
        #[cfg(feature = "metrics")]
        {
            let left = told.map(|told| (&self.quota, told.allowed.saturating_sub(told.count).into()));
            if outcome == Ok(StatusCode::OK) {
                return observe_both(&self.served, took.as_secs_f64(), left);
            }
            let status = outcome.ok().map(|status| Label::new(STATUS, status.as_str().to_owned()));
            let error = request_error(outcome).map(|error| Label::new(ERROR, error));
            let labels = with(&self.request, status.into_iter().chain(error));
            observe_both(&Key::from_parts(REQUESTS, labels), took.as_secs_f64(), left);
        }
    }

    /// A call has ended, with this error if it failed.
    pub(crate) fn called(&self, took: Duration, failed: Option<&Error>) {
        #[cfg(feature = "metrics")]
        match failed {
            None => observe(&self.succeeded, took.as_secs_f64()),
            Some(error) => observe(&self.key(CALLS, [(ERROR, error.kind().name().to_owned())]), took.as_secs_f64()),
        }
    }

    /// A call has waited so long.
    pub(crate) fn waited(&self, why: Wait, took: Duration) {
        #[cfg(feature = "metrics")]
        observe(&self.key(WAITS, [(WAIT, why.name().to_owned())]), took.as_secs_f64());
    }

    /// Another attempt is made, because the one before met this.
    pub(crate) fn retried(&self, met: ErrorKind) {
        #[cfg(feature = "metrics")]
        count(&self.key(RETRIES, [(ERROR, met.name().to_owned())]));
    }

    /// An answer was that a limit is reached.
    pub(crate) fn throttled(&self, limit: Option<&str>) {
        #[cfg(feature = "metrics")]
        count(&self.key(THROTTLED, [(LIMIT, limit_name(limit))]));
    }

    /// An attempt has failed: with a 400, perhaps.
    pub(crate) fn bad_request(&self, error: &Error) {
        #[cfg(feature = "metrics")]
        if let Some(bad_request) = error.bad_request() {
            count(&self.key(BAD_REQUESTS, [(CAUSE, bad_request.cause.name().to_owned())]));
        }
    }
}

/// A gauge that is one higher as long as this is kept.
pub(crate) struct Raised {
    #[cfg(feature = "metrics")]
    gauge: Gauge,
}

#[cfg(feature = "metrics")]
impl Raised {
    fn new(key: &Key) -> Self {
        let gauge = gauge(key);
        gauge.increment(1);
        Self { gauge }
    }
}

#[cfg(feature = "metrics")]
impl Drop for Raised {
    fn drop(&mut self) {
        self.gauge.decrement(1);
    }
}

/// A login has ended, by whatever it was made with.
pub(crate) fn logged_in(grant: &'static str, took: impl FnOnce() -> Duration, failed: Option<&Error>) {
    #[cfg(feature = "metrics")]
    {
        let error = failed.map(|error| Label::new(ERROR, error.kind().name()));
        observe(&Key::from_parts(LOGINS, with(&[Label::new(GRANT, grant)], error)), took().as_secs_f64());
    }
}

/// A script was asked of the cache: `fresh` or `stale`, or `missed` where the service was asked.
pub(crate) fn cached(result: &'static str) {
    #[cfg(feature = "metrics")]
    count(&Key::from_parts(CACHE, vec![Label::new(RESULT, result)]));
}

/// The store that sessions are shared by was asked, and failed like this if it did.
pub(crate) fn asked_store(what: &'static str, took: Duration, failed: Option<ErrorKind>) {
    #[cfg(feature = "metrics")]
    {
        let error = failed.map(|kind| Label::new(ERROR, kind.name()));
        observe(&Key::from_parts(STORE, with(&[Label::new(ASKED, what)], error)), took.as_secs_f64());
    }
}

/// That store is away as long as this is kept.
pub(crate) fn store_away() -> Raised {
    #[cfg(feature = "metrics")]
    return Raised::new(&Key::from_name(STORE_AWAY));
    #[cfg(not(feature = "metrics"))]
    Raised {}
}

/// Tells the recorder, if there is one yet, what each is.
pub(crate) fn describe() {
    #[cfg(feature = "metrics")]
    with_recorder(|recorder| {
        for (name, unit, what) in [
            (REQUESTS, Unit::Seconds, "Requests sent, from the first byte to the last of the answer"),
            (CALLS, Unit::Seconds, "Calls, with all their attempts and waits"),
            (WAITS, Unit::Seconds, "What calls waited for before or between attempts"),
            (QUOTA, Unit::Count, "Requests left of a token's quota, as each answer told"),
            (LOGINS, Unit::Seconds, "Logins, with all their attempts and waits"),
            (STORE, Unit::Seconds, "What the session store was asked"),
        ] {
            recorder.describe_histogram(name.into(), Some(unit), what.into());
        }
        for (name, what) in [
            (IN_FLIGHT, "Requests that wait for their answer"),
            (WAITING, "Calls that wait"),
            (DOWN, "Operations that are down"),
            (STORE_AWAY, "Whether the session store is away"),
        ] {
            recorder.describe_gauge(name.into(), Some(Unit::Count), what.into());
        }
        for (name, what) in [
            (RETRIES, "Attempts after the first, by what the one before met"),
            (THROTTLED, "Answers that a limit is reached, by its name"),
            (BAD_REQUESTS, "Answers 400 and refusals of logins, by their cause"),
            (OUTAGES, "Outages that began"),
            (CACHE, "Scripts asked of the cache"),
        ] {
            recorder.describe_counter(name.into(), Some(Unit::Count), what.into());
        }
    });
}

/// `error.type` of a request, here and in traces: the status where one came, as OpenTelemetry has it. That of a call or a login is
/// its kind's name.
pub(crate) fn request_error(outcome: Result<StatusCode, ErrorKind>) -> Option<String> {
    match outcome {
        Ok(status) if status.as_u16() < 400 => None,
        Ok(status) => Some(status.as_str().to_owned()),
        Err(kind) => Some(kind.name().to_owned()),
    }
}

#[cfg(feature = "metrics")]
fn with(labels: &[Label], more: impl IntoIterator<Item = Label>) -> Vec<Label> {
    labels.iter().cloned().chain(more).collect()
}

/// A limit's name as a label: it comes from the wire, so neither what it is nor how many there are is taken on trust.
fn limit_name(limit: Option<&str>) -> String {
    static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let Some(name) = limit.filter(|name| !name.is_empty()) else { return "unnamed".to_owned() };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_known = seen.contains(name);
    if !is_known && (seen.len() >= LIMITS || name.len() > NAME_BYTES || !name.bytes().all(is_plain)) {
        return "other".to_owned();
    }
    if !is_known {
        seen.insert(name.to_owned());
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_documented() {
        let documented = include_str!("observability.md");
        for name in [
            REQUESTS,
            IN_FLIGHT,
            CALLS,
            WAITS,
            WAITING,
            RETRIES,
            THROTTLED,
            BAD_REQUESTS,
            OUTAGES,
            DOWN,
            QUOTA,
            LOGINS,
            CACHE,
            STORE,
            STORE_AWAY,
            METHOD,
            ADDRESS,
            PORT,
            TEMPLATE,
            STATUS,
            ERROR,
            OPERATION,
            WAIT,
            LIMIT,
            CAUSE,
            GRANT,
            RESULT,
            ASKED,
        ] {
            assert!(documented.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn where_nobody_listens_nothing_is_allocated() {
        let base = Url::parse("https://api.mypurecloud.ie").unwrap();
        let meter = Meter::new(&crate::request::GET_SCRIPT, &base);
        let told = Some(QuotaHeaders { allowed: 300, count: 12, reset: Duration::from_secs(30) });
        let a_call = || {
            let _in_flight = meter.in_flight();
            meter.requested(Duration::ZERO, Ok(StatusCode::OK), told);
            meter.called(Duration::ZERO, None);
        };
        assert_eq!(allocation_counter::measure(a_call).count_total, 0);
    }

    #[test]
    fn however_many_limits_the_service_names_the_labels_stay_few() {
        assert_eq!([limit_name(None), limit_name(Some(""))], ["unnamed", "unnamed"]);
        for odd in ["a b", "476c\n", "ü", &"x".repeat(NAME_BYTES + 1)] {
            assert_eq!(limit_name(Some(odd)), "other");
        }
        let names: BTreeSet<_> = (0..10_000).map(|number| limit_name(Some(&format!("limit.{number}")))).collect();
        assert!(names.len() <= LIMITS + 1, "{}", names.len());
        assert!(names.contains("other"));
        assert_eq!(limit_name(Some("limit.1")), "limit.1", "one that is known stays so");
    }
}
