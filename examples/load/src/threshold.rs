//! `--fail-if`: what must not hold of a run, for a CI to judge by.

use std::time::Duration;

use crate::numbers;
use crate::run::Run;

#[derive(Clone, Debug)]
pub(crate) struct Threshold {
    metric: Metric,
    holds: Comparison,
    /// Milliseconds, a number, or a part of 1: as the metric has it.
    limit: f64,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    Failed,
    FailedPart,
    Served,
    /// Served a second.
    Rate,
    Mean,
    Quantile(f64),
    /// The 99th percentile of starts later than planned.
    Late,
}

type Comparison = fn(&f64, &f64) -> bool;

/// The longer ones first.
const COMPARISONS: [(&str, Comparison); 5] =
    [(">=", f64::ge), ("<=", f64::le), ("==", f64::eq), (">", f64::gt), ("<", f64::lt)];

const METRICS: &str = "failed, served, rate, mean, p50 to p99.99, max, late";

impl Threshold {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let form =
            || "say what must not be, like 'failed > 0', 'failed > 1%', 'p99 > 500ms' or 'rate < 190/s'".to_owned();
        let at = text.find(['<', '>', '=']).ok_or_else(form)?;
        let (metric, rest) = text.split_at(at);
        let read = |(sign, holds)| Some((holds, rest.strip_prefix(sign)?.trim()));
        let (holds, value): (Comparison, &str) = COMPARISONS.into_iter().find_map(read).ok_or_else(form)?;
        let metric = metric.trim();
        let (metric, limit) = match metric {
            "failed" => match value.strip_suffix('%') {
                Some(percent) => (Metric::FailedPart, number(percent)? / 100.0),
                None => (Metric::Failed, number(value)?),
            },
            "served" => (Metric::Served, number(value)?),
            "rate" => (Metric::Rate, numbers::rate(value)?),
            "mean" => (Metric::Mean, milliseconds(value)?),
            "max" => (Metric::Quantile(1.0), milliseconds(value)?),
            "late" => (Metric::Late, milliseconds(value)?),
            _ => (Metric::Quantile(quantile(metric)?), milliseconds(value)?),
        };
        Ok(Self { metric, holds, limit, text: text.trim().to_owned() })
    }

    /// What the run has, if that is what must not be. Response times of which there are none are never good enough.
    pub(crate) fn crossed(&self, run: &Run) -> Option<String> {
        let seconds = run.elapsed.as_secs_f64();
        let none_served = run.served == 0;
        let text = &self.text;
        let (value, unit) = match self.metric {
            Metric::Failed => (run.failed() as f64, ""),
            Metric::FailedPart => (part(run.failed(), run.ended()), "%"),
            Metric::Served => (run.served as f64, ""),
            Metric::Rate => (if seconds > 0.0 { run.served as f64 / seconds } else { 0.0 }, "/s"),
            Metric::Late => (run.late_ms(0.99), "ms"),
            Metric::Mean | Metric::Quantile(_) if none_served => return Some(format!("{text}: nothing was served")),
            Metric::Mean => (run.mean_ms(), "ms"),
            Metric::Quantile(quantile) => (run.latency_ms(quantile), "ms"),
        };
        let shown = if unit == "%" { value * 100.0 } else { value };
        (self.holds)(&value, &self.limit).then(|| format!("{text}: it is {}{unit}", (shown * 100.0).round() / 100.0))
    }
}

fn part(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}

fn number(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("{text:?} is no number")),
    }
}

fn milliseconds(text: &str) -> Result<f64, String> {
    numbers::duration(text).as_ref().map(Duration::as_secs_f64).map(|seconds| seconds * 1000.0).map_err(Clone::clone)
}

/// `p99.9` is 0.999.
fn quantile(metric: &str) -> Result<f64, String> {
    let percent = metric.strip_prefix('p').and_then(|percent| percent.parse::<f64>().ok());
    match percent {
        Some(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent / 100.0),
        _ => Err(format!("{metric:?} is not measured; there are {METRICS}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;
    use crate::run::tests::sample;

    /// 9 served in 100 to 900 ms, 1 failed, in 2 s.
    fn run() -> Run {
        let mut run = Run::new("naive", 10).unwrap();
        for i in 1..10 {
            run.add(&sample(i * 100, Ok(())));
        }
        run.add(&sample(5, Err(Failure::other("no"))));
        run.elapsed = Duration::from_secs(2);
        run
    }

    #[test]
    fn it_holds_or_it_does_not() {
        for (text, holds) in [
            ("failed > 0", true),
            ("failed>1", false),
            ("failed >= 10%", true),
            ("failed > 10.5 %", false),
            ("served < 10", true),
            ("served == 9", true),
            ("rate < 5/s", true),
            ("rate < 4/s", false),
            ("p99 > 500ms", true),
            ("p50 > 510ms", false),
            ("p99.9 > 1s", false),
            ("max >= 900ms", true),
            ("mean <= 500ms", true),
            ("late > 1ms", false),
        ] {
            let threshold = Threshold::parse(text).unwrap();
            assert_eq!(threshold.crossed(&run()).is_some(), holds, "{text}: {:?}", threshold.crossed(&run()));
        }
    }

    #[test]
    fn where_nothing_was_served_no_response_time_is_good_enough() {
        let run = Run::new("naive", 1).unwrap();
        for text in ["p99 > 1h", "mean > 1h", "max > 1h"] {
            assert!(Threshold::parse(text).unwrap().crossed(&run).unwrap().contains("nothing was served"));
        }
    }

    #[test]
    fn what_cannot_be_read_says_what_can() {
        for (text, says) in [
            ("failed", "failed > 0"),
            ("p99 > 500", "500ms"),
            ("p101 > 1s", "not measured"),
            ("latency > 1s", "there are failed"),
            ("failed > many", "no number"),
            ("= 5", "failed > 0"),
            ("", "failed > 0"),
        ] {
            let error = Threshold::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
