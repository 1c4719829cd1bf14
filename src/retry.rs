//! When a call is tried again, and after how long: the policy's delays, and `Retry-After` (RFC 9110 §10.2.3), read without
//! trusting it.

use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, ExponentialBuilder};
use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use tokio::time::Instant;

/// How failures are retried; set by [`ClientBuilder::retry`](crate::ClientBuilder::retry).
///
/// Throttling (429 and throttled logins) is no failure: its waits are bounded by the call's deadline, and while 429s do not say
/// how long, by [`attempt_timeout`](crate::ClientBuilder::attempt_timeout) (15 s). No wait is begun that would outlast the
/// deadline. There is no budget that calls share.
///
/// ```
/// use genesys_scripts::RetryPolicy;
/// use std::time::Duration;
///
/// let policy = RetryPolicy::default().with_attempts(3).with_max_backoff(Duration::from_secs(10));
/// assert_eq!(policy.attempts, 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The most attempts of one call that may end in a failure, the first included. Default 8; 1 switches retries off.
    pub attempts: u32,
    /// The bound on the first backoff. Default 100 ms. The delay drawn is uniform in [0, bound] (full jitter).
    pub initial_backoff: Duration,
    /// By what each bound exceeds the one before. Default 2; below 1 is read as 1.
    pub factor: f32,
    /// The most a bound grows to. Default 5 s.
    pub max_backoff: Duration,
    /// The longest `Retry-After` that is obeyed; beyond it the answer is returned at once. Default 180 s.
    pub retry_after_cap: Duration,
    /// Whether a call waits for an outage until its own time is over. Default: no; one that is made when an outage is older
    /// than an attempt may take ([`attempt_timeout`](crate::ClientBuilder::attempt_timeout), 15 s) waits for one more probe, one
    /// that was made before until it is 25 s old itself; then it fails with
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) and when the service is asked again. For a limit (429) that
    /// does not say when it ends a call waits as long as an attempt may take.
    pub ride_out_outages: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 8,
            initial_backoff: Duration::from_millis(100),
            factor: 2.0,
            max_backoff: Duration::from_secs(5),
            retry_after_cap: Duration::from_secs(180),
            ride_out_outages: false,
        }
    }
}

impl RetryPolicy {
    /// With another [`attempts`](Self::attempts).
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// With another [`initial_backoff`](Self::initial_backoff).
    #[must_use]
    pub fn with_initial_backoff(mut self, initial_backoff: Duration) -> Self {
        self.initial_backoff = initial_backoff;
        self
    }

    /// With another [`factor`](Self::factor).
    #[must_use]
    pub fn with_factor(mut self, factor: f32) -> Self {
        self.factor = factor;
        self
    }

    /// With another [`max_backoff`](Self::max_backoff).
    #[must_use]
    pub fn with_max_backoff(mut self, max_backoff: Duration) -> Self {
        self.max_backoff = max_backoff;
        self
    }

    /// With another [`retry_after_cap`](Self::retry_after_cap).
    #[must_use]
    pub fn with_retry_after_cap(mut self, retry_after_cap: Duration) -> Self {
        self.retry_after_cap = retry_after_cap;
        self
    }

    /// With another [`ride_out_outages`](Self::ride_out_outages).
    #[must_use]
    pub fn with_ride_out_outages(mut self, ride_out_outages: bool) -> Self {
        self.ride_out_outages = ride_out_outages;
        self
    }

    /// The bound on the backoff after so many earlier failures. Jitter is drawn apart, below it: backon's own is added on top
    /// of its cap.
    pub(crate) fn backoff_bound(&self, failures: u32) -> Duration {
        let exponential = ExponentialBuilder::new()
            .with_min_delay(self.initial_backoff.min(self.max_backoff))
            .with_factor(if self.factor >= 1.0 && self.factor.is_finite() { self.factor } else { 1.0 })
            .with_max_delay(self.max_backoff)
            .without_max_times();
        // By then any growth worth the name is over the cap.
        let bound = exponential.build().nth(failures.min(10_000) as usize);
        bound.unwrap_or(self.max_backoff).min(self.max_backoff)
    }
}

/// `from + wait`, or so far ahead that it makes no difference.
pub(crate) fn after(from: Instant, wait: Duration) -> Instant {
    const AGES: Duration = Duration::from_secs(60 * 60 * 24 * 365);
    from.checked_add(wait.min(AGES)).unwrap_or(from)
}

/// The wait that `Retry-After` asks for, if it says anything that can be read; however long.
///
/// Seconds (`1*DIGIT`, saturating) or any of the three date forms of RFC 9110 §5.6.7, against the answer's
/// own `Date` where there is one, as the two clocks may differ. Of several lines the largest holds. What
/// is not of these forms (`-5`, `1.5`, `5s`, empty) says nothing.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let now = headers.get(DATE).and_then(|date| http_date(date.to_str().ok()?)).unwrap_or(now);
    let delays = headers.get_all(RETRY_AFTER).iter();
    delays.filter_map(|value| delay(value.to_str().ok()?.trim_matches([' ', '\t']), now)).max()
}

fn delay(value: &str, now: SystemTime) -> Option<Duration> {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = http_date(value)?;
    Some(at.duration_since(now).unwrap_or(Duration::ZERO))
}

fn http_date(value: &str) -> Option<SystemTime> {
    // A leap second is allowed (second 60), which the parser does not know: read it as second 59 and add one.
    if value.contains(":60 ") {
        return httpdate::parse_http_date(&value.replacen(":60 ", ":59 ", 1)).ok()?.checked_add(Duration::from_secs(1));
    }
    httpdate::parse_http_date(value).ok()
}

/// The wait named in the text of a 429: "… Retry the request in [42] seconds", as the service writes it.
pub(crate) fn hint(message: &str) -> Option<Duration> {
    let (_, rest) = message.split_once("Retry the request in [")?;
    let (digits, _) = rest.split_once("] seconds")?;
    delay(digits, SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bounds(initial: f64, cap: f64, count: u32) -> Vec<f64> {
        let policy = RetryPolicy {
            initial_backoff: Duration::from_secs_f64(initial),
            max_backoff: Duration::from_secs_f64(cap),
            ..RetryPolicy::default()
        };
        (0..count).map(|n| (policy.backoff_bound(n).as_secs_f64() * 1000.0).round() / 1000.0).collect()
    }

    #[test]
    fn published_vectors() {
        assert_eq!(bounds(1.0, 20.0, 4), [1.0, 2.0, 4.0, 8.0], "of the AWS SDKs");
        assert_eq!(bounds(1.0, 3.0, 4), [1.0, 2.0, 3.0, 3.0], "of the AWS SDKs");
        assert_eq!(bounds(1.0, 20.0, 33).last(), Some(&20.0), "of the AWS SDKs");
        assert_eq!(bounds(10.0, 20.0, 1_000).last(), Some(&20.0), "of the AWS SDKs");
        assert_eq!(bounds(1.0, 20.0, 3), [1.0, 2.0, 4.0], "of the AWS SDKs");
        assert_eq!(bounds(3.0, 20.0, 3), [3.0, 6.0, 12.0], "of the AWS SDKs");
        assert_eq!(bounds(0.03, 20.0, 3), [0.03, 0.06, 0.12], "of the AWS SDKs");
        assert_eq!(bounds(1.0, 4.0, 4), [1.0, 2.0, 4.0, 4.0], "of Google's gax");
    }

    #[test]
    fn each_setter_changes_its_own_field_alone() {
        let (default, time) = (RetryPolicy::default(), Duration::from_secs(7));
        assert_eq!(default.with_attempts(3), RetryPolicy { attempts: 3, ..default });
        assert_eq!(default.with_initial_backoff(time), RetryPolicy { initial_backoff: time, ..default });
        assert_eq!(default.with_factor(1.5), RetryPolicy { factor: 1.5, ..default });
        assert_eq!(default.with_max_backoff(time), RetryPolicy { max_backoff: time, ..default });
        assert_eq!(default.with_retry_after_cap(time), RetryPolicy { retry_after_cap: time, ..default });
        assert_eq!(default.with_ride_out_outages(true), RetryPolicy { ride_out_outages: true, ..default });
    }

    #[test]
    fn a_first_backoff_above_the_cap_is_the_cap() {
        assert_eq!(bounds(30.0, 4.0, 3), [4.0, 4.0, 4.0]);
    }

    #[test]
    fn a_factor_that_is_no_growth_is_constant() {
        for factor in [0.0, -3.0, f32::NAN, f32::INFINITY] {
            let policy = RetryPolicy { factor, ..RetryPolicy::default() };
            assert!((0..5).all(|n| policy.backoff_bound(n).as_millis() == 100), "{factor}");
        }
    }

    /// Sun, 06 Nov 1994 08:49:37 GMT
    const NOW: Duration = Duration::from_secs(784_111_777);

    fn of(values: &[&str]) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(RETRY_AFTER, value.parse().unwrap());
        }
        retry_after(&headers, SystemTime::UNIX_EPOCH + NOW)
    }

    fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn seconds_in_every_shape() {
        assert_eq!(of(&["0"]), seconds(0));
        assert_eq!(of(&["120"]), seconds(120));
        assert_eq!(of(&[" 120 "]), seconds(120));
        assert_eq!(of(&["007"]), seconds(7));
        assert_eq!(of(&["180"]), seconds(180));
        assert_eq!(of(&["181"]), seconds(181));
        assert_eq!(of(&["86400"]), seconds(86_400));
        assert_eq!(of(&["18446744073709551616"]), seconds(u64::MAX));
        for nothing in ["", "+5", "-5", "1.5", "5s", "soon", "１２"] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, http::HeaderValue::from_bytes(nothing.as_bytes()).unwrap());
            assert_eq!(retry_after(&headers, SystemTime::UNIX_EPOCH), None, "{nothing}");
        }
    }

    #[test]
    fn all_three_date_forms_and_a_leap_second() {
        for date in ["Sun, 06 Nov 1994 08:50:37 GMT", "Sunday, 06-Nov-94 08:50:37 GMT", "Sun Nov  6 08:50:37 1994"] {
            assert_eq!(of(&[date]), seconds(60), "{date}");
        }
        assert_eq!(of(&["Sun, 06 Nov 1994 08:49:60 GMT"]), seconds(23));
        assert_eq!(of(&["Sun, 06 Nov 1994 08:00:00 GMT"]), seconds(0));
        assert!(of(&["Fri, 31 Dec 9999 23:59:59 GMT"]) > seconds(1_000_000));
    }

    #[test]
    fn a_date_is_read_against_the_answers_own_clock() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Sun, 06 Nov 1994 08:40:00 GMT".parse().unwrap());
        headers.insert(RETRY_AFTER, "Sun, 06 Nov 1994 08:40:30 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers, SystemTime::UNIX_EPOCH + NOW), seconds(30));
    }

    #[test]
    fn of_two_lines_the_larger_holds() {
        assert_eq!(of(&["2", "9", "x"]), seconds(9));
    }

    #[test]
    fn the_hint_in_the_body_is_read_only_in_its_own_form() {
        let text = "Rate limit exceeded the maximum. Retry the request in [42] seconds";
        assert_eq!(hint(text), seconds(42));
        assert_eq!(hint("Retry the request in [-1] seconds"), None);
        assert_eq!(hint("Retry the request in [99999999999999999999] seconds"), seconds(u64::MAX));
        assert_eq!(hint("Retry soon"), None);
    }
}
