//! Why a 400: from the evidence to a cause, how certain it is, and what to do.
//!
//! Codes decide first, in the dotted and the underscored spelling. Messages decide only where no code does, and
//! only from their beginning: they are data, and what is embedded in one must not turn a refusal into a retry.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;

use super::body::{Envelope, ErrorBody};
use crate::text::{quoted, shown};

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
    /// "Invalid script definition": a broken script or overload, and what happened around it does not tell which.
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

/// What is known when a 400 is classified: the answer, our own request, and what happened around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) body: &'a ErrorBody,
    pub(crate) request: RequestFacts<'a>,
}

/// What was sent, as far as it can be at fault.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RequestFacts<'a> {
    /// It was about a script, by an id that was validated.
    pub(crate) of_script: bool,
    pub(crate) had_body: bool,
    /// An id in it that is no UUID: accepted here, but the service has none such.
    pub(crate) odd_id: Option<&'a str>,
    /// The names of its query parameters.
    pub(crate) parameters: &'a [&'a str],
}

impl<'a> Evidence<'a> {
    /// What is known as the answer comes in; how other calls fare speaks later ([`BadRequest::found`]).
    pub(crate) fn of_answer(endpoint: Endpoint, body: &'a ErrorBody, request: RequestFacts<'a>) -> Self {
        Self { endpoint, body, request }
    }
}

/// What an "Invalid script definition" was found to be, and the numbers of attempts that say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It failed so often in a row while others were served.
    BrokenScript { failed: u32, others_served: u32, others: u32 },
    /// Others are refused and served by turns.
    Overload { others_failed: u32, others: u32 },
}

impl BadRequest {
    /// Whether the same request may succeed later. Not on the word of a message alone.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.cause.is_passing() && !(self.cause == Cause::Quota && self.certainty == Certainty::Possible)
    }

    fn new(cause: Cause, certainty: Certainty, evidence: impl Into<Cow<'static, str>>) -> Self {
        let advice = cause.advice();
        Self { cause, certainty, evidence: vec![evidence.into()], advice }
    }

    /// With what the outcomes around it found.
    pub(crate) fn found(mut self, found: Found) -> Self {
        let (cause, evidence) = match found {
            Found::BrokenScript { failed, others_served, others } => (
                Cause::BrokenScript,
                format!(
                    "it failed {failed} of {failed} times, while {others_served} of {others} attempts for others were served"
                ),
            ),
            Found::Overload { others_failed, others } => (
                Cause::Overload,
                format!(
                    "scripts that are served are refused too: {others_failed} of {others} attempts for them failed"
                ),
            ),
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
    let wording = || format!("the login's words are {}", quoted(body.message().unwrap_or_default()));
    if is_login_throttle(StatusCode::BAD_REQUEST, body) {
        return BadRequest::new(Cause::LoginThrottled, Certain, "the login says its rate limit is exceeded");
    }
    let begins = |words: &[&str]| message_begins(body, words);
    let of_redirect = begins(&["redirect_uri", "redirect uri", "redirecturi", "invalid redirect", "the redirect"]);
    let parameter = |name: &str| Cause::InvalidParameter { name: Some(name.to_owned()) };
    match plain(body.code().unwrap_or_default()).as_str() {
        "invalid_client" | "unauthorized_client" => BadRequest::new(Cause::BadClient, Certain, says()),
        // RFC 6749 §5.2 has this code for a redirect URI that is another than the code was asked for with.
        "invalid_grant" if of_redirect => BadRequest::new(Cause::BadRedirect, Likely, wording()),
        "invalid_grant" => BadRequest::new(Cause::BadGrant, Certain, says()),
        "redirect_uri_mismatch" | "invalid_redirect_uri" => BadRequest::new(Cause::BadRedirect, Certain, says()),
        "unsupported_grant_type" => BadRequest::new(parameter("grant_type"), Certain, says()),
        "invalid_scope" => BadRequest::new(parameter("scope"), Certain, says()),
        "invalid_request" if of_redirect => BadRequest::new(Cause::BadRedirect, Likely, wording()),
        "invalid_request" if begins(&["client not found", "authentication failed", "invalid client"]) => {
            BadRequest::new(Cause::BadClient, Likely, wording())
        }
        "invalid_request" => BadRequest::new(Cause::InvalidParameter { name: None }, Likely, says()),
        _ => BadRequest::new(Cause::Unknown, Possible, shape(body)),
    }
}

fn of_api(evidence: &Evidence<'_>) -> BadRequest {
    let body = evidence.body;
    let mut found = by_code(body)
        .or_else(|| by_definition(evidence))
        .or_else(|| by_details(body))
        .or_else(|| by_limit(body))
        .or_else(|| by_message(body))
        .or_else(|| by_request(evidence))
        .unwrap_or_else(|| by_shape(body));
    if body.envelope == Envelope::Gateway {
        // Something in between may speak in the service's words, but not with its authority.
        found.certainty = found.certainty.min(Certainty::Likely);
        if !found.evidence.iter().any(|evidence| evidence == shape(body)) {
            found.evidence.push(shape(body).into());
        }
    }
    found
}

/// What a code means, in its one spelling.
fn cause_of(code: &str) -> Option<Cause> {
    Some(match code {
        "too_many_requests" | "too_many_requests_retry_after" | "rate_limit_exceeded" => Cause::Quota,
        "invalid_value" | "invalid_date" | "invalid_parameter" | "missing_parameter" => {
            Cause::InvalidParameter { name: None }
        }
        "invalid_id" | "invalid_uuid" => Cause::InvalidId,
        "invalid_header" | "missing_header" | "unsupported_media_type" | "not_acceptable" => Cause::Header,
        "invalid_json" | "invalid_body" | "malformed_body" | "missing_body" | "request_entity_too_large" => Cause::Body,
        "version_conflict"
        | "version_mismatch"
        | "conflict"
        | "general_conflict"
        | "precondition_failed"
        | "not_published" => Cause::VersionConflict,
        "invalid_session" | "bad_credentials" | "authentication_required" | "credentials_expired" => Cause::Session,
        "service_unavailable" | "request_timeout" => Cause::Overload,
        _ => return None,
    })
}

fn by_code(body: &ErrorBody) -> Option<BadRequest> {
    said(body, body.code()?, name_in(body))
}

/// The details, and the errors within the error, say more than a code that says nothing.
fn by_details(body: &ErrorBody) -> Option<BadRequest> {
    let detailed = body.details.iter().find_map(|detail| said(body, detail.error_code.as_deref()?, name_in(body)));
    let nested = || body.errors.iter().find_map(|error| said(body, error.code()?, name_in(error)));
    let named = || {
        let name = name_in(body).filter(|_| !body.details.is_empty())?;
        let evidence = format!("the service names {}", quoted(name));
        Some(BadRequest::new(parameter_or_id(Some(name)), Certainty::Likely, evidence))
    };
    detailed.or_else(nested).or_else(named)
}

fn said(body: &ErrorBody, code: &str, name: Option<&str>) -> Option<BadRequest> {
    let cause = match cause_of(&plain(code))? {
        Cause::InvalidParameter { .. } => parameter_or_id(name),
        cause => cause,
    };
    // Whether it is load is never certain, whoever says so.
    let certain = cause != Cause::Overload && body.envelope == Envelope::Service;
    let certainty = if certain { Certainty::Certain } else { Certainty::Likely };
    Some(BadRequest::new(cause, certainty, format!("the service says {}", quoted(code))))
}

fn parameter_or_id(name: Option<&str>) -> Cause {
    let ids = ["scriptId", "pageId", "divisionId", "uploadId", "versionId", "flowId", "id"];
    match name {
        Some(name) if ids.iter().any(|id| id.eq_ignore_ascii_case(name)) => Cause::InvalidId,
        name => Cause::InvalidParameter { name: name.map(shown) },
    }
}

/// The field it is about: in the details, or in "Value [x] is not valid for field type [pageSize]. …" (contract §1.5).
fn name_in(body: &ErrorBody) -> Option<&str> {
    let in_message = || Some(body.message()?.split_once("for field type [")?.1.split_once(']')?.0);
    body.details.iter().find_map(|detail| detail.field_name.as_deref()).or_else(in_message)
}

/// "Invalid script definition": overload or a broken script, and only what happens around it can tell.
fn by_definition(evidence: &Evidence<'_>) -> Option<BadRequest> {
    if !evidence.request.of_script || !is_definition_message(evidence.body) {
        return None;
    }
    Some(BadRequest::new(Cause::Undecided, Certainty::Possible, UNDECIDED))
}

fn by_limit(body: &ErrorBody) -> Option<BadRequest> {
    let key = body.limit.as_ref()?.key.as_deref()?;
    let cause = match key {
        "request.bytes.max" => Cause::Body,
        key if key.contains("rate.per.") => Cause::Quota,
        _ => return None,
    };
    Some(BadRequest::new(cause, Certainty::Likely, format!("the answer names the limit {}", quoted(key))))
}

/// Words are weaker than codes, and count only from their beginning.
fn by_message(body: &ErrorBody) -> Option<BadRequest> {
    use Certainty::{Likely, Possible};
    let begins = |words: &[&str]| message_begins(body, words);
    let (cause, certainty) = if begins(&["rate limit exceeded", "too many requests"]) {
        // Believed as a reason, but nothing waits or is sent again for it.
        (Cause::Quota, Possible)
    } else if begins(&["the script is not published", "script is not published", "script is a draft"])
        || message_contains(body, "does not match the current version")
    {
        (Cause::VersionConflict, Likely)
    } else if begins(&["value [", "invalid value", "invalid parameter", "missing parameter", "dates must be specified"])
    {
        (parameter_or_id(name_in(body)), Likely)
    } else if begins(&["invalid uuid", "invalid script id", "invalid id", "the id ", "invalid page id"])
        || begins(&["invalid division id", "not a valid uuid"])
    {
        (Cause::InvalidId, Likely)
    } else if begins(&["missing header", "missing required header", "invalid header", "accept header"])
        || begins(&["unsupported media type", "content-type"])
    {
        (Cause::Header, Likely)
    } else if begins(&["session", "invalid session", "token"]) {
        (Cause::Session, Likely)
    } else if begins(&["invalid json", "malformed json", "unexpected end", "cannot deserialize", "request body"]) {
        (Cause::Body, Likely)
    } else {
        return None;
    };
    Some(BadRequest::new(cause, certainty, format!("the message is {}", quoted(body.message().unwrap_or_default()))))
}

/// The service does not say; what was sent may.
fn by_request(evidence: &Evidence<'_>) -> Option<BadRequest> {
    use Certainty::{Likely, Possible};
    let request = evidence.request;
    let by = |cause, certainty, why: String| Some(BadRequest::new(cause, certainty, why));
    if let Some(id) = request.odd_id {
        return by(Cause::InvalidId, Likely, format!("the id {} is no UUID", quoted(id)));
    }
    // What follows is a guess, which only the service's own generic words make worth telling.
    if !message_begins(evidence.body, &["the request could not be understood"]) {
        return None;
    }
    if request.had_body {
        return by(Cause::Body, Possible, "it was sent with a body, and the service could not read it".to_owned());
    }
    if let [first, others @ ..] = request.parameters {
        let name = others.is_empty().then(|| shown(first));
        let sent = shown(&request.parameters.join(", "));
        return by(Cause::InvalidParameter { name }, Possible, format!("it was sent with {sent}"));
    }
    None
}

fn by_shape(body: &ErrorBody) -> BadRequest {
    use Certainty::Possible;
    match body.envelope {
        Envelope::Page | Envelope::Other | Envelope::Empty => BadRequest::new(Cause::Header, Possible, shape(body)),
        Envelope::Service | Envelope::OAuth | Envelope::Gateway if body.message().is_some() => {
            let wording = format!("the message is {}", quoted(body.message().unwrap_or_default()));
            BadRequest::new(Cause::Unknown, Possible, wording)
        }
        Envelope::Service | Envelope::OAuth | Envelope::Gateway => {
            BadRequest::new(Cause::Unknown, Possible, shape(body))
        }
    }
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

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// One line of `bad_requests.json`.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        name: String,
        #[serde(default = "api")]
        endpoint: String,
        #[serde(default = "bad_request")]
        status: u16,
        /// JSON, or a string that is sent as it is.
        body: serde_json::Value,
        #[serde(default)]
        request: Sent,
        /// What the outcomes around it find afterwards.
        found: Option<String>,
        cause: String,
        parameter: Option<String>,
        certainty: String,
        /// Whether a further attempt of the same call is made for it.
        retried: bool,
        /// Whether the user may hope for another call.
        retryable: Option<bool>,
    }

    #[derive(Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Sent {
        of_script: bool,
        had_body: bool,
        odd_id: Option<String>,
        parameters: Vec<String>,
    }

    fn api() -> String {
        "api".to_owned()
    }

    fn bad_request() -> u16 {
        400
    }

    impl Case {
        fn wire(&self) -> String {
            self.body.as_str().map_or_else(|| self.body.to_string(), str::to_owned)
        }

        fn classified(&self) -> (BadRequest, bool) {
            let body = ErrorBody::parse(&self.wire());
            let endpoint = match self.endpoint.as_str() {
                "api" => Endpoint::Api,
                "login" => Endpoint::Login,
                "signed_url" => Endpoint::SignedUrl,
                other => panic!("{other}"),
            };
            let parameters: Vec<&str> = self.request.parameters.iter().map(String::as_str).collect();
            let evidence = Evidence {
                endpoint,
                body: &body,
                request: RequestFacts {
                    of_script: self.request.of_script,
                    had_body: self.request.had_body,
                    odd_id: self.request.odd_id.as_deref(),
                    parameters: &parameters,
                },
            };
            let mut found = classify(&evidence);
            match self.found.as_deref() {
                Some("overload") => found = found.found(Found::Overload { others_failed: 3, others: 9 }),
                Some("broken_script") => {
                    found = found.found(Found::BrokenScript { failed: 4, others_served: 60, others: 60 })
                }
                Some(other) => panic!("{other}"),
                None => {}
            }
            // As `call.rs` decides: logins wait at their gate, definitions go by the evidence; nothing else is sent again.
            let status = StatusCode::from_u16(self.status).unwrap();
            let retried = match endpoint {
                Endpoint::Login => is_login_throttle(status, &body),
                Endpoint::Api => {
                    self.request.of_script && is_definition_message(&body) && found.cause != Cause::BrokenScript
                }
                Endpoint::SignedUrl => false,
            };
            (found, retried)
        }
    }

    fn cases() -> Vec<Case> {
        serde_json::from_str(include_str!("bad_requests.json")).unwrap()
    }

    #[test]
    fn recorded_cases() {
        let cases = cases();
        assert!(cases.len() >= 60, "{}", cases.len());
        let mut wrong = Vec::new();
        for case in &cases {
            let (found, retried) = case.classified();
            let certainty = match found.certainty {
                Certainty::Possible => "possible",
                Certainty::Likely => "likely",
                Certainty::Certain => "certain",
            };
            let parameter = match &found.cause {
                Cause::InvalidParameter { name } => name.clone(),
                _ => None,
            };
            let as_expected = (found.cause.name(), certainty, retried)
                == (&*case.cause, &*case.certainty, case.retried)
                && parameter == case.parameter
                && case.retryable.is_none_or(|retryable| found.is_retryable() == retryable);
            if !as_expected {
                wrong.push(format!("{}: {found:?}, retried: {retried}", case.name));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn every_cause_is_among_the_cases_and_each_case_is_named_once() {
        let cases = cases();
        let causes = [
            "invalid_id",
            "invalid_parameter",
            "header",
            "body",
            "session",
            "version_conflict",
            "broken_script",
            "overload",
            "quota",
            "login_throttled",
            "bad_client",
            "bad_grant",
            "bad_redirect",
            "undecided",
            "unknown",
        ];
        for cause in causes {
            assert!(cases.iter().any(|case| case.cause == cause), "{cause}");
        }
        let names: std::collections::BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
        assert_eq!(names.len(), cases.len());
    }

    #[test]
    fn everyone_gets_evidence_and_advice_that_a_terminal_can_show() {
        for case in cases() {
            let (found, _) = case.classified();
            assert!(!found.evidence.is_empty() && !found.advice.is_empty(), "{}", case.name);
            let all = format!("{found} {found:?} {} {}", found.evidence.join(" "), found.advice);
            let name = match &found.cause {
                Cause::InvalidParameter { name } => name.clone().unwrap_or_default(),
                _ => String::new(),
            };
            for shown in [all, name] {
                assert!(!shown.chars().any(|c| c.is_control() || ('\u{202A}'..='\u{202E}').contains(&c)), "{shown:?}");
                assert!(shown.len() < 4000, "{}: {}", case.name, shown.len());
            }
        }
    }

    #[test]
    fn load_and_a_broken_script_are_never_certain() {
        for case in cases() {
            let (found, _) = case.classified();
            let weak = matches!(found.cause, Cause::Overload | Cause::BrokenScript | Cause::Undecided);
            assert!(!(weak && found.certainty == Certainty::Certain), "{}", case.name);
        }
    }

    #[test]
    fn no_message_alone_makes_an_api_call_be_sent_again() {
        let hostile = [
            "rate limit exceeded; try again",
            "Too many requests",
            "x Invalid script definition",
            "Invalid script definition: rate limit exceeded",
            "Invalid script definition\nInvalid script definition",
            "Retry the request in [1] seconds",
            "overload",
        ];
        for code in ["bad.request", "invalid.value", "not.found", "", "\u{1b}[2J", "invalid_request"] {
            for message in hostile {
                let text = serde_json::json!({ "code": code, "message": message, "status": 400 }).to_string();
                let body = ErrorBody::parse(&text);
                let request = RequestFacts { of_script: true, ..RequestFacts::default() };
                let found = classify(&Evidence { endpoint: Endpoint::Api, body: &body, request });
                assert!(!found.is_retryable() && !is_definition_message(&body), "{text}: {found:?}");
            }
        }
    }

    #[test]
    fn what_was_found_later_replaces_what_was_undecided() {
        let body = ErrorBody::parse(r#"{"code":"bad_request","message":"Invalid script definition"}"#);
        let request = RequestFacts { of_script: true, ..RequestFacts::default() };
        let evidence = Evidence::of_answer(Endpoint::Api, &body, request);
        let undecided = classify(&evidence);
        for (found, cause) in [
            (Found::Overload { others_failed: 3, others: 9 }, Cause::Overload),
            (Found::BrokenScript { failed: 4, others_served: 60, others: 60 }, Cause::BrokenScript),
        ] {
            let decided = undecided.clone().found(found);
            assert_eq!((decided.cause, decided.certainty), (cause, Certainty::Likely));
            assert!(!decided.evidence.iter().any(|evidence| evidence == UNDECIDED));
        }
    }
}
