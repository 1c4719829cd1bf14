//! Why a 400: from the evidence to a cause, how certain it is, and what to do.
//!
//! Codes decide first, in the dotted and the underscored spelling. Messages decide only where no code does, and
//! only from their beginning: they are data, and what is embedded in one must not turn a refusal into a retry.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

use super::body::{Envelope, ErrorBody};
use super::text::{quoted, shown};
use crate::request::Operation;

/// Why the service answered 400, as far as the evidence goes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BadRequest {
    /// What it was.
    pub cause: Cause,
    /// How sure that is.
    pub certainty: Certainty,
    /// What it is concluded from, each a short sentence, escaped.
    pub evidence: Vec<Cow<'static, str>>,
    /// What to do about it.
    pub advice: &'static str,
}

/// The causes of a 400 that can be told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The service does not accept the id.
    InvalidId,
    /// A query parameter or field has a value it cannot have.
    InvalidParameter {
        /// Its name, where the service says it.
        name: Option<String>,
    },
    /// A header is missing or malformed.
    Header,
    /// The body is missing or malformed.
    Body,
    /// The session or token is not good for this, or conflicts with another.
    Session,
    /// The script is a draft, or was changed by somebody else meanwhile.
    VersionConflict,
    /// The script itself is broken.
    BrokenScript,
    /// The service refused for load; nothing is wrong with the request.
    Overload,
    /// A quota is spent, although the status says otherwise.
    Quota,
    /// Logins of this OAuth client come too fast.
    LoginThrottled,
    /// The OAuth client is unknown or its secret is wrong.
    BadClient,
    /// The code, assertion or refresh token was refused.
    BadGrant,
    /// The redirect URI is not one of the OAuth client's.
    BadRedirect,
    /// "Invalid script definition": a broken script or overload, and the call ended before it was found out.
    Undecided,
    /// Nothing that is known fits.
    Unknown,
}

impl Cause {
    /// A short name, the same in every version: for counters and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::InvalidId => "invalid_id",
            Self::InvalidParameter { .. } => "invalid_parameter",
            Self::Header => "header",
            Self::Body => "body",
            Self::Session => "session",
            Self::VersionConflict => "version_conflict",
            Self::BrokenScript => "broken_script",
            Self::Overload => "overload",
            Self::Quota => "quota",
            Self::LoginThrottled => "login_throttled",
            Self::BadClient => "bad_client",
            Self::BadGrant => "bad_grant",
            Self::BadRedirect => "bad_redirect",
            Self::Undecided => "undecided",
            Self::Unknown => "unknown",
        }
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::InvalidId => "check where the id comes from; ids are UUIDs",
            Self::InvalidParameter { .. } => "correct the parameter; the message names the allowed values",
            Self::Header => "look for a middleware or gateway that removes or changes headers",
            Self::Body => "check what was given to be sent; a gateway may have cut it",
            Self::Session => "make a new agent, with a token of its own",
            Self::VersionConflict => {
                "read the script anew and repeat the change; publish a draft before agents need it"
            }
            Self::BrokenScript => "open and publish this script again in the editor; other scripts are not affected",
            Self::Overload => "try again later, with fewer requests at once; the script is not at fault",
            Self::Quota => "spread the calls over time; each token has a quota of its own",
            Self::LoginThrottled => "log in fewer agents at once, or keep their tokens across restarts",
            Self::BadClient => "check client id, secret and region",
            Self::BadGrant => "the agent must log in again",
            Self::BadRedirect => "register this redirect URI with the OAuth client, letter for letter",
            Self::Undecided => "try again later; if this script alone goes on failing, open and publish it again",
            Self::Unknown => "give Genesys support the correlation id",
        }
    }

    /// Whether the same request may succeed later.
    fn is_passing(&self) -> bool {
        matches!(self, Self::Overload | Self::Quota | Self::LoginThrottled | Self::Undecided)
    }
}

/// How sure a cause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Certainty {
    /// It fits, and so do others.
    Possible,
    /// The evidence speaks for it. Overload and a broken script are never more than this.
    Likely,
    /// The service says so itself.
    Certain,
}

/// Where a request went: the same words mean different things from different hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Api,
    Login,
    SignedUrl,
}

/// What is known when a 400 is classified: the answer, and our own request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) body: &'a ErrorBody,
    /// The request was about a script, by an id that was validated.
    pub(crate) of_script: bool,
    /// The request had a body.
    pub(crate) had_body: bool,
}

impl<'a> Evidence<'a> {
    pub(crate) fn of_answer(endpoint: Endpoint, operation: &Operation, body: &'a ErrorBody) -> Self {
        let had_body = operation.method == http::Method::POST;
        Self { endpoint, body, of_script: operation.is_of_script(), had_body }
    }
}

/// What the script's history found an "Invalid script definition" to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Overload,
    BrokenScript,
}

impl BadRequest {
    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.cause.is_passing()
    }

    fn new(cause: Cause, certainty: Certainty, evidence: impl Into<Cow<'static, str>>) -> Self {
        let advice = cause.advice();
        Self { cause, certainty, evidence: vec![evidence.into()], advice }
    }

    /// With what the script's history found.
    pub(crate) fn found(mut self, found: Found) -> Self {
        let (cause, evidence) = match found {
            Found::Overload => (Cause::Overload, "attempts for healthy scripts fail and succeed by turns"),
            Found::BrokenScript => {
                (Cause::BrokenScript, "it failed again when the service was calm, and nothing else did")
            }
        };
        self.evidence.retain(|evidence| evidence != UNDECIDED);
        self.evidence.push(evidence.into());
        Self { advice: cause.advice(), cause, certainty: Certainty::Likely, evidence: self.evidence }
    }
}

impl fmt::Display for BadRequest {
    /// Like `likely overload (…): try again later, …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certainty = match self.certainty {
            Certainty::Possible => "possibly",
            Certainty::Likely => "likely",
            Certainty::Certain => "certainly",
        };
        let cause = match &self.cause {
            Cause::InvalidId => "an id the service does not accept".into(),
            Cause::InvalidParameter { name: Some(name) } => format!("an invalid value of {}", shown(name)),
            Cause::InvalidParameter { name: None } => "an invalid parameter".into(),
            Cause::Header => "a missing or malformed header".into(),
            Cause::Body => "a malformed body".into(),
            Cause::Session => "a session or token conflict".into(),
            Cause::VersionConflict => "a draft or a version conflict".into(),
            Cause::BrokenScript => "a broken script".into(),
            Cause::Overload => "overload of the service".into(),
            Cause::Quota => "a spent quota".into(),
            Cause::LoginThrottled => "too many logins".into(),
            Cause::BadClient => "wrong client credentials".into(),
            Cause::BadGrant => "a code, assertion or refresh token that was refused".into(),
            Cause::BadRedirect => "a redirect URI that is not registered".into(),
            Cause::Undecided => "a broken script or overload".into(),
            Cause::Unknown => "of unknown cause".to_owned(),
        };
        write!(f, "{certainty} {cause} ({}): {}", self.evidence.join("; "), self.advice)
    }
}

const UNDECIDED: &str = "\"Invalid script definition\" is answered for a broken script and for overload alike";

/// The cause of a 400, by what the service says and what was sent.
pub(crate) fn classify(evidence: &Evidence<'_>) -> BadRequest {
    match evidence.endpoint {
        Endpoint::Login => of_login(evidence.body),
        Endpoint::Api => of_api(evidence),
        // A storage service's words, not Genesys Cloud's.
        Endpoint::SignedUrl => {
            BadRequest::new(Cause::Unknown, Certainty::Possible, "the export's host is no part of the API")
        }
    }
}

fn of_login(body: &ErrorBody) -> BadRequest {
    use Certainty::{Certain, Likely, Possible};
    let says = || format!("the login says {}", quoted(body.code().unwrap_or_default()));
    if is_login_throttle(StatusCode::BAD_REQUEST, body) {
        return BadRequest::new(Cause::LoginThrottled, Certain, "the login says its rate limit is exceeded");
    }
    match plain(body.code().unwrap_or_default()).as_str() {
        "invalid_client" | "unauthorized_client" => BadRequest::new(Cause::BadClient, Certain, says()),
        "invalid_grant" => BadRequest::new(Cause::BadGrant, Certain, says()),
        "redirect_uri_mismatch" | "invalid_redirect_uri" => BadRequest::new(Cause::BadRedirect, Certain, says()),
        "invalid_request" if message_begins(body, &["redirect_uri", "redirect uri", "invalid redirect"]) => {
            BadRequest::new(Cause::BadRedirect, Likely, says())
        }
        "invalid_request" | "unsupported_grant_type" | "invalid_scope" => {
            BadRequest::new(Cause::InvalidParameter { name: None }, Likely, says())
        }
        _ => BadRequest::new(Cause::Unknown, Possible, shape(body)),
    }
}

fn of_api(evidence: &Evidence<'_>) -> BadRequest {
    use Certainty::{Certain, Likely, Possible};
    let body = evidence.body;
    let code = plain(body.code().unwrap_or_default());
    let says = || format!("the service says {}", quoted(body.code().unwrap_or_default()));
    let named = || body.details.iter().find_map(|detail| detail.field_name.clone()).or_else(|| parameter(body));
    match code.as_str() {
        "too_many_requests" | "too_many_requests_retry_after" | "rate_limit_exceeded" => {
            return BadRequest::new(Cause::Quota, Certain, says());
        }
        "invalid_value" | "invalid_date" | "invalid_parameter" => {
            return BadRequest::new(Cause::InvalidParameter { name: named() }, Certain, says());
        }
        "invalid_id" | "invalid_uuid" => return BadRequest::new(Cause::InvalidId, Certain, says()),
        "invalid_header" | "missing_header" => return BadRequest::new(Cause::Header, Certain, says()),
        "invalid_json" | "invalid_body" | "malformed_body" => return BadRequest::new(Cause::Body, Certain, says()),
        "version_conflict" | "conflict" => return BadRequest::new(Cause::VersionConflict, Certain, says()),
        "invalid_session" | "bad_credentials" | "authentication_required" | "credentials_expired" => {
            return BadRequest::new(Cause::Session, Certain, says());
        }
        _ => {}
    }
    if body.limit.is_some() {
        return BadRequest::new(Cause::Quota, Likely, "the answer names a limit");
    }
    let begins = |words: &[&str]| message_begins(body, words);
    let wording = || format!("the message is {}", quoted(body.message().unwrap_or_default()));
    if evidence.of_script && is_definition_message(body) {
        let mut undecided = BadRequest::new(Cause::Undecided, Possible, UNDECIDED);
        if body.envelope == Envelope::Gateway {
            undecided
                .evidence
                .push("the answer lacks the service's own envelope, as a gateway before it writes".into());
        }
        return undecided;
    }
    if begins(&["rate limit exceeded", "too many requests"]) {
        // Data, not a code: believed as a reason, but not waited for.
        return BadRequest::new(Cause::Quota, Possible, wording());
    }
    if message_contains(body, "does not match the current version")
        || begins(&["the script is not published", "script is a draft"])
    {
        return BadRequest::new(Cause::VersionConflict, Likely, wording());
    }
    if begins(&["value ["]) || begins(&["invalid value", "invalid parameter"]) || !body.details.is_empty() {
        return BadRequest::new(Cause::InvalidParameter { name: named() }, Likely, wording());
    }
    if begins(&["invalid uuid", "invalid script id", "invalid id", "the id ", "invalid page id", "invalid division id"])
    {
        return BadRequest::new(Cause::InvalidId, Likely, wording());
    }
    if begins(&["missing header", "missing required header", "invalid header", "no accept", "accept header"]) {
        return BadRequest::new(Cause::Header, Likely, wording());
    }
    if begins(&["session", "invalid session", "token"]) {
        return BadRequest::new(Cause::Session, Likely, wording());
    }
    if evidence.had_body
        && begins(&[
            "the request could not be understood",
            "invalid json",
            "malformed",
            "unexpected end",
            "cannot deserialize",
        ])
    {
        return BadRequest::new(Cause::Body, Possible, wording());
    }
    if matches!(body.envelope, Envelope::Page | Envelope::Other | Envelope::Empty) {
        return BadRequest::new(Cause::Header, Possible, shape(body));
    }
    BadRequest::new(Cause::Unknown, Possible, if body.message().is_some() { wording() } else { shape(body).to_owned() })
}

/// One spelling of a code: the service writes `bad.request`, some of its parts `bad_request`.
fn plain(code: &str) -> String {
    code.chars().take(64).map(|c| if matches!(c, '.' | '-' | ' ') { '_' } else { c.to_ascii_lowercase() }).collect()
}

fn shape(body: &ErrorBody) -> &'static str {
    match body.envelope {
        Envelope::Service => "the service gives no known code",
        Envelope::OAuth => "the login gives no known code",
        Envelope::Gateway => "the answer lacks the service's own envelope, as a gateway before it writes",
        Envelope::Page => "the answer is a page, so something before the service refused the request as malformed",
        Envelope::Other => "the answer is plain text, so something before the service refused the request as malformed",
        Envelope::Empty => "the answer is empty, so something before the service refused the request as malformed",
    }
}

/// Whether the message begins with one of these words, in any case.
fn message_begins(body: &ErrorBody, words: &[&str]) -> bool {
    let message = body.message().unwrap_or_default().trim_start();
    words.iter().any(|word| message.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word)))
}

fn message_contains(body: &ErrorBody, words: &str) -> bool {
    body.message().is_some_and(|message| message.to_ascii_lowercase().contains(words))
}

/// "Value [x] is not valid for field type [pageSize]. …" (contract §1.5) names the field.
fn parameter(body: &ErrorBody) -> Option<String> {
    let (_, rest) = body.message()?.split_once("for field type [")?;
    Some(rest.split_once(']')?.0.to_owned())
}

fn is_definition_message(body: &ErrorBody) -> bool {
    let code = plain(body.code().unwrap_or_default());
    matches!(code.as_str(), "bad_request" | "invalid_script_definition" | "")
        && body.message().is_some_and(|message| {
            message.trim().trim_end_matches('.').eq_ignore_ascii_case("invalid script definition")
        })
}

/// Whether a 400 is the one that means either load or a broken script.
pub(crate) fn is_invalid_definition(error: &super::Error) -> bool {
    error.status() == Some(400) && error.body().is_some_and(is_definition_message)
}

/// The token endpoint reports its own limit as `400 invalid_request`, "rate limit exceeded; …" (contract §5.1).
pub(crate) fn is_login_throttle(status: StatusCode, body: &ErrorBody) -> bool {
    status == StatusCode::BAD_REQUEST
        && plain(body.code().unwrap_or_default()) == "invalid_request"
        && message_begins(body, &["rate limit exceeded"])
}
