//! Each operation on the wire: what is sent, what of the answer is read, and what its errors become.

use std::future::Future;
use std::pin::Pin;

use futures_util::TryStreamExt;
use genesys_scripts::{
    Agent, DefaultScript, DivisionId, Error, ErrorKind, ExportScript, FlowId, Json, ListPublishedScripts, ListScripts,
    PageId, PublishScript, ReadScript, ReadUploadStatus, ReadVariables, Script, ScriptFile, SortBy, SortOrder,
    UploadId, VariableType, VersionId,
};
use serde_json::{Value, json};

use crate::common::{self, HERE, ID, Reply, Scripted, Seen, id, reply};

const PAGE: &str = "f8ad2a30-0d1f-11ee-be56-0242ac120002";
const VERSION: &str = "0f1e2d3c-0000-4000-8000-000000000001";
const DIVISION: &str = "d0000000-0000-4000-8000-000000000001";

fn page() -> PageId {
    PAGE.parse().unwrap()
}

fn version() -> VersionId {
    VERSION.parse().unwrap()
}

fn division() -> DivisionId {
    DIVISION.parse().unwrap()
}

fn upload() -> UploadId {
    "up-1".parse().unwrap()
}

fn read_7() -> ReadScript {
    ReadScript { script_data_version: Some("7".into()) }
}

fn file() -> ScriptFile {
    r#"{"name":"Inbound"}"#.parse().unwrap()
}

/// Answers one call, and gives it back as it arrived, with what became of the answer.
async fn exchange<T, F: Future<Output = Result<T, Error>>>(
    answer: Reply,
    call: impl FnOnce(Agent) -> F,
) -> (Seen, Result<T, Error>) {
    let transport = Scripted::replies([answer]);
    let result = call(transport.agent()).await;
    let [seen] = transport.calls().try_into().unwrap();
    assert_eq!(seen.header("authorization"), "Bearer the-access-token");
    assert_eq!(seen.header("accept"), "application/json");
    assert!(seen.header("user-agent").starts_with("genesys-scripts/"));
    (seen, result)
}

#[track_caller]
fn assert_get(seen: &Seen, path_and_query: &str) {
    assert_eq!((seen.method.as_str(), seen.url.strip_prefix(HERE).unwrap()), ("GET", path_and_query));
    assert!(seen.body.is_empty() && !seen.headers.contains_key("content-type"));
}

#[track_caller]
fn assert_post(seen: &Seen, path_and_query: &str, body: Value) {
    assert_eq!((seen.method.as_str(), seen.url.strip_prefix(HERE).unwrap()), ("POST", path_and_query));
    assert_eq!(seen.header("content-type"), "application/json");
    assert_eq!(serde_json::from_slice::<Value>(&seen.body).unwrap(), body);
}

/// Every field of the contract, and one it does not know.
fn full_script() -> Value {
    json!({
        "id": ID, "name": "Inbound", "division": { "id": DIVISION, "name": "Home", "selfUri": "/d", "later": 1 },
        "versionId": VERSION, "createdDate": "2025-02-04T16:38:38.380Z", "modifiedDate": "2025-02-04T16:38:38Z",
        "publishedDate": "2025-02-05T00:00:00.000Z", "versionDate": "2025-02-06T00:00:00Z", "startPageId": PAGE,
        "startPageName": "Start", "features": { "chat": true }, "variables": [{ "name": "greeting" }],
        "customActions": [], "pages": [full_page()], "selfUri": "/s", "a field of a later version": {}
    })
}

fn full_page() -> Value {
    json!({
        "id": PAGE, "name": "Start", "versionId": VERSION, "createdDate": "2025-02-04T16:38:38.380Z",
        "modifiedDate": "2025-02-04T16:38:38Z", "rootContainer": { "type": "verticalStackContainer" },
        "properties": { "onLoadAction": {} }, "selfUri": "/p", "later": null
    })
}

#[track_caller]
fn assert_full_script(script: &Script) {
    assert_eq!(script.id, id());
    assert_eq!(script.name.as_deref(), Some("Inbound"));
    let division = script.division.as_ref().unwrap();
    assert_eq!(division.id, Some(self::division()));
    assert_eq!((division.name.as_deref(), division.self_uri.as_deref()), (Some("Home"), Some("/d")));
    assert_eq!(script.version_id, Some(version()));
    assert_eq!(script.created_date.unwrap().timestamp_millis(), 1_738_687_118_380);
    assert_eq!(script.modified_date.unwrap().timestamp(), 1_738_687_118);
    assert!(script.published_date < script.version_date);
    assert_eq!((&script.start_page_id, script.start_page_name.as_deref()), (&Some(page()), Some("Start")));
    assert_eq!(script.features.as_ref().unwrap().as_str(), r#"{"chat":true}"#);
    assert_eq!(script.variables.as_ref().unwrap().decode::<Value>().unwrap(), json!([{ "name": "greeting" }]));
    assert_eq!(script.custom_actions.as_ref().unwrap().as_str(), "[]");
    assert_eq!(script.self_uri.as_deref(), Some("/s"));
    assert_full_page(&script.pages[0]);
}

#[track_caller]
fn assert_full_page(page: &genesys_scripts::Page) {
    assert_eq!((&page.id, page.name.as_deref()), (&Some(self::page()), Some("Start")));
    assert_eq!((&page.version_id, page.self_uri.as_deref()), (&Some(version()), Some("/p")));
    assert!(page.created_date > page.modified_date);
    assert_eq!(page.root_container.as_ref().unwrap().as_str(), r#"{"type":"verticalStackContainer"}"#);
    assert_eq!(page.properties.as_ref().unwrap().as_str(), r#"{"onLoadAction":{}}"#);
}

fn minimal() -> Reply {
    reply(200, format!(r#"{{"id":"{ID}"}}"#))
}

fn of(body: Value) -> Reply {
    reply(200, body.to_string())
}

#[tokio::test(start_paused = true)]
async fn script() {
    let (seen, script) = exchange(of(full_script()), async |agent| agent.script(&id()).await).await;
    assert_get(&seen, &format!("/api/v2/scripts/{ID}"));
    assert_full_script(&script.unwrap());
    let (_, script) = exchange(minimal(), async |agent| agent.script(&id()).await).await;
    assert!(script.unwrap().pages.is_empty());
}

#[tokio::test(start_paused = true)]
async fn script_page() {
    let call = async |agent: Agent| agent.script_page(&id(), &page(), &read_7()).await;
    let (seen, page) = exchange(of(full_page()), call).await;
    assert_get(&seen, &format!("/api/v2/scripts/{ID}/pages/{PAGE}?scriptDataVersion=7"));
    assert_full_page(&page.unwrap());
    let call = async |agent: Agent| agent.script_page(&id(), &self::page(), &ReadScript::default()).await;
    let (seen, page) = exchange(reply(200, "{}"), call).await;
    assert_get(&seen, &format!("/api/v2/scripts/{ID}/pages/{PAGE}"));
    assert_eq!(page.unwrap().id, None);
}

#[tokio::test(start_paused = true)]
async fn script_pages() {
    let call = async |agent: Agent| agent.script_pages(&id(), &read_7()).await;
    let (seen, pages) = exchange(of(json!([full_page(), {}])), call).await;
    assert_get(&seen, &format!("/api/v2/scripts/{ID}/pages?scriptDataVersion=7"));
    assert_full_page(&pages.unwrap()[0]);
    let (_, pages) = exchange(reply(200, "[]"), call).await;
    assert!(pages.unwrap().is_empty());
}

fn everything() -> ListScripts {
    ListScripts {
        page_size: 50,
        page_number: 3,
        expand: Some("pages".into()),
        name: Some("In & out".into()),
        feature: Some("chat".into()),
        flow_id: Some("flow-1".parse::<FlowId>().unwrap()),
        sort_by: Some(SortBy::ModifiedDate),
        sort_order: Some(SortOrder::Descending),
        script_data_version: Some("0".into()),
        division_ids: vec!["d1".parse().unwrap(), "d2".parse().unwrap()],
    }
}

fn everything_published() -> ListPublishedScripts {
    let ListScripts {
        page_size, page_number, expand, name, feature, flow_id, script_data_version, division_ids, ..
    } = everything();
    ListPublishedScripts { page_size, page_number, expand, name, feature, flow_id, script_data_version, division_ids }
}

fn listing() -> Reply {
    of(json!({
        "entities": [full_script()], "pageSize": 50, "pageNumber": 3, "total": 101, "pageCount": 3,
        "truncatedDivisions": true, "firstUri": "/1", "nextUri": null, "previousUri": "/2", "lastUri": "/3",
        "selfUri": "/3", "later": []
    }))
}

const EVERYTHING: &str = "?pageSize=50&pageNumber=3&expand=pages&name=In+%26+out&feature=chat&flowId=flow-1\
    &sortBy=modifiedDate&sortOrder=descending&scriptDataVersion=0&divisionIds=d1%2Cd2";

#[tokio::test(start_paused = true)]
async fn scripts() {
    let call = async |agent: Agent| agent.scripts(everything()).try_collect::<Vec<_>>().await;
    let (seen, scripts) = exchange(listing(), call).await;
    assert_get(&seen, &format!("/api/v2/scripts{EVERYTHING}"));
    assert_full_script(&scripts.unwrap()[0]);
    let call = async |agent: Agent| agent.scripts(ListScripts::default()).try_collect::<Vec<_>>().await;
    let (seen, scripts) = exchange(reply(200, "{}"), call).await;
    assert_get(&seen, "/api/v2/scripts?pageSize=100&pageNumber=1");
    assert!(scripts.unwrap().is_empty());

    let (_, pages) =
        exchange(listing(), async |agent| agent.scripts(everything()).pages().try_collect::<Vec<_>>().await).await;
    let [page] = pages.unwrap().try_into().unwrap();
    assert_eq!((page.page_size, page.page_number, page.page_count), (Some(50), Some(3), Some(3)));
    assert_eq!((page.total, page.truncated_divisions), (Some(101), Some(true)));
    assert_eq!((page.first_uri.as_deref(), page.next_uri.as_deref()), (Some("/1"), None));
    assert_eq!((page.previous_uri.as_deref(), page.last_uri.as_deref()), (Some("/2"), Some("/3")));
    assert_eq!((page.self_uri.as_deref(), page.entities.len()), (Some("/3"), 1));
}

#[tokio::test(start_paused = true)]
async fn scripts_in_divisions() {
    let call = async |agent: Agent| agent.scripts_in_divisions(everything()).try_collect::<Vec<_>>().await;
    let (seen, scripts) = exchange(listing(), call).await;
    assert_get(&seen, &format!("/api/v2/scripts/divisionviews{EVERYTHING}"));
    assert_full_script(&scripts.unwrap()[0]);
}

#[tokio::test(start_paused = true)]
async fn published_scripts() {
    let unsorted = EVERYTHING.replace("&sortBy=modifiedDate&sortOrder=descending", "");
    let call = async |agent: Agent| agent.published_scripts(everything_published()).try_collect::<Vec<_>>().await;
    let (seen, scripts) = exchange(listing(), call).await;
    assert_get(&seen, &format!("/api/v2/scripts/published{unsorted}"));
    assert_full_script(&scripts.unwrap()[0]);
    let call =
        async |agent: Agent| agent.published_scripts(ListPublishedScripts::default()).try_collect::<Vec<_>>().await;
    let (seen, scripts) = exchange(of(json!({ "entities": null })), call).await;
    assert_get(&seen, "/api/v2/scripts/published?pageSize=100&pageNumber=1");
    assert!(scripts.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn published_scripts_in_divisions() {
    let unsorted = EVERYTHING.replace("&sortBy=modifiedDate&sortOrder=descending", "");
    let call =
        async |agent: Agent| agent.published_scripts_in_divisions(everything_published()).try_collect::<Vec<_>>().await;
    let (seen, scripts) = exchange(listing(), call).await;
    assert_get(&seen, &format!("/api/v2/scripts/published/divisionviews{unsorted}"));
    assert_full_script(&scripts.unwrap()[0]);
}

#[tokio::test(start_paused = true)]
async fn published_script() {
    let call = async |agent: Agent| agent.published_script(&id(), &read_7()).await;
    let (seen, script) = exchange(of(full_script()), call).await;
    assert_get(&seen, &format!("/api/v2/scripts/published/{ID}?scriptDataVersion=7"));
    assert_full_script(&script.unwrap());
    let call = async |agent: Agent| agent.published_script(&id(), &ReadScript::default()).await;
    let (seen, script) = exchange(minimal(), call).await;
    assert_get(&seen, &format!("/api/v2/scripts/published/{ID}"));
    assert_eq!(script.unwrap().name, None);
}

#[tokio::test(start_paused = true)]
async fn published_script_page() {
    let call = async |agent: Agent| agent.published_script_page(&id(), &page(), &read_7()).await;
    let (seen, page) = exchange(of(full_page()), call).await;
    assert_get(&seen, &format!("/api/v2/scripts/published/{ID}/pages/{PAGE}?scriptDataVersion=7"));
    assert_full_page(&page.unwrap());
    assert!(exchange(reply(200, "{}"), call).await.1.is_ok());
}

#[tokio::test(start_paused = true)]
async fn published_script_pages() {
    let call = async |agent: Agent| agent.published_script_pages(&id(), &read_7()).await;
    let (seen, pages) = exchange(of(json!([full_page()])), call).await;
    assert_get(&seen, &format!("/api/v2/scripts/published/{ID}/pages?scriptDataVersion=7"));
    assert_full_page(&pages.unwrap()[0]);
    assert!(exchange(reply(200, "[]"), call).await.1.unwrap().is_empty());
}

fn some_variables() -> ReadVariables {
    ReadVariables {
        input: Some(true),
        output: Some(false),
        variable_type: Some(VariableType::Boolean),
        script_data_version: Some("7".into()),
    }
}

#[tokio::test(start_paused = true)]
async fn published_variables() {
    let call = async |agent: Agent| agent.published_variables(&id(), &some_variables()).await;
    let (seen, variables) = exchange(reply(200, r#"{ "greeting": 1.0 }"#), call).await;
    let query = "?input=true&output=false&type=boolean&scriptDataVersion=7";
    assert_get(&seen, &format!("/api/v2/scripts/published/{ID}/variables{query}"));
    assert_eq!(variables.unwrap().as_str(), r#"{ "greeting": 1.0 }"#);
    let call = async |agent: Agent| agent.published_variables(&id(), &ReadVariables::default()).await;
    for body in ["[]", "{}", "null"] {
        let (seen, variables) = exchange(reply(200, body), call).await;
        assert_get(&seen, &format!("/api/v2/scripts/published/{ID}/variables"));
        assert_eq!(variables.unwrap().as_str(), body);
    }
}

#[tokio::test(start_paused = true)]
async fn published_variables_in_divisions() {
    let call = async |agent: Agent| agent.published_variables_in_divisions(&id(), &some_variables()).await;
    let (seen, variables) = exchange(reply(200, "[1]"), call).await;
    let query = "?input=true&output=false&type=boolean&scriptDataVersion=7";
    assert_get(&seen, &format!("/api/v2/scripts/published/divisionviews/{ID}/variables{query}"));
    assert_eq!(variables.unwrap().decode::<Vec<i32>>().unwrap(), [1]);
}

#[tokio::test(start_paused = true)]
async fn upload_status() {
    let call = async |agent: Agent| agent.upload_status(&upload(), &ReadUploadStatus { long_poll: true }).await;
    let body = json!({ "url": "https://a.example/?s=1", "succeeded": true, "message": "done", "scriptId": "x" });
    let (seen, status) = exchange(of(body), call).await;
    assert_get(&seen, "/api/v2/scripts/uploads/up-1/status?longPoll=true");
    let status = status.unwrap();
    assert_eq!((status.succeeded, status.message.as_deref()), (Some(true), Some("done")));
    assert_eq!(status.url.unwrap().expose(), "https://a.example/?s=1");
    let call = async |agent: Agent| agent.upload_status(&upload(), &ReadUploadStatus::default()).await;
    let (seen, status) = exchange(reply(200, "{}"), call).await;
    assert_get(&seen, "/api/v2/scripts/uploads/up-1/status");
    assert_eq!(status.unwrap().succeeded, None);
}

#[tokio::test(start_paused = true)]
async fn export() {
    let options = ExportScript { file_name: Some("inbound".into()), version_id: Some(version()) };
    let (seen, export) = exchange(of(json!({ "url": "https://a.example/x", "later": 1 })), async |agent| {
        agent.export(&id(), &options).await
    })
    .await;
    let body = json!({ "fileName": "inbound", "versionId": VERSION });
    assert_post(&seen, &format!("/api/v2/scripts/{ID}/export"), body);
    assert_eq!(export.unwrap().url.unwrap().expose(), "https://a.example/x");
    let call = async |agent: Agent| agent.export(&id(), &ExportScript::default()).await;
    let (seen, export) = exchange(reply(200, "{}"), call).await;
    assert_post(&seen, &format!("/api/v2/scripts/{ID}/export"), json!({}));
    assert_eq!(export.unwrap().url, None);
}

#[tokio::test(start_paused = true)]
async fn publish() {
    let options = PublishScript { version_id: Some(version()), script_data_version: Some("0".into()) };
    let (seen, script) = exchange(of(full_script()), async |agent| agent.publish(&id(), &options).await).await;
    let body = json!({ "scriptId": ID, "versionId": VERSION });
    assert_post(&seen, "/api/v2/scripts/published?scriptDataVersion=0", body);
    assert_full_script(&script.unwrap());
    let call = async |agent: Agent| agent.publish(&id(), &PublishScript::default()).await;
    let (seen, script) = exchange(minimal(), call).await;
    assert_post(&seen, "/api/v2/scripts/published", json!({ "scriptId": ID }));
    assert_eq!(script.unwrap().id, id());
}

#[tokio::test(start_paused = true)]
async fn delete() {
    for status in [200, 202, 204] {
        let (seen, result) = exchange(reply(status, ""), async |agent| agent.delete(&id()).await).await;
        result.unwrap();
        let url = format!("{HERE}/api/v2/scripts/{ID}");
        assert_eq!((seen.method.as_str(), seen.url, seen.body.len()), ("DELETE", url, 0));
    }
    let (_, result) = exchange(reply(404, "{}"), async |agent| agent.delete(&id()).await).await;
    assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn what_another_than_the_service_says_is_nothing_done() {
    let large = format!(r#"{{"error":"{}"}}"#, "no ".repeat(100_000));
    let table = [
        ("<html><title>Log in</title>", "Log in"),
        ("no healthy upstream", "no healthy upstream"),
        (r#"{"title":"Forbidden","status":403}"#, "Forbidden"),
        (r#"{"message":"Service Unavailable","status":503}"#, "Service Unavailable"),
        (&large, "no no"),
        (r#"{"id":"#, "an acknowledgement"),
    ];
    for (body, said) in table {
        let agent = Scripted::replies([reply(200, body), reply(200, body)]).agent();
        let results = [agent.delete(&id()).await, agent.move_to_division(&id(), &division()).await];
        for error in results.map(Result::unwrap_err) {
            assert_eq!((error.kind(), error.status()), (ErrorKind::UnexpectedAnswer, Some(200)), "{error}");
            assert!(error.to_string().contains(said) && error.may_have_been_sent(), "{error}");
        }
    }
    for body in ["", " \r\n", "{}", "null", r#""done""#, r#"{"status":200,"title":"Inbound"}"#, r#"{"id":"x"}"#] {
        let agent = Scripted::replies([reply(200, body), reply(200, body)]).agent();
        agent.delete(&id()).await.unwrap();
        agent.move_to_division(&id(), &division()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn the_services_error_is_neither_variables_nor_a_script() {
    let refused = r#"{"message":"boom","code":"internal.server.error","status":500,"contextId":"c"}"#;
    let agent =
        Scripted::by(move |seen| if seen.is_login() { common::token("t") } else { reply(200, refused) }).agent();
    let query = ReadVariables::default();
    for error in [
        agent.published_variables(&id(), &query).await.unwrap_err(),
        agent.published_variables_in_divisions(&id(), &query).await.unwrap_err(),
        agent.script_json(&id()).await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.code()), (ErrorKind::UnexpectedAnswer, Some("internal.server.error")));
    }
    // Variables may have any name.
    for body in [
        r#"{"message":"Hello","code":"4711"}"#,
        r#"{"message":"Hello","code":"4711","status":7}"#,
        r#"{"message":{},"code":{},"status":{"type":"number"}}"#,
    ] {
        let variables = Scripted::replies([reply(200, body)]).agent().published_variables(&id(), &query).await;
        assert_eq!(variables.unwrap().as_str(), body);
    }
    // An id is none of a script's, where an error has it.
    let gateway = r#"{"id":"req-77","message":"Service Unavailable"}"#;
    let agent =
        Scripted::by(move |seen| if seen.is_login() { common::token("t") } else { reply(200, gateway) }).agent();
    for error in [
        agent.script(&id()).await.unwrap_err(),
        agent.published_script(&id(), &ReadScript::default()).await.unwrap_err(),
        agent.publish(&id(), &PublishScript::default()).await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.message()), (ErrorKind::UnexpectedAnswer, Some("Service Unavailable")));
    }
    for (of, more) in
        [(ID, r#""message":"m""#), ("another", r#""name":"Inbound","message":"m""#), ("another", r#""x":1"#)]
    {
        let body = format!(r#"{{"id":"{of}",{more}}}"#);
        assert_eq!(Scripted::replies([reply(200, body)]).agent().script(&id()).await.unwrap().id.as_str(), of);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_repeated_delete_does_not_find_is_deleted() {
    for first in [reply(504, ""), Reply::Silence, Reply::Broken(std::io::ErrorKind::ConnectionReset)] {
        let transport = Scripted::replies([first, reply(404, r#"{"code":"not.found"}"#)]);
        transport.agent().delete(&id()).await.unwrap();
        assert_eq!(transport.calls().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn move_to_division() {
    let call = async |agent: Agent| agent.move_to_division(&id(), &division()).await;
    let (seen, result) = exchange(reply(204, ""), call).await;
    result.unwrap();
    assert_post(&seen, &format!("/api/v2/authorization/divisions/{DIVISION}/objects/SCRIPT"), json!([ID]));
    let (_, unknown) = exchange(reply(404, r#"{"code":"not.found"}"#), call).await;
    let unknown = unknown.unwrap_err().to_string();
    assert!(unknown.contains(ID) && unknown.contains(&format!("(to the division \"{DIVISION}\")")), "{unknown}");
}

#[tokio::test(start_paused = true)]
async fn a_default_script_is_asked_for_by_its_constant_id() {
    let inbound = DefaultScript::Inbound.id();
    let answer = of(json!({ "id": inbound, "name": DefaultScript::Inbound.name() }));
    let call = async |agent: Agent| agent.published_script(&inbound, &ReadScript::default()).await;
    let (seen, script) = exchange(answer, call).await;
    assert_get(&seen, "/api/v2/scripts/published/766f1221-047a-11e5-bba2-db8c0964d007");
    assert_eq!(DefaultScript::of(&script.unwrap().id), Some(DefaultScript::Inbound));
}

type Outcome = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;
type Operation = (&'static str, fn(Agent) -> Outcome);

macro_rules! operations {
    ($($name:literal $agent:ident => $call:expr;)*) => {
        const OPERATIONS: &[Operation] = &[$((
            $name,
            |$agent: Agent| -> Outcome { Box::pin(async move { $call.await.map(drop) }) }
        )),*];
    };
}

operations! {
    "get script" agent => agent.script(&id());
    "get script page" agent => agent.script_page(&id(), &page(), &read_7());
    "get script pages" agent => agent.script_pages(&id(), &read_7());
    "list scripts" agent => agent.scripts(everything()).try_collect::<Vec<_>>();
    "list scripts in divisions" agent => agent.scripts_in_divisions(everything()).try_collect::<Vec<_>>();
    "list published scripts" agent => agent.published_scripts(everything_published()).try_collect::<Vec<_>>();
    "list published scripts in divisions" agent =>
        agent.published_scripts_in_divisions(everything_published()).try_collect::<Vec<_>>();
    "get published script" agent => agent.published_script(&id(), &read_7());
    "get published script page" agent => agent.published_script_page(&id(), &page(), &read_7());
    "get published script pages" agent => agent.published_script_pages(&id(), &read_7());
    "get published variables" agent => agent.published_variables(&id(), &some_variables());
    "get published variables in divisions" agent => agent.published_variables_in_divisions(&id(), &some_variables());
    "get upload status" agent => agent.upload_status(&upload(), &ReadUploadStatus { long_poll: true });
    "export script" agent => agent.export(&id(), &ExportScript::default());
    "publish script" agent => agent.publish(&id(), &PublishScript::default());
    "delete script" agent => agent.delete(&id());
    "move script to division" agent => agent.move_to_division(&id(), &division());
    "upload script" agent => agent.upload(&file(), "Inbound", None);
}

/// Whether the first failure is the last.
fn is_sent_once(operation: &str) -> bool {
    matches!(operation, "publish script" | "move script to division" | "upload script")
}

/// What is refused while another change is under way, and may be asked again.
fn is_a_change(operation: &str) -> bool {
    matches!(operation, "publish script" | "move script to division" | "delete script" | "export script")
}

#[tokio::test(start_paused = true)]
async fn every_operation_tells_its_documented_errors_apart() {
    for (name, run) in OPERATIONS {
        for (status, code, kind) in [
            (400, "bad.request", ErrorKind::BadRequest),
            (401, "bad.credentials", ErrorKind::Unauthorized),
            (403, "missing.permissions", ErrorKind::Forbidden),
            (404, "not.found", ErrorKind::NotFound),
            (408, "client.timeout", ErrorKind::Timeout),
            (409, "conflict", ErrorKind::Conflict),
            (423, "locked", ErrorKind::Conflict),
            (413, "request.entity.too.large", ErrorKind::TooLarge),
            (415, "unsupported.media.type", ErrorKind::UnexpectedAnswer),
            (429, "too.many.requests", ErrorKind::Throttled),
            (500, "internal.server.error", ErrorKind::Server),
            (503, "service.unavailable", ErrorKind::Server),
            (504, "request.timeout", ErrorKind::Server),
        ] {
            let body = json!({ "code": code, "message": "why", "status": status }).to_string();
            let transport = Scripted::by(move |seen| match seen.is_login() {
                true => common::token("t0ken"),
                false => reply(status, body.clone()),
            });
            let error = run(transport.agent()).await.unwrap_err();
            let told = (error.operation(), error.status(), error.code(), error.message(), error.kind());
            assert_eq!(told, (Some(*name), Some(status), Some(code), Some("why"), kind));
            let settles = matches!(status, 409 | 423) && is_a_change(name);
            let may_be_repeated = settles || (matches!(status, 408 | 500 | 503 | 504) && !is_sent_once(name));
            if !matches!(status, 401 | 429) {
                assert_eq!(transport.calls().len() > 1, may_be_repeated, "{name} {status}");
            }
            assert_eq!(error.upload_id(), None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_operation_waits_out_a_429_and_replaces_a_refused_token() {
    for (name, run) in OPERATIONS {
        let transport = Scripted::replies([
            reply(429, "").with("retry-after", "3"),
            reply(401, ""),
            reply(404, r#"{"code":"not.found"}"#),
        ]);
        // The service acted on neither, so a delete that then finds nothing has deleted nothing.
        let error = run(transport.agent()).await.unwrap_err();
        assert_eq!(error.status(), Some(404), "{name}");
        assert_eq!((transport.calls().len(), transport.logins()), (3, 2), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_shape_is_told_as_such() {
    for (name, run) in
        OPERATIONS.iter().filter(|(name, _)| !matches!(*name, "delete script" | "move script to division"))
    {
        for body in ["", "<html></html>", r#""text"#] {
            let transport = Scripted::replies([reply(200, body)]);
            let error = run(transport.agent()).await.unwrap_err();
            assert_eq!((error.kind(), error.operation()), (ErrorKind::UnexpectedAnswer, Some(*name)), "{body}");
        }
    }
}

#[test]
fn calls_can_be_spawned_and_streams_moved() {
    fn send<T: Send>(_: &T) {}
    fn send_and_unpin<T: Send + Unpin>(_: &T) {}
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _guard = runtime.enter();
    let agent = Scripted::replies([]).agent();
    send_and_unpin(&agent.scripts(ListScripts::default()));
    send_and_unpin(&agent.scripts(ListScripts::default()).pages());
    send(&agent.published_variables(&id(), &ReadVariables::default()));
    send(&agent.import(&file(), &genesys_scripts::ImportScript::default()));
    send::<Option<Json>>(&None);
}
