//! Starts each iteration when it is due, and waits for the last.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep_until};

use crate::plan::{Closed, Open, Plan};
use crate::recorder::Recorder;
use crate::run::Outcome;
use crate::stop::Stop;
use crate::{naive, resilient};

/// One agent, the one way or the other.
pub(crate) enum Agent {
    Naive(naive::Agent),
    Resilient(resilient::Agent),
}

impl Agent {
    pub(crate) async fn iterate(&self) -> Outcome {
        match self {
            Self::Naive(agent) => agent.iterate().await,
            Self::Resilient(agent) => agent.iterate().await,
        }
    }

    /// How long it lets an iteration be that took so long. What fails without a question to anyone (the quota is spent, the
    /// login was refused before, no file is left to open) fails again as soon, and would be all that the threads do.
    pub(crate) fn pause(&self, took: Duration, outcome: &Outcome) -> Duration {
        // What a plain client has a status of was answered, however soon.
        let asked = |status: Option<u16>| status.is_some() && matches!(self, Self::Naive(_));
        let in_vain = outcome.result.as_ref().is_err_and(|failure| took < AT_ONCE && !asked(failure.status));
        if in_vain { AFTER_NOTHING } else { Duration::ZERO }
    }

    /// How much later than the run the time began in which it may begin.
    fn held_up(&self) -> Duration {
        match self {
            Self::Naive(agent) => agent.held_up(),
            Self::Resilient(_) => Duration::ZERO,
        }
    }
}

/// What fails sooner has asked nobody, and is let be for so long.
const AT_ONCE: Duration = Duration::from_millis(1);
const AFTER_NOTHING: Duration = Duration::from_millis(100);

/// The timer goes by whole milliseconds: an agent that does not pause would lose one each time. The others have their turn
/// either way.
pub(crate) async fn pause_until(due: Instant) {
    if due > Instant::now() { sleep_until(due).await } else { yield_now().await }
}

/// Iterations of an open plan in flight at once; those that are due beyond start late, and that is told.
pub(crate) const MOST_IN_FLIGHT: u32 = 100_000;

/// One run: what there is to do, by whom, and who takes it down.
pub(crate) struct Fleet<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) agents: Vec<Arc<Agent>>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) stop: &'a Stop,
}

impl Fleet<'_> {
    /// Returns when all is done, or when it was told to stop: what is then under way is given up.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        match self.plan {
            Plan::Closed(plan) => self.closed(plan).await,
            Plan::Open(plan) => self.open(plan).await,
        }
    }

    /// Agents do not wait for each other, so a service that slows down for some does not slow the others down.
    async fn closed(&self, plan: &Closed) -> anyhow::Result<()> {
        let began = self.recorder.began;
        let mut tasks = JoinSet::new();
        for (number, agent) in (0..).zip(&self.agents) {
            let looping = Looping {
                number,
                agent: Arc::clone(agent),
                recorder: Arc::clone(&self.recorder),
                due: began + plan.ramp_up * number / plan.agents.max(1),
                until: plan.duration.map(|duration| began + duration),
                iterations: plan.iterations.unwrap_or(if plan.duration.is_some() { u64::MAX } else { 1 }),
                think_time: plan.think_time,
            };
            tasks.spawn(looping.run());
        }
        loop {
            tokio::select! {
                ended = tasks.join_next() => match ended {
                    Some(ended) => ended?,
                    None => return Ok(()),
                },
                () = self.stop.asked() => return Ok(()),
            }
        }
    }

    async fn open(&self, plan: &Open) -> anyhow::Result<()> {
        let pace = Pace {
            arrivals: plan.arrivals(),
            agents: self.agents.clone(),
            recorder: Arc::clone(&self.recorder),
            runtime: Handle::current(),
            places: Arc::new(Semaphore::new(MOST_IN_FLIGHT as usize)),
            ended: Arc::new(AtomicBool::new(false)),
        };
        let (places, ended) = (Arc::clone(&pace.places), Arc::clone(&pace.ended));
        let thread = std::thread::Builder::new().name("pace".to_owned()).spawn(move || pace.run());
        let thread = thread.context("cannot start the thread that keeps the pace")?;
        let done = async {
            while !thread.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            // All of them are back when the last iteration has ended.
            places.acquire_many(MOST_IN_FLIGHT).await.map(drop)
        };
        tokio::select! {
            done = done => done.context("the places in flight are gone")?,
            () = self.stop.asked() => {}
        }
        ended.store(true, Ordering::Relaxed);
        thread.thread().unpark();
        Ok(())
    }
}

/// An agent that begins again.
struct Looping {
    number: u32,
    agent: Arc<Agent>,
    recorder: Arc<Recorder>,
    due: Instant,
    until: Option<Instant>,
    iterations: u64,
    think_time: Duration,
}

impl Looping {
    async fn run(mut self) {
        for _ in 0..self.iterations {
            // By when it is due and not by when it starts: agents that begin together wait for each other, for all of them.
            if self.until.is_some_and(|until| self.due >= until + self.agent.held_up()) {
                return;
            }
            pause_until(self.due).await;
            let (began, beginning) = (Instant::now(), self.recorder.begin(self.due));
            let outcome = self.agent.iterate().await;
            let pause = self.agent.pause(began.elapsed(), &outcome).max(self.think_time);
            self.recorder.end(self.number, beginning, outcome);
            self.due = Instant::now() + pause;
        }
    }
}

/// Starts arrivals from a thread of its own: the runtime's timer goes by milliseconds, and is late when tasks are busy.
struct Pace {
    arrivals: crate::plan::Arrivals,
    agents: Vec<Arc<Agent>>,
    recorder: Arc<Recorder>,
    runtime: Handle,
    places: Arc<Semaphore>,
    ended: Arc<AtomicBool>,
}

impl Pace {
    fn run(self) {
        let began = self.recorder.began;
        // In turn, whatever their number.
        let mut turns = (0..).zip(&self.agents).cycle();
        for due in self.arrivals {
            let due = began + due;
            let Some((number, agent)) = turns.next() else { return };
            loop {
                let wait = due.saturating_duration_since(Instant::now());
                if self.ended.load(Ordering::Relaxed) {
                    return;
                }
                if wait.is_zero() {
                    break;
                }
                std::thread::park_timeout(wait);
            }
            let place = loop {
                match Arc::clone(&self.places).try_acquire_owned() {
                    Ok(place) => break place,
                    Err(_) if self.ended.load(Ordering::Relaxed) => return,
                    Err(_) => std::thread::park_timeout(Duration::from_millis(1)),
                }
            };
            let (agent, recorder) = (Arc::clone(agent), Arc::clone(&self.recorder));
            self.runtime.spawn(async move {
                let beginning = recorder.begin(due);
                let outcome = agent.iterate().await;
                recorder.end(number, beginning, outcome);
                drop(place);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_does_not_pause_loses_no_time() {
        // Between two milliseconds.
        tokio::time::advance(Duration::from_micros(300)).await;
        let now = Instant::now();
        pause_until(now).await;
        assert_eq!(Instant::now(), now);
        pause_until(now + Duration::from_millis(5)).await;
        assert!(Instant::now() >= now + Duration::from_millis(5));
    }
}
