//! What outlives the process: the agents' sessions and the logins begun, in SQLite, sealed.
//!
//! A row is as good as its agent's password, so it is encrypted with ChaCha20-Poly1305 and bound to its id; and the browser's id is
//! kept as a digest, so that who reads the database has nobody's cookie.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A login is given up after this many seconds, and so many may be begun: anyone can begin one.
const LOGIN_SECONDS: i64 = 600;
const MOST_LOGINS: i64 = 10_000;

/// The key that rows are sealed with. Keep it apart from the database: in the secrets of the platform you run on.
pub(super) type Key = [u8; 32];

#[derive(Clone)]
pub(super) struct Store(Arc<Opened>);

struct Opened {
    rows: Mutex<Connection>,
    key: LessSafeKey,
    random: SystemRandom,
}

/// Which rows.
#[derive(Clone, Copy)]
pub(super) enum Table {
    Sessions,
    Logins,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Logins => "logins",
        }
    }
}

impl Store {
    /// Opens it, or one in memory.
    pub(super) fn open(path: Option<&Path>, key: &Key) -> anyhow::Result<Self> {
        let rows = match path {
            Some(path) => Connection::open(path).with_context(|| format!("cannot open {}", path.display()))?,
            None => Connection::open_in_memory()?,
        };
        rows.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA busy_timeout = 5000;
             CREATE TABLE IF NOT EXISTS sessions (id BLOB PRIMARY KEY, sealed BLOB NOT NULL, at INTEGER NOT NULL);
             CREATE TABLE IF NOT EXISTS logins (id BLOB PRIMARY KEY, sealed BLOB NOT NULL, at INTEGER NOT NULL);",
        )?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_| anyhow!("the key is no key"))?;
        let opened = Opened { rows: Mutex::new(rows), key: LessSafeKey::new(key), random: SystemRandom::new() };
        Ok(Self(Arc::new(opened)))
    }

    /// Keeps a value under this id, in place of the one before.
    pub(super) async fn keep(&self, table: Table, id: &str, value: &(impl Serialize + Sync)) -> anyhow::Result<()> {
        let (id, plain) = (digest(&SHA256, id.as_bytes()), serde_json::to_vec(value)?);
        self.on(move |store| {
            let sealed = store.seal(table, id.as_ref(), plain)?;
            let (name, now) = (table.name(), now());
            let rows = store.rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows.execute(&format!("REPLACE INTO {name} VALUES (?1, ?2, ?3)"), params![id.as_ref(), sealed, now])?;
            if let Table::Logins = table {
                rows.execute(
                    "DELETE FROM logins WHERE at < ?1 OR rowid <= (SELECT max(rowid) FROM logins) - ?2",
                    params![now - LOGIN_SECONDS, MOST_LOGINS],
                )?;
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, table: Table, id: &str) -> anyhow::Result<Option<T>> {
        let id = digest(&SHA256, id.as_bytes());
        let plain = self.on(move |store| {
            let sql = format!("SELECT sealed FROM {} WHERE id = ?1 AND at >= ?2", table.name());
            let since = if let Table::Logins = table { now() - LOGIN_SECONDS } else { 0 };
            let rows = store.rows.lock().unwrap_or_else(PoisonError::into_inner);
            let sealed = rows.query_row(&sql, params![id.as_ref(), since], |row| row.get(0)).optional()?;
            drop(rows);
            sealed.map(|sealed| store.unseal(table, id.as_ref(), sealed)).transpose()
        });
        Ok(plain.await?.map(|plain| serde_json::from_slice(&plain)).transpose()?)
    }

    pub(super) async fn remove(&self, table: Table, id: &str) -> anyhow::Result<()> {
        let id = digest(&SHA256, id.as_bytes());
        self.on(move |store| {
            let rows = store.rows.lock().unwrap_or_else(PoisonError::into_inner);
            rows.execute(&format!("DELETE FROM {} WHERE id = ?1", table.name()), params![id.as_ref()])?;
            Ok(())
        })
        .await
    }

    /// SQLite blocks, so it has a thread of its own.
    async fn on<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Opened) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let store = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || work(&store)).await?
    }
}

impl Opened {
    /// A new nonce, then what it seals.
    fn seal(&self, table: Table, id: &[u8], mut plain: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| anyhow!("no random numbers"))?;
        let sealed = self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), of(table, id), &mut plain);
        sealed.map_err(|_| anyhow!("a row cannot be sealed"))?;
        Ok([&nonce[..], &plain].concat())
    }

    fn unseal(&self, table: Table, id: &[u8], sealed: Vec<u8>) -> anyhow::Result<Vec<u8>> {
        let wrong = || anyhow!("a row of the database was sealed with another key, or was changed");
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let mut sealed = sealed.to_vec();
        Ok(self.key.open_in_place(nonce, of(table, id), &mut sealed).map_err(|_| wrong())?.to_vec())
    }
}

/// A row is good in its own place only.
fn of(table: Table, id: &[u8]) -> Aad<Vec<u8>> {
    Aad::from([table.name().as_bytes(), id].concat())
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

/// A key for a process that keeps nothing.
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
        Ok(key) if text.trim().len() == 64 => Ok(key),
        _ => Err(anyhow!("DESKTOP_KEY is no key: make one of 64 hexadecimal digits, by `openssl rand -hex 32`")),
    }
}
