//! A worker of a Locust master: its users are agents of ours, and Locust adds up what they meet.
//!
//! It speaks the protocol of Locust 2.47 (`runners.py`, `stats.py`), over a DEALER of ZeroMQ. The master decides how many
//! users of which class there are; the worker deals itself its share of the feeder's rows by the number that the master
//! gave it, so that no two workers use one identity.

mod crew;
mod dealer;
mod message;
mod stats;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::args::Args;
use crate::stop::{Signal, Stop};
use crate::target::{NoTarget, Target};
use crate::{machine, numbers, output, summary};
use crew::Crew;
use dealer::Dealer;
use message::{Exception, Heartbeat, Order, Spawn, Spawned};

/// Each second, as Locust has it, so that the master notices within 3 s when there are none.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What a worker that is killed has not reported is lost: Locust's own report each 3 s. And a master that quits listens for no
/// more than half a second, while users end what they do.
const REPORT: Duration = Duration::from_millis(100);

/// For an answer to `client_ready`, and then again.
const ACK: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The Locust master to join, and its port for workers.
    #[arg(long, value_name = "MASTER:5557", value_parser = address)]
    locust: String,

    /// The name that the master knows this worker by [default: the host's, and a random part]. One that starts again
    /// under its name, after the master has missed it for 3 s, gets the same share of the feeder's rows.
    #[arg(long, value_name = "NAME", value_parser = name)]
    id: Option<String>,

    /// An agent's pause between one iteration and the next.
    #[arg(long, default_value = "0s", value_parser = numbers::duration, allow_hyphen_values = true)]
    think_time: Duration,

    /// The load ends when the master has been silent for so long.
    #[arg(long, default_value = "60s", value_parser = numbers::some_time, allow_hyphen_values = true)]
    master_timeout: Duration,
}

fn address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
    port.map(|_| text.to_owned()).ok_or_else(|| "say where the master is, with its port: master:5557".to_owned())
}

fn name(text: &str) -> Result<String, String> {
    let good = (1..=200).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| text.to_owned()).ok_or_else(|| "a name has 1 to 200 letters, digits and marks".to_owned())
}

/// What the master is told that this worker does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// The master has not answered yet.
    Joining,
    Ready,
    Running,
    /// Users end what they do; what then.
    Stopping(Then),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Ready,
    End(End),
}

/// Why it ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Quit,
    Signal(Signal),
    MasterGone,
    NoShare,
}

impl State {
    /// As Locust calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Joining | Self::Ready => "ready",
            // It is stopped once its users are gone.
            Self::Running | Self::Stopping(_) => "running",
        }
    }
}

/// Runs until the master says so, or is gone, or a signal comes.
pub(crate) async fn run(args: &Args, options: &Options) -> anyhow::Result<ExitCode> {
    let stop = Stop::on_signals()?;
    let target = match Target::find(args).await {
        Ok(target) => target,
        Err(NoTarget::Usage(error)) => error.exit(),
        Err(NoTarget::Unreachable(failure)) => anyhow::bail!(failure.text),
    };
    let mut warnings = Vec::new();
    machine::raise_open_files(&mut warnings);
    warnings.iter().for_each(|warning| output::tell(&format!("warning: {warning}")));
    let mut worker = Worker::new(args, options, &target)?;
    let end = worker.work(&stop).await;
    worker.end(end).await
}

struct Worker<'a> {
    options: &'a Options,
    /// Whether there are rows to deal.
    feeder: bool,
    /// Where the load goes, in words.
    target: String,
    crew: Crew<'a>,
    dealer: Dealer,
    id: String,
    state: State,
    /// Whether the master has ever taken it in.
    joined: bool,
    /// Given by the master.
    number: Option<u32>,
    /// When the master was last heard of.
    heard: Instant,
    /// When it was last asked to take this worker in.
    asked: Option<Instant>,
    beat: Instant,
    /// The timestamp of the last order to spawn.
    spawned: f64,
    /// How long users may take to end what they do.
    grace: Duration,
    /// Problems that the master was told of in this test.
    told: BTreeSet<String>,
    /// The time at work, as of the last heartbeat.
    cpu: Option<Duration>,
}

impl<'a> Worker<'a> {
    fn new(args: &'a Args, options: &'a Options, target: &'a Target) -> anyhow::Result<Self> {
        let id = options.id.clone().unwrap_or_else(random_name);
        let its_own = || "a simulator of its own, as there is no --api-url and no --region".to_owned();
        Ok(Self {
            options,
            feeder: args.feeder.is_some(),
            target: if target.is_here() { its_own() } else { summary::target(args) },
            crew: Crew::new(args, target, options.think_time)?,
            dealer: Dealer::connect(&options.locust, &id),
            id,
            state: State::Joining,
            joined: false,
            number: None,
            heard: Instant::now(),
            asked: None,
            beat: Instant::now(),
            spawned: 0.0,
            grace: Duration::ZERO,
            told: BTreeSet::new(),
            cpu: machine::cpu_time(),
        })
    }

    async fn work(&mut self, stop: &Stop) -> End {
        let mut ticks = interval(REPORT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stopping = matches!(self.state, State::Stopping(_));
            let ending = matches!(self.state, State::Stopping(Then::End(_)));
            tokio::select! {
                Some(message) = self.dealer.receive() => self.obey(&message),
                _ = ticks.tick() => self.tick(),
                () = stop.asked(), if !ending => {
                    let signal = stop.signal().unwrap_or(Signal::Terminate);
                    self.stop(Then::End(End::Signal(signal)));
                }
                () = self.crew.left(), if stopping => match self.state {
                    State::Stopping(Then::End(end)) => return end,
                    _ => self.stopped(),
                }
            }
        }
    }

    fn obey(&mut self, message: &[u8]) {
        self.heard = Instant::now();
        match Order::read(message) {
            Ok(Order::Ack(number)) => {
                self.number = number;
                if self.state == State::Joining {
                    let place = number.map_or(String::new(), |number| format!(", which calls it number {number}"));
                    let (id, master, target) = (&self.id, &self.options.locust, &self.target);
                    output::tell(&format!("{id} has joined {master}{place}; its load goes to {target}"));
                    (self.state, self.joined) = (State::Ready, true);
                }
            }
            Ok(Order::Spawn(spawn)) => self.spawn(&spawn),
            Ok(Order::Stop) => self.stop(Then::Ready),
            Ok(Order::Quit) => self.stop(Then::End(End::Quit)),
            Ok(Order::Reconnect) => self.dealer.connect_again(),
            Ok(Order::Heartbeat | Order::Other) => {}
            Err(error) => output::tell(&format!("warning: {}: {error:#}", self.options.locust)),
        }
    }

    fn spawn(&mut self, spawn: &Spawn) {
        if spawn.timestamp <= self.spawned || matches!(self.state, State::Stopping(Then::End(_))) {
            return;
        }
        self.spawned = spawn.timestamp;
        self.grace = spawn.stop_timeout();
        self.send("spawning", &());
        if self.state != State::Running {
            self.crew.stats().clear();
            self.told.clear();
            if let Some(host) = spawn.host.as_deref().filter(|host| !host.is_empty()) {
                output::tell(&format!(
                    "the master's host {host:?} is not looked at: the worker's own options say where to"
                ));
            }
            if let Err(why) = self.deal(spawn.shares()) {
                self.tell(&why);
                return self.stop(Then::End(End::NoShare));
            }
        }
        self.state = State::Running;
        for problem in self.crew.be(&spawn.user_classes_count, self.grace) {
            self.tell(&problem);
        }
        let users = self.crew.users();
        self.send("spawning_complete", &Spawned::of(users));
    }

    /// Takes this worker's share of the rows, which nobody else has.
    fn deal(&mut self, shares: u32) -> Result<(), String> {
        match self.number {
            _ if !self.feeder => self.crew.deal(0, 1),
            Some(number) if number < shares => self.crew.deal(number as usize, shares as usize),
            Some(number) => {
                return Err(format!(
                    "worker {} is number {number}, counted from 0, and the feeder's rows are dealt in {shares} shares: it has \
                     none, and ends. Start the master with --shares, the number of workers there will ever be (those that \
                     come for dead ones too, unless under the same --id), or --expect-workers",
                    self.id
                ));
            }
            None => {
                return Err("the master numbers no workers, so that rows cannot be dealt: Locust 2.11 does".to_owned());
            }
        }
        Ok(())
    }

    /// Tells the people at both ends, once a test.
    fn tell(&mut self, problem: &str) {
        if self.told.insert(problem.to_owned()) {
            output::tell(&format!("warning: {problem}"));
            self.send("exception", &Exception { msg: problem, traceback: problem });
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if now - self.heard > self.options.master_timeout && !matches!(self.state, State::Stopping(Then::End(_))) {
            return self.stop(Then::End(End::MasterGone));
        }
        if self.state == State::Joining {
            // Only over a connection: what waits for one would be told twice, and count as two workers.
            if self.dealer.down().is_none() && self.asked.is_none_or(|asked| now - asked > ACK) {
                self.asked = Some(now);
                self.ready();
            }
            return;
        }
        if self.state == State::Running {
            for problem in self.crew.grow() {
                self.tell(&problem);
            }
        }
        // What the master is out of reach for is counted on, and told when it is back.
        if !self.dealer.has_room() {
            return;
        }
        if now - self.beat >= HEARTBEAT {
            let (cpu, before) = (machine::cpu_time(), self.cpu);
            let worked = cpu.zip(before).map(|(cpu, before)| cpu.saturating_sub(before)).unwrap_or_default();
            let cores = machine::cores() as f64 * (now - self.beat).as_secs_f64();
            (self.cpu, self.beat) = (cpu, now);
            let (state, current_memory_usage) = (self.state.name(), machine::memory().unwrap_or_default());
            let current_cpu_usage = 100.0 * worked.as_secs_f64() / cores;
            self.send("heartbeat", &Heartbeat { state, current_cpu_usage, current_memory_usage });
        }
        self.report();
    }

    fn report(&mut self) {
        let users = self.crew.users();
        let report = self.crew.stats().report(users);
        self.send("stats", &report);
    }

    /// That it can be used. Of what version, another language has no answer to: -1.
    fn ready(&mut self) {
        self.send("client_ready", &-1);
    }

    fn stop(&mut self, then: Then) {
        if matches!(self.state, State::Stopping(Then::End(_))) {
            return;
        }
        self.state = State::Stopping(then);
        self.crew.all_leave(self.grace);
        self.report();
    }

    /// All users are gone, and others may come.
    fn stopped(&mut self) {
        self.report();
        self.send("client_stopped", &());
        self.ready();
        self.state = State::Ready;
    }

    fn send(&self, kind: &str, data: &impl serde::Serialize) {
        let sent = message::written(kind, data, &self.id).map(|message| self.dealer.send(message));
        if !matches!(sent, Ok(true)) {
            output::tell(&format!("warning: {kind} is lost, so much waits for the master"));
        }
    }

    async fn end(mut self, end: End) -> anyhow::Result<ExitCode> {
        self.report();
        self.send("quit", &());
        let (down, master) = (self.dealer.down(), &self.options.locust);
        self.dealer.close(Duration::from_secs(1)).await;
        let joined = self.joined;
        if joined {
            let done = self.crew.stats().in_all();
            output::people(&format!("{}: {done}", self.id), false);
        }
        let silent = humantime::format_duration(self.options.master_timeout);
        match end {
            End::Quit => Ok(ExitCode::SUCCESS),
            End::Signal(signal) => Ok(signal.exit_code()),
            End::NoShare => Ok(ExitCode::FAILURE),
            End::MasterGone => {
                // Of two by one name a master hears the first.
                let twin = || format!("connected, and not taken in: is there another worker by the name {}?", self.id);
                let why = down.or_else(|| (!joined).then(twin)).map_or(String::new(), |why| format!(" ({why})"));
                let ended = if joined { "the load is ended" } else { "nothing was sent" };
                anyhow::bail!("no word from the master at {master} for {silent}{why}: {ended}")
            }
        }
    }
}

/// Locust spreads users evenly over hosts, which it tells apart by what is before the line.
fn random_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = host.or_else(|| std::env::var("HOSTNAME").ok()).or_else(|| std::env::var("COMPUTERNAME").ok());
    let host: String =
        host.unwrap_or_default().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(60).collect();
    format!("{host}_{:032x}", fastrand::u128(..))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::dealer::read_frame;
    use super::dealer::tests::{listener, router};
    use super::*;
    use crate::args::Command;
    use crate::run::Outcome;
    use crate::target::tests::found;

    #[derive(Deserialize)]
    struct Told {
        stats_total: Total,
    }

    #[derive(Deserialize)]
    struct Total {
        num_requests: u64,
    }

    #[tokio::test]
    async fn what_is_met_while_the_master_is_out_of_reach_is_told_when_it_is_back() {
        let (listener, address) = listener().await;
        let options = ["worker", "--locust", &address, "--api-url", "http://127.0.0.1:1"];
        let (args, target) = found("reach", &options, 1).await;
        let Some(Command::Worker(options)) = &args.command else { panic!("no worker") };
        let mut worker = Worker::new(&args, options, &target).unwrap();
        worker.state = State::Running;
        // More reports than ZeroMQ lets wait.
        for _ in 0..2_000 {
            worker.crew.stats().add("get script", Duration::ZERO, &Outcome::of(Ok(())));
            worker.tick();
        }
        let (mut stream, _) = router(&listener).await;
        let mut told = 0;
        for _ in 0..3_000 {
            worker.tick();
            let (_, message) = read_frame(&mut stream).await.unwrap();
            let read: Result<(String, Told, String), _> = rmp_serde::from_slice(&message);
            told += read.map_or(0, |(_, told, _)| told.stats_total.num_requests);
        }
        assert_eq!(told, 2_000);
    }
}
