#![doc = include_str!("../README.md")]

mod agent;
mod auth;
mod call;
mod client;
mod error;
mod id;
mod region;
mod request;
mod resilience;
mod scripts;
mod stats;

pub use agent::Agent;
pub use auth::Credentials;
pub use client::{Client, ClientBuilder};
pub use error::{BadRequest, Error, ErrorBody, ErrorKind};
pub use id::{IdProblem, InvalidId, ScriptId};
pub use region::Region;
pub use resilience::retry::RetryPolicy;
pub use scripts::{Division, Json, Page, Script};
pub use stats::Stats;
#[cfg(feature = "simulator")]
pub mod simulator;
