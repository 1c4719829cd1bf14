//! What the service sends, as it is documented, read tolerantly.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::signed_url::SignedUrl;
use crate::error::ErrorBody;
use crate::id::{DivisionId, PageId, ScriptId, VersionId};
use crate::json::{Items, Json, object};

/// A script. Everything but the id may be absent; what of it a listing fills in is not documented. A field or a page that
/// cannot be read costs itself, and is told as a `tracing` warning.
///
/// Keys that are none of these fields (an exported script can have `workItems`, say) are not kept here, nor written when it is
/// serialized. The whole of a script, byte for byte, is its file: [`Agent::export_file`](crate::Agent::export_file) gives it
/// as a [`ScriptFile`](crate::ScriptFile), whose [`decode`](crate::ScriptFile::decode) reads it as a type of your own or as
/// `serde_json::Value`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Script {
    /// The globally unique identifier.
    pub id: ScriptId,
    /// Its name; names are not unique.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The division it belongs to.
    #[serde(default, deserialize_with = "part", skip_serializing_if = "Option::is_none")]
    pub division: Option<Division>,
    /// The version this is.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub version_id: Option<VersionId>,
    /// When it was created.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub created_date: Option<DateTime<Utc>>,
    /// When it was last changed.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub modified_date: Option<DateTime<Utc>>,
    /// When it was last published.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub published_date: Option<DateTime<Utc>>,
    /// When this version was made.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub version_date: Option<DateTime<Utc>>,
    /// The page it starts on.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub start_page_id: Option<PageId>,
    /// The name of the page it starts on.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
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
    /// Its pages, as far as they can be read ([`Items::skipped`] counts the others); listings leave them out.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub pages: Items<Page>,
    /// Its URI.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub self_uri: Option<String>,
}

/// A page of a script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Page {
    /// The identifier, for [`Agent::script_page`](crate::Agent::script_page).
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub id: Option<PageId>,
    /// Its name.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The version of the script it is of.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub version_id: Option<VersionId>,
    /// When it was created.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub created_date: Option<DateTime<Utc>>,
    /// When it was last changed.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub modified_date: Option<DateTime<Utc>>,
    /// Free-form: the layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_container: Option<Json>,
    /// Free-form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<Json>,
    /// Its URI.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub self_uri: Option<String>,
}

/// A division.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Division {
    /// The identifier.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub id: Option<DivisionId>,
    /// Its name.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its URI.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub self_uri: Option<String>,
}

/// One page of a list of scripts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ScriptListing {
    /// The scripts, as far as they can be read ([`Items::skipped`] counts the others).
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub entities: Items<Script>,
    /// How many scripts a page has.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub page_size: Option<i32>,
    /// Which page this is, counted from 1.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub page_number: Option<i32>,
    /// How many scripts there are on all pages.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// How many pages there are.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub page_count: Option<i32>,
    /// Whether there were more divisions than the service looks through.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub truncated_divisions: Option<bool>,
    /// The first page's URI.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub first_uri: Option<String>,
    /// The next page's URI.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub next_uri: Option<String>,
    /// The previous page's URI.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub previous_uri: Option<String>,
    /// The last page's URI.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub last_uri: Option<String>,
    /// This page's URI.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub self_uri: Option<String>,
}

/// Where an export can be downloaded.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ExportResponse {
    /// The URL, for [`Agent::download_export`](crate::Agent::download_export).
    #[serde(default, deserialize_with = "lenient")]
    pub url: Option<SignedUrl>,
}

/// How far an upload has come.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "super::progress::Told")]
#[non_exhaustive]
pub struct ImportStatus {
    /// Whether the script was imported. Absent while that is not known; `false` with neither message nor errors means "not
    /// yet", as [`Agent::wait_for_import`](crate::Agent::wait_for_import) takes it.
    pub succeeded: Option<bool>,
    /// What the service has to say about it.
    pub message: Option<String>,
    /// What was wrong with the file, in whatever form and place the service says it; it documents none.
    pub errors: Vec<ErrorBody>,
    /// What this leads to is not documented; treated like an export's URL.
    pub url: Option<SignedUrl>,
}

/// A part that should be an object; one that is none costs itself.
fn part<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let json = Box::<RawValue>::deserialize(deserializer)?;
    let part = object(&json);
    if part.is_none() && json.get() != "null" {
        left_out::<T>();
    }
    Ok(part)
}

fn left_out<T>() {
    tracing::warn!(expected = std::any::type_name::<T>(), "a field of the service cannot be read and was left out");
}

/// A value by its text, whatever JSON it came as. One that cannot be read costs nobody the script: it is absent.
pub(super) fn lenient<'de, D: Deserializer<'de>, T: FromStr>(deserializer: D) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(Lenient(PhantomData))
}

struct Lenient<T>(PhantomData<T>);

impl<T: FromStr> Lenient<T> {
    fn read(text: &str) -> Option<T> {
        let value = text.parse().ok();
        if value.is_none() {
            left_out::<T>();
        }
        value
    }
}

impl<'de, T: FromStr> Visitor<'de> for Lenient<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<T>, E> {
        Ok(Self::read(text))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Option<T>, E> {
        Ok(Self::read(if value { "true" } else { "false" }))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Option<T>, E> {
        Ok(Self::read(&value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Option<T>, E> {
        Ok(Self::read(&value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Option<T>, E> {
        Ok(Self::read(&value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Option<T>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<T>, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        left_out::<T>();
        Ok(None)
    }

    /// Also a number, where serde_json's `arbitrary_precision` is on somewhere in the build.
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Option<T>, A::Error> {
        let mut number = None;
        while let Some(key) = entries.next_key::<String>()? {
            if key == "$serde_json::private::Number" {
                number = entries.next_value::<serde_json::Value>()?.as_str().map(str::to_owned);
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        if number.is_none() {
            left_out::<T>();
        }
        Ok(number.and_then(|number| Self::read(&number)))
    }
}
