//! How a run went over time, in a bounded number of slices: with each doubling of the run the slices double too.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::run::{Sample, micros};

pub(crate) struct Timeline {
    pub(crate) width: Duration,
    pub(crate) slices: Vec<Slice>,
    /// In flight now, which a slice begins with.
    in_flight: u64,
}

#[derive(Clone)]
pub(crate) struct Slice {
    /// Response times of those served that ended in it, in microseconds, to two digits.
    pub(crate) response: Histogram<u32>,
    pub(crate) served: u64,
    pub(crate) failed: u64,
    /// At most, of iterations.
    pub(crate) in_flight: u64,
    /// How iterations ended: `200`, or what went wrong.
    pub(crate) outcomes: BTreeMap<String, u64>,
}

const SLICES: usize = 600;

/// At first.
const WIDTH: Duration = Duration::from_millis(20);

/// Outcomes told apart in a slice.
const OUTCOMES: usize = 12;

impl Slice {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { response: Histogram::new(2)?, served: 0, failed: 0, in_flight: 0, outcomes: BTreeMap::new() })
    }

    fn count(&mut self, label: &str, times: u64) {
        if let Some(count) = self.outcomes.get_mut(label) {
            *count += times;
        } else if self.outcomes.len() < OUTCOMES {
            self.outcomes.insert(label.to_owned(), times);
        } else {
            *self.outcomes.entry("other".to_owned()).or_default() += times;
        }
    }

    fn merge(&mut self, other: &Self) {
        // Of the same digits and growing by itself: it has room.
        let _ = self.response.add(&other.response);
        self.served += other.served;
        self.failed += other.failed;
        self.in_flight = self.in_flight.max(other.in_flight);
        for (label, times) in &other.outcomes {
            self.count(label, *times);
        }
    }
}

impl Timeline {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { width: WIDTH, slices: vec![Slice::new()?], in_flight: 0 })
    }

    /// From this time on so many are in flight.
    pub(crate) fn in_flight(&mut self, at: Duration, count: u64) {
        if let Some(slice) = self.slice(at) {
            slice.in_flight = slice.in_flight.max(count);
        }
        self.in_flight = count;
    }

    pub(crate) fn ended(&mut self, sample: &Sample) {
        let response = micros(sample.response_time()).max(1);
        let Some(slice) = self.slice(sample.ended) else { return };
        match &sample.outcome.result {
            Ok(()) => {
                slice.served += 1;
                let _ = slice.response.record(response);
                slice.count("200", 1);
            }
            Err(failure) => {
                slice.failed += 1;
                slice.count(&failure.label(), 1);
            }
        }
    }

    fn slice(&mut self, at: Duration) -> Option<&mut Slice> {
        loop {
            let index = usize::try_from(at.as_nanos() / self.width.as_nanos().max(1)).unwrap_or(usize::MAX);
            if index < SLICES {
                if index >= self.slices.len() {
                    let new = Slice { in_flight: self.in_flight, ..Slice::new().ok()? };
                    self.slices.resize(index + 1, new);
                }
                return self.slices.get_mut(index);
            }
            self.halve();
        }
    }

    fn halve(&mut self) {
        self.width *= 2;
        let merged = self.slices.chunks(2).filter_map(|pair| {
            let (first, rest) = pair.split_first()?;
            let mut first = first.clone();
            rest.iter().for_each(|other| first.merge(other));
            Some(first)
        });
        self.slices = merged.collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::sample;

    #[test]
    fn however_long_it_takes_it_stays_small_and_loses_nothing() {
        let mut timeline = Timeline::new().unwrap();
        for second in 0..10_000 {
            let mut sample = sample(30, Ok(()));
            sample.due = Duration::from_secs(second);
            sample.ended = sample.due + Duration::from_millis(30);
            timeline.in_flight(sample.due, second);
            timeline.ended(&sample);
        }
        assert!(timeline.slices.len() <= SLICES && timeline.slices.len() >= SLICES / 2, "{}", timeline.slices.len());
        assert_eq!(timeline.slices.iter().map(|slice| slice.served).sum::<u64>(), 10_000);
        assert_eq!(timeline.slices.iter().map(|slice| slice.response.len()).sum::<u64>(), 10_000);
        assert_eq!(timeline.slices.iter().map(|slice| slice.in_flight).max(), Some(9_999));
    }

    #[test]
    fn what_is_in_flight_stays_so_until_it_ends() {
        let mut timeline = Timeline::new().unwrap();
        for (ms, count) in [(1, 1), (5, 2), (105, 1), (145, 0), (185, 0)] {
            timeline.in_flight(Duration::from_millis(ms), count);
        }
        let in_flight: Vec<_> = timeline.slices.iter().map(|slice| slice.in_flight).collect();
        assert_eq!(in_flight, [2, 2, 2, 2, 2, 2, 1, 1, 0, 0]);
    }

    #[test]
    fn a_day_is_no_more_than_a_minute() {
        let mut timeline = Timeline::new().unwrap();
        timeline.in_flight(Duration::from_secs(86_400), 1);
        assert!(timeline.slices.len() <= SLICES);
    }
}
