//! What outlives the process, sealed: the agents' sessions, in SQLite, or in Redis for all replicas; and the logins begun, which the
//! browsers keep.
//!
//! A session is as good as its agent's password, so it is encrypted with ChaCha20-Poly1305 and bound to its place; and the browser's
//! id is kept as a digest, so that who reads the database has nobody's cookie.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use genesys_scripts::{AuthorizationParts, RedisStore, Session, SharedSessions};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use rusqlite::{Connection, OptionalExtension as _, params};

/// A login is given up after this many seconds.
pub(super) const LOGIN_SECONDS: u64 = 600;

/// The key that rows are sealed with. Keep it apart from the database: in the secrets of the platform you run on.
pub(super) type Key = [u8; 32];

#[derive(Clone)]
pub(super) struct Store {
    place: Place,
    sealer: Sealer,
}

#[derive(Clone)]
enum Place {
    Database(Arc<Mutex<Connection>>),
    Replicas(SharedSessions),
}

impl Store {
    /// Opens the database, or one in memory.
    pub(super) fn open(path: Option<&Path>, key: &Key) -> anyhow::Result<Self> {
        let rows = match path {
            Some(path) => Connection::open(path).with_context(|| format!("cannot open {}", path.display()))?,
            None => Connection::open_in_memory()?,
        };
        rows.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA busy_timeout = 5000;
             CREATE TABLE IF NOT EXISTS sessions (id BLOB PRIMARY KEY, sealed BLOB NOT NULL);",
        )?;
        Ok(Self { place: Place::Database(Arc::new(Mutex::new(rows))), sealer: Sealer::new(key)? })
    }

    /// What all replicas share that are given the same Redis and the same key.
    pub(super) fn shared(redis: &str, key: &Key) -> anyhow::Result<Self> {
        let sealer = Sealer::new(key)?;
        let (seals, opens) = (sealer.clone(), sealer.clone());
        let sessions = SharedSessions::new(RedisStore::open(redis)?).sealed(
            move |row, plain| Ok(seals.seal(row.as_str().as_bytes(), plain.to_vec())?),
            move |row, sealed| Ok(opens.open(row.as_str().as_bytes(), sealed)?),
        );
        Ok(Self { place: Place::Replicas(sessions), sealer })
    }

    /// For the client, where replicas share them: then there is nothing to keep here.
    pub(super) fn sessions(&self) -> Option<&SharedSessions> {
        match &self.place {
            Place::Replicas(sessions) => Some(sessions),
            Place::Database(_) => None,
        }
    }

    /// A login begun, as the browser keeps it: whichever replica it comes back to can read it, and nobody else.
    pub(super) fn begun(&self, parts: &AuthorizationParts) -> anyhow::Result<String> {
        let since = now();
        let sealed = self.sealer.seal(&begun_since(since), serde_json::to_vec(parts)?)?;
        Ok(format!("{since}.{}", BASE64_URL_SAFE_NO_PAD.encode(sealed)))
    }

    /// None where it is no login that was begun here, or is too old.
    pub(super) fn back(&self, kept: &str) -> Option<AuthorizationParts> {
        let (since, sealed) = kept.split_once('.')?;
        let since = since.parse().ok().filter(|since: &u64| now().saturating_sub(*since) <= LOGIN_SECONDS)?;
        let plain = self.sealer.open(&begun_since(since), &BASE64_URL_SAFE_NO_PAD.decode(sealed).ok()?).ok()?;
        serde_json::from_slice(&plain).ok()
    }

    /// Keeps a session under this id, in place of the one before.
    pub(super) async fn keep(&self, id: &str, session: &Session) -> anyhow::Result<()> {
        let (id, plain) = (digest(&SHA256, id.as_bytes()), serde_json::to_vec(session)?);
        let sealed = self.sealer.seal(id.as_ref(), plain)?;
        self.on(move |rows| {
            rows.execute("REPLACE INTO sessions VALUES (?1, ?2)", params![id.as_ref(), sealed])?;
            Ok(())
        })
        .await
    }

    /// None where there is none, or where it cannot be read any more, as after a change of the key: then its agent logs in again.
    pub(super) async fn get(&self, id: &str) -> anyhow::Result<Option<Session>> {
        let id = digest(&SHA256, id.as_bytes());
        let sealed = self.on(move |rows| {
            let sql = "SELECT sealed FROM sessions WHERE id = ?1";
            Ok(rows.query_row(sql, params![id.as_ref()], |row| row.get::<_, Vec<u8>>(0)).optional()?)
        });
        let Some(sealed) = sealed.await? else { return Ok(None) };
        let session = self.sealer.open(id.as_ref(), &sealed).and_then(|plain| Ok(serde_json::from_slice(&plain)?));
        Ok(session.inspect_err(|error| tracing::warn!(%error, "a stored session cannot be read")).ok())
    }

    pub(super) async fn remove(&self, id: &str) -> anyhow::Result<()> {
        let id = digest(&SHA256, id.as_bytes());
        self.on(move |rows| {
            rows.execute("DELETE FROM sessions WHERE id = ?1", params![id.as_ref()])?;
            Ok(())
        })
        .await
    }

    /// SQLite blocks, so it has a thread of its own. What replicas share is in no row here.
    async fn on<T: Default + Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let Place::Database(rows) = &self.place else { return Ok(T::default()) };
        let rows = Arc::clone(rows);
        tokio::task::spawn_blocking(move || work(&rows.lock().unwrap_or_else(PoisonError::into_inner))).await?
    }
}

fn begun_since(since: u64) -> Vec<u8> {
    format!("a login begun at {since}").into_bytes()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is sealed is good in its own place only.
#[derive(Clone)]
struct Sealer(Arc<(LessSafeKey, SystemRandom)>);

impl Sealer {
    fn new(key: &Key) -> anyhow::Result<Self> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| anyhow!("the key is no key"))?;
        Ok(Self(Arc::new((LessSafeKey::new(key), SystemRandom::new()))))
    }

    /// A new nonce, then what it seals.
    fn seal(&self, place: &[u8], mut plain: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let (key, random) = &*self.0;
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce).map_err(|_| anyhow!("no random numbers"))?;
        let sealed = key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut plain);
        sealed.map_err(|_| anyhow!("it cannot be sealed"))?;
        Ok([&nonce[..], &plain].concat())
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> anyhow::Result<Vec<u8>> {
        let wrong = || anyhow!("it was sealed with another key, or was changed");
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut sealed = sealed.to_vec();
        Ok(self.0.0.open_in_place(nonce, Aad::from(place), &mut sealed).map_err(|_| wrong())?.to_vec())
    }
}

/// 256 bits of the operating system's random source: a key for a process that keeps nothing.
pub(super) fn random_key() -> anyhow::Result<Key> {
    let mut key = Key::default();
    SystemRandom::new().fill(&mut key).map_err(|_| anyhow!("no random numbers"))?;
    Ok(key)
}

/// 64 hexadecimal digits.
pub(super) fn read_key(text: &str) -> anyhow::Result<Key> {
    let digits: Vec<u8> = text.trim().chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    match Key::try_from(bytes) {
        Ok(key) if text.trim().len() == 64 && digits.len() == 64 => Ok(key),
        _ => Err(anyhow!("DESKTOP_KEY is no key: make one of 64 hexadecimal digits, by `openssl rand -hex 32`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_64_digits_and_nothing_else() {
        assert_eq!(read_key(&format!(" {}\n", "5A".repeat(32))).unwrap(), [0x5a; 32]);
        for text in ["", "5a", &"5a".repeat(33), &format!("{}5-", "5a".repeat(31)), &format!("-{}5", "5a".repeat(31))] {
            assert!(read_key(text).is_err(), "{text}");
        }
    }
}
