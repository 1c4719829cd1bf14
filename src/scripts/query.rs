//! What each operation can be asked beyond its ids. Plain data: nothing is sent for what is left `None`.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, json};

use crate::error::Error;
use crate::id::{DivisionId, FlowId, ScriptId, VersionId};
use crate::request::{Body, Query};

/// How many scripts a page has unless said otherwise. The service's own default is 25; with 100 a listing
/// takes a quarter of the requests from the token's quota.
const PAGE_SIZE: u32 = 100;

/// Those that have a value.
fn query<'a>(pairs: impl IntoIterator<Item = (&'static str, Option<Cow<'a, str>>)>) -> Query<'a> {
    pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn text(value: Option<&impl AsRef<str>>) -> Option<Cow<'_, str>> {
    value.map(|value| Cow::Borrowed(value.as_ref()))
}

fn flag(value: Option<bool>) -> Option<Cow<'static, str>> {
    value.map(|value| Cow::Borrowed(if value { "true" } else { "false" }))
}

fn data_version(version: &Option<String>) -> (&'static str, Option<Cow<'_, str>>) {
    ("scriptDataVersion", text(version.as_ref()))
}

/// What is read of a script or of its pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadScript {
    /// "Advanced usage": the data version of the script.
    pub script_data_version: Option<String>,
}

impl ReadScript {
    pub(crate) fn query(&self) -> Query<'_> {
        query([data_version(&self.script_data_version)])
    }
}

/// Which scripts to list, in what order, from which page on.
///
/// ```
/// use genesys_scripts::{ListScripts, SortBy, SortOrder};
///
/// let query = ListScripts {
///     name: Some("Inbound".into()),
///     sort_by: Some(SortBy::ModifiedDate),
///     sort_order: Some(SortOrder::Descending),
///     ..ListScripts::default()
/// };
/// assert_eq!((query.page_size, query.page_number), (100, 1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListScripts {
    /// How many scripts a page has: at least 1. Default 100. The service's maximum is not documented; 500 is
    /// known to be accepted.
    pub page_size: u32,
    /// The page to begin with, counted from 1. Default 1.
    pub page_number: u32,
    /// What to expand; the service documents no values.
    pub expand: Option<String>,
    /// Only scripts of this name. How the service compares is not documented, only that it finds more than
    /// equal names: compare yourself, or use [`Agent::scripts_named`](crate::Agent::scripts_named).
    pub name: Option<String>,
    /// Only scripts with this feature; the service documents no values.
    pub feature: Option<String>,
    /// Only scripts of this secure flow.
    pub flow_id: Option<FlowId>,
    /// What to sort by.
    pub sort_by: Option<SortBy>,
    /// In which order.
    pub sort_order: Option<SortOrder>,
    /// "Advanced usage": the data version of the scripts.
    pub script_data_version: Option<String>,
    /// Only scripts of these divisions; none means all. Sent separated by commas, which is not documented.
    pub division_ids: Vec<DivisionId>,
}

impl Default for ListScripts {
    fn default() -> Self {
        Self {
            page_size: PAGE_SIZE,
            page_number: 1,
            expand: None,
            name: None,
            feature: None,
            flow_id: None,
            sort_by: None,
            sort_order: None,
            script_data_version: None,
            division_ids: Vec::new(),
        }
    }
}

impl ListScripts {
    pub(super) fn named(name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..Self::default() }
    }

    /// The service would answer 400, or not with the page that was meant.
    pub(crate) fn check(&self) -> Result<(), Error> {
        // int32 on the wire.
        let sendable = 1..=i32::MAX.unsigned_abs();
        if !sendable.contains(&self.page_size) {
            return Err(Error::invalid_input(format!("a page of {} scripts cannot be listed", self.page_size)));
        }
        if !sendable.contains(&self.page_number) {
            return Err(Error::invalid_input(format!("there is no page {}: the first is 1", self.page_number)));
        }
        Ok(())
    }

    /// Of one page.
    pub(crate) fn query(&self, page_number: u32) -> Query<'_> {
        let divisions = || self.division_ids.iter().map(DivisionId::as_str).collect::<Vec<_>>().join(",");
        query([
            ("pageSize", Some(self.page_size.to_string().into())),
            ("pageNumber", Some(page_number.to_string().into())),
            ("expand", text(self.expand.as_ref())),
            ("name", text(self.name.as_ref())),
            ("feature", text(self.feature.as_ref())),
            ("flowId", text(self.flow_id.as_ref())),
            ("sortBy", self.sort_by.map(|by| by.as_str().into())),
            ("sortOrder", self.sort_order.map(|order| order.as_str().into())),
            data_version(&self.script_data_version),
            ("divisionIds", (!self.division_ids.is_empty()).then(|| divisions().into())),
        ])
    }
}

/// Which published scripts to list, from which page on. They cannot be sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPublishedScripts {
    /// How many scripts a page has: at least 1. Default 100. The service's maximum is not documented; 500 is
    /// known to be accepted.
    pub page_size: u32,
    /// The page to begin with, counted from 1. Default 1.
    pub page_number: u32,
    /// What to expand; the service documents no values.
    pub expand: Option<String>,
    /// Only scripts of this name. How the service compares is not documented, only that it finds more than
    /// equal names: compare yourself, or use [`Agent::scripts_named`](crate::Agent::scripts_named).
    pub name: Option<String>,
    /// Only scripts with this feature; the service documents no values.
    pub feature: Option<String>,
    /// Only scripts of this secure flow.
    pub flow_id: Option<FlowId>,
    /// "Advanced usage": the data version of the scripts.
    pub script_data_version: Option<String>,
    /// Only scripts of these divisions; none means all. Sent separated by commas, which is not documented.
    pub division_ids: Vec<DivisionId>,
}

impl Default for ListPublishedScripts {
    fn default() -> Self {
        Self {
            page_size: PAGE_SIZE,
            page_number: 1,
            expand: None,
            name: None,
            feature: None,
            flow_id: None,
            script_data_version: None,
            division_ids: Vec::new(),
        }
    }
}

impl From<ListPublishedScripts> for ListScripts {
    /// Without any sorting.
    fn from(query: ListPublishedScripts) -> Self {
        let ListPublishedScripts {
            page_size,
            page_number,
            expand,
            name,
            feature,
            flow_id,
            script_data_version,
            division_ids,
        } = query;
        Self {
            page_size,
            page_number,
            expand,
            name,
            feature,
            flow_id,
            sort_by: None,
            sort_order: None,
            script_data_version,
            division_ids,
        }
    }
}

/// What a listing is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SortBy {
    /// When it was last changed.
    ModifiedDate,
    /// When it was created.
    CreatedDate,
    /// Its name.
    Name,
}

impl SortBy {
    fn as_str(self) -> &'static str {
        match self {
            Self::ModifiedDate => "modifiedDate",
            Self::CreatedDate => "createdDate",
            Self::Name => "name",
        }
    }
}

/// The order of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SortOrder {
    /// The smallest, or earliest, first.
    Ascending,
    /// The largest, or latest, first.
    Descending,
}

impl SortOrder {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ascending => "ascending",
            Self::Descending => "descending",
        }
    }
}

/// Which variables of a published script to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadVariables {
    /// Only those that are inputs, or only those that are not.
    pub input: Option<bool>,
    /// Only those that are outputs, or only those that are not.
    pub output: Option<bool>,
    /// Only those of this type.
    pub variable_type: Option<VariableType>,
    /// "Advanced usage": the data version of the script.
    pub script_data_version: Option<String>,
}

impl ReadVariables {
    pub(crate) fn query(&self) -> Query<'_> {
        query([
            ("input", flag(self.input)),
            ("output", flag(self.output)),
            ("type", self.variable_type.map(|kind| kind.as_str().into())),
            data_version(&self.script_data_version),
        ])
    }
}

/// The type of a script's variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VariableType {
    /// Text.
    String,
    /// A number.
    Number,
    /// True or false.
    Boolean,
}

impl VariableType {
    fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// How to ask for an upload's status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadUploadStatus {
    /// Whether the service may hold its answer until there is something to tell. How long it holds it is not
    /// documented: such a request is given 60 s, or the client's attempt timeout where that is longer.
    pub long_poll: bool,
}

impl ReadUploadStatus {
    pub(crate) fn query(&self) -> Query<'_> {
        // `false` is the service's default.
        query([("longPoll", flag(self.long_poll.then_some(true)))])
    }
}

/// What to export of a script, and as what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportScript {
    /// The name of the file, without its extension `.script`.
    pub file_name: Option<String>,
    /// The version to export; otherwise the one being edited.
    pub version_id: Option<VersionId>,
}

impl ExportScript {
    /// Never none: what the service makes of none is not documented.
    pub(crate) fn body(&self) -> Body {
        let mut body = Map::new();
        if let Some(name) = &self.file_name {
            body.insert("fileName".into(), json!(name));
        }
        if let Some(version) = &self.version_id {
            body.insert("versionId".into(), json!(version));
        }
        Body::json(&body.into())
    }
}

/// What to publish of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishScript {
    /// The version to publish; otherwise the one being edited.
    pub version_id: Option<VersionId>,
    /// "Advanced usage": the data version of the script. CX as Code publishes with `0`.
    pub script_data_version: Option<String>,
}

impl PublishScript {
    pub(crate) fn query(&self) -> Query<'_> {
        query([data_version(&self.script_data_version)])
    }

    pub(crate) fn body(&self, id: &ScriptId) -> Body {
        Body::json(&match &self.version_id {
            Some(version) => json!({ "scriptId": id, "versionId": version }),
            None => json!({ "scriptId": id }),
        })
    }
}

/// How to import a `.script` file.
///
/// ```
/// use genesys_scripts::ImportScript;
///
/// let options = ImportScript { name: Some("Inbound, spring".into()), ..ImportScript::default() };
/// assert!(options.replace.is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportScript {
    /// What the script shall be called; otherwise the name in the file.
    pub name: Option<String>,
    /// The script to replace; otherwise a new one is made.
    pub replace: Option<ScriptId>,
    /// The time for all of it: upload, import and finding the new id. Default 5 min. Each call on the way also
    /// keeps to the agent's own timeout.
    pub timeout: Duration,
}

impl Default for ImportScript {
    fn default() -> Self {
        Self { name: None, replace: None, timeout: Duration::from_secs(300) }
    }
}
