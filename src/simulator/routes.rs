//! The table of routes, and what every request and every answer pass, on whatever route.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, EXPIRES, PRAGMA, STRICT_TRANSPORT_SECURITY};
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use tower_service::Service as _;

use super::gate::{context_of, operation};
use super::operation::Operation;
use super::recorded::RecordedRequest;
use super::refusal::Refusal;
use super::service::{Service, lock};
use super::{divisions, listing, oauth, published, scripts, session, transfer};

/// The largest body of all, that of an upload.
const MAX_UPLOAD: usize = 16 * 1024 * 1024;

pub(super) fn router(service: Arc<Service>) -> Router {
    use Operation as Op;
    // The static words go before `{scriptId}` whatever the order here.
    edited_scripts()
        .merge(published_scripts())
        .route(
            "/api/v2/authorization/divisions/{divisionId}/objects/{objectType}",
            post(operation(Op::PostAuthorizationDivisionObject, divisions::assign)),
        )
        .route(
            "/api/v2/tokens/me",
            get(operation(Op::GetTokensMe, session::token_info))
                .merge(delete(operation(Op::DeleteTokensMe, session::revoke))),
        )
        .route("/uploads/v2/scripter", post(operation(Op::UploadScript, transfer::upload)))
        .route("/downloads/{key}/{fileName}", get(transfer::download))
        .route("/oauth/token", post(oauth::token))
        .route("/oauth/authorize", get(oauth::authorize))
        .route("/_simulator/scripts", get(known_scripts))
        .route("/_simulator/stats", get(stats))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(service)
}

/// The scripts as they are edited.
fn edited_scripts() -> Router<Arc<Service>> {
    use Operation as Op;
    Router::new()
        .route("/api/v2/scripts", get(operation(Op::GetScripts, listing::editable)))
        .route("/api/v2/scripts/divisionviews", get(operation(Op::GetScriptsDivisionviews, listing::editable)))
        .route(
            "/api/v2/scripts/uploads/{uploadId}/status",
            get(operation(Op::GetScriptsUploadStatus, transfer::upload_status)),
        )
        .route(
            "/api/v2/scripts/{scriptId}",
            get(operation(Op::GetScript, scripts::script)).delete(operation(Op::DeleteScript, scripts::remove)),
        )
        .route("/api/v2/scripts/{scriptId}/pages", get(operation(Op::GetScriptPages, scripts::pages)))
        .route("/api/v2/scripts/{scriptId}/pages/{pageId}", get(operation(Op::GetScriptPage, scripts::page)))
        .route("/api/v2/scripts/{scriptId}/export", post(operation(Op::PostScriptExport, transfer::export)))
}

/// The scripts as agents see them.
fn published_scripts() -> Router<Arc<Service>> {
    use Operation as Op;
    Router::new()
        .route(
            "/api/v2/scripts/published",
            get(operation(Op::GetScriptsPublished, listing::published))
                .post(operation(Op::PostScriptsPublished, published::publish)),
        )
        .route(
            "/api/v2/scripts/published/divisionviews",
            get(operation(Op::GetScriptsPublishedDivisionviews, listing::published)),
        )
        .route(
            "/api/v2/scripts/published/divisionviews/{scriptId}/variables",
            get(operation(Op::GetScriptsPublishedDivisionviewVariables, published::variables)),
        )
        .route(
            "/api/v2/scripts/published/{scriptId}",
            get(operation(Op::GetScriptsPublishedScriptId, published::script)),
        )
        .route(
            "/api/v2/scripts/published/{scriptId}/pages",
            get(operation(Op::GetScriptsPublishedScriptIdPages, published::pages)),
        )
        .route(
            "/api/v2/scripts/published/{scriptId}/pages/{pageId}",
            get(operation(Op::GetScriptsPublishedScriptIdPage, published::page)),
        )
        .route(
            "/api/v2/scripts/published/{scriptId}/variables",
            get(operation(Op::GetScriptsPublishedScriptIdVariables, published::variables)),
        )
}

/// Answers one request, from the socket or from the process itself.
pub(super) async fn serve(service: &Arc<Service>, mut router: Router, request: Request) -> Response {
    let context = service.new_context();
    let (mut parts, body) = request.into_parts();
    let mut response = match to_bytes(body, MAX_UPLOAD).await {
        Err(_) => Refusal::too_large(MAX_UPLOAD).response(&context),
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
    response
}

const CORRELATION_ID: HeaderName = HeaderName::from_static("inin-correlation-id");

const EVERY_ANSWER: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
    (PRAGMA, "no-cache"),
    (EXPIRES, "0"),
    (STRICT_TRANSPORT_SECURITY, "max-age=600; includeSubDomains"),
];

async fn unknown_path(State(service): State<Arc<Service>>, request: Request) -> Response {
    Refusal::not_found().response(&context_of(&service, &request))
}

async fn wrong_method(State(service): State<Arc<Service>>, request: Request) -> Response {
    Refusal::method_not_allowed().response(&context_of(&service, &request))
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
    let known: Vec<Known> =
        library.editable().map(|script| Known { id: script.id.to_string(), name: script.name.clone() }).collect();
    drop(library);
    Json(known).into_response()
}
