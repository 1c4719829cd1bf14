//! The numbers of one run.

use std::collections::BTreeMap;
use std::time::Duration;

use genesys_scripts::BadRequest;
use hdrhistogram::Histogram;

use crate::failure::{Failure, Failures};

/// What the agents of one mode met.
pub(crate) struct Run {
    pub(crate) mode: &'static str,
    pub(crate) agents: u32,
    pub(crate) served: u32,
    pub(crate) failures: Failures,
    /// The 400s that left agents without a script, by class.
    pub(crate) bad_requests: BTreeMap<String, u32>,
    /// The causes that the crate found, each as surely as it was found, and how often.
    pub(crate) causes: BTreeMap<&'static str, (BadRequest, u32)>,
    pub(crate) sent: Sent,
    /// Of the agents served, in microseconds.
    latencies: Histogram<u64>,
    slowest: Duration,
    /// From the first agent's start to the last one's end.
    pub(crate) elapsed: Duration,
    /// The most that an agent started later than planned: how far this machine kept up.
    pub(crate) late: Duration,
}

/// Two days: a call's time is a day at most.
const LONGEST_MICROS: u64 = 2 * 24 * 60 * 60 * 1_000_000;

/// What went over the wire.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sent {
    /// Requests for the script, logins apart.
    pub(crate) attempts: u64,
    /// Of these, those that were not a call's first.
    pub(crate) retries: u64,
    /// Answers 429.
    pub(crate) throttled: u64,
    pub(crate) login_attempts: u64,
    /// Logins refused for a login limit.
    pub(crate) login_throttled: u64,
}

impl Run {
    pub(crate) fn new(mode: &'static str, agents: u32) -> anyhow::Result<Self> {
        Ok(Self {
            mode,
            agents,
            served: 0,
            failures: Failures::default(),
            bad_requests: BTreeMap::new(),
            causes: BTreeMap::new(),
            sent: Sent::default(),
            latencies: Histogram::new_with_bounds(1, LONGEST_MICROS, 3)?,
            slowest: Duration::ZERO,
            elapsed: Duration::ZERO,
            late: Duration::ZERO,
        })
    }

    /// A run that ended before its first request: no agent got a script, all for the same reason.
    pub(crate) fn never_began(mode: &'static str, agents: u32, why: &Failure) -> anyhow::Result<Self> {
        let mut run = Self::new(mode, agents)?;
        for _ in 0..agents {
            run.add(Err(why.clone()));
        }
        Ok(run)
    }

    /// One more agent has ended: after this long with its script, or without.
    pub(crate) fn add(&mut self, outcome: Result<Duration, Failure>) {
        match outcome {
            Ok(latency) => {
                self.served += 1;
                self.slowest = self.slowest.max(latency);
                self.latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
            }
            Err(failure) => {
                if let Some(class) = &failure.bad_request {
                    *self.bad_requests.entry(class.clone()).or_default() += 1;
                }
                if let Some(cause) = &failure.cause {
                    let (surest, count) =
                        self.causes.entry(cause.cause.name()).or_insert_with(|| (BadRequest::clone(cause), 0));
                    if cause.certainty > surest.certainty {
                        surest.clone_from(cause);
                    }
                    *count += 1;
                }
                self.failures.add(failure);
            }
        }
    }

    /// How many agents have ended so far.
    pub(crate) fn ended(&self) -> u32 {
        self.served + self.failures.count()
    }

    /// How many got no script.
    pub(crate) fn failed(&self) -> u32 {
        self.agents - self.served
    }

    /// Milliseconds within which this part of the agents served had their script; 0 when none was served.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        let within = Duration::from_micros(self.latencies.value_at_quantile(quantile));
        // The histogram knows three digits, and rounds up.
        within.min(self.slowest).as_micros() as f64 / 1000.0
    }
}
