//! Who waits at a gate: first come, first served.
//!
//! Whoever leaves, served or not, wakes the next two; so a thousand waiters cost a few wake-ups each, and a waiter that is dropped
//! wedges nobody. Nor does one that nobody runs any more, like a future that is kept and not polled: the one behind it sees
//! that it does not go, and it is passed over. Should it be run, it comes before the others again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::retry::after;

/// When the call began, then the order of arrival: a call that comes back is before the younger ones.
pub(super) type Position = (Instant, u64);

/// Who could go, and in so long does not, is passed over.
pub(super) const STANDS_STILL: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Queue {
    waiting: BTreeMap<Position, Waiter>,
    arrivals: u64,
}

struct Waiter {
    deadline: Instant,
    wake: Arc<Notify>,
    /// When it could be served, where that is after its deadline.
    too_late: Option<Instant>,
    /// Since when it could go as the first, as far as somebody behind it has seen.
    free_since: Option<Instant>,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody is before this position, which need not be taken.
    pub(super) fn is_first(&self, position: Position) -> bool {
        self.waiting.first_key_value().is_none_or(|(first, _)| position <= *first)
    }

    /// How many are before this position.
    pub(super) fn before(&self, position: Position) -> usize {
        match self.waiting.last_key_value() {
            Some((last, _)) if position < *last => self.waiting.range(..position).count(),
            _ => self.waiting.len(),
        }
    }

    pub(super) fn join(&mut self, begun: Instant, deadline: Instant) -> (Position, Arc<Notify>) {
        self.arrivals += 1;
        let (position, wake) = ((begun, self.arrivals), Arc::new(Notify::new()));
        self.stay(position, deadline, &wake);
        (position, wake)
    }

    /// Takes the place again, if it was passed over; whether it was.
    pub(super) fn stay(&mut self, position: Position, deadline: Instant, wake: &Arc<Notify>) -> bool {
        let was = self.waiting.len();
        let new = || Waiter { deadline, wake: Arc::clone(wake), too_late: None, free_since: None };
        self.waiting.entry(position).or_insert_with(new);
        self.waiting.len() > was
    }

    /// Whoever was behind the one that leaves may be the first now.
    pub(super) fn leave(&mut self, position: Position) {
        if self.waiting.remove(&position).is_some() {
            self.wake_first();
        }
    }

    /// Where the first can go now, could for a while, and has not, all before this position are passed over. Those of them that
    /// are run come back at once.
    pub(super) fn pass_over(&mut self, position: Position, is_free: bool, now: Instant) -> bool {
        let Some(mut first) = self.waiting.first_entry() else { return true };
        let first = first.get_mut();
        if !is_free {
            first.free_since = None;
            return false;
        }
        let over = now >= after(*first.free_since.get_or_insert(now), STANDS_STILL);
        if over {
            let rest = self.waiting.split_off(&position);
            self.wake_all();
            self.waiting = rest;
        }
        over
    }

    /// And the one behind it, who sees whether it goes.
    pub(super) fn wake_first(&self) {
        self.waiting.values().take(2).for_each(|waiter| waiter.wake.notify_one());
    }

    pub(super) fn wake_all(&self) {
        self.waiting.values().for_each(|waiter| waiter.wake.notify_one());
    }

    /// Wakes all that `served` (of how many are before) says will be served after their deadline.
    pub(super) fn give_up_hope(&mut self, served: impl Fn(usize) -> Option<Instant>) {
        for (before, waiter) in self.waiting.values_mut().enumerate() {
            waiter.too_late = served(before).filter(|served| *served > waiter.deadline);
            if waiter.too_late.is_some() {
                waiter.wake.notify_one();
            }
        }
    }

    /// When the one that waits here could be served, where that is after its deadline.
    pub(super) fn too_late(&self, position: Position) -> Option<Instant> {
        self.waiting.get(&position)?.too_late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_began_earlier_is_before_and_of_the_same_moment_who_came_earlier() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let began = |seconds| now + Duration::from_secs(seconds);
        let late = began(100);
        assert!((queue.len(), queue.before((now, u64::MAX)), queue.is_first((now, u64::MAX))) == (0, 0, true));
        let joined = [(5, 2), (3, 0), (5, 3), (3, 1)].map(|(start, place)| (queue.join(began(start), late).0, place));
        assert_eq!(queue.len(), joined.len());
        for (position, place) in joined {
            assert_eq!(queue.is_first(position), place == 0);
        }
        // Who has not joined is behind those of its moment.
        let places = [(2, 0), (3, 2), (4, 2), (5, 4), (6, 4)];
        assert!(places.iter().all(|(start, place)| queue.before((began(*start), u64::MAX)) == *place));
        for (position, _) in joined {
            queue.leave(position);
        }
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_could_go_for_a_while_and_does_not_is_passed_over_until_it_is_seen_again() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let late = now + Duration::from_secs(100);
        let [(still, wake), (live, _)] = [(), ()].map(|()| queue.join(now, late));
        assert!(!queue.pass_over(live, true, now) && !queue.pass_over(live, true, now + STANDS_STILL / 2));
        // It was shut again meanwhile, so nobody could go.
        assert!(
            !queue.pass_over(live, false, now + STANDS_STILL / 2) && !queue.pass_over(live, true, now + STANDS_STILL)
        );
        assert!(queue.pass_over(live, true, now + STANDS_STILL * 2));
        assert!(queue.is_first(live) && queue.len() == 1);
        queue.stay(still, late, &wake);
        assert!(queue.is_first(still) && !queue.is_first(live) && queue.len() == 2);
        queue.leave(still);
        queue.leave(still);
        assert!(queue.is_first(live) && queue.len() == 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_will_be_served_too_late_is_told_and_no_other() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        let joined = [10, 10, 30].map(|deadline| queue.join(now, at(deadline)).0);
        queue.give_up_hope(|before| Some(at(10 * (before as u64 + 1))));
        assert_eq!(joined.map(|position| queue.too_late(position)), [None, Some(at(20)), None]);
        queue.give_up_hope(|_| None);
        assert_eq!(joined.map(|position| queue.too_late(position)), [None; 3]);
    }
}
