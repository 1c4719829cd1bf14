//! How many attempts may be in flight to a host: a bound that protects this machine's memory and open files, no guess at what
//! the service bears.

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::error::ErrorKind;

/// The slots of one host, given first come, first served.
pub(crate) struct InFlight {
    slots: Semaphore,
    bound: usize,
    waiting: Semaphore,
    pub(super) most_waiting: usize,
}

/// What of its host's slots one route may take while other routes are in use: not the last eighth, so that a route that
/// hangs leaves room for the others.
pub(crate) struct Share(Semaphore);

/// A slot in flight, given back when it is dropped.
pub(crate) struct Slot<'a> {
    _of_route: Option<SemaphorePermit<'a>>,
    _of_host: SemaphorePermit<'a>,
}

impl InFlight {
    pub(crate) fn new(bound: usize, most_waiting: usize) -> Self {
        let most_waiting = most_waiting.min(Semaphore::MAX_PERMITS);
        let bound = bound.clamp(1, Semaphore::MAX_PERMITS);
        Self { slots: Semaphore::new(bound), bound, waiting: Semaphore::new(most_waiting), most_waiting }
    }

    pub(crate) fn share(&self) -> Share {
        Share(Semaphore::new(self.bound - self.bound / 8))
    }

    /// A slot, if one is free; within the share of its route where there are others.
    pub(crate) fn free<'a>(&'a self, share: Option<&'a Share>) -> Option<Slot<'a>> {
        let of_route = match share {
            Some(Share(share)) => Some(share.try_acquire().ok()?),
            None => None,
        };
        Some(Slot { _of_route: of_route, _of_host: self.slots.try_acquire().ok()? })
    }

    /// The same, waited for; or why there is none at this host.
    pub(crate) async fn slot<'a>(
        &'a self,
        share: Option<&'a Share>,
        deadline: Instant,
        host: &str,
    ) -> Result<Slot<'a>, (ErrorKind, String)> {
        if let Some(slot) = self.free(share) {
            return Ok(slot);
        }
        let (most, bound) = (self.most_waiting, self.bound);
        let _waiting = self.waiting.try_acquire().map_err(|_| {
            let what = format!("{most} calls wait for {host} already (`max_waiting`), and {bound} are in flight");
            (ErrorKind::Unavailable, what)
        })?;
        // The semaphores are never closed.
        let both = async {
            let of_route = match share {
                Some(Share(share)) => Some(share.acquire().await.ok()?),
                None => None,
            };
            Some(Slot { _of_route: of_route, _of_host: self.slots.acquire().await.ok()? })
        };
        timeout_at(deadline, both).await.ok().flatten().ok_or_else(|| {
            let what =
                format!("the call's time ran out while {bound} others were in flight to {host} (`max_in_flight`)");
            (ErrorKind::Timeout, what)
        })
    }

    pub(crate) fn taken(&self) -> usize {
        self.bound.saturating_sub(self.slots.available_permits())
    }

    pub(crate) fn waiting(&self) -> usize {
        self.most_waiting.saturating_sub(self.waiting.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_counted_until_it_is_given_back() {
        let in_flight = InFlight::new(8, 1);
        let share = in_flight.share();
        let slots: Vec<_> = std::iter::from_fn(|| in_flight.free(Some(&share))).collect();
        // The last eighth is for other routes.
        assert_eq!((slots.len(), in_flight.taken()), (7, 7));
        let other = in_flight.free(None);
        assert_eq!(in_flight.taken(), 8);
        assert!(other.is_some() && in_flight.free(None).is_none());
        drop((slots, other));
        assert_eq!(in_flight.taken(), 0);
    }
    #[tokio::test(start_paused = true)]
    async fn who_waits_is_counted() {
        let in_flight = InFlight::new(1, 1);
        let taken = in_flight.free(None);
        let waits = in_flight.slot(None, Instant::now() + std::time::Duration::from_secs(1), "host");
        let looks = async {
            assert_eq!(in_flight.waiting(), 1);
            drop(taken);
        };
        assert!(futures_util::future::join(waits, looks).await.0.is_ok());
        assert_eq!(in_flight.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_one_too_many_is_told_how_many_wait_and_are_in_flight() {
        for (bound, most) in [(1, 0), (2, 3), (3, 2)] {
            let in_flight = InFlight::new(bound, most);
            let taken: Vec<_> = std::iter::from_fn(|| in_flight.free(None)).collect();
            let deadline = Instant::now() + std::time::Duration::from_secs(1);
            let calls = (0..=most)
                .map(|_| async { in_flight.slot(None, deadline, "host").await.map_err(|(_, what)| what).err() });
            let told: Vec<_> = futures_util::future::join_all(calls).await.into_iter().flatten().collect();
            let too_many: Vec<_> = told.iter().filter(|told| told.contains("max_waiting")).collect();
            let numbers = [format!("{most} calls"), format!(" {bound} are in flight")];
            assert!(matches!(too_many[..], [one] if numbers.iter().all(|number| one.contains(number))), "{told:?}");
            drop(taken);
        }
    }
}
