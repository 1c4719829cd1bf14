//! What a call waits for: small state machines without I/O, driven by `call.rs`.

pub(crate) mod evidence;
pub(crate) mod in_flight;
pub(crate) mod login;
pub(crate) mod outage;
mod queue;
pub(crate) mod quota;
pub(crate) mod window;

/// One operation of a host: whether it is up, and what of it fares how.
pub(crate) struct Route {
    pub(crate) share: in_flight::Share,
    pub(crate) outage: outage::Outage,
    pub(crate) evidence: evidence::Evidence,
}

impl Route {
    pub(crate) fn new(of: &in_flight::InFlight, most_waiting: usize) -> Self {
        let outage = outage::Outage::new(most_waiting);
        Self { share: of.share(), outage, evidence: evidence::Evidence::default() }
    }

    /// Whatever it learned, and whoever waits for it.
    pub(crate) fn forget(&self) {
        self.outage.forget();
        self.evidence.forget();
    }
}
