//! `--diagnose`: a controlled experiment against the target, and what it comes to, in the doctor's words.
//!
//! Requests are naive ones, each sent once. They belong to arms that differ from each other in one thing; a block has
//! all arms in an order of chance, and blocks follow until nothing is open, so that what changes with the clock is not
//! taken for what differs between arms. What each cause is told by:
//!
//! | cause | the contrast |
//! |---|---|
//! | `overload` | waves of an eighth to all of the agents at the same rate, and a few at once at a low and a high rate: failing begins at a number under way, whatever the rate |
//! | `burst` | the same, and all agents with their starts spread over an answer's time: failing begins at a number of starts in a window, whatever is under way |
//! | `quota`, `token_shared` | one token for all, beside own tokens and one agent that is asked more: failing begins at a number of requests of one token, or of all |
//! | `address_limit` | other source addresses (127.0.0.x on loopback): failing begins at a number of requests of one address |
//! | `login_throttled`, `login_refused` | three logins one after the other, then the rest as asked |
//! | `session_conflict` | a token used again after the next login |
//! | `token_expired` | tokens that were good fail from a time on, until the end |
//! | `connection_churn`, `connection_reuse` | one at a time on new connections and on kept ones |
//! | `cold_start` | scripts first asked for in each block, and once more at once |
//! | `broken_script`, `feed_unknown_id` | scripts that fail in all arms |
//! | `contention` | a few at once for one script, and for one each |
//! | `node_fault` | a header that names who answered, or connections that always fail beside others that never do |
//! | `time_window`, `service_down` | a span of time in which all arms fail, or one that tells far more than anything else |
//! | `transient`, `gateway_failure`, `timeout` | failures that go with none of these |
//! | `all_refused`, … | nothing went well, not even one at a time |
//!
//! A limit that the user's own run does not meet is ruled out: one token for all where agents have their own, more at
//! once than there are agents (or come at the plan's rate while one is answered), more a minute than the plan asks.

mod design;
mod experiment;
mod factors;
mod judge;
#[cfg(test)]
mod model;
mod sample;
mod wire;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use genesys_doctor::cause::{Report, Verdict};
use genesys_doctor::page::{Style, page};

use crate::args::{Args, Workload};
use crate::machine;
use crate::output::{self, Aside};
use crate::plan::{Closed, Plan};
use crate::report::{self, Facts};
use crate::stop::{Signal, Stop};
use crate::summary;
use crate::target::Target;

use judge::Asked;
use wire::Wire;

/// As the doctor's: neither that nothing was found, nor that something was.
pub(crate) const ERROR: u8 = 2;

/// Makes the experiment and tells what it comes to.
pub(crate) async fn command(
    args: &Args,
    target: &Target,
    plan: &Plan,
    json: Option<Aside>,
    stop: &Stop,
) -> anyhow::Result<ExitCode> {
    let began_at = SystemTime::now();
    let warnings = machine::prepare(args, target, plan);
    let mut wire = Wire::new(args, target, stop).await?;
    let asked = asked(args, target, plan, wire.script_count());
    let told = |block: u32, taken: &sample::Taken| {
        if std::io::stderr().is_terminal() {
            let (sent, failed) = (taken.samples.len(), taken.failures());
            output::tell(&format!("block {block}: {sent} requests so far, {failed} failed"));
        }
    };
    let budget = args.diagnose_requests as usize;
    let where_to = summary::target(args);
    let mut report = experiment::experiment(&mut wire, &asked, budget, args.seed, &where_to, told).await;
    report.not_tested.splice(..0, not_tested(&wire, &asked, budget));
    if args.workload == Workload::FirstScreen {
        let pages = "a script's pages, which a first screen asks for too: scripts alone were asked for";
        experiment::not_all(&mut report, pages);
    }
    let facts = Facts {
        args,
        target: where_to,
        simulator_here: target.is_here(),
        planned: None,
        began_at,
        interrupted: stop.signal().is_some(),
        failed_conditions: Vec::new(),
        warnings,
    };
    tell(&facts, &report, json)?;
    let found = if report.verdict == Verdict::NothingFound { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    Ok(stop.signal().map_or(found, Signal::exit_code))
}

fn tell(facts: &Facts<'_>, report: &Report, file: Option<Aside>) -> anyhow::Result<()> {
    let json_to_stdout = facts.args.json.as_deref().is_some_and(|path| path.as_os_str() == "-");
    let style = if json_to_stdout { Style { colour: false } } else { Style::of_stdout() };
    output::people(&page(report, style), json_to_stdout);
    let json = || report::json(facts, &[], Some(report));
    match file {
        _ if json_to_stdout => output::print(&json()?),
        Some(file) => file.write(format!("{}\n", json()?).as_bytes()),
        None => Ok(()),
    }
}

/// What the user's own run comes to.
fn asked(args: &Args, target: &Target, plan: &Plan, ids: u32) -> Asked {
    let agents = target.agent_count();
    // A quick answer: what a plan asks at most.
    let each = |think: Duration| 60.0 / (think.as_secs_f64() + 0.05);
    let seconds = |duration: Duration| duration.as_secs_f64().max(1e-3);
    let open = matches!(plan, Plan::Open(_));
    let (at_once, per_second, all_together, per_agent) = match plan {
        Plan::Closed(Closed { ramp_up, iterations, duration, think_time, .. }) => {
            let times = iterations.map(|times| times as f64);
            let per_agent = match (times, duration) {
                (None, None) => None,
                (times, _) => Some(times.unwrap_or(f64::INFINITY).min(each(*think_time))),
            };
            let again = duration.is_some() || *iterations > Some(1);
            (ramp_up.is_zero(), f64::from(agents) / seconds(*ramp_up), again, per_agent)
        }
        Plan::Open(open) => {
            let most = open.stages.iter().map(|stage| stage.from.max(stage.to)).fold(0.0, f64::max);
            (false, most, false, Some(most * 60.0 / f64::from(agents.max(1))))
        }
    };
    Asked { agents, shared: args.shared_token, at_once, per_second, all_together, open, per_agent, ids }
}

/// What the means did not allow.
fn not_tested(wire: &Wire<'_>, asked: &Asked, budget: usize) -> Vec<String> {
    use experiment::Subject as _;
    let mut out = Vec::new();
    if wire.left_out() > 0 {
        let left_out = wire.left_out();
        out.push(format!("{left_out} more logins: there was no time left for them, or it was told to end"));
    }
    if wire.tokens() == 0 {
        out.push("anything but logins: none was granted".to_owned());
        return out;
    }
    if wire.addresses() < 2 {
        out.push("whether it goes with the address that is sent from: this machine has one for this target".to_owned());
    }
    if wire.ids() < 2 {
        out.push("whether it goes with the script: there is one to ask for; a --feeder names more".to_owned());
    }
    let most = (budget / 8).max(2);
    if asked.open {
        return out;
    }
    if asked.agents as usize > most {
        out.push(format!(
            "more than {most} at once: --diagnose-requests {} allows for {}",
            asked.agents * 8,
            asked.agents
        ));
    }
    if asked.agents < 4 {
        out.push(format!("many at once: the run has {}", if asked.agents == 1 { "1 agent" } else { "few agents" }));
    }
    out
}
