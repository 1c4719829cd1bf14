//! The numbers for people, the modes side by side.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use crate::args::Args;
use crate::run::Run;
use crate::target::KNEE;

/// The most failures told for each mode.
const FAILURES_SHOWN: usize = 5;

/// Agents that start later than this did not make the load that was asked for.
const LATE: Duration = Duration::from_millis(100);

pub(crate) fn text(args: &Args, runs: &[Run]) -> String {
    let mut text = heading(args);
    table(&mut text, runs);
    text.push_str("\nlatency: of the agents served, from the start to the script; login and waits included\n");
    for run in runs {
        remarks(&mut text, run);
    }
    text.trim_end().to_owned()
}

fn heading(args: &Args) -> String {
    let agents = if args.agents == 1 { "1 agent".to_owned() } else { format!("{} agents", args.agents) };
    let pace = if args.ramp_up.is_zero() {
        "at once".to_owned()
    } else {
        format!("over {}", humantime::format_duration(args.ramp_up))
    };
    let token = if args.shared_token { "one token for all" } else { "each with a token of its own" };
    let target = match (&args.region, &args.api_url) {
        (Some(region), _) => format!("Genesys Cloud in {region}"),
        (None, Some(url)) => url.clone(),
        (None, None) => {
            let (knee, refused) = KNEE;
            format!(
                "a simulator that refuses {:.0} % of what comes while more than {knee} are in flight",
                refused * 100.0
            )
        }
    };
    format!("{agents} {pace}, {token}\nagainst {target}\n\n")
}

fn table(text: &mut String, runs: &[Run]) {
    let mut row = |name: &str, cell: &dyn Fn(&Run) -> String| {
        let _ = write!(text, "{name:<32}");
        for run in runs {
            let _ = write!(text, "{:>14}", cell(run));
        }
        text.push('\n');
    };
    row("", &|run| run.mode.to_owned());
    row("agents served", &|run| run.served.to_string());
    row("agents not served", &|run| run.failed().to_string());
    row("script requests", &|run| run.sent.attempts.to_string());
    row("  retries among them", &|run| run.sent.retries.to_string());
    row("  answered 429", &|run| run.sent.throttled.to_string());
    row("login requests", &|run| run.sent.login_attempts.to_string());
    row("  throttled", &|run| run.sent.login_throttled.to_string());
    row("agents failed by a 400", &|run| run.bad_requests.values().sum::<u32>().to_string());
    for class in runs.iter().flat_map(|run| run.bad_requests.keys()).collect::<BTreeSet<_>>() {
        row(&format!("  {class}"), &|run| run.bad_requests.get(class).unwrap_or(&0).to_string());
    }
    for (name, quantile) in [("latency p50", 0.50), ("        p90", 0.90), ("        p99", 0.99), ("        max", 1.0)]
    {
        row(name, &|run| match run.served {
            0 => "-".to_owned(),
            _ => format!("{:.1} ms", run.latency_ms(quantile)),
        });
    }
    row("time to the last agent", &|run| format!("{:.1} ms", run.elapsed.as_secs_f64() * 1000.0));
}

fn remarks(text: &mut String, run: &Run) {
    if run.late > LATE {
        let _ = writeln!(
            text,
            "\n{}: an agent started {} ms later than planned, and its latency counts from there: this machine did not keep up",
            run.mode,
            run.late.as_millis()
        );
    }
    if run.failed() == 0 {
        return;
    }
    let _ = writeln!(text, "\n{}: why agents were not served", run.mode);
    for (count, example) in run.failures.top().take(FAILURES_SHOWN) {
        let _ = writeln!(text, "{count:>6} x {example}");
    }
    let others = run.failures.top().skip(FAILURES_SHOWN).count();
    if others > 0 {
        let _ = writeln!(text, "       and {others} other kinds of failure");
    }
}
