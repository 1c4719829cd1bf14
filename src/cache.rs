//! The opt-in cache of scripts: what an agent desktop shows again and again, and what it shows while the service is down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use moka::future::Cache;
use tokio::time::{Instant, timeout_at};

use crate::agent::Agent;
use crate::call;
use crate::error::{Error, ErrorKind};
use crate::id::ScriptId;
use crate::scripts::Script;

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
    /// 5xx; never after a 400, 401, 403 or 404. Default 10 min; zero switches it off.
    pub stale_if_error: Duration,
}

impl Default for CachePolicy {
    fn default() -> Self {
        Self { capacity: 1_000, time_to_live: Duration::from_secs(60), stale_if_error: Duration::from_secs(600) }
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
    scope: Scope,
    id: ScriptId,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Scope {
    Agent(u64),
    Shared(Arc<str>),
}

#[derive(Clone)]
struct Entry {
    script: Arc<Script>,
    fetched: Instant,
}

pub(crate) struct ScriptCache {
    policy: CachePolicy,
    entries: Cache<Key, Entry>,
    /// The fetches under way: all who miss at once share one, and its failure too.
    fetches: Cache<Key, Result<Entry, Error>>,
}

impl ScriptCache {
    pub(crate) fn new(policy: CachePolicy) -> Self {
        Self {
            policy,
            entries: Cache::new(policy.capacity),
            fetches: Cache::builder().max_capacity(policy.capacity).time_to_live(Duration::from_secs(1)).build(),
        }
    }

    async fn fresh(&self, key: &Key) -> Option<Cached<Arc<Script>>> {
        self.held(key).await.filter(|cached| !cached.stale)
    }

    async fn held(&self, key: &Key) -> Option<Cached<Arc<Script>>> {
        let entry = self.entries.get(key).await?;
        let age = entry.fetched.elapsed();
        if age > self.policy.time_to_live.saturating_add(self.policy.stale_if_error) {
            self.entries.invalidate(key).await;
            return None;
        }
        Some(Cached { value: entry.script, age, stale: age > self.policy.time_to_live })
    }
}

impl Agent {
    /// A script, from the cache if it holds a fresh one; else as [`Agent::script`], and kept.
    ///
    /// Calls for the same script that miss at once are one call to the service. Where that fails for overload, a
    /// timeout, a broken connection or a 5xx, an older copy is given out, which says so ([`Cached::stale`]).
    /// Without a cache on the builder it is [`Agent::script`].
    ///
    /// # Errors
    ///
    /// As [`Agent::script`].
    pub async fn cached_script(&self, id: &ScriptId) -> Result<Cached<Arc<Script>>, Error> {
        let Some(cache) = &self.client().cache else {
            let script = self.script(id).await?;
            return Ok(Cached { value: Arc::new(script), age: Duration::ZERO, stale: false });
        };
        let scope = self.cache_scope().map_or(Scope::Agent(self.number), Scope::Shared);
        let key = Key { scope, id: id.clone() };
        if let Some(cached) = cache.fresh(&key).await {
            return Ok(cached);
        }
        let deadline = call::after(Instant::now(), self.timeout());
        let led = AtomicBool::new(false);
        let lead = async {
            led.store(true, Ordering::Relaxed);
            self.fetch(id).await
        };
        let fetched = match timeout_at(deadline, cache.fetches.get_with_by_ref(&key, lead)).await {
            Ok(fetched) => fetched,
            Err(_) => {
                Err(Error::new(ErrorKind::Timeout, "the call's time ran out while another call fetched the script"))
            }
        };
        // It was for those who waited; the next to miss fetches anew.
        cache.fetches.invalidate(&key).await;
        let fetched = match fetched {
            Err(error) if !led.load(Ordering::Relaxed) && is_the_callers_own(&error) && Instant::now() < deadline => {
                self.until(deadline).fetch(id).await
            }
            fetched => fetched,
        };
        match fetched {
            Ok(entry) => {
                let cached = Cached { value: Arc::clone(&entry.script), age: entry.fetched.elapsed(), stale: false };
                cache.entries.insert(key, entry).await;
                Ok(cached)
            }
            Err(error) if may_be_stale(&error) => cache.held(&key).await.ok_or(error),
            Err(error) => {
                if matches!(error.status(), Some(400 | 401 | 403 | 404)) {
                    cache.entries.invalidate(&key).await;
                }
                Err(error)
            }
        }
    }

    async fn fetch(&self, id: &ScriptId) -> Result<Entry, Error> {
        let script = Arc::new(self.script(id).await?);
        Ok(Entry { script, fetched: Instant::now() })
    }
}

/// A failure of the one who asked, not of the script: its login, its permissions, its quota, its patience.
fn is_the_callers_own(error: &Error) -> bool {
    error.is_login()
        || matches!(
            error.kind(),
            ErrorKind::Unauthorized | ErrorKind::Forbidden | ErrorKind::Throttled | ErrorKind::Timeout
        )
}

/// Only where the service could not be asked; what it says of the script or of the agent holds.
fn may_be_stale(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Connection | ErrorKind::Server => true,
        ErrorKind::BadRequest => {
            error.bad_request().is_some_and(|bad_request| bad_request.cause == crate::error::Cause::Overload)
        }
        _ => false,
    }
}
