#![doc = include_str!("../README.md")]

mod agent;
mod auth;
mod call;
mod client;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod region;
mod request;
mod resilience;
mod scripts;
mod stats;

pub use agent::Agent;
pub use auth::{Authorization, Credentials, OAuthClient, Session, TokenSource};
pub use client::{Client, ClientBuilder};
pub use error::{BadRequest, Cause, Certainty, Envelope, Error, ErrorBody, ErrorDetail, ErrorKind, ErrorLimit};
pub use id::{IdProblem, InvalidId, ScriptId};
pub use region::Region;
pub use resilience::overload::{Bound, OverloadPolicy};
pub use resilience::retry::RetryPolicy;
pub use scripts::{Division, Json, Page, Script};
pub use secrecy::SecretString;
pub use stats::Stats;
