//! The course of the experiment: logins, a probe, and block after block until nothing is open any more.

use std::collections::{HashMap, VecDeque};

use genesys_doctor::cause::{Name, Report, Verdict};

use super::design::{Cell, Design, MOST_BLOCKS, Means, Order, PER_TOKEN, QUIET};
use super::factors;
use super::judge::{self, Asked};
use super::sample::{Arm, Taken};

/// Logins that are done one after the other, with the tokens used between them.
const ONE_BY_ONE: usize = 3;
/// Own tokens beside one that is shared: enough to tell the one from the other.
const BESIDE_SHARED: usize = 8;
/// Requests that must go well before there is anything to experiment with.
const PROBES: usize = 12;

/// What is experimented with: the target over sockets, or a model of one.
pub(crate) trait Subject {
    /// Seconds since the experiment began.
    fn now(&self) -> f64;
    /// Whether the time is over, or somebody told it to end.
    fn is_over(&self) -> bool;
    /// How many scripts can be asked for.
    fn ids(&self) -> u32;
    /// From how many addresses can be sent.
    fn addresses(&self) -> u32;
    /// Tokens there are, in the order of their logins.
    fn tokens(&self) -> u32;
    /// Logs in that many agents more.
    async fn log_in(&mut self, agents: usize, at_once: bool, taken: &mut Taken);
    /// Sends the requests of a cell, each exactly once, and waits for their ends.
    async fn run(&mut self, cell: &Cell, taken: &mut Taken);
}

/// All of it. `told` hears how it goes after each block.
pub(crate) async fn experiment(
    subject: &mut impl Subject,
    asked: &Asked,
    budget: usize,
    seed: u64,
    target: &str,
    mut told: impl FnMut(u32, &Taken),
) -> Report {
    let mut taken = Taken::new();
    logins(subject, asked, budget, &mut taken).await;
    let tokens = subject.tokens();
    if tokens == 0 {
        return judge::judge(&taken, asked, target).report;
    }
    let (ids, addresses) = (subject.ids(), subject.addresses());
    let budget = budget.saturating_sub(taken.logins.len());
    let own = tokens.saturating_sub(1).max(1);
    let means = Means { tokens: own, shared_token: tokens - 1, ids, addresses, budget };
    let mut design = Design::new(means, asked, seed);
    let mut quotas = Quotas::new(own, asked);
    for count in [PROBES, 2 * PROBES] {
        if taken.samples.is_empty() || taken.failures() == taken.samples.len() {
            subject.run(&quotas.kept(design.probe(count), subject.now(), false), &mut taken).await;
        }
    }
    let mut before: Option<Vec<Name>> = None;
    for block in 1..=MOST_BLOCKS {
        let well = taken.samples.len() - taken.failures();
        if subject.is_over() || well == 0 {
            break;
        }
        let latency = judge::latency(&factors::in_order(&taken));
        let mut sent = 0;
        for cell in design.block(latency) {
            let cell = quotas.kept(cell, subject.now(), asked.shared);
            if subject.is_over() || taken.samples.len() + cell.orders.len() > budget {
                break;
            }
            sent += cell.orders.len();
            subject.run(&cell, &mut taken).await;
        }
        told(block, &taken);
        let judgement = judge::judge(&taken, asked, target);
        let names = judgement.report.causes.iter().map(|cause| cause.name).collect();
        let again = before.as_ref() == Some(&names);
        if sent < 10 || (block >= QUIET && judgement.settled && again) {
            break;
        }
        before = Some(names);
    }
    let mut report = judge::judge(&taken, asked, target).report;
    if subject.is_over() {
        not_all(&mut report, "what was left to try when the time was over, or it was told to end");
    }
    report
}

/// Nothing may be the matter with a part of the work only.
pub(crate) fn not_all(report: &mut Report, rest: &str) {
    report.not_tested.push(rest.to_owned());
    if report.verdict == Verdict::NothingFound {
        report.verdict = Verdict::NotEnoughEvidence;
    }
}

/// One after the other first, and whether a token outlives the next login; then the rest as they are asked for, and
/// one more for all.
async fn logins(subject: &mut impl Subject, asked: &Asked, budget: usize, taken: &mut Taken) {
    let agents = (asked.agents as usize).min((budget / 8).max(2));
    let agents = if asked.shared { agents.min(BESIDE_SHARED) } else { agents };
    for _ in 0..agents.min(ONE_BY_ONE) {
        let had = subject.tokens();
        subject.log_in(1, false, taken).await;
        let Some(newest) = subject.tokens().checked_sub(1).filter(|newest| *newest >= had) else { continue };
        let tokens = match newest.checked_sub(1) {
            Some(older) => vec![newest, older, newest, older],
            None => vec![newest; 2],
        };
        let order = |token| Order { token, id: 0, address: 0, new_connection: false };
        let orders = tokens.into_iter().map(order).collect();
        let pause = std::time::Duration::ZERO;
        subject.run(&Cell { arm: Arm::Session, workers: 1, every: pause, then: pause, orders }, taken).await;
    }
    if taken.logins.iter().all(|login| login.end != Taken::WELL) && !taken.logins.is_empty() {
        return;
    }
    subject.log_in(agents.saturating_sub(ONE_BY_ONE), asked.at_once, taken).await;
    subject.log_in(1, false, taken).await;
}

/// Keeps the experiment from meeting quotas by its own doing.
struct Quotas {
    own: u32,
    most: usize,
    sent: HashMap<u32, VecDeque<f64>>,
}

impl Quotas {
    fn new(own: u32, asked: &Asked) -> Self {
        let most = asked.per_agent.map_or(PER_TOKEN, |each| PER_TOKEN.max(each as u32)) as usize;
        Self { own, most, sent: HashMap::new() }
    }

    /// The cell with other tokens where one has been used enough, and without what none is left for.
    fn kept(&mut self, mut cell: Cell, now: f64, shared_asked: bool) -> Cell {
        let own = self.own;
        // The one arm in which a quota is looked for.
        if cell.arm == Arm::SharedToken {
            return cell;
        }
        cell.orders.retain_mut(|order| {
            if order.token >= own && shared_asked {
                return true;
            }
            let others = (1..own).map(|i| (order.token + i) % own);
            let token = std::iter::once(order.token).chain(others).find(|token| self.left(*token, now));
            if let Some(token) = token {
                order.token = token;
                self.sent.entry(token).or_default().push_back(now);
            }
            token.is_some()
        });
        cell
    }

    fn left(&mut self, token: u32, now: f64) -> bool {
        let sent = self.sent.entry(token).or_default();
        while sent.front().is_some_and(|at| *at < now - 60.0) {
            sent.pop_front();
        }
        sent.len() < self.most
    }
}
