//! A `.script` file, and the answers made of it: their ids, their dates.

use std::collections::BTreeMap;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::library::{Division, Snapshot};

/// What the service reads in a `.script` file. The rest is kept, and unknown to it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct File<'a> {
    pub(super) name: Option<String>,
    start_page_id: Option<String>,
    #[serde(borrow)]
    features: Option<&'a RawValue>,
    #[serde(borrow)]
    variables: Option<&'a RawValue>,
    #[serde(borrow)]
    custom_actions: Option<&'a RawValue>,
    #[serde(borrow)]
    pages: Vec<FilePage<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FilePage<'a> {
    id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    root_container: Option<&'a RawValue>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
}

impl<'a> File<'a> {
    /// None where the bytes are no script.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        // Serde would take an array for a struct too.
        let object = bytes.trim_ascii_start().first() == Some(&b'{');
        if object { serde_json::from_slice(bytes).ok() } else { None }
    }

    pub(super) fn has_feature(&self, name: &str) -> bool {
        let features: BTreeMap<String, Value> = self.features.and_then(parse).unwrap_or_default();
        let found = features.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.and_then(|(_, feature)| feature.pointer("/properties/enabled/value")).and_then(Value::as_bool)
            == Some(true)
    }

    /// Whether an action of the script starts the secure flow.
    pub(super) fn uses_flow(&self, flow_id: &str) -> bool {
        self.custom_actions.is_some_and(|actions| actions.get().contains(flow_id))
    }

    /// The variables, whether they are kept as an array or as an object.
    pub(super) fn variables(&self) -> Vec<Value> {
        match self.variables.and_then(parse) {
            Some(Value::Array(list)) => list,
            Some(Value::Object(map)) => map.into_iter().map(|(_, variable)| variable).collect(),
            _ => Vec::new(),
        }
    }

    fn start_page_name(&self) -> Option<&str> {
        let start = self.start_page_id.as_deref()?;
        self.pages.iter().find(|page| page.id.as_deref() == Some(start))?.name.as_deref()
    }
}

fn parse<T: serde::de::DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// `yyyy-MM-ddTHH:mm:ss[.mmm]Z`: the fraction is there when there is one.
pub(super) fn date_text(date: DateTime<Utc>) -> String {
    let format = if date.timestamp_subsec_millis() == 0 { SecondsFormat::Secs } else { SecondsFormat::Millis };
    date.to_rfc3339_opts(format, true)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScriptView<'a> {
    id: String,
    name: &'a str,
    division: &'a Division,
    version_id: String,
    created_date: String,
    modified_date: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_date: Option<String>,
    version_date: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_page_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_page_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variables: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_actions: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<Vec<PageView<'a>>>,
    self_uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    version_id: String,
    created_date: String,
    modified_date: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    root_container: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    properties: Option<&'a RawValue>,
    self_uri: String,
}

/// The script as it is in a listing.
pub(super) fn entry<'a>(seen: &'a Snapshot, file: &'a File<'a>) -> ScriptView<'a> {
    ScriptView {
        id: seen.id.to_string(),
        name: &seen.version.name,
        division: &seen.division,
        version_id: seen.version.id.to_string(),
        created_date: date_text(seen.created),
        modified_date: date_text(seen.version.date),
        published_date: seen.published.map(date_text),
        version_date: date_text(seen.version.date),
        start_page_id: file.start_page_id.as_deref(),
        start_page_name: file.start_page_name(),
        features: None,
        variables: None,
        custom_actions: None,
        pages: None,
        self_uri: seen.uri(),
    }
}

/// The script as a whole.
pub(super) fn script<'a>(seen: &'a Snapshot, file: &'a File<'a>) -> ScriptView<'a> {
    ScriptView {
        features: file.features,
        variables: file.variables,
        custom_actions: file.custom_actions,
        pages: Some(pages(seen, file)),
        ..entry(seen, file)
    }
}

pub(super) fn pages<'a>(seen: &Snapshot, file: &'a File<'a>) -> Vec<PageView<'a>> {
    let view = |page: &'a FilePage<'a>| PageView {
        id: page.id.as_deref(),
        name: page.name.as_deref(),
        version_id: seen.version.id.to_string(),
        created_date: date_text(seen.created),
        modified_date: date_text(seen.version.date),
        root_container: page.root_container,
        properties: page.properties,
        self_uri: format!("{}/pages/{}", seen.uri(), page.id.as_deref().unwrap_or_default()),
    };
    file.pages.iter().map(view).collect()
}

/// The wall clock, for dates in answers only: all else runs on tokio's.
pub(super) fn wall_clock() -> DateTime<Utc> {
    DateTime::from(SystemTime::now())
}
