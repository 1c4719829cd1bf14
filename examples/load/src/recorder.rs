//! Takes down what each iteration met, while they run.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::jtl::Jtl;
use crate::run::{Outcome, Run, Sample};

pub(crate) struct Recorder {
    /// When the run began, and what the wall clock said.
    pub(crate) began: Instant,
    began_at: SystemTime,
    noted: Mutex<Option<Noted>>,
}

struct Noted {
    run: Run,
    jtl: Option<Jtl>,
}

/// How it goes.
pub(crate) struct Standing {
    pub(crate) served: u64,
    pub(crate) failed: u64,
    pub(crate) in_flight: u64,
    pub(crate) p99_ms: f64,
}

impl Recorder {
    pub(crate) fn new(mut run: Run, jtl: Option<Jtl>) -> Self {
        let began_at = SystemTime::now();
        run.began_at = began_at;
        Self { began: Instant::now(), began_at, noted: Mutex::new(Some(Noted { run, jtl })) }
    }

    /// An iteration begins; when it should have.
    pub(crate) fn begin(&self, due: Instant) -> Beginning {
        let began = Instant::now();
        if let Some(noted) = self.noted().as_mut() {
            noted.run.started += 1;
            let in_flight = noted.run.started - noted.run.ended();
            noted.run.timeline.in_flight(began - self.began, in_flight);
        }
        Beginning { due: due.saturating_duration_since(self.began), began: began - self.began }
    }

    /// It has ended.
    pub(crate) fn end(&self, agent: u32, beginning: Beginning, outcome: Outcome) {
        let sample = Sample { due: beginning.due, began: beginning.began, ended: self.began.elapsed(), outcome };
        let mut noted = self.noted();
        // After the end of the run it is not counted any more.
        let Some(noted) = noted.as_mut() else { return };
        noted.run.add(&sample);
        let left = noted.run.started - noted.run.ended();
        noted.run.timeline.in_flight(sample.ended, left);
        if let Some(jtl) = &mut noted.jtl {
            jtl.line(noted.run.mode, agent, self.began_at + sample.began, left + 1, &sample);
        }
    }

    pub(crate) fn standing(&self) -> Option<Standing> {
        self.noted().as_ref().map(|Noted { run, .. }| Standing {
            served: run.served,
            failed: run.failed(),
            in_flight: run.unfinished(),
            p99_ms: run.latency_ms(0.99),
        })
    }

    /// What was noted; what still runs is noted no more.
    pub(crate) fn finish(&self) -> Option<(Run, Option<Jtl>)> {
        let Noted { mut run, jtl } = self.noted().take()?;
        run.elapsed = self.began.elapsed();
        Some((run, jtl))
    }

    fn noted(&self) -> MutexGuard<'_, Option<Noted>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Beginning {
    due: Duration,
    began: Duration,
}
