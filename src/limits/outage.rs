//! An outage of a route: nothing but failures. It is found out without making anyone wait, and then asked about by one attempt
//! each second; the others wait for an answer to any of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, ErrorKind};
use crate::metrics::{Meter, Raised};
use crate::retry::after;

/// So many calls' first attempts fail in a row, over at least this long, without a success of the route between them. What was
/// not served of late, while others were, may be broken itself, and counts once.
const ROW: u32 = 10;
const ROW_LASTS: Duration = Duration::from_secs(1);
/// So many are an outage without a further moment: by repeating them all, a herd would spend its quota within that second.
const AT_ONCE: u32 = 30;
/// While nothing failed that was served of late, and fewer than so many different things, all of these may be broken: only they
/// wait, and whatever did not fail in the row goes at once.
const MANY_KEYS: usize = 30;
/// While fewer than so many agents failed in the row it may be their tokens: whoever is none of them goes at once.
const MANY_AGENTS: usize = 10;
/// Failures further apart are no row, and an outage that nobody asked about for so long is waited for like a new one: more than
/// the minute that calls may wait for a new quota.
const STALE: Duration = Duration::from_secs(90);
/// The pauses between two probes; the last one repeats.
const PAUSES: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1)];
/// For an outage that is older than an attempt may take, nobody waits longer than for one more probe, or this long.
const ONE_PROBE: Duration = Duration::from_millis(1_500);
/// A call that was made before the outage was that old waits until it is as old as this itself, and ends before a proxy in front of
/// its caller cuts it off, often after 30 s.
const OWN_TIME: Duration = Duration::from_secs(25);

/// Whether a route is down, and when it is asked again.
pub(crate) struct Outage {
    state: Mutex<State>,
    changed: Notify,
    /// So many may wait.
    waiting: Semaphore,
    meter: Arc<Meter>,
}

#[derive(Default)]
struct State {
    row: Row,
    last_failed: Option<Instant>,
    down: Option<Down>,
    /// When the last attempt that was answered was sent: what was sent before and fails later speaks of before.
    answered: Option<Instant>,
}

/// First attempts that failed, without a success between them.
#[derive(Default)]
struct Row {
    length: u32,
    /// What may be broken itself; no more than [`MANY_KEYS`].
    doubtful: Vec<u64>,
    /// It is not what was asked for that fails.
    is_certain: bool,
    /// Whose calls failed; no more than [`MANY_AGENTS`].
    agents: Vec<u64>,
    /// When the first of them was sent, and since when it failed.
    began: Option<(Instant, Instant)>,
}

impl Row {
    fn count(&mut self, counts: Counts, call: &Patience) {
        self.is_certain |= counts == Counts::Yes;
        add(&mut self.agents, MANY_AGENTS, call.who);
        let may_be_broken = matches!(counts, Counts::Once | Counts::Unknown);
        let is_new = may_be_broken && add(&mut self.doubtful, MANY_KEYS, call.key);
        let counted = is_new || matches!(counts, Counts::Yes | Counts::Unknown);
        self.length = self.length.saturating_add(u32::from(counted));
    }

    /// Whether nothing yet speaks against what the call asks for, or against whose it is.
    fn is_open_to(&self, call: &Patience) -> bool {
        let spares = |failed: &[u64], most, one| failed.len() < most && !failed.contains(&one);
        !self.is_certain && spares(&self.doubtful, MANY_KEYS, call.key) || spares(&self.agents, MANY_AGENTS, call.who)
    }
}

/// Notes one that failed, unless so many are noted; whether it was not among them.
fn add(failed: &mut Vec<u64>, most: usize, one: u64) -> bool {
    let is_new = !failed.contains(&one);
    if is_new && failed.len() < most {
        failed.push(one);
    }
    is_new
}

struct Down {
    /// Since when it is asked about: what was found out last night says nothing of this morning.
    asked_since: Instant,
    probes: usize,
    failed_probes: u64,
    told: IsDown,
    _down: Raised,
}

/// What an attempt is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    Normal,
    /// To find out whether the outage is over.
    Probe,
}

/// Whether a failure counts towards an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    /// It is not the first attempt of its call.
    No,
    /// Once for its key, which was not served of late.
    Once,
    /// For its key; nothing was served of late.
    Unknown,
    Yes,
}

/// A failure that speaks of the route.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) text: String,
    /// It was not answered in its time: all that time speaks of the route.
    pub(crate) silent: bool,
    /// The `Retry-After` of a 503.
    pub(crate) wait: Option<Duration>,
}

/// Nobody is sent for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IsDown {
    pub(crate) since: Instant,
    pub(crate) next_probe: Instant,
    /// What the last failure was.
    pub(crate) last: String,
}

impl IsDown {
    /// With what the call's last attempt met.
    pub(crate) fn into_error(self, host: &str, operation: &str, last: Option<Error>) -> Error {
        let Self { since, next_probe, last: met } = self;
        let now = Instant::now();
        let lasts = now.saturating_duration_since(since).as_secs();
        let what = format!("{host} has failed every `{operation}` for {lasts} s (last, {met})");
        Error::instead_of(last, ErrorKind::Unavailable, what)
            .with_retry_after(Some(next_probe.saturating_duration_since(now)))
    }
}

/// For how long a call waits for an outage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// When the call was made, and when its time is over.
    pub(crate) started: Instant,
    pub(crate) deadline: Instant,
    /// An outage that is as old is waited for no longer than for one more probe; none rides out any.
    pub(crate) oldest: Option<Duration>,
    /// What it asks for, and whose it is.
    pub(crate) key: u64,
    pub(crate) who: u64,
    /// That is known to be broken: it would find out nothing, and so is no probe.
    pub(crate) is_broken: bool,
    /// How many probes had failed when it began to wait for one more, and until when it waits.
    pub(crate) one_more: Option<(u64, Instant)>,
}

impl Patience {
    /// From when on the call waits for one more probe at most.
    fn one_more_from(&self, down: &Down) -> Option<Instant> {
        let old = after(down.asked_since, self.oldest?);
        Some(if self.started < old { old.max(after(self.started, OWN_TIME)) } else { old })
    }

    /// Until when the call waits for this outage.
    fn ends(&mut self, down: &Down, now: Instant) -> Instant {
        let over = self.one_more_from(down).unwrap_or(self.deadline);
        // What is asked again only after its time is not waited for.
        if self.is_broken || down.told.next_probe >= after(over.max(now), ONE_PROBE).min(self.deadline) {
            return now;
        }
        if now < over {
            return over.min(self.deadline);
        }
        let (failed, until) = *self.one_more.get_or_insert((down.failed_probes, after(now, ONE_PROBE)));
        if down.failed_probes > failed { now } else { until.min(self.deadline) }
    }
}

impl Outage {
    pub(crate) fn new(most_waiting: usize, meter: Arc<Meter>) -> Self {
        let waiting = Semaphore::new(most_waiting.min(Semaphore::MAX_PERMITS));
        Self { state: Mutex::default(), changed: Notify::new(), waiting, meter }
    }

    /// Waits until an attempt could be sent, if it may wait that long, and not too many do.
    pub(crate) async fn wait(&self, call: &mut Patience) -> Result<(), IsDown> {
        let mut waiting = None;
        loop {
            let changed = self.changed.notified();
            let until = {
                let now = Instant::now();
                let state = self.lock();
                let Some(down) = &state.down else { return Ok(()) };
                if state.row.is_open_to(call) || !call.is_broken && now >= down.told.next_probe {
                    return Ok(());
                }
                waiting = waiting.or_else(|| self.waiting.try_acquire().ok());
                let ends = call.ends(down, now);
                if now >= ends || waiting.is_none() {
                    return Err(down.told.clone());
                }
                ends.min(down.told.next_probe)
            };
            let _ = timeout_at(until, changed).await;
        }
    }

    /// Returns as soon as the call, which waits for something else, would wait for an outage no longer.
    pub(crate) async fn outlasts(&self, mut call: Patience) -> IsDown {
        loop {
            let changed = self.changed.notified();
            let ends = {
                let (now, state) = (Instant::now(), self.lock());
                match &state.down {
                    Some(down) if now < down.told.next_probe && !state.row.is_open_to(&call) => {
                        let ends = call.ends(down, now);
                        if now >= ends {
                            return down.told.clone();
                        }
                        Some(ends)
                    }
                    // Where nobody asks when it is due, it may be over: the call waits on.
                    _ => None,
                }
            };
            match ends {
                Some(ends) => drop(timeout_at(ends, changed).await),
                None => {
                    call.one_more = None;
                    changed.await;
                }
            }
        }
    }

    /// What an attempt that is sent now is sent for; none where it must wait.
    pub(crate) fn take(&self, call: &Patience, now: Instant) -> Option<Permit> {
        let mut state = self.lock();
        let State { row, down, .. } = &mut *state;
        let Some(down) = down.as_mut().filter(|_| !row.is_open_to(call)) else { return Some(Permit::Normal) };
        if call.is_broken || now < down.told.next_probe {
            return None;
        }
        if now > after(down.told.next_probe, STALE) {
            (down.asked_since, down.probes) = (now, 0);
        }
        down.told.next_probe = after(now, PAUSES.get(down.probes).or(PAUSES.last()).copied().unwrap_or_default());
        down.probes = down.probes.saturating_add(1);
        drop(state);
        // Who waits for something else may have taken it for over.
        self.changed.notify_waiters();
        Some(Permit::Probe)
    }

    /// Until when a call waits for the answer to a probe that it sends now; none where that may take as long as an attempt may.
    pub(crate) fn waits_for_probe(&self, call: &Patience, now: Instant) -> Option<Instant> {
        let state = self.lock();
        let from = call.one_more_from(state.down.as_ref()?)?;
        Some(after(from.max(now), ONE_PROBE))
    }

    /// The route answered an attempt sent then: whatever it was, it is up.
    pub(crate) fn answered(&self, sent: Instant) {
        let mut state = self.lock();
        state.answered = state.answered.max(Some(sent));
        state.row = Row::default();
        if state.down.take().is_some() {
            drop(state);
            self.changed.notify_waiters();
        }
    }

    /// Where it is down, since when, when it is asked again, and what came last.
    pub(crate) fn standing(&self) -> Option<IsDown> {
        self.lock().down.as_ref().map(|down| down.told.clone())
    }

    /// As if it had never failed: who waits is sent.
    pub(crate) fn forget(&self) {
        *self.lock() = State::default();
        self.changed.notify_waiters();
    }

    /// An attempt sent then failed: by a 5xx, or without an answer. Where it was the one probe that its call waits for, the call
    /// is over.
    pub(crate) fn failed(
        &self,
        permit: Permit,
        sent: Instant,
        counts: Counts,
        call: &Patience,
        what: Failed,
        now: Instant,
    ) -> Option<IsDown> {
        let mut state = self.lock();
        let State { row, down, last_failed, answered } = &mut *state;
        if answered.is_some_and(|answered| sent <= answered) {
            return None;
        }
        if down.is_none() && last_failed.is_some_and(|last| now.saturating_duration_since(last) > STALE) {
            *row = Row::default();
        }
        *last_failed = Some(now);
        row.count(counts, call);
        let next_probe = after(now, what.wait.unwrap_or_default());
        let over = match down {
            Some(down) if permit == Permit::Probe => {
                down.failed_probes += 1;
                down.told.last = what.text;
                down.told.next_probe = down.told.next_probe.max(next_probe);
                call.one_more_from(down).filter(|from| now >= *from).map(|_| down.told.clone())
            }
            None if row.length > 0 => {
                let (since, failed) = *row.began.get_or_insert((sent, if what.silent { sent } else { now }));
                let lasts = now.saturating_duration_since(failed) >= ROW_LASTS;
                if row.length < AT_ONCE && !(row.length >= ROW && lasts) {
                    return None;
                }
                let told = IsDown { since, next_probe, last: what.text };
                let _down = self.meter.down();
                *down = Some(Down { asked_since: since, probes: 0, failed_probes: 0, told, _down });
                None
            }
            _ => return None,
        };
        drop(state);
        self.changed.notify_waiters();
        over
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::time::{sleep, timeout};

    use super::*;

    const YOUNG: Duration = Duration::from_secs(15);
    const KEY: u64 = 7;

    fn refused() -> Failed {
        Failed { text: "it answered 503".to_owned(), silent: false, wait: None }
    }

    fn fresh() -> Outage {
        bounded(20_000)
    }

    fn bounded(most_waiting: usize) -> Outage {
        let base = "https://api.example".parse().unwrap();
        Outage::new(most_waiting, Arc::new(Meter::new(&crate::request::GET_SCRIPT, &base)))
    }

    fn fail(outage: &Outage, permit: Permit, sent: Instant, first_of_call: bool, what: Failed) -> Option<IsDown> {
        let counts = if first_of_call { Counts::Yes } else { Counts::No };
        outage.failed(permit, sent, counts, &within(100), what, Instant::now())
    }

    fn within(seconds: u64) -> Patience {
        let (started, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(seconds));
        Patience { started, deadline, oldest: Some(YOUNG), key: KEY, who: 1, is_broken: false, one_more: None }
    }

    #[tokio::test(start_paused = true)]
    async fn whose_calls_have_not_failed_go_at_once_while_it_may_be_the_others_tokens() {
        let outage = fresh();
        let of = |who| Patience { who, ..within(100) };
        let goes = |who| outage.take(&of(who), Instant::now());
        let fails =
            |who| drop(outage.failed(Permit::Normal, Instant::now(), Counts::Yes, &of(who), refused(), Instant::now()));
        (0..AT_ONCE).for_each(|_| fails(1));
        assert_eq!((goes(1), goes(1)), (Some(Permit::Probe), None), "it is down, for the one that met it");
        let many = MANY_AGENTS as u64;
        for who in 2..=many {
            assert_eq!((goes(who), outage.wait(&mut of(who)).await), (Some(Permit::Normal), Ok(())), "{who}");
            fails(who);
            assert_eq!(goes(who), None, "{who} has met it too");
        }
        assert_eq!(goes(many + 1), None, "so many tokens at once are not refused");
    }

    fn fail_as(outage: &Outage, counts: Counts, key: u64) {
        let call = Patience { key, ..within(100) };
        outage.failed(Permit::Normal, Instant::now(), counts, &call, refused(), Instant::now());
    }

    /// As `call.rs` does it.
    async fn admit(outage: &Outage, mut call: Patience) -> Result<Permit, IsDown> {
        loop {
            outage.wait(&mut call).await?;
            if let Some(permit) = outage.take(&call, Instant::now()) {
                return Ok(permit);
            }
        }
    }

    /// Calls fail one after another, over this long.
    async fn failing(outage: &Outage, calls: u32, over: Duration) {
        for call in 0..calls {
            if call > 0 {
                sleep(over / (calls - 1)).await;
            }
            fail(outage, Permit::Normal, Instant::now(), true, refused());
        }
    }

    async fn down() -> Outage {
        let outage = fresh();
        failing(&outage, ROW, ROW_LASTS).await;
        assert!(outage.standing().is_some());
        outage
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_that_nobody_asked_about_for_long_is_waited_for_like_a_new_one() {
        let outage = Arc::new(down().await);
        sleep(Duration::from_secs(11 * 3_600)).await;
        let began = Instant::now();
        assert_eq!(admit(&outage, within(100)).await, Ok(Permit::Probe));
        let waiting = tokio::spawn({
            let outage = Arc::clone(&outage);
            async move { admit(&outage, within(100)).await }
        });
        sleep(Duration::from_millis(100)).await;
        // One failure of the morning's first ends nobody's call.
        assert_eq!(fail(&outage, Permit::Probe, began, true, refused()), None);
        assert_eq!(waiting.await.unwrap(), Ok(Permit::Probe));
        assert_eq!(began.elapsed(), PAUSES[0]);
        sleep(YOUNG).await;
        assert!(fail(&outage, Permit::Probe, Instant::now(), true, refused()).is_some(), "now it is old");
    }

    #[tokio::test(start_paused = true)]
    async fn ten_failed_calls_in_a_row_over_a_second_are_an_outage_and_nothing_less() {
        let outage = fresh();
        failing(&outage, 9, ROW_LASTS).await;
        assert_eq!(outage.standing(), None, "nine");
        fail(&outage, Permit::Normal, Instant::now(), true, refused());
        assert!(outage.standing().is_some(), "the tenth");

        let outage = fresh();
        failing(&outage, 29, ROW_LASTS / 2).await;
        assert_eq!(outage.standing(), None, "in half a second");
        fail(&outage, Permit::Normal, Instant::now(), true, refused());
        assert!(outage.standing().is_some(), "the thirtieth");

        let outage = fresh();
        failing(&outage, 9, ROW_LASTS).await;
        outage.answered(Instant::now());
        failing(&outage, 9, ROW_LASTS).await;
        assert_eq!(outage.standing(), None, "a success between them");

        let outage = fresh();
        for _ in 0..100 {
            sleep(ROW_LASTS / 20).await;
            fail(&outage, Permit::Normal, Instant::now(), false, refused());
        }
        assert_eq!(outage.standing(), None, "of one call that is tried again");
    }

    #[tokio::test(start_paused = true)]
    async fn ten_that_nobody_answered_in_their_time_are_an_outage_without_a_further_second() {
        let unanswered = |outage: &Outage, sent| {
            fail(outage, Permit::Normal, sent, true, Failed { silent: true, ..refused() });
        };
        let (outage, sent) = (fresh(), Instant::now());
        sleep(YOUNG).await;
        for _ in 0..9 {
            unanswered(&outage, sent);
        }
        assert_eq!(outage.standing(), None, "nine");
        unanswered(&outage, sent);
        assert!(outage.standing().is_some(), "the tenth");

        // One that was sent with them is answered: it is slow.
        let (outage, sent) = (fresh(), Instant::now());
        sleep(YOUNG).await;
        outage.answered(sent);
        for _ in 0..100 {
            unanswered(&outage, sent);
        }
        assert_eq!(outage.standing(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_broken_scripts_that_are_asked_for_again_and_again_are_no_outage() {
        let outage = fresh();
        for call in 0..100 {
            sleep(ROW_LASTS / 20).await;
            fail_as(&outage, Counts::Once, call % 9);
        }
        assert_eq!(outage.standing(), None, "nine scripts");
        fail_as(&outage, Counts::Once, 9);
        assert!(outage.standing().is_some(), "ten");
    }

    #[tokio::test(start_paused = true)]
    async fn while_all_that_failed_may_be_broken_itself_only_that_waits() {
        let of = |key| Patience { key, ..within(15) };
        for counts in [Counts::Once, Counts::Unknown] {
            for certain in [Counts::Yes, Counts::Once, Counts::Unknown] {
                let outage = fresh();
                for key in 0..10 {
                    fail_as(&outage, counts, key);
                    sleep(ROW_LASTS / 9).await;
                }
                assert_eq!(outage.take(&of(0), Instant::now()), Some(Permit::Probe));
                for key in 10..29 {
                    assert_eq!(outage.take(&of(key), Instant::now()), Some(Permit::Normal));
                    let asked = Instant::now();
                    assert_eq!((outage.wait(&mut of(key)).await, asked.elapsed()), (Ok(()), Duration::ZERO));
                    fail_as(&outage, counts, key);
                    assert_eq!(outage.take(&of(key), Instant::now()), None, "it failed");
                }
                assert_eq!(outage.take(&of(30), Instant::now()), Some(Permit::Normal));
                // One that was served of late, or enough different ones.
                fail_as(&outage, certain, 29);
                assert_eq!(outage.take(&of(30), Instant::now()), None, "after {certain:?}");
                outage.answered(Instant::now());
                assert_eq!(outage.take(&of(0), Instant::now()), Some(Permit::Normal));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_something_else_is_told_of_an_outage_as_long_as_it_is_asked_about() {
        let outage = down().await;
        sleep(YOUNG * 2).await;
        assert!(timeout(YOUNG * 4, outage.outlasts(within(100))).await.is_err(), "nobody asks: it may be over");
        let asks = async {
            for _ in 0..2 {
                let permit = admit(&outage, within(100)).await.unwrap();
                fail(&outage, permit, Instant::now(), false, refused());
            }
            std::future::pending::<()>().await;
        };
        let asked = Instant::now();
        tokio::select! {
            told = outage.outlasts(within(100)) => assert_eq!(told.last, refused().text),
            () = asks => {}
        }
        assert!(asked.elapsed() <= ONE_PROBE, "{:?}", asked.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_something_else_waits_for_the_probe_that_is_sent_after_nobody_asked_for_long() {
        let outage = down().await;
        sleep(YOUNG * 2).await;
        let asks = async {
            let failed = admit(&outage, within(100)).await.unwrap();
            sleep(Duration::from_millis(100)).await;
            fail(&outage, failed, Instant::now(), false, refused());
            sleep(YOUNG * 4).await;
            assert_eq!(admit(&outage, within(100)).await.unwrap(), Permit::Probe);
            sleep(Duration::from_millis(100)).await;
            outage.answered(Instant::now());
        };
        // It begins when the next probe is due, which is long not sent.
        let waits = async {
            sleep(Duration::from_millis(150)).await;
            outage.outlasts(within(100)).await
        };
        tokio::select! {
            told = waits => panic!("{told:?}"),
            () = asks => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_something_else_is_told_in_time_while_the_probes_hang() {
        let outage = down().await;
        let asked = Instant::now();
        let ask = async {
            loop {
                admit(&outage, within(100)).await.unwrap();
            }
        };
        tokio::select! {
            biased;
            told = timeout(OWN_TIME * 2, outage.outlasts(within(100))) => assert_eq!(told.unwrap().last, refused().text),
            () = ask => {}
        }
        assert!((OWN_TIME..OWN_TIME + ONE_PROBE * 2).contains(&asked.elapsed()), "{:?}", asked.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_asks_at_growing_distances_while_the_others_wait() {
        let outage = Arc::new(down().await);
        let began = Instant::now();
        let mut at = Vec::new();
        let waiting = {
            let outage = Arc::clone(&outage);
            tokio::spawn(async move { admit(&outage, within(60)).await.map(|leave| (leave, Instant::now())) })
        };
        // The one that waits is the first probe itself.
        assert_eq!(waiting.await.unwrap().unwrap().0, Permit::Probe);
        at.push(began.elapsed());
        for _ in 0..4 {
            assert_eq!(admit(&outage, within(60)).await.unwrap(), Permit::Probe);
            at.push(began.elapsed());
        }
        let at: Vec<_> = at.iter().map(Duration::as_millis).collect();
        assert_eq!(at, [0, 250, 750, 1_750, 2_750]);
    }

    #[tokio::test(start_paused = true)]
    async fn any_answer_ends_it_for_all_who_wait() {
        let outage = Arc::new(down().await);
        assert_eq!(admit(&outage, within(60)).await.unwrap(), Permit::Probe);
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let outage = Arc::clone(&outage);
                tokio::spawn(async move { admit(&outage, within(60)).await })
            })
            .collect();
        sleep(Duration::from_millis(100)).await;
        let ended = Instant::now();
        outage.answered(Instant::now());
        for call in waiting {
            assert_eq!(call.await.unwrap().unwrap(), Permit::Normal);
        }
        assert_eq!(ended.elapsed(), Duration::ZERO);
        assert_eq!(outage.standing(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_outage_is_waited_for_no_longer_than_for_one_more_probe() {
        let outage = Arc::new(down().await);
        sleep(YOUNG).await;
        assert_eq!(admit(&outage, within(100)).await.unwrap(), Permit::Probe);
        let asked = Instant::now();
        let waiting = {
            let outage = Arc::clone(&outage);
            tokio::spawn(async move { admit(&outage, within(100)).await.map(|leave| (leave, Instant::now())) })
        };
        sleep(Duration::from_millis(100)).await;
        fail(&outage, Permit::Probe, asked, false, refused());
        let told = waiting.await.unwrap().unwrap_err();
        assert_eq!(asked.elapsed(), Duration::from_millis(100), "as soon as that probe failed");
        assert_eq!((told.next_probe, told.last), (asked + Duration::from_millis(250), refused().text));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_made_while_it_was_young_waits_for_25_seconds_of_its_own() {
        // How old the outage is when the call is made, and for how long the call waits, as probe or beside it.
        for (age, waits) in [(0, 25), (5, 25), (14, 25), (15, 0), (60, 0)] {
            let outage = down().await;
            let since = outage.standing().unwrap().since;
            let made_at = since + Duration::from_secs(age);
            tokio::time::sleep_until(made_at).await;
            let mut call = Patience { started: made_at, ..within(100) };
            let told = loop {
                if let Err(told) = outage.wait(&mut call).await {
                    break told;
                }
                let permit = outage.take(&call, Instant::now()).unwrap();
                let now = Instant::now();
                if let Some(told) = outage.failed(permit, now, Counts::No, &call, refused(), now) {
                    break told;
                }
            };
            let waited = made_at.elapsed().as_secs_f64();
            assert!((f64::from(waits)..f64::from(waits) + 1.5).contains(&waited), "made at {age} s: {waited}");
            assert!(told.next_probe > Instant::now(), "{told:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_probes_of_an_old_outage_hang_nobody_waits_for_their_end() {
        let outage = Arc::new(down().await);
        sleep(YOUNG).await;
        let asked = Instant::now();
        let calls: Vec<_> = (0..10)
            .map(|_| {
                let outage = Arc::clone(&outage);
                tokio::spawn(async move { admit(&outage, within(100)).await })
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
            let leave = admit(&outage, Patience { deadline: until, oldest: None, ..within(0) }).await.unwrap();
            fail(&outage, leave, Instant::now(), false, refused());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_that_a_503_asks_for_is_a_floor() {
        let outage = down().await;
        assert_eq!(admit(&outage, within(60)).await.unwrap(), Permit::Probe);
        let wait = Some(Duration::from_secs(7));
        fail(&outage, Permit::Probe, Instant::now(), false, Failed { wait, ..refused() });
        let asked = Instant::now();
        assert_eq!(admit(&outage, within(60)).await.unwrap(), Permit::Probe);
        assert_eq!(asked.elapsed(), Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_be_let_through_in_time_is_told_with_when_it_is_asked_again() {
        let outage = down().await;
        let wait = Some(Duration::from_secs(30));
        assert_eq!(admit(&outage, within(60)).await.unwrap(), Permit::Probe);
        fail(&outage, Permit::Probe, Instant::now(), false, Failed { wait, ..refused() });
        let asked = Instant::now();
        let told = admit(&outage, within(5)).await.unwrap_err();
        assert_eq!(asked.elapsed(), Duration::ZERO, "at once: nothing can change before");
        assert_eq!(told.next_probe, asked + Duration::from_secs(30));
        // Nor before its patience is over.
        assert!(admit(&outage, within(100)).await.is_err());
        assert_eq!(asked.elapsed(), Duration::ZERO);
        assert!(admit(&outage, Patience { oldest: None, ..within(60) }).await.is_ok());
        assert_eq!(asked.elapsed(), YOUNG * 2, "who rides it out is sent then");
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_not_probe_is_told_at_once() {
        let outage = down().await;
        for wait in [0, 500] {
            sleep(Duration::from_millis(wait)).await;
            let asked = Instant::now();
            let mut call = Patience { is_broken: true, ..within(15) };
            assert!(outage.take(&call, asked).is_none());
            assert!(outage.wait(&mut call).await.is_err());
            assert_eq!(asked.elapsed(), Duration::ZERO);
        }
        assert_eq!(outage.take(&within(60), Instant::now()), Some(Permit::Probe), "the probe is another's");
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_wait_and_the_next_is_told_at_once() {
        for most in [0, 1, 3] {
            let outage = Arc::new(bounded(most));
            failing(&outage, ROW, ROW_LASTS).await;
            assert_eq!(admit(&outage, within(60)).await.unwrap(), Permit::Probe);
            let waiting: Vec<_> = (0..most)
                .map(|_| {
                    let outage = Arc::clone(&outage);
                    tokio::spawn(async move { outage.wait(&mut within(60)).await })
                })
                .collect();
            sleep(Duration::from_millis(1)).await;
            let asked = Instant::now();
            assert!(outage.wait(&mut within(60)).await.is_err(), "{most} wait");
            assert_eq!(asked.elapsed(), Duration::ZERO);
            outage.answered(Instant::now());
            for one in waiting {
                assert!(one.await.unwrap().is_ok());
            }
        }
    }
}
