//! What failing may go with: each a region of the requests, and how much better the failures are told by it.
//!
//! A factor is scored by the log-likelihood that is gained by giving the requests in its region a failing share of their
//! own, less the logarithm of how many regions were tried. Factors compete: the arms of the design differ in one thing
//! from each other, so the true one explains what the others leave.

use std::collections::{HashMap, HashSet, VecDeque};

use genesys_doctor::hypothesis;

use super::sample::{Arm, Sample, Taken};
use crate::numbers;

/// Windows of time, in seconds, in which starts are counted.
pub(crate) const WINDOWS: [f64; 5] = [0.05, 0.1, 0.2, 0.5, 1.0];
/// Quotas are counted by the minute.
const MINUTE: f64 = 60.0;
/// Parts of the requests, in the order of their starts.
const BINS: usize = 96;
/// Fewer requests of a script, or of a connection, tell nothing of it.
const FEW: u64 = 3;

/// What a region is made by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// These scripts.
    Ids(Vec<u32>),
    /// From one second of the experiment to another.
    Clock(f64, f64),
    /// What an answer says of who gave it.
    Node(String),
    /// So many connections, of so many.
    Connections(usize, usize),
    /// The first request for a script.
    Cold,
    /// Another request for the same script was under way.
    SameId,
    NewConnection,
    KeptConnection,
    /// So many others under way, or more.
    InFlight(f64),
    /// So many starts, or more, in so many seconds before.
    Arrivals(f64, f64),
    /// So many requests, or more, in a minute: of the token, of the address, of all.
    PerToken(f64),
    PerAddress(f64),
    Together(f64),
    /// Another login came after that of the token.
    Stale,
    /// The token was so many seconds old, or older.
    Aged(f64),
}

/// One request with all that is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) sample: &'a Sample,
    pub(crate) failed: bool,
    pub(crate) first_of_id: bool,
    pub(crate) same_id: bool,
    /// Whether there was one at least for a part of its time.
    overlaps: bool,
    pub(crate) arrivals: [u32; WINDOWS.len()],
    at_most: Crowd,
    of_token: Count,
    of_address: Count,
    of_all: Count,
}

/// The most that a request may have met if it arrived at any time before its answer.
#[derive(Clone, Copy, Debug, Default)]
struct Crowd {
    in_flight: u32,
    arrivals: [u32; WINDOWS.len()],
}

/// How many count against a quota before a request.
#[derive(Clone, Copy, Debug)]
struct Count {
    sent_before: u32,
    /// With those that were sent before the answer came: they may have arrived first.
    at_most: u32,
}

/// A factor and how well it tells the failures.
#[derive(Clone, Debug)]
pub(crate) struct Fit {
    pub(crate) what: What,
    pub(crate) score: f64,
    /// How many regions were tried for this one.
    pub(crate) tried: f64,
    pub(crate) region: Vec<bool>,
    /// Failed and well.
    pub(crate) inside: (u64, u64),
    pub(crate) outside: (u64, u64),
}

/// Of `(failed, well)`.
pub(crate) fn rate((bad, well): (u64, u64)) -> f64 {
    bad as f64 / (bad + well).max(1) as f64
}

/// The rows of one way to fail, beside those that ended well: `failed` says which it is, or neither. `samples` are all, in
/// the order in which they were sent.
pub(crate) fn rows<'a>(samples: &[&'a Sample], failed: impl Fn(&Sample) -> Option<bool>) -> Vec<Row<'a>> {
    let mut seen: HashMap<u32, f64> = HashMap::new();
    let mut starts: VecDeque<f64> = VecDeque::new();
    let let_in = let_in(samples, &failed);
    let mut rows = Vec::with_capacity(samples.len());
    for sample in samples {
        let at = sample.at;
        while starts.front().is_some_and(|start| *start < at - 1.0) {
            starts.pop_front();
        }
        let arrivals = WINDOWS.map(|window| {
            let before = starts.partition_point(|start| *start < at - window);
            numbers::count(starts.len() - before)
        });
        starts.push_back(at);
        let counted = failed(sample);
        let until = seen.insert(sample.id, at + sample.took);
        if let (Some(until), Some(latest)) = (until, seen.get_mut(&sample.id)) {
            *latest = latest.max(until);
        }
        let Some(failed) = counted else { continue };
        let [of_token, of_address, of_all] = quotas(sample).map(|of| let_in.before(of, sample));
        let (first_of_id, same_id) = (until.is_none(), until.is_some_and(|until| until > at));
        let (overlaps, at_most) = (same_id, Crowd::default());
        rows.push(Row {
            sample,
            failed,
            first_of_id,
            same_id,
            overlaps,
            arrivals,
            at_most,
            of_token,
            of_address,
            of_all,
        });
    }
    overlap(&mut rows);
    crowd(&mut rows);
    rows
}

/// What a request may count against: its token, its address, all.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Quota {
    Token(u32),
    Address(u32),
    All,
}

fn quotas(sample: &Sample) -> [Quota; 3] {
    [Quota::Token(sample.token), Quota::Address(sample.address), Quota::All]
}

/// When what was not refused was sent.
struct LetIn(HashMap<Quota, Vec<f64>>);

fn let_in(samples: &[&Sample], failed: impl Fn(&Sample) -> Option<bool>) -> LetIn {
    let mut starts: HashMap<Quota, Vec<f64>> = HashMap::new();
    for sample in samples.iter().filter(|sample| failed(sample) != Some(true)) {
        for quota in quotas(sample) {
            starts.entry(quota).or_default().push(sample.at);
        }
    }
    LetIn(starts)
}

impl LetIn {
    /// Those of the last minute.
    fn before(&self, quota: Quota, sample: &Sample) -> Count {
        let starts = self.0.get(&quota).map(Vec::as_slice).unwrap_or_default();
        let until = |second: f64| starts.partition_point(|start| *start < second);
        let forgotten = until(sample.at - MINUTE);
        Count {
            sent_before: numbers::count(until(sample.at) - forgotten),
            at_most: numbers::count(until(sample.at + sample.took) - forgotten),
        }
    }
}

/// Those for whose script another request was sent before they ended.
fn overlap(rows: &mut [Row<'_>]) {
    let mut next: HashMap<u32, f64> = HashMap::new();
    for row in rows.iter_mut().rev() {
        let sample = row.sample;
        row.overlaps |= next.get(&sample.id).is_some_and(|next| *next <= sample.at + sample.took + 0.005);
        next.insert(sample.id, sample.at);
    }
}

/// What is sent first may arrive last: on a new connection behind all that are sent on kept ones meanwhile.
fn crowd(rows: &mut [Row<'_>]) {
    let most = |of: &[Row<'_>]| Crowd {
        in_flight: of.iter().map(|row| row.sample.in_flight).max().unwrap_or_default(),
        arrivals: std::array::from_fn(|i| {
            of.iter().filter_map(|row| row.arrivals.get(i).copied()).max().unwrap_or_default()
        }),
    };
    for i in 0..rows.len() {
        let Some((row, later)) = rows.get(i..).and_then(<[_]>::split_first) else { return };
        let answered = row.sample.at + row.sample.took;
        let meanwhile = later.partition_point(|other| other.sample.at <= answered);
        let at_most = most(rows.get(i..=i + meanwhile).unwrap_or_default());
        if let Some(row) = rows.get_mut(i) {
            row.at_most = at_most;
        }
    }
}

impl Row<'_> {
    /// Whether it is so near to the region that it may be in it: the target counts by what arrives when, and not by what
    /// is sent when.
    pub(crate) fn is_near(&self, what: &What) -> bool {
        let reaches = |value: u32, of: f64, limit: f64| f64::from(value) >= of * limit;
        let counts = |of: Count, limit| reaches(of.sent_before, 0.9, limit) || reaches(of.at_most, 1.0, limit);
        match what {
            What::Clock(from, to) => (from - 0.3..to + 0.3).contains(&self.sample.at),
            What::SameId => self.overlaps,
            What::NewConnection | What::KeptConnection => !self.sample.fresh_known,
            What::InFlight(limit) => {
                reaches(self.sample.in_flight, 0.75, *limit) || reaches(self.at_most.in_flight, 1.0, *limit)
            }
            What::Arrivals(window, limit) => {
                let at = WINDOWS.iter().position(|known| known == window);
                let of = |arrivals: &[u32]| at.and_then(|at| arrivals.get(at)).copied().unwrap_or_default();
                reaches(of(&self.arrivals), 0.6, *limit) || reaches(of(&self.at_most.arrivals), 1.0, *limit)
            }
            What::PerToken(limit) => counts(self.of_token, *limit),
            What::PerAddress(limit) => counts(self.of_address, *limit),
            What::Together(limit) => counts(self.of_all, *limit),
            What::Aged(age) => self.sample.age > age - 0.3,
            _ => false,
        }
    }
}

/// All factors that tell something, each scored.
pub(crate) fn fits(rows: &[Row<'_>]) -> Vec<Fit> {
    let mut all = vec![
        two(rows, What::Cold, |row| row.first_of_id),
        two(rows, What::NewConnection, |row| row.sample.fresh),
        two(rows, What::KeptConnection, |row| !row.sample.fresh),
        two(rows, What::Stale, |row| row.sample.stale),
        by_id(rows),
        by_connection(rows),
        by_node(rows),
        by_clock(rows),
        threshold(rows, What::InFlight, |row| row.sample.in_flight),
        // By the tenth of a second.
        threshold(rows, |age| What::Aged(age / 10.0), |row| (row.sample.age * 10.0) as u32),
        threshold(rows, What::PerToken, |row| row.of_token.sent_before),
        threshold(rows, What::Together, |row| row.of_all.sent_before),
    ];
    let distinct = |of: &dyn Fn(&Row<'_>) -> u32| rows.iter().any(|row| rows.first().is_some_and(|f| of(f) != of(row)));
    // With one script, to ask for the same one is to ask at the same time.
    if distinct(&|row| row.sample.id) {
        all.push(two(rows, What::SameId, |row| row.same_id));
    }
    if distinct(&|row| row.sample.address) {
        all.push(threshold(rows, What::PerAddress, |row| row.of_address.sent_before));
    }
    for (i, window) in WINDOWS.into_iter().enumerate() {
        let of = |row: &Row<'_>| row.arrivals.get(i).copied().unwrap_or_default();
        all.push(threshold(rows, |t| What::Arrivals(window, t), of));
    }
    all.push(by_time_alone(rows, &all));
    all.into_iter().flatten().collect()
}

fn two(rows: &[Row<'_>], what: What, of: impl Fn(&Row<'_>) -> bool) -> Option<Fit> {
    fit(rows, what, 2.0, rows.iter().map(of).collect())
}

/// Scores a region, if more fails in it than outside.
fn fit(rows: &[Row<'_>], what: What, tried: f64, region: Vec<bool>) -> Option<Fit> {
    let (mut inside, mut outside) = ((0, 0), (0, 0));
    for (row, within) in rows.iter().zip(&region) {
        let (bad, well) = if *within { &mut inside } else { &mut outside };
        *(if row.failed { bad } else { well }) += 1;
    }
    if inside.0 == 0 || outside.0 + outside.1 == 0 || rate(inside) <= rate(outside) {
        return None;
    }
    let score = hypothesis::gain(inside, outside) - tried.max(1.0).ln();
    Some(Fit { what, score, tried, region, inside, outside })
}

/// The threshold from which on most fails, of a number that is counted.
fn threshold(rows: &[Row<'_>], what: impl Fn(f64) -> What, of: impl Fn(&Row<'_>) -> u32) -> Option<Fit> {
    let size = rows.iter().map(&of).max()? as usize + 1;
    let mut counts = vec![(0, 0); size];
    for row in rows {
        if let Some((bad, well)) = counts.get_mut(of(row) as usize) {
            *(if row.failed { bad } else { well }) += 1;
        }
    }
    let all = counts.iter().fold((0, 0), |(bad, well), (b, w)| (bad + b, well + w));
    let (mut above, mut tried, mut best) = ((0, 0), 0.0_f64, (0.0, None));
    for (value, (bad, well)) in counts.iter().enumerate().rev().filter(|(_, (bad, well))| bad + well > 0) {
        above = (above.0 + bad, above.1 + well);
        let below = (all.0 - above.0, all.1 - above.1);
        tried += 1.0;
        if below.0 + below.1 > 0 && rate(above) > rate(below) {
            let gain = hypothesis::gain(above, below);
            if gain > best.0 {
                best = (gain, Some(value as u32));
            }
        }
    }
    let at = best.1?;
    fit(rows, what(f64::from(at)), tried, rows.iter().map(|row| of(row) >= at).collect())
}

/// Failed and well by a key.
fn table<'r, 'a, K: std::hash::Hash + Eq>(
    rows: &'r [Row<'a>],
    key: impl Fn(&'r Row<'a>) -> Option<K>,
) -> HashMap<K, (u64, u64)> {
    let mut table: HashMap<K, (u64, u64)> = HashMap::new();
    for row in rows {
        if let Some(key) = key(row) {
            let (bad, well) = table.entry(key).or_default();
            *(if row.failed { bad } else { well }) += 1;
        }
    }
    table
}

/// Those that fail much more than all do together.
fn worst<K: Copy + Ord>(table: &HashMap<K, (u64, u64)>, rows: &[Row<'_>]) -> Vec<K> {
    let all = rows.iter().filter(|row| row.failed).count() as f64 / rows.len().max(1) as f64;
    let high = f64::midpoint(1.0, all).max(0.5);
    let failing = table.iter().filter(|(_, (bad, well))| bad + well >= FEW && rate((*bad, *well)) >= high);
    let mut failing: Vec<K> = failing.map(|(key, _)| *key).collect();
    failing.sort_unstable();
    failing
}

fn by_id(rows: &[Row<'_>]) -> Option<Fit> {
    let table = table(rows, |row| Some(row.sample.id));
    let failing = worst(&table, rows);
    if failing.is_empty() || failing.len() == table.len() {
        return None;
    }
    let tried = (table.len() as f64).powi(i32::try_from(failing.len()).unwrap_or(i32::MAX)) * 2.0;
    let region = rows.iter().map(|row| failing.binary_search(&row.sample.id).is_ok()).collect();
    fit(rows, What::Ids(failing), tried, region)
}

fn by_connection(rows: &[Row<'_>]) -> Option<Fit> {
    let table = table(rows, |row| row.sample.connection);
    let failing = worst(&table, rows);
    let often = table.values().filter(|(bad, well)| bad + well >= FEW).count();
    // Some connections do not fail: else it is no matter of which.
    if failing.is_empty() || failing.len() * 10 > often * 8 {
        return None;
    }
    // Which ones they are is as many choices as there are of them.
    let tried = (failing.len() as f64 * std::f64::consts::LN_2).exp() * often as f64;
    let what = What::Connections(failing.len(), often);
    let within = |row: &Row<'_>| row.sample.connection.is_some_and(|c| failing.binary_search(&c).is_ok());
    fit(rows, what, tried, rows.iter().map(within).collect())
}

/// Connections that were used often enough to tell something of them.
pub(crate) fn often_used(rows: &[Row<'_>]) -> HashSet<u32> {
    let table = table(rows, |row| row.sample.connection);
    table.into_iter().filter(|(_, (bad, well))| bad + well >= FEW).map(|(connection, _)| connection).collect()
}

fn by_node(rows: &[Row<'_>]) -> Option<Fit> {
    let table = table(rows, |row| row.sample.node.as_deref());
    if table.len() < 2 || table.len() > 64 {
        return None;
    }
    let (node, _) = table.iter().max_by(|a, b| rate(*a.1).total_cmp(&rate(*b.1)).then(b.0.cmp(a.0)))?;
    let region = rows.iter().map(|row| row.sample.node.as_deref() == Some(node)).collect();
    fit(rows, What::Node((*node).to_owned()), table.len() as f64, region)
}

/// Arms that have one reason in common to fail, whenever that is.
fn class(arm: Arm) -> u32 {
    match arm {
        Arm::NewConnection | Arm::NewWave => 0,
        Arm::Probe | Arm::Alone | Arm::Session => 1,
        Arm::OwnTokens => 2,
        Arm::OtherAddress => 3,
        Arm::EachId => 4,
        Arm::Fast => 5,
        Arm::Slow => 6,
        Arm::Wave | Arm::Poured => 7,
        Arm::SharedToken => 8,
        Arm::OneId => 9,
    }
}

/// The span of time that is most unlike the rest, of some of the rows.
fn span(of: &[&Row<'_>]) -> Option<(f64, f64)> {
    let bins: Vec<&[&Row<'_>]> = of.chunks(of.len().div_ceil(BINS).max(1)).collect();
    let failed: Vec<u32> = bins.iter().map(|bin| numbers::count(bin.iter().filter(|row| row.failed).count())).collect();
    let all: Vec<u32> = bins.iter().map(|bin| numbers::count(bin.len())).collect();
    let (ratio, from, to) = hypothesis::best_span(&failed, &all);
    let span = bins.get(from..=to).filter(|_| ratio > 0.0)?;
    // To the first and the last that failed.
    let mut failures = span.iter().flat_map(|bin| bin.iter()).filter(|row| row.failed).map(|row| row.sample.at);
    let from = failures.next()?;
    Some((from, failures.next_back()?))
}

fn within(rows: &[Row<'_>], (from, to): (f64, f64)) -> Option<Fit> {
    let region = rows.iter().map(|row| (from..=to).contains(&row.sample.at)).collect();
    fit(rows, What::Clock(from, to), (BINS * BINS / 2) as f64, region)
}

/// A span of time that tells far more than anything else does, whichever arms it came to.
fn by_time_alone(rows: &[Row<'_>], others: &[Option<Fit>]) -> Option<Fit> {
    let most = others.iter().flatten().map(|fit| fit.score).fold(0.0, f64::max);
    let (from, to) = span(&rows.iter().collect::<Vec<_>>())?;
    within(rows, widened(rows, from, to)).filter(|fit| fit.score > 1.5 * most)
}

/// A span of time in which all arms fail, and outside of which the same arms do not.
fn by_clock(rows: &[Row<'_>]) -> Option<Fit> {
    // Only of those that do little at a time: waves come and go.
    let few: Vec<&Row<'_>> = rows.iter().filter(|row| class(row.sample.arm) < 7).collect();
    let (from, to) = span(&few)?;
    let (from, to) = widened(rows, from, to);
    let mut classes: HashMap<u32, [(u64, u64); 2]> = HashMap::new();
    for row in rows {
        let [outside, inside] = classes.entry(class(row.sample.arm)).or_default();
        let is_within = (from..=to).contains(&row.sample.at);
        let (bad, well) = if is_within { inside } else { outside };
        *(if row.failed { bad } else { well }) += 1;
    }
    let inside = classes.values().fold((0, 0), |(bad, well), [_, inside]| (bad + inside.0, well + inside.1));
    let alike = |of: (u64, u64)| rate(of) >= 0.4 * rate(inside);
    let failing = classes.values().filter(|[out, of]| of.0 >= 2 && alike(*of) && rate(*of) > 3.0 * rate(*out)).count();
    let spared = classes.values().any(|[_, of]| of.0 + of.1 >= 6 && !alike(*of));
    // What fails from the very first request on has not come to two arms yet.
    let from_the_first = inside.0 >= 10 && !rows.iter().any(|row| row.sample.at < from && !row.failed);
    // Or to one arm that was well before and after.
    let of_one = classes
        .values()
        .any(|[out, of]| of.0 >= 10 && rate(*of) > 0.5 && rate(*out) < 0.02 && out.0 + out.1 > 2 * (of.0 + of.1));
    if (failing < 2 && !from_the_first && !of_one) || spared {
        return None;
    }
    within(rows, (from, to))
}

/// The span with what failed right before and after it in all arms, as far as it then tells more.
fn widened(rows: &[Row<'_>], from: f64, to: f64) -> (f64, f64) {
    let counts = |rows: &[Row<'_>]| {
        let bad = rows.iter().filter(|row| row.failed).count() as u64;
        (bad, rows.len() as u64 - bad)
    };
    let all = counts(rows);
    let first = rows.partition_point(|row| row.sample.at < from);
    let end = rows.partition_point(|row| row.sample.at <= to);
    let inside = counts(rows.get(first..end).unwrap_or_default());
    let grown = |mut with: (u64, u64), more: &mut dyn Iterator<Item = &Row<'_>>, at: f64| {
        let mut best = (hypothesis::gain(with, (all.0 - with.0, all.1 - with.1)), at, with);
        for row in more {
            *(if row.failed { &mut with.0 } else { &mut with.1 }) += 1;
            let gain = hypothesis::gain(with, (all.0 - with.0, all.1 - with.1));
            if row.failed && gain > best.0 {
                best = (gain, row.sample.at, with);
            }
        }
        (best.1, best.2)
    };
    let (from, inside) = grown(inside, &mut rows.get(..first).unwrap_or_default().iter().rev(), from);
    let (to, _) = grown(inside, &mut rows.get(end..).unwrap_or_default().iter(), to);
    (from, to)
}

/// The samples in the order in which they were sent.
pub(crate) fn in_order(taken: &Taken) -> Vec<&Sample> {
    let mut samples: Vec<&Sample> = taken.samples.iter().collect();
    samples.sort_by(|a, b| a.at.total_cmp(&b.at));
    samples
}
