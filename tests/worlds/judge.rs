//! Who fared worse. Chance alone makes single runs differ, so each world is run twice by each, and a client is harmed only
//! where both of its runs are worse than both of the other's; a control, the plain client against itself, tells what is
//! left to chance.

use std::sync::Arc;
use std::time::Duration;

use crate::clients::{Who, run};
use crate::world::World;

/// What one run of a world came to.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// The share of calls served within 30 s, of which the percentiles are: who waits for longer has hung up.
    pub(crate) served: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// How late 95 % of those that are not served are told so.
    pub(crate) late_no: Duration,
    /// The same; where nobody is refused, how late 95 % of those are served that are not within 30 s: until then they too were told
    /// nothing.
    left_waiting: Duration,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
}

const PATIENCE: Duration = Duration::from_secs(30);

impl Run {
    pub(crate) fn new(results: &[(bool, Duration)], requests: u64, failed: u64) -> Self {
        let took = |of: bool| {
            let mut took: Vec<_> = results.iter().filter(|(served, _)| *served == of).map(|(_, took)| *took).collect();
            took.sort_unstable();
            took
        };
        let (mut served, refused) = (took(true), took(false));
        let late: Vec<_> = served.iter().copied().filter(|took| *took > PATIENCE).collect();
        served.retain(|took| *took <= PATIENCE);
        Self {
            served: served.len() as f64 / results.len().max(1) as f64,
            p50: quantile(&served, 0.5),
            p99: quantile(&served, 0.99),
            late_no: quantile(&refused, 0.95),
            left_waiting: quantile(if refused.is_empty() { &late } else { &refused }, 0.95),
            requests,
            failed,
        }
    }

    fn is_worse_than(&self, other: &Self) -> bool {
        self.serves_less_than(other) || self.is_slower_than(other) || self.says_no_later_than(other)
    }

    fn serves_less_than(&self, other: &Self) -> bool {
        self.served < other.served - SHARE
    }

    /// Serving no more, it is slower.
    fn is_slower_than(&self, other: &Self) -> bool {
        let slower = self.p50 > other.p50.mul_f64(1.5) + Duration::from_millis(100)
            || self.p99 > other.p99 * 2 + Duration::from_secs(1);
        self.served <= other.served + SHARE && slower && other.served >= 0.05
    }

    fn says_no_later_than(&self, other: &Self) -> bool {
        self.late_no > other.left_waiting.mul_f64(1.5) + Duration::from_secs(16)
    }
}

/// A smaller difference in what is served is none.
const SHARE: f64 = 0.005;

fn quantile(sorted: &[Duration], of: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * of).round() as usize).copied().unwrap_or_default()
}

/// A world, run by all.
pub(crate) struct Judged {
    pub(crate) world: Arc<World>,
    pub(crate) subject: [Run; 2],
    pub(crate) plain: [Run; 2],
    pub(crate) control: [Run; 2],
}

impl Judged {
    pub(crate) fn new(seed: u64, who: Who) -> Self {
        let world = Arc::new(World::new(seed));
        let twice = |who, luck| [run(&world, who, luck), run(&world, who, luck + 1)];
        Self { subject: twice(who, 0), plain: twice(Who::Plain, 2), control: twice(Who::Plain, 4), world }
    }

    pub(crate) fn is_harmed(&self) -> bool {
        all(&self.subject, &self.plain, Run::is_worse_than)
    }

    /// In what it is harmed.
    pub(crate) fn harm(&self) -> &'static str {
        if all(&self.subject, &self.plain, Run::serves_less_than) {
            "serves less"
        } else if all(&self.subject, &self.plain, Run::is_slower_than) {
            "is slower"
        } else if all(&self.subject, &self.plain, Run::says_no_later_than) {
            "says no later"
        } else {
            "is worse in all"
        }
    }

    pub(crate) fn chance_harms(&self) -> bool {
        all(&self.control, &self.plain, Run::is_worse_than)
    }

    pub(crate) fn serves_more(&self) -> bool {
        all(&self.subject, &self.plain, |one, other| one.served > other.served + SHARE)
    }

    /// How bad it is, to list the worst first.
    pub(crate) fn badness(&self) -> f64 {
        let best = |runs: &[Run; 2]| runs[0].served.max(runs[1].served);
        let lost = (best(&self.plain) - best(&self.subject)).max(0.0);
        let slower = |of: fn(&Run) -> Duration| {
            let least = |runs: &[Run; 2]| of(&runs[0]).min(of(&runs[1])).as_secs_f64();
            (least(&self.subject) - least(&self.plain)).max(0.0) / 100.0
        };
        lost * 10.0 + slower(|run| run.p50) + slower(|run| run.p99)
    }
}

fn all(ones: &[Run; 2], others: &[Run; 2], holds: impl Fn(&Run, &Run) -> bool) -> bool {
    ones.iter().all(|one| others.iter().all(|other| holds(one, other)))
}
