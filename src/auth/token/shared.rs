//! One login for all replicas: whoever has the identity's lease logs in, and the others take over what it stored.
//!
//! The fence of a lease is the version of the session it brings, so there is one number: of two sessions the one with the greater is
//! newer. What a replica holds has the version it was stored under, or that it took it over from.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Begun, Grant, LoginResult, Token, TokenSlot, exchange, is_one_time, must_log_in};
use crate::auth::credentials::{Credentials, Session};
use crate::auth::keeper::Keeper;
use crate::auth::sharing::{Away, SHORT_ABSENCE, Sharing};
use crate::auth::store::{Lease, SessionKey, StoredSession};
use crate::client::ClientShared;
use crate::error::{Error, ErrorKind};
use crate::retry::after;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A holder that died delays the others for so long; one that lives extends its lease before.
const LEASE: Duration = Duration::from_secs(10);
/// Another's lease is looked at again after pauses that grow from the first to the longest.
const FIRST_LOOK: Duration = Duration::from_millis(25);
const LONGEST_LOOK: Duration = Duration::from_millis(400);
/// After a refresh token was refused, one that another replica got while it could not store it is waited for.
const LATE_STORE: Duration = Duration::from_secs(5);
/// What is not stored is tried again after pauses of no more than this: soon after the store is back the others have what they need.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// While the store is away, a token that is good for longer than this is not replaced.
const GOOD_ENOUGH: Duration = Duration::from_secs(10);

/// An agent's session among those that replicas share.
pub(crate) struct Line {
    pub(super) sharing: Arc<Sharing>,
    key: SessionKey,
    /// Whose the leases of its logins are.
    owner: u64,
    /// Stores what a login brings, until it is stored.
    keeper: Arc<Keeper<Arc<Bound>>>,
    place: Mutex<Place>,
    /// The refresh token that the agent was made of, which the store may hold, too.
    origin: Option<SecretString>,
    /// The number of the last login or logout that an agent of this client has told of this identity.
    newest: Arc<AtomicU64>,
}

/// What is held, as the store would know it.
#[derive(Default)]
struct Place {
    version: u64,
    /// Somebody has logged in or out: it takes the place of whatever is stored, until it is stored itself. Of several such that are not
    /// stored yet the one with the newest number does, and the others are void.
    overrides: Option<u64>,
    /// The refresh token was refused while the store was away, so that another replica may have spent it.
    in_doubt: bool,
}

/// A session that is to be stored, and how. It has that from when it was got: the next login may have begun when it is tried again.
struct Bound {
    line: Arc<Line>,
    /// The lease that it was got by. None: it was got while the store was away.
    fence: Option<u64>,
    /// The version of what was held before.
    known: u64,
    overrides: Option<u64>,
}

enum Turn {
    Newer(StoredSession),
    /// The lease, by its fence.
    Ours(u64),
    Away(Away),
}

impl Line {
    pub(super) fn new(sharing: Arc<Sharing>, key: SessionKey, origin: Option<SecretString>) -> Self {
        let keeper =
            Keeper::by(LONGEST_PAUSE, |session, bound: Arc<Bound>| Box::pin(async move { bound.store(session).await }));
        let (newest, owner) = (sharing.newest(&key), fastrand::u64(1..));
        Self { sharing, key, owner, keeper: Arc::new(keeper), place: Mutex::default(), origin, newest }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it takes the place of whatever is stored: nobody has logged in or out since.
    fn stands(&self, overrides: Option<u64>) -> bool {
        overrides == Some(self.newest.load(Ordering::SeqCst))
    }

    /// Whether a stored session is what the agent was made of, and was refreshed since to one that has this token.
    fn is_spent(&self, stored: &Session, refresh_token: Option<&SecretString>) -> bool {
        let [origin, stored, now] = [self.origin.as_ref(), stored.refresh_token.as_ref(), refresh_token]
            .map(|token| token.map(SecretString::expose_secret));
        origin.is_some() && stored == origin && now.is_some() && now != origin
    }

    /// Has what a login brought stored: by its lease, or, without one, when the store is back.
    pub(super) async fn keep(
        self: &Arc<Self>,
        client: &Arc<ClientShared>,
        session: Session,
        fence: Option<u64>,
        is_new: bool,
    ) {
        let (known, overrides) = {
            let mut place = self.place();
            if is_new {
                place.overrides = Some(self.newest.fetch_add(1, Ordering::SeqCst).wrapping_add(1));
            }
            // What a login that is not stored yet was refreshed to is as new as that login.
            (place.version, place.overrides)
        };
        let bound = Bound { line: Arc::clone(self), fence, known, overrides };
        self.keeper.keep(client, session, Arc::new(bound)).await;
    }

    /// Waits for the lease, or for what another stores meanwhile.
    async fn turn(&self, until: Instant, meanwhile: impl Fn(Duration) + Send + Sync) -> Result<Turn, Error> {
        let (mut pause, mut patience) = (FIRST_LOOK, None);
        loop {
            let known = self.place().version;
            let leased = self
                .sharing
                .ask("lease", |store| async move { store.lease(&self.key, known, self.owner, LEASE).await });
            let left = match leased.await {
                // It was slow this once. What it may have granted is ours.
                Err(_)
                    if !self.sharing.is_away()
                        && Instant::now() < *patience.get_or_insert_with(|| after(Instant::now(), SHORT_ABSENCE)) =>
                {
                    sleep(FIRST_LOOK).await;
                    continue;
                }
                Err(away) => return Ok(Turn::Away(away)),
                Ok(Lease::Newer(stored)) => return Ok(Turn::Newer(stored)),
                Ok(Lease::Granted { fence }) => return Ok(Turn::Ours(fence)),
                Ok(Lease::Taken { left }) => left,
            };
            patience = None;
            meanwhile(left);
            if Instant::now() >= until {
                let what = "another replica logs this agent in, and has not ended";
                return Err(Error::new(ErrorKind::Timeout, what).with_retry_after(Some(left)));
            }
            sleep(pause.min(left.max(FIRST_LOOK))).await;
            pause = pause.saturating_mul(2).min(LONGEST_LOOK);
        }
    }

    /// Keeps the lease while this is under way.
    async fn extended<T>(&self, fence: u64, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let extend = pin!(async {
                sleep(LEASE / 3).await;
                self.extend(fence, LEASE).await;
            });
            match select(&mut work, extend).await {
                Either::Left((done, _)) => return done,
                Either::Right(((), _)) => {}
            }
        }
    }

    /// A lease that is not extended ends by itself.
    async fn extend(&self, fence: u64, length: Duration) {
        let _ = self.sharing.ask("extend", |store| async move { store.extend(&self.key, fence, length).await }).await;
    }

    /// What another replica stores in the next seconds.
    async fn late(&self) -> Option<StoredSession> {
        let (known, until) = (self.place().version, after(Instant::now(), LATE_STORE));
        loop {
            let loaded = self.sharing.ask("load", |store| async move { store.load(&self.key).await }).await;
            if let Ok(Some(newer)) = loaded
                && newer.version > known
            {
                return Some(newer);
            }
            if Instant::now() >= until {
                return None;
            }
            sleep(LONGEST_LOOK).await;
        }
    }

    /// Ends the session for all replicas, and gives its newest access token where that is another's.
    pub(super) async fn log_out(self: &Arc<Self>, slot: &TokenSlot, deadline: Instant) -> Option<Arc<Token>> {
        let mut newest = None;
        let mut fence = None;
        loop {
            match timeout_at(deadline, self.turn(deadline, |_| ())).await {
                Ok(Ok(Turn::Newer(stored))) => {
                    self.place().version = stored.version;
                    let access = self.sharing.open(&self.key, &stored).and_then(|session| session.access_token);
                    newest = access.and_then(|token| Token::new(&token, None, &slot.client).ok()).map(Arc::new);
                }
                Ok(Ok(Turn::Ours(ours))) => {
                    fence = Some(ours);
                    break;
                }
                Ok(Ok(Turn::Away(_)) | Err(_)) | Err(_) => break,
            }
        }
        // No tokens: whoever finds this must log in.
        let ended = Session { access_token: None, refresh_token: None, expires_at: None };
        let _ = timeout_at(deadline, self.keep(&slot.client, ended, fence, true)).await;
        newest
    }
}

/// Gets a new token: another replica's where it has stored one, else by the lease, else, where the store is away, alone.
pub(super) async fn log_in(slot: &TokenSlot, mut begun: Begun, line: &Line) -> LoginResult {
    let settings = &slot.client.settings;
    let until = after(Instant::now(), settings.login_timeout.saturating_add(settings.login_throttle_timeout));
    let (mut taken_over, mut patience) = (None, None);
    loop {
        let turn = match taken_over.take() {
            Some(newer) => Turn::Newer(newer),
            None => line.turn(until, |left| slot.note_login_trouble(Some(elsewhere(left)))).await?,
        };
        slot.note_login_trouble(None);
        if !matches!(turn, Turn::Away(_)) {
            line.place().in_doubt = false;
        }
        begun.fence = None;
        let fence = match turn {
            // It may be back for others alone.
            Turn::Away(_)
                if needs_the_store(slot, &begun, line).is_some()
                    && Instant::now() < *patience.get_or_insert_with(|| after(Instant::now(), SHORT_ABSENCE))
                    && line.sharing.comes_back().await =>
            {
                continue;
            }
            Turn::Away(why) => return alone(slot, &begun, line, why).await,
            Turn::Newer(stored) => match take_over(slot, &mut begun, line, &stored) {
                Some(token) => return Ok(token),
                None => continue,
            },
            Turn::Ours(fence) => fence,
        };
        begun.fence = Some(fence);
        let error = match line.extended(fence, exchange(slot, &begun)).await {
            Ok(token) => return Ok(token),
            Err(error) => error,
        };
        line.extend(fence, Duration::ZERO).await;
        // Another may have spent it while it could not store what it got for it.
        if matches!(begun.grant, Grant::RefreshToken(_)) && error.code() == Some("invalid_grant") {
            taken_over = line.late().await;
        }
        if taken_over.is_none() {
            return Err(error);
        }
    }
}

fn elsewhere(left: Duration) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("another replica logs this agent in (its lease ends in {:.1} s)", left.as_secs_f64()),
    )
}

/// Somebody has just logged in: that is newer than whatever is stored.
pub(super) fn is_new(slot: &TokenSlot, begun: &Begun) -> bool {
    is_one_time(&slot.credentials) && matches!(begun.grant, Grant::Credentials)
}

/// Takes over what another replica stored; its token, if that is good.
fn take_over(slot: &TokenSlot, begun: &mut Begun, line: &Line, stored: &StoredSession) -> Option<Arc<Token>> {
    let overrides = {
        let mut place = line.place();
        place.version = stored.version;
        place.overrides
    };
    if line.stands(overrides) || is_new(slot, begun) {
        return None;
    }
    // What is got from the other's session from here on is as good as that.
    line.place().overrides = None;
    let stored = line.sharing.open(&line.key, stored)?;
    if line.is_spent(&stored, slot.lock().refresh_token().as_ref()) {
        return None;
    }
    let Session { access_token, refresh_token, expires_at } = stored;
    let anew = matches!(slot.credentials, Credentials::Client(_) | Credentials::Source(_));
    begun.grant = match (refresh_token, &access_token) {
        (Some(refresh_token), _) => Grant::RefreshToken(refresh_token),
        (None, _) if anew => Grant::Credentials,
        (None, None) => Grant::Spent(must_log_in("the agent has logged out, at another replica")),
        (None, Some(_)) => Grant::Spent(must_log_in("the session had no refresh token and is over")),
    };
    slot.lock().next_grant(begun, begun.grant.clone());
    let lifetime = expires_at.map(|at| at.duration_since(slot.client.now()).unwrap_or(Duration::ZERO));
    let token = Token { taken_over: true, ..Token::new(&access_token?, lifetime, &slot.client).ok()? };
    let is_refused = slot.lock().refused_token.as_ref().is_some_and(|refused| refused.secret() == token.secret());
    (!is_refused && !token.is_expired(Instant::now())).then(|| Arc::new(token))
}

const DOUBT: &str = "the refresh token was refused while the session store is away: another replica may have spent it, and \
                     holds the session until the store is back";

/// Why it holds nothing to get a token with, as far as is known.
fn needs_the_store(slot: &TokenSlot, begun: &Begun, line: &Line) -> Option<&'static str> {
    match (&slot.credentials, &begun.grant) {
        (Credentials::Stored(_), Grant::Credentials) => {
            Some("this replica holds no session of the agent, and the session store is away")
        }
        _ => line.place().in_doubt.then_some(DOUBT),
    }
}

/// The store is away: what this replica holds is all there is.
async fn alone(slot: &TokenSlot, begun: &Begun, line: &Line, why: Away) -> LoginResult {
    let good_until = after(Instant::now(), GOOD_ENOUGH);
    if slot.held().is_some_and(|token| !token.is_expired(good_until)) {
        return Err(why.into_error("the token is not replaced before it expires, as the session store is away"));
    }
    if let Some(what) = needs_the_store(slot, begun, line) {
        return Err(why.into_error(what));
    }
    let result = exchange(slot, begun).await;
    if let (Grant::RefreshToken(_), Err(error)) = (&begun.grant, &result)
        && error.code() == Some("invalid_grant")
    {
        // To be tried again once it is known what the others hold.
        slot.lock().next_grant(begun, begun.grant.clone());
        line.place().in_doubt = true;
        return Err(why.into_error(DOUBT));
    }
    result
}

impl Bound {
    async fn store(&self, session: Session) -> Result<(), BoxError> {
        if self.overrides.is_some() && !self.line.stands(self.overrides) {
            return Ok(());
        }
        let sealed = self.line.sharing.seal(&self.line.key, &session)?;
        if let Some(fence) = self.fence
            && self.store_by(fence, sealed.clone()).await?
        {
            return Ok(());
        }
        match self.lease(&session).await? {
            Some(fence) => self.store_by(fence, sealed).await.map(drop),
            // Another was not as long without the store. Its session is as good, and is taken over when ours ends.
            None => Ok(()),
        }
    }

    /// Whether it was stored: a newer one is not overwritten.
    async fn store_by(&self, fence: u64, sealed: Vec<u8>) -> Result<bool, BoxError> {
        let Line { sharing, key, .. } = &*self.line;
        let stored = StoredSession::new(fence, sealed);
        let told = sharing.ask("store", |store| async move { store.store(key, stored).await });
        let is_stored = told.await.map_err(|Away(why)| why)?;
        if is_stored {
            // Not before: until then what another stores by an older lease is newer than what is held.
            let mut place = self.line.place();
            place.version = place.version.max(fence);
            if place.overrides == self.overrides {
                place.overrides = None;
            }
        }
        Ok(is_stored)
    }

    /// A lease for what was got while the store was away, or came too late for its own, unless another has stored a session since. Its
    /// owner is another than that of logins: it must not come between the lease of the next login and what that brings.
    async fn lease(&self, session: &Session) -> Result<Option<u64>, BoxError> {
        let Line { sharing, key, owner, .. } = &*self.line;
        let mut known = self.known;
        let is_spent = |stored: &StoredSession| {
            let stored = sharing.open(key, stored);
            stored.is_some_and(|stored| self.line.is_spent(&stored, session.refresh_token.as_ref()))
        };
        loop {
            let leased = sharing.ask("lease", |store| async move { store.lease(key, known, *owner ^ 1, LEASE).await });
            match leased.await.map_err(|Away(why)| why)? {
                Lease::Granted { fence } => return Ok(Some(fence)),
                Lease::Newer(stored) if self.line.stands(self.overrides) || is_spent(&stored) => known = stored.version,
                Lease::Newer(_) => return Ok(None),
                Lease::Taken { .. } => return Err("another replica logs the agent in just now".into()),
            }
        }
    }
}
