//! The client: what all agents share. One per process and region.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use reqwest::redirect;
use reqwest_middleware::{ClientWithMiddleware, Middleware};

use crate::cache::{CachePolicy, ScriptCache};
use crate::error::{Error, ErrorKind};
use crate::limits::login::LoginGate;
use crate::random::Random;
use crate::region::{Region, base_url, is_loopback};
use crate::request::Site;
use crate::resilience::budget::Budget;
use crate::resilience::history::History;
use crate::resilience::overload::{Overload, OverloadPolicy};
use crate::resilience::quota::QuotaPolicy;
use crate::resilience::retry::RetryPolicy;
use crate::stats::{Counter, Counters, HostStats, Stats};

/// Of so many scripts it is remembered how they fared.
const HISTORY_IDS: usize = 10_000;

/// What all agents share: connections, limits, policies. Cheap to clone.
///
/// ```
/// use genesys_scripts::{Client, Credentials, Region};
/// use std::time::Duration;
///
/// let client = Client::builder(Region::EU_CENTRAL_1)
///     .call_timeout(Duration::from_secs(30))
///     .build()?;
/// let agent = client.agent(Credentials::client("client id", "client secret"));
/// # Ok::<(), genesys_scripts::Error>(())
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<ClientShared>,
}

pub(crate) struct ClientShared {
    pub(crate) api: Host,
    pub(crate) login: Host,
    pub(crate) upload: Host,
    /// Wherever the service's signed URLs lead, over the api host's transport.
    pub(crate) downloads: Host,
    pub(crate) settings: Settings,
    pub(crate) budget: Option<Budget>,
    pub(crate) history: History,
    pub(crate) cache: Option<ScriptCache>,
    /// Agents made so far: each has a number of its own.
    pub(crate) agents: Counter,
    pub(crate) random: Arc<Random>,
    pub(crate) counters: Counters,
    login_gates: Mutex<HashMap<String, Weak<LoginGate>>>,
}

/// One of the service's hosts, as this client reaches it.
pub(crate) struct Host {
    pub(crate) site: Site,
    pub(crate) http: ClientWithMiddleware,
    pub(crate) overload: Overload,
    trouble: Mutex<Option<String>>,
    name: String,
}

/// What the builder was told.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) call_timeout: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) login_timeout: Duration,
    pub(crate) login_throttle_timeout: Duration,
    pub(crate) retry: RetryPolicy,
    pub(crate) quota: QuotaPolicy,
    pub(crate) max_body_bytes: usize,
    wall_clock: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl Client {
    /// A builder with the defaults of production use.
    pub fn builder(region: Region) -> ClientBuilder {
        ClientBuilder::new(region)
    }

    /// A snapshot of what this client has done, and of how its hosts bear it.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let mut stats = shared.counters.snapshot();
        stats.retry_budget = shared.budget.as_ref().map(Budget::left);
        stats.api = shared.api.stats();
        stats.login = shared.login.stats();
        stats.upload = shared.upload.stats();
        stats
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("api", &self.shared.api.name)
            .field("login", &self.shared.login.name)
            .finish_non_exhaustive()
    }
}

impl ClientShared {
    /// The wall clock: only for dates on the wire and stored expiries.
    pub(crate) fn now(&self) -> SystemTime {
        (self.settings.wall_clock)()
    }

    /// The gate all logins of this OAuth client go through, kept while any agent of it logs in.
    pub(crate) fn login_gate(&self, client_id: &str) -> Arc<LoginGate> {
        let mut gates = self.login_gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(client_id).and_then(Weak::upgrade) {
            return gate;
        }
        gates.retain(|_, gate| gate.strong_count() > 0);
        let gate = Arc::new(LoginGate::new(Arc::clone(&self.random)));
        gates.insert(client_id.to_owned(), Arc::downgrade(&gate));
        gate
    }
}

impl Host {
    /// What its last overload failure was: for the calls that fail because it is shut.
    pub(crate) fn note_trouble(&self, what: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn stats(&self) -> HostStats {
        let now = tokio::time::Instant::now();
        let snapshot = self.overload.snapshot();
        HostStats {
            limit: snapshot.limit,
            in_flight: snapshot.in_flight,
            queued: snapshot.queued,
            shut_for: snapshot.shut_until.map(|until| until.saturating_duration_since(now)),
        }
    }

    /// Host and port, for messages and traces.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// Settings of a [`Client`]. Each has the default that its method names.
#[must_use]
pub struct ClientBuilder {
    region: Region,
    settings: Settings,
    connect_timeout: Duration,
    pool_idle_timeout: Duration,
    tcp_keepalive: Duration,
    http2_ping_interval: Duration,
    http2_ping_timeout: Duration,
    gzip: bool,
    overload: OverloadPolicy,
    cache: Option<CachePolicy>,
    user_agent: String,
    proxy: Option<String>,
    root_certificates: Vec<Vec<u8>>,
    identity: Option<Vec<u8>>,
    middlewares: Vec<Arc<dyn Middleware>>,
    seed: Option<u64>,
}

impl ClientBuilder {
    fn new(region: Region) -> Self {
        Self {
            region,
            settings: Settings {
                call_timeout: Duration::from_secs(100),
                attempt_timeout: Duration::from_secs(15),
                login_timeout: Duration::from_secs(30),
                login_throttle_timeout: Duration::from_secs(600),
                retry: RetryPolicy::default(),
                quota: QuotaPolicy::default(),
                max_body_bytes: 16 * 1024 * 1024,
                wall_clock: Arc::new(SystemTime::now),
            },
            connect_timeout: Duration::from_secs(5),
            pool_idle_timeout: Duration::from_secs(60),
            tcp_keepalive: Duration::from_secs(30),
            http2_ping_interval: Duration::from_secs(30),
            http2_ping_timeout: Duration::from_secs(10),
            gzip: true,
            overload: OverloadPolicy::default(),
            cache: None,
            user_agent: concat!("genesys-scripts/", env!("CARGO_PKG_VERSION")).to_owned(),
            proxy: None,
            root_certificates: Vec::new(),
            identity: None,
            middlewares: Vec::new(),
            seed: None,
        }
    }

    /// The time a call may take in all, login wait included. Default 100 s. An agent can have its own:
    /// [`Agent::with_timeout`](crate::Agent::with_timeout).
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.settings.call_timeout = timeout;
        self
    }

    /// The time one attempt may take, from sending to the last byte. Default 15 s.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.settings.attempt_timeout = timeout;
        self
    }

    /// The time a connection may take to be made, TLS included. Default 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The time a login may take, waits for a login limit apart. Default 30 s.
    pub fn login_timeout(mut self, timeout: Duration) -> Self {
        self.settings.login_timeout = timeout;
        self
    }

    /// The time a login may wait for a login limit, whoever still waits for it. Default 10 min.
    pub fn login_throttle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.login_throttle_timeout = timeout;
        self
    }

    /// How failures are retried. See [`RetryPolicy`].
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.settings.retry = policy;
        self
    }

    /// Keeps scripts for [`Agent::cached_script`](crate::Agent::cached_script). Default: no cache. See [`CachePolicy`].
    pub fn cache(mut self, policy: CachePolicy) -> Self {
        self.cache = Some(policy);
        self
    }

    /// How the quota of each token is kept. See [`QuotaPolicy`].
    pub fn quota(mut self, policy: QuotaPolicy) -> Self {
        self.settings.quota = policy;
        self
    }

    /// How the attempts in flight to each host are bounded. See [`OverloadPolicy`].
    pub fn overload(mut self, policy: OverloadPolicy) -> Self {
        self.overload = policy;
        self
    }

    /// The largest body accepted, after decompression. Default 16 MiB.
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_body_bytes = bytes;
        self
    }

    /// How long an idle connection is kept. Default 60 s.
    pub fn pool_idle_timeout(mut self, timeout: Duration) -> Self {
        self.pool_idle_timeout = timeout;
        self
    }

    /// The time between TCP keep-alive probes. Default 30 s.
    pub fn tcp_keepalive(mut self, interval: Duration) -> Self {
        self.tcp_keepalive = interval;
        self
    }

    /// The time between HTTP/2 pings of a connection in use, and how long one may take. Default 30 s and 10 s.
    pub fn http2_ping(mut self, interval: Duration, timeout: Duration) -> Self {
        self.http2_ping_interval = interval;
        self.http2_ping_timeout = timeout;
        self
    }

    /// Answers are asked for uncompressed. Default: gzip.
    pub fn without_gzip(mut self) -> Self {
        self.gzip = false;
        self
    }

    /// `User-Agent`. Default `genesys-scripts/VERSION`.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// A proxy for all hosts but loopback ones: `http://proxy:3128`, with `user:password@` if it wants them.
    /// Default: what `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// Trusts the certificates of this PEM bundle too: a gateway's, or an inspecting proxy's.
    pub fn root_certificate_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates.push(pem.into());
        self
    }

    /// Presents this client certificate (mTLS): PEM with the certificate chain and its private key.
    pub fn identity_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.identity = Some(pem.into());
        self
    }

    /// Adds a middleware of your own, run once for each attempt, logins included; the first added is outermost.
    /// It sees the request as it is sent, **its `Authorization` header too**.
    pub fn with_middleware(mut self, middleware: impl Middleware) -> Self {
        self.middlewares.push(Arc::new(middleware));
        self
    }

    /// Seeds the jitter, for runs that must repeat. Default: a different one each run.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The wall clock to compare dates on the wire and stored expiries with. Default [`SystemTime::now`].
    /// Delays and deadlines run on tokio's clock.
    pub fn wall_clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.settings.wall_clock = Arc::new(clock);
        self
    }

    /// Builds the client. Nothing is sent.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when a certificate, proxy URL or user agent cannot be used.
    pub fn build(self) -> Result<Client, Error> {
        let user_agent = HeaderValue::try_from(&self.user_agent)
            .map_err(|_| Error::invalid_input("the user agent holds characters that no header can carry"))?;
        let mut transports = Transports { builder: &self, direct: None, proxied: None };
        let host_at = |base: reqwest::Url, http, name: String| {
            let random = self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
            let overload = Overload::new(self.overload.clone(), random);
            Host { site: Site::new(base, user_agent.clone()), http, overload, trouble: Mutex::default(), name }
        };
        let mut host = |role: &str, url: &str| {
            let base = base_url(role, url)?;
            let http = transports.reaching(&base)?;
            let name = match (base.host_str(), base.port()) {
                (Some(host), Some(port)) => format!("{host}:{port}"),
                (host, _) => host.unwrap_or_default().to_owned(),
            };
            Ok::<_, Error>(host_at(base, http, name))
        };
        let api = host("api", &self.region.api_url())?;
        let (login, upload) = (host("login", &self.region.login_url())?, host("upload", &self.region.upload_url())?);
        let downloads = host_at(api.site.base().clone(), api.http.clone(), "the export's host".to_owned());
        Ok(Client {
            shared: Arc::new(ClientShared {
                api,
                login,
                upload,
                downloads,
                budget: self.settings.retry.budget.as_ref().map(Budget::new),
                cache: self.cache.map(ScriptCache::new),
                settings: self.settings,
                agents: Counter::default(),
                history: History::new(HISTORY_IDS),
                random: Arc::new(Random::new(self.seed)),
                counters: Counters::default(),
                login_gates: Mutex::default(),
            }),
        })
    }

    fn transport(&self, direct: bool) -> Result<ClientWithMiddleware, Error> {
        let unusable = |what: &'static str| {
            move |error: reqwest::Error| Error::new(ErrorKind::InvalidInput, what).with_source(error.without_url())
        };
        let mut builder = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .https_only(!direct)
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(self.pool_idle_timeout)
            .tcp_keepalive(self.tcp_keepalive)
            .http2_keep_alive_interval(self.http2_ping_interval)
            .http2_keep_alive_timeout(self.http2_ping_timeout)
            .gzip(self.gzip);
        if direct {
            builder = builder.no_proxy();
        } else if let Some(proxy) = &self.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy).map_err(unusable("the proxy URL cannot be used"))?);
        }
        for pem in &self.root_certificates {
            let certificates = reqwest::Certificate::from_pem_bundle(pem)
                .map_err(unusable("a root certificate is no PEM that can be read"))?;
            if certificates.is_empty() {
                return Err(Error::invalid_input("a root certificate's PEM holds no certificate"));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(pem) = &self.identity {
            let identity = reqwest::Identity::from_pem(pem)
                .map_err(unusable("the client certificate is no PEM with a certificate and its private key"))?;
            builder = builder.identity(identity);
        }
        let http = builder.build().map_err(unusable("the HTTP client cannot be set up; see the source"))?;
        let with_middlewares = self
            .middlewares
            .iter()
            .cloned()
            .fold(reqwest_middleware::ClientBuilder::new(http), reqwest_middleware::ClientBuilder::with_arc);
        Ok(with_middlewares.build())
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The proxy URL can hold a password, the identity holds a key.
        f.debug_struct("ClientBuilder")
            .field("region", &self.region)
            .field("user_agent", &self.user_agent)
            .finish_non_exhaustive()
    }
}

/// The one or two transports that three hosts need: loopback is reached directly, never through a proxy.
struct Transports<'a> {
    builder: &'a ClientBuilder,
    direct: Option<ClientWithMiddleware>,
    proxied: Option<ClientWithMiddleware>,
}

impl Transports<'_> {
    fn reaching(&mut self, base: &reqwest::Url) -> Result<ClientWithMiddleware, Error> {
        let direct = is_loopback(base);
        let slot = if direct { &mut self.direct } else { &mut self.proxied };
        if let Some(transport) = slot {
            return Ok(transport.clone());
        }
        let transport = self.builder.transport(direct)?;
        Ok(slot.insert(transport).clone())
    }
}
