//! What an agent logs in with.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::Error;
use crate::text::is_hidden;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type TokenFuture = Pin<Box<dyn Future<Output = Result<Session, BoxError>> + Send>>;

/// How an agent gets its access token. Secrets are kept in [`SecretString`] and never printed.
///
/// ```
/// use genesys_scripts::Credentials;
///
/// let credentials = Credentials::client("0a1b2c", "the-clients-secret");
/// assert!(!format!("{credentials:?}").contains("secret"));
/// ```
///
/// What cannot be right is refused, and nothing is trimmed: [`Agent::log_in`](crate::Agent::log_in) and every call of
/// an agent made of it fail with [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) and the reason, before anything
/// is sent. That is what is empty, has a byte order mark, a line end or blanks before or behind it (as a file's text does),
/// stands in quotes, or is a placeholder (`${token}`, `{{token}}`, and of ids, secrets, codes and tokens `<token>`, `%TOKEN%`,
/// `$(token)`, `null` and the like); ids, secrets, codes and tokens that are not ASCII or have a control character in them; an
/// access token with `Bearer` before it or a blank in it; a client id with a colon; and client credentials without a secret.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// OAuth 2 client credentials (RFC 6749 §4.4): a service of its own, without a user.
    Client(OAuthClient),
    /// An authorization code (RFC 6749 §4.1), with the PKCE verifier (RFC 7636) if the authorization had a
    /// challenge. Best made by [`Authorization::credentials`](crate::Authorization::credentials).
    ///
    /// A code is good for one login: it is sent again only where it never left.
    AuthorizationCode {
        /// The OAuth client; without a secret only with PKCE.
        client: OAuthClient,
        /// The code the browser came back with.
        code: SecretString,
        /// The same as in the authorization.
        redirect_uri: String,
        /// The PKCE code verifier.
        verifier: Option<SecretString>,
    },
    /// A SAML 2 assertion (RFC 7522) of an identity provider. Good for one login, like a code.
    Saml2Bearer {
        /// The OAuth client.
        client: OAuthClient,
        /// The organisation's name, as in `orgName`.
        org_name: String,
        /// The assertion, base64-encoded as the identity provider gave it.
        assertion: SecretString,
    },
    /// A user's session as it was stored before a restart: see [`Agent::session`](crate::Agent::session).
    /// With a refresh token alone it is the refresh grant (RFC 6749 §6).
    Session {
        /// The OAuth client the session belongs to.
        client: OAuthClient,
        /// What was stored.
        session: Session,
    },
    /// The session that another replica has stored for this identity, and nothing to log in with where there is none:
    /// [`ErrorKind::LoginRefused`](crate::ErrorKind::LoginRefused). For agents that are
    /// [`shared_as`](crate::Agent::shared_as) somebody.
    Stored(OAuthClient),
    /// A ready-made access token. It cannot be replaced: once refused or expired, calls fail with
    /// [`ErrorKind::Unauthorized`](crate::ErrorKind::Unauthorized).
    AccessToken {
        /// The token, without `Bearer`.
        token: SecretString,
        /// When it expires, if known.
        expires_at: Option<SystemTime>,
    },
    /// Tokens from a source of your own, asked whenever a new one is needed. See [`Credentials::source`].
    Source(TokenSource),
}

/// An OAuth client of the organisation. A public client (PKCE) has no secret.
#[derive(Clone)]
pub struct OAuthClient {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: Option<SecretString>,
}

impl OAuthClient {
    /// A client with a secret.
    pub fn new(id: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        Self { id: id.into(), secret: Some(secret.into()) }
    }

    /// A public client, for PKCE.
    pub fn public(id: impl Into<String>) -> Self {
        Self { id: id.into(), secret: None }
    }

    /// Refuses what cannot be right.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.find_flaw().map_err(refused)
    }

    fn find_flaw(&self) -> Result<(), String> {
        check_word("the client id", &self.id)?;
        if self.id.contains(':') {
            return Err("the client id has a colon in it, which ends an id (RFC 7617 §2)".to_owned());
        }
        match self.secret.as_ref().map(|secret| secret.expose_secret()) {
            Some("") => Err("the client secret is empty; a client without one is `OAuthClient::public`".to_owned()),
            Some(secret) => check_word("the client secret", secret),
            None => Ok(()),
        }
    }
}

pub(super) fn check_redirect_uri(uri: &str) -> Result<(), String> {
    check_text("the redirect URI", uri)?;
    Url::parse(uri).map(drop).map_err(|error| format!("the redirect URI does not parse: {error}"))
}

pub(super) fn refused(flaw: String) -> Error {
    Error::invalid_input(format!("{flaw}; nothing was sent"))
}

/// Pairs of them, as configuration files and word processors have them.
const QUOTES: [(char, char); 6] =
    [('"', '"'), ('\'', '\''), ('`', '`'), ('\u{201C}', '\u{201D}'), ('\u{2018}', '\u{2019}'), ('\u{AB}', '\u{BB}')];

const UNFILLED: &str = "is a placeholder that was never filled in (an unset variable?)";

/// What no credential is, said of it without it.
pub(crate) fn check_text(what: &str, text: &str) -> Result<(), String> {
    let (Some(first), Some(last)) = (text.chars().next(), text.chars().next_back()) else {
        return Err(format!("{what} is empty"));
    };
    let is_line_end = |c| matches!(c, '\n' | '\r');
    let flaw = if text.chars().all(|c| c.is_whitespace() || is_hidden(c)) {
        "is blank"
    } else if first == '\u{FEFF}' {
        "begins with a byte order mark, as a file can that was saved as \"UTF-8 with BOM\""
    } else if is_line_end(last) {
        "ends with a line end, as a file's text does: take it off"
    } else if is_line_end(first) {
        "begins with a line end: take it off"
    } else if last.is_whitespace() || is_hidden(last) {
        "ends with a blank: take it off"
    } else if first.is_whitespace() || is_hidden(first) {
        "begins with a blank: take it off"
    } else if QUOTES.contains(&(first, last)) {
        "stands in quotes: take them off"
    } else if [("${", "}"), ("{{", "}}")].iter().any(|(open, close)| text.starts_with(open) && text.ends_with(close)) {
        UNFILLED
    } else {
        return Ok(());
    };
    Err(format!("{what} {flaw}"))
}

/// What a variable's name stands in where nobody put its value, and what an empty one is written as. Nothing but a name, so that
/// no secret is taken for one; a SAML assertion begins with `<`, so it is not asked of that.
fn is_unfilled(text: &str) -> bool {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':'))
    };
    let inside = |open: &str, close: &str| text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    let named = [("<", ">"), ("%", "%"), ("#{", "}"), ("#(", ")"), ("@{", "}")];
    // A shell's may be a whole command.
    inside("$(", ")").is_some()
        || named.iter().any(|(open, close)| inside(open, close).is_some_and(is_name))
        || ["null", "(null)", "undefined", "none", "[object object]"]
            .iter()
            .any(|nothing| text.eq_ignore_ascii_case(nothing))
}

/// A client's id and secret, a code and a refresh token, as a user gives them.
fn check_word(what: &str, text: &str) -> Result<(), String> {
    check_text(what, text)?;
    check_filled(what, text)?;
    check_characters(what, text)
}

fn check_filled(what: &str, text: &str) -> Result<(), String> {
    if is_unfilled(text) { Err(format!("{what} {UNFILLED}")) } else { Ok(()) }
}

/// They are visible ASCII and blanks (RFC 6749, appendix A).
fn check_characters(what: &str, text: &str) -> Result<(), String> {
    match text.chars().find(|c| !matches!(c, ' '..='~')) {
        None => Ok(()),
        Some('\n' | '\r') => Err(format!("{what} has a line end in it")),
        Some(c) if is_hidden(c) => Err(format!("{what} has a character in it that nobody sees")),
        Some(_) => Err(format!("{what} has a character in it that is not ASCII, and so was not issued like that")),
    }
}

/// An access token, as it goes into a header behind `Bearer` (RFC 6750 §2.1).
pub(super) fn check_access_token(what: &str, token: &str) -> Result<(), String> {
    check_text(what, token)?;
    let scheme = token.split_whitespace().next().unwrap_or_default();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Err(format!("{what} has `Bearer` before it: give it without"));
    }
    if token.contains(' ') {
        return Err(format!("{what} has a blank in it"));
    }
    check_characters(what, token)
}

/// One that was not issued just now.
pub(super) fn check_given_token(what: &str, token: &str) -> Result<(), String> {
    check_access_token(what, token)?;
    check_filled(what, token)
}

/// What an agent needs to go on after a restart: its tokens, as secrets. Store it like a password.
///
/// **Serialised, its tokens are plain text: seal what you store**, for example with an AEAD cipher, as `examples/agent_desktop`
/// does.
///
/// ```
/// use genesys_scripts::{ExposeSecret, Session};
///
/// let stored = serde_json::to_vec(&Session::from_refresh_token("r-1"))?; // Plain: seal it.
/// let session: Session = serde_json::from_slice(&stored)?;
/// assert_eq!(session.refresh_token.unwrap().expose_secret(), "r-1");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Session {
    /// The access token, if there is one.
    #[serde(default, serialize_with = "exposed_if_any")]
    pub access_token: Option<SecretString>,
    /// The refresh token, for the grants that have one.
    #[serde(default, serialize_with = "exposed_if_any")]
    pub refresh_token: Option<SecretString>,
    /// When the access token expires, by the wall clock, if known.
    #[serde(default)]
    pub expires_at: Option<SystemTime>,
}

impl Session {
    /// A session with an access token of unknown expiry.
    pub fn from_access_token(token: impl Into<SecretString>) -> Self {
        Self { access_token: Some(token.into()), refresh_token: None, expires_at: None }
    }

    /// A session that begins with a refresh.
    pub fn from_refresh_token(token: impl Into<SecretString>) -> Self {
        Self { access_token: None, refresh_token: Some(token.into()), expires_at: None }
    }
}

/// Writes a secret in plain text, where the user asks for that.
pub(super) fn exposed<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

fn exposed_if_any<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(SecretString::expose_secret).serialize(serializer)
}

/// An async function of yours that gives tokens.
#[derive(Clone)]
pub struct TokenSource(Arc<dyn Fn() -> TokenFuture + Send + Sync>);

impl TokenSource {
    pub(crate) fn ask(&self) -> TokenFuture {
        (self.0)()
    }
}

impl Credentials {
    /// OAuth 2 client credentials.
    pub fn client(id: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        Self::Client(OAuthClient::new(id, secret))
    }

    /// A ready-made access token of unknown expiry.
    pub fn access_token(token: impl Into<SecretString>) -> Self {
        Self::AccessToken { token: token.into(), expires_at: None }
    }

    /// A refresh token of an earlier session.
    pub fn refresh_token(client: OAuthClient, token: impl Into<SecretString>) -> Self {
        Self::Session { client, session: Session::from_refresh_token(token) }
    }

    /// Tokens from an async function of your own: a vault, or a service that logs in for everyone.
    ///
    /// It is asked once for all calls that wait, whenever the token it gave last is about to expire or was
    /// refused, and given the client's login timeout to answer. Its refresh token is not used.
    ///
    /// ```
    /// use genesys_scripts::{Credentials, Session};
    ///
    /// let credentials = Credentials::source(|| async {
    ///     let token = "from the vault";
    ///     Ok(Session::from_access_token(token))
    /// });
    /// ```
    pub fn source<F, T>(source: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = Result<Session, BoxError>> + Send + 'static,
    {
        Self::Source(TokenSource(Arc::new(move || Box::pin(source()))))
    }

    /// The OAuth client whose login limit these credentials count against.
    pub(crate) fn oauth_client(&self) -> Option<&OAuthClient> {
        match self {
            Self::Client(client)
            | Self::AuthorizationCode { client, .. }
            | Self::Saml2Bearer { client, .. }
            | Self::Session { client, .. }
            | Self::Stored(client) => Some(client),
            Self::AccessToken { .. } | Self::Source(_) => None,
        }
    }

    /// Refuses what cannot be right.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.find_flaw().map_err(refused)
    }

    fn find_flaw(&self) -> Result<(), String> {
        if let Some(client) = self.oauth_client() {
            client.find_flaw()?;
        }
        match self {
            // RFC 6749 §4.4: only for clients that can keep one.
            Self::Client(OAuthClient { secret: None, .. }) => {
                Err("client credentials need a client secret; who has none logs in by an authorization code".to_owned())
            }
            Self::Client(_) | Self::Source(_) | Self::Stored(_) => Ok(()),
            Self::AuthorizationCode { code, redirect_uri, verifier, .. } => {
                check_word("the authorization code", code.expose_secret())?;
                if let Some(verifier) = verifier {
                    check_word("the PKCE verifier", verifier.expose_secret())?;
                }
                check_redirect_uri(redirect_uri)
            }
            Self::Saml2Bearer { org_name, assertion, .. } => {
                check_text("the organisation's name", org_name)?;
                check_text("the SAML assertion", assertion.expose_secret())
            }
            Self::Session { session, .. } => {
                if session.access_token.is_none() && session.refresh_token.is_none() {
                    return Err("the session has neither an access token nor a refresh token".to_owned());
                }
                if let Some(token) = &session.access_token {
                    check_given_token("the session's access token", token.expose_secret())?;
                }
                session
                    .refresh_token
                    .as_ref()
                    .map_or(Ok(()), |token| check_word("the refresh token", token.expose_secret()))
            }
            Self::AccessToken { token, .. } => check_given_token("the access token", token.expose_secret()),
        }
    }

    /// What an answer of the login must not be let echo.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        let own: [Option<&SecretString>; 2] = match self {
            Self::Client(_) | Self::Source(_) | Self::Stored(_) => [None, None],
            Self::AuthorizationCode { code, verifier, .. } => [Some(code), verifier.as_ref()],
            Self::Saml2Bearer { assertion, .. } => [Some(assertion), None],
            Self::Session { session, .. } => [session.access_token.as_ref(), session.refresh_token.as_ref()],
            Self::AccessToken { token, .. } => [Some(token), None],
        };
        let of_client = self.oauth_client().and_then(|client| client.secret.as_ref());
        own.into_iter().flatten().chain(of_client).map(|secret| secret.expose_secret()).collect()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Client(_) => "Client",
            Self::AuthorizationCode { .. } => "AuthorizationCode",
            Self::Saml2Bearer { .. } => "Saml2Bearer",
            Self::Session { .. } => "Session",
            Self::Stored(_) => "Stored",
            Self::AccessToken { .. } => "AccessToken",
            Self::Source(_) => "Source",
        };
        let mut debug = f.debug_struct(name);
        if let Some(client) = self.oauth_client() {
            debug.field("client", &client.id);
        }
        debug.finish_non_exhaustive()
    }
}

impl fmt::Debug for OAuthClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthClient").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("has_access_token", &self.access_token.is_some())
            .field("has_refresh_token", &self.refresh_token.is_some())
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}
