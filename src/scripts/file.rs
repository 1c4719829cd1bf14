//! `.script` files: exported scripts, kept as they are.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::model::{Page, lenient};
use crate::error::Error;
use crate::id::{PageId, ScriptId, VersionId};
use crate::json::{Items, Json, read};
use crate::text::{quoted, shown};

/// An exported script, as a `.script` file holds it: JSON, kept byte for byte, so that what is exported,
/// stored and imported again loses nothing.
///
/// ```
/// use genesys_scripts::ScriptFile;
///
/// let text = r#"{"id": "0e2c", "name": "Inbound", "variables": [], "of a later version": 1.0}"#;
/// let file: ScriptFile = text.parse()?;
/// assert_eq!(file.name(), Some("Inbound"));
/// assert_eq!(file.as_str(), text);
/// # Ok::<(), genesys_scripts::Error>(())
/// ```
#[derive(Clone)]
pub struct ScriptFile {
    text: Arc<str>,
    head: Arc<Head>,
}

/// What identifies it. The file's dates and versions are those of its export.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default, deserialize_with = "lenient")]
    id: Option<ScriptId>,
    #[serde(default, deserialize_with = "lenient")]
    name: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    organization_id: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    version_id: Option<VersionId>,
    #[serde(default, deserialize_with = "lenient")]
    start_page_id: Option<PageId>,
    #[serde(default, deserialize_with = "lenient")]
    created_date: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "lenient")]
    modified_date: Option<DateTime<Utc>>,
}

impl ScriptFile {
    /// Reads a file's bytes. Only a byte order mark, which JSON does not have, is left out: line ends, blanks and what a
    /// later version of the service wrote stay as they are. It may be written by hand, with no ids at all.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when it is no JSON object in UTF-8; of UTF-16, how to save
    /// it.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        Self::read(bytes).map_err(|error| {
            Error::invalid_input(format!("the script file cannot be used: {}", shown(&error.to_string())))
        })
    }

    /// The file's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The script's id, where it was exported.
    #[must_use]
    pub fn id(&self) -> Option<&ScriptId> {
        self.head.id.as_ref()
    }

    /// The script's name, where it was exported.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.head.name.as_deref()
    }

    /// The organisation it was exported from.
    #[must_use]
    pub fn organization_id(&self) -> Option<&str> {
        self.head.organization_id.as_deref()
    }

    /// The version that was exported.
    #[must_use]
    pub fn version_id(&self) -> Option<&VersionId> {
        self.head.version_id.as_ref()
    }

    /// The page it starts on.
    #[must_use]
    pub fn start_page_id(&self) -> Option<&PageId> {
        self.head.start_page_id.as_ref()
    }

    /// When it was created.
    #[must_use]
    pub fn created_date(&self) -> Option<DateTime<Utc>> {
        self.head.created_date
    }

    /// When it was last changed.
    #[must_use]
    pub fn modified_date(&self) -> Option<DateTime<Utc>> {
        self.head.modified_date
    }

    /// All of it, as any type that can be decoded from JSON: [`ScriptContent`], where nothing is required;
    /// [`Script`](crate::Script), which has an id, as every exported one does; or one of your own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnexpectedAnswer`](crate::ErrorKind::UnexpectedAnswer) when it is of another shape.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        read(self.text.as_bytes()).map_err(Error::other_shape)
    }

    /// The bytes to send, not copied.
    pub(super) fn bytes(&self) -> Bytes {
        Bytes::from_owner(self.clone())
    }

    /// The name to import it under, where no other is given.
    pub(super) fn name_to_import(&self) -> Result<&str, Error> {
        let name = self.name().unwrap_or_default();
        match unfilled(name) {
            Some(placeholder) => Err(Error::invalid_input(format!(
                "the file's name, {}, is a template that was never filled in ({}): nothing was sent; give the import a name \
                 (`ImportScript::name`), or fill in the file's",
                quoted(name),
                quoted(placeholder)
            ))),
            None => Ok(name),
        }
    }

    /// Why it is none, in the parser's words.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        if is_utf_16(bytes) {
            return Err(serde::de::Error::custom(
                "it is UTF-16, as some shells and editors write files: save it as UTF-8 (PowerShell: `Out-File -Encoding utf8`), \
                 or export it again",
            ));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| serde::de::Error::custom(format_args!("it is not UTF-8, save it as that: {error}")))?;
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        if text.trim_start().starts_with('[') {
            return Err(serde::de::Error::custom("an array, where an object should be"));
        }
        let head = read(text.as_bytes())?;
        Ok(Self { text: text.into(), head: Arc::new(head) })
    }
}

/// By its byte order mark, or by the zeros that it has for every other byte of JSON.
fn is_utf_16(bytes: &[u8]) -> bool {
    matches!(bytes, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, 1..=0xFF, ..] | [1..=0xFF, 0, ..])
}

/// What in a name some tool should have put a value for. A brace alone is nobody's template.
fn unfilled(name: &str) -> Option<&str> {
    let within = [("{{", "}}"), ("${", "}"), ("#{", "}"), ("$(", ")"), ("<%", "%>"), ("{%", "%}")];
    let found = within.iter().find_map(|(open, close)| {
        let start = name.find(open)?;
        let inner = name.get(start + open.len()..)?;
        let length = inner.find(close)?;
        let filled_by = inner.get(..length)?.trim_matches([' ', '=', '-', '{']);
        is_variable(filled_by).then(|| name.get(start..start + open.len() + length + close.len()))?
    });
    // These could be part of an honest name, so they must be all of it.
    let whole = [("<", ">"), ("%", "%"), ("__", "__"), ("@@", "@@"), ("@", "@")];
    let is_word = |text: &str| text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let is_whole = |(open, close): &(&str, &str)| {
        let inner = name.trim().strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        inner.is_some_and(|inner| is_variable(inner) && is_word(inner))
    };
    found.or_else(|| whole.iter().any(is_whole).then_some(name))
}

/// What a template names: a word, and what may be done to it (`name | upper`).
fn is_variable(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '.' | '$'))
}

/// What a script file holds, whoever wrote it: nothing is required. What is not named here is in
/// [`ScriptFile::as_str`], as it came.
///
/// ```
/// use genesys_scripts::{ScriptContent, ScriptFile};
///
/// let by_hand: ScriptFile = r#"{"name": "Inbound", "pages": [{"name": "Start"}]}"#.parse()?;
/// let content: ScriptContent = by_hand.decode()?;
/// assert_eq!((content.id, content.pages.len()), (None, 1));
/// # Ok::<(), genesys_scripts::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ScriptContent {
    /// The script's id, where it was exported.
    #[serde(default, deserialize_with = "lenient")]
    pub id: Option<ScriptId>,
    /// Its name.
    #[serde(default, deserialize_with = "lenient")]
    pub name: Option<String>,
    /// The version that was exported.
    #[serde(default, deserialize_with = "lenient")]
    pub version_id: Option<VersionId>,
    /// The page it starts on.
    #[serde(default, deserialize_with = "lenient")]
    pub start_page_id: Option<PageId>,
    /// Free-form: which features are switched on.
    pub features: Option<Json>,
    /// Free-form: an array in exported files.
    pub variables: Option<Json>,
    /// Free-form: an array in exported files.
    pub custom_actions: Option<Json>,
    /// Its pages, as far as they can be read ([`Items::skipped`] counts the others).
    #[serde(default)]
    pub pages: Items<Page>,
}

impl FromStr for ScriptFile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::from_slice(text.as_bytes())
    }
}

impl AsRef<[u8]> for ScriptFile {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl PartialEq for ScriptFile {
    /// Equal bytes; the same script in other spelling is not equal.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for ScriptFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptFile")
            .field("id", &self.head.id)
            .field("name", &self.head.name)
            .field("bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}
