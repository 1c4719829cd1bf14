//! An outage of a route: nothing but failures. It is found out without making anyone wait, and then asked by one attempt at a
//! time; the others wait for that one's answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use crate::retry::after;

/// So many calls' first attempts fail in a row, over at least this long, without a success of the route between them. What was
/// not served of late may be broken itself, and counts once.
const ROW: u32 = 10;
const OVER: Duration = Duration::from_secs(1);
/// Failures further apart are no row.
const STALE: Duration = Duration::from_secs(30);
/// The pauses between two probes; the last one repeats.
const PAUSES: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1)];
/// For an outage that is older than an attempt may take, nobody waits longer than for one more probe, or this long.
const ONE_PROBE: Duration = Duration::from_millis(1_500);

/// Whether a route is down, and when it is asked again.
#[derive(Default)]
pub(crate) struct Outage {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// First attempts that failed in a row, and of what that may be broken itself.
    row: u32,
    doubtful: Vec<u64>,
    last_failed: Option<Instant>,
    /// When the first of them was sent, and when it had failed.
    row_began: Option<(Instant, Instant)>,
    down: Option<Down>,
    /// When the last attempt that was answered was sent: what was sent before and fails later speaks of before.
    answered: Option<Instant>,
}

struct Down {
    since: Instant,
    probes: usize,
    failed_probes: u64,
    next_probe: Instant,
    last: String,
}

impl Down {
    fn is_old(&self, patience: Patience, now: Instant) -> bool {
        patience.young.is_some_and(|young| now.saturating_duration_since(self.since) >= young)
    }

    fn told(&self) -> IsDown {
        IsDown { next_probe: self.next_probe, last: self.last.clone() }
    }
}

/// An attempt that was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) leave: Leave,
    pub(crate) sent: Instant,
    pub(crate) counts: Counts,
}

/// Whether a failure counts towards an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    /// It is not the first attempt of its call.
    No,
    /// Once for this key, which was not served of late.
    Once(u64),
    Yes,
}

/// Leave to send one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Freely,
    /// To find out whether the outage is over.
    AsProbe,
}

/// Nobody is sent for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IsDown {
    pub(crate) next_probe: Instant,
    /// What the last failure was.
    pub(crate) last: String,
}

/// An outage, as it stands.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) since: Instant,
    pub(crate) next_probe: Instant,
    pub(crate) last: String,
}

/// How long a call waits for an outage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) deadline: Instant,
    /// An outage older than this is waited for no longer than for one more probe; none rides out any.
    pub(crate) young: Option<Duration>,
}

impl Outage {
    /// Waits until an attempt may be sent.
    pub(crate) async fn admit(&self, patience: Patience) -> Result<Leave, IsDown> {
        let mut one_probe = None;
        loop {
            let changed = self.changed.notified();
            let until = {
                let now = Instant::now();
                let mut state = self.lock();
                let Some(down) = &mut state.down else { return Ok(Leave::Freely) };
                if now >= down.next_probe {
                    down.next_probe = after(now, pause(down.probes));
                    down.probes = down.probes.saturating_add(1);
                    return Ok(Leave::AsProbe);
                }
                // What is asked again only after the deadline is not waited for.
                let mut until = if down.next_probe >= patience.deadline { now } else { patience.deadline };
                if down.is_old(patience, now) {
                    let (failed, give_up) = *one_probe.get_or_insert((down.failed_probes, after(now, ONE_PROBE)));
                    until = until.min(give_up);
                    if down.failed_probes > failed {
                        until = now;
                    }
                }
                if now >= until {
                    return Err(down.told());
                }
                until.min(down.next_probe)
            };
            let _ = timeout_at(until, changed).await;
        }
    }

    /// The route answered an attempt sent then: whatever it was, it is up.
    pub(crate) fn answered(&self, sent: Instant) {
        let mut state = self.lock();
        state.answered = state.answered.max(Some(sent));
        (state.row, state.row_began) = (0, None);
        state.doubtful.clear();
        if state.down.take().is_some() {
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Where it is down, what came last and when it is asked again.
    pub(crate) fn down(&self) -> Option<IsDown> {
        self.lock().down.as_ref().map(Down::told)
    }

    /// Where it is down, since when, when it is asked again, and what came last.
    pub(crate) fn standing(&self) -> Option<Standing> {
        let state = self.lock();
        let down = state.down.as_ref()?;
        Some(Standing { since: down.since, next_probe: down.next_probe, last: down.last.clone() })
    }

    /// Where it is down, when it is asked again.
    pub(crate) fn next_probe(&self) -> Option<Instant> {
        self.lock().down.as_ref().map(|down| down.next_probe)
    }

    /// An attempt sent then failed: by a 5xx, or without an answer. Where it was the one probe that its call waits for, the call
    /// is over.
    pub(crate) fn failed(&self, attempt: Attempt, patience: Patience, what: Failed) -> Option<IsDown> {
        let Attempt { leave, sent, counts } = attempt;
        let now = Instant::now();
        let mut state = self.lock();
        let wait = what.wait.unwrap_or_default();
        if let Some(down) = &mut state.down {
            if leave != Leave::AsProbe {
                return None;
            }
            down.failed_probes += 1;
            down.last = what.text;
            down.next_probe = down.next_probe.max(after(now, wait));
            let over = down.is_old(patience, now).then(|| down.told());
            drop(state);
            self.changed.notify_waiters();
            return over;
        }
        if state.answered.is_some_and(|answered| sent <= answered) {
            return None;
        }
        if state.last_failed.is_some_and(|last| now.saturating_duration_since(last) > STALE) {
            (state.row, state.row_began) = (0, None);
            state.doubtful.clear();
        }
        state.last_failed = Some(now);
        match counts {
            Counts::No => {}
            // Enough failed already; it is a matter of time.
            _ if state.row >= ROW => {}
            Counts::Once(key) if state.doubtful.contains(&key) => {}
            Counts::Once(key) => {
                state.doubtful.push(key);
                state.row = state.row.saturating_add(1);
            }
            Counts::Yes => state.row = state.row.saturating_add(1),
        }
        if state.row == 0 {
            return None;
        }
        let (since, failed) = *state.row_began.get_or_insert((sent, now));
        if state.row >= ROW && now.saturating_duration_since(failed) >= OVER {
            let next_probe = after(now, wait);
            state.down = Some(Down { since, probes: 0, failed_probes: 0, next_probe, last: what.text });
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A failure that speaks of the route.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) text: String,
    /// The `Retry-After` of a 503.
    pub(crate) wait: Option<Duration>,
}

fn pause(probes: usize) -> Duration {
    PAUSES.get(probes).or(PAUSES.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use tokio::time::sleep;

    use super::*;

    const YOUNG: Duration = Duration::from_secs(15);

    fn refused() -> Failed {
        Failed { text: "it answered 503".to_owned(), wait: None }
    }

    fn fail(outage: &Outage, leave: Leave, sent: Instant, first_of_call: bool, what: Failed) -> Option<IsDown> {
        let counts = if first_of_call { Counts::Yes } else { Counts::No };
        outage.failed(Attempt { leave, sent, counts }, patience(60), what)
    }

    fn patience(seconds: u64) -> Patience {
        Patience { deadline: Instant::now() + Duration::from_secs(seconds), young: Some(YOUNG) }
    }

    /// Calls fail one after another, over this long.
    async fn failing(outage: &Outage, calls: u32, over: Duration) {
        for call in 0..calls {
            if call > 0 {
                sleep(over / (calls - 1)).await;
            }
            fail(outage, Leave::Freely, Instant::now(), true, refused());
        }
    }

    async fn down() -> Outage {
        let outage = Outage::default();
        failing(&outage, ROW, OVER).await;
        assert!(outage.next_probe().is_some());
        outage
    }

    #[tokio::test(start_paused = true)]
    async fn ten_failed_calls_in_a_row_over_a_second_are_an_outage_and_nothing_less() {
        let outage = Outage::default();
        failing(&outage, 9, OVER).await;
        assert_eq!(outage.next_probe(), None, "nine");
        fail(&outage, Leave::Freely, Instant::now(), true, refused());
        assert!(outage.next_probe().is_some(), "the tenth");

        let outage = Outage::default();
        failing(&outage, 100, OVER / 2).await;
        assert_eq!(outage.next_probe(), None, "in half a second");

        let outage = Outage::default();
        failing(&outage, 9, OVER).await;
        outage.answered(Instant::now());
        failing(&outage, 9, OVER).await;
        assert_eq!(outage.next_probe(), None, "a success between them");

        let outage = Outage::default();
        for _ in 0..100 {
            sleep(OVER / 20).await;
            fail(&outage, Leave::Freely, Instant::now(), false, refused());
        }
        assert_eq!(outage.next_probe(), None, "of one call that is tried again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_broken_scripts_that_are_asked_for_again_and_again_are_no_outage() {
        let outage = Outage::default();
        for call in 0..100 {
            sleep(OVER / 20).await;
            let attempt = Attempt { leave: Leave::Freely, sent: Instant::now(), counts: Counts::Once(call % 9) };
            outage.failed(attempt, patience(60), refused());
        }
        assert_eq!(outage.next_probe(), None, "nine scripts");
        let attempt = Attempt { leave: Leave::Freely, sent: Instant::now(), counts: Counts::Once(9) };
        outage.failed(attempt, patience(60), refused());
        assert!(outage.next_probe().is_some(), "ten");
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_asks_at_growing_distances_while_the_others_wait() {
        let outage = Arc::new(down().await);
        let began = Instant::now();
        let mut at = Vec::new();
        let waiting = {
            let outage = Arc::clone(&outage);
            tokio::spawn(async move { outage.admit(patience(60)).await.map(|leave| (leave, Instant::now())) })
        };
        // The one that waits is the first probe itself.
        assert_eq!(waiting.await.unwrap().unwrap().0, Leave::AsProbe);
        at.push(began.elapsed());
        for _ in 0..4 {
            assert_eq!(outage.admit(patience(60)).await.unwrap(), Leave::AsProbe);
            at.push(began.elapsed());
        }
        let at: Vec<_> = at.iter().map(Duration::as_millis).collect();
        assert_eq!(at, [0, 250, 750, 1_750, 2_750]);
    }

    #[tokio::test(start_paused = true)]
    async fn any_answer_ends_it_for_all_who_wait() {
        let outage = Arc::new(down().await);
        assert_eq!(outage.admit(patience(60)).await.unwrap(), Leave::AsProbe);
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let outage = Arc::clone(&outage);
                tokio::spawn(async move { outage.admit(patience(60)).await })
            })
            .collect();
        sleep(Duration::from_millis(100)).await;
        let ended = Instant::now();
        outage.answered(Instant::now());
        for call in waiting {
            assert_eq!(call.await.unwrap().unwrap(), Leave::Freely);
        }
        assert_eq!(ended.elapsed(), Duration::ZERO);
        assert_eq!(outage.next_probe(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_outage_is_waited_for_no_longer_than_for_one_more_probe() {
        let outage = Arc::new(down().await);
        sleep(YOUNG).await;
        assert_eq!(outage.admit(patience(100)).await.unwrap(), Leave::AsProbe);
        let asked = Instant::now();
        let waiting = {
            let outage = Arc::clone(&outage);
            tokio::spawn(async move { outage.admit(patience(100)).await.map(|leave| (leave, Instant::now())) })
        };
        sleep(Duration::from_millis(100)).await;
        fail(&outage, Leave::AsProbe, asked, false, refused());
        let told = waiting.await.unwrap().unwrap_err();
        assert_eq!(asked.elapsed(), Duration::from_millis(100), "as soon as that probe failed");
        assert_eq!(told, IsDown { next_probe: asked + Duration::from_millis(250), last: "it answered 503".to_owned() });
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_probes_of_an_old_outage_hang_nobody_waits_for_their_end() {
        let outage = Arc::new(down().await);
        sleep(YOUNG).await;
        let asked = Instant::now();
        let calls: Vec<_> = (0..10)
            .map(|_| {
                let outage = Arc::clone(&outage);
                tokio::spawn(async move { outage.admit(patience(100)).await })
            })
            .collect();
        let mut told = 0;
        for call in calls {
            told += u32::from(call.await.unwrap().is_err());
        }
        // The others are the probes of that time.
        assert!(told >= 6, "{told} of 10");
        assert!(asked.elapsed() <= Duration::from_secs(2), "{:?}", asked.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_rides_it_out_waits_until_the_deadline() {
        let outage = down().await;
        let until = Instant::now() + Duration::from_secs(90);
        while Instant::now() + Duration::from_secs(2) < until {
            let leave = outage.admit(Patience { deadline: until, young: None }).await.unwrap();
            fail(&outage, leave, Instant::now(), false, refused());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_that_a_503_asks_for_is_a_floor() {
        let outage = down().await;
        assert_eq!(outage.admit(patience(60)).await.unwrap(), Leave::AsProbe);
        let wait = Some(Duration::from_secs(7));
        fail(&outage, Leave::AsProbe, Instant::now(), false, Failed { wait, ..refused() });
        let asked = Instant::now();
        assert_eq!(outage.admit(patience(60)).await.unwrap(), Leave::AsProbe);
        assert_eq!(asked.elapsed(), Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_be_let_through_in_time_is_told_with_when_it_is_asked_again() {
        let outage = down().await;
        let wait = Some(Duration::from_secs(30));
        assert_eq!(outage.admit(patience(60)).await.unwrap(), Leave::AsProbe);
        fail(&outage, Leave::AsProbe, Instant::now(), false, Failed { wait, ..refused() });
        let asked = Instant::now();
        let told = outage.admit(patience(5)).await.unwrap_err();
        assert_eq!(asked.elapsed(), Duration::ZERO, "at once: nothing can change before");
        assert_eq!(told.next_probe, asked + Duration::from_secs(30));
    }
}
