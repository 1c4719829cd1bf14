//! What must hold whatever comes in: the properties that the fuzz targets (`fuzz/`) and plain `cargo test` both check.
//!
//! Each takes raw bytes, reads them as lines so that seeds are readable text, and panics where its promise is broken.

#![allow(clippy::expect_used, clippy::panic)]

use std::fmt::Display;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use oauth2::basic::BasicClient;
use oauth2::{ClientId, ClientSecret, TokenUrl};
use percent_encoding::percent_decode_str;
use reqwest::{Request, Url};

use crate::error::Error;
use crate::id::{InvalidId, ScriptId};
use crate::region::base_url;
use crate::request::{self, Operation, Site, UploadForm};
use crate::resilience::retry_after::{self, Wait};
use crate::scripts::{
    ExportScript, ListScripts, PublishScript, ReadScript, ReadUploadStatus, ReadVariables, VariableType,
};

/// An id is refused with a reason a person can read, or becomes exactly one path segment that decodes to it.
///
/// Each line, of the first dozen, is tried as an id, and all of them together as one.
pub fn id(data: &[u8]) {
    let site = Site::new(url("https://api.example.com/prefix/"), HeaderValue::from_static("fuzz"));
    let text = String::from_utf8_lossy(data);
    for text in text.lines().take(12).chain([&*text]) {
        refused_or_one_segment(text, "/prefix/api/v2/scripts/", |id: &ScriptId| request::script(&site, id));
    }
}

fn refused_or_one_segment<T>(text: &str, below: &str, request: impl Fn(&T) -> Request)
where
    T: FromStr<Err = InvalidId> + Display,
{
    let id: T = match text.parse() {
        Ok(id) => id,
        Err(refused) => {
            let reason = refused.to_string();
            assert!(is_printable(&reason), "{reason:?}");
            assert!(reason.len() < 2_500, "a reason of {} bytes", reason.len());
            assert!(reason.contains(refused.kind()) && reason.contains("nothing was sent"), "{reason}");
            assert!(!is_uuid(text), "a UUID was refused: {reason}");
            return;
        }
    };
    assert_eq!(id.to_string(), text);
    assert!(!text.is_empty() && text.len() <= 256 && text.trim() == text && is_printable(text), "accepted {text:?}");
    for word in ["published", "divisionviews", "uploads", "null", "undefined", "<EOF>"] {
        assert!(!text.eq_ignore_ascii_case(word), "accepted {text:?}");
    }
    let url = request(&id).url().clone();
    assert_eq!((url.query(), url.fragment()), (None, None), "{text:?} left its path: {url}");
    let segment = url.path().strip_prefix(below).unwrap_or_else(|| panic!("{text:?} left {below}: {url}"));
    assert!(!segment.contains(['/', '\\']), "{text:?} is more than a segment: {url}");
    assert_eq!(decoded(segment), text, "{url}");
    // Nor may it walk up behind a gateway that decodes once more than it should.
    for form in [segment, &decoded(segment), &decoded(&decoded(segment))] {
        assert!(!matches!(form, "" | "." | ".."), "{text:?} is a dot segment: {url}");
    }
    assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(&url), "the URL reads back as another");
}

/// A request stays on the configured host, below its prefix, on its operation's route and no more specific
/// one; its headers are valid; no secret is in its URL.
///
/// Lines: the base URL, the user agent, then the parameters in the order in which the operation takes them. The login
/// takes the client id and its secret.
pub fn request(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let (Some(base), Some(user_agent)) = (lines.next(), lines.next()) else { return };
    let base = match base_url("api", base) {
        Ok(base) => base,
        Err(refused) => {
            assert!(is_printable(&refused.to_string()), "{refused:?}");
            return;
        }
    };
    assert!(base.scheme() == "https" || is_loopback(&base), "tokens would travel in clear to {base}");
    let Ok(user_agent) = HeaderValue::try_from(user_agent) else { return };
    let site = Site::new(base.clone(), user_agent);
    for (operation, build) in OPERATIONS {
        let mut parameters = Parameters { lines: lines.clone(), ids: Vec::new(), texts: Vec::new() };
        if let Some(request) = build(&site, &mut parameters) {
            assert_eq!(request.method(), &operation.method);
            assert_on_route(request.url(), &base, operation.route, &parameters.ids);
            for text in &parameters.texts {
                let asked = request.url().query_pairs().any(|(_, value)| value == *text);
                assert!(asked, "{text:?} is not what {} asks", request.url());
            }
            assert!(!request.headers().contains_key(AUTHORIZATION), "the bearer is put on for each attempt, not here");
            assert_eq!(request.body().is_some(), request.method() == http::Method::POST, "{}", operation.name);
            assert_sendable(request);
        }
    }
    // Finding the secret is no accident, unless the input has it elsewhere too: fuzzers learn such words.
    let known =
        [&*text, &decoded(&text), base.as_str(), &decoded(base.as_str())].iter().any(|text| text.contains(MARK));
    if let (Some(id), Some(secret), false) = (lines.next(), lines.next(), known) {
        login(&site, &base, id, secret);
    }
}

/// Part of every secret, so that it can be told from other text.
const MARK: &str = "5ecret-of-the-client";

type Build = fn(&Site, &mut Parameters<'_>) -> Option<Request>;

/// Every operation, one a line. Path parameters are taken first, in the order of the route.
#[rustfmt::skip]
static OPERATIONS: &[(&Operation, Build)] = &[
    (&request::GET_SCRIPT, |site, given| Some(request::script(site, &given.id()?))),
    (&request::GET_SCRIPT_PAGE, |site, given| Some(request::script_page(site, &given.id()?, &given.id()?, &given.reading()))),
    (&request::GET_SCRIPT_PAGES, |site, given| Some(request::script_pages(site, &given.id()?, &given.reading()))),
    (&request::LIST_SCRIPTS, |site, given| Some(request::list(site, &request::LIST_SCRIPTS, &given.listing(), 1))),
    (&request::LIST_SCRIPTS_IN_DIVISIONS, |site, given| Some(request::list(site, &request::LIST_SCRIPTS_IN_DIVISIONS, &given.listing(), 2))),
    (&request::LIST_PUBLISHED_SCRIPTS, |site, given| Some(request::list(site, &request::LIST_PUBLISHED_SCRIPTS, &given.listing(), 3))),
    (&request::LIST_PUBLISHED_SCRIPTS_IN_DIVISIONS, |site, given| Some(request::list(site, &request::LIST_PUBLISHED_SCRIPTS_IN_DIVISIONS, &given.listing(), 4))),
    (&request::GET_PUBLISHED_SCRIPT, |site, given| Some(request::published_script(site, &given.id()?, &given.reading()))),
    (&request::GET_PUBLISHED_SCRIPT_PAGE, |site, given| Some(request::published_script_page(site, &given.id()?, &given.id()?, &given.reading()))),
    (&request::GET_PUBLISHED_SCRIPT_PAGES, |site, given| Some(request::published_script_pages(site, &given.id()?, &given.reading()))),
    (&request::GET_PUBLISHED_VARIABLES, |site, given| Some(request::published_variables(site, &given.id()?, &given.variables()))),
    (&request::GET_PUBLISHED_VARIABLES_IN_DIVISIONS, |site, given| Some(request::published_variables_in_divisions(site, &given.id()?, &given.variables()))),
    (&request::GET_UPLOAD_STATUS, |site, given| Some(request::upload_status(site, &given.id()?, &ReadUploadStatus { long_poll: true }))),
    (&request::EXPORT_SCRIPT, |site, given| Some(request::export(site, &given.id()?, &ExportScript { version_id: given.id(), file_name: given.line() }))),
    (&request::PUBLISH_SCRIPT, |site, given| Some(request::publish(site, &given.id()?, &PublishScript { version_id: given.id(), script_data_version: given.text() }))),
    (&request::DELETE_SCRIPT, |site, given| Some(request::delete(site, &given.id()?))),
    (&request::MOVE_TO_DIVISION, |site, given| { let division = given.id()?; Some(request::move_to_division(site, &given.id()?, &division)) }),
    (&request::UPLOAD_SCRIPT, |site, given| Some(request::upload(site, &UploadForm::new("{}".into(), &given.line()?, given.id().as_ref()).ok()?))),
    (&request::GET_TOKEN, |site, _| Some(request::own_token(site, &request::GET_TOKEN))),
    (&request::DELETE_TOKEN, |site, _| Some(request::own_token(site, &request::DELETE_TOKEN))),
];

/// The routes of the Scripts API (contract §1), whether the crate calls them or not: none may be hit instead of another.
const ROUTES: &[&str] = &[
    "/api/v2/scripts",
    "/api/v2/scripts/{scriptId}",
    "/api/v2/scripts/{scriptId}/export",
    "/api/v2/scripts/{scriptId}/pages",
    "/api/v2/scripts/{scriptId}/pages/{pageId}",
    "/api/v2/scripts/divisionviews",
    "/api/v2/scripts/published",
    "/api/v2/scripts/published/divisionviews",
    "/api/v2/scripts/published/divisionviews/{scriptId}/variables",
    "/api/v2/scripts/published/{scriptId}",
    "/api/v2/scripts/published/{scriptId}/pages",
    "/api/v2/scripts/published/{scriptId}/pages/{pageId}",
    "/api/v2/scripts/published/{scriptId}/variables",
    "/api/v2/scripts/uploads/{uploadId}/status",
    "/api/v2/authorization/divisions/{divisionId}/objects/SCRIPT",
    "/api/v2/tokens/me",
    "/uploads/v2/scripter",
];

/// What an operation is given: the lines that are left, each used once.
struct Parameters<'a> {
    lines: std::str::Lines<'a>,
    /// For the path, in order, or for the body.
    ids: Vec<String>,
    /// For the query.
    texts: Vec<String>,
}

impl Parameters<'_> {
    fn line(&mut self) -> Option<String> {
        self.lines.next().map(str::to_owned)
    }

    /// The next line as an id; `None` where there is none or it is refused.
    fn id<T: FromStr + Display>(&mut self) -> Option<T> {
        let id: T = self.lines.next()?.parse().ok()?;
        self.ids.push(id.to_string());
        Some(id)
    }

    /// The next line as free text in the query.
    fn text(&mut self) -> Option<String> {
        let text = self.line()?;
        self.texts.push(text.clone());
        Some(text)
    }

    fn reading(&mut self) -> ReadScript {
        ReadScript { script_data_version: self.text() }
    }

    fn variables(&mut self) -> ReadVariables {
        ReadVariables {
            input: Some(true),
            output: Some(false),
            variable_type: Some(VariableType::Number),
            script_data_version: self.text(),
        }
    }

    fn listing(&mut self) -> ListScripts {
        ListScripts {
            expand: self.text(),
            name: self.text(),
            feature: self.text(),
            script_data_version: self.text(),
            flow_id: self.id(),
            division_ids: std::iter::from_fn(|| self.id()).take(2).collect(),
            ..ListScripts::default()
        }
    }
}

/// The login as oauth2 makes it.
fn login(site: &Site, base: &Url, id: &str, secret: &str) {
    let secret = format!("{secret}-{MARK}");
    let token_url = TokenUrl::new("https://login.invalid/oauth/token".to_owned()).expect("a URL");
    let sent = std::cell::RefCell::new(None);
    let _ = BasicClient::new(ClientId::new(id.to_owned()))
        .set_client_secret(ClientSecret::new(secret.clone()))
        .set_token_uri(token_url)
        .exchange_client_credentials()
        .request(&|exchange: oauth2::HttpRequest| {
            *sent.borrow_mut() = Some(exchange);
            Err::<oauth2::HttpResponse, _>(std::io::Error::other("not sent"))
        });
    let Some(exchange) = sent.into_inner() else { return };
    let request = request::login(site, &exchange);
    assert_eq!(request.method(), http::Method::POST);
    assert_on_route(request.url(), base, "/oauth/token", &[]);
    assert!(request.headers().get(AUTHORIZATION).is_some_and(HeaderValue::is_sensitive), "Basic is not marked");
    assert!(!decoded(request.url().as_str()).contains(MARK));
    assert!(!format!("{request:?}").contains(MARK));
    assert_sendable(request);
}

fn assert_on_route(url: &Url, base: &Url, route: &str, ids: &[String]) {
    assert_eq!(url.origin(), base.origin(), "{url} left the host of {base}");
    assert_eq!((url.scheme(), url.host(), url.port()), (base.scheme(), base.host(), base.port()));
    assert_eq!((url.username(), url.password(), url.fragment()), ("", None, None), "{url}");
    for (key, _) in url.query_pairs() {
        assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{url}");
        assert!(!key.to_ascii_lowercase().contains("token"), "a token in the query: {url}");
    }
    assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(url), "the URL reads back as another");

    let below = url
        .path()
        .strip_prefix(base.path().trim_end_matches('/'))
        .unwrap_or_else(|| panic!("{url} left the prefix of {base}"));
    let segments: Vec<String> = below.split('/').map(decoded).collect();
    let template: Vec<&str> = route.split('/').collect();
    assert_eq!(segments.len(), template.len(), "{below} is not on {route}");
    let mut ids = ids.iter();
    for (segment, part) in segments.iter().zip(&template) {
        if is_parameter(part) {
            assert_eq!(Some(segment), ids.next(), "{below} is not on {route}");
        } else {
            assert_eq!(segment, part, "{below} is not on {route}");
        }
    }
    for other in ROUTES {
        let other: Vec<&str> = other.split('/').collect();
        let also_matches = other.len() == segments.len()
            && other
                .iter()
                .zip(&segments)
                .all(|(part, segment)| is_parameter(part) || part.eq_ignore_ascii_case(segment));
        let more_specific = other.iter().zip(&template).any(|(other, ours)| !is_parameter(other) && is_parameter(ours));
        assert!(!(also_matches && more_specific), "{below}, meant for {route}, is on {}", other.join("/"));
    }
}

/// Whether the HTTP layer takes it as it is, with the headers every request has.
fn assert_sendable(request: Request) {
    let only = |name| {
        let values: Vec<_> = request.headers().get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        assert!(values.len() <= 1, "{name} twice");
        values.first().copied()
    };
    assert_eq!(only(ACCEPT), Some(&b"application/json"[..]));
    assert!(only(USER_AGENT).is_some());
    assert_eq!(only(HOST), None, "the URL alone says where it goes");
    if request.body().is_some() {
        let content_type = only(CONTENT_TYPE).expect("a body has a type");
        assert!(content_type.starts_with(b"application/") || content_type.starts_with(b"multipart/form-data"));
    }
    for (name, value) in request.headers() {
        // By RFC 9110 §5.5: visible characters, spaces, tabs and opaque bytes above them.
        assert!(value.as_bytes().iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)), "{name}");
    }
    let url = request.url().clone();
    assert!(http::Request::<reqwest::Body>::try_from(request).is_ok(), "no request can be sent to {url}");
}

/// `Retry-After` never panics, never makes us wait longer than the cap, and never shorter than it says.
///
/// Lines: the clock in seconds from 1970 (negative before), the cap in seconds, then header lines: `Date: …`, all else is
/// the value of a `Retry-After`.
pub fn retry_after(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let now = clock(number(lines.next().unwrap_or_default()));
    let cap = Duration::from_secs(u64::try_from(number(lines.next().unwrap_or_default())).unwrap_or(0));
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.strip_prefix(b"Date: ").map_or((RETRY_AFTER, line), |date| (DATE, date));
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
        if let Some(wait) = retry_after::hint(&String::from_utf8_lossy(line), cap) {
            assert_capped(wait, cap);
        }
    }
    let wait = retry_after::read(&headers, now, cap);
    if let Some(wait) = wait {
        assert_capped(wait, cap);
    }
    let waits = wait.map(|(Wait::AtLeast(wait) | Wait::BeyondCap(wait))| wait);
    for line in headers.get_all(RETRY_AFTER) {
        let Some(text) = line.to_str().ok().map(|text| text.trim_matches([' ', '\t'])) else { continue };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let asked = Duration::from_secs(text.parse().unwrap_or(u64::MAX));
            assert!(waits.is_some_and(|wait| wait >= asked), "{text} was read as {wait:?}");
        }
        if let (Ok(at), false) = (httpdate::parse_http_date(text), headers.contains_key(DATE)) {
            let asked = at.duration_since(now).unwrap_or(Duration::ZERO);
            assert!(waits.is_some_and(|wait| wait >= asked), "{text} was read as {wait:?} at {now:?}");
        }
    }
}

fn assert_capped(wait: Wait, cap: Duration) {
    match wait {
        Wait::AtLeast(wait) => assert!(wait <= cap, "a wait of {wait:?} is above the cap of {cap:?}"),
        Wait::BeyondCap(wait) => assert!(wait > cap, "a wait of {wait:?} is within the cap of {cap:?}"),
    }
}

/// The number at the line's start, held to what can be counted.
fn number(line: &[u8]) -> i128 {
    let (sign, digits) = line.strip_prefix(b"-").map_or((1, line), |digits| (-1, digits));
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    sign * digits.fold(0_i128, |number, byte| (number * 10 + i128::from(byte - b'0')).min(u64::MAX.into()))
}

/// That many seconds from 1970, or the last moment on that side that the platform can tell.
fn clock(seconds: i128) -> SystemTime {
    let mut distance = Duration::from_secs(u64::try_from(seconds.unsigned_abs()).unwrap_or(u64::MAX));
    loop {
        let at = if seconds < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        };
        match at {
            Some(at) => return at,
            None => distance /= 2,
        }
    }
}

fn url(text: &str) -> Url {
    base_url("api", text).unwrap_or_else(|error: Error| panic!("{error}"))
}

fn decoded(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

fn is_parameter(part: &str) -> bool {
    part.starts_with('{')
}

/// Nothing in it that a terminal obeys or an eye cannot see.
fn is_printable(text: &str) -> bool {
    !text.chars().any(|c| {
        c.is_control()
            || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
    })
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Whether the host is this machine, told in another way than `region.rs` does.
fn is_loopback(base: &Url) -> bool {
    match (base.domain(), base.host_str()) {
        (Some(domain), _) => domain == "localhost",
        (None, Some(address)) => address == "[::1]" || address.starts_with("127."),
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// Seeds are also the regressions: an input that the fuzzer found goes there.
    fn each_seed(target: &str, property: fn(&[u8])) {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        // Cargo writes this file into packages, which have no seeds.
        if here.join("Cargo.toml.orig").exists() {
            return;
        }
        let seeds = here.join("fuzz/seeds").join(target);
        let mut run = 0;
        for seed in std::fs::read_dir(&seeds).unwrap_or_else(|error| panic!("{}: {error}", seeds.display())) {
            let path = seed.expect("a directory entry").path();
            println!("{}", path.display());
            property(&std::fs::read(&path).expect("a seed"));
            run += 1;
        }
        assert!(run > 0, "{} has no seeds", seeds.display());
    }

    #[test]
    fn every_seed_of_ids() {
        each_seed("id", super::id);
    }

    #[test]
    fn every_seed_of_requests() {
        each_seed("request", super::request);
    }

    #[test]
    fn every_seed_of_retry_after() {
        each_seed("retry_after", super::retry_after);
    }

    /// Else the property of requests says nothing of it.
    #[test]
    fn every_operation_is_fuzzed() {
        let source = include_str!("request.rs");
        let declared: Vec<_> = source
            .lines()
            .filter_map(|line| line.strip_prefix("pub(crate) static ")?.split_once(": Operation"))
            .collect();
        assert!(declared.len() >= 20, "{declared:?}");
        for (operation, _) in declared {
            // Where an export is read from is the service's to say.
            let listed = include_str!("fuzzing.rs").contains(&format!("(&request::{operation}, "));
            assert!(listed || operation == "DOWNLOAD_EXPORT", "{operation} is not in OPERATIONS");
        }
    }

    /// Pieces of what feeders, gateways and attackers make of ids.
    #[rustfmt::skip]
    const PIECES: &[&str] = &[
        ".", "..", "%2e", "%2E%2E", "%252e", "/", "\\", "%2f", "%5c", "?", "#", "&", "=", ";", ":", "@", "%", "%%", "%0", "+", " ",
        "\t", "\n", "\r\n", "\0", "\u{1b}[31m", "\u{7f}", "\u{85}", "\u{a0}", "\u{ad}", "\u{200b}", "\u{202e}", "\u{feff}", "\u{3000}",
        "published", "divisionviews", "uploads", "Published", "${", "{{", "}}", "}", "${scriptId}", "%scriptId%", "<EOF>", "<", ">", "null",
        "undefined", "scriptId", "script_id", "é", "🦀", "a", "-", "_", "~", "476c2b71-7429-11e4-9a5b-3f91746bffa3", "\"", "'", "|", "^", "`",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn ten_thousand_ids_are_refused_or_one_segment(
            text in prop_oneof![
                vec(any::<char>(), 0..300).prop_map(String::from_iter),
                vec(select(PIECES), 0..8).prop_map(|pieces| pieces.concat()),
                vec(prop_oneof![select(PIECES).prop_map(str::to_owned), any::<char>().prop_map(String::from)], 0..12)
                    .prop_map(|pieces| pieces.concat()),
                "[ -~]{0,40}",
            ]
        ) {
            super::id(text.as_bytes());
        }
    }
}
