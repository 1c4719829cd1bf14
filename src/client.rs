//! The client: what all agents share. One per process and region.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use reqwest_middleware::Middleware;
use tokio::time::Instant;

use crate::auth::SharedSessions;
use crate::auth::sharing::Sharing;
#[cfg(feature = "cache")]
use crate::cache::{CachePolicy, ScriptCache};
use crate::error::Error;
use crate::limits::Route;
use crate::limits::in_flight::InFlight;
use crate::limits::login::LoginGate;
use crate::metrics;
use crate::proxy::Proxy;
use crate::random::Random;
use crate::region::{Region, base_url, is_loopback};
use crate::request::{OnHost, Operation, Site, Spec};
use crate::resilience::{Resilience, Switch};
use crate::retry::RetryPolicy;
use crate::scripts::Imports;
use crate::stats::{Counter, Counters, HostStats, Stats};
use crate::tls::Tls;
use crate::transport::{HttpSettings, Transport};
use crate::under_way::UnderWay;

/// What all agents share: connections, limits, policies. Cheap to clone.
///
/// It may be used from several tokio runtimes, one after another or at once, as one kept in a `static` is. Each has connections
/// of its own, so one that is not run any more holds up no call of another. A login lives in the runtime of the call that began
/// it: where that one ends or stands still, those who wait for the login in another begin a new one, unless it was sent with a
/// code or an assertion, which is good for one.
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
    /// Wherever the service's signed URLs lead: past the user's middlewares and certificate.
    pub(crate) downloads: Host,
    pub(crate) settings: Settings,
    #[cfg(feature = "cache")]
    pub(crate) cache: Option<ScriptCache>,
    /// Agents made so far: each has a number of its own.
    pub(crate) agents: Counter,
    pub(crate) imports: Imports,
    /// What the replicas of a service share.
    pub(crate) sharing: Option<Arc<Sharing>>,
    pub(crate) random: Arc<Random>,
    pub(crate) counters: Counters,
    pub(crate) under_way: UnderWay,
    pub(crate) resilience: Switch,
    login_gates: Mutex<HashMap<String, Arc<LoginGate>>>,
}

/// One of the service's hosts, as this client reaches it.
pub(crate) struct Host {
    pub(crate) site: Site,
    pub(crate) transport: Arc<Transport>,
    pub(crate) in_flight: InFlight,
    routes: Mutex<BTreeMap<&'static str, Arc<Route>>>,
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
    pub(crate) max_in_flight: usize,
    pub(crate) max_waiting: usize,
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
        stats.sessions_unstored = shared.under_way.unstored.len();
        stats.api = shared.api.stats();
        stats.login = shared.login.stats();
        stats.upload = shared.upload.stats();
        stats
    }

    /// Switches outages and broken scripts on or off while calls are under way; see [`Resilience`]. Off, all that was learned is
    /// forgotten, and whoever waits for an outage is sent now. Every clone and every agent of this client is switched.
    pub fn set_resilience(&self, resilience: Resilience) {
        let shared = &self.shared;
        if shared.resilience.set(resilience) != resilience {
            tracing::warn!(on = resilience.is_on(), "the client's resilience was switched");
        }
        if !resilience.is_on() {
            for host in [&shared.api, &shared.login, &shared.upload, &shared.downloads] {
                host.forget();
            }
        }
    }

    /// How it is switched.
    #[must_use]
    pub fn resilience(&self) -> Resilience {
        self.shared.resilience.get()
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

    /// Where a request goes. A signed URL that leads to one of the service's own hosts is of that host; to any other the
    /// user's middlewares and certificate are not taken.
    pub(crate) fn host(&self, spec: &Spec<'_>) -> &Host {
        match spec.operation.host {
            OnHost::Api => &self.api,
            OnHost::Login => &self.login,
            OnHost::Upload => &self.upload,
            OnHost::Download => {
                let leads_to = |host: &&Host| spec.address.is_some_and(|url| url.origin() == host.site.base().origin());
                [&self.api, &self.upload].into_iter().find(leads_to).unwrap_or(&self.downloads)
            }
        }
    }

    /// The gate all logins of this OAuth client go through, kept while any agent of it logs in or none may.
    pub(crate) fn login_gate(&self, client_id: &str) -> Arc<LoginGate> {
        let mut gates = self.login_gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(client_id) {
            return Arc::clone(gate);
        }
        let now = Instant::now();
        gates.retain(|_, gate| Arc::strong_count(gate) > 1 || gate.throttled_until().is_some_and(|until| until > now));
        let gate = Arc::new(LoginGate::new(Arc::clone(&self.random)));
        gates.insert(client_id.to_owned(), Arc::clone(&gate));
        gate
    }
}

impl Host {
    /// One of its operations, and whether others are in use too.
    pub(crate) fn route(&self, operation: &'static Operation) -> (Arc<Route>, bool) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || Arc::new(Route::new(operation, self.site.base(), &self.in_flight));
        let route = Arc::clone(routes.entry(operation.name).or_insert_with(made));
        (route, routes.len() > 1)
    }

    /// What is to be told of each route that was used.
    pub(crate) fn each_route<T>(&self, tell: impl Fn(&'static str, &Route) -> T) -> Vec<T> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.iter().map(|(operation, route)| tell(operation, route)).collect()
    }

    fn forget(&self) {
        self.each_route(|_, route| route.forget());
    }

    fn stats(&self) -> HostStats {
        let now = Instant::now();
        let down = self.each_route(|operation, route| {
            Some((operation, route.outage.standing()?.next_probe.saturating_duration_since(now)))
        });
        let down = down.into_iter().flatten().collect();
        HostStats { in_flight: self.in_flight.taken(), waiting: self.in_flight.waiting(), down }
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
    http: HttpSettings,
    #[cfg(feature = "cache")]
    cache: Option<CachePolicy>,
    sharing: Option<SharedSessions>,
    user_agent: String,
    root_certificates: Vec<Vec<u8>>,
    identity: Option<Vec<u8>>,
    proxy: Option<String>,
    middlewares: Vec<Arc<dyn Middleware>>,
    seed: Option<u64>,
    resilience: Resilience,
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
                max_in_flight: 1_000,
                max_waiting: 20_000,
                max_body_bytes: 16 * 1024 * 1024,
                wall_clock: Arc::new(SystemTime::now),
            },
            http: HttpSettings::default(),
            #[cfg(feature = "cache")]
            cache: None,
            sharing: None,
            user_agent: concat!("genesys-scripts/", env!("CARGO_PKG_VERSION")).to_owned(),
            root_certificates: Vec::new(),
            identity: None,
            proxy: None,
            middlewares: Vec::new(),
            seed: None,
            resilience: Resilience::default(),
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
        self.http.connect_timeout = timeout;
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

    /// Whether the client learns from failures and holds calls back for it. Default on; see [`Resilience`], and
    /// [`Client::set_resilience`] for while it runs.
    pub fn resilience(mut self, resilience: Resilience) -> Self {
        self.resilience = resilience;
        self
    }

    /// Keeps scripts for [`Agent::cached_script`](crate::Agent::cached_script). Default: no cache. See [`CachePolicy`].
    #[cfg(feature = "cache")]
    pub fn cache(mut self, policy: CachePolicy) -> Self {
        self.cache = Some(policy);
        self
    }

    /// Shares the sessions of its agents with other replicas of a service, those that are
    /// [`shared_as`](crate::Agent::shared_as) somebody. Default: none are.
    pub fn share_sessions(mut self, sessions: SharedSessions) -> Self {
        self.sharing = Some(sessions);
        self
    }

    /// How many attempts may be in flight to each host; further ones wait their turn, first come, first served, until their
    /// call's time is over ([`ErrorKind::Timeout`](crate::ErrorKind::Timeout)). Default 1,000; zero is refused by
    /// [`build`](Self::build). It protects this machine, and is no guess at what the service bears: whoever knows that, sets it
    /// here. Where several operations are in use, none of them takes more than seven eighths of the places. Over HTTP/2 a connection
    /// carries 100 of them, and where that is not enough another is made.
    pub fn max_in_flight(mut self, attempts: usize) -> Self {
        self.settings.max_in_flight = attempts;
        self
    }

    /// How many calls may wait for a place in flight to one host, how many for the end of an outage of one operation, and how many
    /// for the quota of one operation of a token; further ones fail at once, the first two with
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), the last with
    /// [`ErrorKind::Throttled`](crate::ErrorKind::Throttled). Default 20,000.
    pub fn max_waiting(mut self, calls: usize) -> Self {
        self.settings.max_waiting = calls;
        self
    }

    /// The largest body accepted, after decompression. Default 16 MiB.
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_body_bytes = bytes;
        self
    }

    /// How long an idle connection is kept. Default 50 s: less than the 60 s after which a load balancer usually closes it, as a
    /// publish or an upload that goes out just then cannot be sent again.
    pub fn pool_idle_timeout(mut self, timeout: Duration) -> Self {
        self.http.pool_idle_timeout = timeout;
        self
    }

    /// The time between TCP keep-alive probes. Default 30 s.
    pub fn tcp_keepalive(mut self, interval: Duration) -> Self {
        self.http.tcp_keepalive = interval;
        self
    }

    /// The time between HTTP/2 pings of a connection in use, and how long one may take. Default 30 s and 10 s.
    pub fn http2_ping(mut self, interval: Duration, timeout: Duration) -> Self {
        self.http.http2_ping_interval = interval;
        self.http.http2_ping_timeout = timeout;
        self
    }

    /// Answers are asked for uncompressed. Default: gzip. What is gzip all the same is read.
    pub fn without_gzip(mut self) -> Self {
        self.http.gzip = false;
        self
    }

    /// `User-Agent`. Default `genesys-scripts/VERSION`.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// A proxy for all hosts but loopback ones: `http://proxy:3128` (or `proxy:3128`; `https://` to speak TLS with the proxy
    /// itself), with `user:password@` before the host if it wants them, percent-encoded. SOCKS is not spoken.
    ///
    /// Default: what the environment says. The first of `HTTPS_PROXY`, `https_proxy`, `ALL_PROXY` and `all_proxy` that is not
    /// empty names the proxy; `HTTP_PROXY` is for `http` hosts, of which there are none. What `NO_PROXY` (or `no_proxy`) lists,
    /// by commas or blanks, is reached directly: `*`, an address, a network (`10.0.0.0/8`), or a domain and all below it
    /// (`corp.example`, `.corp.example`, `*.corp.example`), any of them with a port (`corp.example:443`).
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// Trusts the certificates of this PEM bundle beside the platform's: those of the CA of a gateway or of an inspecting proxy,
    /// or one that a server made for itself, unless that is marked as a CA's (`CA:TRUE`).
    pub fn root_certificate_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.root_certificates.push(pem.into());
        self
    }

    /// Presents this client certificate (mTLS): PEM with the certificate chain, the client's own first, and its private key,
    /// not encrypted. With the feature `native-tls` alone the key must be in PKCS #8 (`BEGIN PRIVATE KEY`).
    pub fn identity_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.identity = Some(pem.into());
        self
    }

    /// Adds a middleware of your own, run once for each attempt, logins included; the first added is outermost.
    /// It sees the request as it is sent, **its `Authorization` header too**, and the answer's body as it came, gzip or not.
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
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when a certificate, proxy URL or user agent cannot be used, or
    /// [`max_in_flight`](Self::max_in_flight) is zero; where a host is not loopback, also when the environment's proxy variable
    /// cannot be read (rather than going round the proxy); where a host is `https`, also when the crate was built without a TLS
    /// feature, or the machine has no root certificates and none were given.
    pub fn build(mut self) -> Result<Client, Error> {
        self.http.proxy = self.read_proxy()?;
        let user_agent = HeaderValue::try_from(&self.user_agent)
            .map_err(|_| Error::invalid_input("the user agent holds characters that no header can carry"))?;
        let settings = &self.settings;
        if settings.max_in_flight == 0 {
            return Err(Error::invalid_input("with no attempt in flight to a host nothing is ever sent"));
        }
        let host_at = |base: reqwest::Url, transport, name: String| Host {
            site: Site::new(base, user_agent.clone()),
            transport,
            in_flight: InFlight::new(settings.max_in_flight, settings.max_waiting),
            routes: Mutex::default(),
            name,
        };
        let transport = |base: &reqwest::Url, tls, one_goes_first, middlewares| {
            Transport::new(self.http.clone(), tls, base, one_goes_first, middlewares).map(Arc::new)
        };
        let tls = self.tls(self.identity.as_deref())?;
        // Behind a gateway two of them may be one, with the same connections.
        let mut transports: Vec<(_, Arc<Transport>)> = Vec::new();
        let mut host = |role: &str, url: &str| {
            let base = base_url(role, url)?;
            let known = transports.iter().find(|(origin, _)| *origin == base.origin());
            let transport = match known {
                Some((_, transport)) => Arc::clone(transport),
                None => transport(&base, tls.clone(), base.scheme() == "https", self.middlewares.clone())?,
            };
            transports.push((base.origin(), Arc::clone(&transport)));
            let name = base.authority().to_owned();
            Ok::<_, Error>(host_at(base, transport, name))
        };
        let api = host("api", &self.region.api_url())?;
        let (login, upload) = (host("login", &self.region.login_url())?, host("upload", &self.region.upload_url())?);
        // Many hosts, of which none should wait for another's first answer.
        let foreign = transport(api.site.base(), self.tls(None)?, false, Vec::new())?;
        let downloads = host_at(api.site.base().clone(), foreign, "the export's host".to_owned());
        metrics::describe();
        Ok(Client {
            shared: Arc::new(ClientShared {
                api,
                login,
                upload,
                downloads,
                #[cfg(feature = "cache")]
                cache: self.cache.map(ScriptCache::new),
                settings: self.settings,
                agents: Counter::default(),
                imports: Imports::default(),
                sharing: self.sharing.map(|sessions| Arc::new(Sharing::new(sessions))),
                random: Arc::new(Random::new(self.seed)),
                counters: Counters::default(),
                under_way: UnderWay::default(),
                resilience: Switch::new(self.resilience),
                login_gates: Mutex::default(),
            }),
        })
    }

    /// The environment's is not even looked at where all hosts are loopback: a variable that nobody uses is no fault.
    fn read_proxy(&self) -> Result<Option<Proxy>, Error> {
        let is_loopback = |url: String| reqwest::Url::parse(&url).is_ok_and(|url| is_loopback(&url));
        match &self.proxy {
            Some(url) => Proxy::given(url).map(Some),
            None if self.region.urls().into_iter().all(is_loopback) => Ok(None),
            None => Proxy::of_environment(|name| std::env::var_os(name)),
        }
    }

    fn tls(&self, identity: Option<&[u8]>) -> Result<Tls, Error> {
        let is_https = self.region.urls().iter().any(|url| url.starts_with("https:"));
        Tls::new(&self.root_certificates, identity, is_https)
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
