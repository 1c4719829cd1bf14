//! When a planned fault strikes: under what load, on which connection, for which script, at what time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::bounded::Bounded;
use super::quota::Window;

/// Addresses and scripts that are remembered.
const REMEMBERED: usize = 100_000;

/// The condition of a planned fault. Only requests of `getScript` are counted and struck, and of those none that is refused for
/// its token, its quota, its permissions or its body, or because the service is down.
///
/// As text (`Display`, `FromStr`) each has the form its documentation gives. Those of connections, addresses and nodes need
/// sockets: in process they never hold, and behind a TLS proxy of this machine all come from one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum When {
    /// `always`.
    Always,
    /// `above=80`: while more script requests than this are under way.
    Above(usize),
    /// `burst=40/500ms`: after more script requests than this in so much time, be they refused by the knee or not.
    Burst(usize, Duration),
    /// `new-connection`: for the first request of a connection, of whatever kind that is.
    NewConnection,
    /// `kept-connection`: for every later one.
    KeptConnection,
    /// `first-of-script`: the first time that a script is asked for.
    FirstOfScript,
    /// `same-script`: while another request for the same script is under way.
    SameScript,
    /// `script=3`: for one script, counted from 1 in order of creation.
    Script(usize),
    /// `per-address=600`: beyond so many script requests from one address, in a fixed window of 60 s.
    PerAddress(u32),
    /// `time=3s..6s`: so long after the simulator's start.
    Time(Duration, Duration),
    /// `node=1/3`: on the connections of one of so many nodes, which get connections in turn. Answers then tell their node
    /// as `X-Node`.
    Node(u32, u32),
}

impl When {
    /// The longest time in it.
    pub(super) fn longest(&self) -> Duration {
        match self {
            Self::Burst(_, within) => *within,
            Self::Time(from, to) => *from.max(to),
            _ => Duration::ZERO,
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = Duration::as_millis;
        match self {
            Self::Always => f.write_str("always"),
            Self::Above(in_flight) => write!(f, "above={in_flight}"),
            Self::Burst(requests, within) => write!(f, "burst={requests}/{}ms", ms(within)),
            Self::NewConnection => f.write_str("new-connection"),
            Self::KeptConnection => f.write_str("kept-connection"),
            Self::FirstOfScript => f.write_str("first-of-script"),
            Self::SameScript => f.write_str("same-script"),
            Self::Script(number) => write!(f, "script={number}"),
            Self::PerAddress(requests) => write!(f, "per-address={requests}"),
            Self::Time(from, to) => write!(f, "time={}ms..{}ms", ms(from), ms(to)),
            Self::Node(node, of) => write!(f, "node={node}/{of}"),
        }
    }
}

impl FromStr for When {
    type Err = UnknownWhen;

    fn from_str(text: &str) -> Result<Self, UnknownWhen> {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let two = |between: &str| value.and_then(|value| value.split_once(between)).ok_or(UnknownWhen);
        let number = || value.and_then(|value| value.parse::<usize>().ok()).ok_or(UnknownWhen);
        match (name, value) {
            ("always", None) => Ok(Self::Always),
            ("new-connection", None) => Ok(Self::NewConnection),
            ("kept-connection", None) => Ok(Self::KeptConnection),
            ("first-of-script", None) => Ok(Self::FirstOfScript),
            ("same-script", None) => Ok(Self::SameScript),
            ("above", _) => Ok(Self::Above(number()?)),
            ("script", _) => number().and_then(|n| if n > 0 { Ok(Self::Script(n)) } else { Err(UnknownWhen) }),
            ("per-address", _) => Ok(Self::PerAddress(u32::try_from(number()?).map_err(|_| UnknownWhen)?)),
            ("burst", _) => {
                let (requests, within) = two("/")?;
                Ok(Self::Burst(requests.parse().map_err(|_| UnknownWhen)?, time(within)?))
            }
            ("time", _) => {
                let (from, to) = two("..")?;
                Ok(Self::Time(time(from)?, time(to)?))
            }
            ("node", _) => {
                let (node, of) = two("/")?;
                let (node, of) = (node.parse().map_err(|_| UnknownWhen)?, of.parse().map_err(|_| UnknownWhen)?);
                if (1..=of).contains(&node) { Ok(Self::Node(node, of)) } else { Err(UnknownWhen) }
            }
            _ => Err(UnknownWhen),
        }
    }
}

/// Of a day at most: `3s`, `1500ms`.
fn time(text: &str) -> Result<Duration, UnknownWhen> {
    let time = humantime::parse_duration(text).map_err(|_| UnknownWhen)?;
    if time > Duration::from_secs(86_400) { Err(UnknownWhen) } else { Ok(time) }
}

/// A text that names no [`When`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownWhen;

impl fmt::Display for UnknownWhen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no such condition; there are always, above=80, burst=40/500ms, new-connection, kept-connection, first-of-script, \
             same-script, script=3, per-address=600, time=3s..6s and node=1/3",
        )
    }
}

impl std::error::Error for UnknownWhen {}

/// Where a request came from: its connection, and how many came on it before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    pub(super) address: IpAddr,
    /// In order of acceptance, from 0.
    pub(super) connection: u32,
    pub(super) before: u32,
}

impl Peer {
    /// Of so many nodes, the one that its connection leads to, from 1.
    pub(super) fn node(&self, of: u32) -> u32 {
        self.connection % of.max(1) + 1
    }
}

/// What a script request meets, of all that conditions ask for.
pub(super) struct Met {
    at: Instant,
    in_flight: usize,
    peer: Option<Peer>,
    script: Option<Uuid>,
    first_of_script: bool,
    same_script: bool,
    number: Option<usize>,
}

/// What conditions remember of the requests before.
pub(super) struct Memory {
    began: Instant,
    seen: HashSet<Uuid>,
    under_way: HashMap<Uuid, usize>,
    starts: VecDeque<Instant>,
    addresses: Bounded<Window>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            seen: HashSet::new(),
            under_way: HashMap::new(),
            starts: VecDeque::new(),
            addresses: Bounded::new(REMEMBERED),
        }
    }

    /// A script request arrives; [`left`](Self::left) tells its end. What is no id is no script.
    pub(super) fn arrived(
        &mut self,
        script: Option<Uuid>,
        number: Option<usize>,
        in_flight: usize,
        peer: Option<Peer>,
        longest: Duration,
    ) -> Met {
        let at = Instant::now();
        self.starts.push_back(at);
        while self.starts.front().is_some_and(|start| *start + longest < at) || self.starts.len() > REMEMBERED {
            self.starts.pop_front();
        }
        let first_of_script = script.is_some_and(|id| self.seen.len() < REMEMBERED && self.seen.insert(id));
        let same_script = script.is_some_and(|id| {
            let under_way = self.under_way.entry(id).or_default();
            *under_way += 1;
            *under_way > 1
        });
        Met { at, in_flight, peer, script, first_of_script, same_script, number }
    }

    pub(super) fn left(&mut self, met: &Met) {
        if let Some(id) = met.script
            && let Some(under_way) = self.under_way.get_mut(&id)
        {
            *under_way -= 1;
            if *under_way == 0 {
                self.under_way.remove(&id);
            }
        }
    }

    /// Whether the condition holds. A limit is asked once for each request, as asking spends it.
    pub(super) fn holds(&mut self, when: When, met: &Met) -> bool {
        let before = met.peer.map(|peer| peer.before);
        match when {
            When::Always => true,
            When::Above(most) => met.in_flight > most,
            When::Burst(most, within) => {
                self.starts.iter().rev().take_while(|start| **start + within >= met.at).count() > most
            }
            When::NewConnection => before == Some(0),
            When::KeptConnection => before.is_some_and(|before| before > 0),
            When::FirstOfScript => met.first_of_script,
            When::SameScript => met.same_script,
            When::Script(number) => met.number == Some(number),
            When::PerAddress(limit) => {
                let Some(peer) = met.peer else { return false };
                let key = peer.address.to_string();
                if self.addresses.get(&key).is_none() {
                    self.addresses.insert(key.clone(), Window::default());
                }
                self.addresses.get_mut(&key).is_some_and(|window| window.take(limit, met.at).refused)
            }
            When::Time(from, to) => (self.began + from..self.began + to).contains(&met.at),
            When::Node(node, of) => met.peer.is_some_and(|peer| peer.node(of) == node),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_is_read_back() {
        let ms = Duration::from_millis;
        let all = [
            When::Always,
            When::Above(80),
            When::Burst(40, ms(500)),
            When::NewConnection,
            When::KeptConnection,
            When::FirstOfScript,
            When::SameScript,
            When::Script(3),
            When::PerAddress(600),
            When::Time(ms(3_000), ms(6_500)),
            When::Node(1, 3),
        ];
        for when in all {
            assert_eq!(when.to_string().parse(), Ok(when));
        }
        for text in
            ["", "above", "above=x", "script=0", "node=0/3", "node=4/3", "burst=4", "time=1s", "always=1", "never"]
        {
            assert_eq!(text.parse::<When>(), Err(UnknownWhen), "{text}");
        }
    }
}
