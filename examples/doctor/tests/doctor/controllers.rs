//! Controllers decide how often a request is sent: where that is known it is counted, and where not nothing is foretold.

use crate::made::Scratch;
use crate::plans::{BEFORE, PLAN, RECYCLE, THREADS, feed, id, is_quiet, names, plan, report};
use genesys_doctor::cause::{Certainty, Report};
use genesys_doctor::examine;

const SAMPLER: &str = "<HTTPSamplerProxy testclass";
const SAMPLER_ENDS: &str = "</HTTPSamplerProxy>\n        <hashTree/>";
const HUNDRED: (&str, &str) = (THREADS, "num_threads\">100");

fn controller(class: &str, properties: &str) -> String {
    format!("<{class} testclass=\"{class}\" testname=\"c\">{properties}</{class}><hashTree>")
}

/// The plan with its request below this.
fn below(controller: &str, more: &[(&str, &str)]) -> String {
    let opened = format!("{controller}{SAMPLER}");
    let changes = [&[(SAMPLER, opened.as_str()), (SAMPLER_ENDS, "</HTTPSamplerProxy><hashTree/></hashTree>")], more];
    plan(&changes.concat())
}

fn condition(text: &str) -> String {
    let text = text.replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    let properties = format!(
        "<stringProp name=\"IfController.condition\">{text}</stringProp><boolProp name=\"IfController.useExpression\">true</boolProp>"
    );
    controller("IfController", &properties)
}

fn share(report: &Report, name: &str) -> Option<f64> {
    report.causes.iter().find(|cause| cause.name.name() == name)?.share
}

#[test]
fn what_a_controller_may_leave_out_is_not_foretold() {
    let asks = condition("${__jexl3(\"${scriptId}\" != \"<EOF>\")}");
    is_quiet("a request that is sent while there are rows", &below(&asks, &[RECYCLE, HUNDRED]), &feed());
    for class in [
        "WhileController",
        "SwitchController",
        "RandomController",
        "ThroughputController",
        "InterleaveControl",
        "IfController",
    ] {
        let report = report(&below(&controller(class, ""), &[RECYCLE, HUNDRED]), &feed());
        for cause in &report.causes {
            assert!(cause.certainty == Certainty::Possible && cause.share.is_none(), "{class}: {cause:?}");
        }
    }
    for class in ["TransactionController", "GenericController", "RandomOrderController", "CriticalSectionController"] {
        let report = report(&below(&controller(class, ""), &[RECYCLE, HUNDRED]), &feed());
        assert_eq!((names(&report), share(&report, "feed_exhausted")), (vec!["feed_exhausted"], Some(0.4)), "{class}");
    }
}

/// A login before the request, without rows of the feed.
fn with_login(before: &str, after: &str) -> String {
    let login = "<HTTPSamplerProxy testclass=\"HTTPSamplerProxy\" testname=\"log in\"><stringProp name=\"HTTPSampler.domain\">login.example.test</stringProp><stringProp name=\"HTTPSampler.protocol\">https</stringProp><stringProp name=\"HTTPSampler.path\">/oauth/token</stringProp><boolProp name=\"HTTPSampler.use_keepalive\">true</boolProp><stringProp name=\"HTTPSampler.connect_timeout\">5000</stringProp><stringProp name=\"HTTPSampler.response_timeout\">15000</stringProp></HTTPSamplerProxy><hashTree/>";
    format!("{before}{login}{after}{BEFORE}")
}

#[test]
fn what_is_sent_once_by_each_thread_is_counted_once() {
    let loops = ("LoopController.loops\">1", "LoopController.loops\">4");
    let once = with_login(&controller("OnceOnlyController", ""), "</hashTree>");
    // 100 threads: a login each and 4 requests, of which 340 of 400 have no row.
    let own_token = ("Bearer ${token}", "Bearer ${__P(token)}");
    let report = report(&plan(&[RECYCLE, HUNDRED, loops, own_token, (BEFORE, &once)]), &feed());
    let foretold = share(&report, "feed_exhausted").unwrap_or_default();
    assert!((foretold - 340.0 / 500.0).abs() < 0.001, "{foretold}: {:#?}", report.causes);
    assert_eq!(report.read.iter().map(|read| read.requests).max(), Some(500));
}

#[test]
fn a_feed_in_a_loop_is_read_as_often_as_that() {
    let open = controller("LoopController", "<stringProp name=\"LoopController.loops\">3</stringProp>");
    let moved = format!("{open}{BEFORE}");
    let looped = [(BEFORE, moved.as_str()), (SAMPLER_ENDS, "</HTTPSamplerProxy><hashTree/></hashTree>"), RECYCLE];
    // 50 threads of 3: 90 of 150 have no row.
    let told = report(&plan(&looped), &feed());
    assert_eq!((names(&told), share(&told, "feed_exhausted")), (vec!["feed_exhausted"], Some(0.6)));
    let rows: String = (1..=150).map(|i| format!("{},t{i}\n", id(i))).collect();
    is_quiet("rows enough", &plan(&looped), &rows);
    let endless = open.replace(">3<", ">${n}<");
    let unknown = plan(&[(BEFORE, &format!("{endless}{BEFORE}")), looped[1], RECYCLE]);
    let report = report(&unknown, &feed());
    assert!(report.causes.iter().all(|cause| cause.certainty == Certainty::Possible), "{:#?}", report.causes);
}

#[test]
fn arrivals_in_a_minute_are_no_threads_at_once() {
    let group = |level: &str, unit: &str| {
        let class = "com.blazemeter.jmeter.threads.arrivals.ArrivalsThreadGroup";
        let new = format!(
            "<{class} testclass=\"{class}\" testname=\"Agents\"><stringProp name=\"TargetLevel\">{level}</stringProp><stringProp name=\"RampUp\"></stringProp><stringProp name=\"Unit\">{unit}</stringProp></{class}>"
        );
        let (begin, end) = (PLAN.find("<ThreadGroup").expect("a group"), PLAN.find("</ThreadGroup>").expect("its end"));
        format!("{}{new}{}", &PLAN[..begin], &PLAN[end + "</ThreadGroup>".len()..])
    };
    is_quiet("600 a minute", &group("600", "M"), &feed());
    is_quiet("20 a second", &group("20", "S"), &feed());
    assert_eq!(names(&report(&group("6000", "M"), &feed())), ["burst"]);
    let exhausted = report(&group("600", "M").replace(RECYCLE.0, RECYCLE.1), &feed());
    assert!(exhausted.causes.iter().all(|cause| cause.certainty == Certainty::Possible), "{:#?}", exhausted.causes);
}

#[test]
fn a_fragment_has_the_headers_of_whoever_includes_it() {
    let begin = PLAN.find("<HTTPSamplerProxy").expect("a request");
    let end = PLAN.find("</HTTPSamplerProxy>").expect("its end") + "</HTTPSamplerProxy>".len();
    let request = PLAN.get(begin..end).expect("the request");
    let module = "<ModuleController testclass=\"ModuleController\" testname=\"the steps\"><collectionProp name=\"ModuleController.node_path\"><stringProp name=\"1\">Steps</stringProp></collectionProp></ModuleController>";
    let plan = PLAN.replace(request, module);
    let fragment = format!(
        "<TestFragmentController testclass=\"TestFragmentController\" testname=\"Steps\"/><hashTree>{request}<hashTree/></hashTree>"
    );
    let plan = plan.replacen("<ThreadGroup testclass", &format!("{fragment}<ThreadGroup testclass"), 1);
    is_quiet("a fragment", &plan, &feed());
    let (plan, feed) = (Scratch::new("plan", plan), Scratch::new("agents.csv", feed()));
    let report = examine(&[plan.0.clone(), feed.0.clone()]).expect("both are read");
    assert!(report.read.iter().filter(|read| read.kind == "plan").all(|read| read.requests == 0), "{:?}", report.read);
}
