//! Script files as people have them, and signed URLs as they are given.

use std::time::Duration;

use genesys_scripts::simulator::Simulator;
use genesys_scripts::{
    Client, ErrorKind, ExportScript, ImportScript, Json, Region, Script, ScriptContent, ScriptFile, SignedUrl,
};
use serde_json::json;

use crate::common::wire::{Say, Wire, say};
use crate::common::{self, Scripted, credentials, reply};

fn named(name: &str) -> ScriptFile {
    json!({ "name": name, "pages": [] }).to_string().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_a_template_nobody_filled_in_is_refused_unless_a_name_is_given() {
    let uploaded = || {
        Scripted::by(|seen| match seen.url.rsplit('/').next() {
            Some("token") => common::token("t0ken"),
            Some("scripter") => reply(200, r#"{"correlationId":"up-1"}"#),
            Some("status?longPoll=true") => reply(200, r#"{"succeeded":true}"#),
            _ => reply(403, ""),
        })
    };
    for name in [
        "{{name}}",
        "{{ script_name }}",
        "Inbound {{env | upper}}",
        "{{{name}}}",
        "${NAME}",
        "Inbound ${env.STAGE:-test}",
        "#{ScriptName}",
        "$(scriptName)",
        "<%= name %>",
        "<script-name>",
        "%SCRIPT_NAME%",
        "__SCRIPT_NAME__",
        "{% name %}",
        "@@SCRIPT_NAME@@",
        "@script.name@",
    ] {
        let transport = uploaded();
        let error = transport.agent().import(&named(name), &ImportScript::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        assert!(error.to_string().contains(name) && error.to_string().contains("template"), "{error}");
        assert!(transport.seen().is_empty());
        for given in ["Inbound", name] {
            let options = ImportScript { name: Some(given.to_owned()), ..ImportScript::default() };
            let _ = uploaded().agent().import(&named(name), &options).await.unwrap();
        }
    }
    for name in [
        "Sale {summer}",
        "{A}",
        "50% off, 20%",
        "a < b > c",
        "<b>Sale</b>",
        "Bonus $(100)",
        "$5 {x}",
        "}}{{",
        "_x_",
        "@home",
        "a@b@c",
        "{%}",
    ] {
        let _ = uploaded().agent().import(&named(name), &ImportScript::default()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_name_nothing_is_sent() {
    for (text, name) in
        [("{}", None), (r#"{"name":null}"#, None), (r#"{"name":" "}"#, None), (r#"{"name":"x"}"#, Some(" "))]
    {
        let transport = Scripted::replies([]);
        let options = ImportScript { name: name.map(str::to_owned), ..ImportScript::default() };
        let error = transport.agent().import(&text.parse().unwrap(), &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(transport.seen().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn utf_16_is_named_with_how_to_save_it_and_the_rest_of_what_is_no_file_too() {
    for text in [r#"{"name":"ä"}"#, "\r\n {}", "[1]"] {
        let units = || text.encode_utf16();
        let little: Vec<u8> = units().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = units().flat_map(u16::to_be_bytes).collect();
        let marked = [[&[0xFF, 0xFE], &little[..]].concat(), [&[0xFE, 0xFF], &big[..]].concat()];
        for bytes in marked.into_iter().chain([little, big]) {
            let error = ScriptFile::from_slice(&bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains("UTF-16") && error.to_string().contains("save it as UTF-8"), "{error}");
        }
    }
    let latin = ScriptFile::from_slice(b"{\"name\":\"\xE4\"}").unwrap_err();
    assert!(latin.to_string().contains("UTF-8") && !latin.to_string().contains("UTF-16"), "{latin}");
    for text in ["", "[]", " [{}]", "null", "<html>", "{\"name\":"] {
        assert_eq!(text.parse::<ScriptFile>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
    }
}

#[test]
fn a_file_written_by_hand_decodes_without_ids() {
    for text in [
        r#"{"name":"Inbound"}"#,
        r#"{"name":"Inbound","pages":null,"variables":[]}"#,
        r#"{"name":"Inbound","pages":{}}"#,
        r#"{"name":"Inbound","pages":[null,{"name":"Start","rootContainer":{}}]}"#,
        r#"{"id":"","name":"Inbound","startPageId":7,"pages":[{"name":"Start","rootContainer":{"type":"x"}}],"mine":[1]}"#,
    ] {
        let file: ScriptFile = text.parse().unwrap();
        let content: ScriptContent = file.decode().unwrap();
        assert_eq!((content.id, content.name.as_deref()), (None, Some("Inbound")));
        assert_eq!((file.as_str(), file.id()), (text, None));
    }
    let file: ScriptFile = r#"{"pages":[null,{"name":"Start"},{"name":"End"}]}"#.parse().unwrap();
    let pages = file.decode::<ScriptContent>().unwrap().pages;
    assert_eq!((pages.len(), pages.skipped(), pages[0].name.as_deref()), (2, 1, Some("Start")));
    let file: ScriptFile = r#"{"id":"0e2c","customActions":{"a":1},"features":{"x":1.0}}"#.parse().unwrap();
    let content: ScriptContent = file.decode().unwrap();
    assert_eq!(content.features.as_ref().map(Json::as_str), Some(r#"{"x":1.0}"#));
    assert_eq!(content.id, file.decode::<Script>().ok().map(|script| script.id));
}

/// A page whose layout nests deeper than a decoder that recurses would bear.
fn deep(depth: usize) -> String {
    let layout = format!("{}{}{}", r#"{"children":["#.repeat(depth), "{}", "]}".repeat(depth));
    format!("{{\"name\":\"Deep\",\"pages\":[{{\"rootContainer\":{layout}}}]}}")
}

#[tokio::test]
async fn what_is_imported_is_exported_byte_for_byte_or_refused_for_what_it_is() {
    let simulator =
        Simulator::builder().client_secret(common::SECRET).upload_time(Duration::ZERO).start().await.unwrap();
    let region = Region::custom(simulator.url(), simulator.url(), simulator.url()).unwrap();
    let agent = Client::builder(region).build().unwrap().agent(credentials());
    let padded = |size: usize| format!(r#"{{"name":"Large","pages":[],"pad":"{}"}}"#, "x".repeat(size));
    for text in [
        "{\r\n  \"name\": \"Lines\",\r\n  \"pages\": []\r\n}\r\n\r\n  \n\t ".to_owned(),
        "\n\n{\"name\":\"Blank\",\"pages\":[],\"later\":{\"x\": 1.50}}\n".to_owned(),
        padded(3_000_000),
        deep(2_000),
    ] {
        let file: ScriptFile = text.parse().unwrap();
        let imported = agent.import(&file, &ImportScript::default()).await.unwrap();
        let exported = agent.export_file(imported.script_id().unwrap(), &ExportScript::default()).await.unwrap();
        assert!(exported.as_str() == text, "{:?}", file.name());
        assert_eq!(file.decode::<ScriptContent>().unwrap().name.as_deref(), file.name());
    }
    let error = agent.import(&padded(18_000_000).parse().unwrap(), &ImportScript::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::TooLarge, Some(413)), "{error}");
    let no_pages = r#"{"name":"Empty"}"#.parse().unwrap();
    let error = agent.import(&no_pages, &ImportScript::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::ImportFailed, Some("Invalid script definition")));
}

#[tokio::test]
async fn a_signed_url_goes_out_byte_for_byte_as_it_was_given() {
    for target in [
        "/f/x.script?X-Signature=a%2Fb%2fc%7e%7E~+%20&b=&c",
        "/f//x%2Fy.script?",
        "/f/Caller's.script?n=a|b{c}^[d]`\\;@:!$*()_-.~,=&&",
        "/f/a+b;c=d@e:f!$&'()*,|x.script",
        "/?a?b/../c/./d",
        "/%41%61/~x?%F0%9f%98%80=%00",
        "/x?n=Caller's&X-Signature='",
        "/a/./b/../c/%2e%2E/d",
        "/a\\b?c\\d'",
        "/{c}?{c}'",
    ] {
        let wire = Wire::listen(|_, _| say("200 OK", "", r#"{"name":"x"}"#)).await;
        let agent = wire.builder().build().unwrap().agent(credentials());
        agent.download_export(&SignedUrl::new(format!("{}{target}#part", wire.url))).await.unwrap();
        assert_eq!(wire.heads()[0].lines().next(), Some(&*format!("GET {target} HTTP/1.1")));
        // And where it was led there.
        let location = format!("location: {}{target}\r\n", wire.url);
        let first = Wire::listen(move |_, _| say("302 Found", &location, "")).await;
        agent.download_export(&SignedUrl::new(format!("{}/x?it's", first.url))).await.unwrap();
        assert_eq!(wire.heads()[1].lines().next(), Some(&*format!("GET {target} HTTP/1.1")));
        let heads = wire.heads();
        assert!(heads.iter().all(|head| head.contains("user-agent: ") && !head.contains("authorization")), "{heads:?}");
    }
}

#[tokio::test]
async fn a_signed_url_is_asked_for_again_where_the_connection_ends_also_when_it_goes_out_as_given() {
    for target in ["/x?n=Callers", "/x?n=Caller's"] {
        let wire = Wire::listen(|nth, _| match nth {
            0 => Say::Bytes(Vec::new()),
            1 => Say::Reset(Vec::new()),
            2 => Say::Bytes(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()),
            _ => say("200 OK", "", r#"{"name":"x"}"#),
        })
        .await;
        let agent = wire.builder().build().unwrap().agent(credentials());
        agent.download_export(&SignedUrl::new(format!("{}{target}", wire.url))).await.unwrap();
        assert_eq!(wire.heads().len(), 4, "{target}");
    }
}

/// What no request can hold.
#[tokio::test]
async fn a_signed_url_that_must_be_changed_is_changed_as_documented_and_a_refusal_says_so() {
    for (target, sent) in [
        ("/x?n=a b\"<c>ä", "/x?n=a%20b%22%3Cc%3E%C3%A4"),
        ("/a b{c}`\"ä", "/a%20b%7Bc%7D%60%22%C3%A4"),
        ("/a/./b/../c/d e", "/a/c/d%20e"),
        ("/a\tb?c\r\nd", "/ab?cd"),
    ] {
        let wire =
            Wire::listen(|_, _| say("403 Forbidden", "", "<Error><Code>SignatureDoesNotMatch</Code></Error>")).await;
        let agent = wire.builder().build().unwrap().agent(credentials());
        let error = agent.download_export(&SignedUrl::new(format!("{}{target}", wire.url))).await.unwrap_err();
        assert_eq!(wire.heads()[0].lines().next(), Some(&*format!("GET {sent} HTTP/1.1")));
        assert!(error.to_string().contains("byte for byte"), "{error}");
    }
    let wire = Wire::listen(|_, _| say("403 Forbidden", "", "")).await;
    let agent = wire.builder().build().unwrap().agent(credentials());
    for url in [wire.url.clone(), format!("{}?x", wire.url), format!("{}/x?y#z", wire.url)] {
        let error = agent.download_export(&SignedUrl::new(url)).await.unwrap_err();
        assert!(!error.to_string().contains("byte for byte"), "{error}");
    }
}
