//! What a plan does not use is not held against it, and what it uses is judged by the place it stands in.

use crate::plans::{BEFORE, feed, id, is_quiet, names, plan, report};
use genesys_doctor::cause::{Certainty, Level};

const THREE: (&str, &str) = ("scriptId,token<", "scriptId,token,agentName<");
const SENT: &str = "Bearer ${token}";

fn with_names(name: &str) -> String {
    (1..=60).map(|i| format!("{},t{i},{}\n", id(i), if i == 9 { name } else { "Anna" })).collect()
}

#[test]
fn a_column_that_no_request_uses_may_hold_anything() {
    for name in ["Anna ", "None", "", "${x}", "\"Anna\""] {
        is_quiet(&format!("{name:?}"), &plan(&[THREE]), &with_names(name));
        let header = format!("scriptId,token,agentName\n{}", with_names(name));
        is_quiet(&format!("{name:?} by a header"), &plan(&[("scriptId,token<", "<")]), &header);
    }
    // Another thing that is called so is not it.
    let query = [("scriptId,token<", "scriptId,token,name<"), ("${scriptId}<", "${scriptId}?name=x<")];
    is_quiet("a parameter of that name", &plan(&query), &with_names("None"));
    // Sent, it is judged.
    let sent = plan(&[THREE, ("/scripts/${scriptId}", "/scripts/${scriptId}/${agentName}")]);
    assert_eq!(names(&report(&sent, &with_names("None"))), ["feed_placeholder"]);
}

#[test]
fn a_value_in_the_query_is_in_no_path() {
    let plan = plan(&[THREE, ("${scriptId}<", "${scriptId}?name=${agentName}<")]);
    for name in ["a/b", "what?", "50%"] {
        is_quiet(name, &plan, &with_names(name));
    }
}

#[test]
fn an_id_with_the_rest_of_its_row_is_another_delimiter() {
    let one = plan(&[("scriptId,token<", "scriptId<"), (SENT, "Bearer ${__P(token)}${scriptId}")]);
    for delimiter in [";", "|", "\t"] {
        let report = report(&one, &feed().replace(',', delimiter));
        let told = report.findings.iter().find(|f| f.level == Level::Error && f.message.contains("delimiter"));
        assert!(told.is_some(), "{delimiter:?}: {:#?}", report.findings);
        assert!(report.causes.iter().any(|cause| cause.certainty > Certainty::Possible), "{:#?}", report.causes);
        assert!(!format!("{report:?}").contains("t17"), "the rest may be a token");
    }
}

#[test]
fn of_a_data_file_by_itself_nobody_knows_the_delimiter() {
    for delimiter in [";", "|", "\t"] {
        let file = crate::made::Scratch::new("agents.csv", feed().replace(',', delimiter));
        let report = genesys_doctor::examine(std::slice::from_ref(&file.0)).expect("it is read");
        assert!(report.causes.is_empty(), "{delimiter:?}: {:#?}", report.causes);
    }
}

#[test]
fn what_authorizes_well_is_left_alone() {
    let extractor = "<JSONPostProcessor testclass=\"JSONPostProcessor\" testname=\"login\"><stringProp name=\"JSONPostProcessor.referenceNames\">tokenType;accessToken</stringProp><stringProp name=\"JSONPostProcessor.defaultValues\">x;x</stringProp></JSONPostProcessor><hashTree/>";
    let two = format!("{extractor}{BEFORE}");
    let login = [(BEFORE, two.as_str()), (SENT, "${tokenType} ${accessToken}")];
    let report_of_two = report(&plan(&login), &feed());
    assert!(report_of_two.causes.is_empty(), "{:#?}", report_of_two.causes);
    is_quiet("a property of each thread", &plan(&[(SENT, "Bearer ${__property(token_${__threadNum})}")]), &feed());
    let blank = "<Arguments testclass=\"Arguments\" testname=\"Variables\"><collectionProp name=\"Arguments.arguments\"><elementProp name=\"token\" elementType=\"Argument\"><stringProp name=\"Argument.name\">token</stringProp><stringProp name=\"Argument.value\"></stringProp></elementProp></collectionProp></Arguments><hashTree/>";
    is_quiet("a variable that each row sets", &plan(&[(BEFORE, &format!("{blank}{BEFORE}"))]), &feed());
    let elsewhere = [("/api/v2/scripts/${scriptId}", "/notify/${scriptId}"), (SENT, "ApiKey ${token}")];
    is_quiet("another service", &plan(&elsewhere), &feed());
}

#[test]
fn a_header_is_called_what_it_is_called() {
    for name in [" Authorization", "Authorization "] {
        let report = report(&plan(&[(">Authorization<", &format!(">{name}<"))]), &feed());
        assert_eq!(names(&report), ["header_wrong"], "{name:?}: {:#?}", report.findings);
    }
}

#[test]
fn no_default_of_an_extractor_is_shown_that_may_be_a_token() {
    let of = |default: &str| {
        let extractor = format!(
            "<RegexExtractor testclass=\"RegexExtractor\" testname=\"login\"><stringProp name=\"RegexExtractor.refname\">token</stringProp><stringProp name=\"RegexExtractor.default\">{default}</stringProp></RegexExtractor><hashTree/>{BEFORE}"
        );
        format!("{:?}", report(&plan(&[(BEFORE, &extractor)]), &feed()).findings)
    };
    let secret = of("Xk3jQ9mZ-s3cr3t");
    assert!(secret.contains("extractor_default") && !secret.contains("s3cr3t"), "{secret}");
    assert!(of("TOKEN_NOT_FOUND").contains("TOKEN_NOT_FOUND"));
}

#[test]
fn no_row_that_is_taken_for_names_is_shown() {
    let unnamed = plan(&[("scriptId,token<", "<")]);
    for first in ["{id}, t0k3n-s3cr3t", "{id},t0k3n-s3cr3t "] {
        let text = format!(
            "{}\n{}",
            first.replace("{id}", &id(99)),
            feed().replace(",t5\n", ",t5 \n").replace(",t6\n", ",\n")
        );
        let told = format!("{:?}", report(&unnamed, &text));
        assert!(!told.contains("s3cr3t"), "{told}");
    }
}

#[test]
fn rows_are_what_jmeter_reads_as_rows() {
    let rows = |text: &str, changes: &[(&str, &str)]| {
        report(&plan(changes), text).read.iter().find_map(|read| read.rows).unwrap_or_default()
    };
    let quoted = [("quotedData\">false", "quotedData\">true")];
    assert_eq!(rows(&feed().replace('\n', "\r"), &[]), 60, "lines end in CR");
    assert_eq!(rows(&feed().replace('\n', "\r\n"), &[]), 60);
    is_quiet("lines end in CR", &plan(&[]), &feed().replace('\n', "\r"));
    let over = feed().replace(",t5\n", ",\"t\n5\"\n").replace(",t7\n", ",\"t\"\"\r\n7\"\n");
    assert_eq!((rows(&over, &quoted), rows(&over, &[])), (60, 62));
    is_quiet("a value over two lines", &plan(&quoted), &over);
    let open = format!("{},\"t0\n{}", id(99), feed());
    assert!(report(&plan(&quoted), &open).findings.iter().any(|f| f.level == Level::Error && f.line == 1));
    // A line of blanks is a value, and not the end.
    let blanks = report(&plan(&[]), &feed().replacen('\n', "\n  \n", 1));
    assert_eq!(names(&blanks), ["feed_space"], "{:#?}", blanks.findings);
}

#[test]
fn a_missing_accept_does_not_explain_what_is_forbidden() {
    use crate::made::{Scratch, csv, run};
    let without = Scratch::new("plan", plan(&[(">Accept<", ">X-Other<")]));
    for code in ["403", "400"] {
        let results = Scratch::new("results", csv(&run(60, |_, row, _| row.failed(code, "no"))));
        let report = genesys_doctor::examine(&[without.0.clone(), results.0.clone()]).expect("both are read");
        let accept = report.causes.iter().find(|cause| cause.name.name() == "header_missing");
        assert!(accept.is_none_or(|cause| cause.certainty == Certainty::Possible), "{code}: {:#?}", report.causes);
        assert!(report.causes.iter().all(|cause| cause.follows.is_none()), "{code}: {:#?}", report.causes);
    }
}

#[test]
fn a_row_that_is_skipped_as_a_header_is_told_whatever_its_ids_are() {
    let skipped = ("ignoreFirstLine\">false", "ignoreFirstLine\">true");
    let queried = ("/${scriptId}<", "?id=${scriptId}<");
    let told = |first: &str, rows: &str, changes: &[(&str, &str)]| {
        let report = report(&plan(changes), &format!("{first}{rows}"));
        let lost = |f: &genesys_doctor::cause::Finding| f.level == Level::Warning && f.message.contains("first line");
        report.findings.iter().any(|finding| lost(finding) && finding.line == 1)
    };
    for ids in [|i| format!("{}", 1_000 + i), |i| format!("{i}"), |i| format!("agent-{}", 1_000 + i), id] {
        let rows: String = (1..=60).map(|i| format!("{},t{i}\n", ids(i))).collect();
        for changes in [&[skipped][..], &[skipped, queried]] {
            assert!(told("", &rows, changes), "{rows:.20}");
            for header in ["scriptId,token\n", "Script,Token 2026\n", "id,bearer\n", "\"id\",\"sent as\"\n"] {
                assert!(!told(header, &rows, changes), "{header}{rows:.20}");
            }
        }
        assert!(!told("", &rows, &[]), "{rows:.20}");
    }
}

#[test]
fn a_file_that_is_taken_for_another_of_its_name_is_told() {
    let folder = std::env::temp_dir().join(format!("doctor-{}-feeds", std::process::id()));
    std::fs::create_dir_all(folder.join("feeds")).expect("a folder");
    let file = folder.join("feeds").join("agents.csv");
    std::fs::write(&file, feed()).expect("a data file");
    let whole = file.display().to_string();
    for (filename, other) in [
        ("C:\\Users\\x\\agents.csv", true),
        ("~/agents.csv", true),
        ("/srv/feeds/agents.csv", true),
        ("../agents.csv", true),
        ("${__P(dir,/srv)}/agents.csv", true),
        ("Agents.csv", true),
        ("agents.csv", false),
        ("./agents.csv", false),
        ("feeds/agents.csv", false),
        (&whole, false),
    ] {
        let plan = crate::made::Scratch::new("plan", plan(&[(">agents.csv<", &format!(">{filename}<"))]));
        let report = genesys_doctor::examine(&[plan.0.clone(), file.clone()]).expect("both are read");
        let told = report.findings.iter().any(|f| f.rule == "data_file" && f.message.contains("is taken for"));
        assert_eq!(told, other, "{filename}: {:#?}", report.findings);
        let rows = report.read.iter().filter_map(|read| read.rows).sum::<u64>();
        assert_eq!((rows, names(&report)), (60, vec![]), "{filename}: {:#?}", report.findings);
    }
    let _ = std::fs::remove_dir_all(&folder);
}
