//! What a token, or an OAuth client, is allowed is used up and not overrun. On a paused clock, without sockets.

use std::time::Duration;

use futures_util::future::join_all;
use genesys_scripts::ReadScript;
use genesys_scripts::simulator::Simulator;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::common::herd::{World, all_served, at_once, seeds, slowest, virtually};
use crate::common::{Reply, Scripted, id, reply, script, token};

const WINDOW: Duration = Duration::from_secs(60);
/// What the calls of the last window take.
const FETCHING: Duration = Duration::from_millis(400);

/// So many calls at once for so many scripts, on one token; all must be served, in as many windows as it takes. Gives the
/// number of refusals.
fn on_one_token(calls: u32, limit: u32, told: bool) -> u64 {
    virtually(async {
        let world = World::new(Simulator::builder().scripts(calls).rate_limit(limit), 1);
        world.simulator.set_quota_headers(told);
        let agent = world.agent().with_timeout(Duration::from_secs(3_600));
        agent.log_in().await.unwrap();
        let start = Instant::now();
        all_served(&at_once(world.scripts().into_iter().map(|id| (agent.clone(), id))).await);
        let took = start.elapsed();
        let boundaries = calls.div_ceil(limit) - 1;
        let refused = world.simulator.stats().throttled;
        println!("{calls} calls, {limit} a minute, told: {told}: {took:?}, {refused} refused");
        let bar = (WINDOW + Duration::from_secs(1)) * boundaries + FETCHING;
        assert!(took <= bar, "{calls} calls at {limit} took {took:?}, not {bar:?}");
        refused
    })
}

#[test]
fn a_token_whose_quota_is_told_is_never_refused() {
    for limit in [300, 180, 50] {
        for calls in [150, 450, 900] {
            assert_eq!(on_one_token(calls, limit, true), 0);
        }
    }
}

/// Without headers nothing is assumed: what is over the limit is refused, and then waits as long as the service says.
#[test]
fn a_token_whose_quota_is_not_told_serves_all_the_same() {
    for limit in [300, 180, 50] {
        let windows = 450_u32.div_ceil(limit);
        let refused = on_one_token(450, limit, false);
        assert!(refused <= u64::from(450 + 2 * limit * windows), "{refused}");
    }
}

/// Three operations that count in the same window of one token.
#[test]
fn operations_that_share_a_quota_keep_it_together() {
    virtually(async {
        let world = World::new(Simulator::builder().scripts(150), 1);
        let agent = world.agent().with_timeout(Duration::from_secs(3_600));
        agent.log_in().await.unwrap();
        let start = Instant::now();
        let mut calls = JoinSet::new();
        for id in world.scripts() {
            let (one, two, three) = (agent.clone(), agent.clone(), agent.clone());
            let (first, second) = (id.clone(), id.clone());
            calls.spawn(async move { one.script(&first).await.map(drop) });
            calls.spawn(async move { two.published_script(&second, &ReadScript::default()).await.map(drop) });
            calls.spawn(async move { three.script_pages(&id, &ReadScript::default()).await.map(drop) });
        }
        assert!(calls.join_all().await.iter().all(Result::is_ok));
        let refused = world.simulator.stats().throttled;
        println!("450 calls over three operations: {:?}, {refused} refused", start.elapsed());
        assert!(start.elapsed() <= WINDOW + Duration::from_secs(2), "after one boundary: {:?}", start.elapsed());
        assert!(refused <= 10, "{refused}");
    });
}

#[test]
fn a_limit_on_logins_delays_150_agents_no_more_than_it_must() {
    for seed in 0..seeds(2) {
        virtually(async {
            let world = World::new(Simulator::builder().login_rate_limit(60), seed);
            let id = world.scripts().swap_remove(0);
            let callers = (0..150).map(|_| (world.agent().with_timeout(Duration::from_secs(300)), id.clone()));
            let done = at_once(callers).await;
            all_served(&done);
            println!("seed {seed}: {:?}, {:?}", slowest(&done), world.simulator.stats().logins);
            // Two windows, and 5 %.
            assert!(slowest(&done) <= (2 * WINDOW).mul_f64(1.05), "{:?}", slowest(&done));
            assert_eq!(world.simulator.stats().logins["200"], 150);
        });
    }
}

/// Whose answers say that the window is used up so far.
fn counted(reply: Reply, count: &str) -> Reply {
    let reply = reply.with("inin-ratelimit-allowed", "300").with("inin-ratelimit-reset", "40");
    reply.with("inin-ratelimit-count", count)
}

/// What a call is told that was not sent, as the one before it was answered so.
async fn told_unsent(answer: impl Fn() -> Reply + Send + Sync + 'static) -> String {
    let transport = Scripted::by(move |seen| if seen.is_login() { token("t0ken") } else { answer() });
    let agent = transport.agent().with_timeout(Duration::from_secs(2));
    let _ = agent.script(&id()).await;
    let sent = transport.seen().len();
    let error = agent.script(&id()).await.unwrap_err();
    assert!(error.is_throttled() && transport.seen().len() == sent, "{error}");
    error.to_string()
}

#[tokio::test(start_paused = true)]
async fn the_tokens_quota_is_spent_only_where_the_service_counts_it() {
    const GATEWAYS: &str = r#"{"message":"API rate limit exceeded"}"#;
    const NAMED: &str = r#"{"message":"Rate limit exceeded","limit":{"key":"scripts.read.rate"}}"#;
    let limited = |body: &'static str| move || reply(429, body).with("retry-after", "60");
    let line = told_unsent(limited(GATEWAYS)).await;
    assert!(line.contains("the service allows no more of `get script` for now"), "{line}");
    assert!(!line.contains("token") && !line.contains("quota"), "{line}");
    // The token's window is told, and is not what is used up.
    let line = told_unsent(|| counted(reply(429, GATEWAYS).with("retry-after", "60"), "8")).await;
    assert!(line.contains("no more of `get script` for now"), "{line}");
    let line = told_unsent(limited(NAMED)).await;
    assert!(line.contains("limit scripts.read.rate for `get script` is reached"), "{line}");
    for spent in [|| counted(script(), "300"), || counted(reply(429, "").with("retry-after", "40"), "300")] {
        let line = told_unsent(spent).await;
        assert!(line.contains("this agent's token may ask of `get script` is spent"), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_named_and_has_no_end_is_named_to_all_who_wait_for_it() {
    let transport = Scripted::by(|seen| match seen.is_login() {
        true => token("t0ken"),
        false => reply(429, r#"{"message":"Slow down","limit":{"key":"scripts.read.rate"}}"#),
    });
    let (agent, id) = (transport.agent(), id());
    let _ = agent.script(&id).await;
    let mut unsent = 0;
    for error in join_all((0..100).map(|_| agent.script(&id))).await {
        let error = error.unwrap_err();
        unsent += u32::from(error.attempts() == 0);
        let line = error.to_string();
        assert!(line.contains("limit scripts.read.rate") && !line.contains("token"), "{line}");
    }
    assert!(unsent > 50, "{unsent}");
}
