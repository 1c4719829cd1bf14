//! Scripts by id, at their editable version.

use axum::Json;
use axum::response::IntoResponse;
use http::StatusCode;

use super::document::{self, File};
use super::gate::{Answer, Call};
use super::ids::parse_id;
use super::library::Snapshot;
use super::refusal::Refusal;

pub(super) async fn script(call: Call) -> Answer {
    let seen = call.service.library().find_editable(call.script_id()?)?;
    answer_script(&seen)
}

pub(super) async fn pages(call: Call) -> Answer {
    let seen = call.service.library().find_editable(call.script_id()?)?;
    answer_pages(&seen)
}

pub(super) async fn page(call: Call) -> Answer {
    let seen = call.service.library().find_editable(call.script_id()?)?;
    answer_page(&seen, call.param("pageId"))
}

pub(super) async fn remove(call: Call) -> Answer {
    call.service.library().remove(call.script_id()?)?;
    Ok(StatusCode::OK.into_response())
}

pub(super) fn answer_script(seen: &Snapshot) -> Answer {
    let file = read(seen)?;
    Ok(Json(document::script(seen, &file)).into_response())
}

/// A bare array.
pub(super) fn answer_pages(seen: &Snapshot) -> Answer {
    let file = read(seen)?;
    Ok(Json(document::pages(seen, &file)).into_response())
}

pub(super) fn answer_page(seen: &Snapshot, page_id: &str) -> Answer {
    let file = read(seen)?;
    let pages = document::pages(seen, &file);
    match pages.into_iter().find(|page| page.id == Some(page_id)) {
        Some(page) => Ok(Json(page).into_response()),
        // An uploaded file may name its pages as it likes, so only an unknown page's id is looked at.
        None => Err(parse_id(page_id).err().unwrap_or_else(Refusal::not_found)),
    }
}

/// What is in the library was read once already.
pub(super) fn read(seen: &Snapshot) -> Result<File<'_>, Refusal> {
    File::read(&seen.version.file).ok_or_else(Refusal::internal_server_error)
}
