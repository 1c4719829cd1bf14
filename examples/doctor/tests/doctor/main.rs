//! What the doctor says of files, a file a promise.
#![expect(clippy::expect_used, clippy::panic, reason = "tests")]

mod any_bytes;
mod appended;
mod columns;
mod command;
mod confounded;
mod controllers;
mod counted;
mod extractors;
mod groups;
mod large;
mod made;
mod marks;
mod operations;
mod plans;
mod recorded;
mod results;
mod times;
mod told_apart;
mod uses;
