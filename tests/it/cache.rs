//! The opt-in cache: fresh, stale when the service cannot be asked, never when it says no, one fetch for all who miss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use genesys_scripts::{CachePolicy, Client, ErrorKind};
use tokio::time::{Instant, sleep, sleep_until};

use crate::common::{ID, Reply, Scripted, credentials, id, reply, script, token};

/// A service that answers every script request with this status, 200 being the script.
fn service() -> (Scripted, Arc<AtomicU16>, Client) {
    let status = Arc::new(AtomicU16::new(200));
    let answered = Arc::clone(&status);
    let transport = Scripted::by(move |seen| match (seen.is_login(), answered.load(Ordering::SeqCst)) {
        (true, _) => token("t0ken"),
        (_, 200) => script(),
        (_, status) => reply(status, "{}"),
    });
    let client = transport.builder().cache(CachePolicy::default()).build().unwrap();
    (transport, status, client)
}

#[tokio::test(start_paused = true)]
async fn a_fresh_copy_is_given_without_asking_until_its_time_is_over() {
    let (transport, _, client) = service();
    let agent = client.agent(credentials());
    for _ in 0..3 {
        assert!(!agent.cached_script(&id()).await.unwrap().stale);
    }
    assert_eq!(transport.calls().len(), 1);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(agent.cached_script(&id()).await.unwrap().age.as_secs(), 30);
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(agent.cached_script(&id()).await.unwrap().age.as_secs(), 0);
    assert_eq!(transport.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn calls_that_miss_at_once_are_one_call_and_share_its_failure() {
    for (answer, ok) in [(200, true), (404, false)] {
        let (transport, status, client) = service();
        status.store(answer, Ordering::SeqCst);
        let (agent, id) = (client.agent(credentials()), id());
        let results = join_all((0..100).map(|_| agent.cached_script(&id))).await;
        assert!(results.iter().all(|result| result.is_ok() == ok));
        assert_eq!(transport.calls().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_time_of_the_one_who_asks_is_over_one_other_goes_on_for_all() {
    let transport = Scripted::by(|seen| if seen.is_login() { token("t0ken") } else { Reply::Silence });
    let client = transport.builder().cache(CachePolicy::default()).build().unwrap();
    let began = Instant::now();
    let calls = (0..20_u32).map(|number| {
        let agent = client.agent(credentials()).with_cache_scope("sales").with_timeout(Duration::from_secs(2));
        tokio::spawn(async move {
            sleep(Duration::from_millis(50) * number).await;
            agent.cached_script(&id()).await
        })
    });
    let calls: Vec<_> = calls.collect();
    sleep_until(began + Duration::from_millis(2_040)).await;
    assert_eq!(transport.calls().len(), 2, "the first, and the one that took its place");
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    assert!(began.elapsed() < Duration::from_secs(3), "each to its own time");
}

#[tokio::test(start_paused = true)]
async fn a_stale_copy_stands_in_for_a_service_that_is_down_and_says_so() {
    let (_, status, client) = service();
    let agent = client.agent(credentials());
    agent.cached_script(&id()).await.unwrap();
    tokio::time::advance(Duration::from_secs(120)).await;
    status.store(503, Ordering::SeqCst);
    let stale = agent.cached_script(&id()).await.unwrap();
    assert!(stale.stale && stale.age.as_secs() >= 120);
    tokio::time::advance(Duration::from_secs(700)).await;
    assert!(agent.cached_script(&id()).await.is_err(), "too old");
}

#[tokio::test(start_paused = true)]
async fn a_no_of_the_service_is_never_papered_over() {
    for (answer, kind) in [
        (400, ErrorKind::BadRequest),
        (401, ErrorKind::Unauthorized),
        (403, ErrorKind::Forbidden),
        (404, ErrorKind::NotFound),
    ] {
        let (_, status, client) = service();
        let agent = client.agent(credentials());
        agent.cached_script(&id()).await.unwrap();
        tokio::time::advance(Duration::from_secs(120)).await;
        status.store(answer, Ordering::SeqCst);
        assert_eq!(agent.cached_script(&id()).await.unwrap_err().kind(), kind);
    }
}

#[tokio::test(start_paused = true)]
async fn a_400_that_may_be_of_load_leaves_the_copy_where_it_is_and_any_other_drops_it() {
    let invalid = r#"{"code":"bad_request","message":"Invalid script definition"}"#;
    for (answer, kept) in [(invalid, true), (r#"{"code":"bad_request","message":"No."}"#, false)] {
        let fails = Arc::new(AtomicU16::new(0));
        let failing = Arc::clone(&fails);
        let transport = Scripted::by(move |seen| match (seen.is_login(), failing.load(Ordering::SeqCst)) {
            (true, _) => token("t0ken"),
            (_, 0) => script(),
            (_, 400) => reply(400, answer),
            (_, status) => reply(status, ""),
        });
        let client = transport.builder().cache(CachePolicy::default()).build().unwrap();
        let agent = client.agent(credentials());
        agent.cached_script(&id()).await.unwrap();
        tokio::time::advance(Duration::from_secs(120)).await;
        fails.store(400, Ordering::SeqCst);
        let error = agent.cached_script(&id()).await.unwrap_err();
        assert_eq!((error.status(), error.is_retryable()), (Some(400), kept), "{error}");
        // Whether it is still there shows when the service cannot be asked.
        fails.store(503, Ordering::SeqCst);
        let stale = agent.cached_script(&id()).await;
        assert_eq!(stale.is_ok_and(|cached| cached.stale), kept, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_service_refuses_for_load_a_stale_copy_stands_in() {
    let fails = Arc::new(AtomicU16::new(0));
    let failing = Arc::clone(&fails);
    let transport = Scripted::by(move |seen| match failing.load(Ordering::SeqCst) {
        _ if seen.is_login() => token("t0ken"),
        0 => script(),
        // Others are refused now and then, and served when they ask again; this one is not for now.
        n if !seen.url.ends_with(&format!("/scripts/{ID}")) && n % 2 == 1 => {
            failing.store(n + 1, Ordering::SeqCst);
            script()
        }
        n => {
            failing.store(n + 1, Ordering::SeqCst);
            reply(400, r#"{"code":"bad_request","message":"Invalid script definition"}"#)
        }
    });
    let client = transport.builder().cache(CachePolicy::default()).build().unwrap();
    let agent = client.agent(credentials());
    agent.cached_script(&id()).await.unwrap();
    tokio::time::advance(Duration::from_secs(120)).await;
    fails.store(1, Ordering::SeqCst);
    let others = async {
        for number in 0..200 {
            let other = format!("476c2b71-7429-11e4-9a5b-{number:012}").parse().unwrap();
            let _ = agent.script(&other).await;
        }
    };
    let script_id = id();
    let (cached, ()) = tokio::join!(agent.cached_script(&script_id), others);
    assert!(cached.unwrap().stale);
}

#[tokio::test(start_paused = true)]
async fn agents_share_copies_only_in_a_scope_the_user_named() {
    let (transport, _, client) = service();
    let agents = [client.agent(credentials()), client.agent(credentials())];
    for agent in &agents {
        agent.cached_script(&id()).await.unwrap();
    }
    assert_eq!(transport.calls().len(), 2);
    for agent in &agents {
        agent.with_cache_scope("sales").cached_script(&id()).await.unwrap();
    }
    assert_eq!(transport.calls().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn without_a_cache_every_call_asks() {
    let transport = Scripted::replies([script(), script()]);
    let agent = transport.agent();
    for _ in 0..2 {
        agent.cached_script(&id()).await.unwrap();
    }
    assert_eq!(transport.calls().len(), 2);
}
