//! Failed requests of one kind beside those of the same label that went well: what the failing goes with.

use std::collections::{BTreeMap, BinaryHeap, HashMap};

use crate::hypothesis;
use crate::sample::{NONE, Results, Sample};

/// More rows than these are not asked: every so manieth of them is.
pub(crate) const ASKED: usize = 20_000;
/// Spans of time.
const BINS: usize = 48;
/// A window of the service's may begin at any time: so many are tried.
const BEGINNINGS: i64 = 50;
const MOST: i64 = u32::MAX as i64;

/// One group's rows, in the order of their starts.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    pub(crate) rows: Vec<&'a Sample>,
    pub(crate) failed: Vec<bool>,
    /// How many others were under way when each was sent; empty where it cannot be told.
    pub(crate) in_flight: Vec<f64>,
    /// Each row stands for so many.
    pub(crate) step: usize,
}

/// A question, and how it was answered.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub(crate) question: Question,
    /// As if it had been the only question.
    pub(crate) p: f64,
    /// How large it is: see the question.
    pub(crate) effect: f64,
}

/// What failing may go with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Question {
    /// The address. Effect: the share of the failures at the addresses that fail most.
    Address,
    /// The thread, and with it its token. Effect: the same of threads.
    Thread,
    /// A span of time. Effect: the failing share in it less that outside.
    Clock,
    /// How much is under way. Effect: the chance that a failed one met more than a well one.
    Load,
    /// How many threads there are. Effect: as of the load.
    Threads,
    /// A new connection. Effect: the failing share with one less that without.
    Connection,
    /// Another failure of the step before. Effect: likewise.
    Before,
    /// The place in the thread. Effect: as of the load.
    Nth,
    /// The pause of the thread before it. Effect: as of the load.
    Pause,
    /// A column of the user's, or a header. Effect: as of the address.
    Extra(usize),
    /// The host in the address. Effect: as of the address.
    Host,
    /// The place in a window of so many milliseconds. Effect: as of the load.
    Window(i64),
    /// The place in a burst. Effect: as of the load.
    Burst,
    /// Another request to the same address under way. Effect: the failing share with one less that without.
    Same,
    /// The first request of its thread. Effect: likewise.
    First,
    /// The first request to its address. Effect: likewise.
    Fresh,
    /// Characters in the address that are encoded, or ought to be. Effect: likewise.
    Form,
}

impl<'a> Group<'a> {
    /// The group of those rows that failed so, beside those that went well: at most so many of them.
    pub(crate) fn new(
        all: &[&'a Sample],
        in_flight: &[u32],
        most: usize,
        taken: impl Fn(usize, &Sample) -> Option<bool>,
    ) -> Self {
        let mut picked: Vec<(usize, bool)> =
            all.iter().enumerate().filter_map(|(i, row)| taken(i, row).map(|failed| (i, failed))).collect();
        let step = picked.len().div_ceil(most).max(1);
        if step > 1 {
            picked = picked.into_iter().step_by(step).collect();
        }
        let rows = picked.iter().filter_map(|(i, _)| all.get(*i).copied()).collect();
        let failed = picked.iter().map(|(_, failed)| *failed).collect();
        let in_flight = picked.iter().filter_map(|(i, _)| in_flight.get(*i)).map(|n| f64::from(*n)).collect();
        Self { rows, failed, in_flight, step }
    }

    pub(crate) fn failures(&self) -> usize {
        self.failed.iter().filter(|failed| **failed).count()
    }

    pub(crate) fn well(&self) -> usize {
        self.failed.len() - self.failures()
    }

    /// Failed and well, by a key.
    pub(crate) fn by<K: Ord>(&self, key: impl Fn(&Sample) -> K) -> BTreeMap<K, (u64, u64)> {
        let mut table: BTreeMap<K, (u64, u64)> = BTreeMap::new();
        for (row, failed) in self.rows.iter().zip(&self.failed) {
            let (bad, well) = table.entry(key(row)).or_default();
            *(if *failed { bad } else { well }) += 1;
        }
        table
    }

    /// The first start and the length of a bin.
    pub(crate) fn bins(&self) -> (i64, f64) {
        let first = self.rows.iter().map(|row| row.start).min().unwrap_or_default();
        let last = self.rows.iter().map(|row| row.start).max().unwrap_or_default();
        (first, ((last.saturating_sub(first)) as f64 + 1.0) / BINS as f64)
    }

    pub(crate) fn bin(&self) -> Vec<u32> {
        let (first, length) = self.bins();
        let of = |row: &&Sample| (row.start.saturating_sub(first) as f64 / length) as u32;
        self.rows.iter().map(|row| of(row).min(BINS as u32 - 1)).collect()
    }

    /// The span of time that is most unlike the rest: its first and last bin, failed and all in it and outside.
    pub(crate) fn span(&self) -> Span {
        let bin = self.bin();
        let (mut failed, mut all) = (vec![0_u32; BINS], vec![0_u32; BINS]);
        for (b, f) in bin.iter().zip(&self.failed) {
            if let (Some(all), Some(failed)) = (all.get_mut(*b as usize), failed.get_mut(*b as usize)) {
                *all += 1;
                *failed += u32::from(*f);
            }
        }
        let (_, first, last) = hypothesis::best_span(&failed, &all);
        let sum = |counts: &[u32]| counts.get(first..=last).unwrap_or_default().iter().map(|n| u64::from(*n)).sum();
        Span { first, last, failed: sum(&failed), all: sum(&all), of: BINS }
    }

    /// Asks one question. None if these rows cannot answer it.
    pub(crate) fn ask(&self, question: Question, results: &Results) -> Option<Answered> {
        let numbers = |value: &[f64]| {
            let varied = value.iter().any(|v| Some(v) != value.first());
            (varied && value.len() == self.failed.len())
                .then(|| (hypothesis::by_rank(value, &self.failed, None), hypothesis::higher(value, &self.failed)))
        };
        let (p, effect) = match question {
            Question::Address => self.category(results.has.url, |row| row.url)?,
            Question::Thread => self.category(results.has.thread, |row| row.thread)?,
            Question::Extra(i) => {
                self.category(true, |row| u32::from(row.extras.get(i).copied().unwrap_or_default()))?
            }
            Question::Host => {
                let mut hosts = HashMap::new();
                let of = |row: &Sample| host(results.urls.text(row.url));
                for row in &self.rows {
                    let next = hosts.len() as u32 + 1;
                    hosts.entry(of(row)).or_insert(next);
                }
                self.category(results.has.url, |row| hosts.get(of(row)).copied().unwrap_or_default())?
            }
            Question::Clock => self.clock(results)?,
            Question::Load => numbers(&self.in_flight)?,
            Question::Threads => numbers(&self.numbers(results.has.threads, |row| row.threads)?)?,
            Question::Nth => numbers(&self.numbers(results.has.thread, |row| row.nth)?)?,
            Question::Pause => {
                let has = results.has.thread && results.has.time && results.has.elapsed;
                numbers(&self.numbers(has, |row| row.pause)?)?
            }
            Question::Connection => self.two(results.has.connect, |_, row| row.on_new_connection())?,
            Question::Before => {
                // The same failure again and again is no consequence.
                let own = self
                    .rows
                    .iter()
                    .zip(&self.failed)
                    .find(|(_, failed)| **failed)
                    .map(|(row, _)| results.answer(row.answer).code_number);
                let other = |answer: u32| {
                    results.answer(answer).fate.failed() && Some(results.answer(answer).code_number) != own
                };
                self.two(results.has.thread, |_, row| row.before > 0 && other(row.before))?
            }
            Question::Same => {
                let same = self.same_address_under_way();
                self.two(results.has.url && results.has.time, |i, _| same.get(i).copied().unwrap_or_default())?
            }
            Question::First => self.two(results.has.thread, |_, row| row.nth == 0)?,
            Question::Fresh => {
                let fresh = self.first_to_address();
                let repeated = fresh.iter().filter(|fresh| **fresh).count() * 2 <= fresh.len();
                self.two(results.has.url && repeated, |i, _| fresh.get(i).copied().unwrap_or_default())?
            }
            Question::Form => self.two(results.has.url, |_, row| has_odd_form(results.urls.text(row.url)))?,
            Question::Window(length) => self.limit(results, length)?,
            Question::Burst => self.placed(results, &self.bursts()?)?,
        };
        Some(Answered { question, p, effect })
    }

    fn numbers(&self, has: bool, of: fn(&Sample) -> u32) -> Option<Vec<f64>> {
        has.then(|| self.rows.iter().map(|row| f64::from(of(row))).collect())
    }

    fn category(&self, has: bool, of: impl Fn(&Sample) -> u32) -> Option<(f64, f64)> {
        let table = self.by(&of);
        if !has || !self.tells_apart(table.len()) {
            return None;
        }
        let category: Vec<u32> = self.rows.iter().map(|row| of(row)).collect();
        let p = hypothesis::by_category(&category, &self.failed, None);
        let all = self.failures() as f64 / self.rows.len() as f64;
        let most = table.values().filter(|(bad, well)| *bad as f64 / (bad + well) as f64 > (all * 1.5).min(0.9));
        let share = most.map(|(bad, _)| *bad).sum::<u64>() as f64 / self.failures() as f64;
        Some((p, share))
    }

    /// Whether so many values tell these rows apart: each asked for once tells nothing, and neither does one alone.
    pub(crate) fn tells_apart(&self, values: usize) -> bool {
        values >= 2 && values * 2 <= self.rows.len()
    }

    fn two(&self, has: bool, with: impl Fn(usize, &Sample) -> bool) -> Option<(f64, f64)> {
        let mut table = [(0_u64, 0_u64); 2];
        for (i, (row, failed)) in self.rows.iter().zip(&self.failed).enumerate() {
            let [without, with_it] = &mut table;
            let place = if with(i, row) { with_it } else { without };
            *(if *failed { &mut place.0 } else { &mut place.1 }) += 1;
        }
        let [without, with] = table;
        let share = |(bad, well): (u64, u64)| bad as f64 / (bad + well) as f64;
        let both = has && without.0 + without.1 > 0 && with.0 + with.1 > 0;
        both.then(|| (hypothesis::fisher(with, without), share(with) - share(without)))
    }

    fn clock(&self, results: &Results) -> Option<(f64, f64)> {
        let span = self.span();
        let (all, failures) = (self.rows.len() as u64, self.failures() as u64);
        let timed = results.has.time && self.rows.first()?.start != self.rows.last()?.start;
        if !timed || span.all == 0 || span.all >= all {
            return None;
        }
        let inside = span.failed as f64 / span.all as f64;
        let outside = (failures - span.failed) as f64 / (all - span.all) as f64;
        Some((hypothesis::by_span(&self.bin(), BINS, &self.failed), inside - outside))
    }

    /// Whether the load explains the failing rather than a span of time does, where both go with it. What fails slowly keeps its
    /// thread, and more of them are counted when it ends: then there is nothing to compare at one time.
    pub(crate) fn load_not_clock(&self, load: &[f64], slowly: bool) -> bool {
        let level = crate::rivals::eighths(load);
        let bin = self.bin();
        let inside = self.inside_span();
        let by_load = hypothesis::explained(&level, &self.failed);
        let by_span = hypothesis::explained(&inside, &self.failed);
        let within = || hypothesis::by_rank(load, &self.failed, Some(&bin));
        by_load >= by_span * 0.75 || (!slowly && by_load >= by_span * 0.4 && within() < 0.01)
    }

    /// Whether the failing goes with the address at the same load.
    pub(crate) fn address_at_same_load(&self) -> f64 {
        let level: Vec<u32> = self.in_flight.iter().map(|n| level(*n)).collect();
        let address: Vec<u32> = self.rows.iter().map(|row| row.url).collect();
        hypothesis::by_category(&address, &self.failed, (level.len() == address.len()).then_some(&level))
    }

    /// Windows of time that begin where what fails is the latest in them.
    pub(crate) fn windows(&self, length: i64) -> Option<Windows> {
        let all = (0..BEGINNINGS).filter_map(|i| self.windows_from(length, length * i / BEGINNINGS));
        let all = all.map(|windows| (self.later(self.rows.iter().map(|row| windows.number(row))), windows));
        all.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, windows)| windows)
    }

    fn windows_from(&self, length: i64, shift: i64) -> Option<Windows> {
        Some(Windows { begin: self.rows.first()?.start.saturating_sub(shift), length })
    }

    /// Whether what passes in each full window is as many, at whatever time that is reached, and not the reverse: a limit
    /// counts, and what comes at one time of each does not.
    pub(crate) fn counts(&self, windows: Windows) -> bool {
        let rows: Vec<(&Sample, bool)> = self.rows.iter().copied().zip(self.failed.iter().copied()).collect();
        let all = rows.chunk_by(|a, b| windows.number(a.0) == windows.number(b.0));
        let turns = all.filter(|rows| rows.iter().any(|(_, failed)| *failed)).map(|rows| windows.turn(rows));
        let turns: Vec<(f64, f64)> = turns.collect();
        let usual = middle(turns.iter().map(|turn| turn.0).collect());
        // Where the beginning is missed by a little, some windows end with what is the next one's.
        let alike = turns.into_iter().filter(|turn| (turn.0 - usual).abs() * 10.0 <= usual);
        let (passed, at): (Vec<f64>, Vec<f64>) = alike.unzip();
        spread(&passed) * 2.0 <= spread(&at)
    }

    /// Of each pair of a failed and a well one in one stratum: how often the failed one is the later.
    fn later(&self, strata: impl Iterator<Item = u32>) -> f64 {
        let (mut later, mut pairs) = (0_u64, 0_u64);
        let (mut of, mut bad, mut well) = (None, 0, 0);
        for (stratum, failed) in strata.zip(&self.failed) {
            if of.replace(stratum) != Some(stratum) {
                pairs += std::mem::take(&mut bad) * std::mem::take(&mut well);
            }
            (bad, well) = (bad + u64::from(*failed), well + u64::from(!*failed));
            later += if *failed { well } else { 0 };
        }
        later as f64 / (pairs + bad * well).max(1) as f64
    }

    /// Bursts: requests that start together, with much longer pauses between them.
    pub(crate) fn bursts(&self) -> Option<Vec<u32>> {
        let mut gaps: Vec<i64> =
            self.rows.windows(2).filter_map(|two| Some(two.get(1)?.start - two.first()?.start)).collect();
        gaps.sort_unstable();
        let ratio = |two: &[i64]| Some((two.get(1)? + 1) as f64 / (two.first()? + 1) as f64);
        let (at, most) = gaps
            .windows(2)
            .enumerate()
            .filter_map(|(i, two)| Some((i, ratio(two)?)))
            .max_by(|a, b| a.1.total_cmp(&b.1))?;
        let threshold = *gaps.get(at + 1)?;
        if most < 5.0 {
            return None;
        }
        let mut burst = 0;
        let mut last = self.rows.first()?.start;
        let mut numbers = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            burst += u32::from(row.start - last >= threshold);
            last = row.start;
            numbers.push(burst);
        }
        (burst >= 4).then_some(numbers)
    }

    /// Whether the later ones of each window fail: of those that begin with the run, or of the best of many beginnings.
    fn limit(&self, results: &Results, length: i64) -> Option<(f64, f64)> {
        let of = |windows: Windows| self.rows.iter().map(|row| windows.number(row)).collect::<Vec<_>>();
        let with_the_run = self.placed(results, &of(self.windows_from(length, 0)?)).map_or(1.0, |(p, _)| p);
        let (p, effect) = self.placed(results, &of(self.windows(length)?))?;
        Some((2.0 * (p * BEGINNINGS as f64).min(with_the_run).min(0.5), effect))
    }

    /// Whether the later ones of each stratum fail.
    fn placed(&self, results: &Results, strata: &[u32]) -> Option<(f64, f64)> {
        let mut tables: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for (stratum, failed) in strata.iter().zip(&self.failed) {
            let (bad, well) = tables.entry(*stratum).or_default();
            *(if *failed { bad } else { well }) += 1;
        }
        let mixed = tables.values().filter(|(bad, well)| *bad > 0 && *well > 0).count();
        if !results.has.time || mixed < 2 {
            return None;
        }
        let mut place = Vec::with_capacity(strata.len());
        let mut begun: HashMap<u32, u32> = HashMap::new();
        for stratum in strata {
            let n = begun.entry(*stratum).or_default();
            place.push(f64::from(*n));
            *n += 1;
        }
        let effect = self.later(strata.iter().copied());
        Some((hypothesis::by_rank(&place, &self.failed, Some(strata)), effect))
    }

    /// Whether each is the first of its group to its address.
    pub(crate) fn first_to_address(&self) -> Vec<bool> {
        let mut seen = std::collections::HashSet::new();
        self.rows.iter().map(|row| seen.insert(row.url)).collect()
    }

    /// How many of those that went well were under way when each was sent.
    pub(crate) fn well_in_flight(&self) -> Vec<f64> {
        let mut well = self.failed.iter().map(|failed| !failed);
        in_flight_of(&self.rows, |_| well.next().unwrap_or_default()).into_iter().map(f64::from).collect()
    }

    fn same_address_under_way(&self) -> Vec<bool> {
        let mut until: HashMap<u32, i64> = HashMap::new();
        let mut same = Vec::with_capacity(self.rows.len());
        for (row, failed) in self.rows.iter().zip(&self.failed) {
            let end = until.entry(row.url).or_insert(i64::MIN);
            same.push(*end > row.start);
            // What is refused does not hold the object.
            if !*failed {
                *end = (*end).max(row.end());
            }
        }
        same
    }
}

/// Windows of so many milliseconds, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    begin: i64,
    length: i64,
}

impl Windows {
    pub(crate) fn number(self, row: &Sample) -> u32 {
        (row.start.saturating_sub(self.begin) / self.length).clamp(0, MOST) as u32
    }

    /// How many passed in one window before it turned, and how long it had lasted: most passes before and most fails after.
    fn turn(self, rows: &[(&Sample, bool)]) -> (f64, f64) {
        let (mut passed, mut net) = (0_i64, 0_i64);
        let mut best = (i64::MIN, 0, 0);
        for (row, failed) in rows {
            if *failed && net > best.0 {
                best = (net, passed, row.start.saturating_sub(self.begin) % self.length);
            }
            passed += i64::from(!*failed);
            net += if *failed { -1 } else { 1 };
        }
        (best.1 as f64, best.2 as f64)
    }
}

/// How far numbers are from the middle one, of which it is a share.
fn spread(numbers: &[f64]) -> f64 {
    let middle = middle(numbers.to_vec()).max(1.0);
    numbers.iter().map(|n| (n - middle).abs() / middle).sum::<f64>() / numbers.len().max(1) as f64
}

fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

/// A span of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) first: usize,
    pub(crate) last: usize,
    pub(crate) failed: u64,
    pub(crate) all: u64,
    /// Of how many bins.
    pub(crate) of: usize,
}

/// Whether the path has characters that are encoded or ought to be.
pub(crate) fn has_odd_form(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    path.split(['?', '#'])
        .next()
        .unwrap_or_default()
        .contains(['%', '+', ';', ',', '\'', '!', '*', '(', ')', '@', ':', '&', '=', ' '])
}

/// Levels of load that double.
fn level(n: f64) -> u32 {
    (n + 1.0).log2().floor() as u32
}

/// `api.example.test:8443` of an address.
pub(crate) fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// How many others were under way when each was sent; the rows are in the order of that.
pub(crate) fn in_flight(rows: &[&Sample]) -> Vec<u32> {
    in_flight_of(rows, |_| true)
}

fn in_flight_of(rows: &[&Sample], mut counts: impl FnMut(&Sample) -> bool) -> Vec<u32> {
    let mut ends: BinaryHeap<std::cmp::Reverse<i64>> = BinaryHeap::new();
    let mut under_way = Vec::with_capacity(rows.len());
    for row in rows {
        while ends.peek().is_some_and(|end| end.0 <= row.start) {
            ends.pop();
        }
        under_way.push(u32::try_from(ends.len()).unwrap_or(NONE));
        if counts(row) {
            ends.push(std::cmp::Reverse(row.end()));
        }
    }
    under_way
}
