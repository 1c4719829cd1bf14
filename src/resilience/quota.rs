//! When calls of one token may be sent, so that its quota is used up and never overrun.
//!
//! The service allows a token so many requests in a window (300 in 60 s by default), and says on each answer how it stands:
//! `inin-ratelimit-allowed`, `-count` and `-reset`. The window is taken to be fixed, opened by the first request after the
//! last one ended; refused requests do not count. Other processes may use the token too.
//!
//! Of a token of which nothing is known one call is in flight; the others wait for its answer. Where the answers carry no
//! headers, a limit is assumed, and what a 429 says about it is learnt. A replaced token has a gate of its own, which knows
//! nothing yet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::{Instant, timeout_at};

use super::queue::{Place, Queue};
use crate::random::Random;

/// Two ends of a window this close together are the same end, seen through the rounding to seconds and the network.
const SAME: Duration = Duration::from_secs(2);
/// What rounding up adds at most.
const ROUNDING: Duration = Duration::from_secs(1);

/// How the quota of a token is kept.
///
/// ```
/// use genesys_scripts::QuotaPolicy;
///
/// let mut policy = QuotaPolicy::default();
/// policy.assumed_limit = 600;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotaPolicy {
    /// Whether calls wait for the quota at all. Default: yes. Without, a 429 is still waited out by the call that got it.
    pub enabled: bool,
    /// How many requests a window allows where the service does not say so in headers. Default: 300, the documented
    /// `token.rate.per.minute`.
    pub assumed_limit: u32,
    /// How long a window lasts, where the service does not say so. Default: 60 s.
    pub assumed_window: Duration,
    /// A new window is used this much later at most, by chance, so that processes that share a token do not come at the same
    /// moment. Default: 250 ms.
    pub spread: Duration,
    /// No wait the service asks for is obeyed for longer. Default: 180 s.
    pub longest_wait: Duration,
    /// So many calls of a token may wait; more are refused at once. Default: 20,000.
    pub queue: usize,
}

impl Default for QuotaPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            assumed_limit: 300,
            assumed_window: Duration::from_secs(60),
            spread: Duration::from_millis(250),
            longest_wait: Duration::from_secs(180),
            queue: 20_000,
        }
    }
}

/// How the quota of a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotaStanding {
    /// Who says so.
    pub source: QuotaSource,
    /// Requests that a window allows.
    pub allowed: u32,
    /// Requests left in this window, those in flight taken off.
    pub remaining: u32,
    /// Until the next window, where that is known.
    pub resets_in: Option<Duration>,
    /// Calls that wait.
    pub waiting: usize,
}

/// Where the knowledge of a quota comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QuotaSource {
    /// Nothing was answered yet: one call is in flight to find out.
    Unknown,
    /// The answers do not tell; [`QuotaPolicy::assumed_limit`] holds, or what a 429 taught.
    Assumed,
    /// The headers of the answers.
    Told,
}

/// What an answer says about the quota.
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
}

/// The gate of one token.
pub(crate) struct QuotaGate {
    policy: QuotaPolicy,
    random: Arc<Random>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    source: QuotaSource,
    /// What a window allows.
    allowed: u32,
    /// How many of ours were served in a window before one was refused all the same: where no headers tell, or others use the
    /// token too. Beyond that many, they go by one, two, four. None while nothing unexpected was refused.
    learnt: Option<u32>,
    /// Counts the windows. An answer to an attempt of an earlier one may speak of that one.
    window: u64,
    /// The last attempt sent when one was refused in this window.
    refused: Option<u64>,
    /// Sent in this window.
    sent: u32,
    /// Of these, answered and not refused.
    served: u32,
    /// How many the headers say were counted in this window, by whomever they were sent.
    used: u32,
    /// Sent and not answered, of whatever window.
    in_flight: u32,
    /// About to be sent: promised to calls that were let through.
    promised: u32,
    /// Never answered; counted or not, nobody knows, until an answer to a later attempt: not before this number.
    lost: u32,
    lost_before: u64,
    attempts: u64,
    /// The earliest end of this window that an answer told of.
    ends: Option<Instant>,
    /// When it is over at the latest where none is answered: the first that was lost may have begun it.
    ends_unheard: Option<Instant>,
    /// Nothing is sent before, whatever the window allows: a 429 said so.
    shut: Option<Instant>,
    /// What is added to both.
    spread: Duration,
    /// 429s in a row that did not say how long to wait.
    blind: u32,
    retired: bool,
    queue: Queue,
}

/// Why a call may not be sent, nor wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QuotaRefused {
    pub(crate) why: QuotaRefusal,
    /// When it could be sent, as far as is known.
    pub(crate) available_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuotaRefusal {
    /// The quota would come after the deadline.
    TooLate,
    /// Too many wait.
    QueueFull,
    /// The token was replaced: ask the gate of the new one.
    Retired,
}

impl QuotaGate {
    pub(crate) fn new(policy: QuotaPolicy, random: Arc<Random>) -> Self {
        let state = State {
            source: QuotaSource::Unknown,
            allowed: policy.assumed_limit.max(1),
            learnt: None,
            window: 0,
            refused: None,
            sent: 0,
            served: 0,
            used: 0,
            in_flight: 0,
            promised: 0,
            lost: 0,
            lost_before: 0,
            attempts: 0,
            ends: None,
            ends_unheard: None,
            shut: None,
            spread: random.below(policy.spread),
            blind: 0,
            retired: false,
            queue: Queue::new(policy.queue),
        };
        Self { policy, random, state: Mutex::new(state) }
    }

    /// The turn of a call that began then: its place among those that wait.
    pub(crate) fn turn(&self, begun: Instant) -> Turn<'_> {
        Turn { gate: self, begun, promised: false }
    }

    /// Whether a call that comes now would have to wait.
    pub(crate) fn would_wait(&self) -> bool {
        let state = self.at(Instant::now());
        self.policy.enabled && !(state.queue.is_empty() && state.has_room())
    }

    /// The token was replaced. All who wait are sent away; what is in flight may still be answered.
    pub(crate) fn retire(&self) {
        let mut state = self.lock();
        state.retired = true;
        state.queue.wake_all();
    }

    pub(crate) fn standing(&self, now: Instant) -> QuotaStanding {
        let state = self.at(now);
        let limit = state.limit();
        let taken = state.spent().saturating_add(state.under_way());
        let remaining = if state.shut.is_some() { 0 } else { limit.saturating_sub(taken) };
        QuotaStanding {
            source: state.source,
            allowed: limit,
            remaining,
            resets_in: state.next_change().map(|at| at.saturating_duration_since(now)),
            waiting: state.queue.len(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state at this moment: windows that are over are over.
    fn at(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let spread = state.spread;
        if state.end().is_some_and(|end| now >= after(end, spread)) {
            self.begin_window(&mut state);
        }
        if state.shut.is_some_and(|shut| now >= after(shut, spread)) {
            state.shut = None;
        }
        state
    }

    fn begin_window(&self, state: &mut State) {
        if state.refused.is_none() {
            // All that was tried beyond what was learnt was served.
            state.learnt = state.learnt.map(|learnt| learnt.max(state.served));
        }
        state.window += 1;
        state.refused = None;
        state.sent = 0;
        state.served = 0;
        state.used = 0;
        state.lost = 0;
        state.ends = None;
        state.ends_unheard = None;
        state.spread = self.random.below(self.policy.spread);
    }

    /// What the headers say holds.
    fn told(&self, state: &mut State, window: u64, now: Instant, allowed: u32, count: u32, reset: Option<Duration>) {
        let reset = reset.unwrap_or(self.policy.assumed_window).min(self.policy.longest_wait);
        let end = after(now, reset);
        let known = state.ends.filter(|_| state.source == QuotaSource::Told);
        if window != state.window && known.is_none_or(|ends| apart(ends, end) > SAME) {
            // Sent before this window began, and it does not speak of this one.
            return;
        }
        if state.source != QuotaSource::Told {
            state.source = QuotaSource::Told;
            state.used = 0;
            state.lost = 0;
        }
        match known {
            // The window was over a little earlier than it was here: this is the next.
            Some(ends) if end > after(ends, SAME) && after(now, ROUNDING) > ends => {
                self.begin_window(state);
                state.ends = Some(end);
            }
            Some(ends) => state.ends = Some(ends.min(end)),
            None => state.ends = Some(end),
        }
        state.allowed = allowed;
        state.used = state.used.max(count);
    }

    /// A success, or a failure that is no 429, came without headers.
    fn not_told(&self, state: &mut State, window: u64, now: Instant) {
        let end = after(now, self.policy.assumed_window);
        match state.source {
            // It may have been counted or not, like one that was never answered.
            QuotaSource::Told => state.lose(window, end),
            QuotaSource::Unknown | QuotaSource::Assumed => {
                state.source = QuotaSource::Assumed;
                if window == state.window {
                    state.ends.get_or_insert(end);
                }
            }
        }
    }

    fn throttled(&self, state: &mut State, number: u64, now: Instant, retry_after: Option<Duration>) {
        // No wait at all is no word on it: taken at that, one call alone would ask again and again.
        let retry_after = retry_after.filter(|wait| !wait.is_zero());
        let wait = match (retry_after, state.ends) {
            (Some(wait), _) => {
                state.blind = 0;
                wait.min(self.policy.longest_wait)
            }
            (None, Some(ends)) if ends > now => ends - now,
            (None, _) => {
                let seconds = 1_u64.checked_shl(state.blind).map_or(15, |seconds| seconds.min(15));
                state.blind = state.blind.saturating_add(1);
                Duration::from_secs(seconds)
            }
        };
        let until = after(now, wait);
        let shut = match state.shut {
            Some(shut) if apart(shut, until) <= SAME => shut.min(until),
            Some(shut) => shut.max(until),
            None => until,
        };
        state.shut = Some(shut);
        if state.source == QuotaSource::Assumed {
            // It knows better when the window ends than the assumption.
            state.ends = Some(shut);
        }
        if state.source != QuotaSource::Unknown && state.refused.is_none_or(|last| number > last) {
            state.refused = Some(state.attempts);
            state.learnt = Some(state.served.max(1));
        }
    }
}

impl State {
    fn spent(&self) -> u32 {
        let counted = if self.source == QuotaSource::Told { self.used } else { self.served };
        counted.saturating_add(self.lost)
    }

    fn under_way(&self) -> u32 {
        self.in_flight.saturating_add(self.promised)
    }

    /// What a window is known to allow.
    fn limit(&self) -> u32 {
        match self.source {
            QuotaSource::Assumed => self.learnt.unwrap_or(self.allowed).min(self.allowed),
            QuotaSource::Unknown | QuotaSource::Told => self.allowed,
        }
    }

    /// Whether one more may be sent.
    fn has_room(&self) -> bool {
        let under_way = self.under_way();
        let by_source = match self.source {
            QuotaSource::Unknown => under_way == 0,
            // What is under way may be counted already, so this can be too little for a moment, and never too much.
            QuotaSource::Told | QuotaSource::Assumed => self.spent().saturating_add(under_way) < self.allowed,
        };
        let by_experience = self.learnt.is_none_or(|learnt| {
            let served = self.served.saturating_add(self.lost);
            // So many are left; and beyond, one more than were already found to be.
            under_way < learnt.saturating_sub(served).max(served.saturating_sub(learnt).saturating_add(1))
        });
        by_source && by_experience && self.shut.is_none() && !self.retired
    }

    /// When this window is over.
    fn end(&self) -> Option<Instant> {
        self.ends.or(self.ends_unheard)
    }

    /// When time alone may make room next.
    fn next_change(&self) -> Option<Instant> {
        let soonest = match (self.end(), self.shut) {
            (Some(end), Some(shut)) => Some(end.min(shut)),
            (end, shut) => end.or(shut),
        };
        soonest.map(|at| after(at, self.spread))
    }

    fn outlook(&self, window: Duration) -> Outlook {
        Outlook {
            known: self.source != QuotaSource::Unknown,
            limit: self.limit(),
            left: self.limit().saturating_sub(self.spent().max(self.sent)).saturating_sub(self.promised),
            shut: self.shut.map(|shut| after(shut, self.spread)),
            end: self.end().map(|end| after(end, self.spread)),
            window,
        }
    }

    /// An attempt was sent that nobody will tell more about.
    fn lose(&mut self, window: u64, ends_unheard: Instant) {
        if window == self.window {
            self.lost = self.lost.saturating_add(1);
            self.lost_before = self.attempts;
            self.ends_unheard.get_or_insert(ends_unheard);
        }
    }
}

/// When calls that wait will be served, if nothing new is heard: an estimate, at the earliest.
struct Outlook {
    known: bool,
    limit: u32,
    left: u32,
    shut: Option<Instant>,
    end: Option<Instant>,
    window: Duration,
}

impl Outlook {
    /// When a call that has so many before it can be sent; none when nothing is known.
    fn served(&self, before: usize, now: Instant) -> Option<Instant> {
        if !self.known {
            return self.shut;
        }
        let Some(beyond) = u32::try_from(before).unwrap_or(u32::MAX).checked_sub(self.left) else {
            return Some(self.shut.unwrap_or(now));
        };
        let next = self.shut.max(self.end).filter(|_| self.end.is_some())?;
        let whole_windows = beyond.checked_div(self.limit).unwrap_or_default();
        Some(after(next, self.window.saturating_mul(whole_windows)))
    }
}

/// A call's turn at the gate: first [`Self::wait`], then, when all else is ready, [`Self::take`].
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn<'a> {
    gate: &'a QuotaGate,
    begun: Instant,
    promised: bool,
}

impl<'a> Turn<'a> {
    /// Returns when a request could be sent; it is then promised to this turn. Fails at once where that would be after the
    /// deadline, as far as is known, and as soon as it is.
    pub(crate) async fn wait(&mut self, deadline: Instant) -> Result<(), QuotaRefused> {
        let (gate, begun) = (self.gate, self.begun);
        if self.promised || !gate.policy.enabled {
            return Ok(());
        }
        let refused = |why, available_at| Err(QuotaRefused { why, available_at });
        let window = gate.policy.assumed_window;
        let (place, wake) = {
            let now = Instant::now();
            let mut state = gate.at(now);
            if state.queue.would_be_first(begun) && state.has_room() {
                self.promise(&mut state);
                return Ok(());
            }
            if state.retired {
                return refused(QuotaRefusal::Retired, Some(now));
            }
            let available_at = state.outlook(window).served(state.queue.before(begun), now);
            if now >= deadline || available_at.is_some_and(|at| at > deadline) {
                return refused(QuotaRefusal::TooLate, available_at);
            }
            if state.queue.is_full() {
                return refused(QuotaRefusal::QueueFull, available_at);
            }
            state.queue.join(begun, deadline)
        };
        let _waiting = Waiting { gate, place };
        loop {
            let until = {
                let now = Instant::now();
                let mut state = gate.at(now);
                let first = state.queue.is_first(place);
                if first && state.has_room() {
                    self.promise(&mut state);
                    return Ok(());
                }
                if state.retired {
                    return refused(QuotaRefusal::Retired, Some(now));
                }
                if now >= deadline || state.queue.is_hopeless(place) {
                    let available_at = state.outlook(window).served(state.queue.before(begun), now);
                    return refused(QuotaRefusal::TooLate, available_at);
                }
                state.next_change().filter(|_| first).map_or(deadline, |at| at.min(deadline))
            };
            // Woken or in time: look again.
            let _ = timeout_at(until, wake.notified()).await;
        }
    }

    /// Takes one request of the quota, without waiting: now it must be sent. None when it is gone meanwhile (a 429, or another
    /// process took it): wait again. Works without [`Self::wait`] when nobody else waits.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Ticket<'a>> {
        let gate = self.gate;
        let mut state = gate.at(now);
        let first = self.promised || state.queue.would_be_first(self.begun);
        if std::mem::take(&mut self.promised) {
            state.promised = state.promised.saturating_sub(1);
        }
        if gate.policy.enabled && !(first && state.has_room()) {
            // What was promised to it is another's to try.
            state.queue.wake_first();
            return None;
        }
        state.sent = state.sent.saturating_add(1);
        state.in_flight = state.in_flight.saturating_add(1);
        state.attempts += 1;
        Some(Ticket { gate, window: state.window, number: state.attempts })
    }

    fn promise(&mut self, state: &mut State) {
        state.promised = state.promised.saturating_add(1);
        self.promised = true;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.promised {
            let mut state = self.gate.lock();
            state.promised = state.promised.saturating_sub(1);
            state.queue.wake_first();
        }
    }
}

/// One request of the quota, being sent. To drop it is to say that no answer came: nobody knows whether it was counted.
#[derive(Debug)]
#[must_use]
pub(crate) struct Ticket<'a> {
    gate: &'a QuotaGate,
    window: u64,
    number: u64,
}

impl Ticket<'_> {
    /// The head of an answer came. `throttled` when it is a 429: `Some` of the wait it asks for, if it says.
    pub(crate) fn answered(self, now: Instant, headers: &QuotaHeaders, throttled: Option<Option<Duration>>) {
        let Self { gate, window, number } = self;
        std::mem::forget(self);
        let mut state = gate.at(now);
        state.in_flight = state.in_flight.saturating_sub(1);
        if !gate.policy.enabled {
            return;
        }
        let (allowed, opens) = (state.allowed, state.end().max(state.shut));
        if throttled.is_none() && window == state.window {
            state.served = state.served.saturating_add(1);
            if state.refused.is_some_and(|last| number <= last) {
                // Sent before the refusal was known.
                state.learnt = state.learnt.max(Some(state.served));
            }
        }
        match (headers.allowed, headers.count) {
            (Some(allowed), Some(count)) => {
                gate.told(&mut state, window, now, allowed, count, headers.reset);
                if number > state.lost_before {
                    // If those that were lost were counted, then in this count.
                    state.lost = 0;
                }
            }
            _ if throttled.is_none() => gate.not_told(&mut state, window, now),
            _ => {}
        }
        match throttled {
            Some(retry_after) => gate.throttled(&mut state, number, now, retry_after),
            None => state.blind = 0,
        }
        if state.queue.is_empty() {
            return;
        }
        if state.allowed < allowed || state.end().max(state.shut) > opens {
            // Later than it looked: for some it may be too late.
            let outlook = state.outlook(gate.policy.assumed_window);
            state.queue.give_up_hope(|before| outlook.served(before, now));
        }
        state.queue.wake_first();
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        state.lose(self.window, after(Instant::now(), self.gate.policy.assumed_window));
        state.queue.wake_first();
    }
}

/// A place in the queue, given up when dropped.
struct Waiting<'a> {
    gate: &'a QuotaGate,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.lock().queue.leave(self.place);
    }
}

impl std::fmt::Debug for QuotaGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuotaGate").field("policy", &self.policy).field("state", &self.state).finish_non_exhaustive()
    }
}

/// The instant so much later, or, beyond what the clock can tell, this one.
fn after(at: Instant, wait: Duration) -> Instant {
    at.checked_add(wait).unwrap_or(at)
}

fn apart(a: Instant, b: Instant) -> Duration {
    a.max(b).saturating_duration_since(a.min(b))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use http::HeaderValue;
    use tokio::sync::Semaphore;
    use tokio::task::{JoinHandle, JoinSet};
    use tokio::time::{advance, sleep, timeout};

    use super::*;

    const NOTHING: QuotaHeaders = QuotaHeaders { allowed: None, count: None, reset: None };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn gate_of(policy: QuotaPolicy, seed: u64) -> Arc<QuotaGate> {
        Arc::new(QuotaGate::new(policy, Arc::new(Random::new(Some(seed)))))
    }

    fn gate() -> Arc<QuotaGate> {
        gate_of(QuotaPolicy::default(), 7)
    }

    fn told(allowed: u32, count: u32, reset: u64) -> QuotaHeaders {
        QuotaHeaders { allowed: Some(allowed), count: Some(count), reset: Some(secs(reset)) }
    }

    /// A fixed window of 60 s, opened by the first request after the last one ended; refused ones do not count.
    struct Service {
        limit: u32,
        tells: bool,
        window: Mutex<Option<(Instant, u32)>>,
        refused: AtomicU32,
        answers: AtomicU32,
    }

    impl Service {
        fn new(limit: u32, tells: bool) -> Arc<Self> {
            Arc::new(Self {
                limit,
                tells,
                window: Mutex::default(),
                refused: AtomicU32::new(0),
                answers: AtomicU32::new(0),
            })
        }

        fn answer(&self) -> (QuotaHeaders, Option<Option<Duration>>) {
            let mut window = self.window.lock().unwrap();
            let now = Instant::now();
            if window.is_none_or(|(opened, _)| now >= opened + secs(60)) {
                *window = Some((now, 0));
            }
            let (opened, count) = window.as_mut().unwrap();
            let left = secs(60) - (now - *opened);
            let left = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            let refused = *count == self.limit;
            *count += u32::from(!refused);
            self.refused.fetch_add(u32::from(refused), Ordering::Relaxed);
            self.answers.fetch_add(1, Ordering::Relaxed);
            let headers = if self.tells { told(self.limit, *count, left) } else { NOTHING };
            (headers, refused.then_some(Some(secs(left))))
        }

        fn refused(&self) -> u32 {
            self.refused.load(Ordering::Relaxed)
        }
    }

    /// One call until it is served, as `call.rs` does it.
    async fn call(gate: &QuotaGate, service: &Service, host: &Semaphore, latency: Duration, deadline: Instant) -> bool {
        let mut turn = gate.turn(Instant::now());
        loop {
            if turn.wait(deadline).await.is_err() {
                return false;
            }
            let permit = host.acquire().await.unwrap();
            let Some(ticket) = turn.take(Instant::now()) else { continue };
            sleep(latency / 2).await;
            let (headers, throttled) = service.answer();
            sleep(latency / 2).await;
            drop(permit);
            ticket.answered(Instant::now(), &headers, throttled);
            if throttled.is_none() {
                return true;
            }
        }
    }

    struct Outcome {
        took: Duration,
        refused: u32,
    }

    async fn burst(gate: &Arc<QuotaGate>, service: &Arc<Service>, calls: u32, latency: [u64; 2]) -> Outcome {
        let (start, refused) = (Instant::now(), service.refused());
        let host = Arc::new(Semaphore::new(1000));
        let mut rng = fastrand::Rng::with_seed(11);
        let mut running = JoinSet::new();
        for _ in 0..calls {
            let (gate, service, host) = (Arc::clone(gate), Arc::clone(service), Arc::clone(&host));
            let latency = Duration::from_millis(rng.u64(latency[0]..=latency[1]));
            running.spawn(async move { call(&gate, &service, &host, latency, start + secs(3600)).await });
        }
        assert!(running.join_all().await.into_iter().all(|served| served));
        Outcome { took: start.elapsed(), refused: service.refused() - refused }
    }

    #[tokio::test(start_paused = true)]
    async fn bursts_take_what_the_limit_allows_and_a_second_a_window() {
        for tells in [true, false] {
            for limit in [300_u32, 180, 50] {
                for calls in [150_u32, 450, 900] {
                    for latency in [[20, 20], [5, 400]] {
                        let boundaries = u64::from(calls.div_ceil(limit) - 1);
                        let ideal = secs(60) * boundaries as u32 + Duration::from_millis(latency[1]);
                        let Outcome { took, refused } =
                            burst(&gate(), &Service::new(limit, tells), calls, latency).await;
                        println!(
                            "told {tells} limit {limit} calls {calls} {latency:?}: {took:?} of {ideal:?}, {refused} 429s"
                        );
                        assert!(took <= ideal + secs(1) * boundaries as u32 + secs(1), "{took:?}");
                        if latency[0] == latency[1] {
                            assert!(took <= ideal + secs(1) * boundaries.max(1) as u32, "{took:?}");
                        }
                        match (tells, limit) {
                            (true, _) | (false, 300) => assert_eq!(refused, 0),
                            // One window is overrun; what it taught holds, and is tried once a window.
                            _ => assert!(refused <= (300 - limit) + boundaries as u32, "{refused}"),
                        }
                    }
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_out_of_order_and_other_processes_are_counted() {
        for seed in 0..20 {
            let service = Service::new(100, true);
            let (ours, theirs) = (gate_of(QuotaPolicy::default(), seed), gate_of(QuotaPolicy::default(), seed + 100));
            let (a, b) = tokio::join!(burst(&ours, &service, 250, [5, 900]), burst(&theirs, &service, 250, [5, 900]));
            let (took, refused) = (a.took.max(b.took), service.refused());
            if seed == 0 {
                println!("two processes: {took:?}, {refused} 429s of 500");
            }
            assert!(took < secs(247) && refused < 200, "{took:?}, {refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_stream_across_windows_is_never_refused_where_headers_tell() {
        let service = Service::new(300, true);
        let (gate, host) = (gate(), Arc::new(Semaphore::new(1000)));
        let mut rng = fastrand::Rng::with_seed(5);
        let mut running = JoinSet::new();
        let start = Instant::now();
        for _ in 0..3000 {
            // A little more than the quota: the queue fills and empties.
            sleep(Duration::from_millis(rng.u64(0..380))).await;
            let (gate, service, host) = (Arc::clone(&gate), Arc::clone(&service), Arc::clone(&host));
            let latency = Duration::from_millis(rng.u64(5..2000));
            running.spawn(async move { call(&gate, &service, &host, latency, start + secs(3600)).await });
        }
        assert!(running.join_all().await.into_iter().all(|served| served));
        println!("steady: {:?}, {} 429s", start.elapsed(), service.refused());
        assert_eq!(service.refused(), 0);
        assert!(start.elapsed() < secs(615));
    }

    fn waits(gate: &Arc<QuotaGate>, deadline: Instant) -> JoinHandle<Result<(), QuotaRefused>> {
        let gate = Arc::clone(gate);
        tokio::spawn(async move { gate.turn(Instant::now()).wait(deadline).await })
    }

    async fn ticket(gate: &QuotaGate) -> Ticket<'_> {
        let mut turn = gate.turn(Instant::now());
        turn.wait(Instant::now() + secs(3600)).await.unwrap();
        turn.take(Instant::now()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn of_an_unknown_token_one_call_is_in_flight() {
        let gate = gate();
        assert_eq!(gate.standing(Instant::now()).source, QuotaSource::Unknown);
        let first = ticket(&gate).await;
        let mut others: Vec<_> = (0..50).map(|_| waits(&gate, Instant::now() + secs(100))).collect();
        sleep(secs(10)).await;
        assert!(others.iter().all(|other| !other.is_finished()));
        assert!(gate.turn(Instant::now()).take(Instant::now()).is_none());
        // It is lost: the next finds out, alone.
        sleep(secs(1)).await;
        drop(first);
        let mut turn = gate.turn(Instant::now());
        assert!(timeout(secs(1), turn.wait(Instant::now() + secs(50))).await.is_ok());
        others.retain(|other| !other.is_finished());
        turn.take(Instant::now()).unwrap().answered(Instant::now(), &told(300, 1, 60), None);
        for other in others {
            other.await.unwrap().unwrap();
        }
        assert_eq!(gate.standing(Instant::now()).source, QuotaSource::Told);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_dropped_between_promise_and_sending_hands_it_on() {
        let gate = gate();
        let mut turn = gate.turn(Instant::now());
        turn.wait(Instant::now() + secs(1)).await.unwrap();
        let other = waits(&gate, Instant::now() + secs(100));
        sleep(secs(1)).await;
        assert!(!other.is_finished());
        drop(turn);
        timeout(secs(1), other).await.unwrap().unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_cannot_be_served_in_time_fails_at_once_and_says_when() {
        let gate = gate();
        let start = Instant::now();
        ticket(&gate).await.answered(start, &told(10, 10, 40), None);
        let refused = gate.turn(start).wait(start + secs(30)).await.unwrap_err();
        assert_eq!(refused.why, QuotaRefusal::TooLate);
        let at = refused.available_at.unwrap() - start;
        assert!(at >= secs(40) && at < secs(41), "{at:?}");
        // Ten fit into the window at 40 s, ten into that at 100 s.
        let waiting: Vec<_> = (0..20).map(|_| waits(&gate, start + secs(120))).collect();
        sleep(Duration::from_millis(1)).await;
        let refused = gate.turn(Instant::now()).wait(start + secs(120)).await.unwrap_err();
        let at = refused.available_at.unwrap() - start;
        assert!(at >= secs(160) && at < secs(161), "{at:?}");
        assert!(start.elapsed() < secs(1));
        drop(waiting);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_learn_at_once_that_it_is_too_late() {
        let gate = gate();
        let start = Instant::now();
        let first = ticket(&gate).await;
        let short = waits(&gate, start + secs(30));
        let long = waits(&gate, start + secs(90));
        advance(secs(1)).await;
        first.answered(Instant::now(), &NOTHING, Some(Some(secs(50))));
        let refused = short.await.unwrap().unwrap_err();
        assert_eq!((refused.why, start.elapsed()), (QuotaRefusal::TooLate, secs(1)));
        long.await.unwrap().unwrap();
        let took = start.elapsed();
        assert!(took >= secs(51) && took < Duration::from_millis(51_260), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_end_holds_and_a_late_answer_of_the_window_before_does_not() {
        let gate = gate_of(QuotaPolicy { spread: Duration::ZERO, ..QuotaPolicy::default() }, 1);
        let start = Instant::now();
        ticket(&gate).await.answered(start, &told(3, 1, 60), None);
        let (second, third) = (ticket(&gate).await, ticket(&gate).await);
        advance(Duration::from_millis(1500)).await;
        // Received late: it says 61 s from the start, and the third 61.5.
        second.answered(Instant::now(), &told(3, 2, 60), None);
        assert_eq!(gate.standing(Instant::now()).resets_in, Some(Duration::from_millis(58_500)));
        sleep(secs(59)).await;
        let fourth = ticket(&gate).await;
        fourth.answered(Instant::now(), &told(3, 1, 60), None);
        let ends = Instant::now() + secs(60);
        third.answered(Instant::now(), &told(3, 3, 1), None);
        let standing = gate.standing(Instant::now());
        assert_eq!((standing.remaining, standing.resets_in), (2, Some(ends - Instant::now())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_of_this_window_does_not_pass_for_the_next() {
        let gate = gate();
        ticket(&gate).await.answered(Instant::now(), &told(10, 9, 60), None);
        let slow = ticket(&gate).await;
        sleep(secs(10)).await;
        // Counted second, received ten seconds later.
        slow.answered(Instant::now(), &told(10, 2, 60), None);
        assert_eq!(gate.standing(Instant::now()).remaining, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_call_counts_until_a_later_one_is_answered() {
        let gate = gate();
        ticket(&gate).await.answered(Instant::now(), &told(10, 1, 60), None);
        let before = ticket(&gate).await;
        drop(ticket(&gate).await);
        assert_eq!(gate.standing(Instant::now()).remaining, 7);
        before.answered(Instant::now(), &told(10, 2, 60), None);
        assert_eq!(gate.standing(Instant::now()).remaining, 7);
        ticket(&gate).await.answered(Instant::now(), &told(10, 3, 60), None);
        assert_eq!(gate.standing(Instant::now()).remaining, 7);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_never_answers_uses_up_a_window_and_no_more() {
        for headers in [told(20, 1, 60), NOTHING] {
            let gate = gate_of(QuotaPolicy { assumed_limit: 20, ..QuotaPolicy::default() }, 1);
            ticket(&gate).await.answered(Instant::now(), &headers, None);
            sleep(secs(61)).await;
            for _ in 0..20 {
                drop(ticket(&gate).await);
            }
            let start = Instant::now();
            drop(ticket(&gate).await);
            assert!(start.elapsed() >= secs(60) && start.elapsed() < secs(61), "{:?}", start.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_429_of_another_limit_they_go_by_one_two_four() {
        let gate = gate();
        let start = Instant::now();
        ticket(&gate).await.answered(start, &told(300, 1, 60), None);
        ticket(&gate).await.answered(start, &told(300, 2, 60), Some(Some(secs(5))));
        let mut tickets = vec![ticket(&gate).await];
        assert!(start.elapsed() >= secs(5) && start.elapsed() < secs(6));
        let now = Instant::now();
        let mut rounds = Vec::new();
        for _ in 0..4 {
            tickets.extend(std::iter::from_fn(|| gate.turn(now).take(now)));
            rounds.push(tickets.len());
            for ticket in tickets.drain(..) {
                ticket.answered(now, &told(300, 3, 55), None);
            }
        }
        assert_eq!(rounds, [1, 2, 4, 8]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_that_asks_for_a_day_stops_the_token_for_three_minutes() {
        let gate = gate();
        let start = Instant::now();
        ticket(&gate).await.answered(start, &told(300, 300, 86_400), Some(Some(secs(86_400))));
        drop(ticket(&gate).await);
        assert!(start.elapsed() >= secs(180) && start.elapsed() < secs(181), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_that_says_nothing_is_tried_again_after_growing_pauses() {
        let gate = gate();
        let mut last = Instant::now();
        for pause in [0, 1, 2, 4, 8, 15, 15] {
            let ticket = ticket(&gate).await;
            let waited = last.elapsed();
            assert!(waited >= secs(pause) && waited < secs(pause + 1), "{waited:?}");
            last = Instant::now();
            ticket.answered(last, &NOTHING, Some(None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_hostile_in_a_header_panics_or_stops_a_token_for_long() {
        let hostile = [
            "",
            " ",
            "-1",
            "+5",
            "1.5",
            "1e3",
            "NaN",
            "0",
            "1",
            "61",
            "300",
            "4294967295",
            "4294967296",
            "18446744073709551616",
            "99999999999999999999999999999999",
            "0x10",
            "٣",
            "1,2",
            "1;2",
            "\t7 ",
        ];
        for allowed in hostile {
            for count in hostile {
                for reset in hostile {
                    let mut map = HeaderMap::new();
                    for (name, value) in [
                        ("inin-ratelimit-allowed", allowed),
                        ("inin-ratelimit-count", count),
                        ("inin-ratelimit-reset", reset),
                    ] {
                        map.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
                    }
                    let headers = QuotaHeaders::parse(&map);
                    let gate = gate();
                    for throttled in [None, Some(Some(Duration::MAX)), Some(None)] {
                        let start = Instant::now();
                        ticket(&gate).await.answered(Instant::now(), &headers, throttled);
                        assert!(start.elapsed() <= secs(181));
                    }
                    let start = Instant::now();
                    drop(ticket(&gate).await);
                    assert!(start.elapsed() <= secs(362), "{allowed} {count} {reset}: {:?}", start.elapsed());
                    let _ = gate.standing(Instant::now());
                }
            }
        }
    }

    #[test]
    fn headers_are_whole_numbers_said_once() {
        let parse = |lines: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in lines {
                map.append(*name, HeaderValue::from_static(value));
            }
            QuotaHeaders::parse(&map)
        };
        let sample = parse(&[
            ("ININ-RateLimit-Count".to_ascii_lowercase().leak(), "1"),
            ("inin-ratelimit-allowed", "180"),
            ("inin-ratelimit-reset", " 61 "),
        ]);
        assert_eq!(sample, told(180, 1, 61));
        assert_eq!(parse(&[]), NOTHING);
        assert_eq!(
            parse(&[("inin-ratelimit-allowed", "0"), ("inin-ratelimit-count", "-1"), ("inin-ratelimit-reset", "1.5")]),
            NOTHING
        );
        assert_eq!(parse(&[("inin-ratelimit-allowed", "5"), ("inin-ratelimit-allowed", "500")]), NOTHING);
        assert_eq!(parse(&[("inin-ratelimit-count", "99999999999999999999")]).count, Some(u32::MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_replaced_tokens_gate_sends_everyone_away_and_the_new_one_knows_nothing() {
        let gate = gate();
        let first = ticket(&gate).await;
        let waiting = waits(&gate, Instant::now() + secs(100));
        sleep(secs(1)).await;
        gate.retire();
        let sent_away = timeout(secs(1), waiting).await.unwrap();
        assert_eq!(sent_away.unwrap().unwrap_err().why, QuotaRefusal::Retired);
        assert_eq!(
            gate.turn(Instant::now()).wait(Instant::now() + secs(9)).await.unwrap_err().why,
            QuotaRefusal::Retired
        );
        assert!(gate.turn(Instant::now()).take(Instant::now()).is_none());
        first.answered(Instant::now(), &told(300, 1, 60), None);
        assert_eq!(self::gate().standing(Instant::now()).source, QuotaSource::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn switched_off_it_is_never_in_the_way() {
        let gate = gate_of(QuotaPolicy { enabled: false, ..QuotaPolicy::default() }, 1);
        let tickets: Vec<_> = futures_util::future::join_all((0..1000).map(|_| ticket(&gate))).await;
        for ticket in tickets {
            ticket.answered(Instant::now(), &told(1, 1, 60), Some(Some(secs(60))));
        }
        drop(ticket(&gate).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_and_those_who_came_first_go_first() {
        let gate = gate_of(QuotaPolicy { queue: 100, ..QuotaPolicy::default() }, 1);
        let first = ticket(&gate).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut running = JoinSet::new();
        let begun = Instant::now();
        for number in 0..100_u64 {
            let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
            running.spawn(async move {
                // They come in the reverse order of their beginning.
                let mut turn = gate.turn(begun + Duration::from_micros(100 - number));
                turn.wait(begun + secs(900)).await.unwrap();
                order.lock().unwrap().push(100 - number);
            });
        }
        sleep(secs(1)).await;
        let refused = gate.turn(Instant::now()).wait(Instant::now() + secs(99)).await.unwrap_err();
        assert_eq!(refused.why, QuotaRefusal::QueueFull);
        first.answered(Instant::now(), &told(300, 1, 60), None);
        running.join_all().await;
        assert!(order.lock().unwrap().is_sorted());
    }

    #[tokio::test(start_paused = true)]
    async fn only_as_many_wake_as_can_be_served() {
        let gate = gate();
        let first = ticket(&gate).await;
        let woken = Arc::new(AtomicU32::new(0));
        for _ in 0..900 {
            let (gate, woken) = (Arc::clone(&gate), Arc::clone(&woken));
            tokio::spawn(async move {
                let mut turn = gate.turn(Instant::now());
                turn.wait(Instant::now() + secs(900)).await.unwrap();
                woken.fetch_add(1, Ordering::Relaxed);
                // Waits for a place at the host for ever.
                std::future::pending::<()>().await;
            });
        }
        sleep(secs(1)).await;
        first.answered(Instant::now(), &told(300, 1, 60), None);
        sleep(secs(1)).await;
        assert_eq!(woken.load(Ordering::Relaxed), 299);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_dropped_at_random_never_wedge_the_gate() {
        for tells in [true, false] {
            let mut rng = fastrand::Rng::with_seed(3);
            let (gate, service, host) = (gate(), Service::new(40, tells), Arc::new(Semaphore::new(30)));
            let deadline = Instant::now() + secs(7200);
            let mut running = Vec::new();
            for _ in 0..600 {
                let (gate, service, host) = (Arc::clone(&gate), Arc::clone(&service), Arc::clone(&host));
                let latency = Duration::from_millis(rng.u64(5..3000));
                running.push(tokio::spawn(async move { call(&gate, &service, &host, latency, deadline).await }));
            }
            for _ in 0..400 {
                sleep(Duration::from_millis(rng.u64(0..1500))).await;
                let victim = rng.usize(0..running.len());
                running.swap_remove(victim).abort();
            }
            for call in running {
                assert!(call.await.unwrap());
            }
            let state = gate.lock();
            assert!(state.queue.is_empty() && state.in_flight == 0 && state.promised == 0, "{state:?}");
        }
    }
}
