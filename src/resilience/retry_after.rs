//! `Retry-After` (RFC 9110 §10.2.3), read without trusting it.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

/// What the service asks, held against the most we are willing to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Wait at least this long. Never above the cap.
    AtLeast(Duration),
    /// It asks for more than the cap; the wait it asked for.
    BeyondCap(Duration),
}

impl Wait {
    pub(crate) fn of(wait: Duration, cap: Duration) -> Self {
        if wait > cap { Self::BeyondCap(wait) } else { Self::AtLeast(wait) }
    }
}

/// The wait that `Retry-After` asks for, if it says anything that can be read.
///
/// Seconds (`1*DIGIT`, saturating) or any of the three date forms of RFC 9110 §5.6.7, against the answer's
/// own `Date` where there is one, as the two clocks may differ. Of several lines the largest holds. What
/// is not of these forms (`-5`, `1.5`, `5s`, empty) says nothing.
pub(crate) fn read(headers: &HeaderMap, now: SystemTime, cap: Duration) -> Option<Wait> {
    let now = headers.get(DATE).and_then(|date| http_date(date.to_str().ok()?)).unwrap_or(now);
    headers
        .get_all(RETRY_AFTER)
        .iter()
        .filter_map(|value| delay(value.to_str().ok()?.trim_matches([' ', '\t']), now))
        .max()
        .map(|wait| Wait::of(wait, cap))
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

/// The wait named in the text of a 429: "… Retry the request in [42] seconds" (contract §7).
pub(crate) fn hint(message: &str, cap: Duration) -> Option<Wait> {
    let (_, rest) = message.split_once("Retry the request in [")?;
    let (digits, _) = rest.split_once("] seconds")?;
    delay(digits, SystemTime::UNIX_EPOCH).map(|wait| Wait::of(wait, cap))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CAP: Duration = Duration::from_secs(180);
    /// Sun, 06 Nov 1994 08:49:37 GMT
    const NOW: Duration = Duration::from_secs(784_111_777);

    fn of(values: &[&str]) -> Option<Wait> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(RETRY_AFTER, value.parse().unwrap());
        }
        read(&headers, SystemTime::UNIX_EPOCH + NOW, CAP)
    }

    fn seconds(seconds: u64) -> Option<Wait> {
        Some(Wait::AtLeast(Duration::from_secs(seconds)))
    }

    #[test]
    fn seconds_in_every_shape() {
        assert_eq!(of(&["0"]), seconds(0));
        assert_eq!(of(&["120"]), seconds(120));
        assert_eq!(of(&[" 120 "]), seconds(120));
        assert_eq!(of(&["007"]), seconds(7));
        assert_eq!(of(&["180"]), seconds(180));
        assert_eq!(of(&["181"]), Some(Wait::BeyondCap(Duration::from_secs(181))));
        assert_eq!(of(&["86400"]), Some(Wait::BeyondCap(Duration::from_secs(86_400))));
        assert_eq!(of(&["18446744073709551616"]), Some(Wait::BeyondCap(Duration::from_secs(u64::MAX))));
        for nothing in ["", "+5", "-5", "1.5", "5s", "soon", "１２"] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, http::HeaderValue::from_bytes(nothing.as_bytes()).unwrap());
            assert_eq!(read(&headers, SystemTime::UNIX_EPOCH, CAP), None, "{nothing}");
        }
    }

    #[test]
    fn all_three_date_forms_and_a_leap_second() {
        for date in ["Sun, 06 Nov 1994 08:50:37 GMT", "Sunday, 06-Nov-94 08:50:37 GMT", "Sun Nov  6 08:50:37 1994"] {
            assert_eq!(of(&[date]), seconds(60), "{date}");
        }
        assert_eq!(of(&["Sun, 06 Nov 1994 08:49:60 GMT"]), seconds(23));
        assert_eq!(of(&["Sun, 06 Nov 1994 08:00:00 GMT"]), seconds(0));
        assert!(matches!(of(&["Fri, 31 Dec 9999 23:59:59 GMT"]), Some(Wait::BeyondCap(_))));
    }

    #[test]
    fn a_date_is_read_against_the_answers_own_clock() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, "Sun, 06 Nov 1994 08:40:00 GMT".parse().unwrap());
        headers.insert(RETRY_AFTER, "Sun, 06 Nov 1994 08:40:30 GMT".parse().unwrap());
        assert_eq!(read(&headers, SystemTime::UNIX_EPOCH + NOW, CAP), seconds(30));
    }

    #[test]
    fn of_two_lines_the_larger_holds() {
        assert_eq!(of(&["2", "9", "x"]), seconds(9));
    }

    #[test]
    fn the_hint_in_the_body_is_read_only_in_its_own_form() {
        let text = "Rate limit exceeded the maximum. Retry the request in [42] seconds";
        assert_eq!(hint(text, CAP), seconds(42));
        assert_eq!(hint("Retry the request in [-1] seconds", CAP), None);
        assert_eq!(
            hint("Retry the request in [99999999999999999999] seconds", CAP),
            Some(Wait::BeyondCap(Duration::from_secs(u64::MAX)))
        );
        assert_eq!(hint("Retry soon", CAP), None);
    }
}
