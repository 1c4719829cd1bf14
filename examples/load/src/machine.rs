//! This machine: what of it a load takes, and whether it was at its end, so that the numbers tell of it and not of the
//! service.

use std::time::Duration;

use crate::args::{Args, Mode};
use crate::output;
use crate::plan::Plan;
use crate::run::Run;
use crate::target::Target;

/// What the system and the runtime hold open besides.
const OTHER_FILES: u64 = 50;

/// Starts later than this did not make the load that was asked for, if they are more than one in a hundred: of arrivals
/// by the clock, and of agents.
const LATE_BY_RATE_MS: f64 = 5.0;
const LATE_AGENTS_MS: f64 = 100.0;

/// Of what the cores can do.
const BUSY: f64 = 0.9;

/// Raises the limit on open files as far as it may be, and tells people, and whoever asks, what the naive mode needs more of than
/// there is.
pub(crate) fn prepare(args: &Args, target: &Target, plan: &Plan) -> Vec<String> {
    let mut warnings = Vec::new();
    let files = raise_open_files(&mut warnings);
    let naive = args.mode.each().contains(&Mode::Naive);
    // A connection for each agent that asks at once; where agents take turns it is as many as the service is slow.
    let connections = match plan {
        Plan::Closed(_) if naive => u64::from(target.agent_count()),
        _ => 0,
    };
    let separate =
        target.client.is_some() && !args.shared_token && target.region.login_url() != target.region.api_url();
    let (each, besides) = match separate {
        // The one is kept for a while after the login.
        true => (2, ", and one to where it logs in"),
        false if target.is_here() => (2, ", and the simulator in this process the other end"),
        false => (1, ""),
    };
    if let Some(files) = files.filter(|files| connections * each + OTHER_FILES > *files) {
        warnings.push(format!(
            "the naive mode may need {} open files at once (a connection for each of {connections} agents{besides}), and this process may \
             have {files}, which is the hard limit: beyond it agents fail for want of files, not by the service. Raise it (ulimit -Hn, \
             LimitNOFILE, /etc/security/limits.conf), use fewer --agents, or a longer --ramp-up",
            connections * each
        ));
    }
    if let Some(ports) = local_ports().filter(|ports| connections > *ports) {
        warnings.push(format!(
            "the naive mode may need {connections} connections to one address, and this machine has {ports} local ports for them \
             (net.ipv4.ip_local_port_range)"
        ));
    }
    for warning in &warnings {
        output::tell(&format!("warning: {warning}"));
    }
    warnings
}

/// A naive agent holds a connection of its own, and the simulator the other end of it: past some 500 agents that
/// is more than the 1,024 open files that many systems start a process with.
pub(crate) fn raise_open_files(warnings: &mut Vec<String>) -> Option<u64> {
    #[cfg(unix)]
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => return Some(files),
        Err(error) => warnings.push(format!("the limit on open files stays as it is: {error}")),
    }
    #[cfg(not(unix))]
    let _ = warnings;
    None
}

/// Where the system tells.
fn local_ports() -> Option<u64> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = range.split_whitespace().map(str::parse::<u64>);
    match (ends.next()?, ends.next()?) {
        (Ok(first), Ok(last)) => Some((last + 1).saturating_sub(first)),
        _ => None,
    }
}

/// The time that all threads of this process have been at work, where the system tells.
pub(crate) fn cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may hold anything: user and system time are the 12th and 13th, in hundredths of a second.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (times.next()?.ok()?, times.next()?.ok()?);
    Some(Duration::from_millis((user + system) * 10))
}

/// The memory that this process has, in bytes, where the system tells.
pub(crate) fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(resident.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The part of all cores that was at work.
pub(crate) fn busy(run: &Run) -> Option<f64> {
    let elapsed = run.elapsed.as_secs_f64() * cores() as f64;
    Some(run.cpu?.as_secs_f64() / elapsed).filter(|part| part.is_finite())
}

/// Why the load test and not the service was the limit, if it was: each a sentence.
pub(crate) fn was_the_limit(run: &Run, is_open: bool, simulator_here: bool) -> Vec<String> {
    let mut why = Vec::new();
    let late = run.late_ms(0.99);
    if late > if is_open { LATE_BY_RATE_MS } else { LATE_AGENTS_MS } {
        why.push(format!(
            "one start in a hundred was {late:.0} ms or more later than planned, which the response times include"
        ));
    }
    for (what, count) in &run.machine {
        let which = if *what == "ports" { " (net.ipv4.ip_local_port_range)" } else { " (ulimit -n)" };
        why.push(format!("{count} requests failed as this machine ran out of {what}{which}"));
    }
    if let Some(busy) = busy(run).filter(|busy| *busy > BUSY && run.elapsed > Duration::from_secs(1)) {
        let both = if simulator_here { ", the simulator in this process included" } else { "" };
        why.push(format!("its {} cores were {:.0} % busy{both}", cores(), busy * 100.0));
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;
    use crate::run::tests::sample;

    #[test]
    fn late_starts_and_a_lack_of_files_are_told_and_a_good_run_is_not() {
        let mut run = Run::new("naive", 100).unwrap();
        for _ in 0..100 {
            run.add(&sample(10, Ok(())));
        }
        assert_eq!(was_the_limit(&run, true, false), Vec::<String>::new());
        for _ in 0..5 {
            let mut late = sample(10, Ok(()));
            late.due = Duration::ZERO;
            run.add(&late);
        }
        assert!(was_the_limit(&run, true, false)[0].contains("7 ms or more later"));
        assert!(was_the_limit(&run, false, false).is_empty(), "agents that start at once do so within milliseconds");
        let out_of_files = std::io::Error::from_raw_os_error(24);
        let failure = Failure { machine: Failure::of_machine(&out_of_files), ..Failure::other("no") };
        run.add(&sample(1, Err(failure)));
        assert!(
            was_the_limit(&run, false, false)[0].contains("1 requests failed as this machine ran out of open files")
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_system_tells_the_time_at_work_and_the_ports() {
        assert!(cpu_time().is_some() && local_ports().is_some_and(|ports| ports > 100));
    }
}
