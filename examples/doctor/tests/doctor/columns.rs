//! What columns of the user's own, and headers of answers, tell: a cause only where their names say of what they are.

use crate::made::{BEGIN, script};
use crate::results::{elements, http, report, sure};
use genesys_doctor::cause::Report;

/// 600 requests for 20 scripts of 15 threads, with another column; those that this says are refused.
fn with(column: &str, code: &str, value: impl Fn(u64, bool) -> String, fails: impl Fn(u64) -> bool) -> Report {
    let mut text =
        format!("timeStamp,elapsed,label,responseCode,responseMessage,threadName,success,URL,\"{column}\"\n");
    for i in 0..600_u64 {
        let (failed, url) = (fails(i), script(i * 7 % 20));
        let code = if failed { code } else { "200" };
        let value = value(i, failed);
        let row = format!(
            "{},{},GET script,{code},x,A 1-{},{},{url},{value}\n",
            BEGIN + i * 37,
            40 + i % 13,
            i % 15,
            !failed
        );
        text.push_str(&row);
    }
    report(text)
}

#[test]
fn no_token_that_was_saved_beside_the_results_is_shown_and_a_thread_without_one_is_told() {
    for column in ["token", "accessToken", "scriptToken", "x-token", "node_secret", "password"] {
        let token = |i: u64, _| format!("Xk3jQ9-{:04}", i % 15);
        let report = with(column, "401", token, |i| [3, 8].contains(&(i % 15)));
        assert_eq!(sure(&report), ["token_missing"], "{column}: {:#?}", report.causes);
        let told = format!("{report:?}");
        assert!(!told.contains("Xk3jQ9"), "{column}: {told}");
    }
}

#[test]
fn only_a_column_that_is_called_so_tells_of_a_node_or_a_script() {
    let third = |i: u64| i * 7 % 3 == 1;
    for column in
        ["node", "serverName", "backend_id", "pod", "instance", "x-served-by", "zone", "upstream.ip", "Region"]
    {
        let report = with(column, "500", |i, _| format!("n{}", i * 7 % 3), third);
        assert_eq!(sure(&report), ["node_fault"], "{column}: {:#?}", report.causes);
    }
    for column in ["script", "scriptId", "script_name"] {
        let report = with(column, "500", |i, _| format!("s{}", i * 7 % 3), third);
        assert_eq!(sure(&report), ["broken_script"], "{column}: {:#?}", report.causes);
    }
    for column in ["agentId", "userId", "orgId", "description", "postscript", "zip", "Variant"] {
        let report = with(column, "500", |i, _| format!("n{}", i * 7 % 3), third);
        let never = ["broken_script", "node_fault"];
        assert!(!report.causes.iter().any(|c| never.contains(&c.name.name())), "{column}: {:#?}", report.causes);
    }
}

#[test]
fn what_follows_from_the_failure_is_not_its_cause() {
    let scattered = |i: u64| i * i % 11 == 4;
    for (column, bad) in [
        ("pageName", "NOT_FOUND"),
        ("status", "KO"),
        ("errorCode", "E17"),
        ("serverStatus", "KO"),
        ("scriptName", ""),
        ("node", ""),
    ] {
        let value = |_, failed: bool| if failed { bad.to_owned() } else { "fine".to_owned() };
        let report = with(column, "500", value, scattered);
        let never = ["broken_script", "node_fault"];
        assert!(!report.causes.iter().any(|c| never.contains(&c.name.name())), "{column}: {:#?}", report.causes);
    }
}

#[test]
fn who_refuses_is_no_node_unless_it_also_serves() {
    let header =
        |lines: &str| format!("<responseHeader class=\"java.lang.String\">HTTP/1.1 x\n{lines}</responseHeader>");
    for (good, bad) in
        [("Server: app/1", "Server: envoy"), ("Via: 1.1 app\nServer: app", "Via: 1.1 edge\nServer: edge")]
    {
        let text = elements(120, |i, _| {
            let failed = i * i % 11 == 4;
            http(i * 7, if failed { "503" } else { "200" }, &header(if failed { bad } else { good }))
        });
        assert!(!sure(&report(&text)).contains(&"node_fault"), "{bad}: {:#?}", report(&text).causes);
    }
    let both = elements(300, |i, _| {
        let (sick, failed) = (i * 7 % 3 == 1, i * 7 % 3 == 1 && i % 10 > 0);
        http(i * 7, if failed { "503" } else { "200" }, &header(if sick { "Server: app-2" } else { "Server: app-1" }))
    });
    assert_eq!(sure(&report(both)), ["node_fault"], "one that fails more than the others");
}
