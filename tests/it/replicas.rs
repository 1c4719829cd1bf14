//! Replicas of a service that share their agents' sessions: one login for all, whatever becomes of the store or of one of them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use genesys_scripts::simulator::Simulator;
use genesys_scripts::{
    Agent, Client, ClientBuilder, Credentials, ErrorKind, ExposeSecret, Lease, MemoryStore, OAuthClient, Region,
    ScriptId, Session, SessionKey, SessionStore, SharedSessions, StoredSession,
};
use tokio::time::{Instant, advance, sleep};

use crate::common::herd::virtually;
use crate::common::{Scripted, id, reply, script};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How a store is away.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    Fails,
    Hangs,
    Panics,
    /// It answers, after two seconds each time.
    Slow,
    /// It does what it is asked, and says so to all but the next.
    LosesOneAnswer,
    /// It fails, but not when it is asked whether it is there.
    FailsWhenNeeded,
    HangsWhenNeeded,
}

const WAYS: [Broken; 4] = [Broken::Fails, Broken::Hangs, Broken::Panics, Broken::Slow];

/// A store in memory, and what can happen on the way to it. Clones are the way of one replica.
#[derive(Clone, Default)]
struct Way {
    store: MemoryStore,
    broken: Arc<Mutex<Option<Broken>>>,
    /// What it was asked, checks apart, and for which key.
    asked: Arc<Mutex<Vec<(&'static str, SessionKey)>>>,
    /// Its replica dies with the step of this number: before it is done, or after.
    dies: Option<(usize, bool)>,
    dead: Arc<tokio::sync::Notify>,
}

impl Way {
    /// Another replica's way to the same store.
    fn to(&self) -> Self {
        Self { store: self.store.clone(), ..Self::default() }
    }

    fn set(&self, broken: Option<Broken>) {
        *self.broken.lock().unwrap() = broken;
    }

    fn asked(&self) -> Vec<&'static str> {
        self.asked.lock().unwrap().iter().map(|(what, _)| *what).collect()
    }

    /// The last key it was asked for.
    fn key(&self) -> SessionKey {
        self.asked.lock().unwrap().last().unwrap().1.clone()
    }

    async fn go<T>(&self, what: &'static str, key: &SessionKey, work: impl Future<Output = T>) -> Result<T, BoxError> {
        let step = {
            let mut asked = self.asked.lock().unwrap();
            asked.push((what, key.clone()));
            asked.len()
        };
        let broken = *self.broken.lock().unwrap();
        match broken {
            Some(Broken::Fails | Broken::FailsWhenNeeded) => return Err("the store fails".into()),
            Some(Broken::Hangs | Broken::HangsWhenNeeded) => std::future::pending().await,
            Some(Broken::Panics) => panic!("the store's"),
            Some(Broken::Slow) => sleep(Duration::from_secs(2)).await,
            Some(Broken::LosesOneAnswer) => {
                self.set(None);
                work.await;
                return std::future::pending().await;
            }
            None => sleep(Duration::from_millis(1)).await,
        }
        let dies = self.dies.filter(|(last, _)| step >= *last);
        if let Some((last, after)) = dies {
            if after && step == last {
                work.await;
            }
            self.dead.notify_one();
            std::future::pending::<()>().await;
            unreachable!();
        }
        Ok(work.await)
    }
}

#[async_trait]
impl SessionStore for Way {
    async fn load(&self, key: &SessionKey) -> Result<Option<StoredSession>, BoxError> {
        self.go("load", key, self.store.load(key)).await?
    }

    async fn store(&self, key: &SessionKey, session: StoredSession) -> Result<bool, BoxError> {
        self.go("store", key, self.store.store(key, session)).await?
    }

    async fn lease(&self, key: &SessionKey, newer_than: u64, owner: u64, length: Duration) -> Result<Lease, BoxError> {
        if length.is_zero() {
            let broken = *self.broken.lock().unwrap();
            return match broken {
                None | Some(Broken::FailsWhenNeeded | Broken::HangsWhenNeeded) => Ok(Lease::Granted { fence: 1 }),
                Some(_) => Err("the store fails".into()),
            };
        }
        self.go("lease", key, self.store.lease(key, newer_than, owner, length)).await?
    }

    async fn extend(&self, key: &SessionKey, fence: u64, length: Duration) -> Result<(), BoxError> {
        self.go("extend", key, self.store.extend(key, fence, length)).await?
    }
}

fn oauth() -> OAuthClient {
    OAuthClient::new("desktop", "simulator")
}

fn builder(simulator: &Simulator) -> ClientBuilder {
    let here = Region::custom(simulator.url(), simulator.url(), simulator.url()).unwrap();
    Client::builder(here).with_middleware(simulator.transport()).wall_clock(wall_clock)
}

/// One for all replicas, that stands still and leaps as tokio's does.
fn wall_clock() -> SystemTime {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let (now, began) = (Instant::now(), *BEGAN.get_or_init(Instant::now));
    SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000) + now.saturating_duration_since(began)
        - began.saturating_duration_since(now)
}

/// A replica of the service.
fn replica(simulator: &Simulator, store: impl SessionStore) -> Client {
    builder(simulator).share_sessions(SharedSessions::new(store)).build().unwrap()
}

/// Somebody who has just logged in.
fn code(simulator: &Simulator) -> Credentials {
    Credentials::AuthorizationCode {
        client: oauth(),
        code: simulator.authorization_code("desktop", "https://desk.example/back", None).into(),
        redirect_uri: "https://desk.example/back".into(),
        verifier: None,
    }
}

fn stored() -> Credentials {
    Credentials::Stored(oauth())
}

fn simulator() -> Simulator {
    Simulator::builder().rate_limit(0).in_process().unwrap()
}

fn script_of(simulator: &Simulator) -> ScriptId {
    simulator.script_ids()[0].parse().unwrap()
}

/// What was not served, of all logins.
fn refused_logins(simulator: &Simulator) -> u64 {
    simulator.stats().logins.iter().filter(|(status, _)| *status != "200").map(|(_, count)| count).sum()
}

/// A token that is refused within a minute after it replaced a refused one is not replaced, whoever shares it.
async fn later() {
    sleep(Duration::from_secs(61)).await;
}

async fn serve_all(agents: impl IntoIterator<Item = &Agent>, script: &ScriptId) {
    for call in join_all(agents.into_iter().map(|agent| agent.script(script))).await {
        call.unwrap();
    }
}

/// Keys are the crate's to make.
pub(crate) async fn key_of(identity: &str) -> SessionKey {
    let (simulator, way) = (simulator(), Way::default());
    replica(&simulator, way.clone()).agent(stored()).shared_as(identity).log_in().await.unwrap_err();
    way.key()
}

/// What each store must do.
pub(crate) async fn keeps_its_contract(store: impl SessionStore) {
    let (key, other) = (key_of("anna").await, key_of("otto").await);
    assert!(key != other && key.as_str().len() == 43 && !key.as_str().contains("anna"), "{key}");
    let long = Duration::from_secs(60);
    // Each of another.
    let owner = AtomicUsize::new(1);
    let owner = || owner.fetch_add(1, Ordering::SeqCst) as u64;
    let lease = async |known| store.lease(&key, known, owner(), long).await.unwrap();
    let granted = async |known| match lease(known).await {
        Lease::Granted { fence } => fence,
        other => panic!("{other:?}"),
    };
    let session = |version, text: &str| StoredSession::new(version, text.into());
    assert_eq!(store.load(&key).await.unwrap(), None);

    // One holds it, until something is stored; then whoever knows less is told.
    let first = granted(0).await;
    match lease(0).await {
        Lease::Taken { left } => assert!(left <= long && left > long / 2, "{left:?}"),
        other => panic!("{other:?}"),
    }
    let of_another = store.lease(&other, 0, 1, long).await.unwrap();
    assert!(matches!(of_another, Lease::Granted { .. }), "{of_another:?}");
    assert_eq!(store.load(&key).await.unwrap(), None, "a lease is no session");
    assert!(store.store(&key, session(first, "1")).await.unwrap());
    assert_eq!(lease(0).await, Lease::Newer(session(first, "1")));
    assert_eq!(store.load(&key).await.unwrap(), Some(session(first, "1")));

    // Who comes late with an older fence overwrites nothing, and does not end the lease of another.
    let late = granted(first).await;
    store.extend(&key, late, Duration::ZERO).await.unwrap();
    let second = granted(first).await;
    assert!(second > late && late > first, "{first} {late} {second}");
    assert!(store.store(&key, session(late, "late, and all there is")).await.unwrap());
    assert!(matches!(lease(late).await, Lease::Taken { .. }));
    assert!(store.store(&key, session(second, "2")).await.unwrap());
    assert!(!store.store(&key, session(late, "late")).await.unwrap());
    assert_eq!(store.load(&key).await.unwrap(), Some(session(second, "2")));
    // Its own may be told twice: an answer is lost now and then.
    assert!(store.store(&key, session(second, "2")).await.unwrap());

    leases_are_their_owners(&store, &key, second).await;
}

/// The rest of it, where the second of two sessions is stored.
async fn leases_are_their_owners(store: &impl SessionStore, key: &SessionKey, second: u64) {
    let (long, owner) = (Duration::from_secs(60), AtomicUsize::new(100));
    let lease = async |known| {
        let owner = owner.fetch_add(1, Ordering::SeqCst) as u64;
        store.lease(key, known, owner, long).await.unwrap()
    };
    let granted = async |known| match lease(known).await {
        Lease::Granted { fence } => fence,
        other => panic!("{other:?}"),
    };
    // A lease is extended and ended by who holds it, and by nobody else.
    let third = granted(second).await;
    store.extend(key, second, Duration::ZERO).await.unwrap();
    assert!(matches!(lease(second).await, Lease::Taken { .. }));
    store.extend(key, third, 2 * long).await.unwrap();
    assert!(matches!(lease(second).await, Lease::Taken { left } if left > long));
    store.extend(key, third, Duration::ZERO).await.unwrap();
    // What a store has forgotten is no reason to begin anew.
    let fourth = granted(third + 1_000_000_000_000_000).await;
    assert!(fourth > third + 1_000_000_000_000_000);
    // Any bytes, and as many as there are.
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n * 7 % 256) as u8).collect();
    assert!(store.store(key, StoredSession::new(fourth, bytes.clone())).await.unwrap());
    assert_eq!(store.load(key).await.unwrap(), Some(StoredSession::new(fourth, bytes)));
    // An answer that was lost is no reason to wait for oneself; and what it granted is older than what is granted then.
    let mut granted_to = Vec::new();
    for _ in 0..3 {
        match store.lease(key, fourth, 7, long).await.unwrap() {
            Lease::Granted { fence } => granted_to.push(fence),
            other => panic!("{other:?}"),
        }
    }
    assert!(granted_to.is_sorted_by(|one, next| one < next), "{granted_to:?}");
    assert!(matches!(lease(fourth).await, Lease::Taken { .. }));
    store.extend(key, granted_to[2], Duration::ZERO).await.unwrap();
    // Of no length it is over at once.
    let fifth = store.lease(key, fourth, 9, Duration::ZERO).await.unwrap();
    assert!(matches!(fifth, Lease::Granted { .. }));
    granted(fourth).await;
}

#[tokio::test(start_paused = true)]
async fn the_memory_store_keeps_its_contract() {
    keeps_its_contract(MemoryStore::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_over_when_its_time_is() {
    let store = MemoryStore::default();
    let way = Way { store: store.clone(), ..Way::default() };
    replica(&simulator(), way.clone()).agent(stored()).shared_as("anna").log_in().await.unwrap_err();
    let owner = AtomicUsize::new(1);
    let lease = async || {
        let owner = owner.fetch_add(1, Ordering::SeqCst) as u64;
        store.lease(&way.key(), 0, owner, Duration::from_secs(10)).await.unwrap()
    };
    assert!(matches!(lease().await, Lease::Granted { .. }));
    advance(Duration::from_millis(9_990)).await;
    assert!(matches!(lease().await, Lease::Taken { .. }));
    advance(Duration::from_millis(20)).await;
    assert!(matches!(lease().await, Lease::Granted { .. }));
}

#[tokio::test(start_paused = true)]
async fn of_all_replicas_one_logs_in() {
    type Credential = fn(&Simulator, usize) -> Credentials;
    let kinds: [(&str, Credential); 3] = [
        ("client credentials", |_, _| Credentials::client("desktop", "simulator")),
        ("one code, and what it brought", |simulator, n| if n == 0 { code(simulator) } else { stored() }),
        ("a source", |_, _| Credentials::source(|| async { Err("the vault is for the first alone".into()) })),
    ];
    for (kind, credentials) in kinds {
        let (simulator, store) = (simulator(), MemoryStore::default());
        let script = script_of(&simulator);
        let clients: Vec<_> = (0..3).map(|_| replica(&simulator, store.clone())).collect();
        let agents: Vec<_> = (0..3).map(|n| clients[n].agent(credentials(&simulator, n)).shared_as("anna")).collect();
        if kind == "a source" {
            let token = AtomicUsize::new(0);
            let source = Credentials::source(move || {
                let n = token.fetch_add(1, Ordering::SeqCst);
                async move { if n == 0 { Ok(Session::from_access_token("from-the-vault")) } else { Err("once".into()) } }
            });
            clients[0].agent(source).shared_as("anna").log_in().await.unwrap();
            for agent in &agents {
                agent.log_in().await.unwrap();
                assert_eq!(agent.session().unwrap().access_token.unwrap().expose_secret(), "from-the-vault");
            }
            continue;
        }
        if kind == "one code, and what it brought" {
            agents[0].log_in().await.unwrap();
        }
        let calls = agents.iter().flat_map(|agent| std::iter::repeat_n(agent, 10));
        serve_all(calls, &script).await;
        assert_eq!((simulator.stats().tokens_issued, refused_logins(&simulator)), (1, 0), "{kind}");
        // Another identity has another session.
        if kind == "client credentials" {
            serve_all([&clients[1].agent(credentials(&simulator, 1)).shared_as("otto")], &script).await;
            assert_eq!(simulator.stats().tokens_issued, 2);
        }
    }
}

/// Each of these agents in each of these replicas: the first of them has logged in.
async fn desks(simulator: &Simulator, clients: &[Client], agents: usize) -> Vec<Vec<Agent>> {
    let first = clients[0].clone();
    join_all((0..agents).map(|n| {
        let identity = format!("browser {n}");
        let new = first.agent(code(simulator)).shared_as(&identity);
        async move {
            new.log_in().await.unwrap();
            let others = clients[1..].iter().map(|client| client.agent(stored()).shared_as(&identity));
            std::iter::once(new).chain(others).collect()
        }
    }))
    .await
}

#[tokio::test(start_paused = true)]
async fn each_expiry_costs_one_refresh_among_all_replicas() {
    const AGENTS: usize = 20;
    let (simulator, store) = (simulator(), MemoryStore::default());
    let script = script_of(&simulator);
    let clients: Vec<_> = (0..3).map(|_| replica(&simulator, store.clone())).collect();
    let desks = desks(&simulator, &clients, AGENTS).await;
    for round in 0..8_u64 {
        // All replicas at once; or each round another one, which finds an older token than that of the last.
        let calls = desks.iter().flat_map(|desk| match round % 2 {
            0 => desk.iter().collect::<Vec<_>>(),
            _ => vec![&desk[round as usize % 3]],
        });
        serve_all(calls, &script).await;
        assert_eq!(simulator.stats().tokens_issued, AGENTS as u64 * (1 + round), "round {round}");
        later().await;
        simulator.expire_tokens();
    }
    assert_eq!(refused_logins(&simulator), 0, "no refresh token was spent twice");
}

#[tokio::test(start_paused = true)]
async fn a_token_about_to_expire_is_replaced_by_one_replica() {
    let (simulator, store) =
        (Simulator::builder().token_ttl(Duration::from_secs(3600)).in_process().unwrap(), MemoryStore::default());
    let script = script_of(&simulator);
    let clients: Vec<_> = (0..5).map(|_| replica(&simulator, store.clone())).collect();
    let desks = desks(&simulator, &clients, 1).await;
    // Two calls a minute, for three hours.
    for _ in 0..360 {
        serve_all(&desks[0], &script).await;
        sleep(Duration::from_secs(30)).await;
    }
    assert_eq!((simulator.stats().tokens_issued, refused_logins(&simulator)), (4, 0));
    assert_eq!(
        simulator.stats().script_requests.keys().collect::<Vec<_>>(),
        ["200"],
        "none was expired when it was sent"
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_is_stored_before_its_token_is_used() {
    // By its first login, and by each refresh: the store has it when the first call with it arrives.
    let store = MemoryStore::default();
    let way = Way { store: store.clone(), ..Way::default() };
    let logins = AtomicUsize::new(0);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (stored, keys) = (store.clone(), way.clone());
    let told = Arc::clone(&seen);
    let transport = Scripted::by(move |seen| match seen.is_login() {
        true => {
            let n = logins.fetch_add(1, Ordering::SeqCst) + 1;
            reply(200, format!(r#"{{"access_token":"access-{n}","refresh_token":"refresh-{n}","expires_in":600}}"#))
        }
        false => {
            let now = stored.load(&keys.key()).now_or_never().unwrap().unwrap();
            let sent = seen.header("authorization").replace("Bearer ", "");
            let session: Session = serde_json::from_slice(&now.unwrap().sealed).unwrap();
            told.lock().unwrap().push((sent, session.access_token.unwrap().expose_secret().to_owned()));
            script()
        }
    });
    let client = transport.builder().share_sessions(SharedSessions::new(way)).build().unwrap();
    let agent = client.agent(Credentials::refresh_token(oauth(), "refresh-0")).shared_as("anna");
    for _ in 0..3 {
        agent.script(&id()).await.unwrap();
        advance(Duration::from_secs(601)).await;
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|(sent, stored)| sent == stored), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_all_calls_are_served_and_health_says_so() {
    for way in WAYS {
        let simulator = simulator();
        let script = script_of(&simulator);
        let ways: Vec<_> = {
            let first = Way::default();
            (0..3).map(|_| first.to()).collect()
        };
        let clients: Vec<_> = ways.iter().map(|way| replica(&simulator, way.clone())).collect();
        let desks = desks(&simulator, &clients, 10).await;
        serve_all(desks.iter().flatten(), &script).await;
        assert!(clients.iter().all(|client| client.health().session_store.unwrap().is_there));
        ways.iter().for_each(|each| each.set(Some(way)));
        // It is noticed although nobody logs in.
        sleep(Duration::from_secs(5)).await;
        for client in &clients {
            let health = client.health();
            let store = health.session_store.clone().unwrap();
            assert!(
                health.is_ready && !store.is_there && store.away_for.unwrap() > Duration::from_secs(2),
                "{health:?}"
            );
            assert!(store.last.unwrap().contains("store"), "{health:?}");
            assert!(
                serde_json::to_string(&health).unwrap().contains(r#""session_store":{"is_there":false,"away_for_s":"#)
            );
        }
        // Half an hour of it, and each agent's token is refused once, at the replica that serves it.
        simulator.expire_tokens();
        for _ in 0..6 {
            let began = Instant::now();
            serve_all(desks.iter().enumerate().map(|(n, desk)| &desk[n % 3]), &script).await;
            assert!(began.elapsed() < Duration::from_secs(1), "{way:?}: {:?}", began.elapsed());
            sleep(Duration::from_secs(300)).await;
        }
        assert_eq!((simulator.stats().tokens_issued, refused_logins(&simulator)), (20, 0), "{way:?}");
        let unstored: usize = clients.iter().map(|client| client.health().sessions_unstored).sum();
        assert_eq!(unstored, 10, "{way:?}");
        // Within five seconds of its return each replica has what the others got.
        ways.iter().for_each(|each| each.set(None));
        sleep(Duration::from_secs(5)).await;
        for client in &clients {
            let health = client.health();
            assert!(health.session_store.clone().unwrap().is_there && health.sessions_unstored == 0, "{health:?}");
        }
        serve_all(desks.iter().flatten(), &script).await;
        assert_eq!((simulator.stats().tokens_issued, refused_logins(&simulator)), (20, 0), "{way:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_away_under_a_login_costs_a_second_at_most() {
    for way in WAYS {
        let (simulator, ours) = (simulator(), Way::default());
        let client = replica(&simulator, ours.clone());
        let agents: Vec<_> = (0..20).map(|n| client.agent(code(&simulator)).shared_as(&n.to_string())).collect();
        ours.set(Some(way));
        let began = Instant::now();
        serve_all(&agents, &script_of(&simulator)).await;
        assert!(began.elapsed() < Duration::from_millis(1_200), "{way:?}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_away_under_an_early_refresh_costs_no_refresh_before_the_token_expires() {
    for how in [Broken::Fails, Broken::Hangs] {
        let simulator = Simulator::builder().token_ttl(Duration::from_secs(3600)).rate_limit(0).in_process().unwrap();
        let (script, way) = (script_of(&simulator), Way::default());
        let client = replica(&simulator, way.clone());
        let agent = client.agent(code(&simulator)).shared_as("anna");
        agent.script(&script).await.unwrap();
        sleep(Duration::from_secs(3600 - 60)).await;
        // It is asked for the lease before anybody has noticed.
        way.set(Some(how));
        for _ in 0..4 {
            agent.script(&script).await.unwrap();
            sleep(Duration::from_secs(10)).await;
        }
        assert_eq!(simulator.stats().tokens_issued, 1, "{how:?}");
        sleep(Duration::from_secs(30)).await;
        agent.script(&script).await.unwrap();
        assert_eq!((simulator.stats().tokens_issued, refused_logins(&simulator)), (2, 0), "{how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_a_good_token_is_not_replaced() {
    // 150 s of an outage at least are ridden out without a refresh by one replica alone.
    let simulator = Simulator::builder().token_ttl(Duration::from_secs(3600)).rate_limit(0).in_process().unwrap();
    let script = script_of(&simulator);
    let ways = [Way::default(), Way::default()];
    let ways = [ways[0].clone(), ways[0].to()];
    let clients: Vec<_> = ways.iter().map(|way| replica(&simulator, way.clone())).collect();
    let desks = desks(&simulator, &clients, 10).await;
    serve_all(desks.iter().flatten(), &script).await;
    sleep(Duration::from_secs(3600 - 301)).await;
    ways.iter().for_each(|way| way.set(Some(Broken::Fails)));
    for _ in 0..140 {
        sleep(Duration::from_secs(2)).await;
        serve_all(desks.iter().flatten(), &script).await;
    }
    assert_eq!(simulator.stats().tokens_issued, 10);
    ways.iter().for_each(|way| way.set(None));
    sleep(Duration::from_secs(18)).await;
    serve_all(desks.iter().flatten(), &script).await;
    sleep(Duration::from_secs(10)).await;
    serve_all(desks.iter().flatten(), &script).await;
    assert_eq!((simulator.stats().tokens_issued, refused_logins(&simulator)), (20, 0));
}

#[tokio::test(start_paused = true)]
async fn of_two_replicas_that_spend_one_refresh_token_the_second_is_served_when_the_store_is_back() {
    for kind in ["the store is away for both", "one is cut off", "one is cut off, and the other too, later"] {
        let simulator = simulator();
        let script = script_of(&simulator);
        let first = Way::default();
        let ways = [first.clone(), first.to()];
        let clients: Vec<_> = ways.iter().map(|way| replica(&simulator, way.clone())).collect();
        let desks = desks(&simulator, &clients, 1).await;
        let [one, other] = [&desks[0][0], &desks[0][1]];
        serve_all([one, other], &script).await;
        ways[1].set(Some(Broken::Hangs));
        if kind == "the store is away for both" {
            ways[0].set(Some(Broken::Hangs));
        }
        sleep(Duration::from_secs(3)).await;
        simulator.expire_tokens();
        one.script(&script).await.unwrap();
        ways[0].set((kind != "one is cut off").then_some(Broken::Hangs));
        let error = other.script(&script).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error}");
        assert!(error.to_string().contains("another replica may have spent it"), "{error}");
        // It is not asked for again and again.
        let logins = simulator.stats().logins.values().sum::<u64>();
        for _ in 0..5 {
            other.script(&script).await.unwrap_err();
        }
        assert_eq!(simulator.stats().logins.values().sum::<u64>(), logins);
        ways.iter().for_each(|way| way.set(None));
        sleep(Duration::from_secs(5)).await;
        other.script(&script).await.unwrap();
        later().await;
        simulator.expire_tokens();
        serve_all([one, other, one], &script).await;
        assert_eq!(refused_logins(&simulator), 1, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_cut_off_and_was_first_is_waited_for_by_who_was_not() {
    // The one that reaches the store holds the lease, and its refresh token is refused, as the other has spent it.
    let simulator = simulator();
    let script = script_of(&simulator);
    let first = Way::default();
    let ways = [first.clone(), first.to()];
    let clients: Vec<_> = ways.iter().map(|way| replica(&simulator, way.clone())).collect();
    let desks = desks(&simulator, &clients, 1).await;
    serve_all(&desks[0], &script).await;
    ways[1].set(Some(Broken::Fails));
    sleep(Duration::from_secs(3)).await;
    simulator.expire_tokens();
    desks[0][1].script(&script).await.unwrap();
    let back = async {
        sleep(Duration::from_secs(1)).await;
        ways[1].set(None);
    };
    let (served, ()) = tokio::join!(desks[0][0].script(&script), back);
    served.unwrap();
    assert_eq!(simulator.stats().tokens_issued, 2);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_over_is_over_and_said_to_be() {
    let (simulator, way) = (simulator(), Way::default());
    let client = replica(&simulator, way);
    let agent = client.agent(Credentials::refresh_token(oauth(), "never-issued")).shared_as("anna");
    let began = Instant::now();
    let error = agent.script(&script_of(&simulator)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRefused);
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    assert!(error.to_string().contains("must log in again"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_somebody_else_has_used_up_costs_one_refusal() {
    let (simulator, way) = (simulator(), Way::default());
    let script = script_of(&simulator);
    let agent = replica(&simulator, way.clone()).agent(code(&simulator)).shared_as("anna");
    agent.script(&script).await.unwrap();
    let stolen = refresh_token_in(&way.store, &way.key()).await;
    let other = builder(&simulator).build().unwrap().agent(Credentials::refresh_token(oauth(), stolen));
    other.log_in().await.unwrap();
    simulator.expire_tokens();
    let began = Instant::now();
    assert_eq!(agent.script(&script).await.unwrap_err().kind(), ErrorKind::LoginRefused);
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    assert_eq!(refused_logins(&simulator), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stored_token_that_has_expired_or_was_refused_is_not_sent() {
    for is_held in [false, true] {
        let simulator = Simulator::builder().rate_limit(0).token_ttl(Duration::from_secs(600)).in_process().unwrap();
        let (script, store) = (script_of(&simulator), MemoryStore::default());
        let first = replica(&simulator, store.clone()).agent(code(&simulator)).shared_as("anna");
        first.log_in().await.unwrap();
        let session = first.session().unwrap();
        let refused = u64::from(is_held);
        let credentials = match is_held {
            // It is refused, and then found in the store.
            true => {
                simulator.expire_tokens();
                Credentials::Session { client: oauth(), session }
            }
            false => {
                sleep(Duration::from_secs(601)).await;
                stored()
            }
        };
        let restarted = replica(&simulator, store).agent(credentials).shared_as("anna");
        restarted.script(&script).await.unwrap();
        let requests = simulator.stats().script_requests;
        assert_eq!(requests.get("401").copied().unwrap_or_default(), refused, "{requests:?}");
        assert_eq!(simulator.stats().tokens_issued, 2);
    }
}

/// What the store holds of a session's refresh token.
async fn refresh_token_in(store: &MemoryStore, key: &SessionKey) -> String {
    let stored = store.load(key).await.unwrap().unwrap();
    let session: Session = serde_json::from_slice(&stored.sealed).unwrap();
    session.refresh_token.unwrap().expose_secret().to_owned()
}

#[test]
fn a_holder_that_dies_delays_the_others_by_its_lease_and_never_leaves_them_without_a_token() {
    // Of a refresh: its lease, and storing what it brought. The holder dies before or after each of them is done.
    for (step, after) in [(1, false), (1, true), (2, false), (2, true)] {
        let (simulator, first) = (simulator(), Way::default());
        let script = script_of(&simulator);
        virtually(async {
            replica(&simulator, first.clone()).agent(code(&simulator)).shared_as("anna").script(&script).await.unwrap();
        });
        let key = first.key();
        let old = virtually(refresh_token_in(&first.store, &key));
        simulator.expire_tokens();
        let dying = Way { dies: Some((1 + step, after)), ..first.to() };
        // Nothing of it runs on: its runtime dies with it.
        virtually(async {
            // First it takes over what is stored, which is refused.
            let agent = replica(&simulator, dying.clone()).agent(stored()).shared_as("anna");
            let script = script.clone();
            tokio::spawn(async move { agent.script(&script).await.map(drop) });
            dying.dead.notified().await;
        });
        let held = virtually(refresh_token_in(&first.store, &key));
        let is_spent = simulator.stats().tokens_issued == 2;
        assert_eq!((held != old, is_spent), (step == 2 && after, step == 2), "step {step}, {after}");
        virtually(async {
            let next = replica(&simulator, first.to()).agent(stored()).shared_as("anna");
            let began = Instant::now();
            match next.script(&script).await {
                Ok(_) => assert!(began.elapsed() <= Duration::from_secs(11), "{step} {after}: {:?}", began.elapsed()),
                // The service has taken the old one, and the new one died with the holder: as in one process alone.
                Err(error) => {
                    assert_eq!((error.kind(), held == old && is_spent), (ErrorKind::LoginRefused, true), "{error}");
                    assert!(began.elapsed() <= Duration::from_secs(16), "{:?}", began.elapsed());
                }
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_longer_than_a_lease_keeps_it() {
    let simulator = simulator();
    let script = script_of(&simulator);
    let store = MemoryStore::default();
    let clients: Vec<_> = (0..3).map(|_| replica(&simulator, store.clone())).collect();
    let desks = desks(&simulator, &clients, 1).await;
    serve_all(&desks[0], &script).await;
    simulator.expire_tokens();
    simulator.set_latency(Duration::from_secs(14));
    let calls = desks[0].iter().map(|agent| async {
        let patient = agent.with_timeout(Duration::from_secs(300));
        patient.log_in().await.unwrap();
        patient.script(&script).await
    });
    for call in join_all(calls).await {
        call.unwrap();
    }
    assert_eq!((simulator.stats().tokens_issued, refused_logins(&simulator)), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn whose_time_runs_out_while_another_replica_logs_in_is_told() {
    let (simulator, way) = (simulator(), Way::default());
    let client = replica(&simulator, way.clone());
    client.agent(stored()).shared_as("anna").log_in().await.unwrap_err();
    for _ in 0..40 {
        // A holder that lives on.
        if let Lease::Granted { fence } = way.store.lease(&way.key(), 0, 1, Duration::from_secs(3600)).await.unwrap() {
            let agent = client.agent(Credentials::client("desktop", "simulator")).shared_as("anna");
            let error = agent.with_timeout(Duration::from_secs(3)).script(&script_of(&simulator)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout);
            assert!(error.to_string().contains("another replica logs this agent in"), "{error}");
            way.store.extend(&way.key(), fence, Duration::ZERO).await.unwrap();
            agent.script(&script_of(&simulator)).await.unwrap();
            return;
        }
    }
    panic!("the lease of a login that failed is still held");
}

#[tokio::test(start_paused = true)]
async fn who_logs_out_is_logged_out_at_all_replicas() {
    for refreshes_meanwhile in [false, true] {
        let (simulator, store) = (simulator(), MemoryStore::default());
        let script = script_of(&simulator);
        let clients: Vec<_> = (0..3).map(|_| replica(&simulator, store.clone())).collect();
        let desks = desks(&simulator, &clients, 1).await;
        let desk = &desks[0];
        serve_all(desk, &script).await;
        if refreshes_meanwhile {
            // The one that logs out has an older token than the others.
            simulator.expire_tokens();
            serve_all(&desk[1..], &script).await;
            later().await;
        }
        desk[0].log_out().await.unwrap();
        assert_eq!(simulator.stats().tokens_revoked, 1);
        for agent in desk {
            let error = agent.script(&script).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::LoginRefused), "{error}");
        }
        let restored = clients[1].agent(stored()).shared_as("browser 0");
        assert_eq!(restored.script(&script).await.unwrap_err().kind(), ErrorKind::LoginRefused);
        // Somebody who logs in is not held up by that, and the other replicas have it at once.
        clients[2].agent(code(&simulator)).shared_as("browser 0").log_in().await.unwrap();
        sleep(Duration::from_secs(2)).await;
        serve_all(&desk[..2], &script).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_logs_out_has_no_token_left_that_is_good() {
    let simulator = Simulator::builder().token_ttl(Duration::from_secs(3600)).rate_limit(0).in_process().unwrap();
    let (script, store) = (script_of(&simulator), MemoryStore::default());
    let clients: Vec<_> = (0..2).map(|_| replica(&simulator, store.clone())).collect();
    let desks = desks(&simulator, &clients, 1).await;
    let [one, other] = [&desks[0][0], &desks[0][1]];
    serve_all([one, other], &script).await;
    // One replaces the token before it expires; the other holds the old one, which is good for a minute still.
    sleep(Duration::from_secs(3600 - 60)).await;
    other.script(&script).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(simulator.stats().tokens_issued, 2);
    let tokens = [one, other].map(|agent| agent.session().unwrap().access_token.unwrap());
    one.log_out().await.unwrap();
    assert_eq!(simulator.stats().tokens_revoked, 2);
    for token in tokens {
        let kept = builder(&simulator).build().unwrap().agent(Credentials::access_token(token));
        assert_eq!(kept.script(&script).await.unwrap_err().kind(), ErrorKind::Unauthorized);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_leaves_a_logout_the_time_to_revoke_the_token() {
    let (simulator, way) = (simulator(), Way::default());
    let client = replica(&simulator, way.clone());
    let agent = client.agent(code(&simulator)).shared_as("anna");
    agent.log_in().await.unwrap();
    way.set(Some(Broken::Hangs));
    let (began, limit) = (Instant::now(), Duration::from_millis(500));
    agent.with_timeout(limit).log_out().await.unwrap();
    assert!(began.elapsed() <= limit, "{:?}", began.elapsed());
    assert_eq!(simulator.stats().tokens_revoked, 1);
    // The store is told when it answers again.
    way.set(None);
    sleep(Duration::from_secs(15)).await;
    let other = replica(&simulator, way.to()).agent(stored()).shared_as("anna");
    assert_eq!(other.log_in().await.unwrap_err().kind(), ErrorKind::LoginRefused);
    assert_eq!(client.health().sessions_unstored, 0);
}

#[tokio::test(start_paused = true)]
async fn a_logout_while_the_store_is_away_is_told_it_when_it_is_back() {
    let simulator = simulator();
    let script = script_of(&simulator);
    let first = Way::default();
    let ways = [first.clone(), first.to()];
    let clients: Vec<_> = ways.iter().map(|way| replica(&simulator, way.clone())).collect();
    let desks = desks(&simulator, &clients, 1).await;
    serve_all(&desks[0], &script).await;
    ways[0].set(Some(Broken::Hangs));
    sleep(Duration::from_secs(3)).await;
    desks[0][0].log_out().await.unwrap();
    assert_eq!(simulator.stats().tokens_revoked, 1);
    ways[0].set(None);
    sleep(Duration::from_secs(5)).await;
    let kept = clients[1].agent(stored()).shared_as("browser 0");
    assert_eq!(kept.script(&script).await.unwrap_err().kind(), ErrorKind::LoginRefused);
    assert_eq!(simulator.stats().tokens_issued, 1);
}

#[tokio::test(start_paused = true)]
async fn a_code_is_not_sent_again_when_its_agent_has_logged_out_at_another_replica() {
    let (simulator, store) = (simulator(), MemoryStore::default());
    let script = script_of(&simulator);
    let clients: Vec<_> = (0..2).map(|_| replica(&simulator, store.clone())).collect();
    let desks = desks(&simulator, &clients, 1).await;
    serve_all(&desks[0], &script).await;
    let logins = simulator.stats().logins;
    desks[0][1].log_out().await.unwrap();
    let error = desks[0][0].script(&script).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoginRefused, "{error}");
    assert!(error.to_string().contains("the agent has logged out, at another replica"), "{error}");
    assert_eq!(simulator.stats().logins, logins);
}

#[tokio::test(start_paused = true)]
async fn who_can_log_in_anew_does_when_what_another_replica_stored_is_over() {
    fn source(token: &'static str) -> Credentials {
        Credentials::source(move || async move {
            let mut session = Session::from_access_token(token);
            session.expires_at = Some(wall_clock() + Duration::from_secs(600));
            Ok(session)
        })
    }
    let kinds = [
        ("client", [Credentials::client("c", "s"), Credentials::client("c", "s")]),
        ("source", [source("token-1"), source("token-2")]),
    ];
    for (kind, [of_one, of_other]) in kinds {
        let (store, logins) = (MemoryStore::default(), AtomicUsize::new(0));
        let transport = Scripted::by(move |seen| match seen.is_login() {
            true => {
                let n = logins.fetch_add(1, Ordering::SeqCst) + 1;
                reply(200, format!(r#"{{"access_token":"token-{n}","expires_in":600}}"#))
            }
            false => script(),
        });
        let replica = || {
            let builder = transport.builder().wall_clock(wall_clock);
            builder.share_sessions(SharedSessions::new(store.clone())).build().unwrap()
        };
        replica().agent(of_one).shared_as("anna").log_in().await.unwrap();
        let other = replica().agent(of_other).shared_as("anna");
        other.script(&id()).await.unwrap();
        sleep(Duration::from_secs(601)).await;
        other.script(&id()).await.unwrap();
        let sent: Vec<_> = transport.calls().iter().map(|call| call.header("authorization").to_owned()).collect();
        assert_eq!(sent, ["Bearer token-1", "Bearer token-2"], "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_that_logged_in_alone_the_first_that_is_back_is_not_overwritten() {
    let simulator = simulator();
    let first = Way::default();
    let ways = [first.clone(), first.to()];
    let agents = ways.clone().map(|way| {
        way.set(Some(Broken::Fails));
        replica(&simulator, way).agent(Credentials::client("desktop", "simulator")).shared_as("anna")
    });
    let access = |agent: &Agent| agent.session().unwrap().access_token.unwrap().expose_secret().to_owned();
    for agent in &agents {
        agent.log_in().await.unwrap();
    }
    for way in &ways {
        way.set(None);
        sleep(Duration::from_secs(5)).await;
    }
    let third = replica(&simulator, first.to()).agent(stored()).shared_as("anna");
    third.log_in().await.unwrap();
    assert!(access(&third) == access(&agents[0]) && access(&third) != access(&agents[1]));
    assert_eq!(simulator.stats().tokens_issued, 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_the_service_is_remembered_and_that_nothing_is_stored_only_for_a_moment() {
    let simulator = Simulator::builder().rate_limit(0).client_secret("another").in_process().unwrap();
    let (script, store) = (script_of(&simulator), MemoryStore::default());
    let clients: Vec<_> = (0..2).map(|_| replica(&simulator, store.clone())).collect();
    let logins = || simulator.stats().logins.values().sum::<u64>();
    // The service is not asked again every second.
    let refused = clients[0].agent(Credentials::client("desktop", "simulator")).shared_as("otto");
    for _ in 0..20 {
        assert_eq!(refused.script(&script).await.unwrap_err().kind(), ErrorKind::LoginRefused);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(logins(), 1);
    sleep(Duration::from_secs(15)).await;
    refused.script(&script).await.unwrap_err();
    assert_eq!(logins(), 2);
    // The session of an agent that is not stored, or is over, may be there at any moment.
    let oauth = || OAuthClient::new("desktop", "another");
    let nobody = clients[0].agent(Credentials::Stored(oauth())).shared_as("anna");
    let over = clients[0].agent(Credentials::refresh_token(oauth(), "never-issued")).shared_as("anna");
    for agent in [&nobody, &over] {
        assert_eq!(agent.script(&script).await.unwrap_err().kind(), ErrorKind::LoginRefused);
    }
    let new = Credentials::AuthorizationCode {
        client: oauth(),
        code: simulator.authorization_code("desktop", "https://desk.example/back", None).into(),
        redirect_uri: "https://desk.example/back".into(),
        verifier: None,
    };
    clients[1].agent(new).shared_as("anna").log_in().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    serve_all([&nobody, &over], &script).await;
    assert_eq!(logins(), 4, "each had it from the store");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_no_other_replica_can_mend_is_told_at_once() {
    let simulator = Simulator::builder().client_secret("another").in_process().unwrap();
    let client = replica(&simulator, MemoryStore::default());
    let unknown = |identity: &str, credentials| client.agent(credentials).shared_as(identity);
    for agent in [
        unknown("a client's secret", Credentials::client("desktop", "simulator")),
        unknown("a secret with a refresh token", Credentials::refresh_token(oauth(), "refresh-0")),
        unknown("a code", code(&simulator)),
    ] {
        let began = Instant::now();
        assert_eq!(agent.script(&script_of(&simulator)).await.unwrap_err().kind(), ErrorKind::LoginRefused);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_logins_are_throttled_takes_over_what_another_got() {
    const THROTTLED: &str = r#"{"error":"invalid_request","error_description":"rate limit exceeded; try again later"}"#;
    let store = MemoryStore::default();
    let throttled = Scripted::by(|seen| if seen.is_login() { reply(400, THROTTLED) } else { script() });
    let served = Scripted::by(|seen| if seen.is_login() { reply(200, r#"{"access_token":"a"}"#) } else { script() });
    let [one, other] = [&throttled, &served]
        .map(|way| way.builder().share_sessions(SharedSessions::new(store.clone())).build().unwrap());
    let agent = |client: &Client, identity: &str| client.agent(Credentials::client("c", "s")).shared_as(identity);
    let otto = agent(&one, "otto");
    let waits = tokio::spawn(async move { otto.log_in().await.is_ok() });
    sleep(Duration::from_secs(10)).await;
    agent(&other, "anna").log_in().await.unwrap();
    // Its own login would come too late for this call.
    agent(&one, "anna").with_timeout(Duration::from_millis(100)).script(&id()).await.unwrap();
    waits.abort();
}

#[tokio::test(start_paused = true)]
async fn who_has_just_logged_in_takes_the_place_of_what_is_stored() {
    for away in [false, true] {
        let (simulator, way) = (simulator(), Way::default());
        let client = replica(&simulator, way.clone());
        let access = |agent: &Agent| agent.session().unwrap().access_token.unwrap().expose_secret().to_owned();
        let old = client.agent(code(&simulator)).shared_as("anna");
        old.log_in().await.unwrap();
        if away {
            way.set(Some(Broken::Fails));
            sleep(Duration::from_secs(2)).await;
        }
        let new = client.agent(code(&simulator)).shared_as("anna");
        new.log_in().await.unwrap();
        way.set(None);
        sleep(Duration::from_secs(5)).await;
        let other = replica(&simulator, way.to()).agent(stored()).shared_as("anna");
        other.log_in().await.unwrap();
        assert!(access(&other) == access(&new) && access(&new) != access(&old), "{away}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_logged_in_for_anew_and_overwritten() {
    type Open = fn(&SessionKey, &[u8]) -> Result<Vec<u8>, BoxError>;
    let opens: [Open; 3] =
        [|_, _| Err("another key".into()), |_, _| Ok(b"garbage".to_vec()), |_, _| Ok(b"[1]".to_vec())];
    for open in opens {
        let (simulator, way) = (simulator(), Way::default());
        let seal = |key: &SessionKey, plain: &[u8]| Ok([key.as_str().as_bytes(), plain].concat());
        let sealed = |open| SharedSessions::new(way.to()).sealed(seal, open);
        let unsealed: Open =
            |key, sealed| Ok(sealed.strip_prefix(key.as_str().as_bytes()).ok_or("of another")?.to_vec());
        let client = |open| builder(&simulator).share_sessions(sealed(open)).build().unwrap();
        let credentials = || Credentials::client("desktop", "simulator");
        let (writer, reader, confused) = (client(unsealed), client(unsealed), client(open));
        writer.agent(credentials()).shared_as("anna").log_in().await.unwrap();
        reader.agent(credentials()).shared_as("anna").log_in().await.unwrap();
        assert_eq!(simulator.stats().tokens_issued, 1);
        confused.agent(credentials()).shared_as("anna").log_in().await.unwrap();
        assert_eq!(simulator.stats().tokens_issued, 2);
        assert!(confused.health().session_store.unwrap().is_there);
        reader.agent(credentials()).shared_as("anna").log_in().await.unwrap();
        assert_eq!(simulator.stats().tokens_issued, 2, "what was written last is what is read");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_what_other_replicas_are_to_have() {
    let simulator = simulator();
    let script = script_of(&simulator);
    let first = Way::default();
    let ways = [first.clone(), first.to()];
    let clients: Vec<_> = ways.iter().map(|way| replica(&simulator, way.clone())).collect();
    let desks = desks(&simulator, &clients, 10).await;
    ways[0].set(Some(Broken::Fails));
    sleep(Duration::from_secs(3)).await;
    simulator.expire_tokens();
    serve_all(desks.iter().map(|desk| &desk[0]), &script).await;
    let left = clients[0].shut_down(Duration::from_secs(3)).await;
    assert_eq!(left.sessions, 10, "{left}");
    ways[0].set(None);
    let left = clients[0].shut_down(Duration::from_secs(5)).await;
    assert!(left.is_complete(), "{left}");
    serve_all(desks.iter().map(|desk| &desk[1]), &script).await;
    assert_eq!((simulator.stats().tokens_issued, refused_logins(&simulator)), (20, 0));
}

#[tokio::test(start_paused = true)]
async fn without_anything_to_log_in_with_the_reason_is_said() {
    let (simulator, way) = (simulator(), Way::default());
    let client = replica(&simulator, way.clone());
    let told = async |agent: &Agent| agent.script(&script_of(&simulator)).await.unwrap_err();
    let none = told(&client.agent(stored()).shared_as("nobody")).await;
    assert_eq!((none.kind(), none.is_retryable()), (ErrorKind::LoginRefused, false));
    assert!(none.to_string().contains("no session of this agent is stored"), "{none}");
    let unshared = told(&client.agent(stored())).await;
    assert_eq!(unshared.kind(), ErrorKind::InvalidInput);
    assert!(unshared.to_string().contains("shared_as"), "{unshared}");
    way.set(Some(Broken::Fails));
    let away = told(&client.agent(stored()).shared_as("somebody")).await;
    assert_eq!((away.kind(), away.is_retryable()), (ErrorKind::Unavailable, true));
    assert!(away.to_string().contains("the session store is away: the store fails"), "{away}");
    way.set(None);
    assert_eq!(simulator.stats().logins.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_asks_the_store_no_more() {
    let (simulator, way) = (simulator(), Way::default());
    let checks = Arc::new(AtomicUsize::new(0));
    #[derive(Clone)]
    struct Counted(Way, Arc<AtomicUsize>);
    #[async_trait]
    impl SessionStore for Counted {
        async fn load(&self, key: &SessionKey) -> Result<Option<StoredSession>, BoxError> {
            self.0.load(key).await
        }
        async fn store(&self, key: &SessionKey, session: StoredSession) -> Result<bool, BoxError> {
            self.0.store(key, session).await
        }
        async fn lease(
            &self,
            key: &SessionKey,
            newer_than: u64,
            owner: u64,
            length: Duration,
        ) -> Result<Lease, BoxError> {
            self.1.fetch_add(1, Ordering::SeqCst);
            self.0.lease(key, newer_than, owner, length).await
        }
        async fn extend(&self, key: &SessionKey, fence: u64, length: Duration) -> Result<(), BoxError> {
            self.0.extend(key, fence, length).await
        }
    }
    let client = replica(&simulator, Counted(way, Arc::clone(&checks)));
    let agent = client.agent(Credentials::client("desktop", "simulator")).shared_as("anna");
    agent.log_in().await.unwrap();
    sleep(Duration::from_secs(100)).await;
    let asked = checks.load(Ordering::SeqCst);
    assert!((90..=102).contains(&asked), "{asked}");
    drop((client, agent));
    sleep(Duration::from_secs(100)).await;
    assert!(checks.load(Ordering::SeqCst) <= asked + 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_replica_asks_of_the_store() {
    // What README's arithmetic begins with: two for a login or a refresh, one for what another got.
    let (simulator, first) = (simulator(), Way::default());
    let script = script_of(&simulator);
    let ways = [first.clone(), first.to()];
    let clients: Vec<_> = ways.iter().map(|way| replica(&simulator, way.clone())).collect();
    let desks = desks(&simulator, &clients, 1).await;
    serve_all(&desks[0], &script).await;
    assert_eq!((ways[0].asked(), ways[1].asked()), (vec!["lease", "store"], vec!["lease"]));
    simulator.expire_tokens();
    serve_all([&desks[0][1]], &script).await;
    serve_all([&desks[0][0]], &script).await;
    assert_eq!((ways[0].asked(), ways[1].asked()), (vec!["lease", "store", "lease"], vec!["lease", "lease", "store"]));
    // Calls ask nothing of it.
    for _ in 0..100 {
        serve_all(&desks[0], &script).await;
    }
    assert_eq!(ways[0].asked().len() + ways[1].asked().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_short_absence_is_waited_for_by_who_holds_nothing() {
    for way in WAYS {
        let (simulator, first) = (simulator(), Way::default());
        let script = script_of(&simulator);
        replica(&simulator, first.clone()).agent(code(&simulator)).shared_as("anna").log_in().await.unwrap();
        let ours = first.to();
        let client = replica(&simulator, ours.clone());
        let agent = || client.agent(stored()).shared_as("anna");
        ours.set(Some(way));
        let back = async {
            sleep(Duration::from_secs(3)).await;
            ours.set(None);
        };
        let (waits, began) = (agent(), Instant::now());
        let (served, ()) = tokio::join!(waits.script(&script), back);
        served.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{way:?}: {:?}", began.elapsed());
        // A long one is not.
        ours.set(Some(way));
        sleep(Duration::from_secs(10)).await;
        let began = Instant::now();
        let error = agent().script(&script).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (ErrorKind::Unavailable, Duration::ZERO), "{way:?}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_there_and_fails_whoever_needs_it_is_waited_for_as_long_as_one_that_is_away() {
    let (simulator, way) = (simulator(), Way::default());
    way.set(Some(Broken::FailsWhenNeeded));
    let client = replica(&simulator, way.clone());
    let agent = client.agent(stored()).shared_as("anna").with_timeout(Duration::from_secs(300));
    let began = Instant::now();
    let error = agent.log_in().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error}");
    let waited = began.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(7)).contains(&waited), "{waited:?}");
    assert!(way.asked().len() < 10, "{:?}", way.asked());
    assert!(client.shut_down(Duration::ZERO).await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_for_one_identity_alone_is_not_waited_for_without_end() {
    let (simulator, way) = (simulator(), Way::default());
    way.set(Some(Broken::HangsWhenNeeded));
    let client = replica(&simulator, way.clone());
    let own = client.agent(Credentials::client("desktop", "simulator")).shared_as("anna");
    let began = Instant::now();
    own.script(&script_of(&simulator)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let began = Instant::now();
    let nothing = client.agent(stored()).shared_as("otto").with_timeout(Duration::from_secs(300));
    assert_eq!(nothing.log_in().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_was_slow_once_is_not_away() {
    // What it was asked took effect, and its answer was lost: its own lease is in nobody's way.
    let (simulator, first) = (simulator(), Way::default());
    let script = script_of(&simulator);
    let client = replica(&simulator, first.clone());
    client.agent(code(&simulator)).shared_as("anna").log_in().await.unwrap();
    client.agent(Credentials::client("desktop", "simulator")).shared_as("otto").log_in().await.unwrap();
    let agent = client.agent(stored()).shared_as("anna");
    agent.script(&script).await.unwrap();
    later().await;
    simulator.expire_tokens();
    first.set(Some(Broken::LosesOneAnswer));
    let others = async {
        for n in 0..30 {
            sleep(Duration::from_millis(100)).await;
            client.agent(Credentials::client("desktop", "simulator")).shared_as(&n.to_string()).log_in().await.unwrap();
            assert!(client.health().session_store.unwrap().is_there);
        }
    };
    let began = Instant::now();
    let (served, ()) = tokio::join!(
        async {
            agent.script(&script).await.unwrap();
            began.elapsed()
        },
        others
    );
    assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&served), "{served:?}");
    // It was got by that lease, and so is stored.
    assert_eq!(client.health().sessions_unstored, 0);
    assert_eq!(refused_logins(&simulator), 0);
}

/// Of an agent's two replicas, the first got a session while it was cut off from the store. That is so long back, and what they hold
/// has ended; logins take half a second from here on.
async fn one_got_alone_and_the_store_is_back(milliseconds_ago: u64) -> (Simulator, ScriptId, Vec<Agent>) {
    let simulator = simulator();
    let script = script_of(&simulator);
    let first = Way::default();
    let ways = [first.clone(), first.to()];
    let clients: Vec<_> = ways.iter().map(|way| replica(&simulator, way.clone())).collect();
    let mut desks = desks(&simulator, &clients, 1).await;
    let desk = desks.swap_remove(0);
    serve_all(&desk, &script).await;
    ways[0].set(Some(Broken::Fails));
    sleep(Duration::from_secs(3)).await;
    simulator.expire_tokens();
    desk[0].script(&script).await.unwrap();
    later().await;
    simulator.expire_tokens();
    simulator.set_latency(Duration::from_millis(500));
    ways[0].set(None);
    sleep(Duration::from_millis(milliseconds_ago)).await;
    (simulator, script, desk)
}

#[tokio::test(start_paused = true)]
async fn what_was_got_alone_is_stored_before_or_after_what_the_next_login_brings_and_never_between() {
    for step in 0..40 {
        let (simulator, script, desk) = one_got_alone_and_the_store_is_back(100 * step).await;
        let [one, other] = [&desk[0], &desk[1]];
        one.script(&script).await.unwrap();
        sleep(Duration::from_secs(5)).await;
        other.script(&script).await.unwrap();
        later().await;
        simulator.expire_tokens();
        serve_all([other, one], &script).await;
        assert_eq!(refused_logins(&simulator), 0, "{} ms after its return", 100 * step);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_got_by_a_lease_that_is_over_is_found_by_who_leased_after_it() {
    // One refreshes, and is cut off before it can store what it got, for longer than its lease. The other has the next lease by then,
    // and only the refresh token that is spent.
    let simulator = simulator();
    let script = script_of(&simulator);
    let first = Way::default();
    let ways = [first.clone(), first.to()];
    let clients: Vec<_> = ways.iter().map(|way| replica(&simulator, way.clone())).collect();
    let desks = desks(&simulator, &clients, 1).await;
    let [one, other] = [&desks[0][0], &desks[0][1]];
    serve_all([one, other], &script).await;
    simulator.expire_tokens();
    simulator.set_latency(Duration::from_millis(500));
    let asked = ways[1].asked().len();
    let is_cut_off = async {
        // It has the lease, and its refresh is on the way.
        while ways[1].asked().len() == asked {
            sleep(Duration::from_millis(10)).await;
        }
        sleep(Duration::from_millis(200)).await;
        ways[1].set(Some(Broken::Fails));
        sleep(Duration::from_secs(11)).await;
    };
    let (served, ()) = tokio::join!(other.script(&script), is_cut_off);
    served.unwrap();
    let back = async {
        sleep(Duration::from_secs(1)).await;
        ways[1].set(None);
    };
    let (served, ()) = tokio::join!(one.script(&script), back);
    served.unwrap();
    assert_eq!((simulator.stats().tokens_issued, refused_logins(&simulator)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_got_alone_ends_no_lease_of_a_login_that_goes_on() {
    for step in 0..40 {
        let (simulator, script, desk) = one_got_alone_and_the_store_is_back(100 * step).await;
        let [one, other] = [&desk[0], &desk[1]];
        let (of_one, of_other) = tokio::join!(one.script(&script), other.script(&script));
        for served in [of_one, of_other] {
            served.unwrap_or_else(|error| panic!("{} ms after its return: {error}", 100 * step));
        }
        later().await;
        simulator.expire_tokens();
        serve_all([other, one], &script).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_logged_in_while_the_store_was_away_takes_the_place_of_what_is_stored_also_with_what_was_refreshed_since() {
    // Its next login comes at any moment around the store's return.
    for step in 0..40 {
        let (simulator, way) = (simulator(), Way::default());
        let script = script_of(&simulator);
        let client = replica(&simulator, way.clone());
        let old = client.agent(code(&simulator)).shared_as("anna");
        old.log_in().await.unwrap();
        old.log_out().await.unwrap();
        way.set(Some(Broken::Fails));
        sleep(Duration::from_secs(2)).await;
        let new = client.agent(code(&simulator)).shared_as("anna");
        new.log_in().await.unwrap();
        simulator.expire_tokens();
        new.script(&script).await.unwrap();
        later().await;
        simulator.expire_tokens();
        way.set(None);
        sleep(Duration::from_millis(100 * step)).await;
        new.script(&script).await.unwrap_or_else(|error| panic!("{} ms after its return: {error}", 100 * step));
        sleep(Duration::from_secs(5)).await;
        let other = replica(&simulator, way.to()).agent(stored()).shared_as("anna");
        other.script(&script).await.unwrap();
        later().await;
        simulator.expire_tokens();
        serve_all([&new, &other], &script).await;
        assert_eq!(refused_logins(&simulator), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn of_logins_and_logouts_while_the_store_was_away_the_last_one_stands() {
    // Each agent tries to store its own, in an order that is chance.
    for round in 0..20 {
        for logs_out_last in [false, true] {
            let (simulator, way) = (simulator(), Way::default());
            let client = replica(&simulator, way.clone());
            let [old, new] = [(); 2].map(|()| client.agent(code(&simulator)).shared_as("anna"));
            old.log_in().await.unwrap();
            way.set(Some(Broken::Fails));
            sleep(Duration::from_secs(2)).await;
            if logs_out_last {
                new.log_in().await.unwrap();
                old.log_out().await.unwrap();
            } else {
                old.log_out().await.unwrap();
                new.log_in().await.unwrap();
            }
            way.set(None);
            sleep(Duration::from_secs(5)).await;
            let other = replica(&simulator, way.to()).agent(stored()).shared_as("anna");
            let served = other.script(&script_of(&simulator)).await;
            assert_eq!(served.is_err(), logs_out_last, "{round}: {:?}", served.err());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_logout_that_is_not_stored_yet_does_not_end_a_login_that_is() {
    for round in 0..20 {
        let (simulator, way) = (simulator(), Way::default());
        let script = script_of(&simulator);
        let client = replica(&simulator, way.clone());
        let [old, new] = [(); 2].map(|()| client.agent(code(&simulator)).shared_as("anna"));
        old.log_in().await.unwrap();
        way.set(Some(Broken::Fails));
        sleep(Duration::from_secs(2)).await;
        old.log_out().await.unwrap();
        way.set(None);
        // The store is back, and the logout is still to be told.
        while !client.health().session_store.unwrap().is_there {
            sleep(Duration::from_millis(10)).await;
        }
        new.log_in().await.unwrap();
        sleep(Duration::from_secs(5)).await;
        let other = replica(&simulator, way.to()).agent(stored()).shared_as("anna");
        other.script(&script).await.unwrap_or_else(|error| panic!("{round}: {error}"));
        // Who has logged out holds nothing that is newer, and goes on with what the other got.
        assert_eq!(client.health().sessions_unstored, 0);
        // What it gets of that is stored like any other's.
        for agent in [&old, &old, &other, &new, &old] {
            later().await;
            simulator.expire_tokens();
            agent.script(&script).await.unwrap_or_else(|error| panic!("{round}: {error}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_older_agent_gets_alone_does_not_take_the_place_of_a_login() {
    for _ in 0..20 {
        let (simulator, way) = (simulator(), Way::default());
        let script = script_of(&simulator);
        let client = replica(&simulator, way.clone());
        let access = |agent: &Agent| agent.session().unwrap().access_token.unwrap().expose_secret().to_owned();
        let [old, new] = [(); 2].map(|()| client.agent(code(&simulator)).shared_as("anna"));
        old.log_in().await.unwrap();
        way.set(Some(Broken::Fails));
        sleep(Duration::from_secs(2)).await;
        simulator.expire_tokens();
        new.log_in().await.unwrap();
        old.script(&script).await.unwrap();
        way.set(None);
        sleep(Duration::from_secs(5)).await;
        let other = replica(&simulator, way.to()).agent(stored()).shared_as("anna");
        other.log_in().await.unwrap();
        assert!(access(&other) == access(&new) && access(&new) != access(&old));
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_a_newer_session_was_stored_before_takes_its_place() {
    // Somebody logs in, and is cut off before that is stored, for longer than its lease. Another replica refreshes the older session.
    let (simulator, first) = (simulator(), Way::default());
    let script = script_of(&simulator);
    let ways = [first.clone(), first.to()];
    let clients: Vec<_> = ways.iter().map(|way| replica(&simulator, way.clone())).collect();
    let old = clients[0].agent(code(&simulator)).shared_as("anna");
    old.script(&script).await.unwrap();
    simulator.expire_tokens();
    simulator.set_latency(Duration::from_millis(500));
    let new = clients[1].agent(code(&simulator)).shared_as("anna");
    let is_cut_off = async {
        sleep(Duration::from_millis(200)).await;
        ways[1].set(Some(Broken::Fails));
    };
    let (logged_in, ()) = tokio::join!(new.log_in(), is_cut_off);
    logged_in.unwrap();
    sleep(Duration::from_secs(11)).await;
    old.script(&script).await.unwrap();
    ways[1].set(None);
    sleep(Duration::from_secs(5)).await;
    let access = |agent: &Agent| agent.session().unwrap().access_token.unwrap().expose_secret().to_owned();
    let other = replica(&simulator, first.to()).agent(stored()).shared_as("anna");
    other.log_in().await.unwrap();
    assert!(access(&other) == access(&new) && access(&new) != access(&old));
    assert_eq!((simulator.stats().tokens_issued, refused_logins(&simulator)), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn of_another_replicas_lease_that_is_over_nothing_is_told() {
    // It is over, or the store is away and says nothing of it any more.
    for goes_away in [false, true] {
        let (simulator, way) = (simulator(), Way::default());
        let client = replica(&simulator, way.clone());
        client.agent(stored()).shared_as("anna").log_in().await.unwrap_err();
        way.store.lease(&way.key(), 0, 1, Duration::from_secs(2)).await.unwrap();
        simulator.set_latency(Duration::from_secs(60));
        let agent = client.agent(Credentials::client("desktop", "simulator")).shared_as("anna");
        let patient = agent.with_timeout(Duration::from_secs(5));
        let away = async {
            sleep(Duration::from_secs(1)).await;
            way.set(goes_away.then_some(Broken::Fails));
        };
        let (logged_in, ()) = tokio::join!(patient.log_in(), away);
        let error = logged_in.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(!error.to_string().contains("another replica"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_restored_session_was_refreshed_to_before_the_store_was_ever_reached_is_shared_when_it_is_back() {
    // A restart finds the store away, which holds what the agent is restored from. Its next login comes at any moment around the
    // store's return.
    for step in 0..40 {
        let (simulator, first) = (simulator(), Way::default());
        let script = script_of(&simulator);
        replica(&simulator, first.clone()).agent(code(&simulator)).shared_as("anna").log_in().await.unwrap();
        let way = first.to();
        way.set(Some(Broken::Fails));
        let restored = Credentials::refresh_token(oauth(), refresh_token_in(&first.store, &first.key()).await);
        let agent = replica(&simulator, way.clone()).agent(restored).shared_as("anna");
        for _ in 0..2 {
            agent.script(&script).await.unwrap();
            later().await;
            simulator.expire_tokens();
        }
        way.set(None);
        sleep(Duration::from_millis(100 * step)).await;
        agent.script(&script).await.unwrap_or_else(|error| panic!("{} ms after its return: {error}", 100 * step));
        sleep(Duration::from_secs(5)).await;
        let other = replica(&simulator, first.to()).agent(stored()).shared_as("anna");
        other.script(&script).await.unwrap();
        later().await;
        simulator.expire_tokens();
        serve_all([&agent, &other], &script).await;
        assert_eq!(refused_logins(&simulator), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_restored_session_was_refreshed_to_while_the_store_was_away_takes_no_other_sessions_place() {
    for logs_out in [false, true] {
        let (simulator, first) = (simulator(), Way::default());
        let script = script_of(&simulator);
        let client = replica(&simulator, first.clone());
        client.agent(code(&simulator)).shared_as("anna").log_in().await.unwrap();
        let way = first.to();
        way.set(Some(Broken::Fails));
        let restored = Credentials::refresh_token(oauth(), refresh_token_in(&first.store, &first.key()).await);
        let agent = replica(&simulator, way.clone()).agent(restored).shared_as("anna");
        agent.script(&script).await.unwrap();
        // Meanwhile, at a replica that reaches it, somebody logs in anew, or out again.
        let new = client.agent(code(&simulator)).shared_as("anna");
        new.log_in().await.unwrap();
        if logs_out {
            new.log_out().await.unwrap();
        }
        way.set(None);
        sleep(Duration::from_secs(5)).await;
        let other = replica(&simulator, first.to()).agent(stored()).shared_as("anna");
        assert_eq!(other.script(&script).await.is_err(), logs_out);
        let access =
            |agent: &Agent| agent.session().map(|session| session.access_token.unwrap().expose_secret().to_owned());
        assert_eq!(access(&other), access(&new));
    }
}
