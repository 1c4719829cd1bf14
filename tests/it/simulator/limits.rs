//! The quota of a token, the login limit of a client, the knee, and what the counts say of them.

use std::time::Duration;

use tokio::time::{Instant, advance, sleep};

use super::peer::{CLIENT, Peer, builder, peer};

#[tokio::test(start_paused = true)]
async fn the_quota_is_a_fixed_window_of_sixty_seconds_for_each_token() {
    let peer = Peer::of(builder().rate_limit(3));
    let (one, other) = (peer.login().await, peer.login().await);
    let path = format!("/api/v2/scripts/{}", peer.script_id(0));
    sleep(Duration::from_secs(7)).await;

    for count in 1..=3 {
        let reply = peer.get(&one, &path).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("inin-ratelimit-count"), Some(count.to_string().as_str()));
        assert_eq!(reply.header("inin-ratelimit-allowed"), Some("3"));
        assert_eq!(reply.header("inin-ratelimit-reset"), Some("60"));
        assert_eq!(reply.header("retry-after"), None);
    }
    advance(Duration::from_millis(17_500)).await;
    let reply = peer.get(&one, &path).await;
    let message = "Rate limit exceeded the maximum. Retry the request in [43] seconds";
    reply.refused(429, "too.many.requests.retry.after", message);
    assert_eq!(reply.header("retry-after"), Some("43"));
    assert_eq!(reply.header("inin-ratelimit-reset"), Some("43"));
    assert_eq!(reply.header("inin-ratelimit-count"), Some("3"), "a refused request does not count");
    assert_eq!(peer.get(&other, &path).await.status, 200, "another token has its own window");

    advance(Duration::from_millis(42_499)).await;
    assert_eq!(peer.get(&one, &path).await.header("retry-after"), Some("1"));
    advance(Duration::from_millis(1)).await;
    let reply = peer.get(&one, &path).await;
    assert_eq!((reply.status.as_u16(), reply.header("inin-ratelimit-count")), (200, Some("1")));
    assert_eq!(peer.simulator.stats().throttled, 2);
}

#[tokio::test(start_paused = true)]
async fn the_limit_can_be_moved_hidden_and_taken_away() {
    let peer = Peer::of(builder().rate_limit(1));
    let token = peer.login().await;
    let path = format!("/api/v2/scripts/{}", peer.script_id(0));
    assert_eq!(peer.get(&token, &path).await.status, 200);
    peer.simulator.set_quota_headers(false);
    let reply = peer.get(&token, &path).await;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (429, Some("60")));
    assert_eq!(reply.header("inin-ratelimit-allowed"), None);
    peer.simulator.set_quota_headers(true);
    peer.simulator.set_rate_limit(2);
    assert_eq!(peer.get(&token, &path).await.header("inin-ratelimit-count"), Some("2"));
    peer.simulator.set_rate_limit(0);
    let reply = peer.get(&token, &path).await;
    assert_eq!((reply.status.as_u16(), reply.header("inin-ratelimit-count")), (200, None));
}

#[tokio::test(start_paused = true)]
async fn logins_are_limited_for_each_client_in_the_token_endpoints_own_words() {
    let peer = Peer::of(builder().login_rate_limit(2));
    let form = [("grant_type", "client_credentials")];
    let wrong = peer.token(Some((CLIENT, "guess")), &form).await;
    assert_eq!(wrong.json()["error"], "invalid_client", "and it does not count");
    for _ in 0..2 {
        peer.login().await;
    }
    advance(Duration::from_millis(59_999)).await;
    let reply = peer.token(Some((CLIENT, "simulator")), &form).await;
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["error"], "invalid_request");
    let description = reply.json()["error_description"].as_str().map(str::to_owned);
    assert!(description.is_some_and(|text| text.starts_with("rate limit exceeded;")));
    assert_eq!(reply.header("retry-after"), None);
    peer.login_as("another-client").await;
    advance(Duration::from_millis(1)).await;
    peer.login().await;
    let stats = peer.simulator.stats();
    assert_eq!((stats.logins["200"], stats.logins["400"], stats.tokens_issued), (4, 2, 4));
}

#[tokio::test(start_paused = true)]
async fn above_the_knee_requests_are_refused_at_once_and_not_held() {
    let peer = Peer::of(builder().latency(Duration::from_millis(20)).knee(4, 1.0).rate_limit(0));
    let token = peer.login().await;
    let path = format!("/api/v2/scripts/{}", peer.script_id(0));
    let start = Instant::now();
    let replies = futures_util::future::join_all((0..10).map(|_| async {
        let reply = peer.get(&token, &path).await;
        (reply, start.elapsed())
    }))
    .await;
    // "More than four in flight" lets the fifth in.
    let (served, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|(reply, _)| reply.status == 200);
    assert_eq!((served.len(), refused.len()), (5, 5));
    assert!(served.iter().all(|(_, after)| *after >= Duration::from_millis(20)));
    for (reply, after) in refused {
        assert_eq!(*after, Duration::ZERO);
        reply.refused(400, "bad_request", "Invalid script definition");
    }
    let stats = peer.simulator.stats();
    assert_eq!((stats.peak_script_requests, stats.over_knee), (5, 5));
    assert_eq!((stats.script_requests["200"], stats.script_requests["400"]), (5, 5));

    peer.simulator.set_knee(None);
    let replies = futures_util::future::join_all((0..10).map(|_| peer.get(&token, &path))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(peer.simulator.stats().peak_script_requests, 10);
}

#[tokio::test(start_paused = true)]
async fn the_knee_refuses_with_its_probability_and_repeatably() {
    let refused = |seed| async move {
        let peer = Peer::of(builder().latency(Duration::from_millis(20)).knee(0, 0.4).rate_limit(0).seed(seed));
        let token = peer.login().await;
        let path = format!("/api/v2/scripts/{}", peer.script_id(0));
        let replies = futures_util::future::join_all((0..500).map(|_| peer.get(&token, &path))).await;
        replies.iter().map(|reply| reply.status == 400).collect::<Vec<_>>()
    };
    let first = refused(7).await;
    assert_eq!(first, refused(7).await);
    assert_ne!(first, refused(8).await);
    let share = first.iter().filter(|refused| **refused).count();
    assert!((150..250).contains(&share), "{share} of 500");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_no_longer_in_flight() {
    let peer = Peer::of(builder().latency(Duration::from_secs(10)).knee(0, 1.0));
    let token = peer.login().await;
    let path = format!("/api/v2/scripts/{}", peer.script_id(0));
    let impatient = tokio::time::timeout(Duration::from_secs(1), peer.get(&token, &path)).await;
    assert!(impatient.is_err());
    assert_eq!(peer.get(&token, &path).await.status, 200, "nobody is in flight");
    let stats = peer.simulator.stats();
    assert_eq!((stats.script_requests["dropped"], stats.script_requests["200"]), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_order_is_token_quota_knee() {
    let peer = Peer::of(builder().rate_limit(1).knee(0, 1.0).latency(Duration::from_secs(1)));
    let token = peer.login().await;
    let path = format!("/api/v2/scripts/{}", peer.script_id(0));
    let (first, second, third) =
        tokio::join!(peer.get(&token, &path), peer.get(&token, &path), peer.get("bogus", &path));
    assert_eq!((first.status.as_u16(), second.status.as_u16(), third.status.as_u16()), (200, 429, 401));
    assert_eq!(third.header("inin-ratelimit-count"), None);
    assert_eq!(peer.simulator.stats().over_knee, 0);
}

#[tokio::test(start_paused = true)]
async fn down_is_503_at_once_and_a_broken_script_is_400_until_mended() {
    let peer = Peer::of(builder().latency(Duration::from_secs(1)));
    let token = peer.login().await;
    let (path, other) = (format!("/api/v2/scripts/{}", peer.script_id(0)), peer.script_id(1));
    peer.simulator.set_down(true);
    let start = Instant::now();
    let text =
        "Service Unavailable - The server is currently unavailable (because it is overloaded or down for maintenance).";
    peer.get(&token, &path).await.refused(503, "service.unavailable", text);
    assert_eq!(start.elapsed(), Duration::ZERO);
    peer.simulator.set_down(false);

    peer.simulator.break_script(&peer.script_id(0));
    for path in [path.clone(), path.replace("scripts/", "scripts/published/"), format!("{path}/pages")] {
        peer.get(&token, &path).await.refused(400, "bad_request", "Invalid script definition");
    }
    assert_eq!(peer.get(&token, &format!("/api/v2/scripts/{other}")).await.status, 200);
    peer.simulator.mend_script(&peer.script_id(0));
    assert_eq!(peer.get(&token, &path).await.status, 200);
}

#[tokio::test]
async fn the_simulators_own_routes_are_free_and_exact() {
    let peer = peer();
    let token = peer.login().await;
    let id = peer.script_id(0);
    peer.get(&token, &format!("/api/v2/scripts/{id}")).await;
    peer.get("bogus", &format!("/api/v2/scripts/{id}")).await;
    let stats = peer.get("", "/_simulator/stats").await;
    assert_eq!(
        stats.json(),
        serde_json::json!({
            "script_requests": { "200": 1, "401": 1 }, "peak_script_requests": 1, "over_knee": 0,
            "logins": { "200": 1 }, "tokens_issued": 1, "tokens_revoked": 0, "throttled": 0,
            "operations": { "getScript": 2 },
        })
    );
    let scripts = peer.get("", "/_simulator/scripts").await.json();
    assert_eq!(scripts.as_array().map(Vec::len), Some(20));
    assert_eq!(scripts[0], serde_json::json!({ "id": id, "name": "Script 1" }));
    assert_eq!(peer.simulator.requests().len(), 3, "the login and two gets");
}
