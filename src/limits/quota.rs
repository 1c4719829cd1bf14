//! When the calls of one token may be sent, so that what the service allows is used up and not overrun.
//!
//! A limit belongs to what it limits. A 429 shuts the operation that it answered. The headers `inin-ratelimit-allowed`,
//! `-count` and `-reset` speak of a window: so many requests until it ends. Operations whose answers show the same window
//! share it, others do not, and no operation waits for what only another one was told. Where no header tells, nothing is
//! assumed.
//!
//! Of an operation of which nothing is known a few calls go first, and the others wait for the first answer, a second at most;
//! after a 429 it is one, then two, four, as they are served.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::queue::{Position, Queue, STANDS_STILL};
use super::window::{Observed, QuotaHeaders, SPREAD, Window};
use crate::error::{Error, GaveUp};
use crate::random::Random;
use crate::retry::{RetryPolicy, after};
use crate::stats::seconds;
use crate::text::shown;

/// So many calls of an operation of which nothing is known go at once: no more than any window known to exist allows.
const FIRST_CALLS: u32 = 50;
/// Who goes first is waited for no longer: a slow answer must not hold everyone.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// After a 429 it may be waited for longer: that there is a limit is known.
const ANSWER_AFTER_A_429: Duration = Duration::from_secs(5);

/// How the quota of one operation stands, as its answers tell; see [`Agent::quota`](crate::Agent::quota). It serialises, durations in
/// seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QuotaStanding {
    /// The operation, like `get script`.
    pub operation: &'static str,
    /// Requests that its window allows, shared with other operations that show the same; `None` where no header told.
    pub allowed: Option<u32>,
    /// Requests left in the window, those in flight taken off, and zero while a 429 holds; `None` where no header told.
    pub remaining: Option<u32>,
    /// In how long the next request may be sent; `None` where one may be now, or where that is not known.
    #[serde(rename = "available_in_s", serialize_with = "seconds")]
    pub available_in: Option<Duration>,
    /// Calls of the operation that wait for it.
    pub waiting: usize,
}

/// A refusal for a limit (429): the wait it asks for, if it says, and the limit's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TooManyRequests {
    pub(crate) wait: Option<Duration>,
    pub(crate) limit: Option<String>,
}

impl TooManyRequests {
    pub(crate) fn of(error: &Error) -> Self {
        Self { wait: error.retry_after(), limit: error.limit_key().map(str::to_owned) }
    }
}

/// A call may not be sent in time, or, where so many wait already, not wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuotaRefused {
    why: GaveUp,
    /// When it could be sent, as far as is known.
    available_at: Option<Instant>,
    by: By,
}

/// What a call was not sent for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    /// A limit, by the name that a 429 gave it.
    Named(String),
    /// The token's window is used up, as headers tell: a 429 alone may be of anything else.
    Window,
    Limit,
    /// Nothing is known yet.
    FirstAnswers,
}

impl QuotaRefused {
    /// With what the call's last attempt met. What is known to be broken was `hardly_waited` for.
    pub(crate) fn into_error(self, operation: &str, most: usize, hardly_waited: bool, last: Option<Error>) -> Error {
        let what = match (self.why, self.by) {
            (GaveUp::QueueFull, _) => format!("{most} calls of this agent wait for the quota of `{operation}` already"),
            (_, By::Named(limit)) => format!("the service's limit {} for `{operation}` is reached", shown(&limit)),
            (_, By::Window) => format!("what this agent's token may ask of `{operation}` is spent"),
            (_, By::Limit) => format!("the service allows no more of `{operation}` for now"),
            (_, By::FirstAnswers) => {
                format!("the first answers to `{operation}`, which tell its limit, did not come in time")
            }
        };
        let is_late = self.why == GaveUp::DeadlineWouldPass;
        let gave_up = if is_late && hardly_waited { GaveUp::NotWaited } else { self.why };
        let available_in = self.available_at.map(|at| at.saturating_duration_since(Instant::now()));
        Error::not_allowed(last, what).gave_up(gave_up).with_retry_after(available_in)
    }
}

/// The gate of one token.
pub(crate) struct QuotaGate {
    random: Arc<Random>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    operations: Vec<Operation>,
    windows: Vec<Window>,
    /// Numbers the windows.
    seen: u64,
    /// Some answer carried no headers.
    untold: bool,
    retired: bool,
}

#[derive(Default)]
struct Operation {
    name: &'static str,
    /// The window that its own answers show.
    window: Option<u64>,
    /// Sent and not answered.
    pending: u32,
    first: Round,
    /// What its 429s told, once there was one.
    limit: Option<Box<Limit>>,
    queue: Queue,
}

/// Who goes first, where it is not known what an answer will tell. A 429 begins a new round.
#[derive(Default)]
struct Round {
    /// How many may go; none where the answer is known.
    may: Option<u32>,
    /// How many of the round are under way, and until when the others wait for the first answer.
    out: u32,
    until: Option<Instant>,
}

/// What 429s told of a limit.
struct Limit {
    /// The operation is shut until then, by the 429 of then.
    shut_until: Instant,
    shut_since: Instant,
    /// When it ends by what the 429 said, however long that is.
    ends: Instant,
    /// Its name, where the service gave it.
    name: Option<String>,
    /// 429s in a row that did not say how long to wait, and when the first of them came.
    blind: u32,
    blind_since: Instant,
}

impl QuotaGate {
    pub(crate) fn new(random: Arc<Random>) -> Self {
        Self { random, state: Mutex::default() }
    }

    /// Returns when a call that began then could be sent. Fails at once where that would be after the deadline, as far as is
    /// known, and as soon as it is; and after so long, if given, where a limit does not say when it ends. False: the token was
    /// replaced, so the call must go to the gate of the new one.
    pub(crate) async fn wait(
        &self,
        operation: &'static str,
        begun: Instant,
        deadline: Instant,
        longest_blind: Option<Duration>,
        most_waiting: usize,
    ) -> Result<bool, QuotaRefused> {
        let mut waiting: Option<Waiting<'_>> = None;
        loop {
            let now = Instant::now();
            let until = {
                let mut state = self.at(now);
                let position = waiting.as_ref().map_or((begun, u64::MAX), |waiting| waiting.position);
                let blocked = state.blocked_until(operation, now);
                let queue = &mut state.operation(operation).queue;
                let came_back = waiting.as_ref().is_some_and(|waiting| queue.stay(position, deadline, &waiting.wake));
                let first = queue.is_first(position) || queue.pass_over(position, blocked.is_none(), now);
                if state.retired || (first && blocked.is_none()) {
                    return Ok(!state.retired);
                }
                let possible_at = match waiting.is_some() && !came_back {
                    true => state.operation(operation).queue.too_late(position),
                    false => state.outlook(operation, now, |queue| queue.before(position)),
                };
                // Whatever the call waited for before does not count.
                let blind_since = state.blind_since(operation).map(|since| since.max(begun));
                let patience = blind_since.zip(longest_blind).map(|(since, wait)| after(since, wait));
                let one = state.operation(operation);
                let late = now >= deadline || possible_at.is_some_and(|at| at > deadline);
                let why = match (late, patience.is_some_and(|until| now >= until)) {
                    (true, _) => Some(GaveUp::DeadlineWouldPass),
                    (_, true) => Some(GaveUp::NoEndSaid),
                    _ => Some(GaveUp::QueueFull).filter(|_| waiting.is_none() && one.queue.len() >= most_waiting),
                };
                if let Some(why) = why {
                    let before = one.queue.before(position);
                    let (ends, name) = one.limit.as_ref().map(|limit| (limit.ends, limit.name.clone())).unzip();
                    let by = match name {
                        Some(Some(name)) => By::Named(name),
                        _ if state.is_of_window(operation, before) => By::Window,
                        Some(None) => By::Limit,
                        None => By::FirstAnswers,
                    };
                    let available_at = possible_at.max(ends.filter(|ends| *ends > now));
                    return Err(QuotaRefused { why, available_at, by });
                }
                if waiting.is_none() {
                    let (position, wake) = one.queue.join(begun, deadline);
                    waiting = Some(Waiting { gate: self, operation, position, wake });
                }
                let due = blocked.unwrap_or(now);
                let due = if first { due } else { after(due, STANDS_STILL) };
                due.min(deadline).min(patience.unwrap_or(deadline))
            };
            if let Some(Waiting { wake, .. }) = &waiting {
                // Woken or in time: look again.
                let _ = timeout_at(until, wake.notified()).await;
            }
        }
    }

    /// Takes one request of the quota for a call that began then, without waiting: now it must be sent. None when there is none
    /// any more (a 429, or another took it): wait again.
    pub(crate) fn take(&self, operation: &'static str, begun: Instant, now: Instant) -> Option<Reservation<'_>> {
        let mut state = self.at(now);
        let blocked = state.retired || state.blocked_until(operation, now).is_some();
        let one = state.operation(operation);
        // Among those that began at the same time it had its turn already.
        if blocked || !one.queue.is_first((begun, 0)) {
            return None;
        }
        one.pending = one.pending.saturating_add(1);
        if one.first.out == 0 {
            let patience = if one.limit.is_some() { ANSWER_AFTER_A_429 } else { FIRST_ANSWER };
            one.first.until = Some(after(now, patience));
        }
        one.first.out = one.first.out.saturating_add(1);
        Some(Reservation { gate: self, operation, sent: now })
    }

    /// The token was replaced. All who wait are sent away; what is in flight may still be answered.
    pub(crate) fn retire(&self) {
        let mut state = self.lock();
        state.retired = true;
        state.operations.iter().for_each(|operation| operation.queue.wake_all());
    }

    pub(crate) fn standing(&self, now: Instant) -> Vec<QuotaStanding> {
        let state = self.at(now);
        let of = |operation: &Operation| {
            let window = state.window(operation);
            let left = |window| if operation.shut_until(now).is_some() { 0 } else { state.left(window) };
            QuotaStanding {
                operation: operation.name,
                allowed: window.map(|window| window.allowed),
                remaining: window.map(left),
                available_in: state.outlook_of(operation, now)(0).map(|at| at.saturating_duration_since(now)),
                waiting: operation.queue.len(),
            }
        };
        state.operations.iter().map(of).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state at this moment: what is over is over.
    fn at(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        state.windows.iter_mut().for_each(|window| window.turn(now, &self.random));
        state
    }
}

impl State {
    /// The operation; from its first call on it is there.
    fn operation(&mut self, name: &'static str) -> &mut Operation {
        let known = self.operations.iter().position(|operation| operation.name == name);
        let at = known.unwrap_or_else(|| {
            // Where this token's answers carry no headers, nobody could tell the others anything.
            let tells = !self.untold || !self.windows.is_empty();
            let first = Round { may: tells.then_some(FIRST_CALLS), ..Round::default() };
            // Few agents call more than one or two operations.
            self.operations.reserve_exact(1);
            self.operations.push(Operation { name, first, ..Operation::default() });
            self.operations.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "it was found there, or just put there")]
        &mut self.operations[at]
    }

    fn known(&self, name: &str) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.name == name)
    }

    fn window(&self, of: &Operation) -> Option<&Window> {
        self.windows.iter().find(|window| Some(window.number) == of.window)
    }

    /// How many requests are left in a window, those that are not answered yet taken off.
    fn left(&self, window: &Window) -> u32 {
        let sharing = self.operations.iter().filter(|operation| operation.window == Some(window.number));
        sharing.fold(window.allowed.saturating_sub(window.used), |left, one| left.saturating_sub(one.pending))
    }

    /// Until when no call of the operation may be sent, as far as is known; none where one may be now.
    fn blocked_until(&self, operation: &str, now: Instant) -> Option<Instant> {
        let operation = self.known(operation)?;
        if let Some(until) = operation.shut_until(now) {
            return Some(until);
        }
        if let Some(window) = self.window(operation) {
            let left = self.left(window);
            if left == 0 {
                // Without an end nothing was answered since it began: one of those in flight will tell.
                return Some(window.reopens().unwrap_or_else(|| after(now, FIRST_ANSWER)));
            }
            // What is left is kept for those that went first elsewhere, whose answers may show this window too.
            let unknown = self.operations.iter().filter(|one| one.window.is_none() && one.limit.is_none());
            let waited_for = unknown.filter(|one| one.first.until.is_some_and(|until| until > now));
            let (pending, until) = waited_for.fold((0_u32, None), |(pending, until), one| {
                (pending.saturating_add(one.pending), one.first.until.max(until))
            });
            if pending >= left {
                return until;
            }
        }
        let Round { may, out, until, .. } = operation.first;
        until.filter(|until| may.is_some_and(|may| out >= may) && *until > now)
    }

    /// Since when the operation meets a limit that does not say when it ends.
    fn blind_since(&self, operation: &str) -> Option<Instant> {
        let one = self.known(operation)?;
        let is_spent = self.window(one).is_some_and(|window| self.left(window) == 0);
        one.limit.as_ref().filter(|limit| limit.blind > 0 && !is_spent).map(|limit| limit.blind_since)
    }

    /// Whether its window has nothing left for who has so many before it.
    fn is_of_window(&self, operation: &str, before: usize) -> bool {
        let left = self.known(operation).and_then(|one| Some(self.left(self.window(one)?)));
        left.is_some_and(|left| u32::try_from(before).unwrap_or(u32::MAX) >= left)
    }

    /// When a call with so many before it could be sent, at the earliest, where it could not be now and that is known.
    fn outlook_of(&self, operation: &Operation, now: Instant) -> impl Fn(usize) -> Option<Instant> + use<> {
        let shut = operation.shut_until(now);
        let window = self.window(operation).map(|one| (self.left(one), one.allowed, one.length, one.reopens()));
        move |before| {
            let Some((left, allowed, length, reopens)) = window else { return shut };
            let Some(beyond) = u32::try_from(before).unwrap_or(u32::MAX).checked_sub(left) else { return shut };
            let windows = beyond.checked_div(allowed).unwrap_or_default();
            shut.max(reopens.map(|at| after(at, length.saturating_mul(windows))))
        }
    }

    /// The same, with as many before it as its queue says.
    fn outlook(&self, operation: &str, now: Instant, before: impl Fn(&Queue) -> usize) -> Option<Instant> {
        let operation = self.known(operation)?;
        self.outlook_of(operation, now)(before(&operation.queue))
    }

    /// Notes the window that an answer of this operation shows: its own, or one that others show too.
    fn note(&mut self, operation: &'static str, seen: &Observed, random: &Random) {
        let current = self.operation(operation).window;
        let shared = self.operations.iter().filter(|one| one.window == current).count() > 1;
        let own = |window: &Window| Some(window.number) == current;
        if self.windows.iter().any(|window| own(window) && window.is_over_for(seen)) {
            return;
        }
        let apart = self.windows.iter().any(|window| own(window) && window.apart);
        // Its own as it stands, before another that it may share, before its own as it begins anew.
        let fits = |window: &Window| match (own(window), window.may_be_of(seen)) {
            (true, true) if shared || window.ends.is_some() => Some(2),
            (false, true) if current.is_none() || !(apart || window.apart) => Some(1),
            (true, _) if !shared => Some(0),
            _ => None,
        };
        let best = self.windows.iter_mut().filter_map(|window| Some((fits(window)?, window)));
        let number = match best.max_by_key(|(fit, _)| *fit) {
            Some((_, window)) => {
                window.note(seen);
                window.number
            }
            None => {
                let apart = self.windows.iter().any(|window| window.is_apart_from(seen));
                self.seen += 1;
                self.windows.reserve_exact(1);
                self.windows.push(Window::new(self.seen, seen, apart, random));
                self.seen
            }
        };
        self.operation(operation).window = Some(number);
        let operations = &self.operations;
        self.windows.retain(|window| operations.iter().any(|one| one.window == Some(window.number)));
    }

    /// What was sent then no longer counts as unanswered.
    fn give_back(&mut self, operation: &'static str, sent: Instant) {
        let one = self.operation(operation);
        one.pending = one.pending.saturating_sub(1);
        if !one.was_shut_since(sent) {
            one.first.out = one.first.out.saturating_sub(1);
        }
    }

    /// Tells those for whom it became too late.
    fn give_up_hope(&mut self, now: Instant) {
        let outlooks: Vec<_> = self.operations.iter().map(|operation| self.outlook_of(operation, now)).collect();
        self.operations.iter_mut().zip(outlooks).for_each(|(operation, outlook)| operation.queue.give_up_hope(outlook));
    }

    fn wake(&self) {
        self.operations.iter().for_each(|operation| operation.queue.wake_first());
    }
}

impl Operation {
    fn shut_until(&self, now: Instant) -> Option<Instant> {
        self.limit.as_ref().map(|limit| limit.shut_until).filter(|until| *until > now)
    }

    /// Whether a 429 came since then.
    fn was_shut_since(&self, sent: Instant) -> bool {
        self.limit.as_ref().is_some_and(|limit| limit.shut_since > sent)
    }

    /// A 429 has shut it.
    fn shut(&mut self, refusal: TooManyRequests, sent: Instant, now: Instant, policy: &RetryPolicy, random: &Random) {
        let first = Limit { shut_until: now, shut_since: sent, ends: now, name: None, blind: 0, blind_since: now };
        let limit = self.limit.get_or_insert_with(|| Box::new(first));
        // No wait at all is no word on it: taken at that, one call alone would ask again and again.
        let said = refusal.wait.filter(|wait| !wait.is_zero());
        let wait = said.unwrap_or_else(|| policy.backoff_bound(limit.blind));
        match said {
            Some(_) => limit.blind = 0,
            None if limit.shut_since > sent => {}
            None => {
                limit.blind_since = if limit.blind == 0 { now } else { limit.blind_since };
                limit.blind = limit.blind.saturating_add(1);
            }
        }
        let until = after(now, wait.min(policy.retry_after_cap).saturating_add(random.below(SPREAD)));
        limit.shut_until = limit.shut_until.max(until);
        limit.ends = limit.ends.max(after(now, said.unwrap_or_default()));
        limit.shut_since = now;
        limit.name = refusal.limit.or(limit.name.take());
        // Whether it is open again is one call's to find out, and none's that is under way.
        self.first = Round { may: Some(1), out: 0, until: None };
    }

    fn served(&mut self, sent: Instant) {
        if self.was_shut_since(sent) {
            return; // It speaks of before.
        }
        if let Some(limit) = &mut self.limit {
            // Whatever it was is over.
            (limit.blind, limit.ends, limit.name) = (0, limit.shut_until, None);
        }
        // Where a window is known, that one says how many may follow; else twice as many as before.
        let more = self.first.may.map(|may| may * 2).filter(|may| *may < FIRST_CALLS);
        self.first.may = more.filter(|_| self.window.is_none());
    }
}

/// One request of the quota, being sent. To drop it is to say that no answer came.
#[must_use]
pub(crate) struct Reservation<'a> {
    gate: &'a QuotaGate,
    operation: &'static str,
    sent: Instant,
}

impl Reservation<'_> {
    /// An answer came, with these headers; `refusal` where it is a 429.
    pub(crate) fn answered(
        self,
        now: Instant,
        headers: Option<QuotaHeaders>,
        refusal: Option<TooManyRequests>,
        policy: &RetryPolicy,
    ) {
        let Self { gate, operation, sent } = self;
        std::mem::forget(self);
        let mut state = gate.at(now);
        // When the last of those who wait can be served, if anyone does.
        let last_served = |state: &State| {
            let any_waits = state.operations.iter().any(|operation| operation.queue.len() > 0);
            any_waits.then(|| state.outlook(operation, now, Queue::len)).flatten()
        };
        let before = last_served(&state);
        match headers {
            Some(headers) => state.note(operation, &headers.observed(sent, now, policy.retry_after_cap), &gate.random),
            None => state.untold |= refusal.is_none(),
        }
        state.give_back(operation, sent);
        match refusal {
            Some(refusal) => state.operation(operation).shut(refusal, sent, now, policy, &gate.random),
            None => state.operation(operation).served(sent),
        }
        if last_served(&state) > before {
            state.give_up_hope(now);
        }
        state.wake();
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.give_back(self.operation, self.sent);
        state.wake();
    }
}

/// A position in the queue, given up when dropped.
struct Waiting<'a> {
    gate: &'a QuotaGate,
    operation: &'static str,
    position: Position,
    wake: Arc<Notify>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.lock().operation(self.operation).queue.leave(self.position);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::task::{JoinHandle, JoinSet};
    use tokio::time::{advance, sleep, timeout};

    use super::*;

    const READ: &str = "get script";
    const LIST: &str = "list scripts";
    const PUBLISH: &str = "publish script";

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn in_an_hour() -> Instant {
        Instant::now() + secs(3600)
    }

    fn gate() -> Arc<QuotaGate> {
        gate_of(7)
    }

    fn gate_of(seed: u64) -> Arc<QuotaGate> {
        Arc::new(QuotaGate::new(Arc::new(Random::new(Some(seed)))))
    }

    fn told(allowed: u32, count: u32, reset: u64) -> Option<QuotaHeaders> {
        Some(QuotaHeaders { allowed, count, reset: secs(reset) })
    }

    fn refused(seconds: Option<u64>) -> Option<TooManyRequests> {
        Some(TooManyRequests { wait: seconds.map(secs), limit: None })
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_is_told_which_limit_and_when_it_ends() {
        let scripts = || By::Named("scripts.max".to_owned());
        let refused = |why, by| {
            let available_at = Some(Instant::now() + secs(9));
            let error = QuotaRefused { why, available_at, by }.into_error(READ, 7, false, None);
            assert!(error.is_throttled() && error.retry_after() == Some(secs(9)), "{error}");
            error.to_string()
        };
        let named = refused(GaveUp::DeadlineWouldPass, scripts());
        assert!(
            named.contains("limit scripts.max for `get script` is reached; the next attempt would have come after"),
            "{named}"
        );
        let named = refused(GaveUp::NoEndSaid, scripts());
        assert!(named.contains("limit scripts.max for `get script` is reached; not waited for longer"), "{named}");
        let unnamed = refused(GaveUp::DeadlineWouldPass, By::Window);
        assert!(
            unnamed.contains("may ask of `get script` is spent; the next attempt would have come after"),
            "{unnamed}"
        );
        let untold = refused(GaveUp::DeadlineWouldPass, By::Limit);
        assert!(untold.contains("allows no more of `get script` for now; the next attempt would have"), "{untold}");
        let full = refused(GaveUp::QueueFull, scripts());
        assert!(
            full.contains(
                "7 calls of this agent wait for the quota of `get script` already; not waited for: `max_waiting`"
            ),
            "{full}"
        );
        let early = refused(GaveUp::DeadlineWouldPass, By::FirstAnswers);
        assert!(early.contains("the first answers to `get script`, which tell its limit, did not come"), "{early}");
        let hostile = refused(GaveUp::NoEndSaid, By::Named("x\u{1b}[2J\nERROR".to_owned()));
        assert!(!hostile.contains(['\u{1b}', '\n']), "{hostile}");
        let endless = refused(GaveUp::NoEndSaid, By::Limit);
        assert!(
            endless.contains("no more of `get script` for now; not waited for longer: the service does not say when"),
            "{endless}"
        );
        for untold in [untold, endless] {
            assert!(!untold.contains("token") && !untold.contains("quota"), "{untold}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_nobody_runs_holds_nobody_up() {
        let gate = gate();
        answered(&gate, READ, None, refused(Some(9))).await;
        let now = Instant::now();
        let mut still = [(); 3].map(|()| Box::pin(gate.wait(READ, now, in_an_hour(), None, 10)));
        for one in &mut still {
            assert!(futures_util::poll!(one).is_pending());
        }
        advance(secs(1)).await;
        let later = Instant::now();
        for _ in 0..2 {
            let sent = timeout(secs(14), gate.wait(READ, later, in_an_hour(), None, 10)).await;
            assert_eq!(sent, Ok(Ok(true)));
            drop(gate.take(READ, later, Instant::now()).unwrap());
        }
        // Run again, they come first.
        for one in &mut still {
            assert_eq!(timeout(secs(2), one).await, Ok(Ok(true)));
        }
    }

    /// The one that is not run is passed over, and who is run goes before who came later.
    #[tokio::test(start_paused = true)]
    async fn who_is_run_behind_one_that_is_not_goes_in_time_and_in_its_turn() {
        let gate = gate();
        answered(&gate, READ, told(2, 1, 50), None).await;
        let under_way = gate.take(READ, Instant::now(), Instant::now()).unwrap();
        let now = Instant::now();
        let mut still = Box::pin(gate.wait(READ, now, in_an_hour(), None, 10));
        assert!(futures_util::poll!(&mut still).is_pending());
        let went = Arc::new(Mutex::new(Vec::new()));
        let mut calls = JoinSet::new();
        for name in ["second", "third"] {
            advance(secs(1)).await;
            let (gate, went, begun) = (Arc::clone(&gate), Arc::clone(&went), Instant::now());
            calls.spawn(async move {
                assert_eq!(gate.wait(READ, begun, in_an_hour(), None, 10).await, Ok(true));
                went.lock().unwrap().push((name, begun.elapsed()));
            });
            tokio::task::yield_now().await;
        }
        advance(secs(7)).await;
        // It is free long before the window ends.
        drop(under_way);
        calls.join_all().await;
        let went = went.lock().unwrap();
        assert_eq!(went.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["second", "third"]);
        assert!(went.iter().all(|(_, after)| *after < secs(12)), "{went:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_429_said_of_its_limit_is_over_once_a_call_is_served() {
        let gate = gate();
        let limit = TooManyRequests { wait: Some(secs(3600)), limit: Some("scripts.max".to_owned()) };
        answered(&gate, READ, None, Some(limit)).await;
        advance(secs(200)).await;
        answered(&gate, READ, told(300, 1, 60), None).await;
        advance(secs(20)).await;
        answered(&gate, READ, told(300, 300, 40), None).await;
        let now = Instant::now();
        let refused = gate.wait(READ, now, now + secs(5), None, 10).await.unwrap_err();
        assert_eq!(refused.by, By::Window, "another one is spent");
        assert!(refused.available_at.unwrap() <= now + secs(42), "{refused:?}");
    }

    /// Fixed windows of 60 s, opened by the first request after the last one ended; refused ones do not count. Operations of
    /// one number share a window.
    struct Service {
        limits: HashMap<&'static str, (usize, u32)>,
        tells: bool,
        windows: Mutex<HashMap<usize, (Instant, u32)>>,
        refused: AtomicU32,
    }

    impl Service {
        fn new(limits: &[(&'static str, usize, u32)], tells: bool) -> Arc<Self> {
            let limits = limits.iter().map(|(operation, window, limit)| (*operation, (*window, *limit))).collect();
            Arc::new(Self { limits, tells, windows: Mutex::default(), refused: AtomicU32::new(0) })
        }

        fn answer(&self, operation: &str) -> (Option<QuotaHeaders>, Option<TooManyRequests>) {
            let (number, limit) = self.limits[operation];
            let mut windows = self.windows.lock().unwrap();
            let now = Instant::now();
            let window = windows.entry(number).or_insert((now, 0));
            if now >= window.0 + secs(60) {
                *window = (now, 0);
            }
            let left = (window.0 + secs(60) - now).as_secs_f64().ceil() as u64;
            let is_refused = window.1 == limit;
            window.1 += u32::from(!is_refused);
            self.refused.fetch_add(u32::from(is_refused), Ordering::Relaxed);
            let headers = if self.tells { told(limit, window.1, left) } else { None };
            (headers, is_refused.then(|| TooManyRequests { wait: Some(secs(left)), limit: None }))
        }

        fn refused(&self) -> u32 {
            self.refused.load(Ordering::Relaxed)
        }
    }

    /// One call until it is served, as `call.rs` does it.
    async fn call(
        gate: &QuotaGate,
        service: &Service,
        operation: &'static str,
        latency: Duration,
        deadline: Instant,
    ) -> bool {
        let begun = Instant::now();
        loop {
            if !gate.wait(operation, begun, deadline, None, 20_000).await.is_ok_and(|gate_holds| gate_holds) {
                return false;
            }
            let Some(ticket) = gate.take(operation, begun, Instant::now()) else { continue };
            sleep(latency / 2).await;
            let (headers, throttled) = service.answer(operation);
            sleep(latency / 2).await;
            let done = throttled.is_none();
            ticket.answered(Instant::now(), headers, throttled, &RetryPolicy::default());
            if done {
                return true;
            }
        }
    }

    /// So many calls at once, over these operations in turn; how long that takes.
    async fn burst(
        gate: &Arc<QuotaGate>,
        service: &Arc<Service>,
        calls: usize,
        of: &[&'static str],
        latency: [u64; 2],
    ) -> Duration {
        let start = Instant::now();
        let mut rng = fastrand::Rng::with_seed(11);
        let mut running = JoinSet::new();
        for number in 0..calls {
            let (gate, service, operation) = (Arc::clone(gate), Arc::clone(service), of[number % of.len()]);
            let latency = Duration::from_millis(rng.u64(latency[0]..=latency[1]));
            running.spawn(async move { call(&gate, &service, operation, latency, in_an_hour()).await });
        }
        assert!(running.join_all().await.into_iter().all(|served| served));
        start.elapsed()
    }

    /// Spawned, so that it waits while the test goes on.
    fn waits(gate: &Arc<QuotaGate>, operation: &'static str) -> JoinHandle<Result<Duration, QuotaRefused>> {
        let gate = Arc::clone(gate);
        let asked = Instant::now();
        tokio::spawn(async move {
            gate.wait(operation, asked, in_an_hour(), None, 20_000).await?;
            drop(gate.take(operation, asked, Instant::now()));
            Ok(asked.elapsed())
        })
    }

    /// As many as may go while nothing is known.
    async fn all_that_go_first(gate: &QuotaGate) -> Vec<Reservation<'_>> {
        (0..FIRST_CALLS).map(|_| gate.take(READ, Instant::now(), Instant::now()).unwrap()).collect()
    }

    async fn answered(
        gate: &QuotaGate,
        operation: &'static str,
        headers: Option<QuotaHeaders>,
        throttled: Option<TooManyRequests>,
    ) {
        assert!(gate.wait(operation, Instant::now(), in_an_hour(), None, 20_000).await.unwrap());
        gate.take(operation, Instant::now(), Instant::now()).unwrap().answered(
            Instant::now(),
            headers,
            throttled,
            &RetryPolicy::default(),
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_that_is_told_is_used_up_and_never_overrun() {
        for limit in [300_u32, 180, 50] {
            for calls in [150_usize, 450, 900] {
                for latency in [[20, 20], [5, 400]] {
                    let service = Service::new(&[(READ, 0, limit)], true);
                    let took = burst(&gate(), &service, calls, &[READ], latency).await;
                    let boundaries = calls.div_ceil(limit as usize) as u32 - 1;
                    let ideal = secs(60) * boundaries + Duration::from_millis(2 * latency[1]);
                    println!(
                        "{calls} calls at {limit}, {latency:?}: {took:?} of {ideal:?}, {} refused",
                        service.refused()
                    );
                    assert!(took <= ideal + secs(1) * boundaries, "{took:?}");
                    assert_eq!(service.refused(), 0);
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn operations_that_share_a_window_keep_it_together() {
        for latency in [[20, 20], [5, 400]] {
            let service = Service::new(&[(READ, 0, 300), (LIST, 0, 300), (PUBLISH, 0, 300)], true);
            let took = burst(&gate(), &service, 450, &[READ, LIST, PUBLISH], latency).await;
            println!("{latency:?}: {took:?}, {} refused", service.refused());
            assert!(took <= secs(62), "{took:?}");
            assert!(service.refused() <= 10, "{}", service.refused());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn windows_that_look_alike_and_are_not_hold_nobody_up() {
        // As many allowed, opened at the same moment.
        let service = Service::new(&[(READ, 0, 100), (LIST, 1, 100)], true);
        let gate = gate();
        let took = burst(&gate, &service, 160, &[READ, LIST], [20, 20]).await;
        assert!(took <= secs(1), "80 of each fit: {took:?}");

        // As many allowed and the same end, but it counts by itself: what is spent of the one is not spent of the other.
        let gate = self::gate();
        answered(&gate, READ, told(100, 100, 60), None).await;
        advance(Duration::from_millis(10)).await;
        answered(&gate, LIST, told(100, 1, 60), None).await;
        let asked = Instant::now();
        gate.wait(LIST, asked, asked + secs(1), None, 20_000).await.unwrap();
        assert_eq!(asked.elapsed(), Duration::ZERO);
        assert!(gate.wait(READ, asked, asked + secs(1), None, 20_000).await.is_err(), "its own is spent");
        // Nor of the next ones, although these look alike again.
        advance(secs(61)).await;
        for (reads, lists) in [(1, 1), (50, 2), (100, 3)] {
            answered(&gate, READ, told(100, reads, 60), None).await;
            answered(&gate, LIST, told(100, lists, 60), None).await;
        }
        assert!(gate.take(READ, Instant::now(), Instant::now()).is_none(), "its own is spent");
        assert!(gate.take(LIST, Instant::now(), Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn windows_that_come_to_look_alike_hold_nobody_up() {
        let service = Service::new(&[(READ, 0, 100), (LIST, 1, 100)], true);
        let gate = gate();
        burst(&gate, &service, 1, &[READ], [20, 20]).await;
        advance(secs(20)).await;
        burst(&gate, &service, 1, &[LIST], [20, 20]).await;
        for _ in 0..3 {
            // From here on both open at the same moment.
            advance(secs(200)).await;
            let took = burst(&gate, &service, 160, &[READ, LIST], [20, 20]).await;
            assert!(took <= secs(1), "80 of each fit: {took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn operations_that_learn_of_their_window_as_another_ends_share_the_new_one() {
        let gate = gate();
        answered(&gate, READ, told(60, 1, 60), None).await;
        // The next window begins. Of the one before it is known to a second when it ended.
        advance(secs(60)).await;
        answered(&gate, LIST, told(60, 1, 60), None).await;
        answered(&gate, READ, told(60, 2, 60), None).await;
        let sent: Vec<_> = [READ, LIST]
            .iter()
            .cycle()
            .take(200)
            .map_while(|of| gate.take(of, Instant::now(), Instant::now()))
            .collect();
        assert_eq!(sent.len(), 58);
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_that_was_taken_for_a_shared_one_is_told_apart_as_soon_as_it_shows() {
        for (reads, lists) in [(5, 6), (50, 60), (90, 91)] {
            let gate = gate();
            answered(&gate, READ, told(100, reads, 60), None).await;
            advance(Duration::from_millis(10)).await;
            answered(&gate, LIST, told(100, lists, 60), None).await;
            advance(secs(30)).await;
            // Another end: it is no longer the same one, if it ever was.
            answered(&gate, LIST, told(100, 2, 59), None).await;
            answered(&gate, READ, told(100, 100, 30), None).await;
            assert!(gate.take(LIST, Instant::now(), Instant::now()).is_some(), "{reads} {lists}");
            assert!(gate.take(READ, Instant::now(), Instant::now()).is_none(), "its own is spent");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_one_operation_holds_no_other() {
        let hour = refused(Some(3_600));
        for (headers, throttled) in [
            (told(300, 6, 60), refused(Some(20))),
            (None, refused(Some(20))),
            (None, refused(None)),
            (told(3, 3, 60), None),
            (told(3, 3, 60), refused(Some(60))),
            (None, hour),
        ] {
            let gate = gate();
            answered(&gate, READ, told(300, 8, 60), None).await;
            answered(&gate, PUBLISH, headers, throttled.clone()).await;
            for _ in 0..100 {
                gate.take(READ, Instant::now(), Instant::now()).unwrap().answered(
                    Instant::now(),
                    told(300, 9, 60),
                    None,
                    &RetryPolicy::default(),
                );
            }
            assert!(
                gate.take(PUBLISH, Instant::now(), Instant::now()).is_none(),
                "{headers:?} {throttled:?} holds its own"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_a_window_is_kept_a_second_for_those_whose_answers_may_show_it_too() {
        let gate = gate();
        // Another window, which is known to be another, keeps nothing.
        answered(&gate, PUBLISH, told(5, 1, 30), None).await;
        advance(Duration::from_millis(10)).await;
        answered(&gate, READ, told(300, 298, 60), None).await;
        let take = |operation| gate.take(operation, Instant::now(), Instant::now());
        let _known = [take(PUBLISH).unwrap(), take(PUBLISH).unwrap()];
        drop(take(READ).unwrap());
        let _unknown = [take(LIST).unwrap(), take(LIST).unwrap()];
        assert!(take(READ).is_none());
        advance(FIRST_ANSWER - Duration::from_millis(10)).await;
        assert!(take(READ).is_none());
        advance(Duration::from_millis(20)).await;
        assert!(take(READ).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_holds_its_operation_for_as_long_as_it_says() {
        let gate = gate();
        answered(&gate, READ, None, refused(Some(20))).await;
        let waited = waits(&gate, READ).await.unwrap().unwrap();
        assert!((secs(20)..secs(20) + SPREAD).contains(&waited), "{waited:?}");
        // Beyond the cap nobody waits for ever.
        answered(&gate, LIST, None, refused(Some(u64::MAX))).await;
        let waited = waits(&gate, LIST).await.unwrap().unwrap();
        assert!((secs(180)..secs(180) + SPREAD).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_429_one_call_finds_out_then_twice_as_many_follow_and_what_was_sent_before_says_nothing() {
        let (gate, policy) = (gate(), RetryPolicy::default());
        let mut before = all_that_go_first(&gate).await;
        advance(Duration::from_millis(20)).await;
        before.pop().unwrap().answered(Instant::now(), None, refused(Some(20)), &policy);
        advance(secs(20) + SPREAD).await;
        before.into_iter().for_each(|late| late.answered(Instant::now(), None, None, &policy));
        for expected in [1, 2, 4, 8, 16, 32] {
            let now = Instant::now();
            let mut round: Vec<_> = std::iter::from_fn(|| gate.take(READ, now, now)).take(200).collect();
            assert_eq!(round.len(), expected);
            // The others are never heard of.
            round.pop().unwrap().answered(now, None, None, &policy);
        }
        let now = Instant::now();
        assert_eq!(std::iter::from_fn(|| gate.take(READ, now, now)).take(200).count(), 200, "all go");
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_that_does_not_say_how_long_is_asked_again_after_a_growing_backoff() {
        let gate = gate();
        let mut waits_ms = Vec::new();
        for _ in 0..8 {
            let asked = Instant::now();
            answered(&gate, READ, None, refused(None)).await;
            waits_ms.push(asked.elapsed().as_millis() as u64);
        }
        for (waited, bound) in waits_ms.iter().skip(1).zip([100, 200, 400, 800, 1_600, 3_200, 5_000]) {
            assert!((bound..=bound + 250).contains(waited), "{waits_ms:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_that_does_not_say_how_long_is_waited_for_no_longer_than_an_outage() {
        let long = Some(secs(15));
        // What is refused, and whether who rides it out, or is told when it ends, waits for longer.
        for (headers, wait, longest, waits) in [
            (None, None, long, 15),
            (None, Some(0), long, 15),
            (told(300, 7, 60), None, long, 15),
            (None, None, None, 50),
            (None, Some(40), long, 40),
            (told(300, 300, 40), None, long, 40),
        ] {
            let gate = gate();
            let begun = Instant::now();
            // Refused whenever it is asked.
            while begun.elapsed() < secs(50) {
                match gate.wait(READ, begun, begun + secs(50), longest, 20_000).await {
                    Ok(_) if wait == Some(40) && begun.elapsed() >= secs(40) => break,
                    Ok(_) if headers == told(300, 300, 40) && begun.elapsed() >= secs(40) => break,
                    Ok(_) => gate.take(READ, begun, Instant::now()).unwrap().answered(
                        Instant::now(),
                        headers,
                        refused(wait),
                        &RetryPolicy::default(),
                    ),
                    Err(told) => {
                        let why = if waits == 15 { GaveUp::NoEndSaid } else { GaveUp::DeadlineWouldPass };
                        assert_eq!(told.why, why);
                        break;
                    }
                }
            }
            let waited = begun.elapsed();
            // A backoff may say before its deadline that it would be late.
            let least = if waits == 50 { secs(44) } else { secs(waits) };
            assert!(waited >= least && waited <= secs(waits) + SPREAD, "{headers:?} {wait:?} {longest:?}: {waited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_call_waited_for_before_such_a_429_does_not_count() {
        // For its login, or for a window that was told.
        for told_of in [None, told(300, 300, 60)] {
            let gate = gate();
            let begun = Instant::now();
            if told_of.is_some() {
                answered(&gate, READ, told_of, None).await;
            }
            sleep(secs(61)).await;
            answered(&gate, READ, None, refused(None)).await;
            let refused_at = Instant::now();
            loop {
                match gate.wait(READ, begun, in_an_hour(), Some(secs(15)), 20_000).await {
                    Ok(_) => gate.take(READ, begun, Instant::now()).unwrap().answered(
                        Instant::now(),
                        None,
                        refused(None),
                        &RetryPolicy::default(),
                    ),
                    Err(told) => break assert_eq!(told.why, GaveUp::NoEndSaid),
                }
            }
            assert_eq!(refused_at.elapsed().as_secs(), 15, "{told_of:?}");
        }
        // Nor does a 429 that did not say how long, once another says it.
        let gate = gate();
        answered(&gate, READ, None, refused(None)).await;
        answered(&gate, READ, None, refused(Some(40))).await;
        let asked = Instant::now();
        assert!(gate.wait(READ, asked, in_an_hour(), Some(secs(15)), 20_000).await.is_ok());
        assert!(asked.elapsed() >= secs(40));
    }

    #[tokio::test(start_paused = true)]
    async fn of_an_unknown_token_a_few_calls_go_first_and_are_waited_for_no_longer_than_a_second() {
        let gate = gate();
        let mut tickets = all_that_go_first(&gate).await;
        let ticket = tickets.pop().unwrap();
        let others: Vec<_> = (0..10).map(|_| waits(&gate, READ)).collect();
        advance(Duration::from_millis(100)).await;
        ticket.answered(Instant::now(), told(300, 1, 60), None, &RetryPolicy::default());
        for other in others {
            assert_eq!(other.await.unwrap().unwrap(), Duration::from_millis(100));
        }

        let gate = self::gate();
        let _tickets = all_that_go_first(&gate).await;
        let others: Vec<_> = (0..10).map(|_| waits(&gate, READ)).collect();
        for other in others {
            assert_eq!(other.await.unwrap().unwrap(), FIRST_ANSWER);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_header_tells_nobody_waits() {
        let gate = gate();
        answered(&gate, READ, None, None).await;
        let mut tickets = Vec::new();
        for operation in [READ, LIST, PUBLISH] {
            for _ in 0..1_000 {
                tickets.push(gate.take(operation, Instant::now(), Instant::now()).unwrap());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_be_served_in_time_is_told_at_once_and_when_it_could_be() {
        let gate = gate();
        answered(&gate, READ, told(50, 50, 60), None).await;
        let asked = Instant::now();
        let told_so = gate.wait(READ, asked, asked + secs(30), None, 20_000).await.unwrap_err();
        assert_eq!(asked.elapsed(), Duration::ZERO);
        let available = told_so.available_at.unwrap() - asked;
        assert_eq!(told_so.why, GaveUp::DeadlineWouldPass);
        assert!((secs(60)..secs(60) + SPREAD).contains(&available), "{available:?}");

        // Those who wait already, as soon as it is known.
        let gate = self::gate();
        let mut tickets = all_that_go_first(&gate).await;
        let ticket = tickets.pop().unwrap();
        let waiting = {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { gate.wait(READ, asked, asked + secs(30), None, 20_000).await })
        };
        advance(Duration::from_millis(10)).await;
        ticket.answered(Instant::now(), None, refused(Some(60)), &RetryPolicy::default());
        assert!(waiting.await.unwrap().unwrap_err().available_at.unwrap() >= asked + secs(60));
        assert!(asked.elapsed() < secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_refusal_names_the_limit_where_the_service_did() {
        let gate = gate();
        let limit = "scripts.publish.rate.per.minute".to_owned();
        answered(&gate, PUBLISH, None, Some(TooManyRequests { wait: Some(secs(20)), limit: Some(limit.clone()) }))
            .await;
        let asked = Instant::now();
        let told = gate.wait(PUBLISH, asked, asked + secs(5), None, 20_000).await.unwrap_err();
        assert_eq!(told.by, By::Named(limit));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_wedges_nobody() {
        let gate = gate();
        let mut tickets = all_that_go_first(&gate).await;
        let ticket = tickets.pop().unwrap();
        let gone: Vec<_> = (0..5).map(|_| waits(&gate, READ)).collect();
        let stays = waits(&gate, READ);
        advance(Duration::from_millis(10)).await;
        gone.iter().for_each(JoinHandle::abort);
        advance(Duration::from_millis(10)).await;
        drop(ticket);
        assert!(stays.await.unwrap().unwrap() < secs(2));
        // What was taken and not sent is another's.
        let gate = self::gate();
        answered(&gate, READ, told(2, 1, 60), None).await;
        let taken = gate.take(READ, Instant::now(), Instant::now()).unwrap();
        let next = waits(&gate, READ);
        advance(Duration::from_millis(10)).await;
        drop(taken);
        assert!(next.await.unwrap().unwrap() < secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_began_earlier_goes_first_and_those_of_one_moment_do_not_wait_for_each_other() {
        let gate = gate();
        answered(&gate, READ, told(50, 49, 60), None).await;
        let early = Instant::now();
        advance(Duration::from_millis(1)).await;
        let last = gate.take(READ, Instant::now(), Instant::now()).unwrap();
        let young: Vec<_> = (0..3).map(|_| waits(&gate, READ)).collect();
        advance(Duration::from_millis(1)).await;
        let old = {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                gate.wait(READ, early, in_an_hour(), None, 20_000).await.unwrap();
                gate.take(READ, early, Instant::now()).is_some_and(|one| {
                    std::mem::forget(one); // It is still under way.
                    true
                })
            })
        };
        advance(Duration::from_millis(1)).await;
        drop(last);
        assert!(old.await.unwrap());
        assert!(young.iter().all(|one| !one.is_finished()), "one was left");
        for one in young {
            assert!(one.await.unwrap().unwrap() >= secs(59), "in the next window, all of them");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_who_wait_only_those_who_cannot_be_served_in_time_are_told() {
        for (within, fit) in [(30, 9), (90, 19), (150, 25)] {
            let (gate, service) = (gate(), Service::new(&[(READ, 0, 10)], true));
            assert!(call(&gate, &service, READ, secs(0), in_an_hour()).await, "tells of ten a minute");
            let asked = Instant::now();
            let calls: Vec<_> = (0..25)
                .map(|_| {
                    let (gate, service) = (Arc::clone(&gate), Arc::clone(&service));
                    tokio::spawn(async move {
                        let served = call(&gate, &service, READ, secs(1) / 100, asked + secs(within)).await;
                        (served, asked.elapsed())
                    })
                })
                .collect();
            let mut served = 0;
            for call in calls {
                let (is_served, took) = call.await.unwrap();
                served += u32::from(is_served);
                assert!(is_served || took < secs(1), "told after {took:?}");
            }
            assert_eq!(served, fit, "within {within} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_replaced_token_sends_its_waiters_away() {
        let gate = gate();
        answered(&gate, READ, told(50, 50, 60), None).await;
        let waiting = waits(&gate, READ);
        advance(Duration::from_millis(10)).await;
        gate.retire();
        assert!(waiting.await.unwrap().is_ok(), "it is to go to another gate");
        assert!(!gate.wait(READ, Instant::now(), in_an_hour(), None, 20_000).await.unwrap());
        assert!(gate.take(LIST, Instant::now(), Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn answers_out_of_order_and_other_processes_are_counted() {
        let service = Service::new(&[(READ, 0, 100)], true);
        let (ours, theirs) = (gate_of(1), gate_of(2));
        let (a, b) = tokio::join!(
            burst(&ours, &service, 250, &[READ], [5, 900]),
            burst(&theirs, &service, 250, &[READ], [5, 900])
        );
        println!("two processes: {:?}, {} refused of 500", a.max(b), service.refused());
        assert!(a.max(b) < secs(250) && service.refused() < 500, "{a:?} {b:?} {}", service.refused());
    }
}
