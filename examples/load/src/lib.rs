//! The load test: 150 agents log in at once and each fetches the same script, first the naive way, then with the crate.
//!
//! Without arguments it brings its own Genesys Cloud, a simulator that refuses scripts when more than 80 are asked
//! for at once; `--help` tells how to point it at another one. The progress goes to stderr, the summary to stdout.
//!
//! With `--diagnose` it makes an experiment instead, to find out why requests fail: see the module.
//!
//! It exits with 0 when every agent of the last mode got its script, 1 when not (or nothing was begun, or a file could not be
//! written), 2 on bad usage, 99 when a condition of `--fail-if` holds, and 130 or 143 when it was told to end.
//!
//! The generator is its own and not that of `rlt` 0.5, which knows no planned start of a request (its rate is a bucket
//! that workers draw from, so what a slow service delays is never counted), no arrivals that vary or come at random, and
//! brings a terminal interface of some hundred crates.

mod args;
mod diagnose;
mod failure;
mod feeder;
mod fleet;
mod hdr;
mod jtl;
mod machine;
mod naive;
mod numbers;
mod output;
mod plan;
mod progress;
mod recorder;
mod report;
mod resilient;
mod run;
mod sender;
mod stop;
mod summary;
mod target;
mod threshold;
mod timeline;
mod worker;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use clap::Parser as _;

use args::{Args, Command, Mode};
use fleet::{Agent, Fleet};
use jtl::Jtl;
use output::Aside;
use plan::Plan;
use progress::Progress;
use recorder::Recorder;
use report::Facts;
use run::{Run, Sent};
use stop::Stop;
use target::{NoTarget, Target};

/// A condition of `--fail-if` holds, as k6 has it: neither a run that failed nor bad usage.
const THRESHOLD: u8 = 99;

/// Does what the command line says.
#[tokio::main]
pub async fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.command {
        Some(Command::Worker(options)) => worker::run(&args, options).await,
        None => load(&args).await,
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            output::tell(&format!("error: {error:#}"));
            if args.diagnose { diagnose::ERROR.into() } else { ExitCode::FAILURE }
        }
    }
}

/// The files that results go to, opened before anything is sent.
struct Files {
    json: Option<Aside>,
    html: Option<Aside>,
    hdr: Option<Aside>,
    jtl: Option<Aside>,
}

impl Files {
    fn open(args: &Args) -> anyhow::Result<Self> {
        let open = |path: &Option<std::path::PathBuf>| path.as_deref().map(Aside::open).transpose();
        let json = args.json.clone().filter(|path| path.as_os_str() != "-");
        Ok(Self { json: open(&json)?, html: open(&args.html)?, hdr: open(&args.hdr)?, jtl: open(&args.jtl)? })
    }

    /// Each is written, whatever became of the others.
    fn write(self, facts: &Facts<'_>, runs: &[Run], summary: &str, jtl: Option<Jtl>) -> Vec<anyhow::Error> {
        let all = [
            self.json.map(|file| {
                report::json(facts, runs, None).and_then(|json| file.write(format!("{json}\n").as_bytes()))
            }),
            self.html.map(|file| report::html(facts, runs, summary).and_then(|page| file.write(page.as_bytes()))),
            self.hdr.map(|file| hdr::log(facts.began_at, runs).and_then(|log| file.write(&log))),
            jtl.map(Jtl::keep),
        ];
        all.into_iter().flatten().filter_map(Result::err).collect()
    }
}

/// Runs each mode and tells the numbers.
async fn load(args: &Args) -> anyhow::Result<ExitCode> {
    let stop = Stop::on_signals()?;
    let target = tokio::select! {
        target = Target::find(args) => target,
        () = stop.asked() => return Ok(stop.signal().map_or(ExitCode::FAILURE, stop::Signal::exit_code)),
    };
    let target = match target {
        Ok(target) => Ok(target),
        Err(NoTarget::Usage(error)) => error.exit(),
        Err(NoTarget::Unreachable(failure)) => Err(failure),
    };
    let agents = target.as_ref().map_or_else(|_| Target::agents_asked(args), Target::agent_count);
    let plan = args.plan(agents);
    let mut files = Files::open(args)?;
    if args.diagnose {
        let target = target.map_err(|failure| anyhow::anyhow!("{}", failure.text))?;
        return diagnose::command(args, &target, &plan, files.json.take(), &stop).await;
    }
    let mut facts = Facts {
        args,
        target: summary::target(args),
        simulator_here: target.as_ref().is_ok_and(Target::is_here),
        planned: plan.iterations(),
        began_at: SystemTime::now(),
        interrupted: false,
        failed_conditions: Vec::new(),
        warnings: target.as_ref().map(|target| machine::prepare(args, target, &plan)).unwrap_or_default(),
    };
    let mut jtl = files.jtl.take().map(|file| {
        let threads = target.as_ref().map(|target| target.threads(args.workload)).unwrap_or_default();
        Jtl::new(file, args.workload.label(), threads)
    });
    let mut runs = Vec::new();
    for mode in args.mode.each().iter().take_while(|_| stop.signal().is_none()) {
        let run = match &target {
            Ok(target) => {
                let (run, rest) = one_mode(args, *mode, target, &plan, jtl.take(), &stop).await?;
                jtl = rest;
                run
            }
            Err(failure) => Run::never_began(mode.name(), agents, failure)?,
        };
        runs.push(run);
    }
    facts.interrupted = stop.signal().is_some();
    if let Some(last) = runs.last() {
        facts.failed_conditions = args.fail_if.iter().filter_map(|condition| condition.crossed(last)).collect();
    }
    let written = tell(args, &facts, &plan, &runs, files, jtl);
    Ok(verdict(args, &facts, &runs, &stop, written))
}

/// The summary and the files; whether all could be written that was asked for.
fn tell(args: &Args, facts: &Facts<'_>, plan: &Plan, runs: &[Run], files: Files, jtl: Option<Jtl>) -> bool {
    let summary = summary::text(facts, plan, runs);
    let mut errors = files.write(facts, runs, &summary, jtl);
    let json_to_stdout = args.json.as_deref().is_some_and(|path| path.as_os_str() == "-");
    output::people(&summary, json_to_stdout);
    if json_to_stdout {
        errors.extend(report::json(facts, runs, None).and_then(|json| output::print(&json)).err());
    }
    for error in &errors {
        output::tell(&format!("error: {error:#}"));
    }
    errors.is_empty()
}

fn verdict(args: &Args, facts: &Facts<'_>, runs: &[Run], stop: &Stop, written: bool) -> ExitCode {
    let last = runs.last();
    if let Some((count, example)) = last.and_then(|last| last.failures.top().next()) {
        let (failed, of) = last.map_or((0, 0), |last| (last.failed(), last.ended()));
        output::tell(&format!("error: {failed} of {of} got no script; {count} of them: {example}"));
    }
    if let Some(signal) = stop.signal() {
        return signal.exit_code();
    }
    if !facts.failed_conditions.is_empty() {
        return THRESHOLD.into();
    }
    let begun = last.is_none_or(|last| last.started > 0);
    if !begun {
        output::tell("error: nothing was begun");
    }
    let served = begun && last.is_none_or(|last| last.failed() == 0);
    // Who says what a failure is says what none is.
    let passed = served || (!args.fail_if.is_empty() && last.is_some_and(|last| last.served > 0));
    if passed && written { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One run: its numbers, and the lines of it with those before.
async fn one_mode(
    args: &Args,
    mode: Mode,
    target: &Target,
    plan: &Plan,
    jtl: Option<Jtl>,
    stop: &Stop,
) -> anyhow::Result<(Run, Option<Jtl>)> {
    let (agents, sent): (Vec<Agent>, Box<dyn Fn() -> Sent + Send>) = match mode {
        Mode::Resilient => {
            let client = resilient::client(args, target)?;
            let agents = resilient::agents(args, target, &client)?.into_iter().map(Agent::Resilient);
            (agents.collect(), Box::new(move || resilient::sent(&client)))
        }
        _ => {
            let shared = naive::Shared::new(args, target, plan)?;
            let agent = |identity| naive::Agent::new(&shared, identity, args.workload, &target.region);
            let agents = target.agents.iter().map(|identity| agent(identity).map(Agent::Naive));
            (agents.collect::<anyhow::Result<_>>()?, Box::new(move || shared.sent()))
        }
    };
    let agents = agents.into_iter().map(Arc::new).collect();
    let cpu_before = machine::cpu_time();
    let recorder = Arc::new(Recorder::new(Run::new(mode.name(), target.agent_count())?, jtl));
    let progress = Progress::of(mode.name(), plan.iterations(), &recorder);
    let ended = Fleet { plan, agents, recorder: Arc::clone(&recorder), stop }.run().await;
    let noted = recorder.finish();
    drop(progress);
    ended?;
    let Some((mut run, jtl)) = noted else { anyhow::bail!("the run's numbers are gone") };
    run.cpu = machine::cpu_time().zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    run.sent = sent();
    Ok((run, jtl))
}
