//! Quotas: whose calls wait for what, whatever the service says in whatever order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::number;
use crate::limits::quota::{QuotaGate, Reservation, TooManyRequests};
use crate::limits::window::QuotaHeaders;
use crate::random::Random;
use crate::retry::{RetryPolicy, after};

/// Whatever limit headers and 429s come on whatever operations in whatever order:
///
/// - no operation is blocked by a window or a 429 that only another one was told of;
/// - none is blocked for longer than the cap, nor says that it will be;
/// - none sends more than the window allows that it was told of, where the service tells the truth, and within the window.
///
/// Lines: first `limit ALLOWED SECONDS a b` for each window of the service and the operations (`a` to `d`) that share it, then
/// what happens: `send a 5`, `answer a 2` (by the service, which counts), `lose a 1` (no answer comes), `tell a ALLOWED COUNT
/// SECONDS` and `refuse a SECONDS` (an answer with anything in it; -1: says nothing), `pass MILLISECONDS`.
pub fn quota(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let gate = QuotaGate::new(Arc::new(Random::new(Some(1))));
    let mut world = World::new(&gate);
    for line in text.lines().take(200) {
        world.event(&line.split(' ').collect::<Vec<_>>());
    }
    world.at_last();
}

const OPERATIONS: [&str; 4] = ["a", "b", "c", "d"];
/// So many calls of an operation of which nothing is known go at once (`quota.rs`).
const FIRST_CALLS: usize = 50;
/// A window's end is known to a second, and the next is used up to a quarter later.
const LATE: Duration = Duration::from_millis(1_250);
/// No first answer is waited for longer.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// A window of the service, and what it counted since it began.
struct Window {
    allowed: usize,
    length: Duration,
    began: Instant,
    count: usize,
    lost: usize,
}

/// A request under way: the window as it was when it arrived.
struct Sent<'a> {
    reservation: Reservation<'a>,
    at: Instant,
    window: Option<(usize, Instant)>,
    count: usize,
}

/// What is known of an operation from its own answers.
#[derive(Default)]
struct Operation<'a> {
    window: Option<usize>,
    sent: VecDeque<Sent<'a>>,
    told: bool,
    refused: bool,
    /// Its last answer was counted in the window that began then.
    told_of: Option<Instant>,
}

struct World<'a> {
    gate: &'a QuotaGate,
    policy: RetryPolicy,
    began: Instant,
    now: Instant,
    windows: Vec<Window>,
    operations: BTreeMap<&'static str, Operation<'a>>,
    /// Something was told that is not so; of a window that was over; and that as the first that an operation was told, or so late
    /// that nobody knows of which window.
    lied: bool,
    late: bool,
    first_late: bool,
}

impl<'a> World<'a> {
    fn new(gate: &'a QuotaGate) -> Self {
        let now = Instant::now();
        let policy = RetryPolicy { retry_after_cap: Duration::from_secs(120), ..RetryPolicy::default() };
        let operations = OPERATIONS.into_iter().map(|name| (name, Operation::default())).collect();
        Self {
            gate,
            policy,
            began: now,
            now,
            windows: Vec::new(),
            operations,
            lied: false,
            late: false,
            first_late: false,
        }
    }

    fn event(&mut self, words: &[&str]) {
        let name = words.get(1).and_then(|word| OPERATIONS.into_iter().find(|name| name == word));
        let argument = |at: usize| words.get(at).map_or(0, |word| number(word));
        let times = argument(2).clamp(0, 100);
        match (words.first().copied().unwrap_or_default(), name) {
            ("limit", _) => self.limit(argument(1), argument(2), words.get(3..).unwrap_or_default()),
            ("pass", _) => {
                self.now = after(self.now, Duration::from_millis(u64::try_from(argument(1)).unwrap_or(0)));
                self.turn();
            }
            ("send", Some(name)) => (0..times).for_each(|_| self.send(name)),
            ("answer", Some(name)) => (0..times).for_each(|_| self.answer(name)),
            ("lose", Some(name)) => (0..times).for_each(|_| self.lose(name)),
            ("tell", Some(name)) => self.tell(name, Some([argument(2), argument(3), argument(4)]), None),
            ("refuse", Some(name)) => self.tell(name, None, Some(argument(2))),
            _ => {}
        }
        let most = self.policy.retry_after_cap + LATE;
        for standing in self.gate.standing(self.now) {
            assert!(standing.available_in.is_none_or(|wait| wait <= most), "{standing:?}");
        }
    }

    fn limit(&mut self, allowed: i128, seconds: i128, names: &[&str]) {
        let allowed = usize::try_from(allowed.clamp(1, 1_000)).unwrap_or(1);
        let length = Duration::from_secs(u64::try_from(seconds.clamp(2, 120)).unwrap_or(2));
        // Two that look alike may be taken for one, and once something was sent the service stays as it is.
        let sent = self.operations.values().any(|one| one.told || one.refused || !one.sent.is_empty());
        if sent || self.windows.iter().any(|window| window.allowed == allowed) {
            return;
        }
        self.windows.push(Window { allowed, length, began: self.now, count: 0, lost: 0 });
        for (name, one) in &mut self.operations {
            if names.contains(name) {
                one.window = Some(self.windows.len() - 1);
            }
        }
    }

    /// The service's windows that are over begin anew.
    fn turn(&mut self) {
        for window in &mut self.windows {
            let over = self.now.saturating_duration_since(window.began).as_millis() / window.length.as_millis();
            if let Some(over) = u32::try_from(over).ok().filter(|over| *over > 0) {
                window.began += window.length * over;
                (window.count, window.lost) = (0, 0);
            }
        }
    }

    fn send(&mut self, name: &'static str) {
        let taken = self.gate.take(name, self.began, self.now);
        let pending: usize = self.operations.values().map(|one| one.sent.len()).sum();
        let Some(one) = self.operations.get(name) else { return };
        let window = one.window.and_then(|at| self.windows.get(at));
        let Some(reservation) = taken else {
            let knows = one.told || one.refused;
            assert!(knows || one.sent.len() >= FIRST_CALLS, "{name} was told nothing, and waits");
            if let Some(window) = window.filter(|_| !self.lied && !self.late && !one.refused && one.told) {
                let began = self.now.saturating_duration_since(window.began) > LATE;
                let is_free = window.count + 2 * pending < window.allowed;
                assert!(
                    !(is_free && began && one.told_of == Some(window.began)),
                    "{name} waits for nothing of its own"
                );
            }
            return;
        };
        let (at, told_of) = (one.window, one.told_of);
        let began = at.and_then(|at| self.windows.get(at)).map(|window| window.began);
        // Of one that was not told of this window yet, nobody knows that it shares it.
        let sharing = self.operations.values().filter(|other| other.window == at);
        let unknown = sharing.into_iter().any(|other| other.told_of != began && !other.sent.is_empty());
        let window = at.and_then(|at| self.windows.get_mut(at));
        let (mut count, mut began) = (0, None);
        if let Some(window) = window {
            window.count += 1;
            let knows = !self.lied && !self.first_late && !unknown && told_of == Some(window.began);
            let most = window.allowed + window.lost;
            assert!(!knows || window.count <= most, "{name} sends {} of {most}", window.count);
            (count, began) = (window.count, at.map(|at| (at, window.began)));
        }
        if let Some(one) = self.operations.get_mut(name) {
            one.sent.push_back(Sent { reservation, at: self.now, window: began, count });
        }
    }

    /// The service answers the oldest request, by the window that it arrived in.
    fn answer(&mut self, name: &'static str) {
        let Some(one) = self.operations.get_mut(name) else { return };
        let Some(Sent { reservation, at: sent, window, count }) = one.sent.pop_front() else { return };
        let Some((at, began)) = window else {
            return reservation.answered(self.now, None, None, &self.policy);
        };
        let Some(window) = self.windows.get(at) else { return };
        let ends = after(began, window.length).saturating_duration_since(self.now);
        let said =
            headers([window.allowed as i128, count.min(window.allowed) as i128, ends.as_secs_f64().ceil() as i128]);
        let refusal = (count > window.allowed).then_some(TooManyRequests { wait: Some(ends), limit: None });
        // Whoever learns of a window when it is over learns later who shares it.
        self.late |= began != window.began;
        self.first_late |= !one.told && began != window.began;
        // Ends are told in whole seconds: an answer that took about as long as its window may be of this one or the one before.
        self.first_late |= self.now.saturating_duration_since(sent) + 2 * LATE > window.length;
        one.told = true;
        one.refused |= refusal.is_some();
        // What comes after its window's end tells nothing of the next.
        one.told_of = (began == window.began).then_some(began).or(one.told_of);
        reservation.answered(self.now, said, refusal, &self.policy);
    }

    fn lose(&mut self, name: &'static str) {
        let Some(Sent { reservation, window, .. }) = self.operations.get_mut(name).and_then(|one| one.sent.pop_front())
        else {
            return;
        };
        if let Some(window) = window.and_then(|(at, _)| self.windows.get_mut(at)) {
            window.lost += 1;
        }
        drop(reservation);
    }

    /// An answer with anything in it, true or not.
    fn tell(&mut self, name: &'static str, said: Option<[i128; 3]>, wait: Option<i128>) {
        let Some(one) = self.operations.get_mut(name) else { return };
        let Some(Sent { reservation, .. }) = one.sent.pop_front() else { return };
        let said = said.and_then(headers);
        let wait = wait.map(|wait| u64::try_from(wait).ok().map(Duration::from_secs));
        self.lied = true;
        one.told |= said.is_some();
        one.refused |= wait.is_some();
        let refusal = wait.map(|wait| TooManyRequests { wait, limit: None });
        reservation.answered(self.now, said, refusal, &self.policy);
    }

    /// Whatever was said: when nothing is under way any more and the cap is over, every operation is open.
    fn at_last(mut self) {
        self.operations.values_mut().for_each(|one| one.sent.clear());
        self.now = after(self.now, self.policy.retry_after_cap + LATE + FIRST_ANSWER);
        for name in OPERATIONS {
            assert!(self.gate.take(name, self.began, self.now).is_some(), "{name} is blocked for ever");
        }
    }
}

/// Allowed, count and reset as they are on the wire.
fn headers(values: [i128; 3]) -> Option<QuotaHeaders> {
    let names = ["inin-ratelimit-allowed", "inin-ratelimit-count", "inin-ratelimit-reset"];
    let values = values.map(|value| HeaderValue::try_from(value.to_string()).expect("a number"));
    QuotaHeaders::parse(&HeaderMap::from_iter(names.map(http::HeaderName::from_static).into_iter().zip(values)))
}
