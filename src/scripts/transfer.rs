//! Scripts in and out of an organisation: upload and import, export and download.

use std::time::Duration;

use futures_util::TryStreamExt;
use http::header::LOCATION;
use reqwest::Url;
use serde::Deserialize;
use serde::de::Error as _;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::file::ScriptFile;
use super::model::{ExportResponse, ImportStatus, lenient};
use super::query::{ExportScript, ImportScript, ListPublishedScripts, ListScripts, ReadUploadStatus};
use super::signed_url::SignedUrl;
use super::upload_form;
use crate::agent::Agent;
use crate::call::{self, Authority, Call};
use crate::error::{Error, ErrorBody, ErrorKind};
use crate::id::{ScriptId, UploadId};
use crate::json::{decode, undecodable};
use crate::region::{is_loopback, is_private};
use crate::request::{self, PATIENCE, Spec};
use crate::retry::after;
use crate::tls;

/// How many redirects of a download are followed.
const MOST_REDIRECTS: u32 = 5;
/// The pause between two questions for an upload's status; CX as Code's.
const POLL_PAUSE: Duration = Duration::from_secs(2);
/// How long an upload may be unknown to the service that is asked for its status.
const UNKNOWN_AT_FIRST: Duration = Duration::from_secs(15);
/// How often in a row the service must say "not succeeded" to mean "failed"; CX as Code asks that often.
const SAID_FAILED: u32 = 3;
/// How long a script that was imported may be missing from the lists.
const UNLISTED_AT_FIRST: Duration = Duration::from_secs(10);

/// A script that was imported.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
#[non_exhaustive]
pub struct Imported {
    /// The upload's id.
    pub upload_id: UploadId,
    /// What the service said of it at the end.
    pub status: ImportStatus,
    /// The scripts it may be: the service does not tell the new script's id, so it is looked for by its name, which
    /// others can have too. Empty where none is listed yet. Of an import that replaced a script, that one.
    pub candidates: Vec<ScriptId>,
}

impl Imported {
    /// The script's id, where only one script can be it.
    #[must_use]
    pub fn script_id(&self) -> Option<&ScriptId> {
        match self.candidates.as_slice() {
            [id] => Some(id),
            _ => None,
        }
    }
}

/// Scripts in.
impl Agent {
    /// Imports a `.script` file: uploads it, waits until the service has imported it, and finds the new script's id.
    /// Agents see it once it is [published](Self::publish).
    ///
    /// Each step is there on its own: [`upload`](Self::upload), [`wait_for_import`](Self::wait_for_import),
    /// [`scripts_named`](Self::scripts_named). Take them where this future may be dropped half-way: the upload goes on.
    ///
    /// `POST /uploads/v2/scripter` on the upload host, then the requests of the other two. Not in Genesys' public SDKs,
    /// but what CX as Code imports with; which permission the upload needs is not documented. The upload is not sent
    /// again where it may have been received.
    ///
    /// # Errors
    ///
    /// As of [`script`](Self::script). [`ErrorKind::ImportFailed`] when the service says so, [`ErrorKind::Timeout`] when it
    /// is not done in time. Once the upload was received, [`Error::upload_id`] names it, to go on with.
    ///
    /// ```no_run
    /// use genesys_scripts::{Agent, ImportScript, PublishScript, ScriptFile};
    ///
    /// # async fn example(agent: Agent) -> Result<(), Box<dyn std::error::Error>> {
    /// let file = ScriptFile::from_slice(&std::fs::read("inbound.script")?)?;
    /// let imported = agent.import(&file, &ImportScript::default()).await?;
    /// match imported.script_id() {
    ///     Some(id) => drop(agent.publish(id, &PublishScript::default()).await?),
    ///     None => println!("one of {:?}", imported.candidates),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn import(&self, file: &ScriptFile, options: &ImportScript) -> Result<Imported, Error> {
        let name = options.name.as_deref().or_else(|| file.name()).unwrap_or_default();
        let deadline = after(Instant::now(), options.timeout);
        let upload_id = self.until(deadline).upload(file, name, options.replace.as_ref()).await?;
        let status = self.imported_by(deadline, &upload_id).await?;
        let candidates = match &options.replace {
            Some(id) => vec![id.clone()],
            None => self.listed_by(deadline, name).await.map_err(|error| error.of_upload(&upload_id))?,
        };
        Ok(Imported { upload_id, status, candidates })
    }

    /// Uploads a `.script` file under a name, as a new script or in place of another. The service then imports it:
    /// [`wait_for_import`](Self::wait_for_import).
    ///
    /// `POST /uploads/v2/scripter` on the upload host; which permission it needs is not documented. Not sent again where
    /// it may have been received. An attempt may take 60 s, or the client's attempt timeout where that is longer.
    ///
    /// # Errors
    ///
    /// As of [`script`](Self::script); [`ErrorKind::InvalidInput`] for a blank name.
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, ScriptFile};
    /// # async fn example(agent: Agent, file: ScriptFile) -> Result<(), genesys_scripts::Error> {
    /// let upload = agent.upload(&file, "Inbound", None).await?;
    /// println!("received as {upload}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn upload(&self, file: &ScriptFile, name: &str, replace: Option<&ScriptId>) -> Result<UploadId, Error> {
        if name.trim().is_empty() {
            return Err(Error::invalid_input("a script cannot be uploaded without a name"));
        }
        let form = upload_form::encode(file.bytes(), name, replace)?;
        let spec = Spec::of(&request::UPLOAD_SCRIPT, &[]).about(name).body(form);
        let answer = self.run(&spec).await?;
        let receipt: Receipt = decode("an upload's receipt", &spec, &answer)?;
        receipt.correlation_id.or(receipt.upload_id).or(receipt.id).ok_or_else(|| {
            let missing = serde_json::Error::missing_field("correlationId");
            undecodable("an upload's receipt", &spec, &answer, missing)
        })
    }

    /// How far an upload has come.
    ///
    /// `GET /api/v2/scripts/uploads/{uploadId}/status`; permission `scripter:script:view`.
    ///
    /// # Errors
    ///
    /// As of [`script`](Self::script). Just after the upload it may be [`ErrorKind::NotFound`].
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, ReadUploadStatus, UploadId};
    /// # async fn example(agent: Agent, upload: UploadId) -> Result<(), genesys_scripts::Error> {
    /// let status = agent.upload_status(&upload, &ReadUploadStatus { long_poll: true }).await?;
    /// println!("{:?} {}", status.succeeded, status.message.unwrap_or_default());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn upload_status(&self, id: &UploadId, query: &ReadUploadStatus) -> Result<ImportStatus, Error> {
        let ids = [id.as_str()];
        let spec = Spec::of(&request::GET_UPLOAD_STATUS, &ids).query(query.query());
        self.call("an upload's status", Spec { patient: query.long_poll, ..spec }).await
    }

    /// Waits until an upload has been imported.
    ///
    /// It asks for the status, by long polls where the service holds them and every 2 s. How the service says what is
    /// not documented, so it is heard tolerantly: the upload may be unknown for the first 15 s, no word of success means
    /// "not yet", and so does the word of no success until it was said three times in a row.
    ///
    /// # Errors
    ///
    /// As of [`script`](Self::script); [`ErrorKind::ImportFailed`] when the service says so, [`ErrorKind::Timeout`] when
    /// it says nothing in the time given. [`Error::upload_id`] names the upload, to ask again.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use genesys_scripts::{Agent, UploadId};
    /// # async fn example(agent: Agent, upload: UploadId) -> Result<(), genesys_scripts::Error> {
    /// agent.wait_for_import(&upload, Duration::from_secs(120)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_for_import(&self, id: &UploadId, timeout: Duration) -> Result<ImportStatus, Error> {
        self.imported_by(after(Instant::now(), timeout), id).await
    }

    async fn imported_by(&self, deadline: Instant, id: &UploadId) -> Result<ImportStatus, Error> {
        let started = Instant::now();
        let (mut asked, mut said_failed) = (0_u32, 0);
        loop {
            // A poll that is held longer than an attempt may take is no failure to be repeated at once.
            let agent = self.until(deadline.min(after(Instant::now(), PATIENCE)));
            let answer = agent.upload_status(id, &ReadUploadStatus { long_poll: true }).await;
            asked = asked.saturating_add(1);
            let ended = |error: Error| {
                let operation = request::GET_UPLOAD_STATUS.name;
                error.maybe_sent(true).ended(operation, Some(id.as_str()), asked, started.elapsed()).of_upload(id)
            };
            match answer {
                Ok(status) if status.succeeded == Some(true) => return Ok(status),
                Ok(status) if status.succeeded == Some(false) => {
                    said_failed += 1;
                    if said_failed >= SAID_FAILED {
                        return Err(ended(Error::import_failed(status.message.as_deref())));
                    }
                }
                Ok(_) => said_failed = 0,
                Err(error) if error.is_login() => return Err(error.of_upload(id)),
                Err(error) if error.is_timeout() => {}
                Err(error) if error.kind() == ErrorKind::NotFound && started.elapsed() < UNKNOWN_AT_FIRST => {}
                Err(error) => return Err(error.of_upload(id)),
            }
            let next = after(Instant::now(), POLL_PAUSE);
            if next >= deadline {
                return Err(ended(Error::new(ErrorKind::Timeout, "the script was not imported in the time given")));
            }
            sleep_until(next).await;
        }
    }

    /// The scripts of exactly this name, edited ones first, as ids: names are not unique.
    ///
    /// The requests of [`scripts`](Self::scripts) and [`published_scripts`](Self::published_scripts), filtered by the name,
    /// and the permissions of both.
    ///
    /// # Errors
    ///
    /// As of [`script`](Self::script).
    ///
    /// ```no_run
    /// # async fn example(agent: genesys_scripts::Agent) -> Result<(), genesys_scripts::Error> {
    /// match agent.scripts_named("Inbound").await?.as_slice() {
    ///     [id] => println!("it is {id}"),
    ///     ids => println!("{} scripts have this name", ids.len()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn scripts_named(&self, name: &str) -> Result<Vec<ScriptId>, Error> {
        let name_filter = Some(name.to_owned());
        let edited = self.scripts(ListScripts { name: name_filter.clone(), ..ListScripts::default() });
        let published = ListPublishedScripts { name: name_filter, ..ListPublishedScripts::default() };
        let mut ids = Vec::new();
        for mut listing in [edited, self.published_scripts(published)] {
            while let Some(script) = listing.try_next().await? {
                if script.name.as_deref() == Some(name) && !ids.contains(&script.id) {
                    ids.push(script.id);
                }
            }
        }
        Ok(ids)
    }

    /// The scripts of this name, once there are any, or none after a while.
    async fn listed_by(&self, deadline: Instant, name: &str) -> Result<Vec<ScriptId>, Error> {
        let give_up = deadline.min(after(Instant::now(), UNLISTED_AT_FIRST));
        loop {
            let ids = timeout_at(deadline, self.scripts_named(name)).await.map_err(|_| {
                Error::new(ErrorKind::Timeout, "the script was imported, but its id was not found in the time given")
                    .maybe_sent(true)
            })??;
            let next = after(Instant::now(), POLL_PAUSE);
            if !ids.is_empty() || next >= give_up {
                return Ok(ids);
            }
            sleep_until(next).await;
        }
    }
}

/// Scripts out.
impl Agent {
    /// Exports a script: makes a URL where it can be downloaded as a `.script` file.
    /// [`export_file`](Self::export_file) does both.
    ///
    /// `POST /api/v2/scripts/{scriptId}/export`; permission `scripter:script:view`. It makes nothing but that URL, so it is
    /// sent again after failures, like a `GET`.
    ///
    /// # Errors
    ///
    /// As of [`script`](Self::script).
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, ExportScript, ScriptId};
    /// # async fn example(agent: Agent, id: ScriptId) -> Result<(), genesys_scripts::Error> {
    /// let export = agent.export(&id, &ExportScript::default()).await?;
    /// if let Some(url) = export.url {
    ///     println!("{} bytes", agent.download_export(&url).await?.as_str().len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn export(&self, id: &ScriptId, options: &ExportScript) -> Result<ExportResponse, Error> {
        self.call("an export", Spec::of(&request::EXPORT_SCRIPT, &[id.as_str()]).body(options.body())).await
    }

    /// Exports a script and downloads it.
    ///
    /// The requests of [`export`](Self::export) and [`download_export`](Self::download_export).
    ///
    /// # Errors
    ///
    /// As of [`script`](Self::script); [`ErrorKind::UnexpectedAnswer`] when the service gives no URL.
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, ExportScript, ReadScript, ScriptId};
    /// # async fn example(agent: Agent, id: ScriptId) -> Result<(), Box<dyn std::error::Error>> {
    /// // What agents see, not what is being edited.
    /// let version_id = agent.published_script(&id, &ReadScript::default()).await?.version_id;
    /// let file = agent.export_file(&id, &ExportScript { version_id, ..ExportScript::default() }).await?;
    /// std::fs::write("inbound.script", &file)?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn export_file(&self, id: &ScriptId, options: &ExportScript) -> Result<ScriptFile, Error> {
        match self.export(id, options).await?.url {
            Some(url) => self.download_export(&url).await,
            None => Err(Error::new(ErrorKind::UnexpectedAnswer, "the service exported the script but gave no URL")
                .maybe_sent(true)
                .ended(request::EXPORT_SCRIPT.name, Some(id.as_str()), 1, Duration::ZERO)),
        }
    }

    /// Downloads an export from the URL that [`export`](Self::export) gave.
    ///
    /// `GET` of that URL, wherever it leads, without the agent's token: the URL is its own permission. It must be `https`,
    /// or `http` on loopback where the region's api host is on loopback too. Up to 5 redirects are followed, under the
    /// same rule. An attempt may take 60 s, or the client's attempt timeout where that is longer. A proxy is used where
    /// it is for the api host.
    ///
    /// # Errors
    ///
    /// As of [`script`](Self::script), never with the URL in it; [`ErrorKind::InvalidInput`] for a URL that no request
    /// is sent to, and [`ErrorKind::Forbidden`] where it is refused, as when it has expired.
    ///
    /// ```no_run
    /// # use genesys_scripts::{Agent, SignedUrl};
    /// # async fn example(agent: Agent, url: SignedUrl) -> Result<(), genesys_scripts::Error> {
    /// let file = agent.download_export(&url).await?;
    /// println!("{:?} has {} bytes", file.name(), file.as_str().len());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn download_export(&self, url: &SignedUrl) -> Result<ScriptFile, Error> {
        let client = self.client();
        let deadline = after(Instant::now(), self.timeout());
        let mut url = Url::parse(url.expose()).map_err(|_| refused_url(ErrorKind::InvalidInput, "does not parse"))?;
        for redirects in 0..=MOST_REDIRECTS {
            let kind = if redirects == 0 { ErrorKind::InvalidInput } else { ErrorKind::UnexpectedAnswer };
            check_download(&url, is_loopback(client.api.site.base())).map_err(|why| refused_url(kind, why))?;
            let spec = Spec { address: Some(&url), ..Spec::of(&request::DOWNLOAD_EXPORT, &[]) };
            let secrets = signature(&url);
            let authority = Authority::Own { secrets: secrets.iter().map(String::as_str).collect() };
            let call = Call { spec: &spec, authority, timeout: self.until(deadline).timeout() };
            let answer = call::run(client, &call).await?;
            if answer.status.is_success() {
                let undecodable = |error| undecodable("a script file", &spec, &answer, error);
                let text =
                    std::str::from_utf8(&answer.body).map_err(|error| undecodable(serde_json::Error::custom(error)))?;
                if ErrorBody::parse(text).is_error_envelope() {
                    return Err(undecodable(serde_json::Error::custom("it is an error's envelope")));
                }
                return ScriptFile::parse(text).map_err(undecodable);
            }
            url = answer
                .headers
                .get(LOCATION)
                .and_then(|location| url.join(location.to_str().ok()?).ok())
                .ok_or_else(|| refused_url(ErrorKind::UnexpectedAnswer, "leads to a redirect that says nowhere"))?;
        }
        Err(refused_url(ErrorKind::UnexpectedAnswer, "leads from redirect to redirect"))
    }
}

/// Without the URL: it is a secret.
fn refused_url(kind: ErrorKind, why: &str) -> Error {
    Error::new(kind, format!("the export's URL {why}"))
}

/// Whether a request may be sent there.
fn check_download(url: &Url, loopback_allowed: bool) -> Result<(), &'static str> {
    // reqwest would make an `Authorization` of it.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("carries a user name or password; nothing was sent there");
    }
    match url.scheme() {
        "https" if !tls::AVAILABLE => {
            Err("is https, and the crate was built without a TLS feature; nothing was sent there")
        }
        "https" if loopback_allowed || !is_private(url) => Ok(()),
        "https" => Err("leads to an address of this machine or of a private network; nothing was sent there"),
        "http" if loopback_allowed && is_loopback(url) => Ok(()),
        _ => Err("leads to a place that is not https; nothing was sent there"),
    }
}

/// What of the URL must not be shown, should an answer echo it: its query, whole and value by value.
fn signature(url: &Url) -> Vec<String> {
    let values = url.query_pairs().map(|(_, value)| value.into_owned()).filter(|value| value.len() >= 16);
    url.query().map(str::to_owned).into_iter().chain(values).collect()
}

/// What the upload host answers. The id is named as CX as Code reads it, or as others report it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    #[serde(default, deserialize_with = "lenient")]
    correlation_id: Option<UploadId>,
    #[serde(default, deserialize_with = "lenient")]
    upload_id: Option<UploadId>,
    #[serde(default, deserialize_with = "lenient")]
    id: Option<UploadId>,
}
