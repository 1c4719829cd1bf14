//! The gate all logins of one OAuth client go through: open, until the token endpoint reports its own limit.
//!
//! The limit comes as `400 invalid_request`, "rate limit exceeded", without a word on when it ends.
//! So after a refusal one login at a time probes, at growing distances and when the assumed window ends;
//! the others wait their turn. A probe that succeeds opens the gate again, a little wider with each success. Of the
//! logins that were in flight when the gate closed none opens it, and none closes it once more.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::random::Random;
use crate::retry::after;

/// The distances between probes; the last one repeats.
const PROBES: [u64; 5] = [1, 2, 4, 8, 15];
/// The window the limit is assumed to have, opened by the first login of the burst. Not documented.
const WINDOW: Duration = Duration::from_secs(60);
/// No more logins than this wait.
const QUEUE: usize = 20_000;
/// A login's answer is waited for no longer than this before the next is let in: its task may stand still for ever.
const ANSWER: Duration = Duration::from_secs(30);
/// Whoever watches the gate looks as often at least. After two without a look it stands still, and is not waited for.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) struct LoginGate {
    state: Mutex<State>,
    /// One waiter at a time watches the gate; the others queue behind it, in order.
    turn: Semaphore,
    changed: Notify,
    waiting: Semaphore,
    random: Arc<Random>,
}

#[derive(Default)]
struct State {
    /// The first login of the current burst.
    window_began: Option<Instant>,
    /// Since a refusal; `None` while the gate is open.
    closed: Option<Closed>,
    /// How often the gate has closed.
    closings: u64,
    /// When a waiter last looked.
    looked: Option<Instant>,
}

struct Closed {
    /// Logins that may be in flight: 1 while it probes, one more with each success.
    allowed: usize,
    /// Of those let in since the gate closed.
    in_flight: usize,
    last_sent: Option<Instant>,
    /// Nothing is sent before.
    not_before: Instant,
    probes: usize,
}

/// A login was not let in; the next may be tried then, as far as is known. What was met last, if it was the limit, tells more.
pub(crate) fn refused(possible_at: Option<Instant>, last: Option<Error>) -> Error {
    let throttled = last.filter(Error::is_throttled);
    let error = throttled.unwrap_or_else(|| Error::login_throttled("logins of this OAuth client are throttled"));
    error.with_retry_after(possible_at.map(|at| at.saturating_duration_since(Instant::now())))
}

/// Leave to send one login. Dropped without a word, it was not sent or failed for another reason.
#[must_use]
pub(crate) struct LoginPass<'a> {
    gate: &'a LoginGate,
    given: Instant,
    /// How often the gate had closed by then.
    closings: u64,
}

impl LoginGate {
    pub(crate) fn new(random: Arc<Random>) -> Self {
        let (state, turn) = (Mutex::default(), Semaphore::new(1));
        Self { state, turn, changed: Notify::new(), waiting: Semaphore::new(QUEUE), random }
    }

    /// Waits until a login may be sent, or says when the next may be tried, as far as is known. Dropping the future gives up the
    /// position in the queue, no more.
    pub(crate) async fn admit(&self, deadline: Instant) -> Result<LoginPass<'_>, Option<Instant>> {
        let _waiting = {
            let mut state = self.lock();
            if state.closed.is_none() {
                return Ok(self.pass(&mut state));
            }
            self.waiting.try_acquire().map_err(|_| state.not_before())?
        };
        // The semaphore is never closed.
        let mut turn = pin!(self.turn.acquire());
        let _turn = loop {
            if let Ok(turn) = timeout_at(deadline.min(after(Instant::now(), LOOK)), &mut turn).await {
                break turn.ok();
            }
            let (now, state) = (Instant::now(), self.lock());
            if now >= deadline {
                return Err(state.not_before());
            }
            if state.looked.is_none_or(|looked| now >= after(looked, 2 * LOOK)) {
                break None;
            }
        };
        loop {
            let changed = self.changed.notified();
            let until = {
                let (now, mut state) = (Instant::now(), self.lock());
                state.looked = Some(now);
                let Some(until) = state.blocked_until(now) else { return Ok(self.pass(&mut state)) };
                if now >= deadline || state.not_before() >= Some(deadline) {
                    return Err(state.not_before());
                }
                until.min(deadline).min(after(now, LOOK))
            };
            let _ = timeout_at(until, changed).await;
        }
    }

    /// When the next login may be tried, while the gate is not open.
    pub(crate) fn throttled_until(&self) -> Option<Instant> {
        self.lock().not_before()
    }

    fn pass(&self, state: &mut State) -> LoginPass<'_> {
        let now = Instant::now();
        if let Some(closed) = &mut state.closed {
            closed.in_flight += 1;
            closed.last_sent = Some(now);
        }
        if state.window_began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            state.window_began = Some(now);
        }
        LoginPass { gate: self, given: now, closings: state.closings }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn not_before(&self) -> Option<Instant> {
        self.closed.as_ref().map(|closed| closed.not_before)
    }

    /// Until when no login may be sent, unless one that is under way is answered; none where one may be now.
    fn blocked_until(&self, now: Instant) -> Option<Instant> {
        let closed = self.closed.as_ref()?;
        let answered = closed.last_sent.filter(|_| closed.in_flight >= closed.allowed).map(|sent| after(sent, ANSWER));
        Some(closed.not_before).max(answered).filter(|until| *until > now)
    }

    /// After a login that was let in so got nowhere, nobody is let in before the next probe, which comes no later than the
    /// end of the assumed window.
    fn probe_later(&mut self, probes: usize, pass: &LoginPass<'_>, at_least: Duration) {
        let (now, given, random) = (Instant::now(), pass.given, &pass.gate.random);
        let distance = Duration::from_secs(PROBES.get(probes).or(PROBES.last()).copied().unwrap_or(1));
        let mut not_before = after(now, distance.mul_f64(0.75 + random.fraction() / 2.0).max(at_least));
        // What was sent before that end and is answered after it says nothing of the next window.
        let ends =
            self.window_began.map(|began| after(began, WINDOW)).filter(|ends| (given..not_before).contains(ends));
        if let (Some(ends), true) = (ends, at_least.is_zero()) {
            not_before = after(ends.max(now), random.below(Duration::from_millis(100)));
        }
        self.closed = Some(Closed { allowed: 1, in_flight: 0, last_sent: None, not_before, probes });
    }
}

impl LoginPass<'_> {
    /// False once the gate has closed since: a login that was not sent yet asks again.
    pub(crate) fn holds(&self) -> bool {
        self.closings == self.gate.lock().closings
    }

    /// The login got through, whatever became of it otherwise: its limit was not in the way.
    pub(crate) fn accepted(self) {
        self.settle(|state| {
            let Some(closed) = &mut state.closed else { return };
            if closed.allowed == 1 {
                // The window that was closed is over; this login opened the next.
                state.window_began = Some(self.given);
            }
            closed.allowed = closed.allowed.saturating_add(1);
            closed.probes = 0;
            if self.gate.waiting.available_permits() == QUEUE {
                state.closed = None;
            }
        });
        std::mem::forget(self);
    }

    /// The token endpoint reported its limit.
    pub(crate) fn throttled(self, retry_after: Option<Duration>) {
        self.settle(|state| {
            let probes = match &state.closed {
                Some(closed) if closed.allowed == 1 => closed.probes + 1,
                _ => 0,
            };
            state.probe_later(probes, &self, retry_after.unwrap_or_default());
            state.closings += 1;
        });
        std::mem::forget(self);
    }

    /// Applies what the login told, unless the gate has closed since it was let in: then it is known already.
    fn settle(&self, told: impl FnOnce(&mut State)) {
        let mut state = self.gate.lock();
        if self.closings == state.closings {
            if let Some(closed) = &mut state.closed {
                closed.in_flight = closed.in_flight.saturating_sub(1);
            }
            told(&mut state);
        }
        drop(state);
        self.gate.changed.notify_one();
    }
}

impl Drop for LoginPass<'_> {
    fn drop(&mut self) {
        self.settle(|state| {
            if let Some(Closed { allowed: 1, probes, .. }) = state.closed {
                state.probe_later(probes, self, Duration::ZERO);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::{advance, sleep};

    use super::*;

    fn gate() -> Arc<LoginGate> {
        Arc::new(LoginGate::new(Arc::new(Random::new(Some(7)))))
    }

    fn in_an_hour() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    /// A token endpoint that lets N logins through in a window opened by the first.
    struct Endpoint {
        limit: u32,
        window: Mutex<(Option<Instant>, u32)>,
        refused: AtomicU32,
    }

    impl Endpoint {
        fn new(limit: u32) -> Arc<Self> {
            Arc::new(Self { limit, window: Mutex::default(), refused: AtomicU32::new(0) })
        }

        async fn log_in(&self) -> bool {
            let let_in = {
                let mut window = self.window.lock().unwrap();
                if window.0.is_none_or(|began| began.elapsed() >= WINDOW) {
                    *window = (Some(Instant::now()), 0);
                }
                window.1 += 1;
                window.1 <= self.limit
            };
            if !let_in {
                self.window.lock().unwrap().1 -= 1;
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            sleep(Duration::from_millis(20)).await;
            let_in
        }
    }

    async fn agent(gate: Arc<LoginGate>, endpoint: Arc<Endpoint>) {
        loop {
            let pass = gate.admit(in_an_hour()).await.unwrap();
            if endpoint.log_in().await {
                return pass.accepted();
            }
            pass.throttled(None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_over_the_limit_is_served_as_fast_as_the_limit_allows() {
        for (agents, ideal) in [(60u32, 0.0), (150, 120.0), (400, 360.0)] {
            let (gate, endpoint) = (gate(), Endpoint::new(60));
            let began = Instant::now();
            let all: Vec<_> = (0..agents).map(|_| tokio::spawn(agent(gate.clone(), endpoint.clone()))).collect();
            for one in all {
                one.await.unwrap();
            }
            let took = began.elapsed().as_secs_f64();
            assert!(took <= ideal * 1.01 + 1.0, "{agents}: {took}");
            // The first burst is refused as it comes; each window after that costs a few probes, and those in flight at its end.
            let refused = endpoint.refused.load(Ordering::Relaxed);
            assert!(refused <= agents.saturating_sub(60) + agents / 60 * 70, "{agents}: {refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_throttled_one_login_at_a_time_probes() {
        let gate = gate();
        let burst: Vec<_> = futures_util::future::join_all((0..5).map(|_| gate.admit(in_an_hour()))).await;
        for pass in burst {
            pass.unwrap().throttled(None);
        }
        let began = Instant::now();
        let mut at = Vec::new();
        for _ in 0..8 {
            let pass = gate.admit(in_an_hour()).await.unwrap();
            at.push(began.elapsed().as_secs_f64());
            assert!(gate.admit(Instant::now() + Duration::from_millis(1)).await.is_err(), "a second probe");
            pass.throttled(None);
        }
        let bounds = [1.0, 3.0, 7.0, 15.0, 30.0, 45.0, 60.0];
        for (at, bound) in at.iter().zip(bounds) {
            assert!((bound * 0.74..=bound * 1.26 + 0.2).contains(at), "{at} for {bound}");
        }
        assert!(at.iter().any(|at| (60.0..60.2).contains(at)), "at the assumed window's end: {at:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_refused_just_after_the_window_has_ended_is_repeated_at_once() {
        for late in [1, 20, 500] {
            let gate = gate();
            let began = Instant::now();
            gate.admit(in_an_hour()).await.unwrap().throttled(None);
            advance(WINDOW - Duration::from_millis(10)).await;
            let probe = gate.admit(in_an_hour()).await.unwrap();
            advance(Duration::from_millis(10 + late)).await;
            probe.throttled(None);
            drop(gate.admit(in_an_hour()).await.unwrap());
            assert!(began.elapsed() <= WINDOW + Duration::from_millis(late + 110), "{:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_the_gate_closed_neither_opens_nor_closes_it() {
        let gate = gate();
        let mut burst = futures_util::future::join_all((0..100).map(|_| gate.admit(in_an_hour()))).await;
        let last = burst.pop().unwrap().unwrap();
        burst.pop().unwrap().unwrap().throttled(None);
        assert!(burst.iter().all(|pass| !pass.as_ref().unwrap().holds()));
        burst.into_iter().for_each(|pass| pass.unwrap().accepted());
        assert!(gate.throttled_until().is_some());
        let probe = gate.admit(in_an_hour()).await.unwrap();
        let until = gate.throttled_until();
        last.throttled(None);
        assert_eq!(gate.throttled_until(), until);
        assert!(gate.admit(Instant::now() + Duration::from_millis(1)).await.is_err(), "a second probe");
        probe.accepted();
        assert!(gate.throttled_until().is_none(), "open again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_is_never_heard_of_again_holds_the_others_up_for_so_long() {
        let gate = gate();
        gate.admit(in_an_hour()).await.unwrap().throttled(None);
        let probe = gate.admit(in_an_hour()).await.unwrap();
        let began = Instant::now();
        gate.admit(in_an_hour()).await.unwrap().accepted();
        assert_eq!(began.elapsed(), ANSWER);
        drop(probe);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_gone_with_its_probe_unanswered_keeps_nobody_waiting_for_that_answer() {
        for gone in 1..=3 {
            let gate = gate();
            gate.admit(in_an_hour()).await.unwrap().throttled(None);
            for _ in 0..gone {
                drop(gate.admit(in_an_hour()).await.unwrap());
            }
            let began = Instant::now();
            gate.admit(in_an_hour()).await.unwrap().accepted();
            assert!(began.elapsed() < ANSWER, "{:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_leaves_hands_its_part_on() {
        let gate = gate();
        gate.admit(in_an_hour()).await.unwrap().throttled(None);
        let waiting = {
            let gate = gate.clone();
            tokio::spawn(async move { gate.admit(in_an_hour()).await.unwrap().accepted() })
        };
        advance(Duration::from_secs(2)).await;
        let gone = {
            let gate = gate.clone();
            tokio::spawn(async move { gate.admit(in_an_hour()).await.map(drop).is_ok() })
        };
        sleep(Duration::from_millis(1)).await;
        gone.abort();
        waiting.await.unwrap();
        drop(gate.admit(in_an_hour()).await.unwrap());
        gate.admit(in_an_hour()).await.unwrap().accepted();
        assert!(gate.throttled_until().is_none(), "open again");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_and_stands_still_holds_nobody_up_for_long() {
        for still in 1..=3 {
            let gate = gate();
            gate.admit(in_an_hour()).await.unwrap().throttled(Some(Duration::from_secs(30)));
            // Polled once, and then no more: their runtime is not driven.
            let mut stand_still: Vec<_> = (0..still).map(|_| Box::pin(gate.admit(in_an_hour()))).collect();
            for one in &mut stand_still {
                assert!(futures_util::poll!(one).is_pending());
            }
            let began = Instant::now();
            for _ in 0..3 {
                gate.admit(in_an_hour()).await.unwrap().accepted();
            }
            let latest = Duration::from_secs(31) + 4 * LOOK;
            assert!(began.elapsed() <= latest, "{still}: {:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_let_in_in_order() {
        let gate = gate();
        gate.admit(in_an_hour()).await.unwrap().throttled(None);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..50 {
            let (gate, tell) = (gate.clone(), tell.clone());
            tokio::spawn(async move {
                let pass = gate.admit(in_an_hour()).await.unwrap();
                tell.send(number).unwrap();
                sleep(Duration::from_secs(2)).await;
                pass.accepted();
            });
            advance(Duration::from_millis(1)).await;
        }
        for number in 0..50 {
            assert_eq!(told.recv().await, Some(number));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_be_let_in_in_time_is_told_at_once() {
        let gate = gate();
        gate.admit(in_an_hour()).await.unwrap().throttled(Some(Duration::from_secs(30)));
        let began = Instant::now();
        let refused = gate.admit(began + Duration::from_secs(5)).await.err().unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(refused.unwrap() >= began + Duration::from_secs(30));
    }
}
