//! How many threads begin together, by the tables and steps of groups, and which numbers are only defaults.

use crate::plans::{BEFORE, PLAN, THREADS, feed, is_quiet, names, plan, report};
use genesys_doctor::cause::{Level, Report};

/// The plan with this group of threads.
fn group(class: &str, properties: &str) -> String {
    let new = format!("<{class} testclass=\"{class}\" testname=\"Agents\">{properties}</{class}>");
    let (begin, end) = (PLAN.find("<ThreadGroup").expect("a group"), PLAN.find("</ThreadGroup>").expect("its end"));
    format!("{}{new}{}", &PLAN[..begin], &PLAN[end + "</ThreadGroup>".len()..])
}

fn has_burst(plan: &str, threads: &str) {
    let report: Report = report(plan, &feed());
    assert_eq!(names(&report), ["burst"], "{threads}: {:#?}", report.findings);
    let told = report
        .causes
        .iter()
        .flat_map(|cause| &cause.evidence)
        .any(|evidence| evidence.contains(&format!(": {threads} of the threads")));
    assert!(told, "{threads}: {:#?}", report.causes);
}

#[test]
fn rows_of_a_table_that_begin_together_are_added_up() {
    let table = |rows: &[[u64; 3]]| {
        let cells = |row: &[u64; 3]| {
            let [threads, delay, ramp] = row.map(|n| format!("<stringProp name=\"x\">{n}</stringProp>"));
            format!(
                "<collectionProp name=\"r\">{threads}{delay}{ramp}<stringProp name=\"x\">60</stringProp><stringProp name=\"x\">5</stringProp></collectionProp>"
            )
        };
        let rows: String = rows.iter().map(cells).collect();
        let table = format!("<collectionProp name=\"ultimatethreadgroupdata\">{rows}</collectionProp>");
        group("kg.apc.jmeter.threads.UltimateThreadGroup", &table)
    };
    has_burst(&table(&[[40, 0, 0], [40, 0, 0]]), "80");
    has_burst(&table(&[[30, 0, 60], [40, 20, 0], [10, 0, 0], [20, 20, 1]]), "60");
    has_burst(&table(&[[50, 0, 10], [150, 30, 0]]), "150");
    for rows in [&[[40, 0, 0], [40, 30, 0]][..], &[[40, 0, 0], [400, 0, 60]], &[[400, 30, 60]], &[]] {
        is_quiet(&format!("{rows:?}"), &table(rows), &feed());
    }
}

#[test]
fn threads_that_come_in_steps_come_a_step_at_once() {
    let steps = |target: u64, ramp: &str, steps: &str, unit: &str| {
        let properties = [("TargetLevel", &*target.to_string()), ("RampUp", ramp), ("Steps", steps), ("Unit", unit)]
            .map(|(name, value)| format!("<stringProp name=\"{name}\">{value}</stringProp>"));
        group("com.blazemeter.jmeter.threads.concurrency.ConcurrencyThreadGroup", &properties.concat())
    };
    has_burst(&steps(300, "60", "2", "S"), "150");
    has_burst(&steps(301, "10", "4", "M"), "76");
    has_burst(&steps(300, "0", "10", "M"), "300");
    has_burst(&steps(300, "", "", "M"), "300");
    for (target, ramp, n) in [(300, "60", ""), (300, "60", "0"), (300, "60", "10"), (300, "60", "${n}"), (40, "0", "1")]
    {
        is_quiet(&format!("{target} {ramp} {n}"), &steps(target, ramp, n, "S"), &feed());
    }
}

#[test]
fn every_number_that_is_a_default_of_a_property_is_told() {
    let looped = format!(
        "<LoopController testclass=\"LoopController\" testname=\"again\"><stringProp name=\"LoopController.loops\">${{__P(again,3)}}</stringProp></LoopController><hashTree/>{BEFORE}"
    );
    let told = |plan: &str| -> Vec<String> {
        let findings = report(plan, &feed()).findings.into_iter().filter(|f| f.rule == "property_default");
        findings.inspect(|f| assert!(f.level == Level::Note && f.line > 1, "{f:?}")).map(|f| f.message).collect()
    };
    for (from, to, words) in [
        (THREADS, "num_threads\">${__P(threads,40)}", "\"Agents\" has 40 threads"),
        ("loops\">1", "loops\">${__P(loops,2)}", "\"Agents\" has 2 loops"),
        ("loops\">1", "loops\">${__property(loops,,1)}", "\"Agents\" has 1 loop "),
        ("ramp_time\">10", "ramp_time\">${__P(ramp,20)}", "\"Agents\" has a ramp-up of 20"),
        (BEFORE, &looped, "\"again\" has 3 loops"),
    ] {
        let told = told(&plan(&[(from, to)]));
        assert!(matches!(told.as_slice(), [one] if one.contains(words)), "{to}: {told:?}");
    }
    let property = |name: &str, value: &str| format!("<stringProp name=\"{name}\">{value}</stringProp>");
    let concurrency = "com.blazemeter.jmeter.threads.concurrency.ConcurrencyThreadGroup";
    let properties =
        property("TargetLevel", "${__P(n,30)}") + &property("RampUp", "${__P(ramp,2)}") + &property("Unit", "M");
    let told_of = told(&group(concurrency, &properties));
    let (threads, ramp) = ("has a target of 30 ", "has a ramp-up of 2 ");
    assert!(matches!(told_of.as_slice(), [a, b] if a.contains(threads) && b.contains(ramp)), "{told_of:?}");
    assert!(told(PLAN).is_empty());
}
