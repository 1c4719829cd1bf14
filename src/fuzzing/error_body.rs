//! Refusals: whatever they say, what an error makes of them.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::service::{self, Answer, is_login, line};
use super::{is_printable, number};
use crate::{Certainty, Credentials, Envelope, Error, PublishScript, ReadScript, ScriptId, SignedUrl};

/// Whatever refuses, with whatever words: an error with that status, the same each time, that is sure of nothing on a
/// gateway's word alone, is fit for a terminal, and repeats no secret of the request in any spelling.
///
/// Lines: the status and the operation (`get`, `publish`, `list`, `log in`, `download`), then the answer as it is on the wire:
/// headers, an empty line, the body. `{secret}` in it is the request's secret; see `SPELLINGS`.
pub fn error_body(data: &[u8]) {
    let (first, rest) = line(data);
    let first = String::from_utf8_lossy(first);
    // A success is no refusal.
    let status = u16::try_from(number(&first).clamp(300, 999)).unwrap_or(999);
    let operation = first.split_once(' ').map_or("get", |(_, operation)| operation);
    let refused = |secret| refused(operation, &Answer::read(status, &with_secret(rest, secret)), secret);
    let error = refused(SECRET);
    let redirected = operation == "download" && (300..400).contains(&status);
    // A login that may not be tried again in time was last refused for its limit.
    let throttled_login = operation == "log in" && error.is_throttled();
    assert!(redirected || throttled_login || error.status() == Some(status), "HTTP {status} became {error:?}");
    assert_eq!(error.to_string(), refused(SECRET).to_string(), "not the same each time");
    for shown in [error.to_string(), format!("{error:?}")] {
        assert!(is_printable(&shown), "{shown:?}");
    }
    assert!(error.to_string().len() < 8_000, "{} bytes: {error}", error.to_string().len());
    let envelope = error.body().map_or(Envelope::Empty, |body| body.envelope);
    if let Some(why) = error.bad_request() {
        let is_refused_login = operation == "log in" && matches!(status, 401 | 403);
        assert!(status == 400 || is_refused_login || throttled_login, "{status} {error}");
        let of_service = matches!(envelope, Envelope::Service | Envelope::OAuth) || throttled_login;
        assert!(of_service || why.certainty < Certainty::Certain, "certain, by {envelope:?}: {error}");
    }
    assert_no_secret(&error, || refused(OTHER));
}

/// The only attempt of a call with this secret is refused so.
fn refused(operation: &str, answer: &Answer, secret: &'static str) -> Error {
    let (answer, of_login) = (answer.again(), operation == "log in");
    let client = service::client(move |request| match is_login(request) == of_login {
        true => answer.again(),
        false => Answer::token(secret),
    });
    let client = client.retry(service::once()).login_throttle_timeout(Duration::from_millis(1));
    let id: ScriptId = "476c2b71-7429-11e4-9a5b-3f91746bffa3".parse().expect("an id");
    service::run(async {
        let client = client.build().expect("a client");
        let agent = client.agent(Credentials::client("0a1b2c", if of_login { secret } else { "not-this" }));
        let error = match operation {
            "log in" => agent.log_in().await.err(),
            "publish" => agent.publish(&id, &PublishScript::default()).await.err(),
            "list" => agent.script_pages(&id, &ReadScript::default()).await.err(),
            "download" => {
                let url = SignedUrl::new(format!("http://127.0.0.1:9/export?signature={secret}"));
                agent.download_export(&url).await.err()
            }
            _ => agent.script(&id).await.err(),
        };
        error.expect("an error")
    })
}

/// The secret of each request: an access token, a client's secret, a URL's signature.
const SECRET: &str = "5ecret~of.the-request_0123456789";
/// Another of the same form.
const OTHER: &str = "0ther!~in,its-p1ace_98765432100_";

type Spelled = fn(&str) -> String;

/// How an answer may spell it: `{secret}`, `{secret:json}` and so on.
const SPELLINGS: &[(&str, Spelled)] = &[
    ("{secret}", |secret| secret.to_owned()),
    ("{secret:json}", |secret| secret.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect()),
    ("{secret:JSON}", |secret| secret.chars().map(|c| format!("\\u{:04X}", u32::from(c))).collect()),
    ("{secret:json in json}", |secret| secret.chars().map(|c| format!("\\\\u{:04x}", u32::from(c))).collect()),
    ("{secret:url}", |secret| secret.bytes().map(|byte| format!("%{byte:02x}")).collect()),
    ("{secret:form}", |secret| utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string()),
    ("{secret:page}", |secret| secret.chars().map(|c| format!("&#{};", u32::from(c))).collect()),
    ("{secret:base64}", |secret| BASE64_STANDARD.encode(secret)),
    ("{secret:basic}", |secret| BASE64_STANDARD.encode(format!("0a1b2c:{secret}"))),
];

/// The answer with the secret put in.
fn with_secret(answer: &[u8], secret: &str) -> Vec<u8> {
    let mut answer = answer.to_vec();
    for (name, spelled) in SPELLINGS {
        while let Some(at) = answer.windows(name.len()).position(|window| window == name.as_bytes()) {
            answer.splice(at..at + name.len(), spelled(secret).into_bytes());
        }
    }
    answer
}

/// Neither whole in any spelling, nor a part that is not the answer's own: told as well of a call with another secret.
fn assert_no_secret(error: &Error, with_another: impl Fn() -> Error) {
    for told in all_told(error) {
        for (name, spelled) in SPELLINGS {
            assert!(!told.contains(&spelled(SECRET)), "{name} is in {told}");
        }
        for part in SECRET.as_bytes().chunks_exact(8).map(String::from_utf8_lossy) {
            let is_its_own = || all_told(&with_another()).iter().any(|told| told.contains(&*part));
            assert!(!told.contains(&*part) || is_its_own(), "a part of the secret is in {told}");
        }
    }
}

/// Whatever an error tells, to whomever.
fn all_told(error: &Error) -> Vec<String> {
    let body = error.body().map(|body| format!("{body:?}"));
    let parts = [error.message(), error.code(), error.correlation_id()].into_iter().flatten().map(str::to_owned);
    let sources = std::iter::successors(std::error::Error::source(error), |source| source.source());
    let shown = [error.to_string(), format!("{error:?}")];
    shown.into_iter().chain(body).chain(parts).chain(sources.map(ToString::to_string)).collect()
}
