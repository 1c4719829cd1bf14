//! Logging in: the credentials, the exchange at the token endpoint, and the slot that holds the token.

mod credentials;
pub(crate) mod login;
pub(crate) mod token;

pub use credentials::Credentials;
