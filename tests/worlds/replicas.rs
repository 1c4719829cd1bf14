//! What a store that replicas share sessions by costs, and what a split network does: many replicas and agents before the simulator, on
//! a paused clock, with a store that answers after a millisecond.
//!
//! `WORLDS_REPLICAS=100,100000 cargo test --release --test worlds replicas -- --nocapture` prints the table that README's arithmetic
//! stands beside.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use genesys_scripts::simulator::Simulator;
use genesys_scripts::{
    Agent, Client, Credentials, ErrorKind, Lease, MemoryStore, OAuthClient, Region, ScriptId, SessionKey, SessionStore,
    SharedSessions, StoredSession,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const MINUTE: Duration = Duration::from_secs(60);
/// A token is good for so long, and the trial lasts twice that.
const TOKEN: Duration = Duration::from_secs(3600);
/// From then on, for so long, the network is split: all tokens expire meanwhile.
const SPLIT_AT: Duration = Duration::from_secs(55 * 60);
const SPLIT: Duration = Duration::from_secs(15 * 60);

/// What happens.
#[derive(Clone, Copy, PartialEq)]
enum Trial {
    Nothing,
    /// No replica reaches the store.
    StoreAway,
    /// Half of them do not.
    Split,
    /// That, while agents go to another replica each five minutes.
    SplitAndMoving,
}

/// What all replicas asked of the store.
#[derive(Default)]
struct Counts {
    operations: BTreeMap<&'static str, u64>,
    in_second: BTreeMap<u64, u64>,
    bytes: u64,
}

/// The way of one replica to the store.
#[derive(Clone)]
struct Way {
    store: MemoryStore,
    counts: Arc<Mutex<Counts>>,
    cut: Arc<AtomicBool>,
    began: Instant,
}

impl Way {
    async fn go(&self, what: &'static str, bytes: usize) -> Result<(), BoxError> {
        if self.cut.load(Ordering::SeqCst) {
            sleep(MINUTE).await;
            return Err("the network is split".into());
        }
        {
            let mut counts = self.counts.lock().unwrap();
            *counts.operations.entry(what).or_default() += 1;
            *counts.in_second.entry(self.began.elapsed().as_secs()).or_default() += 1;
            counts.bytes += bytes as u64;
        }
        sleep(Duration::from_millis(1)).await;
        Ok(())
    }
}

#[async_trait]
impl SessionStore for Way {
    async fn load(&self, key: &SessionKey) -> Result<Option<StoredSession>, BoxError> {
        self.go("load", 0).await?;
        self.store.load(key).await
    }

    async fn store(&self, key: &SessionKey, session: StoredSession) -> Result<bool, BoxError> {
        self.go("store", session.sealed.len()).await?;
        self.store.store(key, session).await
    }

    async fn lease(&self, key: &SessionKey, newer_than: u64, owner: u64, length: Duration) -> Result<Lease, BoxError> {
        self.go(if length.is_zero() { "check" } else { "lease" }, 0).await?;
        self.store.lease(key, newer_than, owner, length).await
    }

    async fn extend(&self, key: &SessionKey, fence: u64, length: Duration) -> Result<(), BoxError> {
        self.go("extend", 0).await?;
        self.store.extend(key, fence, length).await
    }
}

/// What became of it.
#[derive(Default)]
struct Ended {
    calls: u64,
    failed: BTreeMap<ErrorKind, u64>,
    slowest: Duration,
    issued: u64,
    refused: u64,
    counts: Counts,
}

async fn run(trial: Trial, replicas: usize, agents: usize) -> Ended {
    let simulator = Arc::new(Simulator::builder().rate_limit(0).token_ttl(TOKEN).in_process().unwrap());
    let (store, counts, began) = (MemoryStore::default(), Arc::<Mutex<Counts>>::default(), Instant::now());
    let cuts: Vec<_> = (0..replicas).map(|_| Arc::<AtomicBool>::default()).collect();
    let clients: Vec<_> = cuts
        .iter()
        .map(|cut| {
            let way = Way { store: store.clone(), counts: Arc::clone(&counts), cut: Arc::clone(cut), began };
            let here = Region::custom(simulator.url(), simulator.url(), simulator.url()).unwrap();
            let client = Client::builder(here).with_middleware(simulator.transport());
            client.share_sessions(SharedSessions::new(way)).build().unwrap()
        })
        .collect();
    tokio::spawn(async move {
        let cut = match trial {
            Trial::Nothing => 0,
            Trial::StoreAway => replicas,
            Trial::Split | Trial::SplitAndMoving => replicas / 2,
        };
        for (at, is_cut) in [(SPLIT_AT, true), (SPLIT_AT + SPLIT, false)] {
            sleep_until(began + at).await;
            cuts[..cut].iter().for_each(|each| each.store(is_cut, Ordering::SeqCst));
        }
    });
    let script: ScriptId = simulator.script_ids()[0].parse().unwrap();
    let clients: Arc<[Client]> = clients.into();
    let mut working = JoinSet::new();
    for n in 0..agents {
        working.spawn(work(trial, n, Arc::clone(&clients), Arc::clone(&simulator), script.clone()));
    }
    let mut ended = Ended::default();
    for (calls, failed, slowest) in working.join_all().await {
        ended.calls += calls;
        failed.into_iter().for_each(|(kind, count)| *ended.failed.entry(kind).or_default() += count);
        ended.slowest = ended.slowest.max(slowest);
    }
    let stats = simulator.stats();
    ended.issued = stats.tokens_issued;
    ended.refused = stats.logins.iter().filter(|(status, _)| *status != "200").map(|(_, count)| count).sum();
    ended.counts = std::mem::take(&mut counts.lock().unwrap());
    ended
}

/// An agent's two hours: logged in within the first five minutes, a call each five, at another replica from half past each hour.
async fn work(
    trial: Trial,
    n: usize,
    clients: Arc<[Client]>,
    simulator: Arc<Simulator>,
    script: ScriptId,
) -> (u64, BTreeMap<ErrorKind, u64>, Duration) {
    let oauth = || OAuthClient::new("desktop", "simulator");
    let (identity, jitter) = (format!("agent {n}"), MINUTE.mul_f64(5.0 * fastrand::f64()));
    let begun = Instant::now() + jitter;
    let at = |moves: usize| &clients[(n + moves * 7) % clients.len()];
    sleep_until(begun).await;
    let code = Credentials::AuthorizationCode {
        client: oauth(),
        code: simulator.authorization_code("desktop", "https://desk.example/back", None).into(),
        redirect_uri: "https://desk.example/back".into(),
        verifier: None,
    };
    let mut agent: Agent = at(0).agent(code).shared_as(&identity);
    let (mut calls, mut failed, mut slowest) = (0, BTreeMap::new(), Duration::ZERO);
    for round in 0..24 {
        sleep_until(begun + 5 * MINUTE * round).await;
        let moves = if trial == Trial::SplitAndMoving { round } else { (round + 6) / 12 } as usize;
        if round > 0 && (trial == Trial::SplitAndMoving || round % 12 == 6) {
            agent = at(moves).agent(Credentials::Stored(oauth())).shared_as(&identity);
        }
        let called = Instant::now();
        calls += 1;
        if let Err(error) = agent.script(&script).await {
            *failed.entry(error.kind()).or_default() += 1;
        }
        slowest = slowest.max(called.elapsed());
    }
    (calls, failed, slowest)
}

#[test]
fn replicas_that_share_sessions_and_what_their_store_is_asked() {
    let size = std::env::var("WORLDS_REPLICAS").ok();
    let size = size.as_deref().map(|size| size.split_once(',').expect("WORLDS_REPLICAS is replicas,agents"));
    let (replicas, agents) =
        size.map_or((6, 120), |(replicas, agents)| (replicas.parse().unwrap(), agents.parse().unwrap()));
    println!(
        "{replicas} replicas, {agents} agents, two hours, tokens of one, which expire while the network is split for 15 min"
    );
    println!(
        "trial                      calls  not served  slowest   tokens  refused  leases  stores  checks/s  most/s  bytes each"
    );
    for (name, trial) in [
        ("nothing happens", Trial::Nothing),
        ("the store is away", Trial::StoreAway),
        ("half are cut off", Trial::Split),
        ("... and agents move", Trial::SplitAndMoving),
    ] {
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let Ended { calls, failed, slowest, issued, refused, counts } = clock.block_on(run(trial, replicas, agents));
        let of = |what| counts.operations.get(what).copied().unwrap_or_default();
        let not_served: u64 = failed.values().sum();
        let most = counts.in_second.values().max().copied().unwrap_or_default();
        let checks = of("check") as f64 / (2.0 * TOKEN.as_secs_f64());
        println!(
            "{name:22} {calls:9} {not_served:11} {slowest:8.1?} {issued:8} {refused:8} {:7} {:7} {checks:9.0} {most:7} {:11}",
            of("lease"),
            of("store"),
            counts.bytes / of("store").max(1),
        );
        let agents = agents as u64;
        match trial {
            Trial::SplitAndMoving => {
                // Who comes to a replica that is cut off is told to come again, and who comes from one to log in.
                let told = [ErrorKind::Unavailable, ErrorKind::LoginRefused];
                assert!(failed.keys().all(|kind| told.contains(kind)), "{failed:?}");
            }
            _ => {
                assert_eq!((not_served, refused), (0, 0), "{name}: {failed:?}");
                // One login each, and a refresh within the first hour and the second.
                assert!((2 * agents..=3 * agents).contains(&issued), "{name}: {issued}");
            }
        }
        assert!(slowest < Duration::from_secs(8), "{name}: {slowest:?}");
    }
}
