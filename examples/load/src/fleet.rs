//! The agents: all at once, or one after the other over a ramp-up, each in a task of its own.

use std::future::Future;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::failure::Failure;
use crate::run::Run;

pub(crate) struct Fleet {
    pub(crate) agents: u32,
    pub(crate) ramp_up: Duration,
}

impl Fleet {
    /// Whether all start together.
    pub(crate) fn at_once(&self) -> bool {
        self.ramp_up.is_zero()
    }

    /// Starts every agent when it is due, whatever became of those before it, and waits for the last.
    ///
    /// Agents do not wait for each other, so a service that slows down does not slow the load down with it.
    pub(crate) async fn send<F>(&self, mode: &'static str, agent: impl Fn() -> F) -> anyhow::Result<Run>
    where
        F: Future<Output = Result<Duration, Failure>> + Send + 'static,
    {
        let mut run = Run::new(mode, self.agents)?;
        let progress = progress(mode, self.agents)?;
        let started = Instant::now();
        let mut agents = JoinSet::new();
        for i in 0..self.agents {
            let due = started + self.ramp_up * i / self.agents;
            let agent = agent();
            agents.spawn(async move {
                sleep_until(due).await;
                (due.elapsed(), agent.await)
            });
        }
        while let Some(ended) = agents.join_next().await {
            let (late, outcome) = ended?;
            run.late = run.late.max(late);
            run.add(outcome);
            progress.inc(1);
            if run.served < run.ended() {
                progress.set_message(format!("{} without a script", run.ended() - run.served));
            }
        }
        run.elapsed = started.elapsed();
        progress.finish_and_clear();
        Ok(run)
    }
}

/// Drawn on stderr, and only where that is a terminal.
fn progress(mode: &'static str, agents: u32) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{prefix:>9} [{bar:40}] {pos}/{len} agents, {elapsed} {msg}")?;
    let progress = ProgressBar::new(agents.into()).with_style(style.progress_chars("=> ")).with_prefix(mode);
    progress.enable_steady_tick(Duration::from_millis(100));
    Ok(progress)
}
