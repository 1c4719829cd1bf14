//! What an extractor says when it finds nothing is sent as if it were found, wherever its variable stands.

use crate::plans::{BEFORE, feed, names, plan, report};
use genesys_doctor::cause::{Finding, Level};

const SENT: &str = "Bearer ${token}<";
const ID: &str = "/${scriptId}<";
const BODY: &str = "<boolProp name=\"HTTPSampler.use_keepalive\">";
const GROUP_ENDS: &str = "</ThreadGroup>";

/// What is said of the extractor of these variables.
fn said(names_of: &str, defaults: &str, changes: &[(&str, &str)]) -> Vec<Finding> {
    let extractor = format!(
        "<JSONPostProcessor testclass=\"JSONPostProcessor\" testname=\"login\"><stringProp name=\"JSONPostProcessor.referenceNames\">{names_of}</stringProp><stringProp name=\"JSONPostProcessor.defaultValues\">{defaults}</stringProp></JSONPostProcessor><hashTree/>{BEFORE}"
    );
    let report = report(&plan(&[&[(BEFORE, extractor.as_str())], changes].concat()), &feed());
    assert_eq!(names(&report), Vec::<&str>::new(), "{changes:?}: {:#?}", report.causes);
    report.findings.into_iter().filter(|finding| finding.rule == "extractor_default").collect()
}

fn warned(said: &[Finding]) -> Vec<&str> {
    said.iter().filter(|finding| finding.level == Level::Warning).map(|finding| finding.message.as_str()).collect()
}

#[test]
fn a_default_of_one_of_several_variables_is_told_with_its_own() {
    let elsewhere = [(SENT, "Bearer ${access}<"), (ID, "/${script}<")];
    let said = said("access;unused;script", "TOKEN_NOT_FOUND;NO_VALUE;ID_NOT_FOUND", &elsewhere);
    let warned = warned(&said);
    assert_eq!(warned.len(), 2, "{said:#?}");
    assert!(warned[0].contains("${access}") && warned[0].contains("TOKEN_NOT_FOUND"), "{warned:#?}");
    assert!(warned[1].contains("${script}") && warned[1].contains("ID_NOT_FOUND"), "{warned:#?}");
    assert!(!warned[1].contains("TOKEN_NOT_FOUND"), "{warned:#?}");
}

#[test]
fn a_default_that_is_sent_in_a_body_or_an_argument_is_told() {
    let argument = |name: &str, value: &str| {
        format!(
            "<elementProp name=\"HTTPsampler.Arguments\" elementType=\"Arguments\"><collectionProp name=\"Arguments.arguments\"><elementProp name=\"{name}\" elementType=\"HTTPArgument\"><stringProp name=\"Argument.value\">{value}</stringProp></elementProp></collectionProp></elementProp>{BODY}"
        )
    };
    for body in [argument("access_token", "${access}"), argument("", "{\"token\": \"${access}\"}")] {
        let said = said("access", "TOKEN_NOT_FOUND", &[(BODY, &body.replace("\"${", "&quot;${"))]);
        assert_eq!(warned(&said).len(), 1, "{body}: {said:#?}");
    }
    assert!(warned(&said("access", "TOKEN_NOT_FOUND", &[])).is_empty(), "nothing uses it");
}

#[test]
fn a_plan_that_stops_after_a_failed_step_is_not_told_to() {
    for (action, stops) in [
        ("continue", false),
        ("", false),
        ("stopthread", true),
        ("startnextloop", true),
        ("stoptest", true),
        ("stoptestnow", true),
    ] {
        let group = format!("<stringProp name=\"ThreadGroup.on_sample_error\">{action}</stringProp>{GROUP_ENDS}");
        let said = said("access", "TOKEN_NOT_FOUND", &[(SENT, "Bearer ${access}<"), (GROUP_ENDS, &group)]);
        assert_eq!((said.len(), warned(&said).is_empty()), (1, stops), "{action}: {said:#?}");
        assert!(said[0].message.contains("TOKEN_NOT_FOUND"), "{action}: {said:#?}");
        assert_eq!(said[0].message.contains("on_sample_error"), !stops, "{action}: {said:#?}");
    }
}
