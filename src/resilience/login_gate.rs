//! When logins of one OAuth client may be sent.
//!
//! The token endpoint has a limit of its own, reported as `400 invalid_request`, "rate limit exceeded", with no known
//! `Retry-After`. How many logins it allows is not documented; that it counts by fixed windows of 60 s is an assumption.
//!
//! Until something is refused, every login goes. After a refusal the gate is shut: one login at a time probes, the others
//! wait. When a probe is accepted it opens again for as many as were accepted before the refusal, all at once; beyond them for
//! one at a time, then two, four: that many only tells what was left for us, and may be too few. A guess that is wrong costs a
//! few refusals once, and is then a better one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::queue::{Place, Queue};

/// The window the limit is assumed to count by.
const WINDOW: Duration = Duration::from_secs(60);
/// The pauses between probes, in seconds; the last goes on. Each ± 25 %.
const PAUSES: [u64; 5] = [1, 2, 4, 8, 15];
/// Spreads the clients that all wait for the window's end.
const SPREAD: Duration = Duration::from_millis(250);
/// The longest `Retry-After` that is obeyed here.
const LONGEST_PAUSE: Duration = Duration::from_secs(180);
/// So many logins may wait.
const QUEUE: usize = 20_000;

/// Uniform in [0, 1).
type Fraction = Arc<dyn Fn() -> f64 + Send + Sync>;

/// The gate of one OAuth client.
pub(crate) struct LoginGate {
    random: Fraction,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Counts refusals that shut the gate. Passes of an earlier opening say little about now.
    opening: u64,
    /// Passes of this opening that are not settled.
    out: u32,
    /// When the first login of the window was answered, so at the latest when the window began.
    window: Option<Instant>,
    /// Logins accepted in it.
    accepted: u32,
    /// How many were accepted before the last refusal; none when nothing was ever refused.
    learnt: Option<u32>,
    shut: Option<Shut>,
    queue: Queue,
}

#[derive(Debug, Clone, Copy)]
struct Shut {
    refusals: usize,
    next_probe: Instant,
}

/// Why a login may not even wait: it could not be sent before its deadline, or too many wait.
#[derive(Debug)]
pub(crate) struct GateRefused {
    /// When the gate could let it through, where that is known.
    pub(crate) possible_at: Option<Instant>,
}

/// Leave to send one login. To drop it is to say that the login came to nothing, for reasons of its own.
#[derive(Debug)]
#[must_use]
pub(crate) struct LoginPass<'a> {
    gate: &'a LoginGate,
    opening: u64,
}

impl LoginGate {
    pub(crate) fn new(random: Fraction) -> Self {
        let state =
            State { opening: 0, out: 0, window: None, accepted: 0, learnt: None, shut: None, queue: Queue::new(QUEUE) };
        Self { random, state: Mutex::new(state) }
    }

    /// Waits until a login may be sent. Fails at once where that cannot be before the deadline.
    pub(crate) async fn admit(&self, deadline: Instant) -> Result<LoginPass<'_>, GateRefused> {
        let (place, wake) = {
            let now = Instant::now();
            let mut state = self.lock();
            if state.queue.is_empty() && state.has_room(now) {
                return Ok(self.pass(&mut state));
            }
            let possible_at = state.shut.map(|shut| shut.next_probe);
            if state.queue.is_full() || now >= deadline || possible_at.is_some_and(|at| at > deadline) {
                return Err(GateRefused { possible_at });
            }
            state.queue.join(now, deadline)
        };
        let _waiting = Waiting { gate: self, place };
        loop {
            let until = {
                let now = Instant::now();
                let mut state = self.lock();
                let first = state.queue.is_first(place);
                if first && state.has_room(now) {
                    return Ok(self.pass(&mut state));
                }
                let possible_at = state.shut.map(|shut| shut.next_probe);
                if now >= deadline || state.queue.is_hopeless(place) {
                    return Err(GateRefused { possible_at });
                }
                // While a probe is out its answer is what wakes.
                possible_at.filter(|_| first && state.out == 0).map_or(deadline, |at| at.min(deadline))
            };
            // Woken or in time: look again.
            let _ = timeout_at(until, wake.notified()).await;
        }
    }

    fn pass(&self, state: &mut State) -> LoginPass<'_> {
        state.out += 1;
        LoginPass { gate: self, opening: state.opening }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is complete before anything could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When to probe after so many refusals.
    fn next_probe(&self, refusals: usize, window: Instant, now: Instant) -> Instant {
        let pause = PAUSES.get(refusals).or(PAUSES.last()).copied().unwrap_or_default();
        let pause = Duration::from_secs(pause).mul_f64(0.75 + (self.random)() / 2.0);
        let probe = after(now, pause);
        let over = after(window, WINDOW + SPREAD.mul_f64((self.random)()));
        if over > now { probe.min(over) } else { probe }
    }
}

impl State {
    /// Whether one more login may be sent.
    fn has_room(&mut self, now: Instant) -> bool {
        if let Some(shut) = self.shut {
            return self.out == 0 && now >= shut.next_probe;
        }
        if self.window.is_some_and(|window| now.saturating_duration_since(window) >= WINDOW) {
            self.learnt = self.learnt.map(|learnt| learnt.max(self.accepted));
            self.window = None;
            self.accepted = 0;
        }
        self.learnt.is_none_or(|learnt| {
            // So many are left; and beyond, one more than were already found to be.
            let left = learnt.saturating_sub(self.accepted);
            self.out < left.max(self.accepted.saturating_sub(learnt).saturating_add(1))
        })
    }

    fn accept(&mut self, opening: u64, now: Instant) {
        if opening == self.opening {
            self.out = self.out.saturating_sub(1);
            if self.shut.take().is_some() {
                // The probe opened a new window, or what is left of one.
                self.window = None;
                self.accepted = 0;
            }
        } else if self.shut.is_none() {
            // Of a window that is over.
            return;
        }
        self.window.get_or_insert(now);
        self.accepted += 1;
        if self.shut.is_some() {
            // Accepted before the refusal, answered after it.
            self.learnt = self.learnt.max(Some(self.accepted));
        }
        self.queue.wake_first();
    }
}

impl LoginPass<'_> {
    /// False once another login was refused since: then give this pass back unused, and ask for another.
    pub(crate) fn is_current(&self) -> bool {
        self.gate.lock().opening == self.opening
    }

    /// The login was accepted.
    pub(crate) fn accepted(self, now: Instant) {
        self.gate.lock().accept(self.opening, now);
        self.settled();
    }

    /// The login was refused for the limit.
    pub(crate) fn throttled(self, now: Instant, retry_after: Option<Duration>) {
        let mut state = self.gate.lock();
        let asked = retry_after.map(|wait| after(now, wait.min(LONGEST_PAUSE) + SPREAD.mul_f64((self.gate.random)())));
        let shut = match state.shut {
            // One of those sent with the login that shut the gate: no news, but for the wait it may name.
            shut if self.opening != state.opening => {
                let Some(shut) = shut else {
                    drop(state);
                    return self.settled();
                };
                Shut { next_probe: asked.map_or(shut.next_probe, |asked| asked.max(shut.next_probe)), ..shut }
            }
            shut => {
                let refusals = shut.map_or(0, |shut| shut.refusals + 1);
                let window = *state.window.get_or_insert(now);
                let next_probe = asked.unwrap_or_else(|| self.gate.next_probe(refusals, window, now));
                if shut.is_none() {
                    state.opening += 1;
                    state.learnt = Some(state.accepted.max(1));
                }
                state.out = 0;
                Shut { refusals, next_probe }
            }
        };
        state.shut = Some(shut);
        state.queue.give_up_hope(|_| Some(shut.next_probe));
        // To set its timer anew.
        state.queue.wake_first();
        drop(state);
        self.settled();
    }

    fn settled(self) {
        std::mem::forget(self);
    }
}

impl Drop for LoginPass<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        if self.opening == state.opening {
            state.out = state.out.saturating_sub(1);
            state.queue.wake_first();
        }
    }
}

/// A place in the queue, given up when dropped.
struct Waiting<'a> {
    gate: &'a LoginGate,
    place: Place,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.lock().queue.leave(self.place);
    }
}

impl std::fmt::Debug for LoginGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginGate").field("state", &self.state).finish_non_exhaustive()
    }
}

/// The instant so much later, or, beyond what the clock can tell, this one.
fn after(at: Instant, wait: Duration) -> Instant {
    at.checked_add(wait).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;
    use tokio::time::{advance, sleep, timeout};

    use super::*;

    const SERVICE: Duration = Duration::from_millis(20);

    fn gate() -> Arc<LoginGate> {
        let rng = Mutex::new(fastrand::Rng::with_seed(7));
        Arc::new(LoginGate::new(Arc::new(move || rng.lock().unwrap().f64())))
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// The token endpoint: so many logins in a window opened by the first; refused ones do not count.
    struct Endpoint {
        limit: u32,
        window: Mutex<Option<(Instant, u32)>>,
        refused: AtomicU32,
    }

    impl Endpoint {
        fn new(limit: u32) -> Arc<Self> {
            Arc::new(Self { limit, window: Mutex::default(), refused: AtomicU32::new(0) })
        }

        fn login(&self) -> bool {
            let mut window = self.window.lock().unwrap();
            let now = Instant::now();
            if window.is_none_or(|(opened, _)| now >= opened + secs(60)) {
                *window = Some((now, 0));
            }
            let count = &mut window.as_mut().unwrap().1;
            if *count == self.limit {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            *count += 1;
            true
        }

        fn refused(&self) -> u32 {
            self.refused.load(Ordering::Relaxed)
        }
    }

    /// One login until it is accepted, as `call.rs` does it.
    async fn log_in(gate: &LoginGate, endpoint: &Endpoint, host: &Semaphore, deadline: Instant) -> bool {
        loop {
            let Ok(pass) = gate.admit(deadline).await else { return false };
            let permit = host.acquire().await.unwrap();
            if !pass.is_current() {
                continue;
            }
            sleep(SERVICE / 2).await;
            let accepted = endpoint.login();
            sleep(SERVICE / 2).await;
            drop(permit);
            if accepted {
                pass.accepted(Instant::now());
                return true;
            }
            pass.throttled(Instant::now(), None);
        }
    }

    /// So many logins at once: how long until all are served, and how many were refused on the way.
    async fn burst(gate: &Arc<LoginGate>, endpoint: &Arc<Endpoint>, agents: u32, in_flight: usize) -> (Duration, u32) {
        let start = Instant::now();
        let refused = endpoint.refused();
        let host = Arc::new(Semaphore::new(in_flight));
        let mut logins = JoinSet::new();
        for _ in 0..agents {
            let (gate, endpoint, host) = (Arc::clone(gate), Arc::clone(endpoint), Arc::clone(&host));
            logins.spawn(async move { log_in(&gate, &endpoint, &host, start + secs(300)).await });
        }
        assert!(logins.join_all().await.into_iter().all(|served| served));
        (start.elapsed(), endpoint.refused() - refused)
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_and_fifty_at_once_are_served_as_fast_as_sixty_a_minute_allow() {
        for in_flight in [16, 64, 1000] {
            let endpoint = Endpoint::new(60);
            let (took, refused) = burst(&gate(), &endpoint, 150, in_flight).await;
            println!("in flight {in_flight}: {took:?}, {refused} refused");
            assert!(took >= secs(120) && took < secs(121), "{took:?}");
            // Those in flight when the first was refused, then one and seven probes a window.
            assert!(refused <= 90.min(in_flight as u32) + 16, "{refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_learnt_is_kept_and_wrong_guesses_mend_themselves() {
        let (gate, endpoint) = (gate(), Endpoint::new(60));
        burst(&gate, &endpoint, 150, 1000).await;
        sleep(secs(3600)).await;
        let (took, refused) = burst(&gate, &endpoint, 150, 1000).await;
        println!("the next morning: {took:?}, {refused} refused");
        assert!(took < secs(121) && refused <= 16, "{took:?}, {refused}");

        // The limit was raised.
        sleep(secs(3600)).await;
        let raised = Endpoint::new(500);
        let (took, refused) = burst(&gate, &raised, 400, 1000).await;
        println!("raised: {took:?}, {refused} refused");
        assert!(took < secs(1) && refused == 0, "{took:?}, {refused}");

        // Another process had most of the window.
        let busy = Endpoint::new(60);
        for _ in 0..50 {
            assert!(busy.login());
        }
        let (took, refused) = burst(&self::gate(), &busy, 150, 1000).await;
        println!("shared: {took:?}, {refused} refused");
        assert!(took < secs(182) && refused < 240, "{took:?}, {refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn until_something_is_refused_everything_goes() {
        let (took, refused) = burst(&gate(), &Endpoint::new(u32::MAX), 5000, 10_000).await;
        assert_eq!((took, refused), (SERVICE, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shut_gate_lets_one_at_a_time_probe_and_the_pauses_grow() {
        let (gate, start) = (gate(), Instant::now());
        let deadline = start + secs(300);
        gate.admit(deadline).await.unwrap().throttled(start, None);
        let mut probes = Vec::new();
        for _ in 0..8 {
            let probe = gate.admit(deadline).await.unwrap();
            probes.push(start.elapsed().as_secs_f64());
            assert!(timeout(secs(1), gate.admit(deadline)).await.is_err(), "a second one beside the probe");
            probe.throttled(Instant::now(), None);
        }
        let pauses: Vec<f64> = probes.windows(2).map(|pair| pair[1] - pair[0] - 1.0).collect();
        assert!((0.75..1.25).contains(&probes[0]), "{probes:?}");
        for (pause, expected) in pauses.iter().zip([2.0, 4.0, 8.0]) {
            assert!((expected * 0.75..=expected * 1.25 + 0.01).contains(pause), "{probes:?}");
        }
        assert!(probes.iter().any(|at| (60.0..60.3).contains(at)), "no probe at the window's end: {probes:?}");
        assert!(probes[7] > 61.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_or_vanishes_hands_its_part_on() {
        let gate = gate();
        let deadline = Instant::now() + secs(100);
        gate.admit(deadline).await.unwrap().throttled(Instant::now(), None);
        let probe = gate.admit(deadline).await.unwrap();
        let mut next = ask(&gate, deadline);
        assert!(timeout(secs(5), &mut next).await.is_err());
        drop(probe);
        let probe = timeout(secs(1), next).await.unwrap().unwrap();
        assert!(probe);
        // And so does a waiter that is dropped when it was first, woken or not.
        let held = gate.admit(deadline).await.unwrap();
        let first = ask(&gate, deadline);
        tokio::task::yield_now().await;
        let second = ask(&gate, deadline);
        tokio::task::yield_now().await;
        drop(held);
        first.abort();
        assert!(timeout(secs(1), second).await.unwrap().unwrap());
    }

    /// Asks for a pass and gives it back at once.
    fn ask(gate: &Arc<LoginGate>, deadline: Instant) -> tokio::task::JoinHandle<bool> {
        let gate = Arc::clone(gate);
        tokio::spawn(async move { gate.admit(deadline).await.is_ok() })
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_cannot_be_sent_in_time_fails_at_once_and_says_when() {
        let (gate, start) = (gate(), Instant::now());
        let waits = ask(&gate, start + secs(20));
        let pass = gate.admit(start + secs(20)).await.unwrap();
        let second = gate.admit(start + secs(20)).await.unwrap();
        tokio::task::yield_now().await;
        assert!(waits.await.unwrap());
        pass.throttled(start, Some(secs(30)));
        let refused = gate.admit(start + secs(20)).await.unwrap_err();
        assert!((secs(30)..secs(31)).contains(&(refused.possible_at.unwrap() - start)));
        assert_eq!(start.elapsed(), Duration::ZERO);
        // One that waits already fails as soon as it is known; a mate of the refused one may say so.
        let waiting = ask(&gate, start + secs(32));
        advance(secs(1)).await;
        second.throttled(start, Some(secs(40)));
        assert!(!waiting.await.unwrap());
        assert_eq!(start.elapsed(), secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn no_wait_the_endpoint_names_is_obeyed_beyond_three_minutes() {
        let gate = gate();
        let start = Instant::now();
        gate.admit(start + secs(1000)).await.unwrap().throttled(start, Some(Duration::MAX));
        drop(gate.admit(start + secs(1000)).await.unwrap());
        assert!(start.elapsed() < secs(181));
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_and_in_order() {
        let gate = gate();
        let start = Instant::now();
        let deadline = start + secs(100);
        gate.admit(deadline).await.unwrap().throttled(start, None);
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiters = JoinSet::new();
        for number in 0..QUEUE {
            let (gate, order) = (Arc::clone(&gate), Arc::clone(&order));
            waiters.spawn(async move {
                if let Ok(pass) = gate.admit(deadline).await {
                    order.lock().unwrap().push(number);
                    pass.accepted(Instant::now());
                }
            });
        }
        // All have asked.
        sleep(Duration::from_millis(1)).await;
        assert!(gate.admit(deadline).await.is_err());
        waiters.join_all().await;
        let order = order.lock().unwrap();
        assert_eq!(order.len(), QUEUE);
        assert!(order.is_sorted());
    }

    #[tokio::test(start_paused = true)]
    async fn passes_and_waiters_dropped_at_random_never_wedge_the_gate() {
        let mut rng = fastrand::Rng::with_seed(3);
        let (gate, endpoint) = (gate(), Endpoint::new(20));
        let host = Arc::new(Semaphore::new(50));
        let deadline = Instant::now() + secs(3600);
        let mut logins = Vec::new();
        for _ in 0..300 {
            let (gate, endpoint, host) = (Arc::clone(&gate), Arc::clone(&endpoint), Arc::clone(&host));
            logins.push(tokio::spawn(async move { log_in(&gate, &endpoint, &host, deadline).await }));
        }
        for _ in 0..250 {
            sleep(Duration::from_millis(rng.u64(0..400))).await;
            let victim = rng.usize(0..logins.len());
            logins.swap_remove(victim).abort();
        }
        for login in logins {
            assert!(login.await.unwrap());
        }
        let state = gate.lock();
        assert!(state.queue.is_empty() && state.out == 0, "{state:?}");
    }
}
