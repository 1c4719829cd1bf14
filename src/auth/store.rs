//! Where replicas share sessions: the seam, and a store in memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A session that nobody has stored or leased anew for so long is gone from the stores of this crate.
pub(crate) const KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A lease alone is: whoever comes with an identity that nobody has leaves no more behind.
pub(crate) const KEEP_NONE: Duration = Duration::from_secs(60);
/// The memory store looks for what is too old no sooner than with so many.
const MANY: usize = 1024;

/// Where replicas share the sessions of their agents; see [`SharedSessions`](crate::SharedSessions).
///
/// There are [`MemoryStore`] and, with the feature `redis`, `RedisStore`; for any other database implement it yourself. For each
/// key it holds a session, which is bytes with a version, and a lease, which has a *fence*: a number greater than all that were
/// given out for this key before. What is stored under a fence has it as its version, so whoever comes late overwrites nothing
/// that is newer. Each method must be atomic. Its methods are those of the `async-trait` crate.
///
/// None of them is waited for longer than a second. An error, a panic or no answer in that time, to anybody, means that the store is away:
/// it is asked each second whether it is back, by a lease of no length for a key of its own. What an error says is shown in
/// [`Client::health`](crate::Client::health) and in traces: it must not repeat what was to be stored.
#[async_trait]
pub trait SessionStore: Send + Sync + 'static {
    /// What is stored.
    ///
    /// # Errors
    ///
    /// The store is away.
    async fn load(&self, key: &SessionKey) -> Result<Option<StoredSession>, BoxError>;

    /// Stores it if its version is that of what is stored, or greater. The lease with that fence ends. Whether it was stored.
    ///
    /// # Errors
    ///
    /// The store is away.
    async fn store(&self, key: &SessionKey, session: StoredSession) -> Result<bool, BoxError>;

    /// Leases the key to `owner` for `length`, by the store's clock, unless what is stored has a greater version than `newer_than` or
    /// another owner holds a lease. The fence is also greater than `newer_than`. Its own lease is given to an owner anew, as the
    /// answer may have been lost.
    ///
    /// # Errors
    ///
    /// The store is away.
    async fn lease(&self, key: &SessionKey, newer_than: u64, owner: u64, length: Duration) -> Result<Lease, BoxError>;

    /// Has the lease with this fence end so long from now, or at once where `length` is zero. Nothing changes where another was
    /// given out since.
    ///
    /// # Errors
    ///
    /// The store is away.
    async fn extend(&self, key: &SessionKey, fence: u64, length: Duration) -> Result<(), BoxError>;
}

/// What [`SessionStore::lease`] comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It is held until it ends or something is stored.
    Granted {
        /// What is stored under it has this version.
        fence: u64,
    },
    /// Another holds it.
    Taken {
        /// It ends then, unless it is extended.
        left: Duration,
    },
    /// None is needed: this is stored.
    Newer(StoredSession),
}

/// What a store holds: bytes, and how new they are.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredSession {
    /// The fence that it was stored under.
    pub version: u64,
    /// The session, as it was sealed.
    pub sealed: Vec<u8>,
}

impl StoredSession {
    /// These bytes, with this version.
    #[must_use]
    pub fn new(version: u64, sealed: Vec<u8>) -> Self {
        Self { version, sealed }
    }
}

impl fmt::Debug for StoredSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The bytes are a session in plain text where nothing seals them.
        f.debug_struct("StoredSession").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Whose session it is, as a store may know it: 43 characters of base64url, the SHA-256 of the login host, the OAuth client's id and
/// the identity given to [`Agent::shared_as`](crate::Agent::shared_as).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey(Box<str>);

impl SessionKey {
    /// Two lists of parts have the same key only if they are the same list.
    pub(crate) fn of(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        Self(BASE64_URL_SAFE_NO_PAD.encode(hash.finalize()).into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Shares sessions between the clients of one process; clones are the same store. For tests, and as an example of a store.
///
/// What nobody has used for 30 days is dropped.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Rows>>);

#[derive(Default)]
struct Rows {
    of: HashMap<SessionKey, Row>,
    /// With so many of them, what is too old is looked for.
    purge_at: usize,
}

struct Row {
    fence: u64,
    owner: u64,
    leased_until: Option<Instant>,
    session: Option<StoredSession>,
    used: Instant,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn row(&mut self, key: &SessionKey, now: Instant) -> &mut Row {
        if self.of.len() >= self.purge_at.max(MANY) {
            self.of.retain(|_, row| {
                let keep = if row.session.is_some() { KEEP } else { KEEP_NONE };
                now.saturating_duration_since(row.used) < keep || row.leased_until.is_some_and(|until| until > now)
            });
            self.purge_at = self.of.len().saturating_mul(2);
        }
        let row = self.of.entry(key.clone()).or_insert(Row {
            fence: 0,
            owner: 0,
            leased_until: None,
            session: None,
            used: now,
        });
        row.used = now;
        row
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<StoredSession>, BoxError> {
        Ok(self.lock().of.get(key).and_then(|row| row.session.clone()))
    }

    async fn store(&self, key: &SessionKey, session: StoredSession) -> Result<bool, BoxError> {
        let (mut rows, version) = (self.lock(), session.version);
        let row = rows.row(key, Instant::now());
        if row.session.as_ref().is_some_and(|stored| stored.version > version) {
            return Ok(false);
        }
        if row.fence <= version {
            (row.fence, row.leased_until) = (version, None);
        }
        row.session = Some(session);
        Ok(true)
    }

    async fn lease(&self, key: &SessionKey, newer_than: u64, owner: u64, length: Duration) -> Result<Lease, BoxError> {
        let (now, mut rows) = (Instant::now(), self.lock());
        let row = rows.row(key, now);
        if let Some(stored) = row.session.as_ref().filter(|stored| stored.version > newer_than) {
            return Ok(Lease::Newer(stored.clone()));
        }
        if let Some(until) = row.leased_until.filter(|until| *until > now && row.owner != owner) {
            return Ok(Lease::Taken { left: until - now });
        }
        row.fence = row.fence.max(newer_than).saturating_add(1);
        (row.owner, row.leased_until) = (owner, now.checked_add(length));
        Ok(Lease::Granted { fence: row.fence })
    }

    async fn extend(&self, key: &SessionKey, fence: u64, length: Duration) -> Result<(), BoxError> {
        let (now, mut rows) = (Instant::now(), self.lock());
        if let Some(row) = rows.of.get_mut(key).filter(|row| row.fence == fence) {
            row.leased_until = now.checked_add(length);
        }
        Ok(())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("sessions", &self.lock().of.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::time::advance;

    use super::*;

    #[test]
    fn a_key_is_that_of_its_parts_and_of_where_each_ends() {
        let key = SessionKey::of(&["ab", "c"]);
        assert_eq!((&key, key.to_string().as_str()), (&SessionKey::of(&["ab", "c"]), key.as_str()));
        for other in [&["a", "bc"][..], &["abc"], &["ab", "c", ""], &["c", "ab"]] {
            assert_ne!(key, SessionKey::of(other), "{other:?}");
        }
    }

    fn key(number: usize) -> SessionKey {
        SessionKey::of(&[&number.to_string()])
    }

    /// So many come once, and leave a lease each that is over at once.
    async fn others_come(store: &MemoryStore, first: usize) {
        for number in first..first + 4 * MANY {
            store.lease(&key(number), 0, 1, Duration::ZERO).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_has_used_for_its_time_is_dropped_and_nothing_else() {
        assert_eq!(KEEP.as_secs_f64() / 86_400.0, 30.0, "days, as is documented");
        let store = MemoryStore::default();
        let held = |numbers: [usize; 4]| numbers.map(|number| store.lock().of.contains_key(&key(number)));
        let (used, unused, leased, guessed) = (0, 1, 2, 3);
        for number in [used, unused] {
            assert!(store.store(&key(number), StoredSession::new(1, Vec::new())).await.unwrap());
        }
        advance(KEEP - 2 * KEEP_NONE).await;
        assert!(store.store(&key(used), StoredSession::new(1, Vec::new())).await.unwrap());
        store.lease(&key(leased), 0, 1, 2 * KEEP_NONE).await.unwrap();
        advance(Duration::from_secs(1)).await;
        store.lease(&key(guessed), 0, 1, Duration::ZERO).await.unwrap();
        advance(KEEP_NONE - Duration::from_secs(1)).await;
        others_come(&store, 10).await;
        assert_eq!(held([used, unused, leased, guessed]), [true; 4]);
        // To the second.
        advance(KEEP_NONE).await;
        others_come(&store, 10 + 4 * MANY).await;
        assert_eq!(held([used, unused, leased, guessed]), [true, false, false, false]);
        // Of the many that came before nothing is left.
        assert_eq!(format!("{store:?}"), format!("MemoryStore {{ sessions: {} }}", 1 + 4 * MANY));
    }
}
