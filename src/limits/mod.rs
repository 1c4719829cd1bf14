//! What a call waits for: small state machines without I/O, driven by `call.rs`.

pub(crate) mod evidence;
pub(crate) mod in_flight;
pub(crate) mod login;
pub(crate) mod outage;
mod queue;
pub(crate) mod quota;
pub(crate) mod window;

use std::sync::Arc;

use reqwest::Url;

use crate::metrics::Meter;
use crate::request::Operation;

/// One operation of a host: whether it is up, and what of it fares how.
pub(crate) struct Route {
    pub(crate) share: in_flight::Share,
    pub(crate) outage: outage::Outage,
    pub(crate) evidence: evidence::Evidence,
    pub(crate) meter: Arc<Meter>,
}

impl Route {
    pub(crate) fn new(operation: &'static Operation, base: &Url, in_flight: &in_flight::InFlight) -> Self {
        let meter = Arc::new(Meter::new(operation, base));
        let outage = outage::Outage::new(in_flight.most_waiting, Arc::clone(&meter));
        Self { share: in_flight.share(), outage, evidence: evidence::Evidence::default(), meter }
    }

    /// Whatever it learned, and whoever waits for it.
    pub(crate) fn forget(&self) {
        self.outage.forget();
        self.evidence.forget();
    }
}
