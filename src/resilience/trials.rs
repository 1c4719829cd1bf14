//! The limiter and the history at work, on a paused clock: a toy service with a knee, and the call loop cut down to what
//! concerns the two. Every figure is a bar of the product.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_precision_loss)]

use std::collections::HashSet;
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
    refused_by_knee: usize,
    by_id: std::collections::HashMap<String, usize>,
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
                refused_by_knee: 0,
                by_id: std::collections::HashMap::new(),
                sent_at: Vec::new(),
            }),
        }
    }

    async fn serve(&self, id: &str) -> Answer {
        let (answer, time) = {
            let mut state = self.state.lock().unwrap();
            state.attempts += 1;
            *state.by_id.entry(id.to_owned()).or_default() += 1;
            state.sent_at.push(Instant::now());
            state.in_flight += 1;
            let over = state.in_flight > state.knee && {
                let refusal = state.refusal;
                state.random.f64() < refusal
            };
            if over {
                state.refused_by_knee += 1;
            }
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

            // Holding nothing.
            let verdict = match verdict {
                Some(Verdict::Wait(wait)) => Some(wait.verdict(held.take(), BACKOFF, deadline).await),
                other => other,
            };
            match verdict {
                Some(Verdict::Broken) => return Err(Failure::Broken),
                Some(Verdict::Unknown) => return Err(Failure::Unknown),
                _ if *attempts >= ATTEMPTS => return Err(Failure::Attempts),
                _ if !self.budget.take() => return Err(Failure::Budget),
                // The limit has fallen, so the queue is the pause.
                Some(Verdict::Overload) => turn = Turn::Again,
                Some(Verdict::Probe(next)) => {
                    turn = next.turn(self.jitter(backoff), deadline).await.ok_or(Failure::Unknown)?;
                    probe = Some(next);
                    backoff = (backoff * 2).min(BACKOFF_CAP);
                }
                Some(Verdict::Wait(_)) | None => {
                    let wake = Instant::now() + self.jitter(backoff);
                    if wake > deadline {
                        return Err(Failure::Deadline);
                    }
                    sleep_until(wake).await;
                    turn = Turn::Again;
                    backoff = (backoff * 2).min(BACKOFF_CAP);
                }
            }
        }
    }
}

// ---- experiments

#[derive(Debug, Default)]
struct Figures {
    served: usize,
    failures: std::collections::HashMap<String, usize>,
    attempts: usize,
    wasted: usize,
    elapsed: Duration,
    most_attempts: u32,
    limit: u32,
}

impl Figures {
    fn wasted_share(&self) -> f64 {
        self.wasted as f64 / self.attempts as f64
    }
}

fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap());
    values[values.len() / 2]
}

fn virtually<F: Future>(trial: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(trial)
}

async fn all_at_once(agents: usize, knee: usize, ids: usize, rough: bool, seed: u64, refusal: f64) -> Figures {
    let world = World::new(knee, rough, seed);
    world.service.state.lock().unwrap().refusal = refusal;
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for agent in 0..agents {
        let world = Arc::clone(&world);
        calls.spawn(async move {
            let id = format!("script-{}", agent % ids);
            world.call(&id, start + Duration::from_secs(100)).await
        });
    }
    let mut figures = Figures::default();
    for (attempts, result) in calls.join_all().await {
        figures.most_attempts = figures.most_attempts.max(attempts);
        match result {
            Ok(()) => figures.served += 1,
            Err(failure) => *figures.failures.entry(format!("{failure:?}")).or_default() += 1,
        }
    }
    figures.elapsed = start.elapsed();
    let state = world.service.state.lock().unwrap();
    figures.attempts = state.attempts;
    figures.wasted = state.refused;
    figures.limit = world.overload.snapshot().limit;
    figures
}

#[test]
fn table() {
    for rough in [false, true] {
        for refusal in [0.4, 1.0, 0.1] {
            for agents in [150, 1500] {
                for knee in [10, 40, 80, 300] {
                    for ids in [1, 10, agents] {
                        let runs: Vec<_> = (0..20)
                            .map(|seed| virtually(all_at_once(agents, knee, ids, rough, seed, refusal)))
                            .collect();
                        let oracle = agents.div_ceil(knee) as f64 * 20.0;
                        let ms = |f: &Figures| f.elapsed.as_secs_f64() * 1e3;
                        let worst_time = runs.iter().map(ms).fold(0.0, f64::max);
                        let waste = median(runs.iter().map(Figures::wasted_share).collect());
                        let worst_waste = runs.iter().map(Figures::wasted_share).fold(0.0, f64::max);
                        let unserved: usize = runs.iter().map(|f| agents - f.served).sum();
                        let mut why = std::collections::BTreeMap::new();
                        for f in &runs {
                            for (k, v) in &f.failures {
                                *why.entry(k.clone()).or_insert(0) += v;
                            }
                        }
                        println!(
                            "rough {rough:5} p {refusal} agents {agents:4} knee {knee:3} ids {ids:4}: unserved {unserved:3} time {:6.0} worst {worst_time:6.0} oracle {oracle:5.0} ({:.2}) waste {:4.1}% worst {:4.1}% attempts<= {} {why:?}",
                            median(runs.iter().map(ms).collect()),
                            worst_time / oracle,
                            waste * 100.0,
                            worst_waste * 100.0,
                            runs.iter().map(|f| f.most_attempts).max().unwrap(),
                        );
                    }
                }
            }
        }
    }
}
