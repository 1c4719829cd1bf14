//! Beyond the methods: raw calls, raw answers, and what a call that succeeded cost.

use std::time::Duration;

use genesys_scripts::{CachePolicy, CallMeta, Error, ErrorKind, RetryPolicy};

use crate::common::{self, ID, Scripted, id, reply, script};

#[tokio::test(start_paused = true)]
async fn any_get_of_the_api_is_made_under_the_same_care() {
    for path in
        ["/api/v2/users/me?expand=presence&expand=groups", "/api/v2/routing/queues/a%20b", "/api/v2/scripts/published"]
    {
        let transport = Scripted::replies([
            reply(429, "").with("retry-after", "3"),
            reply(503, ""),
            reply(401, "{}"),
            reply(200, r#" {"name":"Ada","odd":[1e400]} "#),
        ]);
        let agent = transport.agent();
        let answer = agent.get(path).await.unwrap();
        assert_eq!(answer.as_str().trim(), r#"{"name":"Ada","odd":[1e400]}"#);
        let calls = transport.calls();
        assert_eq!(calls.len(), 4);
        assert!(calls[1].at - calls[0].at >= Duration::from_secs(3));
        for call in &calls {
            assert_eq!((call.method.as_str(), call.url.as_str()), ("GET", &*format!("{}{path}", common::HERE)));
            assert_eq!(
                (call.header("accept"), call.header("authorization")),
                ("application/json", "Bearer the-access-token")
            );
        }
        assert_eq!(transport.logins(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_that_is_none_of_the_api_is_refused_and_nothing_is_sent() {
    for path in
        ["/oauth/token", "/api/v2/../../oauth/token", "https://evil.example/api/v2/users", "/api/v2/users/${id}"]
    {
        let transport = Scripted::by(|seen| panic!("{seen:?}"));
        let error = transport.agent().get(path).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::InvalidInput, 0));
        assert!(error.to_string().contains("nothing was sent"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_raw_answer_that_fails_is_told_like_any() {
    let body = r#"{"message":"no such user","code":"not.found","status":404}"#;
    let transport = Scripted::replies([reply(404, body).with("inin-correlation-id", "c-1"), reply(200, "<html>")]);
    let agent = transport.agent();
    let error = agent.get("/api/v2/users/x").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code(), error.correlation_id()),
        (ErrorKind::NotFound, Some("not.found"), Some("c-1"))
    );
    assert!(error.to_string().contains("/api/v2/users/x"), "{error}");
    assert_eq!(agent.get("/api/v2/users/x").await.unwrap_err().kind(), ErrorKind::UnexpectedAnswer);
}

#[tokio::test(start_paused = true)]
async fn the_json_of_a_script_is_as_the_service_sent_it() {
    let body = format!(r#"{{"id":"{ID}",  "name" : "Inbound","newField":{{"a":[1.0,1e2]}}}}"#);
    let transport = Scripted::replies([reply(200, body.clone())]);
    assert_eq!(transport.agent().script_json(&id()).await.unwrap().as_str(), body);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_succeeds_tells_what_it_cost() {
    let transport = Scripted::replies([
        reply(503, "").with("inin-correlation-id", "c-1"),
        script().with("inin-correlation-id", "c-2"),
        script(),
        reply(404, "{}").with("inin-correlation-id", "c-4"),
        script(),
    ]);
    let agent = transport.agent();
    let meta = CallMeta::default();
    assert_eq!((meta.attempts(), meta.correlation_id(), meta.status()), (0, None, None));
    let told = agent.with_meta(&meta);
    told.script(&id()).await.unwrap();
    assert_eq!((meta.attempts(), meta.correlation_id().as_deref(), meta.status()), (2, Some("c-2"), Some(200)));
    assert!(meta.elapsed() >= Duration::from_millis(40));
    told.delete(&id()).await.unwrap();
    assert_eq!((meta.attempts(), meta.correlation_id(), meta.status()), (1, None, Some(200)));
    told.script(&id()).await.unwrap_err();
    assert_eq!((meta.attempts(), meta.correlation_id().as_deref(), meta.status()), (1, Some("c-4"), Some(404)));
    // The agent itself notes nothing.
    agent.script(&id()).await.unwrap();
    assert_eq!(meta.status(), Some(404));
}

#[test]
fn errors_can_be_made_for_tests_and_kinds_have_names() {
    for (kind, status, retryable, name) in [
        (ErrorKind::Server, Some(503), true, "server"),
        (ErrorKind::Throttled, Some(429), true, "throttled"),
        (ErrorKind::NotFound, Some(404), false, "not_found"),
        (ErrorKind::LoginRefused, None, false, "login_refused"),
    ] {
        let error = Error::for_test(kind, status);
        assert_eq!((error.kind(), error.status(), error.is_retryable()), (kind, status, retryable));
        assert_eq!((kind.name(), kind.to_string().as_str()), (name, name));
    }
}

#[test]
fn an_id_that_was_refused_is_an_error_by_a_question_mark() {
    fn parsed(text: &str) -> Result<genesys_scripts::ScriptId, Error> {
        Ok(text.parse()?)
    }
    for text in ["", "${scriptId}", "a/b"] {
        assert_eq!(parsed(text).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn policies_are_set_in_one_expression() {
    let policy = RetryPolicy::default().with_attempts(3).with_factor(1.5).with_ride_out_outages(true);
    assert_eq!((policy.attempts, policy.factor, policy.ride_out_outages), (3, 1.5, true));
    assert_eq!(policy.max_backoff, RetryPolicy::default().max_backoff);
    let cache = CachePolicy::default().with_capacity(7).with_time_to_live(Duration::from_secs(1));
    assert_eq!((cache.capacity, cache.time_to_live), (7, Duration::from_secs(1)));
}
