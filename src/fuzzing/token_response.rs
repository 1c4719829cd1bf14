//! Answers of the token endpoint.

use secrecy::ExposeSecret;
use serde_json::Value;

use super::is_printable;
use super::service::{self, Answer, line};
use crate::{Credentials, ErrorKind, OAuthClient};

/// Whatever a login is answered with: a token that can be sent, or an error that says what came instead of one and shows no
/// secret. A refresh token that came is kept either way.
///
/// Lines: what logs in (`client`, `code`, `refresh`), then the answer as it is on the wire: headers, an empty line, the body.
/// `{token}` in it is the token that it issues, `{secret}` the secret that was sent.
pub fn token_response(data: &[u8]) {
    let (grant, rest) = line(data);
    let text = String::from_utf8_lossy(rest).replace("{token}", TOKEN).replace("{secret}", SECRET);
    let answer = Answer::read(200, text.as_bytes());
    let members: Option<serde_json::Map<String, Value>> =
        serde_json::from_slice(&answer.body).ok().filter(|_| !answer.headers.contains_key("content-encoding"));
    let text_of = |name: &str| members.as_ref()?.get(name)?.as_str().map(|text| text.trim().to_owned());
    let (access, refresh) = (text_of("access_token"), text_of("refresh_token"));
    let issues_token =
        ["access_token", "refresh_token", "id_token"].iter().any(|name| text_of(name).as_deref() == Some(TOKEN));

    let credentials = match grant {
        b"code" => Credentials::AuthorizationCode {
            client: OAuthClient::public("0a1b2c"),
            code: SECRET.into(),
            redirect_uri: "https://desk.example/back".to_owned(),
            verifier: None,
        },
        b"refresh" => Credentials::refresh_token(OAuthClient::public("0a1b2c"), SECRET),
        _ => Credentials::client("0a1b2c", SECRET),
    };
    let client = service::client(move |_| answer.again()).retry(service::once());
    let (result, session) = service::run(async {
        let agent = client.build().expect("a client").agent(credentials);
        (agent.log_in().await, agent.session())
    });
    let held = session.as_ref().and_then(|session| session.access_token.as_ref()).map(|token| token.expose_secret());
    match &result {
        Ok(()) => {
            let held = held.expect("a token");
            assert!(!held.is_empty() && held.bytes().all(|byte| byte.is_ascii_graphic()), "{held:?} cannot be sent");
        }
        Err(error) => {
            // A code is spent by whatever answer, unless there is a refresh token to go on with.
            let is_spent = grant == b"code" && error.kind() == ErrorKind::LoginRefused;
            assert!(is_spent || error.kind() == ErrorKind::UnexpectedAnswer, "{error}");
            assert_eq!(error.status(), Some(200), "{error}");
            assert!(error.is_login() && held.is_none() && is_printable(&error.to_string()), "{error}");
            let told = format!("{error} {error:?}");
            assert!(!told.contains(SECRET), "the secret that was sent is in {told}");
            assert!(!told.contains(TOKEN) || !issues_token, "the token that was issued is in {told}");
        }
    }
    // RFC 6750 §2.1: what no one can take for anything but a token.
    let is_token = |text: &str| {
        !text.is_empty()
            && !text.eq_ignore_ascii_case("bearer")
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    if let Some(access) = access.filter(|access| is_token(access)) {
        assert_eq!(held, Some(access.as_str()), "{result:?}");
    }
    if let Some(refresh) = refresh.filter(|refresh| is_token(refresh)) {
        let kept = session.as_ref().and_then(|session| session.refresh_token.as_ref());
        assert_eq!(kept.map(|token| token.expose_secret()), Some(refresh.as_str()), "{result:?}");
    }
}

const TOKEN: &str = "1ssuedToken0123456789";
const SECRET: &str = "5ecretThatWasSent0123456789";
