//! What went wrong, for the person who reads it at 9:03: what was tried, what came back, what it means.

pub(crate) mod body;
pub(crate) mod cause;
#[cfg(test)]
mod judged;
mod page;
mod rules;
mod words;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::{Serialize, Serializer};

use crate::answer::Answer;
use crate::id::{InvalidId, UploadId};
use crate::text::{quoted, redact, shown};
pub use body::{Envelope, ErrorBody, ErrorDetail, ErrorLimit};
use cause::Found;
pub use cause::{BadRequest, Cause, Certainty};

/// Why a call failed. Cheap to clone: a login's failure is handed to every call that waited for it.
///
/// `Display` is the whole story on one line, without secrets and without raw text from the wire; the
/// accessors give its parts.
///
/// ```no_run
/// # async fn example(agent: genesys_scripts::Agent, id: genesys_scripts::ScriptId) {
/// match agent.script(&id).await {
///     Ok(script) => println!("{:?}", script.name),
///     Err(error) if error.is_throttled() => println!("busy; again in {:?}", error.retry_after()),
///     Err(error) => println!("{error} (correlation id {:?})", error.correlation_id()),
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    what: Cow<'static, str>,
    operation: Option<&'static str>,
    subject: Option<Box<str>>,
    during_login: bool,
    status: Option<StatusCode>,
    body: Option<ErrorBody>,
    correlation_id: Option<Box<str>>,
    retry_after: Option<Duration>,
    attempts: u32,
    elapsed: Duration,
    may_have_been_sent: bool,
    lost_answers: u32,
    lasting: bool,
    gave_up: Option<GaveUp>,
    bad_request: Option<BadRequest>,
    upload_id: Option<UploadId>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The nature of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A parameter or setting was refused by the crate; nothing was sent.
    InvalidInput,
    /// The credentials were refused, or are spent: the agent must log in again.
    LoginRefused,
    /// HTTP 400; [`Error::bad_request`] says why.
    BadRequest,
    /// HTTP 401, and the token could not be replaced or its replacement was refused too.
    Unauthorized,
    /// HTTP 403: a permission is missing.
    Forbidden,
    /// HTTP 404.
    NotFound,
    /// HTTP 409: another change is under way or has not settled yet, and this one was not made; the same call may succeed
    /// later. Or HTTP 423: it is locked. Or HTTP 412: the resource was changed.
    Conflict,
    /// HTTP 413: the request's body is over the service's limit.
    TooLarge,
    /// A quota is spent (HTTP 429), or the login is throttled, for longer than this call may wait; or as many calls as may
    /// ([`max_waiting`](crate::ClientBuilder::max_waiting)) wait for that quota already. [`Error::retry_after`] says when it
    /// ends, as far as is known.
    Throttled,
    /// The operation is down, and is asked again after [`Error::retry_after`]; what the call met last is kept
    /// ([`Error::status`]). Or as many calls as may ([`max_waiting`](crate::ClientBuilder::max_waiting)) wait for a place in
    /// flight to the host, or for the end of the outage, already; or the store of shared sessions does not answer.
    Unavailable,
    /// HTTP 5xx.
    Server,
    /// The attempt's or the call's time ran out.
    Timeout,
    /// The connection was never made, or broke.
    Connection,
    /// An answer that is none of the API's: not JSON, another shape, another status, too large.
    UnexpectedAnswer,
    /// A middleware of the user's failed. What it gave is the error's [`source`](std::error::Error::source) and not in its text,
    /// as it may hold a secret.
    Middleware,
    /// The user's own token source failed. What it gave is the error's [`source`](std::error::Error::source) and not in its text,
    /// as it may hold a secret.
    TokenSource,
    /// The service received a script but could not import it; [`Error::message`] has what it says.
    ImportFailed,
    /// The client was told to [`shut_down`](crate::Client::shut_down); nothing was sent.
    ShutDown,
}

/// Why no further attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GaveUp {
    AttemptsSpent,
    DeadlineWouldPass,
    NoEndSaid,
    WaitBeyondCap,
    NotIdempotent,
    Broken,
    NotWaited,
    QueueFull,
}

impl GaveUp {
    fn explanation(self) -> &'static str {
        match self {
            Self::AttemptsSpent => "no attempts left",
            Self::DeadlineWouldPass => "the next attempt would have come after the call's deadline",
            Self::NoEndSaid => "not waited for longer: the service does not say when it will allow more",
            Self::WaitBeyondCap => "the wait the service asks for is beyond the cap",
            Self::NotIdempotent => "not tried again: it may have been acted on, so look before you repeat it",
            Self::Broken => "not tried again: this alone fails, while others are served",
            Self::NotWaited => {
                "not waited for: this alone failed before, while others were served, and is likely broken"
            }
            Self::QueueFull => "not waited for: `max_waiting` others wait already",
        }
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, what: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            what: what.into(),
            operation: None,
            subject: None,
            during_login: false,
            status: None,
            body: None,
            correlation_id: None,
            retry_after: None,
            attempts: 0,
            elapsed: Duration::ZERO,
            may_have_been_sent: false,
            lost_answers: 0,
            lasting: false,
            gave_up: None,
            bad_request: None,
            upload_id: None,
            source: None,
        }))
    }

    pub(crate) fn invalid_input(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidInput, what)
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source: Box<dyn std::error::Error + Send + Sync> = source.into();
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn with_answer(mut self, status: StatusCode, correlation_id: Option<Box<str>>) -> Self {
        self.0.status = Some(status);
        self.0.correlation_id = correlation_id;
        self
    }

    /// With what identifies the answer that it is about, which is no refusal in itself.
    pub(crate) fn of_answer(self, answer: &Answer) -> Self {
        let correlation_id = answer.correlation_id().map(|id| redact(id, answer.token().as_slice()).into());
        self.with_answer(answer.status, correlation_id)
    }

    pub(crate) fn with_body(mut self, body: ErrorBody) -> Self {
        self.0.body = Some(body);
        self
    }

    pub(crate) fn with_bad_request(mut self, bad_request: BadRequest) -> Self {
        self.0.bad_request = Some(bad_request);
        self
    }

    /// With what the outcomes around it found its undecided 400 to be.
    pub(crate) fn found(mut self, found: Found) -> Self {
        self.0.bad_request = self.0.bad_request.map(|bad_request| match bad_request.cause {
            Cause::Undecided => bad_request.found(found),
            _ => bad_request,
        });
        self
    }

    /// A login that was not sent, as its OAuth client's are throttled.
    pub(crate) fn login_throttled(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Throttled, what).with_bad_request(BadRequest::login_throttled())
    }

    /// A limit does not let it be sent again: with what its last attempt met, which says more where it was that limit.
    pub(crate) fn not_allowed(last: Option<Self>, what: String) -> Self {
        match last {
            Some(throttled) if throttled.is_throttled() => throttled,
            last => Self::instead_of(last, ErrorKind::Throttled, what),
        }
    }

    /// Nothing more is sent, for this: with what the call's last attempt met, if there was one.
    pub(crate) fn instead_of(last: Option<Self>, kind: ErrorKind, what: String) -> Self {
        let mut error = last.unwrap_or_else(|| Self::new(kind, ""));
        error.0.kind = kind;
        error.0.what = what.into();
        // What the last attempt was told to wait has been waited since.
        error.0.retry_after = None;
        error
    }

    /// What went wrong lasts until somebody mends it.
    pub(crate) fn lasting(mut self, lasting: bool) -> Self {
        self.0.lasting = lasting;
        self
    }

    /// The limit's name, where the service gave it.
    pub(crate) fn limit_key(&self) -> Option<&str> {
        self.0.body.as_ref()?.limit.as_ref()?.key.as_deref()
    }

    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.0.retry_after = wait;
        self
    }

    pub(crate) fn maybe_sent(mut self, maybe: bool) -> Self {
        self.0.may_have_been_sent = maybe;
        self
    }

    pub(crate) fn lost_answers(mut self, lost: u32) -> Self {
        self.0.lost_answers = lost;
        self
    }

    /// Whether an attempt before the last answer may have been acted on without its answer reaching us.
    pub(crate) fn an_answer_was_lost(&self) -> bool {
        self.0.lost_answers > 0
    }

    pub(crate) fn gave_up(mut self, why: GaveUp) -> Self {
        self.0.gave_up = Some(why);
        self
    }

    pub(crate) fn of_upload(mut self, id: &UploadId) -> Self {
        self.0.upload_id = Some(id.clone());
        self
    }

    /// The service's word that an upload did not become a script: as a sentence shows it, and whole.
    pub(crate) fn import_failed(words: &str, body: ErrorBody) -> Self {
        Self::new(ErrorKind::ImportFailed, format!("the service could not import the script: {words}")).with_body(body)
    }

    /// The call this ended, and how long it took.
    pub(crate) fn ended(
        mut self,
        operation: &'static str,
        subject: Option<&str>,
        attempts: u32,
        elapsed: Duration,
    ) -> Self {
        self.0.operation = Some(operation);
        self.0.subject = subject.map(|subject| quoted(subject).into());
        self.0.attempts = attempts;
        self.0.elapsed = elapsed;
        self
    }

    /// With what it means put first: there is nothing left to try again with, at whatever time.
    pub(crate) fn explained(mut self, meaning: &'static str) -> Self {
        self.0.kind = ErrorKind::LoginRefused;
        (self.0.retry_after, self.0.gave_up) = (None, None);
        self.0.what = meaning.into();
        self
    }

    /// With what else may be the matter.
    pub(crate) fn noted(mut self, note: &str) -> Self {
        self.0.what = format!("{} ({note})", self.0.what).into();
        self
    }

    /// Told anew to a call that was not sent for it.
    pub(crate) fn remembered(mut self, why: &str) -> Self {
        self.0.what = format!("not sent, as {why}: {}", self.0.what).into();
        self
    }

    /// What happened, in words.
    pub(crate) fn what(&self) -> &str {
        &self.0.what
    }

    /// A login's refusal, told anew to who would have asked for the same again.
    pub(crate) fn not_asked_again(mut self, pause: Duration) -> Self {
        if self.0.status.is_some() {
            let pause = pause.as_millis().div_ceil(1000);
            self.0.what =
                format!("not asked for again for {pause} s, as it was refused before: {}", self.0.what).into();
            self.0.attempts = 0;
        }
        self
    }

    /// The call ended while this was being tried again.
    pub(crate) fn outlasted(mut self, by: &str) -> Self {
        self.0.what = format!("{by}; last, {}", self.0.what).into();
        self.0.kind = ErrorKind::Timeout;
        self.0.retry_after = None;
        self
    }

    /// A login's failure at this host, as the failure of a call that needed the token.
    pub(crate) fn of_login(
        mut self,
        host: &str,
        operation: &'static str,
        subject: Option<&str>,
        attempts: u32,
        elapsed: Duration,
    ) -> Self {
        let login_attempts = self.0.attempts;
        let tried =
            if login_attempts > 0 { format!(" ({})", count(login_attempts, "login attempt")) } else { String::new() };
        // Of an answer it is not said otherwise who gave it, and to whom.
        let at = match (self.0.status, &self.0.subject) {
            (Some(_), Some(client)) => format!(" (OAuth client {client} at {host})"),
            (Some(_), None) => format!(" (at {host})"),
            (None, _) => String::new(),
        };
        self.0.what = format!("could not log in{tried}: {}{at}", self.0.what).into();
        self.0.during_login = true;
        self.0.may_have_been_sent = attempts > 0;
        self.ended(operation, subject, attempts, elapsed)
    }

    /// The nature of the failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What was tried, like `get script`.
    #[must_use]
    pub fn operation(&self) -> Option<&str> {
        self.0.operation
    }

    /// Whether it was the login that failed: the call itself was not sent for want of a token.
    #[must_use]
    pub fn is_login(&self) -> bool {
        self.0.during_login
    }

    /// The HTTP status of the last answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status.map(|status| status.as_u16())
    }

    /// The service's error code, like `not.found`, or the login's, like `invalid_client`; as it came on the
    /// wire, credentials redacted.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.body.as_ref()?.code()
    }

    /// The service's message, as it came on the wire (credentials redacted): escape it before a terminal sees it.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.0.body.as_ref()?.message()
    }

    /// All of the service's error body that could be read.
    #[must_use]
    pub fn body(&self) -> Option<&ErrorBody> {
        self.0.body.as_ref()
    }

    /// `ININ-Correlation-Id` of the last answer: what Genesys support asks for.
    #[must_use]
    pub fn correlation_id(&self) -> Option<&str> {
        self.0.correlation_id.as_deref()
    }

    /// How many times the request was sent, or tried to be. Logins are not counted.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// From the call's start to its failure, waits included.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed
    }

    /// How long to wait before the call can succeed, where the service said so or the crate knows.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether a quota or a login limit was in the way.
    #[must_use]
    pub fn is_throttled(&self) -> bool {
        self.0.kind == ErrorKind::Throttled
    }

    /// Whether time ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.0.kind == ErrorKind::Timeout
    }

    /// Whether the service may have received the request, and so may have acted on it.
    #[must_use]
    pub fn may_have_been_sent(&self) -> bool {
        self.0.may_have_been_sent
    }

    /// Whether the same call, made again later, may succeed without anything being changed first.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self.0.kind {
            _ if self.0.lasting => false,
            ErrorKind::Throttled
            | ErrorKind::Unavailable
            | ErrorKind::Server
            | ErrorKind::Timeout
            | ErrorKind::Connection => true,
            ErrorKind::Conflict => matches!(self.0.status, Some(StatusCode::CONFLICT | StatusCode::LOCKED)),
            ErrorKind::BadRequest => self.0.bad_request.as_ref().is_some_and(BadRequest::is_retryable),
            _ => false,
        }
    }

    /// The upload that was received before this failed: with it the import can be followed further, by
    /// [`Agent::wait_for_import`](crate::Agent::wait_for_import).
    #[must_use]
    pub fn upload_id(&self) -> Option<&UploadId> {
        self.0.upload_id.as_ref()
    }

    /// Why a 400 was answered, or a login refused or throttled; `None` for everything else.
    #[must_use]
    pub fn bad_request(&self) -> Option<&BadRequest> {
        self.0.bad_request.as_ref()
    }
}

impl Error {
    /// A free-form part that is of another shape than the one asked for.
    pub(crate) fn other_shape(error: serde_json::Error) -> Self {
        Self::new(ErrorKind::UnexpectedAnswer, format!("the JSON is of another shape: {}", shown(&error.to_string())))
    }
}

fn count(n: u32, of: &str) -> String {
    if n == 1 { format!("1 {of}") } else { format!("{n} {of}s") }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(operation) = inner.operation {
            f.write_str(operation)?;
            if let Some(subject) = &inner.subject {
                write!(f, " {subject}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&inner.what)?;
        if let Some(status) = inner.status {
            write!(f, "; HTTP {}", status.as_u16())?;
        }
        // Why a 400 was answered, or a script not imported, quotes it, too.
        let body = inner.body.as_ref().filter(|_| inner.bad_request.is_none() && inner.kind != ErrorKind::ImportFailed);
        if let (Some(_), Some(body)) = (inner.status, body) {
            if let (Some(speaker), false) = (&body.speaker, body.is_error_envelope()) {
                write!(f, " of {}", shown(speaker))?;
            }
            if let Some(code) = body.code() {
                write!(f, " {}", shown(code))?;
            }
            if let Some(said) = body.said() {
                write!(f, " {said}")?;
            }
        }
        if let Some(bad_request) = &inner.bad_request {
            write!(f, "; {bad_request}")?;
        }
        if let Some(why) = inner.gave_up {
            write!(f, "; {}", why.explanation())?;
        }
        if let Some(wait) = inner.retry_after {
            write!(f, "; try again in {} s", wait.as_millis().div_ceil(1000))?;
        }
        match (inner.operation, inner.during_login && inner.attempts == 0) {
            (Some(_), false) => {
                write!(f, "; {} in {:.1} s", count(inner.attempts, "attempt"), inner.elapsed.as_secs_f64())?;
            }
            (Some(_), true) => write!(f, "; after {:.1} s", inner.elapsed.as_secs_f64())?,
            (None, _) => {}
        }
        if let Some(correlation_id) = &inner.correlation_id {
            write!(f, "; correlation id {}", shown(correlation_id))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.debug_struct("Error")
            .field("kind", &inner.kind)
            .field("display", &format_args!("{self}"))
            .field("may_have_been_sent", &inner.may_have_been_sent)
            .field("source", &inner.source)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<InvalidId> for Error {
    fn from(refused: InvalidId) -> Self {
        Self::invalid_input(refused.to_string())
    }
}

impl Error {
    /// An error of this kind, with this status, for tests of your own code: what it does when a call fails.
    ///
    /// ```
    /// use genesys_scripts::{Error, ErrorKind};
    ///
    /// let error = Error::for_test(ErrorKind::Server, Some(503));
    /// assert!(error.is_retryable());
    /// assert_eq!(error.status(), Some(503));
    /// ```
    ///
    /// # Panics
    ///
    /// When that is no status.
    #[must_use]
    #[track_caller]
    #[allow(clippy::panic)]
    pub fn for_test(kind: ErrorKind, status: Option<u16>) -> Self {
        let mut error = Self::new(kind, "made for a test");
        error.0.status = status.map(|status| match StatusCode::from_u16(status) {
            Ok(status) => status,
            Err(_) => panic!("{status} is no HTTP status"),
        });
        error.maybe_sent(status.is_some())
    }
}

impl ErrorKind {
    /// Its name as metrics and logs have it, like `login_refused`. It stays as it is.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::LoginRefused => "login_refused",
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Server => "server",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::UnexpectedAnswer => "unexpected_answer",
            Self::Middleware => "middleware",
            Self::TokenSource => "token_source",
            Self::ImportFailed => "import_failed",
            Self::ShutDown => "shut_down",
        }
    }
}

/// By its [name](ErrorKind::name).
impl Serialize for ErrorKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
