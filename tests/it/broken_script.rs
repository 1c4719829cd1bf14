//! A script that is really broken is told from a service that fails for everyone, and disturbs nobody else. On a paused clock,
//! without sockets.

use std::time::Duration;

use genesys_scripts::simulator::Simulator;
use genesys_scripts::{Cause, Certainty, Credentials, ErrorKind, ReadScript, ScriptId};

use tokio::time::Instant;

use crate::common::herd::{Done, SERVICE_TIME, World, all_served, seeds, steadily, virtually};
use crate::common::{ID, Reply, Scripted, id, reply, script, token};

/// Calls come at this rate for so long, for scripts in turn, of which so many are broken.
struct Traffic {
    broken: usize,
    of: usize,
    a_second: u32,
    lasts: Duration,
}

/// What the calls came to: for broken scripts, and for good ones.
async fn run(traffic: &Traffic, seed: u64) -> (World, Vec<Done>, Vec<Done>) {
    let world = World::new(Simulator::builder().scripts(u32::try_from(traffic.of).unwrap()), seed);
    let scripts = world.scripts();
    for script in scripts.iter().take(traffic.broken) {
        world.simulator.break_script(script.as_str());
    }
    let agents = world.agents(150).await;
    let every = Duration::from_secs(1) / traffic.a_second;
    let id = |count: usize| scripts[count % traffic.of].clone();
    let done = steadily(&agents, every, traffic.lasts, id).await;
    let is_broken = |id: &ScriptId| scripts[..traffic.broken].contains(id);
    let (bad, good) = done.into_iter().partition(|call| is_broken(&call.id));
    (world, bad, good)
}

/// Good scripts are served as undisturbed, and the broken ones cost little more than an attempt a call.
fn disturbs_nobody(traffic: &Traffic, attempts_a_call: f64) {
    for seed in 0..seeds(1) {
        virtually(async {
            let (world, bad, good) = run(traffic, seed).await;
            all_served(&good);
            assert!(good.iter().all(|call| call.took() == SERVICE_TIME), "a good one was held up");
            let attempts: u32 = bad.iter().map(|call| call.result.as_ref().unwrap_err().attempts()).sum();
            let a_call = f64::from(attempts) / bad.len() as f64;
            println!(
                "{} of {} broken, {} a second: {a_call:.2} attempts a broken call, {:?}",
                traffic.broken,
                traffic.of,
                traffic.a_second,
                world.attempts()
            );
            assert!(a_call <= attempts_a_call, "{a_call} attempts a call");
            let last = bad.iter().max_by_key(|call| call.begun).unwrap().result.as_ref().unwrap_err();
            let why = last.bad_request().unwrap();
            assert_eq!((&why.cause, why.certainty), (&Cause::BrokenScript, Certainty::Likely), "{last}");
        });
    }
}

#[test]
fn a_broken_script_among_149_good_ones_disturbs_nobody() {
    disturbs_nobody(&Traffic { broken: 1, of: 150, a_second: 400, lasts: Duration::from_secs(10) }, 1.5);
    disturbs_nobody(&Traffic { broken: 1, of: 150, a_second: 20, lasts: Duration::from_secs(120) }, 1.5);
}

#[test]
fn many_broken_scripts_disturb_nobody() {
    disturbs_nobody(&Traffic { broken: 75, of: 150, a_second: 100, lasts: Duration::from_secs(60) }, 1.5);
    disturbs_nobody(&Traffic { broken: 10, of: 12, a_second: 100, lasts: Duration::from_secs(60) }, 1.5);
}

#[test]
fn on_a_quiet_route_there_is_nothing_to_compare_with_and_still_nobody_is_disturbed() {
    virtually(async {
        let traffic = Traffic { broken: 10, of: 12, a_second: 1, lasts: Duration::from_secs(60) };
        let (_, bad, good) = run(&traffic, 1).await;
        all_served(&good);
        assert!(good.iter().all(|call| call.took() == SERVICE_TIME));
        assert!(bad.iter().all(|call| call.result.as_ref().unwrap_err().attempts() <= 8));
    });
}

#[test]
fn the_error_has_the_numbers() {
    virtually(async {
        let traffic = Traffic { broken: 1, of: 150, a_second: 100, lasts: Duration::from_secs(20) };
        let (_, bad, _) = run(&traffic, 1).await;
        let error = bad.last().unwrap().result.as_ref().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("while 64 of 64 attempts for others were served"), "{text}");
        assert!(text.contains("likely a broken script"), "{text}");
    });
}

/// One agent's token is refused what all the others' are served: neither the script nor the service is at fault.
#[tokio::test(start_paused = true)]
async fn what_some_tokens_get_and_one_does_not_follows_the_token() {
    for definition in [r#"{"code":"bad_request","message":"Invalid script definition"}"#, DEFINITION] {
        let transport = Scripted::by(move |seen| match seen.is_login() {
            true => token(if seen.header("authorization").ends_with("b25lOng=") { "the-one" } else { "another" }),
            false if seen.header("authorization").ends_with("the-one") => reply(400, definition),
            false => script(),
        });
        let client = transport.client();
        let others = client.agent(Credentials::client("others", "x"));
        let others = tokio::spawn(async move {
            loop {
                others.script(&id()).await.unwrap();
            }
        });
        let error = client.agent(Credentials::client("one", "x")).script(&id()).await.unwrap_err();
        others.abort();
        let why = error.bad_request().unwrap();
        assert_eq!((&why.cause, why.certainty), (&Cause::Session, Certainty::Likely), "{error}");
        let text = error.to_string();
        assert!(text.contains("follows the token") && text.contains("failed 8 of 8 times"), "{text}");
    }
}

/// The same in the service's own envelope.
const DEFINITION: &str =
    r#"{"message":"Invalid script definition","code":"bad.request","status":400,"contextId":"c-1"}"#;

#[test]
fn a_script_that_is_mended_is_served_again_at_once() {
    virtually(async {
        let traffic = Traffic { broken: 1, of: 150, a_second: 100, lasts: Duration::from_secs(20) };
        let (world, bad, _) = run(&traffic, 1).await;
        let id = &bad[0].id;
        let agent = world.agent();
        assert_eq!(agent.script(id).await.unwrap_err().attempts(), 1);
        world.simulator.mend_script(id.as_str());
        assert!(agent.script(id).await.is_ok());
    });
}

#[tokio::test(start_paused = true)]
async fn a_broken_draft_says_nothing_of_its_published_script() {
    let transport = Scripted::by(|seen| match seen.url.ends_with(&format!("/scripts/{ID}")) {
        _ if seen.is_login() => token("t0ken"),
        true => reply(400, r#"{"code":"bad_request","message":"Invalid script definition"}"#),
        false => script(),
    });
    let agent = transport.agent();
    for number in 0..100 {
        let other: ScriptId = format!("476c2b71-7429-11e4-9a5b-{number:012}").parse().unwrap();
        agent.script(&other).await.unwrap();
        let _ = agent.with_timeout(Duration::from_secs(3)).script(&id()).await;
        let started = Instant::now();
        agent.published_script(&id(), &ReadScript::default()).await.unwrap();
        assert_eq!(started.elapsed(), SERVICE_TIME);
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_client_learns_touches_no_other() {
    let broken = Scripted::by(|seen| if seen.is_login() { token("t0ken") } else { reply(503, "") });
    let healthy = Scripted::replies((0..100).map(|_| script()));
    let (one, other) = (broken.agent(), healthy.agent());
    for _ in 0..20 {
        one.script(&id()).await.unwrap_err();
    }
    for _ in 0..100 {
        let started = Instant::now();
        other.script(&id()).await.unwrap();
        assert!(started.elapsed() <= 2 * SERVICE_TIME, "its login and itself");
    }
}

/// Its quota is spent, or its operation shut: it is told so, and what is known of it, and does not wait for the same answer.
#[tokio::test(start_paused = true)]
async fn what_is_known_to_be_broken_waits_for_no_limit() {
    const NAMED: &str = r#"{"code":"too.many.requests","message":"Rate limit exceeded","limit":{"key":"scripts.read.rate.per.minute"}}"#;
    type Limit = (fn() -> Reply, &'static str, u64);
    let limits: [Limit; 3] = [
        (
            || reply(429, NAMED).with("retry-after", "60"),
            "limit scripts.read.rate.per.minute for `get script` is reached;",
            60,
        ),
        (|| reply(429, "").with("retry-after", "20"), "the service allows no more of `get script` for now;", 20),
        (|| spent(script()), "this agent's token may ask of `get script` is spent;", 40),
    ];
    for (limited, says, seconds) in limits {
        let transport = Scripted::by(move |seen| match seen.url.rsplit('/').next() {
            _ if seen.is_login() => token("t0ken"),
            Some(ID) => reply(503, ""),
            Some(LIMITED) => limited(),
            _ => script(),
        });
        let agent = transport.agent();
        let others = agent.clone();
        let others = tokio::spawn(async move {
            loop {
                others.script(&GOOD.parse().unwrap()).await.unwrap();
            }
        });
        let known = agent.script(&id()).await.unwrap_err().to_string();
        others.abort();
        assert!(known.contains("this alone fails"), "{known}");
        let limited = agent.clone();
        let limited = tokio::spawn(async move { limited.script(&LIMITED.parse().unwrap()).await });
        tokio::time::sleep(Duration::from_secs(1)).await;
        limited.abort();
        let (asked, sent) = (Instant::now(), transport.calls().len());
        let error = agent.script(&id()).await.unwrap_err();
        assert_eq!(asked.elapsed(), Duration::ZERO);
        assert_eq!((error.kind(), error.attempts(), transport.calls().len()), (ErrorKind::Throttled, 0, sent));
        let text = error.to_string();
        assert!(text.contains(says) && text.contains("not waited for: this alone failed"), "{text}");
        let reopens = error.retry_after().unwrap().as_secs();
        assert!((seconds - 2..seconds + 2).contains(&reopens), "{text}");
        // A good one waits for it.
        agent.script(&GOOD.parse().unwrap()).await.unwrap();
        assert!(asked.elapsed() >= Duration::from_secs(seconds - 2));
    }
}

const GOOD: &str = "476c2b71-7429-11e4-9a5b-222222222222";
const LIMITED: &str = "476c2b71-7429-11e4-9a5b-111111111111";

/// The last one of its window.
fn spent(reply: Reply) -> Reply {
    reply.with("inin-ratelimit-allowed", "300").with("inin-ratelimit-count", "300").with("inin-ratelimit-reset", "40")
}

/// Twelve scripts fail whatever one does, while one more is asked for all the time, and served.
#[tokio::test(start_paused = true)]
async fn what_is_found_to_be_broken_ends_its_call_and_counts_for_nothing_else_from_then_on() {
    let transport = Scripted::by(|seen| if seen.url.contains("000000") { reply(500, "") } else { script() });
    let client = transport.client();
    let agent = client.agent(Credentials::access_token("t"));
    let well = tokio::spawn({
        let agent = agent.clone();
        async move {
            loop {
                agent.script(&id()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let broken: Vec<ScriptId> =
        (0..12).map(|number| format!("476c2b71-7429-11e4-9a5b-000000{number:06}").parse().unwrap()).collect();
    for id in &broken {
        let error = agent.script(id).await.unwrap_err();
        assert!(error.attempts() < 8 && error.to_string().contains("this alone fails"), "{error}");
    }
    well.abort();
    // Nothing is served any more, as nobody asks for it.
    for id in &broken {
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(agent.script(id).await.unwrap_err().attempts(), 1);
    }
    assert!(client.stats().api.down.is_empty(), "{:?}", client.stats().api);
}
