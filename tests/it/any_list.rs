//! Whatever a listing service does, every script comes once, or an error does: never fewer in silence.

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use futures_util::TryStreamExt;
use genesys_scripts::{Error, ListScripts};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::common::{self, Scripted, reply};

/// Which hint is true on every page. Beside it each of the others can be missing, of another type, or wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Truth {
    Total,
    PageCount,
    NextUri,
    /// None is: then nothing but an empty page is an end, and no other page is empty.
    None,
}

/// A service, page by page.
#[derive(Clone, Debug)]
struct World {
    asked: usize,
    ids: Vec<String>,
    pages: Vec<Vec<Value>>,
    hints: Vec<Value>,
    /// Nothing about it is wrong, so nothing but all of it will do.
    honest: bool,
}

impl World {
    fn page(&self, number: usize) -> Value {
        let mut page = self.hints.get(number - 1).cloned().unwrap_or(json!({}));
        page["entities"] = json!(self.pages.get(number - 1).cloned().unwrap_or_default());
        page
    }
}

#[derive(Clone, Debug)]
struct Plan {
    scripts: usize,
    asked: usize,
    clip: usize,
    truth: Truth,
    /// Where empty pages come between, where a script comes again, and where something unreadable does.
    empty: Vec<usize>,
    again: Vec<(usize, usize)>,
    unreadable: Vec<usize>,
    /// After so many pages nothing comes any more, if that many there are.
    withheld: Option<usize>,
    total: Value,
    page_count: Value,
    next_uri: Value,
    /// On which pages (by turns) the untrue hints stand at all.
    told: Vec<bool>,
}

fn plans() -> impl Strategy<Value = Plan> {
    let truth = select(vec![Truth::Total, Truth::PageCount, Truth::NextUri, Truth::None]);
    let total = select(vec![json!(null), json!(0), json!(-1), json!("many"), json!(1.5), json!({}), json!(1_000)]);
    let page_count = select(vec![
        json!(null),
        json!(0),
        json!(1),
        json!("1"),
        json!(-3),
        json!(7),
        json!([]),
        json!("by the size that was asked for"),
    ]);
    let next_uri = select(vec![
        json!(null),
        json!(""),
        json!("/more"),
        json!(7),
        json!(false),
        json!("https://elsewhere.example/?pageNumber=99"),
    ]);
    let order = (vec(0..12_usize, 0..4), vec((0..12_usize, 0..40_usize), 0..3), vec(0..12_usize, 0..3));
    let withheld = prop_oneof![4 => Just(None), 1 => (1..6_usize).prop_map(Some)];
    let shape = (0..40_usize, 1..12_usize, 1..16_usize, truth, order, withheld);
    (shape, total, page_count, next_uri, vec(any::<bool>(), 1..5)).prop_map(
        |((scripts, asked, clip, truth, (empty, again, unreadable), withheld), total, page_count, next_uri, told)| {
            Plan { scripts, asked, clip, truth, empty, again, unreadable, withheld, total, page_count, next_uri, told }
        },
    )
}

fn world(plan: &Plan) -> World {
    let ids: Vec<String> = (0..plan.scripts).map(|n| format!("script-{n}")).collect();
    let size = plan.asked.min(plan.clip);
    let mut pages: Vec<Vec<Value>> =
        ids.chunks(size).map(|ids| ids.iter().map(|id| json!({ "id": id })).collect()).collect();
    for at in plan.empty.iter().filter(|_| plan.truth != Truth::None) {
        pages.insert((*at).min(pages.len()), Vec::new());
    }
    let mut unreadable = 0;
    for at in &plan.unreadable {
        if let Some(page) = pages.get_mut(*at) {
            page.push(json!(null));
            unreadable += 1;
        }
    }
    for (at, which) in &plan.again {
        let shown: Vec<Value> = pages.iter().take(*at).flatten().filter(|row| !row.is_null()).cloned().collect();
        if let (Some(page), false) = (pages.get_mut(*at), shown.is_empty()) {
            page.insert(0, shown[which % shown.len()].clone());
        }
    }
    let count = pages.len();
    let hints = (1..=count).map(|number| {
        let mut hints = json!({});
        if plan.told[number % plan.told.len()] {
            hints = json!({ "total": plan.total, "pageCount": plan.page_count, "nextUri": plan.next_uri });
            if plan.page_count == json!("by the size that was asked for") {
                hints["pageCount"] = json!(plan.scripts.div_ceil(plan.asked));
            }
        }
        match plan.truth {
            Truth::Total => hints["total"] = json!(plan.scripts + unreadable),
            Truth::PageCount => hints["pageCount"] = json!(count),
            Truth::NextUri if number < count => {
                hints["nextUri"] = json!(format!("/api/v2/scripts?pageNumber={}", number + 1))
            }
            Truth::NextUri => hints["nextUri"] = json!(null),
            Truth::None => {}
        }
        hints
    });
    let hints = hints.collect();
    let withheld = plan.withheld.filter(|kept| *kept < count && plan.truth != Truth::None);
    pages.iter_mut().skip(withheld.unwrap_or(count)).for_each(Vec::clear);
    let harmless = plan.total.as_i64() != Some(1_000)
        && plan.page_count != json!(7)
        && plan.next_uri.as_str().is_none_or(str::is_empty);
    let honest = plan.again.is_empty()
        && withheld.is_none()
        && harmless
        && plan.next_uri != json!(7)
        && pages.last().is_none_or(|last| !last.is_empty());
    World { asked: plan.asked, ids, pages, hints, honest }
}

#[test]
fn every_script_comes_once_or_an_error_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let shown: Arc<Mutex<Option<World>>> = Arc::default();
    let transport = runtime.block_on(async {
        let shown = Arc::clone(&shown);
        Scripted::by(move |seen| {
            if seen.is_login() {
                return common::token("t0ken");
            }
            let url = reqwest::Url::parse(&seen.url).unwrap();
            let number = url.query_pairs().find(|(name, _)| name == "pageNumber").unwrap().1.parse().unwrap();
            reply(200, shown.lock().unwrap().as_ref().unwrap().page(number).to_string())
        })
    });
    let agent = transport.agent();
    let (whole, failed) = (Cell::new(0), Cell::new(0));
    let mut runner = TestRunner::new(Config { cases: 1_000, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&plans(), |plan| {
        let world = world(&plan);
        *shown.lock().unwrap() = Some(world.clone());
        let query = ListScripts { page_size: u32::try_from(world.asked).unwrap(), ..ListScripts::default() };
        let (ids, error) = runtime.block_on(async {
            let mut listing = agent.scripts(query);
            let mut ids = Vec::new();
            let error: Option<Error> = loop {
                match listing.try_next().await {
                    Ok(Some(script)) => ids.push(script.id.to_string()),
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            (ids, error)
        });
        match &error {
            None => prop_assert_eq!(&ids, &world.ids, "fewer in silence, or more: {:#?}", world),
            Some(error) => {
                prop_assert!(world.ids.starts_with(&ids), "what came before an error is good: {:?} {:?}", ids, error);
                prop_assert!(!world.honest, "{error} of {world:#?}");
            }
        }
        let counted = if error.is_none() { &whole } else { &failed };
        counted.set(counted.get() + 1);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    println!("{} lists came whole, {} ended as an error", whole.get(), failed.get());
}
