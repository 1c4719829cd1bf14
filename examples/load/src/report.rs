//! The same numbers for machines.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use genesys_scripts::BadRequest;
use serde::Serialize;

use crate::args::Args;
use crate::hdr;
use crate::machine;
use crate::run::Run;

/// Every key is always there. Latencies are 0 where no agent was served.
#[derive(Serialize)]
struct Report<'a> {
    target: &'a str,
    arguments: &'a [String],
    started: String,
    versions: Versions,
    /// What ended it before its time.
    interrupted: bool,
    /// The conditions of --fail-if that held.
    failed_conditions: &'a [String],
    warnings: &'a [String],
    runs: Vec<Entry<'a>>,
    /// Of --diagnose, in the doctor's form.
    diagnosis: Option<&'a genesys_doctor::cause::Report>,
}

#[derive(Serialize)]
struct Versions {
    genesys_load: &'static str,
    os: &'static str,
    arch: &'static str,
}

#[derive(Serialize)]
struct Entry<'a> {
    mode: &'a str,
    agents: u32,
    planned: Option<u64>,
    started: u64,
    served: u64,
    failed: u64,
    unfinished: u64,
    attempts: u64,
    retries: u64,
    throttled: u64,
    login_attempts: u64,
    login_throttled: u64,
    bad_requests: &'a BTreeMap<String, u64>,
    causes: Vec<Counted<'a>>,
    failures: Vec<Failed<'a>>,
    began: String,
    elapsed_ms: u64,
    /// From when they were due, to the end: what agents waited.
    latency_ms: Latency,
    /// From when they were begun.
    service_ms: Latency,
    /// Starts later than due.
    late_ms: Late,
    generator: Generator,
    histogram: Histograms,
    timeline: Timeline,
}

#[derive(Serialize)]
struct Failed<'a> {
    count: u64,
    example: &'a str,
}

/// A cause in the crate's one form, and how many agents failed by it.
#[derive(Serialize)]
struct Counted<'a> {
    #[serde(flatten)]
    cause: &'a BadRequest,
    count: u64,
}

#[derive(Serialize)]
struct Latency {
    mean: f64,
    p50: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

#[derive(Serialize)]
struct Late {
    p50: f64,
    p99: f64,
    max: f64,
}

#[derive(Serialize)]
struct Generator {
    was_the_limit: bool,
    why: Vec<String>,
    cores: usize,
    busy: Option<f64>,
}

/// HdrHistogram's V2 encoding, deflated, in base64; of microseconds.
#[derive(Serialize)]
struct Histograms {
    unit: &'static str,
    encoding: &'static str,
    response: String,
    service: String,
}

/// A number for each slice.
#[derive(Serialize)]
struct Timeline {
    slice_ms: u64,
    served: Vec<u64>,
    failed: Vec<u64>,
    in_flight: Vec<u64>,
    p50_ms: Vec<Option<f64>>,
    p99_ms: Vec<Option<f64>>,
    max_ms: Vec<Option<f64>>,
    outcomes: BTreeMap<String, Vec<u64>>,
}

/// What is told of all runs together.
pub(crate) struct Facts<'a> {
    pub(crate) args: &'a Args,
    pub(crate) target: String,
    pub(crate) simulator_here: bool,
    pub(crate) planned: Option<u64>,
    pub(crate) began_at: SystemTime,
    pub(crate) interrupted: bool,
    pub(crate) failed_conditions: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

impl Timeline {
    fn of(run: &Run) -> Self {
        let slices = &run.timeline.slices;
        let within = |quantile: f64| {
            let ms = |slice: &crate::timeline::Slice| slice.response.value_at_quantile(quantile) as f64 / 1000.0;
            slices.iter().map(|slice| (!slice.response.is_empty()).then(|| ms(slice))).collect()
        };
        let labels: BTreeSet<&String> = slices.iter().flat_map(|slice| slice.outcomes.keys()).collect();
        let outcome =
            |label: &String| slices.iter().map(|slice| slice.outcomes.get(label).copied().unwrap_or(0)).collect();
        Self {
            slice_ms: millis(run.timeline.width),
            served: slices.iter().map(|slice| slice.served).collect(),
            failed: slices.iter().map(|slice| slice.failed).collect(),
            in_flight: slices.iter().map(|slice| slice.in_flight).collect(),
            p50_ms: within(0.5),
            p99_ms: within(0.99),
            max_ms: within(1.0),
            outcomes: labels.into_iter().map(|label| (label.clone(), outcome(label))).collect(),
        }
    }
}

impl<'a> Entry<'a> {
    fn of(facts: &Facts<'_>, run: &'a Run) -> anyhow::Result<Self> {
        let latency = |mean: f64, at: &dyn Fn(f64) -> f64| Latency {
            mean,
            p50: at(0.50),
            p90: at(0.90),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
        };
        let why = machine::was_the_limit(run, facts.args.is_open(), facts.simulator_here);
        Ok(Self {
            mode: run.mode,
            agents: run.agents,
            planned: facts.planned,
            started: run.started,
            served: run.served,
            failed: run.failed(),
            unfinished: run.unfinished(),
            attempts: run.sent.attempts,
            retries: run.sent.retries,
            throttled: run.sent.throttled,
            login_attempts: run.sent.login_attempts,
            login_throttled: run.sent.login_throttled,
            bad_requests: &run.bad_requests,
            causes: run.causes.values().map(|(cause, count)| Counted { cause, count: *count }).collect(),
            failures: run.failures.top().map(|(count, example)| Failed { count, example }).collect(),
            began: date(run.began_at),
            elapsed_ms: millis(run.elapsed),
            latency_ms: latency(run.mean_ms(), &|quantile| run.latency_ms(quantile)),
            service_ms: latency(run.service_mean_ms(), &|quantile| run.service_ms(quantile)),
            late_ms: Late { p50: run.late_ms(0.50), p99: run.late_ms(0.99), max: run.late_ms(1.0) },
            generator: Generator {
                was_the_limit: !why.is_empty(),
                why,
                cores: machine::cores(),
                busy: machine::busy(run),
            },
            histogram: Histograms {
                unit: "microseconds",
                encoding: "HdrHistogram V2, deflated, base64",
                response: hdr::encoded(&run.response)?,
                service: hdr::encoded(&run.service)?,
            },
            timeline: Timeline::of(run),
        })
    }
}

pub(crate) fn json(
    facts: &Facts<'_>,
    runs: &[Run],
    diagnosis: Option<&genesys_doctor::cause::Report>,
) -> anyhow::Result<String> {
    // The file's name is part of it; a secret never is, as none is taken from the command line.
    let arguments: Vec<_> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let report = Report {
        target: &facts.target,
        arguments: &arguments,
        started: date(facts.began_at),
        versions: Versions {
            genesys_load: env!("CARGO_PKG_VERSION"),
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
        },
        interrupted: facts.interrupted,
        failed_conditions: &facts.failed_conditions,
        warnings: &facts.warnings,
        runs: runs.iter().map(|run| Entry::of(facts, run)).collect::<anyhow::Result<_>>()?,
        diagnosis,
    };
    Ok(serde_json::to_string_pretty(&report)?)
}

/// What the page plots.
#[derive(Serialize)]
struct Plotted<'a> {
    mode: &'a str,
    timeline: Timeline,
    /// Parts of all, and the milliseconds within which they were served.
    spectrum: Vec<(f64, f64)>,
}

/// One page, with all it needs.
pub(crate) fn html(facts: &Facts<'_>, runs: &[Run], summary: &str) -> anyhow::Result<String> {
    let plotted: Vec<_> = runs
        .iter()
        .map(|run| Plotted { mode: run.mode, timeline: Timeline::of(run), spectrum: hdr::spectrum(run) })
        .collect();
    // Within a script's element nothing may look like markup.
    let data = serde_json::to_string(&plotted)?.replace('<', "\\u003c");
    let text = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    Ok(include_str!("page.html")
        .replace("{{started}}", &date(facts.began_at))
        .replace("{{target}}", &text(&facts.target))
        .replace("{{data}}", &data)
        .replace("{{summary}}", &text(summary)))
}

fn date(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
