//! From what was taken down to a report: a function of the samples alone.

use std::collections::BTreeMap;

use genesys_doctor::cause::{self, Cause, Certainty, Name, Read, Report, RuledOut, Setting, Verdict};
use genesys_doctor::hypothesis;
use genesys_doctor::text::{count, many, p_value, percent, shown};

use super::factors::{self, Fit, Row, What, rate};
use super::sample::{Arm, End, Sample, Taken};

/// Questions asked of each kind of failure, and how often one looks before the end.
const QUESTIONS: f64 = 16.0 * 8.0;
/// What a chance of one in a hundred must not explain, all questions together.
const ALPHA: f64 = 0.01;
/// Fewer failures follow no pattern.
const FEW: u64 = 4;
/// Causes of one kind of failure.
const MOST_CAUSES: usize = 4;

/// What the user's own run asks for: a limit above it is no cause.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) agents: u32,
    pub(crate) shared: bool,
    /// Whether all agents start together.
    pub(crate) at_once: bool,
    /// Starts a second, where they do not.
    pub(crate) per_second: f64,
    /// Whether all agents are at it at the same time in the end.
    pub(crate) all_together: bool,
    /// Whether requests come by the clock, and the agents take turns.
    pub(crate) open: bool,
    /// Requests of one agent in a minute, where the plan says so.
    pub(crate) per_agent: Option<f64>,
    /// The ids that are asked for come first.
    pub(crate) ids: u32,
}

impl Asked {
    fn in_flight(&self, latency: f64) -> f64 {
        let agents = f64::from(self.agents);
        let arriving = self.per_second * latency + 1.0;
        match self.open {
            true => arriving,
            false if self.at_once || self.all_together => agents,
            false => arriving.min(agents),
        }
    }

    /// The most that are tried at once: all agents, or what comes while one is answered.
    pub(crate) fn most_at_once(&self, latency: f64) -> usize {
        if self.open { self.in_flight(latency).ceil() as usize } else { self.agents as usize }
    }

    fn arrivals(&self, window: f64, latency: f64) -> f64 {
        let agents = f64::from(self.agents);
        let steady = if self.all_together { agents * window / latency.max(1e-3) } else { self.per_second * window };
        if self.at_once { steady.max(agents) } else { steady }
    }

    fn of_token(&self) -> Option<f64> {
        self.per_agent.map(|each| if self.shared { each * f64::from(self.agents) } else { each })
    }

    fn together(&self) -> Option<f64> {
        self.per_agent.map(|each| each * f64::from(self.agents))
    }
}

/// What the samples come to, and whether more of them would change anything.
pub(crate) struct Judgement {
    pub(crate) report: Report,
    /// Nothing is open: every failure has a cause that is certain, or there is none.
    pub(crate) settled: bool,
}

/// A cause, or a limit that the user's run does not meet.
struct Found {
    name: Name,
    certainty: Certainty,
    /// Of the failures so many; not whole numbers, as some of a region would have failed without it.
    failures: f64,
    in_region: u64,
    follows: Option<Name>,
    evidence: Vec<String>,
    setting: Option<Setting>,
    ruled_out: Option<String>,
}

struct Case<'a> {
    taken: &'a Taken,
    asked: &'a Asked,
    samples: Vec<&'a Sample>,
    /// What one request takes where little is asked.
    latency: f64,
    /// And where much is.
    busy: f64,
    found: Vec<Found>,
    /// What none of the causes explains.
    unexplained: u64,
    /// Scores of what was not found, by the best of each name.
    scores: BTreeMap<Name, f64>,
}

/// Judges what was taken down so far.
pub(crate) fn judge(taken: &Taken, asked: &Asked, target: &str) -> Judgement {
    let samples = factors::in_order(taken);
    let (latency, busy) = (latency(&samples), median(&samples, |sample| sample.arm == Arm::Wave));
    let busy = busy.unwrap_or(latency).max(latency);
    let mut case =
        Case { taken, asked, samples, latency, busy, found: Vec::new(), unexplained: 0, scores: BTreeMap::new() };
    case.logins();
    // Ends with one code are one kind of failure.
    let mut kinds: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (end, code) in taken.codes() {
        kinds.entry(code).or_default().push(end);
    }
    for ends in kinds.values() {
        case.kind(ends);
    }
    case.finish(target)
}

/// The median of what a request takes that is sent alone, in seconds.
pub(crate) fn latency(samples: &[&Sample]) -> f64 {
    median(samples, |sample| sample.in_flight < 4).unwrap_or(0.1)
}

/// The median of what those take that end well.
fn median(samples: &[&Sample], of: impl Fn(&Sample) -> bool) -> Option<f64> {
    let those = samples.iter().filter(|sample| sample.end == Taken::WELL && of(sample));
    let mut took: Vec<f64> = those.map(|sample| sample.took).collect();
    took.sort_by(f64::total_cmp);
    took.get(took.len() / 2).copied()
}

impl Case<'_> {
    /// All requests that failed so, the surest explanation first.
    fn kind(&mut self, ends: &[u32]) {
        let Some(end) = self.samples.iter().map(|sample| sample.end).find(|end| ends.contains(end)) else { return };
        let end = self.taken.of(end).clone();
        let mut rows = factors::rows(&self.samples, |sample| match sample.end {
            Taken::WELL => Some(false),
            end => ends.contains(&end).then_some(true),
        });
        let well = rows.iter().filter(|row| !row.failed).count();
        if well < 5 && rows.len() > well * 20 {
            self.never_well(&end, rows.len() as u64);
            return;
        }
        if let End::Machine(what) = end {
            let bad = rows.len() - well;
            let evidence =
                format!("{} ended as this machine ran out of {what}", many(bad as u64, "request", "requests"));
            self.found.push(Found::of(Name::GeneratorLimited, Certainty::Certain, bad as f64, evidence));
            return;
        }
        let begin = self.found.len();
        let mut by_load = None;
        for _ in 0..MOST_CAUSES {
            let Some((name, certainty, fit)) = self.explain(&end, &rows) else { break };
            let is_load = matches!(fit.what, What::InFlight(_) | What::Arrivals(..));
            // One kind of failure under load is one cause: what is left of it is the blur of its edge.
            let known = by_load.filter(|_| is_load);
            let at = known.unwrap_or_else(|| {
                self.say(name, certainty, &fit, &end, &rows);
                self.found.len() - 1
            });
            by_load = by_load.or(is_load.then_some(at));
            let failing = |rows: &[Row<'_>]| rows.iter().filter(|row| row.failed).count() as f64;
            let before = failing(&rows);
            let mut within = fit.region.iter().copied();
            rows.retain(|row| !within.next().unwrap_or_default() && !row.is_near(&fit.what));
            if matches!(fit.what, What::Connections(..)) {
                // Of a connection that was hardly used there is no knowing.
                let often = factors::often_used(&rows);
                rows.retain(|row| row.sample.connection.is_some_and(|connection| often.contains(&connection)));
            }
            if let Some(found) = self.found.get_mut(at) {
                let more = before - failing(&rows);
                found.failures = if known.is_some() { found.failures + more } else { more };
            }
        }
        self.rest(&end, &rows, begin, by_load);
    }

    /// The factor that explains the most, if one does beyond chance.
    fn explain(&mut self, end: &End, rows: &[Row<'_>]) -> Option<(Name, Certainty, Fit)> {
        let fits = factors::fits(rows);
        let threshold = (QUESTIONS / ALPHA).ln();
        let fits: Vec<(Name, Fit)> = fits.into_iter().map(|fit| (self.name(&fit.what, end, rows, &fit), fit)).collect();
        let best = fits.iter().map(|(_, fit)| fit.score).max_by(f64::total_cmp).unwrap_or_default();
        let is_pattern = |fit: &Fit| {
            // Above a quota hardly anything passes.
            let quota = matches!(fit.what, What::PerToken(_) | What::PerAddress(_) | What::Together(_));
            (!quota || rate(fit.inside) > 0.5)
                && fit.score > threshold
                && fit.inside.0 >= FEW
                && rate(fit.inside) > 2.0 * rate(fit.outside) + 0.03
        };
        // Of those that explain as much, the one that comes first here.
        let most = fits.iter().find(|(_, fit)| fit.score >= best).map(|(_, fit)| fit.what.clone())?;
        let as_much = |fit: &Fit| {
            fit.score > best * 0.99 - 5.0 || (fit.score > best * 0.7 - 5.0 && self.is_same(&fit.what, &most, end))
        };
        let chosen = fits
            .iter()
            .filter(|(_, fit)| is_pattern(fit) && as_much(fit))
            .min_by_key(|(_, fit)| precedence(&fit.what, end))
            .cloned();
        for (name, fit) in &fits {
            let score = self.scores.entry(*name).or_insert(f64::NEG_INFINITY);
            *score = score.max(fit.score);
        }
        let (name, fit) = chosen?;
        let rival = fits.iter().filter(|(other, rival)| *other != name && !self.is_same(&fit.what, &rival.what, end));
        let rival = rival.map(|(_, fit)| fit.score).max_by(f64::total_cmp).unwrap_or_default();
        let apart = rate(fit.inside) > 4.0 * rate(fit.outside) + 0.02;
        let sure = fit.score > 25.0 && apart && rival < 0.9 * fit.score;
        // A time in which it also was more that was asked for than at others may be no matter of time at all.
        let open = name == Name::TimeWindow && rival > 0.95 * fit.score;
        let certainty = match (sure, open) {
            (true, _) => Certainty::Certain,
            (false, true) => Certainty::Possible,
            (false, false) => Certainty::Likely,
        };
        Some((name, certainty, fit))
    }

    /// Whether two factors cannot be told apart here, or one of them cannot be it.
    fn is_same(&self, one: &What, other: &What, end: &End) -> bool {
        match (one, other) {
            // What starts within the time of an answer is what is under way.
            (What::InFlight(_), What::Arrivals(window, _)) | (What::Arrivals(window, _), What::InFlight(_)) => {
                *window > 0.4 * self.latency && *window < 2.5 * self.busy
            }
            // A quota is not told as 401.
            (_, What::Together(_) | What::PerAddress(_) | What::PerToken(_)) => end.status() == Some(401),
            _ => false,
        }
    }

    /// What a factor is called.
    fn name(&self, what: &What, end: &End, rows: &[Row<'_>], fit: &Fit) -> Name {
        let status = end.status();
        match what {
            What::Ids(_) if matches!(status, Some(401 | 403 | 404 | 410)) => Name::FeedUnknownId,
            What::Ids(_) => Name::BrokenScript,
            What::Clock(from, to) => {
                let first = rows.first().map_or(0.0, |row| row.sample.at);
                let last = rows.last().map_or(0.0, |row| row.sample.at);
                let server = status.is_none_or(|status| status >= 500);
                let to_the_end = !rows.iter().any(|row| !row.failed && row.sample.at > *to);
                let at_the_start = from - first < (last - first) / 50.0;
                match status {
                    Some(401) if to_the_end => Name::TokenExpired,
                    _ if at_the_start && (to - from) * 4.0 < last - first => Name::ColdStart,
                    _ if server && rate(fit.inside) > 0.9 => Name::ServiceDown,
                    _ => Name::TimeWindow,
                }
            }
            What::Node(_) | What::Connections(..) => Name::NodeFault,
            What::Cold => Name::ColdStart,
            What::SameId => Name::Contention,
            What::NewConnection => Name::ConnectionChurn,
            What::KeptConnection => Name::ConnectionReuse,
            What::InFlight(_) => Name::Overload,
            What::Arrivals(..) => Name::Burst,
            // Agents with tokens of their own would stay below, whatever the few here that have one send.
            What::PerToken(limit) if self.asked.shared && self.asked.per_agent.is_some_and(|each| each < *limit) => {
                Name::TokenShared
            }
            What::PerToken(_) => {
                let own = rows.iter().zip(&fit.region).any(|(row, within)| {
                    *within && row.failed && row.sample.arm != Arm::SharedToken && !self.is_shared(row.sample)
                });
                if own { Name::Quota } else { Name::TokenShared }
            }
            What::PerAddress(_) => Name::AddressLimit,
            What::Together(_) => Name::Quota,
            What::Stale => Name::SessionConflict,
            What::Aged(_) => Name::TokenExpired,
        }
    }

    /// Whether it was sent with the token that all share.
    fn is_shared(&self, sample: &Sample) -> bool {
        let shared = self.samples.iter().find(|sample| sample.arm == Arm::SharedToken).map(|sample| sample.token);
        Some(sample.token) == shared
    }

    /// Why a limit that was found is none of the user's run, if it is none.
    fn not_asked(&self, name: Name, what: &What) -> Option<String> {
        let asked = self.asked;
        let below = |limit: f64, asked: f64, of: &str| {
            (limit > asked)
                .then(|| format!("the limit is at {limit:.0} {of}, and your run comes to {:.0}", asked.ceil()))
        };
        match what {
            What::InFlight(limit) => below(*limit, asked.in_flight(self.latency), "at once"),
            What::Arrivals(window, limit) => {
                below(*limit, asked.arrivals(*window, self.latency), &format!("starts in {window} s"))
            }
            What::PerToken(limit) if name == Name::TokenShared && !asked.shared => Some(format!(
                "only where one token served all was more refused, from {limit:.0} requests in a minute on; your run gives each agent its own"
            )),
            What::PerToken(limit) => below(*limit, asked.of_token()?, "requests of one token in a minute"),
            What::PerAddress(limit) | What::Together(limit) => below(*limit, asked.together()?, "requests in a minute"),
            What::Ids(ids) if ids.iter().all(|id| *id >= asked.ids) => {
                Some("only scripts that your run does not ask for".to_owned())
            }
            What::Stale if asked.shared => {
                Some("only where each agent logs in by itself; yours share a login".to_owned())
            }
            _ => None,
        }
    }

    fn say(&mut self, name: Name, certainty: Certainty, fit: &Fit, end: &End, rows: &[Row<'_>]) {
        let p = hypothesis::fisher(fit.inside, fit.outside) * fit.tried * QUESTIONS;
        let evidence = format!(
            "{}: {} of {} ended with {}, and {} of {} otherwise ({})",
            condition(&fit.what),
            count(fit.inside.0),
            count(fit.inside.0 + fit.inside.1),
            shown(&end.words()),
            count(fit.outside.0),
            count(fit.outside.0 + fit.outside.1),
            p_value(p.min(1.0))
        );
        let failures = fit.inside.0 as f64;
        let mut found = Found::of(name, certainty, failures, evidence);
        found.in_region = fit.inside.0 + fit.inside.1;
        found.evidence.extend(self.arms(&fit.what, rows));
        found.ruled_out = self.not_asked(name, &fit.what);
        let counted = matches!(fit.what, What::PerToken(_) | What::PerAddress(_) | What::Together(_));
        if counted && self.asked.per_agent.is_none() {
            let words = "how often an agent asks is not said (--iterations, --think-time): a run that stays below meets no limit";
            found.evidence.push(words.to_owned());
        }
        if let What::InFlight(limit) = fit.what {
            // So many may be under way together: the request itself, and those others with which all went well.
            found.setting = Some(Setting { name: "max_in_flight", value: (limit as u64).max(1) });
        }
        let itself = named_by_code(end).filter(|itself| *itself != name);
        let explains = matches!(
            name,
            Name::Overload | Name::Burst | Name::ServiceDown | Name::TimeWindow | Name::ColdStart | Name::NodeFault
        );
        if let (Some(itself), true, true) = (itself, explains, found.ruled_out.is_none()) {
            let said = format!("{} ended with {}", many(fit.inside.0, "request", "requests"), shown(&end.words()));
            let mut consequence = Found::of(itself, Certainty::Likely, failures, said);
            consequence.follows = Some(name);
            self.found.push(consequence);
        }
        self.found.push(found);
    }

    /// The arms that differ in what was found, in numbers.
    fn arms(&self, what: &What, rows: &[Row<'_>]) -> Option<String> {
        let of = |arm: Arm| {
            let of = rows.iter().filter(|row| row.sample.arm == arm);
            let (bad, all) = of.fold((0, 0), |(bad, all), row| (bad + u64::from(row.failed), all + 1));
            (all > 0).then(|| format!("{} of {}", count(bad), count(all)))
        };
        let say = |pairs: &[(&str, Arm)]| {
            let parts: Vec<String> =
                pairs.iter().filter_map(|(words, arm)| Some(format!("{words} {}", of(*arm)?))).collect();
            (parts.len() > 1).then(|| format!("failed: {}", parts.join(", ")))
        };
        match what {
            What::InFlight(_) | What::Arrivals(..) => say(&[
                ("one at a time", Arm::Alone),
                ("a few at once at a low rate", Arm::Slow),
                ("as few at a high rate", Arm::Fast),
                ("many at once", Arm::Wave),
                ("as many, the starts spread", Arm::Poured),
            ]),
            What::PerToken(_) => say(&[("one token for all", Arm::SharedToken), ("own tokens", Arm::OwnTokens)]),
            What::PerAddress(_) => say(&[("one address", Arm::Alone), ("another address", Arm::OtherAddress)]),
            What::NewConnection | What::KeptConnection => {
                say(&[("new connections", Arm::NewConnection), ("kept ones", Arm::Alone)])
            }
            What::SameId => say(&[("one script", Arm::OneId), ("a script each", Arm::EachId)]),
            _ => None,
        }
    }

    /// What follows none of the factors.
    fn rest(&mut self, end: &End, rows: &[Row<'_>], begin: usize, by_load: Option<usize>) {
        let bad = rows.iter().filter(|row| row.failed).count() as u64;
        if bad == 0 {
            return;
        }
        let all = rows.len() as u64;
        let share = bad as f64 / all as f64;
        let name = named_by_code(end).unwrap_or(Name::Transient);
        let seconds = rows.iter().filter(|row| row.failed).map(|row| row.sample.at);
        let span = seconds.clone().fold(0.0, f64::max) - seconds.fold(f64::INFINITY, f64::min);
        let length = rows.last().map_or(0.0, |row| row.sample.at) - rows.first().map_or(0.0, |row| row.sample.at);
        // Those that are left over at the edge of another cause are no cause of their own.
        let of_load = by_load.and_then(|at| self.found.get(at)).map_or(0.0, |found| found.failures);
        let edge = begin < self.found.len() && (bad < 8 || share < 0.004 || (bad as f64) < 0.05 * of_load);
        if bad < FEW || edge {
            self.unexplained += if edge { 0 } else { bad };
            if !edge {
                let evidence = format!(
                    "{} of {} ended with {}: too few to follow a pattern",
                    count(bad),
                    count(all),
                    shown(&end.words())
                );
                self.found.push(Found::of(name, Certainty::Possible, bad as f64, evidence));
            }
            return;
        }
        let sure = bad >= 8 && span > length / 3.0;
        let evidence = format!(
            "{} of {} ended with {} ({}), whatever was asked, how much at once, with which token, on which connection, and when",
            count(bad),
            count(all),
            shown(&end.words()),
            percent(share)
        );
        let nothing = factors::fits(rows).iter().all(|fit| fit.score < 4.0);
        let certainty = match sure {
            true if bad >= 50 && nothing => Certainty::Certain,
            true => Certainty::Likely,
            false => Certainty::Possible,
        };
        // As many would have failed in the regions of other causes too.
        let mut failures = bad as f64;
        for other in self.found.iter_mut().skip(begin).filter(|_| sure) {
            let part = (other.in_region as f64 * share).min(other.failures);
            other.failures -= part;
            failures += if other.follows.is_none() { part } else { 0.0 };
        }
        self.unexplained += if sure { 0 } else { bad };
        self.found.push(Found::of(name, certainty, failures, evidence));
    }

    /// Nothing of the kind went well.
    fn never_well(&mut self, end: &End, all: u64) {
        let evidence = format!(
            "all {} ended with {}: not one went well, from the first on, and one at a time",
            many(all, "request", "requests"),
            shown(&end.words())
        );
        let name = match end {
            End::Refused(401, _) => Name::TokenMissing,
            End::Refused(404 | 410, _) => Name::WrongAddress,
            End::Refused(300..=399, _) => Name::Redirected,
            End::Refused(502 | 504, _) => Name::GatewayFailure,
            End::Unreachable(why) => unreachable(why),
            End::Refused(500.., _) | End::Broken(_) => Name::ServiceDown,
            End::Timeout => Name::Timeout,
            End::Machine(_) => Name::GeneratorLimited,
            _ => Name::AllRefused,
        };
        let certainty = if all >= 20 { Certainty::Certain } else { Certainty::Likely };
        self.found.push(Found::of(name, certainty, all as f64, evidence));
    }

    /// Logins by themselves, each way to fail: whether they were refused, and whether it was for being many at once.
    fn logins(&mut self) {
        let taken = self.taken;
        let (mut alone, mut at_once) = ((0, 0), (0, 0));
        let mut kinds: BTreeMap<Name, (u32, u64, u64)> = BTreeMap::new();
        for login in &taken.logins {
            let (well, all) = if login.at_once { &mut at_once } else { &mut alone };
            *all += 1;
            if login.end == Taken::WELL {
                *well += 1;
                continue;
            }
            let (_, one_by_one, together) = kinds.entry(of_login(taken.of(login.end))).or_insert((login.end, 0, 0));
            *(if login.at_once { together } else { one_by_one }) += 1;
        }
        let (well, only) = (alone.0 + at_once.0, kinds.len() == 1);
        for (kind, (end, one_by_one, together)) in kinds {
            let (end, bad) = (taken.of(end), one_by_one + together);
            let evidence = format!(
                "{} of {} ended with {}: {} of {} one after the other, {} of {} at once",
                count(bad),
                many(alone.1 + at_once.1, "login", "logins"),
                shown(&end.words()),
                count(one_by_one),
                count(alone.1),
                count(together),
                count(at_once.1)
            );
            // A grant that is no good is one agent's own, however many come at once.
            let own = matches!(end, End::Refused(_, text) if text.contains("invalid_grant"));
            let by_number = together >= FEW && alone.0 > 0 && alone.0 == alone.1 && !own;
            let (name, certainty) = match kind {
                Name::LoginThrottled if well > 0 => (kind, Certainty::Certain),
                Name::LoginRefused if well == 0 && only => (kind, Certainty::Certain),
                Name::LoginRefused if by_number => (Name::LoginThrottled, Certainty::Likely),
                Name::WrongAddress if well == 0 && matches!(end, End::NoScript) => (kind, Certainty::Possible),
                Name::GeneratorLimited => (kind, Certainty::Likely),
                _ if well == 0 => (kind, Certainty::Likely),
                _ => (named_by_code(end).unwrap_or(Name::Transient), Certainty::Possible),
            };
            let mut found = Found::of(name, certainty, bad as f64, evidence);
            if name == Name::LoginThrottled && self.asked.shared && well > 0 {
                found.ruled_out = Some("only where each agent logs in by itself; yours share a login".to_owned());
            }
            if certainty == Certainty::Possible {
                self.unexplained += bad;
            }
            self.found.push(found);
        }
    }

    fn finish(self, target: &str) -> Judgement {
        let taken = self.taken;
        let mut codes: BTreeMap<String, u64> = BTreeMap::new();
        for sample in &taken.samples {
            *codes.entry(taken.of(sample.end).code()).or_default() += 1;
        }
        let seconds = taken.samples.iter().map(|sample| sample.at + sample.took).fold(0.0, f64::max);
        let (file, requests) = (target.to_owned(), codes.values().sum());
        let read = Read { file, kind: "experiment", requests, codes, seconds: Some(seconds), ..Read::default() };
        let mut ruled_out: Vec<RuledOut> = Vec::new();
        let mut by_name: BTreeMap<Name, Found> = BTreeMap::new();
        let mut of_the_run = 0.0;
        for found in self.found.iter().filter(|found| found.ruled_out.is_none() && found.follows.is_none()) {
            of_the_run += found.failures;
        }
        for found in self.found {
            if let Some(why) = found.ruled_out {
                ruled_out.push(RuledOut { name: found.name, why });
                continue;
            }
            match by_name.get_mut(&found.name) {
                Some(known) => known.take(found),
                None => drop(by_name.insert(found.name, found)),
            }
        }
        let mut causes: Vec<Cause> = by_name.into_values().map(|found| found.cause(of_the_run)).collect();
        cause::in_order(&mut causes);
        let sure = causes.iter().any(|cause| cause.certainty > Certainty::Possible);
        let certain = causes.iter().all(|c| c.certainty == Certainty::Certain || c.follows.is_some());
        let verdict = match (sure, causes.is_empty()) {
            (true, _) => Verdict::Causes,
            (false, false) => Verdict::NotEnoughEvidence,
            (false, true) if taken.samples.is_empty() => Verdict::NotEnoughEvidence,
            (false, true) => Verdict::NothingFound,
        };
        let settled = self.unexplained == 0 && (causes.is_empty() || certain);
        let in_flight = self.asked.in_flight(self.latency);
        let case = Left { taken, samples: &self.samples, scores: &self.scores, asked: self.asked, in_flight };
        let named = |name: Name, out: &[RuledOut]| {
            causes.iter().any(|cause| cause.name == name) || out.iter().any(|ruled| ruled.name == name)
        };
        for (name, why) in case.ruled_out() {
            if !named(name, &ruled_out) {
                ruled_out.push(RuledOut { name, why });
            }
        }
        let more = (self.asked.open && case.is_more_than_tried())
            .then(|| format!("more than {} at once: your run comes to {:.0}", case.most(), in_flight.ceil()));
        let not_tested = more.into_iter().collect();
        let report = Report { verdict, causes, findings: Vec::new(), ruled_out, not_tested, read: vec![read] };
        Judgement { report, settled }
    }
}

impl Found {
    fn of(name: Name, certainty: Certainty, failures: f64, evidence: String) -> Self {
        let evidence = vec![evidence];
        Self { name, certainty, failures, in_region: 0, follows: None, evidence, setting: None, ruled_out: None }
    }

    fn take(&mut self, other: Self) {
        self.certainty = self.certainty.max(other.certainty);
        self.failures += other.failures;
        self.follows = self.follows.and(other.follows);
        self.evidence.extend(other.evidence);
        self.setting = self.setting.take().or(other.setting);
    }

    fn cause(self, of: f64) -> Cause {
        let share = (of > 0.0).then(|| self.failures / of);
        let mut cause = Cause::new(self.name, self.certainty, share, "");
        cause.evidence = self.evidence;
        if let Some(first) = self.follows {
            cause.advice = format!("Mend {} first: this goes away with it.", first.name());
        }
        if let Some(setting) = &self.setting {
            cause.advice.push_str(&format!(" With genesys-scripts: {}({}).", setting.name, setting.value));
        }
        cause.follows = self.follows;
        cause.setting = self.setting;
        cause
    }
}

/// What a login that ended so tells by itself.
fn of_login(end: &End) -> Name {
    match end {
        End::Refused(429, _) => Name::LoginThrottled,
        // The code beside these words, `invalid_request`, is other refusals' too.
        End::Refused(400, text) if text.to_ascii_lowercase().contains("rate limit") => Name::LoginThrottled,
        End::Refused(400..=499, _) => Name::LoginRefused,
        End::Refused(300..=399, _) => Name::Redirected,
        End::Unreachable(why) => unreachable(why),
        End::Refused(500.., _) | End::Broken(_) => Name::ServiceDown,
        End::Timeout => Name::Timeout,
        End::Machine(_) => Name::GeneratorLimited,
        // A good answer without a token may be anybody's.
        _ => Name::WrongAddress,
    }
}

/// What is the matter where no connection can be made: a service that is well later has no other name and no other certificate.
fn unreachable(why: &str) -> Name {
    // As Unix and Windows say it.
    let no_host = ["lookup", "No such host"].iter().any(|words| why.contains(words));
    // Who would know the name is away.
    let may_pass = ["emporary", "Try again"].iter().any(|words| why.contains(words));
    match why {
        _ if no_host && !may_pass => Name::WrongAddress,
        _ if why.contains("certificate") => Name::ClientMade,
        _ => Name::ServiceDown,
    }
}

/// Some answers tell by themselves what they are; what they go with is why.
fn named_by_code(end: &End) -> Option<Name> {
    match end {
        End::Refused(502 | 504, _) => Some(Name::GatewayFailure),
        End::Timeout => Some(Name::Timeout),
        _ => None,
    }
}

/// Of factors that explain as much, the lower one is named: what the code speaks for, and the narrower.
fn precedence(what: &What, end: &End) -> u32 {
    let throttled = matches!(end, End::Refused(429, _));
    match what {
        What::Stale | What::Aged(_) if end.status() == Some(401) => 0,
        What::PerToken(_) if throttled => 1,
        What::PerAddress(_) if throttled => 2,
        What::Together(_) if throttled => 3,
        What::Ids(_) => 4,
        What::Cold => 5,
        What::Node(_) => 6,
        What::Clock(..) => 7,
        What::SameId => 8,
        What::NewConnection | What::KeptConnection => 9,
        What::InFlight(_) => 10,
        What::Arrivals(..) => 11,
        What::PerToken(_) => 12,
        What::PerAddress(_) => 13,
        What::Connections(..) => 14,
        What::Together(_) => 15,
        What::Stale | What::Aged(_) => 16,
    }
}

fn condition(what: &What) -> String {
    match what {
        What::Ids(ids) => format!("of {}", many(ids.len() as u64, "script", "scripts")),
        What::Clock(from, to) => format!("from {from:.1} s to {to:.1} s of the experiment"),
        What::Node(node) => format!("where the answer says {}", shown(node)),
        What::Connections(failing, of) => format!("on {failing} of {of} connections"),
        What::Cold => "the first time that a script was asked for".to_owned(),
        What::SameId => "while another request for the same script was under way".to_owned(),
        What::NewConnection => "on new connections".to_owned(),
        What::KeptConnection => "on kept connections".to_owned(),
        What::InFlight(limit) => format!("with {limit:.0} or more others under way"),
        What::Arrivals(window, limit) => format!("after {limit:.0} or more starts within {window} s"),
        What::PerToken(limit) => format!("after {limit:.0} requests of the same token in a minute"),
        What::PerAddress(limit) => format!("after {limit:.0} requests from the same address in a minute"),
        What::Together(limit) => format!("after {limit:.0} requests in a minute, whoever sent them"),
        What::Aged(age) => format!("with tokens {age:.1} s old or older"),
        What::Stale => "after another login of the same client".to_owned(),
    }
}

/// What was asked and answered with no.
struct Left<'a> {
    taken: &'a Taken,
    samples: &'a [&'a Sample],
    scores: &'a BTreeMap<Name, f64>,
    asked: &'a Asked,
    /// As many are under way in the user's run.
    in_flight: f64,
}

impl Left<'_> {
    fn most(&self) -> u32 {
        self.samples.iter().map(|sample| sample.in_flight + 1).max().unwrap_or_default()
    }

    /// Whether the user's run comes to many more at once than were tried here.
    fn is_more_than_tried(&self) -> bool {
        self.in_flight > 1.5 * f64::from(self.most())
    }

    fn ruled_out(&self) -> Vec<(Name, String)> {
        let of = |is: &dyn Fn(&Sample) -> bool| {
            let those = self.samples.iter().filter(|sample| is(sample));
            those.fold((0, 0), |(bad, all), s| (bad + u64::from(s.end != Taken::WELL), all + 1_u64))
        };
        let numbers = |(bad, all): (u64, u64)| format!("{} of {}", count(bad), count(all));
        let arm = |arm: Arm| of(&|sample| sample.arm == arm);
        let mut out = Vec::new();
        let mut say = |name: Name, (bad, all): (u64, u64), why: String| {
            // What is open is not ruled out.
            let clear = self.scores.get(&name).is_none_or(|score| *score < 3.0);
            if all >= 10 && clear {
                let sentence = if why.ends_with('.') {
                    why.trim_end_matches('.').to_owned()
                } else {
                    format!("{why}, {} failed", numbers((bad, all)))
                };
                out.push((name, sentence));
            }
        };
        let most = self.most();
        let waves = of(&|sample| matches!(sample.arm, Arm::Wave | Arm::Poured) && sample.in_flight * 2 >= most);
        if !self.is_more_than_tried() {
            say(Name::Overload, waves, format!("with {} or more at once, of {most}", most / 2));
            say(Name::Burst, arm(Arm::Wave), "of those that start together".to_owned());
        }
        if self.asked.shared {
            say(Name::TokenShared, arm(Arm::SharedToken), "with one token for all".to_owned());
        }
        say(Name::Quota, arm(Arm::OwnTokens), "with own tokens".to_owned());
        say(Name::ConnectionChurn, arm(Arm::NewConnection), "on new connections".to_owned());
        say(Name::ConnectionReuse, arm(Arm::Alone), "on kept connections".to_owned());
        say(Name::Contention, arm(Arm::OneId), "with several at once for one script".to_owned());
        say(Name::AddressLimit, arm(Arm::OtherAddress), "from another address".to_owned());
        let stale = of(&|sample| sample.stale);
        say(Name::SessionConflict, stale, "with tokens after which others were fetched".to_owned());
        let logins = self.taken.logins.iter();
        let logins = logins.fold((0, 0), |(bad, all), l| (bad + u64::from(l.end != Taken::WELL), all + 1_u64));
        say(Name::LoginThrottled, logins, "logins".to_owned());
        let late = self.samples.iter().map(|s| s.at).fold(0.0, f64::max);
        let all = of(&|_| true);
        let why = if all.0 == 0 { "none failed in" } else { "the failures are in no one span of" };
        say(Name::TimeWindow, all, format!("{why} {late:.0} s."));
        self.by_id(&mut say);
        out
    }

    fn by_id(&self, say: &mut impl FnMut(Name, (u64, u64), String)) {
        let mut first: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let (mut cold, mut rest) = ((0, 0), 0_u64);
        for sample in self.samples {
            let bad = u64::from(sample.end != Taken::WELL);
            let of = first.entry(sample.id).or_default();
            if of.1 == 0 {
                cold = (cold.0 + bad, cold.1 + 1);
            }
            rest += bad;
            *of = (of.0 + bad, of.1 + 1);
        }
        say(Name::ColdStart, cold, "the first time that a script is asked for".to_owned());
        if first.values().all(|(bad, all)| bad < all) {
            let all = self.samples.len() as u64;
            say(
                Name::BrokenScript,
                (rest, all),
                format!("each of {} was also served.", many(first.len() as u64, "script", "scripts")),
            );
        }
    }
}
