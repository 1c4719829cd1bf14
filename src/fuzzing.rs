//! What must hold whatever comes in: the properties that the fuzz targets (`fuzz/`) and plain `cargo test` both check.
//!
//! Each takes raw bytes, reads them as lines so that seeds are readable text, and panics where its promise is broken.

#![allow(clippy::expect_used, clippy::panic)]

use std::fmt::Display;
use std::str::{FromStr, Lines};
use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use percent_encoding::percent_decode_str;
use reqwest::{Request, Url};

use crate::auth::{OAuthClient, login};
use crate::error::Error;
use crate::id::{DivisionId, InvalidId, PageId, ScriptId, UploadId, is_uuid};
use crate::region::base_url;
use crate::request::{self, Body, OPERATIONS, OnHost, Operation, Query, Site, Spec};
use crate::retry;
use crate::scripts::{
    ExportScript, ListScripts, PublishScript, ReadScript, ReadUploadStatus, ReadVariables, VariableType, upload_form,
};

/// An id is refused with a reason a person can read, or becomes exactly one path segment that decodes to it.
///
/// Each line, of the first dozen, is tried as an id, and all of them together as one.
pub fn id(data: &[u8]) {
    let site = Site::new(url("https://api.example.com/prefix/"), HeaderValue::from_static("fuzz"));
    let text = String::from_utf8_lossy(data);
    for text in text.lines().take(12).chain([&*text]) {
        refused_or_one_segment(text, "/prefix/api/v2/scripts/", |id: &ScriptId| {
            site.request(&Spec::of(&request::GET_SCRIPT, &[id.as_str()]))
        });
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
    for word in route_words().chain(["null", "undefined", "<EOF>"]) {
        assert!(!text.eq_ignore_ascii_case(word), "accepted {text:?}");
    }
    assert!(!text.contains(['/', '\\']) && decoded(text) == text, "accepted {text:?}");
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

/// The words that the routes of scripts have where an id could be.
pub(crate) fn route_words() -> impl Iterator<Item = &'static str> {
    let below_scripts = OPERATIONS.iter().filter_map(|operation| operation.route.strip_prefix("/api/v2/scripts/"));
    below_scripts.flat_map(|route| route.split('/')).filter(|part| !is_parameter(part))
}

/// A request stays on the configured host, below its prefix, on its operation's route and no more specific
/// one; its headers are valid; it asks what it was given, and no secret is in its URL.
///
/// Lines: the base URL, the user agent, then what each operation is given: its path's ids in order, then text and ids for
/// queries and bodies. The login takes the client id and its secret, a download where it leads from the base.
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
    for operation in OPERATIONS {
        match operation.host {
            OnHost::Download => download(&site, &base, operation, lines.clone().next().unwrap_or_default()),
            _ => each_request(&site, &base, operation, lines.clone()),
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

/// The requests of an operation: without a query and with one, and with each body if it takes one.
fn each_request(site: &Site, base: &Url, operation: &'static Operation, mut lines: Lines<'_>) {
    let Some(ids) = ids(operation, &mut lines) else { return };
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let given = Given::read(lines);
    let query = given.query();
    for text in &given.texts {
        assert!(query.iter().any(|(_, value)| value == text), "{text:?} is not asked for");
    }
    let bodies = if operation.method == http::Method::POST { given.bodies() } else { vec![None] };
    for query in [Query::new(), query] {
        for body in &bodies {
            let spec = Spec { body: body.clone(), ..Spec::of(operation, &ids).query(query.clone()) };
            let request = site.request(&spec);
            assert_eq!(request.method(), &operation.method);
            assert_on_route(request.url(), base, operation.route, &ids);
            let asked = request.url().query_pairs();
            assert!(asked.eq(query.iter().map(|(name, value)| ((*name).into(), value.clone()))), "{}", request.url());
            assert_eq!(request.url().query().is_some(), !query.is_empty(), "{}", request.url());
            assert!(!request.headers().contains_key(AUTHORIZATION), "the bearer is put on for each attempt, not here");
            let sent = request.body().map(|body| body.as_bytes());
            assert_eq!(sent, body.as_ref().map(|body| Some(&*body.bytes)), "{}", operation.name);
            assert_sendable(request, b"application/json");
        }
    }
}

/// Goes where it says and nowhere else.
fn download(site: &Site, base: &Url, operation: &'static Operation, path: &str) {
    let Ok(address) = base.join(path) else { return };
    let request = site.request(&Spec { address: Some(&address), ..Spec::of(operation, &[]) });
    assert_eq!((request.url(), request.method()), (&address, &operation.method));
    assert!(!request.headers().contains_key(AUTHORIZATION) && request.body().is_none());
    if address.as_str().parse::<http::Uri>().is_ok() {
        assert_sendable(request, b"*/*");
    }
}

/// The next lines as the ids of the path; `None` where one is missing or refused.
fn ids(operation: &Operation, lines: &mut Lines<'_>) -> Option<Vec<String>> {
    fn accepted<T: FromStr + Display>(text: Option<&str>) -> Option<String> {
        text?.parse().ok().map(|id: T| id.to_string())
    }
    let parameters = operation.route.split('/').filter(|part| is_parameter(part));
    parameters
        .map(|parameter| match parameter {
            "{scriptId}" => accepted::<ScriptId>(lines.next()),
            "{pageId}" => accepted::<PageId>(lines.next()),
            "{divisionId}" => accepted::<DivisionId>(lines.next()),
            "{uploadId}" => accepted::<UploadId>(lines.next()),
            "{objectType}" => Some("SCRIPT".to_owned()),
            other => panic!("no type of id is known for {other}"),
        })
        .collect()
}

/// What operations can be asked and sent, of the lines that are left.
struct Given {
    /// For the query.
    texts: Vec<String>,
    listing: ListScripts,
    publishing: PublishScript,
    export: ExportScript,
    script: Option<ScriptId>,
}

impl Given {
    fn read(mut lines: Lines<'_>) -> Self {
        let mut texts = Vec::new();
        let mut text = || lines.next().map(str::to_owned).inspect(|text| texts.push(text.clone()));
        let listing = ListScripts {
            script_data_version: text(),
            expand: text(),
            name: text(),
            feature: text(),
            ..ListScripts::default()
        };
        let publishing = PublishScript { version_id: None, script_data_version: listing.script_data_version.clone() };
        let flow_id = lines.next().and_then(|line| line.parse().ok());
        let division_ids = lines.clone().map_while(|line| line.parse().ok()).take(2).collect();
        let version_id = lines.next().and_then(|line| line.parse().ok());
        Self {
            texts,
            export: ExportScript { file_name: listing.name.clone(), version_id },
            publishing: PublishScript { version_id: lines.next().and_then(|line| line.parse().ok()), ..publishing },
            script: listing.script_data_version.as_ref().and_then(|text| text.parse().ok()),
            listing: ListScripts { flow_id, division_ids, ..listing },
        }
    }

    /// All that any operation can be asked.
    fn query(&self) -> Query<'_> {
        let data_version = &self.listing.script_data_version;
        let variables = ReadVariables {
            input: Some(true),
            output: Some(false),
            variable_type: Some(VariableType::Number),
            script_data_version: None,
        };
        let reading = ReadScript { script_data_version: data_version.clone() };
        let owned = [reading.query(), variables.query(), ReadUploadStatus { long_poll: true }.query()].concat();
        let owned = owned.into_iter().map(|(name, value)| (name, value.into_owned().into()));
        owned.chain(self.publishing.query()).chain(self.listing.query(7)).collect()
    }

    fn bodies(&self) -> Vec<Option<Body>> {
        let name = self.listing.name.as_deref().unwrap_or_default();
        let form = upload_form::encode("{}".into(), name, self.script.as_ref()).expect("a form");
        let publishing = self.script.as_ref().map(|script| self.publishing.body(script));
        [Some(self.export.body()), publishing, Some(form)].into_iter().filter(Option::is_some).collect()
    }
}

/// The login of a client with that id and secret.
fn login(site: &Site, base: &Url, id: &str, secret: &str) {
    let client = OAuthClient::new(id, format!("{secret}-{MARK}"));
    let spec = login::spec(&request::CLIENT_LOGIN, &client, &[("grant_type", "client_credentials")]);
    let request = site.request(&spec.expect("base64 fits into a header"));
    assert_eq!(request.method(), http::Method::POST);
    assert!(request.body().and_then(reqwest::Body::as_bytes).is_some_and(|body| !body.is_empty()));
    assert_on_route(request.url(), base, "/oauth/token", &[]);
    assert!(request.headers().get(AUTHORIZATION).is_some_and(HeaderValue::is_sensitive), "Basic is not marked");
    assert!(!decoded(request.url().as_str()).contains(MARK));
    assert!(!format!("{request:?}").contains(MARK));
    assert_sendable(request, b"application/json");
}

fn assert_on_route(url: &Url, base: &Url, route: &str, ids: &[&str]) {
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
            assert_eq!(Some(&segment.as_str()), ids.next(), "{below} is not on {route}");
        } else {
            assert_eq!(segment, part, "{below} is not on {route}");
        }
    }
    for other in OPERATIONS {
        let other: Vec<&str> = other.route.split('/').collect();
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
fn assert_sendable(request: Request, accept: &[u8]) {
    let only = |name| {
        let values: Vec<_> = request.headers().get_all(&name).iter().map(HeaderValue::as_bytes).collect();
        assert!(values.len() <= 1, "{name} twice");
        values.first().copied()
    };
    assert_eq!(only(ACCEPT), Some(accept));
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

/// `Retry-After` never panics, and never makes us wait shorter than it says.
///
/// Lines: the clock in seconds from 1970 (negative before), then header lines: `Date: …`, all else is the value of a
/// `Retry-After`, and a text that may hold a hint.
pub fn retry_after(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let now = clock(number(lines.next().unwrap_or_default()));
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.strip_prefix(b"Date: ").map_or((RETRY_AFTER, line), |date| (DATE, date));
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
        let _ = retry::hint(&String::from_utf8_lossy(line));
    }
    let wait = retry::retry_after(&headers, now);
    for line in headers.get_all(RETRY_AFTER) {
        let Some(text) = line.to_str().ok().map(|text| text.trim_matches([' ', '\t'])) else { continue };
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let asked = Duration::from_secs(text.parse().unwrap_or(u64::MAX));
            assert!(wait.is_some_and(|wait| wait >= asked), "{text} was read as {wait:?}");
        }
        if let (Ok(at), false) = (httpdate::parse_http_date(text), headers.contains_key(DATE)) {
            let asked = at.duration_since(now).unwrap_or(Duration::ZERO);
            assert!(wait.is_some_and(|wait| wait >= asked), "{text} was read as {wait:?} at {now:?}");
        }
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

    proptest! {
        // Each makes some seventy requests.
        #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_given_makes_requests_on_their_routes(
            base in select(&["https://api.mypurecloud.de", "https://gw.example.com/a//", "http://127.1/%2e%2e/b;c", "HTTPS:/x{y/é"][..]),
            lines in vec(vec(select(PIECES), 1..4).prop_map(|pieces| pieces.concat()), 0..10),
        ) {
            super::request(format!("{base}\nproptest\n{}", lines.join("\n")).as_bytes());
        }
    }
}
