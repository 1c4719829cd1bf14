//! A soak: for a set time, against the simulator with random faults, agents and clients come and go. After each round all
//! leave; then every request that was counted here was counted there, nothing is open or running any more, and the memory is
//! what it was. `SOAK=30 cargo test --test soak -- --nocapture` goes on for 30 minutes, a round each, and prints the
//! figures of each; without it there are two rounds of two seconds, so that this is a test like others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::TryStreamExt;
use genesys_scripts::simulator::{Fault, Simulator};
use genesys_scripts::{
    Agent, Client, Credentials, Error, ErrorKind, ListScripts, PublishScript, ReadScript, ReadVariables, Region,
    ScriptId, Stats,
};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// So many work at once; each is followed by another when it leaves.
const DESKS: usize = 40;
/// The only operation of those who leave in the middle of a call, and of nobody else: what of theirs arrives is not known.
const OF_LEAVERS: &str = "getScriptsPublishedScriptId";
/// From this round on the memory is flat.
const WARM: usize = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_agents_and_clients_come_and_go_every_request_is_counted_and_nothing_grows() {
    let minutes = std::env::var("SOAK").ok().map(|minutes| minutes.parse::<usize>().expect("SOAK is minutes"));
    let (rounds, lasts) = minutes.map_or((2, Duration::from_secs(2)), |minutes| (minutes, Duration::from_secs(60)));
    let address = free_address().await;
    // One client is there all the time, as that of a backend is for months.
    let old = client(address).build().unwrap();
    let before = Held::now();
    let mut memory = Vec::new();
    for nth in 1..=rounds {
        let told = Round::begin(address, &old).await.work(lasts).await;
        let rest = before.are_all_there_is().await;
        println!("{nth:>3}: {told}; at rest: {rest}");
        memory.extend(rest.kib);
    }
    is_flat(memory.get(WARM..).unwrap_or_default());
}

async fn free_address() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

fn client(address: SocketAddr) -> genesys_scripts::ClientBuilder {
    let here = format!("http://{address}");
    Client::builder(Region::custom(&here, &here, &here).unwrap())
        .attempt_timeout(Duration::from_secs(2))
        .call_timeout(Duration::from_secs(20))
        // At rest nothing is kept for long.
        .pool_idle_timeout(Duration::from_millis(500))
}

/// What happens in a round.
struct Round {
    simulator: Simulator,
    old: Client,
    old_before: Stats,
    /// Of those who leave in the middle of a call.
    leavers: Client,
    address: SocketAddr,
    scripts: Vec<ScriptId>,
    counts: Counts,
}

/// What was counted, by whom it was.
#[derive(Default)]
struct Counts {
    dropped: AtomicU64,
    /// Agents that were dropped while they logged in.
    logins_ended: AtomicU64,
    clients: AtomicU64,
    /// Of clients that have gone.
    gone: std::sync::Mutex<Vec<Stats>>,
    failed: std::sync::Mutex<BTreeMap<&'static str, u64>>,
}

impl Round {
    async fn begin(address: SocketAddr, old: &Client) -> Arc<Self> {
        // Another service each time, in the same place: it knows no token of the one before.
        let simulator = Simulator::builder().listen(address).seed(fastrand::u64(..)).rate_limit(30);
        let simulator = simulator.latency(Duration::from_millis(5)).start().await.unwrap();
        let scripts = simulator.script_ids().iter().map(|id| id.parse().unwrap()).collect();
        let (old_before, leavers) = (old.stats(), client(address).build().unwrap());
        Arc::new(Self { simulator, old: old.clone(), old_before, leavers, address, scripts, counts: Counts::default() })
    }

    async fn work(self: Arc<Self>, lasts: Duration) -> String {
        let until = Instant::now() + lasts;
        let mut desks = JoinSet::new();
        for _ in 0..DESKS {
            let round = Arc::clone(&self);
            desks.spawn(async move {
                while Instant::now() < until {
                    round.session().await;
                }
            });
        }
        while Instant::now() < until {
            self.weather();
            sleep(Duration::from_millis(fastrand::u64(200..5_000)).min(until - Instant::now())).await;
        }
        self.clear_up();
        desks.join_all().await;
        // After any weather the next ones are served.
        let agent = self.old.agent(credentials());
        for id in &self.scripts {
            assert_eq!(agent.script(id).await.unwrap().id, *id);
        }
        drop(agent);
        self.counts_are_equal().await
    }

    /// Someone logs in, works and leaves.
    async fn session(&self) {
        match fastrand::u8(..10) {
            0 | 1 => self.leave_early(self.leavers.agent(credentials())).await,
            2 => {
                let client = client(self.address).build().unwrap();
                self.serve(client.agent(credentials())).await;
                let left = client.shut_down(Duration::from_secs(60)).await;
                assert!(left.is_complete(), "{left}");
                self.counts.clients.fetch_add(1, Ordering::Relaxed);
                self.counts.gone.lock().unwrap().push(client.stats());
            }
            _ => self.serve(self.old.agent(credentials())).await,
        }
    }

    async fn serve(&self, agent: Agent) {
        for _ in 0..fastrand::u8(1..30) {
            let id = &self.scripts[fastrand::usize(..self.scripts.len())];
            let done = match fastrand::u8(..10) {
                0 => agent.script_pages(id, &ReadScript::default()).await.map(drop),
                1 => agent.scripts(ListScripts::default()).try_collect::<Vec<_>>().await.map(drop),
                2 => agent.publish(id, &PublishScript::default()).await.map(drop),
                3 => agent.published_variables(id, &ReadVariables::default()).await.map(drop),
                4 => agent.check_token().await.map(drop),
                _ => agent.script(id).await.map(|script| assert_eq!(script.id, *id)),
            };
            self.note(done);
            sleep(Duration::from_millis(fastrand::u64(..100))).await;
        }
        if fastrand::bool() {
            self.note(agent.log_out().await);
        }
    }

    /// Each call is dropped, wherever it is by then.
    async fn leave_early(&self, agent: Agent) {
        self.note(agent.log_in().await);
        for _ in 0..fastrand::u8(1..30) {
            let id = &self.scripts[fastrand::usize(..self.scripts.len())];
            let query = ReadScript::default();
            match timeout(Duration::from_millis(fastrand::u64(..30)), agent.published_script(id, &query)).await {
                Ok(done) => self.note(done.map(drop)),
                Err(_) => drop(self.counts.dropped.fetch_add(1, Ordering::Relaxed)),
            }
        }
        // A login that is under way ends with its agent, and its request may not have left yet.
        if timeout(Duration::ZERO, agent.log_in()).await.is_err() {
            self.counts.logins_ended.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A call may fail of the weather, and of nothing else.
    fn note(&self, done: Result<(), Error>) {
        use ErrorKind::{
            BadRequest, Connection, Server, Throttled, Timeout, Unauthorized, Unavailable, UnexpectedAnswer,
        };
        let Err(error) = done else { return };
        let by_weather =
            [BadRequest, Connection, Server, Throttled, Timeout, Unauthorized, Unavailable, UnexpectedAnswer];
        assert!(by_weather.contains(&error.kind()), "{error}");
        *self.counts.failed.lock().unwrap().entry(error.kind().name()).or_default() += 1;
    }

    /// Something else goes wrong from now on, or nothing.
    fn weather(&self) {
        self.clear_up();
        match fastrand::u8(..8) {
            0 => self.simulator.set_down(true),
            1 => self.simulator.set_knee(Some((5, 0.5))),
            2 => self.simulator.expire_tokens(),
            3 => {}
            _ => {
                let share = || if fastrand::u8(..3) == 0 { fastrand::f64() / 12.0 } else { 0.0 };
                for fault in FAULTS {
                    self.simulator.set_fault(fault, share());
                    // A login that is refused with 401 is wrong, whatever the weather.
                    if fault != Fault::Unauthorized {
                        self.simulator.set_login_fault(fault, share());
                    }
                }
            }
        }
    }

    fn clear_up(&self) {
        self.simulator.set_down(false);
        self.simulator.set_knee(None);
        for fault in FAULTS {
            self.simulator.set_fault(fault, 0.0);
            self.simulator.set_login_fault(fault, 0.0);
        }
    }

    async fn counts_are_equal(&self) -> String {
        let left = self.leavers.shut_down(Duration::from_secs(60)).await;
        assert!(left.is_complete(), "{left}");
        let (ours, leavers) = (self.stayers(), self.leavers.stats());
        let dropped = self.counts.dropped.load(Ordering::Relaxed);
        // A request whose client left is counted there when it is noticed.
        let settled = timeout(Duration::from_secs(10), async {
            while self.difference(&ours, &leavers, dropped).is_some() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        if settled.await.is_err() {
            let theirs = self.simulator.stats();
            let difference = self.difference(&ours, &leavers, dropped);
            panic!("{difference:?}\n{ours:?}\n{leavers:?}\ndropped: {dropped}\n{theirs:?}");
        }
        let calls = self.old.stats().api;
        assert_eq!((calls.in_flight, calls.waiting), (0, 0));
        format!(
            "{} calls, {} attempts, {} logins, {} clients, {dropped} calls dropped, failed {:?}",
            ours.calls + leavers.calls,
            ours.attempts + leavers.attempts,
            ours.login_attempts + leavers.login_attempts,
            self.counts.clients.load(Ordering::Relaxed) + 2,
            self.counts.failed.lock().unwrap(),
        )
    }

    /// What all but the leavers counted in this round.
    fn stayers(&self) -> Sums {
        let mut sums = Sums::default();
        let (now, before) = (self.old.stats(), &self.old_before);
        sums.add(&now, before);
        for gone in self.counts.gone.lock().unwrap().iter() {
            sums.add(gone, &Stats::default());
        }
        assert_eq!(sums.calls, sums.ended, "each call that began has ended");
        sums
    }

    /// What is not as it was counted here.
    fn difference(&self, ours: &Sums, leavers: &Stats, dropped: u64) -> Option<&'static str> {
        let theirs = self.simulator.stats();
        let arrived: u64 = theirs.operations.values().sum();
        let of_leavers = theirs.operations.get(OF_LEAVERS).copied().unwrap_or_default();
        let logins: u64 = theirs.logins.values().sum();
        let throttled = ours.throttled + leavers.throttled + leavers.login_throttled;
        if arrived - of_leavers != ours.attempts {
            return Some("attempts");
        }
        let at_most = ours.login_attempts + leavers.login_attempts;
        let ended = self.counts.logins_ended.load(Ordering::Relaxed);
        if !(at_most.saturating_sub(ended)..=at_most).contains(&logins) {
            return Some("logins");
        }
        if !(throttled..=throttled + dropped).contains(&theirs.throttled) {
            return Some("429s");
        }
        let at_most = leavers.attempts;
        if !(at_most.saturating_sub(dropped)..=at_most).contains(&of_leavers) {
            return Some("attempts of who left");
        }
        None
    }
}

#[derive(Debug, Default)]
struct Sums {
    calls: u64,
    ended: u64,
    attempts: u64,
    throttled: u64,
    login_attempts: u64,
}

impl Sums {
    fn add(&mut self, now: &Stats, before: &Stats) {
        let ended = |stats: &Stats| stats.succeeded + stats.failed.values().sum::<u64>();
        let throttled = |stats: &Stats| stats.throttled + stats.login_throttled;
        self.calls += now.calls - before.calls;
        self.ended += ended(now) - ended(before);
        self.attempts += now.attempts - before.attempts;
        self.throttled += throttled(now) - throttled(before);
        self.login_attempts += now.login_attempts - before.login_attempts;
    }
}

fn credentials() -> Credentials {
    Credentials::client("a contact centre", "simulator")
}

/// All but `slow`, which takes five seconds: longer than an attempt may, so it is as `stall`.
const FAULTS: [Fault; 12] = [
    Fault::InternalServerError,
    Fault::BadGatewayHtml,
    Fault::ServiceUnavailable,
    Fault::GatewayTimeout,
    Fault::Reset,
    Fault::Stall,
    Fault::Truncate,
    Fault::NotJson,
    Fault::Empty,
    Fault::Unauthorized,
    Fault::RequestTimeout,
    Fault::TooManyRequests,
];

/// What this process holds.
#[derive(Clone, Copy)]
struct Held {
    tasks: usize,
    /// Where the system tells.
    files: Option<usize>,
    kib: Option<u64>,
}

impl Held {
    fn now() -> Self {
        let files = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        Self { tasks: Handle::current().metrics().num_alive_tasks(), files, kib }
    }

    /// Waits until no more is held than there was before.
    async fn are_all_there_is(&self) -> Self {
        let at_rest = async {
            loop {
                let now = Self::now();
                if now.tasks <= self.tasks && now.files <= self.files {
                    return now;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let rest = timeout(Duration::from_secs(20), at_rest).await;
        rest.unwrap_or_else(|_| panic!("before: {self}, and it stays: {}", Self::now()))
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tasks, files, kib } = self;
        write!(f, "{tasks} tasks, {} open files, {} KiB", files.unwrap_or_default(), kib.unwrap_or_default())
    }
}

/// The later half of the rounds holds no more than the earlier, but for what an allocator may make of it.
fn is_flat(kib: &[u64]) {
    let (earlier, later) = kib.split_at(kib.len() / 2);
    if let (Some(earlier), Some(later)) = (earlier.iter().max(), later.iter().max()) {
        println!("resident from minute {WARM} on: {earlier} KiB at most, later {later} KiB");
        assert!(*later <= earlier + earlier / 20, "the memory grows: {kib:?}");
    }
}
