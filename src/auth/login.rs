//! The exchange of a grant for a token at the token endpoint (RFC 6749), by oauth2 over our transport; and a token's
//! revocation.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::FutureExt;
use http::{HeaderValue, StatusCode, header};
use oauth2::basic::{BasicClient, BasicErrorResponse, BasicTokenResponse};
use oauth2::{
    AsyncHttpClient, AuthorizationCode, ClientId, ClientSecret, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse,
    PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, TokenResponse, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::credentials::{Credentials, OAuthClient, Session, TokenSource};
use super::token::{Token, TokenSlot};
use crate::answer::Answer;
use crate::call::{self, Authority, Call};
use crate::client::ClientShared;
use crate::error::{Error, ErrorKind};
use crate::request::{self, Body, Operation, Spec};
use crate::text::{redact, shown};

/// What a login brought.
pub(crate) struct Issued {
    pub(crate) access_token: SecretString,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) refresh_token: Option<SecretString>,
}

/// Logs in with the credentials themselves.
pub(crate) async fn by_credentials(slot: &TokenSlot) -> Result<Issued, Error> {
    match &slot.credentials {
        Credentials::Client(client) => {
            let transport = LoginTransport::new(slot, client, &request::CLIENT_LOGIN, None);
            let response = oauth_client(client)?.exchange_client_credentials().request_async(&transport).await;
            transport.issued(response)
        }
        Credentials::AuthorizationCode { client, code, redirect_uri, verifier } => {
            let transport = LoginTransport::new(slot, client, &request::ONE_TIME_LOGIN, None);
            let redirect_uri = RedirectUrl::new(redirect_uri.clone())
                .map_err(|error| Error::invalid_input("the redirect URI does not parse").with_source(error))?;
            let client = oauth_client(client)?.set_redirect_uri(redirect_uri);
            let mut exchange = client.exchange_code(AuthorizationCode::new(code.expose_secret().to_owned()));
            if let Some(verifier) = verifier {
                exchange = exchange.set_pkce_verifier(PkceCodeVerifier::new(verifier.expose_secret().to_owned()));
            }
            transport.issued(exchange.request_async(&transport).await)
        }
        Credentials::Saml2Bearer { client, org_name, assertion } => {
            let transport = LoginTransport::new(slot, client, &request::ONE_TIME_LOGIN, None);
            saml2_bearer(&transport, client, org_name, assertion).await
        }
        Credentials::Source(source) => from_source(slot, source).await,
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
    let transport = LoginTransport::new(slot, client, &request::REFRESH, Some(token));
    let token = RefreshToken::new(token.expose_secret().to_owned());
    transport.issued(oauth_client(client)?.exchange_refresh_token(&token).request_async(&transport).await)
}

/// Revokes this very token; one that is void already counts as revoked.
pub(crate) async fn revoke(client: &ClientShared, token: Arc<Token>, timeout: Duration) -> Result<(), Error> {
    let spec = Spec::of(&request::DELETE_TOKEN, &[]);
    let call = Call { spec: &spec, authority: Authority::Token(token), timeout };
    match call::run(client, &call).await {
        Err(error) if error.kind() == ErrorKind::Unauthorized => Ok(()),
        result => result.map(drop),
    }
}

type TokenClient = BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>;

/// oauth2's client for one exchange. Where the request really goes is the operation's to say.
fn oauth_client(client: &OAuthClient) -> Result<TokenClient, Error> {
    let url = TokenUrl::new("https://login.invalid/oauth/token".to_owned())
        .map_err(|error| Error::invalid_input("the token URL does not parse").with_source(error))?;
    let mut oauth = BasicClient::new(ClientId::new(client.id.clone()));
    if let Some(secret) = &client.secret {
        oauth = oauth.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()));
    }
    Ok(oauth.set_token_uri(url))
}

/// The one grant oauth2 does not know: RFC 7522 with Genesys Cloud's `orgName` (contract §5.1).
async fn saml2_bearer(
    transport: &LoginTransport<'_>,
    client: &OAuthClient,
    org_name: &str,
    assertion: &SecretString,
) -> Result<Issued, Error> {
    let mut form = reqwest::Url::parse("https://form.invalid/")
        .map_err(|error| Error::invalid_input("the form cannot be written").with_source(error))?;
    form.query_pairs_mut()
        .append_pair("grant_type", "urn:ietf:params:oauth:grant-type:saml2-bearer")
        .append_pair("orgName", org_name)
        .append_pair("assertion", assertion.expose_secret());
    let secret = client.secret.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default();
    let basic = BASE64_STANDARD.encode(format!("{}:{secret}", client.id));
    let mut exchange = http::Request::new(form.query().unwrap_or_default().as_bytes().to_vec());
    *exchange.method_mut() = http::Method::POST;
    let headers = exchange.headers_mut();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    let basic = HeaderValue::try_from(format!("Basic {basic}"))
        .map_err(|_| Error::invalid_input("the client's id or secret cannot be sent"))?;
    headers.insert(header::AUTHORIZATION, basic);
    let response = transport.call(exchange).await?;
    match serde_json::from_slice::<BasicTokenResponse>(response.body()) {
        Ok(response) => transport.issued(Ok(response)),
        Err(_) => Err(transport.unusable("it cannot be read")),
    }
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
        .map_err(|error| Error::new(ErrorKind::TokenSource, "the token source failed").with_boxed_source(error))?;
    let access_token =
        access_token.ok_or_else(|| Error::new(ErrorKind::TokenSource, "the token source gave no access token"))?;
    let lifetime = expires_at.map(|at| at.duration_since(slot.client.now()).unwrap_or(Duration::ZERO));
    Ok(Issued { access_token, lifetime, refresh_token: None })
}

/// Our transport, as oauth2 knows transports: through the one loop every call runs through.
struct LoginTransport<'a> {
    slot: &'a TokenSlot,
    client: &'a OAuthClient,
    operation: &'static Operation,
    /// A secret sent besides those of the credentials.
    extra_secret: Option<&'a SecretString>,
    /// Answered with a success, which may yet be no token.
    answered: OnceLock<Answered>,
}

struct Answered {
    status: StatusCode,
    correlation_id: Option<Box<str>>,
    attempts: u32,
    elapsed: Duration,
}

impl<'a> LoginTransport<'a> {
    fn new(
        slot: &'a TokenSlot,
        client: &'a OAuthClient,
        operation: &'static Operation,
        extra_secret: Option<&'a SecretString>,
    ) -> Self {
        Self { slot, client, operation, extra_secret, answered: OnceLock::new() }
    }

    fn unusable(&self, why: &str) -> Error {
        let what = format!("the login's answer is no token response: {why}");
        let error = Error::new(ErrorKind::UnexpectedAnswer, what).maybe_sent(true);
        match self.answered.get() {
            Some(Answered { status, correlation_id, attempts, elapsed }) => {
                error.with_answer(*status, correlation_id.clone()).ended(self.operation.name, None, *attempts, *elapsed)
            }
            None => error,
        }
    }

    fn issued(
        &self,
        response: Result<BasicTokenResponse, RequestTokenError<Error, BasicErrorResponse>>,
    ) -> Result<Issued, Error> {
        match response {
            Ok(response) if response.access_token().secret().is_empty() => {
                Err(self.unusable("its access_token is empty"))
            }
            Ok(response) => Ok(Issued {
                access_token: response.access_token().secret().as_str().into(),
                lifetime: response.expires_in(),
                refresh_token: response.refresh_token().map(|token| token.secret().as_str().into()),
            }),
            Err(RequestTokenError::Request(error)) => Err(error),
            // Neither the body nor the parser's words: both can hold the token.
            Err(RequestTokenError::Parse(error, _)) => {
                Err(self.unusable(&format!("it cannot be read at `{}`", shown(&error.path().to_string()))))
            }
            Err(RequestTokenError::ServerResponse(_)) => Err(self.unusable("it is an error with a success status")),
            Err(RequestTokenError::Other(_)) => Err(self.unusable("it is empty")),
        }
    }
}

impl<'c> AsyncHttpClient<'c> for LoginTransport<'_> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Error>> + Send + 'c>>;

    fn call(&'c self, exchange: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let client = &*self.slot.client;
            let gate = client.login_gate(&self.client.id);
            let mut secrets = self.slot.credentials.secrets();
            secrets.extend(self.extra_secret.map(|secret| secret.expose_secret()));
            let spec = spec(self.operation, exchange).about(&self.client.id);
            // The client's secret as `Basic` carries it.
            let basic = spec.authorization.as_ref().and_then(|value| value.to_str().ok()?.strip_prefix("Basic "));
            secrets.extend(basic.map(|basic| basic.trim_end_matches('=')));
            let authority = Authority::Login { gate: &gate, slot: self.slot, secrets: secrets.clone() };
            let call = Call { spec: &spec, authority, timeout: client.settings.login_timeout };
            let answer = call::run(client, &call).await?;
            let correlation_id = answer.correlation_id().map(|id| redact(id, &secrets).into());
            let Answer { status, attempts, elapsed, .. } = answer;
            let _ = self.answered.set(Answered { status, correlation_id, attempts, elapsed });
            let mut response = http::Response::new(answer.body.to_vec());
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(response)
        })
    }
}

/// The token endpoint's exchange, as oauth2 made it.
pub(crate) fn spec(operation: &'static Operation, exchange: HttpRequest) -> Spec<'static> {
    let authorization = exchange.headers().get(header::AUTHORIZATION).cloned();
    let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    let body = Body { content_type, bytes: exchange.into_body().into() };
    Spec { authorization, ..Spec::of(operation, &[]).body(body) }
}
