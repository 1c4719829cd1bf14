#![doc = include_str!("../README.md")]

mod agent;
mod auth;
mod cache;
mod call;
mod client;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod limits;
mod random;
mod region;
mod request;
mod resilience;
mod scripts;
mod stats;

pub use agent::Agent;
pub use auth::{Authorization, Credentials, OAuthClient, Session, TokenSource};
pub use cache::{CachePolicy, Cached};
pub use client::{Client, ClientBuilder};
pub use error::{BadRequest, Cause, Certainty, Envelope, Error, ErrorBody, ErrorDetail, ErrorKind, ErrorLimit};
pub use id::{DivisionId, FlowId, IdProblem, InvalidId, PageId, ScriptId, UploadId, VersionId};
pub use region::Region;
pub use resilience::budget::RetryBudget;
pub use resilience::overload::{Bound, OverloadPolicy};
pub use resilience::quota::{QuotaPolicy, QuotaSource, QuotaStanding};
pub use resilience::retry::RetryPolicy;
pub use scripts::{
    DefaultScript, Division, ExportResponse, ExportScript, ImportScript, ImportStatus, Imported, Json,
    ListPublishedScripts, ListScripts, Listing, ListingPages, Page, PublishScript, ReadScript, ReadUploadStatus,
    ReadVariables, Script, ScriptFile, ScriptListing, SignedUrl, SortBy, SortOrder, VariableType,
};
pub use secrecy::SecretString;
pub use stats::{HostStats, Stats};
#[cfg(feature = "simulator")]
pub mod simulator;
