//! How many attempts may be in flight to one host, learnt from its answers.
//!
//! One state: a limit of n ≥ 1 attempts in flight, or *shut until t*. The limit grows while the host answers and everyone
//! waits for it, and falls once for each level that proved too high. When nothing but failures comes back the host is shut:
//! calls fail at once, and one probe every 1 to 4 s finds out when it is back. That is the circuit breaker; there is no other.
//!
//! Nothing here runs by itself: no task, no timer but the waiting caller's own.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Slow start adds as many slots in a round as there are, but not more than this: what the last round was too much is
/// refused, and a client that doubles at 500 in flight has hundreds refused at once.
const WIDEST_STEP: u32 = 32;
/// Growth is counted in quarters of a slot a round, so that near a level that failed it can be slower than one slot.
const QUARTERS: u32 = 4;
/// The pause after a failure at limit 1, where the limit can fall no further and would let a failing call spin.
const GAP: Duration = Duration::from_millis(100);
/// A calm re-try may keep others waiting this long, while it waits for calm and again while it waits for its answer.
const CALM: Duration = Duration::from_millis(500);
const CALM_LANE: u8 = 0;
/// So many overload failures in a row, over so long, shut the host.
const SHUT_AFTER: u32 = 10;
const SHUT_AFTER_AT_LEAST: Duration = Duration::from_secs(1);
/// A shut host is probed after 1 s, then 1 to 2 s, then 2 to 4 s.
const PROBE_FIRST: Duration = Duration::from_secs(1);
const PROBE_DOUBLINGS: u32 = 2;

/// How the number of attempts in flight to a host is bounded. Each host (api, login, upload) has its own bound.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OverloadPolicy {
    /// What bounds the attempts in flight. Default: [`Bound::Adaptive`], starting at 16, at most 1,000.
    pub bound: Bound,
    /// So many calls may wait for their turn; more are refused at once. Default: 20,000.
    pub queue: usize,
}

impl Default for OverloadPolicy {
    fn default() -> Self {
        Self { bound: Bound::Adaptive { start: 16, max: 1_000 }, queue: 20_000 }
    }
}

/// What bounds the attempts in flight to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bound {
    /// Learnt from the answers: up while they are good, down when the host is overloaded, shut when it is down.
    Adaptive {
        /// The first limit. Zero counts as one.
        start: u32,
        /// The limit never grows beyond this.
        max: u32,
    },
    /// Always this many, whatever the answers say; the host is never shut. Zero counts as one.
    Fixed(u32),
    /// No bound at all: every attempt is sent at once, and the host is never shut.
    Off,
}

/// Where a call takes its place among those that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// A call's first attempt: behind all others.
    New,
    /// A further attempt of a call that had its turn: before all new ones.
    Again,
    /// A further attempt that must find the host calm: first of all, and as the last of at most so many in flight. The
    /// others wait until it is answered (for a bounded time), or its answer would prove nothing.
    Calm { at_most: u32 },
}

impl Turn {
    fn lane(self) -> u8 {
        match self {
            Self::Calm { .. } => CALM_LANE,
            Self::Again => 1,
            Self::New => 2,
        }
    }
}

/// When and among how many an attempt was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Grows with every attempt: tells which of two was sent first.
    pub(crate) number: u64,
    /// The attempts in flight, this one included.
    pub(crate) in_flight: u32,
    pub(crate) at: Instant,
    /// How often the limit had fallen.
    generation: u32,
    /// How often the host had come back.
    opening: u32,
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The host is down; the next probe is due then.
    Shut { until: Instant },
    /// Too many wait already.
    QueueFull,
    /// The call's deadline came before its turn.
    Deadline,
}

/// The limiter at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) limit: u32,
    pub(crate) in_flight: u32,
    pub(crate) queued: usize,
    /// How often the limit fell.
    pub(crate) decreases: u32,
    pub(crate) shut_until: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Overload {
    policy: OverloadPolicy,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: u32,
    /// Those sent since the host came back last. What hung then may hang on; it must not keep others waiting.
    in_flight: u32,
    opening: u32,
    /// The number of the last attempt sent.
    sent: u64,
    /// Counts decreases. What was sent before the last one says nothing about the limit of now.
    generation: u32,
    /// Quarters of a slot, times the limit, grown since the last whole slot.
    credit: u32,
    /// The limit before it fell last.
    before: u32,
    /// The level that failed last; none while slow start lasts.
    ceiling: Option<u32>,
    /// Slots of attempts that were refused, perhaps for load. Were they free again at once, a host that refuses at once would
    /// be sent the whole queue in a moment. While there are any, the limit does not grow.
    held: u32,
    calm: Option<Calm>,
    /// Overload failures since the last success, and when the first of them was sent.
    failures: u32,
    failing_since: Option<Instant>,
    /// At limit 1, after a failure: nothing is sent before.
    not_before: Option<Instant>,
    shut: Option<Shut>,
    /// By lane, then by arrival.
    queue: BTreeMap<(u8, u64), oneshot::Sender<Result<Grant, Refused>>>,
    tickets: u64,
    random: fastrand::Rng,
}

/// While it is held and not over, at most so many are let in.
#[derive(Debug, Clone, Copy)]
struct Calm {
    at_most: u32,
    until: Instant,
    holders: u32,
}

#[derive(Debug, Clone, Copy)]
struct Shut {
    until: Instant,
    probes: u32,
}

impl Overload {
    pub(crate) fn new(policy: OverloadPolicy, random: fastrand::Rng) -> Self {
        let limit = match policy.bound {
            Bound::Adaptive { start, max } => start.min(max).max(1),
            Bound::Fixed(limit) => limit.max(1),
            Bound::Off => u32::MAX,
        };
        Self {
            policy,
            state: Mutex::new(State {
                limit,
                in_flight: 0,
                opening: 0,
                sent: 0,
                generation: 0,
                credit: 0,
                before: limit,
                ceiling: None,
                held: 0,
                calm: None,
                failures: 0,
                failing_since: None,
                not_before: None,
                shut: None,
                queue: BTreeMap::new(),
                tickets: 0,
                random,
            }),
        }
    }

    /// Waits for a slot. Dropping the future, or the permit, loses nothing. `held` is the slot of this call's last attempt, if
    /// that was undecided; its place in the queue comes first.
    pub(crate) async fn acquire(
        &self,
        turn: Turn,
        held: Option<Held<'_>>,
        deadline: Instant,
    ) -> Result<Permit<'_>, Refused> {
        let entered = self.enter(turn);
        drop(held);
        let (mut permit, not_before) = match entered? {
            Entered::Granted(permit, not_before) => (permit, not_before),
            Entered::Queued(waiting) => waiting.granted(deadline).await?,
        };
        if let Some(not_before) = not_before {
            if not_before > deadline {
                return Err(Refused::Deadline);
            }
            sleep_until(not_before).await;
            permit.sent.at = Instant::now();
        }
        Ok(permit)
    }

    /// An attempt that was undecided when it returned turned out to have been refused for load.
    pub(crate) fn decide_overloaded(&self, sent: Sent) {
        if matches!(self.policy.bound, Bound::Adaptive { .. }) {
            self.lock().decrease(sent);
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        Snapshot {
            limit: state.limit,
            in_flight: state.in_flight,
            queued: state.queue.len(),
            decreases: state.generation,
            shut_until: state.shut.map(|shut| shut.until),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, turn: Turn) -> Result<Entered<'_>, Refused> {
        let mut state = self.lock();
        if let Some(shut) = state.shut {
            let now = Instant::now();
            if now < shut.until {
                return Err(Refused::Shut { until: shut.until });
            }
            state.shut_for_a_while(now);
            let grant = state.grant();
            return Ok(Entered::Granted(self.permit(grant.sent, false), None));
        }
        let calm = match turn {
            Turn::Calm { at_most } if !matches!(self.policy.bound, Bound::Off) => Some(state.enter_calm(at_most)),
            _ => None,
        };
        let first = state.queue.first_key_value().is_none_or(|((lane, _), _)| turn.lane() < *lane);
        if first && state.has_room(turn.lane()) {
            let grant = state.grant();
            if calm.is_some() {
                state.calm_sent();
            }
            return Ok(Entered::Granted(self.permit(grant.sent, calm.is_some()), grant.not_before));
        }
        if state.queue.len() >= self.policy.queue {
            if calm.is_some() {
                state.leave_calm();
            }
            return Err(Refused::QueueFull);
        }
        let (sender, receiver) = oneshot::channel();
        let key = (turn.lane(), state.tickets);
        state.tickets += 1;
        state.queue.insert(key, sender);
        drop(state);
        // A calm that ran out gave nobody the word.
        self.hand_over();
        Ok(Entered::Queued(Waiting { overload: self, key, receiver, calm, granted: false }))
    }

    fn permit(&self, sent: Sent, calm: bool) -> Permit<'_> {
        Permit { overload: self, sent, calm, outcome: Outcome::Abandoned }
    }

    /// Gives the free slots to those who wait. Nobody is woken under the lock.
    fn hand_over(&self) {
        let mut next = self.lock().next();
        while let Some((waiter, grant)) = next {
            let gone = waiter.send(Ok(grant)).is_err();
            let mut state = self.lock();
            if gone {
                state.returned(grant.sent);
            }
            next = state.next();
        }
    }

    fn finish(&self, permit: &Permit<'_>) {
        let mut state = self.lock();
        let busy = state.in_flight >= state.limit || !state.queue.is_empty();
        state.returned(permit.sent);
        if matches!(permit.outcome, Outcome::Undecided) {
            state.held += 1;
        }
        if permit.calm {
            state.leave_calm();
        }
        if let Bound::Adaptive { max, .. } = self.policy.bound {
            state.learn(permit.sent, permit.outcome, busy, max);
        }
        if state.queue.is_empty() {
            return;
        }
        if let Some(Shut { until, .. }) = state.shut {
            let refused = std::mem::take(&mut state.queue);
            drop(state);
            for waiter in refused.into_values() {
                // Whoever left does not need to know.
                let _ = waiter.send(Err(Refused::Shut { until }));
            }
            return;
        }
        drop(state);
        self.hand_over();
    }
}

impl State {
    /// Whether one more may be sent.
    fn has_room(&self, lane: u8) -> bool {
        let room = match self.calm {
            Some(calm) if calm.at_most < self.limit && Instant::now() < calm.until => calm.at_most,
            _ => self.limit,
        };
        // Calm is about what is in flight, and the attempt that needs it ends the holding.
        let held = if lane == CALM_LANE { 0 } else { self.held };
        self.in_flight.saturating_add(held) < room
    }

    fn grant(&mut self) -> Grant {
        let at = Instant::now();
        self.in_flight += 1;
        self.sent += 1;
        let sent = Sent {
            number: self.sent,
            in_flight: self.in_flight,
            at,
            generation: self.generation,
            opening: self.opening,
        };
        Grant { sent, not_before: self.not_before.filter(|not_before| *not_before > at) }
    }

    /// The next waiter to go, if there is a slot.
    fn next(&mut self) -> Option<(oneshot::Sender<Result<Grant, Refused>>, Grant)> {
        let (lane, _) = *self.queue.first_key_value()?.0;
        if !self.has_room(lane) {
            return None;
        }
        let (_, waiter) = self.queue.pop_first()?;
        let grant = self.grant();
        if lane == CALM_LANE {
            self.calm_sent();
        }
        Some((waiter, grant))
    }

    /// Returns how long it may last. A second attempt that needs calm shares it; it does not prolong it.
    fn enter_calm(&mut self, at_most: u32) -> Instant {
        let now = Instant::now();
        let at_most = at_most.max(1);
        let calm = match self.calm {
            Some(calm) if now < calm.until => {
                Calm { at_most: calm.at_most.min(at_most), holders: calm.holders + 1, ..calm }
            }
            over => Calm {
                at_most,
                until: now.checked_add(CALM).unwrap_or(now),
                holders: over.map_or(1, |calm| calm.holders + 1),
            },
        };
        self.calm = Some(calm);
        calm.until
    }

    /// The calm attempt is on its way. Should it hang, one other at a time still comes through, and each that returns looks
    /// at the time.
    fn calm_sent(&mut self) {
        if let Some(calm) = &mut self.calm {
            let now = Instant::now();
            calm.at_most = calm.at_most.max(2);
            calm.until = now.checked_add(CALM).unwrap_or(now);
        }
    }

    fn leave_calm(&mut self) {
        self.calm = self.calm.filter(|calm| calm.holders > 1).map(|calm| Calm { holders: calm.holders - 1, ..calm });
    }

    fn returned(&mut self, sent: Sent) {
        if sent.opening == self.opening {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }

    fn learn(&mut self, sent: Sent, outcome: Outcome, busy: bool, max: u32) {
        match outcome {
            Outcome::Abandoned | Outcome::Undecided => {}
            Outcome::Neutral => {
                if self.shut.is_some() && sent.generation == self.generation {
                    self.reopen();
                }
            }
            Outcome::Success => {
                self.failures = 0;
                self.not_before = None;
                if self.shut.is_some() {
                    self.reopen();
                } else if busy && sent.generation == self.generation {
                    self.grow(max);
                }
            }
            Outcome::Overloaded { now } => self.fail(sent, now),
        }
    }

    fn grow(&mut self, max: u32) {
        if self.calm.is_some() || self.held > 0 {
            return;
        }
        let a_round = match self.ceiling {
            None => self.limit.min(WIDEST_STEP) * QUARTERS,
            // Towards the level that failed: slowly, each visit costs refusals.
            Some(ceiling) if self.limit <= ceiling => 1,
            // It holds now, so it has moved: after it.
            Some(_) => (self.limit / 8).max(1) * QUARTERS,
        };
        let whole = self.limit.saturating_mul(QUARTERS);
        self.credit = self.credit.saturating_add(a_round);
        if self.credit >= whole {
            self.credit -= whole;
            self.limit = self.limit.saturating_add(1).min(max.max(1));
        }
    }

    fn fail(&mut self, sent: Sent, now: Instant) {
        if self.shut.is_some() || sent.opening != self.opening {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures == 1 {
            self.failing_since = Some(sent.at);
        }
        self.decrease(sent);
        if self.limit > 1 && self.failures < SHUT_AFTER {
            return;
        }
        let lasted = self.failing_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if self.failures >= SHUT_AFTER && lasted >= SHUT_AFTER_AT_LEAST {
            self.limit = 1;
            self.generation += 1;
            self.shut_for_a_while(now);
        } else if self.limit == 1 {
            self.not_before = now.checked_add(GAP);
        }
    }

    /// It failed at this level, so a little less is the better guess, but one generation costs at most half. Of the failures
    /// sent before the limit fell, the one with the fewest in flight says what the level is; they do not add up.
    fn decrease(&mut self, sent: Sent) {
        if self.shut.is_some() {
            return;
        }
        if self.limit == 1 {
            self.ceiling = Some(1);
            return;
        }
        if sent.generation == self.generation {
            self.before = self.limit;
            self.generation += 1;
            self.credit = 0;
        } else if sent.generation + 1 != self.generation {
            return;
        }
        let level = sent.in_flight.min(self.before);
        let limit = (level - level.div_ceil(20)).max(self.before / 2).max(1);
        if limit < self.limit {
            self.limit = limit;
            self.ceiling = Some(level.max(limit));
        }
    }

    fn shut_for_a_while(&mut self, now: Instant) {
        let probes = self.shut.map_or(0, |shut| shut.probes + 1).min(PROBE_DOUBLINGS);
        let longest = PROBE_FIRST * (1 << probes);
        let shortest = (longest / 2).max(PROBE_FIRST);
        let wait = shortest + (longest - shortest).mul_f64(self.random.f64());
        self.shut = Some(Shut { until: now.checked_add(wait).unwrap_or(now), probes });
    }

    fn reopen(&mut self) {
        self.shut = None;
        self.opening += 1;
        self.in_flight = 0;
        self.limit = 1;
        self.ceiling = None;
        self.credit = 0;
        self.failures = 0;
        self.not_before = None;
    }
}

#[derive(Debug, Clone, Copy)]
struct Grant {
    sent: Sent,
    not_before: Option<Instant>,
}

enum Entered<'a> {
    Granted(Permit<'a>, Option<Instant>),
    Queued(Waiting<'a>),
}

/// A place in the queue; given up when dropped.
struct Waiting<'a> {
    overload: &'a Overload,
    key: (u8, u64),
    receiver: oneshot::Receiver<Result<Grant, Refused>>,
    /// Keeps others waiting, until then.
    calm: Option<Instant>,
    granted: bool,
}

impl<'a> Waiting<'a> {
    async fn granted(mut self, deadline: Instant) -> Result<(Permit<'a>, Option<Instant>), Refused> {
        let mut answer = None;
        if let Some(until) = self.calm.filter(|until| *until < deadline) {
            answer = timeout_at(until, &mut self.receiver).await.ok();
            if answer.is_none() {
                // No calm to be had: the others wait no longer, and this one goes as it is.
                self.overload.hand_over();
            }
        }
        let answer = match answer {
            Some(answer) => answer,
            None => timeout_at(deadline, &mut self.receiver).await.map_err(|_| Refused::Deadline)?,
        };
        // The sender is dropped unused nowhere; were it, the call has waited in vain.
        let grant = answer.unwrap_or(Err(Refused::Deadline))?;
        self.granted = true;
        Ok((self.overload.permit(grant.sent, self.calm.is_some()), grant.not_before))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.granted {
            return;
        }
        let mut state = self.overload.lock();
        let queued = state.queue.remove(&self.key).is_some();
        if queued && self.calm.is_some() {
            state.leave_calm();
            drop(state);
            self.overload.hand_over();
        } else if !queued {
            drop(state);
            // Granted at this very moment, or about to be: then the giver sees that nobody is here.
            self.receiver.close();
            match self.receiver.try_recv() {
                Ok(Ok(grant)) => drop(self.overload.permit(grant.sent, self.calm.is_some())),
                _ if self.calm.is_some() => {
                    self.overload.lock().leave_calm();
                    self.overload.hand_over();
                }
                _ => {}
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// No answer: the caller left.
    Abandoned,
    Neutral,
    Success,
    Undecided,
    Overloaded {
        now: Instant,
    },
}

/// A slot, held while an attempt is in flight. To drop it is to say nothing about the host.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit<'a> {
    overload: &'a Overload,
    sent: Sent,
    calm: bool,
    outcome: Outcome,
}

impl<'a> Permit<'a> {
    pub(crate) fn sent(&self) -> Sent {
        self.sent
    }

    /// Answered as it should be.
    pub(crate) fn success(mut self) {
        self.outcome = Outcome::Success;
    }

    /// Answered with something that has nothing to do with load: the limit stays, but the host is not down.
    pub(crate) fn neutral(mut self) {
        self.outcome = Outcome::Neutral;
    }

    /// Refused for load: 503, timeout, refused connection, a 400 that is known to mean it.
    pub(crate) fn overloaded(mut self, now: Instant) {
        self.outcome = Outcome::Overloaded { now };
    }

    /// Refused, perhaps for load: the slot stays taken for as long as the call keeps what is returned, which should be one
    /// backoff at most. [`Overload::decide_overloaded`] may follow.
    pub(crate) fn undecided(mut self) -> Held<'a> {
        self.outcome = Outcome::Undecided;
        Held { overload: self.overload }
    }
}

/// A slot whose attempt was refused, nobody knows why.
#[derive(Debug)]
#[must_use]
pub(crate) struct Held<'a> {
    overload: &'a Overload,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        {
            let mut state = self.overload.lock();
            state.held = state.held.saturating_sub(1);
        }
        self.overload.hand_over();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.overload.finish(self);
    }
}

#[cfg(test)]
impl Sent {
    pub(crate) fn example(number: u64, in_flight: u32, at: Instant) -> Self {
        Self { number, in_flight, at, generation: 0, opening: 0 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::collections::VecDeque;
    use std::sync::Arc;

    use tokio::task::JoinSet;
    use tokio::time::{advance, sleep, timeout};

    use super::*;

    fn overload(bound: Bound) -> Arc<Overload> {
        let policy = OverloadPolicy { bound, queue: 100 };
        Arc::new(Overload::new(policy, fastrand::Rng::with_seed(7)))
    }

    fn adaptive(start: u32) -> Arc<Overload> {
        overload(Bound::Adaptive { start, max: 1_000 })
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(100)
    }

    async fn acquire(overload: &Overload) -> Permit<'_> {
        timeout(Duration::ZERO, overload.acquire(Turn::New, None, soon())).await.unwrap().unwrap()
    }

    async fn round(overload: &Overload) -> Vec<Permit<'_>> {
        let mut permits = Vec::new();
        for _ in 0..overload.snapshot().limit {
            permits.push(acquire(overload).await);
        }
        permits
    }

    async fn full(overload: &Overload) -> bool {
        timeout(Duration::ZERO, overload.acquire(Turn::New, None, soon())).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn slow_start_doubles_then_adds_some_thirty() {
        let overload = adaptive(8);
        let mut limits = Vec::new();
        let mut permits = VecDeque::from(round(&overload).await);
        for _ in 0..5 {
            for _ in 0..permits.len() {
                permits.pop_front().unwrap().success();
                while overload.snapshot().in_flight < overload.snapshot().limit {
                    permits.push_back(acquire(&overload).await);
                }
            }
            limits.push(overload.snapshot().limit);
        }
        assert_eq!(limits, [16, 32, 55, 81, 108]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_host_learns_nothing() {
        let overload = adaptive(8);
        for _ in 0..100 {
            acquire(&overload).await.success();
        }
        assert_eq!(overload.snapshot().limit, 8);
    }

    #[tokio::test(start_paused = true)]
    async fn one_decrease_a_generation_to_the_lowest_level_that_failed() {
        let overload = adaptive(100);
        let mut permits = round(&overload).await;
        let now = Instant::now();
        permits.pop().unwrap().overloaded(now);
        assert_eq!(overload.snapshot().limit, 95);
        // The 81st was sent before: not another decrease, but a better guess.
        permits.remove(80).overloaded(now);
        assert_eq!(overload.snapshot().limit, 76);
        permits.remove(85).overloaded(now);
        permits.remove(3).overloaded(now);
        // At most half.
        assert_eq!(overload.snapshot().limit, 50);
        assert_eq!(overload.snapshot().decreases, 1);
        drop(permits);
        round(&overload).await.pop().unwrap().overloaded(now);
        assert_eq!(overload.snapshot().limit, 47);
        assert_eq!(overload.snapshot().decreases, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_says_nothing_moves_nothing() {
        let overload = adaptive(8);
        for permit in round(&overload).await {
            permit.neutral();
        }
        drop(round(&overload).await);
        assert_eq!(overload.snapshot(), Snapshot { limit: 8, in_flight: 0, queued: 0, decreases: 0, shut_until: None });
    }

    #[tokio::test(start_paused = true)]
    async fn an_undecided_attempt_keeps_its_slot() {
        let overload = adaptive(2);
        let first = acquire(&overload).await;
        let held = acquire(&overload).await.undecided();
        assert!(full(&overload).await);
        first.success();
        // No growth while one is held.
        assert_eq!(overload.snapshot().limit, 2);
        let _second = acquire(&overload).await;
        assert!(full(&overload).await);
        // Its own next attempt comes before those that wait.
        let waiting = overload.acquire(Turn::New, None, soon());
        tokio::pin!(waiting);
        assert!(timeout(Duration::ZERO, waiting.as_mut()).await.is_err());
        let again = overload.acquire(Turn::Again, Some(held), soon()).await.unwrap();
        assert!(timeout(Duration::ZERO, waiting.as_mut()).await.is_err());
        drop(again);
        waiting.await.unwrap().success();
    }

    #[tokio::test(start_paused = true)]
    async fn first_come_first_served_but_for_further_attempts() {
        let overload = adaptive(1);
        let permit = acquire(&overload).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut calls = JoinSet::new();
        let turns = [Turn::New, Turn::New, Turn::Again, Turn::New, Turn::Again, Turn::Calm { at_most: 1 }];
        for (number, turn) in turns.into_iter().enumerate() {
            let (overload, order) = (Arc::clone(&overload), Arc::clone(&order));
            calls.spawn(async move {
                let permit = overload.acquire(turn, None, soon()).await.unwrap();
                order.lock().unwrap().push(number);
                sleep(Duration::from_millis(1)).await;
                drop(permit);
            });
            tokio::task::yield_now().await;
        }
        drop(permit);
        calls.join_all().await;
        assert_eq!(*order.lock().unwrap(), [5, 2, 4, 0, 1, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_gives_up_at_its_deadline() {
        let overload = adaptive(1);
        let permit = acquire(&overload).await;
        let start = Instant::now();
        let refused = overload.acquire(Turn::New, None, start + Duration::from_secs(3)).await;
        assert_eq!(refused.err(), Some(Refused::Deadline));
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        assert_eq!(overload.snapshot().queued, 0);
        drop(permit);
        drop(acquire(&overload).await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded() {
        let overload = adaptive(1);
        let _permit = acquire(&overload).await;
        let mut calls = JoinSet::new();
        for _ in 0..100 {
            let overload = Arc::clone(&overload);
            calls.spawn(async move { drop(overload.acquire(Turn::New, None, soon()).await) });
        }
        sleep(Duration::from_millis(1)).await;
        assert_eq!(overload.acquire(Turn::New, None, soon()).await.err(), Some(Refused::QueueFull));
        assert_eq!(overload.acquire(Turn::Calm { at_most: 1 }, None, soon()).await.err(), Some(Refused::QueueFull));
        calls.shutdown().await;
        assert_eq!(overload.snapshot().queued, 0);
        assert!(overload.lock().calm.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn calm_keeps_others_waiting_until_it_is_answered() {
        let overload = adaptive(8);
        let mut permits = round(&overload).await;
        let calm = overload.acquire(Turn::Calm { at_most: 3 }, None, soon());
        tokio::pin!(calm);
        for _ in 0..5 {
            assert!(timeout(Duration::ZERO, calm.as_mut()).await.is_err());
            permits.pop();
            assert!(full(&overload).await);
        }
        permits.pop();
        let calm = calm.await.unwrap();
        assert_eq!(calm.sent().in_flight, 3);
        assert!(full(&overload).await);
        drop(calm);
        drop(permits);
        assert_eq!(round(&overload).await.len(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn calm_is_not_waited_for_long() {
        let overload = adaptive(4);
        let permits = round(&overload).await;
        let start = Instant::now();
        let calm = tokio::spawn({
            let overload = Arc::clone(&overload);
            async move { overload.acquire(Turn::Calm { at_most: 1 }, None, soon()).await.unwrap().sent().in_flight }
        });
        let other = tokio::spawn({
            let overload = Arc::clone(&overload);
            async move { drop(overload.acquire(Turn::New, None, soon()).await.unwrap()) }
        });
        sleep(Duration::from_millis(10)).await;
        let mut permits = permits.into_iter();
        drop(permits.next());
        assert_eq!(calm.await.unwrap(), 4);
        other.await.unwrap();
        assert_eq!(start.elapsed(), CALM);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_waiter_for_calm_lets_the_others_go() {
        let overload = adaptive(4);
        let permits = round(&overload).await;
        assert!(timeout(Duration::ZERO, overload.acquire(Turn::Calm { at_most: 1 }, None, soon())).await.is_err());
        drop(permits);
        assert_eq!(round(&overload).await.len(), 4);
    }

    /// Ten failures over a second.
    async fn fail_until_shut(overload: &Overload) -> Instant {
        loop {
            match overload.acquire(Turn::New, None, soon()).await {
                Ok(permit) => permit.overloaded(Instant::now()),
                Err(Refused::Shut { until }) => return until,
                Err(_) => unreachable!(),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_is_down_is_shut_and_probed() {
        let overload = adaptive(16);
        let start = Instant::now();
        let mut until = fail_until_shut(&overload).await;
        assert!(start.elapsed() >= SHUT_AFTER_AT_LEAST && start.elapsed() < Duration::from_secs(2));
        // Not hammered meanwhile.
        assert!(overload.snapshot().decreases <= 6 && overload.lock().sent <= 20);
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(until - Instant::now());
            advance(until - Instant::now() - Duration::from_millis(1)).await;
            assert_eq!(overload.acquire(Turn::New, None, soon()).await.err(), Some(Refused::Shut { until }));
            advance(Duration::from_millis(1)).await;
            let probe = acquire(&overload).await;
            assert!(matches!(overload.acquire(Turn::New, None, soon()).await, Err(Refused::Shut { .. })));
            probe.overloaded(Instant::now());
            until = overload.snapshot().shut_until.unwrap();
        }
        assert_eq!(waits[0], Duration::from_secs(1));
        assert!(waits.iter().all(|wait| (1.0..=4.0).contains(&wait.as_secs_f64())), "{waits:?}");
        advance(until - Instant::now()).await;
        acquire(&overload).await.success();
        let snapshot = overload.snapshot();
        assert_eq!((snapshot.limit, snapshot.in_flight, snapshot.shut_until), (1, 0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_probe_is_followed_by_another() {
        let overload = adaptive(16);
        let until = fail_until_shut(&overload).await;
        advance(until - Instant::now()).await;
        drop(acquire(&overload).await);
        let until = overload.snapshot().shut_until.unwrap();
        advance(until - Instant::now()).await;
        // An answer that is no success shows that the host is there.
        acquire(&overload).await.neutral();
        assert_eq!(overload.snapshot().shut_until, None);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_learn_that_it_is_shut_and_what_hangs_is_forgotten() {
        let overload = adaptive(16);
        let permits = round(&overload).await;
        let mut calls = JoinSet::new();
        for _ in 0..10 {
            let overload = Arc::clone(&overload);
            calls.spawn(async move { overload.acquire(Turn::New, None, soon()).await.map(drop) });
        }
        sleep(Duration::from_secs(15)).await;
        let mut permits = permits.into_iter();
        for permit in permits.by_ref().take(10) {
            permit.overloaded(Instant::now());
        }
        let until = overload.snapshot().shut_until.unwrap();
        for call in calls.join_all().await {
            assert!(matches!(call, Ok(()) | Err(Refused::Shut { .. })));
        }
        advance(until - Instant::now()).await;
        acquire(&overload).await.success();
        assert_eq!(overload.snapshot().in_flight, 0);
        // The hanging ones time out at last, and mean nothing now.
        permits.for_each(|permit| permit.overloaded(Instant::now()));
        let snapshot = overload.snapshot();
        assert_eq!((snapshot.in_flight, snapshot.shut_until), (0, None));
        assert_eq!(overload.lock().failures, 0);
        acquire(&overload).await.success();
    }

    #[tokio::test(start_paused = true)]
    async fn fixed_and_off() {
        let fixed = overload(Bound::Fixed(3));
        for _ in 0..30 {
            round(&fixed).await.pop().unwrap().overloaded(Instant::now());
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(fixed.snapshot().limit, 3);
        let _permits = round(&fixed).await;
        assert!(full(&fixed).await);

        let off = overload(Bound::Off);
        let mut permits = Vec::new();
        for _ in 0..5_000 {
            permits.push(acquire(&off).await);
        }
        permits.push(off.acquire(Turn::Calm { at_most: 1 }, None, soon()).await.unwrap());
        for permit in permits {
            permit.overloaded(Instant::now());
        }
        assert_eq!(off.snapshot().in_flight, 0);
        assert_eq!(off.snapshot().shut_until, None);
    }

    /// Callers that leave at any moment, with a slot, a place in the queue, or neither.
    async fn restless(overload: Arc<Overload>, calls: usize, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut tasks = JoinSet::new();
        for _ in 0..calls {
            let overload = Arc::clone(&overload);
            let mut random = random.fork();
            tasks.spawn(async move {
                let patience = Duration::from_micros(random.u64(0..20_000));
                let call = async {
                    let turn = random.choice([Turn::New, Turn::Again, Turn::Calm { at_most: 2 }]).unwrap();
                    let Ok(permit) = overload.acquire(turn, None, soon()).await else { return };
                    sleep(Duration::from_micros(random.u64(0..1_000))).await;
                    match random.u8(0..10) {
                        0 => permit.overloaded(Instant::now()),
                        1 => {
                            let held = permit.undecided();
                            sleep(Duration::from_micros(random.u64(0..1_000))).await;
                            drop(overload.acquire(Turn::Again, Some(held), soon()).await);
                        }
                        2 => permit.neutral(),
                        3 => drop(permit),
                        _ => permit.success(),
                    }
                };
                // It is all the same whether it was served.
                let _ = timeout(patience, call).await;
            });
        }
        tasks.join_all().await;
        let snapshot = overload.snapshot();
        assert_eq!((snapshot.in_flight, snapshot.queued), (0, 0));
        let state = overload.lock();
        assert_eq!(state.held, 0);
        assert!(state.calm.is_none());
    }

    #[test]
    fn leaving_loses_nothing() {
        for seed in 0..50 {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let overload = adaptive(3);
                restless(Arc::clone(&overload), 90, seed).await;
                // The pause at limit 1, if it came to that.
                sleep(GAP).await;
                assert_eq!(round(&overload).await.len() as u32, overload.snapshot().limit);
            });
        }
    }

    #[test]
    fn leaving_loses_nothing_across_threads() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
        runtime.block_on(async {
            for seed in 0..20 {
                restless(adaptive(3), 90, seed).await;
            }
        });
    }
}
