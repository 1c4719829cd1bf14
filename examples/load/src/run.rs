//! The numbers of one run.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use genesys_scripts::BadRequest;
use hdrhistogram::Histogram;

use crate::failure::{Failure, Failures, KINDS};
use crate::timeline::Timeline;

/// One iteration that has ended. Its times are counted from the run's start.
pub(crate) struct Sample {
    /// When it should have started.
    pub(crate) due: Duration,
    /// When it did.
    pub(crate) began: Duration,
    pub(crate) ended: Duration,
    pub(crate) outcome: Outcome,
}

/// What became of an iteration.
pub(crate) struct Outcome {
    pub(crate) result: Result<(), Failure>,
    /// Time in it that the agent waited for other agents, and not for the service.
    pub(crate) apart: Duration,
    /// From its start to the first byte of the first answer, where that is known.
    pub(crate) first_byte: Duration,
    /// Of the answers' bodies, where that is known.
    pub(crate) bytes: u64,
}

impl Outcome {
    pub(crate) fn of(result: Result<(), Failure>) -> Self {
        Self { result, apart: Duration::ZERO, first_byte: Duration::ZERO, bytes: 0 }
    }
}

impl Sample {
    /// What an agent has waited that begins when it should: also where the load test itself was late, or was held up by
    /// answers before this one (coordinated omission).
    pub(crate) fn response_time(&self) -> Duration {
        self.ended.saturating_sub(self.due).saturating_sub(self.outcome.apart)
    }

    /// What the service took.
    pub(crate) fn service_time(&self) -> Duration {
        self.ended.saturating_sub(self.began).saturating_sub(self.outcome.apart)
    }
}

/// What the agents of one mode met.
pub(crate) struct Run {
    pub(crate) mode: &'static str,
    pub(crate) agents: u32,
    /// Iterations that began, and of these those that got all they asked for.
    pub(crate) started: u64,
    pub(crate) served: u64,
    pub(crate) failures: Failures,
    /// The 400s that left agents without a script, by class.
    pub(crate) bad_requests: BTreeMap<String, u64>,
    /// Failures by what of this machine was at its end.
    pub(crate) machine: BTreeMap<&'static str, u64>,
    /// The causes that the crate found, each as surely as it was found, and how often.
    pub(crate) causes: BTreeMap<&'static str, (BadRequest, u64)>,
    pub(crate) sent: Sent,
    /// Of the iterations served, in microseconds.
    pub(crate) response: Histogram<u64>,
    pub(crate) service: Histogram<u64>,
    /// Starts later than due, in microseconds.
    pub(crate) late: Histogram<u64>,
    /// Of all response and service times.
    total: Duration,
    total_service: Duration,
    slowest: Duration,
    pub(crate) began_at: SystemTime,
    /// From the first agent's start to the last one's end.
    pub(crate) elapsed: Duration,
    /// The time all of this process's threads were at work meanwhile, where the system tells.
    pub(crate) cpu: Option<Duration>,
    pub(crate) timeline: Timeline,
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
        // Of four digits a median is what it is to the millisecond, for some megabytes.
        let histogram = |digits| Histogram::new_with_bounds(1, LONGEST_MICROS, digits);
        Ok(Self {
            mode,
            agents,
            started: 0,
            served: 0,
            failures: Failures::default(),
            bad_requests: BTreeMap::new(),
            causes: BTreeMap::new(),
            machine: BTreeMap::new(),
            sent: Sent::default(),
            response: histogram(4)?,
            service: histogram(4)?,
            late: histogram(3)?,
            total: Duration::ZERO,
            total_service: Duration::ZERO,
            slowest: Duration::ZERO,
            began_at: SystemTime::now(),
            elapsed: Duration::ZERO,
            cpu: None,
            timeline: Timeline::new()?,
        })
    }

    /// A run that ended before its first request: no agent got a script, all for the same reason.
    pub(crate) fn never_began(mode: &'static str, agents: u32, why: &Failure) -> anyhow::Result<Self> {
        let mut run = Self::new(mode, agents)?;
        run.started = agents.into();
        for _ in 0..agents {
            run.count_failure(why);
        }
        Ok(run)
    }

    /// One more iteration has ended.
    pub(crate) fn add(&mut self, sample: &Sample) {
        let response = sample.response_time();
        self.late.saturating_record(micros(sample.began.saturating_sub(sample.due)));
        match &sample.outcome.result {
            Ok(()) => {
                self.served += 1;
                self.slowest = self.slowest.max(response);
                self.total += response;
                self.total_service += sample.service_time();
                self.response.saturating_record(micros(response));
                self.service.saturating_record(micros(sample.service_time()));
            }
            Err(failure) => self.count_failure(failure),
        }
        self.timeline.ended(sample);
    }

    fn count_failure(&mut self, failure: &Failure) {
        if let Some(class) = &failure.bad_request {
            let known = self.bad_requests.len() < KINDS || self.bad_requests.contains_key(class);
            let class = if known { class.clone() } else { "other".to_owned() };
            *self.bad_requests.entry(class).or_default() += 1;
        }
        if let Some(cause) = &failure.cause {
            let (surest, count) =
                self.causes.entry(cause.cause.name()).or_insert_with(|| (BadRequest::clone(cause), 0));
            if cause.certainty > surest.certainty {
                surest.clone_from(cause);
            }
            *count += 1;
        }
        if let Some(machine) = failure.machine {
            *self.machine.entry(machine).or_default() += 1;
        }
        self.failures.add(failure);
    }

    /// How many iterations have ended so far.
    pub(crate) fn ended(&self) -> u64 {
        self.served + self.failures.count()
    }

    /// How many got no script.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.count()
    }

    /// How many were cut off by the end of the run.
    pub(crate) fn unfinished(&self) -> u64 {
        self.started.saturating_sub(self.ended())
    }

    /// Milliseconds within which this part of the agents served had their script; 0 when none was served.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        let within = Duration::from_micros(self.response.value_at_quantile(quantile));
        // The histogram knows four digits, and rounds up.
        within.min(self.slowest).as_micros() as f64 / 1000.0
    }

    pub(crate) fn service_ms(&self, quantile: f64) -> f64 {
        let within = Duration::from_micros(self.service.value_at_quantile(quantile));
        within.min(self.slowest).as_micros() as f64 / 1000.0
    }

    pub(crate) fn mean_ms(&self) -> f64 {
        mean_ms(self.total, self.served)
    }

    pub(crate) fn service_mean_ms(&self) -> f64 {
        mean_ms(self.total_service, self.served)
    }

    pub(crate) fn late_ms(&self, quantile: f64) -> f64 {
        if self.late.is_empty() { 0.0 } else { self.late.value_at_quantile(quantile) as f64 / 1000.0 }
    }
}

fn mean_ms(total: Duration, of: u64) -> f64 {
    if of == 0 { 0.0 } else { total.as_secs_f64() * 1000.0 / of as f64 }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// One that began when it should and took so many milliseconds.
    pub(crate) fn sample(took: u64, result: Result<(), Failure>) -> Sample {
        let began = Duration::from_millis(7);
        Sample { due: began, began, ended: began + Duration::from_millis(took), outcome: Outcome::of(result) }
    }

    #[test]
    fn mean_and_median_are_exact_to_the_millisecond_and_high_percentiles_to_a_sample() {
        let mut run = Run::new("naive", 255).unwrap();
        // In no order, and none twice.
        let mut took: Vec<u64> = (0..255).map(|i| 100 + (i * 97) % 255).collect();
        took.iter().for_each(|took| run.add(&sample(*took, Ok(()))));
        took.sort_unstable();
        assert!((run.mean_ms() - 227.0).abs() < 1e-6, "{}", run.mean_ms());
        assert_eq!(run.latency_ms(0.5).round(), 227.0);
        for (quantile, at) in [(0.90, 229), (0.95, 242), (0.99, 252), (1.0, 254)] {
            assert!(
                (run.latency_ms(quantile) - took[at] as f64).abs() <= 1.0,
                "{quantile}: {}",
                run.latency_ms(quantile)
            );
        }
    }

    #[test]
    fn classes_of_refusals_have_a_bound_and_none_is_left_out() {
        let mut run = Run::new("naive", 1).unwrap();
        for class in (0..1_000).chain(0..1_000) {
            let failure = Failure { bad_request: Some(format!("class_{class}")), ..Failure::other("HTTP 400") };
            run.add(&sample(5, Err(failure)));
        }
        assert!(run.bad_requests.len() <= KINDS + 1, "{}", run.bad_requests.len());
        assert_eq!(run.bad_requests.values().sum::<u64>(), 2_000);
        assert_eq!(run.bad_requests["class_7"], 2);
    }

    #[test]
    fn a_late_start_is_in_the_response_time_and_not_in_the_service_time() {
        let ms = Duration::from_millis;
        let mut outcome = Outcome::of(Ok(()));
        outcome.apart = ms(5);
        let mut run = Run::new("naive", 1).unwrap();
        run.add(&Sample { due: ms(100), began: ms(400), ended: ms(450), outcome });
        assert_eq!((run.latency_ms(0.99), run.late_ms(0.99).round()), (345.0, 300.0));
        assert!((run.service_ms(0.99) - 45.0).abs() < 0.1, "{}", run.service_ms(0.99));
    }
}
