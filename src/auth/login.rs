//! The exchange of a grant for a token at the token endpoint (RFC 6749); and a token's revocation.
//!
//! An answer with a token cannot be had twice where the grant is spent by it. So of the answer only what is needed is looked
//! at, whatever stands beside it, and the refresh token is kept even where the access token is no good.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::FutureExt;
use http::HeaderValue;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::credentials::{Credentials, OAuthClient, Session, TokenSource, check_access_token, check_given_token};
use super::token::{Token, TokenSlot};
use crate::answer::Answer;
use crate::call::{self, Authority, Call};
use crate::client::ClientShared;
use crate::error::{Error, ErrorKind};
use crate::json::{came, unexpected};
use crate::limits::quota::QuotaGate;
use crate::request::{self, Body, Operation, Spec};
use crate::text::{decoded, redact, shown};

/// So many names of what came instead of a token are told.
const NAMES_TOLD: usize = 8;
const SHORTEST_LIFETIME: Duration = Duration::from_secs(1);

/// What a login brought.
pub(crate) struct Issued {
    /// An error only where a refresh token came, which is good for another try.
    pub(crate) access: Result<Access, Error>,
    pub(crate) refresh_token: Option<SecretString>,
}

/// An access token that can be sent.
pub(crate) struct Access {
    pub(crate) token: SecretString,
    /// None: not known.
    pub(crate) lifetime: Option<Duration>,
}

/// Logs in with the credentials themselves.
pub(crate) async fn by_credentials(slot: &TokenSlot) -> Result<Issued, Error> {
    match &slot.credentials {
        Credentials::Client(client) => {
            ask(slot, &request::CLIENT_LOGIN, client, &[("grant_type", "client_credentials")]).await
        }
        Credentials::AuthorizationCode { client, code, redirect_uri, verifier } => {
            let verifier = verifier.as_ref().map(|verifier| ("code_verifier", verifier.expose_secret()));
            let grant = [
                ("grant_type", "authorization_code"),
                ("code", code.expose_secret()),
                ("redirect_uri", redirect_uri.as_str()),
            ];
            let grant: Vec<_> = grant.into_iter().chain(verifier).collect();
            ask(slot, &request::ONE_TIME_LOGIN, client, &grant).await
        }
        // RFC 7522 with Genesys Cloud's `orgName`, as its clients send it.
        Credentials::Saml2Bearer { client, org_name, assertion } => {
            let grant = [
                ("grant_type", "urn:ietf:params:oauth:grant-type:saml2-bearer"),
                ("orgName", org_name.as_str()),
                ("assertion", assertion.expose_secret()),
            ];
            ask(slot, &request::ONE_TIME_LOGIN, client, &grant).await
        }
        Credentials::Source(source) => from_source(slot, source).await,
        Credentials::Stored(_) => Err(match slot.is_shared() {
            true => Error::new(ErrorKind::LoginRefused, "no session of this agent is stored, it must log in"),
            false => Error::invalid_input(
                "an agent of stored credentials needs `shared_as`, and a client with `share_sessions`",
            ),
        }),
        // Their token is in the slot from the start; once it is gone there is nothing left to log in with.
        Credentials::AccessToken { .. } | Credentials::Session { .. } => Err(Error::new(
            ErrorKind::Unauthorized,
            "the ready-made access token was refused or has expired, and there is nothing to replace it with",
        )),
    }
}

/// Replaces the access token with a refresh token.
pub(crate) async fn by_refresh_token(slot: &TokenSlot, token: &SecretString) -> Result<Issued, Error> {
    let client =
        slot.credentials.oauth_client().ok_or_else(|| Error::invalid_input("a refresh token needs an OAuth client"))?;
    let grant = [("grant_type", "refresh_token"), ("refresh_token", token.expose_secret())];
    ask(slot, &request::REFRESH, client, &grant).await
}

/// Revokes this very token; one that is void already counts as revoked.
pub(crate) async fn revoke(client: &ClientShared, token: Arc<Token>, timeout: Duration) -> Result<(), Error> {
    let spec = Spec { authorization: Some(token.bearer().clone()), ..Spec::of(&request::DELETE_TOKEN, &[]) };
    let quota = QuotaGate::new(Arc::clone(&client.random));
    let call = Call { spec: &spec, authority: Authority::Own { secrets: vec![token.secret()], quota }, timeout };
    match call::run(client, &call).await {
        Err(error) if error.kind() == ErrorKind::Unauthorized => Ok(()),
        result => result.map(drop),
    }
}

/// The exchange itself, through the one loop every call runs through.
async fn ask(
    slot: &TokenSlot,
    operation: &'static Operation,
    oauth_client: &OAuthClient,
    grant: &[(&str, &str)],
) -> Result<Issued, Error> {
    let client = &*slot.client;
    let spec = spec(operation, oauth_client, grant)?;
    let mut secrets = slot.credentials.secrets();
    secrets.extend(grant.iter().filter(|(name, _)| *name == "refresh_token").map(|(_, token)| *token));
    // The client's secret as `Basic` carries it.
    let basic = spec.authorization.as_ref().and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
    secrets.extend(basic.map(|basic| basic.trim_end_matches('=')));
    let gate = client.login_gate(&oauth_client.id);
    let authority = Authority::Login { gate: &gate, slot, secrets: secrets.clone() };
    let call = Call { spec: &spec, authority, timeout: client.settings.login_timeout };
    let answer = call::run(client, &call).await?;
    issued(&spec, &answer, &secrets)
}

/// The token endpoint's request. Every grant names the client alike: id and secret in `Basic` as they are, which is what
/// Genesys' own clients send, or, of a client without a secret, the id in the form (RFC 6749 §3.2.1).
pub(crate) fn spec<'a>(
    operation: &'static Operation,
    client: &'a OAuthClient,
    grant: &[(&str, &str)],
) -> Result<Spec<'a>, Error> {
    let mut form = Url::parse("https://form.invalid/")
        .map_err(|error| Error::invalid_input("the form cannot be written").with_source(error))?;
    form.query_pairs_mut().extend_pairs(grant);
    let authorization = match &client.secret {
        Some(secret) => {
            let basic = BASE64_STANDARD.encode(format!("{}:{}", client.id, secret.expose_secret()));
            let basic = HeaderValue::try_from(format!("Basic {basic}"));
            Some(basic.map_err(|_| Error::invalid_input("the client's id or secret cannot be sent"))?)
        }
        None => {
            form.query_pairs_mut().append_pair("client_id", &client.id);
            None
        }
    };
    let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    let body = Body { content_type, bytes: form.query().unwrap_or_default().to_owned().into() };
    Ok(Spec { authorization, ..Spec::of(operation, &[]).body(body).about(&client.id) })
}

async fn from_source(slot: &TokenSlot, source: &TokenSource) -> Result<Issued, Error> {
    let limit = slot.client.settings.login_timeout;
    // Also the call that gives the future runs in here, and may panic.
    let asked = AssertUnwindSafe(async { source.ask().await }).catch_unwind();
    let Session { access_token, expires_at, .. } = timeout(limit, asked)
        .await
        .map_err(|_| {
            Error::new(
                ErrorKind::Timeout,
                format!("the token source did not answer within {:.1} s", limit.as_secs_f64()),
            )
        })?
        .map_err(|_| Error::new(ErrorKind::TokenSource, "the token source panicked"))?
        .map_err(|error| Error::new(ErrorKind::TokenSource, "the token source failed").with_source(error))?;
    let access_token =
        access_token.ok_or_else(|| Error::new(ErrorKind::TokenSource, "the token source gave no access token"))?;
    check_given_token("the access token that the token source gave", access_token.expose_secret())
        .map_err(|flaw| Error::new(ErrorKind::TokenSource, flaw))?;
    let lifetime = expires_at.map(|at| at.duration_since(slot.client.now()).unwrap_or(Duration::ZERO));
    Ok(Issued { access: Ok(Access { token: access_token, lifetime }), refresh_token: None })
}

/// What of the answer is needed. Without a token of either sort it is an error.
fn issued(spec: &Spec<'_>, answer: &Answer, secrets: &[&str]) -> Result<Issued, Error> {
    let text = decoded(&answer.body, "");
    let text = text.trim_start_matches('\u{FEFF}');
    let members = Members::of(text);
    let refresh_token = members.text("refresh_token").map(SecretString::from);
    let access = members.text("access_token").ok_or_else(|| members.instead_of("access_token")).and_then(|token| {
        check_access_token("its `access_token`", &token)?;
        Ok(Access { token: token.into(), lifetime: members.lifetime() })
    });
    match (access.map_err(|why| no_token(&why, &members, spec, answer, secrets)), refresh_token) {
        (Err(error), None) => Err(error),
        (access, refresh_token) => Ok(Issued { access, refresh_token }),
    }
}

/// Says what came instead of a token, and no value of it: there may be other tokens among them.
fn no_token(why: &str, members: &Members<'_>, spec: &Spec<'_>, answer: &Answer, secrets: &[&str]) -> Error {
    let issued: Vec<String> =
        members.names().filter(|name| name.contains("token")).filter_map(|name| members.text(name)).collect();
    let secrets: Vec<&str> = secrets.iter().copied().chain(issued.iter().map(String::as_str)).collect();
    let names = members.names().take(NAMES_TOLD).map(|name| format!("`{}`", shown(&redact(name, &secrets))));
    let names: Vec<String> = names.collect();
    let what = match names.is_empty() {
        true => format!("the login's answer has no access token: it {}", came(answer, &secrets)),
        false => format!("the login's answer is no token: {why}; it is a JSON object with {}", names.join(", ")),
    };
    unexpected(&what, spec, answer, &secrets)
}

/// The members of a JSON object, those before anything that cannot be read included, each as it was written: a number
/// beyond all bounds, half a character or garbage behind the object are no reason to lose a token.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    fn of(text: &'a str) -> Self {
        let mut members = Self(Vec::new());
        // What it could not read is the end of what it has read.
        let _ = serde_json::Deserializer::from_str(text).deserialize_map(&mut members);
        members
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The last of that name that is a text and not blank, as it is without blanks around it.
    fn text(&self, name: &str) -> Option<String> {
        let mut named = self.0.iter().rev().filter(|(other, _)| other == name);
        named.find_map(|(_, value)| {
            let text: String = serde_json::from_str(value.get()).ok()?;
            let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{FEFF}');
            (!text.is_empty()).then(|| text.to_owned())
        })
    }

    /// `expires_in`: a number of seconds, or one written as a text. Anything else is no lifetime that is known, nor is one that
    /// is over before it begins: each call would log in.
    fn lifetime(&self) -> Option<Duration> {
        let mut named = self.0.iter().rev().filter(|(name, _)| name == "expires_in");
        named.find_map(|(_, value)| {
            let text = serde_json::from_str::<String>(value.get());
            let seconds = text.as_deref().unwrap_or(value.get()).trim().parse().ok()?;
            Duration::try_from_secs_f64(seconds).ok().filter(|lifetime| *lifetime >= SHORTEST_LIFETIME)
        })
    }

    /// Why there is no such text.
    fn instead_of(&self, name: &str) -> String {
        let value = self.0.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.get());
        match value.and_then(|value| value.chars().next()) {
            None => format!("it has no `{name}`"),
            Some('"') => format!("its `{name}` is blank"),
            Some('{') => format!("its `{name}` is an object"),
            Some('[') => format!("its `{name}` is an array"),
            Some('n') => format!("its `{name}` is null"),
            Some('t' | 'f') => format!("its `{name}` is a boolean"),
            Some(_) => format!("its `{name}` is a number"),
        }
    }
}

impl<'de> Visitor<'de> for &mut Members<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(member) = map.next_entry()? {
            self.0.push(member);
        }
        Ok(())
    }
}
