//! One agent's token: one login at a time, shared by all who wait, and replaced before it expires.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Credentials;
use super::login::log_in;
use crate::agent::AgentShared;
use crate::error::{Error, ErrorKind};
use crate::resilience::random::Random;

/// How long a definitive refusal is remembered: calls meanwhile fail without asking the service again.
const REFUSAL_REMEMBERED: Duration = Duration::from_secs(30);
/// A token is replaced at most this long before it expires, or a fifth of its life if that is less.
const REFRESH_EARLY: Duration = Duration::from_secs(300);
/// How long after a failed early replacement the next is tried; the token is still good.
const REFRESH_PAUSE: Duration = Duration::from_secs(15);

/// An access token as it is sent.
pub(crate) struct Token {
    bearer: HeaderValue,
    expires: Option<Instant>,
    refresh_from: Option<Instant>,
}

impl Token {
    pub(crate) fn new(token: &SecretString, lifetime: Option<Duration>, random: &Random) -> Result<Self, Error> {
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| Error::invalid_input("the access token holds characters that no header can carry"))?;
        bearer.set_sensitive(true);
        let now = Instant::now();
        // A lifetime beyond the clock's range is no expiry at all.
        let expires = lifetime.and_then(|lifetime| now.checked_add(lifetime));
        let refresh_from = expires.and_then(|expires| {
            let early = (expires - now) / 5;
            expires.checked_sub(early.min(REFRESH_EARLY).mul_f64(0.5 + random.fraction() / 2.0))
        });
        Ok(Self { bearer, expires, refresh_from })
    }

    /// The value of `Authorization`, marked sensitive.
    pub(crate) fn bearer(&self) -> &HeaderValue {
        &self.bearer
    }

    /// The token itself, for the one place that must find it: error texts that echo it.
    pub(crate) fn secret(&self) -> &str {
        self.bearer.to_str().ok().and_then(|bearer| bearer.strip_prefix("Bearer ")).unwrap_or_default()
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires", &self.expires).finish_non_exhaustive()
    }
}

type LoginResult = Result<Arc<Token>, Error>;

/// Where an agent's token is kept.
#[derive(Debug, Default)]
pub(crate) struct TokenSlot {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Arc<Token>>,
    /// The login under way; `None` in it until it ends.
    login: Option<watch::Receiver<Option<LoginResult>>>,
    refused: Option<(Instant, Error)>,
    refresh_not_before: Option<Instant>,
}

impl TokenSlot {
    /// A slot that holds a token from the start.
    pub(crate) fn holding(token: Token) -> Self {
        Self { state: Mutex::new(State { token: Some(Arc::new(token)), ..State::default() }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets this very token: a 401 that arrives late must not throw away its replacement.
    pub(crate) fn reject(&self, refused: &Arc<Token>) {
        let mut state = self.lock();
        if state.token.as_ref().is_some_and(|token| Arc::ptr_eq(token, refused)) {
            state.token = None;
        }
    }
}

/// The agent's token: the one held if it is good, else that of the login under way, else of a new one.
///
/// A caller that stops waiting takes nothing with it: the login goes on for the others.
pub(crate) async fn token(agent: &Arc<AgentShared>, deadline: Instant) -> LoginResult {
    let mut login = {
        let now = Instant::now();
        let mut state = agent.slot.lock();
        if let Some(token) = state.token.clone().filter(|token| !token.is_expired(now)) {
            let due = token.refresh_from.is_some_and(|from| now >= from);
            if due && state.running_login().is_none() && state.refresh_not_before.is_none_or(|from| now >= from) {
                state.start_login(agent);
            }
            return Ok(token);
        }
        if let Some((until, refused)) = &state.refused
            && now < *until
        {
            return Err(refused.clone());
        }
        match state.running_login() {
            Some(login) => login,
            None => state.start_login(agent),
        }
    };
    let ended = timeout_at(deadline, login.wait_for(Option::is_some)).await;
    match ended {
        Ok(Ok(result)) => result.clone().unwrap_or_else(|| Err(login_lost())),
        Ok(Err(_)) => Err(login_lost()),
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the call's time ran out while the login was under way")),
    }
}

fn login_lost() -> Error {
    Error::new(ErrorKind::Connection, "the login was stopped: its runtime shut down")
}

impl State {
    /// The login under way, unless its task is gone without a result.
    fn running_login(&self) -> Option<watch::Receiver<Option<LoginResult>>> {
        self.login.clone().filter(|login| login.has_changed().is_ok())
    }

    /// One short task, so that the login does not die with the caller who happened to begin it.
    fn start_login(&mut self, agent: &Arc<AgentShared>) -> watch::Receiver<Option<LoginResult>> {
        let (sender, receiver) = watch::channel(None);
        self.login = Some(receiver.clone());
        let agent = Arc::clone(agent);
        tokio::spawn(async move {
            let result = log_in(&agent).await.map(Arc::new);
            agent.slot.lock().end_login(&result);
            let _ = sender.send(Some(result));
        });
        receiver
    }

    fn end_login(&mut self, result: &LoginResult) {
        self.login = None;
        let now = Instant::now();
        match result {
            Ok(token) => {
                self.token = Some(Arc::clone(token));
                self.refused = None;
                self.refresh_not_before = None;
            }
            // The token held, if it is still good, stays.
            Err(error) => {
                self.refresh_not_before = now.checked_add(REFRESH_PAUSE);
                if matches!(error.kind(), ErrorKind::LoginRefused | ErrorKind::InvalidInput | ErrorKind::Unauthorized) {
                    self.refused = now.checked_add(REFUSAL_REMEMBERED).map(|until| (until, error.clone()));
                }
            }
        }
    }
}

/// The slot an agent starts with.
pub(crate) fn initial_slot(credentials: &Credentials, now: std::time::SystemTime, random: &Random) -> TokenSlot {
    match credentials {
        Credentials::AccessToken { token, expires_at } => {
            let lifetime = expires_at.map(|at| at.duration_since(now).unwrap_or(Duration::ZERO));
            // One that no header can carry is refused when it is first needed, by `log_in`.
            Token::new(token, lifetime, random).map(TokenSlot::holding).unwrap_or_default()
        }
        Credentials::Client { .. } => TokenSlot::default(),
    }
}
