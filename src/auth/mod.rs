//! Logging in: the credentials, the exchange at the token endpoint, and the slot that holds the token.

mod authorization;
mod credentials;
pub(crate) mod keeper;
pub(crate) mod login;
#[cfg(feature = "redis")]
mod redis;
pub(crate) mod sharing;
pub(crate) mod store;
pub(crate) mod token;

pub(crate) use credentials::check_text;

pub use authorization::{Authorization, AuthorizationParts};
pub use credentials::{Credentials, OAuthClient, Session, TokenSource};
pub use keeper::SessionStored;
#[cfg(feature = "redis")]
pub use redis::RedisStore;
pub use sharing::SharedSessions;
pub use store::{Lease, MemoryStore, SessionKey, SessionStore, StoredSession};
