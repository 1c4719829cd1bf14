//! A script from the cache, where the client has one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::model::Script;
use crate::agent::Agent;
use crate::cache::{Cached, Entry, Key, ScriptCache};
use crate::error::{Cause, Error, ErrorKind};
use crate::id::ScriptId;
use crate::metrics;
use crate::retry::after;

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
        let scope = self.cache_scope();
        let key = Key { scope, id: id.clone() };
        if let Some(cached) = cache.held(&key).await.filter(|cached| !cached.stale) {
            metrics::cached("fresh");
            return Ok(cached);
        }
        match self.fetch_for_all(cache, &key).await {
            Ok(entry) => {
                let cached = Cached { value: Arc::clone(&entry.script), age: entry.fetched.elapsed(), stale: false };
                cache.entries.insert(key, entry).await;
                metrics::cached("missed");
                Ok(cached)
            }
            Err(error) if may_be_stale(&error) => {
                let held = cache.held(&key).await;
                metrics::cached(if held.is_some() { "stale" } else { "missed" });
                held.ok_or(error)
            }
            Err(error) => {
                metrics::cached("missed");
                // A 400 that may pass says nothing of the script.
                if matches!(error.status(), Some(400 | 401 | 403 | 404)) && !error.is_retryable() {
                    cache.entries.invalidate(&key).await;
                }
                Err(error)
            }
        }
    }

    /// One call for all who want the same. Where its caller's time was too short, another one goes on for all; where it fails
    /// otherwise for what is its caller's own, each by itself.
    async fn fetch_for_all(&self, cache: &ScriptCache, key: &Key) -> Result<Entry, Error> {
        let deadline = after(Instant::now(), self.timeout());
        let mut last = None;
        loop {
            let led = AtomicBool::new(false);
            let lead = async {
                led.store(true, Ordering::Relaxed);
                self.until(deadline).fetch(&key.id).await
            };
            let Ok(fetched) = timeout_at(deadline, cache.fetches.get_with_by_ref(key, lead)).await else {
                let what = "the call's time ran out while another call fetched the script";
                return Err(last.unwrap_or_else(|| Error::new(ErrorKind::Timeout, what)));
            };
            // It was for those who waited; the next to miss fetches anew.
            cache.fetches.invalidate(key).await;
            match fetched {
                Err(error) if !led.load(Ordering::Relaxed) && Instant::now() < deadline => match error.kind() {
                    ErrorKind::Timeout if !error.is_login() => last = Some(error),
                    _ if is_the_callers_own(&error) => return self.until(deadline).fetch(&key.id).await,
                    _ => return Err(error),
                },
                fetched => return fetched,
            }
        }
    }

    async fn fetch(&self, id: &ScriptId) -> Result<Entry, Error> {
        let script = Arc::new(self.script(id).await?);
        Ok(Entry { script, fetched: Instant::now() })
    }
}

/// A failure of the one who asked, not of the script: its login, its permissions, its quota.
fn is_the_callers_own(error: &Error) -> bool {
    error.is_login() || matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::Forbidden | ErrorKind::Throttled)
}

/// Only where the service could not be asked; what it says of the script or of the agent holds.
fn may_be_stale(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Connection | ErrorKind::Server => true,
        ErrorKind::BadRequest => error.bad_request().is_some_and(|bad_request| bad_request.cause == Cause::Overload),
        _ => false,
    }
}
