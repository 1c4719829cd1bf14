//! A faithful Genesys Cloud on loopback: the Scripts API, the token endpoint, their limits and their faults.
//!
//! For tests, examples and load tests; never for anything that is not its own organisation. Independent clients talk
//! to it unchanged: api, login and upload share one address.
//!
//! ```
//! use genesys_scripts::simulator::Simulator;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let simulator = Simulator::builder().scripts(3).rate_limit(180).start().await?;
//! println!("listening on {}", simulator.url());
//! assert_eq!(simulator.script_ids().len(), 3);
//! assert_eq!(simulator.stats().tokens_issued, 0);
//! # Ok(())
//! # }
//! ```
//!
//! With [`Simulator::transport`] no socket is involved at all, and as everything the simulator measures runs on
//! tokio's clock, thousands of agents can be tested on a paused one.
//!
//! # What it does
//!
//! - The 15 public operations, and what production tooling uses beyond them: upload and its status, deletion, moving
//!   to a division, the download of an export, `tokens/me`.
//! - Client credentials, authorization code with and without PKCE, refresh with rotation, SAML2, and the implicit grant of
//!   pages in a browser.
//! - A quota per token and a login limit per client id, in fixed windows of 60 s.
//! - A *knee*: above a number of script requests in flight, further ones are refused as the report from the field has
//!   it, with `400 bad_request`, "Invalid script definition".
//! - [`Fault`]s, drawn by a seeded generator, always or [`When`] a condition holds: a load, a connection, a script, a time.
//! - [`ListQuirk`]s: lists that are odd and still right, to test code against that pages through them.
//! - Bodies of up to 512,000 bytes, and uploads of up to 16 MiB; `413 request.entity.too.large` beyond.
//!
//! A request passes, in this order: token, quota, [down](Simulator::set_down), permission, body, knee (for `getScript`),
//! latency, fault, handler. So a request without a good token spends no quota, one that is refused because the service is
//! down does, and one that the knee refuses is answered at once. Before all that, a body of more than 16 MiB is `413` and one
//! that breaks off `400`; neither is among [`requests`](Simulator::requests) or in [`stats`](Simulator::stats).
//!
//! # Assumptions
//!
//! Where no source says what the service does, this is what the simulator does. Code that relies on any of it relies on the
//! simulator.
//!
//! Ids and parameters:
//!
//! 1. An id that is no UUID is `400 bad.request`. An empty one (`GET /api/v2/scripts/`) is no route: `404 not.found`.
//! 2. `pageSize=0`, `pageNumber=0`, a negative or empty one, text, and a value that an enumeration does not have are
//!    `400 invalid.value`, which names the parameter. No page is too large. The Go SDK sends 0 for both where its caller
//!    leaves them unset: its callers must set both.
//! 3. An empty parameter of text (`name=`) is none. `longPoll` is true or false in any case: old Python SDKs send `True`.
//! 4. A wrong method is `405 method.not.allowed`.
//!
//! Tokens and limits:
//!
//! 5. The token endpoint answers every refusal, `invalid_client` among them, with 400, but for a body of more than 512,000
//!    bytes, which is 413, and its login limit counts only logins that name a client and show the right secret or none. No
//!    `Retry-After` comes with it. An empty secret is none.
//! 6. Tokens of clients last a day. Refresh tokens come with the code grants only, are good once, and end with the
//!    access token they came with when that is revoked.
//! 7. `inin-ratelimit-*` describes the token's window, and `reset` is in seconds. Answers outside of a quota (401, the
//!    login, uploads, downloads, unknown routes) do not carry it.
//!
//! Scripts and lists:
//!
//! 8. In every other script `variables` is an object, in the rest an array, as in exported files; so is `customActions` in
//!    every other two.
//! 9. The variables of a script are answered as an object, each under its name.
//! 10. Lists carry no pages, features, variables or actions; `name` matches a part in any case; `divisionIds` is
//!     separated by commas; `feature` names a key of `features` that is enabled; `expand` and `scriptDataVersion` are
//!     ignored; without `sortBy` scripts come in order of creation.
//! 11. Each page of a list says `total`, `pageCount` and, but for the last, `nextUri`. A page beyond the last is empty.
//! 12. The default scripts are unknown to the editable routes.
//!
//! Changes:
//!
//! 13. An upload's `correlationId` is the id of its status, which is there at once, or after
//!     [`upload_lag`](SimulatorBuilder::upload_lag). In it `succeeded: false` without a message
//!     means that it is pending, and with one that it failed; when it is done, `succeeded` is true and `url` the new
//!     script's. `longPoll=true` holds it for 10 s at most.
//! 14. Uploads need `scripter:script:add`, also to replace, and have no quota. A new script is put into
//!     `divisionId`; one that is replaced stays where it is, though a `divisionId` that is unknown fails it too.
//! 15. An export without a body, with `null` or with `{}` is of the editable version, and is the uploaded file as it was.
//! 16. Deletion and revocation answer 200, with no body. Publishing what is published already is fine.
//! 17. No operation of its own accord answers 408, and none 409 but for so long as
//!     [`settling_time`](SimulatorBuilder::settling_time) says: then publishing, moving, deleting and replacing do.
//! 18. An imported script can be read by its id at once, also while
//!     [`listing_lag`](SimulatorBuilder::listing_lag) keeps it from the lists.
//! 19. Each version has the name it was uploaded with: until it is published, the published views and lists know the
//!     one before, by its own name, features and flows.
//!
//! Browsers:
//!
//! 20. Pages of any origin may ask anything, and read the headers of limits and correlation; that they may costs no quota.
//! 21. Who asks `/oauth/authorize` is signed in and agrees at once. `state` comes back encoded once.
//! 22. `/logout` leads back to `redirect_uri`; without one it answers 200.
//!
//! What it keeps:
//!
//! 23. While 100 uploads are pending, further ones are 503, and an upload beyond 100,000 scripts fails. Of earlier versions
//!     50 are kept with each script, and of all scripts 10,000 statuses of uploads, 1,000 downloads, 250,000 access tokens,
//!     as many refresh tokens, and 10,000 codes. Of more, the oldest is as if it had never been: an access token is 401.

mod bounded;
mod builder;
mod connection;
mod divisions;
mod document;
mod fault;
mod gate;
mod gzip;
mod ids;
mod library;
mod listing;
mod oauth;
mod operation;
mod origin;
mod published;
mod query;
mod quirk;
mod quota;
mod recorded;
mod refusal;
mod routes;
mod samples;
mod scripts;
mod service;
mod session;
mod stats;
mod sync;
mod tokens;
mod transfer;
mod transport;
mod when;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::task::JoinHandle;
use uuid::Uuid;

pub use builder::{SimulatorBuilder, StartError};
pub use fault::{Fault, UnknownFault};
pub use quirk::{ListQuirk, OddToken};
pub use recorded::RecordedRequest;
pub use stats::Stats;
pub use transport::Transport;
pub use when::{UnknownWhen, When};

use crate::error::Error;
use crate::region::Region;
use service::{Knee, Service, Settings};
use sync::lock;

/// A running simulator. It ends when dropped, and its connections with it.
///
/// What its setters change holds for requests that arrive afterwards.
pub struct Simulator {
    service: Arc<Service>,
    router: Router,
    address: Option<SocketAddr>,
    server: Option<JoinHandle<()>>,
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator").field("url", &self.service.url).finish_non_exhaustive()
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

impl Simulator {
    /// Starts to describe a simulator.
    pub fn builder() -> SimulatorBuilder {
        SimulatorBuilder::default()
    }

    /// Where api, login and upload are. Without a socket, an address where nothing listens: the
    /// [`transport`](Self::transport) answers whatever the host.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.service.url
    }

    /// The region to give a [`Client`](crate::Client) of it: its address as api, login and upload.
    ///
    /// # Errors
    ///
    /// Where it [listens](SimulatorBuilder::listen) beyond loopback: no client sends its token there without TLS.
    pub fn region(&self) -> Result<Region, Error> {
        let here = self.url();
        Region::custom(here, here, here)
    }

    /// Where it listens; none without a socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// A middleware that answers requests in this process, without a socket.
    ///
    /// ```
    /// use genesys_scripts::simulator::Simulator;
    /// use genesys_scripts::{Client, Credentials};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let simulator = Simulator::builder().client_secret("simulator").in_process()?;
    /// let client = Client::builder(simulator.region()?).with_middleware(simulator.transport()).build()?;
    /// let agent = client.agent(Credentials::client("desktop", "simulator"));
    /// let script = agent.script(&simulator.script_ids()[0].parse()?).await?;
    /// assert!(!script.pages.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn transport(&self) -> Transport {
        Transport { service: Arc::clone(&self.service), router: self.router.clone() }
    }

    /// The scripts there are, in order of creation. The default scripts are not among them.
    #[must_use]
    pub fn script_ids(&self) -> Vec<String> {
        self.service.library().editable().map(|script| script.id.to_string()).collect()
    }

    /// The divisions of the organisation. New scripts are in the first.
    #[must_use]
    pub fn division_ids(&self) -> Vec<String> {
        self.service.library().divisions.iter().map(|division| division.id.to_string()).collect()
    }

    /// What was asked so far and how it was answered.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.service.counters.snapshot()
    }

    /// The last thousand requests, the oldest first, with what they carried, secrets included. Not those for the simulator's
    /// own `/_simulator/`, nor what a browser asks before a page's request.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        lock(&self.service.log).all()
    }

    /// An authorization code, as the redirect from `/oauth/authorize` carries it. With a `code_challenge` (S256) it
    /// takes the verifier to spend it.
    #[must_use]
    pub fn authorization_code(&self, client_id: &str, redirect_uri: &str, code_challenge: Option<&str>) -> String {
        self.service.new_code(client_id, redirect_uri, code_challenge)
    }

    /// Moves the knee: above so many script requests in flight, further ones are refused with the probability, which
    /// is taken to lie within 0 and 1. None for no knee.
    pub fn set_knee(&self, knee: Option<(usize, f64)>) {
        let knee = knee.map(|(in_flight, probability)| Knee { in_flight, probability });
        self.set(|settings| settings.knee = knee);
    }

    /// Changes how long operations and logins take.
    pub fn set_latency(&self, latency: Duration) {
        self.set(|settings| settings.latency = latency);
    }

    /// Changes the quota of every token. 0 for no limit and no headers.
    pub fn set_rate_limit(&self, requests: u32) {
        self.set(|settings| settings.rate_limit = requests);
    }

    /// Whether answers tell their quota. A 429 has `Retry-After` either way.
    pub fn set_quota_headers(&self, told: bool) {
        self.set(|settings| settings.quota_headers = told);
    }

    /// Changes the limit of logins of a client id. 0 for none.
    pub fn set_login_rate_limit(&self, logins: u32) {
        self.set(|settings| settings.login_rate_limit = logins);
    }

    /// Changes how long the tokens are good that are issued from now on.
    pub fn set_token_ttl(&self, ttl: Duration) {
        self.set(|settings| settings.token_ttl = ttl.min(builder::MAX_TTL));
    }

    /// Changes how long the status of what is uploaded from now on is 404.
    pub fn set_upload_lag(&self, lag: Duration) {
        self.service.library().upload_lag = lag.min(builder::MAX_TTL);
    }

    /// Changes how long a script that is imported from now on is missing from the listings.
    pub fn set_listing_lag(&self, lag: Duration) {
        self.service.library().listing_lag = lag.min(builder::MAX_TTL);
    }

    /// Changes how long a script that is changed from now on may not be changed again: the answer is 409.
    pub fn set_settling_time(&self, time: Duration) {
        self.service.library().settling_time = time.min(builder::MAX_TTL);
    }

    /// Changes how long a script that is uploaded from now on stays pending, with `succeeded: false` as its status.
    pub fn set_upload_time(&self, time: Duration) {
        self.set(|settings| settings.upload_time = time.min(builder::MAX_TTL));
    }

    /// Answers each login that is granted in this odd way. None, as at first: as documented.
    pub fn set_odd_token(&self, odd: Option<OddToken>) {
        self.set(|settings| settings.odd_token = odd);
    }

    /// Whether the service is down: every operation whose token is good and whose quota is not spent is refused with 503,
    /// at once, and spends of its quota. Logins and downloads go on.
    pub fn set_down(&self, down: bool) {
        self.set(|settings| settings.down = down);
    }

    /// Lets this share of the operations go wrong in this way, on top of other faults. 0 for none. Uploads and downloads
    /// are spared.
    pub fn set_fault(&self, fault: Fault, probability: f64) {
        self.set(|settings| set_fault(&mut settings.faults, fault, probability));
    }

    /// Plans a fault for script requests that meet a condition, on top of others. One of more than ten years is none.
    pub fn plan_fault(&self, when: When, fault: Fault, probability: f64) {
        if when.longest() > builder::MAX_TTL {
            return;
        }
        self.set(|settings| settings.planned.push((when, fault, probability)));
    }

    /// Whether a login ends the access tokens that the same client got before.
    pub fn set_one_session(&self, one: bool) {
        self.set(|settings| settings.one_session = one);
    }

    /// Lets this share of the logins go wrong in this way, on top of other faults. 0 for none.
    pub fn set_login_fault(&self, fault: Fault, probability: f64) {
        self.set(|settings| set_fault(&mut settings.login_faults, fault, probability));
    }

    /// Makes every list odd in these ways, and in no other.
    pub fn set_list_quirks(&self, quirks: impl IntoIterator<Item = ListQuirk>) {
        let quirks = quirks.into_iter().collect();
        self.set(|settings| settings.list_quirks = quirks);
    }

    /// Breaks the definition of a script, as a bad publish does: every read of it is refused with
    /// `400 bad_request`, "Invalid script definition". No effect on ids the simulator does not know.
    pub fn break_script(&self, id: &str) {
        self.set_broken(id, true);
    }

    /// Mends what [`break_script`](Self::break_script) broke.
    pub fn mend_script(&self, id: &str) {
        self.set_broken(id, false);
    }

    /// Ends all access tokens that were issued so far; refresh tokens stay good.
    pub fn expire_tokens(&self) {
        lock(&self.service.tokens).expire_all();
    }

    fn set(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.service.settings));
    }

    fn set_broken(&self, id: &str, broken: bool) {
        if let Ok(id) = Uuid::try_parse(id) {
            self.service.library().set_broken(id, broken);
        }
    }
}

fn set_fault(faults: &mut Vec<(Fault, f64)>, fault: Fault, probability: f64) {
    faults.retain(|(other, _)| *other != fault);
    if probability > 0.0 {
        faults.push((fault, probability));
    }
}
