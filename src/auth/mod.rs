//! Logging in: the credentials, the exchange at the token endpoint, and the slot that holds the token.

mod authorization;
mod credentials;
pub(crate) mod keeper;
pub(crate) mod login;
pub(crate) mod token;

pub use authorization::{Authorization, AuthorizationParts};
pub use credentials::{Credentials, OAuthClient, Session, TokenSource};
pub use keeper::SessionStored;
