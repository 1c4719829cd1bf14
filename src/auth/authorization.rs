//! The browser's part of the authorization code grant: where to send it, and what it came back with.

use std::fmt;

use oauth2::basic::BasicClient;
use oauth2::{AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, RedirectUrl};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::credentials::{Credentials, OAuthClient, check_redirect_uri, exposed, refused};
use crate::error::{Error, ErrorKind};
use crate::region::Region;
use crate::text::quoted;

/// An authorization begun: the URL to send the agent's browser to, and what to hold against its return.
///
/// `state` and the PKCE verifier are drawn by a cryptographic generator that the operating system seeds, the challenge is
/// S256 (RFC 7636). Keep it in the browser's session until the browser is back, for minutes and no longer. Where the browser may
/// come back to another process, keep its [parts](Self::into_parts) in a store that both have.
///
/// ```
/// use genesys_scripts::{Authorization, OAuthClient, Region};
///
/// let begun = Authorization::begin(&Region::EU_WEST_1, OAuthClient::public("client id"), "https://desk.example/back")?;
/// assert!(begun.url().starts_with("https://login.mypurecloud.ie/oauth/authorize?"));
/// // … the browser comes back to https://desk.example/back?code=…&state=…
/// let forged = begun.credentials("https://desk.example/back?code=abc&state=forged");
/// assert!(forged.is_err());
/// # Ok::<(), genesys_scripts::Error>(())
/// ```
#[derive(Clone)]
pub struct Authorization {
    url: String,
    state: SecretString,
    verifier: SecretString,
    client: OAuthClient,
    redirect_uri: String,
}

/// What is kept of an [`Authorization`] between two processes: all but the OAuth client, which each of them knows.
///
/// **Serialised, its secrets are plain text**: whoever has them and the code can log in as the agent. Seal it, or keep it where
/// only your service reads, and drop it when the browser is back.
#[derive(Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuthorizationParts {
    /// Where the browser is sent. It holds `state`.
    pub url: String,
    /// What the browser must bring back.
    #[serde(serialize_with = "exposed")]
    pub state: SecretString,
    /// The PKCE verifier.
    #[serde(serialize_with = "exposed")]
    pub verifier: SecretString,
    /// Where the browser is sent back to.
    pub redirect_uri: String,
}

impl Authorization {
    /// Begins an authorization with PKCE; a client with a secret sends that too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when the redirect URI, or the client's id or secret cannot be right ([`Credentials`]).
    pub fn begin(region: &Region, client: OAuthClient, redirect_uri: &str) -> Result<Self, Error> {
        let no_url =
            |what: &'static str| move |error: oauth2::url::ParseError| Error::invalid_input(what).with_source(error);
        client.check()?;
        check_redirect_uri(redirect_uri).map_err(refused)?;
        let oauth = BasicClient::new(ClientId::new(client.id.clone()))
            .set_auth_uri(
                AuthUrl::new(format!("{}/oauth/authorize", region.login_url()))
                    .map_err(no_url("the login URL does not parse"))?,
            )
            .set_redirect_uri(
                RedirectUrl::new(redirect_uri.to_owned()).map_err(no_url("the redirect URI does not parse"))?,
            );
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let (url, state) = oauth.authorize_url(CsrfToken::new_random).set_pkce_challenge(challenge).url();
        Ok(Self {
            url: url.into(),
            state: state.into_secret().into(),
            verifier: verifier.into_secret().into(),
            client,
            redirect_uri: redirect_uri.to_owned(),
        })
    }

    /// Takes it apart, so that whichever process the browser comes back to can go on with it.
    ///
    /// ```
    /// use genesys_scripts::{Authorization, AuthorizationParts, OAuthClient, Region};
    ///
    /// let client = || OAuthClient::public("client id");
    /// let begun = Authorization::begin(&Region::EU_WEST_1, client(), "https://desk.example/back")?;
    /// let kept = serde_json::to_string(&begun.into_parts())?;
    /// // … another process
    /// let parts: AuthorizationParts = serde_json::from_str(&kept)?;
    /// let begun = Authorization::from_parts(client(), parts)?;
    /// # assert!(begun.url().contains("state="));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn into_parts(self) -> AuthorizationParts {
        let Self { url, state, verifier, redirect_uri, .. } = self;
        AuthorizationParts { url, state, verifier, redirect_uri }
    }

    /// Puts it together again. The client is the one that it was begun with.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`] when the client's id or secret cannot be right, or `state` or the verifier is empty.
    pub fn from_parts(client: OAuthClient, parts: AuthorizationParts) -> Result<Self, Error> {
        client.check()?;
        let AuthorizationParts { url, state, verifier, redirect_uri } = parts;
        // With an empty `state` any request would be taken for the browser's return.
        if state.expose_secret().is_empty() || verifier.expose_secret().is_empty() {
            return Err(Error::invalid_input("the authorization's `state` or verifier is empty"));
        }
        Ok(Self { url, state, verifier, client, redirect_uri })
    }

    /// Where to send the browser.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The credentials in the URL the browser came back to: all of it, its path and query, or the query alone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::LoginRefused`] when the agent or the service refused, when there is no code, or when
    /// `state` is not the one of this authorization: then the request was not begun here.
    pub fn credentials(self, returned: &str) -> Result<Credentials, Error> {
        // In a query alone a `?` is a value's.
        let is_address = returned.starts_with(['/', '?']) || Url::parse(returned).is_ok();
        let query = match returned.split_once('?') {
            Some((path, query)) if is_address || !path.contains('=') => query,
            _ => returned,
        };
        let query = query.split('#').next().unwrap_or_default();
        let parsed = Url::parse(&format!("https://callback.invalid/?{query}"))
            .map_err(|_| Error::invalid_input("what the browser came back with does not parse"))?;
        let value = |name: &str| {
            let found = parsed.query_pairs().find(|(key, _)| key == name);
            found.map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty())
        };
        let refused = |why: String| Err(Error::new(ErrorKind::LoginRefused, why));
        let told = value("error").map(|error| {
            let described = value("error_description").map(|why| format!(", {}", quoted(&why))).unwrap_or_default();
            format!("{}{described}", quoted(&error))
        });
        let state = value("state");
        if state.as_deref() != Some(self.state.expose_secret()) {
            let how = if state.is_some() { "with another `state`" } else { "without `state`" };
            // A refusal may have come without it: its words are what there is to go by.
            let told = told.map(|told| format!("; it says {told}")).unwrap_or_default();
            return refused(format!("the browser came back {how}: this login was not begun here{told}"));
        }
        if let Some(told) = told {
            return refused(format!("the authorization was refused: {told}"));
        }
        match value("code") {
            None => refused("the browser came back without a code".into()),
            Some(code) => Ok(Credentials::AuthorizationCode {
                client: self.client,
                code: code.into(),
                redirect_uri: self.redirect_uri,
                verifier: Some(self.verifier),
            }),
        }
    }
}

impl fmt::Debug for AuthorizationParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationParts").field("redirect_uri", &self.redirect_uri).finish_non_exhaustive()
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL holds `state`.
        f.debug_struct("Authorization").field("client", &self.client.id).finish_non_exhaustive()
    }
}
