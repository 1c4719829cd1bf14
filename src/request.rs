//! A request is data: which operation, of what, with which query and body. [`Site::request`] makes a [`Request`] of it.
//!
//! No I/O, no clock, no token (the bearer is put on for each attempt, in `call.rs`). Fuzzed: whatever the
//! ids and the base URL, the request stays on the configured host, below its prefix, on its own route.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use reqwest::{Method, Request, Url};

use crate::id::is_uuid;
use crate::text::{encode_segment, secrets_of};

/// What an attempt may take where a file travels or the service may hold its answer back, unless the client's attempt
/// timeout is longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An operation of the API: what it is called, how it is sent, and whether it may be sent again.
#[derive(Debug)]
pub(crate) struct Operation {
    /// In errors and traces.
    pub(crate) name: &'static str,
    pub(crate) host: OnHost,
    pub(crate) method: Method,
    /// The path as a template: each `{parameter}` becomes one segment.
    pub(crate) route: &'static str,
    pub(crate) repeat: Repeat,
}

/// Which of the service's hosts an operation is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnHost {
    Api,
    Login,
    Upload,
    /// Wherever the service's signed URLs lead.
    Download,
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
        Self { name, host: OnHost::Api, method: Method::GET, route, repeat: Repeat::Always }
    }

    const fn delete(name: &'static str, route: &'static str) -> Self {
        Self { name, host: OnHost::Api, method: Method::DELETE, route, repeat: Repeat::Always }
    }

    const fn post(host: OnHost, name: &'static str, route: &'static str, repeat: Repeat) -> Self {
        Self { name, host, method: Method::POST, route, repeat }
    }

    const fn login(repeat: Repeat) -> Self {
        Self::post(OnHost::Login, "log in", "/oauth/token", repeat)
    }

    /// Whether it is about one script, by its id in the path or in the body.
    pub(crate) fn is_of_script(&self) -> bool {
        self.route.contains("{scriptId}") || std::ptr::eq(self, &PUBLISH_SCRIPT)
    }
}

/// Each operation as a static, and the list of them all, for what must hold for each.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $operation:expr;)*) => {
        $($(#[$doc])* pub(crate) static $name: Operation = $operation;)*

        #[cfg(any(test, feature = "fuzzing"))]
        pub(crate) static OPERATIONS: &[&Operation] = &[$(&$name),*];
    };
}

operations! {
    GET_SCRIPT = Operation::get("get script", "/api/v2/scripts/{scriptId}");
    GET_SCRIPT_PAGE = Operation::get("get script page", "/api/v2/scripts/{scriptId}/pages/{pageId}");
    GET_SCRIPT_PAGES = Operation::get("get script pages", "/api/v2/scripts/{scriptId}/pages");
    LIST_SCRIPTS = Operation::get("list scripts", "/api/v2/scripts");
    LIST_SCRIPTS_IN_DIVISIONS = Operation::get("list scripts in divisions", "/api/v2/scripts/divisionviews");
    LIST_PUBLISHED_SCRIPTS = Operation::get("list published scripts", "/api/v2/scripts/published");
    LIST_PUBLISHED_SCRIPTS_IN_DIVISIONS =
        Operation::get("list published scripts in divisions", "/api/v2/scripts/published/divisionviews");
    GET_PUBLISHED_SCRIPT = Operation::get("get published script", "/api/v2/scripts/published/{scriptId}");
    GET_PUBLISHED_SCRIPT_PAGE =
        Operation::get("get published script page", "/api/v2/scripts/published/{scriptId}/pages/{pageId}");
    GET_PUBLISHED_SCRIPT_PAGES = Operation::get("get published script pages", "/api/v2/scripts/published/{scriptId}/pages");
    GET_PUBLISHED_VARIABLES = Operation::get("get published variables", "/api/v2/scripts/published/{scriptId}/variables");
    GET_PUBLISHED_VARIABLES_IN_DIVISIONS = Operation::get(
        "get published variables in divisions",
        "/api/v2/scripts/published/divisionviews/{scriptId}/variables",
    );
    GET_UPLOAD_STATUS = Operation::get("get upload status", "/api/v2/scripts/uploads/{uploadId}/status");
    /// It makes nothing but a URL to read from, so one more for nothing is harmless.
    EXPORT_SCRIPT =
        Operation::post(OnHost::Api, "export script", "/api/v2/scripts/{scriptId}/export", Repeat::Always);
    /// Sent twice it could publish what was edited in between.
    PUBLISH_SCRIPT =
        Operation::post(OnHost::Api, "publish script", "/api/v2/scripts/published", Repeat::IfNeverSent);
    DELETE_SCRIPT = Operation::delete("delete script", "/api/v2/scripts/{scriptId}");
    MOVE_TO_DIVISION = Operation::post(
        OnHost::Api,
        "move script to division",
        "/api/v2/authorization/divisions/{divisionId}/objects/{objectType}",
        Repeat::IfNeverSent,
    );
    /// Sent twice it would make two scripts.
    UPLOAD_SCRIPT = Operation::post(OnHost::Upload, "upload script", "/uploads/v2/scripter", Repeat::IfNeverSent);
    /// Its URL is the service's to give, and a secret; the route only names it.
    DOWNLOAD_EXPORT = Operation {
        name: "download export",
        host: OnHost::Download,
        method: Method::GET,
        route: "(the URL of the export)",
        repeat: Repeat::Always,
    };
    GET_TOKEN = Operation::get("check token", "/api/v2/tokens/me");
    DELETE_TOKEN = Operation::delete("revoke token", "/api/v2/tokens/me");
    /// One more token for nothing is harmless.
    CLIENT_LOGIN = Operation::login(Repeat::Always);
    /// A code or an assertion is good for one login: sent twice, the second is refused, and can void the first.
    ONE_TIME_LOGIN = Operation::login(Repeat::IfNeverSent);
    /// An answer that was lost may have held the only copy of a rotated token: asked for once more.
    REFRESH = Operation::login(Repeat::OnceIfLost);
}

/// Whatever else the API has, by a path of the user's.
pub(crate) static GET_ANY: Operation = Operation::get("get", "(a path of the API)");

/// What is asked for.
pub(crate) struct Spec<'a> {
    pub(crate) operation: &'static Operation,
    /// The path's, in order.
    pub(crate) parameters: &'a [&'a str],
    pub(crate) query: Query<'a>,
    pub(crate) body: Option<Body>,
    /// What it is about, like the script's id: for errors.
    pub(crate) subject: Option<&'a str>,
    /// Where it goes, if that is not the operation's route: the signed URL of a download.
    pub(crate) address: Option<&'a Url>,
    /// The same as it was given, where the other is not quite that.
    pub(crate) exact: Option<&'a Uri>,
    /// What a login proves itself with. An agent's token is put on for each attempt instead.
    pub(crate) authorization: Option<HeaderValue>,
    /// Whether an attempt is given [`PATIENCE`]: a file travels, or the service was asked to wait.
    pub(crate) patient: bool,
}

/// Names and values, in the order they are sent.
pub(crate) type Query<'a> = Vec<(&'static str, Cow<'a, str>)>;

/// A body, encoded once and sent as often as attempts are made. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Body {
    pub(crate) content_type: HeaderValue,
    pub(crate) bytes: Bytes,
}

impl<'a> Spec<'a> {
    /// The data version that is asked for: a draft is not its published script.
    fn data_version(&self) -> Option<&str> {
        self.query.iter().find(|(name, _)| *name == "scriptDataVersion").map(|(_, value)| value.as_ref())
    }

    /// What is asked for, as far as it can be broken itself: the ids, and the data version. FNV-1a: it is made for every call, of
    /// ids that the user chose.
    pub(crate) fn key(&self) -> u64 {
        let add = |key: u64, byte: u8| (key ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let subject = self.subject.filter(|subject| self.parameters.first() != Some(subject));
        let parts = self.parameters.iter().copied().chain(subject).chain(self.data_version());
        // No byte of UTF-8 is 0xFF.
        parts.fold(0xcbf2_9ce4_8422_2325, |key, part| add(part.bytes().fold(key, add), 0xFF))
    }

    /// What no error may repeat of where it goes.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let mut secrets = self.address.map(secrets_of).unwrap_or_default();
        let exact = self.exact.map(|uri| [Some(uri.path()), uri.query()]);
        secrets.extend(exact.into_iter().flatten().flatten().filter(|part| part.len() >= 8).map(str::to_owned));
        secrets
    }

    /// The ids, names and values that are sent, which an answer may repeat.
    pub(crate) fn data(&self) -> Vec<Cow<'_, str>> {
        let mut data: Vec<Cow<'_, str>> =
            self.subject.iter().chain(self.parameters).map(|data| Cow::Borrowed(*data)).collect();
        // A word may be one of a list, and an answer's own.
        let is_free = |name: &str, value: &str| name == "name" || value.contains(' ');
        let query = self.query.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(value.as_ref())));
        let query = query.chain(self.address.iter().flat_map(|url| url.query_pairs()));
        data.extend(query.filter(|(name, value)| is_free(name, value)).map(|(_, value)| value));
        let body = self.body.as_ref().and_then(|body| serde_json::from_slice(&body.bytes).ok());
        let members =
            body.as_ref().and_then(serde_json::Value::as_object).into_iter().flat_map(serde_json::Map::values);
        data.extend(members.filter_map(|value| Some(Cow::Owned(value.as_str()?.to_owned()))));
        data
    }

    /// An id in it that is no UUID: of the script that it is about, or one of its path.
    pub(crate) fn odd_id(&self) -> Option<&'a str> {
        let names = self.operation.route.split('/').filter(|part| part.starts_with('{'));
        let in_path = names.zip(self.parameters).filter(|(name, _)| name.ends_with("Id}")).map(|(_, id)| *id);
        let subject = self.subject.filter(|_| self.operation.is_of_script() || !self.parameters.is_empty());
        subject.into_iter().chain(in_path).find(|id| !is_uuid(id))
    }

    /// An operation with its path's parameters. It is about the first.
    pub(crate) fn of(operation: &'static Operation, parameters: &'a [&'a str]) -> Self {
        Self {
            operation,
            parameters,
            query: Query::new(),
            body: None,
            subject: parameters.first().copied(),
            address: None,
            exact: None,
            authorization: None,
            patient: matches!(operation.host, OnHost::Upload | OnHost::Download),
        }
    }

    pub(crate) fn query(self, query: Query<'a>) -> Self {
        Self { query, ..self }
    }

    pub(crate) fn body(self, body: Body) -> Self {
        Self { body: Some(body), ..self }
    }

    /// What it is about, for people: of a part, what it is a part of, too.
    pub(crate) fn named(&self) -> Option<Cow<'a, str>> {
        match self.parameters {
            [first, _, ..] if self.subject == Some(*first) => Some(self.parameters.join("/").into()),
            _ => self.subject.map(Cow::Borrowed),
        }
    }

    /// What it is about, if that is not the first parameter of its path.
    pub(crate) fn about(self, subject: &'a str) -> Self {
        Self { subject: Some(subject), ..self }
    }
}

impl Body {
    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self { content_type: HeaderValue::from_static("application/json"), bytes: value.to_string().into() }
    }
}

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

    /// The request, the same each time.
    pub(crate) fn request(&self, spec: &Spec<'_>) -> Request {
        let operation = spec.operation;
        let mut url = spec.address.cloned().unwrap_or_else(|| self.url(operation.route, spec.parameters));
        if !spec.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&spec.query);
        }
        let mut request = Request::new(operation.method.clone(), url);
        let accept = if operation.host == OnHost::Download { "*/*" } else { "application/json" };
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        headers.insert(USER_AGENT, self.user_agent.clone());
        if let Some(authorization) = &spec.authorization {
            let mut authorization = authorization.clone();
            authorization.set_sensitive(true);
            headers.insert(AUTHORIZATION, authorization);
        }
        if let Some(body) = &spec.body {
            headers.insert(CONTENT_TYPE, body.content_type.clone());
            *request.body_mut() = Some(body.bytes.clone().into());
        }
        request
    }

    /// The base with a route below its prefix. Each parameter becomes exactly one segment of the URL.
    fn url(&self, route: &str, parameters: &[&str]) -> Url {
        let prefix = self.base.path().trim_end_matches('/');
        let mut path = String::with_capacity(prefix.len() + route.len() + 40 * parameters.len());
        path.push_str(prefix);
        let mut rest = route;
        for parameter in parameters {
            let (before, after) = rest.split_once('{').unwrap_or((rest, ""));
            path.push_str(before);
            path.push_str(&encode_segment(parameter));
            rest = after.split_once('}').map_or("", |(_, after)| after);
        }
        path.push_str(rest);
        let mut url = self.base.clone();
        url.set_path(&path);
        url
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request(base: &str, spec: &Spec<'_>) -> Request {
        Site::new(base.parse().unwrap(), HeaderValue::from_static("test")).request(spec)
    }

    #[test]
    fn a_request_is_below_the_base_whatever_its_prefix() {
        for (base, path) in [
            ("https://api.mypurecloud.com", "/api/v2/scripts/a%2Fb"),
            ("https://gw.example.com/genesys", "/genesys/api/v2/scripts/a%2Fb"),
            ("https://gw.example.com/genesys/", "/genesys/api/v2/scripts/a%2Fb"),
        ] {
            let request = request(base, &Spec::of(&GET_SCRIPT, &["a/b"]));
            assert_eq!(request.url().path(), path);
            assert_eq!(request.method(), Method::GET);
            assert_eq!(request.headers()[ACCEPT], "application/json");
            assert_eq!(request.headers()[USER_AGENT], "test");
        }
    }

    #[test]
    fn a_parameter_that_looks_like_a_template_stays_one_segment() {
        let request = request("https://a", &Spec::of(&GET_SCRIPT_PAGE, &["x{", "{y"]));
        assert_eq!(request.url().as_str(), "https://a/api/v2/scripts/x%7B/pages/%7By");
    }

    #[test]
    fn an_empty_query_leaves_no_question_mark() {
        let request = request("https://a", &Spec::of(&GET_UPLOAD_STATUS, &["u"]));
        assert_eq!(request.url().as_str(), "https://a/api/v2/scripts/uploads/u/status");
    }

    #[test]
    fn what_may_be_broken_itself_is_told_apart_by_its_ids_and_its_version_alone() {
        let versions = |query: &[(&'static str, &str)]| {
            let query = query.iter().map(|(name, value)| (*name, (*value).to_owned().into())).collect();
            Spec::of(&GET_SCRIPT, &["a"]).query(query).key()
        };
        let of = |ids: &[&str]| Spec::of(&GET_SCRIPT_PAGE, ids).key();
        assert_eq!(
            versions(&[("scriptDataVersion", "7")]),
            versions(&[("scriptDataVersion", "7"), ("divisionId", "x")])
        );
        let keys = [versions(&[("scriptDataVersion", "7")]), versions(&[("scriptDataVersion", "8")]), versions(&[])];
        assert!(keys[0] != keys[1] && keys[0] != keys[2] && keys[1] != keys[2]);
        assert!(of(&["ab", "c"]) != of(&["a", "bc"]) && of(&["a", "b"]) != of(&["b", "a"]));
        let many: std::collections::HashSet<_> = (0..10_000).map(|n| of(&[&n.to_string(), "p"])).collect();
        assert_eq!(many.len(), 10_000);
    }
}
