//! How many attempts may be in flight to a host: a bound that protects this machine's memory and open files, no guess at what
//! the service bears.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// The places of one host, given first come, first served.
pub(crate) struct InFlight {
    places: Semaphore,
    bound: usize,
    waiting: AtomicUsize,
    most_waiting: usize,
}

/// What of its host's places one route may take while other routes are in use: not the last eighth, so that a route that
/// hangs leaves room for the others.
pub(crate) struct Share(Semaphore);

/// A place in flight, given back when it is dropped.
pub(crate) struct Place<'a> {
    _of_route: Option<SemaphorePermit<'a>>,
    _of_host: SemaphorePermit<'a>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// As many wait as may.
    QueueFull,
    /// None was free before the deadline.
    Deadline,
}

impl InFlight {
    pub(crate) fn new(bound: usize, most_waiting: usize) -> Self {
        let bound = bound.clamp(1, Semaphore::MAX_PERMITS);
        Self { places: Semaphore::new(bound), bound, waiting: AtomicUsize::new(0), most_waiting }
    }

    pub(crate) fn share(&self) -> Share {
        Share(Semaphore::new(self.bound - self.bound / 8))
    }

    /// A place, if one is free.
    pub(crate) fn free<'a>(&'a self, share: Option<&'a Share>) -> Option<Place<'a>> {
        let of_route = match share {
            Some(Share(share)) => Some(share.try_acquire().ok()?),
            None => None,
        };
        Some(Place { _of_route: of_route, _of_host: self.places.try_acquire().ok()? })
    }

    /// A place, within the share of its route where there are others.
    pub(crate) async fn place<'a>(&'a self, share: Option<&'a Share>, deadline: Instant) -> Result<Place<'a>, NoPlace> {
        let of_route = match share {
            Some(Share(share)) => Some(self.of(share, deadline).await?),
            None => None,
        };
        Ok(Place { _of_route: of_route, _of_host: self.of(&self.places, deadline).await? })
    }

    async fn of<'a>(&self, places: &'a Semaphore, deadline: Instant) -> Result<SemaphorePermit<'a>, NoPlace> {
        if let Ok(place) = places.try_acquire() {
            return Ok(place);
        }
        let _waiting = Waiting::new(self).ok_or(NoPlace::QueueFull)?;
        // The semaphore is never closed.
        match timeout_at(deadline, places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(NoPlace::Deadline),
        }
    }

    pub(crate) fn bound(&self) -> usize {
        self.bound
    }

    pub(crate) fn most_waiting(&self) -> usize {
        self.most_waiting
    }

    pub(crate) fn taken(&self) -> usize {
        self.bound.saturating_sub(self.places.available_permits())
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

struct Waiting<'a>(&'a InFlight);

impl<'a> Waiting<'a> {
    fn new(of: &'a InFlight) -> Option<Self> {
        let waiting = of.waiting.fetch_add(1, Ordering::Relaxed);
        let waits = Self(of);
        (waiting < of.most_waiting).then_some(waits)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
