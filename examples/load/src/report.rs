//! The same numbers for machines.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use genesys_scripts::BadRequest;
use serde::Serialize;

use crate::run::Run;

/// Every key is always there. Latencies are 0 where no agent was served.
#[derive(Serialize)]
struct Report<'a> {
    runs: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    mode: &'a str,
    agents: u32,
    served: u32,
    failed: u32,
    attempts: u64,
    retries: u64,
    throttled: u64,
    login_attempts: u64,
    login_throttled: u64,
    bad_requests: &'a BTreeMap<String, u32>,
    causes: Vec<Counted<'a>>,
    elapsed_ms: u64,
    latency_ms: Latency,
}

/// A cause in the crate's one form, and how many agents failed by it.
#[derive(Serialize)]
struct Counted<'a> {
    #[serde(flatten)]
    cause: &'a BadRequest,
    count: u32,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl<'a> Entry<'a> {
    fn of(run: &'a Run) -> Self {
        Self {
            mode: run.mode,
            agents: run.agents,
            served: run.served,
            failed: run.failed(),
            attempts: run.sent.attempts,
            retries: run.sent.retries,
            throttled: run.sent.throttled,
            login_attempts: run.sent.login_attempts,
            login_throttled: run.sent.login_throttled,
            bad_requests: &run.bad_requests,
            causes: run.causes.values().map(|(cause, count)| Counted { cause, count: *count }).collect(),
            elapsed_ms: u64::try_from(run.elapsed.as_millis()).unwrap_or(u64::MAX),
            latency_ms: Latency {
                p50: run.latency_ms(0.50),
                p90: run.latency_ms(0.90),
                p99: run.latency_ms(0.99),
                max: run.latency_ms(1.0),
            },
        }
    }
}

pub(crate) fn open(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn write(mut file: File, runs: &[Run]) -> anyhow::Result<()> {
    let report = Report { runs: runs.iter().map(Entry::of).collect() };
    let json = serde_json::to_string_pretty(&report)?;
    writeln!(file, "{json}").context("cannot write the numbers")
}
