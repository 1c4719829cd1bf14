//! Has the user store each new session, until it is stored: after a restart only the newest refresh token is good.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::select;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::credentials::Session;
use crate::client::ClientShared;
use crate::text::{redact, shown};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Telling = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// The pauses before a session is tried again grow from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest while the client shuts down.
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// A store that fails for so long will not be mended; the agents go on without.
const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// What a callback of [`Agent::on_session`](crate::Agent::on_session) may give: nothing, or a `Result` that says whether the
/// session is stored.
pub trait SessionStored {
    /// Whether the session is stored, else why not.
    ///
    /// # Errors
    ///
    /// Why it is not.
    fn stored(self) -> Result<(), BoxError>;
}

impl SessionStored for () {
    fn stored(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError>> SessionStored for Result<(), E> {
    fn stored(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

/// One agent's sessions, on their way to the user's store; or to that of replicas, each with how it is to be stored.
pub(crate) struct Keeper<T = ()> {
    tell: Box<dyn Fn(Session, T) -> Telling + Send + Sync>,
    longest_pause: Duration,
    /// The newest session's number: older ones are stored no more.
    newest: AtomicU64,
    superseded: Notify,
    /// One is stored at a time, so that none comes after a newer one.
    turn: Semaphore,
}

impl Keeper {
    pub(crate) fn new<F, R>(tell: F) -> Self
    where
        F: Fn(Session) -> R + Send + Sync + 'static,
        R: Future<Output: SessionStored> + Send + 'static,
    {
        Self::by(LONGEST_PAUSE, move |session, ()| Box::pin(tell(session).map(SessionStored::stored)))
    }
}

impl<T: Clone + Send + Sync + 'static> Keeper<T> {
    pub(super) fn by(longest_pause: Duration, tell: impl Fn(Session, T) -> Telling + Send + Sync + 'static) -> Self {
        Self {
            tell: Box::new(tell),
            longest_pause,
            newest: AtomicU64::new(0),
            superseded: Notify::new(),
            turn: Semaphore::new(1),
        }
    }

    /// Has a session stored, and returns once that was tried. It is tried again for as long as it takes.
    pub(crate) async fn keep(self: &Arc<Self>, client: &Arc<ClientShared>, session: Session, how: T) {
        let (tried, first_try) = oneshot::channel();
        let store = Arc::clone(self).store(Arc::clone(client), (session, how), self.supersede(), tried);
        client.under_way.stores.spawn(store);
        // A store that hangs costs the agents no more than this.
        let _ = timeout(client.settings.login_timeout, first_try).await;
    }

    /// Stores nothing of what it was given so far any more, and returns when none of it is being stored.
    pub(crate) async fn forget(&self, deadline: Instant) {
        self.supersede();
        let _ = timeout_at(deadline, self.turn.acquire()).await;
    }

    /// The number of what comes now.
    fn supersede(&self) -> u64 {
        let number = self.newest.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        self.superseded.notify_waiters();
        number
    }

    async fn store(
        self: Arc<Self>,
        client: Arc<ClientShared>,
        session: (Session, T),
        number: u64,
        tried: oneshot::Sender<()>,
    ) {
        let (began, under_way) = (Instant::now(), &client.under_way);
        let (mut tried, mut unstored) = (Some(tried), None);
        for attempt in 1_u32.. {
            // Made before it is looked, so that nothing is missed in between.
            let (superseded, closing) = (pin!(self.superseded.notified()), pin!(under_way.closing.notified()));
            let stored = self.try_to_store(&session, number, client.settings.login_timeout).await;
            drop(tried.take());
            let why = match stored {
                None => return,
                Some(Ok(())) if attempt == 1 => return,
                Some(Ok(())) => return tracing::info!(attempt, "a session is stored after all"),
                Some(Err(why)) => why,
            };
            client.counters.session_store_failures.add();
            unstored.get_or_insert_with(|| under_way.unstored.token());
            if began.elapsed() >= GIVE_UP_AFTER {
                return tracing::error!(cause = why, attempt, "a session is not stored, and is given up");
            }
            let longest = if under_way.is_closing() { LAST_PAUSE } else { self.longest_pause };
            let pause = FIRST_PAUSE.saturating_mul(1 << attempt.min(7) >> 1).min(longest);
            let pause = pause.mul_f64(0.75 + client.random.fraction() / 4.0);
            // One line for each doubling of the attempts says as much as one for each.
            if attempt.is_power_of_two() {
                tracing::error!(
                    cause = why,
                    attempt,
                    wait_ms = pause.as_millis(),
                    "a session is not stored; should this process end before it is, its agent must log in again"
                );
            }
            let _ = timeout(pause, select(superseded, closing)).await;
        }
    }

    /// None where a newer session has taken its place.
    async fn try_to_store(
        &self,
        (session, how): &(Session, T),
        number: u64,
        limit: Duration,
    ) -> Option<Result<(), String>> {
        // Whoever has it keeps it no longer than this, unless its runtime stands still.
        let _turn = timeout(limit, self.turn.acquire()).await;
        if self.newest.load(Ordering::SeqCst) != number {
            return None;
        }
        // Also the call that gives the future runs in here, and may panic.
        let telling = AssertUnwindSafe(async { (self.tell)(session.clone(), how.clone()).await }).catch_unwind();
        Some(match timeout(limit, telling).await {
            Err(_) => Err(format!("the callback did not return within {:.1} s", limit.as_secs_f64())),
            Ok(Err(_)) => Err("the callback panicked".to_owned()),
            Ok(Ok(told)) => told.map_err(|error| words(&*error, session)),
        })
    }
}

/// What a store says may repeat what it was to store.
fn words(error: &(dyn std::error::Error + Send + Sync), session: &Session) -> String {
    let secrets = [session.access_token.as_ref(), session.refresh_token.as_ref()];
    let secrets: Vec<&str> = secrets.into_iter().flatten().map(SecretString::expose_secret).collect();
    shown(&redact(&error.to_string(), &secrets))
}
