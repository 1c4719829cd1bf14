//! What fared how on one route: to tell what is broken itself from a service that fails for everyone.
//!
//! A key is an operation with its ids. The last successes of the route say how likely an attempt fails for any other reason
//! than the key; where a call has failed more often than that can explain, it is the key. From then on a call of this key is
//! one attempt, until one is served.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::outage::Counts;
use crate::error::cause::Found;
use crate::retry::after;

/// So many successes are kept.
const KEPT: usize = 64;
/// So many broken keys.
const KEYS: usize = 10_000;
/// So many keys at least of those that were served of late, and no more than twice as many.
const LATE: usize = 4_000;
/// A call that failed less often may have met anything.
const FEWEST: u32 = 3;
/// What is less likely than this is no chance.
const CHANCE: f64 = 1e-6;
/// What is likelier than this is believed, as a broken script is about as rare; between the two nothing is said.
const CREDIBLE: f64 = 1e-3;
/// What is made anew or goes over to another node may fail for a moment like this.
const MOMENT: Duration = Duration::from_secs(10);
/// For so long at first, and doubling to at most so long, a call of a broken key is one attempt.
const SPELL: Duration = Duration::from_secs(30);
const LONGEST_SPELL: Duration = Duration::from_secs(600);
/// A broken key that nobody asked for in so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(1_200);

/// How the keys of one route fare.
#[derive(Default)]
pub(crate) struct Evidence {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    served: VecDeque<Served>,
    /// When the last attempt that was served was sent, of each key; those of late, and those before.
    last_served: [HashMap<u64, Instant>; 2],
    broken: HashMap<u64, Broken>,
}

impl State {
    fn note_served(&mut self, key: u64, sent: Instant) {
        let [late, before] = &mut self.last_served;
        if late.len() >= LATE {
            *before = std::mem::take(late);
        }
        let last = late.entry(key).or_insert(sent);
        *last = sent.max(*last);
    }

    fn last_served(&self, key: u64) -> Option<Instant> {
        self.last_served.iter().filter_map(|keys| keys.get(&key)).max().copied()
    }
}

struct Served {
    key: u64,
    /// Whose token it was served to.
    who: u64,
    sent: Instant,
    /// How often its call had failed before, and of these been refused with a 400.
    failed_before: u32,
    refused_before: u32,
}

struct Broken {
    failures: u32,
    /// When the call that found it out began.
    since: Instant,
    last: Instant,
    /// Until then a call is one attempt.
    until: Instant,
    spell: Duration,
}

/// What a failure is taken for, and the numbers of attempts that say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The key itself is broken: trying again changes nothing.
    pub(crate) broken: bool,
    /// How often it failed in a row.
    pub(crate) failed: u32,
    /// Others of the route, and this very key for other tokens.
    others: Fared,
    elsewhere: Fared,
}

/// So many were served meanwhile, how often these had failed before, and of these been refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fared {
    served: u32,
    failed: u32,
    refused: u32,
}

impl Fared {
    fn all(self) -> u32 {
        self.served.saturating_add(self.failed)
    }

    /// Of so many failures in a row, if these befell them as often.
    fn chance(self, failures: u32, befell: u32) -> f64 {
        let (served, failed) = (f64::from(self.served), f64::from(befell));
        ((failed + 1.0) / (served + failed + 2.0)).powf(f64::from(failures))
    }

    /// Whether so many failures cannot be chance, as these fared.
    fn is_no_chance_of(self, failures: u32) -> bool {
        // With nothing to compare with, any number of them may be.
        self.served > 0 && failures >= FEWEST && self.chance(failures, self.failed) < CHANCE
    }
}

impl Evidence {
    /// Whether the key is known to be broken: then a call is one attempt, and its failures count for nothing else.
    pub(crate) fn is_broken(&self, key: u64, now: Instant) -> bool {
        self.lock().broken.get(&key).is_some_and(|broken| now < broken.until)
    }

    /// What a failure of the key counts towards an outage, as it was served of late or not.
    pub(crate) fn counts(&self, key: u64) -> Counts {
        let state = self.lock();
        match state.served.iter().any(|served| served.key == key) {
            true => Counts::Yes,
            false if state.served.is_empty() => Counts::Unknown,
            false => Counts::Once,
        }
    }

    pub(crate) fn served(&self, key: u64, who: u64, sent: Instant, failed_before: u32, refused_before: u32) {
        let mut state = self.lock();
        if !state.broken.is_empty() {
            state.broken.remove(&key);
        }
        if state.served.len() >= KEPT {
            state.served.pop_front();
        }
        state.served.push_back(Served { key, who, sent, failed_before, refused_before });
        state.note_served(key, sent);
    }

    /// A call whose first attempt was sent then has failed so often.
    pub(crate) fn failed(&self, key: u64, who: u64, began: Instant, failures: u32, now: Instant) -> Finding {
        let mut state = self.lock();
        let last_served = state.last_served(key);
        let State { served, broken, .. } = &mut *state;
        let is_forgotten = |one: &Broken| now.saturating_duration_since(one.last) > FORGOTTEN;
        if broken.len() >= KEYS || broken.get(&key).is_some_and(is_forgotten) {
            broken.retain(|_, one| !is_forgotten(one));
        }
        // Of what was found broken before, all that was served since speaks; else only what this call saw.
        let (since, failed) = match broken.get_mut(&key) {
            Some(known) => {
                known.failures = known.failures.saturating_add(1);
                known.last = now;
                (known.since, known.failures)
            }
            None => (began, failures),
        };
        let fared = |of: &dyn Fn(&Served) -> bool| {
            let meanwhile = served.iter().filter(|other| other.sent > since && of(other));
            meanwhile.fold(Fared::default(), |sum, other| Fared {
                served: sum.served.saturating_add(1),
                failed: sum.failed.saturating_add(other.failed_before),
                refused: sum.refused.saturating_add(other.refused_before),
            })
        };
        let (others, elsewhere) =
            (fared(&|other| other.key != key), fared(&|other| other.key == key && other.who != who));
        // What was served meanwhile, or just before, to whomever, is not broken: it fails now and then, or for a moment.
        let is_served = last_served.is_some_and(|sent| sent > since || now < after(sent, MOMENT));
        if !is_served && others.is_no_chance_of(failed) && (broken.contains_key(&key) || broken.len() < KEYS) {
            let fresh = Broken { failures, since: began, last: now, until: now, spell: SPELL / 2 };
            let found = broken.entry(key).or_insert(fresh);
            if now >= found.until {
                found.spell = (found.spell * 2).min(LONGEST_SPELL);
                found.until = after(now, found.spell);
            }
        }
        let broken = broken.get(&key).is_some_and(|broken| now < broken.until);
        Finding { broken, failed, others, elsewhere }
    }

    pub(crate) fn forget(&self) {
        *self.lock() = State::default();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Finding {
    /// What that makes of an answer that is given for a broken script and for load alike.
    pub(crate) fn cause(self) -> Option<Found> {
        let Self { broken, failed, others, elsewhere } = self;
        // What befalls the others so seldom does not befall one so often.
        let is_load = others.refused > 0 && others.chance(failed, others.refused) > CREDIBLE;
        if broken {
            return Some(Found::BrokenScript { failed, others_served: others.served, others: others.all() });
        }
        if elsewhere.is_no_chance_of(failed) {
            return Some(Found::Token { failed, others_served: elsewhere.served, others: elsewhere.all() });
        }
        is_load.then(|| Found::Overload { others_refused: others.refused, others: others.all() })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const BROKEN: u64 = 0;
    /// Tokens.
    const ONE: u64 = 1;
    const OTHER: u64 = 2;

    /// So many others are served, after this many failures each.
    fn others(evidence: &Evidence, served: u64, failed_before: u32) {
        for key in 1..=served {
            evidence.served(key, OTHER, Instant::now(), failed_before, 0);
        }
    }

    /// A call that began then fails for the so-manieth time, a moment later.
    async fn fails(evidence: &Evidence, began: Instant, failures: u32) -> Finding {
        advance(Duration::from_millis(1)).await;
        evidence.failed(BROKEN, ONE, began, failures, Instant::now())
    }

    /// When a call begins, and the others do a moment later.
    async fn begin() -> Instant {
        let began = Instant::now();
        advance(Duration::from_millis(1)).await;
        began
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_while_all_others_are_served_is_broken_itself() {
        let (evidence, began) = (Evidence::default(), begin().await);
        others(&evidence, 64, 0);
        for failures in 1..=3 {
            assert!(!fails(&evidence, began, failures).await.broken, "three are not yet no chance");
        }
        let finding = fails(&evidence, began, 4).await;
        let others = Fared { served: 64, ..Fared::default() };
        assert_eq!(finding, Finding { broken: true, failed: 4, others, ..Finding::default() });
        assert!(evidence.is_broken(BROKEN, Instant::now()));
        assert!(!evidence.is_broken(7, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_served_a_moment_ago_is_not_broken() {
        let evidence = Evidence::default();
        evidence.served(BROKEN, OTHER, Instant::now(), 0, 0);
        advance(MOMENT / 2).await;
        let began = begin().await;
        others(&evidence, 32, 0);
        assert!(!fails(&evidence, began, 4).await.broken, "it may be for a moment");
        advance(MOMENT / 2).await;
        assert!(fails(&evidence, began, 5).await.broken);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_no_less_served_a_moment_ago_where_many_others_were_since() {
        let evidence = Evidence::default();
        evidence.served(BROKEN, OTHER, Instant::now(), 0, 0);
        others(&evidence, 10 * KEPT as u64, 0);
        advance(MOMENT / 2).await;
        let began = begin().await;
        others(&evidence, 64, 0);
        assert!(!fails(&evidence, began, 4).await.broken, "it may be for a moment");
        others(&evidence, 10 * KEYS as u64, 0);
        advance(MOMENT / 2).await;
        assert!(fails(&evidence, began, 5).await.broken);
        assert!(evidence.lock().last_served.iter().all(|keys| keys.len() <= LATE));
    }

    #[tokio::test(start_paused = true)]
    async fn where_others_fail_as_often_nothing_is_concluded() {
        let (evidence, began) = (Evidence::default(), begin().await);
        others(&evidence, 64, 1);
        for failures in 1..=8 {
            assert!(!fails(&evidence, began, failures).await.broken, "half of all attempts fail");
        }
        let (evidence, began) = (Evidence::default(), begin().await);
        for failures in 1..=40 {
            let finding = fails(&evidence, began, failures).await;
            assert_eq!((finding.broken, finding.cause()), (false, None), "there is nothing to compare with");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_the_call_or_with_it_says_nothing() {
        let evidence = Evidence::default();
        others(&evidence, 64, 0);
        let began = Instant::now();
        for failures in 1..=8 {
            assert!(!fails(&evidence, began, failures).await.broken);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_calls_that_fail_together_are_no_long_row() {
        let (evidence, began) = (Evidence::default(), begin().await);
        others(&evidence, 64, 0);
        for _ in 0..100 {
            assert!(!fails(&evidence, began, 1).await.broken);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn once_found_out_it_is_one_attempt_until_it_is_served_again() {
        let (evidence, began) = (Evidence::default(), begin().await);
        others(&evidence, 64, 0);
        evidence.failed(BROKEN, ONE, began, 4, Instant::now());
        for spell in [30, 60, 120, 240, 480, 600, 600] {
            advance(Duration::from_secs(spell) - Duration::from_millis(1)).await;
            assert!(evidence.is_broken(BROKEN, Instant::now()), "for {spell} s");
            advance(Duration::from_millis(1)).await;
            assert!(!evidence.is_broken(BROKEN, Instant::now()));
            let now = Instant::now();
            assert!(evidence.failed(BROKEN, ONE, now, 1, now).broken, "its next failure is enough");
        }
        evidence.served(BROKEN, OTHER, Instant::now(), 0, 0);
        assert!(!evidence.is_broken(BROKEN, Instant::now()));
        assert!(!fails(&evidence, Instant::now(), 1).await.broken, "it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_remembered_without_bound_or_for_ever() {
        let (evidence, began) = (Evidence::default(), begin().await);
        others(&evidence, 1_000, 0);
        assert!(evidence.lock().served.len() <= KEPT);
        for key in 1_000..2_000 + KEYS as u64 {
            evidence.failed(key, ONE, began, 4, Instant::now());
        }
        assert_eq!(evidence.lock().broken.len(), KEYS);
        advance(FORGOTTEN * 2).await;
        let began = begin().await;
        others(&evidence, 64, 0);
        evidence.failed(BROKEN, ONE, began, 4, Instant::now());
        assert_eq!(evidence.lock().broken.len(), 1, "the old ones made room");
    }

    #[tokio::test(start_paused = true)]
    async fn what_other_tokens_are_served_is_not_broken_and_follows_the_token() {
        let (evidence, began) = (Evidence::default(), begin().await);
        others(&evidence, 32, 0);
        for failures in 1..=8 {
            evidence.served(BROKEN, OTHER, Instant::now(), 0, 0);
            evidence.served(BROKEN, OTHER, Instant::now(), 0, 0);
            let finding = fails(&evidence, began, failures).await;
            assert!(!finding.broken, "it is served");
            let found = finding.cause();
            match failures {
                1..=3 => assert_eq!(found, None, "too few"),
                8 => assert_eq!(found, Some(Found::Token { failed: 8, others_served: 16, others: 16 })),
                _ => {}
            }
        }
        // What no other token asked for does not follow the token, however often it fails.
        let (evidence, began) = (Evidence::default(), begin().await);
        for failures in 1..=64 {
            evidence.served(BROKEN, ONE, Instant::now(), 0, 0);
            assert_eq!(fails(&evidence, began, failures).await.cause(), None);
        }
        // Nor is it the load, as long as none of the others failed.
        let (evidence, began) = (Evidence::default(), begin().await);
        others(&evidence, 3, 0);
        assert_eq!(fails(&evidence, began, 1).await.cause(), None);
        // Where others of the same fail as often, it is the moment.
        let (evidence, began) = (Evidence::default(), begin().await);
        for failures in 1..=8 {
            evidence.served(BROKEN, OTHER, Instant::now(), 1, 0);
            assert_eq!(fails(&evidence, began, failures).await.cause(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn load_is_told_only_where_others_are_refused_often_enough_to_explain_it() {
        // Not where they seldom were refused, or failed for other reasons: a reset, a 503.
        for (served, failed_before, refused_before, failures) in [(63, 0, 1, 3), (7, 0, 1, 7), (8, 2, 0, 2)] {
            let (evidence, began) = (Evidence::default(), begin().await);
            others(&evidence, served, failed_before);
            evidence.served(99, OTHER, Instant::now(), refused_before, refused_before);
            let finding = fails(&evidence, began, failures).await;
            assert_eq!(finding.cause(), None, "{finding:?}");
        }
        // Where they are refused every other time, eight times may well be chance.
        let (evidence, began) = (Evidence::default(), begin().await);
        (1..=64).for_each(|key| evidence.served(key, OTHER, Instant::now(), 1, 1));
        let load = Some(Found::Overload { others_refused: 64, others: 128 });
        assert_eq!(fails(&evidence, began, 8).await.cause(), load);
    }
}
