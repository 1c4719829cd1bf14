//! The experiment's requests over sockets: each is sent once, as a plain client sends it, and taken down as it ended.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use genesys_scripts::{Region, ScriptId};
use hyper_util::client::legacy::connect::HttpInfo;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use reqwest::{Certificate, Client, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::design::{Cell, Order};
use super::experiment::Subject;
use super::sample::{End, Login, Sample, Taken};
use crate::args::Args;
use crate::failure::Failure;
use crate::feeder;
use crate::naive::{self, Issued, Known, Refusal};
use crate::stop::Stop;
use crate::target::Target;

/// No request is begun later than this, and none is waited for later than the end.
const LAST_START: Duration = Duration::from_secs(165);
const END: Duration = Duration::from_secs(178);
/// Nobody is logged in later than this, so that there is time to ask for scripts.
const LOGINS: Duration = Duration::from_secs(60);
/// An answer that takes longer is none: the experiment has no time to wait for it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// One cell may begin requests for so long.
const CELL: Duration = Duration::from_secs(15);
/// Pools of kept connections, taken in turn: so one at a time is not always the same connection.
const POOLS: usize = 8;
/// Scripts that are asked for.
const IDS: usize = 40;

/// Headers by which services and what stands before them name who answered.
const NODES: [&str; 14] = [
    "x-node",
    "x-served-by",
    "x-backend",
    "x-backend-server",
    "x-server",
    "x-server-id",
    "x-server-name",
    "x-instance",
    "x-instance-id",
    "x-host",
    "x-pod",
    "x-upstream",
    "x-amz-cf-pop",
    "server",
];

/// What one address sends with.
struct Sender {
    kept: Vec<(Client, AtomicU32)>,
    fresh: Client,
}

/// What all requests share.
struct Shared {
    began: Instant,
    senders: Vec<Sender>,
    timeout: Duration,
    in_flight: AtomicU32,
    /// Connections by their own end, numbered.
    connections: Mutex<HashMap<SocketAddr, u32>>,
    stop: Stop,
}

/// The target.
pub(crate) struct Wire<'a> {
    shared: Arc<Shared>,
    target: &'a Target,
    login: String,
    scripts: Vec<ScriptId>,
    urls: Vec<Url>,
    workload: crate::args::Workload,
    tokens: Vec<(SecretString, Instant)>,
    /// Of the identities there are, so many have been used.
    used: usize,
    /// Logins for which there was no time.
    left_out: usize,
}

#[derive(Deserialize)]
struct Listed {
    id: ScriptId,
}

#[derive(Deserialize)]
struct Page {
    entities: Vec<Listed>,
}

impl<'a> Wire<'a> {
    /// Nothing is sent but, to a simulator, the question for its scripts.
    pub(crate) async fn new(args: &Args, target: &'a Target, stop: &Stop) -> anyhow::Result<Self> {
        let mut scripts: Vec<ScriptId> = Vec::new();
        for agent in &target.agents {
            if scripts.len() < IDS && !scripts.contains(&agent.script) {
                scripts.push(agent.script.clone());
            }
        }
        let mut senders = vec![sender(target, None)?];
        for address in other_addresses(&target.region.api_url()) {
            senders.push(sender(target, Some(address))?);
        }
        let shared = Shared {
            began: Instant::now(),
            senders,
            timeout: args.call_timeout.min(TIMEOUT),
            in_flight: AtomicU32::new(0),
            connections: Mutex::default(),
            stop: stop.clone(),
        };
        let login = format!("{}/oauth/token", target.region.login_url());
        let (shared, tokens, workload) = (Arc::new(shared), Vec::new(), args.workload);
        let mut wire =
            Self { shared, target, login, scripts, urls: Vec::new(), workload, tokens, used: 0, left_out: 0 };
        if args.script_id.is_none() && args.feeder.is_none() && args.region.is_none() {
            wire.more_scripts("/_simulator/scripts", None).await;
        }
        wire.aim()?;
        Ok(wire)
    }

    /// Scripts that the user's run asks for.
    pub(crate) fn script_count(&self) -> u32 {
        number(self.scripts.len())
    }

    /// Logins for which there was no time.
    pub(crate) fn left_out(&self) -> usize {
        self.left_out
    }

    fn aim(&mut self) -> anyhow::Result<()> {
        let url = |script| {
            let urls = naive::urls(&self.target.region, script, self.workload)?;
            urls.into_iter().next().map(|(_, url)| url).context("a workload that asks for nothing")
        };
        self.urls = self.scripts.iter().map(url).collect::<anyhow::Result<_>>()?;
        Ok(())
    }

    /// Adds those that a list names, if there is one.
    async fn more_scripts(&mut self, path: &str, token: Option<&SecretString>) {
        let Some(sender) = self.shared.senders.first() else { return };
        let mut request = sender.fresh.get(format!("{}{path}", self.target.region.api_url()));
        if let Some(token) = token {
            request = request.bearer_auth(token.expose_secret());
        }
        let Ok(response) = request.header(ACCEPT, "application/json").timeout(self.shared.timeout).send().await else {
            return;
        };
        let good = response.status() == StatusCode::OK;
        let Ok(body) = response.bytes().await else { return };
        let listed: Vec<Listed> = serde_json::from_slice(&body)
            .or_else(|_| serde_json::from_slice::<Page>(&body).map(|page| page.entities))
            .unwrap_or_default();
        for Listed { id } in listed.into_iter().filter(|_| good) {
            if self.scripts.len() < IDS && !self.scripts.contains(&id) {
                self.scripts.push(id);
            }
        }
    }

    async fn log_in_once(&self, login: &feeder::Login) -> Result<SecretString, End> {
        let (Some((id, secret)), Some(sender)) = (&self.target.client, self.shared.senders.first()) else {
            return Err(End::NoScript);
        };
        let body = naive::form(login);
        let client = sender.kept.first().map_or(&sender.fresh, |(client, _)| client);
        let request = client
            .post(&self.login)
            .basic_auth(id, Some(secret.expose_secret()))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .timeout(self.shared.timeout)
            .body(body);
        let answer = async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.bytes().await?))
        };
        match answer.await {
            Err(error) => Err(broken(&error)),
            Ok((StatusCode::OK, body)) => {
                serde_json::from_slice::<Issued>(&body).map(|issued| issued.access_token).map_err(|_| End::NoScript)
            }
            Ok((status, body)) => {
                let mut secrets = vec![secret.expose_secret()];
                if let feeder::Login::RefreshToken(token) = login {
                    secrets.push(token.expose_secret());
                }
                Err(refused(status, &body, &secrets))
            }
        }
    }
}

impl Subject for Wire<'_> {
    fn now(&self) -> f64 {
        self.shared.began.elapsed().as_secs_f64()
    }

    fn is_over(&self) -> bool {
        self.shared.is_over()
    }

    fn ids(&self) -> u32 {
        number(self.urls.len())
    }

    fn addresses(&self) -> u32 {
        number(self.shared.senders.len())
    }

    fn tokens(&self) -> u32 {
        number(self.tokens.len())
    }

    async fn log_in(&mut self, agents: usize, at_once: bool, taken: &mut Taken) {
        let mut logins = Vec::new();
        for _ in 0..agents {
            match self.target.agents.get(self.used).map(|agent| &agent.login) {
                Some(feeder::Login::AccessToken(token)) => self.tokens.push((token.clone(), Instant::now())),
                Some(login) => logins.push(login.clone()),
                // One more than there are: only a client has one to spare.
                None if matches!(self.target.agents.first().map(|a| &a.login), Some(feeder::Login::Client)) => {
                    logins.push(feeder::Login::Client);
                }
                None => {}
            }
            self.used += 1;
        }
        let shared = Arc::clone(&self.shared);
        let mut ended = Vec::new();
        {
            let at_a_time = if at_once { logins.len().max(1) } else { 1 };
            // A token is as old as its own login, and not as the last one.
            let log_in = async |login| (self.log_in_once(login).await, Instant::now());
            let ends = stream::iter(&logins).map(log_in).buffer_unordered(at_a_time);
            let mut ends = std::pin::pin!(ends);
            while let Some(end) = shared.in_time(ends.next()).await.flatten() {
                ended.push(end);
            }
        }
        self.left_out += logins.len() - ended.len();
        for (result, at) in ended {
            let end = match result {
                Ok(token) => {
                    self.tokens.push((token, at));
                    End::Well
                }
                Err(end) => end,
            };
            let end = taken.end(end);
            taken.logins.push(Login { at_once, end });
        }
        if self.scripts.len() < 2
            && let Some((token, _)) = self.tokens.first().cloned()
        {
            // To tell what is the script's from what is not, there must be others.
            shared.in_time(self.more_scripts("/api/v2/scripts?pageSize=40", Some(&token))).await;
            let _ = self.aim();
        }
    }

    async fn run(&mut self, cell: &Cell, taken: &mut Taken) {
        let work = Arc::new(Work {
            shared: Arc::clone(&self.shared),
            cell: cell.clone(),
            urls: self.urls.clone(),
            tokens: self.tokens.clone(),
            next: AtomicUsize::new(0),
            due: tokio::sync::Mutex::new(Instant::now()),
            ends: Instant::now() + CELL,
        });
        let mut workers = JoinSet::new();
        for slot in 0..cell.workers.min(cell.orders.len()) {
            workers.spawn(Arc::clone(&work).run(slot));
        }
        let end = self.shared.began + END;
        loop {
            let joined = tokio::select! {
                joined = timeout_at(end, workers.join_next()) => joined,
                () = self.shared.stop.asked() => break,
            };
            let Ok(Some(ended)) = joined else { break };
            for (mut sample, end) in ended.unwrap_or_default() {
                sample.end = taken.end(end);
                taken.samples.push(sample);
            }
        }
        if !self.shared.is_over() {
            tokio::time::sleep(cell.then).await;
        }
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.stop.signal().is_some() || self.began.elapsed() > LAST_START
    }

    /// What comes of it, if that is while there is time to log in.
    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stop.asked() => None,
            () = sleep_until(self.began + LOGINS) => None,
            done = work => Some(done),
        }
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<SocketAddr, u32>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a connection, and whether it is seen for the first time.
    fn connection(&self, local: SocketAddr) -> (u32, bool) {
        let mut connections = self.connections();
        let next = number(connections.len());
        let mut fresh = false;
        let known = *connections.entry(local).or_insert_with(|| {
            fresh = true;
            next
        });
        (known, fresh)
    }
}

/// A cell that is being worked at.
struct Work {
    shared: Arc<Shared>,
    cell: Cell,
    urls: Vec<Url>,
    tokens: Vec<(SecretString, Instant)>,
    next: AtomicUsize,
    due: tokio::sync::Mutex<Instant>,
    ends: Instant,
}

impl Work {
    async fn run(self: Arc<Self>, slot: usize) -> Vec<(Sample, End)> {
        let mut done = Vec::new();
        while Instant::now() < self.ends && !self.shared.is_over() {
            let Some(order) = self.cell.orders.get(self.next.fetch_add(1, Ordering::Relaxed)).copied() else { break };
            if !self.cell.every.is_zero() {
                let mut due = self.due.lock().await;
                sleep_until(*due).await;
                // By the plan and not by when it was sent: a timer of whole milliseconds does not make it slower.
                *due += self.cell.every;
            }
            done.extend(self.send(order, slot + done.len()).await);
        }
        done
    }

    async fn send(&self, order: Order, turn: usize) -> Option<(Sample, End)> {
        let shared = &self.shared;
        let sender = shared.senders.get(order.address as usize)?;
        let (url, (token, issued)) = (self.urls.get(order.id as usize)?, self.tokens.get(order.token as usize)?);
        let age = issued.elapsed().as_secs_f64();
        let (kept, idle) = sender.kept.get(turn % POOLS)?;
        let client = if order.new_connection { &sender.fresh } else { kept };
        // Whether the pool has a connection to take, in case none is told of in the end.
        let had = !order.new_connection
            && idle.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |idle| idle.checked_sub(1)).is_ok();
        let at = shared.began.elapsed();
        let in_flight = shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let request = client.get(url.clone()).bearer_auth(token.expose_secret()).header(ACCEPT, "application/json");
        let answer = async {
            let response = request.timeout(shared.timeout).send().await?;
            let local = response.extensions().get::<HttpInfo>().map(HttpInfo::local_addr);
            let (status, node) = (response.status(), node(response.headers()));
            Ok::<_, reqwest::Error>((status, local, node, response.bytes().await?))
        };
        let answer = answer.await;
        shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        let took = shared.began.elapsed().saturating_sub(at).as_secs_f64();
        // Without an answer it is known where there was no choice of connections.
        let mut fresh_known = order.new_connection || self.cell.workers == 1;
        let (mut connection, mut fresh, mut named) = (None, !had, None);
        let end = match answer {
            Err(error) => broken(&error),
            Ok((status, local, node, body)) => {
                if let Some((number, first)) = local.map(|local| shared.connection(local)) {
                    connection = Some(number);
                    (fresh, fresh_known) = (first, true);
                }
                if !order.new_connection {
                    idle.fetch_add(1, Ordering::Relaxed);
                }
                named = node;
                match status {
                    StatusCode::OK if serde_json::from_slice::<Known>(&body).is_ok() => End::Well,
                    StatusCode::OK => End::NoScript,
                    status => refused(status, &body, &[token.expose_secret()]),
                }
            }
        };
        let sample = Sample {
            arm: self.cell.arm,
            at: at.as_secs_f64(),
            took,
            in_flight,
            token: order.token,
            id: order.id,
            address: order.address,
            fresh,
            fresh_known,
            connection,
            node: named,
            age,
            stale: (order.token as usize) + 1 < self.tokens.len(),
            end: Taken::WELL,
        };
        Some((sample, end))
    }
}

/// Never through a proxy to this machine, which would see the secret in clear.
fn builder(region: &Region, ca: Option<&[u8]>) -> anyhow::Result<reqwest::ClientBuilder> {
    // reqwest alone wants a crypto provider of the process, even where all is http.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // By HTTP/1.1, as the run that it explains: how many streams a server lets a connection have would bound what is sent at once.
    let mut builder = Client::builder().http1_only().redirect(reqwest::redirect::Policy::none());
    if let Some(pem) = ca {
        builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem)?);
    }
    // A region is https, or on loopback.
    let clear = [region.api_url(), region.login_url()].iter().any(|url| Target::is_loopback(url));
    Ok(if clear { builder.no_proxy() } else { builder })
}

fn sender(target: &Target, address: Option<IpAddr>) -> anyhow::Result<Sender> {
    let client = |most_idle: usize| {
        let mut builder = builder(&target.region, target.ca.as_deref())?;
        if target.region.api_url().starts_with("http:") && target.region.login_url().starts_with("http:") {
            // The system's certificates take long to read, for so many clients.
            builder = builder.tls_certs_only([]);
        }
        let builder = builder.retry(reqwest::retry::never()).local_address(address).pool_max_idle_per_host(most_idle);
        Ok::<_, anyhow::Error>(builder.build()?)
    };
    let kept = (0..POOLS).map(|_| Ok((client(usize::MAX)?, AtomicU32::new(0)))).collect::<anyhow::Result<_>>()?;
    Ok(Sender { kept, fresh: client(0)? })
}

/// On loopback a machine may have more addresses than one. Elsewhere there is no knowing which may be used.
fn other_addresses(api: &str) -> Vec<IpAddr> {
    let host = Url::parse(api).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    if !host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback()) {
        return Vec::new();
    }
    let ours = |last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    (2..4).map(ours).filter(|address| UdpSocket::bind((*address, 0)).is_ok()).collect()
}

fn node(headers: &HeaderMap) -> Option<String> {
    NODES.iter().find_map(|name| {
        let value = headers.get(*name)?.to_str().ok()?;
        Some(format!("{name}: {}", value.chars().take(60).collect::<String>()))
    })
}

/// No whole answer came.
fn broken(error: &reqwest::Error) -> End {
    if let Some(what) = Failure::of_machine(error) {
        return End::Machine(what);
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let why = innermost.to_string().chars().take(80).collect();
    match error {
        _ if error.is_timeout() => End::Timeout,
        _ if error.is_connect() => End::Unreachable(why),
        _ => End::Broken(why),
    }
}

fn refused(status: StatusCode, body: &[u8], secrets: &[&str]) -> End {
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let mut text = String::new();
    for part in [&refusal.code, &refusal.message].into_iter().flatten() {
        // Without a secret it may echo, escaped, and cut.
        let secrets = secrets.iter().filter(|secret| !secret.is_empty());
        let clean = secrets.fold(part.clone(), |part, secret| part.replace(secret, "[REDACTED]"));
        text.push_str(&format!(
            "{}{:?}",
            if text.is_empty() { "" } else { " " },
            clean.chars().take(100).collect::<String>()
        ));
    }
    End::Refused(status.as_u16(), text)
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use genesys_scripts::simulator::Simulator;

    use super::*;
    use crate::target::tests::found;

    /// So many agents that log in as one client.
    async fn clients(name: &str, url: &str, agents: usize) -> (Args, Target) {
        let (args, mut target) = found(name, &["--diagnose", "--api-url", url], agents).await;
        target.client = Some(("load-test".to_owned(), "s3cret".into()));
        target.agents.iter_mut().for_each(|agent| agent.login = feeder::Login::Client);
        (args, target)
    }

    #[tokio::test]
    async fn a_token_is_as_old_as_its_own_login() {
        let simulator = Simulator::builder().client_secret("s3cret").latency(Duration::from_millis(100));
        let simulator = simulator.start().await.unwrap();
        let (args, target) = clients("ages", simulator.url(), 3).await;
        let mut wire = Wire::new(&args, &target, &Stop::on_signals().unwrap()).await.unwrap();
        wire.log_in(3, false, &mut Taken::new()).await;
        let issued: Vec<_> = wire.tokens.iter().map(|(_, issued)| *issued).collect();
        assert_eq!(issued.len(), 3);
        for pair in issued.windows(2) {
            assert!(pair[1] - pair[0] >= Duration::from_millis(100), "{issued:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn logins_that_nobody_answers_leave_time_for_the_rest() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let here = format!("http://{}", silent.local_addr().unwrap());
        let (args, target) = clients("logins", &here, 40).await;
        let mut wire = Wire::new(&args, &target, &Stop::on_signals().unwrap()).await.unwrap();
        let mut taken = Taken::new();
        wire.log_in(40, false, &mut taken).await;
        assert!(wire.now() < 61.0, "after {} s", wire.now());
        assert!(taken.logins.len() >= 5, "{}", taken.logins.len());
        assert_eq!(taken.logins.len() + wire.left_out(), 40);
    }
}
