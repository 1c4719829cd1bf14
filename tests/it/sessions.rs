//! Sessions that last: stored whatever the store does, over shutdowns and restarts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::join_all;
use genesys_scripts::simulator::Simulator;
use genesys_scripts::{
    Agent, Authorization, AuthorizationParts, Client, Credentials, ErrorKind, ImportScript, ListScripts, OAuthClient,
    Region, ScriptFile, ScriptId, Session,
};
use secrecy::ExposeSecret;
use tokio::time::{Instant, advance, sleep, timeout};

use crate::common::herd::virtually;
use crate::common::{self, Reply, Scripted, id, reply, script};

fn oauth() -> OAuthClient {
    OAuthClient::new("client-id", common::SECRET)
}

fn refresh_of(session: &Session) -> String {
    session.refresh_token.as_ref().map(|token| token.expose_secret().to_owned()).unwrap_or_default()
}

/// Each login brings the next session, `access-1` and `refresh-1` first; it takes as long as said.
fn service(login_takes: Duration) -> Scripted {
    let logins = AtomicUsize::new(0);
    Scripted::by(move |seen| match (seen.method.as_str(), seen.is_login()) {
        ("DELETE", _) => reply(204, ""),
        (_, true) => {
            let n = logins.fetch_add(1, Ordering::SeqCst) + 1;
            let body = format!(r#"{{"access_token":"access-{n}","refresh_token":"refresh-{n}","expires_in":600}}"#);
            Reply::Later(login_takes, Box::new(reply(200, body)))
        }
        _ => script(),
    })
}

/// The ways in which a store fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Broken {
    Fails,
    Panics,
    Hangs,
}

/// A store of the user's: what it holds, and how it fails while it does.
#[derive(Clone, Default)]
struct Store {
    stored: Arc<Mutex<Vec<String>>>,
    broken: Arc<Mutex<Option<Broken>>>,
    /// It is broken for this session alone.
    only: Option<&'static str>,
}

impl Store {
    fn broken(how: Broken) -> Self {
        let store = Self::default();
        store.set(Some(how));
        store
    }

    fn set(&self, broken: Option<Broken>) {
        *self.broken.lock().unwrap() = broken;
    }

    fn stored(&self) -> Vec<String> {
        self.stored.lock().unwrap().clone()
    }

    fn of(&self, agent: Agent) -> Agent {
        let store = self.clone();
        agent.on_session(move |session| {
            let store = store.clone();
            async move {
                let concerns = store.only.is_none_or(|only| only == refresh_of(&session));
                let broken = store.broken.lock().unwrap().filter(|_| concerns);
                match broken {
                    Some(Broken::Fails) => return Err("the database is away"),
                    Some(Broken::Panics) => panic!("the user's"),
                    Some(Broken::Hangs) => std::future::pending::<()>().await,
                    None => {}
                }
                store.stored.lock().unwrap().push(refresh_of(&session));
                Ok(())
            }
        })
    }
}

fn agent_of(client: &Client) -> Agent {
    client.agent(Credentials::refresh_token(oauth(), "refresh-0"))
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_ten_seconds_costs_no_call_and_no_session() {
    for how in [Broken::Fails, Broken::Panics, Broken::Hangs] {
        let transport = service(Duration::ZERO);
        let client = transport.builder().login_timeout(Duration::from_secs(2)).build().unwrap();
        let store = Store::broken(how);
        let agent = store.of(agent_of(&client));
        let began = Instant::now();
        agent.script(&id()).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(3), "{how:?}: {:?}", began.elapsed());
        let stats = client.stats();
        assert_eq!((stats.sessions_unstored, stats.session_store_failures), (1, 1), "{how:?}");
        sleep(Duration::from_secs(10)).await;
        agent.script(&id()).await.unwrap();
        let failures = client.stats().session_store_failures;
        assert!((3..=8).contains(&failures), "{how:?}: {failures} failures in 10 s");
        assert!(store.stored().is_empty());
        store.set(None);
        sleep(Duration::from_secs(30)).await;
        assert_eq!((store.stored(), client.stats().sessions_unstored), (vec!["refresh-1".to_owned()], 0), "{how:?}");
        assert_eq!(transport.logins(), 1);
    }
}

/// What is written to a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_cannot_be_stored_is_tried_again_after_pauses_that_double_and_the_log_says_so() {
    const BOUNDS: [f64; 10] = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0];
    for seed in 0..10 {
        let log = Log::default();
        let writer = log.clone();
        let _guard = crate::common::listen_here(
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish(),
        );
        let tried: Arc<Mutex<Vec<Instant>>> = Arc::default();
        let told = Arc::clone(&tried);
        let client = service(Duration::ZERO).builder().seed(seed).build().unwrap();
        let agent = agent_of(&client).on_session(move |_| {
            let mut tried = told.lock().unwrap();
            tried.push(Instant::now());
            let is_away = tried.len() <= BOUNDS.len();
            async move { if is_away { Err("the database is away") } else { Ok(()) } }
        });
        agent.script(&id()).await.unwrap();
        sleep(Duration::from_secs(300)).await;
        let tried = tried.lock().unwrap();
        let pauses: Vec<f64> = tried.windows(2).map(|two| (two[1] - two[0]).as_secs_f64()).collect();
        assert_eq!(pauses.len(), BOUNDS.len());
        for (pause, bound) in pauses.iter().zip(BOUNDS) {
            // Tokio's clock goes by milliseconds.
            assert!((0.75 * bound..=bound + 0.002).contains(pause), "{pauses:?}");
        }
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("a session is not stored") && log.contains("the database is away"), "{log}");
        assert_eq!(log.matches("a session is stored after all").count(), 1, "{log}");
    }
    // One that is stored at once is nothing to write of.
    let log = Log::default();
    let writer = log.clone();
    let _guard = crate::common::listen_here(
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish(),
    );
    Store::default().of(agent_of(&service(Duration::ZERO).client())).script(&id()).await.unwrap();
    assert_eq!(String::from_utf8(log.0.lock().unwrap().clone()).unwrap(), "");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_recovers_is_asked_for_a_day_and_no_longer() {
    let client = service(Duration::ZERO).client();
    let store = Store::broken(Broken::Fails);
    let agent = store.of(agent_of(&client));
    agent.script(&id()).await.unwrap();
    sleep(Duration::from_secs(60 * 60)).await;
    let of_an_hour = client.stats().session_store_failures;
    assert!((100..=200).contains(&of_an_hour), "{of_an_hour} times in an hour");
    sleep(Duration::from_secs(25 * 60 * 60)).await;
    let (of_a_day, unstored) = (client.stats().session_store_failures, client.stats().sessions_unstored);
    sleep(Duration::from_secs(24 * 60 * 60)).await;
    assert!((20 * of_an_hour..=25 * of_an_hour).contains(&of_a_day), "{of_a_day} times in a day");
    assert_eq!((client.stats().session_store_failures, unstored), (of_a_day, 0));
}

#[tokio::test(start_paused = true)]
async fn no_session_is_stored_after_a_newer_one() {
    for how in [Broken::Fails, Broken::Panics, Broken::Hangs] {
        let client = service(Duration::ZERO).client();
        let store = Store { only: Some("refresh-1"), ..Store::broken(how) };
        let agent = store.of(agent_of(&client));
        agent.script(&id()).await.unwrap();
        sleep(Duration::from_secs(601)).await;
        agent.script(&id()).await.unwrap();
        store.set(None);
        sleep(Duration::from_secs(300)).await;
        assert_eq!(store.stored(), ["refresh-2"], "{how:?}");
        assert_eq!(client.stats().sessions_unstored, 0, "{how:?}");
    }
    // One that is still being stored holds up the newer one, and does not overtake it.
    let client = service(Duration::ZERO).builder().login_timeout(Duration::from_secs(5)).build().unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&order);
    let agent = agent_of(&client).on_session(move |session| {
        let told = Arc::clone(&told);
        async move {
            let refresh = refresh_of(&session);
            if refresh == "refresh-1" && told.lock().unwrap().is_empty() {
                told.lock().unwrap().push("begun".to_owned());
                return Err("once");
            }
            sleep(Duration::from_secs(3)).await;
            told.lock().unwrap().push(refresh);
            Ok(())
        }
    });
    agent.script(&id()).await.unwrap();
    // Its second try began.
    sleep(Duration::from_secs(1)).await;
    advance(Duration::from_secs(600)).await;
    agent.script(&id()).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(order.lock().unwrap().last().map(String::as_str), Some("refresh-2"));
}

#[tokio::test(start_paused = true)]
async fn after_a_logout_no_session_is_stored() {
    for how in [Broken::Fails, Broken::Panics, Broken::Hangs] {
        let client = service(Duration::ZERO).client();
        let store = Store::broken(how);
        let agent = store.of(agent_of(&client));
        agent.script(&id()).await.unwrap();
        agent.log_out().await.unwrap();
        store.set(None);
        sleep(Duration::from_secs(300)).await;
        assert_eq!((store.stored().len(), client.stats().sessions_unstored), (0, 0), "{how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_calls_end_and_refuses_new_ones() {
    let transport = service(Duration::from_secs(2)).with_latency(Duration::from_secs(3));
    let client = transport.client();
    let agents: Vec<_> = (0..20).map(|_| agent_of(&client)).collect();
    let id = id();
    let calls = join_all(agents.iter().map(|agent| agent.script(&id)));
    let shut_down = async {
        sleep(Duration::from_secs(1)).await;
        let left = client.shut_down(Duration::from_secs(60)).await;
        assert!(left.is_complete(), "{left}");
        Instant::now()
    };
    let refused = async {
        sleep(Duration::from_secs(2)).await;
        let sent = transport.seen().len();
        let agent = agent_of(&client);
        let errors = [
            agent.script(&id).await.map(drop).unwrap_err(),
            agent.log_in().await.unwrap_err(),
            agent.log_out().await.unwrap_err(),
            agent.delete(&id).await.unwrap_err(),
            agent.scripts(ListScripts::default()).try_next().await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.kind(), error.attempts(), error.may_have_been_sent()), (ErrorKind::ShutDown, 0, false));
            assert!(error.to_string().contains("shut down; nothing was sent"), "{error}");
            assert!(!error.is_retryable());
        }
        assert_eq!(transport.seen().len(), sent);
    };
    let began = Instant::now();
    let (served, ended, ()) = tokio::join!(calls, shut_down, refused);
    for call in served {
        call.unwrap();
    }
    // The login, then the call: the second of waiting was not the end.
    assert_eq!(ended - began, Duration::from_secs(8));
    let left = client.shut_down(Duration::from_secs(60)).await;
    assert!(left.is_complete(), "once more: {left}");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_nobody_waits_for_is_stored_before_the_shutdown_ends() {
    // An early refresh; one whose caller stopped waiting; one that the store fails at first.
    for (caller_waits, broken) in [(true, false), (false, false), (true, true)] {
        let transport = service(Duration::from_secs(5));
        let client = transport.client();
        let store = Store::default();
        let agent = store.of(agent_of(&client));
        agent.script(&id()).await.unwrap();
        if caller_waits {
            // Nearly over, but good: the call is served with it, while it is replaced.
            advance(Duration::from_secs(590)).await;
            agent.script(&id()).await.unwrap();
        } else {
            advance(Duration::from_secs(601)).await;
            timeout(Duration::from_secs(1), agent.script(&id())).await.unwrap_err();
        }
        if broken {
            store.set(Some(Broken::Fails));
            let store = store.clone();
            tokio::spawn(async move {
                sleep(Duration::from_secs(10)).await;
                store.set(None);
            });
        }
        assert_eq!(store.stored(), ["refresh-1"]);
        let left = client.shut_down(Duration::from_secs(30)).await;
        assert!(left.is_complete(), "{left}");
        assert_eq!(store.stored(), ["refresh-1", "refresh-2"], "{caller_waits} {broken}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_waits_to_be_stored_is_stored_at_once_when_the_client_shuts_down() {
    let client = service(Duration::ZERO).client();
    let store = Store::broken(Broken::Fails);
    let agent = store.of(agent_of(&client));
    agent.script(&id()).await.unwrap();
    sleep(Duration::from_secs(300)).await;
    store.set(None);
    let began = Instant::now();
    let left = client.shut_down(Duration::from_secs(30)).await;
    assert!(left.is_complete(), "{left}");
    assert_eq!((store.stored(), began.elapsed()), (vec!["refresh-1".to_owned()], Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_a_shutdown_says_what_is_left() {
    let transport = Scripted::by(|seen| match seen.is_login() {
        true => reply(200, r#"{"access_token":"a","refresh_token":"r"}"#),
        false => Reply::Silence,
    });
    let client = transport.client();
    let store = Store::broken(Broken::Fails);
    let (silent, unstored) = (store.of(agent_of(&client)), store.of(agent_of(&client)));
    unstored.log_in().await.unwrap();
    let call = tokio::spawn(async move { silent.script(&id()).await });
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let left = client.shut_down(Duration::from_secs(5)).await;
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert_eq!((left.calls, left.logins, left.sessions, left.is_complete()), (1, 0, 2, false));
    assert!(left.to_string().contains("calls under way 1") && left.to_string().contains("not stored 2"), "{left}");
    call.abort();
}

#[tokio::test(start_paused = true)]
async fn an_import_under_way_is_one_call_to_a_shutdown() {
    let simulator = Simulator::builder().upload_time(Duration::from_secs(20)).in_process().unwrap();
    let client = client_of(&simulator);
    let agent = client.agent(Credentials::client("desktop", "simulator"));
    let exported = agent.export_file(&scripts_of(&simulator)[0], &Default::default()).await.unwrap();
    let file = ScriptFile::from_slice(exported.as_str().as_bytes()).unwrap();
    let importing = tokio::spawn(async move {
        let options = ImportScript { name: Some("Inbound, new".to_owned()), ..ImportScript::default() };
        agent.import(&file, &options).await
    });
    sleep(Duration::from_secs(2)).await;
    let left = client.shut_down(Duration::from_secs(100)).await;
    assert!(left.is_complete(), "{left}");
    assert!(importing.await.unwrap().unwrap().script_id().is_some());
}

#[test]
fn a_session_goes_through_serde_and_back() {
    let mut session = Session::from_refresh_token("refresh-1");
    session.access_token = Some("access-1".into());
    session.expires_at = Some(std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(2_000_000_000_123));
    for session in [session, Session::from_access_token("access-2"), Session::from_refresh_token("refresh-3")] {
        let text = serde_json::to_string(&session).unwrap();
        let back: Session = serde_json::from_str(&text).unwrap();
        let parts = |session: &Session| {
            let access = session.access_token.as_ref().map(|token| token.expose_secret().to_owned());
            (access, refresh_of(session), session.expires_at)
        };
        assert_eq!(parts(&back), parts(&session), "{text}");
        assert!(!format!("{session:?}").contains("ess-"));
    }
    let sparse: Session = serde_json::from_str(r#"{"refresh_token":"r","added":"later"}"#).unwrap();
    assert_eq!(refresh_of(&sparse), "r");
}

#[tokio::test(start_paused = true)]
async fn any_replica_takes_the_return_of_an_authorization_begun_by_another() {
    let simulator = Simulator::builder().in_process().unwrap();
    let here = Region::custom(simulator.url(), simulator.url(), simulator.url()).unwrap();
    let client = || OAuthClient::public("desktop");
    let begun = Authorization::begin(&here, client(), "https://desk.example/back").unwrap();
    let url = reqwest::Url::parse(begun.url()).unwrap();
    let query: HashMap<_, _> = url.query_pairs().into_owned().collect();
    let code =
        simulator.authorization_code("desktop", "https://desk.example/back", query.get("code_challenge").map(|c| &**c));
    let kept = serde_json::to_string(&begun.into_parts()).unwrap();

    let parts: AuthorizationParts = serde_json::from_str(&kept).unwrap();
    assert!(!format!("{parts:?}").contains(&query["state"]), "{parts:?}");
    let other = Authorization::from_parts(client(), parts.clone()).unwrap();
    assert_eq!(other.url(), url.as_str());
    let forged = other.clone().credentials("https://desk.example/back?code=x&state=forged").unwrap_err();
    assert_eq!(forged.kind(), ErrorKind::LoginRefused);
    let returned = format!("https://desk.example/back?code={code}&state={}", query["state"]);
    client_of(&simulator).agent(other.credentials(&returned).unwrap()).log_in().await.unwrap();

    for empty in ["state", "verifier"] {
        let mut value: serde_json::Value = serde_json::from_str(&kept).unwrap();
        value[empty] = "".into();
        let parts = serde_json::from_value(value).unwrap();
        assert_eq!(Authorization::from_parts(client(), parts).unwrap_err().kind(), ErrorKind::InvalidInput, "{empty}");
    }
}

/// A handler has the whole address, or what its framework left of it.
#[test]
fn the_return_of_an_authorization_is_read_from_whatever_a_handler_has() {
    let begin =
        || Authorization::begin(&Region::EU_WEST_1, OAuthClient::public("desktop"), "https://desk.example/back");
    let begun = begin().unwrap();
    let state =
        reqwest::Url::parse(begun.url()).unwrap().query_pairs().find(|(key, _)| key == "state").unwrap().1.into_owned();
    for before in ["https://desk.example/back?", "https://desk.example/back;a=b?", "/back?", "back?", "?", ""] {
        let returned = format!("{before}code=c0de&state={state}");
        let Ok(Credentials::AuthorizationCode { code, .. }) = begun.clone().credentials(&returned) else {
            panic!("{returned}");
        };
        assert_eq!(code.expose_secret(), "c0de");
        let denied = format!("{before}error=access_denied&state={state}");
        assert!(begun.clone().credentials(&denied).unwrap_err().to_string().contains("\"access_denied\""), "{denied}");
        let asked = format!("{before}error=access_denied&error_description=Again?&state={state}");
        assert!(begun.clone().credentials(&asked).unwrap_err().to_string().contains("\"Again?\""), "{asked}");
    }
    for nothing in ["", "?", "https://desk.example/back", "c0de"] {
        let error = begun.clone().credentials(nothing).unwrap_err();
        assert!(error.to_string().contains("without `state`"), "{nothing}: {error}");
    }
    // Whoever sent it: what it says is shown, and believed no more than that.
    let error = begun.credentials("/back?error=access_denied&error_description=No%1b").unwrap_err().to_string();
    assert!(error.contains("without `state`") && error.contains("\"access_denied\", \"No\\u{1b}\""), "{error}");
}

fn client_of(simulator: &Simulator) -> Client {
    let here = Region::custom(simulator.url(), simulator.url(), simulator.url()).unwrap();
    Client::builder(here).with_middleware(simulator.transport()).build().unwrap()
}

fn scripts_of(simulator: &Simulator) -> Vec<ScriptId> {
    simulator.script_ids().iter().map(|id| id.parse().unwrap()).collect()
}

type Rows = Arc<Mutex<HashMap<usize, Session>>>;

/// An agent whose sessions are rows of the database, which is away while that is said.
fn kept(client: &Client, number: usize, credentials: Credentials, rows: &Rows, away: &Arc<AtomicBool>) -> Agent {
    let (rows, away) = (Arc::clone(rows), Arc::clone(away));
    client.agent(credentials).on_session(move |session| {
        let (rows, away) = (Arc::clone(&rows), Arc::clone(&away));
        async move {
            sleep(Duration::from_millis(5)).await;
            if away.load(Ordering::SeqCst) {
                return Err("the database is away");
            }
            rows.lock().unwrap().insert(number, session);
            Ok(())
        }
    })
}

fn code_of(simulator: &Simulator) -> Credentials {
    Credentials::AuthorizationCode {
        client: OAuthClient::new("desktop", "simulator"),
        code: simulator.authorization_code("desktop", "https://desk.example/back", None).into(),
        redirect_uri: "https://desk.example/back".into(),
        verifier: None,
    }
}

/// Twenty restarts of a service with so many agents, each with calls and refreshes under way; the store is away now and then.
async fn restarts(agents: usize) {
    const RESTARTS: u32 = 20;
    let simulator = Simulator::builder().rate_limit(0).in_process().unwrap();
    let (rows, away, scripts) = (Rows::default(), Arc::new(AtomicBool::new(false)), scripts_of(&simulator));
    let mut client = client_of(&simulator);
    let mut desk: Vec<Agent> =
        (0..agents).map(|number| kept(&client, number, code_of(&simulator), &rows, &away)).collect();
    for login in join_all(desk.iter().map(Agent::log_in)).await {
        login.unwrap();
    }
    for restart in 0..RESTARTS {
        // Every token is refreshed with the next call; the shutdown comes at another moment of that each time.
        simulator.expire_tokens();
        if restart % 4 == 3 {
            away.store(true, Ordering::SeqCst);
            let back = Arc::clone(&away);
            tokio::spawn(async move {
                sleep(Duration::from_secs(10)).await;
                back.store(false, Ordering::SeqCst);
            });
        }
        let call = |number: usize, patience: u64| {
            let (agent, script) = (desk[number].clone(), scripts[number % scripts.len()].clone());
            tokio::spawn(async move { timeout(Duration::from_millis(patience), agent.script(&script)).await })
        };
        // The last third of the browsers come just before the end and do not wait: their refreshes go on without them.
        let (waiting, hurried) = (0..agents * 2 / 3, agents * 2 / 3..agents);
        let mut calls: Vec<_> = waiting.map(|number| call(number, 60_000)).collect();
        sleep(Duration::from_millis(u64::from(4 * restart) + 1)).await;
        calls.extend(hurried.map(|number| call(number, 10)));
        sleep(Duration::from_millis(1)).await;
        let left = client.shut_down(Duration::from_secs(60)).await;
        assert!(left.is_complete(), "restart {restart}: {left}");
        for call in calls {
            if let Ok(answer) = call.await.unwrap() {
                answer.unwrap();
            }
        }
        // Nothing of the old process is left but the rows.
        drop(desk);
        client = client_of(&simulator);
        let stored = rows.lock().unwrap().clone();
        assert_eq!(stored.len(), agents);
        desk = (0..agents)
            .map(|number| {
                let session = stored[&number].clone();
                let credentials = Credentials::Session { client: OAuthClient::new("desktop", "simulator"), session };
                kept(&client, number, credentials, &rows, &away)
            })
            .collect();
    }
    let id = &scripts[0];
    for call in join_all(desk.iter().map(|agent| agent.script(id))).await {
        call.unwrap();
    }
    // One login each, and one refresh each a restart.
    assert_eq!(simulator.stats().tokens_issued, agents as u64 * u64::from(1 + RESTARTS));
}

#[test]
fn twenty_restarts_lose_no_session_and_fail_no_call() {
    virtually(restarts(if cfg!(debug_assertions) { 100 } else { 500 }));
}
