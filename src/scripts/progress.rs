//! How the service says what became of an upload. No source documents its words, so they are heard tolerantly.

use serde::Deserialize;
use serde_json::Value;

use super::model::{ImportStatus, lenient};
use super::signed_url::SignedUrl;
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
/// message beside `false` that neither tells of work under way nor names a state in which it may be.
pub(super) fn of(status: &ImportStatus) -> Progress {
    let failed = status.succeeded == Some(false) && message(status).is_some_and(|message| !is_under_way(message));
    match status.succeeded {
        Some(true) => Progress::Imported,
        _ if failed || !status.errors.is_empty() => Progress::Failed,
        _ => Progress::UnderWay,
    }
}

fn message(status: &ImportStatus) -> Option<&str> {
    status.message.as_deref().map(str::trim).filter(|message| !message.is_empty())
}

/// What of a state says that it failed, wherever in a word; and what else of a message does.
const ENDED: [&str; 10] =
    ["fail", "error", "invalid", "reject", "abort", "cancel", "timeout", "stopped", "terminated", "crash"];
const FAILED: [&str; 18] = [
    "cannot",
    "could",
    "unable",
    "denied",
    "missing",
    "corrupt",
    "unsupported",
    "unknown",
    "malform",
    "exceed",
    "refus",
    "incorrect",
    "illegal",
    "forbid",
    "exception",
    "broken",
    "expired",
    "wrong",
];
/// And what else of a state does, which says nothing of the kind in a sentence: `DUPLICATE_NAME`, and "looking for duplicates".
const OVER: [&str; 18] = [
    "timed",
    "killed",
    "duplicate",
    "conflict",
    "empty",
    "bad",
    "infected",
    "quarantine",
    "interrupt",
    "mismatch",
    "incompatible",
    "exists",
    "unauthori",
    "insufficient",
    "large",
    "unprocess",
    "declin",
    "violat",
];
/// A state that ends so is of what was looked for or mended: `DUPLICATE_CHECK`, `CONFLICTS_RESOLVED`.
const LOOKED_FOR: [&str; 5] = ["check", "checks", "checked", "resolved", "removed"];
/// What is not so while the work is under way.
const TO_COME: [&str; 7] = ["started", "begun", "ready", "done", "complete", "completed", "finished"];
const WORKING: [&str; 13] = [
    "progress",
    "inprogress",
    "underway",
    "pending",
    "wait",
    "yet",
    "still",
    "started",
    "submitted",
    "scheduled",
    "accepted",
    "received",
    "uploaded",
];
/// In whatever form.
const WORK: [&str; 3] = ["queu", "initiali", "prepar"];
/// In -ing, and nothing that is being done.
const NO_WORK: [&str; 28] = [
    "thing",
    "nothing",
    "something",
    "anything",
    "everything",
    "string",
    "substring",
    "warning",
    "existing",
    "following",
    "matching",
    "conflicting",
    "containing",
    "including",
    "during",
    "using",
    "having",
    "according",
    "regarding",
    "referencing",
    "pointing",
    "trailing",
    "leading",
    "dangling",
    "encoding",
    "setting",
    "mapping",
    "lacking",
];

/// Something that is being done.
fn is_doing(word: &str) -> bool {
    word.len() > 4 && word.ends_with("ing") && !NO_WORK.contains(&word)
}

/// A state that is the end of it: `FAILED`, `VALIDATION_ERROR`; where something is being done only by its last word, as in
/// `PROCESSING_FAILED`, and not in `RETRYING_AFTER_ERROR`.
fn is_end(state: &str) -> bool {
    let words = words_of(state);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ends = words.last().is_some_and(|word| word.ends_with("ed"));
    let failed = has_failure(&words, &OVER) || words != ["unknown"] && has_failure(&words, &FAILED);
    let was_looked_for = words.last().is_some_and(|word| LOOKED_FOR.contains(word));
    failed && !was_looked_for && (ends || !words.iter().any(|word| is_doing(word)))
}

/// Where it is one word, it names the state of things: no list of these is complete, so it is one of work unless it says otherwise.
fn is_under_way(message: &str) -> bool {
    let state = message.trim_matches(|c: char| c.is_whitespace() || c.is_ascii_punctuation());
    let is_state = state.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    let words = words_of(state);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    tells_of_work(message) || is_state && !tells_of_failure(&words) && !is_end(state)
}

/// Such as `IN_PROGRESS`, "still importing" or "40 % done"; not where anything in it speaks of a failure.
fn tells_of_work(message: &str) -> bool {
    let words = words_of(message);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let is_work = |word: &&str| WORKING.contains(word) || is_doing(word) || WORK.iter().any(|stem| word.contains(stem));
    let are_work = |pair: &[&str]| match *pair {
        ["not", what] => TO_COME.contains(&what),
        ["in", "process"] | ["under", "way"] => true,
        _ => false,
    };
    // What something was created with is no work.
    let told = words.last() == Some(&"created") || words.iter().any(is_work) || words.windows(2).any(are_work);
    (told || message.contains('%')) && !tells_of_failure(&words)
}

fn tells_of_failure(words: &[&str]) -> bool {
    let denies = |at: usize, word: &&str| {
        let next = words.get(at + 1).copied().unwrap_or_default();
        let did = at.checked_sub(1).and_then(|at| words.get(at)) == Some(&"did");
        let to_come = TO_COME.contains(&next) && !did || next == "available";
        matches!(*word, "no" | "not") && !words.contains(&"yet") && !to_come && !is_failure(next, &FAILED)
    };
    has_failure(words, &FAILED) || words.iter().enumerate().any(|(at, word)| denies(at, word))
}

/// Whether one of them is, and none was before it.
fn has_failure(words: &[&str], also: &[&str]) -> bool {
    let not_so = |at: usize| words.get(at).is_some_and(|word| matches!(*word, "no" | "not" | "0" | "without"));
    let is = |(at, word): (usize, &&str)| is_failure(word, also) && !at.checked_sub(1).is_some_and(not_so);
    words.iter().enumerate().any(is)
}

fn is_failure(word: &str, also: &[&str]) -> bool {
    ENDED.iter().chain(also).any(|stem| word.contains(stem))
}

/// In lower case, also of `IN_PROGRESS`, `inProgress` and "isn't".
fn words_of(text: &str) -> Vec<String> {
    let (mut apart, mut last) = (String::with_capacity(text.len()), ' ');
    for c in text.replace('\u{2019}', "'").replace("n't", " not").chars() {
        if last.is_lowercase() && c.is_uppercase() {
            apart.push(' ');
        }
        apart.push(c);
        last = c;
    }
    let words = apart.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
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

/// A status as it comes. That it failed may stand anywhere in it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Told {
    #[serde(deserialize_with = "lenient")]
    succeeded: Option<String>,
    message: Value,
    errors: Value,
    error: Value,
    #[serde(deserialize_with = "lenient")]
    code: Option<String>,
    #[serde(deserialize_with = "lenient")]
    status: Option<String>,
    #[serde(deserialize_with = "lenient")]
    state: Option<String>,
    #[serde(deserialize_with = "lenient")]
    url: Option<SignedUrl>,
}

impl From<Told> for ImportStatus {
    fn from(told: Told) -> Self {
        let mut succeeded = told.succeeded.and_then(|word| match word.trim().to_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        });
        let message = text(told.message);
        let mut errors: Vec<ErrorBody> = [told.errors, told.error].into_iter().flat_map(errors).collect();
        let ended = [told.status, told.state].into_iter().flatten().find(|state| is_end(state));
        if let Some(state) = ended.filter(|_| succeeded != Some(true)) {
            succeeded = Some(false);
            errors.extend(error(&Value::String(state)));
        }
        let is_told = told.code.as_deref().is_some_and(is_end) || !message.as_deref().is_some_and(is_under_way);
        let failed = succeeded == Some(false) && is_told;
        let is_word = |code: &String| code.contains(char::is_alphabetic) && !tells_of_work(code);
        if let Some(code) = told.code.filter(|code| failed && is_word(code)) {
            errors.push(ErrorBody { envelope: Envelope::Other, code: Some(code), ..ErrorBody::default() });
        }
        errors.truncate(KEPT_ERRORS);
        Self { succeeded, message, errors, url: told.url }
    }
}

/// A message, or the words in what came for one.
fn text(message: Value) -> Option<String> {
    match message {
        Value::String(text) => Some(text),
        Value::Array(_) | Value::Object(_) => {
            let heard = ErrorBody::parse(&message.to_string()).heard;
            Some([heard.words, heard.codes].concat().join("; ")).filter(|words| !words.is_empty())
        }
        Value::Null => None,
        other => Some(other.to_string()),
    }
}

/// The errors of an upload, whatever form they have: a list of objects or of texts, or one of these alone.
fn errors(told: Value) -> Vec<ErrorBody> {
    let found = match told {
        Value::Array(errors) => errors,
        one => vec![one],
    };
    found.iter().filter_map(error).take(KEPT_ERRORS).collect()
}

fn error(value: &Value) -> Option<ErrorBody> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Number(number) if number.as_u64() == Some(0) => None,
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
