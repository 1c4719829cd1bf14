//! The operations of the Scripts API, as an agent calls them.
//!
//! Each is the same line: what is asked (`request.rs`), the call (`call.rs`), the answer as a model.

#[cfg(feature = "cache")]
mod cached;
mod course;
mod default_script;
mod file;
mod import;
mod imports;
mod listing;
pub(crate) mod model;
mod progress;
mod query;
mod signed_url;
mod transfer;
pub(crate) mod upload_form;

pub use default_script::DefaultScript;
pub use file::{ScriptContent, ScriptFile};
pub use import::Imported;
pub(crate) use imports::Imports;
pub use listing::{Listing, ListingPages};
pub use model::{Division, ExportResponse, ImportStatus, Page, Script, ScriptListing};
pub use query::{
    ExportScript, ImportScript, ListPublishedScripts, ListScripts, PublishScript, ReadScript, ReadUploadStatus,
    ReadVariables, SortBy, SortOrder, VariableType,
};
pub use signed_url::SignedUrl;

use serde::de::DeserializeOwned;
use serde_json::json;

use crate::agent::Agent;
use crate::error::{Error, ErrorKind};
use crate::id::{DivisionId, PageId, ScriptId};
use crate::json::{Items, Json, decode_any_unless_error, decode_list, decode_unless_error, done};
use crate::request::{self, Body, Spec};
use crate::text::quoted;

/// The scripts as they are edited.
impl Agent {
    /// A script, as it is being edited. The one agents see is the [published one](Self::published_script).
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
        self.one(id, &Spec::of(&request::GET_SCRIPT, &[id.as_str()])).await
    }

    /// A script that is being edited, as the JSON that the service sent: with all that [`Script`] has no field for.
    ///
    /// `GET /api/v2/scripts/{scriptId}`; permission `scripter:script:view`.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script).
    ///
    /// ```no_run
    /// # async fn example(agent: genesys_scripts::Agent, id: genesys_scripts::ScriptId) -> Result<(), genesys_scripts::Error> {
    /// println!("{}", agent.script_json(&id).await?.as_str());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn script_json(&self, id: &ScriptId) -> Result<Json, Error> {
        self.json(&Spec::of(&request::GET_SCRIPT, &[id.as_str()])).await
    }

    /// A page of a script that is being edited.
    ///
    /// `GET /api/v2/scripts/{scriptId}/pages/{pageId}`; permission `scripter:script:view`.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script).
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, ReadScript, ScriptId};
    /// # async fn example(agent: Agent, id: ScriptId) -> Result<(), genesys_scripts::Error> {
    /// if let Some(start) = agent.script(&id).await?.start_page_id {
    ///     let page = agent.script_page(&id, &start, &ReadScript::default()).await?;
    ///     println!("{:?}", page.root_container);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn script_page(&self, id: &ScriptId, page: &PageId, query: &ReadScript) -> Result<Page, Error> {
        let ids = [id.as_str(), page.as_str()];
        self.page(&Spec::of(&request::GET_SCRIPT_PAGE, &ids).query(query.query())).await
    }

    /// All pages of a script that is being edited, as far as they can be read: [`Items::skipped`] counts the others.
    ///
    /// `GET /api/v2/scripts/{scriptId}/pages`; permission `scripter:script:view`.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script).
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, ReadScript, ScriptId};
    /// # async fn example(agent: Agent, id: ScriptId) -> Result<(), genesys_scripts::Error> {
    /// for page in agent.script_pages(&id, &ReadScript::default()).await? {
    ///     println!("{}", page.name.unwrap_or_default());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn script_pages(&self, id: &ScriptId, query: &ReadScript) -> Result<Items<Page>, Error> {
        let ids = [id.as_str()];
        self.list("a list of pages", &Spec::of(&request::GET_SCRIPT_PAGES, &ids).query(query.query())).await
    }

    /// The scripts that are being edited, as a stream.
    ///
    /// `GET /api/v2/scripts`; permission `scripter:script:view`.
    ///
    /// # Errors
    ///
    /// An item of the stream, and its last, is an error as of [`script`](Self::script). A page size or number that
    /// the service cannot understand is [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), and nothing is sent.
    ///
    /// ```no_run
    /// use futures_util::TryStreamExt;
    /// use genesys_scripts::{Agent, ListScripts, SortBy};
    ///
    /// # async fn example(agent: Agent) -> Result<(), genesys_scripts::Error> {
    /// let by_name = ListScripts { sort_by: Some(SortBy::Name), ..ListScripts::default() };
    /// let mut scripts = agent.scripts(by_name);
    /// while let Some(script) = scripts.try_next().await? {
    ///     println!("{} {}", script.id, script.name.unwrap_or_default());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn scripts(&self, query: ListScripts) -> Listing {
        Listing::new(self.clone(), &request::LIST_SCRIPTS, query)
    }

    /// The scripts that are being edited in the divisions the agent may search, as a stream; what of each comes
    /// is metadata.
    ///
    /// `GET /api/v2/scripts/divisionviews`; permission `scripter:script:search`.
    ///
    /// # Errors
    ///
    /// As for [`scripts`](Self::scripts).
    ///
    /// ```no_run
    /// use futures_util::TryStreamExt;
    /// use genesys_scripts::{Agent, DivisionId, ListScripts, Script};
    ///
    /// # async fn example(agent: Agent, sales: DivisionId) -> Result<(), genesys_scripts::Error> {
    /// let of_sales = ListScripts { division_ids: vec![sales], ..ListScripts::default() };
    /// let scripts: Vec<Script> = agent.scripts_in_divisions(of_sales).try_collect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn scripts_in_divisions(&self, query: ListScripts) -> Listing {
        Listing::new(self.clone(), &request::LIST_SCRIPTS_IN_DIVISIONS, query)
    }

    /// Deletes a script.
    ///
    /// `DELETE /api/v2/scripts/{scriptId}`; permission `scripter:script:delete`. Not in Genesys' public SDKs, but what
    /// CX as Code deletes with. After a 409 sent again as [`publish`](Self::publish) is.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script). A script that is not there is
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound); but where an attempt failed and its repetition finds no such
    /// script, the script is taken as deleted.
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, ErrorKind, ScriptId};
    /// # async fn example(agent: Agent, id: ScriptId) -> Result<(), genesys_scripts::Error> {
    /// match agent.delete(&id).await {
    ///     Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
    ///     _ => println!("{id} is gone"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete(&self, id: &ScriptId) -> Result<(), Error> {
        match self.done(&Spec::of(&request::DELETE_SCRIPT, &[id.as_str()])).await {
            Err(error) if error.kind() == ErrorKind::NotFound && error.an_answer_was_lost() => Ok(()),
            result => result,
        }
    }

    /// Moves a script to a division.
    ///
    /// `POST /api/v2/authorization/divisions/{divisionId}/objects/SCRIPT`; which permission it needs is not documented.
    /// Not sent again where it may have been acted on; after a 409 as [`publish`](Self::publish) is.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script).
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, DivisionId, ScriptId};
    /// # async fn example(agent: Agent, id: ScriptId, sales: DivisionId) -> Result<(), genesys_scripts::Error> {
    /// agent.move_to_division(&id, &sales).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn move_to_division(&self, id: &ScriptId, division: &DivisionId) -> Result<(), Error> {
        let body = Body::json(&json!([id]));
        let to = [division.as_str(), "SCRIPT"];
        let moved = self.done(&Spec::of(&request::MOVE_TO_DIVISION, &to).about(id.as_str()).body(body)).await;
        moved.map_err(|error| error.noted(&format!("to the division {}", quoted(division.as_str()))))
    }
}

/// The scripts as agents see them.
impl Agent {
    /// A script, as it was last published.
    ///
    /// `GET /api/v2/scripts/published/{scriptId}`; permission `scripter:publishedScript:view`.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script); a script that was never published is
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound).
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, DefaultScript, ReadScript};
    /// # async fn example(agent: Agent) -> Result<(), genesys_scripts::Error> {
    /// let script = agent.published_script(&DefaultScript::Inbound.id(), &ReadScript::default()).await?;
    /// println!("published {:?}", script.published_date);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn published_script(&self, id: &ScriptId, query: &ReadScript) -> Result<Script, Error> {
        self.one(id, &Spec::of(&request::GET_PUBLISHED_SCRIPT, &[id.as_str()]).query(query.query())).await
    }

    /// A page of a published script.
    ///
    /// `GET /api/v2/scripts/published/{scriptId}/pages/{pageId}`; permission `scripter:publishedScript:view`.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script).
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, PageId, ReadScript, ScriptId};
    /// # async fn example(agent: Agent, id: ScriptId, page: PageId) -> Result<(), genesys_scripts::Error> {
    /// let page = agent.published_script_page(&id, &page, &ReadScript::default()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn published_script_page(&self, id: &ScriptId, page: &PageId, query: &ReadScript) -> Result<Page, Error> {
        let ids = [id.as_str(), page.as_str()];
        self.page(&Spec::of(&request::GET_PUBLISHED_SCRIPT_PAGE, &ids).query(query.query())).await
    }

    /// All pages of a published script, as far as they can be read: [`Items::skipped`] counts the others.
    ///
    /// `GET /api/v2/scripts/published/{scriptId}/pages`; permission `scripter:publishedScript:view`.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script).
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, ReadScript, ScriptId};
    /// # async fn example(agent: Agent, id: ScriptId) -> Result<(), genesys_scripts::Error> {
    /// let pages = agent.published_script_pages(&id, &ReadScript::default()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn published_script_pages(&self, id: &ScriptId, query: &ReadScript) -> Result<Items<Page>, Error> {
        let ids = [id.as_str()];
        self.list("a list of pages", &Spec::of(&request::GET_PUBLISHED_SCRIPT_PAGES, &ids).query(query.query())).await
    }

    /// The published scripts, as a stream.
    ///
    /// `GET /api/v2/scripts/published`; permission `scripter:publishedScript:view`.
    ///
    /// # Errors
    ///
    /// As for [`scripts`](Self::scripts).
    ///
    /// ```no_run
    /// use futures_util::TryStreamExt;
    /// use genesys_scripts::{Agent, ListPublishedScripts};
    ///
    /// # async fn example(agent: Agent) -> Result<(), genesys_scripts::Error> {
    /// let mut scripts = agent.published_scripts(ListPublishedScripts::default());
    /// while let Some(script) = scripts.try_next().await? {
    ///     println!("{} {:?}", script.id, script.published_date);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn published_scripts(&self, query: ListPublishedScripts) -> Listing {
        Listing::new(self.clone(), &request::LIST_PUBLISHED_SCRIPTS, query.into())
    }

    /// The published scripts in the divisions the agent may search, as a stream; what of each comes is metadata.
    ///
    /// `GET /api/v2/scripts/published/divisionviews`; permission `scripter:publishedScript:search`.
    ///
    /// # Errors
    ///
    /// As for [`scripts`](Self::scripts).
    ///
    /// ```no_run
    /// # use futures_util::TryStreamExt;
    /// # use genesys_scripts::{Agent, ListPublishedScripts, Script};
    /// # async fn example(agent: Agent) -> Result<(), genesys_scripts::Error> {
    /// let query = ListPublishedScripts { name: Some("Inbound".into()), ..ListPublishedScripts::default() };
    /// let scripts: Vec<Script> = agent.published_scripts_in_divisions(query).try_collect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn published_scripts_in_divisions(&self, query: ListPublishedScripts) -> Listing {
        Listing::new(self.clone(), &request::LIST_PUBLISHED_SCRIPTS_IN_DIVISIONS, query.into())
    }

    /// The variables of a published script. The service documents no shape for them, so they are raw JSON.
    ///
    /// `GET /api/v2/scripts/published/{scriptId}/variables`; permission `scripter:publishedScript:view`.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script).
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, ReadVariables, ScriptId};
    /// # async fn example(agent: Agent, id: ScriptId) -> Result<(), genesys_scripts::Error> {
    /// let inputs = ReadVariables { input: Some(true), ..ReadVariables::default() };
    /// let variables = agent.published_variables(&id, &inputs).await?;
    /// println!("{}", variables.as_str());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn published_variables(&self, id: &ScriptId, query: &ReadVariables) -> Result<Json, Error> {
        let ids = [id.as_str()];
        self.json(&Spec::of(&request::GET_PUBLISHED_VARIABLES, &ids).query(query.query())).await
    }

    /// The variables of a published script in a division the agent may search. Raw JSON, as of
    /// [`published_variables`](Self::published_variables).
    ///
    /// `GET /api/v2/scripts/published/divisionviews/{scriptId}/variables`; permission `scripter:publishedScript:search`.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script).
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, ReadVariables, ScriptId};
    /// # async fn example(agent: Agent, id: ScriptId) -> Result<(), genesys_scripts::Error> {
    /// let variables = agent.published_variables_in_divisions(&id, &ReadVariables::default()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn published_variables_in_divisions(&self, id: &ScriptId, query: &ReadVariables) -> Result<Json, Error> {
        let ids = [id.as_str()];
        self.json(&Spec::of(&request::GET_PUBLISHED_VARIABLES_IN_DIVISIONS, &ids).query(query.query())).await
    }

    /// Publishes a script: from now on agents see it as it is being edited now, or the version named. It answers the
    /// script.
    ///
    /// `POST /api/v2/scripts/published`; permission `scripter:publishedScript:add`. Not sent again where it may have
    /// been acted on; after a 409, as while another change of the script is under way, up to three times: 2, 4 and 8 s later; after
    /// "Invalid script definition", which may be for load, like a `GET`.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script).
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, PublishScript, ScriptId};
    /// # async fn example(agent: Agent, id: ScriptId) -> Result<(), genesys_scripts::Error> {
    /// let script = agent.publish(&id, &PublishScript::default()).await?;
    /// println!("version {:?} is live", script.version_id);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn publish(&self, id: &ScriptId, options: &PublishScript) -> Result<Script, Error> {
        let spec = Spec::of(&request::PUBLISH_SCRIPT, &[]).about(id.as_str());
        self.one(id, &spec.query(options.query()).body(options.body(id))).await
    }
}

impl Agent {
    /// A call, and its answer as the script it should be.
    async fn one(&self, id: &ScriptId, spec: &Spec<'_>) -> Result<Script, Error> {
        // Errors have ids, too.
        let is_blank = |script: &Script| script.id != *id && script.name.is_none() && script.pages.is_empty();
        decode_unless_error(&[], is_blank, "a script", spec, &*self.run(spec).await?)
    }

    /// A call, and its answer as the page it should be.
    async fn page(&self, spec: &Spec<'_>) -> Result<Page, Error> {
        let is_blank = |page: &Page| {
            let Page { id, name, root_container, properties, .. } = page;
            id.is_none() && name.is_none() && root_container.is_none() && properties.is_none()
        };
        let known =
            ["id", "name", "rootContainer", "properties", "versionId", "createdDate", "modifiedDate", "selfUri"];
        decode_unless_error(&known, is_blank, "a page", spec, &*self.run(spec).await?)
    }

    /// A call of whose answer nothing is kept.
    async fn done(&self, spec: &Spec<'_>) -> Result<(), Error> {
        done(spec, &*self.run(spec).await?)
    }

    /// A call, and its answer as the list it should be.
    async fn list<T: DeserializeOwned>(&self, what: &str, spec: &Spec<'_>) -> Result<Items<T>, Error> {
        decode_list(what, spec, &*self.run(spec).await?)
    }

    /// A call, and its answer whatever JSON it is.
    async fn json(&self, spec: &Spec<'_>) -> Result<Json, Error> {
        decode_any_unless_error("JSON", spec, &*self.run(spec).await?)
    }
}
