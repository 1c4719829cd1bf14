//! A model of a service, without sockets and without a clock: what the experiment finds of each cause, in bulk.

use std::collections::{HashMap, HashSet, VecDeque};

use fastrand::Rng;
use genesys_doctor::cause::{Certainty, Name, Report, Verdict};

use super::design::{Cell, Order};
use super::experiment::{Subject, experiment};
use super::judge::Asked;
use super::sample::{End, Login, Sample, Taken};

/// When the model refuses; the number behind is how likely.
#[derive(Clone, Debug)]
enum When {
    Always,
    Above(u32),
    Ids(&'static [u32]),
    New,
    Kept,
    Cold,
    SameId,
    Between(f64, f64),
    Node(u32, u32),
    HiddenNode(u32, u32),
    Burst(usize, f64),
    Token(usize),
    Address(usize),
    Together(usize),
    Expired(f64),
    OneSession,
}

#[derive(Clone, Debug)]
struct Trouble(When, End, f64);

struct Model {
    now: f64,
    rng: Rng,
    latency: f64,
    ids: u32,
    addresses: u32,
    troubles: Vec<Trouble>,
    /// Whether what one token sends at once arrives in any order.
    reorders: bool,
    /// What a new connection takes before its request arrives.
    connecting: f64,
    logins_in_a_minute: u32,
    /// Rows of a feeder: no agent more has one.
    most_tokens: usize,
    logged_in: Vec<f64>,
    login_count: u32,
    under_way: Vec<(f64, u32)>,
    seen: HashSet<u32>,
    starts: VecDeque<f64>,
    windows: HashMap<(u8, u32), (f64, usize)>,
    idle: HashMap<(u32, usize), Vec<u32>>,
    in_use: Vec<(f64, (u32, usize), u32)>,
    connections: u32,
}

/// A request on its way.
struct Sent {
    order: Order,
    worker: usize,
    pool: (u32, usize),
    at: f64,
    arrives: f64,
    /// How many of the cell's others have no answer yet.
    others: u32,
    connection: u32,
    fresh: bool,
}

/// What a request meets.
struct Met {
    in_flight: u32,
    same: bool,
    first: bool,
    connection: u32,
    fresh: bool,
}

fn refused(status: u16) -> End {
    End::Refused(status, "bad_request \"Invalid script definition\"".to_owned())
}

impl Model {
    fn new(seed: u64, troubles: Vec<Trouble>) -> Self {
        let mut rng = Rng::with_seed(seed);
        let latency = [0.02, 0.06, 0.15][rng.usize(0..3)];
        Self {
            now: 0.0,
            rng,
            latency,
            ids: 20,
            addresses: 2,
            troubles,
            reorders: false,
            connecting: 0.0,
            logins_in_a_minute: u32::MAX,
            most_tokens: usize::MAX,
            logged_in: Vec::new(),
            login_count: 0,
            under_way: Vec::new(),
            seen: HashSet::new(),
            starts: VecDeque::new(),
            windows: HashMap::new(),
            idle: HashMap::new(),
            in_use: Vec::new(),
            connections: 0,
        }
    }

    /// Whether a fixed window of a minute has no place left.
    fn spent(&mut self, kind: u8, key: u32, limit: usize) -> bool {
        let now = self.now;
        let window = self.windows.entry((kind, key)).or_insert((now, 0));
        if now >= window.0 + 60.0 {
            *window = (now, 0);
        }
        let spent = window.1 >= limit;
        window.1 += usize::from(!spent);
        spent
    }

    /// Whether a trouble's condition holds of a request that is sent now.
    fn holds(&mut self, when: &When, order: Order, met: &Met) -> bool {
        let now = self.now;
        match *when {
            When::Always => true,
            When::Above(knee) => met.in_flight > knee,
            When::Ids(ids) => ids.contains(&order.id),
            When::New => met.fresh,
            When::Kept => !met.fresh,
            When::Cold => met.first,
            When::SameId => met.same,
            When::Between(from, to) => (from..to).contains(&now),
            When::Node(node, of) | When::HiddenNode(node, of) => met.connection % of == node,
            When::Burst(most, within) => {
                self.starts.iter().rev().take_while(|start| **start > now - within).count() > most
            }
            When::Token(limit) => self.spent(0, order.token, limit),
            When::Address(limit) => self.spent(1, order.address, limit),
            When::Together(limit) => self.spent(2, 0, limit),
            When::Expired(age) => now > self.logged_in[order.token as usize] + age,
            When::OneSession => (order.token as usize) + 1 < self.logged_in.len(),
        }
    }

    /// Sends a request on a connection of a pool, or on a new one.
    fn connect(&mut self, order: Order, (worker, turn): (usize, usize), others: u32) -> Sent {
        let now = self.now;
        let mut ended: Vec<_> = self.in_use.extract_if(.., |(end, ..)| *end <= now).collect();
        ended.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, pool, connection) in ended {
            self.idle.entry(pool).or_default().push(connection);
        }
        let pool = (order.address, turn % 8);
        let kept = if order.new_connection { None } else { self.idle.entry(pool).or_default().pop() };
        let connection = kept.unwrap_or_else(|| {
            self.connections += 1;
            self.connections
        });
        let fresh = kept.is_none();
        let arrives = now + if fresh { self.connecting * (0.5 + self.rng.f64()) } else { 0.0 };
        Sent { order, worker, pool, at: now, arrives, others, connection, fresh }
    }

    /// Gives the answers of what was sent at once to one another.
    fn reorder(&mut self, samples: &mut [Sample]) {
        let Some(first) = samples.first().map(|first| (first.at, first.token)) else { return };
        let together = samples.iter().take_while(|s| s.at < first.0 + 0.9 * self.latency && s.token == first.1).count();
        let mut answers: Vec<_> = samples[..together].iter().map(|sample| sample.end).collect();
        self.rng.shuffle(&mut answers);
        for (sample, end) in samples.iter_mut().zip(answers) {
            (sample.end, sample.took) = (end, self.latency);
        }
    }

    /// Answers one request that was sent before and arrives now.
    fn answer(&mut self, sent: &Sent, cell: &Cell) -> (Sample, End) {
        let (now, order, fresh, connection) = (self.now, sent.order, sent.fresh, sent.connection);
        self.under_way.retain(|(end, _)| *end > now);
        let met = Met {
            in_flight: self.under_way.len() as u32,
            same: self.under_way.iter().any(|(_, id)| *id == order.id),
            first: self.seen.insert(order.id),
            connection,
            fresh,
        };
        self.starts.push_back(now);
        let mut end = End::Well;
        for Trouble(when, with, likely) in self.troubles.clone() {
            let holds = self.holds(&when, order, &met);
            if end == End::Well && holds && self.rng.f64() < likely {
                end = with;
            }
        }
        let quick = matches!(end, End::Refused(400..=499, _));
        let took = match &end {
            End::Timeout => 1.0,
            _ if quick => 0.002 + 0.001 * self.rng.f64(),
            _ => self.latency * (0.8 + 0.5 * self.rng.f64()),
        };
        if !order.new_connection && !matches!(end, End::Broken(_) | End::Timeout) {
            self.in_use.push((now + took, sent.pool, connection));
        }
        if !quick {
            self.under_way.push((now + took, order.id));
        }
        let node = self.troubles.iter().find_map(|Trouble(when, ..)| match when {
            When::Node(_, of) => Some(format!("x-node: {}", connection % of)),
            _ => None,
        });
        let known = !matches!(end, End::Broken(_) | End::Timeout);
        let sample = Sample {
            arm: cell.arm,
            at: sent.at,
            took: now + took - sent.at,
            in_flight: sent.others,
            token: order.token,
            id: order.id,
            address: order.address,
            fresh,
            fresh_known: known || cell.workers == 1 || order.new_connection,
            connection: known.then_some(connection),
            node: node.filter(|_| known),
            age: sent.at - self.logged_in.get(order.token as usize).copied().unwrap_or_default(),
            stale: (order.token as usize) + 1 < self.logged_in.len(),
            end: Taken::WELL,
        };
        (sample, end)
    }
}

impl Subject for Model {
    fn now(&self) -> f64 {
        self.now
    }

    fn is_over(&self) -> bool {
        self.now > 170.0
    }

    fn ids(&self) -> u32 {
        self.ids
    }

    fn addresses(&self) -> u32 {
        self.addresses
    }

    fn tokens(&self) -> u32 {
        self.logged_in.len() as u32
    }

    async fn log_in(&mut self, agents: usize, at_once: bool, taken: &mut Taken) {
        for _ in 0..agents.min(self.most_tokens.saturating_sub(self.logged_in.len())) {
            self.now += if at_once { 0.0005 } else { self.latency };
            self.login_count += 1;
            let well = self.login_count <= self.logins_in_a_minute;
            let end =
                if well { End::Well } else { End::Refused(400, "invalid_request \"rate limit exceeded; \"".into()) };
            if well {
                self.logged_in.push(self.now);
            }
            let end = taken.end(end);
            taken.logins.push(Login { at_once, end });
        }
        self.now += self.latency;
    }

    async fn run(&mut self, cell: &Cell, taken: &mut Taken) {
        let first = taken.samples.len();
        let mut free = vec![self.now; cell.workers.min(cell.orders.len())];
        let (mut due, mut last) = (self.now, self.now);
        let mut on_the_way: Vec<Sent> = Vec::new();
        let mut orders = cell.orders.iter().enumerate().peekable();
        loop {
            let Some((worker, at)) = free.iter().copied().enumerate().min_by(|a, b| a.1.total_cmp(&b.1)) else {
                return;
            };
            let start = if orders.peek().is_some() { at.max(due).max(self.now) } else { f64::INFINITY };
            let arriving = on_the_way.iter().enumerate().min_by(|a, b| a.1.arrives.total_cmp(&b.1.arrives));
            let arriving = arriving.filter(|(_, sent)| sent.arrives <= start).map(|(i, _)| i);
            if let Some(sent) = arriving.map(|i| on_the_way.swap_remove(i)) {
                self.now = sent.arrives.max(self.now);
                let (mut sample, end) = self.answer(&sent, cell);
                free[sent.worker] = sent.at + sample.took;
                last = f64::max(last, free[sent.worker]);
                sample.end = taken.end(end);
                taken.samples.push(sample);
            } else if let Some((turn, order)) = orders.next() {
                // Requests take some time to be written.
                self.now = start + 0.0001 * self.rng.f64();
                due = self.now + cell.every.as_secs_f64();
                let others = free.iter().filter(|free| **free > self.now).count() as u32;
                on_the_way.push(self.connect(*order, (worker, turn), others));
                free[worker] = f64::INFINITY;
            } else {
                break;
            }
        }
        if self.reorders {
            self.reorder(&mut taken.samples[first..]);
        }
        self.now = last + cell.then.as_secs_f64();
    }
}

fn asked() -> Asked {
    Asked {
        agents: 150,
        shared: false,
        at_once: true,
        per_second: 0.0,
        all_together: true,
        open: false,
        per_agent: None,
        ids: 20,
    }
}

fn diagnosed(mut model: Model, asked: &Asked, seed: u64) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(experiment(&mut model, asked, 6_000, seed, "a model", |_, _| {}))
}

/// The causes that are likely or certain and follow from no other, with their shares.
fn sure(report: &Report) -> Vec<(Name, f64)> {
    let sure = report.causes.iter().filter(|cause| cause.certainty > Certainty::Possible && cause.follows.is_none());
    sure.map(|cause| (cause.name, cause.share.unwrap_or_default())).collect()
}

fn names(report: &Report) -> Vec<Name> {
    let mut names: Vec<Name> = sure(report).into_iter().map(|(name, _)| name).collect();
    names.sort();
    names
}

/// Each cause by itself, in more than one form.
fn causes() -> Vec<(Name, Vec<Trouble>)> {
    let one = |when, status, likely| vec![Trouble(when, refused(status), likely)];
    vec![
        (Name::Overload, one(When::Above(80), 400, 0.4)),
        (Name::Overload, one(When::Above(40), 503, 0.7)),
        (Name::Overload, one(When::Above(110), 500, 0.9)),
        (Name::Burst, one(When::Burst(40, 1.0), 400, 0.9)),
        (Name::Burst, one(When::Burst(60, 0.5), 503, 1.0)),
        (Name::BrokenScript, one(When::Ids(&[7]), 400, 1.0)),
        (Name::BrokenScript, one(When::Ids(&[0, 3, 11]), 500, 1.0)),
        (Name::FeedUnknownId, one(When::Ids(&[2, 5]), 404, 1.0)),
        (Name::ConnectionChurn, one(When::New, 400, 0.5)),
        (Name::ConnectionChurn, vec![Trouble(When::New, End::Broken("reset".into()), 0.3)]),
        (Name::ConnectionReuse, one(When::Kept, 400, 0.3)),
        (Name::ConnectionReuse, vec![Trouble(When::Kept, End::Broken("closed".into()), 0.1)]),
        (Name::ColdStart, one(When::Cold, 400, 1.0)),
        (Name::ColdStart, one(When::Cold, 503, 0.8)),
        (Name::Contention, one(When::SameId, 400, 0.8)),
        (Name::Contention, one(When::SameId, 409, 0.4)),
        (Name::TimeWindow, one(When::Between(3.0, 6.0), 400, 0.6)),
        (Name::TimeWindow, one(When::Between(2.0, 5.5), 400, 1.0)),
        (Name::ServiceDown, one(When::Between(3.0, 6.0), 503, 1.0)),
        (Name::ServiceDown, one(When::Between(4.0, 999.0), 503, 1.0)),
        (Name::NodeFault, one(When::Node(1, 3), 400, 1.0)),
        (Name::NodeFault, one(When::Node(0, 4), 500, 0.5)),
        (Name::NodeFault, one(When::HiddenNode(1, 3), 400, 1.0)),
        (Name::Quota, one(When::Token(30), 429, 1.0)),
        (Name::Quota, one(When::Together(900), 429, 1.0)),
        (Name::AddressLimit, one(When::Address(600), 429, 1.0)),
        (Name::AddressLimit, one(When::Address(400), 403, 1.0)),
        (Name::Transient, one(When::Always, 500, 0.03)),
        (Name::Transient, one(When::Always, 400, 0.15)),
        (Name::GatewayFailure, one(When::Always, 502, 0.05)),
        (Name::Timeout, vec![Trouble(When::Always, End::Timeout, 0.03)]),
        (Name::AllRefused, one(When::Always, 400, 1.0)),
        (Name::ServiceDown, one(When::Always, 503, 1.0)),
        (Name::GatewayFailure, one(When::Always, 502, 1.0)),
        (Name::TokenMissing, one(When::Always, 401, 1.0)),
        (Name::TokenExpired, one(When::Expired(5.0), 401, 1.0)),
        (Name::SessionConflict, one(When::OneSession, 401, 1.0)),
    ]
}

/// How many of `seeds` came out right; those that did not are printed.
fn right(of: &str, seeds: u64, ask: impl Fn(u64) -> Report, is_right: impl Fn(&Report) -> bool) -> u64 {
    (0..seeds)
        .filter(|seed| {
            let report = ask(*seed);
            let right = is_right(&report);
            if !right {
                let why: Vec<_> = report.causes.iter().map(|c| (c.name, c.certainty, &c.evidence)).collect();
                println!("{of}, seed {seed}: {:?} {why:?}", names(&report));
            }
            right
        })
        .count() as u64
}

#[test]
fn each_cause_is_found_and_no_other_is_invented() {
    let (mut good, mut all) = (0, 0);
    for (i, (name, troubles)) in causes().into_iter().enumerate() {
        let ask = |seed| diagnosed(Model::new(seed + 100 * i as u64, troubles.clone()), &asked(), seed);
        let of = format!("{name:?} by {troubles:?}");
        let n = right(&of, 10, ask, |report| names(report) == [name]);
        println!("{n:>2} of 10: {of}");
        (good, all) = (good + n, all + 10);
    }
    assert_eq!(good, all);
}

#[test]
fn nothing_is_invented_on_a_healthy_service() {
    for (agents, noise) in [(150, 0.0), (20, 0.0), (3, 0.0), (1, 0.0), (150, 0.001), (150, 0.005)] {
        let asked = Asked { agents, ..asked() };
        let troubles = vec![Trouble(When::Always, refused(500), noise)];
        let ask = |seed| diagnosed(Model::new(seed, troubles.clone()), &asked, seed);
        let n = right(&format!("healthy {agents} {noise}"), 20, ask, |report| match noise {
            0.0 => report.verdict == Verdict::NothingFound && report.causes.is_empty(),
            _ => names(report).iter().all(|name| *name == Name::Transient),
        });
        assert_eq!(n, 20, "{agents} agents, {noise}");
    }
}

#[test]
fn two_causes_at_once_are_told_apart() {
    let one = |when, status, likely| Trouble(when, refused(status), likely);
    let pairs = [
        ([Name::Overload, Name::BrokenScript], [one(When::Above(80), 400, 0.4), one(When::Ids(&[4, 9]), 400, 1.0)]),
        ([Name::Overload, Name::Transient], [one(When::Above(60), 400, 0.5), one(When::Always, 500, 0.03)]),
        ([Name::Overload, Name::Transient], [one(When::Above(60), 503, 0.5), one(When::Always, 503, 0.03)]),
        ([Name::Overload, Name::ConnectionChurn], [one(When::Above(80), 400, 0.4), one(When::New, 400, 0.5)]),
        (
            [Name::BrokenScript, Name::ServiceDown],
            [one(When::Ids(&[4]), 400, 1.0), one(When::Between(3.0, 5.0), 503, 1.0)],
        ),
        ([Name::Quota, Name::BrokenScript], [one(When::Token(30), 429, 1.0), one(When::Ids(&[4]), 400, 1.0)]),
        ([Name::BrokenScript, Name::ColdStart], [one(When::Ids(&[4]), 400, 1.0), one(When::Cold, 400, 1.0)]),
        ([Name::NodeFault, Name::BrokenScript], [one(When::Node(1, 3), 400, 1.0), one(When::Ids(&[4]), 400, 1.0)]),
        ([Name::Contention, Name::Transient], [one(When::SameId, 409, 0.8), one(When::Always, 500, 0.03)]),
    ];
    let (mut good, mut all) = (0, 0);
    for (i, (mut expected, troubles)) in pairs.into_iter().enumerate() {
        expected.sort();
        let ask = |seed| diagnosed(Model::new(seed + 1_000 * i as u64, troubles.to_vec()), &asked(), seed);
        let of = format!("{expected:?} by {troubles:?}");
        let n = right(&of, 10, ask, |report| names(report) == expected);
        println!("{n:>2} of 10: {of}");
        (good, all) = (good + n, all + 10);
    }
    assert_eq!(good, all);
}

#[test]
fn a_limit_that_the_users_run_does_not_meet_is_no_cause() {
    let one = |when, status| vec![Trouble(when, refused(status), 1.0)];
    let ramp = Asked { at_once: false, per_second: 5.0, all_together: false, ..asked() };
    let often = Asked { per_agent: Some(200.0), ..asked() };
    let seldom = Asked { per_agent: Some(4.0), ..asked() };
    let few_scripts = Asked { ids: 5, ..asked() };
    let cases = [
        // As many are never at once when they start one after the other.
        (Name::Overload, one(When::Above(80), 400), &ramp, false),
        (Name::Overload, one(When::Above(80), 400), &asked(), true),
        // Only one token for all meets it, or agents that ask more often than these.
        (Name::Quota, one(When::Token(60), 429), &seldom, false),
        (Name::Quota, one(When::Token(60), 429), &often, true),
        (Name::AddressLimit, one(When::Address(700), 429), &seldom, false),
        (Name::AddressLimit, one(When::Address(700), 429), &often, true),
        // Scripts that are only asked for to compare with.
        (Name::BrokenScript, one(When::Ids(&[12, 15]), 400), &few_scripts, false),
        (Name::BrokenScript, one(When::Ids(&[2, 15]), 400), &few_scripts, true),
    ];
    for (name, troubles, asked, met) in cases {
        for seed in 0..3 {
            let report = diagnosed(Model::new(seed, troubles.clone()), asked, seed);
            let found = names(&report);
            assert_eq!(found, if met { vec![name] } else { vec![] }, "{troubles:?}: {:?}", report.causes);
            let out = report.ruled_out.iter().any(|out| [name, Name::TokenShared, Name::Burst].contains(&out.name));
            assert!(met || out, "{name:?}: {:?}", report.ruled_out);
        }
    }
}

#[test]
fn a_limit_that_only_one_token_for_all_meets_is_that_token_whatever_the_few_beside_it_meet() {
    let shared = Asked { shared: true, per_agent: Some(10.0), ..asked() };
    for limit in [20, 40, 55, 57, 60, 150] {
        for seed in 0..5 {
            let mut model = Model::new(seed, vec![Trouble(When::Token(limit), refused(429), 1.0)]);
            model.reorders = seed > 1;
            let report = diagnosed(model, &shared, seed);
            assert_eq!(names(&report), [Name::TokenShared], "{limit}: {:?}", report.causes);
        }
    }
}

#[test]
fn the_knee_is_told_as_a_number_and_a_setting() {
    for (knee, likely) in [(30, 0.4), (80, 0.4), (80, 1.0), (120, 0.6)] {
        let troubles = vec![Trouble(When::Above(knee), refused(400), likely)];
        for seed in 0..5 {
            let report = diagnosed(Model::new(seed, troubles.clone()), &asked(), seed);
            let setting = report.causes.iter().find_map(|cause| cause.setting.clone()).unwrap();
            assert_eq!(setting.name, "max_in_flight");
            let off = setting.value.abs_diff(u64::from(knee) + 1) as f64 / f64::from(knee);
            assert!(off < 0.08, "{} for {knee}", setting.value);
        }
    }
}

#[test]
fn what_arrives_late_on_its_new_connection_is_not_refused_for_that() {
    let by_clock = Asked { agents: 20, per_second: 1000.0, open: true, ..asked() };
    let (overload, burst) = ((Name::Overload, When::Above(60)), (Name::Burst, When::Burst(60, 0.5)));
    let cases = [
        (&by_clock, 0.004, &overload, 1.0),
        (&asked(), 0.02, &overload, 0.4),
        (&asked(), 0.02, &overload, 1.0),
        (&by_clock, 0.05, &overload, 1.0),
        (&asked(), 0.02, &burst, 0.9),
        (&asked(), 0.02, &burst, 1.0),
    ];
    for (asked, connecting, (name, when), likely) in cases {
        let ask = |seed| {
            let mut model = Model::new(seed, vec![Trouble(when.clone(), refused(400), likely)]);
            (model.connecting, model.latency) = (connecting, 0.1);
            diagnosed(model, asked, seed)
        };
        let of = format!("{name:?}, {connecting} s to connect, {likely}");
        assert_eq!(right(&of, 10, ask, |report| names(report) == [*name]), 10, "{of}");
    }
}

#[test]
fn shares_are_those_of_the_requests_that_failed_so() {
    let troubles = vec![
        Trouble(When::Above(80), refused(400), 0.5),
        Trouble(When::Ids(&[4, 9]), refused(400), 1.0),
        Trouble(When::Always, refused(500), 0.02),
    ];
    for seed in 0..5 {
        let report = diagnosed(Model::new(seed, troubles.clone()), &asked(), seed);
        let shares: f64 = sure(&report).iter().map(|(_, share)| share).sum();
        assert!((shares - 1.0).abs() < 0.03, "{shares}: {:?}", report.causes);
        let count = |code: &str| report.read[0].codes.get(code).copied().unwrap_or_default() as f64;
        let transient = sure(&report).into_iter().find(|(name, _)| *name == Name::Transient).unwrap().1;
        let true_share = count("500") / (count("500") + count("400"));
        assert!((transient - true_share).abs() < 0.03, "{transient} for {true_share}");
    }
}

#[test]
fn a_time_in_which_more_was_asked_for_is_not_said_to_be_the_cause() {
    let troubles = vec![Trouble(When::Burst(60, 0.5), refused(400), 1.0)];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ask = |seed| {
        let mut model = Model::new(seed, troubles.clone());
        runtime.block_on(experiment(&mut model, &asked(), 600, seed, "a model", |_, _| {}))
    };
    let n = right("a burst in 600 requests", 20, ask, |report| [vec![], vec![Name::Burst]].contains(&names(report)));
    assert_eq!(n, 20);
}

#[test]
fn of_few_requests_nothing_sure_is_said() {
    let troubles = vec![Trouble(When::Always, refused(500), 0.02)];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for seed in 0..10 {
        let mut model = Model::new(seed, troubles.clone());
        let report = runtime.block_on(experiment(&mut model, &asked(), 120, seed, "a model", |_, _| {}));
        assert!(report.read[0].requests <= 120);
        let failed = report.read[0].codes.contains_key("500");
        let expected = if failed { Verdict::NotEnoughEvidence } else { Verdict::NothingFound };
        assert_eq!(report.verdict, expected, "{:?}", report.causes);
    }
}

const NO_HOST: &str = "failed to lookup address information: Name or service not known";
const UNTRUSTED: &str = "invalid peer certificate: UnknownIssuer";

#[test]
fn who_cannot_be_reached_is_down_only_where_it_may_be() {
    for (why, name) in [
        ("Connection refused (os error 111)", Name::ServiceDown),
        (NO_HOST, Name::WrongAddress),
        ("No such host is known. (os error 11001)", Name::WrongAddress),
        ("failed to lookup address information: Temporary failure in name resolution", Name::ServiceDown),
        (UNTRUSTED, Name::ClientMade),
    ] {
        let trouble = Trouble(When::Always, End::Unreachable(why.to_owned()), 1.0);
        assert_eq!(names(&diagnosed(Model::new(1, vec![trouble]), &asked(), 1)), [name], "{why}");
    }
}

#[test]
fn where_the_time_is_over_before_all_was_tried_nothing_is_said_to_be_well() {
    let mut model = Model::new(1, Vec::new());
    model.latency = 8.0;
    let report = diagnosed(model, &asked(), 1);
    assert_eq!(report.verdict, Verdict::NotEnoughEvidence, "{:?}", report.causes);
    assert!(report.not_tested.iter().any(|what| what.contains("what was left to try")), "{:?}", report.not_tested);
}

/// What it comes to where logins ended so, first one after the other and then at once, and nothing else was asked.
fn of_logins(alone: &[End], at_once: &[End]) -> Vec<(Name, Certainty)> {
    let mut taken = Taken::new();
    for (ends, at_once) in [(alone, false), (at_once, true)] {
        for end in ends {
            let end = taken.end(end.clone());
            taken.logins.push(Login { at_once, end });
        }
    }
    let report = super::judge::judge(&taken, &asked(), "a model").report;
    report.causes.iter().map(|cause| (cause.name, cause.certainty)).collect()
}

#[test]
fn logins_that_fail_are_refused_only_where_they_were_refused() {
    use Certainty::{Certain, Likely, Possible};
    let said = |text: &str| End::Refused(400, text.to_owned());
    let limit = said("\"invalid_request\" \"Rate limit exceeded; too many\"");
    let grant = said("\"invalid_grant\" \"the refresh token was used before\"");
    let request = said("\"invalid_request\" \"the refresh token is no good\"");
    let client = said("\"invalid_client\" \"authentication failed\"");
    let reset = End::Broken("connection reset".to_owned());
    let unreachable = |why: &str| End::Unreachable(why.to_owned());
    for (end, name, certainty) in [
        (limit.clone(), Name::LoginThrottled, Likely),
        (End::Refused(429, String::new()), Name::LoginThrottled, Likely),
        (client.clone(), Name::LoginRefused, Certain),
        (End::Timeout, Name::Timeout, Likely),
        (reset, Name::ServiceDown, Likely),
        (unreachable("Connection refused (os error 111)"), Name::ServiceDown, Likely),
        (unreachable(NO_HOST), Name::WrongAddress, Likely),
        (unreachable(UNTRUSTED), Name::ClientMade, Likely),
        (End::Refused(503, String::new()), Name::ServiceDown, Likely),
        (End::Refused(302, String::new()), Name::Redirected, Likely),
        (End::Machine("open files"), Name::GeneratorLimited, Likely),
        (End::NoScript, Name::WrongAddress, Possible),
    ] {
        assert_eq!(of_logins(&vec![end.clone(); 3], &[]), [(name, certainty)], "{end:?}");
    }
    let among = |bad: &[End]| of_logins(&[End::Well, End::Well, End::Well], &[bad, &vec![End::Well; 147]].concat());
    assert_eq!(among(std::slice::from_ref(&limit)), [(Name::LoginThrottled, Certain)]);
    assert_eq!(among(&[request]), [(Name::Transient, Possible)], "one row of a feeder");
    assert_eq!(among(&vec![grant; 9]), [(Name::Transient, Possible)], "some rows of a feeder");
    assert_eq!(among(&vec![said("\"bad_request\""); 9]), [(Name::LoginThrottled, Likely)]);
    // Each kind is told by itself.
    let two = of_logins(&[End::Timeout, limit, End::Timeout], &[]);
    assert_eq!(two, [(Name::Timeout, Likely), (Name::LoginThrottled, Likely)]);
    assert_eq!(of_logins(&[End::Timeout, client], &[])[0].1, Likely);
}

#[test]
fn with_one_token_there_is_none_that_all_share() {
    for (limit, expected) in [(30, vec![Name::Quota]), (100_000, vec![])] {
        for seed in 0..3 {
            let mut model = Model::new(seed, vec![Trouble(When::Token(limit), refused(429), 1.0)]);
            model.most_tokens = 1;
            let report = diagnosed(model, &Asked { agents: 1, per_agent: Some(200.0), ..asked() }, seed);
            assert_eq!(names(&report), expected, "{:?} {:?}", report.causes, report.ruled_out);
            assert!(!report.ruled_out.iter().any(|out| out.name == Name::TokenShared), "{:?}", report.ruled_out);
        }
    }
}
