//! Every grant, and every way a token is no good.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tokio::time::advance;

use super::peer::{CLIENT, Peer, Reply, builder, peer, send};

const BASIC: Option<(&str, &str)> = Some((CLIENT, "simulator"));
const REDIRECT: &str = "http://localhost:3000/back";

// RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn failed(reply: &Reply, error: &str) {
    assert_eq!(reply.status, 400, "{reply:?}");
    assert_eq!(reply.json()["error"], error);
    assert!(reply.json()["error_description"].is_string() && reply.json()["description"].is_string());
    assert!(reply.header("ININ-Correlation-Id").is_some());
}

async fn works(peer: &Peer, token: &str) -> bool {
    peer.get(token, "/api/v2/tokens/me").await.status == 200
}

#[tokio::test]
async fn client_credentials() {
    let peer = peer();
    let reply = peer.token(BASIC, &[("grant_type", "client_credentials")]).await;
    let body = reply.json();
    assert_eq!(body["token_type"], "bearer");
    assert_eq!(body["expires_in"], 86_400);
    assert!(body.get("refresh_token").is_none());
    assert!(works(&peer, text(&body["access_token"])).await);

    failed(&peer.token(Some((CLIENT, "guess")), &[("grant_type", "client_credentials")]).await, "invalid_client");
    failed(&peer.token(None, &[("grant_type", "client_credentials"), ("client_id", CLIENT)]).await, "invalid_client");
    failed(&peer.token(Some((CLIENT, "")), &[("grant_type", "client_credentials")]).await, "invalid_client");
    failed(&peer.token(Some(("", "simulator")), &[("grant_type", "client_credentials")]).await, "invalid_client");
    failed(&peer.token(BASIC, &[("grant_type", "password")]).await, "unsupported_grant_type");
    failed(&peer.token(BASIC, &[]).await, "invalid_request");
}

#[tokio::test]
async fn id_and_secret_may_be_form_encoded_as_the_rfc_has_it() {
    let peer = Peer::of(builder().client_secret("s+ecr/t %"));
    for secret in ["s+ecr/t %", "s%2Becr%2Ft%20%25", "s%2Becr%2Ft+%25"] {
        let reply = peer.token(Some((CLIENT, secret)), &[("grant_type", "client_credentials")]).await;
        assert_eq!(reply.status, 200, "{secret}");
    }
}

#[tokio::test]
async fn a_code_from_the_redirect_is_good_once_for_its_client_and_redirect() {
    let peer = peer();
    let mut url = reqwest::Url::parse(peer.simulator.url()).expect("url");
    url.set_path("/oauth/authorize");
    url.query_pairs_mut().extend_pairs([
        ("response_type", "code"),
        ("client_id", CLIENT),
        ("redirect_uri", REDIRECT),
        ("state", "a b&c"),
    ]);
    let reply = send(peer.http.get(url)).await;
    assert_eq!(reply.status, 302);
    let location = reqwest::Url::parse(reply.header("location").expect("location")).expect("url");
    assert!(location.as_str().starts_with(REDIRECT));
    let pairs: std::collections::HashMap<_, _> = location.query_pairs().into_owned().collect();
    assert_eq!(pairs["state"], "a b&c");

    let form = [("grant_type", "authorization_code"), ("code", &pairs["code"]), ("redirect_uri", REDIRECT)];
    let reply = peer.token(BASIC, &form).await;
    assert!(works(&peer, text(&reply.json()["access_token"])).await);
    assert!(reply.json()["refresh_token"].is_string());
    failed(&peer.token(BASIC, &form).await, "invalid_grant");

    let code = peer.simulator.authorization_code(CLIENT, REDIRECT, None);
    let other = [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", "http://localhost/else")];
    failed(&peer.token(BASIC, &other).await, "invalid_grant");
}

#[tokio::test]
async fn a_page_gets_its_token_behind_the_hash_and_comes_back_from_a_logout() {
    let peer = peer();
    let asks = |path: &str| {
        let mut url = reqwest::Url::parse(peer.simulator.url()).expect("url");
        url.set_path(path);
        let query = [("response_type", "token"), ("client_id", CLIENT), ("redirect_uri", REDIRECT), ("state", "a b&c")];
        url.query_pairs_mut().extend_pairs(query);
        send(peer.http.get(url))
    };
    let reply = asks("/oauth/authorize").await;
    assert_eq!(reply.status, 302);
    let (page, told) = reply.header("location").expect("location").split_once('#').expect("a fragment");
    assert_eq!(page, REDIRECT);
    let told = reqwest::Url::parse(&format!("x:?{told}")).expect("pairs");
    let told: std::collections::HashMap<_, _> = told.query_pairs().into_owned().collect();
    assert!(works(&peer, &told["access_token"]).await);
    let rest = (&*told["state"], &*told["token_type"], &*told["expires_in"]);
    assert_eq!(rest, ("a b&c", "bearer", "86400"));

    let reply = asks("/logout").await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (302, Some(REDIRECT)));
    // Whoever does not say where to is logged out all the same.
    assert_eq!(send(peer.request(Method::GET, &format!("/logout?client_id={CLIENT}"))).await.status, 200);
    assert_eq!(send(peer.request(Method::GET, "/logout?redirect_uri=nowhere")).await.status, 400);
}

#[tokio::test]
async fn a_code_with_a_challenge_takes_the_verifier_and_no_secret() {
    let peer = peer();
    const WRONG: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXx";
    // Some clients name themselves in the form, some in the header, with an empty secret, which is none.
    let named = Some((CLIENT, ""));
    for (basic, verifier, good) in
        [(None, VERIFIER, true), (named, VERIFIER, true), (None, WRONG, false), (named, WRONG, false)]
    {
        let code = peer.simulator.authorization_code(CLIENT, REDIRECT, Some(CHALLENGE));
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", REDIRECT),
            ("client_id", CLIENT),
            ("code_verifier", verifier),
        ];
        let reply = peer.token(basic, &form).await;
        if !good {
            failed(&reply, "invalid_grant");
            continue;
        }
        // A client without a secret refreshes without one too.
        let refresh = reply.json()["refresh_token"].as_str().expect("refresh").to_owned();
        let form = [("grant_type", "refresh_token"), ("refresh_token", &refresh), ("client_id", CLIENT)];
        assert_eq!(peer.token(basic, &form).await.status, 200);
    }
    let code = peer.simulator.authorization_code(CLIENT, REDIRECT, Some(CHALLENGE));
    let form = [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", REDIRECT)];
    failed(&peer.token(BASIC, &form).await, "invalid_grant");
    // Without a challenge, naming oneself proves nothing.
    let code = peer.simulator.authorization_code(CLIENT, REDIRECT, None);
    let form =
        [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", REDIRECT), ("client_id", CLIENT)];
    failed(&peer.token(None, &form).await, "invalid_grant");
    failed(&peer.token(named, &form).await, "invalid_grant");
}

#[tokio::test]
async fn refresh_tokens_rotate_and_end_with_a_logout() {
    let peer = peer();
    let code = peer.simulator.authorization_code(CLIENT, REDIRECT, None);
    let form = [("grant_type", "authorization_code"), ("code", &code), ("redirect_uri", REDIRECT)];
    let first = peer.token(BASIC, &form).await.json();
    peer.simulator.expire_tokens();
    let reply = peer.get(text(&first["access_token"]), "/api/v2/tokens/me").await;
    reply.refused(401, "credentials.expired", "The supplied credentials are expired and cannot be used.");

    let form = [("grant_type", "refresh_token"), ("refresh_token", text(&first["refresh_token"]))];
    failed(&peer.token(Some(("another-client", "simulator")), &form).await, "invalid_grant");
    let second = peer.token(BASIC, &form).await.json();
    assert_ne!(first["refresh_token"], second["refresh_token"]);
    failed(&peer.token(BASIC, &form).await, "invalid_grant");

    let access = text(&second["access_token"]);
    assert_eq!(peer.delete(access, "/api/v2/tokens/me").await.status, 200);
    let reply = peer.get(access, "/api/v2/tokens/me").await;
    reply.refused(401, "bad.credentials", "Invalid login credentials.");
    let form = [("grant_type", "refresh_token"), ("refresh_token", text(&second["refresh_token"]))];
    failed(&peer.token(BASIC, &form).await, "invalid_grant");
    assert_eq!(peer.simulator.stats().tokens_revoked, 1);
}

#[tokio::test]
async fn saml_takes_any_organisation_and_assertion_that_is_there() {
    let peer = peer();
    let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:saml2-bearer");
    let reply = peer.token(BASIC, &[grant, ("orgName", "acme"), ("assertion", "PHNhbWw+")]).await;
    assert!(works(&peer, text(&reply.json()["access_token"])).await);
    failed(&peer.token(BASIC, &[grant, ("orgName", "acme"), ("assertion", "")]).await, "invalid_request");
    failed(&peer.token(BASIC, &[grant, ("assertion", "PHNhbWw+")]).await, "invalid_request");
}

#[tokio::test(start_paused = true)]
async fn a_token_ends_when_its_time_is_over() {
    let peer = Peer::of(builder().token_ttl(Duration::from_secs(90)));
    let token = peer.login().await;
    advance(Duration::from_millis(89_999)).await;
    assert!(works(&peer, &token).await);
    advance(Duration::from_millis(1)).await;
    let reply = peer.get(&token, "/api/v2/tokens/me").await;
    reply.refused(401, "credentials.expired", "The supplied credentials are expired and cannot be used.");
    assert!(works(&peer, &peer.login().await).await);
}

#[tokio::test]
async fn no_token_and_no_bearer_are_told_apart_from_a_bad_one() {
    let peer = peer();
    let path = format!("/api/v2/scripts/{}", peer.script_id(0));
    let required = "No authentication bearer token specified in authorization header.";
    send(peer.request(Method::GET, &path)).await.refused(401, "authentication.required", required);
    let basic = peer.request(Method::GET, &path).basic_auth("a", Some("b"));
    send(basic).await.refused(401, "authentication.required", required);
    peer.get("bogus", &path).await.refused(401, "bad.credentials", "Invalid login credentials.");
}

#[tokio::test]
async fn tokens_me_names_organisation_and_client() {
    let peer = peer();
    let token = peer.login().await;
    let info = peer.get(&token, "/api/v2/tokens/me").await.json();
    assert_eq!(info["OAuthClient"]["id"], CLIENT);
    assert!(info["organization"]["id"].is_string());
}
