//! A window of a quota: so many requests until it ends, as the answers that were counted in it tell.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::random::Random;
use crate::retry::after;

/// The headers tell whole seconds, rounded to either side.
pub(super) const ROUNDING: Duration = Duration::from_secs(1);
/// A new window is used this much later at most, by chance, so that processes that share a token do not come at once.
pub(super) const SPREAD: Duration = Duration::from_millis(250);

/// What an answer says about the window that it was counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuotaHeaders {
    pub(crate) allowed: u32,
    pub(crate) count: u32,
    pub(crate) reset: Duration,
}

impl QuotaHeaders {
    /// Whole numbers; what is too large is the largest there is. Anything else, and what is said more than once, is not said; and
    /// no window is known without all three.
    pub(crate) fn parse(headers: &HeaderMap) -> Option<Self> {
        let (mut allowed, mut count, mut reset) = (None, None, None);
        // Looked through once, which takes less than to look three up.
        for (name, value) in headers {
            let said = match name.as_str() {
                "inin-ratelimit-allowed" => &mut allowed,
                "inin-ratelimit-count" => &mut count,
                "inin-ratelimit-reset" => &mut reset,
                _ => continue,
            };
            if said.replace(value).is_some() {
                return None;
            }
        }
        Some(Self {
            // None at all is no quota: the token could never be used.
            allowed: number(allowed?).filter(|allowed| *allowed > 0)?,
            count: number(count?)?,
            reset: Duration::from_secs(number(reset?)?.into()),
        })
    }

    /// What they are worth where the answer was sent and received then. No window is taken to last longer than the cap.
    pub(super) fn observed(self, sent: Instant, now: Instant, cap: Duration) -> Observed {
        let told = Self { reset: self.reset.min(cap), ..self };
        let latest = after(now, told.reset);
        let earliest = after(sent, told.reset.saturating_sub(ROUNDING)).min(latest);
        Observed { told, sent, now, ends: (earliest, latest) }
    }
}

fn number(value: &HeaderValue) -> Option<u32> {
    let digits = value.as_bytes().trim_ascii();
    let append = |number: u32, digit: &u8| match digit {
        b'0'..=b'9' => Some(number.saturating_mul(10).saturating_add(u32::from(digit - b'0'))),
        _ => None,
    };
    digits.first()?;
    digits.iter().try_fold(0, append)
}

/// The headers of an answer, with when it was sent and received, and between when and when its window so ends.
#[derive(Clone, Copy)]
pub(super) struct Observed {
    told: QuotaHeaders,
    sent: Instant,
    now: Instant,
    ends: (Instant, Instant),
}

/// See the module.
pub(super) struct Window {
    pub(super) number: u64,
    pub(super) allowed: u32,
    /// The highest count shown since it began, and since when.
    pub(super) used: u32,
    used_since: Instant,
    /// Between when and when it ends, by what every answer told; none where a new one has begun and none told yet.
    pub(super) ends: Option<(Instant, Instant)>,
    /// When the one before had ended at the latest: what speaks of that one is late.
    ended: Option<Instant>,
    /// The longest it was said to last.
    pub(super) length: Duration,
    spread: Duration,
    /// It was told apart from one that looked the same: they are two, however much they look alike.
    pub(super) apart: bool,
}

impl Window {
    pub(super) fn new(number: u64, seen: &Observed, apart: bool, random: &Random) -> Self {
        Self {
            number,
            apart,
            allowed: seen.told.allowed,
            used: seen.told.count,
            used_since: seen.now,
            ends: Some(seen.ends),
            ended: None,
            length: seen.told.reset,
            spread: random.below(SPREAD),
        }
    }

    /// Where it is over, the next one begins.
    pub(super) fn turn(&mut self, now: Instant, random: &Random) {
        if self.reopens().is_some_and(|at| now >= at) {
            self.ended = self.ends.take().map(|(_, latest)| latest);
            (self.used, self.used_since) = (0, now);
            self.spread = random.below(SPREAD);
        }
    }

    /// When the next one is used.
    pub(super) fn reopens(&self) -> Option<Instant> {
        self.ends.map(|(_, latest)| after(latest, self.spread))
    }

    /// Whether an answer is late, and speaks of the window before.
    pub(super) fn is_over_for(&self, seen: &Observed) -> bool {
        self.ended.is_some_and(|ended| seen.ends.0 < ended) || self.ends.is_some_and(|ends| seen.ends.1 < ends.0)
    }

    /// Whether an answer may have been counted in this window: as much allowed, an end that agrees, and no count below what
    /// was shown before its request was sent.
    pub(super) fn may_be_of(&self, seen: &Observed) -> bool {
        self.looks_like(seen) && !self.counts_apart(seen)
    }

    /// Whether an answer that looks as if it were of this window was counted in another one.
    pub(super) fn is_apart_from(&self, seen: &Observed) -> bool {
        self.looks_like(seen) && self.counts_apart(seen)
    }

    fn looks_like(&self, seen: &Observed) -> bool {
        let ends_agree = self.ends.is_none_or(|ends| seen.ends.0 <= ends.1 && ends.0 <= seen.ends.1);
        seen.told.allowed == self.allowed && ends_agree
    }

    fn counts_apart(&self, seen: &Observed) -> bool {
        seen.told.count < self.used && self.used_since < seen.sent
    }

    pub(super) fn note(&mut self, seen: &Observed) {
        let ends = self.ends.filter(|ends| seen.ends.0 <= ends.1);
        if ends.is_none() && self.ends.is_some() {
            // The one before was over a little earlier than it was here.
            (self.used, self.used_since) = (0, seen.now);
        }
        self.ends = Some(ends.map_or(seen.ends, |ends| (ends.0.max(seen.ends.0), ends.1.min(seen.ends.1))));
        self.allowed = seen.told.allowed;
        self.length = self.length.max(seen.told.reset);
        if seen.told.count > self.used {
            (self.used, self.used_since) = (seen.told.count, seen.now);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn headers_that_are_no_numbers_are_not_said() {
        let parse = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            QuotaHeaders::parse(&headers)
        };
        let all = [("inin-ratelimit-allowed", "300"), ("inin-ratelimit-count", " 7 "), ("inin-ratelimit-reset", "60")];
        let said = QuotaHeaders { allowed: 300, count: 7, reset: Duration::from_secs(60) };
        assert_eq!(parse(&all), Some(said));
        for number in 0..3 {
            for odd in ["", "-1", "1.5", "many", "+3"] {
                let mut pairs = all;
                pairs[number].1 = odd;
                assert_eq!(parse(&pairs), None, "{pairs:?}");
            }
            let missing: Vec<_> =
                all.into_iter().enumerate().filter(|(at, _)| *at != number).map(|(_, one)| one).collect();
            assert_eq!(parse(&missing), None, "{missing:?}");
            assert_eq!(parse(&[&all[..], &all[number..=number]].concat()), None, "twice");
        }
        assert_eq!(parse(&[("inin-ratelimit-allowed", "0"), all[1], all[2]]), None);
        let many = parse(&[all[0], ("inin-ratelimit-count", "99999999999999999999"), all[2]]);
        assert_eq!(many, Some(QuotaHeaders { count: u32::MAX, ..said }));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_belongs_to_the_window_that_it_may_have_been_counted_in() {
        let (begun, random) = (Instant::now(), Random::new(Some(1)));
        let at = |seconds| begun + Duration::from_secs(seconds);
        let seen = |allowed, count, reset, sent: u64| {
            let headers = QuotaHeaders { allowed, count, reset: Duration::from_secs(reset) };
            headers.observed(at(sent), at(sent), Duration::from_secs(3_600))
        };
        let mut window = Window::new(1, &seen(300, 10, 60, 0), false, &random);
        for (allowed, count, reset, sent, may_be) in [
            (300, 11, 59, 1, true),
            (299, 11, 59, 1, false),
            // Seconds are rounded to either side.
            (300, 11, 60, 1, true),
            (300, 11, 58, 1, true),
            (300, 11, 70, 1, false),
            (300, 11, 40, 1, false),
            // What was sent after a count was shown is counted above it.
            (300, 10, 59, 1, true),
            (300, 9, 59, 1, false),
            (300, 9, 60, 0, true),
        ] {
            let is = window.may_be_of(&seen(allowed, count, reset, sent));
            assert_eq!(is, may_be, "{allowed} {count} {reset} {sent}");
        }
        let is_late = |window: &Window, reset| window.is_over_for(&seen(300, 11, reset, 1));
        assert_eq!([40, 58, 60].map(|reset| is_late(&window, reset)), [true, false, false]);
        window.turn(at(60) + SPREAD, &random);
        assert_eq!((window.used, window.ends), (0, None));
        assert_eq!([40, 58, 60].map(|reset| is_late(&window, reset)), [true, true, false]);
    }
}
