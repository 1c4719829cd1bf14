//! The opt-in cache of scripts: what an agent desktop shows again and again, and what it shows while the service is down.
//! Its policy and its store; who asks it is `scripts/cached.rs`.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tokio::time::Instant;

use crate::error::Error;
use crate::id::ScriptId;
use crate::scripts::model::Script;

/// How scripts are cached. Off until the builder is given one: see [`ClientBuilder::cache`](crate::ClientBuilder::cache).
///
/// ```
/// use genesys_scripts::{CachePolicy, Client, Region};
///
/// let client = Client::builder(Region::US_EAST_1).cache(CachePolicy::default()).build()?;
/// # Ok::<(), genesys_scripts::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CachePolicy {
    /// The most scripts kept, of all agents together. Default 1,000.
    pub capacity: u64,
    /// How long a script is given out without asking again. Default 60 s.
    pub time_to_live: Duration,
    /// How long after that it is still given out where asking again fails for overload, a timeout, a broken connection or a
    /// 5xx; never after another 400, a 401, 403 or 404. Default 10 min; zero switches it off. The call fails first, with all its attempts:
    /// who would rather show the old script soon asks with a short [`Agent::with_timeout`](crate::Agent::with_timeout).
    pub stale_if_error: Duration,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self { capacity: 1_000, time_to_live: Duration::from_secs(60), stale_if_error: Duration::from_secs(600) }
    }
}

impl CachePolicy {
    /// With another [`capacity`](Self::capacity).
    #[must_use]
    pub fn with_capacity(mut self, capacity: u64) -> Self {
        self.capacity = capacity;
        self
    }

    /// With another [`time_to_live`](Self::time_to_live).
    #[must_use]
    pub fn with_time_to_live(mut self, time_to_live: Duration) -> Self {
        self.time_to_live = time_to_live;
        self
    }

    /// With another [`stale_if_error`](Self::stale_if_error).
    #[must_use]
    pub fn with_stale_if_error(mut self, stale_if_error: Duration) -> Self {
        self.stale_if_error = stale_if_error;
        self
    }
}

/// What the cache gives, and how fresh it is.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cached<T> {
    /// The value.
    pub value: T,
    /// How long ago the service gave it.
    pub age: Duration,
    /// Whether it is older than its time to live, given out because the service could not be asked.
    pub stale: bool,
}

/// Whose copy it is: an agent sees only what it fetched itself, unless the user named a scope that agents share.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) scope: Scope,
    pub(crate) id: ScriptId,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    Agent(u64),
    Shared(Arc<str>),
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) script: Arc<Script>,
    pub(crate) fetched: Instant,
}

pub(crate) struct ScriptCache {
    policy: CachePolicy,
    pub(crate) entries: Cache<Key, Entry>,
    /// The fetches under way: all who miss at once share one, and its failure too.
    pub(crate) fetches: Cache<Key, Result<Entry, Error>>,
}

impl ScriptCache {
    pub(crate) fn new(policy: CachePolicy) -> Self {
        Self {
            policy,
            entries: Cache::new(policy.capacity),
            fetches: Cache::builder().max_capacity(policy.capacity).time_to_live(Duration::from_secs(1)).build(),
        }
    }

    pub(crate) async fn held(&self, key: &Key) -> Option<Cached<Arc<Script>>> {
        let entry = self.entries.get(key).await?;
        let age = entry.fetched.elapsed();
        if age > self.policy.time_to_live.saturating_add(self.policy.stale_if_error) {
            self.entries.invalidate(key).await;
            return None;
        }
        Some(Cached { value: entry.script, age, stale: age > self.policy.time_to_live })
    }
}
