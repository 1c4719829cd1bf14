//! Moving scripts between divisions.

use axum::response::IntoResponse;
use http::StatusCode;

use super::gate::{Answer, Call};
use super::ids::parse_id;
use super::refusal::Refusal;

/// `POST /api/v2/authorization/divisions/{divisionId}/objects/SCRIPT`, with a JSON array of script ids.
pub(super) async fn assign(call: Call) -> Answer {
    let division = parse_id(call.param("divisionId"))?;
    let kind = call.param("objectType");
    if kind != "SCRIPT" {
        return Err(Refusal::invalid_value("objectType", kind, "Enum", "SCRIPT"));
    }
    let ids: Vec<String> = serde_json::from_slice(&call.body).map_err(|_| Refusal::bad_request())?;
    let ids = ids.iter().map(|id| parse_id(id)).collect::<Result<Vec<_>, _>>()?;
    call.service.library().move_to(division, &ids)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
