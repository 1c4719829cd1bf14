//! Where the load goes, and which script it asks for.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap::error::ErrorKind;
use genesys_scripts::simulator::Simulator;
use genesys_scripts::{Region, ScriptId};
use hyper::StatusCode;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use crate::args::{Args, Mode, Workload};
use crate::failure::Failure;
use crate::feeder::{self, Login, Row};
use crate::numbers;
use crate::sender::{Answer, Means, get};

/// The names the official Terraform provider reads.
const CLIENT_ID: &str = "GENESYSCLOUD_OAUTHCLIENT_ID";
const CLIENT_SECRET: &str = "GENESYSCLOUD_OAUTHCLIENT_SECRET";

/// The secret of the simulator of our own.
const SIMULATOR_SECRET: &str = "simulator";

/// The simulator answers at once; what hangs for longer is none.
const LOOKUP: Duration = Duration::from_secs(15);

/// In flight at once, the load that the simulator of our own bears; and the part that it refuses of what is above.
pub(crate) const KNEE: (usize, f64) = (80, 0.4);

/// Agents where no number is said.
const AGENTS: u32 = 150;

pub(crate) struct Target {
    pub(crate) region: Region,
    /// What the agents log in with, where they do; each gets a token of its own, unless one is shared.
    pub(crate) client: Option<(String, SecretString)>,
    pub(crate) agents: Vec<Identity>,
    /// PEM.
    pub(crate) ca: Option<Vec<u8>>,
    /// Ours, which runs as long as it is held.
    simulator: Option<Simulator>,
}

/// An agent to be.
pub(crate) struct Identity {
    /// As the feeder has it.
    pub(crate) name: Option<String>,
    pub(crate) script: ScriptId,
    pub(crate) login: Login,
}

/// Why there is none.
pub(crate) enum NoTarget {
    Usage(clap::Error),
    /// It was named well, but does not answer.
    Unreachable(Failure),
}

impl Target {
    pub(crate) async fn find(args: &Args) -> Result<Self, NoTarget> {
        // All that can be wrong without a request is told before one.
        let rows = feeder_rows(args)?;
        let agents = rows.as_ref().map_or_else(|| Self::agents_asked(args), |rows| numbers::count(rows.len()));
        if let Some(why) = args.idle(agents) {
            return Err(usage(ErrorKind::ValueValidation, why));
        }
        let ca = args.ca.as_deref().map(certificates).transpose()?;
        let region = region(args)?;
        let (region, client, simulator) = match region {
            Some(region) => {
                let ready = rows.iter().flatten().any(|row| matches!(row.login, Login::AccessToken(_)));
                (region, if ready { None } else { Some(credentials()?) }, None)
            }
            None => {
                let simulator = start_simulator().await.map_err(unreachable)?;
                let here = simulator.url();
                let region = Region::custom(here, here, here).map_err(|error| unreachable(error.into()))?;
                (region, Some(("load-test".to_owned(), SIMULATOR_SECRET.into())), Some(simulator))
            }
        };
        let agents = match rows {
            Some(rows) => rows
                .into_iter()
                .map(|row| Identity { name: Some(row.agent), script: row.script, login: row.login })
                .collect(),
            None => {
                let script = match &args.script_id {
                    Some(script) => script.clone(),
                    // A region is no simulator; it is not asked for what only a simulator has.
                    None if args.region.is_some() => return Err(say_script_id("a region is no simulator")),
                    None => first_script(&region, ca.as_deref(), LOOKUP.min(args.call_timeout)).await?,
                };
                (0..agents).map(|_| Identity { name: None, script: script.clone(), login: Login::Client }).collect()
            }
        };
        Ok(Self { region, client, agents, ca, simulator })
    }

    /// How many agents there would be, were there a target.
    pub(crate) fn agents_asked(args: &Args) -> u32 {
        args.agents.unwrap_or(AGENTS)
    }

    pub(crate) fn agent_count(&self) -> u32 {
        numbers::count(self.agents.len())
    }

    /// Each agent's name, and the URL it asks for first.
    pub(crate) fn threads(&self, workload: Workload) -> Vec<(String, String)> {
        let published = if workload == Workload::Published { "published/" } else { "" };
        let api = self.region.api_url();
        let thread = |agent: &Identity| {
            let name = agent.name.clone().unwrap_or_else(|| "agent".to_owned());
            (name, format!("{api}/api/v2/scripts/{published}{}", agent.script.as_str()))
        };
        self.agents.iter().map(thread).collect()
    }

    /// Whether both ends of each connection are in this process.
    pub(crate) fn is_here(&self) -> bool {
        self.simulator.is_some()
    }

    pub(crate) fn is_loopback(url: &str) -> bool {
        let Ok(url) = Url::parse(url) else { return false };
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// Where it is said to go; none is to a simulator of our own. What is a region by any name needs a yes.
fn region(args: &Args) -> Result<Option<Region>, NoTarget> {
    let urls = [&args.api_url, &args.login_url].into_iter().flatten();
    let real = args.region.as_ref().map(Region::to_string).or_else(|| urls.into_iter().find_map(|url| region_of(url)));
    if let Some(real) = real.filter(|_| !args.yes_load_a_real_org) {
        return Err(usage(
            ErrorKind::MissingRequiredArgument,
            format!(
                "{real} is Genesys Cloud itself: a load test there spends the limits of an organisation, which others share. If that \
                 is what you want, and it was agreed with whom it concerns, say --yes-load-a-real-org; without --region and --api-url \
                 the load goes to a simulator"
            ),
        ));
    }
    match (&args.region, &args.api_url) {
        (Some(region), _) => Ok(Some(region.clone())),
        (None, Some(api)) => {
            let custom = Region::custom(api, args.login_url.as_deref().unwrap_or(api), api);
            custom.map(Some).map_err(|error| usage(ErrorKind::ValueValidation, error.to_string()))
        }
        (None, None) => Ok(None),
    }
}

/// The region a URL leads to by its host's name, if it is one.
fn region_of(url: &str) -> Option<String> {
    url.parse::<Region>().ok().map(|region| region.to_string())
}

/// Of the feeder, if there is one.
fn feeder_rows(args: &Args) -> Result<Option<Vec<Row>>, NoTarget> {
    let Some(path) = &args.feeder else { return Ok(None) };
    let rows = feeder::read(path).map_err(|error| usage(ErrorKind::ValueValidation, format!("{error:#}")))?;
    let rows =
        feeder::rows_for(rows, args.agents, args.recycle).map_err(|why| usage(ErrorKind::ValueValidation, why))?;
    let most = numbers::MOST as usize;
    // Of a worker's rows only a share is its own, and how many of them are used its master says.
    if args.command.is_none() && rows.len() > most {
        return Err(usage(
            ErrorKind::ValueValidation,
            format!("the feeder has {} rows; say --agents, {most} at most", rows.len()),
        ));
    }
    let any = |is: fn(&Login) -> bool| rows.iter().any(|row| is(&row.login));
    let with_tokens = any(|login| !matches!(login, Login::Client));
    if args.shared_token && with_tokens {
        return Err(usage(
            ErrorKind::ArgumentConflict,
            "--shared-token, and the feeder has a token for each agent".to_owned(),
        ));
    }
    if !args.diagnose && args.mode == Mode::Both && any(|login| matches!(login, Login::RefreshToken(_))) {
        return Err(usage(
            ErrorKind::ArgumentConflict,
            "a refresh token is good once, so one feeder of them serves one mode: say --mode naive or --mode resilient"
                .to_owned(),
        ));
    }
    Ok(Some(rows))
}

fn certificates(path: &Path) -> Result<Vec<u8>, NoTarget> {
    let refuse = |why: String| usage(ErrorKind::ValueValidation, format!("--ca {}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| refuse(error.to_string()))?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(pem),
        _ => Err(refuse("there is no certificate in PEM in it".to_owned())),
    }
}

/// The nine o'clock of the report: all is well below 50 at once, and 40 % of what comes while more than 80 are
/// in flight is refused at once.
async fn start_simulator() -> anyhow::Result<Simulator> {
    let simulator = Simulator::builder().knee(KNEE.0, KNEE.1).client_secret(SIMULATOR_SECRET).start().await;
    simulator.context("the simulator does not start")
}

fn unreachable(error: anyhow::Error) -> NoTarget {
    let machine = error.chain().find_map(Failure::of_machine);
    let mut text = format!("{error:#}");
    if text.contains("invalid peer certificate") {
        text.push_str("; to trust one that a simulator or a gateway made for itself, say --ca with its PEM file");
    }
    NoTarget::Unreachable(Failure { machine, ..Failure::other(text) })
}

/// From the environment: a command line is seen by everyone on the machine.
fn credentials() -> Result<(String, SecretString), NoTarget> {
    let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (read(CLIENT_ID), read(CLIENT_SECRET)) {
        (Some(id), Some(secret)) => Ok((id, secret.into())),
        _ => Err(usage(
            ErrorKind::MissingRequiredArgument,
            format!(
                "set {CLIENT_ID} and {CLIENT_SECRET} in the environment: the OAuth client that the agents log in with"
            ),
        )),
    }
}

/// The first script a simulator has.
async fn first_script(region: &Region, ca: Option<&[u8]>, timeout: Duration) -> Result<ScriptId, NoTarget> {
    #[derive(Deserialize)]
    struct Listed {
        id: ScriptId,
    }

    let url = format!("{}/_simulator/scripts", region.api_url());
    let ask = async { Means::new(region, ca)?.sender(None, usize::MAX).send(get(&url.parse()?, None), timeout).await };
    let Answer { status, body, .. } =
        ask.await.with_context(|| format!("cannot ask {url} for the scripts there are")).map_err(unreachable)?;
    if status != StatusCode::OK {
        return Err(say_script_id(&format!("{url} answered {}", status.as_u16())));
    }
    let listed: Vec<Listed> =
        serde_json::from_slice(&body).map_err(|_| say_script_id(&format!("{url} answered with no list of scripts")))?;
    let first = listed.into_iter().next().ok_or_else(|| say_script_id(&format!("{url} lists no script")))?;
    Ok(first.id)
}

fn say_script_id(why: &str) -> NoTarget {
    usage(ErrorKind::MissingRequiredArgument, format!("say --script-id: {why}"))
}

fn usage(kind: ErrorKind, why: String) -> NoTarget {
    NoTarget::Usage(Args::command().error(kind, why))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use clap::Parser as _;

    /// What the command line says, with so many agents in a feeder, each with a token.
    pub(crate) async fn found(name: &str, options: &[&str], agents: usize) -> (Args, Target) {
        let feeder = std::env::temp_dir().join(format!("target-{name}-{}.csv", std::process::id()));
        let id = "476c2b71-7429-11e4-9a5b-3f91746bffa3";
        let rows: String = (0..agents).map(|row| format!("agent{row},{id},a-token\n")).collect();
        std::fs::write(&feeder, format!("agent,script_id,access_token\n{rows}")).unwrap();
        let feeder = ["--feeder", feeder.to_str().unwrap()];
        let args = Args::try_parse_from([&["genesys-load"], options, &feeder].concat()).unwrap();
        let target = Target::find(&args).await;
        std::fs::remove_file(feeder[1]).unwrap();
        (args, target.unwrap_or_else(|_| panic!("no target")))
    }
}
