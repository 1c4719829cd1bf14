//! `Retry-After`: waits that the service asks for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use http::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use tokio::time::Instant;

use super::number;
use super::service::{self, Answer};
use crate::{Credentials, Error, RetryPolicy, ScriptId};

/// Whatever `Retry-After` says, and whatever the clock: a call waits at least as long, at most as long as the cap, and where it
/// is asked to wait longer it says so at once. A date and the seconds until then are the same.
///
/// Lines: the clock in seconds from 1970 (negative before), the cap in seconds, then header lines: `Date: …`, all else is
/// the value of a `Retry-After`.
pub fn retry_after(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let now = clock(number(lines.next().unwrap_or_default()));
    let cap = number(lines.next().unwrap_or_default()).clamp(0, MOST_SECONDS);
    let cap = Duration::from_secs(u64::try_from(cap).unwrap_or(0));
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.strip_prefix("Date: ").map_or((RETRY_AFTER, line), |date| (DATE, date));
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(name, value);
        }
    }
    let waited = wait(503, &headers, now, cap, Duration::ZERO);
    // A limit's waits are spread a little, and where none is said they are of the client's own.
    let throttled = wait(429, &headers, now, cap, Duration::from_millis(250));
    let asked = headers.get_all(RETRY_AFTER).iter().filter_map(|line| asked(line, &headers, now)).max();
    if let Some(asked) = asked {
        assert_eq!(waited, if asked > cap { Outcome::BeyondCap(asked) } else { Outcome::Waited(asked) }, "{headers:?}");
        if asked > cap {
            assert_eq!(throttled, waited, "{headers:?}");
        } else if let Outcome::Waited(waited) = throttled {
            assert!(waited >= asked, "{waited:?} of {asked:?}");
        }
        let ends = now.checked_add(asked).filter(|_| !headers.contains_key(DATE));
        if let Some(date) = ends.and_then(date) {
            let as_date = HeaderMap::from_iter([(RETRY_AFTER, date)]);
            assert_eq!(wait(503, &as_date, now, cap, Duration::ZERO), waited, "{as_date:?} and {headers:?}");
        }
    }
}

/// No deadline of a call is later, nor any date that HTTP can say.
const MOST_SECONDS: i128 = 10_000_000;

#[derive(Debug, PartialEq)]
enum Outcome {
    Waited(Duration),
    BeyondCap(Duration),
}

/// What a call does with such an answer. `spread`: so much longer than asked it may wait.
fn wait(status: u16, headers: &HeaderMap, now: SystemTime, cap: Duration, spread: Duration) -> Outcome {
    let (headers, requests) = (headers.clone(), AtomicU32::new(0));
    let policy = RetryPolicy {
        retry_after_cap: cap,
        initial_backoff: Duration::ZERO,
        max_backoff: Duration::ZERO,
        ..RetryPolicy::default()
    };
    let client = service::client(move |_| match requests.fetch_add(1, Ordering::Relaxed) {
        0 => Answer { headers: headers.clone(), ..Answer::new(status, "") },
        _ => Answer::new(200, r#"{"id":"a"}"#),
    });
    let client = client.retry(policy).wall_clock(move || now).call_timeout(2 * Duration::from_secs(10_000_000));
    let id: ScriptId = "a".parse().expect("an id");
    service::run(async {
        let agent = client.build().expect("a client").agent(Credentials::access_token("t"));
        let started = Instant::now();
        let result: Result<_, Error> = agent.script(&id).await;
        let waited = started.elapsed();
        match result {
            Ok(_) => {
                assert!(waited <= cap + spread + Duration::from_millis(1), "{waited:?} is above the cap of {cap:?}");
                Outcome::Waited(Duration::from_secs(waited.as_secs()))
            }
            Err(error) => {
                assert!(waited < Duration::from_millis(1), "{waited:?} for nothing: {error}");
                assert_eq!(error.status(), Some(status), "{error}");
                let asked = error.retry_after().unwrap_or_else(|| panic!("{error}"));
                assert!(asked > cap, "{asked:?} is within the cap of {cap:?}: {error}");
                Outcome::BeyondCap(asked)
            }
        }
    })
}

/// What a line asks for, where it is of the two forms.
fn asked(line: &HeaderValue, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = line.to_str().ok()?.trim_matches([' ', '\t']);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = |text: &str| {
        // A leap second is the one after it.
        let leap = Duration::from_secs(text.contains(":60 ").into());
        httpdate::parse_http_date(&text.replacen(":60 ", ":59 ", 1)).ok()?.checked_add(leap)
    };
    let now = headers.get(DATE).and_then(|text| date(text.to_str().ok()?)).unwrap_or(now);
    Some(date(text)?.duration_since(now).unwrap_or_default())
}

/// As HTTP writes it, where it can.
fn date(at: SystemTime) -> Option<HeaderValue> {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    (seconds < 253_402_300_800).then(|| HeaderValue::try_from(httpdate::fmt_http_date(at)).expect("a date"))
}

/// That many seconds from 1970, or the last moment on that side that the platform can tell.
fn clock(seconds: i128) -> SystemTime {
    let mut distance = Duration::from_secs(u64::try_from(seconds.unsigned_abs()).unwrap_or(u64::MAX));
    loop {
        let at = if seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        };
        match at {
            Some(at) => return at,
            None => distance /= 2,
        }
    }
}
