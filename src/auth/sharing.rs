//! What the replicas of a service share their sessions by: the store as one client sees it, watched, so that nobody waits for one that
//! is away.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep, timeout};

use super::credentials::Session;
use super::store::{SessionKey, SessionStore, StoredSession};
use crate::error::{Error, ErrorKind};
use crate::metrics;
use crate::text::shown;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Bytes = Result<Vec<u8>, BoxError>;
type Turned = Arc<dyn Fn(&SessionKey, &[u8]) -> Bytes + Send + Sync>;

/// The store is waited for no longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is asked whether it is there.
const CHECK: Duration = Duration::from_secs(1);
/// Who cannot do without it waits for it until it has been away for so long.
pub(super) const SHORT_ABSENCE: Duration = Duration::from_secs(5);
/// The checks have ended, as the runtime did that they ran in: begin anew.
const OVERDUE: Duration = Duration::from_secs(5);

/// What the replicas of a service share the sessions of their agents by: a store, and what seals them.
///
/// Each replica gives its client the same store, and each agent an identity ([`Agent::shared_as`](crate::Agent::shared_as)). Then, of
/// all replicas, one logs an identity in or refreshes its token, by a lease, and the others take over what it stored; a refresh token is
/// stored before its access token is used. A replica that dies while it holds the lease delays the others by 10 s at most.
///
/// While the store is away each replica goes on with what it holds: no token is refreshed before it has expired or was refused, and then
/// by each replica for itself. What a replica got meanwhile it stores when the store is back, which it notices within 2 s.
/// [`Client::health`](crate::Client::health) and the metrics say so.
///
/// ```
/// use genesys_scripts::{Client, Credentials, MemoryStore, Region, SharedSessions};
///
/// # fn seal(row: &[u8], plain: &[u8]) -> std::io::Result<Vec<u8>> { Ok(plain.to_vec()) }
/// # let open = seal;
/// let sessions = SharedSessions::new(MemoryStore::default()) // or RedisStore::open("redis://redis:6379")?
///     .sealed(
///         move |key, plain| Ok(seal(key.as_str().as_bytes(), plain)?),
///         move |key, sealed| Ok(open(key.as_str().as_bytes(), sealed)?),
///     );
/// let client = Client::builder(Region::EU_CENTRAL_1).share_sessions(sessions).build()?;
/// let agent = client.agent(Credentials::client("client id", "client secret")).shared_as("the dialler");
/// # Ok::<(), genesys_scripts::Error>(())
/// ```
#[derive(Clone)]
pub struct SharedSessions {
    store: Arc<dyn SessionStore>,
    seal: Turned,
    open: Turned,
}

impl SharedSessions {
    /// Sessions in this store, **as plain text** unless they are [`sealed`](Self::sealed).
    pub fn new(store: impl SessionStore) -> Self {
        let plain: Turned = Arc::new(|_, bytes| Ok(bytes.to_vec()));
        Self { store: Arc::new(store), seal: Arc::clone(&plain), open: plain }
    }

    /// Has `seal` make the bytes that are stored and `open` undo it, for example by an AEAD cipher with a key that all replicas have.
    /// They are given the key that the session is stored under: bind what you seal to it (as associated data), so that nobody who can
    /// write to the store gives one agent another's session.
    ///
    /// What `open` fails for is no session: its agent logs in with what it has, and overwrites it. They must not block.
    #[must_use]
    pub fn sealed<S, O>(mut self, seal: S, open: O) -> Self
    where
        S: Fn(&SessionKey, &[u8]) -> Result<Vec<u8>, BoxError> + Send + Sync + 'static,
        O: Fn(&SessionKey, &[u8]) -> Result<Vec<u8>, BoxError> + Send + Sync + 'static,
    {
        (self.seal, self.open) = (Arc::new(seal), Arc::new(open));
        self
    }
}

impl fmt::Debug for SharedSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSessions").finish_non_exhaustive()
    }
}

/// The store of one client, and how it stands.
pub(crate) struct Sharing {
    sessions: SharedSessions,
    standing: Mutex<Standing>,
    newest: Mutex<HashMap<SessionKey, Weak<AtomicU64>>>,
}

#[derive(Default)]
struct Standing {
    away: Option<Gone>,
    answered: Option<Instant>,
    /// When it was last asked whether it is there, and by which of the tasks that do so.
    checked: Option<(Instant, u64)>,
}

/// Since when, and why.
struct Gone {
    since: Instant,
    why: String,
    _metric: metrics::Raised,
}

/// The store is away, for this reason.
#[derive(Debug)]
pub(crate) struct Away(pub(crate) String);

impl Away {
    /// What that is to a call that cannot do without.
    pub(crate) fn into_error(self, what: &str) -> Error {
        Error::new(ErrorKind::Unavailable, format!("{what}: {}", self.0)).with_retry_after(Some(CHECK))
    }
}

impl Sharing {
    pub(crate) fn new(sessions: SharedSessions) -> Self {
        Self { sessions, standing: Mutex::default(), newest: Mutex::default() }
    }

    /// How many logins and logouts of this identity its agents have told, of which the last one stands; kept while any of them is there.
    pub(crate) fn newest(&self, key: &SessionKey) -> Arc<AtomicU64> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_key) = newest.get(key).and_then(Weak::upgrade) {
            return of_key;
        }
        // Seldom enough that each agent pays for few of them.
        if newest.len() == newest.capacity() {
            newest.retain(|_, of_key| of_key.strong_count() > 0);
            let as_many = newest.len();
            newest.reserve(as_many);
        }
        let of_key = Arc::default();
        newest.insert(key.clone(), Arc::downgrade(&of_key));
        of_key
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_away(&self) -> bool {
        self.standing().away.is_some()
    }

    /// Since when it is away, and why.
    pub(crate) fn away(&self) -> Option<(Instant, String)> {
        self.standing().away.as_ref().map(|gone| (gone.since, gone.why.clone()))
    }

    /// Waits for it as long as its absence is a short one. Whether it is back.
    pub(crate) async fn comes_back(&self) -> bool {
        loop {
            match self.away() {
                None => return true,
                Some((since, _)) if since.elapsed() >= SHORT_ABSENCE => return false,
                Some(_) => sleep(CHECK / 10).await,
            }
        }
    }

    /// Asks the store, unless it is known to be away.
    pub(crate) async fn ask<T, F>(
        &self,
        what: &'static str,
        ask: impl FnOnce(Arc<dyn SessionStore>) -> F,
    ) -> Result<T, Away>
    where
        F: Future<Output = Result<T, BoxError>>,
    {
        if let Some((_, why)) = self.away() {
            return Err(Away(why));
        }
        self.try_to_ask(what, ask).await
    }

    async fn try_to_ask<T, F>(
        &self,
        what: &'static str,
        ask: impl FnOnce(Arc<dyn SessionStore>) -> F,
    ) -> Result<T, Away>
    where
        F: Future<Output = Result<T, BoxError>>,
    {
        let began = Instant::now();
        let store = Arc::clone(&self.sessions.store);
        // Also the call that gives the future runs in here, and may panic.
        let asked = AssertUnwindSafe(async { ask(store).await }).catch_unwind();
        let (why, kind) = match timeout(PATIENCE, asked).await {
            Ok(Ok(Ok(answer))) => {
                metrics::asked_store(what, began.elapsed(), None);
                self.is_back();
                return Ok(answer);
            }
            Ok(Ok(Err(error))) => (shown(&error.to_string()), ErrorKind::Unavailable),
            Ok(Err(_)) => ("the session store panicked".to_owned(), ErrorKind::Unavailable),
            Err(_) => (format!("the session store did not answer within {} s", PATIENCE.as_secs()), ErrorKind::Timeout),
        };
        metrics::asked_store(what, began.elapsed(), Some(kind));
        // Others were answered meanwhile: it is this one that was slow, and perhaps this machine.
        let is_there = kind == ErrorKind::Timeout && self.standing().answered.is_some_and(|at| at > began);
        if !is_there {
            self.is_gone(&why);
        }
        Err(Away(why))
    }

    fn is_back(&self) {
        let mut standing = self.standing();
        standing.answered = Some(Instant::now());
        if let Some(gone) = standing.away.take() {
            tracing::info!(
                away_s = gone.since.elapsed().as_secs_f64(),
                "the session store is back, sessions are shared again"
            );
        }
    }

    fn is_gone(&self, why: &str) {
        let mut standing = self.standing();
        match &mut standing.away {
            Some(gone) => gone.why = why.to_owned(),
            None => {
                tracing::warn!(cause = why, "the session store is away, this replica goes on with what it holds");
                let gone = Gone { since: Instant::now(), why: why.to_owned(), _metric: metrics::store_away() };
                standing.away = Some(gone);
            }
        }
    }

    /// Has one task ask from time to time whether the store is there, for as long as its client lives: nobody may log in for hours.
    pub(crate) fn watch(self: &Arc<Self>) {
        let now = Instant::now();
        let mut standing = self.standing();
        let task = match standing.checked {
            Some((at, _)) if now.saturating_duration_since(at) < OVERDUE => return,
            Some((_, task)) => task.wrapping_add(1),
            None => 0,
        };
        standing.checked = Some((now, task));
        drop(standing);
        let sharing = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                sleep(CHECK).await;
                let Some(sharing) = sharing.upgrade() else { return };
                if !sharing.check(task).await {
                    return;
                }
            }
        });
    }

    /// Whether this task is to go on.
    async fn check(&self, task: u64) -> bool {
        {
            let mut standing = self.standing();
            if standing.checked.is_none_or(|(_, checking)| checking != task) {
                return false;
            }
            standing.checked = Some((Instant::now(), task));
        }
        // A change, as sessions are: a store that can only be read is of no use.
        let key = SessionKey::of(&[]);
        let _ = self.try_to_ask("check", |store| async move { store.lease(&key, 0, 0, Duration::ZERO).await }).await;
        true
    }

    pub(crate) fn seal(&self, key: &SessionKey, session: &Session) -> Result<Vec<u8>, BoxError> {
        (self.sessions.seal)(key, &serde_json::to_vec(session)?)
    }

    /// None where it cannot be read: it is as good as none, and the next login overwrites it.
    pub(crate) fn open(&self, key: &SessionKey, stored: &StoredSession) -> Option<Session> {
        let opened = (self.sessions.open)(key, &stored.sealed);
        // Its own words may repeat what it read.
        let session = opened.and_then(|plain| serde_json::from_slice(&plain).map_err(|_| "it is no session".into()));
        session
            .inspect_err(|error| {
                let cause = shown(&error.to_string());
                tracing::error!(%key, cause, "a stored session cannot be read: sealed with another key, or changed?");
            })
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::auth::store::Lease;

    /// Leases at once; loads after half a second, or never, and then fails.
    struct Odd {
        hangs: bool,
    }

    #[async_trait]
    impl SessionStore for Odd {
        async fn load(&self, _: &SessionKey) -> Result<Option<StoredSession>, BoxError> {
            sleep(if self.hangs { PATIENCE * 2 } else { PATIENCE / 2 }).await;
            Err("it fails".into())
        }
        async fn store(&self, _: &SessionKey, _: StoredSession) -> Result<bool, BoxError> {
            Ok(true)
        }
        async fn lease(&self, _: &SessionKey, _: u64, _: u64, _: Duration) -> Result<Lease, BoxError> {
            Ok(Lease::Granted { fence: 1 })
        }
        async fn extend(&self, _: &SessionKey, _: u64, _: Duration) -> Result<(), BoxError> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_is_away_and_one_that_is_slow_once_while_it_answers_others_is_not() {
        for (hangs, others, is_away) in
            [(false, false, true), (false, true, true), (true, false, true), (true, true, false)]
        {
            let sharing = Sharing::new(SharedSessions::new(Odd { hangs }));
            let key = SessionKey::of(&[]);
            let slow = sharing.ask("load", |store| {
                let key = key.clone();
                async move { store.load(&key).await }
            });
            let other = async {
                sleep(PATIENCE / 10).await;
                if others {
                    let key = key.clone();
                    let leased = sharing.ask("lease", |store| async move { store.lease(&key, 0, 1, CHECK).await });
                    assert!(leased.await.is_ok());
                }
            };
            let (asked, ()) = tokio::join!(slow, other);
            assert!(asked.is_err());
            assert_eq!(sharing.is_away(), is_away, "{hangs} {others}");
            assert_eq!(format!("{:?}", sharing.sessions), "SharedSessions { .. }");
        }
    }

    #[test]
    fn what_came_last_is_kept_of_an_identity_for_as_long_as_it_has_agents() {
        let sharing = Sharing::new(SharedSessions::new(Odd { hangs: false }));
        let key = |number: usize| SessionKey::of(&[&number.to_string()]);
        let held = sharing.newest(&key(0));
        for number in 1..10_000 {
            sharing.newest(&key(number));
        }
        assert!(Arc::ptr_eq(&held, &sharing.newest(&key(0))));
        assert!(sharing.newest.lock().unwrap().len() < 10);
    }

    /// Counts how often it is asked.
    #[derive(Clone, Default)]
    struct Counting(Arc<std::sync::atomic::AtomicUsize>);

    impl Counting {
        fn asked(&self) -> usize {
            self.0.swap(0, std::sync::atomic::Ordering::SeqCst)
        }
    }

    #[async_trait]
    impl SessionStore for Counting {
        async fn load(&self, _: &SessionKey) -> Result<Option<StoredSession>, BoxError> {
            Ok(None)
        }
        async fn store(&self, _: &SessionKey, _: StoredSession) -> Result<bool, BoxError> {
            Ok(true)
        }
        async fn lease(&self, _: &SessionKey, _: u64, _: u64, _: Duration) -> Result<Lease, BoxError> {
            self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Ok(Lease::Granted { fence: 1 })
        }
        async fn extend(&self, _: &SessionKey, _: u64, _: Duration) -> Result<(), BoxError> {
            Ok(())
        }
    }

    #[test]
    fn the_store_is_checked_once_a_second_also_after_the_runtime_that_did_so_is_gone() {
        let store = Counting::default();
        let sharing = Arc::new(Sharing::new(SharedSessions::new(store.clone())));
        for round in 1..4 {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
            runtime.block_on(async {
                // Each has a clock of its own; what the one before has begun is overdue.
                sleep(10 * OVERDUE * round).await;
                store.asked();
                // Each call has it watched.
                for _ in 0..100 {
                    sharing.watch();
                    sleep(CHECK / 10).await;
                }
            });
            let asked = store.asked();
            assert!((9..=11).contains(&asked), "{asked}");
        }
    }
}
