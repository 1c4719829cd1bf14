//! The gate all logins of one OAuth client go through: open, until the token endpoint reports its own limit.
//!
//! The limit comes as `400 invalid_request`, "rate limit exceeded", without a word on when it ends (contract
//! §5.1). So after a refusal one login at a time probes, at growing distances and when the assumed window ends;
//! the others wait their turn. A probe that succeeds opens the gate again, a little wider with each success. Of the
//! logins that were in flight when the gate closed none opens it, and none closes it once more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::random::Random;

/// The distances between probes; the last one repeats.
const PROBES: [u64; 5] = [1, 2, 4, 8, 15];
/// The window the limit is assumed to have, opened by the first login of the burst. Not documented [U].
const WINDOW: Duration = Duration::from_secs(60);
/// No more logins than this wait.
const QUEUE: usize = 20_000;
/// A login's answer is waited for no longer than this before the next is let in: its task may stand still for ever.
const ANSWER: Duration = Duration::from_secs(30);

pub(crate) struct LoginGate {
    state: Mutex<State>,
    /// One waiter at a time watches the gate; the others queue behind it, in order.
    turn: Semaphore,
    changed: Notify,
    random: Arc<Random>,
}

struct State {
    waiting: usize,
    /// The first login of the current burst.
    window_began: Option<Instant>,
    /// Since a refusal; `None` while the gate is open.
    throttled: Option<Throttled>,
    /// How often the gate has closed.
    closings: u64,
}

struct Throttled {
    /// Logins that may be in flight: 1 while it probes, one more with each success.
    allowed: usize,
    /// Of those let in since the gate closed.
    in_flight: usize,
    last_sent: Option<Instant>,
    /// Nothing is sent before.
    not_before: Instant,
    probes: usize,
}

/// Why a login was not let in.
#[derive(Debug)]
pub(crate) struct GateRefused {
    /// When the next login may be tried, as far as is known.
    pub(crate) possible_at: Option<Instant>,
}

/// Leave to send one login. Dropped without a word, it was not sent or failed for another reason.
#[must_use]
pub(crate) struct LoginPass<'a> {
    gate: &'a LoginGate,
    given: Instant,
    /// How often the gate had closed by then.
    closings: u64,
    settled: bool,
}

impl LoginGate {
    pub(crate) fn new(random: Arc<Random>) -> Self {
        let state = State { waiting: 0, window_began: None, throttled: None, closings: 0 };
        Self { state: Mutex::new(state), turn: Semaphore::new(1), changed: Notify::new(), random }
    }

    /// Waits until a login may be sent. Dropping the future gives up the place in the queue, no more.
    pub(crate) async fn admit(&self, deadline: Instant) -> Result<LoginPass<'_>, GateRefused> {
        let _waiting = {
            let mut state = self.lock();
            if state.throttled.is_none() {
                return Ok(self.pass(&mut state));
            }
            if state.waiting >= QUEUE {
                return Err(state.refused());
            }
            state.waiting += 1;
            Waiting(self)
        };
        // The semaphore is never closed.
        let Ok(Ok(_turn)) = timeout_at(deadline, self.turn.acquire()).await else {
            return Err(self.lock().refused());
        };
        loop {
            let changed = self.changed.notified();
            let until = {
                let mut state = self.lock();
                match state.may_go(Instant::now()) {
                    Go::Now => return Ok(self.pass(&mut state)),
                    Go::At(at) if at >= deadline => return Err(state.refused()),
                    Go::At(at) => at,
                    Go::WhenAnsweredOrAt(at) => at.min(deadline),
                }
            };
            if timeout_at(until, changed).await.is_err() && until >= deadline {
                return Err(self.lock().refused());
            }
        }
    }

    /// When the next login may be tried, while the gate is not open.
    pub(crate) fn throttled_until(&self) -> Option<Instant> {
        self.lock().throttled.as_ref().map(|throttled| throttled.not_before)
    }

    fn pass(&self, state: &mut State) -> LoginPass<'_> {
        let now = Instant::now();
        if let Some(throttled) = &mut state.throttled {
            throttled.in_flight += 1;
            throttled.last_sent = Some(now);
        }
        if state.window_began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            state.window_began = Some(now);
        }
        LoginPass { gate: self, given: now, closings: state.closings, settled: false }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Go {
    Now,
    At(Instant),
    WhenAnsweredOrAt(Instant),
}

impl State {
    fn may_go(&self, now: Instant) -> Go {
        match &self.throttled {
            None => Go::Now,
            Some(throttled) if throttled.not_before > now => Go::At(throttled.not_before),
            Some(throttled) if throttled.in_flight < throttled.allowed => Go::Now,
            Some(throttled) => match throttled.last_sent.and_then(|sent| sent.checked_add(ANSWER)) {
                Some(at) if at > now => Go::WhenAnsweredOrAt(at),
                _ => Go::Now,
            },
        }
    }

    fn refused(&self) -> GateRefused {
        GateRefused { possible_at: self.throttled.as_ref().map(|throttled| throttled.not_before) }
    }

    /// Nobody is let in before the next probe, which comes no later than the assumed window's end.
    fn probe_later(&mut self, probes: usize, now: Instant, at_least: Duration, random: &Random) {
        let distance = PROBES.get(probes).or(PROBES.last()).copied().unwrap_or(1);
        let distance = Duration::from_secs(distance).mul_f64(0.75 + random.fraction() / 2.0).max(at_least);
        let mut not_before = now.checked_add(distance).unwrap_or(now);
        let window_ends = self.window_began.and_then(|began| began.checked_add(WINDOW)).filter(|ends| *ends > now);
        if let Some(ends) = window_ends
            && ends < not_before
            && at_least.is_zero()
        {
            not_before = ends.checked_add(random.below(Duration::from_millis(100))).unwrap_or(ends);
        }
        self.throttled = Some(Throttled { allowed: 1, in_flight: 0, last_sent: None, not_before, probes });
    }
}

impl LoginPass<'_> {
    /// False once the gate has closed since: a login that was not sent yet asks again.
    pub(crate) fn holds(&self) -> bool {
        self.closings == self.gate.lock().closings
    }

    /// The login got through, whatever became of it otherwise: its limit was not in the way.
    pub(crate) fn accepted(mut self) {
        let given = self.given;
        self.settle(|state| {
            let Some(throttled) = &mut state.throttled else { return };
            if throttled.allowed == 1 {
                // The window that was closed is over; this login opened the next.
                state.window_began = Some(given);
            }
            throttled.allowed = throttled.allowed.saturating_add(1);
            throttled.probes = 0;
            if state.waiting == 0 {
                state.throttled = None;
            }
        });
    }

    /// The token endpoint reported its limit.
    pub(crate) fn throttled(mut self, retry_after: Option<Duration>) {
        let random = &self.gate.random;
        self.settle(|state| {
            let probes = match &state.throttled {
                Some(throttled) if throttled.allowed == 1 => throttled.probes + 1,
                _ => 0,
            };
            state.probe_later(probes, Instant::now(), retry_after.unwrap_or_default(), random);
            state.closings += 1;
        });
    }

    /// Applies what the login told, unless the gate has closed since it was let in: then it is known already.
    fn settle(&mut self, told: impl FnOnce(&mut State)) {
        self.settled = true;
        let mut state = self.gate.lock();
        if self.closings == state.closings {
            if let Some(throttled) = &mut state.throttled {
                throttled.in_flight = throttled.in_flight.saturating_sub(1);
            }
            told(&mut state);
        }
        drop(state);
        self.gate.changed.notify_one();
    }
}

impl Drop for LoginPass<'_> {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let random = &self.gate.random;
        self.settle(|state| {
            if let Some(Throttled { allowed: 1, probes, .. }) = state.throttled {
                state.probe_later(probes, Instant::now(), Duration::ZERO, random);
            }
        });
    }
}

/// A place in the queue.
struct Waiting<'a>(&'a LoginGate);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting = state.waiting.saturating_sub(1);
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
    async fn who_cannot_be_let_in_in_time_is_told_at_once() {
        let gate = gate();
        gate.admit(in_an_hour()).await.unwrap().throttled(Some(Duration::from_secs(30)));
        let began = Instant::now();
        let refused = gate.admit(began + Duration::from_secs(5)).await.err().unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(refused.possible_at.unwrap() >= began + Duration::from_secs(30));
    }
}
