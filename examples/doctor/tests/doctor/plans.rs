//! What plans and data files foretell: each rule by plans that break it, and silence for those that do not.

use crate::made::Scratch;
use genesys_doctor::cause::{Level, Report, Verdict};
use genesys_doctor::examine;

/// A plan in which nothing is wrong, with spots to break it.
pub(crate) const PLAN: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<jmeterTestPlan version="1.2" properties="5.0" jmeter="5.6.3">
  <hashTree>
    <TestPlan guiclass="TestPlanGui" testclass="TestPlan" testname="Plan" enabled="true"/>
    <hashTree>
      <ThreadGroup testclass="ThreadGroup" testname="Agents" enabled="true">
        <stringProp name="ThreadGroup.num_threads">50</stringProp>
        <stringProp name="ThreadGroup.ramp_time">10</stringProp>
        <elementProp name="ThreadGroup.main_controller" elementType="LoopController"><stringProp name="LoopController.loops">1</stringProp></elementProp>
      </ThreadGroup>
      <hashTree>
        <HeaderManager testclass="HeaderManager" testname="Headers" enabled="true"><collectionProp name="HeaderManager.headers">
          <elementProp name="" elementType="Header"><stringProp name="Header.name">Authorization</stringProp><stringProp name="Header.value">Bearer ${token}</stringProp></elementProp>
          <elementProp name="" elementType="Header"><stringProp name="Header.name">Accept</stringProp><stringProp name="Header.value">application/json</stringProp></elementProp>
        </collectionProp></HeaderManager>
        <hashTree/>
        <CSVDataSet testclass="CSVDataSet" testname="Feed" enabled="true">
          <stringProp name="filename">agents.csv</stringProp><stringProp name="variableNames">scriptId,token</stringProp>
          <stringProp name="delimiter">,</stringProp><boolProp name="ignoreFirstLine">false</boolProp>
          <boolProp name="quotedData">false</boolProp><boolProp name="recycle">true</boolProp>
          <boolProp name="stopThread">false</boolProp><stringProp name="shareMode">shareMode.all</stringProp>
        </CSVDataSet>
        <hashTree/>
        <HTTPSamplerProxy testclass="HTTPSamplerProxy" testname="GET script" enabled="true">
          <stringProp name="HTTPSampler.domain">api.example.test</stringProp><stringProp name="HTTPSampler.protocol">https</stringProp>
          <stringProp name="HTTPSampler.path">/api/v2/scripts/${scriptId}</stringProp><stringProp name="HTTPSampler.method">GET</stringProp>
          <boolProp name="HTTPSampler.use_keepalive">true</boolProp>
          <stringProp name="HTTPSampler.connect_timeout">5000</stringProp><stringProp name="HTTPSampler.response_timeout">15000</stringProp>
        </HTTPSamplerProxy>
        <hashTree/>
      </hashTree>
    </hashTree>
  </hashTree>
</jmeterTestPlan>
"#;

pub(crate) fn id(i: usize) -> String {
    format!("0a1b2c3d-0000-4000-8000-{i:012}")
}

pub(crate) fn feed() -> String {
    (1..=60).map(|i| format!("{},t{i}\n", id(i))).collect()
}

/// The plan with each of these replaced.
pub(crate) fn plan(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(PLAN.to_owned(), |plan, (from, to)| {
        assert!(plan.contains(from), "{from} is in the plan");
        plan.replacen(from, to, 1)
    })
}

pub(crate) fn report(plan: &str, feed: &str) -> Report {
    let (plan, feed) = (Scratch::new("plan", plan), Scratch::new("agents.csv", feed));
    examine(&[feed.0.clone(), plan.0.clone()]).unwrap_or_else(|failed| panic!("{failed:?}"))
}

pub(crate) fn names(report: &Report) -> Vec<&'static str> {
    report.causes.iter().map(|cause| cause.name.name()).collect()
}

pub(crate) fn is_quiet(what: &str, plan: &str, feed: &str) {
    let report = report(plan, feed);
    let loud: Vec<_> = report.findings.iter().filter(|finding| finding.level > Level::Note).collect();
    assert!(report.causes.is_empty() && loud.is_empty(), "{what}: {:?} {loud:?}", report.causes);
}

pub(crate) const THREADS: &str = "num_threads\">50";
pub(crate) const RECYCLE: (&str, &str) = ("recycle\">true", "recycle\">false");
pub(crate) const BEFORE: &str = "<CSVDataSet testclass";

#[test]
fn a_plan_in_which_nothing_is_wrong_is_left_alone() {
    let feed = feed();
    let header = format!("scriptId,token\n{feed}");
    let quoted: String = feed.lines().map(|line| format!("\"{}\"\n", line.replace(',', "\",\""))).collect();
    is_quiet("as it is", PLAN, &feed);
    is_quiet("CRLF", PLAN, &feed.replace('\n', "\r\n"));
    is_quiet("rows enough", &plan(&[RECYCLE]), &feed);
    is_quiet(
        "threads end",
        &plan(&[RECYCLE, (THREADS, "num_threads\">90"), ("stopThread\">false", "stopThread\">true")]),
        &feed,
    );
    is_quiet("a header that is skipped", &plan(&[("ignoreFirstLine\">false", "ignoreFirstLine\">true")]), &header);
    is_quiet("a header that names", &plan(&[("scriptId,token<", "<")]), &header);
    is_quiet("quotes taken off", &plan(&[("quotedData\">false", "quotedData\">true")]), &quoted);
    is_quiet("another delimiter", &plan(&[("delimiter\">,", "delimiter\">;")]), &feed.replace(',', ";"));
    is_quiet("a tab", &plan(&[("delimiter\">,", "delimiter\">\\t")]), &feed.replace(',', "\t"));
    for path in ["C:\\feeds\\agents.csv", "~/agents.csv", "${__P(dir,/srv)}/agents.csv"] {
        is_quiet(path, &plan(&[(">agents.csv", &format!(">{path}"))]), &feed);
    }
    is_quiet(
        "a property's host",
        &plan(&[("domain\">api.example.test", "domain\">${__P(host,api.example.test)}")]),
        &feed,
    );
    is_quiet(
        "a whole address",
        &plan(&[("domain\">api.example.test", "domain\">"), ("path\">/api", "path\">https://api.example.test/api")]),
        &feed,
    );
    let script = format!(
        "<JSR223PreProcessor testclass=\"JSR223PreProcessor\"><stringProp name=\"script\">vars.put(\"x\",\"1\")</stringProp></JSR223PreProcessor><hashTree/>{BEFORE}"
    );
    is_quiet("a script", &plan(&[(BEFORE, &script)]), &feed);
    let broken = format!(
        "<HTTPSamplerProxy testname=\"old\" enabled=\"false\"><stringProp name=\"HTTPSampler.path\">/{{x}}</stringProp></HTTPSamplerProxy><hashTree/>{BEFORE}"
    );
    is_quiet("what is disabled", &plan(&[(BEFORE, &broken)]), &feed);
    is_quiet("characters that XML forbids", &plan(&[("testname=\"Plan\"", "testname=\"a&#x0;b&amp;c\"")]), &feed);
}

#[test]
fn each_rule_is_found_with_its_line() {
    let feed = feed();
    let dead = "<collectionProp name=\"HTTPsampler.headers\"/><stringProp name=\"HTTPSampler.domain\">";
    let cache = format!("<CacheManager testclass=\"CacheManager\"/><hashTree/>{BEFORE}");
    let again = "<elementProp name=\"\"><stringProp name=\"Header.name\">authorization</stringProp><stringProp name=\"Header.value\">Bearer ${token}</stringProp></elementProp></collectionProp>";
    for (name, changes) in [
        ("header_dead", &[("<stringProp name=\"HTTPSampler.domain\">", dead)][..]),
        ("header_duplicate", &[("</collectionProp>", again)]),
        ("header_wrong", &[("Bearer ${token}", "${token} x")]),
        ("header_wrong", &[("Bearer ${token}", "Bearer \"${token}\"")]),
        ("header_wrong", &[("Bearer ${token}", "Bearer Bearer ${token}")]),
        ("header_wrong", &[(">Authorization", ">Authorization:")]),
        ("token_missing", &[(">Authorization", ">X-Other")]),
        ("token_missing", &[("Bearer ${token}", "Bearer ")]),
        ("header_missing", &[(">Accept<", ">X-Other<")]),
        ("token_shared", &[("Bearer ${token}", "Bearer ${__P(token)}")]),
        ("token_shared", &[("Bearer ${token}", "Bearer abcdefgh")]),
        ("wrong_address", &[("domain\">api", "domain\">https://api")]),
        ("wrong_address", &[("api.example.test<", "api.example.test/<")]),
        ("wrong_address", &[("domain\">api.example.test", "domain\">")]),
        (
            "wrong_scheme",
            &[("protocol\">https<", "protocol\">http</stringProp><stringProp name=\"HTTPSampler.port\">443<")],
        ),
        ("connection_churn", &[("use_keepalive\">true", "use_keepalive\">false")]),
        ("burst", &[(THREADS, "num_threads\">150"), ("ramp_time\">10", "ramp_time\">0")]),
        ("feed_placeholder", &[("${scriptId}", "${scriptid}")]),
        ("feed_placeholder", &[("${scriptId}", "{scriptId}")]),
        ("feed_placeholder", &[("${scriptId}", "${__noSuch(scriptId)}")]),
        ("feed_unencoded_id", &[("/${scriptId}", "/&lt;x&gt;/${scriptId}")]),
        ("feed_one_row", &[("shareMode.all", "shareMode.thread")]),
        ("not_modified", &[(BEFORE, cache.as_str())]),
    ] {
        let report = report(&plan(changes), &feed);
        assert_eq!(names(&report), [name], "{changes:?}: {:#?}", report.findings);
        let found = report.findings.iter().any(|f| f.rule == name && f.level > Level::Note && f.line > 1);
        assert!(found, "{changes:?}: {:?}", report.findings);
    }
}

#[test]
fn a_feed_that_runs_out_is_foretold_with_its_share() {
    let loops = |n: &str| format!("LoopController.loops\">{n}");
    for (changes, share) in [
        (vec![RECYCLE, (THREADS, "num_threads\">150")], 0.6),
        (vec![RECYCLE, (THREADS, "num_threads\">${__P(threads,100)}")], 0.4),
        (vec![RECYCLE, ("LoopController.loops\">1", &*loops("3"))], 0.6),
        (vec![RECYCLE, (THREADS, "num_threads\">80"), ("${scriptId}", "${__urlencode(${scriptId})}")], 0.25),
    ] {
        let report = report(&plan(&changes), &feed());
        assert_eq!(names(&report), ["feed_exhausted"], "{changes:?}");
        let foretold = report.causes.first().and_then(|cause| cause.share).unwrap_or_default();
        assert!((foretold - share).abs() < 0.001, "{changes:?}: {foretold}");
    }
}

#[test]
fn each_defect_of_a_feed_is_found_in_its_place() {
    let feed = feed();
    for (name, text) in [
        ("feed_blank_line", format!("{feed}\n")),
        ("feed_bom", format!("\u{feff}{feed}")),
        ("feed_space", feed.replace(",t5\n", " ,t5\n")),
        ("feed_quotes", feed.replace(&id(9), &format!("\"{}\"", id(9)))),
        ("feed_header_row", format!("scriptId,token\n{feed}")),
        ("feed_placeholder", feed.replace(&id(9), "NOT_FOUND")),
        ("feed_placeholder", feed.replace(',', ";")),
        ("feed_empty_id", feed.replace(&id(9), "")),
        ("feed_unencoded_id", feed.replace(&id(9), "a/b?c")),
        ("feed_unknown_id", feed.replace(&id(9), "0a1b2c3d-9")),
        ("feed_one_row", format!("{},t0\n", id(1))),
    ] {
        let report = report(PLAN, &text);
        assert_eq!(names(&report), [name], "{:?}", report.findings);
    }
    let lost = report(&plan(&[("ignoreFirstLine\">false", "ignoreFirstLine\">true")]), &feed);
    assert!(lost.findings.iter().any(|f| f.level == Level::Warning && f.message.contains("first line")));
}

#[test]
fn a_condition_that_is_never_true_is_told_and_a_good_one_is_not() {
    for (condition, expected) in [
        ("${!__isEmpty(${scriptId})}", &["never_runs"][..]),
        ("\"${scriptId}\" != \"\"", &["never_runs"]),
        ("${__jexl3(\"${scriptId}\" != \"\")}", &[]),
        ("${go}", &[]),
    ] {
        let condition = condition.replace('"', "&quot;");
        let open = format!(
            "<IfController testclass=\"IfController\" testname=\"If\"><stringProp name=\"IfController.condition\">{condition}</stringProp><boolProp name=\"IfController.useExpression\">true</boolProp></IfController><hashTree><HTTPSamplerProxy testclass"
        );
        let plan = plan(&[
            ("<HTTPSamplerProxy testclass", &open),
            ("</HTTPSamplerProxy>\n        <hashTree/>", "</HTTPSamplerProxy><hashTree/></hashTree>"),
        ]);
        let report = report(&plan, &feed());
        assert_eq!(names(&report), expected, "{condition}");
    }
}

#[test]
fn what_is_of_a_plugin_is_named_and_nothing_concluded() {
    let plugin = format!("<com.example.Clever testclass=\"com.example.Clever\" testname=\"c\"/><hashTree/>{BEFORE}");
    let report = report(&plan(&[(BEFORE, &plugin), ("${scriptId}", "${setByPlugin}")]), &feed());
    assert!(report.causes.is_empty(), "{:?}", report.causes);
    assert!(report.findings.iter().any(|f| f.rule == "not_understood" && f.message.contains("com.example.Clever")));
}

#[test]
fn no_token_of_a_plan_is_printed() {
    let report = report(&plan(&[("Bearer ${token}", "Bearer s3cr3t-s3cr3t")]), &feed());
    assert!(!format!("{report:?}").contains("s3cr3t"));
}

#[test]
fn a_data_file_without_a_row_leaves_every_variable_empty_whatever_is_recycled() {
    let header = ("ignoreFirstLine\">false", "ignoreFirstLine\">true");
    for changes in [&[header][..], &[header, RECYCLE]] {
        for text in ["scriptId,token\n", "scriptId,token"] {
            let report = report(&plan(changes), text);
            assert_eq!(names(&report), ["feed_exhausted"], "{:#?}", report.findings);
            assert_eq!((report.verdict, report.causes[0].share), (Verdict::Causes, Some(1.0)), "{:#?}", report.causes);
        }
    }
}

#[test]
fn a_request_with_two_wrong_things_fails_once() {
    let well = "<HTTPSamplerProxy testclass=\"HTTPSamplerProxy\" testname=\"well\"><stringProp name=\"HTTPSampler.domain\">api.example.test</stringProp><stringProp name=\"HTTPSampler.protocol\">https</stringProp><stringProp name=\"HTTPSampler.path\">/api/v2/scripts/${scriptId}</stringProp><boolProp name=\"HTTPSampler.use_keepalive\">true</boolProp></HTTPSamplerProxy><hashTree/>";
    let both = format!("{well}<HTTPSamplerProxy testclass");
    let plan = plan(&[("<HTTPSamplerProxy testclass", &both), ("scripts/${scriptId}<", "x<")]);
    let twice = plan.replace("path\">/api/v2/x<", "path\">/api/v2/${one}/${two}<");
    assert_ne!(plan, twice);
    let report = report(&twice, &feed());
    let shares: Vec<_> = report.causes.iter().map(|cause| (cause.name.name(), cause.share)).collect();
    assert_eq!(shares, [("feed_placeholder", Some(0.5))], "{:#?}", report.causes);
}

#[test]
fn a_row_with_two_values_wrong_fails_once() {
    let feed: String = feed()
        .lines()
        .enumerate()
        .map(|(i, row)| {
            let (id, token) = row.split_once(',').expect("two values");
            if i % 2 == 0 { format!(" {id},{token} \n") } else { format!("{row}\n") }
        })
        .collect();
    let report = report(PLAN, &feed);
    let shares: Vec<_> = report.causes.iter().map(|cause| (cause.name.name(), cause.share)).collect();
    assert_eq!(shares, [("feed_space", Some(0.5))], "{:#?}", report.causes);
}
