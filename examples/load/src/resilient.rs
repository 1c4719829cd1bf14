//! The agents as the crate serves them: nothing configured but the time a call may take, and room for all of them to
//! wait.

use std::time::Duration;

use genesys_scripts::{Client, Credentials, Error, OAuthClient, ReadScript, ScriptId};
use tokio::time::Instant;

use crate::args::{Args, Workload};
use crate::failure::Failure;
use crate::feeder::Login;
use crate::fleet::MOST_IN_FLIGHT;
use crate::run::{Outcome, Sent};
use crate::target::{Identity, Target};

/// What a client lets wait by default.
const WAITING: usize = 20_000;

pub(crate) fn client(args: &Args, target: &Target) -> anyhow::Result<Client> {
    // All the agents there are may have to wait at once, and that is not to be an error of the client's.
    let waiting = if args.is_open() { MOST_IN_FLIGHT as usize } else { target.agents.len() };
    let mut client =
        Client::builder(target.region.clone()).call_timeout(args.call_timeout).max_waiting(waiting.max(WAITING));
    if let Some(pem) = &target.ca {
        client = client.root_certificate_pem(pem.clone());
    }
    Ok(client.build()?)
}

pub(crate) struct Agent {
    agent: genesys_scripts::Agent,
    script: ScriptId,
    workload: Workload,
    timeout: Duration,
}

/// All of them: each its own identity, or one that is shared, since to share a token is to share the agent.
pub(crate) fn agents(args: &Args, target: &Target, client: &Client) -> anyhow::Result<Vec<Agent>> {
    let shared = args.shared_token.then(|| target.agents.first()).flatten();
    let shared =
        shared.map(|identity| Ok::<_, anyhow::Error>(client.agent(credentials(target, identity)?))).transpose()?;
    let agent = |identity: &Identity| {
        let agent = match &shared {
            Some(shared) => shared.clone(),
            None => client.agent(credentials(target, identity)?),
        };
        Ok(Agent::new(agent, identity, args.workload, args.call_timeout))
    };
    target.agents.iter().map(agent).collect()
}

pub(crate) fn credentials(target: &Target, identity: &Identity) -> anyhow::Result<Credentials> {
    let client = || target.client.clone().ok_or_else(|| anyhow::anyhow!("no client credentials"));
    Ok(match &identity.login {
        Login::AccessToken(token) => Credentials::access_token(token.clone()),
        Login::RefreshToken(token) => {
            let (id, secret) = client()?;
            Credentials::refresh_token(OAuthClient::new(id, secret), token.clone())
        }
        Login::Client => {
            let (id, secret) = client()?;
            Credentials::client(id, secret)
        }
    })
}

pub(crate) fn sent(client: &Client) -> Sent {
    let stats = client.stats();
    Sent {
        attempts: stats.attempts,
        retries: stats.retries,
        throttled: stats.throttled,
        login_attempts: stats.login_attempts,
        login_throttled: stats.login_throttled,
    }
}

impl Agent {
    pub(crate) fn new(
        agent: genesys_scripts::Agent,
        identity: &Identity,
        workload: Workload,
        timeout: Duration,
    ) -> Self {
        Self { agent, script: identity.script.clone(), workload, timeout }
    }

    pub(crate) async fn iterate(&self) -> Outcome {
        Outcome::of(self.fetch().await.map_err(|error| failure(&error)))
    }

    async fn fetch(&self) -> Result<(), Error> {
        match self.workload {
            Workload::Script => self.agent.script(&self.script).await.map(drop),
            Workload::Published => self.agent.published_script(&self.script, &ReadScript::default()).await.map(drop),
            Workload::FirstScreen => {
                let started = Instant::now();
                self.agent.script(&self.script).await?;
                let left = self.timeout.saturating_sub(started.elapsed());
                self.agent.with_timeout(left).script_pages(&self.script, &ReadScript::default()).await.map(drop)
            }
        }
    }
}

fn failure(error: &Error) -> Failure {
    let bad_request = error.bad_request().map(|bad_request| bad_request.cause.name().to_owned());
    let kind =
        format!("{:?} {} {:?} {:?} {:?}", error.kind(), error.is_login(), error.status(), error.code(), bad_request);
    let cause = error.bad_request().cloned().map(Box::new);
    let (status, machine) = (error.status(), Failure::of_machine(error));
    Failure { kind, text: error.to_string(), bad_request, cause, status, machine, timed_out: error.is_timeout() }
}
