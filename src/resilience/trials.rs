//! The limiter and the history at work, on a paused clock: a toy service with a knee, and the call loop cut down to what
//! concerns the two. Every figure is a bar of the product.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_precision_loss)]

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::history::{History, Probe, Verdict};
use super::overload::{Held, Overload, OverloadPolicy, Refused, Turn};

const SERVICE_TIME: Duration = Duration::from_millis(20);
const ATTEMPTS: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(100);
const BACKOFF_CAP: Duration = Duration::from_secs(20);

// ---- the service

#[derive(Debug, Clone, Copy, PartialEq)]
enum Answer {
    Ok,
    Invalid,
    Unavailable,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Up,
    /// 503, at once.
    Down,
    /// No answer; the attempt times out.
    Hung,
}

struct Service {
    state: Mutex<ServiceState>,
    /// Real services answer neither in one instant nor all at once.
    rough: bool,
}

struct ServiceState {
    knee: usize,
    refusal: f64,
    mode: Mode,
    broken: HashSet<String>,
    in_flight: usize,
    random: fastrand::Rng,
    attempts: usize,
    refused: usize,
    sent_at: Vec<Instant>,
}

impl Service {
    fn new(knee: usize, rough: bool, seed: u64) -> Self {
        Self {
            rough,
            state: Mutex::new(ServiceState {
                knee,
                refusal: 0.4,
                mode: Mode::Up,
                broken: HashSet::new(),
                in_flight: 0,
                random: fastrand::Rng::with_seed(seed),
                attempts: 0,
                refused: 0,
                sent_at: Vec::new(),
            }),
        }
    }

    async fn serve(&self, id: &str) -> Answer {
        let (answer, time) = {
            let mut state = self.state.lock().unwrap();
            state.attempts += 1;
            state.sent_at.push(Instant::now());
            state.in_flight += 1;
            let over = state.in_flight > state.knee && {
                let refusal = state.refusal;
                state.random.f64() < refusal
            };
            let at_once = if self.rough { Duration::from_millis(1) } else { Duration::ZERO };
            let jitter = if self.rough { state.random.f64() * 10.0 - 5.0 } else { 0.0 };
            let time = Duration::from_secs_f64((SERVICE_TIME.as_secs_f64() * 1e3 + jitter) / 1e3);
            match state.mode {
                Mode::Down => (Answer::Unavailable, at_once),
                Mode::Hung => (Answer::Unavailable, Duration::from_secs(15)),
                Mode::Up if over || state.broken.contains(id) => (Answer::Invalid, at_once),
                Mode::Up => (Answer::Ok, time),
            }
        };
        if answer != Answer::Ok {
            let mut state = self.state.lock().unwrap();
            state.refused += 1;
            state.in_flight -= 1;
        }
        if time.is_zero() {
            tokio::task::yield_now().await;
        } else {
            sleep(time).await;
        }
        if answer == Answer::Ok {
            self.state.lock().unwrap().in_flight -= 1;
        }
        answer
    }
}

// ---- the call

/// Decision 3.
struct Budget(Mutex<f64>);

impl Budget {
    fn begun(&self) {
        let mut tokens = self.0.lock().unwrap();
        *tokens = (*tokens + 0.1).min(100.0);
    }

    fn take(&self) -> bool {
        let mut tokens = self.0.lock().unwrap();
        let enough = *tokens >= 1.0;
        if enough {
            *tokens -= 1.0;
        }
        enough
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Refused(Refused),
    Attempts,
    Budget,
    Broken,
    Unknown,
    Deadline,
}

struct World {
    service: Service,
    overload: Overload,
    history: History,
    budget: Budget,
    random: Mutex<fastrand::Rng>,
}

impl World {
    fn new(knee: usize, rough: bool, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            service: Service::new(knee, rough, seed),
            overload: Overload::new(OverloadPolicy::default(), fastrand::Rng::with_seed(seed ^ 0xABCD)),
            history: History::new(10_000),
            budget: Budget(Mutex::new(30.0)),
            random: Mutex::new(fastrand::Rng::with_seed(seed ^ 0x5EED)),
        })
    }

    fn jitter(&self, longest: Duration) -> Duration {
        longest.mul_f64(self.random.lock().unwrap().f64())
    }

    /// What `call.rs` does with the two.
    async fn call(&self, id: &str, deadline: Instant) -> (u32, Result<(), Failure>) {
        let mut attempts = 0;
        let result = self.attempt_until_decided(id, deadline, &mut attempts).await;
        (attempts, result)
    }

    async fn attempt_until_decided(&self, id: &str, deadline: Instant, attempts: &mut u32) -> Result<(), Failure> {
        self.budget.begun();
        let mut turn = Turn::New;
        let mut probe: Option<Probe<'_>> = None;
        let mut held: Option<Held<'_>> = None;
        let mut backoff = BACKOFF;
        loop {
            let permit = self.overload.acquire(turn, held.take(), deadline).await.map_err(Failure::Refused)?;
            let sent = permit.sent();
            *attempts += 1;
            let answer = timeout_at(deadline, self.service.serve(id)).await.map_err(|_| Failure::Deadline)?;
            let now = Instant::now();

            // The permit ends here, on every path, before anything waits.
            let verdict = match answer {
                Answer::Ok => {
                    if let Some(refused) = self.history.success(id, sent, now) {
                        self.overload.decide_overloaded(refused);
                    }
                    permit.success();
                    return Ok(());
                }
                Answer::Unavailable => {
                    permit.overloaded(now);
                    None
                }
                Answer::Invalid => {
                    let verdict = self.history.invalid(id, sent, now, probe.take());
                    match verdict {
                        Verdict::Overload => permit.overloaded(now),
                        Verdict::Probe(_) | Verdict::Wait(_) => held = Some(permit.undecided()),
                        Verdict::Broken | Verdict::Unknown => permit.neutral(),
                    }
                    Some(verdict)
                }
            };

            // Nothing is held from here, but the slot of an undecided attempt for one backoff.
            let verdict = match verdict {
                Some(Verdict::Wait(wait)) => Some(wait.verdict(&mut held, BACKOFF, deadline).await),
                other => other,
            };
            match verdict {
                Some(Verdict::Broken) => return Err(Failure::Broken),
                Some(Verdict::Unknown) => return Err(Failure::Unknown),
                _ if *attempts >= ATTEMPTS => return Err(Failure::Attempts),
                // The limit has fallen, so the queue is pause enough; once.
                Some(Verdict::Overload) if turn == Turn::New => turn = Turn::Again,
                Some(Verdict::Probe(next)) => {
                    turn = next
                        .turn(&mut held, self.jitter(backoff), ATTEMPTS - *attempts, deadline)
                        .await
                        .ok_or(Failure::Unknown)?;
                    probe = Some(next);
                    backoff = (backoff * 2).min(BACKOFF_CAP);
                }
                None | Some(Verdict::Overload | Verdict::Wait(_)) => {
                    held.take();
                    let wake = Instant::now() + self.jitter(backoff);
                    if wake > deadline {
                        return Err(Failure::Deadline);
                    }
                    sleep_until(wake).await;
                    turn = Turn::Again;
                    backoff = (backoff * 2).min(BACKOFF_CAP);
                }
            }
            if !self.budget.take() {
                return Err(Failure::Budget);
            }
        }
    }
}

// ---- trials

/// Seeds for the large trials. All 20 in a release build; unoptimised they would take minutes.
const SEEDS: u64 = if cfg!(debug_assertions) { 2 } else { 20 };

fn virtually<F: Future>(trial: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(trial)
}

#[derive(Debug)]
struct Done {
    id: String,
    begun: Instant,
    ended: Instant,
    attempts: u32,
    result: Result<(), Failure>,
}

impl Done {
    fn took(&self) -> Duration {
        self.ended - self.begun
    }
}

fn slowest<'a>(done: impl IntoIterator<Item = &'a Done>) -> Duration {
    done.into_iter().map(Done::took).max().unwrap()
}

fn extra<'a>(done: impl IntoIterator<Item = &'a Done>) -> u32 {
    done.into_iter().map(|call| call.attempts.saturating_sub(1)).sum()
}

fn outcomes<'a>(done: impl IntoIterator<Item = &'a Done>) -> BTreeMap<String, usize> {
    let mut outcomes = BTreeMap::new();
    for call in done {
        let outcome = match call.result {
            Ok(()) => "served".to_owned(),
            Err(Failure::Refused(Refused::Shut { .. })) => "shut".to_owned(),
            Err(failure) => format!("{failure:?}"),
        };
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    outcomes
}

#[track_caller]
fn all(done: &[&Done], expected: &str) {
    assert_eq!(outcomes(done.iter().copied()), BTreeMap::from([(expected.to_owned(), done.len())]));
}

async fn one(world: Arc<World>, id: String) -> Done {
    let begun = Instant::now();
    let (attempts, result) = world.call(&id, begun + Duration::from_secs(100)).await;
    Done { id, begun, ended: Instant::now(), attempts, result }
}

async fn at_once(world: &Arc<World>, ids: impl IntoIterator<Item = String>) -> Vec<Done> {
    let mut calls = JoinSet::new();
    for id in ids {
        calls.spawn(one(Arc::clone(world), id));
    }
    calls.join_all().await
}

/// A call every so often, whatever becomes of the earlier ones.
async fn steadily(world: &Arc<World>, every: Duration, lasts: Duration, id: impl Fn(usize) -> String) -> Vec<Done> {
    let mut calls = JoinSet::new();
    let start = Instant::now();
    let mut next = start;
    for count in 0.. {
        if next >= start + lasts {
            break;
        }
        sleep_until(next).await;
        calls.spawn(one(Arc::clone(world), id(count)));
        next += every;
    }
    calls.join_all().await
}

/// Agents that fetch, and fetch again.
async fn in_turns(world: &Arc<World>, agents: usize, ids: usize, lasts: Duration) -> Vec<Done> {
    let end = Instant::now() + lasts;
    let mut calls = JoinSet::new();
    for agent in 0..agents {
        let world = Arc::clone(world);
        calls.spawn(async move {
            let mut done = Vec::new();
            while Instant::now() < end {
                done.push(one(Arc::clone(&world), format!("script {}", agent % ids)).await);
            }
            done
        });
    }
    calls.join_all().await.into_iter().flatten().collect()
}

#[derive(Debug)]
struct Herd {
    wasted: f64,
    elapsed: f64,
}

/// So many agents at once, many times; all must be served.
fn herd(agents: usize, knee: usize, ids: usize, rough: bool) -> Vec<Herd> {
    let herds = (0..if agents > 150 { SEEDS } else { 20 })
        .map(|seed| {
            virtually(async {
                let world = World::new(knee, rough, seed);
                let start = Instant::now();
                let done = at_once(&world, (0..agents).map(|agent| format!("script {}", agent % ids))).await;
                let elapsed = start.elapsed().as_secs_f64();
                all(&done.iter().collect::<Vec<_>>(), "served");
                let snapshot = world.overload.snapshot();
                assert_eq!((snapshot.in_flight, snapshot.queued), (0, 0));
                let state = world.service.state.lock().unwrap();
                Herd { wasted: state.refused as f64 / state.attempts as f64, elapsed }
            })
        })
        .collect::<Vec<_>>();
    println!(
        "{agents} agents, {ids} ids, knee {knee}{}: {:.0} ms, at most {:.0} ms ({:.2} of the oracle's); wasted {:.1} %, at most {:.1} %",
        if rough { ", rough" } else { "" },
        median(&herds, |herd| herd.elapsed) * 1e3,
        worst(&herds, |herd| herd.elapsed) * 1e3,
        worst(&herds, |herd| herd.elapsed) / oracle(agents, knee),
        median(&herds, |herd| herd.wasted) * 1e2,
        worst(&herds, |herd| herd.wasted) * 1e2,
    );
    herds
}

/// Seconds a client needs that is told the knee.
fn oracle(agents: usize, knee: usize) -> f64 {
    agents.div_ceil(knee) as f64 * SERVICE_TIME.as_secs_f64()
}

fn median<T>(trials: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<_> = trials.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn worst<T>(trials: &[T], of: impl Fn(&T) -> f64) -> f64 {
    trials.iter().map(of).fold(0.0, f64::max)
}

#[test]
fn the_morning() {
    for rough in [false, true] {
        for ids in [1, 10, 150] {
            let herds = herd(150, 80, ids, rough);
            assert!(median(&herds, |herd| herd.elapsed) <= oracle(150, 80) + 4.0 * SERVICE_TIME.as_secs_f64());
        }
    }
}

#[test]
fn agents_150() {
    for rough in [false, true] {
        for knee in [10, 40, 80, 300] {
            for ids in [1, 10, 150] {
                let herds = herd(150, knee, ids, rough);
                assert!(worst(&herds, |herd| herd.wasted) <= 0.20);
                assert!(median(&herds, |herd| herd.wasted) <= 0.10);
            }
        }
    }
}

#[test]
fn agents_1500() {
    for knee in [10, 40, 80, 300] {
        for ids in [1, 1_500] {
            let herds = herd(1_500, knee, ids, false);
            assert!(worst(&herds, |herd| herd.wasted) <= if knee == 80 { 0.03 } else { 0.10 });
            if [40, 80].contains(&knee) {
                assert!(worst(&herds, |herd| herd.elapsed) <= 1.25 * oracle(1_500, knee));
            }
        }
    }
}

/// Answers that neither come at once nor all together: the median holds, single runs have a tail.
#[test]
fn agents_1500_rough() {
    for knee in [40, 80] {
        for ids in [1, 1_500] {
            let herds = herd(1_500, knee, ids, true);
            assert!(worst(&herds, |herd| herd.wasted) <= 0.03);
            assert!(median(&herds, |herd| herd.elapsed) <= 1.25 * oracle(1_500, knee));
        }
    }
}

#[test]
fn the_knee_moves() {
    const PHASE: u64 = 2_000;
    for rough in [false, true] {
        for ids in [1, 150] {
            for seed in 0..SEEDS.div_ceil(2) {
                virtually(async {
                    let world = World::new(80, rough, seed);
                    let start = Instant::now();
                    let limits = tokio::spawn({
                        let world = Arc::clone(&world);
                        async move {
                            let mut limits = Vec::new();
                            for ms in (0..3 * PHASE).step_by(10) {
                                sleep_until(start + Duration::from_millis(ms)).await;
                                let knee = if ms / PHASE == 1 { 30 } else { 80 };
                                world.service.state.lock().unwrap().knee = knee;
                                limits.push((ms, knee, world.overload.snapshot().limit));
                            }
                            limits
                        }
                    });
                    let done = in_turns(&world, 150, ids, Duration::from_millis(3 * PHASE)).await;
                    all(&done.iter().collect::<Vec<_>>(), "served");

                    let limits = limits.await.unwrap();
                    for phase in limits.chunks(limits.len() / 3) {
                        let near: Vec<_> = phase
                            .iter()
                            .filter(|(_, knee, limit)| (f64::from(*limit) - *knee as f64).abs() <= 0.1 * *knee as f64)
                            .map(|(ms, ..)| ms % PHASE)
                            .collect();
                        // The bar is five seconds.
                        assert!(near[0] <= 1_000, "{near:?}");
                        // And it stays there, but for a short probe.
                        assert!(near.iter().filter(|ms| **ms >= 1_000).count() >= 75);
                    }
                    let state = world.service.state.lock().unwrap();
                    assert!((state.refused as f64) <= 0.02 * state.attempts as f64);
                });
            }
        }
    }
}

/// The most attempts in any such window.
fn burst(world: &World, window: Duration) -> usize {
    let state = world.service.state.lock().unwrap();
    let sent_at = &state.sent_at;
    let mut from = 0;
    let mut most = 0;
    for (to, at) in sent_at.iter().enumerate() {
        while *at - sent_at[from] >= window {
            from += 1;
        }
        most = most.max(to - from + 1);
    }
    most
}

#[test]
fn the_service_is_down_for_a_minute() {
    for (mode, rough) in [(Mode::Down, false), (Mode::Down, true), (Mode::Hung, false)] {
        for seed in 0..SEEDS {
            {
                virtually(async {
                    let world = World::new(80, rough, seed);
                    let down = Instant::now() + Duration::from_secs(10);
                    let up = down + Duration::from_secs(60);
                    tokio::spawn({
                        let world = Arc::clone(&world);
                        async move {
                            sleep_until(down).await;
                            world.service.state.lock().unwrap().mode = mode;
                            sleep_until(up).await;
                            world.service.state.lock().unwrap().mode = Mode::Up;
                        }
                    });
                    let id = |count| format!("script {}", count % 20);
                    let done = steadily(&world, Duration::from_millis(10), Duration::from_secs(90), id).await;

                    assert!(f64::from(extra(&done)) <= 0.1 * done.len() as f64 + 30.0);
                    // Hung is known as down only when the first attempts time out, after 15 s.
                    let known = down + Duration::from_secs(if mode == Mode::Hung { 16 } else { 2 });
                    for call in done.iter().filter(|call| call.begun > known && call.begun < up) {
                        match call.result {
                            Err(Failure::Refused(Refused::Shut { until })) => {
                                // At once, unless it was a probe.
                                assert!(call.attempts > 0 || (call.took().is_zero() && until > call.ended));
                                assert!(until <= call.ended + Duration::from_secs(4));
                            }
                            Ok(()) => assert!(call.ended >= up),
                            Err(failure) => panic!("{failure:?}"),
                        }
                    }
                    let unserved =
                        done.iter().filter(|call| call.result.is_err()).map(|call| call.begun).max().unwrap();
                    assert!(unserved <= up + Duration::from_secs(5));
                    assert!(burst(&world, Duration::from_secs(1)) <= 150);
                    assert!(burst(&world, Duration::from_millis(200)) <= 30);
                });
            }
        }
    }
}

#[test]
fn a_broken_script_among_good_ones() {
    for rough in [false, true] {
        for (agents, ids) in [(1, 1), (1, 149), (10, 1), (10, 149)] {
            for seed in 0..SEEDS {
                let morning = |broken: bool| {
                    virtually(async move {
                        let world = World::new(80, rough, seed);
                        if broken {
                            world.service.state.lock().unwrap().broken.insert("broken".to_owned());
                        }
                        let good = (agents..150).map(|agent| format!("script {}", agent % ids));
                        let mut all: Vec<_> = good.chain((0..agents).map(|_| "broken".to_owned())).collect();
                        fastrand::Rng::with_seed(seed).shuffle(&mut all);
                        (at_once(&world, all).await, world.overload.snapshot().decreases)
                    })
                };
                let undisturbed = slowest(&morning(false).0);
                let (done, decreases) = morning(true);
                let (bad, good): (Vec<_>, Vec<_>) = done.iter().partition(|call| call.id == "broken");
                all(&bad, "Broken");
                all(&good, "served");
                assert_eq!(extra(bad), 1);
                assert_eq!(decreases, 0);
                assert!(slowest(good) <= undisturbed + BACKOFF);
            }
        }
    }
}

/// Both at once: it takes longer to find out, but it is found out.
#[test]
fn a_broken_script_amid_overload() {
    for rough in [false, true] {
        for knee in [10, 40] {
            for ids in [1, 149] {
                for seed in 0..SEEDS {
                    virtually(async {
                        let world = World::new(knee, rough, seed);
                        world.service.state.lock().unwrap().broken.insert("broken".to_owned());
                        let mut ids: Vec<_> = (0..149).map(|agent| format!("script {}", agent % ids)).collect();
                        ids.insert(seed as usize * 7, "broken".to_owned());
                        let done = at_once(&world, ids).await;
                        let (bad, good): (Vec<_>, Vec<_>) = done.iter().partition(|call| call.id == "broken");
                        all(&bad, "Broken");
                        all(&good, "served");
                        assert!(slowest(bad) <= Duration::from_secs(4));
                    });
                }
            }
        }
    }
}

#[test]
fn a_bad_publish() {
    for rough in [false, true] {
        for every in [10, 2] {
            for seed in 0..SEEDS.div_ceil(4) {
                virtually(async {
                    let world = World::new(80, rough, seed);
                    let bad_at = Instant::now() + Duration::from_secs(2);
                    tokio::spawn({
                        let world = Arc::clone(&world);
                        async move {
                            sleep_until(bad_at).await;
                            world.service.state.lock().unwrap().broken.insert("popular".to_owned());
                        }
                    });
                    let id = |n| if n % 5 == 0 { format!("script {}", n % 50) } else { "popular".to_owned() };
                    let done = steadily(&world, Duration::from_millis(every), Duration::from_secs(20), id).await;
                    let (bad, good): (Vec<_>, Vec<_>) =
                        done.iter().partition(|call| call.id == "popular" && call.begun >= bad_at);
                    all(&bad, "Broken");
                    all(&good, "served");
                    assert_eq!(extra(&done), 1);
                    assert_eq!(world.overload.snapshot().decreases, 0);
                    assert!(slowest(bad) <= BACKOFF + 2 * SERVICE_TIME);
                    assert!(slowest(good) <= BACKOFF);
                });
            }
        }
    }
}

#[test]
fn a_bad_publish_at_nine() {
    for known in [false, true] {
        for seed in 0..20 {
            virtually(async {
                let world = World::new(80, false, seed);
                if known {
                    all(&at_once(&world, ["popular".to_owned()]).await.iter().collect::<Vec<_>>(), "served");
                }
                world.service.state.lock().unwrap().broken.insert("popular".to_owned());
                let ids = (0..150).map(|agent| if agent % 10 == 0 { "other" } else { "popular" }.to_owned());
                let done = at_once(&world, ids).await;
                let (bad, good): (Vec<_>, Vec<_>) = done.iter().partition(|call| call.id == "popular");
                all(&bad, "Broken");
                all(&good, "served");
                assert_eq!(extra(&done), 1);
                assert!(slowest(&done) <= BACKOFF + 4 * SERVICE_TIME);
                assert_eq!(world.overload.snapshot().decreases, 0);

                world.service.state.lock().unwrap().broken.clear();
                all(&at_once(&world, (0..16).map(|_| "popular".to_owned())).await.iter().collect::<Vec<_>>(), "served");
            });
        }
    }
}

#[test]
fn two_bad_publishes_at_once() {
    for seed in 0..SEEDS {
        virtually(async {
            let world = World::new(80, false, seed);
            at_once(&world, ["one".to_owned(), "two".to_owned()]).await;
            world.service.state.lock().unwrap().broken.extend(["one".to_owned(), "two".to_owned()]);
            let id = |n: usize| ["one", "two", "three", "four"][n % 4].to_owned();
            let done = steadily(&world, Duration::from_millis(10), Duration::from_secs(20), id).await;
            let (bad, good): (Vec<_>, Vec<_>) = done.iter().partition(|call| call.id == "one" || call.id == "two");
            all(&good, "served");
            assert!(extra(&done) <= 6);
            assert!(slowest(good) <= BACKOFF);
            assert!(slowest(bad.iter().copied()) <= Duration::from_millis(500));
            all(&bad, "Broken");
            assert_eq!(world.overload.snapshot().decreases, 0);
        });
    }
}
