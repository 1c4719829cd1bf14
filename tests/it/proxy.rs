//! Loopback hosts are reached directly, whatever proxies the environment or the builder names; others by the proxy.
//!
//! The environment must be set before a client is built, and safe code cannot set its own: each test runs itself once
//! more, as a child with that environment.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::future::join_all;
use genesys_scripts::{Client, ClientBuilder, Credentials, Error, ErrorKind, Region, RetryPolicy, Script};

use crate::common::wire::{Say, Wire, say, two_seconds_pass};
use crate::common::{ID, credentials, id, once};

const IN_CHILD: &str = "GENESYS_SCRIPTS_TEST_IN_CHILD";
pub(crate) const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// A listener that is there to be left alone.
struct Proxy(TcpListener);

impl Proxy {
    fn listen() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    fn assert_untouched(&self) {
        self.0.set_nonblocking(true).unwrap();
        let arrived = self.0.accept().map(|(_, from)| from);
        assert!(arrived.is_err(), "{arrived:?} arrived at the proxy");
    }

    /// The head of the one request it gets, which it refuses.
    fn refuse_one(self) -> std::thread::JoinHandle<String> {
        std::thread::spawn(move || {
            let (mut stream, _) = self.0.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap() == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").unwrap();
            String::from_utf8(head).unwrap()
        })
    }
}

/// Whether this is the child; if not, the child has run by then, with all proxies set to this one, and passed.
fn is_child(test: &str, proxy: &str) -> bool {
    is_child_in(test, &PROXIES.map(|name| (name, proxy)))
}

/// The same, with these variables alone.
fn is_child_in(test: &str, variables: &[(&str, &str)]) -> bool {
    if std::env::var_os(IN_CHILD).is_some() {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let test = format!("proxy::{test}");
    child.args(["--exact", &test, "--nocapture"]).env(IN_CHILD, "1");
    for name in PROXIES.into_iter().chain(["NO_PROXY", "no_proxy", "REQUEST_METHOD"]) {
        child.env_remove(name);
    }
    child.envs(variables.iter().copied());
    let child = child.stdin(Stdio::null()).output().unwrap();
    let output = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && output.contains("1 passed"), "{output}");
    false
}

/// Logs in and fetches the script, once.
async fn fetch(builder: ClientBuilder) -> Result<Script, Error> {
    builder.retry(once()).build().unwrap().agent(credentials()).script(&id()).await
}

async fn service() -> Wire {
    Wire::listen(|_, head| match head.starts_with("POST") {
        true => say("200 OK", "", r#"{"access_token":"t0ken","token_type":"bearer","expires_in":86400}"#),
        false => say("200 OK", "", format!(r#"{{"id":"{ID}"}}"#)),
    })
    .await
}

#[tokio::test]
async fn with_proxies_in_the_environment_nothing_for_loopback_arrives_there() {
    let proxy = Proxy::listen();
    if is_child("with_proxies_in_the_environment_nothing_for_loopback_arrives_there", &proxy.url()) {
        let wire = service().await;
        fetch(wire.builder()).await.unwrap();
        assert_eq!(wire.heads().len(), 2);
        let localhost = wire.url.replace("127.0.0.1", "localhost");
        let region = Region::custom(&localhost, &localhost, &localhost).unwrap();
        fetch(Client::builder(region)).await.unwrap();
    }
    proxy.assert_untouched();
}

#[tokio::test]
async fn a_proxy_of_the_builder_is_not_used_for_loopback_either() {
    let proxy = Proxy::listen();
    let wire = service().await;
    fetch(wire.builder().proxy(proxy.url())).await.unwrap();
    assert_eq!(wire.heads().len(), 2);
    proxy.assert_untouched();
}

/// So the environment of the first test is one that is heard.
#[tokio::test]
async fn other_hosts_are_reached_by_the_proxy_of_the_environment() {
    let proxy = Proxy::listen();
    let url = proxy.url();
    let refused = proxy.refuse_one();
    if is_child("other_hosts_are_reached_by_the_proxy_of_the_environment", &url) {
        fetch(Client::builder(Region::EU_CENTRAL_1)).await.unwrap_err();
        return;
    }
    let head = refused.join().unwrap();
    assert!(head.starts_with("CONNECT login.mypurecloud.de:443 "), "{head}");
    assert!(!head.contains("Authorization") && !head.contains("hunter2"), "{head}");
}

#[tokio::test]
async fn other_hosts_are_reached_by_the_proxy_of_the_builder() {
    let proxy = Proxy::listen();
    let builder = Client::builder(Region::EU_CENTRAL_1).connect_timeout(Duration::from_secs(5)).proxy(proxy.url());
    let refused = proxy.refuse_one();
    fetch(builder).await.unwrap_err();
    assert!(refused.join().unwrap().starts_with("CONNECT login.mypurecloud.de:443 "));
}

fn remote() -> ClientBuilder {
    let host = "https://api.example.invalid";
    Client::builder(Region::custom(host, host, host).unwrap())
}

/// A client whose hosts are reached by this proxy, that waits for no backoff.
fn behind(proxy: &str) -> Client {
    let mut retry = RetryPolicy::default();
    retry.attempts = 3;
    retry.max_backoff = Duration::ZERO;
    remote().retry(retry).proxy(proxy.replace("://", "://corp:hunter2@")).build().unwrap()
}

async fn fetch_by_many(client: &Client) -> Vec<Error> {
    let fetches = (0..20).map(|_| {
        let agent = client.agent(Credentials::access_token("t0ken"));
        async move { agent.script(&id()).await.unwrap_err() }
    });
    join_all(fetches).await
}

#[tokio::test]
async fn a_proxy_that_wants_credentials_is_told_at_once_and_is_no_outage() {
    let proxy = Wire::listen(|_, _| {
        say("407 Proxy Authentication Required", "proxy-authenticate: Basic realm=\"corp\"\r\n", "")
    })
    .await;
    let client = behind(&proxy.url);
    for _ in 0..3 {
        for error in fetch_by_many(&client).await {
            assert_eq!((error.kind(), error.attempts()), (ErrorKind::Connection, 1), "{error}");
            assert!(!error.is_retryable() && !error.may_have_been_sent());
            let (told, address) = (error.to_string(), proxy.url.trim_start_matches("http://"));
            assert!(told.contains(&format!("proxy {address} wants credentials (407)")), "{told}");
            assert!(!format!("{told} {error:?}").contains("hunter2"), "{told}");
        }
        two_seconds_pass().await;
    }
    let login = client.agent(credentials()).script(&id()).await.unwrap_err();
    assert!(login.is_login() && !login.is_retryable(), "{login}");
    let stats = client.stats();
    assert_eq!((stats.login_attempts, stats.attempts), (1, 60));
    assert!(stats.api.down.is_empty() && stats.login.down.is_empty());
}

#[tokio::test]
async fn a_proxy_that_does_not_open_the_way_is_named_with_what_it_says_and_is_no_outage() {
    for (status, attempts, mend) in [
        ("403 Forbidden", 1, "have it allowed by whoever runs the proxy"),
        ("404 Not Found", 1, "ask who runs it"),
        ("405 Method Not Allowed", 1, "it is no proxy for https"),
        ("429 Too Many Requests", 3, "it cannot reach it now"),
        ("502 Bad Gateway", 3, "it cannot reach it now"),
    ] {
        let proxy = Wire::listen(move |_, _| say(status, "", "")).await;
        let client = behind(&proxy.url);
        for _ in 0..3 {
            for error in fetch_by_many(&client).await {
                assert_eq!((error.kind(), error.attempts()), (ErrorKind::Connection, attempts), "{error}");
                assert_eq!((error.is_retryable(), error.may_have_been_sent()), (attempts > 1, false), "{error}");
                let (told, address) = (error.to_string(), proxy.url.trim_start_matches("http://"));
                assert!(told.contains(&format!("proxy {address} did not open the way")), "{told}");
                assert!(told.contains(&format!("({status})")) && told.contains(mend), "{told}");
            }
            two_seconds_pass().await;
        }
        assert!(client.stats().api.down.is_empty());
        let asked = proxy.heads();
        let whole = |head: &&String| {
            head.starts_with("CONNECT api.example.invalid:443 ") && head.contains("Basic Y29ycDpodW50ZXIy")
        };
        assert_eq!(asked.iter().filter(whole).count(), asked.len(), "{:?}", asked.first());
    }
}

#[tokio::test]
async fn a_proxy_that_says_no_and_then_yes_is_not_told_to_have_said_yes() {
    let proxy = Wire::listen(|nth, _| match nth {
        0 => say("403 Forbidden", "", ""),
        _ => say("200 OK", "", ""),
    })
    .await;
    let client = remote().retry(once()).proxy(&proxy.url).build().unwrap();
    let error = client.agent(Credentials::access_token("t0ken")).script(&id()).await.unwrap_err();
    assert_eq!((error.kind(), proxy.heads().len()), (ErrorKind::Connection, 2), "{error}");
    assert!(error.to_string().contains("did not open the way") && !error.to_string().contains("200"), "{error}");
}

#[tokio::test]
async fn a_proxy_that_says_no_and_then_nothing_has_still_said_no() {
    let proxy = Wire::listen(|nth, _| match nth {
        0 => say("403 Forbidden", "", ""),
        _ => Say::Nothing,
    })
    .await;
    let mut retry = RetryPolicy::default();
    retry.attempts = 1;
    let client = remote().retry(retry).proxy(&proxy.url).build().unwrap();
    let agent = client.agent(Credentials::access_token("t0ken"));
    let call = tokio::spawn(async move { agent.script(&id()).await.unwrap_err() });
    while proxy.heads().len() < 2 {
        tokio::task::yield_now().await;
    }
    two_seconds_pass().await;
    let error = call.await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert!(error.to_string().contains("did not open the way"), "{error}");
    assert!(client.stats().api.down.is_empty());
}

/// All that can be the matter with a proxy before it opens the way: it is named, nothing is known of the host, and nothing
/// is taken for the host's outage.
async fn it_is_the_proxy(url: &str, says: &[&str], attempts: u32) {
    let client = behind(url);
    for _ in 0..3 {
        for error in fetch_by_many(&client).await {
            assert_eq!((error.kind(), error.attempts()), (ErrorKind::Connection, attempts), "{error}");
            assert_eq!((error.is_retryable(), error.may_have_been_sent()), (attempts > 1, false), "{error}");
            let (told, address) = (error.to_string(), url.split_once("://").unwrap().1);
            assert!(told.contains(&format!("the proxy {address}")), "{told}");
            assert!(says.iter().all(|word| told.contains(word)) && !told.contains("hunter2"), "{told}");
        }
        two_seconds_pass().await;
    }
    assert!(client.stats().api.down.is_empty());
}

#[tokio::test]
async fn a_proxy_that_is_none_or_closes_is_not_taken_for_the_host() {
    for garbage in ["SSH-2.0-OpenSSH_9.2\r\n", "\u{15}\u{3}\u{3}\0\u{2}\u{2}F", "HTTP/9.9 200 OK\r\n\r\n"] {
        let proxy = Wire::listen(move |_, _| Say::Bytes(garbage.into())).await;
        it_is_the_proxy(&proxy.url, &["did not open the way", "no HTTP proxy"], 3).await;
    }
    for closed in [|| Say::Bytes(Vec::new()), || Say::Bytes(b"HTTP/1.1 20".to_vec())] {
        let proxy = Wire::listen(move |_, _| closed()).await;
        it_is_the_proxy(&proxy.url, &["closed the connection when asked for the way to api.example.invalid"], 3).await;
    }
    let proxy = Wire::listen(|_, _| Say::Reset(Vec::new())).await;
    it_is_the_proxy(&proxy.url, &["on the way to api.example.invalid"], 3).await;
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_not_taken_for_the_host() {
    let gone = Proxy::listen().url();
    it_is_the_proxy(&gone, &["refused it, nothing listens there"], 3).await;
    // A label of more than 63 bytes: no name server needs to be asked.
    let nobody = format!("http://{}.invalid:3128", "p".repeat(64));
    it_is_the_proxy(&nobody, &["not known by this name"], 3).await;
}

#[cfg(any(feature = "rustls-ring", feature = "rustls-aws-lc"))]
#[tokio::test]
async fn a_proxy_asked_by_https_that_speaks_none_is_told_at_once() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    it_is_the_proxy(&format!("https://{address}"), &["speaks no TLS", "check scheme and port"], 1).await;
}

#[test]
fn a_variable_that_cannot_be_read_is_refused_where_a_host_would_use_it() {
    for (variable, value) in [
        ("HTTPS_PROXY", "http://user:p#ss@127.0.0.1:3128"),
        ("https_proxy", "\"http://user:pass@127.0.0.1:3128\""),
        ("ALL_PROXY", "http:/user:pass@127.0.0.1:3128"),
        ("all_proxy", " 127.0.0.1:3128"),
        ("HTTPS_PROXY", "socks5://127.0.0.1:1080"),
    ] {
        let test = "a_variable_that_cannot_be_read_is_refused_where_a_host_would_use_it";
        if is_child_in(test, &[(variable, value)]) {
            for builder in [Client::builder(Region::EU_CENTRAL_1), remote()] {
                let error = builder.build().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                let told = error.to_string();
                assert!(told.contains("_PROXY cannot") || told.contains("_proxy cannot"), "{told}");
                assert!(!told.contains("ss@") && !told.contains("user:p#"), "{told}");
            }
            let here = "http://127.0.0.1:9";
            Client::builder(Region::custom(here, here, here).unwrap()).build().unwrap();
            // One of the builder's is instead of it.
            remote().proxy("127.0.0.1:3128").build().unwrap();
            return;
        }
    }
}

#[test]
fn a_proxy_of_the_builder_that_cannot_be_read_is_refused_for_any_host() {
    let here = "http://127.0.0.1:9";
    for value in ["", "http://user:hunter2#@proxy:3128", "socks5h://proxy", "http://proxy:99999", "'proxy:3128'"] {
        for builder in [remote(), Client::builder(Region::custom(here, here, here).unwrap())] {
            let error = builder.proxy(value).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(
                error.to_string().contains("the proxy URL") && !format!("{error:?}").contains("hunter2"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn the_proxy_is_shown_the_password_that_was_meant_also_in_a_cgi_program() {
    let proxy = Proxy::listen();
    let url = proxy.url().replace("http://", "http://us%40er:p%23%C3%A4:ss@");
    let head = proxy.refuse_one();
    let test = "the_proxy_is_shown_the_password_that_was_meant_also_in_a_cgi_program";
    if is_child_in(test, &[("HTTPS_PROXY", ""), ("https_proxy", &url), ("REQUEST_METHOD", "GET")]) {
        fetch(remote()).await.unwrap_err();
        return;
    }
    // us@er:p#ä:ss
    assert!(head.join().unwrap().contains("Proxy-Authorization: Basic dXNAZXI6cCPDpDpzcw=="));
}

#[tokio::test]
async fn what_no_proxy_names_is_reached_directly() {
    let proxy = Proxy::listen();
    let url = proxy.url();
    let test = "what_no_proxy_names_is_reached_directly";
    for list in [
        "*.example.invalid",
        "api.example.invalid:443",
        " localhost , .INVALID",
        "*",
        "127.0.0.1 example.invalid",
        "* localhost",
        "\"*\"",
    ] {
        if is_child_in(test, &[("HTTPS_PROXY", &url), ("NO_PROXY", list)]) {
            let error = fetch(remote()).await.unwrap_err().to_string();
            assert!(!error.contains("proxy"), "{error}");
            return;
        }
    }
    proxy.assert_untouched();
}
