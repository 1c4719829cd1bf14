//! Listings: filters, order, pages.

use axum::Json;
use axum::response::IntoResponse;
use serde::Serialize;
use uuid::Uuid;

use super::document::{self, File, ScriptView};
use super::gate::{Answer, Call};
use super::ids::parse_id;
use super::library::{Library, Script, Snapshot, Version};
use super::query::Query;
use super::quirk::ListQuirk;
use super::refusal::Refusal;
use crate::text::encode_segment;

const DEFAULT_PAGE_SIZE: u32 = 25;

pub(super) async fn editable(call: Call) -> Answer {
    let (order, filter) = (Order::read(&call)?, Filter::read(&call.query));
    let view = |script: &Script| Some(script.editable_view());
    answer(&call, view, |library| {
        let admitted = library.editable().filter(|script| filter.admits(script, script.editable()));
        let mut scripts: Vec<&Script> = admitted.collect();
        order.sort(&mut scripts);
        scripts
    })
}

/// Published listings can be filtered but not sorted.
pub(super) async fn published(call: Call) -> Answer {
    let filter = Filter::read(&call.query);
    answer(&call, Script::published_view, |library| {
        let admits = |script: &&Script| script.published().is_some_and(|shown| filter.admits(script, shown));
        library.published().filter(admits).collect()
    })
}

fn answer(call: &Call, view: fn(&Script) -> Option<Snapshot>, choose: impl Fn(&Library) -> Vec<&Script>) -> Answer {
    let size = call.query.positive("pageSize", DEFAULT_PAGE_SIZE)?;
    let number = call.query.positive("pageNumber", 1)?;
    let quirks = Quirks(call.service.setting(|settings| settings.list_quirks.clone()));

    let (total, seen): (usize, Vec<Snapshot>) = {
        let library = call.service.library();
        let chosen = choose(&library);
        let (before, length) = quirks.rows(size, number);
        (chosen.len(), chosen.into_iter().skip(before).take(length).filter_map(view).collect())
    };

    let files: Vec<Option<File<'_>>> = seen.iter().map(|seen| File::read(&seen.version.file)).collect();
    let entities = seen.iter().zip(&files).filter_map(|(seen, file)| Some(document::entry(seen, file.as_ref()?)));
    let page_count = total.div_ceil(as_length(size)).saturating_add(quirks.empty_pages().count());
    let page_count = page_count.try_into().unwrap_or(u32::MAX);
    let uri = |number: u32| page_uri(call, size, number);
    let next = if number < page_count { Some(number + 1) } else { quirks.has(ListQuirk::Circle).then_some(1) };
    let hints = Hints {
        total,
        first_uri: uri(1),
        next_uri: next.map(uri),
        previous_uri: (number > 1).then(|| uri((number - 1).min(page_count.max(1)))),
        last_uri: uri(page_count.max(1)),
        page_count,
    };
    let null = (quirks.has(ListQuirk::NullItem) && !seen.is_empty()).then_some(None);
    let listing = Listing {
        entities: null.into_iter().chain(entities.map(Some)).collect(),
        page_size: size,
        page_number: number,
        self_uri: uri(number),
        hints: (!quirks.has(ListQuirk::NoHints)).then_some(hints),
    };
    Ok(Json(listing).into_response())
}

fn as_length(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

struct Quirks(Vec<ListQuirk>);

impl Quirks {
    fn has(&self, quirk: ListQuirk) -> bool {
        self.0.contains(&quirk)
    }

    fn empty_pages(&self) -> impl Iterator<Item = u32> {
        self.0.iter().filter_map(|quirk| if let ListQuirk::EmptyPage(page) = quirk { Some(*page) } else { None })
    }

    /// How many scripts come before the page, and how many are on it.
    fn rows(&self, size: u32, number: u32) -> (usize, usize) {
        let (mut length, mut number) = (size, number);
        for quirk in &self.0 {
            match quirk {
                ListQuirk::ClippedTo(most) => length = length.min((*most).max(1)),
                ListQuirk::RepeatedPage(last) => number = number.min((*last).max(1)),
                _ => {}
            }
        }
        let empty_before = self.empty_pages().filter(|empty| *empty < number).count();
        let full_before = as_length(number - 1).saturating_sub(empty_before);
        let rows = if self.empty_pages().any(|empty| empty == number) { 0 } else { as_length(length) };
        (full_before.saturating_mul(as_length(length)), rows)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listing<'a> {
    entities: Vec<Option<ScriptView<'a>>>,
    page_size: u32,
    page_number: u32,
    self_uri: String,
    #[serde(flatten)]
    hints: Option<Hints>,
}

/// What is said of the other pages.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hints {
    total: usize,
    first_uri: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_uri: Option<String>,
    last_uri: String,
    page_count: u32,
}

/// The same listing at another page, with the filters it was asked for.
fn page_uri(call: &Call, size: u32, number: u32) -> String {
    let filters = call.query.0.iter().filter(|(name, _)| name != "pageSize" && name != "pageNumber");
    let filters: String =
        filters.map(|(name, value)| format!("&{}={}", encode_segment(name), encode_segment(value))).collect();
    format!("{}?pageSize={size}&pageNumber={number}{filters}", call.uri.path())
}

/// What a listing is narrowed to.
struct Filter<'a> {
    // Those that are no ids match none.
    divisions: Vec<Option<Uuid>>,
    name: Option<String>,
    feature: Option<&'a str>,
    flow: Option<&'a str>,
}

impl<'a> Filter<'a> {
    fn read(query: &'a Query) -> Self {
        let divisions = query.all("divisionIds").flat_map(|list| list.split(','));
        Self {
            divisions: divisions.map(|id| parse_id(id.trim()).ok()).collect(),
            name: query.text("name").map(str::to_lowercase),
            feature: query.text("feature"),
            flow: query.text("flowId"),
        }
    }

    /// By the version that is shown.
    fn admits(&self, script: &Script, shown: &Version) -> bool {
        if !script.is_listed() {
            return false;
        }
        if !self.divisions.is_empty() && !self.divisions.contains(&Some(script.division.id)) {
            return false;
        }
        if self.name.as_ref().is_some_and(|name| !shown.name.to_lowercase().contains(name)) {
            return false;
        }
        if self.feature.is_none() && self.flow.is_none() {
            return true;
        }
        File::read(&shown.file).is_some_and(|file| {
            self.feature.is_none_or(|feature| file.has_feature(feature))
                && self.flow.is_none_or(|flow| file.uses_flow(flow))
        })
    }
}

struct Order {
    by: Option<&'static str>,
    descending: bool,
}

impl Order {
    fn read(call: &Call) -> Result<Self, Refusal> {
        let by = call.query.one_of("sortBy", &["modifiedDate", "createdDate", "name"])?;
        let descending = call.query.one_of("sortOrder", &["ascending", "descending"])? == Some("descending");
        Ok(Self { by, descending })
    }

    /// Scripts come in order of creation, and the sort is stable.
    fn sort(&self, scripts: &mut [&Script]) {
        match self.by {
            Some("name") => scripts.sort_by(|a, b| a.editable().name.cmp(&b.editable().name)),
            Some("modifiedDate") => scripts.sort_by_key(|script| script.editable().date),
            _ => {}
        }
        if self.descending {
            scripts.reverse();
        }
    }
}
