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
                // The limit has fallen, so the queue is pause enough; once.
                Some(Verdict::Overload) if turn == Turn::New => turn = Turn::Again,
                Some(Verdict::Probe(next)) => {
                    turn = next.turn(self.jitter(backoff), deadline).await.ok_or(Failure::Unknown)?;
                    probe = Some(next);
                    backoff = (backoff * 2).min(BACKOFF_CAP);
                }
                None | Some(Verdict::Overload | Verdict::Wait(_)) => {
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
        for refusal in [0.4, 1.0] {
            for agents in [150, 1500] {
                for knee in [10, 40, 80, 300] {
                    if agents == 150 && knee > 40 || agents == 1500 && knee > 80 {
                        continue;
                    }
                    for ids in [1, agents] {
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

// ---- a steady load

#[derive(Debug, Clone)]
struct Done {
    id: String,
    begun: Instant,
    ended: Instant,
    attempts: u32,
    result: Result<(), Failure>,
}

/// One call every so often, each its own task.
async fn steady(world: &Arc<World>, every: Duration, until: Instant, id: impl Fn(usize) -> String) -> Vec<Done> {
    let mut calls = JoinSet::new();
    let mut next = Instant::now();
    let mut count = 0;
    while next < until {
        sleep_until(next).await;
        let (world, id, begun) = (Arc::clone(world), id(count), next);
        calls.spawn(async move {
            let (attempts, result) = world.call(&id, begun + Duration::from_secs(100)).await;
            Done { id, begun, ended: Instant::now(), attempts, result }
        });
        count += 1;
        next += every;
    }
    calls.join_all().await
}

async fn closed(world: &Arc<World>, workers: usize, until: Instant, ids: usize) -> Vec<Done> {
    let mut calls = JoinSet::new();
    for worker in 0..workers {
        let world = Arc::clone(world);
        calls.spawn(async move {
            let mut done = Vec::new();
            while Instant::now() < until {
                let begun = Instant::now();
                let id = format!("script-{}", worker % ids);
                let (attempts, result) = world.call(&id, begun + Duration::from_secs(100)).await;
                done.push(Done { id, begun, ended: Instant::now(), attempts, result });
            }
            done
        });
    }
    calls.join_all().await.into_iter().flatten().collect()
}

fn why(done: &[Done]) -> String {
    let mut why = std::collections::BTreeMap::new();
    for call in done {
        let key = match call.result {
            Ok(()) => "ok".to_owned(),
            Err(Failure::Refused(Refused::Shut { .. })) => "shut".to_owned(),
            Err(failure) => format!("{failure:?}"),
        };
        *why.entry(key).or_insert(0) += 1;
    }
    format!("{why:?}")
}

#[test]
fn moving() {
    for rough in [false, true] {
        for (workers, ids) in [(150, 1), (150, 150), (0, 150)] {
            let mut lines = Vec::new();
            for seed in 0..20 {
                virtually(async {
                    let world = World::new(80, rough, seed);
                    let start = Instant::now();
                    let until = start + Duration::from_secs(15);
                    let limits = {
                        let world = Arc::clone(&world);
                        tokio::spawn(async move {
                            let mut limits = Vec::new();
                            for tick in 0..1500u64 {
                                let knee = if (500..1000).contains(&tick) { 30 } else { 80 };
                                world.service.state.lock().unwrap().knee = knee;
                                limits.push((tick, knee, world.overload.snapshot().limit));
                                sleep_until(start + Duration::from_millis(10 * (tick + 1))).await;
                            }
                            limits
                        })
                    };
                    let done = if workers > 0 {
                        closed(&world, workers, until, ids).await
                    } else {
                        steady(&world, Duration::from_micros(400), until, |n| format!("s{}", n % ids)).await
                    };
                    let limits = limits.await.unwrap();
                    let within = |(_, knee, limit): &&(u64, usize, u32)| {
                        (f64::from(*limit) - *knee as f64).abs() <= 0.1 * *knee as f64
                    };
                    let down = limits.iter().skip(500).find(within).map(|l| (l.0 - 500) * 10);
                    let up = limits.iter().skip(1000).find(within).map(|l| (l.0 - 1000) * 10);
                    let share = |from: usize, to: usize| {
                        limits[from..to].iter().filter(within).count() as f64 / (to - from) as f64
                    };
                    let state = world.service.state.lock().unwrap();
                    lines.push(format!(
                        "waste {:.1}% down {down:?} up {up:?} in band {:.2} {:.2} {:.2} attempts {} {}",
                        state.refused as f64 * 100.0 / state.attempts as f64,
                        share(200, 500),
                        share(700, 1000),
                        share(1200, 1500),
                        state.attempts,
                        why(&done),
                    ));
                });
            }
            for line in lines {
                println!("rough {rough} workers {workers} ids {ids} {line}");
            }
        }
    }
}

#[test]
fn outage() {
    for mode in [Mode::Down, Mode::Hung] {
        for rough in [false, true] {
            for seed in 0..20 {
                virtually(async {
                    let world = World::new(80, rough, seed);
                    let start = Instant::now();
                    let (down, up) = (start + Duration::from_secs(10), start + Duration::from_secs(70));
                    let switch = {
                        let world = Arc::clone(&world);
                        tokio::spawn(async move {
                            sleep_until(down).await;
                            world.service.state.lock().unwrap().mode = mode;
                            sleep_until(up).await;
                            world.service.state.lock().unwrap().mode = Mode::Up;
                        })
                    };
                    let done = steady(&world, Duration::from_millis(10), start + Duration::from_secs(100), |n| {
                        format!("s{}", n % 20)
                    })
                    .await;
                    switch.await.unwrap();
                    let extra: u32 = done.iter().map(|d| d.attempts.saturating_sub(1)).sum();
                    let slowest = done.iter().map(|d| d.ended - d.begun).max().unwrap();
                    let last_failure = done.iter().filter(|d| d.result.is_err()).map(|d| d.ended).max().unwrap();
                    let state = world.service.state.lock().unwrap();
                    let burst = |window: Duration| {
                        let mut most = 0;
                        let mut from = 0;
                        for (to, at) in state.sent_at.iter().enumerate() {
                            while *at - state.sent_at[from] >= window {
                                from += 1;
                            }
                            most = most.max(to - from + 1);
                        }
                        most
                    };
                    let shut_at = done
                        .iter()
                        .filter(|d| matches!(d.result, Err(Failure::Refused(Refused::Shut { .. }))))
                        .map(|d| d.ended)
                        .min();
                    println!(
                        "rough {rough} {mode:?} extra {extra} of {} slowest {slowest:?} shut after {:?} last failure after return {:?} burst 1s {} 200ms {} {}",
                        done.len(),
                        shut_at.map(|at| at - down),
                        last_failure.saturating_duration_since(up),
                        burst(Duration::from_secs(1)),
                        burst(Duration::from_millis(200)),
                        why(&done),
                    );
                });
            }
        }
    }
}
