//! Requests: what is sent where.

use std::fmt::Display;
use std::str::{FromStr, Lines};

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use reqwest::{Request, Url};

use super::{decoded, is_loopback, is_parameter, is_printable};
use crate::auth::{OAuthClient, login};
use crate::id::{DivisionId, PageId, ScriptId, UploadId};
use crate::region::base_url;
use crate::request::{self, Body, OPERATIONS, OnHost, Operation, Query, Site, Spec};
use crate::scripts::{
    ExportScript, ListScripts, PublishScript, ReadScript, ReadUploadStatus, ReadVariables, VariableType, upload_form,
};

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
pub(super) fn ids(operation: &Operation, lines: &mut Lines<'_>) -> Option<Vec<String>> {
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
pub(super) struct Given {
    /// For the query.
    texts: Vec<String>,
    listing: ListScripts,
    publishing: PublishScript,
    export: ExportScript,
    script: Option<ScriptId>,
}

impl Given {
    pub(super) fn read(mut lines: Lines<'_>) -> Self {
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
    pub(super) fn query(&self) -> Query<'_> {
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
