//! Sessions shared in Redis: a hash for each, changed by scripts, which Redis runs one at a time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisError, Script, ScriptInvocation};
use tokio::runtime::{Handle, Id};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::store::{KEEP, KEEP_NONE, Lease, SessionKey, SessionStore, StoredSession};
use crate::error::Error;
use crate::text::shown;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An answer or a connection that takes longer is none. Together with the other it is over what the caller waits.
const PATIENCE: Duration = Duration::from_millis(800);
/// So many runtimes have a connection of their own; in tests no more than a machine has files for.
const RUNTIMES: usize = if cfg!(test) { 32 } else { 1_024 };
const PREFIX: &str = "genesys-scripts:session:";

/// KEYS: the session, a hash: its `v`ersion, the `s`ession, the last `f`ence, and `u`ntil when that is leased to which `o`wner.
const LOAD: &str = r"
local row = redis.call('HMGET', KEYS[1], 'v', 's')
return {tonumber(row[1] or 0), row[2] or ''}
";

/// ARGV: newer than; owner; length, how long to keep it, and how long where nothing is stored, in ms. A fence is the time in ms where
/// that is greater, so that it grows even where Redis has lost what it held.
const LEASE: &str = r"
local row = redis.call('HMGET', KEYS[1], 'v', 's', 'f', 'u', 'o')
local version, fence, leased = tonumber(row[1] or 0), tonumber(row[3] or 0), tonumber(row[4] or 0)
local known, length = tonumber(ARGV[1]), tonumber(ARGV[3])
if version > known then return {0, version, row[2]} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if leased > now and row[5] ~= ARGV[2] then return {1, leased - now, ''} end
fence = math.max(math.max(fence, version, known) + 1, now)
redis.call('HSET', KEYS[1], 'f', string.format('%.0f', fence), 'u', string.format('%.0f', now + length), 'o', ARGV[2])
redis.call('PEXPIRE', KEYS[1], row[1] and ARGV[4] or ARGV[5])
return {2, fence, ''}
";

/// ARGV: version, session, how long to keep it in ms.
const STORE: &str = r"
local row = redis.call('HMGET', KEYS[1], 'v', 'f')
local version, fence, given = tonumber(row[1] or 0), tonumber(row[2] or 0), tonumber(ARGV[1])
if version > given then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[1], 's', ARGV[2])
if fence <= given then redis.call('HSET', KEYS[1], 'f', ARGV[1], 'u', 0) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
";

/// ARGV: fence, length, and how long to keep it where nothing is stored, in ms: the lease is lost with its row.
const EXTEND: &str = r"
if tonumber(redis.call('HGET', KEYS[1], 'f') or 0) ~= tonumber(ARGV[1]) then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'u', string.format('%.0f', now + tonumber(ARGV[2])))
if redis.call('HEXISTS', KEYS[1], 'v') == 0 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1
";

/// Shares sessions in Redis (5 or later) or Valkey, which a replica reaches over one connection.
///
/// Each identity is a hash of about 900 bytes, under `genesys-scripts:session:` and its [`SessionKey`]; it expires when nobody has stored
/// or leased it for 30 days. A login or a refresh is two commands, that of another replica taken over is one.
///
/// **What Redis loses is lost**: let it keep what it was given (`appendonly yes`) and evict nothing (`maxmemory-policy noeviction`).
/// A replica holds its own sessions and gives them back as it refreshes them, but one that has been refreshed elsewhere since has
/// a void refresh token.
pub struct RedisStore {
    client: Client,
    connections: Mutex<HashMap<Id, Own>>,
    load: Script,
    lease: Script,
    store: Script,
    extend: Script,
}

/// A runtime's connection, and when it was last asked for.
struct Own {
    connection: Arc<OnceCell<MultiplexedConnection>>,
    used: Instant,
}

impl RedisStore {
    /// The Redis at this URL: `redis://user:password@host:6379/0`, of which only the host is needed; `redis+unix:///path` for a
    /// socket. Nothing is sent yet.
    ///
    /// It is not reached over TLS: where the network between is not yours alone, go through a tunnel. With
    /// [`sealed`](crate::SharedSessions::sealed) no token crosses it in clear.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) when it is no such URL.
    pub fn open(url: &str) -> Result<Self, Error> {
        if url.trim_start().starts_with("rediss:") {
            return Err(Error::invalid_input(
                "a `rediss:` URL wants TLS, which the session store does not speak: use `redis:` and go through a tunnel",
            ));
        }
        let client = Client::open(url).map_err(|error| {
            // It may repeat the URL, and with it the password.
            let why = error.category().to_owned();
            Error::invalid_input(format!("the URL of Redis cannot be used ({why}); one is like redis://host:6379/0"))
        })?;
        Ok(Self {
            client,
            connections: Mutex::default(),
            load: Script::new(LOAD),
            lease: Script::new(LEASE),
            store: Script::new(STORE),
            extend: Script::new(EXTEND),
        })
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<Id, Own>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection is driven by the runtime that made it, and that one may stand still: each has its own.
    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let here = {
            let (mut connections, here, used) = (self.connections(), Handle::current().id(), Instant::now());
            if connections.len() >= RUNTIMES
                && !connections.contains_key(&here)
                && let Some(oldest) = connections.iter().min_by_key(|(_, own)| own.used).map(|(id, _)| *id)
            {
                connections.remove(&oldest);
            }
            let own = connections.entry(here).or_insert_with(|| Own { connection: Arc::default(), used });
            own.used = used;
            Arc::clone(&own.connection)
        };
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE));
        here.get_or_try_init(|| self.client.get_multiplexed_async_connection_with_config(&config)).await.cloned()
    }

    /// After any error the next goes over a new connection: this one may lead nowhere, or to what is no primary any more.
    async fn ask<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, BoxError> {
        let asked = async {
            let mut connection = self.connection().await?;
            script.invoke_async(&mut connection).await
        };
        let answer: Result<T, RedisError> = asked.await;
        answer.map_err(|error| {
            self.connections().remove(&Handle::current().id());
            format!("Redis: {}", shown(&error.to_string())).into()
        })
    }
}

fn row(key: &SessionKey) -> String {
    format!("{PREFIX}{key}")
}

/// What a length of time is in a script: no lease is over before it begins because it was rounded down.
fn ms(length: Duration) -> u64 {
    u64::try_from(length.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn load(&self, key: &SessionKey) -> Result<Option<StoredSession>, BoxError> {
        let (version, sealed): (u64, Vec<u8>) = self.ask(&self.load.key(row(key))).await?;
        Ok((version > 0).then(|| StoredSession::new(version, sealed)))
    }

    async fn store(&self, key: &SessionKey, session: StoredSession) -> Result<bool, BoxError> {
        let StoredSession { version, sealed } = session;
        self.ask(self.store.key(row(key)).arg(version).arg(sealed).arg(ms(KEEP))).await
    }

    async fn lease(&self, key: &SessionKey, newer_than: u64, owner: u64, length: Duration) -> Result<Lease, BoxError> {
        let (what, number, sealed): (u8, u64, Vec<u8>) = self
            .ask(
                self.lease
                    .key(row(key))
                    .arg(newer_than)
                    .arg(owner)
                    .arg(ms(length))
                    .arg(ms(KEEP))
                    .arg(ms(length.max(KEEP_NONE))),
            )
            .await?;
        Ok(match what {
            0 => Lease::Newer(StoredSession::new(number, sealed)),
            1 => Lease::Taken { left: Duration::from_millis(number) },
            _ => Lease::Granted { fence: number },
        })
    }

    async fn extend(&self, key: &SessionKey, fence: u64, length: Duration) -> Result<(), BoxError> {
        let kept = ms(length.max(KEEP_NONE));
        let _: u64 = self.ask(self.extend.key(row(key)).arg(fence).arg(ms(length)).arg(kept)).await?;
        Ok(())
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client's own has the password.
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_runtimes_have_a_connection_of_their_own_and_no_more_are_kept() {
        // Nothing listens there; it is asked at once whether something does.
        let store = RedisStore::open("redis://127.0.0.1:1").unwrap();
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let runtimes: Vec<_> = (0..2 * RUNTIMES).map(|_| runtime()).collect();
        let ask = |runtime: &tokio::runtime::Runtime| {
            runtime.block_on(store.connection()).map(drop).unwrap_err();
            let connections = store.connections();
            assert!(connections.len() <= RUNTIMES, "{}", connections.len());
            Arc::clone(&connections[&runtime.handle().id()].connection)
        };
        let (first, others) = runtimes.split_at(RUNTIMES);
        let own: Vec<_> = first.iter().map(ask).collect();
        for (runtime, own) in first.iter().zip(&own) {
            assert!(Arc::ptr_eq(&ask(runtime), own));
        }
        for runtime in others {
            ask(runtime);
        }
        let own: Vec<_> = others.iter().map(ask).collect();
        assert!(others.iter().zip(&own).all(|(runtime, own)| Arc::ptr_eq(&ask(runtime), own)));
    }
}
