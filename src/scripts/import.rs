//! An import from end to end: the upload, what became of it, and which script it is.
//!
//! The service does not tell the new script's id, names are not unique, and what is new is not listed at once. So what bears
//! the name is looked at before the upload, and a script is taken for the new one only where no other can be it.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::default_script::DefaultScript;
use super::file::ScriptFile;
use super::imports::{Claim, LISTED_WITHIN};
use super::listing::Listing;
use super::model::{ImportStatus, Script};
use super::progress::{self, Progress};
use super::query::{ImportScript, ListScripts, ReadUploadStatus};
use super::transfer::{check_name, of_name};
use crate::agent::Agent;
use crate::error::{Error, ErrorKind};
use crate::id::{ScriptId, UploadId, is_uuid};
use crate::request::{self, PATIENCE};
use crate::retry::after;
use crate::text::quoted;

/// The pause between two questions for an upload's status, as CX as Code has it, and the first between two looks at the
/// lists; these grow to the other.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A list that is odd is asked for no more often than this.
const MOST_ODD: u32 = 6;
/// The last question is asked so long before the time is over.
const LAST_LOOK: Duration = Duration::from_millis(500);
/// How long an upload may be unknown to the service that is asked for its status.
const UNKNOWN_AT_FIRST: Duration = Duration::from_secs(15);
/// The clocks of the service's hosts may differ by so much.
const SKEW: TimeDelta = TimeDelta::seconds(5);
/// Where the service does not tell its time: by so much this machine's may be wrong.
const OWN_SKEW: TimeDelta = TimeDelta::days(1);
/// A `Date` is in whole seconds, and of the moment the answer left.
const DATE_STEP: Duration = Duration::from_secs(2);

/// A script that was imported.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
#[non_exhaustive]
pub struct Imported {
    /// The upload's id.
    pub upload_id: UploadId,
    /// What the service said of it at the end.
    pub status: ImportStatus,
    /// The scripts it may be: those of its name that were not there before. Of an import that replaced a script, that one.
    pub candidates: Vec<ScriptId>,
    unknown: Option<Box<str>>,
}

impl Imported {
    /// The script's id, where no other script can be it: never that of a script that was there before. Otherwise `None`,
    /// and [`why_unknown`](Self::why_unknown) says why.
    #[must_use]
    pub fn script_id(&self) -> Option<&ScriptId> {
        match (self.candidates.as_slice(), &self.unknown) {
            ([id], None) => Some(id),
            _ => None,
        }
    }

    /// Why [`script_id`](Self::script_id) is `None`: a sentence for people. The script is imported all the same.
    #[must_use]
    pub fn why_unknown(&self) -> Option<&str> {
        self.unknown.as_deref()
    }
}

impl Agent {
    /// Imports a `.script` file: uploads it, waits until the service has imported it, and finds the new script's id.
    /// Agents see it once it is [published](Self::publish).
    ///
    /// The service does not tell the id. So the scripts of this name are listed before the upload, and afterwards again and
    /// again, every 2 to 10 s, until exactly one is there that was not and that was not made earlier, or the time is over. Where
    /// this client imports another script under the same name meanwhile, one alone is believed only 40 s after the import.
    /// Where it cannot be known, [`Imported::script_id`] is `None`, with the reason; it is no error, as the script is there.
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
    /// As for [`script`](Self::script). [`ErrorKind::InvalidInput`] where neither options nor file have a name, or the file's
    /// is a template that was never filled in. [`ErrorKind::ImportFailed`] when the service says so,
    /// [`ErrorKind::Timeout`] when it is not done in time. Once the upload was received, [`Error::upload_id`] names it: go on
    /// with that one, as importing again could make a second script.
    ///
    /// ```no_run
    /// use genesys_scripts::{Agent, ImportScript, PublishScript, ScriptFile};
    ///
    /// # async fn example(agent: Agent) -> Result<(), Box<dyn std::error::Error>> {
    /// let file = ScriptFile::from_slice(&std::fs::read("inbound.script")?)?;
    /// let imported = agent.import(&file, &ImportScript::default()).await?;
    /// match imported.script_id() {
    ///     Some(id) => drop(agent.publish(id, &PublishScript::default()).await?),
    ///     None => println!("imported, but {}", imported.why_unknown().unwrap_or_default()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn import(&self, file: &ScriptFile, options: &ImportScript) -> Result<Imported, Error> {
        self.at_work(request::UPLOAD_SCRIPT.name, options.name.as_deref())?.import_to_the_end(file, options).await
    }

    async fn import_to_the_end(&self, file: &ScriptFile, options: &ImportScript) -> Result<Imported, Error> {
        let name = options.name.as_deref().map_or_else(|| file.name_to_import(), Ok)?;
        let deadline = after(Instant::now(), options.timeout);
        check_name(name)?;
        let claim = self.client().imports.begin(name);
        if let Some(id) = &options.replace {
            // It may come to bear the name, and is not new for that.
            claim.take(id);
            let upload = self.until(deadline).receive(file, name, Some(id)).await?;
            let status = self.imported_by(deadline, &upload.id).await?;
            return Ok(Imported { upload_id: upload.id, status, candidates: vec![id.clone()], unknown: None });
        }
        // A list that does not come must not cost the upload its time.
        let by = deadline.min(after(Instant::now(), options.timeout / 4));
        let before = self.known_by(by, name).await;
        let (sent, sent_at) = (Instant::now(), DateTime::<Utc>::from(self.client().now()));
        let upload = self.until(deadline).receive(file, name, None).await.inspect_err(|error| {
            // With an answer that cannot be read, or a conflict, it may have been taken.
            let unknown = matches!(error.kind(), ErrorKind::UnexpectedAnswer | ErrorKind::Conflict);
            if !unknown && !error.an_answer_was_lost() {
                claim.forget();
            }
        })?;
        let status = self.imported_by(deadline, &upload.id).await?;
        let search = Search {
            name,
            claim: &claim,
            before,
            began: upload.began,
            earliest: upload.began.map_or(sent_at - OWN_SKEW, |began| began - SKEW),
            sent,
            file,
            named: named(&status),
            succeeded: Instant::now(),
        };
        let (candidates, unknown) = self.find(deadline, &search).await;
        Ok(Imported { upload_id: upload.id, status, candidates, unknown: unknown.map(Into::into) })
    }

    /// Waits until an upload has been imported.
    ///
    /// It asks for the status, by long polls where the service holds them and every 2 s. How the service says what is
    /// not documented, so it is heard tolerantly: the upload may be unknown for the first 15 s; no word of success means
    /// "not yet", and so does `succeeded: false` alone, or with a message that tells of work under way or is one word that tells of
    /// no failure (`VALIDATED`), for as long as the time given. With errors, or any other message, it has failed. A question that
    /// fails in a way that may pass, or is answered without a word of the import, is asked again.
    ///
    /// # Errors
    ///
    /// As for [`script`](Self::script); [`ErrorKind::ImportFailed`] when the service says so, with its message and errors in
    /// the text, [`ErrorKind::Timeout`] when it says nothing in the time given. [`Error::upload_id`] names the upload, to ask
    /// again: it may still succeed.
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
        let agent = self.at_work(request::GET_UPLOAD_STATUS.name, Some(id.as_str()))?;
        agent.imported_by(after(Instant::now(), timeout), id).await
    }

    async fn imported_by(&self, deadline: Instant, id: &UploadId) -> Result<ImportStatus, Error> {
        let started = Instant::now();
        let (mut asked, mut said, mut last) = (0_u32, None, None);
        loop {
            // A poll that is held longer than an attempt may take is no failure to be repeated at once.
            let agent = self.until(deadline.min(after(Instant::now(), PATIENCE)));
            let answer = agent.status_of(id, &ReadUploadStatus { long_poll: true }).await;
            asked = asked.saturating_add(1);
            let ended = |error: Error| {
                let operation = request::GET_UPLOAD_STATUS.name;
                error.maybe_sent(true).ended(operation, Some(id.as_str()), asked, started.elapsed()).of_upload(id)
            };
            let mut pause = PAUSE;
            (said, last) = match answer {
                Ok((status, answer)) => match progress::of(&status) {
                    Progress::Imported => return Ok(status),
                    Progress::Failed => return Err(ended(progress::failed(&status).of_answer(&answer))),
                    Progress::UnderWay => (Some(progress::words(&status)).filter(|words| !words.is_empty()), None),
                },
                // A poll that is held to its end says nothing.
                Err(error) if error.is_timeout() && error.status() != Some(408) => (said, last),
                Err(error) if error.kind() == ErrorKind::NotFound && started.elapsed() < UNKNOWN_AT_FIRST => {
                    (None, Some(error))
                }
                Err(error) if error.is_retryable() => {
                    pause = pause.max(error.retry_after().unwrap_or_default());
                    (None, Some(error))
                }
                // A success without a word of the import is no word against it.
                Err(error) if is_wordless(&error) => (Some(error.what().to_owned()), Some(error)),
                Err(error) => return Err(error.of_upload(id)),
            };
            match next_look(pause, deadline) {
                Some(next) => sleep_until(next).await,
                None => return Err(ended(not_in_time(deadline.saturating_duration_since(started), said, last))),
            }
        }
    }

    /// What is there by now, or why that is not known. What is published tells of some that the other list does not; an agent
    /// who may not see it does without.
    async fn known_by(&self, deadline: Instant, name: &str) -> Result<Known, String> {
        let mut trouble = "the list did not come in time".to_owned();
        let (mut pause, mut odd) = (PAUSE, 0);
        let mut known = loop {
            match timeout_at(deadline, all(self.scripts(ListScripts::named(name)))).await {
                Ok(Ok(known)) => break known,
                Ok(Err(error)) if may_pass(&error, &mut odd) => trouble = error.to_string(),
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err(trouble),
            }
            let next = after(Instant::now(), pause);
            if next >= deadline {
                return Err(trouble);
            }
            sleep_until(next).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        let published = Listing::new(self.clone(), &request::LIST_PUBLISHED_SCRIPTS, ListScripts::named(name));
        if let Ok(Ok(published)) = timeout_at(deadline, all(published)).await {
            known.ids.extend(published.ids);
            known.is_whole &= published.is_whole;
        }
        Ok(known)
    }

    /// The new script, or those it may be and why it cannot be told.
    async fn find(&self, deadline: Instant, search: &Search<'_>) -> (Vec<ScriptId>, Option<String>) {
        let name = quoted(search.name);
        let before = match &search.before {
            Ok(before) => before,
            Err(why) => {
                let why = format!(
                    "which scripts were named {name} before is not known, so none can be told to be new: {why}"
                );
                return (Vec::new(), Some(why));
            }
        };
        let (mut pause, mut odd, mut found, mut trouble) = (PAUSE, 0, Vec::new(), None);
        loop {
            let now = Instant::now();
            let mut next = after(now, pause);
            // Only what is edited: a new script is not published.
            let edited = self.scripts(ListScripts::named(search.name));
            match timeout_at(deadline, of_name(edited, search.name)).await {
                Err(_) => {}
                Ok(Ok(scripts)) => {
                    trouble = None;
                    let new: Vec<&Script> = scripts.iter().filter(|script| search.may_be(script, before)).collect();
                    found = new.iter().map(|script| script.id.clone()).collect();
                    match new.as_slice() {
                        [] => {}
                        [one] => match search.certain_at(one, before) {
                            Some(at) if at > now => next = next.min(at),
                            Some(_) if search.claim.take(&one.id) => return (found, None),
                            _ => {}
                        },
                        _ => {
                            let why = format!("{} new scripts are named {name}: others were made meanwhile", new.len());
                            return (found, Some(why));
                        }
                    }
                }
                Ok(Err(error)) if may_pass(&error, &mut odd) => trouble = Some(error.to_string()),
                Ok(Err(error)) => return (found, Some(format!("the scripts could not be listed: {error}"))),
            }
            match next_look(next.saturating_duration_since(Instant::now()), deadline) {
                Some(next) => sleep_until(next).await,
                None => return (found, Some(search.out_of_time(trouble))),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Whether a list that failed may come whole when it is asked for again, as one does that was counted before all of it is listed.
/// One that was odd so often stays so, as where what the token may not see is counted too.
fn may_pass(error: &Error, odd: &mut u32) -> bool {
    *odd += u32::from(error.kind() == ErrorKind::UnexpectedAnswer);
    error.is_retryable() || (error.kind() == ErrorKind::UnexpectedAnswer && *odd < MOST_ODD)
}

/// Of whatever name: a filter may be looser than equality, and names change.
async fn all(mut listing: Listing) -> Result<Known, Error> {
    let mut ids = HashSet::new();
    while let Some(script) = listing.try_next().await? {
        ids.insert(script.id);
    }
    Ok(Known { ids, is_whole: listing.skipped() == 0 })
}

/// The scripts that are not new.
struct Known {
    ids: HashSet<ScriptId>,
    /// Whether all could be read.
    is_whole: bool,
}

/// With what the service said of the upload last, or the error that the last question met.
fn not_in_time(time: Duration, said: Option<String>, last: Option<Error>) -> Error {
    const WAIT: &str = "wait for this upload again, as importing the file again could make a second script";
    let time = time.as_secs_f64();
    let what = match &last {
        Some(unknown) if unknown.kind() == ErrorKind::NotFound => {
            format!("the service does not know this upload, after {time:.0} s of asking; where the id is right, {WAIT}")
        }
        _ => {
            let said = said.map_or_else(String::new, |said| format!(" (last, {said})"));
            format!("the script was not imported within {time:.0} s{said}; it may still be: {WAIT}")
        }
    };
    Error::instead_of(last, ErrorKind::Timeout, what)
}

/// Whether it is an answer to the question for a status that has none in it.
fn is_wordless(error: &Error) -> bool {
    error.kind() == ErrorKind::UnexpectedAnswer && error.status().is_some_and(|status| (200..300).contains(&status))
}

/// The id that the status answer's URL ends in, if it is a script's. What the URL is is not documented, so it is believed only
/// of a script that is new.
fn named(status: &ImportStatus) -> Option<ScriptId> {
    let url = status.url.as_ref()?.expose();
    let path = url.split(['?', '#']).next()?;
    let id = path.trim_end_matches('/').rsplit_once("/scripts/").map(|(_, id)| id)?;
    if is_uuid(id) { id.parse().ok() } else { None }
}

/// What is known of the script that is looked for.
struct Search<'a> {
    name: &'a str,
    claim: &'a Claim<'a>,
    /// What was there before the upload, under the name or one like it.
    before: Result<Known, String>,
    /// When the upload began by the service's clock, where it told that, and by ours.
    began: Option<DateTime<Utc>>,
    /// What was made before was there before the upload.
    earliest: DateTime<Utc>,
    sent: Instant,
    file: &'a ScriptFile,
    /// What the status answer names.
    named: Option<ScriptId>,
    succeeded: Instant,
}

impl Search<'_> {
    fn may_be(&self, script: &Script, Known { ids: before, .. }: &Known) -> bool {
        let id = &script.id;
        let named = self.named.as_ref().filter(|named| !before.contains(named));
        !before.contains(id)
            && DefaultScript::of(id).is_none()
            && self.file.id() != Some(id)
            && !self.is_older(script)
            && !self.claim.is_taken(id)
            && named.is_none_or(|named| named == id)
    }

    /// It was made, or published, before the upload began.
    fn is_older(&self, script: &Script) -> bool {
        let dates = [self.made(script), script.published_date];
        dates.into_iter().flatten().any(|date| date < self.earliest)
    }

    /// When it was made, unless that may be what stands in the file.
    fn made(&self, script: &Script) -> Option<DateTime<Utc>> {
        script.created_date.filter(|date| Some(*date) != self.file.created_date())
    }

    /// From when on it can be no other, if it is the only new one: then what was made before it is listed, too. Never where it may
    /// be one that could not be read before, and no dates tell.
    fn certain_at(&self, script: &Script, before: &Known) -> Option<Instant> {
        if self.named.as_ref() == Some(&script.id) {
            return Some(self.succeeded);
        }
        if !before.is_whole && self.began.zip(self.made(script)).is_none() {
            return None;
        }
        let listed_within = if self.claim.has_rivals() { LISTED_WITHIN } else { self.lag(script).min(LISTED_WITHIN) };
        Some(after(self.succeeded, listed_within))
    }

    /// How long after it was made it was listed, as far as the service's dates tell.
    fn lag(&self, script: &Script) -> Duration {
        let made = self.began.zip(self.made(script)).map(|(began, made)| (made - began).to_std().unwrap_or_default());
        made.map_or(Duration::ZERO, |made| (self.sent.elapsed() + DATE_STEP).saturating_sub(made))
    }

    fn out_of_time(&self, trouble: Option<String>) -> String {
        let name = quoted(self.name);
        match trouble {
            Some(trouble) => format!("no new script named {name} was found in the time given; last, {trouble}"),
            None => {
                format!("none that is surely the new script named {name} was listed in the time given; it may be later")
            }
        }
    }
}

/// When the service is asked again: after the pause, or shortly before the time is over.
fn next_look(pause: Duration, deadline: Instant) -> Option<Instant> {
    let now = Instant::now();
    let next = after(now, pause);
    if next < deadline {
        return Some(next);
    }
    // Where it asked for a longer pause itself, it is not asked any more.
    deadline.checked_sub(LAST_LOOK).filter(|last| *last > now && pause <= LONGEST_PAUSE)
}
