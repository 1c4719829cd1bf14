//! All files together: each is told apart and read, and what they say is put into one report.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use crate::cause::{self, Cause, Certainty, Finding, Level, Name, Read as FileRead, Report, Verdict};
use crate::diagnose::{self, Diagnosis};
use crate::feed::{Feed, Reading};
use crate::input::{self, HEAD, Kind, Unreadable};
use crate::plan::Plan;
use crate::rules::{self, Ruled, Rules};
use crate::text::{count, many, percent};
use crate::{jtl, jtl_xml};

/// A file that is longer gets a progress bar.
const LONG: u64 = 32 << 20;

/// So many codes are told in one line.
const CODES: usize = 8;

/// Shares that are so near are the same.
const NEAR: f64 = 0.03;

/// A file that could not be read.
#[derive(Debug)]
pub struct Failed {
    /// Its name.
    pub file: String,
    /// Where, and why.
    pub why: Unreadable,
}

#[derive(Debug, Default)]
struct Seen {
    plans: Vec<(String, Plan)>,
    results: Vec<(String, Diagnosis)>,
    data: Vec<(String, PathBuf)>,
    findings: Vec<Finding>,
    read: Vec<FileRead>,
}

/// Reads all files, in any order, and says what is the matter.
///
/// # Errors
///
/// The files that could not be read.
pub fn examine(paths: &[PathBuf]) -> Result<Report, Vec<Failed>> {
    let mut seen = Seen::default();
    let mut failed = Vec::new();
    for path in paths {
        let file = path.display().to_string();
        if let Err(why) = seen.read(path, &file) {
            failed.push(Failed { file, why });
        }
    }
    if failed.is_empty() { seen.report().map_err(|failed| vec![failed]) } else { Err(failed) }
}

fn open(path: &Path) -> Result<File, Unreadable> {
    File::open(path).map_err(|error| Unreadable::new(1, error.to_string()))
}

/// Reads a file, with a progress bar on a terminal if it is long.
fn reading(path: &Path) -> Result<impl Read, Unreadable> {
    Ok(watched(open(path)?))
}

fn watched(file: File) -> impl Read {
    let length = file.metadata().map_or(0, |data| data.len());
    let bar =
        if length > LONG && io::stderr().is_terminal() { ProgressBar::new(length) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {eta} left") {
        bar.set_style(style);
    }
    bar.wrap_read(file)
}

impl Seen {
    fn read(&mut self, path: &Path, file: &str) -> Result<(), Unreadable> {
        let mut head = Vec::with_capacity(HEAD);
        let mut input = open(path)?;
        let failed = |error: io::Error| Unreadable::new(1, error.to_string());
        (&mut input).take(HEAD as u64).read_to_end(&mut head).map_err(failed)?;
        let kind = input::kind(&head)?;
        let once = input.metadata().is_ok_and(|data| !data.is_file());
        // A pipe is read once: what it began with is not there again.
        let input = io::Cursor::new(head).chain(watched(input));
        let (results, findings) = match kind {
            Kind::Plan => {
                self.plans.push((file.to_owned(), Plan::read(input)?));
                return Ok(());
            }
            Kind::Data if once => return Err(Unreadable::new(1, "a data file out of a pipe: save it as a file first")),
            Kind::Data => {
                self.data.push((file.to_owned(), path.to_owned()));
                return Ok(());
            }
            Kind::Rows => jtl::read(input, file)?,
            Kind::Elements => jtl_xml::read(input, file)?,
        };
        self.findings.extend(findings);
        self.results.push((file.to_owned(), diagnose::diagnose(&results, file)));
        Ok(())
    }

    fn report(mut self) -> Result<Report, Failed> {
        let (mut ruled, taken) = self.rule()?;
        self.loose_data(&taken, &mut ruled)?;
        for (file, diagnosis) in &mut self.results {
            self.findings.append(&mut diagnosis.findings);
            self.read.push(FileRead {
                file: file.clone(),
                kind: "results",
                requests: diagnosis.requests,
                codes: std::mem::take(&mut diagnosis.codes),
                runs: Some(diagnosis.runs),
                seconds: diagnosis.seconds,
                ..FileRead::default()
            });
        }
        self.findings.append(&mut ruled.findings);
        let predicted = rules::merged(std::mem::take(&mut ruled.causes));
        let (causes, verdict) = if self.results.is_empty() {
            let verdict = if predicted.is_empty() { Verdict::NothingFound } else { Verdict::Causes };
            (predicted, verdict)
        } else {
            self.explained(predicted, &ruled.never)
        };
        Ok(self.put_together(causes, verdict))
    }

    /// The rules of each plan, with its data files. Which files were taken.
    fn rule(&mut self) -> Result<(Ruled, Vec<usize>), Failed> {
        let mut all = Ruled::default();
        let mut taken = Vec::new();
        for (file, plan) in &self.plans {
            let mut feeds = Vec::new();
            for set in &plan.data_sets {
                let by_name = self.data.iter().position(|(file, _)| rules::same_file(&set.filename, file));
                let only = (self.data.len() == 1 && plan.data_sets.len() == 1).then_some(0);
                let Some((i, (file, path))) = by_name.or(only).and_then(|i| Some((i, self.data.get(i)?))) else {
                    feeds.push(None);
                    continue;
                };
                taken.push(i);
                let feed = reading(path).and_then(|input| Feed::read(input, &set.reading));
                let feed = feed.map_err(|why| Failed { file: file.clone(), why })?;
                self.read.push(data_read(file, &feed));
                feeds.push(Some((file.clone(), feed)));
            }
            let ruled = Rules::of(plan, file, &feeds);
            self.read.push(FileRead {
                file: file.clone(),
                kind: "plan",
                requests: ruled.requests.unwrap_or_default(),
                ..FileRead::default()
            });
            all.findings.extend(ruled.findings);
            all.causes.extend(ruled.causes);
            all.never.extend(ruled.never);
        }
        Ok((all, taken))
    }

    /// Data files that no plan reads are looked at as they are.
    fn loose_data(&mut self, taken: &[usize], ruled: &mut Ruled) -> Result<(), Failed> {
        for (i, (file, path)) in self.data.iter().enumerate() {
            if taken.contains(&i) {
                continue;
            }
            let feed = reading(path).and_then(|input| Feed::read(input, &Reading::default()));
            let feed = feed.map_err(|why| Failed { file: file.clone(), why })?;
            for defect in &feed.defects {
                let rule = defect.name.map_or("data_file", Name::name);
                let (level, line) = (defect.level, defect.line);
                ruled.findings.push(Finding { rule, level, file: file.clone(), line, message: defect.message.clone() });
                if let Some(name) = defect.name.filter(|_| level > Level::Note) {
                    let evidence = format!(
                        "{file}, line {line}: {}, {} of {} rows",
                        defect.message,
                        count(defect.rows),
                        count(feed.rows)
                    );
                    ruled.causes.push(Cause::new(name, Certainty::Possible, None, evidence));
                }
            }
            self.read.push(data_read(file, &feed));
        }
        Ok(())
    }

    /// What the results say, and what the plan said would happen.
    fn explained(&mut self, predicted: Vec<Cause>, never: &[String]) -> (Vec<Cause>, Verdict) {
        let failures: u64 = self.results.iter().map(|(_, d)| d.failures).sum();
        let requests: u64 = self.results.iter().map(|(_, d)| d.requests).sum();
        let mut causes: BTreeMap<Name, Cause> = BTreeMap::new();
        for (_, diagnosis) in &mut self.results {
            let part = diagnosis.failures as f64 / failures.max(1) as f64;
            for mut cause in std::mem::take(&mut diagnosis.causes) {
                cause.share = cause.share.map(|share| share * part);
                match causes.get_mut(&cause.name) {
                    Some(known) => {
                        known.certainty = known.certainty.max(cause.certainty);
                        known.share = known.share.zip(cause.share).map(|(a, b)| a + b);
                        known.evidence.extend(cause.evidence);
                    }
                    None => {
                        causes.insert(cause.name, cause);
                    }
                }
            }
        }
        if !predicted.iter().any(|cause| cause.name == Name::FeedExhausted)
            && predicted.iter().any(|cause| cause.name == Name::FeedBlankLine)
        {
            rename_marker(&mut causes);
        }
        for mut cause in predicted {
            if cause.name == Name::NeverRuns {
                let labels = || self.results.iter().flat_map(|(_, d)| d.labels.keys());
                if !labels().any(|label| never.contains(label)) {
                    let (none, of) =
                        (many(never.len() as u64, "label", "labels"), many(requests, "request", "requests"));
                    cause.evidence.push(format!("of {none} below it there is not one among the {of} of the results"));
                    cause.certainty = Certainty::Certain;
                    causes.insert(cause.name, cause);
                }
                continue;
            }
            self.confirm(cause, &mut causes, failures);
        }
        let sure = causes.values().any(|cause| cause.certainty > Certainty::Possible);
        let verdict = if sure {
            Verdict::Causes
        } else if failures > 0 || requests == 0 || self.results.iter().any(|(_, d)| d.unread > 0) {
            Verdict::NotEnoughEvidence
        } else {
            Verdict::NothingFound
        };
        (causes.into_values().collect(), verdict)
    }

    /// Puts what the plan said beside what came.
    fn confirm(&self, mut predicted: Cause, causes: &mut BTreeMap<Name, Cause>, failures: u64) {
        if failures == 0 {
            return;
        }
        let all: u64 = self.results.iter().flat_map(|(_, d)| d.labels.values()).map(|(_, all)| all).sum();
        let failing = failures as f64 / all.max(1) as f64;
        let sure = causes.values().filter(|c| c.certainty > Certainty::Possible && c.follows.is_none());
        let left = (1.0 - sure.filter_map(|c| c.share).sum::<f64>()).max(0.0);
        if let Some(found) = causes.get_mut(&predicted.name) {
            return agree(found, predicted, failing, all);
        }
        let effects = effects(&predicted);
        let most = effects.iter().find(|name| causes.get(name).is_some_and(|found| found.share > Some(0.5)));
        if let Some(found) = most.and_then(|name| causes.get_mut(name)) {
            found.follows = Some(predicted.name);
            predicted.share = found.share;
            predicted.certainty = Certainty::Likely;
            predicted.evidence.extend(found.evidence.first().cloned());
            causes.insert(predicted.name, predicted);
            return;
        }
        let near = |share: &f64| *share > 0.0 && (share - left * failing).abs() <= NEAR;
        if let Some(share) = predicted.share.filter(near).filter(|_| predicted.certainty > Certainty::Possible) {
            let (foretold, came) = (percent(share), percent(left * failing));
            predicted.evidence.push(format!(
                "the plan and the data file say that {foretold} of the requests fail, and {came} of {} failed without \
                 another cause",
                count(all)
            ));
            predicted.share = Some(left);
            causes.insert(predicted.name, predicted);
            return;
        }
        // It may be, and the results do not show it.
        predicted.certainty = Certainty::Possible;
        predicted.share = None;
        if left > NEAR || matches!(predicted.name, Name::TokenShared | Name::Burst | Name::ConnectionChurn) {
            causes.insert(predicted.name, predicted);
        }
    }

    fn put_together(self, mut causes: Vec<Cause>, verdict: Verdict) -> Report {
        cause::in_order(&mut causes);
        for cause in &mut causes {
            if let Some(first) = cause.follows {
                cause.advice = format!("Mend {} first: this goes away with it.", first.name());
            }
        }
        let mut findings = self.findings;
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        let (mut ruled_out, mut not_tested) = (Vec::new(), Vec::new());
        for (_, diagnosis) in self.results {
            ruled_out.extend(diagnosis.ruled_out);
            not_tested.extend(diagnosis.not_tested);
        }
        let named = |name: Name| causes.iter().any(|cause| cause.name == name);
        ruled_out.retain(|ruled| !named(ruled.name));
        Report { verdict, causes, findings, ruled_out, not_tested, read: self.read }
    }
}

/// The marker of the file's end, <EOF>, comes of blank lines too.
fn rename_marker(causes: &mut BTreeMap<Name, Cause>) {
    if let Some(mut found) = causes.remove(&Name::FeedExhausted) {
        found.name = Name::FeedBlankLine;
        found.advice = Name::FeedBlankLine.advice().to_owned();
        causes.insert(Name::FeedBlankLine, found);
    }
}

/// The plan and the results say the same.
fn agree(found: &mut Cause, mut predicted: Cause, failing: f64, all: u64) {
    if let Some(share) = predicted.share {
        let (foretold, came) = (percent(share), percent(found.share.unwrap_or_default() * failing));
        found.evidence.push(format!(
            "the plan and the data file say {foretold} of the requests, and {came} of {} failed so",
            count(all)
        ));
    }
    found.evidence.append(&mut predicted.evidence);
    if predicted.certainty > Certainty::Possible {
        found.certainty = Certainty::Certain;
    }
}

/// As what a defect of the plan is seen in results, where they do not name it.
fn effects(predicted: &Cause) -> &'static [Name] {
    let sure = predicted.certainty > Certainty::Possible;
    match predicted.name {
        Name::HeaderMissing => &[Name::HeaderWrong],
        Name::HeaderDead | Name::HeaderWrong | Name::HeaderDuplicate | Name::TokenMissing if sure => {
            &[Name::TokenMissing, Name::AllRefused, Name::HeaderWrong]
        }
        Name::WrongScheme | Name::WrongAddress if sure => {
            &[Name::WrongAddress, Name::WrongScheme, Name::ServiceDown, Name::ClientMade, Name::AllRefused]
        }
        _ => &[],
    }
}

fn data_read(file: &str, feed: &Feed) -> FileRead {
    FileRead { file: file.to_owned(), kind: "data", rows: Some(feed.rows), ..FileRead::default() }
}

/// The most frequent codes, and how many there are besides.
fn answered(codes: &BTreeMap<String, u64>) -> String {
    let mut told: Vec<_> = codes.iter().collect();
    told.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    let others = told.split_off(told.len().min(CODES)).len() as u64;
    told.sort();
    let mut told: Vec<_> = told
        .into_iter()
        .map(|(code, n)| format!("{} × {}", count(*n), if code.is_empty() { "no code" } else { code }))
        .collect();
    told.extend((others > 0).then(|| format!("and {}", many(others, "other code", "other codes"))));
    told.join(", ")
}

/// One line on what was read.
pub(crate) fn summary(read: &FileRead) -> String {
    match read.kind {
        "results" => {
            let requests = many(read.requests, "request", "requests");
            format!("{}: results, {requests} ({})", read.file, answered(&read.codes))
        }
        "experiment" => {
            let seconds = read.seconds.unwrap_or_default();
            let requests = many(read.requests, "request", "requests");
            format!("{}: an experiment of {requests} in {seconds:.0} s ({})", read.file, answered(&read.codes))
        }
        "plan" if read.requests > 0 => {
            format!("{}: a plan of {}", read.file, many(read.requests, "request", "requests"))
        }
        "plan" => format!("{}: a plan", read.file),
        _ => format!("{}: data, {}", read.file, many(read.rows.unwrap_or_default(), "row", "rows")),
    }
}
