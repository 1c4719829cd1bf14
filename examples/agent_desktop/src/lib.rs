//! How a backend keeps its agents: one client for the process, one agent for each browser that is logged in.
//!
//! With several processes, let the balancer send a browser always to the same one: agents restored in two of them from
//! one session would void each other's refresh tokens.
//!
//! ```text
//! cargo run --example agent_desktop                               tells its whole story once, against a simulator
//! cargo run --example agent_desktop -- --serve 127.0.0.1:8080     serves until Ctrl-C
//! GENESYSCLOUD_REGION=eu-central-1 GENESYSCLOUD_OAUTHCLIENT_ID=… \
//!     cargo run --example agent_desktop -- --serve 127.0.0.1:8080 …with the logins of Genesys Cloud
//! ```

mod refused;
mod story;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Path, State};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use genesys_scripts::simulator::Simulator;
use genesys_scripts::{
    Agent, Authorization, Client, Credentials, Error, OAuthClient, Region, Script, ScriptId, Session,
};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, StatusCode, Uri};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;

use refused::{Refused, must_log_in};

/// Your database: what outlives the process. A row is as good as the agent's password, so encrypt it, and let it
/// expire with your own sessions.
#[derive(Default)]
struct Database(Mutex<HashMap<String, Session>>);

struct Backend {
    region: Region,
    oauth: OAuthClient,
    redirect_uri: String,
    client: Client,
    /// Browsers sent to log in and not back yet.
    pending: Cache<String, Authorization>,
    /// The agents in use. What is evicted is not lost: it is restored from the database when it is next asked for.
    agents: Cache<String, Agent>,
    database: Arc<Database>,
}

impl Backend {
    fn new(region: Region, oauth: OAuthClient, url: &str, database: Arc<Database>) -> Result<Self, Error> {
        Ok(Self {
            // A browser waits no longer than this, login included.
            client: Client::builder(region.clone()).call_timeout(Duration::from_secs(30)).build()?,
            region,
            oauth,
            redirect_uri: format!("{url}/back"),
            // Anyone may begin a login, so there are only so many, and not for long. Once it is full, LRU gives up the
            // oldest, where moka's default would turn away the newest.
            pending: Cache::builder()
                .max_capacity(10_000)
                .time_to_live(Duration::from_secs(600))
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            // Room for more agents than there are, and longer than any call: an agent restored while calls of the
            // evicted one still run would be a second one with the same refresh token.
            agents: Cache::builder()
                .max_capacity(10_000)
                .time_to_idle(Duration::from_secs(1800))
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            database,
        })
    }

    /// An agent whose every new session is stored, before it is used: after a refresh the old one is void.
    fn agent(&self, id: &str, credentials: Credentials) -> Agent {
        let (database, id) = (Arc::clone(&self.database), id.to_owned());
        self.client.agent(credentials).on_session(move |session| {
            let (database, id) = (Arc::clone(&database), id.clone());
            async move {
                database.0.lock().await.insert(id, session);
            }
        })
    }

    /// The agent of this browser: the one that is kept, else the one that was stored. However many requests ask at
    /// once, one is made, and all of them share it.
    async fn agent_of(&self, headers: &HeaderMap) -> Result<(String, Agent), Refused> {
        let id = cookie(headers, "session").ok_or(Refused::LoggedOut)?;
        let restored = async {
            let session = self.database.0.lock().await.get(&id).cloned()?;
            Some(self.agent(&id, Credentials::Session { client: self.oauth.clone(), session }))
        };
        let agent = self.agents.optionally_get_with_by_ref(&id, restored).await.ok_or(Refused::LoggedOut)?;
        Ok((id, agent))
    }

    /// The database first: what is gone there is restored no more.
    async fn forget(&self, id: &str) {
        self.database.0.lock().await.remove(id);
        self.agents.invalidate(id).await;
    }
}

/// Sends the browser to Genesys Cloud.
async fn log_in(State(backend): State<Arc<Backend>>) -> Result<Response, Refused> {
    let begun = Authorization::begin(&backend.region, backend.oauth.clone(), &backend.redirect_uri)?;
    let (to, id) = (Redirect::to(begun.url()), new_id());
    backend.pending.insert(id.clone(), begun).await;
    Ok((AppendHeaders([(SET_COOKIE, set_cookie("login", &id))]), to).into_response())
}

/// The browser is back with a code. The cookie ties it to the browser that was sent: `state` alone would let a
/// stranger's login be slipped to it.
async fn back(State(backend): State<Arc<Backend>>, headers: HeaderMap, uri: Uri) -> Result<Response, Refused> {
    let login = cookie(&headers, "login").ok_or(Refused::LoggedOut)?;
    // `remove` alone would give one whose time is over, too.
    backend.pending.get(&login).await.ok_or(Refused::LoggedOut)?;
    let begun = backend.pending.remove(&login).await.ok_or(Refused::LoggedOut)?;
    // A new id for each login: one from before it may be known to others.
    let id = new_id();
    let agent = backend.agent(&id, begun.credentials(&uri.to_string())?);
    agent.log_in().await?;
    backend.agents.insert(id.clone(), agent).await;
    let cookies = [(SET_COOKIE, set_cookie("login", "")), (SET_COOKIE, set_cookie("session", &id))];
    // Away from the URL with the code.
    Ok((AppendHeaders(cookies), Redirect::to("/")).into_response())
}

async fn home(State(backend): State<Arc<Backend>>, headers: HeaderMap) -> Result<&'static str, Refused> {
    backend.agent_of(&headers).await.map(|_| "logged in")
}

async fn script(
    State(backend): State<Arc<Backend>>,
    Path(script): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Script>, Refused> {
    let (id, agent) = backend.agent_of(&headers).await?;
    let script: ScriptId = script.parse().map_err(Error::from)?;
    match agent.script(&script).await {
        Ok(script) => Ok(Json(script)),
        Err(error) => {
            if must_log_in(&error) {
                backend.forget(&id).await;
            }
            Err(error.into())
        }
    }
}

async fn log_out(State(backend): State<Arc<Backend>>, headers: HeaderMap) -> Result<Response, Refused> {
    let (id, agent) = backend.agent_of(&headers).await?;
    // A task of its own: a browser that does not wait for the answer is logged out all the same.
    let ended = tokio::spawn(async move {
        // Before it is forgotten, so that it is not restored meanwhile.
        if let Err(error) = agent.log_out().await {
            tracing::warn!(%error, "logged out here, but the token is good until it expires");
        }
        backend.forget(&id).await;
    });
    let status = if ended.await.is_ok() { StatusCode::NO_CONTENT } else { StatusCode::INTERNAL_SERVER_ERROR };
    Ok((status, AppendHeaders([(SET_COOKIE, set_cookie("session", ""))])).into_response())
}

/// 256 bits of the operating system's random source: who guesses an id has the session.
fn new_id() -> String {
    oauth2::CsrfToken::new_random_len(32).into_secret()
}

/// Behind TLS, name it `__Host-…` and add `Secure`. `Lax` keeps it from what other sites post, and lets it through
/// when the login leads back here.
fn set_cookie(name: &str, value: &str) -> String {
    let expired = if value.is_empty() { "; Max-Age=0" } else { "" };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{expired}")
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// A backend that serves until it is told to stop, and then ends what it has begun.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Running {
    async fn start(
        at: SocketAddr,
        region: Region,
        oauth: OAuthClient,
        database: Arc<Database>,
    ) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at}"))?;
        let address = listener.local_addr()?;
        let backend = Backend::new(region, oauth, &format!("http://{address}"), database)?;
        let routes = Router::new()
            .route("/", get(home))
            .route("/login", get(log_in))
            .route("/back", get(back))
            .route("/scripts/{id}", get(script))
            .route("/logout", post(log_out))
            .with_state(Arc::new(backend));
        let (stop, stopped) = oneshot::channel();
        let until = async { stopped.await.unwrap_or_default() };
        let server = tokio::spawn(axum::serve(listener, routes).with_graceful_shutdown(until).into_future());
        Ok(Self { address, stop, server })
    }

    async fn stop(self) -> anyhow::Result<()> {
        let _ = self.stop.send(());
        Ok(self.server.await??)
    }
}

/// How a backend keeps its agents; without arguments, its story
#[derive(Parser)]
struct Options {
    /// Serve here until Ctrl-C
    #[arg(long)]
    serve: Option<SocketAddr>,
}

/// Does what the command line says.
///
/// # Errors
///
/// What kept it from being done.
#[tokio::main]
pub async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let options = Options::parse();
    let simulator = Simulator::builder().client_secret("simulator").start().await?;
    let here = simulator.url();
    let (mut region, mut oauth) = (Region::custom(here, here, here)?, OAuthClient::public("agent-desktop"));
    let Some(at) = options.serve else {
        return story::story(&simulator, region, oauth).await;
    };
    if let Ok(named) = std::env::var("GENESYSCLOUD_REGION") {
        region = named.parse()?;
        oauth.id = std::env::var("GENESYSCLOUD_OAUTHCLIENT_ID").context("GENESYSCLOUD_OAUTHCLIENT_ID is not set")?;
        oauth.secret = std::env::var("GENESYSCLOUD_OAUTHCLIENT_SECRET").ok().map(Into::into);
    } else {
        println!("a simulator, with the scripts {}", simulator.script_ids().join(" "));
    }
    let running = Running::start(at, region, oauth, Arc::default()).await?;
    println!("log in at http://{}/login, then see /scripts/ID", running.address);
    tokio::signal::ctrl_c().await?;
    running.stop().await
}
