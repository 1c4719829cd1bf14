//! Scripts in and out: upload, import, export, download. On a paused clock, without sockets.

use std::time::Duration;

use genesys_scripts::simulator::Simulator;
use genesys_scripts::{
    Client, ErrorKind, ExportScript, ImportScript, PublishScript, ReadScript, Region, ScriptFile, SignedUrl, UploadId,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::common::wire::{Wire, say};
use crate::common::{self, HERE, ID, Reply, Scripted, Seen, credentials, id, reply};

/// On the api host, so that the scripted transport sees what goes there.
const BUCKET: &str = "http://127.0.0.1:9/bucket/x";
/// An upload host of its own, to see what goes there.
pub(crate) const UPLOADS: &str = "http://127.0.0.1:10/apps";
const FILE: &str = "{\"name\": \"Inbound\",\r\n \"later\": 1.0}";
const SECRET: &str = "sig-hunter2-hunter2-hunter2";

pub(crate) fn file() -> ScriptFile {
    FILE.parse().unwrap()
}

pub(crate) fn upload_id() -> UploadId {
    "up-1".parse().unwrap()
}

fn client(transport: &Scripted) -> Client {
    let region = Region::custom(HERE, HERE, UPLOADS).unwrap();
    Client::builder(region).seed(1).with_middleware(transport.clone()).build().unwrap()
}

pub(crate) fn agent(transport: &Scripted) -> genesys_scripts::Agent {
    client(transport).agent(credentials())
}

fn received() -> Scripted {
    Scripted::replies([reply(200, r#"{"correlationId":"up-1","later":1}"#)])
}

/// The parts of a form: head and content.
pub(crate) fn parts(seen: &Seen) -> Vec<(String, String)> {
    let boundary = seen.header("content-type").strip_prefix("multipart/form-data; boundary=").unwrap();
    let body = std::str::from_utf8(&seen.body).unwrap();
    let body = body.strip_prefix(&format!("--{boundary}\r\n")).unwrap();
    let body = body.strip_suffix(&format!("\r\n--{boundary}--\r\n")).unwrap();
    body.split(&format!("\r\n--{boundary}\r\n"))
        .map(|part| part.split_once("\r\n\r\n").map(|(head, content)| (head.to_owned(), content.to_owned())).unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_a_form_on_the_upload_host() {
    let transport = received();
    assert_eq!(agent(&transport).upload(&file(), "Inbound ä\"1", Some(&id())).await.unwrap(), upload_id());
    let [seen] = transport.calls().try_into().unwrap();
    assert_eq!((seen.method.as_str(), &*seen.url), ("POST", &*format!("{UPLOADS}/uploads/v2/scripter")));
    assert_eq!(seen.header("authorization"), "Bearer the-access-token");
    assert_eq!(seen.header("accept"), "application/json");
    let [script, name, replaced] = parts(&seen).try_into().unwrap();
    assert!(script.0.contains(r#"form-data; name="file"; filename="script.json""#), "{}", script.0);
    assert_eq!(script.1, FILE);
    assert!(name.0.contains(r#"name="scriptName""#) && name.1 == "Inbound ä\"1");
    assert!(replaced.0.contains(r#"name="scriptIdToReplace""#) && replaced.1 == ID);

    let transport = received();
    agent(&transport).upload(&file(), "Inbound", None).await.unwrap();
    assert_eq!(parts(&transport.calls()[0]).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_sent_again_only_where_it_never_was() {
    for failure in [reply(503, ""), Reply::Silence, Reply::Broken(std::io::ErrorKind::ConnectionReset)] {
        let transport = Scripted::replies([failure]);
        let error = agent(&transport).upload(&file(), "Inbound", None).await.unwrap_err();
        assert!(error.may_have_been_sent() && transport.calls().len() == 1, "{error}");
    }
    let receipt = || reply(200, r#"{"correlationId":"up-1"}"#);
    for failure in
        [Reply::Broken(std::io::ErrorKind::ConnectionRefused), reply(429, "").with("retry-after", "1"), reply(401, "")]
    {
        let transport = Scripted::replies([failure, receipt()]);
        agent(&transport).upload(&file(), "Inbound", None).await.unwrap();
        let [first, second] = transport.calls().try_into().unwrap();
        // The whole form again.
        assert_eq!(first.body, second.body);
    }
}

#[tokio::test(start_paused = true)]
async fn the_upload_s_id_is_read_under_any_of_its_names() {
    for (body, id) in [
        (r#"{"correlationId":"up-1","id":"x"}"#, Some("up-1")),
        (r#"{"uploadId":"up-2"}"#, Some("up-2")),
        (r#"{"correlationId":null,"id":"up-3"}"#, Some("up-3")),
        ("{}", None),
        (r#"{"correlationId":""}"#, None),
        ("", None),
    ] {
        let result = agent(&Scripted::replies([reply(200, body)])).upload(&file(), "Inbound", None).await;
        match id {
            Some(id) => assert_eq!(result.unwrap().as_str(), id),
            None => assert_eq!(result.unwrap_err().kind(), ErrorKind::UnexpectedAnswer),
        }
    }
    // Under another name it may still be what the upload can be asked for by.
    let receipt = reply(200, r#"{"jobId":"up-9","for":"the-access-token"}"#);
    let error = agent(&Scripted::replies([receipt])).upload(&file(), "Inbound", None).await.unwrap_err();
    assert!(error.to_string().contains("up-9") && !error.to_string().contains("the-access-token"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_is_given_a_minute() {
    let transport =
        Scripted::replies([reply(200, r#"{"correlationId":"up-1"}"#)]).with_latency(Duration::from_secs(50));
    let client = client(&transport);
    let agent = client.agent(genesys_scripts::Credentials::access_token("ready-made"));
    agent.upload(&file(), "Inbound", None).await.unwrap();
}

fn signed(base: &str) -> SignedUrl {
    SignedUrl::new(format!("{base}?X-Signature={SECRET}&X-Expires=60"))
}

#[tokio::test(start_paused = true)]
async fn an_export_is_downloaded_from_the_services_hosts_without_the_token() {
    for base in ["http://127.0.0.1:9/a%20b.script", "http://127.0.0.1:10/download"] {
        let transport = Scripted::replies([reply(200, FILE)]);
        assert_eq!(agent(&transport).download_export(&signed(base)).await.unwrap().as_str(), FILE);
        let [seen] = transport.seen().try_into().unwrap();
        assert_eq!((seen.method.as_str(), seen.url.as_str()), ("GET", signed(base).expose()));
        assert!(!seen.headers.contains_key("authorization") && !seen.headers.contains_key("cookie"));
    }
}

#[tokio::test]
async fn to_a_foreign_host_neither_token_nor_middleware_is_taken() {
    let bucket = Wire::listen(|_, _| say("200 OK", "", FILE)).await;
    let first = Wire::listen({
        let location = format!("location: {}/y\r\n", bucket.url);
        move |_, _| say("302 Found", &location, "")
    })
    .await;
    let transport = Scripted::replies([]);
    agent(&transport).download_export(&signed(&format!("{}/x", first.url))).await.unwrap();
    for wire in [first, bucket] {
        let [head] = wire.heads().try_into().unwrap();
        assert!(!head.to_lowercase().contains("authorization"), "{head}");
    }
    assert!(transport.seen().is_empty(), "the user's middleware saw it");
}

#[tokio::test(start_paused = true)]
async fn an_export_is_exported_and_downloaded_in_one() {
    let transport =
        Scripted::replies([reply(200, json!({ "url": signed(BUCKET).expose() }).to_string()), reply(200, FILE)]);
    let file = agent(&transport).export_file(&id(), &ExportScript::default()).await.unwrap();
    assert_eq!(file.as_str(), FILE);
    for (body, said) in
        [("{}", "an export with its URL"), (r#"{"message":"Export failed","code":"e.f"}"#, "Export failed")]
    {
        let answer = reply(200, body).with("inin-correlation-id", "c-1");
        let transport = Scripted::replies([reply(503, ""), reply(503, ""), answer]);
        let error = agent(&transport).export_file(&id(), &ExportScript::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.status(), error.attempts()), (ErrorKind::UnexpectedAnswer, Some(200), 3));
        assert!(error.to_string().contains(said) && error.elapsed() > Duration::ZERO, "{error}");
        assert_eq!(error.correlation_id(), Some("c-1"));
    }
    agent(&Scripted::replies([reply(200, r#"{"code":"e.f"}"#)]))
        .export(&id(), &ExportScript::default())
        .await
        .unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_url_that_would_travel_in_clear_is_refused_and_not_shown() {
    let public = Client::builder(Region::EU_CENTRAL_1);
    let transport = Scripted::replies([]);
    let public = public.with_middleware(transport.clone()).build().unwrap().agent(credentials());
    let here = agent(&transport);
    for (agent, base) in [
        (&here, "http://bucket.example/x"),
        (&here, "https://user:hunter2@bucket.example/x"),
        (&here, "ftp://bucket.example/x"),
        (&here, "file:///etc/passwd"),
        (&here, "not a url"),
        (&public, "http://127.0.0.1/x"),
        (&public, "https://127.0.0.1/x"),
        (&public, "https://localhost/x"),
        (&public, "https://[::1]/x"),
        (&public, "https://10.1.2.3/x"),
        (&public, "https://192.168.1.1/x"),
        (&public, "https://169.254.169.254/latest/meta-data"),
        (&public, "https://[fd00::1]/x"),
        (&public, "http://bucket.example/x"),
    ] {
        let error = agent.download_export(&signed(base)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{base}");
        let shown = format!("{error} {error:?} {:?}", signed(base));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(transport.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_error_that_comes_in_place_of_a_file_is_no_file() {
    for body in [
        r#"{"message":"No such export","code":"not.found","status":404,"contextId":"c-1"}"#,
        r#"{"message":"Gone","code":"gone","status":410}"#,
        r#"{"error":"invalid_token"}"#,
        r#"{"message":"Service Unavailable"}"#,
        r#"{"Message":"denied by policy 7"}"#,
        r#"{"error":{"code":403,"message":"no such bucket"}}"#,
        r#"{"error":"too many requests, slow down"}"#,
        r#"{"fault":{"faultstring":"quota"}}"#,
        r#"{"title":"Forbidden","status":403}"#,
        r#"{"id":"req-77","message":"Service Unavailable"}"#,
        r#"{"name":"AccessDenied","message":"no"}"#,
        &format!(r#"{{"message":"{}"}}"#, "no ".repeat(100_000)),
    ] {
        let error = agent(&Scripted::replies([reply(200, body)])).download_export(&signed(BUCKET)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedAnswer, "{error}");
        assert!(error.to_string().contains("but is an error ("), "{error}");
    }
    // What says nothing of an error is let be, as files of a later version may look otherwise; and one may have such a member.
    for body in
        [r#"{"id":"f"}"#, r#"{"name":"Inbound"}"#, "{}", r#"{"later":1}"#, r#"{"pages":[],"message":"m","error":null}"#]
    {
        let file = agent(&Scripted::replies([reply(200, body)])).download_export(&signed(BUCKET)).await.unwrap();
        assert_eq!(file.as_str(), body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_download_that_is_refused_without_an_end_is_told_so_after_an_attempts_time() {
    let transport = Scripted::by(|seen| if seen.is_login() { common::token("t") } else { reply(429, "") });
    let began = tokio::time::Instant::now();
    let error = agent(&transport).download_export(&signed(BUCKET)).await.unwrap_err();
    assert!(error.is_throttled() && error.to_string().contains("the service does not say when"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(21), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_failed_download_names_script_and_host() {
    let url = |url: &str| reply(200, json!({ "url": url }).to_string());
    for refused in ["no url", "http://bucket.example/x"] {
        let transport = Scripted::replies([url(refused).with("inin-correlation-id", "c-9")]);
        let error = agent(&transport).export_file(&id(), &ExportScript::default()).await.unwrap_err();
        assert_eq!((error.status(), error.correlation_id()), (Some(200), Some("c-9")), "{error}");
        assert!(!error.may_have_been_sent(), "{error}");
    }
    for (replies, kind, said) in [
        (vec![url("no url")], ErrorKind::UnexpectedAnswer, "the export's URL does not parse"),
        (vec![url("http://bucket.example/x")], ErrorKind::UnexpectedAnswer, "leads to a place that is not https"),
        (vec![url(BUCKET), reply(403, "")], ErrorKind::Forbidden, "(the URL leads to 127.0.0.1)"),
        (vec![url(BUCKET), reply(200, "<html>")], ErrorKind::UnexpectedAnswer, "(the URL leads to 127.0.0.1)"),
        (vec![url(BUCKET), reply(302, "")], ErrorKind::UnexpectedAnswer, "says nowhere; 1 attempt in"),
    ] {
        let error = agent(&Scripted::replies(replies)).export_file(&id(), &ExportScript::default()).await.unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with(&format!("download export \"{}\": ", id())) && shown.contains(said), "{shown}");
        assert_eq!((error.kind(), error.is_retryable()), (kind, false), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_conflict_of_an_upload_does_not_say_that_nothing_was_done() {
    let error = agent(&Scripted::replies([reply(409, "")])).upload(&file(), "Inbound", None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("has this upload already"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn redirects_of_a_download_are_followed_to_safe_places_only() {
    let to = |location: &str| reply(302, "").with("location", location.to_owned());
    let transport = Scripted::replies([to("http://127.0.0.1:10/y"), to("/z?b=1"), reply(200, FILE)]);
    agent(&transport).download_export(&signed(BUCKET)).await.unwrap();
    let urls: Vec<_> = transport.calls().into_iter().map(|seen| seen.url).collect();
    assert_eq!(urls[1..], ["http://127.0.0.1:10/y", "http://127.0.0.1:10/z?b=1"]);
    assert!(transport.calls().iter().all(|seen| seen.header("authorization").is_empty()));

    for location in ["http://cdn.example/y", "https://u:p@cdn.example/y", "file:///etc/passwd"] {
        let transport = Scripted::replies([to(location)]);
        let error = agent(&transport).download_export(&signed(BUCKET)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedAnswer, "{location}");
    }
    let transport = Scripted::by(|_| reply(307, "").with("location", BUCKET));
    agent(&transport).download_export(&signed(BUCKET)).await.unwrap_err();
    assert_eq!(transport.calls().len(), 6);
    agent(&Scripted::replies([reply(302, "")])).download_export(&signed(BUCKET)).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_download_is_retried_and_its_failure_never_shows_the_url() {
    let transport = Scripted::replies([
        reply(429, "").with("retry-after", "5"),
        reply(503, ""),
        Reply::Broken(std::io::ErrorKind::ConnectionReset),
        reply(200, FILE),
    ]);
    agent(&transport).download_export(&signed(BUCKET)).await.unwrap();

    let url = signed(BUCKET);
    let echo = || json!({ "code": SECRET, "message": format!("no {}", url.expose()) }).to_string();
    for (answer, kind) in [
        (reply(403, "<Error><Code>AccessDenied</Code></Error>"), ErrorKind::Forbidden),
        (reply(400, echo()), ErrorKind::Forbidden),
        (reply(404, echo()), ErrorKind::NotFound),
        (reply(200, "<html>"), ErrorKind::UnexpectedAnswer),
        (reply(200, "[]"), ErrorKind::UnexpectedAnswer),
        (Reply::Silence, ErrorKind::Timeout),
    ] {
        let transport = Scripted::replies([answer]);
        let agent = agent(&transport).with_timeout(Duration::from_secs(20));
        let error = agent.download_export(&url).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let shown = format!("{error} {error:?} {:?} {:?} {url:?}", error.code(), error.message());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

/// All of it, over sockets: what was uploaded is what is downloaded in the end.
#[tokio::test]
async fn a_script_s_whole_life_on_the_simulator() {
    let simulator = Simulator::builder()
        .client_secret(common::SECRET)
        .upload_time(Duration::from_millis(300))
        .start()
        .await
        .unwrap();
    let region = Region::custom(simulator.url(), simulator.url(), simulator.url()).unwrap();
    let agent = Client::builder(region).build().unwrap().agent(credentials());
    let document = json!({
        "id": "elsewhere", "name": "Whole life ä", "pages": [{ "id": "p", "name": "Start", "rootContainer": {}, "dataVersion": 0 }],
        "startPageId": "p", "features": {}, "variables": [{ "name": "v", "value": 1.5 }], "customActions": [], "dataVersion": 0
    });
    let file: ScriptFile = document.to_string().parse().unwrap();

    let imported = agent.import(&file, &ImportScript::default()).await.unwrap();
    let id = imported.script_id().unwrap().clone();
    assert_eq!(agent.script(&id).await.unwrap().name.as_deref(), Some("Whole life ä"));
    let as_read = ReadScript::default();
    assert_eq!(agent.published_script(&id, &as_read).await.unwrap_err().kind(), ErrorKind::NotFound);

    let published = agent.publish(&id, &PublishScript::default()).await.unwrap();
    assert_eq!(published.id, id);
    let live = agent.published_script(&id, &as_read).await.unwrap();
    let page = live.pages.first().and_then(|page| page.id.clone()).unwrap();
    assert_eq!(agent.published_script_page(&id, &page, &as_read).await.unwrap().id, Some(page));

    let exported =
        agent.export_file(&id, &ExportScript { version_id: live.version_id, ..ExportScript::default() }).await.unwrap();
    assert_eq!(exported.decode::<serde_json::Value>().unwrap(), document);
    assert_eq!(agent.scripts_named("Whole life ä").await.unwrap(), std::slice::from_ref(&id));
    agent.delete(&id).await.unwrap();
    assert_eq!(agent.script(&id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(agent.scripts_named("Whole life ä").await.unwrap().is_empty());
}

/// A server that keeps a connection for one request, and closes it when a second comes.
async fn closes_what_it_kept() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut received = vec![0; 64 * 1024];
                let length = stream.read(&mut received).await.unwrap();
                let head = String::from_utf8_lossy(&received[..length]).into_owned();
                let body = match head.split(' ').nth(1) {
                    Some("/oauth/token") => {
                        r#"{"access_token":"t0ken","token_type":"bearer","expires_in":86400}"#.to_owned()
                    }
                    Some("/uploads/v2/scripter") => r#"{"correlationId":"up-1"}"#.to_owned(),
                    _ => json!({ "id": ID }).to_string(),
                };
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
                let _ = stream.read(&mut received).await;
            });
        }
    });
    url
}

#[tokio::test]
async fn what_must_not_be_sent_twice_goes_over_a_new_connection() {
    let url = closes_what_it_kept().await;
    let region = Region::custom(&url, &url, &url).unwrap();
    let agent = Client::builder(region).build().unwrap().agent(credentials());
    for _ in 0..3 {
        agent.script(&id()).await.unwrap();
        assert_eq!(agent.upload(&file(), "Inbound", None).await.unwrap(), upload_id());
        agent.publish(&id(), &PublishScript::default()).await.unwrap();
        agent.move_to_division(&id(), &"d0000000-0000-4000-8000-000000000001".parse().unwrap()).await.unwrap();
    }
}
