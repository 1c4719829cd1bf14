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

/// Slow start adds as many slots in a round as there are, but never more than this: what the last round was too much is
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

    fn enter_calm(&mut self, at_most: u32) -> Instant {
        let now = Instant::now();
        let until = now.checked_add(CALM).unwrap_or(now);
        self.calm = Some(match self.calm {
            Some(calm) if now < calm.until => {
                Calm { at_most: calm.at_most.min(at_most.max(1)), until, holders: calm.holders + 1 }
            }
            over => Calm { at_most: at_most.max(1), until, holders: over.map_or(1, |calm| calm.holders + 1) },
        });
        until
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
