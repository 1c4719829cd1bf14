//! Loopback hosts are reached directly, whatever proxies the environment or the builder names; others by the proxy.
//!
//! The environment must be set before a client is built, and safe code cannot set its own: each test runs itself once
//! more, as a child with that environment.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use genesys_scripts::{Client, ClientBuilder, Error, Region, Script};

use crate::common::wire::{Wire, say};
use crate::common::{ID, credentials, id, once};

const IN_CHILD: &str = "GENESYS_SCRIPTS_TEST_IN_CHILD";
const PROXIES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

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
    if std::env::var_os(IN_CHILD).is_some() {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let test = format!("proxy::{test}");
    child.args(["--exact", &test, "--nocapture"]).env(IN_CHILD, "1").env_remove("NO_PROXY").env_remove("no_proxy");
    // Whether this is a CGI program, which must not believe `HTTP_PROXY`.
    child.env_remove("REQUEST_METHOD").envs(PROXIES.map(|name| (name, proxy)));
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
