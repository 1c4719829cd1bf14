//! The body of an error: the service's envelope, a gateway's in front of it, or the token endpoint's.
//!
//! Read as far as it goes and no further: a field of the wrong type is as good as absent, an unknown one is passed over, text
//! that is cut in the middle keeps what came before, and nothing nests or repeats beyond a bound.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::text::{head, quoted};

/// The most bytes that are read, so that a body made to be large costs little.
const READ_BYTES: usize = 64 * 1024;
/// The most bytes kept of one text.
const TEXT_BYTES: usize = 4096;
/// The most details, nested errors and message parameters kept, each.
const ITEMS: usize = 16;
/// How deep errors within errors are kept.
const DEPTH: u8 = 2;

/// What an error's body says. All fields are as they came on the wire: escape them before a terminal sees them.
///
/// The model is the service's `ErrorBody`; the token endpoint's `error` is read as [`code`](Self::code), its
/// `error_description` (or `description`) as [`message`](Self::message).
///
/// Text is cut to 4 KiB each, lists to 16 items, errors within errors to two levels.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorBody {
    /// Whose body it looks like.
    pub envelope: Envelope,
    /// The machine's word for it, like `bad.request` or `invalid_client`. Spellings vary: `bad_request` is seen as well.
    pub code: Option<String>,
    /// The word for a person.
    pub message: Option<String>,
    /// The HTTP status, as the body repeats it.
    pub status: Option<u16>,
    /// What Genesys support finds the request by.
    pub context_id: Option<String>,
    /// The entity it is about.
    pub entity_id: Option<String>,
    /// That entity's name.
    pub entity_name: Option<String>,
    /// The message before its parameters were filled in.
    pub message_with_params: Option<String>,
    /// The parameters of the message.
    pub message_params: BTreeMap<String, String>,
    /// What exactly is wrong, field by field.
    pub details: Vec<ErrorDetail>,
    /// Errors this one is made of.
    pub errors: Vec<ErrorBody>,
    /// The limit that was reached.
    pub limit: Option<ErrorLimit>,
}

/// One thing that is wrong, of [`ErrorBody::details`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorDetail {
    /// The machine's word for it.
    pub error_code: Option<String>,
    /// The parameter or field at fault.
    pub field_name: Option<String>,
    /// The entity it is about.
    pub entity_id: Option<String>,
    /// That entity's name.
    pub entity_name: Option<String>,
}

/// A limit of the organisation, of [`ErrorBody::limit`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorLimit {
    /// Its name, like `token.rate.per.minute`.
    pub key: Option<String>,
    /// The service it belongs to.
    pub namespace: Option<String>,
    /// How much it allows.
    pub value: Option<i64>,
}

/// Whose body an error's looks like: its shape tells who refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Envelope {
    /// There is no body, or only blanks.
    #[default]
    Empty,
    /// The service's: a JSON object with a code and a message, and with the status or the context id that it adds.
    Service,
    /// Something in front of the service: HTML, or a JSON object that speaks of an error in fewer words or in others.
    Gateway,
    /// The token endpoint's (RFC 6749 §5.2): `error`, with a description.
    OAuth,
    /// Something else: plain text, another kind of JSON.
    Other,
}

impl ErrorBody {
    /// Reads what can be read. Never fails.
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.trim_start_matches(['\u{FEFF}', ' ', '\t', '\r', '\n']);
        let mut object = Map::new();
        // What was read before an error of syntax stays: the text may be cut.
        let _ = Entries(&mut object).deserialize(&mut serde_json::Deserializer::from_str(head(text, READ_BYTES).0));
        let mut body = Self::of_object(&object, 0);
        body.envelope = match text.bytes().next() {
            None => Envelope::Empty,
            Some(b'{') => Envelope::of_object(&object, &body),
            Some(b'<') => Envelope::Gateway,
            Some(_) => Envelope::Other,
        };
        body
    }

    fn of_object(object: &Map<String, Value>, depth: u8) -> Self {
        let text = |name| object.get(name).and_then(text);
        let list = |name| object.get(name).and_then(Value::as_array).into_iter().flatten().take(ITEMS);
        let errors = list("errors").filter(|_| depth < DEPTH).filter_map(Value::as_object);
        Self {
            envelope: Envelope::default(),
            code: text("code").or_else(|| text("error")),
            message: text("message").or_else(|| text("error_description")).or_else(|| text("description")),
            status: text("status").and_then(|status| status.parse().ok()),
            context_id: text("contextId"),
            entity_id: text("entityId"),
            entity_name: text("entityName"),
            message_with_params: text("messageWithParams"),
            message_params: params(object.get("messageParams")),
            details: list("details").filter_map(Value::as_object).map(ErrorDetail::of_object).collect(),
            errors: errors
                .map(|object| {
                    let body = Self::of_object(object, depth + 1);
                    Self { envelope: Envelope::of_object(object, &body), ..body }
                })
                .collect(),
            limit: object.get("limit").and_then(Value::as_object).map(ErrorLimit::of_object),
        }
    }

    pub(crate) fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    pub(crate) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

/// Nothing long, and nothing that a terminal obeys.
impl fmt::Debug for ErrorBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorBody")
            .field("envelope", &self.envelope)
            .field("code", &self.code().map(quoted))
            .field("message", &self.message().map(quoted))
            .field("context_id", &self.context_id.as_deref().map(quoted))
            .finish_non_exhaustive()
    }
}

impl ErrorDetail {
    fn of_object(object: &Map<String, Value>) -> Self {
        let text = |name| object.get(name).and_then(text);
        Self {
            error_code: text("errorCode"),
            field_name: text("fieldName"),
            entity_id: text("entityId"),
            entity_name: text("entityName"),
        }
    }
}

impl ErrorLimit {
    fn of_object(object: &Map<String, Value>) -> Self {
        let text = |name| object.get(name).and_then(text);
        Self {
            key: text("key"),
            namespace: text("namespace"),
            value: text("value").and_then(|value| value.parse().ok()),
        }
    }
}

impl Envelope {
    fn of_object(object: &Map<String, Value>, body: &ErrorBody) -> Self {
        let has = |name| object.get(name).and_then(text).is_some();
        if has("code") && has("message") && (has("contextId") || body.status.is_some()) {
            Self::Service
        } else if has("code") || has("message") {
            Self::Gateway
        } else if has("error_description") || has("description") || body.code().is_some_and(is_oauth_code) {
            Self::OAuth
        } else if has("error") {
            Self::Gateway
        } else {
            Self::Other
        }
    }
}

/// RFC 6749's codes are lower case and underscores; "Bad Request" is some framework's.
fn is_oauth_code(code: &str) -> bool {
    !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// A text, or the number or truth value that stands where a text should.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(head(text, TEXT_BYTES).0.to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn params(value: Option<&Value>) -> BTreeMap<String, String> {
    let params = value.and_then(Value::as_object).into_iter().flatten().take(ITEMS);
    params.filter_map(|(name, value)| Some((head(name, TEXT_BYTES).0.to_owned(), text(value)?))).collect()
}

/// The entries of a JSON object, as many as can be read.
struct Entries<'a>(&'a mut Map<String, Value>);

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((name, value)) = map.next_entry()? {
            self.0.insert(name, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{
        "message": "Value [x] is not valid for field type [sortBy].", "code": "invalid.value", "status": 400,
        "messageWithParams": "Value [{value}] is not valid", "messageParams": {"value": "x", "n": 3, "o": {}},
        "contextId": "c-1", "entityId": "e-1", "entityName": "a script", "new": [{"in": "2030"}],
        "details": [{"errorCode": "invalid.value", "fieldName": "sortBy"}, "no object"],
        "errors": [{"code": "inner", "errors": [{"code": "innermost", "errors": [{"code": "too deep"}]}]}],
        "limit": {"key": "token.rate.per.minute", "namespace": "platform.api", "value": 300}
    }"#;

    fn envelope(text: &str) -> Envelope {
        ErrorBody::parse(text).envelope
    }

    #[test]
    fn the_services_body_is_read_whole() {
        let body = ErrorBody::parse(FULL);
        assert_eq!(body.envelope, Envelope::Service);
        assert_eq!((body.code(), body.status), (Some("invalid.value"), Some(400)));
        assert_eq!(body.message_params["value"], "x");
        assert_eq!(body.message_params["n"], "3");
        assert_eq!(body.details.len(), 1);
        assert_eq!(body.details[0].field_name.as_deref(), Some("sortBy"));
        assert_eq!(body.errors[0].errors[0].code(), Some("innermost"));
        assert!(body.errors[0].errors[0].errors.is_empty());
        assert_eq!(body.limit.unwrap().value, Some(300));
    }

    #[test]
    fn wrong_types_and_unknown_fields_cost_only_themselves() {
        let body = ErrorBody::parse(
            r#"{"status":"400","code":17,"message":["no"],"details":{"a":1},"errors":"x","limit":[],
                "messageParams":7,"contextId":null,"entityId":true}"#,
        );
        assert_eq!((body.status, body.code()), (Some(400), Some("17")));
        assert_eq!((body.message(), body.context_id.as_deref()), (None, None));
        assert!(body.details.is_empty() && body.errors.is_empty() && body.limit.is_none());
        for status in ["-1", "1e99", "99999999999999999999", "4.5", "[]"] {
            assert_eq!(ErrorBody::parse(&format!(r#"{{"status":{status}}}"#)).status, None, "{status}");
        }
    }

    #[test]
    fn text_that_is_cut_keeps_what_came_before() {
        for end in 0..FULL.len() {
            let body = ErrorBody::parse(&FULL[..end]);
            let has_code = end >= FULL.find(r#""invalid.value""#).unwrap() + r#""invalid.value""#.len();
            assert_eq!(body.code() == Some("invalid.value"), has_code, "cut at {end}");
        }
    }

    #[test]
    fn what_is_made_to_be_large_or_deep_costs_little() {
        let deep = format!(r#"{{"code":"bad.request","x":{}"#, "[".repeat(1_000_000));
        assert_eq!(ErrorBody::parse(&deep).code(), Some("bad.request"));
        let nested = r#"{"errors":["#.repeat(5000);
        assert_eq!(envelope(&nested), Envelope::Other);
        let many = format!(r#"{{"errors":[{}]}}"#, vec![r#"{"code":"a"}"#; 1000].join(","));
        assert_eq!(ErrorBody::parse(&many).errors.len(), ITEMS);
        let long = format!(r#"{{"message":"{}"}}"#, "é".repeat(20_000));
        assert!(ErrorBody::parse(&long).message().unwrap().len() <= TEXT_BYTES);
    }

    #[test]
    fn the_shape_tells_who_refused() {
        for text in [FULL, r#"{"message":"m","code":"c","status":400}"#, r#"{"message":"","code":"","contextId":"c"}"#]
        {
            assert_eq!(envelope(text), Envelope::Service, "{text}");
        }
        for text in [
            "<!DOCTYPE html><title>502</title>",
            "\u{FEFF}\n<html>",
            r#"{"code":"bad_request","message":"Invalid script definition"}"#,
            r#"{"message":"Forbidden"}"#,
            r#"{"timestamp":1,"status":400,"error":"Bad Request","path":"/x"}"#,
        ] {
            assert_eq!(envelope(text), Envelope::Gateway, "{text}");
        }
        for text in [
            r#"{"error":"invalid_client","description":"client not found","error_description":"client not found"}"#,
            r#"{"error":"invalid_grant"}"#,
            r#"{"error":"invalid_request","error_description":"rate limit exceeded; try later"}"#,
        ] {
            assert_eq!(envelope(text), Envelope::OAuth, "{text}");
        }
        for text in ["", " \r\n\t"] {
            assert_eq!(envelope(text), Envelope::Empty, "{text:?}");
        }
        for text in ["upstream connect error", "[]", "null", "400", r#""bad_request""#, "{}", r#"{"x":1}"#, "\u{0}"] {
            assert_eq!(envelope(text), Envelope::Other, "{text:?}");
        }
    }

    #[test]
    fn the_token_endpoints_words_are_code_and_message() {
        let both = r#"{"error":"invalid_client","description":"old","error_description":"new"}"#;
        let body = ErrorBody::parse(both);
        assert_eq!((body.code(), body.message()), (Some("invalid_client"), Some("new")));
        let body = ErrorBody::parse(r#"{"error":"invalid_client","description":"client not found"}"#);
        assert_eq!(body.message(), Some("client not found"));
    }

    #[test]
    fn debug_shows_nothing_that_a_terminal_obeys() {
        let body = ErrorBody::parse(r#"{"message":"\u001b[31mred\u202E","code":"a\nb"}"#);
        let shown = format!("{body:?}");
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202E}'), "{shown:?}");
    }
}
