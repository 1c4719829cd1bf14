//! JSON from the service: kept as it came where nobody promises its shape, else decoded, and why it could not be.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::answer::Answer;
use crate::coding;
use crate::error::{Error, ErrorBody, ErrorKind};
use crate::request::Spec;
use crate::text::{quoted, redact, secrets_of, shown};

/// How much is read of what is not what it should be.
const READ_BYTES: usize = 64 * 1024;

/// A part whose shape the service does not promise: kept as the JSON it came as, decoded when asked.
///
/// ```
/// # use genesys_scripts::Json;
/// let variables: Json = serde_json::from_str(r#"[{"name": "greeting"}]"#)?;
/// #[derive(serde::Deserialize)]
/// struct Variable { name: String }
/// assert_eq!(variables.decode::<Vec<Variable>>().unwrap()[0].name, "greeting");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Arc<RawValue>);

impl Json {
    /// The JSON text, as it came.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The value, as any type that can be decoded from JSON.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnexpectedAnswer`](crate::ErrorKind::UnexpectedAnswer) when it is of another shape.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(self.as_str()).map_err(Error::other_shape)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for Json {
    /// Equal text; the same value in other spelling is not equal.
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// The answer's body as the model it should be.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, spec: &Spec<'_>, answer: &Answer) -> Result<T, Error> {
    serde_json::from_slice(&answer.body).map_err(|error| undecodable(what, spec, answer, error))
}

/// A success that is not what it should be.
pub(crate) fn undecodable(what: &str, spec: &Spec<'_>, answer: &Answer, error: serde_json::Error) -> Error {
    // Both the decoder's words and the answer's own can repeat what the answer says.
    let of_url = spec.address.map(secrets_of).unwrap_or_default();
    let secrets: Vec<&str> = answer.token().into_iter().chain(of_url.iter().map(String::as_str)).collect();
    let decoder = shown(&redact(&error.to_string(), &secrets));
    let what =
        format!("the answer should be {what}, but {} ({} bytes): {decoder}", came(answer, &secrets), answer.body.len());
    unexpected(what, spec, answer, &secrets)
}

/// The error that a success is, which says all that the answer does, and none of the secrets.
pub(crate) fn unexpected(what: String, spec: &Spec<'_>, answer: &Answer, secrets: &[&str]) -> Error {
    let correlation_id = answer.correlation_id().map(|id| redact(id, secrets).into());
    let error = Error::new(ErrorKind::UnexpectedAnswer, what)
        .with_answer(answer.status, correlation_id)
        .maybe_sent(true)
        .ended(spec.operation.name, spec.subject, answer.attempts, answer.elapsed);
    let body = ErrorBody::parse(&redact(&beginning(answer), secrets));
    match body.code().is_some() || body.message().is_some() {
        true => error.with_body(body),
        false => error,
    }
}

/// What came instead, for after "but".
pub(crate) fn came(answer: &Answer, secrets: &[&str]) -> String {
    let shape = match (answer.body.iter().find(|byte| !byte.is_ascii_whitespace()), answer.body.as_ref()) {
        (None, _) => "is empty".to_owned(),
        (_, [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, b' '..=b'~', ..] | [b' '..=b'~', 0, ..]) => {
            "is UTF-16, where JSON is UTF-8".to_owned()
        }
        (Some(b'<'), _) => match title(&beginning(answer)) {
            Some(title) => format!("is an HTML page, {}", quoted(&redact(title, secrets))),
            None => "is HTML or XML".to_owned(),
        },
        (Some(b'['), _) => "is a JSON array that does not fit".to_owned(),
        (Some(b'{'), _) => "is a JSON object that does not fit".to_owned(),
        (Some(_), _) => "is no JSON that fits".to_owned(),
    };
    match coding::unknown(&answer.headers) {
        Some(coding) => {
            let coding = quoted(&redact(&coding, secrets));
            format!("{shape}: its Content-Encoding is {coding}, which was not asked for and is not undone")
        }
        None => shape,
    }
}

/// As much of the body as is read of what is not what it should be.
fn beginning(answer: &Answer) -> Cow<'_, str> {
    String::from_utf8_lossy(answer.body.get(..answer.body.len().min(READ_BYTES)).unwrap_or_default())
}

fn title(page: &str) -> Option<&str> {
    let start = page.to_ascii_lowercase().find("<title")?;
    let title = page.get(start..)?.split_once('>')?.1.split('<').next()?.trim();
    (!title.is_empty()).then_some(title)
}
