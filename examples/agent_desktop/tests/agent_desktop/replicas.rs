//! Three replicas of the example behind any balancer are one service.

#[path = "../../../../tests/common/redis.rs"]
#[expect(dead_code, reason = "the crate's own tests use the rest of it")]
mod redis_server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use genesys_scripts::simulator::{Fault, Simulator};
use redis_server::Redis;
use reqwest::{Client, Response};
use tokio::sync::RwLock;
use tokio::time::{Instant, sleep, timeout};

use crate::serving::Serving;
use crate::{chosen, cookie, http, location};

/// As a balancer has it: each request goes to the next of those that are in.
struct Balancer {
    http: Client,
    urls: RwLock<Vec<String>>,
    next: AtomicUsize,
}

impl Balancer {
    async fn next(&self) -> String {
        let urls = self.urls.read().await;
        urls[self.next.fetch_add(1, Ordering::SeqCst) % urls.len()].clone()
    }

    /// Whoever is shut down gets no more, and ends what it has.
    async fn take_out(&self, url: &str) {
        self.urls.write().await.retain(|each| each != url);
    }

    async fn get(&self, path: &str, cookie: &str) -> reqwest::Result<Response> {
        self.http.get(format!("{}{path}", self.next().await)).header("cookie", cookie).send().await
    }

    /// From the login to the session's cookie, each step at another replica.
    async fn log_in(&self) -> String {
        let sent = self.get("/login", "").await.unwrap();
        let agreed = self.http.get(location(&sent)).send().await.unwrap();
        let back = location(&agreed).replace("http://desktop.example", "");
        let back = self.get(&back, &cookie(&sent, "login")).await.unwrap();
        let session = (back.status() == 303).then(|| cookie(&back, "session"));
        match session {
            Some(session) => session,
            None => panic!("{}: {}", back.status(), back.text().await.unwrap()),
        }
    }
}

/// Calls of all agents, one after another of each, until it is over; what was answered other than 200, and by whom.
async fn call(
    balancer: &Arc<Balancer>,
    sessions: &[String],
    script: &str,
    is_over: &Arc<AtomicBool>,
) -> (usize, Vec<String>) {
    // A hundred in a second, however many they are.
    let pause = Duration::from_millis(10) * sessions.len() as u32;
    let calling = sessions.iter().map(|session| {
        let (balancer, session, script, is_over) =
            (Arc::clone(balancer), session.clone(), script.to_owned(), Arc::clone(is_over));
        tokio::spawn(async move {
            let (mut calls, mut wrong) = (0, Vec::new());
            while !is_over.load(Ordering::SeqCst) {
                calls += 1;
                match balancer.get(&script, &session).await {
                    Ok(answer) if answer.status() == 200 => {}
                    Ok(answer) => wrong.push(format!("{}: {}", answer.status(), answer.text().await.unwrap())),
                    // By the one that was killed.
                    Err(error) => wrong.push(format!("no answer from {}", error.url().unwrap().port().unwrap())),
                }
                sleep(pause).await;
            }
            (calls, wrong)
        })
    });
    let mut all = (0, Vec::new());
    for called in join_all(calling.collect::<Vec<_>>()).await {
        let (calls, wrong) = called.unwrap();
        all.0 += calls;
        all.1.extend(wrong);
    }
    all
}

/// So many at once, of however many there are: this machine has the replicas, the service and the browsers.
const AT_ONCE: usize = 40;

async fn logged_in(balancer: &Balancer, agents: u64) -> Vec<String> {
    stream::iter(0..agents).map(|_| balancer.log_in()).buffered(AT_ONCE).collect().await
}

/// A call of each agent at each replica.
async fn at_each(balancer: &Balancer, replicas: &[Serving], sessions: &[String], script: &str) {
    for replica in replicas {
        let calls = stream::iter(sessions)
            .map(|session| balancer.http.get(format!("{}{script}", replica.url)).header("cookie", session).send());
        let mut answers = calls.buffered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            let answer = answer.unwrap();
            assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        }
    }
}

async fn desktop(simulator: &Simulator, redis: &str) -> (Vec<Serving>, Arc<Balancer>) {
    let store = ["--redis", redis, "--url", "http://desktop.example/"];
    let replicas = join_all((0..3).map(|_| Serving::start("127.0.0.1:0", Some(simulator), &store))).await;
    let http = http();
    let urls = RwLock::new(replicas.iter().map(|replica| replica.url.clone()).collect());
    (replicas, Arc::new(Balancer { http, urls, next: AtomicUsize::new(0) }))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_killed_and_one_shut_down_cost_no_login_and_no_session() {
    let Some(redis) = Redis::start(&[]) else { return };
    let agents = chosen("AGENTS", 40) as u64;
    let simulator = Simulator::builder().rate_limit(0).start().await.unwrap();
    let (mut replicas, balancer) = desktop(&simulator, &redis.url()).await;
    let sessions = logged_in(&balancer, agents).await;
    let script = format!("/scripts/{}", simulator.script_ids()[0]);
    let is_over = Arc::new(AtomicBool::new(false));
    let meanwhile = async {
        // Each replica has brought sessions; one is killed, with calls under way.
        sleep(Duration::from_secs(1)).await;
        let mut killed = replicas.pop().unwrap();
        killed.kill().await;
        balancer.take_out(&killed.url).await;
        sleep(Duration::from_secs(1)).await;
        // One is shut down, while it and the last refresh; it gets no more calls shortly before.
        simulator.set_latency(Duration::from_millis(700));
        simulator.expire_tokens();
        sleep(Duration::from_millis(300)).await;
        let stopped = replicas.pop().unwrap();
        balancer.take_out(&stopped.url).await;
        sleep(Duration::from_millis(100)).await;
        let left = stopped.stop().await;
        let refreshed = async {
            while simulator.stats().tokens_issued < agents * 2 {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(120), refreshed).await.expect("each agent is refreshed");
        is_over.store(true, Ordering::SeqCst);
        (killed.url, left)
    };
    let (called, (killed, left)) = tokio::join!(call(&balancer, &sessions, &script, &is_over), meanwhile);
    assert!(left.contains("all sessions are stored"), "{left}");
    let (calls, wrong) = called;
    println!("{agents} agents, {calls} calls, not answered by the one that was killed: {}", wrong.len());
    let of_killed = format!("no answer from {}", killed.rsplit_once(':').unwrap().1);
    assert!(wrong.iter().all(|wrong| *wrong == of_killed), "{wrong:?}");
    let stats = simulator.stats();
    assert_eq!(stats.tokens_issued, agents * 2, "a login each, and a refresh");
    assert_eq!(stats.logins.keys().collect::<Vec<_>>(), ["200"], "no refresh token was lost, or spent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_for_a_while_all_calls_are_served() {
    let Some(redis) = Redis::start(&[]) else { return };
    let (agents, away) = (chosen("AGENTS", 40) as u64, Duration::from_secs(chosen("AWAY", 3) as u64));
    let simulator = Simulator::builder().rate_limit(0).start().await.unwrap();
    let (replicas, balancer) = desktop(&simulator, &redis.url()).await;
    let sessions = logged_in(&balancer, agents).await;
    let script = format!("/scripts/{}", simulator.script_ids()[0]);
    // Each replica has served each agent.
    at_each(&balancer, &replicas, &sessions, &script).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let is_there = async |expected: bool| {
        let expected = format!(r#""session_store":{{"is_there":{expected}"#);
        let began = Instant::now();
        for replica in &replicas {
            loop {
                let answer = balancer.http.get(format!("{}/health", replica.url)).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                let health = answer.text().await.unwrap();
                if health.contains(&expected) {
                    break;
                }
                assert!(began.elapsed() < Duration::from_secs(120), "{health}");
                sleep(Duration::from_millis(50)).await;
            }
        }
        began.elapsed()
    };
    let meanwhile = async {
        sleep(Duration::from_millis(500)).await;
        redis.signal("STOP");
        let noticed = is_there(false).await;
        sleep(away.saturating_sub(noticed)).await;
        redis.signal("CONT");
        let back = is_there(true).await;
        is_over.store(true, Ordering::SeqCst);
        (noticed, back)
    };
    let ((calls, wrong), (noticed, back)) = tokio::join!(call(&balancer, &sessions, &script, &is_over), meanwhile);
    println!("{agents} agents, {calls} calls, away for {away:?}: noticed in {noticed:.1?}, back in {back:.1?}");
    assert!(wrong.is_empty(), "{wrong:?}");
    // Shared again: one refresh each, wherever they come.
    simulator.expire_tokens();
    at_each(&balancer, &replicas, &sessions, &script).await;
    let stats = simulator.stats();
    assert_eq!((stats.tokens_issued, stats.logins.len()), (agents * 2, 1));
    for replica in replicas {
        assert!(replica.stop().await.contains("all sessions are stored"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_logs_out_while_no_login_can_be_refreshed_is_logged_out_everywhere() {
    let Some(redis) = Redis::start(&[]) else { return };
    let simulator = Simulator::builder().rate_limit(0).start().await.unwrap();
    let (replicas, balancer) = desktop(&simulator, &redis.url()).await;
    let session = balancer.log_in().await;
    simulator.expire_tokens();
    simulator.set_login_fault(Fault::Reset, 1.0);
    // At each, also where the agent was never asked for.
    for replica in &replicas {
        let answer = balancer.http.post(format!("{}/logout", replica.url)).header("cookie", &session);
        let answer = answer.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), cookie(&answer, "session").as_str()), (204, "session="));
    }
    simulator.set_login_fault(Fault::Reset, 0.0);
    let script = format!("/scripts/{}", simulator.script_ids()[0]);
    for _ in &replicas {
        assert_eq!(balancer.get(&script, &session).await.unwrap().status(), 401);
    }
}
