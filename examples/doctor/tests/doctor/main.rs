//! What the doctor says of files, a file a promise.

mod any_bytes;
mod command;
mod made;
mod recorded;
mod results;
