//! What the answers to all questions come to, for one kind of failure.

use crate::cause::{Certainty, Name};
use crate::diagnose::ALPHA;
use crate::groups::{Answered, Group, Question, Span};
use crate::hypothesis;
use crate::layout::{self, Told};
use crate::sample::{Answer, Fate, NONE, Results, Sample};
use crate::signs;
use crate::text::{count, many, p_value, percent, shown};

/// An explanation: the cause, and others that fit as well.
#[derive(Debug, Default)]
pub(crate) struct Explanation {
    pub(crate) main: Option<(Name, Certainty, String)>,
    /// What the main cause follows from.
    pub(crate) because: Option<(Name, Certainty, String)>,
    pub(crate) beside: Vec<(Name, String)>,
}

impl Explanation {
    fn of(name: Name, certainty: Certainty, evidence: String) -> Self {
        Self { main: Some((name, certainty, evidence)), because: None, beside: Vec::new() }
    }

    fn or(mut self, name: Name, evidence: impl Into<String>) -> Self {
        self.beside.push((name, evidence.into()));
        self
    }
}

/// No answer came in time.
const TIMED_OUT: [&str; 3] = ["timed out", "timeout", "the time was over"];
/// A connection ended before there was a whole answer.
const BROKEN: [&str; 7] = [
    "nohttpresponse",
    "failed to respond",
    "connection reset",
    "broken pipe",
    "unexpected end of file",
    "premature end",
    "closed before",
];

/// No server that is asked answers in so many milliseconds each time.
const AT_ONCE: u32 = 5;
/// As many logins under way are many at once.
const CROWD: u32 = 10;

/// A pattern, and what it comes to where it is seen.
type Pattern<'a> = fn(&View<'a>) -> Option<Explanation>;

/// Reads a row's value of a column.
type Value<'a> = Box<dyn Fn(&Sample) -> String + 'a>;

struct View<'a> {
    results: &'a Results,
    answer: &'a Answer,
    group: &'a Group<'a>,
    answers: &'a [(Answered, f64)],
}

/// Explains one kind of failure, the surest pattern first. Where there may be `only_errors` in the file nothing is sure of
/// what never went well.
pub(crate) fn explain(
    results: &Results,
    code: u32,
    group: &Group<'_>,
    answers: &[(Answered, f64)],
    only_errors: bool,
) -> Explanation {
    let view = View { results, answer: results.answer(code), group, answers };
    if group.well() < 5 && group.failures() > group.well() * 20 {
        let mut explanation = view.all_failed();
        if let Some((_, certainty, _)) = explanation.main.as_mut().filter(|_| only_errors) {
            *certainty = Certainty::Possible;
        }
        return explanation;
    }
    let patterns: [Pattern<'_>; 17] = [
        View::machine,
        View::logins,
        View::form,
        View::node,
        View::one_of_a_burst,
        View::window,
        View::after_a_failure,
        View::expired,
        View::one_object,
        View::after_a_pause,
        View::load,
        View::first_of_thread,
        View::first_to_address,
        View::connection,
        View::clock,
        View::nth,
        View::thread,
    ];
    let found = patterns.iter().find_map(|pattern| pattern(&view));
    view.named_by_code(found.or_else(|| view.by_itself()).unwrap_or_default())
}

impl View<'_> {
    /// The answer to a question that is beyond chance.
    fn yes(&self, question: Question) -> Option<(f64, f64)> {
        let (answered, p) = self.answers.iter().find(|(a, _)| a.question == question)?;
        (*p < ALPHA).then_some((*p, answered.effect))
    }

    fn is_only(&self, question: Question, others: &[Question]) -> bool {
        self.group.is_only(question, others, self.results)
    }

    fn effect(&self, question: Question) -> Option<f64> {
        self.answers.iter().find(|(a, _)| a.question == question).map(|(a, _)| a.effect)
    }

    fn status(&self) -> Option<u16> {
        match self.answer.fate {
            Fate::Status(status) => Some(status),
            _ => None,
        }
    }

    fn text(&self) -> String {
        format!("{} {} {}", self.answer.code, self.answer.message, self.answer.failure).to_lowercase()
    }

    fn code(&self) -> String {
        shown(&self.answer.code)
    }

    fn says(&self, words: &[&str]) -> bool {
        let text = self.text();
        words.iter().any(|word| text.contains(word))
    }

    /// Whether most of what failed were logins.
    fn is_login(&self) -> bool {
        let (labels, urls) = (&self.results.labels, &self.results.urls);
        let failed = self.group.rows.iter().zip(&self.group.failed).filter(|(_, failed)| **failed);
        let logins = failed.filter(|(row, _)| signs::is_login(labels.text(row.label), urls.text(row.url)));
        logins.count() * 2 > self.group.failures()
    }

    /// Some codes tell by themselves what it is; what it goes with is why.
    fn named_by_code(&self, mut explanation: Explanation) -> Explanation {
        let itself = match self.status() {
            Some(502 | 504) => Name::GatewayFailure,
            None if self.says(&TIMED_OUT) => Name::Timeout,
            _ => return explanation,
        };
        let n = self.group.failures() as u64;
        let all = self.group.rows.len() as u64;
        let said = format!("{} of {} ended with {} {}", count(n), count(all), self.code(), shown(&self.answer.message));
        let other = explanation.main.replace((itself, Certainty::Likely, said));
        explanation.because = other.filter(|(name, certainty, _)| {
            *certainty > Certainty::Possible
                && matches!(
                    name,
                    Name::Overload | Name::ServiceDown | Name::TimeWindow | Name::ColdStart | Name::NodeFault
                )
        });
        explanation
    }

    /// Nothing of the kind went well.
    fn all_failed(&self) -> Explanation {
        if self.answer.fate == Fate::Unknown {
            return Explanation::default();
        }
        let all = self.group.failures() as u64;
        let never = format!(
            "all {} ended with {}: not one went well, from the first on",
            many(all, "request", "requests"),
            self.code()
        );
        let name = match self.status() {
            Some(401) => Name::TokenMissing,
            Some(404 | 410) => Name::WrongAddress,
            Some(400..=499) => Name::AllRefused,
            Some(502 | 504) => Name::GatewayFailure,
            Some(_) => Name::ServiceDown,
            None if self.says(&["unknownhost", "noroutetohost", "no route"]) => Name::WrongAddress,
            None if self.says(&["connection refused", "connectexception"]) => {
                return Explanation::of(Name::ServiceDown, Certainty::Likely, never).or(
                    Name::WrongAddress,
                    "a connection that is always refused may be asked for at the wrong address",
                );
            }
            None if self.says(&["sslhandshake", "sslexception", "certificate"]) => {
                return Explanation::of(Name::ClientMade, Certainty::Likely, never)
                    .or(Name::WrongScheme, "TLS failed each time");
            }
            None if self.says(&TIMED_OUT) => Name::Timeout,
            None if self.says(&["bindexception", "cannot assign requested address"]) => Name::ClientMade,
            None if self.says(&BROKEN) => return Explanation::of(Name::ServiceDown, Certainty::Possible, never),
            None if self.never_left() => Name::ClientMade,
            None => return Explanation::of(Name::ClientMade, Certainty::Possible, never),
        };
        Explanation::of(name, Certainty::Likely, never)
    }

    /// Whether each ended as soon as it began and without a connection, and not of what a server said.
    fn never_left(&self) -> bool {
        let at_once = |row: &&Sample| row.elapsed <= AT_ONCE && row.connect == 0;
        let timed = self.results.has.elapsed && self.group.well() == 0 && self.group.rows.iter().all(at_once);
        timed && !self.says(&["protocol", "chunk", "parse"])
    }

    /// The machine that makes the load ran out of ports, or the test was ended.
    fn machine(&self) -> Option<Explanation> {
        let n = self.group.failures() as u64;
        let last = self.group.failed.len() - self.group.failures().min(self.group.failed.len());
        let at_end = || self.group.failed.iter().skip(last.saturating_sub(5)).filter(|failed| **failed).count() as u64;
        if self.status().is_none() && self.says(&["socket closed", "interrupted"]) && at_end() * 10 >= n * 9 {
            let evidence = format!("{} of {} are the last of the run: its end cut them off", count(at_end()), count(n));
            return Some(Explanation::of(Name::ClientMade, Certainty::Likely, evidence));
        }
        if self.status().is_some()
            || !self.says(&["bindexception", "cannot assign requested address", "address already in use"])
        {
            return None;
        }
        let evidence = format!(
            "{} ended with {} {}, while others went well: no port was free for another connection",
            many(n, "request", "requests"),
            self.code(),
            shown(&self.answer.message)
        );
        Some(
            Explanation::of(Name::GeneratorLimited, Certainty::Likely, evidence)
                .or(Name::ConnectionChurn, "a new connection for each request uses up the ports"),
        )
    }

    /// Genesys refuses too many logins with 400: some of them, and not those with a wrong secret.
    fn logins(&self) -> Option<Explanation> {
        if self.status() != Some(400) || !self.is_login() || self.group.well() < 3 {
            return None;
        }
        let (bad, well) = (self.group.failures() as u64, self.group.well() as u64);
        let of = format!("{} of {} ended with 400", count(bad), many(bad + well, "login", "logins"));
        if self.says(&["invalid_grant", "invalid_client", "unauthorized_client", "authentication failed"]) {
            let evidence = format!("{of}, which says that it was these logins: {}", shown(&self.answer.message));
            return Some(Explanation::of(Name::LoginRefused, Certainty::Possible, evidence));
        }
        let threads = self.group.by(|row| row.thread);
        let always: u64 = threads.values().filter(|(_, well)| *well == 0).map(|(bad, _)| bad).sum();
        // Threads may have a login of their own that is no good.
        if always * 10 >= bad * 9 && self.yes(Question::Thread).is_some() {
            return None;
        }
        let evidence = format!(
            "{of}, which is how too many logins at once are refused; the other {} went well, so the client is known",
            count(well)
        );
        let asked = [Question::Window(1_000), Question::Window(60_000), Question::Burst, Question::Load];
        let goes_with = asked.into_iter().any(|question| self.yes(question).is_some_and(|(_, effect)| effect > 0.62));
        let at_once = goes_with || self.in_a_crowd();
        let certainty = if at_once { Certainty::Likely } else { Certainty::Possible };
        Some(Explanation::of(Name::LoginThrottled, certainty, evidence))
    }

    /// Whether most of these failed beside many others like them: then there are none to compare with.
    fn in_a_crowd(&self) -> bool {
        let timed = !self.group.in_flight.is_empty();
        let others = if timed { crate::groups::in_flight(&self.group.rows) } else { Vec::new() };
        let crowd = others.iter().zip(&self.group.failed).filter(|(n, failed)| **failed && **n >= CROWD);
        crowd.count() * 2 >= self.group.failures()
    }

    /// A host, a column or a header of which one value fails.
    fn node(&self) -> Option<Explanation> {
        let extras = (0..self.results.extra_names.len()).map(Question::Extra);
        std::iter::once(Question::Host).chain(extras).find_map(|question| self.one_value(question))
    }

    fn one_value(&self, question: Question) -> Option<Explanation> {
        let (p, share) = self.yes(question).filter(|(_, share)| *share >= 0.8)?;
        let (column, value): (&str, Value<'_>) = match question {
            Question::Extra(i) => {
                let column = self.results.extra_names.get(i)?;
                let texts = self.results.extras.get(i)?;
                (
                    column,
                    Box::new(move |row| {
                        texts.text(u32::from(row.extras.get(i).copied().unwrap_or_default())).to_owned()
                    }),
                )
            }
            _ => ("host", Box::new(|row| crate::groups::host(self.results.urls.text(row.url)).to_owned())),
        };
        let table = self.group.by(|row| value(row));
        let (worst, (bad, well)) = table.iter().max_by(|a, b| rate(a.1).total_cmp(&rate(b.1)))?;
        let told = layout::told(column)?;
        // What is not there, or was never filled in, comes of the failure; and who refuses for all nodes serves nothing.
        if worst.is_empty() || signs::is_placeholder(worst) || (told == Told::Speaker && *well == 0) {
            return None;
        }
        let evidence = format!(
            "with {column} {}: {} of {} failed; {} of the failures are with those that fail most, of {} ({})",
            shown(worst),
            count(*bad),
            count(bad + well),
            percent(share),
            many(table.len() as u64, "value", "values"),
            p_value(p)
        );
        if told == Told::Generator {
            // The machine that made the load. Refused by the service, or at its own limit?
            let sure = if self.status().is_none() { Certainty::Likely } else { Certainty::Possible };
            return Some(
                Explanation::of(Name::GeneratorLimited, sure, evidence)
                    .or(Name::AddressLimit, "the service may refuse what comes from the address of one machine"),
            );
        }
        let name = if told == Told::Script { Name::BrokenScript } else { Name::NodeFault };
        Some(Explanation::of(name, Certainty::Likely, evidence))
    }

    /// Addresses with odd characters fail and others do not.
    fn form(&self) -> Option<Explanation> {
        let (p, difference) = self.yes(Question::Form)?;
        let odd = |row: &Sample| crate::groups::has_odd_form(self.results.urls.text(row.url));
        let of = self.group.by(|row| odd(row)).get(&true).copied().unwrap_or_default();
        if difference < 0.8 || of.0 * 10 < self.group.failures() as u64 * 9 {
            return None;
        }
        let example = self.group.rows.iter().find(|row| odd(row)).map_or("", |row| self.results.urls.text(row.url));
        let evidence = format!(
            "{} of {} requests failed whose address has encoded or special characters, and {} of the others ({}). The first: {}",
            count(of.0),
            count(of.0 + of.1),
            count(self.group.failures() as u64 - of.0),
            p_value(p),
            shown(example)
        );
        Some(Explanation::of(Name::FeedUnencodedId, Certainty::Likely, evidence))
    }

    /// The first request of each thread fails, whenever it begins.
    fn first_of_thread(&self) -> Option<Explanation> {
        let (p, difference) = self.yes(Question::First)?;
        let of = self.group.by(|row| row.nth == 0).get(&true).copied().unwrap_or_default();
        let few = difference < 0.5 || of.0 * 10 < self.group.failures() as u64 * 8;
        if few || self.is_only(Question::First, &[Question::Connection]) {
            return None;
        }
        let evidence = format!(
            "{} of {} failures are the first request of their thread, and {} of {} first requests failed ({})",
            count(of.0),
            count(self.group.failures() as u64),
            count(of.0),
            count(of.0 + of.1),
            p_value(p)
        );
        Some(Explanation::of(Name::ColdStart, Certainty::Likely, evidence))
    }

    /// What was never asked for before fails the first time.
    fn first_to_address(&self) -> Option<Explanation> {
        let (p, difference) = self.yes(Question::Fresh)?;
        let fresh = self.group.first_to_address();
        let bad = fresh.iter().zip(&self.group.failed).filter(|(fresh, failed)| **fresh && **failed).count();
        if difference < 0.5 || bad * 10 < self.group.failures() * 8 {
            return None;
        }
        let evidence = format!(
            "{} of {} failures are the first request to their address, of {} addresses ({})",
            count(bad as u64),
            count(self.group.failures() as u64),
            fresh.iter().filter(|fresh| **fresh).count(),
            p_value(p)
        );
        Some(Explanation::of(Name::ColdStart, Certainty::Likely, evidence))
    }

    /// Of each burst one succeeds.
    fn one_of_a_burst(&self) -> Option<Explanation> {
        let bursts = self.group.bursts()?;
        let mut well: std::collections::BTreeMap<u32, (u64, u64)> = std::collections::BTreeMap::new();
        for (burst, failed) in bursts.iter().zip(&self.group.failed) {
            let (bad, good) = well.entry(*burst).or_default();
            *(if *failed { bad } else { good }) += 1;
        }
        let several: Vec<_> = well.values().filter(|(bad, good)| bad + good > 1).collect();
        let one = several.iter().filter(|(bad, good)| *good == 1 && *bad > 0).count();
        if several.len() < 5 || one * 10 < several.len() * 9 {
            return None;
        }
        let evidence = format!(
            "{one} of {} bursts of requests had exactly one success, and the others at the same time got {}: they use one thing, and the first takes it",
            several.len(),
            self.code()
        );
        let name = if self.status() == Some(401) { Name::SessionConflict } else { Name::Contention };
        Some(
            Explanation::of(name, Certainty::Likely, evidence)
                .or(Name::SessionConflict, "one session or one code for all threads looks so too"),
        )
    }

    /// In each second, or minute, so many pass and the rest fails.
    fn window(&self) -> Option<Explanation> {
        // So many at once, which is as many in a second when all of them start together.
        if self.yes(Question::Load).is_some_and(|(_, effect)| effect > 0.95) {
            return None;
        }
        [(1_000, "second"), (60_000, "minute")].into_iter().find_map(|(length, word)| self.window_of(length, word))
    }

    fn window_of(&self, length: i64, word: &str) -> Option<Explanation> {
        let (p, effect) = self.yes(Question::Window(length))?;
        let windows = self.group.windows(length)?;
        let passed = self.group.by(|row| windows.number(row));
        let mut full: Vec<u64> = passed.values().filter(|(bad, _)| *bad > 0).map(|(_, good)| *good).collect();
        full.sort_unstable();
        let (middle, most) = (*full.get(full.len() / 2)?, *full.last()?);
        let alike = full.iter().filter(|n| n.abs_diff(middle) * 10 <= middle).count();
        // Where more passes without a failure there is no such limit.
        let beyond = passed.values().filter(|(bad, good)| *bad == 0 && *good * 10 > most * 11).count();
        if beyond * 10 > full.len() || effect < 0.95 || full.len() < 3 || alike * 10 < full.len() * 8 || middle < 2 {
            return None;
        }
        let passed = match self.group.step as u64 {
            _ if !self.results.complete() => "as many passed".to_owned(),
            1 => format!("about {} passed (at most {})", count(middle), count(most)),
            step => format!("about {} passed", count(middle * step)),
        };
        let evidence = format!(
            "in each of {} {word}s {passed}, and what came after in the same {word} got {} ({}, effect {effect:.2})",
            full.len(),
            self.code(),
            p_value(p)
        );
        let name = if self.is_login() { Name::LoginThrottled } else { Name::Quota };
        let counts = self.group.counts(windows);
        let certainty = if counts { Certainty::Likely } else { Certainty::Possible };
        let explanation = Explanation::of(name, certainty, evidence)
            .or(Name::AddressLimit, "a limit per address looks the same from one machine");
        let once = format!("or something at the service that comes once a {word}, at the same time of it");
        Some(if counts { explanation } else { explanation.or(Name::TimeWindow, once) })
    }

    /// 401 from some time on.
    fn expired(&self) -> Option<Explanation> {
        if self.status() != Some(401) {
            return None;
        }
        let (mut first_bad, mut flips, mut threads) = (std::collections::BTreeMap::new(), 0_u64, 0_u64);
        for (row, failed) in self.group.rows.iter().zip(&self.group.failed) {
            let was = first_bad.insert(row.thread, *failed);
            flips += u64::from(was == Some(true) && !failed);
            threads += u64::from(was == Some(false) && *failed);
        }
        let failures = self.group.failures() as u64;
        let later = self.effect(Question::Nth).or_else(|| self.effect(Question::Clock));
        let order = self.yes(Question::Nth).or_else(|| self.yes(Question::Clock))?;
        if flips * 10 > failures || threads == 0 || later.is_none_or(|effect| effect < 0.7) {
            return None;
        }
        let evidence = format!(
            "{} went from well to 401 and {} of {} failures were followed by a success in the same thread ({})",
            many(threads, "thread", "threads"),
            count(flips),
            count(failures),
            p_value(order.0)
        );
        Some(Explanation::of(Name::TokenExpired, Certainty::Likely, evidence))
    }

    /// One of several addresses fails while another request to it is under way.
    fn one_object(&self) -> Option<Explanation> {
        let (p, difference) = self.yes(Question::Same)?;
        let (p_address, share) = self.yes(Question::Address)?;
        if difference < 0.3 || share < 0.5 || self.group.address_at_same_load() >= ALPHA {
            return None;
        }
        let table = self.group.by(|row| row.url);
        let failing = table.values().filter(|(bad, _)| *bad > 0).count();
        let well: u64 = table.values().filter(|(bad, _)| *bad > 0).map(|(_, well)| *well).sum();
        let evidence = format!(
            "the failures are at {failing} of {} addresses, which also succeeded {}; they fail {} more often while another request to the same one is under way ({}; addresses: {})",
            table.len(),
            many(well, "time", "times"),
            percent(difference),
            p_value(p),
            p_value(p_address)
        );
        Some(Explanation::of(Name::Contention, Certainty::Likely, evidence))
    }

    /// A connection that nobody used for long is closed when it is used again.
    fn after_a_pause(&self) -> Option<Explanation> {
        self.yes(Question::Pause)?;
        let kept = !self.results.has.connect || self.failed_on_kept_connections();
        if self.status().is_some() || !self.says(&BROKEN) || !kept || self.yes(Question::Load).is_some() {
            return None;
        }
        let again = self.group.again_after_well(self.results);
        let pauses: Vec<f64> = again.rows.iter().map(|row| f64::from(row.pause)).collect();
        let p = hypothesis::by_rank(&pauses, &again.failed, None);
        let effect = hypothesis::higher(&pauses, &again.failed);
        let others = [Question::Thread, Question::Clock, Question::Nth];
        if effect < 0.7 || p >= ALPHA || !again.rises_beside(&pauses, &others, self.results) {
            return None;
        }
        let evidence = format!(
            "more fails the longer the thread paused before: {} ({}, effect {effect:.2})",
            steps(&pauses, &again.failed, "ms"),
            p_value(p)
        );
        Some(Explanation::of(Name::ConnectionReuse, Certainty::Likely, evidence))
    }

    /// More fails when more is under way.
    fn load(&self) -> Option<Explanation> {
        let threads: Vec<f64> = self.group.rows.iter().map(|row| f64::from(row.threads)).collect();
        let candidates =
            [(Question::Load, &self.group.in_flight, "under way"), (Question::Threads, &threads, "threads")];
        let asked = candidates.into_iter().filter_map(|(q, load, words)| Some((self.yes(q)?, q, load, words)));
        // What is under way for long since it fails is no reason to fail. Of how many threads there are it tells little.
        let slowly = self.fails_slowly();
        let asked = asked.filter(|(_, q, ..)| *q != Question::Load || !slowly);
        let ((p, effect), question, load, words) = asked.max_by(|a, b| a.0.1.total_cmp(&b.0.1))?;
        if effect < 0.62 {
            return None;
        }
        if self.is_only(
            question,
            &[Question::Thread, Question::First, Question::Nth, Question::Address, Question::Connection],
        ) {
            return None;
        }
        // A span of time of its own, at whatever load, is no matter of load.
        if self.yes(Question::Clock).is_some() && !self.group.load_not_clock(load, slowly) {
            return None;
        }
        let evidence = format!(
            "more fails when more is asked at once: {} ({}, effect {effect:.2})",
            steps(load, &self.group.failed, words),
            p_value(p)
        );
        if self.is_login() {
            return Some(Explanation::of(Name::LoginThrottled, Certainty::Likely, evidence));
        }
        let stale = self.says(&BROKEN) && self.on_kept_connections();
        let limited = self.limited();
        let certainty =
            if stale || limited || self.status() == Some(401) { Certainty::Possible } else { Certainty::Likely };
        let mut explanation = Explanation::of(Name::Overload, certainty, evidence);
        if stale {
            let kept = "nearly all were on connections kept open; the server may have closed those that stood idle";
            explanation = explanation.or(Name::ConnectionReuse, kept);
        }
        if limited {
            explanation =
                explanation.or(Name::Quota, "what fails is the latest of its second or minute, as at a limit");
        }
        let (first, length) = self.group.bins();
        let early = self
            .group
            .rows
            .iter()
            .zip(&self.group.failed)
            .filter(|(row, failed)| **failed && (row.start - first) as f64 <= length.max(1_000.0));
        if early.count() * 10 >= self.group.failures() * 9 {
            return Some(explanation.or(Name::Burst, "all of it at the start, when the threads begin together"));
        }
        Some(explanation)
    }

    /// Whether failures take so long that they are what is under way, and not those that go well.
    fn fails_slowly(&self) -> bool {
        let mut took: [Vec<u32>; 2] = Default::default();
        for (row, failed) in self.group.rows.iter().zip(&self.group.failed) {
            let [well, bad] = &mut took;
            (if *failed { bad } else { well }).push(row.elapsed);
        }
        let [well, bad] = took.map(|mut took| {
            took.sort_unstable();
            took.get(took.len() / 2).copied().unwrap_or_default()
        });
        bad / 4 > well && hypothesis::higher(&self.group.well_in_flight(), &self.group.failed) < 0.62
    }

    /// In each second, or minute, what comes late fails, give or take what the way to the service takes.
    fn limited(&self) -> bool {
        [1_000, 60_000].into_iter().any(|length| {
            let late = self.yes(Question::Window(length)).is_some_and(|(_, effect)| effect > 0.85);
            late && self.group.windows(length).is_some_and(|windows| {
                let failing = self.group.by(|row| windows.number(row)).into_values().filter(|(bad, _)| *bad > 0);
                failing.count() >= 3
            })
        })
    }

    /// New connections fail and kept ones do not, or the reverse.
    fn connection(&self) -> Option<Explanation> {
        let (p, difference) = self.yes(Question::Connection)?;
        let others = [Question::Load, Question::Thread, Question::Nth, Question::Address, Question::Fresh];
        if difference.abs() < 0.1
            || !self.is_of_the_connection(difference)
            || self.is_only(Question::Connection, &others)
        {
            return None;
        }
        let (name, which) =
            if difference > 0.0 { (Name::ConnectionChurn, "new") } else { (Name::ConnectionReuse, "kept") };
        let evidence = format!(
            "requests on {which} connections fail {} more often than on others ({})",
            percent(difference.abs()),
            p_value(p)
        );
        Some(Explanation::of(name, Certainty::Likely, evidence))
    }

    /// Whether it is seen where a connection was new for no other reason: a thread's first is, and the one after a failure.
    fn is_of_the_connection(&self, difference: f64) -> bool {
        let again = self.group.again_after_well(self.results);
        let table = again.by(|row| row.on_new_connection());
        let [kept, new] = [false, true].map(|new| table.get(&new).copied().unwrap_or_default());
        let same = (rate(&new) - rate(&kept)) * difference > 0.0;
        let own = !self.results.has.thread || (same && hypothesis::fisher(new, kept) < ALPHA);
        own && self.group.holds_among_neighbours(|row| row.on_new_connection())
    }

    /// Failures in one span of time.
    fn clock(&self) -> Option<Explanation> {
        let (p, difference) = self.yes(Question::Clock)?;
        let span = self.group.span();
        // What comes later in each thread comes later, and the first of all threads are the first.
        let nth = self.effect(Question::Nth).filter(|effect| *effect > 0.5).map(|_| Question::Nth);
        let others = [Question::Thread, Question::First, Question::Address, Question::Fresh];
        let others: Vec<Question> = others.into_iter().chain(nth).collect();
        if difference < 0.2
            || span.failed * 10 < self.group.failures() as u64 * 8
            || self.is_only(Question::Clock, &others)
        {
            return None;
        }
        let (begin, end) = seconds(self.group, span);
        let inside = span.failed as f64 / span.all as f64;
        let evidence = format!(
            "{} of {} failures are between {begin:.1} s and {end:.1} s of the run, where {} of {} failed ({})",
            count(span.failed),
            count(self.group.failures() as u64),
            count(span.failed),
            count(span.all),
            p_value(p)
        );
        let (at_start, at_end) = (span.first == 0, span.last + 1 == span.of);
        let server = self.answer.fate != Fate::Unknown && self.status().is_none_or(|status| status >= 500);
        let name = if at_start && (span.last - span.first) * 4 < span.of {
            Name::ColdStart
        } else if self.status() == Some(401) && at_end {
            Name::TokenExpired
        } else if self.status() == Some(403) && at_end && inside > 0.9 {
            Name::AddressLimit
        } else if server && inside > 0.9 {
            Name::ServiceDown
        } else {
            Name::TimeWindow
        };
        // What lasts most of the run, and does not fail all, is no span of its own; and to the end goes what grows.
        let most = (span.last - span.first + 1) * 2 > span.of;
        let grows = at_end && self.yes(Question::Load).is_some_and(|(_, effect)| effect >= 0.62);
        let login = self.status() == Some(400) && self.is_login();
        if (inside <= 0.9 && (most || grows)) || login || self.threads_of_one_fate() {
            let explanation = Explanation::of(name, Certainty::Possible, evidence);
            let beside = "the load grew towards the end too, so it may be the load as well as the time";
            return Some(if grows { explanation.or(Name::Overload, beside) } else { explanation });
        }
        Some(Explanation::of(name, Certainty::Likely, evidence))
    }

    /// Whether no thread that failed went well too, though each asked several times: then it may be they as well as the time.
    fn threads_of_one_fate(&self) -> bool {
        let table = self.group.by(|row| row.thread);
        let failing = || table.values().filter(|(bad, well)| *bad > 0 && bad + well >= 3);
        let mixed = failing().filter(|(_, well)| *well > 0).count();
        self.results.has.thread && failing().count() >= 3 && mixed == 0 && table.len() > failing().count()
    }

    /// The step before failed.
    fn after_a_failure(&self) -> Option<Explanation> {
        let (p, difference) = self.yes(Question::Before)?;
        let after = self
            .group
            .rows
            .iter()
            .zip(&self.group.failed)
            .filter(|(row, failed)| **failed && row.before > 0 && self.results.answer(row.before).fate.failed());
        if difference < 0.5
            || after.count() * 10 < self.group.failures() * 9
            || self.by_itself().is_some_and(|e| e.main.is_some_and(|(_, c, _)| c > Certainty::Possible))
        {
            return None;
        }
        let evidence = format!(
            "it fails {} more often right after a failed step of the same thread ({})",
            percent(difference),
            p_value(p)
        );
        Some(match self.status() {
            Some(401 | 403) => Explanation::of(Name::TokenMissing, Certainty::Likely, evidence),
            _ => Explanation::of(Name::FeedPlaceholder, Certainty::Possible, evidence),
        })
    }

    /// From one of its requests on a thread fails.
    fn nth(&self) -> Option<Explanation> {
        let (p, effect) = self.yes(Question::Nth).filter(|(_, effect)| *effect > 0.9)?;
        let first = self
            .group
            .rows
            .iter()
            .zip(&self.group.failed)
            .filter(|(_, failed)| **failed)
            .map(|(row, _)| row.nth)
            .min()?;
        let evidence = format!(
            "each thread's first {first} requests went well, and what it asked later got {} ({}, effect {effect:.2})",
            self.code(),
            p_value(p)
        );
        let grows = "a header that grows, as of cookies, fails from some request of each thread on";
        Some(Explanation::of(Name::Quota, Certainty::Possible, evidence).or(Name::HeaderWrong, grows))
    }

    /// Some threads fail and others do not.
    fn thread(&self) -> Option<Explanation> {
        let (p, share) = self.yes(Question::Thread)?;
        let table = self.group.by(|row| row.thread);
        let always = table.values().filter(|(bad, well)| *bad > 0 && *well == 0).count();
        let evidence = format!(
            "the failing goes with the thread: {} of {} threads fail always, and {} of the failures are of those that fail most ({})",
            always,
            table.len(),
            percent(share),
            p_value(p)
        );
        let (name, certainty) = match self.status() {
            Some(401) if always > 0 && share > 0.9 => (Name::TokenMissing, Certainty::Likely),
            _ => (Name::SessionConflict, Certainty::Possible),
        };
        Some(Explanation::of(name, certainty, evidence))
    }

    /// No pattern: what the code says by itself.
    fn by_itself(&self) -> Option<Explanation> {
        // It may be the service's refusal or the plan's own check.
        if self.answer.fate == Fate::Unknown {
            return None;
        }
        let n = self.group.failures() as u64;
        let said =
            format!("{} ended with {} {}", many(n, "request", "requests"), self.code(), shown(&self.answer.message));
        let likely = |name| Some(Explanation::of(name, Certainty::Likely, said.clone()));
        match self.status() {
            Some(502 | 504) => likely(Name::GatewayFailure),
            Some(404 | 410) if self.never_well() => likely(Name::FeedUnknownId),
            Some(401) => Some(Explanation::of(
                Name::SessionConflict,
                Certainty::Possible,
                format!("{said}, now and then: a session that another ends looks so"),
            )),
            Some(_) => self.transient(),
            None if self.says(&BROKEN) && self.on_kept_connections() && self.not_by_chance() => {
                likely(Name::ConnectionReuse)
            }
            // An exception that nobody knows may be the network's as well as the tool's.
            None => self.transient(),
        }
    }

    /// Whether the failures are on connections that were open already, where it is told of any that they were not.
    fn on_kept_connections(&self) -> bool {
        let told = self.group.rows.iter().any(|row| row.connect > 0 && row.connect != NONE);
        told && self.failed_on_kept_connections()
    }

    fn failed_on_kept_connections(&self) -> bool {
        let rows = self.group.rows.iter().zip(&self.group.failed);
        let kept = rows.filter(|(row, failed)| **failed && row.connect == 0).count();
        kept * 10 >= self.group.failures() * 9
    }

    /// Whether it is said of connections that were closed while they were kept, or so many failures on kept ones are no chance.
    fn not_by_chance(&self) -> bool {
        let kept = self.answers.iter().find(|(a, _)| a.question == Question::Connection);
        self.says(&["nohttpresponse", "failed to respond"]) || kept.is_some_and(|(a, _)| a.p < ALPHA && a.effect < 0.0)
    }

    /// Whether several addresses failed, and none of them ever went well.
    fn never_well(&self) -> bool {
        let table = self.group.by(|row| row.url);
        let failing = table.iter().filter(|(url, (bad, _))| **url > 0 && *bad > 0);
        let (failing, well) = failing.fold((0, 0), |(n, well), (_, (_, w))| (n + 1, well + w));
        self.results.has.url && failing >= 2 && well == 0
    }

    /// Nothing that was asked has anything to do with it, and enough was asked.
    fn transient(&self) -> Option<Explanation> {
        let has = self.results.has;
        let asked = has.url && has.thread && has.time && self.answers.len() >= 4;
        let (n, all) = (self.group.failures(), self.group.rows.len());
        let load = self.answers.iter().find(|(a, _)| a.question == Question::Load && a.p < 0.05 && a.effect > 0.6);
        if let Some((load, _)) = load {
            let doubt = match self.yes(Question::Load) {
                Some(_) => "and other things go with it too: which of them it is cannot be told",
                None => "too few to be sure",
            };
            let evidence = format!(
                "{} of {} failed with {}, rather when more was under way ({}, effect {:.2}): {doubt}",
                count(n as u64),
                count(all as u64),
                self.code(),
                p_value(load.p),
                load.effect
            );
            return Some(Explanation::of(Name::Overload, Certainty::Possible, evidence));
        }
        if !asked || self.answers.iter().any(|(_, p)| *p < 0.05) {
            return None;
        }
        let evidence = format!(
            "{} of {} failed with {} ({}), and it goes with none of {} things asked: address, thread, time, load or order",
            count(n as u64),
            count(all as u64),
            self.code(),
            percent(n as f64 / all as f64),
            self.answers.len()
        );
        let certainty = if n >= 20 && all >= 200 { Certainty::Likely } else { Certainty::Possible };
        Some(Explanation::of(Name::Transient, certainty, evidence))
    }
}

fn rate((bad, well): &(u64, u64)) -> f64 {
    *bad as f64 / (bad + well).max(1) as f64
}

fn seconds(group: &Group<'_>, span: Span) -> (f64, f64) {
    let (_, length) = group.bins();
    (span.first as f64 * length / 1_000.0, (span.last + 1) as f64 * length / 1_000.0)
}

/// The failing share by quarters of the load.
fn steps(load: &[f64], failed: &[bool], words: &str) -> String {
    let mut pairs: Vec<(f64, bool)> = load.iter().copied().zip(failed.iter().copied()).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut parts = Vec::new();
    let mut rest = pairs.as_slice();
    let step = pairs.len().div_ceil(4).max(1);
    while let (Some(first), false) = (rest.first(), rest.is_empty()) {
        let at = rest.get(step.min(rest.len()) - 1).map_or(0.0, |pair| pair.0);
        let end = rest.partition_point(|pair| pair.0 <= at);
        let (part, after) = rest.split_at(end);
        let bad = part.iter().filter(|(_, failed)| *failed).count();
        let range = if first.0 < at { format!("{:.0} to {at:.0}", first.0) } else { format!("{at:.0}") };
        parts.push(format!("{bad} of {} at {range} {words}", part.len()));
        rest = after;
    }
    parts.join(", ")
}
