//! Plans that JMeter 2.13 ran against a small server, each with a defect, with two at once, with none, with too little:
//! what the doctor says of the plan, of the results, and of both.

use std::path::PathBuf;

use genesys_doctor::cause::{Certainty, Report, Verdict};
use genesys_doctor::examine;

/// A recording, the causes its results show with their shares, and those its plan foretells.
type Recording = (&'static str, &'static [(&'static str, f64)], &'static [&'static str]);

const RECORDINGS: &[Recording] = &[
    ("healthy", &[], &[]),
    ("too-little", &[], &[]),
    ("two-tokens", &[], &["header_duplicate"]),
    ("exhausted", &[("feed_exhausted", 1.0)], &["feed_exhausted"]),
    ("exhausted-unsent", &[("feed_exhausted", 1.0)], &["feed_exhausted"]),
    ("exhausted-and-broken", &[("feed_exhausted", 18.0 / 26.0), ("broken_script", 8.0 / 26.0)], &["feed_exhausted"]),
    ("blank-line", &[("feed_exhausted", 1.0)], &["feed_blank_line"]),
    ("space", &[("feed_space", 1.0)], &["feed_space"]),
    ("header-row", &[("feed_header_row", 1.0)], &["feed_header_row"]),
    ("header-row-and-space", &[("feed_header_row", 0.5), ("feed_space", 0.5)], &["feed_header_row", "feed_space"]),
    ("quotes", &[("feed_quotes", 1.0)], &["feed_quotes"]),
    ("empty-id", &[("feed_empty_id", 1.0)], &["feed_empty_id"]),
    ("undefined", &[("feed_placeholder", 1.0)], &["feed_placeholder"]),
    ("braces", &[("feed_placeholder", 1.0)], &["feed_placeholder"]),
    ("no-accept", &[("header_wrong", 1.0)], &["header_missing"]),
    ("no-token", &[("token_missing", 1.0)], &["token_missing"]),
    ("no-bearer", &[("token_missing", 1.0)], &["header_wrong"]),
    ("expired", &[("token_expired", 1.0)], &[]),
    ("overload", &[("overload", 1.0)], &[]),
    ("broken", &[("broken_script", 1.0)], &[]),
    ("broken-and-overload", &[("broken_script", 32.0 / 52.0), ("overload", 20.0 / 52.0)], &[]),
    ("quota", &[("quota", 1.0)], &[]),
    ("login", &[("login_throttled", 0.5), ("token_missing", 0.5)], &[]),
    ("refused", &[("service_down", 1.0)], &[]),
];

fn files(name: &str, files: &[&str]) -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(name);
    files.iter().map(|file| folder.join(file)).collect()
}

fn report(name: &str, of: &[&str]) -> Report {
    examine(&files(name, of)).unwrap_or_else(|failed| panic!("{name}: {failed:?}"))
}

/// The causes that are likely or certain.
fn sure(report: &Report) -> Vec<(&'static str, f64)> {
    let sure = report.causes.iter().filter(|cause| cause.certainty > Certainty::Possible);
    let mut sure: Vec<_> = sure.map(|cause| (cause.name.name(), cause.share.unwrap_or_default())).collect();
    sure.sort_by(|a, b| a.0.cmp(b.0));
    sure
}

#[test]
fn results_alone_show_the_causes_and_no_others() {
    for (name, expected, _) in RECORDINGS {
        let report = report(name, &["results.jtl"]);
        let found = sure(&report);
        let mut expected = expected.to_vec();
        expected.sort_by(|a, b| a.0.cmp(b.0));
        let alike = found.len() == expected.len()
            && found.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() <= 0.03);
        assert!(alike, "{name}: {found:?} for {expected:?}");
        for cause in report.causes.iter().filter(|cause| cause.certainty > Certainty::Possible) {
            let counted = cause.evidence.iter().any(|evidence| evidence.bytes().any(|b| b.is_ascii_digit()));
            assert!(counted, "{name}: {cause:?} is not counted");
        }
    }
}

#[test]
fn plans_and_data_alone_foretell_their_own_defects_and_no_others() {
    for (name, _, expected) in RECORDINGS {
        let report = report(name, &["agents.csv", "plan.jmx"]);
        let mut found: Vec<_> = report.causes.iter().map(|cause| cause.name.name()).collect();
        found.sort_unstable();
        let expected: Vec<_> = expected.to_vec();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn with_the_plan_the_cause_is_the_plans() {
    for (name, expected) in [
        ("blank-line", "feed_blank_line"),
        ("no-accept", "header_missing"),
        ("no-bearer", "header_wrong"),
        ("exhausted", "feed_exhausted"),
        ("no-token", "token_missing"),
    ] {
        for order in [["plan.jmx", "results.jtl", "agents.csv"], ["agents.csv", "results.jtl", "plan.jmx"]] {
            let report = report(name, &order);
            let first = report.causes.iter().find(|cause| cause.follows.is_none()).map(|cause| cause.name.name());
            assert_eq!(first, Some(expected), "{name}: {:?}", report.causes);
            assert_eq!(report.verdict, Verdict::Causes);
        }
    }
}

#[test]
fn a_foretold_share_stands_beside_the_one_that_came() {
    let report = report("exhausted", &["plan.jmx", "results.jtl", "agents.csv"]);
    let cause = report.causes.first().expect("a cause");
    assert_eq!(cause.certainty, Certainty::Certain);
    let both = cause.evidence.iter().any(|evidence| evidence.matches("40.0 %").count() == 2);
    assert!(both, "{:?}", cause.evidence);
}

#[test]
fn what_follows_from_a_failed_step_says_so() {
    let report = report("login", &["results.jtl"]);
    let token = report.causes.iter().find(|cause| cause.name.name() == "token_missing").expect("a consequence");
    assert_eq!(token.follows.map(|name| name.name()), Some("login_throttled"));
}

#[test]
fn nothing_and_too_little_are_told_apart() {
    assert_eq!(report("healthy", &["results.jtl"]).verdict, Verdict::NothingFound);
    assert_eq!(report("healthy", &["plan.jmx", "results.jtl", "agents.csv"]).verdict, Verdict::NothingFound);
    assert_eq!(report("too-little", &["results.jtl"]).verdict, Verdict::NotEnoughEvidence);
}
