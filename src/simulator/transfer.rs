//! Script files: upload and its status, export and its download.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, HOST};
use http::uri::Authority;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::gate::{Answer, Call};
use super::ids::parse_id;
use super::library::{Download, Import, Upload};
use super::refusal::{ContextId, Refusal};
use super::service::Service;
use crate::text::encode_segment;

/// How long a status asked for with `longPoll=true` is held at most.
const LONG_POLL: Duration = Duration::from_secs(10);

/// `POST /uploads/v2/scripter`, on the upload host.
pub(super) async fn upload(call: Call) -> Answer {
    let import = read_form(&call).await?;
    let id = call.service.new_id().to_string();
    let takes = call.service.setting(|settings| settings.upload_time);
    call.service.library().upload(id.clone(), import, takes)?;
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Accepted {
        correlation_id: String,
    }
    Ok(Json(Accepted { correlation_id: id }).into_response())
}

async fn read_form(call: &Call) -> Result<Import, Refusal> {
    let mut request = Request::new(Body::from(call.body.clone()));
    *request.headers_mut() = call.headers.clone();
    // How much may be sent was settled when it arrived; axum's own limit is 2 MiB.
    DefaultBodyLimit::disable().apply(&mut request);
    // Fails when the content type is another, or lacks its boundary.
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|_| Refusal::unsupported_media_type())?;

    let mut file = None;
    let (mut name, mut replace, mut division) = (None, None, None);
    while let Some(field) = form.next_field().await.map_err(|_| Refusal::bad_request())? {
        let field_name = field.name().unwrap_or_default().to_owned();
        let content: Bytes = field.bytes().await.map_err(|_| Refusal::bad_request())?;
        let text = || String::from_utf8(content.to_vec()).ok().filter(|text| !text.is_empty());
        match field_name.as_str() {
            "file" => file = Some(content),
            "scriptName" => name = text(),
            "scriptIdToReplace" => replace = text(),
            "divisionId" => division = text(),
            _ => {}
        }
    }
    Ok(Import { file: file.ok_or_else(Refusal::bad_request)?, name, replace, division })
}

#[derive(Serialize)]
struct UploadStatus {
    succeeded: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
}

/// `GET /api/v2/scripts/uploads/{uploadId}/status`.
pub(super) async fn upload_status(call: Call) -> Answer {
    let id = parse_id(call.param("uploadId"))?.to_string();
    let long_poll = call.query.flag("longPoll")?;

    let mut state = call.service.library().upload_state(&id)?;
    if let (Upload::Pending { until }, true) = (&state, long_poll) {
        tokio::time::sleep_until((*until).min(Instant::now() + LONG_POLL)).await;
        state = call.service.library().upload_state(&id)?;
    }
    let status = match state {
        Upload::Pending { .. } => UploadStatus { succeeded: false, url: None, message: None },
        Upload::Done { script } => {
            let url = format!("{}/api/v2/scripts/{script}", base_url(&call));
            UploadStatus { succeeded: true, url: Some(url), message: None }
        }
        Upload::Failed { message } => UploadStatus { succeeded: false, url: None, message: Some(message) },
    };
    Ok(Json(status).into_response())
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct ExportRequest {
    file_name: Option<String>,
    version_id: Option<String>,
}

/// `POST /api/v2/scripts/{scriptId}/export`.
pub(super) async fn export(call: Call) -> Answer {
    let wanted: ExportRequest = call.json()?.unwrap_or_default();
    let version = wanted.version_id.as_deref().filter(|id| !id.is_empty()).map(parse_id).transpose()?;
    let seen = call.service.library().find_version(call.script_id()?, version)?;

    let asked = wanted.file_name.filter(|name| !name.is_empty());
    let name = format!("{}.script", file_name(asked.as_deref().unwrap_or(&seen.version.name)));
    let key = call.service.new_secret();
    let url = format!("{}/downloads/{key}/{}", base_url(&call), encode_segment(&name));
    call.service.library().downloads.insert(key, Download { file: seen.version.file, name });
    #[derive(Serialize)]
    struct Exported {
        url: String,
    }
    Ok(Json(Exported { url }).into_response())
}

/// Nothing a header or a path could stumble over.
fn file_name(wanted: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || " ._-".contains(c) { c } else { '_' };
    wanted.chars().take(200).map(safe).collect()
}

/// `GET` of the address an export gave: the address is all the right it takes.
pub(super) async fn download(
    State(service): State<Arc<Service>>,
    Extension(context): Extension<ContextId>,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
) -> Response {
    let found = path.ok().and_then(|Path((key, _))| {
        let library = service.library();
        let download = library.downloads.get(&key)?;
        Some((download.file.clone(), format!("attachment; filename=\"{}\"", download.name)))
    });
    match found {
        Some((file, disposition)) => {
            let headers = [(CONTENT_TYPE, "application/octet-stream".to_owned()), (CONTENT_DISPOSITION, disposition)];
            (headers, file).into_response()
        }
        None => Refusal::not_found().response(&context),
    }
}

/// Where the caller found the simulator, which is not always where it listens.
fn base_url(call: &Call) -> String {
    let host = call.headers.get(HOST).and_then(|host| host.to_str().ok());
    match host.and_then(|host| host.parse::<Authority>().ok()) {
        Some(host) => {
            let scheme = call.service.url.split("://").next().unwrap_or("http");
            format!("{scheme}://{host}")
        }
        None => call.service.url.clone(),
    }
}
