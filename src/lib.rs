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
pub use auth::Credentials;
pub use client::{Client, ClientBuilder};
pub use error::{BadRequest, Error, ErrorBody, ErrorKind};
pub use id::{DivisionId, FlowId, IdProblem, InvalidId, PageId, ScriptId, UploadId, VersionId};
pub use region::Region;
pub use resilience::retry::RetryPolicy;
pub use scripts::{
    DefaultScript, Division, ExportResponse, ExportScript, ImportScript, ImportStatus, Imported, Json,
    ListPublishedScripts, ListScripts, Listing, ListingPages, Page, PublishScript, ReadScript, ReadUploadStatus,
    ReadVariables, Script, ScriptFile, ScriptListing, SignedUrl, SortBy, SortOrder, VariableType,
};
pub use stats::Stats;
