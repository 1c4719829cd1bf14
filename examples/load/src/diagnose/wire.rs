//! The experiment's requests over sockets: each is sent once, as a plain client sends it, and taken down as it ended.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, stream};
use genesys_scripts::ScriptId;
use hyper::header::HeaderValue;
use hyper::{HeaderMap, StatusCode, Uri};
use hyper_util::client::legacy;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::design::{Cell, Order};
use super::experiment::Subject;
use super::sample::{End, Login, Sample, Taken};
use crate::args::Args;
use crate::failure::Failure;
use crate::feeder;
use crate::naive::{self, Known, Refusal};
use crate::numbers;
use crate::sender::{self, Answer, Means, get};
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
    kept: Vec<(sender::Sender, AtomicU32)>,
    fresh: sender::Sender,
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
    login: Uri,
    scripts: Vec<ScriptId>,
    urls: Vec<Uri>,
    workload: crate::args::Workload,
    tokens: Vec<(HeaderValue, Instant)>,
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
        let means = Means::new(&target.region, target.ca.as_deref())?;
        let others = other_addresses(&target.region.api_url()).into_iter().map(Some);
        let senders = std::iter::once(None).chain(others).map(|address| sender(&means, address)).collect();
        let shared = Shared {
            began: Instant::now(),
            senders,
            timeout: args.call_timeout.min(TIMEOUT),
            in_flight: AtomicU32::new(0),
            connections: Mutex::default(),
            stop: stop.clone(),
        };
        let login = format!("{}/oauth/token", target.region.login_url()).parse()?;
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
        numbers::count(self.scripts.len())
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
    async fn more_scripts(&mut self, path: &str, token: Option<&HeaderValue>) {
        let Some(sender) = self.shared.senders.first() else { return };
        let Ok(url) = format!("{}{path}", self.target.region.api_url()).parse() else { return };
        let Ok(answer) = sender.fresh.send(get(&url, token), self.shared.timeout).await else { return };
        let listed: Vec<Listed> = serde_json::from_slice(&answer.body)
            .or_else(|_| serde_json::from_slice::<Page>(&answer.body).map(|page| page.entities))
            .unwrap_or_default();
        for Listed { id } in listed.into_iter().filter(|_| answer.status == StatusCode::OK) {
            if self.scripts.len() < IDS && !self.scripts.contains(&id) {
                self.scripts.push(id);
            }
        }
    }

    async fn log_in_once(&self, login: &feeder::Login) -> Result<HeaderValue, End> {
        let (Some(client), Some(sender)) = (&self.target.client, self.shared.senders.first()) else {
            return Err(End::NoScript);
        };
        let (request, secrets) = naive::login(&self.login, client, login).map_err(|_| End::NoScript)?;
        let kept = sender.kept.first().map_or(&sender.fresh, |(kept, _)| kept);
        let answer = kept.send(request, self.shared.timeout).await.map_err(|error| broken(&error))?;
        match answer.status {
            StatusCode::OK => naive::bearer(&answer.body).ok_or(End::NoScript),
            status => Err(refused(status, &answer.body, &secrets)),
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
        numbers::count(self.urls.len())
    }

    fn addresses(&self) -> u32 {
        numbers::count(self.shared.senders.len())
    }

    fn tokens(&self) -> u32 {
        numbers::count(self.tokens.len())
    }

    async fn log_in(&mut self, agents: usize, at_once: bool, taken: &mut Taken) {
        let mut logins = Vec::new();
        for _ in 0..agents {
            match self.target.agents.get(self.used).map(|agent| &agent.login) {
                Some(feeder::Login::AccessToken(token)) => {
                    let bearer = naive::header("Bearer", token.expose_secret()).ok();
                    self.tokens.extend(bearer.map(|bearer| (bearer, Instant::now())));
                }
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
        let next = numbers::count(connections.len());
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
    urls: Vec<Uri>,
    tokens: Vec<(HeaderValue, Instant)>,
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
        let answer = client.send(get(url, Some(token)), shared.timeout).await;
        shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        let took = shared.began.elapsed().saturating_sub(at).as_secs_f64();
        // Without an answer it is known where there was no choice of connections.
        let mut fresh_known = order.new_connection || self.cell.workers == 1;
        let (mut connection, mut fresh, mut named) = (None, !had, None);
        let end = match answer {
            Err(error) => broken(&error),
            Ok(Answer { status, headers, body, local, .. }) => {
                if let Some((number, first)) = local.map(|local| shared.connection(local)) {
                    connection = Some(number);
                    (fresh, fresh_known) = (first, true);
                }
                if !order.new_connection {
                    idle.fetch_add(1, Ordering::Relaxed);
                }
                named = node(&headers);
                match status {
                    StatusCode::OK if serde_json::from_slice::<Known>(&body).is_ok() => End::Well,
                    StatusCode::OK => End::NoScript,
                    status => refused(status, &body, &[&naive::token_of(token)]),
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

fn sender(means: &Means, address: Option<IpAddr>) -> Sender {
    let kept = (0..POOLS).map(|_| (means.sender(address, usize::MAX), AtomicU32::new(0))).collect();
    Sender { kept, fresh: means.sender(address, 0) }
}

/// On loopback a machine may have more addresses than one. Elsewhere there is no knowing which may be used.
fn other_addresses(api: &str) -> Vec<IpAddr> {
    let host = api.parse::<Uri>().ok().and_then(|url| url.host()?.parse::<Ipv4Addr>().ok());
    if !host.is_some_and(|address| address.is_loopback()) {
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
fn broken(error: &anyhow::Error) -> End {
    if let Some(what) = error.chain().find_map(Failure::of_machine) {
        return End::Machine(what);
    }
    let why = error.root_cause().to_string().chars().take(80).collect();
    let over = error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
    match error.downcast_ref::<legacy::Error>() {
        _ if over => End::Timeout,
        Some(error) if error.is_connect() => End::Unreachable(why),
        _ => End::Broken(why),
    }
}

fn refused(status: StatusCode, body: &[u8], secrets: &[&str]) -> End {
    End::Refused(status.as_u16(), Refusal::of(body).words(secrets))
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
