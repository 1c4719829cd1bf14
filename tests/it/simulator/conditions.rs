//! Planned faults: each strikes when its condition holds, and at no other time.

use std::time::Duration;

use futures_util::future::join_all;
use genesys_scripts::simulator::{Fault, Simulator, SimulatorBuilder, StartError, When};
use tokio::time::{advance, sleep};

use super::peer::{Peer, builder, plain_http};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn planned(when: When) -> SimulatorBuilder {
    builder().rate_limit(0).fault_when(when, Fault::InvalidScriptDefinition, 1.0)
}

async fn peer(when: When) -> (Peer, String) {
    let peer = Peer::of(planned(when).latency(MS(20)));
    let token = peer.login().await;
    (peer, token)
}

/// The statuses of requests for these scripts, all at once.
async fn at_once(peer: &Peer, token: &str, scripts: &[usize]) -> Vec<u16> {
    let get = |script: &usize| {
        let path = format!("/api/v2/scripts/{}", peer.script_id(*script));
        async move { peer.get(token, &path).await.status.as_u16() }
    };
    join_all(scripts.iter().map(get)).await
}

#[tokio::test(start_paused = true)]
async fn under_load_and_in_a_burst() {
    let (above, token) = peer(When::Above(2)).await;
    assert_eq!(at_once(&above, &token, &[0, 1, 2, 3, 4]).await, [200, 200, 200, 400, 400]);
    assert_eq!(at_once(&above, &token, &[0, 1, 2]).await, [200; 3]);

    let (burst, token) = peer(When::Burst(2, MS(500))).await;
    assert_eq!(at_once(&burst, &token, &[0]).await, [200]);
    assert_eq!(at_once(&burst, &token, &[0]).await, [200]);
    assert_eq!(at_once(&burst, &token, &[0]).await, [400], "one at a time, and still the third in half a second");
    sleep(MS(501)).await;
    assert_eq!(at_once(&burst, &token, &[0, 0, 0]).await, [200, 200, 400]);
}

#[tokio::test(start_paused = true)]
async fn for_a_script_the_first_time_and_while_it_is_asked_for() {
    let (script, token) = peer(When::Script(2)).await;
    assert_eq!(at_once(&script, &token, &[0, 1, 2, 1]).await, [200, 400, 200, 400]);

    let (first, token) = peer(When::FirstOfScript).await;
    assert_eq!(at_once(&first, &token, &[0, 1]).await, [400, 400]);
    assert_eq!(at_once(&first, &token, &[0, 1, 2]).await, [200, 200, 400]);

    let (same, token) = peer(When::SameScript).await;
    assert_eq!(at_once(&same, &token, &[0, 1, 0, 2, 0]).await, [200, 200, 400, 200, 400]);
    assert_eq!(at_once(&same, &token, &[0]).await, [200], "the others are gone");
}

#[tokio::test(start_paused = true)]
async fn a_script_is_the_same_however_its_id_is_spelled() {
    for (when, statuses) in
        [(When::Script(1), [400, 400]), (When::FirstOfScript, [400, 200]), (When::SameScript, [200, 400])]
    {
        let (peer, token) = peer(when).await;
        let id = peer.script_id(0);
        let get = |id: String| {
            let path = format!("/api/v2/scripts/{id}");
            let (peer, token) = (&peer, &token);
            async move { peer.get(token, &path).await.status.as_u16() }
        };
        let told = join_all([get(id.to_uppercase()), get(id)]).await;
        assert_eq!(told, statuses, "{when}");
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_span_of_time_with_a_probability_and_beside_other_faults() {
    let (time, token) = peer(When::Time(MS(3_000), MS(5_000))).await;
    assert_eq!(at_once(&time, &token, &[0]).await, [200]);
    advance(MS(3_000)).await;
    assert_eq!(at_once(&time, &token, &[0]).await, [400]);
    advance(MS(2_000)).await;
    assert_eq!(at_once(&time, &token, &[0]).await, [200]);

    let half = builder().rate_limit(0).fault_when(When::Always, Fault::Forbidden, 0.5);
    let half = Peer::of(half.fault(Fault::InternalServerError, 1.0));
    let token = half.login().await;
    let mut statuses = Vec::new();
    for _ in 0..200 {
        statuses.extend(at_once(&half, &token, &[0]).await);
    }
    let forbidden = statuses.iter().filter(|status| **status == 403).count();
    assert!((70..130).contains(&forbidden), "{forbidden}");
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 200 - forbidden);

    let bad = builder().fault_when(When::Always, Fault::Empty, 1.5).in_process();
    assert!(matches!(bad, Err(StartError::Probability)));
    for when in [When::Burst(1, Duration::MAX), When::Time(MS(1), Duration::MAX)] {
        let bad = builder().fault_when(when, Fault::Empty, 1.0).in_process();
        assert!(matches!(bad, Err(StartError::TooLong)), "{when}");
        half.simulator.plan_fault(when, Fault::Empty, 1.0);
    }
    assert_ne!(at_once(&half, &token, &[0]).await, [200], "and nothing breaks");
}

#[tokio::test(start_paused = true)]
async fn a_client_of_one_session_loses_it_by_the_next_login() {
    let peer = Peer::of(builder().one_session());
    let (first, path) = (peer.login().await, format!("/api/v2/scripts/{}", peer.script_id(0)));
    assert_eq!(peer.get(&first, &path).await.status, 200);
    let other = peer.login_as("another-client").await;
    let second = peer.login().await;
    assert_eq!(peer.get(&first, &path).await.status, 401);
    assert_eq!(peer.get(&second, &path).await.status, 200);
    assert_eq!(peer.get(&other, &path).await.status, 200, "its client has its own");
}

/// Over sockets: the statuses of requests one after the other, and the nodes they name.
async fn sent(simulator: &Simulator, http: &reqwest::Client, count: usize) -> Vec<(u16, Option<String>)> {
    let login = http.post(format!("{}/oauth/token", simulator.url())).basic_auth("client", Some("simulator"));
    let login = login.header("content-type", "application/x-www-form-urlencoded").body("grant_type=client_credentials");
    let body = login.send().await.unwrap().bytes().await.unwrap();
    let token =
        serde_json::from_slice::<serde_json::Value>(&body).unwrap()["access_token"].as_str().unwrap().to_owned();
    let mut told = Vec::new();
    for _ in 0..count {
        let url = format!("{}/api/v2/scripts/{}", simulator.url(), simulator.script_ids()[0]);
        let response = http.get(url).bearer_auth(&token).send().await.unwrap();
        let node = response.headers().get("x-node").map(|node| node.to_str().unwrap().to_owned());
        told.push((response.status().as_u16(), node));
        response.bytes().await.unwrap();
    }
    told
}

#[tokio::test]
async fn by_connection_node_and_address() {
    let _ = plain_http();
    let client = || reqwest::Client::builder().no_proxy();
    let (keeps, never) = (client().build().unwrap(), client().pool_max_idle_per_host(0).build().unwrap());
    let statuses = |told: Vec<(u16, Option<String>)>| told.into_iter().map(|(status, _)| status).collect::<Vec<_>>();

    let fresh = planned(When::NewConnection).start().await.unwrap();
    assert_eq!(statuses(sent(&fresh, &never, 2).await), [400; 2]);
    assert_eq!(statuses(sent(&fresh, &keeps, 2).await), [200; 2], "the login was the first on it");
    let kept = planned(When::KeptConnection).start().await.unwrap();
    assert_eq!(statuses(sent(&kept, &never, 2).await), [200; 2]);
    assert_eq!(statuses(sent(&kept, &keeps, 2).await), [400; 2]);

    let node = planned(When::Node(2, 3)).start().await.unwrap();
    let told = sent(&node, &never, 6).await;
    assert!(told.iter().all(|(status, node)| (*status == 400) == (node.as_deref() == Some("2"))), "{told:?}");
    assert_eq!(told.iter().filter(|(status, _)| *status == 400).count(), 2);

    let limited = planned(When::PerAddress(2)).start().await.unwrap();
    assert_eq!(statuses(sent(&limited, &keeps, 4).await), [200, 200, 400, 400]);
    #[cfg(target_os = "linux")]
    {
        let other = client().local_address(std::net::IpAddr::from([127, 0, 0, 2])).build().unwrap();
        assert_eq!(statuses(sent(&limited, &other, 3).await), [200, 200, 400], "another address has its own");
    }
}
