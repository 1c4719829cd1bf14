//! What every operation passes before its handler: token, quota, outage, permission, body, knee, latency, faults.

use std::pin::Pin;
use std::sync::Arc;

use axum::RequestExt;
use axum::body::to_bytes;
use axum::extract::{Path, Request};
use axum::response::Response;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Uri};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::fault;
use super::ids::parse_id;
use super::operation::Operation;
use super::query::Query;
use super::quota::Standing;
use super::refusal::{ContextId, MAX_BYTES, Refusal};
use super::service::{Service, Visit};
use super::stats::{Arrival, ScriptInFlight};
use super::sync::{lock, pause};
use super::tokens::Token;
use super::when::Peer;

/// A request that was let in, as its handler sees it.
pub(super) struct Call {
    pub(super) service: Arc<Service>,
    pub(super) token: Arc<Token>,
    pub(super) path: Vec<(String, String)>,
    pub(super) query: Query,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

pub(super) type Answer = Result<Response, Refusal>;

/// What answers the requests of one operation that were let in.
pub(super) type Handler = fn(Call) -> Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Answers a request for an operation.
pub(super) async fn serve(
    service: Arc<Service>,
    operation: &'static Operation,
    context: ContextId,
    request: Request,
    handler: Handler,
) -> Response {
    let arrival = Arrival::new(&service.counters, Some(operation));
    let mut quota = None;
    let answer = admit(service, operation, request, &context, handler, &mut quota).await;
    let mut response = answer.unwrap_or_else(|refusal| refusal.response(&context));
    if let Some(standing) = quota {
        standing.write(response.headers_mut());
    }
    arrival.answered(&response);
    response
}

async fn admit(
    service: Arc<Service>,
    operation: &Operation,
    mut request: Request,
    context: &ContextId,
    handler: Handler,
    quota: &mut Option<Standing>,
) -> Answer {
    let token = authenticate(&service, request.headers())?;
    if operation.is_api() {
        take_quota(&service, &token, quota)?;
    }
    if service.setting(|settings| settings.down) {
        return Err(Refusal::service_unavailable());
    }
    if let Some(permission) = operation.permission {
        require(&service, &token, permission)?;
    }
    // Fails on escapes that are no UTF-8.
    let path = request.extract_parts::<Path<Vec<(String, String)>>>().await.map_err(|_| Refusal::bad_request())?.0;
    let query = Query::of(request.uri());
    let peer = request.extensions().get::<Peer>().copied();
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(|_| Refusal::bad_request())?;
    check_body(operation, &parts.headers, &body)?;

    let script = path.first().and_then(|(_, id)| parse_id(id).ok());
    let visit = if operation.is_script_read() { Visit::begin(&service, script, peer) } else { None };
    let _in_flight = if operation.is_script_read() { Some(pass_knee(&service)?) } else { None };
    let mut fault = if operation.is_api() { service.draw_fault(|settings| &settings.faults) } else { None };
    if let Some(visit) = &visit {
        fault = visit.fault().or(fault);
    }
    pause(service.setting(|settings| settings.latency)).await;

    let call = Call { service, token, path, query, uri: parts.uri, headers: parts.headers, body };
    match fault {
        None => handler(call).await,
        Some(fault) => {
            let real = async { handler(call).await.unwrap_or_else(|refusal| refusal.response(context)) };
            Ok(fault::answer(fault, context, real).await)
        }
    }
}

fn authenticate(service: &Service, headers: &HeaderMap) -> Result<Arc<Token>, Refusal> {
    let secret = credential(headers, "bearer").filter(|secret| !secret.is_empty());
    lock(&service.tokens).check(secret.ok_or_else(Refusal::authentication_required)?, Instant::now())
}

/// What the request authorizes itself by, where that is of the scheme.
pub(super) fn credential<'h>(headers: &'h HeaderMap, scheme: &str) -> Option<&'h str> {
    let (named, credential) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    named.eq_ignore_ascii_case(scheme).then(|| credential.trim())
}

/// What the body is said to be, in lower case and without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_TYPE)?.to_str().unwrap_or_default();
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn take_quota(service: &Service, token: &Token, quota: &mut Option<Standing>) -> Result<(), Refusal> {
    let (limit, headers) = service.setting(|settings| (settings.rate_limit, settings.quota_headers));
    if limit == 0 {
        return Ok(());
    }
    let standing = token.take_quota(limit, Instant::now());
    *quota = headers.then_some(standing);
    if standing.refused { Err(Refusal::too_many_requests(standing.reset)) } else { Ok(()) }
}

fn require(service: &Service, token: &Token, permission: &str) -> Result<(), Refusal> {
    match service.permissions.get(&*token.client_id) {
        Some(held) if !held.contains(permission) => Err(Refusal::missing_any_permissions(permission)),
        _ => Ok(()),
    }
}

fn check_body(operation: &Operation, headers: &HeaderMap, body: &[u8]) -> Result<(), Refusal> {
    if operation.is_api() && body.len() > MAX_BYTES {
        return Err(Refusal::too_large(MAX_BYTES));
    }
    if !operation.takes_json() {
        return Ok(());
    }
    match media_type(headers).as_deref() {
        Some("application/json") => Ok(()),
        None if body.is_empty() => Ok(()),
        _ => Err(Refusal::unsupported_media_type()),
    }
}

fn pass_knee(service: &Service) -> Result<ScriptInFlight, Refusal> {
    let knee = service.setting(|settings| settings.knee);
    let entered = service.counters.enter_script(|in_flight| {
        knee.is_some_and(|knee| in_flight > knee.in_flight && lock(&service.dice).f64() < knee.probability)
    });
    entered.ok_or_else(Refusal::invalid_script_definition)
}

impl Call {
    pub(super) fn param(&self, name: &str) -> &str {
        self.path.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// The body: none where it is empty or `null`, else an object.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<Option<T>, Refusal> {
        if self.body.trim_ascii().is_empty() {
            return Ok(None);
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Null) => Ok(None),
            Ok(object @ Value::Object(_)) => {
                serde_json::from_value(object).map(Some).map_err(|_| Refusal::bad_request())
            }
            _ => Err(Refusal::bad_request()),
        }
    }

    pub(super) fn script_id(&self) -> Result<Uuid, Refusal> {
        parse_id(self.param("scriptId"))
    }
}
