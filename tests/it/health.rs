//! A client's health: what a readiness probe and a health page are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use genesys_scripts::{ErrorKind, RouteHealth, RouteState};
use tokio::time::sleep;

use crate::common::{Reply, Scripted, id, once, reply, script, token};

/// A service that can be down.
fn service(is_down: &Arc<AtomicBool>, reply_while_down: impl Fn() -> Reply + Send + Sync + 'static) -> Scripted {
    let is_down = Arc::clone(is_down);
    Scripted::by(move |seen| match seen.url.contains("/api/v2/scripts/") {
        _ if seen.is_login() => token("t"),
        true if is_down.load(Ordering::SeqCst) => reply_while_down(),
        _ => script(),
    })
}

fn route(client: &genesys_scripts::Client, operation: &str) -> RouteHealth {
    client.health().routes.into_iter().find(|route| route.operation == operation).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_with_its_age_and_when_it_is_asked_again() {
    let kinds: [fn() -> Reply; 3] =
        [|| reply(503, ""), || reply(502, "<html>"), || Reply::Broken(std::io::ErrorKind::ConnectionReset)];
    for reply_while_down in kinds {
        let down = Arc::new(AtomicBool::new(true));
        let transport = service(&down, reply_while_down);
        let client = transport.builder().retry(once()).build().unwrap();
        assert!(client.health().is_ready && client.health().routes.is_empty());
        let agent = client.agent(crate::common::credentials());
        for _ in 0..12 {
            agent.script(&id()).await.unwrap_err();
            sleep(Duration::from_millis(120)).await;
        }
        let out = route(&client, "get script");
        assert_eq!(out.host, "127.0.0.1:9");
        assert!(out.out_for.is_some_and(|age| (1..3).contains(&age.as_secs())), "{out:?}");
        assert!(out.last.is_some(), "{out:?}");
        assert_eq!(route(&client, "log in").state, RouteState::Served);

        // Nobody calls: it waits for somebody, however long, and the client is ready for that call all the while.
        for seconds in [5, 60, 3_600] {
            sleep(Duration::from_secs(seconds)).await;
            let out = route(&client, "get script");
            assert_eq!((out.state, out.asked_again_in), (RouteState::WaitsForACall, Some(Duration::ZERO)), "{out:?}");
            assert!(out.out_for.is_some_and(|age| age >= Duration::from_secs(seconds)), "{out:?}");
            assert!(client.health().is_ready);
        }
        agent.script(&id()).await.unwrap_err();
        let out = route(&client, "get script");
        assert_eq!(out.state, RouteState::Out, "{out:?}");
        assert!(
            out.asked_again_in.is_some_and(|wait| wait > Duration::ZERO && wait <= Duration::from_secs(1)),
            "{out:?}"
        );
        let told = serde_json::to_value(client.health()).unwrap();
        let served: Vec<_> = told["routes"].as_array().unwrap().iter().map(|route| route["state"].clone()).collect();
        assert_eq!(served, ["out", "served"]);
        assert!(told["routes"][0]["out_for_s"].as_f64().unwrap() > 3_600.0, "{told}");

        down.store(false, Ordering::SeqCst);
        sleep(Duration::from_secs(2)).await;
        agent.script(&id()).await.unwrap();
        let served = route(&client, "get script");
        assert_eq!((served.state, served.out_for, served.last), (RouteState::Served, None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_shuts_down_is_not_ready() {
    let transport = service(&Arc::default(), || reply(503, ""));
    let client = transport.client();
    assert!(client.health().is_ready);
    assert!(client.shut_down(Duration::from_secs(1)).await.is_complete());
    assert!(!client.health().is_ready);
    let error = client.agent(crate::common::credentials()).script(&id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}

#[tokio::test(start_paused = true)]
async fn counters_and_quotas_serialise_by_the_names_that_logs_have() {
    let transport = Scripted::by(|seen| match seen.url.rsplit('/').next() {
        _ if seen.is_login() => token("t"),
        Some("pages") => reply(503, "").with("retry-after", "30"),
        _ => {
            let answer = script().with("inin-ratelimit-allowed", "300").with("inin-ratelimit-count", "299");
            answer.with("inin-ratelimit-reset", "42")
        }
    });
    let client = transport.builder().retry(once()).build().unwrap();
    let agent = client.agent(crate::common::credentials());
    agent.script(&id()).await.unwrap();
    for _ in 0..30 {
        agent.script_pages(&id(), &genesys_scripts::ReadScript::default()).await.unwrap_err();
    }
    let stats = serde_json::to_value(client.stats()).unwrap();
    assert_eq!((&stats["calls"], &stats["failed"]), (&31.into(), &serde_json::json!({"server": 30})));
    assert_eq!(stats["api"]["down_asked_again_in_s"], serde_json::json!({"get script pages": 30.0}));
    let quota = serde_json::to_value(agent.quota()).unwrap();
    assert_eq!((&quota[0]["operation"], &quota[0]["remaining"]), (&"get script".into(), &1.into()));
    assert_eq!(quota[0]["available_in_s"], serde_json::Value::Null);
}
