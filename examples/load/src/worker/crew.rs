//! The users that the master asks for: agents of the feeder's rows, each doing its workload again and again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use genesys_scripts::Client;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::message::Users;
use super::stats::Stats;
use crate::args::{Args, Mode, Workload};
use crate::feeder::Login;
use crate::fleet::{Agent, pause_until};
use crate::plan::{Open, Plan};
use crate::target::{Identity, Target};
use crate::{naive, resilient};

/// The classes that a locustfile names, each a workload.
const CLASSES: [(&str, Workload); 3] =
    [("Script", Workload::Script), ("Published", Workload::Published), ("FirstScreen", Workload::FirstScreen)];

pub(super) struct Crew<'a> {
    args: &'a Args,
    target: &'a Target,
    ways: Ways,
    think_time: Duration,
    stats: Arc<Mutex<Stats>>,
    rows: Rows,
    users: BTreeMap<String, Vec<User>>,
    /// How many there should be.
    wanted: Users,
    /// Those that end what they do, by class.
    leaving: JoinSet<String>,
    leaving_of: Users,
}

/// How agents fetch.
enum Ways {
    Naive(Arc<naive::Shared>),
    /// And the session of each row: a refresh token is good once, whoever needs it later.
    Resilient(Client, BTreeMap<usize, genesys_scripts::Agent>),
}

/// The rows that are this worker's.
struct Rows {
    free: Arc<Mutex<VecDeque<usize>>>,
    /// How many there were, and how many users have been given one beyond them.
    dealt: Vec<usize>,
    beyond: usize,
    what_then: WhenGone,
}

/// What users get when no row is free.
#[derive(Clone, Copy, PartialEq)]
enum WhenGone {
    /// An agent of their own, since no feeder tells agents apart.
    Another,
    /// A row that another user of this worker has.
    Again,
    Nothing,
}

struct User {
    leave: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Given back when dropped.
struct Row {
    number: usize,
    to: Option<Arc<Mutex<VecDeque<usize>>>>,
}

impl Drop for Row {
    fn drop(&mut self) {
        if let Some(free) = &self.to {
            lock(free).push_back(self.number);
        }
    }
}

impl<'a> Crew<'a> {
    pub(super) fn new(args: &'a Args, target: &'a Target, think_time: Duration) -> anyhow::Result<Self> {
        let naive = args.mode == Mode::Naive;
        if naive && target.agents.iter().any(|agent| matches!(agent.login, Login::RefreshToken(_))) {
            anyhow::bail!("--mode naive forgets a user's login when the user ends, and a refresh token is good once");
        }
        // Users come one by one, and do not wait for each other's logins.
        let plan = Plan::Open(Open { stages: Vec::new(), poisson: false, seed: 0 });
        let ways = if naive {
            Ways::Naive(naive::Shared::new(args, target, &plan)?)
        } else {
            Ways::Resilient(resilient::client(args, target)?, BTreeMap::new())
        };
        let what_then = match (&args.feeder, args.recycle) {
            (None, _) => WhenGone::Another,
            (_, true) => WhenGone::Again,
            _ => WhenGone::Nothing,
        };
        let method = if naive { Mode::Naive } else { Mode::Resilient }.name();
        let rows = Rows::new(what_then);
        let stats = Arc::new(Mutex::new(Stats::new(method)));
        Ok(Self {
            args,
            target,
            ways,
            think_time,
            stats,
            rows,
            users: BTreeMap::new(),
            wanted: Users::new(),
            leaving: JoinSet::new(),
            leaving_of: Users::new(),
        })
    }

    /// Takes every so many-th row, beginning with this one: what no worker with another number takes.
    pub(super) fn deal(&mut self, share: usize, of: usize) {
        self.rows.deal(self.target.agents.len(), share, of);
    }

    /// Makes the users as many as they should be; those too many end what they do, within the time given. What cannot be is
    /// told.
    pub(super) fn be(&mut self, wanted: &Users, grace: Duration) -> Vec<String> {
        self.wanted.clone_from(wanted);
        // First of all classes, since what the one gives back another may need.
        for (class, wanted) in wanted {
            let too_many = |users: &mut Vec<User>| users.split_off(users.len().min(*wanted as usize));
            for user in self.users.get_mut(class).map(too_many).unwrap_or_default() {
                self.leave(class, user, grace);
            }
        }
        self.grow()
    }

    /// Adds the users that are missing, as far as that can be now: a user that leaves has its row until it is gone.
    pub(super) fn grow(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        // Before rows are asked for, which they have given back when they are counted no more.
        self.users();
        for (class, wanted) in self.wanted.clone() {
            let Some((_, workload)) = CLASSES.iter().find(|(name, _)| *name == class) else {
                if wanted > 0 {
                    let known = CLASSES.map(|(name, _)| name).join(", ");
                    problems.push(format!("there is no user class {class} in genesys-load, which knows {known}"));
                }
                continue;
            };
            let mut users = self.users.remove(&class).unwrap_or_default();
            while users.len() < wanted as usize {
                match self.user(*workload) {
                    Ok(user) => users.push(user),
                    Err(_) if !self.leaving.is_empty() => break,
                    Err(error) => {
                        problems.push(format!("{error:#}"));
                        break;
                    }
                }
            }
            self.users.insert(class, users);
        }
        problems
    }

    /// How many users there are, those that are about to leave among them.
    pub(super) fn users(&mut self) -> Users {
        while let Some(left) = self.leaving.try_join_next() {
            self.has_left(left);
        }
        let leaving = |class: &String| self.leaving_of.get(class).copied().unwrap_or_default();
        self.users.iter().map(|(class, users)| (class.clone(), users.len() as u32 + leaving(class))).collect()
    }

    fn has_left(&mut self, class: Result<String, tokio::task::JoinError>) {
        if let Some(count) = class.ok().and_then(|class| self.leaving_of.get_mut(&class)) {
            *count = count.saturating_sub(1);
        }
    }

    /// All end what they do, within the time given.
    pub(super) fn all_leave(&mut self, grace: Duration) {
        self.wanted.clear();
        for (class, users) in std::mem::take(&mut self.users) {
            users.into_iter().for_each(|user| self.leave(&class, user, grace));
            self.users.insert(class, Vec::new());
        }
    }

    /// Returns when none is left of those that were to leave. Safe to be dropped before.
    pub(super) async fn left(&mut self) {
        while let Some(left) = self.leaving.join_next().await {
            self.has_left(left);
        }
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, Stats> {
        lock(&self.stats)
    }

    fn leave(&mut self, class: &str, mut user: User, grace: Duration) {
        *self.leaving_of.entry(class.to_owned()).or_default() += 1;
        let class = class.to_owned();
        self.leaving.spawn(async move {
            user.leave.send_replace(true);
            if timeout(grace, &mut user.task).await.is_err() {
                user.task.abort();
                let _ = user.task.await;
            }
            class
        });
    }

    fn user(&mut self, workload: Workload) -> anyhow::Result<User> {
        let row = self.rows.take()?;
        let agent = self.agent(&row, workload)?;
        let (leave, told) = watch::channel(false);
        let (stats, think_time) = (Arc::clone(&self.stats), self.think_time);
        let task = tokio::spawn(async move {
            work(&agent, workload, think_time, &stats, told).await;
            drop(row);
        });
        Ok(User { leave, task })
    }

    fn agent(&mut self, row: &Row, workload: Workload) -> anyhow::Result<Agent> {
        let identity = self.target.agents.get(row.number).or(self.target.agents.first());
        let identity: &Identity = identity.ok_or_else(|| anyhow::anyhow!("there is no agent"))?;
        Ok(match &mut self.ways {
            Ways::Naive(shared) => Agent::Naive(naive::Agent::new(shared, identity, workload, &self.target.region)?),
            Ways::Resilient(client, sessions) => {
                let session = match sessions.get(&row.number) {
                    Some(session) => session.clone(),
                    None => client.agent(resilient::credentials(self.target, identity)?),
                };
                sessions.insert(row.number, session.clone());
                Agent::Resilient(resilient::Agent::new(session, identity, workload, self.args.call_timeout))
            }
        })
    }
}

impl Rows {
    fn new(what_then: WhenGone) -> Self {
        Self { free: Arc::default(), dealt: Vec::new(), beyond: 0, what_then }
    }

    fn deal(&mut self, rows: usize, share: usize, of: usize) {
        self.dealt = (0..rows).skip(share).step_by(of.max(1)).collect();
        self.free = Arc::new(Mutex::new(self.dealt.iter().copied().collect()));
        // The next test's users find the sessions of the last one's.
        self.beyond = 0;
    }

    fn take(&mut self) -> anyhow::Result<Row> {
        let free = lock(&self.free).pop_front();
        if let Some(number) = free {
            return Ok(Row { number, to: Some(Arc::clone(&self.free)) });
        }
        match (self.what_then, self.dealt.len()) {
            // Behind the last row, so that it is another for each; it comes back as a free one.
            (WhenGone::Another, _) => {
                self.beyond += 1;
                Ok(Row { number: self.dealt.len() + self.beyond, to: Some(Arc::clone(&self.free)) })
            }
            (WhenGone::Again, rows @ 1..) => {
                self.beyond += 1;
                let number = self.dealt.get(self.beyond % rows).copied().unwrap_or_default();
                Ok(Row { number, to: None })
            }
            (_, rows) => anyhow::bail!(
                "this worker's share of the feeder has {rows} rows, and the master asks for more users, which do not run: \
                 more rows, fewer users, more workers within --shares, or --recycle"
            ),
        }
    }
}

/// Until told to leave.
async fn work(
    agent: &Agent,
    workload: Workload,
    think_time: Duration,
    stats: &Mutex<Stats>,
    mut leave: watch::Receiver<bool>,
) {
    while !*leave.borrow() {
        let began = Instant::now();
        let outcome = agent.iterate().await;
        let took = began.elapsed();
        lock(stats).add(workload.label(), took, &outcome);
        let pause = agent.pause(took, &outcome).max(think_time);
        tokio::select! {
            () = pause_until(Instant::now() + pause) => {}
            _ = leave.changed() => return,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::tests::found;
    use std::collections::BTreeSet;

    fn dealt(rows: usize, share: usize, of: usize, what_then: WhenGone) -> Rows {
        let mut dealt = Rows::new(what_then);
        dealt.deal(rows, share, of);
        dealt
    }

    /// Nobody is there, so that a user fails at once, and again and again.
    const NOBODY: [&str; 7] = ["worker", "--locust", "m:1", "--mode", "naive", "--api-url", "http://127.0.0.1:1"];

    fn wanted(users: &[(&str, u32)]) -> Users {
        users.iter().map(|(class, count)| ((*class).to_owned(), *count)).collect()
    }

    #[tokio::test]
    async fn a_user_for_whom_no_row_was_free_comes_when_one_is() {
        let (args, target) = found("grow", &NOBODY, 2).await;
        let mut crew = Crew::new(&args, &target, Duration::from_secs(60)).unwrap();
        crew.deal(0, 1);
        let grace = Duration::from_secs(60);
        assert!(crew.be(&wanted(&[("Script", 2)]), grace).is_empty());
        // The row of the one is still that of the other.
        let one_each = wanted(&[("Published", 1), ("Script", 1)]);
        assert_eq!(crew.be(&one_each, grace), Vec::<String>::new(), "it is no shortage");
        crew.left().await;
        assert_eq!(crew.grow(), Vec::<String>::new());
        assert_eq!(crew.users(), one_each);
        // And where there will never be one it is told.
        let told = crew.be(&wanted(&[("Published", 2), ("Script", 1), ("Other", 1)]), grace).join("; ");
        assert!(told.contains("has 2 rows") && told.contains("no user class Other"), "{told}");
        crew.all_leave(Duration::ZERO);
        crew.left().await;
        assert!(crew.grow().is_empty() && crew.users().values().all(|users| *users == 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_that_fails_at_once_does_not_try_again_without_end() {
        let (args, target) = found("vain", &NOBODY, 1).await;
        let mut crew = Crew::new(&args, &target, Duration::ZERO).unwrap();
        crew.deal(0, 1);
        crew.be(&wanted(&[("Script", 1)]), Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let met = crew.stats().in_all();
        assert_eq!(met, "100 iterations, of which 100 failed");
    }

    /// As many as there are, or these.
    fn all(rows: &mut Rows, most: usize) -> Vec<Row> {
        (0..most).map_while(|_| rows.take().ok()).collect()
    }

    fn numbers(rows: &[Row]) -> BTreeSet<usize> {
        rows.iter().map(|row| row.number).collect()
    }

    #[test]
    fn shares_have_all_rows_and_no_row_is_in_two() {
        for (rows, shares) in [(11, 3), (100, 7), (2, 5), (0, 4), (6, 1)] {
            let taken = (0..shares).flat_map(|share| all(&mut dealt(rows, share, shares, WhenGone::Nothing), 200));
            let numbers: Vec<_> = taken.map(|row| row.number).collect();
            assert_eq!(numbers.len(), rows, "{rows} rows in {shares} shares");
            assert_eq!(numbers.into_iter().collect::<BTreeSet<_>>(), (0..rows).collect());
        }
    }

    #[test]
    fn a_row_is_one_users_until_that_is_gone() {
        let mut rows = dealt(12, 1, 4, WhenGone::Nothing);
        let taken = all(&mut rows, 99);
        assert_eq!(numbers(&taken), [1, 5, 9].into());
        let told = rows.take().err().unwrap().to_string();
        assert!(told.contains("has 3 rows") && told.contains("--recycle"), "{told}");
        drop(taken);
        assert_eq!(numbers(&all(&mut rows, 99)), [1, 5, 9].into());
    }

    #[test]
    fn rows_that_are_used_again_are_of_the_same_share_in_turn() {
        let mut rows = dealt(12, 3, 4, WhenGone::Again);
        let taken = all(&mut rows, 9);
        assert_eq!((taken.len(), numbers(&taken)), (9, [3, 7, 11].into()));
        for row in [3, 7, 11] {
            assert_eq!(taken.iter().filter(|taken| taken.number == row).count(), 3);
        }
        // A share of none has none to use again.
        assert!(dealt(3, 3, 4, WhenGone::Again).take().is_err());
    }

    #[test]
    fn without_a_feeder_each_user_is_another() {
        let mut rows = dealt(2, 0, 1, WhenGone::Another);
        let taken = all(&mut rows, 50);
        assert_eq!(numbers(&taken).len(), 50);
        drop(taken);
        assert_eq!(numbers(&all(&mut rows, 50)).len(), 50);
        assert_eq!(lock(&rows.free).len(), 50, "none is made where one is free");
    }
}
