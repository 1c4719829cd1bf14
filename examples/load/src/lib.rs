//! The load test: 150 agents log in at once and each fetches the same script, first the naive way, then with the crate.
//!
//! Without arguments it brings its own Genesys Cloud, a simulator that refuses scripts when more than 80 are asked
//! for at once; `--help` tells how to point it at another one. The progress goes to stderr, the summary to stdout.
//!
//! It exits with 0 when every agent of the last mode got its script, 1 when not, 2 on bad usage.

mod args;
mod failure;
mod fleet;
mod naive;
mod report;
mod resilient;
mod run;
mod summary;
mod target;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Mode};
use failure::Failure;
use fleet::Fleet;
use run::Run;
use target::{NoTarget, Target};

/// Does what the command line says.
#[tokio::main]
pub async fn main() -> ExitCode {
    let args = Args::parse();
    let target = match Target::find(&args).await {
        Ok(target) => Ok(target),
        Err(NoTarget::Usage(error)) => error.exit(),
        Err(NoTarget::Unreachable(failure)) => Err(failure),
    };
    match load(&args, target).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs each mode, tells the numbers, and whether every agent of the last one got its script.
async fn load(args: &Args, target: Result<Target, Failure>) -> anyhow::Result<bool> {
    // Opened before anything is sent: numbers that took minutes to get are not lost to a mistyped path.
    let report = args.json.as_deref().map(report::open).transpose()?;
    raise_open_files();
    let fleet = Fleet { agents: args.agents, ramp_up: args.ramp_up };
    let mut runs = Vec::new();
    for mode in args.mode.each() {
        let run = match &target {
            Ok(target) => match mode {
                Mode::Resilient => resilient::run(args, &fleet, target).await?,
                _ => naive::run(args, &fleet, target).await?,
            },
            Err(failure) => Run::never_began(mode.name(), args.agents, failure)?,
        };
        runs.push(run);
    }
    println!("{}", summary::text(args, &runs));
    if let Some(report) = report {
        report::write(report, &runs)?;
    }
    let Some(last) = runs.last() else { return Ok(true) };
    if let Some((count, example)) = last.failures.top().next() {
        eprintln!("error: {} of {} agents got no script; {count} of them: {example}", last.failed(), last.agents);
    }
    Ok(last.failed() == 0)
}

/// A naive agent holds a connection of its own, and the simulator the other end of it: past some 500 agents that
/// is more than the 1,024 open files that many systems start a process with.
fn raise_open_files() {
    #[cfg(unix)]
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        eprintln!("warning: the limit on open files stays as it is: {error}");
    }
}
