//! Requests, built by pure functions: an operation and its parameters in, a [`Request`] out.
//!
//! No I/O, no clock, no token (the bearer is put on for each attempt, in `call.rs`). Fuzzed: whatever the
//! ids and the base URL, the request stays on the configured host, below its prefix, on its own route.

use std::borrow::Cow;

use bytes::Bytes;
use futures_util::{FutureExt, TryStreamExt};
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, USER_AGENT};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, Request, Url};
use serde_json::json;

use crate::error::Error;
use crate::id::{DivisionId, PageId, ScriptId, UploadId};
use crate::scripts::{ExportScript, ListScripts, PublishScript, ReadScript, ReadUploadStatus, ReadVariables};
use crate::text::encode_segment;

/// An operation of the API: what it is called, how it is sent, and whether it may be sent again.
#[derive(Debug)]
pub(crate) struct Operation {
    /// In errors and traces.
    pub(crate) name: &'static str,
    pub(crate) method: Method,
    /// The path as a template: each `{parameter}` becomes one segment.
    pub(crate) route: &'static str,
    pub(crate) repeat: Repeat,
}

impl Operation {
    /// Whether it is about one script, by its id.
    pub(crate) fn is_of_script(&self) -> bool {
        self.route.contains("{scriptId}")
    }
}

/// When a request may be sent again after a failure. A 429 may always be: the service did not act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It is idempotent (RFC 9110 §9.2.2).
    Always,
    /// Only where it never left: a second one could act twice, or spend a one-time secret.
    IfNeverSent,
    /// Where it never left, and once more where its answer was lost.
    OnceIfLost,
}

impl Operation {
    const fn get(name: &'static str, route: &'static str) -> Self {
        Self { name, method: Method::GET, route, repeat: Repeat::Always }
    }

    const fn delete(name: &'static str, route: &'static str) -> Self {
        Self { name, method: Method::DELETE, route, repeat: Repeat::Always }
    }

    const fn post(name: &'static str, route: &'static str) -> Self {
        Self { name, method: Method::POST, route, repeat: Repeat::IfNeverSent }
    }
}

pub(crate) static GET_SCRIPT: Operation = Operation::get("get script", "/api/v2/scripts/{scriptId}");
pub(crate) static GET_SCRIPT_PAGE: Operation =
    Operation::get("get script page", "/api/v2/scripts/{scriptId}/pages/{pageId}");
pub(crate) static GET_SCRIPT_PAGES: Operation = Operation::get("get script pages", "/api/v2/scripts/{scriptId}/pages");
pub(crate) static LIST_SCRIPTS: Operation = Operation::get("list scripts", "/api/v2/scripts");
pub(crate) static LIST_SCRIPTS_IN_DIVISIONS: Operation =
    Operation::get("list scripts in divisions", "/api/v2/scripts/divisionviews");
pub(crate) static LIST_PUBLISHED_SCRIPTS: Operation =
    Operation::get("list published scripts", "/api/v2/scripts/published");
pub(crate) static LIST_PUBLISHED_SCRIPTS_IN_DIVISIONS: Operation =
    Operation::get("list published scripts in divisions", "/api/v2/scripts/published/divisionviews");
pub(crate) static GET_PUBLISHED_SCRIPT: Operation =
    Operation::get("get published script", "/api/v2/scripts/published/{scriptId}");
pub(crate) static GET_PUBLISHED_SCRIPT_PAGE: Operation =
    Operation::get("get published script page", "/api/v2/scripts/published/{scriptId}/pages/{pageId}");
pub(crate) static GET_PUBLISHED_SCRIPT_PAGES: Operation =
    Operation::get("get published script pages", "/api/v2/scripts/published/{scriptId}/pages");
pub(crate) static GET_PUBLISHED_VARIABLES: Operation =
    Operation::get("get published variables", "/api/v2/scripts/published/{scriptId}/variables");
pub(crate) static GET_PUBLISHED_VARIABLES_IN_DIVISIONS: Operation = Operation::get(
    "get published variables in divisions",
    "/api/v2/scripts/published/divisionviews/{scriptId}/variables",
);
pub(crate) static GET_UPLOAD_STATUS: Operation =
    Operation::get("get upload status", "/api/v2/scripts/uploads/{uploadId}/status");
/// It makes nothing but a URL to read from, so one more for nothing is harmless.
pub(crate) static EXPORT_SCRIPT: Operation = Operation {
    name: "export script",
    method: Method::POST,
    route: "/api/v2/scripts/{scriptId}/export",
    repeat: Repeat::Always,
};
/// Sent twice it could publish what was edited in between.
pub(crate) static PUBLISH_SCRIPT: Operation = Operation::post("publish script", "/api/v2/scripts/published");
pub(crate) static DELETE_SCRIPT: Operation = Operation::delete("delete script", "/api/v2/scripts/{scriptId}");
pub(crate) static MOVE_TO_DIVISION: Operation =
    Operation::post("move script to division", "/api/v2/authorization/divisions/{divisionId}/objects/SCRIPT");
/// Sent twice it would make two scripts.
pub(crate) static UPLOAD_SCRIPT: Operation = Operation::post("upload script", "/uploads/v2/scripter");
/// Its URL is the service's to give, and a secret; the route only names it.
pub(crate) static DOWNLOAD_EXPORT: Operation = Operation::get("download export", "(the URL of the export)");

pub(crate) static GET_TOKEN: Operation = Operation::get("check token", "/api/v2/tokens/me");
pub(crate) static DELETE_TOKEN: Operation = Operation::delete("revoke token", "/api/v2/tokens/me");

/// Where requests go, and as whom: one host's base URL and the `User-Agent`.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    base: Url,
    user_agent: HeaderValue,
}

impl Site {
    /// The base is checked by [`crate::region::base_url`].
    pub(crate) fn new(base: Url, user_agent: HeaderValue) -> Self {
        Self { base, user_agent }
    }

    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// The base with a route below its prefix. Each parameter becomes exactly one segment of the URL.
    fn url(&self, route: &str, parameters: &[&str]) -> Url {
        let mut path = self.base.path().trim_end_matches('/').to_owned();
        let mut parameters = parameters.iter();
        for segment in route.split('/').skip(1) {
            path.push('/');
            match segment.starts_with('{').then(|| parameters.next()).flatten() {
                Some(parameter) => path.push_str(&encode_segment(parameter)),
                None => path.push_str(segment),
            }
        }
        let mut url = self.base.clone();
        url.set_path(&path);
        url
    }

    fn request<const QUERY: usize>(
        &self,
        operation: &Operation,
        parameters: &[&str],
        query: [(&str, Option<Cow<'_, str>>); QUERY],
    ) -> Request {
        let mut url = self.url(operation.route, parameters);
        if query.iter().any(|(_, value)| value.is_some()) {
            let mut pairs = url.query_pairs_mut();
            for (name, value) in query {
                if let Some(value) = value {
                    pairs.append_pair(name, &value);
                }
            }
        }
        self.to(operation.method.clone(), url, HeaderValue::from_static("application/json"))
    }

    fn to(&self, method: Method, url: Url, accept: HeaderValue) -> Request {
        let mut request = Request::new(method, url);
        let headers = request.headers_mut();
        headers.insert(ACCEPT, accept);
        headers.insert(USER_AGENT, self.user_agent.clone());
        request
    }
}

fn with_json(mut request: Request, body: &serde_json::Value) -> Request {
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *request.body_mut() = Some(body.to_string().into());
    request
}

fn text(value: Option<&impl AsRef<str>>) -> Option<Cow<'_, str>> {
    value.map(|value| Cow::Borrowed(value.as_ref()))
}

fn flag(value: Option<bool>) -> Option<Cow<'static, str>> {
    value.map(|value| Cow::Borrowed(if value { "true" } else { "false" }))
}

fn data_version(version: &Option<String>) -> (&'static str, Option<Cow<'_, str>>) {
    ("scriptDataVersion", text(version.as_ref()))
}

/// `GET /api/v2/scripts/{scriptId}`
pub(crate) fn script(site: &Site, id: &ScriptId) -> Request {
    site.request(&GET_SCRIPT, &[id.as_str()], [])
}

/// `GET /api/v2/scripts/{scriptId}/pages/{pageId}`
pub(crate) fn script_page(site: &Site, id: &ScriptId, page: &PageId, query: &ReadScript) -> Request {
    site.request(&GET_SCRIPT_PAGE, &[id.as_str(), page.as_str()], [data_version(&query.script_data_version)])
}

/// `GET /api/v2/scripts/{scriptId}/pages`
pub(crate) fn script_pages(site: &Site, id: &ScriptId, query: &ReadScript) -> Request {
    site.request(&GET_SCRIPT_PAGES, &[id.as_str()], [data_version(&query.script_data_version)])
}

/// `GET /api/v2/scripts/published/{scriptId}`
pub(crate) fn published_script(site: &Site, id: &ScriptId, query: &ReadScript) -> Request {
    site.request(&GET_PUBLISHED_SCRIPT, &[id.as_str()], [data_version(&query.script_data_version)])
}

/// `GET /api/v2/scripts/published/{scriptId}/pages/{pageId}`
pub(crate) fn published_script_page(site: &Site, id: &ScriptId, page: &PageId, query: &ReadScript) -> Request {
    let parameters = [id.as_str(), page.as_str()];
    site.request(&GET_PUBLISHED_SCRIPT_PAGE, &parameters, [data_version(&query.script_data_version)])
}

/// `GET /api/v2/scripts/published/{scriptId}/pages`
pub(crate) fn published_script_pages(site: &Site, id: &ScriptId, query: &ReadScript) -> Request {
    site.request(&GET_PUBLISHED_SCRIPT_PAGES, &[id.as_str()], [data_version(&query.script_data_version)])
}

/// `GET /api/v2/scripts/published/{scriptId}/variables`
pub(crate) fn published_variables(site: &Site, id: &ScriptId, query: &ReadVariables) -> Request {
    variables(site, &GET_PUBLISHED_VARIABLES, id, query)
}

/// `GET /api/v2/scripts/published/divisionviews/{scriptId}/variables`
pub(crate) fn published_variables_in_divisions(site: &Site, id: &ScriptId, query: &ReadVariables) -> Request {
    variables(site, &GET_PUBLISHED_VARIABLES_IN_DIVISIONS, id, query)
}

fn variables(site: &Site, operation: &Operation, id: &ScriptId, query: &ReadVariables) -> Request {
    site.request(
        operation,
        &[id.as_str()],
        [
            ("input", flag(query.input)),
            ("output", flag(query.output)),
            ("type", query.variable_type.map(|kind| kind.as_str().into())),
            data_version(&query.script_data_version),
        ],
    )
}

/// One page of a list: one of the four `LIST_…` operations. Of published ones the sorting stays `None`.
pub(crate) fn list(site: &Site, operation: &Operation, query: &ListScripts, page_number: u32) -> Request {
    let divisions = || query.division_ids.iter().map(DivisionId::as_str).collect::<Vec<_>>().join(",");
    site.request(
        operation,
        &[],
        [
            ("pageSize", Some(query.page_size.to_string().into())),
            ("pageNumber", Some(page_number.to_string().into())),
            ("expand", text(query.expand.as_ref())),
            ("name", text(query.name.as_ref())),
            ("feature", text(query.feature.as_ref())),
            ("flowId", text(query.flow_id.as_ref())),
            ("sortBy", query.sort_by.map(|by| by.as_str().into())),
            ("sortOrder", query.sort_order.map(|order| order.as_str().into())),
            data_version(&query.script_data_version),
            ("divisionIds", (!query.division_ids.is_empty()).then(|| divisions().into())),
        ],
    )
}

/// `GET /api/v2/scripts/uploads/{uploadId}/status`
pub(crate) fn upload_status(site: &Site, id: &UploadId, query: &ReadUploadStatus) -> Request {
    // `false` is the service's default.
    let long_poll = flag(query.long_poll.then_some(true));
    site.request(&GET_UPLOAD_STATUS, &[id.as_str()], [("longPoll", long_poll)])
}

/// `POST /api/v2/scripts/{scriptId}/export`
pub(crate) fn export(site: &Site, id: &ScriptId, options: &ExportScript) -> Request {
    let mut body = serde_json::Map::new();
    if let Some(name) = &options.file_name {
        body.insert("fileName".into(), json!(name));
    }
    if let Some(version) = &options.version_id {
        body.insert("versionId".into(), json!(version));
    }
    // Never without a body: what the service makes of none is not documented.
    with_json(site.request(&EXPORT_SCRIPT, &[id.as_str()], []), &body.into())
}

/// `POST /api/v2/scripts/published`
pub(crate) fn publish(site: &Site, id: &ScriptId, options: &PublishScript) -> Request {
    let body = match &options.version_id {
        Some(version) => json!({ "scriptId": id, "versionId": version }),
        None => json!({ "scriptId": id }),
    };
    with_json(site.request(&PUBLISH_SCRIPT, &[], [data_version(&options.script_data_version)]), &body)
}

/// `DELETE /api/v2/scripts/{scriptId}`
pub(crate) fn delete(site: &Site, id: &ScriptId) -> Request {
    site.request(&DELETE_SCRIPT, &[id.as_str()], [])
}

/// `POST /api/v2/authorization/divisions/{divisionId}/objects/SCRIPT`
pub(crate) fn move_to_division(site: &Site, id: &ScriptId, division: &DivisionId) -> Request {
    with_json(site.request(&MOVE_TO_DIVISION, &[division.as_str()], []), &json!([id]))
}

/// A `.script` file as a form: encoded once, sent as often as attempts are made.
#[derive(Clone, Debug)]
pub(crate) struct UploadForm {
    content_type: HeaderValue,
    body: Bytes,
}

impl UploadForm {
    pub(crate) fn new(file: Bytes, name: &str, replace: Option<&ScriptId>) -> Result<Self, Error> {
        let unusable = || Error::invalid_input("the upload's form cannot be encoded");
        // Named and typed as CX as Code sends it.
        let file = Part::stream(file).file_name("script.json").mime_str("application/octet-stream");
        let mut form = Form::new().part("file", file.map_err(|_| unusable())?).text("scriptName", name.to_owned());
        if let Some(id) = replace {
            form = form.text("scriptIdToReplace", id.to_string());
        }
        let content_type = format!("multipart/form-data; boundary={}", form.boundary());
        // All parts are in memory, so the stream never waits.
        let parts: Option<Result<Vec<Bytes>, _>> = form.into_stream().try_collect().now_or_never();
        Ok(Self {
            content_type: HeaderValue::try_from(content_type).map_err(|_| unusable())?,
            body: parts.and_then(Result::ok).ok_or_else(unusable)?.concat().into(),
        })
    }
}

/// `POST /uploads/v2/scripter`, on the upload host.
pub(crate) fn upload(site: &Site, form: &UploadForm) -> Request {
    let mut request = site.request(&UPLOAD_SCRIPT, &[], []);
    request.headers_mut().insert(CONTENT_TYPE, form.content_type.clone());
    *request.body_mut() = Some(form.body.clone().into());
    request
}

/// The URL of an export: signed, so it goes where it says and never with a token.
pub(crate) fn download(site: &Site, url: &Url) -> Request {
    site.to(DOWNLOAD_EXPORT.method.clone(), url.clone(), HeaderValue::from_static("*/*"))
}

/// `GET` or `DELETE /api/v2/tokens/me`: the token the request carries.
pub(crate) fn own_token(site: &Site, operation: &Operation) -> Request {
    site.request(operation, &[], [])
}

/// The token endpoint's exchange, as oauth2 made it, below the configured login host.
pub(crate) fn login(site: &Site, exchange: &http::Request<Vec<u8>>) -> Request {
    let mut request = Request::new(exchange.method().clone(), site.url("/oauth/token", &[]));
    for (name, value) in exchange.headers() {
        let mut value = value.clone();
        value.set_sensitive(name == http::header::AUTHORIZATION);
        request.headers_mut().insert(name, value);
    }
    request.headers_mut().insert(USER_AGENT, site.user_agent.clone());
    *request.body_mut() = Some(exchange.body().clone().into());
    request
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn site(base: &str) -> Site {
        Site::new(base.parse().unwrap(), HeaderValue::from_static("test"))
    }

    #[test]
    fn a_request_is_below_the_base_whatever_its_prefix() {
        for (base, path) in [
            ("https://api.mypurecloud.com", "/api/v2/scripts/a%2Fb"),
            ("https://gw.example.com/genesys", "/genesys/api/v2/scripts/a%2Fb"),
            ("https://gw.example.com/genesys/", "/genesys/api/v2/scripts/a%2Fb"),
        ] {
            let request = script(&site(base), &"a/b".parse().unwrap());
            assert_eq!(request.url().path(), path);
            assert_eq!(request.method(), Method::GET);
            assert_eq!(request.headers()[ACCEPT], "application/json");
            assert_eq!(request.headers()[USER_AGENT], "test");
        }
    }

    #[test]
    fn a_parameter_that_looks_like_a_template_stays_one_segment() {
        let request =
            script_page(&site("https://a"), &"x{".parse().unwrap(), &"{y".parse().unwrap(), &ReadScript::default());
        assert_eq!(request.url().as_str(), "https://a/api/v2/scripts/x%7B/pages/%7By");
    }

    #[test]
    fn an_empty_query_leaves_no_question_mark() {
        let request = upload_status(&site("https://a"), &"u".parse().unwrap(), &ReadUploadStatus::default());
        assert_eq!(request.url().as_str(), "https://a/api/v2/scripts/uploads/u/status");
    }
}
