//! The switch for incidents: off, calls are made as they come, and nothing is remembered of what failed. On a paused clock,
//! without sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use genesys_scripts::{Agent, Client, ErrorKind, ReadScript, Resilience, ScriptId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::common::{Reply, Scripted, credentials, id, once, reply, script, token};

/// The ways a route is down.
const FAILURES: [fn() -> Reply; 3] =
    [|| reply(503, ""), || reply(500, "<h1>sorry</h1>"), || Reply::Broken(std::io::ErrorKind::ConnectionReset)];

/// A service that fails like this for as long as the flag says.
fn service(failure: fn() -> Reply) -> (Scripted, Arc<AtomicBool>) {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let transport = Scripted::by(move |seen| match (seen.is_login(), is_down.load(Ordering::Relaxed)) {
        (true, _) => token("t0ken"),
        (false, true) => failure(),
        (false, false) => script(),
    });
    (transport, down)
}

/// Calls at that pace, and how many of them were refused without a request.
async fn refused_unsent(agent: &Agent, transport: &Scripted, calls: usize) -> usize {
    let mut unsent = 0;
    for _ in 0..calls {
        sleep(Duration::from_millis(200)).await;
        let before = transport.calls().len();
        let result = agent.with_timeout(Duration::from_millis(30)).script(&id()).await;
        unsent += usize::from(result.is_err() && transport.calls().len() == before);
    }
    unsent
}

fn client(transport: &Scripted, resilience: Resilience) -> Client {
    transport.builder().retry(once()).resilience(resilience).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn off_every_call_is_sent_however_long_the_service_is_down() {
    for failure in FAILURES {
        let (transport, _) = service(failure);
        let on = client(&transport, Resilience::on()).agent(credentials());
        assert!(refused_unsent(&on, &transport, 300).await > 100, "on, an outage is asked by one at a time");

        let (transport, _) = service(failure);
        let client = client(&transport, Resilience::off());
        assert_eq!(refused_unsent(&client.agent(credentials()), &transport, 300).await, 0, "off");
        assert!(client.stats().api.down.is_empty(), "nothing is taken to be down");
    }
}

#[tokio::test(start_paused = true)]
async fn switched_off_while_calls_wait_they_go_at_once_and_switched_on_it_learns_anew() {
    for failure in FAILURES {
        let (transport, down) = service(failure);
        let client = transport.client();
        let agent = client.agent(credentials());
        refused_unsent(&agent, &transport, 30).await;
        assert_eq!(client.stats().api.down.len(), 1);
        let mut waiting = JoinSet::new();
        for _ in 0..50 {
            let agent = agent.clone();
            waiting.spawn(async move { agent.script(&id()).await.map(|_| Instant::now()) });
        }
        // The probe among them has failed, and the next is not due.
        sleep(Duration::from_millis(50)).await;
        down.store(false, Ordering::Relaxed);
        let switched = Instant::now();
        client.clone().set_resilience(Resilience::off());
        assert_eq!(client.resilience(), Resilience::off(), "every clone is switched");
        assert!(client.stats().api.down.is_empty());
        let mut served = Vec::new();
        while served.len() < 49 {
            served.push(waiting.join_next().await.unwrap().unwrap().unwrap() - switched);
        }
        let longest = served.into_iter().max().unwrap();
        assert!(longest <= Duration::from_millis(50), "one that waited went after {longest:?}");

        down.store(true, Ordering::Relaxed);
        refused_unsent(&agent, &transport, 50).await;
        assert!(client.stats().api.down.is_empty(), "off, it learns nothing");
        client.set_resilience(Resilience::on());
        refused_unsent(&agent, &transport, 50).await;
        assert_eq!(client.stats().api.down.len(), 1, "on, it does");
    }
}

#[tokio::test(start_paused = true)]
async fn off_a_broken_script_is_tried_like_any_other() {
    let broken: ScriptId = "00000000-0000-4000-8000-00000000dead".parse().unwrap();
    const DEFINITION: &str = r#"{"code":"bad_request","message":"Invalid script definition"}"#;
    for (status, body) in [(400, DEFINITION), (500, "")] {
        let transport = Scripted::by(move |seen| match (seen.is_login(), seen.url.contains("dead")) {
            (true, _) => token("t0ken"),
            (_, true) => reply(status, body),
            _ => script(),
        });
        let client = transport.client();
        let agent = client.agent(credentials());
        let traffic = tokio::spawn({
            let agent = agent.clone();
            async move {
                loop {
                    sleep(Duration::from_millis(50)).await;
                    agent.script(&id()).await.unwrap();
                }
            }
        });
        let attempts = async || agent.script(&broken).await.unwrap_err().attempts();
        assert!(attempts().await < 8, "it is found out");
        assert_eq!(attempts().await, 1, "and remembered");
        client.set_resilience(Resilience::off());
        assert_eq!(attempts().await, 8, "off, it is forgotten");
        assert_eq!(attempts().await, 8, "and not found out");
        traffic.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn off_retries_and_limits_stay() {
    let transport = Scripted::replies([
        reply(500, ""),
        reply(429, "").with("retry-after", "3"),
        Reply::Broken(std::io::ErrorKind::ConnectionReset),
        script(),
        reply(200, r#"{"id":"x"}"#)
            .with("inin-ratelimit-allowed", "1")
            .with("inin-ratelimit-count", "1")
            .with("inin-ratelimit-reset", "30"),
    ]);
    let agent = transport.builder().resilience(Resilience::off()).build().unwrap().agent(credentials());
    agent.script(&id()).await.unwrap();
    let calls = transport.calls();
    assert_eq!(calls.len(), 4);
    assert!(calls[2].at - calls[1].at >= Duration::from_secs(3), "Retry-After is obeyed");
    agent.published_script(&id(), &ReadScript::default()).await.unwrap();
    let spent = agent.with_timeout(Duration::from_secs(1)).published_script(&id(), &ReadScript::default()).await;
    assert_eq!(spent.unwrap_err().kind(), ErrorKind::Throttled, "a spent quota is not overrun");
    assert_eq!(transport.calls().len(), 5);
}
