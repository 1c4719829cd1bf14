//! The numbers for people, the modes side by side.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use crate::args::Args;
use crate::machine;
use crate::plan::{Closed, Plan};
use crate::report::Facts;
use crate::run::Run;
use crate::target::KNEE;

/// The most failures told for each mode.
const FAILURES_SHOWN: usize = 5;

pub(crate) fn text(facts: &Facts<'_>, plan: &Plan, runs: &[Run]) -> String {
    let mut text = heading(facts, plan, runs);
    table(&mut text, plan, runs);
    let from = if plan.is_once_each() {
        "from the start to the script; login and waits included"
    } else {
        "from when it was due"
    };
    let _ = writeln!(text, "\nlatency: of the {} served, {from}", units(plan));
    for run in runs {
        remarks(&mut text, facts, plan, run);
    }
    if facts.interrupted {
        text.push_str("\nIt was told to end before it was done.\n");
    }
    if let [naive, resilient] = runs {
        cost(&mut text, plan, naive, resilient);
    }
    for condition in &facts.failed_conditions {
        let _ = writeln!(text, "\nFAILED {condition}");
    }
    text.trim_end().to_owned()
}

/// What is counted.
fn units(plan: &Plan) -> &'static str {
    if plan.is_once_each() { "agents" } else { "iterations" }
}

fn heading(facts: &Facts<'_>, plan: &Plan, runs: &[Run]) -> String {
    let agents = match runs.first().map_or(0, |run| run.agents) {
        1 => "1 agent".to_owned(),
        agents => format!("{agents} agents"),
    };
    let token = if facts.args.shared_token { "one token for all" } else { "each with a token of its own" };
    format!("{agents} {}, {token}\nagainst {}\n\n", pace(plan), facts.target)
}

fn pace(plan: &Plan) -> String {
    let duration = |duration: Duration| humantime::format_duration(duration).to_string();
    match plan {
        Plan::Closed(Closed { ramp_up, iterations, duration: until, think_time, .. }) => {
            let mut pace =
                if ramp_up.is_zero() { "at once".to_owned() } else { format!("over {}", duration(*ramp_up)) };
            match (iterations, until) {
                (None | Some(1), None) => {}
                (Some(times), None) => pace += &format!(", {times} times each"),
                (None, Some(until)) => pace += &format!(", again and again for {}", duration(*until)),
                (Some(times), Some(until)) => pace += &format!(", up to {times} times each in {}", duration(*until)),
            }
            if !think_time.is_zero() {
                pace += &format!(", {} between", duration(*think_time));
            }
            pace
        }
        Plan::Open(open) => {
            let stage = |stage: &crate::plan::Stage| {
                let rate = if stage.from == stage.to {
                    format!("{}/s", stage.from)
                } else {
                    format!("{} to {}/s", stage.from, stage.to)
                };
                format!("{rate} for {}", duration(stage.lasts))
            };
            let stages: Vec<_> = open.stages.iter().map(stage).collect();
            let random = if open.poisson { " at random (Poisson)" } else { "" };
            format!("in turn, {}{random}", stages.join(", then "))
        }
    }
}

/// Where it goes, in words.
pub(crate) fn target(args: &Args) -> String {
    match (&args.region, &args.api_url) {
        (Some(region), _) => format!("Genesys Cloud in {region}"),
        (None, Some(url)) => url.clone(),
        (None, None) => {
            let (knee, refused) = KNEE;
            format!(
                "a simulator that refuses {:.0} % of what comes while more than {knee} are in flight",
                refused * 100.0
            )
        }
    }
}

fn table(text: &mut String, plan: &Plan, runs: &[Run]) {
    let units = units(plan);
    let mut row = |name: &str, cell: &dyn Fn(&Run) -> String| {
        let _ = write!(text, "{name:<32}");
        for run in runs {
            let _ = write!(text, "{:>14}", cell(run));
        }
        text.push('\n');
    };
    row("", &|run| run.mode.to_owned());
    row(&format!("{units} served"), &|run| run.served.to_string());
    row(&format!("{units} not served"), &|run| run.failed().to_string());
    if runs.iter().any(|run| run.unfinished() > 0) {
        row("  cut off by the end", &|run| run.unfinished().to_string());
    }
    row("script requests", &|run| run.sent.attempts.to_string());
    row("  retries among them", &|run| run.sent.retries.to_string());
    row("  answered 429", &|run| run.sent.throttled.to_string());
    row("login requests", &|run| run.sent.login_attempts.to_string());
    row("  throttled", &|run| run.sent.login_throttled.to_string());
    row(&format!("{units} failed by a 400"), &|run| run.bad_requests.values().sum::<u64>().to_string());
    for class in runs.iter().flat_map(|run| run.bad_requests.keys()).collect::<BTreeSet<_>>() {
        row(&format!("  {class}"), &|run| run.bad_requests.get(class).unwrap_or(&0).to_string());
    }
    let ms = |run: &Run, ms: f64| if run.served == 0 { "-".to_owned() } else { format!("{ms:.1} ms") };
    for (name, quantile) in [("latency p50", 0.50), ("        p90", 0.90), ("        p99", 0.99), ("        max", 1.0)]
    {
        row(name, &|run| ms(run, run.latency_ms(quantile)));
    }
    if !plan.is_once_each() {
        row("service time p50", &|run| ms(run, run.service_ms(0.50)));
        row("             p99", &|run| ms(run, run.service_ms(0.99)));
        row("started late p99", &|run| format!("{:.1} ms", run.late_ms(0.99)));
        row("served per second", &|run| format!("{:.1}", run.served as f64 / run.elapsed.as_secs_f64().max(1e-9)));
    }
    let end = if plan.is_once_each() { "time to the last agent" } else { "time in all" };
    row(end, &|run| format!("{:.1} ms", run.elapsed.as_secs_f64() * 1000.0));
}

fn remarks(text: &mut String, facts: &Facts<'_>, plan: &Plan, run: &Run) {
    let limits = machine::was_the_limit(run, facts.args.is_open(), facts.simulator_here);
    if !limits.is_empty() {
        let _ = writeln!(
            text,
            "\n{}: this machine was the limit, and the numbers tell of it: {}",
            run.mode,
            limits.join("; ")
        );
    }
    if run.failed() == 0 {
        return;
    }
    let _ = writeln!(text, "\n{}: why {} were not served", run.mode, units(plan));
    for (count, example) in run.failures.top().take(FAILURES_SHOWN) {
        let _ = writeln!(text, "{count:>6} x {example}");
    }
    let others = run.failures.top().skip(FAILURES_SHOWN).count();
    if others > 0 {
        let _ = writeln!(text, "       and {others} other kinds of failure");
    }
}

/// In words, what the one way cost and the other did not.
fn cost(text: &mut String, plan: &Plan, naive: &Run, resilient: &Run) {
    let units = units(plan);
    let all = naive.ended();
    let lost = naive.failed();
    let took = |run: &Run| {
        humantime::format_duration(Duration::from_millis(u64::try_from(run.elapsed.as_millis()).unwrap_or(u64::MAX)))
    };
    let _ = match (lost, resilient.failed()) {
        // Nothing went over the wire: there was nobody to ask.
        _ if naive.sent.login_attempts + naive.sent.attempts == 0 || resilient.ended() == 0 => Ok(()),
        (0, 0) => {
            writeln!(text, "\nBoth ways served all {all} {units}: this load costs nothing yet. Try more --agents.")
        }
        (0, some) => writeln!(
            text,
            "\nThe naive way served all {all} {units}, and with the crate {some} of {} were not served: see why above.",
            resilient.ended()
        ),
        (_, rest) => {
            let refused: u64 = naive.bad_requests.values().sum();
            let by = if refused == lost { ", each by a 400" } else { "" };
            let with = match rest {
                0 => format!("all {} were served", resilient.ended()),
                rest => format!("{rest} of {} were not served", resilient.ended()),
            };
            writeln!(
                text,
                "\nThe naive way cost {lost} of {all} {units} their script ({:.0} %){by}.\n\
                 With the crate {with}, the last after {}, for {} retries in {} requests.",
                100.0 * lost as f64 / all as f64,
                took(resilient),
                resilient.sent.retries,
                resilient.sent.attempts
            )
        }
    };
}
