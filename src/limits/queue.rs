//! Who waits at a gate: first come, first served.
//!
//! Only the first in the queue keeps a timer. Whoever leaves it first, served or not, wakes the next; so a thousand waiters
//! cost one wake-up each, and a waiter that is dropped wedges nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;

/// When the call began, then the order of arrival: a call that comes back keeps its place among the younger ones.
pub(super) type Place = (Instant, u64);

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<Place, Waiter>,
    arrivals: u64,
}

#[derive(Debug)]
struct Waiter {
    deadline: Instant,
    wake: Arc<Notify>,
    /// It cannot be served in time.
    hopeless: bool,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a call that began then would be the first.
    pub(super) fn would_be_first(&self, begun: Instant) -> bool {
        self.waiting.first_key_value().is_none_or(|((first, _), _)| begun < *first)
    }

    /// How many would be before a call that began then.
    pub(super) fn before(&self, begun: Instant) -> usize {
        match self.waiting.last_key_value() {
            Some(((last, _), _)) if begun < *last => self.waiting.range(..=(begun, u64::MAX)).count(),
            _ => self.waiting.len(),
        }
    }

    pub(super) fn join(&mut self, begun: Instant, deadline: Instant) -> (Place, Arc<Notify>) {
        self.arrivals += 1;
        let place = (begun, self.arrivals);
        let wake = Arc::new(Notify::new());
        self.waiting.insert(place, Waiter { deadline, wake: Arc::clone(&wake), hopeless: false });
        (place, wake)
    }

    /// Whoever was behind the one that leaves may be the first now.
    pub(super) fn leave(&mut self, place: Place) {
        if self.waiting.remove(&place).is_some() {
            self.wake_first();
        }
    }

    pub(super) fn is_first(&self, place: Place) -> bool {
        self.waiting.first_key_value().is_some_and(|(first, _)| *first == place)
    }

    pub(super) fn wake_first(&self) {
        if let Some((_, waiter)) = self.waiting.first_key_value() {
            waiter.wake.notify_one();
        }
    }

    pub(super) fn wake_all(&self) {
        for waiter in self.waiting.values() {
            waiter.wake.notify_one();
        }
    }

    /// Wakes all that `served` (of how many are before) says will be served after their deadline.
    pub(super) fn give_up_hope(&mut self, served: impl Fn(usize) -> Option<Instant>) {
        for (before, waiter) in self.waiting.values_mut().enumerate() {
            if served(before).is_some_and(|served| served > waiter.deadline) {
                waiter.hopeless = true;
                waiter.wake.notify_one();
            }
        }
    }

    pub(super) fn is_hopeless(&self, place: Place) -> bool {
        self.waiting.get(&place).is_some_and(|waiter| waiter.hopeless)
    }
}
