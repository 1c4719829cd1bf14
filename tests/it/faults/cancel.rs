//! A call that is dropped, at whichever point it waits, leaves the client as if it had never been. On a paused clock, with the
//! scripted transport: each call is polled so often, then dropped; so often as it takes until it would have been done.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::{BoxFuture, join_all};
use genesys_scripts::{Agent, CachePolicy, Client, ImportScript, ListScripts, PublishScript, ScriptFile};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::common::herd::virtually;
use crate::common::{ID, Reply, Scripted, Seen, credentials, id, reply, script, token};

/// Polled so often, as it asks for it, and dropped then, unless it is done.
async fn polled<F: Future>(times: usize, call: F) -> Option<F::Output> {
    let (mut call, mut left) = (pin!(call), times);
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match call.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A world in which a call is made, and what that call waits for.
struct Wait {
    what: &'static str,
    answer: fn(&Seen) -> Reply,
    /// What goes on beside the call, and before it.
    beside: fn(Client) -> BoxFuture<'static, ()>,
    call: fn(Agent) -> BoxFuture<'static, bool>,
    /// How often it has to be polled at least, or it did not wait as it should.
    polls: usize,
}

fn nothing(_: Client) -> BoxFuture<'static, ()> {
    Box::pin(async {})
}

fn read(agent: Agent) -> BoxFuture<'static, bool> {
    Box::pin(async move { agent.script(&id()).await.is_ok() })
}

fn served(seen: &Seen) -> Reply {
    if seen.is_login() { token("t0ken") } else { script() }
}

impl Wait {
    /// Whether the call was done after so many polls.
    async fn dropped_after(&self, polls: usize, transport: &Scripted, client: &Client) -> bool {
        let what = self.what;
        let beside = tokio::spawn((self.beside)(client.clone()));
        tokio::task::yield_now().await;
        let agent = client.agent(credentials());
        let done = polled(polls, (self.call)(agent.clone())).await;
        if let Some(served) = done {
            assert!(served, "{what}: the call failed");
        }
        // What others wait for as well goes on: a login under way, and the calls beside.
        beside.await.unwrap();
        sleep(Duration::from_secs(600)).await;
        let stats = client.stats();
        for host in [&stats.api, &stats.login, &stats.upload] {
            assert_eq!((host.in_flight, host.waiting), (0, 0), "{what}, dropped after {polls} polls: {stats:?}");
            assert!(host.down.is_empty(), "{what}, dropped after {polls} polls: {stats:?}");
        }
        let standing = agent.quota();
        assert!(standing.iter().all(|one| one.waiting == 0), "{what}, after {polls}: {standing:?}");
        let known = standing.iter().filter_map(|one| Some((one.allowed?, one.remaining?)));
        assert!(known.clone().all(|(allowed, remaining)| allowed == remaining), "{what}, after {polls}: {standing:?}");
        // Those who call next wait for nothing but their own answer.
        let (sent, begun) = (transport.seen().len(), Instant::now());
        let logins = transport.logins();
        agent.script(&id()).await.unwrap_or_else(|error| panic!("{what}, dropped after {polls} polls: {error}"));
        let trips = 1 + u32::from(transport.logins() > logins);
        assert_eq!(transport.seen().len() - sent, trips as usize, "{what}, dropped after {polls} polls");
        assert!(begun.elapsed() <= trips * Duration::from_millis(21), "{what}, after {polls}: {:?}", begun.elapsed());
        client.agent(credentials()).script(&id()).await.unwrap();
        done.is_some()
    }

    /// One client for all: what a dropped call leaves behind is met by those after it.
    async fn dropped_wherever_it_waits(self) {
        let (answer, begun) = (self.answer, Arc::new(Mutex::new(Duration::ZERO)));
        let since = Arc::clone(&begun);
        // Each time the world begins anew.
        let transport = Scripted::by(move |seen| {
            answer(&Seen { at: seen.at.saturating_sub(*since.lock().unwrap()), ..seen.clone() })
        });
        // One place that is lost is missed at once.
        let client = transport.builder().max_in_flight(1).cache(CachePolicy::default()).build().unwrap();
        let (started, mut polls) = (Instant::now(), 0);
        while !self.dropped_after(polls, &transport, &client).await {
            *begun.lock().unwrap() = started.elapsed();
            // Those of many calls at once are much alike.
            polls += 1 + polls / 30;
            assert!(polls < 1_000, "{}: it is never done", self.what);
        }
        assert!(polls >= self.polls, "{}: it waited {polls} times only", self.what);
    }

    fn dropped_everywhere(self) {
        virtually(self.dropped_wherever_it_waits());
    }
}

const SECOND: Duration = Duration::from_secs(1);

/// Others, one after another, that are all served in the end.
fn others(client: Client, count: u64, every: Duration) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let mut calls = JoinSet::new();
        for _ in 0..count {
            let agent = client.agent(credentials());
            calls.spawn(async move { agent.script(&id()).await.map(drop) });
            sleep(every).await;
        }
        for done in calls.join_all().await {
            done.unwrap();
        }
    })
}

#[test]
fn in_a_login_and_an_attempt() {
    Wait { what: "a read", answer: served, beside: nothing, call: read, polls: 3 }.dropped_everywhere();
    let publish: fn(Agent) -> BoxFuture<'static, bool> =
        |agent| Box::pin(async move { agent.publish(&id(), &PublishScript::default()).await.is_ok() });
    Wait { what: "a publish", answer: served, beside: nothing, call: publish, polls: 3 }.dropped_everywhere();
    let log_out: fn(Agent) -> BoxFuture<'static, bool> =
        |agent| Box::pin(async move { agent.script(&id()).await.is_ok() && agent.log_out().await.is_ok() });
    Wait { what: "a logout", answer: served, beside: nothing, call: log_out, polls: 4 }.dropped_everywhere();
}

#[test]
fn in_a_backoff_and_while_a_token_is_replaced() {
    let fails = |seen: &Seen| match seen.at < SECOND && !seen.is_login() {
        true => reply(503, ""),
        false => served(seen),
    };
    Wait { what: "a backoff", answer: fails, beside: nothing, call: read, polls: 8 }.dropped_everywhere();
    let fails = |seen: &Seen| if seen.at < SECOND { reply(503, "") } else { served(seen) };
    Wait { what: "a login's backoff", answer: fails, beside: nothing, call: read, polls: 3 }.dropped_everywhere();
    let silent = |seen: &Seen| match seen.at < SECOND && !seen.is_login() {
        true => Reply::Silence,
        false => served(seen),
    };
    Wait { what: "a silence", answer: silent, beside: nothing, call: read, polls: 5 }.dropped_everywhere();
    let refuses = |seen: &Seen| match seen.is_login() {
        false if seen.at < SECOND / 30 => reply(401, "{}"),
        _ => served(seen),
    };
    Wait { what: "a 401", answer: refuses, beside: nothing, call: read, polls: 5 }.dropped_everywhere();
}

#[test]
fn at_a_limit_of_the_service() {
    let limits = |seen: &Seen| match seen.at < 5 * SECOND && !seen.is_login() {
        true => reply(429, "").with("retry-after", "5"),
        false => served(seen),
    };
    Wait { what: "a 429", answer: limits, beside: nothing, call: read, polls: 5 }.dropped_everywhere();
    let window = |seen: &Seen| {
        served(seen)
            .with("inin-ratelimit-allowed", "1")
            .with("inin-ratelimit-count", "1")
            .with("inin-ratelimit-reset", "60")
    };
    let twice: fn(Agent) -> BoxFuture<'static, bool> =
        |agent| Box::pin(async move { agent.script(&id()).await.is_ok() && agent.script(&id()).await.is_ok() });
    Wait { what: "a window that is spent", answer: window, beside: nothing, call: twice, polls: 5 }
        .dropped_everywhere();
    let at_once: fn(Agent) -> BoxFuture<'static, bool> = |agent| {
        Box::pin(async move {
            let id = id();
            join_all((0..60).map(|_| agent.script(&id))).await.iter().all(Result::is_ok)
        })
    };
    Wait { what: "sixty at once", answer: served, beside: nothing, call: at_once, polls: 60 }.dropped_everywhere();
    let throttles = |seen: &Seen| match seen.at < 5 * SECOND && seen.is_login() {
        true => reply(400, r#"{"error":"invalid_request","description":"rate limit exceeded"}"#),
        false => served(seen),
    };
    Wait { what: "a login limit", answer: throttles, beside: nothing, call: read, polls: 3 }.dropped_everywhere();
}

#[test]
fn behind_others() {
    let slow_at_first = |seen: &Seen| match seen.at < 60 * SECOND {
        true => Reply::Later(SECOND, Box::new(served(seen))),
        false => served(seen),
    };
    let queue: fn(Client) -> BoxFuture<'static, ()> = |client| others(client, 3, Duration::ZERO);
    Wait { what: "a place in flight", answer: slow_at_first, beside: queue, call: read, polls: 4 }.dropped_everywhere();
    let cached: fn(Client) -> BoxFuture<'static, ()> = |client| {
        Box::pin(async move {
            let agent = client.agent(credentials()).with_cache_scope("all");
            sleep(SECOND / 2).await;
            assert_eq!(agent.cached_script(&id()).await.unwrap().value.id, id());
        })
    };
    let read: fn(Agent) -> BoxFuture<'static, bool> =
        |agent| Box::pin(async move { agent.with_cache_scope("all").cached_script(&id()).await.is_ok() });
    Wait { what: "a load of the cache's", answer: slow_at_first, beside: cached, call: read, polls: 2 }
        .dropped_everywhere();
    // Found out by a dozen who go first; the call is one of those who ask whether it is over.
    let down = |seen: &Seen| match seen.at < 4 * SECOND && !seen.is_login() {
        true => reply(503, ""),
        false => served(seen),
    };
    let dozen: fn(Client) -> BoxFuture<'static, ()> = |client| others(client, 14, SECOND / 8);
    let late: fn(Agent) -> BoxFuture<'static, bool> = |agent| {
        Box::pin(async move {
            sleep(2 * SECOND).await;
            agent.script(&id()).await.is_ok()
        })
    };
    Wait { what: "an outage", answer: down, beside: dozen, call: late, polls: 4 }.dropped_everywhere();
}

#[test]
fn in_a_call_of_many_requests() {
    let pages = |seen: &Seen| match seen.url.contains("pageNumber") {
        true => {
            let number = seen.url.split_once("pageNumber=").unwrap().1.split('&').next().unwrap();
            reply(200, format!(r#"{{"entities":[{{"id":"{number}"}}],"pageCount":3,"total":3}}"#))
        }
        false => served(seen),
    };
    let list: fn(Agent) -> BoxFuture<'static, bool> =
        |agent| Box::pin(async move { agent.scripts(ListScripts::default()).try_collect::<Vec<_>>().await.is_ok() });
    Wait { what: "a listing", answer: pages, beside: nothing, call: list, polls: 5 }.dropped_everywhere();
    let importing = |seen: &Seen| match &seen.url {
        url if url.contains("/uploads/v2/scripter") => reply(200, r#"{"correlationId":"up-1"}"#),
        url if url.contains("/status") && seen.at < 5 * SECOND => reply(200, "{}"),
        url if url.contains("/status") => reply(200, r#"{"succeeded":true}"#),
        url if url.contains("pageNumber") && seen.at < 5 * SECOND => {
            reply(200, r#"{"entities":[],"pageCount":1,"total":0}"#)
        }
        url if url.contains("pageNumber") => {
            reply(200, format!(r#"{{"entities":[{{"id":"{ID}","name":"Inbound"}}],"pageCount":1,"total":1}}"#))
        }
        _ => served(seen),
    };
    let import: fn(Agent) -> BoxFuture<'static, bool> = |agent| {
        Box::pin(async move {
            let file = ScriptFile::from_slice(br#"{"name":"Inbound"}"#).unwrap();
            agent.import(&file, &ImportScript::default()).await.is_ok()
        })
    };
    Wait { what: "an import", answer: importing, beside: nothing, call: import, polls: 8 }.dropped_everywhere();
}
