//! A window of a quota: so many requests until it ends, as the answers that were counted in it tell.

use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;

use crate::random::Random;
use crate::retry::after;

/// The headers tell whole seconds, rounded to either side.
pub(super) const ROUNDING: Duration = Duration::from_secs(1);
/// A new window is used this much later at most, by chance, so that processes that share a token do not come at once.
pub(super) const SPREAD: Duration = Duration::from_millis(250);

/// What an answer says about the window that it was counted in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QuotaHeaders {
    pub(crate) allowed: Option<u32>,
    pub(crate) count: Option<u32>,
    pub(crate) reset: Option<Duration>,
}

impl QuotaHeaders {
    /// Whole numbers; what is too large is the largest there is. Anything else, and what is said more than once, is not said.
    pub(crate) fn parse(headers: &HeaderMap) -> Self {
        let number = |name| {
            let mut lines = headers.get_all(name).iter();
            let value = lines.next().filter(|_| lines.next().is_none())?.to_str().ok()?.trim_matches([' ', '\t']);
            let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| value.parse::<u32>().unwrap_or(u32::MAX))
        };
        Self {
            // None at all is no quota: the token could never be used.
            allowed: number("inin-ratelimit-allowed").filter(|allowed| *allowed > 0),
            count: number("inin-ratelimit-count"),
            reset: number("inin-ratelimit-reset").map(|seconds| Duration::from_secs(seconds.into())),
        }
    }

    /// All that an answer, sent and received then, tells of its window, if it tells all. No window is taken to last longer than
    /// the cap.
    pub(super) fn told(self, sent: Instant, now: Instant, cap: Duration) -> Option<Told> {
        let (allowed, count, reset) = (self.allowed?, self.count?, self.reset?.min(cap));
        let latest = after(now, reset);
        let earliest = after(sent, reset.saturating_sub(ROUNDING)).min(latest);
        Some(Told { allowed, count, reset, sent, earliest, latest })
    }
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
}

/// The headers of an answer, all three, with when the request was sent and its window so ends.
#[derive(Clone, Copy)]
pub(super) struct Told {
    allowed: u32,
    count: u32,
    reset: Duration,
    sent: Instant,
    earliest: Instant,
    latest: Instant,
}

impl Window {
    pub(super) fn new(number: u64, told: &Told, now: Instant, random: &Random) -> Self {
        Self {
            number,
            allowed: told.allowed,
            used: told.count,
            used_since: now,
            ends: Some((told.earliest, told.latest)),
            ended: None,
            length: told.reset,
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
    pub(super) fn is_over_for(&self, told: &Told) -> bool {
        self.ended.is_some_and(|ended| told.earliest < ended) || self.ends.is_some_and(|ends| told.latest < ends.0)
    }

    /// Whether an answer may have been counted in this window: as much allowed, an end that agrees, and no count below what
    /// was shown before its request was sent.
    pub(super) fn may_be_of(&self, told: &Told) -> bool {
        let ends_agree = self.ends.is_none_or(|ends| told.earliest <= ends.1 && ends.0 <= told.latest);
        told.allowed == self.allowed && ends_agree && !(told.count < self.used && self.used_since < told.sent)
    }

    pub(super) fn note(&mut self, told: &Told, now: Instant) {
        let ends = match self.ends {
            Some(ends) if told.earliest <= ends.1 => (ends.0.max(told.earliest), ends.1.min(told.latest)),
            // The one before was over a little earlier than it was here.
            Some(_) => {
                (self.used, self.used_since) = (0, now);
                (told.earliest, told.latest)
            }
            None => (told.earliest, told.latest),
        };
        self.ends = Some(ends);
        self.allowed = told.allowed;
        self.length = self.length.max(told.reset);
        if told.count > self.used {
            (self.used, self.used_since) = (told.count, now);
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
        assert_eq!(
            parse(&all),
            QuotaHeaders { allowed: Some(300), count: Some(7), reset: Some(Duration::from_secs(60)) }
        );
        for odd in ["", "-1", "1.5", "many", "+3"] {
            assert_eq!(parse(&[("inin-ratelimit-count", odd)]).count, None, "{odd}");
        }
        assert_eq!(parse(&[("inin-ratelimit-allowed", "0")]).allowed, None);
        assert_eq!(parse(&[("inin-ratelimit-count", "99999999999999999999")]).count, Some(u32::MAX));
        assert_eq!(parse(&[("inin-ratelimit-count", "1"), ("inin-ratelimit-count", "2")]).count, None);
    }
}
