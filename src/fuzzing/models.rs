//! What the service sends as data: scripts, pages, listings, files.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use super::is_printable;
use super::service::{self, Answer};
use crate::json::{Items, decode, decode_list};
use crate::request::{GET_SCRIPT, Spec};
use crate::{
    Credentials, Division, Error, ErrorKind, ExportResponse, ImportStatus, ListScripts, Page, Script, ScriptFile,
    ScriptId, ScriptListing,
};

/// Whatever is sent as JSON decodes, or is an error that says what came. What decodes is the same after it was encoded and
/// decoded again. Of a list every item comes, or is counted as left out, or the list ends in an error.
///
/// The whole is tried as each model; its lines, as the pages of a list.
pub fn models(data: &[u8]) {
    read::<Script>(data, |script| script.pages.skipped() == 0);
    read::<Page>(data, |_| true);
    read::<Division>(data, |_| true);
    if let Some(listing) = read::<ScriptListing>(data, |listing| {
        listing.entities.skipped() == 0 && listing.entities.iter().all(|script| script.pages.skipped() == 0)
    }) {
        every_item(data, &listing);
    }
    typed(decode::<ExportResponse>("an export", &Spec::of(&GET_SCRIPT, &["s"]), &answer(data)));
    typed(decode::<ImportStatus>("a status", &Spec::of(&GET_SCRIPT, &["s"]), &answer(data)));
    if let Some(pages) = typed(decode_list::<Page>("pages", &Spec::of(&GET_SCRIPT, &["s"]), &answer(data))) {
        let rows: Vec<&RawValue> = serde_json::from_slice(data).expect("an array");
        assert_eq!(pages.len() + pages.skipped(), rows.len());
        again::<Items<Page>>(&pages, |pages| pages.skipped() == 0);
    }
    match ScriptFile::from_slice(data) {
        Ok(file) => assert!(data.ends_with(file.as_str().as_bytes()), "a file is kept as it came"),
        Err(error) => assert!(error.kind() == ErrorKind::InvalidInput && is_printable(&error.to_string()), "{error}"),
    }
    list(data);
}

fn answer(body: &[u8]) -> Box<crate::answer::Answer> {
    crate::answer::Answer::new(StatusCode::OK, HeaderMap::new(), body.to_vec().into())
}

/// Decodes it; what decodes, decodes to the same once it was encoded, where nothing of it was left out as unreadable.
fn read<T>(data: &[u8], is_whole: fn(&T) -> bool) -> Option<T>
where
    T: DeserializeOwned + Serialize + PartialEq + Debug,
{
    let model = typed(decode::<T>("a model", &Spec::of(&GET_SCRIPT, &["s"]), &answer(data)))?;
    again(&model, is_whole);
    Some(model)
}

fn again<T>(model: &T, is_whole: fn(&T) -> bool)
where
    T: DeserializeOwned + Serialize + PartialEq + Debug,
{
    let encoded = serde_json::to_string(model).expect("what was decoded can be encoded");
    let read: T = serde_json::from_str(&encoded).unwrap_or_else(|error| panic!("{error}: {encoded}"));
    assert!(*model == read || !is_whole(model), "{model:?} became {read:?}");
    assert_eq!(serde_json::to_string(&read).expect("JSON"), encoded);
}

fn typed<T>(decoded: Result<T, Error>) -> Option<T> {
    decoded
        .map_err(|error| {
            assert_eq!((error.kind(), error.status()), (ErrorKind::UnexpectedAnswer, Some(200)), "{error}");
            assert!(is_printable(&error.to_string()), "{error}");
        })
        .ok()
}

/// Every item is there or counted, and an item with an id is there.
fn every_item(data: &[u8], listing: &ScriptListing) {
    // What is nested too deep for this is kept as it came by the models.
    let Ok(page) = serde_json::from_slice::<Value>(data) else { return };
    let rows = match page.get("entities") {
        None | Some(Value::Null) => 0,
        Some(Value::Array(rows)) => rows.len(),
        Some(_) => 1,
    };
    assert_eq!(listing.entities.len() + listing.entities.skipped(), rows, "{page}");
    // Once more, as no key is there twice in this.
    let listing: ScriptListing = serde_json::from_str(&page.to_string()).expect("a listing");
    let read: Vec<String> = listing.entities.iter().map(|script| script.id.to_string()).collect();
    assert_eq!(read, ids(&page), "{page}");
}

/// The ids of a page's scripts, read in another way than the models do.
fn ids(page: &Value) -> Vec<String> {
    let rows = page.get("entities").and_then(Value::as_array).into_iter().flatten();
    let ids = rows.filter_map(|row| row.as_object()?.get("id")?.as_str());
    ids.filter(|id| id.parse::<ScriptId>().is_ok()).map(str::to_owned).collect()
}

/// How many of a page's scripts it shows a second time.
fn doubled(page: &Value) -> usize {
    let ids = ids(page);
    ids.len() - ids.iter().collect::<HashSet<_>>().len()
}

/// The lines that are objects, as the pages of a list; behind the last one all are empty.
fn list(data: &[u8]) {
    let pages = data.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let pages: Arc<Vec<Value>> = Arc::new(pages.filter(Value::is_object).take(50).collect());
    let asked = Arc::new(AtomicUsize::new(0));
    let client = {
        let (pages, asked) = (Arc::clone(&pages), Arc::clone(&asked));
        service::client(move |_| {
            let page = pages.get(asked.fetch_add(1, Ordering::Relaxed)).map(ToString::to_string);
            Answer::new(200, page.unwrap_or_else(|| r#"{"entities":[]}"#.to_owned()))
        })
    };
    let (came, error, skipped) = service::run(async {
        let agent = client.build().expect("a client").agent(Credentials::access_token("t"));
        let mut listing = agent.scripts(ListScripts::default());
        let (mut came, mut error) = (Vec::new(), None);
        while let Some(script) = listing.next().await {
            match script {
                Ok(script) => came.push(script.id.to_string()),
                Err(failed) => error = Some(failed),
            }
        }
        (came, error, listing.skipped())
    });
    let asked = asked.load(Ordering::Relaxed);
    // It ends even where the service says that more follows.
    assert!(asked <= pages.len() + 21, "{asked} pages were asked for");
    let mut seen = HashSet::new();
    let shown: Vec<String> = pages.iter().take(asked).flat_map(ids).filter(|id| seen.insert(id.clone())).collect();
    match error {
        None => assert_eq!(came, shown, "some are missing or double, in silence"),
        Some(error) => {
            assert!(shown.starts_with(&came), "{came:?} of {shown:?}, and {error}");
            assert!(error.kind() == ErrorKind::UnexpectedAnswer && is_printable(&error.to_string()), "{error}");
            return;
        }
    }
    // What every page promises has come; one may count a script twice that it shows twice.
    let doubled: usize = pages.iter().take(asked).map(doubled).sum();
    let promised: HashSet<Option<i64>> = pages.iter().map(|page| page.get("total")?.as_i64()).collect();
    if let (1, Some(Some(total))) = (promised.len(), promised.into_iter().next()) {
        let total = usize::try_from(total).unwrap_or_default();
        assert!(came.len() + skipped + doubled >= total, "{} and {skipped} of {total}, in silence", came.len());
    }
}
