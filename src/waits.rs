//! What a call waits for, and how long: for its span and for metrics. A call that waits for nothing pays nothing.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::Meter;

/// What a call waits for before an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The agent's token: a login.
    Login,
    /// The quota of the operation; of a login, the limit of its OAuth client.
    Quota,
    /// The end of an outage.
    Outage,
    /// A place in flight or on a connection, or the first connection to a host.
    InFlight,
    /// The pause after a failure.
    Backoff,
}

impl Wait {
    pub(crate) const ALL: [Self; 5] = [Self::Login, Self::Quota, Self::Outage, Self::InFlight, Self::Backoff];

    /// The field of a call's span.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Self::Login => "genesys_scripts.wait.login",
            Self::Quota => "genesys_scripts.wait.quota",
            Self::Outage => "genesys_scripts.wait.outage",
            Self::InFlight => "genesys_scripts.wait.in_flight",
            Self::Backoff => "genesys_scripts.wait.backoff",
        }
    }

    /// The label of a metric.
    #[cfg(feature = "metrics")]
    pub(crate) fn name(self) -> &'static str {
        self.field().trim_start_matches("genesys_scripts.wait.")
    }
}

/// How long one call has waited for each.
#[derive(Default)]
pub(crate) struct Waits(Option<Box<[Duration; Wait::ALL.len()]>>);

impl Waits {
    /// The outcome of this, timed if it is not there at once.
    pub(crate) async fn on<T>(&mut self, why: Wait, meter: &Meter, mut what: Pin<&mut impl Future<Output = T>>) -> T {
        if let Poll::Ready(there) = poll_fn(|context| Poll::Ready(what.as_mut().poll(context))).await {
            return there;
        }
        let (since, _waiting) = (Instant::now(), meter.waiting(why));
        let outcome = what.await;
        let took = since.elapsed();
        meter.waited(why, took);
        let waits = self.0.get_or_insert_default();
        if let Some(so_far) = waits.get_mut(why as usize) {
            *so_far = so_far.saturating_add(took);
        }
        outcome
    }

    /// Those that it had to wait for, with how long.
    pub(crate) fn each(&self) -> impl Iterator<Item = (Wait, Duration)> {
        let waits = self.0.as_deref().copied().unwrap_or_default();
        Wait::ALL.into_iter().zip(waits).filter(|(_, took)| !took.is_zero())
    }
}
