//! JSON from the service: kept as it came where nobody promises its shape, else decoded, and why it could not be.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::answer::Answer;
use crate::error::{Error, ErrorBody, ErrorKind};
use crate::request::Spec;
use crate::text::{redact, shown};

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

/// The answer's body as the object it should be.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, spec: &Spec<'_>, answer: &Answer) -> Result<T, Error> {
    let Object(model) = decode_any(what, spec, answer)?;
    Ok(model)
}

/// The answer's body as whatever JSON it should be.
pub(crate) fn decode_any<T: DeserializeOwned>(what: &str, spec: &Spec<'_>, answer: &Answer) -> Result<T, Error> {
    serde_json::from_slice(&answer.body).map_err(|error| undecodable(what, spec, answer, error))
}

/// A model that is an object. Derived, it would take an array as well, for its fields in their order.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData)).map(Object)
    }
}

/// A success that is not what it should be.
pub(crate) fn undecodable(what: &str, spec: &Spec<'_>, answer: &Answer, error: serde_json::Error) -> Error {
    let shape = match answer.body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => "is empty",
        Some(b'<') => "is HTML or XML",
        Some(b'[') => "is a JSON array that does not fit",
        Some(b'{') => "is a JSON object that does not fit",
        Some(_) => "is no JSON that fits",
    };
    // Both the decoder's words and the answer's own can repeat what the answer says.
    let secrets: Vec<&str> = answer.token().into_iter().collect();
    let what = format!(
        "the answer should be {what}, but {shape} ({} bytes): {}",
        answer.body.len(),
        shown(&redact(&error.to_string(), &secrets))
    );
    let correlation_id = answer.correlation_id().map(|id| redact(id, &secrets).into());
    let error = Error::new(ErrorKind::UnexpectedAnswer, what)
        .with_answer(answer.status, correlation_id)
        .maybe_sent(true)
        .ended(spec.operation.name, spec.subject, answer.attempts, answer.elapsed);
    let head = answer.body.get(..answer.body.len().min(4096)).unwrap_or_default();
    let body = std::str::from_utf8(head).ok().map(|text| ErrorBody::parse(&redact(text, &secrets)));
    match body.filter(|body| body.code().is_some() || body.message().is_some()) {
        Some(body) => error.with_body(body),
        None => error,
    }
}
