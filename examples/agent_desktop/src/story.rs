//! A day of one agent: the backend driven as a browser would, each step printed and held against what it should be.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use axum::http::Method;
use axum::http::header::{COOKIE, LOCATION, RETRY_AFTER, SET_COOKIE};
use genesys_scripts::OAuthClient;
use genesys_scripts::simulator::Simulator;

use super::store::{Store, random_key};
use super::{Running, config_of};

pub(super) async fn story() -> anyhow::Result<()> {
    let simulator = Simulator::builder().start().await?;
    let (config, oauth) = (config_of(&simulator), OAuthClient::public("agent-desktop"));
    let ids = simulator.script_ids();
    let [script, other, ..] = ids.as_slice() else { bail!("the simulator has no scripts") };
    let (script, other) = (format!("/scripts/{script}"), format!("/scripts/{other}"));
    let store = Store::open(None, &random_key()?)?;
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let running = Running::start(None, at, &config, oauth.clone(), store.clone()).await?;
    let address = running.address;
    // reqwest alone wants a crypto provider of the process, even where all is http.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
    let mut browser = Browser { http, address, cookies: BTreeMap::new() };

    browser.step("before the login", Method::GET, &script, 401).await?;
    browser.step("login, by way of Genesys Cloud", Method::GET, "/login", 200).await?;
    browser.step("the scripts", Method::GET, "/scripts", 200).await?;
    browser.step("the script", Method::GET, &script, 200).await?;
    browser.step("an id that nobody filled in", Method::GET, "/scripts/null", 400).await?;
    simulator.set_down(true);
    browser.step("the service is down: as it was, and stale", Method::GET, &script, 200).await?;
    browser.step("what was not seen before it was down", Method::GET, &other, 503).await?;
    browser.step("health: an outage makes nobody unready", Method::GET, "/health", 200).await?;
    simulator.set_down(false);
    simulator.set_rate_limit(1);
    browser.step("the quota is spent", Method::GET, &script, 429).await?;
    simulator.set_rate_limit(300);

    // The same, as after a deployment: nothing is left but the database.
    let left = running.stop().await?;
    ensure!(left.is_complete(), "{left}");
    let running = Running::start(None, address, &config, oauth, store).await?;
    browser.step("after a restart, without a login", Method::GET, &script, 200).await?;
    let logins = simulator.stats().tokens_issued;
    ensure!(logins == 1, "{logins} logins");

    simulator.expire_tokens();
    browser.step("the token expired: refreshed, and stored", Method::GET, &script, 200).await?;
    browser.step("logout", Method::POST, "/logout", 204).await?;
    browser.step("after the logout", Method::GET, &script, 401).await?;
    let left = running.stop().await?;
    ensure!(left.is_complete(), "{left}");
    let stats = simulator.stats();
    ensure!(stats.tokens_revoked == 1, "{} tokens were revoked", stats.tokens_revoked);
    println!("one login, one refresh, one token revoked");
    Ok(())
}

/// As much of a browser as the story needs.
struct Browser {
    http: reqwest::Client,
    address: SocketAddr,
    cookies: BTreeMap<String, String>,
}

impl Browser {
    async fn step(&mut self, what: &str, method: Method, path: &str, expected: u16) -> anyhow::Result<()> {
        let mut next = Some((method, reqwest::Url::parse(&format!("http://{}{path}", self.address))?));
        while let Some((method, url)) = next.take() {
            let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let answer =
                self.http.request(method.clone(), url.clone()).header(COOKIE, cookies.join("; ")).send().await?;
            for set in answer.headers().get_all(SET_COOKIE) {
                let pair = set.to_str()?.split(';').next().unwrap_or_default();
                let (name, value) = pair.split_once('=').context("a cookie without a value")?;
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
            self.cookies.retain(|_, value| !value.is_empty());
            if let Some(to) = answer.headers().get(LOCATION) {
                next = Some((Method::GET, url.join(to.to_str()?)?));
                continue;
            }
            let status = answer.status().as_u16();
            let wait = answer
                .headers()
                .get(RETRY_AFTER)
                .and_then(|wait| Some(format!("Retry-After {}, ", wait.to_str().ok()?)));
            let wait = wait.unwrap_or_default();
            let text = answer.text().await?;
            let text: String = text.lines().next().unwrap_or_default().chars().take(60).collect();
            println!("{what}: {method} {} -> {status} {wait}{text}", url.path());
            ensure!(status == expected, "expected {expected}");
        }
        Ok(())
    }
}
