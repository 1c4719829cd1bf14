//! What an agent logs in with.

use std::fmt;
use std::time::SystemTime;

use secrecy::{ExposeSecret, SecretString};

/// How an agent gets its access token. Secrets are kept in [`SecretString`] and never printed.
///
/// ```
/// use genesys_scripts::Credentials;
///
/// let credentials = Credentials::client("0a1b…", "the client's secret");
/// assert!(!format!("{credentials:?}").contains("secret's"));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// OAuth 2 client credentials (RFC 6749 §4.4): a service of its own, without a user.
    Client {
        /// The OAuth client's id.
        id: String,
        /// The OAuth client's secret.
        secret: SecretString,
    },
    /// A ready-made access token. It cannot be replaced: once refused or expired, calls fail with
    /// [`ErrorKind::Unauthorized`](crate::ErrorKind::Unauthorized).
    AccessToken {
        /// The token, without `Bearer`.
        token: SecretString,
        /// When it expires, if known.
        expires_at: Option<SystemTime>,
    },
}

impl Credentials {
    /// OAuth 2 client credentials.
    pub fn client(id: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        Self::Client { id: id.into(), secret: secret.into() }
    }

    /// A ready-made access token of unknown expiry.
    pub fn access_token(token: impl Into<SecretString>) -> Self {
        Self::AccessToken { token: token.into(), expires_at: None }
    }

    /// The OAuth client whose login limit these credentials count against.
    pub(crate) fn client_id(&self) -> Option<&str> {
        match self {
            Self::Client { id, .. } => Some(id),
            Self::AccessToken { .. } => None,
        }
    }

    /// What an answer of the login must not be let echo.
    pub(crate) fn secrets(&self) -> Vec<&str> {
        match self {
            Self::Client { secret, .. } => vec![secret.expose_secret()],
            Self::AccessToken { token, .. } => vec![token.expose_secret()],
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { id, .. } => f.debug_struct("Client").field("id", id).finish_non_exhaustive(),
            Self::AccessToken { expires_at, .. } => {
                f.debug_struct("AccessToken").field("expires_at", expires_at).finish_non_exhaustive()
            }
        }
    }
}
