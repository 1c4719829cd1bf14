//! Where the load goes, and which script it asks for.

use std::time::Duration;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap::error::ErrorKind;
use genesys_scripts::simulator::Simulator;
use genesys_scripts::{Credentials, Region, ScriptId};
use secrecy::SecretString;
use serde::Deserialize;

use crate::args::Args;
use crate::failure::Failure;
use crate::naive;

/// The names the official Terraform provider reads.
const CLIENT_ID: &str = "GENESYSCLOUD_OAUTHCLIENT_ID";
const CLIENT_SECRET: &str = "GENESYSCLOUD_OAUTHCLIENT_SECRET";

/// The secret of the simulator of our own.
const SIMULATOR_SECRET: &str = "simulator";

/// The simulator answers at once; what hangs for longer is none.
const LOOKUP: Duration = Duration::from_secs(15);

/// In flight at once, the load that the simulator of our own bears; and the part that it refuses of what is above.
pub(crate) const KNEE: (usize, f64) = (80, 0.4);

pub(crate) struct Target {
    pub(crate) region: Region,
    /// What every agent logs in with; each gets a token of its own, unless one is shared.
    pub(crate) client_id: String,
    pub(crate) client_secret: SecretString,
    pub(crate) script: ScriptId,
    /// Ours, which runs as long as it is held.
    _simulator: Option<Simulator>,
}

/// Why there is none.
pub(crate) enum NoTarget {
    Usage(clap::Error),
    /// It was named well, but does not answer.
    Unreachable(Failure),
}

impl Target {
    pub(crate) async fn find(args: &Args) -> Result<Self, NoTarget> {
        match (&args.region, &args.api_url) {
            (Some(region), _) => {
                let (client_id, client_secret) = credentials()?;
                // A region is no simulator; it is not asked for what only a simulator has.
                let script = args.script_id.clone().ok_or_else(|| say_script_id("a region is no simulator"))?;
                Ok(Self { region: region.clone(), client_id, client_secret, script, _simulator: None })
            }
            (None, Some(api)) => {
                let login = args.login_url.as_deref().unwrap_or(api);
                let region = Region::custom(api, login, api)
                    .map_err(|error| usage(ErrorKind::ValueValidation, error.to_string()))?;
                let (client_id, client_secret) = credentials()?;
                let script = match &args.script_id {
                    Some(script) => script.clone(),
                    None => first_script(&region, LOOKUP.min(args.call_timeout)).await?,
                };
                Ok(Self { region, client_id, client_secret, script, _simulator: None })
            }
            (None, None) => Self::simulator(args).await,
        }
    }

    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::client(self.client_id.clone(), self.client_secret.clone())
    }

    /// The nine o'clock of the report: all is well below 50 at once, and 40 % of what comes while more than 80 are
    /// in flight is refused at once.
    async fn simulator(args: &Args) -> Result<Self, NoTarget> {
        let unreachable = |error: anyhow::Error| NoTarget::Unreachable(Failure::other(format!("{error:#}")));
        let simulator = Simulator::builder()
            .knee(KNEE.0, KNEE.1)
            .client_secret(SIMULATOR_SECRET)
            .start()
            .await
            .context("the simulator does not start")
            .map_err(unreachable)?;
        let here = simulator.url();
        let region = Region::custom(here, here, here).map_err(|error| unreachable(error.into()))?;
        let script = match &args.script_id {
            Some(script) => script.clone(),
            None => first_script(&region, LOOKUP).await?,
        };
        let (client_id, client_secret) = ("load-test".to_owned(), SIMULATOR_SECRET.into());
        Ok(Self { region, client_id, client_secret, script, _simulator: Some(simulator) })
    }
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
async fn first_script(region: &Region, timeout: Duration) -> Result<ScriptId, NoTarget> {
    #[derive(Deserialize)]
    struct Listed {
        id: ScriptId,
    }

    let url = format!("{}/_simulator/scripts", region.api_url());
    let unreachable = |error: anyhow::Error| NoTarget::Unreachable(Failure::other(format!("{error:#}")));
    let http = naive::http(region).map_err(unreachable)?;
    let ask = async {
        let response = http.get(&url).timeout(timeout).send().await?;
        Ok::<_, reqwest::Error>((response.status(), response.bytes().await?))
    };
    let (status, body) = ask.await.context("cannot ask for the scripts there are").map_err(unreachable)?;
    if status != reqwest::StatusCode::OK {
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
