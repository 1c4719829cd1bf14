//! What became of each script lately, to tell an overloaded service from a broken script.
//!
//! "Invalid script definition" may mean either. Two facts decide: whether attempts for the same id succeed and fail by turns
//! (load), and whether an attempt sent in calm fails too (the script). *By turns* goes by the order of sending: a success sent
//! after a failure. A success sent before says nothing, as a script can break between the two; when everyone's script breaks
//! at nine o'clock, no success follows, and nothing is retried. Other ids that fail at the same time prove nothing either, as
//! one publish can break two scripts: they only ask for more calm before a script is called broken.
//!
//! Until it is decided, one call an id re-tries, and the others that failed wait for what it finds.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::overload::{Held, Sent, Turn};

/// Outcomes for one id this close together, by turns, are mixed.
const MIXED: Duration = Duration::from_secs(5);
/// The service is not calm this long after another id was found to fail for load.
const UNREST: Duration = Duration::from_secs(2);
/// A broken script is remembered this long.
const BROKEN: Duration = Duration::from_secs(30);
/// After so many failures and no success, what happened before proves nothing any more.
const LONG_RUN: u32 = 8;

/// What is known of each id, of the latest `capacity` ids.
#[derive(Debug)]
pub(crate) struct History {
    hasher: RandomState,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    entries: Entries,
    /// Ids that were found to fail for load, and ids that failed, nobody knows why.
    unrest: Recent,
    doubts: Recent,
    troubles: u64,
}

/// What happened to one id.
#[derive(Debug, Default)]
struct Entry {
    /// The success sent last.
    success: Option<Sent>,
    /// How long a success took.
    took: Duration,
    /// The failures since.
    run: Option<Run>,
    /// When last its outcomes were found mixed.
    mixed: Option<Instant>,
    broken_until: Option<Instant>,
    trouble: Option<Trouble>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    first: Sent,
    /// The one with the fewest in flight.
    calmest: Sent,
    last_at: Instant,
    failures: u32,
}

/// An undecided failure: one call re-tries, the others watch.
#[derive(Debug)]
struct Trouble {
    number: u64,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Probing,
    /// The call that re-tried left; another may.
    Free,
    Overload,
    Broken,
}

/// The last id something happened to, and the last one other than that.
#[derive(Debug, Default)]
struct Recent {
    latest: Option<(u64, Instant)>,
    other: Option<(u64, Instant)>,
}

impl Recent {
    fn note(&mut self, id: u64, now: Instant) {
        if self.latest.is_some_and(|(latest, _)| latest != id) {
            self.other = self.latest;
        }
        self.latest = Some((id, now));
    }

    fn forget(&mut self, id: u64) {
        self.other = self.other.filter(|(other, _)| *other != id);
        if self.latest.is_some_and(|(latest, _)| latest == id) {
            self.latest = self.other.take();
        }
    }

    /// Until when it counts that it happened to other ids than this.
    fn others_until(&self, id: u64) -> Option<Instant> {
        let other = self.latest.filter(|(latest, _)| *latest != id).or(self.other);
        other.and_then(|(_, at)| at.checked_add(UNREST))
    }

    fn others_at(&self, id: u64, at: Instant) -> bool {
        self.others_until(id).is_some_and(|until| at < until)
    }
}

/// Two generations of entries, so that dropping the oldest costs nothing per call.
#[derive(Debug)]
struct Entries {
    young: HashMap<Box<str>, Entry>,
    old: HashMap<Box<str>, Entry>,
    half: usize,
}

impl Entries {
    fn get(&mut self, id: &str) -> Option<&mut Entry> {
        if !self.young.contains_key(id) {
            let (id, entry) = self.old.remove_entry(id)?;
            return Some(self.add(id, entry));
        }
        self.young.get_mut(id)
    }

    fn get_or_add(&mut self, id: &str) -> &mut Entry {
        let (id, entry) = match self.young.remove_entry(id).or_else(|| self.old.remove_entry(id)) {
            Some(known) => known,
            None => (id.into(), Entry::default()),
        };
        self.add(id, entry)
    }

    fn add(&mut self, id: Box<str>, entry: Entry) -> &mut Entry {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.entry(id).or_insert(entry)
    }
}

/// What "Invalid script definition" means this time.
#[derive(Debug)]
pub(crate) enum Verdict<'a> {
    /// The service was overloaded: the permit is `overloaded`; try again.
    Overload,
    /// The script is broken: the permit is `neutral`; do not try again.
    Broken,
    /// Not known yet, and this call finds out: the permit is `undecided`; try again as [`Probe::turn`] says.
    Probe(Probe<'a>),
    /// Not known yet, and another call finds out: the permit is `undecided`; see [`Wait::verdict`].
    Wait(Wait<'a>),
    /// The deadline came first.
    Unknown,
}

impl History {
    pub(crate) fn new(capacity: usize) -> Self {
        let entries = Entries { young: HashMap::new(), old: HashMap::new(), half: (capacity / 2).max(1) };
        let hasher = RandomState::new();
        let memory = Memory { entries, unrest: Recent::default(), doubts: Recent::default(), troubles: 0 };
        Self { hasher, memory: Mutex::new(memory) }
    }

    /// An attempt for this id succeeded. It may prove that an earlier one failed for load: that one is returned, for
    /// [`Overload::decide_overloaded`](super::overload::Overload::decide_overloaded).
    pub(crate) fn success(&self, id: &str, sent: Sent, now: Instant) -> Option<Sent> {
        let mut memory = self.lock();
        if let Some(entry) = memory.entries.young.get_mut(id)
            && entry.run.is_none()
        {
            // The way of nearly every call.
            entry.succeeded(sent, now);
            return None;
        }
        let entry = memory.entries.get_or_add(id);
        entry.succeeded(sent, now);
        let run = entry.run.take_if(|run| run.first.number < sent.number)?;
        if now.saturating_duration_since(run.last_at) > MIXED {
            return None;
        }
        let hash = self.hasher.hash_one(id);
        memory.overloaded(id, hash, now);
        Some(run.calmest)
    }

    /// An attempt for this id failed with "Invalid script definition". `probe` when this attempt was one.
    pub(crate) fn invalid<'a>(
        &'a self,
        id: &'a str,
        sent: Sent,
        now: Instant,
        probe: Option<Probe<'a>>,
    ) -> Verdict<'a> {
        let hash = self.hasher.hash_one(id);
        let judged = self.lock().judge(id, hash, sent, now, probe.as_ref().map(|probe| probe.trial));
        match judged {
            Judged::Overload => Verdict::Overload,
            Judged::Broken => Verdict::Broken,
            Judged::Wait(progress) => Verdict::Wait(Wait { history: self, id, hash, sent, progress }),
            Judged::Probe(trial) => {
                if let Some(mut probe) = probe.filter(|probe| probe.trial.number == trial.number) {
                    probe.trial = trial;
                    Verdict::Probe(probe)
                } else {
                    Verdict::Probe(Probe { history: self, id, hash, trial })
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // Every change below is complete before anything could panic.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn succeeded(&mut self, sent: Sent, now: Instant) {
        if self.success.is_none_or(|success| success.number < sent.number) {
            self.success = Some(sent);
            self.took = now.saturating_duration_since(sent.at);
        }
        self.broken_until = None;
    }
}

/// [`Verdict`], before it is tied to the history.
enum Judged {
    Overload,
    Broken,
    Probe(Trial),
    Wait(watch::Receiver<Progress>),
}

/// One call's attempt to find out.
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// The trouble it is about.
    number: u64,
    /// In calm: among so many in flight.
    at_most: u32,
    tries: u32,
    /// What was sent with the attempt that failed should have been answered by then.
    not_before: Option<Instant>,
}

impl Memory {
    fn judge(&mut self, id: &str, hash: u64, sent: Sent, now: Instant, trial: Option<Trial>) -> Judged {
        let near = |at: Instant, within: Duration| now.saturating_duration_since(at) <= within;
        let entry = self.entries.get_or_add(id);
        if entry.broken_until.is_some_and(|until| now < until) {
            return Judged::Broken;
        }
        // The answer to an attempt sent later was faster: outcomes by turns, already.
        if entry.success.is_some_and(|success| success.number > sent.number && near(success.at, MIXED)) {
            self.overloaded(id, hash, now);
            return Judged::Overload;
        }
        let run = entry.run.get_or_insert(Run { first: sent, calmest: sent, last_at: now, failures: 0 });
        run.last_at = now;
        if sent.in_flight < run.calmest.in_flight {
            run.calmest = sent;
        }
        if sent.number < run.first.number {
            run.first = sent;
        }
        run.failures = run.failures.saturating_add(1);
        let failures = run.failures;
        let mixed = entry.mixed.is_some_and(|at| near(at, MIXED));
        if (mixed && failures < LONG_RUN) || (failures == 1 && self.unrest.others_at(hash, now)) {
            return Judged::Overload;
        }
        self.undecided(id, hash, sent, now, trial)
    }

    /// The probe's call left. It may have been decided since.
    fn take_over(&mut self, id: &str, hash: u64, failed: Sent, now: Instant) -> Judged {
        let entry = self.entries.get_or_add(id);
        if entry.broken_until.is_some_and(|until| now < until) {
            return Judged::Broken;
        }
        if entry.run.is_none() {
            return Judged::Overload;
        }
        self.undecided(id, hash, failed, now, None)
    }

    fn undecided(&mut self, id: &str, hash: u64, sent: Sent, now: Instant, trial: Option<Trial>) -> Judged {
        let calm = !self.unrest.others_at(hash, sent.at);
        self.doubts.note(hash, now);
        let doubts = self.doubts.others_at(hash, sent.at);
        let entry = self.entries.get_or_add(id);
        let trial = trial.filter(|trial| entry.trouble.as_ref().is_some_and(|trouble| trouble.number == trial.number));
        if let Some(trial) = trial {
            let tries = trial.tries.saturating_add(1);
            if !calm || sent.in_flight > trial.at_most {
                return Judged::Probe(Trial { tries, ..trial });
            }
            if doubts && sent.in_flight > 1 {
                // Several broken scripts, or a quarter is still too much.
                let at_most = calmer(sent.in_flight);
                return Judged::Probe(Trial { tries, at_most, ..trial });
            }
            self.doubts.forget(hash);
            entry.broken_until = now.checked_add(BROKEN);
            entry.run = None;
            entry.mixed = None;
            if let Some(trouble) = entry.trouble.take() {
                trouble.progress.send_replace(Progress::Broken);
            }
            return Judged::Broken;
        }
        if let Some(trouble) = &entry.trouble {
            if *trouble.progress.borrow() == Progress::Probing {
                return Judged::Wait(trouble.progress.subscribe());
            }
            trouble.progress.send_replace(Progress::Probing);
            return Judged::Probe(Trial::new(trouble.number, sent, entry.took));
        }
        self.troubles += 1;
        entry.trouble = Some(Trouble { number: self.troubles, progress: watch::Sender::new(Progress::Probing) });
        Judged::Probe(Trial::new(self.troubles, sent, entry.took))
    }

    /// It is the load that makes this id fail.
    fn overloaded(&mut self, id: &str, hash: u64, now: Instant) {
        self.unrest.note(hash, now);
        if let Some(entry) = self.entries.get(id) {
            entry.mixed = Some(now);
            if let Some(trouble) = entry.trouble.take() {
                trouble.progress.send_replace(Progress::Overload);
            }
        }
    }
}

/// A quarter of the others there were, and itself. Where the level fell far, half of what failed is still too much.
fn calmer(in_flight: u32) -> u32 {
    in_flight.saturating_sub(1) / 4 + 1
}

impl Trial {
    fn new(number: u64, failed: Sent, took: Duration) -> Self {
        let not_before = failed.at.checked_add((took * 2).min(UNREST));
        Self { number, at_most: calmer(failed.in_flight), tries: 0, not_before }
    }
}

/// The right, and the duty, to re-try for all calls that failed with an id. Dropped, it passes to one of them.
#[derive(Debug)]
#[must_use]
pub(crate) struct Probe<'a> {
    history: &'a History,
    id: &'a str,
    hash: u64,
    trial: Trial,
}

impl Probe<'_> {
    /// Waits one backoff, then says how to re-try. Amid unrest a re-try cannot prove the script broken, though it may well
    /// succeed, so the last one waits for calm. None when that would be after the deadline: [`Verdict::Unknown`]. The slot is
    /// held for the first backoff alone.
    pub(crate) async fn turn(
        &self,
        held: &mut Option<Held<'_>>,
        backoff: Duration,
        attempts_left: u32,
        deadline: Instant,
    ) -> Option<Turn> {
        let calm = Turn::Calm { at_most: self.trial.at_most };
        let mut start = Instant::now().checked_add(backoff)?;
        if self.trial.tries > 0 {
            held.take();
        }
        loop {
            if start > deadline {
                return None;
            }
            sleep_until(start).await;
            let now = Instant::now();
            let unrest = self.history.lock().unrest.others_until(self.hash).filter(|until| *until > now);
            start = match (self.trial.not_before, unrest) {
                (Some(not_before), _) if not_before > now => not_before,
                (_, None) => return Some(calm),
                (_, Some(_)) if self.trial.tries == 0 && attempts_left > 1 => return Some(Turn::Again),
                (_, Some(_)) if attempts_left > 1 => return Some(calm),
                (_, Some(until)) => until,
            };
            held.take();
        }
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        let mut memory = self.history.lock();
        if let Some(entry) = memory.entries.get(self.id)
            && let Some(trouble) = entry.trouble.as_ref().filter(|trouble| trouble.number == self.trial.number)
        {
            trouble.progress.send_replace(Progress::Free);
        }
    }
}

/// A failure that another call's [`Probe`] will explain.
#[derive(Debug)]
#[must_use]
pub(crate) struct Wait<'a> {
    history: &'a History,
    id: &'a str,
    hash: u64,
    sent: Sent,
    progress: watch::Receiver<Progress>,
}

impl<'a> Wait<'a> {
    /// What was found; never [`Verdict::Wait`]. The probe may be passed on to this call. The slot is held for one backoff, and
    /// is still there when this call may try again sooner.
    pub(crate) async fn verdict(
        mut self,
        held: &mut Option<Held<'_>>,
        backoff: Duration,
        deadline: Instant,
    ) -> Verdict<'a> {
        let until = Instant::now().checked_add(backoff).unwrap_or(deadline).min(deadline);
        let found = self.progress.wait_for(|progress| *progress != Progress::Probing);
        if timeout_at(until, found).await.is_err() {
            held.take();
        }
        loop {
            let found = self.progress.wait_for(|progress| *progress != Progress::Probing);
            let progress = match timeout_at(deadline, found).await {
                Err(_) => return Verdict::Unknown,
                // Forgotten, for want of room. The next attempt tells.
                Ok(found) => found.map_or(Progress::Overload, |progress| *progress),
            };
            match progress {
                Progress::Overload => return Verdict::Overload,
                Progress::Broken => return Verdict::Broken,
                Progress::Probing | Progress::Free => {}
            }
            let judged = self.history.lock().take_over(self.id, self.hash, self.sent, Instant::now());
            match judged {
                Judged::Overload => return Verdict::Overload,
                Judged::Broken => return Verdict::Broken,
                Judged::Wait(progress) => self.progress = progress,
                Judged::Probe(trial) => {
                    return Verdict::Probe(Probe { history: self.history, id: self.id, hash: self.hash, trial });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use tokio::time::{advance, timeout};

    use super::*;

    const BACKOFF: Duration = Duration::from_millis(100);

    /// Attempts are numbered as they are sent; they take 20 ms.
    struct Attempts(u64);

    impl Attempts {
        fn send(&mut self, in_flight: u32) -> Sent {
            self.0 += 1;
            Sent::example(self.0, in_flight, Instant::now())
        }
    }

    fn history() -> (History, Attempts) {
        (History::new(100), Attempts(0))
    }

    fn fail<'a>(history: &'a History, id: &'a str, sent: Sent) -> Verdict<'a> {
        history.invalid(id, sent, Instant::now(), None)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(100)
    }

    async fn probe<'a>(verdict: Verdict<'a>) -> (Probe<'a>, Turn) {
        let Verdict::Probe(probe) = verdict else { panic!("{verdict:?}") };
        let turn = probe.turn(&mut None, BACKOFF, 4, soon()).await.unwrap();
        (probe, turn)
    }

    async fn broken(history: &History, id: &str, attempts: &mut Attempts) {
        let (probe, turn) = probe(fail(history, id, attempts.send(9))).await;
        assert_eq!(turn, Turn::Calm { at_most: 3 });
        assert!(matches!(history.invalid(id, attempts.send(3), Instant::now(), Some(probe)), Verdict::Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_sent_after_a_failure_proves_overload() {
        let (history, mut attempts) = history();
        let (before, failed, after) = (attempts.send(1), attempts.send(2), attempts.send(3));
        let _probe = fail(&history, "id", failed);
        assert_eq!(history.success("id", before, Instant::now()), None);
        let Verdict::Wait(wait) = fail(&history, "id", attempts.send(3)) else { panic!() };
        assert_eq!(history.success("id", after, Instant::now()), Some(failed));
        assert!(matches!(wait.verdict(&mut None, BACKOFF, soon()).await, Verdict::Overload));
        // For five seconds there is no doubt.
        assert!(matches!(fail(&history, "id", attempts.send(3)), Verdict::Overload));
        assert_eq!(history.success("id", attempts.send(3), Instant::now()).map(|sent| sent.number), Some(5));
        advance(Duration::from_secs(6)).await;
        assert!(matches!(fail(&history, "id", attempts.send(3)), Verdict::Probe(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_answered_after_a_later_success_proves_it_too() {
        let (history, mut attempts) = history();
        let (first, second) = (attempts.send(1), attempts.send(2));
        assert_eq!(history.success("id", second, Instant::now()), None);
        assert!(matches!(fail(&history, "id", first), Verdict::Overload));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_success_proves_nothing() {
        let (history, mut attempts) = history();
        drop(fail(&history, "id", attempts.send(1)));
        advance(Duration::from_secs(6)).await;
        assert_eq!(history.success("id", attempts.send(1), Instant::now()), None);
        assert!(matches!(fail(&history, "id", attempts.send(1)), Verdict::Probe(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn broken_after_one_calm_retry_remembered_and_cleared() {
        let (history, mut attempts) = history();
        history.success("id", attempts.send(1), Instant::now());
        broken(&history, "id", &mut attempts).await;
        advance(Duration::from_secs(29)).await;
        assert!(matches!(fail(&history, "id", attempts.send(9)), Verdict::Broken));
        assert!(matches!(fail(&history, "other", attempts.send(9)), Verdict::Probe(_)));
        advance(Duration::from_secs(2)).await;
        broken(&history, "id", &mut attempts).await;
        // Mended: no proof of overload, and a clean slate.
        assert_eq!(history.success("id", attempts.send(1), Instant::now()), None);
        assert!(matches!(fail(&history, "id", attempts.send(9)), Verdict::Probe(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_retries_for_all() {
        let (history, mut attempts) = history();
        let (probe, _) = probe(fail(&history, "id", attempts.send(9))).await;
        let mut waits = Vec::new();
        for _ in 0..20 {
            let Verdict::Wait(wait) = fail(&history, "id", attempts.send(9)) else { panic!() };
            waits.push(wait);
        }
        assert!(matches!(history.invalid("id", attempts.send(3), Instant::now(), Some(probe)), Verdict::Broken));
        for wait in waits {
            assert!(matches!(wait.verdict(&mut None, BACKOFF, soon()).await, Verdict::Broken));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_call_left_passes_on() {
        let (history, mut attempts) = history();
        let (probe, _) = probe(fail(&history, "id", attempts.send(9))).await;
        let Verdict::Wait(first) = fail(&history, "id", attempts.send(9)) else { panic!() };
        let Verdict::Wait(second) = fail(&history, "id", attempts.send(9)) else { panic!() };
        drop(probe);
        let Verdict::Probe(probe) = first.verdict(&mut None, BACKOFF, soon()).await else { panic!() };
        let mut held = None;
        let second = second.verdict(&mut held, BACKOFF, soon());
        tokio::pin!(second);
        assert!(timeout(Duration::from_secs(1), second.as_mut()).await.is_err());
        assert!(matches!(history.invalid("id", attempts.send(1), Instant::now(), Some(probe)), Verdict::Broken));
        assert!(matches!(second.await, Verdict::Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_past_the_deadline() {
        let (history, mut attempts) = history();
        let Verdict::Probe(probe) = fail(&history, "id", attempts.send(9)) else { panic!() };
        let Verdict::Wait(wait) = fail(&history, "id", attempts.send(9)) else { panic!() };
        let deadline = Instant::now() + Duration::from_millis(50);
        assert_eq!(probe.turn(&mut None, BACKOFF, 4, deadline).await, None);
        assert!(matches!(wait.verdict(&mut None, BACKOFF, deadline).await, Verdict::Unknown));
        assert_eq!(Instant::now(), deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn amid_unrest_a_failed_retry_proves_nothing() {
        let (history, mut attempts) = history();
        // Another id is found to fail for load.
        let failed = attempts.send(9);
        drop(fail(&history, "other", failed));
        assert_eq!(history.success("other", attempts.send(9), Instant::now()), Some(failed));
        // So will this one, once; but not for ever.
        assert!(matches!(fail(&history, "id", attempts.send(9)), Verdict::Overload));
        let (probe, turn) = probe(fail(&history, "id", attempts.send(9))).await;
        assert_eq!(turn, Turn::Again);
        let Verdict::Probe(probe) = history.invalid("id", attempts.send(1), Instant::now(), Some(probe)) else {
            panic!()
        };
        assert_eq!(probe.turn(&mut None, BACKOFF, 2, soon()).await, Some(Turn::Calm { at_most: 3 }));
        let Verdict::Probe(probe) = history.invalid("id", attempts.send(1), Instant::now(), Some(probe)) else {
            panic!()
        };
        // The last attempt waits for the unrest to end.
        let start = Instant::now();
        assert_eq!(probe.turn(&mut None, BACKOFF, 1, soon()).await, Some(Turn::Calm { at_most: 3 }));
        assert!(start.elapsed() > Duration::from_secs(1));
        assert!(matches!(history.invalid("id", attempts.send(1), Instant::now(), Some(probe)), Verdict::Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_in_flight_or_other_doubts_ask_for_more_calm() {
        let (history, mut attempts) = history();
        let (one, _) = probe(fail(&history, "id", attempts.send(81))).await;
        let Verdict::Probe(one) = history.invalid("id", attempts.send(22), Instant::now(), Some(one)) else { panic!() };
        assert_eq!(one.turn(&mut None, BACKOFF, 4, soon()).await, Some(Turn::Calm { at_most: 21 }));
        let _other = fail(&history, "other", attempts.send(21));
        let Verdict::Probe(one) = history.invalid("id", attempts.send(21), Instant::now(), Some(one)) else { panic!() };
        assert_eq!(one.turn(&mut None, BACKOFF, 3, soon()).await, Some(Turn::Calm { at_most: 6 }));
        // Alone, there is no doubt.
        assert!(matches!(history.invalid("id", attempts.send(1), Instant::now(), Some(one)), Verdict::Broken));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_run_of_failures_is_doubted_even_amid_overload() {
        let (history, mut attempts) = history();
        let failed = attempts.send(9);
        drop(fail(&history, "id", failed));
        assert_eq!(history.success("id", attempts.send(9), Instant::now()), Some(failed));
        let overload = (0..20)
            .map(|_| fail(&history, "id", attempts.send(9)))
            .take_while(|verdict| matches!(verdict, Verdict::Overload))
            .count();
        assert_eq!(overload, LONG_RUN as usize - 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_is_bounded() {
        let (history, mut attempts) = history();
        let ids: Vec<_> = (0..1_000).map(|n| format!("id {n}")).collect();
        let Verdict::Probe(_probe) = fail(&history, "forgotten", attempts.send(9)) else { panic!() };
        let Verdict::Wait(wait) = fail(&history, "forgotten", attempts.send(9)) else { panic!() };
        for id in &ids {
            history.success(id, attempts.send(1), Instant::now());
            let memory = history.lock();
            assert!(memory.entries.young.len() + memory.entries.old.len() <= 100);
        }
        // Who waited for what is forgotten tries again.
        assert!(matches!(wait.verdict(&mut None, BACKOFF, soon()).await, Verdict::Overload));
    }
}
