//! `.script` files: exported scripts, kept as they are.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::model::lenient;
use crate::error::Error;
use crate::id::{PageId, ScriptId, VersionId};

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
    /// Reads a file's bytes. Only a byte order mark, which JSON does not have, is left out.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when it is no JSON object in UTF-8.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, Error> {
        std::str::from_utf8(bytes)
            .map_err(|error| Error::invalid_input(format!("the script file is not UTF-8: {error}")))?
            .parse()
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

    /// All of it, as any type that can be decoded from JSON: [`Script`](crate::Script), or one of your own.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UnexpectedAnswer`](crate::ErrorKind::UnexpectedAnswer) when it is of another shape.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.text).map_err(Error::other_shape)
    }

    /// The bytes to send, not copied.
    pub(super) fn bytes(&self) -> Bytes {
        Bytes::from_owner(Text(Arc::clone(&self.text)))
    }

    /// Why it is none, in the parser's words.
    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
        if text.trim_start().starts_with('[') {
            return Err(serde::de::Error::custom("an array, where an object should be"));
        }
        let head = serde_json::from_str(text)?;
        Ok(Self { text: text.into(), head: Arc::new(head) })
    }
}

struct Text(Arc<str>);

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl FromStr for ScriptFile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text).map_err(|error| Error::invalid_input(format!("the script file is no JSON object: {error}")))
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
