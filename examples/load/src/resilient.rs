//! The agents as the crate serves them: nothing configured but the time a call may take.

use genesys_scripts::{Client, Error};
use tokio::time::Instant;

use crate::args::{Args, Mode};
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::run::{Run, Sent};
use crate::target::Target;

pub(crate) async fn run(args: &Args, fleet: &Fleet, target: &Target) -> anyhow::Result<Run> {
    let client = Client::builder(target.region.clone()).call_timeout(args.call_timeout).build()?;
    let shared = args.shared_token.then(|| client.agent(target.credentials()));
    let fetch = || {
        // An agent is one identity with one token: to share the token is to share the agent.
        let agent = shared.clone().unwrap_or_else(|| client.agent(target.credentials()));
        let script = target.script.clone();
        async move {
            let started = Instant::now();
            agent.script(&script).await.map(|_script| started.elapsed()).map_err(|error| failure(&error))
        }
    };
    let mut run = fleet.send(Mode::Resilient.name(), fetch).await?;
    let stats = client.stats();
    run.sent = Sent {
        attempts: stats.attempts,
        retries: stats.retries,
        throttled: stats.throttled,
        login_attempts: stats.login_attempts,
        login_throttled: stats.login_throttled,
    };
    Ok(run)
}

fn failure(error: &Error) -> Failure {
    let bad_request = error.bad_request().map(|bad_request| bad_request.cause.name().to_owned());
    let kind =
        format!("{:?} {} {:?} {:?} {:?}", error.kind(), error.is_login(), error.status(), error.code(), bad_request);
    Failure { kind, text: error.to_string(), bad_request, cause: error.bad_request().cloned().map(Box::new) }
}
