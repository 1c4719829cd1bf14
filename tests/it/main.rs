//! What the crate and its simulator promise to their users: a file a promise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that panics has failed, and says where"
)]

mod answers;
mod any_list;
mod broken_script;
mod cache;
#[path = "../common/mod.rs"]
mod common;
mod connections;
mod faults;
mod files;
mod health;
mod import;
mod listing;
mod logins;
mod metrics;
mod models;
mod morning;
mod operations;
mod outage;
mod proxy;
mod quota;
mod raw;
mod redis;
mod refusals;
mod replicas;
mod resilience;
mod retry;
mod sessions;
mod simulator;
mod token;
mod token_answers;
mod traces;
mod transfer;
