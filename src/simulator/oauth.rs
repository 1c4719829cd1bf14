//! The login host: `/oauth/token` for every grant, and `/oauth/authorize` to obtain a code.

use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use secrecy::ExposeSecret;
use serde::Serialize;
use tokio::time::Instant;

use super::fault;
use super::gate::{credential, media_type};
use super::query::Query;
use super::quirk::OddToken;
use super::refusal::{ContextId, MAX_BYTES, Refusal};
use super::service::Service;
use super::stats::Arrival;
use super::sync::{lock, pause};
use super::tokens::{ClientProof, InvalidGrant};
use crate::text::encode_segment;

const MAX_CLIENT_ID: usize = 256;

/// Padding optional.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `POST /oauth/token`.
pub(super) async fn token(
    State(service): State<Arc<Service>>,
    Extension(context): Extension<ContextId>,
    request: Request,
) -> Response {
    let arrival = Arrival::new(&service.counters, None);
    let (parts, body) = request.into_parts();
    let response = match to_bytes(body, MAX_BYTES).await {
        Err(_) => Refusal::too_large(MAX_BYTES).response(&context),
        Ok(body) => match admit(&service, &parts.headers, &body) {
            Err(problem) => problem.into_response(),
            Ok((proof, form)) => {
                let fault = service.draw_fault(|settings| &settings.login_faults);
                pause(service.setting(|settings| settings.latency)).await;
                let odd = service.setting(|settings| settings.odd_token);
                let real = async {
                    match grant(&service, &proof, &form) {
                        Ok(granted) => granted.response(odd),
                        Err(problem) => problem.into_response(),
                    }
                };
                match fault {
                    None => real.await,
                    Some(fault) => fault::answer(fault, &context, real).await,
                }
            }
        },
    };
    arrival.answered(&response);
    response
}

/// Who asks, and for what. Only a client that is who it says counts against its login limit.
fn admit(service: &Service, headers: &HeaderMap, body: &[u8]) -> Result<(ClientProof, Query), Problem> {
    let form = read_form(headers, body)?;
    let proof = prove(service, headers, &form)?;
    let limit = service.setting(|settings| settings.login_rate_limit);
    if limit > 0 && !lock(&service.tokens).may_log_in(&proof.client_id, limit, Instant::now()) {
        return Err(Problem::RATE_LIMITED);
    }
    Ok((proof, form))
}

fn read_form(headers: &HeaderMap, body: &[u8]) -> Result<Query, Problem> {
    match media_type(headers).as_deref() {
        Some("application/x-www-form-urlencoded") => Ok(Query::read(body)),
        _ => Err(Problem::NOT_A_FORM),
    }
}

/// Basic with id and secret, or, for a public client that has only PKCE, its id in the form, or in Basic with an empty
/// secret, which is none (RFC 6749 section 2.3.1).
fn prove(service: &Service, headers: &HeaderMap, form: &Query) -> Result<ClientProof, Problem> {
    let (id, secret_shown) = if headers.contains_key(AUTHORIZATION) {
        let (id, secret) = credential(headers, "basic").and_then(read_basic).ok_or(Problem::UNKNOWN_CLIENT)?;
        let secret_shown = same_secret(&secret, service.client_secret.expose_secret());
        if !secret_shown && !secret.is_empty() {
            return Err(Problem::WRONG_SECRET);
        }
        (form_decoded(&id), secret_shown)
    } else {
        (form.text("client_id").unwrap_or_default().to_owned(), false)
    };
    if id.is_empty() || id.len() > MAX_CLIENT_ID {
        return Err(Problem::UNKNOWN_CLIENT);
    }
    Ok(ClientProof { client_id: id.into(), secret_shown })
}

/// Some clients encode id and secret before they go into the header, as RFC 6749 has it, most do not.
fn same_secret(shown: &str, expected: &str) -> bool {
    shown == expected || form_decoded(shown) == expected
}

fn form_decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

fn read_basic(encoded: &str) -> Option<(String, String)> {
    let text = String::from_utf8(BASE64.decode(encoded).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

fn grant(service: &Service, proof: &ClientProof, form: &Query) -> Result<Granted, Problem> {
    let public = !proof.secret_shown;
    let now = Instant::now();
    let renewable = match form.text("grant_type") {
        Some("client_credentials") if !public => false,
        Some("urn:ietf:params:oauth:grant-type:saml2-bearer") if !public => {
            form.text("orgName").ok_or(Problem::MISSING_PARAMETER)?;
            form.text("assertion").ok_or(Problem::MISSING_PARAMETER)?;
            false
        }
        Some("authorization_code") => {
            let code = form.text("code").ok_or(Problem::MISSING_PARAMETER)?;
            let redirect_uri = form.text("redirect_uri").ok_or(Problem::MISSING_PARAMETER)?;
            lock(&service.tokens).spend_code(code, proof, redirect_uri, form.text("code_verifier"), now)?;
            true
        }
        Some("refresh_token") => {
            let refresh = form.text("refresh_token").ok_or(Problem::MISSING_PARAMETER)?;
            lock(&service.tokens).spend_refresh(refresh, proof)?;
            true
        }
        Some("client_credentials" | "urn:ietf:params:oauth:grant-type:saml2-bearer") => {
            return Err(Problem::UNKNOWN_CLIENT);
        }
        Some(_) => return Err(Problem::UNSUPPORTED_GRANT),
        None => return Err(Problem::MISSING_PARAMETER),
    };
    Ok(issue(service, proof, renewable, now))
}

fn issue(service: &Service, proof: &ClientProof, renewable: bool, now: Instant) -> Granted {
    let ttl = service.setting(|settings| settings.token_ttl);
    let access_token = service.new_secret();
    let refresh_token = renewable.then(|| service.new_secret());
    let one_session = service.setting(|settings| settings.one_session);
    let mut tokens = lock(&service.tokens);
    if one_session {
        tokens.end_sessions_of(&proof.client_id);
    }
    if let Some(refresh) = &refresh_token {
        tokens.issue_refresh(refresh.clone(), Arc::clone(&proof.client_id), !proof.secret_shown);
    }
    tokens.issue(access_token.clone(), Arc::clone(&proof.client_id), now + ttl, refresh_token.clone());
    drop(tokens);
    service.counters.update(|stats| stats.tokens_issued += 1);
    Granted { access_token, refresh_token, expires_in: ttl.as_secs() }
}

struct Granted {
    access_token: String,
    refresh_token: Option<String>,
    expires_in: u64,
}

impl Granted {
    fn response(self, odd: Option<OddToken>) -> Response {
        let mut body = serde_json::Map::new();
        if odd != Some(OddToken::NoToken) {
            let blank = odd == Some(OddToken::BlankToken);
            body.insert("access_token".into(), if blank { " ".into() } else { self.access_token.into() });
        }
        body.extend(self.refresh_token.map(|token| ("refresh_token".into(), token.into())));
        if odd != Some(OddToken::NoType) {
            body.insert("token_type".into(), "bearer".into());
        }
        let seconds = self.expires_in;
        let lifetime = match odd {
            Some(OddToken::NoLifetime) => None,
            Some(OddToken::LifetimeAsText) => Some(seconds.to_string().into()),
            Some(OddToken::LifetimeAsFraction) => Some(Duration::from_secs(seconds).as_secs_f64().into()),
            Some(OddToken::LifetimeNegative) => Some((-1).into()),
            _ => Some(seconds.into()),
        };
        body.extend(lifetime.map(|lifetime| ("expires_in".into(), lifetime)));
        if odd == Some(OddToken::ScopeAsArray) {
            body.insert("scope".into(), serde_json::json!(["scripts", "conversations"]));
        }
        let body = serde_json::Value::Object(body).to_string();
        let body = match odd {
            Some(OddToken::ByteOrderMark) => format!("\u{FEFF}{body}"),
            Some(OddToken::Trailing) => format!("{body}\n<!-- served by a gateway -->"),
            _ => body,
        };
        let mut response = ([(CONTENT_TYPE, "application/json")], body).into_response();
        if odd == Some(OddToken::FalseCoding) {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("br"));
        }
        response
    }
}

/// The token endpoint's own shape of an error. All are 400.
#[derive(Clone, Copy)]
struct Problem {
    error: &'static str,
    description: &'static str,
}

impl Problem {
    const RATE_LIMITED: Self = Self {
        error: "invalid_request",
        description: "rate limit exceeded; too many token requests for this client, try again later",
    };
    const NOT_A_FORM: Self =
        Self { error: "invalid_request", description: "the body must be application/x-www-form-urlencoded" };
    const MISSING_PARAMETER: Self = Self { error: "invalid_request", description: "a required parameter is missing" };
    const UNKNOWN_CLIENT: Self = Self { error: "invalid_client", description: "client not found" };
    const WRONG_SECRET: Self = Self { error: "invalid_client", description: "authentication failed" };
    const UNSUPPORTED_GRANT: Self =
        Self { error: "unsupported_grant_type", description: "the grant type is not supported" };
    const INVALID_GRANT: Self =
        Self { error: "invalid_grant", description: "the grant is invalid, expired, revoked or was used before" };
}

impl From<InvalidGrant> for Problem {
    fn from(InvalidGrant: InvalidGrant) -> Self {
        Self::INVALID_GRANT
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: &'static str,
            description: &'static str,
            error_description: &'static str,
        }
        let Self { error, description } = self;
        (StatusCode::BAD_REQUEST, Json(Body { error, description, error_description: description })).into_response()
    }
}

/// `GET /oauth/authorize`: an agent who is signed in already and agrees at once.
pub(super) async fn authorize(
    State(service): State<Arc<Service>>,
    Extension(context): Extension<ContextId>,
    uri: Uri,
) -> Response {
    match redirect(&service, &uri) {
        Ok(location) => (StatusCode::FOUND, [(LOCATION, String::from(location))]).into_response(),
        Err(refusal) => refusal.response(&context),
    }
}

fn redirect(service: &Service, uri: &Uri) -> Result<Url, Refusal> {
    let query = Query::of(uri);
    let client_id = query.text("client_id").filter(|id| id.len() <= MAX_CLIENT_ID).ok_or_else(Refusal::bad_request)?;
    let redirect_uri = query.text("redirect_uri").ok_or_else(Refusal::bad_request)?;
    let mut location = Url::parse(redirect_uri).map_err(|_| Refusal::bad_request())?;

    if query.text("response_type") == Some("token") {
        location.set_fragment(Some(&implicit_grant(service, client_id, query.text("state"))));
        return Ok(location);
    }
    let challenge = query.text("code_challenge");
    let understood = challenge.is_none() || query.text("code_challenge_method") == Some("S256");
    if query.text("response_type") != Some("code") {
        location.query_pairs_mut().append_pair("error", "unsupported_response_type");
    } else if !understood {
        location.query_pairs_mut().append_pair("error", "invalid_request");
    } else {
        let code = service.new_code(client_id, redirect_uri, challenge);
        location.query_pairs_mut().append_pair("code", &code);
    }
    if let Some(state) = query.text("state") {
        location.query_pairs_mut().append_pair("state", state);
    }
    Ok(location)
}

/// What a page finds behind the `#` of its address (RFC 6749 section 4.2.2).
fn implicit_grant(service: &Service, client_id: &str, state: Option<&str>) -> String {
    let proof = ClientProof { client_id: client_id.into(), secret_shown: false };
    let Granted { access_token, expires_in, .. } = issue(service, &proof, false, Instant::now());
    let state = state.map(|state| format!("&state={}", encode_segment(state)));
    format!("access_token={access_token}&token_type=bearer&expires_in={expires_in}{}", state.unwrap_or_default())
}

/// `GET /logout`: leads back to the page that asked, if it says where it is.
pub(super) async fn logout(Extension(context): Extension<ContextId>, uri: Uri) -> Response {
    match Query::of(&uri).text("redirect_uri").map(Url::parse) {
        Some(Ok(location)) => (StatusCode::FOUND, [(LOCATION, String::from(location))]).into_response(),
        None => "You are logged out.".into_response(),
        Some(Err(_)) => Refusal::bad_request().response(&context),
    }
}

impl Service {
    /// A code as the redirect from `/oauth/authorize` carries it.
    pub(super) fn new_code(&self, client_id: &str, redirect_uri: &str, challenge: Option<&str>) -> String {
        let code = self.new_secret();
        let challenge = challenge.map(str::to_owned);
        lock(&self.tokens).issue_code(code.clone(), client_id.into(), redirect_uri.to_owned(), challenge);
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded_with_and_without_padding() {
        let decoded = |text| BASE64.decode(text).ok();
        assert_eq!(decoded("aWQ6c2VjcmV0").as_deref(), Some(&b"id:secret"[..]));
        assert_eq!(decoded("YQ==").as_deref(), Some(&b"a"[..]));
        assert_eq!(decoded("YWI").as_deref(), Some(&b"ab"[..]));
        assert_eq!(decoded("_"), None);
    }
}
