//! What the service may send, and is read all the same.

use futures_util::TryStreamExt;
use genesys_scripts::{ErrorKind, ListScripts, Page, Script, ScriptFile, ScriptListing};
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
