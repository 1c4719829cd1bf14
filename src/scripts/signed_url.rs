//! URLs that are their own permission.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};

/// A URL the service gave for one purpose: whoever has it may use it, so it is a secret.
///
/// `Debug` shows its host only.
///
/// ```
/// use genesys_scripts::SignedUrl;
///
/// let url = SignedUrl::new("https://downloads.example.com/a.script?signature=hunter2");
/// assert_eq!(format!("{url:?}"), "SignedUrl(https://downloads.example.com/[REDACTED])");
/// assert!(url.expose().ends_with("hunter2"));
/// ```
#[derive(Clone)]
pub struct SignedUrl(SecretString);

impl SignedUrl {
    /// A URL that was stored, to be used again.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self(SecretString::from(url.into()))
    }

    /// The URL itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl FromStr for SignedUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self::new(text))
    }
}

impl PartialEq for SignedUrl {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match reqwest::Url::parse(self.expose()).ok().map(|url| url.origin()) {
            Some(origin) if origin.is_tuple() => write!(f, "SignedUrl({}/[REDACTED])", origin.ascii_serialization()),
            _ => f.write_str("SignedUrl([REDACTED])"),
        }
    }
}
