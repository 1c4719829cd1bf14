//! Sessions that replicas share in Redis, against a real one: over the wire, gone, slow, and searched for secrets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use genesys_scripts::simulator::Simulator;
use genesys_scripts::{
    Agent, Client, Credentials, ErrorKind, ExposeSecret, Lease, OAuthClient, RedisStore, ScriptId, SessionKey,
    SessionStore, SharedSessions, StoredSession,
};
use tokio::time::{Instant, sleep};

use crate::common::redis::{Redis, slow};
use crate::replicas::{keeps_its_contract, key_of};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn oauth() -> OAuthClient {
    OAuthClient::new("desktop", "simulator")
}

async fn simulator() -> Simulator {
    Simulator::builder().rate_limit(0).latency(Duration::from_millis(2)).start().await.unwrap()
}

fn replica(simulator: &Simulator, sessions: SharedSessions) -> Client {
    Client::builder(simulator.region().unwrap()).share_sessions(sessions).build().unwrap()
}

fn shared(url: &str) -> SharedSessions {
    SharedSessions::new(RedisStore::open(url).unwrap())
}

fn code(simulator: &Simulator) -> Credentials {
    Credentials::AuthorizationCode {
        client: oauth(),
        code: simulator.authorization_code("desktop", "https://desk.example/back", None).into(),
        redirect_uri: "https://desk.example/back".into(),
        verifier: None,
    }
}

/// Each of so many agents, at each of these replicas.
async fn desks(simulator: &Simulator, clients: &[Client], agents: usize) -> Vec<Vec<Agent>> {
    let stored = || Credentials::Stored(oauth());
    join_all((0..agents).map(|n| async move {
        let identity = format!("agent {n}");
        let first = clients[0].agent(code(simulator)).shared_as(&identity);
        first.log_in().await.unwrap();
        let others = clients[1..].iter().map(|client| client.agent(stored()).shared_as(&identity));
        std::iter::once(first).chain(others).collect()
    }))
    .await
}

async fn serve_all(agents: impl IntoIterator<Item = &Agent>, script: &ScriptId) {
    for call in join_all(agents.into_iter().map(|agent| agent.script(script))).await {
        call.unwrap();
    }
}

/// Until it is so; a machine under load takes its time.
async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: not within a minute");
}

fn is_there(client: &Client) -> bool {
    client.health().session_store.is_some_and(|store| store.is_there)
}

#[tokio::test]
async fn redis_keeps_the_contract_of_a_store() {
    let Some(redis) = Redis::start(&[]) else { return };
    keeps_its_contract(RedisStore::open(&redis.url()).unwrap()).await;
}

#[tokio::test]
async fn who_guesses_identities_leaves_nothing_behind_for_long() {
    let Some(redis) = Redis::start(&[]) else { return };
    let simulator = simulator().await;
    let client = replica(&simulator, shared(&redis.url()));
    for n in 0..10 {
        let guessed = client.agent(Credentials::Stored(oauth())).shared_as(&format!("guess {n}"));
        guessed.log_in().await.unwrap_err();
    }
    let short = redis.lifetimes().await;
    assert!(short.iter().all(|seconds| (0..=60).contains(seconds)), "{short:?}");
    // A session stays.
    client.agent(code(&simulator)).shared_as("anna").log_in().await.unwrap();
    client.agent(Credentials::Stored(oauth())).shared_as("anna").log_in().await.unwrap();
    let kept = redis.lifetimes().await.into_iter().filter(|seconds| *seconds > 29 * 24 * 3600);
    assert_eq!(kept.count(), 1);
}

#[tokio::test]
async fn a_lease_that_is_extended_is_kept_for_as_long_also_where_nothing_is_stored() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (store, key) = (RedisStore::open(&redis.url()).unwrap(), key_of("anna").await);
    let fence = match store.lease(&key, 0, 1, Duration::from_secs(10)).await.unwrap() {
        Lease::Granted { fence } => fence,
        other => panic!("{other:?}"),
    };
    store.extend(&key, fence, Duration::from_secs(120)).await.unwrap();
    let kept = redis.lifetimes().await;
    assert!(matches!(kept[..], [119 | 120]), "{kept:?}");
    // Once it is given back the row goes as one of a lease alone does, and a session's does not.
    store.extend(&key, fence, Duration::ZERO).await.unwrap();
    let kept = redis.lifetimes().await;
    assert!(matches!(kept[..], [59 | 60]), "{kept:?}");
    assert!(store.store(&key, StoredSession::new(fence, Vec::new())).await.unwrap());
    store.extend(&key, fence, Duration::from_secs(120)).await.unwrap();
    let kept = redis.lifetimes().await;
    assert!(matches!(kept[..], [seconds] if seconds > 29 * 24 * 3600), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_replicas_one_refreshes() {
    let Some(redis) = Redis::start(&[]) else { return };
    let simulator = simulator().await;
    let script: ScriptId = simulator.script_ids()[0].parse().unwrap();
    let clients = || -> Vec<_> { (0..3).map(|_| replica(&simulator, shared(&redis.url()))).collect() };
    let mut desks = desks(&simulator, &clients(), 40).await;
    for round in 1..=4 {
        serve_all(desks.iter().flatten(), &script).await;
        simulator.expire_tokens();
        serve_all(desks.iter().flatten(), &script).await;
        assert_eq!(simulator.stats().tokens_issued, 40 * (1 + round));
        // Deployed anew: nothing is left but Redis.
        let clients = clients();
        desks = (0..40)
            .map(|n| {
                clients
                    .iter()
                    .map(|client| client.agent(Credentials::Stored(oauth())).shared_as(&format!("agent {n}")))
                    .collect()
            })
            .collect();
    }
    assert_eq!(simulator.stats().logins.keys().collect::<Vec<_>>(), ["200"], "no refresh token was spent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_all_calls_are_served_and_afterwards_sessions_are_shared_again() {
    for how in ["stopped", "killed, and empty afterwards", "slow"] {
        let Some(mut redis) = Redis::start(&[]) else { return };
        let is_slow = Arc::new(AtomicBool::new(false));
        let url = match how {
            "slow" => slow(redis.port(), Arc::clone(&is_slow)).await,
            _ => redis.url(),
        };
        let simulator = simulator().await;
        let script: ScriptId = simulator.script_ids()[0].parse().unwrap();
        let clients: Vec<_> = (0..3).map(|_| replica(&simulator, shared(&url))).collect();
        let desks = desks(&simulator, &clients, 12).await;
        serve_all(desks.iter().flatten(), &script).await;
        match how {
            "stopped" => redis.signal("STOP"),
            "slow" => is_slow.store(true, Ordering::SeqCst),
            _ => redis.kill(),
        }
        eventually("health says that it is away", || !clients.iter().any(is_there)).await;
        // Each agent's token is refused, at the replica that serves it.
        simulator.expire_tokens();
        for _ in 0..3 {
            serve_all(desks.iter().enumerate().map(|(n, desk)| &desk[n % 3]), &script).await;
        }
        assert!(!clients.iter().any(is_there), "{how}");
        assert_eq!(simulator.stats().tokens_issued, 24, "{how}");
        match how {
            "stopped" => redis.signal("CONT"),
            "slow" => is_slow.store(false, Ordering::SeqCst),
            _ => redis.restart(),
        }
        let is_shared = |client: &Client| is_there(client) && client.health().sessions_unstored == 0;
        eventually("sessions are shared again", || clients.iter().all(is_shared)).await;
        serve_all(desks.iter().flatten(), &script).await;
        assert_eq!(simulator.stats().tokens_issued, 24, "{how}");
        assert_eq!(simulator.stats().logins.keys().collect::<Vec<_>>(), ["200"], "{how}");
    }
}

/// In all spellings that a store could have of it.
fn spellings(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let utf16: String = secret.chars().flat_map(|c| [c, '\0']).collect();
    let mut all = vec![secret.to_owned(), hex.to_uppercase(), hex, utf16, secret.chars().rev().collect()];
    for shift in 0..3 {
        // Within a longer text: what of its base64 depends on it alone.
        let text = format!("{}{secret}", "x".repeat(shift));
        for engine in [&BASE64_STANDARD_NO_PAD, &BASE64_URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&text);
            all.push(encoded[(shift * 8).div_ceil(6)..encoded.len() - 1].to_owned());
        }
    }
    all
}

#[tokio::test]
async fn with_a_seal_no_secret_is_in_redis_in_clear() {
    let Some(redis) = Redis::start(&[]) else { return };
    let simulator = simulator().await;
    let script: ScriptId = simulator.script_ids()[0].parse().unwrap();
    // No cipher, but nothing of the plain text is left.
    let turned = |key: &SessionKey, bytes: &[u8]| -> Result<Vec<u8>, BoxError> {
        let mut pad = 0x9d_u8;
        let key = key.as_str().as_bytes();
        let turn = |(at, byte): (usize, &u8)| {
            pad = pad.wrapping_mul(181).wrapping_add(key[at % key.len()]);
            byte ^ pad
        };
        Ok(bytes.iter().enumerate().map(turn).collect())
    };
    for is_sealed in [true, false] {
        let sessions = || match is_sealed {
            true => shared(&redis.url()).sealed(turned, turned),
            false => shared(&redis.url()),
        };
        let clients = [replica(&simulator, sessions()), replica(&simulator, sessions())];
        let mut secrets = vec!["simulator".to_owned()];
        let mut tokens = |agent: &Agent| {
            let session = agent.session().unwrap();
            let tokens = [session.access_token, session.refresh_token].into_iter().flatten();
            secrets.extend(tokens.map(|token| token.expose_secret().to_owned()));
        };
        for n in 0..20 {
            let identity = format!("the-cookie-of-agent-{n}");
            let agent = clients[0].agent(code(&simulator)).shared_as(&identity);
            agent.script(&script).await.unwrap();
            tokens(&agent);
            simulator.expire_tokens();
            let other = clients[1].agent(Credentials::Stored(oauth())).shared_as(&identity);
            other.script(&script).await.unwrap();
            tokens(&other);
            if n % 5 == 0 {
                other.log_out().await.unwrap();
            }
        }
        secrets.extend((0..20).map(|n| format!("the-cookie-of-agent-{n}")));
        assert_eq!(secrets.len(), 1 + 20 * 4 + 20);
        let everything = redis.everything().await;
        assert!(everything.len() > 20 * 9, "{}", everything.len());
        let found: Vec<&String> = secrets
            .iter()
            .filter(|secret| {
                spellings(secret).iter().any(|spelling| {
                    everything.iter().any(|bytes| bytes.windows(spelling.len()).any(|part| part == spelling.as_bytes()))
                })
            })
            .collect();
        match is_sealed {
            true => assert_eq!(found.len(), 0, "{} of {} secrets", found.len(), secrets.len()),
            // Whoever looks would have found them: those that were not replaced since, or ended.
            false => assert_eq!(found.len(), 2 * 16),
        }
        // What is sealed is each agent's own: the cookies and tokens of the next round are others.
        redis_is_emptied(&redis).await;
    }
}

async fn redis_is_emptied(redis: &Redis) {
    let mut connection = redis::Client::open(redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let _: String = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_redis_is_said_without_its_password() {
    for url in
        ["", "127.0.0.1:6379", "http://redis", "redis://", "rediss://:hunter2@redis", "redis://:hunter2@redis:port"]
    {
        let error = RedisStore::open(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
    let Some(redis) = Redis::start(&["--requirepass", "right"]) else { return };
    let simulator = simulator().await;
    let url = |password: &str| redis.url().replace("redis://", &format!("redis://:{password}@"));
    assert!(!format!("{:?}", RedisStore::open(&url("right")).unwrap()).contains("right"));
    for (url, is_right) in [(url("hunter2"), false), (redis.url(), false), (url("right"), true)] {
        let client = replica(&simulator, shared(&url));
        let agent = client.agent(Credentials::client("desktop", "simulator")).shared_as("anna");
        agent.log_in().await.unwrap();
        let store = client.health().session_store.unwrap();
        assert_eq!(store.is_there, is_right, "{store:?}");
        let why = store.last.unwrap_or_default();
        assert!(is_right || why.contains("Redis") && !why.contains("hunter2"), "{why}");
    }
}

#[test]
fn each_runtime_reaches_redis_by_itself() {
    let Some(redis) = Redis::start(&[]) else { return };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (simulator, client) = {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            runtime().block_on(async {
                sender.send(simulator().await).unwrap();
                std::future::pending::<()>().await;
            });
        });
        let simulator = receiver.recv().unwrap();
        let client = replica(&simulator, shared(&redis.url()));
        (simulator, client)
    };
    let log_in = |identity: &str| {
        let agent = client.agent(Credentials::client("desktop", "simulator")).shared_as(identity);
        async move { agent.log_in().await }
    };
    first.block_on(log_in("anna")).unwrap();
    // Nobody drives the first any more; and then it is gone.
    runtime().block_on(log_in("otto")).unwrap();
    drop(first);
    runtime().block_on(log_in("anna")).unwrap();
    assert!(is_there(&client), "{:?}", client.health());
    assert_eq!(simulator.stats().tokens_issued, 2);
}

/// `REDIS_IDENTITIES=100000 cargo test --test it redis::what_identities -- --nocapture` prints README's figures.
#[tokio::test]
async fn what_identities_cost_redis() {
    let Some(redis) = Redis::start(&[]) else { return };
    let count: usize = std::env::var("REDIS_IDENTITIES").map_or(300, |count| count.parse().unwrap());
    let simulator = Simulator::builder().rate_limit(0).latency(Duration::ZERO).in_process().unwrap();
    let here = genesys_scripts::Region::custom(simulator.url(), simulator.url(), simulator.url()).unwrap();
    // As long as what an AEAD cipher makes of it.
    let seal = |_: &SessionKey, plain: &[u8]| Ok([plain, &[7; 28]].concat());
    let open = |_: &SessionKey, sealed: &[u8]| Ok(sealed[..sealed.len() - 28].to_vec());
    let client = Client::builder(here)
        .with_middleware(simulator.transport())
        .share_sessions(shared(&redis.url()).sealed(seal, open))
        .build()
        .unwrap();
    let cpu = async || redis.info("used_cpu_user").await + redis.info("used_cpu_sys").await;
    let (memory, cpu_before, began) = (redis.info("used_memory").await, cpu().await, Instant::now());
    let mut next = 0..count;
    while !next.is_empty() {
        let some: Vec<_> = next.by_ref().take(200).collect();
        join_all(some.into_iter().map(|n| {
            let agent = client.agent(code(&simulator)).shared_as(&format!("agent {n}"));
            async move { agent.log_in().await.unwrap() }
        }))
        .await;
    }
    let (took, cpu) = (began.elapsed(), cpu().await - cpu_before);
    let memory = (redis.info("used_memory").await - memory) / count as f64;
    // Two a login; those which found that Redis had not seen the script yet; and the checks.
    let (asked, others) = (redis.info("cmdstat_evalsha").await, 2.0 * 200.0 + took.as_secs_f64() + 10.0);
    println!(
        "{count} identities, {memory:.0} bytes each, {:.0} logins/s here, {:.0} us of Redis a login, {asked} commands",
        count as f64 / took.as_secs_f64(),
        cpu / count as f64 * 1e6,
    );
    // Of a few, what a connection takes counts too.
    assert!(memory < 3_000.0, "{memory} bytes each");
    assert!(asked < 2.0 * count as f64 + others, "{asked} commands");
}
