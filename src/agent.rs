//! An agent: one identity with its own credentials, token and quota.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::answer::Answer;
use crate::auth::keeper::Keeper;
use crate::auth::token::TokenSlot;
use crate::auth::{Credentials, Session, SessionStored, login};
#[cfg(feature = "cache")]
use crate::cache::Scope;
use crate::call::{self, Authority, Call};
use crate::client::{Client, ClientShared};
use crate::error::Error;
use crate::json::{Json, decode_any};
use crate::limits::quota::QuotaStanding;
use crate::meta::CallMeta;
use crate::request::{self, Spec};
use crate::retry::after;

/// One identity at Genesys Cloud. Every call starts on one.
///
/// Made by [`Client::agent`]. A cheap handle: clones share the token, its quota and
/// the login under way. Two agents made from the same credentials share nothing, so keep the agent as long
/// as its session lasts; dropping the last clone forgets the token, and ends a login under way unless
/// [`on_session`](Self::on_session) is to be told what it brings, or other replicas share it
/// ([`shared_as`](Self::shared_as)).
#[derive(Clone)]
pub struct Agent {
    slot: Arc<TokenSlot>,
    _last_clone: Arc<LastClone>,
    timeout: Duration,
    #[cfg(feature = "cache")]
    cache_scope: Option<Arc<str>>,
    /// Of an operation of several calls that is under way: a shutdown lets it end, and refuses none of them.
    under_way: Option<TaskTrackerToken>,
    meta: Option<CallMeta>,
}

impl Client {
    /// An agent with a token and a quota of its own.
    ///
    /// Nothing is sent yet: the agent logs in when its first call needs a token.
    ///
    /// **Keep the agent** for as long as its session lasts, and clone it where it is needed. Two agents made from
    /// the same credentials, or from one token, share nothing: each logs in for itself, knows nothing of what the
    /// other spends of the token's quota, and the first to refresh leaves the other with a void refresh token, unless
    /// they are of several clients and [shared](Agent::shared_as). How a backend keeps its agents is shown in
    /// `examples/agent_desktop`.
    #[must_use]
    pub fn agent(&self, credentials: Credentials) -> Agent {
        let client = Arc::clone(&self.shared);
        let timeout = client.settings.call_timeout;
        let slot = Arc::new(TokenSlot::new(client, credentials));
        Agent {
            timeout,
            #[cfg(feature = "cache")]
            cache_scope: None,
            _last_clone: Arc::new(LastClone(Arc::clone(&slot))),
            under_way: None,
            meta: None,
            slot,
        }
    }
}

/// Shared by the clones of an agent, and by nothing that goes on by itself.
struct LastClone(Arc<TokenSlot>);

impl Drop for LastClone {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Agent {
    /// What it shares with the other agents of its client.
    pub(crate) fn client(&self) -> &ClientShared {
        &self.slot.client
    }

    /// The same agent with another time limit for each call, login wait included.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The same agent, noting in `meta` what is known of each call it makes: the correlation id, the attempts, how long it took.
    /// The errors tell that themselves; this is for calls that succeed. Of an operation of several calls, and of several at
    /// once, it is what ended last.
    ///
    /// ```no_run
    /// # async fn example(agent: genesys_scripts::Agent, id: genesys_scripts::ScriptId) -> Result<(), genesys_scripts::Error> {
    /// let meta = genesys_scripts::CallMeta::default();
    /// let script = agent.with_meta(&meta).script(&id).await?;
    /// println!("{} attempts, correlation id {:?}", meta.attempts(), meta.correlation_id());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_meta(&self, meta: &CallMeta) -> Self {
        Self { meta: Some(meta.clone()), ..self.clone() }
    }

    /// The same agent, sharing what [`Agent::cached_script`] keeps with all agents of this scope. Agents of one scope
    /// see each other's scripts whatever their own permissions: choose it as narrow as those are alike.
    #[cfg(feature = "cache")]
    #[must_use]
    pub fn with_cache_scope(&self, scope: &str) -> Self {
        Self { cache_scope: Some(scope.into()), ..self.clone() }
    }

    #[cfg(feature = "cache")]
    pub(crate) fn cache_scope(&self) -> Scope {
        self.cache_scope.clone().map_or(Scope::Agent(self.slot.number), Scope::Shared)
    }

    /// Has `tell` called with each session a login or refresh brings, **before** its token is used.
    ///
    /// Store what it is given: a refresh token that was replaced is void, so after a restart only the newest
    /// one works. A login whose answer has a refresh token but no access token that can be sent fails, and is told all the
    /// same: the session then begins with a refresh. It is awaited, for no longer than the login timeout. Set it before the
    /// first call. A login, and with it `tell`, runs in the tokio runtime of the call that began it: one that ends meanwhile
    /// takes both with it.
    ///
    /// It may fail (give an error, panic, or not return within the login timeout, when it is dropped). Then the calls that wait
    /// are served all the same; an error is traced and counted ([`Stats::sessions_unstored`](crate::Stats::sessions_unstored)),
    /// and it is asked again: after half a second, then at growing distances up to 30 s, for a day, until it has succeeded, a
    /// newer session has taken its place or the agent has logged out; and at once when the client is told to
    /// [`shut_down`](Client::shut_down). One session of an agent is stored at a time, and none after a newer one.
    ///
    /// ```
    /// # async fn store(session: genesys_scripts::Session) -> std::io::Result<()> { Ok(()) }
    /// # fn example(client: genesys_scripts::Client, credentials: genesys_scripts::Credentials) {
    /// let agent = client.agent(credentials).on_session(|session| async move { store(session).await });
    /// # }
    /// ```
    #[must_use]
    pub fn on_session<F, T>(self, tell: F) -> Self
    where
        F: Fn(Session) -> T + Send + Sync + 'static,
        T: Future<Output: SessionStored> + Send + 'static,
    {
        self.slot.keep_with(Keeper::new(tell));
        self
    }

    /// Shares the agent's session with those of the same identity, login host and OAuth client in other replicas: of all of them one
    /// logs in or refreshes, and the others take over what it got. See [`SharedSessions`](crate::SharedSessions), which the client is
    /// given ([`ClientBuilder::share_sessions`](crate::ClientBuilder::share_sessions)); without them this changes nothing. Set it
    /// before the first call.
    ///
    /// `identity` is what your replicas know the agent by: its id, or that of the browser's session. It is stored as a digest. What
    /// logs in anew takes the place of what is stored: a code or an assertion always, client credentials after a logout. Else a
    /// stored session is taken before any that the agent was made of. [`log_out`](Self::log_out) ends it for all replicas.
    /// [`on_session`](Self::on_session) is told of the sessions that this replica brought alone.
    ///
    /// **Quotas are not shared**: each replica learns from the headers of its own answers how much of a token's quota is spent, by
    /// itself and by others. An agent's calls best come from one replica, as with a balancer that keeps a browser to one.
    ///
    /// ```
    /// use genesys_scripts::{Client, Credentials, MemoryStore, OAuthClient, Region, SharedSessions};
    ///
    /// let sessions = SharedSessions::new(MemoryStore::default());
    /// let client = Client::builder(Region::EU_CENTRAL_1).share_sessions(sessions).build()?;
    /// // Whoever the browser came back to has logged it in.
    /// let agent = client.agent(Credentials::Stored(OAuthClient::public("client id"))).shared_as("anna");
    /// # Ok::<(), genesys_scripts::Error>(())
    /// ```
    #[must_use]
    pub fn shared_as(self, identity: &str) -> Self {
        if let Some(sharing) = &self.client().sharing {
            self.slot.share(sharing, identity);
        }
        self
    }

    /// The agent's tokens as they are now, to be stored for after a restart; `None` before the first login
    /// and after a logout. Restored with [`Credentials::Session`].
    #[must_use]
    pub fn session(&self) -> Option<Session> {
        self.slot.session()
    }

    /// How the quota of the agent's token stands, one for each operation that was called with it; empty where there is no token.
    ///
    /// It is what the answers told: operations whose answers show the same window share it, others do not, and a token that
    /// was replaced is forgotten. Nothing is sent.
    #[must_use]
    pub fn quota(&self) -> Vec<QuotaStanding> {
        self.slot.held().map(|token| token.quota().standing(Instant::now())).unwrap_or_default()
    }

    /// Logs in now, if no good token is held: what the first call would do.
    ///
    /// # Errors
    ///
    /// As the login of any call.
    pub async fn log_in(&self) -> Result<(), Error> {
        let _under_way = self.counted("log in", None)?;
        let deadline = after(Instant::now(), self.timeout);
        let started = Instant::now();
        match self.slot.token("log in", self.slot.logouts(), deadline).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.of_login(self.client().login.name(), "log in", None, 0, started.elapsed())),
        }
    }

    /// What the service says of the agent's token: whose it is, of which OAuth client, in which organisation.
    ///
    /// `GET /api/v2/tokens/me`. The shape of the answer is not documented, so it is raw JSON.
    ///
    /// # Errors
    ///
    /// As any call; a token that is no longer good is replaced first.
    pub async fn check_token(&self) -> Result<Json, Error> {
        let spec = Spec::of(&request::GET_TOKEN, &[]);
        decode_any("what is known of a token", &spec, &*self.run(&spec).await?)
    }

    /// Logs out: revokes the access token and forgets all tokens.
    ///
    /// `DELETE /api/v2/tokens/me`. Without a token nothing is sent; one that is already void counts as revoked.
    /// A login or refresh under way is waited for, so that its token is revoked too, for half of the call's time: the other half is
    /// for the service. A call under way does not log in again.
    /// Afterwards an agent of client credentials or of a source may log in anew; any other must be made anew.
    ///
    /// # Errors
    ///
    /// As any call. The tokens are forgotten even then, unless the client was told to [`shut_down`](Client::shut_down) before.
    pub async fn log_out(&self) -> Result<(), Error> {
        let _under_way = self.counted("log out", None)?;
        let began = Instant::now();
        // The rest is for the service, which is to revoke the tokens.
        let tokens = self.slot.clear(after(began, self.timeout / 2)).await;
        let timeout = self.until(after(began, self.timeout)).timeout();
        let revoked = tokens.into_iter().map(|token| login::revoke(self.client(), token, timeout));
        join_all(revoked).await.into_iter().collect()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same agent, with no call taking longer than until then.
    pub(crate) fn until(&self, deadline: Instant) -> Self {
        self.with_timeout(self.timeout.min(deadline.saturating_duration_since(Instant::now())))
    }

    /// The same agent, for an operation of several calls: to a shutdown it is one, under way while this lives.
    pub(crate) fn at_work(&self, operation: &'static str, subject: Option<&str>) -> Result<Self, Error> {
        Ok(Self { under_way: Some(self.counted(operation, subject)?), ..self.clone() })
    }

    /// What a shutdown waits for; or its refusal.
    pub(crate) fn counted(&self, operation: &'static str, subject: Option<&str>) -> Result<TaskTrackerToken, Error> {
        match &self.under_way {
            Some(under_way) => Ok(under_way.clone()),
            None => self.client().under_way.begin().map_err(|error| error.ended(operation, subject, 0, Duration::ZERO)),
        }
    }

    /// Makes a call as this agent.
    pub(crate) async fn run(&self, spec: &Spec<'_>) -> Result<Box<Answer>, Error> {
        let _under_way = self.counted(spec.operation.name, spec.subject)?;
        let call = Call { spec, authority: Authority::Agent(&self.slot), timeout: self.timeout };
        let result = call::run(self.client(), &call).await;
        self.note(&result);
        result
    }

    /// For whoever asked with [`with_meta`](Self::with_meta).
    pub(crate) fn note(&self, result: &Result<Box<Answer>, Error>) {
        if let Some(meta) = &self.meta {
            meta.note(result);
        }
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("credentials", &self.slot.credentials)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
