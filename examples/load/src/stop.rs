//! Ctrl-C and SIGTERM: the run ends with the report of what was done; a second time it ends at once.

use std::process::ExitCode;

use tokio::sync::watch;

use crate::output;

#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<Option<Signal>>);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    /// As a shell tells of a process that one of them ended.
    fn code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    pub(crate) fn exit_code(self) -> ExitCode {
        self.code().into()
    }
}

impl Stop {
    pub(crate) fn on_signals() -> std::io::Result<Self> {
        let (tell, told) = watch::channel(None);
        let mut signals = Signals::new()?;
        tokio::spawn(async move {
            let first = signals.next().await;
            let _ = tell.send(Some(first));
            output::tell("\nending; what was done is reported (again to end at once)");
            let again = signals.next().await;
            output::tell_what_is_left();
            std::process::exit(again.code().into());
        });
        Ok(Self(told))
    }

    pub(crate) fn signal(&self) -> Option<Signal> {
        *self.0.borrow()
    }

    /// Returns when it was asked for.
    pub(crate) async fn asked(&self) {
        if self.0.clone().wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::Interrupt
    }
}
