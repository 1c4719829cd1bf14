//! Failures that pass, and those that do not: what they cost those who wait, and that they cost nobody else anything. On a
//! paused clock, without sockets.

use std::time::Duration;

use genesys_scripts::simulator::Simulator;
use genesys_scripts::{
    Agent, Client, Credentials, Error, ErrorKind, ListScripts, PublishScript, ReadScript, RetryPolicy, ScriptId,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::common::herd::{seeds, virtually};
use crate::common::{Reply, Scripted, credentials, id, reply, script, token};

const LATENCY: Duration = Duration::from_millis(100);
/// Two attempts' time, and a backoff.
const SETTLING: Duration = Duration::from_secs(1);

/// What one call came to.
struct Done {
    begun: Duration,
    took: Duration,
    result: Result<(), Error>,
}

/// A service that answers as this says, given the time since it was made and the path.
fn service(answer: impl Fn(Duration, &str) -> Reply + Send + Sync + 'static) -> Scripted {
    let made = Instant::now();
    Scripted::by(move |seen| match seen.is_login() {
        true => token("t0ken"),
        false => answer(made.elapsed(), &seen.url),
    })
    .with_latency(LATENCY)
}

async fn agents(transport: &Scripted, count: usize, policy: RetryPolicy, seed: u64) -> Vec<Agent> {
    let client = transport.builder().seed(seed).retry(policy).build().unwrap();
    let agents: Vec<_> = (0..count).map(|_| client.agent(credentials())).collect();
    let mut logins = JoinSet::new();
    for agent in agents.clone() {
        logins.spawn(async move { agent.log_in().await.unwrap() });
    }
    logins.join_all().await;
    agents
}

async fn once(agent: &Agent, begun: Duration) -> Done {
    let started = Instant::now();
    let result = agent.script(&id()).await.map(drop);
    Done { begun, took: started.elapsed(), result }
}

/// So many calls a second for so long, by the agents in turn.
async fn steadily(agents: &[Agent], a_second: u32, lasts: Duration) -> Vec<Done> {
    let (start, mut calls) = (Instant::now(), JoinSet::new());
    for (number, agent) in (0..a_second * lasts.as_secs() as u32).zip(agents.iter().cycle()) {
        let (agent, begun) = (agent.clone(), Duration::from_secs(1) * number / a_second);
        calls.spawn(async move {
            sleep_until(start + begun).await;
            once(&agent, begun).await
        });
    }
    calls.join_all().await
}

/// The middle one of what the calls took, and the one that 99 % keep.
fn quantiles(done: &[Done]) -> (Duration, Duration) {
    let mut took: Vec<_> = done.iter().map(|call| call.took).collect();
    took.sort();
    (took[took.len() / 2], took[took.len() * 99 / 100])
}

#[test]
fn errors_whatever_the_load_cost_a_retry_and_nobody_else_anything() {
    const DEFINITION: &str = r#"{"code":"bad_request","message":"Invalid script definition"}"#;
    for (status, body) in [(500, ""), (503, ""), (400, DEFINITION)] {
        for share in [0.01, 0.05, 0.1] {
            for a_second in [200, 800] {
                virtually(async move {
                    let luck = std::sync::Mutex::new(fastrand::Rng::with_seed(7));
                    let transport = service(move |_, _| match luck.lock().unwrap().f64() < share {
                        true => reply(status, body),
                        false => script(),
                    });
                    let agents = agents(&transport, 150, RetryPolicy::default(), 1).await;
                    let done = steadily(&agents, a_second, Duration::from_secs(2)).await;
                    let failed = done.iter().filter(|call| call.result.is_err()).count();
                    let (p50, p99) = quantiles(&done);
                    assert_eq!((failed, p50), (0, LATENCY), "{share} of {status} at {a_second}/s");
                    assert!(p99 <= Duration::from_millis(1_500), "{p99:?}, {share} of {status} at {a_second}/s");
                });
            }
        }
    }
}

#[test]
fn slowness_without_failures_adds_nothing() {
    let slow = |latency| Reply::Later(latency - LATENCY, Box::new(script()));
    let spell = Duration::from_secs(5)..Duration::from_secs(25);
    type Latency = Box<dyn Fn(Duration) -> Duration + Send + Sync>;
    let worlds: [(u32, Latency); 3] = [
        (200, Box::new(move |at| if spell.contains(&at) { Duration::from_secs(5) } else { LATENCY })),
        (200, Box::new(|_| Duration::from_secs(5))),
        (1_000, Box::new(|_| Duration::from_secs(1))),
    ];
    for (a_second, latency) in worlds {
        virtually(async move {
            let transport = service(move |at, _| slow(latency(at)));
            let client = transport.client();
            let agents: Vec<_> = (0..500).map(|_| client.agent(credentials())).collect();
            for agent in &agents {
                agent.log_in().await.unwrap();
            }
            let sent = transport.calls().len();
            let done = steadily(&agents, a_second, Duration::from_secs(if a_second > 200 { 5 } else { 30 })).await;
            assert!(done.iter().all(|call| call.result.is_ok()));
            assert!(done.iter().all(|call| call.took <= Duration::from_secs(5)), "something was added");
            assert_eq!(transport.calls().len() - sent, done.len(), "one request a call");
        });
    }
}

#[test]
fn a_route_that_fails_hangs_or_is_limited_disturbs_no_other() {
    let limited = || reply(429, "").with("retry-after", "20");
    let shown = move || {
        limited()
            .with("inin-ratelimit-allowed", "300")
            .with("inin-ratelimit-count", "6")
            .with("inin-ratelimit-reset", "60")
    };
    let hour = || reply(429, "").with("retry-after", "3600");
    let small = || {
        reply(200, "{}")
            .with("inin-ratelimit-allowed", "3")
            .with("inin-ratelimit-count", "3")
            .with("inin-ratelimit-reset", "60")
    };
    let bad: [fn() -> Reply; 4] = [
        || reply(503, ""),
        || reply(500, ""),
        || Reply::Silence,
        || Reply::Broken(std::io::ErrorKind::ConnectionReset),
    ];
    let limits: [Box<dyn Fn() -> Reply + Send + Sync>; 4] =
        [Box::new(limited), Box::new(shown), Box::new(hour), Box::new(small)];
    let bad = bad.into_iter().map(|bad| Box::new(bad) as Box<dyn Fn() -> Reply + Send + Sync>);
    for (number, bad) in bad.chain(limits).enumerate() {
        virtually(async move {
            let transport = service(move |_, url| match url.contains("/variables") {
                true => bad(),
                false => script()
                    .with("inin-ratelimit-allowed", "100000")
                    .with("inin-ratelimit-count", "7")
                    .with("inin-ratelimit-reset", "60"),
            });
            let agents = agents(&transport, 20, RetryPolicy::default(), 1).await;
            // The same agents ask the bad route, 100 times a second.
            let asking: Vec<_> = agents
                .iter()
                .cloned()
                .map(|agent| {
                    tokio::spawn(async move {
                        let mut calls = JoinSet::new();
                        for _ in 0..100 {
                            let agent = agent.with_timeout(Duration::from_secs(20));
                            calls.spawn(async move { agent.published_variables(&id(), &Default::default()).await });
                            tokio::time::sleep(Duration::from_millis(200)).await;
                        }
                        calls.join_all().await
                    })
                })
                .collect();
            let done = steadily(&agents, 100, Duration::from_secs(20)).await;
            assert!(done.iter().all(|call| call.result.is_ok()), "{number}: a healthy call failed");
            let (p50, p99) = quantiles(&done);
            assert_eq!((p50, p99), (LATENCY, LATENCY), "{number}: healthy calls were held up");
            asking.iter().for_each(tokio::task::JoinHandle::abort);
        });
    }
}

#[test]
fn an_outage_that_passes_is_waited_out_by_everyone() {
    for (agents_count, outage_ms) in
        [(150, 100), (150, 500), (150, 1_500), (150, 3_000), (150, 8_000), (5_000, 1_500), (5_000, 8_000)]
    {
        for seed in 0..seeds(1) {
            virtually(async move {
                let outage = Duration::from_millis(outage_ms);
                let made = Instant::now();
                let begins = Duration::from_secs(1);
                let transport = service(move |at, _| match (begins..begins + outage).contains(&at) {
                    true => reply(503, ""),
                    false => script(),
                });
                let agents = agents(&transport, agents_count, RetryPolicy::default(), seed).await;
                sleep_until(made + begins).await;
                let mut calls = JoinSet::new();
                for agent in agents {
                    calls.spawn(async move { once(&agent, Duration::ZERO).await });
                }
                let done = calls.join_all().await;
                let failed = done.iter().filter(|call| call.result.is_err()).count();
                assert_eq!(failed, 0, "{failed} of {agents_count} failed in an outage of {outage:?}");
                let last = done.iter().map(|call| call.took).max().unwrap();
                println!("{agents_count} agents, {outage:?}: the last after {last:?}");
                assert!(last <= outage + Duration::from_secs(4), "{last:?}");
            });
        }
    }
}

/// Down from the fifth second on, for a minute, at 125 calls a second.
async fn a_minute_down(down: fn() -> Reply, policy: RetryPolicy, seed: u64) -> (Scripted, Vec<Done>) {
    let transport = service(move |at, _| match (DOWN..DOWN + MINUTE).contains(&at) {
        true => down(),
        false => script(),
    });
    let agents = agents(&transport, 150, policy, seed).await;
    let started = transport.calls().len();
    let done = steadily(&agents, 125, DOWN + MINUTE + DOWN).await;
    assert_eq!(started, 0);
    (transport, done)
}

const DOWN: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_minute_down_costs_few_requests_and_callers_are_told_when_it_is_asked_again() {
    let refusing: fn() -> Reply = || reply(503, "");
    let hanging: fn() -> Reply = || Reply::Silence;
    for (how, down, known_after) in [("refusing", refusing, 2), ("hanging", hanging, 17)] {
        virtually(async move {
            let (transport, done) = a_minute_down(down, RetryPolicy::default(), 1).await;
            let known = DOWN + Duration::from_secs(known_after);
            let seen = transport.calls();
            let asked = |from: Duration, to: Duration| seen.iter().filter(|seen| (from..to).contains(&seen.at)).count();
            let in_all = asked(DOWN, DOWN + MINUTE);
            let after = asked(known, DOWN + MINUTE);
            println!("{how}: {in_all} requests in the minute, {after} of them once it was known");
            assert!(after as f64 <= 2.0 * (MINUTE.as_secs() - known_after) as f64, "{how}: {after} requests");
            assert!(in_all <= 40 * 60, "{how}: {in_all} requests");
            // Old by then: who calls is told soon, with when it is asked again.
            let late = DOWN + Duration::from_secs(17)..DOWN + MINUTE - Duration::from_secs(2);
            let late: Vec<_> = done.iter().filter(|call| late.contains(&call.begun)).collect();
            let told = late.iter().filter(|call| call.took <= Duration::from_secs(2)).count();
            assert_eq!(told, late.len(), "{how}: told soon");
            for call in late.iter().filter(|call| call.took <= Duration::from_secs(2)) {
                let error = call.result.as_ref().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                assert!(error.retry_after().unwrap() <= Duration::from_secs(2) && error.is_retryable(), "{error}");
            }
            let back = done.iter().filter(|call| call.begun >= DOWN + MINUTE + Duration::from_secs(2));
            assert!(back.clone().all(|call| call.result.is_ok() && call.took <= LATENCY + SETTLING), "{how}");
            assert!(back.count() > 0);
        });
    }
}

/// Whoever asks is told before it answers.
#[test]
fn a_service_that_comes_back_slow_is_found_to_be_up() {
    virtually(async {
        let up = DOWN + MINUTE;
        for answer in [script as fn() -> Reply, || reply(404, r#"{"code":"not.found"}"#)] {
            let transport = service(move |at, _| match at < up {
                true => Reply::Silence,
                false => Reply::Later(Duration::from_secs(4), Box::new(answer())),
            });
            let agents = agents(&transport, 20, RetryPolicy::default(), 1).await;
            let done = steadily(&agents, 5, MINUTE * 2).await;
            let later = done.iter().filter(|call| call.begun > up + Duration::from_secs(6));
            assert!(later.clone().count() > 100);
            for call in later {
                let is_answered = call.result.as_ref().map_or_else(|error| error.status() == Some(404), |_| true);
                assert!(is_answered && call.took < Duration::from_secs(5), "{:?}: {:?}", call.begun, call.result);
            }
        }
    });
}

#[test]
fn who_asked_to_ride_it_out_is_served() {
    virtually(async {
        let mut policy = RetryPolicy::default();
        policy.ride_out_outages = true;
        let (_, done) = a_minute_down(|| reply(503, ""), policy, 1).await;
        assert!(done.iter().all(|call| call.result.is_ok()));
    });
}

#[tokio::test(start_paused = true)]
async fn an_error_of_an_outage_says_what_came_last_and_keeps_its_status() {
    let transport = service(|_, _| reply(503, r#"{"message":"down","code":"service.unavailable","status":503}"#));
    let agents = agents(&transport, 20, RetryPolicy::default(), 1).await;
    let done = steadily(&agents, 50, Duration::from_secs(30)).await;
    let unavailable: Vec<_> = done.iter().filter_map(|call| call.result.as_ref().err()).collect();
    let unavailable: Vec<_> = unavailable.into_iter().filter(|error| error.kind() == ErrorKind::Unavailable).collect();
    assert!(!unavailable.is_empty());
    for error in unavailable {
        assert!(error.to_string().contains("it answered 503"), "{error}");
        assert!(error.attempts() == 0 || error.status() == Some(503), "{error}");
    }
    assert!(done.iter().all(|call| call.result.is_err()));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_its_own_call_cut_short_after_seconds_counts_as_unanswered() {
    let transport = service(|_, _| Reply::Silence);
    let agents = agents(&transport, 20, RetryPolicy::default(), 1).await;
    let hasty: Vec<_> = agents.iter().map(|agent| agent.with_timeout(Duration::from_secs(6))).collect();
    let done = steadily(&hasty, 5, Duration::from_secs(40)).await;
    assert!(done.iter().any(|call| call.took <= Duration::from_secs(2)), "the outage was never found");
}

#[tokio::test(start_paused = true)]
async fn what_is_broken_itself_is_no_probe() {
    let broken = format!("/scripts/{}", crate::common::ID);
    let transport = service(move |at, url| match url.ends_with(&broken) || at > Duration::from_secs(20) {
        true => reply(503, ""),
        false => script(),
    });
    let agents = agents(&transport, 20, RetryPolicy::default(), 1).await;
    let other = |number: u32| -> ScriptId { format!("476c2b71-7429-11e4-9a5b-{number:012}").parse().unwrap() };
    let mut calls = JoinSet::new();
    for number in 0..1_200_u32 {
        let (agent, id) = (agents[number as usize % 20].clone(), other(number % 100));
        calls.spawn(async move {
            tokio::time::sleep(Duration::from_millis(20) * number).await;
            agent.script(&id).await.map(drop)
        });
    }
    // Found out while others are served; then everything goes down.
    assert!(agents[0].script(&id()).await.unwrap_err().attempts() < 8);
    tokio::time::sleep(Duration::from_secs(23)).await;
    let (sent, asked) = (transport.calls().len(), Instant::now());
    let error = agents[0].script(&id()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Unavailable, 0), "{error}");
    assert_eq!((asked.elapsed(), transport.calls().len()), (Duration::ZERO, sent));
}

#[tokio::test(start_paused = true)]
async fn the_bound_in_flight_is_kept_and_named() {
    let transport = service(|_, _| Reply::Later(Duration::from_secs(1), Box::new(script())));
    let client = transport.builder().max_in_flight(3).max_waiting(2).build().unwrap();
    let agent = client.agent(credentials());
    agent.log_in().await.unwrap();
    agent.script(&id()).await.unwrap();
    let mut calls = JoinSet::new();
    for number in 0..6 {
        let agent = agent.with_timeout(Duration::from_millis(if number == 4 { 500 } else { 5_000 }));
        calls.spawn(async move { agent.script(&id()).await.map(drop) });
        tokio::task::yield_now().await;
    }
    let done = calls.join_all().await;
    let errors: Vec<_> = done.iter().filter_map(|result| result.as_ref().err()).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    let of = |kind| errors.iter().find(|error| error.kind() == kind).unwrap().to_string();
    assert!(of(ErrorKind::Unavailable).contains("`max_waiting`"), "{errors:?}");
    assert!(of(ErrorKind::Timeout).contains("`max_in_flight`"), "{errors:?}");
    assert!(transport.builder().max_in_flight(0).build().is_err());
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_lists_is_a_route_of_its_own() {
    let transport = service(|_, url| match url.contains("pageSize") {
        true => reply(503, ""),
        false => script(),
    });
    let agents = agents(&transport, 1, RetryPolicy::default(), 1).await;
    let other: ScriptId = "476c2b71-7429-11e4-9a5b-000000000001".parse().unwrap();
    for _ in 0..20 {
        use futures_util::TryStreamExt;
        assert!(agents[0].scripts(ListScripts::default()).try_next().await.is_err());
        assert!(agents[0].script(&other).await.is_ok());
        assert!(agents[0].published_script(&other, &ReadScript::default()).await.is_ok());
    }
}

/// Its quota is spent, and its route is down: it waits for the one no longer than it would for the other.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_quota_is_told_of_an_outage_as_who_waits_for_that() {
    // Since when the route is down, and for how long the call waits then.
    for (down_since, told_after) in [(0, 25), (10, 25), (30, 44)] {
        // Where the probes hang, one more of them is waited for longest.
        let downs: [(fn() -> Reply, u64); 3] = [
            (|| reply(503, ""), 1),
            (|| Reply::Broken(std::io::ErrorKind::ConnectionReset), 1),
            (|| Reply::Silence, 2),
        ];
        for (down, one_more) in downs {
            let transport = service(move |at, url| match url.ends_with(SPENDS) {
                true => reply(429, "").with("retry-after", "90"),
                false if at < Duration::from_secs(down_since) => script(),
                false => down(),
            });
            let agents = agents(&transport, 20, RetryPolicy::default(), 1).await;
            let spent = agents[0].clone();
            let _spent = tokio::spawn(async move { spent.script(&SPENDS.parse().unwrap()).await });
            let others = agents[1..].to_vec();
            tokio::spawn(async move { steadily(&others, 20, Duration::from_secs(100)).await });
            tokio::time::sleep(Duration::from_millis(500)).await;
            let (asked, sent) = (Instant::now(), transport.calls().len());
            let error = agents[0].script(&id()).await.unwrap_err();
            assert!(transport.calls().len() > sent, "the others go on");
            assert_eq!((error.kind(), error.attempts()), (ErrorKind::Unavailable, 0), "{error}");
            let waited = asked.elapsed().as_secs();
            assert!(
                (told_after..=told_after + one_more).contains(&waited),
                "down from {down_since} s: told after {waited} s"
            );
        }
    }
}

const SPENDS: &str = "476c2b71-7429-11e4-9a5b-111111111111";

/// All calls share the quota of one token, and each repetition would cost one of its 300 requests a minute.
#[tokio::test(start_paused = true)]
async fn an_outage_does_not_spend_the_quota_of_those_who_wait_for_its_end() {
    for seconds in [2, 5, 12] {
        let simulator = Simulator::builder().scripts(60).client_secret("secret").rate_limit(300).in_process().unwrap();
        let region = simulator.region().unwrap();
        let client = Client::builder(region).with_middleware(simulator.transport()).build().unwrap();
        let agent = client.agent(Credentials::client("service", "secret"));
        let ids: Vec<ScriptId> = simulator.script_ids().iter().map(|id| id.parse().unwrap()).collect();
        agent.log_in().await.unwrap();
        simulator.set_down(true);
        let (asked, mut calls) = (Instant::now(), JoinSet::new());
        for number in 0..150 {
            let (agent, id) = (agent.clone(), ids[number as usize % ids.len()].clone());
            calls.spawn(async move {
                sleep_until(asked + Duration::from_millis(2) * number).await;
                agent.script(&id).await.map(drop)
            });
        }
        sleep_until(asked + Duration::from_secs(seconds)).await;
        simulator.set_down(false);
        let served = calls.join_all().await;
        assert!(served.iter().all(Result::is_ok), "{:?}", served.into_iter().find(Result::is_err));
        assert!(asked.elapsed() <= Duration::from_secs(seconds) + SETTLING, "{seconds} s: {:?}", asked.elapsed());
    }
}

/// A quota that is gone with an outage that was not found before it: both are told.
#[tokio::test(start_paused = true)]
async fn who_is_out_of_quota_is_told_what_the_last_attempt_met() {
    let simulator = Simulator::builder().scripts(1).client_secret("secret").rate_limit(3).in_process().unwrap();
    let region = simulator.region().unwrap();
    let client = Client::builder(region).with_middleware(simulator.transport()).build().unwrap();
    let agent = client.agent(Credentials::client("service", "secret")).with_timeout(Duration::from_secs(50));
    agent.log_in().await.unwrap();
    simulator.set_down(true);
    let error = agent.script(&simulator.script_ids()[0].parse().unwrap()).await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.attempts()), (ErrorKind::Throttled, Some(503), 3), "{error}");
    assert!(error.correlation_id().is_some() && error.retry_after().is_some(), "{error}");
}

/// Eight agents are served, and a ninth, that asks thirty times as often, is answered 500 whatever it asks for: it fails alone.
#[tokio::test(start_paused = true)]
async fn an_agent_that_alone_fails_shuts_the_route_for_no_other() {
    let transport = Scripted::by(|seen| match seen.header("authorization") {
        _ if seen.is_login() => token("t"),
        "Bearer loud" => reply(500, ""),
        _ => script(),
    });
    let one_of_forty = |call| -> ScriptId { format!("476c2b71-7429-11e4-9a5b-{:012}", call % 40).parse().unwrap() };
    let client = transport.builder().build().unwrap();
    let loud = client.agent(Credentials::access_token("loud"));
    let (began, mut failing) = (Instant::now(), JoinSet::new());
    for call in 0..1_200_u64 {
        let loud = loud.clone();
        failing.spawn(async move {
            sleep_until(began + Duration::from_millis(50 * call)).await;
            loud.script(&one_of_forty(call)).await
        });
    }
    let mut served = JoinSet::new();
    for call in 0..35_u64 {
        let agent = client.agent(Credentials::access_token(format!("quiet-{}", call % 8)));
        served.spawn(async move {
            sleep_until(began + Duration::from_millis(1_700 * call)).await;
            let begun = Instant::now();
            agent.script(&one_of_forty(call)).await.map(|_| begun.elapsed())
        });
    }
    for took in served.join_all().await {
        assert!(took.as_ref().is_ok_and(|took| *took < Duration::from_millis(50)), "{took:?}");
    }
    failing.abort_all();
}

/// A read leaves a probe of an old outage that is slow; a change would lose with it what became of it.
#[tokio::test(start_paused = true)]
async fn a_change_that_is_the_probe_of_an_old_outage_waits_for_its_answer() {
    let transport = service(|at, _| match at < Duration::from_secs(20) {
        true => reply(503, ""),
        false => Reply::Later(Duration::from_secs(3), Box::new(script())),
    });
    let client = transport.builder().retry(crate::common::once()).build().unwrap();
    let agent = client.agent(Credentials::access_token("t"));
    let (id, how) = (id(), PublishScript::default());
    let publish = || agent.publish(&id, &how);
    for _ in 0..12 {
        publish().await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    assert_eq!(client.stats().api.down.len(), 1, "it is out");
    tokio::time::sleep(Duration::from_secs(25)).await;
    publish().await.unwrap();
}
