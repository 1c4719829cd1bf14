//! Every operation: its answer, its permission, its refusals.

use std::time::Duration;

use genesys_scripts::simulator::ListQuirk;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::advance;

use super::peer::{Peer, builder, peer, send};

const NOT_FOUND: &str = "The requested resource was not found.";
const BAD_REQUEST: &str = "The request could not be understood by the server due to malformed syntax.";
const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";
const DEFAULT: &str = "476c2b71-7429-11e4-9a5b-3f91746bffa3";

fn file() -> Value {
    json!({
        "id": "b2e2b2a4-31b3-4a0f-9e06-9f60c52c1d3e", "name": "From the file", "organizationId": UNKNOWN,
        "versionId": UNKNOWN, "startPageId": "first", "dataVersion": 0, "unknown": [1, 2.5, null],
        "pages": [{ "id": "first", "name": "First", "rootContainer": { "type": "text" }, "properties": {} }],
        "features": { "chat": { "properties": { "enabled": { "typeName": "boolean", "value": true } } } },
        "variables": [
            { "id": "v1", "name": "Name", "type": { "name": "string" }, "input": true, "output": false },
            { "id": "v2", "name": "Count", "type": { "name": "number" }, "input": false, "output": true },
        ],
        "customActions": [{ "id": "a", "flow": "7d5c1a50-4d33-4b1f-9c0e-5a3c1f9f0a11" }],
    })
}

/// The id under which a script of this name is listed.
async fn find(peer: &Peer, token: &str, name: &str) -> String {
    let found = peer.get(token, &format!("/api/v2/scripts?name={name}")).await.json();
    found["entities"][0]["id"].as_str().unwrap_or_else(|| panic!("no {name} in {found}")).to_owned()
}

#[tokio::test]
async fn a_script_with_all_its_fields() {
    let peer = peer();
    let token = peer.login().await;
    let id = peer.script_id(1);
    let reply = peer.get(&token, &format!("/api/v2/scripts/{id}")).await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("cache-control"), Some("no-cache, no-store, must-revalidate"));
    assert!(reply.header("ININ-Correlation-Id").is_some());
    assert!((1_400..2_600).contains(&reply.bytes.len()), "{}", reply.bytes.len());
    let script = reply.json();
    assert_eq!(script["id"], id);
    assert_eq!(script["selfUri"], format!("/api/v2/scripts/{id}"));
    assert_eq!(script["division"]["name"], "Home");
    assert_eq!(script["startPageName"], "Greeting");
    assert!(script["variables"].is_object() && script["customActions"].is_array());
    assert_eq!(script["pages"][0]["rootContainer"]["type"], "verticalStackContainer");
    for field in ["versionId", "createdDate", "modifiedDate", "publishedDate", "versionDate", "startPageId"] {
        assert!(script[field].is_string(), "{field}");
    }
    let other = peer.get(&token, &format!("/api/v2/scripts/{}", peer.script_id(0))).await.json();
    assert!(other["variables"].is_array());
    // Each of the two comes as an array and as an object, in every combination.
    let shapes = [0, 1, 2, 3].map(|nth| peer.script_id(nth));
    for (nth, id) in shapes.iter().enumerate() {
        let script = peer.get(&token, &format!("/api/v2/scripts/published/{id}")).await.json();
        assert_eq!((script["variables"].is_object(), script["customActions"].is_object()), (nth % 2 == 1, nth % 4 > 1));
        assert_eq!((script["variables"].is_array(), script["customActions"].is_array()), (nth % 2 == 0, nth % 4 < 2));
    }
    assert_eq!(other["modifiedDate"], "2025-02-04T09:00:00Z", "without a fraction");
    assert_eq!(script["modifiedDate"], "2025-02-04T10:01:38.380Z", "and with one");
}

#[tokio::test]
async fn pages_are_a_bare_array_and_each_has_its_address() {
    let peer = peer();
    let token = peer.login().await;
    for base in ["/api/v2/scripts", "/api/v2/scripts/published"] {
        let path = format!("{base}/{}/pages", peer.script_id(0));
        let pages = peer.get(&token, &format!("{path}?scriptDataVersion=0")).await.json();
        assert_eq!(pages.as_array().map(Vec::len), Some(1));
        let page_id = pages[0]["id"].as_str().expect("id");
        let page = peer.get(&token, &format!("{path}/{page_id}")).await.json();
        assert_eq!(page, pages[0]);
        assert_eq!(page["selfUri"], format!("{path}/{page_id}"));
        peer.get(&token, &format!("{path}/{UNKNOWN}")).await.refused(404, "not.found", NOT_FOUND);
        peer.get(&token, &format!("{path}/no-page")).await.refused(400, "bad.request", BAD_REQUEST);
    }
}

#[tokio::test]
async fn ids_that_are_none_and_ids_nobody_has() {
    let peer = peer();
    let token = peer.login().await;
    for base in ["/api/v2/scripts/", "/api/v2/scripts/published/"] {
        peer.get(&token, &format!("{base}{UNKNOWN}")).await.refused(404, "not.found", NOT_FOUND);
        for id in ["%3CEOF%3E", "null", "${scriptId}", "%FF", "a%2Fb", "%20", "{476c2b71-7429-11e4-9a5b-3f91746bffa3}"]
        {
            peer.get(&token, &format!("{base}{id}")).await.refused(400, "bad.request", BAD_REQUEST);
        }
    }
    for path in
        ["/", "/api/v2", "/api/v2/script", "/api/v2/scripts/", "/api/v2/scripts/a/b/c/d", "/downloads/x/y.script"]
    {
        peer.get(&token, path).await.refused(404, "not.found", NOT_FOUND);
    }
    for (method, path) in [("PUT", "/api/v2/scripts"), ("DELETE", "/api/v2/scripts/published"), ("GET", "/oauth/token")]
    {
        let request = peer.request(Method::from_bytes(method.as_bytes()).expect("method"), path).bearer_auth(&token);
        let reply = send(request).await;
        assert_eq!((reply.status.as_u16(), reply.json()["code"].as_str()), (405, Some("method.not.allowed")));
    }
}

#[tokio::test]
async fn the_words_among_the_ids_are_routes_of_their_own() {
    let peer = peer();
    let token = peer.login().await;
    for path in ["published", "divisionviews", "published/divisionviews"] {
        let listing = peer.get(&token, &format!("/api/v2/scripts/{path}")).await.json();
        assert!(listing["entities"].is_array(), "{path}");
    }
    let counted = peer.simulator.stats().operations;
    for operation in ["getScriptsPublished", "getScriptsDivisionviews", "getScriptsPublishedDivisionviews"] {
        assert_eq!(counted[operation], 1);
    }
    assert!(peer.simulator.stats().script_requests.is_empty());
    peer.get(&token, "/api/v2/scripts/uploads").await.refused(400, "bad.request", BAD_REQUEST);
    let variables = format!("/api/v2/scripts/published/divisionviews/{}/variables", peer.script_id(0));
    assert!(peer.get(&token, &variables).await.json().is_object());
}

#[tokio::test]
async fn listings_page_filter_and_sort() {
    let peer = Peer::of(builder().scripts(60));
    let token = peer.login().await;
    let list = async |query: &str| peer.get(&token, &format!("/api/v2/scripts{query}")).await.json();
    let names = |listing: &Value| -> Vec<String> {
        let entities = listing["entities"].as_array().expect("entities");
        entities.iter().map(|script| script["name"].as_str().expect("name").to_owned()).collect()
    };

    let first = list("").await;
    assert_eq!((first["pageSize"].as_u64(), first["pageNumber"].as_u64()), (Some(25), Some(1)));
    assert_eq!((first["total"].as_u64(), first["pageCount"].as_u64()), (Some(60), Some(3)));
    assert_eq!(names(&first).len(), 25);
    assert!(first["entities"][0].get("pages").is_none());
    assert_eq!(first["selfUri"], "/api/v2/scripts?pageSize=25&pageNumber=1");
    assert_eq!(first["nextUri"], "/api/v2/scripts?pageSize=25&pageNumber=2");
    assert!(first.get("previousUri").is_none());
    let last = peer.get(&token, first["lastUri"].as_str().expect("uri")).await.json();
    assert_eq!(names(&last).len(), 10);
    assert!(last.get("nextUri").is_none());

    for past in ["?pageNumber=4", "?pageNumber=2147483647&pageSize=2147483647"] {
        let listing = list(past).await;
        assert_eq!((names(&listing).len(), listing["total"].as_u64()), (0, Some(60)));
    }
    let mut all = Vec::new();
    for page in 1..=6 {
        all.extend(names(&list(&format!("?pageSize=10&pageNumber={page}")).await));
    }
    let expected: Vec<String> = (1..=60).map(|n| format!("Script {n}")).collect();
    assert_eq!(all, expected, "in order of creation");

    assert_eq!(names(&list("?name=sCRIPT+17").await), ["Script 17"]);
    let filtered = list("?name=script&pageSize=1&sortBy=name&sortOrder=descending").await;
    assert_eq!(names(&filtered), ["Script 9"]);
    let next = filtered["nextUri"].as_str().expect("uri");
    assert_eq!(names(&peer.get(&token, next).await.json()), ["Script 8"], "filters and order go on");
    assert_eq!(names(&list("?sortBy=modifiedDate&sortOrder=descending&pageSize=1").await), ["Script 60"]);
    assert_eq!(list("?feature=callback").await["total"], 20);
    assert_eq!(list("?feature=nonsense").await["total"], 0);
    assert_eq!(list("?flowId=7d5c1a50-4d33-4b1f-9c0e-5a3c1f9f0a11").await["total"], 0);
    let divisions = peer.simulator.division_ids();
    assert_eq!(list(&format!("?divisionIds={}", divisions[1])).await["total"], 0);
    assert_eq!(list(&format!("?divisionIds={},{}", divisions[1], divisions[0])).await["total"], 60);
}

#[tokio::test]
async fn default_scripts_are_only_in_published_listings() {
    let peer = peer();
    let token = peer.login().await;
    for path in ["/api/v2/scripts/published", "/api/v2/scripts/published/divisionviews"] {
        let listing = peer.get(&token, &format!("{path}?name=default&pageSize=100")).await.json();
        assert_eq!(listing["total"], 3);
    }
    assert_eq!(peer.get(&token, "/api/v2/scripts?name=default").await.json()["total"], 0);
    let script = peer.get(&token, &format!("/api/v2/scripts/published/{DEFAULT}")).await.json();
    assert_eq!(script["name"], "Default Outbound Script");
    peer.get(&token, &format!("/api/v2/scripts/{DEFAULT}")).await.refused(404, "not.found", NOT_FOUND);
}

#[tokio::test]
async fn values_that_are_none_are_named() {
    let peer = peer();
    let token = peer.login().await;
    let variables = format!("published/{}/variables", peer.script_id(0));
    let cases = [
        ("", "pageSize", "0"),
        ("", "pageSize", "-1"),
        ("", "pageSize", "many"),
        ("", "pageSize", ""),
        ("", "pageNumber", "0"),
        ("", "pageNumber", "99999999999"),
        ("published", "pageNumber", "1.5"),
        ("", "sortBy", "size"),
        ("divisionviews", "sortOrder", "up"),
        (&variables, "input", "maybe"),
        (&variables, "output", "1"),
        (&variables, "type", "date"),
        (&format!("uploads/{UNKNOWN}/status"), "longPoll", "yes"),
    ];
    for (path, name, value) in cases {
        let slash = if path.is_empty() { "" } else { "/" };
        let reply = peer.get(&token, &format!("/api/v2/scripts{slash}{path}?{name}={value}")).await;
        let body = reply.json();
        let message = body["message"].as_str().expect("message").to_owned();
        reply.refused(400, "invalid.value", &message);
        assert!(message.starts_with(&format!("Value [{value}] is not valid for field type [")), "{message}");
        assert_eq!(body["details"][0]["fieldName"], name);
        assert!(body["messageWithParams"].is_string() && body["messageParams"].is_object());
    }
}

#[tokio::test]
async fn permissions_are_those_of_the_client() {
    let peer = Peer::of(builder().permissions("reader", ["scripter:script:view"]).permissions("nobody", [""; 0]));
    let (reader, nobody, all) =
        (peer.login_as("reader").await, peer.login_as("nobody").await, peer.login_as("any").await);
    let id = peer.script_id(0);
    let cases = [
        ("GET", format!("/api/v2/scripts/{id}"), "scripter:script:view"),
        ("GET", format!("/api/v2/scripts/{id}/pages"), "scripter:script:view"),
        ("GET", format!("/api/v2/scripts/{id}/pages/{UNKNOWN}"), "scripter:script:view"),
        ("GET", "/api/v2/scripts".to_owned(), "scripter:script:view"),
        ("GET", "/api/v2/scripts/divisionviews".to_owned(), "scripter:script:search"),
        ("GET", "/api/v2/scripts/published".to_owned(), "scripter:publishedScript:view"),
        ("GET", "/api/v2/scripts/published/divisionviews".to_owned(), "scripter:publishedScript:search"),
        ("GET", format!("/api/v2/scripts/published/divisionviews/{id}/variables"), "scripter:publishedScript:search"),
        ("GET", format!("/api/v2/scripts/published/{id}"), "scripter:publishedScript:view"),
        ("GET", format!("/api/v2/scripts/published/{id}/pages"), "scripter:publishedScript:view"),
        ("GET", format!("/api/v2/scripts/published/{id}/pages/{UNKNOWN}"), "scripter:publishedScript:view"),
        ("GET", format!("/api/v2/scripts/published/{id}/variables"), "scripter:publishedScript:view"),
        ("GET", format!("/api/v2/scripts/uploads/{UNKNOWN}/status"), "scripter:script:view"),
        ("POST", format!("/api/v2/scripts/{id}/export"), "scripter:script:view"),
        ("POST", "/api/v2/scripts/published".to_owned(), "scripter:publishedScript:add"),
        ("POST", "/uploads/v2/scripter".to_owned(), "scripter:script:add"),
        ("DELETE", format!("/api/v2/scripts/{id}"), "scripter:script:delete"),
    ];
    for (method, path, permission) in cases {
        let method = Method::from_bytes(method.as_bytes()).expect("method");
        let text = format!(
            "Unable to perform the requested action. You must have at least one of the following permissions assigned: {permission}"
        );
        let ask = async |token: &str| send(peer.request(method.clone(), &path).bearer_auth(token)).await;
        ask(&nobody).await.refused(403, "missing.any.permissions", &text);
        let may_read = permission == "scripter:script:view";
        assert_eq!(ask(&reader).await.status != 403, may_read, "{path}");
        assert_ne!(ask(&all).await.status, 403, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_pending_then_done_then_published_exported_downloaded_and_deleted() {
    let peer = peer();
    let token = peer.login().await;
    let file = file().to_string();
    let upload = peer.upload(&token, &file, &[("scriptName", "Imported")]).await.json();
    let status = format!("/api/v2/scripts/uploads/{}/status", upload["correlationId"].as_str().expect("id"));
    assert_eq!(peer.get(&token, &status).await.json(), json!({ "succeeded": false }));
    assert_eq!(peer.get(&token, "/api/v2/scripts?name=Imported").await.json()["total"], 0);
    // As old Python SDKs write it, 62.0.0 among them.
    assert_eq!(peer.get(&token, &format!("{status}?longPoll=False")).await.json(), json!({ "succeeded": false }));
    let done = peer.get(&token, &format!("{status}?longPoll=True")).await.json();
    assert_eq!(peer.get(&token, &format!("{status}?longPoll=true")).await.json(), done);
    assert_eq!(done["succeeded"], true);
    assert!(done["url"].is_string());

    let id = find(&peer, &token, "Imported").await;
    let (editable, published) = (format!("/api/v2/scripts/{id}"), format!("/api/v2/scripts/published/{id}"));
    let script = peer.get(&token, &editable).await.json();
    assert_eq!((script["name"].as_str(), script["startPageName"].as_str()), (Some("Imported"), Some("First")));
    assert!(script.get("publishedDate").is_none());
    peer.get(&token, &published).await.refused(404, "not.found", NOT_FOUND);

    let body = json!({ "scriptId": id }).to_string();
    let answer = peer.post(&token, "/api/v2/scripts/published?scriptDataVersion=0", &body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["versionId"], script["versionId"]);
    assert_eq!(peer.get(&token, &published).await.json()["variables"], script["variables"]);
    let flow = "/api/v2/scripts?flowId=7d5c1a50-4d33-4b1f-9c0e-5a3c1f9f0a11";
    assert_eq!(peer.get(&token, flow).await.json()["total"], 1);

    let url = peer.post(&token, &format!("{editable}/export"), r#"{"fileName":"a/b \"c\""}"#).await.json();
    let download = send(peer.http.get(url["url"].as_str().expect("url"))).await;
    assert_eq!(download.status, 200, "without a token");
    assert_eq!(download.header("content-disposition"), Some("attachment; filename=\"a_b _c_.script\""));
    assert_eq!(download.json(), serde_json::from_str::<Value>(&file).expect("json"));

    assert_eq!(peer.delete(&token, &editable).await.status, 200);
    for path in [&editable, &published] {
        peer.get(&token, path).await.refused(404, "not.found", NOT_FOUND);
    }
    peer.delete(&token, &editable).await.refused(404, "not.found", NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn replacing_makes_a_version_that_agents_see_once_it_is_published() {
    let peer = peer();
    let token = peer.login().await;
    peer.import(&token, &file().to_string(), &[]).await;
    let id = find(&peer, &token, "From+the+file").await;
    let body = json!({ "scriptId": id }).to_string();
    let first = peer.post(&token, "/api/v2/scripts/published", &body).await.json();

    let mut changed = file();
    changed["variables"] = json!([]);
    let done = peer.import(&token, &changed.to_string(), &[("scriptIdToReplace", &id)]).await;
    assert_eq!(done["succeeded"], true);
    let editable = peer.get(&token, &format!("/api/v2/scripts/{id}")).await.json();
    assert_ne!(editable["versionId"], first["versionId"]);
    assert_eq!(editable["variables"], json!([]));
    let published = format!("/api/v2/scripts/published/{id}");
    assert_eq!(peer.get(&token, &published).await.json()["versionId"], first["versionId"]);

    // An export is of the editable version unless it names another.
    let export = async |body: &str| {
        let url = peer.post(&token, &format!("/api/v2/scripts/{id}/export"), body).await.json();
        send(peer.http.get(url["url"].as_str().expect("url"))).await.json()
    };
    for body in ["", "null", "{}"] {
        assert_eq!(export(body).await, changed);
    }
    assert_eq!(export(&json!({ "versionId": first["versionId"] }).to_string()).await, file());

    peer.post(&token, "/api/v2/scripts/published", &body).await;
    assert_eq!(peer.get(&token, &published).await.json()["versionId"], editable["versionId"]);
    let back = json!({ "scriptId": id, "versionId": first["versionId"] }).to_string();
    peer.post(&token, "/api/v2/scripts/published", &back).await;
    assert_eq!(peer.get(&token, &published).await.json()["versionId"], first["versionId"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_published_is_listed_by_its_own_name_features_and_flows() {
    let peer = peer();
    let token = peer.login().await;
    let mut plain = file();
    plain["features"] =
        json!({ "callback": { "properties": { "enabled": { "typeName": "boolean", "value": false } } } });
    let mut calling = file();
    calling["features"] =
        json!({ "callback": { "properties": { "enabled": { "typeName": "boolean", "value": true } } } });
    peer.import(&token, &plain.to_string(), &[("scriptName", "Before")]).await;
    let id = find(&peer, &token, "Before").await;
    let body = json!({ "scriptId": id, "versionId": "" }).to_string();
    assert_eq!(peer.post(&token, "/api/v2/scripts/published", &body).await.status, 200);
    peer.import(&token, &calling.to_string(), &[("scriptName", "After"), ("scriptIdToReplace", &id)]).await;

    let named = async |path: &str| peer.get(&token, path).await.json()["name"].clone();
    let holds = async |query: &str| {
        let listed = peer.get(&token, &format!("/api/v2/scripts/published?pageSize=100&{query}")).await.json();
        listed["entities"].as_array().expect("a list").iter().any(|entity| entity["id"] == id.as_str())
    };
    let (editable, published) = (format!("/api/v2/scripts/{id}"), format!("/api/v2/scripts/published/{id}"));
    assert_eq!((named(&editable).await, named(&published).await), (json!("After"), json!("Before")));
    assert!(holds("name=Before").await && !holds("name=After").await && !holds("feature=callback").await);
    peer.post(&token, "/api/v2/scripts/published", &body).await;
    assert_eq!(named(&published).await, "After");
    assert!(!holds("name=Before").await && holds("name=After").await && holds("feature=callback").await);
}

#[tokio::test(start_paused = true)]
async fn an_upload_may_not_be_known_at_first() {
    let peer = Peer::of(builder().upload_lag(Duration::from_secs(2)));
    let token = peer.login().await;
    let upload = peer.upload(&token, &file().to_string(), &[]).await.json();
    let status = format!("/api/v2/scripts/uploads/{}/status", upload["correlationId"].as_str().expect("id"));
    peer.get(&token, &status).await.refused(404, "not.found", NOT_FOUND);
    advance(Duration::from_secs(2)).await;
    assert_eq!(peer.get(&token, &status).await.json()["succeeded"], true);

    peer.simulator.set_upload_lag(Duration::from_secs(4));
    let region = peer.simulator.region().unwrap();
    let client = genesys_scripts::Client::builder(region).with_middleware(peer.simulator.transport()).build().unwrap();
    let agent = client.agent(genesys_scripts::Credentials::client("late", "simulator"));
    let imported = agent.import(&file().to_string().parse().unwrap(), &Default::default()).await.unwrap();
    assert!(imported.script_id().is_some());
}

#[tokio::test(start_paused = true)]
async fn while_it_is_down_nothing_is_taken_up_either() {
    let peer = peer();
    let token = peer.login().await;
    peer.simulator.set_down(true);
    assert_eq!(peer.upload(&token, &file().to_string(), &[]).await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn a_page_in_a_browser_may_ask_and_read_and_that_it_may_costs_nothing() {
    let peer = Peer::of(builder().rate_limit(1));
    let token = peer.login().await;
    let path = format!("/api/v2/scripts/{}", peer.simulator.script_ids()[0]);
    // Also what is no method of the route: the page is to read that it is refused.
    for (path, method) in
        [(&*path, "GET"), ("/oauth/token", "POST"), ("/uploads/v2/scripter", "POST"), (&path, "PUT"), (&path, "PATCH")]
    {
        let asked = peer.request(Method::OPTIONS, path).header("origin", "http://localhost:3000");
        let asked = asked.header("access-control-request-method", method);
        let may = send(asked.header("access-control-request-headers", "authorization,content-type")).await;
        assert_eq!(may.status, 204);
        assert_eq!(may.header("access-control-allow-origin"), Some("http://localhost:3000"));
        assert_eq!(may.header("access-control-allow-headers"), Some("authorization,content-type"));
        let methods = may.header("access-control-allow-methods").unwrap();
        assert!(methods.split(", ").any(|allowed| allowed == method), "{method}: {methods}");
    }
    let ask = || peer.request(Method::GET, &path).bearer_auth(&token);
    for status in [200, 429] {
        let answer = send(ask().header("origin", "http://localhost:3000")).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"));
        assert!(answer.header("access-control-expose-headers").unwrap().contains("retry-after"));
    }
    assert_eq!(send(ask()).await.header("access-control-allow-origin"), None, "no page asked");
    let own = peer.request(Method::GET, "/_simulator/scripts").header("origin", "http://evil.example");
    assert_eq!(send(own).await.header("access-control-allow-origin"), None);
}

#[tokio::test(start_paused = true)]
async fn uploads_that_cannot_become_a_script_say_why() {
    let peer = peer();
    let token = peer.login().await;
    for (file, fields, message) in [
        ("not json", vec![], "Invalid script definition"),
        ("[]", vec![], "Invalid script definition"),
        (r#"{"name":"no pages"}"#, vec![], "Invalid script definition"),
        (r#"{"pages":[]}"#, vec![], "Script name missing"),
        (r#"{"name":"x","pages":[]}"#, vec![("scriptIdToReplace", UNKNOWN)], "Script to replace not found"),
        (r#"{"name":"x","pages":[]}"#, vec![("divisionId", UNKNOWN)], "Division not found"),
    ] {
        let status = peer.import(&token, file, &fields).await;
        assert_eq!(status, json!({ "succeeded": false, "message": message }));
    }
    let reply = peer.post(&token, "/uploads/v2/scripter", "{}").await;
    assert_eq!((reply.status.as_u16(), reply.json()["code"].as_str()), (415, Some("unsupported.media.type")));
    let status = format!("/api/v2/scripts/uploads/{UNKNOWN}/status");
    peer.get(&token, &status).await.refused(404, "not.found", NOT_FOUND);
    send(peer.request(Method::POST, "/uploads/v2/scripter")).await.refused(
        401,
        "authentication.required",
        "No authentication bearer token specified in authorization header.",
    );
}

#[tokio::test]
async fn scripts_move_between_divisions() {
    let peer = peer();
    let token = peer.login().await;
    let (id, division) = (peer.script_id(0), peer.simulator.division_ids().swap_remove(1));
    let path = format!("/api/v2/authorization/divisions/{division}/objects/SCRIPT");
    let reply = peer.post(&token, &path, &json!([id]).to_string()).await;
    assert_eq!((reply.status.as_u16(), reply.bytes.len()), (204, 0));
    let script = peer.get(&token, &format!("/api/v2/scripts/{id}")).await.json();
    assert_eq!(script["division"]["id"], division);
    let listing = peer.get(&token, &format!("/api/v2/scripts?divisionIds={division}")).await.json();
    assert_eq!(listing["total"], 1);

    peer.post(&token, &path, &json!([UNKNOWN]).to_string()).await.refused(404, "not.found", NOT_FOUND);
    peer.post(&token, &path.replace(&division, UNKNOWN), "[]").await.refused(404, "not.found", NOT_FOUND);
    peer.post(&token, &path, "{}").await.refused(400, "bad.request", BAD_REQUEST);
    assert_eq!(peer.post(&token, &path.replace("SCRIPT", "QUEUE"), "[]").await.json()["code"], "invalid.value");
}

#[tokio::test(start_paused = true)]
async fn variables_can_be_chosen() {
    let peer = peer();
    let token = peer.login().await;
    peer.import(&token, &file().to_string(), &[]).await;
    let id = find(&peer, &token, "From+the+file").await;
    peer.post(&token, "/api/v2/scripts/published", &json!({ "scriptId": id }).to_string()).await;
    for base in ["published", "published/divisionviews"] {
        for (query, names) in [
            ("", vec!["Count", "Name"]),
            ("input=true", vec!["Name"]),
            ("input=false", vec!["Count"]),
            ("output=true&type=number", vec!["Count"]),
            ("type=boolean", vec![]),
        ] {
            let found = peer.get(&token, &format!("/api/v2/scripts/{base}/{id}/variables?{query}")).await.json();
            let found: Vec<_> = found.as_object().expect("an object").keys().map(String::as_str).collect();
            assert_eq!(found, names, "{query}");
        }
    }
}

#[tokio::test]
async fn bodies_that_are_no_request() {
    let peer = peer();
    let token = peer.login().await;
    let (publish, export) =
        ("/api/v2/scripts/published".to_owned(), format!("/api/v2/scripts/{}/export", peer.script_id(0)));
    for body in ["", "null", "{}", "[]", "{", r#"{"scriptId":1}"#, r#"{"scriptId":"x"}"#] {
        peer.post(&token, &publish, body).await.refused(400, "bad.request", BAD_REQUEST);
    }
    for body in ["[]", "\"x\"", "{", r#"{"fileName":1}"#, r#"{"versionId":"x"}"#] {
        peer.post(&token, &export, body).await.refused(400, "bad.request", BAD_REQUEST);
    }
    let unknown = json!({ "scriptId": UNKNOWN }).to_string();
    peer.post(&token, &publish, &unknown).await.refused(404, "not.found", NOT_FOUND);
    let version = json!({ "scriptId": peer.script_id(0), "versionId": UNKNOWN }).to_string();
    peer.post(&token, &publish, &version).await.refused(404, "not.found", NOT_FOUND);

    let large = format!("{{{}}}", " ".repeat(512_000));
    let text = "The request is over the size limit. Maximum bytes: 512000";
    peer.post(&token, &export, &large).await.refused(413, "request.entity.too.large", text);
    for content_type in [Some("text/plain"), None] {
        let mut request = peer.request(Method::POST, &export).bearer_auth(&token).body("{}");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let reply = send(request).await;
        assert_eq!((reply.status.as_u16(), reply.json()["code"].as_str()), (415, Some("unsupported.media.type")));
    }
    let bare = peer.request(Method::POST, &export).bearer_auth(&token);
    assert_eq!(send(bare).await.status, 200, "an export needs no body, and then no type");
}

#[tokio::test]
async fn ten_thousand_scripts_in_a_hundred_pages() {
    let peer = Peer::of(builder().scripts(10_000).rate_limit(0));
    let token = peer.login().await;
    let mut ids = Vec::new();
    for page in 1..=100 {
        let listing = peer.get(&token, &format!("/api/v2/scripts?pageSize=100&pageNumber={page}")).await.json();
        let entities = listing["entities"].as_array().expect("entities");
        ids.extend(entities.iter().map(|script| script["id"].as_str().expect("id").to_owned()));
    }
    assert_eq!(ids, peer.simulator.script_ids());
}

/// A listing as this crate reads it, and what its pages look like from outside.
#[tokio::test]
async fn lists_are_odd_where_they_are_told_to_be_and_this_crate_reads_them_whole() {
    use ListQuirk::{Circle, ClippedTo, EmptyPage, NoHints, NullItem, RepeatedPage};
    use futures_util::TryStreamExt;
    let peer = Peer::of(builder().scripts(12));
    let token = peer.login().await;
    let here = peer.simulator.url();
    let region = genesys_scripts::Region::custom(here, here, here).expect("loopback");
    let client =
        genesys_scripts::Client::builder(region).with_middleware(peer.simulator.transport()).build().expect("client");
    let agent = client.agent(genesys_scripts::Credentials::client("lists", "simulator"));
    let all = peer.simulator.script_ids();
    // The quirks, how many rows the first four pages of five have, and whether the list can be had whole.
    let table: &[(&[ListQuirk], [usize; 4], bool)] = &[
        (&[], [5, 5, 2, 0], true),
        (&[ClippedTo(2)], [2, 2, 2, 2], true),
        (&[ClippedTo(3), NoHints], [3, 3, 3, 3], true),
        (&[EmptyPage(2)], [5, 0, 5, 2], true),
        (&[EmptyPage(1), EmptyPage(2)], [0, 0, 5, 5], true),
        (&[NullItem], [6, 6, 3, 0], true),
        (&[NoHints], [5, 5, 2, 0], true),
        (&[RepeatedPage(2)], [5, 5, 5, 5], false),
        (&[Circle], [5, 5, 2, 0], false),
        (&[EmptyPage(2), NoHints], [5, 0, 5, 2], false),
    ];
    for (quirks, rows, whole) in table {
        peer.simulator.set_list_quirks(quirks.iter().copied());
        for (number, rows) in (1..).zip(rows) {
            let page = peer.get(&token, &format!("/api/v2/scripts?pageSize=5&pageNumber={number}")).await.json();
            assert_eq!(page["entities"].as_array().map(Vec::len), Some(*rows), "{quirks:?}, {number}");
            assert_eq!(page.get("total").is_none(), quirks.contains(&NoHints), "{quirks:?}");
            assert_eq!(page.get("pageCount").is_none(), quirks.contains(&NoHints), "{quirks:?}");
        }
        let query = genesys_scripts::ListScripts { page_size: 5, ..genesys_scripts::ListScripts::default() };
        let ids: Result<Vec<String>, _> =
            agent.scripts(query).map_ok(|script| script.id.to_string()).try_collect().await;
        match (ids, whole) {
            (Ok(ids), true) => assert_eq!(ids, all, "{quirks:?}"),
            // Without a hint an empty page is the end.
            (Ok(ids), false) => assert_eq!((ids.len(), *quirks), (5, &[EmptyPage(2), NoHints][..])),
            (Err(error), whole) => assert!(!whole, "{quirks:?}: {error}"),
        }
    }
}
