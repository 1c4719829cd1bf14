//! When iterations are to start: agents that loop (closed), or arrivals at a rate whatever becomes of them (open).

use std::time::Duration;

use crate::numbers;

pub(crate) enum Plan {
    Closed(Closed),
    Open(Open),
}

/// Agents that each begin again once they are done: slow answers make fewer requests.
pub(crate) struct Closed {
    pub(crate) agents: u32,
    /// Their starts are spread over this.
    pub(crate) ramp_up: Duration,
    pub(crate) iterations: Option<u64>,
    /// No iteration starts later than this.
    pub(crate) duration: Option<Duration>,
    pub(crate) think_time: Duration,
}

/// Arrivals by the clock: slow answers make more of them wait at once.
pub(crate) struct Open {
    pub(crate) stages: Vec<Stage>,
    pub(crate) poisson: bool,
    pub(crate) seed: u64,
}

/// A part of the time, in which the rate goes from one to another in a straight line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stage {
    pub(crate) lasts: Duration,
    /// Per second.
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Stage {
    /// `30s:200/s` holds a rate, `30s:0..200/s` goes from one to the other.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let form = || "say how long and how much: 30s:200/s, or 30s:0..200/s for a ramp".to_owned();
        let (lasts, rate) = text.split_once(':').ok_or_else(form)?;
        let lasts = numbers::some_time(lasts.trim())?;
        let (from, to) = match rate.trim().split_once("..") {
            // The unit stands at the end, for both.
            Some((from, to)) => {
                let unit = to.find('/').and_then(|at| to.get(at..)).unwrap_or_default();
                if unit.is_empty() && from.contains('/') {
                    return Err(format!("{to} what? Say the unit at the end, for both: 30s:0..1200/m"));
                }
                let from = if from.contains('/') { from.to_owned() } else { format!("{from}{unit}") };
                (numbers::rate(&from)?, numbers::rate(to)?)
            }
            None => {
                let rate = numbers::rate(rate.trim())?;
                (rate, rate)
            }
        };
        Ok(Self { lasts, from, to })
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.from == 0.0 && self.to == 0.0
    }

    fn arrivals(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.lasts.as_secs_f64()
    }

    /// The second of the stage by which so many have arrived.
    fn second_of(&self, arrivals: f64) -> f64 {
        if arrivals <= 0.0 {
            return 0.0;
        }
        let slope = (self.to - self.from) / self.lasts.as_secs_f64();
        2.0 * arrivals / (self.from + (self.from * self.from + 2.0 * slope * arrivals).max(0.0).sqrt())
    }
}

impl Plan {
    /// How many iterations there will be, where that is known.
    pub(crate) fn iterations(&self) -> Option<u64> {
        match self {
            Self::Closed(Closed { duration: Some(_), .. }) => None,
            Self::Closed(closed) => Some(u64::from(closed.agents).saturating_mul(closed.iterations.unwrap_or(1))),
            Self::Open(Open { poisson: true, .. }) => None,
            Self::Open(open) => Some(open.stages.iter().map(Stage::arrivals).sum::<f64>().ceil() as u64),
        }
    }

    /// Whether each agent has one iteration, so that to count one is to count the other.
    pub(crate) fn is_once_each(&self) -> bool {
        matches!(self, Self::Closed(Closed { duration: None, iterations: None | Some(1), .. }))
    }
}

impl Open {
    /// How long after the start each arrival is due.
    pub(crate) fn arrivals(&self) -> Arrivals {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let due = if self.poisson { pause(&mut random) } else { 0.0 };
        Arrivals { stages: self.stages.clone(), at: 0, before: (0.0, 0.0), due, random: self.poisson.then_some(random) }
    }
}

pub(crate) struct Arrivals {
    stages: Vec<Stage>,
    at: usize,
    /// Seconds, and arrivals, before the stage it is at.
    before: (f64, f64),
    /// How many arrivals there have been when the next one is due: whole numbers, or as Poisson has it.
    due: f64,
    random: Option<fastrand::Rng>,
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        loop {
            let stage = self.stages.get(self.at)?;
            let wanted = self.due - self.before.1;
            if wanted < stage.arrivals() {
                self.due += self.random.as_mut().map_or(1.0, pause);
                return Some(Duration::from_secs_f64(self.before.0 + stage.second_of(wanted)));
            }
            self.before = (self.before.0 + stage.lasts.as_secs_f64(), self.before.1 + stage.arrivals());
            self.at += 1;
        }
    }
}

/// Exponential, of mean 1.
fn pause(random: &mut fastrand::Rng) -> f64 {
    -(1.0 - random.f64()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(stages: &[&str], poisson: bool) -> Vec<f64> {
        let stages = stages.iter().map(|stage| Stage::parse(stage).unwrap()).collect();
        Open { stages, poisson, seed: 7 }.arrivals().map(|due| due.as_secs_f64()).collect()
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced_and_exact_in_number() {
        let due = arrivals(&["10s:2000/s"], false);
        assert_eq!(due.len(), 20_000);
        assert!(due.iter().enumerate().all(|(i, due)| (due - i as f64 / 2000.0).abs() < 1e-6));
    }

    #[test]
    fn steps_ramps_and_a_spike_follow_each_other() {
        let due = arrivals(&["10s:10/s", "1s:100/s", "10s:10..0/s", "5s:0/s", "2s:5"], false);
        let within = |from: f64, to: f64| due.iter().filter(|due| (from..to).contains(*due)).count();
        assert_eq!((within(0.0, 10.0), within(10.0, 11.0), within(11.0, 21.0), within(21.0, 26.0)), (100, 100, 50, 0));
        assert_eq!(within(26.0, 99.0), 10);
        assert!(within(11.0, 16.0) > 2 * within(16.0, 21.0), "it goes down");
        assert!(due.is_sorted());
    }

    #[test]
    fn poisson_has_the_rate_on_average_and_comes_in_bunches() {
        let due = arrivals(&["100s:100/s"], true);
        assert!((9_500..10_500).contains(&due.len()), "{}", due.len());
        let close = due.windows(2).filter(|pair| pair[1] - pair[0] < 0.001).count();
        assert!(
            (700..1_200).contains(&close),
            "1 - 1/e^0.1 of the pauses are shorter than a tenth of the mean: {close}"
        );
        assert_eq!(due, arrivals(&["100s:100/s"], true), "the same seed, the same arrivals");
    }

    #[test]
    fn a_stage_that_is_none_says_how_one_is_written() {
        for (text, says) in [
            ("30s", "30s:200/s"),
            ("200/s:30s", "no duration"),
            ("0s:5/s", "no time"),
            ("30s:-5/s", "negative"),
            ("30s:0..fast", "200/s"),
            ("30s:600/m..1200", "unit at the end"),
        ] {
            assert!(Stage::parse(text).unwrap_err().contains(says), "{text}");
        }
        assert_eq!(Stage::parse("1m:0..600/m").unwrap(), Stage { lasts: Duration::from_secs(60), from: 0.0, to: 10.0 });
    }
}
