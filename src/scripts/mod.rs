//! The operations of the Scripts API, as an agent calls them.

mod model;

pub use model::{Division, Json, Page, Script};

use crate::agent::Agent;
use crate::call::Answer;
use crate::error::Error;
use crate::id::ScriptId;
use crate::request;

impl Agent {
    /// A script, as it is being edited (for the one agents see, the published one is another operation).
    ///
    /// `GET /api/v2/scripts/{scriptId}`; permission `scripter:script:view`.
    ///
    /// # Errors
    ///
    /// [`Error`] tells what was tried, what came back and what it means; its kind is one of [`ErrorKind`](crate::ErrorKind).
    ///
    /// ```no_run
    /// # async fn example(agent: genesys_scripts::Agent) -> Result<(), Box<dyn std::error::Error>> {
    /// let id: genesys_scripts::ScriptId = "476c2b71-7429-11e4-9a5b-3f91746bffa3".parse()?;
    /// let script = agent.script(&id).await?;
    /// println!("{} has {} pages", script.name.unwrap_or_default(), script.pages.len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn script(&self, id: &ScriptId) -> Result<Script, Error> {
        let build = || Ok(request::script(&self.shared.client.api.site, id));
        let answer = self.run(&request::GET_SCRIPT, Some(id.as_str()), &build).await?;
        decode("a script", &request::GET_SCRIPT, Some(id.as_str()), &answer)
    }
}

/// The answer's body as the model it should be.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(
    what: &str,
    operation: &'static request::Operation,
    subject: Option<&str>,
    answer: &Answer,
) -> Result<T, Error> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| Error::undecodable(what, operation.name, subject, answer, error))
}
