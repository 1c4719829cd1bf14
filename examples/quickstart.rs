//! One agent fetches one script.
//!
//!     cargo run --example quickstart                      from a simulator
//!     GENESYSCLOUD_REGION=us-east-1 GENESYSCLOUD_OAUTHCLIENT_ID=… GENESYSCLOUD_OAUTHCLIENT_SECRET=… \
//!         cargo run --example quickstart -- SCRIPT_ID     from Genesys Cloud

use std::env;

use anyhow::Context as _;
use genesys_scripts::simulator::Simulator;
use genesys_scripts::{Client, Credentials, Region, ScriptId};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Ok(region) = env::var("GENESYSCLOUD_REGION") else {
        let simulator = Simulator::builder().client_secret("simulator").start().await?;
        let here = simulator.url();
        let id = simulator.script_ids().first().context("the simulator has no script")?.parse()?;
        return show(Region::custom(here, here, here)?, Credentials::client("quickstart", "simulator"), &id).await;
    };
    let variable = |name: &str| env::var(name).with_context(|| format!("{name} is not set"));
    let credentials =
        Credentials::client(variable("GENESYSCLOUD_OAUTHCLIENT_ID")?, variable("GENESYSCLOUD_OAUTHCLIENT_SECRET")?);
    let id: ScriptId = env::args().nth(1).context("which script? say its id")?.parse()?;
    show(region.parse()?, credentials, &id).await
}

async fn show(region: Region, credentials: Credentials, id: &ScriptId) -> anyhow::Result<()> {
    // One client for each process and region, one agent for each identity, kept as long as its session.
    let client = Client::builder(region).build()?;
    let agent = client.agent(credentials);
    let script = agent.script(id).await?;
    println!("{}: {:?}, pages: {}", script.id, script.name.unwrap_or_default(), script.pages.len());
    Ok(())
}
