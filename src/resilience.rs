//! The switch for incidents: whether calls are held back, or made as they come.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a client learns from failures and holds calls back for it. A switch for an incident in which nobody is sure that the
/// client helps.
///
/// **On**, the default: an operation that is down is asked by one attempt each second, and the others wait or fail at once; a script
/// that alone fails is not tried again.
///
/// **Off**: calls are made as they come, and nothing is remembered of what failed: no outage is waited for or reported, no script
/// is taken for broken, and a `400` is explained without how others fared. All else stays: retries with their backoff, quotas,
/// 429 and `Retry-After`, the bounds on what is in flight, timeouts, one login at a time.
///
/// Set when the client is built ([`ClientBuilder::resilience`](crate::ClientBuilder::resilience)) or at any time while it runs
/// ([`Client::set_resilience`](crate::Client::set_resilience)).
///
/// ```
/// use genesys_scripts::{Client, Region, Resilience};
///
/// let client = Client::builder(Region::EU_CENTRAL_1).build()?;
/// // An operator's switch: whoever waits for an outage is sent now.
/// client.set_resilience(Resilience::off());
/// assert!(!client.resilience().is_on());
/// client.set_resilience(Resilience::on());
/// # Ok::<(), genesys_scripts::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resilience {
    on: bool,
}

impl Resilience {
    /// Learns from failures, and holds calls back for it.
    #[must_use]
    pub const fn on() -> Self {
        Self { on: true }
    }

    /// Makes calls as they come, and remembers no failure.
    #[must_use]
    pub const fn off() -> Self {
        Self { on: false }
    }

    /// Whether it is on.
    #[must_use]
    pub const fn is_on(self) -> bool {
        self.on
    }
}

impl Default for Resilience {
    fn default() -> Self {
        Self::on()
    }
}

/// The switch itself, read by every attempt.
#[derive(Debug)]
pub(crate) struct Switch(AtomicBool);

impl Switch {
    pub(crate) fn new(resilience: Resilience) -> Self {
        Self(AtomicBool::new(resilience.on))
    }

    pub(crate) fn get(&self) -> Resilience {
        Resilience { on: self.0.load(Ordering::Relaxed) }
    }

    /// Gives how it was.
    pub(crate) fn set(&self, resilience: Resilience) -> Resilience {
        Resilience { on: self.0.swap(resilience.on, Ordering::Relaxed) }
    }
}
