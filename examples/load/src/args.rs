//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use genesys_scripts::{Region, ScriptId};

/// Logs agents in at once and lets each fetch the same script: first the naive way, then with genesys-scripts.
///
/// Without --api-url or --region it starts a simulator of its own, which begins to refuse scripts when more than 80
/// are asked for at once.
///
/// Against a URL or a region the credentials come from GENESYSCLOUD_OAUTHCLIENT_ID and
/// GENESYSCLOUD_OAUTHCLIENT_SECRET.
///
/// Exits with 0 when every agent of the last mode got its script, 1 when not, 2 on bad usage.
#[derive(Debug, Parser)]
#[command(name = "genesys-load", version, max_term_width = 120)]
pub(crate) struct Args {
    /// How many agents there are.
    #[arg(long, default_value_t = 150, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) agents: u32,

    /// Spread the agents' starts evenly over this time: 30s, 1500ms, 5m. With 0s all start at once.
    #[arg(long, default_value = "0s", value_parser = ramp_up)]
    pub(crate) ramp_up: Duration,

    /// The script to fetch [default: the first one of the simulator].
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub(crate) script_id: Option<ScriptId>,

    /// One login and one token for all, instead of one for each agent.
    #[arg(long)]
    pub(crate) shared_token: bool,

    /// The time an agent may take from its start to its script, login and waits included.
    #[arg(long, default_value = "100s", value_parser = call_timeout)]
    pub(crate) call_timeout: Duration,

    /// Which way to fetch.
    #[arg(long, value_enum, default_value_t = Mode::Both)]
    pub(crate) mode: Mode,

    /// A simulator started elsewhere, or a gateway: https, or http on loopback.
    #[arg(long, value_name = "URL", conflicts_with = "region")]
    pub(crate) api_url: Option<String>,

    /// Where to log in [default: the --api-url].
    #[arg(long, value_name = "URL", requires = "api_url", conflicts_with = "region")]
    pub(crate) login_url: Option<String>,

    /// The real thing: a region like us-east-1, or its domain like mypurecloud.com.
    #[arg(long)]
    pub(crate) region: Option<Region>,

    /// Write the numbers to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
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

/// Longer is a typing error, and shorter than what a clock can be asked to add.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

fn ramp_up(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; say 30s, 1500ms or 5m"))?;
    if duration > LONGEST {
        return Err("more than a day".to_owned());
    }
    Ok(duration)
}

fn call_timeout(text: &str) -> Result<Duration, String> {
    match ramp_up(text)? {
        Duration::ZERO => Err("no call can end in no time".to_owned()),
        duration => Ok(duration),
    }
}
