//! Access tokens, refresh tokens and authorization codes: who holds what, and until when.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use oauth2::{PkceCodeChallenge, PkceCodeVerifier};
use tokio::time::Instant;

use super::bounded::Bounded;
use super::quota::Window;
use super::refusal::Refusal;
use super::sync::lock;

const ACCESS_TOKENS: usize = 250_000;
const REFRESH_TOKENS: usize = 250_000;
const CODES: usize = 10_000;
const LOGIN_WINDOWS: usize = 100_000;
const CODE_LIFETIME: Duration = Duration::from_secs(300);

/// An access token, seen from the inside.
pub(super) struct Token {
    pub(super) client_id: Arc<str>,
    /// The quota belongs to the token.
    pub(super) window: Mutex<Window>,
    expires: Instant,
    /// How it is refused, once it was ended before its time.
    ended: OnceLock<fn() -> Refusal>,
    // The refresh token that came with it.
    refresh: Option<String>,
}

struct Refresh {
    client_id: Arc<str>,
    // Given to a client that proved itself by PKCE and has no secret.
    public: bool,
}

struct Code {
    client_id: Arc<str>,
    redirect_uri: String,
    challenge: Option<String>,
    expires: Instant,
}

/// What a client shows at the token endpoint.
pub(super) struct ClientProof {
    pub(super) client_id: Arc<str>,
    /// False for a client that only named itself.
    pub(super) secret_shown: bool,
}

/// The token endpoint's way to say that a code or refresh token is no good.
pub(super) struct InvalidGrant;

pub(super) struct Tokens {
    access: Bounded<Arc<Token>>,
    refresh: Bounded<Refresh>,
    codes: Bounded<Code>,
    logins: Bounded<Window>,
}

impl Tokens {
    pub(super) fn new() -> Self {
        Self {
            access: Bounded::new(ACCESS_TOKENS),
            refresh: Bounded::new(REFRESH_TOKENS),
            codes: Bounded::new(CODES),
            logins: Bounded::new(LOGIN_WINDOWS),
        }
    }

    /// Counts a login of `client_id`; false when it is over the limit.
    pub(super) fn may_log_in(&mut self, client_id: &str, limit: u32, now: Instant) -> bool {
        if self.logins.get(client_id).is_none() {
            self.logins.insert(client_id.to_owned(), Window::default());
        }
        self.logins.get_mut(client_id).is_none_or(|window| !window.take(limit, now).refused)
    }

    pub(super) fn issue(&mut self, secret: String, client_id: Arc<str>, expires: Instant, refresh: Option<String>) {
        let token = Token { client_id, window: Mutex::default(), expires, ended: OnceLock::new(), refresh };
        self.access.insert(secret, Arc::new(token));
    }

    /// Ends the tokens that a client has.
    pub(super) fn end_sessions_of(&mut self, client_id: &str) {
        for token in self.access.values().filter(|token| &*token.client_id == client_id) {
            token.end(Refusal::bad_credentials);
        }
    }

    pub(super) fn issue_refresh(&mut self, secret: String, client_id: Arc<str>, public: bool) {
        self.refresh.insert(secret, Refresh { client_id, public });
    }

    pub(super) fn issue_code(
        &mut self,
        code: String,
        client_id: Arc<str>,
        redirect_uri: String,
        challenge: Option<String>,
    ) {
        let expires = Instant::now() + CODE_LIFETIME;
        self.codes.insert(code, Code { client_id, redirect_uri, challenge, expires });
    }

    /// The good token behind the text, or why it is none.
    pub(super) fn check(&self, secret: &str, now: Instant) -> Result<Arc<Token>, Refusal> {
        let token = self.access.get(secret).ok_or_else(Refusal::bad_credentials)?;
        match token.ended.get() {
            Some(refusal) => Err(refusal()),
            None if now < token.expires => Ok(Arc::clone(token)),
            None => Err(Refusal::credentials_expired()),
        }
    }

    /// A code is good once, for the client and the redirect URI it was made for.
    pub(super) fn spend_code(
        &mut self,
        code: &str,
        proof: &ClientProof,
        redirect_uri: &str,
        verifier: Option<&str>,
        now: Instant,
    ) -> Result<(), InvalidGrant> {
        let code = self.codes.remove(code).ok_or(InvalidGrant)?;
        let proved = match (&code.challenge, verifier) {
            (Some(challenge), Some(verifier)) => challenge_of(verifier).as_ref() == Some(challenge),
            (Some(_), None) => false,
            (None, _) => proof.secret_shown,
        };
        let good =
            proved && now < code.expires && code.client_id == proof.client_id && code.redirect_uri == redirect_uri;
        if good { Ok(()) } else { Err(InvalidGrant) }
    }

    /// A refresh token is good once: its answer brings the next.
    pub(super) fn spend_refresh(&mut self, secret: &str, proof: &ClientProof) -> Result<(), InvalidGrant> {
        let refresh = self.refresh.get(secret).ok_or(InvalidGrant)?;
        if refresh.client_id != proof.client_id || !(refresh.public || proof.secret_shown) {
            return Err(InvalidGrant);
        }
        self.refresh.remove(secret);
        Ok(())
    }

    /// Ends a token and the refresh token that came with it.
    pub(super) fn revoke(&mut self, token: &Token) {
        token.end(Refusal::bad_credentials);
        if let Some(refresh) = &token.refresh {
            self.refresh.remove(refresh);
        }
    }

    pub(super) fn expire_all(&mut self) {
        for token in self.access.values() {
            token.end(Refusal::credentials_expired);
        }
    }
}

impl Token {
    /// One that was ended stays as it is.
    fn end(&self, refusal: fn() -> Refusal) {
        let _ = self.ended.set(refusal);
    }

    pub(super) fn take_quota(&self, limit: u32, now: Instant) -> super::quota::Standing {
        lock(&self.window).take(limit, now)
    }
}

fn challenge_of(verifier: &str) -> Option<String> {
    // RFC 7636's bounds, which oauth2 asserts.
    if !(43..=128).contains(&verifier.len()) {
        return None;
    }
    let challenge = PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(verifier.to_owned()));
    Some(challenge.as_str().to_owned())
}
