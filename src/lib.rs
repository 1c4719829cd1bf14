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
mod exact;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod id;
mod json;
mod limits;
mod meta;
mod metrics;
mod proxy;
mod random;
mod raw;
mod region;
mod request;
mod resilience;
mod retry;
mod scripts;
mod shut_down;
mod spans;
mod stats;
mod text;
mod tls;
mod transport;
mod under_way;
mod verdict;
mod waits;

#[doc = include_str!("observability.md")]
pub mod observability {}

pub use agent::Agent;
#[cfg(feature = "redis")]
pub use auth::RedisStore;
pub use auth::{
    Authorization, AuthorizationParts, Credentials, Lease, MemoryStore, OAuthClient, Session, SessionKey, SessionStore,
    SessionStored, SharedSessions, StoredSession, TokenSource,
};
#[cfg(feature = "cache")]
pub use cache::{CachePolicy, Cached};
pub use chrono::{DateTime, Utc};
pub use client::{Client, ClientBuilder};
#[cfg(feature = "cache")]
pub use config::CacheConfig;
pub use config::{ClientConfig, RetryConfig};
pub use error::{BadRequest, Cause, Certainty, Envelope, Error, ErrorBody, ErrorDetail, ErrorKind, ErrorLimit};
pub use health::{Health, RouteHealth, RouteState, StoreHealth};
pub use id::{DivisionId, FlowId, IdProblem, InvalidId, PageId, ScriptId, UploadId, VersionId};
pub use json::{Items, Json};
pub use limits::quota::QuotaStanding;
pub use meta::CallMeta;
pub use region::Region;
pub use resilience::Resilience;
pub use retry::RetryPolicy;
pub use scripts::{
    DefaultScript, Division, ExportResponse, ExportScript, ImportScript, ImportStatus, Imported, ListPublishedScripts,
    ListScripts, Listing, ListingPages, Page, PublishScript, ReadScript, ReadUploadStatus, ReadVariables, Script,
    ScriptContent, ScriptFile, ScriptListing, SignedUrl, SortBy, SortOrder, VariableType,
};
pub use secrecy::{ExposeSecret, SecretString};
pub use shut_down::ShutDown;
pub use stats::{HostStats, Stats};
#[cfg(feature = "simulator")]
pub mod simulator;

/// What a middleware of your own is made of, in the versions that this crate takes
/// ([`ClientBuilder::with_middleware`]). Its methods are those of the `async-trait` crate.
///
/// ```
/// use genesys_scripts::middleware::{Extensions, Middleware, Next, Request, Response, Result};
///
/// struct Traced;
///
/// #[async_trait::async_trait]
/// impl Middleware for Traced {
///     async fn handle(&self, request: Request, extensions: &mut Extensions, next: Next<'_>) -> Result<Response> {
///         println!("{} {}", request.method(), request.url().path());
///         next.run(request, extensions).await
///     }
/// }
/// ```
pub mod middleware {
    pub use http::Extensions;
    pub use reqwest::{Request, Response};
    pub use reqwest_middleware::{Error, Middleware, Next, Result};
}
