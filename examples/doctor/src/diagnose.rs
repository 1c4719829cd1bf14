//! From results to causes: what single requests tell by themselves, then what the rest goes with.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::cause::{Cause, Certainty, Finding, Level, Name, RuledOut};
use crate::explain;
use crate::groups::{self, Answered, Group, Question};
use crate::hypothesis;
use crate::operations::{holds_id, operations};
use crate::sample::{Fate, NONE, Results, Sample};
use crate::signs::{self, Shape, Shapes};
use crate::text::{count, many, p_value, percent, shown};

/// What a chance of one in a hundred must not explain, all questions together.
pub(crate) const ALPHA: f64 = 0.01;
/// Fewer failures of one kind follow no pattern.
const FEW: usize = 5;
/// What was asked for so often and never went well is broken.
const NEVER: u64 = 3;

/// What the results of one file come to.
#[derive(Debug, Default)]
pub(crate) struct Diagnosis {
    pub(crate) requests: u64,
    pub(crate) codes: BTreeMap<String, u64>,
    pub(crate) failures: u64,
    /// Rows that may have failed or not: they could not be read.
    pub(crate) unread: u64,
    pub(crate) seconds: Option<f64>,
    pub(crate) runs: usize,
    pub(crate) causes: Vec<Cause>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) ruled_out: Vec<RuledOut>,
    pub(crate) not_tested: Vec<String>,
    /// By label: failed and all, of the run that was looked at.
    pub(crate) labels: BTreeMap<String, (u64, u64)>,
}

/// Explains the failures in a file.
pub(crate) fn diagnose(results: &Results, file: &str) -> Diagnosis {
    let parts = parts_of_others(results);
    let mut case = Case::new(results, file, &parts);
    case.count(&parts);
    case.mixed_runs(&parts);
    case.signs();
    case.rest();
    case.consequences();
    case.finish()
}

/// Labels of parts of a request: `label-0` beside `label`, within its time.
fn parts_of_others(results: &Results) -> HashSet<u32> {
    let mut by_text: HashMap<&str, u32> = HashMap::new();
    for label in 1..results.labels.len() {
        let label = label as u32;
        by_text.insert(results.labels.text(label), label);
    }
    let mut parents: HashMap<u32, u32> = HashMap::new();
    for (text, label) in &by_text {
        if let Some((base, digits)) = text.rsplit_once('-')
            && !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && let Some(parent) = by_text.get(base)
        {
            parents.insert(*label, *parent);
        }
    }
    if parents.is_empty() {
        return HashSet::new();
    }
    // The requests of each parent and thread, by start.
    let mut spans: HashMap<(u32, u32), Vec<(i64, i64)>> = HashMap::new();
    for row in results.rows.iter().filter(|row| parents.values().any(|parent| *parent == row.label)) {
        spans.entry((row.label, row.thread)).or_default().push((row.start, row.end()));
    }
    spans.values_mut().for_each(|spans| spans.sort_unstable());
    let mut inside: HashMap<u32, (u64, u64)> = HashMap::new();
    for row in &results.rows {
        let Some(parent) = parents.get(&row.label) else { continue };
        let within = spans.get(&(*parent, row.thread)).is_some_and(|spans| {
            let after = spans.partition_point(|(start, _)| *start <= row.start);
            after.checked_sub(1).and_then(|i| spans.get(i)).is_some_and(|(_, end)| row.end() <= end + 1)
        });
        let (part, all) = inside.entry(row.label).or_default();
        *part += u64::from(within || !results.has.time);
        *all += 1;
    }
    inside.into_iter().filter(|(_, (part, all))| part * 10 >= all * 9).map(|(label, _)| label).collect()
}

/// What speaks for one cause.
#[derive(Debug)]
struct Found {
    certainty: Certainty,
    rows: u64,
    follows: Option<Name>,
    evidence: Vec<String>,
}

struct Case<'a> {
    results: &'a Results,
    file: &'a str,
    /// Requests of the last run, in the order in which they were sent.
    rows: Vec<&'a Sample>,
    in_flight: Vec<u32>,
    /// Of each label.
    operations: HashMap<u32, u32>,
    /// Whether there may have been requests that went well, and were not saved.
    only_errors: bool,
    /// The cause of each row, as far as it is known.
    because: Vec<Option<Name>>,
    found: BTreeMap<Name, Found>,
    out: Diagnosis,
}

impl<'a> Case<'a> {
    fn new(results: &'a Results, file: &'a str, parts: &HashSet<u32>) -> Self {
        let mut rows: Vec<&Sample> = results.rows.iter().filter(|row| !parts.contains(&row.label)).collect();
        rows.sort_by_key(|row| (row.start, row.seq));
        let timed = results.has.time && results.has.elapsed && results.complete();
        let in_flight = if timed { groups::in_flight(&rows) } else { Vec::new() };
        let because = vec![None; rows.len()];
        let operations = operations(results, &rows);
        let only_errors = only_errors(results, &rows);
        let (found, out) = (BTreeMap::new(), Diagnosis::default());
        Self { results, file, rows, in_flight, operations, only_errors, because, found, out }
    }

    fn operation(&self, label: u32) -> u32 {
        self.operations.get(&label).copied().unwrap_or(label)
    }

    fn failed(&self, row: &Sample) -> bool {
        self.results.answer(row.answer).fate.failed()
    }

    /// Exact counts of all requests.
    fn count(&mut self, parts: &HashSet<u32>) {
        let results = self.results;
        let all =
            results.counts.iter().map(|entry| (entry, true)).chain(results.earlier.iter().map(|entry| (entry, false)));
        for (((label, answer), n), last_run) in all {
            if parts.contains(label) {
                continue;
            }
            let answer = results.answer(*answer);
            self.out.requests += n;
            *self.out.codes.entry(shown(&answer.code)).or_default() += n;
            if last_run {
                let failed = if answer.fate.failed() { *n } else { 0 };
                self.out.failures += failed;
                let of_label = self.out.labels.entry(results.labels.text(*label).to_owned()).or_default();
                of_label.0 += failed;
                of_label.1 += n;
            }
        }
        self.out.unread = results.unread;
        self.out.runs = results.runs.count;
        if let Some(run) = results.runs.last.as_ref().filter(|_| results.has.time) {
            self.out.seconds = Some(run.end.saturating_sub(run.start) as f64 / 1_000.0);
        }
        if self.out.requests == 0 && results.transactions > 0 {
            let rows = many(results.transactions, "transaction", "transactions");
            self.note(
                "transactions",
                Level::Warning,
                format!("only sums of {rows}, and none of their requests: save the results of the samplers too"),
            );
        }
        let (failures, all) = self.out.labels.values().fold((0, 0), |(bad, all), (b, a)| (bad + b, all + a));
        if failures == all && all >= 10 {
            let message =
                "there are only failures: where the listener saves errors only, shares are of the errors".to_owned();
            self.note("only_errors", Level::Note, message);
        }
        if !results.has.code && self.out.requests > 0 {
            self.note(
                "columns",
                Level::Warning,
                "no responseCode was saved: a failure can only be told by success, and not what it was".to_owned(),
            );
        }
    }

    fn note(&mut self, rule: &'static str, level: Level, message: String) {
        self.out.findings.push(Finding { rule, level, file: self.file.to_owned(), line: 1, message });
    }

    fn mixed_runs(&mut self, parts: &HashSet<u32>) {
        let results = self.results;
        let runs = &results.runs;
        if let (Some(before), Some(last)) = (&runs.before, &runs.last) {
            let apart = last.start.saturating_sub(before.end) / 1_000;
            let later = if apart > 0 { format!(", {apart} s later,") } else { String::new() };
            let evidence = format!(
                "{} runs in one file: lines {} to {} and{later} lines {} to {}. The last one is explained here",
                count(runs.count as u64),
                before.first_line,
                before.last_line,
                last.first_line,
                last.last_line
            );
            self.say(Name::MixedRuns, Certainty::Certain, 0, evidence);
        }
        let rows = runs.rows;
        if results.twins >= 5 && results.twins * 50 >= rows {
            let evidence = format!(
                "{} of {} rows say again what another says, to the millisecond of the same thread: two listeners write to one file. Each request is counted once",
                count(results.twins),
                count(rows)
            );
            self.say(Name::MixedRuns, Certainty::Certain, 0, evidence);
        }
        if !parts.is_empty() {
            let labels = many(parts.len() as u64, "label is", "labels are");
            self.note(
                "parts",
                Level::Note,
                format!("{labels} of parts of other requests (redirects, embedded resources), and not counted"),
            );
        }
    }

    fn say(&mut self, name: Name, certainty: Certainty, rows: u64, evidence: String) {
        let found = self.found.entry(name).or_insert(Found { certainty, rows: 0, follows: None, evidence: Vec::new() });
        found.certainty = found.certainty.max(certainty);
        found.rows += rows;
        if !evidence.is_empty() && found.evidence.len() < 4 {
            found.evidence.push(evidence);
        }
    }

    /// Takes rows for this cause, those that are not yet explained. How many.
    fn take(&mut self, name: Name, of: impl Fn(usize, &Sample) -> bool) -> u64 {
        let mut taken = 0;
        for (i, (row, because)) in self.rows.iter().zip(&mut self.because).enumerate() {
            if because.is_none() && of(i, row) {
                *because = Some(name);
                taken += 1;
            }
        }
        taken
    }

    /// What single requests tell by themselves.
    fn signs(&mut self) {
        let results = self.results;
        let mut shapes: Shapes = HashMap::new();
        let mut seen = HashSet::new();
        for row in &self.rows {
            let operation = self.operation(row.label);
            if row.url > 0 && seen.insert((operation, row.url)) {
                shapes.entry(operation).or_default().take(results.urls.text(row.url));
            }
        }
        let served = self.served(&shapes);
        let mut known: HashMap<(u32, u32, u32), Option<(Name, Certainty)>> = HashMap::new();
        let mut tally: BTreeMap<(Name, Certainty, u32), (u64, u32, u32)> = BTreeMap::new();
        let operations = &self.operations;
        for (row, because) in self.rows.iter().zip(&mut self.because) {
            let answer = results.answer(row.answer);
            if !answer.fate.failed() {
                continue;
            }
            let sign = *known.entry((row.answer, row.label, row.url)).or_insert_with(|| {
                let operation = operations.get(&row.label).unwrap_or(&row.label);
                let shape: Option<&Shape> = shapes.get(operation);
                let served = served.get(operation).map_or(&[][..], Vec::as_slice);
                signs::of(answer, results.labels.text(row.label), results.urls.text(row.url), shape, served)
            });
            if let Some((name, certainty)) = sign {
                *because = Some(name);
                let seen = tally.entry((name, certainty, code_of(results, row))).or_insert((0, row.answer, row.url));
                seen.0 += 1;
            }
        }
        for ((name, certainty, _), (n, answer, url)) in tally {
            let evidence = self.sign_evidence(n, answer, url);
            self.say(name, certainty, n, evidence);
        }
        self.embedded();
        self.gone_logins();
    }

    /// What the addresses of each operation show that went well.
    fn served(&self, shapes: &Shapes) -> HashMap<u32, Vec<Name>> {
        let mut served: HashMap<u32, Vec<Name>> = HashMap::new();
        let mut seen = HashSet::new();
        for row in self.rows.iter().filter(|row| !self.failed(row)) {
            let operation = self.operation(row.label);
            if seen.insert((operation, row.url)) {
                let name = signs::of_address(self.results.urls.text(row.url), shapes.get(&operation));
                served.entry(operation).or_default().extend(name);
            }
        }
        served
    }

    /// A page is well, and what it embeds is not.
    fn embedded(&mut self) {
        let resource =
            self.results.answers.iter().find(|a| a.fate == Fate::Own && a.message.contains("mbedded resource"));
        if let Some(answer) = resource {
            let message = format!("the pages were served; what they embed was not: {}", shown(&answer.message));
            self.note("embedded", Level::Warning, message);
        }
    }

    /// Refused logins of a client that also logs in are no wrong secret.
    fn gone_logins(&mut self) {
        let logged_in = self.rows.iter().any(|row| {
            !self.failed(row) && signs::is_login(self.results.labels.text(row.label), self.results.urls.text(row.url))
        });
        if logged_in && self.found.remove(&Name::LoginRefused).is_some() {
            for because in &mut self.because {
                if *because == Some(Name::LoginRefused) {
                    *because = None;
                }
            }
        }
    }

    fn sign_evidence(&self, n: u64, answer: u32, url: u32) -> String {
        let answer = self.results.answer(answer);
        let requests = many(n, "request", "requests");
        let of = format!("{requests} of {}", count(self.rows.len() as u64));
        let mut text = format!("{of}: {} {}", shown(&answer.code), shown(&answer.message));
        if !answer.failure.is_empty() {
            text.push_str(&format!(" ({})", shown(&answer.failure)));
        }
        if url > 0 {
            text.push_str(&format!(", as at {}", shown(self.results.urls.text(url))));
        }
        text
    }

    /// Groups what is left by its code, and asks what each goes with.
    fn rest(&mut self) {
        let mut groups: BTreeMap<u32, u64> = BTreeMap::new();
        for (row, because) in self.rows.iter().zip(&self.because) {
            if because.is_none() && self.failed(row) {
                *groups.entry(code_of(self.results, row)).or_default() += 1;
            }
        }
        let groups: Vec<u32> = groups.into_iter().filter(|(_, n)| *n >= NEVER).map(|(code, _)| code).collect();
        // Timeouts are told by themselves, and still go with the load or do not.
        let mut asked: Vec<(u32, Vec<Answered>)> = Vec::new();
        let whole = paths(self.results);
        for code in groups {
            self.always_failing(code, &whole);
            let group = self.group(code, groups::ASKED);
            let answers = if group.failures() >= FEW && group.well() >= FEW { self.ask(&group) } else { Vec::new() };
            asked.push((code, answers));
        }
        let raw: Vec<f64> = asked.iter().flat_map(|(_, answers)| answers.iter().map(|answer| answer.p)).collect();
        let mut corrected = hypothesis::holm(&raw).into_iter();
        for (code, answers) in asked {
            let answers: Vec<(Answered, f64)> =
                answers.into_iter().map(|a| (a, corrected.next().unwrap_or(1.0))).collect();
            let group = self.group(code, groups::ASKED);
            if group.failures() >= FEW {
                self.explain(code, &group, &answers);
                self.rule_out(&group, &answers);
            }
        }
    }

    /// Whether a row failed with this code and is not explained.
    fn is_left(&self, code: u32, i: usize, row: &Sample) -> bool {
        self.because.get(i).is_some_and(Option::is_none) && self.failed(row) && code_of(self.results, row) == code
    }

    /// The rows that are left of this code, beside those of their operations that went well.
    fn group(&self, code: u32, most: usize) -> Group<'a> {
        let failing = self.rows.iter().enumerate().filter(|(i, row)| self.is_left(code, *i, row));
        let operations: HashSet<u32> = failing.map(|(_, row)| self.operation(row.label)).collect();
        Group::new(&self.rows, &self.in_flight, most, |i, row| {
            if self.is_left(code, i, row) {
                Some(true)
            } else {
                (!self.failed(row) && operations.contains(&self.operation(row.label))).then_some(false)
            }
        })
    }

    /// Addresses that never succeed, where others do.
    fn always_failing(&mut self, code: u32, whole: &HashMap<u32, u32>) {
        let results = self.results;
        let group = self.group(code, usize::MAX);
        // Who is not let in is not told what there is.
        if group.well() == 0 || results.answer(code).fate == Fate::Status(401) {
            return;
        }
        // Without addresses, labels may have the ids.
        let (address, texts): (fn(&Sample) -> u32, _) =
            if results.has.url { (|row| row.url, &results.urls) } else { (|row| row.label, &results.labels) };
        // Of several hosts one may be it.
        let address = |row: &Sample| whole.get(&address(row)).copied().unwrap_or_else(|| address(row));
        let mut table = group.by(address);
        table.retain(|label, _| results.has.url || holds_id(texts.text(*label)));
        let base = group.failures() as f64 / group.rows.len() as f64;
        let never: BTreeMap<u32, u64> = table
            .iter()
            .filter(|(address, (bad, well))| **address > 0 && *well == 0 && *bad >= NEVER)
            // Of a request that was never sent there is no address.
            .filter(|(address, _)| !results.has.url || texts.text(**address).contains('/'))
            .map(|(address, (bad, _))| (*address, *bad))
            .collect();
        let failures: u64 = never.values().sum();
        let outside = (group.failures() as u64).saturating_sub(failures) as f64
            / (group.rows.len() as u64).saturating_sub(failures).max(1) as f64;
        // How many would fail always by chance, at the share at which the others fail.
        let fair = |n: u64| outside.max(base / 20.0).powf(n as f64);
        let by_chance: f64 = never.values().map(|n| fair(*n) * table.len() as f64).sum();
        let p = by_chance.min(1.0);
        if never.is_empty() || never.len() * 2 >= table.len() || p > ALPHA / 10.0 {
            return;
        }
        let status = results.answer(code).fate;
        let name = match status {
            Fate::Status(403 | 404 | 410) => Name::FeedUnknownId,
            _ => Name::BrokenScript,
        };
        let example = never.keys().next().map_or("", |address| texts.text(*address));
        let others = (table.len() - never.len()) as u64;
        let evidence = format!(
            "{} of {} addresses failed every time they were asked for, {} in all; the other {} failed in {} ({}). The first: {}",
            never.len(),
            table.len(),
            many(failures, "time", "times"),
            count(others),
            percent(outside),
            p_value(p),
            shown(example)
        );
        if one_thread_each(&group, address, &never) {
            let thread = "each was asked for by one thread alone, to which nothing else was served: it may be that thread's login";
            self.say(name, Certainty::Possible, failures, format!("{evidence}; {thread}"));
            return;
        }
        let taken = self.take(name, |_, row| never.contains_key(&address(row)) && code_of(results, row) == code);
        let certainty = if failures >= 20 && outside < 0.05 { Certainty::Certain } else { Certainty::Likely };
        self.say(name, certainty, taken, evidence);
    }

    fn ask(&self, group: &Group<'_>) -> Vec<Answered> {
        let mut questions = vec![
            Question::Address,
            Question::Thread,
            Question::Clock,
            Question::Load,
            Question::Threads,
            Question::Connection,
            Question::Before,
            Question::Nth,
            Question::Pause,
            Question::Host,
            Question::Same,
            Question::Burst,
            Question::First,
            Question::Fresh,
            Question::Form,
            Question::Window(1_000),
            Question::Window(60_000),
        ];
        questions.extend((0..self.results.extra_names.len()).map(Question::Extra));
        questions.into_iter().filter_map(|question| group.ask(question, self.results)).collect()
    }

    fn explain(&mut self, code: u32, group: &Group<'_>, answers: &[(Answered, f64)]) {
        let explanation = explain::explain(self.results, code, group, answers, self.only_errors);
        let Some((name, certainty, evidence)) = explanation.main else { return };
        let results = self.results;
        let counted = |evidence: String| match group.step {
            1 => evidence,
            step => format!("{evidence}; of every {step} such requests one was looked at"),
        };
        let taken = if certainty > Certainty::Possible {
            self.take(name, |_, row| results.answer(row.answer).fate.failed() && code_of(results, row) == code)
        } else {
            self.rows.iter().enumerate().filter(|(i, row)| self.is_left(code, *i, row)).count() as u64
        };
        self.say(name, certainty, taken, counted(evidence));
        if let Some((why, certainty, evidence)) = explanation.because {
            self.say(why, certainty, taken, counted(evidence));
            if let Some(found) = self.found.get_mut(&name) {
                found.follows = Some(why);
            }
        }
        for (name, evidence) in explanation.beside {
            self.say(name, Certainty::Possible, 0, evidence);
        }
    }

    /// What the answers speak against.
    fn rule_out(&mut self, group: &Group<'_>, answers: &[(Answered, f64)]) {
        if group.failures() < 10 {
            return;
        }
        let asked = |question: Question| answers.iter().find(|(a, _)| a.question == question).map(|(a, _)| a);
        let mut out = Vec::new();
        if asked(Question::Address).is_some() || (self.results.has.url && group.by(|row| row.url).len() == 1) {
            let table = group.by(|row| row.url);
            let failing = table.values().filter(|(bad, _)| *bad > 0).count();
            let both = table.values().filter(|(bad, well)| *bad > 0 && *well > 0).count();
            if both == failing {
                let why = match both {
                    1 => "the address that failed also succeeded".to_owned(),
                    _ => format!("each of the {both} addresses that failed also succeeded"),
                };
                out.extend([(Name::BrokenScript, why.clone()), (Name::FeedUnknownId, why)]);
            }
        }
        let nothing =
            |a: &Answered| format!("the failing does not go with it ({}, effect {:.2})", p_value(a.p), a.effect);
        if let Some(a) = asked(Question::Load).filter(|a| a.p > 0.1 && (0.4..0.6).contains(&a.effect)) {
            out.push((Name::Overload, nothing(a)));
        }
        if let Some(a) = asked(Question::Clock).filter(|a| a.p > 0.1) {
            out.extend([
                (Name::TimeWindow, nothing(a)),
                (Name::ColdStart, nothing(a)),
                (Name::ServiceDown, nothing(a)),
            ]);
        }
        if let Some(a) = asked(Question::Thread).filter(|a| a.p > 0.1) {
            out.push((Name::TokenExpired, nothing(a)));
        }
        if let Some(a) = asked(Question::Connection).filter(|a| a.p > 0.1) {
            out.extend([(Name::ConnectionReuse, nothing(a)), (Name::ConnectionChurn, nothing(a))]);
        }
        for (name, why) in out {
            if !self.out.ruled_out.iter().any(|ruled| ruled.name == name) {
                self.out.ruled_out.push(RuledOut { name, why });
            }
        }
    }

    /// A placeholder, or a missing token, right after a step that failed is a consequence of that.
    fn consequences(&mut self) {
        for name in [Name::FeedPlaceholder, Name::TokenMissing, Name::ClientMade, Name::SessionConflict] {
            let Some(found) = self.found.get(&name) else { continue };
            let of: Vec<&Sample> =
                self.rows.iter().zip(&self.because).filter(|(_, b)| **b == Some(name)).map(|(row, _)| *row).collect();
            let mut after: BTreeMap<u32, u64> = BTreeMap::new();
            for row in of.iter().filter(|row| row.before > 0 && self.results.answer(row.before).fate.failed()) {
                *after.entry(self.results.answer(row.before).code_number).or_default() += 1;
            }
            let (all, followed) = (of.len() as u64, after.values().sum::<u64>());
            let Some(code) = after.into_iter().max_by_key(|(_, n)| *n).map(|(code, _)| code) else { continue };
            let cause = self.rows.iter().zip(&self.because).find(|(row, because)| {
                because.is_some_and(|because| because != name) && code_of(self.results, row) == code
            });
            let Some(first) = cause.and_then(|(_, because)| *because) else { continue };
            if followed * 10 < all * 9 || !self.found.contains_key(&first) || found.rows == 0 {
                continue;
            }
            let code = shown(&self.results.answer(code).code);
            if let Some(found) = self.found.get_mut(&name) {
                found.follows = Some(first);
                found.evidence.push(format!(
                    "{} of {} come right after a step of the same thread that failed with {code}: a consequence of {}. Stop the thread there (on_sample_error)",
                    count(followed), count(all), first.name()
                ));
            }
        }
    }

    fn finish(mut self) -> Diagnosis {
        let failed = self.rows.iter().filter(|row| self.failed(row)).count() as u64;
        let in_sample = self.rows.len() as u64;
        for (name, found) in &self.found {
            let share = (*name != Name::MixedRuns && failed > 0).then(|| found.rows as f64 / failed as f64);
            let mut cause = Cause::new(*name, found.certainty, share, "");
            cause.evidence.clone_from(&found.evidence);
            cause.follows = found.follows;
            if *name != Name::MixedRuns && found.rows > 0 {
                let (failures, requests) =
                    (many(failed, "failure", "failures"), many(in_sample, "request", "requests"));
                let sample = if self.results.complete() { "" } else { ", a sample spread over the whole file" };
                cause.evidence.insert(0, format!("{} of {failures}, of {requests}{sample}", count(found.rows)));
            }
            self.out.causes.push(cause);
        }
        let named: HashSet<Name> =
            self.found.iter().filter(|(_, f)| f.certainty > Certainty::Possible).map(|(n, _)| *n).collect();
        self.out.ruled_out.retain(|ruled| !named.contains(&ruled.name));
        self.left_over();
        self.missing_columns();
        self.out
    }

    /// What is not explained.
    fn left_over(&mut self) {
        let mut left: BTreeMap<String, u64> = BTreeMap::new();
        for (row, because) in self.rows.iter().zip(&self.because) {
            if because.is_none() && self.failed(row) {
                *left.entry(shown(&self.results.answer(row.answer).code)).or_default() += 1;
            }
        }
        for (code, n) in left {
            let code = if code.is_empty() { "no code" } else { &code };
            let few = if n < FEW as u64 { "too few to follow a pattern" } else { "no pattern beyond chance" };
            self.note(
                "unexplained",
                Level::Warning,
                format!("{} with {code}, not explained: {few}", many(n, "failure", "failures")),
            );
        }
    }

    fn missing_columns(&mut self) {
        if self.out.failures == 0 {
            return;
        }
        let has = self.results.has;
        for (there, column, question) in [
            (has.url, "URL", "whether the failing goes with the script that is asked for"),
            (has.thread, "threadName", "whether it goes with the thread, its token and its row of the feed"),
            (has.connect, "Connect", "whether it goes with new or kept connections"),
            (has.time, "timeStamp", "whether it goes with the time, the order or the load"),
            (has.message, "responseMessage", "what the tool itself said"),
        ] {
            if !there {
                self.out.not_tested.push(format!("{question}: no column {column}"));
            }
        }
    }
}

/// Of each address the first one with the same path and query, at whatever host.
fn paths(results: &Results) -> HashMap<u32, u32> {
    let mut first: HashMap<&str, u32> = HashMap::new();
    let urls = if results.has.url { results.urls.len() as u32 } else { 0 };
    (1..urls).map(|url| (url, *first.entry(signs::behind_host(results.urls.text(url))).or_insert(url))).collect()
}

/// Whether each of these addresses is one thread's own, and that never asked well: then it may be the thread.
fn one_thread_each(group: &Group<'_>, address: impl Fn(&Sample) -> u32, never: &BTreeMap<u32, u64>) -> bool {
    let threads = group.by(|row| row.thread);
    let mut asked_by: HashMap<u32, u32> = HashMap::new();
    group.rows.iter().filter(|row| row.thread > 0 && never.contains_key(&address(row))).all(|row| {
        let own = *asked_by.entry(address(row)).or_insert(row.thread) == row.thread;
        own && threads.get(&row.thread).is_some_and(|(bad, well)| *bad >= NEVER && *well == 0)
    }) && !asked_by.is_empty()
}

/// Whether a file in which nothing went well may be one of errors only: they are of several kinds, or not of all threads.
fn only_errors(results: &Results, rows: &[&Sample]) -> bool {
    if rows.iter().any(|row| !results.answer(row.answer).fate.failed()) {
        return false;
    }
    // What a plan does as it is stopped, or once in a while, is no kind of its own.
    let mut codes: HashMap<u32, usize> = HashMap::new();
    rows.iter().for_each(|row| *codes.entry(code_of(results, row)).or_default() += 1);
    codes.retain(|_, count| *count * 20 >= rows.len());
    let threads: HashSet<u32> = rows.iter().map(|row| row.thread).filter(|thread| *thread > 0).collect();
    let most = rows.iter().map(|row| row.threads).filter(|threads| *threads != NONE).max().unwrap_or_default();
    codes.len() > 1 || (!threads.is_empty() && threads.len() * 2 < most as usize)
}

/// Rows with the same code fail alike: the first answer with it.
fn code_of(results: &Results, row: &Sample) -> u32 {
    results.answer(row.answer).code_number
}
