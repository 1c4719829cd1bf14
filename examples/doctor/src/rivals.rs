//! What failing goes with only since it goes with something else: threads that always fail and begin late fail when more is
//! under way, and what a connection is closed for is followed by a new one.

use std::collections::HashSet;

use crate::diagnose::ALPHA;
use crate::groups::{Group, Question};
use crate::hypothesis;
use crate::sample::{NONE, Results, Sample};

/// So many requests, one after the other, meet the service as it is at one time.
const NEIGHBOURS: usize = 20;
/// Whether the connection was new is not told.
const NOT_TOLD: u32 = 2;

impl Group<'_> {
    /// Whether what one thing tells is what another tells: that explains more, and beside it nothing is left.
    pub(crate) fn is_only(&self, question: Question, others: &[Question], results: &Results) -> bool {
        let Some(of) = self.levels(question, results) else { return false };
        let explained = hypothesis::explained(&of, &self.failed);
        others.iter().filter_map(|other| self.levels(*other, results)).any(|other| {
            let levels = other.iter().collect::<HashSet<_>>().len();
            self.tells_apart(levels)
                && hypothesis::explained(&other, &self.failed) > explained
                && hypothesis::by_category(&of, &self.failed, Some(&other)) >= ALPHA
        })
    }

    /// Whether it is seen among requests that were sent one after the other too, whatever the time was like.
    pub(crate) fn holds_among_neighbours(&self, of: impl Fn(&Sample) -> bool) -> bool {
        let neighbours: Vec<u32> = (0..self.rows.len()).map(|i| (i / NEIGHBOURS) as u32).collect();
        let of: Vec<u32> = self.rows.iter().map(|row| u32::from(of(row))).collect();
        hypothesis::by_category(&of, &self.failed, Some(&neighbours)) < ALPHA
    }

    /// Whether more fails the higher the number among rows too that are alike in each other thing.
    pub(crate) fn rises_beside(&self, number: &[f64], others: &[Question], results: &Results) -> bool {
        let mut levels = others.iter().filter_map(|other| self.levels(*other, results));
        levels.all(|other| hypothesis::by_rank(number, &self.failed, Some(&other)) < ALPHA)
    }

    /// Those rows that are not the first of their thread and follow no failure: nothing but itself made them as they are.
    pub(crate) fn again_after_well(&self, results: &Results) -> Self {
        let failed_before = |row: &Sample| row.before > 0 && results.answer(row.before).fate.failed();
        let rows = self.rows.iter().zip(&self.failed).filter(|(row, _)| row.nth > 0 && !failed_before(row));
        let (rows, failed) = rows.map(|(row, failed)| (*row, *failed)).unzip();
        Self { rows, failed, in_flight: Vec::new(), step: self.step }
    }

    /// As what the rows are told apart by a question. None if they cannot be.
    fn levels(&self, question: Question, results: &Results) -> Option<Vec<u32>> {
        let has = results.has;
        let of_rows =
            |has: bool, of: fn(&Sample) -> u32| has.then(|| self.rows.iter().map(|row| of(row)).collect::<Vec<u32>>());
        match question {
            Question::Address => of_rows(has.url, |row| row.url),
            Question::Thread => of_rows(has.thread, |row| row.thread),
            Question::Connection => {
                of_rows(has.connect, |row| if row.connect == NONE { NOT_TOLD } else { u32::from(row.connect > 0) })
            }
            Question::First => of_rows(has.thread, |row| u32::from(row.nth == 0)),
            // The first ones each for itself, later ones by doublings.
            Question::Nth => of_rows(has.thread, |row| row.nth.min(16 + row.nth.max(16).ilog2())),
            Question::Load => Some(eighths(&self.in_flight)).filter(|levels| levels.len() == self.rows.len()),
            Question::Threads => {
                let threads: Vec<f64> = self.rows.iter().map(|row| f64::from(row.threads)).collect();
                has.threads.then(|| eighths(&threads))
            }
            Question::Clock => has.time.then(|| self.inside_span()),
            Question::Fresh => has.url.then(|| self.first_to_address().into_iter().map(u32::from).collect()),
            _ => None,
        }
    }

    /// Whether each row is in the span of time that is most unlike the rest.
    pub(crate) fn inside_span(&self) -> Vec<u32> {
        let span = self.span();
        self.bin().iter().map(|bin| u32::from((span.first..=span.last).contains(&(*bin as usize)))).collect()
    }
}

/// Eighths of the rows by a number.
pub(crate) fn eighths(numbers: &[f64]) -> Vec<u32> {
    let mut order: Vec<f64> = numbers.to_vec();
    order.sort_by(f64::total_cmp);
    let edges: Vec<f64> = (1..8).filter_map(|i| order.get(order.len() * i / 8).copied()).collect();
    numbers.iter().map(|n| edges.partition_point(|edge| edge <= n) as u32).collect()
}
