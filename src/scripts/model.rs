//! What the service sends, as it is documented, read tolerantly.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::error::Error;
use crate::id::ScriptId;

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

/// A script (contract §2). Everything but the id may be absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Script {
    /// The globally unique identifier.
    pub id: ScriptId,
    /// Its name; names are not unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The division it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub division: Option<Division>,
    /// The version this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// When it was created.
    #[serde(default, deserialize_with = "date", skip_serializing_if = "Option::is_none")]
    pub created_date: Option<DateTime<Utc>>,
    /// When it was last changed.
    #[serde(default, deserialize_with = "date", skip_serializing_if = "Option::is_none")]
    pub modified_date: Option<DateTime<Utc>>,
    /// When it was last published.
    #[serde(default, deserialize_with = "date", skip_serializing_if = "Option::is_none")]
    pub published_date: Option<DateTime<Utc>>,
    /// When this version was made.
    #[serde(default, deserialize_with = "date", skip_serializing_if = "Option::is_none")]
    pub version_date: Option<DateTime<Utc>>,
    /// The page it starts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_page_id: Option<String>,
    /// The name of the page it starts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_page_name: Option<String>,
    /// Free-form: which features are switched on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Json>,
    /// Free-form: an object by the documented schema, an array in exported scripts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variables: Option<Json>,
    /// Free-form: an object by the documented schema, an array in exported scripts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_actions: Option<Json>,
    /// Its pages; listings leave them out.
    #[serde(default, deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<Page>,
    /// Its URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_uri: Option<String>,
}

/// A page of a script (contract §2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Page {
    /// The identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The version of the script it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// When it was created.
    #[serde(default, deserialize_with = "date", skip_serializing_if = "Option::is_none")]
    pub created_date: Option<DateTime<Utc>>,
    /// When it was last changed.
    #[serde(default, deserialize_with = "date", skip_serializing_if = "Option::is_none")]
    pub modified_date: Option<DateTime<Utc>>,
    /// Free-form: the layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_container: Option<Json>,
    /// Free-form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<Json>,
    /// Its URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_uri: Option<String>,
}

/// A division (contract §2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Division {
    /// The identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its URI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_uri: Option<String>,
}

/// ISO 8601 with or without a fraction. A date that is none costs nobody the script: it reads as absent.
fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
    Ok(text.and_then(|text| match DateTime::parse_from_rfc3339(&text) {
        Ok(date) => Some(date.to_utc()),
        Err(_) => {
            tracing::warn!("a date of the service is not ISO 8601 and was left out");
            None
        }
    }))
}

/// `null` is an empty list.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
