//! What the service says when it refuses: its error envelope, read tolerantly.

use serde_json::{Map, Value};

use crate::text::{head, shown};

/// No string of the body is kept longer than this.
const KEPT_BYTES: usize = 1024;
/// No list of it longer, nor nested deeper.
const KEPT_ITEMS: usize = 16;
const KEPT_DEPTH: u32 = 3;

/// The error body of an answer, as far as it could be read (contract §2). Credentials in it are redacted;
/// strings are as they came on the wire, cut at 1 KiB: escape them before a terminal sees them.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ErrorBody {
    /// Whose envelope it is.
    pub envelope: Envelope,
    /// `code`, like `not.found`; of the login's answers `error`, like `invalid_client`.
    pub code: Option<String>,
    /// `message`; of the login's answers `error_description` or `description`.
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
    /// The body itself, up to 4 KiB, where it is no JSON object.
    pub text: Option<String>,
}

/// Whose words an error body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Envelope {
    /// The service's own: a message and code with status, context id or lists beside them.
    Service,
    /// The login's: `error` and a description.
    OAuth,
    /// JSON with less than the service's own envelope has, as a gateway or a stand-in before it writes.
    Gateway,
    /// A page of HTML or XML.
    Page,
    /// Text of no known form.
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
    /// Reads a body that was made free of credentials.
    pub(crate) fn parse(text: &str) -> Self {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Self::default();
        }
        if let Ok(Value::Object(object)) = serde_json::from_str(trimmed) {
            return Self::of_object(&object, KEPT_DEPTH);
        }
        let envelope = if trimmed.starts_with('<') { Envelope::Page } else { Envelope::Other };
        Self { envelope, text: Some(head(trimmed, 4 * KEPT_BYTES).0.to_owned()), ..Self::default() }
    }

    /// The service's code, or the login's error.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The service's message, or the login's description.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Whether it is what the service or its login says when it refuses.
    pub(crate) fn is_error_envelope(&self) -> bool {
        matches!(self.envelope, Envelope::Service | Envelope::OAuth)
    }

    fn of_object(object: &Map<String, Value>, depth: u32) -> Self {
        let oauth_error = string(object, "error");
        let is_oauth = oauth_error.is_some() && !object.contains_key("code");
        let described = || string(object, "error_description").or_else(|| string(object, "description"));
        let mut body = Self {
            code: string(object, "code").or(oauth_error),
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
        let full = body.status.is_some() || body.context_id.is_some();
        body.envelope = match (is_oauth, full && body.message.is_some()) {
            (true, _) => Envelope::OAuth,
            (false, true) => Envelope::Service,
            (false, false) => Envelope::Gateway,
        };
        body
    }
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
            value: object.get("value").and_then(Value::as_i64),
        }
    }
}

/// A string, or the text of what should have been one.
fn string(object: &Map<String, Value>, key: &str) -> Option<String> {
    match object.get(key)? {
        Value::String(text) => Some(head(text, KEPT_BYTES).0.to_owned()),
        Value::Null => None,
        Value::Array(_) | Value::Object(_) => None,
        other => Some(other.to_string()),
    }
}

fn params(value: Option<&Value>) -> Vec<(String, String)> {
    let Some(Value::Object(params)) = value else { return Vec::new() };
    let kept = params.keys().take(KEPT_ITEMS);
    kept.filter_map(|key| Some((head(key, KEPT_BYTES).0.to_owned(), string(params, key)?))).collect()
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
        let oauth = ErrorBody::parse(
            r#"{"error":"invalid_request","description":"d","error_description":"rate limit exceeded; x"}"#,
        );
        assert_eq!((oauth.code(), oauth.message()), (Some("invalid_request"), Some("rate limit exceeded; x")));
    }

    #[test]
    fn wrong_types_lose_one_field_not_the_body_and_nothing_is_kept_without_bound() {
        let body =
            ErrorBody::parse(r#"{"code":42,"message":["x"],"status":"400","details":{},"errors":[1,null],"limit":[]}"#);
        assert_eq!((body.code(), body.message(), body.status), (Some("42"), None, None));
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
}
