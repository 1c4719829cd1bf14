//! What users met, in the form that a Locust master adds up (`stats.py` of Locust 2.47).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::message::Users;
use crate::failure::{Failure, KINDS};
use crate::run::Outcome;

/// Of requests of one name, since the last report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    name: String,
    method: String,
    last_request_timestamp: Option<f64>,
    start_time: f64,
    num_requests: u64,
    num_none_requests: u64,
    num_failures: u64,
    /// Milliseconds, as all that follow.
    total_response_time: f64,
    max_response_time: f64,
    min_response_time: Option<f64>,
    total_content_length: u64,
    response_times: BTreeMap<u64, u64>,
    num_reqs_per_sec: BTreeMap<u64, u64>,
    num_fail_per_sec: BTreeMap<u64, u64>,
}

impl Entry {
    fn new(name: &str, method: &str, now: f64) -> Self {
        Self {
            name: name.to_owned(),
            method: method.to_owned(),
            last_request_timestamp: None,
            start_time: now,
            num_requests: 0,
            num_none_requests: 0,
            num_failures: 0,
            total_response_time: 0.0,
            max_response_time: 0.0,
            min_response_time: None,
            total_content_length: 0,
            response_times: BTreeMap::new(),
            num_reqs_per_sec: BTreeMap::new(),
            num_fail_per_sec: BTreeMap::new(),
        }
    }

    fn add(&mut self, ms: f64, bytes: u64, failed: bool, now: f64) {
        self.num_requests += 1;
        self.last_request_timestamp = Some(now);
        *self.num_reqs_per_sec.entry(now as u64).or_default() += 1;
        self.total_response_time += ms;
        self.max_response_time = self.max_response_time.max(ms);
        self.min_response_time = Some(self.min_response_time.map_or(ms, |min| min.min(ms)));
        *self.response_times.entry(bucket(ms)).or_default() += 1;
        self.total_content_length += bytes;
        if failed {
            self.num_failures += 1;
            *self.num_fail_per_sec.entry(now as u64).or_default() += 1;
        }
    }

    /// What there is, leaving nothing.
    fn taken(&mut self, now: f64) -> Self {
        let empty = Self::new(&self.name, &self.method, now);
        std::mem::replace(self, empty)
    }
}

/// Rounded as `bucket_response_time` does: to two digits, halves to the even one.
fn bucket(ms: f64) -> u64 {
    let to = |unit: f64| ((ms / unit).round_ties_even() * unit) as u64;
    match ms {
        _ if ms < 100.0 => to(1.0),
        _ if ms < 1_000.0 => to(10.0),
        _ if ms < 10_000.0 => to(100.0),
        _ => to(1_000.0),
    }
}

/// Failures of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Errors {
    name: String,
    method: String,
    error: String,
    occurrences: u64,
    first_seen: Option<f64>,
    last_seen: Option<f64>,
}

/// The data of `stats`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    stats: Vec<Entry>,
    stats_total: Entry,
    errors: BTreeMap<String, Errors>,
    user_classes_count: Users,
    user_count: u32,
}

/// Since the last report.
pub(super) struct Stats {
    /// What stands for the kind of request.
    method: &'static str,
    entries: BTreeMap<&'static str, Entry>,
    total: Entry,
    /// By name and kind; known ones stay, so that they are not more with each report.
    errors: BTreeMap<String, Errors>,
    /// All there ever were, and of them those that failed.
    iterations: u64,
    failed: u64,
}

impl Stats {
    pub(super) fn new(method: &'static str) -> Self {
        let total = Entry::new("Aggregated", "", now());
        Self { method, entries: BTreeMap::new(), total, errors: BTreeMap::new(), iterations: 0, failed: 0 }
    }

    /// What there was in all tests, in words.
    pub(super) fn in_all(&self) -> String {
        format!("{} iterations, of which {} failed", self.iterations, self.failed)
    }

    /// Another test begins.
    pub(super) fn clear(&mut self) {
        let (iterations, failed) = (self.iterations, self.failed);
        *self = Self { iterations, failed, ..Self::new(self.method) };
    }

    /// One iteration has ended.
    pub(super) fn add(&mut self, name: &'static str, took: Duration, outcome: &Outcome) {
        self.add_at(name, took, outcome, now());
    }

    fn add_at(&mut self, name: &'static str, took: Duration, outcome: &Outcome, now: f64) {
        let ms = took.saturating_sub(outcome.apart).as_secs_f64() * 1_000.0;
        let failed = outcome.result.is_err();
        let entry = self.entries.entry(name).or_insert_with(|| Entry::new(name, self.method, self.total.start_time));
        entry.add(ms, outcome.bytes, failed, now);
        self.total.add(ms, outcome.bytes, failed, now);
        self.iterations += 1;
        if let Err(failure) = &outcome.result {
            self.failed += 1;
            self.add_failure(name, failure, now);
        }
    }

    fn add_failure(&mut self, name: &str, failure: &Failure, now: f64) {
        let mut key = format!("{name}: {}", failure.kind);
        let mut text = failure.text.as_str();
        // The master keeps them all.
        if !self.errors.contains_key(&key) && self.errors.len() >= KINDS {
            (key, text) = (format!("{name}: others"), "failures of other kinds");
        }
        let error = self.errors.entry(key).or_insert_with(|| Errors {
            name: name.to_owned(),
            method: self.method.to_owned(),
            error: text.to_owned(),
            occurrences: 0,
            first_seen: None,
            last_seen: None,
        });
        error.occurrences += 1;
        error.first_seen.get_or_insert(now);
        error.last_seen = Some(now);
    }

    /// What there is, leaving nothing.
    pub(super) fn report(&mut self, users: Users) -> Report {
        let now = now();
        let stats = self.entries.values_mut().filter(|entry| entry.num_requests > 0);
        let stats = stats.map(|entry| entry.taken(now)).collect();
        let mut errors = BTreeMap::new();
        for (key, error) in &mut self.errors {
            if error.occurrences > 0 {
                errors.insert(key.clone(), error.clone());
                (error.occurrences, error.first_seen, error.last_seen) = (0, None, None);
            }
        }
        let stats_total = self.total.taken(now);
        Report { stats, stats_total, errors, user_count: users.values().sum(), user_classes_count: users }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::recorded;
    use super::super::message::written;
    use super::*;

    fn recorded_report() -> Report {
        let (_, report, _): (String, Report, String) = rmp_serde::from_slice(&recorded("sent", "stats")).unwrap();
        report
    }

    #[test]
    fn a_report_is_the_bytes_that_a_python_worker_sends() {
        let again = written("stats", &recorded_report(), "generator-1_0123456789abcdef0123456789abcdef").unwrap();
        assert_eq!(again, recorded("sent", "stats"));
    }

    #[test]
    fn the_same_requests_are_counted_as_a_python_worker_counts_them() {
        let theirs = recorded_report();
        // Its users did these, again and again, in three seconds; every third failed.
        let times = [12.25, 147.0, 3_432.5, 58_760.0];
        let mut seconds = theirs.stats_total.num_reqs_per_sec.iter().flat_map(|(at, times)| vec![*at; *times as usize]);
        let mut stats = Stats::new("resilient");
        for k in 0..59 {
            let result = if k % 3 == 0 { Err(Failure::other("Exception('HTTP 400 bad_request')")) } else { Ok(()) };
            let outcome = Outcome { bytes: 120, ..Outcome::of(result) };
            let took = Duration::from_secs_f64(times[k % 4] / 1_000.0);
            stats.add_at("get script", took, &outcome, seconds.next().unwrap() as f64);
        }
        let mut ours = stats.report(theirs.user_classes_count.clone());
        assert_eq!(ours.errors.values().map(|error| error.occurrences).collect::<Vec<_>>(), [20]);
        let (our_error, their_error) = (ours.errors.pop_first().unwrap().1, theirs.errors.first_key_value().unwrap().1);
        assert_eq!((our_error.error.as_str(), our_error.name.as_str()), (their_error.error.as_str(), "get script"));
        for (entry, like) in
            ours.stats.iter_mut().chain([&mut ours.stats_total]).zip(theirs.stats.iter().chain([&theirs.stats_total]))
        {
            // But for when that was.
            (entry.start_time, entry.last_request_timestamp) = (like.start_time, like.last_request_timestamp);
            assert!((entry.total_response_time - like.total_response_time).abs() < 1e-6);
            entry.total_response_time = like.total_response_time;
        }
        ours.errors.clone_from(&theirs.errors);
        assert_eq!(ours, theirs);
    }

    #[test]
    fn nothing_is_reported_twice_and_nothing_is_left_out() {
        let mut stats = Stats::new("naive");
        let failed = |text: &str| Outcome::of(Err(Failure::other(text)));
        let mut reported = (0, 0, 0);
        for round in 0..5 {
            for k in 0..round {
                stats.add("get script", Duration::from_millis(k), &Outcome::of(Ok(())));
                stats.add("first screen", Duration::from_millis(k), &failed("no"));
            }
            let report = stats.report(Users::new());
            assert_eq!(report.stats.len(), if round == 0 { 0 } else { 2 });
            reported.0 += report.stats.iter().map(|entry| entry.num_requests).sum::<u64>();
            reported.1 += report.stats_total.num_requests;
            reported.2 += report.errors.values().map(|error| error.occurrences).sum::<u64>();
        }
        assert_eq!(reported, (20, 20, 10));
        assert_eq!(stats.in_all(), "20 iterations, of which 10 failed");
    }

    #[test]
    fn kinds_of_failures_have_a_bound_over_all_reports() {
        let mut stats = Stats::new("naive");
        let mut kinds = std::collections::BTreeSet::new();
        let mut occurrences = 0;
        for k in 0..1_000 {
            stats.add("get script", Duration::ZERO, &Outcome::of(Err(Failure::other(format!("HTTP 400 {k}")))));
            if k % 7 == 0 {
                let report = stats.report(Users::new());
                occurrences += report.errors.values().map(|error| error.occurrences).sum::<u64>();
                kinds.extend(report.errors.into_keys());
            }
        }
        assert!(kinds.len() <= KINDS + 1, "{}", kinds.len());
        assert_eq!(occurrences, 995);
    }

    #[test]
    fn times_are_rounded_as_locust_rounds_them() {
        for (ms, to) in [
            (0.0, 0),
            (0.5, 0),
            (1.5, 2),
            (99.5, 100),
            (104.9, 100),
            (105.0, 100),
            (115.0, 120),
            (147.0, 150),
            (995.0, 1_000),
            (1_050.0, 1_000),
            (1_150.0, 1_200),
            (3_432.5, 3_400),
            (9_950.0, 10_000),
            (10_500.0, 10_000),
            (58_760.0, 59_000),
            (86_400_000.0, 86_400_000),
        ] {
            assert_eq!(bucket(ms), to, "{ms}");
        }
    }
}
