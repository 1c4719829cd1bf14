//! Scripts by id, at the version that is found.

use axum::Json;
use axum::response::IntoResponse;
use http::StatusCode;
use uuid::Uuid;

use super::document::{self, File};
use super::gate::{Answer, Call};
use super::ids::parse_id;
use super::library::{Library, Snapshot};
use super::refusal::Refusal;

/// Finds a script at its editable version, or at its published one.
type Find = fn(&Library, Uuid) -> Result<Snapshot, Refusal>;

pub(super) async fn script(call: Call, find: Find) -> Answer {
    let seen = find(&call.service.library(), call.script_id()?)?;
    answer_script(&seen)
}

/// A bare array.
pub(super) async fn pages(call: Call, find: Find) -> Answer {
    let seen = find(&call.service.library(), call.script_id()?)?;
    let file = read(&seen)?;
    Ok(Json(document::pages(&seen, &file)).into_response())
}

pub(super) async fn page(call: Call, find: Find) -> Answer {
    let (seen, page_id) = (find(&call.service.library(), call.script_id()?)?, call.param("pageId"));
    let file = read(&seen)?;
    match document::pages(&seen, &file).into_iter().find(|page| page.id == Some(page_id)) {
        Some(page) => Ok(Json(page).into_response()),
        // An uploaded file may name its pages as it likes, so only an unknown page's id is looked at.
        None => Err(parse_id(page_id).err().unwrap_or_else(Refusal::not_found)),
    }
}

pub(super) async fn remove(call: Call) -> Answer {
    call.service.library().remove(call.script_id()?)?;
    Ok(StatusCode::OK.into_response())
}

pub(super) fn answer_script(seen: &Snapshot) -> Answer {
    let file = read(seen)?;
    Ok(Json(document::script(seen, &file)).into_response())
}

/// What is in the library was read once already.
pub(super) fn read(seen: &Snapshot) -> Result<File<'_>, Refusal> {
    File::read(&seen.version.file).ok_or_else(Refusal::internal_server_error)
}
