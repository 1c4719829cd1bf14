//! Many agents of one client before the simulator, on a paused clock: no socket, no waiting.

use std::time::Duration;

use genesys_scripts::simulator::{Simulator, SimulatorBuilder};
use genesys_scripts::{Agent, Client, Credentials, Error, Region, Script, ScriptId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What the simulator takes for a script.
pub(crate) const SERVICE_TIME: Duration = Duration::from_millis(20);

/// Runs a trial on a clock of its own, which stands still while anything can be done and then leaps.
pub(crate) fn virtually<F: Future>(trial: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(trial)
}

/// The bars hold for 20 seeds, and a release build tries them all; a debug build takes so many of the costly ones.
pub(crate) fn seeds(in_debug: u64) -> u64 {
    if cfg!(debug_assertions) { in_debug } else { 20 }
}

/// A client with nothing configured, and the simulator it talks to.
pub(crate) struct World {
    pub(crate) simulator: Simulator,
    pub(crate) client: Client,
}

impl World {
    pub(crate) fn new(simulator: SimulatorBuilder, seed: u64) -> Self {
        let simulator = simulator.seed(seed).in_process().unwrap();
        let here = simulator.url();
        let client = Client::builder(Region::custom(here, here, here).unwrap())
            .seed(seed)
            .with_middleware(simulator.transport())
            .build()
            .unwrap();
        Self { simulator, client }
    }

    /// The simulator's scripts.
    pub(crate) fn scripts(&self) -> Vec<ScriptId> {
        self.simulator.script_ids().iter().map(|id| id.parse().unwrap()).collect()
    }

    pub(crate) fn agent(&self) -> Agent {
        self.client.agent(Credentials::client("a contact centre", "simulator"))
    }

    /// So many agents, each with a token of its own: what follows is about scripts alone.
    pub(crate) async fn agents(&self, count: usize) -> Vec<Agent> {
        let agents: Vec<_> = (0..count).map(|_| self.agent()).collect();
        let mut logins = JoinSet::new();
        for agent in agents.clone() {
            logins.spawn(async move { agent.log_in().await.unwrap() });
        }
        logins.join_all().await;
        agents
    }

    /// Attempts for scripts, and how many of them were not answered 2xx.
    pub(crate) fn attempts(&self) -> (u64, u64) {
        let outcomes = self.simulator.stats().script_requests;
        let all = outcomes.values().sum::<u64>();
        (all, all - outcomes.get("200").copied().unwrap_or_default())
    }
}

/// What one call came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) id: ScriptId,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    pub(crate) result: Result<Script, Error>,
}

impl Done {
    pub(crate) fn took(&self) -> Duration {
        self.ended - self.begun
    }
}

pub(crate) async fn fetch(agent: Agent, id: ScriptId) -> Done {
    let begun = Instant::now();
    let result = agent.script(&id).await;
    Done { id, begun, ended: Instant::now(), result }
}

/// All calls at once.
pub(crate) async fn at_once(calls: impl IntoIterator<Item = (Agent, ScriptId)>) -> Vec<Done> {
    let mut fetching = JoinSet::new();
    for (agent, id) in calls {
        fetching.spawn(fetch(agent, id));
    }
    fetching.join_all().await
}

/// A call every so often, by the agents in turn, whatever becomes of the earlier ones.
pub(crate) async fn steadily(
    agents: &[Agent],
    every: Duration,
    lasts: Duration,
    id: impl Fn(usize) -> ScriptId,
) -> Vec<Done> {
    let mut calls = JoinSet::new();
    let start = Instant::now();
    let mut next = start;
    for count in 0.. {
        if next >= start + lasts {
            break;
        }
        sleep_until(next).await;
        calls.spawn(fetch(agents[count % agents.len()].clone(), id(count)));
        next += every;
    }
    calls.join_all().await
}

#[track_caller]
pub(crate) fn all_served<'a>(done: impl IntoIterator<Item = &'a Done>) {
    for call in done {
        assert!(call.result.is_ok(), "{:?} after {:?}", call.result, call.took());
    }
}

pub(crate) fn slowest<'a>(done: impl IntoIterator<Item = &'a Done>) -> Duration {
    done.into_iter().map(Done::took).max().unwrap()
}

/// The time of a client that is told the knee.
pub(crate) fn oracle(agents: usize, knee: usize) -> Duration {
    SERVICE_TIME * u32::try_from(agents.div_ceil(knee)).unwrap()
}
