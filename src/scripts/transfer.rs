//! Scripts in and out of an organisation: upload and import, export and download.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use http::header::{DATE, LOCATION};
use reqwest::Url;
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::Value;
use tokio::time::Instant;

use super::file::ScriptFile;
use super::listing::Listing;
use super::model::{ExportResponse, ImportStatus, Script, lenient};
use super::query::{ExportScript, ListScripts, ReadUploadStatus};
use super::signed_url::SignedUrl;
use super::upload_form;
use crate::agent::Agent;
use crate::answer::Answer;
use crate::call::{self, Authority, Call};
use crate::error::{Error, ErrorBody, ErrorKind};
use crate::exact::Address;
use crate::id::{ScriptId, UploadId};
use crate::json::{decode, decode_unless_error, has_code, is_error_without, misshapen};
use crate::limits::quota::QuotaGate;
use crate::region::{is_loopback, is_private};
use crate::request::{self, Spec};
use crate::retry::after;
use crate::text::{quoted, redact};
use crate::tls;

/// How many redirects of a download are followed.
const MOST_REDIRECTS: u32 = 5;

/// Scripts in.
impl Agent {
    /// Uploads a `.script` file under a name, as a new script or in place of another. The service then imports it:
    /// [`wait_for_import`](Self::wait_for_import).
    ///
    /// `POST /uploads/v2/scripter` on the upload host; which permission it needs is not documented. Not sent again where
    /// it may have been received, nor after a 409. An attempt may take 60 s, or the client's attempt timeout where that is longer.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script); [`ErrorKind::InvalidInput`] for a blank name.
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
        Ok(self.receive(file, name, replace).await?.id)
    }

    pub(super) async fn receive(
        &self,
        file: &ScriptFile,
        name: &str,
        replace: Option<&ScriptId>,
    ) -> Result<Received, Error> {
        check_name(name)?;
        let form = upload_form::encode(file.bytes(), name, replace)?;
        let spec = Spec::of(&request::UPLOAD_SCRIPT, &[]).about(name).body(form);
        let answer = self.run(&spec).await?;
        let receipt: Receipt = decode("an upload's receipt", &spec, &answer)?;
        let id = receipt.correlation_id.or(receipt.upload_id).or(receipt.id).ok_or_else(|| {
            let missing = serde_json::Error::missing_field("correlationId");
            let error = misshapen("an upload's receipt", &spec, &answer, Some(&missing));
            // Under another name it may have the id: the upload cannot be had twice.
            let receipt =
                serde_json::from_slice::<Value>(&answer.body).map_or_else(|_| String::new(), |it| it.to_string());
            let receipt = redact(&receipt, answer.token().as_slice());
            // A URL in it may be signed.
            let is_shown = error.body().is_none() && !receipt.contains("://");
            if is_shown { error.noted(&format!("it is {}", quoted(&receipt))) } else { error }
        })?;
        let date = answer.headers.get(DATE).and_then(|date| DateTime::parse_from_rfc2822(date.to_str().ok()?).ok());
        let elapsed = TimeDelta::from_std(answer.elapsed).unwrap_or_default();
        Ok(Received { id, began: date.and_then(|date| date.to_utc().checked_sub_signed(elapsed)) })
    }

    /// How far an upload has come.
    ///
    /// `GET /api/v2/scripts/uploads/{uploadId}/status`; permission `scripter:script:view`.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script). Just after the upload it may be [`ErrorKind::NotFound`].
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
        self.status_of(id, query).await.map(|(status, _)| status)
    }

    pub(super) async fn status_of(
        &self,
        id: &UploadId,
        query: &ReadUploadStatus,
    ) -> Result<(ImportStatus, Box<Answer>), Error> {
        let ids = [id.as_str()];
        let spec = Spec::of(&request::GET_UPLOAD_STATUS, &ids).query(query.query());
        let spec = Spec { patient: query.long_poll, ..spec };
        let mut answer = self.run(&spec).await?;
        // Its words become an error's, should it have failed.
        let secrets: Vec<&str> = answer.token().into_iter().collect();
        answer.body = redact(&String::from_utf8_lossy(&answer.body), &secrets).into();
        let is_blank = |status: &ImportStatus| status.succeeded.is_none() && has_code(&answer.body);
        let status = decode_unless_error(&[], is_blank, "an upload's status", &spec, &answer)?;
        Ok((status, answer))
    }

    /// The scripts of exactly this name, edited ones first, as ids: names are not unique.
    ///
    /// The requests of [`scripts`](Self::scripts) and [`published_scripts`](Self::published_scripts), filtered by the name,
    /// and the permissions of both.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script).
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
        let mut ids = Vec::new();
        for operation in [&request::LIST_SCRIPTS, &request::LIST_PUBLISHED_SCRIPTS] {
            for script in of_name(Listing::new(self.clone(), operation, ListScripts::named(name)), name).await? {
                if !ids.contains(&script.id) {
                    ids.push(script.id);
                }
            }
        }
        Ok(ids)
    }
}

/// Those of exactly this name.
pub(super) async fn of_name(mut listing: Listing, name: &str) -> Result<Vec<Script>, Error> {
    let mut named = Vec::new();
    while let Some(script) = listing.try_next().await? {
        if script.name.as_deref() == Some(name) {
            named.push(script);
        }
    }
    Ok(named)
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
    /// As for [`script`](Self::script).
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
        self.exported(&Spec::of(&request::EXPORT_SCRIPT, &[id.as_str()]).body(options.body()))
            .await
            .map(|(export, _)| export)
    }

    async fn exported(&self, spec: &Spec<'_>) -> Result<(ExportResponse, Box<Answer>), Error> {
        let answer = self.run(spec).await?;
        let is_blank = |export: &ExportResponse| export.url.is_none();
        let export = decode_unless_error(&["url"], is_blank, "an export", spec, &answer)?;
        Ok((export, answer))
    }

    /// Exports a script and downloads it.
    ///
    /// The requests of [`export`](Self::export) and [`download_export`](Self::download_export).
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script); [`ErrorKind::UnexpectedAnswer`] when the service gives no URL, or one that no request is
    /// sent to.
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
        let agent = self.at_work(request::EXPORT_SCRIPT.name, Some(id.as_str()))?;
        let ids = [id.as_str()];
        let spec = Spec::of(&request::EXPORT_SCRIPT, &ids).body(options.body());
        let (export, answer) = agent.exported(&spec).await?;
        match export.url {
            Some(url) => agent.download(&url, Some((id.as_str(), &*answer))).await,
            None => Err(misshapen("an export with its URL", &spec, &answer, None)),
        }
    }

    /// Downloads an export from the URL that [`export`](Self::export) gave.
    ///
    /// `GET` of that URL, wherever it leads, without the agent's token: the URL is its own permission. It must be `https`,
    /// or `http` on loopback where the region's api host is on loopback too. Up to 5 redirects are followed, under the
    /// same rule. An attempt may take 60 s, or the client's attempt timeout where that is longer. A proxy is used where
    /// it is for the api host.
    ///
    /// Path and query go out byte for byte as they were given, as some signatures are made over the very bytes. What no
    /// request can hold is encoded: blanks, what is not ASCII, and the like. Through a proxy, with a middleware, or over TLS of
    /// the feature `native-tls`, also `'` in a query is, and dot segments are resolved. A refusal of a URL that was changed
    /// says so.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script), telling of the URL its host alone; [`ErrorKind::InvalidInput`] for a URL that no request
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
        self.download(url, None).await
    }

    /// Of this script, where the service gave the URL just now, in this answer.
    async fn download(&self, url: &SignedUrl, export: Option<(&str, &Answer)>) -> Result<ScriptFile, Error> {
        let script = export.map(|(script, _)| script);
        let _under_way = self.counted(request::DOWNLOAD_EXPORT.name, script)?;
        let (client, started) = (self.client(), Instant::now());
        let deadline = after(started, self.timeout());
        let refused = |redirects, why| {
            let given = redirects == 0 && script.is_none();
            let kind = if given { ErrorKind::InvalidInput } else { ErrorKind::UnexpectedAnswer };
            // Without the URL: it is a secret.
            let error = Error::new(kind, format!("the export's URL {why}")).maybe_sent(redirects > 0);
            let error = match export.filter(|_| redirects == 0) {
                Some((_, answer)) => error.of_answer(answer),
                None => error,
            };
            error.ended(request::DOWNLOAD_EXPORT.name, script, redirects, started.elapsed())
        };
        let mut address = Address::new(url.expose()).ok_or_else(|| refused(0, "does not parse"))?;
        for redirects in 0..=MOST_REDIRECTS {
            let url = address.url();
            check_download(url, is_loopback(client.api.site.base())).map_err(|why| refused(redirects, why))?;
            let mut spec = Spec::of(&request::DOWNLOAD_EXPORT, &[]);
            (spec.address, spec.subject) = (Some(url), script);
            spec.exact = address.exact().filter(|_| client.host(&spec).transport.sends_exact(url));
            let is_altered = address.is_altered() && spec.exact.is_none();
            let secrets = spec.secrets();
            let quota = QuotaGate::new(Arc::clone(&client.random));
            let authority = Authority::Own { secrets: secrets.iter().map(String::as_str).collect(), quota };
            let call = Call { spec: &spec, authority, timeout: self.until(deadline).timeout() };
            let result = call::run(client, &call).await;
            self.note(&result);
            let answer = result.map_err(|error| match error.kind() {
                ErrorKind::Forbidden | ErrorKind::NotFound if is_altered => error.noted(ALTERED),
                _ => error.noted(&leads_to(url)),
            })?;
            if answer.status.is_success() {
                return script_file(&spec, &answer).map_err(|error| error.noted(&leads_to(url)));
            }
            let location = answer.headers.get(LOCATION).and_then(|location| location.to_str().ok());
            address = location
                .and_then(|location| address.redirected(location))
                .ok_or_else(|| refused(redirects + 1, "leads to a redirect that says nowhere"))?;
        }
        Err(refused(MOST_REDIRECTS + 1, "leads from redirect to redirect"))
    }
}

fn script_file(spec: &Spec<'_>, answer: &Answer) -> Result<ScriptFile, Error> {
    let file =
        ScriptFile::read(&answer.body).map_err(|error| misshapen("a script file", spec, answer, Some(&error)))?;
    // Ids and names errors have, too.
    let known = [
        "pages",
        "versionId",
        "startPageId",
        "variables",
        "customActions",
        "features",
        "organizationId",
        "dataVersion",
    ];
    let is_error = is_error_without(&known, file.as_str().as_bytes());
    match is_error || ErrorBody::parse(file.as_str()).is_error_envelope() {
        true => Err(misshapen("a script file", spec, answer, None)),
        false => Ok(file),
    }
}

/// Of a signed URL only the host may be told.
fn leads_to(url: &Url) -> String {
    format!("the URL leads to {}", url.host_str().unwrap_or_default())
}

pub(super) fn check_name(name: &str) -> Result<(), Error> {
    match name.trim() {
        "" => Err(Error::invalid_input("a script cannot be uploaded without a name")),
        _ => Ok(()),
    }
}

/// An upload that the service has.
pub(super) struct Received {
    pub(super) id: UploadId,
    /// When it began, by the service's clock.
    pub(super) began: Option<DateTime<Utc>>,
}

const ALTERED: &str = "it could not be sent byte for byte as it was given, as it has characters that must be encoded or dot segments, \
                       and a signature over its very bytes does not survive that";

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
