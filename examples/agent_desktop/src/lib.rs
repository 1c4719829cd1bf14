//! How a backend keeps its agents: one client for the process, one agent for each browser that is logged in, their sessions in
//! SQLite, sealed; `/health` and `/metrics`; and a shutdown that loses none of them.
//!
//! Several processes are one service when they have the same Redis and the same key, behind any balancer: each of them serves each
//! browser, and one of them refreshes. A database is for one process alone: agents restored in two from one session would void each
//! other's refresh tokens.
//!
//! ```text
//! cargo run --example agent_desktop                               tells its whole story once, against a simulator
//! cargo run --example agent_desktop -- --serve 127.0.0.1:8080     serves until Ctrl-C or SIGTERM: open it in a browser
//! GENESYSCLOUD_REGION=eu-central-1 GENESYSCLOUD_OAUTHCLIENT_ID=… DESKTOP_KEY=$(openssl rand -hex 32) \
//!     cargo run --example agent_desktop -- --serve 127.0.0.1:8080 --database desktop.sqlite
//!                                                                 …with the logins of Genesys Cloud, over restarts
//! … cargo run --example agent_desktop -- --serve 0.0.0.0:8080 --redis redis://redis:6379 --url https://desktop.example
//!                                                                 …as one of several replicas, behind that address
//! ```

mod answers;
mod metrics;
mod store;
mod story;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use clap::Parser;
use futures_util::{StreamExt as _, TryStreamExt as _};
use genesys_scripts::simulator::Simulator;
use genesys_scripts::{
    Agent, Authorization, CachePolicy, Client, ClientConfig, Credentials, Error, ListScripts, OAuthClient, Region,
    RetryPolicy, Script, ScriptId, ShutDown,
};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use answers::{Known, Refused, Shown, must_log_in};
use metrics::Metrics;
use store::{LOGIN_SECONDS, Store};

/// What a process that is told to stop has left: less than what its platform waits before it kills.
const SHUTDOWN: Duration = Duration::from_secs(25);
/// So much of it is not the browsers', who may wait for longer: a session that is not stored is lost.
const STORING: Duration = Duration::from_secs(5);

struct Backend {
    region: Region,
    oauth: OAuthClient,
    redirect_uri: String,
    client: Client,
    /// The agents in use. What is evicted is not lost: it is restored from the store when it is next asked for.
    agents: Cache<String, Agent>,
    store: Store,
    metrics: Metrics,
}

impl Backend {
    fn new(config: &ClientConfig, oauth: OAuthClient, url: &str, store: Store) -> anyhow::Result<Self> {
        let builder = match store.sessions() {
            Some(sessions) => config.builder()?.share_sessions(sessions.clone()),
            None => config.builder()?,
        };
        Ok(Self {
            metrics: Metrics::installed()?,
            client: builder
                // A browser waits no longer than this, login included.
                .call_timeout(Duration::from_secs(30))
                // Rather than wait for many attempts to fail, agents see soon what they saw last.
                .retry(RetryPolicy::default().with_attempts(4))
                // Each look asks the service; while it cannot be asked, agents see what they saw last.
                .cache(CachePolicy::default().with_time_to_live(Duration::ZERO))
                .build()?,
            region: config.place()?,
            oauth,
            redirect_uri: format!("{url}/back"),
            // Room for more agents than there are, and longer than any call: an agent restored while calls of the
            // evicted one still run would be a second one with the same refresh token.
            agents: Cache::builder()
                .max_capacity(10_000)
                .time_to_idle(Duration::from_secs(1800))
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            store,
        })
    }

    /// An agent whose every new session is stored, before it is used: after a refresh the old one is void. Should the store
    /// fail, it is asked again. Where replicas share the sessions, the client does that.
    fn agent(&self, id: &str, credentials: Credentials) -> Agent {
        let (store, id) = (self.store.clone(), id.to_owned());
        let agent = self.client.agent(credentials).shared_as(&id);
        if store.sessions().is_some() {
            return agent;
        }
        agent.on_session(move |session| {
            let (store, id) = (store.clone(), id.clone());
            async move { store.keep(&id, &session).await }
        })
    }

    /// The agent of what is stored, which is not asked for yet where replicas share it.
    async fn stored(&self, id: &str) -> Result<Agent, Refused> {
        let client = self.oauth.clone();
        if self.store.sessions().is_some() {
            return Ok(self.agent(id, Credentials::Stored(client)));
        }
        let session = self.store.get(id).await?.ok_or(Refused::LoggedOut)?;
        Ok(self.agent(id, Credentials::Session { client, session }))
    }

    /// The agent of a session that this process has not used yet.
    async fn restored(&self, id: &str) -> Result<Agent, Refused> {
        let agent = self.stored(id).await?;
        if self.store.sessions().is_none() {
            return Ok(agent);
        }
        // What another replica has stored. Whoever guesses an id finds nothing; an agent whose session the service has ended is
        // kept, as it answers so without asking again.
        match agent.log_in().await {
            Err(error) if error.status().is_none() => Err(error.into()),
            _ => Ok(agent),
        }
    }

    /// The agent of this browser: the one that is kept, else the one that was stored. However many requests ask at
    /// once, one is made, and all of them share it.
    async fn agent_of(&self, headers: &HeaderMap) -> Result<(String, Agent), Refused> {
        let id = cookie(headers, "session").ok_or(Refused::LoggedOut)?;
        match self.agents.try_get_with_by_ref(&id, self.restored(&id)).await {
            Ok(agent) => Ok((id, agent)),
            Err(refused) => Err((*refused).clone()),
        }
    }

    /// `Lax` keeps it from what other sites post, and lets it through when the login leads back here. Behind TLS it is
    /// never sent in clear; name it `__Host-…` there, too.
    fn set_cookie(&self, name: &str, value: &str) -> String {
        let expired = if value.is_empty() { "; Max-Age=0" } else { "" };
        let tls = self.redirect_uri.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        let secure = if tls { "; Secure" } else { "" };
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{expired}")
    }

    /// The store first: what is gone there is restored no more.
    async fn forget(&self, id: &str) -> anyhow::Result<()> {
        self.store.remove(id).await?;
        self.agents.invalidate(id).await;
        Ok(())
    }
}

/// The page. All it shows it asks for below.
async fn page() -> Response {
    let policy = "default-src 'none'; connect-src 'self'; img-src data:; script-src 'unsafe-inline'; \
                  style-src 'unsafe-inline'; frame-ancestors 'none'";
    ([(CONTENT_SECURITY_POLICY, policy)], Html(include_str!("page.html"))).into_response()
}

/// Sends the browser to Genesys Cloud.
async fn log_in(State(backend): State<Arc<Backend>>) -> Result<Response, Refused> {
    let begun = Authorization::begin(&backend.region, backend.oauth.clone(), &backend.redirect_uri)?;
    let to = Redirect::to(begun.url());
    // Sealed: whichever process the browser comes back to reads it.
    let begun = backend.store.begun(&begun.into_parts())?;
    let cookie = format!("{}; Max-Age={LOGIN_SECONDS}", backend.set_cookie("login", &begun));
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), to).into_response())
}

/// The browser is back with a code. The cookie ties it to the browser that was sent: `state` alone would let a
/// stranger's login be slipped to it.
async fn back(State(backend): State<Arc<Backend>>, headers: HeaderMap, uri: Uri) -> Result<Response, Refused> {
    let login = cookie(&headers, "login").ok_or(Refused::LoggedOut)?;
    let parts = backend.store.back(&login).ok_or(Refused::LoggedOut)?;
    let begun = Authorization::from_parts(backend.oauth.clone(), parts)?;
    // A new id for each login: one from before it may be known to others.
    let id = new_id()?;
    let agent = backend.agent(&id, begun.credentials(&uri.to_string())?);
    agent.log_in().await?;
    backend.agents.insert(id.clone(), agent).await;
    let cookies = [(SET_COOKIE, backend.set_cookie("login", "")), (SET_COOKIE, backend.set_cookie("session", &id))];
    // Away from the URL with the code.
    Ok((AppendHeaders(cookies), Redirect::to("/")).into_response())
}

/// The first scripts by name, to choose from.
async fn scripts(State(backend): State<Arc<Backend>>, headers: HeaderMap) -> Result<Json<Vec<Known>>, Refused> {
    let (id, agent) = backend.agent_of(&headers).await?;
    let listed = agent.scripts(ListScripts { page_size: 25, ..ListScripts::default() }).take(25);
    let listed: Result<Vec<Script>, Error> = listed.try_collect().await;
    match listed {
        Ok(scripts) => Ok(Json(scripts.into_iter().map(Known::of).collect())),
        Err(error) => Err(ended(&backend, &id, &agent, error).await),
    }
}

async fn script(
    State(backend): State<Arc<Backend>>,
    Path(script): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Shown>, Refused> {
    let (id, agent) = backend.agent_of(&headers).await?;
    let script: ScriptId = script.parse().map_err(Error::from)?;
    match agent.cached_script(&script).await {
        Ok(cached) => Ok(Json(Shown::of(cached))),
        Err(error) => Err(ended(&backend, &id, &agent, error).await),
    }
}

/// A call failed. Where the agent has nothing left to log in with, its session is over and forgotten; where replicas share it the
/// agent knows that itself. A refresh token that it still has is good once whatever refuses all logins is mended.
async fn ended(backend: &Backend, id: &str, agent: &Agent, error: Error) -> Refused {
    let is_over = || agent.session().is_none_or(|session| session.refresh_token.is_none());
    if must_log_in(&error)
        && backend.store.sessions().is_none()
        && is_over()
        && let Err(error) = backend.forget(id).await
    {
        tracing::error!(%error, "a session that is over is still stored");
    }
    error.into()
}

/// Whatever cannot be asked or read: the cookie goes, and what is stored.
async fn log_out(State(backend): State<Arc<Backend>>, headers: HeaderMap) -> Result<Response, Refused> {
    let id = cookie(&headers, "session").ok_or(Refused::LoggedOut)?;
    let gone = backend.set_cookie("session", "");
    // A task of its own: a browser that does not wait for the answer is logged out all the same.
    let ended = tokio::spawn(async move {
        let agent = match backend.agents.get(&id).await {
            Some(agent) => Some(agent),
            None => backend.stored(&id).await.ok(),
        };
        // Before it is forgotten, so that it is not restored meanwhile.
        if let Some(agent) = agent
            && let Err(error) = agent.log_out().await
        {
            tracing::warn!(%error, "logged out here, but the token is good until it expires");
        }
        backend.forget(&id).await
    });
    let status = if let Ok(Ok(())) = ended.await { StatusCode::NO_CONTENT } else { StatusCode::INTERNAL_SERVER_ERROR };
    Ok((status, AppendHeaders([(SET_COOKIE, gone)])).into_response())
}

/// For the balancer's probe (200 as long as calls are taken) and for whoever is called at night.
async fn health(State(backend): State<Arc<Backend>>) -> Response {
    let health = backend.client.health();
    let status = if health.is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

/// For Prometheus. Where strangers reach this port, let a balancer keep them from here and from `/health`.
async fn measured(State(backend): State<Arc<Backend>>) -> Response {
    backend.metrics.answer()
}

/// As hard to guess as a key: who guesses an id has the session.
fn new_id() -> anyhow::Result<String> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(store::random_key()?))
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// A backend that serves until it is told to stop, and then ends what it has begun.
struct Running {
    address: SocketAddr,
    client: Client,
    stop: oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Running {
    /// One that browsers reach by this URL, if it is another than where it serves.
    async fn start(
        url: Option<String>,
        at: SocketAddr,
        config: &ClientConfig,
        oauth: OAuthClient,
        store: Store,
    ) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at}"))?;
        let address = listener.local_addr()?;
        let url = url.unwrap_or_else(|| format!("http://{address}"));
        let backend = Backend::new(config, oauth, url.trim_end_matches('/'), store)?;
        let (client, metrics) = (backend.client.clone(), backend.metrics.clone());
        let routes = Router::new()
            .route("/", get(page))
            .route("/login", get(log_in))
            .route("/back", get(back))
            .route("/scripts", get(scripts))
            .route("/scripts/{id}", get(script))
            .route("/logout", post(log_out))
            .route("/health", get(health))
            .route("/metrics", get(measured))
            .with_state(Arc::new(backend));
        let (stop, stopped) = oneshot::channel();
        let until = async { stopped.await.unwrap_or_default() };
        let served = axum::serve(listener, routes).with_graceful_shutdown(until).into_future();
        let server = tokio::spawn(async move {
            tokio::select! {
                ended = served => ended,
                never = metrics.keep() => match never {},
            }
        });
        Ok(Self { address, client, stop, server })
    }

    /// First the browsers get their answers, then what nobody waits for comes to its end: refreshes, and their storing.
    async fn stop(self) -> anyhow::Result<ShutDown> {
        let _ = self.stop.send(());
        let began = tokio::time::Instant::now();
        if let Ok(served) = tokio::time::timeout(SHUTDOWN - STORING, self.server).await {
            served??;
        }
        Ok(self.client.shut_down(SHUTDOWN.saturating_sub(began.elapsed())).await)
    }
}

/// How a backend keeps its agents; without arguments, its story
#[derive(Parser)]
struct Options {
    /// Serve here until Ctrl-C or SIGTERM
    #[arg(long)]
    serve: Option<SocketAddr>,
    /// Keep the sessions in this SQLite file, sealed with the key in DESKTOP_KEY; else in memory
    #[arg(long, requires = "serve")]
    database: Option<PathBuf>,
    /// Share the sessions with other replicas in this Redis, sealed with the key in DESKTOP_KEY
    #[arg(long, requires = "serve", conflicts_with = "database", value_name = "URL")]
    redis: Option<String>,
    /// Where browsers reach it, if that is not where it serves: the balancer
    #[arg(long, requires = "serve")]
    url: Option<String>,
}

impl Options {
    fn store(&self) -> anyhow::Result<Store> {
        let key = || {
            let key =
                std::env::var("DESKTOP_KEY").context("DESKTOP_KEY is not set: the key that sessions are sealed with");
            store::read_key(&key?)
        };
        match (&self.redis, &self.database) {
            (Some(redis), _) => Store::shared(redis, &key()?),
            (None, Some(database)) => Store::open(Some(database), &key()?),
            (None, None) => Store::open(None, &store::random_key()?),
        }
    }
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
    let given = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let Some(at) = options.serve else {
        return story::story().await;
    };
    // Made before anything else: a signal that comes early is obeyed too.
    let told_to_stop = told_to_stop()?;
    let (config, oauth, simulator);
    if given("GENESYSCLOUD_REGION") || given("GENESYSCLOUD_GATEWAY_HOST") {
        let id = std::env::var("GENESYSCLOUD_OAUTHCLIENT_ID").context("GENESYSCLOUD_OAUTHCLIENT_ID is not set")?;
        let secret = std::env::var("GENESYSCLOUD_OAUTHCLIENT_SECRET").ok().filter(|secret| !secret.trim().is_empty());
        let secret = secret.map(Into::into);
        (config, oauth, simulator) = (ClientConfig::from_env()?, OAuthClient { id, secret }, None);
    } else {
        let started = Simulator::builder().start().await?;
        println!("a simulator, with the scripts {}", started.script_ids().join(" "));
        (config, oauth, simulator) = (config_of(&started), OAuthClient::public("agent-desktop"), Some(started));
    }
    let store = options.store()?;
    let running = Running::start(options.url, at, &config, oauth, store).await?;
    println!("open http://{}/ in a browser", running.address);
    told_to_stop.await;
    let left = running.stop().await?;
    println!("{left}");
    drop(simulator);
    anyhow::ensure!(left.is_complete(), "not all was ended in {} s", SHUTDOWN.as_secs());
    Ok(())
}

fn config_of(simulator: &Simulator) -> ClientConfig {
    let mut config = ClientConfig::default();
    let here = || Some(simulator.url().to_owned());
    (config.api_url, config.login_url, config.upload_url) = (here(), here(), here());
    config
}

/// Ctrl-C, or what containers are stopped with.
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    #[cfg(unix)]
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    #[cfg(unix)]
    let terminated = async move { terminated.recv().await };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<Option<()>>();
    Ok(async {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn several_backends_in_a_process_have_one_recorder() {
        let simulator = Simulator::builder().start().await.unwrap();
        let at = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut running = Vec::new();
        for _ in 0..2 {
            let store = Store::open(None, &store::random_key().unwrap()).unwrap();
            let oauth = OAuthClient::public("agent-desktop");
            running.push(Running::start(None, at, &config_of(&simulator), oauth, store).await.unwrap());
        }
        running[0].client.agent(Credentials::client("desktop", "simulator")).log_in().await.unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        for backend in &running {
            let answer = http.get(format!("http://{}/metrics", backend.address)).send().await.unwrap();
            let text = answer.text().await.unwrap();
            assert!(text.contains("genesys_scripts_login_duration_seconds_count"), "{text}");
        }
        for backend in running {
            assert!(backend.stop().await.unwrap().is_complete());
        }
    }

    #[tokio::test]
    async fn a_browser_that_never_ends_its_request_costs_nobody_the_session() {
        let simulator = Simulator::builder().start().await.unwrap();
        let (at, oauth) = (SocketAddr::from(([127, 0, 0, 1], 0)), OAuthClient::public("agent-desktop"));
        let store = Store::open(None, &store::random_key().unwrap()).unwrap();
        let running = Running::start(None, at, &config_of(&simulator), oauth, store).await.unwrap();
        // A store that is away is asked again each half minute, so that of many agents some are not due for long.
        let is_well = Arc::new(AtomicBool::new(false));
        for _ in 0..50 {
            let is_well = is_well.clone();
            let agent = running.client.agent(Credentials::client("desktop", "simulator")).on_session(move |_| {
                let stored = is_well.load(Ordering::SeqCst);
                async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    if stored { Ok(()) } else { Err("the store is away") }
                }
            });
            agent.log_in().await.unwrap();
        }
        let mut browser = tokio::net::TcpStream::connect(running.address).await.unwrap();
        browser.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(600)).await;
        is_well.store(true, Ordering::SeqCst);
        let left = running.stop().await.unwrap();
        assert!(left.is_complete(), "{left}");
    }

    #[tokio::test]
    async fn a_cookie_of_a_page_behind_tls_is_sent_nowhere_else() {
        let simulator = Simulator::builder().start().await.unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        for (url, secure) in [
            (Some("https://desktop.example"), true),
            (Some("HTTPS://desktop.example/"), true),
            (Some("http://127.0.0.1:1"), false),
            (None, false),
        ] {
            let store = Store::open(None, &store::random_key().unwrap()).unwrap();
            let at = SocketAddr::from(([127, 0, 0, 1], 0));
            let oauth = OAuthClient::public("agent-desktop");
            let config = config_of(&simulator);
            let running = Running::start(url.map(str::to_owned), at, &config, oauth, store).await.unwrap();
            let answer = http.get(format!("http://{}/login", running.address)).send().await.unwrap();
            let cookie = answer.headers()[SET_COOKIE].to_str().unwrap().to_owned();
            assert_eq!(cookie.contains("; Secure"), secure, "{url:?}: {cookie}");
            assert!(running.stop().await.unwrap().is_complete());
        }
    }
}
