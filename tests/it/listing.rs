//! Lists as streams: lazy, in order, to the last page, never in a loop, and resumable.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt};
use genesys_scripts::{ErrorKind, ListPublishedScripts, ListScripts};
use serde_json::{Value, json};

use crate::common::{self, Reply, Scripted, Seen, reply};

fn query(seen: &Seen) -> HashMap<String, String> {
    reqwest::Url::parse(&seen.url).unwrap().query_pairs().into_owned().collect()
}

fn asked(seen: &Seen) -> (usize, usize) {
    let query = query(seen);
    (query["pageNumber"].parse().unwrap(), query["pageSize"].parse().unwrap())
}

/// A page of so many scripts, as a service with `total` of them answers, without any metadata.
fn page(seen: &Seen, total: usize) -> Value {
    let (number, size) = asked(seen);
    let ids = (number - 1) * size..(number * size).min(total);
    json!({ "entities": ids.map(|n| json!({ "id": format!("script-{n}"), "name": "n".repeat(20) })).collect::<Vec<_>>() })
}

/// A service with so many scripts; `finish` adds metadata to each page: its number, the size, the total.
fn service(total: usize, finish: impl Fn(&mut Value, usize, usize, usize) + Send + Sync + 'static) -> Scripted {
    Scripted::by(move |seen| {
        if seen.is_login() {
            return common::token("t0ken");
        }
        let mut page = page(seen, total);
        let (number, size) = asked(seen);
        finish(&mut page, number, size, total);
        reply(200, page.to_string())
    })
}

fn counted(page: &mut Value, number: usize, size: usize, total: usize) {
    page["pageNumber"] = json!(number);
    page["pageSize"] = json!(size);
    page["total"] = json!(total);
    page["pageCount"] = json!(total.div_ceil(size));
}

fn in_pages_of(page_size: u32) -> ListScripts {
    ListScripts { page_size, ..ListScripts::default() }
}

async fn ids(transport: &Scripted, query: ListScripts) -> Vec<String> {
    transport.agent().scripts(query).map_ok(|script| script.id.to_string()).try_collect().await.unwrap()
}

fn numbered(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|n| format!("script-{n}")).collect()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_scripts_are_a_hundred_requests_in_order() {
    let transport = service(10_000, counted);
    let mut scripts = transport.agent().scripts(in_pages_of(100));
    let mut n = 0;
    while let Some(script) = scripts.try_next().await.unwrap() {
        assert_eq!(script.id.as_str(), format!("script-{n}"));
        // Lazy: not one page more than what was taken needs.
        assert_eq!(transport.calls().len(), n / 100 + 1);
        n += 1;
        if n % 1000 != 0 {
            // `calls` copies all it saw: often enough is enough.
            for script in scripts.by_ref().take(99 - (n - 1) % 100).collect::<Vec<_>>().await {
                assert_eq!(script.unwrap().id.as_str(), format!("script-{n}"));
                n += 1;
            }
        }
    }
    assert_eq!(n, 10_000);
    let pages: Vec<usize> = transport.calls().iter().map(|seen| asked(seen).0).collect();
    assert_eq!(pages, (1..=100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_until_the_stream_is_polled() {
    let transport = service(10, counted);
    let agent = transport.agent();
    drop(agent.scripts(ListScripts::default()));
    drop(agent.published_scripts(ListPublishedScripts::default()).pages());
    assert!(transport.seen().is_empty());
}

/// What the service says of the pages, by how many requests a list of 25 (20) takes in pages of 10. One hint alone can be
/// wrong, and a page with fewer scripts is no end: another page is asked for then.
#[tokio::test(start_paused = true)]
async fn the_last_page_is_known_by_whatever_is_said() {
    type Finish = fn(&mut Value, usize, usize, usize);
    let table: &[(&str, Finish, usize, usize)] = &[
        ("everything", counted, 3, 2),
        ("page count", |page, _, size, total| page["pageCount"] = json!(total.div_ceil(size)), 4, 3),
        (
            "next page's URI, and its absence at the end",
            |page, number, size, total| {
                if number * size < total {
                    page["nextUri"] = json!(format!("/api/v2/scripts?pageNumber={}", number + 1));
                }
            },
            4,
            3,
        ),
        ("total", |page, _, _, total| page["total"] = json!(total), 4, 3),
        ("nothing: an empty page", |_, _, _, _| {}, 4, 3),
        ("nonsense", |page, _, _, _| (page["pageCount"], page["total"]) = (json!(-1), json!("many")), 4, 3),
        (
            "nulls",
            |page, _, _, _| {
                (page["pageCount"], page["total"], page["nextUri"]) = (json!(null), json!(null), json!(null))
            },
            4,
            3,
        ),
    ];
    for (said, finish, of_25, of_20) in table {
        for (total, requests) in [(25, *of_25), (20, *of_20)] {
            let transport = service(total, finish);
            assert_eq!(ids(&transport, in_pages_of(10)).await, numbered(0..total), "{said}");
            assert_eq!(transport.calls().len(), requests, "{said}, {total}");
        }
    }
    let transport = service(0, counted);
    assert!(ids(&transport, ListScripts::default()).await.is_empty());
    assert_eq!(transport.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_makes_pages_smaller_than_asked_is_followed_to_the_end() {
    let transport = Scripted::by(|seen| {
        if seen.is_login() {
            return common::token("t0ken");
        }
        let number = asked(seen).0;
        let ids = (number - 1) * 25..(number * 25).min(60);
        let entities: Vec<Value> = ids.map(|n| json!({ "id": format!("script-{n}") })).collect();
        reply(200, json!({ "entities": entities, "pageSize": 25, "pageNumber": number }).to_string())
    });
    assert_eq!(ids(&transport, in_pages_of(500)).await, numbered(0..60));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_repeats_ends_the_list_with_an_error() {
    let whatever_is_asked = |numbers: &'static [usize], with_number: bool| {
        Scripted::by(move |seen| {
            if seen.is_login() {
                return common::token("t0ken");
            }
            let asked = asked(seen).0;
            let page = numbers[(asked - 1) % numbers.len()];
            let mut body = json!({ "entities": [{ "id": format!("a-{page}") }, { "id": format!("b-{page}") }], "nextUri": "/more" });
            if with_number {
                body["pageNumber"] = json!(page);
            }
            reply(200, body.to_string())
        })
    };
    for (transport, good_pages) in [
        (whatever_is_asked(&[1], true), 1),
        (whatever_is_asked(&[1], false), 1),
        (whatever_is_asked(&[1, 2], false), 2),
        (whatever_is_asked(&[1, 2, 3, 3], true), 3),
    ] {
        let mut pages = transport.agent().scripts(in_pages_of(2)).pages();
        for _ in 0..good_pages {
            pages.try_next().await.unwrap().unwrap();
        }
        let error = pages.try_next().await.unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::UnexpectedAnswer, Some("list scripts")));
        assert!(pages.next().await.is_none() && pages.next().await.is_none());
        assert_eq!(transport.calls().len(), good_pages + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_resumes_from_a_page_number() {
    let transport = service(45, counted);
    let agent = transport.agent();
    let mut scripts = agent.scripts(in_pages_of(10));
    assert_eq!(scripts.page_number(), Some(1));
    let first: Vec<_> = scripts.by_ref().take(15).try_collect().await.unwrap();
    assert_eq!((first.len(), scripts.page_number()), (15, Some(2)));
    let _: Vec<_> = scripts.by_ref().take(5).try_collect().await.unwrap();
    assert_eq!(scripts.page_number(), Some(3));
    let resumed = ListScripts { page_number: scripts.page_number().unwrap(), ..in_pages_of(10) };
    assert_eq!(ids(&transport, resumed).await, numbered(20..45));
    let _: Vec<_> = scripts.by_ref().try_collect().await.unwrap();
    assert_eq!(scripts.page_number(), None);
    assert!(scripts.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn as_pages_a_begun_page_comes_again_whole() {
    let transport = service(30, counted);
    let mut scripts = transport.agent().scripts(in_pages_of(10));
    let _: Vec<_> = scripts.by_ref().take(12).try_collect().await.unwrap();
    let pages: Vec<_> = scripts.pages().try_collect().await.unwrap();
    assert_eq!(pages.iter().map(|page| page.page_number.unwrap()).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(pages[0].entities.len(), 10);
    assert_eq!((pages[0].total, pages[0].page_count), (Some(30), Some(3)));
}

#[tokio::test(start_paused = true)]
async fn an_error_ends_the_list_and_tells_where_to_resume() {
    let transport = Scripted::by(|seen| match (seen.is_login(), seen.url.contains("pageNumber=3")) {
        (true, _) => common::token("t0ken"),
        (_, true) => reply(403, r#"{"code":"missing.permissions"}"#),
        _ => {
            let mut page = page(seen, 50);
            counted(&mut page, asked(seen).0, 10, 50);
            reply(200, page.to_string())
        }
    });
    let mut scripts = transport.agent().scripts_in_divisions(in_pages_of(10));
    let read: Vec<_> = scripts.by_ref().take(20).try_collect().await.unwrap();
    assert_eq!(read.len(), 20);
    let error = scripts.try_next().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Forbidden);
    assert!(scripts.next().await.is_none());
    assert_eq!(scripts.page_number(), Some(3));
    assert_eq!(transport.calls().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_page_is_retried_like_any_get() {
    let transport = Scripted::replies([
        reply(503, ""),
        Reply::Broken(std::io::ErrorKind::ConnectionReset),
        reply(200, r#"{"entities":[{"id":"a"}]}"#),
        reply(503, ""),
        reply(200, r#"{"entities":[]}"#),
    ]);
    assert_eq!(ids(&transport, ListScripts::default()).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_page_size_or_number_nobody_understands_is_refused_before_anything_is_sent() {
    for (page_size, page_number) in [(0, 1), (1, 0), (u32::MAX, 1), (1, 1 << 31), (1 << 31, 1)] {
        let transport = Scripted::replies([]);
        let agent = transport.agent();
        let mut scripts = agent.scripts(ListScripts { page_size, page_number, ..ListScripts::default() });
        let error = scripts.try_next().await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_been_sent()), (ErrorKind::InvalidInput, false), "{error}");
        let query = ListPublishedScripts { page_size, page_number, ..ListPublishedScripts::default() };
        assert!(agent.published_scripts(query).try_next().await.is_err());
        assert!(transport.seen().is_empty());
    }
}
