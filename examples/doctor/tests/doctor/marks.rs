//! What was meant for a variable and is none, since it is written as another tool writes it or never closed.

use crate::plans::{feed, is_quiet, names, plan, report};
use genesys_doctor::cause::{Certainty, Level};

const ID: &str = "/${scriptId}<";
const SENT: &str = "Bearer ${token}<";

fn is_told(from: &str, to: &str, name: &str) {
    let report = report(&plan(&[(from, to)]), &feed());
    assert_eq!(names(&report), [name], "{to}: {:#?}", report.findings);
    assert!(report.causes.iter().all(|c| c.certainty == Certainty::Likely), "{to}: {:#?}", report.causes);
    let told = report.findings.iter().any(|f| f.rule == name && f.level == Level::Error && f.line > 1);
    assert!(told, "{to}: {:#?}", report.findings);
}

#[test]
fn a_variable_that_is_marked_as_none_is_told() {
    for id in [
        "${scriptId",
        "${__urlencode(${scriptId})",
        "${scriptId}/pages/${scriptId",
        "{{scriptId}}",
        "%7BscriptId%7D",
        "%7b%7bscriptId%7d%7d",
        "%7Bid%7D/pages",
        "%24%7BscriptId%7D",
        ":scriptId",
        "$scriptId",
        "$(scriptId)",
        "[scriptId]",
        "%scriptId%",
        "${scriptId}/:scriptId",
        ":scriptId?x=1",
    ] {
        is_told(ID, &format!("/{id}<"), "feed_placeholder");
    }
    is_told("domain\">api.example.test", "domain\">${scriptId", "feed_placeholder");
    is_told(SENT, "Bearer ${token<", "feed_placeholder");
    for token in ["$token", ":token", "%token%", "{token}"] {
        is_told(SENT, &format!("Bearer {token}<"), "header_wrong");
    }
}

#[test]
fn what_is_no_name_of_a_variable_or_stands_for_itself_is_left_alone() {
    for id in [
        "${scriptId}:token",
        "${scriptId}/:publish",
        "${scriptId}/$count",
        "%7B0a1b2c3d-0000-4000-8000-000000000001%7D/${scriptId}",
        "%7B%22a%22%3A1%7D/${scriptId}",
        "${scriptId}?filter=%7Btoken%7D",
        "${scriptId}?$token=1",
        "${__urlencode(${scriptId})}",
        "${scriptId}/token",
    ] {
        is_quiet(id, &plan(&[(ID, &format!("/{id}<"))]), &feed());
    }
    let count = plan(&[("scriptId,token<", "scriptId,token,count<"), (ID, "/${scriptId}/$count<")]);
    let rows: String = feed().lines().map(|line| format!("{line},3\n")).collect();
    is_quiet("a word of OData", &count, &rows);
}
