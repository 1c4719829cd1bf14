//! The table of routes, and what every request and every answer pass, on whatever route.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, get, on, post};
use axum::{Extension, Json, Router};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, EXPIRES, PRAGMA, STRICT_TRANSPORT_SECURITY};
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use tower_service::Service as _;

use super::gate::{self, Handler};
use super::gzip;
use super::library::Library;
use super::operation::Operation;
use super::recorded::RecordedRequest;
use super::refusal::{ContextId, Refusal};
use super::service::Service;
use super::sync::lock;
use super::{divisions, listing, oauth, origin, published, scripts, session, transfer};
use crate::request;

/// The largest body of all, that of an upload.
const MAX_UPLOAD: usize = 16 * 1024 * 1024;
/// So much of a larger one is read and thrown away: a client that is still sending would see a broken connection, not the
/// refusal.
const MOST_DISCARDED: usize = 256 * 1024 * 1024;

const VIEW: Option<&str> = Some("scripter:script:view");
const PUBLISHED_VIEW: Option<&str> = Some("scripter:publishedScript:view");
const PUBLISHED_SEARCH: Option<&str> = Some("scripter:publishedScript:search");

const fn known(
    request: &'static request::Operation,
    name: &'static str,
    permission: Option<&'static str>,
) -> Operation {
    Operation { request, name, permission }
}

/// Each operation, and what answers it.
#[rustfmt::skip]
static OPERATIONS: &[(Operation, Handler)] = &[
    (known(&request::GET_SCRIPT, "getScript", VIEW), |call| Box::pin(scripts::script(call, Library::find_editable))),
    (known(&request::GET_SCRIPT_PAGE, "getScriptPage", VIEW), |call| Box::pin(scripts::page(call, Library::find_editable))),
    (known(&request::GET_SCRIPT_PAGES, "getScriptPages", VIEW), |call| Box::pin(scripts::pages(call, Library::find_editable))),
    (known(&request::LIST_SCRIPTS, "getScripts", VIEW), |call| Box::pin(listing::editable(call))),
    (known(&request::LIST_SCRIPTS_IN_DIVISIONS, "getScriptsDivisionviews", Some("scripter:script:search")), |call| Box::pin(listing::editable(call))),
    (known(&request::LIST_PUBLISHED_SCRIPTS, "getScriptsPublished", PUBLISHED_VIEW), |call| Box::pin(listing::published(call))),
    (known(&request::LIST_PUBLISHED_SCRIPTS_IN_DIVISIONS, "getScriptsPublishedDivisionviews", PUBLISHED_SEARCH), |call| Box::pin(listing::published(call))),
    (known(&request::GET_PUBLISHED_SCRIPT, "getScriptsPublishedScriptId", PUBLISHED_VIEW), |call| Box::pin(scripts::script(call, Library::find_published))),
    (known(&request::GET_PUBLISHED_SCRIPT_PAGE, "getScriptsPublishedScriptIdPage", PUBLISHED_VIEW), |call| Box::pin(scripts::page(call, Library::find_published))),
    (known(&request::GET_PUBLISHED_SCRIPT_PAGES, "getScriptsPublishedScriptIdPages", PUBLISHED_VIEW), |call| Box::pin(scripts::pages(call, Library::find_published))),
    (known(&request::GET_PUBLISHED_VARIABLES, "getScriptsPublishedScriptIdVariables", PUBLISHED_VIEW), |call| Box::pin(published::variables(call))),
    (known(&request::GET_PUBLISHED_VARIABLES_IN_DIVISIONS, "getScriptsPublishedDivisionviewVariables", PUBLISHED_SEARCH), |call| Box::pin(published::variables(call))),
    (known(&request::GET_UPLOAD_STATUS, "getScriptsUploadStatus", VIEW), |call| Box::pin(transfer::upload_status(call))),
    (known(&request::EXPORT_SCRIPT, "postScriptExport", VIEW), |call| Box::pin(transfer::export(call))),
    (known(&request::PUBLISH_SCRIPT, "postScriptsPublished", Some("scripter:publishedScript:add")), |call| Box::pin(published::publish(call))),
    (known(&request::DELETE_SCRIPT, "deleteScript", Some("scripter:script:delete")), |call| Box::pin(scripts::remove(call))),
    (known(&request::MOVE_TO_DIVISION, "postAuthorizationDivisionObject", None), |call| Box::pin(divisions::assign(call))),
    (known(&request::UPLOAD_SCRIPT, "uploadScript", Some("scripter:script:add")), |call| Box::pin(transfer::upload(call))),
    (known(&request::GET_TOKEN, "getTokensMe", None), |call| Box::pin(session::token_info(call))),
    (known(&request::DELETE_TOKEN, "deleteTokensMe", None), |call| Box::pin(session::revoke(call))),
];

pub(super) fn router(service: Arc<Service>) -> Router {
    let mut router = Router::new();
    // The static words go before `{scriptId}` whatever the order here.
    for (operation, handler) in OPERATIONS {
        let answer =
            |State(service), Extension(context), request| gate::serve(service, operation, context, request, *handler);
        let method = MethodFilter::try_from(operation.request.method.clone()).unwrap_or(MethodFilter::GET);
        router = router.route(operation.request.route, on(method, answer));
    }
    router
        .route("/downloads/{key}/{fileName}", get(transfer::download))
        .route("/oauth/token", post(oauth::token))
        .route("/oauth/authorize", get(oauth::authorize))
        .route("/logout", get(oauth::logout))
        .route("/_simulator/scripts", get(known_scripts))
        .route("/_simulator/stats", get(stats))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(service)
}

/// Answers one request, from the socket or from the process itself.
pub(super) async fn serve(service: &Arc<Service>, mut router: Router, request: Request) -> Response {
    let context = service.new_context();
    let (mut parts, body) = request.into_parts();
    let page = origin::of(&parts);
    if let Some(allowed) = page.as_ref().and_then(|page| page.preflight(&parts)) {
        return allowed;
    }
    let compress = service.setting(|settings| settings.gzip) && gzip::is_accepted(&parts.headers);
    let mut response = match read_body(body).await {
        Err(refusal) => refusal.response(&context),
        Ok(body) => {
            if !parts.uri.path().starts_with("/_simulator/") {
                lock(&service.log).push(RecordedRequest {
                    method: parts.method.clone(),
                    uri: parts.uri.clone(),
                    headers: parts.headers.clone(),
                    body: body.clone(),
                });
            }
            parts.extensions.insert(context.clone());
            match router.call(Request::from_parts(parts, Body::from(body))).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    };
    for (name, value) in EVERY_ANSWER {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(&context.0) {
        response.headers_mut().insert(CORRELATION_ID, id);
    }
    if compress {
        response = gzip::compressed(response).await;
    }
    if let Some(page) = page {
        page.may_read(&mut response);
    }
    response
}

/// All of it, unless it is too large, or breaks off.
async fn read_body(body: Body) -> Result<Bytes, Refusal> {
    let mut frames = body.into_data_stream();
    let (mut read, mut length) = (BytesMut::new(), 0_usize);
    while length <= MOST_DISCARDED
        && let Some(frame) = frames.next().await
    {
        let frame = frame.map_err(|_| Refusal::bad_request())?;
        length = length.saturating_add(frame.len());
        match length <= MAX_UPLOAD {
            true => read.extend_from_slice(&frame),
            false => read = BytesMut::new(),
        }
    }
    if length <= MAX_UPLOAD { Ok(read.freeze()) } else { Err(Refusal::too_large(MAX_UPLOAD)) }
}

const CORRELATION_ID: HeaderName = HeaderName::from_static("inin-correlation-id");

const EVERY_ANSWER: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
    (PRAGMA, "no-cache"),
    (EXPIRES, "0"),
    (STRICT_TRANSPORT_SECURITY, "max-age=600; includeSubDomains"),
];

async fn unknown_path(Extension(context): Extension<ContextId>) -> Response {
    Refusal::not_found().response(&context)
}

async fn wrong_method(Extension(context): Extension<ContextId>) -> Response {
    Refusal::method_not_allowed().response(&context)
}

async fn stats(State(service): State<Arc<Service>>) -> Response {
    Json(service.counters.snapshot()).into_response()
}

async fn known_scripts(State(service): State<Arc<Service>>) -> Response {
    #[derive(Serialize)]
    struct Known {
        id: String,
        name: String,
    }
    let library = service.library();
    let known: Vec<Known> = library
        .editable()
        .map(|script| Known { id: script.id.to_string(), name: script.editable().name.clone() })
        .collect();
    drop(library);
    Json(known).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::OnHost;

    #[test]
    fn every_operation_that_takes_a_token_is_served_once() {
        for asked in request::OPERATIONS {
            let rows = OPERATIONS.iter().filter(|(known, _)| std::ptr::eq(known.request, *asked)).count();
            let expected = usize::from(matches!(asked.host, OnHost::Api | OnHost::Upload));
            assert_eq!(rows, expected, "{}", asked.name);
        }
    }
}
