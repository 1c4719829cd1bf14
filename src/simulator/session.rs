//! `/api/v2/tokens/me`: what a token is, and its end.

use axum::Json;
use axum::response::IntoResponse;
use http::StatusCode;
use serde_json::json;

use super::gate::{Answer, Call};
use super::sync::lock;

pub(super) async fn token_info(call: Call) -> Answer {
    let id = call.service.library().organization;
    let organization = json!({ "id": id, "name": "Simulated Organization" });
    let client = &*call.token.client_id;
    let info = json!({
        "organization": organization,
        "homeOrganization": organization,
        "authorizedScope": [],
        "OAuthClient": { "id": client, "name": client, "organization": organization },
    });
    Ok(Json(info).into_response())
}

pub(super) async fn revoke(call: Call) -> Answer {
    lock(&call.service.tokens).revoke(&call.token);
    call.service.counters.update(|stats| stats.tokens_revoked += 1);
    Ok(StatusCode::OK.into_response())
}
