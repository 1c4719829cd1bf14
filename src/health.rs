//! How a client stands, for a service's own health page.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::auth::sharing::Sharing;
use crate::client::{Client, Host};
use crate::stats::seconds;

/// How a client stands; see [`Client::health`]. It serialises, durations in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether the client takes calls: until it is told to [`shut_down`](Client::shut_down).
    ///
    /// This is for a readiness probe. An outage of the service makes no client unready: only calls find out that it is over, and
    /// another replica would fare no better.
    pub is_ready: bool,
    /// Sessions that could not be stored yet: [`Stats::sessions_unstored`](crate::Stats::sessions_unstored).
    pub sessions_unstored: usize,
    /// The store that sessions are shared by, where there is one. While it is away this replica serves its agents by itself, and is
    /// ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_store: Option<StoreHealth>,
    /// The operations called so far, those of the api host first.
    pub routes: Vec<RouteHealth>,
}

/// How the store stands that sessions are shared by; see [`SharedSessions`](crate::SharedSessions).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StoreHealth {
    /// Whether it answers, as far as is known: it is asked each second, from the first call of an agent that is shared on.
    pub is_there: bool,
    /// For how long it has been away.
    #[serde(rename = "away_for_s", serialize_with = "seconds", skip_serializing_if = "Option::is_none")]
    pub away_for: Option<Duration>,
    /// Why, as it was last found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// How one operation of a host stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct RouteHealth {
    /// The host, with its port where that is its own.
    pub host: String,
    /// The operation, like `get script`.
    pub operation: &'static str,
    /// Whether it is served.
    pub state: RouteState,
    /// For how long it has been out.
    #[serde(rename = "out_for_s", serialize_with = "seconds", skip_serializing_if = "Option::is_none")]
    pub out_for: Option<Duration>,
    /// In how long it is asked again, by a call that waits or the next that comes.
    #[serde(rename = "asked_again_in_s", serialize_with = "seconds", skip_serializing_if = "Option::is_none")]
    pub asked_again_in: Option<Duration>,
    /// What came of the last attempt while it is out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

/// Whether an operation is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RouteState {
    /// No outage is known.
    Served,
    /// Nothing but failures so far; it is asked again later. While few different things, or few agents' calls, failed, others
    /// are still sent at once.
    Out,
    /// It was out when it was last asked, and the next call asks again: it needs somebody to call.
    WaitsForACall,
}

impl Client {
    /// How this client stands: whether it takes calls, and of each operation whether it is served, for how long it has not been,
    /// and when it is asked again. Nothing is sent.
    ///
    /// ```
    /// use genesys_scripts::{Client, Region};
    ///
    /// let client = Client::builder(Region::EU_CENTRAL_1).build()?;
    /// let health = client.health();
    /// assert!(health.is_ready && health.routes.is_empty());
    /// println!("{}", serde_json::to_string(&health)?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn health(&self) -> Health {
        let shared = &self.shared;
        let hosts = [&shared.api, &shared.login, &shared.upload, &shared.downloads];
        Health {
            is_ready: !shared.under_way.is_closing(),
            sessions_unstored: shared.under_way.unstored.len(),
            session_store: shared.sharing.as_deref().map(store),
            routes: hosts.into_iter().flat_map(routes).collect(),
        }
    }
}

fn store(sharing: &Sharing) -> StoreHealth {
    let away = sharing.away();
    StoreHealth {
        is_there: away.is_none(),
        away_for: away.as_ref().map(|(since, _)| since.elapsed()),
        last: away.map(|(_, why)| why),
    }
}

fn routes(host: &Host) -> Vec<RouteHealth> {
    let now = Instant::now();
    let health = |operation, out: Option<crate::limits::outage::IsDown>| RouteHealth {
        host: host.name().to_owned(),
        operation,
        state: match &out {
            None => RouteState::Served,
            Some(out) if out.next_probe > now => RouteState::Out,
            Some(_) => RouteState::WaitsForACall,
        },
        out_for: out.as_ref().map(|out| now.saturating_duration_since(out.since)),
        asked_again_in: out.as_ref().map(|out| out.next_probe.saturating_duration_since(now)),
        last: out.map(|out| out.last),
    };
    host.each_route(|operation, route| health(operation, route.outage.standing()))
}
