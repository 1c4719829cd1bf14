//! How it goes, on stderr: a line that is drawn over where that is a terminal, one now and then where it is not.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, interval_at};

use crate::output;
use crate::recorder::Recorder;

/// Draws until dropped.
pub(crate) struct Progress {
    task: tokio::task::JoinHandle<()>,
    terminal: bool,
}

impl Progress {
    pub(crate) fn of(mode: &'static str, planned: Option<u64>, recorder: &Arc<Recorder>) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let every = if terminal { Duration::from_millis(200) } else { Duration::from_secs(10) };
        let recorder = Arc::clone(recorder);
        let task = tokio::spawn(async move {
            let mut ticks = interval_at(Instant::now() + every, every);
            let mut before = 0;
            loop {
                ticks.tick().await;
                let Some(standing) = recorder.standing() else { return };
                let ended = standing.served + standing.failed;
                let line = format!(
                    "{mode:>9} {:>6.1} s: {} served, {} failed{}, {:.0}/s, p99 {:.1} ms, {} in flight",
                    recorder.began.elapsed().as_secs_f64(),
                    standing.served,
                    standing.failed,
                    planned.map(|planned| format!(" of {planned}")).unwrap_or_default(),
                    (ended - before) as f64 / every.as_secs_f64(),
                    standing.p99_ms,
                    standing.in_flight,
                );
                before = ended;
                if terminal { draw(&line) } else { output::tell(&line) }
            }
        });
        Self { task, terminal }
    }
}

/// Over what was drawn before.
fn draw(line: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "\r\x1b[2K{line}").and_then(|()| stderr.flush());
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.task.abort();
        if self.terminal {
            draw("");
        }
    }
}
