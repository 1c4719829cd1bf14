//! What whoever refuses says: the service's error envelope, read tolerantly, or else the words of any other answer.

use http::HeaderMap;
use http::header::{CONTENT_TYPE, SERVER, VIA};
use serde_json::{Map, Value};

use super::page;
use crate::coding;
use crate::text::{decoded, head, quoted, redact, shown, without_halves};

/// How much of an error's body is read; what is kept of it is less.
pub(crate) const READ_BYTES: usize = 64 * 1024;
/// No string of the body is kept longer than this.
const KEPT_BYTES: usize = 1024;
/// No list of it longer, nor nested deeper.
const KEPT_ITEMS: usize = 16;
const KEPT_DEPTH: u32 = 3;
/// So many of the answer's words are shown, beside its message.
const SHOWN_ITEMS: usize = 4;

/// The error body of an answer, as far as it could be read. Credentials in it are redacted;
/// strings are as they came on the wire, cut at 1 KiB: escape them before a terminal sees them.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ErrorBody {
    /// Whose envelope it is.
    pub envelope: Envelope,
    /// `code`, like `not.found`; of the login's answers `error`, like `invalid_client`.
    pub code: Option<String>,
    /// `message`; of the login's answers `error_description` or `description`; of other answers what stands for it:
    /// `detail`, `title`, `errorSummary`, a page's title, the first line of a text.
    pub message: Option<String>,
    /// The HTTP status repeated in the body.
    pub status: Option<i64>,
    /// The entity concerned.
    pub entity_id: Option<String>,
    /// Its name.
    pub entity_name: Option<String>,
    /// The message with placeholders.
    pub message_with_params: Option<String>,
    /// What to put in their places.
    pub message_params: Vec<(String, String)>,
    /// The request's id, the same as the correlation id.
    pub context_id: Option<String>,
    /// Which fields were wrong.
    pub details: Vec<ErrorDetail>,
    /// Errors within the error.
    pub errors: Vec<ErrorBody>,
    /// The limit that was exceeded.
    pub limit: Option<ErrorLimit>,
    /// The body itself, up to 4 KiB, where it is not the service's own envelope.
    pub text: Option<String>,
    /// Who answered, where the answer tells: its `Server`, else its `Via`.
    pub speaker: Option<String>,
    pub(crate) heard: Heard,
}

/// All that an answer says, in whatever form.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Heard {
    /// What is said in one word, for machines.
    pub(crate) codes: Vec<String>,
    /// What is said in sentences.
    pub(crate) words: Vec<String>,
    /// What some of those are about: they stand before them, with a colon.
    pub(crate) fields: Vec<String>,
    /// Sentences under keys that are not known: told where nothing else is, and no cause is looked for in them.
    pub(crate) aside: Vec<String>,
    /// Whether the code is the answer's own, and not that of a part of it.
    pub(crate) is_coded: bool,
    /// Whether it is a page of HTML or a text: what is written for people, which no API does.
    pub(crate) is_prose: bool,
}

/// Whose words an error body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Envelope {
    /// The service's own: a message and code with status or context id beside them.
    Service,
    /// That of OAuth, as the login answers: a code in `error`, and a description.
    OAuth,
    /// Another JSON object, as a gateway or a stand-in before the service writes.
    Gateway,
    /// A page of HTML or XML.
    Page,
    /// Text of no known form, or JSON that is no object.
    Other,
    /// Nothing at all.
    #[default]
    Empty,
}

/// One field that was wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorDetail {
    /// The error's code.
    pub error_code: Option<String>,
    /// The field.
    pub field_name: Option<String>,
    /// The entity concerned.
    pub entity_id: Option<String>,
    /// Its name.
    pub entity_name: Option<String>,
}

/// A limit of the organisation or token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorLimit {
    /// Like `token.rate.per.minute`.
    pub key: Option<String>,
    /// The service it belongs to.
    pub namespace: Option<String>,
    /// How much is allowed.
    pub value: Option<i64>,
}

impl ErrorBody {
    /// The body of an answer, without these secrets.
    pub(crate) fn read(headers: &HeaderMap, bytes: &[u8], secrets: &[&str]) -> Self {
        let of = |name| headers.get(name).and_then(|value| Some(head(value.to_str().ok()?, 200).0.to_owned()));
        let content_type = of(CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
        let bytes = bytes.get(..bytes.len().min(READ_BYTES)).unwrap_or_default();
        // The end may be cut in the middle of a character.
        let is_text = std::str::from_utf8(bytes).map_or_else(|error| error.error_len().is_none(), |_| true);
        let mut body = match coding::unknown(headers).filter(|coding| !is_text && !is_charset(coding)) {
            Some(coding) => Self::in_coding(&redact(&coding, secrets)),
            None => Self::parse(&redact(&decoded(bytes, &content_type), secrets)),
        };
        let speaker = of(SERVER).or_else(|| of(VIA)).filter(|name| !name.trim().is_empty());
        body.speaker = speaker.map(|name| redact(&name, secrets));
        if body.envelope == Envelope::Page {
            // Again, as reading a page joins what its tags keep apart.
            body.heard.words.iter_mut().chain(&mut body.message).for_each(|text| *text = redact(text, secrets));
        }
        body
    }

    /// One that nobody here can read.
    fn in_coding(coding: &str) -> Self {
        let mut body = Self::default();
        body.heard.aside.push(format!("(in the coding {}, which was not asked for)", head(coding, 100).0));
        body
    }

    /// Reads a body that was made free of credentials.
    pub(crate) fn parse(text: &str) -> Self {
        let trimmed = text.trim_start_matches('\u{FEFF}').trim();
        if trimmed.is_empty() {
            return Self::default();
        }
        // Half a character in it, as of a name that was cut, costs itself.
        let json: Option<Value> = serde_json::from_str(trimmed)
            .ok()
            .or_else(|| serde_json::from_slice(&without_halves(trimmed.as_bytes())?).ok());
        let mut body = match &json {
            Some(Value::Object(object)) => Self::of_object(object, KEPT_DEPTH),
            _ if trimmed.starts_with('<') => Self { envelope: Envelope::Page, ..Self::default() },
            _ => Self { envelope: Envelope::Other, ..Self::default() },
        };
        match &json {
            Some(value) => body.heard.listen("", "", value, 2 * KEPT_DEPTH),
            None if body.envelope == Envelope::Page => page::words(trimmed).iter().for_each(|run| body.heard.word(run)),
            None => trimmed.lines().take(KEPT_ITEMS).for_each(|line| body.heard.word(line)),
        }
        body.heard.is_prose = match body.envelope {
            Envelope::Page => page::is_html(trimmed),
            envelope => envelope == Envelope::Other && json.is_none(),
        };
        body.heard.is_coded = body.code.is_some();
        body.message = body.message.take().or_else(|| body.heard.words.first().cloned());
        body.code = body.code.take().or_else(|| body.heard.codes.first().cloned());
        if body.envelope != Envelope::Service {
            body.text = Some(head(trimmed, 4 * KEPT_BYTES).0.to_owned());
        }
        body
    }

    /// The service's code, or the login's error.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The service's message, or the login's description; of any other answer the words that stand for it.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Whether it is what the service or its login says when it refuses.
    pub(crate) fn is_error_envelope(&self) -> bool {
        matches!(self.envelope, Envelope::Service | Envelope::OAuth)
    }

    /// Whether it is a JSON object, whoever's.
    pub(super) fn is_object(&self) -> bool {
        self.is_error_envelope() || self.envelope == Envelope::Gateway
    }

    /// What the answer says, for a line: quoted, escaped, cut. `None` where it says nothing.
    pub(crate) fn said(&self) -> Option<String> {
        let mut said: Vec<&str> = Vec::new();
        let texts = || self.message.iter().chain(&self.heard.words).filter(|text| !text.trim().is_empty());
        // Without a code the body itself is told, where it can be.
        let is_told = self.code.is_none() && self.text.is_some();
        let aside = self.heard.aside.iter().filter(|_| !is_told && texts().next().is_none());
        for text in texts().chain(aside).map(String::as_str) {
            if said.len() < SHOWN_ITEMS && !said.iter().any(|other| other.contains(text)) {
                said.push(text);
            }
        }
        let others = self.heard.codes.iter().map(String::as_str).filter(|code| Some(*code) != self.code());
        let codes: Vec<String> = others.take(SHOWN_ITEMS).map(shown).collect();
        let words = match (said.is_empty(), &self.text) {
            (false, _) => Some(format!("\"{}\"", said.into_iter().map(shown).collect::<Vec<_>>().join("; "))),
            (true, Some(text)) if self.code.is_none() => Some(quoted(text)),
            (true, _) => None,
        };
        let codes = (!codes.is_empty()).then(|| format!("({})", codes.join(", ")));
        words.into_iter().chain(codes).reduce(|words, codes| format!("{words} {codes}"))
    }

    fn of_object(object: &Map<String, Value>, depth: u32) -> Self {
        // Some write a sentence where OAuth has its code.
        let oauth_error = string(object, "error").filter(|error| is_code(error));
        let has_code = object.contains_key("code");
        let described = || string(object, "error_description").or_else(|| string(object, "description"));
        let mut body = Self {
            code: string(object, "code").filter(|code| is_code(code)).or_else(|| oauth_error.clone()),
            message: string(object, "message").or_else(described),
            status: object.get("status").and_then(Value::as_i64),
            entity_id: string(object, "entityId"),
            entity_name: string(object, "entityName"),
            message_with_params: string(object, "messageWithParams"),
            message_params: params(object.get("messageParams")),
            context_id: string(object, "contextId"),
            details: list(object, "details", ErrorDetail::of_object),
            errors: match depth.checked_sub(1) {
                Some(depth) => list(object, "errors", |object| Self::of_object(object, depth)),
                None => Vec::new(),
            },
            limit: object.get("limit").and_then(Value::as_object).map(ErrorLimit::of_object),
            ..Self::default()
        };
        let full = has_code && (body.status.is_some() || body.context_id.is_some());
        let others = ["message", "status", "timestamp", "path", "statusCode", "errors"];
        let is_oauth = oauth_error.is_some() && !has_code && !others.iter().any(|key| object.contains_key(*key));
        body.envelope = match (is_oauth, full && string(object, "message").is_some()) {
            (true, _) => Envelope::OAuth,
            (false, true) => Envelope::Service,
            (false, false) => Envelope::Gateway,
        };
        body
    }
}

/// Some servers call one a coding.
fn is_charset(coding: &str) -> bool {
    let coding = coding.to_ascii_lowercase();
    ["utf", "iso-8859", "windows-"].iter().any(|name| coding.contains(name))
}

/// What the value of a key is, in the envelopes that are in use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Words,
    Code,
    /// What the words beside it are about.
    Field,
    /// Data, ids and addresses.
    Nothing,
    /// Where it is an object, what was sent or is stored; else as what is not known.
    Echoed,
    /// A thing's, or an error's: a code where it says that it is one.
    Name,
    /// Not known: a list of strings in it is words about the key, where no words stand beside it.
    Other,
}

impl Says {
    fn of(key: &str) -> Self {
        let key: String = key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
        match key.as_str() {
            "message" | "messages" | "errordescription" | "errormessage" | "errormessages" | "description"
            | "detail" | "details" | "title" | "error" | "errors" | "faultstring" | "fault" | "errorsummary"
            | "msg" | "usermessage" | "developermessage" | "reason" | "hint" | "errorhint" | "cause" | "causes"
            | "errorcauses" | "defaultmessage" | "summary" | "localizedmessage" | "errormsg" | "statusmessage"
            | "errortext" | "nonfielderrors" | "violations" | "issues" | "issue" | "text" | "fielderrors"
            | "invalidparams" | "info" | "moreinformation" | "body" | "statusdescription" | "errordetails"
            | "reasons" | "problems" => Self::Words,
            "code" | "errorcode" | "type" | "errortype" | "status" | "errorname" | "subcode" | "faultcode"
            | "keyword" | "constraint" | "errorkey" | "statuscode" | "exception" => Self::Code,
            "field" | "fieldname" | "param" | "parameter" | "property" | "propertypath" | "loc" | "pointer"
            | "location" | "in" | "instancepath" | "datapath" | "header" | "source" | "attribute" => Self::Field,
            "instance" | "path" | "url" | "uri" | "timestamp" | "trace" | "stack" | "stacktrace" | "requestid"
            | "traceid" | "contextid" | "correlationid" | "entityid" | "entityname" | "messagewithparams"
            | "messageparams" | "help" | "moreinfo" | "documentationurl" | "errorlink" | "href" | "rejectedvalue"
            | "value" | "arguments" | "codes" | "limit" | "selfuri" | "method" | "docs" | "input" | "links" | "ctx"
            | "errorid" | "debug" | "errorurl" | "erroruri" | "authorization" | "proxyauthorization" | "cookie"
            | "cookies" | "setcookie" | "headers" | "requestheaders" => Self::Nothing,
            "request" | "entity" | "payload" | "original" | "division" | "script" | "resource" | "object"
            | "record" | "item" | "params" | "args" | "requestbody" | "received" | "submitted" => Self::Echoed,
            "name" => Self::Name,
            _ => Self::Other,
        }
    }
}

impl Heard {
    fn word(&mut self, text: &str) {
        let text = text.trim();
        if self.words.len() < KEPT_ITEMS && !text.is_empty() {
            self.words.push(head(text, KEPT_BYTES).0.to_owned());
        }
    }

    fn word_about(&mut self, field: &str, text: &str) {
        if field.is_empty() {
            return self.word(text);
        }
        let field = format!("{field}:");
        self.word(&format!("{field} {text}"));
        if self.fields.len() < KEPT_ITEMS && !self.fields.contains(&field) {
            self.fields.push(field);
        }
    }

    fn word_aside(&mut self, key: &str, text: &str) {
        if self.aside.len() < KEPT_ITEMS && text.contains(char::is_whitespace) {
            self.aside.push(format!("{}: {}", head(key, 100).0, head(text, KEPT_BYTES).0));
        }
    }

    fn code(&mut self, code: &str) {
        // Of an address, as problem types are, its end is what names the problem.
        let code = code.rsplit(['/', '#']).next().unwrap_or_default();
        let says_nothing = code.starts_with("section-") || matches!(code, "blank" | "about:blank");
        let is_one = is_code(code) && code.contains(char::is_alphabetic) && !says_nothing;
        if is_one && self.codes.len() < KEPT_ITEMS && !self.codes.iter().any(|other| other == code) {
            self.codes.push(code.to_owned());
        }
    }

    /// Hears a value that stands under this key, about that field.
    fn listen(&mut self, key: &str, about: &str, value: &Value, depth: u32) {
        let Some(deeper) = depth.checked_sub(1) else { return };
        match (value, Says::of(key)) {
            (_, Says::Nothing) | (Value::Object(_), Says::Echoed) => {}
            (Value::String(text), Says::Code) if is_code(text) || text.contains("://") => self.code(text),
            (Value::String(text), Says::Name) if is_error_name(text) => self.code(text),
            (Value::String(text), Says::Words) if is_code(text) && text.contains(['_', '.', '-']) => self.code(text),
            // A word of letters only may be either.
            (Value::String(text), Says::Words) if is_code(text) && matches!(key, "error" | "reason") => self.code(text),
            (Value::String(text), Says::Words | Says::Code) => self.word_about(about, text),
            (Value::String(text), _) if key.is_empty() => self.word_about(about, text),
            (Value::String(text), Says::Other | Says::Echoed) => self.word_aside(key, text.trim()),
            (Value::Array(items), says) => {
                for item in items.iter().take(KEPT_ITEMS) {
                    match item {
                        Value::String(text) if says == Says::Words || key.is_empty() => self.word_about(about, text),
                        Value::String(text) => self.word_about(key, text),
                        Value::Object(object) => self.listen_to(object, about, deeper),
                        Value::Array(_) => self.listen(key, about, item, deeper),
                        _ => {}
                    }
                }
            }
            (Value::Object(object), _) => self.listen_to(object, about, deeper),
            _ => {}
        }
    }

    fn listen_to(&mut self, object: &Map<String, Value>, about: &str, depth: u32) {
        let members = sorted(object);
        let mut field = about.to_owned();
        for (key, value) in members.iter().filter(|(key, _)| Says::of(key) == Says::Field).take(KEPT_ITEMS) {
            let named = named(key, value);
            if !named.is_empty() && !field.contains(&named) && field.len() < 200 {
                field = format!("{field} {named}").trim().to_owned();
            }
        }
        let is_said = members.iter().any(|(key, value)| Says::of(key) == Says::Words && value.is_string());
        // Sentences before what is nested.
        let is_nested = |value: &Value| value.is_object() || value.is_array();
        let (nested, plain): (Vec<_>, Vec<_>) = members.into_iter().partition(|(_, value)| is_nested(value));
        for (key, value) in plain.into_iter().chain(nested).take(4 * KEPT_ITEMS) {
            let says = Says::of(key);
            // Beside words a list under any key, or a thing, is as likely of data.
            let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            let is_list = value.is_array() && items.iter().any(Value::is_string);
            let is_thing = items.iter().any(|item| item.as_object().is_some_and(is_stored));
            let is_data = says != Says::Words && is_list || says == Says::Other && is_thing;
            if says != Says::Field && !(is_said && is_data) {
                self.listen(key, &field, value, depth);
            }
        }
    }
}

/// The members of an object in the order of their keys, however the user's build keeps them.
fn sorted(object: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut members: Vec<_> = object.iter().collect();
    members.sort_unstable_by_key(|(key, _)| *key);
    members
}

/// Whether it is a thing with an id, that says nothing of what went wrong.
fn is_stored(object: &Map<String, Value>) -> bool {
    let has = |keys: &[&str]| keys.iter().any(|key| object.contains_key(*key));
    has(&["id", "selfUri"]) && !has(&["message", "detail", "error", "errors", "code", "reason"])
}

/// Of an error, as languages have them; whatever else has a name may be called anything.
fn is_error_name(name: &str) -> bool {
    is_code(name) && ["Error", "Exception", "Fault"].iter().any(|end| name.ends_with(end))
}

/// What a key and its value name: a field, or the part of the request and the field in it.
fn named(key: &str, value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        Value::Object(object) => sorted(object)
            .into_iter()
            .filter_map(|(key, value)| Some(format!("{key} {}", value.as_str()?)))
            .collect::<Vec<_>>()
            .join(" "),
        _ => return String::new(),
    };
    let part = if matches!(key, "header" | "parameter" | "param") { format!("{key} {text}") } else { text };
    head(&part, 100).0.to_owned()
}

/// One word, as codes are.
fn is_code(text: &str) -> bool {
    !text.is_empty() && text.len() <= 200 && !text.contains(char::is_whitespace)
}

impl ErrorDetail {
    fn of_object(object: &Map<String, Value>) -> Self {
        Self {
            error_code: string(object, "errorCode"),
            field_name: string(object, "fieldName"),
            entity_id: string(object, "entityId"),
            entity_name: string(object, "entityName"),
        }
    }
}

impl ErrorLimit {
    /// Its name, and what it allows, for a sentence.
    pub(crate) fn described(&self) -> Option<String> {
        let key = shown(self.key.as_deref()?);
        Some(match self.value {
            Some(value) => format!("the limit {key} ({value})"),
            None => format!("the limit {key}"),
        })
    }

    fn of_object(object: &Map<String, Value>) -> Self {
        Self {
            key: string(object, "key"),
            namespace: string(object, "namespace"),
            value: object.get("value").and_then(|value| value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())),
        }
    }
}

/// A string, or the text of what should have been one.
fn string(object: &Map<String, Value>, key: &str) -> Option<String> {
    match object.get(key)? {
        Value::String(text) => Some(head(text, KEPT_BYTES).0.to_owned()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        other => Some(other.to_string()),
    }
}

fn params(value: Option<&Value>) -> Vec<(String, String)> {
    let Some(Value::Object(params)) = value else { return Vec::new() };
    let kept = sorted(params).into_iter().take(KEPT_ITEMS);
    kept.filter_map(|(key, _)| Some((head(key, KEPT_BYTES).0.to_owned(), string(params, key)?))).collect()
}

fn list<T>(object: &Map<String, Value>, key: &str, item: impl Fn(&Map<String, Value>) -> T) -> Vec<T> {
    let Some(Value::Array(items)) = object.get(key) else { return Vec::new() };
    items.iter().filter_map(Value::as_object).take(KEPT_ITEMS).map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_envelope_is_read_whole() {
        let body = ErrorBody::parse(
            r#"{"message":"Value [x] is not valid","code":"invalid.value","status":400,"contextId":"c1","entityId":"e","entityName":"n",
            "messageWithParams":"Value [{a}]","messageParams":{"a":"x"},"details":[{"errorCode":"e1","fieldName":"pageSize"}],
            "errors":[{"message":"inner","code":"i"}],"limit":{"key":"k","namespace":"ns","value":300},"new":{"deep":[1]}}"#,
        );
        assert_eq!((body.code(), body.message()), (Some("invalid.value"), Some("Value [x] is not valid")));
        assert_eq!(
            (body.envelope, body.status, body.context_id.as_deref()),
            (Envelope::Service, Some(400), Some("c1"))
        );
        assert_eq!((body.entity_id.as_deref(), body.entity_name.as_deref()), (Some("e"), Some("n")));
        assert_eq!(body.message_with_params.as_deref(), Some("Value [{a}]"));
        assert_eq!(body.message_params, [("a".to_owned(), "x".to_owned())]);
        assert_eq!(body.details.first().and_then(|detail| detail.field_name.as_deref()), Some("pageSize"));
        assert_eq!(body.errors.first().and_then(ErrorBody::message), Some("inner"));
        assert_eq!(body.limit.and_then(|limit| limit.value), Some(300));
    }

    #[test]
    fn whose_words_they_are_is_seen_from_the_shape() {
        for (text, envelope) in [
            ("", Envelope::Empty),
            (" \n", Envelope::Empty),
            ("<html>502</html>", Envelope::Page),
            ("upstream connect error", Envelope::Other),
            ("[1]", Envelope::Other),
            (r#"{"code":"bad_request","message":"Invalid script definition"}"#, Envelope::Gateway),
            (r#"{"message":"m","code":"c","status":400}"#, Envelope::Service),
            (r#"{"error":"invalid_client","description":"client not found"}"#, Envelope::OAuth),
            ("{}", Envelope::Gateway),
        ] {
            assert_eq!(ErrorBody::parse(text).envelope, envelope, "{text}");
        }
        assert_eq!(ErrorBody::parse(" upstream connect error\n").text.as_deref(), Some("upstream connect error"));
        assert_eq!(ErrorBody::parse(r#"[["the page is gone"]]"#).message(), Some("the page is gone"));
        assert_eq!(ErrorBody::parse(r#""the page is gone""#).message(), Some("the page is gone"));
        let page = format!("<html>{}", "x".repeat(100 * KEPT_BYTES));
        assert_eq!(ErrorBody::parse(&page).text.map(|text| text.len()), Some(4 * KEPT_BYTES));
        let oauth = ErrorBody::parse(
            r#"{"error":"invalid_request","description":"d","error_description":"rate limit exceeded; x"}"#,
        );
        assert_eq!((oauth.code(), oauth.message()), (Some("invalid_request"), Some("rate limit exceeded; x")));
    }

    #[test]
    fn a_text_that_is_no_page_is_told_as_it_stands() {
        for text in ["pages <1 or >50 are refused", "use &lt; for <", "a <b> c"] {
            assert_eq!(ErrorBody::parse(text).message(), Some(text));
        }
        assert_eq!(ErrorBody::parse("<p>use &lt;1</p>").message(), Some("use <1"));
    }

    #[test]
    fn a_type_that_names_no_problem_is_no_code() {
        for no_code in [
            "about:blank",
            "blank",
            "urn:x/blank",
            "https://problems.example/#blank",
            "https://httpwg.org/specs/rfc9110#section-15.5.1",
            "section-1",
            "400",
            "a b",
        ] {
            let body = ErrorBody::parse(&serde_json::json!({ "type": no_code, "title": "Bad Request" }).to_string());
            assert_eq!((body.code(), body.message()), (None, Some("Bad Request")), "{no_code}");
            assert!(body.heard.codes.is_empty(), "{body:?}");
        }
        for (code, told) in
            [("https://example.com/problems/out-of-credit", "out-of-credit"), ("blank.page", "blank.page")]
        {
            let twice = serde_json::json!({ "errors": [{ "type": code, "title": "No" }, { "type": code }] });
            let body = ErrorBody::parse(&twice.to_string());
            assert_eq!((body.code(), body.said()), (Some(told), Some("\"No\"".to_owned())), "{code}");
        }
    }

    #[test]
    fn one_word_with_a_mark_in_it_is_a_code_wherever_words_are_expected() {
        for (key, word) in [("detail", "licence_expired"), ("title", "pages.missing"), ("hint", "no-such-page")] {
            let body = ErrorBody::parse(&serde_json::json!({ key: word, "reference": 7 }).to_string());
            assert_eq!((body.code(), body.message()), (Some(word), None), "{key}");
        }
        let body = ErrorBody::parse(r#"{"detail":"Gone.","title":"No page"}"#);
        assert_eq!((body.code(), body.message()), (Some("Gone."), Some("No page")));
    }

    #[test]
    fn the_coding_of_a_text_is_taken_from_its_first_bytes_then_from_what_is_said() {
        for (bytes, content_type, text) in [
            (&b"\xFE\xFF\0h\0i"[..], "text/html", "\u{FEFF}hi"),
            (b"\xFF\xFEh\0i\0", "text/html; charset=utf-16be", "\u{FEFF}hi"),
            (b"\0h\0i", "", "hi"),
            (b"h\0i\0", "", "hi"),
            (b"\xE4\xF6\xE4\xF6", "text/plain; charset=utf-16be", "\u{E4F6}\u{E4F6}"),
            (b"\xE4\xF6\xE4\xF6", "text/plain; charset=utf-16", "\u{F6E4}\u{F6E4}"),
            (b"\xE4\xF6", "text/plain; charset=iso-8859-1", "äö"),
            (b"\xE4\xF6", "text/plain; charset=windows-1252", "äö"),
            ("äö".as_bytes(), "text/plain; charset=iso-8859-1", "äö"),
            (b"\xE4", "text/plain", "\u{FFFD}"),
            // Two of them are no half of a character.
            (b"\0\0hi", "", "\0\0hi"),
        ] {
            assert_eq!(decoded(bytes, content_type), text, "{bytes:?} {content_type}");
        }
    }

    #[test]
    fn wrong_types_lose_one_field_not_the_body_and_nothing_is_kept_without_bound() {
        let body =
            ErrorBody::parse(r#"{"code":42,"message":["x"],"status":"400","details":{},"errors":[1,null],"limit":[]}"#);
        assert_eq!((body.code(), body.message(), body.status), (Some("42"), Some("x"), None));
        let long = format!(r#"{{"message":"{}","errors":[{}]}}"#, "é".repeat(10_000), vec!["{}"; 1000].join(","));
        let body = ErrorBody::parse(&long);
        assert!(body.message().is_some_and(|message| message.len() <= KEPT_BYTES));
        assert_eq!(body.errors.len(), KEPT_ITEMS);
        let mut deep = "{}".to_owned();
        for _ in 0..100 {
            deep = format!(r#"{{"errors":[{deep}]}}"#);
        }
        assert!(format!("{:?}", ErrorBody::parse(&deep)).len() < 10_000);
    }

    #[test]
    fn a_line_shows_four_of_the_words_and_none_of_them_twice() {
        for (text, said) in [
            ("one\ntwo\nthree\nfour\nfive\nsix", "\"one; two; three; four\""),
            ("one and two\ntwo\none\nthree\none and two", "\"one and two; three\""),
            (r#"{"code":"c","message":"no page","errors":[{"message":"no page"},{"message":" "}]}"#, "\"no page\""),
            (r#"{"code":"c"}"#, "None"),
            // Who knows what it is.
            (r#"{"region":"North of it all"}"#, r#""{"region":"North of it all"}""#),
            (r#"{"number":7}"#, r#""{"number":7}""#),
            (r#"{"code":"c","region":"North of it all"}"#, "\"region: North of it all\""),
            (r#"{"errorCode":"c","policy":{"b":"two words","a":"and more"}}"#, "\"a: and more; b: two words\""),
            // What is known says enough.
            (r#"{"code":"c","message":"no page","region":"North of it all"}"#, "\"no page\""),
            (r#"{"code":"c","region":"North","entityName":"All of it","request":{"a":"what was sent"}}"#, "None"),
        ] {
            assert_eq!(ErrorBody::parse(text).said().as_deref().unwrap_or("None"), said, "{text}");
        }
    }

    #[test]
    fn words_are_told_with_the_field_they_are_about() {
        for (text, said) in [
            (r#"{"errors":[{"field":"pageSize","message":"is too large"}]}"#, "pageSize: is too large"),
            (
                r#"{"errors":{"division":["is not known"]},"request":{"message":"what was sent"}}"#,
                "division: is not known",
            ),
            (r#"{"errors":[{"message":"is too large","field":"pageSize"}]}"#, "pageSize: is too large"),
            (r#"{"errors":[{"field":"a","property":"a","message":"is odd"}]}"#, "a: is odd"),
            (r#"{"errors":[{"field":"","property":null,"message":"is odd"}]}"#, "is odd"),
            (r#"{"detail":[{"loc":["query","a"],"msg":"is odd"}]}"#, "query a: is odd"),
            (
                r#"{"errors":[{"source":{"pointer":"/a"},"header":"b","title":"is odd"}]}"#,
                "header b pointer /a: is odd",
            ),
            (r#"{"errors":{"email":["is no address"]}}"#, "email: is no address"),
            (r#"{"problems":{"email":["is no address"]}}"#, "email: is no address"),
            (r#"{"errorCode":["is no address"]}"#, "errorCode: is no address"),
            (r#"{"messages":["is no address"]}"#, "is no address"),
            (r#"["is no address"]"#, "is no address"),
        ] {
            assert_eq!(ErrorBody::parse(text).message(), Some(said), "{text}");
        }
        // However many fields there are, and however long their names: what is said of them is still there.
        let fields: Vec<_> = (0..16).map(|n| format!(r#""{}{}":"{n:0>90}""#, "field", "-".repeat(n))).collect();
        let body = ErrorBody::parse(&format!(r#"{{"errors":[{{{},"message":"are odd"}}]}}"#, fields.join(",")));
        assert!(
            body.message().is_some_and(|message| message.ends_with(": are odd") && message.len() < 400),
            "{body:?}"
        );
    }

    #[test]
    fn a_word_is_a_code_and_a_sentence_is_not_wherever_they_stand() {
        let long = "x".repeat(201);
        for (text, codes, words) in [
            (r#"{"code":"No such page"}"#, &[][..], &["No such page"][..]),
            (r#"{"message":"quota_exceeded"}"#, &["quota_exceeded"], &[]),
            (r#"{"title":"quota.exceeded"}"#, &["quota.exceeded"], &[]),
            (r#"{"error":{"reason":"forbidden"}}"#, &["forbidden"], &[]),
            (r#"{"error":{"title":"forbidden"}}"#, &[], &["forbidden"]),
            (&format!(r#"{{"code":"{long}"}}"#), &[], &[&long]),
            // Sentences before what is nested, however many members there are.
            (r#"{"details":[{"message":"nested"}],"title":"plain words"}"#, &[], &["plain words", "nested"]),
            (
                &format!(
                    r#"{{{},"title":"plain words"}}"#,
                    (0..40).map(|n| format!(r#""k{n}":{n}"#)).collect::<Vec<_>>().join(",")
                ),
                &[],
                &["plain words"],
            ),
        ] {
            let heard = ErrorBody::parse(text).heard;
            assert_eq!(
                (heard.codes, heard.words),
                (codes.iter().map(|c| (*c).to_owned()).collect(), words.iter().map(|w| (*w).to_owned()).collect()),
                "{text}"
            );
        }
        let nested =
            |depth: usize| format!("{}\"No page\"{}", r#"{"a":"#.repeat(depth - 1) + r#"{"title":"#, "}".repeat(depth));
        assert_eq!(ErrorBody::parse(&nested(5)).message(), Some("No page"));
        assert_eq!(ErrorBody::parse(&nested(6)).message(), None);
    }

    #[test]
    fn a_name_is_an_errors_only_where_it_says_so_and_a_list_beside_words_is_data() {
        for (text, codes, words) in [
            (r#"{"message":"No page","name":"throttled"}"#, &[][..], &["No page"][..]),
            (r#"{"message":"No page","name":"Rate limit exceeded"}"#, &[], &["No page"]),
            (r#"{"message":"No page","name":"ThrottledError"}"#, &["ThrottledError"], &["No page"]),
            (r#"{"message":"No page","resource":{"name":"a","title":"throttled"}}"#, &[], &["No page"]),
            (r#"{"message":"No page","other":{"id":"7","title":"throttled"}}"#, &[], &["No page"]),
            (r#"{"message":"No page","other":[{"id":"7","title":"throttled"}]}"#, &[], &["No page"]),
            (r#"{"message":"No page","other":{"id":"7","code":"a.b"}}"#, &["a.b"], &["No page"]),
            (r#"{"message":"No page","names":["throttled"]}"#, &[], &["No page"]),
            (r#"{"message":"No page","details":["throttled"]}"#, &[], &["No page", "throttled"]),
            (r#"{"names":["throttled"]}"#, &[], &["names: throttled"]),
            (r#"{"message":"No page","errors":{"name":["throttled"]}}"#, &[], &["No page", "name: throttled"]),
        ] {
            let heard = ErrorBody::parse(text).heard;
            assert_eq!(
                (heard.codes.iter().map(String::as_str).collect::<Vec<_>>(), heard.words),
                (codes.to_vec(), words.iter().map(|word| (*word).to_owned()).collect()),
                "{text}"
            );
        }
    }

    /// As with `serde_json/preserve_order`, which a user may turn on.
    #[test]
    fn what_is_said_first_does_not_depend_on_how_a_build_keeps_an_objects_members() {
        let body = ErrorBody::parse(r#"{"title":"two","detail":"one","messageParams":{"b":"2","a":"1"}}"#);
        assert_eq!(body.message(), Some("one"));
        assert_eq!(body.message_params.first().map(|(name, _)| name.as_str()), Some("a"));
    }

    #[test]
    fn a_secret_that_only_reading_puts_together_is_in_nothing_that_is_kept() {
        let secret = "t0ken-that-nobody-may-see";
        for text in [
            "<html><p>no <b>t0ken-that</b>-nobody-may-see</p>",
            "<html><p>t0ken-that&#45;nobody-may-<i>see</i> no</p>",
            "<html>t0ken-that<!-- -->-nobody-may-see</html>",
        ] {
            let body = ErrorBody::read(&HeaderMap::new(), text.as_bytes(), &[secret]);
            assert!(!body.heard.words.is_empty());
            let kept = format!("{:?} {:?} {:?}", body.message, body.heard, body.said());
            assert!(!kept.contains(secret), "{kept}");
        }
    }

    #[test]
    fn of_words_and_codes_so_many_are_kept_and_no_blank_one() {
        let items = |item: &str| [item; 3].join(",");
        let all = |one: &dyn Fn(usize) -> String| (0..40).map(one).collect::<Vec<_>>().join(",");
        let words = |of: &str| all(&|n| format!(r#"{{"message":"{of} {n}","code":"{of}.{n}"}}"#));
        let body = format!(r#"{{"errors":[{}],"causes":[{}],"issues":[{}]}}"#, words("a"), words("b"), words("c"));
        let heard = ErrorBody::parse(&body).heard;
        assert_eq!((heard.words.len(), heard.codes.len()), (KEPT_ITEMS, KEPT_ITEMS));
        let body = format!(r#"{{"messages":[{},"there"],"codes":["x"],"code":"a.b"}}"#, items("\" \""));
        let heard = ErrorBody::parse(&body).heard;
        assert_eq!((heard.words, heard.codes), (vec!["there".to_owned()], vec!["a.b".to_owned()]));
        let twice = ErrorBody::parse(r#"{"type":"urn:x#gone","reason":"gone"}"#);
        assert_eq!(twice.heard.codes, ["gone"]);
    }
}
