//! What a Locust master and its workers tell each other: `[type, data, node_id]` in MessagePack, as `runners.py` of
//! Locust 2.47 has it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

/// How many users of each class.
pub(super) type Users = BTreeMap<String, u32>;

/// What the master tells.
#[derive(Debug)]
pub(super) enum Order {
    /// It knows this worker now, by this number, which no other worker has.
    Ack(Option<u32>),
    Spawn(Spawn),
    Stop,
    Quit,
    Reconnect,
    Heartbeat,
    /// Nothing to be done for it.
    Other,
}

/// These users are to be, from now on.
#[derive(Debug, Deserialize)]
pub(super) struct Spawn {
    /// An order with an earlier one is out of date.
    pub(super) timestamp: f64,
    pub(super) user_classes_count: Users,
    /// Where Locust believes that the load goes.
    pub(super) host: Option<String>,
    /// Seconds that users get to end what they do.
    stop_timeout: Option<f64>,
    #[serde(default)]
    parsed_options: Asked,
}

/// Of the master's command line, which has whatever options a locustfile adds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    shares: Option<u32>,
    expect_workers: Option<u32>,
}

#[derive(Deserialize)]
struct Known {
    index: Option<u32>,
}

impl Spawn {
    /// How many shares the feeder's rows are dealt in.
    pub(super) fn shares(&self) -> u32 {
        let Asked { shares, expect_workers } = self.parsed_options;
        shares.filter(|shares| *shares > 0).or(expect_workers).unwrap_or_default().max(1)
    }

    pub(super) fn stop_timeout(&self) -> std::time::Duration {
        std::time::Duration::try_from_secs_f64(self.stop_timeout.unwrap_or_default()).unwrap_or_default()
    }
}

impl Order {
    pub(super) fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let (kind, _, _): (String, IgnoredAny, IgnoredAny) = read(bytes).context("no message of Locust's")?;
        Ok(match kind.as_str() {
            "ack" => Self::Ack(data::<Option<Known>>(bytes, &kind)?.and_then(|known| known.index)),
            "spawn" => Self::Spawn(data(bytes, &kind)?),
            "stop" => Self::Stop,
            "quit" => Self::Quit,
            "reconnect" => Self::Reconnect,
            "heartbeat" => Self::Heartbeat,
            _ => Self::Other,
        })
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, rmp_serde::decode::Error> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    // What is nested deeper is none of Locust's, and each level takes of the stack.
    reader.set_max_depth(32);
    T::deserialize(&mut reader)
}

fn data<T: DeserializeOwned>(bytes: &[u8], kind: &str) -> anyhow::Result<T> {
    let (_, data, _): (IgnoredAny, T, IgnoredAny) =
        read(bytes).with_context(|| format!("{kind}, and what comes with it is not as Locust 2.47 sends it"))?;
    Ok(data)
}

/// A message to the master.
pub(super) fn written(kind: &str, data: &impl Serialize, worker: &str) -> anyhow::Result<Vec<u8>> {
    rmp_serde::to_vec_named(&(kind, data, worker)).with_context(|| format!("cannot write {kind}"))
}

/// That it is there: the data of `heartbeat`.
#[derive(Serialize)]
pub(super) struct Heartbeat {
    pub(super) state: &'static str,
    /// Per cent of all cores.
    pub(super) current_cpu_usage: f64,
    /// Bytes.
    pub(super) current_memory_usage: u64,
}

/// The data of `spawning_complete`.
#[derive(Serialize)]
pub(super) struct Spawned {
    pub(super) user_classes_count: Users,
    pub(super) user_count: u32,
}

impl Spawned {
    pub(super) fn of(users: Users) -> Self {
        Self { user_count: users.values().sum(), user_classes_count: users }
    }
}

/// The data of `exception`, which Locust shows and counts by the place it comes from.
#[derive(Serialize)]
pub(super) struct Exception<'a> {
    pub(super) msg: &'a str,
    pub(super) traceback: &'a str,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As Locust's own code encoded it.
    pub(in super::super) fn recorded(who: &str, kind: &str) -> Vec<u8> {
        let line = include_str!("recorded.txt").lines().find_map(|line| line.strip_prefix(&format!("{who} {kind} ")));
        let hex = line.unwrap_or_else(|| panic!("{who} {kind}"));
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    const WORKER: &str = "generator-1_0123456789abcdef0123456789abcdef";

    #[test]
    fn what_a_worker_sends_is_what_a_python_worker_sends() {
        let two = Spawned::of(Users::from([("Published".to_owned(), 1), ("Script".to_owned(), 1)]));
        let heartbeat = Heartbeat { state: "running", current_cpu_usage: 0.0, current_memory_usage: 0 };
        let exception = Exception { msg: "the rows are used up", traceback: "genesys-load" };
        for (kind, ours) in [
            ("client_ready", written("client_ready", &"2.47.0", WORKER)),
            ("spawning", written("spawning", &(), WORKER)),
            ("spawning_complete", written("spawning_complete", &two, WORKER)),
            ("heartbeat", written("heartbeat", &heartbeat, WORKER)),
            ("exception", written("exception", &exception, WORKER)),
            ("client_stopped", written("client_stopped", &(), WORKER)),
            ("quit", written("quit", &(), WORKER)),
        ] {
            assert_eq!(ours.unwrap(), recorded("sent", kind), "{kind}");
        }
    }

    #[test]
    fn what_a_master_sends_is_read() {
        let read = |kind: &str| Order::read(&recorded("received", kind)).unwrap();
        assert!(matches!(read("ack"), Order::Ack(Some(0))));
        assert!(matches!(read("heartbeat"), Order::Heartbeat));
        assert!(matches!(read("spawning_complete"), Order::Other));
        assert!(matches!(
            (read("stop"), read("quit"), read("reconnect")),
            (Order::Stop, Order::Quit, Order::Reconnect)
        ));
        let Order::Spawn(spawn) = read("spawn") else { panic!("no spawn") };
        let users: Vec<_> = spawn.user_classes_count.iter().map(|(class, users)| (class.as_str(), *users)).collect();
        assert_eq!(users, [("Published", 1), ("Script", 1)]);
        assert!(spawn.timestamp > 1.7e9 && spawn.host.as_deref() == Some("http://127.0.0.1:1"));
        assert_eq!((spawn.stop_timeout().as_millis(), spawn.shares()), (1_000, 1));
    }

    #[test]
    fn masters_of_other_ages_are_understood() {
        let ack = |data: Option<BTreeMap<&str, u32>>| Order::read(&written("ack", &data, WORKER).unwrap()).unwrap();
        assert!(matches!(ack(None), Order::Ack(None)), "before 2.11 it numbers no workers");
        assert!(matches!(ack(Some(BTreeMap::from([("index", 7), ("more", 1)]))), Order::Ack(Some(7))));
        assert!(matches!(Order::read(&written("custom", &[1, 2], WORKER).unwrap()), Ok(Order::Other)));
    }

    #[test]
    fn shares_are_those_the_master_was_told_or_as_many_as_the_workers_it_expects() {
        for (shares, expected, of) in
            [(Some(8), Some(4), 8), (Some(0), Some(4), 4), (None, Some(3), 3), (None, None, 1)]
        {
            let parsed_options = Asked { shares, expect_workers: expected };
            let users = Users::new();
            let spawn =
                Spawn { timestamp: 0.0, user_classes_count: users, host: None, stop_timeout: None, parsed_options };
            assert_eq!(spawn.shares(), of);
        }
    }

    #[test]
    fn what_is_no_message_is_an_error_and_no_end_of_the_worker() {
        let spawn = recorded("received", "spawn");
        for cut in 0..spawn.len() {
            assert!(Order::read(&spawn[..cut]).is_err(), "cut at {cut}");
        }
        for bytes in [&b"\xdd\xff\xff\xff\xff"[..], b"\x93\xa4stop", b"{}", b"\x91\x91\x91", b"\x93\xa5spawn\x80\xc0"] {
            assert!(Order::read(bytes).is_err(), "{bytes:?}");
        }
        // Deeper than any stack.
        assert!(Order::read(&[&b"\x93\xa4spaw"[..], &[0x91; 100_000]].concat()).is_err());
    }
}
