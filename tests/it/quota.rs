//! What a token, or an OAuth client, is allowed is used up and not overrun. On a paused clock, without sockets.

use std::time::Duration;

use genesys_scripts::ReadScript;
use genesys_scripts::simulator::Simulator;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::common::herd::{World, all_served, at_once, seeds, slowest, virtually};

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
