//! JSON from the service: kept as it came where nobody promises its shape, else decoded, and why it could not be.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;
use std::{fmt, slice, vec};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::answer::Answer;
use crate::coding;
use crate::error::body::READ_BYTES;
use crate::error::{Envelope, Error, ErrorBody, ErrorKind};
use crate::request::{OnHost, Spec};
use crate::text::{quoted, redact, shown, without_halves};

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
        read(self.as_str().as_bytes()).map_err(Error::other_shape)
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

/// A list of the service, as far as it can be read: what cannot be read costs itself, and is counted.
///
/// It is read like a slice, and left out with a `tracing` warning is what is no object, or has no id where it must have one.
///
/// ```
/// use genesys_scripts::{Items, Page};
///
/// let pages: Items<Page> = serde_json::from_str(r#"[{"name": "Start"}, null, "of another type"]"#)?;
/// assert_eq!((pages.len(), pages.skipped()), (1, 2));
/// assert_eq!(pages[0].name.as_deref(), Some("Start"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Items<T> {
    items: Vec<T>,
    skipped: usize,
}

impl<T> Items<T> {
    /// How many there were that cannot be read, and are not here. A list that is of another type altogether counts as one.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// Keeps those of which it is true.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.items.retain(keep);
    }

    fn warn(&self) {
        if self.skipped > 0 {
            let of = std::any::type_name::<T>();
            tracing::warn!(
                of,
                skipped = self.skipped,
                read = self.items.len(),
                "a list has items that cannot be read; they were left out"
            );
        }
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Box::<RawValue>::deserialize(deserializer)?;
        let mut read = Self::default();
        match serde_json::from_str::<Vec<&RawValue>>(list.get()) {
            Ok(rows) => {
                read.items.extend(rows.iter().filter_map(|row| object(row)));
                read.skipped = rows.len() - read.items.len();
            }
            Err(_) => read.skipped = usize::from(list.get() != "null"),
        }
        read.warn();
        Ok(read)
    }
}

/// What should be an object, if it is one and can be read. Serde would take an array for a struct, too.
pub(crate) fn object<T: DeserializeOwned>(json: &RawValue) -> Option<T> {
    let json = json.get();
    json.starts_with('{').then(|| read(json.as_bytes()).ok()).flatten()
}

/// JSON in which a character may be cut in half, as a name is that was shortened, a member may come twice, or a number may be out of
/// range: where it cannot be read for that, the half is read as U+FFFD, the last of the members counts, and the number is left out.
pub(crate) fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(json).or_else(|error| {
        let whole = without_halves(json);
        let whole = whole.as_deref().unwrap_or(json);
        let sound = sound_members(whole);
        serde_json::from_slice(sound.as_deref().unwrap_or(whole)).map_err(|_| error)
    })
}

/// An object with the last of each of its members, as it was written; what is in them is read by itself.
fn sound_members(json: &[u8]) -> Option<Vec<u8>> {
    let mut members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(json).ok()?;
    members.retain(|_, value| value.get().parse().map_or(true, f64::is_finite));
    serde_json::to_vec(&members).ok()
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self { items: Vec::new(), skipped: 0 }
    }
}

impl<T> Deref for Items<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> IntoIterator for Items<T> {
    type Item = T;
    type IntoIter = vec::IntoIter<T>;

    fn into_iter(self) -> vec::IntoIter<T> {
        self.items.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Items<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> slice::Iter<'a, T> {
        self.items.iter()
    }
}

impl<T> From<Items<T>> for Vec<T> {
    fn from(read: Items<T>) -> Self {
        read.items
    }
}

impl<T: Serialize> Serialize for Items<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.items.serialize(serializer)
    }
}

impl<T: fmt::Debug> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.items.fmt(f)
    }
}

/// The answer's body as the model it should be, of an object.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, spec: &Spec<'_>, answer: &Answer) -> Result<T, Error> {
    shaped(Some(b'{'), what, spec, answer)
}

/// The same of a model that may lack any of its parts: where it `is_blank`, an error may have come as a success, or something
/// that has none of the `known` members.
pub(crate) fn decode_unless_error<T: DeserializeOwned>(
    known: &[&str],
    is_blank: impl FnOnce(&T) -> bool,
    what: &str,
    spec: &Spec<'_>,
    answer: &Answer,
) -> Result<T, Error> {
    let model = decode(what, spec, answer)?;
    let is_known = |member: &String| known.iter().any(|known| known.eq_ignore_ascii_case(member));
    let is_other = || {
        members(&answer.body).is_some_and(|members| {
            let is_foreign = !known.is_empty() && !members.is_empty() && !members.iter().any(is_known);
            is_foreign || tell_an_error(&members)
        })
    };
    if is_blank(&model) && is_other() { Err(misshapen(what, spec, answer, None)) } else { Ok(model) }
}

/// A success of which nothing is read, if it does not tell an error all the same, and is not what something else says that
/// stands before the service.
pub(crate) fn done(spec: &Spec<'_>, answer: &Answer) -> Result<(), Error> {
    let body = answer.body.trim_ascii();
    let is_foreign = !body.is_empty() && serde_json::from_slice::<IgnoredAny>(body).is_err();
    let refuses = said(body).is_some_and(|said| said.status >= Some(400));
    if is_foreign || refuses || has_code(body) {
        return Err(misshapen("an acknowledgement", spec, answer, None));
    }
    Ok(())
}

/// A JSON object, read as an error's, unless it is longer than those are.
fn said(body: &[u8]) -> Option<ErrorBody> {
    let object = body.trim_ascii().first() == Some(&b'{') && body.len() < READ_BYTES;
    object.then(|| ErrorBody::parse(&String::from_utf8_lossy(body)))
}

/// Whether it is a JSON object that tells an error, whoever's, and nothing that was listed.
fn is_error(body: &[u8]) -> bool {
    members(body).is_some_and(|members| tell_an_error(&members))
}

/// The same of an answer that has none of the members by which what was asked for is known.
pub(crate) fn is_error_without(known: &[&str], body: &[u8]) -> bool {
    let is_known = |member: &String| known.iter().any(|known| known.eq_ignore_ascii_case(member));
    members(body).is_some_and(|members| tell_an_error(&members) && !members.iter().any(is_known))
}

fn tell_an_error(members: &HashSet<String>) -> bool {
    const WORDS: [&str; 9] =
        ["code", "error", "errors", "fault", "message", "msg", "errormessage", "errorsummary", "faultstring"];
    let has = |name: &str| members.contains(name);
    // Problem details, as RFC 9457 has them.
    let is_problem = has("status") && (has("title") || has("detail"));
    (is_problem || WORDS.into_iter().any(has)) && !has("entities")
}

/// The same where a message may be of a success.
pub(crate) fn has_code(body: &[u8]) -> bool {
    members(body).is_some_and(|members| ["code", "error", "fault"].into_iter().any(|name| members.contains(name)))
}

/// The names of a JSON object's members, in lower case.
fn members(body: &[u8]) -> Option<HashSet<String>> {
    let object: HashMap<String, IgnoredAny> = serde_json::from_slice(body).ok()?;
    Some(object.into_keys().map(|member| member.to_ascii_lowercase()).collect())
}

/// The answer's body as the list it should be.
pub(crate) fn decode_list<T: DeserializeOwned>(
    what: &str,
    spec: &Spec<'_>,
    answer: &Answer,
) -> Result<Items<T>, Error> {
    shaped(Some(b'['), what, spec, answer)
}

/// The answer's body as it is, if it is JSON.
pub(crate) fn decode_any(what: &str, spec: &Spec<'_>, answer: &Answer) -> Result<Json, Error> {
    shaped(None, what, spec, answer)
}

/// The same where the service's own error may have come as a success. What else it may be is not known, so it is let be.
pub(crate) fn decode_any_unless_error(what: &str, spec: &Spec<'_>, answer: &Answer) -> Result<Json, Error> {
    let refuses = |said: ErrorBody| said.envelope == Envelope::Service && said.status >= Some(400);
    match said(&answer.body).is_some_and(refuses) {
        true => Err(misshapen(what, spec, answer, None)),
        false => decode_any(what, spec, answer),
    }
}

fn shaped<T: DeserializeOwned>(begins: Option<u8>, what: &str, spec: &Spec<'_>, answer: &Answer) -> Result<T, Error> {
    let first = answer.body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_none() || begins.is_some() && first.copied() != begins {
        return Err(misshapen(what, spec, answer, None));
    }
    read(&answer.body).map_err(|error| misshapen(what, spec, answer, Some(&error)))
}

/// The error that a success is which is not what it should be, with the decoder's words where it came to that.
pub(crate) fn misshapen(what: &str, spec: &Spec<'_>, answer: &Answer, decoder: Option<&serde_json::Error>) -> Error {
    // Both the decoder's words and the answer's own can repeat what the answer says.
    let of_url = spec.secrets();
    let secrets: Vec<&str> = answer.token().into_iter().chain(of_url.iter().map(String::as_str)).collect();
    let came = format!("{} ({} bytes)", came(answer, &secrets), answer.body.len());
    let why = match decoder.filter(|_| !is_error(&answer.body)) {
        Some(decoder) => format!("the answer should be {what}, but {came} that does not fit: {decoder}"),
        None => format!("the answer should be {what}, but {came}"),
    };
    unexpected(&why, spec, answer, &secrets)
}

/// The error that a success is which is not to be believed, and why: it says all that the answer does, and none of the secrets.
pub(crate) fn unexpected(why: &str, spec: &Spec<'_>, answer: &Answer, secrets: &[&str]) -> Error {
    let correlation_id = answer.correlation_id().map(|id| redact(id, secrets).into());
    let error = Error::new(ErrorKind::UnexpectedAnswer, shown(&redact(why, secrets)))
        .with_answer(answer.status, correlation_id)
        .maybe_sent(true)
        .ended(spec.operation.name, spec.named().as_deref(), answer.attempts, answer.elapsed);
    let mut body = ErrorBody::read(&answer.headers, &answer.body, secrets);
    // What a login answers may be a token in a form that was not expected, and other JSON what was asked for: only a refusal is
    // quoted, and of a login's only what is known to be words.
    if spec.operation.host == OnHost::Login {
        body.text = None;
        body.heard.aside.clear();
    }
    let quotable = match (spec.operation.host, answer.body.trim_ascii().first()) {
        (OnHost::Login, _) => body.is_error_envelope(),
        (_, Some(b'{' | b'[' | b'"')) => is_error(&answer.body),
        _ => body.code().is_some() || body.message().is_some(),
    };
    match quotable {
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
        (Some(b'['), _) => "is a JSON array".to_owned(),
        (Some(b'{'), body) if is_error(body) => "is an error".to_owned(),
        (Some(b'{'), _) => "is a JSON object".to_owned(),
        (Some(b'"'), _) => "is a JSON string".to_owned(),
        (Some(b'0'..=b'9' | b'-'), _) => "is a number".to_owned(),
        (Some(_), body) => match body.trim_ascii() {
            b"null" => "is null".to_owned(),
            b"true" | b"false" => "is true or false alone".to_owned(),
            _ => "is no JSON".to_owned(),
        },
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io;
    use std::sync::{LazyLock, Mutex};

    use super::*;
    use crate::{Page, ScriptListing};

    /// What is traced while it runs, in this thread.
    fn traced(run: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        // With one subscriber alone, `tracing` asks only the thread that meets a place first, and that may be another test's.
        static SECOND: LazyLock<tracing::Dispatch> = LazyLock::new(|| tracing_subscriber::registry().into());
        LazyLock::force(&SECOND);
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, run);
        let lines = lines.0.lock().unwrap();
        String::from_utf8_lossy(&lines).into_owned()
    }

    #[test]
    fn what_is_left_out_is_told_once_a_list_with_its_number() {
        let told = traced(|| {
            let page = r#"{"entities":[null,{"id":"a"},7,{"name":"no id"}],"nextUri":null}"#;
            assert_eq!(serde_json::from_str::<ScriptListing>(page).unwrap().entities.skipped(), 3);
        });
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains("WARN") && told.contains("skipped=3") && told.contains("read=1"), "{told}");
        let quiet = traced(|| assert_eq!(serde_json::from_str::<Items<Page>>("[{},{}]").unwrap().len(), 2));
        assert_eq!(quiet, "");
    }
}
