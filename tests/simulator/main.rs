//! What the simulator promises to those who talk to it: in process on a paused clock, or over real sockets.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod faults;
mod limits;
mod logins;
mod operations;
mod peer;
mod sockets;
