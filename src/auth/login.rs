//! The exchange of credentials for a token at the token endpoint (RFC 6749), by oauth2 over our transport.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use oauth2::basic::{BasicClient, BasicTokenResponse};
use oauth2::{
    AsyncHttpClient, ClientId, ClientSecret, HttpRequest, HttpResponse, RequestTokenError, TokenResponse, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};

use super::Credentials;
use super::token::Token;
use crate::agent::AgentShared;
use crate::call::{self, Authority, Call};
use crate::error::{Error, ErrorKind};
use crate::request::{self, Operation, Repeat};
use crate::resilience::login_gate::LoginGate;

/// Getting one more token for nothing is harmless, so this one may be repeated like any idempotent call.
const CLIENT_LOGIN: Operation =
    Operation { name: "log in", method: http::Method::POST, route: "/oauth/token", repeat: Repeat::Always };

/// Gets the agent a new token.
pub(crate) async fn log_in(agent: &AgentShared) -> Result<Token, Error> {
    match &agent.credentials {
        Credentials::Client { id, secret } => {
            let transport = LoginTransport { agent, gate: agent.client.login_gate(id), operation: &CLIENT_LOGIN };
            let response = BasicClient::new(ClientId::new(id.clone()))
                .set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()))
                .set_token_uri(token_url()?)
                .exchange_client_credentials()
                .request_async(&transport)
                .await;
            issued(agent, response)
        }
        Credentials::AccessToken { token, .. } => {
            // Only asked when the one there is was refused, has expired, or cannot be sent.
            Token::new(token, None, &agent.client.random)?;
            Err(Error::new(
                ErrorKind::Unauthorized,
                "the ready-made access token was refused or has expired; make a new agent with a new token",
            ))
        }
    }
}

/// oauth2 wants a URL; where the request really goes is `request::login`'s to say.
fn token_url() -> Result<TokenUrl, Error> {
    TokenUrl::new("https://login.invalid/oauth/token".to_owned())
        .map_err(|error| Error::invalid_input("the token URL does not parse").with_source(error))
}

fn issued(
    agent: &AgentShared,
    response: Result<BasicTokenResponse, RequestTokenError<Error, oauth2::basic::BasicErrorResponse>>,
) -> Result<Token, Error> {
    let unusable = |why: String| {
        Error::new(ErrorKind::UnexpectedAnswer, format!("the login's answer is no token response: {why}"))
            .maybe_sent(true)
            .ended(CLIENT_LOGIN.name, agent.credentials.client_id(), 1, std::time::Duration::ZERO)
    };
    match response {
        Ok(response) => {
            let token = SecretString::from(response.access_token().secret().as_str());
            if token.expose_secret().is_empty() {
                return Err(unusable("its access_token is empty".into()));
            }
            Token::new(&token, response.expires_in(), &agent.client.random)
        }
        Err(RequestTokenError::Request(error)) => Err(error),
        // Neither the body nor the parser's words: both can hold the token.
        Err(RequestTokenError::Parse(error, _)) => Err(unusable(format!("it cannot be read at `{}`", error.path()))),
        Err(RequestTokenError::ServerResponse(_)) => Err(unusable("it is an error with a success status".into())),
        Err(RequestTokenError::Other(_)) => Err(unusable("it is empty".into())),
    }
}

/// Our transport, as oauth2 knows transports: through the one loop every call runs through.
struct LoginTransport<'a> {
    agent: &'a AgentShared,
    gate: Arc<LoginGate>,
    operation: &'static Operation,
}

impl<'c> AsyncHttpClient<'c> for LoginTransport<'_> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Error>> + Send + 'c>>;

    fn call(&'c self, exchange: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let client = &self.agent.client;
            let answer = call::run(
                client,
                &Call {
                    operation: self.operation,
                    subject: self.agent.credentials.client_id(),
                    host: &client.login,
                    authority: Authority::Login { gate: &self.gate, secrets: self.agent.credentials.secrets() },
                    timeout: client.settings.login_timeout,
                    attempt_timeout: None,
                    request: &|| Ok(request::login(&client.login.site, &exchange)),
                },
            )
            .await?;
            let mut response = http::Response::new(answer.body.to_vec());
            response
                .headers_mut()
                .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
            Ok(response)
        })
    }
}
