//! What a simulator is made of.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::fault::Fault;
use super::library::{self, Library};
use super::quirk::ListQuirk;
use super::service::{Knee, Service, Settings};
use super::when::When;
use super::{Simulator, connection, routes};

/// Where a simulator says it is when it has no socket. Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Describes a [`Simulator`] before it starts.
///
/// Every setter has its default in its documentation; with none called, the simulator is a healthy service of 20
/// scripts with the documented quota.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `start` or `in_process`"]
pub struct SimulatorBuilder {
    listen: SocketAddr,
    public_url: Option<String>,
    client_secret: SecretString,
    scripts: u32,
    seed: u64,
    permissions: HashMap<String, HashSet<String>>,
    settings: Settings,
    upload_lag: Duration,
    listing_lag: Duration,
    settling_time: Duration,
}

impl Default for SimulatorBuilder {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            public_url: None,
            client_secret: "simulator".into(),
            scripts: 20,
            seed: 1,
            permissions: HashMap::new(),
            settings: Settings {
                latency: Duration::from_millis(20),
                rate_limit: 300,
                quota_headers: true,
                login_rate_limit: 0,
                token_ttl: Duration::from_secs(86_400),
                upload_time: Duration::from_millis(500),
                knee: None,
                faults: Vec::new(),
                login_faults: Vec::new(),
                list_quirks: Vec::new(),
                down: false,
                gzip: false,
                odd_token: None,
                planned: Vec::new(),
                one_session: false,
            },
            upload_lag: Duration::ZERO,
            listing_lag: Duration::ZERO,
            settling_time: Duration::ZERO,
        }
    }
}

impl SimulatorBuilder {
    /// The address to listen on. By default a free port of 127.0.0.1.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Where clients reach it, if that is not the address it listens on: in front of it stands what speaks TLS. By default
    /// `http` and the address.
    pub fn public_url(mut self, url: impl Into<String>) -> Self {
        self.public_url = Some(url.into());
        self
    }

    /// Compresses what it answers where the request accepts gzip. By default it does not.
    pub fn gzip(mut self) -> Self {
        self.settings.gzip = true;
        self
    }

    /// The secret every client id logs in with. By default `simulator`.
    pub fn client_secret(mut self, secret: impl Into<SecretString>) -> Self {
        self.client_secret = secret.into();
        self
    }

    /// How many scripts the organisation has at first, all published. By default 20.
    pub fn scripts(mut self, count: u32) -> Self {
        self.scripts = count;
        self
    }

    /// Decides every id, secret and throw of the dice. By default 1.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How long an operation or a login takes. By default 20 ms.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.settings.latency = latency;
        self
    }

    /// Requests a token may make in a window of 60 s. By default 300; 0 for no limit and no headers about it.
    pub fn rate_limit(mut self, requests: u32) -> Self {
        self.settings.rate_limit = requests;
        self
    }

    /// Logins a client id may make in a window of 60 s. By default 0: no limit.
    pub fn login_rate_limit(mut self, logins: u32) -> Self {
        self.settings.login_rate_limit = logins;
        self
    }

    /// How long an access token is good. By default one day.
    pub fn token_ttl(mut self, ttl: Duration) -> Self {
        self.settings.token_ttl = ttl;
        self
    }

    /// How long after an upload its status is 404: the service may not know it at once. By default it does.
    pub fn upload_lag(mut self, lag: Duration) -> Self {
        self.upload_lag = lag;
        self
    }

    /// How long after its import a new script is missing from the listings. By default it is there at once.
    pub fn listing_lag(mut self, lag: Duration) -> Self {
        self.listing_lag = lag;
        self
    }

    /// How long after a change of a script (import, publish, move) any further one is refused with 409. By default none is.
    pub fn settling_time(mut self, time: Duration) -> Self {
        self.settling_time = time;
        self
    }

    /// How long an uploaded script stays pending: its status is `succeeded: false` for so long. By default 500 ms.
    pub fn upload_time(mut self, time: Duration) -> Self {
        self.settings.upload_time = time;
        self
    }

    /// Makes every list odd in this way. May be called for several. By default none is.
    pub fn list_quirk(mut self, quirk: ListQuirk) -> Self {
        self.settings.list_quirks.push(quirk);
        self
    }

    /// Refuses a script request that arrives while more than `in_flight` are under way, with `probability`.
    /// By default none is.
    pub fn knee(mut self, in_flight: usize, probability: f64) -> Self {
        self.settings.knee = Some(Knee { in_flight, probability });
        self
    }

    /// Lets this share of the operations go wrong. May be called for several faults; an operation suffers one at most.
    /// Uploads and downloads are spared. By default none does.
    pub fn fault(mut self, fault: Fault, probability: f64) -> Self {
        self.settings.faults.push((fault, probability));
        self
    }

    /// Lets this share of the script requests go wrong that meet a condition. May be called for several; the first that
    /// strikes holds, and [`fault`](Self::fault)s only where none does. By default none is planned.
    pub fn fault_when(mut self, when: When, fault: Fault, probability: f64) -> Self {
        self.settings.planned.push((when, fault, probability));
        self
    }

    /// Lets a client have one session: each login ends the access tokens that it got before, and no refresh token. By
    /// default all stay good.
    pub fn one_session(mut self) -> Self {
        self.settings.one_session = true;
        self
    }

    /// Lets this share of the logins go wrong. May be called for several faults. By default none does.
    pub fn login_fault(mut self, fault: Fault, probability: f64) -> Self {
        self.settings.login_faults.push((fault, probability));
        self
    }

    /// Leaves the client with just these permissions (`scripter:script:view`, …). Clients not named have them all.
    pub fn permissions<P: Into<String>>(
        mut self,
        client_id: impl Into<String>,
        permissions: impl IntoIterator<Item = P>,
    ) -> Self {
        self.permissions.insert(client_id.into(), permissions.into_iter().map(Into::into).collect());
        self
    }

    /// Listens, and serves until the [`Simulator`] is dropped.
    ///
    /// # Errors
    ///
    /// A setting that makes no sense, or an address that cannot be had.
    pub async fn start(self) -> Result<Simulator, StartError> {
        self.check()?;
        let listener = connection::bind(self.listen).map_err(StartError::Listen)?;
        let address = listener.local_addr().map_err(StartError::Listen)?;
        let url = self.public_url.clone().unwrap_or_else(|| format!("http://{address}"));
        let mut simulator = self.build(url);
        let serving = connection::accept(listener, Arc::clone(&simulator.service), simulator.router.clone());
        simulator.address = Some(address);
        simulator.server = Some(tokio::spawn(serving));
        Ok(simulator)
    }

    /// No socket: requests come through [`Simulator::transport`] alone.
    ///
    /// # Errors
    ///
    /// A setting that makes no sense.
    pub fn in_process(self) -> Result<Simulator, StartError> {
        self.check()?;
        Ok(self.build(NOWHERE.to_owned()))
    }

    fn check(&self) -> Result<(), StartError> {
        let is_probability = |p: f64| (0.0..=1.0).contains(&p);
        let settings = &self.settings;
        if settings.knee.is_some_and(|knee| !is_probability(knee.probability)) {
            return Err(StartError::Probability);
        }
        for faults in [&settings.faults, &settings.login_faults] {
            let each = faults.iter().all(|(_, p)| is_probability(*p));
            // A hair of tolerance, as sums of decimal fractions are not exact.
            if !each || faults.iter().map(|(_, p)| p).sum::<f64>() > 1.0 + 1e-9 {
                return Err(StartError::Probability);
            }
        }
        if !settings.planned.iter().all(|(_, _, p)| is_probability(*p)) {
            return Err(StartError::Probability);
        }
        if usize::try_from(self.scripts).is_ok_and(|scripts| scripts > library::SCRIPTS) {
            return Err(StartError::TooManyScripts);
        }
        let lags = [self.upload_lag, self.listing_lag, self.settling_time];
        let times = [settings.token_ttl, settings.latency, settings.upload_time].into_iter().chain(lags);
        let planned = settings.planned.iter().map(|(when, ..)| when.longest());
        if times.chain(planned).any(|time| time > MAX_TTL) { Err(StartError::TooLong) } else { Ok(()) }
    }

    fn build(self, url: String) -> Simulator {
        let mut library = Library::new(self.scripts, self.seed);
        library.upload_lag = self.upload_lag;
        (library.listing_lag, library.settling_time) = (self.listing_lag, self.settling_time);
        let service =
            Arc::new(Service::new(url, self.client_secret, self.permissions, self.settings, library, self.seed));
        let router = routes::router(Arc::clone(&service));
        Simulator { service, router, address: None, server: None }
    }
}

/// Ten years; beyond, the clock's arithmetic is not to be trusted.
pub(super) const MAX_TTL: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Why a simulator did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A probability outside 0 to 1, or faults whose probabilities add up to more than 1.
    Probability,
    /// More scripts than a simulator keeps.
    TooManyScripts,
    /// A duration of more than ten years.
    TooLong,
    /// The address cannot be listened on.
    Listen(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probability => {
                f.write_str("a probability must lie within 0 and 1, and those of all faults together too")
            }
            Self::TooManyScripts => write!(f, "at most {} scripts are possible", library::SCRIPTS),
            Self::TooLong => f.write_str("a duration of more than ten years"),
            Self::Listen(_) => f.write_str("cannot listen on the address"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen(source) => Some(source),
            _ => None,
        }
    }
}
