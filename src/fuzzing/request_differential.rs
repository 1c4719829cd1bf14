//! Requests against others' reading of them: a URL put together from RFC 3986 alone, and what axum's router takes from it.

use axum::Router;
use axum::extract::{Query, RawPathParams};
use axum::response::IntoResponse;
use axum::routing::any;
use futures_util::FutureExt;
use http::header::HeaderValue;
use tower_service::Service;

use super::is_parameter;
use super::request::{Given, ids};
use crate::region::base_url;
use crate::request::{OPERATIONS, OnHost, Operation, Site, Spec};

/// The URL of each request is the one that RFC 3986 gives, and a server finds its route, its ids and its query in it.
///
/// Lines as of `request`.
pub fn request_differential(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.lines();
    let (Some(base), Some(_)) = (lines.next(), lines.next()) else { return };
    let Ok(base) = base_url("api", base) else { return };
    let site = Site::new(base.clone(), HeaderValue::from_static("fuzz"));
    for operation in OPERATIONS.iter().filter(|operation| operation.host != OnHost::Download) {
        let mut lines = lines.clone();
        let Some(ids) = ids(operation, &mut lines) else { continue };
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let given = Given::read(lines);
        let query = given.query();
        let request = site.request(&Spec::of(operation, &ids).query(query.clone()));
        let below = target(operation, &ids, &query);
        let prefix = base.as_str().trim_end_matches('/');
        assert_eq!(request.url().as_str(), format!("{prefix}{below}"), "{} of {ids:?}", operation.name);
        let taken = taken(request.method(), &below);
        assert_eq!(taken.route, operation.route, "{below}");
        assert_eq!(taken.ids, ids, "{below}");
        let asked: Vec<(String, String)> =
            query.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_owned())).collect();
        assert_eq!(taken.query, asked, "{below}");
    }
}

/// Path and query below the prefix: each id percent-encoded but for the unreserved characters (RFC 3986 §2.3), the query as a
/// form (WHATWG URL §5.2).
fn target(operation: &Operation, ids: &[&str], query: &[(&str, std::borrow::Cow<'_, str>)]) -> String {
    let mut ids = ids.iter();
    let segments = operation.route.split('/').map(|part| match is_parameter(part) {
        true => encoded(ids.next().expect("an id for each parameter"), b"-._~", "%20"),
        false => part.to_owned(),
    });
    let path = segments.collect::<Vec<_>>().join("/");
    let form = |text: &str| encoded(text, b"*-._", "+");
    let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{}={}", form(name), form(value))).collect();
    if pairs.is_empty() { path } else { format!("{path}?{}", pairs.join("&")) }
}

fn encoded(text: &str, plain: &[u8], blank: &str) -> String {
    let each = text.bytes().map(|byte| match byte {
        b' ' => blank.to_owned(),
        _ if byte.is_ascii_alphanumeric() || plain.contains(&byte) => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    each.collect()
}

/// What a server takes from a request.
#[derive(Clone)]
struct Taken {
    route: &'static str,
    ids: Vec<String>,
    query: Vec<(String, String)>,
}

fn taken(method: &http::Method, target: &str) -> Taken {
    thread_local! {
        static ROUTER: Router = router();
    }
    let request = http::Request::builder().method(method).uri(target).body(axum::body::Body::empty());
    let mut router = ROUTER.with(Router::clone);
    let answer = router.call(request.expect("a request")).now_or_never().expect("it waits for nothing");
    let Ok(answer) = answer;
    answer.extensions().get::<Taken>().cloned().unwrap_or_else(|| panic!("no route takes {target}"))
}

fn router() -> Router {
    let mut routes: Vec<&'static str> =
        OPERATIONS.iter().filter(|operation| operation.host != OnHost::Download).map(|one| one.route).collect();
    routes.sort_unstable();
    routes.dedup();
    let take = |route: &'static str| {
        any(async move |ids: RawPathParams, Query(query): Query<Vec<(String, String)>>| {
            let ids = ids.iter().map(|(_, id)| id.to_owned()).collect();
            let mut answer = ().into_response();
            answer.extensions_mut().insert(Taken { route, ids, query });
            answer
        })
    };
    routes.into_iter().fold(Router::new(), |router, route| router.route(route, take(route)))
}
