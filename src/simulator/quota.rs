//! The fixed window of 60 s that both the quota of a token and the login limit of a client use.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

const LENGTH: Duration = Duration::from_secs(60);

/// Opened by the first request after the last window ended; refused requests do not count.
#[derive(Default)]
pub(super) struct Window {
    opened: Option<Instant>,
    count: u32,
}

/// How a window stood when a request asked for its share.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    pub(super) allowed: u32,
    pub(super) count: u32,
    /// Seconds until the window ends, rounded up.
    pub(super) reset: u64,
    pub(super) refused: bool,
}

impl Window {
    pub(super) fn take(&mut self, limit: u32, now: Instant) -> Standing {
        let opened = match self.opened {
            Some(opened) if now < opened + LENGTH => opened,
            _ => {
                self.count = 0;
                *self.opened.insert(now)
            }
        };
        let refused = self.count >= limit;
        if !refused {
            self.count += 1;
        }
        let left = (opened + LENGTH).saturating_duration_since(now);
        let reset = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Standing { allowed: limit, count: self.count, reset, refused }
    }
}

impl Standing {
    pub(super) fn write(self, headers: &mut HeaderMap) {
        headers.insert("inin-ratelimit-count", HeaderValue::from(self.count));
        headers.insert("inin-ratelimit-allowed", HeaderValue::from(self.allowed));
        headers.insert("inin-ratelimit-reset", HeaderValue::from(self.reset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_opened_by_its_first_request_and_lasts_sixty_seconds() {
        let start = Instant::now();
        let mut window = Window::default();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(window.take(2, at(0)).reset, 60);
        let second = window.take(2, at(1));
        assert_eq!((second.count, second.reset, second.refused), (2, 60, false));
        let third = window.take(2, at(59_999));
        assert_eq!((third.count, third.reset, third.refused), (2, 1, true));
        let next = window.take(2, at(60_000));
        assert_eq!((next.count, next.reset, next.refused), (1, 60, false));
        // The next window begins with the next request, not at a fixed beat.
        assert_eq!(window.take(2, at(150_500)).reset, 60);
    }
}
