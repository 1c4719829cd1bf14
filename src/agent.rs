//! An agent: one identity with its own credentials, token and quota.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::Credentials;
use crate::auth::token::{TokenSlot, initial_slot};
use crate::call::{self, Authority, Call};
use crate::client::ClientShared;
use crate::error::Error;
use crate::request::Operation;

/// One identity at Genesys Cloud. Every call starts on one.
///
/// Made by [`Client::agent`](crate::Client::agent). A cheap handle: clones share the token, its quota and
/// the login under way. Two agents made from the same credentials share nothing, so keep the agent as long
/// as its session lasts; dropping the last clone forgets the token.
#[derive(Clone)]
pub struct Agent {
    pub(crate) shared: Arc<AgentShared>,
    timeout: Duration,
}

pub(crate) struct AgentShared {
    pub(crate) client: Arc<ClientShared>,
    pub(crate) credentials: Credentials,
    pub(crate) slot: TokenSlot,
}

impl Agent {
    pub(crate) fn new(client: Arc<ClientShared>, credentials: Credentials) -> Self {
        let slot = initial_slot(&credentials, client.now(), &client.random);
        let timeout = client.settings.call_timeout;
        Self { shared: Arc::new(AgentShared { client, credentials, slot }), timeout }
    }

    /// The same agent with another time limit for each call, login wait included.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), timeout }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The same agent, with no call taking longer than until then.
    pub(crate) fn until(&self, deadline: Instant) -> Self {
        self.with_timeout(self.timeout.min(deadline.saturating_duration_since(Instant::now())))
    }

    /// A call to the api host as this agent.
    pub(crate) fn prepare<'a>(
        &'a self,
        operation: &'static Operation,
        subject: Option<&'a str>,
        request: &'a (dyn Fn() -> Result<reqwest::Request, Error> + Send + Sync),
    ) -> Call<'a> {
        Call {
            operation,
            subject,
            host: &self.shared.client.api,
            authority: Authority::Agent(&self.shared),
            timeout: self.timeout,
            attempt_timeout: None,
            request,
        }
    }

    /// Runs a call to the api host as this agent.
    pub(crate) async fn run(
        &self,
        operation: &'static Operation,
        subject: Option<&str>,
        request: &(dyn Fn() -> Result<reqwest::Request, Error> + Send + Sync),
    ) -> Result<call::Answer, Error> {
        call::run(&self.shared.client, &self.prepare(operation, subject, request)).await
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("credentials", &self.shared.credentials)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
