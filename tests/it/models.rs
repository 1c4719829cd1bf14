//! What the service may send, and is read all the same.

use futures_util::TryStreamExt;
use genesys_scripts::{
    ErrorKind, ExportScript, ListScripts, Page, PageId, PublishScript, ReadScript, ReadUploadStatus, Script,
    ScriptFile, ScriptListing,
};
use serde_json::{Value, json};

use crate::common::{ID, Scripted, id, reply};

const EXPORTED: &str = r#"
{ "id": "0e2c", "name": "Inbound \u00e4", "organizationId": "o", "versionId": "v", "startPageId": "p",
  "createdDate": "2025-02-04T16:38:38.380Z", "modifiedDate": "2025-02-04T16:38:38Z",
  "pages": [{"id": "p", "properties": {"backgroundColor": {"typeName": "color"}}, "dataVersion": 0}],
  "features": {"dialer": {"properties": {"enabled": {"typeName": "boolean", "value": false}}}},
  "variables": [{"id": "x", "value": 1.0e0, "input": true}, {"value": 12345678901234567890123}],
  "customActions": [], "dataVersion": 0, "dataVersion": 0 }
"#;

/// The i-th of many ways to send a script.
fn variant(i: usize) -> Value {
    let free_form = |i: usize| match i % 6 {
        0 => Some(json!([{ "name": "a" }])),
        1 => Some(json!({ "a": { "type": "string" } })),
        2 => Some(Value::Null),
        3 => Some(json!("text")),
        4 => Some(json!(7)),
        _ => None,
    };
    let date = |i: usize| match i % 9 {
        0 => Some(json!("2025-02-04T16:38:38.380Z")),
        1 => Some(json!("2025-02-04T16:38:38Z")),
        2 => Some(json!("2025-02-04T16:38:38.380000+01:00")),
        3 => Some(json!("2025-02-04T16:38:38.380+0000")),
        4 => Some(json!("yesterday")),
        5 => Some(json!(1_738_687_118_380_u64)),
        6 => Some(json!({ "year": 2025 })),
        7 => Some(Value::Null),
        _ => None,
    };
    let mut script = json!({ "id": format!("script-{i}"), "unknown": { "deep": [i] } });
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            script[key] = value;
        }
    };
    set("variables", free_form(i));
    set("customActions", free_form(i / 6));
    set("features", free_form(i / 36));
    set("createdDate", date(i));
    set("modifiedDate", date(i / 9));
    set("publishedDate", date(i + 3));
    set("division", [None, Some(Value::Null), Some(json!({ "id": "..", "kind": "new" }))][i % 3].clone());
    set("versionId", [None, Some(json!("v")), Some(json!(7)), Some(json!("")), Some(json!(["v"]))][i % 5].clone());
    set("startPageId", [None, Some(json!("published")), Some(json!(true))][i % 3].clone());
    set("name", [None, Some(Value::Null), Some(json!("n"))][i % 3].clone());
    set("pages", [None, Some(Value::Null), Some(json!([])), Some(json!([{ "id": "", "x": 1 }, {}]))][i % 4].clone());
    script
}

#[tokio::test(start_paused = true)]
async fn four_hundred_scripts_in_every_variation_all_decode() {
    let all: Vec<Value> = (0..400).map(variant).collect();
    let body = json!({ "entities": all, "pageCount": 1, "total": 400, "new": {} }).to_string();
    let transport = Scripted::replies([reply(200, body)]);
    let query = ListScripts { page_size: 400, ..ListScripts::default() };
    let scripts: Vec<Script> = transport.agent().scripts(query).try_collect().await.unwrap();
    assert_eq!(scripts.len(), 400);
    for (i, (script, sent)) in scripts.iter().zip(&all).enumerate() {
        let variables = script.variables.as_ref().map(|json| json.decode::<Value>().unwrap());
        assert_eq!(variables, sent.get("variables").filter(|value| !value.is_null()).cloned(), "{i}");
        assert_eq!(script.created_date.is_some(), i % 9 < 4, "{i}");
        if i % 9 == 3 {
            assert_eq!(script.created_date.unwrap().timestamp_millis(), 1_738_687_118_380);
        }
        assert_eq!(script.start_page_id.as_ref().map(|id| id.as_str()), [None, None, Some("true")][i % 3]);
        assert_eq!(script.version_id.as_ref().map(|id| id.as_str()), [None, Some("v"), Some("7"), None, None][i % 5]);
        assert!(script.pages.iter().all(|page| page.id.is_none()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_script_without_an_id_is_none() {
    for body in ["{}", r#"{"id":null}"#, r#"{"id":""}"#, "[]", "null"] {
        let error = Scripted::replies([reply(200, body)]).agent().script(&id()).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::UnexpectedAnswer, Some(200)), "{body}");
    }
}

/// What should be a script, and what of it came: neither is it served, nor is it said that nothing was sent.
#[tokio::test(start_paused = true)]
async fn an_answer_of_another_shape_is_told_as_what_it_is() {
    let table = [
        ("[]", "is a JSON array"),
        (r#"["476c2b71-7429-11e4-9a5b-3f91746bffa3"]"#, "is a JSON array"),
        (r#" [{"id":"476c2b71-7429-11e4-9a5b-3f91746bffa3"}]"#, "is a JSON array"),
        (
            r#"["476c2b71-7429-11e4-9a5b-3f91746bffa3",null,null,null,null,null,null,null,null,null,null,null,null,[],null]"#,
            "is a JSON array",
        ),
        (r#""x""#, "is a JSON string"),
        ("null", "is null"),
        (" null\n", "is null"),
        ("-1.5", "is a number"),
        ("false", "is true or false alone"),
        ("", "is empty"),
        (" \r\n", "is empty"),
        ("<html>", "is HTML or XML"),
        ("nothing", "is no JSON"),
    ];
    for (body, words) in table {
        let agent = || Scripted::replies([reply(200, body)]).agent();
        let page: PageId = "p".parse().unwrap();
        let query = ReadScript::default();
        let errors = [
            agent().script(&id()).await.unwrap_err(),
            agent().published_script(&id(), &query).await.unwrap_err(),
            agent().publish(&id(), &PublishScript::default()).await.unwrap_err(),
            agent().script_page(&id(), &page, &query).await.unwrap_err(),
            agent().published_script_page(&id(), &page, &query).await.unwrap_err(),
            agent().export(&id(), &ExportScript::default()).await.unwrap_err(),
            agent().upload_status(&"u".parse().unwrap(), &ReadUploadStatus::default()).await.unwrap_err(),
            agent().scripts(ListScripts::default()).try_next().await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!((error.kind(), error.status()), (ErrorKind::UnexpectedAnswer, Some(200)), "{body}");
            assert!(error.to_string().contains(words), "{error}");
        }
        if !body.trim().starts_with('[') {
            let error = agent().script_pages(&id(), &query).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedAnswer, "{body}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
    let object = Scripted::replies([reply(200, r#"{"entities":[]}"#)]);
    let error = object.agent().published_script_pages(&id(), &ReadScript::default()).await.unwrap_err();
    assert!(error.to_string().contains("should be a list of pages, but is a JSON object"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn no_error_about_an_answer_says_that_nothing_was_sent() {
    for odd in
        [json!(".."), json!(""), json!("published"), json!("${scriptId}"), json!(" x"), json!("null"), json!("a\u{7}")]
    {
        let answer = reply(200, json!({ "id": odd }).to_string());
        let error = Scripted::replies([answer]).agent().script(&id()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedAnswer, "{odd}");
        assert!(!error.to_string().contains("nothing was sent") && error.to_string().contains("script id"), "{error}");
        assert!(error.may_have_been_sent(), "{odd}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_script_comes_with_the_pages_that_can_be_read() {
    let page = |id: &str| json!({ "id": id, "name": "Start" });
    let table = [
        (json!([null, page("p-1")]), 1, 1),
        (json!([page("p-1"), 7, "x", true, []]), 1, 4),
        (json!([["p-1"], page("p-2"), page("p-3")]), 2, 1),
        (json!([{ "id": 7, "name": ["x"], "createdDate": {}, "versionId": null, "rootContainer": 1 }]), 1, 0),
        (json!([null, null]), 0, 2),
        (json!({ "p-1": page("p-1") }), 0, 1),
        (json!("none"), 0, 1),
        (json!(null), 0, 0),
        (json!([]), 0, 0),
    ];
    for (pages, read, skipped) in table {
        let body = json!({ "id": ID, "name": "x", "pages": pages, "division": ["d"] }).to_string();
        let script = Scripted::replies([reply(200, body)]).agent().script(&id()).await.unwrap();
        assert_eq!((script.pages.len(), script.pages.skipped()), (read, skipped), "{pages}");
        assert_eq!(script.division, None);
        if pages.is_array() {
            let answers = Scripted::replies([reply(200, pages.to_string()), reply(200, pages.to_string())]);
            let edited = answers.agent().script_pages(&id(), &ReadScript::default()).await.unwrap();
            let published = answers.agent().published_script_pages(&id(), &ReadScript::default()).await.unwrap();
            assert_eq!((edited.len(), edited.skipped()), (read, skipped), "{pages}");
            assert_eq!(edited, published);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_of_another_type_costs_that_part() {
    for odd in [json!(7), json!("x"), json!([]), json!(["d"]), json!({ "id": [] }), json!(true), json!(null)] {
        let script = json!({
            "id": ID, "name": "kept", "division": odd, "versionId": odd, "createdDate": odd, "startPageId": odd, "pages": odd,
            "features": odd, "variables": odd, "customActions": odd, "selfUri": odd,
        });
        let listed = json!({ "entities": [script, script], "total": 1, "pageCount": 1 });
        let read = Scripted::replies([reply(200, script.to_string())]).agent().script(&id()).await.unwrap();
        assert_eq!((read.name.as_deref(), read.created_date), (Some("kept"), None), "{odd}");
        assert_eq!(read.variables.is_none(), odd.is_null(), "{odd}");
        let listed = Scripted::replies([reply(200, listed.to_string())]);
        let listed: Vec<Script> = listed.agent().scripts(ListScripts::default()).try_collect().await.unwrap();
        assert_eq!(listed, [read], "{odd}");
    }
}

#[test]
fn a_listing_reads_its_numbers_and_flags_whatever_they_come_as() {
    let listing: ScriptListing = serde_json::from_str(
        r#"{"pageSize":"25","pageNumber":1.5,"total":9007199254740993,"pageCount":99999999999,"truncatedDivisions":"true","nextUri":[1,{"a":2}]}"#,
    )
    .unwrap();
    assert_eq!((listing.page_size, listing.page_number, listing.page_count), (Some(25), None, None));
    assert_eq!((listing.total, listing.truncated_divisions), (Some(9_007_199_254_740_993), Some(true)));
    assert_eq!(listing.next_uri, None);
}

#[tokio::test(start_paused = true)]
async fn a_number_out_of_range_costs_itself() {
    for huge in ["1e400", "-1e400", "1e99999999999999999999"] {
        let script = format!(
            r#"{{"id":"{ID}","name":"kept","createdDate":{huge},"versionId":[{huge}],"division":{{"id":"d","name":{huge}}},
                "pages":[{{"id":"p","createdDate":{huge}}}]}}"#
        );
        let listed = format!(r#"{{"entities":[{script}],"total":{huge},"pageCount":1}}"#);
        let transport = Scripted::replies([reply(200, script.clone()), reply(200, listed), reply(200, "{}")]);
        let agent = transport.agent();
        let read = agent.script(&id()).await.unwrap();
        assert_eq!((read.name.as_deref(), read.created_date), (Some("kept"), None), "{huge}");
        assert_eq!(read.division.as_ref().unwrap().id.as_ref().unwrap().as_str(), "d", "{huge}");
        assert_eq!((read.pages[0].id.as_ref().unwrap().as_str(), read.pages.skipped()), ("p", 0), "{huge}");
        let listed: Vec<Script> = agent.scripts(ListScripts::default()).try_collect().await.unwrap();
        assert_eq!(listed, [read], "{huge}");
        assert_eq!(script.parse::<ScriptFile>().unwrap().name(), Some("kept"), "{huge}");
    }
}

#[test]
fn what_was_read_can_be_stored_and_read_again() {
    let script: Script = serde_json::from_str(EXPORTED).unwrap();
    assert_eq!(script.pages[0].id.as_ref().unwrap(), script.start_page_id.as_ref().unwrap());
    let stored = serde_json::to_string(&script).unwrap();
    assert_eq!(serde_json::from_str::<Script>(&stored).unwrap(), script);
    let minimal: Script = serde_json::from_value(json!({ "id": ID })).unwrap();
    assert_eq!(serde_json::to_value(&minimal).unwrap(), json!({ "id": ID }));
    assert_eq!(serde_json::to_value(serde_json::from_str::<Page>("{}").unwrap()).unwrap(), json!({}));
}

#[test]
fn a_script_file_keeps_every_byte() {
    let file = ScriptFile::from_slice(EXPORTED.as_bytes()).unwrap();
    assert_eq!(file.as_str(), EXPORTED);
    assert_eq!((file.id().unwrap().as_str(), file.name()), ("0e2c", Some("Inbound ä")));
    assert_eq!((file.organization_id(), file.version_id().unwrap().as_str()), (Some("o"), "v"));
    assert_eq!(file.start_page_id().unwrap().as_str(), "p");
    assert!(file.created_date() > file.modified_date());
    let script: Script = file.decode().unwrap();
    assert_eq!(script.variables.unwrap().decode::<Vec<Value>>().unwrap().len(), 2);
    assert!(!format!("{file:?}").contains("backgroundColor"));

    let marked = ScriptFile::from_slice("\u{FEFF}{}".as_bytes()).unwrap();
    assert_eq!((marked.as_str(), marked.name()), ("{}", None));
}

#[test]
fn what_is_no_script_file_is_refused() {
    for bytes in
        [&b""[..], b"[]", b" [{}]", b"null", b"\"x\"", b"{", b"{} {}", b"<html>", b"\xff\xfe{}", b"{\"a\":\xff}"]
    {
        let error = ScriptFile::from_slice(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    // Depth alone breaks nothing.
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(deep.parse::<ScriptFile>().unwrap().as_str(), deep);
}

/// As serde_json hands numbers on where `arbitrary_precision` is on, and also of what was read before.
#[test]
fn a_number_of_any_precision_is_one() {
    let listing = r#"{"total":{"$serde_json::private::Number":"4"},"pageCount":{"number":"4"}}"#;
    let listing: ScriptListing = serde_json::from_str(listing).unwrap();
    assert_eq!((listing.total, listing.page_count), (Some(4), None));
    let listing = r#"{"total":9007199254740993,"pageSize":4.0e0,"pageCount":{"number":"4"},"selfUri":7}"#;
    let value: Value = serde_json::from_str(listing).unwrap();
    let read: [ScriptListing; 2] = [serde_json::from_str(listing).unwrap(), serde_json::from_value(value).unwrap()];
    for listing in read {
        assert_eq!(
            (listing.total, listing.page_size, listing.page_count),
            (Some(9_007_199_254_740_993), Some(4), None)
        );
        assert_eq!(listing.self_uri.as_deref(), Some("7"));
    }
}

/// A name that was shortened in the middle of an emoji.
#[tokio::test(start_paused = true)]
async fn half_a_character_costs_itself() {
    for (escaped, read) in [
        (r"Hi \ud83d", "Hi \u{fffd}"),
        (r"\ude00 Hi", "\u{fffd} Hi"),
        (r"\uD83D\uD83D\uDE00\\ud83d", "\u{fffd}\u{1f600}\\ud83d"),
        (r"\ud83d\u00e4", "\u{fffd}\u{e4}"),
    ] {
        let script = format!(r#"{{"id":"{ID}","name":"{escaped}","pages":[{{"name":"{escaped}"}}]}}"#);
        let list = format!(r#"{{"entities":[{script}],"total":1,"pageCount":1}}"#);
        let agent = Scripted::replies([reply(200, script.clone()), reply(200, list)]).agent();
        let one = agent.script(&id()).await.unwrap();
        assert_eq!((one.name.as_deref(), one.pages[0].name.as_deref()), (Some(read), Some(read)));
        let listed: Vec<Script> = agent.scripts(ListScripts::default()).try_collect().await.unwrap();
        assert_eq!(listed, std::slice::from_ref(&one));
        let file: ScriptFile = script.parse().unwrap();
        assert_eq!((file.as_str(), file.name()), (script.as_str(), Some(read)));
        assert_eq!(file.decode::<Script>().unwrap(), one);
    }
    assert!(r#"{"name":"\ud8"}"#.parse::<ScriptFile>().is_err());
}

/// As a gateway or a hand that edits a file leaves it.
#[tokio::test(start_paused = true)]
async fn of_a_member_that_comes_twice_the_last_counts() {
    let twice = |name: &str, value: &str| format!(r#""{name}":"first",  "{name}" : {value}"#);
    let raw = r#"[ {"a": 1.0, "a": 2} ]"#;
    let division = format!(r#"{{"id":"d","id":null,{}}}"#, twice("name", r#""Home""#));
    let script = format!(
        r#"{{"id":"{ID}",{},"variables":1,"variables":{raw},"division":{division},"pages":[],"pages":[{{{}}},{{"id":"p"}}]}}"#,
        twice("name", r#""n\ud83d""#),
        twice("name", r#""Start""#),
    );
    let next = format!(r#""nextUri":"/nowhere","entities":[null],"nextUri":null,"entities":[{script}]"#);
    let pages = format!("[{{{}}}]", twice("id", r#""p""#));
    let receipt = r#"{"correlationId":"up-1","correlationId":"up-1"}"#;
    let status = r#"{"succeeded":false,"message":"FAILED","message":"done","succeeded":true}"#;
    let replies = [
        script.clone(),
        format!("{{{next},\"total\":1,\"pageCount\":2,\"pageCount\":1}}"),
        pages,
        receipt.into(),
        status.into(),
    ];
    let agent = Scripted::replies(replies.map(|body| reply(200, body))).agent();
    let one = agent.script(&id()).await.unwrap();
    assert_eq!((one.name.as_deref(), one.pages[0].name.as_deref()), (Some("n\u{fffd}"), Some("Start")));
    assert_eq!((one.pages.len(), one.variables.as_ref().map(|json| json.as_str())), (2, Some(raw)));
    let division = one.division.as_ref().unwrap();
    assert_eq!((division.id.as_ref(), division.name.as_deref()), (None, Some("Home")));
    let listed: Vec<Script> = agent.scripts(ListScripts::default()).try_collect().await.unwrap();
    assert_eq!(listed, std::slice::from_ref(&one));
    let pages = agent.script_pages(&id(), &ReadScript::default()).await.unwrap();
    assert_eq!((pages.len(), pages.skipped(), pages[0].id.as_ref().unwrap().as_str()), (1, 0, "p"));
    let file: ScriptFile = script.parse().unwrap();
    assert_eq!((file.as_str(), file.name()), (script.as_str(), Some("n\u{fffd}")));
    assert_eq!(file.decode::<Script>().unwrap(), one);
    let upload = agent.upload(&file, "x", None).await.unwrap();
    assert_eq!(upload.as_str(), "up-1");
    let status = agent.upload_status(&upload, &ReadUploadStatus::default()).await.unwrap();
    assert_eq!((status.succeeded, status.message.as_deref()), (Some(true), Some("done")));
}
