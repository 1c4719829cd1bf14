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

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::queue::{Place, Queue};
use super::window::{QuotaHeaders, ROUNDING, SPREAD, Told, Window};
use crate::random::Random;
use crate::retry::{RetryPolicy, after};

/// So many calls of an operation of which nothing is known go at once: no more than any window known to exist allows.
const FIRST_CALLS: u32 = 50;
/// Who goes first is waited for no longer: a slow answer must not hold everyone.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// After a 429 it may be waited for longer: that there is a limit is known.
const ANSWER_AFTER_A_429: Duration = Duration::from_secs(5);

/// How the quota of one operation stands, as its answers tell; see [`Agent::quota`](crate::Agent::quota).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuotaStanding {
    /// The operation, like `get script`.
    pub operation: &'static str,
    /// Requests that its window allows, shared with other operations that show the same; `None` where no header told.
    pub allowed: Option<u32>,
    /// Requests left in the window, those in flight taken off, and zero while a 429 holds; `None` where no header told.
    pub remaining: Option<u32>,
    /// In how long the next request may be sent; `None` where one may be now, or where that is not known.
    pub available_in: Option<Duration>,
    /// Calls of the operation that wait for it.
    pub waiting: usize,
}

/// A refusal for a limit (429): the wait it asks for, if it says, and the limit's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Throttled {
    pub(crate) wait: Option<Duration>,
    pub(crate) limit: Option<String>,
}

/// Why a call may not be sent, nor wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuotaRefused {
    pub(crate) why: QuotaRefusal,
    /// When it could be sent, as far as is known.
    pub(crate) available_at: Option<Instant>,
    /// The limit's name, where a 429 gave it.
    pub(crate) limit: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuotaRefusal {
    /// It would come after the deadline.
    TooLate,
    /// Too many wait.
    QueueFull,
    /// The token was replaced: ask the gate of the new one.
    Retired,
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
    /// Whether the answers of this token carry headers, once there was one.
    tells: Option<bool>,
    retired: bool,
}

struct Operation {
    name: &'static str,
    /// The window that its own answers show.
    window: Option<u64>,
    /// Sent or about to be, and not answered.
    pending: u32,
    first: Round,
    /// What its 429s told, once there was one.
    limit: Option<Box<Limit>>,
    queue: Queue,
}

/// Who goes first, where it is not known what an answer will tell.
#[derive(Default)]
struct Round {
    /// A 429 begins a new one.
    number: u32,
    /// How many may go; none where the answer is known.
    may: Option<u32>,
    /// How many are under way, and until when the others wait for the first answer.
    out: u32,
    until: Option<Instant>,
}

/// A request that is about to be sent: of this round, if it goes first.
#[derive(Clone, Copy)]
struct Promise {
    round: Option<u32>,
}

/// What 429s told of a limit.
struct Limit {
    /// The operation is shut until then, by the 429 of then.
    shut_until: Instant,
    shut_since: Instant,
    /// Its name, where the service gave it.
    name: Option<String>,
    /// 429s in a row that did not say how long to wait.
    blind: u32,
}

/// Whether a call may be sent now.
#[derive(Clone, Copy)]
enum Leave {
    Yes,
    /// It goes first, and the others wait for its answer.
    First,
    /// Not before then, as far as is known.
    At(Instant),
}

impl QuotaGate {
    pub(crate) fn new(random: Arc<Random>) -> Self {
        Self { random, state: Mutex::default() }
    }

    /// The turn of a call of this operation that began then: its place among those that wait, of whom there may be so many.
    pub(crate) fn turn(&self, operation: &'static str, begun: Instant, most_waiting: usize) -> Turn<'_> {
        Turn { gate: self, operation, begun, most_waiting, promise: None }
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
            let shut = operation.shut_until(now);
            let remaining = window.map(|window| if shut.is_some() { 0 } else { state.left(window) });
            QuotaStanding {
                operation: operation.name,
                allowed: window.map(|window| window.allowed),
                remaining,
                available_in: state.outlook(operation, 0, now).map(|at| at.saturating_duration_since(now)),
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
    /// Where the operation is in the list; from its first call on it is there.
    fn position(&mut self, name: &'static str) -> usize {
        let known = self.operations.iter().position(|operation| operation.name == name);
        known.unwrap_or_else(|| {
            // Few agents call more than one or two operations.
            self.operations.reserve_exact(1);
            self.operations.push(Operation {
                name,
                window: None,
                pending: 0,
                // Where this token's answers carry no headers, nobody could tell the others anything.
                first: Round { may: (self.tells != Some(false)).then_some(FIRST_CALLS), ..Round::default() },
                limit: None,
                queue: Queue::default(),
            });
            self.operations.len() - 1
        })
    }

    fn window(&self, of: &Operation) -> Option<&Window> {
        self.windows.iter().find(|window| Some(window.number) == of.window)
    }

    /// How many requests of a window are used, those that are not answered yet among them.
    fn taken(&self, window: &Window) -> u64 {
        let sharing = self.operations.iter().filter(|operation| operation.window == Some(window.number));
        u64::from(window.used) + sharing.map(|operation| u64::from(operation.pending)).sum::<u64>()
    }

    fn left(&self, window: &Window) -> u32 {
        let left = u64::from(window.allowed).saturating_sub(self.taken(window));
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// Until when what is left of a window is kept for those that went first, whose answers may show it too.
    fn kept_until(&self, window: &Window, now: Instant) -> Option<Instant> {
        let unknown = |operation: &&Operation| operation.window.is_none() && operation.limit.is_none();
        let first = self.operations.iter().filter(unknown);
        let first =
            first.filter_map(|operation| Some((operation.pending, operation.first.until.filter(|by| *by > now)?)));
        let (pending, until) =
            first.fold((0_u32, None), |(sum, until), (pending, by)| (sum.saturating_add(pending), until.max(Some(by))));
        until.filter(|_| pending >= self.left(window))
    }

    fn leave(&self, operation: &Operation, now: Instant) -> Leave {
        if let Some(until) = operation.shut_until(now) {
            return Leave::At(until);
        }
        if let Some(window) = self.window(operation).filter(|window| self.left(window) == 0) {
            // Without an end nothing was answered since it began: one of those in flight will tell.
            return Leave::At(window.reopens().unwrap_or_else(|| after(now, FIRST_ANSWER)));
        }
        if let Some(until) = self.window(operation).and_then(|window| self.kept_until(window, now)) {
            return Leave::At(until);
        }
        let Round { may, out, until, .. } = operation.first;
        match (may, until) {
            (None, _) => Leave::Yes,
            (Some(may), _) if out < may => Leave::First,
            (Some(_), Some(until)) if until > now => Leave::At(until),
            (Some(_), _) => Leave::Yes,
        }
    }

    /// When a call with so many before it could be sent, at the earliest, where it could not be now and that is known.
    fn outlook(&self, operation: &Operation, before: usize, now: Instant) -> Option<Instant> {
        let shut = operation.shut_until(now);
        let before = u32::try_from(before).unwrap_or(u32::MAX);
        let Some(window) = self.window(operation) else { return shut };
        let Some(beyond) = before.checked_sub(self.left(window)) else { return shut };
        let windows = beyond.checked_div(window.allowed).unwrap_or_default();
        shut.max(window.reopens().map(|at| after(at, window.length.saturating_mul(windows))))
    }

    /// Notes the window that an answer of this operation shows.
    fn note(&mut self, at: usize, told: &Told, now: Instant, random: &Random) {
        let current = self.operations.get(at).and_then(|operation| operation.window);
        let shared = self.operations.iter().filter(|operation| operation.window == current).count() > 1;
        if let Some(window) = self.windows.iter_mut().find(|window| Some(window.number) == current) {
            if window.is_over_for(told) {
                return;
            }
            if !shared || window.may_be_of(told) {
                return window.note(told, now);
            }
        }
        // Its own, or one that others show too.
        let joined = self
            .windows
            .iter_mut()
            .find(|window| Some(window.number) != current && window.ends.is_some() && window.may_be_of(told));
        let number = match joined {
            Some(window) => {
                window.note(told, now);
                window.number
            }
            None => {
                self.seen += 1;
                self.windows.reserve_exact(1);
                self.windows.push(Window::new(self.seen, told, now, random));
                self.seen
            }
        };
        if let Some(operation) = self.operations.get_mut(at) {
            operation.window = Some(number);
        }
        let operations = &self.operations;
        self.windows.retain(|window| operations.iter().any(|operation| operation.window == Some(window.number)));
    }

    /// Tells the first of each queue, and, where it became later than it looked, those for whom it is too late now.
    fn wake(&mut self, later: bool) {
        let now = Instant::now();
        let outlooks: Vec<Vec<Option<Instant>>> = match later {
            true => self
                .operations
                .iter()
                .map(|operation| {
                    (0..operation.queue.len()).map(|before| self.outlook(operation, before, now)).collect()
                })
                .collect(),
            false => Vec::new(),
        };
        for (operation, outlook) in self.operations.iter_mut().zip(&outlooks) {
            operation.queue.give_up_hope(|before| outlook.get(before).copied().flatten());
        }
        self.operations.iter().for_each(|operation| operation.queue.wake_first());
    }

    /// What was promised or sent no longer counts as unanswered.
    fn give_back(&mut self, operation: &'static str, promise: Promise) {
        if let Some(operation) = self.operations.iter_mut().find(|one| one.name == operation) {
            operation.pending = operation.pending.saturating_sub(1);
            if promise.round == Some(operation.first.number) {
                operation.first.out = operation.first.out.saturating_sub(1);
            }
        }
    }
}

impl Operation {
    fn shut_until(&self, now: Instant) -> Option<Instant> {
        self.limit.as_ref().map(|limit| limit.shut_until).filter(|until| *until > now)
    }

    fn refused(&mut self, policy: &RetryPolicy, random: &Random, sent: Instant, now: Instant, throttled: Throttled) {
        let fresh = || Limit { shut_until: now, shut_since: sent, name: None, blind: 0 };
        let limit = self.limit.get_or_insert_with(|| Box::new(fresh()));
        // No wait at all is no word on it: taken at that, one call alone would ask again and again.
        let said = throttled.wait.filter(|wait| !wait.is_zero());
        let wait = said.unwrap_or_else(|| policy.backoff_bound(limit.blind));
        if said.is_none() && limit.shut_since <= sent {
            limit.blind = limit.blind.saturating_add(1);
        }
        let until = after(now, wait.min(policy.retry_after_cap).saturating_add(random.below(SPREAD)));
        limit.shut_until = limit.shut_until.max(until);
        limit.shut_since = now;
        limit.name = throttled.limit.or(limit.name.take());
        // Whether it is open again is one call's to find out, and none's that is under way.
        self.first = Round { number: self.first.number.wrapping_add(1), may: Some(1), out: 0, until: None };
    }

    fn served(&mut self, sent: Instant) {
        if let Some(limit) = &mut self.limit {
            if limit.shut_since > sent {
                return; // It speaks of before.
            }
            limit.blind = 0;
        }
        // Where a window is known, that one says how many may follow; else twice as many as before.
        let more = self.first.may.map(|may| may * 2).filter(|may| *may < FIRST_CALLS);
        self.first.may = more.filter(|_| self.window.is_none());
    }
}

/// A call's turn at the gate: first [`Self::wait`], then, when all else is ready, [`Self::take`].
#[must_use]
pub(crate) struct Turn<'a> {
    gate: &'a QuotaGate,
    operation: &'static str,
    begun: Instant,
    most_waiting: usize,
    promise: Option<Promise>,
}

impl<'a> Turn<'a> {
    /// Returns when a request could be sent; it is then promised to this turn. Fails at once where that would be after the
    /// deadline, as far as is known, and as soon as it is.
    pub(crate) async fn wait(&mut self, deadline: Instant) -> Result<(), QuotaRefused> {
        if self.promise.is_some() {
            return Ok(());
        }
        let (place, wake) = {
            let now = Instant::now();
            let mut state = self.gate.at(now);
            let at = state.position(self.operation);
            let first = state.operations.get(at).is_none_or(|operation| operation.queue.would_be_first(self.begun));
            match self.look(&mut state, at, first, now) {
                None => return Ok(()),
                Some(_) => self.join(&mut state, at, deadline, now)?,
            }
        };
        let _waiting = Waiting { gate: self.gate, operation: self.operation, place };
        loop {
            let until = {
                let now = Instant::now();
                let mut state = self.gate.at(now);
                let at = state.position(self.operation);
                let (first, hopeless) = state.operations.get(at).map_or((false, true), |operation| {
                    (operation.queue.is_first(place), operation.queue.is_hopeless(place))
                });
                let until = match self.look(&mut state, at, first, now) {
                    None => return Ok(()),
                    Some(until) => until.filter(|_| first).map_or(deadline, |at| at.min(deadline)),
                };
                if now >= deadline || hopeless || state.retired {
                    return Err(self.refused(&state, at, QuotaRefusal::TooLate));
                }
                until
            };
            // Woken or in time: look again.
            let _ = timeout_at(until, wake.notified()).await;
        }
    }

    /// Promises a request to this turn, if it is its turn and there is one; else says when to look again, if that is known.
    fn look(&mut self, state: &mut State, at: usize, its_turn: bool, now: Instant) -> Option<Option<Instant>> {
        let leave = state.operations.get(at).map(|operation| state.leave(operation, now))?;
        let first = match leave {
            Leave::At(at) => return Some(Some(at)),
            _ if !its_turn || state.retired => return Some(None),
            Leave::First => true,
            Leave::Yes => false,
        };
        let operation = state.operations.get_mut(at)?;
        operation.pending = operation.pending.saturating_add(1);
        if first {
            if operation.first.out == 0 {
                let patience = if operation.limit.is_some() { ANSWER_AFTER_A_429 } else { FIRST_ANSWER };
                operation.first.until = Some(after(now, patience));
            }
            operation.first.out = operation.first.out.saturating_add(1);
        }
        self.promise = Some(Promise { round: first.then_some(operation.first.number) });
        None
    }

    /// Gives up what is promised: while its call waits for something else, it is another's to take.
    pub(crate) fn put_back(&mut self) {
        if let Some(promise) = self.promise.take() {
            let mut state = self.gate.lock();
            state.give_back(self.operation, promise);
            state.wake(false);
        }
    }

    fn join(
        &self,
        state: &mut State,
        at: usize,
        deadline: Instant,
        now: Instant,
    ) -> Result<(Place, Arc<Notify>), QuotaRefused> {
        let (outlook, is_full) = match state.operations.get(at) {
            Some(operation) => (
                state.outlook(operation, operation.queue.before(self.begun), now),
                operation.queue.len() >= self.most_waiting,
            ),
            None => (None, false),
        };
        if state.retired || now >= deadline || outlook.is_some_and(|at| at > deadline) {
            return Err(self.refused(state, at, QuotaRefusal::TooLate));
        }
        match state.operations.get_mut(at) {
            Some(operation) if !is_full => Ok(operation.queue.join(self.begun, deadline)),
            _ => Err(self.refused(state, at, QuotaRefusal::QueueFull)),
        }
    }

    /// Takes one request of the quota, without waiting: now it must be sent. None when it is gone meanwhile (a 429, or
    /// another took it): wait again.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Ticket<'a>> {
        let mut state = self.gate.at(now);
        let at = state.position(self.operation);
        if self.promise.is_none() {
            let first = state.operations.get(at)?.queue.would_be_first(self.begun);
            self.look(&mut state, at, first, now);
        }
        let promise = self.promise.take()?;
        let operation = state.operations.get(at)?;
        let overrun = state.window(operation).is_some_and(|window| state.taken(window) > u64::from(window.allowed));
        if operation.shut_until(now).is_some() || overrun || state.retired {
            state.give_back(self.operation, promise);
            state.wake(false);
            return None;
        }
        Some(Ticket { gate: self.gate, operation: self.operation, promise, sent: now })
    }

    fn refused(&self, state: &State, at: usize, why: QuotaRefusal) -> QuotaRefused {
        let now = Instant::now();
        let why = if state.retired { QuotaRefusal::Retired } else { why };
        let operation = state.operations.get(at);
        QuotaRefused {
            why,
            available_at: operation.and_then(|operation| state.outlook(operation, 0, now)),
            limit: operation.and_then(|operation| operation.limit.as_ref()?.name.clone()),
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.put_back();
    }
}

/// One request of the quota, being sent. To drop it is to say that no answer came.
#[must_use]
pub(crate) struct Ticket<'a> {
    gate: &'a QuotaGate,
    operation: &'static str,
    promise: Promise,
    sent: Instant,
}

impl Ticket<'_> {
    /// An answer came; `throttled` where it is a 429.
    pub(crate) fn answered(
        self,
        now: Instant,
        headers: &QuotaHeaders,
        throttled: Option<Throttled>,
        policy: &RetryPolicy,
    ) {
        let Self { gate, operation, promise, sent } = self;
        std::mem::forget(self);
        let mut state = gate.at(now);
        let at = state.position(operation);
        let told = headers.told(sent, now, policy.retry_after_cap);
        let outlook = |state: &State| state.operations.get(at).and_then(|one| state.outlook(one, one.queue.len(), now));
        let looked = outlook(&state);
        if let Some(told) = &told {
            state.note(at, told, now, &gate.random);
            state.tells = Some(true);
        } else if throttled.is_none() {
            state.tells = Some(state.tells == Some(true));
        }
        state.give_back(operation, promise);
        if let Some(operation) = state.operations.get_mut(at) {
            match throttled {
                Some(throttled) => operation.refused(policy, &gate.random, sent, now, throttled),
                None => operation.served(sent),
            }
        }
        // What is later by a jitter alone is no news.
        let later = outlook(&state) > looked.map(|looked| after(looked, ROUNDING));
        state.wake(later);
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.give_back(self.operation, self.promise);
        state.wake(false);
    }
}

/// A place in the queue, given up when dropped.
struct Waiting<'a> {
    gate: &'a QuotaGate,
    operation: &'static str,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        if let Some(operation) = state.operations.iter_mut().find(|one| one.name == self.operation) {
            operation.queue.leave(self.place);
        }
    }
}

impl std::fmt::Debug for QuotaGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QuotaGate").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::task::{JoinHandle, JoinSet};
    use tokio::time::{advance, sleep};

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

    fn told(allowed: u32, count: u32, reset: u64) -> QuotaHeaders {
        QuotaHeaders { allowed: Some(allowed), count: Some(count), reset: Some(secs(reset)) }
    }

    fn refused(seconds: Option<u64>) -> Option<Throttled> {
        Some(Throttled { wait: seconds.map(secs), limit: None })
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

        fn answer(&self, operation: &str) -> (QuotaHeaders, Option<Throttled>) {
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
            let headers = if self.tells { told(limit, window.1, left) } else { QuotaHeaders::default() };
            (headers, is_refused.then(|| Throttled { wait: Some(secs(left)), limit: None }))
        }

        fn refused(&self) -> u32 {
            self.refused.load(Ordering::Relaxed)
        }
    }

    /// One call until it is served, as `call.rs` does it.
    async fn call(gate: &QuotaGate, service: &Service, operation: &'static str, latency: Duration) -> bool {
        let mut turn = gate.turn(operation, Instant::now(), 20_000);
        loop {
            if turn.wait(in_an_hour()).await.is_err() {
                return false;
            }
            let Some(ticket) = turn.take(Instant::now()) else { continue };
            sleep(latency / 2).await;
            let (headers, throttled) = service.answer(operation);
            sleep(latency / 2).await;
            let done = throttled.is_none();
            ticket.answered(Instant::now(), &headers, throttled, &RetryPolicy::default());
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
            running.spawn(async move { call(&gate, &service, operation, latency).await });
        }
        assert!(running.join_all().await.into_iter().all(|served| served));
        start.elapsed()
    }

    /// Spawned, so that it waits while the test goes on.
    fn waits(gate: &Arc<QuotaGate>, operation: &'static str) -> JoinHandle<Result<Duration, QuotaRefused>> {
        let gate = Arc::clone(gate);
        let asked = Instant::now();
        tokio::spawn(async move {
            let mut turn = gate.turn(operation, asked, 20_000);
            turn.wait(in_an_hour()).await?;
            let waited = asked.elapsed();
            drop(turn.take(Instant::now()));
            Ok(waited)
        })
    }

    /// As many as may go while nothing is known.
    async fn all_that_go_first(gate: &QuotaGate) -> Vec<Ticket<'_>> {
        let mut tickets = Vec::new();
        for _ in 0..FIRST_CALLS {
            let mut turn = gate.turn(READ, Instant::now(), 20_000);
            turn.wait(Instant::now() + secs(1)).await.unwrap();
            tickets.push(turn.take(Instant::now()).unwrap());
        }
        tickets
    }

    async fn answered(gate: &QuotaGate, operation: &'static str, headers: QuotaHeaders, throttled: Option<Throttled>) {
        let mut turn = gate.turn(operation, Instant::now(), 20_000);
        turn.wait(in_an_hour()).await.unwrap();
        turn.take(Instant::now()).unwrap().answered(Instant::now(), &headers, throttled, &RetryPolicy::default());
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
        gate.turn(LIST, asked, 20_000).wait(asked + secs(1)).await.unwrap();
        assert_eq!(asked.elapsed(), Duration::ZERO);
        assert!(gate.turn(READ, asked, 20_000).wait(asked + secs(1)).await.is_err(), "its own is spent");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_one_operation_holds_no_other() {
        let hour = refused(Some(3_600));
        for (headers, throttled) in [
            (told(300, 6, 60), refused(Some(20))),
            (QuotaHeaders::default(), refused(Some(20))),
            (QuotaHeaders::default(), refused(None)),
            (told(3, 3, 60), None),
            (told(3, 3, 60), refused(Some(60))),
            (QuotaHeaders::default(), hour),
        ] {
            let gate = gate();
            answered(&gate, READ, told(300, 8, 60), None).await;
            answered(&gate, PUBLISH, headers, throttled.clone()).await;
            for _ in 0..100 {
                let mut turn = gate.turn(READ, Instant::now(), 20_000);
                let waited = Instant::now();
                turn.wait(waited + secs(1)).await.unwrap();
                assert_eq!(waited.elapsed(), Duration::ZERO);
                turn.take(Instant::now()).unwrap().answered(
                    Instant::now(),
                    &told(300, 9, 60),
                    None,
                    &RetryPolicy::default(),
                );
            }
            let mut turn = gate.turn(PUBLISH, Instant::now(), 20_000);
            assert!(turn.wait(Instant::now()).await.is_err(), "{headers:?} {throttled:?} holds its own");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_holds_its_operation_for_as_long_as_it_says() {
        let gate = gate();
        answered(&gate, READ, QuotaHeaders::default(), refused(Some(20))).await;
        let waited = waits(&gate, READ).await.unwrap().unwrap();
        assert!((secs(20)..secs(20) + SPREAD).contains(&waited), "{waited:?}");
        // Beyond the cap nobody waits for ever.
        answered(&gate, LIST, QuotaHeaders::default(), refused(Some(u64::MAX))).await;
        let waited = waits(&gate, LIST).await.unwrap().unwrap();
        assert!((secs(180)..secs(180) + SPREAD).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_that_does_not_say_how_long_is_asked_again_after_a_growing_backoff() {
        let gate = gate();
        let mut waits_ms = Vec::new();
        for _ in 0..8 {
            let asked = Instant::now();
            answered(&gate, READ, QuotaHeaders::default(), refused(None)).await;
            waits_ms.push(asked.elapsed().as_millis() as u64);
        }
        for (waited, bound) in waits_ms.iter().skip(1).zip([100, 200, 400, 800, 1_600, 3_200, 5_000]) {
            assert!((bound..=bound + 250).contains(waited), "{waits_ms:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_an_unknown_token_a_few_calls_go_first_and_are_waited_for_no_longer_than_a_second() {
        let gate = gate();
        let mut tickets = all_that_go_first(&gate).await;
        let ticket = tickets.pop().unwrap();
        let others: Vec<_> = (0..10).map(|_| waits(&gate, READ)).collect();
        advance(Duration::from_millis(100)).await;
        ticket.answered(Instant::now(), &told(300, 1, 60), None, &RetryPolicy::default());
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
        answered(&gate, READ, QuotaHeaders::default(), None).await;
        let mut tickets = Vec::new();
        for operation in [READ, LIST, PUBLISH] {
            for _ in 0..1_000 {
                let mut turn = gate.turn(operation, Instant::now(), 20_000);
                turn.wait(Instant::now() + secs(1)).await.unwrap();
                tickets.push(turn.take(Instant::now()).unwrap());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_be_served_in_time_is_told_at_once_and_when_it_could_be() {
        let gate = gate();
        answered(&gate, READ, told(50, 50, 60), None).await;
        let asked = Instant::now();
        let told_so = gate.turn(READ, asked, 20_000).wait(asked + secs(30)).await.unwrap_err();
        assert_eq!(asked.elapsed(), Duration::ZERO);
        let available = told_so.available_at.unwrap() - asked;
        assert_eq!(told_so.why, QuotaRefusal::TooLate);
        assert!((secs(60)..secs(60) + SPREAD).contains(&available), "{available:?}");

        // Those who wait already, as soon as it is known.
        let gate = self::gate();
        let mut tickets = all_that_go_first(&gate).await;
        let ticket = tickets.pop().unwrap();
        let waiting = {
            let gate = Arc::clone(&gate);
            tokio::spawn(async move { gate.turn(READ, Instant::now(), 20_000).wait(Instant::now() + secs(30)).await })
        };
        advance(Duration::from_millis(10)).await;
        ticket.answered(Instant::now(), &QuotaHeaders::default(), refused(Some(60)), &RetryPolicy::default());
        assert_eq!(waiting.await.unwrap().unwrap_err().why, QuotaRefusal::TooLate);
        assert!(asked.elapsed() < secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_refusal_names_the_limit_where_the_service_did() {
        let gate = gate();
        let limit = Some("scripts.publish.rate.per.minute".to_owned());
        answered(
            &gate,
            PUBLISH,
            QuotaHeaders::default(),
            Some(Throttled { wait: Some(secs(20)), limit: limit.clone() }),
        )
        .await;
        let told = gate.turn(PUBLISH, Instant::now(), 20_000).wait(Instant::now() + secs(5)).await.unwrap_err();
        assert_eq!(told.limit, limit);
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
        // A promise that is not used is another's.
        let gate = self::gate();
        answered(&gate, READ, told(2, 1, 60), None).await;
        let mut promised = gate.turn(READ, Instant::now(), 20_000);
        promised.wait(in_an_hour()).await.unwrap();
        let next = waits(&gate, READ);
        advance(Duration::from_millis(10)).await;
        drop(promised);
        assert!(next.await.unwrap().unwrap() < secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_replaced_token_sends_its_waiters_away() {
        let gate = gate();
        answered(&gate, READ, told(50, 50, 60), None).await;
        let waiting = waits(&gate, READ);
        advance(Duration::from_millis(10)).await;
        gate.retire();
        assert_eq!(waiting.await.unwrap().unwrap_err().why, QuotaRefusal::Retired);
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
