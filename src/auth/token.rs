//! One agent's token: one login at a time, shared by all who wait, and replaced before it expires.

mod shared;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument;

use super::credentials::{Credentials, Session};
use super::keeper::Keeper;
use super::login::{self, Access, Issued};
use super::sharing::Sharing;
use super::store::SessionKey;
use crate::client::ClientShared;
use crate::error::{Cause, Error, ErrorKind};
use crate::limits::quota::QuotaGate;
use crate::{metrics, spans};
use shared::Line;

/// How long a definitive refusal, of a login or of a new token, is remembered: calls meanwhile fail without asking the
/// service again.
const REFUSAL_REMEMBERED: Duration = Duration::from_secs(30);
/// One that the service was not asked for is remembered no longer where another replica may have logged in since.
const REFUSAL_DOUBTED: Duration = Duration::from_secs(1);
/// A token is replaced at most this long before it expires, or a fifth of its life if that is less.
const REFRESH_EARLY: Duration = Duration::from_secs(300);
/// How long after a failed early replacement the next is tried; the token is still good.
const REFRESH_PAUSE: Duration = Duration::from_secs(15);

/// A token that replaced a refused one and is younger than this is not replaced: what refuses it is not the token.
const NEW: Duration = Duration::from_secs(60);

/// A login in another runtime is followed for so long before that runtime is asked for a sign of life, and the sign is
/// waited for as long.
const PATIENCE: Duration = Duration::from_secs(1);
/// So long where the login may have spent what it was sent with, and so is worth the wait: its runtime may only be held up.
const PATIENCE_WITH_THE_SPENT: Duration = Duration::from_millis(1_500);

const BEFORE_ITS_TURN: &str = "the call's time is over before the login's turn";

/// An access token as it is sent.
pub(crate) struct Token {
    bearer: HeaderValue,
    expires: Option<Instant>,
    refresh_from: Option<Instant>,
    issued: Instant,
    quota: QuotaGate,
    /// Another replica got it, at whatever time.
    taken_over: bool,
}

impl Token {
    fn new(token: &SecretString, lifetime: Option<Duration>, client: &ClientShared) -> Result<Self, Error> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| Error::invalid_input("the access token holds characters that no header can carry"))?;
        bearer.set_sensitive(true);
        let now = Instant::now();
        // A lifetime beyond the clock's range is no expiry at all.
        let expires = lifetime.and_then(|lifetime| now.checked_add(lifetime));
        let refresh_from = expires.and_then(|expires| {
            let early = (expires - now) / 5;
            expires.checked_sub(early.min(REFRESH_EARLY).mul_f64(0.5 + client.random.fraction() / 2.0))
        });
        let quota = QuotaGate::new(Arc::clone(&client.random));
        Ok(Self { bearer, expires, refresh_from, issued: now, quota, taken_over: false })
    }

    /// The value of `Authorization`, marked sensitive.
    pub(crate) fn bearer(&self) -> &HeaderValue {
        &self.bearer
    }

    /// The token itself: for what the user stores, and for error texts that echo it.
    pub(crate) fn secret(&self) -> &str {
        self.bearer.to_str().ok().and_then(|bearer| bearer.strip_prefix("Bearer ")).unwrap_or_default()
    }

    /// The gate of its quota, which a new token begins anew.
    pub(crate) fn quota(&self) -> &QuotaGate {
        &self.quota
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    /// Whether another replica got it: then its refusal says nothing of what replaces it.
    pub(crate) fn is_taken_over(&self) -> bool {
        self.taken_over
    }
}

type LoginResult = Result<Arc<Token>, Error>;

/// Where an agent's token is kept, and what the next one is got with.
pub(crate) struct TokenSlot {
    /// Which of the client's agents it is of.
    pub(crate) number: u64,
    pub(crate) client: Arc<ClientShared>,
    pub(crate) credentials: Credentials,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    grant: Grant,
    login: Option<Box<Login>>,
    /// Whether the service may have acted on the login under way, or on one that was stopped before it ended.
    login_sent: bool,
    /// What the attempts of the login under way have met so far.
    trouble: Option<Error>,
    /// How often the agent has logged out.
    logouts: u64,
    /// A login was refused: none is tried before then.
    refused: Option<(Instant, Error)>,
    /// One that was refused, which the token held is to replace, or does: another replica may still share it.
    refused_token: Option<Arc<Token>>,
    /// The operations that refused the token held although it was new: none is asked again before then.
    refusing: Vec<(&'static str, Instant, Error)>,
    refresh_not_before: Option<Instant>,
    /// Has the user store each new session.
    keeper: Option<Arc<Keeper>>,
    /// What its sessions are shared by.
    line: Option<Arc<Line>>,
}

/// What the next token is got with.
#[derive(Clone, Default)]
enum Grant {
    #[default]
    Credentials,
    RefreshToken(SecretString),
    /// Nothing: the agent must log in again, with new credentials.
    Spent(Error),
}

impl Grant {
    /// For traces and metrics, as OAuth names them.
    fn name(&self, credentials: &Credentials) -> &'static str {
        match (self, credentials) {
            (Self::RefreshToken(_), _) => "refresh_token",
            (Self::Credentials, Credentials::Client(_)) => "client_credentials",
            (Self::Credentials, Credentials::AuthorizationCode { .. }) => "authorization_code",
            (Self::Credentials, Credentials::Saml2Bearer { .. }) => "saml2_bearer",
            (Self::Credentials, Credentials::Source(_)) => "token_source",
            (Self::Credentials, Credentials::Stored(_)) => "session_store",
            (Self::Credentials | Self::Spent(_), _) => "none",
        }
    }
}

impl TokenSlot {
    /// The slot an agent starts with.
    pub(crate) fn new(client: Arc<ClientShared>, credentials: Credentials) -> Self {
        let (access_token, expires_at, grant) = match &credentials {
            Credentials::AccessToken { token, expires_at } => (Some(token), *expires_at, Grant::Credentials),
            Credentials::Session { session, .. } => {
                let grant = session.refresh_token.clone().map_or(Grant::Credentials, Grant::RefreshToken);
                (session.access_token.as_ref(), session.expires_at, grant)
            }
            _ => (None, None, Grant::Credentials),
        };
        let lifetime = expires_at.map(|at| at.duration_since(client.now()).unwrap_or(Duration::ZERO));
        let token = credentials
            .check()
            .and_then(|()| access_token.map(|token| Token::new(token, lifetime, &client)).transpose());
        let (token, grant) = match token {
            Ok(token) => (token.map(Arc::new), grant),
            Err(error) => (None, Grant::Spent(error)),
        };
        let state = State { token, grant, ..State::default() };
        Self { number: client.agents.next(), client, credentials, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in that an operation refused this very token: a 401 that arrives late must not throw away its replacement.
    ///
    /// The token is forgotten, unless it is new and replaced another refused one: then one more would fare no better,
    /// and the operation's calls fail with this error for a while. Others may still be served. So it is with a ready-made token, as
    /// there is no other.
    pub(crate) fn reject(&self, refused: &Arc<Token>, operation: &'static str, error: &Error) {
        let now = Instant::now();
        let mut state = self.lock();
        if !state.token.as_ref().is_some_and(|token| Arc::ptr_eq(token, refused)) {
            return;
        }
        let is_new = now.saturating_duration_since(refused.issued) < NEW && !refused.taken_over;
        if !state.has_no_other(&self.credentials) && (state.refused_token.is_none() || !is_new) {
            state.refused_token = state.token.take();
            // Who waits for its quota goes over to its replacement's.
            refused.quota.retire();
            state.refusing.clear();
        } else if let Some(until) = now.checked_add(REFUSAL_REMEMBERED) {
            state.refusing.retain(|(refusing, ..)| *refusing != operation);
            state.refusing.push((operation, until, error.clone()));
        }
    }

    pub(crate) fn note_login_sent(&self, sent: bool) {
        self.lock().login_sent = sent;
    }

    /// None where what it met is over, and says nothing of what it meets from now on.
    pub(crate) fn note_login_trouble(&self, error: Option<Error>) {
        self.lock().trouble = error;
    }

    /// The token held, good or not.
    pub(crate) fn held(&self) -> Option<Arc<Token>> {
        self.lock().token.clone()
    }

    /// How often the agent has logged out: what a call notes when it begins.
    pub(crate) fn logouts(&self) -> u64 {
        self.lock().logouts
    }

    pub(crate) fn keep_with(&self, keeper: Keeper) {
        self.lock().keeper = Some(Arc::new(keeper));
    }

    pub(crate) fn share(&self, sharing: &Arc<Sharing>, identity: &str) {
        let client = self.credentials.oauth_client().map_or("", |client| &client.id);
        let key = SessionKey::of(&[self.client.login.site.base().as_str(), client, identity]);
        let mut state = self.lock();
        state.line = Some(Arc::new(Line::new(Arc::clone(sharing), key, state.refresh_token())));
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.lock().line.is_some()
    }

    /// What a restart needs, if there is any of it.
    pub(crate) fn session(&self) -> Option<Session> {
        let now = self.client.now();
        let state = self.lock();
        let refresh_token = state.refresh_token();
        if state.token.is_none() && refresh_token.is_none() {
            return None;
        }
        Some(session(state.token.as_deref(), refresh_token, now))
    }

    /// A token to send: the one held if it is good, else that of the login under way, else of a new one.
    ///
    /// A caller that stops waiting takes nothing with it: the login goes on for the others. One that began before the
    /// agent logged out, when it had done so fewer times, gets no token any more.
    pub(crate) async fn token(
        self: &Arc<Self>,
        operation: &'static str,
        logouts: u64,
        deadline: Instant,
    ) -> LoginResult {
        loop {
            let mut login = {
                let now = Instant::now();
                let mut state = self.lock();
                if state.logouts != logouts {
                    return Err(logged_out());
                }
                if let Some(line) = &state.line {
                    line.sharing.watch();
                }
                if let Some(token) = state.token.clone().filter(|token| !token.is_expired(now)) {
                    if token.refresh_from.is_some_and(|from| now >= from)
                        && state.may_refresh_early(&self.credentials, now)
                    {
                        state.start_login(self);
                    }
                    return state.refusal_of(operation, now).map_or(Ok(token), Err);
                }
                if let Some((until, refused)) = &state.refused
                    && now < *until
                {
                    return Err(refused.clone().not_asked_again(until.saturating_duration_since(now)));
                }
                match state.running_login() {
                    Some(login) => login,
                    None => match self.throttled().filter(|(until, _)| *until >= deadline && state.line.is_none()) {
                        Some((_, error)) => return Err(error),
                        None => state.start_login(self),
                    },
                }
            };
            spans::wait_for(login.span.clone());
            match timeout_at(deadline, login.ended(self)).await {
                Ok(Ended::With(result)) => return result,
                Ok(Ended::Gone) if login.is_here() && self.lock().is_under_way(&login.result) => {
                    return Err(login_lost());
                }
                // Its runtime is gone, and this one is not; or it was given up already, as another caller noticed, or as the
                // agent logged out.
                Ok(Ended::Gone) => {}
                Ok(Ended::StandsStill) => self.lock().give_up(&login),
                Err(_) => return Err(self.late()),
            }
        }
    }

    /// Until when no login of this OAuth client is sent, and what that is to a call whose time runs out before.
    fn throttled(&self) -> Option<(Instant, Error)> {
        let gate = self.client.login_gate(&self.credentials.oauth_client()?.id);
        let (now, until) = (Instant::now(), gate.throttled_until()?);
        let what = format!("{BEFORE_ITS_TURN}: logins of this OAuth client are throttled");
        let error = Error::login_throttled(what).with_retry_after(Some(until.saturating_duration_since(now)));
        (until > now).then_some((until, error))
    }

    /// The call's time ran out before the login ended: why that took so long.
    fn late(&self) -> Error {
        let throttled = self.throttled();
        let client = self.credentials.oauth_client();
        let state = self.lock();
        if let Some((_, error)) = throttled {
            // What its own login was answered tells more than that it is not let in.
            let (met, wait) = (state.trouble.clone().filter(Error::is_throttled), error.retry_after());
            return met.map_or(error, |met| met.noted(BEFORE_ITS_TURN).with_retry_after(wait));
        }
        if let Some(trouble) = state.trouble.clone() {
            return trouble.outlasted("the call's time ran out while the login was tried again");
        }
        let what = if client.is_some() && !state.login_sent {
            "the call's time ran out while the login waited its turn among this client's logins"
        } else {
            "the call's time ran out while the login was under way"
        };
        Error::new(ErrorKind::Timeout, what)
    }

    /// Nobody is left to use what a login under way brings: it ends. One that was sent goes on where the user is to be told of
    /// its session, as it may have voided the refresh token that is stored.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        // Other replicas wait for one that is theirs too.
        let is_ours = state.line.is_none() && (state.keeper.is_none() || !state.login_sent);
        if let Some(login) = state.running_login().filter(|_| is_ours) {
            state.give_up(&login);
        }
    }

    /// Forgets everything, as the agent logs out, and gives the tokens to revoke: its own, and another replica's that is newer.
    /// Credentials that can log in again may.
    ///
    /// A login under way is waited for: the token it brings would outlive the logout.
    pub(crate) async fn clear(&self, deadline: Instant) -> Vec<Arc<Token>> {
        let mut tokens = Vec::from_iter(self.clear_state(deadline).await);
        let (keeper, line) = {
            let state = self.lock();
            (state.keeper.clone(), state.line.clone())
        };
        if let Some(keeper) = keeper {
            // What is void is not stored after the user has removed it.
            keeper.forget(deadline).await;
        }
        if let Some(line) = line {
            tokens.extend(line.log_out(self, deadline).await);
        }
        tokens
    }

    /// How long a sign of life of the login's runtime is waited for.
    fn patience(&self, login: &Login) -> Duration {
        if !self.lock().may_be_spent(&self.credentials) {
            return PATIENCE;
        }
        match login.runtime.runtime_flavor() {
            // Whoever is to drive it may have left it for good.
            RuntimeFlavor::CurrentThread => PATIENCE_WITH_THE_SPENT,
            // It has threads of its own: it is held up, and will go on.
            _ => self.client.settings.login_timeout.saturating_sub(login.begun.elapsed()).max(PATIENCE),
        }
    }

    async fn clear_state(&self, deadline: Instant) -> Option<Arc<Token>> {
        loop {
            let mut login = {
                let mut state = self.lock();
                match state.running_login().filter(|_| Instant::now() < deadline) {
                    Some(login) => login,
                    None => return state.clear(&self.credentials),
                }
            };
            if let Ok(Ended::StandsStill) = timeout_at(deadline, login.ended(self)).await {
                self.lock().give_up(&login);
            }
        }
    }
}

fn session(token: Option<&Token>, refresh_token: Option<SecretString>, now: SystemTime) -> Session {
    let left = token.and_then(|token| token.expires).map(|at| at.saturating_duration_since(Instant::now()));
    let access_token = token.map(|token| token.secret().into());
    Session { access_token, refresh_token, expires_at: left.and_then(|left| now.checked_add(left)) }
}

fn login_lost() -> Error {
    Error::new(ErrorKind::Connection, "the login was stopped: it panicked, or its runtime shut down")
}

fn logged_out() -> Error {
    Error::new(ErrorKind::LoginRefused, "the agent has logged out since the call began")
}

impl State {
    fn clear(&mut self, credentials: &Credentials) -> Option<Arc<Token>> {
        match (credentials, &self.grant) {
            (Credentials::Client(_) | Credentials::Source(_), Grant::RefreshToken(_)) => {
                self.grant = Grant::Credentials
            }
            (Credentials::Client(_) | Credentials::Source(_), _) => {}
            _ => self.grant = Grant::Spent(must_log_in("the agent has logged out")),
        }
        self.logouts += 1;
        self.login = None;
        self.refused_token = None;
        self.refusing.clear();
        if let Some(token) = &self.token {
            // Who waits for its quota is sent away.
            token.quota.retire();
        }
        self.token.take()
    }

    /// What the operation answered to the token held, while that is remembered.
    fn refusal_of(&self, operation: &str, now: Instant) -> Option<Error> {
        let (_, until, error) =
            self.refusing.iter().find(|(refusing, until, _)| *refusing == operation && now < *until)?;
        let wait = until.saturating_duration_since(now);
        let why = match self.refused_token.is_some() {
            true => "a token just issued was refused like the one before it",
            false => "the ready-made access token was refused a moment ago, and there is no other",
        };
        Some(error.clone().remembered(why).with_retry_after(Some(wait)))
    }

    fn refresh_token(&self) -> Option<SecretString> {
        match &self.grant {
            Grant::RefreshToken(token) => Some(token.clone()),
            Grant::Credentials | Grant::Spent(_) => None,
        }
    }

    /// Whether the token held is all there is, as a ready-made one without a refresh token is.
    fn has_no_other(&self, credentials: &Credentials) -> bool {
        self.line.is_none()
            && matches!(self.grant, Grant::Credentials)
            && matches!(credentials, Credentials::AccessToken { .. } | Credentials::Session { .. })
    }

    fn may_refresh_early(&self, credentials: &Credentials, now: Instant) -> bool {
        self.running_login().is_none()
            && self.refresh_not_before.is_none_or(|from| now >= from)
            && !matches!(self.grant, Grant::Spent(_))
            && !self.has_no_other(credentials)
            // Each replica would refresh for itself.
            && self.line.as_ref().is_none_or(|line| !line.sharing.is_away())
    }

    /// The login under way, unless its task is gone without a result.
    fn running_login(&self) -> Option<Login> {
        self.login.as_deref().filter(|login| login.result.has_changed().is_ok()).cloned()
    }

    /// Whether that is the login under way. Another one's was given up, or its agent has logged out since: what it brings all the
    /// same, in the moment before its task ends, is not kept.
    fn is_under_way(&self, login: &watch::Receiver<Option<LoginResult>>) -> bool {
        self.login.as_ref().is_some_and(|current| current.result.same_channel(login))
    }

    /// Should its runtime be driven again, it sends nothing more, so that no refresh token is spent twice.
    fn give_up(&mut self, login: &Login) {
        if self.is_under_way(&login.result) {
            login.task.abort();
            self.login = None;
        }
    }

    /// Whether that login was sent with what is good for one time.
    fn may_be_spent(&self, credentials: &Credentials) -> bool {
        self.login_sent
            && match &self.grant {
                Grant::Credentials => is_one_time(credentials),
                Grant::RefreshToken(_) => !is_client(credentials),
                Grant::Spent(_) => false,
            }
    }

    /// One short task, so that the login does not die with the caller who happened to begin it.
    fn start_login(&mut self, slot: &Arc<TokenSlot>) -> Login {
        if matches!(self.grant, Grant::Credentials) && self.may_be_spent(&slot.credentials) {
            let why = "the login was stopped after the one-time code or assertion was sent, which may have spent it";
            self.grant = Grant::Spent(must_log_in(why));
        }
        let (sender, result) = watch::channel(None);
        (self.login_sent, self.trouble) = (false, None);
        let slot = Arc::clone(slot);
        let begun = Begun { grant: self.grant.clone(), login: result.clone(), fence: None };
        let (started, grant) = (Instant::now(), begun.grant.name(&slot.credentials));
        let (client, span) = (Arc::clone(&slot.client), spans::of_login(grant));
        let id = span.id();
        let task = async move {
            let login = begun.login.clone();
            let result = log_in(&slot, begun).await;
            let taken_over = result.as_ref().is_ok_and(|token| token.taken_over);
            let grant = if taken_over { "session_store" } else { grant };
            metrics::logged_in(grant, || started.elapsed(), result.as_ref().err());
            spans::failed(&tracing::Span::current(), result.as_ref().err());
            let kept = slot.lock().end_login(&login, &result);
            match result {
                Ok(token) if !kept && !taken_over => {
                    // Nobody is left to use it.
                    let _ = login::revoke(&slot.client, token, slot.client.settings.call_timeout).await;
                }
                result => drop(sender.send(Some(result))),
            }
        };
        let task = client.under_way.logins.spawn(task.instrument(span));
        let login = Login { result, task: task.abort_handle(), runtime: Handle::current(), begun: started, span: id };
        self.login = Some(Box::new(login.clone()));
        login
    }

    /// Keeps what a login brought; false where it is not the one under way any more.
    fn end_login(&mut self, login: &watch::Receiver<Option<LoginResult>>, result: &LoginResult) -> bool {
        if !self.is_under_way(login) {
            return false;
        }
        self.login = None;
        (self.login_sent, self.trouble) = (false, None);
        let now = Instant::now();
        match result {
            Ok(token) => {
                if let Some(replaced) = self.token.replace(Arc::clone(token)) {
                    // Who waits for its quota goes over to the new one's.
                    replaced.quota.retire();
                    self.refused_token = None;
                }
                self.refused = None;
                self.refusing.clear();
                self.refresh_not_before = None;
            }
            // The token held, if it is still good, stays.
            Err(error) => {
                self.refresh_not_before = now.checked_add(REFRESH_PAUSE);
                if matches!(error.kind(), ErrorKind::LoginRefused | ErrorKind::InvalidInput | ErrorKind::Unauthorized) {
                    let asked = self.line.is_none() || error.attempts() > 0 && !matches!(self.grant, Grant::Spent(_));
                    let remembered = if asked { REFUSAL_REMEMBERED } else { REFUSAL_DOUBTED };
                    self.refused = now.checked_add(remembered).map(|until| (until, error.clone()));
                }
            }
        }
        true
    }

    /// Notes what the next token is got with, unless this login is not the one under way any more.
    fn next_grant(&mut self, begun: &Begun, grant: Grant) {
        if self.is_under_way(&begun.login) {
            self.grant = grant;
        }
    }
}

/// What a login was begun with.
struct Begun {
    grant: Grant,
    login: watch::Receiver<Option<LoginResult>>,
    /// The lease that it has, of those that replicas share.
    fence: Option<u64>,
}

/// A login under way, seen from outside.
#[derive(Clone)]
struct Login {
    /// `None` until it ends.
    result: watch::Receiver<Option<LoginResult>>,
    task: AbortHandle,
    runtime: Handle,
    begun: Instant,
    /// Kept open by the task.
    span: Option<tracing::Id>,
}

enum Ended {
    With(LoginResult),
    /// Its task ended without a result.
    Gone,
    /// Its runtime is not driven any more, so it would never end.
    StandsStill,
}

impl Login {
    /// Whether it is driven by the runtime of who asks.
    fn is_here(&self) -> bool {
        self.runtime.id() == Handle::current().id()
    }

    async fn ended(&mut self, slot: &TokenSlot) -> Ended {
        loop {
            let patience = if self.is_here() { Duration::MAX } else { PATIENCE };
            let ended = timeout(patience, self.result.wait_for(Option::is_some)).await;
            // Owned, as the channel is locked while its value is borrowed.
            match ended.map(|result| result.ok().and_then(|result| result.clone())) {
                Ok(Some(result)) => return Ended::With(result),
                Ok(None) => return Ended::Gone,
                // A runtime that is driven runs a task that does nothing at once.
                Err(_) => {
                    let patience = slot.patience(self);
                    if timeout(patience, self.runtime.spawn(async {})).await.is_err() {
                        return Ended::StandsStill;
                    }
                }
            }
        }
    }
}

/// Gets a new token, for this replica alone or for all.
async fn log_in(slot: &TokenSlot, begun: Begun) -> LoginResult {
    let line = slot.lock().line.clone();
    match line {
        Some(line) => shared::log_in(slot, begun, &line).await,
        None => exchange(slot, &begun).await,
    }
}

/// Gets one from the service, notes what the one after it is got with, and has it stored, for the other replicas first.
async fn exchange(slot: &TokenSlot, begun: &Begun) -> LoginResult {
    let result = match &begun.grant {
        Grant::Credentials => login::by_credentials(slot).await.map_err(|error| spend_one_time(slot, begun, error)),
        Grant::RefreshToken(token) => match login::by_refresh_token(slot, token).await {
            // Client credentials are as good as before they were given a refresh token.
            Err(error) if error.kind() == ErrorKind::LoginRefused && is_client(&slot.credentials) => {
                slot.lock().next_grant(begun, Grant::Credentials);
                login::by_credentials(slot).await
            }
            result => result.map_err(|error| spend_refresh(slot, begun, error)),
        },
        Grant::Spent(error) => Err(error.clone()),
    };
    let Issued { access, refresh_token } = result?;
    // Noted before anything else can fail: the service may have voided the one before.
    if let Some(refresh_token) = refresh_token {
        slot.lock().next_grant(begun, Grant::RefreshToken(refresh_token));
    } else if is_one_time(&slot.credentials) && matches!(begun.grant, Grant::Credentials) {
        let spent = must_log_in("the session had no refresh token and is over");
        slot.lock().next_grant(begun, Grant::Spent(spent));
    }
    // Without an access token, a refresh token came.
    let token = access.and_then(|Access { token, lifetime }| Token::new(&token, lifetime, &slot.client));
    let (line, keeper, refresh_token) = {
        let state = slot.lock();
        // What is not kept is revoked, and of no use to a restart.
        let is_kept = state.is_under_way(&begun.login);
        let (line, keeper) = (state.line.clone(), state.keeper.clone());
        (line.filter(|_| is_kept), keeper.filter(|_| is_kept), state.refresh_token())
    };
    let session = session(token.as_ref().ok(), refresh_token, slot.client.now());
    if let Some(line) = line {
        line.keep(&slot.client, session.clone(), begun.fence, shared::is_new(slot, begun)).await;
    }
    if let Some(keeper) = keeper {
        keeper.keep(&slot.client, session, ()).await;
    }
    token.map(Arc::new)
}

fn must_log_in(why: &str) -> Error {
    Error::new(ErrorKind::LoginRefused, format!("{why}; the agent must log in again"))
}

fn is_client(credentials: &Credentials) -> bool {
    matches!(credentials, Credentials::Client(_))
}

fn is_one_time(credentials: &Credentials) -> bool {
    matches!(credentials, Credentials::AuthorizationCode { .. } | Credentials::Saml2Bearer { .. })
}

/// A code or assertion that may have arrived is not sent again.
fn spend_one_time(slot: &TokenSlot, begun: &Begun, error: Error) -> Error {
    // Of earlier attempts, those that were sent were throttled: anything else would have been the last.
    let is_refused = matches!(error.status(), Some(401 | 403));
    let is_throttled = !is_refused && error.bad_request().is_some_and(|why| why.cause == Cause::LoginThrottled);
    let is_answered = error.status().is_some() && !is_throttled;
    if is_one_time(&slot.credentials) && (error.an_answer_was_lost() || is_answered) {
        let spent = error.clone().explained("the one-time code or assertion is spent, the agent must log in again");
        slot.lock().next_grant(begun, Grant::Spent(spent.clone()));
        return spent;
    }
    error
}

/// A refresh token that was refused is dead.
fn spend_refresh(slot: &TokenSlot, begun: &Begun, error: Error) -> Error {
    if error.code() != Some("invalid_grant") {
        return error;
    }
    let why = if error.an_answer_was_lost() {
        "the refresh token was refused (an earlier attempt, whose answer was lost, may have spent it); the agent must log in again"
    } else {
        "the refresh token was refused; the agent must log in again"
    };
    let spent = error.explained(why);
    slot.lock().next_grant(begun, Grant::Spent(spent.clone()));
    spent
}
