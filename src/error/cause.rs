//! Why a refusal: from the evidence to a cause, how certain it is, and what to do.
//!
//! One table, [`Cause::row`], says what each cause is called, what it means and what to do about it. What speaks for it is
//! data: codes in [`CODES`], words in `rules.rs`. Codes decide first, then words, then a field that is named, then headers,
//! then what was sent. The shape of an answer is no cause: it says only that something before the service spoke.

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use http::header::{AsHeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::body::{Envelope, ErrorBody};
use super::rules::{DEFINITION, LIMIT, LINE, MISSING, OTHER_LIMITS, REDIRECT, RULES, What};
use super::words::{Words, quoted_data, without};
use crate::answer::correlation_id;
use crate::text::{head, quoted, shown};

/// Why a request was refused, as far as the evidence goes. In JSON `{name, certainty, evidence, advice}`, the one form in
/// which every tool of this crate gives a cause.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BadRequest {
    /// What it was.
    pub cause: Cause,
    /// How sure that is.
    pub certainty: Certainty,
    /// What it is concluded from, each a short sentence, escaped: what the answer says is quoted in it.
    pub evidence: Vec<Cow<'static, str>>,
    /// What to do about it.
    pub advice: &'static str,
    /// Whether more than words speaks for a cause that passes.
    passes: bool,
}

/// The causes of a 400, or of a login that was refused, that can be told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The service does not accept the id.
    InvalidId,
    /// A query parameter or field has a value it cannot have, or is missing.
    InvalidParameter {
        /// Its name, where the service says it.
        name: Option<String>,
    },
    /// A header is missing, malformed, too large or not accepted.
    Header,
    /// The body is missing, malformed or too large.
    Body,
    /// The session or token is not good for this, or conflicts with another.
    Session,
    /// The script is a draft, is locked, or was changed by somebody else meanwhile.
    VersionConflict,
    /// The script itself is broken.
    BrokenScript,
    /// The service refused for load; nothing is wrong with the request.
    Overload,
    /// A limit is reached, although the status says otherwise.
    Quota,
    /// Logins of this OAuth client come too fast.
    LoginThrottled,
    /// The OAuth client is unknown, its secret is wrong, or it may not log in like this.
    BadClient,
    /// The code, assertion or refresh token was refused.
    BadGrant,
    /// The redirect URI is not one of the OAuth client's.
    BadRedirect,
    /// Something before the service refused it: a proxy, a gateway, a server's own parser.
    Gateway,
    /// It was sent without TLS to a port that wants TLS, or with TLS to one that does not.
    WrongScheme,
    /// Bytes of another request were taken for the first line of this one, as on a connection that was used before.
    ConnectionReuse,
    /// "Invalid script definition": a broken script or overload, and what happened around it does not tell which.
    Undecided,
    /// Nothing that is known fits.
    Unknown,
}

/// What is to be said of a cause.
struct Row {
    name: &'static str,
    words: &'static str,
    advice: &'static str,
    /// Whether the same request may succeed later.
    passes: bool,
}

const fn lasts(name: &'static str, words: &'static str, advice: &'static str) -> Row {
    Row { name, words, advice, passes: false }
}

const fn passes(name: &'static str, words: &'static str, advice: &'static str) -> Row {
    Row { name, words, advice, passes: true }
}

impl Cause {
    /// The table of causes.
    #[rustfmt::skip]
    fn row(&self) -> Row {
        match self {
            Self::InvalidId => lasts("invalid_id", "an id the service does not accept",
                "check where the id comes from; ids are UUIDs"),
            Self::InvalidParameter { .. } => lasts("invalid_parameter", "an invalid parameter",
                "correct the parameter; the answer says what is wrong with it"),
            Self::Header => lasts("header", "a header that is missing or not accepted",
                "look for a middleware or gateway that adds, removes or changes headers"),
            Self::Body => lasts("body", "a body that is missing, malformed or too large",
                "check what was given to be sent; a gateway may have cut it"),
            Self::Session => lasts("session", "a session or token that is not good for this",
                "make a new agent, with a token of its own"),
            Self::VersionConflict => lasts("version_conflict", "a draft, a lock or a version conflict",
                "read the script anew and repeat the change; publish a draft before agents need it"),
            Self::BrokenScript => lasts("broken_script", "a broken script",
                "open and publish this script again in the editor; other scripts are not affected"),
            Self::Overload => passes("overload", "overload of the service",
                "try again later, with fewer requests at once; the script is not at fault"),
            Self::Quota => passes("quota", "a limit that is reached",
                "spread the calls over time; who answered says which limit it is"),
            Self::LoginThrottled => passes("login_throttled", "too many logins",
                "log in fewer agents at once, or keep their tokens across restarts"),
            Self::BadClient => lasts("bad_client", "an OAuth client that is unknown, has another secret or may not log in like this",
                "check client id, secret, grant and region"),
            Self::BadGrant => lasts("bad_grant", "a code, assertion or refresh token that was refused",
                "the agent must log in again"),
            Self::BadRedirect => lasts("bad_redirect", "a redirect URI that is not registered",
                "register this redirect URI with the OAuth client, letter for letter"),
            Self::Gateway => lasts("gateway", "a refusal by something before the service",
                "ask whoever runs what answered; the service may not have seen the request"),
            Self::WrongScheme => lasts("wrong_scheme", "a port that was spoken to without TLS, or with TLS it does not speak",
                "write https in the address, or the port that belongs to its scheme"),
            Self::ConnectionReuse => lasts("connection_reuse", "bytes of another request taken for the first line of this one",
                "look for what shares or cuts connections between here and the service"),
            Self::Undecided => passes("undecided", "a broken script or overload",
                "try again later; if this script alone goes on failing, open and publish it again"),
            Self::Unknown => lasts("unknown", "of unknown cause",
                "show these words to whoever runs what answered; Genesys support asks for the correlation id"),
        }
    }

    /// A short name, the same in every version: for counters and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.row().name
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
    /// The service says so itself, by a code that can mean one thing.
    Certain,
}

impl Certainty {
    /// `possible`, `likely` or `certain`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Possible => "possible",
            Self::Likely => "likely",
            Self::Certain => "certain",
        }
    }
}

/// Where a request went: the same words mean different things from different hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Api,
    Login,
    SignedUrl,
}

/// So many data are looked for in an answer's words.
const MOST_DATA: usize = 64;

/// What is known when a refusal is classified: the answer, and our own request. How other calls fare speaks later
/// ([`BadRequest::found`]).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) headers: &'a HeaderMap,
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
    /// The ids, names and values in it, which an answer may repeat.
    pub(crate) data: &'a [&'a str],
}

/// What an "Invalid script definition" was found to be, and the numbers of attempts that say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It failed so often in a row while others were served.
    BrokenScript { failed: u32, others_served: u32, others: u32 },
    /// It failed so often in a row with its token while others were served the same.
    Token { failed: u32, others_served: u32, others: u32 },
    /// Others are refused and served by turns.
    Overload { others_refused: u32, others: u32 },
}

impl BadRequest {
    /// Whether the same request may succeed later. Not on the word of a message alone.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.passes
    }

    fn new(cause: Cause, certainty: Certainty) -> Self {
        let Row { advice, passes, .. } = cause.row();
        Self { cause, certainty, evidence: Vec::new(), advice, passes }
    }

    fn by(mut self, evidence: impl Into<Cow<'static, str>>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    /// A login that was not sent, as others of its OAuth client were refused for their number.
    pub(crate) fn login_throttled() -> Self {
        Self::new(Cause::LoginThrottled, Certainty::Likely)
            .by("logins of this OAuth client were refused for their number before")
    }

    /// A login that was answered with 429.
    pub(crate) fn login_refused_for_limit(body: &ErrorBody) -> Self {
        let said = body.said().map_or_else(String::new, |said| format!(", {said}"));
        Self::new(Cause::LoginThrottled, Certainty::Certain).by(format!("the login answered 429{said}"))
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
            Found::Token { failed, others_served, others } => (
                Cause::Session,
                format!(
                    "it follows the token: with this one it failed {failed} of {failed} times, while {others_served} of \
                     {others} attempts of other tokens for the same were served"
                ),
            ),
            Found::Overload { others_refused, others } => (
                Cause::Overload,
                format!("scripts that are served are refused too: {others_refused} of {others} attempts for them were"),
            ),
        };
        self.evidence.retain(|evidence| evidence != UNDECIDED);
        let decided = Self::new(cause, Certainty::Likely);
        Self { evidence: self.evidence, ..decided }.by(evidence)
    }
}

impl Serialize for BadRequest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut form = serializer.serialize_struct("BadRequest", 4)?;
        form.serialize_field("name", self.cause.name())?;
        form.serialize_field("certainty", self.certainty.name())?;
        form.serialize_field("evidence", &self.evidence)?;
        form.serialize_field("advice", self.advice)?;
        form.end()
    }
}

impl fmt::Display for BadRequest {
    /// Like `likely overload (…): try again later, …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certainty = match self.certainty {
            _ if self.cause == Cause::Unknown => "",
            Certainty::Possible => "possibly ",
            Certainty::Likely => "likely ",
            Certainty::Certain => "certainly ",
        };
        let words: Cow<'_, str> = match &self.cause {
            Cause::InvalidParameter { name: Some(name) } => format!("an invalid value of {}", shown(name)).into(),
            cause => cause.row().words.into(),
        };
        write!(f, "{certainty}{words} ({}): {}", self.evidence.join("; "), self.advice)
    }
}

const DEFINITION_MESSAGE: &str = "invalid script definition";
const UNDECIDED: &str = "\"Invalid script definition\" is answered for a broken script and for overload alike";

/// The cause of a refusal, by what the answer says and what was sent.
pub(crate) fn classify(evidence: &Evidence<'_>) -> BadRequest {
    classify_by(evidence, &|_| true)
}

/// The same with some of the rules of words.
pub(super) fn classify_by(evidence: &Evidence<'_>, allowed: &dyn Fn(&str) -> bool) -> BadRequest {
    let known = match evidence.endpoint {
        Endpoint::Api => {
            by_code(evidence, own_code(evidence.body).into_iter().filter(|_| evidence.body.heard.is_coded))
                .or_else(|| by_definition(evidence))
                .or_else(|| by_code(evidence, own_code(evidence.body).into_iter().chain(inner_codes(evidence.body))))
                .or_else(|| by_limit(evidence.body))
        }
        Endpoint::Login => by_login_code(evidence),
        // A storage service's words, not Genesys Cloud's.
        Endpoint::SignedUrl => {
            Some(BadRequest::new(Cause::Unknown, Certainty::Possible).by("the export's host is no part of the API"))
        }
    };
    let mut found = known
        .or_else(|| by_words(evidence, allowed))
        .or_else(|| by_field(evidence))
        .or_else(|| by_headers(evidence))
        .or_else(|| by_request(evidence))
        .unwrap_or_else(|| by_speaker(evidence));
    let own_form = match evidence.endpoint {
        Endpoint::Login => matches!(evidence.body.envelope, Envelope::OAuth | Envelope::Service),
        Endpoint::Api | Endpoint::SignedUrl => evidence.body.envelope == Envelope::Service,
    };
    if !own_form {
        // Something in between may speak in the service's words, but not with its authority.
        found.certainty = found.certainty.min(Certainty::Likely);
    }
    found.by(evidence.said())
}

impl Evidence<'_> {
    /// Who says what.
    fn said(&self) -> String {
        let body = self.body;
        let words = body.said().map(|said| format!(" {said}")).unwrap_or_default();
        let form = match (body.envelope, self.endpoint) {
            (Envelope::Service, _) => "the service",
            (Envelope::OAuth, Endpoint::Login) => "the login",
            (Envelope::Gateway, Endpoint::Login) => "an answer that is not in the login's own form",
            (Envelope::OAuth | Envelope::Gateway, _) => "an answer that is not in the service's own form",
            (Envelope::Page, _) => "a page",
            (Envelope::Other, _) => "a text",
            (Envelope::Empty, _) if words.is_empty() => "an empty answer",
            (Envelope::Empty, _) => "an answer",
        };
        let of = body.speaker.as_ref().map_or_else(String::new, |speaker| format!(" of {}", shown(speaker)));
        let code = body.code().map_or_else(String::new, |code| format!(" {}", quoted(code)));
        match (code.is_empty() && words.is_empty(), body.envelope) {
            (true, Envelope::Empty) => format!("{form}{of}"),
            (true, _) => format!("{form}{of} without a word"),
            (false, _) => format!("{form}{of} says{code}{words}"),
        }
    }

    /// The words of the answer, those of its headers among them.
    pub(super) fn words(&self) -> Words {
        let heard = &self.body.heard;
        let headers = ["www-authenticate", "x-amzn-errortype", "x-error-code", "x-error-message"];
        let of_headers = headers.iter().filter_map(|name| self.header(*name)).map(|value| {
            // Of a challenge what it says of the error.
            value.split_once("error=").map_or(if value.contains('=') { "" } else { value }, |(_, error)| error)
        });
        // A code holds no names.
        let codes = self.body.code.iter().chain(&heard.codes);
        let said = self.without_data(self.body.message.iter().chain(&heard.words));
        Words::of(codes.chain(&said).map(String::as_str).chain(of_headers))
    }

    /// What the service says is data, like a script's name, is none of its words, nor is what was sent.
    fn without_data<'b>(&self, texts: impl Iterator<Item = &'b String>) -> Vec<String> {
        let (mut templates, mut data) = (Vec::new(), self.request.data.to_vec());
        data_of(self.body, &mut templates, &mut data);
        data.truncate(MOST_DATA);
        data.sort_unstable_by_key(|data| std::cmp::Reverse(data.len()));
        let of_template = |text: &str| {
            // Before a message may stand what it is about.
            let of = |(message, template): &(&str, &str)| {
                Some(format!("{}{template}", text.trim_end().strip_suffix(message)?))
            };
            templates.iter().find_map(of).unwrap_or_else(|| text.to_owned())
        };
        let of_field = |text: String| {
            let of = |field: &String| Some(format!("{}{}", as_name(field), text.strip_prefix(field.as_str())?));
            self.body.heard.fields.iter().find_map(of).unwrap_or(text)
        };
        texts.map(|text| without(&of_field(of_template(text)), &data)).collect()
    }

    fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(|value| head(value, 500).0)
    }
}

/// The field that words are about, quoted: what it is called says nothing. Where it is, like `header`, does.
fn as_name(field: &str) -> String {
    let field = field.trim_end_matches(':');
    let (place, names) = field.split_once(' ').unwrap_or(("", field));
    names.split(' ').fold(place.to_owned(), |place, name| format!("{place} '{name}'"))
}

/// What an error says is data, and its messages with the places where such data is in them; so of the errors within it.
fn data_of<'a>(body: &'a ErrorBody, templates: &mut Vec<(&'a str, &'a str)>, data: &mut Vec<&'a str>) {
    let of = |text: &'a Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty());
    // What is one such place, and nothing else, tells nothing of it.
    let says = |template: &&str| Words::of([*template]) != Words::of(["{data}"]);
    if let (Some(message), Some(template)) = (of(&body.message), of(&body.message_with_params).filter(says)) {
        templates.push((message, template));
    }
    data.extend(body.message_params.iter().map(|(_, value)| value.as_str()));
    data.extend(body.details.iter().filter_map(|detail| detail.entity_name.as_deref()).chain(of(&body.entity_name)));
    for error in &body.errors {
        data_of(error, templates, data);
    }
}

/// What a code of the service means, in its one spelling, and how sure that is.
const CODES: &[(&str, Cause, Certainty)] = {
    use Certainty::{Certain, Likely, Possible};
    const PARAMETER: Cause = Cause::InvalidParameter { name: None };
    &[
        ("too_many_requests", Cause::Quota, Certain),
        ("too_many_requests_retry_after", Cause::Quota, Certain),
        ("rate_limit_exceeded", Cause::Quota, Certain),
        ("invalid_value", PARAMETER, Certain),
        ("invalid_date", PARAMETER, Certain),
        ("invalid_parameter", PARAMETER, Certain),
        ("missing_parameter", PARAMETER, Certain),
        ("constraint_validation", PARAMETER, Likely),
        ("invalid_id", Cause::InvalidId, Certain),
        ("invalid_uuid", Cause::InvalidId, Certain),
        ("invalid_header", Cause::Header, Certain),
        ("missing_header", Cause::Header, Certain),
        ("unsupported_media_type", Cause::Header, Certain),
        ("not_acceptable", Cause::Header, Certain),
        ("invalid_json", Cause::Body, Certain),
        ("invalid_body", Cause::Body, Certain),
        ("malformed_body", Cause::Body, Certain),
        ("missing_body", Cause::Body, Certain),
        ("request_entity_too_large", Cause::Body, Certain),
        ("version_conflict", Cause::VersionConflict, Certain),
        ("version_mismatch", Cause::VersionConflict, Certain),
        ("not_published", Cause::VersionConflict, Certain),
        ("precondition_failed", Cause::VersionConflict, Likely),
        ("general_conflict", Cause::VersionConflict, Possible),
        ("invalid_session", Cause::Session, Certain),
        ("credentials_expired", Cause::Session, Certain),
        ("bad_credentials", Cause::Session, Certain),
        ("authentication_required", Cause::Session, Certain),
        // Whether it is load is never certain, whoever says so.
        ("service_unavailable", Cause::Overload, Likely),
        ("request_timeout", Cause::Overload, Possible),
        // Nothing else in the answer is a reason beside these.
        ("missing_permissions", Cause::Unknown, Possible),
        ("missing_any_permissions", Cause::Unknown, Possible),
        ("missing_division_permission", Cause::Unknown, Possible),
        ("missing_division_permissions", Cause::Unknown, Possible),
        ("missing_any_division_permissions", Cause::Unknown, Possible),
        ("missing_scope", Cause::Unknown, Possible),
        ("not_authorized", Cause::Unknown, Possible),
        ("not_found", Cause::Unknown, Possible),
    ]
};

/// By the first of these codes that is known.
fn by_code<'a>(
    evidence: &Evidence<'_>,
    mut codes: impl Iterator<Item = (&'a str, Option<&'a str>)>,
) -> Option<BadRequest> {
    codes.find_map(|(code, name)| {
        let code = plain(code);
        let (_, cause, certainty) = CODES.iter().find(|(known, ..)| *known == code)?;
        let cause = match cause {
            Cause::InvalidParameter { .. } => parameter_or_id(name),
            // A body is not blamed on a request that had none.
            Cause::Body if !evidence.request.had_body => return None,
            cause => cause.clone(),
        };
        let is_permission = cause == Cause::Unknown && code != "not_found";
        let found = BadRequest::new(cause, *certainty);
        Some(if is_permission { found.by(MISSING) } else { found })
    })
}

/// What codes say of a field's value.
const OF_VALUES: &[&str] = &[
    "invalid|null|blank|empty|required|size|length|min|max|pattern|format|type|range|deprecated",
    "not null|blank|empty|valid|supported",
    "field|value|parameter|property|argument",
];

/// Nothing but the field that the details name. Where a code says another thing, the field is that thing's.
fn by_field(evidence: &Evidence<'_>) -> Option<BadRequest> {
    let body = evidence.body;
    let is_of_value = |code: &str| {
        let words = Words::of([code]);
        words.are_generic() || words.say_any(OF_VALUES)
    };
    if evidence.endpoint != Endpoint::Api || !is_of_value(body.code().unwrap_or_default()) {
        return None;
    }
    let detail = body.details.iter().find(|detail| detail.field_name.is_some())?;
    // A permission is no field.
    let name = detail.field_name.as_deref().filter(|name| !name.contains(':'))?;
    let found = of_parameter(evidence, Some(name)).by(format!("the service names {}", quoted(name)));
    is_of_value(detail.error_code.as_deref().unwrap_or_default()).then_some(found)
}

fn parameter_or_id(name: Option<&str>) -> Cause {
    let ids = ["scriptId", "pageId", "divisionId", "uploadId", "versionId", "flowId", "id"];
    match name {
        Some(name) if ids.iter().any(|id| id.eq_ignore_ascii_case(name)) => Cause::InvalidId,
        name => Cause::InvalidParameter { name: name.map(shown) },
    }
}

/// The code of an error, and the field that it is about.
fn own_code(body: &ErrorBody) -> Option<(&str, Option<&str>)> {
    Some((body.code.as_deref()?, name_in(body)))
}

/// Those of its details, and of the errors within it: they say more than a code that says nothing.
fn inner_codes(body: &ErrorBody) -> impl Iterator<Item = (&str, Option<&str>)> {
    let of_details = |body| {
        let details: &ErrorBody = body;
        details.details.iter().filter_map(move |detail| {
            let field = detail.field_name.as_deref();
            Some((detail.error_code.as_deref()?, field.or_else(|| name_in_message(details))))
        })
    };
    let of_errors = body.errors.iter().flat_map(move |error| own_code(error).into_iter().chain(of_details(error)));
    of_details(body).chain(of_errors)
}

/// The field it is about: in the details, or in the message.
fn name_in(body: &ErrorBody) -> Option<&str> {
    let in_details = body.details.iter().find_map(|detail| detail.field_name.as_deref());
    in_details.or_else(|| name_in_message(body))
}

/// In "Value [x] is not valid for field type [pageSize]. …", the service's `invalid.value`.
fn name_in_message(body: &ErrorBody) -> Option<&str> {
    Some(body.message()?.split_once("for field type [")?.1.split_once(']')?.0)
}

/// "Invalid script definition": overload or a broken script, and only what happens around it can tell. Where more is said of
/// the definition, it is about the script, whatever the words; the request is not to blame.
fn by_definition(evidence: &Evidence<'_>) -> Option<BadRequest> {
    let request = evidence.request;
    if request.of_script && is_definition_message(evidence.body) {
        return Some(BadRequest::new(Cause::Undecided, Certainty::Possible).by(UNDECIDED));
    }
    let words = evidence.without_data(evidence.body.message.iter());
    let words = Words::of(words.iter().map(String::as_str));
    let is_of_definition =
        message_begins_with_definition(evidence.body) || evidence.body.is_object() && words.say_any(DEFINITION);
    // Of a script that was sent or asked for.
    let cause = if request.of_script || request.had_body { Cause::BrokenScript } else { Cause::Unknown };
    is_of_definition.then(|| BadRequest::new(cause, Certainty::Possible).by("it is about the script's definition"))
}

/// Whether more is said of it in the same sentence, or by the code.
fn message_begins_with_definition(body: &ErrorBody) -> bool {
    let message = body.message().unwrap_or_default().trim();
    let (begin, more) = message.split_at_checked(DEFINITION_MESSAGE.len()).unwrap_or_default();
    let ends = !more.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '\n' | '\r'));
    let says_more = more.contains(char::is_alphanumeric) || !has_definition_code(body);
    begin.eq_ignore_ascii_case(DEFINITION_MESSAGE) && ends && says_more
}

fn by_limit(body: &ErrorBody) -> Option<BadRequest> {
    let key = body.limit.as_ref()?.key.as_deref()?;
    let cause = match key {
        "request.bytes.max" => Cause::Body,
        key if key.contains("rate.per.") => Cause::Quota,
        _ => return None,
    };
    Some(BadRequest::new(cause, Certainty::Likely).by(format!("the answer names the limit {}", quoted(key))))
}

/// The codes of RFC 6749 §5.2 and those in use beside them.
fn by_login_code(evidence: &Evidence<'_>) -> Option<BadRequest> {
    use Certainty::{Certain, Likely};
    let body = evidence.body;
    if is_documented_throttle(body) {
        return Some(BadRequest::new(Cause::LoginThrottled, Certain));
    }
    let parameter = |name: &str| Cause::InvalidParameter { name: Some(name.to_owned()) };
    let (cause, certainty) = match plain(body.code().unwrap_or_default()).as_str() {
        "invalid_client" => (Cause::BadClient, Certain),
        "unauthorized_client" | "bad_credentials" => (Cause::BadClient, Likely),
        // Its code is that of a redirect URI that is another than the code was asked for with, too.
        "invalid_grant" if evidence.words().say_any(REDIRECT) => (Cause::BadRedirect, Likely),
        "invalid_grant" => (Cause::BadGrant, Likely),
        "redirect_uri_mismatch" | "invalid_redirect_uri" => (Cause::BadRedirect, Certain),
        "unsupported_grant_type" => (parameter("grant_type"), Certain),
        "invalid_scope" => (parameter("scope"), Certain),
        _ => return None,
    };
    Some(BadRequest::new(cause, certainty))
}

/// The token endpoint reports its own limit as `400 invalid_request`, "rate limit exceeded; …", as its documentation has it.
fn is_documented_throttle(body: &ErrorBody) -> bool {
    plain(body.code().unwrap_or_default()) == "invalid_request" && message_begins(body, "rate limit exceeded")
}

/// Whether the limit that a login's words name is one of how fast logins come: for that alone they are sent again.
fn is_login_limit(evidence: &Evidence<'_>) -> bool {
    let code = evidence.body.code().unwrap_or_default();
    let says_little = matches!(plain(code).as_str(), "" | "invalid_request" | "bad_request");
    (says_little || Words::of([code]).say_any(LIMIT)) && !evidence.words().say_any(OTHER_LIMITS)
}

/// By the rules of words.
fn by_words(evidence: &Evidence<'_>, allowed: &dyn Fn(&str) -> bool) -> Option<BadRequest> {
    let words = evidence.words();
    let codes = Words::of(evidence.body.heard.codes.iter().map(String::as_str));
    let is_believed = |at: Option<Endpoint>| at.is_none_or(|at| at == evidence.endpoint);
    RULES.iter().filter(|(_, at, _)| is_believed(*at)).find_map(|(what, _, says)| {
        let hear = |words: &Words| says.iter().any(|says| allowed(says) && words.say(says));
        let mut found = hear(&words).then(|| of_words(what, evidence)).flatten()?;
        // Believed as a reason, but nothing is sent again for it: words may be anybody's.
        found.passes &= hear(&codes) || evidence.endpoint == Endpoint::Login;
        Some(found)
    })
}

fn of_words(what: &What, evidence: &Evidence<'_>) -> Option<BadRequest> {
    let likely = |cause| BadRequest::new(cause, Certainty::Likely);
    let by_form = || match is_before_it(evidence) {
        true => likely(Cause::Gateway),
        false => BadRequest::new(Cause::Unknown, Certainty::Possible),
    };
    Some(match what {
        What::Is(cause) => likely(cause.clone()),
        What::OfService(_) if is_of_people(evidence) => likely(Cause::Gateway),
        What::OfService(cause) => likely(cause.clone()),
        What::Noted(means) => by_form().by(*means),
        What::Server(means) if is_before_it(evidence) => by_form().by(*means),
        What::Line if is_before_it(evidence) && took_other_bytes(evidence.body) => likely(Cause::ConnectionReuse),
        What::Server(_) | What::Line => by_form(),
        What::Limit if evidence.endpoint != Endpoint::Login => likely(Cause::Quota),
        What::Limit if is_login_limit(evidence) => likely(Cause::LoginThrottled),
        What::Body if evidence.request.had_body => likely(Cause::Body),
        What::Limit | What::Body => return None,
        What::Parameter => match of_parameter(evidence, name_in(evidence.body)) {
            // Of what was not sent a page can only mean the request itself.
            found if found.certainty == Certainty::Possible && evidence.body.envelope == Envelope::Page => by_form(),
            found => found,
        },
    })
}

/// An id or a parameter; one that was not sent is not surely at fault.
fn of_parameter(evidence: &Evidence<'_>, name: Option<&str>) -> BadRequest {
    let RequestFacts { parameters, had_body, .. } = evidence.request;
    let cause = parameter_or_id(name);
    let may_be =
        evidence.endpoint == Endpoint::Login || had_body || !parameters.is_empty() || cause == Cause::InvalidId;
    BadRequest::new(cause, if may_be { Certainty::Likely } else { Certainty::Possible })
}

/// Whether it is written for people, or speaks of a proxy, without the id that the service gives each of its answers.
fn is_of_people(evidence: &Evidence<'_>) -> bool {
    let is_of_proxy = || evidence.body.envelope == Envelope::Gateway && evidence.words().say("proxy|firewall");
    correlation_id(evidence.headers).is_none() && (evidence.body.heard.is_prose || is_of_proxy())
}

/// Whether the form is none that an API answers in.
fn is_before_it(evidence: &Evidence<'_>) -> bool {
    matches!(evidence.body.envelope, Envelope::Page | Envelope::Other)
}

/// Whether the bytes it quotes as a request's first line are none of ours.
fn took_other_bytes(body: &ErrorBody) -> bool {
    // Methods, and protocols that are refused by their names.
    const METHODS: [&str; 12] =
        ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE", "PRI", "h2", "h2c"];
    let of_line = |words: &&String| Words::of([words.as_str()]).say_any(LINE);
    body.heard.words.iter().filter(of_line).filter_map(|words| quoted_data(words)).any(|bytes| {
        let first = bytes.split_whitespace().next().unwrap_or_default();
        !first.is_empty() && !METHODS.contains(&first) && !first.starts_with(['/', '%']) && !first.starts_with("HTTP")
    })
}

/// What the answer's headers say beside its words: limits, and who may ask.
fn by_headers(evidence: &Evidence<'_>) -> Option<BadRequest> {
    let later = evidence.header(RETRY_AFTER).is_some();
    if let Some(spent) = spent_limit(evidence) {
        let certainty = if later { Certainty::Likely } else { Certainty::Possible };
        let cause = if evidence.endpoint == Endpoint::Login { Cause::LoginThrottled } else { Cause::Quota };
        return Some(BadRequest::new(cause, certainty).by(spent));
    }
    if later {
        let found = BadRequest::new(Cause::Overload, Certainty::Possible);
        return Some(found.by("its Retry-After asks to come again later"));
    }
    evidence.header(WWW_AUTHENTICATE)?;
    let cause = if evidence.endpoint == Endpoint::Login { Cause::BadClient } else { Cause::Session };
    Some(BadRequest::new(cause, Certainty::Possible).by("its WWW-Authenticate asks for other credentials"))
}

/// The header that says of a limit that nothing is left of it.
fn spent_limit(evidence: &Evidence<'_>) -> Option<String> {
    let number = |name| evidence.header(name).and_then(|value: &str| value.trim().parse::<u64>().ok());
    if let (Some(allowed), Some(count)) = (number("inin-ratelimit-allowed"), number("inin-ratelimit-count"))
        && count > allowed
    {
        return Some(format!("its headers count {count} requests of {allowed} allowed"));
    }
    evidence.headers.iter().find_map(|(name, value)| {
        let (name, value) = (name.as_str(), value.to_str().ok()?);
        let is_limit = name.contains("ratelimit") || name.contains("rate-limit");
        let mut parts = value.split([',', ';']).map(str::trim).enumerate();
        let none_left = parts.find(|(at, part)| match *part {
            "0" => *at == 0 && name.ends_with("remaining"),
            part => matches!(part, "remaining=0" | "r=0"),
        });
        let (_, none_left) = none_left.filter(|_| is_limit)?;
        // Of its value no more: it may repeat what was sent.
        Some(format!("nothing is left of its limit: {name} says {none_left}"))
    })
}

/// The service does not say; what was sent may. A guess, which only generic words, or none, make worth telling.
fn by_request(evidence: &Evidence<'_>) -> Option<BadRequest> {
    let (body, request) = (evidence.body, evidence.request);
    let by = |cause, why: String| Some(BadRequest::new(cause, Certainty::Possible).by(why));
    if evidence.endpoint != Endpoint::Api || is_before_it(evidence) || !evidence.words().are_generic() {
        return None;
    }
    if let Some(id) = request.odd_id {
        return by(Cause::InvalidId, format!("the id {} is no UUID", quoted(id)));
    }
    if !message_begins(body, "the request could not be understood") {
        return None;
    }
    if request.had_body {
        return by(Cause::Body, "it was sent with a body, and the service could not read it".to_owned());
    }
    if let [first, others @ ..] = request.parameters {
        let name = others.is_empty().then(|| shown(first));
        let sent = shown(&request.parameters.join(", "));
        return by(Cause::InvalidParameter { name }, format!("it was sent with {sent}"));
    }
    None
}

/// Nobody says why. Who spoke is seen from the form.
fn by_speaker(evidence: &Evidence<'_>) -> BadRequest {
    use Certainty::{Likely, Possible};
    let of_service = correlation_id(evidence.headers).is_some();
    match evidence.body.envelope {
        Envelope::Page | Envelope::Other if !of_service => BadRequest::new(Cause::Gateway, Likely),
        Envelope::Empty if !of_service => BadRequest::new(Cause::Gateway, Possible),
        Envelope::OAuth if plain(evidence.body.code().unwrap_or_default()) == "invalid_request" => {
            BadRequest::new(Cause::Unknown, Possible)
                .by("this code is given for what is missing or malformed, and for throttling too")
        }
        _ => BadRequest::new(Cause::Unknown, Possible),
    }
}

/// One spelling of a code: the service writes `bad.request`, some of its parts `bad_request`.
fn plain(code: &str) -> String {
    code.chars().take(64).map(|c| if matches!(c, '.' | '-' | ' ') { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Whether the message begins with these words, in any case.
fn message_begins(body: &ErrorBody, words: &str) -> bool {
    let message = body.message().unwrap_or_default().trim_start();
    message.get(..words.len()).is_some_and(|head| head.eq_ignore_ascii_case(words))
}

fn is_definition_message(body: &ErrorBody) -> bool {
    has_definition_code(body)
        && matches!(body.envelope, Envelope::Service | Envelope::Gateway)
        && body
            .message()
            .is_some_and(|message| message.trim().trim_end_matches('.').eq_ignore_ascii_case(DEFINITION_MESSAGE))
}

/// Whether the answer's own code, if it has one, says no more than the message.
fn has_definition_code(body: &ErrorBody) -> bool {
    let code = plain(body.code().filter(|_| body.heard.is_coded).unwrap_or_default());
    matches!(code.as_str(), "bad_request" | "invalid_script_definition" | "")
}

/// Whether a 400 is the one that means either load or a broken script.
pub(crate) fn is_invalid_definition(error: &super::Error) -> bool {
    error.status() == Some(400) && error.body().is_some_and(is_definition_message)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn classified(endpoint: Endpoint, headers: &[(&'static str, &'static str)], body: &str) -> BadRequest {
        of_request(endpoint, headers, body, RequestFacts::default())
    }

    fn of_request(
        endpoint: Endpoint,
        headers: &[(&'static str, &'static str)],
        body: &str,
        request: RequestFacts<'_>,
    ) -> BadRequest {
        let headers =
            headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)));
        let headers: HeaderMap = headers.collect();
        let body = ErrorBody::read(&headers, body.as_bytes(), &[]);
        classify(&Evidence { endpoint, headers: &headers, body: &body, request })
    }

    #[test]
    fn the_logins_codes_mean_what_oauth_says() {
        let parameter = |name: &str| Cause::InvalidParameter { name: Some(name.to_owned()) };
        for (code, cause, certainty) in [
            ("invalid_client", Cause::BadClient, Certainty::Certain),
            ("unauthorized_client", Cause::BadClient, Certainty::Likely),
            ("invalid_grant", Cause::BadGrant, Certainty::Likely),
            ("redirect_uri_mismatch", Cause::BadRedirect, Certainty::Certain),
            ("invalid_redirect_uri", Cause::BadRedirect, Certainty::Certain),
            ("unsupported_grant_type", parameter("grant_type"), Certainty::Certain),
            ("invalid_scope", parameter("scope"), Certainty::Certain),
            // It is given for much, and said to be.
            ("invalid_request", Cause::Unknown, Certainty::Possible),
            ("never_heard_of", Cause::Unknown, Certainty::Possible),
        ] {
            let found = classified(Endpoint::Login, &[], &format!(r#"{{"error":"{code}"}}"#));
            assert_eq!((&found.cause, found.certainty), (&cause, certainty), "{code}");
            let told = found.to_string();
            assert!(told.contains(&format!("the login says \"{code}\"")), "{told}");
            assert_eq!(told.contains("and for throttling too"), code == "invalid_request", "{told}");
        }
        let redirect = r#"{"error":"invalid_grant","error_description":"redirect_uri does not match"}"#;
        assert_eq!(classified(Endpoint::Login, &[], redirect).cause, Cause::BadRedirect);
    }

    #[test]
    fn who_spoke_is_seen_from_the_form_and_from_the_services_own_header() {
        let of_service = [("inin-correlation-id", "c-1")];
        for (body, cause, certainty) in [
            ("<html><title>No</title></html>", Cause::Gateway, Certainty::Likely),
            ("No.", Cause::Gateway, Certainty::Likely),
            ("", Cause::Gateway, Certainty::Possible),
            (r#"{"title":"No."}"#, Cause::Unknown, Certainty::Possible),
            (r#"{"error":"invalid_request"}"#, Cause::Unknown, Certainty::Possible),
        ] {
            let found = classified(Endpoint::Api, &[], body);
            assert_eq!((&found.cause, found.certainty), (&cause, certainty), "{body}");
            let found = classified(Endpoint::Api, &of_service, body);
            assert_eq!((found.cause, found.certainty), (Cause::Unknown, Certainty::Possible), "{body}");
        }
    }

    #[test]
    fn headers_speak_where_words_do_not() {
        let (api, login) = (Endpoint::Api, Endpoint::Login);
        for (endpoint, headers, cause, certainty) in [
            (api, &[("retry-after", "7")][..], Cause::Overload, Certainty::Possible),
            (login, &[("retry-after", "7")], Cause::Overload, Certainty::Possible),
            (api, &[("www-authenticate", "Basic realm=\"desk\"")], Cause::Session, Certainty::Possible),
            (login, &[("www-authenticate", "Basic realm=\"desk\"")], Cause::BadClient, Certainty::Possible),
            (api, &[("x-ratelimit-remaining", "0")], Cause::Quota, Certainty::Possible),
            (api, &[("x-rate-limit-remaining", "0, 0;w=60")], Cause::Quota, Certainty::Possible),
            (api, &[("ratelimit", "limit=10, remaining=0, reset=5")], Cause::Quota, Certainty::Possible),
            (api, &[("ratelimit", "\"default\";r=0;t=30")], Cause::Quota, Certainty::Possible),
            (api, &[("x-ratelimit-remaining", "0"), ("retry-after", "7")], Cause::Quota, Certainty::Likely),
            (login, &[("x-ratelimit-remaining", "0")], Cause::LoginThrottled, Certainty::Possible),
            (
                api,
                &[("inin-ratelimit-allowed", "300"), ("inin-ratelimit-count", "301")],
                Cause::Quota,
                Certainty::Possible,
            ),
            // These say nothing of the kind.
            (
                api,
                &[("inin-ratelimit-allowed", "300"), ("inin-ratelimit-count", "300")],
                Cause::Unknown,
                Certainty::Possible,
            ),
            (api, &[("inin-ratelimit-count", "301")], Cause::Unknown, Certainty::Possible),
            (api, &[("x-ratelimit-remaining", "10")], Cause::Unknown, Certainty::Possible),
            (api, &[("x-ratelimit-limit", "0")], Cause::Unknown, Certainty::Possible),
            (api, &[("x-seats-remaining", "0")], Cause::Unknown, Certainty::Possible),
            (api, &[("x-cache", "r=0")], Cause::Unknown, Certainty::Possible),
        ] {
            let found = classified(endpoint, headers, "{}");
            assert_eq!((&found.cause, found.certainty), (&cause, certainty), "{endpoint:?} {headers:?}: {found}");
        }
    }

    #[test]
    fn a_request_is_blamed_for_no_more_than_it_was_sent_with() {
        let with_body = RequestFacts { had_body: true, ..RequestFacts::default() };
        let json = r#"{"message":"No.","code":"invalid.json","status":400}"#;
        assert_eq!(of_request(Endpoint::Api, &[], json, with_body).cause, Cause::Body);
        assert_ne!(classified(Endpoint::Api, &[], json).cause, Cause::Body);

        let unread = r#"{"message":"The request could not be understood by the server due to malformed syntax.","code":"bad.request","status":400}"#;
        let parameter = |name: Option<&str>| Cause::InvalidParameter { name: name.map(str::to_owned) };
        let sent = |parameters| RequestFacts { parameters, ..RequestFacts::default() };
        let odd = RequestFacts { odd_id: Some("main"), parameters: &["pageSize"], ..RequestFacts::default() };
        for (request, cause) in [
            (with_body, Cause::Body),
            (sent(&["pageSize"]), parameter(Some("pageSize"))),
            (sent(&["pageSize", "sortBy"]), parameter(None)),
            (odd, Cause::InvalidId),
            (RequestFacts::default(), Cause::Unknown),
        ] {
            let found = of_request(Endpoint::Api, &[], unread, request);
            assert_eq!((&found.cause, found.certainty), (&cause, Certainty::Possible), "{request:?}: {found}");
        }
        // Neither where something else spoke, nor where the answer itself says more, nor at the login.
        let of_request = |endpoint, body| of_request(endpoint, &[], body, odd).cause;
        assert_eq!(of_request(Endpoint::Api, r#"{"message":"Bad Request","status":400}"#), Cause::InvalidId);
        assert_eq!(of_request(Endpoint::Api, "<html><title>Bad Request</title></html>"), Cause::Gateway);
        assert_eq!(of_request(Endpoint::Api, r#"{"message":"The moon is full","status":400}"#), Cause::Unknown);
        assert_eq!(of_request(Endpoint::Login, r#"{"message":"Bad Request","status":400}"#), Cause::Unknown);
    }

    #[test]
    fn a_gateway_at_the_login_is_not_the_login() {
        let told = classified(Endpoint::Login, &[], r#"{"message":"no Route matched with those values"}"#).to_string();
        assert!(told.contains("an answer that is not in the login's own form says"), "{told}");
    }

    #[test]
    fn the_name_of_a_field_is_data_and_that_of_a_header_is_not() {
        for (body, cause) in [
            (r#"{"errors":[{"field":"pages[0].header","message":"is missing"}]}"#, "invalid_parameter"),
            (r#"{"errors":[{"field":"session","message":"is invalid"}]}"#, "invalid_parameter"),
            (r#"{"errors":{"token":["is invalid"]}}"#, "invalid_parameter"),
            (r#"{"detail":[{"loc":["header","x-desk"],"msg":"field required"}]}"#, "header"),
            (r#"{"errors":[{"source":{"header":"Accept"},"title":"Not acceptable"}]}"#, "header"),
        ] {
            assert_eq!(classified(Endpoint::Api, &[], body).cause.name(), cause, "{body}");
        }
    }

    #[test]
    fn a_page_does_not_blame_a_parameter_that_was_not_sent() {
        let page = "<html><title>400 Bad Request</title><p>Request has an invalid format</p></html>";
        assert_eq!(classified(Endpoint::Api, &[], page).cause, Cause::Gateway);
        let sent = RequestFacts { parameters: &["pageSize"], ..RequestFacts::default() };
        assert_eq!(of_request(Endpoint::Api, &[], page, sent).cause, Cause::InvalidParameter { name: None });
    }

    #[test]
    fn a_name_takes_no_word_out_of_a_code() {
        let body = r#"{"message":"The SCRIPT is locked","code":"script.locked","status":400,"contextId":"c",
            "messageWithParams":"The {entity} is locked","messageParams":{"entity":"SCRIPT"}}"#;
        assert_eq!(classified(Endpoint::Api, &[], body).cause, Cause::VersionConflict);
    }

    #[test]
    fn an_address_that_is_not_let_in_lacks_no_permission() {
        for (message, noted) in [
            ("Your IP address is not authorized.", "the address it came from is not let in"),
            ("Access denied for IP 10.0.0.1", "the address it came from is not let in"),
            ("You are not authorized to perform the requested action.", MISSING),
            ("Access to this division is forbidden: missing permission", MISSING),
        ] {
            let body = serde_json::json!({ "message": message, "code": "bad.request", "status": 400 }).to_string();
            let found = classified(Endpoint::Api, &[], &body);
            assert_eq!((&found.cause, found.evidence[0].as_ref()), (&Cause::Unknown, noted), "{message}");
        }
    }

    #[test]
    fn the_header_of_a_table_is_none_of_the_requests() {
        for message in
            ["Header row of the table is invalid", "Row 3: header is missing", "The header of the table is empty"]
        {
            let body = serde_json::json!({ "message": message, "code": "bad.request", "status": 400 }).to_string();
            assert_eq!(classified(Endpoint::Api, &[], &body).cause, Cause::Unknown, "{message}");
        }
        let body = r#"{"message":"Header Accept is invalid","code":"bad.request","status":400}"#;
        assert_eq!(classified(Endpoint::Api, &[], body).cause, Cause::Header);
    }

    #[test]
    fn a_limit_is_a_quota_where_its_name_is_one() {
        for (key, cause) in [
            ("token.rate.per.minute", Cause::Quota),
            ("request.bytes.max", Cause::Body),
            ("scripts.per.division.max", Cause::Unknown),
        ] {
            let body = format!(r#"{{"message":"No.","limit":{{"key":"{key}"}}}}"#);
            assert_eq!(classified(Endpoint::Api, &[], &body).cause, cause, "{key}");
        }
    }

    #[test]
    fn half_a_character_costs_no_more_than_itself() {
        let half = r#"{"message":"Invalid script definition","code":"bad.request","status":400,"contextId":"c","entityName":"Caf\ud83d"}"#;
        let body = ErrorBody::parse(half);
        assert_eq!((body.envelope, body.entity_name.as_deref()), (Envelope::Service, Some("Caf\u{FFFD}")));
        assert!(is_definition_message(&body));
    }

    #[test]
    fn a_code_that_says_it_too_is_more_than_words_however_the_message_puts_it() {
        for body in [
            r#"{"__type":"ThrottlingException"}"#,
            r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#,
            r#"{"errorCode":"SERVICE_UNAVAILABLE","message":"The server is too busy"}"#,
        ] {
            assert!(classified(Endpoint::Api, &[], body).is_retryable(), "{body}");
        }
        assert!(!classified(Endpoint::Api, &[], r#"{"message":"Rate exceeded"}"#).is_retryable());
    }

    #[test]
    fn how_sure_a_cause_is_is_said_and_what_decides_takes_the_place_of_the_doubt() {
        for (body, begins) in [
            (r#"{"message":"No.","code":"invalid.value","status":400}"#, "certainly an invalid parameter ("),
            ("<html><title>No</title></html>", "likely a refusal by something before the service ("),
            ("", "possibly a refusal by something before the service ("),
            (r#"{"title":"No."}"#, "of unknown cause ("),
        ] {
            let told = classified(Endpoint::Api, &[], body).to_string();
            assert!(told.starts_with(begins), "{told}");
        }
        let definition = r#"{"message":"Invalid script definition","code":"bad.request","status":400}"#;
        let of_script = RequestFacts { of_script: true, ..RequestFacts::default() };
        let undecided = of_request(Endpoint::Api, &[], definition, of_script);
        assert_eq!(undecided.cause, Cause::Undecided);
        assert!(undecided.to_string().contains(UNDECIDED));
        for (found, cause) in [
            (Found::BrokenScript { failed: 3, others_served: 9, others: 9 }, Cause::BrokenScript),
            (Found::Token { failed: 3, others_served: 9, others: 9 }, Cause::Session),
            (Found::Overload { others_refused: 4, others: 9 }, Cause::Overload),
        ] {
            let decided = undecided.clone().found(found);
            assert_eq!((&decided.cause, decided.certainty), (&cause, Certainty::Likely));
            let told = decided.to_string();
            assert!(!told.contains(UNDECIDED) && told.contains("the service says \"bad.request\""), "{told}");
            assert_eq!(decided.evidence.len(), undecided.evidence.len(), "{told}");
        }
    }
}
