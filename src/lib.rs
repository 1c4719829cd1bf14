#![doc = include_str!("../README.md")]
// docs.rs says of each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod agent;
mod answer;
mod auth;
#[cfg(feature = "cache")]
mod cache;
mod call;
mod client;
mod coding;
mod config;
mod error;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod json;
mod limits;
mod proxy;
mod random;
mod region;
mod request;
mod retry;
mod scripts;
mod stats;
mod text;
mod tls;
mod transport;
mod verdict;

pub use agent::Agent;
pub use auth::{Authorization, Credentials, OAuthClient, Session, TokenSource};
#[cfg(feature = "cache")]
pub use cache::{CachePolicy, Cached};
pub use client::{Client, ClientBuilder};
#[cfg(feature = "cache")]
pub use config::CacheConfig;
pub use config::{ClientConfig, RetryConfig};
pub use error::{BadRequest, Cause, Certainty, Envelope, Error, ErrorBody, ErrorDetail, ErrorKind, ErrorLimit};
pub use id::{DivisionId, FlowId, IdProblem, InvalidId, PageId, ScriptId, UploadId, VersionId};
pub use json::{Items, Json};
pub use limits::quota::QuotaStanding;
pub use region::Region;
pub use retry::RetryPolicy;
pub use scripts::{
    DefaultScript, Division, ExportResponse, ExportScript, ImportScript, ImportStatus, Imported, ListPublishedScripts,
    ListScripts, Listing, ListingPages, Page, PublishScript, ReadScript, ReadUploadStatus, ReadVariables, Script,
    ScriptContent, ScriptFile, ScriptListing, SignedUrl, SortBy, SortOrder, VariableType,
};
pub use secrecy::SecretString;
pub use stats::{HostStats, Stats};
#[cfg(feature = "simulator")]
pub mod simulator;
