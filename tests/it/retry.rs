//! What is tried again, after how long, and when a call gives up. On a paused clock, without sockets.

use std::io;
use std::time::Duration;

use genesys_scripts::{ErrorKind, PublishScript, RetryPolicy};

use crate::common::{self, Reply, Scripted, id, reply, script};

fn seconds(transport: &Scripted) -> Vec<f64> {
    let calls = transport.calls();
    calls.windows(2).map(|pair| (pair[1].at - pair[0].at).as_secs_f64()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_the_service_is_tried_again_within_the_backoff_bounds() {
    let transport = Scripted::replies([reply(500, ""), reply(502, "<html>"), reply(504, ""), script()]);
    transport.agent().script(&id()).await.unwrap();
    for (wait, bound) in seconds(&transport).into_iter().zip([0.1, 0.2, 0.4]) {
        assert!(wait >= 0.02 && wait <= 0.02 + bound + 0.002, "{wait} is not within {bound}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_eight_failed_attempts_the_last_is_told_with_all_it_said() {
    let transport = Scripted::by(|seen| match seen.is_login() {
        true => common::token("t0ken"),
        false => reply(503, r#"{"message":"down","code":"service.unavailable","status":503}"#)
            .with("inin-correlation-id", "c-42"),
    });
    let error = transport.agent().script(&id()).await.unwrap_err();
    assert_eq!(transport.calls().len(), 8);
    assert_eq!(error.kind(), ErrorKind::Server);
    assert_eq!((error.status(), error.attempts()), (Some(503), 8));
    assert_eq!((error.code(), error.message()), (Some("service.unavailable"), Some("down")));
    assert_eq!(error.correlation_id(), Some("c-42"));
    assert!(error.may_have_been_sent() && error.is_retryable());
    let text = error.to_string();
    for part in ["get script", common::ID, "503", "down", "8 attempts", "c-42"] {
        assert!(text.contains(part), "{part:?} is missing in {text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_attempt_cannot_change_is_sent_once() {
    for (status, kind) in [
        (400, ErrorKind::BadRequest),
        (403, ErrorKind::Forbidden),
        (404, ErrorKind::NotFound),
        (409, ErrorKind::Conflict),
        (413, ErrorKind::TooLarge),
        (415, ErrorKind::UnexpectedAnswer),
        (302, ErrorKind::UnexpectedAnswer),
    ] {
        let transport = Scripted::replies([reply(status, "{}")]);
        let error = transport.agent().script(&id()).await.unwrap_err();
        assert_eq!((error.kind(), error.status(), error.attempts()), (kind, Some(status), 1));
        // A change that is under way passes.
        assert_eq!(error.is_retryable(), status == 409, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_is_waited_out_as_long_as_it_says_and_not_much_longer() {
    let transport = Scripted::replies([reply(429, "").with("retry-after", "42"), script()]);
    transport.agent().script(&id()).await.unwrap();
    let wait = seconds(&transport)[0];
    assert!((42.0..42.6).contains(&wait), "{wait}");
}

#[tokio::test(start_paused = true)]
async fn where_the_header_is_missing_the_body_says_how_long() {
    let body = r#"{"message":"Rate limit exceeded the maximum. Retry the request in [7] seconds","code":"too.many.requests.retry.after","status":429}"#;
    let transport = Scripted::replies([reply(429, body), script()]);
    transport.agent().script(&id()).await.unwrap();
    let wait = seconds(&transport)[0];
    assert!((7.0..7.6).contains(&wait), "{wait}");
}

#[tokio::test(start_paused = true)]
async fn of_two_retry_after_lines_the_larger_holds() {
    let transport = Scripted::replies([reply(429, "").with("retry-after", "1").with("retry-after", "9"), script()]);
    transport.agent().script(&id()).await.unwrap();
    assert!(seconds(&transport)[0] >= 9.0);
}

#[tokio::test(start_paused = true)]
async fn throttling_is_bounded_by_the_deadline_not_by_attempts() {
    let transport = Scripted::replies((0..12).map(|_| reply(429, "").with("retry-after", "5")).chain([script()]));
    transport.agent().script(&id()).await.unwrap();
    assert_eq!(transport.calls().len(), 13);
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_cap_is_returned_at_once() {
    for (status, value) in [(429, "181"), (429, "86400"), (429, "18446744073709551616"), (503, "181")] {
        let transport = Scripted::replies([reply(status, "").with("retry-after", value)]);
        let error = transport.agent().script(&id()).await.unwrap_err();
        assert_eq!((error.status(), error.attempts()), (Some(status), 1), "{value}");
        assert!(error.retry_after().unwrap() > Duration::from_secs(180));
        assert!(error.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_retry_after_neither_panics_nor_sleeps_long() {
    for value in ["-5", "", "1.5", "Sun, 06 Nov 1994 08:49:37 GMT", "0", "soon"] {
        let transport = Scripted::replies([reply(429, "").with("retry-after", value), script()]);
        transport.agent().script(&id()).await.unwrap();
        assert!(seconds(&transport)[0] < 1.5, "{value:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_gives_up_before_a_sleep_that_would_outlast_the_deadline() {
    let transport = Scripted::replies([reply(429, "").with("retry-after", "60")]);
    let agent = transport.agent().with_timeout(Duration::from_secs(30));
    let error = agent.script(&id()).await.unwrap_err();
    assert!(error.is_throttled());
    assert!(error.elapsed() < Duration::from_secs(1), "{:?}", error.elapsed());
    assert!(error.retry_after().unwrap() >= Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_does_not_say_when_it_ends_is_waited_for_no_longer_than_an_outage() {
    let refusing = || {
        Scripted::by(|seen| match seen.is_login() {
            true => common::token("t0ken"),
            false => reply(429, r#"{"code":"too.many.requests"}"#),
        })
    };
    let transport = refusing();
    let error = transport.agent().script(&id()).await.unwrap_err();
    assert!(error.is_throttled() && error.is_retryable(), "{error}");
    assert_eq!((error.status(), error.elapsed().as_secs()), (Some(429), 15), "{error}");
    assert!(error.to_string().contains("does not say when"), "{error}");

    let patient = RetryPolicy::default().with_ride_out_outages(true);
    let agent = refusing().builder().retry(patient).build().unwrap().agent(common::credentials());
    let error = agent.script(&id()).await.unwrap_err();
    assert!(error.elapsed() > Duration::from_secs(90), "{error}");
}

#[tokio::test(start_paused = true)]
async fn silence_is_a_timeout_and_is_tried_again() {
    let transport = Scripted::replies([Reply::Silence, script()]);
    transport.agent().script(&id()).await.unwrap();
    assert!(seconds(&transport)[0] >= 15.0);

    let transport = Scripted::replies([Reply::Silence]);
    let error = transport.agent().with_timeout(Duration::from_secs(3)).script(&id()).await.unwrap_err();
    assert!(error.is_timeout() && error.may_have_been_sent());
    assert_eq!(error.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_is_tried_again_and_a_refused_one_was_never_sent() {
    use io::ErrorKind::{ConnectionReset, HostUnreachable, NetworkDown, NetworkUnreachable, NotConnected};
    for kind in [ConnectionReset, HostUnreachable, NetworkUnreachable, NetworkDown, NotConnected] {
        let transport = Scripted::replies([Reply::Broken(kind), script()]);
        transport.agent().script(&id()).await.unwrap();
    }

    let transport = Scripted::by(|seen| match seen.is_login() {
        true => common::token("t0ken"),
        false => Reply::Broken(io::ErrorKind::ConnectionRefused),
    });
    let error = transport.agent().script(&id()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Connection, 8));
    assert!(!error.may_have_been_sent());

    // What does not speak of the connection is the middleware's own failure.
    use io::ErrorKind::{InvalidData, NotFound, Other, PermissionDenied};
    for kind in [InvalidData, NotFound, Other, PermissionDenied] {
        let error = Scripted::replies([Reply::Broken(kind)]).agent().script(&id()).await.unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Middleware, 1), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_answered_500_for_ever_ends_after_some_seconds_with_what_came() {
    for seed in 0..20 {
        let transport = Scripted::by(|seen| match seen.is_login() {
            true => common::token("t0ken"),
            false => reply(500, ""),
        });
        let client = transport.builder().seed(seed).build().unwrap();
        let error = client.agent(common::credentials()).script(&id()).await.unwrap_err();
        assert_eq!((error.kind(), error.status(), error.attempts()), (ErrorKind::Server, Some(500), 8));
        assert!(error.elapsed() < Duration::from_secs(12), "{:?}", error.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_of_the_builder_is_obeyed() {
    let mut policy = RetryPolicy::default();
    policy.attempts = 2;
    policy.initial_backoff = Duration::ZERO;
    policy.retry_after_cap = Duration::from_secs(1);
    let transport = Scripted::replies([reply(500, ""), reply(500, "")]);
    let client = transport.builder().retry(policy).build().unwrap();
    assert_eq!(client.agent(common::credentials()).script(&id()).await.unwrap_err().attempts(), 2);

    let transport = Scripted::replies([reply(429, "").with("retry-after", "2")]);
    let client = transport.builder().retry(policy).build().unwrap();
    assert_eq!(client.agent(common::credentials()).script(&id()).await.unwrap_err().attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_callers_own_impatience_is_no_outage() {
    let transport = Scripted::by(|seen| if seen.is_login() { common::token("t0ken") } else { script() })
        .with_latency(Duration::from_millis(60));
    let client = transport.client();
    let agent = client.agent(common::credentials());
    agent.script(&id()).await.unwrap();
    let hasty = agent.with_timeout(Duration::from_millis(50));
    for _ in 0..40 {
        assert!(hasty.script(&id()).await.unwrap_err().is_timeout());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(client.stats().api.down.is_empty());
    agent.script(&id()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_429_that_asks_for_no_wait_is_not_asked_again_at_once() {
    let transport = Scripted::by(|seen| match seen.is_login() {
        true => common::token("t0ken"),
        false => reply(429, "").with("retry-after", "0"),
    });
    transport.agent().script(&id()).await.unwrap_err();
    assert!(transport.calls().len() < 30, "{}", transport.calls().len());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_the_calls_end_cuts_short_does_not_hide_what_came_before() {
    let refusal = |number: u32| {
        let refusal = reply(503, "").with("inin-correlation-id", format!("c-{number}"));
        Reply::Later(Duration::from_secs(1), Box::new(refusal))
    };
    let transport = Scripted::replies((1..=4).map(refusal));
    let agent = transport.agent().with_timeout(Duration::from_millis(3_500));
    agent.log_in().await.unwrap();
    let error = agent.script(&id()).await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.attempts()), (ErrorKind::Timeout, Some(503), 4), "{error}");
    assert_eq!((error.correlation_id(), error.retry_after()), (Some("c-3"), None), "{error}");
    assert!(error.to_string().contains("time ran out") && error.to_string().contains("the service failed"), "{error}");

    // What it was told to wait has been waited.
    let transport = Scripted::replies([reply(503, "").with("retry-after", "2"), Reply::Silence]);
    let agent = transport.agent().with_timeout(Duration::from_secs(5));
    agent.log_in().await.unwrap();
    let error = agent.script(&id()).await.unwrap_err();
    assert_eq!((error.kind(), error.status(), error.retry_after()), (ErrorKind::Timeout, Some(503), None), "{error}");

    // A login has a time of its own, and its proxy or host is named as what it is.
    let transport = Scripted::by(|_| Reply::Silence);
    let error = transport.agent().log_in().await.unwrap_err();
    assert!(error.to_string().contains("`login_timeout`") && !error.to_string().contains("call's"), "{error}");
    assert_eq!(error.retry_after(), None, "{error}");
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_a_429_is_told_of_its_whole_wait_and_not_of_what_is_believed_of_it() {
    let transport = Scripted::replies([reply(429, "").with("retry-after", "3600")]);
    let agent = transport.agent();
    let first = agent.script(&id()).await.unwrap_err();
    assert_eq!((first.status(), first.retry_after()), (Some(429), Some(Duration::from_secs(3_600))), "{first}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let next = agent.script(&id()).await.unwrap_err();
    assert_eq!((next.kind(), next.attempts()), (ErrorKind::Throttled, 0), "{next}");
    assert_eq!(next.retry_after().unwrap().as_secs(), 3_540, "{next}");
}

/// It was refused, so nothing was done.
#[tokio::test(start_paused = true)]
async fn a_publication_that_is_refused_as_scripts_are_for_load_is_tried_again() {
    let refused = reply(400, r#"{"code":"bad_request","message":"Invalid script definition"}"#);
    let transport = Scripted::replies([refused, script()]);
    transport.agent().publish(&id(), &PublishScript::default()).await.unwrap();
    assert_eq!(transport.calls().len(), 2);
}
