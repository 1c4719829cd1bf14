//! Lists as streams: lazy, in order, to the last page, never in a loop, and resumable.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt};
use genesys_scripts::{Agent, Error, ErrorKind, ListPublishedScripts, ListScripts, Listing};
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
    assert!(error.to_string().contains("(page 3)"), "{error}");
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

/// A service whose nth page is the nth of these; those after them are empty.
fn pages(pages: impl IntoIterator<Item = Value>) -> Scripted {
    let pages: Vec<Value> = pages.into_iter().collect();
    Scripted::by(move |seen| match seen.is_login() {
        true => common::token("t0ken"),
        false => reply(200, pages.get(asked(seen).0 - 1).unwrap_or(&json!({ "entities": [] })).to_string()),
    })
}

fn of(ids: &[&str], hints: Value) -> Value {
    let mut page = hints;
    page["entities"] = ids.iter().map(|id| json!({ "id": id })).collect();
    page
}

/// What comes of a list, and the error it ends with.
async fn read(mut listing: Listing) -> (Vec<String>, Option<Error>) {
    let mut ids = Vec::new();
    loop {
        match listing.try_next().await {
            Ok(Some(script)) => ids.push(script.id.to_string()),
            Ok(None) => return (ids, None),
            Err(error) => {
                assert!(listing.next().await.is_none(), "an error is the last item");
                return (ids, Some(error));
            }
        }
    }
}

/// Every list there is.
fn each_listing(agent: &Agent, page_size: u32) -> [Listing; 4] {
    let published = || ListPublishedScripts { page_size, ..ListPublishedScripts::default() };
    [
        agent.scripts(in_pages_of(page_size)),
        agent.scripts_in_divisions(in_pages_of(page_size)),
        agent.published_scripts(published()),
        agent.published_scripts_in_divisions(published()),
    ]
}

#[tokio::test(start_paused = true)]
async fn an_empty_page_is_no_end_while_anything_says_that_more_follows() {
    let more = |number: usize| format!("/api/v2/scripts?pageSize=2&pageNumber={number}");
    let table = [
        ("total", [json!({ "total": 3 }), json!({ "total": 3 }), json!({ "total": 3 })]),
        ("total as text", [json!({ "total": "3" }), json!({ "total": "3" }), json!({ "total": "3" })]),
        ("total as a float", [json!({ "total": 3.0 }), json!({ "total": 3.0 }), json!({ "total": 3.0 })]),
        ("page count", [json!({ "pageCount": 3 }), json!({ "pageCount": 3 }), json!({ "pageCount": 3 })]),
        ("next page", [json!({ "nextUri": more(2) }), json!({ "nextUri": more(3) }), json!({})]),
        (
            "against a total of 0",
            [
                json!({ "total": 0, "nextUri": more(2) }),
                json!({ "total": 0, "nextUri": more(3) }),
                json!({ "total": 0 }),
            ],
        ),
        (
            "against a page count of 1",
            [json!({ "total": 3, "pageCount": 1 }), json!({ "total": 3, "nextUri": more(3) }), json!({ "total": 3 })],
        ),
        (
            "elsewhere",
            [
                json!({ "nextUri": "https://elsewhere.example/x?pageNumber=2" }),
                json!({ "nextUri": "//elsewhere.example/y" }),
                json!({}),
            ],
        ),
    ];
    for (said, [first, second, third]) in table {
        // The filtered page in the middle, and at the start.
        for filtered in [0, 1] {
            let mut shown = [&["a", "b"][..], &["c"][..]].into_iter();
            let hints = [first.clone(), second.clone(), third.clone()].into_iter().enumerate();
            let transport =
                pages(hints.map(|(at, hints)| of(if at == filtered { &[] } else { shown.next().unwrap() }, hints)));
            for listing in each_listing(&transport.agent(), 2) {
                let (ids, error) = read(listing).await;
                assert!(error.is_none(), "{said}, {filtered}: {error:?}");
                assert_eq!(ids, ["a", "b", "c"], "{said}, {filtered}");
            }
            assert!(
                transport.calls().iter().all(|seen| seen.url.starts_with(common::HERE)),
                "no hint is followed elsewhere"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_smaller_than_asked_is_no_end_whatever_is_said_of_its_size() {
    let table = [
        ("nothing", json!({})),
        ("the size that was asked for", json!({ "pageSize": 100 })),
        ("its own size", json!({ "pageSize": 2 })),
        ("pages counted by the size that was asked for", json!({ "pageSize": 100, "pageCount": 1 })),
        ("that, and no total", json!({ "pageCount": 1, "total": null })),
        ("that, and a total", json!({ "pageCount": 1, "total": 5 })),
        ("a total of none", json!({ "total": 0 })),
        ("a negative total", json!({ "total": -1, "pageCount": 0 })),
        ("nextUri, blank", json!({ "nextUri": "" })),
    ];
    for (said, hints) in table {
        let transport = pages([&["a", "b"][..], &["c", "d"], &["e"]].map(|ids| of(ids, hints.clone())));
        for listing in each_listing(&transport.agent(), 100) {
            let (ids, error) = read(listing).await;
            assert!(error.is_none(), "{said}: {error:?}");
            assert_eq!(ids, ["a", "b", "c", "d", "e"], "{said}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_resumed_comes_to_its_end_also_where_pages_are_smaller_than_asked() {
    // They have two scripts, and are counted by the size that was asked for.
    for total in 1..=12_usize {
        for (said, hints) in [
            ("a total and pages", json!({ "total": total, "pageCount": total.div_ceil(4) })),
            ("their size, too", json!({ "total": total, "pageCount": total.div_ceil(4), "pageSize": 2 })),
            ("pages", json!({ "pageCount": total.div_ceil(4) })),
            ("a total", json!({ "total": total })),
        ] {
            let all = numbered(0..total);
            let each = all.chunks(2).map(|ids| ids.iter().map(String::as_str).collect::<Vec<_>>());
            let transport = pages(each.map(|ids| of(&ids, hints.clone())));
            for page_number in 1..=u32::try_from(total.div_ceil(2)).unwrap() {
                let query = ListScripts { page_number, ..in_pages_of(4) };
                let (ids, error) = read(transport.agent().scripts(query)).await;
                assert!(error.is_none(), "{total}, {said}, from page {page_number} on: {error:?}");
                let from = (page_number as usize - 1) * 2;
                assert_eq!(ids, all[from..], "{total}, {said}, from page {page_number} on");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_remainder_that_does_not_come_is_an_error_that_says_how_many_did() {
    let pages_of = |hints: Value| [of(&["a", "b"], hints.clone()), of(&["c"], hints)];
    let table = [
        ("counted", pages_of(json!({ "total": 5 })), 3, "3 of 5 scripts came"),
        ("counted, with the pages", pages_of(json!({ "total": 4, "pageCount": 2 })), 3, "3 of 4 scripts came"),
        ("as text", pages_of(json!({ "total": "4", "pageCount": "2" })), 3, "3 of 4 scripts came"),
        ("pages", pages_of(json!({ "pageCount": 3 })), 3, "3 scripts came"),
        ("pages without end", pages_of(json!({ "pageCount": 2_000_000_000 })), 3, "3 scripts came"),
    ];
    for (said, [first, second], came, words) in table {
        let beyond = json!({ "entities": [], "pageCount": first["pageCount"], "total": first["total"] });
        let transport = pages([first, second].into_iter().chain(std::iter::repeat_n(beyond, 50)));
        let mut listing = transport.agent().scripts(in_pages_of(2));
        let good: Vec<_> = listing.by_ref().take(came).try_collect().await.unwrap();
        assert_eq!(good.len(), came);
        let error = listing.try_next().await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::UnexpectedAnswer, Some(200)), "{said}");
        assert!(error.to_string().contains(words), "{said}: {error}");
        assert!(listing.page_number().is_some(), "{said}");
        assert!(transport.calls().len() <= 2 + 20, "{said}: {}", transport.calls().len());
    }
    let next = json!({ "nextUri": "/api/v2/scripts?pageNumber=2" });
    for first in [json!({ "total": 3 }), json!({ "pageCount": 2 }), next] {
        let (ids, error) = read(pages([of(&["a"], first.clone())]).agent().scripts(in_pages_of(1))).await;
        assert_eq!(ids, ["a"], "{first}");
        assert!(error.expect("what was said on an earlier page holds").to_string().contains("page"), "{first}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_leads_round_in_a_circle_ends_as_an_error() {
    let to = |number: usize| json!({ "nextUri": format!("/api/v2/scripts?pageSize=2&pageNumber={number}") });
    let elsewhere = json!({ "nextUri": "https://api.example.com/api/v2/scripts?pageNumber=1&pageSize=2" });
    let table = [
        ("to the first", vec![of(&["a"], to(2)), of(&["b"], to(1))], 2),
        ("to itself", vec![of(&["a"], to(1))], 1),
        ("elsewhere", vec![of(&["a"], to(2)), of(&["b"], to(3)), of(&["c"], elsewhere)], 3),
        ("from an empty page", vec![of(&["a"], to(2)), of(&[], to(2))], 1),
        ("the same page", vec![of(&["a", "b"], json!({})), of(&["a", "b"], json!({}))], 2),
        ("in another order", vec![of(&["a", "b"], json!({})), of(&["b", "a"], json!({}))], 2),
        ("an earlier page", vec![of(&["a", "b"], to(2)), of(&["c"], to(3)), of(&["a", "b"], to(4))], 3),
    ];
    for (how, given, came) in table {
        let transport = pages(given);
        let (ids, error) = read(transport.agent().scripts(in_pages_of(2))).await;
        assert_eq!(ids, ["a", "b", "c"][..came], "{how}");
        let error = error.expect(how);
        assert_eq!(error.kind(), ErrorKind::UnexpectedAnswer, "{how}");
        assert!(error.to_string().contains(&format!("{came} script")), "{how}: {error}");
    }
    // The service said that it ends, and shows its last page for every page beyond.
    let clamped = Scripted::by(|seen| match seen.is_login() {
        true => common::token("t0ken"),
        false => reply(200, of(&["a", "b"], json!({ "pageCount": 1 })).to_string()),
    });
    assert_eq!(ids(&clamped, in_pages_of(2)).await, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_script_that_moves_while_the_list_is_read_comes_once() {
    for hints in [json!({}), json!({ "total": 4 }), json!({ "total": 4, "pageCount": 3 })] {
        let transport =
            pages([of(&["a", "b"], hints.clone()), of(&["b", "c"], hints.clone()), of(&["d", "d"], hints.clone())]);
        assert_eq!(ids(&transport, in_pages_of(2)).await, ["a", "b", "c", "d"], "{hints}");
        let read: Vec<_> = transport.agent().scripts(in_pages_of(2)).pages().try_collect().await.unwrap();
        assert_eq!(read.iter().map(|page| page.entities.len()).sum::<usize>(), 4, "{hints}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_there_is_said_to_be_no_further_page_a_refusal_of_one_is_the_end() {
    for (status, body) in [(404, r#"{"code":"not.found"}"#), (400, r#"{"code":"invalid.value"}"#), (200, "no more")] {
        let transport = Scripted::by(move |seen| match (seen.is_login(), seen.url.contains("pageNumber=1")) {
            (true, _) => common::token("t0ken"),
            (_, true) => reply(200, of(&["a"], json!({ "total": 1 })).to_string()),
            _ => reply(status, body),
        });
        assert_eq!(ids(&transport, in_pages_of(2)).await, ["a"], "{status}");
    }
    // Where nothing said so, it is a failure.
    let transport = Scripted::by(move |seen| match (seen.is_login(), seen.url.contains("pageNumber=1")) {
        (true, _) => common::token("t0ken"),
        (_, true) => reply(200, of(&["a"], json!({})).to_string()),
        _ => reply(404, ""),
    });
    let (ids, error) = read(transport.agent().scripts(in_pages_of(2))).await;
    assert_eq!((ids.len(), error.unwrap().kind()), (1, ErrorKind::NotFound));
}

#[tokio::test(start_paused = true)]
async fn one_bad_item_costs_that_item_and_is_counted() {
    let bad = [
        json!(null),
        json!(7),
        json!("a script"),
        json!(true),
        json!([]),
        json!(["a"]),
        json!({}),
        json!({ "name": "x" }),
        json!({ "id": null }),
        json!({ "id": "" }),
        json!({ "id": 42 }),
        json!({ "id": ".." }),
        json!({ "id": { "x": 1 } }),
        json!({ "id": ["a"] }),
        json!({ "id": "published" }),
        json!({ "id": "x".repeat(300) }),
    ];
    let good = |id: &str| json!({ "id": id, "name": "x" });
    for bad in &bad {
        let page = json!({ "entities": [good("a"), bad, good("b")], "total": 3, "pageCount": 1 });
        let transport = pages([page]);
        for mut listing in each_listing(&transport.agent(), 100) {
            let read: Vec<_> = (&mut listing).try_collect().await.unwrap();
            assert_eq!(read.iter().map(|script| script.id.as_str()).collect::<Vec<_>>(), ["a", "b"], "{bad}");
            assert_eq!(listing.skipped(), 1, "{bad}");
        }
        // The items that cannot be read may count, too, or stand where another page begins.
        assert_eq!(transport.calls().len(), 2 * 4, "it is not read to more than the page behind");
    }
    // All of them are bad, and the service answers every page with the one it has.
    for bad in [vec![json!(null)], vec![json!({}), json!(7)], vec![json!("a"), json!([]), json!(null)]] {
        for count in [1, 2] {
            let page = json!({ "entities": bad, "pageCount": count });
            let transport =
                Scripted::by(
                    move |seen| if seen.is_login() { common::token("t0ken") } else { reply(200, page.to_string()) },
                );
            for mut listing in each_listing(&transport.agent(), 100) {
                let read: Vec<_> = (&mut listing).try_collect().await.unwrap();
                assert!(read.is_empty() && listing.skipped() >= bad.len(), "{bad:?} {}", listing.skipped());
            }
            assert_eq!(transport.calls().len(), 4 * (count + 1), "{bad:?}");
        }
    }
    let all: Vec<Value> = bad.into_iter().chain([good("a")]).collect();
    let transport = pages([json!({ "entities": all, "total": 18 }), json!({ "entities": [good("b")], "total": 18 })]);
    let mut listed = transport.agent().scripts(ListScripts::default()).pages();
    let first = listed.try_next().await.unwrap().unwrap();
    assert_eq!((first.entities.len(), first.entities.skipped()), (1, 16));
    assert_eq!((listed.try_next().await.unwrap().unwrap().entities.len(), listed.skipped()), (1, 16));
}

#[tokio::test(start_paused = true)]
async fn a_page_without_a_list_of_scripts_is_an_empty_one() {
    for (entities, skipped) in [(json!(null), 0), (json!({}), 1), (json!("none"), 1), (json!(0), 1)] {
        let mut listing = pages([json!({ "entities": entities })]).agent().scripts(ListScripts::default());
        assert!(listing.try_next().await.unwrap().is_none(), "{entities}");
        assert_eq!(listing.skipped(), skipped, "{entities}");
        // But nothing that is promised goes missing.
        let promised = pages([json!({ "entities": entities, "total": 2, "pageCount": 1 })]);
        assert!(promised.agent().scripts(ListScripts::default()).try_next().await.is_err(), "{entities}");
    }
    for body in ["[]", r#"[{"id":"a"}]"#, "null", r#""x""#, "7", ""] {
        let transport = Scripted::replies([reply(200, body)]);
        let error = transport.agent().scripts(ListScripts::default()).try_next().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedAnswer, "{body}: {error}");
    }
}

fn rows(rows: &[Option<&str>], hints: Value) -> Value {
    let mut page = hints;
    page["entities"] = rows.iter().map(|id| id.map(|id| json!({ "id": id }))).collect();
    page
}

/// As of a service that makes pages smaller than it says, and does not count what cannot be read.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_does_not_stand_for_scripts_that_did_not_come() {
    for total in 1..=4_usize {
        let hints = json!({ "total": total, "pageCount": total.div_ceil(2) });
        let ids = ["s1", "s2", "s3", "s4"];
        let transport = pages(ids[..total].iter().map(|id| rows(&[None, Some(id)], hints.clone())));
        for mut listing in each_listing(&transport.agent(), 2) {
            let read: Vec<_> = (&mut listing).try_collect().await.unwrap();
            let read: Vec<_> = read.iter().map(|script| script.id.as_str()).collect();
            assert_eq!((read.as_slice(), listing.skipped()), (&ids[..total], total), "{hints}");
        }
    }
}

/// A service whose pages are other ones from the request on that is said.
fn pages_until(request: usize, before: Vec<Value>, after: Vec<Value>) -> Scripted {
    let asked_so_far = std::sync::Mutex::new(0);
    Scripted::by(move |seen| {
        if seen.is_login() {
            return common::token("t0ken");
        }
        let mut asked_so_far = asked_so_far.lock().unwrap();
        *asked_so_far += 1;
        let pages = if *asked_so_far < request { &before } else { &after };
        let beyond = json!({ "entities": [], "total": pages[0]["total"], "pageCount": pages[0]["pageCount"] });
        reply(200, pages.get(asked(seen).0 - 1).unwrap_or(&beyond).to_string())
    })
}

#[tokio::test(start_paused = true)]
async fn a_script_that_is_deleted_or_made_while_a_list_is_read_costs_no_other() {
    let in_pages = |ids: &[&str], counted: bool| -> Vec<Value> {
        let mut hints = json!({ "total": ids.len() });
        if counted {
            hints["pageCount"] = json!(ids.len().div_ceil(2));
        }
        ids.chunks(2).map(|ids| of(ids, hints.clone())).collect()
    };
    let (all, gone) = (["a", "b", "c", "d", "e", "f"], ["b", "c", "d", "e", "f"]);
    for counted in [true, false] {
        for (request, before, after, in_all) in [
            (2, &all[..4], &gone[..3], &all[..4]),
            (3, &all[..], &gone[..], &all[..]),
            (2, &all[..], &all[2..], &all[..]),
            // Two of them, so that there is no second page any more.
            (2, &all[..4], &all[2..4], &all[..4]),
            // More of them than are left.
            (3, &all[..], &all[4..], &all[..]),
            // One more, before what was read.
            (2, &gone[..3], &all[..4], &all[..4]),
            (3, &gone[..], &all[..], &all[..]),
        ] {
            let transport = pages_until(request, in_pages(before, counted), in_pages(after, counted));
            let (mut ids, error) = read(transport.agent().scripts(in_pages_of(2))).await;
            assert!(error.is_none(), "{before:?} {after:?}: {error:?}");
            ids.sort();
            assert_eq!(ids, in_all, "{before:?} {after:?} {counted}");
            assert!(transport.calls().len() <= 9, "{}", transport.calls().len());
        }
    }
    // A total that wobbles costs one reading more, and no script.
    let wobbles = |seen: &Seen| json!({ "total": 6 - asked(seen).0 % 2, "pageCount": 3 });
    let transport = Scripted::by(move |seen| match seen.is_login() {
        true => common::token("t0ken"),
        false => reply(200, of([&all[..2], &all[2..4], &all[4..]][asked(seen).0 - 1], wobbles(seen)).to_string()),
    });
    let (ids, error) = read(transport.agent().scripts(in_pages_of(2))).await;
    assert!(ids == all && error.is_none() && transport.calls().len() <= 6, "{ids:?} {error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_list_may_count_a_script_twice_that_it_shows_twice() {
    for hints in [json!({ "total": 3, "pageCount": 1 }), json!({ "total": 3 })] {
        let beyond = std::iter::repeat_n(of(&[], hints.clone()), 30);
        let transport = pages([of(&["a", "a", "b"], hints.clone())].into_iter().chain(beyond));
        assert_eq!(ids(&transport, in_pages_of(3)).await, ["a", "b"], "{hints}");
        assert!(transport.calls().len() <= 2, "{}", transport.calls().len());
    }
    // A row of its own may still come.
    let hints = json!({ "total": 3 });
    let transport = pages([of(&["a", "a"], hints.clone()), of(&["b"], hints.clone()), of(&["c"], hints)]);
    assert_eq!(ids(&transport, in_pages_of(2)).await, ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_gateway_says_is_no_end_of_a_list() {
    let first = of(&["a", "b"], json!({ "pageCount": 1 })).to_string();
    let large = format!(r#"{{"error":"{}"}}"#, "no ".repeat(100_000));
    for (status, body) in [
        (200, "<html><title>Maintenance</title>"),
        (200, "<html>"),
        (302, ""),
        (200, r#"{"entities":[{"id":"c"},{"id"#),
        (200, "\u{1}\u{2}\u{3}"),
        (200, &"x".repeat(1_000)),
        (200, &large),
        (404, "<html><title>Not Found</title>"),
        (400, "<html>nginx</html>"),
    ] {
        let (first, body) = (first.clone(), body.to_owned());
        let transport = Scripted::by(move |seen| match (seen.is_login(), seen.url.contains("pageNumber=1")) {
            (true, _) => common::token("t0ken"),
            (_, true) => reply(200, first.clone()),
            _ => reply(status, body.clone()).with("location", "https://login.example/"),
        });
        let (ids, error) = read(transport.agent().scripts(in_pages_of(25))).await;
        assert_eq!(ids, ["a", "b"]);
        assert!(error.is_some(), "{status}");
    }
    // Nor is a promise of more that is not kept.
    let transport = pages([of(&["a"], json!({ "pageCount": 1 })), of(&[], json!({ "pageCount": 2 }))]);
    assert!(read(transport.agent().scripts(in_pages_of(1))).await.1.is_some());
    // An error is no empty page, however long it is.
    let transport = Scripted::replies([reply(200, large)]);
    assert!(read(transport.agent().scripts(in_pages_of(1))).await.1.is_some());
    for nothing in ["", " ", "null", "[]", "There is no such page."] {
        let transport = Scripted::by(move |seen| match (seen.is_login(), seen.url.contains("pageNumber=1")) {
            (true, _) => common::token("t0ken"),
            (_, true) => reply(200, of(&["a"], json!({ "total": 1 })).to_string()),
            _ => reply(200, nothing),
        });
        assert_eq!(ids(&transport, in_pages_of(1)).await, ["a"], "{nothing}");
    }
}
