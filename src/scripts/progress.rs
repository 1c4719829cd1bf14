//! How the service says what became of an upload. No source documents its words, so they are heard tolerantly.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::model::ImportStatus;
use crate::error::{Envelope, Error, ErrorBody};
use crate::text::{head, quoted, shown};

/// So many errors of an upload are kept, and so much of each that is of no known form.
const KEPT_ERRORS: usize = 16;
const KEPT_BYTES: usize = 1024;

/// What a status means.
pub(super) enum Progress {
    Imported,
    UnderWay,
    Failed,
}

/// `succeeded` is "not yet" while it is absent or alone with `false`; errors are the service's word that it failed, and so is a
/// message beside `false` that does not tell of work under way.
pub(super) fn of(status: &ImportStatus) -> Progress {
    let failed = status.succeeded == Some(false) && message(status).is_some_and(|message| !tells_of_work(message));
    match status.succeeded {
        Some(true) => Progress::Imported,
        _ if failed || !status.errors.is_empty() => Progress::Failed,
        _ => Progress::UnderWay,
    }
}

fn message(status: &ImportStatus) -> Option<&str> {
    status.message.as_deref().map(str::trim).filter(|message| !message.is_empty())
}

/// Such as `IN_PROGRESS`, "still importing" or "40 % done"; not where anything in it speaks of a failure.
fn tells_of_work(message: &str) -> bool {
    const FAILED: [&str; 14] = [
        "fail",
        "error",
        "invalid",
        "reject",
        "abort",
        "cancel",
        "cannot",
        "could",
        "unable",
        "denied",
        "missing",
        "corrupt",
        "unsupported",
        "unknown",
    ];
    const WORKING: [&str; 18] = [
        "progress",
        "inprogress",
        "ongoing",
        "pending",
        "queue",
        "queued",
        "waiting",
        "wait",
        "yet",
        "still",
        "started",
        "submitted",
        "scheduled",
        "accepted",
        "received",
        "uploaded",
        "running",
        "retrying",
    ];
    const DOING: [&str; 8] = ["process", "import", "upload", "validat", "pars", "convert", "load", "work"];
    let message = message.to_lowercase();
    let words: Vec<&str> = message.split(|c: char| !c.is_alphanumeric()).collect();
    let has = |word: &str| words.contains(&word);
    let is_doing = |word: &str| word.ends_with("ing") && DOING.iter().any(|stem| word.contains(stem));
    let failed = FAILED.iter().any(|stem| message.contains(stem)) || ((has("not") || has("no")) && !has("yet"));
    !failed && (message.contains('%') || words.iter().any(|word| WORKING.contains(word) || is_doing(word)))
}

/// The service's words, for an error's line: its message, then its errors.
pub(super) fn words(status: &ImportStatus) -> String {
    let errors = status.errors.iter().take(KEPT_ERRORS).map(|error| {
        let words = error.message().or(error.text.as_deref()).map(quoted);
        [error.code().map(shown), words].into_iter().flatten().collect::<Vec<_>>().join(" ")
    });
    let words = message(status).map(quoted).into_iter().chain(errors).filter(|words| !words.is_empty());
    words.collect::<Vec<_>>().join(", ")
}

/// The service's word that an upload did not become a script.
pub(super) fn failed(status: &ImportStatus) -> Error {
    let first = status.errors.iter().find_map(ErrorBody::message);
    let body = ErrorBody {
        message: message(status).or(first).map(str::to_owned),
        code: status.errors.iter().find_map(ErrorBody::code).map(str::to_owned),
        errors: status.errors.clone(),
        ..ErrorBody::default()
    };
    Error::import_failed(&words(status), body)
}

/// The errors of an upload, whatever form they have: a list of objects or of texts, or one of these alone.
pub(super) fn errors<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ErrorBody>, D::Error> {
    let found = match Value::deserialize(deserializer)? {
        Value::Array(errors) => errors,
        one => vec![one],
    };
    Ok(found.iter().filter_map(error).take(KEPT_ERRORS).collect())
}

fn error(value: &Value) -> Option<ErrorBody> {
    match value {
        Value::Null | Value::Bool(_) => None,
        Value::String(text) if text.trim().is_empty() => None,
        Value::String(text) => Some(ErrorBody {
            envelope: Envelope::Other,
            message: Some(head(text.trim(), KEPT_BYTES).0.to_owned()),
            ..ErrorBody::default()
        }),
        Value::Object(object) if object.is_empty() => None,
        Value::Array(items) if items.is_empty() => None,
        other => {
            let text = other.to_string();
            let body = ErrorBody::parse(&text);
            let is_read = body.message().is_some() || body.text.is_some();
            let text = (!is_read).then(|| head(&text, KEPT_BYTES).0.to_owned());
            Some(ErrorBody { text: text.or(body.text), ..body })
        }
    }
}
