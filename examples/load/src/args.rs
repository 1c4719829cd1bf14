//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use genesys_scripts::{Region, ScriptId};

use crate::numbers;
use crate::plan::{Closed, Open, Plan, Stage};
use crate::threshold::Threshold;

/// Logs agents in at once and lets each fetch the same script: first the naive way, then with genesys-scripts.
///
/// Without --api-url or --region it starts a simulator of its own, which begins to refuse scripts when more than 80
/// are asked for at once.
///
/// Against a URL or a region the credentials come from GENESYSCLOUD_OAUTHCLIENT_ID and
/// GENESYSCLOUD_OAUTHCLIENT_SECRET.
///
/// Exits with 0 when every agent of the last mode got its script, 1 when not, 2 on bad usage; with --fail-if, with 99
/// when one of them holds, and 0 when none does and anything was served; with 130 or 143 when it was told to end (Ctrl-C,
/// SIGTERM). Where nothing was begun, or a file could not be written, 0 is 1.
#[derive(Debug, Parser)]
#[command(name = "genesys-load", version, max_term_width = 120, after_help = SHAPES)]
#[command(group = clap::ArgGroup::new("arrivals").args(["rate", "stages"]).multiple(true))]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// How many agents there are [default: 150, or as many as the feeder has rows].
    #[arg(long, value_parser = numbers::agents, allow_hyphen_values = true)]
    pub(crate) agents: Option<u32>,

    /// Spread the agents' starts evenly over this time: 30s, 1500ms, 5m. With 0s all start at once. With --rate, the
    /// time in which the rate grows from 0.
    #[arg(long, default_value = "0s", value_parser = numbers::duration, allow_hyphen_values = true)]
    ramp_up: Duration,

    /// How many times each agent does its work [default: once, or as often as --duration allows].
    #[arg(long, value_parser = numbers::iterations, allow_hyphen_values = true, conflicts_with_all = ["rate", "stages"])]
    iterations: Option<u64>,

    /// How long work is begun; what is under way then is finished.
    #[arg(long, value_parser = numbers::some_time, allow_hyphen_values = true)]
    duration: Option<Duration>,

    /// An agent's pause between one iteration and the next.
    #[arg(long, default_value = "0s", value_parser = numbers::duration, allow_hyphen_values = true, conflicts_with_all = ["rate", "stages"])]
    think_time: Duration,

    /// Start so many iterations a second, answered or not: 200/s, 12000/m. The agents take turns.
    #[arg(long, value_parser = numbers::some_rate, allow_hyphen_values = true, requires = "duration")]
    rate: Option<f64>,

    /// A part of a longer course, one after the other: 30s:200/s holds a rate, 30s:0..200/s goes from one to another.
    #[arg(long = "stage", value_name = "DURATION:RATE", value_parser = Stage::parse, allow_hyphen_values = true,
          conflicts_with_all = ["rate", "duration", "ramp_up"])]
    stages: Vec<Stage>,

    /// Arrivals at random (Poisson) and not evenly spaced, the rate being the average.
    #[arg(long, requires = "arrivals")]
    poisson: bool,

    /// Decides what is random of --poisson, and the order of --diagnose.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,

    /// What an agent does.
    #[arg(long, value_enum, default_value_t = Workload::Script)]
    pub(crate) workload: Workload,

    /// The script to fetch [default: the first one of the simulator].
    #[arg(long, global = true, value_name = "ID", allow_hyphen_values = true, conflicts_with = "feeder")]
    pub(crate) script_id: Option<ScriptId>,

    /// A CSV file with a row for each agent and the columns agent, script_id, and access_token or refresh_token or
    /// neither; checked before the first request.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) feeder: Option<PathBuf>,

    /// With fewer rows than agents, begin again at the first row.
    #[arg(long, global = true, requires = "feeder")]
    pub(crate) recycle: bool,

    /// One login and one token for all, instead of one for each agent.
    #[arg(long)]
    pub(crate) shared_token: bool,

    /// The time an iteration may take from its start to its script, login and waits included.
    #[arg(long, global = true, default_value = "100s", value_parser = numbers::some_time, allow_hyphen_values = true)]
    pub(crate) call_timeout: Duration,

    /// Which way to fetch.
    #[arg(long, global = true, value_enum, default_value_t = Mode::Both)]
    pub(crate) mode: Mode,

    /// The naive mode reads answers and does not look whether they are scripts: to measure how fast this machine is.
    #[arg(long)]
    pub(crate) without_decoding: bool,

    /// A simulator started elsewhere, or a gateway: https, or http on loopback.
    #[arg(long, global = true, value_name = "URL", conflicts_with = "region")]
    pub(crate) api_url: Option<String>,

    /// Where to log in [default: the --api-url].
    #[arg(long, global = true, value_name = "URL", requires = "api_url", conflicts_with = "region")]
    pub(crate) login_url: Option<String>,

    /// Trust the certificates of this PEM file too: the simulator's own, or a gateway's.
    #[arg(long, global = true, value_name = "FILE", requires = "api_url")]
    pub(crate) ca: Option<PathBuf>,

    /// The real thing: a region like us-east-1, or its domain like mypurecloud.com.
    #[arg(long, global = true)]
    pub(crate) region: Option<Region>,

    /// Yes, send this load to an organisation of Genesys Cloud, whose limits others share.
    #[arg(long, global = true)]
    pub(crate) yes_load_a_real_org: bool,

    /// Find out why requests fail, by a controlled experiment in place of the load test: naive requests in arms that differ in
    /// one thing (how many at once, whose token, new or kept connections, which script, at what rate), interleaved. Exits
    /// with 0 when nothing was found, 1 with causes or too little evidence, 2 on an error. See the README.
    #[arg(long, conflicts_with_all = ["mode", "fail_if", "jtl", "hdr", "html", "without_decoding"])]
    pub(crate) diagnose: bool,

    /// The most requests that the experiment sends, logins included; it ends as soon as it is certain, and after 180 s.
    #[arg(long, default_value_t = 6_000, value_parser = clap::value_parser!(u32).range(50..=1_000_000), requires = "diagnose")]
    pub(crate) diagnose_requests: u32,

    /// Fail with exit code 99 if this holds of the last mode; may be given more than once. Of: failed, served, rate,
    /// mean, p50 to p99.99, max, late. Like 'failed > 0', 'failed > 1%', 'p99 > 500ms', 'rate < 190/s'; the rate is that of
    /// the whole run, its ramp-up and its tail included.
    #[arg(long, value_name = "CONDITION", value_parser = Threshold::parse, allow_hyphen_values = true)]
    pub(crate) fail_if: Vec<Threshold>,

    /// Write the numbers to this file too, as JSON; - is stdout, and the summary then goes to stderr.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write a line for each iteration to this file, as JMeter's CSV result files have it.
    #[arg(long, value_name = "FILE")]
    pub(crate) jtl: Option<PathBuf>,

    /// Write the response times to this file, as an HdrHistogram log of microseconds.
    #[arg(long, value_name = "FILE")]
    pub(crate) hdr: Option<PathBuf>,

    /// Write a page with plots to this file; it needs no network.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Joins a Locust master as a worker: load from many machines, with Locust's page, charts and CSV files.
    ///
    /// The users' classes are Script, Published and FirstScreen, by the workloads' names; they do it with genesys-scripts,
    /// or the naive way with --mode naive. The locustfile for the master is examples/load/locust/locustfile.py.
    ///
    /// Exits with 0 when the master said to quit, 1 when it was gone or had no rows for this worker, 2 on bad usage, 130 or
    /// 143 when it was told to end (Ctrl-C, SIGTERM).
    Worker(crate::worker::Options),
}

const SHAPES: &str = "\
Shapes of load:
  burst        --agents 150                        all at once, the default
  linear ramp  --agents 150 --ramp-up 30s          or, by rate: --stage 1m:0..200/s
  steps        --stage 1m:50/s --stage 1m:100/s --stage 1m:150/s
  spike        --stage 30s:20/s --stage 5s:400/s --stage 30s:20/s
  soak         --agents 150 --duration 8h --think-time 20s   or: --rate 50/s --duration 8h";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// A script by its id.
    Script,
    /// The published version of a script.
    Published,
    /// All that an agent's first screen takes: the script, then its pages.
    FirstScreen,
}

impl Workload {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Script => "get script",
            Self::Published => "get published script",
            Self::FirstScreen => "first screen",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// First naive, then resilient; a login limit that the one has spent is spent for the other too.
    Both,
    /// Plain HTTP: no retry, no bound, any refusal is a failure.
    Naive,
    /// With the crate, nothing configured.
    Resilient,
}

impl Mode {
    /// The modes to run, in order.
    pub(crate) fn each(self) -> &'static [Mode] {
        match self {
            Self::Both => &[Self::Naive, Self::Resilient],
            Self::Naive => &[Self::Naive],
            Self::Resilient => &[Self::Resilient],
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Naive => "naive",
            Self::Resilient => "resilient",
        }
    }
}

impl Args {
    /// Why some of so many agents would never begin, or nothing would.
    pub(crate) fn idle(&self, agents: u32) -> Option<String> {
        if !self.stages.is_empty() && self.stages.iter().all(Stage::is_silent) {
            return Some(
                "all stages are at rate 0, so that nothing is ever sent; say one like --stage 30s:200/s".to_owned(),
            );
        }
        let last = self.ramp_up * agents.saturating_sub(1) / agents.max(1);
        let duration = self.duration.filter(|duration| !self.is_open() && last >= *duration)?;
        Some(format!(
            "--ramp-up {} is longer than --duration {}, so that the last agents would never begin",
            humantime::format_duration(self.ramp_up),
            humantime::format_duration(duration)
        ))
    }

    /// When the iterations of so many agents start.
    pub(crate) fn plan(&self, agents: u32) -> Plan {
        let (poisson, seed) = (self.poisson, self.seed);
        if !self.stages.is_empty() {
            return Plan::Open(Open { stages: self.stages.clone(), poisson, seed });
        }
        if let (Some(rate), Some(duration)) = (self.rate, self.duration) {
            let grows = Stage { lasts: self.ramp_up, from: 0.0, to: rate };
            let holds = Stage { lasts: duration, from: rate, to: rate };
            let stages = if self.ramp_up.is_zero() { vec![holds] } else { vec![grows, holds] };
            return Plan::Open(Open { stages, poisson, seed });
        }
        Plan::Closed(Closed {
            agents,
            ramp_up: self.ramp_up,
            iterations: self.iterations,
            duration: self.duration,
            think_time: self.think_time,
        })
    }

    /// Whether iterations come by the clock.
    pub(crate) fn is_open(&self) -> bool {
        self.rate.is_some() || !self.stages.is_empty()
    }
}
